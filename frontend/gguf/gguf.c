/* gguf.c - opens a GGUF file with all parts of its split, and answers questions about its keys and tensors.
 */
#include "frontend/gguf/reader.h"

enum { PARTS_MAX = 99999, SUFFIX = 20 }; /* "-00001-of-00002.gguf" */

typedef struct split {
  int64_t no, count, tensors; /* this part, from 0; parts; tensors of all parts */
} split;

/* The key's value, or 0 when it is missing: a file without these keys is the only part. */
static tn_status split_key(tn_gguf_cursor *c, const char *key, int64_t most, int64_t *out) {
  const tn_gguf_kv *kv = tn_gguf_cursor_find(c, key);
  *out = 0;
  if (!kv) return TN_OK;
  if (!tn_gguf_int(kv, 0, out) || kv->type == TN_GGUF_ARRAY)
    return tn_gguf_fail_name(c, TN_INVALID, "key", kv->key, "is not an integer");
  if (*out >= 0 && *out <= most) return TN_OK;
  return tn_gguf_fail_name(c, TN_INVALID, "key", kv->key, "is %lld; it must be from 0 to %lld",
                           (long long)*out, (long long)most);
}

static tn_status read_split(tn_gguf_cursor *c, split *s) {
  TN_TRY(split_key(c, "split.no", PARTS_MAX, &s->no));
  TN_TRY(split_key(c, "split.count", PARTS_MAX, &s->count));
  return split_key(c, "split.tensors.count", INT32_MAX, &s->tensors);
}

/* Maps and reads one file; the first part's keys become those of the whole. */
static tn_status read_part(tn_gguf *g, const char *path, tn_diags *diags, split *s) {
  const char *slash = strrchr(path, '/'), *why = NULL;
  tn_gguf_part part = {.name = tn_arena_str(&g->arena, tn_str_of(slash ? slash + 1 : path))};
  if (!part.name) return tn_fail(diags, TN_OOM, path, NULL, "out of memory");
  tn_status status = tn_file_map(&part.map, path, &why);
  if (status != TN_OK) return tn_fail(diags, status, part.name, NULL, "cannot be read: %s", why);
  if (!tn_vec_push(&g->parts, part)) {
    tn_file_unmap(&part.map);
    return tn_fail(diags, TN_OOM, path, NULL, "out of memory");
  }
  tn_gguf_cursor c = {
      .g = g, .diags = diags, .file = part.name, .data = part.map.data, .size = part.map.size};
  tn_map_init(&c.kv_of);
  status = tn_gguf_read_header(&c);
  if (status == TN_OK) status = tn_gguf_read_metadata(&c);
  if (status == TN_OK) status = read_split(&c, s);
  if (status == TN_OK) status = tn_gguf_read_tensors(&c);
  if (g->parts.count == 1) { /* handed over also on failure: freed with the whole */
    g->kvs.items = c.kvs.items, g->kvs.count = c.kvs.count, g->kvs.capacity = c.kvs.capacity;
    g->kv_of = c.kv_of;
  } else {
    tn_vec_fini(&c.kvs);
    tn_map_fini(&c.kv_of);
  }
  return status;
}

static tn_status fail_key(tn_gguf *g, tn_diags *diags, const char *key, const char *text) {
  const char *file = g->parts.items[g->parts.count - 1].name;
  tn_buf where = {0};
  tn_buf_printf(&where, "key '%s'", key);
  tn_fail(diags, TN_INVALID, file, tn_buf_cstr(&where), "%s", text);
  tn_buf_fini(&where);
  return TN_INVALID;
}

static tn_status fail_number(tn_gguf *g, tn_diags *diags, const char *key, int64_t is, const char *but,
                             int64_t other) {
  char text[120];
  snprintf(text, sizeof text, "is %lld, but %s %lld", (long long)is, but, (long long)other);
  return fail_key(g, diags, key, text);
}

