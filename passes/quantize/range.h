/* range.h - the range of an activation in 8 bits, from what was seen of it: a histogram, and four ways to
 * choose what is cut off. Pure numbers: no graph, no files. */
#ifndef TN_RANGE_H
#define TN_RANGE_H
#include "ir/base/base.h"

/* TN_RANGE_HALF bins on each side of zero; bin i holds [i - TN_RANGE_HALF, i - TN_RANGE_HALF + 1) * width. */
enum { TN_RANGE_HALF = 4096, TN_RANGE_BINS = 2 * TN_RANGE_HALF };
typedef struct tn_range {
  float low, high; /* of all numbers and zero */
  float limit;     /* of the bins: a power of two, 0: nothing but zeros was seen */
  uint64_t count, zeros;
  uint64_t bins[TN_RANGE_BINS]; /* without the zeros that came before the first other number */
} tn_range;

/* The histogram does not depend on the order in which numbers come. Numbers that are not finite are
 * TN_INVALID. */
tn_status tn_range_add(tn_range *r, const float *x, uint64_t n);

typedef enum tn_range_method {
  TN_RANGE_MINMAX,
  TN_RANGE_PERCENTILE, /* as many of 100 numbers as `percentile` says are inside, as many too low as too high
                        */
  TN_RANGE_ENTROPY,    /* the symmetric limit that changes the distribution least (KL divergence) */
  TN_RANGE_MSE         /* the range with the least squared error */
} tn_range_method;
bool tn_range_method_named(const char *name, tn_range_method *out);

typedef struct tn_range_choice {
  tn_range_method method;
  double percentile; /* 0: 99.999 */
  bool symmetric;    /* codes -127..127 around zero; else 0..255 */
} tn_range_choice;

/* low <= 0 <= high of what is kept. */
void tn_range_choose(const tn_range *r, const tn_range_choice *c, float *low, float *high);
/* The step between codes, more than 0, and the code that stands for 0. */
void tn_range_step(float low, float high, bool symmetric, float *scale, int32_t *zero);

#endif
