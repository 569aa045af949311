/* places.c - reading a tensor at places that were computed: one element, or the 2^d around a place. The
 * tensor is taken as a line, and the place becomes a position in it. */
#include "frontend/onnx/ops/spatial.h"

tn_value tn_ox_clamp(tn_ox *x, tn_value v, tn_value low, tn_value high) {
  return tn_ox_binary(x, "min", tn_ox_binary(x, "max", v, low), high);
}

tn_value tn_ox_read_at(tn_ox *x, tn_value v, const tn_value *at, const tn_dim *dims, uint32_t rank) {
  uint32_t spatial = tn_ox_rank(x, v);
  tn_dim size[TN_MAX_RANK], lead[TN_MAX_RANK], all;
  if (!v || tn_ox_failed(x)) return 0;
  spatial -= 2;
  tn_ox_dims(x, v, size);
  for (uint32_t i = 0; i < rank; i++) lead[i] = i < 2 ? dims[i] : tn_ox_d(x, 1);
  tn_value line = tn_ox_iota(x, TN_DT_i64, lead, rank, 0);
  line = tn_ox_binary(x, "mul", line, tn_ox_dim_value(x, size[1]));
  line = tn_ox_binary(x, "add", line, tn_ox_iota(x, TN_DT_i64, lead, rank, 1));
  all = tn_ox_dmul(x, size[0], size[1]);
  for (uint32_t i = 0; i < spatial; i++) {
    line = tn_ox_binary(x, "mul", line, tn_ox_dim_value(x, size[2 + i]));
    line = tn_ox_binary(x, "add", line, at[i]);
    all = tn_ox_dmul(x, all, size[2 + i]);
  }
  return tn_ox_gather(x, tn_ox_reshape(x, v, &all, 1), line, 0);
}

tn_value tn_ox_linear_at(tn_ox *x, tn_value v, const tn_value *at, const tn_dim *dims, uint32_t rank) {
  uint32_t spatial = tn_ox_rank(x, v);
  tn_value first[TN_OX_SPATIAL], part[TN_OX_SPATIAL], last[TN_OX_SPATIAL], sum = 0;
  tn_value zero = tn_ox_scalar_int(x, TN_DT_i64, 0), one = tn_ox_scalar_int(x, TN_DT_i64, 1);
  if (!v || tn_ox_failed(x)) return 0;
  spatial -= 2;
  tn_dtype t = tn_ox_dtype(x, v);
  for (uint32_t i = 0; i < spatial; i++) {
    tn_value below = tn_ox_unary(x, "floor", at[i]);
    part[i] = tn_ox_binary(x, "sub", at[i], below);
    first[i] = tn_ox_cast(x, below, TN_DT_i64);
    last[i] = tn_ox_binary(x, "sub", tn_ox_dim_value(x, tn_ox_dim(x, v, 2 + i)), one);
  }
  for (uint32_t corner = 0; corner < 1u << spatial; corner++) {
    tn_value place[TN_OX_SPATIAL], weight = 0, inside = 0;
    for (uint32_t i = 0; i < spatial; i++) {
      bool up = corner >> i & 1;
      tn_value p = up ? tn_ox_binary(x, "add", first[i], one) : first[i];
      tn_value w = up ? part[i] : tn_ox_binary(x, "sub", tn_ox_scalar(x, TN_DT_f32, 1), part[i]);
      place[i] = tn_ox_clamp(x, p, zero, last[i]);
      tn_value in = tn_ox_compare(x, "eq", p, place[i]);
      inside = inside ? tn_ox_binary(x, "and", inside, in) : in;
      weight = weight ? tn_ox_binary(x, "mul", weight, w) : w;
    }
    tn_value value = tn_ox_cast(x, tn_ox_read_at(x, v, place, dims, rank), TN_DT_f32);
    value = tn_ox_binary(x, "mul", value, weight);
    value = tn_ox_select(x, inside, value, tn_ox_scalar(x, TN_DT_f32, 0));
    sum = sum ? tn_ox_binary(x, "add", sum, value) : value;
  }
  return tn_ox_cast(x, sum, t);
}
