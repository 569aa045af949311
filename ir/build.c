/* build.c - making ops. A new op gets its defaults, is checked against ops.def and has its result types
 * inferred before anything is added, so a failure leaves the module as it was. Also the read side of values
 * and ops. */
#include "ir/module.h"

/* ---- checks ---- */

bool tn_value_is_state(tn_module *m, tn_value v) {
  for (uint32_t steps = 0; steps < m->ops.count * 2; steps++) { /* a malformed module may hold a cycle */
    const tn_value_row *row = tn_value_row_of(m, v);
    const tn_op_row *op = tn_op_row_of(m, row->kind == TN_VALUE_RESULT || !row->of_func ? row->owner : 0);
    if (row->kind == TN_VALUE_STATE) return true;
    if (row->kind == TN_VALUE_ARG && !row->of_func && row->index < op->noperands)
      v = op->operands[row->index];
    else if (row->kind == TN_VALUE_RESULT && op->code == TN_OPC_kv_update)
      return true;
    else if (row->kind == TN_VALUE_RESULT && op->code == TN_OPC_kernel) {
      const tn_op_row *end = tn_op_row_of(m, op->body.last);
      v = end->code == TN_OPC_yield && row->index < end->noperands ? end->operands[row->index] : 0;
    } else
      return false;
  }
  return false;
}

/* What the infer functions cannot see: that operands exist, and that a state is one. */
tn_status tn_operands_check(tn_module *m, uint32_t code, const tn_value *in, uint32_t n, tn_loc loc) {
  const tn_op_spec *s = tn_op_spec_of(code);
  for (uint32_t i = 0; i < n; i++) {
    if (!in[i]) continue;
    if (!tn_value_row_of(m, in[i])->kind)
      return tn_module_fail(m, TN_INVALID, loc, "%s: operand %u is gone", s->name, i);
    if (i >= s->n_in || s->in[i].constraint != TN_C_STATE || tn_value_is_state(m, in[i])) continue;
    tn_buf text = {0};
    tn_text_value(m, in[i], &text);
    tn_module_fail(m, TN_INVALID, loc, "%s: operand %u ('%s') must be a state, but is %s", s->name, i,
                   s->in[i].name, tn_buf_cstr(&text));
    tn_buf_fini(&text);
    return TN_INVALID;
  }
  return TN_OK;
}

/* A kernel's body sees its arguments and its own ops; a function's body its arguments, ops, weights and
 * states. */
static tn_status operands_visible(tn_module *m, const tn_op_spec *s, const tn_value *in, uint32_t n,
                                  tn_point at, tn_loc loc) {
  for (uint32_t i = 0; i < n; i++) {
    const tn_value_row *row = tn_value_row_of(m, in[i]);
    const tn_op_row *def = tn_op_row_of(m, row->kind == TN_VALUE_RESULT ? row->owner : 0);
    bool seen = true;
    if (row->kind == TN_VALUE_RESULT)
      seen = at.parent ? def->parent == at.parent : !def->parent && def->func == at.func;
    else if (row->kind == TN_VALUE_ARG)
      seen = at.parent ? !row->of_func && row->owner == at.parent : row->of_func && row->owner == at.func;
    else if (row->kind)
      seen = !at.parent;
    if (seen) continue;
    tn_buf text = {0};
    tn_text_value(m, in[i], &text);
    tn_module_fail(m, TN_INVALID, loc, "%s: operand %u, %s, is not visible here", s->name, i,
                   tn_buf_cstr(&text));
    tn_buf_fini(&text);
    return TN_INVALID;
  }
  return TN_OK;
}

/* ---- attributes of a new op ---- */

static tn_status attr_unknown(tn_module *m, const tn_op_spec *s, const char *name, tn_loc loc) {
  const char *names[32];
  uint32_t n = 0;
  for (; n < s->nattrs && n < TN_COUNT(names); n++) names[n] = s->attrs[n].name;
  int near = tn_str_nearest(name, names, (int)n);
  if (near < 0) return tn_module_fail(m, TN_INVALID, loc, "%s: there is no attribute '%s'", s->name, name);
  return tn_module_fail(m, TN_INVALID, loc, "%s: there is no attribute '%s'; did you mean '%s'?", s->name,
                        name, names[near]);
}

