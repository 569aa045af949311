/* text.c - text as ranges of bytes: element i of a tensor of text is the `lengths[i]` bytes from `starts[i]`
 * on, as in Apache Arrow's binary views. Ranges that do not lie inside the bytes count as empty, so that no
 * index is ever trusted. */
#include "backends/lib/lib.h"
#include <utf8proc.h>

typedef struct ranges {
  const uint8_t *bytes;
  int64_t size;
  const tn_lib_tensor *starts, *lengths;
} ranges;

static ranges ranges_of(const tn_lib_tensor *in) {
  return (ranges){in[0].data, tn_lib_count(&in[0]), &in[1], &in[2]};
}

/* Element i; *n is its length. */
static const uint8_t *range(const ranges *r, int64_t i, int64_t *n) {
  int64_t at = tn_lib_int(r->starts, i), len = tn_lib_int(r->lengths, i);
  bool inside = at >= 0 && len >= 0 && at <= r->size && len <= r->size - at;
  *n = inside ? len : 0;
  return inside ? r->bytes + at : r->bytes;
}

/* Each thread finds where its part begins, and then copies it. */
void tn_lib_copy_ranges(const tn_lib_call *c) {
  ranges r = ranges_of(c->in);
  int64_t count = tn_lib_count(&c->in[1]), total = tn_lib_count(&c->out[0]), at = 0, lo, hi, n;
  uint8_t *out = c->out[0].data;
  tn_lib_share(c, count, &lo, &hi);
  for (int64_t i = 0; i < lo; i++) range(&r, i, &n), at += n;
  for (int64_t i = lo; i < hi; i++) {
    const uint8_t *from = range(&r, i, &n);
    if (at >= total) return;
    if (n > total - at) n = total - at;
    if (n) memcpy(out + at, from, (size_t)n);
    at += n;
  }
  if (c->thread + 1 == c->nthreads && at < total) memset(out + at, 0, (size_t)(total - at));
}

void tn_lib_equal_ranges(const tn_lib_call *c) {
  ranges a = ranges_of(c->in), b = ranges_of(c->in + 3);
  int64_t lo, hi, n, m;
  uint8_t *out = c->out[0].data;
  tn_lib_share(c, tn_lib_count(&c->out[0]), &lo, &hi);
  for (int64_t i = lo; i < hi; i++) {
    const uint8_t *p = range(&a, i, &n), *q = range(&b, i, &m);
    out[i] = n == m && (!n || !memcmp(p, q, (size_t)n));
  }
}

/* ---- pieces ---------------------------------------------------------------------------------------------
 */
static bool blank(uint8_t b) { return b == ' ' || (b >= '\t' && b <= '\r'); }

/* Where the separator at s begins and ends; false: there is none in [s, end). */
static bool separator(const uint8_t *s, const uint8_t *end, const char *delimiter, size_t size,
                      const uint8_t **from, const uint8_t **to) {
  for (const uint8_t *p = s; p < end; p++) {
    bool here = size ? (size_t)(end - p) >= size && !memcmp(p, delimiter, size) : blank(*p);
    if (!here) continue;
    *from = p;
    *to = p + (size ? size : 1);
    while (!size && *to < end && blank(**to)) ++*to;
    return true;
  }
  return false;
}

/* The pieces of one text, at most `most` + 1 of them unless it is negative; the first `room` are written. */
static int64_t split(const ranges *r, int64_t i, const char *delimiter, int64_t most, int64_t *starts,
                     int64_t *lengths, int64_t room) {
  size_t size = strlen(delimiter);
  int64_t n, count = 0;
  const uint8_t *s = range(r, i, &n), *end = s + n, *from, *to;
  while (!size && s < end && blank(*s)) s++;
  if (!size && s == end) return 0;
  for (bool more = true; more; count++, s = to) {
    more = (most < 0 || count < most) && separator(s, end, delimiter, size, &from, &to);
    if (!more) from = to = end;
    if (count < room) starts[count] = s - r->bytes, lengths[count] = from - s;
    if (!size && to == end) more = false; /* blanks at the end begin nothing */
  }
  return count;
}

void tn_lib_split_ranges(const tn_lib_call *c) {
  ranges r = ranges_of(c->in);
  int64_t room = c->out[0].dims[c->out[0].rank - 1], lo, hi;
  int64_t *starts = c->out[0].data, *lengths = c->out[1].data, *counts = c->out[2].data;
  const char *delimiter = c->attrs[TN_LIB_A_split_ranges_delimiter].u.s;
  int64_t most = c->attrs[TN_LIB_A_split_ranges_most].u.i;
  if (!starts || !lengths) room = 0;
  tn_lib_share(c, tn_lib_count(&c->in[1]), &lo, &hi);
  for (int64_t i = lo; i < hi; i++) {
    int64_t *at = room ? starts + i * room : NULL, *len = room ? lengths + i * room : NULL;
    int64_t count = split(&r, i, delimiter, most, at, len, room);
    if (counts) counts[i] = count;
    for (int64_t k = count; k < room; k++) at[k] = len[k] = 0;
  }
}

/* ---- case -----------------------------------------------------------------------------------------------
 */
/* The bytes with letters in the other case. A letter whose other case takes another number of bytes stays. */
void tn_lib_change_case(const tn_lib_call *c) {
  const uint8_t *in = c->in[0].data;
  uint8_t *out = c->out[0].data;
  int64_t n = tn_lib_count(&c->in[0]);
  bool upper = c->attrs[TN_LIB_A_change_case_upper].u.i != 0;
  if (c->thread) return;
  for (int64_t i = 0; i < n;) {
    utf8proc_int32_t letter;
    utf8proc_uint8_t other[4];
    utf8proc_ssize_t size = utf8proc_iterate(in + i, n - i, &letter);
    if (size < 1) size = 1, letter = -1; /* not UTF-8 */
    memcpy(out + i, in + i, (size_t)size);
    letter = letter < 0 ? letter : upper ? utf8proc_toupper(letter) : utf8proc_tolower(letter);
    if (letter >= 0 && utf8proc_encode_char(letter, other) == size) memcpy(out + i, other, (size_t)size);
    i += size;
  }
}
