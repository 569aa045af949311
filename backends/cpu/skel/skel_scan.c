/* skel_scan.c - ssm_scan: a thread takes whole rows (sequence, head, feature) of the state, holds the row's n
 * numbers in registers and walks the tokens. A decay that all n share is computed once per head and token, in
 * scratch, when the thread comes to the head. */
#include "backends/cpu/kernel.h"
#include "backends/llvm/convert.h"
#include "backends/llvm/math.h"

enum { MAX_VECTORS = 32 };

typedef struct ssm {
  tn_cpu_kernel *k;
  tn_value x, dt, a, b, c, state, y, last;
  uint32_t vectors; /* of a row of the state */
  int64_t n;
  bool shared;                  /* a is [h, 1] */
  ll_val seq, head, group, row; /* where we are: sequence, head, its group, feature */
  ll_val decay;                 /* scratch: f32 [s] */
  ll_val rates[MAX_VECTORS];    /* the row of a, when it is not shared */
} ssm;

static ll_val lane_mask(ssm *m, uint32_t i) {
  int64_t left = m->n - (int64_t)i * m->k->e->lanes;
  return left >= m->k->e->lanes ? NULL : ll_mask_below(m->k->e, ll_k(m->k->e, left));
}

/* Vector i along the last axis of v at the given leading coordinates; lanes behind n are 0. */
static tn_ll_index vector_index(ssm *m, const ll_val *at, uint32_t rank, uint32_t i) {
  tn_ll_index ix = {.rank = rank, .mask = lane_mask(m, i)};
  for (uint32_t d = 0; d + 1 < rank; d++) ix.at[d] = tn_ll_ix_scalar(at[d]);
  ix.at[rank - 1] = tn_ll_ix_lanes(ll_k(m->k->e, (int64_t)i * m->k->e->lanes), true);
  return ix;
}
static ll_val vector_at(ssm *m, tn_value v, const ll_val *at, uint32_t rank, uint32_t i) {
  tn_ll_index ix = vector_index(m, at, rank, i);
  ll_val r = ll_wide(m->k->e, tn_ll_eval_f32(&m->k->body, v, &ix), true);
  return ix.mask ? ll_select(m->k->e, ix.mask, r, ll_f(m->k->e, r, 0)) : r;
}
static ll_val number_at(ssm *m, tn_value v, const ll_val *at, uint32_t rank) {
  tn_ll_index ix = {.rank = rank};
  for (uint32_t d = 0; d < rank; d++) ix.at[d] = tn_ll_ix_scalar(at[d]);
  return tn_ll_eval_f32(&m->k->body, v, &ix);
}

static ll_val decay_slot(ssm *m, ll_val t) {
  return ll_at(m->k->e, m->decay, ll_mul(m->k->e, t, ll_k(m->k->e, 4)));
}

/* exp(dt_t a) of this head for every token. */
static void fill_decay(ssm *m, ll_val tokens) {
  tn_ll *e = m->k->e;
  ll_loop l;
  ll_val where[] = {m->head, ll_k(e, 0)}, rate = number_at(m, m->a, where, 2);
  ll_loop_begin(e, &l, ll_k(e, 0), tokens, ll_k(e, 1), NULL, 0);
  tn_ll_body_forget(&m->k->body);
  ll_val at[] = {m->seq, l.iv, m->head};
  ll_store(e, tn_ll_exp(e, ll_fmul(e, number_at(m, m->dt, at, 3), rate)), decay_slot(m, l.iv), 4);
  ll_loop_end(e, &l, NULL);
  tn_ll_body_forget(&m->k->body);
}

/* One token: state[] moves on, y is stored. */
static void token(ssm *m, ll_val t, const ll_val *state, ll_val *next) {
  tn_ll *e = m->k->e;
  ll_val at_dt[] = {m->seq, t, m->head}, at_x[] = {m->seq, t, m->head, m->row};
  ll_val at_group[] = {m->seq, t, m->group};
  ll_val dt = number_at(m, m->dt, at_dt, 3), sum = NULL;
  ll_val dx = ll_splat(e, ll_fmul(e, dt, number_at(m, m->x, at_x, 4))), wide = ll_splat(e, dt);
  ll_val decay = m->shared ? ll_splat(e, ll_load(e, e->f32, decay_slot(m, t), 4)) : NULL;
  for (uint32_t i = 0; i < m->vectors; i++) {
    ll_val keep = m->shared ? decay : tn_ll_exp(e, ll_fmul(e, wide, m->rates[i]));
    next[i] = ll_fma(e, dx, vector_at(m, m->b, at_group, 4, i), ll_fmul(e, keep, state[i]));
    ll_val c = vector_at(m, m->c, at_group, 4, i);
    sum = sum ? ll_fma(e, next[i], c, sum) : ll_fmul(e, next[i], c);
  }
  tn_ll_index ix = {.rank = 4};
  for (uint32_t d = 0; d < 4; d++) ix.at[d] = tn_ll_ix_scalar(at_x[d]);
  for (uint32_t i = 0; i < m->k->nyields; i++)
    if (m->k->yields[i] == m->y)
      tn_ll_store_at(&m->k->body, m->y, m->k->outs[i], &ix,
                     tn_ll_convert(e, TN_DT_f32, tn_cpu_type(m->k, m->y).dtype, ll_reduce_fadd(e, sum)));
}

