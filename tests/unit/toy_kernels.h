/* toy_kernels.h - the kernels of the toy model (toy.h), small enough to check by hand. TOY_LINKAGE: static in
 * a test program, empty where they are compiled into an object for the link step. */
#include "tenon/plugin.h"

#define TOY_KERNEL(name)                                                                                     \
  TOY_LINKAGE void name(const tn_kcall *c);                                                                  \
  TOY_LINKAGE void name(const tn_kcall *c)

/* out[n, d] = table[ids[n]]; dims n, d. */
TOY_KERNEL(toy_gather) {
  const float *table = c->bufs[0];
  const int32_t *ids = c->bufs[1];
  float *out = c->bufs[2];
  for (int64_t i = c->thread; i < c->dims[0]; i += c->nthreads)
    for (int64_t k = 0; k < c->dims[1]; k++)
      out[i * c->dims[1] + k] = ids[i] >= 0 && ids[i] < 10 ? table[ids[i] * c->dims[1] + k] : 0;
}

/* out[n, d] = x[n, d] * mask[n] + bias[d], by way of the thread's scratch; dims n, d. */
TOY_KERNEL(toy_scale) {
  const float *x = c->bufs[0], *bias = c->bufs[2];
  const int32_t *mask = c->bufs[1];
  float *out = c->bufs[3], *row = c->scratch;
  int64_t d = c->dims[1];
  for (int64_t i = c->thread; i < c->dims[0]; i += c->nthreads) {
    for (int64_t k = 0; k < d; k++) row[k] = x[i * d + k] * (float)mask[i];
    for (int64_t k = 0; k < d; k++) out[i * d + k] = row[k] + bias[k];
  }
}

/* The variant for one token does both at once and adds a half (or as the build says), so that a test sees
 * which ran. */
#ifndef TOY_EXTRA
#define TOY_EXTRA 0.5f
#endif
TOY_KERNEL(toy_one) {
  const float *table = c->bufs[0], *bias = c->bufs[3];
  const int32_t *ids = c->bufs[1], *mask = c->bufs[2];
  float *out = c->bufs[4];
  int64_t d = c->dims[1];
  for (int64_t i = c->thread; i < c->dims[0]; i += c->nthreads)
    for (int64_t k = 0; k < d; k++)
      out[i * d + k] = table[ids[i] * d + k] * (float)mask[i] + bias[k] + TOY_EXTRA;
}

/* state[b, p + s] = ids[b, s]; dims B, S, P, C. One thread only. */
TOY_KERNEL(toy_append) {
  const int32_t *ids = c->bufs[0];
  int32_t *state = c->bufs[1];
  int64_t B = c->dims[0], S = c->dims[1], P = c->dims[2], C = c->dims[3];
  for (int64_t b = 0; b < B; b++)
    for (int64_t s = 0; s < S; s++) state[b * C + P + s] = ids[b * S + s];
}

/* logits[b, v] = -(v - sum of the state's first T rows mod V)^2 / 8: the most likely token is that sum; dims
 * B, T, C, V. */
TOY_KERNEL(toy_next) {
  const int32_t *state = c->bufs[0];
  float *logits = c->bufs[1];
  int64_t B = c->dims[0], T = c->dims[1], C = c->dims[2], V = c->dims[3];
  for (int64_t v = c->thread; v < B * V; v += c->nthreads) {
    int64_t sum = 0;
    for (int64_t t = 0; t < T; t++) sum += state[v / V * C + t];
    float away = (float)(v % V - sum % V);
    logits[v] = -away * away / 8;
  }
}
