/* conv.c - Conv, ConvTranspose, ConvInteger, QLinearConv, DeformConv, Col2Im. */
#include "frontend/onnx/ops/spatial.h"
#include "frontend/onnx/ops/transformer.h"

/* Groups must divide channels and outputs: as sizes of one group. */
static bool same_channels(tn_ox *x, tn_ox_node *n, tn_value v, tn_dim per_group, int64_t groups) {
  if (groups < 1) return tn_ox_fail(x, n, "group is %lld, wants at least 1", (long long)groups) == TN_OK;
  return tn_ox_same(x, n, tn_ox_dim(x, v, 1), tn_ox_dmul(x, per_group, tn_ox_d(x, groups))) != 0;
}

tn_value tn_ox_conv(tn_ox *x, tn_ox_node *n, tn_value v, tn_value w, tn_value bias) {
  int64_t size[TN_OX_SPATIAL], groups = tn_ox_int(n, "group", 1);
  tn_ox_window win;
  w = tn_ox_kernel(x, n, w, size);
  if (!w || !v || !tn_ox_read_window(x, n, v, size, &win)) return 0;
  if (tn_ox_rank(x, v) != tn_ox_rank(x, w)) {
    tn_ox_fail(x, n, "the input has rank %u, the weights have %u", tn_ox_rank(x, v), tn_ox_rank(x, w));
    return 0;
  }
  if (!same_channels(x, n, v, tn_ox_dim(x, w, 1), groups)) return 0;
  if (bias) tn_ox_same(x, n, tn_ox_dim(x, bias, 0), tn_ox_dim(x, w, 0));
  tn_named_attr more = TN_OX_INT("groups", groups);
  return tn_ox_windowed(x, "conv", (tn_value[]){v, w, bias}, bias ? 3 : 2, &win, false, &more, 1);
}

tn_status tn_ox_lower_conv(tn_ox *x, tn_ox_node *n) {
  return tn_ox_out(x, n, 0, tn_ox_conv(x, n, tn_ox_in(x, n, 0), tn_ox_in(x, n, 1), tn_ox_in(x, n, 2)));
}

/* ---- ConvTranspose ---- */
/* What output_shape or auto_pad cuts off: all of it is `all`, at least 0. */
static void share_padding(tn_ox *x, tn_dim full, tn_dim out, bool more_before, tn_dim *low, tn_dim *high) {
  tn_dim all = tn_ox_dmax(x, tn_ox_dsub(x, full, out), tn_ox_d(x, 0));
  tn_dim half = tn_ox_ddiv(x, all, tn_ox_d(x, 2));
  *low = more_before ? tn_ox_dsub(x, all, half) : half;
  *high = tn_ox_dsub(x, tn_ox_dsub(x, full, *low), out);
}

static bool transposed_window(tn_ox *x, tn_ox_node *n, tn_value v, tn_ox_window *w) {
  uint32_t nextra, nshape;
  const int64_t *extra = tn_ox_ints(n, "output_padding", &nextra),
                *shape = tn_ox_ints(n, "output_shape", &nshape);
  const char *mode = tn_ox_str(n, "auto_pad", "NOTSET");
  bool same = !strncmp(mode, "SAME_", 5), upper = !strcmp(mode, "SAME_UPPER");
  if ((extra && nextra != w->n) || (shape && nshape != w->n && nshape != w->n + 2))
    return tn_ox_fail(x, n, "output_padding has %u and output_shape %u entries, wants %u", nextra, nshape,
                      w->n) == TN_OK;
  for (uint32_t i = 0; i < w->n; i++) {
    tn_dim in = tn_ox_dim(x, v, 2 + i), s = tn_ox_d(x, w->stride[i]);
    int64_t covers = (w->size[i] - 1) * w->dilation[i] + 1, add = extra ? extra[i] : 0;
    tn_dim full = tn_ox_dadd(x, tn_ox_dmul(x, tn_ox_dsub(x, in, tn_ox_d(x, 1)), s), tn_ox_d(x, covers));
    if (shape) {
      full = tn_ox_dadd(x, full, tn_ox_d(x, add));
      share_padding(x, full, tn_ox_d(x, shape[nshape - w->n + i]), upper, &w->low[i], &w->high[i]);
      w->high[i] = tn_ox_dsub(x, w->high[i], tn_ox_d(x, add));
    } else if (same) {
      share_padding(x, full, tn_ox_dmul(x, in, s), !upper, &w->low[i], &w->high[i]);
    } else {
      w->high[i] = tn_ox_dsub(x, w->high[i], tn_ox_d(x, add));
    }
  }
  return true;
}

