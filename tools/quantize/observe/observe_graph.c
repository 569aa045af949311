/* observe_graph.c - products of a function with weights, and the function's results replaced by what is
 * observed: the passes behind then keep exactly those values and what leads to them. */
#include "tools/quantize/observe/observe_graph.h"
#include "passes/rw.h"

/* The weight behind views of it; *flipped: an odd number of times its last two dims were exchanged. */
static tn_weight weight_behind(tn_module *m, tn_value v, bool *flipped) {
  *flipped = false;
  for (;;) {
    tn_value_info i;
    tn_ir_value_get(m, v, &i);
    if (i.kind == TN_VALUE_WEIGHT) return i.weight;
    tn_op def = i.kind == TN_VALUE_RESULT ? i.op : 0;
    if (tn_rw_is(m, def, TN_OPC_transpose)) {
      tn_attr perm = tn_rw_attr(m, def, "perm");
      if (perm.count != 2) return 0;
      *flipped ^= perm.u.ints[0] == 1;
    } else if (!tn_rw_is(m, def, TN_OPC_cast) && !tn_rw_is(m, def, TN_OPC_dequant)) {
      return 0;
    }
    v = tn_ir_op_operand(m, def, 0);
  }
}

/* The length of v's last dim; 0: not a number. */
static uint32_t columns_of(tn_module *m, tn_value v) {
  tn_type_info t = tn_rw_type_info(m, v);
  int64_t n;
  return t.rank && tn_ir_dim_is_const(m, t.dims[t.rank - 1], &n) && n > 0 && n <= UINT32_MAX ? (uint32_t)n
                                                                                             : 0;
}

static bool product_of(tn_module *m, tn_op op, tn_product *p) {
  bool experts = tn_rw_is(m, op, TN_OPC_expert_matmul), flipped;
  if (!experts && (!tn_rw_is(m, op, TN_OPC_matmul) || tn_rw_int(m, op, "trans_a"))) return false;
  *p = (tn_product){.op = op, .input = tn_ir_op_operand(m, op, 0)};
  p->weight = weight_behind(m, tn_ir_op_operand(m, op, 1), &flipped);
  p->columns = columns_of(m, p->input);
  p->experts = experts ? tn_ir_op_operand(m, op, 2) : 0;
  p->transposed = !experts && (tn_rw_int(m, op, "trans_b") != 0) == flipped;
  const tn_dtype_info *d = tn_ir_dtype_info(tn_rw_type_info(m, p->input).dtype);
  return p->weight && p->columns && d && d->cls == TN_CLASS_FLOAT;
}

tn_status tn_products_find(tn_module *m, tn_func f, tn_products *out) {
  tn_product p;
  for (tn_op op = tn_ir_first_op(m, f, 0); op; op = tn_ir_next_op(m, op))
    if (product_of(m, op, &p) && !tn_vec_push(out, p)) return TN_OOM;
  return TN_OK;
}

tn_func tn_products_func(tn_module *m) {
  tn_func best = 0;
  uint32_t most = 0;
  for (tn_func f = 1; f <= tn_ir_func_count(m); f++) {
    tn_func_info info;
    tn_product p;
    uint32_t n = 0;
    tn_ir_func_get(m, f, &info);
    for (tn_op op = tn_ir_first_op(m, f, 0); op; op = tn_ir_next_op(m, op)) n += product_of(m, op, &p);
    if (n && !strcmp(info.name, "logits")) return f;
    if (n > most) most = n, best = f;
  }
  return best;
}

/* ---- results ------------------------------------------------------------------------------------------- */

static tn_op return_of(tn_module *m, tn_func f) {
  tn_op op = tn_ir_last_op(m, f, 0);
  return tn_rw_is(m, op, TN_OPC_return) ? op : 0;
}

/* Whether f calls other functions. */
static bool calls(tn_module *m, tn_func f) {
  for (tn_op op = tn_ir_first_op(m, f, 0); op; op = tn_ir_next_op(m, op))
    if (tn_rw_is(m, op, TN_OPC_if) || tn_rw_is(m, op, TN_OPC_loop)) return true;
  return false;
}

/* Effects too: what is written to a state that nothing reads any more. */
static tn_status sweep(tn_module *m, tn_func f) {
  for (tn_op op = tn_ir_last_op(m, f, 0), before; op; op = before) {
    bool used = tn_rw_is(m, op, TN_OPC_return) || (tn_rw_flags(m, op) & TN_F_HOST);
    before = tn_ir_prev_op(m, op);
    for (uint32_t i = 0; i < tn_ir_op_nresults(m, op) && !used; i++)
      used = tn_rw_nuses(m, tn_ir_op_result(m, op, i)) > 0;
    if (!used) TN_TRY(tn_ir_op_erase(m, op));
  }
  return TN_OK;
}

tn_status tn_observe_results(tn_module *m, tn_func f, const tn_value *values, const char *const *names,
                             uint32_t n) {
  tn_op old = return_of(m, f);
  if (!old) return TN_INTERNAL;
  tn_loc loc = tn_ir_op_loc(m, old);
  TN_TRY(tn_ir_op_erase(m, old));
  TN_TRY(tn_ir_func_result_names(m, f, names, n));
  tn_op_desc d = {.name = "return", .operands = values, .noperands = n, .loc = loc};
  if (!tn_ir_op_create(m, (tn_point){.func = f}, &d)) return TN_INVALID;
  TN_TRY(sweep(m, f));
  return f < tn_ir_func_count(m) && !calls(m, f) ? tn_ir_func_drop(m, f + 1) : TN_OK;
}

