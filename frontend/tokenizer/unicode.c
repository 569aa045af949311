/* unicode.c - character classes by binary search in the tables of unicode.def, and UTF-8 that may be broken.
 */
#include "frontend/tokenizer/engine.h"

typedef struct range {
  uint32_t first, last;
} range;
static const range other[] = {
#define TN_TK_OTHER(a, b) {a, b},
#include "frontend/tokenizer/unicode.def"
};
static const range nonspacing[] = {
#define TN_TK_NONSPACING(a, b) {a, b},
#include "frontend/tokenizer/unicode.def"
};
static const range mark[] = {
#define TN_TK_MARK(a, b) {a, b},
#include "frontend/tokenizer/unicode.def"
};
static const range punct[] = {
#define TN_TK_PUNCT(a, b) {a, b},
#include "frontend/tokenizer/unicode.def"
};
static const range numeric[] = {
#define TN_TK_NUMERIC(a, b) {a, b},
#include "frontend/tokenizer/unicode.def"
};
static const range word[] = {
#define TN_TK_WORD(a, b) {a, b},
#include "frontend/tokenizer/unicode.def"
};
static const range newer[] = {
#define TN_TK_NEWER(a, b) {a, b},
#include "frontend/tokenizer/unicode.def"
};
static const range space[] = {{0x9, 0xd},       {0x20, 0x20},     {0x85, 0x85},     {0xa0, 0xa0},
                              {0x1680, 0x1680}, {0x2000, 0x200a}, {0x2028, 0x2029}, {0x202f, 0x202f},
                              {0x205f, 0x205f}, {0x3000, 0x3000}}; /* White_Space */
typedef struct lower_row {
  uint32_t first, last;
  int32_t step, delta;
} lower_row;
static const lower_row lowers[] = {
#define TN_TK_LOWER(a, b, step, delta) {a, b, step, delta},
#include "frontend/tokenizer/unicode.def"
};
typedef struct script_row {
  uint32_t first, script;
} script_row;
static const script_row scripts[] = {
#define TN_TK_SCRIPT(a, script) {a, script},
#include "frontend/tokenizer/unicode.def"
};

/* The last row whose first word is not above c, or NULL. */
static const void *row_of(const void *rows, size_t count, size_t size, uint32_t c) {
  size_t low = 0, high = count;
  while (low < high) {
    size_t mid = (low + high) / 2;
    uint32_t first;
    memcpy(&first, (const char *)rows + mid * size, sizeof first);
    if (first <= c)
      low = mid + 1;
    else
      high = mid;
  }
  return low ? (const char *)rows + (low - 1) * size : NULL;
}

static bool within(const range *rows, size_t count, uint32_t c) {
  const range *r = row_of(rows, count, sizeof *rows, c);
  return r && c <= r->last;
}

bool tn_tk_is_space(uint32_t c) {
  return c < 0x80 ? c == ' ' || (c >= 9 && c <= 13) : within(space, TN_COUNT(space), c);
}
bool tn_tk_is_other(uint32_t c) { return within(other, TN_COUNT(other), c); }
bool tn_tk_is_nonspacing(uint32_t c) { return c >= 0x300 && within(nonspacing, TN_COUNT(nonspacing), c); }
bool tn_tk_is_mark(uint32_t c) { return c >= 0x300 && within(mark, TN_COUNT(mark), c); }
bool tn_tk_is_punct(uint32_t c) {
  if (c < 0x80)
    return c > ' ' && c < 0x7f && !((c | 32) >= 'a' && (c | 32) <= 'z') && !(c >= '0' && c <= '9');
  return within(punct, TN_COUNT(punct), c);
}
bool tn_tk_is_numeric(uint32_t c) { return within(numeric, TN_COUNT(numeric), c); }
bool tn_tk_is_word(uint32_t c) { return within(word, TN_COUNT(word), c); }
bool tn_tk_is_newer(uint32_t c) { return c >= 0x300 && within(newer, TN_COUNT(newer), c); }

uint32_t tn_tk_lower(uint32_t c) {
  if (c < 0x80) return c >= 'A' && c <= 'Z' ? c + 32 : c;
  if (c == 0x130) return 'i';
  const lower_row *r = row_of(lowers, TN_COUNT(lowers), sizeof *lowers, c);
  if (!r || c > r->last || (c - r->first) % (uint32_t)r->step) return c;
  return c + (uint32_t)r->delta;
}

uint32_t tn_tk_script(uint32_t c) {
  const script_row *r = row_of(scripts, TN_COUNT(scripts), sizeof *scripts, c);
  return r ? r->script : 0;
}

/* Bytes that are printable in Latin-1 stand for themselves, the others for U+0100 and up, in their order. */
static bool stands_for_itself(uint32_t b) {
  return (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || (b >= 0xae && b <= 0xff);
}

uint32_t tn_tk_byte_to_char(uint8_t b) {
  if (stands_for_itself(b)) return b;
  return 0x100u + (b <= 0x20 ? b : b <= 0xa0 ? b - 0x7fu + 0x21u : 0x43u);
}

int tn_tk_char_to_byte(uint32_t c) {
  if (c < 0x100) return stands_for_itself(c) ? (int)c : -1;
  if (c > 0x143) return -1;
  c -= 0x100;
  return (int)(c <= 0x20 ? c : c <= 0x42 ? c - 0x21 + 0x7f : 0xad);
}

int tn_tk_char_check(const char *s, uint64_t room) {
  const uint8_t *p = (const uint8_t *)s;
  if (p[0] < 0x80) return 1;
  if (p[0] < 0xc2 || p[0] > 0xf4) return -1;
  int need = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
  uint8_t low = p[0] == 0xe0 ? 0xa0 : p[0] == 0xf0 ? 0x90 : 0x80;
  uint8_t high = p[0] == 0xed ? 0x9f : p[0] == 0xf4 ? 0x8f : 0xbf;
  for (int i = 1; i < need; i++) {
    if ((uint64_t)i >= room || p[i] < low || p[i] > high) return -i;
    low = 0x80, high = 0xbf;
  }
  return need;
}
