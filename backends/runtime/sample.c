/* sample.c - the next token from the scores of all. The filters come in the order of transformers: repetition
 * penalty (Keskar et al. 2019), temperature, top-k, top-p (Holtzman et al. 2020), min-p (Nguyen et al. 2024).
 * Candidates lie in a heap that is emptied only as far as the draw needs, so that a large vocabulary is never
 * sorted whole. */
#include "backends/runtime/rt.h"
#include <math.h>

void tn_rt_penalize(float *logits, uint64_t n, const int32_t *ids, uint64_t nids, float penalty,
                    uint8_t *seen) {
  for (uint64_t i = 0; i < nids; i++) {
    if (ids[i] < 0 || (uint64_t)ids[i] >= n || seen[ids[i]]) continue;
    seen[ids[i]] = 1;
    float *score = &logits[ids[i]];
    *score = *score < 0 ? *score * penalty : *score / penalty;
  }
  for (uint64_t i = 0; i < nids; i++)
    if (ids[i] >= 0 && (uint64_t)ids[i] < n) seen[ids[i]] = 0;
}

/* Higher scores first; equal ones by id, so that the order never depends on the heap. */
static bool before(tn_rt_candidate a, tn_rt_candidate b) {
  return a.score != b.score ? a.score > b.score : a.id < b.id;
}

static void sift(tn_rt_candidate *c, uint64_t n, uint64_t i) {
  for (uint64_t child; (child = 2 * i + 1) < n; i = child) {
    if (child + 1 < n && before(c[child + 1], c[child])) child++;
    if (!before(c[child], c[i])) return;
    tn_rt_candidate t = c[i];
    c[i] = c[child], c[child] = t;
  }
}

/* The heap is items[0 .. left); what was taken out lies behind it, best last. */
typedef struct tn_rt_heap {
  tn_rt_candidate *items;
  uint64_t n, left;
} tn_rt_heap;

static tn_rt_candidate rank(tn_rt_heap *h, uint64_t i) {
  while (h->n - h->left <= i) {
    tn_rt_candidate best = h->items[0];
    h->items[0] = h->items[--h->left];
    h->items[h->left] = best;
    sift(h->items, h->left, 0);
  }
  return h->items[h->n - 1 - i];
}

/* 53 random bits in [0, 1). */
static double uniform(uint64_t seed, uint64_t step) {
  uint32_t r[4];
  tn_philox(step, seed, r);
  return (double)(((uint64_t)r[0] << 32 | r[1]) >> 11) * 0x1p-53;
}

static double weight(tn_rt_candidate c, tn_rt_candidate best) {
  return exp((double)c.score - (double)best.score);
}

static int32_t draw(tn_rt_heap *h, const tn_sampling *o, uint64_t step) {
  tn_rt_candidate best = rank(h, 0);
  bool top_k = o->top_k && o->top_k < h->n, top_p = o->top_p > 0 && o->top_p < 1;
  uint64_t limit = top_k ? o->top_k : h->n, kept = limit;
  double total = 0, mass;
  for (uint64_t i = 0; i < limit; i++) total += weight(top_k ? rank(h, i) : h->items[i], best);
  mass = total;
  if (top_p || o->min_p > 0) {
    for (kept = 0, mass = 0; kept < limit; kept++) {
      double w = weight(rank(h, kept), best);
      if (kept && ((top_p && mass >= (double)o->top_p * total) || w < (double)o->min_p)) break;
      mass += w;
    }
  }
  double at = uniform(o->seed, step) * mass;
  for (uint64_t i = 0; i + 1 < kept; i++) {
    at -= weight(rank(h, i), best);
    if (at < 0) return rank(h, i).id;
  }
  return rank(h, kept - 1).id;
}

tn_status tn_rt_sample(float *logits, uint64_t n, const tn_sampling *o, uint64_t step,
                       tn_rt_candidate *scratch, int32_t *out) {
  uint64_t count = 0;
  float temperature = o->temperature > 0 ? o->temperature : 1;
  for (uint64_t i = 0; i < n; i++) {
    if (isnan(logits[i]) || logits[i] == INFINITY) return TN_INTERNAL;
    if (logits[i] > -INFINITY) scratch[count++] = (tn_rt_candidate){logits[i] / temperature, (int32_t)i};
  }
  if (!count) return TN_INTERNAL;
  tn_rt_candidate best = scratch[0];
  for (uint64_t i = 1; i < count; i++)
    if (before(scratch[i], best)) best = scratch[i];
  *out = best.id;
  if (o->temperature <= 0) return TN_OK;
  tn_rt_heap heap = {scratch, count, count};
  for (uint64_t i = count / 2; i-- > 0;) sift(scratch, count, i);
  *out = draw(&heap, o, step);
  return TN_OK;
}
