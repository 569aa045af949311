/* onnx_smooth.c - factors for the inputs of products (after Xiao et al. 2022, SmoothQuant): what is large in
 * the activations of an input is moved into its weights, x[k] * f[k] times w[k] / f[k], with
 *
 *   f[k] = (max |w[k]| / max |x[k]|)^b
 *
 * where the paper has b = 1/2 for all. Here each value gets the b with the least error to be expected of its
 * products: roundings are uniform and independent, those of x count with the squares of the weights, those of
 * the weights with the squares of x. b = 0 leaves all as it is. */
#include "tools/quantize/onnx/onnx.h"
#include <math.h>

enum { TRIES = 10 /* b from 0 to 0.9 */ };

typedef struct balance {
  tn_int8 *x;
  tn_int8_range *r;
  uint32_t range;
  float *inputs;   /* [columns]: the largest weight of each input */
  double *squares; /* [columns]: of its weights */
  float *factors;
} balance;

static bool meets(const balance *b, const tn_int8_weight *w) { return w->range == b->range && !w->table; }

static tn_status look(balance *b) {
  for (uint32_t i = 0; i < b->x->weights.count; i++) {
    const tn_int8_weight *w = &b->x->weights.items[i];
    if (!meets(b, w)) continue;
    if (tn_int8_inputs(w) != b->r->columns)
      return tn_fail(b->x->d->diags, TN_INTERNAL, NULL, w->name, "%llu inputs, %u were observed",
                     (unsigned long long)tn_int8_inputs(w), b->r->columns);
    TN_TRY(
        tn_int8_find_largest(b->x, &(tn_int8_largest){.w = w, .inputs = b->inputs, .squares = b->squares}));
  }
  return TN_OK;
}

static void set_factors(balance *b, double exponent) {
  for (uint32_t k = 0; k < b->r->columns; k++) {
    double x = fmax(-(double)b->r->low[k], (double)b->r->high[k]), w = (double)b->inputs[k];
    b->factors[k] = x > 0 && w > 0 ? (float)pow(w / x, exponent) : 1;
  }
}

/* Squares of the outputs' errors to be expected for one row: of rounding x ... */
static double error_of_x(const balance *b) {
  double low = 0, high = 0, weights = 0;
  for (uint32_t k = 0; k < b->r->columns; k++) {
    double f = (double)b->factors[k];
    low = fmin(low, (double)b->r->low[k] * f);
    high = fmax(high, (double)b->r->high[k] * f);
    weights += b->squares[k] / (f * f);
  }
  double step = b->x->choice.symmetric ? fmax(-low, high) / 127 : (high - low) / 255;
  return step * step / 12 * weights;
}

/* ... and of rounding the weights. */
static tn_status error_of_weights(const balance *b, double *sum) {
  double squares = 0;
  for (uint32_t k = 0; k < b->r->columns; k++)
    squares += b->r->squares[k] / (double)b->r->rows * (double)b->factors[k] * (double)b->factors[k];
  for (uint32_t i = 0; i < b->x->weights.count; i++) {
    const tn_int8_weight *w = &b->x->weights.items[i];
    uint64_t n = tn_int8_outputs(w);
    if (!meets(b, w)) continue;
    float *most = tn_mem_alloc(n * sizeof *most);
    if (!most) return TN_OOM;
    tn_status s =
        tn_int8_find_largest(b->x, &(tn_int8_largest){.w = w, .factors = b->factors, .outputs = most});
    for (uint64_t o = 0; s == TN_OK && o < n; o++) {
      double step = (double)most[o] / 127;
      *sum += step * step / 12 * squares;
    }
    tn_mem_free(most);
    TN_TRY(s);
  }
  return TN_OK;
}

static tn_status search(balance *b) {
  double least = INFINITY, best = 0;
  TN_TRY(look(b));
  for (int i = 0; i < TRIES; i++) {
    set_factors(b, i / 10.0);
    double e = error_of_x(b);
    TN_TRY(error_of_weights(b, &e));
    if (e < least) least = e, best = i / 10.0;
  }
  set_factors(b, best);
  if (best > 0) b->r->factors = b->factors;
  return TN_OK;
}

static tn_status smooth(tn_int8 *x, uint32_t range) {
  balance b = {.x = x, .r = x->ranges.items[range - 1], .range = range};
  uint32_t n = b.r->columns;
  b.factors = tn_arena_alloc(&x->arena, n * sizeof *b.factors);
  b.inputs = tn_mem_alloc(n * sizeof *b.inputs);
  b.squares = tn_mem_alloc(n * sizeof *b.squares);
  tn_status s = b.factors && b.inputs && b.squares ? TN_OK : TN_OOM;
  if (s == TN_OK && b.r->rows) s = search(&b);
  tn_mem_free(b.inputs);
  tn_mem_free(b.squares);
  return s;
}

tn_status tn_int8_smooth(tn_int8 *x) {
  for (uint32_t i = 1; i <= x->ranges.count; i++) TN_TRY(smooth(x, i));
  x->smoothed = true;
  return TN_OK;
}
