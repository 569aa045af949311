/* host.c - the set of plugins of one run: the services that tenon offers them, their start, and their tables
 * by kind. Nothing of a plugin runs before something of it is asked for. */
#include "plugins/registry.h"
#include <stdio.h>

static void *host_alloc(void *ctx, void *old, uint64_t old_size, uint64_t new_size) {
  (void)ctx, (void)old_size;
  if (!new_size) return tn_mem_free(old), NULL;
  return tn_mem_resize(old, new_size);
}

static void host_diag(void *ctx, tn_module *m, const tn_diag *theirs) {
  tn_diag d;
  tn_take(&d, sizeof d, theirs);
  int len = d.text.len > 4000 ? 4000 : (int)d.text.len;
  if (m)
    tn_ir_report(m, d.severity, d.loc, "%.*s", len, d.text.ptr);
  else
    tn_diags_add(((tn_plugins *)ctx)->diags, d.severity, NULL, 0, 0, NULL, "%.*s", len, d.text.ptr);
}

static const char *host_option(const tn_options *o, const char *key) {
  for (uint32_t i = 0; o && i < o->count; i++)
    if (!strcmp(o->keys[i], key)) return o->values[i];
  return NULL;
}

static const void *host_extension(void *ctx, const char *id) {
  (void)ctx, (void)id;
  return NULL;
}

tn_status tn_plugins_new(tn_plugins **out, tn_diags *diags) {
  tn_plugins *p = tn_mem_alloc(sizeof *p);
  if (!p) return TN_OOM;
  p->diags = diags;
  tn_arena_init(&p->arena);
  p->host =
      (tn_host){sizeof(tn_host), TN_ABI, p, host_alloc, host_diag, host_option, host_extension, &tn_ir_table};
  *out = p;
  return TN_OK;
}

void tn_plugins_free(tn_plugins *p) {
  if (!p) return;
  for (uint32_t i = 0; i < p->list.count; i++) {
    tn_plugin_entry *e = &p->list.items[i];
    if (e->row.loaded && e->table.fini) e->table.fini(e->self);
  }
  tn_vec_fini(&p->list);
  tn_vec_fini(&p->backends);
  tn_vec_fini(&p->frontends);
  tn_vec_fini(&p->passes);
  tn_vec_fini(&p->rules);
  tn_arena_fini(&p->arena);
  tn_mem_free(p);
}

/* Takes every table of one kind and notes it in `provides`. */
#define TAKE_TABLES(kind, word, T, vec)                                                                      \
  for (uint32_t k = 0; k < 1024 && e->table.table; k++) {                                                    \
    const void *theirs = e->table.table(e->self, kind, k);                                                   \
    if (!theirs) break;                                                                                      \
    T ref = {.plugin = i};                                                                                   \
    tn_take(&ref.table, sizeof ref.table, theirs);                                                           \
    TAKE_SELF(ref, e)                                                                                        \
    if (!tn_vec_push(&p->vec, ref)) return TN_OOM;                                                           \
    tn_buf_printf(&provides, "%s" word ":%s", provides.len ? ", " : "", ref.table.name);                     \
  }

static tn_status take_tables(tn_plugins *p, uint32_t i) {
  tn_plugin_entry *e = &p->list.items[i];
  tn_buf provides = {0};
#define TAKE_SELF(ref, e) ref.self = e->self;
  TAKE_TABLES("tn.backend/1", "backend", tn_backend_ref, backends)
  TAKE_TABLES("tn.frontend/1", "frontend", tn_frontend_ref, frontends)
  TAKE_TABLES("tn.pass/1", "pass", tn_pass_ref, passes)
#undef TAKE_SELF
#define TAKE_SELF(ref, e)
  TAKE_TABLES("tn.rules/1", "rules", tn_rules_ref, rules)
#undef TAKE_SELF
  if (!e->row.provides) e->row.provides = tn_arena_str(&p->arena, tn_str_of(tn_buf_cstr(&provides)));
  tn_buf_fini(&provides);
  return e->row.provides ? TN_OK : TN_OOM;
}

