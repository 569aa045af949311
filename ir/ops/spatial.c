/* spatial.c - ops with windows over spatial dims: conv, conv_transpose, pool and argpool. Tensors are
 * [n, c, d...]; a window's strides, padding and dilations are the first attributes of each of these ops. */
#include "ops.h"

#define MAX_SPATIAL 3

typedef struct window {
  uint32_t n; /* spatial dims */
  int64_t size[MAX_SPATIAL], stride[MAX_SPATIAL], dilation[MAX_SPATIAL];
  tn_dim low[MAX_SPATIAL], high[MAX_SPATIAL];
} window;

static tn_status steps(tn_infer *c, const char *what, const tn_attr *a, uint32_t n, int64_t *out) {
  if (a->count && a->count != n)
    return tn_ops_fail(c, "%s has %i entries, wants %i", what, (int)a->count, (int)n);
  for (uint32_t i = 0; i < n; i++) {
    out[i] = a->count ? a->u.ints[i] : 1;
    if (out[i] < 1 || out[i] > INT32_MAX)
      return tn_ops_fail(c, "%s[%i] is %l, wants at least 1", what, (int)i, out[i]);
  }
  return TN_OK;
}

static tn_status pads(tn_infer *c, const char *what, const tn_attr *a, uint32_t n, bool negative,
                      tn_dim *out) {
  if (a->count && a->count != n)
    return tn_ops_fail(c, "%s has %i entries, wants %i", what, (int)a->count, (int)n);
  for (uint32_t i = 0; i < n; i++) {
    out[i] = a->count ? a->u.dims[i] : tn_ir_dim_const(c->m, 0);
    if (!negative && tn_ops_less(c, out[i], tn_ir_dim_const(c->m, 0)))
      return tn_ops_fail(c, "%s[%i] is negative: %D", what, (int)i, out[i]);
  }
  return TN_OK;
}

/* Sizes of the window are set already. */
static tn_status read_window(tn_infer *c, const tn_in *x, bool negative, window *w) {
  if (x->rank < 3 || x->rank > 2 + MAX_SPATIAL)
    return tn_ops_fail(c, "x has rank %i, wants 3 to %i: %T", (int)x->rank, 2 + MAX_SPATIAL, x->type);
  w->n = x->rank - 2;
  TN_TRY(steps(c, "strides", &c->attrs[TN_A_conv_strides], w->n, w->stride));
  TN_TRY(steps(c, "dilations", &c->attrs[TN_A_conv_dilations], w->n, w->dilation));
  TN_TRY(pads(c, "low", &c->attrs[TN_A_conv_low], w->n, negative, w->low));
  return pads(c, "high", &c->attrs[TN_A_conv_high], w->n, negative, w->high);
}

static tn_dim number(tn_infer *c, int64_t v) { return tn_ir_dim_const(c->m, v); }
static tn_dim plus(tn_infer *c, tn_dim a, tn_dim b) { return tn_dim_add(c->m, a, b); }
static tn_dim minus(tn_infer *c, tn_dim a, tn_dim b) { return tn_dim_sub(c->m, a, b); }
static tn_dim over(tn_infer *c, tn_dim a, int64_t b) {
  return b == 1 ? a : tn_ir_dim_make(c->m, TN_DIM_FLOORDIV, a, number(c, b));
}
/* What a window covers beyond its first element. */
static int64_t reach(const window *w, uint32_t i) { return (w->size[i] - 1) * w->dilation[i]; }

/* How many windows lie along dim i of d elements. */
static tn_status count(tn_infer *c, const window *w, uint32_t i, tn_dim d, bool ceil, tn_dim *out) {
  tn_dim room = minus(c, plus(c, plus(c, d, w->low[i]), w->high[i]), number(c, reach(w, i) + 1));
  if (tn_ops_less(c, room, number(c, ceil ? -w->stride[i] : -1)) ||
      (!ceil && tn_ops_less(c, room, number(c, 0))))
    return tn_ops_fail(c, "the window covers %l elements of spatial dim %i, which has %D with padding",
                       reach(w, i) + 1, (int)i, plus(c, plus(c, d, w->low[i]), w->high[i]));
  tn_dim one = number(c, 1);
  if (!ceil) {
    *out = plus(c, over(c, room, w->stride[i]), one);
    return TN_OK;
  }
  tn_dim up = plus(c, over(c, plus(c, room, number(c, w->stride[i] - 1)), w->stride[i]), one);
  tn_dim last = plus(c, over(c, minus(c, plus(c, d, w->low[i]), one), w->stride[i]), one);
  *out = tn_ir_dim_make(c->m, TN_DIM_MIN, up, last);
  return TN_OK;
}

/* ---- convolutions
 * ------------------------------------------------------------------------------------------ */
static tn_status kernel_sizes(tn_infer *c, const tn_in *x, const tn_in *w, window *out) {
  TN_TRY(tn_ops_rank(c, "w", w, x->rank));
  for (uint32_t i = 2; i < w->rank; i++) {
    if (!tn_ir_dim_is_const(c->m, w->dims[i], &out->size[i - 2]))
      return tn_ops_fail(c, "dim %i of w is %D, wants a constant: %T", (int)i, w->dims[i], w->type);
    if (out->size[i - 2] < 1 || out->size[i - 2] > INT32_MAX)
      return tn_ops_fail(c, "dim %i of w is empty: %T", (int)i, w->type);
  }
  return TN_OK;
}

static tn_status check_bias(tn_infer *c, const tn_in *bias, tn_dim outputs) {
  if (!bias->value) return TN_OK;
  TN_TRY(tn_ops_rank(c, "bias", bias, 1));
  return tn_ops_equal(c, "numbers of outputs and of bias", outputs, bias->dims[0]);
}

