/* tensor.c - elements of every plain type as doubles or 64-bit integers, and rows of them. Conversions round
 * once: a double becomes a narrow float through a float rounded to odd, so that rounding it again is still to
 * nearest. */
#include "kernels.h"
#include "ir/quant/quant.h"
#include <math.h>

uint32_t tn_ref_bits(tn_dtype t) {
  static const uint8_t bits[] = {0,
#define TN_X(name, b, c) b,
                                 TN_DTYPES(TN_X)
#undef TN_X
  };
  return t < TN_COUNT(bits) ? bits[t] : 0;
}

bool tn_ref_block(tn_dtype t, uint32_t *values, uint32_t *bytes) {
  const tn_quant *row = tn_quant_of(t);
  if (t < TN_DT_BLOCK) {
    *values = 1;
    *bytes = tn_ref_bits(t) / 8;
    return *bytes != 0;
  }
  if (!row) return false;
  *values = row->values;
  *bytes = row->bytes;
  return true;
}

int64_t tn_ref_count(const tn_ref_tensor *t) {
  int64_t n = 1;
  for (uint32_t i = 0; i < t->rank; i++) n *= t->dims[i];
  return n;
}

uint64_t tn_ref_bytes(const tn_ir *ir, const tn_ref_tensor *t) {
  (void)ir;
  uint64_t n = (uint64_t)tn_ref_count(t);
  uint32_t values, bytes;
  if (tn_ref_block(t->dtype, &values, &bytes)) return n / values * bytes;
  return (n * tn_ref_bits(t->dtype) + 7) / 8;
}

/* ---- one element
 * -------------------------------------------------------------------------------------------- */
static inline float half_to_float(uint16_t h) {
  union {
    uint32_t u;
    float f;
  } x = {(uint32_t)(h & 0x7fff) << 13}, low = {113u << 23};
  uint32_t exponent = x.u & 0x0f800000;
  x.u += 112u << 23;
  if (exponent == 0x0f800000)
    x.u += 112u << 23; /* infinity and NaN */
  else if (!exponent) {
    x.u += 1u << 23;
    x.f -= low.f;
  } /* denormal */
  x.u |= (uint32_t)(h & 0x8000) << 16;
  return x.f;
}

/* The float next to v with an odd last bit, unless v is a float itself. */
static float round_to_odd(double v) {
  union {
    float f;
    uint32_t u;
  } x = {(float)v};
  if (isnan(v) || (double)x.f == v || x.u & 1) return x.f;
  return nextafterf(x.f, v > (double)x.f ? INFINITY : -INFINITY);
}

/* The narrow floats, by their form; false: not one of them. */
static bool f8_form(tn_dtype t, tn_f8 *form) {
  switch (t) {
  case TN_DT_f8e4m3: *form = TN_F8E4M3; return true;
  case TN_DT_f8e5m2: *form = TN_F8E5M2; return true;
  case TN_DT_f8e4m3fnuz: *form = TN_F8E4M3FNUZ; return true;
  case TN_DT_f8e5m2fnuz: *form = TN_F8E5M2FNUZ; return true;
  case TN_DT_f4e2m1: *form = TN_F4E2M1; return true;
  default: return false;
  }
}

static int64_t sub_byte(const tn_ref_tensor *t, int64_t i) {
  uint32_t bits = tn_ref_bits(t->dtype), per = 8 / bits;
  uint32_t q = ((const uint8_t *)t->data)[(uint64_t)i / per] >> (uint64_t)i % per * bits & ((1u << bits) - 1);
  bool negative = tn_ref_class(t->dtype) == TN_CLASS_INT && q >> (bits - 1);
  return negative ? (int64_t)q - (1 << bits) : (int64_t)q;
}

static void set_sub_byte(tn_ref_tensor *t, int64_t i, int64_t v) {
  uint32_t bits = tn_ref_bits(t->dtype), per = 8 / bits, shift = (uint32_t)((uint64_t)i % per) * bits;
  uint8_t *p = (uint8_t *)t->data + (uint64_t)i / per;
  uint32_t mask = ((1u << bits) - 1) << shift;
  *p = (uint8_t)((*p & ~mask) | (((uint32_t)v << shift) & mask));
}

