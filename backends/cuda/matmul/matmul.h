/* matmul.h - what the parts of the matmul skeleton share: the product, and where its operands' elements lie.
 *
 * matmul.c chooses what is launched; load.c brings operands into tiles; simt.c multiplies by fma, mma.c by
 * tensor cores through tile.c; few rows are gemv.c's. Which launch has work is told by its grid: where it
 * depends on a size of run time, the launches of all cases are there, and all but one have a grid of 0. */
#ifndef TN_CUDA_MATMUL_H
#define TN_CUDA_MATMUL_H
#include "backends/cuda/matmul/tile.h"

/* One half of the columns (gate or up) behind a split of the product. */
struct tn_cuda_mm;
typedef struct tn_cuda_mm_part {
  struct tn_cuda_mm *x;
  tn_value whole;
  uint32_t half;
} tn_cuda_mm_part;

/* An operand in scratch: see tn_cuda_mm_stage. */
typedef struct tn_cuda_mm_staged {
  bool used;
  tn_dim at, line, term; /* scratch; elements of a line, and of each of its terms */
} tn_cuda_mm_staged;

/* k in parts: see parts.c. */
typedef struct tn_cuda_mm_parts {
  bool used;
  tn_dim parts, at; /* how many; scratch of their sums */
  ll_val part;      /* the block's; i32 */
} tn_cuda_mm_parts;

typedef struct tn_cuda_mm {
  tn_cuda_kernel *k;
  tn_value lhs, rhs, out;
  tn_type_info tl, tr, to, ty;           /* ty: of what the kernel yields */
  bool trans_a, trans_b, flat;           /* flat: rhs is one matrix, lhs's leading dims are rows */
  tn_dim m_dim, n_dim, k_dim, batch_dim; /* n: columns of what is yielded */
  /* The result is made of the product's columns c and n + c. */
  bool pair;
  uint32_t half; /* that is being evaluated */
  tn_cuda_mm_part parts[2];
  /* The product at the element being finished, by whoever writes the launch: the register form of `acc`. */
  ll_val (*sums)(void *ctx, uint32_t half);
  void *ctx;
  tn_dtype acc; /* f32, f64, i32 */
  /* of the launch being written: i32, and the first row and column of the block's tile */
  ll_val m, n, depth, batch, m0, n0; /* batch: i64 */
  ll_val k_first, k_end;             /* of the block's part */
  bool whole_m, whole_n;             /* no tile is cut by the result's edge */
  tn_cuda_mm_staged staged[2];       /* lhs, rhs */
  tn_cuda_mm_parts cut;
} tn_cuda_mm;

/* Reads the root's operands and lets the epilogue find the product. */
void tn_cuda_mm_read(tn_cuda_mm *x, tn_cuda_kernel *k);
/* Coordinates of row r (i64) of the result: of the batch, or, flat, of all leading dims. */
void tn_cuda_mm_coordinates(tn_cuda_mm *x, ll_val r, tn_ll_index *ix);
/* How many neighbouring columns the epilogue takes at once: 1, 4 or 8. */
uint32_t tn_cuda_mm_wide(tn_cuda_mm *x);
/* The epilogue of `wide` columns from (row, column) of the block's tile on, unless they are outside; i32. */
void tn_cuda_mm_put(tn_cuda_mm *x, uint32_t wide, ll_val row, ll_val column);

/* Blocks that tiles of m x n need (n: columns of the result). */
tn_dim tn_cuda_mm_blocks(tn_cuda_mm *x, uint32_t m, uint32_t n);
/* At the begin of a launch: which tile and batch are this block's. Neighbouring blocks share rows or columns,
 * so that what they read stays in the second-level cache. */
void tn_cuda_mm_open(tn_cuda_mm *x, uint32_t m, uint32_t n);

/* ---- load.c ---- */
/* An operand as a tile's source. */
typedef struct tn_cuda_mm_load {
  tn_cuda_mm *x;
  tn_value v;
  tn_type_info t;
  bool is_rhs, along_k;
  tn_dtype stage;  /* of what goes into the tile */
  uint32_t lanes;  /* elements of a chunk */
  uint32_t paired; /* of a pair: rows of the tile that hold both halves, the first one first; 0: none */
  uint32_t step;   /* of k */
  ll_val base;     /* global pointer to the batch's matrix; NULL: it is not plain */
  ll_val line;     /* elements from one line of memory to the next; i64 */
  ll_val depth;    /* of k; i32 */
  ll_val again; /* k after which the operand is read again from its begin, for the next term; NULL: never */
  /* of the thread's first chunk: its row, rows of the matrix from there on (i32), its address at k0 = 0 */
  ll_val row0, left, start;
  /* of each chunk: its row and k (i32); lines of memory (i64) and columns behind the first one */
  ll_val row[TN_CUDA_TILE_CHUNKS], k[TN_CUDA_TILE_CHUNKS], lines_on[TN_CUDA_TILE_CHUNKS];
  uint32_t columns_on[TN_CUDA_TILE_CHUNKS];
} tn_cuda_mm_load;
/* Can chunks of 16 bytes be copied as they lie in memory? */
bool tn_cuda_mm_direct(tn_cuda_mm *x, bool is_rhs, tn_dtype stage);
/* Does the operand's memory run along k? */
bool tn_cuda_mm_along_k(const tn_cuda_mm *x, bool is_rhs);
void tn_cuda_mm_load_init(tn_cuda_mm_load *l, tn_cuda_mm *x, bool is_rhs, tn_dtype stage, uint32_t lanes,
                          uint32_t step, uint32_t paired);
