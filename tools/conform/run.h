/* run.h - runs a built case through a plugin's kernels: on the host, or on a device with memory of its own.
 */
#ifndef TN_CONFORM_RUN_H
#define TN_CONFORM_RUN_H
#include "tools/conform/build.h"

/* ---- run_host.c: kernels that the backend loads ---- */
typedef struct tn_host_call {
  tn_kernel_fn fn;
  void *ctx;
  void *bufs[128];
  int64_t dims[16];
  uint64_t scratch;
} tn_host_call;
enum { TN_HOST_THREADS = 8 };
typedef struct tn_host_run {
  tn_trial trial;
  const tn_trial_plugin *plugin;
  tn_exec *exec;
  TN_VEC(tn_host_call) calls;
  tn_wall scratch[TN_HOST_THREADS];
  uint64_t tickets[TN_HOST_THREADS * 8];
  uint32_t launch;
  tn_op ret; /* the function's return */
} tn_host_run;
void tn_host_run_init(tn_host_run *r, tn_trial_plugin *p, const tn_target *t, const tn_case *c,
                      const char *pipeline);
/* All kernels, once: one thread after the other, kernel by kernel, so that what they do to each other does
 * not depend on time. An even number of them may take work from each other: then the first does nearly all.
 */
void tn_host_run_threads(tn_host_run *r, uint32_t nthreads);
void tn_host_run_fini(tn_host_run *r);

/* ---- run_device.c: kernels through a tn_device_api ---- */
typedef struct tn_device_step { /* a kernel op that waits to be launched */
  const tn_trial_row *row;
  uint32_t kernel, nbufs, first, first_buf; /* first: of its numbers; of its buffers */
  void *scratch;
} tn_device_step;
typedef struct tn_device_run {
  tn_trial trial;
  const tn_device_api *api;
  const char *target;
  tn_device *device;
  tn_queue *queue;
  TN_VEC(void *) at;            /* by value id: its address on the device */
  TN_VEC(void *) blocks;        /* all memory */
  bool flushed;                 /* the steps were launched */
  TN_VEC(tn_device_step) steps; /* launches since the last flush, or those of it */
  TN_VEC(int64_t) numbers;
  TN_VEC(void *) bufs;
  tn_op ret;
} tn_device_run;
/* Compiles the case and opens a device with it, unless one of the last packages fits. */
void tn_device_run_init(tn_device_run *r, tn_trial_plugin *p, const tn_target *t, const tn_case *c,
                        const char *pipeline);
/* Uploads, launches, downloads results and states. Buffers have the tensors' exact sizes, and half of them
 * lie at odd multiples of 64 bytes; results and scratch begin as 0xcd. */
void tn_device_run_all(tn_device_run *r);
/* Launches those kernels again that were launched last, over results that are 0xcd again. */
void tn_device_run_again(tn_device_run *r);
void tn_device_run_fini(tn_device_run *r);
#endif
