/* attention.c - attention and what stands around it. All tensors are [batch, tokens, heads, features]; heads
 * of k and v may be shared by a group of query heads. */
#include "ops.h"

/* What caches hold: floats, or the one block format that rows are packed into as they come. */
static tn_status check_cache(tn_infer *c, const char *what, const tn_in *x) {
  if (x->cls == TN_CLASS_FLOAT || x->dtype == tn_ir_dtype_by_name("q8_0")) return TN_OK;
  return tn_ops_fail(c, "%s must be floats or q8_0, but is %T", what, x->type);
}

static tn_status check_qkv(tn_infer *c, const tn_in *q, const tn_in *k, const tn_in *v) {
  TN_TRY(tn_ops_rank(c, "q", q, 4));
  TN_TRY(tn_ops_rank(c, "k", k, 4));
  TN_TRY(tn_ops_rank(c, "v", v, 4));
  TN_TRY(check_cache(c, "k", k));
  TN_TRY(check_cache(c, "v", v));
  TN_TRY(tn_ops_equal(c, "batch dims of q and k", q->dims[0], k->dims[0]));
  TN_TRY(tn_ops_equal(c, "batch dims of q and v", q->dims[0], v->dims[0]));
  TN_TRY(tn_ops_equal(c, "key dims of k and v", k->dims[1], v->dims[1]));
  TN_TRY(tn_ops_equal(c, "heads of k and v", k->dims[2], v->dims[2]));
  TN_TRY(tn_ops_equal(c, "features of q and k", q->dims[3], k->dims[3]));
  int64_t h, hkv;
  bool known = tn_ir_dim_is_const(c->m, q->dims[2], &h) && tn_ir_dim_is_const(c->m, k->dims[2], &hkv);
  if (known ? hkv < 1 || h % hkv : !tn_ops_eq(c, q->dims[2], k->dims[2]))
    return tn_ops_fail(c, "heads of q are no multiple of those of k: %D and %D", q->dims[2], k->dims[2]);
  return TN_OK;
}

static tn_status check_first(tn_infer *c, const tn_in *first, tn_dim batch) {
  if (!first->value) return TN_OK;
  if (first->cls == TN_CLASS_BOOL) return tn_ops_fail(c, "first must be integers, but is %T", first->type);
  TN_TRY(tn_ops_rank(c, "first", first, 1));
  return tn_ops_equal(c, "batch dims of q and first", batch, first->dims[0]);
}

static tn_status check_mask(tn_infer *c, const tn_in *mask, const tn_in *bias, const tn_shape *scores) {
  if (mask->value) {
    if (mask->cls != TN_CLASS_BOOL && mask->cls != TN_CLASS_INT && mask->cls != TN_CLASS_UINT)
      return tn_ops_fail(c, "mask must be bools or integers, but is %T", mask->type);
    TN_TRY(tn_ops_broadcasts_to(c, "mask", mask, scores));
  }
  if (bias->value) TN_TRY(tn_ops_broadcasts_to(c, "bias", bias, scores));
  return TN_OK;
}

/* t of the op's texts: how many keys there are. */
static tn_status count_keys(tn_infer *c, tn_dim *t) {
  tn_dim keys = c->attrs[TN_A_attention_keys].u.dim;
  bool ring = c->attrs[TN_A_attention_ring].u.i;
  if (tn_ops_is(c, keys, 0)) return ring ? tn_ops_fail(c, "a ring needs keys, how many there were") : TN_OK;
  if (!ring && tn_ops_less(c, *t, keys))
    return tn_ops_fail(c, "keys is larger than the key dim of k: %D and %D", keys, *t);
  *t = keys;
  return TN_OK;
}

tn_status tn_infer_attention(tn_infer *c) {
  tn_in in[6];
  TN_TRY(tn_ops_read(c, in, 6));
  TN_TRY(check_qkv(c, &in[0], &in[1], &in[2]));
  int64_t window = c->attrs[TN_A_attention_window].u.i;
  double softcap = c->attrs[TN_A_attention_softcap].u.f;
  if (window < 0) return tn_ops_fail(c, "window is negative: %l", window);
  if (!(softcap >= 0)) return tn_infer_fail(c, "softcap is %g, wants at least 0", softcap);
  tn_dim t = in[1].dims[1];
  TN_TRY(count_keys(c, &t));
  tn_shape scores = {4, {in[0].dims[0], in[0].dims[2], in[0].dims[1], t}};
  TN_TRY(check_mask(c, &in[3], &in[4], &scores));
  TN_TRY(check_first(c, &in[5], in[0].dims[0]));
  tn_shape s = tn_ops_shape(&in[0]);
  s.dims[3] = in[2].dims[3];
  return tn_ops_result(c, 0, in[0].dtype, &s);
}