tn_status tn_ox_lower_conv_transpose(tn_ox *x, tn_ox_node *n) {
  int64_t size[TN_OX_SPATIAL], groups = tn_ox_int(n, "group", 1);
  tn_ox_window win;
  tn_value v = tn_ox_in(x, n, 0), w = tn_ox_kernel(x, n, tn_ox_in(x, n, 1), size), bias = tn_ox_in(x, n, 2);
  if (!v || !w || !tn_ox_read_window(x, n, v, size, &win) || !transposed_window(x, n, v, &win))
    return tn_ox_out(x, n, 0, 0);
  if (tn_ox_rank(x, v) != tn_ox_rank(x, w))
    return tn_ox_fail(x, n, "the input has rank %u, the weights have %u", tn_ox_rank(x, v), tn_ox_rank(x, w));
  if (groups < 1) return tn_ox_fail(x, n, "group is %lld, wants at least 1", (long long)groups);
  tn_ox_same(x, n, tn_ox_dim(x, v, 1), tn_ox_dim(x, w, 0));
  if (bias) tn_ox_same(x, n, tn_ox_dim(x, bias, 0), tn_ox_dmul(x, tn_ox_dim(x, w, 1), tn_ox_d(x, groups)));
  tn_named_attr more = TN_OX_INT("groups", groups);
  tn_value in[] = {v, w, bias};
  return tn_ox_out(x, n, 0, tn_ox_windowed(x, "conv_transpose", in, bias ? 3 : 2, &win, false, &more, 1));
}

/* ---- integers ----
 * Centred codes are at most 255 large, so sums of 256 products are exact in f32. */
#define EXACT 256

/* Channels [first, first + count) of each group of v [n, groups * c, ...]. */
static tn_value group_channels(tn_ox *x, tn_value v, int64_t groups, tn_dim per_group, int64_t first,
                               int64_t count) {
  tn_dim dims[TN_MAX_RANK], split[TN_MAX_RANK];
  uint32_t rank = tn_ox_rank(x, v);
  tn_ox_dims(x, v, dims);
  memcpy(split + 2, dims + 1, (rank - 1) * sizeof *dims);
  split[0] = dims[0];
  split[1] = tn_ox_d(x, groups);
  split[2] = per_group;
  v = tn_ox_reshape(x, v, split, rank + 1);
  v = tn_ox_slice(x, v, 2, tn_ox_d(x, first), tn_ox_d(x, first + count), 1);
  dims[1] = tn_ox_d(x, groups * count);
  return tn_ox_reshape(x, v, dims, rank);
}

/* The product of centred codes in f32, as i32. */
static tn_value exact_conv(tn_ox *x, tn_ox_node *n, tn_value v, tn_value w) {
  int64_t size[TN_OX_SPATIAL], taps = 1, channels, groups = tn_ox_int(n, "group", 1);
  w = tn_ox_kernel(x, n, w, size);
  if (!w || !v) return 0;
  for (uint32_t i = 2; i < tn_ox_rank(x, w); i++) taps *= size[i - 2];
  tn_dim per_group = tn_ox_dim(x, w, 1);
  if (taps > EXACT || !tn_ox_dconst(x, per_group, &channels)) {
    tn_ox_refuse(x, n, NULL, "an integer convolution with %lld taps, or of channels only known at run time",
                 (long long)taps);
    return 0;
  }
  int64_t step = EXACT / taps;
  if (channels <= step) return tn_ox_cast(x, tn_ox_conv(x, n, v, w, 0), TN_DT_i32);
  if (!same_channels(x, n, v, per_group, groups)) return 0;
  tn_value sum = 0;
  for (int64_t first = 0; first < channels; first += step) {
    int64_t count = channels - first < step ? channels - first : step;
    tn_value part = group_channels(x, v, groups, per_group, first, count);
    tn_value weights = tn_ox_slice(x, w, 1, tn_ox_d(x, first), tn_ox_d(x, first + count), 1);
    part = tn_ox_cast(x, tn_ox_conv(x, n, part, weights, 0), TN_DT_i32);
    sum = sum ? tn_ox_binary(x, "add", sum, part) : part;
  }
  return sum;
}

