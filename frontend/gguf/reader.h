/* reader.h - between the files of the GGUF reader: cursor.c takes checked bytes off one file, metadata.c and
 * tensors.c its two tables, gguf.c opens files, joins splits and answers questions. */
#ifndef TN_GGUF_READER_H
#define TN_GGUF_READER_H
#include "frontend/gguf/gguf.h"

typedef struct tn_gguf_part {
  tn_file map;
  const char *name; /* base name */
} tn_gguf_part;

struct tn_gguf {
  tn_arena arena;
  TN_VEC(tn_gguf_part) parts;
  TN_VEC(tn_gguf_kv) kvs; /* of the first part */
  TN_VEC(tn_gguf_tensor) tensors;
  tn_map kv_of;     /* key -> index */
  tn_map tensor_of; /* name -> index */
};

/* One file while it is read. */
typedef struct tn_gguf_cursor {
  tn_gguf *g;
  tn_diags *diags;
  const char *file;
  const uint8_t *data;
  uint64_t size, at;
  uint64_t nkvs, ntensors, alignment;
  TN_VEC(tn_gguf_kv) kvs;
  tn_map kv_of; /* key -> index */
} tn_gguf_cursor;

/* cursor.c: numbers and strings, each checked against the file's end. `what` names them in the error, which
 * stands at the byte where the thing begins. */
tn_status tn_gguf_take(tn_gguf_cursor *c, uint64_t bytes, const char *what, const uint8_t **out);
tn_status tn_gguf_take_u32(tn_gguf_cursor *c, const char *what, uint32_t *out);
tn_status tn_gguf_take_u64(tn_gguf_cursor *c, const char *what, uint64_t *out);
tn_status tn_gguf_take_string(tn_gguf_cursor *c, const char *what, tn_str *out);
uint64_t tn_gguf_load(const uint8_t *p, uint32_t bytes); /* little-endian */
tn_status tn_gguf_fail_byte(tn_gguf_cursor *c, uint64_t at, const char *fmt, ...) TN_PRINTF(3, 4);
/* At "key 'NAME'" or "tensor 'NAME'". */
tn_status tn_gguf_fail_name(tn_gguf_cursor *c, tn_status status, const char *kind, tn_str name,
                            const char *fmt, ...) TN_PRINTF(5, 6);
tn_status tn_gguf_oom(tn_gguf_cursor *c);
/* Not empty, UTF-8, no control characters: fit for messages. */
bool tn_gguf_is_name(tn_str s);

/* cursor.c: magic, version, counts. */
tn_status tn_gguf_read_header(tn_gguf_cursor *c);
/* metadata.c: c->kvs, c->alignment. */
tn_status tn_gguf_read_metadata(tn_gguf_cursor *c);
const tn_gguf_kv *tn_gguf_cursor_find(const tn_gguf_cursor *c, const char *key);
/* tensors.c: appends the file's tensors to g->tensors. */
tn_status tn_gguf_read_tensors(tn_gguf_cursor *c);
#endif
