/* det.c - determinants: a block takes a matrix through Gaussian elimination with the largest pivot of each
 * column, in f64. The matrix lies in shared memory if it is known to be small, else in scratch. */
#include "backends/cuda/skel/team.h"
#include "backends/cuda/warp.h"
#include "backends/llvm/convert.h"

enum { LANES = 32, SLOT = 8, SHARED_SIDE = 72, SMALL = 16 };

typedef struct det {
  tn_cuda_kernel *k;
  tn_cuda_team team;
  tn_value x;
  tn_type_info t;
  uint32_t threads;
  tn_dim side, room_at;
  bool shared;
  ll_val n, room;
} det;

static ll_val slot_of(det *d, ll_val i, ll_val j) { return ll_iadd(d->k->e, ll_imul(d->k->e, i, d->n), j); }
static ll_val get(det *d, ll_val i, ll_val j) {
  return tn_cuda_slot_get(d->k, d->k->e->f64, d->room, slot_of(d, i, j));
}
static void put(det *d, ll_val i, ll_val j, ll_val v) {
  tn_cuda_slot_put(d->k, d->room, slot_of(d, i, j), v);
}

static void load_matrix(det *d) {
  tn_cuda_kernel *k = d->k;
  tn_ll *e = k->e;
  ll_val all = ll_imul(e, d->n, d->n), first = ll_imul(e, d->team.number, all);
  ll_loop l;
  ll_loop_begin(e, &l, d->team.member, all, ll_k(e, d->threads), NULL, 0);
  tn_ll_body_forget(&k->body);
  tn_ll_index ix = tn_cuda_index(k, &d->t, ll_iadd(e, first, l.iv));
  tn_cuda_slot_put(k, d->room, l.iv,
                   tn_ll_convert(e, d->t.dtype, TN_DT_f64, tn_ll_eval(&k->body, d->x, &ix)));
  ll_loop_end(e, &l, NULL);
  tn_ll_body_forget(&k->body);
  tn_cuda_barrier(k);
}

/* ---- the pivot ----------------------------------------------------------------------------------------- */

/* The larger size, of equal ones the upper row. */
static void fold_larger(void *ctx, ll_val *acc, const ll_val *other) {
  tn_ll *e = ((det *)ctx)->k->e;
  ll_val tied =
      ll_and(e, ll_fcmp(e, LLVMRealOEQ, other[0], acc[0]), ll_icmp(e, LLVMIntSLT, other[1], acc[1]));
  ll_val take = ll_or(e, ll_fcmp(e, LLVMRealOGT, other[0], acc[0]), tied);
  for (int i = 0; i < 2; i++) acc[i] = ll_select(e, take, other[i], acc[i]);
}

/* The row of column c's pivot. What is no number is never the larger one, and stays where it is. */
static ll_val pivot_of(det *d, ll_val c) {
  tn_ll *e = d->k->e;
  ll_val acc[] = {ll_real(e, e->f64, -1), c}, found[2];
  ll_loop l;
  ll_loop_begin(e, &l, ll_iadd(e, c, d->team.member), d->n, ll_k(e, d->threads), acc, 2);
  ll_val x = get(d, l.iv, c), size = ll_call1(e, "llvm.fabs", x);
  ll_val nan = ll_select(e, ll_icmp(e, LLVMIntEQ, l.iv, c), ll_f(e, x, __builtin_inf()), ll_f(e, x, -1));
  ll_val other[] = {ll_select(e, ll_fcmp(e, LLVMRealUNO, x, x), nan, size), l.iv};
  found[0] = l.phi[0], found[1] = l.phi[1];
  fold_larger(d, found, other);
  ll_loop_end(e, &l, found);
  found[0] = l.out[0], found[1] = l.out[1];
  tn_cuda_team_fold(&d->team, found, 2, fold_larger, d);
  return found[1];
}

static void swap_rows(det *d, ll_val a, ll_val b) {
  tn_ll *e = d->k->e;
  ll_loop l;
  ll_loop_begin(e, &l, ll_iadd(e, a, d->team.member), d->n, ll_k(e, d->threads), NULL, 0);
  ll_val x = get(d, a, l.iv), y = get(d, b, l.iv);
  put(d, a, l.iv, y);
  put(d, b, l.iv, x);
  ll_loop_end(e, &l, NULL);
}

