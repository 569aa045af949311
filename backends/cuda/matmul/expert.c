/* expert.c - expert_matmul: every token with matrices of its own. A slot is a token with one of its experts.
 * A few slots are products of one row each, over stream.h. More of them are sorted by expert first, in a
 * launch of one block, and cut into items of up to TILE slots of one expert, so that the expert's weights are
 * read once for all of an item. Slots whose expert does not exist are items too, with nothing to add up. */
#include "backends/cuda/matmul/gemv.h"
#include "backends/cuda/matmul/stream.h"
#include "backends/cuda/warp.h"
#include "backends/llvm/convert.h"

enum {
  FEW = 32,            /* slots that are not sorted */
  TILE = 8,            /* slots of an item */
  SORTERS = 1024,      /* threads of the block that sorts */
  MOST_EXPERTS = 4096, /* whose counts fit into its shared memory */
  ITEM = 16            /* bytes: expert, first place, slots */
};

typedef struct experts {
  tn_cuda_stream s;
  tn_cuda_kernel *k;
  tn_value x, ids, out;
  tn_type_info tx, ti, to;
  tn_dim slots;
  int64_t count;       /* of experts; sorting needs to know it */
  tn_dim order, items; /* scratch: slots (i32) by expert; the number of items (i32), then items behind it */
  ll_val first, slot[TILE]; /* of the block: place of its first slot in the order; its slots, i32 */
  ll_val t, c;              /* of the element being finished: i32 */
  bool sorted;              /* on the path being written */
} experts;

static ll_val i32(experts *x, int64_t v) { return LLVMConstInt(x->k->e->i32, (uint64_t)v, 1); }
static ll_val used(experts *x) {
  return LLVMBuildTrunc(x->k->e->b, tn_ll_dim(&x->k->body, x->ti.dims[1]), x->k->e->i32, "");
}

/* The expert of a slot (i32), as i64; `count` if it does not exist. */
static ll_val expert_of(experts *x, ll_val slot) {
  tn_ll *e = x->k->e;
  tn_ll_index ix = {.rank = 2, .shape = x->ti.dims};
  ll_val count = tn_ll_dim(&x->k->body, x->s.tw.dims[0]);
  ix.at[0] = tn_ll_ix_scalar(tn_cuda_i64(x->k, ll_udiv(e, slot, used(x))));
  ix.at[1] = tn_ll_ix_scalar(tn_cuda_i64(x->k, ll_urem(e, slot, used(x))));
  ll_val id = tn_ll_convert(e, x->ti.dtype, TN_DT_i64, tn_ll_eval(&x->k->body, x->ids, &ix));
  return ll_select(e, ll_icmp(e, LLVMIntULT, id, count), id, count);
}

/* ---- products ------------------------------------------------------------------------------------------ */

static ll_val row_value(void *ctx, uint32_t t, tn_ll_ix j, ll_val mask) {
  experts *x = ctx;
  tn_ll *e = x->k->e;
  tn_ll_index ix = {.rank = x->tx.rank, .shape = x->tx.dims, .mask = mask};
  ix.at[0] = tn_ll_ix_scalar(tn_cuda_i64(x->k, ll_udiv(e, x->slot[t], used(x))));
  if (x->tx.rank == 3) ix.at[1] = tn_ll_ix_scalar(tn_cuda_i64(x->k, ll_urem(e, x->slot[t], used(x))));
  ix.at[x->tx.rank - 1] = j;
  return ll_wide(e, tn_ll_eval_f32(&x->k->body, x->x, &ix), true);
}
static ll_val product(void *ctx, const tn_ll_index *ix) {
  experts *x = ctx;
  (void)ix; /* the element that is being finished */
  return tn_cuda_stream_sum(&x->s, x->t, x->c, 0);
}

static ll_val scratch_word(experts *x, tn_dim at, ll_val index) {
  tn_ll *e = x->k->e;
  return ll_at(e, tn_cuda_scratch_at(x->k, at), tn_cuda_i64(x->k, ll_shl(e, index, i32(x, 2))));
}
static ll_val ordered(experts *x, ll_val place) {
  return ll_load(x->k->e, x->k->e->i32, scratch_word(x, x->order, place), 4);
}

static ll_val slot_of(experts *x, ll_val t) {
  return x->sorted ? ordered(x, ll_iadd(x->k->e, x->first, t)) : x->slot[0];
}

