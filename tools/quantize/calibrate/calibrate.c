/* calibrate.c - tenon quantize --calibration TEXT --method NAME: the model reads the text, and what meets
 * each matrix decides how it is rounded. */
#include "ir/quant/encode.h"
#include "tools/quantize/calibrate/calibrate.h"
#include <unistd.h>

static const struct {
  const char *name;
  tn_cal_method method;
} methods[] = {
    {"rtn", TN_CAL_RTN}, {"gptq", TN_CAL_GPTQ}, {"awq", TN_CAL_AWQ}, {"smoothquant", TN_CAL_SMOOTH}};

static tn_status read_method(tn_calibration *c) {
  const tn_args *a = c->q->args;
  const char *name = a->last[OPT_method], *names[TN_COUNT(methods)];
  c->method = TN_CAL_RTN;
  for (size_t i = 0; i < TN_COUNT(methods); i++) {
    names[i] = methods[i].name;
    if (name && !strcmp(name, names[i])) {
      c->method = methods[i].method;
      name = NULL;
    }
  }
  if (name) {
    int near = tn_str_nearest(name, names, (int)TN_COUNT(names));
    return tn_fail(c->q->diags, TN_INVALID, NULL, NULL,
                   "--method: '%s' is not rtn, gptq, awq or smoothquant%s%s", name,
                   near >= 0 ? "; did you mean " : "", near >= 0 ? names[near] : "");
  }
  if (c->method != TN_CAL_RTN && !a->last[OPT_calibration])
    return tn_fail(c->q->diags, TN_INVALID, NULL, NULL,
                   "--method %s needs a text to learn from: --calibration FILE", a->last[OPT_method]);
  return TN_OK;
}

/* ---- groups -------------------------------------------------------------------------------------------- */

/* Whether a weight that the input meets is rounded, or scaled, with its moments. */
static bool wants_moments(const tn_calibration *c, uint32_t input) {
  if (c->method == TN_CAL_AWQ) return true;
  for (uint32_t i = 0; i < c->weights.count; i++) {
    const tn_cal_weight *w = &c->weights.items[i];
    if (w->input == input && tn_gptq_can(c->q->tensors[w->tensor[0]].to)) return true;
  }
  return false;
}

static tn_status begin_group(tn_calibration *c, uint32_t first, uint32_t end) {
  for (uint32_t i = first; i < end; i++) {
    tn_cal_input *x = &c->inputs.items[i];
    if (c->method == TN_CAL_RTN || c->method == TN_CAL_SMOOTH || x->experts || !wants_moments(c, i)) continue;
    x->moments = tn_mem_alloc((uint64_t)x->columns * x->columns * sizeof *x->moments);
    if (!x->moments)
      return tn_fail(c->q->diags, TN_OOM, NULL, NULL, "no memory for the moments of %u columns", x->columns);
  }
  return TN_OK;
}

static void end_group(tn_calibration *c, uint32_t first, uint32_t end) {
  for (uint32_t i = first; i < end; i++) {
    tn_mem_free(c->inputs.items[i].moments);
    c->inputs.items[i].moments = NULL;
  }
}

/* Without encoding between, one run is enough. */
static uint32_t group_end(const tn_calibration *c, uint32_t first) {
  uint32_t end = first + 1;
  while (end < c->inputs.count && (c->method == TN_CAL_RTN || c->method == TN_CAL_SMOOTH ||
                                   c->inputs.items[end].layer == c->inputs.items[first].layer))
    end++;
  return end;
}

static tn_status run_groups(tn_calibration *c) {
  tn_progress bar;
  tn_status s = TN_OK;
  tn_progress_begin(&bar, !c->q->args->given[OPT_json], "calibrating");
  for (uint32_t first = 0, end; first < c->inputs.count && s == TN_OK; first = end) {
    end = group_end(c, first);
    s = begin_group(c, first, end);
    if (s == TN_OK) s = tn_cal_observe(c, first, end);
    if (s == TN_OK && c->method == TN_CAL_GPTQ) s = tn_cal_gptq(c, first, end);
    if (s == TN_OK && c->method > TN_CAL_GPTQ) s = tn_cal_scale(c, first, end);
    end_group(c, first, end);
    tn_progress_step(&bar, end, c->inputs.count);
  }
  tn_progress_end(&bar);
  return s;
}

