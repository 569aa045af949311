/* dims.c - sizes: arithmetic over dims, what is known about them, symbols and constraints. */
#include "frontend/onnx/import.h"

tn_type tn_ox_type_of(tn_ox *x, tn_value v) {
  tn_value_info info;
  x->ir->value_get(x->m, v, &info);
  return info.type;
}

static void type_info(tn_ox *x, tn_value v, tn_type_info *out) {
  *out = (tn_type_info){0};
  if (v) x->ir->type_get(x->m, tn_ox_type_of(x, v), out);
}

tn_dtype tn_ox_dtype(tn_ox *x, tn_value v) {
  tn_type_info t;
  type_info(x, v, &t);
  return t.dtype;
}

uint32_t tn_ox_rank(tn_ox *x, tn_value v) {
  tn_type_info t;
  type_info(x, v, &t);
  return t.rank;
}

tn_dim tn_ox_dim(tn_ox *x, tn_value v, int64_t axis) {
  tn_type_info t;
  type_info(x, v, &t);
  if (axis < 0) axis += (int64_t)t.rank;
  if (axis >= 0 && axis < (int64_t)t.rank) return t.dims[axis];
  if (v) tn_ox_fail(x, x->node, "axis %lld of a tensor of rank %u", (long long)axis, t.rank);
  return 0;
}

void tn_ox_dims(tn_ox *x, tn_value v, tn_dim *out) {
  tn_type_info t;
  type_info(x, v, &t);
  for (uint32_t i = 0; i < t.rank; i++) out[i] = t.dims[i];
}

bool tn_ox_is_float(tn_ox *x, tn_value v) {
  const tn_dtype_info *d = x->ir->dtype_info(tn_ox_dtype(x, v));
  return d && d->cls == TN_CLASS_FLOAT;
}

uint32_t tn_ox_axis(tn_ox *x, tn_ox_node *n, int64_t axis, uint32_t rank) {
  if (axis >= -(int64_t)rank && axis < (int64_t)rank)
    return (uint32_t)(axis < 0 ? axis + (int64_t)rank : axis);
  tn_ox_fail(x, n, "axis %lld is out of range for rank %u", (long long)axis, rank);
  return 0;
}

/* ---- arithmetic
 * --------------------------------------------------------------------------------------------- */

/* Failed arithmetic (overflow, depth) is told by the IR. */
static tn_dim checked(tn_ox *x, tn_dim d) {
  if (!d) x->failed = x->invalid = true;
  return d;
}

tn_dim tn_ox_d(tn_ox *x, int64_t k) { return checked(x, x->ir->dim_const(x->m, k)); }
bool tn_ox_dconst(tn_ox *x, tn_dim d, int64_t *k) { return d && x->ir->dim_is_const(x->m, d, k); }

static bool overflows(tn_ox *x, bool product, tn_dim a, tn_dim b) {
  int64_t i, j, r;
  if (!tn_ox_dconst(x, a, &i) || !tn_ox_dconst(x, b, &j)) return false;
  bool over = product ? __builtin_mul_overflow(i, j, &r) : __builtin_add_overflow(i, j, &r);
  return over || r > INT64_MAX / 2 || r < INT64_MIN / 2;
}

tn_dim tn_ox_dmake(tn_ox *x, uint32_t kind, tn_dim a, tn_dim b) {
  int64_t k;
  if (!a || !b) return 0;
  if ((kind == TN_DIM_FLOORDIV || kind == TN_DIM_MOD) && tn_ox_dconst(x, b, &k) && !k) {
    tn_ox_fail(x, x->node, "a size is divided by 0");
    return 0;
  }
  if ((kind == TN_DIM_ADD || kind == TN_DIM_MUL) && overflows(x, kind == TN_DIM_MUL, a, b)) {
    tn_ox_fail(x, x->node, "a size of more than 2^62");
    return 0;
  }
  return checked(x, x->ir->dim_make(x->m, kind, a, b));
}

