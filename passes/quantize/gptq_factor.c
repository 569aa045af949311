/* gptq_factor.c - second moments, and the factor of their inverse. With J the reversal of rows, L the lower
 * Cholesky factor of J H J: H = (J L J)(J L J)^T, so the inverse is u^T u with u = J L^-1 J. Sums are in
 * double; their order does not depend on the number of threads. */
#include "passes/quantize/gptq.h"
#include "ir/base/base.h"
#include <math.h>
#include <stdlib.h>

#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__)
#define WIDE __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define WIDE
#endif

enum { PANEL = 64, STRIP = 32, TILE = 8 };

/* ---- moments ------------------------------------------------------------------------------------------- */

/* TILE rows of h from column `from` on, for 64 rows of x at a time: sums stay in registers. */
enum { MANY = 64, ROWS = 4 };

typedef struct moments {
  float *h;
  const float *x;
  uint64_t n;
  uint32_t columns;
} moments;

/* h[i .. i + ROWS)[j .. j + STRIP) += of n rows; x has `columns` to a row. */
WIDE static void add_tile(float *h, const float *x, uint64_t n, uint32_t columns, uint32_t i, uint32_t j) {
  float sum[ROWS][STRIP] = {{0}};
  for (uint64_t r = 0; r < n; r++) {
    const float *a = x + r * columns + i, *b = x + r * columns + j;
    for (int k = 0; k < ROWS; k++)
      for (int c = 0; c < STRIP; c++) sum[k][c] += a[k] * b[c];
  }
  for (int k = 0; k < ROWS; k++)
    for (int c = 0; c < STRIP; c++) h[(uint64_t)(i + (uint32_t)k) * columns + j + (uint32_t)c] += sum[k][c];
}

/* The same where fewer rows or columns are left. */
static void add_rest(const moments *m, uint32_t i, uint32_t i1, uint32_t j, uint32_t j1) {
  for (uint32_t a = i; a < i1; a++)
    for (uint32_t b = j; b < j1; b++) {
      float sum = 0;
      for (uint64_t r = 0; r < m->n; r++) sum += m->x[r * m->columns + a] * m->x[r * m->columns + b];
      m->h[(uint64_t)a * m->columns + b] += sum;
    }
}

static tn_status moments_strip(void *ctx, uint32_t thread, uint32_t strip) {
  const moments *m = ctx;
  uint32_t j = strip * STRIP, j1 = j + STRIP < m->columns ? j + STRIP : m->columns;
  (void)thread;
  for (uint32_t i = 0; i < j1; i += ROWS) {
    uint32_t i1 = i + ROWS < m->columns ? i + ROWS : m->columns;
    if (i1 - i == ROWS && j1 - j == STRIP)
      add_tile(m->h, m->x, m->n, m->columns, i, j);
    else
      add_rest(m, i, i1, j, j1);
  }
  return TN_OK;
}

tn_status tn_gptq_moments(float *h, uint32_t columns, const float *x, uint64_t n, uint32_t threads) {
  moments m = {h, x, n, columns};
  return tn_parallel(threads ? threads : tn_processors(), (columns + STRIP - 1) / STRIP, moments_strip, &m);
}

/* ---- Cholesky ------------------------------------------------------------------------------------------ */

typedef struct factor {
  double *a; /* [n, n]: the matrix, then L in its lower triangle */
  uint32_t n, k0, k1;
  double *panel; /* [PANEL, n]: columns k0 .. k1 of L, as rows */
  float *u;
  double **strips; /* of each thread: [n, STRIP] */
} factor;

