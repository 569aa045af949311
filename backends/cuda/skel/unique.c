/* unique.c - the different rows of a tensor. A thread has a row and goes through all of them: first for the
 * lowest row that is equal to it and how many are, then, once all know that, for how many classes come before
 * its own; the answers go to the places that follow. Rows by rows, but without an order to wait for. */
#include "backends/cuda/skel/team.h"
#include "backends/cuda/warp.h"
#include "backends/llvm/convert.h"

enum { THREADS = 256, SLOT = 8 };
enum { FIRST, INVERSE, COUNTS, COUNT }; /* results */

typedef struct unique {
  tn_cuda_kernel *k;
  tn_value x;
  tn_type_info t;
  bool sorted;
  tn_dim size, row;
  tn_dim leads_at, counts_at; /* scratch: i64 [n], the lowest equal row; i64 [n], how many are equal */
  ll_val n, width;
} unique;

/* ---- rows ---------------------------------------------------------------------------------------------- */

/* Numbers ordered as the elements are; NaN above all, and equal to itself. */
static ll_val key_of(unique *u, ll_val x) {
  tn_ll *e = u->k->e;
  uint32_t cls = tn_ll_dtype_of(u->t.dtype).cls;
  if (cls != TN_CLASS_FLOAT) {
    ll_val key = tn_ll_convert(e, u->t.dtype, TN_DT_i64, x);
    return cls == TN_CLASS_UINT ? ll_xor(e, key, ll_k(e, INT64_MIN)) : key;
  }
  ll_val f = tn_ll_convert(e, u->t.dtype, TN_DT_f64, x), i = ll_cast_bits(e, f, e->i64);
  ll_val size = ll_and(e, i, ll_k(e, INT64_MAX));
  ll_val key = ll_select(e, ll_icmp(e, LLVMIntSLT, i, ll_k(e, 0)), ll_sub(e, ll_k(e, 0), size), i);
  return ll_select(e, ll_fcmp(e, LLVMRealUNO, f, f), ll_k(e, INT64_MAX), key);
}
static ll_val key_at(unique *u, ll_val row, ll_val i) {
  tn_ll *e = u->k->e;
  tn_ll_index ix = tn_cuda_index(u->k, &u->t, ll_iadd(e, ll_imul(e, row, u->width), i));
  return key_of(u, tn_ll_eval(&u->k->body, u->x, &ix));
}

/* -1, 0 or 1 (i64): how row a is to row b; the first element that differs decides. */
static ll_val compare(unique *u, ll_val a, ll_val b) {
  tn_ll *e = u->k->e;
  LLVMBasicBlockRef before = LLVMGetInsertBlock(e->b), head = ll_block(e, "row"),
                    body = ll_block(e, "element"), done = ll_block(e, "compared"), end;
  ll_val zero = ll_k(e, 0), one = ll_k(e, 1);
  LLVMBuildBr(e->b, head);
  LLVMPositionBuilderAtEnd(e->b, head);
  ll_val i = LLVMBuildPhi(e->b, e->i64, ""), r = LLVMBuildPhi(e->b, e->i64, "");
  ll_val on = ll_and(e, ll_icmp(e, LLVMIntSLT, i, u->width), ll_icmp(e, LLVMIntEQ, r, zero));
  LLVMBuildCondBr(e->b, on, body, done);
  LLVMPositionBuilderAtEnd(e->b, body);
  tn_ll_body_forget(&u->k->body);
  ll_val x = key_at(u, a, i), y = key_at(u, b, i), next = ll_iadd(e, i, one);
  ll_val other = ll_select(e, ll_icmp(e, LLVMIntSLT, x, y), ll_k(e, -1), one);
  ll_val order = ll_select(e, ll_icmp(e, LLVMIntEQ, x, y), zero, other);
  end = LLVMGetInsertBlock(e->b);
  LLVMBuildBr(e->b, head);
  ll_val first[] = {zero, zero}, then[] = {next, order}, phis[] = {i, r};
  for (int p = 0; p < 2; p++) {
    LLVMAddIncoming(phis[p], &first[p], &before, 1);
    LLVMAddIncoming(phis[p], &then[p], &end, 1);
  }
  LLVMPositionBuilderAtEnd(e->b, done);
  tn_ll_body_forget(&u->k->body);
  return r;
}

/* ---- launches ------------------------------------------------------------------------------------------ */

/* A thread for each row, between these two; one at least. */
static ll_val rows_begin(unique *u, ll_if *in) {
  tn_cuda_kernel *k = u->k;
  tn_dim some = tn_cuda_dim_max(k, u->size, tn_cuda_dim_k(k, 1));
  tn_cuda_shape shape = {.threads = THREADS, .grid = {tn_cuda_dim_ceildiv(k, some, THREADS)}};
  tn_cuda_launch_begin(k, &shape);
  u->n = tn_ll_dim(&k->body, u->size);
  u->width = tn_ll_dim(&k->body, u->row);
  ll_val at = tn_cuda_position(k, THREADS);
  ll_if_begin(k->e, in, ll_icmp(k->e, LLVMIntSLT, at, u->n));
  return at;
}
static void rows_end(unique *u, ll_if *in) {
  ll_if_end(u->k->e, in);
  tn_cuda_launch_end(u->k);
}

