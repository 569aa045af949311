/* dft.c - discrete Fourier transforms of any length: a block takes a line, complex or made so, through the
 * steps of a mixed-radix Stockham transform (Stockham 1966). A step of radix r makes every number as a sum of
 * r of those before it, so one piece of code serves all radices; a prime length is one step. Factors come
 * from a table of the n-th roots of unity, made by a launch of its own: that of a step is each s-th of them.
 */
#include "backends/cuda/skel/team.h"
#include "backends/cuda/warp.h"
#include "backends/llvm/convert.h"
#include "backends/llvm/math.h"

enum { THREADS = 256, FEW = 64, SHARED_MOST = 48 << 10 };

typedef struct dft {
  tn_cuda_kernel *k;
  tn_value x;
  tn_type_info tx, ty;
  uint32_t axis, threads, parts;
  bool inverse, halves, shared; /* halves: half a spectrum becomes a real line */
  tn_dim size, lines, table_at, room_at;
  ll_type t;
  uint32_t bytes;                      /* of a complex number */
  ll_val n, line, member, table, room; /* room: two arrays of n */
} dft;

/* What a step works on: numbers q + s (p + m k), k < r, of those that are left = r m become q + s (r p + j).
 */
typedef struct step {
  ll_val r, m, s, left;
} step;

/* ---- complex numbers in memory ------------------------------------------------------------------------- */

static ll_val pair_at(dft *d, ll_val base, ll_val i) {
  tn_ll *e = d->k->e;
  ll_type t = LLVMVectorType(d->t, 2);
  return ll_load(e, t, ll_at(e, base, ll_imul(e, i, ll_k(e, d->bytes))), d->bytes);
}
static void get(dft *d, ll_val base, ll_val i, ll_val v[2]) {
  ll_val x = pair_at(d, base, i);
  for (uint32_t p = 0; p < 2; p++) v[p] = ll_lane(d->k->e, x, p);
}
static void put(dft *d, ll_val base, ll_val i, ll_val re, ll_val im) {
  tn_ll *e = d->k->e;
  ll_val x = LLVMGetPoison(LLVMVectorType(d->t, 2));
  x = ll_put(e, ll_put(e, x, re, 0), im, 1);
  ll_store(e, x, ll_at(e, base, ll_imul(e, i, ll_k(e, d->bytes))), d->bytes);
}
static ll_val room_at(dft *d, ll_val half) {
  tn_ll *e = d->k->e;
  return ll_at(e, d->room, ll_imul(e, ll_imul(e, half, d->n), ll_k(e, d->bytes)));
}

/* ---- the table ----------------------------------------------------------------------------------------- */

/* e^(-2 pi i k / n), of an inverse transform its conjugate. */
static void launch_table(dft *d) {
  tn_cuda_kernel *k = d->k;
  tn_ll *e = k->e;
  tn_cuda_shape shape = {.threads = THREADS, .grid = {tn_cuda_dim_ceildiv(k, d->size, THREADS)}};
  ll_if in;
  tn_cuda_launch_begin(k, &shape);
  ll_val at = tn_cuda_position(k, THREADS), n = tn_ll_dim(&k->body, d->size);
  ll_if_begin(e, &in, ll_icmp(e, LLVMIntSLT, at, n));
  ll_val part = ll_fdiv(e, LLVMBuildSIToFP(e->b, at, e->f64, ""), LLVMBuildSIToFP(e->b, n, e->f64, ""));
  ll_val angle = ll_fmul(e, part, ll_f(e, part, 6.28318530717958647693)), re = tn_ll_cos(e, angle);
  ll_val im = tn_ll_sin(e, angle);
  if (!d->inverse) im = ll_neg(e, im);
  if (d->t == e->f32)
    re = LLVMBuildFPTrunc(e->b, re, e->f32, ""), im = LLVMBuildFPTrunc(e->b, im, e->f32, "");
  put(d, tn_cuda_scratch_at(k, d->table_at), at, re, im);
  ll_if_end(e, &in);
  tn_cuda_launch_end(k);
}

/* ---- lines --------------------------------------------------------------------------------------------- */

