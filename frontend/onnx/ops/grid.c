/* grid.c - GridSample and AffineGrid. A grid holds for every element of the result the place to read, in
 * [-1, 1] along each spatial axis, the last axis first. */
#include "frontend/onnx/ops/spatial.h"

enum { ZEROS, BORDER, REFLECTION };

typedef struct sampler {
  tn_ox *x;
  tn_value v;
  int padding;
  bool corners; /* align_corners */
  uint32_t spatial;
  tn_dim dims[TN_MAX_RANK];                                              /* of the result */
  tn_value last[TN_OX_SPATIAL], low[TN_OX_SPATIAL], high[TN_OX_SPATIAL]; /* f32: size - 1, and the borders */
} sampler;

static tn_value num(tn_ox *x, double k) { return tn_ox_scalar(x, TN_DT_f32, k); }
static tn_value op(tn_ox *x, const char *name, tn_value a, tn_value b) { return tn_ox_binary(x, name, a, b); }

/* Thrown back at the borders until it lies between them. */
static tn_value reflected(sampler *s, tn_value at, uint32_t i) {
  tn_ox *x = s->x;
  tn_value range = op(x, "sub", s->high[i], s->low[i]), twice = op(x, "add", range, range);
  tn_value way = op(x, "mod", tn_ox_unary(x, "abs", op(x, "sub", at, s->low[i])), twice);
  way = op(x, "min", way, op(x, "sub", twice, way));
  return op(x, "add", way, s->low[i]);
}

/* The place along axis i in elements. */
static tn_value place(sampler *s, tn_value grid, uint32_t i, bool nearest, bool cubic) {
  tn_ox *x = s->x;
  int64_t axis = (int64_t)s->spatial + 1, k = (int64_t)s->spatial - 1 - (int64_t)i;
  tn_value g = tn_ox_slice(x, grid, axis, tn_ox_d(x, k), tn_ox_d(x, k + 1), 1), one = num(x, 1);
  g = tn_ox_cast(x, tn_ox_unsqueeze(x, tn_ox_squeeze(x, g, axis), 1), TN_DT_f32);
  tn_value size = op(x, "add", s->last[i], one), at;
  if (s->corners)
    at = op(x, "mul", op(x, "mul", op(x, "add", g, one), num(x, 0.5)), s->last[i]);
  else
    at = op(x, "mul", op(x, "sub", op(x, "mul", op(x, "add", g, one), size), one), num(x, 0.5));
  if (cubic) return at; /* only the elements around it are brought back, as in PyTorch */
  if (nearest) at = tn_ox_unary(x, "round", at);
  if (s->padding == BORDER) { /* what lies within half an element of the border stays there */
    tn_value out = op(x, "or", tn_ox_compare(x, "lt", at, s->low[i]), tn_ox_compare(x, "gt", at, s->high[i]));
    return tn_ox_select(x, out, tn_ox_clamp(x, at, num(x, 0), s->last[i]), at);
  }
  return s->padding == REFLECTION ? reflected(s, at, i) : at;
}

/* An element's number along axis i as one that exists; *inside: whether it does, of padding with zeros. */
static tn_value element(sampler *s, tn_value at, uint32_t i, tn_value *inside) {
  tn_ox *x = s->x;
  if (s->padding == REFLECTION) at = tn_ox_unary(x, "floor", reflected(s, at, i));
  tn_value there = tn_ox_clamp(x, at, num(x, 0), s->last[i]);
  if (s->padding == ZEROS) {
    tn_value in = tn_ox_compare(x, "eq", at, there);
    *inside = *inside ? op(x, "and", *inside, in) : in;
  }
  return tn_ox_cast(x, there, TN_DT_i64);
}

static tn_value read_element(sampler *s, const tn_value *at) {
  tn_value there[TN_OX_SPATIAL], inside = 0;
  for (uint32_t i = 0; i < s->spatial; i++) there[i] = element(s, at[i], i, &inside);
  tn_value r = tn_ox_read_at(s->x, s->v, there, s->dims, s->spatial + 2);
  return inside ? tn_ox_select(s->x, inside, r, tn_ox_scalar_like(s->x, s->v, 0)) : r;
}

