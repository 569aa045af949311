/* pool.c - persistent threads. Each has one word of its own that says how far it is; who needs its work reads
 * that word. Waiting is a bounded spin, then a futex: steps last microseconds, so the spin nearly always
 * wins; a thread that sleeps costs the others one system call. */
#include "backends/runtime/pool.h"
#include "backends/runtime/cores.h"
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
  SPINS = 6000,        /* 50 to 200 microseconds of pauses */
  SPINS_CROWDED = 300, /* whoever we wait for may need this core */
  LINE = 128,          /* two cache lines: processors fetch them in pairs */
  STACK_BYTES = 1 << 20
};

/* A word that only goes up, and around. Alone in its cache line: waiting threads read nothing else. */
typedef struct tn_gate {
  atomic_uint value, sleepers;
  char pad[LINE - 2 * sizeof(atomic_uint)];
} tn_gate;

typedef struct tn_worker {
  tn_gate passed; /* the run's base + the last mark */
  tn_gate jobs;   /* one more per job that is given to it, and at the end */
  tn_pool *pool;
  pthread_t handle;
  clockid_t clock; /* its processor time */
  uint32_t index;
} tn_worker;

struct tn_pool {
  tn_pool_job job; /* NULL: time to end */
  void *arg;
  uint32_t base, marks, width; /* of the run: its marks count from base */
  uint32_t nthreads, ncores;
  atomic_uint spins;
  bool crowded;     /* more threads than cores */
  double lost;      /* seconds */
  double wall, cpu; /* of thread 0, when its own losses were counted last; sleep does not count as wall */
  const uint32_t *cores; /* while the threads start */
  tn_cores *before;      /* where the caller might run before; NULL: it still may */
  tn_worker workers[];   /* nthreads; the first is the caller */
};

