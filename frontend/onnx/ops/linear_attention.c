/* linear_attention.c - LinearAttention and CausalConvWithState, of ONNX and as com.microsoft has them. */
#include "frontend/onnx/ops/transformer.h"
#include <math.h>

/* ---- LinearAttention ---- */

/* [b, s, heads d] as [b, s, heads, d]. */
static tn_value split_heads(tn_ox *x, tn_ox_node *n, tn_value v, int64_t heads) {
  return v ? tn_ox_swap(x, tn_ox_heads(x, n, v, heads), 1, 2) : 0;
}

static tn_value decay_of(tn_ox *x, tn_ox_node *n, tn_value decay, int64_t heads) {
  int64_t size;
  if (!decay) return 0;
  if (tn_ox_rank(x, decay) == 3 && tn_ox_dconst(x, tn_ox_dim(x, decay, 2), &size))
    return split_heads(x, n, decay, heads);
  tn_ox_fail(x, n, "decay has rank %u, wants 3 and a last dim that is known", tn_ox_rank(x, decay));
  return 0;
}

/* [b, s, heads or 1] as [b, s, heads]. */
static tn_value beta_of(tn_ox *x, tn_value beta, int64_t heads) {
  tn_dim dims[TN_MAX_RANK];
  if (!beta || tn_ox_rank(x, beta) != 3 || !tn_ox_is_one(x, tn_ox_dim(x, beta, 2))) return beta;
  tn_ox_dims(x, beta, dims);
  dims[2] = tn_ox_d(x, heads);
  return tn_ox_broadcast(x, beta, dims, 3);
}

/* Which of decay and beta a rule reads; it must have exactly those. */
static tn_status check_rule(tn_ox *x, tn_ox_node *n, tn_value decay, tn_value beta) {
  static const struct {
    const char *name;
    bool decay, beta;
  } rules[] = {
      {"linear", false, false}, {"gated", true, false}, {"delta", false, true}, {"gated_delta", true, true}};
  const char *rule = tn_ox_str(n, "update_rule", "gated_delta");
  for (size_t i = 0; i < TN_COUNT(rules); i++) {
    if (strcmp(rules[i].name, rule)) continue;
    if (rules[i].decay == (decay != 0) && rules[i].beta == (beta != 0)) return TN_OK;
    return tn_ox_fail(x, n, "rule '%s' with%s decay and with%s beta", rule, decay ? "" : "out",
                      beta ? "" : "out");
  }
  return tn_ox_fail(x, n, "update_rule is '%s', wants linear, gated, delta or gated_delta", rule);
}

static double scale_of(tn_ox *x, tn_ox_node *n, tn_value q) {
  int64_t d = 1;
  double scale = tn_ox_float(n, "scale", 0);
  if (scale != 0 || !q) return scale;
  if (!tn_ox_dconst(x, tn_ox_dim(x, q, -1), &d) || d < 1)
    tn_ox_refuse(x, n, "state the attribute 'scale'", "the number of features is not known");
  return 1 / sqrt((double)d);
}

tn_status tn_ox_lower_linear_attention(tn_ox *x, tn_ox_node *n) {
  tn_value in[6];
  int64_t heads = tn_ox_int(n, "q_num_heads", 0), kv = tn_ox_int(n, "kv_num_heads", 0);
  for (uint32_t i = 0; i < 6; i++) in[i] = tn_ox_in(x, n, i);
  tn_value state = in[3], decay = in[4], beta = in[5];
  TN_TRY(check_rule(x, n, decay, beta));
  TN_TRY(tn_ox_want_int(x, n, "state_window", 0, 0));
  if (heads < 1 || kv < 1 || heads % kv)
    return tn_ox_refuse(x, n, NULL, "%lld heads of queries and %lld of keys", (long long)heads,
                        (long long)kv);
  tn_value q = split_heads(x, n, in[0], heads), k = split_heads(x, n, in[1], kv),
           v = split_heads(x, n, in[2], kv);
  decay = decay_of(x, n, decay, kv), beta = beta_of(x, beta, kv);
  const tn_named_attr *scale = TN_OX_ATTRS(TN_OX_FLOAT("scale", scale_of(x, n, q)));
  if (tn_ox_failed(x) || !q || !k || !v) return tn_ox_out(x, n, 0, 0);
  tn_op op = tn_ox_make_op(x, "delta_scan", (tn_value[]){q, k, v, state, decay, beta}, 6, scale);
  TN_TRY(tn_ox_out(x, n, 0, tn_ox_merge_heads(x, tn_ox_result(x, op, 0))));
  if (!tn_ox_wants(n, 1)) return TN_OK;
  return tn_ox_out(x, n, 1, tn_ox_cast(x, tn_ox_result(x, op, 1), tn_ox_dtype(x, state ? state : q)));
}

