/* observe.c - shows an observer what meets each weight. The model's graph is changed to give the left operand
 * of every product, so that it runs as fast as ever and keeps nothing else. */
#include "tools/quantize/observe/observe.h"
#include "tools/quantize/observe/observe_model.h"
#include "tools/verify/stored.h"
#include <stdlib.h>

enum { MAX_INPUTS = 256 };

/* A value that the model gives, and what it is: inputs of products, experts' numbers, or any value. */
typedef struct observation {
  const tn_observe_options *o;
  tn_observer observer;
  void *ctx;
  tn_diags *d;
  tn_arena arena;
  tn_observe_source source;
  tn_observe_run run;
  tn_products products; /* those of interest */
  TN_VEC(tn_value) given;
  TN_VEC(const char *) places; /* of the given values */
  TN_VEC(uint32_t) any;        /* rows of `given` that are shown as values */
  tn_observe_result result;
} observation;

/* ---- what is observed ---------------------------------------------------------------------------------- */

static bool wanted(const observation *x, const tn_product *p) {
  tn_weight_info w;
  tn_ir_weight_get(x->source.module, p->weight, &w);
  if (!x->o->only) return true;
  for (uint32_t i = 0; i < x->o->nonly; i++)
    if (!strcmp(x->o->only[i], w.name)) return true;
  return false;
}

static int64_t row_of(const observation *x, tn_value v) {
  for (uint32_t i = 0; i < x->given.count; i++)
    if (x->given.items[i] == v) return i;
  return -1;
}

/* The value's name, if it has one that no other has; else its number. */
static const char *place_of(observation *x, tn_value v) {
  const char *name = tn_ir_value_name(x->source.module, v);
  for (uint32_t i = 0; name && i < x->places.count; i++)
    if (!strcmp(x->places.items[i], name)) name = NULL;
  return name ? name : tn_arena_printf(&x->arena, "%%%u", v);
}

static tn_status give(observation *x, tn_value v) {
  if (row_of(x, v) >= 0) return TN_OK;
  const char *place = place_of(x, v);
  return place && tn_vec_push(&x->places, place) && tn_vec_push(&x->given, v) ? TN_OK : TN_OOM;
}

static tn_status choose(observation *x) {
  for (uint32_t i = 0; i < x->source.products.count; i++) {
    const tn_product *p = &x->source.products.items[i];
    if (!wanted(x, p)) continue;
    if (!tn_vec_push(&x->products, *p)) return TN_OOM;
    TN_TRY(give(x, p->input));
    if (p->experts) TN_TRY(give(x, p->experts));
  }
  if (!x->o->values) return TN_OK;
  tn_value_list all = {0};
  tn_status s = tn_observe_values(x->source.module, x->source.func, &all);
  for (uint32_t i = 0; i < all.count && s == TN_OK; i++) {
    s = give(x, all.items[i]);
    if (s == TN_OK && !tn_vec_push(&x->any, (uint32_t)row_of(x, all.items[i]))) s = TN_OOM;
  }
  tn_vec_fini(&all);
  return s;
}

/* ---- showing ------------------------------------------------------------------------------------------- */

/* The tensor as f32; *made: to be freed. NULL: no memory. */
static const float *as_f32(const tn_tensor *t, float **made) {
  *made = NULL;
  if (t->dtype == TN_DT_f32) return t->data;
  int64_t n = tn_tensor_count(t);
  float *x = *made = malloc((size_t)n * sizeof *x + 1);
  for (int64_t i = 0; x && i < n; i++) x[i] = (float)tn_tensor_at(t, i);
  return x;
}

/* "layers.0.mlp.experts.*.up_proj.weight" -> the name of one expert's. */
static const char *expert_name(tn_arena *a, const char *name, uint32_t expert) {
  const char *star = strchr(name, '*');
  return star ? tn_arena_printf(a, "%.*s%u%s", (int)(star - name), name, expert, star + 1) : name;
}

