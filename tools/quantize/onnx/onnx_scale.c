/* onnx_scale.c - numbers of int8: scales of weights, steps of activations, and the codes. Weights are read in
 * bands of rows; only the codes of one are in memory as a whole. */
#include "ir/quant/quant.h"
#include "tools/quantize/onnx/onnx.h"
#include <math.h>

enum { BAND = 1 << 20 };

/* ---- rows of a weight as f32 ---- */

static void to_f32(tn_dtype t, const uint8_t *in, uint64_t n, float *out) {
  const tn_quant *q = tn_quant_of(t);
  for (uint64_t i = 0; q && i < n; i += q->values) tn_quant_unpack(q, in + i / q->values * q->bytes, out + i);
  for (uint64_t i = 0; !q && i < n; i++) {
    uint16_t h;
    if (t == TN_DT_f32) {
      memcpy(out + i, in + 4 * i, 4);
      continue;
    }
    memcpy(&h, in + 2 * i, 2);
    out[i] = t == TN_DT_f16 ? tn_f16_to_f32(h) : tn_bf16_to_f32(h);
  }
}

static uint64_t row_bytes(const tn_int8_weight *w) {
  const tn_quant *q = tn_quant_of(w->dtype);
  return q ? w->columns / q->values * q->bytes : w->columns * (w->dtype == TN_DT_f32 ? 4 : 2);
}

tn_status tn_int8_each_band(tn_int8 *x, const tn_int8_weight *w, tn_int8_band band, void *ctx) {
  uint64_t bytes = row_bytes(w), most = BAND / w->columns + 1;
  uint8_t *in = tn_mem_alloc(most * bytes);
  float *numbers = tn_mem_alloc(most * w->columns * sizeof *numbers);
  tn_weight_reader r;
  tn_weight_reader_init(&r, x->d, x->m, w->weight);
  tn_status s = in && numbers ? TN_OK : TN_OOM;
  for (uint64_t first = 0; s == TN_OK && first < w->rows; first += most) {
    uint64_t n = w->rows - first < most ? w->rows - first : most;
    s = tn_weight_reader_read(&r, first * bytes, in, n * bytes);
    if (s != TN_OK) break;
    to_f32(w->dtype, in, n * w->columns, numbers);
    s = band(ctx, first, n, numbers);
  }
  tn_weight_reader_fini(&r);
  tn_mem_free(in);
  tn_mem_free(numbers);
  return s;
}

/* ---- the largest numbers ---- */

/* Whether the scales are of the columns as the weight lies. */
static bool by_column(const tn_int8_weight *w) { return !w->turned && !w->table; }
uint64_t tn_int8_outputs(const tn_int8_weight *w) { return by_column(w) ? w->columns : w->rows; }
uint64_t tn_int8_inputs(const tn_int8_weight *w) { return by_column(w) ? w->rows : w->columns; }

/* What a weight's numbers are multiplied by, per input: the other way round from its left operand. */
static float back(const float *factors, uint64_t input) { return factors ? 1 / factors[input] : 1; }

static tn_status add_largest(void *ctx, uint64_t first, uint64_t rows, const float *x) {
  tn_int8_largest *l = ctx;
  bool columns = by_column(l->w);
  for (uint64_t r = 0; r < rows; r++)
    for (uint64_t c = 0; c < l->w->columns; c++) {
      uint64_t in = columns ? first + r : c, out = columns ? c : first + r;
      float v = fabsf(x[r * l->w->columns + c] * back(l->factors, in));
      if (!(v <= 3e38f)) return TN_INVALID;
      if (l->outputs && v > l->outputs[out]) l->outputs[out] = v;
      if (l->inputs && v > l->inputs[in]) l->inputs[in] = v;
      if (l->squares) l->squares[in] += (double)v * (double)v;
    }
  return TN_OK;
}

tn_status tn_int8_find_largest(tn_int8 *x, tn_int8_largest *l) {
  tn_status s = tn_int8_each_band(x, l->w, add_largest, l);
  return s == TN_INVALID ? tn_fail(x->d->diags, s, NULL, l->w->name, "has a number that is not finite") : s;
}

/* ---- scales ---- */

static const float *factors_of(const tn_int8 *x, const tn_int8_weight *w) {
  return w->range && !w->table ? x->ranges.items[w->range - 1]->factors : NULL;
}

