/* pool.h - the threads of a session. A job runs on all of them at once; inside it they meet at barriers. */
#ifndef TN_POOL_H
#define TN_POOL_H
#include "ir/base/base.h"

typedef struct tn_pool tn_pool;
/* Runs on thread 0 (the caller) to nthreads - 1. Its last act on every thread must be tn_pool_barrier: that
 * is how the caller knows that the others are done. */
typedef void (*tn_pool_job)(void *arg, uint32_t thread, uint32_t nthreads);

enum { TN_POOL_MAX_THREADS = 1024 };

/* n threads with the caller; n - 1 are started now and live until free. TN_UNAVAILABLE: the system gave
 * fewer. */
tn_status tn_pool_new(uint32_t n, tn_pool **out);
void tn_pool_free(tn_pool *p); /* joins; NULL is allowed */
void tn_pool_run(tn_pool *p, tn_pool_job job, void *arg);
void tn_pool_barrier(tn_pool *p);
uint32_t tn_pool_cores(void); /* cores that this process may use; at least 1 */

#endif
