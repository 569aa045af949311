/* tile.h - the main loop of products by mma.sync: a block's tile of the result lies in its warps' registers,
 * the operands go through a ring in shared memory. What the operands are is said by their sources, so that
 * convolutions use the same loop.
 *
 * A source delivers chunks of 16 bytes of one row of the operand (of m for a, of n for b) or, where its
 * memory runs the other way, of one k. A chunk is copied asynchronously from an address, or its values are
 * computed: they are asked for at the begin of a step and stored at its end. */
#ifndef TN_CUDA_TILE_H
#define TN_CUDA_TILE_H
#include "backends/cuda/warp.h"

enum { TN_CUDA_TILE_CHUNKS = 16, TN_CUDA_TILE_FRAGMENTS = 8, TN_CUDA_CHUNK_BYTES = 16 };

typedef struct tn_cuda_tile_shape {
  uint32_t m, n;           /* of a block: multiples of the warp's */
  uint32_t warp_m, warp_n; /* of a warp: multiples of 16, at most 64 x 64 */
  uint32_t bytes;          /* of k in a step: 64 or 128 */
  uint32_t stages;         /* steps in the ring, at least 2 */
} tn_cuda_tile_shape;
static inline uint32_t tn_cuda_tile_threads(const tn_cuda_tile_shape *s) {
  return s->m / s->warp_m * (s->n / s->warp_n) * 32;
}

typedef struct tn_cuda_tile_source {
  bool along_k; /* chunks lie along k; else along the rows */
  bool async;   /* `address` is called, else `values` */
  void *ctx;
  /* Before the loop, for each chunk of this thread: its first row in the tile and its first k in the step
   * (i32), and how many lines (rows; or k where chunks lie along the rows) it is behind the thread's first
   * chunk. */
  void (*open)(void *ctx, uint32_t chunk, uint32_t lines, ll_val row, ll_val k);
  /* The chunk in the step that begins at k0 (i32, may be past the end): where it lies in global memory, a
   * multiple of 16 bytes. *valid (i1): else zeros are written. */
  ll_val (*address)(void *ctx, uint32_t chunk, ll_val k0, ll_val *valid);
  /* Its values, zeros where there are none: a vector of 16 bytes. */
  ll_val (*values)(void *ctx, uint32_t chunk, ll_val k0);
} tn_cuda_tile_source;

/* One operand in the loop. */
typedef struct tn_cuda_tile_side {
  tn_cuda_tile_source source;
  uint32_t rows, warp_rows, count;  /* count: chunks per thread and step */
  uint32_t at;                      /* bytes from the begin of a slot */
  bool first;                       /* a */
  ll_val row, k;                    /* of this thread's first chunk; i32 */
  ll_val warp_row;                  /* first row of this warp */
  ll_val held[TN_CUDA_TILE_CHUNKS]; /* values between asking and storing */
  ll_val fragments[2][4 * TN_CUDA_TILE_FRAGMENTS];
} tn_cuda_tile_side;

typedef struct tn_cuda_tile {
  tn_cuda_kernel *k;
  tn_cuda_tile_shape shape;
  tn_cuda_mma kind; /* F16, BF16, TF32 */
  tn_cuda_tile_source a, b;
  /* the rest is the loop's own */
  tn_cuda_tile_side side[2];
  ll_val ring, sums[4][8][4];
  uint32_t slot_bytes;
  ll_val at; /* of the element being finished */
  uint32_t wide, half_columns;
} tn_cuda_tile;

/* Of k in a step. */
static inline uint32_t tn_cuda_tile_depth(const tn_cuda_tile *t) {
  return t->shape.bytes / (t->kind == TN_CUDA_MMA_TF32 ? 4 : 2);
}

/* The product over `depth` (i32) values of k. Within a launch of tn_cuda_tile_threads. */
void tn_cuda_tile_run(tn_cuda_tile *t, ll_val depth);

/* Then: calls `put` in a loop for every `wide` neighbouring columns of every row, to be written by this
 * thread. halves: a warp's columns are two halves that belong together; put is called for those of the first
 * one only, counted without the others. */
void tn_cuda_tile_finish(tn_cuda_tile *t, uint32_t wide, bool halves,
                         void (*put)(void *ctx, ll_val row, ll_val column), void *ctx);
/* Inside put: the sums there, f32: a vector of `wide`, or one number. half: 0 or 1. */
ll_val tn_cuda_tile_sums(tn_cuda_tile *t, uint32_t half);

#endif
