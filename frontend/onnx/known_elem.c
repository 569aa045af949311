/* known_elem.c - arithmetic on elements that are known at import. Nothing where the result is not certain for
 * all sizes, or could not be a dim. */
#include "frontend/onnx/known.h"
#include <math.h>

static const tn_ox_elem unknown;

tn_ox_elem tn_ox_elem_int(tn_ox *x, int64_t k) {
  tn_dim d = k == INT64_MIN ? 0 : x->ir->dim_const(x->m, k);
  return (tn_ox_elem){.kind = d ? TN_OX_DIM : TN_OX_UNKNOWN, .dim = d};
}
tn_ox_elem tn_ox_elem_real(double v) { return (tn_ox_elem){.kind = TN_OX_REAL, .real = v}; }
bool tn_ox_elem_const(tn_ox *x, const tn_ox_elem *e, int64_t *k) {
  return e->kind == TN_OX_DIM && x->ir->dim_is_const(x->m, e->dim, k);
}

/* Constants stay small, so that dim arithmetic cannot overflow. */
static bool tame(tn_ox *x, const tn_ox_elem *e) {
  int64_t k;
  return e->kind == TN_OX_DIM &&
         (!tn_ox_elem_const(x, e, &k) || (k > -(INT64_C(1) << 31) && k < INT64_C(1) << 31));
}

tn_ox_elem tn_ox_elem_dim(tn_dim d) { return (tn_ox_elem){.kind = d ? TN_OX_DIM : TN_OX_UNKNOWN, .dim = d}; }

static int64_t trunc_div(int64_t a, int64_t b) {
  return b == -1 ? (int64_t)(0 - (uint64_t)a) : b ? a / b : 0;
}
static int64_t floor_mod(int64_t a, int64_t b) {
  int64_t r = b && b != -1 ? a % b : 0;
  return r && (r ^ b) < 0 ? r + b : r;
}

tn_ox_elem tn_ox_elem_binary(tn_ox *x, const char *op, const tn_ox_elem *a, const tn_ox_elem *b) {
  int64_t i, j, r;
  bool ci = tn_ox_elem_const(x, a, &i), cj = tn_ox_elem_const(x, b, &j);
  if (ci && cj) {
    if (!strcmp(op, "add")) return __builtin_add_overflow(i, j, &r) ? unknown : tn_ox_elem_int(x, r);
    if (!strcmp(op, "sub")) return __builtin_sub_overflow(i, j, &r) ? unknown : tn_ox_elem_int(x, r);
    if (!strcmp(op, "mul")) return __builtin_mul_overflow(i, j, &r) ? unknown : tn_ox_elem_int(x, r);
    if (!strcmp(op, "div")) return tn_ox_elem_int(x, trunc_div(i, j));
    if (!strcmp(op, "mod")) return tn_ox_elem_int(x, floor_mod(i, j));
  }
  if (!tame(x, a) || !tame(x, b)) return unknown;
  if (!strcmp(op, "add")) return tn_ox_elem_dim(tn_ox_dadd(x, a->dim, b->dim));
  if (!strcmp(op, "sub")) return tn_ox_elem_dim(tn_ox_dsub(x, a->dim, b->dim));
  if (!strcmp(op, "mul")) return tn_ox_elem_dim(tn_ox_dmul(x, a->dim, b->dim));
  if (!strcmp(op, "min")) return tn_ox_elem_dim(tn_ox_dmin(x, a->dim, b->dim));
  if (!strcmp(op, "max")) return tn_ox_elem_dim(tn_ox_dmax(x, a->dim, b->dim));
  /* Towards zero is floor where both are not negative. */
  bool floors = tn_ox_dnonneg(x, a->dim) && tn_ox_dnonneg(x, b->dim) && !(cj && j == 0);
  if (!strcmp(op, "div")) return floors ? tn_ox_elem_dim(tn_ox_ddiv(x, a->dim, b->dim)) : unknown;
  if (!strcmp(op, "mod"))
    return floors ? tn_ox_elem_dim(tn_ox_dmake(x, TN_DIM_MOD, a->dim, b->dim)) : unknown;
  if (!strcmp(op, "and") && ci && cj) return tn_ox_elem_int(x, i & j);
  if (!strcmp(op, "or") && ci && cj) return tn_ox_elem_int(x, i | j);
  if (!strcmp(op, "xor") && ci && cj) return tn_ox_elem_int(x, i ^ j);
  return unknown;
}

tn_ox_elem tn_ox_elem_real_binary(const char *op, double a, double b) {
  if (!strcmp(op, "add")) return tn_ox_elem_real(a + b);
  if (!strcmp(op, "sub")) return tn_ox_elem_real(a - b);
  if (!strcmp(op, "mul")) return tn_ox_elem_real(a * b);
  if (!strcmp(op, "div")) return tn_ox_elem_real(a / b);
  if (!strcmp(op, "pow")) return tn_ox_elem_real(pow(a, b));
  if (!strcmp(op, "min")) return tn_ox_elem_real(a < b ? a : b);
  if (!strcmp(op, "max")) return tn_ox_elem_real(a > b ? a : b);
  return unknown;
}

static bool answer(const char *cmp, int order) {
  if (!strcmp(cmp, "eq")) return order == 0;
  if (!strcmp(cmp, "ne")) return order != 0;
  if (!strcmp(cmp, "lt")) return order < 0;
  if (!strcmp(cmp, "le")) return order <= 0;
  return !strcmp(cmp, "gt") ? order > 0 : order >= 0;
}

