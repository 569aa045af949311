/* build.c - the builders of lower.h: IR ops at the end of the body that is being built. All take 0 for a
 * value that an earlier failure left, and give 0. */
#include "frontend/onnx/import.h"

enum { MAX_BITS = 50 }; /* of the elements of one tensor: no machine has so much memory */

static bool results_fit(tn_ox *x, tn_op op) {
  for (uint32_t i = 0; i < x->ir->op_nresults(x->m, op); i++) {
    tn_type_info t;
    uint64_t n = 1;
    int64_t k;
    x->ir->type_get(x->m, tn_ox_type_of(x, x->ir->op_result(x->m, op, i)), &t);
    for (uint32_t d = 0; d < t.rank; d++)
      if (tn_ox_dconst(x, t.dims[d], &k) && (!tn_mul_u64(n, (uint64_t)k, &n) || n >> MAX_BITS)) {
        tn_ox_fail(x, x->node, "a tensor of more than 2^%d elements", MAX_BITS);
        return false;
      }
  }
  return true;
}

tn_op tn_ox_make_typed(tn_ox *x, const char *op, const tn_value *in, uint32_t nin, const tn_named_attr *attrs,
                       const tn_type *results, uint32_t nresults) {
  if (x->failed || x->broken) return 0;
  tn_op_desc d = {
      .name = op, .operands = in, .noperands = nin, .attrs = attrs, .results = results, .nresults = nresults};
  while (attrs && attrs[d.nattrs].name) d.nattrs++;
  d.loc = x->node->loc;
  tn_op made = x->ir->op_create(x->m, (tn_point){.func = x->func}, &d);
  if (!made) {
    x->failed = x->invalid = true;
    return 0;
  }
  if (!results_fit(x, made)) return 0;
  tn_ox_note(x, made);
  return made;
}

tn_op tn_ox_make_op(tn_ox *x, const char *op, const tn_value *in, uint32_t nin, const tn_named_attr *attrs) {
  return tn_ox_make_typed(x, op, in, nin, attrs, NULL, 0);
}

tn_value tn_ox_result(tn_ox *x, tn_op op, uint32_t i) { return op ? x->ir->op_result(x->m, op, i) : 0; }

tn_value tn_ox_make(tn_ox *x, const char *op, const tn_value *in, uint32_t nin, const tn_named_attr *attrs) {
  return tn_ox_result(x, tn_ox_make_op(x, op, in, nin, attrs), 0);
}

/* ---- elementwise
 * -------------------------------------------------------------------------------------------- */

tn_value tn_ox_unary(tn_ox *x, const char *op, tn_value a) { return a ? tn_ox_make(x, op, &a, 1, NULL) : 0; }

/* Repeats `v` where one of its sizes is not known to be that of `dims` (of which it may have fewer) or 1. */
static tn_value fit(tn_ox *x, tn_value v, const tn_dim *dims, uint32_t rank) {
  tn_dim have[TN_MAX_RANK];
  uint32_t r = tn_ox_rank(x, v);
  bool fits = true;
  tn_ox_dims(x, v, have);
  for (uint32_t i = 0; i < r; i++) {
    int64_t k;
    bool one = tn_ox_dconst(x, have[i], &k) && k == 1;
    fits &= one || tn_ox_dequal(x, have[i], dims[i + rank - r]);
  }
  return fits ? v : tn_ox_broadcast(x, v, dims, rank);
}

static bool fit_both(tn_ox *x, tn_value *a, tn_value *b) {
  tn_dim dims[TN_MAX_RANK];
  uint32_t rank;
  if (!*a || !*b || !tn_ox_broadcast_dims(x, *a, *b, dims, &rank)) return false;
  *a = fit(x, *a, dims, rank);
  *b = fit(x, *b, dims, rank);
  return *a && *b;
}

