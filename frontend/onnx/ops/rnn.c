/* rnn.c - LSTM, GRU, RNN: the products of all steps' inputs with W are one matmul, and the recurrence is an
 * op. Both directions go through both at once. */
#include "frontend/onnx/ops/rows.h"
#include <stdio.h>

typedef struct net {
  tn_value x, r, h, lengths;
  tn_dim s, b, d, units;
  char direction[16], activations[512];
  bool batch_first, both;
} net;

/* ---- attributes --------------------------------------------------------------------------------------- */
typedef struct curve {
  const char *onnx, *name;
  uint32_t numbers;
  double a, b;
} curve;
static const curve curves[] = {{"Sigmoid", "sigmoid", 0, 0, 0},
                               {"Tanh", "tanh", 0, 0, 0},
                               {"Relu", "relu", 0, 0, 0},
                               {"Affine", "affine", 2, 1, 0},
                               {"LeakyRelu", "leaky_relu", 1, 0.01, 0},
                               {"ThresholdedRelu", "thresholded_relu", 1, 1, 0},
                               {"ScaledTanh", "scaled_tanh", 2, 1, 1},
                               {"HardSigmoid", "hard_sigmoid", 2, 0.2, 0.5},
                               {"Elu", "elu", 1, 1, 0},
                               {"Softsign", "softsign", 0, 0, 0},
                               {"Softplus", "softplus", 0, 0, 0}};

static bool same_name(const char *a, const char *b) {
  for (; *a && *b; a++, b++)
    if ((*a | 0x20) != (*b | 0x20)) return false;
  return *a == *b;
}

/* activation_alpha and activation_beta hold values for those functions in the list that take some, in order.
 */
static void put_activations(tn_ox *x, tn_ox_node *n, net *t, const char *const *defaults, uint32_t each) {
  uint32_t given, nalpha, nbeta, alpha = 0, beta = 0, want = each * (t->both ? 2 : 1), len = 0;
  const char *const *list = tn_ox_strs(n, "activations", &given);
  const float *as = tn_ox_floats(n, "activation_alpha", &nalpha),
              *bs = tn_ox_floats(n, "activation_beta", &nbeta);
  if (given && given != want) {
    tn_ox_fail(x, n, "activations has %u entries, wants %u", given, want);
    return;
  }
  for (uint32_t i = 0; i < want; i++) {
    const char *name = given ? list[i] : defaults[i % each];
    const curve *c = NULL;
    for (size_t k = 0; k < TN_COUNT(curves); k++)
      if (same_name(curves[k].onnx, name)) c = &curves[k];
    if (!c) {
      tn_ox_fail(x, n, "activation '%s' is not known", name);
      return;
    }
    double a = c->numbers && alpha < nalpha ? (double)as[alpha++] : c->a;
    double b = c->numbers > 1 && beta < nbeta ? (double)bs[beta++] : c->b;
    len +=
        (uint32_t)snprintf(t->activations + len, sizeof t->activations - len, "%s%s", i ? ", " : "", c->name);
    if (c->numbers) len += (uint32_t)snprintf(t->activations + len, sizeof t->activations - len, " %.9g", a);
    if (c->numbers > 1)
      len += (uint32_t)snprintf(t->activations + len, sizeof t->activations - len, " %.9g", b);
  }
}

static bool put_direction(tn_ox *x, tn_ox_node *n, net *t) {
  static const char *const names[][2] = {
      {"forward", "forward"}, {"reverse", "reverse"}, {"bidirectional", "both"}};
  const char *given = tn_ox_str(n, "direction", "forward");
  for (size_t i = 0; i < TN_COUNT(names); i++)
    if (same_name(names[i][0], given)) snprintf(t->direction, sizeof t->direction, "%s", names[i][1]);
  if (!*t->direction) tn_ox_fail(x, n, "direction is '%s', wants forward, reverse or bidirectional", given);
  t->both = !strcmp(t->direction, "both");
  return *t->direction;
}

/* ---- operands ----------------------------------------------------------------------------------------- */
static tn_value batch_second(tn_ox *x, const net *t, tn_value v) {
  return v && t->batch_first ? tn_ox_swap(x, v, 0, 1) : v;
}

