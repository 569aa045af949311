/* rewrite.c - changing what is there: lists of ops, operands, uses, erasing, and the removal of dead ops.
 * Lists of uses are exact after every call. */
#include "ir/module.h"

/* ---- lists ---- */

void tn_op_link(tn_module *m, tn_op op, tn_func f, tn_op parent, tn_op before) {
  tn_region *r = tn_region_of(m, f, parent);
  tn_op_row *row = &m->ops.items[op];
  row->func = parent ? 0 : f;
  row->parent = parent;
  row->next = before;
  row->prev = before ? m->ops.items[before].prev : r->last;
  if (row->prev)
    m->ops.items[row->prev].next = op;
  else
    r->first = op;
  if (before)
    m->ops.items[before].prev = op;
  else
    r->last = op;
}

void tn_op_unlink(tn_module *m, tn_op op) {
  tn_op_row *row = &m->ops.items[op];
  tn_region *r = tn_region_of(m, row->func, row->parent);
  if (row->prev)
    m->ops.items[row->prev].next = row->next;
  else
    r->first = row->next;
  if (row->next)
    m->ops.items[row->next].prev = row->prev;
  else
    r->last = row->prev;
  row->prev = row->next = 0;
}

/* Fills in func and parent from `before`; moving: the op that will go there, or 0. */
tn_status tn_point_check(tn_module *m, tn_point *at, tn_op moving) {
  if (at->before) {
    const tn_op_row *next = tn_op_row_of(m, at->before);
    if (!next->code) return tn_module_fail(m, TN_INVALID, 0, "the op to insert before is gone");
    *at = (tn_point){next->func, next->parent, at->before};
  }
  if (!tn_region_of(m, at->func, at->parent))
    return tn_module_fail(m, TN_INVALID, 0, "no body is named to put an op into");
  if (at->parent) at->func = 0;
  bool nested =
      moving && at->parent && (at->parent == moving || tn_op_row_of(m, moving)->code == TN_OPC_kernel);
  if (nested)
    return tn_module_fail(m, TN_INVALID, tn_op_row_of(m, moving)->loc,
                          "kernel: a kernel cannot be inside a kernel");
  return TN_OK;
}

/* ---- uses ---- */

void tn_use_remove(tn_module *m, tn_value v, tn_op op, uint32_t operand) {
  tn_value_row *row = tn_value_row_of(m, v);
  for (uint32_t i = row->uses.count; i-- > 0;) {
    if (row->uses.items[i].op != op || row->uses.items[i].operand != operand) continue;
    memmove(row->uses.items + i, row->uses.items + i + 1,
            (row->uses.count - i - 1) * sizeof *row->uses.items);
    row->uses.count--;
    return;
  }
}

static tn_status operand_fail(tn_module *m, const tn_op_row *row, uint32_t i, const char *what) {
  const tn_op_spec *s = tn_op_spec_of(row->code);
  return tn_module_fail(m, TN_INVALID, row->loc, "%s: operand %u %s", s ? s->name : "a deleted op", i, what);
}

tn_status tn_ir_op_set_operand(tn_module *m, tn_op op, uint32_t i, tn_value v) {
  tn_op_row *row = tn_op_row_of(m, op);
  const tn_op_spec *s = tn_op_spec_of(row->code);
  if (!s || i >= row->operand_room) return operand_fail(m, row, i, "does not exist");
  tn_value_row *to = tn_value_row_of(m, v);
  bool optional = s->max_in >= 0 && i < s->n_in && s->in[i].optional;
  if (v ? !to->kind : !optional) return operand_fail(m, row, i, "cannot be absent");
  tn_value old = i < row->noperands ? row->operands[i] : 0;
  if (old == v) return TN_OK;
  if (v && !tn_vec_push(&to->uses, ((tn_use){op, i}))) return tn_module_oom(m);
  if (old) tn_use_remove(m, old, op, i);
  row->operands[i] = v;
  if (i >= row->noperands) row->noperands = i + 1;
  while (s->max_in >= 0 && row->noperands > (uint32_t)s->min_in && !row->operands[row->noperands - 1])
    row->noperands--;
  return TN_OK;
}

tn_status tn_ir_op_set_attr(tn_module *m, tn_op op, const char *name, const tn_attr *a) {
  tn_op_row *row = tn_op_row_of(m, op);
  const tn_op_spec *s = tn_op_spec_of(row->code);
  int at = tn_attr_find(s, name ? name : "");
  if (at < 0)
    return tn_module_fail(m, TN_INVALID, row->loc, "%s: there is no attribute '%s'",
                          s ? s->name : "a deleted op", name ? name : "");
  tn_attr copy;
  TN_TRY(tn_attr_copy(m, row->loc, name, s->attrs[at].kind, a, &copy));
  row->attrs[at] = copy;
  return TN_OK;
}

