/* lex.c - text of PTX to tokens. A word keeps its dots and double colons: "ld.global.v4.b32", "%tid.x",
 * "L1::no_allocate". */
#include "tests/ptx/inside.h"
#include <ctype.h>
#include <stdlib.h>

static bool starts_word(const char *s, const char *end) {
  return isalpha((uint8_t)*s) || *s == '_' || *s == '$' || *s == '%' ||
         (*s == '.' && s + 1 < end && !isdigit((uint8_t)s[1]));
}

/* Bytes of a word's next piece at s; 0: it ends. */
static uint32_t word_piece(const char *s, const char *end) {
  if (isalnum((uint8_t)*s) || *s == '_' || *s == '$') return 1;
  if (*s == '.' && s + 1 < end && isalnum((uint8_t)s[1])) return 1;
  return *s == ':' && s + 2 < end && s[1] == ':' && isalnum((uint8_t)s[2]) ? 2 : 0;
}

/* Moves over spaces and comments. */
static bool skip(ptx_lexer *l, const char **why) {
  while (l->at < l->end) {
    const char *s = l->at;
    if (isspace((uint8_t)*s)) {
      l->line += *s == '\n';
      l->at++;
    } else if (*s == '/' && s + 1 < l->end && s[1] == '/') {
      while (l->at < l->end && *l->at != '\n') l->at++;
    } else if (*s == '/' && s + 1 < l->end && s[1] == '*') {
      for (l->at += 2; l->at + 1 < l->end && (l->at[0] != '*' || l->at[1] != '/'); l->at++)
        l->line += *l->at == '\n';
      if (l->at + 1 >= l->end) return *why = "the comment does not end", false;
      l->at += 2;
    } else {
      break;
    }
  }
  return true;
}

/* 0f3F800000 and 0d3FF0000000000000: bits of a float. */
static bool hex_float(ptx_lexer *l, ptx_token *t, uint32_t digits, const char **why) {
  const char *s = l->at + 2;
  t->value = 0;
  for (uint32_t i = 0; i < digits; i++, s++) {
    if (s >= l->end || !isxdigit((uint8_t)*s)) return *why = "a float literal has 8 or 16 hex digits", false;
    t->value = t->value << 4 | (uint64_t)(isdigit((uint8_t)*s) ? *s - '0' : (*s | 32) - 'a' + 10);
  }
  t->literal = digits == 8 ? 'f' : 'd';
  l->at = s;
  return true;
}

static bool number(ptx_lexer *l, ptx_token *t, const char **why) {
  char text[64];
  uint32_t n = 0;
  t->kind = TK_NUMBER;
  t->literal = 'i';
  const char *s = l->at;
  if (*s == '0' && s + 1 < l->end && (s[1] | 32) == 'f') return hex_float(l, t, 8, why);
  if (*s == '0' && s + 1 < l->end && (s[1] | 32) == 'd') return hex_float(l, t, 16, why);
  while (s < l->end && n < sizeof text - 1 && (isalnum((uint8_t)*s) || *s == '.')) text[n++] = *s++;
  text[n] = 0;
  char *end;
  bool real = strchr(text, '.') && text[1] != 'x';
  if (real) {
    t->value = ptx_bits64(strtod(text, &end));
    t->literal = 'd';
  } else if (text[0] == '0' && (text[1] | 32) == 'b') {
    t->value = strtoull(text + 2, &end, 2);
  } else {
    t->value = strtoull(text, &end, 0);
  }
  if (*end == 'U' && !real) end++;
  if (*end) return *why = "not a number", false;
  l->at = s;
  return true;
}

bool ptx_lex(ptx_lexer *l, ptx_token *t, const char **why) {
  if (!skip(l, why)) return false;
  *t = (ptx_token){.kind = TK_END, .text = l->at, .line = l->line};
  if (l->at >= l->end) return true;
  const char *s = l->at;
  if (isdigit((uint8_t)*s)) {
    bool good = number(l, t, why);
    t->len = (uint32_t)(l->at - s);
    return good;
  }
  if (*s == '"') {
    while (++l->at < l->end && *l->at != '"' && *l->at != '\n') {}
    if (l->at >= l->end || *l->at != '"') return *why = "the string does not end", false;
    *t = (ptx_token){.kind = TK_STRING, .text = s + 1, .len = (uint32_t)(l->at - s - 1), .line = l->line};
    l->at++;
    return true;
  }
  t->kind = TK_PUNCT;
  l->at++;
  if (starts_word(s, l->end)) {
    t->kind = TK_WORD;
    for (uint32_t n; l->at < l->end && (n = word_piece(l->at, l->end));) l->at += n;
  } else if (!strchr("{}()[]<>,;:@!|+-=*&", *s)) {
    return *why = "a character that PTX does not have here", false;
  }
  t->len = (uint32_t)(l->at - s);
  return true;
}