static void store_last(ssm *m, const ll_val *at, const ll_val *state) {
  for (uint32_t y = 0; y < m->k->nyields; y++)
    for (uint32_t i = 0; m->k->yields[y] == m->last && i < m->vectors; i++) {
      tn_ll_index ix = vector_index(m, at, 4, i);
      ll_val v = tn_ll_convert(m->k->e, TN_DT_f32, tn_cpu_type(m->k, m->last).dtype, state[i]);
      tn_ll_store_at(&m->k->body, m->last, m->k->outs[y], &ix, v);
    }
}

/* One row of the state from the first token to the last. */
static void walk_row(ssm *m, ll_val tokens) {
  tn_ll *e = m->k->e;
  ll_val at[] = {m->seq, m->head, m->row}, at_a[] = {m->head}, state[MAX_VECTORS], next[MAX_VECTORS];
  for (uint32_t i = 0; i < m->vectors; i++) {
    state[i] = vector_at(m, m->state, at, 4, i);
    if (!m->shared) m->rates[i] = vector_at(m, m->a, at_a, 2, i);
  }
  ll_loop l;
  ll_loop_begin(e, &l, ll_k(e, 0), tokens, ll_k(e, 1), state, m->vectors);
  tn_ll_body_forget(&m->k->body);
  token(m, l.iv, l.phi, next);
  ll_loop_end(e, &l, next);
  tn_ll_body_forget(&m->k->body);
  store_last(m, at, l.out);
}

static bool check(ssm *m) {
  for (uint32_t i = 0; i < m->k->nyields; i++)
    if (m->k->yields[i] != m->y && m->k->yields[i] != m->last)
      return tn_ll_fail(m->k->e, "ssm_scan shares a kernel with other results"), false;
  if (!tn_ll_dim_const(&m->k->body, tn_cpu_type(m->k, m->state).dims[3], &m->n) || m->n < 1 ||
      m->n > (int64_t)MAX_VECTORS * m->k->e->lanes)
    return tn_ll_fail(m->k->e, "ssm_scan: the state's last dim is not a constant up to %u",
                      MAX_VECTORS * m->k->e->lanes),
           false;
  return true;
}

void tn_cpu_emit_ssm_scan(tn_cpu_kernel *k) {
  tn_ll *e = k->e;
  ssm m = {.k = k, .y = tn_cpu_result(k, 0), .last = tn_cpu_result(k, 1)};
  tn_value *in[] = {&m.x, &m.dt, &m.a, &m.b, &m.c, &m.state};
  for (uint32_t i = 0; i < TN_COUNT(in); i++) *in[i] = tn_cpu_operand(k, i);
  if (!check(&m)) return;
  m.vectors = (uint32_t)((m.n + e->lanes - 1) / e->lanes);
  tn_type_info ts = tn_cpu_type(k, m.state), tx = tn_cpu_type(k, m.x), tb = tn_cpu_type(k, m.b);
  int64_t one;
  m.shared = m.n > 1 && tn_ll_dim_const(&k->body, tn_cpu_type(k, m.a).dims[1], &one) && one == 1;
  if (m.shared) m.decay = tn_cpu_scratch(k, tx.dims[1], 4);
  ll_val sizes[] = {tn_ll_dim(&k->body, ts.dims[0]), tn_ll_dim(&k->body, ts.dims[1])}, lo, hi;
  ll_val tokens = tn_ll_dim(&k->body, tx.dims[1]), features = tn_ll_dim(&k->body, ts.dims[2]);
  ll_val per_group = ll_idiv(e, sizes[1], tn_ll_dim(&k->body, tb.dims[2]));
  tn_cpu_share(k, tn_ll_dims(&k->body, ts.dims, 0, 2), &lo, &hi);
  tn_cpu_rows rows;
  tn_cpu_rows_begin(k, &rows, sizes, 2, lo, hi);
  m.seq = rows.at[0].v;
  m.head = rows.at[1].v;
  m.group = ll_idiv(e, m.head, per_group);
  if (m.shared) fill_decay(&m, tokens);
  ll_loop l;
  ll_loop_begin(e, &l, ll_k(e, 0), features, ll_k(e, 1), NULL, 0);
  tn_ll_body_forget(&k->body);
  m.row = l.iv;
  walk_row(&m, tokens);
  ll_loop_end(e, &l, NULL);
  tn_cpu_rows_end(k, &rows);
}
