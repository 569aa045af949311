/* ops/slice.c - parts of tensors and tensors made larger: Slice, Split, Pad, CenterCropPad. Bounds may be
 * symbolic; what clamping would do to them is decided where it can be, else the runtime checks that it does
 * nothing. */
#include "frontend/onnx/import.h"

/* ---- Slice
 * -------------------------------------------------------------------------------------------------- */

enum { FAR = 1 << 30 }; /* beyond every axis: "to the end" */

/* An index counted from the front; clamped to [low, size - (low < 0)], as NumPy does. */
static tn_dim bound(tn_ox *x, tn_dim d, tn_dim size, int64_t low) {
  int64_t k, n;
  tn_dim bottom = tn_ox_d(x, low), top = tn_ox_dadd(x, size, bottom), none = tn_ox_d(x, 0),
         one = tn_ox_d(x, 1);
  bool known = tn_ox_dconst(x, size, &n);
  if (tn_ox_dconst(x, d, &k)) {
    if (k > FAR) return top;
    if (k < -FAR) return bottom;
    if (known) {
      k = k < 0 ? k + n : k;
      return tn_ox_d(x, k < low ? low : k > n + low ? n + low : k);
    }
    if (k == 1 || k == -1) tn_ox_require_le(x, one, size); /* else the size would be min(1, size) */
    if (k == 1 && !low) return one;
    if (k == -1) return tn_ox_dsub(x, size, one);
    return k < 0 ? tn_ox_dmax(x, tn_ox_dadd(x, size, d), bottom) : tn_ox_dmin(x, d, top);
  }
  if (!tn_ox_dnonneg(x, d) && tn_ox_dnonneg(x, tn_ox_dsub(x, none, d))) {
    tn_ox_require_le(x, d, tn_ox_d(x, -1));
    d = tn_ox_dadd(x, size, d);
    tn_ox_require_le(x, bottom, d);
    return d;
  }
  tn_ox_require_le(x, none, d);
  if (tn_ox_dequal(x, d, size) || tn_ox_dnonneg(x, tn_ox_dsub(x, d, size))) return top;
  tn_ox_require_le(x, d, size);
  return low ? tn_ox_dmin(x, d, top) : d;
}

static tn_value slice_known(tn_ox *x, tn_value v, uint32_t axis, tn_dim start, tn_dim end, int64_t step) {
  tn_dim size = tn_ox_dim(x, v, axis);
  int64_t low = step < 0 ? -1 : 0;
  start = bound(x, start, size, low);
  end = bound(x, end, size, low);
  if (!start || !end) return 0;
  if (step > 0 && !tn_ox_dnonneg(x, tn_ox_dsub(x, end, start))) end = tn_ox_dmax(x, end, start);
  if (step < 0 && !tn_ox_dnonneg(x, tn_ox_dsub(x, start, end))) end = tn_ox_dmin(x, end, start);
  return tn_ox_slice(x, v, axis, start, end, step);
}

/* bound() of a value that only the run knows. */
static tn_value bound_now(tn_ox *x, tn_value k, tn_value size, int64_t low) {
  tn_value bottom = tn_ox_scalar_int(x, TN_DT_i64, low), none = tn_ox_scalar_int(x, TN_DT_i64, 0);
  k = tn_ox_select(x, tn_ox_compare(x, "lt", k, none), tn_ox_binary(x, "add", k, size), k);
  k = tn_ox_binary(x, "min", k, tn_ox_binary(x, "add", size, bottom));
  return tn_ox_binary(x, "max", k, bottom);
}

/* How many elements, as a symbol; then the elements start, start + step, ... by their indices. */
static tn_value slice_now(tn_ox *x, tn_value v, uint32_t axis, tn_value start, tn_value end, int64_t step) {
  tn_dim n = tn_ox_dim(x, v, axis);
  tn_value size = tn_ox_dim_value(x, n), by = tn_ox_scalar_int(x, TN_DT_i64, step);
  start = bound_now(x, start, size, step < 0 ? -1 : 0);
  end = bound_now(x, end, size, step < 0 ? -1 : 0);
  tn_value count = tn_ox_binary(x, "sub", end, start);
  count = tn_ox_binary(x, "add", count, tn_ox_scalar_int(x, TN_DT_i64, step > 0 ? step - 1 : step + 1));
  count = tn_ox_binary(x, "max", tn_ox_binary(x, "div", count, by), tn_ox_scalar_int(x, TN_DT_i64, 0));
  tn_dim c = tn_ox_let_dim(x, count, n, "slice");
  if (step == 1) {
    tn_value first = tn_ox_binary(x, "min", start, tn_ox_binary(x, "sub", size, count));
    tn_dim from = tn_ox_let_dim(x, first, n, "start"), stop = tn_ox_dadd(x, from, c);
    tn_ox_require_le(x, stop, n);
    return tn_ox_slice(x, v, axis, from, stop, 1);
  }
  tn_value at = tn_ox_binary(x, "mul", tn_ox_iota(x, TN_DT_i64, &c, c ? 1 : 0, 0), by);
  return tn_ox_gather(x, v, tn_ox_binary(x, "add", at, start), axis);
}

