/* running.c - cumsum and cumprod. Along the last axis a team takes a line in chunks of one element per
 * thread: a scan within each warp, the totals of the warps before it, and what came before the chunk. Along
 * an inner axis every thread walks a line of its own. Floats are summed in f64, integers in 64 bits. */
#include "backends/cuda/skel/team.h"
#include "backends/cuda/warp.h"
#include "backends/llvm/convert.h"

enum { WARP = 32, INNER_THREADS = 128, SHORT = 128 };

typedef struct running {
  tn_cuda_kernel *k;
  tn_cuda_team team;
  tn_value x;
  tn_type_info t;
  uint32_t axis, threads, width;
  bool exclusive, reverse, product, real;
  tn_dtype acc_type;
  ll_type acc;
  ll_val n, line, mine; /* mine: NULL, or i1: there is such a line */
} running;

static ll_val join(void *ctx, ll_val a, ll_val b) {
  running *s = ctx;
  if (s->product) return (s->real ? ll_fmul : ll_mul)(s->k->e, a, b);
  return (s->real ? ll_fadd : ll_add)(s->k->e, a, b);
}
static ll_val neutral(running *s) {
  return s->real ? ll_real(s->k->e, s->acc, s->product) : ll_int(s->k->e, s->acc, s->product);
}

static tn_ll_index index_of(running *s, ll_val i) {
  tn_ll *e = s->k->e;
  if (s->reverse) i = ll_sub(e, ll_sub(e, s->n, ll_k(e, 1)), i);
  return tn_cuda_line_index(s->k, &s->t, s->axis, s->line, tn_ll_ix_scalar(i));
}
static ll_val read_x(running *s, ll_val i) {
  tn_ll_index ix = index_of(s, i);
  return tn_ll_convert(s->k->e, s->t.dtype, s->acc_type, tn_ll_eval(&s->k->body, s->x, &ix));
}
static void write(running *s, ll_val i, ll_val v) {
  tn_ll_index ix = index_of(s, i);
  tn_cuda_store_result(s->k, 0, &ix, tn_ll_convert(s->k->e, s->acc_type, s->t.dtype, v));
}

/* ---- a line per thread --------------------------------------------------------------------------------- */

static void walk(running *s) {
  tn_ll *e = s->k->e;
  ll_val acc = neutral(s);
  ll_loop l;
  ll_loop_begin(e, &l, ll_k(e, 0), s->n, ll_k(e, 1), &acc, 1);
  tn_ll_body_forget(&s->k->body);
  acc = join(s, l.phi[0], read_x(s, l.iv));
  write(s, l.iv, s->exclusive ? l.phi[0] : acc);
  ll_loop_end(e, &l, &acc);
  tn_ll_body_forget(&s->k->body);
}

/* ---- a line per team ----------------------------------------------------------------------------------- */

static ll_val chunk(running *s, ll_val i, ll_val carry) {
  tn_ll *e = s->k->e;
  ll_val inside = ll_icmp(e, LLVMIntSLT, i, s->n), all;
  tn_cuda_sum sum = {join, s, neutral(s)};
  ll_if here;
  ll_val x = ll_select(e, inside, read_x(s, ll_imin(e, i, ll_sub(e, s->n, ll_k(e, 1)))), sum.neutral);
  ll_val before = join(s, carry, tn_cuda_team_scan(&s->team, &sum, x, &all));
  ll_if_begin(e, &here, s->mine ? ll_and(e, inside, s->mine) : inside);
  tn_ll_body_forget(&s->k->body);
  write(s, i, s->exclusive ? before : join(s, before, x));
  ll_if_end(e, &here);
  return join(s, carry, all);
}

static void by_team(running *s) {
  tn_ll *e = s->k->e;
  ll_val carry = neutral(s);
  ll_loop l;
  ll_loop_begin(e, &l, ll_k(e, 0), s->n, ll_k(e, s->width), &carry, 1);
  tn_ll_body_forget(&s->k->body);
  carry = chunk(s, ll_iadd(e, l.iv, s->team.member), l.phi[0]);
  ll_loop_end(e, &l, &carry);
  tn_ll_body_forget(&s->k->body);
}

/* ---- the kernel ---------------------------------------------------------------------------------------- */

static void read_op(running *s) {
  tn_ll_body *b = &s->k->body;
  s->t = tn_cuda_type(s->k, s->x);
  s->axis = tn_ll_axis(tn_ll_attr_int(b, s->k->root, "axis"), s->t.rank);
  s->exclusive = tn_ll_attr_int(b, s->k->root, "exclusive");
  s->reverse = tn_ll_attr_int(b, s->k->root, "reverse");
  s->product = !strcmp(s->k->root_name, "cumprod");
  uint32_t cls = tn_ll_dtype_of(s->t.dtype).cls;
  s->real = cls == TN_CLASS_FLOAT;
  s->acc_type = s->real ? TN_DT_f64 : cls == TN_CLASS_INT ? TN_DT_i64 : TN_DT_u64;
  s->acc = tn_ll_register_type(s->k->e, s->acc_type);
}

static void emit(tn_cuda_kernel *k) {
  tn_ll *e = k->e;
  running s = {.k = k, .x = tn_cuda_operand(k, 0), .threads = INNER_THREADS, .width = 1};
  int64_t n;
  if (!tn_cuda_yields_root(k)) return;
  read_op(&s);
  tn_dim size = s.t.dims[s.axis], lines = tn_cuda_lines(k, &s.t, s.axis);
  if (s.axis == s.t.rank - 1) {
    s.width = tn_ll_dim_const(&k->body, size, &n) && n <= SHORT ? WARP : 256;
    s.threads = s.width == WARP ? 4 * WARP : s.width;
  }
  tn_cuda_shape shape = {.threads = s.threads, .grid = {tn_cuda_dim_ceildiv(k, lines, s.threads / s.width)}};
  tn_cuda_launch_begin(k, &shape);
  tn_cuda_team_begin(&s.team, k, s.threads, s.width);
  s.n = tn_ll_dim(&k->body, size);
  s.line = s.team.number;
  if (s.width < s.threads) {
    ll_val all = tn_ll_dim(&k->body, lines);
    s.mine = ll_icmp(e, LLVMIntSLT, s.line, all);
    s.line = ll_imin(e, s.line, ll_sub(e, all, ll_k(e, 1)));
  }
  ll_if here;
  if (s.width == 1) ll_if_begin(e, &here, s.mine);
  if (s.width == 1)
    walk(&s);
  else
    by_team(&s);
  if (s.width == 1) ll_if_end(e, &here);
  tn_cuda_launch_end(k);
}

static const char *const roots[] = {"cumsum", "cumprod", NULL};
const tn_cuda_skeleton tn_cuda_skeleton_running = {.roots = roots, .claim = tn_cuda_plain, .emit = emit};
