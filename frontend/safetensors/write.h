/* write.h - writes safetensors: one file, or shards with model.safetensors.index.json. Headers come first,
 * then the tensors' bytes in the same order, from a callback. Files appear whole or not at all, the index
 * last. */
#ifndef TN_ST_WRITE_H
#define TN_ST_WRITE_H
#include "frontend/safetensors/safetensors.h"

typedef struct tn_st_out_tensor {
  const char *name;
  tn_dtype dtype; /* plain */
  uint32_t rank;
  int64_t shape[TN_MAX_RANK];
  uint64_t bytes;
} tn_st_out_tensor;

typedef struct tn_st_writer {
  tn_arena arena;
  TN_VEC(tn_st_out_tensor) tensors;
  tn_map names;
  TN_VEC(tn_str) meta; /* key, value, key, value ...: __metadata__ */
  tn_status status;    /* the first failure of a put */
  const char *bad;
} tn_st_writer;

void tn_st_writer_init(tn_st_writer *w);
void tn_st_writer_fini(tn_st_writer *w);
void tn_st_put_meta(tn_st_writer *w, const char *key,
                    tn_str value); /* transformers asks for "format": "pt" */
void tn_st_put_tensor(tn_st_writer *w, const char *name, tn_dtype dtype, uint32_t rank, const int64_t *shape);
/* "F32", "BF16", "F8_E4M3", ...; NULL: the format has no such type. */
const char *tn_st_type_name(tn_dtype t);

/* As tn_gguf_fill: called once for every tensor, in order, writes with tn_outfile_put at `at`. */
typedef tn_status (*tn_st_fill)(void *ctx, uint32_t tensor, tn_outfile *out, uint64_t at, uint64_t bytes);
/* One file. */
tn_status tn_st_write(tn_st_writer *w, const char *path, tn_st_fill fill, void *ctx, tn_diags *diags);
/* model.safetensors in `folder`, or, where all tensors have more than shard_bytes (0: 5e9), shards and the
 * index. */
tn_status tn_st_write_folder(tn_st_writer *w, const char *folder, uint64_t shard_bytes, tn_st_fill fill,
                             void *ctx, tn_diags *diags);
#endif
