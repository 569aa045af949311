/* scan.c - ssm_scan and delta_scan: a team of lanes takes one row (ssm) or column (delta) of a state, holds
 * it in registers and walks the tokens. Lanes lie along the axis that a token sums over, so a sum is a few
 * shuffles; neighbouring teams take neighbouring features. */
#include "backends/cuda/skel/team.h"
#include "backends/cuda/warp.h"
#include "backends/llvm/convert.h"
#include "backends/llvm/math.h"

enum { THREADS = 128, WARP = 32, MOST = 16, LONGEST = 512 }; /* LONGEST: of a row or column */

typedef struct walk {
  tn_cuda_kernel *k;
  tn_cuda_team team;
  int64_t units;             /* steps of `wide` numbers along the state's axis */
  uint32_t wide, per, width; /* per: steps of a lane */
  tn_dim lines;              /* rows or columns of all states */
  ll_val line, mine, tokens; /* mine: i1, there is such a line */
} walk;

/* ---- numbers along the state's axis -------------------------------------------------------------------- */

/* Step i of this lane. *inside: i1, there is one; NULL: always. Behind the end the last step stands in. */
static tn_ll_ix step_of(walk *w, uint32_t i, ll_val *inside) {
  tn_ll *e = w->k->e;
  ll_val u = ll_iadd(e, w->team.member, ll_k(e, (int64_t)i * w->width));
  bool all = (int64_t)(i + 1) * w->width <= w->units;
  *inside = all ? NULL : ll_icmp(e, LLVMIntSLT, u, ll_k(e, w->units));
  if (!all) u = ll_imin(e, u, ll_k(e, w->units - 1));
  u = ll_imul(e, u, ll_k(e, w->wide));
  return w->wide > 1 ? tn_ll_ix_lanes(u, true) : tn_ll_ix_scalar(u);
}
static tn_ll_index index_at(const ll_val *at, uint32_t rank) {
  tn_ll_index ix = {.rank = rank};
  for (uint32_t d = 0; d < rank; d++)
    if (at[d]) ix.at[d] = tn_ll_ix_scalar(at[d]);
  return ix;
}
/* Step i of v, whose axis is the one without a coordinate in at[]. */
static tn_ll_index step_index(walk *w, const ll_val *at, uint32_t rank, uint32_t i) {
  ll_val inside;
  tn_ll_index ix = index_at(at, rank);
  for (uint32_t d = 0; d < rank; d++)
    if (!at[d]) ix.at[d] = step_of(w, i, &inside);
  return ix;
}
static ll_val vector_at(walk *w, tn_value v, const ll_val *at, uint32_t rank, uint32_t i) {
  tn_ll_index ix = step_index(w, at, rank, i);
  return ll_wide(w->k->e, tn_ll_eval_f32(&w->k->body, v, &ix), w->wide > 1);
}
static ll_val number_at(walk *w, tn_value v, const ll_val *at, uint32_t rank) {
  tn_ll_index ix = index_at(at, rank);
  return tn_ll_eval_f32(&w->k->body, v, &ix);
}
static ll_val spread(walk *w, ll_val x) { return ll_wide(w->k->e, x, w->wide > 1); }

static ll_val zeros(walk *w) { return ll_zero(w->wide > 1 ? ll_vec(w->k->e, w->k->e->f32) : w->k->e->f32); }

static void fold_add(void *ctx, ll_val *acc, const ll_val *other) {
  acc[0] = ll_fadd(((walk *)ctx)->k->e, acc[0], other[0]);
}
/* The sum of x[i] y[i] over the whole axis; all lanes of the team get it. */
static ll_val dot(walk *w, const ll_val *x, const ll_val *y) {
  tn_ll *e = w->k->e;
  ll_val sum = zeros(w), inside;
  for (uint32_t i = 0; i < w->per; i++) {
    step_of(w, i, &inside);
    ll_val more = ll_fma(e, x[i], y[i], sum);
    sum = inside ? ll_select(e, inside, more, sum) : more;
  }
  tn_cuda_lanes_fold(w->k, &sum, 1, fold_add, w);
  tn_cuda_team_fold(&w->team, &sum, 1, fold_add, w);
  return sum;
}

