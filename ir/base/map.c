/* map.c - string to number, in insertion order: a plain array of entries and an open-addressed index of entry
 * numbers + 1 with linear probing, at most three quarters full. */
#include "ir/base/base.h"

void tn_map_init(tn_map *m) {
  memset(m, 0, sizeof *m);
  tn_arena_init(&m->keys);
}

void tn_map_fini(tn_map *m) {
  tn_mem_free(m->entries);
  tn_mem_free(m->index);
  tn_arena_fini(&m->keys);
  memset(m, 0, sizeof *m);
}

/* The slot of the index that holds the key, or the empty one where it belongs. */
static uint32_t map_slot(const tn_map *m, tn_str key, uint64_t hash) {
  uint32_t mask = m->nindex - 1, at = (uint32_t)hash & mask;
  for (; m->index[at]; at = (at + 1) & mask) {
    const tn_map_entry *e = &m->entries[m->index[at] - 1];
    if (e->hash == hash && tn_str_eq((tn_str){e->key, e->len}, key)) break;
  }
  return at;
}

bool tn_map_get(const tn_map *m, tn_str key, uint64_t *value) {
  if (!m->nindex) return false;
  uint32_t at = m->index[map_slot(m, key, tn_hash_bytes(key.ptr, key.len, 0))];
  if (at && value) *value = m->entries[at - 1].value;
  return at != 0;
}

static bool map_rehash(tn_map *m) {
  if (m->nindex > UINT32_MAX / 2) return false;
  uint32_t n = m->nindex ? m->nindex * 2 : 16;
  uint32_t *index = tn_mem_alloc((size_t)n * sizeof *index);
  if (!index) return false;
  tn_mem_free(m->index);
  m->index = index;
  m->nindex = n;
  for (uint32_t i = 0; i < m->count; i++) {
    uint32_t at = (uint32_t)m->entries[i].hash & (n - 1);
    while (index[at]) at = (at + 1) & (n - 1);
    index[at] = i + 1;
  }
  return true;
}

tn_status tn_map_put(tn_map *m, tn_str key, uint64_t value, bool *was_there) {
  uint64_t hash = tn_hash_bytes(key.ptr, key.len, 0);
  if (was_there) *was_there = false;
  if ((uint64_t)(m->count + 1) * 4 > (uint64_t)m->nindex * 3 && !map_rehash(m)) return TN_OOM;
  uint32_t slot = map_slot(m, key, hash);
  if (m->index[slot]) {
    m->entries[m->index[slot] - 1].value = value;
    if (was_there) *was_there = true;
    return TN_OK;
  }
  char *copy = tn_arena_str(&m->keys, key);
  if (!copy || !tn_vec_reserve_(&m->entries, &m->capacity, m->count + 1, sizeof *m->entries)) return TN_OOM;
  m->entries[m->count++] = (tn_map_entry){copy, key.len, hash, value};
  m->index[slot] = m->count;
  return TN_OK;
}
