/* numbers.c - numbers of every stored type as f32, and back into the plain ones. */
#include "frontend/checkpoint/ck.h"
#include "ir/quant/encode.h"
#include <math.h>

static const uint8_t plain_bits[TN_DT_PLAIN_END] = {
#define TN_X(name, bits, cls) [TN_DT_##name] = (bits),
    TN_DTYPES(TN_X)
#undef TN_X
};

bool ck_is_block(tn_dtype t) { return tn_quant_of(t) != NULL; }

uint64_t ck_bytes_of(tn_dtype t, uint64_t values) {
  const tn_quant *q = tn_quant_of(t);
  uint64_t bits;
  if (q) return values % q->values ? 0 : values / q->values * q->bytes;
  if (t >= TN_DT_PLAIN_END || !tn_mul_u64(values, plain_bits[t], &bits) || bits % 8) return 0;
  return bits / 8;
}

uint64_t ck_columns_of(const tn_ck_tensor *t) { return t->rank ? (uint64_t)t->shape[t->rank - 1] : 1; }

uint64_t ck_rows_of(const tn_ck_tensor *t) {
  uint64_t n = 1;
  for (uint32_t i = 0; i + 1 < t->rank; i++) n *= (uint64_t)t->shape[i];
  return n;
}

#define CAST(type, size, expr)                                                                               \
  static void from_##type(const void *in, uint64_t n, float *out) {                                          \
    const uint8_t *p = in;                                                                                   \
    for (uint64_t i = 0; i < n; i++, p += sizeof(size)) {                                                    \
      size x;                                                                                                \
      memcpy(&x, p, sizeof x);                                                                               \
      out[i] = (expr);                                                                                       \
    }                                                                                                        \
  }
CAST(f64, double, (float)x)
CAST(f32, float, x)
CAST(f16, uint16_t, tn_f16_to_f32(x))
CAST(bf16, uint16_t, tn_bf16_to_f32(x))
CAST(f8e4m3, uint8_t, tn_f8_to_f32(TN_F8E4M3, x))
CAST(f8e5m2, uint8_t, tn_f8_to_f32(TN_F8E5M2, x))
CAST(f8e4m3fnuz, uint8_t, tn_f8_to_f32(TN_F8E4M3FNUZ, x))
CAST(f8e5m2fnuz, uint8_t, tn_f8_to_f32(TN_F8E5M2FNUZ, x))
CAST(f8e8m0, uint8_t, tn_f8e8m0_to_f32(x))
CAST(i64, int64_t, (float)x)
CAST(i32, int32_t, (float)x)
CAST(i16, int16_t, (float)x)
CAST(i8, int8_t, (float)x)
CAST(u64, uint64_t, (float)x)
CAST(u32, uint32_t, (float)x)
CAST(u16, uint16_t, (float)x)
CAST(u8, uint8_t, (float)x)
#undef CAST

static void (*const casts[TN_DT_PLAIN_END])(const void *in, uint64_t n, float *out) = {
    [TN_DT_f64] = from_f64,
    [TN_DT_f32] = from_f32,
    [TN_DT_f16] = from_f16,
    [TN_DT_bf16] = from_bf16,
    [TN_DT_f8e4m3] = from_f8e4m3,
    [TN_DT_f8e5m2] = from_f8e5m2,
    [TN_DT_f8e4m3fnuz] = from_f8e4m3fnuz,
    [TN_DT_f8e5m2fnuz] = from_f8e5m2fnuz,
    [TN_DT_f8e8m0] = from_f8e8m0,
    [TN_DT_i64] = from_i64,
    [TN_DT_i32] = from_i32,
    [TN_DT_i16] = from_i16,
    [TN_DT_i8] = from_i8,
    [TN_DT_u64] = from_u64,
    [TN_DT_u32] = from_u32,
    [TN_DT_u16] = from_u16,
    [TN_DT_u8] = from_u8,
    [TN_DT_bool] = from_u8,
};

void ck_to_f32(tn_dtype t, const void *in, uint64_t n, float *out) {
  const tn_quant *q = tn_quant_of(t);
  const uint8_t *p = in;
  if (!q && t < TN_DT_PLAIN_END && casts[t])
    casts[t](in, n, out);
  else if (q)
    for (uint64_t i = 0; i + q->values <= n; i += q->values, p += q->bytes) tn_quant_unpack(q, p, out + i);
  else
    memset(out, 0, n * sizeof *out);
}

static void to_halves(tn_dtype t, const float *in, uint64_t n, uint8_t *out) {
  for (uint64_t i = 0; i < n; i++, out += 2) {
    uint16_t h = t == TN_DT_f16 ? tn_f32_to_f16(in[i]) : tn_f32_to_bf16(in[i]);
    memcpy(out, &h, 2);
  }
}

/* The casts that copying a model needs are here, so that numbers which are not finite stay what they are. */
tn_status ck_encode(tn_dtype t, const float *in, uint64_t rows, uint64_t columns, const float *importance,
                    uint8_t *out, uint64_t *bad) {
  if (t == TN_DT_f32)
    memcpy(out, in, rows * columns * sizeof *in);
  else if (t == TN_DT_f16 || t == TN_DT_bf16)
    to_halves(t, in, rows * columns, out);
  else
    return tn_encode_rows(t, in, rows, columns, importance, out, bad);
  return TN_OK;
}
