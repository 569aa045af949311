/* machine.c - measures the machine's limits. Other work may share the machine, so each limit is many short
 * runs, taken in turns: the best is what the machine can do, the median tells how quiet it was. */
#include "tools/profile/machine.h"
#include "backends/runtime/pool.h"
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { RUNS = 16 };
#define LEAST_BUFFER (256ull << 20)
#define MOST_BUFFER (1ull << 30)
#define WINDOW (64ull << 20) /* bytes read in a run, all threads together */
#define ROUNDS 400000ull     /* of products in a run: one to three milliseconds */

static const struct {
  const char *name, *unit;
} kinds[TN_LIMITS] = {[TN_LIMIT_READ] = {"read", "GB/s"},
                      [TN_LIMIT_F32] = {"f32", "GFLOP/s"},
                      [TN_LIMIT_BF16] = {"bf16", "GFLOP/s"},
                      [TN_LIMIT_INT8] = {"int8", "GOP/s"}};

const char *tn_limit_name(tn_limit_kind kind) { return kinds[kind].name; }

typedef struct job {
  tn_pool *pool;
  const char *window; /* each thread reads its part of it */
  uint64_t part;
  tn_machine_loop loop; /* run NULL: read, as so many streams */
  uint32_t streams;
  atomic_uint ready;
  double begin[TN_MACHINE_THREADS], end[TN_MACHINE_THREADS];
  uint64_t sink[TN_MACHINE_THREADS]; /* so that no result is unused */
} job;

static void work(void *arg, uint32_t thread, uint32_t nthreads) {
  job *j = arg;
  atomic_fetch_add(&j->ready, 1);
  while (atomic_load(&j->ready) < nthreads) sched_yield(); /* all begin together */
  j->begin[thread] = tn_now();
  j->sink[thread] +=
      j->loop.run ? j->loop.run(ROUNDS) : tn_machine_read(j->window + thread * j->part, j->part, j->streams);
  j->end[thread] = tn_now();
}

/* Seconds from the first thread's begin to the last one's end. */
static double run_once(job *j, uint32_t nthreads) {
  atomic_store(&j->ready, 0);
  tn_pool_run(j->pool, nthreads, work, j, 1);
  double begin = j->begin[0], end = j->end[0];
  for (uint32_t t = 1; t < nthreads; t++) {
    if (j->begin[t] < begin) begin = j->begin[t];
    if (j->end[t] > end) end = j->end[t];
  }
  return end - begin;
}

/* Of the last level, as far as this machine may use it; sysconf may name what a host shares among many. */
static uint64_t cache_bytes(void) {
  unsigned long long k = 0;
  FILE *f = fopen("/sys/devices/system/cpu/cpu0/cache/index3/size", "r");
  bool known = f && fscanf(f, "%lluK", &k) == 1;
  if (f) fclose(f);
  long all = sysconf(_SC_LEVEL3_CACHE_SIZE);
  return known ? k << 10 : all > 0 ? (uint64_t)all : 0;
}

/* Six times the last level of cache, within limits and a quarter of the memory; whole windows. */
static uint64_t buffer_bytes(void) {
  long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
  uint64_t bytes = 6 * cache_bytes();
  uint64_t most = pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page / 4 : LEAST_BUFFER;
  if (bytes < LEAST_BUFFER) bytes = LEAST_BUFFER;
  if (most > MOST_BUFFER) most = MOST_BUFFER;
  if (bytes > most) bytes = most;
  return bytes < WINDOW ? WINDOW : bytes / WINDOW * WINDOW;
}

static int compare_double(const void *x, const void *y) {
  double a = *(const double *)x, b = *(const double *)y;
  return (a > b) - (a < b);
}

/* What is measured: loops of products, and reading as different numbers of streams, of which the best counts:
 * processors differ in what they like. */
typedef struct variant {
  tn_limit_kind kind;
  tn_machine_loop loop;
  uint32_t streams;
  double seconds[RUNS];
} variant;
enum { VARIANTS = 3 + TN_LIMITS - 1 };

static void list_variants(variant *v) {
  static const char *const with[] = {"1 stream per thread, prefetched", "2 streams per thread, prefetched",
                                     "4 streams per thread, prefetched"};
  for (uint32_t i = 0; i < 3; i++)
    v[i] = (variant){.kind = TN_LIMIT_READ, .loop = {.with = with[i]}, .streams = 1u << i};
  for (int k = 1; k < TN_LIMITS; k++)
    v[2 + k] = (variant){.kind = (tn_limit_kind)k, .loop = tn_machine_loop_of((tn_limit_kind)k)};
}

