/* text.c - how names and numbers look in the text form; shared by printer, messages and parser. */
#include "ir/module.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static bool is_alpha(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
static bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool tn_name_is_word(const char *s) {
  if (!is_alpha(*s)) return false;
  while (is_alpha(*s) || is_digit(*s)) s++;
  return !*s;
}

bool tn_name_is_plain(const char *s) {
  if (!*s) return false;
  while (is_alpha(*s) || is_digit(*s) || *s == '.') s++;
  return !*s;
}

void tn_text_name(tn_buf *out, const char *sigil, const char *name) {
  tn_buf_puts(out, sigil);
  if (tn_name_is_plain(name))
    tn_buf_puts(out, name);
  else
    tn_buf_json(out, tn_str_of(name));
}

/* Marked as a float: 1 becomes 1.0. */
void tn_text_float(char *s, size_t n, double v, int digits) {
  if (isnan(v))
    snprintf(s, n, "nan");
  else
    snprintf(s, n, "%.*g", digits, v);
  if (!strpbrk(s, ".eni")) strncat(s, ".0", n - strlen(s) - 1);
}

void tn_text_f64(tn_buf *out, double v) {
  char s[40];
  for (int digits = 1; digits <= 17; digits++) {
    tn_text_float(s, sizeof s, v, digits);
    if (isnan(v) || strtod(s, NULL) == v) break;
  }
  tn_buf_puts(out, s);
}

void tn_text_value(tn_module *m, tn_value v, tn_buf *out) {
  const tn_value_row *row = tn_value_row_of(m, v);
  bool global = row->kind == TN_VALUE_WEIGHT || row->kind == TN_VALUE_STATE;
  if (!row->kind)
    tn_buf_puts(out, "_");
  else if (row->name)
    tn_text_name(out, global ? "@" : "%", row->name);
  else
    tn_buf_printf(out, "%%%s%u", row->kind == TN_VALUE_ARG ? "arg" : "",
                  row->kind == TN_VALUE_ARG ? row->index : v);
}
