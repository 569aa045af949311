/* lex.c - a page's text as tokens. Indentation is made visible here (INDENT, DEDENT), so that the parser
 * never counts blanks; inside brackets lines simply go on. */
#include "frontend/describe/page.h"
#include <errno.h>
#include <stdlib.h>

#define INDENT_MAX 32
#define TEXT_MAX (1u << 20)
#define WORD_MAX 1024

typedef struct lexer {
  tn_arena *arena;
  const char *p, *end, *line_start;
  uint32_t line;
  int brackets;
  uint32_t indents[INDENT_MAX];
  uint32_t nindents;
  const char *file;
  tn_diags *diags;
  tn_token_list *out;
  bool failed, oom;
} lexer;

static const char *const puncts[] = {"...", "..", "->", "==", "!=", "<=", ">=", "+=", "++",
                                     "=",   "<",  ">",  "+",  "-",  "*",  "/",  "%",  "(",
                                     ")",   "[",  "]",  ",",  ":",  "|",  "."};

static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
static uint32_t column(const lexer *x, const char *p) { return (uint32_t)(p - x->line_start) + 1; }

static void lex_error(lexer *x, const char *at, const char *text) {
  tn_diags_add(x->diags, TN_ERROR, x->file, x->line, column(x, at), NULL, "%s", text);
  x->failed = true;
}

static tn_page_token *push(lexer *x, tn_token_kind kind, const char *at) {
  tn_page_token t = {.kind = kind, .pos = {x->line, column(x, at)}};
  t.spaced = at == x->line_start || at[-1] == ' ';
  if (!tn_vec_push(x->out, t)) {
    x->oom = true;
    return NULL;
  }
  return &x->out->items[x->out->count - 1];
}

static void push_text(lexer *x, tn_token_kind kind, const char *at, tn_str text) {
  tn_page_token *t = push(x, kind, at);
  if (t && !(t->text = tn_arena_str(x->arena, text))) x->oom = true;
}

/* Blanks at the start of a line decide how deep it is. */
static void lex_indent(lexer *x, uint32_t depth) {
  uint32_t now = x->nindents ? x->indents[x->nindents - 1] : 0;
  if (depth > now) {
    if (x->nindents == INDENT_MAX) {
      lex_error(x, x->p, "nested too deeply: more than 32 levels of indentation");
      return;
    }
    x->indents[x->nindents++] = depth;
    push(x, TN_TK_INDENT, x->p);
    return;
  }
  while (x->nindents && x->indents[x->nindents - 1] > depth) {
    x->nindents--;
    push(x, TN_TK_DEDENT, x->p);
  }
  if (depth != (x->nindents ? x->indents[x->nindents - 1] : 0))
    lex_error(x, x->p, "this indentation fits no line above");
}

/* At the start of a line: true if the line holds something. */
static bool lex_line_start(lexer *x) {
  x->line_start = x->p;
  while (x->p < x->end && *x->p == ' ') x->p++;
  if (x->p == x->end || *x->p == '\n' || *x->p == '#' || *x->p == '\r') return false;
  if (x->brackets && x->p == x->line_start) {
    lex_error(x, x->p, "a bracket above is not closed");
    x->brackets = 0;
  }
  if (!x->brackets) lex_indent(x, (uint32_t)(x->p - x->line_start));
  return true;
}

/* 12, 1.5, 1e-5. "0..n" is 0 and a range, so a dot counts only with a digit behind it. */
static void lex_number(lexer *x) {
  const char *at = x->p;
  char text[64];
  bool real = false;
  while (x->p < x->end && is_digit(*x->p)) x->p++;
  if (x->p + 1 < x->end && *x->p == '.' && is_digit(x->p[1])) {
    real = true;
    for (x->p++; x->p < x->end && is_digit(*x->p);) x->p++;
  }
  if (x->p < x->end && (*x->p == 'e' || *x->p == 'E')) {
    const char *q = x->p + 1;
    if (q < x->end && (*q == '-' || *q == '+')) q++;
    if (q < x->end && is_digit(*q)) {
      real = true;
      while (q < x->end && is_digit(*q)) q++;
      x->p = q;
    }
  }
  size_t n = (size_t)(x->p - at);
  if (n >= sizeof text || (x->p < x->end && is_letter(*x->p))) {
    lex_error(x, at, "not a number");
    return;
  }
  memcpy(text, at, n);
  text[n] = 0;
  errno = 0;
  tn_page_token *t = push(x, real ? TN_TK_REAL : TN_TK_INT, at);
  if (!t) return;
  if (real)
    t->r = strtod(text, NULL);
  else
    t->i = strtoll(text, NULL, 10);
  t->text = tn_arena_str(x->arena, tn_str_of(text));
  if (errno == ERANGE) lex_error(x, at, "this number is out of range");
}

