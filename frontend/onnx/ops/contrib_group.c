/* contrib_group.c - com.microsoft: GroupQueryAttention, RotaryEmbedding, RelativePositionBias.
 *
 * GroupQueryAttention states in seqlens_k how many keys each sequence has after the call, less one. New keys
 * go behind those that the sequence has; whatever follows them in the buffers is hidden. */
#include "frontend/onnx/ops/transformer.h"
#include <math.h>

/* ---- rotation ---- */

/* Positions [b, s] that count from `first` [b]. */
static tn_value positions_from(tn_ox *x, tn_value first, tn_dim tokens) {
  return tn_ox_binary(x, "add", tn_ox_unsqueeze(x, first, 1), tn_ox_iota(x, TN_DT_i64, &tokens, 1, 0));
}

static tn_value rotated(tn_ox *x, tn_ox_node *n, tn_value v, tn_value cosines, tn_value sines,
                        tn_value positions, const char *interleaved) {
  if (!v || !cosines || !sines || !positions) return 0;
  return tn_ox_rotate(x, n, v, tn_ox_gather(x, cosines, positions, 0), tn_ox_gather(x, sines, positions, 0),
                      tn_ox_int(n, interleaved, 0) != 0);
}

/* position_ids: [b, s], or one number from which all sequences count. A tensor of rank 3 has num_heads, or as
 * many heads as the cache's rows say. */
tn_status tn_ox_lower_ms_rotary_embedding(tn_ox *x, tn_ox_node *n) {
  tn_value v = tn_ox_in(x, n, 0), ids = tn_ox_in(x, n, 1), c = tn_ox_in(x, n, 2), s = tn_ox_in(x, n, 3);
  int64_t heads = tn_ox_int(n, "num_heads", 0), size, half;
  TN_TRY(tn_ox_want_int(x, n, "is_packed_batching", 0, 0));
  if (tn_ox_float(n, "scale", 1) != 1)
    return tn_ox_refuse(x, n, NULL, "scale is %g, only 1 is supported", tn_ox_float(n, "scale", 1));
  if (!v || !ids || !c || !s) return tn_ox_out(x, n, 0, 0);
  bool flat = tn_ox_rank(x, v) == 3;
  if (flat && !heads && tn_ox_dconst(x, tn_ox_dim(x, v, 2), &size) &&
      tn_ox_dconst(x, tn_ox_dim(x, c, 1), &half) && half)
    heads = size / (2 * half);
  if (flat) v = tn_ox_heads(x, n, v, heads);
  if (!v) return tn_ox_out(x, n, 0, 0);
  if (tn_ox_rank(x, ids) == 1) ids = positions_from(x, tn_ox_cast(x, ids, TN_DT_i64), tn_ox_dim(x, v, 2));
  tn_value y = rotated(x, n, v, c, s, ids, "interleaved");
  return tn_ox_out(x, n, 0, flat ? tn_ox_merge_heads(x, tn_ox_swap(x, y, 1, 2)) : y);
}

/* ---- GroupQueryAttention ---- */

enum {
  QUERY,
  KEY,
  VALUE,
  PAST_KEY,
  PAST_VALUE,
  SEQLENS,
  TOTAL,
  COSINES,
  SINES,
  POSITIONS,
  BIAS,
  SINK,
  K_SCALE,
  V_SCALE,
  Q_NORM,
  K_NORM,
  INPUTS
};

typedef struct group {
  tn_value in[INPUTS];
  tn_ox_attention a;
  int64_t heads, kv;
  tn_value past; /* i64 [b]: keys that each sequence had before */
} group;

static tn_status check_group(tn_ox *x, tn_ox_node *n, group *g) {
  g->heads = tn_ox_int(n, "num_heads", 0), g->kv = tn_ox_int(n, "kv_num_heads", 0);
  if (g->heads < 1 || g->kv < 1 || g->heads % g->kv)
    return tn_ox_fail(x, n, "num_heads is %lld and kv_num_heads %lld", (long long)g->heads, (long long)g->kv);
  if (strcmp(tn_ox_str(n, "k_quant_type", "NONE"), "NONE") ||
      strcmp(tn_ox_str(n, "v_quant_type", "NONE"), "NONE") || g->in[K_SCALE] || g->in[V_SCALE])
    return tn_ox_refuse(x, n, "export with a cache of floats", "a quantised cache is not supported");
  TN_TRY(tn_ox_want_int(x, n, "sliding_window_cache", 0, 0));
  int64_t window = tn_ox_int(n, "local_window_size", -1), qk = tn_ox_int(n, "qk_output", 0);
  g->a.left = window > 0 ? window - 1 : -1;
  g->a.right = -1;
  g->a.causal = tn_ox_int(n, "causal", 1) != 0;
  g->a.scale = tn_ox_has_attr(n, "scale") ? tn_ox_float(n, "scale", 0) : 0;
  g->a.softcap = tn_ox_float(n, "softcap", 0);
  g->a.want_scores = !tn_ox_wants(n, 3) || !qk ? -1 : qk == 1 ? 2 : 3;
  if (tn_ox_int(n, "smooth_softmax", 0) > 0) g->a.sink = tn_ox_scalar(x, TN_DT_f32, 0);
  if (g->in[SINK]) g->a.sink = g->in[SINK];
  return TN_OK;
}

