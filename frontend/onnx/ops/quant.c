/* quant.c - QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear. Codes are computed in f32, where all of
 * at most 16 bits are exact; casts to integers saturate. */
#include "frontend/onnx/ops/transformer.h"
#include "frontend/onnx/packed.h"
#include <math.h>

/* One scale for the tensor, for each place of an axis, or for each block of an axis: as a tensor that
 * broadcasts to v. */
static tn_value spread(tn_ox *x, tn_ox_node *n, tn_value s, tn_value v, int64_t axis, int64_t block) {
  tn_dim dims[TN_MAX_RANK + 1], size;
  s = tn_ox_as_scalar(x, s);
  if (!s || !v || !tn_ox_rank(x, s)) return s;
  uint32_t rank = tn_ox_rank(x, v);
  if (rank == 1 && !block) return s; /* whatever the axis says */
  uint32_t at = tn_ox_axis(x, n, axis, rank);
  if (!block || tn_ox_failed(x)) return tn_ox_along(x, n, s, axis, rank);
  if (tn_ox_rank(x, s) != rank || rank == TN_MAX_RANK) {
    tn_ox_fail(x, n, "scales of blocks have rank %u, the tensor has %u", tn_ox_rank(x, s), rank);
    return 0;
  }
  tn_ox_dims(x, s, dims);
  memmove(dims + at + 2, dims + at + 1, (rank - at - 1) * sizeof *dims);
  dims[at + 1] = tn_ox_d(x, block);
  s = tn_ox_broadcast(x, tn_ox_unsqueeze(x, s, at + 1), dims, rank + 1);
  size = tn_ox_dmul(x, dims[at], dims[at + 1]);
  memmove(dims + at + 1, dims + at + 2, (rank - at - 1) * sizeof *dims);
  dims[at] = size;
  s = tn_ox_reshape(x, s, dims, rank);
  tn_dim want = tn_ox_dim(x, v, at);
  return size == want ? s : tn_ox_slice(x, s, at, tn_ox_d(x, 0), want, 1);
}

static bool is_float_type(tn_dtype t) {
  return (t >= TN_DT_f64 && t <= TN_DT_f8e5m2) || t == TN_DT_f8e4m3fnuz || t == TN_DT_f8e5m2fnuz ||
         t == TN_DT_f4e2m1;
}

tn_value tn_ox_quantize(tn_ox *x, tn_value v, tn_value scale, tn_value zero, tn_dtype to) {
  if (scale) v = tn_ox_binary(x, "div", v, scale);
  if (!is_float_type(to)) v = tn_ox_unary(x, "round", v);
  v = tn_ox_cast(x, v, TN_DT_f32);
  if (zero) v = tn_ox_binary(x, "add", v, tn_ox_cast(x, zero, TN_DT_f32));
  return tn_ox_cast(x, v, to);
}

tn_value tn_ox_dequantize(tn_ox *x, tn_value codes, tn_value scale, tn_value zero, tn_dtype to) {
  if (!codes || !scale) return 0;
  tn_dtype wide = tn_ox_dtype(x, scale) == TN_DT_f64 ? TN_DT_f64 : TN_DT_f32;
  if (zero && tn_ox_dtype(x, codes) == TN_DT_i32) codes = tn_ox_binary(x, "sub", codes, zero), zero = 0;
  tn_value v = tn_ox_cast(x, codes, wide);
  if (zero) v = tn_ox_binary(x, "sub", v, tn_ox_cast(x, zero, wide));
  return tn_ox_cast(x, tn_ox_binary(x, "mul", v, tn_ox_cast(x, scale, wide)), to);
}

/* ---- QuantizeLinear ---- */

/* What a float outside of an 8-bit float type becomes if it does not saturate: NaN, or infinity where the
 * type has it. */