int64_t tn_ref_get_int(const tn_ref_tensor *t, int64_t i) {
  switch (t->dtype) {
  case TN_DT_i64:
  case TN_DT_u64: return ((const int64_t *)t->data)[i];
  case TN_DT_i32: return ((const int32_t *)t->data)[i];
  case TN_DT_u32: return ((const uint32_t *)t->data)[i];
  case TN_DT_i16: return ((const int16_t *)t->data)[i];
  case TN_DT_u16: return ((const uint16_t *)t->data)[i];
  case TN_DT_i8: return ((const int8_t *)t->data)[i];
  case TN_DT_u8: return ((const uint8_t *)t->data)[i];
  case TN_DT_bool: return ((const uint8_t *)t->data)[i] != 0;
  case TN_DT_i4:
  case TN_DT_u4:
  case TN_DT_i2:
  case TN_DT_u2: return sub_byte(t, i);
  default: {
    int64_t v;
    tn_ref_tensor as = {TN_DT_i64, 0, {0}, &v};
    tn_ref_set(&as, 0, tn_ref_get(t, i));
    return v;
  }
  }
}

double tn_ref_get(const tn_ref_tensor *t, int64_t i) {
  switch (t->dtype) {
  case TN_DT_f64: return ((const double *)t->data)[i];
  case TN_DT_f32: return (double)((const float *)t->data)[i];
  case TN_DT_f16: return (double)half_to_float(((const uint16_t *)t->data)[i]);
  case TN_DT_bf16: return (double)tn_bf16_to_f32(((const uint16_t *)t->data)[i]);
  case TN_DT_f8e4m3:
  case TN_DT_f8e5m2:
  case TN_DT_f8e4m3fnuz:
  case TN_DT_f8e5m2fnuz: {
    tn_f8 form = TN_F8E4M3;
    f8_form(t->dtype, &form);
    return (double)tn_f8_to_f32(form, ((const uint8_t *)t->data)[i]);
  }
  case TN_DT_f8e8m0: return (double)tn_f8e8m0_to_f32(((const uint8_t *)t->data)[i]);
  case TN_DT_f4e2m1: return (double)tn_f8_to_f32(TN_F4E2M1, (uint8_t)sub_byte(t, i));
  case TN_DT_u64: return (double)((const uint64_t *)t->data)[i];
  default: return (double)tn_ref_get_int(t, i);
  }
}

void tn_ref_set_int(tn_ref_tensor *t, int64_t i, int64_t v) {
  switch (t->dtype) {
  case TN_DT_i64:
  case TN_DT_u64: ((int64_t *)t->data)[i] = v; break;
  case TN_DT_i32:
  case TN_DT_u32: ((uint32_t *)t->data)[i] = (uint32_t)v; break;
  case TN_DT_i16:
  case TN_DT_u16: ((uint16_t *)t->data)[i] = (uint16_t)v; break;
  case TN_DT_i8:
  case TN_DT_u8: ((uint8_t *)t->data)[i] = (uint8_t)v; break;
  case TN_DT_bool: ((uint8_t *)t->data)[i] = v != 0; break;
  case TN_DT_i4:
  case TN_DT_u4:
  case TN_DT_i2:
  case TN_DT_u2: set_sub_byte(t, i, v); break;
  case TN_DT_f32: ((float *)t->data)[i] = (float)v; break;
  default: tn_ref_set(t, i, (double)v);
  }
}

/* Towards zero and saturating; NaN gives 0. */
static void set_integer(tn_ref_tensor *t, int64_t i, double v) {
  uint32_t bits = tn_ref_bits(t->dtype);
  bool is_signed = tn_ref_class(t->dtype) == TN_CLASS_INT;
  double high = ldexp(1, (int)bits - is_signed), low = is_signed ? -high : 0; /* [low, high) */
  uint64_t top = is_signed ? UINT64_MAX >> (65 - bits) : UINT64_MAX >> (64 - bits);
  if (isnan(v))
    tn_ref_set_int(t, i, 0);
  else if (v >= high)
    tn_ref_set_int(t, i, (int64_t)top);
  else if (v <= low)
    tn_ref_set_int(t, i, is_signed ? -(int64_t)top - 1 : 0);
  else
    tn_ref_set_int(t, i, is_signed ? (int64_t)v : (int64_t)(uint64_t)v);
}

void tn_ref_set_narrow(tn_ref_tensor *t, int64_t i, double v, bool saturate, int up) {
  tn_f8 form;
  uint8_t *p = (uint8_t *)t->data + i;
  if (t->dtype == TN_DT_f8e8m0)
    *p = tn_f32_to_f8e8m0(round_to_odd(v), up, saturate);
  else if (f8_form(t->dtype, &form))
    *p = tn_f32_to_f8(form, round_to_odd(v), saturate);
}

