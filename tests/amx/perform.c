/* perform.c - what the instructions do. Floats: denormals count as zero in operands and results, rounding is
 * to nearest even, and the even and the odd halves of the pairs have sums of their own until the end. */
#include "tests/amx/inside.h"
#include <math.h>
#include <string.h>
#include <xmmintrin.h>

static amx_fault fault(amx_fault f, const char **why, const char *words) { return *why = words, f; }

/* ---- configuration ---- */
static int any(const void *p, size_t n) {
  const uint8_t *b = p;
  for (size_t i = 0; i < n; i++)
    if (b[i]) return 1;
  return 0;
}

static amx_fault configure(amx_state *s, const uint8_t *at, const char **why) {
  amx_config c;
  memcpy(&c, at, sizeof c);
  if (c.palette > 1) return fault(AMX_GP, why, "there is no such palette");
  if (c.palette) {
    if (any(c.reserved, sizeof c.reserved) || any(c.more_colsb, sizeof c.more_colsb) ||
        any(c.more_rows, sizeof c.more_rows))
      return fault(AMX_GP, why, "reserved bytes of the configuration are not zero");
    for (int i = 0; i < AMX_TILES; i++) {
      if (c.colsb[i] > AMX_LINE) return fault(AMX_GP, why, "a tile's rows have more than 64 bytes");
      if (c.rows[i] > AMX_ROWS) return fault(AMX_GP, why, "a tile has more than 16 rows");
      if (!c.rows[i] != !c.colsb[i]) return fault(AMX_GP, why, "a tile has rows or columns, but not both");
    }
  } else {
    memset(&c, 0, sizeof c);
  }
  s->config = c;
  s->configured = c.palette;
  memset(s->tile, 0, sizeof s->tile);
  return AMX_OK;
}

/* ---- memory ---- */
/* From start_row on, where an interrupted one left off. Rows behind the tile's last are zero ever since the
 * configuration, and stay so. */
static void move(amx_state *s, const amx_ins *ins) {
  unsigned t = ins->reg, n = s->config.colsb[t], rows = s->config.rows[t], row = s->config.start_row;
  for (; row < rows; row++) {
    uint8_t *at = ins->at + (int64_t)row * ins->stride;
    if (ins->op == AMX_TILESTORED) {
      memcpy(at, s->tile[t][row], n);
    } else {
      memcpy(s->tile[t][row], at, n);
      memset(s->tile[t][row] + n, 0, AMX_LINE - n);
    }
  }
  s->config.start_row = 0;
}

/* ---- products ---- */
typedef float halves[2][AMX_ROWS]; /* of a row of results, or of B: even and odd of each pair */

static float from_bf16(const uint8_t *p) {
  uint32_t bits = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 24;
  float f;
  return memcpy(&f, &bits, 4), f;
}
static float from_f16(const uint8_t *p) {
  _Float16 h;
  return memcpy(&h, p, 2), (float)h;
}

/* One row of results: pairs of A's row times the rows of B. */
static void float_row(const uint8_t *a, const float (*b)[2][AMX_ROWS], unsigned pairs, unsigned n,
                      float (*value)(const uint8_t *), uint8_t *c) {
  halves sum = {{0}};
  for (unsigned k = 0; k < pairs; k++)
    for (unsigned h = 0; h < 2; h++) {
      float x = value(a + 4 * k + 2 * h);
      for (unsigned j = 0; j < AMX_ROWS; j++) sum[h][j] = fmaf(x, b[k][h][j], sum[h][j]);
    }
  for (unsigned j = 0; j < n; j++) {
    float old;
    memcpy(&old, c + 4 * j, 4);
    old = old + (sum[0][j] + sum[1][j]);
    memcpy(c + 4 * j, &old, 4);
  }
}

