/* pool.h - the threads of a session. A job runs on all of them at once; inside it each says how far it is,
 * and waits for the others only where it needs what they did. */
#ifndef TN_POOL_H
#define TN_POOL_H
#include "ir/base/base.h"

typedef struct tn_pool tn_pool;
/* Runs on thread 0 (the caller) to width - 1. */
typedef void (*tn_pool_job)(void *arg, uint32_t thread, uint32_t width);

enum { TN_POOL_MAX_THREADS = 1024, TN_POOL_MAX_MARKS = 1 << 30 };

/* n threads with the caller; n - 1 are started now and live until free. Thread i, the caller too, stays on
 * core cores[i % ncores]; ncores 0: where the system puts it. TN_UNAVAILABLE: the system gave fewer threads;
 * TN_INVALID: it does not let us use a core. */
tn_status tn_pool_new(uint32_t n, const uint32_t *cores, uint32_t ncores, tn_pool **out);
void tn_pool_free(tn_pool *p); /* joins; NULL is allowed */
/* Back when threads 0 to width - 1 are done. The job passes the marks 1 to `marks`, at most
 * TN_POOL_MAX_MARKS.
 */
void tn_pool_run(tn_pool *p, uint32_t width, tn_pool_job job, void *arg, uint32_t marks);
/* This thread has passed `mark`: what it wrote before is seen by those who await it. Marks may be left out,
 * not go back. */
void tn_pool_pass(tn_pool *p, uint32_t thread, uint32_t mark);
/* Until thread `whom` of the run has passed `mark`; 0 is passed from the start. */
void tn_pool_await(tn_pool *p, uint32_t thread, uint32_t whom, uint32_t mark);
/* How long threads spin before they sleep: long while the processors are ours, so that a step's end is seen
 * at once; short while others want them. */
void tn_pool_spin(tn_pool *p, bool crowded);
/* Seconds that runs took longer so far because the system did not let a thread run that they needed: thread
 * 0, or one that it slept for. Counted up to the last run's end, or up to now. */
double tn_pool_lost(const tn_pool *p);
void tn_pool_count_lost(tn_pool *p); /* thread 0, inside a run */
/* Processors' worth of time that this process may use: those that it may run on, or fewer where a control
 * group limits it; at least 1. */
uint32_t tn_pool_cores(void);

#endif
