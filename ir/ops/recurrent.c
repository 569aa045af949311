/* recurrent.c - lstm, gru, rnn: sizes follow from x [s, b, d, gates * h] and r [d, gates * h, h]. */
#include "ops.h"

static const char *const curves[] = {
    "sigmoid",     "tanh",         "relu", "affine",   "leaky_relu", "thresholded_relu",
    "scaled_tanh", "hard_sigmoid", "elu",  "softsign", "softplus"};

/* "sigmoid, elu 0.5": at least n names that exist, each with up to two numbers. */
static tn_status check_activations(tn_infer *c, const char *list, uint32_t n) {
  const char *p = list;
  for (uint32_t i = 0; i < n || *p; i++) {
    p += strspn(p, " ");
    size_t len = strcspn(p, " ,");
    bool known = false;
    for (size_t k = 0; k < TN_COUNT(curves); k++)
      known |= strlen(curves[k]) == len && !memcmp(curves[k], p, len);
    if (!known)
      return tn_ops_fail(c, "activations '%s': entry %i is not known, of the %i that are needed", list,
                         (int)i + 1, (int)n);
    p += len;
    p += strspn(p, " 0123456789.e+-");
    if (*p && *p != ',') return tn_ops_fail(c, "activations '%s': '%s' is no number", list, p);
    p += *p == ',';
  }
  return TN_OK;
}

typedef struct sizes {
  tn_dim s, b, d, h;
} sizes;

static tn_status state(tn_infer *c, const char *what, const tn_in *x, const sizes *z) {
  if (!x->value) return TN_OK;
  TN_TRY(tn_ops_rank(c, what, x, 3));
  TN_TRY(tn_ops_equal(c, "directions of r and a state", z->d, x->dims[0]));
  TN_TRY(tn_ops_equal(c, "sequences of x and a state", z->b, x->dims[1]));
  return tn_ops_equal(c, "units of r and a state", z->h, x->dims[2]);
}

static tn_status vector(tn_infer *c, const char *what, const tn_in *x, const sizes *z, int64_t parts) {
  if (!x->value) return TN_OK;
  TN_TRY(tn_ops_rank(c, what, x, 2));
  TN_TRY(tn_ops_equal(c, "directions of r and a vector", z->d, x->dims[0]));
  return tn_ops_equal(c, "units of r and a vector", tn_dim_mul(c->m, z->h, tn_ir_dim_const(c->m, parts)),
                      x->dims[1]);
}

/* What the three have in common; `lengths` is the last operand. */
static tn_status read(tn_infer *c, tn_in *in, uint32_t n, int64_t gates, uint32_t names, sizes *z) {
  TN_TRY(tn_ops_read(c, in, n));
  const tn_in *x = &in[0], *r = &in[1], *lengths = &in[n - 1];
  TN_TRY(tn_ops_rank(c, "x", x, 4));
  TN_TRY(tn_ops_rank(c, "r", r, 3));
  *z = (sizes){x->dims[0], x->dims[1], r->dims[0], r->dims[2]};
  tn_dim width = tn_dim_mul(c->m, z->h, tn_ir_dim_const(c->m, gates));
  TN_TRY(tn_ops_equal(c, "directions of x and r", x->dims[2], z->d));
  TN_TRY(tn_ops_equal(c, "gates of x and units of r", x->dims[3], width));
  TN_TRY(tn_ops_equal(c, "gates and units of r", r->dims[1], width));
  TN_TRY(state(c, "h", &in[2], z));
  if (lengths->value) {
    TN_TRY(tn_ops_rank(c, "lengths", lengths, 1));
    TN_TRY(tn_ops_equal(c, "sequences of x and lengths", z->b, lengths->dims[0]));
  }
  const char *direction = c->attrs[TN_A_lstm_direction].u.s;
  bool both = !strcmp(direction, "both");
  if (!both && strcmp(direction, "forward") && strcmp(direction, "reverse"))
    return tn_ops_fail(c, "direction is '%s', wants forward, reverse or both", direction);
  if (!tn_ops_is(c, z->d, both ? 2 : 1))
    return tn_ops_fail(c, "direction '%s' wants %i directions, r has %D", direction, both ? 2 : 1, z->d);
  TN_TRY(check_activations(c, c->attrs[TN_A_lstm_activations].u.s, both ? 2 * names : names));
  tn_shape y = {4, {z->s, z->d, z->b, z->h}}, last = {3, {z->d, z->b, z->h}};
  TN_TRY(tn_ops_result(c, 0, x->dtype, &y));
  return tn_ops_result(c, 1, x->dtype, &last);
}

tn_status tn_infer_lstm(tn_infer *c) {
  tn_in in[6];
  sizes z;
  TN_TRY(read(c, in, 6, 4, 3, &z));
  TN_TRY(state(c, "c", &in[3], &z));
  TN_TRY(vector(c, "peephole", &in[4], &z, 3));
  tn_shape last = {3, {z.d, z.b, z.h}};
  return tn_ops_result(c, 2, in[0].dtype, &last);
}
tn_status tn_infer_gru(tn_infer *c) {
  tn_in in[5];
  sizes z;
  TN_TRY(read(c, in, 5, 3, 2, &z));
  return vector(c, "bias", &in[3], &z, 1);
}
tn_status tn_infer_rnn(tn_infer *c) {
  tn_in in[4];
  sizes z;
  return read(c, in, 4, 1, 1, &z);
}