/* Keys' cubic convolution with a = -0.75: weight of the element `step` from the one below the place. */
static tn_value cubic_weight(tn_ox *x, tn_value part, int step) {
  const double a = -0.75;
  tn_value d = step < 0 ? op(x, "add", part, num(x, 1)) : step == 0 ? part : op(x, "sub", num(x, step), part);
  if (step == 0 || step == 1) {
    tn_value p = op(x, "sub", op(x, "mul", num(x, a + 2), d), num(x, a + 3));
    return op(x, "add", op(x, "mul", op(x, "mul", p, d), d), num(x, 1));
  }
  tn_value p = op(x, "sub", op(x, "mul", num(x, a), d), num(x, 5 * a));
  p = op(x, "add", op(x, "mul", p, d), num(x, 8 * a));
  return op(x, "sub", op(x, "mul", p, d), num(x, 4 * a));
}

/* Sum over axes from i on of weight times element; at[] holds the elements of the axes before. */
static tn_value weighted(sampler *s, const tn_value *below, const tn_value *part, bool cubic, uint32_t i,
                         tn_value *at) {
  tn_ox *x = s->x;
  tn_value sum = 0;
  if (i >= s->spatial || i >= TN_OX_SPATIAL) return tn_ox_cast(x, read_element(s, at), TN_DT_f32);
  for (int step = cubic ? -1 : 0; step <= (cubic ? 2 : 1); step++) {
    tn_value w = cubic ? cubic_weight(x, part[i], step) : step ? part[i] : op(x, "sub", num(x, 1), part[i]);
    at[i] = step ? op(x, "add", below[i], num(x, step)) : below[i];
    tn_value one = op(x, "mul", w, weighted(s, below, part, cubic, i + 1, at));
    sum = sum ? op(x, "add", sum, one) : one;
  }
  return sum;
}

static tn_value sample(sampler *s, tn_value grid, bool nearest, bool cubic) {
  tn_value at[TN_OX_SPATIAL], below[TN_OX_SPATIAL], part[TN_OX_SPATIAL];
  for (uint32_t i = 0; i < s->spatial; i++) at[i] = place(s, grid, i, nearest, cubic);
  if (nearest) return read_element(s, at);
  for (uint32_t i = 0; i < s->spatial; i++) {
    below[i] = tn_ox_unary(s->x, "floor", at[i]);
    part[i] = op(s->x, "sub", at[i], below[i]);
  }
  return tn_ox_cast(s->x, weighted(s, below, part, cubic, 0, at), tn_ox_dtype(s->x, s->v));
}

static void read_sizes(sampler *s) {
  tn_ox *x = s->x;
  for (uint32_t i = 0; i < s->spatial; i++) {
    tn_value size = tn_ox_cast(x, tn_ox_dim_value(x, tn_ox_dim(x, s->v, 2 + i)), TN_DT_f32);
    s->last[i] = op(x, "sub", size, num(x, 1));
    s->low[i] = num(x, s->corners ? 0 : -0.5);
    s->high[i] = s->corners ? s->last[i] : op(x, "sub", size, num(x, 0.5));
  }
}

tn_status tn_ox_lower_grid_sample(tn_ox *x, tn_ox_node *n) {
  tn_value v = tn_ox_in(x, n, 0), grid = tn_ox_in(x, n, 1);
  const char *mode = tn_ox_str(n, "mode", tn_ox_version(n) < 20 ? "bilinear" : "linear");
  const char *padding = tn_ox_str(n, "padding_mode", "zeros");
  if (!v || !grid) return tn_ox_out(x, n, 0, 0);
  uint32_t rank = tn_ox_rank(x, v);
  if (rank < 3 || rank > 2 + TN_OX_SPATIAL || tn_ox_rank(x, grid) != rank)
    return tn_ox_refuse(x, n, NULL, "the input has rank %u and the grid %u, wants the same, 3 to %d", rank,
                        tn_ox_rank(x, grid), 2 + TN_OX_SPATIAL);
  sampler s = {.x = x, .v = v, .spatial = rank - 2, .corners = tn_ox_int(n, "align_corners", 0)};
  bool nearest = !strcmp(mode, "nearest"), cubic = !strcmp(mode, "cubic") || !strcmp(mode, "bicubic");
  if (!nearest && !cubic && strcmp(mode, "linear") && strcmp(mode, "bilinear"))
    return tn_ox_fail(x, n, "mode is '%s', wants nearest, linear or cubic", mode);
  if (!strcmp(padding, "border"))
    s.padding = BORDER;
  else if (!strcmp(padding, "reflection"))
    s.padding = REFLECTION;
  else if (strcmp(padding, "zeros"))
    return tn_ox_fail(x, n, "padding_mode is '%s', wants zeros, border or reflection", padding);
  tn_ox_same(x, n, tn_ox_dim(x, grid, -1), tn_ox_d(x, s.spatial));
  s.dims[0] = tn_ox_same(x, n, tn_ox_dim(x, v, 0), tn_ox_dim(x, grid, 0));
  s.dims[1] = tn_ox_dim(x, v, 1);
  for (uint32_t i = 0; i < s.spatial; i++) s.dims[2 + i] = tn_ox_dim(x, grid, 1 + i);
  read_sizes(&s);
  return tn_ox_out(x, n, 0, sample(&s, grid, nearest, cubic));
}