static tn_value entry(tn_ox *x, tn_value list, uint32_t i) {
  tn_value one = tn_ox_slice(x, list, 0, tn_ox_d(x, i), tn_ox_d(x, i + 1), 1);
  return tn_ox_cast(x, tn_ox_reshape(x, one, NULL, 0), TN_DT_i64);
}

static tn_dim known_entry(const tn_ox_elems *e, uint32_t i) {
  return e && i < e->count && e->at[i].kind == TN_OX_DIM ? e->at[i].dim : 0;
}

static tn_status slice_inputs(tn_ox *x, tn_ox_node *n) {
  tn_value v = tn_ox_in(x, n, 0), starts = tn_ox_in(x, n, 1), ends = tn_ox_in(x, n, 2),
           axes = tn_ox_in(x, n, 3);
  tn_value by = tn_ox_in(x, n, 4);
  int64_t count, at[TN_MAX_RANK], steps[TN_MAX_RANK];
  uint32_t rank = tn_ox_rank(x, v), seen = 0, k;
  if (!v || !starts || !ends)
    return x->failed ? tn_ox_out(x, n, 0, 0) : tn_ox_fail(x, n, "starts or ends is missing");
  if (!tn_ox_dconst(x, tn_ox_dim(x, starts, 0), &count) || count > rank)
    return tn_ox_fail(x, n, "the number of starts is not known, or above the rank %u", rank);
  for (uint32_t i = 0; i < rank; i++) at[i] = i, steps[i] = 1;
  if (axes && (!tn_ox_known_ints(x, axes, at, rank, &k) || k != count))
    return tn_ox_refuse(x, n, NULL, "the axes are not known at import, or not as many as the starts");
  if (by && (!tn_ox_known_ints(x, by, steps, rank, &k) || k != count))
    return tn_ox_refuse(x, n, NULL, "the steps are not known at import, or not as many as the starts");
  const tn_ox_elems *s = tn_ox_known(x, starts), *e = tn_ox_known(x, ends);
  for (uint32_t i = 0; i < count && !x->failed; i++) {
    uint32_t axis = tn_ox_axis(x, n, at[i], rank);
    if (seen >> axis & 1 || !steps[i])
      return tn_ox_fail(x, n, "axis %u is named twice, or its step is 0", axis);
    seen |= 1u << axis;
    int64_t step = steps[i] > FAR ? FAR : steps[i] < -FAR ? -FAR : steps[i];
    tn_dim from = known_entry(s, i), to = known_entry(e, i);
    v = from && to ? slice_known(x, v, axis, from, to, step)
                   : slice_now(x, v, axis, entry(x, starts, i), entry(x, ends, i), step);
  }
  return tn_ox_out(x, n, 0, v);
}

tn_status tn_ox_lower_slice(tn_ox *x, tn_ox_node *n) {
  if (tn_ox_version(n) >= 10) return slice_inputs(x, n);
  uint32_t ns, ne, na;
  const int64_t *starts = tn_ox_ints(n, "starts", &ns), *ends = tn_ox_ints(n, "ends", &ne);
  const int64_t *axes = tn_ox_ints(n, "axes", &na);
  tn_value v = tn_ox_in(x, n, 0);
  uint32_t rank = tn_ox_rank(x, v);
  if (!starts || !ends || ns != ne || (axes && na != ns) || ns > rank)
    return tn_ox_fail(x, n, "%u starts, %u ends and %u axes for a tensor of rank %u", ns, ne, na, rank);
  for (uint32_t i = 0; i < ns && v; i++) {
    int64_t from = starts[i] < -FAR ? -FAR - 1 : starts[i], to = ends[i] < -FAR ? -FAR - 1 : ends[i];
    v = slice_known(x, v, tn_ox_axis(x, n, axes ? axes[i] : i, rank), tn_ox_d(x, from), tn_ox_d(x, to), 1);
  }
  return tn_ox_out(x, n, 0, v);
}