tn_value tn_ox_binary(tn_ox *x, const char *op, tn_value a, tn_value b) {
  return fit_both(x, &a, &b) ? tn_ox_make(x, op, (tn_value[]){a, b}, 2, NULL) : 0;
}

tn_value tn_ox_compare(tn_ox *x, const char *cmp, tn_value a, tn_value b) {
  return fit_both(x, &a, &b)
             ? tn_ox_make(x, "compare", (tn_value[]){a, b}, 2, TN_OX_ATTRS(TN_OX_STR("cmp", cmp)))
             : 0;
}

tn_value tn_ox_select(tn_ox *x, tn_value cond, tn_value a, tn_value b) {
  tn_dim dims[TN_MAX_RANK];
  uint32_t rank;
  if (!cond || !a || !b || !tn_ox_broadcast_dims(x, a, b, dims, &rank)) return 0;
  uint32_t rc = tn_ox_rank(x, cond);
  tn_dim dc[TN_MAX_RANK], all[TN_MAX_RANK];
  tn_ox_dims(x, cond, dc);
  uint32_t r = rc > rank ? rc : rank;
  for (uint32_t i = 0; i < r; i++) {
    tn_dim one = tn_ox_d(x, 1);
    all[i] =
        tn_ox_dbroadcast(x, i + rank >= r ? dims[i + rank - r] : one, i + rc >= r ? dc[i + rc - r] : one);
  }
  if (x->failed) return 0;
  a = fit(x, a, dims, rank); /* in two steps: what is known is that each pair fits */
  b = fit(x, b, dims, rank);
  tn_value in[3] = {fit(x, cond, all, r), a ? fit(x, a, all, r) : 0, b ? fit(x, b, all, r) : 0};
  return tn_ox_make(x, "select", in, 3, NULL);
}

tn_value tn_ox_cast(tn_ox *x, tn_value v, tn_dtype to) {
  if (!v || tn_ox_dtype(x, v) == to) return v;
  return tn_ox_make(x, "cast", &v, 1, TN_OX_ATTRS(TN_OX_DTYPE("to", to)));
}

tn_value tn_ox_expm1(tn_ox *x, tn_value v) { return tn_ox_unary(x, "expm1", v); }

/* ---- leaves
 * ------------------------------------------------------------------------------------------------- */

tn_value tn_ox_ints_1d(tn_ox *x, const int64_t *values, uint32_t n) {
  int64_t dims[1] = {n};
  return tn_ox_constant(x, TN_DT_i64, dims, 1, values, (uint64_t)n * sizeof *values);
}

/* A cast of a constant is one constant after folding. */
tn_value tn_ox_floats_1d(tn_ox *x, tn_dtype t, const double *values, uint32_t n) {
  int64_t dims[1] = {n};
  return tn_ox_cast(x, tn_ox_constant(x, TN_DT_f64, dims, 1, values, (uint64_t)n * sizeof *values), t);
}

static bool put_number(tn_dtype t, double real, int64_t whole, void *out, uint64_t *bytes) {
  union {
    double f64;
    float f32;
    uint16_t h;
    int64_t i64;
    uint8_t b;
  } u = {.i64 = whole}; /* little-endian: the low bytes are the narrower integer */
  *bytes = 8;
  switch (t) {
  case TN_DT_f64: u.f64 = real; break;
  case TN_DT_f32: u.f32 = (float)real, *bytes = 4; break;
  case TN_DT_f16: u.h = tn_f32_to_f16((float)real), *bytes = 2; break;
  case TN_DT_bf16: u.h = tn_f32_to_bf16((float)real), *bytes = 2; break;
  case TN_DT_i64:
  case TN_DT_u64: break;
  case TN_DT_i32:
  case TN_DT_u32: *bytes = 4; break;
  case TN_DT_i16:
  case TN_DT_u16: *bytes = 2; break;
  case TN_DT_i8:
  case TN_DT_u8: *bytes = 1; break;
  case TN_DT_bool: u.b = whole != 0, *bytes = 1; break;
  default: return false;
  }
  memcpy(out, &u, sizeof u);
  return true;
}

