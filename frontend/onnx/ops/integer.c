/* integer.c - products of small integers: MatMulInteger, QLinearMatMul. Codes less their
 * zero points are whole numbers that f32 holds, and so are sums of their products below 2^24: products are
 * made in f32 over stretches of the inner dim that stay below it, and added in i32. A constant matrix that
 * packs whole is one product of integers. */
#include "frontend/onnx/ops/transformer.h"
#include "frontend/onnx/packed.h"

enum { MOST_STRETCHES = 64 };

tn_value tn_ox_along(tn_ox *x, tn_ox_node *n, tn_value v, int64_t axis, uint32_t rank) {
  if (!v) return 0;
  uint32_t r = tn_ox_rank(x, v);
  if (r != 1 || rank == 1) return r == 1 && tn_ox_is_one(x, tn_ox_dim(x, v, 0)) ? tn_ox_as_scalar(x, v) : v;
  if (tn_ox_is_one(x, tn_ox_dim(x, v, 0))) return tn_ox_as_scalar(x, v);
  return tn_ox_rank_back(x, v, rank - tn_ox_axis(x, n, axis, rank));
}

tn_value tn_ox_centred(tn_ox *x, tn_ox_node *n, tn_value codes, tn_value zero, int64_t axis) {
  if (!codes) return 0;
  tn_value v = tn_ox_cast(x, codes, TN_DT_f32);
  if (!zero) return v;
  zero = tn_ox_along(x, n, tn_ox_cast(x, zero, TN_DT_f32), axis, tn_ox_rank(x, codes));
  return tn_ox_binary(x, "sub", v, zero);
}

/* The largest magnitude of a code less its zero point. */
static int64_t largest(tn_ox *x, tn_value codes, tn_value zero) {
  return tn_ox_dtype(x, codes) == TN_DT_i8 && !zero ? 128 : 255;
}

/* How many products of both cannot leave the whole numbers of f32. */
static int64_t stretch_of(tn_ox *x, tn_value a, tn_value za, tn_value b, tn_value zb) {
  int64_t most = (1 << 24) / (largest(x, a, za) * largest(x, b, zb));
  return most / 128 * 128;
}

static bool small_codes(tn_ox *x, tn_ox_node *n, tn_value v) {
  tn_dtype t = tn_ox_dtype(x, v);
  if (t == TN_DT_i8 || t == TN_DT_u8) return true;
  tn_ox_refuse(x, n, NULL, "an operand is not of 8-bit integers");
  return false;
}

static tn_value sum_of(tn_ox *x, tn_value sum, tn_value v) {
  v = tn_ox_cast(x, v, TN_DT_i32);
  return sum ? tn_ox_binary(x, "add", sum, v) : v;
}

static tn_value integer_matrices(tn_ox *x, tn_ox_node *n, tn_value a, tn_value b, int64_t stretch) {
  int64_t k;
  tn_value sum = 0;
  tn_dim inner = tn_ox_same(x, n, tn_ox_dim(x, a, -1), tn_ox_dim(x, b, -2));
  if (!tn_ox_dconst(x, inner, &k) || k > stretch * MOST_STRETCHES)
    return tn_ox_product(x, n, tn_ox_cast(x, a, TN_DT_i32), tn_ox_cast(x, b, TN_DT_i32), false, false);
  if (k <= stretch) return tn_ox_cast(x, tn_ox_product(x, n, a, b, false, false), TN_DT_i32);
  for (int64_t at = 0; at < k; at += stretch) {
    tn_dim from = tn_ox_d(x, at), to = tn_ox_d(x, at + stretch < k ? at + stretch : k);
    tn_value left = tn_ox_slice(x, a, -1, from, to, 1), right = tn_ox_slice(x, b, -2, from, to, 1);
    sum = sum_of(x, sum, tn_ox_product(x, n, left, right, false, false));
  }
  return sum;
}

/* The packing of a constant matrix of codes that all have the same zero; false: it is none. */
static bool packing_of(tn_ox *x, tn_value b, tn_value zb, tn_ox_packing *p) {
  *p = (tn_ox_packing){.codes = b, .bits = 8, .turned = true, .is_signed = tn_ox_dtype(x, b) == TN_DT_i8};
  return tn_ox_rank(x, b) == 2 && tn_ox_dconst(x, tn_ox_dim(x, b, 0), &p->columns) && p->columns &&
         tn_ox_dconst(x, tn_ox_dim(x, b, 1), &p->rows) && tn_ox_one_zero(x, zb, p);
}

