/* cursor.c - the bytes of one GGUF file in order: nothing is read before it is known to lie in the file. */
#include "frontend/gguf/reader.h"

enum { VERSION_MIN = 2, VERSION_MAX = 3 };
enum { KV_MIN_BYTES = 8 + 1 + 4 + 1, TENSOR_MIN_BYTES = 8 + 1 + 4 + 4 + 8 }; /* of the smallest entries */
#define STRING_MAX (UINT64_C(1) << 30)

static tn_status fail(tn_gguf_cursor *c, tn_status status, const char *where, const char *fmt, va_list ap) {
  tn_buf text = {0};
  tn_buf_vprintf(&text, fmt, ap);
  tn_fail(c->diags, status, c->file, where, "%s", tn_buf_cstr(&text));
  tn_buf_fini(&text);
  return status;
}

tn_status tn_gguf_fail_byte(tn_gguf_cursor *c, uint64_t at, const char *fmt, ...) {
  char where[40];
  va_list ap;
  snprintf(where, sizeof where, "byte %llu", (unsigned long long)at);
  va_start(ap, fmt);
  tn_status s = fail(c, TN_INVALID, where, fmt, ap);
  va_end(ap);
  return s;
}

tn_status tn_gguf_fail_name(tn_gguf_cursor *c, tn_status status, const char *kind, tn_str name,
                            const char *fmt, ...) {
  tn_buf where = {0};
  va_list ap;
  tn_buf_printf(&where, "%s '%.*s'", kind, (int)(name.len < 100 ? name.len : 100), name.ptr);
  va_start(ap, fmt);
  tn_status s = fail(c, status, tn_buf_cstr(&where), fmt, ap);
  va_end(ap);
  tn_buf_fini(&where);
  return s;
}

tn_status tn_gguf_oom(tn_gguf_cursor *c) { return tn_fail(c->diags, TN_OOM, c->file, NULL, "out of memory"); }

uint64_t tn_gguf_load(const uint8_t *p, uint32_t bytes) {
  uint64_t v = 0;
  for (uint32_t i = bytes; i-- > 0;) v = v << 8 | p[i];
  return v;
}

bool tn_gguf_is_name(tn_str s) {
  for (uint64_t i = 0; i < s.len; i++)
    if ((unsigned char)s.ptr[i] < 32 || s.ptr[i] == 127) return false;
  return s.len && tn_utf8_valid(s, NULL);
}

tn_status tn_gguf_take(tn_gguf_cursor *c, uint64_t bytes, const char *what, const uint8_t **out) {
  uint64_t left = c->size - c->at;
  if (bytes > left)
    return tn_gguf_fail_byte(c, c->at, "the file is cut off: %s of %llu bytes, but %llu are left", what,
                             (unsigned long long)bytes, (unsigned long long)left);
  *out = c->data + c->at;
  c->at += bytes;
  return TN_OK;
}

tn_status tn_gguf_take_u32(tn_gguf_cursor *c, const char *what, uint32_t *out) {
  const uint8_t *p;
  TN_TRY(tn_gguf_take(c, 4, what, &p));
  *out = (uint32_t)tn_gguf_load(p, 4);
  return TN_OK;
}

tn_status tn_gguf_take_u64(tn_gguf_cursor *c, const char *what, uint64_t *out) {
  const uint8_t *p;
  TN_TRY(tn_gguf_take(c, 8, what, &p));
  *out = tn_gguf_load(p, 8);
  return TN_OK;
}

tn_status tn_gguf_take_string(tn_gguf_cursor *c, const char *what, tn_str *out) {
  uint64_t begin = c->at, len;
  const uint8_t *p;
  TN_TRY(tn_gguf_take_u64(c, what, &len));
  if (len > STRING_MAX)
    return tn_gguf_fail_byte(c, begin, "%s of %llu bytes; the most is %llu", what, (unsigned long long)len,
                             (unsigned long long)STRING_MAX);
  TN_TRY(tn_gguf_take(c, len, what, &p));
  *out = (tn_str){(const char *)p, len};
  return TN_OK;
}

static tn_status check_version(tn_gguf_cursor *c, uint32_t version) {
  uint32_t swapped = __builtin_bswap32(version);
  if (version > VERSION_MAX && swapped && swapped <= VERSION_MAX)
    return tn_gguf_fail_byte(c, 4, "the file is big-endian, which is not supported: convert it");
  if (version == 1)
    return tn_gguf_fail_byte(c, 4, "version 1 of the format is not supported: convert the model again");
  if (version < VERSION_MIN || version > VERSION_MAX)
    return tn_gguf_fail_byte(c, 4, "version %u of the format; known are %d and %d", version, VERSION_MIN,
                             VERSION_MAX);
  return TN_OK;
}

/* What cannot fit what is left of the file is refused before anything is allocated for it. */
static tn_status check_count(tn_gguf_cursor *c, uint64_t at, const char *what, uint64_t count, uint64_t min) {
  uint64_t most = (c->size - c->at) / min;
  if (count <= most && count < UINT32_MAX) return TN_OK;
  return tn_gguf_fail_byte(c, at, "%llu %s; %llu bytes are left, room for %llu", (unsigned long long)count,
                           what, (unsigned long long)(c->size - c->at), (unsigned long long)most);
}

tn_status tn_gguf_read_header(tn_gguf_cursor *c) {
  const uint8_t *magic;
  uint32_t version;
  TN_TRY(tn_gguf_take(c, 4, "the magic", &magic));
  if (memcmp(magic, "GGUF", 4) != 0)
    return tn_gguf_fail_byte(c, 0, "not a GGUF file: it begins with %02x %02x %02x %02x, not with 'GGUF'",
                             magic[0], magic[1], magic[2], magic[3]);
  TN_TRY(tn_gguf_take_u32(c, "the version", &version));
  TN_TRY(check_version(c, version));
  TN_TRY(tn_gguf_take_u64(c, "the number of tensors", &c->ntensors));
  TN_TRY(tn_gguf_take_u64(c, "the number of keys", &c->nkvs));
  TN_TRY(check_count(c, 8, "tensors", c->ntensors, TENSOR_MIN_BYTES));
  return check_count(c, 16, "keys", c->nkvs, KV_MIN_BYTES);
}
