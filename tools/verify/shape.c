/* shape.c - sizes out of the text of a shape, "[B, S + P, 2 * max(h, 1)]", as tn_arg_info has it. */
#include "tools/verify/verify.h"
#include <ctype.h>
#include <stdlib.h>

typedef struct reader {
  const char *s;
  tn_size_of symbol;
  void *ctx;
  uint32_t depth;
  bool bad;
} reader;
enum { DEEPEST = 64 };

static int64_t read_sum(reader *r);

static void skip(reader *r) {
  while (*r->s == ' ') r->s++;
}

static bool take(reader *r, char c) {
  skip(r);
  if (*r->s != c) return false;
  r->s++;
  return true;
}

static int64_t checked(reader *r, bool overflow, int64_t x) {
  r->bad |= overflow;
  return overflow ? 0 : x;
}

/* min(a, b) and max(a, b), behind the bracket. */
static int64_t read_pair(reader *r, bool most) {
  int64_t a = read_sum(r);
  if (!take(r, ',')) r->bad = true;
  int64_t b = read_sum(r);
  if (!take(r, ')')) r->bad = true;
  return (a > b) == most ? a : b;
}

static int64_t read_word(reader *r) {
  const char *from = r->s;
  while (isalnum((unsigned char)*r->s) || *r->s == '_' || *r->s == '.') r->s++;
  tn_str word = {from, (uint64_t)(r->s - from)};
  if (!word.len || !(isalpha((unsigned char)*from) || *from == '_')) r->bad = true;
  if ((tn_str_is(word, "min") || tn_str_is(word, "max")) && take(r, '(')) return read_pair(r, from[1] == 'a');
  return r->bad ? 0 : r->symbol(r->ctx, word);
}

static int64_t read_atom(reader *r) {
  skip(r);
  int64_t x = 0;
  if (++r->depth > DEEPEST) {
    r->bad = true;
  } else if (take(r, '(')) {
    x = read_sum(r);
    if (!take(r, ')')) r->bad = true;
  } else if (isdigit((unsigned char)*r->s)) {
    char *end;
    x = strtoll(r->s, &end, 10);
    r->s = end;
  } else if (take(r, '-')) {
    x = -read_atom(r);
  } else {
    x = read_word(r);
  }
  r->depth--;
  return x;
}

static int64_t read_product(reader *r) {
  int64_t x = read_atom(r), y;
  while (!r->bad) {
    if (take(r, '*')) {
      y = read_atom(r);
      bool over = __builtin_mul_overflow(x, y, &x);
      x = checked(r, over, x);
    } else if (take(r, '/')) {
      y = read_atom(r);
      x = checked(r, y <= 0, y > 0 ? x / y : 0);
    } else if (take(r, '%')) {
      y = read_atom(r);
      x = checked(r, y <= 0, y > 0 ? x % y : 0);
    } else {
      break;
    }
  }
  return x;
}

static int64_t read_sum(reader *r) {
  int64_t x = read_product(r);
  while (!r->bad) {
    bool minus = false;
    if (!take(r, '+') && !(minus = take(r, '-'))) break;
    int64_t y = read_product(r);
    bool over = minus ? __builtin_sub_overflow(x, y, &x) : __builtin_add_overflow(x, y, &x);
    x = checked(r, over, x);
  }
  return x;
}

bool tn_shape_sizes(const char *text, tn_size_of symbol, void *ctx, int64_t *out, uint32_t rank) {
  reader r = {.s = text, .symbol = symbol, .ctx = ctx};
  if (!take(&r, '[')) return false;
  for (uint32_t i = 0; i < rank && !r.bad; i++) {
    if (i && !take(&r, ',')) return false;
    out[i] = read_sum(&r);
  }
  return take(&r, ']') && !r.bad;
}