static tn_status attrs_fill(tn_module *m, const tn_op_spec *s, const tn_op_desc *d, tn_attr *out) {
  for (uint32_t i = 0; i < d->nattrs; i++) {
    const char *name = d->attrs[i].name ? d->attrs[i].name : "";
    int at = tn_attr_find(s, name);
    if (at < 0) return attr_unknown(m, s, name, d->loc);
    if (out[at].kind)
      return tn_module_fail(m, TN_INVALID, d->loc, "%s: attribute '%s' is given twice", s->name, name);
    TN_TRY(tn_attr_copy(m, d->loc, name, s->attrs[at].kind, &d->attrs[i].attr, &out[at]));
  }
  for (uint32_t i = 0; i < s->nattrs; i++) {
    if (out[i].kind) continue;
    if (s->attrs[i].required)
      return tn_module_fail(m, TN_INVALID, d->loc, "%s: attribute '%s' is missing", s->name,
                            s->attrs[i].name);
    TN_TRY(tn_attr_default(m, &s->attrs[i], &out[i]));
  }
  return TN_OK;
}

/* ---- result types ---- */

static tn_status results_differ(tn_infer *c, uint32_t i, tn_type stated, tn_type inferred) {
  tn_buf a = {0}, b = {0};
  tn_type_print(c->m, stated, &a);
  tn_type_print(c->m, inferred, &b);
  tn_infer_fail(c, "result %u is stated as %s, but is %s", i, tn_buf_cstr(&a), tn_buf_cstr(&b));
  tn_buf_fini(&a);
  tn_buf_fini(&b);
  return TN_INVALID;
}

static tn_status results_infer(tn_infer *c, const tn_op_spec *s, const tn_op_desc *d) {
  bool stated = d->results != NULL;
  c->nout = s->nout >= 0 ? (uint32_t)s->nout : d->nresults;
  if (c->nout > TN_MAX_RESULTS)
    return tn_infer_fail(c, "%u results; the most is %d", c->nout, TN_MAX_RESULTS);
  if (stated && d->nresults != c->nout)
    return tn_infer_fail(c, "has %u result%s, but %u are stated", c->nout, c->nout == 1 ? "" : "s",
                         d->nresults);
  for (uint32_t i = 0; stated && i < c->nout; i++) {
    if (!d->results[i] || d->results[i] >= c->m->types.count)
      return tn_infer_fail(c, "result %u has no type", i);
    c->out[i] = d->results[i];
  }
  uint32_t errors = c->m->diags ? c->m->diags->errors : 1;
  tn_status status = tn_op_infer(c);
  if (status) {
    bool told = !c->m->diags || c->m->diags->errors != errors;
    return told ? status : tn_infer_fail(c, "the result types cannot be inferred");
  }
  if (c->nout > TN_MAX_RESULTS)
    return tn_infer_fail(c, "%u results; the most is %d", c->nout, TN_MAX_RESULTS);
  if (stated && d->nresults != c->nout)
    return tn_infer_fail(c, "has %u results, but %u are stated", c->nout, d->nresults);
  for (uint32_t i = 0; i < c->nout; i++) {
    if (!c->out[i]) return tn_infer_fail(c, "the type of result %u must be stated", i);
    if (stated && c->out[i] != d->results[i]) return results_differ(c, i, d->results[i], c->out[i]);
  }
  return TN_OK;
}

/* ---- op_create ---- */

/* The return op states what the function returns. */
static tn_status returns_set(tn_module *m, tn_func f, const tn_value *in, uint32_t n, tn_loc loc) {
  tn_func_row *row = &m->funcs.items[f];
  for (tn_op op = row->body.first; op; op = m->ops.items[op].next)
    if (m->ops.items[op].code == TN_OPC_return)
      return tn_module_fail(m, TN_INVALID, loc, "return: function '%s' has one already", row->name);
  if (row->nresult_names && row->nresult_names != n)
    return tn_module_fail(m, TN_INVALID, loc, "return: function '%s' names %u results, but %u are returned",
                          row->name, row->nresult_names, n);
  tn_type *types = tn_arena_alloc(&m->arena, (n ? n : 1) * sizeof *types);
  if (!types) return tn_module_oom(m);
  for (uint32_t i = 0; i < n; i++) types[i] = m->values.items[in[i]].type;
  if (!row->nresult_names && n) {
    const char **names = tn_arena_alloc(&m->arena, n * sizeof *names);
    if (!names) return tn_module_oom(m);
    for (uint32_t i = 0; i < n; i++) {
      names[i] = n == 1 ? "out" : tn_arena_printf(&m->arena, "out%u", i);
      if (!names[i]) return tn_module_oom(m);
    }
    row->result_names = names;
    row->nresult_names = n;
  }
  row->results = types;
  row->nresults = n;
  return TN_OK;
}

