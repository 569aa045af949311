/* convert.c - element types in registers. The narrow floats are taken apart with integer instructions, since
 * what LLVM would call for them (__truncsfbf2 and friends) is not in an artefact. */
#include "backends/llvm/convert.h"

tn_ll_dtype tn_ll_dtype_of(tn_dtype t) {
  switch (t) {
#define TN_X(name, bits, cls)                                                                                \
  case TN_DT_##name: return (tn_ll_dtype){((bits) + 7) / 8, TN_CLASS_##cls, (bits) < 8 ? (bits) : 0, true};
    TN_DTYPES(TN_X)
#undef TN_X
  default: return (tn_ll_dtype){0, t >= TN_DT_BLOCK ? TN_CLASS_BLOCK : 0, 0, false};
  }
}

ll_type tn_ll_memory_type(tn_ll *e, tn_dtype t) {
  if (t == TN_DT_f64) return e->f64;
  if (t == TN_DT_f32 || t >= TN_DT_BLOCK) return e->f32;
  if (t == TN_DT_f16) return e->f16;
  switch (tn_ll_dtype_of(t).bytes) {
  case 1: return e->i8;
  case 2: return e->i16;
  case 4: return e->i32;
  default: return e->i64;
  }
}
ll_type tn_ll_register_type(tn_ll *e, tn_dtype t) {
  return t == TN_DT_bool ? e->i1 : tn_ll_memory_type(e, t);
}
ll_val tn_ll_from_memory(tn_ll *e, tn_dtype t, ll_val v) {
  return t == TN_DT_bool ? ll_icmp(e, LLVMIntNE, v, ll_i(e, v, 0)) : v;
}
ll_val tn_ll_to_memory(tn_ll *e, tn_dtype t, ll_val v) {
  return t == TN_DT_bool ? LLVMBuildZExt(e->b, v, ll_like(e, v, e->i8), "") : v;
}

/* ---- bf16 ---- */
static ll_val bf16_widen(tn_ll *e, ll_val v) {
  ll_val w = LLVMBuildZExt(e->b, v, ll_like(e, v, e->i32), "");
  return ll_cast_bits(e, ll_shl(e, w, ll_i(e, w, 16)), ll_like(e, v, e->f32));
}
static ll_val bf16_narrow(tn_ll *e, ll_val f) {
  ll_val b = ll_cast_bits(e, f, ll_like(e, f, e->i32));
  ll_val odd = ll_and(e, ll_lshr(e, b, ll_i(e, b, 16)), ll_i(e, b, 1));
  ll_val up = ll_lshr(e, ll_add(e, b, ll_add(e, odd, ll_i(e, b, 0x7fff))), ll_i(e, b, 16));
  ll_val nan = ll_or(e, ll_lshr(e, b, ll_i(e, b, 16)), ll_i(e, b, 0x40));
  ll_val r = ll_select(e, ll_fcmp(e, LLVMRealUNO, f, f), nan, up);
  return LLVMBuildTrunc(e->b, r, ll_like(e, f, e->i16), "");
}

/* ---- floats of 8 and 4 bits ---- */
/* `man` mantissa bits, bias of the exponent; codes: largest finite, what overflows to, NaN; the sign's bit;
 * fnuz: the code of -0 is NaN. */
typedef struct f8_form {
  int man, bias, last, over, nan, sign;
  bool fnuz, saturates;
} f8_form;
static const f8_form *f8_of(tn_dtype t) {
  static const f8_form e4m3 = {3, 7, 0x7e, 0x7f, 0x7f, 7, false, true},
                       e5m2 = {2, 15, 0x7b, 0x7c, 0x7e, 7, false, false},
                       e4m3fnuz = {3, 8, 0x7f, 0x80, 0x80, 7, true, false},
                       e5m2fnuz = {2, 16, 0x7f, 0x80, 0x80, 7, true, false},
                       e2m1 = {1, 1, 7, 7, 8, 3, false, true};
  switch (t) {
  case TN_DT_f8e4m3: return &e4m3;
  case TN_DT_f8e5m2: return &e5m2;
  case TN_DT_f8e4m3fnuz: return &e4m3fnuz;
  case TN_DT_f8e5m2fnuz: return &e5m2fnuz;
  case TN_DT_f4e2m1: return &e2m1;
  default: return NULL;
  }
}