/* ---- Split
 * -------------------------------------------------------------------------------------------------- */

enum { MAX_PARTS = 1024 };

/* Sizes of the parts: given, or as equal as can be. */
static bool part_sizes(tn_ox *x, tn_ox_node *n, tn_dim size, tn_dim *parts, uint32_t count) {
  uint32_t given = 0;
  const int64_t *list = tn_ox_ints(n, "split", &given);
  tn_value in = tn_ox_in(x, n, 1);
  for (uint32_t i = 0; list && i < given && i < count; i++) parts[i] = tn_ox_d(x, list[i]);
  if (!list && in) { /* as many sizes as there are outputs, whatever the type says */
    tn_dim n_parts = tn_ox_d(x, count);
    in = tn_ox_rank(x, in) == 1 ? tn_ox_reshape(x, in, &n_parts, 1) : in;
    if (!tn_ox_now_dims(x, in, parts, count, &given)) return false;
  }
  if ((list || in) && given != count) return tn_ox_fail(x, n, "%u sizes for %u outputs", given, count), false;
  if (list || in) return true;
  int64_t asked = tn_ox_int(n, "num_outputs", count), k;
  if (asked != count)
    return tn_ox_fail(x, n, "num_outputs is %lld, the node has %u", (long long)asked, count), false;
  bool even = !tn_ox_has_attr(n, "num_outputs");
  tn_dim whole = tn_ox_d(x, count), one = tn_ox_d(x, 1);
  tn_dim part = tn_ox_ddiv(x, even ? size : tn_ox_dadd(x, size, tn_ox_dsub(x, whole, one)), whole);
  if (even && tn_ox_dconst(x, size, &k) && k % count)
    return tn_ox_fail(x, n, "%lld elements in %u equal parts", (long long)k, count), false;
  for (uint32_t i = 0; i < count; i++) parts[i] = part;
  if (!even) parts[count - 1] = tn_ox_dsub(x, size, tn_ox_dmul(x, part, tn_ox_d(x, (int64_t)count - 1)));
  return true;
}

tn_status tn_ox_lower_split(tn_ox *x, tn_ox_node *n) {
  tn_dim parts[MAX_PARTS];
  tn_value v = tn_ox_in(x, n, 0);
  uint32_t count = tn_ox_nout(n), axis = tn_ox_axis(x, n, tn_ox_int(n, "axis", 0), tn_ox_rank(x, v));
  if (!v || x->failed) return tn_ox_out(x, n, 0, 0);
  if (!count || count > MAX_PARTS)
    return tn_ox_refuse(x, n, NULL, "%u outputs; the most is %d", count, MAX_PARTS);
  tn_dim size = tn_ox_dim(x, v, axis), at = tn_ox_d(x, 0);
  if (!part_sizes(x, n, size, parts, count)) return tn_ox_out(x, n, 0, 0);
  tn_dim sum = tn_ox_d(x, 0);
  for (uint32_t i = 0; i < count; i++) sum = tn_ox_dadd(x, sum, parts[i]);
  if (sum != size) tn_ox_same(x, n, sum, size);
  for (uint32_t i = 0; i < count; i++) {
    tn_dim next = tn_ox_dadd(x, at, parts[i]);
    TN_TRY(tn_ox_out(x, n, i, tn_ox_slice(x, v, axis, at, next, 1)));
    at = next;
  }
  return TN_OK;
}

/* ---- Pad
 * ---------------------------------------------------------------------------------------------------- */

typedef struct padding {
  tn_dim low[TN_MAX_RANK], high[TN_MAX_RANK];
  const char *mode;
  tn_value value; /* rank 0 */
} padding;