static inline void pause_cpu(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

static inline bool reached(uint32_t value, uint32_t want) { return (int32_t)(value - want) >= 0; }

static void gate_sleep(tn_gate *g, uint32_t want) {
  /* The opener changes the value before it looks for sleepers, we count ourselves before the kernel compares
   * the value: one of both sees the other. */
  atomic_fetch_add(&g->sleepers, 1);
  for (uint32_t now; !reached(now = atomic_load(&g->value), want);)
    syscall(SYS_futex, &g->value, FUTEX_WAIT_PRIVATE, now, NULL, NULL, 0);
  atomic_fetch_sub(&g->sleepers, 1);
}

/* false: not within the spins. */
static inline bool gate_spin(tn_gate *g, uint32_t want, uint32_t spins) {
  for (uint32_t i = 0; i < spins; i++) {
    if (reached(atomic_load_explicit(&g->value, memory_order_acquire), want)) return true;
    pause_cpu();
  }
  return false;
}

static inline void gate_open(tn_gate *g, uint32_t value) {
  atomic_exchange(&g->value, value);
  if (atomic_load_explicit(&g->sleepers, memory_order_relaxed))
    syscall(SYS_futex, &g->value, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

void tn_pool_pass(tn_pool *p, uint32_t thread, uint32_t mark) {
  gate_open(&p->workers[thread].passed, p->base + mark);
}

static double seconds_of(clockid_t clock) {
  struct timespec t = {0};
  clock_gettime(clock, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* What of a sleep the other thread did not spend working is lost. */
static void sleep_and_measure(tn_pool *p, tn_worker *whom, uint32_t want) {
  double wall = tn_now(), busy = seconds_of(whom->clock);
  gate_sleep(&whom->passed, want);
  wall = tn_now() - wall;
  double lost = wall - (seconds_of(whom->clock) - busy);
  p->wall += wall;
  if (lost > 0) p->lost += lost;
}

static void start_count(tn_pool *p) {
  p->wall = tn_now();
  p->cpu = seconds_of(CLOCK_THREAD_CPUTIME_ID);
}

void tn_pool_count_lost(tn_pool *p) {
  double wall = p->wall, cpu = p->cpu;
  start_count(p);
  double lost = (p->wall - wall) - (p->cpu - cpu);
  if (lost > 0) p->lost += lost;
}

void tn_pool_await(tn_pool *p, uint32_t thread, uint32_t whom, uint32_t mark) {
  tn_worker *w = &p->workers[whom];
  uint32_t want = p->base + mark;
  if (thread == whom || gate_spin(&w->passed, want, atomic_load_explicit(&p->spins, memory_order_relaxed)))
    return;
  if (thread)
    gate_sleep(&w->passed, want);
  else
    sleep_and_measure(p, w, want);
}

void tn_pool_spin(tn_pool *p, bool crowded) {
  atomic_store_explicit(&p->spins, crowded || p->crowded ? SPINS_CROWDED : SPINS, memory_order_relaxed);
}

double tn_pool_lost(const tn_pool *p) { return p->lost; }

static void *worker_main(void *arg) {
  tn_worker *w = arg;
  tn_pool *p = w->pool;
  for (uint32_t seen = 1;; seen++) {
    if (!gate_spin(&w->jobs, seen, atomic_load_explicit(&p->spins, memory_order_relaxed)))
      gate_sleep(&w->jobs, seen);
    if (!p->job) return NULL;
    uint32_t end = p->base + p->marks + 1;
    p->job(p->arg, w->index, p->width);
    gate_open(&w->passed, end);
  }
}

static void call_worker(tn_worker *w) { gate_open(&w->jobs, atomic_load(&w->jobs.value) + 1); }

void tn_pool_run(tn_pool *p, uint32_t width, tn_pool_job job, void *arg, uint32_t marks) {
  p->job = job;
  p->arg = arg;
  p->marks = marks;
  p->width = width;
  start_count(p);
  for (uint32_t i = 1; i < width; i++) call_worker(&p->workers[i]);
  job(arg, 0, width);
  tn_pool_pass(p, 0, marks + 1);
  for (uint32_t i = 1; i < width; i++) tn_pool_await(p, 0, i, marks + 1);
  tn_pool_count_lost(p);
  p->base += marks + 1;
  for (uint32_t i = width; i < p->nthreads; i++) atomic_store(&p->workers[i].passed.value, p->base);
}

/* Ends and joins the workers before the n-th. */
static void join(tn_pool *p, uint32_t n) {
  p->job = NULL;
  for (uint32_t i = 1; i < n; i++) call_worker(&p->workers[i]);
  for (uint32_t i = 1; i < n; i++) pthread_join(p->workers[i].handle, NULL);
}

static tn_status start_one(tn_pool *p, uint32_t i) {
  tn_worker *w = &p->workers[i];
  pthread_attr_t attr;
  if (pthread_attr_init(&attr)) return TN_OOM;
  w->pool = p;
  w->index = i;
  pthread_attr_setstacksize(&attr, STACK_BYTES);
  int error = p->ncores ? tn_cores_pin(&attr, p->cores[i % p->ncores]) : 0;
  if (!error) error = pthread_create(&w->handle, &attr, worker_main, w);
  pthread_attr_destroy(&attr);
  if (!error && pthread_getcpuclockid(w->handle, &w->clock)) w->clock = CLOCK_MONOTONIC;
  return !error ? TN_OK : error == EINVAL ? TN_INVALID : TN_UNAVAILABLE;
}

/* The program's signals are for its own threads; faults belong to the thread that makes them, and to the
 * program's handlers. */
static tn_status start(tn_pool *p) {
  sigset_t all, old;
  static const int faults[] = {SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV};
  sigfillset(&all);
  for (size_t i = 0; i < TN_COUNT(faults); i++) sigdelset(&all, faults[i]);
  pthread_sigmask(SIG_SETMASK, &all, &old);
  tn_status status = TN_OK;
  for (uint32_t i = 1; i < p->nthreads && !status; i++) {
    status = start_one(p, i);
    if (status) join(p, i);
  }
  pthread_sigmask(SIG_SETMASK, &old, NULL);
  return status;
}

tn_status tn_pool_new(uint32_t n, const uint32_t *cores, uint32_t ncores, tn_pool **out) {
  if (!n || n > TN_POOL_MAX_THREADS) return TN_INVALID;
  tn_pool *p = tn_mem_alloc(sizeof *p + n * sizeof(tn_worker));
  if (!p) return TN_OOM;
  p->nthreads = n;
  p->cores = cores;
  p->ncores = ncores;
  uint32_t room = ncores ? ncores : tn_pool_cores();
  p->crowded = n > room;
  tn_pool_spin(p, false);
  tn_status status = ncores ? tn_cores_move(cores[0], &p->before) : TN_OK;
  if (!status && (status = start(p))) tn_cores_back(p->before);
  p->cores = NULL;
  if (status)
    tn_mem_free(p);
  else
    *out = p;
  return status;
}

void tn_pool_free(tn_pool *p) {
  if (!p) return;
  join(p, p->nthreads);
  tn_cores_back(p->before);
  tn_mem_free(p);
}
