/* attention.c - attention weights, as the model itself computes them: beside each attention a second one is
 * put that reads the same queries, keys and masks, but whose values are the rows of an identity matrix, so
 * that what it gives are the weights. */
#include "tools/report/attention.h"
#include "passes/rw.h"
#include "tools/quantize/observe/observe_model.h"
#include <stdlib.h>

enum { MAX_TOKENS = 128, MAX_LAYERS = 512, SHOWN = 6 };

typedef struct maps {
  tn_report *report;
  const tn_attention_options *o;
  const char *model;
  tn_diags *d;
  tn_arena arena;
  tn_observe_source source;
  tn_observe_run run;
  tn_op ops[MAX_LAYERS];
  tn_value values[MAX_LAYERS];
  uint32_t nlayers, layers[MAX_LAYERS], nchosen;
  int32_t ids[MAX_TOKENS];
  const char *tokens[MAX_TOKENS];
  uint32_t ntokens;
} maps;

/* ---- the graph ----------------------------------------------------------------------------------------- */

static tn_named_attr dims_attr(const char *name, const tn_dim *dims, uint32_t n) {
  return (tn_named_attr){name, {.kind = TN_ATTR_DIMS, .count = n, .u.dims = dims}};
}

static tn_named_attr int_attr(const char *name, uint32_t kind, int64_t x) {
  return (tn_named_attr){name, {.kind = kind, .u.i = x}};
}

static tn_value counting(tn_module *m, tn_point at, const tn_dim *shape, int64_t axis, tn_loc loc) {
  const tn_named_attr a[] = {dims_attr("shape", shape, 2), int_attr("axis", TN_ATTR_INT, axis),
                             int_attr("dtype", TN_ATTR_DTYPE, TN_DT_i32)};
  return tn_rw_build(m, at, TN_OPC_iota, NULL, 0, a, TN_COUNT(a), loc);
}

/* [b, rows, heads, width]: row i is the unit vector i. */
static tn_value identity(tn_module *m, tn_point at, const tn_dim *keys, tn_dim width, tn_loc loc) {
  tn_dim one = tn_ir_dim_const(m, 1), square[] = {keys[1], width}, flat[] = {one, keys[1], one, width};
  const tn_dim full[] = {keys[0], keys[1], keys[2], width};
  tn_value pair[] = {counting(m, at, square, 0, loc), counting(m, at, square, 1, loc)};
  const tn_named_attr equal = {"cmp", {.kind = TN_ATTR_STR, .u.s = "eq"}};
  tn_value x = pair[0] && pair[1] ? tn_rw_build(m, at, TN_OPC_compare, pair, 2, &equal, 1, loc) : 0;
  const tn_named_attr to = int_attr("to", TN_ATTR_DTYPE, TN_DT_f32),
                      shapes[] = {dims_attr("shape", flat, 4), dims_attr("shape", full, 4)};
  if (x) x = tn_rw_build(m, at, TN_OPC_cast, &x, 1, &to, 1, loc);
  if (x) x = tn_rw_build(m, at, TN_OPC_reshape, &x, 1, &shapes[0], 1, loc);
  return x ? tn_rw_build(m, at, TN_OPC_broadcast, &x, 1, &shapes[1], 1, loc) : 0;
}

/* The weights of an attention: [b, s, heads, keys]. 0: a message was left. */
static tn_value weights_of(tn_module *m, tn_op op) {
  const tn_op_spec *spec = tn_op_spec_of(TN_OPC_attention);
  tn_named_attr attrs[16];
  tn_value operands[8];
  uint32_t n = tn_ir_op_noperands(m, op);
  if (spec->nattrs > TN_COUNT(attrs) || n > TN_COUNT(operands)) return 0;
  for (uint32_t i = 0; i < spec->nattrs; i++)
    attrs[i] = (tn_named_attr){spec->attrs[i].name, tn_rw_attr(m, op, spec->attrs[i].name)};
  for (uint32_t i = 0; i < n; i++) operands[i] = tn_ir_op_operand(m, op, i);
  tn_type_info keys = tn_rw_type_info(m, operands[1]);
  tn_attr some = tn_rw_attr(m, op, "keys");
  bool ring = tn_rw_int(m, op, "ring"), all = tn_rw_dim_is(m, some.u.dim, 0);
  tn_point at = tn_rw_before(op);
  operands[2] = identity(m, at, keys.dims, all || ring ? keys.dims[1] : some.u.dim, tn_ir_op_loc(m, op));
  return operands[2]
             ? tn_rw_build(m, at, TN_OPC_attention, operands, n, attrs, spec->nattrs, tn_ir_op_loc(m, op))
             : 0;
}

