/* linear.c - matrix products of numbers: MatMul, Gemm. The IR's matmul takes f32 and narrower floats; other
 * types are multiplied out and summed, which fuses into one loop. */
#include "frontend/onnx/ops/transformer.h"
#include "frontend/onnx/packed.h"

bool tn_ox_is_one(tn_ox *x, tn_dim d) {
  int64_t k;
  return d && tn_ox_dconst(x, d, &k) && k == 1;
}

tn_value tn_ox_rank_up(tn_ox *x, tn_value v, uint32_t rank) {
  while (v && tn_ox_rank(x, v) < rank) v = tn_ox_unsqueeze(x, v, 0);
  return v;
}

tn_value tn_ox_rank_back(tn_ox *x, tn_value v, uint32_t rank) {
  while (v && tn_ox_rank(x, v) < rank) v = tn_ox_unsqueeze(x, v, tn_ox_rank(x, v));
  return v;
}

tn_value tn_ox_as_scalar(tn_ox *x, tn_value v) {
  if (!v) return 0;
  for (uint32_t i = 0; i < tn_ox_rank(x, v); i++)
    if (!tn_ox_is_one(x, tn_ox_dim(x, v, i))) return v;
  return tn_ox_rank(x, v) ? tn_ox_reshape(x, v, NULL, 0) : v;
}

tn_status tn_ox_want_int(tn_ox *x, tn_ox_node *n, const char *name, int64_t otherwise, int64_t value) {
  int64_t is = tn_ox_int(n, name, otherwise);
  if (is == value) return TN_OK;
  return tn_ox_refuse(x, n, NULL, "attribute '%s' is %lld, only %lld is supported", name, (long long)is,
                      (long long)value);
}

/* ---- products ---- */

/* Inner and leading dims of both operands, as far as they must be equal. */
static void agree(tn_ox *x, tn_ox_node *n, tn_value a, tn_value b, bool trans_a, bool trans_b) {
  int64_t least = tn_ox_rank(x, a) < tn_ox_rank(x, b) ? tn_ox_rank(x, a) : tn_ox_rank(x, b);
  tn_ox_same(x, n, tn_ox_dim(x, a, trans_a ? -2 : -1), tn_ox_dim(x, b, trans_b ? -1 : -2));
  for (int64_t i = 3; i <= least; i++) {
    tn_dim p = tn_ox_dim(x, a, -i), q = tn_ox_dim(x, b, -i);
    if (!tn_ox_is_one(x, p) && !tn_ox_is_one(x, q)) tn_ox_same(x, n, p, q);
  }
}

/* The sum of all products, of types that the IR's matmul has not. */
static tn_value multiply_out(tn_ox *x, tn_value a, tn_value b, bool trans_a, bool trans_b) {
  if (trans_a) a = tn_ox_swap(x, a, -1, -2);
  if (trans_b) b = tn_ox_swap(x, b, -1, -2);
  if (!a || !b) return 0;
  a = tn_ox_unsqueeze(x, a, tn_ox_rank(x, a));
  b = tn_ox_unsqueeze(x, b, (int64_t)tn_ox_rank(x, b) - 2);
  return tn_ox_reduce(x, "reduce_sum", tn_ox_binary(x, "mul", a, b), (int64_t[]){-2}, 1, false);
}

/* The product with a matrix that was rebuilt from integers, taken packed; scales of whole rows multiply the
 * result. 0: it is none, or no block type fits. */
static tn_value packed_product(tn_ox *x, tn_value a, tn_value b, bool trans_a, bool trans_b) {
  const tn_ox_rebuilt *r = tn_ox_noted_rebuilt(x, b);
  int64_t inner = trans_b ? 1 : 0;
  if (!r || tn_ox_dtype(x, a) != TN_DT_f32) return 0;
  tn_ox_packing p = r->p;
  p.turned = !trans_b;
  if (!tn_ox_dconst(x, tn_ox_dim(x, b, inner), &p.columns) ||
      !tn_ox_dconst(x, tn_ox_dim(x, b, 1 - inner), &p.rows))
    return 0;
  if (p.group) {
    if (r->axis != inner) return 0;
    if (!p.zeros) p.has_zero = true; /* codes less 0 */
    tn_value w = tn_ox_pack(x, &p);
    return w ? tn_ox_matmul(x, a, w, trans_a, true) : 0;
  }
  if (r->axis == inner || !tn_ox_one_zero(x, p.zeros, &p)) return 0;
  tn_value w = tn_ox_pack_codes(x, &p, 0, p.columns);
  return w ? tn_ox_binary(x, "mul", tn_ox_matmul(x, a, w, trans_a, true), tn_ox_as_scalar(x, p.scales)) : 0;
}