static ll_val f8_widen(tn_ll *e, const f8_form *f, ll_val v) {
  ll_val w = LLVMBuildZExt(e->b, v, ll_like(e, v, e->i32), "");
  ll_type tf = ll_like(e, v, e->f32), ti = LLVMTypeOf(w);
  ll_val mag = ll_and(e, w, ll_i(e, w, (1 << f->sign) - 1));
  /* with the exponent field in place, one product rebiases normal and denormal numbers alike */
  ll_val x = ll_cast_bits(e, ll_shl(e, mag, ll_i(e, w, 23 - f->man)), tf);
  x = ll_fmul(e, x, ll_bits(e, x, (uint64_t)(254 - f->bias) << 23));
  ll_val nan = ll_real(e, tf, __builtin_nan(""));
  if (f->fnuz) {
    x = ll_select(e, ll_icmp(e, LLVMIntEQ, w, ll_i(e, w, f->nan)), nan, x);
  } else if (f->last < f->over) {
    ll_val special = ll_icmp(e, LLVMIntUGT, mag, ll_i(e, w, f->last));
    ll_val inf = ll_icmp(e, LLVMIntEQ, mag, ll_i(e, w, f->over == f->nan ? -1 : f->over));
    x = ll_select(e, special, ll_select(e, inf, ll_real(e, tf, __builtin_inf()), nan), x);
  }
  ll_val sign = ll_shl(e, ll_and(e, w, ll_i(e, w, 1 << f->sign)), ll_i(e, w, 31 - f->sign));
  return ll_cast_bits(e, ll_or(e, ll_cast_bits(e, x, ti), sign), tf);
}

static ll_val f8_narrow(tn_ll *e, const f8_form *f, ll_val x, bool saturate) {
  int shift = 23 - f->man;
  ll_type ti = ll_like(e, x, e->i32);
  ll_val b = ll_cast_bits(e, x, ti), a = ll_call1(e, "llvm.fabs", x), m = ll_cast_bits(e, a, ti);
  ll_val odd = ll_and(e, ll_lshr(e, m, ll_i(e, m, shift)), ll_i(e, m, 1));
  ll_val c = ll_add(e, m, ll_add(e, odd, ll_i(e, m, (1 << (shift - 1)) - 1)));
  c = ll_sub(e, ll_lshr(e, c, ll_i(e, m, shift)), ll_i(e, m, (127 - f->bias) << f->man));
  /* below the least normal number codes count multiples of 2^(1 - bias - man) */
  ll_val unit = ll_bits(e, x, (uint64_t)(127 + f->bias - 1 + f->man) << 23);
  ll_val small = ll_fcmp(e, LLVMRealOLT, a, ll_bits(e, x, (uint64_t)(127 + 1 - f->bias) << 23));
  ll_val scaled = ll_select(e, small, ll_fmul(e, a, unit), ll_f(e, x, 0));
  c = ll_select(e, small, LLVMBuildFPToSI(e->b, ll_call1(e, "llvm.rint", scaled), ti, ""), c);
  ll_val beyond = ll_i(e, c, saturate ? f->last : f->over);
  c = ll_select(e, ll_icmp(e, LLVMIntSGT, c, ll_i(e, c, f->last)), beyond, c);
  c = ll_select(e, ll_fcmp(e, LLVMRealUNO, x, x), ll_i(e, c, f->nan), c);
  ll_val sign = ll_shl(e, ll_lshr(e, b, ll_i(e, b, 31)), ll_i(e, b, f->sign));
  if (f->fnuz) sign = ll_select(e, ll_icmp(e, LLVMIntEQ, c, ll_i(e, c, 0)), ll_i(e, c, 0), sign);
  return LLVMBuildTrunc(e->b, ll_or(e, c, sign), ll_like(e, x, e->i8), "");
}

