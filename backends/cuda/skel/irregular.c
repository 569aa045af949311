/* irregular.c - scatter and nonzero; and the ops that are left to another backend, with the reason.
 *
 * scatter: a thread makes one element of the result and goes through all indices, so equal indices meet in
 * order. nonzero: each block counts its tile, one block adds the counts up, each block writes its positions.
 */
#include "backends/cuda/skel/team.h"
#include "backends/cuda/warp.h"
#include "backends/llvm/convert.h"

/* ---- scatter ------------------------------------------------------------------------------------------- */

enum { SCATTER_THREADS = 256 };

typedef struct scatter {
  tn_cuda_kernel *k;
  tn_value data, indices, updates;
  tn_type_info t, ti, tu;
  const char *reduce;
} scatter;

static bool is(const scatter *s, const char *a, const char *b) {
  return !strcmp(s->reduce, a) || (b && !strcmp(s->reduce, b));
}
/* Of bools: or, and, and, or. */
static ll_val combine_bools(scatter *s, ll_val x, ll_val y) {
  return is(s, "add", "max") ? ll_or(s->k->e, x, y) : ll_and(s->k->e, x, y);
}
static ll_val combine_floats(scatter *s, ll_val x, ll_val y) {
  tn_ll *e = s->k->e;
  tn_dtype t = s->t.dtype;
  ll_val a = tn_ll_to_compute(e, t, x), b = tn_ll_to_compute(e, t, y);
  if (is(s, "add", NULL)) return tn_ll_from_compute(e, t, ll_fadd(e, a, b));
  if (is(s, "mul", NULL)) return tn_ll_from_compute(e, t, ll_fmul(e, a, b));
  ll_val before = ll_fcmp(e, is(s, "min", NULL) ? LLVMRealOLT : LLVMRealOGT, b, a);
  return ll_select(e, ll_or(e, before, ll_fcmp(e, LLVMRealUNO, b, b)), y, x); /* NaN if either is */
}
static ll_val combine(scatter *s, ll_val x, ll_val y) {
  tn_ll *e = s->k->e;
  uint32_t cls = tn_ll_dtype_of(s->t.dtype).cls;
  if (is(s, "none", NULL)) return y;
  if (s->t.dtype == TN_DT_bool) return combine_bools(s, x, y);
  if (cls == TN_CLASS_FLOAT) return combine_floats(s, x, y);
  if (is(s, "add", NULL)) return ll_add(e, x, y);
  if (is(s, "mul", NULL)) return ll_mul(e, x, y);
  bool sign = cls == TN_CLASS_INT, min = is(s, "min", NULL);
  LLVMIntPredicate p = min ? (sign ? LLVMIntSLT : LLVMIntULT) : (sign ? LLVMIntSGT : LLVMIntUGT);
  return ll_select(e, ll_icmp(e, p, y, x), y, x);
}

/* The row of the result that update j goes to. */
static ll_val target_of(scatter *s, ll_val j) {
  tn_ll *e = s->k->e;
  tn_ll_index ix = {.rank = 1, .at = {tn_ll_ix_scalar(j)}};
  ll_val id = tn_ll_convert(e, s->ti.dtype, TN_DT_i64, tn_ll_eval(&s->k->body, s->indices, &ix));
  ll_val n = tn_ll_dim(&s->k->body, s->t.dims[0]);
  return ll_select(e, ll_icmp(e, LLVMIntSLT, id, ll_k(e, 0)), ll_add(e, id, n), id);
}

static ll_val with_updates(scatter *s, const tn_ll_index *to, ll_val x) {
  tn_ll *e = s->k->e;
  ll_loop l;
  ll_if mine;
  ll_loop_begin(e, &l, ll_k(e, 0), tn_ll_dim(&s->k->body, s->ti.dims[0]), ll_k(e, 1), &x, 1);
  tn_ll_body_forget(&s->k->body);
  ll_if_begin(e, &mine, ll_icmp(e, LLVMIntEQ, target_of(s, l.iv), to->at[0].v));
  tn_ll_index from = *to;
  from.at[0] = tn_ll_ix_scalar(l.iv);
  from.shape = NULL;
  ll_val next = combine(s, l.phi[0], tn_ll_eval(&s->k->body, s->updates, &from));
  LLVMBasicBlockRef there = LLVMGetInsertBlock(e->b), past = mine.other;
  ll_if_end(e, &mine);
  ll_val now = LLVMBuildPhi(e->b, LLVMTypeOf(x), "");
  LLVMAddIncoming(now, &next, &there, 1);
  LLVMAddIncoming(now, &l.phi[0], &past, 1);
  ll_loop_end(e, &l, &now);
  tn_ll_body_forget(&s->k->body);
  return l.out[0];
}