static tn_value number(tn_ox *x, tn_dtype t, double real, int64_t whole) {
  uint64_t bytes, bits;
  if (x->failed) return 0;
  if (put_number(t, real, whole, &bits, &bytes)) return tn_ox_constant(x, t, NULL, 0, &bits, bytes);
  return tn_ox_cast(x, tn_ox_constant(x, TN_DT_f32, NULL, 0, &(float){(float)real}, sizeof(float)), t);
}

tn_value tn_ox_scalar(tn_ox *x, tn_dtype t, double value) {
  bool fits = value >= -9.2e18 && value <= 9.2e18;
  return number(x, t, value, fits ? (int64_t)value : value > 0 ? INT64_MAX : INT64_MIN);
}

tn_value tn_ox_scalar_int(tn_ox *x, tn_dtype t, int64_t value) { return number(x, t, (double)value, value); }

tn_value tn_ox_scalar_like(tn_ox *x, tn_value like, double value) {
  return like ? tn_ox_scalar(x, tn_ox_dtype(x, like), value) : 0;
}

tn_value tn_ox_dim_value(tn_ox *x, tn_dim d) {
  int64_t k;
  if (!d) return 0;
  if (tn_ox_dconst(x, d, &k)) return tn_ox_scalar_int(x, TN_DT_i64, k);
  return tn_ox_make(x, "iota", NULL, 0, TN_OX_ATTRS(TN_OX_DIMS("shape", NULL, 0), TN_OX_DIM("start", d)));
}

tn_value tn_ox_full(tn_ox *x, tn_value scalar, const tn_dim *dims, uint32_t rank) {
  if (scalar && tn_ox_rank(x, scalar)) scalar = tn_ox_reshape(x, scalar, NULL, 0);
  return tn_ox_broadcast(x, scalar, dims, rank);
}

tn_value tn_ox_iota(tn_ox *x, tn_dtype t, const tn_dim *dims, uint32_t rank, int64_t axis) {
  bool direct = t == TN_DT_i32 || t == TN_DT_i64 || t == TN_DT_f32;
  if (x->failed) return 0;
  tn_value v = tn_ox_make(x, "iota", NULL, 0,
                          TN_OX_ATTRS(TN_OX_DIMS("shape", dims, rank), TN_OX_INT("axis", axis),
                                      TN_OX_DTYPE("dtype", direct ? t : TN_DT_i64)));
  return tn_ox_cast(x, v, t);
}

/* ---- shape
 * -------------------------------------------------------------------------------------------------- */

tn_value tn_ox_reshape(tn_ox *x, tn_value v, const tn_dim *dims, uint32_t rank) {
  tn_dim have[TN_MAX_RANK];
  if (!v || x->failed) return 0;
  if (rank > TN_MAX_RANK) {
    tn_ox_refuse(x, x->node, NULL, "a tensor of rank %u; the most is %d", rank, TN_MAX_RANK);
    return 0;
  }
  uint32_t r = tn_ox_rank(x, v);
  tn_ox_dims(x, v, have);
  if (r == rank && !memcmp(have, dims, rank * sizeof *dims)) return v;
  tn_dim from = tn_ox_dproduct(x, have, 0, r), to = tn_ox_dproduct(x, dims, 0, rank);
  if (!from || !to) return 0;
  if (from != to) tn_ox_same(x, x->node, from, to);
  return tn_ox_make(x, "reshape", &v, 1, TN_OX_ATTRS(TN_OX_DIMS("shape", dims, rank)));
}

tn_value tn_ox_flat(tn_ox *x, tn_value v) {
  tn_dim dims[TN_MAX_RANK], all;
  tn_ox_dims(x, v, dims);
  all = tn_ox_dproduct(x, dims, 0, tn_ox_rank(x, v));
  return tn_ox_reshape(x, v, &all, 1);
}

