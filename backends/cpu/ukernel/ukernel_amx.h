/* ukernel_amx.h - micro-kernels on tile registers (AMX): up to two tiles of 16 rows times two panels of 16
 * columns. A panel of pairs of bf16 is a row of B tiles as it lies there, and so is one of 8-bit codes.
 *
 * Tiles have one shape, set once by each thread that runs a kernel: 16 rows of 64 bytes. What is left of k
 * goes through a copy of the panels that ends in zeros; rows behind the last are read and multiplied, and
 * nobody looks at their results. Calls would lose the tiles: these functions call nothing. */
#ifndef TN_CPU_UKERNEL_AMX_H
#define TN_CPU_UKERNEL_AMX_H
#include "backends/cpu/ukernel/ukernel.h"

#define TN_CPU_AMX_TILE 16u   /* rows of a tile */
#define TN_CPU_AMX_ROWS 32u   /* rows a call takes, at most */
#define TN_CPU_AMX_PANELS 2u  /* panels it takes */
#define TN_CPU_AMX_LINE 64u   /* bytes of k a step reads of each row: 32 of bf16, 64 of bytes */
#define TN_CPU_AMX_STEP 1024u /* bytes of a panel a step reads */

/* What stands between these two may call the micro-kernels; on every path from the first to the second, and
 * once per run of a kernel, for the first takes as long as a few tiles. */
void tn_cpu_amx_begin(tn_cpu_kernel *k);
void tn_cpu_amx_end(tn_cpu_kernel *k);

/* Bytes of `depth` values of `bytes` each, up to whole steps: what a row of A must have, with zeros behind
 * depth. */
ll_val tn_cpu_amx_row(tn_cpu_kernel *k, ll_val depth, uint32_t bytes);
static inline tn_dim tn_cpu_amx_row_dim(tn_cpu_kernel *k, tn_dim depth, uint32_t bytes) {
  int64_t step = TN_CPU_AMX_LINE / bytes;
  return tn_cpu_dim_mul(k, tn_cpu_dim_ceildiv(k, depth, step), tn_cpu_dim_k(k, TN_CPU_AMX_LINE));
}

/* rows (i64, 1..32) rows of bf16 times panels of bf16, f32 sums: as tn_cpu_tile_call with `dot`, for two
 * panels. Rows up to the next multiple of 16 are read of A and written of C; rows of A have tn_cpu_amx_row
 * bytes. */
void tn_cpu_amx_call(tn_cpu_kernel *k, ll_val rows, const tn_cpu_tile *t);

/* Floats as sums of bf16, the largest first: three hold all of an f32 but what is near the smallest one. Of
 * the products of lhs's parts with rhs's those count whose places add up to less than 3. The parts of a row
 * lie one behind the other, a_stride / lhs bytes each, and so do those of a panel, whole steps each; depth is
 * a multiple of 32, and nothing is fetched. */
typedef struct tn_cpu_amx_parts {
  uint32_t lhs, rhs; /* 1 to 3 */
} tn_cpu_amx_parts;
#define TN_CPU_AMX_PARTS 3u
void tn_cpu_amx_parts_call(tn_cpu_kernel *k, tn_cpu_amx_parts parts, ll_val rows, const tn_cpu_tile *t);
/* The first `n` parts of a vector of f32, as bits of bf16. */
void tn_cpu_amx_split(tn_ll *e, ll_val v, uint32_t n, ll_val *parts);

/* What makes the sums of one call: C[i][j] += A rows times panel j over `steps` steps, A `a_stride` apart.
 * For micro-kernels of other element types; `product` is the instruction's intrinsic. */
typedef struct tn_cpu_amx_sums {
  const char *product; /* llvm.x86.tdp... */
  uint32_t tiles;      /* of rows: 1 or 2 */
  ll_val a, a_stride, panel[2];
} tn_cpu_amx_sums;
void tn_cpu_amx_zero(tn_cpu_kernel *k, uint32_t tiles);
/* The step `step` (bytes of k: step * 64). */
void tn_cpu_amx_step(tn_cpu_kernel *k, const tn_cpu_amx_sums *s, ll_val step);
/* Sums to or from c, rows c_stride apart. */
void tn_cpu_amx_load(tn_cpu_kernel *k, uint32_t tiles, ll_val c, ll_val c_stride);
void tn_cpu_amx_store(tn_cpu_kernel *k, uint32_t tiles, ll_val c, ll_val c_stride);

#endif
