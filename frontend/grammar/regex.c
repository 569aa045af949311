/* regex.c - a pattern (the part of ECMA-262 that is a regular language) as GBNF of the inside of a JSON
 * string: characters that JSON escapes appear as their escapes. Look-around, back references, word borders
 * and anchors in the middle are refused. Negated sets hold printable characters only. */
#include "frontend/grammar/gen.h"
#include <stdlib.h>

enum { MAX_RANGES = 512, MAX_NESTING = 64, LAST = 0x10ffff };

typedef struct range {
  uint32_t lo, hi;
} range;
typedef struct set {
  range r[MAX_RANGES];
  uint32_t n;
  bool ascii_only; /* has \d, \w or \s, whose complement depends on what Unicode holds */
} set;
typedef struct regex {
  tn_schema_gen *g;
  const char *at, *end;
  uint32_t nesting;
  set set;
} regex;
typedef struct extent {
  uint32_t least, most; /* characters */
} extent;

static tn_status refuse(regex *x, const char *why) { return tn_schema_refuse(x->g, "pattern", why); }
static char peek(const regex *x) { return x->at < x->end ? *x->at : 0; }

static uint32_t add(uint32_t a, uint32_t b) { return a > UINT32_MAX - b ? UINT32_MAX : a + b; }
static uint32_t times(uint32_t a, uint32_t n) {
  uint64_t r = (uint64_t)a * n;
  return a && (a == UINT32_MAX || n == UINT32_MAX || r > UINT32_MAX) ? UINT32_MAX : (uint32_t)r;
}

/* ---- sets ---------------------------------------------------------------------------------------------- */

static tn_status put_range(regex *x, uint32_t lo, uint32_t hi) {
  if (x->set.n >= MAX_RANGES - 8) return refuse(x, "with too large a set");
  x->set.r[x->set.n++] = (range){lo, hi};
  return TN_OK;
}

static int compare(const void *p, const void *q) {
  const range *a = p, *b = q;
  return a->lo != b->lo ? (a->lo < b->lo ? -1 : 1) : 0;
}

static void sort(set *s) {
  uint32_t n = 0;
  if (!s->n) return;
  qsort(s->r, s->n, sizeof *s->r, compare);
  for (uint32_t i = 1; i < s->n; i++)
    if (s->r[i].lo <= s->r[n].hi || s->r[i].lo - s->r[n].hi == 1)
      s->r[n].hi = s->r[i].hi > s->r[n].hi ? s->r[i].hi : s->r[n].hi;
    else
      s->r[++n] = s->r[i];
  s->n = n + 1;
}

static void negate(set *s) {
  set out = {.n = 0};
  uint32_t from = ' ', last = s->ascii_only ? '~' : LAST;
  sort(s);
  for (uint32_t i = 0; i <= s->n; i++) {
    uint32_t to = i < s->n ? s->r[i].lo : last + 1;
    if (to > last + 1) to = last + 1;
    if (to > from && out.n < MAX_RANGES) out.r[out.n++] = (range){from, to - 1};
    if (i < s->n && s->r[i].hi + 1 > from) from = s->r[i].hi + 1;
  }
  *s = out;
}

static void put_code(tn_buf *e, uint32_t c) {
  if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))
    tn_buf_printf(e, "%c", (char)c);
  else
    tn_buf_printf(e, "\\U%08X", c);
}

/* What JSON writes for a character that it escapes, as a literal. */
static void put_escape(tn_buf *e, uint32_t c) {
  static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
  const char *known = c ? strchr(from, (char)c) : NULL;
  if (known)
    tn_schema_literal(e, (tn_str){(char[]){'\\', to[known - from]}, 2});
  else
    tn_buf_printf(e, "\"\\\\u%04x\"", c);
}

static bool escaped(uint32_t c) { return c < ' ' || c == '"' || c == '\\' || c == 0x7f; }

static tn_status put_set(regex *x, tn_buf *e) {
  tn_buf class = {0}, rest = {0};
  sort(&x->set);
  for (uint32_t i = 0; i < x->set.n; i++)
    for (uint32_t c = x->set.r[i].lo, hi = x->set.r[i].hi; c <= hi;) {
      if (escaped(c)) {
        tn_buf_puts(&rest, " | ");
        put_escape(&rest, c++);
        continue;
      }
      uint32_t to = c;
      while (to < hi && to < 0x80 && !escaped(to + 1)) to++;
      if (to >= 0x80) to = hi;
      put_code(&class, c);
      if (to > c) tn_buf_puts(&class, "-"), put_code(&class, to);
      c = to + 1;
    }
  bool none = !class.len && !rest.len;
  if (class.len)
    tn_buf_printf(e, "([%s]%s)", tn_buf_cstr(&class), tn_buf_cstr(&rest));
  else if (rest.len)
    tn_buf_printf(e, "(%s)", tn_buf_cstr(&rest) + 3);
  e->failed |= class.failed || rest.failed;
  tn_buf_fini(&class);
  tn_buf_fini(&rest);
  return none ? refuse(x, "with an empty set") : TN_OK;
}

