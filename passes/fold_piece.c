/* fold_piece.c - a piece of tensors that were joined a moment ago is one of them: what exporters compute from
 * shapes, element by element, is put together and taken apart again and again. */
#include "passes/affine.h"
#include "passes/fold.h"

typedef struct joint {
  tn_module *m;
  tn_op concat;
  uint32_t axis;
} joint;

/* The concat behind v; false: there is none. */
static bool joint_of(tn_module *m, tn_value v, int64_t axis, joint *j) {
  tn_op op = tn_rw_def_as(m, v, TN_OPC_concat);
  int64_t rank = tn_rw_type_info(m, v).rank, along = op ? tn_rw_int(m, op, "axis") : 0;
  if (!op) return false;
  if (axis < 0) axis += rank;
  if (along < 0) along += rank;
  *j = (joint){m, op, (uint32_t)axis};
  return axis == along;
}

/* The part that has element `at` of the axis; *first: where it begins. 0: sizes before it are not known. */
static tn_value part_at(const joint *j, int64_t at, int64_t *first, int64_t *size) {
  *first = 0;
  for (uint32_t i = 0; i < tn_ir_op_noperands(j->m, j->concat); i++) {
    tn_value v = tn_ir_op_operand(j->m, j->concat, i);
    if (!tn_ir_dim_is_const(j->m, tn_rw_type_info(j->m, v).dims[j->axis], size)) return 0;
    if (at < *first + *size) return v;
    *first += *size;
  }
  return 0;
}

static tn_value reshaped(tn_module *m, tn_op op, tn_value v) {
  tn_type_info t = tn_rw_type_info(m, tn_ir_op_result(m, op, 0));
  tn_named_attr a = {"shape", {.kind = TN_ATTR_DIMS, .count = t.rank, .u.dims = t.dims}};
  tn_op_desc d = {"reshape", &v, 1, 1, &a, NULL, 0, tn_ir_op_loc(m, op)};
  tn_op made = v ? tn_rw_try_create(m, tn_rw_before(op), &d) : 0;
  return made ? tn_ir_op_result(m, made, 0) : 0;
}

/* gather(concat(...), i), where i is one number and the part has one element */
static tn_value gathered(tn_module *m, tn_op op) {
  tn_value data = tn_ir_op_operand(m, op, 0), index = tn_ir_op_operand(m, op, 1);
  int64_t first, size, all, one, axis = tn_rw_int(m, op, "axis");
  double at;
  joint j;
  if (!joint_of(m, data, axis, &j) || !tn_rw_splat(m, index, &at)) return 0;
  if (!tn_ir_dim_is_const(m, tn_rw_type_info(m, data).dims[j.axis], &all)) return 0;
  if (!tn_ir_dim_is_const(m, tn_type_elements(m, tn_rw_type(m, index)), &one) || one != 1) return 0;
  if (at < 0) at += (double)all;
  if (!(at >= 0 && at < (double)all)) return 0;
  tn_value part = part_at(&j, (int64_t)at, &first, &size);
  return part && size == 1 ? reshaped(m, op, part) : 0;
}

/* slice(concat(...)) that begins and ends where parts do */
static tn_value sliced(tn_module *m, tn_op op) {
  int64_t start, stop, first, size, axis = tn_rw_int(m, op, "axis");
  tn_value parts[64];
  uint32_t n = 0;
  joint j;
  if (!joint_of(m, tn_ir_op_operand(m, op, 0), axis, &j) || tn_rw_int(m, op, "step") != 1) return 0;
  if (!tn_ir_dim_is_const(m, tn_rw_attr(m, op, "start").u.dim, &start) ||
      !tn_ir_dim_is_const(m, tn_rw_attr(m, op, "stop").u.dim, &stop))
    return 0;
  for (int64_t at = start; at < stop; at += size) {
    tn_value part = part_at(&j, at, &first, &size);
    if (!part || first != at || first + size > stop || n == TN_COUNT(parts)) return 0;
    parts[n++] = part;
  }
  tn_named_attr a = {"axis", {.kind = TN_ATTR_INT, .u.i = j.axis}};
  if (n < 2) return n ? parts[0] : 0;
  return tn_rw_build(m, tn_rw_before(op), TN_OPC_concat, parts, n, &a, 1, tn_ir_op_loc(m, op));
}

/* gather whose indices count the rows one by one, in order: the rows as they are */
static tn_value in_order(tn_module *m, tn_op op) {
  tn_value data = tn_ir_op_operand(m, op, 0), index = tn_ir_op_operand(m, op, 1);
  tn_dim stride = tn_ir_dim_const(m, 1);
  tn_affine x;
  double same;
  if (tn_rw_splat(m, data, &same)) return 0; /* that is spread anew */
  if (tn_rw_int(m, op, "axis") != 0 || !tn_affine_of(m, index, &x) || !tn_rw_dim_is(m, x.base, 0)) return 0;
  for (uint32_t i = x.rank; stride && i--;) {
    if (tn_rw_dim_is(m, x.dims[i], 1)) continue;
    if (x.coef[i] != stride) return 0;
    stride = tn_dim_mul(m, stride, x.dims[i]);
  }
  bool all = stride && tn_dim_known_eq(m, stride, tn_rw_type_info(m, data).dims[0]);
  return all ? reshaped(m, op, data) : 0;
}

tn_value tn_fold_piece(tn_module *m, tn_op op) {
  switch (tn_ir_opcode(m, op)) {
  case TN_OPC_gather: {
    tn_value v = gathered(m, op);
    return v ? v : in_order(m, op);
  }
  case TN_OPC_slice: return sliced(m, op);
  default: return 0;
  }
}
