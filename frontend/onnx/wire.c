/* wire.c - one walk over the bytes of a model before anything is unpacked: it checks the protobuf wire
 * format, the depth and number of messages and the texts, and writes a copy without fields that onnx.proto
 * does not have and without the large runs of numbers. Where a raw_data, float_data or double_data stays
 * behind, the copy says at which offset of the file. The generated descriptors say which field is what. */
#include "frontend/onnx/model.h"

enum {
  VARINT,
  FIXED64,
  BYTES,
  FIXED32 = 5,
  MAX_ITEMS = 8 << 20,
  RAW_DATA = 9,
  FLOAT_DATA = 4,
  DOUBLE_DATA = 10
};

typedef struct walk {
  const uint8_t *base, *end;
  const char *name;
  tn_diags *diags;
  tn_buf *out;
  uint64_t items; /* messages, texts and runs of bytes */
  struct {
    const char *field; /* of the message that holds it */
    const ProtobufCMessageDescriptor *type;
    const uint8_t *start, *end;
  } path[TN_OX_MAX_DEPTH];
  uint32_t depth;
} walk;

static bool varint(const uint8_t **p, const uint8_t *end, uint64_t *v) {
  *v = 0;
  for (uint32_t shift = 0; shift < 70 && *p < end; shift += 7) {
    uint8_t b = *(*p)++;
    if (shift == 63 && b > 1) return false;
    *v |= (uint64_t)(b & 127) << shift;
    if (b < 128) return true;
  }
  return false;
}

/* The text of field "name" of a message; len 0: it has none, or it comes later than what is wrong. */
static tn_str name_of(const ProtobufCMessageDescriptor *d, const uint8_t *p, const uint8_t *end) {
  const ProtobufCFieldDescriptor *f = protobuf_c_message_descriptor_get_field_by_name(d, "name");
  uint64_t key, v;
  while (f && p < end && varint(&p, end, &key)) {
    uint32_t type = (uint32_t)key & 7;
    if ((type == VARINT || type == BYTES) && !varint(&p, end, &v)) break;
    uint64_t size = type == VARINT    ? 0
                    : type == FIXED64 ? 8
                    : type == FIXED32 ? 4
                    : type == BYTES   ? v
                                      : UINT64_MAX;
    if (size > (uint64_t)(end - p)) break;
    bool text = type == BYTES && size < 200 && tn_utf8_valid((tn_str){(const char *)p, size}, NULL);
    if (key >> 3 == f->id && text && !memchr(p, 0, size)) return (tn_str){(const char *)p, size};
    p += size;
  }
  return (tn_str){"", 0};
}

static tn_status bad(walk *w, const uint8_t *at, const char *why) {
  tn_buf where = {0};
  for (uint32_t i = 0; i < w->depth; i++) {
    tn_str name = name_of(w->path[i].type, w->path[i].start, w->path[i].end);
    tn_buf_printf(&where, "%s%s", i ? "." : "", w->path[i].field);
    if (name.len) tn_buf_printf(&where, " '%.*s'", (int)name.len, name.ptr);
  }
  tn_status s = tn_fail(w->diags, TN_INVALID, w->name, where.len ? where.text : NULL,
                        "not a valid ONNX file: %s at byte %llu", why, (unsigned long long)(at - w->base));
  tn_buf_fini(&where);
  return s;
}

static void put_varint(tn_buf *out, uint64_t v) {
  uint8_t bytes[10];
  uint32_t n = 0;
  do bytes[n++] = (uint8_t)(v & 127) | (v > 127 ? 128 : 0);
  while (v >>= 7);
  tn_buf_put(out, bytes, n);
}

static void put_number(tn_buf *out, uint32_t field, uint64_t v) {
  put_varint(out, (uint64_t)field << 3);
  put_varint(out, v);
}

static tn_status message(walk *w, const ProtobufCMessageDescriptor *d, const uint8_t *p, const uint8_t *end);

/* A message in the message: its length is filled in when it is known, in five bytes. */
static tn_status inner(walk *w, const ProtobufCFieldDescriptor *f, const uint8_t *p, const uint8_t *end) {
  static const char hole[5];
  if (w->depth == TN_OX_MAX_DEPTH) return bad(w, p, "messages are nested more than 64 deep");
  w->path[w->depth].field = f->name;
  w->path[w->depth].type = f->descriptor;
  w->path[w->depth].start = p;
  w->path[w->depth++].end = end;
  put_varint(w->out, (uint64_t)f->id << 3 | BYTES);
  uint64_t at = w->out->len;
  tn_buf_put(w->out, hole, sizeof hole);
  tn_status s = message(w, f->descriptor, p, end);
  w->depth--;
  uint64_t n = w->out->len - at - sizeof hole;
  if (s != TN_OK || w->out->failed) return s != TN_OK ? s : TN_OOM;
  if (n > UINT32_MAX / 2) return bad(w, p, "a message of more than 2 GB");
  for (uint32_t i = 0; i < 5; i++) w->out->text[at + i] = (char)((n >> 7 * i & 127) | (i < 4 ? 128 : 0));
  return TN_OK;
}

