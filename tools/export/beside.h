/* beside.h - what commands that write an ONNX file share: where it goes, the files beside it, the bytes of
 * weights. */
#ifndef TN_EXPORT_BESIDE_H
#define TN_EXPORT_BESIDE_H
#include "tools/tool.h"

/* Weights for tn_ow_source: one is open at a time, they are asked for one after the other. */
typedef struct tn_export_weights {
  tn_driver *d;
  tn_module *m;
  tn_weight open; /* 0: none */
  tn_weight_reader reader;
} tn_export_weights;
tn_status tn_export_weights_read(void *ctx, tn_weight id, uint64_t offset, void *dst, uint64_t len);
void tn_export_weights_close(tn_export_weights *w);

/* OUT is a file, or a folder (there already, or with a slash behind it, then it is made) for model.onnx.
 * *folder: NULL, or the folder. */
tn_status tn_export_place(tn_driver *d, const char *out, const char **file, const char **folder);
/* Copies the tokenizer and configuration of a model folder. */
tn_status tn_export_beside(tn_driver *d, const char *out);

#endif
