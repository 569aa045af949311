/* gptq.c - the rounding itself. LANES rows go side by side, so that every step is one over whole vectors; the
 * errors of a stretch of columns reach the columns behind it together. Rows do not meet: any number of
 * threads gives the same codes. */
#include "passes/quantize/gptq.h"
#include "ir/base/base.h"
#include "ir/quant/encode.h"
#include <math.h>

#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__)
#define WIDE __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define WIDE
#endif

enum { LANES = 16, STRETCH = 128 };

/* What codes stand for: value(code) = base + step * level(code), for each column and each lane. */
typedef struct grid {
  const tn_quant *q;
  float first, top;   /* levels of a line: first .. top, in steps of 1 */
  uint32_t nlevels;   /* of a table; 0: a line */
  float *base, *step; /* [columns][LANES], as in the file */
} grid;

typedef struct band {
  const tn_gptq *g;
  grid grid;
  uint32_t lanes; /* rows that there are */
  uint64_t bytes; /* of an encoded row */
  uint8_t *out;   /* the first row */
  float *w;       /* [columns][LANES], in the order of rounding */
  float *plain;   /* [LANES][columns or values]: for the encoders */
  float *err;     /* [STRETCH or more][LANES] */
  uint8_t *code;  /* [columns][LANES], likewise */
  uint8_t *block; /* encoded blocks of all lanes */
  uint32_t stretch;
} band;

/* ---- codes of a block ---------------------------------------------------------------------------------- */

static uint32_t code_bits(const tn_quant *q) {
  uint32_t bits = 0;
  for (size_t p = 0; p < TN_COUNT(q->plane); p++) bits += q->plane[p].bits;
  return bits;
}

static void put_code(const tn_quant *q, uint8_t *block, uint32_t i, uint32_t code) {
  for (size_t n = 0; n < TN_COUNT(q->plane) && q->plane[n].bits; n++) {
    const tn_quant_plane *p = &q->plane[n];
    uint32_t group = (uint32_t)p->run * p->slots, mask = (1u << p->bits) - 1;
    uint32_t shift = i / p->run % p->slots * p->bits;
    uint8_t *at = block + p->at + i / group * p->run + i % p->run;
    *at = (uint8_t)((*at & ~(mask << shift)) | (code & mask) << shift);
    code >>= p->bits;
  }
}

bool tn_gptq_can(tn_dtype t) {
  const tn_quant *q = tn_quant_of(t);
  if (!q || q->values > 256 || !tn_encode_can(t) || (q->d == TN_QN_ONE && q->inner == TN_QI_NONE))
    return false;
  return q->level == TN_QL_INT || q->level == TN_QL_SIGNED || (q->level == TN_QL_TABLE && code_bits(q) <= 4);
}

static void grid_init(grid *g, const tn_quant *q) {
  uint32_t bits = code_bits(q);
  g->q = q;
  g->nlevels = q->level == TN_QL_TABLE ? 1u << bits : 0;
  g->first = q->level == TN_QL_SIGNED ? -ldexpf(1, (int)bits - 1) : 0;
  g->top = g->first + ldexpf(1, (int)bits) - 1;
}

/* What one code stands for, everywhere in a block: its scales stay. */
static void unpack_code(const tn_quant *q, const uint8_t *block, uint32_t code, float *out) {
  uint8_t copy[512];
  memcpy(copy, block, q->bytes);
  for (uint32_t i = 0; i < q->values; i++) put_code(q, copy, i, code);
  tn_quant_unpack(q, copy, out);
}

/* Two codes of a table whose levels differ most from each other. */
static void far_codes(const tn_quant *q, uint32_t n, uint32_t *lo, uint32_t *hi) {
  *lo = *hi = 0;
  for (uint32_t i = 1; i < n; i++) {
    if (q->table[i] < q->table[*lo]) *lo = i;
    if (q->table[i] > q->table[*hi]) *hi = i;
  }
}

/* Of block `at` of a lane. */
static void grid_read(grid *g, const uint8_t *block, uint32_t at, uint32_t lane) {
  float a[256], b[256], from = 0, to = 1;
  uint32_t lo = 0, hi = 1;
  if (g->nlevels) {
    far_codes(g->q, g->nlevels, &lo, &hi);
    from = g->q->table[lo], to = g->q->table[hi];
  }
  unpack_code(g->q, block, lo, a);
  unpack_code(g->q, block, hi, b);
  for (uint32_t i = 0; i < g->q->values; i++) {
    uint64_t k = ((uint64_t)at * g->q->values + i) * LANES + lane;
    g->step[k] = (b[i] - a[i]) / (to - from);
    g->base[k] = a[i] - from * g->step[k];
  }
}

