/* driver.c - the first half of a compile: plugins, loading a model, the pass pipeline. */
#include "tools/driver/tuning.h"
#include "backends/ref/ref.h"
#include "frontend/frontend.h"
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* The folder of this binary; NULL: not known. */
static char *own_folder(tn_arena *a) {
  char exe[4096];
  ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
  const char *slash = n > 0 ? memrchr(exe, '/', (size_t)n) : NULL;
  return slash ? tn_arena_str(a, (tn_str){exe, (uint64_t)(slash - exe)}) : NULL;
}

/* Where the plugins lie that came with this binary: PREFIX/lib/tenon/plugins when installed, plugins/ beside
 * the binary in a build folder. */
static char *own_plugins(tn_arena *a) {
  char *exe = own_folder(a);
  if (!exe) return NULL;
  char *built = tn_path_join(a, exe, "plugins");
  return built && tn_path_is_dir(built) ? built : tn_path_join(a, exe, "../lib/tenon/plugins");
}

tn_status tn_driver_init(tn_driver *d, const tn_driver_options *o, tn_diags *diags) {
  *d = (tn_driver){.options = *o, .diags = diags, .began = tn_now()};
  d->mark = d->began;
  if (!d->options.backend && !d->options.target) d->options.backend = "cpu";
  if (!d->options.pipeline) d->options.pipeline = "O3";
  tn_arena_init(&d->arena);
  TN_TRY(tn_plugins_new(&d->plugins, diags));
  TN_TRY(tn_plugins_add_builtin(d->plugins, tn_plugin_query_ref));
  TN_TRY(tn_plugins_add_builtin(d->plugins, tn_plugin_query_hf));
  TN_TRY(tn_plugins_add_builtin(d->plugins, tn_plugin_query_gguf));
  TN_TRY(tn_plugins_add_builtin(d->plugins, tn_plugin_query_onnx));
  for (uint32_t i = 0; i < o->nplugins; i++) TN_TRY(tn_plugins_load(d->plugins, o->plugins[i]));
  return tn_plugins_scan_standard(d->plugins, own_plugins(&d->arena));
}

void tn_driver_fini(tn_driver *d) {
  if (d->tuning) tn_tuning_fini(d->tuning);
  tn_plugins_free(d->plugins);
  for (uint32_t i = 0; i < d->targets.count; i++) tn_vec_fini(&d->targets.items[i]);
  tn_vec_fini(&d->targets);
  tn_vec_fini(&d->backends);
  tn_vec_fini(&d->refused);
  tn_vec_fini(&d->phases);
  tn_arena_fini(&d->arena);
}

/* ---- loading
 * --------------------------------------------------------------------------------------------------- */

static tn_status load_text(tn_driver *d, const char *path, tn_module *m) {
  tn_file f = {0};
  const char *why;
  tn_buf in = {0};
  tn_status s = TN_OK;
  if (!strcmp(path, "-")) {
    char chunk[65536];
    for (size_t n; (n = fread(chunk, 1, sizeof chunk, stdin));) tn_buf_put(&in, chunk, n);
    s = in.failed ? TN_OOM : tn_module_parse(m, "<stdin>", (tn_str){tn_buf_cstr(&in), in.len});
  } else {
    s = tn_file_map(&f, path, &why);
    if (s != TN_OK) return tn_fail(d->diags, s, path, NULL, "cannot read the file: %s", why);
    s = tn_module_parse(m, path, (tn_str){(const char *)f.data, f.size});
    tn_file_unmap(&f);
  }
  tn_buf_fini(&in);
  return s == TN_OK ? tn_module_verify(m) : s;
}

/* Folders with model pages that are there, later ones override: the installation's, then the user's. NULL:
 * none. */
static char *page_folders(tn_arena *a) {
  const char *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME"), *exe = own_folder(a);
  char *installed = tn_arena_printf(a, "%s/../share/tenon/models", exe ? exe : "");
  char *mine = data && *data ? tn_arena_printf(a, "%s/tenon/models", data)
                             : tn_arena_printf(a, "%s/.local/share/tenon/models", home ? home : "");
  bool have = installed && tn_path_is_dir(installed), have_mine = mine && tn_path_is_dir(mine);
  return have && have_mine ? tn_arena_printf(a, "%s:%s", installed, mine)
         : have_mine       ? mine
         : have            ? installed
                           : NULL;
}

