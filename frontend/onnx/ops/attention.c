/* attention.c - Attention, FlexAttention, RotaryEmbedding, TensorScatter. */
#include "frontend/onnx/ops/transformer.h"
#include <math.h>

/* ---- Attention ---- */

/* A float mask is added, a bool one selects; what it is short of the keys is hidden. */
static void take_mask(tn_ox *x, tn_ox_attention *a, tn_value mask, tn_dim keys) {
  int64_t have, want;
  tn_dim dims[TN_MAX_RANK];
  if (!mask) return;
  bool is_bool = tn_ox_dtype(x, mask) == TN_DT_bool;
  uint32_t rank = tn_ox_rank(x, mask);
  if (rank && tn_ox_dconst(x, tn_ox_dim(x, mask, -1), &have) && tn_ox_dconst(x, keys, &want) && have < want) {
    tn_ox_dims(x, mask, dims);
    dims[rank - 1] = tn_ox_d(x, want - have);
    tn_value rest = tn_ox_full(x, tn_ox_scalar(x, tn_ox_dtype(x, mask), is_bool ? 0 : -INFINITY), dims, rank);
    mask = tn_ox_concat(x, (tn_value[]){mask, rest}, 2, -1);
  }
  if (is_bool)
    a->mask = mask;
  else
    a->bias = mask;
}

/* Keys at and behind each sequence's count are hidden. */
static void take_lengths(tn_ox *x, tn_ox_attention *a, tn_value lengths, tn_dim queries, tn_dim keys) {
  if (!lengths) return;
  tn_value count = tn_ox_rank_back(x, tn_ox_cast(x, lengths, TN_DT_i64), 4);
  tn_value seen = tn_ox_compare(x, "lt", tn_ox_iota(x, TN_DT_i64, &keys, 1, 0), count);
  a->mask = a->mask ? tn_ox_binary(x, "and", a->mask, seen) : seen;
  a->offsets = tn_ox_binary(x, "sub", tn_ox_cast(x, lengths, TN_DT_i64), tn_ox_dim_value(x, queries));
}

/* Operands as [b, h, s, d]; those of rank 3 by the numbers of heads. */
static bool take_operands(tn_ox *x, tn_ox_node *n, tn_ox_attention *a, bool *flat) {
  int64_t heads = tn_ox_int(n, "q_num_heads", 0), kv = tn_ox_int(n, "kv_num_heads", 0);
  if (!a->q || !a->k || !a->v) return false;
  *flat = tn_ox_rank(x, a->q) == 3;
  if (!*flat) return true;
  a->q = tn_ox_heads(x, n, a->q, heads);
  a->k = tn_ox_heads(x, n, a->k, kv);
  a->v = tn_ox_heads(x, n, a->v, kv);
  return !tn_ox_failed(x);
}

static void read_attributes(tn_ox *x, tn_ox_node *n, tn_ox_attention *a) {
  int64_t precision = tn_ox_int(n, "softmax_precision", 0), mode = tn_ox_int(n, "qk_matmul_output_mode", 0);
  a->scale = tn_ox_has_attr(n, "scale") ? tn_ox_float(n, "scale", 0) : 0;
  a->softcap = tn_ox_float(n, "softcap", 0);
  a->causal = tn_ox_int(n, "is_causal", 0) != 0;
  a->left = tn_ox_int(n, "left_window_size", -1);
  a->right = tn_ox_int(n, "right_window_size", -1);
  a->want_scores = tn_ox_wants(n, 3) ? (int)mode : -1;
  if (precision) a->softmax = tn_ox_dtype_of(x, n, precision);
  if (mode < 0 || mode > 3) tn_ox_fail(x, n, "qk_matmul_output_mode is %lld, wants 0 to 3", (long long)mode);
  if (a->left < -1 || a->right < -1)
    tn_ox_fail(x, n, "windows are %lld and %lld, want at least -1", (long long)a->left, (long long)a->right);
  if (a->scale < 0) tn_ox_refuse(x, n, NULL, "scale is %g, below 0", a->scale);
}

tn_status tn_ox_lower_attention(tn_ox *x, tn_ox_node *n) {
  tn_ox_attention a = {.q = tn_ox_in(x, n, 0), .k = tn_ox_in(x, n, 1), .v = tn_ox_in(x, n, 2)};
  tn_value past_key = tn_ox_in(x, n, 4), past_value = tn_ox_in(x, n, 5), lengths = tn_ox_in(x, n, 6),
           scores = 0;
  bool flat = false;
  read_attributes(x, n, &a);
  if (!take_operands(x, n, &a, &flat)) return tn_ox_out(x, n, 0, 0);
  if (!past_key != !past_value) return tn_ox_fail(x, n, "past_key and past_value go together");
  if (past_key && lengths) return tn_ox_fail(x, n, "nonpad_kv_seqlen cannot stand beside past_key");
  if (past_key) {
    a.offset = tn_ox_dim(x, past_key, 2);
    a.k = tn_ox_concat(x, (tn_value[]){past_key, a.k}, 2, 2);
    a.v = tn_ox_concat(x, (tn_value[]){past_value, a.v}, 2, 2);
  }
  if (tn_ox_failed(x)) return tn_ox_out(x, n, 0, 0);
  take_mask(x, &a, tn_ox_in(x, n, 3), tn_ox_dim(x, a.k, 2));
  take_lengths(x, &a, lengths, tn_ox_dim(x, a.q, 2), tn_ox_dim(x, a.k, 2));
  tn_value y = tn_ox_attend(x, n, &a, &scores);
  TN_TRY(tn_ox_out(x, n, 0, flat ? tn_ox_merge_heads(x, y) : tn_ox_swap(x, y, 1, 2)));
  if (tn_ox_wants(n, 1)) TN_TRY(tn_ox_out(x, n, 1, a.k));
  if (tn_ox_wants(n, 2)) TN_TRY(tn_ox_out(x, n, 2, a.v));
  return tn_ox_wants(n, 3) ? tn_ox_out(x, n, 3, scores) : TN_OK;
}

