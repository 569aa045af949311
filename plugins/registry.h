/* registry.h - what host.c, loader.c and manifest.c share. */
#ifndef TN_REGISTRY_H
#define TN_REGISTRY_H
#include "plugins/host.h"

typedef struct tn_plugin_entry {
  tn_plugin_row row;
  tn_plugin table;
  void *self;
  bool failed; /* loading was tried and reported */
} tn_plugin_entry;

struct tn_plugins {
  tn_diags *diags;
  tn_arena arena;
  tn_host host;
  TN_VEC(tn_plugin_entry) list;
  TN_VEC(tn_backend_ref) backends;
  TN_VEC(tn_frontend_ref) frontends;
  TN_VEC(tn_pass_ref) passes;
  TN_VEC(tn_rules_ref) rules;
};

/* host.c: checks the plugin's answer, starts it and takes its tables into entry i. */
tn_status tn_plugins_start(tn_plugins *p, uint32_t i, tn_plugin_query_fn query, const char *where);
/* loader.c: opens entry i's library and starts it. */
tn_status tn_plugins_open(tn_plugins *p, uint32_t i);
#endif
