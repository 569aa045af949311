/* write.h - writes GGUF files, version 3. Keys and tensor infos come first, then the tensors' bytes in the
 * same order, from a callback that is asked for them piece by piece. The file appears whole or not at all.
 *
 *   tn_gguf_writer w; tn_gguf_writer_init(&w);
 *   tn_gguf_put_string(&w, "general.architecture", TN_STR("llama")); ...
 *   tn_gguf_put_tensor(&w, "token_embd.weight", TN_DT_f16, 2, shape); ...
 *   tn_gguf_write(&w, path, read, ctx, diags);  tn_gguf_writer_fini(&w); */
#ifndef TN_GGUF_WRITE_H
#define TN_GGUF_WRITE_H
#include "frontend/gguf/gguf.h"

typedef struct tn_gguf_out_tensor {
  const char *name;
  tn_dtype dtype;
  uint32_t rank;
  int64_t shape[TN_MAX_RANK]; /* row-major: written in reverse */
  uint64_t bytes, offset;     /* offset: from the start of the data section */
} tn_gguf_out_tensor;

typedef struct tn_gguf_writer {
  tn_arena arena;
  tn_buf kvs;
  uint32_t nkvs;
  tn_map keys; /* key -> 1 */
  TN_VEC(tn_gguf_out_tensor) tensors;
  tn_map names;
  uint64_t data_bytes; /* of the data section so far, padded */
  uint32_t alignment;  /* 32, or general.alignment, which is put before the tensors */
  tn_status status; /* the first failure of a put: TN_OOM, or TN_INVALID for a key or name that was there */
  const char *bad;  /* that key or name */
  const char *why;  /* what is wrong with it */
} tn_gguf_writer;

void tn_gguf_writer_init(tn_gguf_writer *w);
void tn_gguf_writer_fini(tn_gguf_writer *w);

/* Keys. A failure is kept in w->status and reported by tn_gguf_write, so that calls need no checks. */
void tn_gguf_put_u32(tn_gguf_writer *w, const char *key, uint32_t v);
void tn_gguf_put_u64(tn_gguf_writer *w, const char *key, uint64_t v);
void tn_gguf_put_i32(tn_gguf_writer *w, const char *key, int32_t v);
void tn_gguf_put_f32(tn_gguf_writer *w, const char *key, float v);
void tn_gguf_put_bool(tn_gguf_writer *w, const char *key, bool v);
void tn_gguf_put_string(tn_gguf_writer *w, const char *key, tn_str v);
void tn_gguf_put_strings(tn_gguf_writer *w, const char *key, const tn_str *v, uint64_t n);
/* Arrays of plain numbers; `item`: TN_GGUF_U8 .. TN_GGUF_BOOL, U64, I64, F64. */
void tn_gguf_put_array(tn_gguf_writer *w, const char *key, tn_gguf_type item, const void *v, uint64_t n);
/* A key of another file as it is there. */
void tn_gguf_put_kv(tn_gguf_writer *w, const tn_gguf_kv *kv);
bool tn_gguf_has_key(const tn_gguf_writer *w, const char *key);
/* The keys so far as those of a file that was read, without tensors; good until the next put. Close it. */
tn_status tn_gguf_writer_keys(const tn_gguf_writer *w, tn_diags *diags, tn_gguf **out);

/* Tensors, in the order of their bytes. */
void tn_gguf_put_tensor(tn_gguf_writer *w, const char *name, tn_dtype dtype, uint32_t rank,
                        const int64_t *shape);
/* The number of a type in GGUF files (types.def); -1: they have none such. */
int tn_gguf_type_of(tn_dtype t);

/* Writes all of it. `fill` is called once for every tensor, in order; it writes the tensor's bytes with
 * tn_outfile_put at `at`, from several threads if it likes. */
typedef tn_status (*tn_gguf_fill)(void *ctx, uint32_t tensor, tn_outfile *out, uint64_t at, uint64_t bytes);
tn_status tn_gguf_write(tn_gguf_writer *w, const char *path, tn_gguf_fill fill, void *ctx, tn_diags *diags);
#endif
