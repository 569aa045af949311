/* write.c - GGUF files: keys gather as the bytes they will be, tensors as a table; tn_gguf_write puts the
 * header before both, reserves the data's room and has it filled tensor by tensor. */
#include "frontend/gguf/reader.h"
#include "frontend/gguf/write.h"
#include "ir/quant/quant.h"

enum { VERSION = 3, ALIGNMENT = 32, DIMS_MAX = 4, NAME_MAX_BYTES = 63 };

static const struct {
  tn_dtype dtype;    /* of a plain type */
  const char *block; /* row of quant.def; both none: no type of files */
} types[] = {
#define TN_GGUF_PLAIN(id, name, dtype) [id] = {TN_DT_##dtype, NULL},
#define TN_GGUF_BLOCK(id, name, block) [id] = {0, #block},
#define TN_GGUF_REFUSED(id, name, why) [id] = {0, NULL},
#include "frontend/gguf/types.def"
#undef TN_GGUF_PLAIN
#undef TN_GGUF_BLOCK
#undef TN_GGUF_REFUSED
};
static const uint8_t plain_bytes[TN_DT_PLAIN_END] = {
#define TN_X(name, bits, cls) [TN_DT_##name] = (bits) / 8,
    TN_DTYPES(TN_X)
#undef TN_X
};
static const uint8_t value_bytes[] = {[TN_GGUF_U8] = 1,  [TN_GGUF_I8] = 1,   [TN_GGUF_U16] = 2,
                                      [TN_GGUF_I16] = 2, [TN_GGUF_U32] = 4,  [TN_GGUF_I32] = 4,
                                      [TN_GGUF_F32] = 4, [TN_GGUF_BOOL] = 1, [TN_GGUF_U64] = 8,
                                      [TN_GGUF_I64] = 8, [TN_GGUF_F64] = 8};

int tn_gguf_type_of(tn_dtype t) {
  const tn_quant *q = tn_quant_of(t);
  for (uint32_t i = 0; t != TN_DT_NONE && i < TN_COUNT(types); i++)
    if (q ? types[i].block && !strcmp(types[i].block, q->name) : types[i].dtype == t) return (int)i;
  return -1;
}

void tn_gguf_writer_init(tn_gguf_writer *w) {
  *w = (tn_gguf_writer){.alignment = ALIGNMENT};
  tn_arena_init(&w->arena);
  tn_map_init(&w->keys);
  tn_map_init(&w->names);
}

void tn_gguf_writer_fini(tn_gguf_writer *w) {
  tn_buf_fini(&w->kvs);
  tn_vec_fini(&w->tensors);
  tn_map_fini(&w->keys);
  tn_map_fini(&w->names);
  tn_arena_fini(&w->arena);
}

static const char not_text[] = "has a name that is empty or not plain UTF-8 text";

/* Only the first failure is kept: what follows it may be its consequence. */
static void fail(tn_gguf_writer *w, tn_status status, tn_str name, const char *why) {
  if (w->status != TN_OK) return;
  w->status = status;
  w->why = why;
  w->bad = tn_arena_str(&w->arena, name);
}

/* ---- keys ---- */
static void put_u32(tn_buf *b, uint32_t v) { tn_buf_put(b, &v, 4); }

static void put_u64(tn_buf *b, uint64_t v) { tn_buf_put(b, &v, 8); }

static void put_text(tn_buf *b, tn_str s) {
  put_u64(b, s.len);
  tn_buf_put(b, s.ptr, s.len);
}

/* False: there is a failure already, or this is one. */
static bool begin(tn_gguf_writer *w, tn_str key, tn_gguf_type type) {
  bool again;
  if (w->status != TN_OK) return false;
  if (!tn_gguf_is_name(key)) return fail(w, TN_INVALID, TN_STR("(a key)"), not_text), false;
  if (tn_map_put(&w->keys, key, 1, &again) != TN_OK) return fail(w, TN_OOM, key, "out of memory"), false;
  if (again) return fail(w, TN_INVALID, key, "is there twice"), false;
  w->nkvs++;
  put_text(&w->kvs, key);
  put_u32(&w->kvs, type);
  return true;
}

