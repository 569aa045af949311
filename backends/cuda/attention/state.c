/* state.c - kv_update: rows of x are converted, or packed as q8_0, into a state, which is the result's
 * buffer. A thread has some neighbouring values; some threads make a block of q8_0 together. */
#include "backends/cuda/attention/attention.h"
#include "backends/llvm/convert.h"
#include "backends/llvm/groups.h"

enum { THREADS = 128 };

typedef struct update {
  tn_cuda_kernel *k;
  tn_value x, out;
  tn_type_info tx, to;
  bool packed;
  uint32_t wide;
} update;

/* The row of the state where row `at` (i64) of x goes. */
static ll_val state_row(update *u, ll_val at) {
  tn_cuda_kernel *k = u->k;
  tn_ll *e = k->e;
  ll_val pos = tn_ll_dim(&k->body, tn_ll_attr(&k->body, k->root, "pos").u.dim);
  if (!tn_ll_attr_int(&k->body, k->root, "ring")) return ll_iadd(e, at, pos);
  ll_val capacity = tn_ll_dim(&k->body, u->to.dims[1]);
  ll_val row = ll_iadd(e, at, ll_urem(e, pos, ll_imax(e, capacity, ll_k(e, 1))));
  ll_val wrapped = ll_sub(e, row, capacity);
  return ll_select(e, ll_icmp(e, LLVMIntSLT, wrapped, ll_k(e, 0)), row, wrapped);
}

static ll_val as_i16(tn_ll *e, ll_val lo, ll_val hi) {
  ll_val l = LLVMBuildZExt(e->b, lo, e->i16, ""), h = LLVMBuildZExt(e->b, hi, e->i16, "");
  return ll_or(e, l, ll_shl(e, h, LLVMConstInt(e->i16, 8, 0)));
}

/* The largest value of a block becomes 127, the others are rounded to nearest. */
ll_val tn_cuda_att_pack(tn_cuda_kernel *k, ll_val x, ll_val p, ll_val inside) {
  tn_ll *e = k->e;
  ll_if store, first;
  uint32_t wide = LLVMGetVectorSize(LLVMTypeOf(x)), threads = TN_CUDA_Q8_VALUES / wide;
  ll_val top = ll_reduce_with(e, ll_call1(e, "llvm.fabs", x), ll_fmax);
  top = tn_cuda_warp_reduce(k, top, threads, tn_cuda_fmax);
  ll_val scale = ll_fdiv(e, top, ll_f(e, top, 127)), zero = ll_f(e, top, 0);
  ll_val inverse =
      ll_select(e, ll_fcmp(e, LLVMRealOGT, scale, zero), ll_fdiv(e, ll_f(e, top, 1), scale), zero);
  ll_val q = ll_call1(e, "llvm.rint", ll_fmul(e, x, ll_wide(e, inverse, true)));
  ll_val codes = LLVMBuildFPToSI(e->b, q, LLVMVectorType(e->i32, wide), "");
  codes = LLVMBuildTrunc(e->b, codes, LLVMVectorType(e->i8, wide), "");
  ll_val f16 = tn_ll_from_compute(e, TN_DT_f16, scale);
  ll_val part = ll_and(e, tn_cuda_thread(k), LLVMConstInt(e->i32, threads - 1, 0));
  ll_if_begin(e, &store, inside);
  ll_val at = ll_at(e, p, ll_iadd(e, ll_k(e, 2), ll_imul(e, tn_cuda_i64(k, part), ll_k(e, wide))));
  for (uint32_t i = 0; i < wide; i += 2)
    ll_store(e, as_i16(e, ll_lane(e, codes, i), ll_lane(e, codes, i + 1)), ll_at(e, at, ll_k(e, i)), 2);
  ll_if_begin(e, &first, ll_icmp(e, LLVMIntEQ, part, LLVMConstInt(e->i32, 0, 0)));
  ll_store(e, tn_ll_to_memory(e, TN_DT_f16, f16), p, 2);
  ll_if_end(e, &first);
  ll_if_end(e, &store);
  return ll_fmul(e, q, ll_wide(e, tn_ll_to_compute(e, TN_DT_f16, f16), true));
}