static tn_ll_index index_of(dft *d, const tn_type_info *t, ll_val at, uint32_t part) {
  tn_type_info lead = *t;
  lead.rank--;
  tn_ll_index ix = tn_cuda_line_index(d->k, &lead, d->axis, d->line, tn_ll_ix_scalar(at));
  ix.at[lead.rank] = tn_ll_ix_scalar(ll_k(d->k->e, part));
  ix.rank = t->rank;
  ix.shape = t->dims;
  ix.flat = NULL;
  return ix;
}
/* Part of number `at` of this line, 0 where `there` (i1) is false. */
static ll_val read(dft *d, ll_val at, uint32_t part, ll_val there) {
  tn_ll *e = d->k->e;
  tn_ll_index ix = index_of(d, &d->tx, at, part);
  ll_if in;
  LLVMBasicBlockRef from, past;
  ll_if_begin(e, &in, there);
  tn_ll_body_forget(&d->k->body);
  ll_val v = tn_ll_eval(&d->k->body, d->x, &ix), zero = ll_zero(d->t);
  from = LLVMGetInsertBlock(e->b), past = in.other;
  ll_if_end(e, &in);
  tn_ll_body_forget(&d->k->body);
  ll_val r = LLVMBuildPhi(e->b, d->t, "");
  LLVMAddIncoming(r, &v, &from, 1);
  LLVMAddIncoming(r, &zero, &past, 1);
  return r;
}

/* Number i of the line that is transformed: what comes is cut or filled with zeros, and half a spectrum is
 * completed; imaginary parts that a real line cannot have are left out. */
static void number(dft *d, ll_val i, ll_val v[2]) {
  tn_ll *e = d->k->e;
  ll_val zero = ll_k(e, 0), two = ll_k(e, 2), len = tn_ll_dim(&d->k->body, d->tx.dims[d->axis]), from = i;
  ll_val mirrored = ll_icmp(e, LLVMIntSGT, i, ll_lshr(e, d->n, ll_k(e, 1)));
  if (d->halves) from = ll_select(e, mirrored, ll_sub(e, d->n, i), i);
  ll_val there = ll_icmp(e, LLVMIntSLT, from, len), none = ll_zero(d->t);
  v[0] = read(d, from, 0, there);
  v[1] = d->parts == 2 ? read(d, from, 1, there) : none;
  if (!d->halves) return;
  ll_val middle = ll_icmp(e, LLVMIntEQ, ll_imul(e, from, two), d->n);
  ll_val real = ll_or(e, ll_icmp(e, LLVMIntEQ, from, zero), middle);
  v[1] = ll_select(e, real, none, ll_select(e, mirrored, ll_neg(e, v[1]), v[1]));
}

static void load_line(dft *d) {
  tn_ll *e = d->k->e;
  ll_val v[2];
  ll_loop l;
  ll_loop_begin(e, &l, d->member, d->n, ll_k(e, d->threads), NULL, 0);
  number(d, l.iv, v);
  put(d, d->room, l.iv, v[0], v[1]);
  ll_loop_end(e, &l, NULL);
  tn_ll_body_forget(&d->k->body);
  tn_cuda_barrier(d->k);
}

static void store_line(dft *d, ll_val half) {
  tn_cuda_kernel *k = d->k;
  tn_ll *e = k->e;
  ll_val v[2], from = room_at(d, half), made = tn_ll_dim(&k->body, d->ty.dims[d->axis]);
  ll_val n = LLVMBuildSIToFP(e->b, d->n, d->t, "");
  ll_loop l;
  ll_loop_begin(e, &l, d->member, made, ll_k(e, d->threads), NULL, 0);
  tn_ll_body_forget(&k->body);
  get(d, from, l.iv, v);
  for (uint32_t p = 0; p < (d->halves ? 1u : 2u); p++) {
    tn_ll_index ix = index_of(d, &d->ty, l.iv, p);
    tn_cuda_store_result(k, 0, &ix, d->inverse ? ll_fdiv(e, v[p], n) : v[p]);
  }
  ll_loop_end(e, &l, NULL);
  tn_ll_body_forget(&k->body);
}

/* ---- a step -------------------------------------------------------------------------------------------- */

/* a += x w */
static void add_product(tn_ll *e, ll_val a[2], const ll_val x[2], const ll_val w[2]) {
  ll_val re = ll_fma(e, x[0], w[0], a[0]), im = ll_fma(e, x[0], w[1], a[1]);
  a[0] = ll_fma(e, ll_neg(e, x[1]), w[1], re);
  a[1] = ll_fma(e, x[1], w[0], im);
}

/* Number o of what a step makes: over k the sum of from[q + s (p + m k)] times the root of number j (p + m k)
 * of `left`; both positions only grow, the root's around the circle. */