tn_dim tn_ox_dadd(tn_ox *x, tn_dim a, tn_dim b) { return tn_ox_dmake(x, TN_DIM_ADD, a, b); }
tn_dim tn_ox_dmul(tn_ox *x, tn_dim a, tn_dim b) { return tn_ox_dmake(x, TN_DIM_MUL, a, b); }
tn_dim tn_ox_ddiv(tn_ox *x, tn_dim a, tn_dim b) { return tn_ox_dmake(x, TN_DIM_FLOORDIV, a, b); }
tn_dim tn_ox_dmin(tn_ox *x, tn_dim a, tn_dim b) { return tn_ox_dmake(x, TN_DIM_MIN, a, b); }
tn_dim tn_ox_dmax(tn_ox *x, tn_dim a, tn_dim b) { return tn_ox_dmake(x, TN_DIM_MAX, a, b); }

tn_dim tn_ox_dsub(tn_ox *x, tn_dim a, tn_dim b) {
  if (!a || !b) return 0;
  return a == b ? tn_ox_d(x, 0) : tn_ox_dadd(x, a, tn_ox_dmul(x, b, tn_ox_d(x, -1)));
}

bool tn_ox_dnonneg(tn_ox *x, tn_dim d) {
  int64_t k;
  if (!d) return false;
  if (tn_ox_dconst(x, d, &k)) return k >= 0;
  return tn_ox_dconst(x, tn_ox_dmin(x, d, tn_ox_d(x, 0)), &k) && k == 0;
}

/* ---- equal sizes
 * -------------------------------------------------------------------------------------------- */

bool tn_ox_dequal(tn_ox *x, tn_dim a, tn_dim b) {
  if (a == b) return true;
  for (uint32_t i = 0; i + 1 < x->same.count; i += 2) {
    tn_dim p = x->same.items[i], q = x->same.items[i + 1];
    if ((p == a && q == b) || (p == b && q == a)) return true;
  }
  return false;
}

void tn_ox_require_le(tn_ox *x, tn_dim a, tn_dim b) {
  if (!a || !b || tn_ox_dnonneg(x, tn_ox_dsub(x, b, a))) return;
  if (x->ir->dim_constrain(x->m, a, b) != TN_OK) x->failed = x->invalid = true;
}

tn_dim tn_ox_same(tn_ox *x, tn_ox_node *n, tn_dim a, tn_dim b) {
  int64_t i, j;
  if (!a || !b) return 0;
  bool ca = tn_ox_dconst(x, a, &i), cb = tn_ox_dconst(x, b, &j);
  if (tn_ox_dequal(x, a, b)) return cb ? b : a;
  if (tn_ox_dconst(x, tn_ox_dsub(x, a, b), &i) && i) {
    if (ca && cb)
      tn_ox_fail(x, n, "sizes differ: %lld and %lld", (long long)(i + j), (long long)j);
    else
      tn_ox_fail(x, n, "sizes differ: one is the other and %lld more", (long long)i);
    return 0;
  }
  tn_ox_require_le(x, a, b);
  tn_ox_require_le(x, b, a);
  if (!tn_vec_push(&x->same, a) || !tn_vec_push(&x->same, b)) x->broken = TN_OOM;
  return cb ? b : a;
}

tn_dim tn_ox_dproduct(tn_ox *x, const tn_dim *dims, uint32_t first, uint32_t last) {
  tn_dim d = tn_ox_d(x, 1);
  for (uint32_t i = first; i < last; i++) d = tn_ox_dmul(x, d, dims[i]);
  return d;
}