/* The epilogue of the block's elements; n: its slots. */
static void finish(experts *x, ll_val n) {
  tn_ll *e = x->k->e;
  ll_loop l;
  ll_if inside;
  ll_val columns = i32(x, x->s.columns), all = ll_mul(e, n, columns);
  ll_loop_begin(e, &l, tn_cuda_thread(x->k), all, i32(x, TN_CUDA_STREAM_THREADS), NULL, 0);
  x->t = ll_udiv(e, l.iv, columns);
  x->c = ll_urem(e, l.iv, columns);
  ll_val column = ll_iadd(e, x->s.n0, tn_cuda_i64(x->k, x->c));
  ll_if_begin(e, &inside, ll_icmp(e, LLVMIntSLT, column, tn_ll_dim(&x->k->body, x->s.n)));
  tn_ll_body_forget(&x->k->body);
  ll_val slot = slot_of(x, x->t);
  tn_ll_index ix = {.rank = 3, .shape = x->to.dims};
  ix.at[0] = tn_ll_ix_scalar(tn_cuda_i64(x->k, ll_udiv(e, slot, used(x))));
  ix.at[1] = tn_ll_ix_scalar(tn_cuda_i64(x->k, ll_urem(e, slot, used(x))));
  ix.at[2] = tn_ll_ix_scalar(column);
  tn_cuda_store_yields(x->k, &ix);
  ll_if_end(e, &inside);
  ll_loop_end(e, &l, NULL);
  tn_ll_body_forget(&x->k->body);
}

/* The products of the block's slots with `expert` (i64), and what follows them. */
static void multiply(experts *x, ll_val expert, ll_val n) {
  tn_ll *e = x->k->e;
  ll_val there = ll_icmp(e, LLVMIntULT, expert, tn_ll_dim(&x->k->body, x->s.tw.dims[0]));
  x->s.at = (tn_ll_index){.rank = 3};
  x->s.at.at[0] = tn_ll_ix_scalar(ll_select(e, there, expert, ll_k(e, 0)));
  x->s.k_end = ll_select(e, there, tn_ll_dim(&x->k->body, x->s.depth), ll_k(e, 0));
  tn_cuda_stream_run(&x->s);
  finish(x, n);
}

static tn_cuda_shape shape_of(experts *x, tn_dim groups, uint32_t tile) {
  tn_cuda_kernel *k = x->k;
  x->s.tile = tile;
  tn_cuda_stream_plan(&x->s);
  tn_dim across = tn_cuda_dim_ceildiv(k, x->s.n, x->s.columns);
  return (tn_cuda_shape){
      .threads = TN_CUDA_STREAM_THREADS, .min_blocks = 1, .grid = {tn_cuda_dim_mul(k, across, groups)}};
}
/* The block's columns, and its group of slots: i32. */
static ll_val open_block(experts *x) {
  tn_ll *e = x->k->e;
  tn_dim across = tn_cuda_dim_ceildiv(x->k, x->s.n, x->s.columns);
  ll_val wide = LLVMBuildTrunc(e->b, tn_ll_dim(&x->k->body, across), e->i32, ""),
         block = tn_cuda_block(x->k, 0);
  x->s.n0 = tn_cuda_i64(x->k, ll_mul(e, ll_urem(e, block, wide), i32(x, x->s.columns)));
  return ll_udiv(e, block, wide);
}

static void write_single(experts *x, tn_dim when) {
  tn_cuda_kernel *k = x->k;
  if (tn_cuda_never(k, when)) return;
  tn_cuda_shape shape = shape_of(x, tn_cuda_dim_mul(k, x->slots, when), 1);
  x->sorted = false;
  tn_cuda_launch_begin(k, &shape);
  x->slot[0] = open_block(x);
  multiply(x, expert_of(x, x->slot[0]), i32(x, 1));
  tn_cuda_launch_end(k);
}

/* ---- items --------------------------------------------------------------------------------------------- */

static ll_val item_at(experts *x, ll_val i) {
  tn_ll *e = x->k->e;
  ll_val bytes = ll_iadd(e, ll_mul(e, i, i32(x, ITEM)), i32(x, ITEM));
  return ll_at(e, tn_cuda_scratch_at(x->k, x->items), tn_cuda_i64(x->k, bytes));
}
static tn_dim most_items(experts *x) {
  tn_dim whole = tn_cuda_dim_ceildiv(x->k, x->slots, TILE);
  return tn_cuda_dim_add(x->k, whole, tn_cuda_dim_k(x->k, x->count + 1));
}