/* ---- AffineGrid ---- */
/* -1 .. 1 along an axis of the result: of the centres of its elements, or from end to end. */
static tn_value axis_places(tn_ox *x, tn_dim size, bool corners) {
  tn_value i = tn_ox_iota(x, TN_DT_f32, &size, 1, 0), d = tn_ox_cast(x, tn_ox_dim_value(x, size), TN_DT_f32);
  tn_value step = op(x, "div", num(x, 2), corners ? op(x, "sub", d, num(x, 1)) : d);
  tn_value first = op(x, "sub", corners ? num(x, 0) : op(x, "mul", step, num(x, 0.5)), num(x, 1));
  return op(x, "add", op(x, "mul", i, step), first);
}

tn_status tn_ox_lower_affine_grid(tn_ox *x, tn_ox_node *n) {
  tn_value theta = tn_ox_in(x, n, 0), size = tn_ox_in(x, n, 1);
  tn_dim dims[5], out[5];
  uint32_t count;
  bool corners = tn_ox_int(n, "align_corners", 0);
  if (!theta || !size || !tn_ox_now_dims(x, size, dims, 5, &count)) return tn_ox_out(x, n, 0, 0);
  if ((count != 4 && count != 5) || tn_ox_rank(x, theta) != 3)
    return tn_ox_fail(x, n, "size has %u entries and theta rank %u, wants 4 or 5, and 3", count,
                      tn_ox_rank(x, theta));
  uint32_t spatial = count - 2;
  tn_dtype type = tn_ox_dtype(x, theta);
  tn_ox_same(x, n, tn_ox_dim(x, theta, 0), dims[0]);
  tn_ox_same(x, n, tn_ox_dim(x, theta, 1), tn_ox_d(x, spatial));
  tn_ox_same(x, n, tn_ox_dim(x, theta, 2), tn_ox_d(x, spatial + 1));
  /* row r of the result: the sum over axes k (the last one first) of theta[r, k] place_k, plus theta[r, last]
   */
  theta = tn_ox_cast(x, theta, TN_DT_f32);
  out[0] = tn_ox_dim(x, theta, 0);
  memcpy(out + 1, dims + 2, spatial * sizeof *dims);
  out[1 + spatial] = tn_ox_d(x, spatial);
  tn_value sum = 0;
  for (uint32_t k = 0; k <= spatial; k++) {
    tn_dim shape[5], column[5];
    for (uint32_t i = 0; i < spatial + 2; i++) shape[i] = column[i] = tn_ox_d(x, 1);
    column[0] = out[0];
    column[1 + spatial] = out[1 + spatial];
    tn_value t = tn_ox_slice(x, theta, 2, tn_ox_d(x, k), tn_ox_d(x, k + 1), 1);
    t = tn_ox_reshape(x, t, column, spatial + 2);
    if (k < spatial) {
      tn_dim d = dims[1 + spatial - k];
      shape[spatial - k] = d;
      t = op(x, "mul", t, tn_ox_reshape(x, axis_places(x, d, corners), shape, spatial + 2));
    }
    sum = sum ? op(x, "add", sum, t) : t;
  }
  return tn_ox_out(x, n, 0, tn_ox_cast(x, tn_ox_broadcast(x, sum, out, spatial + 2), type));
}