/* ---- CausalConvWithState ---- */

enum { MOST_TAPS = 64 };

typedef struct causal {
  tn_value v, w, bias, past; /* [b, c, n], [c, 1, k], [c], [b, c, (k - 1) dilation] */
  int64_t taps, dilation;
} causal;

static bool check_causal(tn_ox *x, tn_ox_node *n, causal *a) {
  if (!a->v || !a->w) return false;
  if (tn_ox_rank(x, a->v) != 3 || tn_ox_rank(x, a->w) != 3) {
    tn_ox_refuse(x, n, NULL, "input and weight have ranks %u and %u, only 3 is supported",
                 tn_ox_rank(x, a->v), tn_ox_rank(x, a->w));
    return false;
  }
  if (!tn_ox_dconst(x, tn_ox_dim(x, a->w, 2), &a->taps) || a->taps < 1 || a->taps > MOST_TAPS ||
      a->dilation < 1) {
    tn_ox_refuse(x, n, NULL, "the kernel's size has to be a number from 1 to %d", MOST_TAPS);
    return false;
  }
  return true;
}

/* The sum over the taps, in f32; *last: what the next call has as its past. */
static tn_value slide(tn_ox *x, causal *a, tn_value *last) {
  tn_dim length = tn_ox_dim(x, a->v, 2), before = tn_ox_d(x, (a->taps - 1) * a->dilation);
  tn_dim dims[] = {tn_ox_dim(x, a->v, 0), tn_ox_dim(x, a->v, 1), before};
  tn_value past = a->past ? a->past : tn_ox_full(x, tn_ox_scalar_like(x, a->v, 0), dims, 3), y = 0;
  tn_value all = tn_ox_concat(x, (tn_value[]){past, a->v}, 2, 2);
  for (int64_t i = 0; i < a->taps; i++) {
    tn_dim at = tn_ox_d(x, i * a->dilation);
    tn_value tap = tn_ox_squeeze(x, tn_ox_slice(x, a->w, 2, tn_ox_d(x, i), tn_ox_d(x, i + 1), 1), 1);
    tn_value part = tn_ox_slice(x, all, 2, at, tn_ox_dadd(x, length, at), 1);
    part = tn_ox_binary(x, "mul", tn_ox_cast(x, part, TN_DT_f32), tn_ox_cast(x, tap, TN_DT_f32));
    y = y ? tn_ox_binary(x, "add", y, part) : part;
  }
  *last = tn_ox_slice(x, all, 2, length, tn_ox_dadd(x, length, before), 1);
  return a->bias ? tn_ox_binary(x, "add", y, tn_ox_unsqueeze(x, tn_ox_cast(x, a->bias, TN_DT_f32), 1)) : y;
}

tn_status tn_ox_lower_causal_conv(tn_ox *x, tn_ox_node *n) {
  causal a = {tn_ox_in(x, n, 0),          tn_ox_in(x, n, 1), tn_ox_in(x, n, 2), tn_ox_in(x, n, 3), 0,
              tn_ox_int(n, "dilation", 1)};
  const char *act = tn_ox_str(n, "activation", "none");
  bool last_dim = tn_ox_int(n, "channels_last", 0) != 0, silu = !strcmp(act, "silu") || !strcmp(act, "swish");
  tn_value last = 0;
  TN_TRY(tn_ox_want_int(x, n, "state_window", 0, 0));
  TN_TRY(tn_ox_want_int(x, n, "ndim", 1, 1));
  if (!silu && strcmp(act, "none"))
    return tn_ox_fail(x, n, "activation is '%s', wants silu, swish or none", act);
  if (!check_causal(x, n, &a)) return tn_ox_out(x, n, 0, 0);
  if (last_dim) a.v = tn_ox_channels_first(x, a.v, false);
  if (last_dim && a.past) a.past = tn_ox_channels_first(x, a.past, false);
  tn_value y = slide(x, &a, &last);
  y = tn_ox_cast(x, silu ? tn_ox_unary(x, "silu", y) : y, tn_ox_dtype(x, a.v));
  TN_TRY(tn_ox_out(x, n, 0, last_dim ? tn_ox_channels_first(x, y, true) : y));
  if (!tn_ox_wants(n, 1)) return TN_OK;
  return tn_ox_out(x, n, 1, last_dim ? tn_ox_channels_first(x, last, true) : last);
}
