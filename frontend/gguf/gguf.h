/* gguf.h - reads GGUF files, versions 2 and 3 (the format's specification in ggml's docs): metadata, tensor
 * infos, split files. Everything is checked before it is handed out; bytes stay in the mapped files. */
#ifndef TN_GGUF_H
#define TN_GGUF_H
#include "ir/base/diag.h"
#include "tenon/ir.h"

typedef enum tn_gguf_type { /* value types, numbered as in the files */
                            TN_GGUF_U8,
                            TN_GGUF_I8,
                            TN_GGUF_U16,
                            TN_GGUF_I16,
                            TN_GGUF_U32,
                            TN_GGUF_I32,
                            TN_GGUF_F32,
                            TN_GGUF_BOOL,
                            TN_GGUF_STRING,
                            TN_GGUF_ARRAY,
                            TN_GGUF_U64,
                            TN_GGUF_I64,
                            TN_GGUF_F64
} tn_gguf_type;

typedef struct tn_gguf_kv {
  tn_str key;
  tn_gguf_type type; /* ARRAY: of `item`, never nested */
  tn_gguf_type item;
  uint64_t count;   /* ARRAY: items; else 1 */
  const void *data; /* in the mapped file, little-endian, not aligned; STRING: use the getters */
} tn_gguf_kv;

typedef struct tn_gguf_tensor {
  const char *name;
  tn_dtype dtype;
  uint32_t rank;
  int64_t shape[TN_MAX_RANK]; /* row-major, the outermost first: the reverse of the file's order */
  const char *file;           /* base name of the (split) file */
  uint64_t offset, bytes;     /* from the file's start */
} tn_gguf_tensor;

typedef struct tn_gguf tn_gguf;
/* Opens one file, or the first of a split (name-00001-of-0000N.gguf), with all its others. Errors name file,
 * place and value. The result owns the maps; close frees everything that getters handed out. */
tn_status tn_gguf_open(const char *path, tn_diags *diags, tn_gguf **out);
void tn_gguf_close(tn_gguf *g);

uint32_t tn_gguf_kv_count(const tn_gguf *g);
const tn_gguf_kv *tn_gguf_kv_at(const tn_gguf *g, uint32_t i);
const tn_gguf_kv *tn_gguf_find(const tn_gguf *g, const char *key); /* NULL: none */
/* Value `i` (0 unless an array). false: absent, out of range, or of another kind. Integers of any width that
 * fit int64; reals also from integers; bools only from BOOL. */
bool tn_gguf_int(const tn_gguf_kv *kv, uint64_t i, int64_t *out);
bool tn_gguf_real(const tn_gguf_kv *kv, uint64_t i, double *out);
bool tn_gguf_bool(const tn_gguf_kv *kv, bool *out);
bool tn_gguf_string(const tn_gguf_kv *kv, uint64_t i,
                    tn_str *out); /* any bytes: not always UTF-8. Arrays: O(1) */

uint32_t tn_gguf_tensor_count(const tn_gguf *g);
const tn_gguf_tensor *tn_gguf_tensor_at(const tn_gguf *g, uint32_t i);
const tn_gguf_tensor *tn_gguf_tensor_find(const tn_gguf *g, const char *name); /* NULL: none */

#endif