static bool stays(const ProtobufCMessageDescriptor *d, const ProtobufCFieldDescriptor *f, uint64_t len) {
  bool data = f->id == RAW_DATA || f->id == FLOAT_DATA || f->id == DOUBLE_DATA;
  return data && d == &onnx__tensor_proto__descriptor && len > TN_OX_HELD_BYTES;
}

/* A field of wire type BYTES. */
static tn_status bytes(walk *w, const ProtobufCMessageDescriptor *d, const ProtobufCFieldDescriptor *f,
                       const uint8_t *p, uint64_t len) {
  bool packed = f->label == PROTOBUF_C_LABEL_REPEATED && f->type != PROTOBUF_C_TYPE_MESSAGE &&
                f->type != PROTOBUF_C_TYPE_STRING && f->type != PROTOBUF_C_TYPE_BYTES;
  if (!packed && w->items++ >= MAX_ITEMS) return bad(w, p, "more than 8 million messages and texts");
  if (f->type == PROTOBUF_C_TYPE_MESSAGE) return inner(w, f, p, p + len);
  if (f->type == PROTOBUF_C_TYPE_STRING) {
    if (!tn_utf8_valid((tn_str){(const char *)p, len}, NULL)) return bad(w, p, "a text that is not UTF-8");
    if (memchr(p, 0, len)) return bad(w, p, "a text with a zero byte");
  } else if (f->type != PROTOBUF_C_TYPE_BYTES && !packed) {
    return bad(w, p, "a number written as bytes");
  }
  if (stays(d, f, len)) {
    put_number(w->out, 1001, (uint64_t)(p - w->base));
    put_number(w->out, 1002, len);
    put_number(w->out, 1003, f->id);
    return TN_OK;
  }
  put_varint(w->out, (uint64_t)f->id << 3 | BYTES);
  put_varint(w->out, len);
  tn_buf_put(w->out, p, len);
  return TN_OK;
}

static uint32_t wire_type(const ProtobufCFieldDescriptor *f) {
  switch (f->type) {
  case PROTOBUF_C_TYPE_FLOAT: return FIXED32;
  case PROTOBUF_C_TYPE_DOUBLE: return FIXED64;
  case PROTOBUF_C_TYPE_STRING:
  case PROTOBUF_C_TYPE_BYTES:
  case PROTOBUF_C_TYPE_MESSAGE: return BYTES;
  default: return VARINT;
  }
}

/* A field that is one number. */
static tn_status scalar(walk *w, const ProtobufCFieldDescriptor *f, uint32_t type, const uint8_t *tag,
                        const uint8_t *p, const uint8_t *next) {
  if (wire_type(f) != type) return bad(w, p, "a field of the wrong kind");
  if (f->label == PROTOBUF_C_LABEL_REPEATED && w->items++ >= 16ull * MAX_ITEMS)
    return bad(w, p, "too many numbers that are not packed");
  tn_buf_put(w->out, tag, (uint64_t)(next - tag));
  return TN_OK;
}

static tn_status field(walk *w, const ProtobufCMessageDescriptor *d, const uint8_t **at, const uint8_t *end) {
  const uint8_t *p = *at, *tag = p;
  uint64_t key, v = 0;
  if (!varint(&p, end, &key) || !(key >> 3) || key >> 3 > 536870911)
    return bad(w, tag, "a field without a number");
  uint32_t type = (uint32_t)key & 7;
  const uint8_t *value = p;
  if ((type == VARINT || type == BYTES) && !varint(&p, end, &v))
    return bad(w, p, "a number that does not end");
  uint64_t size = type == VARINT    ? 0
                  : type == FIXED64 ? 8
                  : type == FIXED32 ? 4
                  : type == BYTES   ? v
                                    : UINT64_MAX;
  if (size == UINT64_MAX) return bad(w, tag, "a field of no known kind");
  if (size > (uint64_t)(end - p)) return bad(w, value, "a field that is longer than what holds it");
  *at = p + size;
  const ProtobufCFieldDescriptor *f =
      key >> 3 > 1000 ? NULL : protobuf_c_message_descriptor_get_field(d, (unsigned)(key >> 3));
  if (!f) return TN_OK;
  return type == BYTES ? bytes(w, d, f, p, v) : scalar(w, f, type, tag, value, *at);
}

static tn_status message(walk *w, const ProtobufCMessageDescriptor *d, const uint8_t *p, const uint8_t *end) {
  while (p < end) TN_TRY(field(w, d, &p, end));
  return w->out->failed ? TN_OOM : TN_OK;
}

tn_status tn_ox_wire_strip(tn_str file, const char *name, tn_diags *diags, tn_buf *out) {
  const uint8_t *p = (const uint8_t *)file.ptr;
  walk w = {.base = p, .end = p + file.len, .name = name, .diags = diags, .out = out};
  tn_status s = message(&w, &onnx__model_proto__descriptor, p, p + file.len);
  return s == TN_OOM ? tn_fail(diags, TN_OOM, name, NULL, "out of memory") : s;
}
