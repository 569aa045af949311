/* body_block.c - elements of block-format buffers at an index: each lane finds its block and reads its bytes,
 * in the plain layout and in packed weights. For what is read a little (rows of an embedding table, weights
 * nobody packed); products of packed weights have code of their own. A block element in registers is its
 * value in f32. */
#include "backends/llvm/block.h"
#include "backends/llvm/body.h"

typedef struct place {
  tn_ll_body *b;
  const tn_quant *q;
  const tn_ll_index *ix;
  ll_val buffer, base; /* base: bytes to the block, or to the 16 packed beside it (i64; scalar or vector) */
  ll_val row;          /* packed: row within the panel (i32); NULL: plain */
  bool vec;
} place;

static ll_val to_i64(tn_ll *e, ll_val v) { return LLVMBuildZExt(e->b, v, ll_like(e, v, e->i64), ""); }
static ll_val sum(tn_ll *e, ll_val x, ll_val y) {
  bool vec = ll_is_vec(x) || ll_is_vec(y);
  return ll_iadd(e, ll_wide(e, x, vec), ll_wide(e, y, vec));
}
static ll_val i32_like(tn_ll *e, ll_val v, int64_t x) { return ll_int(e, ll_like(e, v, e->i32), x); }

/* Bytes from the base to byte `at`. */
static ll_val offset(place *p, uint32_t near, ll_val at) {
  tn_ll *e = p->b->e;
  uint32_t start, size = tn_block_field(p->q, near, &start);
  if (!p->row) return to_i64(e, at);
  ll_val within = size == 1 ? i32_like(e, at, 0)
                            : ll_urem(e, ll_sub(e, at, i32_like(e, at, start % size)), i32_like(e, at, size));
  ll_val whole = ll_mul(e, ll_sub(e, at, within), i32_like(e, at, TN_BLOCK_ROWS));
  ll_val row = ll_mul(e, p->row, i32_like(e, p->row, size));
  return to_i64(e, sum(e, ll_add(e, whole, within), row));
}

static ll_val guarded(place *p, ll_type t, ll_val at, ll_val in) {
  tn_ll *e = p->b->e;
  ll_val a = ll_at(e, p->buffer, at), pred = p->ix->pred;
  if (in) pred = pred ? ll_and(e, pred, in) : in;
  if (pred) a = ll_select(e, pred, a, p->b->zeros);
  return ll_load(e, t, a, 1);
}

static ll_val get(void *ctx, uint32_t size, uint32_t near, ll_val at) {
  place *p = ctx;
  tn_ll *e = p->b->e;
  ll_type t = size == 1 ? e->i8 : size == 2 ? e->i16 : e->i32;
  ll_val where = sum(e, p->base, offset(p, near, at));
  if (!ll_is_vec(where)) return ll_wide(e, guarded(p, t, where, NULL), p->vec);
  ll_val r = LLVMGetPoison(ll_vec(e, t));
  for (uint32_t i = 0; i < e->lanes; i++) {
    ll_val in = p->ix->mask ? ll_lane(e, p->ix->mask, i) : NULL;
    r = ll_put(e, r, guarded(p, t, ll_lane(e, where, i), in), i);
  }
  return r;
}

static ll_val as_value(tn_ll_body *b, tn_ll_ix ix) {
  return ix.kind == TN_IX_SCALAR ? ix.v : tn_ll_ix_vector(b, ix);
}
static ll_val narrow(tn_ll *e, ll_val v) { return LLVMBuildTrunc(e->b, v, ll_like(e, v, e->i32), ""); }

/* Row number over all dims but the last; for a collapsed index everything is in the column. */
static tn_ll_ix row_of(tn_ll_body *b, const tn_type_info *t, const tn_ll_index *ix) {
  tn_ll_place at = {ll_k(b->e, 0), NULL, NULL};
  ll_val stride = ll_k(b->e, 1);
  for (uint32_t i = t->rank - 1; i-- > 0 && !ix->collapsed;) {
    tn_ll_place_add(b, &at, ix->at[i], stride);
    stride = ll_imul(b->e, stride, tn_ll_dim(b, t->dims[i]));
  }
  return tn_ll_place_ix(b, &at, false);
}

ll_val tn_ll_load_block(tn_ll_body *b, const tn_type_info *t, ll_val buffer, const tn_ll_index *ix) {
  tn_ll *e = b->e;
  const tn_quant *q = tn_quant_of(t->dtype);
  tn_ll_ix k = ix->collapsed ? ix->line : ix->at[t->rank - 1], within, run, rest;
  place p = {.b = b, .q = q, .ix = ix, .buffer = buffer, .vec = tn_ll_index_vec(ix)};
  ll_val blocks = ll_udiv(e, tn_ll_dim(b, t->dims[t->rank - 1]), ll_k(e, q->values));
  ll_val row = as_value(b, row_of(b, t, ix)), size = ll_k(e, q->bytes);
  ll_val block = as_value(b, tn_ll_ix_div(b, k, ll_k(e, q->values), &within));
  if (t->layout) {
    ll_val rows = ll_i(e, row, TN_BLOCK_ROWS);
    p.row = narrow(e, ll_urem(e, row, rows));
    row = ll_udiv(e, row, rows);
    size = ll_k(e, (int64_t)q->bytes * TN_BLOCK_ROWS);
  }
  block = sum(e, ll_imul(e, row, ll_wide(e, blocks, ll_is_vec(row))), block);
  p.base = ll_imul(e, block, ll_wide(e, size, ll_is_vec(block)));
  run = tn_ll_ix_div(b, within, ll_k(e, tn_block_run(q)), &rest);
  tn_block_reader r = {.e = e, .q = q, .vec = p.vec, .get = get, .ctx = &p};
  return tn_block_value(&r, narrow(e, as_value(b, within)), narrow(e, as_value(b, run)));
}
