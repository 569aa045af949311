/* matmul.h - what the parts of the matmul skeleton share: the product being written, its operands, and the
 * walk over its work.
 *
 * skel_matmul.c reads the operands and chooses paths; matmul_stage.c puts rows of lhs and panels of rhs into
 * scratch; matmul_tile.c cuts the work into units, multiplies tiles and runs the epilogue over them.
 * matmul_few.c and matmul_int.c write paths of their own. A path is told by the rows and panels its
 * micro-kernel takes at once, and by two functions: what is done to a block of rows, and what to a unit. */
#ifndef TN_CPU_MATMUL_H
#define TN_CPU_MATMUL_H
#include "backends/cpu/skel/norm.h"
#include "backends/cpu/ukernel/ukernel_amx.h"
#include "backends/llvm/block.h"
#include "backends/llvm/convert.h"

/* Of k at a time, where panels would leave the second-level cache: beyond WHOLE; of a block format always, so
 * that more rows use what has been unpacked. */
#define TN_CPU_MM_CHUNK 512
#define TN_CPU_MM_WHOLE 2048
#define TN_CPU_MM_GROUPS 4 /* of panels that share a chunk of k of the rows */

/* One result of the split behind a product of pairs. */
typedef struct tn_cpu_mm_part {
  struct tn_cpu_mm *x;
  tn_value whole;
  uint32_t half;
} tn_cpu_mm_part;

typedef struct tn_cpu_mm {
  tn_cpu_kernel *k;
  tn_value lhs, rhs, out;
  tn_type_info tl, tr, to, ty;         /* ty: of what the kernel yields */
  bool trans_a, trans_b, packed, flat; /* flat: rhs is one matrix, lhs's leading dims are rows */
  bool readable, direct;               /* lhs can be read in place; it is, on the path being written */
  bool blocks, prepared; /* rhs is in a block format; it is read as it is, by prepared rows, on that path */
  tn_dtype dt;           /* of what the panels hold; bf16: pairs of k */
  bool dot;              /* rows of lhs are staged as bf16, to be multiplied by pairs */
  bool amx, tiles;       /* many rows are multiplied in tile registers; they are, on the path being written */
  bool split;            /* many rows are, by panels that become bf16 first (matmul_parts.c) */
  bool bytes;            /* many rows are, as bytes by bytes (matmul_int_amx.c) */
  tn_dim n_dim, k_dim;
  ll_val m, n, depth, batches; /* m: rows per batch; n: columns of the result */
  ll_val a_stride;             /* bytes between rows of lhs as the micro-kernel sees it */
  ll_val a_stage, b_stage, tile;
  ll_val parts;  /* results of a unit of many rows while k is taken in chunks; NULL: k is taken whole */
  ll_val k0, kc; /* the chunk: first k, and how many; with pairs even, an odd depth's last row being zeros */
  uint32_t panels, max_rows; /* of the path being written */
  /* of the unit being written */
  ll_val batch, batch_at[TN_MAX_RANK], m0, m1, n0, group_end;
  ll_val tile_row0;             /* first row of the tile */
  tn_ll_ix row_at[TN_MAX_RANK]; /* coordinates of the row of lhs that was opened last */
  void *own;                    /* of the path being written */
  /* lhs is a norm's result (norm->op not 0): rows are normalised on their way into scratch, at these columns
   */
  tn_cpu_norm norm;
  tn_ll_ix norm_j;
  ll_val norm_mask;
  /* The result is made of the product's columns c and n + c (gate and up): n and n_dim are those of one half,
   * a multiple of 16, and so is what a unit walks. The second half of a tile's panels are the partners of the
   * first; `half` is the half that is being evaluated. */
  bool pair, apart; /* apart: the micro-kernel knows no pairs and is called twice */
  uint32_t half;
  tn_cpu_mm_part parts_of[2];
} tn_cpu_mm;

