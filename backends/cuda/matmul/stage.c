/* stage.c - an operand that tensor cores cannot take as it lies in memory, written to scratch in their type
 * once, before the product: rows keep their order and are filled up with zeros to whole chunks. For many
 * tiles, which would all convert the same values. */
#include "backends/cuda/matmul/blocks.h"
#include "backends/cuda/matmul/matmul.h"
#include "backends/llvm/convert.h"

enum { THREADS = 256, MOST = 1 << 29 /* bytes of a staged operand */ };

typedef struct stage {
  tn_cuda_mm *x;
  tn_value v;
  tn_type_info t;
  tn_dtype type;
  bool is_rhs;
  uint32_t lanes, terms;
} stage;

/* The operand's element at column `j` of line `line`; i64. */
static tn_ll_index index_of(stage *s, ll_val line, tn_ll_ix j) {
  tn_ll *e = s->x->k->e;
  uint32_t last = s->t.rank - 1;
  tn_ll_index ix = {.rank = s->t.rank, .shape = s->t.dims, .flat = line};
  for (uint32_t i = last; i-- > 0;) {
    ll_val size = tn_ll_dim(&s->x->k->body, s->t.dims[i]);
    ix.at[i] = tn_ll_ix_scalar(i ? ll_imod(e, line, size) : line);
    line = i ? ll_idiv(e, line, size) : line;
  }
  ix.at[last] = j;
  return ix;
}

/* A chunk's elements one by one: zeros behind the line's end. */
static ll_val one_by_one(stage *s, ll_val line, ll_val j) {
  tn_ll *e = s->x->k->e;
  ll_val r = NULL, size = tn_ll_dim(&s->x->k->body, s->t.dims[s->t.rank - 1]);
  for (uint32_t i = 0; i < s->lanes; i++) {
    ll_val at = ll_iadd(e, j, ll_k(e, i)), in = ll_icmp(e, LLVMIntSLT, at, size);
    tn_ll_index ix = index_of(s, line, tn_ll_ix_scalar(at));
    ix.pred = in;
    ll_val v = tn_cuda_mm_convert(s->x->k, s->t.dtype, s->terms > 1 ? TN_DT_f32 : s->type,
                                  tn_ll_eval(&s->x->k->body, s->v, &ix));
    if (!r) r = LLVMGetPoison(LLVMVectorType(LLVMTypeOf(v), s->lanes));
    r = ll_put(e, r, ll_select(e, in, v, ll_zero(LLVMTypeOf(v))), i);
  }
  return r;
}

static ll_val chunk(stage *s, ll_val line, ll_val j) {
  tn_ll *e = s->x->k->e;
  if (s->lanes == TN_CUDA_BLOCK_CHUNK && tn_cuda_mm_in_blocks(s->x, s->is_rhs))
    return tn_cuda_mm_convert(s->x->k, TN_DT_f32, s->type, tn_cuda_block_chunk(s->x->k, s->v, line, j, NULL));
  if (!tn_ll_dim_multiple(&s->x->k->body, s->t.dims[s->t.rank - 1], s->lanes)) return one_by_one(s, line, j);
  tn_ll_index ix = index_of(s, line, tn_ll_ix_lanes(j, true));
  if (s->terms > 1) ix.pred = ll_icmp(e, LLVMIntSLT, j, tn_ll_dim(&s->x->k->body, s->t.dims[s->t.rank - 1]));
  ll_val v = ll_wide(e, tn_ll_eval(&s->x->k->body, s->v, &ix), true);
  v = tn_cuda_mm_convert(s->x->k, s->t.dtype, s->terms > 1 ? TN_DT_f32 : s->type, v);
  return ix.pred ? ll_select(e, ix.pred, v, ll_zero(LLVMTypeOf(v))) : v;
}

/* Takes the upper 16 bits of f32 away from *v: they are a bf16, and what remains is exact. NaN and infinities
 * are their own first term, the others are 0 then. */
static ll_val take_term(tn_ll *e, ll_val *v) {
  ll_val bits = ll_cast_bits(e, *v, ll_like(e, *v, e->i32)), zero = ll_zero(LLVMTypeOf(*v));
  ll_val nan = ll_fcmp(e, LLVMRealUNO, *v, *v);
  bits = ll_select(e, nan, ll_or(e, bits, ll_i(e, bits, 0x400000)), bits);
  bits = ll_and(e, bits, ll_i(e, bits, 0xffff0000));
  ll_val term = ll_cast_bits(e, bits, LLVMTypeOf(*v)), left = ll_fsub(e, *v, term);
  *v = ll_select(e, ll_fcmp(e, LLVMRealORD, left, left), left, zero);
  return LLVMBuildTrunc(e->b, ll_lshr(e, bits, ll_i(e, bits, 16)), ll_like(e, bits, e->i16), "");
}