/* ---- one column ---------------------------------------------------------------------------------------- */

/* The nearest codes on a line, and what they stand for. */
WIDE static void snap_line(const float *w, const float *base, const float *step, float first, float top,
                           float *value, uint8_t *code) {
  for (int l = 0; l < LANES; l++) {
    float inv = fabsf(step[l]) > 1e-30f ? 1 / step[l] : 0, x = (w[l] - base[l]) * inv;
    float c = floorf(x + 0.5f);
    c = c < first ? first : c > top ? top : c;
    value[l] = base[l] + step[l] * c;
    code[l] = (uint8_t)(int)c;
  }
}

WIDE static void snap_table(const float *w, const float *base, const float *step, const float *table,
                            uint32_t n, float *value, uint8_t *code) {
  float least[LANES];
  for (int l = 0; l < LANES; l++) least[l] = INFINITY;
  for (uint32_t c = 0; c < n; c++)
    for (int l = 0; l < LANES; l++) {
      float v = base[l] + step[l] * table[c], d = fabsf(w[l] - v);
      bool nearer = d < least[l];
      least[l] = nearer ? d : least[l];
      value[l] = nearer ? v : value[l];
      code[l] = nearer ? (uint8_t)c : code[l];
    }
}

/* to[j] -= err * u[j], j < n */
WIDE static void spread(float *to, const float *err, const float *u, uint32_t n) {
  for (uint32_t j = 0; j < n; j++)
    for (int l = 0; l < LANES; l++) to[j * LANES + (uint32_t)l] -= err[l] * u[j];
}

/* to[j] -= the sum over i < ni of err[i] * u[i * columns + j], j < n */
WIDE static void spread_all(float *to, const float *err, const float *u, uint32_t ni, uint64_t columns,
                            uint32_t n) {
  for (uint32_t j = 0; j < n; j++) {
    float sum[LANES];
    for (int l = 0; l < LANES; l++) sum[l] = to[j * LANES + (uint32_t)l];
    for (uint32_t i = 0; i < ni; i++)
      for (int l = 0; l < LANES; l++) sum[l] -= err[i * LANES + (uint32_t)l] * u[i * columns + j];
    for (int l = 0; l < LANES; l++) to[j * LANES + (uint32_t)l] = sum[l];
  }
}

/* Rounds column i of the order. */
static void round_column(band *b, uint32_t i, uint32_t end, float *err) {
  const grid *g = &b->grid;
  uint64_t at = (uint64_t)(b->g->order ? b->g->order[i] : i) * LANES;
  const float *u = b->g->u + (uint64_t)i * b->g->columns;
  float *w = b->w + (uint64_t)i * LANES, value[LANES] = {0};
  uint8_t *code = b->code + (uint64_t)i * LANES;
  if (g->nlevels)
    snap_table(w, g->base + at, g->step + at, g->q->table, g->nlevels, value, code);
  else
    snap_line(w, g->base + at, g->step + at, g->first, g->top, value, code);
  for (int l = 0; l < LANES; l++) err[l] = (w[l] - value[l]) / u[i];
  spread(w + LANES, err, u + i + 1, end - i - 1);
}

/* ---- scales -------------------------------------------------------------------------------------------- */

/* The scales of block `at` from the weights as they are now: as given, less what was lost so far. */
static tn_status make_scales(band *b, uint32_t at) {
  const tn_quant *q = b->grid.q;
  uint32_t from = at * q->values;
  for (uint32_t l = 0; l < b->lanes; l++)
    for (uint32_t k = 0; k < q->values; k++)
      b->plain[l * q->values + k] = b->w[(uint64_t)(from + k) * LANES + l];
  TN_TRY(tn_encode_rows(b->g->type, b->plain, b->lanes, q->values,
                        b->g->importance ? b->g->importance + from : NULL, b->block, NULL));
  for (uint32_t l = 0; l < b->lanes; l++)
    memcpy(b->out + l * b->bytes + (uint64_t)at * q->bytes, b->block + (uint64_t)l * q->bytes, q->bytes);
  return TN_OK;
}