tn_status tn_infer_rope(tn_infer *c) {
  tn_in in[3];
  TN_TRY(tn_ops_read(c, in, 3));
  const tn_in *x = &in[0], *pos = &in[1], *freq = &in[2];
  TN_TRY(tn_ops_rank(c, "x", x, 4));
  TN_TRY(tn_ops_rank(c, "inv_freq", freq, 1));
  if (pos->cls == TN_CLASS_BOOL)
    return tn_ops_fail(c, "operand 1 ('positions') must be integers, but is %T", pos->type);
  if (pos->rank != 1 && pos->rank != 2)
    return tn_ops_fail(c, "positions has rank %i, wants 1 or 2: %T", (int)pos->rank, pos->type);
  TN_TRY(tn_ops_equal(c, "tokens of x and positions", x->dims[1], pos->dims[pos->rank - 1]));
  if (pos->rank == 2) TN_TRY(tn_ops_equal(c, "batch dims of x and positions", x->dims[0], pos->dims[0]));
  if (freq->dtype != TN_DT_f32)
    return tn_ops_fail(c, "inv_freq is %s, wants f32", tn_ops_dtype_name(freq->dtype));
  tn_dim twice = tn_dim_mul(c->m, freq->dims[0], tn_ir_dim_const(c->m, 2));
  if (!tn_dim_known_le(c->m, twice, x->dims[3]))
    return tn_ops_fail(c, "inv_freq turns more features than x has: 2 * %D and %D", freq->dims[0],
                       x->dims[3]);
  return tn_ops_same(c, x, x->dtype);
}

tn_status tn_infer_kv_update(tn_infer *c) {
  tn_in in[2];
  TN_TRY(tn_ops_read(c, in, 2));
  TN_TRY(check_cache(c, "operand 0 ('state')", &in[0]));
  TN_TRY(tn_ops_rank(c, "state", &in[0], 4));
  TN_TRY(tn_ops_rank(c, "x", &in[1], 4));
  TN_TRY(tn_ops_equal(c, "batch dims of state and x", in[0].dims[0], in[1].dims[0]));
  TN_TRY(tn_ops_equal(c, "heads of state and x", in[0].dims[2], in[1].dims[2]));
  TN_TRY(tn_ops_equal(c, "features of state and x", in[0].dims[3], in[1].dims[3]));
  tn_dim pos = c->attrs[TN_A_kv_update_pos].u.dim;
  tn_dim end = tn_dim_add(c->m, pos, in[1].dims[1]);
  if (tn_ops_less(c, pos, tn_ir_dim_const(c->m, 0))) return tn_ops_fail(c, "pos is negative: %D", pos);
  if (c->attrs[TN_A_kv_update_ring].u.i) {
    if (tn_ops_less(c, in[0].dims[1], in[1].dims[1]))
      return tn_ops_fail(c, "writes more rows than the ring has: s is %D, c is %D", in[1].dims[1],
                         in[0].dims[1]);
  } else if (tn_ops_less(c, in[0].dims[1], end))
    return tn_ops_fail(c, "writes behind the end of the state: pos + s is %D, c is %D", end, in[0].dims[1]);
  c->out[0] = in[0].type;
  return TN_OK;
}

tn_status tn_infer_causal_mask(tn_infer *c) {
  TN_TRY(tn_ops_read(c, NULL, 0));
  int64_t window = c->attrs[TN_A_causal_mask_window].u.i;
  if (window < 0) return tn_ops_fail(c, "window is negative: %l", window);
  tn_shape s = {2, {c->attrs[TN_A_causal_mask_q].u.dim, c->attrs[TN_A_causal_mask_k].u.dim}};
  return tn_ops_result(c, 0, TN_DT_bool, &s);
}

tn_status tn_infer_alibi(tn_infer *c) {
  TN_TRY(tn_ops_read(c, NULL, 0));
  int64_t heads = c->attrs[TN_A_alibi_heads].u.i;
  if (heads < 1) return tn_ops_fail(c, "heads is %l, wants at least 1", heads);
  tn_dim one = tn_ir_dim_const(c->m, 1);
  tn_shape s = {4, {one, tn_ir_dim_const(c->m, heads), one, c->attrs[TN_A_alibi_k].u.dim}};
  return tn_ops_result(c, 0, TN_DT_f32, &s);
}