/* ---- FlexAttention ---- */

static tn_value inline_graph(tn_ox *x, tn_ox_node *n, const char *which, tn_value v) {
  tn_value out = 0;
  if (!v || !tn_ox_has_attr(n, which)) return v;
  return tn_ox_inline(x, n, which, &v, 1, &out, 1) == TN_OK ? out : 0;
}

tn_status tn_ox_lower_flex_attention(tn_ox *x, tn_ox_node *n) {
  int64_t precision = tn_ox_int(n, "softmax_precision", 0);
  tn_ox_attention a = {.q = tn_ox_in(x, n, 0), .k = tn_ox_in(x, n, 1), .v = tn_ox_in(x, n, 2)};
  a.left = a.right = a.want_scores = -1;
  a.scale = tn_ox_has_attr(n, "scale") ? tn_ox_float(n, "scale", 0) : 0;
  if (precision) a.softmax = tn_ox_dtype_of(x, n, precision);
  if (tn_ox_has_attr(n, "score_mod") || tn_ox_has_attr(n, "prob_mod")) a.modify = inline_graph;
  return tn_ox_out(x, n, 0, tn_ox_swap(x, tn_ox_attend(x, n, &a, NULL), 1, 2));
}

/* ---- RotaryEmbedding ---- */

/* Rows of a cache [max, f] at positions [b, s], or the cache itself when there are none. */
static tn_value angles(tn_ox *x, tn_value cache, tn_value positions) {
  return cache && positions ? tn_ox_gather(x, cache, positions, 0) : cache;
}

tn_status tn_ox_lower_rotary_embedding(tn_ox *x, tn_ox_node *n) {
  tn_value v = tn_ox_in(x, n, 0), positions = tn_ox_in(x, n, 3);
  tn_value c = angles(x, tn_ox_in(x, n, 1), positions), s = angles(x, tn_ox_in(x, n, 2), positions);
  int64_t dims = tn_ox_int(n, "rotary_embedding_dim", 0);
  bool interleaved = tn_ox_int(n, "interleaved", 0) != 0;
  if (!v || !c || !s) return tn_ox_out(x, n, 0, 0);
  if (tn_ox_rank(x, c) != 3 || tn_ox_rank(x, s) != 3)
    return tn_ox_fail(x, n, "cosines and sines have ranks %u and %u, want 3", tn_ox_rank(x, c),
                      tn_ox_rank(x, s));
  bool flat = tn_ox_rank(x, v) == 3;
  if (flat) v = tn_ox_heads(x, n, v, tn_ox_int(n, "num_heads", 0));
  if (v)
    tn_ox_same(x, n, tn_ox_dmul(x, tn_ox_dim(x, c, -1), tn_ox_d(x, 2)),
               dims ? tn_ox_d(x, dims) : tn_ox_dim(x, v, -1));
  tn_value y = tn_ox_rotate(x, n, v, c, s, interleaved);
  return tn_ox_out(x, n, 0, flat ? tn_ox_merge_heads(x, tn_ox_swap(x, y, 1, 2)) : y);
}

/* ---- TensorScatter ---- */

tn_status tn_ox_lower_tensor_scatter(tn_ox *x, tn_ox_node *n) {
  tn_value cache = tn_ox_in(x, n, 0), update = tn_ox_in(x, n, 1), start = tn_ox_in(x, n, 2);
  const char *mode = tn_ox_str(n, "mode", "linear");
  bool circular = !strcmp(mode, "circular");
  if (!cache || !update) return tn_ox_out(x, n, 0, 0);
  if (!circular && strcmp(mode, "linear"))
    return tn_ox_fail(x, n, "mode is '%s', wants linear or circular", mode);
  int64_t axis = tn_ox_axis(x, n, tn_ox_int(n, "axis", -2), tn_ox_rank(x, cache));
  if (axis == 0) return tn_ox_fail(x, n, "axis is the batch axis");
  if (!start) {
    tn_dim batch = tn_ox_dim(x, cache, 0);
    start = tn_ox_full(x, tn_ox_scalar_int(x, TN_DT_i64, 0), &batch, 1);
  }
  tn_dim size = tn_ox_dim(x, cache, axis);
  return tn_ox_out(x, n, 0, tn_ox_place_rows(x, n, cache, update, start, axis, circular, size));
}
