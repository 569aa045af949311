/* bad.c - one wrong plugin per BAD_ macro: what a host must refuse in words, without a crash. BAD_SHORT is
 * right: a plugin of an older minor whose tables end early. */
#include "tenon/ir.h"

#ifndef BAD_SYMBOL
static tn_status init(const tn_host *host, void **self) {
  (void)host;
  *self = NULL;
#ifdef BAD_INIT
  return TN_UNAVAILABLE;
#else
  return TN_OK;
#endif
}

#ifdef BAD_SHORT
/* A backend table that ends behind `name`: everything later is absent. */
static const struct {
  uint32_t size, flags;
  const char *name;
} backend = {16, 0, "short"};
#endif

static const void *table(void *self, const char *kind, uint32_t index) {
  (void)self, (void)kind, (void)index;
#ifdef BAD_SHORT
  if (!strcmp(kind, "tn.backend/1") && index == 0) return &backend;
#endif
  return NULL;
}

#ifdef BAD_MAJOR
#define ABI ((7u << 16) | 1)
#else
#define ABI TN_ABI
#endif
#ifdef BAD_ID
#define ID NULL
#else
#define ID "org.example.bad"
#endif
static const tn_plugin plugin = {sizeof plugin, ABI, ID, "1.0", "a wrong plugin", 0, init, NULL, table};
#endif

#ifdef BAD_SYMBOL
TN_EXPORT int some_other_symbol(void);
TN_EXPORT int some_other_symbol(void) { return 1; }
#else
TN_PLUGIN_ENTRY(bad) {
  (void)host_abi;
#ifdef BAD_REFUSES
  *why = "this plugin wants another host";
  return NULL;
#else
  *why = NULL;
  return &plugin;
#endif
}
#endif
