/* resize.h - one axis of a Resize: where each of the new elements lies in the old axis, which elements are
 * read for it and with which weights. Axes are resized one after the other, each by a few gathers. */
#ifndef TN_ONNX_RESIZE_H
#define TN_ONNX_RESIZE_H
#include "frontend/onnx/ops/spatial.h"

enum { TN_RESIZE_NEAREST, TN_RESIZE_LINEAR, TN_RESIZE_CUBIC };

typedef struct tn_ox_resize {
  int mode;
  const char *coordinate, *nearest;
  double cubic_a, extrapolation;
  bool exclude_outside, antialias, crop; /* crop: tf_crop_and_resize */
} tn_ox_resize;

typedef struct tn_ox_resize_axis {
  uint32_t axis;
  tn_dim in, out;
  bool known;  /* scale (and start and stop if it is a crop) are numbers, in and out too */
  bool scaled; /* the scale was given: places are of a length in * scale, which need not be whole */
  double scale, start, stop;
  int64_t in_size, out_size;
  tn_value scale_value, start_value, stop_value; /* f64 scalars, unless known */
} tn_ox_resize_axis;

/* What is read for each new element: taps indices (i64) and weights, each [out]; or, of many taps, one of
 * each [out, taps]. Nearest: one index, no weight. outside: bool [out], or 0. */
#define TN_OX_FEW_TAPS 4
typedef struct tn_ox_taps {
  uint32_t count;
  tn_value index[TN_OX_FEW_TAPS], weight[TN_OX_FEW_TAPS], outside;
} tn_ox_taps;
/* resize_axis.c; false: the node has failed. */
bool tn_ox_resize_taps(tn_ox *x, tn_ox_node *n, const tn_ox_resize *r, const tn_ox_resize_axis *a, tn_dtype t,
                       tn_ox_taps *out);
/* How many elements linear or cubic interpolation reads: more when antialiasing makes it smaller. */
int64_t tn_ox_resize_support(const tn_ox_resize *r, double scale);

#endif
