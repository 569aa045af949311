/* bench_matmul.c - GFLOP/s of matmul kernels with packed weights beside OpenBLAS and oneDNN (where they are
 * installed), and beside the processor's own peaks, everything in turns within one run: the machine may be
 * shared. Medians of the rounds; the ratio is to the best peer of the same precision.
 * Usage: bench_matmul [-t THREADS] [-r ROUNDS] [f32|bf16|q8_0|...] [MxNxK ...]. Not a test. */
#include "tests/cpu/bench_peers.h"
#include "tests/cpu/harness.h"
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define MAX_ROUNDS 201
#define MAX_THREADS 8
#define MAX_RUNNERS 6
#define TURN_SECONDS 4e-3 /* of runs, about */

/* ---- peaks: 16 independent chains in registers ---- */
#define EACH(op)                                                                                             \
  op(0) op(1) op(2) op(3) op(4) op(5) op(6) op(7) op(8) op(9) op(10) op(11) op(12) op(13) op(14) op(15)
#define CLOBBERS                                                                                             \
  "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", \
      "xmm13", "xmm14", "xmm15", "memory"
#define FMA(n) "vfmadd231ps %%zmm30, %%zmm31, %%zmm" #n "\n\t"
#define DOT(n) "vdpbf16ps %%zmm30, %%zmm31, %%zmm" #n "\n\t"
#define PEAK_STEPS 4000
__attribute__((target("avx512f,avx512bf16"), noinline)) static void peak_steps(bool bf16) {
  __asm__ volatile("vpxord %%zmm30, %%zmm30, %%zmm30\n\tvpxord %%zmm31, %%zmm31, %%zmm31" :::);
  for (int n = 0; n < PEAK_STEPS; n++)
    if (bf16)
      __asm__ volatile(EACH(DOT)::: CLOBBERS);
    else
      __asm__ volatile(EACH(FMA)::: CLOBBERS);
}

/* ---- what takes turns ---- */
typedef struct runner {
  const char *name;
  double flop; /* of one run, of all threads */
  cpu_built *ours;
  const peer *peer;
  peer_product *product;
  bool peak_bf16;
  double seconds[MAX_ROUNDS];
} runner;

typedef struct team {
  uint32_t threads;
  int rounds;
  runner *runners;
  size_t count;
  pthread_barrier_t gate;
  _Atomic uint32_t arrived;
  double took[MAX_THREADS];
} team;
typedef struct member {
  team *team;
  uint32_t thread;
} member;

static double once(runner *r, uint32_t thread, team *t) {
  if (r->peer) { /* it has threads of its own */
    if (thread) return 0;
    double start = tn_now();
    r->peer->run(r->product);
    return tn_now() - start;
  }
  atomic_fetch_add(&t->arrived, 1);
  while (atomic_load(&t->arrived) % t->threads) continue;
  double start = tn_now();
  if (r->ours)
    cpu_run(r->ours, thread, t->threads);
  else
    peak_steps(r->peak_bf16);
  return tn_now() - start;
}

/* The best of a few milliseconds of runs, so that everybody's threads are awake; before it a pause, so that
 * the other's have gone to sleep. */
static void turn(runner *r, member *w, int round) {
  team *t = w->team;
  double best = INFINITY, runs = TURN_SECONDS * 2e11 * t->threads / r->flop;
  if (!w->thread) usleep(300);
  for (int i = 0; i < 3 || (i < runs && i < 200); i++) {
    pthread_barrier_wait(&t->gate);
    t->took[w->thread] = once(r, w->thread, t);
    pthread_barrier_wait(&t->gate);
    double most = 0;
    for (uint32_t n = 0; n < t->threads; n++) most = fmax(most, t->took[n]);
    best = fmin(best, most);
  }
  if (!w->thread && round >= 0) r->seconds[round] = best;
}
static void *take_turns(void *ctx) {
  member *w = ctx;
  for (int round = -1; round < w->team->rounds; round++)
    for (size_t i = 0; i < w->team->count; i++) turn(&w->team->runners[i], w, round);
  return NULL;
}

static int by_size(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return x < y ? -1 : x > y;
}
static void run_all(runner *runners, size_t count, uint32_t threads, int rounds) {
  pthread_t id[MAX_THREADS];
  member w[MAX_THREADS];
  team t = {.threads = threads, .rounds = rounds, .runners = runners, .count = count};
  pthread_barrier_init(&t.gate, NULL, threads);
  for (uint32_t i = 0; i < threads; i++) {
    w[i] = (member){&t, i};
    pthread_create(&id[i], NULL, take_turns, &w[i]);
  }
  for (uint32_t i = 0; i < threads; i++) pthread_join(id[i], NULL);
  pthread_barrier_destroy(&t.gate);
  for (size_t i = 0; i < count; i++) qsort(runners[i].seconds, (size_t)rounds, sizeof(double), by_size);
}
static double rate(const runner *r, int rounds) { return r->flop / r->seconds[rounds / 2] * 1e-9; }

