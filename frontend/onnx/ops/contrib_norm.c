/* contrib_norm.c - com.microsoft: sums with a norm behind them, embeddings, groups of channels, activations.
 */
#include "frontend/onnx/ops/transformer.h"
#include <math.h>

/* ---- activations ---- */

tn_value tn_ox_gelu(tn_ox *x, tn_value v, const char *form) {
  return tn_ox_make(x, "gelu", &v, 1, TN_OX_ATTRS(TN_OX_STR("form", form)));
}

static tn_value clipped(tn_ox *x, tn_value v, double low, double high) {
  v = tn_ox_binary(x, "max", v, tn_ox_scalar_like(x, v, low));
  return tn_ox_binary(x, "min", v, tn_ox_scalar_like(x, v, high));
}

/* v alpha + beta */
static tn_value line(tn_ox *x, tn_value v, double alpha, double beta) {
  v = tn_ox_binary(x, "mul", v, tn_ox_scalar_like(x, v, alpha));
  return tn_ox_binary(x, "add", v, tn_ox_scalar_like(x, v, beta));
}

tn_value tn_ox_activation(tn_ox *x, tn_ox_node *n, const char *name, tn_value v, const float *params,
                          uint32_t count) {
  double p = count > 0 ? params[0] : 0, q = count > 1 ? params[1] : 0;
  if (!v || !*name || !strcmp(name, "Identity")) return v;
  if (!strcmp(name, "Relu")) return tn_ox_unary(x, "relu", v);
  if (!strcmp(name, "Tanh")) return tn_ox_unary(x, "tanh", v);
  if (!strcmp(name, "Sigmoid")) return tn_ox_unary(x, "sigmoid", v);
  if (!strcmp(name, "Gelu")) return tn_ox_gelu(x, v, "erf");
  if (!strcmp(name, "QuickGelu"))
    return tn_ox_binary(x, "mul", v, tn_ox_unary(x, "sigmoid", line(x, v, count ? p : 1.702, 0)));
  if (!strcmp(name, "Clip") && count > 1) return clipped(x, v, p, q);
  if (!strcmp(name, "HardSigmoid")) return clipped(x, line(x, v, count ? p : 0.2, count > 1 ? q : 0.5), 0, 1);
  if (!strcmp(name, "LeakyRelu")) {
    tn_value zero = tn_ox_scalar_like(x, v, 0), slope = tn_ox_scalar_like(x, v, count ? p : 0.01f);
    return tn_ox_select(x, tn_ox_compare(x, "lt", v, zero), tn_ox_binary(x, "mul", v, slope), v);
  }
  tn_ox_refuse(x, n, NULL, "activation '%s' is not supported", name);
  return 0;
}

static tn_value plus(tn_ox *x, tn_value v, tn_value bias) {
  return bias ? tn_ox_binary(x, "add", v, bias) : v;
}

tn_status tn_ox_lower_fast_gelu(tn_ox *x, tn_ox_node *n) {
  return tn_ox_out(x, n, 0, tn_ox_gelu(x, plus(x, tn_ox_in(x, n, 0), tn_ox_in(x, n, 1)), "tanh"));
}

tn_status tn_ox_lower_bias_gelu(tn_ox *x, tn_ox_node *n) {
  return tn_ox_out(x, n, 0, tn_ox_gelu(x, plus(x, tn_ox_in(x, n, 0), tn_ox_in(x, n, 1)), "erf"));
}

tn_status tn_ox_lower_quick_gelu(tn_ox *x, tn_ox_node *n) {
  const float alpha = (float)tn_ox_float(n, "alpha", 1.702f);
  tn_value v = tn_ox_in(x, n, 0);
  if (alpha == 1.702f) return tn_ox_out(x, n, 0, tn_ox_gelu(x, v, "quick"));
  return tn_ox_out(x, n, 0, tn_ox_activation(x, n, "QuickGelu", v, &alpha, 1));
}

tn_status tn_ox_lower_bias_add(tn_ox *x, tn_ox_node *n) {
  return tn_ox_out(x, n, 0, plus(x, plus(x, tn_ox_in(x, n, 0), tn_ox_in(x, n, 1)), tn_ox_in(x, n, 2)));
}

