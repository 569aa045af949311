/* encode_pack.c - bits of an encoded block: the other way round from quant.c, plane by plane and field by
 * field. */
#include "ir/base/base.h"
#include "ir/quant/encode_isa.h"
#include <float.h>
#include <math.h>

void tn_encode_bits(uint8_t *block, uint32_t at, uint32_t bits, uint32_t v) {
  for (uint32_t done = 0; done < bits;) {
    uint32_t shift = (at + done) % 8, take = 8 - shift < bits - done ? 8 - shift : bits - done;
    block[(at + done) / 8] |= (uint8_t)((v >> done & ((1u << take) - 1)) << shift);
    done += take;
  }
}

/* Largest finite numbers keep a scale from becoming infinite. */
static float f16_of(float x) { return tn_f16_to_f32(tn_f32_to_f16(fminf(fmaxf(x, -65504), 65504))); }

static float bf16_of(float x) {
  float r = tn_bf16_to_f32(tn_f32_to_bf16(x));
  return isinf(r) ? copysignf(0x1.fep127f, x) : r;
}

/* The nearest power of two in the middle of its neighbours (3/4 and 3/2 of it). */
static float e8m0_of(float x) {
  if (!(x > 0x1p-127f)) return 0x1p-127f;
  int e;
  float f = frexpf(x, &e);
  e -= f < 0.75f;
  return ldexpf(1, e > 126 ? 126 : e);
}

float tn_encode_number(uint8_t kind, float x) {
  switch (kind) {
  case TN_QN_F16:
  case TN_QN_F16_SPLIT: return f16_of(x);
  case TN_QN_BF16: return bf16_of(x);
  case TN_QN_E8M0_HALF: return e8m0_of(x);
  case TN_QN_F32: return fminf(fmaxf(x, -FLT_MAX), FLT_MAX);
  default: return 1;
  }
}

float tn_encode_inner(uint8_t inner, float x) {
  switch (inner) {
  case TN_QI_F16: return f16_of(x);
  case TN_QI_BF16: return bf16_of(x);
  case TN_QI_UE4M3_HALF: return tn_f8e4m3_to_f32(tn_f32_to_f8e4m3(fminf(fmaxf(2 * x, 0), 448))) / 2;
  default: return x;
  }
}

static void put_u16(uint8_t *p, uint32_t v) {
  p[0] = (uint8_t)v;
  p[1] = (uint8_t)(v >> 8);
}

static void put_number(uint8_t kind, float x, uint8_t *p) {
  int e;
  switch (kind) {
  case TN_QN_F16: put_u16(p, tn_f32_to_f16(x)); return;
  case TN_QN_BF16: put_u16(p, tn_f32_to_bf16(x)); return;
  case TN_QN_F32: memcpy(p, &x, sizeof x); return;
  case TN_QN_E8M0_HALF:
    frexpf(x, &e);
    *p = (uint8_t)(e + 127);
    return;
  case TN_QN_F16_SPLIT:
    for (int i = 0; i < 4; i++) p[2 * i + 1] |= (uint8_t)((tn_f32_to_f16(x) >> 4 * i & 15) << 4);
    return;
  }
}

/* Six-bit scales and minima of q4_k: the first four in six bits of a byte, the high bits of the others above
 * them. */
static void put_k4(const tn_encoded *e, uint8_t *p) {
  for (int j = 0; j < 4; j++) {
    uint32_t s = (uint32_t)e->scale[j + 4], m = (uint32_t)e->minimum[j + 4];
    p[j] = (uint8_t)((uint32_t)e->scale[j] | s >> 4 << 6);
    p[j + 4] = (uint8_t)((uint32_t)e->minimum[j] | m >> 4 << 6);
    p[j + 8] = (uint8_t)((s & 15) | (m & 15) << 4);
  }
}