void tn_ref_set(tn_ref_tensor *t, int64_t i, double v) {
  switch (t->dtype) {
  case TN_DT_f64: ((double *)t->data)[i] = v; break;
  case TN_DT_f32: ((float *)t->data)[i] = (float)v; break;
  case TN_DT_f16: ((uint16_t *)t->data)[i] = tn_f32_to_f16(round_to_odd(v)); break;
  case TN_DT_bf16: ((uint16_t *)t->data)[i] = tn_f32_to_bf16(round_to_odd(v)); break;
  case TN_DT_f8e4m3: tn_ref_set_narrow(t, i, v, true, 0); break;
  case TN_DT_f8e5m2:
  case TN_DT_f8e4m3fnuz:
  case TN_DT_f8e5m2fnuz:
  case TN_DT_f8e8m0: tn_ref_set_narrow(t, i, v, false, 0); break;
  case TN_DT_f4e2m1: set_sub_byte(t, i, tn_f32_to_f8(TN_F4E2M1, round_to_odd(v), true)); break;
  case TN_DT_bool: ((uint8_t *)t->data)[i] = v != 0; break;
  default: set_integer(t, i, v);
  }
}

/* ---- rows
 * --------------------------------------------------------------------------------------------------- */
/* Any stretch of a block format: whole blocks are rebuilt, the values asked for taken out. */
static void load_blocks(const tn_ref_tensor *t, int64_t first, int64_t n, double *out) {
  float values[256];
  uint32_t per, bytes;
  if (!tn_ref_block(t->dtype, &per, &bytes) || per > TN_COUNT(values)) return;
  for (int64_t at = first; at < first + n;) {
    int64_t block = at / per, skip = at % per;
    int64_t take = per - skip < first + n - at ? per - skip : first + n - at;
    tn_ref_dequant(t->dtype, (const uint8_t *)t->data + block * bytes, values, per);
    for (int64_t i = 0; i < take; i++) *out++ = (double)values[skip + i];
    at += take;
  }
}

void tn_ref_load(const tn_ref_tensor *t, int64_t first, int64_t n, double *out) {
  const float *f = (const float *)t->data + first;
  const uint16_t *h = (const uint16_t *)t->data + first;
  switch (t->dtype) {
  case TN_DT_f32:
    for (int64_t i = 0; i < n; i++) out[i] = (double)f[i];
    return;
  case TN_DT_f16:
    for (int64_t i = 0; i < n; i++) out[i] = (double)half_to_float(h[i]);
    return;
  case TN_DT_bf16:
    for (int64_t i = 0; i < n; i++) out[i] = (double)tn_bf16_to_f32(h[i]);
    return;
  default: break;
  }
  if (t->dtype >= TN_DT_BLOCK)
    load_blocks(t, first, n, out);
  else
    for (int64_t i = 0; i < n; i++) out[i] = tn_ref_get(t, first + i);
}

void tn_ref_store(tn_ref_tensor *t, int64_t first, int64_t n, const double *in) {
  if (t->dtype == TN_DT_f32) {
    float *f = (float *)t->data + first;
    for (int64_t i = 0; i < n; i++) f[i] = (float)in[i];
  } else
    for (int64_t i = 0; i < n; i++) tn_ref_set(t, first + i, in[i]);
}

void tn_ref_load_int(const tn_ref_tensor *t, int64_t first, int64_t n, int64_t *out) {
  for (int64_t i = 0; i < n; i++) out[i] = tn_ref_get_int(t, first + i);
}

void tn_ref_store_int(tn_ref_tensor *t, int64_t first, int64_t n, const int64_t *in) {
  for (int64_t i = 0; i < n; i++) tn_ref_set_int(t, first + i, in[i]);
}

void tn_ref_copy(tn_ref_tensor *to, int64_t at, const tn_ref_tensor *from, int64_t first, int64_t n) {
  uint32_t values, bytes;
  if (!tn_ref_block(from->dtype, &values, &bytes)) {
    for (int64_t i = 0; i < n; i++) set_sub_byte(to, at + i, sub_byte(from, first + i));
    return;
  }
  uint8_t *dst = (uint8_t *)to->data + at / values * bytes;
  const uint8_t *src = (const uint8_t *)from->data + first / values * bytes;
  if (n == 1 && bytes == 4)
    memcpy(dst, src, 4);
  else
    memcpy(dst, src, (size_t)(n / values * bytes));
}

void tn_ref_zero(tn_ref_tensor *t, int64_t at, int64_t n) {
  uint32_t values, bytes;
  if (tn_ref_block(t->dtype, &values, &bytes))
    memset((uint8_t *)t->data + at / values * bytes, 0, (size_t)(n / values * bytes));
  else
    for (int64_t i = 0; i < n; i++) set_sub_byte(t, at + i, 0);
}