tn_value tn_ox_product(tn_ox *x, tn_ox_node *n, tn_value a, tn_value b, bool trans_a, bool trans_b) {
  if (!a || !b) return 0;
  if (tn_ox_rank(x, a) < 2 || tn_ox_rank(x, b) < 2) {
    tn_ox_fail(x, n, "operands have ranks %u and %u, both want at least 2", tn_ox_rank(x, a),
               tn_ox_rank(x, b));
    return 0;
  }
  agree(x, n, a, b, trans_a, trans_b);
  tn_value packed = packed_product(x, a, b, trans_a, trans_b);
  if (packed) return packed;
  bool whole = !tn_ox_is_float(x, a) || tn_ox_dtype(x, a) == TN_DT_f64;
  return whole ? multiply_out(x, a, b, trans_a, trans_b) : tn_ox_matmul(x, a, b, trans_a, trans_b);
}

tn_value tn_ox_product_numpy(tn_ox *x, tn_ox_node *n, tn_value a, tn_value b) {
  if (!a || !b) return 0;
  bool row = tn_ox_rank(x, a) == 1, column = tn_ox_rank(x, b) == 1;
  if (row) a = tn_ox_unsqueeze(x, a, 0);
  if (column) b = tn_ox_unsqueeze(x, b, 1);
  tn_value y = tn_ox_product(x, n, a, b, false, false);
  if (column) y = tn_ox_squeeze(x, y, -1);
  if (row) y = tn_ox_squeeze(x, y, column ? -1 : -2);
  return y;
}

tn_status tn_ox_lower_matmul(tn_ox *x, tn_ox_node *n) {
  return tn_ox_out(x, n, 0, tn_ox_product_numpy(x, n, tn_ox_in(x, n, 0), tn_ox_in(x, n, 1)));
}

/* ---- Gemm ---- */

static tn_value scaled(tn_ox *x, tn_value v, double factor) {
  return factor == 1 ? v : tn_ox_binary(x, "mul", v, tn_ox_scalar_like(x, v, factor));
}

tn_value tn_ox_gemm(tn_ox *x, tn_ox_node *n, tn_value a, tn_value b, tn_value c) {
  bool trans_a = tn_ox_int(n, "transA", 0) != 0, trans_b = tn_ox_int(n, "transB", 0) != 0;
  double alpha = tn_ox_float(n, "alpha", 1), beta = tn_ox_float(n, "beta", 1);
  if (!a || !b) return 0;
  if (tn_ox_rank(x, a) != 2 || tn_ox_rank(x, b) != 2 || (c && tn_ox_rank(x, c) > 2)) {
    tn_ox_fail(x, n, "operands have ranks %u and %u, both want 2", tn_ox_rank(x, a), tn_ox_rank(x, b));
    return 0;
  }
  if (!tn_ox_is_float(x, a) && (alpha != 1 || beta != 1)) {
    tn_ox_refuse(x, n, NULL, "alpha is %g and beta %g, of integers only 1 is supported", alpha, beta);
    return 0;
  }
  tn_value y = scaled(x, tn_ox_product(x, n, a, b, trans_a, trans_b), alpha);
  return c && beta != 0 ? tn_ox_binary(x, "add", y, scaled(x, c, beta)) : y;
}

tn_status tn_ox_lower_gemm(tn_ox *x, tn_ox_node *n) {
  return tn_ox_out(x, n, 0, tn_ox_gemm(x, n, tn_ox_in(x, n, 0), tn_ox_in(x, n, 1), tn_ox_in(x, n, 2)));
}
