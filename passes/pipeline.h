/* pipeline.h - pipeline text as a list of stages: `fold{limit=64}, @fuse, fuse`. */
#ifndef TN_PIPELINE_H
#define TN_PIPELINE_H
#include "passes/pass.h"

typedef struct tn_stage {
  const char *name;           /* pass, or @point */
  const tn_pass_info *pass;   /* NULL: a point or a plugin's pass */
  const tn_extra_pass *extra; /* a plugin's pass called by name */
  tn_pass_option *options;
  uint32_t noptions;
} tn_stage;
typedef struct tn_stages {
  TN_VEC(tn_stage) list;
} tn_stages;

/* Reads r->pipeline (a level stands for its text). Texts and options live in `arena`. Every unknown pass,
 * option and value is reported with the nearest known name. */
tn_status tn_pipeline_parse(const tn_pipeline_run *r, tn_arena *arena, tn_diags *diags, tn_stages *out);
#endif
