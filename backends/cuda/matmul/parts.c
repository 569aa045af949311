/* parts.c - products with so few tiles that most of a device would wait: k is cut into parts, each a block's
 * own, whose sums go to scratch, and a launch more adds them, always in the same order, and finishes them.
 * How many parts there are is said by the shape alone, so that every device gives the same bits. */
#include "backends/cuda/matmul/gemv.h"
#include "backends/cuda/matmul/matmul.h"

enum {
  THREADS = 256,
  BLOCKS = 128, /* that a device has room for, about */
  LEAST = 512,  /* k of a part */
  MOST = 8,     /* parts */
  UNIT = 64     /* k: parts are multiples of it */
};

static tn_dim columns(const tn_cuda_mm *x) {
  return tn_cuda_dim_mul(x->k, x->n_dim, tn_cuda_dim_k(x->k, x->pair ? 2 : 1));
}

/* The most parts that are worth it; n: columns of a tile. */
static int64_t most_parts(tn_cuda_mm *x, uint32_t n) {
  int64_t depth, across;
  if (!tn_ll_dim_const(&x->k->body, x->k_dim, &depth)) return 1;
  int64_t most = depth / LEAST < MOST ? depth / LEAST : MOST;
  if (!tn_ll_dim_const(&x->k->body, tn_cuda_dim_ceildiv(x->k, x->n_dim, n), &across) || across <= 0)
    return most;
  return BLOCKS / across < most ? BLOCKS / across : most;
}

tn_dim tn_cuda_mm_cut(tn_cuda_mm *x, uint32_t m, uint32_t n, tn_dim when) {
  tn_cuda_kernel *k = x->k;
  tn_dim one = tn_cuda_dim_k(k, 1);
  int64_t most = most_parts(x, n);
  if (most < 2 || x->acc != TN_DT_f32) return tn_cuda_dim_k(k, 0);
  tn_dim tiles = tn_cuda_dim_max(k, tn_cuda_mm_blocks(x, m, n), one);
  tn_dim fit = k->u->ir->dim_make(k->u->m, TN_DIM_FLOORDIV, tn_cuda_dim_k(k, BLOCKS), tiles);
  x->cut.parts = tn_cuda_dim_min(k, tn_cuda_dim_max(k, fit, one), tn_cuda_dim_k(k, most));
  when = tn_cuda_dim_mul(k, when, tn_cuda_many(k, x->cut.parts, 1));
  if (tn_cuda_never(k, when)) return when;
  tn_dim sums = tn_cuda_dim_mul(k, tn_cuda_dim_mul(k, x->batch_dim, x->m_dim), columns(x));
  tn_dim bytes = tn_cuda_dim_mul(k, tn_cuda_dim_mul(k, sums, x->cut.parts), tn_cuda_dim_k(k, 4));
  x->cut.at = tn_cuda_scratch(k, tn_cuda_dim_mul(k, bytes, when));
  x->cut.used = true;
  return when;
}

static ll_val trunc_of(tn_cuda_mm *x, tn_dim d) {
  return LLVMBuildTrunc(x->k->e->b, tn_ll_dim(&x->k->body, d), x->k->e->i32, "");
}

ll_val tn_cuda_mm_take_part(tn_cuda_mm *x, ll_val block) {
  tn_ll *e = x->k->e;
  x->k_first = ll_int(e, e->i32, 0);
  x->k_end = x->depth;
  if (!x->cut.used) return block;
  ll_val parts = trunc_of(x, x->cut.parts), unit = ll_int(e, e->i32, UNIT), one = ll_int(e, e->i32, 1);
  ll_val units = ll_udiv(e, ll_iadd(e, x->depth, ll_int(e, e->i32, UNIT - 1)), unit);
  x->cut.part = ll_urem(e, block, parts);
  ll_val next = ll_udiv(e, ll_mul(e, ll_add(e, x->cut.part, one), units), parts);
  x->k_first = ll_mul(e, ll_udiv(e, ll_mul(e, x->cut.part, units), parts), unit);
  x->k_end = ll_imin(e, ll_mul(e, next, unit), x->depth);
  return ll_udiv(e, block, parts);
}