/* Files of other formats spell attention out. */
static tn_status recover(maps *x, tn_module *m) {
  tn_pipeline_run run = {.pipeline = "canonicalize, fold, cse, recover, fuse-rope, fuse-attention, dce"};
  tn_status s = tn_driver_optimize(&x->source.driver, m, &run);
  tn_pipeline_fini(&run);
  return s;
}

static tn_status find_layers(maps *x, tn_module *m) {
  for (int again = 0; again < 2 && !x->nlayers; again++) {
    if (again) TN_TRY(recover(x, m));
    for (tn_op op = tn_ir_first_op(m, x->source.func, 0); op; op = tn_ir_next_op(m, op))
      if (tn_rw_is(m, op, TN_OPC_attention) && x->nlayers < MAX_LAYERS) x->ops[x->nlayers++] = op;
  }
  return x->nlayers ? TN_OK
                    : tn_fail(x->d, TN_UNSUPPORTED, x->model, NULL, "no attention is found in the model");
}

static tn_status choose_layers(maps *x) {
  const char *list = x->o->layers;
  uint32_t some = x->nlayers < SHOWN ? x->nlayers : SHOWN;
  for (uint32_t i = 0; !list && i < some; i++)
    x->layers[x->nchosen++] = some > 1 ? i * (x->nlayers - 1) / (some - 1) : 0;
  while (list && *list) {
    char *end;
    unsigned long layer = strtoul(list, &end, 10);
    if (end == list || (*end && *end != ',') || layer >= x->nlayers || x->nchosen == MAX_LAYERS)
      return tn_fail(x->d, TN_INVALID, NULL, NULL,
                     "--layers: '%s': the model has attention in layers 0 to %u", list, x->nlayers - 1);
    x->layers[x->nchosen++] = (uint32_t)layer;
    list = *end ? end + 1 : end;
  }
  return TN_OK;
}

static tn_status prepare(maps *x) {
  tn_module *m = tn_module_clone(x->source.module, x->d);
  if (!m) return TN_OOM;
  tn_status s = find_layers(x, m);
  if (s == TN_OK) s = choose_layers(x);
  for (uint32_t i = 0; s == TN_OK && i < x->nchosen; i++)
    if (!(x->values[i] = weights_of(m, x->ops[x->layers[i]]))) s = TN_UNSUPPORTED;
  const char *most = tn_ir_meta_get(m, "max_positions");
  int64_t limit = most ? strtoll(most, NULL, 10) : MAX_TOKENS;
  if (s != TN_OK) tn_module_free(m);
  return s != TN_OK
             ? s
             : tn_observe_run_open(&x->run, &x->source, m, x->source.func, x->values, x->nchosen,
                                   x->o->threads, limit > 0 && limit < MAX_TOKENS ? limit : MAX_TOKENS, x->d);
}

/* ---- the run ------------------------------------------------------------------------------------------- */

static tn_status read_tokens(maps *x) {
  const tn_model_api *api = x->run.o.api;
  uint64_t n = MAX_TOKENS;
  tn_status s = api->tokenize(x->run.s, x->o->text, strlen(x->o->text), NULL, 0, 0, x->ids, NULL, &n);
  if (s == TN_INVALID && n > MAX_TOKENS)
    return tn_fail(x->d, s, NULL, NULL, "the text of --attention has %llu tokens, at most %d can be drawn",
                   (unsigned long long)n, MAX_TOKENS);
  if (s != TN_OK) return tn_fail(x->d, s, x->model, NULL, "%s", api->error(x->run.s));
  if (!n) return tn_fail(x->d, TN_INVALID, NULL, NULL, "the text of --attention has no token");
  x->ntokens = (uint32_t)n;
  for (uint32_t i = 0; i < n; i++) {
    char text[256];
    uint64_t len = sizeof text, raw = 0;
    const char *token = api->token_text(x->run.s, x->ids[i], &raw);
    s = api->detokenize(x->run.s, &x->ids[i], 1, 0, text, &len);
    x->tokens[i] = tn_arena_str(&x->arena, s == TN_OK && len && len <= sizeof text
                                               ? (tn_str){text, len}
                                               : (tn_str){token ? token : "", token ? raw : 0});
    if (!x->tokens[i]) return TN_OOM;
  }
  return TN_OK;
}

