/* delta.c - delta_scan: a thread takes heads of keys and walks all their tokens; the state stays in its
 * scratch. */
#include "backends/lib/lib.h"
#include <math.h>

#define TN_WIDTH 4
#define TN_ATTR_
#define TN_FN(x) x##_plain
#include "backends/lib/delta_body.h"
#define TN_WIDTH 8
#define TN_ATTR_ __attribute__((target("avx2,fma")))
#define TN_FN(x) x##_avx2
#include "backends/lib/delta_body.h"
#define TN_WIDTH 16
#define TN_ATTR_ __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma")))
#define TN_FN(x) x##_avx512
#include "backends/lib/delta_body.h"

static const struct {
  void (*correct)(float *s, const float *gate, const float *k, float *v, float beta, int64_t d, int64_t width,
                  bool delta);
  void (*write)(float *s, const float *k, const float *v, int64_t d, int64_t width);
  void (*read)(const float *s, const float *q, float *y, float scale, int64_t d, int64_t width);
} widths[] = {[TN_LIB_PLAIN] = {correct_plain, write_plain, read_plain},
              [TN_LIB_AVX2] = {correct_avx2, write_avx2, read_avx2},
              [TN_LIB_AVX512] = {correct_avx512, write_avx512, read_avx512}};

typedef struct walk {
  const tn_lib_call *c;
  int64_t s, h, g, d, e, width;
  const tn_lib_tensor *state, *decay, *beta; /* NULL: absent */
  float *all, *v, *y, *k, *q, *gate;         /* all: the state [d, width] */
  float scale;
} walk;

static const tn_lib_tensor *option(const tn_lib_call *c, uint32_t i) {
  return i < c->nin && c->in[i].data ? &c->in[i] : NULL;
}

static void take_gate(walk *w, int64_t at) {
  int64_t n = w->decay ? w->decay->dims[3] : 0;
  if (!n) return; /* ones from the start */
  tn_lib_load_f32(w->decay, at * n, n, w->gate);
  for (int64_t i = 0; i < n; i++) w->gate[i] = expf(w->gate[i]);
  for (int64_t i = n; i < w->d; i++) w->gate[i] = w->gate[0];
}

static void token(walk *w, int64_t row, int64_t g) {
  const tn_lib_tensor *in = w->c->in;
  int64_t at = row * w->g + g, group = w->h / w->g;
  float beta = 0;
  tn_lib_load_f32(&in[1], at * w->d, w->d, w->k);
  tn_lib_load_f32(&in[2], at * w->e, w->e, w->v);
  take_gate(w, at);
  if (w->beta) tn_lib_load_f32(w->beta, at, 1, &beta);
  if (w->decay || w->beta)
    widths[w->c->isa].correct(w->all, w->gate, w->k, w->v, beta, w->d, w->width, w->beta != NULL);
  widths[w->c->isa].write(w->all, w->k, w->v, w->d, w->width);
  for (int64_t i = g * group; i < (g + 1) * group && w->c->out[0].data; i++) {
    tn_lib_load_f32(&in[0], (row * w->h + i) * w->d, w->d, w->q);
    widths[w->c->isa].read(w->all, w->q, w->y, w->scale, w->d, w->width);
    tn_lib_store_f32(&w->c->out[0], (row * w->h + i) * w->e, w->e, w->y);
  }
}

static void head(walk *w, int64_t b, int64_t g) {
  int64_t first = (b * w->g + g) * w->d;
  memset(w->all, 0, (size_t)(w->d * w->width) * sizeof(float));
  for (int64_t i = 0; i < w->d && w->state; i++)
    tn_lib_load_f32(w->state, (first + i) * w->e, w->e, w->all + i * w->width);
  for (int64_t t = 0; t < w->s; t++) token(w, b * w->s + t, g);
  for (int64_t i = 0; i < w->d && w->c->out[1].data; i++)
    tn_lib_store_f32(&w->c->out[1], (first + i) * w->e, w->e, w->all + i * w->width);
}

void tn_lib_delta_scan(const tn_lib_call *c) {
  const tn_lib_tensor *q = &c->in[0], *k = &c->in[1];
  int64_t lo, hi;
  walk w = {
      .c = c, .s = q->dims[1], .h = q->dims[2], .g = k->dims[2], .d = q->dims[3], .e = c->in[2].dims[3]};
  w.width = (int64_t)tn_align_up((uint64_t)w.e, TN_LIB_PANEL);
  w.state = option(c, 3), w.decay = option(c, 4), w.beta = option(c, 5);
  w.scale = (float)c->attrs[TN_LIB_A_delta_scan_scale].u.f;
  w.all = c->scratch;
  w.v = w.all + w.d * w.width, w.y = w.v + w.width;
  w.k = w.y + w.width, w.q = w.k + w.d, w.gate = w.q + w.d;
  memset(w.v, 0, (size_t)w.width * sizeof(float));
  for (int64_t i = 0; i < w.d; i++) w.gate[i] = 1;
  tn_lib_share(c, q->dims[0] * w.g, &lo, &hi);
  for (int64_t i = lo; i < hi; i++) head(&w, i / w.g, i % w.g);
}