/* Negative padding cuts off. */
static tn_value crop(tn_ox *x, tn_value v, padding *p) {
  for (uint32_t i = 0; v && i < tn_ox_rank(x, v); i++) {
    int64_t a = 0, b = 0;
    tn_dim none = tn_ox_d(x, 0), size = tn_ox_dim(x, v, i);
    if (tn_ox_dconst(x, p->low[i], &a) && a < 0) p->low[i] = none;
    if (tn_ox_dconst(x, p->high[i], &b) && b < 0) p->high[i] = none;
    if (a >= 0 && b >= 0) continue;
    tn_dim start = tn_ox_d(x, a < 0 ? -a : 0), stop = tn_ox_dadd(x, size, tn_ox_d(x, b < 0 ? b : 0));
    tn_ox_require_le(x, start, stop);
    v = tn_ox_slice(x, v, i, start, stop, 1);
  }
  return v;
}

static tn_value add_side(tn_ox *x, tn_value v, uint32_t axis, tn_dim size, tn_value value, bool before) {
  tn_dim dims[TN_MAX_RANK];
  int64_t k;
  if (tn_ox_dconst(x, size, &k) && !k) return v;
  tn_ox_dims(x, v, dims);
  dims[axis] = size;
  tn_value side = tn_ox_full(x, value, dims, tn_ox_rank(x, v));
  return tn_ox_concat(x, before ? (tn_value[]){side, v} : (tn_value[]){v, side}, 2, axis);
}

static tn_value pad_constant(tn_ox *x, tn_value v, padding *p) {
  int64_t low[TN_MAX_RANK], high[TN_MAX_RANK];
  uint32_t rank = tn_ox_rank(x, v), one;
  double value = 0;
  bool known = tn_ox_known_floats(x, p->value, &value, 1, &one) && value > -9e15 && value < 9e15;
  for (uint32_t i = 0; i < rank; i++)
    known = known && tn_ox_dconst(x, p->low[i], &low[i]) && tn_ox_dconst(x, p->high[i], &high[i]);
  if (known) return tn_ox_pad(x, v, low, high, value);
  for (uint32_t i = 0; i < rank && v; i++) {
    v = add_side(x, v, i, p->low[i], p->value, true);
    v = v ? add_side(x, v, i, p->high[i], p->value, false) : 0;
  }
  return v;
}

/* Each axis is gathered: element i of the result is element i - low of the operand, folded back into it. */
static tn_value pad_axis(tn_ox *x, tn_value v, uint32_t axis, const padding *p) {
  int64_t a, b;
  if (tn_ox_dconst(x, p->low[axis], &a) && tn_ox_dconst(x, p->high[axis], &b) && !a && !b) return v;
  tn_dim size = tn_ox_dim(x, v, axis),
         total = tn_ox_dadd(x, tn_ox_dadd(x, size, p->low[axis]), p->high[axis]);
  if (!total) return 0;
  tn_value at = tn_ox_iota(x, TN_DT_i64, &total, 1, 0), n = tn_ox_dim_value(x, size);
  tn_value one = tn_ox_scalar_int(x, TN_DT_i64, 1), none = tn_ox_scalar_int(x, TN_DT_i64, 0);
  tn_value last = tn_ox_binary(x, "sub", n, one);
  at = tn_ox_binary(x, "sub", at, tn_ox_dim_value(x, p->low[axis]));
  if (!strcmp(p->mode, "edge")) {
    at = tn_ox_binary(x, "max", tn_ox_binary(x, "min", at, last), none);
  } else if (!strcmp(p->mode, "wrap")) {
    at = tn_ox_binary(x, "mod", at, n);
  } else {
    tn_value period = tn_ox_binary(x, "add", last, last);
    at = tn_ox_binary(x, "mod", at, period);
    at = tn_ox_binary(x, "min", at, tn_ox_binary(x, "sub", period, at));
  }
  return tn_ox_gather(x, v, at, axis);
}

static bool read_pads(tn_ox *x, tn_ox_node *n, uint32_t rank, padding *p) {
  tn_dim pads[2 * TN_MAX_RANK];
  int64_t axes[TN_MAX_RANK];
  uint32_t count = 0, naxes = rank;
  const int64_t *list = tn_ox_ints(n, "pads", &count);
  for (uint32_t i = 0; list && i < count && i < 2 * TN_MAX_RANK; i++) pads[i] = tn_ox_d(x, list[i]);
  tn_value in = tn_ox_version(n) >= 11 ? tn_ox_in(x, n, 1) : 0, named = tn_ox_in(x, n, 3);
  if (in && !tn_ox_now_dims(x, in, pads, 2 * TN_MAX_RANK, &count)) return false;
  for (uint32_t i = 0; i < rank; i++) axes[i] = i, p->low[i] = p->high[i] = tn_ox_d(x, 0);
  if (named && !tn_ox_known_ints(x, named, axes, TN_MAX_RANK, &naxes))
    return tn_ox_refuse(x, n, NULL, "the axes are not known at import"), false;
  if ((!list && !in) || count != 2 * naxes || naxes > rank)
    return tn_ox_fail(x, n, "%u pads for %u axes of a tensor of rank %u", count, naxes, rank), false;
  for (uint32_t i = 0; i < naxes && !x->failed; i++) {
    uint32_t axis = tn_ox_axis(x, n, axes[i], rank);
    p->low[axis] = pads[i];
    p->high[axis] = pads[i + naxes];
  }
  return !x->failed;
}

