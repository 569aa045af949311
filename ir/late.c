/* late.c - which symbols get their values while a function runs. A let_dim names its symbol; if and loop give
 * values to those symbols of their result types that no argument has and nothing before them mentions. */
#include "ir/late.h"

const tn_late_symbol *tn_late_symbol_of(const tn_late *late, tn_dim symbol) {
  for (uint32_t i = 0; i < late->symbols.count; i++)
    if (late->symbols.items[i].dim == symbol) return &late->symbols.items[i];
  return NULL;
}

static bool is_symbol(tn_module *m, tn_dim d) {
  tn_dim_info i;
  tn_ir_dim_get(m, d, &i);
  return i.kind == TN_DIM_SYM;
}

/* Symbols that arguments, or ops so far, mention; by dim: whether it was walked. */
typedef struct mentions {
  tn_module *m;
  TN_VEC(bool) seen;
  bool oom;
} mentions;

static bool is_seen(const mentions *x, tn_dim d) { return d < x->seen.count && x->seen.items[d]; }

static void see(mentions *x, tn_dim d) {
  if (is_seen(x, d)) return;
  while (x->seen.count <= d && !x->oom) x->oom = !tn_vec_push(&x->seen, false);
  if (x->oom) return;
  x->seen.items[d] = true;
  tn_dim_info i;
  tn_ir_dim_get(x->m, d, &i);
  if (i.kind >= TN_DIM_ADD && i.kind != TN_DIM_UNKNOWN) see(x, i.a), see(x, i.b);
}

static void see_value(mentions *x, tn_value v) {
  tn_value_info info;
  tn_type_info t;
  tn_ir_value_get(x->m, v, &info);
  tn_ir_type_get(x->m, info.type, &t);
  for (uint32_t k = 0; k < t.rank; k++) see(x, t.dims[k]);
}

static void see_op(mentions *x, tn_op op) {
  const tn_op_spec *s = tn_op_spec_of(tn_ir_opcode(x->m, op));
  for (uint32_t i = 0; i < s->nattrs; i++) {
    tn_attr a;
    if (!tn_ir_op_attr(x->m, op, s->attrs[i].name, &a)) continue;
    if (a.kind == TN_ATTR_DIM) see(x, a.u.dim);
    for (uint32_t k = 0; a.kind == TN_ATTR_DIMS && k < a.count; k++) see(x, a.u.dims[k]);
  }
  for (uint32_t r = 0; r < tn_ir_op_nresults(x->m, op); r++) see_value(x, tn_ir_op_result(x->m, op, r));
}

static void add(tn_late *late, tn_dim symbol, tn_op op, uint32_t place) {
  if (tn_late_symbol_of(late, symbol)) return;
  late->oom |= !tn_vec_push(&late->symbols, ((tn_late_symbol){symbol, op, place}));
}

static void add_results(tn_late *late, const mentions *x, tn_op op, uint32_t place) {
  for (uint32_t r = 0; r < tn_ir_op_nresults(late->m, op); r++) {
    tn_value_info v;
    tn_type_info t;
    tn_ir_value_get(late->m, tn_ir_op_result(late->m, op, r), &v);
    tn_ir_type_get(late->m, v.type, &t);
    for (uint32_t k = 0; k < t.rank; k++)
      if (is_symbol(late->m, t.dims[k]) && !is_seen(x, t.dims[k])) add(late, t.dims[k], op, place);
  }
}

static bool has_host_ops(tn_module *m, tn_func f) {
  for (tn_op op = tn_ir_first_op(m, f, 0); op; op = tn_ir_next_op(m, op))
    if (tn_op_spec_of(tn_ir_opcode(m, op))->flags & TN_F_HOST) return true;
  return false;
}

bool tn_late_find(tn_module *m, tn_func f, tn_late *late) {
  *late = (tn_late){.m = m};
  if (!has_host_ops(m, f)) return true;
  mentions x = {.m = m};
  tn_func_info info;
  tn_ir_func_get(m, f, &info);
  uint32_t place = 0;
  for (uint32_t i = 0; i < info.nargs; i++) see_value(&x, info.args[i]);
  for (tn_op op = tn_ir_first_op(m, f, 0); op; op = tn_ir_next_op(m, op)) {
    tn_attr dim;
    uint32_t code = tn_ir_opcode(m, op);
    place++;
    if (code == TN_OPC_let_dim && tn_ir_op_attr(m, op, "dim", &dim)) add(late, dim.u.dim, op, place);
    if (code == TN_OPC_if || code == TN_OPC_loop) add_results(late, &x, op, place);
    see_op(&x, op);
  }
  late->oom |= x.oom;
  tn_vec_fini(&x.seen);
  return !late->oom;
}

void tn_late_fini(tn_late *late) {
  tn_vec_fini(&late->symbols);
  tn_vec_fini(&late->known);
}

static uint32_t find_place(tn_late *late, tn_dim d) {
  tn_dim_info i;
  tn_ir_dim_get(late->m, d, &i);
  if (i.kind == TN_DIM_CONST || i.kind == TN_DIM_UNKNOWN) return 0;
  if (i.kind == TN_DIM_SYM) {
    const tn_late_symbol *s = tn_late_symbol_of(late, d);
    return s ? s->place : 0;
  }
  uint32_t a = tn_late_place(late, i.a), b = tn_late_place(late, i.b);
  return a > b ? a : b;
}

uint32_t tn_late_place(tn_late *late, tn_dim d) {
  if (!late->symbols.count) return 0;
  while (late->known.count <= d)
    if (!tn_vec_push(&late->known, 0)) return late->oom = true, 0;
  if (!late->known.items[d]) {
    uint32_t place = find_place(late, d);
    late->known.items[d] = place + 1; /* behind the call: it may have moved the table */
  }
  return late->known.items[d] - 1;
}
