/* json_regex.c - Oniguruma's syntax (the Ruby one, as the reference uses it) to pcre2's. Most of a pattern is
 * the same in both; this is a copier that rewrites what differs:
 *   \s \w \h \b and POSIX names mean Unicode properties that pcre2 has under other names;
 *   (?m) is pcre2's (?s), \uXXXX is \x{XXXX}, {,n} is {0,n}, \p{Han} is \p{sc:Han} (pcre2 would take
 * extensions); {n,m}+ repeats a repetition instead of being possessive, {n}? makes it optional; classes nest
 * and intersect: [a[^b]&&c] becomes alternatives and look-aheads. Not translated, since pcre2 folds single
 * characters only: (?i) matching one letter against several (ss, U+00DF). */
#include "frontend/tokenizer/regex.h"

#define SPACE                                                                                                \
  "\\t-\\r\\x20\\x85\\xa0\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
#define WORD "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}"
#define HEX "0-9A-Fa-f"

typedef struct reader {
  const char *s;
  uint64_t n, at;
  tn_buf *out;
  tn_status status;
  const char *why;
  uint64_t atom; /* where in out the last atom begins, for quantifiers */
  uint64_t groups[100];
  uint32_t depth;
} reader;

static tn_status fail(reader *r, tn_status status, const char *why) {
  if (!r->status) r->status = status, r->why = why;
  return r->status;
}
static char peek(const reader *r, uint64_t ahead) { return r->at + ahead < r->n ? r->s[r->at + ahead] : 0; }
static void copy(reader *r, uint64_t n) {
  if (n > r->n - r->at) n = r->n - r->at;
  tn_buf_put(r->out, r->s + r->at, n);
  r->at += n;
}
static void insert(reader *r, uint64_t place, const char *text) {
  uint64_t n = strlen(text), len = r->out->len;
  tn_buf_puts(r->out, text);
  if (r->out->failed) return;
  memmove(r->out->text + place + n, r->out->text + place, len - place);
  memcpy(r->out->text + place, text, n);
}
static bool is_hex(char c) { return (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'f'); }
static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* ---- classes --------------------------------------------------------------------------------- */
typedef struct shorthand {
  char escape;
  const char *items; /* inside [...] */
} shorthand;
static const shorthand shorthands[] = {{'s', SPACE}, {'w', WORD}, {'h', HEX}, {'d', "\\p{Nd}"}};
static const char *shorthand_items(char escape) {
  for (size_t i = 0; i < TN_COUNT(shorthands); i++) {
    if (shorthands[i].escape == escape) return shorthands[i].items;
  }
  return NULL;
}

/* Long names of \p{...} that are not scripts. NULL items: pcre2 knows the name itself. */
typedef struct property {
  const char *name, *items;
} property;
static const property properties[] = {{"alnum", "\\p{Alphabetic}\\p{Nd}"},
                                      {"alpha", "\\p{Alphabetic}"},
                                      {"blank", "\\t\\p{Zs}"},
                                      {"cntrl", "\\p{Cc}"},
                                      {"digit", "\\p{Nd}"},
                                      {"lower", "\\p{Lowercase}"},
                                      {"upper", "\\p{Uppercase}"},
                                      {"punct", "\\p{P}"},
                                      {"graph", "\\p{L}\\p{M}\\p{N}\\p{P}\\p{S}\\p{Cf}\\p{Co}"},
                                      {"print", "\\p{L}\\p{M}\\p{N}\\p{P}\\p{S}\\p{Cf}\\p{Co}\\p{Zs}"},
                                      {"space", SPACE},
                                      {"word", WORD},
                                      {"xdigit", HEX},
                                      {"ascii", "\\x00-\\x7f"},
                                      {"any", "\\x{0}-\\x{10ffff}"},
                                      {"letter", "\\p{L}"},
                                      {"mark", "\\p{M}"},
                                      {"number", "\\p{N}"},
                                      {"punctuation", "\\p{P}"},
                                      {"symbol", "\\p{S}"},
                                      {"separator", "\\p{Z}"},
                                      {"other", "\\p{C}"},
                                      {"uppercaseletter", "\\p{Lu}"},
                                      {"lowercaseletter", "\\p{Ll}"},
                                      {"titlecaseletter", "\\p{Lt}"},
                                      {"modifierletter", "\\p{Lm}"},
                                      {"otherletter", "\\p{Lo}"},
                                      {"nonspacingmark", "\\p{Mn}"},
                                      {"spacingmark", "\\p{Mc}"},
                                      {"enclosingmark", "\\p{Me}"},
                                      {"decimalnumber", "\\p{Nd}"},
                                      {"letternumber", "\\p{Nl}"},
                                      {"othernumber", "\\p{No}"},
                                      {"mathsymbol", "\\p{Sm}"},
                                      {"currencysymbol", "\\p{Sc}"},
                                      {"modifiersymbol", "\\p{Sk}"},
                                      {"othersymbol", "\\p{So}"},
                                      {"spaceseparator", "\\p{Zs}"},
                                      {"lineseparator", "\\p{Zl}"},
                                      {"paragraphseparator", "\\p{Zp}"},
                                      {"control", "\\p{Cc}"},
                                      {"format", "\\p{Cf}"},
                                      {"whitespace", NULL},
                                      {"alphabetic", NULL},
                                      {"lowercase", NULL},
                                      {"uppercase", NULL},
                                      {"ideographic", NULL},
                                      {"emoji", NULL},
                                      {"emojipresentation", NULL},
                                      {"extendedpictographic", NULL},
                                      {"idstart", NULL},
                                      {"idcontinue", NULL},
                                      {"math", NULL},
                                      {"dash", NULL},
                                      {"diacritic", NULL},
                                      {"extender", NULL}};

