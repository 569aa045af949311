/* recurrent.c - lstm, gru and rnn: the part of them that goes from step to step. A thread takes one direction
 * of up to four sequences and walks all steps; its matrix lies in panels of 16 rows, so that a step reads it
 * once from end to end, for all four. */
#include "backends/lib/lib.h"
#include <math.h>

#define TN_WIDTH 4
#define TN_ATTR_
#define TN_FN(x) x##_plain
#include "backends/lib/recurrent_body.h"
#define TN_WIDTH 8
#define TN_ATTR_ __attribute__((target("avx2,fma")))
#define TN_FN(x) x##_avx2
#include "backends/lib/recurrent_body.h"
#define TN_WIDTH 16
#define TN_ATTR_ __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma")))
#define TN_FN(x) x##_avx512
#include "backends/lib/recurrent_body.h"

static const struct {
  void (*product)(const float *r, int64_t first, int64_t last, const float *v, int64_t stride, int64_t h,
                  int64_t rows, float *out, int64_t to);
  void (*curves)(bool sigmoid, float *x, int64_t n);
} widths[] = {[TN_LIB_PLAIN] = {product_plain, curves_plain},
              [TN_LIB_AVX2] = {product_avx2, curves_avx2},
              [TN_LIB_AVX512] = {product_avx512, curves_avx512}};

/* ---- activations -------------------------------------------------------------------------------------- */
enum { SIGMOID, TANH, RELU, AFFINE, LEAKY, THRESHOLDED, SCALED_TANH, HARD_SIGMOID, ELU, SOFTSIGN, SOFTPLUS };
static const char *const names[] = {"sigmoid",          "tanh",        "relu",         "affine", "leaky_relu",
                                    "thresholded_relu", "scaled_tanh", "hard_sigmoid", "elu",    "softsign",
                                    "softplus"};
typedef struct curve {
  uint32_t kind;
  float a, b;
} curve;

/* A decimal number, whatever the locale of the program that runs the model. */
static const char *number(const char *s, float *out) {
  double v = 0;
  int scale = 0, exponent = 0;
  bool minus = *s == '-', point = false, down;
  for (s += minus; (*s >= '0' && *s <= '9') || (*s == '.' && !point); s++) {
    point |= *s == '.';
    if (*s == '.') continue;
    v = v * 10 + (*s - '0');
    scale -= point;
  }
  if (*s == 'e') {
    down = *++s == '-';
    for (s += down || *s == '+'; *s >= '0' && *s <= '9' && exponent < 1000; s++)
      exponent = exponent * 10 + (*s - '0');
    scale += down ? -exponent : exponent;
  }
  *out = (float)((minus ? -v : v) * pow(10, scale));
  return s;
}

/* Entry i of a list "sigmoid, elu 0.5, affine 2 1": names with up to two numbers. */
static curve curve_of(const char *list, uint32_t i) {
  curve c = {0};
  while (i-- && (list = strchr(list, ','))) list++;
  if (!list) return c;
  list += strspn(list, " ");
  size_t n = strcspn(list, " ,");
  for (uint32_t k = 0; k < TN_COUNT(names); k++)
    if (strlen(names[k]) == n && !memcmp(names[k], list, n)) c.kind = k;
  if (list[n] != ' ') return c;
  list = number(list + n + 1, &c.a);
  if (*list == ' ') number(list + 1, &c.b);
  return c;
}

static float curve_at(const curve *c, float x) {
  switch (c->kind) {
  case RELU: return x < 0 ? 0 : x;
  case AFFINE: return c->a * x + c->b;
  case LEAKY: return x < 0 ? c->a * x : x;
  case THRESHOLDED: return x > c->a ? x : 0;
  case SCALED_TANH: return c->a * tanhf(c->b * x);
  case HARD_SIGMOID: return fminf(fmaxf(c->a * x + c->b, 0), 1);
  case ELU: return x < 0 ? c->a * expm1f(x) : x;
  case SOFTSIGN: return x / (1 + fabsf(x));
  default: return x > 20 ? x : log1pf(expf(x));
  }
}