/* Adds row, results and uses; undone when memory runs out half way. */
static tn_op op_commit(tn_module *m, tn_op_row row, tn_point at, const tn_type *types) {
  tn_op op = m->ops.count;
  uint32_t values = m->values.count, uses = 0;
  row.results = row.nresults ? values : 0;
  bool ok = tn_vec_push(&m->ops, row);
  for (uint32_t i = 0; ok && i < row.nresults; i++)
    ok = tn_vec_push(&m->values,
                     ((tn_value_row){.kind = TN_VALUE_RESULT, .index = i, .type = types[i], .owner = op}));
  for (; ok && uses < row.noperands; uses++)
    if (row.operands[uses]) ok = tn_vec_push(&m->values.items[row.operands[uses]].uses, ((tn_use){op, uses}));
  if (ok) {
    tn_op_link(m, op, at.func, at.parent, at.before);
    return op;
  }
  for (uint32_t i = 0; i < uses; i++) tn_use_remove(m, row.operands[i], op, i);
  m->values.count = values;
  if (m->ops.count > op) m->ops.count = op;
  tn_module_oom(m);
  return 0;
}

static tn_status create(tn_module *m, tn_point at, const tn_op_desc *d, tn_op *out) {
  uint32_t code = tn_ir_opcode_by_name(d->name);
  const tn_op_spec *s = tn_op_spec_of(code);
  if (!s) return tn_module_fail(m, TN_INVALID, d->loc, "there is no op '%s'", d->name ? d->name : "");
  if (!d->loc || d->loc >= m->locs.count)
    return tn_module_fail(m, TN_INVALID, 0, "%s: an op needs a location", s->name);
  TN_TRY(tn_point_check(m, &at, 0));
  if (code == TN_OPC_kernel && at.parent)
    return tn_module_fail(m, TN_INVALID, d->loc, "kernel: a kernel cannot be inside a kernel");
  uint32_t n = d->noperands;
  while (n > (uint32_t)s->min_in && !d->operands[n - 1] && s->max_in >= 0) n--; /* absent ones at the end */
  TN_TRY(tn_operands_check(m, code, d->operands, n, d->loc));
  TN_TRY(operands_visible(m, s, d->operands, n, at, d->loc));
  tn_op_row row = {
      .code = code, .loc = d->loc, .noperands = n, .operand_room = s->max_in > 0 ? (uint32_t)s->max_in : n};
  if (row.operand_room < n) row.operand_room = n;
  row.operands = tn_arena_alloc(&m->arena, (row.operand_room ? row.operand_room : 1) * sizeof *row.operands);
  row.attrs = tn_arena_alloc(&m->arena, (s->nattrs ? s->nattrs : 1) * sizeof *row.attrs);
  if (!row.operands || !row.attrs) return tn_module_oom(m);
  if (n) memcpy(row.operands, d->operands, n * sizeof *row.operands);
  TN_TRY(attrs_fill(m, s, d, row.attrs));
  tn_type types[TN_MAX_RESULTS] = {0};
  tn_infer c = {.m = m,
                .opcode = code,
                .in = row.operands,
                .nin = n,
                .nattrs = s->nattrs,
                .attrs = row.attrs,
                .out = types,
                .loc = d->loc};
  TN_TRY(results_infer(&c, s, d));
  row.nresults = c.nout;
  if (code == TN_OPC_return && !at.parent) TN_TRY(returns_set(m, at.func, row.operands, n, d->loc));
  *out = op_commit(m, row, at, types);
  return *out ? TN_OK : TN_OOM;
}

tn_op tn_ir_op_create(tn_module *m, tn_point at, const tn_op_desc *d) {
  tn_op op = 0;
  return create(m, at, d, &op) ? 0 : op;
}

tn_value tn_ir_body_arg_add(tn_module *m, tn_op kernel, tn_type t) {
  tn_op_row *op = tn_op_row_of(m, kernel);
  uint32_t i = op->body.args.count;
  if (op->code != TN_OPC_kernel || i >= op->noperands) {
    tn_module_fail(m, TN_INVALID, op->loc, "kernel: a body argument has no operand it could stand for");
    return 0;
  }
  if (m->values.items[op->operands[i]].type != t) {
    tn_buf a = {0}, b = {0};
    tn_type_print(m, t, &a);
    tn_type_print(m, m->values.items[op->operands[i]].type, &b);
    tn_module_fail(m, TN_INVALID, op->loc, "kernel: body argument %u is %s, but operand %u is %s", i,
                   tn_buf_cstr(&a), i, tn_buf_cstr(&b));
    tn_buf_fini(&a);
    tn_buf_fini(&b);
    return 0;
  }
  tn_value v = tn_value_new(m, TN_VALUE_ARG, i, t, kernel);
  if (v && !tn_list_push(m, &op->body.args, v)) {
    m->values.items[v].kind = 0;
    tn_module_oom(m);
    return 0;
  }
  return v;
}

/* ---- reading values ---- */