static void take(tn_machine *m, variant *v, double amount) {
  tn_limit *l = &m->limits[v->kind];
  qsort(v->seconds, RUNS, sizeof *v->seconds, compare_double);
  if (amount / v->seconds[0] <= l->best) return;
  *l = (tn_limit){amount / v->seconds[0], amount / v->seconds[RUNS / 2], v->loop.with};
}

/* Every run reads the next window of the buffer: when it comes round, the caches have forgotten. */
static void measure(job *j, tn_machine *m, const char *buffer) {
  variant v[VARIANTS];
  uint64_t window = 0;
  list_variants(v);
  for (int r = -1; r < RUNS; r++) /* one run first that does not count */
    for (int i = 0; i < VARIANTS; i++) {
      if (!v[i].streams && !v[i].loop.run) continue;
      j->loop = v[i].loop;
      j->streams = v[i].streams;
      j->window = buffer + window;
      if (v[i].streams) window = (window + WINDOW) % m->buffer;
      double t = run_once(j, m->threads);
      if (r >= 0) v[i].seconds[r] = t;
    }
  for (int i = 0; i < VARIANTS; i++) {
    bool arithmetic = v[i].loop.run != NULL;
    double each = arithmetic ? v[i].loop.per_round * (double)ROUNDS : (double)j->part;
    if (arithmetic || v[i].streams)
      take(m, &v[i], each * m->threads);
    else
      m->limits[v[i].kind].with = v[i].loop.with;
  }
}

tn_status tn_machine_measure(uint32_t threads, tn_machine *out, tn_diags *d) {
  double begin = tn_now();
  uint32_t n = threads ? threads : tn_pool_cores();
  *out = (tn_machine){.threads = n < TN_MACHINE_THREADS ? n : TN_MACHINE_THREADS, .runs = RUNS};
  out->buffer = buffer_bytes();
  job *j = tn_mem_alloc(sizeof *j);
  if (!j) return TN_OOM;
  void *p = mmap(NULL, out->buffer, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  tn_status s = p == MAP_FAILED ? TN_OOM : tn_pool_new(out->threads, NULL, 0, &j->pool);
  if (s == TN_OK) {
    madvise(p, out->buffer, MADV_HUGEPAGE);
    memset(p, 1, out->buffer); /* pages that were never written are all one page of zeros */
    j->part = WINDOW / out->threads / TN_MACHINE_READ_UNIT * TN_MACHINE_READ_UNIT;
    measure(j, out, p);
    out->seconds = tn_now() - begin;
  } else {
    tn_fail(d, s, NULL, NULL, "the machine's limits cannot be measured with %u threads and %llu bytes",
            out->threads, (unsigned long long)out->buffer);
  }
  tn_pool_free(j->pool);
  if (p != MAP_FAILED) munmap(p, out->buffer);
  tn_mem_free(j);
  return s;
}

void tn_machine_print(const tn_machine *m, tn_buf *out) {
  tn_buf_printf(out, "limits with %u thread%s, best and median of %u runs:\n", m->threads,
                m->threads == 1 ? "" : "s", m->runs);
  for (int k = 0; k < TN_LIMITS; k++) {
    const tn_limit *l = &m->limits[k];
    if (l->best > 0)
      tn_buf_printf(out, "  %-5s %10.1f %10.1f %-8s %s\n", kinds[k].name, l->best / 1e9, l->median / 1e9,
                    kinds[k].unit, l->with);
    else
      tn_buf_printf(out, "  %-5s %10s %10s %-8s %s\n", kinds[k].name, "-", "-", kinds[k].unit, l->with);
  }
}

void tn_machine_json(const tn_machine *m, tn_buf *out) {
  tn_buf_printf(out, "{\"threads\": %u, \"runs\": %u, \"buffer_bytes\": %llu, \"seconds\": %.3f", m->threads,
                m->runs, (unsigned long long)m->buffer, m->seconds);
  for (int k = 0; k < TN_LIMITS; k++)
    tn_buf_printf(out, ", \"%s\": {\"best\": %.6g, \"median\": %.6g, \"unit\": \"%s\", \"with\": \"%s\"}",
                  kinds[k].name, m->limits[k].best, m->limits[k].median, k ? "op/s" : "byte/s",
                  m->limits[k].with);
  tn_buf_puts(out, "}");
}
