/* calibrate_scale.c - AWQ-style scaling and SmoothQuant: a matrix's columns are multiplied by factors that
 * what makes its input is divided by. That is a norm in front of it, or the matrix whose product, times
 * something, the input is. Inputs that anything else reads, or that something else makes, stay. */
#include "tools/quantize/calibrate/calibrate.h"
#include "passes/quantize/scaling.h"
#include "passes/rw.h"
#include "tools/quantize/observe/weight_names.h"
#include <math.h>

enum { SAMPLE = 48 /* rows of each matrix that the search rounds */, MATRICES = 8 };

/* What an input is made of. */
typedef struct origin {
  tn_weight
      divided[2]; /* by the factors: a norm's weight and bias, or a matrix's rows and its bias; 0: none */
  bool rows;      /* the first is a matrix */
  double offset;  /* what the norm adds to its weight */
} origin;

/* ---- where factors go ---------------------------------------------------------------------------------- */

static tn_weight weight_of(tn_module *m, tn_value v) {
  tn_value_info i;
  tn_ir_value_get(m, v, &i);
  return i.kind == TN_VALUE_WEIGHT ? i.weight : 0;
}

static uint32_t uses_in(tn_module *m, tn_func f, tn_value v) {
  uint32_t n = 0, operand;
  for (uint32_t i = 0; i < tn_rw_nuses(m, v); i++)
    n += tn_ir_op_func(m, tn_ir_value_use(m, v, i, &operand)) == f;
  return n;
}

/* The weight v, maybe cast, if f reads it in one place; 0: it does not. */
static tn_weight sole_weight(const tn_calibration *c, tn_value v) {
  tn_module *m = c->source.module;
  tn_op cast = v ? tn_rw_def_as(m, v, TN_OPC_cast) : 0;
  if (cast && uses_in(m, c->source.func, v) == 1) v = tn_ir_op_operand(m, cast, 0);
  tn_weight w = v ? weight_of(m, v) : 0;
  return w && uses_in(m, c->source.func, v) == 1 ? w : 0;
}

static bool norm_origin(const tn_calibration *c, tn_op op, origin *o) {
  tn_module *m = c->source.module;
  bool rms = tn_rw_is(m, op, TN_OPC_rms_norm);
  if (!rms && !tn_rw_is(m, op, TN_OPC_layer_norm)) return false;
  *o = (origin){.divided = {sole_weight(c, tn_ir_op_operand(m, op, 1))}};
  tn_value bias = rms ? 0 : tn_ir_op_operand(m, op, 2);
  if (bias && !(o->divided[1] = sole_weight(c, bias))) return false;
  if (rms) o->offset = tn_rw_float(m, op, "offset");
  return o->divided[0] != 0;
}

/* v as a product with rows of a matrix that nothing else reads, maybe with a bias. */
static bool matrix_origin(const tn_calibration *c, tn_value v, origin *o) {
  tn_module *m = c->source.module;
  tn_func f = c->source.func;
  *o = (origin){.rows = true};
  tn_op op = uses_in(m, f, v) == 1 ? tn_rw_def(m, v) : 0;
  if (tn_rw_is(m, op, TN_OPC_add)) {
    if (!(o->divided[1] = sole_weight(c, tn_ir_op_operand(m, op, 1)))) return false;
    v = tn_ir_op_operand(m, op, 0);
    op = uses_in(m, f, v) == 1 ? tn_rw_def(m, v) : 0;
  }
  if (!tn_rw_is(m, op, TN_OPC_matmul) || !tn_rw_int(m, op, "trans_b")) return false;
  o->divided[0] = sole_weight(c, tn_ir_op_operand(m, op, 1));
  return o->divided[0] != 0;
}

static bool origin_of(const tn_calibration *c, tn_value v, origin *o) {
  tn_module *m = c->source.module;
  tn_op op = tn_rw_def(m, v);
  if (norm_origin(c, op, o)) return true;
  if (!tn_rw_is(m, op, TN_OPC_mul)) return false;
  return matrix_origin(c, tn_ir_op_operand(m, op, 1), o) || matrix_origin(c, tn_ir_op_operand(m, op, 0), o);
}