/* max(a, b) where both are equal or one is 1, which the runtime checks. */
tn_dim tn_ox_dbroadcast(tn_ox *x, tn_dim a, tn_dim b) {
  int64_t k;
  if (!a || !b) return 0;
  if (tn_ox_dconst(x, a, &k) && k == 1) return b;
  if (tn_ox_dequal(x, a, b)) return tn_ox_dconst(x, b, &k) ? b : a;
  if (tn_ox_dconst(x, b, &k) && k == 1) return a;
  int64_t j;
  bool ca = tn_ox_dconst(x, a, &k), cb = tn_ox_dconst(x, b, &j);
  if (ca && cb) {
    tn_ox_fail(x, x->node, "sizes do not broadcast: %lld and %lld", (long long)k, (long long)j);
    return 0;
  }
  tn_dim d = ca ? a : cb ? b : tn_ox_dmax(x, a, b), one = tn_ox_d(x, 1), none = tn_ox_d(x, 0);
  tn_dim both[2] = {a, b};
  for (uint32_t i = 0; i < 2; i++) {
    if (tn_ox_dconst(x, both[i], &k)) continue;
    tn_ox_require_le(x, tn_ox_dmul(x, tn_ox_dsub(x, both[i], one), tn_ox_dsub(x, d, both[i])), none);
    tn_ox_require_le(x, d, tn_ox_dmul(x, both[i], d));
    tn_ox_require_le(x, both[i], d);
  }
  return d;
}

bool tn_ox_broadcast_dims(tn_ox *x, tn_value a, tn_value b, tn_dim *out, uint32_t *rank) {
  tn_dim da[TN_MAX_RANK], db[TN_MAX_RANK];
  uint32_t ra = tn_ox_rank(x, a), rb = tn_ox_rank(x, b), r = ra > rb ? ra : rb;
  if (x->failed || !a || !b) return false;
  tn_ox_dims(x, a, da);
  tn_ox_dims(x, b, db);
  for (uint32_t i = 0; i < r; i++) {
    tn_dim p = i + ra >= r ? da[i + ra - r] : tn_ox_d(x, 1), q = i + rb >= r ? db[i + rb - r] : tn_ox_d(x, 1);
    out[i] = tn_ox_dbroadcast(x, p, q);
  }
  *rank = r;
  return !x->failed;
}

/* ---- symbols
 * ------------------------------------------------------------------------------------------------ */

const char *tn_ox_symbol_name(tn_ox *x, const char *words) {
  static const char good[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_";
  static const char *const taken[] = {"min", "max", "where"};
  bool prefix = !*words || (*words >= '0' && *words <= '9');
  for (size_t i = 0; i < TN_COUNT(taken); i++) prefix |= !strcmp(words, taken[i]);
  char *name = tn_arena_printf(&x->arena, "%s%.60s", prefix ? "d_" : "", words);
  for (char *p = name; p && *p; p++)
    if (!memchr(good, *p, sizeof good - 1)) *p = '_';
  return name ? name : "d";
}

tn_dim tn_ox_fresh_dim(tn_ox *x, const char *hint) {
  char *name = tn_arena_printf(&x->arena, "%s_%u", tn_ox_symbol_name(x, hint), ++x->fresh);
  return name ? checked(x, x->ir->dim_sym(x->m, name)) : 0;
}

tn_dim tn_ox_let_dim(tn_ox *x, tn_value scalar, tn_dim max, const char *hint) {
  const tn_ox_elems *known = tn_ox_known(x, scalar);
  if (!scalar) return 0;
  if (known && known->count == 1 && known->at[0].kind == TN_OX_DIM) {
    tn_ox_require_le(x, tn_ox_d(x, 0), known->at[0].dim);
    if (max) tn_ox_require_le(x, known->at[0].dim, max);
    return known->at[0].dim;
  }
  tn_dim d = tn_ox_fresh_dim(x, hint);
  int64_t k = 0;
  bool bounded = max && !(tn_ox_dconst(x, max, &k) && k == 0);
  if (tn_ox_rank(x, scalar)) scalar = tn_ox_reshape(x, scalar, NULL, 0);
  scalar = tn_ox_cast(x, scalar, TN_DT_i64);
  tn_ox_make_op(x, "let_dim", &scalar, 1,
                bounded ? TN_OX_ATTRS(TN_OX_DIM("dim", d), TN_OX_DIM("max", max))
                        : TN_OX_ATTRS(TN_OX_DIM("dim", d)));
  if (bounded && !x->failed) tn_ox_require_le(x, d, max);
  tn_ox_elem e = {.kind = TN_OX_DIM, .dim = d};
  if (!x->failed) tn_ox_know(x, scalar, &e, 1);
  return x->failed ? 0 : d;
}
