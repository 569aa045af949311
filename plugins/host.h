/* host.h - the host's side of plugins: finding them, loading them when something of theirs is needed, and
 * their tables as this host understands them (copied with tn_take, so absent entries are NULL). */
#ifndef TN_HOST_H
#define TN_HOST_H
#include "ir/ir.h"

typedef struct tn_plugins tn_plugins;

/* Key/value pairs for a plugin's call. Keys and values are borrowed. */
struct tn_options {
  const char *const *keys;
  const char *const *values;
  uint32_t count;
};

typedef struct tn_plugin_row {
  const char *id, *version, *summary; /* from the manifest or, built in or loaded, from the plugin */
  const char *path;                   /* of the library; NULL: built in */
  const char *provides;               /* "backend:cpu, pass:hello" */
  bool loaded;
} tn_plugin_row;

/* A plugin's table together with its instance. */
typedef struct tn_backend_ref {
  tn_backend table;
  void *self;
  uint32_t plugin;
} tn_backend_ref;
typedef struct tn_frontend_ref {
  tn_frontend table;
  void *self;
  uint32_t plugin;
} tn_frontend_ref;
typedef struct tn_pass_ref {
  tn_pass table;
  void *self;
  uint32_t plugin;
} tn_pass_ref;
typedef struct tn_rules_ref {
  tn_rules table;
  uint32_t plugin;
} tn_rules_ref;

/* diags outlives the set. */
tn_status tn_plugins_new(tn_plugins **out, tn_diags *diags);
void tn_plugins_free(tn_plugins *p);

/* A plugin that is linked in. */
tn_status tn_plugins_add_builtin(tn_plugins *p, tn_plugin_query_fn query);
/* Loads one library now (--plugin). */
tn_status tn_plugins_load(tn_plugins *p, const char *path);
/* Reads the *.tnplug manifests of a folder; runs nothing. A folder that is not there is no error. */
tn_status tn_plugins_scan(tn_plugins *p, const char *folder);
/* The standard folders: TENON_PLUGIN_PATH and XDG_DATA_HOME/tenon/plugins (ignored in privileged programs),
 * then `prefix_folder`. */
tn_status tn_plugins_scan_standard(tn_plugins *p, const char *prefix_folder);

uint32_t tn_plugins_count(const tn_plugins *p);
void tn_plugins_get(const tn_plugins *p, uint32_t i, tn_plugin_row *out);

/* The backend of that name; loads its plugin if need be. TN_NOT_FOUND with a message that lists what there
 * is. */
tn_status tn_plugins_backend(tn_plugins *p, const char *name, tn_backend_ref *out);
/* All tables of a kind; loads the plugins whose manifests promise one. Arrays live until the set is freed. */
tn_status tn_plugins_frontends(tn_plugins *p, const tn_frontend_ref **out, uint32_t *count);
tn_status tn_plugins_passes(tn_plugins *p, const tn_pass_ref **out, uint32_t *count);
tn_status tn_plugins_rules(tn_plugins *p, const tn_rules_ref **out, uint32_t *count);

#endif
