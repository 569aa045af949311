/* parallel.c - independent pieces of work on several threads. Pieces are taken in order from one counter, so
 * that the first failure in that order is found whatever the number of threads. */
#include "ir/base/base.h"
#include <pthread.h>
#include <sched.h>

#define MOST 256 /* threads */

uint32_t tn_processors(void) {
  cpu_set_t set;
  CPU_ZERO(&set);
  int n = sched_getaffinity(0, sizeof set, &set) ? 1 : CPU_COUNT(&set);
  return n < 1 ? 1 : n > MOST ? MOST : (uint32_t)n;
}

typedef struct crew {
  uint32_t n;
  tn_status (*fn)(void *ctx, uint32_t thread, uint32_t i);
  void *ctx;
  uint32_t next;       /* atomic: the first piece that nobody has taken */
  pthread_mutex_t one; /* guards what follows */
  uint32_t failed;     /* the first piece that failed; n: none */
  tn_status status;
} crew;

typedef struct worker {
  crew *crew;
  uint32_t thread;
  pthread_t id;
} worker;

static bool note(crew *c, uint32_t i, tn_status s) {
  pthread_mutex_lock(&c->one);
  if (s && i < c->failed) c->failed = i, c->status = s;
  bool stop = c->failed < c->n;
  pthread_mutex_unlock(&c->one);
  return stop;
}

static void *work(void *user) {
  worker *w = user;
  crew *c = w->crew;
  for (;;) {
    uint32_t i = __atomic_fetch_add(&c->next, 1, __ATOMIC_RELAXED);
    if (i >= c->n || note(c, i, c->fn(c->ctx, w->thread, i))) return NULL;
  }
}

tn_status tn_parallel(uint32_t threads, uint32_t n, tn_status (*fn)(void *ctx, uint32_t thread, uint32_t i),
                      void *ctx) {
  worker all[MOST];
  crew c = {.n = n, .fn = fn, .ctx = ctx, .one = PTHREAD_MUTEX_INITIALIZER, .failed = n};
  uint32_t started = 1;
  if (threads > n) threads = n;
  if (threads > MOST) threads = MOST;
  /* With fewer threads than asked for the work is done all the same. */
  for (; started < threads; started++) {
    all[started] = (worker){.crew = &c, .thread = started};
    if (pthread_create(&all[started].id, NULL, work, &all[started])) break;
  }
  all[0] = (worker){.crew = &c};
  work(&all[0]);
  for (uint32_t i = 1; i < started; i++) pthread_join(all[i].id, NULL);
  pthread_mutex_destroy(&c.one);
  return c.status;
}
