/* scaling.c - the search for scales, and the error that they leave: of a row's error d the sum over d_i H_ij
 * d_j, H the moments of what the row meets. Rows go LANES at a time. */
#include "passes/quantize/scaling.h"
#include "ir/base/base.h"
#include "ir/quant/encode.h"
#include <math.h>

#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__)
#define WIDE __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define WIDE
#endif

enum { LANES = 16, TRIES = 20 };

typedef struct search {
  uint32_t columns;
  const tn_scaling_matrix *matrices;
  uint32_t n;
  float *h;                /* [columns, columns]: all of it */
  float *importance, *own; /* mean squares; those of the scaled value */
  float *scaled, *rebuilt; /* [LANES, columns] */
  float *lanes;            /* [columns, LANES]: errors */
  uint8_t *blocks;
} search;

bool tn_scaling_can(tn_dtype t) {
  const tn_quant *q = tn_quant_of(t);
  return q && tn_encode_can(t) && (q->d != TN_QN_ONE || q->inner != TN_QI_NONE);
}

/* The sum over rows of d H d. */
WIDE static double weigh(const float *h, const float *lanes, uint32_t columns) {
  double total = 0;
  for (uint32_t i = 0; i < columns; i++) {
    float sum[LANES] = {0};
    const float *row = h + (uint64_t)i * columns, *mine = lanes + (uint64_t)i * LANES;
    for (uint32_t j = 0; j < columns; j++)
      for (int l = 0; l < LANES; l++) sum[l] += row[j] * lanes[j * LANES + (uint32_t)l];
    float one = 0;
    for (int l = 0; l < LANES; l++) one += sum[l] * mine[l];
    total += (double)one;
  }
  return total;
}

/* The errors of up to LANES rows that are scaled, rounded and scaled back. */
static tn_status rows_error(search *x, const float *rows, uint32_t n, tn_dtype type, const float *s,
                            double *sum) {
  const tn_quant *q = tn_quant_of(type);
  uint64_t columns = x->columns, bytes = tn_encode_row_bytes(type, columns);
  for (uint64_t r = 0; r < n; r++)
    for (uint64_t k = 0; k < columns; k++) x->scaled[r * columns + k] = rows[r * columns + k] * s[k];
  TN_TRY(tn_encode_rows(type, x->scaled, n, columns, x->own, x->blocks, NULL));
  for (uint64_t r = 0; r < n; r++)
    for (uint64_t b = 0; b < columns / q->values; b++)
      tn_quant_unpack(q, x->blocks + r * bytes + b * q->bytes, x->rebuilt + r * columns + b * q->values);
  for (uint64_t k = 0; k < columns; k++)
    for (uint64_t l = 0; l < LANES; l++)
      x->lanes[k * LANES + l] = l < n ? x->rebuilt[l * columns + k] / s[k] - rows[l * columns + k] : 0;
  *sum += weigh(x->h, x->lanes, x->columns);
  return TN_OK;
}

static tn_status error_of(search *x, const float *s, double *sum) {
  *sum = 0;
  for (uint32_t k = 0; k < x->columns; k++) x->own[k] = x->importance[k] / (s[k] * s[k]);
  for (uint32_t i = 0; i < x->n; i++) {
    const tn_scaling_matrix *m = &x->matrices[i];
    for (uint64_t r = 0; r < m->n; r += LANES)
      TN_TRY(rows_error(x, m->rows + r * x->columns, m->n - r < LANES ? (uint32_t)(m->n - r) : LANES, m->type,
                        s, sum));
  }
  return TN_OK;
}

/* rms^power, with as much above 1 as below it. Columns that meet nothing keep 1. */
static void scales_of(const search *x, double power, float *s) {
  double least = INFINITY, most = 0;
  for (uint32_t k = 0; k < x->columns; k++) {
    double v = x->importance[k] > 0 ? pow(sqrt((double)x->importance[k]), power) : 0;
    s[k] = (float)v;
    if (v > 0) least = fmin(least, v), most = fmax(most, v);
  }
  double middle = most > 0 ? sqrt(least * most) : 1;
  for (uint32_t k = 0; k < x->columns; k++) {
    double v = s[k] > 0 ? (double)s[k] / middle : 1;
    s[k] = (float)fmin(fmax(v, 1e-3), 1e3);
  }
}

static tn_status try_all(search *x, float *s, double *before, double *after) {
  float *one = tn_mem_alloc(x->columns * sizeof *one);
  tn_status status = one ? TN_OK : TN_OOM;
  double error;
  for (uint32_t k = 0; k < x->columns; k++) s[k] = 1;
  for (int i = 0; i < TRIES && status == TN_OK; i++) {
    scales_of(x, (double)i / TRIES, one);
    status = error_of(x, one, &error);
    if (i == 0) *before = *after = error;
    if (error >= *after) continue;
    *after = error;
    memcpy(s, one, x->columns * sizeof *s);
  }
  tn_mem_free(one);
  return status;
}

static uint64_t most_bytes(const search *x) {
  uint64_t most = 1;
  for (uint32_t i = 0; i < x->n; i++) {
    uint64_t n = tn_encode_row_bytes(x->matrices[i].type, x->columns);
    if (!n || !tn_scaling_can(x->matrices[i].type)) return 0;
    if (n > most) most = n;
  }
  return most;
}

tn_status tn_scaling_search(uint32_t columns, const float *moments, const tn_scaling_matrix *matrices,
                            uint32_t n, float *s, double *before, double *after) {
  search x = {.columns = columns, .matrices = matrices, .n = n};
  uint64_t c = columns, bytes = most_bytes(&x);
  if (!bytes) return TN_UNSUPPORTED;
  x.h = tn_mem_alloc(c * c * sizeof *x.h);
  x.importance = tn_mem_alloc(c * sizeof *x.importance);
  x.own = tn_mem_alloc(c * sizeof *x.own);
  x.scaled = tn_mem_alloc(c * LANES * sizeof *x.scaled);
  x.rebuilt = tn_mem_alloc(c * LANES * sizeof *x.rebuilt);
  x.lanes = tn_mem_alloc(c * LANES * sizeof *x.lanes);
  x.blocks = tn_mem_alloc(bytes * LANES);
  tn_status status = TN_OOM;
  if (x.h && x.importance && x.own && x.scaled && x.rebuilt && x.lanes && x.blocks) {
    for (uint64_t i = 0; i < c; i++)
      for (uint64_t j = i; j < c; j++) x.h[i * c + j] = x.h[j * c + i] = moments[i * c + j];
    for (uint64_t i = 0; i < c; i++) x.importance[i] = moments[i * c + i];
    status = try_all(&x, s, before, after);
  }
  tn_mem_free(x.h), tn_mem_free(x.importance), tn_mem_free(x.own), tn_mem_free(x.scaled);
  tn_mem_free(x.rebuilt), tn_mem_free(x.lanes), tn_mem_free(x.blocks);
  return status;
}

void tn_scaling_smooth(uint32_t columns, const float *activations, const float *weights, double alpha,
                       float *s) {
  for (uint32_t k = 0; k < columns; k++) {
    double a = (double)activations[k], w = (double)weights[k];
    double v = a > 0 && w > 0 ? pow(a, alpha) / pow(w, 1 - alpha) : 1;
    s[k] = (float)fmin(fmax(v, 1e-4), 1e4);
  }
}
