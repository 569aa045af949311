/* block.h - block formats (ir/quant/quant.def) in generated code: how a number is rebuilt from the bytes of
 * its block, written once over a reader that knows where those bytes are. A reader serves either the elements
 * at an index (body_block.c) or 16 rows of a packed weight at a time (backends/cpu/ukernel/ukernel_block.c).
 *
 * Layout "panelq" of a weight [n, k]: [n / 16][block along k][field][16 rows]. The bytes of a block are cut
 * into fields of 1, 2 or 4 bytes that stay whole (stored floats, and 4 bytes of codes); a field's 16 copies
 * lie side by side, so the packed weight has exactly the bytes of its blocks. */
#ifndef TN_LLVM_BLOCK_H
#define TN_LLVM_BLOCK_H
#include "backends/llvm/emit.h"
#include "ir/quant/quant.h"

#define TN_BLOCK_LAYOUT "panelq"
#define TN_BLOCK_ROWS 16u

/* The field that byte `at` belongs to begins at *start; its size. */
uint32_t tn_block_field(const tn_quant *q, uint32_t at, uint32_t *start);

typedef struct tn_block_reader {
  tn_ll *e;
  const tn_quant *q;
  bool vec; /* values are vectors */
  /* An unsigned integer of `size` bytes at byte `at` (i32; scalar, or a vector where the reader takes one) of
   * the block, i(8 size). `near` is a byte of the same kind of field as `at`, known now. */
  ll_val (*get)(void *ctx, uint32_t size, uint32_t near, ll_val at);
  void *ctx;
} tn_block_reader;

/* Positions i and j are i32: scalars, or vectors where the reader takes them. Results have the reader's
 * shape. */
ll_val tn_block_number(tn_block_reader *r, uint32_t kind, uint32_t at); /* TN_QN_*; f32 */
/* Run j: d * inner scale. */
ll_val tn_block_scale(tn_block_reader *r, ll_val d, ll_val j);
/* Run j: m * inner minimum without its sign; NULL: there is none. */
ll_val tn_block_minimum(tn_block_reader *r, ll_val m, ll_val j);
/* Run j: what is stored to be subtracted from codes, i32; NULL: nothing. */
ll_val tn_block_zero(tn_block_reader *r, ll_val j);
/* Value i of run j. */
ll_val tn_block_value(tn_block_reader *r, ll_val i, ll_val j);
/* The values of a run of `sub`; the whole block if there are no runs. */
static inline uint32_t tn_block_run(const tn_quant *q) { return q->sub ? q->sub : q->values; }

/* Codebooks: the packed entries of row n, the signs of the 8 values from 8 n on, the shift of value i. */
ll_val tn_block_grid_row(tn_block_reader *r, ll_val n);
ll_val tn_block_grid_signs(tn_block_reader *r, ll_val n);
ll_val tn_block_grid_delta(tn_block_reader *r, ll_val i); /* f32; NULL: none */

static inline uint32_t tn_block_grid_levels(const tn_quant_grid *g) { return g->width == 8 ? 4 : 8; }

/* table[index]: a constant of the module named `name`, 4-byte elements of type t. */
ll_val tn_block_lookup(tn_ll *e, const char *name, const void *table, uint64_t bytes, ll_type t,
                       ll_val index);

#endif
