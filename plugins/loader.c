/* loader.c - dlopen. RTLD_LOCAL keeps a plugin's symbols to itself; libraries are never closed, because code
 * of theirs (LLVM's atexit handlers, for one) may run until the process ends. */
#include "plugins/registry.h"
#include <dlfcn.h>

tn_status tn_plugins_open(tn_plugins *p, uint32_t i) {
  const char *path = p->list.items[i].row.path;
  p->list.items[i].failed = true;
  void *lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!lib) return tn_fail(p->diags, TN_UNAVAILABLE, path, NULL, "cannot load the plugin: %s", dlerror());
  tn_plugin_query_fn query = NULL;
  *(void **)&query = dlsym(lib, "tn_plugin_query");
  if (!query)
    return tn_fail(p->diags, TN_INVALID, path, NULL, "not a tenon plugin: it has no symbol tn_plugin_query");
  TN_TRY(tn_plugins_start(p, i, query, path));
  p->list.items[i].failed = false;
  return TN_OK;
}

tn_status tn_plugins_load(tn_plugins *p, const char *path) {
  const char *slash =
      strchr(path, '/') ? "" : "./"; /* a bare name would be searched in the system's folders */
  tn_plugin_entry e = {0};
  e.row.path = tn_arena_printf(&p->arena, "%s%s", slash, path);
  e.row.id = e.row.version = e.row.summary = "";
  if (!e.row.path || !tn_vec_push(&p->list, e)) return TN_OOM;
  return tn_plugins_open(p, p->list.count - 1);
}
