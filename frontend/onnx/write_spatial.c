/* write_spatial.c - windows over spatial dims: Conv, ConvTranspose, pools. Padding that is a number stands in
 * the node's attribute; padding by sizes that only a run knows goes in front, as Pad. */
#include "frontend/onnx/write_graph.h"
#include <string.h>

typedef struct window {
  uint32_t n; /* spatial dims */
  int64_t strides[TN_MAX_RANK], dilations[TN_MAX_RANK], pads[2 * TN_MAX_RANK];
  tn_dim low[TN_MAX_RANK], high[TN_MAX_RANK];
  bool known; /* pads holds low and high */
} window;

static void fill(tn_ow *w, tn_op op, const char *name, uint32_t n, int64_t *out) {
  uint32_t count;
  const int64_t *v = tn_ow_ints(w, op, name, &count);
  for (uint32_t i = 0; i < n; i++) out[i] = i < count ? v[i] : 1;
}

static void window_of(tn_ow *w, tn_op op, tn_ov x, window *out) {
  uint32_t n = tn_ow_rank(w, x) - 2;
  *out = (window){.n = n, .known = true};
  fill(w, op, "strides", n, out->strides);
  fill(w, op, "dilations", n, out->dilations);
  uint32_t nl = tn_ow_dims(w, op, "low", out->low), nh = tn_ow_dims(w, op, "high", out->high);
  for (uint32_t i = 0; i < n; i++) {
    if (i >= nl) out->low[i] = tn_ow_d(w, 0);
    if (i >= nh) out->high[i] = tn_ow_d(w, 0);
    out->known = tn_ow_dconst(w, out->low[i], &out->pads[i]) &&
                 tn_ow_dconst(w, out->high[i], &out->pads[n + i]) && out->known;
  }
}

/* x with the window's padding, of which the node then has none. */
static tn_ov padded(tn_ow *w, tn_ov x, window *v, double value) {
  if (v->known) return x;
  tn_ow_shape t = *tn_ow_type(w, x);
  tn_dim pads[2 * TN_MAX_RANK];
  for (uint32_t i = 0; i < t.rank; i++) {
    pads[i] = i < 2 ? tn_ow_d(w, 0) : v->low[i - 2];
    pads[t.rank + i] = i < 2 ? tn_ow_d(w, 0) : v->high[i - 2];
    t.dims[i] = tn_ow_dmake(w, TN_DIM_ADD, t.dims[i], tn_ow_dmake(w, TN_DIM_ADD, pads[i], pads[t.rank + i]));
  }
  tn_ov halves[2] = {tn_ow_shape_value(w, pads, t.rank), tn_ow_shape_value(w, pads + t.rank, t.rank)};
  memset(v->pads, 0, sizeof v->pads);
  return tn_ow_node1(w, "Pad", TN_OW_IN(x, tn_ow_concat(w, halves, 2, 0), tn_ow_scalar_like(w, x, value)),
                     NULL, &t);
}

/* bf16 came to these ops with opset 22, and of integers they know the narrowest: others go through floats. */
static tn_ov accepted(tn_ow *w, tn_ov x) {
  tn_dtype t = tn_ow_dtype(w, x);
  if (t == TN_DT_bf16 && w->o.opset < 22) return tn_ow_cast(w, x, TN_DT_f32);
  if (tn_ow_is_float(w, t) || t == TN_DT_i8 || t == TN_DT_u8) return x;
  if (x && w->ir->dtype_info(t)->bits > 32)
    return tn_ow_fail(w, TN_UNSUPPORTED, "no pool of 64-bit integers"), 0;
  return tn_ow_cast(w, x, TN_DT_f64);
}

/* Rounding up, as padding behind: its effect is the same where padding does not count. False: it is not
 * known. */
