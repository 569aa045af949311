/* reduce.c - reductions over axes, and the ops that run along one axis: argmax, argmin, cumsum, cumprod,
 * sort, top_k, softmax.
 */
#include "ops.h"

/* Removes the axes of `mask` from s, or makes them 1. */
static void drop_axes(tn_infer *c, tn_shape *s, uint32_t mask, bool keep) {
  uint32_t n = 0;
  for (uint32_t i = 0; i < s->rank; i++) {
    if (!(mask & 1u << i))
      s->dims[n++] = s->dims[i];
    else if (keep)
      s->dims[n++] = tn_ir_dim_const(c->m, 1);
  }
  s->rank = n;
}

static tn_status reduce(tn_infer *c) {
  /* All reductions have the attributes of TN_REDUCE. */
  const tn_attr *axes = &c->attrs[TN_A_reduce_sum_axes];
  tn_in x;
  uint32_t mask = 0, axis;
  TN_TRY(tn_ops_read(c, &x, 1));
  for (uint32_t i = 0; i < axes->count; i++) {
    TN_TRY(tn_ops_axis(c, axes->u.ints[i], x.rank, &axis));
    if (mask & 1u << axis) return tn_ops_fail(c, "axes names axis %i twice", (int)axis);
    mask |= 1u << axis;
  }
  tn_shape s = tn_ops_shape(&x);
  drop_axes(c, &s, mask, c->attrs[TN_A_reduce_sum_keep].u.i);
  return tn_ops_result(c, 0, x.dtype, &s);
}

tn_status tn_infer_reduce_sum(tn_infer *c) { return reduce(c); }
tn_status tn_infer_reduce_mean(tn_infer *c) { return reduce(c); }
tn_status tn_infer_reduce_max(tn_infer *c) { return reduce(c); }
tn_status tn_infer_reduce_min(tn_infer *c) { return reduce(c); }
tn_status tn_infer_reduce_prod(tn_infer *c) { return reduce(c); }

static tn_status index_along(tn_infer *c) { /* argmin has the attributes of argmax */
  tn_in x;
  uint32_t axis;
  TN_TRY(tn_ops_read(c, &x, 1));
  TN_TRY(tn_ops_axis(c, c->attrs[TN_A_argmax_axis].u.i, x.rank, &axis));
  if (tn_ops_is(c, x.dims[axis], 0)) return tn_ops_fail(c, "axis %i of %T is empty", (int)axis, x.type);
  tn_shape s = tn_ops_shape(&x);
  drop_axes(c, &s, 1u << axis, c->attrs[TN_A_argmax_keep].u.i);
  return tn_ops_result(c, 0, TN_DT_i64, &s);
}
tn_status tn_infer_argmax(tn_infer *c) { return index_along(c); }
tn_status tn_infer_argmin(tn_infer *c) { return index_along(c); }

static tn_status along_axis(tn_infer *c, int64_t which) {
  tn_in x;
  uint32_t axis;
  TN_TRY(tn_ops_read(c, &x, 1));
  TN_TRY(tn_ops_axis(c, which, x.rank, &axis));
  return tn_ops_same(c, &x, x.dtype);
}

tn_status tn_infer_cumsum(tn_infer *c) { return along_axis(c, c->attrs[TN_A_cumsum_axis].u.i); }
tn_status tn_infer_cumprod(tn_infer *c) { return along_axis(c, c->attrs[TN_A_cumprod_axis].u.i); }
tn_status tn_infer_softmax(tn_infer *c) { return along_axis(c, c->attrs[TN_A_softmax_axis].u.i); }

tn_status tn_infer_sort(tn_infer *c) {
  TN_TRY(along_axis(c, c->attrs[TN_A_sort_axis].u.i));
  tn_in x = tn_ops_operand(c, 0);
  tn_shape s = tn_ops_shape(&x);
  return tn_ops_result(c, 1, TN_DT_i64, &s);
}

tn_status tn_infer_top_k(tn_infer *c) {
  tn_in x;
  uint32_t axis;
  TN_TRY(tn_ops_read(c, &x, 1));
  TN_TRY(tn_ops_axis(c, c->attrs[TN_A_top_k_axis].u.i, x.rank, &axis));
  tn_dim k = c->attrs[TN_A_top_k_k].u.dim;
  if (tn_ops_less(c, k, tn_ir_dim_const(c->m, 0))) return tn_ops_fail(c, "k is negative: %D", k);
  if (tn_ops_less(c, x.dims[axis], k))
    return tn_ops_fail(c, "k is larger than axis %i: %D and %D", (int)axis, k, x.dims[axis]);
  tn_shape s = tn_ops_shape(&x);
  s.dims[axis] = k;
  TN_TRY(tn_ops_result(c, 0, x.dtype, &s));
  return tn_ops_result(c, 1, TN_DT_i64, &s);
}