/* ---- one shape ---- */
typedef struct settings {
  uint32_t threads;
  int rounds;
  const char *type;
} settings;

/* The kernel, as the compiler makes it for this machine: at strict if the weight is f32. */
static cpu_built *kernel(const settings *s, const char *target, bool fast, int m, int n, int k) {
  tn_case c = {
      .text = kernel_text("module @m { dims M\n weight @w : %s[%d, %d]\n func @f(%%x: f32[M, %d]) -> f32[M, "
                          "%d] { %%r = matmul %%x, @w {trans_b}\n return %%r } }",
                          s->type, n, k, k, n),
      .dims = {{"M", m}},
      .precision = fast ? "fast" : NULL};
  return cpu_build(&c, target);
}

static void bench(const settings *s, int m, int n, int k) {
  runner r[MAX_RUNNERS] = {0};
  size_t count = 0;
  bool fast = strcmp(s->type, "f32") != 0;
  float *a = malloc((size_t)m * (size_t)k * 4), *w = malloc((size_t)n * (size_t)k * 4);
  for (size_t i = 0; i < (size_t)m * (size_t)k; i++) a[i] = (float)(i % 31) - 15;
  for (size_t i = 0; i < (size_t)n * (size_t)k; i++) w[i] = (float)(i % 29) - 14;
  double flop = 2.0 * m * n * k;
  r[count++] =
      (runner){.name = "peak", .flop = 16.0 * (fast ? 64 : 32) * PEAK_STEPS * s->threads, .peak_bf16 = fast};
  r[count++] = (runner){
      .name = "ours", .flop = flop, .ours = kernel(s, fast ? "avx512bf16" : "avx512", fast, m, n, k)};
  for (const peer *p = peers; p->name; p++) {
    peer_product *product = p->bf16 == fast ? p->prepare(m, n, k, a, w, (int)s->threads) : NULL;
    if (product) r[count++] = (runner){.name = p->name, .flop = flop, .peer = p, .product = product};
  }
  run_all(r, count, s->threads, s->rounds);
  double peak = rate(&r[0], s->rounds), ours = rate(&r[1], s->rounds), best = 0;
  printf("%5d x%6d x%6d %7u %9.0f %9.0f %4.0f%%", m, n, k, s->threads, peak, ours, 100 * ours / peak);
  for (size_t i = 2; i < count; i++) {
    double g = rate(&r[i], s->rounds);
    printf("  %s %.0f", r[i].name, g);
    best = fmax(best, g);
    r[i].peer->end(r[i].product);
  }
  if (best > 0) printf("  ratio %.2f", ours / best);
  printf("\n");
  fflush(stdout);
  cpu_free(r[1].ours);
  free(a);
  free(w);
}

/* MiniLM, BERT-base, ViT-base, a llama of 1.1 billion. */
static const int shapes[][3] = {{1024, 1024, 1024}, {128, 384, 384},   {128, 1536, 384},  {128, 384, 1536},
                                {1024, 384, 384},   {1024, 1536, 384}, {1024, 384, 1536}, {128, 768, 768},
                                {128, 3072, 768},   {128, 768, 3072},  {512, 768, 768},   {512, 3072, 768},
                                {512, 768, 3072},   {197, 768, 768},   {197, 3072, 768},  {197, 768, 3072},
                                {512, 2048, 2048},  {512, 5632, 2048}, {512, 2048, 5632}};

int main(int argc, char **argv) {
  settings s = {0, 21, "f32"};
  int given[64][3];
  size_t ngiven = 0;
  for (int i = 1; i < argc; i++) {
    int *g = given[ngiven % 64];
    if (!strcmp(argv[i], "-t") && i + 1 < argc)
      s.threads = (uint32_t)atoi(argv[++i]);
    else if (!strcmp(argv[i], "-r") && i + 1 < argc)
      s.rounds = atoi(argv[++i]);
    else if (sscanf(argv[i], "%dx%dx%d", &g[0], &g[1], &g[2]) == 3)
      ngiven++;
    else
      s.type = argv[i];
  }
  if (s.rounds < 1 || s.rounds > MAX_ROUNDS || s.threads > MAX_THREADS || ngiven > 64) return 2;
  setenv("GOMP_SPINCOUNT", "20000", 0); /* a peer's waiting threads would take the next one's time */
  setenv("OPENBLAS_THREAD_TIMEOUT", "17", 0);
  printf("%-21s %7s %9s %9s %5s\n", "m x n x k", "threads", "peak", "ours", "");
  for (uint32_t t = s.threads ? s.threads : 1; t <= (s.threads ? s.threads : 2); t++)
    for (size_t i = 0; i < (ngiven ? ngiven : TN_COUNT(shapes)); i++) {
      const int *shape = ngiven ? given[i] : shapes[i];
      settings now = s;
      now.threads = t;
      bench(&now, shape[0], shape[1], shape[2]);
    }
  return 0;
}
