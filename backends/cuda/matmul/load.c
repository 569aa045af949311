/* load.c - operands of a product on their way into tiles: chunks of a plain buffer are copied as they are,
 * all else (other types, block formats, views, rows that begin anywhere) is evaluated and converted. */
#include "backends/cuda/matmul/blocks.h"
#include "backends/cuda/matmul/matmul.h"
#include "backends/llvm/convert.h"

bool tn_cuda_mm_along_k(const tn_cuda_mm *x, bool is_rhs) { return is_rhs ? x->trans_b : !x->trans_a; }

static uint32_t chunk_elements(tn_dtype stage) { return TN_CUDA_CHUNK_BYTES / tn_ll_dtype_of(stage).bytes; }

/* Is the size along which the operand's memory runs a known multiple of n? */
static bool lines_of(tn_cuda_mm *x, bool is_rhs, int64_t n) {
  const tn_type_info *t = is_rhs ? &x->tr : &x->tl;
  bool halves = is_rhs && x->pair && !x->trans_b; /* each begins anew */
  return tn_ll_dim_multiple(&x->k->body, t->dims[t->rank - 1], n) &&
         (!halves || tn_ll_dim_multiple(&x->k->body, x->n_dim, n));
}

bool tn_cuda_mm_direct(tn_cuda_mm *x, bool is_rhs, tn_dtype stage) {
  const tn_type_info *t = is_rhs ? &x->tr : &x->tl;
  uint32_t none = UINT32_MAX, number = none; /* the buffers' addresses are only there within a launch */
  (void)tn_cuda_buffer(x->k, is_rhs ? x->rhs : x->lhs, &number);
  if (x->staged[is_rhs].used) return true;
  return t->dtype == stage && !t->layout && number != none && lines_of(x, is_rhs, chunk_elements(stage));
}

/* Leading coordinates of an operand in the block's batch; operands broadcast from the right. */
static void leading(tn_cuda_mm_load *l, tn_ll_index *ix) {
  tn_cuda_mm *x = l->x;
  tn_ll_index at = {0};
  if (l->t.rank == 2) return;
  tn_cuda_mm_coordinates(x, ll_k(x->k->e, 0), &at);
  for (uint32_t i = 0; i + 2 < l->t.rank; i++) {
    int64_t n;
    bool one = tn_ll_dim_const(&x->k->body, l->t.dims[i], &n) && n == 1;
    ix->at[i] = one ? tn_ll_ix_scalar(ll_k(x->k->e, 0)) : at.at[i + x->to.rank - l->t.rank];
  }
}

/* Of a staged operand: the batch's first line in scratch. */
static ll_val staged_base(tn_cuda_mm_load *l, const tn_ll_index *ix) {
  tn_cuda_mm *x = l->x;
  tn_ll *e = x->k->e;
  ll_val line = ll_k(e, 0);
  for (uint32_t i = 0; i + 1 < l->t.rank; i++)
    line = ll_iadd(e, ll_imul(e, line, tn_ll_dim(&x->k->body, l->t.dims[i])), ix->at[i].v);
  ll_val bytes = ll_imul(e, l->line, ll_k(e, tn_ll_dtype_of(l->stage).bytes));
  return ll_at(e, tn_cuda_scratch_at(x->k, x->staged[l->is_rhs].at), ll_imul(e, line, bytes));
}

static void find_base(tn_cuda_mm_load *l) {
  tn_cuda_mm *x = l->x;
  tn_ll_index ix = {.rank = l->t.rank};
  const tn_cuda_mm_staged *staged = &x->staged[l->is_rhs];
  ll_val buffer = tn_cuda_buffer(x->k, l->v, NULL), base;
  l->line = tn_ll_dim(&x->k->body, staged->used ? staged->line : l->t.dims[l->t.rank - 1]);
  if (!staged->used && (!buffer || l->t.dtype >= TN_DT_BLOCK || l->t.layout)) return;
  for (uint32_t i = 0; i < l->t.rank; i++) ix.at[i] = tn_ll_ix_scalar(ll_k(x->k->e, 0));
  if (!x->flat || l->is_rhs) leading(l, &ix);
  base = staged->used ? staged_base(l, &ix) : tn_ll_address(&x->k->body, l->v, buffer, &ix);
  l->base = tn_cuda_global(x->k, base);
}

