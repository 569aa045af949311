/* nms.c - non-maximum suppression: a block takes one class of one picture and picks the best box that is left
 * until there is none, striking out what overlaps it each time. One block then adds up how many the classes
 * have, and each class writes its own behind those before it. */
#include "backends/cuda/skel/team.h"
#include "backends/cuda/warp.h"
#include "backends/llvm/convert.h"

enum { THREADS = 256, SLOT = 8 };
enum { BOXES, SCORES, LIMIT, IOU, LEAST }; /* operands */

typedef struct nms {
  tn_cuda_kernel *k;
  tn_cuda_team team;
  tn_value in[5];
  tn_type_info tb, ts;
  bool center;
  tn_dim size, groups, rows;
  tn_dim left_at, picks_at, counts_at; /* scratch: i32 [groups][n]; i64 [groups][n]; i64 [groups + 1] */
  ll_val n, left, picks, limit, iou, least, picture, group_class;
} nms;

typedef struct box {
  ll_val y0, x0, y1, x1, area;
} box;

static ll_val fmin_of(tn_ll *e, ll_val a, ll_val b) { return ll_call2(e, "llvm.minnum", a, b); }
static ll_val fmax_of(tn_ll *e, ll_val a, ll_val b) { return ll_call2(e, "llvm.maxnum", a, b); }

/* ---- operands ------------------------------------------------------------------------------------------ */

/* A scalar that may be absent: 0. */
static ll_val scalar(nms *s, uint32_t operand, tn_dtype as) {
  tn_ll_index ix = {.rank = 0};
  tn_value v = s->in[operand];
  if (!v) return ll_zero(tn_ll_register_type(s->k->e, as));
  return tn_ll_convert(s->k->e, tn_cuda_type(s->k, v).dtype, as, tn_ll_eval(&s->k->body, v, &ix));
}
static ll_val score(nms *s, ll_val i) {
  tn_ll_index ix = {.rank = 3, .shape = s->ts.dims};
  ll_val at[] = {s->picture, s->group_class, i};
  for (int d = 0; d < 3; d++) ix.at[d] = tn_ll_ix_scalar(at[d]);
  return tn_ll_eval(&s->k->body, s->in[SCORES], &ix);
}

static box box_at(nms *s, ll_val i) {
  tn_ll *e = s->k->e;
  ll_val v[4];
  tn_ll_index ix = {.rank = 3, .shape = s->tb.dims, .at = {tn_ll_ix_scalar(s->picture), tn_ll_ix_scalar(i)}};
  for (int p = 0; p < 4; p++) {
    ix.at[2] = tn_ll_ix_scalar(ll_k(e, p));
    v[p] = tn_ll_eval(&s->k->body, s->in[BOXES], &ix);
  }
  box b = {fmin_of(e, v[0], v[2]), fmin_of(e, v[1], v[3]), fmax_of(e, v[0], v[2]), fmax_of(e, v[1], v[3]),
           NULL};
  if (s->center) {
    ll_val h = ll_fmul(e, v[3], ll_f(e, v[3], 0.5)), w = ll_fmul(e, v[2], ll_f(e, v[2], 0.5));
    b = (box){ll_fsub(e, v[1], h), ll_fsub(e, v[0], w), ll_fadd(e, v[1], h), ll_fadd(e, v[0], w), NULL};
  }
  b.area = ll_fmul(e, ll_fsub(e, b.y1, b.y0), ll_fsub(e, b.x1, b.x0));
  return b;
}

/* More than `iou` of what both cover is covered by both. */
static ll_val overlap(nms *s, const box *a, const box *b) {
  tn_ll *e = s->k->e;
  ll_val h = ll_fsub(e, fmin_of(e, a->y1, b->y1), fmax_of(e, a->y0, b->y0));
  ll_val w = ll_fsub(e, fmin_of(e, a->x1, b->x1), fmax_of(e, a->x0, b->x0)), zero = ll_f(e, h, 0);
  ll_val both = ll_fmul(e, h, w), all = ll_fsub(e, ll_fadd(e, a->area, b->area), both);
  ll_val positive[] = {h, w, a->area, b->area, all};
  ll_val yes = ll_fcmp(e, LLVMRealOGT, ll_fdiv(e, both, all), s->iou);
  for (size_t i = 0; i < TN_COUNT(positive); i++)
    yes = ll_and(e, yes, ll_fcmp(e, LLVMRealOGT, positive[i], zero));
  return yes;
}

