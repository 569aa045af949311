/* fuzz_cuda_package.c - any bytes as a package of kernels. The sum is put right first, so that the search
 * reaches what lies behind it; the sizes of what is accepted are evaluated as a launch would do it. */
#include "backends/cuda/run/reader.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(const tn_cuda_view *v) {
  int64_t *values = calloc(v->most_exprs + 1u, sizeof *values);
  for (uint32_t i = 0; values && i < v->head->launches.count; i++) {
    const tn_cuda_plan *p = &v->plans[i];
    uint32_t n = p->kernel->ndims;
    int64_t *dims = n < 4096 ? calloc(n + 1u, sizeof *dims) : NULL;
    for (uint32_t k = 0; dims && k < n; k++) dims[k] = k % 2 ? -3 : (int64_t)k + 2;
    if (dims && tn_cuda_evaluate(v, p, dims, values))
      for (int k = 0; k < 3; k++)
        if (p->grid[k] != TN_CUDA_NONE && p->grid[k] >= p->n) abort();
    for (uint32_t k = 0; k < p->row->nmaps; k++) {
      const tn_cuda_map_row *row = &v->maps.items[p->first_map + k];
      if (row->buffer > p->kernel->nbufs || (row->offset != TN_CUDA_NONE && row->offset >= p->n)) abort();
    }
    free(dims);
  }
  free(values);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  tn_cuda_view v;
  tn_buf why = {0};
  uint8_t *copy = malloc(size ? size : 1);
  if (!copy) return 0;
  if (size) memcpy(copy, data, size);
  if (size >= sizeof(tn_cuda_package)) {
    tn_cuda_package *h = (tn_cuda_package *)(void *)copy;
    memcpy(h->magic, TN_CUDA_PACKAGE_MAGIC, sizeof h->magic);
    h->bytes = size;
    h->hash = tn_cuda_package_hash(copy, size);
  }
  tn_status s = tn_cuda_view_open(&v, (tn_bytes){copy, size}, &why);
  if (s && !why.len) abort();
  if (!s) use(&v), tn_cuda_view_close(&v);
  tn_buf_fini(&why);
  free(copy);
  return 0;
}