/* A first state [d, b, units], of as many sequences as x has. */
static tn_value state_of(tn_ox *x, tn_ox_node *n, const net *t, uint32_t input) {
  tn_value v = batch_second(x, t, tn_ox_in(x, n, input));
  if (v && t->x) tn_ox_same(x, n, tn_ox_dim(x, v, 1), tn_ox_dim(x, t->x, 1));
  return v;
}

/* Columns [from, to) of units of the bias [d, 2 * gates * units]; 0: there is none. */
static tn_value bias_part(tn_ox *x, const net *t, tn_value bias, int64_t from, int64_t to) {
  tn_dim a = tn_ox_dmul(x, t->units, tn_ox_d(x, from)), b = tn_ox_dmul(x, t->units, tn_ox_d(x, to));
  return bias ? tn_ox_slice(x, bias, 1, a, b, 1) : 0;
}

/* x [s, b, i] times w [d, n, i]: [s, b, d, n]. */
static tn_value project(tn_ox *x, const net *t, tn_value w, tn_dim width) {
  tn_dim rows = tn_ox_dmul(x, t->s, t->b), in = tn_ox_dim(x, w, 2), flat[2] = {rows, in};
  tn_dim matrix[2] = {tn_ox_dmul(x, t->d, width), in}, out[4] = {t->s, t->b, t->d, width};
  tn_value made =
      tn_ox_matmul(x, tn_ox_reshape(x, t->x, flat, 2), tn_ox_weight_as(x, w, matrix, 2), false, true);
  return tn_ox_reshape(x, made, out, 4);
}

/* Reads what the three ops share. `recurrent`: gates from it on keep their second bias for the op itself
 * (gates: none). */
static bool read(tn_ox *x, tn_ox_node *n, net *t, int64_t gates, int64_t recurrent, tn_value *kept) {
  tn_value w = tn_ox_in(x, n, 1), bias = tn_ox_in(x, n, 3);
  int64_t units = tn_ox_int(n, "hidden_size", 0);
  t->batch_first = tn_ox_int(n, "layout", 0) == 1;
  t->x = batch_second(x, t, tn_ox_in(x, n, 0));
  t->r = tn_ox_in(x, n, 2);
  t->lengths = tn_ox_in(x, n, 4);
  t->h = state_of(x, n, t, 5);
  if (!t->x || !w || !t->r || tn_ox_failed(x) || !put_direction(x, n, t)) return false;
  if (tn_ox_rank(x, t->x) != 3 || tn_ox_rank(x, w) != 3 || tn_ox_rank(x, t->r) != 3)
    return tn_ox_fail(x, n, "ranks of X, W and R are %u, %u and %u, want 3", tn_ox_rank(x, t->x),
                      tn_ox_rank(x, w), tn_ox_rank(x, t->r)) == TN_OK;
  t->s = tn_ox_dim(x, t->x, 0);
  t->b = tn_ox_dim(x, t->x, 1);
  t->d = tn_ox_same(x, n, tn_ox_dim(x, w, 0), tn_ox_d(x, t->both ? 2 : 1));
  t->units = tn_ox_dim(x, t->r, 2);
  if (units > 0) t->units = tn_ox_same(x, n, t->units, tn_ox_d(x, units));
  tn_dim width = tn_ox_dmul(x, t->units, tn_ox_d(x, gates));
  tn_ox_same(x, n, tn_ox_dim(x, w, 1), width);
  tn_ox_same(x, n, tn_ox_dim(x, w, 2), tn_ox_dim(x, t->x, 2));
  if (tn_ox_failed(x)) return false;
  t->x = project(x, t, w, width);
  tn_value own = bias_part(x, t, bias, 0, gates), again = bias_part(x, t, bias, gates, 2 * gates);
  if (bias && recurrent < gates) {
    tn_value none = tn_ox_full(x, tn_ox_scalar_like(x, bias, 0), (tn_dim[]){t->d, t->units}, 2);
    *kept = bias_part(x, t, bias, gates + recurrent, 2 * gates);
    again = tn_ox_concat(x, (tn_value[]){bias_part(x, t, bias, gates, gates + recurrent), none}, 2, 1);
  }
  if (bias) t->x = tn_ox_binary(x, "add", t->x, tn_ox_binary(x, "add", own, again));
  return !tn_ox_failed(x);
}