/* ---- picks of a class ---------------------------------------------------------------------------------- */

static ll_val left_slot(nms *s, ll_val i) {
  return ll_at(s->k->e, s->left, ll_imul(s->k->e, i, ll_k(s->k->e, 4)));
}
static ll_val boxes_begin(nms *s, ll_loop *l, const ll_val *init, uint32_t n) {
  ll_loop_begin(s->k->e, l, s->team.member, s->n, ll_k(s->k->e, THREADS), init, n);
  tn_ll_body_forget(&s->k->body);
  return l->iv;
}
static void boxes_end(nms *s, ll_loop *l, const ll_val *next) {
  ll_loop_end(s->k->e, l, next);
  tn_ll_body_forget(&s->k->body);
}

/* Which boxes count at all. A thread alone reads and writes what is noted of its boxes. */
static void mark_boxes(nms *s) {
  tn_ll *e = s->k->e;
  ll_loop l;
  ll_val i = boxes_begin(s, &l, NULL, 0), x = score(s, i);
  ll_val counts = s->in[LEAST] ? ll_fcmp(e, LLVMRealOGT, x, s->least) : ll_fcmp(e, LLVMRealORD, x, x);
  ll_store(e, LLVMBuildZExt(e->b, counts, e->i32, ""), left_slot(s, i), 4);
  boxes_end(s, &l, NULL);
}

/* The better score, of equal ones the first; index -1: none. */
static void fold_better(void *ctx, ll_val *acc, const ll_val *other) {
  tn_ll *e = ((nms *)ctx)->k->e;
  ll_val none = ll_k(e, 0), tied = ll_fcmp(e, LLVMRealOEQ, other[0], acc[0]);
  tied = ll_and(e, tied, ll_icmp(e, LLVMIntSLT, other[1], acc[1]));
  ll_val take = ll_or(e, ll_fcmp(e, LLVMRealOGT, other[0], acc[0]), tied);
  take = ll_or(e, take, ll_icmp(e, LLVMIntSLT, acc[1], none));
  take = ll_and(e, take, ll_icmp(e, LLVMIntSGE, other[1], none));
  for (int i = 0; i < 2; i++) acc[i] = ll_select(e, take, other[i], acc[i]);
}
static ll_val best_left(nms *s) {
  tn_ll *e = s->k->e;
  ll_val acc[] = {ll_real(e, e->f32, 0), ll_k(e, -1)}, next[2];
  ll_loop l;
  ll_val i = boxes_begin(s, &l, acc, 2), here = ll_load(e, e->i32, left_slot(s, i), 4);
  ll_val other[] = {score(s, i),
                    ll_select(e, ll_icmp(e, LLVMIntNE, here, ll_int(e, e->i32, 0)), i, ll_k(e, -1))};
  next[0] = l.phi[0], next[1] = l.phi[1];
  fold_better(s, next, other);
  boxes_end(s, &l, next);
  acc[0] = l.out[0], acc[1] = l.out[1];
  tn_cuda_team_fold(&s->team, acc, 2, fold_better, s);
  return acc[1];
}

static void strike_out(nms *s, ll_val best) {
  tn_ll *e = s->k->e;
  box taken = box_at(s, best);
  ll_loop l;
  ll_if gone;
  ll_val i = boxes_begin(s, &l, NULL, 0);
  box b = box_at(s, i);
  ll_if_begin(e, &gone, ll_or(e, overlap(s, &b, &taken), ll_icmp(e, LLVMIntEQ, i, best)));
  ll_store(e, ll_int(e, e->i32, 0), left_slot(s, i), 4);
  ll_if_end(e, &gone);
  boxes_end(s, &l, NULL);
}

static void first_puts(nms *s, ll_val room, ll_val i, ll_val v) {
  tn_ll *e = s->k->e;
  ll_if first;
  ll_if_begin(e, &first, ll_icmp(e, LLVMIntEQ, s->team.member, ll_k(e, 0)));
  tn_cuda_slot_put(s->k, room, i, v);
  ll_if_end(e, &first);
}