/* Names ignore case, spaces, '-' and '_'. */
static const property *property_of(const char *s, uint64_t n) {
  char name[32];
  uint32_t len = 0;
  for (uint64_t i = 0; i < n; i++) {
    if (s[i] == ' ' || s[i] == '-' || s[i] == '_') continue;
    if (len + 1 == sizeof name) return NULL;
    name[len++] = s[i] >= 'A' && s[i] <= 'Z' ? (char)(s[i] + 32) : s[i];
  }
  name[len] = 0;
  for (size_t i = 0; i < TN_COUNT(properties); i++) {
    if (!strcmp(properties[i].name, name)) return &properties[i];
  }
  return NULL;
}

/* \p{...}, \P{...}, \p{^...}: appends what goes between the brackets of a class. *negated: of the opposite
 * class. */
static void class_property(reader *r, bool *negated) {
  bool not = r->s[r->at + 1] == 'P';
  uint64_t start = r->at + 3, end = start;
  if (peek(r, 2) != '{') {
    fail(r, TN_INVALID, "\\p without {name}");
    return;
  }
  while (end < r->n && r->s[end] != '}') end++;
  if (end == r->n) {
    fail(r, TN_INVALID, "\\p{ without }");
    return;
  }
  if (start < end && r->s[start] == '^') not = !not, start++;
  uint64_t n = end - start;
  const property *p = n > 2 ? property_of(r->s + start, n) : NULL;
  if (p && p->items) {
    *negated = not;
    tn_buf_puts(r->out, p->items);
  } else {
    *negated = false;
    tn_buf_printf(r->out, "\\%c{%s%.*s}", not ? 'P' : 'p', n > 2 && !p ? "sc:" : "", (int)(n > 64 ? 64 : n),
                  r->s + start);
  }
  r->at = end + 1;
}

static void class_posix(reader *r, bool *negated) {
  uint64_t start = r->at + 2, end = start;
  bool not = end < r->n && r->s[end] == '^';
  start = end += not;
  while (end + 1 < r->n && r->s[end] != ':') end++;
  const property *p = property_of(r->s + start, end - start);
  if (!p || end + 1 >= r->n || r->s[end + 1] != ']') {
    fail(r, TN_UNSUPPORTED, "an unknown [:name:]");
    return;
  }
  *negated = not;
  if (p->items) tn_buf_puts(r->out, p->items);
  if (!strcmp(p->name, "punct")) tn_buf_puts(r->out, "\\p{S}"); /* [:punct:] is more than \p{punct} */
  r->at = end + 2;
}

static void class_body(reader *r, uint32_t depth);

/* A term that cannot stand between brackets, as a group of its own: nested classes and negated shorthands. */
static bool class_term(reader *r, uint32_t depth, tn_buf *nested) {
  char c = peek(r, 0), next = peek(r, 1);
  tn_buf *out = r->out;
  bool negated = false;
  tn_buf items = {0};
  if (c == '[' && next != ':') {
    r->out = nested;
    tn_buf_puts(nested, nested->len ? "|" : "");
    class_body(r, depth + 1);
    r->out = out;
    return true;
  }
  r->out = &items;
  if (c == '[') {
    class_posix(r, &negated);
  } else if (c == '\\' && (next | 32) == 'p') {
    class_property(r, &negated);
  } else if (c == '\\' && shorthand_items((char)(next | 32))) {
    negated = next < 'a';
    tn_buf_puts(r->out, shorthand_items((char)(next | 32)));
    r->at += 2;
  } else {
    r->out = out;
    return false;
  }
  r->out = out;
  if (negated)
    tn_buf_printf(nested, "%s[^%s]", nested->len ? "|" : "", tn_buf_cstr(&items));
  else
    tn_buf_put(out, items.text, items.len);
  if (items.failed) fail(r, TN_OOM, "out of memory");
  tn_buf_fini(&items);
  return true;
}

