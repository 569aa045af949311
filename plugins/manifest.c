/* manifest.c - *.tnplug files: what a plugin is, as text, so that listing plugins runs none of their code.
 *
 *   id       = org.tenon.cpu
 *   version  = 0.1.0
 *   abi      = 0.1
 *   library  = tenon-cpu.so          a plain file name in the manifest's folder
 *   provides = backend:cpu
 *   summary  = machine code for CPUs through LLVM
 *
 * Lines are KEY = VALUE; # begins a comment. */
#include "plugins/registry.h"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

enum { K_ID, K_VERSION, K_ABI, K_LIBRARY, K_PROVIDES, K_SUMMARY, K_COUNT };
static const char *const key_names[K_COUNT] = {"id", "version", "abi", "library", "provides", "summary"};

static tn_str trim(tn_str s) {
  while (s.len && strchr(" \t\r", s.ptr[0])) s.ptr++, s.len--;
  while (s.len && strchr(" \t\r", s.ptr[s.len - 1])) s.len--;
  return s;
}

static tn_status read_line(tn_plugins *p, const char *path, uint32_t line, tn_str text,
                           const char *values[K_COUNT]) {
  const char *hash = memchr(text.ptr, '#', text.len);
  if (hash) text.len = (uint64_t)(hash - text.ptr);
  text = trim(text);
  if (!text.len) return TN_OK;
  const char *eq = memchr(text.ptr, '=', text.len);
  if (!eq)
    return tn_fail_at(p->diags, TN_INVALID, path, line, 0, "expected KEY = VALUE, found '%.*s'",
                      (int)text.len, text.ptr);
  tn_str key = trim((tn_str){text.ptr, (uint64_t)(eq - text.ptr)});
  tn_str value = trim((tn_str){eq + 1, (uint64_t)(text.ptr + text.len - eq - 1)});
  for (int k = 0; k < K_COUNT; k++) {
    if (!tn_str_is(key, key_names[k])) continue;
    if (values[k])
      return tn_fail_at(p->diags, TN_INVALID, path, line, 0, "key '%s' appears twice", key_names[k]);
    values[k] = tn_arena_str(&p->arena, value);
    return values[k] ? TN_OK : TN_OOM;
  }
  return tn_fail_at(p->diags, TN_INVALID, path, line, 0, "unknown key '%.*s'", (int)key.len, key.ptr);
}

static tn_status add_manifest(tn_plugins *p, const char *folder, const char *path,
                              const char *values[K_COUNT]) {
  for (int k = 0; k <= K_PROVIDES; k++)
    if (!values[k]) return tn_fail(p->diags, TN_INVALID, path, NULL, "key '%s' is missing", key_names[k]);
  if (strchr(values[K_LIBRARY], '/') || !strcmp(values[K_LIBRARY], ".."))
    return tn_fail(p->diags, TN_INVALID, path, NULL, "library '%s' is not a plain file name",
                   values[K_LIBRARY]);
  unsigned major = 0, minor = 0;
  if (sscanf(values[K_ABI], "%u.%u", &major, &minor) != 2)
    return tn_fail(p->diags, TN_INVALID, path, NULL, "abi '%s' is not MAJOR.MINOR", values[K_ABI]);
  for (uint32_t i = 0; i < p->list.count; i++) /* the first one found wins */
    if (!strcmp(p->list.items[i].row.id, values[K_ID])) return TN_OK;
  tn_plugin_entry e = {0};
  e.row = (tn_plugin_row){values[K_ID],
                          values[K_VERSION],
                          values[K_SUMMARY] ? values[K_SUMMARY] : "",
                          tn_path_join(&p->arena, folder, values[K_LIBRARY]),
                          values[K_PROVIDES],
                          false};
  if (!e.row.path || !tn_vec_push(&p->list, e)) return TN_OOM;
  return TN_OK;
}

static tn_status read_manifest(tn_plugins *p, const char *folder, const char *name) {
  const char *path = tn_path_join(&p->arena, folder, name);
  if (!path) return TN_OOM;
  tn_file f;
  const char *why;
  tn_status s = tn_file_map(&f, path, &why);
  if (s != TN_OK) return tn_fail(p->diags, s, path, NULL, "cannot read the manifest: %s", why);
  const char *values[K_COUNT] = {0};
  const char *at = (const char *)f.data, *end = at + f.size;
  if (f.size > 65536)
    s = tn_fail(p->diags, TN_INVALID, path, NULL, "a manifest of %llu bytes, the limit is 65536",
                (unsigned long long)f.size);
  for (uint32_t line = 1; s == TN_OK && at < end; line++) {
    const char *nl = memchr(at, '\n', (size_t)(end - at));
    if (!nl) nl = end;
    s = read_line(p, path, line, (tn_str){at, (uint64_t)(nl - at)}, values);
    at = nl + 1;
  }
  tn_file_unmap(&f);
  return s != TN_OK ? s : add_manifest(p, folder, path, values);
}

static int is_manifest(const struct dirent *d) {
  return tn_str_ends(tn_str_of(d->d_name), ".tnplug") && d->d_name[0] != '.';
}

tn_status tn_plugins_scan(tn_plugins *p, const char *folder) {
  struct dirent **names;
  int n = scandir(folder, &names, is_manifest, alphasort);
  tn_status s = TN_OK;
  for (int i = 0; i < n; i++) {
    if (s == TN_OK) s = read_manifest(p, folder, names[i]->d_name);
    free(names[i]);
  }
  if (n >= 0) free(names);
  return s;
}

static tn_status scan_list(tn_plugins *p, const char *folders) {
  for (const char *s = folders; s && *s;) {
    size_t n = strcspn(s, ":");
    char *one = tn_arena_str(&p->arena, (tn_str){s, n});
    if (!one) return TN_OOM;
    if (n) TN_TRY(tn_plugins_scan(p, one));
    s += n + (s[n] == ':');
  }
  return TN_OK;
}

tn_status tn_plugins_scan_standard(tn_plugins *p, const char *prefix_folder) {
  TN_TRY(scan_list(p, secure_getenv("TENON_PLUGIN_PATH")));
  const char *data = secure_getenv("XDG_DATA_HOME"), *home = secure_getenv("HOME");
  char *mine = data && *data ? tn_arena_printf(&p->arena, "%s/tenon/plugins", data)
               : home        ? tn_arena_printf(&p->arena, "%s/.local/share/tenon/plugins", home)
                             : NULL;
  if (mine) TN_TRY(tn_plugins_scan(p, mine));
  return prefix_folder ? tn_plugins_scan(p, prefix_folder) : TN_OK;
}
