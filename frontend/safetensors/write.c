/* write.c - writes safetensors files: the header is text that says where each tensor's bytes will be, so it
 * is written first, and the bytes are asked for afterwards, one tensor after the other. */
#include "frontend/safetensors/types.h"
#include "frontend/safetensors/write.h"
#include <errno.h>
#include <unistd.h>

enum { ALIGNMENT = 8 }; /* of the first byte of data: the header ends with blanks */
static const uint64_t usual_shard = 5000000000;

/* ---- what is to be written ---- */

void tn_st_writer_init(tn_st_writer *w) {
  *w = (tn_st_writer){0};
  tn_arena_init(&w->arena);
  tn_map_init(&w->names);
}

void tn_st_writer_fini(tn_st_writer *w) {
  tn_vec_fini(&w->tensors);
  tn_vec_fini(&w->meta);
  tn_map_fini(&w->names);
  tn_arena_fini(&w->arena);
}

static void failed(tn_st_writer *w, tn_status s, const char *what) {
  if (w->status != TN_OK) return;
  w->status = s;
  w->bad = tn_arena_str(&w->arena, tn_str_of(what));
}

void tn_st_put_meta(tn_st_writer *w, const char *key, tn_str value) {
  const char *k = tn_arena_str(&w->arena, tn_str_of(key)), *v = tn_arena_str(&w->arena, value);
  if (!k || !v || !tn_vec_push(&w->meta, tn_str_of(k)) || !tn_vec_push(&w->meta, ((tn_str){v, value.len})))
    failed(w, TN_OOM, key);
}

const char *tn_st_type_name(tn_dtype t) {
  for (size_t i = 0; i < TN_COUNT(tn_st_types); i++)
    if (t && tn_st_types[i].dtype == t) return tn_st_types[i].name;
  return NULL;
}

static bool count_bytes(tn_dtype t, uint32_t rank, const int64_t *shape, uint64_t *bytes) {
  uint64_t bits = 0;
  for (size_t i = 0; i < TN_COUNT(tn_st_types); i++)
    if (t && tn_st_types[i].dtype == t) bits = tn_st_types[i].bits;
  for (uint32_t i = 0; i < rank; i++)
    if (shape[i] < 0 || !tn_mul_u64(bits, (uint64_t)shape[i], &bits)) return false;
  *bytes = bits / 8;
  return bits % 8 == 0 && tn_st_type_name(t);
}

void tn_st_put_tensor(tn_st_writer *w, const char *name, tn_dtype dtype, uint32_t rank,
                      const int64_t *shape) {
  tn_st_out_tensor t = {.name = tn_arena_str(&w->arena, tn_str_of(name)), .dtype = dtype, .rank = rank};
  bool twice = false;
  if (rank > TN_MAX_RANK || !count_bytes(dtype, rank, shape, &t.bytes)) {
    failed(w, TN_INVALID, name);
    return;
  }
  if (rank) memcpy(t.shape, shape, rank * sizeof *shape);
  if (!t.name || tn_map_put(&w->names, tn_str_of(name), w->tensors.count, &twice) != TN_OK ||
      !tn_vec_push(&w->tensors, t))
    failed(w, TN_OOM, name);
  if (twice) failed(w, TN_INVALID, name);
}

static tn_status check(const tn_st_writer *w, const char *path, tn_diags *diags) {
  if (w->status == TN_OK) return TN_OK;
  if (w->status == TN_OOM) return tn_fail(diags, TN_OOM, path, NULL, "out of memory");
  return tn_fail(
      diags, w->status, path, NULL,
      "tensor '%s' cannot be written: it is there twice, or its type or shape has no place in the format",
      w->bad ? w->bad : "");
}

/* ---- one file: tensors first .. end of the writer ---- */

typedef struct st_range {
  uint32_t first, end;
} st_range;