static void launch_leads(unique *u) {
  tn_cuda_kernel *k = u->k;
  tn_ll *e = k->e;
  ll_if in;
  ll_loop l;
  ll_val at = rows_begin(u, &in), init[] = {at, ll_k(e, 0)}, next[2];
  ll_loop_begin(e, &l, ll_k(e, 0), u->n, ll_k(e, 1), init, 2);
  ll_val equal = ll_icmp(e, LLVMIntEQ, compare(u, l.iv, at), ll_k(e, 0));
  next[0] = ll_select(e, equal, ll_imin(e, l.iv, l.phi[0]), l.phi[0]);
  next[1] = ll_add(e, l.phi[1], LLVMBuildZExt(e->b, equal, e->i64, ""));
  ll_loop_end(e, &l, next);
  tn_cuda_slot_put(k, tn_cuda_scratch_at(k, u->leads_at), at, l.out[0]);
  tn_cuda_slot_put(k, tn_cuda_scratch_at(k, u->counts_at), at, l.out[1]);
  rows_end(u, &in);
}

static void store(unique *u, uint32_t i, ll_val at, ll_val v) {
  tn_ll_index ix = {.rank = i == COUNT ? 0 : 1, .at = {tn_ll_ix_scalar(at)}};
  tn_cuda_store_result(u->k, i, &ix, v);
}

/* i1: row i begins a class that comes before that of the row `lead`. Compared only where it begins one. */
static ll_val precedes(unique *u, ll_val begins, ll_val i, ll_val lead) {
  tn_ll *e = u->k->e;
  ll_if in;
  if (!u->sorted) return ll_and(e, begins, ll_icmp(e, LLVMIntSLT, i, lead));
  ll_val no = LLVMConstInt(e->i1, 0, 0);
  ll_if_begin(e, &in, begins);
  ll_val yes = ll_icmp(e, LLVMIntSLT, compare(u, i, lead), ll_k(e, 0));
  LLVMBasicBlockRef from = LLVMGetInsertBlock(e->b), past = in.other;
  ll_if_end(e, &in);
  ll_val r = LLVMBuildPhi(e->b, e->i1, "");
  LLVMAddIncoming(r, &yes, &from, 1);
  LLVMAddIncoming(r, &no, &past, 1);
  return r;
}

/* A class's place is how many come before it. The places behind all classes are as many as the rows that
 * begin none: each of those clears one, counted from the end. */
static void launch_places(unique *u) {
  tn_cuda_kernel *k = u->k;
  tn_ll *e = k->e;
  ll_if in, first;
  ll_loop l;
  ll_val zero = ll_k(e, 0), one = ll_k(e, 1), at = rows_begin(u, &in),
         leads = tn_cuda_scratch_at(k, u->leads_at);
  ll_val lead = tn_cuda_slot_get(k, e->i64, leads, at), init[] = {zero, zero, zero}, next[3];
  ll_loop_begin(e, &l, zero, u->n, one, init, 3);
  ll_val begins = ll_icmp(e, LLVMIntEQ, tn_cuda_slot_get(k, e->i64, leads, l.iv), l.iv);
  ll_val before = precedes(u, begins, l.iv, lead), behind = ll_icmp(e, LLVMIntSGT, l.iv, at);
  ll_val counted[] = {before, begins, ll_and(e, ll_not(e, begins), behind)};
  for (int i = 0; i < 3; i++) next[i] = ll_add(e, l.phi[i], LLVMBuildZExt(e->b, counted[i], e->i64, ""));
  ll_loop_end(e, &l, next);
  store(u, INVERSE, at, l.out[0]);
  ll_val mine = ll_icmp(e, LLVMIntEQ, lead, at);
  ll_val spare = ll_sub(e, ll_sub(e, u->n, one), l.out[2]), to = ll_select(e, mine, l.out[0], spare);
  ll_val count = tn_cuda_slot_get(k, e->i64, tn_cuda_scratch_at(k, u->counts_at), at);
  store(u, FIRST, to, ll_select(e, mine, at, zero));
  store(u, COUNTS, to, ll_select(e, mine, count, zero));
  ll_if_begin(e, &first, ll_icmp(e, LLVMIntEQ, at, zero));
  store(u, COUNT, zero, l.out[1]);
  ll_if_end(e, &first);
  ll_if_end(e, &in);
  ll_val none = ll_and(e, ll_icmp(e, LLVMIntEQ, at, zero), ll_icmp(e, LLVMIntEQ, u->n, zero));
  ll_if_begin(e, &first, none);
  store(u, COUNT, zero, zero);
  ll_if_end(e, &first);
  tn_cuda_launch_end(k);
}

static void emit(tn_cuda_kernel *k) {
  unique u = {.k = k, .x = tn_cuda_operand(k, 0)};
  if (!tn_cuda_yields_root(k)) return;
  u.t = tn_cuda_type(k, u.x);
  u.sorted = tn_ll_attr_int(&k->body, k->root, "sorted");
  u.size = u.t.dims[0];
  u.row = tn_cuda_dim_count(k, &u.t, 1, u.t.rank);
  tn_dim bytes = tn_cuda_dim_mul(k, u.size, tn_cuda_dim_k(k, SLOT));
  u.leads_at = tn_cuda_scratch(k, bytes);
  u.counts_at = tn_cuda_scratch(k, bytes);
  launch_leads(&u);
  launch_places(&u);
}

static const char *const roots[] = {"unique", NULL};
const tn_cuda_skeleton tn_cuda_skeleton_unique = {.roots = roots, .claim = tn_cuda_plain, .emit = emit};
