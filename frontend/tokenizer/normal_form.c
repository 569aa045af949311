/* normal_form.c - NFC, NFD, NFKC, NFKD (Unicode Standard Annex 15) with the place of every character. The
 * decompositions are utf8proc's, but for code points that the reference does not know yet. Places follow the
 * reference: each character of the result has a `change`: 0 replaces one character of the text, 1 is a
 * further one, -n replaces one and swallows n; where a character stands is then a matter of counting. */
#include "frontend/tokenizer/engine.h"
#include <utf8proc.h>

typedef struct item {
  uint32_t c;
  int32_t change;
  uint32_t ccc; /* combining class */
} item;
typedef struct items {
  TN_VEC(item) list;
  bool failed;
} items;

static uint32_t combining_class(uint32_t c) {
  if (c < 0x300) return 0;
  uint32_t ccc = (uint32_t)utf8proc_get_property((utf8proc_int32_t)c)->combining_class;
  return ccc && tn_tk_is_newer(c) ? 0 : ccc;
}

static void push(items *out, uint32_t c, int32_t change) {
  if (!tn_vec_push(&out->list, ((item){c, change, combining_class(c)}))) out->failed = true;
}

static void decompose(items *out, uint32_t c, bool compat) {
  enum { ROOM = 32 }; /* the longest decomposition has 18 */
  utf8proc_int32_t parts[ROOM];
  int boundary = 0;
  int options = UTF8PROC_DECOMPOSE | (compat ? UTF8PROC_COMPAT : 0);
  bool alone = c < 0xa0 || tn_tk_is_newer(c);
  utf8proc_ssize_t n =
      alone ? 0 : utf8proc_decompose_char((utf8proc_int32_t)c, parts, ROOM, options, &boundary);
  if (n < 1 || n > ROOM) push(out, c, 0);
  for (utf8proc_ssize_t i = 0; i < n && n <= ROOM; i++) push(out, (uint32_t)parts[i], i > 0);
}

/* Stable, by class. A run is a handful of marks, or an attack: then it is sorted in linear time. */
static void sort_run(items *all, item *run, uint32_t n) {
  if (n <= 32) {
    for (uint32_t i = 1; i < n; i++) {
      item x = run[i];
      uint32_t at = i;
      for (; at && run[at - 1].ccc > x.ccc; at--) run[at] = run[at - 1];
      run[at] = x;
    }
    return;
  }
  uint32_t starts[257] = {0};
  item *sorted = tn_mem_alloc(n * sizeof *sorted);
  if (!sorted) {
    all->failed = true;
    return;
  }
  for (uint32_t i = 0; i < n; i++) starts[run[i].ccc + 1]++;
  for (uint32_t i = 0; i < 256; i++) starts[i + 1] += starts[i];
  for (uint32_t i = 0; i < n; i++) sorted[starts[run[i].ccc]++] = run[i];
  memcpy(run, sorted, n * sizeof *sorted);
  tn_mem_free(sorted);
}

/* Marks between starters in the order of their classes. */
static void reorder(items *all) {
  item *l = all->list.items;
  for (uint32_t i = 0, end; i < all->list.count && !all->failed; i = end + 1) {
    for (end = i; end < all->list.count && l[end].ccc;) end++;
    if (end > i + 1) sort_run(all, l + i, end - i);
  }
}

/* The primary composite of a pair, 0: none. */
static uint32_t composite(uint32_t a, uint32_t b) {
  if (b < 0x300) return 0;
  utf8proc_int32_t pair[2] = {(utf8proc_int32_t)a, (utf8proc_int32_t)b};
  utf8proc_ssize_t n = utf8proc_normalize_utf32(pair, 2, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
  return n == 1 && !tn_tk_is_newer((uint32_t)pair[0]) ? (uint32_t)pair[0] : 0;
}

/* In place: a character joins the last starter unless one between them has a class not below its own. */
static void recompose(items *all) {
  item *l = all->list.items;
  uint32_t count = 0, starter = TN_TK_NONE, last_class = 0;
  for (uint32_t i = 0; i < all->list.count; i++) {
    uint32_t ccc = l[i].ccc;
    bool near = starter != TN_TK_NONE && (count == starter + 1 || last_class < ccc);
    uint32_t made = near ? composite(l[starter].c, l[i].c) : 0;
    if (made) {
      l[starter].c = made;
      l[starter].change += l[i].change - 1;
      continue;
    }
    if (!ccc) starter = count;
    last_class = ccc;
    l[count++] = l[i];
  }
  all->list.count = count;
}

static void put_items(tn_tk_run *r, const tn_tk_text *in, const items *all, tn_tk_text *out) {
  uint32_t at = 0;
  for (uint32_t i = 0; i < all->list.count; i++) {
    const item *x = &all->list.items[i];
    tn_tk_span place = {r->base, r->base};
    if (x->change > 0) {
      if (at) place = in->at[at - 1];
    } else if (at < in->len) {
      place = in->at[at];
    }
    for (int32_t skip = x->change; skip <= 0 && at < in->len; skip++) at += tn_tk_char_bytes(in->s[at]);
    tn_tk_put_code(out, x->c, place);
  }
}

/* Below U+00A0 nothing decomposes, below U+00C0 nothing canonically, and below U+0300 nothing composes. */
static bool nothing_to_do(const tn_tk_text *in, bool compat, bool compose) {
  uint8_t limit = compat ? 0xc2 : compose ? 0xcc : 0xc3; /* lead bytes of U+0080, U+0300, U+00C0 */
  for (uint32_t i = 0; i < in->len; i++) {
    if ((uint8_t)in->s[i] >= limit) return false;
  }
  return true;
}

void tn_tk_normal_form(tn_tk_run *r, const tn_tk_text *in, tn_tk_text *out, bool compat, bool compose) {
  if (nothing_to_do(in, compat, compose)) {
    r->unchanged = true;
    return;
  }
  items all = {0};
  for (uint32_t i = 0; i < in->len && !all.failed;) decompose(&all, tn_tk_char(in->s, &i), compat);
  if (!all.failed) reorder(&all);
  if (compose && !all.failed) recompose(&all);
  if (all.failed)
    tn_tk_fail(r, TN_OOM);
  else
    put_items(r, in, &all, out);
  tn_vec_fini(&all.list);
}