static void put_meta(const tn_st_writer *w, tn_buf *out) {
  tn_buf_puts(out, "\"__metadata__\":{");
  for (uint32_t i = 0; i + 1 < w->meta.count; i += 2) {
    if (i) tn_buf_puts(out, ",");
    tn_buf_json(out, w->meta.items[i]);
    tn_buf_puts(out, ":");
    tn_buf_json(out, w->meta.items[i + 1]);
  }
  tn_buf_puts(out, "}");
}

static void put_entry(const tn_st_out_tensor *t, uint64_t at, tn_buf *out) {
  tn_buf_json(out, tn_str_of(t->name));
  tn_buf_printf(out, ":{\"dtype\":\"%s\",\"shape\":[", tn_st_type_name(t->dtype));
  for (uint32_t i = 0; i < t->rank; i++) tn_buf_printf(out, "%s%lld", i ? "," : "", (long long)t->shape[i]);
  tn_buf_printf(out, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)at,
                (unsigned long long)(at + t->bytes));
}

/* The header with its length in front. */
static void make_header(const tn_st_writer *w, st_range r, tn_buf *out) {
  uint8_t length[8] = {0};
  uint64_t at = 0;
  tn_buf_put(out, length, sizeof length);
  tn_buf_puts(out, "{");
  if (w->meta.count) put_meta(w, out);
  for (uint32_t i = r.first; i < r.end; i++) {
    if (i > r.first || w->meta.count) tn_buf_puts(out, ",");
    put_entry(&w->tensors.items[i], at, out);
    at += w->tensors.items[i].bytes;
  }
  tn_buf_puts(out, "}");
  while (!out->failed && out->len % ALIGNMENT) tn_buf_puts(out, " ");
  for (int i = 0; !out->failed && i < 8; i++) out->text[i] = (char)(uint8_t)((out->len - 8) >> (8 * i));
}

static tn_status fill_all(const tn_st_writer *w, st_range r, tn_st_fill fill, void *ctx, tn_outfile *out,
                          uint64_t at) {
  for (uint32_t i = r.first; i < r.end; i++) {
    const tn_st_out_tensor *t = &w->tensors.items[i];
    TN_TRY(fill(ctx, i, out, at, t->bytes));
    at += t->bytes;
  }
  return TN_OK;
}

static tn_status write_open(const tn_st_writer *w, st_range r, tn_st_fill fill, void *ctx, tn_outfile *out,
                            const char *path, tn_diags *diags) {
  tn_buf header = {0};
  uint64_t bytes = 0, start;
  for (uint32_t i = r.first; i < r.end; i++) bytes += w->tensors.items[i].bytes;
  if (!tn_outfile_seekable(out)) return tn_fail(diags, TN_UNAVAILABLE, path, NULL, "is not a regular file");
  make_header(w, r, &header);
  start = header.len;
  tn_status s = header.failed ? TN_OOM : tn_outfile_reserve(out, start + bytes);
  if (s == TN_OK) s = tn_outfile_write(out, header.text, header.len);
  if (s == TN_OK) s = tn_outfile_extend(out, bytes);
  tn_buf_fini(&header);
  uint32_t before = diags->errors;
  if (s == TN_OK) s = fill_all(w, r, fill, ctx, out, start);
  if (s == TN_OK) s = tn_outfile_commit(out, 0644);
  if (s != TN_OK && diags->errors == before)
    tn_fail(diags, s, path, NULL, "cannot be written: is the disk full?");
  return s;
}

static tn_status write_file(const tn_st_writer *w, st_range r, const char *path, tn_st_fill fill, void *ctx,
                            tn_diags *diags) {
  tn_outfile out;
  const char *why = "";
  tn_status s = tn_outfile_open(&out, path, &why);
  if (s != TN_OK) return tn_fail(diags, s, path, NULL, "cannot write: %s", why);
  s = write_open(w, r, fill, ctx, &out, path, diags);
  tn_outfile_abort(&out);
  return s;
}

tn_status tn_st_write(tn_st_writer *w, const char *path, tn_st_fill fill, void *ctx, tn_diags *diags) {
  TN_TRY(check(w, path, diags));
  return write_file(w, (st_range){0, w->tensors.count}, path, fill, ctx, diags);
}

