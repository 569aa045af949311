/* compare.c - comparisons, and conversions between types. */
#include "tests/ptx/values.h"
#include <fenv.h>
#include <math.h>

/* ---- comparisons
 * --------------------------------------------------------------------------------------------------- */
static bool compare_floats(ptx_mod how, double a, double b) {
  bool unordered = isnan(a) || isnan(b);
  switch (how) {
  case PM_eq: return a == b;
  case PM_ne: return !unordered && a != b;
  case PM_lt: return a < b;
  case PM_le: return a <= b;
  case PM_gt: return a > b;
  case PM_ge: return a >= b;
  case PM_equ: return unordered || a == b;
  case PM_neu: return unordered || a != b;
  case PM_ltu: return unordered || a < b;
  case PM_leu: return unordered || a <= b;
  case PM_gtu: return unordered || a > b;
  case PM_geu: return unordered || a >= b;
  case PM_num: return !unordered;
  default: return unordered;
  }
}

static bool compare_ints(ptx_mod how, ptx_type t, uint64_t x, uint64_t y) {
  bool sign = ptx_is_signed(t);
  uint64_t a = ptx_unsigned(t, x), b = ptx_unsigned(t, y);
  bool less = sign ? ptx_signed(t, x) < ptx_signed(t, y) : a < b;
  switch (how) {
  case PM_eq: return a == b;
  case PM_ne: return a != b;
  case PM_lt:
  case PM_lo: return less;
  case PM_le:
  case PM_ls: return less || a == b;
  case PM_gt:
  case PM_hi: return !less && a != b;
  default: return !less;
  }
}

static bool compare(const ptx_ins *i, ptx_type t, uint64_t a, uint64_t b) {
  if (!ptx_is_float(t)) return compare_ints((ptx_mod)i->compare, t, a, b);
  double x = ptx_float_get(t, a), y = ptx_float_get(t, b);
  if (ptx_has(i, PM_ftz)) x = ptx_flush(t, x), y = ptx_flush(t, y);
  return compare_floats((ptx_mod)i->compare, x, y);
}

static bool joined(const ptx_ins *i, bool r, bool with) {
  return ptx_has(i, PM_and) ? r && with : ptx_has(i, PM_or) ? r || with : ptx_has(i, PM_xor) ? r != with : r;
}

/* setp p|q, a, b, c: p is the comparison joined with c, q its opposite joined with c; of packed types p is of
 * the low half and q of the high one. */
void ptx_run_setp(ptx_warp *w, const ptx_ins *i, uint32_t mask) {
  ptx_type t = (ptx_type)i->type[0], half = ptx_half_of(t);
  PTX_EACH(l, mask) {
    uint64_t a = ptx_get(w, &i->args[1], l), b = ptx_get(w, &i->args[2], l);
    bool with = i->nargs > 3 && ptx_get(w, &i->args[3], l) & 1;
    bool p = compare(i, half ? half : t, a, b), q = half ? compare(i, half, a >> 16, b >> 16) : !p;
    ptx_put(w, &i->args[0], l, joined(i, p, with));
    if (i->args[0].also >= 0) w->regs[(uint32_t)i->args[0].also * PTX_LANES + l] = joined(i, q, with);
  }
}

/* set.CMP.dtype.stype: all ones, or 1.0. */
void ptx_run_set(ptx_warp *w, const ptx_ins *i, uint32_t mask) {
  ptx_type d = (ptx_type)i->type[0], s = (ptx_type)i->type[1], half = ptx_half_of(s);
  PTX_EACH(l, mask) {
    uint64_t a = ptx_get(w, &i->args[1], l), b = ptx_get(w, &i->args[2], l), r;
    bool with = i->nargs > 3 && ptx_get(w, &i->args[3], l) & 1;
    bool lo = joined(i, compare(i, half ? half : s, a, b), with);
    if (half) {
      bool hi = joined(i, compare(i, half, a >> 16, b >> 16), with);
      uint64_t one = ptx_is_float(d) ? ptx_float_put(half, 1, PM_rn, false) : 0xffff;
      r = (lo ? one : 0) | (hi ? one << 16 : 0);
    } else {
      r = !lo ? 0 : ptx_is_float(d) ? ptx_float_put(d, 1, PM_rn, false) : ptx_unsigned(d, ~0ull);
    }
    ptx_put(w, &i->args[0], l, r);
  }
}