/* c[0 .. n) -= the sum over p < np of a[p] * b[p * stride + ...] */
WIDE static void subtract(double *c, const double *a, const double *b, uint32_t np, uint64_t stride,
                          uint32_t n) {
  uint32_t j = 0;
  for (; j + TILE * 4 <= n; j += TILE * 4) {
    double sum[TILE * 4];
    for (int k = 0; k < TILE * 4; k++) sum[k] = c[j + (uint32_t)k];
    for (uint32_t p = 0; p < np; p++) {
      const double *row = b + p * stride + j;
      for (int k = 0; k < TILE * 4; k++) sum[k] -= a[p] * row[k];
    }
    for (int k = 0; k < TILE * 4; k++) c[j + (uint32_t)k] = sum[k];
  }
  for (; j < n; j++)
    for (uint32_t p = 0; p < np; p++) c[j] -= a[p] * b[p * stride + j];
}

static bool factor_diagonal(factor *f) {
  for (uint32_t k = f->k0; k < f->k1; k++) {
    double *row = f->a + (uint64_t)k * f->n;
    for (uint32_t j = f->k0; j < k; j++) {
      const double *other = f->a + (uint64_t)j * f->n;
      for (uint32_t p = f->k0; p < j; p++) row[j] -= row[p] * other[p];
      row[j] /= other[j];
    }
    for (uint32_t p = f->k0; p < k; p++) row[k] -= row[p] * row[p];
    if (!(row[k] > 0)) return false;
    row[k] = sqrt(row[k]);
  }
  return true;
}

/* Rows below the diagonal block: columns k0 .. k1 of L. */
static tn_status factor_below(void *ctx, uint32_t thread, uint32_t i) {
  factor *f = ctx;
  (void)thread;
  for (uint32_t r = f->k1 + i * TILE; r < f->k1 + (i + 1) * TILE && r < f->n; r++) {
    double *row = f->a + (uint64_t)r * f->n;
    for (uint32_t j = f->k0; j < f->k1; j++) {
      const double *other = f->a + (uint64_t)j * f->n;
      for (uint32_t p = f->k0; p < j; p++) row[j] -= row[p] * other[p];
      row[j] /= other[j];
      f->panel[(uint64_t)(j - f->k0) * f->n + r] = row[j];
    }
  }
  return TN_OK;
}

static tn_status factor_update(void *ctx, uint32_t thread, uint32_t i) {
  factor *f = ctx;
  (void)thread;
  for (uint32_t r = f->k1 + i * TILE; r < f->k1 + (i + 1) * TILE && r < f->n; r++) {
    double *row = f->a + (uint64_t)r * f->n;
    subtract(row + f->k1, row + f->k0, f->panel + f->k1, f->k1 - f->k0, f->n, r - f->k1 + 1);
  }
  return TN_OK;
}

/* false: not positive definite. */
static tn_status cholesky(factor *f, uint32_t threads, bool *ok) {
  *ok = true;
  for (f->k0 = 0; f->k0 < f->n; f->k0 = f->k1) {
    f->k1 = f->k0 + PANEL < f->n ? f->k0 + PANEL : f->n;
    if (!factor_diagonal(f)) {
      *ok = false;
      return TN_OK;
    }
    uint32_t below = (f->n - f->k1 + TILE - 1) / TILE;
    TN_TRY(tn_parallel(threads, below, factor_below, f));
    TN_TRY(tn_parallel(threads, below, factor_update, f));
  }
  return TN_OK;
}

/* ---- inverse ------------------------------------------------------------------------------------------- */

/* Columns i * STRIP .. of L^-1, from the diagonal down, into u, reversed. */
static tn_status invert_strip(void *ctx, uint32_t thread, uint32_t i) {
  factor *f = ctx;
  double *x = f->strips[thread];
  uint32_t j0 = i * STRIP, w = f->n - j0 < STRIP ? f->n - j0 : STRIP;
  for (uint32_t r = j0; r < f->n; r++) {
    const double *row = f->a + (uint64_t)r * f->n;
    double *out = x + (uint64_t)(r - j0) * STRIP;
    for (uint32_t c = 0; c < STRIP; c++) out[c] = r == j0 + c;
    subtract(out, row + j0, x, r - j0, STRIP, STRIP);
    for (uint32_t c = 0; c < STRIP; c++) out[c] /= row[r];
    float *u = f->u + (uint64_t)(f->n - 1 - r) * f->n;
    for (uint32_t c = 0; c < w; c++) u[f->n - 1 - j0 - c] = j0 + c <= r ? (float)out[c] : 0;
  }
  return TN_OK;
}