void tn_cuda_mm_load_init(tn_cuda_mm_load *l, tn_cuda_mm *x, bool is_rhs, tn_dtype stage, uint32_t lanes,
                          uint32_t step, uint32_t paired) {
  *l = (tn_cuda_mm_load){.x = x, .is_rhs = is_rhs, .stage = stage, .lanes = lanes, .step = step};
  l->v = is_rhs ? x->rhs : x->lhs;
  l->t = is_rhs ? x->tr : x->tl;
  l->along_k = tn_cuda_mm_along_k(x, is_rhs);
  l->paired = is_rhs && x->pair ? paired : 0;
  l->depth = x->k_end;
  find_base(l);
}

/* i64, of a number that is never negative */
static ll_val wide(tn_cuda_mm_load *l, ll_val v) { return tn_cuda_i64(l->x->k, v); }
static ll_val i32(tn_cuda_mm_load *l, int64_t v) { return ll_int(l->x->k->e, l->x->k->e->i32, v); }

/* Column of the result that row `row` of a tile of pairs belongs to, from the tile's first one. */
static ll_val paired_column(tn_cuda_mm_load *l, ll_val row) {
  tn_ll *e = l->x->k->e;
  ll_val both = i32(l, l->paired), half = i32(l, l->paired / 2);
  return ll_add(e, ll_mul(e, ll_udiv(e, row, both), half), ll_urem(e, row, half));
}

/* The thread's first chunk: its row in the operand's matrix, how many rows there are behind the row's half's
 * first one, and where it begins in the step at k = 0. */
static void open_first(tn_cuda_mm_load *l, ll_val row, ll_val k) {
  tn_cuda_mm *x = l->x;
  tn_ll *e = x->k->e;
  ll_val first = l->is_rhs ? x->n0 : x->m0, all = l->is_rhs ? x->n : x->m;
  ll_val at = ll_iadd(e, first, l->paired ? paired_column(l, row) : row);
  l->left = ll_sub(e, all, at);
  l->row0 = at;
  if (l->paired) {
    ll_val within = ll_urem(e, row, i32(l, l->paired));
    ll_val second = ll_icmp(e, LLVMIntUGE, within, i32(l, l->paired / 2));
    l->row0 = ll_select(e, second, ll_iadd(e, at, x->n), at);
  }
  if (!l->base) return;
  ll_val size = ll_k(e, tn_ll_dtype_of(l->stage).bytes);
  ll_val start = ll_imul(e, wide(l, l->along_k ? l->row0 : k), l->line);
  start = ll_iadd(e, start, wide(l, l->along_k ? k : l->row0));
  l->start = ll_at(e, l->base, ll_imul(e, start, size));
}

/* Chunks that are rows further: `lines` is a power of 2 times the chunk's number, and so is half a pair, so
 * that the way from the first chunk does not depend on the thread. */
void tn_cuda_mm_load_open(void *ctx, uint32_t chunk, uint32_t lines, ll_val row, ll_val k) {
  tn_cuda_mm_load *l = ctx;
  tn_ll *e = l->x->k->e;
  if (!chunk) open_first(l, row, k);
  uint32_t on = l->along_k ? lines : 0, half = l->paired / 2;
  bool other = l->paired && on % l->paired >= half;
  if (l->paired) on = on / l->paired * half + on % half;
  l->columns_on[chunk] = on;
  l->lines_on[chunk] = ll_k(e, l->along_k ? on : lines);
  l->row[chunk] = ll_iadd(e, l->row0, i32(l, on));
  if (other) {
    l->lines_on[chunk] = ll_iadd(e, l->lines_on[chunk], tn_ll_dim(&l->x->k->body, l->x->n_dim));
    l->row[chunk] = ll_iadd(e, l->row[chunk], l->x->n);
  }
  l->k[chunk] = k;
}

/* Is the chunk inside the matrix at k? Nothing that lives through the loop but `left`: all is asked anew. */
static ll_val inside(tn_cuda_mm_load *l, uint32_t chunk, ll_val k) {
  tn_ll *e = l->x->k->e;
  ll_val step = ll_icmp(e, LLVMIntSLT, k, l->depth);
  if (l->is_rhs ? l->x->whole_n : l->x->whole_m) return step;
  return ll_icmp(e, LLVMIntSGT, ll_select(e, step, l->left, i32(l, 0)), i32(l, l->columns_on[chunk]));
}

