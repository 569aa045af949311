/* guards.c - the conditions that rules name. A guard sees a complete match; it may also compute an attribute
 * that the replacement uses. Plugins' rules may name the same guards. */
#include "passes/match.h"
#include <math.h>
#include <stdlib.h>

/* ?x is no constant: else two rules that order constants would undo each other. */
static bool x_not_constant(tn_match *x) {
  return !tn_rw_def_as(x->m, tn_match_value(x, "x"), TN_OPC_constant);
}

/* The same of floats: quotients of integers are cut off. */
static bool x_float_not_constant(tn_match *x) {
  const tn_dtype_info *t = tn_ir_dtype_info(tn_rw_type_info(x->m, tn_match_value(x, "x")).dtype);
  return t && t->cls == TN_CLASS_FLOAT && x_not_constant(x);
}

/* %c is a float power of two, so that a product with its reciprocal is the exact quotient; ?x is no constant,
 * or the reciprocal itself would match. */
static bool c_power_of_two(tn_match *x) {
  tn_value c = tn_match_value(x, "c");
  const tn_dtype_info *t = tn_ir_dtype_info(tn_rw_type_info(x->m, c).dtype);
  double v;
  int exponent;
  if (!x_not_constant(x)) return false;
  if (!t || t->cls != TN_CLASS_FLOAT || !tn_rw_splat(x->m, c, &v) || !isfinite(v) || v == 0) return false;
  return fabs(frexp(v, &exponent)) == 0.5 && abs(exponent) < 14; /* the reciprocal is normal in f16, too */
}

static bool identity_perm(tn_match *x) {
  const tn_attr *p = tn_match_attr(x, "p");
  for (uint32_t i = 0; i < p->count; i++)
    if (p->u.ints[i] != (int64_t)i) return false;
  return true;
}

/* ?r = the permutation of ?q (inner), then ?p (outer). */
static bool compose_perms(tn_match *x) {
  const tn_attr *p = tn_match_attr(x, "p"), *q = tn_match_attr(x, "q");
  int64_t *r = tn_arena_alloc(x->arena, TN_MAX_RANK * sizeof *r);
  if (!r || p->count != q->count || p->count > TN_MAX_RANK) return false;
  for (uint32_t i = 0; i < p->count; i++) r[i] = q->u.ints[p->u.ints[i]];
  return tn_match_set_attr(x, "r", (tn_attr){TN_ATTR_INTS, p->count, {.ints = r}});
}

/* ?p keeps the order of all dims of ?x that are not 1: the elements stay where they are. */
static bool moves_only_ones(tn_match *x) {
  const tn_attr *p = tn_match_attr(x, "p");
  tn_type_info t = tn_rw_type_info(x->m, tn_match_value(x, "x"));
  int64_t last = -1;
  for (uint32_t i = 0; i < p->count; i++) {
    int64_t axis = p->u.ints[i];
    if (tn_rw_dim_is(x->m, t.dims[axis], 1)) continue;
    if (axis < last) return false;
    last = axis;
  }
  return true;
}

static bool swaps_last_two(tn_match *x) {
  const tn_attr *p = tn_match_attr(x, "p");
  uint32_t n = p->count;
  for (uint32_t i = 0; i + 2 < n; i++)
    if (p->u.ints[i] != (int64_t)i) return false;
  return n >= 2 && p->u.ints[n - 1] == (int64_t)n - 2;
}

/* Bitwise `and` with 1 is something else. */
static bool is_condition(tn_match *x) {
  return tn_rw_type_info(x->m, tn_match_value(x, "x")).dtype == TN_DT_bool;
}

/* The inner reshape merges leading dims of ?x and leaves the last two, which the transpose swaps: ?r swaps
 * them in ?x itself. */
static bool merged_leading(tn_match *x) {
  const tn_attr *p = tn_match_attr(x, "p");
  tn_type_info t = tn_rw_type_info(x->m, tn_match_value(x, "x")),
               merged = tn_rw_type_info(x->m, tn_ir_op_operand(x->m, x->ops[1], 0)),
               out = tn_rw_type_info(x->m, tn_ir_op_result(x->m, x->root, 0));
  uint32_t n = t.rank;
  if (p->count != 3 || p->u.ints[0] != 0 || p->u.ints[1] != 2 || n < 4 || out.rank < 4) return false;
  if (t.dims[n - 2] != merged.dims[1] || t.dims[n - 1] != merged.dims[2]) return false;
  if (out.dims[out.rank - 2] != merged.dims[2] || out.dims[out.rank - 1] != merged.dims[1]) return false;
  int64_t *r = tn_arena_alloc(x->arena, TN_MAX_RANK * sizeof *r);
  if (!r) return false;
  for (uint32_t i = 0; i < n; i++) r[i] = i;
  r[n - 2] = n - 1;
  r[n - 1] = n - 2;
  return tn_match_set_attr(x, "r", (tn_attr){TN_ATTR_INTS, n, {.ints = r}});
}

