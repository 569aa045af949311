/* quant.c - the rows of ir/quant/quant.def and their reference reading. Arithmetic is float, each step
 * rounded by itself (no fused multiply-add), in the order of the GGUF specification: results are bit-exact
 * with its other readers. */
#include "ir/quant/quant.h"
#include "ir/base/base.h"
#include "ir/quant/quant_grid.h"

/* Doubled e2m1 levels, so that they are whole; the scale is halved for it. */
static const float tn_quant_fp4[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
static const float tn_quant_iq4[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                       1,    13,   25,  38,  53,  69,  89,  113};
static const float tn_quant_sign[16] = {-1, 1};
/* Quantiles of the normal distribution (QLoRA), and e2m1 without its bias as bitsandbytes orders and scales
 * it. */
static const float tn_quant_nf4[16] = {
    -1.0f,
    -0.6961928009986877f,
    -0.5250730514526367f,
    -0.39491748809814453f,
    -0.28444138169288635f,
    -0.18477343022823334f,
    -0.09105003625154495f,
    0.0f,
    0.07958029955625534f,
    0.16093020141124725f,
    0.24611230194568634f,
    0.33791524171829224f,
    0.44070982933044434f,
    0.5626170039176941f,
    0.7229568362236023f,
    1.0f,
};
static const float tn_quant_bnb_fp4[16] = {
    0, 0.0625f / 12,  8 / 12.0f,  1,  4 / 12.0f,  0.5f,  2 / 12.0f,  0.25f,
    0, -0.0625f / 12, -8 / 12.0f, -1, -4 / 12.0f, -0.5f, -2 / 12.0f, -0.25f,
};

/* clang-format off: rows */
static const tn_quant rows[] = {
#define TN_QUANT(n, v, b, text, ...) {.name = #n, .doc = text, .values = v, .bytes = b, __VA_ARGS__},
#include "ir/quant/quant.def"
#undef TN_QUANT
};
/* clang-format on */

uint32_t tn_quant_count(void) { return sizeof rows / sizeof *rows; }

const tn_quant *tn_quant_of(tn_dtype t) {
  return t >= TN_DT_BLOCK && t - TN_DT_BLOCK < tn_quant_count() ? &rows[t - TN_DT_BLOCK] : NULL;
}

/* `bits` (at most 9) bits from bit `at` on. */
static uint32_t bits_at(const uint8_t *p, uint32_t at, uint32_t bits) {
  uint32_t shift = at % 8, word = p[at / 8];
  if (shift + bits > 8) word |= (uint32_t)p[at / 8 + 1] << 8;
  return word >> shift & ((1u << bits) - 1);
}

uint32_t tn_quant_field_get(const tn_quant_field *f, const uint8_t *block, uint32_t j) {
  return bits_at(block, f->at + j / f->per * f->stride + j % f->per * f->step, f->bits);
}

static uint32_t trit(const tn_quant *q, const uint8_t *block, uint32_t i) {
  const tn_quant_plane *p = q->plane;
  for (; i >= (uint32_t)p->run * p->slots; p++) i -= (uint32_t)p->run * p->slots;
  uint32_t byte = block[p->at + i % p->run];
  for (uint32_t digit = i / p->run; digit; digit--) byte = byte * 3 & 255;
  return byte * 3 >> 8;
}

uint32_t tn_quant_code(const tn_quant *q, const uint8_t *block, uint32_t i) {
  if (q->level == TN_QL_TRITS) return trit(q, block, i);
  uint32_t code = 0, shift = 0;
  for (const tn_quant_plane *p = q->plane; p < q->plane + TN_COUNT(q->plane) && p->bits; p++) {
    uint32_t slot = i / p->run, byte = block[p->at + slot / p->slots * p->run + i % p->run];
    code |= (byte >> slot % p->slots * p->bits & ((1u << p->bits) - 1)) << shift;
    shift += p->bits;
  }
  return code;
}

static uint16_t u16_at(const uint8_t *p) { return (uint16_t)(p[0] | p[1] << 8); }

static float number(uint8_t kind, const uint8_t *p) {
  float f;
  uint32_t bits;
  switch (kind) {
  case TN_QN_F16: return tn_f16_to_f32(u16_at(p));
  case TN_QN_BF16: return tn_bf16_to_f32(u16_at(p));
  case TN_QN_F16_SPLIT:
    bits = (uint32_t)p[1] >> 4 | (p[3] & 0xf0u) | (p[5] & 0xf0u) << 4 | (p[7] & 0xf0u) << 8;
    return tn_f16_to_f32((uint16_t)bits);
  case TN_QN_F32: memcpy(&f, p, sizeof f); return f;
  case TN_QN_E8M0_HALF:
    bits = *p < 2 ? 0x200000u << *p : (*p - 1u) << 23;
    memcpy(&f, &bits, sizeof f);
    return f;
  default: return 1;
  }
}

/* Six-bit numbers of q4_k: 0 to 3 in the low bits of 4 bytes from `at` on, 4 to 7 in nibbles of bytes 8 to 11
 * (the low ones for at 0) with the two high bits above the first four. */
static uint32_t k4(const uint8_t *p, uint32_t at, uint32_t j) {
  return j < 4 ? p[at + j] & 63u : (at ? p[j + 4] >> 4 : p[j + 4] & 15u) | (uint32_t)p[at + j - 4] >> 6 << 4;
}

static float ue4m3_half(uint8_t e) {
  return e == 0x7f ? 0 : (e & 0x7f) == 0x7f ? 240 : tn_f8e4m3_to_f32(e & 0x7f) / 2;
}

static float inner_scale(const tn_quant *q, const uint8_t *block, uint32_t j) {
  const uint8_t *p = block + q->inner_at;
  switch (q->inner) {
  case TN_QI_K4: return (float)k4(p, 0, j);
  case TN_QI_NIBBLES: return (float)(p[j] & 15);
  case TN_QI_K3:
    return (float)((int)((p[j % 8] >> j / 8 * 4 & 15) | (p[8 + j % 4] >> j / 4 * 2 & 3) << 4) - 32);
  case TN_QI_I8: return (float)(int8_t)p[j];
  case TN_QI_IQ4XS:
    return (float)((int)((p[2 + j / 2] >> j % 2 * 4 & 15) | (u16_at(p) >> 2 * j & 3) << 4) - 32);
  case TN_QI_UE4M3_HALF: return ue4m3_half(p[j]);
  case TN_QI_F16: return tn_f16_to_f32(u16_at(p + 2 * j));
  case TN_QI_BF16: return tn_bf16_to_f32(u16_at(p + 2 * j));
  case TN_QI_GRID: return (float)(2 * tn_quant_field_get(&q->grid->scale, block, j) + 1) * q->grid->unit;
  default: return 1;
  }
}

static float inner_minimum(const tn_quant *q, const uint8_t *block, uint32_t j) {
  const uint8_t *p = block + q->inner_at;
  return q->inner == TN_QI_K4 ? (float)k4(p, 4, j) : q->inner == TN_QI_NIBBLES ? (float)(p[j] >> 4) : 1;
}

static float grid_level(const tn_quant_grid *g, const uint8_t *block, uint32_t i) {
  uint32_t r = i / g->width, bits = 16u / g->width, row = tn_quant_field_get(&g->low, block, r), signs = 0;
  if (g->high.bits) row |= tn_quant_field_get(&g->high, block, r) << g->low.bits;
  float x = g->levels[g->rows[row] >> i % g->width * bits & ((1u << bits) - 1)];
  if (g->delta.bits) x += tn_quant_field_get(&g->delta, block, i / g->delta_run) ? -0.125f : 0.125f;
  if (g->sign.bits) signs = tn_quant_field_get(&g->sign, block, i / 8);
  if (g->sign.bits == 7) signs |= (uint32_t)(__builtin_popcount(signs) & 1) << 7;
  return signs >> i % 8 & 1 ? -x : x;
}

static float level(const tn_quant *q, const uint8_t *block, uint32_t i, int zero) {
  if (q->level == TN_QL_GRID) return grid_level(q->grid, block, i);
  uint32_t code = tn_quant_code(q, block, i);
  switch (q->level) {
  case TN_QL_SIGNED: return (float)(int8_t)code;
  case TN_QL_TABLE: return q->table[code];
  case TN_QL_F8E4M3: return tn_f8e4m3_to_f32((uint8_t)code);
  default: return (float)((int)code - zero);
  }
}

enum { CODES = 256 }; /* values of the largest block whose codes are taken out at once */

/* All codes of a block, plane by plane. */
static void take_codes(const tn_quant *q, const uint8_t *block, uint8_t *codes) {
  uint32_t shift = 0;
  memset(codes, 0, q->values);
  for (const tn_quant_plane *p = q->plane; p < q->plane + TN_COUNT(q->plane) && p->bits; p++) {
    uint32_t mask = (1u << p->bits) - 1;
    const uint8_t *from = block + p->at;
    for (uint32_t i = 0; i < q->values; from += p->run)
      for (uint32_t slot = 0; slot < p->slots && i < q->values; slot++, i += p->run)
        for (uint32_t k = 0; k < p->run; k++)
          codes[i + k] |= (uint8_t)((from[k] >> slot * p->bits & mask) << shift);
    shift += p->bits;
  }
}

/* level(code) of `run` values from value `at` on. `codes`: of the block; NULL: its format has none such. */
static void take_levels(const tn_quant *q, const uint8_t *block, const uint8_t *codes, uint32_t at,
                        uint32_t run, int zero, float *out) {
  for (uint32_t i = 0; i < run; i++)
    if (!codes)
      out[i] = level(q, block, at + i, zero);
    else if (q->level == TN_QL_SIGNED)
      out[i] = (float)(int8_t)codes[at + i];
    else if (q->level == TN_QL_TABLE)
      out[i] = q->table[codes[at + i]];
    else if (q->level == TN_QL_F8E4M3)
      out[i] = tn_f8e4m3_to_f32(codes[at + i]);
    else
      out[i] = (float)((int)codes[at + i] - zero);
}

void tn_quant_unpack(const tn_quant *q, const uint8_t *block, float *out) {
  float d = number(q->d, block + q->d_at), m = number(q->m, block + q->m_at);
  uint32_t run = q->sub ? q->sub : q->values;
  bool plain = q->level != TN_QL_GRID && q->level != TN_QL_TRITS && q->values <= CODES;
  uint8_t codes[CODES];
  if (plain) take_codes(q, block, codes);
  for (uint32_t at = 0, j = 0; at < q->values; at += run, j++) {
    float scale = d * inner_scale(q, block, j), minimum = m * inner_minimum(q, block, j) * q->m_sign;
    int zero = q->bias;
    if (q->zero_bits) zero += (int)bits_at(block, q->zero_at * 8u + j * q->zero_bits, q->zero_bits);
    take_levels(q, block, plain ? codes : NULL, at, run, zero, out + at);
    for (uint32_t i = at; i < at + run; i++) out[i] *= scale;
    if (!q->m_sign) continue;
    __asm__ volatile("" ::: "memory"); /* rounded before the sum: no fused multiply-add */
    for (uint32_t i = at; i < at + run; i++) out[i] += minimum;
  }
}
