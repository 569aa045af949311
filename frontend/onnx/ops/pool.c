/* pool.c - MaxPool, AveragePool, LpPool, the global pools, MaxUnpool, LRN, MaxRoiPool. */
#include "frontend/onnx/ops/spatial.h"

/* ---- pools over windows ---- */
static tn_value pool(tn_ox *x, tn_ox_node *n, const char *op, const char *kind, tn_value v, tn_ox_window *w) {
  bool arg = !strcmp(op, "argpool"), ceil = tn_ox_int(n, "ceil_mode", 0);
  tn_named_attr more[3];
  uint32_t count = 0;
  if (ceil) more[count++] = TN_OX_BOOL("ceil", 1);
  if (!arg) more[count++] = TN_OX_STR("kind", kind);
  if (!arg && tn_ox_int(n, "count_include_pad", 0) && !strcmp(kind, "mean"))
    more[count++] = TN_OX_BOOL("count_pad", 1);
  return tn_ox_windowed(x, op, &v, 1, w, true, more, count);
}

/* Positions in a plane counted with the first axis fastest instead of the last. */
static tn_value columns_first(tn_ox *x, tn_value at, const tn_dim *dims, uint32_t rank) {
  tn_value turned = 0;
  for (uint32_t i = rank; i-- > 2;) {
    tn_value size = tn_ox_dim_value(x, dims[i]), c = tn_ox_binary(x, "mod", at, size);
    tn_dim before = tn_ox_d(x, 1);
    at = tn_ox_binary(x, "div", at, size);
    for (uint32_t j = 2; j < i; j++) before = tn_ox_dmul(x, before, dims[j]);
    c = tn_ox_binary(x, "mul", c, tn_ox_dim_value(x, before));
    turned = turned ? tn_ox_binary(x, "add", turned, c) : c;
  }
  return turned;
}

/* Positions in a plane become positions in the whole tensor. */
static tn_value whole_indices(tn_ox *x, tn_ox_node *n, tn_value at, tn_value v) {
  uint32_t rank = tn_ox_rank(x, v);
  tn_dim dims[TN_MAX_RANK], plane = tn_ox_d(x, 1), lead[TN_MAX_RANK];
  if (!at || !v) return 0;
  tn_ox_dims(x, v, dims);
  for (uint32_t i = 2; i < rank; i++) plane = tn_ox_dmul(x, plane, dims[i]);
  if (tn_ox_int(n, "storage_order", 0)) at = columns_first(x, at, dims, rank);
  for (uint32_t i = 0; i < rank; i++) lead[i] = i < 2 ? dims[i] : tn_ox_d(x, 1);
  tn_value image = tn_ox_iota(x, TN_DT_i64, lead, rank, 0), channel = tn_ox_iota(x, TN_DT_i64, lead, rank, 1);
  image = tn_ox_binary(x, "add", tn_ox_binary(x, "mul", image, tn_ox_dim_value(x, dims[1])), channel);
  return tn_ox_binary(x, "add", at, tn_ox_binary(x, "mul", image, tn_ox_dim_value(x, plane)));
}

tn_status tn_ox_lower_max_pool(tn_ox *x, tn_ox_node *n) {
  tn_value v = tn_ox_in(x, n, 0);
  tn_ox_window w;
  if (!v || !tn_ox_read_window(x, n, v, NULL, &w)) return tn_ox_out(x, n, 0, 0);
  tn_status s = tn_ox_out(x, n, 0, pool(x, n, "pool", "max", v, &w));
  if (s != TN_OK || !tn_ox_wants(n, 1)) return s;
  return tn_ox_out(x, n, 1, whole_indices(x, n, pool(x, n, "argpool", "max", v, &w), v));
}

tn_status tn_ox_lower_average_pool(tn_ox *x, tn_ox_node *n) {
  tn_value v = tn_ox_in(x, n, 0);
  tn_ox_window w;
  if (!v || !tn_ox_read_window(x, n, v, NULL, &w)) return tn_ox_out(x, n, 0, 0);
  return tn_ox_out(x, n, 0, pool(x, n, "pool", "mean", v, &w));
}

