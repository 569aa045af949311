/* phase.c - where the time of a compile goes, and where objects are kept so that the next one takes less. */
#include "tools/driver/driver.h"
#include <stdlib.h>

void tn_driver_phase_timed(tn_driver *d, const tn_phase *p) {
  if (tn_vec_push(&d->phases, *p)) d->mark += p->seconds; /* else its time counts for the next */
}

void tn_driver_phase(tn_driver *d, const char *name) {
  tn_driver_phase_timed(d, &(tn_phase){.name = name, .seconds = tn_now() - d->mark});
}

const char *tn_driver_cache(tn_driver *d) {
  const char *own = getenv("TENON_CACHE_DIR"), *caches = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
  if (d->options.no_cache) return NULL;
  if (own) return *own ? own : NULL;
  if (caches && *caches == '/') return tn_arena_printf(&d->arena, "%s/tenon", caches);
  return home && *home == '/' ? tn_arena_printf(&d->arena, "%s/.cache/tenon", home) : NULL;
}
