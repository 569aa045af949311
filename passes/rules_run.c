/* rules_run.c - the driver of rewrite rules: a queue of ops, first all of a function in program order, then
 * whatever a rewrite touched, until nothing fires. Each op is looked at once plus once per rewrite near it.
 */
#include "passes/match.h"

typedef struct driver {
  tn_pass_ctx *c;
  const tn_ruleset *set;
  tn_arena arena; /* for guards */
  TN_VEC(tn_op) queue;
  uint32_t head;
  tn_marks state; /* by op: QUEUED, ERASED */
  uint64_t fired, limit;
  bool fusions, oom;
} driver;
enum { QUEUED = 1, ERASED = 2 };

static void push(driver *d, tn_op op) {
  if (!op || tn_marks_get(&d->state, op)) return;
  if (!tn_marks_set(&d->state, op, QUEUED) || !tn_vec_push(&d->queue, op)) d->oom = true;
}

static bool unused(tn_module *m, tn_op op) {
  for (uint32_t i = 0; i < tn_ir_op_nresults(m, op); i++)
    if (tn_rw_nuses(m, tn_ir_op_result(m, op, i))) return false;
  return true;
}

/* Erases op if nothing uses it, and so on upwards. What fed it is looked at again: it has fewer uses now. */
static void erase_dead(driver *d, tn_op root) {
  tn_module *m = d->c->m;
  TN_VEC(tn_op) list = {0};
  if (!tn_vec_push(&list, root)) d->oom = true;
  while (list.count) {
    tn_op op = list.items[--list.count];
    if (tn_marks_get(&d->state, op) == ERASED || !(tn_rw_flags(m, op) & TN_F_PURE) || !unused(m, op))
      continue;
    for (uint32_t i = 0; i < tn_ir_op_noperands(m, op); i++) {
      tn_op def = tn_rw_def(m, tn_ir_op_operand(m, op, i));
      if (!def) continue;
      push(d, def);
      if (!tn_vec_push(&list, def)) d->oom = true;
    }
    if (tn_ir_op_erase(m, op) != TN_OK || !tn_marks_set(&d->state, op, ERASED)) d->oom = true;
  }
  tn_vec_fini(&list);
}

static void push_users(driver *d, tn_value v) {
  tn_module *m = d->c->m;
  uint32_t operand, n = tn_rw_nuses(m, v);
  for (uint32_t i = 0; i < n; i++) push(d, tn_ir_value_use(m, v, i, &operand));
}

/* Queues the op behind v and what feeds it, as far as the rewrite made it (no further than `depth`). */
static void push_made(driver *d, tn_value v, uint32_t depth) {
  tn_op op = tn_rw_def(d->c->m, v);
  if (!op) return;
  push(d, op);
  for (uint32_t i = 0; depth && i < tn_ir_op_noperands(d->c->m, op); i++)
    push_made(d, tn_ir_op_operand(d->c->m, op, i), depth - 1);
}

static uint32_t depth_of(const tn_pat *p) {
  uint32_t deepest = 0;
  for (uint32_t i = 0; i < p->noperands; i++) {
    uint32_t n = depth_of(p->operands[i]);
    deepest = n > deepest ? n : deepest;
  }
  return p->kind == TN_PAT_OP ? deepest + 1 : 0;
}

static void note(driver *d, const tn_rule *r, tn_loc loc) {
  char *name = tn_arena_str(d->c->arena, tn_str_of(r->name));
  tn_fusion row = {name, loc, true, NULL, 0};
  if (!name || !tn_vec_push(&d->c->rule_hits, row)) d->oom = true;
  if (d->fusions && r->replacement->kind == TN_PAT_OP)
    tn_pass_fusion(d->c, tn_ir_opcode_name(r->replacement->opcode), loc, NULL);
}

static tn_status fire(driver *d, tn_match *x, tn_value to) {
  tn_module *m = d->c->m;
  tn_value from = tn_ir_op_result(m, x->root, 0);
  const char *name = tn_ir_value_name(m, from);
  tn_op def = tn_rw_def(m, to);
  note(d, x->rule, def ? tn_ir_op_loc(m, def) : tn_ir_op_loc(m, x->root));
  if (name && def && !tn_ir_value_name(m, to)) TN_TRY(tn_ir_value_set_name(m, to, name));
  push_users(d, from);
  TN_TRY(tn_ir_value_replace(m, from, to));
  push_made(d, to, depth_of(x->rule->replacement));
  erase_dead(d, x->root);
  if (++d->fired <= d->limit) return TN_OK;
  return tn_fail(tn_module_diags(m), TN_INVALID, NULL, "rewrite rule",
                 "%s: the rules did not settle after %llu rewrites", x->rule->name,
                 (unsigned long long)d->limit);
}

static tn_status visit(driver *d, tn_op op) {
  tn_module *m = d->c->m;
  if (tn_marks_get(&d->state, op) == ERASED) return TN_OK;
  if (!tn_marks_set(&d->state, op, 0)) return TN_OOM;
  uint32_t opcode = tn_ir_opcode(m, op);
  for (uint32_t i = d->set->first[opcode]; i < d->set->first[opcode + 1]; i++) {
    tn_match x;
    x.arena = &d->arena;
    if (!tn_match_rule(&x, m, &d->set->rules.items[i], op)) continue;
    tn_value to = tn_match_build(&x);
    if (to) return fire(d, &x, to);
  }
  return TN_OK;
}

static tn_status run_func(driver *d, tn_func f) {
  tn_status status = TN_OK;
  d->queue.count = d->head = 0;
  for (tn_op op = tn_ir_first_op(d->c->m, f, 0); op; op = tn_ir_next_op(d->c->m, op)) push(d, op);
  d->fired = 0;
  d->limit = 1000 + 20ull * d->queue.count;
  while (status == TN_OK && !d->oom && d->head < d->queue.count) status = visit(d, d->queue.items[d->head++]);
  return status != TN_OK ? status : d->oom ? TN_OOM : TN_OK;
}

tn_status tn_rules_run(tn_pass_ctx *c, const tn_ruleset *s, bool fusions) {
  driver d = {.c = c, .set = s, .fusions = fusions};
  tn_status status = TN_OK;
  tn_arena_init(&d.arena);
  for (tn_func f = 1; status == TN_OK && f <= tn_ir_func_count(c->m); f++) status = run_func(&d, f);
  tn_vec_fini(&d.queue);
  tn_marks_fini(&d.state);
  tn_arena_fini(&d.arena);
  return status;
}