static const struct {
  char letter;
  range r[4];
  uint32_t n;
} shorthands[] = {{'d', {{'0', '9'}}, 1},
                  {'w', {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}}, 4},
                  {'s', {{'\t', '\n'}, {'\f', '\r'}, {' ', ' '}}, 3}};

/* \d and so on into the set; \D as what is left of ASCII. TN_NOT_FOUND: no such letter. */
static tn_status shorthand(regex *x, char letter) {
  for (size_t i = 0; i < TN_COUNT(shorthands); i++) {
    if (shorthands[i].letter != (letter | 32)) continue;
    set s = {.n = shorthands[i].n, .ascii_only = true};
    memcpy(s.r, shorthands[i].r, sizeof shorthands[i].r);
    if (!(letter & 32)) negate(&s);
    for (uint32_t k = 0; k < s.n; k++) TN_TRY(put_range(x, s.r[k].lo, s.r[k].hi));
    x->set.ascii_only = true;
    return TN_OK;
  }
  return TN_NOT_FOUND;
}

/* ---- characters ---------------------------------------------------------------------------------------- */

static tn_status hex(regex *x, int n, uint32_t *out) {
  *out = 0;
  for (int i = 0; i < n; i++, x->at++) {
    char c = peek(x), low = (char)(c | 32);
    if (!((c >= '0' && c <= '9') || (low >= 'a' && low <= 'f'))) return refuse(x, "with a broken escape");
    *out = *out << 4 | (uint32_t)(c <= '9' ? c - '0' : low - 'a' + 10);
  }
  return TN_OK;
}

/* Behind a backslash: one character. */
static tn_status escape(regex *x, uint32_t *out) {
  static const char from[] = "nrtfv", to[] = "\n\r\t\f\v";
  char c = peek(x);
  const char *known = c ? strchr(from, c) : NULL;
  if (!c) return refuse(x, "with a broken escape");
  x->at++;
  if (known) return *out = (uint8_t)to[known - from], TN_OK;
  if (c == 'x') return hex(x, 2, out);
  if (c == 'u') return hex(x, 4, out);
  if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_')
    return refuse(x, "with this escape");
  return *out = (uint8_t)c, TN_OK;
}

static uint32_t next_code(regex *x) {
  uint8_t c = (uint8_t)*x->at++;
  uint32_t more = c < 0x80 ? 0 : c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3, out = more ? c & (0x3fu >> more) : c;
  while (more-- && x->at < x->end) out = out << 6 | ((uint8_t)*x->at++ & 0x3f);
  return out;
}

/* A character of a class; *whole: it was a shorthand and is in the set already. */
static tn_status class_item(regex *x, uint32_t *out, bool *whole) {
  *whole = false;
  if (peek(x) != '\\') return *out = next_code(x), TN_OK;
  x->at++;
  if (peek(x) == 'b') return x->at++, *out = '\b', TN_OK;
  tn_status s = shorthand(x, peek(x));
  if (s == TN_NOT_FOUND) return escape(x, out);
  x->at++;
  *whole = true;
  return s;
}

static tn_status class(regex *x, tn_buf *e) {
  bool negated = peek(x) == '^', whole, ignored;
  x->at += negated;
  x->set.n = 0;
  x->set.ascii_only = false;
  while (peek(x) != ']') {
    uint32_t lo, hi;
    if (x->at >= x->end) return refuse(x, "with a set that is not closed");
    TN_TRY(class_item(x, &lo, &whole));
    if (whole) continue;
    hi = lo;
    if (peek(x) == '-' && x->end - x->at >= 2 && x->at[1] != ']') {
      x->at++;
      TN_TRY(class_item(x, &hi, &ignored));
      if (ignored || hi < lo) return refuse(x, "with this range");
    }
    TN_TRY(put_range(x, lo, hi));
  }
  x->at++;
  if (negated) negate(&x->set);
  return put_set(x, e);
}

/* ---- structure ----------------------------------------------------------------------------------------- */

static tn_status alternation(regex *x, tn_buf *e, extent *out, uint32_t *n);

static tn_status group(regex *x, tn_buf *e, extent *out) {
  uint32_t n;
  x->at++;
  if (x->nesting++ >= MAX_NESTING) return refuse(x, "nested too deep");
  if (peek(x) == '?') {
    if (x->end - x->at < 2 || x->at[1] != ':') return refuse(x, "with (?");
    x->at += 2;
  }
  tn_buf_puts(e, "(");
  TN_TRY(alternation(x, e, out, &n));
  if (peek(x) != ')') return refuse(x, "with a group that is not closed");
  x->at++;
  tn_buf_puts(e, ")");
  x->nesting--;
  return TN_OK;
}

