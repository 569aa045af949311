/* jinja_lex.c - a template's text to tokens, by jinja2's rules with trim_blocks (the line end behind a block
 * goes) and lstrip_blocks (so do the spaces in front of a block that begins a line); a - in a tag takes all
 * white space on its side, a + keeps it. */
#include "frontend/chat/jinja.h"
#include <errno.h>
#include <stdlib.h>

typedef struct lexer {
  tn_jinja_parser *p;
  tn_str s;
  uint64_t at;
  bool line_start; /* what came last ended a line */
} lexer;

void tn_jinja_place(const tn_chat *c, uint32_t at, uint32_t *line, uint32_t *col) {
  *line = *col = 1;
  for (uint64_t i = 0; i < at && i < c->text.len; i++) {
    if (c->text.ptr[i] == '\n')
      ++*line, *col = 1;
    else if ((c->text.ptr[i] & 0xc0) != 0x80)
      ++*col;
  }
}

void tn_jinja_wrong(tn_jinja_parser *p, tn_status status, uint32_t at, const char *fmt, ...) {
  if (p->status) return;
  uint32_t line, col;
  tn_buf text = {0};
  va_list ap;
  va_start(ap, fmt);
  tn_buf_vprintf(&text, fmt, ap);
  va_end(ap);
  tn_jinja_place(p->chat, at, &line, &col);
  p->status = tn_fail_at(p->diags, status, p->chat->name, line, col, "%s", tn_buf_cstr(&text));
  tn_buf_fini(&text);
}

