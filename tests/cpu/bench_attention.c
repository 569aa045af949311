/* bench_attention.c - attention kernels in GFLOP/s (4 multiply-adds per pair of query and key a head sees and
 * feature) on 1 and 2 threads. Usage: bench_attention [target [precision [heads kv d queries keys causal]]].
 * Not a test: nothing passes or fails. */
#include "tests/cpu/harness.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct work {
  cpu_built *b;
  uint32_t thread, nthreads;
  pthread_barrier_t *gate;
  int reps;
  double seconds;
} work;

static void *worker(void *ctx) {
  work *w = ctx;
  pthread_barrier_wait(w->gate);
  for (int i = 0; i < w->reps; i++) {
    double t = tn_now();
    cpu_run(w->b, w->thread, w->nthreads);
    t = tn_now() - t;
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
  double worst = 0;
  pthread_barrier_init(&gate, NULL, n);
  for (uint32_t i = 0; i < n; i++) {
    w[i] = (work){b, i, n, &gate, reps, 0};
    pthread_create(&t[i], NULL, worker, &w[i]);
  }
  for (uint32_t i = 0; i < n; i++) {
    pthread_join(t[i], NULL);
    if (w[i].seconds > worst) worst = w[i].seconds;
  }
  pthread_barrier_destroy(&gate);
  return worst;
}

static void measure(const char *target, const char *precision, const int *s) {
  char queries[16] = "S";
  if (s[3] == 1) snprintf(queries, sizeof queries, "1");
  const char *causal = s[5] ? ", causal" : "";
  tn_case c = {
      .text = kernel_text("module @m { dims B, S, T\n func @f(%%q: f32[B, %s, %d, %d], %%k: f32[B, T, %d, "
                          "%d], %%v: f32[B, T, %d, %d]) -> f32[B, %s, %d, %d] {\n"
                          " %%r = attention %%q, %%k, %%v {scale = 0x1p-3%s}\n return %%r } }",
                          queries, s[0], s[2], s[1], s[2], s[1], s[2], queries, s[0], s[2], causal),
      .dims = {{"B", 1}, {"S", s[3]}, {"T", s[4]}},
      .precision = precision};
  cpu_built *b = cpu_build(&c, target);
  double seen = s[5] ? (double)s[3] * (s[4] - (s[3] - 1) / 2.0) : (double)s[3] * s[4];
  double flops = 4 * seen * s[0] * s[2], t1 = best(b, 1, 4), t2 = best(b, 2, 4);
  printf("%2d/%-2d x %-3d %5d x %-5d%s %9.3f ms %5.0f %9.3f ms %5.0f GFLOP/s\n", s[0], s[1], s[2], s[3], s[4],
         s[5] ? " causal" : "       ", t1 * 1e3, flops / t1 * 1e-9, t2 * 1e3, flops / t2 * 1e-9);
  fflush(stdout);
  cpu_free(b);
}

int main(int argc, char **argv) {
  int shapes[][6] = {{32, 32, 64, 512, 512, 0},  {32, 32, 64, 512, 512, 1}, {32, 32, 128, 512, 512, 0},
                     {32, 8, 128, 512, 2048, 1}, {12, 12, 64, 128, 128, 0}, {9, 3, 64, 1, 512, 1},
                     {32, 4, 64, 1, 512, 1},     {32, 8, 128, 1, 8192, 1}};
  size_t n = TN_COUNT(shapes);
  for (int i = 0; i < 6 && argc > 8; i++) shapes[0][i] = atoi(argv[3 + i]);
  if (argc > 8) n = 1;
  for (size_t i = 0; i < n; i++)
    measure(argc > 1 ? argv[1] : "avx512", argc > 2 ? argv[2] : "strict", shapes[i]);
}
