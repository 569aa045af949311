/* scan.c - recurrences over the token axis. */
#include "ops.h"

static tn_status check_heads(tn_infer *c, const char *what, const tn_in *x, const tn_in *b) {
  int64_t h, g;
  bool known = tn_ir_dim_is_const(c->m, x->dims[2], &h) && tn_ir_dim_is_const(c->m, b->dims[2], &g);
  if (known ? g < 1 || h % g : !tn_ops_eq(c, x->dims[2], b->dims[2]))
    return tn_ops_fail(c, "%s: %D and %D", what, x->dims[2], b->dims[2]);
  return TN_OK;
}

static tn_status check_state(tn_infer *c, const tn_in *x, const tn_in *b, const tn_in *state) {
  TN_TRY(tn_ops_rank(c, "state", state, 4));
  TN_TRY(tn_ops_equal(c, "batch dims of x and state", x->dims[0], state->dims[0]));
  TN_TRY(tn_ops_equal(c, "heads of x and state", x->dims[2], state->dims[1]));
  TN_TRY(tn_ops_equal(c, "features of x and state", x->dims[3], state->dims[2]));
  return tn_ops_equal(c, "state sizes of b and state", b->dims[3], state->dims[3]);
}

tn_status tn_infer_ssm_scan(tn_infer *c) {
  static const char *const names[] = {"x", "dt", "a", "b", "c"};
  static const uint32_t ranks[] = {4, 3, 2, 4, 4};
  tn_in in[6];
  TN_TRY(tn_ops_read(c, in, 6));
  for (uint32_t i = 0; i < 5; i++) TN_TRY(tn_ops_rank(c, names[i], &in[i], ranks[i]));
  const tn_in *x = &in[0], *dt = &in[1], *a = &in[2], *b = &in[3], *cc = &in[4], *state = &in[5];
  for (uint32_t i = 0; i < 3; i++) TN_TRY(tn_ops_equal(c, "dims of x and dt", x->dims[i], dt->dims[i]));
  for (uint32_t i = 0; i < 2; i++) TN_TRY(tn_ops_equal(c, "dims of x and b", x->dims[i], b->dims[i]));
  for (uint32_t i = 0; i < 4; i++) TN_TRY(tn_ops_equal(c, "dims of b and c", b->dims[i], cc->dims[i]));
  TN_TRY(tn_ops_equal(c, "heads of x and a", x->dims[2], a->dims[0]));
  if (!tn_ops_is(c, a->dims[1], 1)) TN_TRY(tn_ops_equal(c, "state sizes of a and b", a->dims[1], b->dims[3]));
  TN_TRY(check_heads(c, "heads of x are no multiple of the groups of b", x, b));
  TN_TRY(check_state(c, x, b, state));
  tn_shape y = tn_ops_shape(x), last = tn_ops_shape(state);
  TN_TRY(tn_ops_result(c, 0, x->dtype, &y));
  return tn_ops_result(c, 1, state->dtype, &last);
}

/* The first n dims of both are equal. */
static tn_status same_lead(tn_infer *c, const char *what, const tn_in *a, const tn_in *b, uint32_t n) {
  for (uint32_t i = 0; i < n; i++) TN_TRY(tn_ops_equal(c, what, a->dims[i], b->dims[i]));
  return TN_OK;
}

static tn_status check_delta_options(tn_infer *c, const tn_in *in) {
  const tn_in *k = &in[1], *v = &in[2], *state = &in[3], *decay = &in[4], *beta = &in[5];
  if (state->value) {
    const tn_dim want[] = {k->dims[0], k->dims[2], k->dims[3], v->dims[3]};
    TN_TRY(tn_ops_rank(c, "state", state, 4));
    for (uint32_t i = 0; i < 4; i++)
      TN_TRY(tn_ops_equal(c, "dims of k, v and state", want[i], state->dims[i]));
  }
  if (decay->value) {
    TN_TRY(tn_ops_rank(c, "decay", decay, 4));
    TN_TRY(same_lead(c, "dims of k and decay", k, decay, tn_ops_is(c, decay->dims[3], 1) ? 3 : 4));
  }
  if (!beta->value) return TN_OK;
  TN_TRY(tn_ops_rank(c, "beta", beta, 3));
  return same_lead(c, "dims of k and beta", k, beta, 3);
}

tn_status tn_infer_delta_scan(tn_infer *c) {
  static const char *const names[] = {"q", "k", "v"};
  tn_in in[6];
  TN_TRY(tn_ops_read(c, in, 6));
  for (uint32_t i = 0; i < 3; i++) TN_TRY(tn_ops_rank(c, names[i], &in[i], 4));
  const tn_in *q = &in[0], *k = &in[1], *v = &in[2];
  TN_TRY(same_lead(c, "dims of q and k", q, k, 2));
  TN_TRY(same_lead(c, "dims of k and v", k, v, 3));
  TN_TRY(tn_ops_equal(c, "features of q and k", q->dims[3], k->dims[3]));
  TN_TRY(check_heads(c, "heads of q are no multiple of those of k", q, k));
  TN_TRY(check_delta_options(c, in));
  tn_shape y = {4, {q->dims[0], q->dims[1], q->dims[2], v->dims[3]}};
  tn_shape last = {4, {k->dims[0], k->dims[2], k->dims[3], v->dims[3]}};
  TN_TRY(tn_ops_result(c, 0, q->dtype, &y));
  return tn_ops_result(c, 1, TN_DT_f32, &last);
}