/* The callbacks of a tile's source; ctx: tn_cuda_mm_load. */
void tn_cuda_mm_load_open(void *ctx, uint32_t chunk, uint32_t lines, ll_val row, ll_val k);
ll_val tn_cuda_mm_load_address(void *ctx, uint32_t chunk, ll_val k0, ll_val *valid);
ll_val tn_cuda_mm_load_values(void *ctx, uint32_t chunk, ll_val k0);

/* Is it a block format that tn_cuda_block_chunk reads? */
bool tn_cuda_mm_in_blocks(tn_cuda_mm *x, bool is_rhs);

/* Elements of type `from` in register form (scalar, or a vector of e->lanes) as those of a tile: 16-bit
 * floats as their bits. */
ll_val tn_cuda_mm_convert(tn_cuda_kernel *k, tn_dtype from, tn_dtype stage, ll_val v);

/* ---- stage.c ---- */
/* A launch that writes an operand to scratch as `stage`; when: 1 or 0. It counts as direct from then on.
 * terms: 1; or 3, as whose sum f32 is written in bf16, along k: those of a line follow each other, zeros
 * filling each up to a multiple of TN_CUDA_MM_TERM. */
enum { TN_CUDA_MM_TERM = 64 };
/* May the operand be put into scratch? Weights only up to some size. */
bool tn_cuda_mm_stageable(tn_cuda_mm *x, bool is_rhs, tn_dtype type);
void tn_cuda_mm_stage(tn_cuda_mm *x, bool is_rhs, tn_dtype stage, uint32_t terms, tn_dim when);

/* ---- parts.c ---- */
/* Has k cut in the launch that is written next, with tiles of m x n, where they are few. Gives 1 or 0, times
 * `when`: 1 where it is worth it. Unless that is never so, the launch has a block for each part of each tile,
 * and tn_cuda_mm_join comes behind it, both when what is given is 1. */
tn_dim tn_cuda_mm_cut(tn_cuda_mm *x, uint32_t m, uint32_t n, tn_dim when);
void tn_cuda_mm_join(tn_cuda_mm *x, tn_dim when);
/* Blocks that a launch of so many has with its parts. */
static inline tn_dim tn_cuda_mm_in_parts(const tn_cuda_mm *x, tn_dim blocks) {
  return x->cut.used ? tn_cuda_dim_mul(x->k, blocks, x->cut.parts) : blocks;
}
/* Sets the block's part, k_first and k_end; gives its number (i32) among the tiles. */
ll_val tn_cuda_mm_take_part(tn_cuda_mm *x, ll_val block);
/* What tn_cuda_mm_put does in a part: row and column of the batch, which are inside; i32. */
void tn_cuda_mm_put_part(tn_cuda_mm *x, uint32_t wide, ll_val row, ll_val column);

/* ---- simt.c, mma.c ---- */
/* only (1 or 0): factor of all grids. */
void tn_cuda_mm_simt(tn_cuda_mm *x, tn_dim only);
/* Is it a product for tensor cores? */
bool tn_cuda_mm_mma_takes(const tn_cuda_mm *x, tn_cuda_mma *kind);
/* few: many rows are somebody else's. */
void tn_cuda_mm_mma(tn_cuda_mm *x, tn_cuda_mma kind, bool few, tn_dim only);
/* f32 by bf16 at precision "high": exact products by tensor cores, lhs as the sum of three terms. The
 * launches for many rows; gives what is left of `only`. */
tn_dim tn_cuda_mm_split(tn_cuda_mm *x, tn_dim only);
/* wgmma.c: the launches for products that warpgroups take, lhs as the sum of so many terms; gives what is
 * left of `only`, for mma.sync. */
tn_dim tn_cuda_mm_wgmma(tn_cuda_mm *x, tn_cuda_mma kind, uint32_t terms, tn_dim only);
/* Tiles of a launch, and what writes it, `when` being 1 or 0. */
typedef struct tn_cuda_mm_form {
  uint32_t m, n; /* of the result */
  void (*write)(tn_cuda_mm *x, const struct tn_cuda_mm_form *f, tn_dim when, void *ctx);
  const void *own;
} tn_cuda_mm_form;
/* Writes launches with large tiles, for when there are enough of them to keep a device busy (rows not 0: when
 * there are that many rows), and with small ones for when there are not. large NULL: never. */
void tn_cuda_mm_forms(tn_cuda_mm *x, const tn_cuda_mm_form *small, const tn_cuda_mm_form *large,
                      uint32_t rows, tn_dim only, void *ctx);

#endif
