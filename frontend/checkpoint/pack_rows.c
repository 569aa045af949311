/* pack_rows.c - rows of the NAME_row types: codes with one scale for the whole row, which lies behind them.
 *
 * The scale comes from the row's range, made smaller step by step while the error shrinks: a few large
 * numbers lose less by being cut off than all others do by a coarse step. */
#include "frontend/checkpoint/pack_layouts.h"
#include "ir/quant/encode.h"
#include <math.h>

static bool is_row(const tn_quant *q) {
  return q && q->d == TN_QN_ONE && q->inner == TN_QI_NONE && !q->grid && q->m == TN_QN_ONE &&
         q->level != TN_QL_TABLE && q->level != TN_QL_TRITS;
}

uint64_t tn_ck_pack_row_bytes(tn_dtype t, uint64_t columns) {
  uint64_t n = tn_encode_row_bytes(t, columns);
  return n && is_row(tn_quant_of(t)) ? n + sizeof(float) : n;
}

/* What codes of a type stand for: whole numbers from low to high, around a zero that may be stored. */
typedef struct range {
  double low, high;
  bool floats;
} range;

static range range_of(const tn_quant *q) {
  uint32_t bits = 0;
  for (size_t i = 0; i < TN_COUNT(q->plane); i++) bits += q->plane[i].bits;
  if (q->level == TN_QL_F8E4M3) return (range){-448, 448, true};
  double n = (double)(1u << bits);
  if (q->zero_bits) return (range){0, n - 1, false};
  return (range){-n / 2, n / 2 - 1, false};
}

/* To the nearest whole number, ties to even, of |v| < 2^22: in a form that compilers vectorise everywhere. */
static float whole(float v) {
  const float magic = 12582912.0f; /* 1.5 * 2^23 */
  return (v + magic) - magic;
}

/* Error of the row at a scale and zero; importance may be NULL. Sums go into lanes, always the same. */
static double error_at(const float *x, uint64_t n, const float *importance, float scale, float zero,
                       const range *r) {
  enum { LANES = 16 };
  float low = (float)r->low - zero, high = (float)r->high - zero, inverse = 1 / scale, lanes[LANES] = {0};
  double sum = 0;
  for (uint64_t at = 0; at < n; at += LANES) /* rows are whole blocks of 32 or more */
    for (uint64_t i = 0; i < LANES; i++) {
      float v = x[at + i] * inverse, e;
      v = v < low ? low : v > high ? high : v;
      e = x[at + i] - whole(v) * scale;
      lanes[i] += e * e * (importance ? importance[at + i] : 1);
    }
  for (uint64_t i = 0; i < LANES; i++) sum += (double)lanes[i];
  return sum;
}

/* The step that spreads [low, high] over the codes, and the zero that low falls on. */
static float step_of(double low, double high, const range *r, bool zeros, float *zero) {
  *zero = 0;
  if (!zeros) return (float)fmax(-low / -r->low, high / r->high);
  float scale = (float)((high - low) / (r->high - r->low));
  *zero = scale > 0 ? (float)fmin(fmax(rint(-low / (double)scale), r->low), r->high) : 0;
  return scale;
}

static float best_step(const tn_quant *q, const float *x, uint64_t n, const float *importance, float *zero) {
  range r = range_of(q);
  double low = 0, high = 0, least = INFINITY;
  float best = 0;
  for (uint64_t i = 0; i < n; i++) {
    low = fmin(low, (double)x[i]);
    high = fmax(high, (double)x[i]);
  }
  /* floats have the same relative step wherever the range ends: it stays whole; of many codes few are won */
  int cuts = r.floats ? 0 : r.high - r.low > 100 ? 10 : 40;
  for (int cut = 0; cut <= cuts; cut += cuts > 10 ? 1 : 2) {
    double part = 1 - cut / 100.0;
    float z, s = step_of(low * part, high * part, &r, q->zero_bits != 0, &z);
    double e = s > 0 && !r.floats ? error_at(x, n, importance, s, z, &r) : 0;
    if (e >= least) continue;
    least = e;
    best = s;
    *zero = z;
  }
  return best;
}

/* Codes around a zero are encoded as whole numbers: blocks keep the zero that the caller puts there. */
static void set_zero(const tn_quant *q, uint8_t *row, uint64_t blocks, uint8_t zero) {
  for (uint64_t b = 0; q->zero_bits && b < blocks; b++) row[b * q->bytes + q->zero_at] = zero;
}

/* Codes of whole numbers into the planes of a row. */
static void put_codes(const tn_quant *q, uint8_t *row, const uint8_t *codes, uint64_t n) {
  for (uint64_t b = 0; b < n / q->values; b++, row += q->bytes, codes += q->values) {
    uint32_t shift = 0;
    memset(row, 0, q->bytes);
    for (const tn_quant_plane *p = q->plane; p < q->plane + TN_COUNT(q->plane) && p->bits; p++) {
      uint32_t mask = (1u << p->bits) - 1;
      for (uint32_t i = 0; i < q->values; i++)
        row[p->at + i / p->slots] |= (uint8_t)((codes[i] >> shift & mask) << i % p->slots * p->bits);
      shift += p->bits;
    }
  }
}

static void encode_row(const tn_quant *q, const float *x, uint64_t n, const float *importance, uint8_t *codes,
                       uint8_t *out) {
  range r = range_of(q);
  float zero = 0, scale = best_step(q, x, n, importance, &zero);
  float offset = q->level == TN_QL_SIGNED ? 0 : q->zero_bits ? zero : (float)q->bias;
  for (uint64_t i = 0; i < n; i++) {
    float v = scale > 0 ? x[i] / scale : 0;
    if (r.floats)
      codes[i] = tn_f32_to_f8e4m3(v);
    else
      codes[i] = (uint8_t)(int)(fminf(fmaxf(rintf(v), (float)r.low - zero), (float)r.high - zero) + offset);
  }
  put_codes(q, out, codes, n);
  set_zero(q, out, n / q->values, (uint8_t)zero);
  if (!(scale > 0)) scale = 1;
  memcpy(out + n / q->values * q->bytes, &scale, sizeof scale);
}

tn_status tn_ck_pack_encode(tn_dtype t, const float *x, uint64_t rows, uint64_t columns,
                            const float *importance, uint8_t *out, uint64_t *bad) {
  const tn_quant *q = tn_quant_of(t);
  uint64_t bytes = tn_ck_pack_row_bytes(t, columns), n;
  if (!is_row(q)) return tn_encode_rows(t, x, rows, columns, importance, out, bad);
  if ((columns && !bytes) || !tn_mul_u64(rows, columns, &n)) return TN_UNSUPPORTED;
  for (uint64_t i = 0; i < n; i++)
    if (!isfinite(x[i])) {
      if (bad) *bad = i;
      return TN_INVALID;
    }
  uint8_t *codes = tn_mem_alloc(columns ? columns : 1);
  if (!codes) return TN_OOM;
  for (uint64_t r = 0; r < rows; r++)
    encode_row(q, x + r * columns, columns, importance, codes, out + r * bytes);
  tn_mem_free(codes);
  return TN_OK;
}
