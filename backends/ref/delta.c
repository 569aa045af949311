/* delta.c - delta_scan, token by token in double, one head of keys at a time. */
#include "kernels.h"
#include <math.h>

typedef struct delta {
  tn_ref_call *c;
  int64_t s, h, g, d, e;
  const tn_ref_tensor *state, *decay, *beta; /* NULL: absent */
  double scale;
  double *all, *q, *k, *v, *gate, *y; /* all: the state [d, e] */
} delta;

static const tn_ref_tensor *option(tn_ref_call *c, uint32_t i) {
  return i < c->nin && c->in[i].data ? &c->in[i] : NULL;
}

static void move_on(delta *a, int64_t at) {
  int64_t gates = a->decay ? a->decay->dims[3] : 0;
  if (gates) tn_ref_load(a->decay, at * gates, gates, a->gate);
  for (int64_t i = 0; i < a->d * a->e && gates; i++) a->all[i] *= exp(a->gate[gates == 1 ? 0 : i / a->e]);
  for (int64_t m = 0; m < a->e && a->beta; m++) {
    double had = 0;
    for (int64_t i = 0; i < a->d; i++) had += a->all[i * a->e + m] * a->k[i];
    a->v[m] = tn_ref_get(a->beta, at) * (a->v[m] - had);
  }
  for (int64_t i = 0; i < a->d * a->e; i++) a->all[i] += a->k[i / a->e] * a->v[i % a->e];
}

static void read_out(delta *a, int64_t row, int64_t head) {
  tn_ref_load(&a->c->in[0], (row * a->h + head) * a->d, a->d, a->q);
  for (int64_t m = 0; m < a->e; m++) {
    double sum = 0;
    for (int64_t i = 0; i < a->d; i++) sum += a->q[i] * a->all[i * a->e + m];
    a->y[m] = a->scale * sum;
  }
  tn_ref_store(&a->c->out[0], (row * a->h + head) * a->e, a->e, a->y);
}

static void walk(delta *a, int64_t b, int64_t g) {
  int64_t size = a->d * a->e, group = a->h / a->g;
  memset(a->all, 0, (size_t)size * sizeof *a->all);
  if (a->state) tn_ref_load(a->state, (b * a->g + g) * size, size, a->all);
  for (int64_t t = 0; t < a->s; t++) {
    int64_t row = b * a->s + t, at = row * a->g + g;
    tn_ref_load(&a->c->in[1], at * a->d, a->d, a->k);
    tn_ref_load(&a->c->in[2], at * a->e, a->e, a->v);
    move_on(a, at);
    for (int64_t i = 0; i < group; i++) read_out(a, row, g * group + i);
  }
  tn_ref_store(&a->c->out[1], (b * a->g + g) * size, size, a->all);
}

tn_status tn_ref_op_delta_scan(tn_ref_call *c) {
  const tn_ref_tensor *q = &c->in[0], *k = &c->in[1];
  delta a = {
      .c = c, .s = q->dims[1], .h = q->dims[2], .g = k->dims[2], .d = q->dims[3], .e = c->in[2].dims[3]};
  a.state = option(c, 3), a.decay = option(c, 4), a.beta = option(c, 5);
  a.scale = tn_ref_attr_float(c, "scale");
  a.all = tn_ref_scratch(c, a.d * a.e, sizeof *a.all);
  double **const vectors[] = {&a.q, &a.k, &a.gate, &a.v, &a.y};
  for (size_t i = 0; i < TN_COUNT(vectors); i++)
    if (!(*vectors[i] = tn_ref_scratch(c, i < 3 ? a.d : a.e, sizeof(double)))) return TN_OOM;
  if (!a.all) return TN_OOM;
  for (int64_t i = 0; i < q->dims[0] * a.g; i++) walk(&a, i / a.g, i % a.g);
  return TN_OK;
}
