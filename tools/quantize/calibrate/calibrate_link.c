/* calibrate_link.c - from products of the imported graph to the tensors that are written. */
#include "tools/quantize/calibrate/calibrate.h"
#include "ir/quant/quant.h"
#include "tools/quantize/observe/weight_names.h"

static int64_t dim0(tn_module *m, tn_type type) {
  tn_type_info t;
  int64_t n;
  tn_ir_type_get(m, type, &t);
  return t.rank == 3 && tn_ir_dim_is_const(m, t.dims[0], &n) ? n : 1;
}

/* The i-th tensor of the checkpoint that has bytes of the weight. */
static uint32_t tensor_of(const tn_calibration *c, const tn_checkpoint *ck, tn_weight w, uint32_t i) {
  tn_weight_info info;
  tn_ir_weight_get(c->source.module, w, &info);
  tn_observed o = {.parts = info.parts, .nparts = info.nparts, .experts = 1};
  return tn_weight_tensor(ck, &o, i);
}

static tn_status input_of(tn_calibration *c, const tn_product *p, int32_t layer, uint32_t *out) {
  for (*out = 0; *out < c->inputs.count; ++*out) {
    const tn_cal_input *x = &c->inputs.items[*out];
    if (x->value == p->input && x->experts == p->experts) return TN_OK;
  }
  tn_weight_info w;
  tn_ir_weight_get(c->source.module, p->weight, &w);
  tn_cal_input x = {
      .value = p->input, .experts = p->experts, .columns = p->columns, .layer = layer, .first = p->op};
  x.nexperts = p->experts ? (uint32_t)dim0(c->source.module, w.type) : 1;
  x.squares = tn_arena_alloc(&c->arena, (uint64_t)x.nexperts * x.columns * sizeof *x.squares);
  x.counts = tn_arena_alloc(&c->arena, x.nexperts * sizeof *x.counts);
  x.most = tn_arena_alloc(&c->arena, x.columns * sizeof *x.most);
  return x.squares && x.counts && x.most && tn_vec_push(&c->inputs, x) ? TN_OK : TN_OOM;
}

/* Tensors whose rows are what the product sums over, and that change. */
static bool is_wanted(const tn_calibration *c, const tn_product *p, uint32_t t) {
  const tn_qtensor *x = &c->q->tensors[t];
  bool stays = x->to == x->t->dtype; /* it can be scaled all the same, unless it is blocks */
  if (x->columns != p->columns || (stays && (c->method < TN_CAL_AWQ || tn_quant_of(x->to)))) return false;
  if (x->cls == TN_SC_EMBEDDING || x->cls == TN_SC_KEEP) return false;
  return !p->transposed || c->q->format == TN_CK_GGUF; /* a folder keeps it as it lies */
}

static tn_status add(tn_calibration *c, const tn_product *p) {
  tn_cal_weight w = {.product = *p};
  w.source = tensor_of(c, c->q->source, p->weight, 0);
  uint32_t t;
  for (uint32_t i = 0;
       (t = tensor_of(c, c->q->view, p->weight, i)) != UINT32_MAX && w.ntensors < TN_CAL_TENSORS; i++)
    if (is_wanted(c, p, t)) w.tensor[w.ntensors++] = t;
  if (!w.ntensors || w.source == UINT32_MAX) return TN_OK;
  TN_TRY(input_of(c, p, c->q->tensors[w.tensor[0]].t->layer, &w.input));
  return tn_vec_push(&c->weights, w) ? TN_OK : TN_OOM;
}

tn_status tn_cal_link(tn_calibration *c) {
  c->tensors = tn_arena_alloc(&c->arena, (c->q->count + 1) * sizeof *c->tensors);
  if (!c->tensors) return TN_OOM;
  for (uint32_t i = 0; i < c->source.products.count; i++) TN_TRY(add(c, &c->source.products.items[i]));
  if (!c->weights.count)
    return tn_fail(c->q->diags, TN_UNSUPPORTED, c->q->in, NULL,
                   "--calibration: no tensor that is encoded is the right side of a product");
  for (uint32_t i = 0; i < c->weights.count; i++)
    for (uint32_t k = 0; k < c->weights.items[i].ntensors; k++)
      c->tensors[c->weights.items[i].tensor[k]].input = &c->inputs.items[c->weights.items[i].input];
  return TN_OK;
}