/* ---- the walk ----------------------------------------------------------------------------------------- */
typedef struct walk walk;
struct walk {
  const tn_lib_call *c;
  int64_t steps, batch, dirs, h, gates;
  int64_t state, wide; /* floats of a row of one state in whole panels, and of all gates */
  int64_t tall;        /* rows of the matrix in whole panels */
  const tn_lib_tensor *x, *r, *lengths;
  void (*step)(walk *w, int64_t rows);
  float clip;
  const float *matrix;                               /* panels of the direction being walked */
  float *packed, *in, *made, *hidden, *cell, *extra; /* scratch; rows of `wide` or `state` floats */
  curve curves[3];
  int64_t dir;
};

static void clip(walk *w, float *x) {
  if (w->clip > 0)
    for (int64_t i = 0; i < w->h; i++) x[i] = fminf(fmaxf(x[i], -w->clip), w->clip);
}
static void activate(walk *w, uint32_t which, float *x) {
  const curve *c = &w->curves[which];
  if (c->kind <= TANH)
    widths[w->c->isa].curves(c->kind == SIGMOID, x, w->h);
  else
    for (int64_t i = 0; i < w->h; i++) x[i] = curve_at(c, x[i]);
}
static void gate(walk *w, uint32_t which, float *x) {
  clip(w, x);
  activate(w, which, x);
}
/* made = matrix times v, for gates [first, last) at least. */
static void multiply(walk *w, const float *v, int64_t first, int64_t last, int64_t rows) {
  int64_t from = first * w->h / TN_LIB_PANEL, to = (last * w->h + TN_LIB_PANEL - 1) / TN_LIB_PANEL;
  widths[w->c->isa].product(w->matrix, from, to, v, w->state, w->h, rows, w->made, w->wide);
}
static const float *row_of(walk *w, uint32_t operand, int64_t n, float *room) {
  const tn_lib_tensor *t = &w->c->in[operand];
  if (!t->data) return NULL;
  if (t->dtype == TN_DT_f32) return (const float *)t->data + w->dir * n;
  tn_lib_load_f32(t, w->dir * n, n, room);
  return room;
}

/* in: x, r, h, c, peephole, lengths. Gates i, o, f, c. */
static void step_lstm(walk *w, int64_t rows) {
  int64_t h = w->h;
  bool coupled = w->c->attrs[TN_LIB_A_lstm_coupled].u.i;
  const float *peep = row_of(w, 4, 3 * h, w->extra);
  multiply(w, w->hidden, 0, 4, rows);
  for (int64_t r = 0; r < rows; r++) {
    float *in = w->in + r * w->wide, *made = w->made + r * w->wide;
    float *i = in, *o = in + h, *f = in + 2 * h, *g = in + 3 * h, *c = w->cell + r * w->state,
          *y = w->hidden + r * w->state;
    for (int64_t k = 0; k < 4 * h; k++) in[k] += made[k];
    for (int64_t k = 0; peep && k < h; k++) i[k] += peep[k] * c[k], f[k] += peep[2 * h + k] * c[k];
    memcpy(made, o, (size_t)h * sizeof *o); /* curves work on whole vectors and spill into the next gate */
    memcpy(made + w->state, f, (size_t)h * sizeof *o);
    memcpy(made + 2 * w->state, g, (size_t)h * sizeof *o);
    o = made, f = made + w->state, g = made + 2 * w->state;
    gate(w, 0, i);
    if (coupled)
      for (int64_t k = 0; k < h; k++) f[k] = 1 - i[k];
    else
      gate(w, 0, f);
    gate(w, 1, g);
    for (int64_t k = 0; k < h; k++) c[k] = f[k] * c[k] + i[k] * g[k];
    for (int64_t k = 0; peep && k < h; k++) o[k] += peep[h + k] * c[k];
    gate(w, 0, o);
    memcpy(y, c, (size_t)h * sizeof *c);
    activate(w, 2, y);
    for (int64_t k = 0; k < h; k++) y[k] *= o[k];
  }
}