static tn_status import(tn_driver *d, const char *path, tn_module *m) {
  const tn_frontend_ref *list;
  uint32_t n, best = 0, score = 0;
  TN_TRY(tn_plugins_frontends(d->plugins, &list, &n));
  for (uint32_t i = 0; i < n; i++) {
    uint32_t p = list[i].table.probe ? list[i].table.probe(list[i].self, path) : 0;
    if (p > score) score = p, best = i;
  }
  if (!score)
    return tn_fail(
        d->diags, TN_UNSUPPORTED, path, NULL,
        "not a model that tenon knows: expected a folder with config.json, a GGUF, ONNX or .tir file");
  const char *const given[][2] = {{"page-folders", page_folders(&d->arena)},
                                  {"task", d->options.task},
                                  {"page", d->options.pages},
                                  {"kv", d->options.kv},
                                  {"adapters", d->options.adapters},
                                  {"adapter-mode", d->options.adapter_mode},
                                  {"shapes", d->options.shapes},
                                  {"report", d->options.report ? "1" : NULL},
                                  {"fix", d->options.fix}};
  const char *keys[TN_COUNT(given)], *values[TN_COUNT(given)];
  tn_options o = {keys, values, 0};
  for (size_t i = 0; i < TN_COUNT(given); i++)
    if (given[i][1]) keys[o.count] = given[i][0], values[o.count++] = given[i][1];
  uint32_t errors = d->diags->errors;
  tn_status s = list[best].table.import(list[best].self, path, m, &o);
  if (s != TN_OK && d->diags->errors == errors)
    return tn_fail(d->diags, s, path, NULL, "the import failed (status %d)", s);
  if (s == TN_OK && d->diags->errors > errors) return TN_INVALID;
  return s == TN_OK ? tn_module_verify(m) : s;
}

/* Backends read the level from the module; IR text may state one itself. */
static tn_status set_precision(tn_driver *d, tn_module *m) {
  static const char *const levels[] = {"strict", "high", "fast"};
  const char *option = d->options.precision, *level = option ? option : tn_ir_meta_get(m, "precision");
  bool known = !level;
  for (size_t i = 0; i < TN_COUNT(levels); i++) known |= level && !strcmp(level, levels[i]);
  if (!known)
    return tn_fail(d->diags, TN_INVALID, d->path, NULL, "precision is '%s', wants strict, high or fast",
                   level);
  return option ? tn_ir_meta_set(m, "precision", option) : TN_OK;
}

tn_status tn_driver_load(tn_driver *d, const char *path, tn_module **m) {
  *m = tn_module_new(d->diags);
  if (!*m) return TN_OOM;
  bool text = !strcmp(path, "-") || tn_str_ends(tn_str_of(path), ".tir");
  if (!text && !tn_path_exists(path))
    return tn_fail(d->diags, TN_NOT_FOUND, path, NULL, "there is no such file or folder");
  const char *slash = strrchr(path, '/');
  d->path = tn_arena_str(&d->arena, tn_str_of(path));
  d->folder = !text && tn_path_is_dir(path) ? tn_arena_str(&d->arena, tn_str_of(path))
              : slash ? tn_arena_str(&d->arena, (tn_str){path, (uint64_t)(slash - path)})
                      : tn_arena_str(&d->arena, TN_STR("."));
  TN_TRY(text ? load_text(d, path, *m) : import(d, path, *m));
  tn_driver_phase(d, "import");
  if (d->options.quantize) TN_TRY(tn_ir_meta_set(*m, "quantize", d->options.quantize));
  return set_precision(d, *m);
}

/* ---- passes
 * ---------------------------------------------------------------------------------------------------- */

static const char *backend_name(void *ctx, uint32_t i) {
  return ((tn_driver *)ctx)->backends.items[i].table.name;
}