/* A product with such a matrix as one product of integers; 0: no format takes its rows whole. */
static tn_value whole_matrices(tn_ox *x, tn_ox_node *n, tn_value a, tn_value za, tn_value b, tn_value zb) {
  tn_ox_packing p;
  if (tn_ox_rank(x, a) < 2 || !packing_of(x, b, zb, &p)) return 0;
  tn_value w = tn_ox_pack_codes(x, &p, 0, p.columns);
  if (!w) return 0;
  tn_ox_same(x, n, tn_ox_dim(x, a, -1), tn_ox_dim(x, b, 0));
  tn_value v = tn_ox_cast(x, a, TN_DT_i16);
  if (za) {
    za = tn_ox_along(x, n, tn_ox_cast(x, za, TN_DT_i16), -2, tn_ox_rank(x, a));
    v = tn_ox_binary(x, "sub", v, za);
  }
  return tn_ox_matmul(x, v, w, false, true);
}

/* The same in stretches of f32; 0: it cannot. */
static tn_value packed_matrices(tn_ox *x, tn_ox_node *n, tn_value a, tn_value b, tn_value zb,
                                int64_t stretch) {
  tn_ox_packing p;
  tn_value sum = 0;
  if (!packing_of(x, b, zb, &p) || p.columns > stretch * MOST_STRETCHES) return 0;
  tn_ox_same(x, n, tn_ox_dim(x, a, -1), tn_ox_dim(x, b, 0));
  for (int64_t at = 0; at < p.columns; at += stretch) {
    int64_t to = at + stretch < p.columns ? at + stretch : p.columns;
    tn_value w = tn_ox_pack_codes(x, &p, at, to);
    if (!w) return 0;
    tn_value part = at == 0 && to == p.columns ? a : tn_ox_slice(x, a, -1, tn_ox_d(x, at), tn_ox_d(x, to), 1);
    sum = sum_of(x, sum, tn_ox_matmul(x, part, w, false, true));
  }
  return sum;
}

tn_value tn_ox_integer_product(tn_ox *x, tn_ox_node *n, tn_value a, tn_value za, tn_value b, tn_value zb) {
  if (!a || !b || !small_codes(x, n, a) || !small_codes(x, n, b)) return 0;
  int64_t stretch = stretch_of(x, a, za, b, zb);
  tn_value whole = whole_matrices(x, n, a, za, b, zb);
  if (whole) return whole;
  a = tn_ox_centred(x, n, a, za, -2);
  tn_value packed = a && tn_ox_rank(x, a) > 1 ? packed_matrices(x, n, a, b, zb, stretch) : 0;
  if (packed) return packed;
  b = tn_ox_centred(x, n, b, zb, -1);
  if (!a || !b) return 0;
  bool row = tn_ox_rank(x, a) == 1, column = tn_ox_rank(x, b) == 1;
  if (row) a = tn_ox_unsqueeze(x, a, 0);
  if (column) b = tn_ox_unsqueeze(x, b, 1);
  tn_value y = integer_matrices(x, n, a, b, stretch);
  if (column) y = tn_ox_squeeze(x, y, -1);
  if (row) y = tn_ox_squeeze(x, y, column ? -1 : -2);
  return y;
}

tn_status tn_ox_lower_matmul_integer(tn_ox *x, tn_ox_node *n) {
  return tn_ox_out(x, n, 0,
                   tn_ox_integer_product(x, n, tn_ox_in(x, n, 0), tn_ox_in(x, n, 2), tn_ox_in(x, n, 1),
                                         tn_ox_in(x, n, 3)));
}

/* ---- with scales ---- */

/* sa sb / sy in f32, which multiplies the whole numbers of a product. */
static tn_value factor(tn_ox *x, tn_value sa, tn_value sb, tn_value sy) {
  tn_value s = tn_ox_binary(x, "mul", tn_ox_cast(x, sa, TN_DT_f32), tn_ox_cast(x, sb, TN_DT_f32));
  return tn_ox_binary(x, "div", s, tn_ox_cast(x, sy, TN_DT_f32));
}

/* A product, times its factor, as codes of the output's zero point. */
static tn_value codes_of(tn_ox *x, tn_value product, tn_value by, tn_value zero) {
  tn_value v = tn_ox_binary(x, "mul", tn_ox_cast(x, product, TN_DT_f32), by);
  return tn_ox_quantize(x, v, 0, zero, tn_ox_dtype(x, zero));
}

tn_status tn_ox_lower_qlinear_matmul(tn_ox *x, tn_ox_node *n) {
  tn_value in[8];
  for (uint32_t i = 0; i < 8; i++) in[i] = tn_ox_in(x, n, i);
  if (!in[0] || !in[3] || !in[7]) return tn_ox_out(x, n, 0, 0);
  uint32_t rank = tn_ox_rank(x, in[0]), other = tn_ox_rank(x, in[3]);
  tn_value sa = tn_ox_along(x, n, in[1], -2, rank < 2 ? 1 : rank);
  tn_value sb = tn_ox_along(x, n, in[4], -1, other < 2 ? 1 : other);
  tn_value by = factor(x, sa, sb, tn_ox_as_scalar(x, in[6]));
  tn_value p = tn_ox_integer_product(x, n, in[0], in[2], in[3], in[5]);
  return tn_ox_out(x, n, 0, codes_of(x, p, by, tn_ox_as_scalar(x, in[7])));
}
