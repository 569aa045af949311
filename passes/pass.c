/* pass.c - the table of passes, and what every pass uses: its options and the rows of the fusion report. */
#include "passes/passes.h"
#include <stdlib.h>

static const tn_pass_info passes[] = {
#define TN_PASS(suffix, name, module_pass, options, summary)                                                 \
  {name, summary, options, tn_pass_##suffix, module_pass},
#include "passes/passes.def"
#undef TN_PASS
};

const tn_pass_info *tn_passes(uint32_t *count) {
  *count = TN_COUNT(passes);
  return passes;
}

const char *tn_pass_text(const tn_pass_ctx *c, const char *key, const char *fallback) {
  for (uint32_t i = 0; i < c->noptions; i++)
    if (!strcmp(c->options[i].key, key)) return c->options[i].value;
  return fallback;
}

int64_t tn_pass_int(const tn_pass_ctx *c, const char *key, int64_t fallback) {
  const char *text = tn_pass_text(c, key, NULL);
  return text ? strtoll(text, NULL, 10) : fallback; /* the pipeline parser has checked the text */
}

static void add_row(tn_pass_ctx *c, const char *pattern, tn_loc loc, const char *blocked_by, tn_loc blocker) {
  char *p = tn_arena_str(c->arena, tn_str_of(pattern));
  char *why = blocked_by ? tn_arena_str(c->arena, tn_str_of(blocked_by)) : NULL;
  if (!p || (blocked_by && !why)) return; /* the arena remembers; the pipeline run fails with TN_OOM */
  tn_fusion row = {p, loc, !blocked_by, why, blocker};
  if (!tn_vec_push(&c->fusions, row)) c->arena->failed = true;
}

void tn_pass_fusion(tn_pass_ctx *c, const char *pattern, tn_loc loc, const char *blocked_by) {
  add_row(c, pattern, loc, blocked_by, 0);
}

void tn_pass_near_miss(tn_pass_ctx *c, const char *pattern, tn_loc loc, tn_op blocker, const char *why) {
  add_row(c, pattern, loc, why, blocker ? tn_ir_op_loc(c->m, blocker) : 0);
}