static bool is_computed(tn_module *m, tn_op op) {
  switch (tn_ir_opcode(m, op)) {
  case TN_OPC_constant:
  case TN_OPC_iota:
  case TN_OPC_kv_update:
  case TN_OPC_reshape:
  case TN_OPC_return: return false;
  default: return true;
  }
}

/* Whether an operand of op is an argument or was computed from one. */
static bool depends(tn_module *m, const tn_marks *live, tn_op op) {
  for (uint32_t i = 0; i < tn_ir_op_noperands(m, op); i++) {
    tn_value v = tn_ir_op_operand(m, op, i);
    if (v && (tn_rw_kind(m, v) == TN_VALUE_ARG || tn_marks_get(live, v))) return true;
  }
  return false;
}

tn_status tn_observe_values(tn_module *m, tn_func f, tn_value_list *out) {
  tn_marks live = {0};
  tn_status s = TN_OK;
  for (tn_op op = tn_ir_first_op(m, f, 0); op && s == TN_OK; op = tn_ir_next_op(m, op)) {
    if (!depends(m, &live, op)) continue;
    for (uint32_t i = 0; i < tn_ir_op_nresults(m, op) && s == TN_OK; i++) {
      tn_value v = tn_ir_op_result(m, op, i);
      const tn_dtype_info *d = tn_ir_dtype_info(tn_rw_type_info(m, v).dtype);
      bool wanted = d && d->cls == TN_CLASS_FLOAT && is_computed(m, op);
      if (!tn_marks_set(&live, v, 1) || (wanted && !tn_vec_push(out, v))) s = TN_OOM;
    }
  }
  tn_marks_fini(&live);
  return s;
}

/* ---- pieces -------------------------------------------------------------------------------------------- */

/* Whether an operand of op is a weight or was computed from one. */
static bool heavy(tn_module *m, const tn_marks *made, tn_op op) {
  for (uint32_t i = 0; i < tn_ir_op_noperands(m, op); i++) {
    tn_value v = tn_ir_op_operand(m, op, i);
    if (v && (tn_rw_kind(m, v) == TN_VALUE_WEIGHT || tn_marks_get(made, v))) return true;
  }
  return false;
}

/* Whether an op from `at` on reads v. `behind`: marks of those ops. */
static bool read_behind(tn_module *m, const tn_marks *behind, tn_value v) {
  for (uint32_t i = 0, operand; i < tn_rw_nuses(m, v); i++)
    if (tn_marks_get(behind, tn_ir_value_use(m, v, i, &operand))) return true;
  return false;
}

tn_status tn_observe_live(tn_module *m, tn_func f, tn_op at, tn_value_list *out) {
  tn_marks made = {0}, behind = {0};
  bool ok = true;
  for (tn_op op = at; op && ok; op = tn_ir_next_op(m, op)) ok = tn_marks_set(&behind, op, 1);
  for (tn_op op = tn_ir_first_op(m, f, 0); op && op != at && ok; op = tn_ir_next_op(m, op)) {
    if (!heavy(m, &made, op)) continue;
    for (uint32_t i = 0; i < tn_ir_op_nresults(m, op) && ok; i++) {
      tn_value v = tn_ir_op_result(m, op, i);
      ok = tn_marks_set(&made, v, 1);
      if (ok && !tn_rw_is(m, op, TN_OPC_kv_update) && read_behind(m, &behind, v)) ok = tn_vec_push(out, v);
    }
  }
  tn_marks_fini(&made);
  tn_marks_fini(&behind);
  return ok ? TN_OK : TN_OOM;
}

tn_status tn_observe_carry(tn_module *m, tn_func f, tn_value *values, uint32_t n) {
  for (uint32_t i = 0; i < n; i++) {
    char name[32];
    snprintf(name, sizeof name, TN_CARRIED "%u", i);
    tn_value arg = tn_ir_func_arg_add(m, f, name, tn_rw_type(m, values[i]));
    if (!arg) return TN_INVALID;
    TN_TRY(tn_ir_value_replace(m, values[i], arg));
  }
  return TN_OK;
}

tn_status tn_observe_replace(tn_module *m, tn_weight w, const char *file, uint64_t offset) {
  tn_weight_info info;
  tn_type_info t;
  tn_ir_weight_get(m, w, &info);
  tn_ir_type_get(m, info.type, &t);
  int64_t n;
  tn_type f32 = tn_ir_type_make(m, TN_DT_f32, t.rank, t.dims, NULL);
  if (!f32 || !tn_ir_dim_is_const(m, tn_type_bytes(m, f32), &n)) return TN_INTERNAL;
  tn_part part = {file, offset, (uint64_t)n};
  tn_buf name = {0};
  tn_buf_printf(&name, "%s.replaced", info.name);
  tn_weight made = tn_ir_weight_add(m, tn_buf_cstr(&name), f32, &part, 1);
  tn_buf_fini(&name);
  if (!made) return TN_INVALID;
  tn_weight_info to;
  tn_ir_weight_get(m, made, &to);
  return tn_ir_value_replace(m, info.value, to.value);
}