/* What is certain for all sizes. */
tn_ox_elem tn_ox_elem_compare(tn_ox *x, const char *cmp, const tn_ox_elem *a, const tn_ox_elem *b) {
  if (a->kind == TN_OX_REAL && b->kind == TN_OX_REAL) {
    if (isnan(a->real) || isnan(b->real)) return tn_ox_elem_int(x, !strcmp(cmp, "ne"));
    return tn_ox_elem_int(x, answer(cmp, a->real < b->real ? -1 : a->real > b->real));
  }
  if (!tame(x, a) || !tame(x, b)) {
    int64_t i, j;
    if (tn_ox_elem_const(x, a, &i) && tn_ox_elem_const(x, b, &j))
      return tn_ox_elem_int(x, answer(cmp, i < j ? -1 : i > j));
    return unknown;
  }
  if (tn_ox_dequal(x, a->dim, b->dim)) return tn_ox_elem_int(x, answer(cmp, 0));
  tn_dim d = tn_ox_dsub(x, a->dim, b->dim), one = tn_ox_d(x, 1), none = tn_ox_d(x, 0);
  if (tn_ox_dnonneg(x, tn_ox_dsub(x, d, one))) return tn_ox_elem_int(x, answer(cmp, 1));
  if (tn_ox_dnonneg(x, tn_ox_dsub(x, tn_ox_dsub(x, none, d), one))) return tn_ox_elem_int(x, answer(cmp, -1));
  if (tn_ox_dnonneg(x, d) && answer(cmp, 0) == answer(cmp, 1)) return tn_ox_elem_int(x, answer(cmp, 0));
  if (tn_ox_dnonneg(x, tn_ox_dsub(x, none, d)) && answer(cmp, 0) == answer(cmp, -1))
    return tn_ox_elem_int(x, answer(cmp, 0));
  return unknown;
}

tn_ox_elem tn_ox_elem_unary(tn_ox *x, const char *op, const tn_ox_elem *a, tn_dtype t) {
  int64_t k;
  bool c = tn_ox_elem_const(x, a, &k);
  if (!strcmp(op, "neg") && tame(x, a)) return tn_ox_elem_dim(tn_ox_dsub(x, tn_ox_d(x, 0), a->dim));
  if (!strcmp(op, "abs"))
    return tn_ox_dnonneg(x, a->dim) ? *a : c && k != INT64_MIN ? tn_ox_elem_int(x, -k) : unknown;
  if (!strcmp(op, "relu") && tame(x, a)) return tn_ox_elem_dim(tn_ox_dmax(x, a->dim, tn_ox_d(x, 0)));
  if (!strcmp(op, "not") && c) return tn_ox_elem_int(x, t == TN_DT_bool ? !k : ~k);
  if (!strcmp(op, "sign") && c) return tn_ox_elem_int(x, (k > 0) - (k < 0));
  return unknown;
}

tn_ox_elem tn_ox_elem_real_unary(const char *op, double a) {
  if (!strcmp(op, "neg")) return tn_ox_elem_real(-a);
  if (!strcmp(op, "abs")) return tn_ox_elem_real(fabs(a));
  if (!strcmp(op, "floor")) return tn_ox_elem_real(floor(a));
  if (!strcmp(op, "ceil")) return tn_ox_elem_real(ceil(a));
  if (!strcmp(op, "round")) return tn_ox_elem_real(nearbyint(a));
  if (!strcmp(op, "sqrt")) return tn_ox_elem_real(sqrt(a));
  if (!strcmp(op, "exp")) return tn_ox_elem_real(exp(a));
  if (!strcmp(op, "log")) return tn_ox_elem_real(log(a));
  return unknown;
}

tn_ox_elem tn_ox_elem_cast(tn_ox *x, const tn_ox_elem *a, tn_dtype to) {
  uint32_t cls = x->ir->dtype_info(to)->cls, bits = x->ir->dtype_info(to)->bits;
  int64_t k;
  bool c = tn_ox_elem_const(x, a, &k);
  if (cls == TN_CLASS_FLOAT) {
    if (a->kind == TN_OX_REAL)
      return to == TN_DT_f64 ? *a : to == TN_DT_f32 ? tn_ox_elem_real((double)(float)a->real) : unknown;
    if (to != TN_DT_f64 && to != TN_DT_f32) return unknown;
    return c ? tn_ox_elem_real((double)k) : *a; /* a size stays one, as whole number */
  }
  if (a->kind == TN_OX_REAL) {
    if (to == TN_DT_bool) return tn_ox_elem_int(x, a->real != 0);
    bool fits =
        a->real > -9e18 && a->real < 9e18 && (to == TN_DT_i64 || (to == TN_DT_i32 && fabs(a->real) < 2e9));
    return fits ? tn_ox_elem_int(x, (int64_t)a->real) : unknown;
  }
  if (to == TN_DT_bool) return c ? tn_ox_elem_int(x, k != 0) : unknown;
  if (to == TN_DT_i64 || (!c && to == TN_DT_i32)) return *a;
  if (c && k >= 0 && (bits == 64 || k < INT64_C(1) << (bits - 1))) return *a;
  return c && cls == TN_CLASS_INT && -k <= INT64_C(1) << (bits - 1) ? *a : unknown;
}
