/* roi.c - RoiAlign and MaxRoiPool: every region of interest, a box in one of the images, is cut into bins. */
#include "frontend/onnx/ops/spatial.h"
#include <math.h>

static tn_value num(tn_ox *x, double k) { return tn_ox_scalar(x, TN_DT_f32, k); }
static tn_value op(tn_ox *x, const char *name, tn_value a, tn_value b) { return tn_ox_binary(x, name, a, b); }

/* Column k of the boxes, [r], in f32. */
static tn_value column(tn_ox *x, tn_value rois, int64_t k) {
  tn_value c = tn_ox_slice(x, rois, 1, tn_ox_d(x, k), tn_ox_d(x, k + 1), 1);
  return tn_ox_cast(x, tn_ox_squeeze(x, c, 1), TN_DT_f32);
}
/* A vector, or matrix, with its dims at `axes` of `rank` dims. */
static tn_value at_axes(tn_ox *x, tn_value v, uint32_t rank, uint32_t first, uint32_t second) {
  tn_dim dims[TN_MAX_RANK];
  if (!v) return 0;
  for (uint32_t i = 0; i < rank; i++) dims[i] = tn_ox_d(x, 1);
  dims[first] = tn_ox_dim(x, v, 0);
  if (tn_ox_rank(x, v) == 2) dims[second] = tn_ox_dim(x, v, 1);
  return tn_ox_reshape(x, v, dims, rank);
}

/* ---- RoiAlign ----
 * A bin is sampled at points of a grid, each interpolated linearly. How many points depends on the box unless
 * sampling_ratio says it: then the grid is as fine as the largest box wants, and the points behind a box's
 * own last one do not count. Result dims: region, channel, bin and point along y, bin and point along x. */
enum { REGION, CHANNEL, BIN_Y, POINT_Y, BIN_X, POINT_X, RANK };

typedef struct side {
  tn_value low, high;    /* elements around each point, i64 */
  tn_value part, inside; /* how far the point is from `low`; whether it counts at all */
  tn_value there;        /* the box has this point; 0: all have */
  tn_value points;       /* f32 [r] */
  tn_dim most;
} side;

static side sample_side(tn_ox *x, tn_ox_node *n, tn_value start, tn_value stop, tn_dim size, int64_t bins,
                        bool y) {
  side s = {0};
  uint32_t bin_axis = y ? BIN_Y : BIN_X, point_axis = y ? POINT_Y : POINT_X;
  bool half = tn_ox_version(n) >= 16 &&
              strcmp(tn_ox_str(n, "coordinate_transformation_mode", "half_pixel"), "output_half_pixel");
  int64_t ratio = tn_ox_int(n, "sampling_ratio", 0);
  double scale = tn_ox_float(n, "spatial_scale", 1), shift = half ? 0.5 : 0;
  start = op(x, "sub", op(x, "mul", start, num(x, scale)), num(x, shift));
  stop = op(x, "sub", op(x, "mul", stop, num(x, scale)), num(x, shift));
  tn_value extent = op(x, "sub", stop, start);
  if (!half) extent = op(x, "max", extent, num(x, 1)); /* malformed boxes become 1 x 1 */
  tn_value bin = op(x, "div", extent, num(x, (double)bins));
  if (ratio > 0) {
    s.points = num(x, (double)ratio);
    s.most = tn_ox_d(x, ratio);
  } else {
    s.points = op(x, "max", tn_ox_unary(x, "ceil", bin), num(x, 0));
    tn_value most = tn_ox_reduce(x, "reduce_max", s.points, NULL, 0, false);
    most = op(x, "max", most, num(x, 0)); /* of no boxes */
    s.most = tn_ox_let_dim(x, tn_ox_cast(x, most, TN_DT_i64), 0, "points");
  }
  tn_dim nbins = tn_ox_d(x, bins);
  tn_value b = at_axes(x, tn_ox_iota(x, TN_DT_f32, &nbins, 1, 0), RANK, bin_axis, 0);
  tn_value p = at_axes(x, tn_ox_iota(x, TN_DT_f32, &s.most, 1, 0), RANK, point_axis, 0);
  if (ratio <= 0)
    s.points = at_axes(x, s.points, RANK, REGION, 0), s.there = tn_ox_compare(x, "lt", p, s.points);
  bin = at_axes(x, bin, RANK, REGION, 0);
  tn_value within = op(x, "div", op(x, "mul", op(x, "add", p, num(x, 0.5)), bin), s.points);
  tn_value at = op(x, "add", op(x, "add", at_axes(x, start, RANK, REGION, 0), op(x, "mul", b, bin)), within);
  tn_value length = tn_ox_cast(x, tn_ox_dim_value(x, size), TN_DT_f32),
           last = op(x, "sub", length, num(x, 1));
  s.inside = op(x, "and", tn_ox_compare(x, "ge", at, num(x, -1)), tn_ox_compare(x, "le", at, length));
  at = tn_ox_clamp(x, at, num(x, 0), last);
  tn_value low = tn_ox_unary(x, "floor", at);
  s.part = op(x, "sub", at, low);
  s.low = tn_ox_cast(x, low, TN_DT_i64);
  s.high = tn_ox_cast(x, op(x, "min", op(x, "add", low, num(x, 1)), last), TN_DT_i64);
  return s;
}