tn_value tn_ox_transpose(tn_ox *x, tn_value v, const int64_t *perm) {
  uint32_t r = tn_ox_rank(x, v);
  bool moves = false;
  for (uint32_t i = 0; i < r; i++) moves |= perm[i] != (int64_t)i;
  if (!v || !moves) return v;
  return tn_ox_make(x, "transpose", &v, 1, TN_OX_ATTRS(TN_OX_INTS("perm", perm, r)));
}

tn_value tn_ox_swap(tn_ox *x, tn_value v, int64_t a, int64_t b) {
  int64_t perm[TN_MAX_RANK];
  uint32_t r = tn_ox_rank(x, v), i = tn_ox_axis(x, x->node, a, r), j = tn_ox_axis(x, x->node, b, r);
  if (!v || x->failed) return 0;
  for (uint32_t k = 0; k < r; k++) perm[k] = k;
  perm[i] = j;
  perm[j] = i;
  return tn_ox_transpose(x, v, perm);
}

tn_value tn_ox_unsqueeze(tn_ox *x, tn_value v, int64_t axis) {
  tn_dim dims[TN_MAX_RANK + 1];
  uint32_t r = tn_ox_rank(x, v), at = tn_ox_axis(x, x->node, axis, r + 1);
  if (!v || x->failed) return 0;
  tn_ox_dims(x, v, dims);
  memmove(dims + at + 1, dims + at, (r - at) * sizeof *dims);
  dims[at] = tn_ox_d(x, 1);
  return tn_ox_reshape(x, v, dims, r + 1);
}

tn_value tn_ox_squeeze(tn_ox *x, tn_value v, int64_t axis) {
  tn_dim dims[TN_MAX_RANK];
  uint32_t r = tn_ox_rank(x, v), at = tn_ox_axis(x, x->node, axis, r);
  if (!v || x->failed) return 0;
  tn_ox_dims(x, v, dims);
  tn_ox_same(x, x->node, dims[at], tn_ox_d(x, 1));
  memmove(dims + at, dims + at + 1, (r - at - 1) * sizeof *dims);
  return tn_ox_reshape(x, v, dims, r - 1);
}

tn_value tn_ox_broadcast(tn_ox *x, tn_value v, const tn_dim *dims, uint32_t rank) {
  tn_dim have[TN_MAX_RANK];
  if (!v || x->failed) return 0;
  if (rank > TN_MAX_RANK) {
    tn_ox_refuse(x, x->node, NULL, "a tensor of rank %u; the most is %d", rank, TN_MAX_RANK);
    return 0;
  }
  tn_ox_dims(x, v, have);
  if (tn_ox_rank(x, v) == rank && !memcmp(have, dims, rank * sizeof *dims)) return v;
  return tn_ox_make(x, "broadcast", &v, 1, TN_OX_ATTRS(TN_OX_DIMS("shape", dims, rank)));
}

/* Elements start, start + step, ... above stop: gathered by a falling index. */
static tn_value slice_back(tn_ox *x, tn_value v, uint32_t axis, tn_dim start, tn_dim stop, int64_t step) {
  tn_dim back = tn_ox_d(x, -step),
         n = tn_ox_dsub(x, tn_ox_dadd(x, tn_ox_dsub(x, start, stop), back), tn_ox_d(x, 1));
  n = tn_ox_ddiv(x, n, back);
  tn_value at = tn_ox_iota(x, TN_DT_i64, &n, 1, 0);
  at = tn_ox_binary(x, "mul", at, tn_ox_scalar_int(x, TN_DT_i64, step));
  at = tn_ox_binary(x, "add", at, tn_ox_dim_value(x, start));
  return tn_ox_gather(x, v, at, axis);
}