static bool backend_claim(void *ctx, uint32_t i, tn_module *m, tn_op op, const char **why) {
  tn_driver *d = ctx;
  const tn_backend_ref *b = &d->backends.items[i];
  if (!b->table.claim || b->table.claim(b->self, tn_driver_target(d, i, 0), m, op, why)) return true;
  if (b->table.device) tn_driver_refused(d, i, tn_ir_opcode_name(tn_ir_opcode(m, op)), *why);
  return false;
}

static bool backend_fuse(void *ctx, uint32_t i, tn_module *m, tn_op root, tn_op op, uint32_t role) {
  tn_driver *d = ctx;
  const tn_backend_ref *b = &d->backends.items[i];
  return b->table.fuse && b->table.fuse(b->self, tn_driver_target(d, i, 0), m, root, op, role);
}

typedef struct plugin_pass {
  const tn_pass_ref *ref;
  tn_arena *arena;
} plugin_pass;

static tn_status run_plugin_pass(void *ctx, tn_module *m, tn_func f, const tn_pass_option *o, uint32_t n) {
  plugin_pass *p = ctx;
  const char **keys = tn_arena_alloc(p->arena, (n + 1) * sizeof *keys),
             **values = tn_arena_alloc(p->arena, (n + 1) * sizeof *values);
  if (!keys || !values) return TN_OOM;
  for (uint32_t i = 0; i < n; i++) keys[i] = o[i].key, values[i] = o[i].value;
  tn_options options = {keys, values, n};
  return p->ref->table.run(p->ref->self, m, f, &options);
}

static tn_status add_plugin_parts(tn_driver *d, tn_pipeline_run *run) {
  const tn_pass_ref *passes;
  const tn_rules_ref *rules;
  uint32_t n, nrules;
  TN_TRY(tn_plugins_passes(d->plugins, &passes, &n));
  TN_TRY(tn_plugins_rules(d->plugins, &rules, &nrules));
  tn_extra_pass *extra = tn_arena_alloc(&d->arena, (n + 1) * sizeof *extra);
  plugin_pass *ctx = tn_arena_alloc(&d->arena, (n + 1) * sizeof *ctx);
  tn_str *texts = tn_arena_alloc(&d->arena, (nrules + 1) * sizeof *texts);
  if (!extra || !ctx || !texts) return TN_OOM;
  for (uint32_t i = 0; i < n; i++) {
    ctx[i] = (plugin_pass){&passes[i], &d->arena};
    extra[i] = (tn_extra_pass){passes[i].table.name, passes[i].table.point, &ctx[i], run_plugin_pass};
  }
  for (uint32_t i = 0; i < nrules; i++) texts[i] = rules[i].table.text;
  run->extra = extra;
  run->nextra = n;
  run->rule_texts = texts;
  run->nrule_texts = nrules;
  return TN_OK;
}

/* What passes do not account for is verifying, printing and reading the pipeline's text. */
static void note_passes(tn_driver *d, const tn_pipeline_run *run) {
  for (uint32_t i = 0; i < run->times.count; i++) {
    tn_phase p = {.seconds = run->times.items[i].seconds, .pass = true};
    p.name = tn_arena_str(&d->arena, tn_str_of(run->times.items[i].name));
    if (p.name) tn_driver_phase_timed(d, &p);
  }
  tn_driver_phase(d, "between passes");
}

tn_status tn_driver_optimize(tn_driver *d, tn_module *m, tn_pipeline_run *run) {
  tn_pass_backends backends = {d, d->backends.count, backend_name, backend_claim, backend_fuse};
  if (!run->pipeline) run->pipeline = d->options.pipeline;
  run->backends = &backends;
  run->time_passes = true;
  TN_TRY(add_plugin_parts(d, run));
  tn_status s = tn_pipeline_exec(m, run);
  run->backends = NULL;
  note_passes(d, run);
  if (s == TN_OK) s = tn_driver_tell_refused(d);
  if (s != TN_OK || !d->options.keep_values) return s;
  tn_pipeline_run again = {.pipeline = "plan-memory{reuse=0}"};
  s = tn_pipeline_exec(m, &again);
  tn_pipeline_fini(&again);
  return s;
}
