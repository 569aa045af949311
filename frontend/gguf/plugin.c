/* plugin.c - the built-in frontend "gguf": file -> config -> page -> module. */
#include "frontend/frontend.h"
#include "frontend/gguf/import.h"
#include "frontend/import.h"
#include <fcntl.h>
#include <unistd.h>

/* By its first bytes; a file that is only called so is taken too, so that the import can say what is wrong
 * with it. */
static uint32_t probe(void *self, const char *path) {
  char magic[4] = {0};
  (void)self;
  if (tn_path_is_dir(path)) return 0;
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  bool is = fd >= 0 && read(fd, magic, sizeof magic) == (ssize_t)sizeof magic && !memcmp(magic, "GGUF", 4);
  if (fd >= 0) close(fd);
  return is ? 90 : tn_str_ends(tn_str_of(path), ".gguf") ? 40 : 0;
}

/* ---- tensors
 * --------------------------------------------------------------------------------------------------- */

static bool find(void *ctx, const char *name, tn_tensor_ref *out) {
  tn_gguf_import *g = ctx;
  const tn_gguf_tensor *t = tn_gguf_tensor_find(g->file, name);
  if (!t) return false;
  g->tensor_used[t - tn_gguf_tensor_at(g->file, 0)] = true;
  *out = (tn_tensor_ref){t->dtype, t->rank, t->shape, t->file, t->offset, t->bytes};
  return true;
}

enum { NAMED = 4 }; /* unused tensors that the warning names */

static void report_unused(tn_gguf_import *g) {
  tn_buf names = {0};
  uint32_t n = 0;
  for (uint32_t i = 0; i < tn_gguf_tensor_count(g->file); i++) {
    if (g->tensor_used[i]) continue;
    if (n < NAMED) tn_buf_printf(&names, "%s%s", n ? ", " : "", tn_gguf_tensor_at(g->file, i)->name);
    n++;
  }
  if (n)
    tn_diags_add(&g->diags, TN_WARNING, g->name, 0, 0, NULL, "%u %s not used: %s%s", n,
                 n == 1 ? "tensor is" : "tensors are", tn_buf_cstr(&names), n > NAMED ? ", ..." : "");
  tn_buf_fini(&names);
}

/* ---- the page
 * -------------------------------------------------------------------------------------------------- */

/* Files of Mixtral say llama. */
static const tn_page *find_page(const tn_gguf_import *g, const tn_page_set *pages) {
  const tn_json *experts = tn_json_peek(g->config, "expert_count");
  bool many = experts && experts->kind == TN_JSON_INT && experts->u.i > 0;
  if (many && !strcmp(g->type, "llama")) return tn_pages_find(pages, "mixtral");
  return tn_pages_find_gguf(pages, g->type);
}

static tn_status unknown_architecture(tn_gguf_import *g, const tn_page_set *pages) {
  tn_buf names = {0};
  for (uint32_t i = 0; i < tn_pages_count(pages); i++) {
    tn_page_info info;
    tn_pages_get(pages, i, &info);
    for (uint32_t k = 0; k < info.ngguf; k++)
      tn_buf_printf(&names, "%s%s", names.len ? ", " : "", info.gguf[k]);
  }
  tn_gguf_fail_key(g, TN_UNSUPPORTED, "general.architecture",
                   "no page describes '%.60s'; there are pages for %s", g->type, tn_buf_cstr(&names));
  tn_buf_fini(&names);
  return TN_UNSUPPORTED;
}

/* The page's first architecture is the one that files are made of: the model with its usual head. */
static tn_status build(tn_gguf_import *g, const tn_page_set *pages) {
  tn_page_run run = {.page = find_page(g, pages),
                     .config = g->config,
                     .tensors = {g, find, true},
                     .ir = g->ir,
                     .m = g->m,
                     .diags = &g->diags};
  if (!run.page) return unknown_architecture(g, pages);
  tn_page_info info = tn_page_info_of(run.page);
  run.architecture = info.narchitectures ? info.architectures[0] : g->type;
  TN_TRY(tn_import_build(g->host, g->options, &run));
  report_unused(g);
  tn_gguf_report_unknown(g);
  return tn_gguf_set_meta(g, &info, run.architecture);
}

static tn_status import_file(tn_gguf_import *g) {
  tn_page_set *pages;
  TN_TRY(tn_gguf_open(g->path, &g->diags, &g->file));
  g->tensor_used = tn_arena_alloc(&g->arena, tn_gguf_tensor_count(g->file) + 1);
  if (!g->tensor_used) return tn_fail(&g->diags, TN_OOM, g->name, NULL, "out of memory");
  TN_TRY(tn_gguf_read_config(g));
  TN_TRY(tn_import_pages(g->host, g->options, &g->diags, &pages));
  tn_status status = build(g, pages);
  tn_pages_close(pages);
  return status;
}

static tn_status import(void *self, const char *path, tn_module *m, const tn_options *options) {
  const tn_host *host = self;
  const char *slash = strrchr(path, '/');
  tn_gguf_import g = {.host = host,
                      .ir = host->ir,
                      .m = m,
                      .options = options,
                      .path = path,
                      .name = slash ? slash + 1 : path};
  tn_arena_init(&g.arena);
  tn_diags_init(&g.diags);
  tn_status status = import_file(&g);
  if (status == TN_OK && g.diags.errors) status = TN_INVALID;
  tn_import_forward(host, m, &g.diags);
  tn_gguf_close(g.file);
  tn_diags_fini(&g.diags);
  tn_arena_fini(&g.arena);
  return status;
}

static const tn_frontend frontend = {.size = sizeof(tn_frontend),
                                     .name = "gguf",
                                     .summary = "GGUF files, also split ones",
                                     .probe = probe,
                                     .import = import};

static const void *table(void *self, const char *kind, uint32_t index) {
  (void)self;
  return !strcmp(kind, "tn.frontend/1") && !index ? &frontend : NULL;
}

static const tn_plugin plugin = {.size = sizeof(tn_plugin),
                                 .abi = TN_ABI,
                                 .id = "org.tenon.gguf",
                                 .version = "0.1.0",
                                 .summary = "GGUF files",
                                 .init = tn_import_start,
                                 .fini = tn_import_stop,
                                 .table = table};

const tn_plugin *tn_plugin_query_gguf(uint32_t host_abi, const char **why) {
  if (host_abi >> 16 == TN_ABI_MAJOR) return &plugin;
  *why = "made for another major version";
  return NULL;
}