/* The path of part `no`, from the first one's. NULL: its name does not end as a split's does. */
static const char *part_path(tn_gguf *g, const char *first, int64_t no, int64_t count) {
  char suffix[64];
  size_t len = strlen(first);
  snprintf(suffix, sizeof suffix, "-00001-of-%05lld.gguf", (long long)count);
  if (len < SUFFIX || strcmp(first + len - SUFFIX, suffix) != 0) return NULL;
  return tn_arena_printf(&g->arena, "%.*s-%05lld-of-%05lld.gguf", (int)(len - SUFFIX), first,
                         (long long)no + 1, (long long)count);
}

static tn_status read_others(tn_gguf *g, const char *path, const split *whole, tn_diags *diags) {
  if (!part_path(g, path, 0, whole->count)) {
    char text[120];
    snprintf(text, sizeof text, "is %lld, but the file's name does not end in '-00001-of-%05lld.gguf'",
             (long long)whole->count, (long long)whole->count);
    return fail_key(g, diags, "split.count", text);
  }
  for (int64_t no = 1; no < whole->count; no++) {
    const char *next = part_path(g, path, no, whole->count);
    split s;
    if (!next) return tn_fail(diags, TN_OOM, path, NULL, "out of memory");
    TN_TRY(read_part(g, next, diags, &s));
    if (s.no != no) return fail_number(g, diags, "split.no", s.no, "the file's name says part", no);
    if (s.count != whole->count)
      return fail_number(g, diags, "split.count", s.count, "the first part says", whole->count);
  }
  if (whole->tensors == g->tensors.count) return TN_OK;
  return fail_number(g, diags, "split.tensors.count", whole->tensors, "the parts have", g->tensors.count);
}

static tn_status read_all(tn_gguf *g, const char *path, tn_diags *diags) {
  split s;
  TN_TRY(read_part(g, path, diags, &s));
  if (s.no) {
    char text[120];
    snprintf(text, sizeof text, "is %lld: this is a later part of a split; open the first one",
             (long long)s.no);
    return fail_key(g, diags, "split.no", text);
  }
  return s.count > 1 ? read_others(g, path, &s, diags) : TN_OK;
}

tn_status tn_gguf_open(const char *path, tn_diags *diags, tn_gguf **out) {
  tn_gguf *g = tn_mem_alloc(sizeof *g);
  *out = NULL;
  if (!g) return tn_fail(diags, TN_OOM, path, NULL, "out of memory");
  tn_arena_init(&g->arena);
  tn_map_init(&g->kv_of);
  tn_map_init(&g->tensor_of);
  tn_status s = read_all(g, path, diags);
  if (s == TN_OK)
    *out = g;
  else
    tn_gguf_close(g);
  return s;
}

void tn_gguf_close(tn_gguf *g) {
  if (!g) return;
  for (uint32_t i = 0; i < g->parts.count; i++) tn_file_unmap(&g->parts.items[i].map);
  tn_vec_fini(&g->parts);
  tn_vec_fini(&g->kvs);
  tn_vec_fini(&g->tensors);
  tn_map_fini(&g->kv_of);
  tn_map_fini(&g->tensor_of);
  tn_arena_fini(&g->arena);
  tn_mem_free(g);
}

uint32_t tn_gguf_kv_count(const tn_gguf *g) { return g->kvs.count; }

const tn_gguf_kv *tn_gguf_kv_at(const tn_gguf *g, uint32_t i) {
  return i < g->kvs.count ? &g->kvs.items[i] : NULL;
}

const tn_gguf_kv *tn_gguf_find(const tn_gguf *g, const char *key) {
  uint64_t i;
  return tn_map_get(&g->kv_of, tn_str_of(key), &i) ? &g->kvs.items[i] : NULL;
}

uint32_t tn_gguf_tensor_count(const tn_gguf *g) { return g->tensors.count; }

const tn_gguf_tensor *tn_gguf_tensor_at(const tn_gguf *g, uint32_t i) {
  return i < g->tensors.count ? &g->tensors.items[i] : NULL;
}

const tn_gguf_tensor *tn_gguf_tensor_find(const tn_gguf *g, const char *name) {
  uint64_t i;
  return tn_map_get(&g->tensor_of, tn_str_of(name), &i) ? &g->tensors.items[i] : NULL;
}
