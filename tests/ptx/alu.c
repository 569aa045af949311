/* alu.c - arithmetic on integers and floats. */
#include "tests/ptx/values.h"
#include <fenv.h>
#include <math.h>

typedef __int128 wide;
typedef unsigned __int128 uwide;

/* ---- integers
 * ------------------------------------------------------------------------------------------------------ */
static wide value(ptx_type t, uint64_t bits) {
  return ptx_is_signed(t) ? (wide)ptx_signed(t, bits) : (wide)ptx_unsigned(t, bits);
}

static uint64_t clamp_int(ptx_type t, wide v) {
  uint32_t n = ptx_type_bytes[t] * 8;
  wide most = ptx_is_signed(t) ? ((wide)1 << (n - 1)) - 1 : ((wide)1 << n) - 1,
       least = ptx_is_signed(t) ? -most - 1 : 0;
  return (uint64_t)(v > most ? most : v < least ? least : v);
}

/* lo, hi or wide part of a product, plus c. */
static uint64_t product(const ptx_ins *i, ptx_type t, const uint64_t *in, bool plus) {
  wide p = value(t, in[0]) * value(t, in[1]);
  uint32_t n = ptx_type_bytes[t] * 8;
  if (ptx_has(i, PM_wide)) return (uint64_t)p + (plus ? in[2] : 0);
  wide c = plus ? value(t, in[2]) : 0;
  if (!ptx_has(i, PM_hi)) return ptx_unsigned(t, (uint64_t)p + (uint64_t)c);
  p >>= n;
  if (ptx_has(i, PM_sat)) return ptx_unsigned(t, clamp_int(t, p + c));
  return ptx_unsigned(t, (uint64_t)p + (uint64_t)c);
}

static uint64_t int_two(const ptx_ins *i, ptx_type t, const uint64_t *in) {
  wide a = value(t, in[0]), b = value(t, in[1]), r = 0;
  switch (i->op) {
  case PO_add: r = a + b; break;
  case PO_sub: r = a - b; break;
  case PO_div: r = b ? a / b : -1; break;
  case PO_rem: r = b ? a % b : a; break;
  case PO_min: r = a < b ? a : b; break;
  case PO_max: r = a > b ? a : b; break;
  case PO_abs: r = a < 0 ? -a : a; break;
  case PO_neg: r = -a; break;
  default: return product(i, t, in, i->op == PO_mad);
  }
  if (ptx_has(i, PM_sat)) return ptx_unsigned(t, clamp_int(t, r));
  if (ptx_has(i, PM_relu) && r < 0) r = 0;
  return ptx_unsigned(t, (uint64_t)r);
}

/* ---- floats
 * -------------------------------------------------------------------------------------------------------- */
static int round_mode(ptx_mod how) {
  return how == PM_rz ? FE_TOWARDZERO : how == PM_rm ? FE_DOWNWARD : how == PM_rp ? FE_UPWARD : FE_TONEAREST;
}

static double smaller(const ptx_ins *i, double a, double b, bool least) {
  if (isnan(a) || isnan(b)) return ptx_has(i, PM_NaN) || (isnan(a) && isnan(b)) ? NAN : isnan(a) ? b : a;
  if (a == b) return least == (bool)signbit(a) ? a : b; /* -0 is below +0 */
  return (a < b) == least ? a : b;
}

static double float_value(const ptx_ins *i, const double *x) {
  switch (i->op) {
  case PO_add: return x[0] + x[1];
  case PO_sub: return x[0] - x[1];
  case PO_mul: return x[0] * x[1];
  case PO_div: return x[0] / x[1];
  case PO_fma:
  case PO_mad: return fma(x[0], x[1], x[2]);
  case PO_abs: return fabs(x[0]);
  case PO_neg: return -x[0];
  case PO_min: return smaller(i, x[0], x[1], true);
  default: return smaller(i, x[0], x[1], false);
  }
}

/* f32 in its own arithmetic, so that every rounding mode is the machine's. */
static float float32_value(const ptx_ins *i, const float *x) {
  volatile float a = x[0], b = x[1], c = x[2];
  switch (i->op) {
  case PO_add: return a + b;
  case PO_sub: return a - b;
  case PO_mul: return a * b;
  case PO_div: return a / b;
  case PO_fma:
  case PO_mad: return fmaf(a, b, c);
  default: {
    double y[3] = {a, b, c};
    return (float)float_value(i, y);
  }
  }
}

