/* safetensors.h - reader of the safetensors format and of sharded folders.
 * Source of the rules: the format's README and the reference reader (huggingface/safetensors). */
#ifndef TN_SAFETENSORS_H
#define TN_SAFETENSORS_H
#include "ir/base/diag.h"
#include "tenon/ir.h"

typedef struct tn_st_tensor {
  const char *name;
  tn_dtype dtype;
  uint32_t rank;
  int64_t shape[TN_MAX_RANK];
  const char *file;       /* name in the folder */
  uint64_t offset, bytes; /* in the file */
} tn_st_tensor;

typedef struct tn_st_files { /* all tensors of a folder, sorted by name */
  tn_arena arena;
  TN_VEC(tn_st_tensor) tensors;
  tn_map by_name; /* -> index */
} tn_st_files;

void tn_st_init(tn_st_files *s);
void tn_st_fini(tn_st_files *s);
/* Checks one file's header and adds its tensors. `data` is the whole file, mapped; only the header is read.
 * Every bad tensor is reported, at "FILE: tensor 'NAME'": TN_INVALID, or TN_UNSUPPORTED for a legal type that
 * has no counterpart here. */
tn_status tn_st_read(tn_st_files *s, const char *name, tn_bytes data, tn_diags *diags);
/* model.safetensors, or the shards of model.safetensors.index.json. TN_NOT_FOUND: neither is there. */
tn_status tn_st_open_folder(tn_st_files *s, const char *folder, tn_diags *diags);
const tn_st_tensor *tn_st_find(const tn_st_files *s, const char *name); /* NULL: none */
#endif
