/* fuse_rope.c - rotary position embedding in the ops that exporters write: x * cos + rotate(x) * sin, or both
 * halves by themselves, with pairs (i, i + f) or (2i, 2i + 1), on [b, h, s, d] or [b, s, h, d]. The angles
 * are positions times frequencies, spread by views on the way. The rope op reads [b, s, h, d]; transposes
 * around it cancel with those of the exporter. A rotation whose angles are of another kind is reported as a
 * near miss. */
#include "passes/passes.h"
#include "passes/rw.h"
#include <math.h>

typedef struct table {
  tn_value positions, inv_freq; /* as they are spelled; integers, and floats with one axis */
  double factor;
  bool doubled; /* 2f features: each angle twice */
  bool pairs;   /* ... next to each other */
} table;

typedef struct rope {
  tn_module *m;
  tn_op root;
  tn_value x, cos, sin;
  bool halves; /* the tables have f features, not 2f */
  bool pairs;
  table c, s;
  tn_op blocker;
  const char *why;
} rope;

static tn_value operand(rope *r, tn_op op, uint32_t i) { return tn_ir_op_operand(r->m, op, i); }
static tn_value result(rope *r, tn_op op) { return tn_ir_op_result(r->m, op, 0); }

static bool miss(rope *r, tn_op blocker, const char *why) {
  r->blocker = blocker;
  r->why = why;
  return false;
}

static bool is_last_axis(rope *r, tn_op op, tn_value of) {
  int64_t rank = tn_rw_type_info(r->m, of).rank, axis = tn_rw_int(r->m, op, "axis");
  return axis == -1 || axis == rank - 1;
}

/* ---- tables ------------------------------------------------------------------------------------ */
/* Dims without those of size 1. */
static uint32_t squeezed(rope *r, tn_value v, tn_dim dims[TN_MAX_RANK]) {
  tn_type_info t = tn_rw_type_info(r->m, v);
  uint32_t n = 0;
  for (uint32_t i = 0; i < t.rank; i++)
    if (!tn_rw_dim_is(r->m, t.dims[i], 1)) dims[n++] = t.dims[i];
  return n;
}

static bool only_ones_differ(rope *r, tn_value a, tn_value b) {
  tn_dim x[TN_MAX_RANK], y[TN_MAX_RANK];
  uint32_t n = squeezed(r, a, x);
  return n == squeezed(r, b, y) && (!n || !memcmp(x, y, n * sizeof *x));
}

/* The op behind views that move, add or repeat whole axes. */
static tn_op behind_views(rope *r, tn_value *v) {
  for (;;) {
    tn_op op = tn_rw_def(r->m, *v);
    bool view = tn_rw_is(r->m, op, TN_OPC_broadcast) || tn_rw_is(r->m, op, TN_OPC_transpose) ||
                (tn_rw_is(r->m, op, TN_OPC_reshape) && only_ones_differ(r, *v, operand(r, op, 0)));
    if (!view) return op;
    *v = operand(r, op, 0);
  }
}

/* The value that a concat over the last axis repeats once; 0: none. */
static tn_value repeated(rope *r, tn_op op) {
  bool twice = tn_rw_is(r->m, op, TN_OPC_concat) && tn_ir_op_noperands(r->m, op) == 2 &&
               operand(r, op, 0) == operand(r, op, 1) && is_last_axis(r, op, result(r, op));
  return twice ? operand(r, op, 0) : 0;
}

/* [.., f] spread to [.., 2f] with each element twice in a row; gives the [.., f, 1] in between, or 0. */
static tn_value interleaved(rope *r, tn_op op) {
  if (!tn_rw_is(r->m, op, TN_OPC_reshape)) return 0;
  tn_value wide = operand(r, op, 0);
  tn_op spread = tn_rw_def(r->m, wide);
  tn_type_info t = tn_rw_type_info(r->m, wide);
  if (t.rank < 2 || !tn_rw_dim_is(r->m, t.dims[t.rank - 1], 2)) return 0;
  tn_value one = tn_rw_is(r->m, spread, TN_OPC_broadcast) ? operand(r, spread, 0) : repeated(r, spread);
  tn_type_info u = tn_rw_type_info(r->m, one);
  return one && u.rank == t.rank && tn_rw_dim_is(r->m, u.dims[u.rank - 1], 1) ? one : 0;
}

/* One step from a table towards its angles, through all that does not change them; false: *v is no such. */
static bool peel_table(rope *r, tn_value *v, table *t) {
  tn_op op = behind_views(r, v);
  double c;
  tn_value next = repeated(r, op);
  if (!next && (next = interleaved(r, op))) t->pairs = true;
  if (next) {
    if (t->doubled) return false;
    *v = next;
    return t->doubled = true;
  }
  if (!tn_rw_is(r->m, op, TN_OPC_mul)) return false;
  for (uint32_t i = 0; i < 2; i++)
    if (tn_rw_splat(r->m, operand(r, op, i), &c)) return t->factor *= c, *v = operand(r, op, 1 - i), true;
  return false;
}