/* Rows below the c-th less their multiple of it: a warp takes a row. */
static void eliminate(det *d, ll_val c, ll_val pivot) {
  tn_cuda_kernel *k = d->k;
  tn_ll *e = k->e;
  ll_val warp = tn_cuda_i64(k, tn_cuda_warp(k)), lane = tn_cuda_i64(k, tn_cuda_lane(k)), one = ll_k(e, 1);
  ll_val next = ll_iadd(e, c, one);
  ll_loop rows, l;
  ll_loop_begin(e, &rows, ll_iadd(e, next, warp), d->n, ll_k(e, d->threads / LANES), NULL, 0);
  ll_val f = ll_neg(e, ll_fdiv(e, get(d, rows.iv, c), pivot));
  ll_loop_begin(e, &l, ll_iadd(e, next, lane), d->n, ll_k(e, LANES), NULL, 0);
  put(d, rows.iv, l.iv, ll_fma(e, f, get(d, c, l.iv), get(d, rows.iv, l.iv)));
  ll_loop_end(e, &l, NULL);
  ll_loop_end(e, &rows, NULL);
}

/* ---- the kernel ---------------------------------------------------------------------------------------- */

/* A column without a pivot: the result is 0, whatever the columns behind it would give. */
static ll_val determinant(det *d) {
  tn_cuda_kernel *k = d->k;
  tn_ll *e = k->e;
  ll_val init[] = {ll_real(e, e->f64, 1), LLVMConstInt(e->i1, 0, 0)}, next[2];
  ll_loop l;
  ll_loop_begin(e, &l, ll_k(e, 0), d->n, ll_k(e, 1), init, 2);
  ll_val c = l.iv, p = pivot_of(d, c), own = ll_icmp(e, LLVMIntEQ, p, c);
  tn_cuda_barrier(k); /* the column is read by all before it changes */
  swap_rows(d, c, p);
  tn_cuda_barrier(k);
  ll_val pivot = get(d, c, c), signed_ = ll_select(e, own, pivot, ll_neg(e, pivot));
  eliminate(d, c, pivot);
  tn_cuda_barrier(k);
  next[0] = ll_fmul(e, l.phi[0], signed_);
  next[1] = ll_or(e, l.phi[1], ll_fcmp(e, LLVMRealOEQ, pivot, ll_f(e, pivot, 0)));
  ll_loop_end(e, &l, next);
  return ll_select(e, l.out[1], ll_real(e, e->f64, 0), l.out[0]);
}

static void place(det *d) {
  tn_cuda_kernel *k = d->k;
  tn_ll *e = k->e;
  int64_t n;
  d->n = tn_ll_dim(&k->body, d->side);
  if (d->shared && tn_ll_dim_const(&k->body, d->side, &n)) {
    d->room = tn_cuda_shared(k, (uint32_t)(n * n) * SLOT, SLOT);
    return;
  }
  ll_val bytes = ll_imul(e, ll_imul(e, d->n, d->n), ll_k(e, SLOT));
  d->room = ll_at(e, tn_cuda_scratch_at(k, d->room_at), ll_imul(e, d->team.number, bytes));
}

static void emit(tn_cuda_kernel *k) {
  tn_ll *e = k->e;
  det d = {.k = k, .x = tn_cuda_operand(k, 0), .threads = 256};
  int64_t n;
  ll_if first;
  if (!tn_cuda_yields_root(k)) return;
  d.t = tn_cuda_type(k, d.x);
  d.side = d.t.dims[d.t.rank - 1];
  bool known = tn_ll_dim_const(&k->body, d.side, &n);
  d.shared = known && n > 0 && n <= SHARED_SIDE;
  if (known && n <= SMALL) d.threads = LANES;
  if (!d.shared)
    d.room_at = tn_cuda_scratch(
        k, tn_cuda_dim_mul(k, tn_cuda_dim_count(k, &d.t, 0, d.t.rank), tn_cuda_dim_k(k, SLOT)));
  tn_cuda_shape shape = {.threads = d.threads, .grid = {tn_cuda_dim_count(k, &d.t, 0, d.t.rank - 2)}};
  tn_cuda_launch_begin(k, &shape);
  tn_cuda_team_begin(&d.team, k, d.threads, d.threads);
  place(&d);
  load_matrix(&d);
  ll_val v = determinant(&d);
  tn_type_info out = tn_cuda_type(k, tn_cuda_result(k, 0));
  ll_if_begin(e, &first, ll_icmp(e, LLVMIntEQ, d.team.member, ll_k(e, 0)));
  tn_ll_index ix = tn_cuda_index(k, &out, d.team.number);
  tn_cuda_store_result(k, 0, &ix, tn_ll_convert(e, TN_DT_f64, out.dtype, v));
  ll_if_end(e, &first);
  tn_cuda_launch_end(k);
}

static const char *const roots[] = {"det", NULL};
const tn_cuda_skeleton tn_cuda_skeleton_det = {.roots = roots, .claim = tn_cuda_plain, .emit = emit};
