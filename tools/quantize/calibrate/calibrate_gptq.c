/* calibrate_gptq.c - a group's weights, encoded with their inputs' moments. Encoded rows wait in a file until
 * they are saved; the weights as they are from then on go into another, for the layers behind. */
#include "tools/quantize/calibrate/calibrate.h"
#include "ir/quant/encode.h"

enum { BAND = 64 /* rows that a thread takes at once */ };

typedef struct encoding {
  tn_calibration *c;
  tn_gptq g;
  const float *rows; /* [n, columns] */
  uint64_t n, row_bytes;
  uint8_t *out;
} encoding;

static tn_status encode_band(void *ctx, uint32_t thread, uint32_t i) {
  const encoding *e = ctx;
  uint64_t first = (uint64_t)i * BAND, n = e->n - first < BAND ? e->n - first : BAND;
  (void)thread;
  return tn_gptq_encode(&e->g, e->rows + first * e->g.columns, n, e->out + first * e->row_bytes);
}

static tn_status encode_all(encoding *e) {
  uint32_t threads = e->c->q->threads ? e->c->q->threads : tn_processors();
  e->row_bytes = tn_encode_row_bytes(e->g.type, e->g.columns);
  e->out = tn_mem_alloc(e->n * e->row_bytes + 1);
  if (!e->out) return TN_OOM;
  return tn_parallel(threads, (uint32_t)((e->n + BAND - 1) / BAND), encode_band, e);
}

/* ---- rows of tensors ----------------------------------------------------------------------------------- */

/* All numbers of a tensor, [rows, columns]; freed with tn_mem_free. */
static tn_status load(tn_calibration *c, tn_checkpoint *ck, uint32_t tensor, uint64_t *rows, float **out) {
  const tn_ck_tensor *t = tn_checkpoint_at(ck, tensor);
  uint64_t n = 1, columns = (uint64_t)t->shape[t->rank - 1];
  tn_ck_reader *r = NULL;
  for (uint32_t i = 0; i + 1 < t->rank; i++) n *= (uint64_t)t->shape[i];
  *rows = n;
  *out = tn_mem_alloc(n * columns * sizeof **out + 1);
  if (!*out) return TN_OOM;
  tn_status s = tn_ck_reader_open(ck, tensor, c->q->diags, &r);
  if (s == TN_OK) s = tn_ck_reader_rows(r, 0, n, *out);
  tn_ck_reader_close(r);
  return s;
}

/* [rows, columns] -> [columns, rows] */
static tn_status turn(float **x, uint64_t rows, uint64_t columns) {
  float *t = tn_mem_alloc(rows * columns * sizeof *t + 1);
  if (!t) return TN_OOM;
  for (uint64_t i = 0; i < rows; i++)
    for (uint64_t k = 0; k < columns; k++) t[k * rows + i] = (*x)[i * columns + k];
  tn_mem_free(*x);
  *x = t;
  return TN_OK;
}

static tn_status store(tn_calibration *c, uint32_t tensor, const encoding *e) {
  tn_cal_tensor *t = &c->tensors[tensor];
  uint64_t bytes = e->n * e->row_bytes;
  if (c->codes < 0) TN_TRY(tn_cal_file(c, &c->codes));
  TN_TRY(tn_cal_put(c, c->codes, c->codes_size, e->out, bytes));
  t->at = c->codes_size;
  t->stored = true;
  c->codes_size += bytes;
  return TN_OK;
}

/* What layers behind see instead of the weight: in its own layout. */
static tn_status round_weight(tn_calibration *c, const tn_cal_weight *w, const encoding *e, float *x) {
  const tn_quant *q = tn_quant_of(e->g.type);
  uint64_t columns = e->g.columns;
  float *turned = x;
  for (uint64_t r = 0; r < e->n; r++)
    for (uint64_t b = 0; b < columns / q->values; b++)
      tn_quant_unpack(q, e->out + r * e->row_bytes + b * q->bytes, x + r * columns + b * q->values);
  if (c->rounded < 0) {
    TN_TRY(tn_cal_file(c, &c->rounded));
    snprintf(c->rounded_path, sizeof c->rounded_path, "/proc/self/fd/%d", c->rounded);
  }
  if (w->product.transposed) {
    turned = tn_mem_alloc(e->n * columns * sizeof *turned + 1);
    for (uint64_t r = 0; turned && r < e->n; r++)
      for (uint64_t k = 0; k < columns; k++) turned[k * e->n + r] = x[r * columns + k];
  }
  tn_status s =
      turned ? tn_cal_put(c, c->rounded, c->rounded_size, turned, e->n * columns * sizeof *x) : TN_OOM;
  if (turned != x) tn_mem_free(turned);
  c->replaced.items[c->replaced.count - 1].at = c->rounded_size;
  c->rounded_size += e->n * columns * sizeof *x;
  return s;
}