/* Picks until none is left or the limit is reached; gives how many. */
static ll_val pick(nms *s) {
  tn_ll *e = s->k->e;
  ll_val zero = ll_k(e, 0), next;
  LLVMBasicBlockRef before = LLVMGetInsertBlock(e->b), head = ll_block(e, "best"), body = ll_block(e, "pick"),
                    done = ll_block(e, "done"), end;
  LLVMBuildBr(e->b, head);
  LLVMPositionBuilderAtEnd(e->b, head);
  tn_ll_body_forget(&s->k->body);
  ll_val count = LLVMBuildPhi(e->b, e->i64, ""), best = best_left(s);
  ll_val more = ll_and(e, ll_icmp(e, LLVMIntSGE, best, zero), ll_icmp(e, LLVMIntSLT, count, s->limit));
  LLVMBuildCondBr(e->b, more, body, done);
  LLVMPositionBuilderAtEnd(e->b, body);
  tn_ll_body_forget(&s->k->body);
  first_puts(s, s->picks, count, best);
  strike_out(s, best);
  next = ll_add(e, count, ll_k(e, 1));
  end = LLVMGetInsertBlock(e->b);
  LLVMBuildBr(e->b, head);
  LLVMAddIncoming(count, &zero, &before, 1);
  LLVMAddIncoming(count, &next, &end, 1);
  LLVMPositionBuilderAtEnd(e->b, done);
  tn_ll_body_forget(&s->k->body);
  return count;
}

static void begin(nms *s, tn_dim blocks) {
  tn_cuda_kernel *k = s->k;
  tn_ll *e = k->e;
  tn_cuda_shape shape = {.threads = THREADS, .grid = {blocks}};
  tn_cuda_launch_begin(k, &shape);
  tn_cuda_team_begin(&s->team, k, THREADS, THREADS);
  ll_val classes = tn_ll_dim(&k->body, s->ts.dims[1]);
  s->n = tn_ll_dim(&k->body, s->size);
  s->picture = ll_idiv(e, s->team.number, classes);
  s->group_class = ll_imod(e, s->team.number, classes);
  s->picks = ll_at(e, tn_cuda_scratch_at(k, s->picks_at),
                   ll_imul(e, ll_imul(e, s->team.number, s->n), ll_k(e, SLOT)));
}

static void launch_picks(nms *s) {
  tn_cuda_kernel *k = s->k;
  tn_ll *e = k->e;
  begin(s, s->groups);
  s->left =
      ll_at(e, tn_cuda_scratch_at(k, s->left_at), ll_imul(e, ll_imul(e, s->team.number, s->n), ll_k(e, 4)));
  s->limit = scalar(s, LIMIT, TN_DT_i64);
  s->iou = scalar(s, IOU, TN_DT_f32);
  s->least = scalar(s, LEAST, TN_DT_f32);
  mark_boxes(s);
  ll_val count = pick(s);
  first_puts(s, tn_cuda_scratch_at(k, s->counts_at), s->team.number, count);
  tn_cuda_launch_end(k);
}

/* ---- results ------------------------------------------------------------------------------------------- */

static void put_row(nms *s, ll_val row, const ll_val v[3]) {
  tn_type_info t = tn_cuda_type(s->k, tn_cuda_result(s->k, 0));
  for (int i = 0; i < 3; i++) {
    tn_ll_index ix = {
        .rank = 2, .shape = t.dims, .at = {tn_ll_ix_scalar(row), tn_ll_ix_scalar(ll_k(s->k->e, i))}};
    tn_cuda_store_result(s->k, 0, &ix, v[i]);
  }
}

static ll_val add(void *ctx, ll_val a, ll_val b) { return ll_add(((nms *)ctx)->k->e, a, b); }

/* Counts become what lies before them, [groups] what all have. */
static ll_val sum_counts(nms *s, ll_val room, ll_val groups) {
  tn_cuda_kernel *k = s->k;
  tn_ll *e = k->e;
  tn_cuda_sum sum = {add, s, ll_k(e, 0)};
  ll_val carry = sum.neutral, all;
  ll_loop l;
  ll_if in;
  ll_loop_begin(e, &l, ll_k(e, 0), groups, ll_k(e, THREADS), &carry, 1);
  ll_val i = ll_iadd(e, l.iv, s->team.member), inside = ll_icmp(e, LLVMIntSLT, i, groups);
  ll_val count = tn_cuda_slot_get(k, e->i64, room, ll_select(e, inside, i, ll_k(e, 0)));
  ll_val before = tn_cuda_team_scan(&s->team, &sum, ll_select(e, inside, count, ll_k(e, 0)), &all);
  ll_if_begin(e, &in, inside);
  tn_cuda_slot_put(k, room, i, ll_add(e, l.phi[0], before));
  ll_if_end(e, &in);
  carry = ll_add(e, l.phi[0], all);
  ll_loop_end(e, &l, &carry);
  first_puts(s, room, groups, l.out[0]);
  return l.out[0];
}