static uint64_t signs(const ptx_ins *i, ptx_type t, const uint64_t *in) { /* exact on bits: NaNs too */
  uint64_t sign = 1ull << (ptx_type_bytes[t] * 8 - 1);
  return i->op == PO_abs ? in[0] & ~sign : in[0] ^ sign;
}

static uint32_t inputs_of(const ptx_ins *i) { return i->nargs - 1u; }

/* The type of input k: where there are two, that of all but the last is the second. */
static ptx_type input_type(const ptx_ins *i, ptx_type t, uint32_t k) {
  return i->ntypes == 2 && k + 1 < inputs_of(i) ? (ptx_type)i->type[1] : t;
}

static uint64_t float_any(const ptx_ins *i, ptx_type t, const uint64_t *in) {
  bool flush = ptx_has(i, PM_ftz);
  if ((i->op == PO_abs || i->op == PO_neg) && !flush) return signs(i, t, in);
  ptx_mod how = ptx_rounding(i);
  double x[3] = {0}, r;
  uint32_t n = inputs_of(i);
  for (uint32_t k = 0; k < n && k < 3; k++) {
    x[k] = ptx_float_get(input_type(i, t, k), in[k]);
    if (flush) x[k] = ptx_flush(t, x[k]);
  }
  if (t == PT_f32 || t == PT_f64) {
    if (how != PM_rn) fesetround(round_mode(how));
    float y[3] = {(float)x[0], (float)x[1], (float)x[2]};
    r = t == PT_f32 ? float32_value(i, y) : float_value(i, x);
    if (how != PM_rn) fesetround(FE_TONEAREST);
  } else {
    r = float_value(i, x);
  }
  if (flush) r = ptx_flush(t, r);
  if (ptx_has(i, PM_sat)) r = isnan(r) ? 0 : r < 0 ? 0 : r > 1 ? 1 : r;
  if (ptx_has(i, PM_relu) && r < 0) r = 0;
  return ptx_float_put(t, r, how, false);
}

/* ---- instructions
 * -------------------------------------------------------------------------------------------------- */
static uint64_t any(const ptx_ins *i, ptx_type t, const uint64_t *in) {
  return ptx_is_float(t) ? float_any(i, t, in) : int_two(i, t, in);
}

/* The usual case without modifiers, one lane after the other. */
static bool plain_f32(ptx_warp *w, const ptx_ins *i, uint32_t mask) {
  if (i->type[0] != PT_f32 || i->ntypes > 1 || ptx_has(i, PM_ftz) || ptx_has(i, PM_sat) ||
      ptx_rounding(i) != PM_rn)
    return false;
  PTX_EACH(l, mask) {
    float x[3] = {0};
    for (uint32_t k = 1; k < i->nargs; k++) x[k - 1] = ptx_f32(ptx_get(w, &i->args[k], l));
    float r = float32_value(i, x);
    ptx_put(w, &i->args[0], l, isnan(r) ? 0x7fffffff : ptx_bits32(r));
  }
  return true;
}

static void arithmetic(ptx_warp *w, const ptx_ins *i, uint32_t mask) {
  if (!plain_f32(w, i, mask)) ptx_apply(w, i, mask, inputs_of(i), any);
}

/* add and sub with the carry bit: .cc sets it, addc and subc take it. */
static void carried(ptx_warp *w, const ptx_ins *i, uint32_t mask, bool minus, bool take) {
  ptx_type t = (ptx_type)i->type[0];
  uint32_t n = ptx_type_bytes[t] * 8;
  PTX_EACH(l, mask) {
    uwide a = ptx_unsigned(t, ptx_get(w, &i->args[1], l)), b = ptx_unsigned(t, ptx_get(w, &i->args[2], l));
    uwide c = take ? w->carry >> l & 1 : 0, r = minus ? a - b - c : a + b + c;
    ptx_put(w, &i->args[0], l, ptx_unsigned(t, (uint64_t)r));
    if (ptx_has(i, PM_cc)) w->carry = (w->carry & ~(1u << l)) | (uint32_t)(r >> n & 1) << l;
  }
}

