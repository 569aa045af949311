/* packed.h - results whose elements share bytes: blocks of a block format, integers of 4 and 2 bits. */
#ifndef TN_CUDA_PACKED_H
#define TN_CUDA_PACKED_H
#include "backends/cuda/kernel.h"

bool tn_cuda_is_packed(tn_dtype t);
/* Threads that it takes to write v, which is of such a type. */
tn_dim tn_cuda_packed_units(tn_cuda_kernel *k, tn_value v);
/* What thread `unit` (i64) does of it; in a block of its own. */
void tn_cuda_packed_write(tn_cuda_kernel *k, tn_value v, ll_val out, ll_val unit);
#endif