/* q, k and v as heads; packed in one tensor when there is no key. */
static void take_heads(tn_ox *x, tn_ox_node *n, group *g) {
  tn_value q = g->in[QUERY], k = g->in[KEY], v = g->in[VALUE];
  if (!q) return;
  if (!k) {
    tn_dim d = tn_ox_ddiv(x, tn_ox_dim(x, q, -1), tn_ox_d(x, g->heads + 2 * g->kv));
    tn_dim a = tn_ox_dmul(x, d, tn_ox_d(x, g->heads)), b = tn_ox_dmul(x, d, tn_ox_d(x, g->heads + g->kv));
    v = tn_ox_slice(x, q, -1, b, tn_ox_dim(x, q, -1), 1);
    k = tn_ox_slice(x, q, -1, a, b, 1);
    q = tn_ox_slice(x, q, -1, tn_ox_d(x, 0), a, 1);
  }
  g->a.q = tn_ox_heads(x, n, q, g->heads);
  g->a.k = tn_ox_heads(x, n, k, g->kv);
  g->a.v = tn_ox_heads(x, n, v, g->kv);
}

static void norm_and_rotate(tn_ox *x, tn_ox_node *n, group *g) {
  double eps = tn_ox_float(n, "qk_norm_epsilon", 1e-6f);
  tn_dim tokens = tn_ox_dim(x, g->a.q, 2);
  if (g->in[Q_NORM]) g->a.q = tn_ox_rms_norm(x, g->a.q, g->in[Q_NORM], eps);
  if (g->in[K_NORM]) g->a.k = tn_ox_rms_norm(x, g->a.k, g->in[K_NORM], eps);
  if (!tn_ox_int(n, "do_rotary", 0)) return;
  tn_value at = g->in[POSITIONS] ? g->in[POSITIONS] : positions_from(x, g->past, tokens);
  g->a.q = rotated(x, n, g->a.q, g->in[COSINES], g->in[SINES], at, "rotary_interleaved");
  g->a.k = rotated(x, n, g->a.k, g->in[COSINES], g->in[SINES], at, "rotary_interleaved");
}

/* The keys that each sequence had: all that it has, less the new ones. A first call may have fewer than there
 * are new ones, which are padding behind them. */
static tn_value had(tn_ox *x, const group *g) {
  tn_value has = tn_ox_cast(x, g->in[SEQLENS], TN_DT_i64);
  if (!has || !g->a.q) return 0;
  if (tn_ox_rank(x, has) == 2) has = tn_ox_squeeze(x, has, 1);
  tn_value less = tn_ox_dim_value(x, tn_ox_dsub(x, tn_ox_dim(x, g->a.q, 2), tn_ox_d(x, 1)));
  return tn_ox_binary(x, "max", tn_ox_binary(x, "sub", has, less), tn_ox_scalar_int(x, TN_DT_i64, 0));
}

/* Keys and values behind those of the past, in buffers of total_sequence_length, or of the past's size if
 * that is more. */
static void join_past(tn_ox *x, tn_ox_node *n, group *g) {
  uint32_t count;
  tn_dim total, size;
  tn_value k = g->in[PAST_KEY], v = g->in[PAST_VALUE];
  if (!k || !v) return;
  if (!tn_ox_now_dims(x, g->in[TOTAL], &total, 1, &count) || count != 1) return;
  tn_dim kept = tn_ox_dim(x, k, 2), sum = tn_ox_dadd(x, kept, tn_ox_dim(x, g->a.k, 2));
  size = total == sum ? sum : tn_ox_dmax(x, kept, total);
  g->a.k = tn_ox_place_rows(x, n, k, g->a.k, g->past, 2, false, size);
  g->a.v = tn_ox_place_rows(x, n, v, g->a.v, g->past, 2, false, size);
}

