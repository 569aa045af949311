/* cores.h - which processors this process may use, how much of them, and staying on one. */
#ifndef TN_CORES_H
#define TN_CORES_H
#include "ir/base/base.h"
#include <pthread.h>

/* Processors' worth of time that control groups leave to this process, rounded up; 0: no limit. `self` is
 * /proc/self/cgroup, `mount` where the groups are mounted: /sys/fs/cgroup. */
uint32_t tn_cores_quota(const char *self, const char *mount);

typedef struct tn_cores tn_cores;
/* The calling thread goes to `core` and stays; *before: where it was, for tn_cores_back. TN_INVALID: it may
 * not. */
tn_status tn_cores_move(uint32_t core, tn_cores **before);
void tn_cores_back(tn_cores *before); /* does nothing on another thread; frees; NULL is allowed */
int tn_cores_pin(pthread_attr_t *a, uint32_t core); /* threads made with `a`; an errno */

#endif
