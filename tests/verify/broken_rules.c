/* broken_rules.c - a plugin of one rewrite rule that is wrong: a GELU becomes a rougher one. */
#include "tenon/ir.h"
#include <string.h>

static const char text[] =
    "TN_RULE(rough_gelu, 90, \"(gelu ?x)\", \"(mul ?x (sigmoid (mul ?x 1.5)))\", NULL)\n";
static const tn_rules rules = {sizeof rules, 0, "rough", {text, sizeof text - 1}};

static tn_status init(const tn_host *host, void **self) {
  *self = (void *)host;
  return TN_OK;
}

static const void *table(void *self, const char *kind, uint32_t index) {
  (void)self;
  return !strcmp(kind, "tn.rules/1") && index == 0 ? &rules : NULL;
}

static const tn_plugin plugin = {
    sizeof plugin, TN_ABI, "org.example.broken-rules", "1.0", "a wrong rule", 0, init, NULL, table};

TN_PLUGIN_ENTRY(broken_rules) {
  if (host_abi >> 16 != TN_ABI_MAJOR) {
    *why = "made for tenon ABI 0";
    return NULL;
  }
  return &plugin;
}