/* ---- a folder ---- */

static const char single[] = "model.safetensors", index_name[] = "model.safetensors.index.json";

typedef TN_VEC(st_range) shard_list;

/* A tensor that is larger than a shard gets one of its own. */
static bool cut_shards(const tn_st_writer *w, uint64_t most, shard_list *out) {
  st_range r = {0, 0};
  uint64_t bytes = 0;
  for (uint32_t i = 0; i < w->tensors.count; i++) {
    uint64_t more = w->tensors.items[i].bytes;
    if (i > r.first && bytes + more > most) {
      if (!tn_vec_push(out, r)) return false;
      r.first = i;
      bytes = 0;
    }
    r.end = i + 1;
    bytes += more;
  }
  return tn_vec_push(out, r);
}

static void shard_name(char out[64], uint32_t i, uint32_t n) {
  snprintf(out, 64, "model-%05u-of-%05u.safetensors", i + 1, n);
}

static tn_status write_index(const tn_st_writer *w, const shard_list *shards, const char *path,
                             tn_diags *diags) {
  tn_buf text = {0};
  uint64_t bytes = 0;
  char name[64];
  for (uint32_t i = 0; i < w->tensors.count; i++) bytes += w->tensors.items[i].bytes;
  tn_buf_printf(&text, "{\n  \"metadata\": {\"total_size\": %llu},\n  \"weight_map\": {",
                (unsigned long long)bytes);
  for (uint32_t s = 0; s < shards->count; s++)
    for (uint32_t i = shards->items[s].first; i < shards->items[s].end; i++) {
      shard_name(name, s, shards->count);
      tn_buf_puts(&text, i ? ",\n    " : "\n    ");
      tn_buf_json(&text, tn_str_of(w->tensors.items[i].name));
      tn_buf_printf(&text, ": \"%s\"", name);
    }
  tn_buf_puts(&text, "\n  }\n}\n");
  tn_status s = tn_text_write(path, &text, diags);
  tn_buf_fini(&text);
  return s;
}

/* Readers look for the single file first: what an earlier run left must not be found. */
static tn_status forget(const char *path, tn_diags *diags) {
  if (!unlink(path) || errno == ENOENT) return TN_OK;
  return tn_fail(diags, TN_UNAVAILABLE, path, NULL, "cannot be removed: %s", strerror(errno));
}

static tn_status write_shards(tn_st_writer *w, const char *folder, const shard_list *shards, tn_st_fill fill,
                              void *ctx, tn_diags *diags) {
  char name[64];
  const char *alone = tn_path_join(&w->arena, folder, single),
             *list = tn_path_join(&w->arena, folder, index_name);
  if (!alone || !list) return tn_fail(diags, TN_OOM, folder, NULL, "out of memory");
  if (shards->count == 1) {
    TN_TRY(write_file(w, shards->items[0], alone, fill, ctx, diags));
    return forget(list, diags);
  }
  for (uint32_t i = 0; i < shards->count; i++) {
    shard_name(name, i, shards->count);
    const char *path = tn_path_join(&w->arena, folder, name);
    if (!path) return tn_fail(diags, TN_OOM, folder, NULL, "out of memory");
    TN_TRY(write_file(w, shards->items[i], path, fill, ctx, diags));
  }
  TN_TRY(write_index(w, shards, list, diags));
  return forget(alone, diags);
}

tn_status tn_st_write_folder(tn_st_writer *w, const char *folder, uint64_t shard_bytes, tn_st_fill fill,
                             void *ctx, tn_diags *diags) {
  shard_list shards = {0};
  TN_TRY(check(w, folder, diags));
  tn_status s = cut_shards(w, shard_bytes ? shard_bytes : usual_shard, &shards)
                    ? write_shards(w, folder, &shards, fill, ctx, diags)
                    : tn_fail(diags, TN_OOM, folder, NULL, "out of memory");
  tn_vec_fini(&shards);
  return s;
}