static bool starts(const lexer *l, const char *what) {
  size_t n = strlen(what);
  return l->s.len - l->at >= n && !memcmp(l->s.ptr + l->at, what, n);
}
static char peek(const lexer *l, uint64_t ahead) {
  return l->at + ahead < l->s.len ? l->s.ptr[l->at + ahead] : 0;
}
static bool is_blank(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool begins_name(char c) { return (c | 32) >= 'a' && (c | 32) <= 'z' ? true : c == '_' || (c & 0x80); }

static void push(lexer *l, tn_jt_kind kind, uint64_t start, tn_str text, tn_jv value) {
  if (l->p->status) return;
  if (!tn_vec_push(&l->p->tokens, ((tn_jt){kind, (uint32_t)start, text, value})))
    tn_jinja_wrong(l->p, TN_OOM, (uint32_t)start, "out of memory");
}

/* ---- text ------------------------------------------------------------------------------------ */
/* The text before a tag, less what the tag takes: `sign` is what follows the tag's braces. */
static void push_text(lexer *l, uint64_t start, uint64_t end, char sign, bool block) {
  const char *s = l->s.ptr;
  if (sign == '-') {
    while (end > start && is_blank(s[end - 1])) end--;
  } else if (block && sign != '+') {
    uint64_t line = end;
    while (line > start && (s[line - 1] == ' ' || s[line - 1] == '\t')) line--;
    if (line > start ? s[line - 1] == '\n' : l->line_start) end = line;
  }
  tn_str text = {s + start, end - start};
  if (end > start) push(l, TN_JT_TEXT, start, text, tn_jv_str(text));
}

/* Behind a tag's end: "-" before the braces takes white space; a block without sign takes a line end. */
static void after_tag(lexer *l, char sign, bool block) {
  uint64_t start = l->at;
  if (sign == '-')
    while (l->at < l->s.len && is_blank(l->s.ptr[l->at])) l->at++;
  else if (block && sign != '+' && peek(l, 0) == '\n')
    l->at++;
  l->line_start = l->at > start && l->s.ptr[l->at - 1] == '\n';
}

static void comment(lexer *l) {
  uint64_t start = l->at;
  const char *end = memmem(l->s.ptr + l->at, l->s.len - l->at, "#}", 2);
  if (!end) {
    tn_jinja_wrong(l->p, TN_INVALID, (uint32_t)start, "the comment has no end");
    return;
  }
  char sign = end - l->s.ptr > (int64_t)l->at + 2 ? end[-1] : 0;
  l->at = (uint64_t)(end - l->s.ptr) + 2;
  after_tag(l, sign, true);
}

/* At "{%": behind "{% word %}", or 0. *sign: of its end. */
static uint64_t word_tag(const lexer *l, uint64_t at, const char *word, char *first, char *last) {
  const char *s = l->s.ptr;
  uint64_t n = strlen(word), i = at + 2;
  *first = *last = 0;
  if (i < l->s.len && (s[i] == '-' || s[i] == '+')) *first = s[i++];
  while (i < l->s.len && is_blank(s[i])) i++;
  if (l->s.len - i < n || memcmp(s + i, word, n)) return 0;
  for (i += n; i < l->s.len && is_blank(s[i]);) i++;
  if (i < l->s.len && (s[i] == '-' || s[i] == '+')) *last = s[i++];
  return l->s.len - i >= 2 && s[i] == '%' && s[i + 1] == '}' ? i + 2 : 0;
}

static bool raw(lexer *l) {
  char first, last, sign;
  uint64_t begin = l->at, body = word_tag(l, l->at, "raw", &first, &last);
  if (!body) return false;
  l->at = body;
  after_tag(l, last == '-' ? '-' : '+', true);
  for (uint64_t i = l->at; l->s.len - i >= 2 && i < l->s.len; i++) {
    uint64_t end = l->s.ptr[i] == '{' && l->s.ptr[i + 1] == '%' ? word_tag(l, i, "endraw", &sign, &last) : 0;
    if (!end) continue;
    push_text(l, l->at, i, sign, true);
    l->at = end;
    after_tag(l, last, true);
    return true;
  }
  tn_jinja_wrong(l->p, TN_INVALID, (uint32_t)begin, "{%% raw %%} without {%% endraw %%}");
  return true;
}

/* ---- strings and numbers --------------------------------------------------------------------- */
static int hex_of(char c) {
  if (is_digit(c)) return c - '0';
  c |= 32;
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* \xhh, \uhhhh, \Uhhhhhhhh behind the letter; false: not so many digits, or no character. */
static bool hex_escape(tn_str s, uint64_t *i, uint32_t digits, tn_buf *out) {
  uint32_t c = 0;
  for (uint32_t k = 0; k < digits; k++) {
    int d = *i + k < s.len ? hex_of(s.ptr[*i + k]) : -1;
    if (d < 0) return false;
    c = c << 4 | (uint32_t)d;
  }
  if (c > 0x10ffff || (c >= 0xd800 && c < 0xe000)) return false;
  *i += digits;
  tn_jinja_put_char(out, c);
  return true;
}

/* One escape of Python's; s[*i] is behind the backslash. */
static bool escape(tn_str s, uint64_t *i, tn_buf *out) {
  static const char from[] = "abfnrtv\\'\"", to[] = "\a\b\f\n\r\t\v\\'\"";
  char c = s.ptr[(*i)++];
  const char *known = memchr(from, c, sizeof from - 1);
  if (known) return tn_buf_put(out, &to[known - from], 1), true;
  if (c == '\n') return true;
  if (c == 'x' || c == 'u' || c == 'U') return hex_escape(s, i, c == 'x' ? 2 : c == 'u' ? 4 : 8, out);
  if (c >= '0' && c <= '7') {
    uint32_t v = (uint32_t)(c - '0');
    for (int k = 0; k < 2 && *i < s.len && s.ptr[*i] >= '0' && s.ptr[*i] <= '7'; k++)
      v = v * 8 + (uint32_t)(s.ptr[(*i)++] - '0');
    return tn_jinja_put_char(out, v), true;
  }
  tn_buf_puts(out, "\\");
  tn_buf_put(out, &c, 1);
  return c != 'N';
}

static void string(lexer *l) {
  uint64_t start = l->at, end = l->at + 1;
  char quote = l->s.ptr[start];
  while (end < l->s.len && l->s.ptr[end] != quote) end += l->s.ptr[end] == '\\' ? 2 : 1;
  if (end >= l->s.len) {
    tn_jinja_wrong(l->p, TN_INVALID, (uint32_t)start, "the string has no end");
    return;
  }
  tn_str in = {l->s.ptr + start + 1, end - start - 1};
  l->at = end + 1;
  if (!memchr(in.ptr, '\\', in.len)) {
    push(l, TN_JT_STRING, start, in, tn_jv_str(in));
    return;
  }
  tn_buf out = {0};
  for (uint64_t i = 0; i < in.len && !l->p->status;) {
    if (in.ptr[i] != '\\') {
      tn_buf_put(&out, in.ptr + i++, 1);
    } else if (i++, !escape(in, &i, &out)) {
      tn_jinja_wrong(l->p, TN_INVALID, (uint32_t)(start + i), "the escape is no character");
    }
  }
  const char *copy = tn_arena_copy(&l->p->chat->arena, tn_buf_cstr(&out), out.len + 1);
  if (!copy || out.failed) tn_jinja_wrong(l->p, TN_OOM, (uint32_t)start, "out of memory");
  push(l, TN_JT_STRING, start, in, tn_jv_str((tn_str){copy, out.len}));
  tn_buf_fini(&out);
}

static uint64_t digits(const lexer *l, uint64_t i, int base) {
  while (i < l->s.len) {
    uint64_t k = i + (l->s.ptr[i] == '_' && i > l->at);
    int d = k < l->s.len ? hex_of(l->s.ptr[k]) : -1;
    if (d < 0 || d >= base) break;
    i = k + 1;
  }
  return i;
}

/* The end of a number's text; *real: it has a fraction or an exponent. */
static uint64_t number_end(const lexer *l, bool *real) {
  const char *s = l->s.ptr;
  uint64_t i = digits(l, l->at, 10), k;
  if (l->at && s[l->at - 1] == '.') return i; /* a.0.1 */
  if (i + 1 < l->s.len && s[i] == '.' && is_digit(s[i + 1])) *real = true, i = digits(l, i + 1, 10);
  if (i >= l->s.len || (s[i] | 32) != 'e') return i;
  k = i + 1;
  if (k < l->s.len && (s[k] == '+' || s[k] == '-')) k++;
  if (k >= l->s.len || !is_digit(s[k])) return i;
  *real = true;
  return digits(l, k, 10);
}

static void number(lexer *l) {
  uint64_t start = l->at, end;
  bool real = false;
  char second = (char)(peek(l, 1) | 32), text[400];
  int base = peek(l, 0) != '0' ? 10 : second == 'x' ? 16 : second == 'o' ? 8 : second == 'b' ? 2 : 10;
  end = base == 10 ? number_end(l, &real) : digits(l, start + 2, base);
  uint32_t n = 0;
  for (uint64_t i = base == 10 ? start : start + 2; i < end && n + 1 < sizeof text; i++)
    if (l->s.ptr[i] != '_') text[n++] = l->s.ptr[i];
  text[n] = 0;
  l->at = end;
  errno = 0;
  tn_jv v = real ? tn_jv_real(strtod(text, NULL)) : tn_jv_int(strtoll(text, NULL, base));
  if (!real && (errno || !n || (base == 10 && n > 1 && text[0] == '0' && strspn(text, "0") != n)))
    tn_jinja_wrong(l->p, TN_INVALID, (uint32_t)start, "'%.40s' is not a whole number of 64 bits", text);
  push(l, real ? TN_JT_REAL : TN_JT_INT, start, (tn_str){l->s.ptr + start, end - start}, v);
}

/* ---- tags ------------------------------------------------------------------------------------ */
static const char *const operators[] = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/",
                                        "*",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                        ">",  "<",  "=",  ".",  ":",  "|",  ",", ";"};

static void operator_or_name(lexer *l) {
  uint64_t start = l->at;
  if (begins_name(peek(l, 0))) {
    while (l->at < l->s.len && (begins_name(peek(l, 0)) || is_digit(peek(l, 0)))) l->at++;
    push(l, TN_JT_NAME, start, (tn_str){l->s.ptr + start, l->at - start}, tn_jv_none());
    return;
  }
  for (size_t i = 0; i < TN_COUNT(operators); i++) {
    if (!starts(l, operators[i])) continue;
    l->at += strlen(operators[i]);
    push(l, TN_JT_OP, start, (tn_str){l->s.ptr + start, l->at - start}, tn_jv_none());
    return;
  }
  tn_jinja_wrong(l->p, TN_INVALID, (uint32_t)start, "unexpected character '%.*s'", 1, l->s.ptr + start);
}

/* The end of the tag, if it is here and no bracket is open. */
static bool tag_end(lexer *l, bool block, uint32_t open) {
  char sign = peek(l, 0), first = block ? '%' : '}';
  bool has_sign = sign == '-' || (block && sign == '+');
  if (open || peek(l, has_sign) != first || peek(l, has_sign + 1u) != '}') return false;
  push(l, block ? TN_JT_BLOCK_END : TN_JT_PRINT_END, l->at, (tn_str){l->s.ptr + l->at, 2}, tn_jv_none());
  l->at += has_sign + 2u;
  after_tag(l, has_sign ? sign : 0, block);
  return true;
}

static void tag(lexer *l, bool block) {
  uint64_t start = l->at;
  uint32_t open = 0;
  push(l, block ? TN_JT_BLOCK_BEGIN : TN_JT_PRINT_BEGIN, start, (tn_str){l->s.ptr + start, 2}, tn_jv_none());
  l->at += 2;
  if (peek(l, 0) == '-' || (block && peek(l, 0) == '+')) l->at++;
  while (!l->p->status) {
    while (l->at < l->s.len && is_blank(peek(l, 0))) l->at++;
    if (l->at >= l->s.len) {
      tn_jinja_wrong(l->p, TN_INVALID, (uint32_t)start, "the tag has no end");
      return;
    }
    if (tag_end(l, block, open)) return;
    char c = peek(l, 0);
    if (c == '\'' || c == '"') {
      string(l);
    } else if (is_digit(c)) {
      number(l);
    } else {
      operator_or_name(l);
      if (c == '(' || c == '[' || c == '{') open++;
      if ((c == ')' || c == ']' || c == '}') && open) open--;
    }
  }
}

void tn_jinja_lex(tn_jinja_parser *p) {
  lexer l = {.p = p, .s = p->chat->text, .line_start = true};
  while (l.at < l.s.len && !p->status) {
    uint64_t start = l.at, i = start;
    while (i + 1 < l.s.len && !(l.s.ptr[i] == '{' && memchr("{%#", l.s.ptr[i + 1], 3))) i++;
    if (i + 1 >= l.s.len) {
      push_text(&l, start, l.s.len, '+', false);
      l.at = l.s.len;
      break;
    }
    char kind = l.s.ptr[i + 1], sign = i + 2 < l.s.len ? l.s.ptr[i + 2] : 0;
    push_text(&l, start, i, sign == '-' || sign == '+' ? sign : 0, kind != '{');
    l.at = i;
    if (kind == '#')
      comment(&l);
    else if (kind == '{' || !raw(&l))
      tag(&l, kind == '%');
  }
  push(&l, TN_JT_END, l.s.len, TN_STR(""), tn_jv_none());
}
