/* irregular.c - scatter and nonzero; unique and nms are those of backends/lib, which their tests hold against
 * NumPy and ONNX Runtime. */
#include "backends/lib/lib.h"
#include "kernels.h"
#include <math.h>

/* Element `to` of out becomes what `how` makes of it and element `from` of updates. */
static void combine(tn_ref_call *c, const char *how, int64_t to, int64_t from) {
  tn_ref_tensor *out = &c->out[0];
  const tn_ref_tensor *updates = &c->in[2];
  uint32_t cls = tn_ref_class(out->dtype);
  if (cls == TN_CLASS_FLOAT) {
    double a = tn_ref_get(out, to), b = tn_ref_get(updates, from);
    bool nan = isnan(a) || isnan(b);
    tn_ref_set(out, to,
               *how == 'a'     ? a + b
               : how[1] == 'u' ? a * b
               : nan           ? NAN
               : how[1] == 'i' ? fmin(a, b)
                               : fmax(a, b));
    return;
  }
  int64_t a = tn_ref_get_int(out, to), b = tn_ref_get_int(updates, from);
  bool less = cls == TN_CLASS_UINT ? (uint64_t)a < (uint64_t)b : a < b;
  uint64_t v = *how == 'a'     ? (uint64_t)a + (uint64_t)b
               : how[1] == 'u' ? (uint64_t)a * (uint64_t)b
               : how[1] == 'i' ? (uint64_t)(less ? a : b)
                               : (uint64_t)(less ? b : a);
  tn_ref_set_int(out, to, (int64_t)v); /* of bools: and, or */
}

tn_status tn_ref_op_scatter(tn_ref_call *c) {
  const char *how = tn_ref_attr(c, "reduce").u.s;
  int64_t n = c->in[0].dims[0], all = tn_ref_count(&c->in[0]), row = n ? all / n : 0;
  tn_ref_copy(&c->out[0], 0, &c->in[0], 0, all);
  for (int64_t i = 0; i < c->in[1].dims[0]; i++) {
    int64_t at = tn_ref_get_int(&c->in[1], i);
    if (at < 0 && tn_ref_class(c->in[1].dtype) == TN_CLASS_INT) at += n;
    if (at < 0 || at >= n) continue;
    if (!strcmp(how, "none"))
      tn_ref_copy(&c->out[0], at * row, &c->in[2], i * row, row);
    else
      for (int64_t k = 0; k < row; k++) combine(c, how, at * row + k, i * row + k);
  }
  return TN_OK;
}

tn_status tn_ref_op_nonzero(tn_ref_call *c) {
  int64_t n = tn_ref_count(&c->in[0]), at = 0;
  bool number = tn_ref_is_float(c->in[0].dtype);
  for (int64_t i = 0; i < n; i++)
    if (number ? tn_ref_get(&c->in[0], i) != 0 : tn_ref_get_int(&c->in[0], i) != 0)
      tn_ref_set_int(&c->out[0], at++, i);
  tn_ref_zero(&c->out[0], at, n - at);
  tn_ref_set_int(&c->out[1], 0, at);
  return TN_OK;
}

/* ---- through backends/lib ----------------------------------------------------------------------------- */
static tn_lib_tensor lib_tensor(const tn_ref_tensor *t) {
  tn_lib_tensor r = {.data = t->data, .rank = t->rank, .dtype = t->dtype};
  memcpy(r.dims, t->dims, sizeof r.dims);
  return r;
}

tn_status tn_ref_library(tn_ref_call *c, const char *op, const tn_lib_attr *attrs, int64_t scratch) {
  tn_lib_tensor in[8] = {{0}}, out[8] = {{0}};
  for (uint32_t i = 0; i < c->nin && i < TN_COUNT(in); i++) in[i] = lib_tensor(&c->in[i]);
  for (uint32_t i = 0; i < c->nout && i < TN_COUNT(out); i++) out[i] = lib_tensor(&c->out[i]);
  tn_lib_call k = {.in = in, .out = out, .attrs = attrs, .nthreads = 1, .nin = c->nin};
  k.scratch = tn_ref_scratch(c, scratch, 1);
  if (!k.scratch) return TN_OOM;
  tn_lib_find(op)->fn(&k);
  return TN_OK;
}

tn_status tn_ref_op_unique(tn_ref_call *c) {
  tn_lib_attr attrs[TN_LIB_A_unique_COUNT] = {0};
  attrs[TN_LIB_A_unique_sorted].u.i = tn_ref_attr_int(c, "sorted");
  return tn_ref_library(c, "unique", attrs, c->in[0].dims[0] * TN_LIB_UNIQUE_ROW);
}

tn_status tn_ref_op_nms(tn_ref_call *c) {
  tn_lib_attr attrs[TN_LIB_A_nms_COUNT] = {0};
  attrs[TN_LIB_A_nms_center].u.i = tn_ref_attr_int(c, "center");
  return tn_ref_library(c, "nms", attrs, c->in[0].dims[1] * TN_LIB_NMS_BOX);
}