/* ---- one weight ---------------------------------------------------------------------------------------- */

static tn_gptq gptq_of(const tn_calibration *c, uint32_t tensor, const float *u, const uint32_t *order,
                       const float *importance) {
  const tn_qtensor *t = &c->q->tensors[tensor];
  return (tn_gptq){t->to, (uint32_t)t->columns, u, c->gptq.act_order ? order : NULL, importance};
}

/* The tensor of the view, where it does not lie as the weight does. */
static tn_status encode_view(tn_calibration *c, uint32_t tensor, tn_gptq g) {
  encoding e = {.c = c, .g = g};
  float *x = NULL;
  tn_status s = load(c, c->q->view, tensor, &e.n, &x);
  e.rows = x;
  if (s == TN_OK) s = encode_all(&e);
  if (s == TN_OK) s = store(c, tensor, &e);
  tn_mem_free(e.out);
  tn_mem_free(x);
  return s;
}

static tn_status encode_weight(tn_calibration *c, const tn_cal_weight *w, tn_gptq g) {
  encoding e = {.c = c, .g = g};
  float *x = NULL;
  bool same =
      tn_checkpoint_format(c->q->source) == c->q->format && !w->product.transposed && w->ntensors == 1;
  tn_status s = load(c, c->q->source, w->source, &e.n, &x);
  if (s == TN_OK && w->product.transposed) {
    uint64_t rows = e.n;
    e.n = (uint64_t)tn_checkpoint_at(c->q->source, w->source)->shape[1];
    s = turn(&x, rows, e.n);
  }
  e.rows = x;
  if (s == TN_OK) s = encode_all(&e);
  if (s == TN_OK && same) s = store(c, w->tensor[0], &e);
  if (s == TN_OK) s = round_weight(c, w, &e, x);
  tn_mem_free(e.out);
  tn_mem_free(x);
  for (uint32_t i = 0; i < w->ntensors && s == TN_OK && !same; i++) {
    g.type = c->q->tensors[w->tensor[i]].to;
    s = encode_view(c, w->tensor[i], g);
  }
  return s;
}

/* ---- a group ------------------------------------------------------------------------------------------- */

static bool can(const tn_calibration *c, const tn_cal_weight *w) {
  for (uint32_t i = 0; i < w->ntensors; i++)
    if (!tn_gptq_can(c->q->tensors[w->tensor[i]].to) || c->q->tensors[w->tensor[i]].t->rank != 2)
      return false;
  return true;
}

static tn_status encode_input(tn_calibration *c, uint32_t input) {
  const tn_cal_input *x = &c->inputs.items[input];
  uint64_t n = x->columns;
  float *u = tn_mem_alloc(n * n * sizeof *u), *importance = tn_mem_alloc(n * sizeof *importance);
  uint32_t *order = tn_mem_alloc(n * sizeof *order);
  tn_status s =
      u && importance && order ? tn_gptq_factor(x->moments, x->columns, &c->gptq, order, u) : TN_OOM;
  if (s == TN_INVALID)
    tn_fail(c->q->diags, s, NULL, NULL, "what meets the matrices of layer %d is not finite", x->layer);
  for (uint64_t i = 0; s == TN_OK && i < n; i++) importance[i] = x->moments[i * n + i];
  for (uint32_t i = 0; i < c->weights.count && s == TN_OK; i++) {
    const tn_cal_weight *w = &c->weights.items[i];
    if (w->input != input || !can(c, w)) continue;
    if (!tn_vec_reserve(&c->replaced, c->replaced.count + 1)) s = TN_OOM;
    if (s == TN_OK) c->replaced.items[c->replaced.count++].weight = w->product.weight;
    if (s == TN_OK) s = encode_weight(c, w, gptq_of(c, w->tensor[0], u, order, importance));
  }
  tn_mem_free(u);
  tn_mem_free(importance);
  tn_mem_free(order);
  return s;
}

tn_status tn_cal_gptq(tn_calibration *c, uint32_t first, uint32_t end) {
  c->replaced.count = 0;
  c->rounded_size = 0;
  for (uint32_t i = first; i < end; i++)
    if (c->inputs.items[i].moments) TN_TRY(encode_input(c, i));
  return TN_OK;
}
