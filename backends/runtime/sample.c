/* sample.c - the next token from the scores of all. Filters in llama.cpp's order: top-k, locally typical
 * (Meister et al. 2022), top-p (Holtzman et al. 2020), min-p (Nguyen et al. 2024); then the temperature and
 * the draw. Candidates lie in a heap that is emptied only as far as the draw needs, so that a large
 * vocabulary is never sorted whole. */
#include "backends/runtime/generate.h"
#include <math.h>

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

static tn_rt_heap heap_of(tn_rt_candidate *c, uint64_t n) {
  for (uint64_t i = n / 2; i-- > 0;) sift(c, n, i);
  return (tn_rt_heap){c, n, n};
}

/* The i-th best. */
static tn_rt_candidate rank(tn_rt_heap *h, uint64_t i) {
  while (h->n - h->left <= i) {
    tn_rt_candidate best = h->items[0];
    h->items[0] = h->items[--h->left];
    h->items[h->left] = best;
    sift(h->items, h->left, 0);
  }
  return h->items[h->n - 1 - i];
}

/* Keeps the k best; they are then a heap of their own. */
static void keep_best(tn_rt_heap *h, uint64_t k) {
  if (k >= h->n) return;
  rank(h, k - 1);
  memmove(h->items, h->items + h->n - k, k * sizeof *h->items);
  *h = heap_of(h->items, k);
}

/* 53 random bits in [0, 1). */
static double uniform(uint64_t seed, uint64_t step) {
  uint32_t r[4];
  tn_philox(step, seed, r);
  return (double)(((uint64_t)r[0] << 32 | r[1]) >> 11) * 0x1p-53;
}

static double weight(tn_rt_candidate c, tn_rt_candidate best, double temperature) {
  return exp(((double)c.score - (double)best.score) / temperature);
}

/* Keeps the tokens whose surprise is nearest to the entropy until they have probability p together. `scores`:
 * by id. */
static void keep_typical(tn_rt_heap *h, const float *scores, float p) {
  double total = 0, mean = 0, entropy, mass = 0;
  tn_rt_candidate best = rank(h, 0);
  for (uint64_t i = 0; i < h->n; i++) {
    double w = weight(h->items[i], best, 1);
    total += w;
    mean += w * ((double)h->items[i].score - (double)best.score);
  }
  entropy = log(total) - mean / total;
  for (uint64_t i = 0; i < h->n; i++) {
    double surprise = log(total) - ((double)h->items[i].score - (double)best.score);
    h->items[i].score = (float)-fabs(surprise - entropy);
  }
  *h = heap_of(h->items, h->n);
  uint64_t kept = 0;
  while (kept < h->n && mass <= (double)p * total)
    mass += weight((tn_rt_candidate){scores[rank(h, kept++).id], 0}, best, 1);
  memmove(h->items, h->items + h->n - kept, kept * sizeof *h->items);
  for (uint64_t i = 0; i < kept; i++) h->items[i].score = scores[h->items[i].id];
  *h = heap_of(h->items, kept);
}

/* How many of the best top-p and min-p leave. */
static uint64_t keep_probable(tn_rt_heap *h, const tn_sampling *o) {
  bool top_p = o->top_p > 0 && o->top_p < 1;
  tn_rt_candidate best = rank(h, 0);
  double total = 0, mass = 0;
  uint64_t kept = 0;
  if (!top_p && o->min_p <= 0) return h->n;
  for (uint64_t i = 0; i < h->n && top_p; i++) total += weight(h->items[i], best, 1);
  for (; kept < h->n; kept++) {
    double w = weight(rank(h, kept), best, 1);
    if (kept && ((top_p && mass >= (double)o->top_p * total) || w < (double)o->min_p)) break;
    mass += w;
  }
  return kept;
}

static int32_t draw(tn_rt_heap *h, const tn_sampling *o, uint64_t step) {
  uint64_t kept = keep_probable(h, o);
  tn_rt_candidate best = rank(h, 0);
  double temperature = (double)o->temperature, mass = 0;
  if (temperature <= 0) return best.id;
  for (uint64_t i = 0; i < kept; i++)
    mass += weight(kept < h->n ? rank(h, i) : h->items[i], best, temperature);
  double at = uniform(o->seed, step) * mass;
  for (uint64_t i = 0; i + 1 < kept; i++) {
    at -= weight(rank(h, i), best, temperature);
    if (at < 0) return rank(h, i).id;
  }
  return rank(h, kept - 1).id;
}

tn_status tn_rt_sample(float *scores, uint64_t n, const tn_sampling *o, uint64_t step,
                       tn_rt_candidate *scratch, int32_t *out) {
  uint64_t count = 0;
  tn_rt_candidate best = {-INFINITY, -1};
  bool typical = o->typical_p > 0 && o->typical_p < 1;
  for (uint64_t i = 0; i < n; i++) {
    if (isnan(scores[i]) || scores[i] == INFINITY) return TN_INTERNAL;
    if (scores[i] == -INFINITY) continue;
    scratch[count++] = (tn_rt_candidate){scores[i], (int32_t)i};
    if (best.id < 0 || scores[i] > best.score) best = scratch[count - 1];
  }
  if (!count) return TN_INTERNAL;
  *out = best.id;
  if (o->temperature <= 0 && !typical) return TN_OK;
  tn_rt_heap heap = heap_of(scratch, count);
  if (o->top_k) keep_best(&heap, o->top_k);
  if (typical) keep_typical(&heap, scores, o->typical_p);
  *out = draw(&heap, o, step);
  return TN_OK;
}

float tn_rt_logprobs(const float *scores, uint64_t n, int32_t token, uint32_t want, tn_rt_candidate *scratch,
                     tn_alternative *top, uint32_t *ntop) {
  double total = 0;
  float best = scores[0];
  for (uint64_t i = 0; i < n; i++) best = scores[i] > best ? scores[i] : best;
  for (uint64_t i = 0; i < n; i++) {
    total += exp((double)scores[i] - (double)best);
    scratch[i] = (tn_rt_candidate){scores[i], (int32_t)i};
  }
  double base = (double)best + log(total);
  tn_rt_heap heap = heap_of(scratch, n);
  *ntop = want < n ? want : (uint32_t)n;
  for (uint32_t i = 0; i < *ntop; i++) {
    tn_rt_candidate c = rank(&heap, i);
    top[i] = (tn_alternative){c.id, (float)((double)c.score - base)};
  }
  return (float)((double)scores[token] - base);
}
