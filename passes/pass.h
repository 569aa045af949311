/* pass.h - passes over the IR: the context they get, how they are listed (passes.def) and run (manager.c).
 * A pass is tn_pass_NAME (dashes become underscores), named in passes.def; a missing one is a link error. */
#ifndef TN_PASS_H
#define TN_PASS_H
#include "ir/ir.h"

/* Options of one pass as written in a pipeline: fuse{max=64, strict=1}. Values are text. */
typedef struct tn_pass_option {
  const char *key, *value;
} tn_pass_option;

/* What the backends say; filled in by the driver from the plugin host. Functions may be NULL: everything goes
 * to a backend called "ref", nothing fuses. */
typedef struct tn_pass_backends {
  void *ctx;
  uint32_t count; /* backends in order of preference */
  const char *(*name)(void *ctx, uint32_t backend);
  bool (*claim)(void *ctx, uint32_t backend, tn_module *m, tn_op op, const char **why);
  bool (*fuse)(void *ctx, uint32_t backend, tn_module *m, tn_op root, tn_op op, uint32_t role);
} tn_pass_backends;

/* Rows of --fusion-report: one per pattern and place. */
typedef struct tn_fusion {
  const char *pattern;
  tn_loc loc;
  bool matched;
  const char *blocked_by;
  tn_loc blocker; /* of the op that did not fit; 0: not one op */
} tn_fusion;

typedef struct tn_pass_ctx {
  tn_module *m;
  const tn_pass_backends *backends;
  const tn_pass_option *options; /* of the pass now running */
  uint32_t noptions;
  tn_arena *arena; /* for fusion rows; lives as long as the pipeline run */
  TN_VEC(tn_fusion) fusions;
  TN_VEC(tn_fusion) rule_hits; /* --rule-stats */
  const tn_str *rule_texts;    /* rewrite rules of plugins; run by the pass `rules` */
  uint32_t nrule_texts;
  TN_VEC(uint32_t) assigned; /* by op id: 1 + the backend that `partition` chose, 0: none yet */
} tn_pass_ctx;

int64_t tn_pass_int(const tn_pass_ctx *c, const char *key, int64_t fallback);
const char *tn_pass_text(const tn_pass_ctx *c, const char *key, const char *fallback);
/* Notes a match (blocked_by NULL) or a near miss of a fusion pattern. */
void tn_pass_fusion(tn_pass_ctx *c, const char *pattern, tn_loc loc, const char *blocked_by);
/* A near miss of which one op is to blame; blocker 0: none is. */
void tn_pass_near_miss(tn_pass_ctx *c, const char *pattern, tn_loc loc, tn_op blocker, const char *why);

/* A module pass runs with f = 0 once; a function pass runs on every function. */
typedef tn_status (*tn_pass_fn)(tn_pass_ctx *c, tn_func f);
typedef struct tn_pass_info {
  const char *name, *summary, *options;
  tn_pass_fn run;
  bool module_pass;
} tn_pass_info;
const tn_pass_info *tn_passes(uint32_t *count);

/* A pass of a plugin, added to a run. */
typedef struct tn_extra_pass {
  const char *name, *point;
  void *ctx;
  tn_status (*run)(void *ctx, tn_module *m, tn_func f, const tn_pass_option *o, uint32_t n);
} tn_extra_pass;

typedef struct tn_pipeline_run {
  const char *pipeline; /* text, or "O0".."O3" */
  const tn_pass_backends *backends;
  const tn_extra_pass *extra; /* plugins' passes and rules */
  uint32_t nextra, nrule_texts;
  const tn_str *rule_texts;
  bool verify_each, time_passes;
  const char *print_after; /* pass name, "all" or NULL */
  tn_buf *print_to;
  const char *require_fusion; /* "attention=12, layer_norm=3" or NULL: fewer is an error */
  /* out */
  tn_arena arena;
  TN_VEC(tn_fusion) fusions;
  TN_VEC(tn_fusion) rule_hits;
  TN_VEC(struct {
    const char *name;
    double seconds;
  })
  times;
} tn_pipeline_run;
tn_status tn_pipeline_exec(tn_module *m, tn_pipeline_run *r);
void tn_pipeline_fini(tn_pipeline_run *r);
/* The text behind O0..O3, with @points; NULL: no such level. */
const char *tn_pipeline_text(const char *level);

#endif
