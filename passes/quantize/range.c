/* range.c - ranges of activations. All methods work on the histogram, whose bins are so narrow (2^-12 of the
 * largest number) that its middle stands for a bin. */
#include "passes/quantize/range.h"
#include <math.h>

enum { LEVELS = 255 /* steps of the codes 0..255; symmetric ones have 254 */ };

/* ---- the histogram ---- */

/* Twice as wide bins: two become one. */
static void widen(tn_range *r) {
  for (int i = 0; i < TN_RANGE_HALF / 2; i++) {
    int up = TN_RANGE_HALF + i, down = TN_RANGE_HALF - 1 - i;
    r->bins[up] = r->bins[TN_RANGE_HALF + 2 * i] + r->bins[TN_RANGE_HALF + 2 * i + 1];
    r->bins[down] = r->bins[TN_RANGE_HALF - 1 - 2 * i] + r->bins[TN_RANGE_HALF - 2 - 2 * i];
  }
  for (int i = TN_RANGE_HALF / 2; i < TN_RANGE_HALF; i++)
    r->bins[TN_RANGE_HALF + i] = r->bins[TN_RANGE_HALF - 1 - i] = 0;
  r->limit *= 2;
}

/* The least power of two above x. */
static float power_above(float x) {
  int e;
  (void)frexpf(x, &e);
  return ldexpf(1, e);
}

static void make_room(tn_range *r, float largest) {
  if (largest == 0 || largest < r->limit) return;
  float limit = power_above(fmaxf(largest, 0x1p-100f)); /* what is smaller still lies in the first bin */
  if (r->limit == 0) r->limit = limit;
  while (r->limit < limit) widen(r);
}

tn_status tn_range_add(tn_range *r, const float *x, uint64_t n) {
  float low = r->low, high = r->high;
  for (uint64_t i = 0; i < n; i++) {
    if (!isfinite(x[i]) || fabsf(x[i]) > 1e37f) return TN_INVALID;
    low = x[i] < low ? x[i] : low;
    high = x[i] > high ? x[i] : high;
  }
  make_room(r, fmaxf(-low, high));
  r->low = low;
  r->high = high;
  r->count += n;
  float per = r->limit > 0 ? TN_RANGE_HALF / r->limit : 0;
  for (uint64_t i = 0; i < n; i++)
    if (x[i] == 0)
      r->zeros++;
    else
      r->bins[(int)floorf(x[i] * per) + TN_RANGE_HALF]++;
  return TN_OK;
}

static double width_of(const tn_range *r) { return (double)r->limit / TN_RANGE_HALF; }
static double middle_of(const tn_range *r, int bin) {
  return ((double)bin - TN_RANGE_HALF + 0.5) * width_of(r);
}

/* ---- percentile ---- */

/* The edge of the bins below which `part` of the numbers lie; zeros lie at 0. */
static double quantile(const tn_range *r, double part) {
  double want = part * (double)r->count, sum = 0;
  for (int i = 0; i < TN_RANGE_BINS; i++) {
    double next = sum + (double)r->bins[i];
    if (next >= want && next > 0) {
      double inside = r->bins[i] ? (want - sum) / (double)r->bins[i] : 0;
      return (i - TN_RANGE_HALF + fmin(fmax(inside, 0), 1)) * width_of(r);
    }
    sum = next;
    if (i == TN_RANGE_HALF - 1) {
      sum += (double)r->zeros;
      if (sum >= want) return 0;
    }
  }
  return (double)r->high;
}

static void percentile(const tn_range *r, const tn_range_choice *c, double *low, double *high) {
  double out = (1 - (c->percentile > 0 ? c->percentile : 99.999) / 100) / 2;
  *low = quantile(r, out);
  *high = quantile(r, 1 - out);
  if (c->symmetric) *high = fmax(*high, -*low), *low = -*high;
}

/* ---- least squared error ---- */

/* The bins that are not empty, by their middles. */
typedef struct filled {
  double x[TN_RANGE_BINS], n[TN_RANGE_BINS];
  int count;
} filled;

/* Squares of what rounding to the codes of [low, high] changes. */
static double error_of(const filled *f, double low, double high, bool symmetric) {
  float scale;
  int32_t zero;
  double sum = 0;
  tn_range_step((float)low, (float)high, symmetric, &scale, &zero);
  double least = symmetric ? -127 : -zero, most = symmetric ? 127 : LEVELS - zero, per = 1 / (double)scale;
  for (int i = 0; i < f->count; i++) {
    double code = rint(f->x[i] * per);
    double e = f->x[i] - (double)scale * (code < least ? least : code > most ? most : code);
    sum += f->n[i] * e * e;
  }
  return sum;
}

enum { TRIES = 100 };

/* The best of the ends part * end, part from 1 down, while the other end stays. */
static double best_end(const filled *f, double end, double other, bool is_low, double *least) {
  double best = end;
  for (int i = TRIES; i > 0; i--) {
    double tried = end * i / TRIES;
    double e = error_of(f, is_low ? tried : other, is_low ? other : tried, false);
    if (e < *least) *least = e, best = tried;
  }
  return best;
}

