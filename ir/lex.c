/* lex.c - the tokens of the text form, made one at a time, and the errors and recovery that build on their
 * places. */
#include "ir/parse.h"

static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_word(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || is_digit(c);
}

/* ---- errors ---- */

bool tn_parse_error(tn_parser *p, const tn_token *at, const char *fmt, ...) {
  tn_buf text = {0};
  va_list ap;
  va_start(ap, fmt);
  tn_buf_vprintf(&text, fmt, ap);
  va_end(ap);
  tn_diags_add(p->m->diags, TN_ERROR, p->file, at->line, at->col, NULL, "%s", tn_buf_cstr(&text));
  if (text.failed) p->dry = true;
  tn_buf_fini(&text);
  p->errors++;
  return false;
}

void tn_parse_place(tn_parser *p, const tn_token *at) {
  p->m->reading.line = at->line;
  p->m->reading.col = at->col;
}

bool tn_parse_oom(tn_parser *p) {
  if (!p->dry) tn_module_oom(p->m);
  p->dry = true;
  p->errors++;
  return false;
}

bool tn_parse_failed(tn_parser *p) {
  p->errors++;
  return false;
}

/* ---- characters ---- */

static char peek(const tn_parser *p, uint32_t i) { return (uint64_t)(p->end - p->at) > i ? p->at[i] : 0; }

static void skip_space(tn_parser *p) {
  for (; p->at < p->end; p->at++) {
    if (*p->at == '\n') {
      p->line++;
      p->line_start = p->at + 1;
      p->fresh = true;
    } else if (*p->at == '/' && peek(p, 1) == '/') {
      while (p->at + 1 < p->end && p->at[1] != '\n') p->at++;
    } else if (*p->at != ' ' && *p->at != '\t' && *p->at != '\r')
      return;
  }
}

/* ---- strings ---- */

