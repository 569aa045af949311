/* scan.c - ssm_scan, token by token in double, one head at a time. */
#include "kernels.h"
#include <math.h>

typedef struct scan {
  tn_ref_call *c;
  int64_t s, h, p, g, n;
  bool shared; /* a is [h, 1] */
  double *state, *x, *b, *cc;
} scan;

/* One token of head (b, h): the state moves on, y comes out in x. */
static void step(scan *k, int64_t bi, int64_t t, int64_t h) {
  tn_ref_call *c = k->c;
  int64_t row = bi * k->s + t, group = h / (k->h / k->g);
  double dt = tn_ref_get(&c->in[1], row * k->h + h);
  tn_ref_load(&c->in[0], (row * k->h + h) * k->p, k->p, k->x);
  tn_ref_load(&c->in[3], (row * k->g + group) * k->n, k->n, k->b);
  tn_ref_load(&c->in[4], (row * k->g + group) * k->n, k->n, k->cc);
  for (int64_t p = 0; p < k->p; p++) {
    double *state = k->state + p * k->n, y = 0;
    for (int64_t n = 0; n < k->n; n++) {
      double a = tn_ref_get(&c->in[2], k->shared ? h : h * k->n + n);
      state[n] = exp(dt * a) * state[n] + dt * k->x[p] * k->b[n];
      y += state[n] * k->cc[n];
    }
    k->x[p] = y;
  }
  tn_ref_store(&c->out[0], (row * k->h + h) * k->p, k->p, k->x);
}

tn_status tn_ref_op_ssm_scan(tn_ref_call *c) {
  const tn_ref_tensor *x = &c->in[0], *b = &c->in[3];
  scan k = {.c = c, .s = x->dims[1], .h = x->dims[2], .p = x->dims[3], .g = b->dims[2], .n = b->dims[3]};
  k.shared = c->in[2].dims[1] == 1;
  k.state = tn_ref_scratch(c, k.p * k.n, sizeof *k.state);
  k.x = tn_ref_scratch(c, k.p, sizeof *k.x);
  k.b = tn_ref_scratch(c, k.n, sizeof *k.b);
  k.cc = tn_ref_scratch(c, k.n, sizeof *k.cc);
  if (!k.state || !k.x || !k.b || !k.cc) return TN_OOM;
  for (int64_t i = 0; i < x->dims[0] * k.h; i++) {
    tn_ref_load(&c->in[5], i * k.p * k.n, k.p * k.n, k.state);
    for (int64_t t = 0; t < k.s; t++) step(&k, i / k.h, t, i % k.h);
    tn_ref_store(&c->out[1], i * k.p * k.n, k.p * k.n, k.state);
  }
  return TN_OK;
}
