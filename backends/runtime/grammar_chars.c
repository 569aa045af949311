/* grammar_chars.c - sets of characters as sequences of byte ranges. A range of code points is cut where the
 * number of UTF-8 bytes changes, then until in each piece every byte but the first that differs runs over all
 * of 80..BF: such a piece is one sequence of ranges. */
#include "backends/runtime/grammar.h"
#include <stdlib.h>

enum { LAST = 0x10ffff, SURROGATES = 0xd800, SURROGATES_END = 0xdfff };

static int compare(const void *x, const void *y) {
  const tn_gr_range *a = x, *b = y;
  return a->lo != b->lo ? (a->lo < b->lo ? -1 : 1) : (a->hi > b->hi) - (a->hi < b->hi);
}

/* Sorted, without overlaps. */
static void normalize(tn_gr_ranges *r) {
  uint32_t n = 0;
  if (!r->count) return;
  qsort(r->items, r->count, sizeof *r->items, compare);
  for (uint32_t i = 1; i < r->count; i++) {
    if (r->items[i].lo > r->items[n].hi && r->items[i].lo - r->items[n].hi > 1)
      r->items[++n] = r->items[i];
    else if (r->items[i].hi > r->items[n].hi)
      r->items[n].hi = r->items[i].hi;
  }
  r->count = n + 1;
}

static bool negate(tn_gr_ranges *r) {
  tn_gr_ranges out = {0};
  uint32_t from = 0;
  bool ok = true;
  for (uint32_t i = 0; i < r->count; i++) {
    if (r->items[i].lo > from) ok &= tn_vec_push(&out, ((tn_gr_range){from, r->items[i].lo - 1}));
    from = r->items[i].hi + 1;
  }
  if (from <= LAST) ok &= tn_vec_push(&out, ((tn_gr_range){from, LAST}));
  tn_vec_fini(r);
  *r = out;
  return ok;
}

static uint32_t encode(uint32_t c, uint8_t out[4]) {
  static const uint8_t lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
  uint32_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
  for (uint32_t i = n; i-- > 1; c >>= 6) out[i] = (uint8_t)(0x80 | (c & 0x3f));
  out[0] = (uint8_t)(lead[n] | c);
  return n;
}

/* One alternative: a split in front of all but the last, byte states, and a jump to `out`, the sequence's
 * common end, which is aimed later. */
static bool put_sequence(tn_gr_rules *r, uint32_t lo, uint32_t hi, bool last) {
  uint8_t a[4], b[4];
  uint32_t n = encode(lo, a), here;
  encode(hi, b);
  if (!last) {
    here = r->states.count;
    if (!tn_vec_push(&r->states, ((tn_gr_state){TN_GR_SPLIT, 0, 0, 0, here + 1, here + n + 1}))) return false;
  }
  for (uint32_t i = 0; i < n; i++) {
    uint32_t next = i + 1 < n ? r->states.count + 1 : TN_GR_NONE;
    if (!tn_vec_push(&r->states, ((tn_gr_state){TN_GR_BYTE, a[i], b[i], 0, next, 0}))) return false;
  }
  return true;
}

typedef TN_VEC(tn_gr_range) pieces;

static bool cut(tn_gr_range x, pieces *out) {
  static const uint32_t ends[] = {0x7f, 0x7ff, SURROGATES - 1, SURROGATES_END, 0xffff};
  for (size_t i = 0; i < TN_COUNT(ends); i++)
    if (x.lo <= ends[i] && x.hi > ends[i])
      return cut((tn_gr_range){x.lo, ends[i]}, out) && cut((tn_gr_range){ends[i] + 1, x.hi}, out);
  if (x.lo >= SURROGATES && x.hi <= SURROGATES_END) return true; /* not characters */
  for (uint32_t low = 0x3f; low < LAST && x.hi > 0x7f; low = low << 6 | 0x3f) {
    if ((x.lo & ~low) == (x.hi & ~low)) break;
    if (x.lo & low)
      return cut((tn_gr_range){x.lo, x.lo | low}, out) && cut((tn_gr_range){(x.lo | low) + 1, x.hi}, out);
    if ((x.hi & low) != low)
      return cut((tn_gr_range){x.lo, (x.hi & ~low) - 1}, out) && cut((tn_gr_range){x.hi & ~low, x.hi}, out);
  }
  return tn_vec_push(out, x);
}

tn_status tn_gr_characters(tn_gr_rules *r, tn_gr_ranges *ranges, bool negated) {
  pieces p = {0};
  uint32_t first = r->states.count;
  normalize(ranges);
  bool ok = !negated || negate(ranges);
  for (uint32_t i = 0; ok && i < ranges->count; i++) ok = cut(ranges->items[i], &p);
  for (uint32_t i = 0; ok && i < p.count; i++)
    ok = put_sequence(r, p.items[i].lo, p.items[i].hi, i + 1 == p.count);
  bool none = ok && !p.count;
  tn_vec_fini(&p);
  if (none) return TN_NOT_FOUND;
  uint32_t out = r->states.count;
  for (uint32_t i = first; i < out; i++)
    if (r->states.items[i].kind == TN_GR_BYTE && r->states.items[i].a == TN_GR_NONE)
      r->states.items[i].a = out;
  return ok && tn_vec_push(&r->states, ((tn_gr_state){TN_GR_JUMP, 0, 0, 0, TN_GR_NONE, 0})) ? TN_OK : TN_OOM;
}