/* Copies the rows that met an expert; how many. x: [t, k], or [t, u, k]. */
static uint64_t rows_of_expert(const float *x, bool each, const tn_tensor *experts, uint32_t columns,
                               int64_t expert, float *out) {
  uint64_t n = 0;
  int64_t u = experts->shape[experts->rank - 1];
  for (int64_t i = 0, count = tn_tensor_count(experts); i < count; i++) {
    if ((int64_t)tn_tensor_at(experts, i) != expert) continue;
    memcpy(out + n++ * columns, x + (each ? i : i / u) * (int64_t)columns, columns * sizeof *out);
  }
  return n;
}

static tn_status show_experts(observation *x, const tn_product *p, tn_observed *o, const float *rows,
                              bool each) {
  const tn_tensor *ids = &x->run.results[row_of(x, p->experts)];
  uint64_t most = (uint64_t)tn_tensor_count(ids);
  const char *name = o->weight;
  tn_arena names;
  float *own = malloc(most * o->columns * sizeof *own + 1);
  if (!own) return TN_OOM;
  tn_arena_init(&names);
  tn_status s = TN_OK;
  for (uint32_t e = 0; e < o->experts && s == TN_OK; e++) {
    o->expert = e;
    o->nrows = rows_of_expert(rows, each, ids, o->columns, e, own);
    o->rows = own;
    o->weight = expert_name(&names, name, e);
    s = o->weight ? x->observer(x->ctx, o) : TN_OOM;
  }
  tn_arena_fini(&names);
  free(own);
  return s;
}

static uint32_t experts_of(tn_module *m, const tn_product *p) {
  tn_weight_info w;
  tn_type_info t;
  int64_t n = 1;
  tn_ir_weight_get(m, p->weight, &w);
  tn_ir_type_get(m, w.type, &t);
  return p->experts && t.rank == 3 && tn_ir_dim_is_const(m, t.dims[0], &n) ? (uint32_t)n : 1;
}

static tn_status show_product(observation *x, const tn_product *p) {
  tn_weight_info w;
  float *made;
  int64_t row = row_of(x, p->input);
  const tn_tensor *t = &x->run.results[row];
  const float *rows = as_f32(t, &made);
  tn_ir_weight_get(x->source.module, p->weight, &w);
  tn_observed o = {.weight = w.name,
                   .value = x->places.items[row],
                   .rows = rows,
                   .nrows = (uint64_t)tn_tensor_count(t) / p->columns,
                   .run = x->result.runs,
                   .columns = p->columns,
                   .experts = experts_of(x->source.module, p),
                   .id = p->input,
                   .parts = w.parts,
                   .nparts = w.nparts};
  tn_status s = !rows        ? TN_OOM
                : p->experts ? show_experts(x, p, &o, rows, t->rank == 3)
                             : x->observer(x->ctx, &o);
  free(made);
  return s;
}

static tn_status show_value(observation *x, uint32_t row) {
  float *made;
  const tn_tensor *t = &x->run.results[row];
  const float *rows = as_f32(t, &made);
  uint64_t n = (uint64_t)tn_tensor_count(t);
  uint32_t columns = t->rank ? (uint32_t)t->shape[t->rank - 1] : 1;
  tn_observed o = {.value = x->places.items[row],
                   .rows = rows,
                   .nrows = columns ? n / columns : 0,
                   .run = x->result.runs,
                   .columns = columns,
                   .experts = 1,
                   .id = x->given.items[row]};
  tn_status s = rows ? x->observer(x->ctx, &o) : TN_OOM;
  free(made);
  return s;
}

static tn_status call(observation *x, const tn_tensor *in) {
  TN_TRY(tn_observe_run_call(&x->run, in, x->d));
  for (uint32_t i = 0; i < x->products.count; i++) TN_TRY(show_product(x, &x->products.items[i]));
  for (uint32_t i = 0; i < x->any.count; i++) TN_TRY(show_value(x, x->any.items[i]));
  x->result.runs++;
  return TN_OK;
}