static void write_items(experts *x, tn_dim when) {
  tn_cuda_kernel *k = x->k;
  tn_ll *e = k->e;
  ll_if some;
  tn_cuda_shape shape = shape_of(x, tn_cuda_dim_mul(k, most_items(x), when), TILE);
  x->sorted = true;
  tn_cuda_launch_begin(k, &shape);
  ll_val item = open_block(x), all = ll_load(e, e->i32, tn_cuda_scratch_at(k, x->items), 4);
  ll_if_begin(e, &some, ll_icmp(e, LLVMIntULT, item, all));
  tn_ll_body_forget(&k->body);
  ll_val row = ll_load(e, LLVMVectorType(e->i32, 4), item_at(x, item), 16), n = ll_lane(e, row, 2);
  x->first = ll_lane(e, row, 1);
  for (uint32_t t = 0; t < TILE; t++) {
    ll_val last = ll_imin(e, i32(x, t), ll_sub(e, n, i32(x, 1)));
    x->slot[t] = ordered(x, ll_iadd(e, x->first, last));
  }
  multiply(x, tn_cuda_i64(k, ll_lane(e, row, 0)), n);
  ll_if_end(e, &some);
  tn_cuda_launch_end(k);
}

/* ---- the sort ------------------------------------------------------------------------------------------ */

static ll_val counter(experts *x, ll_val table, ll_val i) {
  return ll_at(x->k->e, table, ll_shl(x->k->e, i, i32(x, 2)));
}
static ll_val take_place(experts *x, ll_val table, ll_val i) {
  return LLVMBuildAtomicRMW(x->k->e->b, LLVMAtomicRMWBinOpAdd, counter(x, table, i), i32(x, 1),
                            LLVMAtomicOrderingMonotonic, 0);
}

/* Every thread its part of the slots: counts them, or puts them where they belong. */
static void each_slot(experts *x, ll_val table, bool put) {
  tn_ll *e = x->k->e;
  ll_loop l;
  ll_val slots = LLVMBuildTrunc(e->b, tn_ll_dim(&x->k->body, x->slots), e->i32, "");
  ll_loop_begin(e, &l, tn_cuda_thread(x->k), slots, i32(x, SORTERS), NULL, 0);
  tn_ll_body_forget(&x->k->body);
  ll_val place = take_place(x, table, LLVMBuildTrunc(e->b, expert_of(x, l.iv), e->i32, ""));
  if (put) ll_store(e, l.iv, scratch_word(x, x->order, place), 4);
  ll_loop_end(e, &l, NULL);
  tn_ll_body_forget(&x->k->body);
}

/* Sum of v over the lanes below this one. */
static ll_val before(experts *x, ll_val v) {
  tn_ll *e = x->k->e;
  ll_val sum = v, lane = tn_cuda_lane(x->k);
  for (uint32_t by = 1; by < 32; by *= 2) {
    ll_val other = tn_cuda_shuffle_up(x->k, sum, by);
    sum = ll_add(e, sum, ll_select(e, ll_icmp(e, LLVMIntUGE, lane, i32(x, by)), other, i32(x, 0)));
  }
  return ll_sub(e, sum, v);
}

/* Items of one expert's `n` slots, from item `item` and place `first` on. */
static void put_items(experts *x, ll_val expert, ll_val item, ll_val first, ll_val n) {
  tn_ll *e = x->k->e;
  ll_loop l;
  ll_loop_begin(e, &l, i32(x, 0), n, i32(x, TILE), NULL, 0);
  ll_val row = LLVMGetUndef(LLVMVectorType(e->i32, 4)), left = ll_imin(e, ll_sub(e, n, l.iv), i32(x, TILE));
  row = ll_put(e, ll_put(e, row, expert, 0), ll_add(e, first, l.iv), 1);
  row = ll_put(e, ll_put(e, row, left, 2), i32(x, 0), 3);
  ll_store(e, row, item_at(x, ll_add(e, item, ll_udiv(e, l.iv, i32(x, TILE)))), 16);
  ll_loop_end(e, &l, NULL);
}

/* The first warp, each lane a stretch of the experts: counts become first places; items are written. */
static void place_experts(experts *x, ll_val table) {
  tn_ll *e = x->k->e;
  ll_loop sum, put;
  int64_t per = (x->count + 32) / 32;
  ll_val lo = ll_mul(e, tn_cuda_lane(x->k), i32(x, per)), hi = ll_add(e, lo, i32(x, per));
  hi = ll_imin(e, hi, i32(x, x->count + 1));
  ll_val zero[] = {i32(x, 0), i32(x, 0)}, next[2], tile = i32(x, TILE);
  ll_loop_begin(e, &sum, lo, hi, i32(x, 1), zero, 2);
  ll_val n = ll_load(e, e->i32, counter(x, table, sum.iv), 4);
  next[0] = ll_add(e, sum.phi[0], n);
  next[1] = ll_add(e, sum.phi[1], ll_ceildiv(e, n, tile));
  ll_loop_end(e, &sum, next);
  ll_val from[] = {before(x, sum.out[0]), before(x, sum.out[1])};
  ll_loop_begin(e, &put, lo, hi, i32(x, 1), from, 2);
  n = ll_load(e, e->i32, counter(x, table, put.iv), 4);
  ll_store(e, put.phi[0], counter(x, table, put.iv), 4);
  put_items(x, put.iv, put.phi[1], put.phi[0], n);
  next[0] = ll_add(e, put.phi[0], n);
  next[1] = ll_add(e, put.phi[1], ll_ceildiv(e, n, tile));
  ll_loop_end(e, &put, next);
  ll_if last;
  ll_if_begin(e, &last, ll_icmp(e, LLVMIntEQ, tn_cuda_lane(x->k), i32(x, 31)));
  ll_store(e, ll_add(e, from[1], sum.out[1]), tn_cuda_scratch_at(x->k, x->items), 4);
  ll_if_end(e, &last);
}