/* Stores a number as result `r` of the root, by one lane of the team. */
static void put_number(walk *w, uint32_t r, const ll_val *at, uint32_t rank, ll_val x) {
  tn_ll *e = w->k->e;
  ll_if one;
  tn_dtype t = tn_cuda_type(w->k, tn_cuda_result(w->k, r)).dtype;
  tn_ll_index ix = index_at(at, rank);
  ll_if_begin(e, &one, ll_and(e, w->mine, ll_icmp(e, LLVMIntEQ, w->team.member, ll_k(e, 0))));
  tn_cuda_store_result(w->k, r, &ix, tn_ll_convert(e, TN_DT_f32, t, x));
  ll_if_end(e, &one);
  tn_ll_body_forget(&w->k->body);
}
/* The state's numbers; at[]: as for vector_at. */
static void put_state(walk *w, uint32_t r, const ll_val *at, uint32_t axis, const ll_val *state) {
  tn_ll *e = w->k->e;
  tn_dtype t = tn_cuda_type(w->k, tn_cuda_result(w->k, r)).dtype;
  for (uint32_t i = 0; i < w->per; i++) {
    ll_val inside, column = step_of(w, i, &inside).v;
    ll_if there;
    ll_if_begin(e, &there, inside ? ll_and(e, inside, w->mine) : w->mine);
    for (uint32_t l = 0; l < w->wide; l++) {
      tn_ll_index ix = index_at(at, 4);
      ix.at[axis] = tn_ll_ix_scalar(ll_iadd(e, column, ll_k(e, l)));
      ll_val x = w->wide > 1 ? ll_lane(e, state[i], l) : state[i];
      tn_cuda_store_result(w->k, r, &ix, tn_ll_convert(e, TN_DT_f32, t, x));
    }
    ll_if_end(e, &there);
  }
}

/* ---- ssm_scan ------------------------------------------------------------------------------------------ */

enum { X, DT, A, B, C, STATE };

typedef struct ssm {
  walk w;
  ll_val seq, head, group, row;
  bool shared;        /* a is [h, 1] */
  ll_val rates[MOST]; /* a; if shared, in the first one */
} ssm;

static tn_value in(const ssm *m, uint32_t i) { return tn_cuda_operand(m->w.k, i); }

static void ssm_token(ssm *m, ll_val t, const ll_val *state, ll_val *next) {
  walk *w = &m->w;
  tn_ll *e = w->k->e;
  ll_val at[] = {m->seq, t, m->head, m->row}, at_group[] = {m->seq, t, m->group, NULL}, c[MOST];
  ll_val dt = number_at(w, in(m, DT), at, 3), dx = ll_fmul(e, dt, number_at(w, in(m, X), at, 4));
  ll_val keep = m->shared ? spread(w, tn_ll_exp(e, ll_fmul(e, dt, m->rates[0]))) : NULL;
  for (uint32_t i = 0; i < w->per; i++) {
    ll_val own = m->shared ? keep : tn_ll_exp(e, ll_fmul(e, spread(w, dt), m->rates[i]));
    ll_val b = vector_at(w, in(m, B), at_group, 4, i);
    next[i] = ll_fma(e, spread(w, dx), b, ll_fmul(e, own, state[i]));
    c[i] = vector_at(w, in(m, C), at_group, 4, i);
  }
  put_number(w, 0, at, 4, dot(w, next, c));
}