void tn_ir_value_get(tn_module *m, tn_value v, tn_value_info *out) {
  const tn_value_row *row = tn_value_row_of(m, v);
  *out = (tn_value_info){.kind = row->kind, .index = row->index, .type = row->type, .nuses = row->uses.count};
  switch (row->kind) {
  case TN_VALUE_RESULT: out->op = row->owner; break;
  case TN_VALUE_ARG: *(row->of_func ? &out->func : &out->op) = row->owner; break;
  case TN_VALUE_WEIGHT: out->weight = row->owner; break;
  case TN_VALUE_STATE: out->state = row->owner; break;
  }
}

tn_op tn_ir_value_use(tn_module *m, tn_value v, uint32_t i, uint32_t *operand) {
  const tn_value_row *row = tn_value_row_of(m, v);
  if (i >= row->uses.count) return 0;
  if (operand) *operand = row->uses.items[i].operand;
  return row->uses.items[i].op;
}

/* A hint of digits only would look like the number of an unnamed value. */
tn_status tn_ir_value_set_name(tn_module *m, tn_value v, const char *hint) {
  tn_value_row *row = tn_value_row_of(m, v);
  if (!row->kind) return tn_module_fail(m, TN_INVALID, 0, "there is no value %u", v);
  if (hint && row->name && !strcmp(hint, row->name)) return TN_OK;
  if (row->kind == TN_VALUE_WEIGHT || row->kind == TN_VALUE_STATE ||
      (row->kind == TN_VALUE_ARG && row->of_func))
    return tn_module_fail(m, TN_INVALID, 0, "'%s' is part of the module's interface and keeps its name",
                          row->name);
  const char *s = NULL;
  if (hint && *hint && !(s = tn_module_text(m, hint, "a value's name"))) return TN_INVALID;
  if (s && strspn(s, "0123456789") == strlen(s)) {
    char *marked = tn_arena_printf(&m->arena, "v%s", s);
    if (!marked) return tn_module_oom(m);
    s = marked;
  }
  row->name = s;
  return TN_OK;
}

const char *tn_ir_value_name(tn_module *m, tn_value v) { return tn_value_row_of(m, v)->name; }

/* ---- reading ops ---- */

tn_op tn_ir_first_op(tn_module *m, tn_func f, tn_op parent) {
  const tn_region *r = tn_region_of(m, f, parent);
  return r ? r->first : 0;
}

tn_op tn_ir_last_op(tn_module *m, tn_func f, tn_op parent) {
  const tn_region *r = tn_region_of(m, f, parent);
  return r ? r->last : 0;
}

tn_op tn_ir_next_op(tn_module *m, tn_op op) { return tn_op_row_of(m, op)->next; }
tn_op tn_ir_prev_op(tn_module *m, tn_op op) { return tn_op_row_of(m, op)->prev; }
tn_op tn_ir_parent_op(tn_module *m, tn_op op) { return tn_op_row_of(m, op)->parent; }

tn_func tn_ir_op_func(tn_module *m, tn_op op) {
  const tn_op_row *row = tn_op_row_of(m, op);
  return row->parent ? tn_op_row_of(m, row->parent)->func : row->func;
}

uint32_t tn_ir_opcode(tn_module *m, tn_op op) { return tn_op_row_of(m, op)->code; }
uint32_t tn_ir_op_noperands(tn_module *m, tn_op op) { return tn_op_row_of(m, op)->noperands; }

tn_value tn_ir_op_operand(tn_module *m, tn_op op, uint32_t i) {
  const tn_op_row *row = tn_op_row_of(m, op);
  return i < row->noperands ? row->operands[i] : 0;
}

uint32_t tn_ir_op_nresults(tn_module *m, tn_op op) { return tn_op_row_of(m, op)->nresults; }

tn_value tn_ir_op_result(tn_module *m, tn_op op, uint32_t i) {
  const tn_op_row *row = tn_op_row_of(m, op);
  return i < row->nresults ? row->results + i : 0;
}

uint32_t tn_ir_op_attr(tn_module *m, tn_op op, const char *name, tn_attr *out) {
  const tn_op_row *row = tn_op_row_of(m, op);
  int at = name ? tn_attr_find(tn_op_spec_of(row->code), name) : -1;
  if (at < 0) return 0;
  *out = row->attrs[at];
  return 1;
}

tn_loc tn_ir_op_loc(tn_module *m, tn_op op) { return tn_op_row_of(m, op)->loc; }

uint32_t tn_ir_body_nargs(tn_module *m, tn_op kernel) { return tn_op_row_of(m, kernel)->body.args.count; }

tn_value tn_ir_body_arg(tn_module *m, tn_op kernel, uint32_t i) {
  const tn_region *body = &tn_op_row_of(m, kernel)->body;
  return i < body->args.count ? body->args.items[i] : 0;
}
