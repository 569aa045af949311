/* penalty.c - what is taken from the scores of tokens for having been there before: repetition, frequency and
 * presence penalties, and DRY ("don't repeat yourself", p-e-w 2024), which grows with the length of the
 * repeat that a token would continue. Rules and defaults are llama.cpp's. */
#include "backends/runtime/generate.h"
#include <math.h>
#include <stdlib.h>

enum { DRY_ALLOWED = 2, BREAKER_MAX = 40 /* bytes and tokens of a breaker that count */ };

/* The last `last` of n, all where it is 0 or less. */
static uint64_t window(uint64_t n, int32_t last) {
  return last > 0 && (uint64_t)last < n ? (uint64_t)last : n;
}

void tn_rt_penalize(float *scores, uint64_t n, const int32_t *ids, uint64_t nids, const tn_sampling *o,
                    uint32_t *counts) {
  float repetition = o->repetition_penalty > 0 ? o->repetition_penalty : 1;
  if (repetition == 1 && o->frequency_penalty == 0 && o->presence_penalty == 0) return;
  uint64_t w = window(nids, o->penalty_last_n);
  ids += nids - w;
  for (uint64_t i = 0; i < w; i++)
    if (ids[i] >= 0 && (uint64_t)ids[i] < n) counts[ids[i]]++;
  for (uint64_t i = 0; i < w; i++) {
    if (ids[i] < 0 || (uint64_t)ids[i] >= n || !counts[ids[i]]) continue;
    float *score = &scores[ids[i]];
    *score = *score <= 0 ? *score * repetition : *score / repetition;
    *score -= (float)counts[ids[i]] * o->frequency_penalty + o->presence_penalty;
    counts[ids[i]] = 0;
  }
}

/* ---- breakers ------------------------------------------------------------------------------------------ */

/* A breaker begins in token `head` and goes on with the tokens of its tail. */
struct tn_rt_breaker {
  int32_t head;
  uint32_t first, count; /* tail: in tokens */
};

static int compare(const void *x, const void *y) {
  const struct tn_rt_breaker *a = x, *b = y;
  return a->head != b->head ? (a->head < b->head ? -1 : 1) : (a->first > b->first) - (a->first < b->first);
}

static bool contains(tn_str s, tn_str what) {
  for (uint64_t i = 0; i + what.len <= s.len; i++)
    if (!memcmp(s.ptr + i, what.ptr, what.len)) return true;
  return false;
}

static tn_status put_breaker(tn_rt_breakers *b, const tn_tokenizer *t, int32_t head, tn_str tail) {
  tn_tokens tokens = {0};
  tn_status s = TN_OK;
  if (tail.len) s = tn_tokenizer_encode(t, tail, (tn_str){NULL, 0}, TN_TOKENIZE_NO_SPECIAL, &tokens);
  struct tn_rt_breaker item = {head, b->tokens.count,
                               tokens.count < BREAKER_MAX ? tokens.count : BREAKER_MAX};
  for (uint32_t i = 0; !s && i < item.count; i++)
    if (!tn_vec_push(&b->tokens, tokens.items[i].id)) s = TN_OOM;
  if (!s && !tn_vec_push(b, item)) s = TN_OOM;
  tn_vec_fini(&tokens);
  return s;
}

/* Every token that has the breaker's text in it, or ends with its beginning. */
static tn_status add_breaker(tn_rt_breakers *b, const tn_tokenizer *t, const tn_vocabulary *v, tn_str text) {
  if (text.len > BREAKER_MAX) text.len = BREAKER_MAX;
  for (uint32_t i = 0; i < v->ntokens && text.len; i++) {
    tn_str word = tn_vocabulary_bytes(v, (int32_t)i);
    if (contains(word, text)) {
      TN_TRY(put_breaker(b, t, (int32_t)i, (tn_str){NULL, 0}));
      continue;
    }
    for (uint64_t n = 1; n < text.len && n <= word.len; n++)
      if (!memcmp(word.ptr + word.len - n, text.ptr, n))
        TN_TRY(put_breaker(b, t, (int32_t)i, (tn_str){text.ptr + n, text.len - n}));
  }
  return TN_OK;
}

tn_status tn_rt_breakers_open(tn_rt_breakers *b, const tn_tokenizer *t, const tn_vocabulary *v,
                              const tn_sampling *o) {
  static const char *const usual[] = {"\n", ":", "\"", "*"};
  const char *const *texts = o->dry_breakers ? o->dry_breakers : usual;
  uint32_t n = o->dry_breakers ? o->ndry_breakers : (uint32_t)TN_COUNT(usual);
  for (uint32_t i = 0; i < n; i++) TN_TRY(add_breaker(b, t, v, tn_str_of(texts[i])));
  if (b->count) qsort(b->items, b->count, sizeof *b->items, compare);
  return TN_OK;
}