static void walk_ssm(walk *base) {
  ssm m = {.w = *base};
  walk *w = &m.w;
  tn_cuda_kernel *k = w->k;
  tn_ll *e = k->e;
  tn_type_info t = tn_cuda_type(k, in(&m, STATE)), tb = tn_cuda_type(k, in(&m, B)), lead = t;
  int64_t one;
  lead.rank = 3;
  tn_ll_index where = tn_cuda_index(k, &lead, w->line);
  m.seq = where.at[0].v, m.head = where.at[1].v, m.row = where.at[2].v;
  ll_val heads = tn_ll_dim(&k->body, t.dims[1]), groups = tn_ll_dim(&k->body, tb.dims[2]);
  m.group = ll_idiv(e, m.head, ll_idiv(e, heads, groups));
  m.shared = tn_ll_dim_const(&k->body, tn_cuda_type(k, in(&m, A)).dims[1], &one) && one == 1;
  ll_val at[] = {m.seq, m.head, m.row, NULL}, at_a[] = {m.head, m.shared ? ll_k(e, 0) : NULL};
  ll_val state[MOST], next[MOST];
  ll_loop l;
  for (uint32_t i = 0; i < w->per; i++) {
    state[i] = vector_at(w, in(&m, STATE), at, 4, i);
    if (!m.shared) m.rates[i] = vector_at(w, in(&m, A), at_a, 2, i);
  }
  if (m.shared) m.rates[0] = number_at(w, in(&m, A), at_a, 2);
  ll_loop_begin(e, &l, ll_k(e, 0), w->tokens, ll_k(e, 1), state, w->per);
  tn_ll_body_forget(&k->body);
  ssm_token(&m, l.iv, l.phi, next);
  ll_loop_end(e, &l, next);
  tn_ll_body_forget(&k->body);
  put_state(w, 1, at, 3, l.out);
}

/* ---- delta_scan ---------------------------------------------------------------------------------------- */

enum { Q, K, V, FIRST, DECAY, BETA };

typedef struct delta {
  walk w;
  ll_val seq, group, column, heads; /* heads: of a group */
  bool shared;                      /* decay is [.., 1] */
  double scale;
} delta;

/* exp(decay) of step i. */
static ll_val gate(delta *m, const ll_val *at, uint32_t i) {
  walk *w = &m->w;
  tn_ll *e = w->k->e;
  tn_value v = tn_cuda_operand(w->k, DECAY);
  ll_val where[] = {at[0], at[1], at[2], m->shared ? ll_k(e, 0) : NULL};
  if (!m->shared) return tn_ll_exp(e, vector_at(w, v, where, 4, i));
  return spread(w, tn_ll_exp(e, number_at(w, v, where, 4)));
}

static void delta_outputs(delta *m, ll_val t, const ll_val *state) {
  walk *w = &m->w;
  tn_ll *e = w->k->e;
  ll_loop l;
  ll_loop_begin(e, &l, ll_k(e, 0), m->heads, ll_k(e, 1), NULL, 0);
  tn_ll_body_forget(&w->k->body);
  ll_val head = ll_iadd(e, ll_imul(e, m->group, m->heads), l.iv), q[MOST];
  ll_val at[] = {m->seq, t, head, NULL}, to[] = {m->seq, t, head, m->column};
  for (uint32_t i = 0; i < w->per; i++) q[i] = vector_at(w, tn_cuda_operand(w->k, Q), at, 4, i);
  ll_val y = dot(w, state, q);
  put_number(w, 0, to, 4, ll_fmul(e, y, ll_f(e, y, m->scale)));
  ll_loop_end(e, &l, NULL);
  tn_ll_body_forget(&w->k->body);
}

static void delta_token(delta *m, ll_val t, const ll_val *state, ll_val *next) {
  walk *w = &m->w;
  tn_cuda_kernel *k = w->k;
  tn_ll *e = k->e;
  tn_value beta = tn_cuda_operand(k, BETA);
  ll_val at[] = {m->seq, t, m->group, NULL}, at_v[] = {m->seq, t, m->group, m->column}, key[MOST];
  ll_val u = number_at(w, tn_cuda_operand(k, V), at_v, 4);
  for (uint32_t i = 0; i < w->per; i++) {
    key[i] = vector_at(w, tn_cuda_operand(k, K), at, 4, i);
    next[i] = tn_cuda_operand(k, DECAY) ? ll_fmul(e, state[i], gate(m, at, i)) : state[i];
  }
  if (beta) u = ll_fmul(e, ll_fsub(e, u, dot(w, next, key)), number_at(w, beta, at, 3));
  for (uint32_t i = 0; i < w->per; i++) next[i] = ll_fma(e, key[i], spread(w, u), next[i]);
  delta_outputs(m, t, next);
}

