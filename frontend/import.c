/* import.c - what the frontends share. */
#include "frontend/import.h"
#include "frontend/adapter/adapter.h"

enum { MAX_PATHS = 32 };

tn_status tn_import_start(const tn_host *host, void **self) {
  tn_host *mine = tn_mem_alloc(sizeof *mine);
  if (!mine) return TN_OOM;
  tn_take(mine, sizeof *mine, host);
  *self = mine;
  return TN_OK;
}

void tn_import_stop(void *self) { tn_mem_free(self); }

typedef struct path_list {
  const char *items[MAX_PATHS];
  uint32_t count;
} path_list;

/* "a:b" -> its parts, in the arena. */
static tn_status split_paths(tn_arena *arena, const char *s, const char *option, tn_diags *diags,
                             path_list *out) {
  out->count = 0;
  while (s && *s) {
    size_t len = strcspn(s, ":");
    if (out->count == MAX_PATHS)
      return tn_fail(diags, TN_INVALID, NULL, option, "more than %d paths", MAX_PATHS);
    if (len && !(out->items[out->count++] = tn_arena_str(arena, (tn_str){s, len}))) return TN_OOM;
    s += len + (s[len] == ':');
  }
  return TN_OK;
}

tn_status tn_import_pages_named(const char *folders, const char *pages, tn_diags *diags, tn_page_set **out) {
  path_list in, files;
  tn_arena arena;
  tn_arena_init(&arena);
  tn_status s = split_paths(&arena, folders, "page-folders", diags, &in);
  if (s == TN_OK) s = split_paths(&arena, pages, "page", diags, &files);
  if (s == TN_OK) s = tn_pages_open(out, in.items, in.count, files.items, files.count, diags);
  tn_arena_fini(&arena);
  return s;
}

tn_status tn_import_pages(const tn_host *host, const tn_options *options, tn_diags *diags,
                          tn_page_set **out) {
  return tn_import_pages_named(host->option(options, "page-folders"), host->option(options, "page"), diags,
                               out);
}

tn_status tn_import_build(const tn_host *host, const tn_options *options, tn_page_run *run) {
  TN_TRY(tn_page_kv(run->ir, host->option(options, "kv"), run->diags, &run->kv));
  TN_TRY(tn_adapters_open(host, options, run->diags, &run->adapters));
  tn_status s = tn_page_build(run);
  if (s == TN_OK && run->adapters) s = tn_adapters_finish(run->adapters, run->ir, run->m, run->diags);
  tn_adapters_close(run->adapters);
  run->adapters = NULL;
  return s;
}

static void forward_one(const tn_host *host, tn_module *m, const tn_message *msg) {
  tn_buf text = {0};
  if (msg->where) tn_buf_printf(&text, "%s: ", msg->where);
  tn_buf_puts(&text, msg->text);
  tn_loc_info place = {.kind = TN_LOC_FILE, .line = msg->line, .col = msg->col, .name = msg->file};
  tn_diag d = {.size = sizeof d,
               .severity = msg->severity,
               .loc = msg->file ? host->ir->loc_make(m, &place) : 0,
               .status = msg->severity == TN_ERROR ? TN_INVALID : TN_OK,
               .text = {tn_buf_cstr(&text), text.len}};
  host->diag(host->ctx, m, &d);
  tn_buf_fini(&text);
}

void tn_import_forward(const tn_host *host, tn_module *m, const tn_diags *diags) {
  for (uint32_t i = 0; i < diags->list.count; i++) forward_one(host, m, &diags->list.items[i]);
}

tn_status tn_import_meta(const tn_ir *ir, tn_module *m, const char *key, const char *value) {
  if (!value || ir->meta_get(m, key)) return TN_OK;
  return ir->meta_set(m, key, value);
}

tn_status tn_import_name(const tn_ir *ir, tn_module *m, const char *source) {
  static const char identifier[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_";
  const char *have = ir->module_name(m);
  if (have && *have) return TN_OK;
  tn_buf name = {0};
  if (*source >= '0' && *source <= '9') tn_buf_puts(&name, "m");
  for (const char *p = source; *p; p++)
    tn_buf_put(&name, memchr(identifier, *p, sizeof identifier - 1) ? p : "_", 1);
  tn_status s = name.failed ? TN_OOM : ir->module_set_name(m, tn_buf_cstr(&name));
  tn_buf_fini(&name);
  return s;
}