/* ids, and for encoders a mask of ones and types of zeros. */
static tn_status call(maps *x) {
  tn_entry_info e;
  tn_tensor in[8];
  x->run.o.api->entry(x->run.o.model, (uint32_t)x->run.entry, &e);
  if (e.ninputs > TN_COUNT(in))
    return tn_fail(x->d, TN_UNSUPPORTED, x->model, e.name, "%u inputs, the text gives ids, mask and types",
                   e.ninputs);
  for (uint32_t i = 0; i < e.ninputs; i++) {
    tn_arg_info arg;
    x->run.o.api->input(x->run.o.model, (uint32_t)x->run.entry, i, &arg);
    bool ids = strstr(arg.name, "ids") && !strstr(arg.name, "type") && !strstr(arg.name, "position");
    bool mask = strstr(arg.name, "mask"), position = strstr(arg.name, "position");
    if (!ids && !mask && !position && !strstr(arg.name, "type"))
      return tn_fail(x->d, TN_UNSUPPORTED, x->model, arg.name, "the text gives ids, mask and types only");
    int32_t *data = tn_arena_alloc(&x->arena, x->ntokens * sizeof *data);
    if (!data) return TN_OOM;
    for (uint32_t k = 0; k < x->ntokens; k++)
      data[k] = ids ? x->ids[k] : mask ? 1 : position ? (int32_t)k : 0;
    in[i] = (tn_tensor){.data = data, .dtype = TN_DT_i32, .rank = 2, .shape = {1, x->ntokens}};
  }
  return tn_observe_run_call(&x->run, in, x->d);
}

/* Of [1, tokens, heads, keys], or, where a backend keeps it so, with more keys than tokens. */
static tn_status add_layer(maps *x, uint32_t i) {
  const tn_tensor *t = &x->run.results[i];
  uint32_t n = x->ntokens;
  if (t->rank != 4 || t->dtype != TN_DT_f32 || t->shape[1] != n || t->shape[3] < n)
    return tn_fail(x->d, TN_INTERNAL, x->model, NULL, "layer %u: weights of an unexpected shape",
                   x->layers[i]);
  float *w = tn_arena_alloc(&x->arena, (uint64_t)n * n * sizeof *w);
  if (!w) return TN_OOM;
  for (int64_t head = 0; head < t->shape[2]; head++) {
    for (uint32_t q = 0; q < n; q++)
      for (uint32_t k = 0; k < n; k++)
        w[q * n + k] = ((const float *)t->data)[(q * t->shape[2] + head) * t->shape[3] + k];
    tn_report_attention(x->report, x->layers[i], (uint32_t)head, x->tokens, n, w);
  }
  return TN_OK;
}

tn_status tn_report_attention_of(tn_report *r, const tn_driver_options *driver, const char *model,
                                 const tn_attention_options *o, tn_diags *d) {
  maps *x = tn_mem_alloc(sizeof *x);
  if (!x) return TN_OOM;
  *x = (maps){.report = r, .o = o, .model = model, .d = d};
  tn_arena_init(&x->arena);
  tn_status s = tn_observe_source_open(&x->source, driver, model, d);
  if (s == TN_OK) s = prepare(x);
  if (s == TN_OK) s = read_tokens(x);
  if (s == TN_OK) s = call(x);
  for (uint32_t i = 0; s == TN_OK && i < x->nchosen; i++) s = add_layer(x, i);
  tn_observe_run_close(&x->run);
  tn_observe_source_close(&x->source);
  tn_arena_fini(&x->arena);
  tn_mem_free(x);
  return s;
}

tn_status tn_report_attention_asked(tn_report *r, const tn_args *a, const char *model, tn_diags *d) {
  bool bad = false;
  tn_attention_options o = {.text = a->last[OPT_attention],
                            .layers = a->last[OPT_layers],
                            .threads = (uint32_t)tn_args_int(a, OPT_threads, 0, &bad)};
  if (!o.text || bad) return bad ? TN_INVALID : TN_OK;
  tn_driver_options driver;
  tn_arena arena;
  tn_arena_init(&arena);
  tn_args_driver(a, &arena, &driver);
  tn_status s = tn_report_attention_of(r, &driver, model, &o, d);
  tn_arena_fini(&arena);
  return s;
}