static bool is_cast_of_integer(rope *r, tn_op op) {
  if (!tn_rw_is(r->m, op, TN_OPC_cast)) return false;
  const tn_dtype_info *t = tn_ir_dtype_info(tn_rw_type_info(r->m, operand(r, op, 0)).dtype);
  return t && (t->cls == TN_CLASS_INT || t->cls == TN_CLASS_UINT);
}

/* Angles: positions times frequencies. */
static bool read_angles(rope *r, tn_value v, table *t) {
  tn_op op = behind_views(r, &v);
  if (!tn_rw_is(r->m, op, TN_OPC_mul))
    return miss(r, op, "the angles are no product of positions and frequencies");
  for (uint32_t i = 0; i < 2; i++) {
    tn_value pos = operand(r, op, i), freq = operand(r, op, 1 - i);
    tn_op cast = behind_views(r, &pos);
    if (!is_cast_of_integer(r, cast)) continue;
    tn_dim dims[TN_MAX_RANK];
    (void)behind_views(r, &freq);
    if (squeezed(r, freq, dims) != 1 || tn_rw_type_info(r->m, freq).dtype != TN_DT_f32)
      return miss(r, op, "the frequencies of the rotation are no f32 vector");
    t->positions = operand(r, cast, 0);
    t->inv_freq = freq;
    return true;
  }
  return miss(r, op, "the positions of the rotation are no integers");
}

static bool read_table(rope *r, tn_value v, uint32_t opcode, table *t) {
  *t = (table){.factor = 1};
  while (peel_table(r, &v, t)) continue;
  tn_op op = tn_rw_def(r->m, v);
  if (!tn_rw_is(r->m, op, opcode)) return miss(r, op, "a factor of the rotation is neither sine nor cosine");
  v = operand(r, op, 0);
  double factor = t->factor;
  while (!t->doubled && peel_table(r, &v, t) && t->doubled) continue;
  if (t->factor != factor) return miss(r, op, "the angles are scaled");
  return read_angles(r, v, t);
}

/* ---- the rotation ------------------------------------------------------------------------------ */
/* v is x[.., start : stop : step] of some x (set if 0), by slice or as a part of a split. */
static bool part_of(rope *r, tn_value v, int64_t start, int64_t step) {
  tn_op op = tn_rw_def(r->m, v);
  tn_value x = op ? operand(r, op, 0) : 0;
  tn_type_info t = tn_rw_type_info(r->m, v), whole = tn_rw_type_info(r->m, x);
  int64_t half, all, first;
  if (!x || (r->x && r->x != x) || t.rank != 4 || whole.rank != 4 || !is_last_axis(r, op, x)) return false;
  if (!tn_ir_dim_is_const(r->m, t.dims[3], &half) || !tn_ir_dim_is_const(r->m, whole.dims[3], &all) ||
      2 * half != all)
    return false;
  if (tn_rw_is(r->m, op, TN_OPC_slice)) {
    if (!tn_ir_dim_is_const(r->m, tn_rw_attr(r->m, op, "start").u.dim, &first)) return false;
    if (first != (step == 1 ? start * half : start) || tn_rw_int(r->m, op, "step") != step) return false;
  } else if (!tn_rw_is(r->m, op, TN_OPC_split) || step != 1 || tn_rw_result_index(r->m, v) != (uint32_t)start)
    return false;
  r->x = x;
  return true;
}

/* Two values joined over the last axis, one behind the other or (pairs) element by element. */
static bool joined(rope *r, tn_op op, tn_value parts[2], bool *pairs) {
  *pairs = tn_rw_is(r->m, op, TN_OPC_reshape);
  if (*pairs) op = tn_rw_def(r->m, operand(r, op, 0));
  if (!tn_rw_is(r->m, op, TN_OPC_concat) || tn_ir_op_noperands(r->m, op) != 2 ||
      !is_last_axis(r, op, result(r, op)))
    return false;
  for (uint32_t i = 0; i < 2; i++) {
    parts[i] = operand(r, op, i);
    if (!*pairs) continue;
    tn_op column = tn_rw_def_as(r->m, parts[i], TN_OPC_reshape);
    tn_type_info t = tn_rw_type_info(r->m, parts[i]);
    if (!column || t.rank != 5 || !tn_rw_dim_is(r->m, t.dims[4], 1)) return false;
    parts[i] = operand(r, column, 0);
  }
  return true;
}

