/* pool.c - persistent threads that walk a step table together. Waiting is a bounded spin on one word, then a
 * futex: steps last microseconds, so the spin nearly always wins; a thread that sleeps costs the others one
 * system call. */
#include "backends/runtime/pool.h"
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
  SPINS = 6000,       /* 50 to 200 microseconds of pauses */
  SPINS_CROWDED = 50, /* more threads than cores: whoever we wait for needs this core */
  LINE = 64,
  STACK_BYTES = 1 << 20,
  AFFINITY_CORES = 8192
};

/* A word that only changes to let others go on. Its own cache line: waiting threads read nothing else. */
typedef struct tn_gate {
  atomic_uint value, sleepers;
  char pad[LINE - 2 * sizeof(atomic_uint)];
} tn_gate;

typedef struct tn_worker {
  tn_pool *pool;
  uint32_t index;
  pthread_t handle;
} tn_worker;

struct tn_pool {
  tn_gate phase;       /* one more per barrier passed */
  tn_gate jobs;        /* one more per job begun, and at the end */
  atomic_uint arrived; /* threads at the barrier */
  char pad[LINE - sizeof(atomic_uint)];
  tn_pool_job job; /* NULL: time to end */
  void *arg;
  uint32_t nthreads, spins;
  tn_worker workers[]; /* nthreads - 1 */
};

static inline void pause_cpu(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

/* Returns once the gate's value is not `old`. */
static void gate_wait(tn_gate *g, uint32_t old, uint32_t spins) {
  for (uint32_t i = 0; i < spins; i++) {
    if (atomic_load_explicit(&g->value, memory_order_acquire) != old) return;
    pause_cpu();
  }
  /* The opener changes the value before it looks for sleepers, we count ourselves before the kernel compares
   * the value: one of both sees the other. */
  atomic_fetch_add(&g->sleepers, 1);
  while (atomic_load(&g->value) == old) syscall(SYS_futex, &g->value, FUTEX_WAIT_PRIVATE, old, NULL, NULL, 0);
  atomic_fetch_sub(&g->sleepers, 1);
}

static void gate_open(tn_gate *g) {
  atomic_fetch_add(&g->value, 1);
  if (atomic_load(&g->sleepers)) syscall(SYS_futex, &g->value, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

void tn_pool_barrier(tn_pool *p) {
  if (p->nthreads == 1) return;
  uint32_t phase = atomic_load_explicit(&p->phase.value, memory_order_acquire);
  if (atomic_fetch_add(&p->arrived, 1) + 1 < p->nthreads) {
    gate_wait(&p->phase, phase, p->spins);
  } else {
    atomic_store(&p->arrived, 0);
    gate_open(&p->phase);
  }
}

static void *worker_main(void *arg) {
  tn_worker *w = arg;
  tn_pool *p = w->pool;
  for (uint32_t seen = 0;; seen++) {
    gate_wait(&p->jobs, seen, p->spins);
    if (!p->job) return NULL;
    p->job(p->arg, w->index, p->nthreads);
  }
}

void tn_pool_run(tn_pool *p, tn_pool_job job, void *arg) {
  p->job = job;
  p->arg = arg;
  if (p->nthreads > 1) gate_open(&p->jobs);
  job(arg, 0, p->nthreads);
}

/* Ends and joins the first n workers. */
static void join(tn_pool *p, uint32_t n) {
  p->job = NULL;
  gate_open(&p->jobs);
  for (uint32_t i = 0; i < n; i++) pthread_join(p->workers[i].handle, NULL);
}

/* The program's signals are for its own threads. */
static tn_status start(tn_pool *p) {
  pthread_attr_t attr;
  if (pthread_attr_init(&attr)) return TN_OOM;
  pthread_attr_setstacksize(&attr, STACK_BYTES);
  sigset_t all, old;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &old);
  tn_status status = TN_OK;
  for (uint32_t i = 0; i + 1 < p->nthreads && !status; i++) {
    p->workers[i] = (tn_worker){p, i + 1, 0};
    if (!pthread_create(&p->workers[i].handle, &attr, worker_main, &p->workers[i])) continue;
    join(p, i);
    status = TN_UNAVAILABLE;
  }
  pthread_sigmask(SIG_SETMASK, &old, NULL);
  pthread_attr_destroy(&attr);
  return status;
}

tn_status tn_pool_new(uint32_t n, tn_pool **out) {
  if (!n || n > TN_POOL_MAX_THREADS) return TN_INVALID;
  tn_pool *p = tn_mem_alloc(sizeof *p + (n - 1) * sizeof(tn_worker));
  if (!p) return TN_OOM;
  p->nthreads = n;
  p->spins = n > tn_pool_cores() ? SPINS_CROWDED : SPINS;
  tn_status status = start(p);
  if (status)
    tn_mem_free(p);
  else
    *out = p;
  return status;
}

void tn_pool_free(tn_pool *p) {
  if (!p) return;
  join(p, p->nthreads - 1);
  tn_mem_free(p);
}

uint32_t tn_pool_cores(void) {
  size_t bytes = CPU_ALLOC_SIZE(AFFINITY_CORES);
  cpu_set_t *set = tn_mem_alloc(bytes);
  int n = set && !sched_getaffinity(0, bytes, set) ? CPU_COUNT_S(bytes, set) : 1;
  tn_mem_free(set);
  return n < 1 ? 1 : n > TN_POOL_MAX_THREADS ? TN_POOL_MAX_THREADS : (uint32_t)n;
}