static void emit_scatter(tn_cuda_kernel *k) {
  tn_ll *e = k->e;
  scatter s = {.k = k,
               .data = tn_cuda_operand(k, 0),
               .indices = tn_cuda_operand(k, 1),
               .updates = tn_cuda_operand(k, 2)};
  s.t = tn_cuda_type(k, s.data);
  s.ti = tn_cuda_type(k, s.indices);
  s.reduce = tn_ll_attr_str(&k->body, k->root, "reduce");
  tn_dim all = tn_cuda_dim_count(k, &s.t, 0, s.t.rank);
  tn_cuda_shape shape = {.threads = SCATTER_THREADS, .grid = {tn_cuda_dim_ceildiv(k, all, SCATTER_THREADS)}};
  ll_if in;
  tn_cuda_launch_begin(k, &shape);
  ll_val at = tn_cuda_position(k, SCATTER_THREADS);
  ll_if_begin(e, &in, ll_icmp(e, LLVMIntSLT, at, tn_ll_dim(&k->body, all)));
  tn_ll_index ix = tn_cuda_index(k, &s.t, at);
  ll_val x = tn_ll_eval(&k->body, s.data, &ix);
  tn_cuda_store_result(k, 0, &ix, with_updates(&s, &ix, x));
  ll_if_end(e, &in);
  tn_cuda_launch_end(k);
}

/* ---- nonzero ------------------------------------------------------------------------------------------- */

enum { THREADS = 256, ROUNDS = 4, TILE = THREADS * ROUNDS };

typedef struct nonzero {
  tn_cuda_kernel *k;
  tn_cuda_team team;
  tn_value x;
  tn_type_info t;
  tn_dim all, tiles, counts_at; /* scratch: i64 [tiles + 1], what lies before each tile, and in all */
  ll_val n;
} nonzero;

static ll_val add(void *ctx, ll_val a, ll_val b) { return ll_add(((nonzero *)ctx)->k->e, a, b); }
static void fold_add(void *ctx, ll_val *acc, const ll_val *other) { acc[0] = add(ctx, acc[0], other[0]); }

static ll_val element(nonzero *z, uint32_t round) {
  tn_ll *e = z->k->e;
  ll_val at = ll_iadd(e, ll_imul(e, z->team.number, ll_k(e, TILE)), ll_k(e, (int64_t)round * THREADS));
  return ll_iadd(e, at, z->team.member);
}
/* i64: 1 if element i is there and is not zero. */
static ll_val counts(nonzero *z, ll_val i) {
  tn_ll *e = z->k->e;
  ll_val inside = ll_icmp(e, LLVMIntSLT, i, z->n);
  tn_ll_index ix = tn_cuda_index(z->k, &z->t, ll_imin(e, i, ll_sub(e, z->n, ll_k(e, 1))));
  ll_val x = tn_ll_convert(e, z->t.dtype, TN_DT_bool, tn_ll_eval(&z->k->body, z->x, &ix));
  return LLVMBuildZExt(e->b, ll_and(e, inside, x), e->i64, "");
}
static void begin(nonzero *z, tn_dim blocks) {
  tn_cuda_shape shape = {.threads = THREADS, .grid = {blocks}};
  tn_cuda_launch_begin(z->k, &shape);
  tn_cuda_team_begin(&z->team, z->k, THREADS, THREADS);
  z->n = tn_ll_dim(&z->k->body, z->all);
}
static ll_val first_member(nonzero *z) {
  return ll_icmp(z->k->e, LLVMIntEQ, z->team.member, ll_k(z->k->e, 0));
}

static void launch_counts(nonzero *z) {
  tn_ll *e = z->k->e;
  ll_val sum = ll_k(e, 0);
  ll_if first;
  begin(z, z->tiles);
  for (uint32_t i = 0; i < ROUNDS; i++) sum = ll_add(e, sum, counts(z, element(z, i)));
  tn_cuda_team_fold(&z->team, &sum, 1, fold_add, z);
  ll_if_begin(e, &first, first_member(z));
  tn_cuda_slot_put(z->k, tn_cuda_scratch_at(z->k, z->counts_at), z->team.number, sum);
  ll_if_end(e, &first);
  tn_cuda_launch_end(z->k);
}

