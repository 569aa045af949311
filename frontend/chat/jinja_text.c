/* jinja_text.c - strings as Python has them: counted in characters, with Unicode's white space, letters and
 * cases (utf8proc). */
#include "frontend/chat/jinja.h"
#include <utf8proc.h>

uint32_t tn_jinja_char(tn_str s, uint64_t *at) {
  utf8proc_int32_t c = 0xfffd;
  utf8proc_ssize_t n =
      utf8proc_iterate((const utf8proc_uint8_t *)s.ptr + *at, (utf8proc_ssize_t)(s.len - *at), &c);
  *at += n > 0 ? (uint64_t)n : 1;
  return n > 0 ? (uint32_t)c : 0xfffd;
}

void tn_jinja_put_char(tn_buf *out, uint32_t c) {
  utf8proc_uint8_t text[4];
  utf8proc_ssize_t n = utf8proc_encode_char((utf8proc_int32_t)c, text);
  tn_buf_put(out, text, (uint64_t)n);
}

int64_t tn_jinja_chars(tn_str s) {
  int64_t n = 0;
  for (uint64_t i = 0; i < s.len; i++) n += (s.ptr[i] & 0xc0) != 0x80;
  return n;
}

uint64_t tn_jinja_offset(tn_str s, int64_t chars) {
  uint64_t i = 0;
  for (; i < s.len && chars > 0; chars--) {
    do i++;
    while (i < s.len && (s.ptr[i] & 0xc0) == 0x80);
  }
  return i;
}

