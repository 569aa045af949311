/* verify.c - whether a module is sound: lists, uses, order, types, terminators, weights. Every fault is
 * reported at its op; nothing is changed. */
#include "ir/module.h"

typedef struct verifier {
  tn_module *m;
  bool *defined;  /* by value: seen before the current op, in the current body */
  uint32_t *uses; /* by value: counted while walking */
  bool *linked;   /* by op: seen in a list */
  uint32_t errors;
} verifier;

static void fault(verifier *v, tn_loc l, const char *fmt, ...) TN_PRINTF(3, 4);
static void fault(verifier *v, tn_loc l, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  tn_module_report_v(v->m, TN_ERROR, l, NULL, fmt, ap);
  va_end(ap);
  v->errors++;
}

/* A message about an op and one of its values: "NAME: operand 1, %x, WHAT". */
static void value_fault(verifier *v, const tn_op_row *op, const char *role, uint32_t i, tn_value x,
                        const char *what) {
  tn_buf text = {0};
  tn_text_value(v->m, x, &text);
  fault(v, op->loc, "%s: %s %u, %s, %s", tn_ir_opcode_name(op->code), role, i, tn_buf_cstr(&text), what);
  tn_buf_fini(&text);
}

static void types_differ(verifier *v, tn_loc l, const char *who, uint32_t i, tn_type a, const char *what,
                         tn_type b) {
  tn_buf x = {0}, y = {0};
  tn_type_print(v->m, a, &x);
  tn_type_print(v->m, b, &y);
  fault(v, l, "%s %u is %s, but %s %s", who, i, tn_buf_cstr(&x), what, tn_buf_cstr(&y));
  tn_buf_fini(&x);
  tn_buf_fini(&y);
}

/* ---- one op ---- */

static void check_operands(verifier *v, tn_op id, bool in_kernel) {
  const tn_op_row *op = &v->m->ops.items[id];
  for (uint32_t i = 0; i < op->noperands; i++) {
    tn_value x = op->operands[i];
    if (!x) continue;
    const tn_value_row *row = tn_value_row_of(v->m, x);
    bool global = row->kind == TN_VALUE_WEIGHT || row->kind == TN_VALUE_STATE;
    if (!row->kind) {
      value_fault(v, op, "operand", i, x, "is gone");
      continue;
    }
    v->uses[x]++;
    bool listed = false;
    for (uint32_t k = 0; k < row->uses.count; k++)
      listed |= row->uses.items[k].op == id && row->uses.items[k].operand == i;
    if (!listed) value_fault(v, op, "operand", i, x, "does not know of this use");
    if (global ? in_kernel : !v->defined[x])
      value_fault(v, op, "operand", i, x,
                  global ? "cannot be read inside a kernel" : "is not defined before its use");
  }
}

static void check_results(verifier *v, tn_op id) {
  tn_op_row op = v->m->ops.items[id];
  const tn_op_spec *s = tn_op_spec_of(op.code);
  tn_type types[TN_MAX_RESULTS] = {0};
  if (op.nresults > TN_MAX_RESULTS) return;
  for (uint32_t i = 0; i < op.nresults; i++) {
    const tn_value_row *row = &v->m->values.items[op.results + i];
    types[i] = row->type;
    if (row->kind != TN_VALUE_RESULT || row->owner != id || row->index != i)
      value_fault(v, &op, "result", i, op.results + i, "belongs to something else");
  }
  if (tn_operands_check(v->m, op.code, op.operands, op.noperands, op.loc)) {
    v->errors++;
    return;
  }
  tn_infer c = {.m = v->m,
                .opcode = op.code,
                .in = op.operands,
                .nin = op.noperands,
                .nattrs = s->nattrs,
                .attrs = op.attrs,
                .nout = op.nresults,
                .out = types,
                .loc = op.loc};
  if (tn_op_infer(&c)) {
    v->errors++;
    return;
  }
  if (c.nout != op.nresults)
    fault(v, op.loc, "%s: has %u results, but %u are inferred", s->name, op.nresults, c.nout);
  for (uint32_t i = 0; i < op.nresults && i < c.nout; i++) {
    tn_type is = v->m->values.items[op.results + i].type;
    if (types[i] != is) types_differ(v, op.loc, "result", i, is, "is inferred as", types[i]);
  }
}