/* One block: counts become what lies before them; the total is a result. */
static void launch_sums(nonzero *z) {
  tn_cuda_kernel *k = z->k;
  tn_ll *e = k->e;
  tn_cuda_sum sum = {add, z, ll_k(e, 0)};
  ll_val all, carry = sum.neutral;
  ll_loop l;
  ll_if in, first;
  begin(z, tn_cuda_dim_k(k, 1));
  ll_val room = tn_cuda_scratch_at(k, z->counts_at), tiles = tn_ll_dim(&k->body, z->tiles);
  ll_loop_begin(e, &l, ll_k(e, 0), tiles, ll_k(e, THREADS), &carry, 1);
  ll_val i = ll_iadd(e, l.iv, z->team.member), inside = ll_icmp(e, LLVMIntSLT, i, tiles);
  ll_val count = tn_cuda_slot_get(k, e->i64, room, ll_select(e, inside, i, ll_k(e, 0)));
  ll_val before = tn_cuda_team_scan(&z->team, &sum, ll_select(e, inside, count, ll_k(e, 0)), &all);
  ll_if_begin(e, &in, inside);
  tn_cuda_slot_put(k, room, i, ll_add(e, l.phi[0], before));
  ll_if_end(e, &in);
  ll_val next = ll_add(e, l.phi[0], all);
  ll_loop_end(e, &l, &next);
  ll_if_begin(e, &first, first_member(z));
  tn_ll_index scalar = {.rank = 0};
  tn_cuda_slot_put(k, room, tiles, l.out[0]);
  tn_cuda_store_result(k, 1, &scalar, l.out[0]);
  ll_if_end(e, &first);
  tn_cuda_launch_end(k);
}

static void put_position(nonzero *z, ll_val cond, ll_val at, ll_val position) {
  ll_if here;
  tn_ll_index ix = {.rank = 1, .at = {tn_ll_ix_scalar(at)}};
  ll_if_begin(z->k->e, &here, cond);
  tn_cuda_store_result(z->k, 0, &ix, position);
  ll_if_end(z->k->e, &here);
}

static void launch_positions(nonzero *z) {
  tn_cuda_kernel *k = z->k;
  tn_ll *e = k->e;
  tn_cuda_sum sum = {add, z, ll_k(e, 0)};
  ll_val zero = ll_k(e, 0), all;
  begin(z, z->tiles);
  ll_val room = tn_cuda_scratch_at(k, z->counts_at);
  ll_val total = tn_cuda_slot_get(k, e->i64, room, tn_ll_dim(&k->body, z->tiles));
  ll_val carry = tn_cuda_slot_get(k, e->i64, room, z->team.number);
  for (uint32_t r = 0; r < ROUNDS; r++) {
    ll_val i = element(z, r);
    tn_ll_body_forget(&k->body);
    ll_val one = counts(z, i), before = tn_cuda_team_scan(&z->team, &sum, one, &all);
    put_position(z, ll_icmp(e, LLVMIntNE, one, zero), ll_add(e, carry, before), i);
    ll_val behind = ll_and(e, ll_icmp(e, LLVMIntSGE, i, total), ll_icmp(e, LLVMIntSLT, i, z->n));
    put_position(z, behind, i, zero);
    carry = ll_add(e, carry, all);
  }
  tn_cuda_launch_end(k);
}

static void emit_nonzero(tn_cuda_kernel *k) {
  nonzero z = {.k = k, .x = tn_cuda_operand(k, 0)};
  z.t = tn_cuda_type(k, z.x);
  z.all = tn_cuda_dim_count(k, &z.t, 0, z.t.rank);
  z.tiles = tn_cuda_dim_ceildiv(k, z.all, TILE);
  tn_dim slots = tn_cuda_dim_add(k, z.tiles, tn_cuda_dim_k(k, 1));
  z.counts_at = tn_cuda_scratch(k, tn_cuda_dim_mul(k, slots, tn_cuda_dim_k(k, 8)));
  launch_counts(&z);
  launch_sums(&z);
  launch_positions(&z);
}

/* ---- the records --------------------------------------------------------------------------------------- */

static void emit(tn_cuda_kernel *k) {
  if (!tn_cuda_yields_root(k)) return;
  if (!strcmp(k->root_name, "scatter"))
    emit_scatter(k);
  else
    emit_nonzero(k);
}
static const char *const roots[] = {"scatter", "nonzero", NULL};
const tn_cuda_skeleton tn_cuda_skeleton_irregular = {.roots = roots, .claim = tn_cuda_plain, .emit = emit};

/* Bytes of text: there is nothing to gain on a device. */
static bool claim_none(const tn_cuda_ask *a, const char **why) {
  (void)a;
  *why = "text is left to the cpu";
  return false;
}
static const char *const left_roots[] = {"copy_ranges", "equal_ranges", "split_ranges", "change_case", NULL};
const tn_cuda_skeleton tn_cuda_skeleton_left = {.roots = left_roots, .claim = claim_none};