static void class_char(reader *r) {
  char c = peek(r, 0), next = peek(r, 1);
  if (c == '\\' && next == 'u' && is_hex(peek(r, 2)) && is_hex(peek(r, 3)) && is_hex(peek(r, 4)) &&
      is_hex(peek(r, 5))) {
    tn_buf_printf(r->out, "\\x{%.4s}", r->s + r->at + 2);
    r->at += 6;
  } else if (c == '\\' && next == 'x' && peek(r, 2) == '{') {
    uint64_t n = 0;
    while (peek(r, n) && peek(r, n) != '}') n++;
    copy(r, n + 1);
  } else if (c == '\\') {
    copy(r, 2);
  } else {
    if (c == '[' || c == '^') tn_buf_puts(r->out, "\\");
    copy(r, 1);
  }
}

/* One operand of &&: items for [...] go to `flat`, alternatives to `nested`. */
static void class_operand(reader *r, uint32_t depth, tn_buf *flat, tn_buf *nested) {
  tn_buf *out = r->out;
  bool first = true;
  r->out = flat;
  while (!r->status && r->at < r->n) {
    char c = peek(r, 0);
    if (c == ']' && (!first || peek(r, 1) == 0)) break;
    if (c == '&' && peek(r, 1) == '&') break;
    if (c == ']')
      tn_buf_puts(r->out, "\\"), copy(r, 1);
    else if (!class_term(r, depth, nested))
      class_char(r);
    first = false;
  }
  r->out = out;
  if (flat->failed || nested->failed) fail(r, TN_OOM, "out of memory");
}

static void operand_put(tn_buf *out, bool not, tn_buf *flat, tn_buf *nested) {
  if (!nested->len) {
    if (flat->len)
      tn_buf_printf(out, "[%s%s]", not ? "^" : "", tn_buf_cstr(flat));
    else
      tn_buf_puts(out, not ? "(?s:.)" : "(?!)");
    return;
  }
  tn_buf_puts(out, not ? "(?:(?!" : "(?:");
  if (flat->len) tn_buf_printf(out, "[%s]|", tn_buf_cstr(flat));
  tn_buf_put(out, nested->text, nested->len);
  tn_buf_puts(out, not ? ")(?s:.))" : ")");
}

/* At '['; leaves r->at behind its ']'. */
static void class_body(reader *r, uint32_t depth) {
  if (depth > 16) {
    fail(r, TN_UNSUPPORTED, "classes nested deeper than 16");
    return;
  }
  r->at++;
  bool not = peek(r, 0) == '^', several = false;
  r->at += not;
  tn_buf all = {0};
  for (;;) {
    tn_buf flat = {0}, nested = {0};
    class_operand(r, depth, &flat, &nested);
    bool more = !r->status && peek(r, 0) == '&' && peek(r, 1) == '&';
    several |= more;
    if (more) tn_buf_puts(&all, "(?=");
    operand_put(&all, not && !several, &flat, &nested);
    if (more) tn_buf_puts(&all, ")");
    tn_buf_fini(&flat);
    tn_buf_fini(&nested);
    if (!more) break;
    r->at += 2;
  }
  if (!r->status && peek(r, 0) != ']') fail(r, TN_INVALID, "[ without ]");
  r->at++;
  if (several)
    tn_buf_printf(r->out, not ? "(?:(?!%s)(?s:.))" : "(?:%s)", tn_buf_cstr(&all));
  else
    tn_buf_put(r->out, all.text, all.len);
  if (all.failed) fail(r, TN_OOM, "out of memory");
  tn_buf_fini(&all);
}