tn_status tn_ir_op_move(tn_module *m, tn_op op, tn_point to) {
  if (!tn_op_row_of(m, op)->code) return tn_module_fail(m, TN_INVALID, 0, "the op to move is gone");
  if (to.before == op) return TN_OK;
  TN_TRY(tn_point_check(m, &to, op));
  tn_op_unlink(m, op);
  tn_op_link(m, op, to.func, to.parent, to.before);
  return TN_OK;
}

static void value_delete(tn_module *m, tn_value v) {
  tn_value_row *row = &m->values.items[v];
  tn_vec_fini(&row->uses);
  row->kind = 0;
}

static void op_delete(tn_module *m, tn_op op) {
  tn_op_row *row = &m->ops.items[op];
  while (row->body.last) op_delete(m, row->body.last);
  for (uint32_t i = 0; i < row->body.args.count; i++) value_delete(m, row->body.args.items[i]);
  for (uint32_t i = 0; i < row->noperands; i++)
    if (row->operands[i]) tn_use_remove(m, row->operands[i], op, i);
  for (uint32_t i = 0; i < row->nresults; i++) value_delete(m, row->results + i);
  tn_op_unlink(m, op);
  *row = (tn_op_row){0};
}

tn_status tn_ir_op_erase(tn_module *m, tn_op op) {
  const tn_op_row *row = tn_op_row_of(m, op);
  if (!row->code) return tn_module_fail(m, TN_INVALID, 0, "the op to erase is gone");
  for (uint32_t i = 0; i < row->nresults; i++) {
    uint32_t uses = m->values.items[row->results + i].uses.count;
    if (!uses) continue;
    return tn_module_fail(m, TN_PRECONDITION, row->loc, "%s: result %u still has %u use%s",
                          tn_ir_opcode_name(row->code), i, uses, uses == 1 ? "" : "s");
  }
  if (row->code == TN_OPC_return && !row->parent) /* the next one may state others */
    m->funcs.items[row->func].results = NULL, m->funcs.items[row->func].nresults = 0;
  op_delete(m, op);
  return TN_OK;
}

tn_status tn_ir_value_replace(tn_module *m, tn_value from, tn_value to) {
  if (from == to) return TN_OK;
  tn_value_row *a = tn_value_row_of(m, from), *b = tn_value_row_of(m, to);
  if (!a->kind || !b->kind)
    return tn_module_fail(m, TN_INVALID, 0, "a value to replace, or its replacement, is gone");
  uint64_t total = (uint64_t)a->uses.count + b->uses.count;
  if (total > UINT32_MAX || (total && !tn_vec_reserve(&b->uses, (uint32_t)total))) return tn_module_oom(m);
  for (uint32_t i = 0; i < a->uses.count; i++) {
    tn_use use = a->uses.items[i];
    m->ops.items[use.op].operands[use.operand] = to;
    b->uses.items[b->uses.count++] = use;
  }
  a->uses.count = 0;
  return TN_OK;
}

/* ---- dead ops ---- */

static bool is_pure(tn_module *m, tn_op op) {
  const tn_op_row *row = &m->ops.items[op];
  if (!(tn_op_spec_of(row->code)->flags & TN_F_PURE)) return false;
  for (tn_op x = row->body.first; x; x = m->ops.items[x].next)
    if (tn_op_spec_of(m->ops.items[x].code)->flags & TN_F_EFFECT) return false;
  return true;
}

/* Users come after what they use, so one walk from the end finds all. */
static uint32_t region_dce(tn_module *m, tn_func f, tn_op parent) {
  uint32_t removed = 0;
  for (tn_op op = tn_ir_last_op(m, f, parent), prev; op; op = prev) {
    prev = m->ops.items[op].prev;
    if (m->ops.items[op].code == TN_OPC_kernel) removed += region_dce(m, 0, op);
    bool used = !is_pure(m, op);
    for (uint32_t i = 0; i < m->ops.items[op].nresults; i++)
      used |= m->values.items[m->ops.items[op].results + i].uses.count > 0;
    if (used) continue;
    op_delete(m, op);
    removed++;
  }
  return removed;
}

uint32_t tn_func_dce(tn_module *m, tn_func f) { return f && f < m->funcs.count ? region_dce(m, f, 0) : 0; }
