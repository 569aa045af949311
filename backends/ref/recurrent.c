/* recurrent.c - lstm, gru and rnn in double, one sequence of one direction at a time. */
#include "kernels.h"
#include <math.h>
#include <stdlib.h>

typedef struct walk {
  tn_ref_call *c;
  int64_t h, d, b; /* units; where we are: direction, sequence */
  uint32_t curves; /* of a direction */
  double *x, *hidden, *cell, *made;
} walk;

/* Operand i; one without data if it is absent. */
static const tn_ref_tensor *operand(const walk *w, uint32_t i) {
  static const tn_ref_tensor none;
  return i < w->c->nin ? &w->c->in[i] : &none;
}

static double named(const char *name, size_t n, double a, double b, double v) {
#define IS(s) (n == strlen(s) && !memcmp(name, s, n))
  if (IS("sigmoid")) return 1 / (1 + exp(-v));
  if (IS("tanh")) return tanh(v);
  if (IS("relu")) return v < 0 ? 0 : v;
  if (IS("affine")) return a * v + b;
  if (IS("leaky_relu")) return v < 0 ? a * v : v;
  if (IS("thresholded_relu")) return v > a ? v : 0;
  if (IS("scaled_tanh")) return a * tanh(b * v);
  if (IS("hard_sigmoid")) return fmin(fmax(a * v + b, 0), 1);
  if (IS("elu")) return v < 0 ? a * expm1(v) : v;
  if (IS("softsign")) return v / (1 + fabs(v));
  return v > 40 ? v : log1p(exp(v));
#undef IS
}

/* Activation `which` of the walk's direction. */
static double curve(walk *w, uint32_t which, double v) {
  const char *p = tn_ref_attr(w->c, "activations").u.s;
  for (uint32_t i = 0; i < (uint32_t)w->d * w->curves + which; i++) p = strchr(p, ',') + 1;
  p += strspn(p, " ");
  size_t n = strcspn(p, " ,");
  char *end = (char *)(uintptr_t)(p + n);
  double a = *end == ' ' ? strtod(end, &end) : 0, b = *end == ' ' ? strtod(end, &end) : 0;
  return named(p, n, a, b, v);
}
static double gate(walk *w, uint32_t which, double v) {
  double clip = tn_ref_attr_float(w->c, "clip");
  return curve(w, which, clip > 0 ? fmin(fmax(v, -clip), clip) : v);
}

/* Row `row` of r times v. */
static double product(walk *w, int64_t row, const double *v) {
  int64_t rows = w->c->in[1].dims[1], first = (w->d * rows + row) * w->h;
  double sum = 0;
  for (int64_t k = 0; k < w->h; k++) sum += tn_ref_get(&w->c->in[1], first + k) * v[k];
  return sum;
}

static void step_lstm(walk *w) {
  const tn_ref_tensor *peep = operand(w, 4);
  int64_t h = w->h;
  for (int64_t k = 0; k < h; k++) {
    double v[4], p[3] = {0};
    for (int64_t g = 0; g < 4; g++) v[g] = w->x[g * h + k] + product(w, g * h + k, w->hidden);
    for (int64_t g = 0; peep->data && g < 3; g++) p[g] = tn_ref_get(peep, (w->d * 3 + g) * h + k);
    double i = gate(w, 0, v[0] + p[0] * w->cell[k]);
    double f = tn_ref_attr_int(w->c, "coupled") ? 1 - i : gate(w, 0, v[2] + p[2] * w->cell[k]);
    w->cell[k] = f * w->cell[k] + i * gate(w, 1, v[3]);
    w->made[k] = gate(w, 0, v[1] + p[1] * w->cell[k]) * curve(w, 2, w->cell[k]);
  }
}

