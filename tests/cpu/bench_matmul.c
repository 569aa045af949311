/* bench_matmul.c - GFLOP/s of matmul kernels on 1 and 2 threads, beside the machine's own peak of fused
 * multiply-adds measured in the same run. Usage: bench_matmul [target [m n k]]. Not a test: nothing passes or
 * fails. */
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

#define FMA(n) "vfmadd231ps %%zmm30, %%zmm31, %%zmm" #n "\n\t"
/* GFLOP/s of 16 independent chains in registers. */
__attribute__((target("avx512f"), noinline)) static double peak_once(void) {
  __asm__ volatile("vpxord %%zmm30, %%zmm30, %%zmm30\n\tvpxord %%zmm31, %%zmm31, %%zmm31" :::);
  double t = tn_now();
  for (int n = 0; n < 200000; n++)
    __asm__ volatile(FMA(0) FMA(1) FMA(2) FMA(3) FMA(4) FMA(5) FMA(6) FMA(7) FMA(8) FMA(9) FMA(10) FMA(11)
                         FMA(12) FMA(13) FMA(14) FMA(15)::
                             : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",
                               "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "memory");
  return 16.0 * 32 * 200000 / (tn_now() - t) * 1e-9;
}

static void *worker(void *ctx) {
  work *w = ctx;
  pthread_barrier_wait(w->gate);
  for (int i = 0; i < w->reps; i++) {
    double t = tn_now();
    if (w->b) {
      cpu_run(w->b, w->thread, w->nthreads);
      t = tn_now() - t;
    } else {
      t = 1 / peak_once();
    }
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

int main(int argc, char **argv) {
  int shapes[][3] = {{128, 384, 384},   {128, 1536, 384}, {128, 384, 1536}, {1024, 1024, 1024},
                     {512, 2048, 2048}, {1, 2048, 2048},  {1, 1536, 384},   {4, 2048, 2048}};
  size_t nshapes = TN_COUNT(shapes);
  for (int i = 0; i < 3 && argc > 4; i++) shapes[0][i] = atoi(argv[2 + i]);
  if (argc > 4) nshapes = 1;
  const char *target = argc > 1 ? argv[1] : "avx512";
  double p1 = 1 / best(NULL, 1, 20), p2 = 2 / best(NULL, 2, 20);
  printf("fma peak (512 bit): %.0f / %.0f GFLOP/s on 1 / 2 threads\n", p1, p2);
  printf("%-18s %10s %6s %10s %6s\n", "m x n x k", "1 thread", "", "2 threads", "");
  for (size_t i = 0; i < nshapes; i++) {
    const int *s = shapes[i];
    cpu_case c = {.text = cpu_text("module @m { dims M\n weight @w : f32[%d, %d]\n func @f(%%x: f32[M, %d]) "
                                   "-> f32[M, %d] { %%r = matmul %%x, @w {trans_b}\n return %%r } }",
                                   s[1], s[2], s[2], s[1]),
                  .dims = {{"M", s[0]}}};
    cpu_built *b = cpu_build(&c, target);
    double flop = 2.0 * s[0] * s[1] * s[2], g1 = flop / best(b, 1, 30) * 1e-9,
           g2 = flop / best(b, 2, 30) * 1e-9;
    printf("%4d x %4d x %4d %10.1f %5.0f%% %10.1f %5.0f%%\n", s[0], s[1], s[2], g1, 100 * g1 / p1, g2,
           100 * g2 / p2);
    cpu_free(b);
  }
  return 0;
}