void tn_rt_breakers_close(tn_rt_breakers *b) {
  tn_vec_fini(&b->tokens);
  tn_vec_fini(b);
}

/* First breaker with this head, or b->count. */
static uint32_t find(const tn_rt_breakers *b, int32_t head) {
  uint32_t lo = 0, hi = b->count;
  while (lo < hi) {
    uint32_t mid = lo + (hi - lo) / 2;
    if (b->items[mid].head < head)
      lo = mid + 1;
    else
      hi = mid;
  }
  return lo < b->count && b->items[lo].head == head ? lo : b->count;
}

/* Length of the longest tail of a breaker that begins `back` tokens from the end; -1: none does. */
static int64_t breaker_at(const tn_rt_breakers *b, const int32_t *last, uint64_t back) {
  int64_t longest = -1;
  for (uint32_t i = find(b, last[-(int64_t)back]); i < b->count && b->items[i].head == last[-(int64_t)back];
       i++) {
    const struct tn_rt_breaker *k = &b->items[i];
    if ((int64_t)k->count <= longest || k->count > back) continue;
    const int32_t *tail = last - back + 1;
    if (!k->count || !memcmp(tail, b->tokens.items + k->first, k->count * sizeof *tail)) longest = k->count;
  }
  return longest;
}

/* Tokens at the end that a repeat may take in. */
static uint64_t repeat_limit(const tn_rt_breakers *b, const int32_t *last, uint64_t n) {
  for (uint64_t back = 0; back < n; back++) {
    int64_t tail = breaker_at(b, last, back);
    if (tail >= 0) return back - (uint64_t)tail;
  }
  return n;
}

/* ---- DRY ----------------------------------------------------------------------------------------------- */

/* length[i]: how many tokens up to last[-i] are also the last ones of all, by the Z algorithm (Gusfield 1997)
 * from the back. */
static void repeats(const int32_t *last, uint64_t n, uint64_t limit, uint32_t *length) {
  uint64_t left = 0, right = 0; /* the match that reaches farthest back: [left, right) */
  length[0] = 0;
  for (uint64_t i = 1; i < n; i++) {
    uint64_t z = i < right ? length[i - left] : 0;
    if (z > right - i && i < right) z = right - i;
    while (i + z < n && last[-(int64_t)z] == last[-(int64_t)(i + z)]) z++;
    if (i + z > right) left = i, right = i + z;
    length[i] = (uint32_t)z;
  }
  for (uint64_t i = 1; i < n; i++)
    if (length[i] > limit) length[i] = (uint32_t)limit;
}

/* The longest repeat that each token would continue, then what is subtracted for it. */
static void subtract(float *scores, uint64_t nscores, const int32_t *last, uint64_t n, const tn_sampling *o,
                     const tn_rt_breakers *b, uint32_t *length, uint32_t *longest) {
  uint32_t allowed = o->dry_allowed_length ? o->dry_allowed_length : DRY_ALLOWED;
  double base = o->dry_base > 0 ? (double)o->dry_base : 1.75;
  double most = base > 1.000001 ? (double)88.7228391f / log(base) : 0; /* beyond, floats overflow */
  for (uint64_t i = 1; i < n; i++) {
    int32_t next = last[-(int64_t)(i - 1)];
    if (length[i] >= allowed && next >= 0 && (uint64_t)next < nscores && length[i] > longest[next])
      longest[next] = length[i];
  }
  for (uint64_t i = 1; i < n; i++) {
    int32_t next = last[-(int64_t)(i - 1)];
    if (next < 0 || (uint64_t)next >= nscores || !longest[next]) continue;
    uint32_t at = find(b, next);
    bool breaks = false; /* a token that is a breaker by itself is free */
    for (; at < b->count && b->items[at].head == next; at++) breaks |= !b->items[at].count;
    double power = (double)(longest[next] - allowed);
    if (most > 0 && power > most) power = floor(most);
    if (!breaks) scores[next] -= (float)((double)o->dry_multiplier * pow(base, power));
    longest[next] = 0;
  }
}

tn_status tn_rt_dry(float *scores, uint64_t n, const int32_t *ids, uint64_t nids, const tn_sampling *o,
                    const tn_rt_breakers *b, uint32_t *counts) {
  uint64_t w = window(nids, o->dry_last_n);
  uint32_t allowed = o->dry_allowed_length ? o->dry_allowed_length : DRY_ALLOWED;
  if (w <= allowed || (o->dry_base > 0 && o->dry_base < 1)) return TN_OK;
  const int32_t *last = ids + nids - 1;
  uint64_t limit = repeat_limit(b, last, w);
  if (limit < allowed) return TN_OK;
  uint32_t *length = tn_mem_alloc(w * sizeof *length);
  if (!length) return TN_OOM;
  repeats(last, w, limit, length);
  subtract(scores, n, last, w, o, b, length, counts);
  tn_mem_free(length);
  return TN_OK;
}