static void make_number(dft *d, const step *t, ll_val from, ll_val to, ll_val o) {
  tn_ll *e = d->k->e;
  ll_val q = ll_imod(e, o, t->s), rest = ll_idiv(e, o, t->s), j = ll_imod(e, rest, t->r),
         p = ll_idiv(e, rest, t->r);
  ll_val turn = ll_imul(e, j, t->m), init[] = {ll_zero(d->t), ll_zero(d->t), ll_imul(e, j, p)}, next[3], x[2],
         w[2];
  ll_val first = ll_iadd(e, q, ll_imul(e, t->s, p)), apart = ll_imul(e, t->s, t->m);
  ll_loop l;
  ll_loop_begin(e, &l, ll_k(e, 0), t->r, ll_k(e, 1), init, 3);
  get(d, from, ll_iadd(e, first, ll_imul(e, apart, l.iv)), x);
  get(d, d->table, ll_imul(e, l.phi[2], t->s), w);
  next[0] = l.phi[0], next[1] = l.phi[1];
  add_product(e, next, x, w);
  ll_val on = ll_add(e, l.phi[2], turn);
  next[2] = ll_select(e, ll_icmp(e, LLVMIntSGE, on, t->left), ll_sub(e, on, t->left), on);
  ll_loop_end(e, &l, next);
  put(d, to, o, l.out[0], l.out[1]);
}

static void do_step(dft *d, const step *t, ll_val half) {
  tn_ll *e = d->k->e;
  ll_val from = room_at(d, half), to = room_at(d, ll_sub(e, ll_k(e, 1), half));
  ll_loop l;
  ll_loop_begin(e, &l, d->member, d->n, ll_k(e, d->threads), NULL, 0);
  make_number(d, t, from, to, l.iv);
  ll_loop_end(e, &l, NULL);
  tn_cuda_barrier(d->k);
}

/* ---- plans --------------------------------------------------------------------------------------------- */

static int64_t radix_of(int64_t left) {
  if (left % 4 == 0) return 4;
  for (int64_t r = 2; r <= left / r; r++)
    if (left % r == 0) return r;
  return left;
}

/* A known length: its steps one after the other. */
static ll_val known_steps(dft *d, int64_t n) {
  tn_ll *e = d->k->e;
  int64_t half = 0, s = 1;
  for (int64_t left = n, r; left > 1; left /= r, half = 1 - half) {
    r = radix_of(left);
    step t = {ll_k(e, r), ll_k(e, left / r), ll_k(e, s), ll_k(e, left)};
    do_step(d, &t, ll_k(e, half));
    s *= r;
  }
  return ll_k(e, half);
}

/* The radix of the next step: 4, or the smallest prime. */
static ll_val next_radix(dft *d, ll_val left) {
  tn_ll *e = d->k->e;
  LLVMBasicBlockRef before = LLVMGetInsertBlock(e->b), test = ll_block(e, "divides"),
                    done = ll_block(e, "radix");
  ll_val two = ll_k(e, 2), one = ll_k(e, 1);
  LLVMBuildBr(e->b, test);
  LLVMPositionBuilderAtEnd(e->b, test);
  ll_val r = LLVMBuildPhi(e->b, e->i64, ""), next = ll_add(e, r, one);
  LLVMAddIncoming(r, &two, &before, 1);
  LLVMAddIncoming(r, &next, &test, 1);
  ll_val large = ll_icmp(e, LLVMIntSGT, ll_mul(e, r, r), left);
  ll_val divides = ll_icmp(e, LLVMIntEQ, ll_urem(e, left, r), ll_k(e, 0));
  LLVMBuildCondBr(e->b, ll_or(e, large, divides), done, test);
  LLVMPositionBuilderAtEnd(e->b, done);
  ll_val four = ll_icmp(e, LLVMIntEQ, ll_and(e, left, ll_k(e, 3)), ll_k(e, 0));
  return ll_select(e, four, ll_k(e, 4), ll_select(e, large, left, r));
}

/* A length that only the run knows. What is left after a step: 1, when all are done. */
static ll_val unknown_steps(dft *d) {
  tn_ll *e = d->k->e;
  LLVMBasicBlockRef before = LLVMGetInsertBlock(e->b), head = ll_block(e, "steps"),
                    body = ll_block(e, "step"), done = ll_block(e, "done"), end;
  ll_val init[] = {d->n, ll_k(e, 1), ll_k(e, 0)}, phi[3], next[3]; /* left, s, half */
  LLVMBuildBr(e->b, head);
  LLVMPositionBuilderAtEnd(e->b, head);
  for (int i = 0; i < 3; i++) phi[i] = LLVMBuildPhi(e->b, e->i64, "");
  LLVMBuildCondBr(e->b, ll_icmp(e, LLVMIntSGT, phi[0], ll_k(e, 1)), body, done);
  LLVMPositionBuilderAtEnd(e->b, body);
  ll_val r = next_radix(d, phi[0]), m = ll_udiv(e, phi[0], r);
  do_step(d, &(step){r, m, phi[1], phi[0]}, phi[2]);
  next[0] = m, next[1] = ll_mul(e, phi[1], r), next[2] = ll_sub(e, ll_k(e, 1), phi[2]);
  end = LLVMGetInsertBlock(e->b);
  LLVMBuildBr(e->b, head);
  for (int i = 0; i < 3; i++)
    LLVMAddIncoming(phi[i], &init[i], &before, 1), LLVMAddIncoming(phi[i], &next[i], &end, 1);
  LLVMPositionBuilderAtEnd(e->b, done);
  return phi[2];
}