/* concat(-x2, x1), or (-x1, x0, -x3, x2, ...). */
static bool is_rotated(rope *r, tn_value v) {
  tn_value parts[2];
  bool pairs;
  tn_op op = tn_rw_def(r->m, v);
  if (!op || !joined(r, op, parts, &pairs)) return false;
  tn_op neg = tn_rw_def_as(r->m, parts[0], TN_OPC_neg);
  r->x = 0;
  r->pairs = pairs;
  return neg && part_of(r, operand(r, neg, 0), 1, pairs ? 2 : 1) && part_of(r, parts[1], 0, pairs ? 2 : 1);
}

/* x * cos + rotated(x) * sin */
static bool match_whole(rope *r, tn_op add) {
  for (uint32_t i = 0; i < 2; i++) {
    tn_op turned = tn_rw_def_as(r->m, operand(r, add, i), TN_OPC_mul),
          plain = tn_rw_def_as(r->m, operand(r, add, 1 - i), TN_OPC_mul);
    if (!turned || !plain) return false;
    for (uint32_t k = 0; k < 2; k++) {
      if (!is_rotated(r, operand(r, turned, k))) continue;
      uint32_t at = operand(r, plain, 0) == r->x ? 0 : 1;
      if (operand(r, plain, at) != r->x) continue;
      r->cos = operand(r, plain, 1 - at);
      r->sin = operand(r, turned, 1 - k);
      return true;
    }
  }
  return false;
}

/* v = a * cos + or - b * sin with a and b parts of x; the tables are set by the first call. */
static bool is_turned_half(rope *r, tn_value v, uint32_t opcode, int64_t first, int64_t second,
                           int64_t step) {
  tn_op sum = tn_rw_def_as(r->m, v, opcode);
  if (!sum) return false;
  tn_op c = tn_rw_def_as(r->m, operand(r, sum, 0), TN_OPC_mul),
        s = tn_rw_def_as(r->m, operand(r, sum, 1), TN_OPC_mul);
  if (!c || !s) return false;
  for (uint32_t i = 0; i < 2; i++)
    for (uint32_t k = 0; k < 2; k++) {
      tn_value cos = operand(r, c, 1 - i), sin = operand(r, s, 1 - k);
      if ((r->cos && (r->cos != cos || r->sin != sin)) || !part_of(r, operand(r, c, i), first, step) ||
          !part_of(r, operand(r, s, k), second, step))
        continue;
      r->cos = cos;
      r->sin = sin;
      return true;
    }
  return false;
}

/* join(x1 * cos - x2 * sin, x2 * cos + x1 * sin) */
static bool match_halves(rope *r, tn_op op) {
  tn_value parts[2];
  if (!joined(r, op, parts, &r->pairs)) return false;
  int64_t step = r->pairs ? 2 : 1;
  r->x = r->cos = r->sin = 0;
  if (!is_turned_half(r, parts[0], TN_OPC_sub, 0, 1, step)) return false;
  if (is_turned_half(r, parts[1], TN_OPC_add, 1, 0, step)) return r->halves = true;
  tn_value cos = r->cos, sin = r->sin; /* x1 * sin + x2 * cos */
  r->cos = sin;
  r->sin = cos;
  r->halves = is_turned_half(r, parts[1], TN_OPC_add, 0, 1, step);
  r->cos = cos;
  r->sin = sin;
  return r->halves;
}

/* ---- rewriting --------------------------------------------------------------------------------- */
/* Which axis of x the positions run along: where the tables have more than one element. 0: not to be told. */
static uint32_t token_axis(rope *r) {
  tn_type_info t = tn_rw_type_info(r->m, r->cos), x = tn_rw_type_info(r->m, r->x);
  for (uint32_t axis = 1; axis <= 2; axis++) {
    uint32_t back = 4 - axis, other = 4 - (3 - axis);
    bool counts = t.rank >= back && !tn_rw_dim_is(r->m, t.dims[t.rank - back], 1);
    bool still = t.rank < other || tn_rw_dim_is(r->m, t.dims[t.rank - other], 1);
    if (counts && still && tn_dim_known_eq(r->m, t.dims[t.rank - back], x.dims[axis])) return axis;
  }
  return 0;
}

static tn_value reshaped(rope *r, tn_value v, const tn_dim *dims, uint32_t n, tn_loc loc) {
  tn_named_attr attr = {"shape", {.kind = TN_ATTR_DIMS, .count = n, .u.dims = dims}};
  return tn_rw_build(r->m, tn_rw_before(r->root), TN_OPC_reshape, &v, 1, &attr, 1, loc);
}

static tn_value moved(rope *r, tn_value v, uint32_t axis, tn_loc loc) {
  static const int64_t perm[4] = {0, 2, 1, 3};
  tn_named_attr attr = {"perm", {.kind = TN_ATTR_INTS, .count = 4, .u.ints = perm}};
  if (axis == 1 || !v) return v;
  return tn_rw_build(r->m, tn_rw_before(r->root), TN_OPC_transpose, &v, 1, &attr, 1, loc);
}