/* The left half times the GELU of the right one. */
tn_status tn_ox_lower_bias_split_gelu(tn_ox *x, tn_ox_node *n) {
  tn_value v = plus(x, tn_ox_in(x, n, 0), tn_ox_in(x, n, 1));
  if (!v) return tn_ox_out(x, n, 0, 0);
  tn_dim size = tn_ox_dim(x, v, -1), half = tn_ox_ddiv(x, size, tn_ox_d(x, 2));
  tn_value left = tn_ox_slice(x, v, -1, tn_ox_d(x, 0), half, 1), right = tn_ox_slice(x, v, -1, half, size, 1);
  return tn_ox_out(x, n, 0, tn_ox_binary(x, "mul", left, tn_ox_gelu(x, right, "erf")));
}

/* Softmax over all dims from `axis` on, as one. */
tn_status tn_ox_lower_bias_softmax(tn_ox *x, tn_ox_node *n) {
  tn_dim dims[TN_MAX_RANK], flat[TN_MAX_RANK];
  tn_value v = tn_ox_in(x, n, 0), bias = tn_ox_in(x, n, 1);
  if (!v || !bias) return tn_ox_out(x, n, 0, 0);
  uint32_t rank = tn_ox_rank(x, v), axis = tn_ox_axis(x, n, tn_ox_int(n, "axis", 1), rank);
  TN_TRY(tn_ox_want_int(x, n, "is_inner_broadcast", 0, 0));
  v = tn_ox_binary(x, "add", v, bias);
  if (!v) return tn_ox_out(x, n, 0, 0);
  tn_ox_dims(x, v, dims);
  memcpy(flat, dims, sizeof flat);
  for (uint32_t i = axis + 1; i < rank; i++) flat[axis] = tn_ox_dmul(x, flat[axis], dims[i]);
  v = tn_ox_softmax(x, tn_ox_reshape(x, v, flat, axis + 1), -1);
  return tn_ox_out(x, n, 0, tn_ox_reshape(x, v, dims, rank));
}

/* ---- sums with a norm ---- */

static tn_status skip_norm(tn_ox *x, tn_ox_node *n, bool rms) {
  tn_value v = tn_ox_in(x, n, 0), skip = tn_ox_in(x, n, 1), scale = tn_ox_in(x, n, 2);
  tn_value shift = rms ? 0 : tn_ox_in(x, n, 3), bias = tn_ox_in(x, n, rms ? 3 : 4);
  double eps = tn_ox_float(n, "epsilon", 1e-12f);
  if (tn_ox_wants(n, 1) || tn_ox_wants(n, 2))
    return tn_ox_refuse(x, n, "export the model in inference mode",
                        "mean and inv_std_var are results of training");
  v = plus(x, tn_ox_binary(x, "add", v, skip), bias);
  TN_TRY(
      tn_ox_out(x, n, 0, rms ? tn_ox_rms_norm(x, v, scale, eps) : tn_ox_layer_norm(x, v, scale, shift, eps)));
  return tn_ox_wants(n, 3) ? tn_ox_out(x, n, 3, v) : TN_OK;
}

tn_status tn_ox_lower_skip_layer_norm(tn_ox *x, tn_ox_node *n) { return skip_norm(x, n, false); }
tn_status tn_ox_lower_skip_rms_norm(tn_ox *x, tn_ox_node *n) { return skip_norm(x, n, true); }

/* ---- EmbedLayerNormalization ---- */

/* How many words each sequence has: the number of ones in its mask. */
static tn_status mask_index(tn_ox *x, tn_ox_node *n, tn_value ids, tn_value mask) {
  tn_dim batch = tn_ox_dim(x, ids, 0);
  if (!tn_ox_wants(n, 1)) return TN_OK;
  if (!mask) return tn_ox_out(x, n, 1, tn_ox_full(x, tn_ox_scalar_int(x, TN_DT_i32, 0), &batch, 1));
  tn_value one = tn_ox_compare(x, "eq", mask, tn_ox_scalar_int(x, tn_ox_dtype(x, mask), 1));
  return tn_ox_out(x, n, 1,
                   tn_ox_reduce(x, "reduce_sum", tn_ox_cast(x, one, TN_DT_i32), (int64_t[]){1}, 1, false));
}

