/* state.c - what makes a recipe resumable: OUT/state.json. A job's key is the SHA-256 of this program, the
 * job's words, and the content of every file and folder that the words name; a job that was done with the
 * same key, and whose result is unchanged, is not run again. Files are read once: afterwards size and time of
 * the last change tell that they are the same. */
#include "tools/recipe/recipe.h"
#include <dirent.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DEPTH = 8, VERSION = 1 };

static tn_status hash_path(tn_recipe_state *s, const char *path, int depth, char out[65]);

/* ---- files ----------------------------------------------------------------------------------- */
static tn_status hash_content(const char *path, char out[65]) {
  tn_file f;
  tn_sha256 h;
  TN_TRY(tn_file_map(&f, path, NULL));
  tn_sha256_init(&h);
  tn_sha256_add(&h, f.data, f.size);
  tn_sha256_hex(&h, out);
  tn_file_unmap(&f);
  return TN_OK;
}

static tn_status remember(tn_recipe_state *s, tn_file_hash x) {
  uint64_t i = s->files.count;
  tn_str path = tn_str_of(x.path);
  if (tn_map_get(&s->file_of, path, &i)) {
    x.path = s->files.items[i].path;
    s->files.items[i] = x;
    return TN_OK;
  }
  x.path = tn_arena_str(&s->arena, path);
  bool kept = x.path && tn_vec_push(&s->files, x) && tn_map_put(&s->file_of, path, i, NULL) == TN_OK;
  return kept ? TN_OK : TN_OOM;
}