static bool rounded_up(tn_ow *w, tn_ov x, const tn_ow_shape *out, window *v, const int64_t *size) {
  for (uint32_t i = 0; i < v->n; i++) {
    int64_t d, o;
    if (!v->known || !tn_ow_dconst(w, tn_ow_size_of(w, x, i + 2), &d) ||
        !tn_ow_dconst(w, out->dims[i + 2], &o))
      return false;
    int64_t need = (o - 1) * v->strides[i] + (size[i] - 1) * v->dilations[i] + 1 - d - v->pads[i];
    v->pads[v->n + i] = need > 0 ? need : 0;
  }
  return true;
}

static void kernel_of(tn_ow *w, tn_ov weights, uint32_t n, int64_t *out) {
  for (uint32_t i = 0; i < n; i++) (void)tn_ow_dconst(w, tn_ow_size_of(w, weights, i + 2), &out[i]);
}

void tn_ow_op_conv(tn_ow *w, tn_op op) {
  tn_ov in = tn_ow_in(w, op, 0), x = accepted(w, in), k = tn_ow_in(w, op, 1), bias = tn_ow_in(w, op, 2);
  tn_ow_shape t;
  window v;
  int64_t size[TN_MAX_RANK];
  if (tn_ow_failed(w)) return;
  tn_ow_result_type(w, op, 0, &t);
  window_of(w, op, x, &v);
  kernel_of(w, k, v.n, size);
  x = padded(w, x, &v, 0);
  tn_dtype type = t.dtype = tn_ow_dtype(w, x);
  tn_ov y =
      tn_ow_node1(w, "Conv", TN_OW_IN(x, tn_ow_cast(w, k, type), tn_ow_cast(w, bias, type)),
                  TN_OW_ATTRS(TN_OW_IS("kernel_shape", size, v.n), TN_OW_IS("strides", v.strides, v.n),
                              TN_OW_IS("pads", v.pads, 2 * v.n), TN_OW_IS("dilations", v.dilations, v.n),
                              TN_OW_I("group", tn_ow_int(w, op, "groups"))),
                  &t);
  tn_ow_out(w, op, 0, tn_ow_cast(w, y, tn_ow_dtype(w, in)));
}

/* What is added behind is output_padding, below the stride or the dilation; what is added in front has no
 * form. */
void tn_ow_op_conv_transpose(tn_ow *w, tn_op op) {
  tn_ov in = tn_ow_in(w, op, 0), x = accepted(w, in), k = tn_ow_in(w, op, 1), bias = tn_ow_in(w, op, 2);
  tn_ow_shape t;
  window v;
  int64_t size[TN_MAX_RANK], more[TN_MAX_RANK];
  if (tn_ow_failed(w)) return;
  tn_ow_result_type(w, op, 0, &t);
  window_of(w, op, x, &v);
  kernel_of(w, k, v.n, size);
  for (uint32_t i = 0; i < v.n; i++) {
    more[i] = v.pads[v.n + i] < 0 ? -v.pads[v.n + i] : 0;
    if (more[i]) v.pads[v.n + i] = 0;
    if (!v.known || v.pads[i] < 0 || (more[i] >= v.strides[i] && more[i] >= v.dilations[i]))
      return tn_ow_fail(w, TN_UNSUPPORTED, "ConvTranspose cannot cut or add so much at dim %u", i);
  }
  tn_dtype type = t.dtype = tn_ow_dtype(w, x);
  tn_ov y = tn_ow_node1(
      w, "ConvTranspose", TN_OW_IN(x, tn_ow_cast(w, k, type), tn_ow_cast(w, bias, type)),
      TN_OW_ATTRS(TN_OW_IS("kernel_shape", size, v.n), TN_OW_IS("strides", v.strides, v.n),
                  TN_OW_IS("pads", v.pads, 2 * v.n), TN_OW_IS("dilations", v.dilations, v.n),
                  TN_OW_IS("output_padding", more, v.n), TN_OW_I("group", tn_ow_int(w, op, "groups"))),
      &t);
  tn_ow_out(w, op, 0, tn_ow_cast(w, y, tn_ow_dtype(w, in)));
}