tn_status tn_ox_lower_conv_integer(tn_ox *x, tn_ox_node *n) {
  tn_value v = tn_ox_centred(x, n, tn_ox_in(x, n, 0), tn_ox_in(x, n, 2), 1);
  tn_value w = tn_ox_centred(x, n, tn_ox_in(x, n, 1), tn_ox_in(x, n, 3), 0);
  return tn_ox_out(x, n, 0, exact_conv(x, n, v, w));
}

tn_status tn_ox_lower_qlinear_conv(tn_ox *x, tn_ox_node *n) {
  tn_value in[9];
  for (uint32_t i = 0; i < 9; i++) in[i] = tn_ox_in(x, n, i);
  tn_value v = tn_ox_centred(x, n, in[0], in[2], 1), w = tn_ox_centred(x, n, in[3], in[5], 0);
  tn_value sum = exact_conv(x, n, v, w);
  if (!sum || !in[1] || !in[4] || !in[6] || !in[7]) return tn_ox_out(x, n, 0, 0);
  uint32_t rank = tn_ox_rank(x, sum);
  if (in[8]) sum = tn_ox_binary(x, "add", sum, tn_ox_channels(x, in[8], rank));
  tn_value scale = tn_ox_as_scalar(x, in[4]);
  if (tn_ox_rank(x, scale)) scale = tn_ox_channels(x, scale, rank);
  scale = tn_ox_binary(x, "mul", tn_ox_as_scalar(x, in[1]), scale);
  scale = tn_ox_binary(x, "div", scale, tn_ox_as_scalar(x, in[6]));
  tn_value y = tn_ox_binary(x, "mul", tn_ox_cast(x, sum, TN_DT_f32), tn_ox_cast(x, scale, TN_DT_f32));
  return tn_ox_out(x, n, 0, tn_ox_quantize(x, y, 0, tn_ox_as_scalar(x, in[7]), tn_ox_dtype(x, in[7])));
}

/* ---- DeformConv ----
 * Every tap reads its own place: the places are sampled to [n, c * taps, oh, ow], and a product with the
 * weights follows. Offset groups are taken as images of their own. */
static tn_value deform_places(tn_ox *x, tn_value offsets, const tn_ox_window *w, uint32_t axis,
                              const tn_dim *out) {
  /* offsets [n, taps, oh, ow]; the place is i * stride + k * dilation - low + offset */
  tn_dim taps[] = {tn_ox_d(x, 1), tn_ox_d(x, w->size[0]), tn_ox_d(x, w->size[1]), tn_ox_d(x, 1),
                   tn_ox_d(x, 1)};
  tn_dim flat[] = {tn_ox_d(x, 1), tn_ox_d(x, w->size[0] * w->size[1]), tn_ox_d(x, 1), tn_ox_d(x, 1)};
  tn_dim grid[] = {tn_ox_d(x, 1), tn_ox_d(x, 1), out[0], out[1]};
  tn_value k = tn_ox_reshape(x, tn_ox_iota(x, TN_DT_f32, taps, 5, 1 + axis), flat, 4);
  tn_value i = tn_ox_iota(x, TN_DT_f32, grid, 4, 2 + axis);
  i = tn_ox_binary(x, "mul", i, tn_ox_scalar(x, TN_DT_f32, (double)w->stride[axis]));
  k = tn_ox_binary(x, "mul", k, tn_ox_scalar(x, TN_DT_f32, (double)w->dilation[axis]));
  tn_value low = tn_ox_cast(x, tn_ox_dim_value(x, w->low[axis]), TN_DT_f32);
  tn_value at = tn_ox_binary(x, "sub", tn_ox_binary(x, "add", i, k), low);
  return tn_ox_binary(x, "add", at, tn_ox_cast(x, offsets, TN_DT_f32));
}