static tn_value unsaturated(tn_ox *x, tn_value v, tn_dtype to) {
  /* the number half way between the largest and the next that there would be */
  double limit = to == TN_DT_f8e4m3 ? 464 : to == TN_DT_f8e4m3fnuz ? 248 : 61440;
  tn_value out = tn_ox_scalar(x, TN_DT_f32, NAN), size = tn_ox_unary(x, "abs", v);
  const char *beyond = to == TN_DT_f8e4m3 ? "gt" : "ge"; /* halves to even: 464 is 448 */
  tn_value is_out = tn_ox_compare(x, beyond, size, tn_ox_scalar(x, TN_DT_f32, limit));
  if (to == TN_DT_f8e5m2) {
    tn_value inf = tn_ox_scalar(x, TN_DT_f32, INFINITY), zero = tn_ox_scalar(x, TN_DT_f32, 0);
    out = tn_ox_select(x, tn_ox_compare(x, "lt", v, zero), tn_ox_unary(x, "neg", inf), inf);
    out = tn_ox_select(x, tn_ox_compare(x, "ne", v, v), v, out);
  }
  return tn_ox_select(x, is_out, out, v);
}

static bool narrow_float(tn_dtype t) {
  return t == TN_DT_f8e4m3 || t == TN_DT_f8e5m2 || t == TN_DT_f8e4m3fnuz || t == TN_DT_f8e5m2fnuz;
}

/* The type of codes: of the zero point, or stated. */
static tn_dtype codes_type(tn_ox *x, tn_ox_node *n, tn_value zero) {
  int64_t stated = tn_ox_int(n, "output_dtype", 0);
  if (zero) return tn_ox_dtype(x, zero);
  return stated ? tn_ox_dtype_of(x, n, stated) : TN_DT_u8;
}

/* opset 23 has `precision`: of the division; else it is that of the scale. */
static tn_dtype division_type(tn_ox *x, tn_ox_node *n, tn_value v, tn_value scale) {
  int64_t stated = tn_ox_int(n, "precision", 0);
  tn_dtype t = stated ? tn_ox_dtype_of(x, n, stated) : tn_ox_dtype(x, scale);
  bool wide = t == TN_DT_f64 || t == TN_DT_f32 || t == TN_DT_f16 || t == TN_DT_bf16;
  if (wide) return t;
  return tn_ox_is_float(x, v) ? tn_ox_dtype(x, v) : TN_DT_f32; /* scales that are powers of two */
}

tn_status tn_ox_lower_quantize_linear(tn_ox *x, tn_ox_node *n) {
  tn_value v = tn_ox_in(x, n, 0), scale = tn_ox_in(x, n, 1), zero = tn_ox_in(x, n, 2);
  int64_t axis = tn_ox_int(n, "axis", 1), block = tn_ox_int(n, "block_size", 0);
  if (!v || !scale) return tn_ox_out(x, n, 0, 0);
  tn_dtype to = codes_type(x, n, zero), by = division_type(x, n, v, scale);
  if (block < 0) return tn_ox_fail(x, n, "block_size is %lld", (long long)block);
  scale = spread(x, n, tn_ox_cast(x, scale, by), v, axis, block);
  zero = spread(x, n, zero ? tn_ox_cast(x, zero, TN_DT_f32) : 0, v, axis, block);
  if (narrow_float(to) && !tn_ox_int(n, "saturate", 1)) {
    tn_value y = tn_ox_cast(x, tn_ox_binary(x, "div", tn_ox_cast(x, v, by), scale), TN_DT_f32);
    return tn_ox_out(x, n, 0, tn_ox_cast(x, unsaturated(x, y, to), to));
  }
  return tn_ox_out(x, n, 0, tn_ox_quantize(x, tn_ox_cast(x, v, by), scale, zero, to));
}

/* ---- DequantizeLinear ---- */

