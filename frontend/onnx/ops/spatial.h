/* spatial.h - what the lowerings of convolutions, pools and samplers share: the window that a node's
 * attributes describe, and reading a tensor at computed places. */
#ifndef TN_ONNX_SPATIAL_H
#define TN_ONNX_SPATIAL_H
#include "frontend/onnx/lower.h"

#define TN_OX_SPATIAL 3
typedef struct tn_ox_window {
  uint32_t n; /* spatial dims */
  int64_t size[TN_OX_SPATIAL], stride[TN_OX_SPATIAL], dilation[TN_OX_SPATIAL];
  tn_dim low[TN_OX_SPATIAL], high[TN_OX_SPATIAL];
} tn_ox_window;

/* Reads strides, dilations, pads and auto_pad of a node on v [n, c, d...]. `size`: of the window; NULL: the
 * attribute kernel_shape, which the node must have. False: the node has failed. */
bool tn_ox_read_window(tn_ox *x, tn_ox_node *n, tn_value v, const int64_t *size, tn_ox_window *w);
/* The same when w->n and the sizes are there already; v is read for auto_pad only. */
bool tn_ox_read_steps(tn_ox *x, tn_ox_node *n, tn_value v, tn_ox_window *w);
/* An op on v with the window's attributes, and `more` of its own. Sizes go in for pools only. */
tn_value tn_ox_windowed(tn_ox *x, const char *op, const tn_value *in, uint32_t nin, const tn_ox_window *w,
                        bool pool, const tn_named_attr *more, uint32_t nmore);
/* Weights w [o, c, k...] with constant k: those that are not are taken from kernel_shape. */
tn_value tn_ox_kernel(tn_ox *x, tn_ox_node *n, tn_value w, int64_t size[TN_OX_SPATIAL]);
/* conv with the node's attributes; bias may be 0. */
tn_value tn_ox_conv(tn_ox *x, tn_ox_node *n, tn_value v, tn_value w, tn_value bias);
/* [c] as [1, c, 1...] of `rank` dims. */
tn_value tn_ox_channels(tn_ox *x, tn_value v, uint32_t rank);

/* Elements of v [n, c, d...] at integer places of the spatial dims: at[i] are i64 tensors that broadcast to
 * [n, c, out...] (rank dims), every place inside. */
tn_value tn_ox_read_at(tn_ox *x, tn_value v, const tn_value *at, const tn_dim *dims, uint32_t rank);
/* Linear interpolation of v at places in f32 that broadcast to [n, c, out...]; what lies outside is zero. */
tn_value tn_ox_linear_at(tn_ox *x, tn_value v, const tn_value *at, const tn_dim *dims, uint32_t rank);
tn_value tn_ox_clamp(tn_ox *x, tn_value v, tn_value low, tn_value high);

#endif