static tn_status invert(factor *f, uint32_t threads) {
  f->strips = tn_mem_alloc(threads * sizeof *f->strips);
  bool ok = f->strips;
  for (uint32_t t = 0; ok && t < threads; t++)
    ok = (f->strips[t] = tn_mem_alloc((uint64_t)f->n * STRIP * sizeof **f->strips)) != NULL;
  memset(f->u, 0, (uint64_t)f->n * f->n * sizeof *f->u);
  tn_status s = ok ? tn_parallel(threads, (f->n + STRIP - 1) / STRIP, invert_strip, f) : TN_OOM;
  for (uint32_t t = 0; f->strips && t < threads; t++) tn_mem_free(f->strips[t]);
  tn_mem_free(f->strips);
  return s;
}

/* ---- order and damping --------------------------------------------------------------------------------- */

typedef struct ordering {
  const float *h;
  uint32_t n;
} ordering;

static int by_moment(const void *a, const void *b, void *ctx) {
  const ordering *o = ctx;
  uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b;
  float x = o->h[(uint64_t)i * o->n + i], y = o->h[(uint64_t)j * o->n + j];
  return x != y ? (x < y ? 1 : -1) : i < j ? -1 : i > j;
}

static double mean_moment(const float *h, uint32_t n) {
  double sum = 0;
  for (uint32_t i = 0; i < n; i++) sum += (double)h[(uint64_t)i * n + i];
  return sum > 0 && isfinite(sum) ? sum / n : 1;
}

/* The matrix in the chosen order, reversed, with `add` on its diagonal. */
static void arrange(const float *h, uint32_t n, const uint32_t *order, double add, double *a) {
  for (uint32_t i = 0; i < n; i++) {
    uint32_t p = order[n - 1 - i];
    for (uint32_t j = 0; j <= i; j++) {
      uint32_t q = order[n - 1 - j];
      a[(uint64_t)i * n + j] = (double)(p < q ? h[(uint64_t)p * n + q] : h[(uint64_t)q * n + p]);
    }
    a[(uint64_t)i * n + i] += add;
  }
}

static tn_status factor_damped(factor *f, const float *h, const uint32_t *order, double damp,
                               uint32_t threads) {
  double mean = mean_moment(h, f->n);
  bool ok = false;
  for (; !ok && damp <= 1e3; damp *= 10) { /* few rows, or rounding: more damping helps */
    arrange(h, f->n, order, damp * mean, f->a);
    TN_TRY(cholesky(f, threads, &ok));
  }
  return ok ? invert(f, threads) : TN_INVALID;
}

tn_status tn_gptq_factor(const float *h, uint32_t columns, const tn_gptq_options *o, uint32_t *order,
                         float *u) {
  uint32_t threads = o->threads ? o->threads : tn_processors();
  ordering by = {h, columns};
  uint64_t n = columns;
  factor f = {.n = columns, .u = u};
  for (uint32_t i = 0; i < columns; i++) order[i] = i;
  if (o->act_order) qsort_r(order, columns, sizeof *order, by_moment, &by);
  f.a = tn_mem_alloc(n * n * sizeof *f.a);
  f.panel = tn_mem_alloc(PANEL * n * sizeof *f.panel);
  tn_status s = f.a && f.panel ? factor_damped(&f, h, order, o->damp > 0 ? o->damp : 0.01, threads) : TN_OOM;
  tn_mem_free(f.panel);
  tn_mem_free(f.a);
  return s;
}