/* `whole` must be `groups` times `part`. */
static tn_status check_groups(tn_infer *c, const char *what, int64_t groups, tn_dim whole, tn_dim part) {
  tn_dim all = tn_dim_mul(c->m, part, number(c, groups));
  if (tn_ops_eq(c, whole, all)) return TN_OK;
  return tn_ops_fail(c, "%s are %D, wants %l groups of %D", what, whole, groups, part);
}

static tn_status read_conv(tn_infer *c, tn_in in[3], window *w, int64_t *groups) {
  TN_TRY(tn_ops_read(c, in, 3));
  if (in[0].rank < 3 || in[0].rank > 2 + MAX_SPATIAL)
    return tn_ops_fail(c, "x has rank %i, wants 3 to %i: %T", (int)in[0].rank, 2 + MAX_SPATIAL, in[0].type);
  TN_TRY(kernel_sizes(c, &in[0], &in[1], w));
  TN_TRY(read_window(c, &in[0], c->opcode == TN_OPC_conv_transpose, w));
  *groups = c->attrs[TN_A_conv_groups].u.i;
  if (*groups < 1) return tn_ops_fail(c, "groups is %l, wants at least 1", *groups);
  return TN_OK;
}

tn_status tn_infer_conv(tn_infer *c) {
  tn_in in[3];
  window w = {0};
  int64_t groups, outputs;
  TN_TRY(read_conv(c, in, &w, &groups));
  const tn_in *x = &in[0];
  TN_TRY(check_groups(c, "channels of x", groups, x->dims[1], in[1].dims[1]));
  if (groups > 1 && (!tn_ir_dim_is_const(c->m, in[1].dims[0], &outputs) || outputs % groups))
    return tn_ops_fail(c, "outputs are %D, wants a multiple of %l groups", in[1].dims[0], groups);
  TN_TRY(check_bias(c, &in[2], in[1].dims[0]));
  tn_shape s = {x->rank, {x->dims[0], in[1].dims[0]}};
  for (uint32_t i = 0; i < w.n; i++) TN_TRY(count(c, &w, i, x->dims[i + 2], false, &s.dims[i + 2]));
  return tn_ops_result(c, 0, x->dtype, &s);
}

tn_status tn_infer_conv_transpose(tn_infer *c) {
  tn_in in[3];
  window w = {0};
  int64_t groups, channels;
  TN_TRY(read_conv(c, in, &w, &groups));
  const tn_in *x = &in[0];
  TN_TRY(tn_ops_equal(c, "channels of x and w", x->dims[1], in[1].dims[0]));
  if (groups > 1 && (!tn_ir_dim_is_const(c->m, in[1].dims[0], &channels) || channels % groups))
    return tn_ops_fail(c, "channels are %D, wants a multiple of %l groups", in[1].dims[0], groups);
  tn_shape s = {x->rank, {x->dims[0], tn_dim_mul(c->m, in[1].dims[1], number(c, groups))}};
  TN_TRY(check_bias(c, &in[2], s.dims[1]));
  for (uint32_t i = 0; i < w.n; i++) {
    tn_dim last = tn_dim_mul(c->m, minus(c, x->dims[i + 2], number(c, 1)), number(c, w.stride[i]));
    tn_dim full = plus(c, last, number(c, reach(&w, i) + 1));
    s.dims[i + 2] = minus(c, minus(c, full, w.low[i]), w.high[i]);
    if (tn_ops_less(c, s.dims[i + 2], number(c, 0)))
      return tn_ops_fail(c, "more is cut off than there is: spatial dim %i of the result is %D", (int)i,
                         s.dims[i + 2]);
  }
  return tn_ops_result(c, 0, x->dtype, &s);
}

/* ---- pools
 * ------------------------------------------------------------------------------------------------- */
/* The result's shape; pool and argpool have the same attributes up to `ceil`. */
static tn_status pooled(tn_infer *c, const tn_in *x, tn_shape *s) {
  window w = {0};
  const tn_attr *size = &c->attrs[TN_A_pool_size];
  TN_TRY(read_window(c, x, false, &w));
  if (size->count != w.n) return tn_ops_fail(c, "size has %i entries, wants %i", (int)size->count, (int)w.n);
  TN_TRY(steps(c, "size", size, w.n, w.size));
  *s = tn_ops_shape(x);
  for (uint32_t i = 0; i < w.n; i++)
    TN_TRY(count(c, &w, i, x->dims[i + 2], c->attrs[TN_A_pool_ceil].u.i, &s->dims[i + 2]));
  return TN_OK;
}

tn_status tn_infer_pool(tn_infer *c) {
  tn_in x;
  tn_shape s;
  TN_TRY(tn_ops_read(c, &x, 1));
  const char *kind = c->attrs[TN_A_pool_kind].u.s;
  bool max = !strcmp(kind, "max");
  if (!max && strcmp(kind, "mean") && strcmp(kind, "sum"))
    return tn_ops_fail(c, "kind is '%s', wants max, mean or sum", kind);
  if (!max && x.cls != TN_CLASS_FLOAT)
    return tn_ops_fail(c, "operand 0 ('x') must be floats for '%s', but is %T", kind, x.type);
  TN_TRY(pooled(c, &x, &s));
  return tn_ops_result(c, 0, x.dtype, &s);
}

tn_status tn_infer_argpool(tn_infer *c) {
  tn_in x;
  tn_shape s;
  TN_TRY(tn_ops_read(c, &x, 1));
  TN_TRY(pooled(c, &x, &s));
  return tn_ops_result(c, 0, TN_DT_i64, &s);
}