/* ---- conversions
 * --------------------------------------------------------------------------------------------------- */
static uint64_t to_int(const ptx_ins *i, ptx_type d, double x) {
  if (isnan(x)) return 0;
  ptx_mod how = ptx_rounding(i);
  x = how == PM_rzi ? trunc(x) : how == PM_rmi ? floor(x) : how == PM_rpi ? ceil(x) : nearbyint(x);
  uint32_t n = ptx_type_bytes[d] * 8;
  if (ptx_is_signed(d)) { /* always to the nearest that there is */
    double most = ldexp(1, (int)n - 1);
    if (x >= most) return ptx_unsigned(d, ((uint64_t)1 << (n - 1)) - 1);
    return ptx_unsigned(d, x < -most ? (uint64_t)1 << (n - 1) : (uint64_t)(int64_t)x);
  }
  if (x <= 0) return 0;
  return x >= ldexp(1, (int)n) ? ptx_unsigned(d, ~0ull) : (uint64_t)x;
}

static uint64_t int_to_int(const ptx_ins *i, ptx_type d, ptx_type s, uint64_t v) {
  uint64_t u = ptx_unsigned(s, v);
  int64_t x = ptx_signed(s, v);
  bool from = ptx_is_signed(s);
  if (!ptx_has(i, PM_sat)) return ptx_unsigned(d, from ? (uint64_t)x : u);
  uint32_t n = ptx_type_bytes[d] * 8;
  uint64_t top = ptx_is_signed(d) ? (1ull << (n - 1)) - 1 : ptx_unsigned(d, ~0ull);
  if (from && x < 0)
    return ptx_is_signed(d) ? ptx_unsigned(d, n < 64 && x < -(int64_t)top - 1 ? ~top : (uint64_t)x) : 0;
  return u > top ? top : u;
}

/* 64-bit integers do not fit a double: rounded once, in the mode asked for, by long double arithmetic. */
static uint64_t int_to_float(const ptx_ins *i, ptx_type d, ptx_type s, uint64_t v) {
  ptx_mod how = ptx_rounding(i);
  if (ptx_type_bytes[s] < 8) return ptx_float_put(d, ptx_number(s, v), how, false);
  static const int modes[] = {FE_TONEAREST, FE_TOWARDZERO, FE_DOWNWARD, FE_UPWARD};
  fesetround(modes[how == PM_rz ? 1 : how == PM_rm ? 2 : how == PM_rp ? 3 : 0]);
  volatile int64_t si = (int64_t)v;
  volatile uint64_t ui = v;
  volatile double wide = ptx_is_signed(s) ? (double)si : (double)ui;
  volatile float narrow = ptx_is_signed(s) ? (float)si : (float)ui;
  fesetround(FE_TONEAREST);
  return d == PT_f64   ? ptx_bits64(wide)
         : d == PT_f32 ? ptx_bits32(narrow)
                       : ptx_float_put(d, wide, how, false);
}

static uint64_t float_to_float(const ptx_ins *i, ptx_type d, ptx_type s, uint64_t v) {
  double x = ptx_float_get(s, v);
  ptx_mod how = ptx_rounding(i);
  if (ptx_has(i, PM_ftz)) x = ptx_flush(s, x);
  if (how == PM_rni || how == PM_rzi || how == PM_rmi || how == PM_rpi)
    x = ptx_round(x, 53, 52, how); /* to an integer */
  if (ptx_has(i, PM_ftz)) x = ptx_flush(d, x);
  if (ptx_has(i, PM_sat)) x = isnan(x) ? 0 : x < 0 ? 0 : x > 1 ? 1 : x;
  if (ptx_has(i, PM_relu) && x < 0) x = 0;
  if (d == s && how == PM_rn && !isnan(x)) return ptx_float_put(d, x, PM_rn, false);
  return ptx_float_put(d, x, how, ptx_has(i, PM_satfinite) || d == PT_e4m3 || d == PT_e5m2);
}

