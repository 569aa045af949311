/* mix.c - the knapsack of mixed types, by marginal gains. An item's options that are worth taking lie on the
 * lower convex hull of (bytes, cost); the steps between neighbours on all hulls are taken by gain per byte
 * until the budget is used up. The last bytes go to whatever single change still fits and gains most. */
#include "passes/quantize/mix.h"
#include <stdlib.h>

typedef struct step {
  uint32_t item, from, to;
  double gain; /* cost saved per byte */
  uint64_t bytes;
} step;

typedef struct solver {
  const tn_mix_item *items;
  uint32_t n, *chosen;
  uint64_t left;
  TN_VEC(step) steps;
  uint32_t *order; /* scratch: an item's options by bytes */
} solver;

static bool is_before(const tn_mix_option *a, const tn_mix_option *b) {
  return a->bytes != b->bytes ? a->bytes < b->bytes : a->cost < b->cost;
}

static void sort_options(const tn_mix_item *x, uint32_t *order) {
  for (uint32_t i = 0; i < x->count; i++) {
    uint32_t k = i;
    for (; k > 0 && is_before(&x->options[i], &x->options[order[k - 1]]); k--) order[k] = order[k - 1];
    order[k] = i;
  }
}

static double gain_of(const tn_mix_option *from, const tn_mix_option *to) {
  return (from->cost - to->cost) / (double)(to->bytes - from->bytes);
}

/* The hull of an item as steps; its first option is the smallest. */
static bool add_hull(solver *s, uint32_t item) {
  const tn_mix_item *x = &s->items[item];
  const tn_mix_option *o = x->options;
  uint32_t *hull = s->order, n = 0;
  sort_options(x, s->order);
  for (uint32_t i = 0; i < x->count; i++) {
    uint32_t at = s->order[i];
    if (n && (o[at].cost >= o[hull[n - 1]].cost || o[at].bytes == o[hull[n - 1]].bytes)) continue;
    while (n > 1 && gain_of(&o[hull[n - 2]], &o[hull[n - 1]]) <= gain_of(&o[hull[n - 1]], &o[at])) n--;
    hull[n++] = at;
  }
  s->chosen[item] = hull[0];
  for (uint32_t i = 1; i < n; i++) {
    const tn_mix_option *a = &o[hull[i - 1]], *b = &o[hull[i]];
    step e = {item, hull[i - 1], hull[i], gain_of(a, b), b->bytes - a->bytes};
    if (!tn_vec_push(&s->steps, e)) return false;
  }
  return true;
}

/* By gain, the largest first; the order of items breaks ties, so that results do not depend on the sort. */
static int compare(const void *x, const void *y) {
  const step *a = x, *b = y;
  if (a->gain != b->gain) return a->gain < b->gain ? 1 : -1;
  return a->item != b->item ? (a->item > b->item) - (a->item < b->item)
                            : (a->bytes > b->bytes) - (a->bytes < b->bytes);
}

static void take_steps(solver *s) {
  for (uint32_t i = 0; i < s->steps.count; i++) {
    const step *e = &s->steps.items[i];
    if (s->chosen[e->item] != e->from || e->bytes > s->left) continue;
    s->chosen[e->item] = e->to;
    s->left -= e->bytes;
  }
}

/* The single change with the most gain among those that fit; false: none gains. */
static bool improve(solver *s) {
  uint32_t best_item = 0, best = 0;
  double most = 0;
  for (uint32_t i = 0; i < s->n; i++) {
    const tn_mix_option *o = s->items[i].options, *now = &o[s->chosen[i]];
    for (uint32_t k = 0; k < s->items[i].count; k++)
      if (o[k].bytes <= now->bytes + s->left && now->cost - o[k].cost > most)
        most = now->cost - o[k].cost, best_item = i, best = k;
  }
  if (!(most > 0)) return false;
  const tn_mix_option *o = s->items[best_item].options;
  s->left = s->left + o[s->chosen[best_item]].bytes - o[best].bytes;
  s->chosen[best_item] = best;
  return true;
}

tn_status tn_mix_solve(const tn_mix_item *items, uint32_t n, uint64_t budget, uint32_t *chosen) {
  solver s = {.items = items, .n = n, .chosen = chosen};
  uint32_t most = 1;
  uint64_t least = 0;
  for (uint32_t i = 0; i < n; i++)
    if (items[i].count > most) most = items[i].count;
  s.order = tn_mem_alloc(most * sizeof *s.order);
  tn_status status = s.order ? TN_OK : TN_OOM;
  for (uint32_t i = 0; status == TN_OK && i < n; i++) {
    if (!add_hull(&s, i)) status = TN_OOM;
    least += items[i].options[chosen[i]].bytes;
  }
  if (status == TN_OK && least > budget) status = TN_NOT_FOUND;
  if (status == TN_OK) {
    s.left = budget - least;
    if (s.steps.count) qsort(s.steps.items, s.steps.count, sizeof *s.steps.items, compare);
    take_steps(&s);
    while (improve(&s)) {}
  }
  tn_vec_fini(&s.steps);
  tn_mem_free(s.order);
  return status;
}