/* ---- runs ---------------------------------------------------------------------------------------------- */

static tn_status read_text(observation *x, uint32_t chunk) {
  tn_windows w;
  tn_tensor in[8];
  tn_progress bar;
  tn_status s = tn_windows_read(&w, &x->run, x->o->text, chunk, x->o->chunks, x->d);
  tn_progress_begin(&bar, x->o->progress, "observing");
  for (uint32_t i = 0; i < w.count && s == TN_OK; i++) {
    s = tn_windows_inputs(&w, &x->run, i, in, TN_COUNT(in), x->d);
    if (s == TN_OK) s = call(x, in);
    tn_progress_step(&bar, i + 1, w.count);
    x->result.tokens += w.begin.items[i + 1] - w.begin.items[i];
  }
  tn_progress_end(&bar);
  x->result.chunk_tokens = w.chunk;
  tn_windows_fini(&w);
  return s;
}

static tn_status read_stored(observation *x, const char *path, const char *model) {
  tn_stored stored;
  tn_tensor in[MAX_INPUTS] = {0};
  tn_entry_info info;
  const tn_model_api *api = x->run.o.api;
  tn_status s = tn_stored_open(&stored, path, model, x->d);
  api->entry(x->run.o.model, (uint32_t)x->run.entry, &info);
  if (s == TN_OK && info.ninputs > MAX_INPUTS)
    s = tn_fail(x->d, TN_UNSUPPORTED, path, NULL, "%u inputs, the most is %d", info.ninputs, (int)MAX_INPUTS);
  for (uint32_t i = 0; s == TN_OK && i < info.ninputs; i++) {
    tn_arg_info arg;
    api->input(x->run.o.model, (uint32_t)x->run.entry, i, &arg);
    s = tn_stored_read(&stored, arg.name, &in[i], x->d);
    if (s == TN_OK && !i) x->result.tokens += (uint64_t)tn_tensor_count(&in[i]);
  }
  if (s == TN_OK) s = call(x, in);
  for (uint32_t i = 0; i < MAX_INPUTS; i++) free(in[i].data);
  tn_stored_close(&stored);
  return s;
}

static tn_status observe(observation *x, const tn_driver_options *driver, const char *model) {
  TN_TRY(tn_observe_source_open(&x->source, driver, model, x->d));
  TN_TRY(choose(x));
  uint32_t chunk = tn_observe_is_causal(&x->source) ? tn_windows_chunk(&x->source, x->o->chunk_tokens)
                                                    : x->o->chunk_tokens;
  tn_module *m = tn_module_clone(x->source.module, x->d);
  if (!m) return TN_OOM;
  TN_TRY(tn_observe_run_open(&x->run, &x->source, m, x->source.func, x->given.items, x->given.count,
                             x->o->threads, chunk, x->d));
  if (x->o->text) return read_text(x, chunk);
  for (uint32_t i = 0; i < x->o->ninputs; i++) TN_TRY(read_stored(x, x->o->inputs[i], model));
  return TN_OK;
}

tn_status tn_observe(const tn_driver_options *driver, const char *model, const tn_observe_options *o,
                     tn_observer observer, void *ctx, tn_diags *diags, tn_observe_result *out) {
  observation x = {.o = o, .observer = observer, .ctx = ctx, .d = diags};
  tn_arena_init(&x.arena);
  tn_status s = observe(&x, driver, model);
  if (out) *out = x.result;
  tn_observe_run_close(&x.run);
  tn_observe_source_close(&x.source);
  tn_vec_fini(&x.products);
  tn_vec_fini(&x.given);
  tn_vec_fini(&x.places);
  tn_vec_fini(&x.any);
  tn_arena_fini(&x.arena);
  return s;
}
