/* stream.h - weights that pass through once: what products with few rows have in common.
 *
 * A block makes a few columns of the result. It keeps rows of the left operand in shared memory as f32, a
 * chunk of k at a time; its warps read the weights of those columns side by side, 16 bytes per lane, and add
 * up in registers; then lanes, and warps that share a column, are added in a fixed order. A weight stored
 * [n, k] is read by rows: `split` warps share the k of `rows` rows. One stored [k, n] is read by columns: all
 * warps share k. Block formats are taken apart in registers (blocks.c), 16 bytes of codes at a time. */
#ifndef TN_CUDA_STREAM_H
#define TN_CUDA_STREAM_H
#include "backends/cuda/kernel.h"
#include "ir/quant/quant.h"

enum { TN_CUDA_STREAM_THREADS = 256, TN_CUDA_STREAM_SUMS = 64 };

typedef struct tn_cuda_stream {
  tn_cuda_kernel *k;
  /* said by the user before the plan */
  tn_value w;
  tn_type_info tw;
  bool by_columns; /* w is [..., k, n] */
  bool whole;      /* products of whole numbers: sums are i32 */
  bool pair;       /* column c of the result comes from columns c and n + c of the product */
  uint32_t tile;   /* rows of the left operand at once */
  tn_dim n, depth; /* columns of the result; k */
  /* Values j .. of row t of the tile, in the form of the sums, a vector; 0 outside the mask. */
  ll_val (*x)(void *ctx, uint32_t t, tn_ll_ix j, ll_val mask);
  void *ctx;
  /* the plan */
  uint32_t columns;  /* of the result, of a block */
  uint32_t lanes;    /* elements of w that a lane reads at once */
  uint32_t rows;     /* of w that a warp reads side by side */
  uint32_t split;    /* warps that share k */
  uint32_t chunk;    /* of k in shared memory at once: a multiple of 256 */
  const tn_quant *q; /* blocks.c reads w, which is in this format; NULL: it does not */
  /* said by the user in the launch */
  tn_ll_index at; /* leading coordinates of w */
  ll_val n0;      /* first column; i64 */
  ll_val k_end;   /* k, or 0: the sums are 0 then; i64 */
  /* in the launch */
  ll_val xs, sums;   /* shared memory */
  ll_val table;      /* shared memory of blocks.c: f32; NULL: none */
  ll_val row_warp;   /* which of the groups of `split` warps this one is in; i32 */
  ll_val k_lane;     /* which of the lanes that share k this is; i32 */
  ll_val k0, kc;     /* the chunk: first k (i64) and how many (i32) */
  ll_val w_rows[8];  /* the warp's rows of w, or the lane's columns; i64 */
  ll_val w_bytes[8]; /* where the chunk lies in them, of blocks.c: bytes, i64 */
} tn_cuda_stream;

/* Chooses what is left to choose, from what is said before the plan. */
void tn_cuda_stream_plan(tn_cuda_stream *s);
/* Leaves the sums in shared memory, where all threads see them. All threads of the block. */
void tn_cuda_stream_run(tn_cuda_stream *s);
/* The sum of row t of the tile (i32) and column n0 + c (i32); half 1: column n + n0 + c of the product. */
ll_val tn_cuda_stream_sum(tn_cuda_stream *s, ll_val t, ll_val c, uint32_t half);

/* ---- between stream.c and blocks.c ---- */
/* Four values of row t of x in the chunk as a vector; f: which four, i32. */
ll_val tn_cuda_stream_x(tn_cuda_stream *s, uint32_t t, ll_val f);
/* The number of row `row` of w's matrix among all rows of w; i64. */
ll_val tn_cuda_stream_row(tn_cuda_stream *s, ll_val row);
/* Adds `count` of what a lane takes at once to acc: number v (i32), and every 32 * split-th behind it. */
typedef void (*tn_cuda_stream_fn)(tn_cuda_stream *s, ll_val v, uint32_t count, ll_val *acc);
/* Calls fn for *v, `count` per trip, while all of them are below `end`; leaves in *v where it stopped. */
void tn_cuda_stream_loop(tn_cuda_stream *s, ll_val *v, ll_val end, uint32_t count, tn_cuda_stream_fn fn,
                         ll_val *acc);
/* Is there code for this format that reads it in whole words? */
bool tn_cuda_blocks_takes(const tn_quant *q);
/* Values of k that a lane takes at once. */
uint32_t tn_cuda_blocks_step(const tn_quant *q);
/* Adds this lane's products of the chunk to acc[tile][rows]. */
void tn_cuda_blocks_add(tn_cuda_stream *s, ll_val *acc);

#endif