static tn_status hash_file(tn_recipe_state *s, const char *path, const struct stat *st, char out[65]) {
  tn_file_hash x = {.path = path,
                    .size = st->st_size,
                    .changed = (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec};
  uint64_t i;
  if (tn_map_get(&s->file_of, tn_str_of(path), &i)) {
    const tn_file_hash *known = &s->files.items[i];
    if (known->size == x.size && known->changed == x.changed) return memcpy(out, known->hash, 65), TN_OK;
  }
  TN_TRY(hash_content(path, x.hash));
  memcpy(out, x.hash, 65);
  return remember(s, x);
}

static int by_name(const void *a, const void *b) {
  return strcmp(*(const char *const *)a, *(const char *const *)b);
}

typedef TN_VEC(char *) names;

static tn_status list_folder(tn_arena *a, const char *path, names *out) {
  DIR *d = opendir(path);
  tn_status s = d ? TN_OK : TN_UNAVAILABLE;
  for (struct dirent *e; s == TN_OK && (e = readdir(d));) {
    if (e->d_name[0] == '.') continue;
    char *name = tn_arena_str(a, tn_str_of(e->d_name));
    if (!name || !tn_vec_push(out, name)) s = TN_OOM;
  }
  if (d) closedir(d);
  if (out->count) qsort(out->items, out->count, sizeof *out->items, by_name);
  return s;
}

/* Names and contents, in the order of the names; hidden files do not count. */
static tn_status hash_folder(tn_recipe_state *s, const char *path, int depth, char out[65]) {
  tn_arena a;
  names list = {0};
  tn_sha256 h;
  char one[65];
  tn_arena_init(&a);
  tn_sha256_init(&h);
  tn_status status = depth ? list_folder(&a, path, &list) : TN_OK;
  for (uint32_t i = 0; i < list.count && status == TN_OK; i++) {
    char *file = tn_path_join(&a, path, list.items[i]);
    status = file ? hash_path(s, file, depth - 1, one) : TN_OOM;
    tn_sha256_add(&h, list.items[i], strlen(list.items[i]) + 1);
    if (status == TN_OK) tn_sha256_add(&h, one, 64);
  }
  tn_sha256_hex(&h, out);
  tn_vec_fini(&list);
  tn_arena_fini(&a);
  return status;
}

static tn_status hash_path(tn_recipe_state *s, const char *path, int depth, char out[65]) {
  struct stat st;
  if (stat(path, &st)) return TN_NOT_FOUND;
  if (S_ISDIR(st.st_mode)) return hash_folder(s, path, depth, out);
  return S_ISREG(st.st_mode) ? hash_file(s, path, &st, out) : TN_UNAVAILABLE;
}

/* ---- keys ------------------------------------------------------------------------------------ */
/* Adds the content behind a path; one that names no file adds nothing. */
static tn_status add_path(tn_recipe_state *s, tn_sha256 *h, const char *path) {
  char hash[65], beside[4096];
  tn_status status = hash_path(s, path, DEPTH, hash);
  if (status == TN_OOM) return status;
  if (status != TN_OK) return TN_OK;
  tn_sha256_add(h, hash, 64);
  if (!tn_str_ends(tn_str_of(path), ".onnx")) return TN_OK;
  snprintf(beside, sizeof beside, "%s.data", path); /* its weights may lie there */
  if (hash_path(s, beside, DEPTH, hash) == TN_OK) tn_sha256_add(h, hash, 64);
  return TN_OK;
}

/* A path stands alone, before "@how", behind "NAME=", or between both. */
static tn_status add_word(tn_recipe_state *s, tn_sha256 *h, const char *word) {
  char path[4096];
  TN_TRY(add_path(s, h, word));
  const char *value = strchr(word, '='), *mark = strrchr(word, '@');
  if (value) TN_TRY(add_word(s, h, value + 1));
  if (!mark || value || (size_t)(mark - word) >= sizeof path) return TN_OK;
  memcpy(path, word, (size_t)(mark - word));
  path[mark - word] = 0;
  return add_path(s, h, path);
}

/* Options that say where to write: what lies there is no input. */
static bool writes(const char *word) {
  static const char *const options[] = {
      "--output=", "--output-dir=", "--report=", "--html=", "--trace=", "--profile=", "--tune="};
  for (size_t i = 0; i < TN_COUNT(options); i++)
    if (tn_str_starts(tn_str_of(word), options[i])) return true;
  return false;
}

tn_status tn_state_key(tn_recipe_state *s, tn_job *j) {
  tn_sha256 h;
  char program[65];
  tn_sha256_init(&h);
  if (hash_path(s, "/proc/self/exe", 0, program) == TN_OK) tn_sha256_add(&h, program, 64);
  for (uint32_t i = 1; i + 1 < j->argv.count; i++) {
    const char *word = j->argv.items[i];
    tn_sha256_add(&h, word, strlen(word) + 1);
    bool made = j->out && !strcmp(word, j->out);
    if (i > 1 && !made && !writes(word)) TN_TRY(add_word(s, &h, word));
  }
  tn_sha256_hex(&h, j->key);
  return TN_OK;
}

bool tn_state_keeps(tn_recipe_state *s, tn_job *j) {
  uint64_t i;
  char hash[65];
  if (!tn_map_get(&s->done_of, tn_str_of(j->name), &i)) return false;
  const tn_done *d = &s->done.items[i];
  if (strcmp(d->key, j->key) != 0) return false;
  if (j->out && (!d->out || hash_path(s, j->out, DEPTH, hash) != TN_OK || strcmp(hash, d->out) != 0))
    return false;
  j->result = d->result;
  j->seconds = d->seconds;
  return true;
}

tn_status tn_state_add(tn_recipe_state *s, const tn_job *j) {
  char hash[65];
  uint64_t i = s->done.count;
  tn_done d = {.seconds = j->seconds, .result = j->result};
  d.name = tn_arena_str(&s->arena, tn_str_of(j->name));
  d.key = tn_arena_str(&s->arena, tn_str_of(j->key));
  if (j->out && hash_path(s, j->out, DEPTH, hash) == TN_OK) d.out = tn_arena_str(&s->arena, tn_str_of(hash));
  if (!d.name || !d.key) return TN_OOM;
  if (tn_map_get(&s->done_of, tn_str_of(j->name), &i)) return s->done.items[i] = d, TN_OK;
  return tn_vec_push(&s->done, d) && tn_map_put(&s->done_of, tn_str_of(d.name), i, NULL) == TN_OK ? TN_OK
                                                                                                  : TN_OOM;
}

/* ---- the file -------------------------------------------------------------------------------- */
static const char *text_of(const tn_json *o, const char *key) {
  const tn_json *n = tn_json_get(o, key);
  return n && n->kind == TN_JSON_STRING ? n->u.s.ptr : NULL;
}

static int64_t int_of(const tn_json *o, const char *key) {
  const tn_json *n = tn_json_get(o, key);
  return n && n->kind == TN_JSON_INT ? n->u.i : -1;
}

static tn_status read_files(tn_recipe_state *s, const tn_json *list) {
  for (uint32_t i = 0; list && list->kind == TN_JSON_LIST && i < list->count; i++) {
    const tn_json *n = &list->u.items[i];
    const char *hash = text_of(n, "sha256");
    tn_file_hash x = {text_of(n, "path"), int_of(n, "size"), int_of(n, "changed"), ""};
    if (!x.path || !hash || strlen(hash) != 64) continue;
    memcpy(x.hash, hash, 65);
    TN_TRY(remember(s, x));
  }
  return TN_OK;
}

static tn_status read_done(tn_recipe_state *s, const tn_json *list) {
  for (uint32_t i = 0; list && list->kind == TN_JSON_LIST && i < list->count; i++) {
    const tn_json *n = &list->u.items[i], *seconds = tn_json_get(n, "seconds");
    const tn_json *result = tn_json_get(n, "result");
    tn_done d = {text_of(n, "job"), text_of(n, "key"), text_of(n, "out"), 0, NULL};
    if (!d.name || !d.key) continue;
    if (seconds && seconds->kind == TN_JSON_REAL) d.seconds = seconds->u.r;
    if (result && result->kind != TN_JSON_NULL) d.result = result;
    uint64_t at = s->done.count;
    if (!tn_vec_push(&s->done, d) || tn_map_put(&s->done_of, tn_str_of(d.name), at, NULL)) return TN_OOM;
  }
  return TN_OK;
}

static tn_status read_state(tn_recipe_state *s, tn_diags *d) {
  tn_file f;
  tn_json *root;
  tn_diags ignored;
  if (tn_file_map(&f, s->path, NULL) != TN_OK) return TN_OK;
  tn_diags_init(&ignored);
  tn_status status =
      tn_json_parse(&s->arena, (tn_str){(const char *)f.data, f.size}, s->path, &ignored, &root);
  tn_file_unmap(&f);
  tn_diags_fini(&ignored);
  if (status == TN_OOM) return status;
  if (status != TN_OK || root->kind != TN_JSON_OBJECT || int_of(root, "version") != VERSION) {
    tn_diags_add(d, TN_WARNING, s->path, 0, 0, NULL, "is no state of a recipe: every step is run again");
    return TN_OK;
  }
  TN_TRY(read_files(s, tn_json_get(root, "files")));
  return read_done(s, tn_json_get(root, "done"));
}

tn_status tn_state_open(tn_recipe_state *s, const tn_recipe *r, tn_diags *d) {
  *s = (tn_recipe_state){0};
  tn_arena_init(&s->arena);
  tn_map_init(&s->file_of);
  tn_map_init(&s->done_of);
  s->path = tn_path_join(&s->arena, r->out, "state.json");
  tn_status status = s->path ? read_state(s, d) : TN_OOM;
  return status == TN_OOM ? tn_fail(d, TN_OOM, r->file, NULL, "out of memory") : status;
}

void tn_state_fini(tn_recipe_state *s) {
  tn_vec_fini(&s->files);
  tn_vec_fini(&s->done);
  tn_map_fini(&s->file_of);
  tn_map_fini(&s->done_of);
  tn_arena_fini(&s->arena);
}

static void put_key(tn_buf *b, const char *before, const char *key, const char *value) {
  tn_buf_printf(b, "%s\"%s\": ", before, key);
  if (value)
    tn_buf_json(b, tn_str_of(value));
  else
    tn_buf_puts(b, "null");
}

tn_status tn_state_write(tn_recipe_state *s, tn_diags *d) {
  tn_buf b = {0};
  tn_buf_printf(&b, "{\"version\": %d,\n \"files\": [", VERSION);
  for (uint32_t i = 0; i < s->files.count; i++) {
    const tn_file_hash *x = &s->files.items[i];
    put_key(&b, i ? ",\n  {" : "\n  {", "path", x->path);
    tn_buf_printf(&b, ", \"size\": %lld, \"changed\": %lld, \"sha256\": \"%s\"}", (long long)x->size,
                  (long long)x->changed, x->hash);
  }
  tn_buf_puts(&b, "],\n \"done\": [");
  for (uint32_t i = 0; i < s->done.count; i++) {
    const tn_done *x = &s->done.items[i];
    put_key(&b, i ? ",\n  {" : "\n  {", "job", x->name);
    put_key(&b, ", ", "key", x->key);
    put_key(&b, ", ", "out", x->out);
    tn_buf_printf(&b, ", \"seconds\": %.3f, \"result\": ", x->seconds);
    if (x->result)
      tn_json_write(&b, x->result);
    else
      tn_buf_puts(&b, "null");
    tn_buf_puts(&b, "}");
  }
  tn_buf_puts(&b, "]}\n");
  tn_status status =
      b.failed ? tn_fail(d, TN_OOM, s->path, NULL, "out of memory") : tn_text_write(s->path, &b, d);
  tn_buf_fini(&b);
  return status;
}