static tn_status single(regex *x, tn_buf *e) {
  uint32_t c;
  x->set.n = 0;
  x->set.ascii_only = false;
  if (peek(x) == '[') return x->at++, class(x, e);
  if (peek(x) == '.') {
    x->at++;
    TN_TRY(put_range(x, 0x2028, 0x2029));
    negate(&x->set);
    return put_set(x, e);
  }
  if (peek(x) == '\\') {
    x->at++;
    tn_status s = shorthand(x, peek(x));
    if (!s) return x->at++, put_set(x, e);
    if (s != TN_NOT_FOUND) return s;
    TN_TRY(escape(x, &c));
  } else {
    if (strchr("*+?{}^$", peek(x))) return refuse(x, "with an anchor or a repetition in this place");
    c = next_code(x);
  }
  TN_TRY(put_range(x, c, c));
  return put_set(x, e);
}

static tn_status number(regex *x, uint32_t *out) {
  *out = 0;
  if (peek(x) < '0' || peek(x) > '9') return refuse(x, "with a broken repetition");
  for (; peek(x) >= '0' && peek(x) <= '9'; x->at++)
    if ((*out = *out * 10 + (uint32_t)(*x->at - '0')) > 100000)
      return refuse(x, "with a repetition above 100000");
  return TN_OK;
}

static tn_status repetition(regex *x, tn_buf *e, extent *out) {
  uint32_t least = 1, most = 1;
  char c = peek(x);
  if (c == '*' || c == '+' || c == '?') {
    x->at++;
    least = c == '+';
    most = c == '?' ? 1 : UINT32_MAX;
  } else if (c == '{') {
    x->at++;
    TN_TRY(number(x, &least));
    most = least;
    if (peek(x) == ',') {
      x->at++;
      most = UINT32_MAX;
      if (peek(x) != '}') TN_TRY(number(x, &most));
    }
    if (peek(x) != '}' || most < least) return refuse(x, "with a broken repetition");
    x->at++;
  } else {
    return TN_OK;
  }
  if (peek(x) == '?') x->at++; /* lazy: the same language */
  tn_schema_times(e, least, most);
  *out = (extent){times(out->least, least), times(out->most, most)};
  return TN_OK;
}

static bool ends_here(const regex *x) {
  char c = peek(x);
  return !c || c == '|' || c == ')' || (c == '$' && x->at + 1 == x->end && !x->nesting);
}

static tn_status sequence(regex *x, tn_buf *e, extent *out) {
  *out = (extent){0, 0};
  tn_buf_puts(e, "\"\"");
  while (!ends_here(x)) {
    extent one = {1, 1};
    tn_buf_puts(e, " ");
    if (peek(x) == '(')
      TN_TRY(group(x, e, &one));
    else
      TN_TRY(single(x, e));
    TN_TRY(repetition(x, e, &one));
    *out = (extent){add(out->least, one.least), add(out->most, one.most)};
  }
  return TN_OK;
}

static tn_status alternation(regex *x, tn_buf *e, extent *out, uint32_t *n) {
  for (*n = 0;; x->at++) {
    extent one;
    if ((*n)++) tn_buf_puts(e, " | ");
    TN_TRY(sequence(x, e, &one));
    if (*n == 1 || one.least < out->least) out->least = one.least;
    if (*n == 1 || one.most > out->most) out->most = one.most;
    if (peek(x) != '|') return TN_OK;
  }
}

tn_status tn_schema_pattern(tn_schema_gen *g, tn_str pattern, tn_buf *e, uint32_t *least, uint32_t *most) {
  regex *x = tn_arena_alloc(&g->arena, sizeof *x);
  extent all = {0, 0};
  uint32_t n;
  if (!x) return TN_OOM;
  *x = (regex){.g = g, .at = pattern.ptr, .end = pattern.ptr + pattern.len};
  if (memchr(pattern.ptr, 0, pattern.len)) return refuse(x, "with U+0000");
  bool begins = peek(x) == '^';
  x->at += begins;
  if (!begins) tn_schema_characters(g, e, 0, UINT32_MAX), tn_buf_puts(e, " ");
  tn_buf_puts(e, "(");
  TN_TRY(alternation(x, e, &all, &n));
  tn_buf_puts(e, ")");
  bool ends = peek(x) == '$';
  x->at += ends;
  if (x->at < x->end) return refuse(x, "with a ')' too many");
  if (n > 1 && (begins || ends)) return refuse(x, "with '|' beside an anchor; put parentheses around");
  if (!ends) tn_buf_puts(e, " "), tn_schema_characters(g, e, 0, UINT32_MAX);
  *least = all.least;
  *most = begins && ends ? all.most : UINT32_MAX;
  return TN_OK;
}
