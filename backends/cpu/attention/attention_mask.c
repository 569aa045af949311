/* attention_mask.c - which keys a query sees: ranges of keys for a unit, and the scores of a vector of keys
 * with everything that is done to them before the softmax. */
#include "backends/cpu/attention/attention.h"
#include "backends/llvm/convert.h"
#include "backends/llvm/math.h"

#define LOG2E 1.4426950408889634074

/* -top log2(e); where no key was seen yet, 0: then all weights are 0. */
ll_val tn_cpu_att_base(tn_cpu_att *a, ll_val top) {
  tn_ll *e = a->k->e;
  ll_val none = ll_fcmp(e, LLVMRealOEQ, top, ll_f(e, top, -__builtin_inf()));
  return ll_select(e, none, ll_f(e, top, 0), ll_fmul(e, top, ll_f(e, top, -LOG2E)));
}
ll_val tn_cpu_att_exp(tn_cpu_att *a, ll_val x, ll_val base) {
  return tn_ll_exp2_neg(a->k->e, ll_fma(a->k->e, x, ll_f(a->k->e, x, LOG2E), base), a->narrow);
}

void tn_cpu_att_least(tn_cpu_att *a) {
  tn_ll *e = a->k->e;
  a->least = a->ring ? a->oldest : NULL;
  if (!a->first) return;
  tn_ll_index ix = {.rank = 1, .at = {tn_ll_ix_scalar(a->b)}};
  ll_val first =
      tn_ll_convert(e, tn_cpu_type(a->k, a->first).dtype, TN_DT_i64, tn_ll_eval(&a->k->body, a->first, &ix));
  a->least = a->least ? ll_imax(e, first, a->least) : first;
}

void tn_cpu_att_range(tn_cpu_att *a, ll_val *lo, ll_val *hi) {
  tn_ll *e = a->k->e;
  *lo = ll_k(e, 0);
  *hi = a->t;
  if (a->causal || a->window) {
    ll_val query = ll_idiv(e, ll_sub(e, ll_add(e, a->r0, a->nrows), ll_k(e, 1)), a->g);
    if (a->single) query = ll_k(e, 0);
    *hi = ll_imin(e, *hi, ll_add(e, ll_add(e, query, a->last), ll_k(e, a->causal ? 1 : a->window)));
  }
  if (a->window) {
    ll_val query = a->single ? ll_k(e, 0) : ll_idiv(e, a->r0, a->g);
    ll_val first = ll_sub(e, ll_add(e, query, a->last), ll_k(e, a->window - 1));
    *lo = ll_imax(e, first, *lo);
  }
  if (a->least) *lo = ll_imax(e, a->least, *lo);
}

/* A mask or bias operand, which broadcasts to [b, h, s, t], at keys j. */
static ll_val at_keys(tn_cpu_att *a, tn_value v, ll_val query, ll_val head, tn_ll_ix j, ll_val in) {
  tn_type_info t = tn_cpu_type(a->k, v);
  tn_ll_ix full[] = {tn_ll_ix_scalar(a->b), tn_ll_ix_scalar(head), tn_ll_ix_scalar(query), j};
  tn_ll_index ix = {.rank = t.rank, .mask = in};
  for (uint32_t i = 0; i < t.rank; i++) {
    int64_t one;
    bool fixed = tn_ll_dim_const(&a->k->body, t.dims[i], &one) && one == 1;
    ix.at[i] = fixed ? tn_ll_ix_scalar(ll_k(a->k->e, 0)) : full[i + 4 - t.rank];
  }
  if (!tn_ll_index_vec(&ix)) ix.mask = NULL;
  return ll_wide(a->k->e, tn_ll_eval(&a->k->body, v, &ix), true);
}

/* A number to compare lanes with. */
static ll_val lane_limit(tn_cpu_att *a, ll_val n) {
  tn_ll *e = a->k->e;
  n = ll_imax(e, ll_imin(e, n, ll_k(e, 1 << 20)), ll_k(e, -1));
  return ll_splat(e, LLVMBuildTrunc(e->b, n, e->i32, ""));
}

/* Narrows `in` to the keys from `key` on that the query's position lets it see. */
static ll_val by_position(tn_cpu_att *a, ll_val in, ll_val query, ll_val key) {
  tn_ll *e = a->k->e;
  ll_val lanes = ll_steps(e, e->i32);
  /* how many keys before and including the query's own position are left at lane 0 */
  ll_val back = ll_sub(e, ll_add(e, query, a->last), key);
  if (a->causal) in = ll_and(e, in, ll_icmp(e, LLVMIntSLE, lanes, lane_limit(a, back)));
  if (a->window) {
    ll_val first = lane_limit(a, ll_sub(e, back, ll_k(e, a->window))); /* lane > first is inside the window */
    in = ll_and(e, in, ll_icmp(e, LLVMIntSGT, lanes, first));
  }
  if (a->window && !a->causal) {
    ll_val end = lane_limit(a, ll_add(e, back, ll_k(e, a->window)));
    in = ll_and(e, in, ll_icmp(e, LLVMIntSLT, lanes, end));
  }
  if (a->least) in = ll_and(e, in, ll_icmp(e, LLVMIntSGE, lanes, lane_limit(a, ll_sub(e, a->least, key))));
  return in;
}

ll_val tn_cpu_att_mask_at(tn_cpu_att *a, ll_val query, ll_val head, ll_val j) {
  tn_ll *e = a->k->e;
  tn_ll_ix key = tn_ll_ix_lanes(ll_add(e, a->kb, j), a->even);
  ll_val m = at_keys(a, a->mask, query, head, key, ll_mask_below(e, ll_sub(e, a->kn, j)));
  return tn_ll_convert(e, tn_cpu_type(a->k, a->mask).dtype, TN_DT_bool, m);
}

ll_val tn_cpu_att_mask(tn_cpu_att *a, ll_val x, ll_val query, ll_val head, ll_val j) {
  tn_ll *e = a->k->e;
  if (a->softcap > 0) {
    x = tn_ll_tanh(e, ll_fmul(e, x, ll_f(e, x, 1 / a->softcap)));
    x = ll_fmul(e, x, ll_f(e, x, a->softcap));
  }
  tn_ll_ix key = tn_ll_ix_lanes(ll_add(e, a->kb, j), a->even);
  ll_val in = ll_mask_below(e, ll_sub(e, a->kn, j)), inside = in;
  if (a->bias) {
    ll_val add = at_keys(a, a->bias, query, head, key, inside);
    x = ll_fadd(e, x, tn_ll_to_f32(e, tn_cpu_type(a->k, a->bias).dtype, add));
  }
  if (a->mask) in = ll_and(e, in, tn_cpu_att_mask_at(a, query, head, j));
  if (!a->single) in = by_position(a, in, query, key.v);
  return ll_select(e, in, x, ll_f(e, x, -__builtin_inf()));
}
