/* view.c - kernels that move elements and compute nothing. Runs are copied as bytes, whatever their type. */
#include "kernels.h"

tn_status tn_ref_op_reshape(tn_ref_call *c) {
  tn_ref_copy(&c->out[0], 0, &c->in[0], 0, tn_ref_count(&c->in[0]));
  return TN_OK;
}

/* Copies x into out, reading element (i0, i1, ...) of out at the sum of i * strides of x. */
static void copy_strided(tn_ref_tensor *out, const tn_ref_tensor *x, const int64_t *strides) {
  int64_t index[TN_MAX_RANK] = {0}, at = 0;
  if (!tn_ref_count(out)) return;
  if (!out->rank) {
    tn_ref_copy(out, 0, x, 0, 1);
    return;
  }
  uint32_t last = out->rank - 1;
  int64_t n = out->dims[last];
  do {
    int64_t from = 0;
    for (uint32_t d = 0; d < last; d++) from += index[d] * strides[d];
    if (strides[last] == 1)
      tn_ref_copy(out, at, x, from, n);
    else
      for (int64_t i = 0; i < n; i++) tn_ref_copy(out, at + i, x, from + i * strides[last], 1);
    at += n;
  } while (tn_ref_next(index, out->dims, last));
}

tn_status tn_ref_op_broadcast(tn_ref_call *c) {
  int64_t strides[TN_MAX_RANK];
  tn_ref_strides(&c->in[0], &c->out[0], strides);
  copy_strided(&c->out[0], &c->in[0], strides);
  return TN_OK;
}

tn_status tn_ref_op_transpose(tn_ref_call *c) {
  const tn_ref_tensor *x = &c->in[0];
  tn_attr perm = tn_ref_attr(c, "perm");
  int64_t of[TN_MAX_RANK], strides[TN_MAX_RANK], step = 1;
  for (uint32_t i = x->rank; i-- > 0; step *= x->dims[i]) of[i] = step;
  for (uint32_t i = 0; i < x->rank; i++) strides[i] = of[perm.u.ints[i]];
  copy_strided(&c->out[0], x, strides);
  return TN_OK;
}

tn_status tn_ref_op_slice(tn_ref_call *c) {
  uint32_t axis = tn_ref_attr_axis(c, "axis");
  tn_ref_axis a = tn_ref_around(&c->in[0], axis);
  int64_t start = tn_ref_attr_dim(c, "start"), stop = tn_ref_attr_dim(c, "stop"),
          step = tn_ref_attr_int(c, "step");
  int64_t n = c->out[0].dims[axis];
  if (start < 0 || start > stop || stop > a.n)
    return tn_ref_fail(c, TN_INVALID, "slice %lld:%lld of an axis of %lld", (long long)start, (long long)stop,
                       (long long)a.n);
  for (int64_t o = 0; o < a.outer; o++) {
    int64_t to = o * n * a.inner, from = (o * a.n + start) * a.inner;
    if (step == 1)
      tn_ref_copy(&c->out[0], to, &c->in[0], from, n * a.inner);
    else
      for (int64_t i = 0; i < n; i++)
        tn_ref_copy(&c->out[0], to + i * a.inner, &c->in[0], from + i * step * a.inner, a.inner);
  }
  return TN_OK;
}

tn_status tn_ref_op_split(tn_ref_call *c) {
  uint32_t axis = tn_ref_attr_axis(c, "axis");
  tn_ref_axis a = tn_ref_around(&c->in[0], axis);
  int64_t start = 0;
  for (uint32_t k = 0; k < c->nout; k++) {
    int64_t n = c->out[k].dims[axis];
    if (start + n > a.n)
      return tn_ref_fail(c, TN_INVALID, "parts of a split are larger than its axis of %lld", (long long)a.n);
    for (int64_t o = 0; o < a.outer; o++)
      tn_ref_copy(&c->out[k], o * n * a.inner, &c->in[0], (o * a.n + start) * a.inner, n * a.inner);
    start += n;
  }
  return TN_OK;
}

tn_status tn_ref_op_concat(tn_ref_call *c) {
  uint32_t axis = tn_ref_attr_axis(c, "axis");
  tn_ref_axis a = tn_ref_around(&c->out[0], axis);
  int64_t start = 0;
  for (uint32_t k = 0; k < c->nin; k++) {
    int64_t n = c->in[k].dims[axis];
    for (int64_t o = 0; o < a.outer; o++)
      tn_ref_copy(&c->out[0], (o * a.n + start) * a.inner, &c->in[k], o * n * a.inner, n * a.inner);
    start += n;
  }
  return TN_OK;
}

tn_status tn_ref_op_pad(tn_ref_call *c) {
  const tn_ref_tensor *x = &c->in[0];
  tn_attr low = tn_ref_attr(c, "low");
  double value = tn_ref_attr_float(c, "value");
  int64_t index[TN_MAX_RANK] = {0}, n = tn_ref_count(&c->out[0]), from = 0;
  for (int64_t i = 0; i < n; i++) tn_ref_set(&c->out[0], i, value);
  if (!tn_ref_count(x)) return TN_OK;
  uint32_t rows = x->rank ? x->rank - 1 : 0;
  int64_t width = x->rank ? x->dims[rows] : 1;
  do {
    int64_t at = 0;
    for (uint32_t d = 0; d < x->rank; d++)
      at = at * c->out[0].dims[d] + low.u.ints[d] + (d < rows ? index[d] : 0);
    tn_ref_copy(&c->out[0], at, x, from, width);
    from += width;
  } while (tn_ref_next(index, x->dims, rows));
  return TN_OK;
}

tn_status tn_ref_op_gather(tn_ref_call *c) {
  tn_ref_axis a = tn_ref_around(&c->in[0], tn_ref_attr_axis(c, "axis"));
  int64_t n = tn_ref_count(&c->in[1]);
  for (int64_t o = 0; o < a.outer; o++)
    for (int64_t i = 0; i < n; i++) {
      int64_t index = tn_ref_get_int(&c->in[1], i), to = (o * n + i) * a.inner;
      if (index < 0 && tn_ref_class(c->in[1].dtype) == TN_CLASS_INT) index += a.n;
      if (index < 0 || index >= a.n)
        tn_ref_zero(&c->out[0], to, a.inner);
      else
        tn_ref_copy(&c->out[0], to, &c->in[0], (o * a.n + index) * a.inner, a.inner);
    }
  return TN_OK;
}