static void put_plain(tn_gguf_writer *w, tn_str key, tn_gguf_type type, const void *v) {
  if (begin(w, key, type)) tn_buf_put(&w->kvs, v, value_bytes[type]);
}

/* The only key that changes the file itself. */
static void set_alignment(tn_gguf_writer *w, tn_str key, uint32_t v) {
  if (!tn_str_is(key, "general.alignment") || w->status != TN_OK) return;
  if (!v || (v & (v - 1))) return fail(w, TN_INVALID, key, "is not a power of two");
  if (w->tensors.count) return fail(w, TN_INVALID, key, "comes after tensors, which it places");
  w->alignment = v;
}

void tn_gguf_put_u32(tn_gguf_writer *w, const char *key, uint32_t v) {
  put_plain(w, tn_str_of(key), TN_GGUF_U32, &v);
  set_alignment(w, tn_str_of(key), v);
}

void tn_gguf_put_u64(tn_gguf_writer *w, const char *key, uint64_t v) {
  put_plain(w, tn_str_of(key), TN_GGUF_U64, &v);
}

void tn_gguf_put_i32(tn_gguf_writer *w, const char *key, int32_t v) {
  put_plain(w, tn_str_of(key), TN_GGUF_I32, &v);
}

void tn_gguf_put_f32(tn_gguf_writer *w, const char *key, float v) {
  put_plain(w, tn_str_of(key), TN_GGUF_F32, &v);
}

void tn_gguf_put_bool(tn_gguf_writer *w, const char *key, bool v) {
  uint8_t byte = v;
  put_plain(w, tn_str_of(key), TN_GGUF_BOOL, &byte);
}

void tn_gguf_put_string(tn_gguf_writer *w, const char *key, tn_str v) {
  if (begin(w, tn_str_of(key), TN_GGUF_STRING)) put_text(&w->kvs, v);
}

static bool begin_array(tn_gguf_writer *w, tn_str key, tn_gguf_type item, uint64_t n) {
  if (!begin(w, key, TN_GGUF_ARRAY)) return false;
  put_u32(&w->kvs, item);
  put_u64(&w->kvs, n);
  return true;
}

void tn_gguf_put_strings(tn_gguf_writer *w, const char *key, const tn_str *v, uint64_t n) {
  if (!begin_array(w, tn_str_of(key), TN_GGUF_STRING, n)) return;
  for (uint64_t i = 0; i < n; i++) put_text(&w->kvs, v[i]);
}

static void put_array(tn_gguf_writer *w, tn_str key, tn_gguf_type item, const void *v, uint64_t n) {
  uint64_t bytes;
  if (item >= TN_COUNT(value_bytes) || !value_bytes[item])
    return fail(w, TN_INVALID, key, "is not an array of numbers");
  if (!tn_mul_u64(n, value_bytes[item], &bytes)) return fail(w, TN_OOM, key, "out of memory");
  if (begin_array(w, key, item, n)) tn_buf_put(&w->kvs, v, bytes);
}

void tn_gguf_put_array(tn_gguf_writer *w, const char *key, tn_gguf_type item, const void *v, uint64_t n) {
  put_array(w, tn_str_of(key), item, v, n);
}

void tn_gguf_put_kv(tn_gguf_writer *w, const tn_gguf_kv *kv) {
  tn_str s;
  if (kv->type == TN_GGUF_STRING) {
    if (tn_gguf_string(kv, 0, &s) && begin(w, kv->key, TN_GGUF_STRING)) put_text(&w->kvs, s);
  } else if (kv->type != TN_GGUF_ARRAY) {
    put_plain(w, kv->key, kv->type, kv->data);
    if (kv->type == TN_GGUF_U32) set_alignment(w, kv->key, (uint32_t)tn_gguf_load(kv->data, 4));
  } else if (kv->item != TN_GGUF_STRING) {
    put_array(w, kv->key, kv->item, kv->data, kv->count);
  } else if (begin_array(w, kv->key, TN_GGUF_STRING, kv->count)) {
    for (uint64_t i = 0; i < kv->count && tn_gguf_string(kv, i, &s); i++) put_text(&w->kvs, s);
  }
}