static void write_sort(experts *x, tn_dim when) {
  tn_cuda_kernel *k = x->k;
  tn_ll *e = k->e;
  ll_loop l;
  ll_if warp;
  tn_cuda_shape shape = {.threads = SORTERS, .grid = {when}};
  tn_cuda_launch_begin(k, &shape);
  ll_val table = tn_cuda_shared(k, (uint32_t)(x->count + 1) * 4, 4);
  ll_loop_begin(e, &l, tn_cuda_thread(k), i32(x, x->count + 1), i32(x, SORTERS), NULL, 0);
  ll_store(e, i32(x, 0), counter(x, table, l.iv), 4);
  ll_loop_end(e, &l, NULL);
  tn_cuda_barrier(k);
  each_slot(x, table, false);
  tn_cuda_barrier(k);
  ll_if_begin(e, &warp, ll_icmp(e, LLVMIntEQ, tn_cuda_warp(k), i32(x, 0)));
  place_experts(x, table);
  ll_if_end(e, &warp);
  tn_cuda_barrier(k);
  each_slot(x, table, true);
  tn_cuda_launch_end(k);
}

/* ---- all of it ----------------------------------------------------------------------------------------- */

static void read_operands(experts *x) {
  tn_cuda_kernel *k = x->k;
  tn_cuda_stream *s = &x->s;
  x->x = tn_cuda_operand(k, 0);
  x->ids = tn_cuda_operand(k, 2);
  x->out = tn_cuda_result(k, 0);
  x->tx = tn_cuda_type(k, x->x);
  x->ti = tn_cuda_type(k, x->ids);
  x->to = tn_cuda_type(k, x->out);
  s->k = k;
  s->w = tn_cuda_operand(k, 1);
  s->tw = tn_cuda_type(k, s->w);
  s->n = s->tw.dims[1];
  s->depth = s->tw.dims[2];
  s->x = row_value;
  s->ctx = x;
  x->slots = tn_cuda_dim_mul(k, x->ti.dims[0], x->ti.dims[1]);
  if (!tn_ll_dim_const(&k->body, s->tw.dims[0], &x->count)) x->count = -1;
}

static void emit(tn_cuda_kernel *k) {
  experts x = {.k = k};
  read_operands(&x);
  tn_ll_body_give(&k->body, x.out, product, &x);
  if (x.count < 0 || x.count > MOST_EXPERTS) {
    write_single(&x, tn_cuda_dim_k(k, 1));
    return;
  }
  write_single(&x, tn_cuda_few(k, x.slots, FEW));
  tn_dim many = tn_cuda_many(k, x.slots, FEW);
  if (tn_cuda_never(k, many)) return;
  x.order = tn_cuda_scratch(k, tn_cuda_dim_mul(k, x.slots, tn_cuda_dim_k(k, 4)));
  tn_dim rows = tn_cuda_dim_add(k, most_items(&x), tn_cuda_dim_k(k, 1));
  x.items = tn_cuda_scratch(k, tn_cuda_dim_mul(k, rows, tn_cuda_dim_k(k, ITEM)));
  write_sort(&x, many);
  write_items(&x, many);
}

static bool claim(const tn_cuda_ask *a, const char **why) {
  for (uint32_t i = 0; i < 3; i++) {
    tn_type_info t = tn_cuda_type_of(a, a->ir->op_operand(a->m, a->op, i));
    bool plain = tn_ll_dtype_of(t.dtype).known && !tn_ll_dtype_of(t.dtype).packed && t.dtype != TN_DT_f64;
    *why = "this operand type is not supported";
    if (!plain && !(i == 1 && tn_quant_of(t.dtype))) return false;
  }
  return true;
}

static const char *const roots[] = {"expert_matmul", NULL};
const tn_cuda_skeleton tn_cuda_skeleton_expert = {
    .roots = roots, .claim = claim, .epilogue = tn_cuda_takes_elementwise, .emit = emit};
