/* plugin.c - the built-in frontend "hf": folder -> config -> page -> module. */
#include "frontend/frontend.h"
#include "frontend/hf/hf.h"

enum { MAX_PATHS = 32 };

static tn_status start(const tn_host *host, void **self) {
  tn_host *mine = tn_mem_alloc(sizeof *mine);
  if (!mine) return TN_OOM;
  tn_take(mine, sizeof *mine, host);
  *self = mine;
  return TN_OK;
}

static void stop(void *self) { tn_mem_free(self); }

/* A folder that only looks like a model is taken too, so that the import can say what is wrong with it. */
static uint32_t probe(void *self, const char *path) {
  static const char *const signs[] = {"adapter_config.json", "model.safetensors",
                                      "model.safetensors.index.json", "model_index.json",
                                      "pytorch_model.bin"};
  (void)self;
  if (!tn_path_is_dir(path)) return 0;
  if (tn_folder_has(path, "config.json")) return 90;
  for (size_t i = 0; i < TN_COUNT(signs); i++)
    if (tn_folder_has(path, signs[i])) return 40;
  return 0;
}

/* "a:b" -> its parts, in the arena. */
static tn_status split_paths(tn_hf *h, const char *option, const char **out, uint32_t *n) {
  const char *s = h->host->option(h->options, option);
  for (*n = 0; s && *s;) {
    size_t len = strcspn(s, ":");
    if (*n == MAX_PATHS) return tn_fail(&h->diags, TN_INVALID, NULL, option, "more than %d paths", MAX_PATHS);
    if (len && !(out[(*n)++] = tn_arena_str(&h->arena, (tn_str){s, len}))) return TN_OOM;
    s += len + (s[len] == ':');
  }
  return TN_OK;
}

static tn_status unknown_architecture(tn_hf *h, const tn_page_set *pages) {
  TN_VEC(const char *) names = {0};
  tn_buf known = {0};
  for (uint32_t i = 0; i < tn_pages_count(pages); i++) {
    tn_page_info info;
    tn_pages_get(pages, i, &info);
    for (uint32_t k = 0; k < info.narchitectures; k++)
      if (!tn_vec_push(&names, info.architectures[k])) known.failed = true;
    if (info.narchitectures) tn_buf_printf(&known, "%s%s", known.len ? ", " : "", info.name);
  }
  int near = tn_str_nearest(h->architecture, names.items, (int)names.count);
  tn_fail(&h->diags, TN_UNSUPPORTED, "config.json", "key 'architectures'",
          "no page describes '%s'%s%s%s; there are pages for %s", h->architecture,
          near >= 0 ? "; did you mean '" : "", near >= 0 ? names.items[near] : "", near >= 0 ? "'?" : "",
          tn_buf_cstr(&known));
  tn_vec_fini(&names);
  tn_buf_fini(&known);
  return TN_UNSUPPORTED;
}

static tn_status build(tn_hf *h, const tn_page_set *pages) {
  tn_page_run run = {.page = tn_pages_find(pages, h->architecture),
                     .architecture = h->architecture,
                     .config = h->config,
                     .ir = h->ir,
                     .m = h->m,
                     .diags = &h->diags};
  if (!run.page) return unknown_architecture(h, pages);
  TN_TRY(tn_hf_open_tensors(h));
  run.tensors = tn_hf_tensor_source(h);
  TN_TRY(tn_page_build(&run));
  tn_hf_report_unused(h);
  tn_config_report_unknown(h->config, "config.json", &h->diags);
  return tn_hf_set_meta(h);
}

static tn_status import_folder(tn_hf *h) {
  const char *folders[MAX_PATHS], *files[MAX_PATHS];
  uint32_t nfolders, nfiles;
  tn_page_set *pages;
  TN_TRY(tn_hf_read_config(h));
  TN_TRY(split_paths(h, "page-folders", folders, &nfolders));
  TN_TRY(split_paths(h, "page", files, &nfiles));
  TN_TRY(tn_pages_open(&pages, folders, nfolders, files, nfiles, &h->diags));
  tn_status status = build(h, pages);
  tn_pages_close(pages);
  return status;
}

static void forward(tn_hf *h, const tn_message *msg) {
  tn_buf text = {0};
  if (msg->where) tn_buf_printf(&text, "%s: ", msg->where);
  tn_buf_puts(&text, msg->text);
  tn_loc_info place = {.kind = TN_LOC_FILE, .line = msg->line, .col = msg->col, .name = msg->file};
  tn_diag d = {.size = sizeof d,
               .severity = msg->severity,
               .loc = msg->file ? h->ir->loc_make(h->m, &place) : 0,
               .status = msg->severity == TN_ERROR ? TN_INVALID : TN_OK,
               .text = {tn_buf_cstr(&text), text.len}};
  h->host->diag(h->host->ctx, h->m, &d);
  tn_buf_fini(&text);
}

static tn_status import(void *self, const char *path, tn_module *m, const tn_options *options) {
  const tn_host *host = self;
  tn_hf h = {.host = host, .ir = host->ir, .m = m, .options = options, .folder = path};
  tn_arena_init(&h.arena);
  tn_diags_init(&h.diags);
  tn_st_init(&h.files);
  tn_status status = import_folder(&h);
  if (status == TN_OK && h.diags.errors) status = TN_INVALID;
  for (uint32_t i = 0; i < h.diags.list.count; i++) forward(&h, &h.diags.list.items[i]);
  tn_st_fini(&h.files);
  tn_diags_fini(&h.diags);
  tn_arena_fini(&h.arena);
  return status;
}

static const tn_frontend frontend = {.size = sizeof(tn_frontend),
                                     .name = "hf",
                                     .summary = "Hugging Face folders: config.json and safetensors",
                                     .probe = probe,
                                     .import = import};

static const void *table(void *self, const char *kind, uint32_t index) {
  (void)self;
  return !strcmp(kind, "tn.frontend/1") && !index ? &frontend : NULL;
}

static const tn_plugin plugin = {.size = sizeof(tn_plugin),
                                 .abi = TN_ABI,
                                 .id = "org.tenon.hf",
                                 .version = "0.1.0",
                                 .summary = "Hugging Face folders",
                                 .init = start,
                                 .fini = stop,
                                 .table = table};

const tn_plugin *tn_plugin_query_hf(uint32_t host_abi, const char **why) {
  if (host_abi >> 16 == TN_ABI_MAJOR) return &plugin;
  *why = "made for another major version";
  return NULL;
}