void ptx_run_add(ptx_warp *w, const ptx_ins *i, uint32_t mask) {
  if (i->op == PO_addc || ptx_has(i, PM_cc))
    carried(w, i, mask, false, i->op == PO_addc);
  else
    arithmetic(w, i, mask);
}

void ptx_run_sub(ptx_warp *w, const ptx_ins *i, uint32_t mask) {
  if (i->op == PO_subc || ptx_has(i, PM_cc))
    carried(w, i, mask, true, i->op == PO_subc);
  else
    arithmetic(w, i, mask);
}

void ptx_run_mul(ptx_warp *w, const ptx_ins *i, uint32_t mask) { arithmetic(w, i, mask); }

/* mad.cc and madc: the low or high half of the product, added with carry. */
static void mad_carried(ptx_warp *w, const ptx_ins *i, uint32_t mask) {
  ptx_type t = (ptx_type)i->type[0];
  uint32_t n = ptx_type_bytes[t] * 8;
  PTX_EACH(l, mask) {
    wide p = value(t, ptx_get(w, &i->args[1], l)) * value(t, ptx_get(w, &i->args[2], l));
    uint64_t part = ptx_unsigned(t, (uint64_t)(ptx_has(i, PM_hi) ? p >> n : p));
    uwide r = (uwide)part + ptx_unsigned(t, ptx_get(w, &i->args[3], l)) +
              (i->op == PO_madc ? w->carry >> l & 1 : 0);
    ptx_put(w, &i->args[0], l, ptx_unsigned(t, (uint64_t)r));
    if (ptx_has(i, PM_cc)) w->carry = (w->carry & ~(1u << l)) | (uint32_t)(r >> n & 1) << l;
  }
}

void ptx_run_mad(ptx_warp *w, const ptx_ins *i, uint32_t mask) {
  if (i->op == PO_madc || ptx_has(i, PM_cc))
    mad_carried(w, i, mask);
  else
    arithmetic(w, i, mask);
}

void ptx_run_div(ptx_warp *w, const ptx_ins *i, uint32_t mask) { arithmetic(w, i, mask); }
void ptx_run_rem(ptx_warp *w, const ptx_ins *i, uint32_t mask) { arithmetic(w, i, mask); }
void ptx_run_abs(ptx_warp *w, const ptx_ins *i, uint32_t mask) { ptx_apply(w, i, mask, 1, any); }
void ptx_run_neg(ptx_warp *w, const ptx_ins *i, uint32_t mask) { ptx_apply(w, i, mask, 1, any); }

static uint64_t three_way(const ptx_ins *i, ptx_type t, const uint64_t *in) {
  uint64_t first[2] = {any(i, t, in), in[2]};
  return any(i, t, first);
}
void ptx_run_min(ptx_warp *w, const ptx_ins *i, uint32_t mask) {
  ptx_apply(w, i, mask, inputs_of(i), i->nargs == 4 ? three_way : any);
}
void ptx_run_max(ptx_warp *w, const ptx_ins *i, uint32_t mask) { ptx_run_min(w, i, mask); }

static uint64_t mul24(const ptx_ins *i, ptx_type t, const uint64_t *in) {
  int64_t a = (int64_t)(in[0] << 40), b = (int64_t)(in[1] << 40);
  wide p =
      ptx_is_signed(t) ? (wide)(a >> 40) * (b >> 40) : (wide)((uint64_t)a >> 40) * (wide)((uint64_t)b >> 40);
  return ptx_unsigned(t, (uint64_t)(ptx_has(i, PM_hi) ? p >> 16 : p));
}
void ptx_run_mul24(ptx_warp *w, const ptx_ins *i, uint32_t mask) { ptx_apply(w, i, mask, 2, mul24); }

static uint64_t sad(const ptx_ins *i, ptx_type t, const uint64_t *in) {
  (void)i;
  wide d = value(t, in[0]) - value(t, in[1]);
  return ptx_unsigned(t, (uint64_t)(d < 0 ? -d : d) + in[2]);
}
void ptx_run_sad(ptx_warp *w, const ptx_ins *i, uint32_t mask) { ptx_apply(w, i, mask, 3, sad); }

