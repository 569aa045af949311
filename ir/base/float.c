/* float.c - narrow floats, exactly: widening keeps every value, narrowing rounds to nearest, ties to even,
 * from the full single-precision value (never through another narrow type, which would round twice). */
#include "ir/base/base.h"

static uint32_t bits_of(float f) {
  uint32_t u;
  memcpy(&u, &f, sizeof u);
  return u;
}

static float float_of(uint32_t u) {
  float f;
  memcpy(&f, &u, sizeof f);
  return f;
}

/* Layout of a narrow float: sign, exponent, mantissa, most significant first. */
typedef struct narrow {
  int ebits, mbits, bias;
} narrow;
static const narrow f16 = {5, 10, 15};

/* The finite value of `code` (sign removed), all exponents taken as ordinary. */
static float widen(uint32_t code, narrow k) {
  uint32_t mantissa = code & ((1u << k.mbits) - 1), e = code >> k.mbits;
  if (e) return float_of((e + 127u - (uint32_t)k.bias) << 23 | mantissa << (23 - k.mbits));
  /* Subnormal: mantissa * 2^(1 - bias - mbits), a power of two that single precision holds exactly. */
  return (float)mantissa * float_of((uint32_t)(128 - k.bias - k.mbits) << 23);
}

/* |x| (bits of a finite float) to the nearest code, exponents unlimited upwards: the caller saturates. */
static uint32_t round_to(uint32_t abs, narrow k) {
  int drop = 23 - k.mbits, e = (int)(abs >> 23);
  uint32_t least = (uint32_t)(128 - k.bias) << 23; /* the smallest normal number */
  if (abs >= least) {
    uint32_t odd = abs >> drop & 1;
    return (abs + (1u << (drop - 1)) - 1 + odd - ((uint32_t)(127 - k.bias) << 23)) >> drop;
  }
  /* Subnormal: count units of 2^(1 - bias - mbits). */
  int shift = 128 - k.bias - e + drop;
  if (shift > 24 || !e) return 0;
  uint32_t m = (abs & 0x7fffff) | 0x800000, code = m >> shift, rest = m & ((1u << shift) - 1),
           half = 1u << (shift - 1);
  return code + (rest > half || (rest == half && (code & 1)));
}

float tn_f16_to_f32(uint16_t h) {
  uint32_t sign = (uint32_t)(h & 0x8000) << 16, abs = h & 0x7fff;
  if (abs >= 0x7c00) return float_of(sign | 0x7f800000 | (abs & 0x3ff) << 13);
  return float_of(sign | bits_of(widen(abs, f16)));
}

uint16_t tn_f32_to_f16(float f) {
  uint32_t u = bits_of(f), abs = u & 0x7fffffff, sign = u >> 16 & 0x8000;
  if (abs > 0x7f800000) return (uint16_t)(sign | 0x7e00 | (abs >> 13 & 0x3ff));
  if (abs >= 0x477ff000) return (uint16_t)(sign | 0x7c00); /* 65520 and above round to infinity */
  return (uint16_t)(sign | round_to(abs, f16));
}

uint16_t tn_f32_to_bf16(float f) {
  uint32_t u = bits_of(f);
  if ((u & 0x7fffffff) > 0x7f800000) return (uint16_t)(u >> 16 | 0x40);
  return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

/* The forms of 8 and 4 bits: the layout, the bits of a magnitude, its largest finite code, what overflows to
 * when nothing saturates, and NaN. */
static const struct form {
  narrow layout;
  uint8_t bits, last, over, nan;
  bool fnuz;
} forms[] = {
    [TN_F8E4M3] = {{4, 3, 7}, 7, 0x7e, 0x7f, 0x7f, false}, /* OCP OFP8, "FN": no infinities */
    [TN_F8E5M2] = {{5, 2, 15}, 7, 0x7b, 0x7c, 0x7e, false},
    [TN_F8E4M3FNUZ] = {{4, 3, 8}, 7, 0x7f, 0x80, 0x80, true},
    [TN_F8E5M2FNUZ] = {{5, 2, 16}, 7, 0x7f, 0x80, 0x80, true},
    [TN_F4E2M1] = {{2, 1, 1}, 3, 7, 7, 0, false},
};

float tn_f8_to_f32(tn_f8 form, uint8_t code) {
  const struct form *k = &forms[form];
  uint32_t abs = code & ((1u << k->bits) - 1), sign = (uint32_t)(code >> k->bits & 1) << 31;
  if (k->fnuz && code == k->nan) return float_of(0x7fc00000);
  if (abs <= k->last) return float_of(sign | bits_of(widen(abs, k->layout)));
  bool infinity = k->over != k->nan && abs == k->over;
  uint32_t payload = (abs & ((1u << k->layout.mbits) - 1)) << (23 - k->layout.mbits);
  return float_of(sign | (infinity ? 0x7f800000 : 0x7f800000 | payload));
}

uint8_t tn_f32_to_f8(tn_f8 form, float f, bool saturate) {
  const struct form *k = &forms[form];
  uint32_t u = bits_of(f), abs = u & 0x7fffffff, sign = u >> 31 << k->bits;
  if (abs > 0x7f800000) return k->fnuz ? k->nan : form == TN_F4E2M1 ? 8 : (uint8_t)(sign | k->nan);
  uint32_t code = round_to(abs, k->layout);
  if (code > k->last) code = saturate ? k->last : k->over;
  return k->fnuz && (!code || code == k->nan) ? (uint8_t)code : (uint8_t)(sign | code);
}

float tn_f8e8m0_to_f32(uint8_t code) {
  if (code == 0xff) return float_of(0x7fc00000);
  return float_of(code ? (uint32_t)code << 23 : 1u << 22);
}

uint8_t tn_f32_to_f8e8m0(float f, int up, bool saturate) {
  uint32_t abs = bits_of(f) & 0x7fffffff, e = abs >> 23, rest = abs & 0x7fffff;
  if (e == 0xff) return 0xff;
  bool step = up > 0 ? rest != 0 : !up && (rest > 0x400000 || (rest == 0x400000 && e));
  return (uint8_t)(e + (step && !(saturate && e == 0xfe)));
}
