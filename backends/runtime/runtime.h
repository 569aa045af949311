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
  const char *folder; /* where inplace weight files lie, or NULL */
  bool keep_values;   /* no slot is reused (plan-memory{reuse=0}); allows tn_rt_value */
} tn_rt_source;
tn_status tn_rt_open(const tn_rt_source *s, tn_model **out, char *error, uint64_t error_size);

/* Profile: after enabling, per step of the last variant run: calls and seconds. */
tn_status tn_rt_profile(tn_session *s, bool on);
typedef struct tn_rt_step_time {
  const char *symbol, *loc;
  uint64_t calls;
  double seconds;
} tn_rt_step_time;
uint32_t tn_rt_step_times(tn_session *s, tn_rt_step_time *out, uint32_t room); /* number of rows */
/* The value of a dim in the last call; 0: it had none. */
int64_t tn_rt_dim(tn_session *s, const char *name);
/* The bytes of arena slot `slot` after the last invoke (for verify --per-node). NULL: none. */
const void *tn_rt_slot(tn_session *s, uint32_t slot, uint64_t *bytes);

/* What the link step puts beside the runtime: one table per target, made by the backend's compile. In an
 * artefact the linker defines tn_kernel_tables (an array ended by a NULL name). */
typedef struct tn_kernel_table {
  const char *target, *features; /* features as in tn_target: cpuid names, comma separated */
  uint32_t score, count;
  const tn_kernel_fn *kernels; /* in the order of the program's kernels */
} tn_kernel_table;

#endif