tn_value tn_ox_slice(tn_ox *x, tn_value v, int64_t axis, tn_dim start, tn_dim stop, int64_t step) {
  int64_t k;
  uint32_t at = tn_ox_axis(x, x->node, axis, tn_ox_rank(x, v));
  if (!v || !start || !stop || x->failed) return 0;
  if (step < 0) return slice_back(x, v, at, start, stop, step);
  tn_dim size = tn_ox_dim(x, v, at);
  if (step == 1 && tn_ox_dconst(x, start, &k) && !k && stop == size) return v;
  return tn_ox_make(x, "slice", &v, 1,
                    TN_OX_ATTRS(TN_OX_INT("axis", at), TN_OX_DIM("start", start), TN_OX_DIM("stop", stop),
                                TN_OX_INT("step", step)));
}

tn_value tn_ox_concat(tn_ox *x, const tn_value *parts, uint32_t n, int64_t axis) {
  for (uint32_t i = 0; i < n; i++)
    if (!parts[i]) return 0;
  if (n == 1) return parts[0];
  uint32_t at = tn_ox_axis(x, x->node, axis, n ? tn_ox_rank(x, parts[0]) : 0);
  tn_dim first[TN_MAX_RANK], dims[TN_MAX_RANK];
  if (!n || x->failed) return 0;
  tn_ox_dims(x, parts[0], first);
  for (uint32_t i = 1; i < n; i++) {
    uint32_t r = tn_ox_rank(x, parts[i]);
    tn_ox_dims(x, parts[i], dims);
    for (uint32_t d = 0; d < r && r == tn_ox_rank(x, parts[0]); d++)
      if (d != at) tn_ox_same(x, x->node, dims[d], first[d]);
  }
  return tn_ox_make(x, "concat", parts, n, TN_OX_ATTRS(TN_OX_INT("axis", at)));
}

tn_value tn_ox_gather(tn_ox *x, tn_value data, tn_value indices, int64_t axis) {
  if (!data || !indices) return 0;
  return tn_ox_make(x, "gather", (tn_value[]){data, indices}, 2, TN_OX_ATTRS(TN_OX_INT("axis", axis)));
}

tn_value tn_ox_pad(tn_ox *x, tn_value v, const int64_t *low, const int64_t *high, double value) {
  uint32_t r = tn_ox_rank(x, v);
  bool any = false;
  for (uint32_t i = 0; i < r; i++) any |= low[i] || high[i];
  if (!v || !any) return v;
  return tn_ox_make(
      x, "pad", &v, 1,
      TN_OX_ATTRS(TN_OX_INTS("low", low, r), TN_OX_INTS("high", high, r), TN_OX_FLOAT("value", value)));
}

/* ---- products and reductions
 * -------------------------------------------------------------------------------- */

tn_value tn_ox_reduce(tn_ox *x, const char *op, tn_value v, const int64_t *axes, uint32_t naxes, bool keep) {
  int64_t all[TN_MAX_RANK];
  uint32_t r = tn_ox_rank(x, v);
  if (!v) return 0;
  for (uint32_t i = 0; i < r; i++) all[i] = i;
  if (!naxes) axes = all, naxes = r;
  return tn_ox_make(x, op, &v, 1, TN_OX_ATTRS(TN_OX_INTS("axes", axes, naxes), TN_OX_BOOL("keep", keep)));
}

tn_value tn_ox_matmul(tn_ox *x, tn_value a, tn_value b, bool trans_a, bool trans_b) {
  if (!a || !b) return 0;
  return tn_ox_make(x, "matmul", (tn_value[]){a, b}, 2,
                    TN_OX_ATTRS(TN_OX_BOOL("trans_a", trans_a), TN_OX_BOOL("trans_b", trans_b)));
}

tn_value tn_ox_softmax(tn_ox *x, tn_value v, int64_t axis) {
  return v ? tn_ox_make(x, "softmax", &v, 1, TN_OX_ATTRS(TN_OX_INT("axis", axis))) : 0;
}
