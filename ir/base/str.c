/* str.c - string comparison, strict UTF-8, and the nearest name for "did you mean". */
#include "ir/base/base.h"

bool tn_str_eq(tn_str a, tn_str b) {
  return a.len == b.len && (!a.len || !memcmp(a.ptr, b.ptr, (size_t)a.len));
}
bool tn_str_is(tn_str a, const char *b) { return tn_str_eq(a, tn_str_of(b)); }

bool tn_str_starts(tn_str a, const char *prefix) {
  size_t n = strlen(prefix);
  return a.len >= n && (!n || !memcmp(a.ptr, prefix, n));
}

bool tn_str_ends(tn_str a, const char *suffix) {
  size_t n = strlen(suffix);
  return a.len >= n && (!n || !memcmp(a.ptr + a.len - n, suffix, n));
}

/* Length of the well-formed sequence at p (Unicode 15, table 3-7), or 0. */
static uint32_t utf8_length(const uint8_t *p, uint64_t left) {
  uint8_t c = p[0], low = 0x80, high = 0xbf;
  uint32_t n;
  if (c < 0x80) return 1;
  if (c < 0xc2 || c > 0xf4) return 0;
  if (c < 0xe0)
    n = 2;
  else if (c < 0xf0)
    n = 3;
  else
    n = 4;
  if (n > left) return 0;
  if (c == 0xe0) low = 0xa0;  /* overlong */
  if (c == 0xed) high = 0x9f; /* surrogates */
  if (c == 0xf0) low = 0x90;  /* overlong */
  if (c == 0xf4) high = 0x8f; /* above U+10FFFF */
  if (p[1] < low || p[1] > high) return 0;
  for (uint32_t i = 2; i < n; i++)
    if (p[i] < 0x80 || p[i] > 0xbf) return 0;
  return n;
}

bool tn_utf8_valid(tn_str s, uint64_t *bad_at) {
  const uint8_t *p = (const uint8_t *)s.ptr;
  for (uint64_t i = 0; i < s.len;) {
    uint32_t n = utf8_length(p + i, s.len - i);
    if (!n) {
      if (bad_at) *bad_at = i;
      return false;
    }
    i += n;
  }
  return true;
}

#define NEAR_MAX 3
#define NAME_MAX_LENGTH 63

/* Edit distance with adjacent swaps counted once (optimal string alignment). */
static int distance(const char *a, int na, const char *b, int nb) {
  int rows[3][NAME_MAX_LENGTH + 1];
  int *before = rows[0], *last = rows[1], *now = rows[2];
  for (int j = 0; j <= nb; j++) last[j] = j;
  for (int i = 1; i <= na; i++) {
    now[0] = i;
    for (int j = 1; j <= nb; j++) {
      int best = last[j - 1] + (a[i - 1] != b[j - 1]);
      if (last[j] + 1 < best) best = last[j] + 1;
      if (now[j - 1] + 1 < best) best = now[j - 1] + 1;
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && before[j - 2] + 1 < best)
        best = before[j - 2] + 1;
      now[j] = best;
    }
    int *spare = before;
    before = last;
    last = now;
    now = spare;
  }
  return last[nb];
}

int tn_str_nearest(const char *name, const char *const *names, int n) {
  size_t length = strlen(name);
  int best = NEAR_MAX + 1, found = -1;
  if (length > NAME_MAX_LENGTH) return -1;
  for (int i = 0; i < n; i++) {
    size_t other = strlen(names[i]);
    if (other > NAME_MAX_LENGTH) continue;
    int d = distance(name, (int)length, names[i], (int)other);
    /* A name that shares nothing with a short word is no suggestion. */
    if (d < best && (size_t)d < length) best = d, found = i;
  }
  return found;
}