/* (sum of |v|^p)^(1/p) */
static tn_value power(tn_ox *x, tn_value v, double p) {
  tn_value size = tn_ox_unary(x, "abs", v);
  return p == 1   ? size
         : p == 2 ? tn_ox_binary(x, "mul", v, v)
                  : tn_ox_binary(x, "pow", size, tn_ox_scalar_like(x, size, p));
}
static tn_value root(tn_ox *x, tn_value v, double p) {
  return p == 1   ? v
         : p == 2 ? tn_ox_unary(x, "sqrt", v)
                  : tn_ox_binary(x, "pow", v, tn_ox_scalar_like(x, v, 1 / p));
}
/* p was a float in the first version. */
static double norm_of(tn_ox_node *n) {
  return tn_ox_version(n) < 2 ? tn_ox_float(n, "p", 2) : (double)tn_ox_int(n, "p", 2);
}

tn_status tn_ox_lower_lp_pool(tn_ox *x, tn_ox_node *n) {
  tn_value v = tn_ox_in(x, n, 0);
  double p = norm_of(n);
  tn_ox_window w;
  if (!v || !tn_ox_read_window(x, n, v, NULL, &w)) return tn_ox_out(x, n, 0, 0);
  if (!(p > 0)) return tn_ox_fail(x, n, "p is %g, wants more than 0", p);
  return tn_ox_out(x, n, 0, root(x, pool(x, n, "pool", "sum", power(x, v, p), &w), p));
}

/* ---- global pools ---- */
static tn_value over_spatial(tn_ox *x, const char *op, tn_value v) {
  int64_t axes[TN_MAX_RANK];
  uint32_t rank = tn_ox_rank(x, v), n = 0;
  for (uint32_t i = 2; i < rank; i++) axes[n++] = i;
  return n ? tn_ox_reduce(x, op, v, axes, n, true) : v; /* no spatial dims: nothing to do */
}
tn_status tn_ox_lower_global_average_pool(tn_ox *x, tn_ox_node *n) {
  return tn_ox_out(x, n, 0, over_spatial(x, "reduce_mean", tn_ox_in(x, n, 0)));
}
tn_status tn_ox_lower_global_max_pool(tn_ox *x, tn_ox_node *n) {
  return tn_ox_out(x, n, 0, over_spatial(x, "reduce_max", tn_ox_in(x, n, 0)));
}
tn_status tn_ox_lower_global_lp_pool(tn_ox *x, tn_ox_node *n) {
  double p = norm_of(n);
  tn_value v = tn_ox_in(x, n, 0);
  if (!(p > 0)) return tn_ox_fail(x, n, "p is %g, wants more than 0", p);
  return tn_ox_out(x, n, 0, v ? root(x, over_spatial(x, "reduce_sum", power(x, v, p)), p) : 0);
}

/* ---- LRN: x / (bias + alpha / size * sum of squares of near channels)^beta ---- */
tn_status tn_ox_lower_lrn(tn_ox *x, tn_ox_node *n) {
  tn_value v = tn_ox_in(x, n, 0);
  int64_t size = tn_ox_int(n, "size", 0);
  uint32_t rank = v ? tn_ox_rank(x, v) : 0;
  tn_dim dims[TN_MAX_RANK], all = tn_ox_d(x, 1);
  if (!v) return tn_ox_out(x, n, 0, 0);
  if (size < 1 || size > INT32_MAX)
    return tn_ox_fail(x, n, "size is %lld, wants at least 1", (long long)size);
  if (rank < 2) return tn_ox_fail(x, n, "the input has rank %u, wants at least 2", rank);
  tn_ox_dims(x, v, dims);
  for (uint32_t i = 2; i < rank; i++) all = tn_ox_dmul(x, all, dims[i]);
  /* channels as a spatial dim: [n, 1, c, d] */
  tn_value squares = tn_ox_binary(x, "mul", v, v);
  squares = tn_ox_reshape(x, squares, (tn_dim[]){dims[0], tn_ox_d(x, 1), dims[1], all}, 4);
  tn_ox_window w = {.n = 2, .size = {size, 1}, .stride = {1, 1}, .dilation = {1, 1}};
  w.low[0] = tn_ox_d(x, (size - 1) / 2);
  w.high[0] = tn_ox_d(x, size / 2);
  w.low[1] = w.high[1] = tn_ox_d(x, 0);
  tn_named_attr sum = TN_OX_STR("kind", "sum");
  tn_value near = tn_ox_reshape(x, tn_ox_windowed(x, "pool", &squares, 1, &w, true, &sum, 1), dims, rank);
  double alpha = tn_ox_float(n, "alpha", 1e-4), beta = tn_ox_float(n, "beta", 0.75),
         bias = tn_ox_float(n, "bias", 1);
  near = tn_ox_binary(x, "mul", near, tn_ox_scalar_like(x, v, alpha / (double)size));
  near = tn_ox_binary(x, "add", near, tn_ox_scalar_like(x, v, bias));
  return tn_ox_out(x, n, 0,
                   tn_ox_binary(x, "div", v, tn_ox_binary(x, "pow", near, tn_ox_scalar_like(x, v, beta))));
}