static void launch_sums(nms *s) {
  tn_cuda_kernel *k = s->k;
  tn_ll *e = k->e;
  ll_loop l;
  ll_if first;
  tn_ll_index none = {.rank = 0};
  begin(s, tn_cuda_dim_k(k, 1));
  ll_val room = tn_cuda_scratch_at(k, s->counts_at), rows = tn_ll_dim(&k->body, s->rows), zero = ll_k(e, 0);
  ll_val count = ll_imin(e, sum_counts(s, room, tn_ll_dim(&k->body, s->groups)), rows);
  ll_if_begin(e, &first, ll_icmp(e, LLVMIntEQ, s->team.member, zero));
  tn_cuda_store_result(k, 1, &none, count);
  ll_if_end(e, &first);
  ll_loop_begin(e, &l, ll_add(e, count, s->team.member), rows, ll_k(e, THREADS), NULL, 0);
  tn_ll_body_forget(&k->body);
  put_row(s, l.iv, (ll_val[]){zero, zero, zero});
  ll_loop_end(e, &l, NULL);
  tn_cuda_launch_end(k);
}

static void launch_rows(nms *s) {
  tn_cuda_kernel *k = s->k;
  tn_ll *e = k->e;
  ll_loop l;
  begin(s, s->groups);
  ll_val room = tn_cuda_scratch_at(k, s->counts_at), group = s->team.number;
  ll_val from = tn_cuda_slot_get(k, e->i64, room, group), rows = tn_ll_dim(&k->body, s->rows);
  ll_val to = ll_imin(e, tn_cuda_slot_get(k, e->i64, room, ll_iadd(e, group, ll_k(e, 1))), rows);
  ll_loop_begin(e, &l, ll_add(e, from, s->team.member), to, ll_k(e, THREADS), NULL, 0);
  tn_ll_body_forget(&k->body);
  ll_val best = tn_cuda_slot_get(k, e->i64, s->picks, ll_sub(e, l.iv, from));
  put_row(s, l.iv, (ll_val[]){s->picture, s->group_class, best});
  ll_loop_end(e, &l, NULL);
  tn_cuda_launch_end(k);
}

static void emit(tn_cuda_kernel *k) {
  nms s = {.k = k};
  if (!tn_cuda_yields_root(k)) return;
  for (uint32_t i = 0; i < TN_COUNT(s.in); i++) s.in[i] = tn_cuda_operand(k, i);
  s.tb = tn_cuda_type(k, s.in[BOXES]);
  s.ts = tn_cuda_type(k, s.in[SCORES]);
  s.center = tn_ll_attr_int(&k->body, k->root, "center");
  s.size = s.ts.dims[2];
  s.groups = tn_cuda_dim_mul(k, s.ts.dims[0], s.ts.dims[1]);
  s.rows = tn_ll_attr(&k->body, k->root, "rows").u.dim;
  tn_dim all = tn_cuda_dim_mul(k, s.groups, s.size), slot = tn_cuda_dim_k(k, SLOT), one = tn_cuda_dim_k(k, 1);
  s.left_at = tn_cuda_scratch(k, tn_cuda_dim_mul(k, all, tn_cuda_dim_k(k, 4)));
  s.picks_at = tn_cuda_scratch(k, tn_cuda_dim_mul(k, all, slot));
  s.counts_at = tn_cuda_scratch(k, tn_cuda_dim_mul(k, tn_cuda_dim_add(k, s.groups, one), slot));
  launch_picks(&s);
  launch_sums(&s);
  launch_rows(&s);
}

static const char *const roots[] = {"nms", NULL};
const tn_cuda_skeleton tn_cuda_skeleton_nms = {.roots = roots, .claim = tn_cuda_plain, .emit = emit};