/* ---- outside of classes ---------------------------------------------------------------------- */
static void escape(reader *r) {
  char c = peek(r, 1);
  const char *items = shorthand_items((char)(c | 32));
  if (!c) {
    fail(r, TN_INVALID, "a \\ at the end");
  } else if (items) {
    tn_buf_printf(r->out, "[%s%s]", c < 'a' ? "^" : "", items);
    r->at += 2;
  } else if ((c | 32) == 'p') {
    uint64_t start = r->out->len;
    bool negated;
    class_property(r, &negated);
    insert(r, start, negated ? "[^" : "[");
    tn_buf_puts(r->out, "]");
  } else if (c == 'b') {
    tn_buf_puts(r->out, "(?:(?<=[" WORD "])(?![" WORD "])|(?<![" WORD "])(?=[" WORD "]))");
    r->at += 2;
  } else if (c == 'B') {
    tn_buf_puts(r->out, "(?:(?<=[" WORD "])(?=[" WORD "])|(?<![" WORD "])(?![" WORD "]))");
    r->at += 2;
  } else if (c == 'u' || c == 'x') {
    class_char(r);
  } else {
    copy(r, 2);
  }
}

/* "(" and what follows it; flags in (?imx-imx) and (?imx-imx: are renamed. */
static void group_open(reader *r) {
  if (r->depth == TN_COUNT(r->groups)) {
    fail(r, TN_UNSUPPORTED, "groups nested deeper than 100");
    return;
  }
  r->groups[r->depth++] = r->out->len;
  copy(r, 1);
  if (peek(r, 0) != '?') return;
  copy(r, 1);
  char c = peek(r, 0);
  if (c == '~') {
    fail(r, TN_UNSUPPORTED, "(?~...)");
    return;
  }
  if (c != 'i' && c != 'm' && c != 'x' && c != '-') {
    if (c == '<' && (peek(r, 1) == '=' || peek(r, 1) == '!'))
      copy(r, 2);
    else
      copy(r, c == '#' || c == '<' ? 0 : 1);
    return;
  }
  for (; (c = peek(r, 0)) == 'i' || c == 'm' || c == 'x' || c == '-'; r->at++) {
    char flag[2] = {c == 'm' ? 's' : c, 0};
    tn_buf_puts(r->out, flag);
  }
}

static void group_close(reader *r) {
  if (!r->depth) {
    fail(r, TN_INVALID, ") without (");
    return;
  }
  copy(r, 1);
  r->atom = r->groups[--r->depth];
}

/* "{n}", "{n,}", "{,m}", "{n,m}": length, or 0 when it is plain text. */
static uint64_t interval(const reader *r) {
  uint64_t i = 1, digits = 0;
  for (; is_digit(peek(r, i)); i++) digits++;
  if (peek(r, i) == ',') {
    for (i++; is_digit(peek(r, i)); i++) digits++;
  }
  return digits && peek(r, i) == '}' ? i + 1 : 0;
}

static void repeat(reader *r, uint64_t n) {
  bool fixed = !memchr(r->s + r->at, ',', n);
  if (peek(r, 1) == ',') {
    tn_buf_puts(r->out, "{0");
    r->at++;
    copy(r, n - 1);
  } else {
    copy(r, n);
  }
  char c = peek(r, 0);
  if (c == '+' || (c == '?' && fixed)) {
    insert(r, r->atom, "(?:");
    tn_buf_puts(r->out, ")");
  }
}

static void item(reader *r) {
  char c = peek(r, 0);
  uint64_t start = r->out->len, n;
  if (c == '*' || c == '+' || c == '?') {
    copy(r, 1);
    return;
  }
  if (c == '{' && (n = interval(r))) {
    repeat(r, n);
    return;
  }
  if (c == '(') {
    group_open(r);
  } else if (c == ')') {
    group_close(r);
    return;
  } else if (c == '\\') {
    escape(r);
  } else if (c == '[') {
    class_body(r, 0);
  } else if (c == '{') {
    tn_buf_puts(r->out, "\\{");
    r->at++;
  } else {
    uint64_t size = 1;
    while (((uint8_t)peek(r, size) & 0xc0) == 0x80) size++;
    copy(r, size);
  }
  r->atom = start;
}

tn_status tn_tk_regex_translate(tn_str pattern, tn_buf *out, uint64_t *at, const char **why) {
  tn_buf text = {0};
  reader r = {.s = pattern.ptr, .n = pattern.len, .out = &text, .why = ""};
  while (!r.status && r.at < r.n) item(&r);
  if (!r.status && r.depth) fail(&r, TN_INVALID, "( without )");
  if (text.failed) fail(&r, TN_OOM, "out of memory");
  if (!r.status) tn_buf_put(out, text.text, text.len);
  tn_buf_fini(&text);
  *at = r.at < r.n ? r.at : r.n;
  *why = r.why;
  return r.status;
}
