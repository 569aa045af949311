/* spatial.c - windows over spatial dims: conv, conv_transpose, pool, argpool. All of them walk the result,
 * and for each element the window's; fewer than three spatial dims get leading ones of size 1. */
#include "kernels.h"
#include <math.h>

enum { SPATIAL = 3 };

typedef struct window {
  int64_t in[SPATIAL], out[SPATIAL], size[SPATIAL], stride[SPATIAL], dilation[SPATIAL];
  int64_t low[SPATIAL], high[SPATIAL];
  int64_t nin, nout, taps; /* products */
} window;

static int64_t dim_at(tn_ref_call *c, const char *name, uint32_t i) {
  tn_attr a = tn_ref_attr(c, name);
  return i < a.count ? tn_ref_dim(c->ir, c->m, a.u.dims[i], c->dim, c->ctx) : 0;
}
static int64_t int_at(tn_ref_call *c, const char *name, uint32_t i) {
  tn_attr a = tn_ref_attr(c, name);
  return i < a.count ? a.u.ints[i] : 1;
}

static tn_status read_window(tn_ref_call *c, const int64_t *size, window *w) {
  const tn_ref_tensor *x = &c->in[0], *y = &c->out[0];
  uint32_t n = x->rank - 2, skip = SPATIAL - n;
  *w = (window){.nin = 1, .nout = 1, .taps = 1};
  for (uint32_t i = 0; i < SPATIAL; i++) {
    w->in[i] = w->out[i] = w->size[i] = w->stride[i] = w->dilation[i] = 1;
    if (i >= skip) {
      uint32_t s = i - skip;
      w->in[i] = x->dims[s + 2];
      w->out[i] = y->dims[s + 2];
      w->size[i] = size[s];
      w->stride[i] = int_at(c, "strides", s);
      w->dilation[i] = int_at(c, "dilations", s);
      w->low[i] = dim_at(c, "low", s);
      w->high[i] = dim_at(c, "high", s);
      if (w->low[i] == INT64_MIN || w->high[i] == INT64_MIN)
        return tn_ref_fail(c, TN_INVALID, "padding of spatial dim %u overflows", s);
    }
    w->nin *= w->in[i];
    w->nout *= w->out[i];
    w->taps *= w->size[i];
  }
  return TN_OK;
}

static void coordinates(int64_t flat, const int64_t *dims, int64_t *at) {
  for (uint32_t i = SPATIAL; i-- > 0; flat /= dims[i]) at[i] = flat % dims[i];
}
/* Where tap k of the window at `at` reads x; -1: outside. */
static int64_t conv_source(const window *w, const int64_t *at, int64_t k) {
  int64_t tap[SPATIAL], flat = 0;
  coordinates(k, w->size, tap);
  for (uint32_t i = 0; i < SPATIAL; i++) {
    int64_t j = at[i] * w->stride[i] + tap[i] * w->dilation[i] - w->low[i];
    if (j < 0 || j >= w->in[i]) return -1;
    flat = flat * w->in[i] + j;
  }
  return flat;
}
/* Which element of x tap k brings to `at` of a transposed convolution; -1: none. */
static int64_t transposed_source(const window *w, const int64_t *at, int64_t k) {
  int64_t tap[SPATIAL], flat = 0;
  coordinates(k, w->size, tap);
  for (uint32_t i = 0; i < SPATIAL; i++) {
    int64_t j = at[i] + w->low[i] - tap[i] * w->dilation[i];
    if (j < 0 || j % w->stride[i] || j / w->stride[i] >= w->in[i]) return -1;
    flat = flat * w->in[i] + j / w->stride[i];
  }
  return flat;
}

/* ---- convolutions
 * ------------------------------------------------------------------------------------------ */
typedef struct conv {
  tn_ref_call *c;
  window w;
  int64_t channels, outputs; /* of a group */
  bool transposed;
  double *x, *weights, *row;
  int64_t *sources;
} conv;

static int64_t weight_at(const conv *v, int64_t group, int64_t o, int64_t ch) {
  if (v->transposed) return ((group * v->channels + ch) * v->outputs + o) * v->w.taps;
  return ((group * v->outputs + o) * v->channels + ch) * v->w.taps;
}

/* Output element `at` of all outputs of a group. */
static void window_sums(const conv *v, const double *x, int64_t group, double *sums) {
  for (int64_t o = 0; o < v->outputs; o++) {
    double sum = 0;
    for (int64_t ch = 0; ch < v->channels; ch++) {
      const double *w = v->weights + weight_at(v, group, o, ch), *plane = x + ch * v->w.nin;
      for (int64_t k = 0; k < v->w.taps; k++)
        if (v->sources[k] >= 0) sum += w[k] * plane[v->sources[k]];
    }
    sums[o] = sum;
  }
}

