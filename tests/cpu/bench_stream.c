/* bench_stream.c - products of one row with weights much larger than the caches: GB/s on 1 and 2 threads, and
 * as a part of what a plain loop reads in the same minute; the two take turns, the best of each counts.
 * Usage: bench_stream [TARGET [PRECISION [FORMAT ...]]]. Not a test: nothing passes or fails. */
#include "ir/quant/quant.h"
#include "tests/cpu/harness.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#define READ_BYTES (128u << 20)
#define WEIGHT_BYTES 72e6 /* read in a time slice of the scheduler, on a machine that has other work */
#define STREAMS 2

typedef struct job {
  cpu_built *b; /* NULL: the loop */
  const char *memory;
  uint32_t thread, nthreads;
  pthread_barrier_t *gate;
  int reps;
  double *begin, *end;
} job;

/* Reads `bytes` at p as STREAMS streams, a page of each in turn ahead. */
__attribute__((target("avx512f"), noinline)) static void read_all(const char *p, size_t bytes) {
  size_t part = bytes / STREAMS / 256 * 256;
  for (size_t i = 0; i < part; i += 256)
    for (size_t s = 0; s < STREAMS; s++) {
      const char *at = p + s * part + i;
      for (int l = 0; l < 4; l++) __builtin_prefetch(at + 4096 + 64 * l);
      __asm__ volatile(
          "vmovdqu64 (%0), %%zmm0\n\tvporq 64(%0), %%zmm0, %%zmm0\n\tvporq 128(%0), %%zmm0, %%zmm0\n\t"
          "vporq 192(%0), %%zmm0, %%zmm0" ::"r"(at)
          : "xmm0");
    }
}

static void *worker(void *ctx) {
  job *j = ctx;
  size_t part = READ_BYTES / j->nthreads;
  for (int i = 0; i < j->reps; i++) {
    pthread_barrier_wait(j->gate);
    j->begin[i] = tn_now();
    if (j->b)
      cpu_run(j->b, j->thread, j->nthreads);
    else
      read_all(j->memory + j->thread * part, part);
    j->end[i] = tn_now();
    pthread_barrier_wait(j->gate);
  }
  return NULL;
}
/* The best time from the first thread's start to the last one's end. */
static double best(cpu_built *b, const char *memory, uint32_t n, int reps) {
  pthread_t t[2];
  job j[2];
  double at[4][64], least = 1e9;
  pthread_barrier_t gate;
  pthread_barrier_init(&gate, NULL, n);
  for (uint32_t i = 0; i < n; i++) {
    j[i] = (job){b, memory, i, n, &gate, reps, at[i], at[2 + i]};
    pthread_create(&t[i], NULL, worker, &j[i]);
  }
  for (uint32_t i = 0; i < n; i++) pthread_join(t[i], NULL);
  pthread_barrier_destroy(&gate);
  for (int i = 0; i < reps; i++) {
    double from = at[0][i], to = at[2][i];
    if (n > 1 && at[1][i] < from) from = at[1][i];
    if (n > 1 && at[3][i] > to) to = at[3][i];
    if (to - from < least) least = to - from;
  }
  return least;
}

static void bench(const char *format, const char *target, const char *precision, int k, const char *memory) {
  const tn_dtype_info *info = NULL;
  for (tn_dtype d = 1; d < TN_DT_BLOCK + tn_quant_count(); d++)
    if (tn_ir_dtype_info(d) && !strcmp(tn_ir_dtype_info(d)->name, format)) info = tn_ir_dtype_info(d);
  if (!info) return;
  bool block = info->cls == TN_CLASS_BLOCK;
  double row = k * (block ? (double)info->block_bytes / info->block_values : info->bits / 8.0);
  int n = (int)(WEIGHT_BYTES / row) / 64 * 64;
  tn_case c = {.text = kernel_text("module @m { weight @w : %s[%d, %d]\n func @f(%%x: f32[1, %d]) -> "
                                   "f32[1, %d] { %%r = matmul %%x, @w {trans_b}\n return %%r } }",
                                   format, n, k, k, n),
               .precision = precision};
  cpu_built *b = cpu_build(&c, target);
  double bytes = n * row;
  printf("%-8s 1 x %5d x %5d  %6.1f MB ", format, n, k, bytes * 1e-6);
  for (uint32_t threads = 1; threads <= 2; threads++) {
    double ours = 1e9, loop = 1e9;
    for (int turn = 0; turn < 6; turn++) {
      double t = best(b, memory, threads, 12), l = best(NULL, memory, threads, 6);
      if (t < ours) ours = t;
      if (l < loop) loop = l;
    }
    double rate = bytes / ours * 1e-9, bound = READ_BYTES / loop * 1e-9;
    printf("  %6.1f of %5.1f GB/s = %3.0f %%", rate, bound, 100 * rate / bound);
  }
  printf("\n");
  fflush(stdout);
  cpu_free(b);
}

int main(int argc, char **argv) {
  static const char *const usual[] = {"f32", "bf16", "q8_0", "q4_0", "q4_k", "q6_k"};
  const char *target = argc > 1 ? argv[1] : "avx512", *precision = argc > 2 ? argv[2] : NULL;
  char *memory = mmap(NULL, READ_BYTES + 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return 1;
  memset(memory, 1, READ_BYTES + 8192);
  for (int i = 3; i < argc || (argc <= 3 && i < 3 + (int)TN_COUNT(usual)); i++) {
    const char *format = argc > 3 ? argv[i] : usual[i - 3];
    bench(format, target, precision, 2048, memory);
  }
  return 0;
}
