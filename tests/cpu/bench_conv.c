/* bench_conv.c - milliseconds of convolutions and pools on 1 and 2 threads, of layers as vision and audio
 * models have them; time of the processor, so that other work on the machine counts little. Usage: bench_conv
 * [target [first layer]]. Not a test: nothing passes or fails. */
#include "tests/cpu/harness.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

typedef struct work {
  cpu_built *b;
  uint32_t thread, nthreads;
  pthread_barrier_t *gate;
  int reps;
  double seconds;
} work;

static double spent(void) {
  struct timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *worker(void *ctx) {
  work *w = ctx;
  pthread_barrier_wait(w->gate);
  for (int i = 0; i < w->reps; i++) {
    double t = spent();
    cpu_run(w->b, w->thread, w->nthreads);
    t = spent() - t;
    if (!i || t < w->seconds) w->seconds = t;
    pthread_barrier_wait(w->gate);
  }
  return NULL;
}
/* The best time of `reps`, the slower thread counting. */
static double best(cpu_built *b, uint32_t n, int reps) {
  pthread_t t[8];
  work w[8];
  pthread_barrier_t gate;
  pthread_barrier_init(&gate, NULL, n);
  for (uint32_t i = 0; i < n; i++) {
    w[i] = (work){b, i, n, &gate, reps, 0};
    pthread_create(&t[i], NULL, worker, &w[i]);
  }
  double worst = 0;
  for (uint32_t i = 0; i < n; i++) {
    pthread_join(t[i], NULL);
    if (w[i].seconds > worst) worst = w[i].seconds;
  }
  pthread_barrier_destroy(&gate);
  return worst;
}

static const struct layer {
  const char *name, *op, *x, *w, *attrs, *out;
  double gflop;
} layers[] = {
    {"3x3 64-64 56", "conv", "1, 64, 56, 56", "64, 64, 3, 3", "low = [1, 1], high = [1, 1]", "1, 64, 56, 56",
     0.2312},
    {"3x3 256-256 14", "conv", "1, 256, 14, 14", "256, 256, 3, 3", "low = [1, 1], high = [1, 1]",
     "1, 256, 14, 14", 0.2312},
    {"3x3 512-512 7", "conv", "1, 512, 7, 7", "512, 512, 3, 3", "low = [1, 1], high = [1, 1]", "1, 512, 7, 7",
     0.2312},
    {"3x3 128-128 56 s2", "conv", "1, 128, 56, 56", "128, 128, 3, 3",
     "strides = [2, 2], low = [1, 1], high = [1, 1]", "1, 128, 28, 28", 0.2312},
    {"1x1 64-256 56", "conv", "1, 64, 56, 56", "256, 64, 1, 1", "", "1, 256, 56, 56", 0.1028},
    {"1x1 1024-256 14", "conv", "1, 1024, 14, 14", "256, 1024, 1, 1", "", "1, 256, 14, 14", 0.1028},
    {"1x1 256-512 56 s2", "conv", "1, 256, 56, 56", "512, 256, 1, 1", "strides = [2, 2]", "1, 512, 28, 28",
     0.2055},
    {"7x7 3-64 224 s2", "conv", "1, 3, 224, 224", "64, 3, 7, 7",
     "strides = [2, 2], low = [3, 3], high = [3, 3]", "1, 64, 112, 112", 0.2360},
    {"dw 3x3 144 56", "conv", "1, 144, 56, 56", "144, 1, 3, 3", "groups = 144, low = [1, 1], high = [1, 1]",
     "1, 144, 56, 56", 0.00813},
    {"dw 3x3 96 112 s2", "conv", "1, 96, 112, 112", "96, 1, 3, 3",
     "groups = 96, strides = [2, 2], low = [1, 1], high = [1, 1]", "1, 96, 56, 56", 0.00542},
    {"dw 5x5 672 14", "conv", "1, 672, 14, 14", "672, 1, 5, 5", "groups = 672, low = [2, 2], high = [2, 2]",
     "1, 672, 14, 14", 0.00659},
    {"1d k3 80-384 3000", "conv", "1, 80, 3000", "384, 80, 3", "low = [1], high = [1]", "1, 384, 3000",
     0.5530},
    {"1d k3 384 3000 s2", "conv", "1, 384, 3000", "384, 384, 3", "strides = [2], low = [1], high = [1]",
     "1, 384, 1500", 1.3271},
    {"1d k10 s5 1-512", "conv", "1, 1, 16000", "512, 1, 10", "strides = [5]", "1, 512, 3199", 0.0328},
    {"16x16 s16 3-768 224", "conv", "1, 3, 224, 224", "768, 3, 16, 16", "strides = [16, 16]",
     "1, 768, 14, 14", 0.2312},
    {"grouped 3x3 128/32 56", "conv", "1, 128, 56, 56", "128, 4, 3, 3",
     "groups = 32, low = [1, 1], high = [1, 1]", "1, 128, 56, 56", 0.0289},
    {"T 2x2 s2 256-128 28", "conv_transpose", "1, 256, 28, 28", "256, 128, 2, 2", "strides = [2, 2]",
     "1, 128, 56, 56", 0.2055},
    {"T 1d k16 s8 256-128", "conv_transpose", "1, 256, 200", "256, 128, 16",
     "strides = [8], low = [4], high = [4]", "1, 128, 1600", 0.2097},
    {"maxpool 3x3 s2 64 112", "pool", "1, 64, 112, 112", "",
     "size = [3, 3], strides = [2, 2], low = [1, 1], high = [1, 1]", "1, 64, 56, 56", 0.0018},
    {"avgpool 3x3 256 28", "pool", "1, 256, 28, 28", "",
     "size = [3, 3], kind = \"mean\", low = [1, 1], high = [1, 1]", "1, 256, 28, 28", 0.0018},
};

int main(int argc, char **argv) {
  const char *target = argc > 1 ? argv[1] : "avx512";
  printf("%-22s %9s %9s %9s\n", "layer", "ms, 1", "ms, 2", "GFLOP/s");
  for (size_t i = argc > 2 ? (size_t)atoi(argv[2]) : 0; i < TN_COUNT(layers); i++) {
    const struct layer *l = &layers[i];
    const char *weight = *l->w ? kernel_text("weight @w : f32[%s]\n", l->w) : "";
    tn_case c = {.text = kernel_text(
                     "module @m { %s func @f(%%x: f32[%s]) -> f32[%s] { %%r = %s %%x%s {%s}\n return %%r } }",
                     weight, l->x, l->out, l->op, *l->w ? ", @w" : "", l->attrs)};
    cpu_built *b = cpu_build(&c, target);
    double one = best(b, 1, 15), two = best(b, 2, 15);
    printf("%-22s %9.3f %9.3f %9.0f\n", l->name, one * 1e3, two * 1e3, l->gflop / one);
    cpu_free(b);
  }
  return 0;
}