static void put_inner(const tn_quant *q, const tn_encoded *e, uint8_t *block) {
  uint8_t *p = block + q->inner_at;
  if (q->inner == TN_QI_K4) {
    put_k4(e, p);
    return;
  }
  for (uint32_t j = 0; j < q->values / q->sub; j++) {
    float x = e->scale[j];
    uint32_t u = 0;
    switch (q->inner) {
    case TN_QI_NIBBLES: p[j] = (uint8_t)((uint32_t)x | (uint32_t)e->minimum[j] << 4); break;
    case TN_QI_K3:
      u = (uint32_t)((int)x + 32);
      p[j % 8] |= (uint8_t)((u & 15) << j / 8 * 4);
      p[8 + j % 4] |= (uint8_t)(u >> 4 << j / 4 * 2);
      break;
    case TN_QI_I8: p[j] = (uint8_t)(int8_t)x; break;
    case TN_QI_IQ4XS:
      u = (uint32_t)((int)x + 32);
      p[2 + j / 2] |= (uint8_t)((u & 15) << j % 2 * 4);
      p[j / 4] |= (uint8_t)(u >> 4 << j % 4 * 2);
      break;
    case TN_QI_UE4M3_HALF: p[j] = tn_f32_to_f8e4m3(2 * x); break;
    case TN_QI_F16: put_u16(p + 2 * j, tn_f32_to_f16(x)); break;
    case TN_QI_BF16: put_u16(p + 2 * j, tn_f32_to_bf16(x)); break;
    }
  }
}

static void put_plane(const tn_quant *q, const tn_quant_plane *p, uint32_t shift, const uint8_t *code,
                      uint8_t *block) {
  uint32_t mask = (1u << p->bits) - 1;
  for (uint32_t slot = 0, n = q->values / p->run; slot < n; slot++) {
    uint8_t *out = block + p->at + slot / p->slots * p->run;
    uint32_t up = slot % p->slots * p->bits;
    for (uint32_t i = 0; i < p->run; i++) out[i] |= (uint8_t)((*code++ >> shift & mask) << up);
  }
}

/* Five digits of base 3 as a fraction of 256, rounded up: a product with 3 brings out the first. Short
 * stretches have zeros for the missing digits. */
static void put_trits(const tn_quant *q, const uint8_t *code, uint8_t *block) {
  const tn_quant_plane *p = q->plane;
  for (uint32_t done = 0; done < q->values; done += (uint32_t)p->run * p->slots, p++)
    for (uint32_t b = 0; b < p->run; b++) {
      uint32_t v = 0;
      for (uint32_t digit = 0; digit < 5; digit++)
        v = v * 3 + (digit < p->slots ? code[done + digit * p->run + b] : 0);
      block[p->at + b] = (uint8_t)((v * 256 + 242) / 243);
    }
}

static void put_field(const tn_quant_field *f, uint32_t j, uint32_t v, uint8_t *block) {
  if (f->bits) tn_encode_bits(block, f->at + j / f->per * f->stride + j % f->per * f->step, f->bits, v);
}

static void put_grid(const tn_quant *q, const tn_encoded *e, uint8_t *block) {
  const tn_quant_grid *g = q->grid;
  for (uint32_t r = 0; r < q->values / g->width; r++) {
    put_field(&g->low, r, e->row[r] & ((1u << g->low.bits) - 1), block);
    put_field(&g->high, r, (uint32_t)e->row[r] >> g->low.bits, block);
  }
  for (uint32_t i = 0; i < q->values / 8; i++) put_field(&g->sign, i, e->sign[i], block);
  for (uint32_t j = 0; j < q->values / q->sub; j++) put_field(&g->scale, j, (uint32_t)e->scale[j], block);
  for (uint32_t i = 0; g->delta.bits && i < q->values / g->delta_run; i++)
    put_field(&g->delta, i, e->delta[i * g->delta_run / g->width], block);
}

void tn_encode_pack(const tn_quant *q, const tn_encoded *e, uint8_t *block) {
  memset(block, 0, q->bytes);
  put_number(q->d, e->d, block + q->d_at);
  put_number(q->m, e->m, block + q->m_at);
  if (q->level == TN_QL_GRID) {
    put_grid(q, e, block);
    return;
  }
  if (q->inner != TN_QI_NONE) put_inner(q, e, block);
  for (uint32_t j = 0; q->zero_bits && j < (q->sub ? q->values / q->sub : 1); j++)
    tn_encode_bits(block, q->zero_at * 8u + j * q->zero_bits, q->zero_bits, e->zero[j]);
  if (q->level == TN_QL_TRITS) {
    put_trits(q, e->code, block);
    return;
  }
  uint32_t shift = 0;
  for (const tn_quant_plane *p = q->plane; p < q->plane + TN_COUNT(q->plane) && p->bits; p++) {
    put_plane(q, p, shift, e->code, block);
    shift += p->bits;
  }
}