/* ---- MaxUnpool ----
 * Elements go to where MaxPool said it had found them: positions in a tensor of the size that the window
 * implies. A larger output_shape adds zeros behind. */
static bool unpooled_dims(tn_ox *x, tn_ox_node *n, tn_value v, const tn_ox_window *w, tn_dim *dims) {
  tn_ox_dims(x, v, dims);
  for (uint32_t i = 0; i < w->n; i++) {
    tn_dim last = tn_ox_dmul(x, tn_ox_dsub(x, dims[2 + i], tn_ox_d(x, 1)), tn_ox_d(x, w->stride[i]));
    tn_dim cut = tn_ox_dadd(x, w->low[i], w->high[i]);
    dims[2 + i] = tn_ox_dsub(x, tn_ox_dadd(x, last, tn_ox_d(x, w->size[i])), cut);
  }
  return !tn_ox_failed(x) && n;
}

/* v with zeros behind, up to `want`; what is not known to be smaller is refused. */
static tn_value enlarge(tn_ox *x, tn_ox_node *n, tn_value v, const tn_dim *want, uint32_t rank) {
  int64_t low[TN_MAX_RANK] = {0}, high[TN_MAX_RANK] = {0};
  for (uint32_t i = 0; i < rank; i++) {
    if (!tn_ox_dconst(x, tn_ox_dsub(x, want[i], tn_ox_dim(x, v, i)), &high[i]) || high[i] < 0) {
      tn_ox_refuse(x, n, NULL, "dim %u of output_shape is smaller than the indices' tensor, or not known", i);
      return 0;
    }
  }
  return tn_ox_pad(x, v, low, high, 0);
}

tn_status tn_ox_lower_max_unpool(tn_ox *x, tn_ox_node *n) {
  tn_value v = tn_ox_in(x, n, 0), at = tn_ox_in(x, n, 1), shape = tn_ox_in(x, n, 2);
  tn_ox_window w;
  tn_dim dims[TN_MAX_RANK], want[TN_MAX_RANK], all = tn_ox_d(x, 1), count = tn_ox_d(x, 1);
  if (!v || !at || !tn_ox_read_window(x, n, v, NULL, &w) || !unpooled_dims(x, n, v, &w, dims))
    return tn_ox_out(x, n, 0, 0);
  uint32_t rank = w.n + 2, entries;
  if (tn_ox_rank(x, at) != rank)
    return tn_ox_fail(x, n, "indices have rank %u, wants %u", tn_ox_rank(x, at), rank);
  for (uint32_t i = 0; i < rank; i++) {
    all = tn_ox_dmul(x, all, dims[i]);
    count = tn_ox_dmul(x, count, tn_ox_same(x, n, tn_ox_dim(x, at, i), tn_ox_dim(x, v, i)));
  }
  tn_value zeros = tn_ox_full(x, tn_ox_scalar_like(x, v, 0), &all, 1);
  tn_value in[] = {zeros, tn_ox_reshape(x, at, &count, 1), tn_ox_reshape(x, v, &count, 1)};
  tn_value y = tn_ox_reshape(x, tn_ox_make(x, "scatter", in, 3, NULL), dims, rank);
  if (shape) {
    if (!tn_ox_now_dims(x, shape, want, TN_MAX_RANK, &entries)) return tn_ox_out(x, n, 0, 0);
    if (entries != rank) return tn_ox_fail(x, n, "output_shape has %u entries, wants %u", entries, rank);
    y = enlarge(x, n, y, want, rank);
  }
  return tn_ox_out(x, n, 0, y);
}
