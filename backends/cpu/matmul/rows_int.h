/* rows_int.h - rows of activations as 8-bit integers, for integer products with packed weights. A prepared
 * row of `depth` values (a multiple of `block`) is, in arrays that begin at multiples of 64 bytes:
 *
 *     q[depth]            i8, to nearest even; a block shares d = its largest magnitude / 127
 *     d[depth / block]    f32
 *     isum[depth / run]   i32: the sum of the run's q, times `times` (what a product starts from: -bias)
 *     fsum[depth / run]   f32: d * the sum of the run's q (what a minimum or a zero is multiplied by)
 *
 * A block with a value that is no number, or infinite, makes its d, and so every product, that as well. */
#ifndef TN_CPU_ROWS_INT_H
#define TN_CPU_ROWS_INT_H
#include "backends/cpu/ukernel/ukernel.h"

#define TN_CPU_INT_BLOCK 32u       /* values of a block, where weights have scales of their own in a row */
#define TN_CPU_INT_LONG_BLOCK 512u /* the most where they have none */

typedef struct tn_cpu_int_rows {
  uint32_t block, run;         /* run: 16, 32 or the block */
  int32_t times;               /* of isum */
  ll_val d, isum, fsum, bytes; /* i64: where the arrays begin, and the stride of rows */
} tn_cpu_int_rows;

tn_cpu_int_rows tn_cpu_int_rows_of(tn_cpu_kernel *k, ll_val depth, uint32_t block, uint32_t run,
                                   int32_t times);
/* An upper bound of `bytes`, for scratch. */
tn_dim tn_cpu_int_row_dim(tn_cpu_kernel *k, tn_dim depth);
/* Writes one row to `to` (64-byte aligned); `get` is asked for whole vectors, from the first to the last. */
void tn_cpu_int_prepare(tn_cpu_kernel *k, const tn_cpu_int_rows *r, ll_val depth, ll_val to,
                        tn_cpu_row_fn get, void *ctx);

#endif