/* The sampled input [n * offset groups, c, taps, oh, ow]. */
static tn_value deform_samples(tn_ox *x, tn_ox_node *n, tn_value v, tn_value offset, tn_value mask,
                               const tn_ox_window *w, int64_t groups) {
  int64_t taps = w->size[0] * w->size[1];
  tn_dim d[4], o[4], images, channels = 0;
  int64_t c;
  tn_ox_dims(x, v, d);
  tn_ox_dims(x, offset, o);
  images = tn_ox_dmul(x, d[0], tn_ox_d(x, groups));
  channels = groups == 1 ? d[1] : tn_ox_dconst(x, d[1], &c) && c % groups == 0 ? tn_ox_d(x, c / groups) : 0;
  if (!channels) {
    tn_ox_refuse(x, n, NULL, "channels are no known multiple of %lld offset groups", (long long)groups);
    return 0;
  }
  v = tn_ox_reshape(x, v, (tn_dim[]){images, channels, d[2], d[3]}, 4);
  tn_value at[2],
      pairs = tn_ox_reshape(x, offset, (tn_dim[]){images, tn_ox_d(x, taps), tn_ox_d(x, 2), o[2], o[3]}, 5);
  for (uint32_t i = 0; i < 2; i++) {
    tn_value one = tn_ox_squeeze(x, tn_ox_slice(x, pairs, 2, tn_ox_d(x, i), tn_ox_d(x, i + 1), 1), 2);
    at[i] = tn_ox_unsqueeze(x, deform_places(x, one, w, i, o + 2), 1);
  }
  tn_dim out[] = {images, channels, tn_ox_d(x, taps), o[2], o[3]};
  tn_value samples = tn_ox_linear_at(x, v, at, out, 5);
  if (!mask) return samples;
  mask = tn_ox_reshape(x, mask, (tn_dim[]){images, tn_ox_d(x, 1), tn_ox_d(x, taps), o[2], o[3]}, 5);
  return tn_ox_binary(x, "mul", samples, mask);
}

tn_status tn_ox_lower_deform_conv(tn_ox *x, tn_ox_node *n) {
  tn_value v = tn_ox_in(x, n, 0), w = tn_ox_in(x, n, 1), offset = tn_ox_in(x, n, 2), bias = tn_ox_in(x, n, 3);
  tn_value mask = tn_ox_in(x, n, 4);
  int64_t size[TN_OX_SPATIAL], groups = tn_ox_int(n, "group", 1), parts = tn_ox_int(n, "offset_group", 1),
                               outputs;
  tn_ox_window win;
  w = tn_ox_kernel(x, n, w, size);
  if (!v || !w || !offset || !tn_ox_read_window(x, n, v, size, &win)) return tn_ox_out(x, n, 0, 0);
  if (win.n != 2 || tn_ox_rank(x, w) != 4 || tn_ox_rank(x, offset) != 4)
    return tn_ox_refuse(x, n, NULL, "a deformable convolution over %u spatial dims, wants 2", win.n);
  if (parts < 1 || groups < 1)
    return tn_ox_fail(x, n, "group is %lld and offset_group %lld", (long long)groups, (long long)parts);
  int64_t taps = win.size[0] * win.size[1];
  tn_ox_same(x, n, tn_ox_dim(x, offset, 1), tn_ox_d(x, 2 * taps * parts));
  if (!same_channels(x, n, v, tn_ox_dim(x, w, 1), groups)) return tn_ox_out(x, n, 0, 0);
  tn_dim all = tn_ox_dim(x, w, 0), o = all;
  if (groups > 1 && tn_ox_dconst(x, all, &outputs) && outputs % groups == 0)
    o = tn_ox_d(x, outputs / groups);
  else if (groups > 1)
    return tn_ox_refuse(x, n, NULL, "outputs are no known multiple of %lld groups", (long long)groups);
  tn_value cols = deform_samples(x, n, v, offset, mask, &win, parts);
  if (!cols) return tn_ox_out(x, n, 0, 0);
  tn_dim images = tn_ox_dim(x, v, 0), g = tn_ox_d(x, groups), out[4];
  tn_dim depth = tn_ox_dmul(x, tn_ox_dim(x, w, 1), tn_ox_d(x, taps));
  tn_dim oh = tn_ox_dim(x, offset, 2), ow = tn_ox_dim(x, offset, 3), area = tn_ox_dmul(x, oh, ow);
  cols = tn_ox_reshape(x, cols, (tn_dim[]){images, g, depth, area}, 4);
  tn_value weights = tn_ox_reshape(x, w, (tn_dim[]){tn_ox_d(x, 1), g, o, depth}, 4);
  weights = tn_ox_broadcast(x, weights, (tn_dim[]){images, g, o, depth}, 4);
  tn_value y = tn_ox_matmul(x, weights, cols, false, false);
  memcpy(out, (tn_dim[]){images, all, oh, ow}, sizeof out);
  y = tn_ox_reshape(x, y, out, 4);
  return tn_ox_out(x, n, 0, bias ? tn_ox_binary(x, "add", y, tn_ox_channels(x, bias, 4)) : y);
}

/* ---- Col2Im ----
 * The sum over taps of what falls on a place: a transposed convolution of one-hot weights, group by channel.
 */
