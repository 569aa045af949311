/* fuzz_safetensors.c - any bytes as a safetensors file: every tensor that is accepted lies inside the file.
 */
#include "frontend/safetensors/safetensors.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  tn_diags diags;
  tn_st_files files;
  tn_diags_init(&diags);
  tn_st_init(&files);
  tn_status s = tn_st_read(&files, "fuzz", (tn_bytes){data, size}, &diags);
  if ((s == TN_OK) != (diags.errors == 0)) abort();
  for (uint32_t i = 0; i < files.tensors.count; i++) {
    const tn_st_tensor *t = &files.tensors.items[i];
    if (t->offset > size || t->bytes > size - t->offset || t->rank > TN_MAX_RANK) abort();
    if (s == TN_OK && tn_st_find(&files, t->name) != t) abort();
  }
  tn_st_fini(&files);
  tn_diags_fini(&diags);
  return 0;
}