void tn_ow_op_pool(tn_ow *w, tn_op op) {
  tn_ov in = tn_ow_in(w, op, 0), x = accepted(w, in);
  const char *kind = tn_ow_str(w, op, "kind");
  bool max = !strcmp(kind, "max"), sum = !strcmp(kind, "sum"), ceil = tn_ow_int(w, op, "ceil"),
       counted = sum || tn_ow_int(w, op, "count_pad");
  tn_ow_shape t;
  window v;
  int64_t size[TN_MAX_RANK], area = 1;
  bool spread = false;
  if (tn_ow_failed(w)) return;
  tn_ow_result_type(w, op, 0, &t);
  t.dtype = tn_ow_dtype(w, x);
  window_of(w, op, x, &v);
  fill(w, op, "size", v.n, size);
  for (uint32_t i = 0; i < v.n; i++) area *= size[i], spread = spread || v.dilations[i] != 1;
  if (!max && spread && w->o.opset < 19)
    return tn_ow_fail(w, TN_UNSUPPORTED,
                      "AveragePool with dilations needs opset 19, and the model is written for %u",
                      w->o.opset);
  if (ceil && (max || !counted) && rounded_up(w, x, &t, &v, size)) ceil = false;
  if ((!v.known && !sum) || (ceil && !max && counted))
    return tn_ow_fail(w, TN_UNSUPPORTED, "a pool of this kind and padding has no form in ONNX");
  x = padded(w, x, &v, 0);
  const tn_ow_attr common[] = {TN_OW_IS("kernel_shape", size, v.n),
                               TN_OW_IS("strides", v.strides, v.n),
                               TN_OW_IS("pads", v.pads, 2 * v.n),
                               TN_OW_I("ceil_mode", ceil),
                               max ? TN_OW_IS("dilations", v.dilations, v.n)
                                   : TN_OW_I("count_include_pad", counted),
                               spread && !max ? TN_OW_IS("dilations", v.dilations, v.n) : (tn_ow_attr){0},
                               {0}};
  tn_ov y = tn_ow_node1(w, max ? "MaxPool" : "AveragePool", &x, 1, common, &t);
  if (sum) y = tn_ow_binary(w, "Mul", y, tn_ow_scalar_like(w, y, (double)area));
  tn_ow_out(w, op, 0, tn_ow_cast(w, y, tn_ow_dtype(w, in)));
}

/* MaxPool counts through the whole tensor; within a channel it is the rest by the channel's size. */
void tn_ow_op_argpool(tn_ow *w, tn_op op) {
  tn_ov x = accepted(w, tn_ow_in(w, op, 0)), outs[2];
  window v;
  int64_t size[TN_MAX_RANK];
  tn_ow_shape t[2];
  if (tn_ow_failed(w)) return;
  tn_ow_result_type(w, op, 0, &t[1]);
  t[0] = t[1], t[0].dtype = tn_ow_dtype(w, x);
  window_of(w, op, x, &v);
  fill(w, op, "size", v.n, size);
  if (!v.known) return tn_ow_fail(w, TN_UNSUPPORTED, "MaxPool needs padding that is known");
  tn_dim area = tn_ow_d(w, 1);
  for (uint32_t i = 0; i < v.n; i++) area = tn_ow_dmake(w, TN_DIM_MUL, area, tn_ow_size_of(w, x, i + 2));
  tn_ow_node_typed(w, "MaxPool", &x, 1,
                   TN_OW_ATTRS(TN_OW_IS("kernel_shape", size, v.n), TN_OW_IS("strides", v.strides, v.n),
                               TN_OW_IS("pads", v.pads, 2 * v.n),
                               TN_OW_I("ceil_mode", tn_ow_int(w, op, "ceil")),
                               TN_OW_IS("dilations", v.dilations, v.n)),
                   t, 2, outs);
  tn_ow_out(w, op, 0, tn_ow_binary(w, "Mod", outs[1], tn_ow_dim_scalar(w, area)));
}