/* f8e8m0: the exponent field of an f32, where 0 stands for 2^-127 and 255 for NaN. */
static ll_val e8m0_widen(tn_ll *e, ll_val v) {
  ll_val w = LLVMBuildZExt(e->b, v, ll_like(e, v, e->i32), "");
  ll_type tf = ll_like(e, v, e->f32);
  ll_val x = ll_shl(e, w, ll_i(e, w, 23));
  x = ll_select(e, ll_icmp(e, LLVMIntEQ, w, ll_i(e, w, 0)), ll_i(e, w, 1 << 22), x);
  x = ll_select(e, ll_icmp(e, LLVMIntEQ, w, ll_i(e, w, 255)), ll_i(e, w, 0x7fc00000), x);
  return ll_cast_bits(e, x, tf);
}
static ll_val e8m0_narrow(tn_ll *e, ll_val x, int up, bool saturate) {
  ll_val m = ll_cast_bits(e, ll_call1(e, "llvm.fabs", x), ll_like(e, x, e->i32));
  ll_val c = ll_lshr(e, m, ll_i(e, m, 23)), rest = ll_and(e, m, ll_i(e, m, 0x7fffff)), zero = ll_i(e, m, 0);
  ll_val half = ll_i(e, m, 0x400000), step = ll_icmp(e, LLVMIntUGT, rest, up ? zero : half);
  if (!up) { /* a tie goes up, but at the end of the range */
    ll_val tie = ll_icmp(e, LLVMIntEQ, rest, half);
    step = ll_or(e, step, ll_and(e, tie, ll_icmp(e, LLVMIntNE, c, zero)));
  }
  step = ll_and(e, step, ll_icmp(e, LLVMIntULT, c, ll_i(e, c, saturate ? 0xfe : 0xff)));
  if (up >= 0) c = ll_select(e, step, ll_add(e, c, ll_i(e, c, 1)), c);
  return LLVMBuildTrunc(e->b, c, ll_like(e, x, e->i8), "");
}

/* ---- integers of 4 and 2 bits ---- */
ll_val tn_ll_wrap(tn_ll *e, tn_dtype t, ll_val v) {
  tn_ll_dtype d = tn_ll_dtype_of(t);
  if (!d.packed) return v;
  if (d.cls != TN_CLASS_INT) return ll_and(e, v, ll_i(e, v, (1 << d.packed) - 1));
  ll_val shift = ll_i(e, v, 8 - d.packed);
  return ll_ashr(e, ll_shl(e, v, shift), shift);
}

/* ---- compute form ---- */
ll_val tn_ll_to_compute(tn_ll *e, tn_dtype t, ll_val v) {
  const f8_form *f = f8_of(t);
  if (f) return f8_widen(e, f, v);
  switch (t) {
  case TN_DT_f16: return LLVMBuildFPExt(e->b, v, ll_like(e, v, e->f32), "");
  case TN_DT_bf16: return bf16_widen(e, v);
  case TN_DT_f8e8m0: return e8m0_widen(e, v);
  default: return v;
  }
}
ll_val tn_ll_from_compute(tn_ll *e, tn_dtype t, ll_val v) {
  const f8_form *f = f8_of(t);
  if (f) return f8_narrow(e, f, v, f->saturates);
  switch (t) {
  case TN_DT_f16: return LLVMBuildFPTrunc(e->b, v, ll_like(e, v, e->f16), "");
  case TN_DT_bf16: return bf16_narrow(e, v);
  case TN_DT_f8e8m0: return e8m0_narrow(e, v, 0, false);
  default: return v;
  }
}

