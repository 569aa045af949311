/* folder.c - the tensors of a model folder: model.safetensors, or shards under an index that must agree with
 * them. */
#include "frontend/config/folder.h"
#include "frontend/safetensors/header.h"
#include <stdlib.h>

static const char single[] = "model.safetensors", index_name[] = "model.safetensors.index.json";

void tn_st_init(tn_st_files *s) {
  *s = (tn_st_files){0};
  tn_arena_init(&s->arena);
  tn_map_init(&s->by_name);
}

void tn_st_fini(tn_st_files *s) {
  tn_map_fini(&s->by_name);
  tn_vec_fini(&s->tensors);
  tn_arena_fini(&s->arena);
}

const tn_st_tensor *tn_st_find(const tn_st_files *s, const char *name) {
  uint64_t i;
  return tn_map_get(&s->by_name, tn_str_of(name), &i) ? &s->tensors.items[i] : NULL;
}

static tn_status fail_named(tn_diags *diags, const char *file, const char *tensor, const char *what,
                            const char *other) {
  tn_buf where = {0};
  tn_buf_printf(&where, "tensor '%s'", tensor);
  tn_fail(diags, TN_INVALID, file, tn_buf_cstr(&where), "%s '%s'", what, other);
  tn_buf_fini(&where);
  return TN_INVALID;
}

static int by_name(const void *a, const void *b) {
  const tn_st_tensor *x = a, *y = b;
  int c = strcmp(x->name, y->name);
  return c ? c : strcmp(x->file, y->file);
}

tn_status tn_st_sort(tn_st_files *s, tn_diags *diags) {
  tn_status status = TN_OK;
  if (s->tensors.count) qsort(s->tensors.items, s->tensors.count, sizeof *s->tensors.items, by_name);
  tn_map_fini(&s->by_name);
  tn_map_init(&s->by_name);
  for (uint32_t i = 0; i < s->tensors.count; i++) {
    const tn_st_tensor *t = &s->tensors.items[i];
    bool twice;
    if (tn_map_put(&s->by_name, tn_str_of(t->name), i, &twice) != TN_OK)
      return tn_fail(diags, TN_OOM, t->file, NULL, "out of memory");
    if (twice) status = fail_named(diags, t->file, t->name, "is also in", s->tensors.items[i - 1].file);
  }
  return status;
}

tn_status tn_st_read(tn_st_files *s, const char *name, tn_bytes data, tn_diags *diags) {
  tn_status status = tn_st_header(s, name, data, diags);
  tn_status sorted = tn_st_sort(s, diags);
  return status != TN_OK ? status : sorted;
}

static tn_status read_file(tn_st_files *s, const char *folder, const char *name, tn_diags *diags) {
  tn_file f;
  TN_TRY(tn_folder_map(folder, name, diags, &f));
  tn_status status = tn_st_header(s, name, (tn_bytes){f.data, f.size}, diags);
  tn_file_unmap(&f);
  return status;
}

static bool is_shard_name(tn_str name) {
  return tn_str_ends(name, ".safetensors") && !memchr(name.ptr, '/', name.len) &&
         strlen(name.ptr) == name.len;
}

/* Collects the shards named by the index, each once. */
static tn_status list_shards(const tn_json *map, tn_map *shards, tn_diags *diags) {
  tn_status status = TN_OK;
  for (uint32_t i = 0; i < map->count; i++) {
    const tn_json *m = &map->u.items[i];
    bool again = false;
    if (m->kind != TN_JSON_STRING || !is_shard_name(m->u.s)) {
      status = fail_named(diags, index_name, m->key, "its shard is not the plain name of a safetensors file:",
                          m->kind == TN_JSON_STRING ? m->u.s.ptr : tn_json_kind_name(m->kind));
    } else if (tn_map_put(shards, m->u.s, 0, &again) != TN_OK) {
      return tn_fail(diags, TN_OOM, index_name, NULL, "out of memory");
    }
  }
  return status;
}

/* What the index says, and what the shards hold, must be the same. */
static tn_status check_map(const tn_st_files *s, const tn_json *map, tn_diags *diags) {
  tn_status status = TN_OK;
  tn_map named;
  tn_map_init(&named);
  for (uint32_t i = 0; i < map->count; i++) {
    const tn_json *m = &map->u.items[i];
    const tn_st_tensor *t = tn_st_find(s, m->key);
    if (tn_map_put(&named, tn_str_of(m->key), i, NULL) != TN_OK)
      status = tn_fail(diags, TN_OOM, index_name, NULL, "out of memory");
    if (!t || strcmp(t->file, m->u.s.ptr))
      status = fail_named(diags, index_name, m->key, "is not in its shard", m->u.s.ptr);
  }
  for (uint32_t i = 0; i < s->tensors.count; i++) {
    const tn_st_tensor *t = &s->tensors.items[i];
    if (!tn_map_get(&named, tn_str_of(t->name), NULL))
      status = fail_named(diags, t->file, t->name, "is not named by", index_name);
  }
  tn_map_fini(&named);
  return status;
}

static tn_status read_shards(tn_st_files *s, const char *folder, const tn_json *map, tn_map *shards,
                             tn_diags *diags) {
  TN_TRY(list_shards(map, shards, diags));
  tn_status status = TN_OK;
  for (uint32_t i = 0; i < shards->count; i++) {
    const tn_map_entry *e = &shards->entries[i];
    char *name = tn_arena_str(&s->arena, (tn_str){e->key, e->len});
    tn_status one = name ? read_file(s, folder, name, diags) : TN_OOM;
    if (one != TN_OK) status = one;
  }
  tn_status sorted = tn_st_sort(s, diags);
  if (status == TN_OK) status = sorted;
  return status == TN_OK ? check_map(s, map, diags) : status;
}

static tn_status read_index(tn_st_files *s, const char *folder, tn_diags *diags) {
  tn_arena json;
  tn_json *root;
  tn_map shards;
  tn_arena_init(&json);
  tn_map_init(&shards);
  tn_status status = tn_folder_json(&json, folder, index_name, TN_JSON_OBJECT, diags, &root);
  if (status == TN_OK) {
    const tn_json *map = tn_json_get(root, "weight_map");
    if (map && map->kind == TN_JSON_OBJECT)
      status = read_shards(s, folder, map, &shards, diags);
    else
      status =
          tn_fail(diags, TN_INVALID, index_name, "key 'weight_map'", map ? "is not an object" : "is missing");
  }
  tn_map_fini(&shards);
  tn_arena_fini(&json);
  return status;
}

tn_status tn_st_open_folder(tn_st_files *s, const char *folder, tn_diags *diags) {
  if (tn_folder_has(folder, single)) {
    TN_TRY(read_file(s, folder, single, diags));
    return tn_st_sort(s, diags);
  }
  if (tn_folder_has(folder, index_name)) return read_index(s, folder, diags);
  return tn_fail(diags, TN_NOT_FOUND, single, NULL, "no such file in the model folder, and no %s",
                 index_name);
}
