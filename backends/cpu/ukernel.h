/* ukernel.h - the matrix micro-kernel: C[rows, panels * 16] = A[rows, k] B[k, panels * 16], everything in
 * registers over the whole of k, so each element is one chain of fused multiply-adds in the order of k
 * whatever the blocking. B comes in panels of 16 columns; matmul and attention both live on it. */
#ifndef TN_CPU_UKERNEL_H
#define TN_CPU_UKERNEL_H
#include "backends/cpu/kernel.h"

/* One call. Strides are bytes. Panels from np on (np >= 1) repeat the last one; their results are to be
 * ignored. */
typedef struct tn_cpu_tile {
  ll_val depth;               /* k */
  ll_val a, a_stride;         /* f32 rows, contiguous in k */
  ll_val b, panel_stride, np; /* panels [k][16] of the element type */
  ll_val c, c_stride;         /* f32 rows of panels * 16, all written */
  ll_val ahead, ahead_step;   /* fetched into the second-level cache meanwhile: per step of k one line of each
                                 panel,   at ahead + panel * panel_stride + k * ahead_step. NULL: nothing */
} tn_cpu_tile;

/* Calls the micro-kernel for `rows` (i64, 1..max_rows) rows. dt: f32, f16 or bf16, the element type of B. */
void tn_cpu_tile_call(tn_cpu_kernel *k, tn_dtype dt, uint32_t panels, uint32_t max_rows, ll_val rows,
                      const tn_cpu_tile *t);

#endif
