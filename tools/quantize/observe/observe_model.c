/* observe_model.c - importing a model to be observed, and compiling copies of it that give chosen values. */
#include "tools/quantize/observe/observe_model.h"
#include <stdlib.h>

/* O3 in two halves: what is observed is chosen between them, where the graph is still as imported but has its
 * entry points. Projections are not merged and nothing is made for single tokens. */
static const char before[] = "@early, kv-cache";
static const char behind[] =
    "canonicalize, fold, cse, recover, rules, fuse-rope, fuse-attention, merge-pad, canonicalize, fold, cse, "
    "dce, partition, @fuse, fuse, schedule, plan-memory, @late";

static tn_status run_passes(tn_driver *d, tn_module *m, const char *passes) {
  tn_pipeline_run run = {.pipeline = passes};
  tn_status s = tn_driver_optimize(d, m, &run);
  tn_pipeline_fini(&run);
  return s;
}

tn_status tn_observe_source_open(tn_observe_source *x, const tn_driver_options *o, const char *model,
                                 tn_diags *d) {
  *x = (tn_observe_source){0};
  TN_TRY(tn_driver_init(&x->driver, o, d));
  TN_TRY(tn_driver_pick(&x->driver, false));
  TN_TRY(tn_driver_load(&x->driver, model, &x->module));
  TN_TRY(run_passes(&x->driver, x->module, before));
  x->func = tn_products_func(x->module);
  if (!x->func)
    return tn_fail(d, TN_UNSUPPORTED, model, NULL,
                   "no product with a weight is in the model: there is nothing to observe");
  return tn_products_find(x->module, x->func, &x->products);
}

void tn_observe_source_close(tn_observe_source *x) {
  tn_vec_fini(&x->products);
  tn_module_free(x->module);
  tn_driver_fini(&x->driver);
  *x = (tn_observe_source){0};
}

bool tn_observe_is_causal(const tn_observe_source *x) {
  tn_func_info f;
  tn_ir_func_get(x->module, x->func, &f);
  return !strcmp(f.name, "logits");
}

/* ---- running ------------------------------------------------------------------------------------------- */

static tn_status name_results(tn_observe_run *r, tn_func f, const tn_value *values, uint32_t n) {
  tn_arena a;
  tn_arena_init(&a);
  const char **names = tn_arena_alloc(&a, (n + 1) * sizeof *names);
  for (uint32_t i = 0; names && i < n; i++) names[i] = tn_arena_printf(&a, "observed.%u", i);
  tn_status s = a.failed || !names ? TN_OOM : tn_observe_results(r->o.module, f, values, names, n);
  tn_arena_fini(&a);
  return s;
}

static tn_status compile(tn_observe_run *r, tn_driver *d) {
  tn_opened *o = &r->o;
  TN_TRY(run_passes(d, o->module, behind));
  o->has_build = true;
  TN_TRY(tn_driver_build(d, o->module, TN_WEIGHTS_EMBED, &o->build));
  TN_TRY(tn_driver_jit(d, o->module, &o->build, &o->jit));
  o->api = &tn_rt_api;
  o->model = o->jit.model;
  return TN_OK;
}

static tn_status open_session(tn_observe_run *r, int64_t batch, int64_t capacity, tn_diags *d) {
  if (r->s && r->batch == batch && r->capacity >= capacity) return TN_OK;
  if (r->s) r->o.api->session_free(r->s);
  r->s = NULL;
  r->batch = batch;
  if (capacity > r->capacity) r->capacity = capacity;
  tn_session_options so = {.threads = r->threads, .batch = batch, .capacity = r->capacity};
  return tn_opened_session(&r->o, &so, &r->s, d);
}

tn_status tn_observe_run_open(tn_observe_run *r, tn_observe_source *source, tn_module *m, tn_func f,
                              const tn_value *values, uint32_t n, uint32_t threads, int64_t capacity,
                              tn_diags *d) {
  *r = (tn_observe_run){.o.module = m, .nresults = n};
  tn_func_info info;
  tn_ir_func_get(m, f, &info);
  r->results = tn_mem_alloc((n + 1) * sizeof *r->results);
  if (!r->results) return TN_OOM;
  TN_TRY(name_results(r, f, values, n));
  r->o.driver = source->driver; /* lent: closed by the source */
  TN_TRY(compile(r, &source->driver));
  r->entry = tn_opened_entry(&r->o, info.name);
  if (r->entry < 0) return tn_fail(d, TN_INTERNAL, NULL, info.name, "the entry point is gone");
  r->threads = threads;
  return open_session(r, 1, capacity, d);
}

static void free_results(tn_observe_run *r) {
  for (uint32_t i = 0; r->results && i < r->nresults; i++)
    free(r->results[i].data), r->results[i].data = NULL;
}

void tn_observe_run_close(tn_observe_run *r) {
  free_results(r);
  tn_mem_free(r->results);
  if (r->s) r->o.api->session_free(r->s);
  if (r->o.has_build) {
    tn_jit_fini(&r->o.driver, &r->o.jit);
    tn_build_fini(&r->o.build);
  }
  tn_module_free(r->o.module);
  *r = (tn_observe_run){0};
}

tn_status tn_observe_run_call(tn_observe_run *r, const tn_tensor *in, tn_diags *d) {
  free_results(r);
  int64_t batch = in->rank ? in->shape[0] : 1, tokens = in->rank > 1 ? in->shape[1] : 0;
  TN_TRY(open_session(r, batch > 0 ? batch : 1, r->capacity ? tokens : 0, d));
  tn_status s = r->o.api->session_reset(r->s);
  if (s) return tn_fail(d, s, NULL, NULL, "%s", r->o.api->error(r->s));
  return tn_invoke_alloc(&r->o, r->s, r->entry, in, r->results, d);
}