static void lex_string(lexer *x) {
  const char *at = x->p++;
  const char *from = x->p;
  while (x->p < x->end && *x->p != '"' && *x->p != '\n') x->p++;
  if (x->p == x->end || *x->p != '"') {
    lex_error(x, at, "this text has no closing quote on its line");
    return;
  }
  if (x->p - from > WORD_MAX)
    lex_error(x, at, "this text is longer than 1024 bytes");
  else
    push_text(x, TN_TK_STRING, at, (tn_str){from, (uint64_t)(x->p - from)});
  x->p++;
}

static void lex_name(lexer *x) {
  const char *at = x->p;
  while (x->p < x->end && (is_letter(*x->p) || is_digit(*x->p))) x->p++;
  if (x->p - at > WORD_MAX)
    lex_error(x, at, "this name is longer than 1024 bytes");
  else
    push_text(x, TN_TK_NAME, at, (tn_str){at, (uint64_t)(x->p - at)});
}

static void lex_punct(lexer *x) {
  for (size_t i = 0; i < TN_COUNT(puncts); i++) {
    size_t n = strlen(puncts[i]);
    if ((size_t)(x->end - x->p) < n || memcmp(x->p, puncts[i], n) != 0) continue;
    char c = puncts[i][0];
    if (c == '(' || c == '[') x->brackets++;
    if ((c == ')' || c == ']') && x->brackets) x->brackets--;
    push_text(x, TN_TK_PUNCT, x->p, tn_str_of(puncts[i]));
    x->p += n;
    return;
  }
  lex_error(x, x->p,
            *x->p == '\t' ? "a tab: pages are indented with blanks" : "a character that no page uses");
  x->p++;
  /* One message for the whole of a foreign letter. */
  while (x->p < x->end && ((unsigned char)*x->p & 0xc0) == 0x80) x->p++;
}

static void lex_token(lexer *x, char c) {
  if (is_digit(c))
    lex_number(x);
  else if (is_letter(c))
    lex_name(x);
  else if (c == '"')
    lex_string(x);
  else
    lex_punct(x);
}

/* Gives the end of the last token. */
static const char *lex_rest_of_line(lexer *x) {
  const char *stop = x->p;
  while (x->p < x->end && *x->p != '\n' && !x->oom) {
    char c = *x->p;
    if (c == ' ' || (c == '\r' && x->p + 1 < x->end && x->p[1] == '\n'))
      x->p++;
    else if (c == '#')
      while (x->p < x->end && *x->p != '\n') x->p++;
    else
      lex_token(x, c), stop = x->p;
  }
  return stop;
}

static tn_status lex_check(tn_str text, const char *file, tn_diags *diags) {
  uint64_t bad;
  if (text.len > TEXT_MAX)
    return tn_fail(diags, TN_INVALID, file, NULL, "a page of %llu bytes: at most 1048576 are read",
                   (unsigned long long)text.len);
  if (!tn_utf8_valid(text, &bad))
    return tn_fail(diags, TN_INVALID, file, NULL, "byte %llu is not UTF-8", (unsigned long long)bad);
  if (text.len && memchr(text.ptr, 0, (size_t)text.len))
    return tn_fail(diags, TN_INVALID, file, NULL, "the page holds a zero byte");
  return TN_OK;
}

tn_status tn_page_lex(tn_arena *arena, tn_str text, const char *file, tn_diags *diags, tn_token_list *out) {
  TN_TRY(lex_check(text, file, diags));
  lexer x = {.arena = arena,
             .p = text.ptr,
             .end = text.ptr + text.len,
             .line_start = text.ptr,
             .line = 1,
             .file = file,
             .diags = diags,
             .out = out};
  while (x.p < x.end && !x.oom) {
    bool filled = lex_line_start(&x);
    const char *stop = lex_rest_of_line(&x);
    if (filled && !x.brackets) push(&x, TN_TK_NEWLINE, stop);
    if (x.p < x.end) x.p++, x.line++;
  }
  x.line_start = x.p;
  if (x.brackets) push(&x, TN_TK_NEWLINE, x.p);
  for (; x.nindents; x.nindents--) push(&x, TN_TK_DEDENT, x.p);
  push(&x, TN_TK_END, x.p);
  if (x.oom) return tn_fail(diags, TN_OOM, file, NULL, "no memory for the page");
  return x.failed ? TN_INVALID : TN_OK;
}