ll_val tn_cuda_mm_load_address(void *ctx, uint32_t chunk, ll_val k0, ll_val *valid) {
  tn_cuda_mm_load *l = ctx;
  tn_ll *e = l->x->k->e;
  ll_val size = ll_k(e, tn_ll_dtype_of(l->stage).bytes);
  ll_val line = ll_imul(e, l->line, size);
  bool whole = tn_ll_dim_multiple(&l->x->k->body, l->x->k_dim, l->step);
  k0 = l->again ? ll_urem(e, k0, l->again) : ll_iadd(e, k0, l->x->k_first);
  *valid = inside(l, chunk, whole ? k0 : ll_iadd(e, k0, l->k[chunk]));
  ll_val p = ll_at(e, l->start, ll_imul(e, wide(l, k0), l->along_k ? size : line));
  return ll_at(e, p, ll_imul(e, l->lines_on[chunk], line));
}

/* ---- evaluated ------------------------------------------------------------------------------------------
 */

/* The index of the operand's element (row, k). */
static tn_ll_index index_of(tn_cuda_mm_load *l, ll_val row, tn_ll_ix line, tn_ll_ix along) {
  tn_ll_index ix = {.rank = l->t.rank, .shape = l->t.dims};
  if (l->x->flat && !l->is_rhs) {
    tn_cuda_mm_coordinates(l->x, wide(l, row), &ix);
    ix.flat = wide(l, row);
  } else {
    leading(l, &ix);
    ix.at[l->t.rank - 2] = line;
  }
  ix.at[l->t.rank - 1] = along;
  return ix;
}

ll_val tn_cuda_mm_convert(tn_cuda_kernel *k, tn_dtype from, tn_dtype stage, ll_val v) {
  tn_ll *e = k->e;
  if (from >= TN_DT_BLOCK) from = TN_DT_f32;
  if (stage == TN_DT_i32 && tn_ll_dtype_of(from).cls == TN_CLASS_FLOAT)
    return LLVMBuildFPToSI(e->b, v, ll_like(e, v, e->i32), "");
  if (from == stage) return stage == TN_DT_f16 ? ll_cast_bits(e, v, ll_like(e, v, e->i16)) : v;
  if (stage != TN_DT_bf16 && stage != TN_DT_f16) return tn_ll_convert(e, from, stage, v);
  ll_val (*pack)(tn_cuda_kernel *, ll_val, ll_val) =
      stage == TN_DT_f16 ? tn_cuda_pack_f16 : tn_cuda_pack_bf16;
  v = tn_ll_to_f32(e, from, v);
  if (!ll_is_vec(v)) return LLVMBuildTrunc(e->b, pack(k, v, v), e->i16, "");
  ll_val r = LLVMGetPoison(LLVMVectorType(e->i32, e->lanes / 2));
  for (uint32_t i = 0; i < e->lanes; i += 2)
    r = ll_put(e, r, pack(k, ll_lane(e, v, i), ll_lane(e, v, i + 1)), i / 2);
  return ll_cast_bits(e, r, ll_vec(e, e->i16));
}

static ll_val all_at_once(tn_cuda_mm_load *l, uint32_t chunk, ll_val k) {
  tn_ll *e = l->x->k->e;
  tn_ll_ix row = tn_ll_ix_scalar(wide(l, l->row[chunk])), at_k = tn_ll_ix_scalar(wide(l, k));
  ll_val ok = inside(l, chunk, k);
  (l->along_k ? &at_k : &row)->kind = TN_IX_LANES;
  (l->along_k ? &at_k : &row)->aligned = 1;
  tn_ll_index ix = index_of(l, l->row[chunk], l->along_k ? row : at_k, l->along_k ? at_k : row);
  ix.pred = ok;
  ll_val v = tn_cuda_mm_convert(l->x->k, l->t.dtype, l->stage,
                                ll_wide(e, tn_ll_eval(&l->x->k->body, l->v, &ix), true));
  return ll_select(e, ok, v, LLVMConstNull(LLVMTypeOf(v)));
}

