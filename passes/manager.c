/* manager.c - runs a pipeline: stage by stage over the module, with a check, a print and a time after each
 * where asked, and the fusion counts the caller required at the end. */
#include "passes/pipeline.h"
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct runner {
  tn_module *m;
  tn_pipeline_run *run;
  tn_pass_ctx ctx;
} runner;

static tn_status run_extra(runner *r, const tn_extra_pass *x, const tn_stage *s) {
  for (tn_func f = 1; f <= tn_ir_func_count(r->m); f++)
    TN_TRY(x->run(x->ctx, r->m, f, s->options, s->noptions));
  return TN_OK;
}

static tn_status run_point(runner *r, const tn_stage *s) {
  for (uint32_t i = 0; i < r->run->nextra; i++) {
    const tn_extra_pass *x = &r->run->extra[i];
    if (x->point && !strcmp(x->point, s->name)) TN_TRY(run_extra(r, x, s));
  }
  return TN_OK;
}

static tn_status run_pass(runner *r, const tn_stage *s) {
  r->ctx.options = s->options;
  r->ctx.noptions = s->noptions;
  if (s->pass->module_pass) return s->pass->run(&r->ctx, 0);
  for (tn_func f = 1; f <= tn_ir_func_count(r->m); f++) TN_TRY(s->pass->run(&r->ctx, f));
  return TN_OK;
}

static tn_status print_after(runner *r, const tn_stage *s) {
  tn_pipeline_run *run = r->run;
  if (!run->print_after || !run->print_to) return TN_OK;
  if (strcmp(run->print_after, "all") && strcmp(run->print_after, s->name)) return TN_OK;
  tn_buf_printf(run->print_to, "// after %s\n", s->name);
  TN_TRY(tn_module_print(r->m, run->print_to));
  return run->print_to->failed ? TN_OOM : TN_OK;
}

static tn_status run_stage(runner *r, const tn_stage *s) {
  tn_diags *d = tn_module_diags(r->m);
  double start = tn_now();
  uint32_t errors = d->errors;
  tn_status status = s->pass ? run_pass(r, s) : s->extra ? run_extra(r, s->extra, s) : run_point(r, s);
  if (status == TN_OK && d->errors > errors) status = TN_INVALID;
  if (status == TN_OK && r->ctx.arena->failed) status = TN_OOM;
  if (status != TN_OK && d->errors == errors)
    tn_fail(d, status, NULL, s->name, status == TN_OOM ? "out of memory" : "the pass failed with status %d",
            status);
  TN_TRY(status);
  if (r->run->time_passes) {
    bool pushed = tn_vec_reserve(&r->run->times, r->run->times.count + 1);
    if (!pushed) return TN_OOM;
    r->run->times.items[r->run->times.count].name = s->name;
    r->run->times.items[r->run->times.count++].seconds = tn_now() - start;
  }
  if (r->run->verify_each && tn_module_verify(r->m) != TN_OK)
    return tn_fail(d, TN_INTERNAL, NULL, s->name, "the module does not verify after this pass");
  return print_after(r, s);
}

/* ---- required fusions ------------------------------------------------------------------------ */
static uint32_t count_ops_in(tn_module *m, tn_func f, tn_op parent, uint32_t opcode) {
  uint32_t n = 0;
  for (tn_op op = tn_ir_first_op(m, f, parent); op; op = tn_ir_next_op(m, op)) {
    n += tn_ir_opcode(m, op) == opcode;
    if (tn_ir_opcode(m, op) == TN_OPC_kernel) n += count_ops_in(m, f, op, opcode);
  }
  return n;
}

/* What `NAME=n` counts: ops of that mnemonic in the finished module, else matches of the pattern of that
 * name. */
static uint32_t fusions_of(runner *r, const char *name) {
  uint32_t n = 0, opcode = tn_ir_opcode_by_name(name);
  for (tn_func f = 1; opcode && f <= tn_ir_func_count(r->m); f++) n += count_ops_in(r->m, f, 0, opcode);
  for (uint32_t i = 0; !opcode && i < r->ctx.fusions.count; i++)
    n += r->ctx.fusions.items[i].matched && !strcmp(r->ctx.fusions.items[i].pattern, name);
  return n;
}

static const char *first_blocker(runner *r, const char *name) {
  for (uint32_t i = 0; i < r->ctx.fusions.count; i++) {
    const tn_fusion *x = &r->ctx.fusions.items[i];
    if (!x->matched && !strcmp(x->pattern, name)) return x->blocked_by;
  }
  return NULL;
}

static tn_status require_one(runner *r, const char *name, const char *number) {
  tn_diags *d = tn_module_diags(r->m);
  char *end;
  long want = strtol(number, &end, 10);
  if (end == number || *end || want < 0)
    return tn_fail(d, TN_INVALID, NULL, "--require-fusion", "'%s=%s' is not NAME=NUMBER", name, number);
  uint32_t got = fusions_of(r, name);
  if (got >= (unsigned long)want) return TN_OK;
  const char *why = first_blocker(r, name);
  return tn_fail(d, TN_PRECONDITION, NULL, "--require-fusion", "%s: required %ld, found %u%s%s", name, want,
                 got, why ? "; first near miss: " : "", why ? why : "");
}

static tn_status require_fusions(runner *r) {
  const char *text = r->run->require_fusion;
  tn_status status = TN_OK;
  while (text && *text && status == TN_OK) {
    while (*text == ',' || isspace((unsigned char)*text)) text++;
    size_t len = strcspn(text, ",");
    char item[128];
    snprintf(item, sizeof item, "%.*s", (int)len, text);
    for (size_t n = strlen(item); n && isspace((unsigned char)item[n - 1]);) item[--n] = 0;
    char *eq = strchr(item, '=');
    if (eq) *eq = 0;
    if (*item) status = require_one(r, item, eq ? eq + 1 : "");
    text += len;
  }
  return status;
}

tn_status tn_pipeline_exec(tn_module *m, tn_pipeline_run *run) {
  tn_arena_init(&run->arena);
  runner r = {m, run, {0}};
  r.ctx.m = m;
  r.ctx.backends = run->backends;
  r.ctx.arena = &run->arena;
  r.ctx.rule_texts = run->rule_texts;
  r.ctx.nrule_texts = run->nrule_texts;
  tn_stages stages = {0};
  tn_status status = tn_pipeline_parse(run, &run->arena, tn_module_diags(m), &stages);
  for (uint32_t i = 0; status == TN_OK && i < stages.list.count; i++)
    status = run_stage(&r, &stages.list.items[i]);
  if (status == TN_OK) status = require_fusions(&r);
  memcpy(&run->fusions, &r.ctx.fusions, sizeof run->fusions); /* the same anonymous vector type */
  memcpy(&run->rule_hits, &r.ctx.rule_hits, sizeof run->rule_hits);
  tn_vec_fini(&r.ctx.assigned);
  tn_vec_fini(&stages.list);
  return status;
}

void tn_pipeline_fini(tn_pipeline_run *run) {
  tn_vec_fini(&run->fusions);
  tn_vec_fini(&run->rule_hits);
  tn_vec_fini(&run->times);
  tn_arena_fini(&run->arena);
}