/* Of k at a time where it is taken in chunks. */
static inline int64_t tn_cpu_mm_chunk(const tn_cpu_mm *x) {
  return x->k->choice.depth ? x->k->choice.depth : TN_CPU_MM_CHUNK;
}

/* ---- matmul_stage.c ---- */
/* Is lhs the result of a norm in the kernel? Fills x->norm. */
void tn_cpu_mm_find_norm(tn_cpu_mm *x);
/* Leading coordinates of an operand for the current batch; operands broadcast from the right. */
void tn_cpu_mm_leading(tn_cpu_mm *x, const tn_type_info *t, tn_ll_index *ix);
/* Coordinates of row r of the result (flat: of all leading dims). */
void tn_cpu_mm_coordinates(tn_cpu_mm *x, ll_val r, tn_ll_index *ix);
/* A row of lhs, and where it goes. */
typedef struct tn_cpu_mm_row {
  tn_cpu_mm *x;
  ll_val row, to;
} tn_cpu_mm_row;
/* Begins a row, whose values may then be asked for: whoever reads rows by tn_cpu_mm_lhs calls this first. */
void tn_cpu_mm_row_open(const tn_cpu_mm_row *c);
/* Values j .. of the row, f32. */
ll_val tn_cpu_mm_lhs(const tn_cpu_mm_row *c, tn_ll_ix j, ll_val mask);
/* The same as a tn_cpu_row_fn; ctx: a tn_cpu_mm_row. */
ll_val tn_cpu_mm_lhs_fn(tn_cpu_kernel *k, void *ctx, tn_ll_ix j);
/* Rows m0..m1 of lhs into a_stage, a_stride apart: f32, bf16 (`dot`), or as tn_cpu_block_prepare leaves them
 * (`prepared`). With panels of pairs a zero follows a row of odd depth. */
void tn_cpu_mm_stage_lhs(tn_cpu_mm *x);
/* The panels from n0 on into b_stage as f32 panels, k0 .. k0 + kc. */
void tn_cpu_mm_stage_rhs(tn_cpu_mm *x);

/* ---- matmul_tile.c ---- */
/* Is there a split of the product into two halves in the kernel? Fills x->pair and what goes with it. */
void tn_cpu_mm_find_pair(tn_cpu_mm *x);
/* The root's value in the epilogue, from `tile`; ctx: the tn_cpu_mm. */
ll_val tn_cpu_mm_product(void *ctx, const tn_ll_index *ix);
/* Epilogue of rows [r0, r1), columns n0 .. group_end, which `tile` holds: f32 [rows, panels * 16]. */
void tn_cpu_mm_finish(tn_cpu_mm *x, ll_val r0, ll_val r1);
/* Row r of lhs at the chunk's first k, as the micro-kernel reads it. */
ll_val tn_cpu_mm_lhs_row(tn_cpu_mm *x, ll_val r);
/* Blocks of nearly equal height, at most max_rows, of the unit's rows; block i is [*r0, *r1). */
ll_val tn_cpu_mm_blocks(tn_cpu_mm *x);
void tn_cpu_mm_block(tn_cpu_mm *x, ll_val blocks, ll_val i, ll_val *r0, ll_val *r1);
/* Panels of a unit, where the micro-kernel takes `panels`: the same, but an even number for pairs. */
static inline uint32_t tn_cpu_mm_panels(const tn_cpu_mm *x, uint32_t panels) {
  return x->pair && panels % 2 ? 2 * panels : panels;
}
/* Result columns of a unit. */
uint32_t tn_cpu_mm_width(const tn_cpu_mm *x);
/* The number of the tile's panel j among the weight's; behind the last one, that one again. */
ll_val tn_cpu_mm_panel(tn_cpu_mm *x, uint32_t j);
/* Do panels go through scratch? */
bool tn_cpu_mm_staged(const tn_cpu_mm *x);
/* Is k taken in chunks, where there are many rows? */
bool tn_cpu_mm_in_chunks(tn_cpu_mm *x);
/* The most rows of a unit: what fits the cache. */
int64_t tn_cpu_mm_rows_limit(tn_cpu_mm *x);
/* Rows m0..m1 against panels from n0, floats. */
void tn_cpu_mm_unit(tn_cpu_mm *x);
/* A unit by chunks of k: `add` adds one, k0 .. k0 + kc, to `sums` (its first writes them), then the epilogue
 * runs over those. */
