/* contrib_attention.c - com.microsoft: Attention, QAttention, MultiHeadAttention,
 * DecoderMaskedMultiHeadAttention. Masks of these ops do not hide keys: they add a large negative number to
 * the scores, and so do we. */
#include "frontend/onnx/ops/transformer.h"

typedef struct heads {
  tn_ox_attention a;
  tn_dim b, s, t; /* batch, queries, keys with the past */
  double filter;
  bool shared; /* keys and values are buffers with room for more */
} heads;

/* ---- masks ---- */

static tn_value added(tn_ox *x, tn_value a, tn_value b) {
  if (!a || !b) return a ? a : b;
  return tn_ox_binary(x, "add", a, tn_ox_cast(x, b, tn_ox_dtype(x, a)));
}

static tn_value hidden(tn_ox *x, const heads *h, tn_value seen) {
  return tn_ox_select(x, seen, tn_ox_scalar(x, TN_DT_f32, 0), tn_ox_scalar(x, TN_DT_f32, h->filter));
}

/* Lengths [b], or ends and starts [2 b]. */
static tn_value from_ends(tn_ox *x, tn_ox_node *n, const heads *h, tn_value mask) {
  tn_dim count = tn_ox_dim(x, mask, 0), twice = tn_ox_dmul(x, h->b, tn_ox_d(x, 2));
  tn_value keys = tn_ox_iota(x, TN_DT_i64, &h->t, 1, 0);
  mask = tn_ox_cast(x, mask, TN_DT_i64);
  bool both = count == twice && count != h->b;
  if (!both && count != h->b) {
    tn_ox_refuse(x, n, "use a mask of one number for each key",
                 "a mask of one dim that is neither lengths nor ends and starts");
    return 0;
  }
  tn_value end = both ? tn_ox_slice(x, mask, 0, tn_ox_d(x, 0), h->b, 1) : mask;
  tn_value seen = tn_ox_compare(x, "lt", keys, tn_ox_rank_back(x, end, 4));
  if (both) {
    tn_value start = tn_ox_slice(x, mask, 0, h->b, twice, 1);
    seen = tn_ox_binary(x, "and", seen, tn_ox_compare(x, "ge", keys, tn_ox_rank_back(x, start, 4)));
  }
  return hidden(x, h, seen);
}

static tn_value mask_bias(tn_ox *x, tn_ox_node *n, const heads *h, tn_value mask) {
  if (!mask) return 0;
  uint32_t rank = tn_ox_rank(x, mask);
  if (rank == 1) return from_ends(x, n, h, mask);
  if (rank != 2 && rank != 3) {
    tn_ox_refuse(x, n, "use a mask of one number for each key", "a mask of rank %u", rank);
    return 0;
  }
  tn_value seen = tn_ox_compare(x, "gt", mask, tn_ox_scalar_int(x, tn_ox_dtype(x, mask), 0));
  for (uint32_t i = rank; i < 4; i++) seen = tn_ox_unsqueeze(x, seen, 1);
  return hidden(x, h, seen);
}

/* ---- the part all have ---- */

static void start_heads(tn_ox_node *n, heads *h) {
  h->a.left = h->a.right = -1;
  h->a.want_scores = -1;
  h->a.scale = tn_ox_has_attr(n, "scale") ? tn_ox_float(n, "scale", 0) : 0;
  h->a.causal = tn_ox_int(n, "unidirectional", 0) != 0;
  h->filter = tn_ox_float(n, "mask_filter_value", -10000);
}

static bool measure(tn_ox *x, heads *h) {
  if (!h->a.q || !h->a.k || !h->a.v || tn_ox_failed(x)) return false;
  h->b = tn_ox_dim(x, h->a.q, 0);
  h->s = tn_ox_dim(x, h->a.q, 2);
  h->t = tn_ox_dim(x, h->a.k, 2);
  return true;
}

/* A bias of the keys there are, as wide as a buffer that has room for more: those are hidden anyway. */
static tn_value as_wide(tn_ox *x, tn_value bias, tn_dim keys) {
  tn_dim dims[TN_MAX_RANK];
  if (!bias || tn_ox_dim(x, bias, -1) == keys) return bias;
  tn_ox_dims(x, bias, dims);
  uint32_t rank = tn_ox_rank(x, bias);
  dims[rank - 1] = tn_ox_dsub(x, keys, dims[rank - 1]);
  return tn_ox_concat(x, (tn_value[]){bias, tn_ox_full(x, tn_ox_scalar_like(x, bias, 0), dims, rank)}, 2, -1);
}

static tn_status finish(tn_ox *x, tn_ox_node *n, heads *h, tn_value mask, tn_value bias, uint32_t scores_at) {
  tn_value scores = 0;
  h->a.bias = added(x, mask_bias(x, n, h, mask), bias);
  if (h->shared) h->a.bias = as_wide(x, h->a.bias, h->t);
  tn_value y = tn_ox_attend(x, n, &h->a, &scores);
  TN_TRY(tn_ox_out(x, n, 0, tn_ox_merge_heads(x, y)));
  return h->a.want_scores >= 0 ? tn_ox_out(x, n, scores_at, scores) : TN_OK;
}