/* in: x, r, h, bias, lengths. Gates z, r, h. */
static void step_gru(walk *w, int64_t rows) {
  int64_t h = w->h;
  bool before = w->c->attrs[TN_LIB_A_gru_reset_after].u.i;
  const float *bias = row_of(w, 3, h, w->cell); /* gru has no cell */
  multiply(w, w->hidden, 0, before ? 3 : 2, rows);
  for (int64_t row = 0; row < rows; row++) {
    float *in = w->in + row * w->wide, *made = w->made + row * w->wide, *y = w->hidden + row * w->state;
    float *reset = w->extra + row * w->state, *n = in + 2 * h;
    for (int64_t k = 0; k < 2 * h; k++) in[k] += made[k];
    memcpy(reset, in + h, (size_t)h * sizeof *in);
    gate(w, 0, reset);
    for (int64_t k = 0; before && k < h; k++) n[k] += reset[k] * (made[2 * h + k] + (bias ? bias[k] : 0));
    for (int64_t k = 0; !before && k < h; k++) reset[k] *= y[k];
  }
  if (!before) multiply(w, w->extra, 2, 3, rows);
  for (int64_t row = 0; row < rows; row++) {
    float *in = w->in + row * w->wide, *made = w->made + row * w->wide, *y = w->hidden + row * w->state;
    float *z = in, *n = w->extra + row * w->state; /* curves spill over z */
    for (int64_t k = 0; k < h; k++) n[k] = in[2 * h + k] + (before ? 0 : made[2 * h + k]);
    gate(w, 0, z);
    gate(w, 1, n);
    for (int64_t k = 0; k < h; k++) y[k] = (1 - z[k]) * n[k] + z[k] * y[k];
  }
}

/* in: x, r, h, lengths. */
static void step_rnn(walk *w, int64_t rows) {
  multiply(w, w->hidden, 0, 1, rows);
  for (int64_t row = 0; row < rows; row++) {
    float *in = w->in + row * w->wide, *made = w->made + row * w->wide;
    for (int64_t k = 0; k < w->h; k++) in[k] += made[k];
    gate(w, 0, in);
    memcpy(w->hidden + row * w->state, in, (size_t)w->h * sizeof *in);
  }
}

/* The matrix of direction d in panels. */
static void pack(walk *w) {
  int64_t n = w->gates * w->h, depth = w->h;
  w->matrix = (const float *)w->r->data + w->dir * w->tall * depth;
  if (w->r->panels && w->r->dtype == TN_DT_f32) return;
  w->matrix = w->packed;
  for (int64_t i = 0; i < w->tall; i++)
    for (int64_t k = 0; k < depth; k++) {
      float *to = w->packed + (i / TN_LIB_PANEL * depth + k) * TN_LIB_PANEL + i % TN_LIB_PANEL;
      *to = 0;
      if (w->r->panels)
        tn_lib_load_f32(w->r, w->dir * w->tall * depth + (to - w->packed), 1, to);
      else if (i < n)
        tn_lib_load_f32(w->r, (w->dir * n + i) * depth + k, 1, to);
    }
}

static void load_state(walk *w, uint32_t operand, int64_t first, int64_t rows, float *to) {
  const tn_lib_tensor *t = &w->c->in[operand];
  for (int64_t r = 0; r < rows; r++, to += w->state)
    if (t->data)
      tn_lib_load_f32(t, (w->dir * w->batch + first + r) * w->h, w->h, to);
    else
      memset(to, 0, (size_t)w->h * sizeof *to);
}
static void store_state(walk *w, const tn_lib_tensor *t, int64_t first, int64_t rows, const float *from) {
  for (int64_t r = 0; t->data && r < rows; r++)
    tn_lib_store_f32(t, (w->dir * w->batch + first + r) * w->h, w->h, from + r * w->state);
}

/* Sequences that have ended keep their state: it is put aside and back around the step. */
static void keep(walk *w, int64_t row, float *aside, bool back) {
  float *states[] = {w->hidden + row * w->state, w->cell + row * w->state};
  for (int i = 0; i < 2; i++) {
    float *x = aside + (2 * row + i) * w->state;
    memcpy(back ? states[i] : x, back ? x : states[i], (size_t)w->state * sizeof *x);
  }
}

static int64_t clamped(int64_t v, int64_t most) { return v < 0 ? 0 : v < most ? v : most; }