static tn_status results(tn_ox *x, tn_ox_node *n, group *g) {
  tn_value scores = 0;
  tn_value y = tn_ox_attend(x, n, &g->a, &scores);
  TN_TRY(tn_ox_out(x, n, 0, tn_ox_merge_heads(x, y)));
  if (tn_ox_wants(n, 1)) TN_TRY(tn_ox_out(x, n, 1, g->a.k));
  if (tn_ox_wants(n, 2)) TN_TRY(tn_ox_out(x, n, 2, g->a.v));
  return g->a.want_scores >= 0 ? tn_ox_out(x, n, 3, scores) : TN_OK;
}

tn_status tn_ox_lower_group_query_attention(tn_ox *x, tn_ox_node *n) {
  group g = {0};
  for (uint32_t i = 0; i < INPUTS; i++) g.in[i] = tn_ox_in(x, n, i);
  TN_TRY(check_group(x, n, &g));
  take_heads(x, n, &g);
  g.past = had(x, &g);
  if (!g.a.q || !g.past) return tn_ox_out(x, n, 0, 0);
  norm_and_rotate(x, n, &g);
  join_past(x, n, &g);
  g.a.offsets = g.past;
  g.a.bias = g.in[BIAS];
  if (!g.a.causal && g.a.k && g.in[SEQLENS]) { /* padding behind the keys is hidden all the same */
    tn_dim keys = tn_ox_dim(x, g.a.k, 2);
    tn_value last = tn_ox_rank_back(x, tn_ox_cast(x, g.in[SEQLENS], TN_DT_i64), 4);
    g.a.mask = tn_ox_compare(x, "le", tn_ox_iota(x, TN_DT_i64, &keys, 1, 0), last);
  }
  return results(x, n, &g);
}

/* ---- RelativePositionBias ---- */

/* The bucket of each distance (Raffel et al. 2020): one each for the near ones, then by logarithm. */
static tn_value buckets(tn_ox *x, tn_value distance, double count, double most) {
  double exact = floor(count / 2);
  tn_value near = tn_ox_compare(x, "lt", distance, tn_ox_scalar(x, TN_DT_f32, exact));
  tn_value far =
      tn_ox_unary(x, "log",
                  tn_ox_binary(x, "div", tn_ox_binary(x, "max", distance, tn_ox_scalar(x, TN_DT_f32, 1)),
                               tn_ox_scalar(x, TN_DT_f32, exact)));
  far = tn_ox_binary(x, "mul", tn_ox_binary(x, "div", far, tn_ox_scalar(x, TN_DT_f32, log(most / exact))),
                     tn_ox_scalar(x, TN_DT_f32, count - exact));
  far = tn_ox_binary(x, "add", tn_ox_unary(x, "floor", far), tn_ox_scalar(x, TN_DT_f32, exact));
  far = tn_ox_binary(x, "min", far, tn_ox_scalar(x, TN_DT_f32, count - 1));
  return tn_ox_select(x, near, distance, far);
}

tn_status tn_ox_lower_relative_position_bias(tn_ox *x, tn_ox_node *n) {
  tn_value table = tn_ox_in(x, n, 0), zero = tn_ox_scalar(x, TN_DT_f32, 0);
  tn_dim q, k;
  uint32_t count;
  int64_t most = tn_ox_int(n, "max_distance", 0), all;
  bool both = tn_ox_int(n, "is_bidirectional", 0) != 0;
  if (!table || !tn_ox_now_dims(x, tn_ox_in(x, n, 1), &q, 1, &count) ||
      !tn_ox_now_dims(x, tn_ox_in(x, n, 2), &k, 1, &count))
    return tn_ox_out(x, n, 0, 0);
  if (!tn_ox_dconst(x, tn_ox_dim(x, table, 0), &all) || all < 4 || most < all)
    return tn_ox_refuse(x, n, NULL, "a table that is not known, or too small for max_distance %lld",
                        (long long)most);
  double half = both ? (double)(all / 2) : (double)all;
  tn_value by = tn_ox_binary(x, "sub", tn_ox_iota(x, TN_DT_f32, &k, 1, 0),
                             tn_ox_unsqueeze(x, tn_ox_iota(x, TN_DT_f32, &q, 1, 0), 1));
  tn_value distance =
      both ? tn_ox_unary(x, "abs", by) : tn_ox_binary(x, "max", tn_ox_unary(x, "neg", by), zero);
  tn_value bucket = buckets(x, distance, half, (double)most);
  if (both) {
    tn_value ahead =
        tn_ox_select(x, tn_ox_compare(x, "gt", by, zero), tn_ox_scalar(x, TN_DT_f32, half), zero);
    bucket = tn_ox_binary(x, "add", bucket, ahead);
  }
  tn_value y = tn_ox_gather(x, table, tn_ox_cast(x, bucket, TN_DT_i32), 0);
  return tn_ox_out(x, n, 0, tn_ox_unsqueeze(x, tn_ox_transpose(x, y, (int64_t[]){2, 0, 1}), 0));
}