void tn_cpu_mm_by_chunks(tn_cpu_mm *x, int64_t chunk, ll_val sums, void (*add)(tn_cpu_mm *x));
/* Calls `fn` for each block [r0, r1) of the unit's rows, the i-th of `blocks`. */
typedef void (*tn_cpu_mm_block_fn)(tn_cpu_mm *x, ll_val i, ll_val blocks, ll_val r0, ll_val r1);
void tn_cpu_mm_each_block(tn_cpu_mm *x, tn_cpu_mm_block_fn fn);

/* Does the product read panels of pairs? */
static inline bool tn_cpu_mm_pairs(const tn_cpu_mm *x) { return x->dt == TN_DT_bf16; }
/* Bytes of an element of a staged row. */
static inline int64_t tn_cpu_mm_lhs_bytes(const tn_cpu_mm *x) { return x->dot ? 2 : 4; }

/* How rows meet panels. a_stride 0: rows of floats in scratch, or in place. */
typedef struct tn_cpu_mm_path {
  uint32_t panels, max_rows;
  ll_val a_stride;
  void (*stage)(tn_cpu_mm *x); /* before a block of rows m0..m1; NULL: lhs is read in place */
  void (*unit)(tn_cpu_mm *x);  /* rows m0..m1 against panels from n0, columns below group_end */
  int64_t rows;                /* the most of a unit; 0: tn_cpu_mm_rows_limit */
  bool tiles;                  /* blocks of rows are those of tile registers: all but the last full */
  uint32_t groups;             /* of panels that a unit may take at once; 0: one */
} tn_cpu_mm_path;
/* Writes the walk of this thread's part of the units. */
void tn_cpu_mm_walk(tn_cpu_mm *x, const tn_cpu_mm_path *p);

/* ---- matmul_few.c ---- */
/* Up to so many rows weights only pass through. */
uint32_t tn_cpu_matmul_few_rows(const tn_cpu_mm *x);
/* Writes the path of that few rows of a packed weight; false, and nothing: there is none here. */
bool tn_cpu_matmul_few(tn_cpu_mm *x);
/* ---- matmul_int.c: the same for many rows through integer products; rhs may be packed or not ---- */
bool tn_cpu_matmul_int(tn_cpu_mm *x);
/* Where the packed weight's panel is that the unit has as its panel j, from the chunk of k on. */
ll_val tn_cpu_mm_packed_panel(tn_cpu_mm *x, uint32_t j);
/* Block i of `blocks` of rows brings in its share of the same chunk of the packed panels that the next unit
 * reads: what lies behind the last is fetched in vain. */
void tn_cpu_mm_fetch_packed(tn_cpu_mm *x, ll_val i, ll_val blocks);

/* ---- matmul_int_amx.c: the same in tile registers ---- */
/* What x->bytes is; the rest of the operands is read. */
bool tn_cpu_mm_in_bytes(tn_cpu_mm *x);
bool tn_cpu_matmul_int_amx(tn_cpu_mm *x);

/* ---- matmul_parts.c: the same for many rows of a packed weight in tile registers, where its panels are to
 * become bf16 first ---- */
bool tn_cpu_matmul_parts(tn_cpu_mm *x);

/* ---- matmul_whole.c ---- */
/* Is it a product of whole numbers, whose tile is i32? */
static inline bool tn_cpu_mm_whole(const tn_cpu_mm *x) { return x->to.dtype == TN_DT_i32; }
/* Writes the path of such a product, for any number of rows; false, and nothing: it is none. */
bool tn_cpu_matmul_whole(tn_cpu_mm *x);

#endif