static tn_value one_hot_taps(tn_ox *x, tn_value like, tn_dim channels, const tn_ox_window *w) {
  /* weights [channels * taps, 1, k...]: row t of each channel is 1 at tap t */
  tn_dim dims[2 + TN_OX_SPATIAL] = {channels};
  tn_dim square[2], all = tn_ox_d(x, 1);
  for (uint32_t i = 0; i < w->n; i++) all = tn_ox_dmul(x, all, tn_ox_d(x, w->size[i]));
  square[0] = square[1] = all;
  tn_value row = tn_ox_iota(x, TN_DT_i64, square, 2, 0), column = tn_ox_iota(x, TN_DT_i64, square, 2, 1);
  tn_value eye = tn_ox_cast(x, tn_ox_compare(x, "eq", row, column), tn_ox_dtype(x, like));
  tn_dim many[] = {channels, all, all};
  eye = tn_ox_broadcast(x, tn_ox_unsqueeze(x, eye, 0), many, 3);
  dims[0] = tn_ox_dmul(x, channels, all);
  dims[1] = tn_ox_d(x, 1);
  for (uint32_t i = 0; i < w->n; i++) dims[2 + i] = tn_ox_d(x, w->size[i]);
  return tn_ox_reshape(x, eye, dims, 2 + w->n);
}

/* The blocks of an image: how many along each dim, and where the last one ends. */
static void place_blocks(tn_ox *x, const tn_dim *image, tn_ox_window *w, tn_dim *counts) {
  for (uint32_t i = 0; i < w->n; i++) {
    tn_dim covers = tn_ox_d(x, (w->size[i] - 1) * w->dilation[i] + 1), stride = tn_ox_d(x, w->stride[i]);
    tn_dim wide = tn_ox_dadd(x, tn_ox_dadd(x, image[i], w->low[i]), w->high[i]);
    tn_dim last = tn_ox_ddiv(x, tn_ox_dsub(x, wide, covers), stride);
    counts[i] = tn_ox_dadd(x, last, tn_ox_d(x, 1));
    /* which may be before the image does */
    tn_dim end = tn_ox_dadd(x, tn_ox_dmul(x, last, stride), covers);
    w->high[i] = tn_ox_dsub(x, tn_ox_dsub(x, end, w->low[i]), image[i]);
  }
}

tn_status tn_ox_lower_col2im(tn_ox *x, tn_ox_node *n) {
  tn_value v = tn_ox_in(x, n, 0), shape = tn_ox_in(x, n, 1);
  tn_dim image[TN_OX_SPATIAL], dims[2 + TN_OX_SPATIAL];
  int64_t taps = 1, rows;
  uint32_t count;
  tn_ox_window w = {0};
  if (!v || !shape) return tn_ox_out(x, n, 0, 0);
  if (!tn_ox_known_ints(x, tn_ox_in(x, n, 2), w.size, TN_OX_SPATIAL, &w.n))
    return tn_ox_refuse(x, n, NULL, "block_shape is not constant, or has more than %d entries",
                        TN_OX_SPATIAL);
  if (!tn_ox_now_dims(x, shape, image, TN_OX_SPATIAL, &count)) return tn_ox_out(x, n, 0, 0);
  if (count != w.n || !count)
    return tn_ox_fail(x, n, "image_shape has %u entries, block_shape %u", count, w.n);
  for (uint32_t i = 0; i < w.n; i++)
    if (w.size[i] < 1 || __builtin_mul_overflow(taps, w.size[i], &taps) || taps > INT32_MAX)
      return tn_ox_fail(x, n, "block_shape[%u] is %lld", i, (long long)w.size[i]);
  if (!tn_ox_read_steps(x, n, v, &w)) return tn_ox_out(x, n, 0, 0);
  if (!tn_ox_dconst(x, tn_ox_dim(x, v, 1), &rows) || rows % taps)
    return tn_ox_refuse(x, n, NULL, "rows are no known multiple of %lld elements of a block",
                        (long long)taps);
  place_blocks(x, image, &w, dims + 2);
  dims[0] = tn_ox_dim(x, v, 0);
  dims[1] = tn_ox_d(x, rows);
  v = tn_ox_reshape(x, v, dims, 2 + w.n);
  tn_value in[] = {v, one_hot_taps(x, v, tn_ox_d(x, rows / taps), &w)};
  tn_named_attr more = TN_OX_INT("groups", rows / taps);
  return tn_ox_out(x, n, 0, tn_ox_windowed(x, "conv_transpose", in, 2, &w, false, &more, 1));
}