bool tn_gguf_has_key(const tn_gguf_writer *w, const char *key) {
  uint64_t one;
  return tn_map_get(&w->keys, tn_str_of(key), &one);
}

tn_status tn_gguf_writer_keys(const tn_gguf_writer *w, tn_diags *diags, tn_gguf **out) {
  *out = NULL;
  if (w->status == TN_OOM || w->kvs.failed) return tn_fail(diags, TN_OOM, NULL, NULL, "out of memory");
  if (w->status != TN_OK) return tn_fail(diags, w->status, NULL, w->bad, "%s", w->why);
  tn_gguf *g = tn_mem_alloc(sizeof *g);
  if (!g) return tn_fail(diags, TN_OOM, NULL, NULL, "out of memory");
  tn_arena_init(&g->arena);
  tn_map_init(&g->tensor_of);
  tn_gguf_cursor c = {.g = g,
                      .diags = diags,
                      .file = "(keys)",
                      .data = (const uint8_t *)w->kvs.text,
                      .size = w->kvs.len,
                      .nkvs = w->nkvs};
  tn_map_init(&c.kv_of);
  tn_status s = tn_gguf_read_metadata(&c);
  g->kvs.items = c.kvs.items, g->kvs.count = c.kvs.count, g->kvs.capacity = c.kvs.capacity;
  g->kv_of = c.kv_of;
  if (s == TN_OK)
    *out = g;
  else
    tn_gguf_close(g);
  return s;
}

/* ---- tensors ---- */
/* False: rows are not whole blocks, or the bytes are more than can be counted. */
static bool count_bytes(tn_gguf_out_tensor *t) {
  const tn_quant *q = tn_quant_of(t->dtype);
  uint64_t values = 1, row = t->rank ? (uint64_t)t->shape[t->rank - 1] : 1, block = q ? q->values : 1;
  for (uint32_t i = 0; i < t->rank; i++)
    if (t->shape[i] < 0 || !tn_mul_u64(values, (uint64_t)t->shape[i], &values)) return false;
  return row % block == 0 && tn_mul_u64(values / block, q ? q->bytes : plain_bytes[t->dtype], &t->bytes);
}

static const char *tensor_fault(tn_gguf_writer *w, tn_str name, tn_gguf_out_tensor *t) {
  uint64_t end;
  bool again;
  if (name.len > NAME_MAX_BYTES) return "is longer than the 63 bytes that GGUF files allow";
  if (t->rank > DIMS_MAX) return "has more than the 4 dims that GGUF files allow";
  if (tn_gguf_type_of(t->dtype) < 0) return "has an element type that GGUF files do not have";
  if (!count_bytes(t)) return "has rows that are not whole blocks, or more bytes than can be counted";
  if (!tn_add_u64(t->offset, t->bytes, &end) || end > (uint64_t)INT64_MAX - w->alignment)
    return "ends behind what can be counted";
  w->data_bytes = tn_align_up(end, w->alignment);
  if (tn_map_put(&w->names, name, w->tensors.count, &again) != TN_OK) return "out of memory";
  return again ? "is there twice" : NULL;
}

void tn_gguf_put_tensor(tn_gguf_writer *w, const char *name, tn_dtype dtype, uint32_t rank,
                        const int64_t *shape) {
  tn_gguf_out_tensor t = {.dtype = dtype, .rank = rank, .offset = w->data_bytes};
  if (w->status != TN_OK) return;
  for (uint32_t i = 0; i < rank && i < TN_MAX_RANK; i++) t.shape[i] = shape[i];
  if (!tn_gguf_is_name(tn_str_of(name))) return fail(w, TN_INVALID, TN_STR("(a tensor)"), not_text);
  const char *why = tensor_fault(w, tn_str_of(name), &t);
  if (why) return fail(w, TN_INVALID, tn_str_of(name), why);
  t.name = tn_arena_str(&w->arena, tn_str_of(name));
  if (!t.name || !tn_vec_push(&w->tensors, t)) fail(w, TN_OOM, tn_str_of(name), "out of memory");
}

