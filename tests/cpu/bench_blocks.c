/* bench_blocks.c - products with packed block weights: GB/s of weights for few rows (1 and 2 threads),
 * GFLOP/s for many. Usage: bench_blocks FORMAT [TARGET [PRECISION]]. Not a test. */
#include "ir/quant/quant.h"
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
  double *seconds;
} work;

/* Time this thread has had, so that other work on the machine counts less. */
static double had(void) {
  struct timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}
static void *worker(void *ctx) {
  work *w = ctx;
  for (int i = 0; i < w->reps; i++) {
    pthread_barrier_wait(w->gate);
    double t = had();
    cpu_run(w->b, w->thread, w->nthreads);
    if (!w->thread) w->seconds[i] = had() - t;
    pthread_barrier_wait(w->gate);
  }
  return NULL;
}
/* The best time of `reps`. */
static double best(cpu_built *b, uint32_t n, int reps) {
  pthread_t t[8];
  work w[8];
  double seconds[64];
  pthread_barrier_t gate;
  pthread_barrier_init(&gate, NULL, n);
  for (uint32_t i = 0; i < n; i++) {
    w[i] = (work){b, i, n, &gate, reps, seconds};
    pthread_create(&t[i], NULL, worker, &w[i]);
  }
  for (uint32_t i = 0; i < n; i++) pthread_join(t[i], NULL);
  pthread_barrier_destroy(&gate);
  double least = seconds[0];
  for (int i = 1; i < reps; i++)
    if (seconds[i] < least) least = seconds[i];
  return least;
}

static void bench(const char *format, const char *target, const char *precision, int m, int n, int k) {
  const tn_dtype_info *info = NULL;
  for (tn_dtype d = 1; d < TN_DT_BLOCK + tn_quant_count(); d++)
    if (tn_ir_dtype_info(d) && !strcmp(tn_ir_dtype_info(d)->name, format)) info = tn_ir_dtype_info(d);
  if (!info) return;
  tn_case c = {.text =
                   kernel_text("module @m { dims M\n weight @w : %s[%d, %d]\n func @f(%%x: f32[M, %d]) -> "
                               "f32[M, %d] { %%r = matmul %%x, @w {trans_b}\n return %%r } }",
                               format, n, k, k, n),
               .dims = {{"M", m}},
               .precision = precision};
  cpu_built *b = cpu_build(&c, target);
  bool block = info->cls == TN_CLASS_BLOCK;
  double bytes = (double)n * k * (block ? (double)info->block_bytes / info->block_values : info->bits / 8.0);
  int reps = m > 16 ? 8 : 60;
  double t1 = best(b, 1, reps), t2 = best(b, 2, reps), flop = 2.0 * m * n * k;
  printf("%-8s %4d x %5d x %5d  %6.1f MB  %7.1f / %7.1f GB/s  %7.1f / %7.1f GFLOP/s\n", format, m, n, k,
         bytes * 1e-6, bytes / t1 * 1e-9, bytes / t2 * 1e-9, flop / t1 * 1e-9, flop / t2 * 1e-9);
  cpu_free(b);
}

int main(int argc, char **argv) {
  if (argc < 2) return fprintf(stderr, "usage: %s FORMAT [TARGET [PRECISION]]\n", argv[0]), 2;
  const char *target = argc > 2 ? argv[2] : "avx512", *precision = argc > 3 ? argv[3] : NULL;
  static const int shapes[][3] = {{1, 32000, 2048}, {1, 2048, 5632},   {1, 768, 768},
                                  {2, 32000, 2048}, {4, 32000, 2048},  {8, 8192, 2048},
                                  {64, 2048, 2048}, {512, 2048, 2048}, {128, 2048, 5632}};
  for (size_t i = 0; i < TN_COUNT(shapes); i++)
    bench(argv[1], target, precision, shapes[i][0], shapes[i][1], shapes[i][2]);
  return 0;
}
