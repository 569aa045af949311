/* flash.h - tiles of rows by features in shared memory, as tensor cores read them: 16-bit numbers in chunks
 * of 8, placed so that 8 neighbouring rows of one chunk are in different banks. What is behind the last row
 * or feature is 0. */
#ifndef TN_CUDA_FLASH_H
#define TN_CUDA_FLASH_H
#include "backends/cuda/attention/attention.h"

typedef struct tn_cuda_att_tile {
  tn_cuda_att *a;
  tn_cuda_mma kind;              /* F16 or BF16 */
  const tn_cuda_att_side *side;  /* NULL: rows are queries */
  uint32_t rows, width, threads; /* width: features, a multiple of 16 */
  uint32_t wide;                 /* features that are read at once where chunks are not copied */
  bool copied;                   /* chunks are copied asynchronously as they lie in memory */
} tn_cuda_att_tile;

static inline uint32_t tn_cuda_att_tile_stride(const tn_cuda_att_tile *t) { /* bytes */
  return t->width % 64 ? t->width * 2 + 16 : t->width * 2;
}
static inline uint32_t tn_cuda_att_tile_bytes(const tn_cuda_att_tile *t) {
  return t->rows * tn_cuda_att_tile_stride(t);
}
/* The thread's number, read anew: what follows from it is computed where it is needed, and not kept in
 * registers over all steps. */
ll_val tn_cuda_att_thread_again(tn_cuda_att *a);
/* Can chunks be copied? t->side, kind are set. */
bool tn_cuda_att_tile_copies(const tn_cuda_att_tile *t);
/* Where chunk `chunk` of row `row` (i32) lies in a tile that begins at `base`. */
ll_val tn_cuda_att_chunk(const tn_cuda_att_tile *t, ll_val base, ll_val row, ll_val chunk);
/* The same for row + rows, a multiple of 8, and an even `chunks` more, where chunk is 0 or 1: what is
 * constant is added last, so that few addresses stay in registers. */
ll_val tn_cuda_att_chunk_at(const tn_cuda_att_tile *t, ll_val base, ll_val row, ll_val chunk, uint32_t rows,
                            uint32_t chunks);
/* All threads of the block: brings rows first .. (i32; keys, or rows of the unit) below `end` (i32) to
 * `base`. What is copied is there only behind a wait for the copies, all else behind a barrier. */
void tn_cuda_att_tile_fill(const tn_cuda_att_tile *t, ll_val base, ll_val first, ll_val end);

#endif