static void read_scales(band *b, uint32_t at) {
  for (uint32_t l = 0; l < b->lanes; l++)
    grid_read(&b->grid, b->out + l * b->bytes + (uint64_t)at * b->grid.q->bytes, at, l);
}

static void put_codes(band *b) {
  const tn_quant *q = b->grid.q;
  for (uint32_t i = 0; i < b->g->columns; i++) {
    uint32_t column = b->g->order ? b->g->order[i] : i;
    for (uint32_t l = 0; l < b->lanes; l++)
      put_code(q, b->out + l * b->bytes + (uint64_t)(column / q->values) * q->bytes, column % q->values,
               b->code[(uint64_t)i * LANES + l]);
  }
}

/* ---- a band of rows ------------------------------------------------------------------------------------ */

static tn_status round_stretch(band *b, uint32_t from, uint32_t end) {
  uint32_t values = b->grid.q->values;
  for (uint32_t i = from; i < end; i++) {
    if (!b->g->order && i % values == 0) {
      TN_TRY(make_scales(b, i / values));
      read_scales(b, i / values);
    }
    round_column(b, i, end, b->err + (uint64_t)(i - from) * LANES);
  }
  spread_all(b->w + (uint64_t)end * LANES, b->err, b->g->u + (uint64_t)from * b->g->columns + end, end - from,
             b->g->columns, b->g->columns - end);
  return TN_OK;
}

static tn_status round_band(band *b, const float *rows) {
  uint32_t columns = b->g->columns;
  for (uint32_t i = 0; i < columns; i++)
    for (uint32_t l = 0; l < LANES; l++)
      b->w[(uint64_t)i * LANES + l] =
          l < b->lanes ? rows[(uint64_t)l * columns + (b->g->order ? b->g->order[i] : i)] : 0;
  if (b->g->order) {
    TN_TRY(tn_encode_rows(b->g->type, rows, b->lanes, columns, b->g->importance, b->out, NULL));
    for (uint32_t at = 0; at < columns / b->grid.q->values; at++) read_scales(b, at);
  }
  for (uint32_t i = 0; i < columns; i += b->stretch)
    TN_TRY(round_stretch(b, i, i + b->stretch < columns ? i + b->stretch : columns));
  put_codes(b);
  return TN_OK;
}

tn_status tn_gptq_encode(const tn_gptq *g, const float *rows, uint64_t n, uint8_t *out) {
  const tn_quant *q = tn_quant_of(g->type);
  uint64_t bytes = tn_encode_row_bytes(g->type, g->columns), columns = g->columns;
  if (!tn_gptq_can(g->type) || !bytes) return TN_UNSUPPORTED;
  band *b = tn_mem_alloc(sizeof *b);
  if (!b) return TN_OOM;
  b->g = g, b->bytes = bytes;
  b->stretch = q->values > STRETCH ? q->values : STRETCH;
  grid_init(&b->grid, q);
  b->w = tn_mem_alloc(columns * LANES * sizeof *b->w);
  b->plain = tn_mem_alloc((uint64_t)q->values * LANES * sizeof *b->plain);
  b->err = tn_mem_alloc((uint64_t)b->stretch * LANES * sizeof *b->err);
  b->code = tn_mem_alloc(columns * LANES);
  b->block = tn_mem_alloc((uint64_t)q->bytes * LANES);
  b->grid.base = tn_mem_alloc(columns * LANES * sizeof *b->grid.base);
  b->grid.step = tn_mem_alloc(columns * LANES * sizeof *b->grid.step);
  tn_status s =
      b->w && b->plain && b->err && b->code && b->block && b->grid.base && b->grid.step ? TN_OK : TN_OOM;
  for (uint64_t r = 0; r < n && s == TN_OK; r += LANES) {
    b->lanes = n - r < LANES ? (uint32_t)(n - r) : LANES;
    b->out = out + r * bytes;
    s = round_band(b, rows + r * columns);
  }
  tn_mem_free(b->grid.base), tn_mem_free(b->grid.step);
  tn_mem_free(b->w), tn_mem_free(b->plain), tn_mem_free(b->err), tn_mem_free(b->code), tn_mem_free(b->block);
  tn_mem_free(b);
  return s;
}