static tn_status least_error(const tn_range *r, bool symmetric, double *low, double *high) {
  filled *f = tn_mem_alloc(sizeof *f);
  double bottom = (double)r->low, top = (double)r->high, largest = fmax(-bottom, top);
  if (!f) return TN_OOM;
  for (int i = 0; i < TN_RANGE_BINS; i++)
    if (r->bins[i]) f->x[f->count] = middle_of(r, i), f->n[f->count++] = (double)r->bins[i];
  double least = error_of(f, bottom, top, symmetric);
  for (int i = TRIES - 1; symmetric && i > 0; i--) {
    double limit = largest * i / TRIES, e = error_of(f, -limit, limit, true);
    if (e < least) least = e, *low = -limit, *high = limit;
  }
  for (int round = 0; !symmetric && round < 3; round++) { /* one end after the other */
    double before = least, found = best_end(f, top, *low, false, &least);
    if (least < before) *high = found;
    before = least;
    found = best_end(f, bottom, *high, true, &least);
    if (least < before) *low = found;
  }
  tn_mem_free(f);
  return TN_OK;
}

/* ---- entropy ---- */

static int edge_of(const tn_range *r, float x) {
  double e = (double)x / width_of(r);
  return TN_RANGE_HALF + (int)(e < 0 ? floor(e) : ceil(e));
}

/* KL divergence of the distribution cut off at `k` bins from zero (what lies beyond counts in the outermost
 * bins), from the same in 255 levels of equally many bins, each level's numbers spread over those of its bins
 * that are not empty. The outermost numbers are not part of the second: they would hide what was lost. */
static double divergence(const double *counts, int k, double *q) {
  int n = 2 * k, from = TN_RANGE_HALF - k;
  const double *p = counts + from;
  double below = 0, above = 0, total = 0, kept = 0, sum = 0;
  for (int i = 0; i < from; i++) below += counts[i];
  for (int i = from + n; i < TN_RANGE_BINS; i++) above += counts[i];
  for (int level = 0; level < LEVELS; level++) {
    int a = (int)((int64_t)n * level / LEVELS), b = (int)((int64_t)n * (level + 1) / LEVELS), full = 0;
    double mass = 0;
    for (int i = a; i < b; i++) mass += p[i], full += p[i] > 0;
    for (int i = a; i < b; i++) q[i] = p[i] > 0 ? mass / full : 0;
  }
  for (int i = 0; i < n; i++) kept += q[i];
  total = kept + below + above;
  if (kept <= 0) return INFINITY;
  for (int i = 0; i < n; i++) {
    double one = p[i] + (i == 0 ? below : 0) + (i == n - 1 ? above : 0);
    if (one <= 0) continue;
    if (q[i] <= 0) return INFINITY; /* numbers where the levels have none */
    sum += one / total * log(one / total / (q[i] / kept));
  }
  return sum;
}

static tn_status least_divergence(const tn_range *r, double *low, double *high) {
  enum { FIRST = 128, STEP = 16 };
  double *counts = tn_mem_alloc(2 * TN_RANGE_BINS * sizeof *counts), *q = counts + TN_RANGE_BINS;
  double least = INFINITY;
  if (!counts) return TN_OOM;
  for (int i = 0; i < TN_RANGE_BINS; i++) counts[i] = (double)r->bins[i];
  counts[TN_RANGE_HALF] += (double)r->zeros;
  int down = TN_RANGE_HALF - edge_of(r, r->low), up = edge_of(r, r->high) - TN_RANGE_HALF;
  int whole = down > up ? down : up, best = whole;
  for (int k = whole; k >= FIRST; k -= STEP) {
    double d = divergence(counts, k, q);
    if (d < least) least = d, best = k;
  }
  *high = best * width_of(r);
  *low = -*high;
  tn_mem_free(counts);
  return TN_OK;
}

/* ---- the choice ---- */

bool tn_range_method_named(const char *name, tn_range_method *out) {
  static const char *const names[] = {"minmax", "percentile", "entropy", "mse"};
  for (uint32_t i = 0; i < TN_COUNT(names); i++)
    if (!strcmp(names[i], name)) return *out = (tn_range_method)i, true;
  return false;
}

void tn_range_choose(const tn_range *r, const tn_range_choice *c, float *low, float *high) {
  double a = (double)r->low, b = (double)r->high;
  tn_status s = TN_OK;
  if (r->limit > 0 && c->method == TN_RANGE_PERCENTILE) percentile(r, c, &a, &b);
  if (r->limit > 0 && c->method == TN_RANGE_MSE) s = least_error(r, c->symmetric, &a, &b);
  if (r->limit > 0 && c->method == TN_RANGE_ENTROPY) s = least_divergence(r, &a, &b);
  if (s != TN_OK) a = (double)r->low, b = (double)r->high; /* without memory nothing is cut off */
  *low = (float)fmin(fmax(a, (double)r->low), 0);
  *high = (float)fmax(fmin(b, (double)r->high), 0);
}

void tn_range_step(float low, float high, bool symmetric, float *scale, int32_t *zero) {
  *scale = symmetric ? fmaxf(-low, high) / 127 : (high - low) / LEVELS;
  if (!(*scale >= 0x1p-126f)) *scale = 1; /* nothing but zeros */
  *zero = symmetric ? 0 : (int32_t)rintf(-low / *scale);
}
