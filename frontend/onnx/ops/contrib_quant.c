/* contrib_quant.c - com.microsoft ops on quantised tensors: rebuilt, computed in f32, quantised again, as
 * ONNX Runtime defines them. */
#include "frontend/onnx/ops/spatial.h"
#include "frontend/onnx/ops/transformer.h"

/* Inputs at, at + 1, at + 2: codes, scale, zero point. */
static tn_value real(tn_ox *x, tn_ox_node *n, uint32_t at) {
  tn_value zero = tn_ox_in(x, n, at + 2);
  return tn_ox_dequantize(x, tn_ox_in(x, n, at), tn_ox_as_scalar(x, tn_ox_in(x, n, at + 1)),
                          tn_ox_as_scalar(x, zero), TN_DT_f32);
}

/* v as codes of scale and zero point at `at` and at + 1, in the type of `like`. */
static tn_status codes(tn_ox *x, tn_ox_node *n, tn_value v, uint32_t at, tn_value like) {
  tn_value scale = tn_ox_as_scalar(x, tn_ox_in(x, n, at)), zero = tn_ox_as_scalar(x, tn_ox_in(x, n, at + 1));
  if (!like) return tn_ox_out(x, n, 0, 0);
  return tn_ox_out(x, n, 0, tn_ox_quantize(x, v, scale, zero, tn_ox_dtype(x, zero ? zero : like)));
}

static tn_status binary(tn_ox *x, tn_ox_node *n, const char *op) {
  return codes(x, n, tn_ox_binary(x, op, real(x, n, 0), real(x, n, 3)), 6, tn_ox_in(x, n, 0));
}

tn_status tn_ox_lower_qlinear_add(tn_ox *x, tn_ox_node *n) { return binary(x, n, "add"); }
tn_status tn_ox_lower_qlinear_mul(tn_ox *x, tn_ox_node *n) { return binary(x, n, "mul"); }

tn_status tn_ox_lower_qlinear_sigmoid(tn_ox *x, tn_ox_node *n) {
  return codes(x, n, tn_ox_unary(x, "sigmoid", real(x, n, 0)), 3, tn_ox_in(x, n, 0));
}

tn_status tn_ox_lower_qlinear_leaky_relu(tn_ox *x, tn_ox_node *n) {
  const float alpha = (float)tn_ox_float(n, "alpha", 0.01f);
  return codes(x, n, tn_ox_activation(x, n, "LeakyRelu", real(x, n, 0), &alpha, 1), 3, tn_ox_in(x, n, 0));
}

/* Up to opset 12 the dims from the axis on are one. */
tn_status tn_ox_lower_qlinear_softmax(tn_ox *x, tn_ox_node *n) {
  tn_dim dims[TN_MAX_RANK], flat[TN_MAX_RANK];
  tn_value v = real(x, n, 0);
  if (!v) return tn_ox_out(x, n, 0, 0);
  uint32_t rank = tn_ox_rank(x, v), axis = tn_ox_axis(x, n, tn_ox_int(n, "axis", -1), rank);
  if (tn_ox_int(n, "opset", 13) >= 13) return codes(x, n, tn_ox_softmax(x, v, axis), 3, tn_ox_in(x, n, 0));
  tn_ox_dims(x, v, dims);
  memcpy(flat, dims, sizeof flat);
  for (uint32_t i = axis + 1; i < rank; i++) flat[axis] = tn_ox_dmul(x, flat[axis], dims[i]);
  v = tn_ox_softmax(x, tn_ox_reshape(x, v, flat, axis + 1), -1);
  return codes(x, n, tn_ox_reshape(x, v, dims, rank), 3, tn_ox_in(x, n, 0));
}

enum { MOST_PARTS = 256 };

tn_status tn_ox_lower_qlinear_concat(tn_ox *x, tn_ox_node *n) {
  tn_value parts[MOST_PARTS];
  uint32_t count = tn_ox_nin(n) < 5 ? 0 : (tn_ox_nin(n) - 2) / 3;
  if (!count || count > MOST_PARTS || (tn_ox_nin(n) - 2) % 3)
    return tn_ox_fail(x, n, "%u inputs are not scale, zero point and up to %d tensors with theirs",
                      tn_ox_nin(n), MOST_PARTS);
  for (uint32_t i = 0; i < count; i++) parts[i] = real(x, n, 2 + 3 * i);
  return codes(x, n, tn_ox_concat(x, parts, count, tn_ox_int(n, "axis", 0)), 0, tn_ox_in(x, n, 2));
}

tn_status tn_ox_lower_qlinear_where(tn_ox *x, tn_ox_node *n) {
  tn_value v = tn_ox_select(x, tn_ox_in(x, n, 0), real(x, n, 1), real(x, n, 4));
  return codes(x, n, v, 7, tn_ox_in(x, n, 1));
}

tn_status tn_ox_lower_qlinear_reduce_mean(tn_ox *x, tn_ox_node *n) {
  uint32_t count;
  const int64_t *axes = tn_ox_ints(n, "axes", &count);
  tn_value v = tn_ox_reduce(x, "reduce_mean", real(x, n, 0), axes, count, tn_ox_int(n, "keepdims", 1) != 0);
  return codes(x, n, v, 3, tn_ox_in(x, n, 0));
}

tn_status tn_ox_lower_qlinear_global_pool(tn_ox *x, tn_ox_node *n) {
  int64_t axes[TN_MAX_RANK];
  tn_value v = real(x, n, 0);
  if (!v) return tn_ox_out(x, n, 0, 0);
  bool last = tn_ox_int(n, "channels_last", 0) != 0;
  uint32_t rank = tn_ox_rank(x, v), count = rank > 2 ? rank - 2 : 0;
  for (uint32_t i = 0; i < count; i++) axes[i] = last ? i + 1 : i + 2;
  if (count) v = tn_ox_reduce(x, "reduce_mean", v, axes, count, true);
  return codes(x, n, v, 3, tn_ox_in(x, n, 0));
}

tn_status tn_ox_lower_qlinear_average_pool(tn_ox *x, tn_ox_node *n) {
  tn_ox_window w;
  bool last = tn_ox_int(n, "channels_last", 0) != 0;
  tn_value v = real(x, n, 0);
  if (last) v = tn_ox_channels_first(x, v, false);
  if (!v || !tn_ox_read_window(x, n, v, NULL, &w)) return tn_ox_out(x, n, 0, 0);
  const tn_named_attr more[] = {TN_OX_STR("kind", "mean"),
                                TN_OX_BOOL("ceil", tn_ox_int(n, "ceil_mode", 0) != 0),
                                TN_OX_BOOL("count_pad", tn_ox_int(n, "count_include_pad", 0) != 0)};
  v = tn_ox_windowed(x, "pool", &v, 1, &w, true, more, 3);
  return codes(x, n, last ? tn_ox_channels_first(x, v, true) : v, 3, tn_ox_in(x, n, 0));
}