/* Direction w->dir of sequences [first, first + rows). */
static void walk_rows(walk *w, int64_t first, int64_t rows, bool reverse, bool has_cell) {
  int64_t len[TN_LIB_RECUR_ROWS], width = w->gates * w->h;
  float *aside = w->extra + TN_LIB_RECUR_ROWS * w->wide;
  for (int64_t r = 0; r < rows; r++)
    len[r] = w->lengths->data ? clamped(tn_lib_int(w->lengths, first + r), w->steps) : w->steps;
  memset(w->cell, 0, (size_t)(rows * w->state) * sizeof *w->cell);
  load_state(w, 2, first, rows, w->hidden);
  if (has_cell) load_state(w, 3, first, rows, w->cell);
  for (int64_t t = 0; t < w->steps; t++) {
    for (int64_t r = 0; r < rows; r++) {
      int64_t at = reverse && t < len[r] ? len[r] - 1 - t : t;
      int64_t from = ((at * w->batch + first + r) * w->dirs + w->dir) * width;
      tn_lib_load_f32(w->x, from, width, w->in + r * w->wide);
      if (t >= len[r]) keep(w, r, aside, false);
    }
    w->step(w, rows);
    for (int64_t r = 0; r < rows; r++) {
      int64_t at = reverse && t < len[r] ? len[r] - 1 - t : t;
      float *y = w->hidden + r * w->state;
      if (t >= len[r]) {
        keep(w, r, aside, true);
        y = w->in; /* what lies behind the end is zero */
        memset(y, 0, (size_t)w->h * sizeof *y);
      }
      if (w->c->out[0].data)
        tn_lib_store_f32(&w->c->out[0], ((at * w->dirs + w->dir) * w->batch + first + r) * w->h, w->h, y);
    }
  }
  store_state(w, &w->c->out[1], first, rows, w->hidden);
  if (has_cell) store_state(w, &w->c->out[2], first, rows, w->cell);
}

static int64_t whole(int64_t n) { return (n + TN_LIB_PANEL - 1) / TN_LIB_PANEL * TN_LIB_PANEL; }

/* Scratch in the order of the fields; see recurrent_bytes in backends/cpu/skel/skel_library.c. */
static void lay_out(walk *w) {
  float *at = w->c->scratch;
  float **rows[] = {&w->in, &w->made, &w->extra};
  float **states[] = {&w->hidden, &w->cell};
  for (int i = 0; i < 2; i++, at += TN_LIB_RECUR_ROWS * w->state) *states[i] = at;
  for (int i = 0; i < 3; i++, at += TN_LIB_RECUR_ROWS * w->wide) *rows[i] = at;
  w->packed = at + 2 * TN_LIB_RECUR_ROWS * w->state; /* behind extra: what is put aside */
}

/* `attrs`: positions of direction, activations and clip, the same in all three ops. */
static void run(walk *w, bool has_cell) {
  const tn_lib_call *c = w->c;
  const char *direction = c->attrs[TN_LIB_A_lstm_direction].u.s;
  int64_t blocks, lo, hi, per = TN_LIB_RECUR_ROWS, threads = c->nthreads, packed = -1;
  uint32_t curves = has_cell ? 3 : w->gates == 3 ? 2 : 1;
  w->x = &c->in[0];
  w->r = &c->in[1];
  w->steps = w->x->dims[0];
  w->batch = w->x->dims[1];
  w->dirs = w->x->dims[2];
  w->h = c->out[0].dims[3];
  w->state = whole(w->h);
  w->wide = w->gates * w->state;
  w->tall = whole(w->gates * w->h);
  w->clip = (float)c->attrs[TN_LIB_A_lstm_clip].u.f;
  lay_out(w);
  while (per > 1 && (w->batch + per - 1) / per * w->dirs < threads) per--;
  blocks = (w->batch + per - 1) / per;
  tn_lib_share(c, blocks * w->dirs, &lo, &hi);
  for (int64_t i = lo; i < hi; i++) {
    int64_t first = i % blocks * per, rows = w->batch - first < per ? w->batch - first : per;
    w->dir = i / blocks;
    if (w->dir != packed) pack(w);
    packed = w->dir;
    for (uint32_t k = 0; k < curves; k++)
      w->curves[k] = curve_of(c->attrs[TN_LIB_A_lstm_activations].u.s, (uint32_t)w->dir * curves + k);
    walk_rows(w, first, rows, !strcmp(direction, "reverse") || w->dir == 1, has_cell);
  }
}

void tn_lib_lstm(const tn_lib_call *c) {
  walk w = {.c = c, .gates = 4, .step = step_lstm, .lengths = &c->in[5]};
  run(&w, true);
}
void tn_lib_gru(const tn_lib_call *c) {
  walk w = {.c = c, .gates = 3, .step = step_gru, .lengths = &c->in[4]};
  run(&w, false);
}
void tn_lib_rnn(const tn_lib_call *c) {
  walk w = {.c = c, .gates = 1, .step = step_rnn, .lengths = &c->in[3]};
  run(&w, false);
}
