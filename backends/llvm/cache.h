/* cache.h - objects on disk, found by what they were made from. A cache is an aid: whatever goes wrong, a
 * folder that is not there, a disk that is full, an entry that is damaged, counts as "not there" and nobody
 * hears of it. */
#ifndef TN_LL_CACHE_H
#define TN_LL_CACHE_H
#include "ir/base/base.h"

#define TN_LL_CACHE_BYTES (256u << 20) /* of all entries together, kept to after each compile */

typedef struct tn_ll_cache {
  char *folder;    /* NULL: no cache */
  uint32_t stored; /* atomic: entries written since it was opened */
} tn_ll_cache;

/* Makes the folder `room` ("cpu") in `folder` if need be. Folders into which others may write are not used:
 * what lies there is executed. NULL: no cache. */
void tn_ll_cache_open(tn_ll_cache *c, const char *folder, const char *room);
/* Throws out what was not used for longest if there is too much and something was stored; frees. */
void tn_ll_cache_close(tn_ll_cache *c, uint64_t limit);
/* `key`: 64 hex digits. Both may be called on several threads. */
bool tn_ll_cache_get(tn_ll_cache *c, const char *key, tn_buf *out);
void tn_ll_cache_put(tn_ll_cache *c, const char *key, tn_bytes object);

#endif
