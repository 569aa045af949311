/* fold_uniform.c - what has the same value everywhere folds at any size, also at one that is not known: it
 * becomes a scalar, spread. */
#include "passes/affine.h"
#include "passes/fold.h"
#include <math.h>

static tn_value scalar_of(tn_module *m, tn_op op, tn_value v) {
  double c;
  return tn_rw_splat(m, v, &c)
             ? tn_rw_scalar(m, tn_rw_before(op), tn_rw_type_info(m, v).dtype, c, tn_ir_op_loc(m, op))
             : 0;
}

/* 64-bit integers do not pass through a double unharmed. */
static bool holds(tn_module *m, tn_value v) {
  double c;
  return tn_rw_splat(m, v, &c) && fabs(c) <= 0x1p53;
}

/* All indices are within the table; then whatever they are, the result is the same. */
static bool in_range(tn_module *m, tn_value indices, tn_dim rows) {
  tn_affine x;
  tn_dim low, high;
  if (!tn_affine_of(m, indices, &x) || !tn_affine_range(m, &x, &low, &high)) return false;
  tn_rw_hush h = tn_rw_quiet(m);
  tn_dim count = tn_dim_add(m, high, tn_ir_dim_const(m, 1));
  bool fits = count && tn_dim_known_le(m, tn_ir_dim_const(m, 0), low) && tn_dim_known_le(m, count, rows);
  tn_rw_unhush(m, h);
  return fits;
}

/* A comparison of positions that comes out the same everywhere. */
static tn_value decided(tn_module *m, tn_op op) {
  bool yes;
  if (!tn_affine_decides(m, op, &yes)) return 0;
  return tn_rw_scalar(m, tn_rw_before(op), TN_DT_bool, yes, tn_ir_op_loc(m, op));
}

/* The operand that a condition known everywhere chooses; 0: none. */
static tn_value chosen(tn_module *m, tn_op op) {
  uint32_t code = tn_ir_opcode(m, op);
  double c;
  if (code == TN_OPC_select && tn_rw_splat(m, tn_ir_op_operand(m, op, 0), &c))
    return tn_ir_op_operand(m, op, c != 0 ? 1 : 2);
  if (code != TN_OPC_and && code != TN_OPC_or) return 0;
  if (tn_rw_type_info(m, tn_ir_op_result(m, op, 0)).dtype != TN_DT_bool) return 0;
  for (uint32_t i = 0; i < 2; i++)
    if (tn_rw_splat(m, tn_ir_op_operand(m, op, i), &c))
      return tn_ir_op_operand(m, op, (c != 0) == (code == TN_OPC_and) ? 1 - i : i);
  return 0;
}

/* The scalar that op gives everywhere; 0: it does not. */
static tn_value uniform(tn_module *m, tn_op op) {
  uint32_t n = tn_ir_op_noperands(m, op), code = tn_ir_opcode(m, op);
  tn_value in[3];
  if (code == TN_OPC_compare && (in[0] = decided(m, op))) return in[0];
  if (code == TN_OPC_transpose || code == TN_OPC_slice)
    return holds(m, tn_ir_op_operand(m, op, 0)) ? scalar_of(m, op, tn_ir_op_operand(m, op, 0)) : 0;
  if (code == TN_OPC_gather) {
    tn_value data = tn_ir_op_operand(m, op, 0);
    int64_t axis = tn_rw_int(m, op, "axis");
    tn_type_info t = tn_rw_type_info(m, data);
    if (axis < 0) axis += t.rank;
    return holds(m, data) && in_range(m, tn_ir_op_operand(m, op, 1), t.dims[axis]) ? scalar_of(m, op, data)
                                                                                   : 0;
  }
  if (!(tn_rw_flags(m, op) & TN_F_ELEMENTWISE) || !n || n > 3) return 0;
  for (uint32_t i = 0; i < n; i++)
    if (!holds(m, tn_ir_op_operand(m, op, i))) return 0;
  for (uint32_t i = 0; i < n; i++)
    if (!(in[i] = scalar_of(m, op, tn_ir_op_operand(m, op, i)))) return 0;
  const tn_op_spec *s = tn_op_spec_of(code);
  tn_named_attr attrs[8];
  if (s->nattrs > TN_COUNT(attrs)) return 0;
  for (uint32_t i = 0; i < s->nattrs; i++)
    attrs[i] = (tn_named_attr){s->attrs[i].name, tn_rw_attr(m, op, s->attrs[i].name)};
  tn_op_desc d = {s->name, in, n, s->nattrs, attrs, NULL, 0, tn_ir_op_loc(m, op)};
  tn_op made = tn_rw_try_create(m, tn_rw_before(op), &d);
  return made ? tn_ir_op_result(m, made, 0) : 0;
}

tn_value tn_fold_uniform(tn_module *m, tn_op op, tn_op *scalar) {
  tn_value old = tn_ir_op_result(m, op, 0), v = 0;
  int64_t bytes;
  if (tn_ir_dim_is_const(m, tn_type_bytes(m, tn_rw_type(m, old)), &bytes)) return 0;
  if ((v = chosen(m, op)) && tn_rw_type(m, v) == tn_rw_type(m, old)) return v;
  if (!v) v = uniform(m, op);
  if (!v) return 0;
  tn_type_info t = tn_rw_type_info(m, old);
  tn_named_attr shape = {"shape", {.kind = TN_ATTR_DIMS, .count = t.rank, .u.dims = t.dims}};
  *scalar = tn_rw_def(m, v);
  return tn_rw_build(m, tn_rw_before(op), TN_OPC_broadcast, &v, 1, &shape, 1, tn_ir_op_loc(m, op));
}
