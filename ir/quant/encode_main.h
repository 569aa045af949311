/* encode_main.h - the loop over blocks: TN_LANES at a time into a tile, through the family's encoder, packed.
 * Defines the function TN_ENCODE_NAME. */
#include "ir/quant/encode_grid.h"
#include "ir/quant/encode_inner.h"
#include <float.h>

/* Tables in rising order, with what lies halfway. */
static void levels_of(const tn_quant *q, tn_levels *s) {
  uint32_t bits = 0;
  for (size_t i = 0; i < TN_COUNT(q->plane); i++) bits += q->plane[i].bits;
  *s = (tn_levels){.kind = TN_SNAP_INT, .lo = -(float)q->bias, .hi = (float)((1 << bits) - 1 - q->bias)};
  if (q->level == TN_QL_SIGNED) s->lo = -128, s->hi = 127;
  if (q->level == TN_QL_TRITS || (q->bias == 1 && q->values == 256)) s->hi = 1; /* ternary in two bits */
  if (q->level != TN_QL_TABLE) return;
  s->n = 1 << bits;
  for (int i = 0; i < s->n; i++) {
    int j = i;
    for (; j && s->sorted[j - 1] > q->table[i]; j--) {
      s->sorted[j] = s->sorted[j - 1];
      s->code[j] = s->code[j - 1];
    }
    s->sorted[j] = q->table[i];
    s->code[j] = (uint8_t)i;
  }
  for (int i = 1; i < s->n; i++) s->between[i - 1] = (s->sorted[i - 1] + s->sorted[i]) / 2;
  s->lo = s->sorted[0];
  s->hi = s->sorted[s->n - 1];
  s->kind = s->n == 2 ? TN_SNAP_SIGN : s->lo == -12 ? TN_SNAP_E2M1 : TN_SNAP_TABLE;
}

/* Power of two in the middle of a lane's numbers, so that none of their squares overflows or vanishes. */
static float unit_of(float most) {
  int e;
  if (!(most >= FLT_MIN)) return 1;
  frexpf(most, &e);
  return ldexpf(1, e > 126 ? 126 : e < -125 ? -125 : e);
}

static void load(tn_tile *t, const tn_encode_job *job, uint64_t first, uint32_t blocks) {
  int n = (int)job->q->values;
  float rest[TN_LANES * 256];
  const float *x = job->x + first * (uint64_t)n;
  tn_ints at, column;
  tn_lanes most = {0}, inv;
  if (blocks < TN_LANES) {
    memset(rest, 0, sizeof rest);
    memcpy(rest, x, blocks * (uint64_t)n * sizeof *x);
    x = rest;
  }
  for (int l = 0; l < TN_LANES; l++) {
    at[l] = l * n;
    column[l] = job->weights ? (int)((first + (uint64_t)l) * (uint64_t)n % job->columns) : 0;
  }
  for (int i = 0; i < n; i++) {
    t->x[i] = tn_pick(x + i, at);
    if (job->weights) t->w[i] = tn_pick(job->weights + i, column);
    most = tn_most(most, tn_size(t->x[i]));
  }
  for (int l = 0; l < TN_LANES; l++) {
    t->unit[l] = unit_of(most[l]);
    inv[l] = 1 / t->unit[l];
  }
  for (int i = 0; i < n; i++) t->x[i] *= inv;
}

/* What is tried, by bits of a code. */
static tn_tries scale_tries(const tn_levels *s) {
  static const tn_tries tables[] = {[TN_SNAP_SIGN] = {1, 0, 1, false},
                                    [TN_SNAP_E2M1] = {0.6f, 0.05f, 14, false},
                                    [TN_SNAP_TABLE] = {0.75f, 0.04f, 11, false}};
  if (s->kind != TN_SNAP_INT) {
    tn_tries t = tables[s->kind];
    t.both = s->lo == -127; /* iq4: neither symmetric nor with a scale that must be positive */
    return t;
  }
  return s->hi == 1    ? (tn_tries){0.6f, 0.1f, 30, false}
         : s->hi == 2  ? (tn_tries){0.6f, 0.1f, 20, true}
         : s->hi == 3  ? (tn_tries){0.6f, 0.05f, 20, true}
         : s->hi == 7  ? (tn_tries){0.7f, 0.03f, 15, true}
         : s->hi == 15 ? (tn_tries){0.8f, 0.02f, 14, true}
         : s->hi == 31 ? (tn_tries){0.9f, 0.01f, 14, true}
                       : (tn_tries){0.99f, 0.002f, 7, false};
}

