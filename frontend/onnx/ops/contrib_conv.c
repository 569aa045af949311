/* contrib_conv.c - com.microsoft: convolutions with an epilogue, or with channels last. */
#include "frontend/onnx/ops/spatial.h"
#include "frontend/onnx/ops/transformer.h"

tn_value tn_ox_channels_first(tn_ox *x, tn_value v, bool back) {
  int64_t perm[TN_MAX_RANK];
  if (!v) return 0;
  uint32_t rank = tn_ox_rank(x, v);
  for (uint32_t i = 0; i < rank; i++) perm[i] = i;
  for (uint32_t i = 1; i < rank; i++)
    perm[i] = back ? (i + 1 < rank ? i + 1 : 1) : (i == 1 ? rank - 1 : i - 1);
  return tn_ox_transpose(x, v, perm);
}

static tn_status convolve(tn_ox *x, tn_ox_node *n, bool last) {
  uint32_t count;
  const float *params = tn_ox_floats(n, "activation_params", &count);
  tn_value v = tn_ox_in(x, n, 0), more = tn_ox_in(x, n, 3);
  tn_value y =
      tn_ox_conv(x, n, last ? tn_ox_channels_first(x, v, false) : v, tn_ox_in(x, n, 1), tn_ox_in(x, n, 2));
  if (last) y = tn_ox_channels_first(x, y, true);
  if (more) y = tn_ox_binary(x, "add", y, more);
  return tn_ox_out(x, n, 0, tn_ox_activation(x, n, tn_ox_str(n, "activation", ""), y, params, count));
}

tn_status tn_ox_lower_fused_conv(tn_ox *x, tn_ox_node *n) { return convolve(x, n, false); }
tn_status tn_ox_lower_nhwc_conv(tn_ox *x, tn_ox_node *n) { return convolve(x, n, true); }
