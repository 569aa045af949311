/* value.c - metadata values as numbers and texts. They lie unaligned in the mapped file. */
#include "frontend/gguf/reader.h"

static const struct {
  uint8_t bytes;
  bool is_signed;
} ints[] = {[TN_GGUF_U8] = {1, false},  [TN_GGUF_I8] = {1, true},   [TN_GGUF_U16] = {2, false},
            [TN_GGUF_I16] = {2, true},  [TN_GGUF_U32] = {4, false}, [TN_GGUF_I32] = {4, true},
            [TN_GGUF_U64] = {8, false}, [TN_GGUF_I64] = {8, true},  [TN_GGUF_F64] = {0, false}};

static tn_gguf_type item_type(const tn_gguf_kv *kv) {
  return kv->type == TN_GGUF_ARRAY ? kv->item : kv->type;
}

bool tn_gguf_int(const tn_gguf_kv *kv, uint64_t i, int64_t *out) {
  if (!kv || i >= kv->count) return false;
  tn_gguf_type type = item_type(kv);
  uint32_t bytes = ints[type].bytes;
  if (!bytes) return false;
  uint64_t v = tn_gguf_load((const uint8_t *)kv->data + i * bytes, bytes);
  if (ints[type].is_signed && bytes < 8 && v >> (bytes * 8 - 1)) v |= UINT64_MAX << (bytes * 8);
  if (!ints[type].is_signed && v > INT64_MAX) return false;
  *out = (int64_t)v;
  return true;
}

bool tn_gguf_real(const tn_gguf_kv *kv, uint64_t i, double *out) {
  int64_t whole;
  if (!kv || i >= kv->count) return false;
  tn_gguf_type type = item_type(kv);
  const uint8_t *p = kv->data;
  if (type == TN_GGUF_F32) {
    float f;
    memcpy(&f, p + i * 4, 4);
    *out = f;
  } else if (type == TN_GGUF_F64) {
    memcpy(out, p + i * 8, 8);
  } else if (tn_gguf_int(kv, i, &whole)) {
    *out = (double)whole;
  } else {
    return false;
  }
  return true;
}

bool tn_gguf_bool(const tn_gguf_kv *kv, bool *out) {
  if (!kv || kv->type != TN_GGUF_BOOL) return false;
  *out = *(const uint8_t *)kv->data;
  return true;
}

bool tn_gguf_string(const tn_gguf_kv *kv, uint64_t i, tn_str *out) {
  if (!kv || i >= kv->count || item_type(kv) != TN_GGUF_STRING) return false;
  const uint8_t *p = kv->type == TN_GGUF_ARRAY ? ((const uint8_t *const *)kv->data)[i] : kv->data;
  *out = (tn_str){(const char *)p + 8, tn_gguf_load(p, 8)};
  return true;
}
