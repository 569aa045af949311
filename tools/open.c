/* open.c - a model ready to run, from a shared library or from anything that can be imported; the commands
 * see one table of functions (tenon/model.h) either way. */
#include "tools/tool.h"
#include <dlfcn.h>
#include <stdlib.h>

bool tn_path_is_artefact(const char *path) { return tn_str_ends(tn_str_of(path), ".so"); }

static tn_status open_library(tn_opened *o, const char *path, tn_diags *d) {
  tn_arena a;
  tn_arena_init(&a);
  const char *full = strchr(path, '/') ? path : tn_path_join(&a, ".", path);
  o->library = full && tn_path_exists(full) ? dlopen(full, RTLD_NOW | RTLD_LOCAL) : NULL;
  tn_model_query_fn query = NULL;
  tn_status s = TN_OK;
  char error[512] = "";
  if (!o->library)
    s = tn_fail(d, TN_NOT_FOUND, path, NULL, "cannot load the library: %s",
                full && tn_path_exists(full) ? dlerror() : "there is no such file");
  if (s == TN_OK) *(void **)&query = dlsym(o->library, "tn_model_query");
  if (s == TN_OK && !query)
    s = tn_fail(d, TN_INVALID, path, NULL, "not a tenon artefact: it has no symbol tn_model_query");
  if (s == TN_OK && !(o->api = query(TN_ABI)))
    s = tn_fail(d, TN_UNSUPPORTED, path, NULL, "the artefact was made for another major version of tenon");
  if (s == TN_OK) {
    s = o->api->open(NULL, &o->model, error, sizeof error);
    if (s != TN_OK) tn_diags_add(d, TN_ERROR, path, 0, 0, NULL, "%s", error);
  }
  tn_arena_fini(&a);
  return s;
}

static tn_status open_jit(tn_opened *o, const char *path, const tn_driver_options *options, tn_diags *d) {
  o->has_driver = true;
  TN_TRY(tn_driver_init(&o->driver, options, d));
  TN_TRY(tn_driver_pick(&o->driver, false));
  TN_TRY(tn_driver_load(&o->driver, path, &o->module));
  tn_pipeline_run run = {0};
  tn_status s = tn_driver_optimize(&o->driver, o->module, &run);
  tn_pipeline_fini(&run);
  TN_TRY(s);
  o->has_build = true;
  TN_TRY(tn_driver_build(&o->driver, o->module, TN_WEIGHTS_EMBED, &o->build));
  TN_TRY(tn_driver_jit(&o->driver, o->module, &o->build, &o->jit));
  o->api = &tn_rt_api;
  o->model = o->jit.model;
  return TN_OK;
}

tn_status tn_opened_open(tn_opened *o, const char *path, const tn_driver_options *options, tn_diags *d) {
  memset(o, 0, sizeof *o);
  if (tn_path_is_artefact(path)) o->adapters = options->adapters;
  o->device = options->device;
  return tn_path_is_artefact(path) ? open_library(o, path, d) : open_jit(o, path, options, d);
}

/* "NAME[=WEIGHT]", ':' between: how much of its adapters a library adds. */
static tn_status set_adapters(const tn_opened *o, tn_session *s, tn_diags *d) {
  tn_arena a;
  tn_arena_init(&a);
  tn_status status = TN_OK;
  for (const char *p = o->adapters; status == TN_OK && p && *p;) {
    size_t n = strcspn(p, ":");
    char *name = tn_arena_str(&a, (tn_str){p, n}), *equals = name ? strrchr(name, '=') : NULL, *end = NULL;
    float weight = equals ? strtof(equals + 1, &end) : 1;
    p += n + (p[n] == ':');
    if (!name) status = TN_OOM;
    if (equals) *equals = 0;
    if (equals && (end == equals + 1 || *end))
      status =
          tn_fail(d, TN_INVALID, NULL, name, "the adapter's weight is '%s', expected a number", equals + 1);
    else if (name && (status = o->api->adapter(s, name, weight)))
      tn_fail(d, status, NULL, NULL, "%s", o->api->error(s));
  }
  tn_arena_fini(&a);
  return status;
}

tn_status tn_opened_session(const tn_opened *o, tn_session_options *options, tn_session **out, tn_diags *d) {
  char error[512] = "";
  options->size = sizeof *options;
  options->cores = o->cores;
  options->ncores = o->ncores;
  options->device = o->device;
  options->error = error;
  options->error_size = sizeof error;
  tn_status s = o->api->session_new(o->model, options, out);
  if (s != TN_OK) return tn_fail(d, s, NULL, NULL, "cannot open a session: %s", error);
  s = set_adapters(o, *out, d);
  if (s == TN_OK) return TN_OK;
  o->api->session_free(*out);
  *out = NULL;
  return s;
}

void tn_opened_close(tn_opened *o) {
  if (o->library && o->model) o->api->close(o->model);
  if (o->has_build) {
    tn_jit_fini(&o->driver, &o->jit);
    tn_build_fini(&o->build);
  }
  tn_module_free(o->module);
  if (o->has_driver) tn_driver_fini(&o->driver);
  memset(o, 0, sizeof *o);
}

int tn_opened_entry(const tn_opened *o, const char *name) {
  for (uint32_t i = 0; i < o->api->entry_count(o->model); i++) {
    tn_entry_info e;
    if (o->api->entry(o->model, i, &e) == TN_OK && !strcmp(e.name, name)) return (int)i;
  }
  return -1;
}

static bool is_known(const tn_tensor *t) {
  for (uint32_t k = 0; k < t->rank; k++)
    if (t->shape[k] < 0) return false;
  return true;
}

/* A copy of an output that the session keeps: its shape was not known before. */
static tn_status take_result(const tn_opened *o, tn_session *s, uint32_t i, tn_tensor *out) {
  TN_TRY(o->api->result(s, i, out));
  uint64_t bytes = tn_tensor_bytes(out);
  void *copy = malloc(bytes + 1);
  if (copy && bytes) memcpy(copy, out->data, bytes);
  out->data = copy;
  return copy ? TN_OK : TN_OOM;
}

tn_status tn_invoke_alloc(const tn_opened *o, tn_session *s, int entry, const tn_tensor *in, tn_tensor *out,
                          tn_diags *d) {
  tn_entry_info e;
  o->api->entry(o->model, (uint32_t)entry, &e);
  memset(out, 0, e.noutputs * sizeof *out);
  tn_status st = o->api->shapes(s, (uint32_t)entry, in, out);
  for (uint32_t i = 0; st == TN_OK && i < e.noutputs; i++) {
    if (!is_known(&out[i])) continue;
    out[i].data = malloc(tn_tensor_bytes(&out[i]) + 1);
    if (!out[i].data) return TN_OOM;
  }
  if (st == TN_OK) st = o->api->invoke(s, (uint32_t)entry, in, out);
  for (uint32_t i = 0; st == TN_OK && i < e.noutputs; i++)
    if (!out[i].data) st = take_result(o, s, i, &out[i]);
  return st == TN_OK ? TN_OK : tn_fail(d, st, NULL, e.name, "%s", o->api->error(s));
}