/* Y [s, d, b, h] and the states [d, b, h]; with layout 1 Y is [b, s, d, h] and states are [b, d, h]. */
static tn_status results(tn_ox *x, tn_ox_node *n, const net *t, tn_op op, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) {
    tn_value v = tn_ox_result(x, op, i);
    if (!tn_ox_wants(n, i)) continue;
    if (v && t->batch_first)
      v = i ? tn_ox_swap(x, v, 0, 1) : tn_ox_transpose(x, v, (const int64_t[]){2, 0, 1, 3});
    TN_TRY(tn_ox_out(x, n, i, v));
  }
  return TN_OK;
}

tn_status tn_ox_lower_lstm(tn_ox *x, tn_ox_node *n) {
  static const char *const defaults[] = {"Sigmoid", "Tanh", "Tanh"};
  net t = {0};
  tn_value kept = 0;
  if (!read(x, n, &t, 4, 4, &kept)) return tn_ox_out(x, n, 0, 0);
  put_activations(x, n, &t, defaults, 3);
  tn_value in[] = {t.x, t.r, t.h, state_of(x, n, &t, 6), tn_ox_in(x, n, 7), t.lengths};
  tn_op op = tn_ox_failed(x)
                 ? 0
                 : tn_ox_make_op(x, "lstm", in, 6,
                                 TN_OX_ATTRS(TN_OX_STR("direction", t.direction),
                                             TN_OX_STR("activations", t.activations),
                                             TN_OX_FLOAT("clip", tn_ox_float(n, "clip", 0)),
                                             TN_OX_BOOL("coupled", tn_ox_int(n, "input_forget", 0) != 0)));
  return op ? results(x, n, &t, op, 3) : tn_ox_out(x, n, 0, 0);
}

tn_status tn_ox_lower_gru(tn_ox *x, tn_ox_node *n) {
  static const char *const defaults[] = {"Sigmoid", "Tanh"};
  bool after = tn_ox_int(n, "linear_before_reset", 0) != 0;
  net t = {0};
  tn_value kept = 0;
  if (!read(x, n, &t, 3, after ? 2 : 3, &kept)) return tn_ox_out(x, n, 0, 0);
  put_activations(x, n, &t, defaults, 2);
  tn_value in[] = {t.x, t.r, t.h, kept, t.lengths};
  tn_op op = tn_ox_failed(x) ? 0
                             : tn_ox_make_op(x, "gru", in, 5,
                                             TN_OX_ATTRS(TN_OX_STR("direction", t.direction),
                                                         TN_OX_STR("activations", t.activations),
                                                         TN_OX_FLOAT("clip", tn_ox_float(n, "clip", 0)),
                                                         TN_OX_BOOL("reset_after", after)));
  return op ? results(x, n, &t, op, 2) : tn_ox_out(x, n, 0, 0);
}

tn_status tn_ox_lower_rnn(tn_ox *x, tn_ox_node *n) {
  static const char *const defaults[] = {"Tanh"};
  net t = {0};
  tn_value kept = 0;
  if (!read(x, n, &t, 1, 1, &kept)) return tn_ox_out(x, n, 0, 0);
  put_activations(x, n, &t, defaults, 1);
  tn_value in[] = {t.x, t.r, t.h, t.lengths};
  tn_op op = tn_ox_failed(x) ? 0
                             : tn_ox_make_op(x, "rnn", in, 4,
                                             TN_OX_ATTRS(TN_OX_STR("direction", t.direction),
                                                         TN_OX_STR("activations", t.activations),
                                                         TN_OX_FLOAT("clip", tn_ox_float(n, "clip", 0))));
  return op ? results(x, n, &t, op, 2) : tn_ox_out(x, n, 0, 0);
}