/* f64 to f32 rounding to odd, so that a second rounding to a narrower type is right. */
static ll_val narrow_to_odd(tn_ll *e, ll_val v) {
  ll_type ti = ll_like(e, v, e->i32);
  ll_val f = LLVMBuildFPTrunc(e->b, v, ll_like(e, v, e->f32), "");
  ll_val back = LLVMBuildFPExt(e->b, f, LLVMTypeOf(v), ""), bits = ll_cast_bits(e, f, ti);
  ll_val inexact = ll_fcmp(e, LLVMRealONE, back, v);
  ll_val even = ll_icmp(e, LLVMIntEQ, ll_and(e, bits, ll_i(e, bits, 1)), ll_i(e, bits, 0));
  ll_val away = ll_fcmp(e, LLVMRealOGT, ll_call1(e, "llvm.fabs", back), ll_call1(e, "llvm.fabs", v));
  ll_val step = ll_select(e, away, ll_i(e, bits, -1), ll_i(e, bits, 1));
  ll_val odd = ll_select(e, ll_and(e, inexact, even), ll_add(e, bits, step), bits);
  return ll_cast_bits(e, odd, LLVMTypeOf(f));
}

static ll_val float_to_float(tn_ll *e, tn_dtype from, tn_dtype to, ll_val v) {
  v = tn_ll_to_compute(e, from, v);
  if (to == TN_DT_f64) return from == TN_DT_f64 ? v : LLVMBuildFPExt(e->b, v, ll_like(e, v, e->f64), "");
  if (from == TN_DT_f64 && to == TN_DT_f32) return LLVMBuildFPTrunc(e->b, v, ll_like(e, v, e->f32), "");
  return tn_ll_from_compute(e, to, from == TN_DT_f64 ? narrow_to_odd(e, v) : v);
}

static ll_val to_bool(tn_ll *e, tn_dtype from, ll_val v) {
  if (tn_ll_dtype_of(from).cls != TN_CLASS_FLOAT) return ll_icmp(e, LLVMIntNE, v, ll_i(e, v, 0));
  v = tn_ll_to_compute(e, from, v);
  return ll_fcmp(e, LLVMRealUNE, v, ll_f(e, v, 0));
}

/* f32 to 8 or 16 bits: kept within their range as floats (NaN becomes 0), then by way of i32, which vectors
 * can. */
static ll_val float_to_small(tn_ll *e, tn_dtype to, ll_val v) {
  tn_ll_dtype d = tn_ll_dtype_of(to);
  bool sign = d.cls == TN_CLASS_INT;
  double top = (1 << (8 * d.bytes - sign)) - 1, least = sign ? -top - 1 : 0;
  v = ll_select(e, ll_fcmp(e, LLVMRealORD, v, v), v, ll_f(e, v, 0));
  v = ll_select(e, ll_fcmp(e, LLVMRealOGT, v, ll_f(e, v, least)), v, ll_f(e, v, least));
  v = ll_select(e, ll_fcmp(e, LLVMRealOLT, v, ll_f(e, v, top)), v, ll_f(e, v, top));
  v = LLVMBuildFPToSI(e->b, v, ll_like(e, v, e->i32), "");
  return LLVMBuildTrunc(e->b, v, ll_like(e, v, tn_ll_register_type(e, to)), "");
}

static ll_val float_to_int(tn_ll *e, tn_dtype from, tn_dtype to, ll_val v) {
  v = tn_ll_to_compute(e, from, v);
  if (ll_elem(v) == e->f32 && !tn_ll_dtype_of(to).packed && tn_ll_dtype_of(to).bytes <= 2)
    return float_to_small(e, to, v);
  ll_type over[] = {ll_like(e, v, tn_ll_register_type(e, to)), LLVMTypeOf(v)};
  tn_ll_dtype d = tn_ll_dtype_of(to);
  bool sign = d.cls == TN_CLASS_INT;
  ll_val r = ll_call(e, sign ? "llvm.fptosi.sat" : "llvm.fptoui.sat", over, 2, &v, 1);
  if (!d.packed) return r;
  int64_t top = (1 << (d.packed - sign)) - 1;
  ll_val high = ll_i(e, r, top), low = ll_i(e, r, -top - 1);
  r = ll_select(e, ll_icmp(e, sign ? LLVMIntSGT : LLVMIntUGT, r, high), high, r);
  return sign ? ll_imax(e, r, low) : r;
}