static ll_val one_by_one(tn_cuda_mm_load *l, uint32_t chunk, ll_val k) {
  tn_ll *e = l->x->k->e;
  ll_val r = NULL;
  for (uint32_t j = 0; j < l->lanes; j++) {
    ll_val on = ll_int(e, e->i32, j), row = l->row[chunk], at = k, ok = inside(l, chunk, k);
    if (l->along_k) {
      at = ll_iadd(e, k, on);
      ok = inside(l, chunk, at);
    } else if (j) { /* not of a pair: its halves are whole numbers of chunks */
      row = ll_iadd(e, row, on);
      ok = ll_and(e, ok, ll_icmp(e, LLVMIntSLT, row, l->is_rhs ? l->x->n : l->x->m));
    }
    tn_ll_ix sr = tn_ll_ix_scalar(wide(l, row)), sk = tn_ll_ix_scalar(wide(l, at));
    tn_ll_index ix = index_of(l, row, l->along_k ? sr : sk, l->along_k ? sk : sr);
    ix.pred = ok;
    ll_val v = tn_cuda_mm_convert(l->x->k, l->t.dtype, l->stage, tn_ll_eval(&l->x->k->body, l->v, &ix));
    v = ll_select(e, ok, v, LLVMConstNull(LLVMTypeOf(v)));
    if (!r) r = LLVMGetPoison(LLVMVectorType(LLVMTypeOf(v), l->lanes));
    r = ll_put(e, r, v, j);
  }
  return r;
}

bool tn_cuda_mm_in_blocks(tn_cuda_mm *x, bool is_rhs) {
  const tn_type_info *t = is_rhs ? &x->tr : &x->tl;
  const tn_quant *q = t->dtype >= TN_DT_BLOCK && !t->layout ? tn_quant_of(t->dtype) : NULL;
  uint32_t none = UINT32_MAX, number = none;
  int64_t line;
  if (!q || !tn_cuda_block_chunk_takes(q)) return false;
  (void)tn_cuda_buffer(x->k, is_rhs ? x->rhs : x->lhs, &number);
  return number != none && tn_ll_dim_const(&x->k->body, t->dims[t->rank - 1], &line) && line > 0;
}

/* The chunk of a block format. */
static ll_val of_block(tn_cuda_mm_load *l, uint32_t chunk, ll_val k) {
  tn_cuda_mm *x = l->x;
  tn_ll *e = x->k->e;
  ll_val row = wide(l, l->row[chunk]), at_k = wide(l, k), line = ll_k(e, 0), ok = inside(l, chunk, k);
  tn_ll_index ix = {0};
  leading(l, &ix);
  for (uint32_t i = 0; i + 2 < l->t.rank; i++)
    line = ll_iadd(e, ll_imul(e, line, tn_ll_dim(&x->k->body, l->t.dims[i])), ix.at[i].v);
  line = ll_imul(e, line, tn_ll_dim(&x->k->body, l->t.dims[l->t.rank - 2]));
  line = ll_iadd(e, line, l->along_k ? row : at_k);
  ll_val v = tn_cuda_block_chunk(x->k, l->v, line, l->along_k ? at_k : row, ok);
  v = tn_cuda_mm_convert(x->k, TN_DT_f32, l->stage, v);
  return ll_select(e, ok, v, ll_zero(LLVMTypeOf(v)));
}

ll_val tn_cuda_mm_load_values(void *ctx, uint32_t chunk, ll_val k0) {
  tn_cuda_mm_load *l = ctx;
  tn_ll *e = l->x->k->e;
  uint32_t before = e->lanes;
  ll_val k = ll_iadd(e, ll_iadd(e, k0, l->k[chunk]), l->x->k_first);
  e->lanes = l->lanes;
  tn_ll_body_forget(&l->x->k->body);
  bool whole = lines_of(l->x, l->is_rhs, l->lanes), blocks = l->is_rhs && l->lanes == TN_CUDA_BLOCK_CHUNK;
  blocks = blocks && whole && tn_cuda_mm_in_blocks(l->x, true);
  ll_val v = blocks ? of_block(l, chunk, k) : (whole ? all_at_once : one_by_one)(l, chunk, k);
  tn_ll_body_forget(&l->x->k->body);
  e->lanes = before;
  return v;
}