/* ?x has one column and ?y one row: their product is that of each pair. */
static bool one_in_common(tn_match *x) {
  tn_type_info a = tn_rw_type_info(x->m, tn_match_value(x, "x")),
               b = tn_rw_type_info(x->m, tn_match_value(x, "y"));
  const tn_dtype_info *t = tn_ir_dtype_info(b.dtype);
  return a.rank >= 2 && a.dtype == b.dtype && t && t->cls == TN_CLASS_FLOAT &&
         tn_rw_dim_is(x->m, a.dims[a.rank - 1], 1);
}

/* Significand bits (with the hidden one) and exponent range of the float types, by which casts are exact. */
static const struct {
  tn_dtype t;
  int digits, emin, emax;
} floats[] = {
    {TN_DT_f64, 53, -1074, 1024}, {TN_DT_f32, 24, -149, 128}, {TN_DT_bf16, 8, -133, 128},
    {TN_DT_f16, 11, -24, 16},     {TN_DT_f8e4m3, 4, -9, 9},   {TN_DT_f8e5m2, 3, -16, 16},
};

static bool float_holds(tn_dtype from, tn_dtype to) {
  int a = -1, b = -1;
  for (int i = 0; i < (int)TN_COUNT(floats); i++) {
    if (floats[i].t == from) a = i;
    if (floats[i].t == to) b = i;
  }
  return a >= 0 && b >= 0 && floats[a].digits <= floats[b].digits && floats[a].emin >= floats[b].emin &&
         floats[a].emax <= floats[b].emax;
}

/* Every value of `from` is one of `to`. */
static bool dtype_holds(tn_dtype from, tn_dtype to) {
  const tn_dtype_info *a = tn_ir_dtype_info(from), *b = tn_ir_dtype_info(to);
  if (a->cls == TN_CLASS_FLOAT || b->cls == TN_CLASS_FLOAT) return float_holds(from, to);
  if (a->cls == TN_CLASS_BLOCK || b->cls == TN_CLASS_BLOCK || b->cls == TN_CLASS_BOOL) return from == to;
  if (a->cls == TN_CLASS_BOOL) return true;
  if (a->cls == b->cls) return a->bits <= b->bits;
  return a->cls == TN_CLASS_UINT && a->bits < b->bits;
}

/* The op behind the root gives integers. */
static bool counts_integers(tn_match *x) {
  const tn_dtype_info *t = tn_ir_dtype_info(tn_rw_type_info(x->m, tn_ir_op_result(x->m, x->ops[1], 0)).dtype);
  return t && t->cls == TN_CLASS_INT;
}

/* The inner cast of two loses nothing. */
static bool exact_cast(tn_match *x) {
  tn_dtype from = tn_rw_type_info(x->m, tn_match_value(x, "x")).dtype;
  return dtype_holds(from, tn_rw_type_info(x->m, tn_ir_op_result(x->m, x->ops[1], 0)).dtype);
}

/* The op behind the root reads a cast of ?x that loses nothing, and the root casts back. */
static bool widened(tn_match *x) {
  tn_value v = tn_match_value(x, "x"), wide = tn_ir_op_operand(x->m, x->ops[1], 0);
  return dtype_holds(tn_rw_type_info(x->m, v).dtype, tn_rw_type_info(x->m, wide).dtype);
}

static bool one_axis(tn_match *x, const char *name, int64_t *axis) {
  const tn_attr *a = tn_match_attr(x, name);
  int64_t rank = tn_rw_type_info(x->m, tn_match_value(x, "x")).rank;
  if (!a || a->count != 1) return false;
  *axis = a->u.ints[0] < 0 ? a->u.ints[0] + rank : a->u.ints[0];
  return true;
}

/* ?a and, where bound, ?b both name just the last axis of ?x. */
static bool last_axis(tn_match *x) {
  int64_t last = (int64_t)tn_rw_type_info(x->m, tn_match_value(x, "x")).rank - 1, a, b;
  if (!one_axis(x, "a", &a) || a != last) return false;
  return !tn_match_attr(x, "b") || (one_axis(x, "b", &b) && b == last);
}

/* ?a and ?b name the same single axis; it becomes ?k. */
static bool softmax_axis(tn_match *x) {
  int64_t a, b;
  if (!one_axis(x, "a", &a) || !one_axis(x, "b", &b) || a != b) return false;
  return tn_match_set_attr(x, "k", (tn_attr){TN_ATTR_INT, 0, {.i = a}});
}

tn_guard tn_guard_by_name(const char *name) {
  static const struct {
    const char *name;
    tn_guard guard;
  } guards[] = {
#define GUARD(g) {#g, g}
      GUARD(x_not_constant),  GUARD(x_float_not_constant),
      GUARD(c_power_of_two),  GUARD(identity_perm),
      GUARD(compose_perms),   GUARD(moves_only_ones),
      GUARD(swaps_last_two),  GUARD(exact_cast),
      GUARD(last_axis),       GUARD(softmax_axis),
      GUARD(is_condition),    GUARD(merged_leading),
      GUARD(one_in_common),   GUARD(widened),
      GUARD(counts_integers),
#undef GUARD
  };
  for (size_t i = 0; i < TN_COUNT(guards); i++)
    if (!strcmp(guards[i].name, name)) return guards[i].guard;
  return NULL;
}