/* Whether all that reads the input are matrices that can be scaled. */
static bool only_scaled(const tn_calibration *c, uint32_t input) {
  const tn_cal_input *x = &c->inputs.items[input];
  uint32_t n = 0;
  for (uint32_t i = 0; i < c->weights.count; i++) {
    const tn_cal_weight *w = &c->weights.items[i];
    if (w->input != input) continue;
    tn_weight_info info;
    tn_ir_weight_get(c->source.module, w->product.weight, &info);
    if (w->ntensors != 1 || uses_in(c->source.module, c->source.func, info.value) != 1) return false;
    n++;
  }
  return !x->experts && n && n <= MATRICES && uses_in(c->source.module, c->source.func, x->value) == n;
}

/* The one tensor of the view that the weight becomes, of that many numbers; UINT32_MAX: none, or several. */
static uint32_t view_of(const tn_calibration *c, tn_weight w, bool rows, uint32_t n) {
  tn_weight_info info;
  tn_ir_weight_get(c->source.module, w, &info);
  tn_observed o = {.parts = info.parts, .nparts = info.nparts, .experts = 1};
  uint32_t t = tn_weight_tensor(c->q->view, &o, 0);
  if (t == UINT32_MAX || tn_weight_tensor(c->q->view, &o, 1) != UINT32_MAX) return UINT32_MAX;
  const tn_qtensor *x = &c->q->tensors[t];
  return (rows ? x->t->rank == 2 && x->rows == n : x->t->rank == 1 && x->columns == n) ? t : UINT32_MAX;
}

/* ---- matrices ------------------------------------------------------------------------------------------ */

typedef struct sample {
  tn_scaling_matrix m[MATRICES];
  uint32_t n;
} sample;

static void sample_fini(sample *s) {
  for (uint32_t i = 0; i < s->n; i++) tn_mem_free((void *)(uintptr_t)s->m[i].rows);
}

/* `most` rows of a tensor, evenly spread. */
static tn_status sample_rows(tn_calibration *c, uint32_t tensor, uint64_t most, tn_scaling_matrix *out) {
  const tn_qtensor *t = &c->q->tensors[tensor];
  uint64_t n = t->rows < most ? t->rows : most;
  float *rows = tn_mem_alloc(n * t->columns * sizeof *rows + 1);
  tn_ck_reader *r = NULL;
  tn_status s = rows ? tn_ck_reader_open(c->q->view, tensor, c->q->diags, &r) : TN_OOM;
  for (uint64_t i = 0; i < n && s == TN_OK; i++)
    s = tn_ck_reader_rows(r, i * t->rows / n, 1, rows + i * t->columns);
  tn_ck_reader_close(r);
  *out = (tn_scaling_matrix){rows, n, t->to};
  return s;
}

/* Of the matrices that the input meets; for AWQ of those whose numbers are rounded much. */
static tn_status read_samples(tn_calibration *c, uint32_t input, uint64_t most, sample *s) {
  for (uint32_t i = 0; i < c->weights.count; i++) {
    const tn_cal_weight *w = &c->weights.items[i];
    if (c->method == TN_CAL_AWQ && !tn_quant_of(c->q->tensors[w->tensor[0]].to)) continue;
    if (w->input == input) TN_TRY(sample_rows(c, w->tensor[0], most, &s->m[s->n++]));
  }
  return TN_OK;
}

/* ---- factors ------------------------------------------------------------------------------------------- */

static tn_status search(tn_calibration *c, const tn_cal_input *x, const sample *s, float *factors) {
  double before, after;
  for (uint32_t i = 0; i < s->n; i++)
    if (!tn_scaling_can(s->m[i].type))
      return tn_fail(c->q->diags, TN_UNSUPPORTED, NULL, NULL,
                     "--method awq does not know the error of %s by itself: use smoothquant",
                     tn_ir_dtype_info(s->m[i].type)->name);
  return tn_scaling_search(x->columns, x->moments, s->m, s->n, factors, &before, &after);
}

static tn_status smooth(const tn_cal_input *x, const sample *s, float *factors) {
  float *most = tn_mem_alloc(x->columns * sizeof *most);
  if (!most) return TN_OOM;
  for (uint32_t i = 0; i < s->n; i++)
    for (uint64_t k = 0; k < s->m[i].n * x->columns; k++)
      most[k % x->columns] = fmaxf(most[k % x->columns], fabsf(s->m[i].rows[k]));
  tn_scaling_smooth(x->columns, x->most, most, 0.5, factors);
  tn_mem_free(most);
  return TN_OK;
}