static tn_status convolve(tn_ref_call *c, bool transposed) {
  const tn_ref_tensor *x = &c->in[0], *w = &c->in[1], *bias = c->nin > 2 ? &c->in[2] : NULL;
  tn_ref_tensor *y = &c->out[0];
  int64_t groups = tn_ref_attr_int(c, "groups"), nw = tn_ref_count(w);
  conv v = {
      .c = c, .channels = x->dims[1] / groups, .outputs = y->dims[1] / groups, .transposed = transposed};
  TN_TRY(read_window(c, w->dims + 2, &v.w));
  v.x = tn_ref_scratch(c, v.channels * v.w.nin, sizeof *v.x);
  v.weights = tn_ref_scratch(c, nw, sizeof *v.weights);
  v.row = tn_ref_scratch(c, v.outputs, sizeof *v.row);
  v.sources = tn_ref_scratch(c, v.w.taps, sizeof *v.sources);
  if (!v.x || !v.weights || !v.row || !v.sources) return TN_OOM;
  tn_ref_load(w, 0, nw, v.weights);
  for (int64_t i = 0; i < x->dims[0] * groups; i++) {
    int64_t group = i % groups, at[SPATIAL];
    tn_ref_load(x, i * v.channels * v.w.nin, v.channels * v.w.nin, v.x);
    for (int64_t p = 0; p < v.w.nout; p++) {
      coordinates(p, v.w.out, at);
      for (int64_t k = 0; k < v.w.taps; k++)
        v.sources[k] = transposed ? transposed_source(&v.w, at, k) : conv_source(&v.w, at, k);
      window_sums(&v, v.x, group, v.row);
      for (int64_t o = 0; o < v.outputs; o++) {
        double b = bias && bias->data ? tn_ref_get(bias, group * v.outputs + o) : 0;
        tn_ref_set(y, (i * v.outputs + o) * v.w.nout + p, v.row[o] + b);
      }
    }
  }
  return TN_OK;
}

tn_status tn_ref_op_conv(tn_ref_call *c) { return convolve(c, false); }
tn_status tn_ref_op_conv_transpose(tn_ref_call *c) { return convolve(c, true); }

/* ---- pools
 * ------------------------------------------------------------------------------------------------- */
/* The place of the largest element of the window at `at` of the plane from element `first` on; -1: none. */
static int64_t largest(const tn_ref_tensor *x, int64_t first, const window *w, const int64_t *at) {
  int64_t best = -1;
  double top = 0;
  int64_t itop = 0;
  bool real = tn_ref_is_float(x->dtype), is_unsigned = tn_ref_class(x->dtype) == TN_CLASS_UINT;
  for (int64_t k = 0; k < w->taps; k++) {
    int64_t j = conv_source(w, at, k);
    if (j < 0) continue;
    double v = real ? tn_ref_get(x, first + j) : 0;
    int64_t i = real ? 0 : tn_ref_get_int(x, first + j);
    bool more = real          ? v > top || (isnan(v) && !isnan(top))
                : is_unsigned ? (uint64_t)i > (uint64_t)itop
                              : i > itop;
    if (best < 0 || more) best = j, top = v, itop = i;
  }
  return best;
}

/* How many elements of the window lie in x, or in x and its padding. */
static int64_t window_count(const window *w, const int64_t *at, bool pad) {
  int64_t n = 1;
  for (uint32_t i = 0; i < SPATIAL; i++) {
    int64_t in = 0, from = pad ? -w->low[i] : 0, to = w->in[i] + (pad ? w->high[i] : 0);
    for (int64_t k = 0; k < w->size[i]; k++) {
      int64_t j = at[i] * w->stride[i] + k * w->dilation[i] - w->low[i];
      in += j >= from && j < to;
    }
    n *= in;
  }
  return n;
}

static double window_sum(const tn_ref_tensor *x, int64_t first, const window *w, const int64_t *at) {
  double sum = 0;
  for (int64_t k = 0; k < w->taps; k++) {
    int64_t j = conv_source(w, at, k);
    if (j >= 0) sum += tn_ref_get(x, first + j);
  }
  return sum;
}

static tn_status pool(tn_ref_call *c,
                      void (*each)(tn_ref_call *, const window *, int64_t, int64_t, int64_t *)) {
  const tn_ref_tensor *x = &c->in[0];
  window w;
  TN_TRY(read_window(c, tn_ref_attr(c, "size").u.ints, &w));
  for (int64_t plane = 0; plane < x->dims[0] * x->dims[1]; plane++)
    for (int64_t p = 0; p < w.nout; p++) {
      int64_t at[SPATIAL];
      coordinates(p, w.out, at);
      each(c, &w, plane * w.nin, plane * w.nout + p, at);
    }
  return TN_OK;
}

static void set_lowest(tn_ref_tensor *y, int64_t to) {
  uint32_t bits = tn_ref_bits(y->dtype), cls = tn_ref_class(y->dtype);
  if (cls == TN_CLASS_FLOAT)
    tn_ref_set(y, to, -INFINITY);
  else
    tn_ref_set_int(y, to, cls == TN_CLASS_INT ? INT64_MIN >> (64 - bits) : 0);
}
static void max_at(tn_ref_call *c, const window *w, int64_t first, int64_t to, int64_t *at) {
  int64_t j = largest(&c->in[0], first, w, at);
  if (j < 0)
    set_lowest(&c->out[0], to);
  else
    tn_ref_copy(&c->out[0], to, &c->in[0], first + j, 1);
}
static void mean_at(tn_ref_call *c, const window *w, int64_t first, int64_t to, int64_t *at) {
  int64_t n = window_count(w, at, tn_ref_attr_int(c, "count_pad"));
  tn_ref_set(&c->out[0], to, window_sum(&c->in[0], first, w, at) / (double)n);
}
static void sum_at(tn_ref_call *c, const window *w, int64_t first, int64_t to, int64_t *at) {
  tn_ref_set(&c->out[0], to, window_sum(&c->in[0], first, w, at));
}
static void place_at(tn_ref_call *c, const window *w, int64_t first, int64_t to, int64_t *at) {
  tn_ref_set_int(&c->out[0], to, largest(&c->in[0], first, w, at));
}

tn_status tn_ref_op_pool(tn_ref_call *c) {
  const char *kind = tn_ref_attr(c, "kind").u.s;
  return pool(c, !strcmp(kind, "max") ? max_at : !strcmp(kind, "mean") ? mean_at : sum_at);
}
tn_status tn_ref_op_argpool(tn_ref_call *c) { return pool(c, place_at); }