/* Chunk c of line `line`: terms of a line lie one behind the other, `chunks` each. */
static void store_terms(stage *s, ll_val v, ll_val line, ll_val c, ll_val chunks) {
  tn_ll *e = s->x->k->e;
  ll_val base = tn_cuda_scratch_at(s->x->k, s->x->staged[s->is_rhs].at);
  ll_val at = ll_iadd(e, ll_imul(e, ll_imul(e, line, chunks), ll_k(e, s->terms)), c);
  for (uint32_t i = 0; i < s->terms; i++) {
    ll_val to = ll_at(e, base, ll_imul(e, at, ll_k(e, TN_CUDA_CHUNK_BYTES)));
    ll_store(e, s->terms > 1 ? take_term(e, &v) : v, to, TN_CUDA_CHUNK_BYTES);
    at = ll_iadd(e, at, chunks);
  }
}

/* Makes room for `all` chunks of the operand, each as many times as there are terms. */
static void make_room(stage *s, tn_dim chunks, tn_dim all, tn_dim when) {
  tn_cuda_kernel *k = s->x->k;
  tn_cuda_mm_staged *out = &s->x->staged[s->is_rhs];
  tn_dim bytes = tn_cuda_dim_mul(k, all, tn_cuda_dim_k(k, (int64_t)TN_CUDA_CHUNK_BYTES * s->terms));
  out->term = tn_cuda_dim_mul(k, chunks, tn_cuda_dim_k(k, s->lanes));
  out->line = tn_cuda_dim_mul(k, out->term, tn_cuda_dim_k(k, s->terms));
  out->at = tn_cuda_scratch(k, tn_cuda_dim_mul(k, when, bytes));
  out->used = true;
}

bool tn_cuda_mm_stageable(tn_cuda_mm *x, bool is_rhs, tn_dtype type) {
  const tn_type_info *t = is_rhs ? &x->tr : &x->tl;
  int64_t size, all = tn_ll_dtype_of(type).bytes;
  for (uint32_t i = 0; i < t->rank; i++)
    if (tn_ll_dim_const(&x->k->body, t->dims[i], &size) && __builtin_mul_overflow(all, size, &all))
      return false;
  return all <= MOST;
}

void tn_cuda_mm_stage(tn_cuda_mm *x, bool is_rhs, tn_dtype type, uint32_t terms, tn_dim when) {
  tn_cuda_kernel *k = x->k;
  tn_ll *e = k->e;
  stage s = {
      .x = x, .v = is_rhs ? x->rhs : x->lhs, .t = is_rhs ? x->tr : x->tl, .type = type, .terms = terms};
  s.is_rhs = is_rhs;
  s.lanes = TN_CUDA_CHUNK_BYTES / tn_ll_dtype_of(type).bytes;
  uint32_t last = s.t.rank - 1, before = e->lanes, whole = terms > 1 ? TN_CUDA_MM_TERM / s.lanes : 1;
  tn_dim chunks = tn_cuda_dim_ceildiv(k, s.t.dims[last], (int64_t)s.lanes * whole);
  chunks = tn_cuda_dim_mul(k, chunks, tn_cuda_dim_k(k, whole));
  tn_dim all = tn_cuda_dim_mul(k, tn_cuda_dim_count(k, &s.t, 0, last), chunks);
  make_room(&s, chunks, all, when);
  tn_cuda_shape shape = {.threads = THREADS,
                         .grid = {tn_cuda_dim_mul(k, tn_cuda_dim_ceildiv(k, all, THREADS), when)}};
  e->lanes = s.lanes;
  tn_cuda_launch_begin(k, &shape);
  ll_val p = tn_cuda_position(k, THREADS), across = tn_ll_dim(&k->body, chunks);
  ll_if inside;
  ll_if_begin(e, &inside, ll_icmp(e, LLVMIntSLT, p, tn_ll_dim(&k->body, all)));
  tn_ll_body_forget(&k->body);
  ll_val line = ll_udiv(e, p, across), c = ll_urem(e, p, across);
  store_terms(&s, chunk(&s, line, ll_imul(e, c, ll_k(e, s.lanes))), line, c, across);
  ll_if_end(e, &inside);
  tn_cuda_launch_end(k);
  e->lanes = before;
}
