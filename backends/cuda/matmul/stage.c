/* stage.c - an operand that tensor cores cannot take as it lies in memory, written to scratch in their type
 * once, before the product: rows keep their order and are filled up with zeros to whole chunks. For many
 * tiles, which would all convert the same values. */
#include "backends/cuda/matmul/matmul.h"
#include "backends/llvm/convert.h"

enum { THREADS = 256 };

typedef struct stage {
  tn_cuda_mm *x;
  tn_value v;
  tn_type_info t;
  tn_dtype type;
  uint32_t lanes;
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
    ll_val v = tn_cuda_mm_convert(s->x->k, s->t.dtype, s->type, tn_ll_eval(&s->x->k->body, s->v, &ix));
    if (!r) r = LLVMGetPoison(LLVMVectorType(LLVMTypeOf(v), s->lanes));
    r = ll_put(e, r, ll_select(e, in, v, ll_zero(LLVMTypeOf(v))), i);
  }
  return r;
}

static ll_val chunk(stage *s, ll_val line, ll_val j) {
  tn_ll *e = s->x->k->e;
  if (!tn_ll_dim_multiple(&s->x->k->body, s->t.dims[s->t.rank - 1], s->lanes)) return one_by_one(s, line, j);
  tn_ll_index ix = index_of(s, line, tn_ll_ix_lanes(j, true));
  ll_val v = ll_wide(e, tn_ll_eval(&s->x->k->body, s->v, &ix), true);
  return tn_cuda_mm_convert(s->x->k, s->t.dtype, s->type, v);
}

void tn_cuda_mm_stage(tn_cuda_mm *x, bool is_rhs, tn_dtype type, tn_dim when) {
  tn_cuda_kernel *k = x->k;
  tn_ll *e = k->e;
  stage s = {.x = x, .v = is_rhs ? x->rhs : x->lhs, .t = is_rhs ? x->tr : x->tl, .type = type};
  s.lanes = TN_CUDA_CHUNK_BYTES / tn_ll_dtype_of(type).bytes;
  uint32_t last = s.t.rank - 1, before = e->lanes;
  tn_dim chunks = tn_cuda_dim_ceildiv(k, s.t.dims[last], s.lanes);
  tn_dim all = tn_cuda_dim_mul(k, tn_cuda_dim_count(k, &s.t, 0, last), chunks);
  tn_cuda_mm_staged *out = &x->staged[is_rhs];
  out->line = tn_cuda_dim_mul(k, chunks, tn_cuda_dim_k(k, s.lanes));
  out->at = tn_cuda_scratch(
      k, tn_cuda_dim_mul(k, when, tn_cuda_dim_mul(k, all, tn_cuda_dim_k(k, TN_CUDA_CHUNK_BYTES))));
  out->used = true;
  tn_cuda_shape shape = {.threads = THREADS,
                         .grid = {tn_cuda_dim_mul(k, tn_cuda_dim_ceildiv(k, all, THREADS), when)}};
  e->lanes = s.lanes;
  tn_cuda_launch_begin(k, &shape);
  ll_val p = tn_cuda_position(k, THREADS), across = tn_ll_dim(&k->body, chunks);
  ll_if inside;
  ll_if_begin(e, &inside, ll_icmp(e, LLVMIntSLT, p, tn_ll_dim(&k->body, all)));
  tn_ll_body_forget(&k->body);
  ll_val v = chunk(&s, ll_udiv(e, p, across), ll_imul(e, ll_urem(e, p, across), ll_k(e, s.lanes)));
  ll_val to = ll_at(e, tn_cuda_scratch_at(k, out->at), ll_imul(e, p, ll_k(e, TN_CUDA_CHUNK_BYTES)));
  ll_store(e, v, to, TN_CUDA_CHUNK_BYTES);
  ll_if_end(e, &inside);
  tn_cuda_launch_end(k);
  e->lanes = before;
}