/* ---- the file ---- */
static void put_header(const tn_gguf_writer *w, tn_buf *b) {
  static const uint8_t zeros[64];
  tn_buf_puts(b, "GGUF");
  put_u32(b, VERSION);
  put_u64(b, w->tensors.count);
  put_u64(b, w->nkvs);
  tn_buf_put(b, w->kvs.text, w->kvs.len);
  for (uint32_t i = 0; i < w->tensors.count; i++) {
    const tn_gguf_out_tensor *t = &w->tensors.items[i];
    put_text(b, tn_str_of(t->name));
    put_u32(b, t->rank);
    for (uint32_t k = t->rank; k-- > 0;) put_u64(b, (uint64_t)t->shape[k]);
    put_u32(b, (uint32_t)tn_gguf_type_of(t->dtype));
    put_u64(b, t->offset);
  }
  for (uint64_t pad = tn_align_up(b->len, w->alignment) - b->len; pad && !b->failed;) {
    uint64_t n = pad < sizeof zeros ? pad : sizeof zeros;
    tn_buf_put(b, zeros, n);
    pad -= n;
  }
}

static tn_status fill_tensors(const tn_gguf_writer *w, tn_outfile *o, uint64_t start, tn_gguf_fill fill,
                              void *ctx) {
  for (uint32_t i = 0; i < w->tensors.count; i++) {
    const tn_gguf_out_tensor *t = &w->tensors.items[i];
    TN_TRY(fill(ctx, i, o, start + t->offset, t->bytes));
  }
  return TN_OK;
}

/* `fill` tells of its own failures in *diags; those of the file are told here. */
static tn_status write_all(const tn_gguf_writer *w, tn_outfile *o, const char *path, tn_gguf_fill fill,
                           void *ctx, tn_diags *diags) {
  tn_buf header = {0};
  uint32_t errors = diags->errors;
  put_header(w, &header);
  uint64_t start = header.len, all;
  tn_status s = header.failed || w->kvs.failed ? TN_OOM : TN_OK;
  if (s == TN_OK && !tn_add_u64(start, w->data_bytes, &all)) s = TN_INVALID;
  if (s == TN_OK) s = tn_outfile_reserve(o, all);
  if (s == TN_OK) s = tn_outfile_write(o, header.text, header.len);
  tn_buf_fini(&header);
  if (s == TN_OK && w->data_bytes) s = tn_outfile_extend(o, w->data_bytes);
  if (s == TN_OK) s = fill_tensors(w, o, start, fill, ctx);
  if (s == TN_OK) s = tn_outfile_commit(o, 0644);
  if (s != TN_OK && diags->errors == errors)
    tn_fail(diags, s, path, NULL, s == TN_OOM ? "out of memory" : "cannot be written: is the disk full?");
  return s;
}

tn_status tn_gguf_write(tn_gguf_writer *w, const char *path, tn_gguf_fill fill, void *ctx, tn_diags *diags) {
  tn_outfile o;
  const char *why = NULL;
  if (w->status == TN_OOM) return tn_fail(diags, TN_OOM, path, NULL, "out of memory");
  if (w->status != TN_OK)
    return tn_fail(diags, w->status, path, NULL, "'%.100s' %s", w->bad ? w->bad : "", w->why);
  tn_status s = tn_outfile_open(&o, path, &why);
  if (s != TN_OK) return tn_fail(diags, s, path, NULL, "cannot be written: %s", why);
  if (!tn_outfile_seekable(&o) && w->data_bytes)
    s = tn_fail(diags, TN_UNAVAILABLE, path, NULL, "is not a regular file");
  else
    s = write_all(w, &o, path, fill, ctx, diags);
  tn_outfile_abort(&o);
  return s;
}