static uint64_t convert(const ptx_ins *i, ptx_type d, ptx_type s, uint64_t v) {
  bool to = ptx_is_float(d), from = ptx_is_float(s);
  if (to && from) return float_to_float(i, d, s, v);
  if (to) return int_to_float(i, d, s, v);
  if (from) {
    double x = ptx_float_get(s, v);
    return to_int(i, d, ptx_has(i, PM_ftz) ? ptx_flush(s, x) : x);
  }
  return int_to_int(i, d, s, v);
}

/* cvt.f16x2.f32 d, a, b: a goes into the high half. cvt.f16x2.e4m3x2 d, a: both halves of a. */
void ptx_run_cvt(ptx_warp *w, const ptx_ins *i, uint32_t mask) {
  ptx_type d = (ptx_type)i->type[0], s = (ptx_type)i->type[1], half = ptx_half_of(d), from = ptx_half_of(s);
  PTX_EACH(l, mask) {
    uint64_t a = ptx_get(w, &i->args[1], l), r;
    if (!half) {
      r = convert(i, d, s, a);
      /* a destination wider than the type: the sign goes on */
      if (ptx_is_signed(d)) r = (uint64_t)ptx_signed(d, r) & UINT32_MAX;
      if (ptx_type_bytes[d] == 8) r = convert(i, d, s, a);
    } else {
      uint32_t n = ptx_type_bytes[half] * 8, m = from ? ptx_type_bytes[from] * 8u : 0;
      uint64_t hi = from ? a >> m : a, lo = from ? a : ptx_get(w, &i->args[2], l);
      ptx_type t = from ? from : s;
      r = ptx_unsigned(half, convert(i, half, t, lo)) | ptx_unsigned(half, convert(i, half, t, hi)) << n;
    }
    ptx_put(w, &i->args[0], l, r);
  }
}

/* ---- addresses
 * ----------------------------------------------------------------------------------------------------- */
static uint64_t window_of(ptx_space s) {
  return s == PS_shared  ? PTX_SHARED_WINDOW
         : s == PS_local ? PTX_LOCAL_WINDOW
         : s == PS_param ? PTX_PARAM_WINDOW
                         : 0;
}

void ptx_run_cvta(ptx_warp *w, const ptx_ins *i, uint32_t mask) {
  uint64_t window = window_of((ptx_space)i->space), low = (1ull << 56) - 1;
  PTX_EACH(l, mask) {
    uint64_t v = ptx_get(w, &i->args[1], l);
    if (!ptx_has(i, PM_to))
      v |= window;
    else if (window && (v & ~low) != window)
      ptx_stop(w, PTX_BAD_ADDRESS, (int)l, "generic address 0x%llx is not of this space",
               (unsigned long long)v);
    else
      v &= low;
    ptx_put(w, &i->args[0], l, v);
  }
}

void ptx_run_isspacep(ptx_warp *w, const ptx_ins *i, uint32_t mask) {
  PTX_EACH(l, mask)
  ptx_put(w, &i->args[0], l, ptx_get(w, &i->args[1], l) >> 56 == window_of((ptx_space)i->space) >> 56);
}

void ptx_run_mapa(ptx_warp *w, const ptx_ins *i, uint32_t mask) {
  bool generic = !ptx_has(i, PM_shared_cluster);
  PTX_EACH(l, mask) {
    uint64_t v = ptx_get(w, &i->args[1], l), rank = ptx_get(w, &i->args[2], l) & UINT32_MAX;
    if (!ptx_cta_of_rank(w->cta, w->machine, rank)) {
      ptx_stop(w, PTX_BAD_ADDRESS, (int)l, "there is no CTA %llu in the cluster", (unsigned long long)rank);
      return;
    }
    v = (v & ((1u << PTX_SHARED_RANK) - 1)) | rank << PTX_SHARED_RANK;
    ptx_put(w, &i->args[0], l, generic ? v | PTX_SHARED_WINDOW : v);
  }
}

void ptx_run_getctarank(ptx_warp *w, const ptx_ins *i, uint32_t mask) {
  PTX_EACH(l, mask)
  ptx_put(w, &i->args[0], l, ptx_get(w, &i->args[1], l) >> PTX_SHARED_RANK & 0xff);
}