/* ---- the kernel ---------------------------------------------------------------------------------------- */

static void launch_lines(dft *d) {
  tn_cuda_kernel *k = d->k;
  tn_ll *e = k->e;
  tn_cuda_shape shape = {.threads = d->threads, .grid = {d->lines}};
  int64_t n;
  bool known = tn_ll_dim_const(&k->body, d->size, &n);
  tn_cuda_launch_begin(k, &shape);
  d->n = tn_ll_dim(&k->body, d->size);
  d->line = tn_cuda_i64(k, tn_cuda_block(k, 0));
  d->member = tn_cuda_i64(k, tn_cuda_thread(k));
  d->table = tn_cuda_scratch_at(k, d->table_at);
  if (d->shared && known) {
    d->room = tn_cuda_shared(k, 2 * (uint32_t)n * d->bytes, d->bytes);
  } else {
    ll_val each = ll_imul(e, d->n, ll_k(e, 2 * (int64_t)d->bytes));
    d->room = ll_at(e, tn_cuda_scratch_at(k, d->room_at), ll_imul(e, d->line, each));
  }
  load_line(d);
  store_line(d, known ? known_steps(d, n) : unknown_steps(d));
  tn_cuda_launch_end(k);
}

static void read_op(dft *d) {
  tn_cuda_kernel *k = d->k;
  tn_ll_body *b = &k->body;
  d->x = tn_cuda_operand(k, 0);
  d->tx = tn_cuda_type(k, d->x);
  d->ty = tn_cuda_type(k, tn_cuda_result(k, 0));
  d->axis = tn_ll_axis(tn_ll_attr_int(b, k->root, "axis"), d->tx.rank);
  d->inverse = tn_ll_attr_int(b, k->root, "inverse");
  d->halves = d->inverse && tn_ll_attr_int(b, k->root, "onesided");
  d->size = tn_ll_attr(b, k->root, "n").u.dim;
  d->t = d->tx.dtype == TN_DT_f64 ? k->e->f64 : k->e->f32;
  d->bytes = d->t == k->e->f64 ? 16 : 8;
}

static void emit(tn_cuda_kernel *k) {
  dft d = {.k = k, .threads = THREADS};
  int64_t n, parts;
  if (!tn_cuda_yields_root(k)) return;
  read_op(&d);
  tn_type_info lead = d.tx;
  lead.rank--;
  d.lines = tn_cuda_lines(k, &lead, d.axis);
  if (!tn_ll_dim_const(&k->body, d.tx.dims[lead.rank], &parts)) parts = 0;
  d.parts = (uint32_t)parts;
  bool known = tn_ll_dim_const(&k->body, d.size, &n);
  d.shared = known && n <= SHARED_MOST / 2 / d.bytes;
  if (known && n <= FEW) d.threads = 32;
  tn_dim bytes = tn_cuda_dim_mul(k, d.size, tn_cuda_dim_k(k, d.bytes));
  d.table_at = tn_cuda_scratch(k, bytes);
  if (!d.shared)
    d.room_at =
        tn_cuda_scratch(k, tn_cuda_dim_mul(k, tn_cuda_dim_mul(k, bytes, d.lines), tn_cuda_dim_k(k, 2)));
  launch_table(&d);
  launch_lines(&d);
}

static bool claim(const tn_cuda_ask *a, const char **why) {
  tn_type_info t = tn_cuda_type_of(a, a->ir->op_operand(a->m, a->op, 0));
  tn_dim_info parts;
  *why = "transforms are of f32 and f64";
  if (t.dtype != TN_DT_f32 && t.dtype != TN_DT_f64) return false;
  a->ir->dim_get(a->m, t.dims[t.rank - 1], &parts);
  *why = "whether numbers are complex is only known at run time";
  return parts.kind == TN_DIM_CONST;
}

static const char *const roots[] = {"dft", NULL};
const tn_cuda_skeleton tn_cuda_skeleton_dft = {.roots = roots, .claim = claim, .emit = emit};