/* dp4a.u32.s32: types of a and b say how their bytes are read. */
void ptx_run_dp4a(ptx_warp *w, const ptx_ins *i, uint32_t mask) {
  PTX_EACH(l, mask) {
    uint64_t a = ptx_get(w, &i->args[1], l), b = ptx_get(w, &i->args[2], l), sum = ptx_get(w, &i->args[3], l);
    for (uint32_t k = 0; k < 32; k += 8) {
      int64_t x = i->type[0] == PT_s32 ? (int8_t)(a >> k) : (uint8_t)(a >> k);
      int64_t y = i->type[1] == PT_s32 ? (int8_t)(b >> k) : (uint8_t)(b >> k);
      sum += (uint64_t)(x * y);
    }
    ptx_put(w, &i->args[0], l, sum & UINT32_MAX);
  }
}

void ptx_run_dp2a(ptx_warp *w, const ptx_ins *i, uint32_t mask) {
  PTX_EACH(l, mask) {
    uint64_t a = ptx_get(w, &i->args[1], l), b = ptx_get(w, &i->args[2], l), sum = ptx_get(w, &i->args[3], l);
    b >>= ptx_has(i, PM_hi) ? 16 : 0;
    for (uint32_t k = 0; k < 2; k++) {
      int64_t x = i->type[0] == PT_s32 ? (int16_t)(a >> 16 * k) : (uint16_t)(a >> 16 * k);
      int64_t y = i->type[1] == PT_s32 ? (int8_t)(b >> 8 * k) : (uint8_t)(b >> 8 * k);
      sum += (uint64_t)(x * y);
    }
    ptx_put(w, &i->args[0], l, sum & UINT32_MAX);
  }
}

/* Approximations are better here than on a device: computed in f64 and rounded once. */
static double math_value(uint32_t op, double x) {
  switch (op) {
  case PO_rcp: return 1 / x;
  case PO_sqrt: return sqrt(x);
  case PO_rsqrt: return 1 / sqrt(x);
  case PO_sin: return sin(x);
  case PO_cos: return cos(x);
  case PO_lg2: return log2(x);
  case PO_ex2: return exp2(x);
  default: return tanh(x);
  }
}

static uint64_t unary_math(const ptx_ins *i, ptx_type t, const uint64_t *in) {
  double x = ptx_float_get(t, in[0]);
  /* .approx.f32 of bf16 and without .ftz keeps subnormals; the approximations of f32 roots and logarithms do
   * too */
  if (ptx_has(i, PM_ftz)) x = ptx_flush(t, x);
  double r = math_value(i->op, x);
  if (ptx_has(i, PM_ftz)) r = ptx_flush(t, r);
  return ptx_float_put(t, r, ptx_rounding(i), false);
}
void ptx_run_unary_math(ptx_warp *w, const ptx_ins *i, uint32_t mask) {
  ptx_apply(w, i, mask, 1, unary_math);
}

static uint64_t copysign_bits(const ptx_ins *i, ptx_type t, const uint64_t *in) {
  (void)i;
  uint64_t sign = 1ull << (ptx_type_bytes[t] * 8 - 1);
  return (in[0] & sign) | (in[1] & ~sign);
}
void ptx_run_copysign(ptx_warp *w, const ptx_ins *i, uint32_t mask) {
  ptx_apply(w, i, mask, 2, copysign_bits);
}

void ptx_run_testp(ptx_warp *w, const ptx_ins *i, uint32_t mask) {
  PTX_EACH(l, mask) {
    double x = ptx_float_get((ptx_type)i->type[0], ptx_get(w, &i->args[1], l));
    double least = i->type[0] == PT_f32 ? 0x1p-126 : 0x1p-1022;
    bool r = ptx_has(i, PM_finite)       ? isfinite(x)
             : ptx_has(i, PM_infinite)   ? isinf(x)
             : ptx_has(i, PM_number)     ? !isnan(x)
             : ptx_has(i, PM_notanumber) ? isnan(x)
             : ptx_has(i, PM_normal)     ? isfinite(x) && fabs(x) >= least
                                         : x == 0 || fabs(x) < least;
    ptx_put(w, &i->args[0], l, r);
  }
}
