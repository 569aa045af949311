/* mix.h - the choice of one option for each item with the least total cost in a budget of bytes: which type
 * each tensor of a model gets. */
#ifndef TN_MIX_H
#define TN_MIX_H
#include "ir/base/base.h"

typedef struct tn_mix_option {
  uint64_t bytes;
  double cost; /* not negative */
} tn_mix_option;
typedef struct tn_mix_item {
  const tn_mix_option *options; /* at least one */
  uint32_t count;
} tn_mix_item;

/* Writes the option of each item. Along the convex hulls of the items' options this is the exact optimum of a
 * budget that is used up; what is left is spent on the best single changes. TN_NOT_FOUND: the smallest
 * options together take more than the budget (chosen: them). */
tn_status tn_mix_solve(const tn_mix_item *items, uint32_t n, uint64_t budget, uint32_t *chosen);
#endif