/* ---- saving -------------------------------------------------------------------------------------------- */

static tn_status encode(void *ctx, uint32_t tensor, uint64_t first, uint64_t rows, const float *in,
                        uint8_t *out, bool *taken) {
  tn_quantize *q = ctx;
  tn_calibration *c = q->calibration;
  const tn_cal_tensor *t = &c->tensors[tensor];
  uint64_t bytes = tn_encode_row_bytes(q->tensors[tensor].to, q->tensors[tensor].columns);
  (void)in;
  *taken = t->stored;
  return t->stored ? tn_cal_get(c, c->codes, t->at + first * bytes, out, rows * bytes) : TN_OK;
}

static const float *importance(void *ctx, uint32_t tensor, uint64_t *rows) {
  tn_quantize *q = ctx;
  *rows = q->tensors[tensor].importance_rows;
  return q->tensors[tensor].importance;
}

/* Mean squares, as an importance matrix gives them, for what no other source says. */
static tn_status keep_importance(tn_calibration *c) {
  for (uint32_t i = 0; i < c->q->count; i++) {
    tn_qtensor *t = &c->q->tensors[i];
    const tn_cal_input *x = c->tensors[i].input;
    if (!x || t->importance) continue;
    float *m = tn_arena_alloc(&c->arena, (uint64_t)x->nexperts * x->columns * sizeof *m);
    if (!m) return TN_OOM;
    for (uint64_t k = 0; k < (uint64_t)x->nexperts * x->columns; k++) {
      uint64_t n = x->counts[k / x->columns];
      float s = c->tensors[i].columns ? c->tensors[i].columns[k % x->columns] : 1;
      m[k] = n ? (float)(x->squares[k] / (double)n) / (s * s) : 1;
    }
    t->importance = m;
    t->importance_rows = x->nexperts;
  }
  return TN_OK;
}

static tn_status calibrate(tn_calibration *c) {
  tn_quantize *q = c->q;
  bool bad = false;
  TN_TRY(read_method(c));
  if (!q->args->last[OPT_calibration]) return TN_OK;
  c->has_source = true;
  TN_TRY(tn_observe_source_open(&c->source, &q->driver, q->in, q->diags));
  c->chunk = (uint32_t)tn_args_int(q->args, OPT_capacity, 0, &bad);
  if (bad) return TN_INVALID;
  if (tn_observe_is_causal(&c->source)) c->chunk = tn_windows_chunk(&c->source, c->chunk);
  c->gptq = (tn_gptq_options){.act_order = true, .threads = q->threads};
  TN_TRY(tn_cal_link(c));
  TN_TRY(run_groups(c));
  TN_TRY(keep_importance(c));
  if (c->method > TN_CAL_GPTQ && !c->scaled)
    return tn_fail(q->diags, TN_UNSUPPORTED, q->in, NULL,
                   "--method %s: no matrix has a norm or a matrix in front that could take its factors",
                   q->args->last[OPT_method]);
  if (c->scaled) q->save.adjust = tn_cal_adjust;
  q->save.encode = encode;
  q->save.importance = importance;
  return TN_OK;
}

tn_status tn_quantize_calibrated(tn_quantize *q) {
  if (!q->args->last[OPT_calibration] && !q->args->last[OPT_method]) return TN_OK;
  tn_calibration *c = tn_arena_alloc(&q->arena, sizeof *c);
  if (!c) return TN_OOM;
  *c = (tn_calibration){.q = q, .codes = -1, .rounded = -1, .carry = {.fd = -1}};
  tn_arena_init(&c->arena);
  q->calibration = c;
  return calibrate(c);
}

void tn_quantize_calibrated_end(tn_quantize *q) {
  tn_calibration *c = q->calibration;
  if (!c) return;
  end_group(c, 0, c->inputs.count);
  tn_cal_carry_fini(&c->carry);
  if (c->codes >= 0) close(c->codes);
  if (c->rounded >= 0) close(c->rounded);
  if (c->has_windows) tn_windows_fini(&c->windows);
  if (c->has_source) tn_observe_source_close(&c->source);
  tn_vec_fini(&c->inputs);
  tn_vec_fini(&c->weights);
  tn_vec_fini(&c->replaced);
  tn_arena_fini(&c->arena);
  q->calibration = NULL;
}