/* The four elements around every point, each times its weight: their sum or the largest. */
static tn_value points(tn_ox *x, tn_value v, tn_value images, const side *y, const side *w,
                       const tn_dim *dims, bool max) {
  tn_value one = num(x, 1), r = 0,
           size[] = {tn_ox_dim_value(x, tn_ox_dim(x, v, 1)), tn_ox_dim_value(x, tn_ox_dim(x, v, 2)),
                     tn_ox_dim_value(x, tn_ox_dim(x, v, 3))};
  tn_dim channels[RANK], all = tn_ox_d(x, 1);
  for (uint32_t i = 0; i < RANK; i++) channels[i] = i == CHANNEL ? dims[CHANNEL] : tn_ox_d(x, 1);
  for (uint32_t i = 0; i < 4; i++) all = tn_ox_dmul(x, all, tn_ox_dim(x, v, i));
  tn_value plane = op(x, "mul", at_axes(x, tn_ox_cast(x, images, TN_DT_i64), RANK, REGION, 0), size[0]);
  plane = op(x, "add", plane, tn_ox_iota(x, TN_DT_i64, channels, RANK, CHANNEL));
  tn_value line = tn_ox_reshape(x, v, &all, 1);
  for (int corner = 0; corner < 4; corner++) {
    tn_value wy = corner & 2 ? y->part : op(x, "sub", one, y->part);
    tn_value wx = corner & 1 ? w->part : op(x, "sub", one, w->part);
    tn_value at = op(x, "add", op(x, "mul", plane, size[1]), corner & 2 ? y->high : y->low);
    at = op(x, "add", op(x, "mul", at, size[2]), corner & 1 ? w->high : w->low);
    tn_value e = op(x, "mul", tn_ox_cast(x, tn_ox_gather(x, line, at, 0), TN_DT_f32), op(x, "mul", wy, wx));
    r = r ? op(x, max ? "max" : "add", r, e) : e;
  }
  return tn_ox_select(x, op(x, "and", y->inside, w->inside), r, num(x, 0));
}

tn_status tn_ox_lower_roi_align(tn_ox *x, tn_ox_node *n) {
  tn_value v = tn_ox_in(x, n, 0), rois = tn_ox_in(x, n, 1), images = tn_ox_in(x, n, 2);
  const char *mode = tn_ox_str(n, "mode", "avg");
  int64_t bins_y = tn_ox_int(n, "output_height", 1), bins_x = tn_ox_int(n, "output_width", 1);
  bool max = !strcmp(mode, "max");
  if (!v || !rois || !images) return tn_ox_out(x, n, 0, 0);
  if (!max && strcmp(mode, "avg")) return tn_ox_fail(x, n, "mode is '%s', wants avg or max", mode);
  if (tn_ox_rank(x, v) != 4 || tn_ox_rank(x, rois) != 2 || tn_ox_rank(x, images) != 1)
    return tn_ox_fail(x, n, "ranks are %u, %u and %u, wants 4, 2 and 1", tn_ox_rank(x, v),
                      tn_ox_rank(x, rois), tn_ox_rank(x, images));
  if (bins_y < 1 || bins_x < 1)
    return tn_ox_fail(x, n, "the output is %lld x %lld", (long long)bins_y, (long long)bins_x);
  tn_dim r = tn_ox_same(x, n, tn_ox_dim(x, rois, 0), tn_ox_dim(x, images, 0));
  tn_ox_same(x, n, tn_ox_dim(x, rois, 1), tn_ox_d(x, 4));
  side w = sample_side(x, n, column(x, rois, 0), column(x, rois, 2), tn_ox_dim(x, v, 3), bins_x, false);
  side y = sample_side(x, n, column(x, rois, 1), column(x, rois, 3), tn_ox_dim(x, v, 2), bins_y, true);
  tn_dim dims[] = {r, tn_ox_dim(x, v, 1), tn_ox_d(x, bins_y), y.most, tn_ox_d(x, bins_x), w.most};
  tn_value all = points(x, v, images, &y, &w, dims, max);
  int64_t axes[] = {POINT_Y, POINT_X};
  tn_value there = y.there && w.there ? op(x, "and", y.there, w.there) : 0, result;
  if (there) all = tn_ox_select(x, there, all, num(x, max ? -INFINITY : 0));
  result = tn_ox_reduce(x, max ? "reduce_max" : "reduce_sum", all, axes, 2, false);
  tn_value count = op(x, "max", op(x, "mul", y.points, w.points), num(x, 1));
  if (tn_ox_rank(x, count)) /* [r, 1, 1, 1, 1, 1] */
    count = tn_ox_reshape(x, count, (tn_dim[]){r, tn_ox_d(x, 1), tn_ox_d(x, 1), tn_ox_d(x, 1)}, 4);
  if (max && there) /* a box without points gives 0 */
    result = tn_ox_select(x, tn_ox_compare(x, "eq", result, num(x, -INFINITY)), num(x, 0), result);
  if (!max) result = op(x, "div", result, count);
  return tn_ox_out(x, n, 0, tn_ox_cast(x, result, tn_ox_dtype(x, v)));
}