static tn_status scale_weight(tn_int8 *x, tn_int8_weight *w) {
  uint64_t n = tn_int8_outputs(w);
  float *scales = tn_arena_alloc(&x->arena, n * sizeof *scales), most = 0;
  if (!scales) return TN_OOM;
  TN_TRY(tn_int8_find_largest(x, &(tn_int8_largest){.w = w, .factors = factors_of(x, w), .outputs = scales}));
  for (uint64_t i = 0; i < n; i++) most = fmaxf(most, scales[i]);
  bool one = x->per_tensor && !w->table;
  for (uint64_t i = 0; i < n; i++) {
    scales[i] = (one ? most : scales[i]) / 127;
    if (!(scales[i] >= 0x1p-126f)) scales[i] = 1;
  }
  w->scales = scales;
  w->nscales = one ? 1 : (uint32_t)n;
  return TN_OK;
}

static tn_status range_missing(tn_int8 *x, const tn_int8_weight *w) {
  return tn_fail(x->d->diags, TN_INVALID, NULL, w->name,
                 "met nothing in the calibration data; --exclude keeps its products as they are");
}

static void complete(tn_int8 *x, tn_ow_int8 *row, const tn_int8_weight *w) {
  row->scales = w->scales;
  row->nscales = w->nscales;
  row->factors = factors_of(x, w);
  if (row->how != TN_OW_INT8_STATIC) return;
  const tn_int8_range *r = x->ranges.items[w->range - 1];
  float low, high;
  tn_range_choose(&r->range, &x->choice, &low, &high);
  tn_range_step(low, high, x->choice.symmetric, &row->scale, &row->zero);
  row->codes = x->choice.symmetric ? TN_DT_i8 : TN_DT_u8;
}

tn_status tn_int8_scale(tn_int8 *x) {
  for (uint32_t i = 0; i < x->weights.count && x->how == TN_OW_INT8_STATIC; i++)
    if (!x->weights.items[i].range && !x->weights.items[i].table)
      TN_TRY(range_missing(x, &x->weights.items[i]));
  for (uint32_t i = 0; i < x->weights.count; i++) TN_TRY(scale_weight(x, &x->weights.items[i]));
  for (uint32_t i = 0; i < x->rows.count; i++)
    complete(x, &x->rows.items[i], &x->weights.items[x->weight_of.items[i]]);
  return TN_OK;
}

/* ---- codes ---- */

typedef struct coding {
  tn_int8_weight *w;
  const float *factors;
  int8_t *out;
} coding;

static tn_status add_codes(void *ctx, uint64_t first, uint64_t rows, const float *x) {
  coding *c = ctx;
  const tn_int8_weight *w = c->w;
  bool columns = by_column(w);
  double error = 0, squares = 0;
  for (uint64_t r = 0; r < rows; r++)
    for (uint64_t i = 0; i < w->columns; i++) {
      uint64_t in = columns ? first + r : i, out = columns ? i : first + r;
      float scale = w->scales[w->nscales > 1 ? out : 0], v = x[r * w->columns + i] * back(c->factors, in);
      float code = fmaxf(fminf(rintf(v / scale), 127), -127);
      c->out[w->turned ? i * w->rows + first + r : (first + r) * w->columns + i] = (int8_t)code;
      double e = (double)(v - code * scale);
      error += e * e;
      squares += (double)v * (double)v;
    }
  c->w->error += error;
  c->w->squares += squares;
  return TN_OK;
}

tn_status tn_int8_codes(void *ctx, uint32_t row, uint64_t offset, void *dst, uint64_t len) {
  tn_int8 *x = ctx;
  uint32_t at = x->weight_of.items[row];
  tn_int8_weight *w = &x->weights.items[at];
  if (x->open != at + 1) {
    tn_mem_free(x->codes);
    x->open = 0;
    x->codes = tn_mem_alloc(w->rows * w->columns);
    if (!x->codes) return TN_OOM;
    w->error = w->squares = 0;
    TN_TRY(tn_int8_each_band(x, w, add_codes, &(coding){w, factors_of(x, w), x->codes}));
    x->open = at + 1;
  }
  memcpy(dst, x->codes + offset, len);
  return TN_OK;
}