static void walk_delta(walk *base) {
  delta m = {.w = *base};
  walk *w = &m.w;
  tn_cuda_kernel *k = w->k;
  tn_ll *e = k->e;
  tn_type_info tq = tn_cuda_type(k, tn_cuda_operand(k, Q)), tv = tn_cuda_type(k, tn_cuda_operand(k, V));
  tn_dim dims[] = {tv.dims[0], tv.dims[2], tv.dims[3]};
  tn_type_info lead = {.rank = 3, .dims = dims};
  int64_t one;
  tn_ll_index where = tn_cuda_index(k, &lead, w->line);
  m.seq = where.at[0].v, m.group = where.at[1].v, m.column = where.at[2].v;
  m.heads = ll_idiv(e, tn_ll_dim(&k->body, tq.dims[2]), tn_ll_dim(&k->body, tv.dims[2]));
  m.scale = tn_ll_attr_float(&k->body, k->root, "scale");
  tn_value decay = tn_cuda_operand(k, DECAY), first = tn_cuda_operand(k, FIRST);
  m.shared = decay && tn_ll_dim_const(&k->body, tn_cuda_type(k, decay).dims[3], &one) && one == 1;
  ll_val at[] = {m.seq, m.group, NULL, m.column}, state[MOST], next[MOST];
  ll_loop l;
  for (uint32_t i = 0; i < w->per; i++) state[i] = first ? vector_at(w, first, at, 4, i) : zeros(w);
  ll_loop_begin(e, &l, ll_k(e, 0), w->tokens, ll_k(e, 1), state, w->per);
  tn_ll_body_forget(&k->body);
  delta_token(&m, l.iv, l.phi, next);
  ll_loop_end(e, &l, next);
  tn_ll_body_forget(&k->body);
  put_state(w, 1, at, 2, l.out);
}

/* ---- the kernel ---------------------------------------------------------------------------------------- */

static void emit(tn_cuda_kernel *k) {
  tn_ll *e = k->e;
  bool is_ssm = !strcmp(k->root_name, "ssm_scan");
  walk w = {.k = k};
  int64_t n = 0;
  if (!tn_cuda_yields_root(k)) return;
  tn_type_info ts = tn_cuda_type(k, tn_cuda_result(k, 1)), tx = tn_cuda_type(k, tn_cuda_operand(k, 0));
  uint32_t axis = is_ssm ? 3 : 2;
  tn_dim size = ts.dims[axis];
  tn_ll_dim_const(&k->body, size, &n);
  w.wide = tn_cuda_wide(k, size);
  w.units = n / w.wide;
  w.width = tn_cuda_power(w.units) < WARP ? tn_cuda_power(w.units) : WARP;
  w.per = (uint32_t)((w.units + w.width - 1) / w.width);
  w.lines = tn_cuda_lines(k, &ts, axis);
  tn_cuda_shape shape = {.threads = THREADS, .grid = {tn_cuda_dim_ceildiv(k, w.lines, THREADS / w.width)}};
  tn_cuda_launch_begin(k, &shape);
  tn_cuda_team_begin(&w.team, k, THREADS, w.width);
  ll_val all = tn_ll_dim(&k->body, w.lines);
  w.mine = ll_icmp(e, LLVMIntSLT, w.team.number, all);
  w.line = ll_imin(e, w.team.number, ll_sub(e, all, ll_k(e, 1)));
  w.tokens = tn_ll_dim(&k->body, tx.dims[1]);
  if (is_ssm)
    walk_ssm(&w);
  else
    walk_delta(&w);
  tn_cuda_launch_end(k);
}

static bool claim(const tn_cuda_ask *a, const char **why) {
  bool is_ssm = !strcmp(a->name, "ssm_scan");
  int64_t n;
  if (!tn_cuda_plain(a, why)) return false;
  *why = "not available in f64";
  for (uint32_t i = 0; i < a->ir->op_noperands(a->m, a->op); i++)
    if (tn_cuda_type_of(a, a->ir->op_operand(a->m, a->op, i)).dtype == TN_DT_f64) return false;
  *why = "a state's row is only taken if its length is a constant from 1 to 512";
  tn_type_info state = tn_cuda_type_of(a, a->ir->op_result(a->m, a->op, 1));
  return a->ir->dim_is_const(a->m, state.dims[is_ssm ? 3 : 2], &n) && n >= 1 && n <= LONGEST;
}

static const char *const roots[] = {"ssm_scan", "delta_scan", NULL};
const tn_cuda_skeleton tn_cuda_skeleton_scan = {.roots = roots, .claim = claim, .emit = emit};
