/* dft.c - discrete Fourier transforms of any length: mixed-radix Stockham (Stockham 1966), and Bluestein's
 * chirp where a prime factor is large. Vectors go across lines: as many as a vector has elements lie
 * interleaved and are transformed together; real lines go in pairs, one as the real part of the other (Press
 * et al., 12.3). */
#include "backends/lib/lib.h"
#include <math.h>

enum { LARGEST = 5, GENERIC = 31, MAX_STEPS = 42 }; /* radix with butterflies; without; a line's steps */

/* Heads a table; the factors of all steps follow, and for m > 0 chirp and kernel. */
typedef struct plan {
  int64_t n, m; /* m: length of the convolution that stands for the transform; 0: none */
  int64_t count, radix[MAX_STEPS];
} plan;

static double turn(int64_t k, int64_t n) {
  return 2 * 3.14159265358979323846 * ((double)(k % n) / (double)n);
}

static int64_t take(plan *p, int64_t n, int64_t r) {
  for (; n > 1 && n % r == 0; n /= r) p->radix[p->count++] = r;
  return n;
}
static plan plan_of(int64_t n) {
  plan p = {.n = n};
  int64_t left = take(&p, take(&p, n, 4), 2);
  for (int64_t r = 3; r <= GENERIC && left > 1; r += 2) left = take(&p, left, r);
  if (left <= 1) return p;
  p = (plan){.n = n, .m = 1};
  while (p.m < 2 * n - 1) p.m *= 2;
  take(&p, take(&p, p.m, 4), 2);
  return p;
}
/* Numbers that put_turns writes. */
static int64_t turns_of(const plan *p, int64_t n) {
  int64_t sum = 0;
  for (int64_t i = 0; i < p->count; n /= p->radix[i++])
    sum += 2 * (p->radix[i] - 1) * (n / p->radix[i]) + (p->radix[i] > LARGEST ? 2 * p->radix[i] : 0);
  return sum;
}

typedef struct job {
  const tn_lib_call *c;
  int64_t n, len, made; /* length of the transform, of a line that comes, of one that goes */
  int64_t lines, inner, parts;
  bool inverse, halves, pairs; /* halves: half spectra become real lines */
} job;

#define AVX2 __attribute__((target("avx2,fma")))
#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma")))

#define TN_T float
#define TN_WIDTH 1
#define TN_ATTR_
#define TN_FN(x) x##_one_f32
#include "backends/lib/dft_body.h"
#define TN_WIDTH 4
#define TN_ATTR_
#define TN_FN(x) x##_plain_f32
#include "backends/lib/dft_body.h"
#define TN_WIDTH 8
#define TN_ATTR_ AVX2
#define TN_FN(x) x##_avx2_f32
#include "backends/lib/dft_body.h"
#define TN_WIDTH 16
#define TN_ATTR_ AVX512
#define TN_FN(x) x##_avx512_f32
#include "backends/lib/dft_body.h"
static const struct {
  int64_t width;
  void (*step)(const float *re, const float *im, float *to_re, float *to_im, int64_t m, int64_t s, int64_t lo,
               int64_t hi, const float *w, int64_t r, const float *root);
} steps_f32[] = {{4, step_plain_f32}, {8, step_avx2_f32}, {16, step_avx512_f32}};
#define TN_DTYPE TN_DT_f32
#define TN_LOAD tn_lib_load_f32
#define TN_STORE tn_lib_store_f32
#define TN_FN(x) x##_f32
#define TN_STEPS steps_f32
#include "backends/lib/dft_lines.h"

#define TN_T double
#define TN_WIDTH 1
#define TN_ATTR_
#define TN_FN(x) x##_one_f64
#include "backends/lib/dft_body.h"
#define TN_WIDTH 2
#define TN_ATTR_
#define TN_FN(x) x##_plain_f64
#include "backends/lib/dft_body.h"
#define TN_WIDTH 4
#define TN_ATTR_ AVX2
#define TN_FN(x) x##_avx2_f64
#include "backends/lib/dft_body.h"
#define TN_WIDTH 8
#define TN_ATTR_ AVX512
#define TN_FN(x) x##_avx512_f64
#include "backends/lib/dft_body.h"
static const struct {
  int64_t width;
  void (*step)(const double *re, const double *im, double *to_re, double *to_im, int64_t m, int64_t s,
               int64_t lo, int64_t hi, const double *w, int64_t r, const double *root);
} steps_f64[] = {{2, step_plain_f64}, {4, step_avx2_f64}, {8, step_avx512_f64}};
#define TN_DTYPE TN_DT_f64
#define TN_LOAD tn_lib_load
#define TN_STORE tn_lib_store
#define TN_FN(x) x##_f64
#define TN_STEPS steps_f64
#include "backends/lib/dft_lines.h"

uint64_t tn_lib_dft_table(int64_t n, bool wide, void *out) {
  return wide ? table_f64(n, out) : table_f32(n, out);
}

uint64_t tn_lib_dft_scratch(int64_t n, bool wide, bool table) {
  plan p = plan_of(n);
  uint64_t room = 4 * 64 * (uint64_t)(p.m ? p.m : n); /* four arrays of whole vectors */
  return room + (table ? tn_lib_dft_table(n, wide, NULL) + 64 : 0);
}

static uint32_t axis_of(const tn_lib_call *c) {
  int64_t axis = c->attrs[TN_LIB_A_dft_axis].u.i;
  return (uint32_t)(axis < 0 ? axis + c->in[0].rank : axis);
}

void tn_lib_dft(const tn_lib_call *c) {
  const tn_lib_tensor *x = &c->in[0], *y = &c->out[0];
  uint32_t axis = axis_of(c), last = x->rank - 1;
  job j = {.c = c, .n = c->attrs[TN_LIB_A_dft_n].u.i, .len = x->dims[axis], .made = y->dims[axis]};
  j.parts = x->dims[last];
  j.inverse = c->attrs[TN_LIB_A_dft_inverse].u.i;
  j.halves = j.inverse && c->attrs[TN_LIB_A_dft_onesided].u.i;
  j.lines = j.inner = 1;
  for (uint32_t i = 0; i < last; i++)
    if (i != axis) j.lines *= x->dims[i], j.inner *= i > axis ? x->dims[i] : 1;
  j.pairs = j.halves || j.parts == 1;
  if (j.n < 1 || !j.lines) return;
  bool wide = x->dtype == TN_DT_f64;
  plan *p = (plan *)(uintptr_t)c->table;
  uint8_t *room = c->scratch;
  if (!p) {
    p = (plan *)room;
    room += tn_align_up(tn_lib_dft_table(j.n, wide, p), 64);
  }
  if (wide)
    run_f64(&j, p, (double *)room);
  else
    run_f32(&j, p, (float *)room);
}
