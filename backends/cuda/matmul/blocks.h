/* blocks.h - block formats in stream.h: a lane takes a piece of a block, 16 bytes of codes of the first plane
 * (or what there is) with all that belongs to them, and multiplies the numbers in registers.
 *
 * Products of a run are added up before its scale is applied; a minimum meets the sum of the run's x. Where a
 * value lies depends on the piece's number p within its block only by a start that all values of the piece
 * share: everything else is known while code is written. blocks.c: pieces, runs and the loop; block_codes.c:
 * from bytes to numbers; block_grid.c: codebooks. */
#ifndef TN_CUDA_BLOCKS_H
#define TN_CUDA_BLOCKS_H
#include "backends/cuda/matmul/stream.h"
#include "backends/llvm/block.h"

enum {
  TN_CUDA_PIECE_WORDS = 4,
  TN_CUDA_PIECE_SLOTS = 8,
  TN_CUDA_PIECE_ROWS = 4,
  TN_CUDA_PIECE_TILE = 8,
  TN_CUDA_GRID_PIECE = 32 /* values, of formats with codebooks */
};

typedef struct tn_cuda_piece {
  tn_cuda_stream *s;
  const tn_quant *q;
  ll_val p, start, f;               /* number, and first value, within the block; the four of x there: i32 */
  ll_val block[TN_CUDA_PIECE_ROWS]; /* where the rows' blocks lie in the buffer: bytes, i64 */
  /* Four codes to a word; before tn_cuda_codes_split, words as they lie in memory, in slot 0. */
  ll_val codes[TN_CUDA_PIECE_ROWS][TN_CUDA_PIECE_WORDS][TN_CUDA_PIECE_SLOTS];
  ll_val bad[TN_CUDA_PIECE_ROWS]; /* i32, not 0: a code stands for NaN; NULL: none does */
  uint32_t row;                   /* that the reader reads */
} tn_cuda_piece;

typedef struct tn_cuda_run {
  ll_val scale[TN_CUDA_PIECE_ROWS], low[TN_CUDA_PIECE_ROWS];
  ll_val off[TN_CUDA_PIECE_ROWS];                     /* what a byte put into 2^23 is too large by */
  ll_val dot[TN_CUDA_PIECE_TILE][TN_CUDA_PIECE_ROWS]; /* x by levels */
  ll_val sum[TN_CUDA_PIECE_TILE];                     /* of x, where there are minima */
} tn_cuda_run;

static inline ll_val tn_cuda_word(tn_cuda_piece *c, int64_t x) {
  return LLVMConstInt(c->s->k->e->i32, (uint64_t)x, 1);
}

/* ---- blocks.c ---- */
uint32_t tn_cuda_piece_bytes(const tn_quant *q);
uint32_t tn_cuda_pieces(const tn_quant *q); /* of a block */
/* First value of word j, slot s, counted from the piece's start. The values of a word of codes are
 * neighbours, or, where a byte holds neighbours (run 1), `slots` apart. */
uint32_t tn_cuda_piece_value(const tn_quant *q, uint32_t j, uint32_t s);
/* Run `number` (i32) of the block. */
void tn_cuda_run_begin(tn_cuda_piece *c, ll_val number, tn_cuda_run *g);
/* Levels of all rows at value i of the piece, multiplied by x. */
void tn_cuda_run_add(tn_cuda_piece *c, tn_cuda_run *g, const ll_val *levels, uint32_t i);
void tn_cuda_run_end(tn_cuda_piece *c, const tn_cuda_run *g, ll_val *acc);

/* ---- block_codes.c ---- */
bool tn_cuda_codes_takes(const tn_quant *q);
tn_block_reader tn_cuda_piece_reader(tn_cuda_piece *c, uint32_t row);
/* At the begin of a launch, before a barrier: tables that codes are looked up in. */
void tn_cuda_codes_begin(tn_cuda_stream *s);
void tn_cuda_codes_read(tn_cuda_piece *c, uint32_t r);
void tn_cuda_codes_split(tn_cuda_piece *c, uint32_t r);
/* n words from byte `byte` (i32) of row 0's block on; near: a byte with the same alignment. */
void tn_cuda_codes_words(tn_cuda_piece *c, ll_val byte, uint32_t near, uint32_t n, ll_val *words);
/* Four codes, a byte each, become levels of the format's table, which are whole numbers. */
ll_val tn_cuda_codes_look_up(tn_cuda_piece *c, ll_val codes);
bool tn_cuda_codes_whole(const tn_quant *q);
/* What bytes of codes are too large by, besides a stored zero. */
int32_t tn_cuda_codes_bias(const tn_quant *q);
/* The number of byte b of word j, slot s. */
ll_val tn_cuda_codes_level(tn_cuda_piece *c, uint32_t r, uint32_t j, uint32_t s, uint32_t b,
                           const tn_cuda_run *g);
/* Byte b of a word as a float, less off. */
ll_val tn_cuda_byte_float(tn_cuda_piece *c, ll_val word, uint32_t b, ll_val off);
ll_val tn_cuda_pick_bytes(tn_cuda_piece *c, ll_val low, ll_val high, ll_val selector); /* prmt */

/* ---- block_chunk.c ---- */
enum { TN_CUDA_BLOCK_CHUNK = 8 };
/* Can tn_cuda_block_chunk be used? */
bool tn_cuda_block_chunk_takes(const tn_quant *q);
/* The f32 vector of the values in line `line` of all lines of v, a buffer in plain layout that is not empty,
 * from column `column` on, a multiple of 8; i64. ok (i1, or NULL): else what is read is of no use, but there.
 */
ll_val tn_cuda_block_chunk(tn_cuda_kernel *k, tn_value v, ll_val line, ll_val column, ll_val ok);

/* ---- block_grid.c ---- */
void tn_cuda_grid_multiply(tn_cuda_piece *c, ll_val *acc);

#endif