/* ---- MaxRoiPool ----
 * Bins have whole elements, which are known only when the boxes are: so every bin looks at the whole axis and
 * leaves out what is not its own, first along x, then along y. */
/* bool [r, bins, size]: is the element in the box's bin? */
static tn_value bin_holds(tn_ox *x, tn_value start, tn_value stop, double scale, int64_t bins, tn_dim size) {
  tn_value half = num(x, 0.5), one = num(x, 1);
  /* std::round: halves away from zero; places are not negative */
  start = tn_ox_unary(x, "floor", op(x, "add", op(x, "mul", start, num(x, scale)), half));
  stop = tn_ox_unary(x, "floor", op(x, "add", op(x, "mul", stop, num(x, scale)), half));
  tn_value extent = op(x, "max", op(x, "add", op(x, "sub", stop, start), one), one);
  tn_value bin = at_axes(x, op(x, "div", extent, num(x, (double)bins)), 3, 0, 0);
  tn_dim nbins = tn_ox_d(x, bins);
  tn_value b = at_axes(x, tn_ox_iota(x, TN_DT_f32, &nbins, 1, 0), 3, 1, 0);
  tn_value e = at_axes(x, tn_ox_iota(x, TN_DT_f32, &size, 1, 0), 3, 2, 0);
  start = at_axes(x, start, 3, 0, 0);
  tn_value from = op(x, "add", tn_ox_unary(x, "floor", op(x, "mul", b, bin)), start);
  tn_value to = op(x, "add", tn_ox_unary(x, "ceil", op(x, "mul", op(x, "add", b, one), bin)), start);
  return op(x, "and", tn_ox_compare(x, "ge", e, from), tn_ox_compare(x, "lt", e, to));
}

tn_status tn_ox_lower_max_roi_pool(tn_ox *x, tn_ox_node *n) {
  tn_value v = tn_ox_in(x, n, 0), rois = tn_ox_in(x, n, 1);
  uint32_t count;
  const int64_t *bins = tn_ox_ints(n, "pooled_shape", &count);
  double scale = tn_ox_float(n, "spatial_scale", 1);
  if (!v || !rois) return tn_ox_out(x, n, 0, 0);
  if (!bins || count != 2 || bins[0] < 1 || bins[1] < 1)
    return tn_ox_fail(x, n, "pooled_shape has %u entries, wants 2 of at least 1", count);
  if (tn_ox_rank(x, v) != 4 || tn_ox_rank(x, rois) != 2)
    return tn_ox_fail(x, n, "ranks are %u and %u, wants 4 and 2", tn_ox_rank(x, v), tn_ox_rank(x, rois));
  tn_ox_same(x, n, tn_ox_dim(x, rois, 1), tn_ox_d(x, 5));
  tn_dim d[4], r = tn_ox_dim(x, rois, 0), one = tn_ox_d(x, 1), by = tn_ox_d(x, bins[0]),
               bx = tn_ox_d(x, bins[1]);
  tn_ox_dims(x, v, d);
  tn_value images = tn_ox_cast(x, column(x, rois, 0), TN_DT_i64), low = num(x, -INFINITY);
  tn_value y = bin_holds(x, column(x, rois, 2), column(x, rois, 4), scale, bins[0], d[2]);
  tn_value w = bin_holds(x, column(x, rois, 1), column(x, rois, 3), scale, bins[1], d[3]);
  tn_value all = tn_ox_cast(x, tn_ox_gather(x, v, images, 0), TN_DT_f32); /* [r, c, h, w] */
  all = tn_ox_unsqueeze(x, all, 3);
  all = tn_ox_select(x, tn_ox_reshape(x, w, (tn_dim[]){r, one, one, bx, d[3]}, 5), all, low);
  all = tn_ox_reduce(x, "reduce_max", all, (int64_t[]){4}, 1, false); /* [r, c, h, bx] */
  all = tn_ox_unsqueeze(x, all, 2);
  all = tn_ox_select(x, tn_ox_reshape(x, y, (tn_dim[]){r, one, by, d[2], one}, 5), all, low);
  all = tn_ox_reduce(x, "reduce_max", all, (int64_t[]){3}, 1, false);
  all = tn_ox_select(x, tn_ox_compare(x, "eq", all, low), num(x, 0), all); /* bins without elements */
  return tn_ox_out(x, n, 0, tn_ox_cast(x, all, tn_ox_dtype(x, v)));
}