static int hex_digit(char c) {
  if (is_digit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

static void put_utf8(tn_buf *out, uint32_t c) {
  char s[3] = {(char)c};
  uint32_t n = 1;
  if (c >= 0x800) {
    s[0] = (char)(0xe0 | c >> 12), s[1] = (char)(0x80 | (c >> 6 & 0x3f)), s[2] = (char)(0x80 | (c & 0x3f));
    n = 3;
  } else if (c >= 0x80) {
    s[0] = (char)(0xc0 | c >> 6), s[1] = (char)(0x80 | (c & 0x3f));
    n = 2;
  }
  tn_buf_put(out, s, n);
}

/* One escape behind the backslash; false: there is no such escape. */
static bool escape(tn_parser *p, tn_buf *out) {
  static const char from[] = "\"\\/nrtbf", to[] = "\"\\/\n\r\t\b\f";
  char c = peek(p, 0);
  const char *at = c ? strchr(from, c) : NULL;
  uint32_t code = 0;
  if (!c) return false;
  p->at++;
  if (at) {
    tn_buf_put(out, &to[at - from], 1);
    return true;
  }
  if (c != 'u') return false;
  for (int i = 0; i < 4; i++) {
    int digit = hex_digit(peek(p, 0));
    if (digit < 0) return false;
    code = code << 4 | (uint32_t)digit;
    p->at++;
  }
  put_utf8(out, code);
  return code && (code < 0xd800 || code > 0xdfff);
}

/* Reads a string from its opening quote. */
static bool lex_string(tn_parser *p, tn_token *t) {
  tn_buf out = {0};
  bool ok = true;
  p->at++;
  while (ok && peek(p, 0) != '"') {
    const char *run = p->at;
    while (p->at < p->end && *p->at != '"' && *p->at != '\\' && (uint8_t)*p->at >= 0x20) p->at++;
    tn_buf_put(&out, run, (uint64_t)(p->at - run));
    char c = peek(p, 0);
    if (c == '"') break;
    if (c != '\\')
      ok = tn_parse_error(p, t, "the string does not end on its line");
    else if (p->at++, !escape(p, &out))
      ok = tn_parse_error(p, t, "the string has an escape that is none");
  }
  if (ok) p->at++;
  while (!ok && p->at < p->end && *p->at != '\n') p->at++;
  if (ok && out.failed) ok = tn_parse_oom(p);
  if (ok && !(t->text = tn_arena_str(&p->arena, (tn_str){out.text, out.len}))) ok = tn_parse_oom(p);
  tn_buf_fini(&out);
  t->kind = ok ? TN_TOK_STRING : TN_TOK_BAD;
  return ok;
}

/* ---- tokens ---- */

static void token_text(tn_parser *p, tn_token *t, const char *from, uint32_t kind) {
  t->kind = kind;
  t->text = tn_arena_str(&p->arena, (tn_str){from, (uint64_t)(p->at - from)});
  if (!t->text) t->kind = TN_TOK_BAD, tn_parse_oom(p);
}

/* Digits with what may follow in 0x1.8p-3 or 1e-5; whether it is a number is its reader's to see. */
static void lex_number(tn_parser *p, tn_token *t) {
  const char *from = p->at;
  bool hex = *from == '0' && (peek(p, 1) | 0x20) == 'x';
  for (char before = 0; p->at < p->end; before = (char)(*p->at++ | 0x20)) {
    char c = *p->at;
    bool sign = (c == '+' || c == '-') && before == (hex ? 'p' : 'e');
    if (!is_word(c) && c != '.' && !sign) break;
  }
  token_text(p, t, from, TN_TOK_NUMBER);
}

static void lex_name(tn_parser *p, tn_token *t, uint32_t kind) {
  const char *from = ++p->at;
  if (peek(p, 0) == '"') {
    if (lex_string(p, t)) t->kind = kind;
    return;
  }
  while (is_word(peek(p, 0)) || peek(p, 0) == '.') p->at++;
  token_text(p, t, from, kind);
}

static void lex_punct(tn_parser *p, tn_token *t) {
  char c = *p->at++;
  t->kind = TN_TOK_PUNCT;
  t->punct = c;
  if (c == '<' && peek(p, 0) == '=')
    t->punct = 'L', p->at++;
  else if (c == '-' && peek(p, 0) == '>')
    t->punct = '>', p->at++;
  else if (!c || !strchr("{}()[],:=+-*/%^?", c)) {
    t->kind = TN_TOK_BAD;
    tn_parse_error(p, t, "the character 0x%02x has no meaning here", (uint8_t)c);
  }
}

void tn_parse_next(tn_parser *p) {
  skip_space(p);
  tn_token t = {.kind = TN_TOK_END, .line = p->line, .first = p->fresh, .start = p->at};
  t.col = (uint32_t)(p->at - p->line_start) + 1;
  p->fresh = false;
  tn_parse_place(p, &t);
  char c = peek(p, 0), next = peek(p, 1);
  bool named = is_word(next) || next == '.' || next == '"';
  if (p->dry || p->errors > TN_PARSE_ERRORS) p->at = p->end;
  if (p->at == p->end)
    t.kind = TN_TOK_END;
  else if (is_digit(c))
    lex_number(p, &t);
  else if (is_word(c)) {
    while (is_word(peek(p, 0))) p->at++;
    token_text(p, &t, t.start, TN_TOK_WORD);
  } else if (c == '"')
    lex_string(p, &t);
  else if (c == '@')
    lex_name(p, &t, TN_TOK_SYMBOL);
  else if (c == '%' && named)
    lex_name(p, &t, TN_TOK_VALUE);
  else
    lex_punct(p, &t);
  p->tok = t;
}

bool tn_parse_is(const tn_parser *p, char punct) {
  return p->tok.kind == TN_TOK_PUNCT && p->tok.punct == punct;
}
bool tn_parse_is_word(const tn_parser *p, const char *word) {
  return p->tok.kind == TN_TOK_WORD && !strcmp(p->tok.text, word);
}

bool tn_parse_take(tn_parser *p, char punct) {
  if (!tn_parse_is(p, punct)) return false;
  tn_parse_next(p);
  return true;
}

bool tn_parse_take_word(tn_parser *p, const char *word) {
  if (!tn_parse_is_word(p, word)) return false;
  tn_parse_next(p);
  return true;
}

const char *tn_parse_token_text(const tn_parser *p) {
  static const char *const puncts[128] = {['{'] = "{", ['}'] = "}",  ['('] = "(", [')'] = ")", ['['] = "[",
                                          [']'] = "]", [','] = ",",  [':'] = ":", ['='] = "=", ['+'] = "+",
                                          ['-'] = "-", ['*'] = "*",  ['/'] = "/", ['%'] = "%", ['^'] = "^",
                                          ['?'] = "?", ['L'] = "<=", ['>'] = "->"};
  switch (p->tok.kind) {
  case TN_TOK_END: return "the end of the file";
  case TN_TOK_PUNCT: return puncts[(uint8_t)p->tok.punct & 127];
  case TN_TOK_BAD: return "that";
  }
  return p->tok.text;
}

bool tn_parse_expect(tn_parser *p, char punct, const char *where) {
  if (tn_parse_take(p, punct)) return true;
  if (p->tok.kind == TN_TOK_BAD) return false; /* reported */
  tn_token want = p->tok;
  want.punct = punct;
  want.kind = TN_TOK_PUNCT;
  tn_parser other = {.tok = want};
  return tn_parse_error(p, &p->tok, "expected '%s' %s, not '%s'", tn_parse_token_text(&other), where,
                        tn_parse_token_text(p));
}

void tn_parse_skip_line(tn_parser *p, const tn_token *from) {
  if (p->tok.first && p->tok.start != from->start)
    return; /* the error is here, or was found by looking ahead */
  for (int64_t depth = 0; p->tok.kind != TN_TOK_END;) {
    if (tn_parse_is(p, '{')) depth++;
    if (tn_parse_is(p, '}')) {
      if (!depth && p->tok.first) return; /* the end of what encloses us */
      if (depth) depth--;
    }
    tn_parse_next(p);
    if (p->tok.first && !depth) return;
  }
}

void tn_parse_skip_block(tn_parser *p) {
  for (int64_t depth = 1; depth && p->tok.kind != TN_TOK_END; tn_parse_next(p)) {
    if (tn_parse_is(p, '{')) depth++;
    if (tn_parse_is(p, '}')) depth--;
  }
}
