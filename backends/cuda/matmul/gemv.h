/* gemv.h - products with few rows: every weight is read once, as wide as memory gives it, and what is left to
 * do is to keep enough loads under way. Writes its launches beside those of the products with many rows: the
 * number of rows is only known at run time, so one of the two has no blocks. */
#ifndef TN_CUDA_GEMV_H
#define TN_CUDA_GEMV_H
#include "backends/cuda/kernel.h"

/* More rows than this are better off with the tensor cores, or with tiles: a good `most`. */
#define TN_CUDA_GEMV_ROWS 8

/* Can few rows of the matmul a->op be written by tn_cuda_emit_gemv? */
bool tn_cuda_gemv_takes(const tn_cuda_ask *a);
/* May the norm a->op join the product a->root, whose left operand it makes? Only where there is one row,
 * known now: each block does the norm again. tn_cuda_emit_gemv then writes all of the kernel. */
bool tn_cuda_gemv_takes_norm(const tn_cuda_ask *a);
/* Writes the launches for 1 .. most rows of k->root. None, if there are always more. */
void tn_cuda_emit_gemv(tn_cuda_kernel *k, uint32_t most);

/* The rows that `most` is compared with: of a batch; where rhs is one matrix, of all leading dims of lhs. */
tn_dim tn_cuda_gemv_rows(tn_cuda_kernel *k);
/* 1 or 0, to multiply a grid by: 1 <= rows <= most; rows > most. */
tn_dim tn_cuda_few(tn_cuda_kernel *k, tn_dim rows, uint32_t most);
tn_dim tn_cuda_many(tn_cuda_kernel *k, tn_dim rows, uint32_t most);
/* Is `d` a constant, and is it 0? Then a launch with it need not be written. */
bool tn_cuda_never(tn_cuda_kernel *k, tn_dim d);

#endif
