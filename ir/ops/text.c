/* text.c - ops on text, which the IR has as ranges of bytes: u8 [l], with starts and lengths (i64) of one
 * shape. */
#include "ops.h"

/* Operands `first` to `first` + 2 are bytes, starts and lengths. */
static tn_status check_ranges(tn_infer *c, const tn_in *in, uint32_t first) {
  if (in[0].dtype != TN_DT_u8)
    return tn_ops_fail(c, "operand %i ('bytes') is %T, wants u8", (int)first, in[0].type);
  TN_TRY(tn_ops_rank(c, "bytes", &in[0], 1));
  for (uint32_t i = 1; i < 3; i++)
    if (in[i].dtype != TN_DT_i64)
      return tn_ops_fail(c, "operand %i is %T, wants i64", (int)(first + i), in[i].type);
  TN_TRY(tn_ops_rank(c, "lengths", &in[2], in[1].rank));
  for (uint32_t i = 0; i < in[1].rank; i++)
    TN_TRY(tn_ops_equal(c, "dims of starts and lengths", in[1].dims[i], in[2].dims[i]));
  return TN_OK;
}

tn_status tn_infer_copy_ranges(tn_infer *c) {
  tn_in in[3];
  TN_TRY(tn_ops_read(c, in, 3));
  TN_TRY(check_ranges(c, in, 0));
  tn_dim total = c->attrs[TN_A_copy_ranges_total].u.dim;
  if (tn_ops_less(c, total, tn_ir_dim_const(c->m, 0))) return tn_ops_fail(c, "total is negative: %D", total);
  return tn_ops_result(c, 0, TN_DT_u8, &(tn_shape){1, {total}});
}

tn_status tn_infer_equal_ranges(tn_infer *c) {
  tn_in in[6];
  TN_TRY(tn_ops_read(c, in, 6));
  TN_TRY(check_ranges(c, in, 0));
  TN_TRY(check_ranges(c, in + 3, 3));
  TN_TRY(tn_ops_rank(c, "starts of b", &in[4], in[1].rank));
  for (uint32_t i = 0; i < in[1].rank; i++)
    TN_TRY(tn_ops_equal(c, "dims of both texts", in[1].dims[i], in[4].dims[i]));
  return tn_ops_same(c, &in[1], TN_DT_bool);
}

tn_status tn_infer_split_ranges(tn_infer *c) {
  tn_in in[3];
  TN_TRY(tn_ops_read(c, in, 3));
  TN_TRY(check_ranges(c, in, 0));
  TN_TRY(tn_ops_rank(c, "starts", &in[1], 1));
  tn_dim pieces = c->attrs[TN_A_split_ranges_pieces].u.dim;
  if (tn_ops_less(c, pieces, tn_ir_dim_const(c->m, 0)))
    return tn_ops_fail(c, "pieces is negative: %D", pieces);
  tn_shape all = {2, {in[1].dims[0], pieces}}, one = {1, {in[1].dims[0]}};
  TN_TRY(tn_ops_result(c, 0, TN_DT_i64, &all));
  TN_TRY(tn_ops_result(c, 1, TN_DT_i64, &all));
  return tn_ops_result(c, 2, TN_DT_i64, &one);
}

tn_status tn_infer_change_case(tn_infer *c) {
  tn_in x;
  TN_TRY(tn_ops_read(c, &x, 1));
  if (x.dtype != TN_DT_u8) return tn_ops_fail(c, "operand 0 ('bytes') is %T, wants u8", x.type);
  TN_TRY(tn_ops_rank(c, "bytes", &x, 1));
  return tn_ops_same(c, &x, TN_DT_u8);
}