static void behind(tn_ox *x, tn_value past, tn_value *now) {
  if (past) *now = tn_ox_concat(x, (tn_value[]){past, *now}, 2, 2);
}

/* ---- Attention, QAttention ---- */

/* Features [b, s, q + k + v] as heads. */
static void split_features(tn_ox *x, tn_ox_node *n, tn_value v, const int64_t *sizes, uint32_t count,
                           int64_t heads_n, heads *h) {
  tn_value *const part[] = {&h->a.q, &h->a.k, &h->a.v};
  if (!v) return;
  tn_dim third = tn_ox_ddiv(x, tn_ox_dim(x, v, -1), tn_ox_d(x, 3)), at = tn_ox_d(x, 0);
  for (uint32_t i = 0; i < 3; i++) {
    tn_dim to = tn_ox_dadd(x, at, count == 3 ? tn_ox_d(x, sizes[i]) : third);
    *part[i] = tn_ox_heads(x, n, tn_ox_slice(x, v, -1, at, to, 1), heads_n);
    at = to;
  }
}

static tn_value half_of(tn_ox *x, tn_value past, int64_t i) {
  return past ? tn_ox_squeeze(x, tn_ox_slice(x, past, 0, tn_ox_d(x, i), tn_ox_d(x, i + 1), 1), 0) : 0;
}

typedef struct packed_inputs {
  tn_value features, mask, past, bias;
} packed_inputs;

static tn_status attend_packed(tn_ox *x, tn_ox_node *n, const packed_inputs *p) {
  uint32_t count;
  heads h = {0};
  const int64_t *sizes = tn_ox_ints(n, "qkv_hidden_sizes", &count);
  TN_TRY(tn_ox_want_int(x, n, "do_rotary", 0, 0));
  TN_TRY(tn_ox_want_int(x, n, "past_present_share_buffer", 0, 0));
  start_heads(n, &h);
  split_features(x, n, p->features, sizes, count, tn_ox_int(n, "num_heads", 0), &h);
  if (p->past) h.a.offset = tn_ox_dim(x, p->past, 3);
  behind(x, half_of(x, p->past, 0), &h.a.k);
  behind(x, half_of(x, p->past, 1), &h.a.v);
  if (!measure(x, &h)) return tn_ox_out(x, n, 0, 0);
  TN_TRY(finish(x, n, &h, p->mask, p->bias, 0));
  if (!tn_ox_wants(n, 1)) return TN_OK;
  const tn_value both[] = {tn_ox_unsqueeze(x, h.a.k, 0), tn_ox_unsqueeze(x, h.a.v, 0)};
  return tn_ox_out(x, n, 1, tn_ox_concat(x, both, 2, 0));
}

tn_status tn_ox_lower_ms_attention(tn_ox *x, tn_ox_node *n) {
  packed_inputs p = {0, tn_ox_in(x, n, 3), tn_ox_in(x, n, 4), tn_ox_in(x, n, 5)};
  tn_value bias = tn_ox_in(x, n, 2);
  if (tn_ox_in(x, n, 6)) return tn_ox_refuse(x, n, NULL, "input past_sequence_length is not supported");
  p.features = tn_ox_product(x, n, tn_ox_in(x, n, 0), tn_ox_in(x, n, 1), false, false);
  if (bias) p.features = tn_ox_binary(x, "add", p.features, bias);
  return attend_packed(x, n, &p);
}

tn_status tn_ox_lower_qattention(tn_ox *x, tn_ox_node *n) {
  packed_inputs p = {0, tn_ox_in(x, n, 5), tn_ox_in(x, n, 8), 0};
  tn_value v =
      tn_ox_integer_product(x, n, tn_ox_in(x, n, 0), tn_ox_in(x, n, 6), tn_ox_in(x, n, 1), tn_ox_in(x, n, 7));
  tn_value by =
      tn_ox_binary(x, "mul", tn_ox_as_scalar(x, tn_ox_in(x, n, 3)), tn_ox_as_scalar(x, tn_ox_in(x, n, 4)));
  p.features = tn_ox_binary(x, "mul", tn_ox_cast(x, v, TN_DT_f32), by);
  if (tn_ox_in(x, n, 2)) p.features = tn_ox_binary(x, "add", p.features, tn_ox_in(x, n, 2));
  return attend_packed(x, n, &p);
}

/* ---- MultiHeadAttention ---- */

/* Part i of features [b, s, heads, parts, d] as [b, heads, s, d]. */
static tn_value part_of(tn_ox *x, tn_value v, int64_t i) {
  tn_value p = tn_ox_squeeze(x, tn_ox_slice(x, v, 3, tn_ox_d(x, i), tn_ox_d(x, i + 1), 1), 3);
  return tn_ox_swap(x, p, 1, 2);
}

/* Part i of the projections' biases, [q + k + v], for features [b, s, size]. */
static tn_value biased(tn_ox *x, tn_value v, tn_value bias, tn_dim *at) {
  if (!v || !bias) return v;
  tn_dim to = tn_ox_dadd(x, *at, tn_ox_dim(x, v, -1));
  v = tn_ox_binary(x, "add", v, tn_ox_slice(x, bias, 0, *at, to, 1));
  *at = to;
  return v;
}

