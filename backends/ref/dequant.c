/* dequant.c - rebuilds the values of block formats (ir/quant.def), one function per row. Arithmetic is float,
 * in the order of the GGUF specification, so that results are bit-exact with other readers of the format. */
#include "kernels.h"

static float half_at(const uint8_t *p) { return tn_f16_to_f32((uint16_t)(p[0] | p[1] << 8)); }
static uint32_t nibble(const uint8_t *q, int i) { return i < 16 ? q[i] & 15u : q[i - 16] >> 4; }
static uint32_t five_bits(const uint8_t *high, const uint8_t *q, int i) {
  return nibble(q, i) | (uint32_t)(high[i / 8] >> i % 8 & 1) << 4;
}

static void dequant_q4_0(const uint8_t *p, float *out) {
  float d = half_at(p);
  for (int i = 0; i < 32; i++) out[i] = (float)((int)nibble(p + 2, i) - 8) * d;
}

static void dequant_q4_1(const uint8_t *p, float *out) {
  float d = half_at(p), m = half_at(p + 2);
  for (int i = 0; i < 32; i++) {
    volatile float scaled = (float)nibble(p + 4, i) * d; /* rounded before the sum: no fused multiply-add */
    out[i] = scaled + m;
  }
}

static void dequant_q5_0(const uint8_t *p, float *out) {
  float d = half_at(p);
  for (int i = 0; i < 32; i++) out[i] = (float)((int)five_bits(p + 2, p + 6, i) - 16) * d;
}

static void dequant_q5_1(const uint8_t *p, float *out) {
  float d = half_at(p), m = half_at(p + 2);
  for (int i = 0; i < 32; i++) {
    volatile float scaled = (float)five_bits(p + 4, p + 8, i) * d;
    out[i] = scaled + m;
  }
}

static void dequant_q8_0(const uint8_t *p, float *out) {
  float d = half_at(p);
  for (int i = 0; i < 32; i++) out[i] = (float)(int8_t)p[2 + i] * d;
}

tn_status tn_ref_dequant(tn_dtype format, const void *blocks, float *out, int64_t n) {
  static void (*const rows[])(const uint8_t *, float *) = {
#define TN_QUANT(name, values, bytes, doc) dequant_##name,
#include "ir/quant.def"
#undef TN_QUANT
  };
  uint32_t values, bytes;
  if (format < TN_DT_BLOCK || !tn_ref_block(format, &values, &bytes)) return TN_UNSUPPORTED;
  for (int64_t i = 0; i < n / values; i++)
    rows[format - TN_DT_BLOCK]((const uint8_t *)blocks + i * bytes, out + i * values);
  return TN_OK;
}

tn_status tn_ref_op_dequant(tn_ref_call *c) {
  int64_t n = tn_ref_count(&c->out[0]), step = 4096;
  double *row = tn_ref_scratch(c, step, sizeof *row);
  if (!row) return TN_OOM;
  for (int64_t i = 0; i < n; i += step) {
    int64_t take = n - i < step ? n - i : step;
    tn_ref_load(&c->in[0], i, take, row);
    tn_ref_store(&c->out[0], i, take, row);
  }
  return TN_OK;
}
