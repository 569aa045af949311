/* data.h - a folder of ONNX test data: input_0.pb, input_1.pb, ..., output_0.pb, ..., each a tensor (or a
 * sequence of tensors) for the input or output of that number of the model beside it. This is how the onnx
 * package, model zoos and ONNX Runtime keep a model's expected results. */
#ifndef TN_ONNX_DATA_H
#define TN_ONNX_DATA_H
#include "ir/base/diag.h"
#include "tenon/ir.h"

typedef struct tn_onnx_data tn_onnx_data;
typedef struct tn_onnx_data_item {
  const char *name; /* the model's; the elements of a sequence are name[0], name[1], ... */
  tn_dtype dtype;
  uint32_t rank;
  int64_t dims[TN_MAX_RANK];
  const void *bytes; /* row-major, packed as in the file */
  uint64_t nbytes;
} tn_onnx_data_item;

/* Whether a folder looks like one. */
bool tn_onnx_data_is(const char *folder);
/* Reads all of it; what is returned belongs to *out. An optional that is absent has no file. */
tn_status tn_onnx_data_open(const tn_ir *ir, const char *model, const char *folder, tn_diags *diags,
                            tn_onnx_data **out);
void tn_onnx_data_close(tn_onnx_data *d);
const tn_onnx_data_item *tn_onnx_data_find(const tn_onnx_data *d, const char *name); /* NULL: none */
#endif