/* Operands in any of their layouts: q, k, v apart; k and v together; all in one; k and v as heads already. */
static void take_qkv(tn_ox *x, tn_ox_node *n, tn_value q, tn_value k, tn_value v, tn_value bias, int64_t num,
                     heads *h) {
  tn_dim at = tn_ox_d(x, 0);
  if (!q) return;
  if (tn_ox_rank(x, q) == 5) {
    if (bias) tn_ox_refuse(x, n, NULL, "a bias beside packed queries, keys and values");
    h->a.q = part_of(x, q, 0), h->a.k = part_of(x, q, 1), h->a.v = part_of(x, q, 2);
    return;
  }
  bool ready = k && tn_ox_rank(x, k) == 4, together = k && tn_ox_rank(x, k) == 5;
  if (!k || (!v && !together)) {
    tn_ox_fail(x, n, "keys or values are missing");
    return;
  }
  h->a.q = tn_ox_heads(x, n, biased(x, q, bias, &at), num);
  h->a.k = ready ? k : together ? part_of(x, k, 0) : tn_ox_heads(x, n, biased(x, k, bias, &at), num);
  h->a.v = ready ? v : together ? part_of(x, k, 1) : tn_ox_heads(x, n, biased(x, v, bias, &at), num);
}

static tn_status presents(tn_ox *x, tn_ox_node *n, const heads *h) {
  if (tn_ox_wants(n, 1)) TN_TRY(tn_ox_out(x, n, 1, h->a.k));
  return tn_ox_wants(n, 2) ? tn_ox_out(x, n, 2, h->a.v) : TN_OK;
}

tn_status tn_ox_lower_multi_head_attention(tn_ox *x, tn_ox_node *n) {
  heads h = {0};
  tn_value past = tn_ox_in(x, n, 6), past_value = tn_ox_in(x, n, 7);
  if (tn_ox_in(x, n, 8) || tn_ox_in(x, n, 9))
    return tn_ox_refuse(x, n, "export without shared buffers",
                        "past_sequence_length and cache_indirection are not supported");
  start_heads(n, &h);
  if (tn_ox_wants(n, 3)) h.a.want_scores = 2;
  take_qkv(x, n, tn_ox_in(x, n, 0), tn_ox_in(x, n, 1), tn_ox_in(x, n, 2), tn_ox_in(x, n, 3),
           tn_ox_int(n, "num_heads", 0), &h);
  if (past) h.a.offset = tn_ox_dim(x, past, 2);
  behind(x, past, &h.a.k);
  behind(x, past_value, &h.a.v);
  if (!measure(x, &h)) return tn_ox_out(x, n, 0, 0);
  TN_TRY(finish(x, n, &h, tn_ox_in(x, n, 4), tn_ox_in(x, n, 5), 3));
  return presents(x, n, &h);
}

/* One token. With a shared buffer, past_sequence_length says where in past_key it goes. */
tn_status tn_ox_lower_decoder_masked_attention(tn_ox *x, tn_ox_node *n) {
  heads h = {0};
  tn_value past = tn_ox_in(x, n, 5), past_value = tn_ox_in(x, n, 6), at = tn_ox_in(x, n, 7);
  bool shared = tn_ox_int(n, "past_present_share_buffer", 0) != 0;
  if (tn_ox_in(x, n, 9))
    return tn_ox_refuse(x, n, "export without beam search", "cache_indirection is not supported");
  start_heads(n, &h);
  if (tn_ox_int(n, "output_qk", 0) && tn_ox_wants(n, 3)) h.a.want_scores = 2;
  take_qkv(x, n, tn_ox_in(x, n, 0), tn_ox_in(x, n, 1), tn_ox_in(x, n, 2), tn_ox_in(x, n, 10),
           tn_ox_int(n, "num_heads", 0), &h);
  if (shared && past && past_value) {
    if (!at) return tn_ox_fail(x, n, "a shared buffer needs past_sequence_length");
    tn_dim batch = tn_ox_dim(x, past, 0), size = tn_ox_dim(x, past, 2);
    at = tn_ox_full(x, tn_ox_cast(x, tn_ox_as_scalar(x, at), TN_DT_i64), &batch, 1);
    h.a.k = tn_ox_place_rows(x, n, past, h.a.k, at, 2, false, size);
    h.a.v = tn_ox_place_rows(x, n, past_value, h.a.v, at, 2, false, size);
    h.a.offsets = at, h.a.causal = h.shared = true;
  } else {
    if (past) h.a.offset = tn_ox_dim(x, past, 2);
    behind(x, past, &h.a.k);
    behind(x, past_value, &h.a.v);
  }
  if (!measure(x, &h)) return tn_ox_out(x, n, 0, 0);
  TN_TRY(finish(x, n, &h, tn_ox_in(x, n, 3), tn_ox_in(x, n, 4), 3));
  return presents(x, n, &h);
}