static void float_products(amx_state *s, const amx_ins *ins) {
  float (*value)(const uint8_t *) = ins->op == AMX_TDPBF16PS ? from_bf16 : from_f16;
  unsigned pairs = s->config.colsb[ins->rm] / 4, n = s->config.colsb[ins->reg] / 4;
  halves b[AMX_ROWS] = {{{0}}};
  enum { FTZ_DAZ_ALL_MASKED = 0x9fc0 };
  unsigned before = _mm_getcsr();
  for (unsigned k = 0; k < pairs; k++)
    for (unsigned j = 0; j < n; j++)
      for (unsigned h = 0; h < 2; h++) b[k][h][j] = value(s->tile[ins->vvvv][k] + 4 * j + 2 * h);
  _mm_setcsr(FTZ_DAZ_ALL_MASKED);
  for (unsigned i = 0; i < s->config.rows[ins->reg]; i++) {
    __asm__ volatile("" ::: "memory"); /* arithmetic stays between the two changes of mxcsr */
    float_row(s->tile[ins->rm][i], b, pairs, n, value, s->tile[ins->reg][i]);
  }
  __asm__ volatile("" ::: "memory");
  _mm_setcsr(before);
}

static int32_t byte_of(uint8_t v, int has_sign) { return has_sign ? (int8_t)v : v; }
static void whole_products(amx_state *s, const amx_ins *ins) {
  int a_sign = ins->op == AMX_TDPBSSD || ins->op == AMX_TDPBSUD;
  int b_sign = ins->op == AMX_TDPBSSD || ins->op == AMX_TDPBUSD;
  unsigned bytes = s->config.colsb[ins->rm], n = s->config.colsb[ins->reg] / 4;
  for (unsigned i = 0; i < s->config.rows[ins->reg]; i++)
    for (unsigned j = 0; j < n; j++) {
      uint32_t sum; /* wraps */
      uint8_t *c = s->tile[ins->reg][i] + 4 * j;
      memcpy(&sum, c, 4);
      for (unsigned k = 0; k < bytes; k++)
        sum += (uint32_t)(byte_of(s->tile[ins->rm][i][k], a_sign) *
                          byte_of(s->tile[ins->vvvv][k / 4][4 * j + k % 4], b_sign));
      memcpy(c, &sum, 4);
    }
}

static amx_fault multiply(amx_state *s, const amx_ins *ins, const char **why) {
  const amx_config *c = &s->config;
  unsigned d = ins->reg, a = ins->rm, b = ins->vvvv;
  if (d == a || d == b || a == b) return fault(AMX_UD, why, "a product names one tile twice");
  if (c->colsb[d] % 4 || c->colsb[a] % 4 || c->colsb[b] % 4)
    return fault(AMX_UD, why, "rows of a product's tile are no multiple of 4 bytes");
  if (c->colsb[d] != c->colsb[b]) return fault(AMX_UD, why, "result and right tile differ in columns");
  if (c->rows[d] != c->rows[a]) return fault(AMX_UD, why, "result and left tile differ in rows");
  if (c->colsb[a] / 4u != c->rows[b])
    return fault(AMX_UD, why, "the left tile's columns and the right one's rows do not fit");
  if (ins->op == AMX_TDPBF16PS || ins->op == AMX_TDPFP16PS)
    float_products(s, ins);
  else
    whole_products(s, ins);
  s->config.start_row = 0;
  return AMX_OK;
}

/* ---- all of them ---- */
static int usable(const amx_state *s, unsigned tile) { return tile < AMX_TILES && s->config.rows[tile]; }

amx_fault amx_perform(amx_state *s, const amx_ins *ins, const char **why) {
  switch (ins->op) {
  case AMX_LDTILECFG: return configure(s, ins->at, why);
  case AMX_STTILECFG: memcpy(ins->at, &s->config, sizeof s->config); return AMX_OK;
  case AMX_TILERELEASE: memset(s, 0, sizeof *s); return AMX_OK;
  default: break;
  }
  if (!s->configured) return fault(AMX_UD, why, "tiles are not configured");
  if (!usable(s, ins->reg)) return fault(AMX_UD, why, "a tile that the configuration does not have");
  if (ins->op == AMX_TILEZERO) {
    memset(s->tile[ins->reg], 0, sizeof s->tile[0]);
    s->config.start_row = 0;
    return AMX_OK;
  }
  if (ins->op == AMX_TILELOADD || ins->op == AMX_TILESTORED) return move(s, ins), AMX_OK;
  if (!usable(s, ins->rm) || !usable(s, ins->vvvv))
    return fault(AMX_UD, why, "a tile that the configuration does not have");
  return multiply(s, ins, why);
}