bool tn_jinja_space(uint32_t c) {
  return (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f ||
         c == 0x3000;
}

bool tn_jinja_printable(uint32_t c) {
  utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
  return c == ' ' || (k != UTF8PROC_CATEGORY_CN && k < UTF8PROC_CATEGORY_ZS);
}

static bool in_set(tn_str s, const tn_str *set, uint64_t from, uint64_t to) {
  uint64_t at = from;
  if (!set) return tn_jinja_space(tn_jinja_char(s, &at));
  for (uint64_t i = 0, start; i < set->len;) {
    start = i;
    tn_jinja_char(*set, &i);
    if (i - start == to - from && !memcmp(set->ptr + start, s.ptr + from, to - from)) return true;
  }
  return false;
}

tn_str tn_jinja_strip(tn_str s, const tn_str *set, bool left, bool right) {
  uint64_t start = 0, end = s.len;
  while (left && start < end) {
    uint64_t next = start;
    tn_jinja_char(s, &next);
    if (!in_set(s, set, start, next)) break;
    start = next;
  }
  while (right && end > start) {
    uint64_t before = end - 1;
    while (before > start && (s.ptr[before] & 0xc0) == 0x80) before--;
    if (!in_set(s, set, before, end)) break;
    end = before;
  }
  return (tn_str){s.ptr + start, end - start};
}

/* ---- classes and cases ----------------------------------------------------------------------- */
static bool is_letter(uint32_t c) {
  utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
  return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO;
}
static bool is_cased(uint32_t c, bool *upper) {
  utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
  *upper = k == UTF8PROC_CATEGORY_LU || k == UTF8PROC_CATEGORY_LT;
  return *upper || k == UTF8PROC_CATEGORY_LL;
}
/* Superscript digits count as digits (and as no decimals). */
static bool is_digit(uint32_t c) {
  return utf8proc_category((utf8proc_int32_t)c) == UTF8PROC_CATEGORY_ND || c == 0xb2 || c == 0xb3 ||
         c == 0xb9 || c == 0x2070 || (c >= 0x2074 && c <= 0x2079) || (c >= 0x2080 && c <= 0x2089);
}
static bool is_numeric(uint32_t c) {
  utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
  return k >= UTF8PROC_CATEGORY_ND && k <= UTF8PROC_CATEGORY_NO;
}

static bool is_of(uint32_t c, tn_jinja_class class) {
  switch (class) {
  case TN_CLASS_ALPHA: return is_letter(c);
  case TN_CLASS_DIGIT: return is_digit(c);
  case TN_CLASS_NUMERIC: return is_numeric(c);
  case TN_CLASS_ALNUM: return is_letter(c) || is_numeric(c);
  case TN_CLASS_SPACE: return tn_jinja_space(c);
  case TN_CLASS_UPPER:
  case TN_CLASS_LOWER: break;
  }
  return false;
}

bool tn_jinja_all(tn_str s, tn_jinja_class class) {
  bool any = false, upper, cased = class == TN_CLASS_UPPER || class == TN_CLASS_LOWER;
  for (uint64_t i = 0; i < s.len;) {
    uint32_t c = tn_jinja_char(s, &i);
    if (!cased) {
      any = true;
      if (!is_of(c, class)) return false;
    } else if (is_cased(c, &upper)) {
      any = true;
      if (upper != (class == TN_CLASS_UPPER)) return false;
    }
  }
  return any;
}

static void put_cased(tn_buf *out, uint32_t c, bool upper, bool title) {
  if (upper && c == 0xdf) { /* the one letter of everyday texts that becomes two */
    tn_buf_puts(out, title ? "Ss" : "SS");
    return;
  }
  utf8proc_int32_t x = (utf8proc_int32_t)c;
  tn_jinja_put_char(out, (uint32_t)(!upper  ? utf8proc_tolower(x)
                                    : title ? utf8proc_totitle(x)
                                            : utf8proc_toupper(x)));
}

tn_jv tn_jinja_recase(tn_jinja_run *r, tn_str s, tn_jinja_case how) {
  tn_buf out = {0};
  bool word = false, upper; /* word: a cased letter came just before */
  for (uint64_t i = 0; i < s.len;) {
    bool first = i == 0;
    uint32_t c = tn_jinja_char(s, &i);
    bool cased = is_cased(c, &upper);
    switch (how) {
    case TN_CASE_UPPER: put_cased(&out, c, true, false); break;
    case TN_CASE_LOWER: put_cased(&out, c, false, false); break;
    case TN_CASE_CAPITAL: put_cased(&out, c, first, true); break;
    case TN_CASE_TITLE: put_cased(&out, c, !word, true); break;
    case TN_CASE_SWAP: put_cased(&out, c, cased && !upper, false); break;
    }
    word = cased;
  }
  return tn_jv_take(r, &out);
}

/* ---- searching ------------------------------------------------------------------------------- */
int64_t tn_jinja_find(tn_str s, tn_str what, bool last) {
  if (what.len > s.len) return -1;
  if (!last) {
    const char *p = what.len ? memmem(s.ptr, s.len, what.ptr, what.len) : s.ptr;
    return p ? p - s.ptr : -1;
  }
  for (uint64_t i = s.len - what.len + 1; i-- > 0;)
    if (!memcmp(s.ptr + i, what.ptr, what.len)) return (int64_t)i;
  return -1;
}

tn_jv tn_jinja_replace(tn_jinja_run *r, tn_str s, tn_str what, tn_str by, int64_t most) {
  tn_buf out = {0};
  uint64_t at = 0;
  for (; most && at <= s.len && tn_jinja_step(r, 1) && out.len <= r->limits.memory; most--) {
    int64_t found = what.len ? tn_jinja_find((tn_str){s.ptr + at, s.len - at}, what, false) : 0;
    if (found < 0) break;
    tn_buf_put(&out, s.ptr + at, (uint64_t)found);
    tn_buf_put(&out, by.ptr, by.len);
    at += (uint64_t)found + what.len;
    if (what.len) continue;
    uint64_t next = at; /* between all characters */
    if (at < s.len) tn_jinja_char(s, &next);
    tn_buf_put(&out, s.ptr + at, next - at);
    if (at == s.len)
      at++;
    else
      at = next;
  }
  if (at < s.len) tn_buf_put(&out, s.ptr + at, s.len - at);
  return tn_jv_take(r, &out);
}