static ll_val int_to_float(tn_ll *e, tn_dtype from, tn_dtype to, ll_val v) {
  bool sign = tn_ll_dtype_of(from).cls == TN_CLASS_INT;
  bool direct = to == TN_DT_f32 || to == TN_DT_f64;
  ll_type t = ll_like(e, v, direct && to == TN_DT_f32 ? e->f32 : e->f64);
  ll_val f = sign ? LLVMBuildSIToFP(e->b, v, t, "") : LLVMBuildUIToFP(e->b, v, t, "");
  return direct ? f : float_to_float(e, TN_DT_f64, to, f);
}

static ll_val int_to_int(tn_ll *e, tn_dtype from, tn_dtype to, ll_val v) {
  ll_type t = ll_like(e, v, tn_ll_register_type(e, to));
  uint32_t a = from == TN_DT_bool ? 0 : tn_ll_dtype_of(from).bytes, b = tn_ll_dtype_of(to).bytes;
  if (a && tn_ll_dtype_of(to).packed) return tn_ll_wrap(e, to, a > b ? LLVMBuildTrunc(e->b, v, t, "") : v);
  if (a == b) return v;
  if (a > b) return LLVMBuildTrunc(e->b, v, t, "");
  if (tn_ll_dtype_of(from).cls == TN_CLASS_INT) return LLVMBuildSExt(e->b, v, t, "");
  return LLVMBuildZExt(e->b, v, t, "");
}

ll_val tn_ll_convert(tn_ll *e, tn_dtype from, tn_dtype to, ll_val v) {
  if (from >= TN_DT_BLOCK) from = TN_DT_f32; /* what a block element is in registers */
  if (from == to) return v;
  bool ff = tn_ll_dtype_of(from).cls == TN_CLASS_FLOAT, tf = tn_ll_dtype_of(to).cls == TN_CLASS_FLOAT;
  if (to == TN_DT_bool) return to_bool(e, from, v);
  if (ff && tf) return float_to_float(e, from, to, v);
  if (ff) return float_to_int(e, from, to, v);
  return tf ? int_to_float(e, from, to, v) : int_to_int(e, from, to, v);
}
ll_val tn_ll_cast(tn_ll *e, tn_dtype from, tn_dtype to, ll_val v, const char *overflow, const char *round) {
  const f8_form *f = f8_of(to);
  bool saturate = !strcmp(overflow, "largest"),
       plain = !strcmp(overflow, "type") && !strcmp(round, "nearest");
  if (plain || (!f && to != TN_DT_f8e8m0) || from == to) return tn_ll_convert(e, from, to, v);
  if (from == TN_DT_f64)
    v = narrow_to_odd(e, v);
  else if (tn_ll_dtype_of(from).cls != TN_CLASS_FLOAT)
    v = narrow_to_odd(e, tn_ll_convert(e, from, TN_DT_f64, v));
  else
    v = tn_ll_to_compute(e, from, v);
  if (f) return f8_narrow(e, f, v, saturate);
  return e8m0_narrow(e, v, !strcmp(round, "up") ? 1 : !strcmp(round, "down") ? -1 : 0, saturate);
}
ll_val tn_ll_to_f32(tn_ll *e, tn_dtype t, ll_val v) { return tn_ll_convert(e, t, TN_DT_f32, v); }

ll_val tn_ll_round_bf16(tn_ll *e, ll_val v) {
  ll_val r = LLVMBuildFPTrunc(e->b, v, ll_like(e, v, LLVMBFloatTypeInContext(e->ctx)), "");
  return ll_cast_bits(e, r, ll_like(e, v, e->i16));
}
