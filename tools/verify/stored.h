/* stored.h - tensors by name that lie in files: a .safetensors file, or a folder of ONNX test data. */
#ifndef TN_STORED_H
#define TN_STORED_H
#include "frontend/onnx/data.h"
#include "frontend/safetensors/safetensors.h"
#include "tools/tool.h"

typedef struct tn_stored {
  const char *path;
  tn_file map;        /* of a .safetensors file */
  tn_st_files files;  /* likewise */
  tn_onnx_data *onnx; /* NULL: a .safetensors file */
} tn_stored;

/* Whether `path` is something that tn_stored_open takes. */
bool tn_stored_is(const char *path);
/* `model`: the model that the tensors are for, which names those of ONNX test data. tn_stored_close is safe
 * after a failure. */
tn_status tn_stored_open(tn_stored *s, const char *path, const char *model, tn_diags *d);
void tn_stored_close(tn_stored *s);
/* A copy, whose data the caller frees. TN_NOT_FOUND is reported. */
tn_status tn_stored_read(const tn_stored *s, const char *name, tn_tensor *out, tn_diags *d);
#endif
