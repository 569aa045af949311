/* window.c - the windows of convolutions and pools: strides, dilations, padding, auto_pad. Padding is a dim,
 * so that auto_pad works on sizes that only the run knows. */
#include "frontend/onnx/ops/spatial.h"

static bool list(tn_ox *x, tn_ox_node *n, const char *name, uint32_t want, int64_t least, int64_t otherwise,
                 int64_t *out) {
  uint32_t count;
  const int64_t *v = tn_ox_ints(n, name, &count);
  if (v && count != want) return tn_ox_fail(x, n, "%s has %u entries, wants %u", name, count, want) == TN_OK;
  for (uint32_t i = 0; i < want; i++) {
    out[i] = v ? v[i] : otherwise;
    if (out[i] < least || out[i] > INT32_MAX)
      return tn_ox_fail(x, n, "%s[%u] is %lld, wants at least %lld", name, i, (long long)out[i],
                        (long long)least) == TN_OK;
  }
  return true;
}

/* What SAME pads in all: so that there are ceil(d / stride) windows. */
static tn_dim same_padding(tn_ox *x, tn_dim d, int64_t stride, int64_t covers) {
  tn_dim s = tn_ox_d(x, stride), last = tn_ox_ddiv(x, tn_ox_dadd(x, d, tn_ox_d(x, stride - 1)), s);
  last = tn_ox_dmul(x, tn_ox_dsub(x, last, tn_ox_d(x, 1)), s);
  tn_dim need = tn_ox_dsub(x, tn_ox_dadd(x, last, tn_ox_d(x, covers)), d);
  return stride == 1 ? need : tn_ox_dmax(x, need, tn_ox_d(x, 0));
}

static bool read_pads(tn_ox *x, tn_ox_node *n, tn_value v, tn_ox_window *w) {
  const char *mode = tn_ox_str(n, "auto_pad", "NOTSET");
  bool upper = !strcmp(mode, "SAME_UPPER"), lower = !strcmp(mode, "SAME_LOWER");
  int64_t pads[2 * TN_OX_SPATIAL];
  if (!upper && !lower && strcmp(mode, "NOTSET") && strcmp(mode, "VALID"))
    return tn_ox_fail(x, n, "auto_pad is '%s', wants NOTSET, VALID, SAME_UPPER or SAME_LOWER", mode) == TN_OK;
  if (!list(x, n, "pads", 2 * w->n, 0, 0, pads)) return false;
  bool stated = !strcmp(mode, "NOTSET");
  for (uint32_t i = 0; i < w->n; i++) {
    w->low[i] = tn_ox_d(x, stated ? pads[i] : 0);
    w->high[i] = tn_ox_d(x, stated ? pads[w->n + i] : 0);
    if (!upper && !lower) continue;
    tn_dim all = same_padding(x, tn_ox_dim(x, v, 2 + i), w->stride[i], (w->size[i] - 1) * w->dilation[i] + 1);
    tn_dim half = tn_ox_ddiv(x, all, tn_ox_d(x, 2)), rest = tn_ox_dsub(x, all, half);
    w->low[i] = upper ? half : rest;
    w->high[i] = upper ? rest : half;
  }
  return true;
}

bool tn_ox_read_steps(tn_ox *x, tn_ox_node *n, tn_value v, tn_ox_window *w) {
  return list(x, n, "strides", w->n, 1, 1, w->stride) && list(x, n, "dilations", w->n, 1, 1, w->dilation) &&
         read_pads(x, n, v, w);
}

bool tn_ox_read_window(tn_ox *x, tn_ox_node *n, tn_value v, const int64_t *size, tn_ox_window *w) {
  uint32_t rank = tn_ox_rank(x, v);
  if (tn_ox_failed(x)) return false;
  if (rank < 3 || rank > 2 + TN_OX_SPATIAL)
    return tn_ox_refuse(x, n, NULL, "the input has rank %u, wants 3 to %d", rank, 2 + TN_OX_SPATIAL) == TN_OK;
  *w = (tn_ox_window){.n = rank - 2};
  if (!size && !tn_ox_has_attr(n, "kernel_shape"))
    return tn_ox_fail(x, n, "kernel_shape is missing") == TN_OK;
  if (size)
    memcpy(w->size, size, w->n * sizeof *size);
  else if (!list(x, n, "kernel_shape", w->n, 1, 1, w->size))
    return false;
  return tn_ox_read_steps(x, n, v, w);
}

tn_value tn_ox_windowed(tn_ox *x, const char *op, const tn_value *in, uint32_t nin, const tn_ox_window *w,
                        bool pool, const tn_named_attr *more, uint32_t nmore) {
  tn_named_attr attrs[16] = {TN_OX_INTS("strides", w->stride, w->n),
                             TN_OX_INTS("dilations", w->dilation, w->n), TN_OX_DIMS("low", w->low, w->n),
                             TN_OX_DIMS("high", w->high, w->n)};
  uint32_t n = 4;
  if (pool) attrs[n++] = TN_OX_INTS("size", w->size, w->n);
  for (uint32_t i = 0; i < nmore; i++) attrs[n++] = more[i];
  return tn_ox_make(x, op, in, nin, attrs);
}

tn_value tn_ox_kernel(tn_ox *x, tn_ox_node *n, tn_value w, int64_t size[TN_OX_SPATIAL]) {
  uint32_t rank = tn_ox_rank(x, w), count;
  if (tn_ox_failed(x)) return 0;
  if (rank < 3 || rank > 2 + TN_OX_SPATIAL) {
    tn_ox_refuse(x, n, NULL, "the weights have rank %u, wants 3 to %d", rank, 2 + TN_OX_SPATIAL);
    return 0;
  }
  const int64_t *stated = tn_ox_ints(n, "kernel_shape", &count);
  tn_dim dims[TN_MAX_RANK];
  bool changed = false;
  tn_ox_dims(x, w, dims);
  if (stated && count != rank - 2) {
    tn_ox_fail(x, n, "kernel_shape has %u entries, the weights have %u spatial dims", count, rank - 2);
    return 0;
  }
  for (uint32_t i = 2; i < rank; i++) {
    tn_dim d = stated ? tn_ox_same(x, n, dims[i], tn_ox_d(x, stated[i - 2])) : dims[i];
    if (!d) return 0;
    if (!tn_ox_dconst(x, d, &size[i - 2])) {
      tn_ox_refuse(x, n, "state kernel_shape", "the size of the kernel is only known at run time");
      return 0;
    }
    changed |= d != dims[i];
    dims[i] = d;
  }
  return changed ? tn_ox_reshape(x, w, dims, rank) : w;
}

tn_value tn_ox_channels(tn_ox *x, tn_value v, uint32_t rank) {
  tn_dim dims[TN_MAX_RANK];
  if (!v) return 0;
  for (uint32_t i = 0; i < rank; i++) dims[i] = tn_ox_d(x, 1);
  dims[1] = tn_ox_dim(x, v, 0);
  return tn_ox_reshape(x, v, dims, rank);
}
