/* plugin.c - the built-in frontend "hf": folder -> config -> page -> module. */
#include "frontend/frontend.h"
#include "frontend/hf/hf.h"
#include "frontend/import.h"

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

/* Architectures of the page that knows this model type, and the names of all pages. */
typedef struct known_names {
  TN_VEC(const char *) all;
  tn_buf family, pages;
} known_names;

static void add_page(known_names *k, const tn_page_info *info, const char *model_type) {
  bool mine = false;
  for (uint32_t i = 0; i < info->narchitectures; i++) {
    mine |= !strcmp(info->architectures[i], model_type);
    if (!tn_vec_push(&k->all, info->architectures[i])) k->pages.failed = true;
  }
  if (info->narchitectures) tn_buf_printf(&k->pages, "%s%s", k->pages.len ? ", " : "", info->name);
  for (uint32_t i = 0; mine && i < info->narchitectures;
       i++) { /* class names begin with a capital, types do not */
    const char *name = info->architectures[i];
    if (*name >= 'A' && *name <= 'Z') tn_buf_printf(&k->family, "%s%s", k->family.len ? ", " : "", name);
  }
}

static tn_status unknown_architecture(tn_hf *h, const tn_page_set *pages) {
  known_names k = {0};
  for (uint32_t i = 0; i < tn_pages_count(pages); i++) {
    tn_page_info info;
    tn_pages_get(pages, i, &info);
    add_page(&k, &info, h->model_type);
  }
  int near = tn_str_nearest(h->architecture, k.all.items, (int)k.all.count);
  if (near >= 0)
    tn_hf_fail_key(h, TN_UNSUPPORTED, "config.json", "architectures",
                   "no page describes '%s'; did you mean '%s'?", h->architecture, k.all.items[near]);
  else if (k.family.len)
    tn_hf_fail_key(h, TN_UNSUPPORTED, "config.json", "architectures",
                   "no page describes '%s'; of the family '%s' there are %s", h->architecture, h->model_type,
                   tn_buf_cstr(&k.family));
  else
    tn_hf_fail_key(h, TN_UNSUPPORTED, "config.json", "architectures",
                   "no page describes '%s'; there are pages for %s", h->architecture, tn_buf_cstr(&k.pages));
  tn_vec_fini(&k.all);
  tn_buf_fini(&k.family);
  tn_buf_fini(&k.pages);
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
  TN_TRY(tn_import_build(h->host, h->options, &run));
  TN_TRY(tn_hf_check_packed(h));
  tn_hf_report_unused(h);
  tn_config_report_unknown(h->config, "config.json", &h->diags);
  return tn_hf_set_meta(h);
}

static tn_status import_folder(tn_hf *h) {
  tn_page_set *pages;
  TN_TRY(tn_hf_read_config(h));
  TN_TRY(tn_import_pages(h->host, h->options, &h->diags, &pages));
  tn_status status = build(h, pages);
  tn_pages_close(pages);
  return status;
}

static tn_status import(void *self, const char *path, tn_module *m, const tn_options *options) {
  const tn_host *host = self;
  tn_hf h = {.host = host, .ir = host->ir, .m = m, .options = options, .folder = path};
  tn_arena_init(&h.arena);
  tn_diags_init(&h.diags);
  tn_st_init(&h.files);
  tn_status status = import_folder(&h);
  if (status == TN_OK && h.diags.errors) status = TN_INVALID;
  tn_import_forward(host, m, &h.diags);
  tn_hf_close_packed(&h);
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
                                 .init = tn_import_start,
                                 .fini = tn_import_stop,
                                 .table = table};

const tn_plugin *tn_plugin_query_hf(uint32_t host_abi, const char **why) {
  if (host_abi >> 16 == TN_ABI_MAJOR) return &plugin;
  *why = "made for another major version";
  return NULL;
}