/* Positions as [s] or [b, s]. */
static tn_value position_operand(rope *r, uint32_t axis, tn_loc loc) {
  tn_type_info x = tn_rw_type_info(r->m, r->x);
  tn_dim dims[TN_MAX_RANK];
  uint32_t n = squeezed(r, r->c.positions, dims);
  tn_dim want[2] = {x.dims[0], x.dims[axis]};
  if (n != 1 && n != 2) return 0;
  for (uint32_t i = 0; i < n; i++)
    if (!tn_dim_known_eq(r->m, dims[i], want[2 - n + i])) return 0;
  return reshaped(r, r->c.positions, dims, n, loc);
}

static bool tables_fit(rope *r) {
  tn_dim f[TN_MAX_RANK];
  tn_type_info x = tn_rw_type_info(r->m, r->x);
  int64_t half, all;
  if (!read_table(r, r->cos, TN_OPC_cos, &r->c) || !read_table(r, r->sin, TN_OPC_sin, &r->s)) return false;
  if (r->c.positions != r->s.positions || r->c.inv_freq != r->s.inv_freq || r->c.factor != r->s.factor)
    return miss(r, r->root, "sine and cosine are of different angles");
  if (r->c.doubled == r->halves || r->s.doubled == r->halves || (!r->halves && r->c.pairs != r->pairs) ||
      (!r->halves && r->s.pairs != r->pairs))
    return miss(r, r->root, "the angles stand in another order than the features");
  squeezed(r, r->c.inv_freq, f);
  if (!tn_ir_dim_is_const(r->m, f[0], &half) || !tn_ir_dim_is_const(r->m, x.dims[3], &all) || all != 2 * half)
    return miss(r, r->root, "there are not half as many frequencies as features");
  return true;
}

static tn_status rewrite(tn_pass_ctx *c, rope *r) {
  uint32_t axis = token_axis(r);
  tn_loc loc = tn_rw_fuse_locs(r->m, "fuse-rope", tn_ir_op_loc(r->m, r->root),
                               tn_ir_op_loc(r->m, tn_rw_def(r->m, r->cos)));
  tn_value pos = axis ? position_operand(r, axis, loc) : 0, old = result(r, r->root);
  if (!pos) {
    tn_pass_near_miss(c, "rope", loc, r->root, "the positions do not line up with the tokens");
    return TN_OK;
  }
  tn_dim f[TN_MAX_RANK];
  squeezed(r, r->c.inv_freq, f);
  tn_value in[3] = {moved(r, r->x, axis, loc), pos, reshaped(r, r->c.inv_freq, f, 1, loc)};
  tn_named_attr attrs[2] = {{"interleaved", {.kind = TN_ATTR_BOOL, .u.i = r->pairs}},
                            {"factor", {.kind = TN_ATTR_FLOAT, .u.f = r->c.factor}}};
  tn_op_desc d = {"rope", in, 3, 2, attrs, NULL, 0, loc};
  tn_op op = in[0] && in[2] ? tn_rw_try_create(r->m, tn_rw_before(r->root), &d) : 0;
  tn_value out = op ? moved(r, result(r, op), axis, loc) : 0;
  if (!out || tn_rw_type(r->m, out) != tn_rw_type(r->m, old)) {
    tn_pass_near_miss(c, "rope", loc, r->root, "the rotation does not fit the features");
    return TN_OK;
  }
  TN_TRY(tn_ir_value_replace(r->m, old, out));
  tn_pass_fusion(c, "rope", loc, NULL);
  return TN_OK;
}

static bool begins(rope *r) {
  switch (tn_ir_opcode(r->m, r->root)) {
  case TN_OPC_add: return tn_rw_type_info(r->m, result(r, r->root)).rank == 4 && match_whole(r, r->root);
  case TN_OPC_concat:
  case TN_OPC_reshape: return tn_rw_type_info(r->m, result(r, r->root)).rank == 4 && match_halves(r, r->root);
  default: return false;
  }
}

tn_status tn_pass_fuse_rope(tn_pass_ctx *c, tn_func f) {
  for (tn_op op = tn_ir_first_op(c->m, f, 0); op; op = tn_ir_next_op(c->m, op)) {
    rope r = {.m = c->m, .root = op};
    if (!begins(&r)) continue;
    if (tables_fit(&r))
      TN_TRY(rewrite(c, &r));
    else
      tn_pass_near_miss(c, "rope", tn_ir_op_loc(c->m, op), r.blocker, r.why);
  }
  (void)tn_func_dce(c->m, f);
  return TN_OK;
}
