/* plugin.c - the built-in frontend "onnx": file -> checked messages -> module. */
#include "frontend/config/folder.h"
#include "frontend/frontend.h"
#include "frontend/hf/hf.h"
#include "frontend/import.h"
#include "frontend/onnx/import.h"
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

static const char *const inside[] = {"model.onnx", "onnx/model.onnx"};

/* The first bytes of a model: its IR version, and then a field that models have. */
static bool looks_like(const char *path) {
  uint8_t head[4] = {0};
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  bool is = fd >= 0 && read(fd, head, sizeof head) == (ssize_t)sizeof head && head[0] == 0x08 &&
            head[1] < 32 && (head[2] & 7) == 2 && head[2] >> 3 <= 14;
  if (fd >= 0) close(fd);
  return is;
}

/* A folder's own weights come first: hf takes it with 90. */
static uint32_t probe(void *self, const char *path) {
  (void)self;
  if (!tn_path_is_dir(path)) return tn_str_ends(tn_str_of(path), ".onnx") ? 90 : looks_like(path) ? 40 : 0;
  bool weights = false;
  static const char *const others[] = {"model.safetensors", "model.safetensors.index.json"};
  for (size_t i = 0; i < TN_COUNT(others); i++) weights |= tn_folder_has(path, others[i]);
  for (size_t i = 0; i < TN_COUNT(inside); i++)
    if (tn_folder_has(path, inside[i])) return weights ? 50 : 95;
  return 0;
}

static tn_status find_file(tn_ox *x, const char *path, const char **file, const char **prefix) {
  *file = path;
  *prefix = "";
  if (!tn_path_is_dir(path)) return TN_OK;
  size_t i = tn_folder_has(path, inside[0]) ? 0 : 1;
  *file = tn_path_join(&x->arena, path, inside[i]);
  *prefix = i ? "onnx/" : "";
  return *file ? TN_OK : TN_OOM;
}

static const char *opsets_text(tn_ox *x) {
  const Onnx__ModelProto *m = x->model.proto;
  tn_buf text = {0};
  for (size_t i = 0; i < m->n_opset_import; i++)
    tn_buf_printf(&text, "%s%.60s %lld", i ? ", " : "",
                  tn_ox_domain_name(m->opset_import[i]->domain ? m->opset_import[i]->domain : ""),
                  (long long)m->opset_import[i]->version);
  const char *s = tn_arena_str(&x->arena, tn_str_of(tn_buf_cstr(&text)));
  tn_buf_fini(&text);
  return s ? s : "";
}

/* A note: how often each op occurs, bodies and functions counted once. */
static void count_ops(tn_map *counts, Onnx__NodeProto **nodes, size_t n) {
  for (size_t i = 0; i < n; i++) {
    const Onnx__NodeProto *p = nodes[i];
    char key[256];
    uint64_t have = 0;
    bool standard = !p->domain || !*p->domain || !strcmp(p->domain, "ai.onnx");
    snprintf(key, sizeof key, "%.100s%s%.100s", standard ? "" : p->domain, standard ? "" : ".", p->op_type);
    tn_map_get(counts, tn_str_of(key), &have);
    tn_map_put(counts, tn_str_of(key), have + 1, NULL);
    for (size_t k = 0; k < p->n_attribute; k++)
      if (p->attribute[k]->g) count_ops(counts, p->attribute[k]->g->node, p->attribute[k]->g->n_node);
  }
}

static int by_count(const void *a, const void *b) {
  const tn_map_entry *p = a, *q = b;
  if (p->value != q->value) return p->value < q->value ? 1 : -1;
  return strcmp(p->key, q->key);
}

static void report_ops(tn_ox *x) {
  const Onnx__ModelProto *m = x->model.proto;
  tn_map counts;
  tn_buf text = {0};
  tn_map_init(&counts);
  count_ops(&counts, m->graph->node, m->graph->n_node);
  for (size_t i = 0; i < m->n_functions; i++)
    count_ops(&counts, m->functions[i]->node, m->functions[i]->n_node);
  qsort(counts.entries, counts.count, sizeof *counts.entries, by_count);
  for (uint32_t i = 0; i < counts.count; i++)
    tn_buf_printf(&text, "%s%llu %s", i ? ", " : "", (unsigned long long)counts.entries[i].value,
                  counts.entries[i].key);
  tn_diags_add(&x->diags, TN_NOTE, x->model.name, 0, 0, NULL, "IR version %lld, %s; ops: %s",
               (long long)m->ir_version, opsets_text(x), tn_buf_cstr(&text));
  tn_buf_fini(&text);
  tn_map_fini(&counts);
}

static tn_status import_file(tn_ox *x, const char *path) {
  const char *file, *prefix;
  TN_TRY(find_file(x, path, &file, &prefix));
  TN_TRY(tn_ox_model_open(&x->model, file, prefix, &x->diags));
  if (x->host->option(x->options, "report")) report_ops(x);
  tn_hf about;
  tn_status s = tn_ox_about_read(x, path, &about);
  if (s == TN_OK) s = tn_ox_import_entry(x, &about);
  if (s == TN_OK) s = tn_ox_set_meta(x, path, &about);
  tn_ox_about_close(&about);
  return s;
}

static void x_fini(tn_ox *x) {
  for (uint32_t i = 0; i < x->scopes.count; i++) tn_map_fini(&x->scopes.items[i]->names);
  tn_vec_fini(&x->scopes);
  tn_vec_fini(&x->known);
  tn_vec_fini(&x->same);
  tn_vec_fini(&x->held);
  tn_vec_fini(&x->noted);
  tn_map_fini(&x->weights);
  tn_ox_model_close(&x->model);
  tn_diags_fini(&x->diags);
  tn_arena_fini(&x->arena);
}

static tn_status import(void *self, const char *path, tn_module *m, const tn_options *options) {
  const tn_host *host = self;
  tn_ox x = {.host = host, .ir = host->ir, .m = m, .options = options};
  tn_arena_init(&x.arena);
  tn_diags_init(&x.diags);
  tn_map_init(&x.weights);
  tn_status status = import_file(&x, path);
  if (status == TN_OK && x.diags.errors) status = x.invalid ? TN_INVALID : TN_UNSUPPORTED;
  tn_import_forward(host, m, &x.diags);
  x_fini(&x);
  return status;
}

static const tn_frontend frontend = {.size = sizeof(tn_frontend),
                                     .name = "onnx",
                                     .summary = "ONNX files, and folders with a model.onnx",
                                     .probe = probe,
                                     .import = import};

static const void *table(void *self, const char *kind, uint32_t index) {
  (void)self;
  return !strcmp(kind, "tn.frontend/1") && !index ? &frontend : NULL;
}

static const tn_plugin plugin = {.size = sizeof(tn_plugin),
                                 .abi = TN_ABI,
                                 .id = "org.tenon.onnx",
                                 .version = "0.1.0",
                                 .summary = "ONNX files",
                                 .init = tn_import_start,
                                 .fini = tn_import_stop,
                                 .table = table};

const tn_plugin *tn_plugin_query_onnx(uint32_t host_abi, const char **why) {
  if (host_abi >> 16 == TN_ABI_MAJOR) return &plugin;
  *why = "made for another major version";
  return NULL;
}