/* ---- bodies ---- */

static void check_region(verifier *v, tn_func f, tn_op parent);

/* A kernel's arguments mirror its operands, its yield its results. */
static void check_kernel(verifier *v, tn_op id) {
  tn_op_row op = v->m->ops.items[id];
  if (op.body.args.count != op.noperands)
    fault(v, op.loc, "kernel: has %u operands, but its body has %u arguments", op.noperands,
          op.body.args.count);
  for (uint32_t i = 0; i < op.body.args.count && i < op.noperands; i++) {
    tn_type a = v->m->values.items[op.body.args.items[i]].type,
            b = tn_value_row_of(v->m, op.operands[i])->type;
    if (a != b) types_differ(v, op.loc, "kernel: body argument", i, a, "its operand is", b);
  }
  const tn_op_row *end = tn_op_row_of(v->m, op.body.last);
  if (end->code == TN_OPC_yield) {
    if (end->noperands != op.nresults)
      fault(v, end->loc, "yield: gives %u values, but the kernel has %u results", end->noperands,
            op.nresults);
    for (uint32_t i = 0; i < end->noperands && i < op.nresults; i++) {
      tn_type a = tn_value_row_of(v->m, end->operands[i])->type, b = v->m->values.items[op.results + i].type;
      if (a != b) types_differ(v, end->loc, "yield: operand", i, a, "the kernel's result is", b);
    }
  }
  check_region(v, 0, id);
}

static void check_return(verifier *v, const tn_op_row *op, tn_func f) {
  const tn_func_row *row = &v->m->funcs.items[f];
  if (op->noperands != row->nresults)
    fault(v, op->loc, "return: gives %u values, but function '%s' has %u results", op->noperands, row->name,
          row->nresults);
  for (uint32_t i = 0; i < op->noperands && i < row->nresults; i++) {
    tn_type is = tn_value_row_of(v->m, op->operands[i])->type;
    if (is != row->results[i])
      types_differ(v, op->loc, "return: operand", i, is, "the function states", row->results[i]);
  }
}

static void check_terminator(verifier *v, tn_op id, tn_func f, tn_op parent) {
  const tn_op_row *op = &v->m->ops.items[id];
  const tn_op_spec *s = tn_op_spec_of(op->code);
  uint32_t wanted = parent ? TN_OPC_yield : TN_OPC_return;
  if (!(s->flags & TN_F_TERMINATOR)) {
    if (!op->next)
      fault(v, op->loc, "%s: the last op of a %s must be %s", s->name, parent ? "kernel" : "function",
            tn_ir_opcode_name(wanted));
    return;
  }
  if (op->code != wanted) fault(v, op->loc, "%s: cannot end a %s", s->name, parent ? "kernel" : "function");
  if (op->next) fault(v, op->loc, "%s: is not the last op of its body", s->name);
  if (op->code == TN_OPC_return && !parent) check_return(v, op, f);
}

static bool check_links(verifier *v, tn_op id, tn_op prev, tn_func f, tn_op parent) {
  const tn_op_row *op = tn_op_row_of(v->m, id);
  bool sound =
      op->code && !v->linked[id] && op->prev == prev && op->parent == parent && (parent || op->func == f);
  if (!sound)
    fault(v, op->loc, "op %u is linked into the wrong place", id);
  else
    v->linked[id] = true;
  return sound;
}