static void pack_part(update *u, const tn_ll_index *from, ll_val inside) {
  tn_cuda_kernel *k = u->k;
  tn_ll *e = k->e;
  ll_val row =
      ll_iadd(e, ll_imul(e, from->at[0].v, tn_ll_dim(&k->body, u->to.dims[1])), state_row(u, from->at[1].v));
  row = ll_iadd(e, ll_imul(e, row, tn_ll_dim(&k->body, u->tx.dims[2])), from->at[2].v);
  ll_val blocks = ll_lshr(e, tn_ll_dim(&k->body, u->tx.dims[3]), ll_k(e, 5));
  ll_val block = ll_iadd(e, ll_imul(e, row, blocks), ll_lshr(e, from->at[3].v, ll_k(e, 5)));
  ll_val p = ll_at(e, k->outs[0], ll_imul(e, block, ll_k(e, TN_CUDA_Q8_BYTES)));
  tn_cuda_att_pack(k, ll_wide(e, tn_ll_eval_f32(&k->body, u->x, from), true), p, inside);
}

static void store_part(update *u, const tn_ll_index *from, ll_val inside) {
  tn_cuda_kernel *k = u->k;
  ll_if store;
  ll_if_begin(k->e, &store, inside);
  tn_ll_body_forget(&k->body);
  tn_ll_index to = *from;
  to.flat = NULL;
  to.shape = NULL;
  to.at[1] = tn_ll_ix_scalar(state_row(u, from->at[1].v));
  ll_val x = tn_ll_convert(k->e, u->tx.dtype, u->to.dtype, tn_ll_eval(&k->body, u->x, from));
  tn_ll_store_at(&k->body, u->out, k->outs[0], &to, x);
  ll_if_end(k->e, &store);
  tn_ll_body_forget(&k->body);
}

static void write_update(update *u, tn_dim units) {
  tn_cuda_kernel *k = u->k;
  tn_ll *e = k->e;
  ll_val all = tn_ll_dim(&k->body, units), unit = tn_cuda_position(k, THREADS);
  ll_val inside = ll_icmp(e, LLVMIntSLT, unit, all);
  ll_val there = ll_imin(e, unit, ll_sub(e, all, ll_k(e, 1)));
  tn_ll_index from = tn_cuda_index(k, &u->tx, ll_imul(e, there, ll_k(e, u->wide)));
  if (u->wide > 1) from.at[3] = tn_ll_ix_lanes(from.at[3].v, true);
  (u->packed ? pack_part : store_part)(u, &from, inside);
}

static void emit(tn_cuda_kernel *k) {
  update u = {.k = k, .x = tn_cuda_operand(k, 1), .out = tn_cuda_result(k, 0)};
  u.tx = tn_cuda_type(k, u.x);
  u.to = tn_cuda_type(k, u.out);
  u.packed = u.to.dtype >= TN_DT_BLOCK;
  if (k->nyields != 1 || k->yields[0] != u.out)
    tn_ll_fail(k->e, "kv_update shares a kernel with other results");
  u.wide = tn_ll_dim_multiple(&k->body, u.tx.dims[3], 4) ? 4 : 1;
  tn_dim units = tn_cuda_dim_ceildiv(k, tn_cuda_dim_count(k, &u.tx, 0, u.tx.rank), u.wide);
  tn_cuda_shape shape = {.threads = THREADS, .grid = {tn_cuda_dim_ceildiv(k, units, THREADS)}};
  k->e->lanes = 4;
  tn_cuda_launch_begin(k, &shape);
  write_update(&u, units);
  tn_cuda_launch_end(k);
}

static bool claim(const tn_cuda_ask *a, const char **why) {
  tn_type_info t = tn_cuda_type_of(a, a->ir->op_operand(a->m, a->op, 0)),
               x = tn_cuda_type_of(a, a->ir->op_operand(a->m, a->op, 1));
  bool q8 = t.dtype == a->ir->dtype_by_name("q8_0") && !t.layout;
  tn_ll_dtype own = tn_ll_dtype_of(t.dtype), from = tn_ll_dtype_of(x.dtype);
  *why = "this state type is not supported";
  return (q8 || (own.known && !own.packed)) && from.known && !from.packed;
}
/* Each row is taken once. */
static bool prologue(const tn_cuda_ask *a) {
  tn_type_info t = tn_cuda_type_of(a, a->ir->op_result(a->m, a->op, 0));
  bool view = tn_ll_is_view(a->name),
       mine = tn_ll_made_by(a->ir, a->m, a->ir->op_operand(a->m, a->root, 1), a->op);
  return t.dtype < TN_DT_BLOCK && (view || (mine && TN_LL_ONE_OF(a->name, "cast", "rope")));
}

static const char *const roots[] = {"kv_update", NULL};
const tn_cuda_skeleton tn_cuda_skeleton_state = {
    .roots = roots, .claim = claim, .prologue = prologue, .emit = emit};