tn_status tn_plugins_start(tn_plugins *p, uint32_t i, tn_plugin_query_fn query, const char *where) {
  tn_plugin_entry *e = &p->list.items[i];
  const char *why = NULL;
  const tn_plugin *theirs = query(TN_ABI, &why);
  if (!theirs)
    return tn_fail(p->diags, TN_UNSUPPORTED, where, NULL, "the plugin refuses this host: %s",
                   why ? why : "no reason given");
  tn_take(&e->table, sizeof e->table, theirs);
  if (e->table.abi >> 16 != TN_ABI_MAJOR)
    return tn_fail(p->diags, TN_UNSUPPORTED, where, NULL, "plugin ABI %u.%u, this host has %u.%u",
                   e->table.abi >> 16, e->table.abi & 0xffff, TN_ABI_MAJOR, TN_ABI_MINOR);
  if (!e->table.id || !e->table.version)
    return tn_fail(p->diags, TN_INVALID, where, NULL, "the plugin has no id or no version");
  if (e->table.init) {
    tn_status s = e->table.init(&p->host, &e->self);
    if (s != TN_OK)
      return tn_fail(p->diags, s, where, NULL, "plugin '%s' did not start (status %d)", e->table.id, s);
  }
  e->row.id = e->table.id;
  e->row.version = e->table.version;
  e->row.summary = e->table.summary ? e->table.summary : "";
  e->row.loaded = true;
  return take_tables(p, i);
}

tn_status tn_plugins_add_builtin(tn_plugins *p, tn_plugin_query_fn query) {
  tn_plugin_entry e = {0};
  if (!tn_vec_push(&p->list, e)) return TN_OOM;
  return tn_plugins_start(p, p->list.count - 1, query, "built-in plugin");
}

uint32_t tn_plugins_count(const tn_plugins *p) { return p->list.count; }
void tn_plugins_get(const tn_plugins *p, uint32_t i, tn_plugin_row *out) { *out = p->list.items[i].row; }

/* Does "backend:cpu, pass:x" name kind:name? With name NULL: any of the kind. */
static bool promises(const char *provides, const char *kind, const char *name) {
  size_t n = strlen(kind);
  for (const char *s = provides; s && (s = strstr(s, kind)); s += n) {
    if ((s != provides && s[-1] != ' ' && s[-1] != ',') || s[n] != ':') continue;
    size_t len = strcspn(s + n + 1, ", ");
    if (!name || (len == strlen(name) && !strncmp(s + n + 1, name, len))) return true;
  }
  return false;
}

static tn_status open_promised(tn_plugins *p, const char *kind, const char *name) {
  for (uint32_t i = 0; i < p->list.count; i++) {
    tn_plugin_entry *e = &p->list.items[i];
    if (!e->row.loaded && !e->failed && promises(e->row.provides, kind, name)) TN_TRY(tn_plugins_open(p, i));
  }
  return TN_OK;
}

tn_status tn_plugins_backend(tn_plugins *p, const char *name, tn_backend_ref *out) {
  TN_TRY(open_promised(p, "backend", name));
  for (uint32_t i = 0; i < p->backends.count; i++)
    if (!strcmp(p->backends.items[i].table.name, name)) return *out = p->backends.items[i], TN_OK;
  tn_buf have = {0};
  for (uint32_t i = 0; i < p->list.count; i++)
    tn_buf_printf(&have, "%s%s (%s)", i ? "; " : "", p->list.items[i].row.id, p->list.items[i].row.provides);
  tn_status s = tn_fail(p->diags, TN_NOT_FOUND, NULL, NULL, "no plugin has a backend '%s'; there are: %s",
                        name, tn_buf_cstr(&have));
  tn_buf_fini(&have);
  return s;
}

#define ALL_OF(fn, kind, T, vec)                                                                             \
  tn_status fn(tn_plugins *p, const T **out, uint32_t *count) {                                              \
    TN_TRY(open_promised(p, kind, NULL));                                                                    \
    *out = p->vec.items;                                                                                     \
    *count = p->vec.count;                                                                                   \
    return TN_OK;                                                                                            \
  }
ALL_OF(tn_plugins_frontends, "frontend", tn_frontend_ref, frontends)
ALL_OF(tn_plugins_passes, "pass", tn_pass_ref, passes)
ALL_OF(tn_plugins_rules, "rules", tn_rules_ref, rules)