tn_status tn_ox_lower_embed_layer_norm(tn_ox *x, tn_ox_node *n) {
  tn_value in[9];
  for (uint32_t i = 0; i < 9; i++) in[i] = tn_ox_in(x, n, i);
  if (!in[0] || !in[2] || !in[3]) return tn_ox_out(x, n, 0, 0);
  tn_dim tokens = tn_ox_dim(x, in[0], 1);
  tn_value places = in[8] ? in[8] : tn_ox_iota(x, TN_DT_i64, &tokens, 1, 0);
  tn_value v = tn_ox_binary(x, "add", tn_ox_gather(x, in[2], in[0], 0), tn_ox_gather(x, in[3], places, 0));
  if (in[1] && in[4]) v = tn_ox_binary(x, "add", v, tn_ox_gather(x, in[4], in[1], 0));
  TN_TRY(tn_ox_out(x, n, 0, tn_ox_layer_norm(x, v, in[5], in[6], tn_ox_float(n, "epsilon", 1e-12f))));
  TN_TRY(mask_index(x, n, in[0], in[7]));
  return tn_ox_wants(n, 2) ? tn_ox_out(x, n, 2, v) : TN_OK;
}

/* ---- GroupNorm, SkipGroupNorm ---- */

static tn_status group_norm(tn_ox *x, tn_ox_node *n, tn_value v) {
  tn_value scale = tn_ox_in(x, n, 1), shift = tn_ox_in(x, n, 2);
  bool last = tn_ox_int(n, "channels_last", 1) != 0;
  int64_t act = tn_ox_int(n, "activation", 0), groups = tn_ox_int(n, "groups", 0);
  if (!v || !scale || !shift) return tn_ox_out(x, n, 0, 0);
  if (act != 0 && act != 1) return tn_ox_fail(x, n, "activation is %lld, wants 0 or 1", (long long)act);
  tn_dtype t = tn_ox_dtype(x, v);
  uint32_t rank = tn_ox_rank(x, v) - 1;
  if (last) v = tn_ox_channels_first(x, v, false);
  v = tn_ox_cast(x, tn_ox_group_standard(x, n, v, groups, tn_ox_float(n, "epsilon", 1e-5f)), TN_DT_f32);
  v = tn_ox_binary(x, "mul", v, tn_ox_rank_back(x, tn_ox_cast(x, scale, TN_DT_f32), rank));
  v = tn_ox_binary(x, "add", v, tn_ox_rank_back(x, tn_ox_cast(x, shift, TN_DT_f32), rank));
  if (act) v = tn_ox_unary(x, "silu", v);
  v = tn_ox_cast(x, v, t);
  return tn_ox_out(x, n, 0, last ? tn_ox_channels_first(x, v, true) : v);
}

tn_status tn_ox_lower_ms_group_norm(tn_ox *x, tn_ox_node *n) { return group_norm(x, n, tn_ox_in(x, n, 0)); }

tn_status tn_ox_lower_skip_group_norm(tn_ox *x, tn_ox_node *n) {
  tn_value v = tn_ox_in(x, n, 0), skip = tn_ox_in(x, n, 3), bias = tn_ox_in(x, n, 4);
  bool last = tn_ox_int(n, "channels_last", 1) != 0;
  if (!v || !skip) return tn_ox_out(x, n, 0, 0);
  if (tn_ox_rank(x, skip) == 2) /* one vector of channels for each item */
    for (int i = 0; i < 2; i++) skip = tn_ox_unsqueeze(x, skip, last ? 1 : 2 + i);
  if (bias && !last) bias = tn_ox_rank_back(x, bias, 3);
  v = plus(x, tn_ox_binary(x, "add", v, skip), bias);
  if (tn_ox_wants(n, 1)) TN_TRY(tn_ox_out(x, n, 1, v));
  return group_norm(x, n, v);
}