/* What the view's numbers of a norm lack of the factor that it applies: 1 where the format stores w - 1. */
static tn_status offset_of(tn_calibration *c, const origin *o, uint32_t view, float *out) {
  tn_weight_info info;
  tn_ir_weight_get(c->source.module, o->divided[0], &info);
  tn_observed seen = {.parts = info.parts, .nparts = info.nparts, .experts = 1};
  uint32_t from = tn_weight_tensor(c->q->source, &seen, 0);
  tn_scaling_matrix b = {0};
  tn_status s = from == UINT32_MAX ? TN_INTERNAL : sample_rows(c, view, 1, &b);
  tn_ck_reader *r = NULL;
  float *first = tn_mem_alloc(c->q->tensors[view].columns * sizeof *first + 1);
  if (s == TN_OK) s = first ? tn_ck_reader_open(c->q->source, from, c->q->diags, &r) : TN_OOM;
  if (s == TN_OK) s = tn_ck_reader_rows(r, 0, 1, first);
  if (s == TN_OK) *out = roundf((first[0] + (float)o->offset - b.rows[0]) * 1024) / 1024;
  tn_ck_reader_close(r);
  tn_mem_free(first);
  tn_mem_free((void *)(uintptr_t)b.rows);
  return s;
}

/* Factors are no numbers of few bits: what takes them is kept in f32. */
static void keep_f32(tn_calibration *c, uint32_t tensor) {
  tn_qtensor *t = &c->q->tensors[tensor];
  if (t->t->rank != 1) return;
  t->to = c->q->types[tensor] = TN_DT_f32;
  t->bytes = t->columns * sizeof(float);
}

static tn_status apply(tn_calibration *c, uint32_t input, const origin *o, const uint32_t view[2],
                       const float *factors) {
  uint32_t n = c->inputs.items[input].columns;
  float *inverse = tn_arena_alloc(&c->arena, n * sizeof *inverse);
  if (!inverse) return TN_OOM;
  for (uint32_t k = 0; k < n; k++) inverse[k] = 1 / factors[k];
  tn_cal_tensor *t = &c->tensors[view[0]];
  if (o->rows) {
    t->rows = inverse;
  } else {
    t->columns = inverse;
    TN_TRY(offset_of(c, o, view[0], &t->offset));
  }
  keep_f32(c, view[0]);
  if (o->divided[1]) {
    c->tensors[view[1]].columns = inverse;
    keep_f32(c, view[1]);
  }
  for (uint32_t i = 0; i < c->weights.count; i++)
    if (c->weights.items[i].input == input) c->tensors[c->weights.items[i].tensor[0]].columns = factors;
  return TN_OK;
}

static tn_status scale_input(tn_calibration *c, uint32_t input) {
  const tn_cal_input *x = &c->inputs.items[input];
  origin o;
  uint32_t view[2] = {0};
  if (!only_scaled(c, input) || !origin_of(c, x->value, &o)) return TN_OK;
  view[0] = view_of(c, o.divided[0], o.rows, x->columns);
  view[1] = o.divided[1] ? view_of(c, o.divided[1], false, x->columns) : 0;
  if (view[0] == UINT32_MAX || view[1] == UINT32_MAX) return TN_OK;
  float *factors = tn_arena_alloc(&c->arena, x->columns * sizeof *factors);
  if (!factors) return TN_OOM;
  sample s = {.n = 0};
  bool awq = c->method == TN_CAL_AWQ;
  tn_status status = read_samples(c, input, awq ? SAMPLE : UINT64_MAX, &s);
  if (status == TN_OK && !s.n) return status;
  if (status == TN_OK) status = awq ? search(c, x, &s, factors) : smooth(x, &s, factors);
  if (status == TN_OK) status = apply(c, input, &o, view, factors);
  sample_fini(&s);
  c->scaled += status == TN_OK;
  return status;
}

tn_status tn_cal_scale(tn_calibration *c, uint32_t first, uint32_t end) {
  for (uint32_t i = first; i < end; i++) TN_TRY(scale_input(c, i));
  return TN_OK;
}

bool tn_cal_adjust(void *ctx, uint32_t tensor, uint64_t first, uint64_t rows, float *numbers) {
  const tn_quantize *q = ctx;
  const tn_calibration *c = q->calibration;
  const tn_cal_tensor *t = &c->tensors[tensor];
  uint64_t n = q->tensors[tensor].columns;
  for (uint64_t r = 0; numbers && r < rows; r++)
    for (uint64_t k = 0; k < n; k++) {
      float *x = numbers + r * n + k;
      if (t->columns) *x = (*x + t->offset) * t->columns[k] - t->offset;
      if (t->rows) *x *= t->rows[first + r];
    }
  return t->columns || t->rows;
}