static tn_value pad(tn_ox *x, tn_value v, padding *p) {
  v = crop(x, v, p);
  if (!strcmp(p->mode, "constant")) return v ? pad_constant(x, v, p) : 0;
  for (uint32_t i = 0; v && i < tn_ox_rank(x, v); i++) v = pad_axis(x, v, i, p);
  return v;
}

tn_status tn_ox_lower_pad(tn_ox *x, tn_ox_node *n) {
  static const char *const modes[] = {"constant", "reflect", "edge", "wrap"};
  tn_value v = tn_ox_in(x, n, 0);
  padding p = {.mode = tn_ox_str(n, "mode", "constant")};
  bool known = false;
  for (size_t i = 0; i < TN_COUNT(modes); i++) known |= !strcmp(modes[i], p.mode);
  if (!known) return tn_ox_fail(x, n, "mode '%.40s', wants constant, reflect, edge or wrap", p.mode);
  if (!v || !read_pads(x, n, tn_ox_rank(x, v), &p)) return tn_ox_out(x, n, 0, 0);
  if (tn_ox_version(n) >= 11) p.value = tn_ox_in(x, n, 2);
  if (!p.value)
    p.value = tn_ox_scalar(x, tn_ox_dtype(x, v), tn_ox_version(n) < 11 ? tn_ox_float(n, "value", 0) : 0);
  if (p.value && tn_ox_rank(x, p.value)) p.value = tn_ox_reshape(x, p.value, NULL, 0);
  return tn_ox_out(x, n, 0, pad(x, v, &p));
}

/* ---- CenterCropPad
 * ------------------------------------------------------------------------------------------ */

/* Crops to the smaller of both sizes around the middle, then pads to the one that is wanted. */
static tn_value center(tn_ox *x, tn_value v, uint32_t axis, tn_dim want) {
  tn_dim size = tn_ox_dim(x, v, axis), two = tn_ox_d(x, 2), kept = tn_ox_dmin(x, size, want);
  tn_dim start = tn_ox_ddiv(x, tn_ox_dsub(x, size, kept), two);
  v = tn_ox_slice(x, v, axis, start, tn_ox_dadd(x, start, kept), 1);
  padding p = {.mode = "constant", .value = v ? tn_ox_scalar(x, tn_ox_dtype(x, v), 0) : 0};
  for (uint32_t i = 0; i < tn_ox_rank(x, v); i++) p.low[i] = p.high[i] = tn_ox_d(x, 0);
  tn_dim more = tn_ox_dsub(x, want, kept);
  p.low[axis] = tn_ox_ddiv(x, more, two);
  p.high[axis] = tn_ox_dsub(x, more, p.low[axis]);
  return v ? pad_constant(x, v, &p) : 0;
}

tn_status tn_ox_lower_center_crop_pad(tn_ox *x, tn_ox_node *n) {
  tn_dim want[TN_MAX_RANK];
  tn_value v = tn_ox_in(x, n, 0), shape = tn_ox_in(x, n, 1);
  uint32_t rank = tn_ox_rank(x, v), count = 0, naxes;
  const int64_t *axes = tn_ox_ints(n, "axes", &naxes);
  if (!v || !shape || !tn_ox_now_dims(x, shape, want, TN_MAX_RANK, &count)) return tn_ox_out(x, n, 0, 0);
  if (count != (axes ? naxes : rank))
    return tn_ox_fail(x, n, "%u sizes for %u axes", count, axes ? naxes : rank);
  for (uint32_t i = 0; i < count && v; i++)
    v = center(x, v, tn_ox_axis(x, n, axes ? axes[i] : i, rank), want[i]);
  return tn_ox_out(x, n, 0, v);
}