static void check_region(verifier *v, tn_func f, tn_op parent) {
  tn_region r = *tn_region_of(v->m, f, parent);
  tn_loc where = parent ? v->m->ops.items[parent].loc : 0;
  for (uint32_t i = 0; i < r.args.count; i++) v->defined[r.args.items[i]] = true;
  if (!r.first && parent) fault(v, where, "kernel: the body is empty");
  if (!r.first && f) fault(v, 0, "function '%s' is empty", v->m->funcs.items[f].name);
  tn_op prev = 0;
  for (tn_op id = r.first; id; prev = id, id = v->m->ops.items[id].next) {
    if (!check_links(v, id, prev, f, parent)) return;
    tn_op_row op = v->m->ops.items[id];
    check_operands(v, id, parent != 0);
    check_results(v, id);
    check_terminator(v, id, f, parent);
    if (op.code == TN_OPC_kernel && parent)
      fault(v, op.loc, "kernel: a kernel cannot be inside a kernel");
    else if (op.code == TN_OPC_kernel)
      check_kernel(v, id);
    for (uint32_t i = 0; i < op.nresults; i++) v->defined[op.results + i] = true;
  }
  if (r.last != prev) fault(v, where, "the last op of a body is %u, but its list ends with %u", r.last, prev);
  /* What is defined here is not seen elsewhere. */
  for (uint32_t i = 0; i < r.args.count; i++) v->defined[r.args.items[i]] = false;
  for (tn_op id = r.first; id; id = v->m->ops.items[id].next)
    for (uint32_t i = 0; i < v->m->ops.items[id].nresults; i++)
      v->defined[v->m->ops.items[id].results + i] = false;
}

/* ---- the module ---- */

/* The parts of a plain weight must hold exactly its bytes. */
static void check_weight(verifier *v, const tn_weight_row *w) {
  tn_type_info t;
  tn_type type = v->m->values.items[w->value].type;
  tn_ir_type_get(v->m, type, &t);
  uint64_t sum = 0;
  int64_t want;
  bool fits = true;
  if (t.layout || !w->nparts) return;
  for (uint32_t i = 0; i < w->nparts; i++) {
    uint64_t end;
    fits &=
        tn_add_u64(sum, w->parts[i].bytes, &sum) && tn_add_u64(w->parts[i].offset, w->parts[i].bytes, &end);
  }
  tn_dim bytes = tn_type_bytes(v->m, type);
  if (!bytes)
    v->errors++; /* reported */
  else if (!tn_ir_dim_is_const(v->m, bytes, &want))
    fault(v, 0, "weight '%s' has a symbolic size", w->name);
  else if (!fits || (!w->form && sum != (uint64_t)want))
    fault(v, 0, "weight '%s': its type has %lld bytes, but its parts have %llu", w->name, (long long)want,
          (unsigned long long)sum);
}

static void check_uses(verifier *v) {
  for (tn_value x = 1; x < v->m->values.count; x++) {
    const tn_value_row *row = &v->m->values.items[x];
    if (!row->kind || row->uses.count == v->uses[x]) continue;
    tn_buf text = {0};
    tn_text_value(v->m, x, &text);
    fault(v, 0, "value %s lists %u uses, but has %u", tn_buf_cstr(&text), row->uses.count, v->uses[x]);
    tn_buf_fini(&text);
  }
}

tn_status tn_module_verify(tn_module *m) {
  verifier v = {.m = m};
  v.defined = tn_mem_alloc(m->values.count * sizeof *v.defined);
  v.uses = tn_mem_alloc(m->values.count * sizeof *v.uses);
  v.linked = tn_mem_alloc(m->ops.count * sizeof *v.linked);
  bool ready = v.defined && v.uses && v.linked;
  for (uint32_t i = 1; ready && i < m->weights.count; i++) check_weight(&v, &m->weights.items[i]);
  for (tn_func f = 1; ready && f < m->funcs.count; f++) check_region(&v, f, 0);
  if (ready && !v.errors) check_uses(&v); /* after other faults the counts are not complete */
  tn_mem_free(v.defined);
  tn_mem_free(v.uses);
  tn_mem_free(v.linked);
  if (!ready) return tn_module_oom(m);
  return v.errors ? TN_INVALID : tn_verify_host(m);
}
