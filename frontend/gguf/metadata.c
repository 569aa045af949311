/* metadata.c - the keys and values of one GGUF file. Values stay in the file; of an array of strings only the
 * places of its strings are kept. */
#include "frontend/gguf/reader.h"

enum { DEFAULT_ALIGNMENT = 32, KEY_MAX = 65535 };
#define ARRAY_MAX (UINT64_C(1) << 30)

typedef struct value_type {
  const char *name;
  uint32_t bytes; /* 0: of no fixed size */
} value_type;
static const value_type types[] = {
    [TN_GGUF_U8] = {"u8", 1},       [TN_GGUF_I8] = {"i8", 1},     [TN_GGUF_U16] = {"u16", 2},
    [TN_GGUF_I16] = {"i16", 2},     [TN_GGUF_U32] = {"u32", 4},   [TN_GGUF_I32] = {"i32", 4},
    [TN_GGUF_F32] = {"f32", 4},     [TN_GGUF_BOOL] = {"bool", 1}, [TN_GGUF_STRING] = {"string", 0},
    [TN_GGUF_ARRAY] = {"array", 0}, [TN_GGUF_U64] = {"u64", 8},   [TN_GGUF_I64] = {"i64", 8},
    [TN_GGUF_F64] = {"f64", 8}};

static tn_status take_type(tn_gguf_cursor *c, const tn_gguf_kv *kv, tn_gguf_type *out) {
  uint32_t type;
  TN_TRY(tn_gguf_take_u32(c, "a value's type", &type));
  *out = (tn_gguf_type)type;
  if (type < TN_COUNT(types)) return TN_OK;
  return tn_gguf_fail_name(c, TN_INVALID, "key", kv->key, "has value type %u; the highest is %zu", type,
                           TN_COUNT(types) - 1);
}

static tn_status check_bools(tn_gguf_cursor *c, const tn_gguf_kv *kv, const uint8_t *p) {
  for (uint64_t i = 0; i < kv->count; i++)
    if (p[i] > 1)
      return tn_gguf_fail_name(c, TN_INVALID, "key", kv->key, "has a bool of %u; it must be 0 or 1", p[i]);
  return TN_OK;
}

/* Where each string of an array begins. Every one takes 8 bytes of the file at least, so that this list is no
 * longer than the file. */
static tn_status take_strings(tn_gguf_cursor *c, tn_gguf_kv *kv) {
  uint64_t left = c->size - c->at;
  if (kv->count > left / 8)
    return tn_gguf_fail_name(c, TN_INVALID, "key", kv->key, "has %llu strings, but %llu bytes are left",
                             (unsigned long long)kv->count, (unsigned long long)left);
  const uint8_t **at = tn_arena_alloc(&c->g->arena, (size_t)(kv->count + 1) * sizeof *at);
  if (!at) return tn_gguf_oom(c);
  for (uint64_t i = 0; i < kv->count; i++) {
    tn_str s;
    at[i] = c->data + c->at;
    TN_TRY(tn_gguf_take_string(c, "a string of an array", &s));
  }
  kv->data = at;
  return TN_OK;
}

/* `count` values of one plain type, an array's or a single one. */
static tn_status take_values(tn_gguf_cursor *c, tn_gguf_kv *kv, tn_gguf_type type) {
  const uint8_t *p;
  uint64_t bytes, left = c->size - c->at;
  if (!tn_mul_u64(kv->count, types[type].bytes, &bytes) || bytes > left)
    return tn_gguf_fail_name(c, TN_INVALID, "key", kv->key, "has %llu values of %s, but %llu bytes are left",
                             (unsigned long long)kv->count, types[type].name, (unsigned long long)left);
  TN_TRY(tn_gguf_take(c, bytes, "a value", &p));
  kv->data = p;
  return type == TN_GGUF_BOOL ? check_bools(c, kv, p) : TN_OK;
}

static tn_status take_array(tn_gguf_cursor *c, tn_gguf_kv *kv) {
  TN_TRY(take_type(c, kv, &kv->item));
  TN_TRY(tn_gguf_take_u64(c, "an array's length", &kv->count));
  if (kv->item == TN_GGUF_ARRAY)
    return tn_gguf_fail_name(c, TN_INVALID, "key", kv->key, "is an array of arrays, which are not supported");
  if (kv->count > ARRAY_MAX)
    return tn_gguf_fail_name(c, TN_INVALID, "key", kv->key, "is an array of %llu values; the most is %llu",
                             (unsigned long long)kv->count, (unsigned long long)ARRAY_MAX);
  return kv->item == TN_GGUF_STRING ? take_strings(c, kv) : take_values(c, kv, kv->item);
}

static tn_status take_value(tn_gguf_cursor *c, tn_gguf_kv *kv) {
  tn_str s;
  kv->count = 1;
  kv->data = c->data + c->at;
  if (kv->type == TN_GGUF_ARRAY) return take_array(c, kv);
  return kv->type == TN_GGUF_STRING ? tn_gguf_take_string(c, "a string", &s) : take_values(c, kv, kv->type);
}

static tn_status take_kv(tn_gguf_cursor *c) {
  tn_gguf_kv kv = {0};
  uint64_t begin = c->at;
  bool again;
  TN_TRY(tn_gguf_take_string(c, "a key", &kv.key));
  if (!tn_gguf_is_name(kv.key) || kv.key.len > KEY_MAX)
    return tn_gguf_fail_byte(c, begin, "a key of %llu bytes is %s", (unsigned long long)kv.key.len,
                             !kv.key.len            ? "empty"
                             : kv.key.len > KEY_MAX ? "too long"
                                                    : "not plain UTF-8 text");
  if (tn_map_put(&c->kv_of, kv.key, c->kvs.count, &again) != TN_OK) return tn_gguf_oom(c);
  if (again)
    return tn_gguf_fail_name(c, TN_INVALID, "key", kv.key, "is there twice, again at byte %llu",
                             (unsigned long long)begin);
  TN_TRY(take_type(c, &kv, &kv.type));
  TN_TRY(take_value(c, &kv));
  return tn_vec_push(&c->kvs, kv) ? TN_OK : tn_gguf_oom(c);
}

const tn_gguf_kv *tn_gguf_cursor_find(const tn_gguf_cursor *c, const char *key) {
  uint64_t i;
  return tn_map_get(&c->kv_of, tn_str_of(key), &i) ? &c->kvs.items[i] : NULL;
}

static tn_status read_alignment(tn_gguf_cursor *c) {
  const tn_gguf_kv *kv = tn_gguf_cursor_find(c, "general.alignment");
  c->alignment = DEFAULT_ALIGNMENT;
  if (!kv) return TN_OK;
  if (kv->type != TN_GGUF_U32)
    return tn_gguf_fail_name(c, TN_INVALID, "key", kv->key, "is of type %s, not u32", types[kv->type].name);
  c->alignment = tn_gguf_load(kv->data, 4);
  if (c->alignment && !(c->alignment & (c->alignment - 1))) return TN_OK;
  return tn_gguf_fail_name(c, TN_INVALID, "key", kv->key, "is %llu, not a power of two",
                           (unsigned long long)c->alignment);
}

tn_status tn_gguf_read_metadata(tn_gguf_cursor *c) {
  for (uint64_t i = 0; i < c->nkvs; i++) TN_TRY(take_kv(c));
  return read_alignment(c);
}
