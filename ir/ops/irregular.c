/* irregular.c - ops whose work depends on data: results are as long as they can be, with a count beside. */
#include "ops.h"

tn_status tn_infer_scatter(tn_infer *c) {
  static const char *const ways[] = {"none", "add", "mul", "min", "max"};
  tn_in in[3];
  TN_TRY(tn_ops_read(c, in, 3));
  TN_TRY(tn_ops_no_blocks(c, in, 3));
  const tn_in *data = &in[0], *indices = &in[1], *updates = &in[2];
  if (indices->cls == TN_CLASS_BOOL)
    return tn_ops_fail(c, "operand 1 ('indices') must be integers, but is %T", indices->type);
  if (!data->rank) return tn_ops_fail(c, "data has no rows: %T", data->type);
  TN_TRY(tn_ops_rank(c, "indices", indices, 1));
  TN_TRY(tn_ops_rank(c, "updates", updates, data->rank));
  TN_TRY(tn_ops_same_dtype(c, data, updates));
  TN_TRY(tn_ops_equal(c, "rows of indices and updates", indices->dims[0], updates->dims[0]));
  for (uint32_t i = 1; i < data->rank; i++)
    TN_TRY(tn_ops_equal(c, "dims of data and updates", data->dims[i], updates->dims[i]));
  const char *how = c->attrs[TN_A_scatter_reduce].u.s;
  bool known = false;
  for (size_t i = 0; i < TN_COUNT(ways); i++) known |= !strcmp(ways[i], how);
  if (!known) return tn_ops_fail(c, "reduce is '%s', wants none, add, mul, min or max", how);
  return tn_ops_same(c, data, data->dtype);
}

tn_status tn_infer_nonzero(tn_infer *c) {
  tn_in x;
  TN_TRY(tn_ops_read(c, &x, 1));
  TN_TRY(tn_ops_no_blocks(c, &x, 1));
  tn_shape all = {1, {tn_type_elements(c->m, x.type)}}, one = {0};
  TN_TRY(tn_ops_result(c, 0, TN_DT_i64, &all));
  return tn_ops_result(c, 1, TN_DT_i64, &one);
}

tn_status tn_infer_unique(tn_infer *c) {
  tn_in x;
  TN_TRY(tn_ops_read(c, &x, 1));
  if (!x.rank) return tn_ops_fail(c, "x has no rows: %T", x.type);
  tn_shape all = {1, {x.dims[0]}}, one = {0};
  for (uint32_t i = 0; i < 3; i++) TN_TRY(tn_ops_result(c, i, TN_DT_i64, &all));
  return tn_ops_result(c, 3, TN_DT_i64, &one);
}

tn_status tn_infer_nms(tn_infer *c) {
  static const char *const names[] = {"boxes", "scores", "limit", "iou", "least"};
  static const uint32_t ranks[] = {3, 3, 0, 0, 0};
  tn_in in[5];
  TN_TRY(tn_ops_read(c, in, 5));
  for (uint32_t i = 0; i < 5; i++)
    if (in[i].value) TN_TRY(tn_ops_rank(c, names[i], &in[i], ranks[i]));
  for (uint32_t i = 0; i < 2; i++)
    if (in[i].dtype != TN_DT_f32)
      return tn_ops_fail(c, "%s are %s, wants f32", names[i], tn_ops_dtype_name(in[i].dtype));
  if (!tn_ops_is(c, in[0].dims[2], 4))
    return tn_ops_fail(c, "a box has %D numbers, wants 4: %T", in[0].dims[2], in[0].type);
  TN_TRY(tn_ops_equal(c, "pictures of boxes and scores", in[0].dims[0], in[1].dims[0]));
  TN_TRY(tn_ops_equal(c, "numbers of boxes and scores", in[0].dims[1], in[1].dims[2]));
  tn_dim rows = c->attrs[TN_A_nms_rows].u.dim;
  if (tn_ops_less(c, rows, tn_ir_dim_const(c->m, 0))) return tn_ops_fail(c, "rows is negative: %D", rows);
  tn_shape s = {2, {rows, tn_ir_dim_const(c->m, 3)}}, one = {0};
  TN_TRY(tn_ops_result(c, 0, TN_DT_i64, &s));
  return tn_ops_result(c, 1, TN_DT_i64, &one);
}