static void step_gru(walk *w) {
  bool after = tn_ref_attr_int(w->c, "reset_after");
  const tn_ref_tensor *bias = operand(w, 3);
  int64_t h = w->h;
  double *reset = w->made + h;
  for (int64_t k = 0; k < h; k++) {
    double r = gate(w, 0, w->x[h + k] + product(w, h + k, w->hidden));
    double add = bias->data ? tn_ref_get(bias, w->d * h + k) : 0;
    reset[k] = after ? r * (product(w, 2 * h + k, w->hidden) + add) : r * w->hidden[k];
  }
  for (int64_t k = 0; k < h; k++) {
    double z = gate(w, 0, w->x[k] + product(w, k, w->hidden));
    double n = gate(w, 1, w->x[2 * h + k] + (after ? reset[k] : product(w, 2 * h + k, reset)));
    w->made[k] = (1 - z) * n + z * w->hidden[k];
  }
}

static void step_rnn(walk *w) {
  for (int64_t k = 0; k < w->h; k++) w->made[k] = gate(w, 0, w->x[k] + product(w, k, w->hidden));
}

static void load(const tn_ref_tensor *t, int64_t at, int64_t n, double *out) {
  memset(out, 0, (size_t)n * sizeof *out);
  if (t->data) tn_ref_load(t, at * n, n, out);
}

static void walk_one(walk *w, void (*step)(walk *), uint32_t which, bool reverse) {
  tn_ref_call *c = w->c;
  int64_t steps = c->in[0].dims[0], batch = c->in[0].dims[1], dirs = c->in[0].dims[2],
          width = c->in[0].dims[3];
  const tn_ref_tensor *lengths = operand(w, which);
  int64_t n = lengths->data ? tn_ref_get_int(lengths, w->b) : steps, at = w->d * batch + w->b;
  n = n < 0 ? 0 : n < steps ? n : steps;
  load(operand(w, 2), at, w->h, w->hidden);
  if (c->nout > 2) load(operand(w, 3), at, w->h, w->cell);
  for (int64_t i = 0; i < n; i++) {
    int64_t t = reverse ? n - 1 - i : i;
    tn_ref_load(&c->in[0], ((t * batch + w->b) * dirs + w->d) * width, width, w->x);
    step(w);
    memcpy(w->hidden, w->made, (size_t)w->h * sizeof *w->made);
    tn_ref_store(&c->out[0], ((t * dirs + w->d) * batch + w->b) * w->h, w->h, w->hidden);
  }
  for (int64_t t = n; t < steps; t++)
    tn_ref_zero(&c->out[0], ((t * dirs + w->d) * batch + w->b) * w->h, w->h);
  tn_ref_store(&c->out[1], at * w->h, w->h, w->hidden);
  if (c->nout > 2) tn_ref_store(&c->out[2], at * w->h, w->h, w->cell);
}

static tn_status run(tn_ref_call *c, void (*step)(walk *), uint32_t curves, uint32_t lengths) {
  walk w = {.c = c, .h = c->in[1].dims[2], .curves = curves};
  bool reverse = !strcmp(tn_ref_attr(c, "direction").u.s, "reverse");
  w.x = tn_ref_scratch(c, c->in[0].dims[3], sizeof *w.x);
  w.hidden = tn_ref_scratch(c, w.h, sizeof *w.hidden);
  w.cell = tn_ref_scratch(c, w.h, sizeof *w.cell);
  w.made = tn_ref_scratch(c, 2 * w.h, sizeof *w.made);
  if (!w.x || !w.hidden || !w.cell || !w.made) return TN_OOM;
  for (; w.d < c->in[0].dims[2]; w.d++)
    for (w.b = 0; w.b < c->in[0].dims[1]; w.b++) walk_one(&w, step, lengths, reverse || w.d == 1);
  return TN_OK;
}

tn_status tn_ref_op_lstm(tn_ref_call *c) { return run(c, step_lstm, 3, 5); }
tn_status tn_ref_op_gru(tn_ref_call *c) { return run(c, step_gru, 2, 4); }
tn_status tn_ref_op_rnn(tn_ref_call *c) { return run(c, step_rnn, 1, 3); }
