/* runtime.h - the small library inside every artefact, and inside the tenon binary for JIT runs: loads a step
 * program (ir/base/program.h), maps weights, owns the thread pool, sessions, tokenizer and generation.
 * Public face: tenon/model.h; here is what the host uses to open a program that lies in memory. */
#ifndef TN_RUNTIME_H
#define TN_RUNTIME_H
#include "ir/base/base.h"
#include "ir/base/program.h"
#include "tenon/model.h"

/* The table behind tn_model_query. */
extern const tn_model_api tn_rt_api;

/* Checks a blob; on failure *why says what is wrong (points into `error`). Used by fuzzers and by open. */
tn_status tn_prog_check(tn_bytes blob, char *error, uint64_t error_size);

typedef struct tn_rt_kernel {
  tn_kernel_fn fn;
  void *ctx;
} tn_rt_kernel;

/* JIT: the program in memory. All of it must outlive the model. */
typedef struct tn_rt_source {
  tn_bytes program;
  const tn_rt_kernel *kernels; /* one per row of the program's kernels */
  const void *weights;         /* base of the packed weight section */
  uint64_t weights_bytes;
  const char *folder;          /* where inplace weight files lie, or NULL */
  bool keep_values;            /* no slot is reused (plan-memory{reuse=0}); allows tn_rt_value */
  const tn_device_api *device; /* of the backend that the program names; its kernels have no function */
  const tn_bytes *images;      /* what it compiled */
  uint32_t nimages;
} tn_rt_source;
tn_status tn_rt_open(const tn_rt_source *s, tn_model **out, char *error, uint64_t error_size);

/* Profile: after enabling, per step of the last variant run: calls and seconds, waiting for the other threads
 * behind it included. Enabling again begins from nothing. */
tn_status tn_rt_profile(tn_session *s, bool on);
typedef struct tn_rt_step_time {
  const char *symbol, *loc;
  uint64_t calls;
  double seconds;
} tn_rt_step_time;
uint32_t tn_rt_step_times(tn_session *s, tn_rt_step_time *out, uint32_t room); /* number of rows */
/* The same, one by one: what a thread did, in order of time. Steps that are too small to share have an event
 * of thread 0 only. */
typedef struct tn_rt_event {
  double begin, end; /* tn_now(); before the barrier */
  uint32_t walk; /* number of the walk: through the steps of one variant, or of a part of them between host
                    steps; from 1 */
  uint32_t row;  /* of the program's steps; TN_PROG_NONE, thread 0 only: the walk's end */
} tn_rt_event;
/* *lost (may be NULL): events that had no room. */
uint32_t tn_rt_events(const tn_session *s, uint32_t thread, const tn_rt_event **out, uint64_t *lost);
/* Walks whose dims are known, from the first on: `ndims` values each, in the order of the program's dims. */
uint32_t tn_rt_walks(const tn_session *s, const int64_t **dims, uint32_t *ndims);
uint32_t tn_rt_threads(const tn_session *s);
/* How often threads had to meet: sums over all calls. */
typedef struct tn_rt_counts {
  uint64_t walks;  /* tables of steps that were walked: one per call, more where there are host steps */
  uint64_t steps;  /* kernels launched */
  uint64_t single; /* of these by thread 0 alone */
  uint64_t waits;  /* steps that had to wait for other threads */
} tn_rt_counts;
void tn_rt_count(const tn_session *s, tn_rt_counts *out);
/* Bytes that the last call needed, by what for. */
typedef struct tn_rt_use {
  uint64_t weights; /* mapped */
  uint64_t states;  /* for the whole capacity */
  uint64_t arena;   /* intermediate values */
  uint64_t scratch; /* of all threads */
  uint64_t borders; /* inputs that were converted, outputs without memory of the caller's */
  uint64_t device;  /* on the device, weights included; 0: none is used */
} tn_rt_use;
void tn_rt_memory_use(const tn_session *s, tn_rt_use *out);
/* The value of a dim in the last call; 0: it had none. */
int64_t tn_rt_dim(tn_session *s, const char *name);
/* The bytes of arena slot `slot` after the last invoke (for verify --per-node). NULL: none. */
const void *tn_rt_slot(tn_session *s, uint32_t slot, uint64_t *bytes);

/* The device that the session uses: runs of launches, copies and bytes that went over. */
typedef struct tn_rt_device_use {
  const char *spec, *name, *arch;           /* NULL: none */
  uint64_t runs, eager, recorded, replayed; /* as tn_device_api.counts; 0 where that is not there */
  uint64_t uploads, downloads, upload_bytes, download_bytes;
} tn_rt_device_use;
void tn_rt_device_used(const tn_session *s, tn_rt_device_use *out);

/* What the link step puts beside the runtime: one table per target, made by the backend's compile. In an
 * artefact the linker defines tn_kernel_tables (an array ended by a NULL name). */
typedef struct tn_kernel_table {
  const char *target, *features; /* features as in tn_target: cpuid names, comma separated */
  uint32_t score, count;
  const tn_kernel_fn *kernels; /* in the order of the program's kernels; NULL: on the device */
} tn_kernel_table;

/* And, if kernels run on a device, tn_device_packages: one row, then one whose api is NULL. */
typedef struct tn_device_package {
  const tn_device_api *api;
  const tn_bytes *images; /* one per target */
  uint64_t nimages;
} tn_device_package;

#endif
