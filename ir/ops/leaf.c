/* leaf.c - ops without operands: constant, iota, random_uniform. */
#include "ops.h"

tn_status tn_infer_constant(tn_infer *c) {
  TN_TRY(tn_ops_read(c, NULL, 0));
  if (!c->out[0]) return tn_ops_fail(c, "the result type of a constant must be stated");
  tn_dim bytes = tn_type_bytes(c->m, c->out[0]);
  if (!bytes) return TN_INVALID;
  int64_t want, got = (int64_t)c->attrs[TN_A_constant_value].u.data.len;
  if (!tn_ir_dim_is_const(c->m, bytes, &want))
    return tn_ops_fail(c, "a constant cannot have symbolic dims: %T", c->out[0]);
  if (want != got) return tn_ops_fail(c, "value has %l bytes, %T has %l", got, c->out[0], want);
  return TN_OK;
}

tn_status tn_infer_iota(tn_infer *c) {
  TN_TRY(tn_ops_read(c, NULL, 0));
  tn_shape s;
  TN_TRY(tn_ops_shape_attr(c, TN_A_iota_shape, &s));
  uint32_t axis;
  if (s.rank) TN_TRY(tn_ops_axis(c, c->attrs[TN_A_iota_axis].u.i, s.rank, &axis));
  tn_dtype t = (tn_dtype)c->attrs[TN_A_iota_dtype].u.i;
  const tn_dtype_info *d = tn_ir_dtype_info(t);
  if (t != TN_DT_i32 && t != TN_DT_i64 && (!d || d->cls != TN_CLASS_FLOAT))
    return tn_ops_fail(c, "dtype is %s, wants i32, i64 or a float type", tn_ops_dtype_name(t));
  return tn_ops_result(c, 0, t, &s);
}

tn_status tn_infer_random_uniform(tn_infer *c) {
  TN_TRY(tn_ops_read(c, NULL, 0));
  tn_shape s;
  TN_TRY(tn_ops_shape_attr(c, TN_A_random_uniform_shape, &s));
  return tn_ops_result(c, 0, TN_DT_f32, &s);
}