/* Matrices of small integers may go into products as they are. */
static void note(tn_ox *x, tn_value y, tn_value codes, tn_value scale, tn_value zero, int64_t axis,
                 int64_t block) {
  tn_dtype t = tn_ox_dtype(x, codes);
  bool is_signed = t == TN_DT_i8 || t == TN_DT_i4 || t == TN_DT_i2;
  uint32_t bits = t == TN_DT_i8 || t == TN_DT_u8   ? 8
                  : t == TN_DT_i4 || t == TN_DT_u4 ? 4
                  : t == TN_DT_i2 || t == TN_DT_u2 ? 2
                                                   : 0;
  if (!y || !bits || tn_ox_rank(x, codes) != 2 || tn_ox_dtype(x, y) != TN_DT_f32) return;
  tn_ox_rebuilt r = {.p = {.codes = codes,
                           .scales = scale,
                           .zeros = zero,
                           .group = block,
                           .bits = bits,
                           .is_signed = is_signed}};
  r.axis = tn_ox_rank(x, tn_ox_as_scalar(x, scale)) ? (axis < 0 ? axis + 2 : axis) : -1;
  tn_ox_note_rebuilt(x, y, &r);
}

tn_status tn_ox_lower_dequantize_linear(tn_ox *x, tn_ox_node *n) {
  tn_value codes = tn_ox_in(x, n, 0), scale = tn_ox_in(x, n, 1), zero = tn_ox_in(x, n, 2);
  int64_t axis = tn_ox_int(n, "axis", 1), block = tn_ox_int(n, "block_size", 0);
  int64_t stated = tn_ox_int(n, "output_dtype", 0);
  if (!codes || !scale) return tn_ox_out(x, n, 0, 0);
  tn_dtype to = stated ? tn_ox_dtype_of(x, n, stated) : tn_ox_dtype(x, scale);
  if (block < 0) return tn_ox_fail(x, n, "block_size is %lld", (long long)block);
  tn_value wide = spread(x, n, scale, codes, axis, block);
  tn_value y = tn_ox_dequantize(x, codes, wide, spread(x, n, zero, codes, axis, block), to);
  note(x, y, codes, scale, zero, axis, block);
  return tn_ox_out(x, n, 0, y);
}

/* ---- DynamicQuantizeLinear ---- */

/* Of all elements; 0 belongs to the range. */
static tn_value bound(tn_ox *x, const char *reduce, const char *with, tn_value v) {
  tn_value b = tn_ox_reduce(x, reduce, v, NULL, 0, false);
  return tn_ox_binary(x, with, b, tn_ox_scalar_like(x, b, 0));
}

tn_ox_ranged tn_ox_quantize_range(tn_ox *x, tn_value v) {
  tn_value low = bound(x, "reduce_min", "min", v), high = bound(x, "reduce_max", "max", v);
  tn_value most = tn_ox_scalar(x, TN_DT_f32, 255), zero = tn_ox_scalar(x, TN_DT_f32, 0);
  tn_value scale = tn_ox_binary(x, "div", tn_ox_binary(x, "sub", high, low), most);
  /* all elements 0: any scale does */
  scale = tn_ox_select(x, tn_ox_compare(x, "eq", scale, zero), tn_ox_scalar(x, TN_DT_f32, 1), scale);
  tn_value at = tn_ox_binary(x, "div", tn_ox_binary(x, "sub", zero, low), scale);
  tn_value point = tn_ox_cast(x, tn_ox_unary(x, "round", at), TN_DT_u8);
  return (tn_ox_ranged){tn_ox_quantize(x, v, scale, point, TN_DT_u8), scale, point};
}

tn_status tn_ox_lower_dynamic_quantize_linear(tn_ox *x, tn_ox_node *n) {
  tn_ox_ranged r = tn_ox_quantize_range(x, tn_ox_in(x, n, 0));
  TN_TRY(tn_ox_out(x, n, 0, r.codes));
  TN_TRY(tn_ox_out(x, n, 1, r.scale));
  return tn_ox_out(x, n, 2, r.zero);
}
