/* affine.h - integer tensors whose elements are sums of their indices: element (i0, i1, ...) is
 * base + coef[0] * i0 + coef[1] * i1 + ... Positions, ranges and flat indices are of this kind however they
 * were spelled; masks are comparisons between two of them. */
#ifndef TN_AFFINE_H
#define TN_AFFINE_H
#include "passes/rw.h"

typedef struct tn_affine {
  uint32_t rank;
  tn_dim base, coef[TN_MAX_RANK]; /* 0 for axes of size 1 */
  tn_dim dims[TN_MAX_RANK];       /* the tensor's shape */
} tn_affine;

/* False: v is no such tensor, or not seen to be one. */
bool tn_affine_of(tn_module *m, tn_value v, tn_affine *out);
/* No element is below *low or above *high. */
bool tn_affine_range(tn_module *m, const tn_affine *x, tn_dim *low, tn_dim *high);
/* A comparison of two such tensors that comes out the same everywhere. */
bool tn_affine_decides(tn_module *m, tn_op compare, bool *result);

/* What a bool tensor over [..., s, t] says about query i (of s) and key j (of t), all other axes being alike.
 */
enum {
  TN_COND_UNKNOWN,
  TN_COND_ALWAYS, /* true everywhere */
  TN_COND_CAUSAL, /* j <= i + t - s */
  TN_COND_WINDOW, /* i + t - s - j < window */
  TN_COND_AHEAD   /* j - (i + t - s) < window */
};
typedef struct tn_cond {
  uint32_t kind;
  int64_t window;
} tn_cond;
/* negate: of the opposite. */
tn_cond tn_cond_of(tn_module *m, tn_value v, tn_dim s, tn_dim t, bool negate);
#endif