static tn_tries affine_tries(float top) {
  return top == 3    ? (tn_tries){-0.6f, 0.15f, 16, false}
         : top == 7  ? (tn_tries){-1, 0.15f, 16, false}
         : top == 15 ? (tn_tries){-2, 0.2f, 16, false}
         : top == 31 ? (tn_tries){-2, 0.25f, 12, false}
                     : (tn_tries){-1, 0.25f, 6, false};
}

static void encode_one_scale(tn_batch *b) {
  const tn_quant *q = b->q;
  tn_tries tries = scale_tries(&b->levels);
  if (q->level == TN_QL_F8E4M3)
    tn_encode_f8(b);
  else if (q->level == TN_QL_SIGNED)
    tn_encode_whole(b);
  else if (b->levels.kind == TN_SNAP_INT) {
    tries.both =
        tries.both && q->plane[0].run > 1; /* other writers of GGUF's formats have negative scales too */
    tn_encode_scale(b, TN_SNAP_INT, &tries);
  } else if (b->levels.kind == TN_SNAP_SIGN)
    tn_encode_scale(b, TN_SNAP_SIGN, &tries);
  else if (b->levels.kind == TN_SNAP_E2M1)
    tn_encode_scale(b, TN_SNAP_E2M1, &tries);
  else
    tn_encode_scale(b, TN_SNAP_TABLE, &tries);
}

static void encode_scales(tn_batch *b) {
  tn_inner in = b->q->inner == TN_QI_I8 ? (tn_inner){-128, 127} : (tn_inner){-32, 31};
  tn_tries tries = scale_tries(&b->levels);
  if (b->q->inner == TN_QI_UE4M3_HALF)
    tn_encode_floats(b, TN_SNAP_E2M1, &tries);
  else if (b->q->inner == TN_QI_F16 || b->q->inner == TN_QI_BF16)
    tn_encode_floats(b, TN_SNAP_INT, &tries);
  else if (b->levels.kind == TN_SNAP_INT)
    tn_encode_scales(b, TN_SNAP_INT, &tries, in);
  else
    tn_encode_scales(b, TN_SNAP_TABLE, &tries, in);
}

static void encode_tile(tn_batch *b) {
  const tn_quant *q = b->q;
  float top = b->levels.hi - b->levels.lo;
  tn_tries tries = affine_tries(top);
  switch (tn_encode_family_of(q)) {
  case TN_EF_ROUND: tn_encode_round(b, top); break;
  case TN_EF_SCALE: encode_one_scale(b); break;
  case TN_EF_AFFINE: tn_encode_affine(b, top, &tries); break;
  case TN_EF_ZERO:
    for (int at = 0; at < (int)q->values; at += tn_run(q)) tn_encode_zero(b, at, tn_run(q), top, &tries);
    break;
  case TN_EF_SCALES: encode_scales(b); break;
  case TN_EF_MINIMA: tn_encode_minima(b, top, q->inner == TN_QI_K4 ? 63 : 15, &tries); break;
  case TN_EF_GRID: tn_encode_grid(b); break;
  }
}

void TN_ENCODE_NAME(const tn_encode_job *job) {
  tn_batch b = {.q = job->q};
  levels_of(job->q, &b.levels);
  for (int i = 0; i < 256; i++) b.t.w[i] = tn_all(1);
  for (uint64_t at = job->first, end = at + job->count; at < end; at += TN_LANES) {
    uint32_t blocks = end - at < TN_LANES ? (uint32_t)(end - at) : TN_LANES;
    load(&b.t, job, at, blocks);
    encode_tile(&b);
    for (uint32_t l = 0; l < blocks; l++)
      tn_encode_pack(job->q, &b.out[l], job->out + (at + l) * job->q->bytes);
  }
}