/* Where part `part` (i64) keeps the sum of row r (i32) of the batch and column c (i32). */
static ll_val address(tn_cuda_mm *x, ll_val part, ll_val r, ll_val c) {
  tn_ll *e = x->k->e;
  ll_val at = ll_iadd(e, ll_mul(e, part, tn_ll_dim(&x->k->body, x->batch_dim)), x->batch);
  at = ll_iadd(e, ll_mul(e, at, tn_ll_dim(&x->k->body, x->m_dim)), tn_cuda_i64(x->k, r));
  at = ll_iadd(e, ll_mul(e, at, tn_ll_dim(&x->k->body, columns(x))), tn_cuda_i64(x->k, c));
  return ll_at(e, tn_cuda_scratch_at(x->k, x->cut.at), ll_imul(e, at, ll_k(e, 4)));
}

static ll_type type_of(tn_ll *e, uint32_t wide) { return wide == 1 ? e->f32 : LLVMVectorType(e->f32, wide); }

void tn_cuda_mm_put_part(tn_cuda_mm *x, uint32_t wide, ll_val r, ll_val c) {
  tn_ll *e = x->k->e;
  ll_val part = tn_cuda_i64(x->k, x->cut.part);
  for (uint32_t half = 0; half < (x->pair ? 2 : 1); half++) {
    ll_store(e, x->sums(x->ctx, half), address(x, part, r, c), wide == 1 ? 4 : 16);
    c = ll_iadd(e, c, x->n);
  }
}

typedef struct joined {
  ll_val sums[2];
} joined;
static ll_val give_joined(void *ctx, uint32_t half) { return ((joined *)ctx)->sums[half]; }

/* Of `wide` columns from (r, c) on: all parts, from the first to the last. */
static void add_parts(tn_cuda_mm *x, uint32_t wide, ll_val r, ll_val c, joined *to) {
  tn_ll *e = x->k->e;
  ll_loop l;
  uint32_t halves = x->pair ? 2 : 1;
  ll_val zeros[2] = {ll_zero(type_of(e, wide)), ll_zero(type_of(e, wide))}, next[2];
  ll_loop_begin(e, &l, ll_k(e, 0), tn_ll_dim(&x->k->body, x->cut.parts), ll_k(e, 1), zeros, halves);
  for (uint32_t h = 0; h < halves; h++) {
    ll_val v = ll_load(e, type_of(e, wide), address(x, l.iv, r, c), wide == 1 ? 4 : 16);
    next[h] = ll_fadd(e, l.phi[h], v);
    c = ll_iadd(e, c, x->n);
  }
  ll_loop_end(e, &l, next);
  memcpy(to->sums, l.out, halves * sizeof *next);
}

void tn_cuda_mm_join(tn_cuda_mm *x, tn_dim when) {
  tn_cuda_kernel *k = x->k;
  tn_ll *e = k->e;
  uint32_t wide = tn_cuda_mm_wide(x);
  joined sums;
  ll_if inside;
  tn_dim across = tn_cuda_dim_ceildiv(k, x->n_dim, wide);
  tn_dim all = tn_cuda_dim_mul(k, tn_cuda_dim_mul(k, x->batch_dim, x->m_dim), across);
  tn_cuda_shape shape = {.threads = THREADS,
                         .grid = {tn_cuda_dim_mul(k, tn_cuda_dim_ceildiv(k, all, THREADS), when)}};
  x->cut.used = false;
  e->lanes = wide == 1 ? 4 : wide;
  tn_cuda_launch_begin(k, &shape);
  tn_cuda_mm_open(x, 1, wide); /* sizes; which element comes from the thread's position */
  ll_val p = tn_cuda_position(k, THREADS), columns_of = tn_ll_dim(&k->body, across);
  ll_if_begin(e, &inside, ll_icmp(e, LLVMIntSLT, p, tn_ll_dim(&k->body, all)));
  tn_ll_body_forget(&k->body);
  ll_val row = ll_udiv(e, p, columns_of), rows = tn_ll_dim(&k->body, x->m_dim);
  x->batch = ll_udiv(e, row, rows);
  x->m0 = LLVMBuildTrunc(e->b, ll_urem(e, row, rows), e->i32, "");
  x->n0 = LLVMBuildTrunc(e->b, ll_imul(e, ll_urem(e, p, columns_of), ll_k(e, wide)), e->i32, "");
  add_parts(x, wide, x->m0, x->n0, &sums);
  x->sums = give_joined;
  x->ctx = &sums;
  tn_cuda_mm_put(x, wide, ll_int(e, e->i32, 0), ll_int(e, e->i32, 0));
  ll_if_end(e, &inside);
  tn_cuda_launch_end(k);
}
