/* jinja_print.c - values as text: Python's str and repr, and json.dumps. */
#include "frontend/chat/jinja.h"
#include <math.h>
#include <stdlib.h>

/* Python's repr of a float: the shortest digits that give the same number. */
void tn_jv_put_real(tn_buf *out, double x) {
  char text[40];
  if (isnan(x) || isinf(x)) {
    tn_buf_puts(out, isnan(x) ? "nan" : x < 0 ? "-inf" : "inf");
    return;
  }
  for (int n = 1; n <= 17; n++) {
    snprintf(text, sizeof text, "%.*e", n - 1, x);
    if (strtod(text, NULL) == x) break;
  }
  char *e = strchr(text, 'e');
  int exponent = e ? atoi(e + 1) : 0, places = e ? (int)(e - text) - (text[0] == '-') - 2 : 0;
  if (places < 0) places = 0; /* one digit, no point */
  if (exponent < -4 || exponent >= 16) {
    tn_buf_put(out, text, (uint64_t)(e - text));
    tn_buf_printf(out, "e%c%02d", exponent < 0 ? '-' : '+', abs(exponent));
    return;
  }
  places -= exponent;
  tn_buf_printf(out, "%.*f", places > 0 ? places : 1, x);
}

/* ---- str and repr ---------------------------------------------------------------------------- */
static void put_quoted(tn_buf *out, tn_str s) {
  bool single = memchr(s.ptr ? s.ptr : "", '\'', s.len), twice = memchr(s.ptr ? s.ptr : "", '"', s.len);
  char quote = single && !twice ? '"' : '\'';
  tn_buf_put(out, &quote, 1);
  for (uint64_t i = 0, start; i < s.len;) {
    start = i;
    uint32_t c = tn_jinja_char(s, &i);
    if (c == '\n' || c == '\t' || c == '\r')
      tn_buf_puts(out, c == '\n' ? "\\n" : c == '\t' ? "\\t" : "\\r");
    else if (c == '\\' || c == (uint32_t)quote)
      tn_buf_printf(out, "\\%c", (char)c);
    else if (!tn_jinja_printable(c))
      tn_buf_printf(out, c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x", c);
    else
      tn_buf_put(out, s.ptr + start, i - start);
  }
  tn_buf_put(out, &quote, 1);
}

static void put_list(tn_jinja_run *r, tn_buf *out, tn_jv v, uint32_t depth) {
  bool tuple = v.kind == TN_JV_TUPLE;
  tn_buf_puts(out, tuple ? "(" : "[");
  for (uint32_t i = 0; i < v.u.list->count && !r->status; i++) {
    if (i) tn_buf_puts(out, ", ");
    tn_jv_repr(r, out, v.u.list->items[i], depth + 1);
  }
  tn_buf_puts(out, !tuple ? "]" : v.u.list->count == 1 ? ",)" : ")");
}

static void put_dict(tn_jinja_run *r, tn_buf *out, const tn_jv_dict *d, uint32_t depth) {
  tn_buf_puts(out, "{");
  for (uint32_t i = 0; i < d->count && !r->status; i++) {
    if (i) tn_buf_puts(out, ", ");
    tn_jv_repr(r, out, d->keys[i], depth + 1);
    tn_buf_puts(out, ": ");
    tn_jv_repr(r, out, d->values[i], depth + 1);
  }
  tn_buf_puts(out, "}");
}

/* Counts what it writes; false: stop. */
static bool may_write(tn_jinja_run *r, const tn_buf *out, uint32_t depth) {
  if (depth > TN_JINJA_VALUE_MAX) tn_jinja_fail(r, "a value is nested deeper than %d", TN_JINJA_VALUE_MAX);
  if (out->len > r->limits.memory) tn_jinja_fail(r, "a text is longer than the limit of memory");
  return tn_jinja_step(r, 1);
}

void tn_jv_repr(tn_jinja_run *r, tn_buf *out, tn_jv v, uint32_t depth) {
  if (!may_write(r, out, depth)) return;
  switch (v.kind) {
  case TN_JV_UNDEFINED: tn_buf_puts(out, "Undefined"); break;
  case TN_JV_NONE: tn_buf_puts(out, "None"); break;
  case TN_JV_BOOL: tn_buf_puts(out, v.u.b ? "True" : "False"); break;
  case TN_JV_INT: tn_buf_printf(out, "%lld", (long long)v.u.i); break;
  case TN_JV_REAL: tn_jv_put_real(out, v.u.r); break;
  case TN_JV_STR: put_quoted(out, v.u.s); break;
  case TN_JV_LIST:
  case TN_JV_TUPLE: put_list(r, out, v, depth); break;
  case TN_JV_DICT: put_dict(r, out, v.u.dict, depth); break;
  case TN_JV_NAMESPACE:
    tn_buf_puts(out, "<Namespace ");
    put_dict(r, out, v.u.dict, depth);
    tn_buf_puts(out, ">");
    break;
  default: tn_buf_printf(out, "<%s>", tn_jv_type(v)); break;
  }
}

void tn_jv_print(tn_jinja_run *r, tn_buf *out, tn_jv v) {
  if (v.kind == TN_JV_STR)
    tn_buf_put(out, v.u.s.ptr, v.u.s.len);
  else if (v.kind != TN_JV_UNDEFINED)
    tn_jv_repr(r, out, v, 0);
}

tn_jv tn_jv_text(tn_jinja_run *r, tn_jv v) {
  if (v.kind == TN_JV_STR) return v;
  tn_buf out = {0};
  tn_jv_print(r, &out, v);
  return tn_jv_take(r, &out);
}

/* ---- JSON ------------------------------------------------------------------------------------ */
static void put_json_str(tn_buf *out, tn_str s, bool ascii) {
  static const char from[] = "\"\\\n\r\t\f\b", to[] = "\"\\nrtfb";
  tn_buf_puts(out, "\"");
  for (uint64_t i = 0, start; i < s.len;) {
    start = i;
    uint32_t c = tn_jinja_char(s, &i);
    const char *known = c && c < 0x80 ? memchr(from, (int)c, sizeof from - 1) : NULL;
    if (known)
      tn_buf_printf(out, "\\%c", to[known - from]);
    else if (c < 0x20 || (ascii && c >= 0x7f && c < 0x10000 && c != 0x7f))
      tn_buf_printf(out, "\\u%04x", c);
    else if (ascii && c >= 0x10000)
      tn_buf_printf(out, "\\u%04x\\u%04x", 0xd800 + ((c - 0x10000) >> 10), 0xdc00 + ((c - 0x10000) & 0x3ff));
    else
      tn_buf_put(out, s.ptr + start, i - start);
  }
  tn_buf_puts(out, "\"");
}

static void new_line(tn_buf *out, const tn_jinja_json *o, uint32_t depth) {
  if (o->indent < 0 && !o->indent_text.ptr) return;
  tn_buf_puts(out, "\n");
  for (uint32_t i = 0; i < depth; i++) {
    if (o->indent_text.ptr)
      tn_buf_put(out, o->indent_text.ptr, o->indent_text.len);
    else
      tn_buf_printf(out, "%*s", (int)o->indent, "");
  }
}

static void put_json_key(tn_jinja_run *r, tn_buf *out, tn_jv k, const tn_jinja_json *o) {
  tn_buf text = {0};
  if (k.kind == TN_JV_STR) {
    put_json_str(out, k.u.s, o->ascii);
  } else if (k.kind <= TN_JV_REAL && k.kind != TN_JV_UNDEFINED) {
    tn_jv_json(r, &text, k, o, 0);
    put_json_str(out, (tn_str){text.text, text.len}, o->ascii);
  } else {
    tn_jinja_fail(r, "a %s cannot be a key in JSON", tn_jv_type(k));
  }
  tn_buf_fini(&text);
}

/* Indices of the keys, by key where that is wanted. */
static uint32_t *key_order(tn_jinja_run *r, const tn_jv_dict *d, bool sorted) {
  uint32_t *order = tn_jinja_alloc(r, ((uint64_t)d->count + 1) * sizeof *order);
  for (uint32_t i = 0; order && i < d->count; i++) {
    uint32_t k = i;
    for (; sorted && k && tn_jv_order(r, d->keys[order[k - 1]], d->keys[i]) > 0; k--) order[k] = order[k - 1];
    order[k] = i;
  }
  return order;
}

static void put_json_dict(tn_jinja_run *r, tn_buf *out, const tn_jv_dict *d, const tn_jinja_json *o,
                          uint32_t depth) {
  uint32_t *order = key_order(r, d, o->sorted);
  tn_buf_puts(out, "{");
  for (uint32_t i = 0; order && i < d->count && !r->status; i++) {
    if (i) tn_buf_put(out, o->item.ptr, o->item.len);
    new_line(out, o, depth + 1);
    put_json_key(r, out, d->keys[order[i]], o);
    tn_buf_put(out, o->key.ptr, o->key.len);
    tn_jv_json(r, out, d->values[order[i]], o, depth + 1);
  }
  if (d->count) new_line(out, o, depth);
  tn_buf_puts(out, "}");
}

static void put_json_list(tn_jinja_run *r, tn_buf *out, const tn_jv_list *l, const tn_jinja_json *o,
                          uint32_t depth) {
  tn_buf_puts(out, "[");
  for (uint32_t i = 0; i < l->count && !r->status; i++) {
    if (i) tn_buf_put(out, o->item.ptr, o->item.len);
    new_line(out, o, depth + 1);
    tn_jv_json(r, out, l->items[i], o, depth + 1);
  }
  if (l->count) new_line(out, o, depth);
  tn_buf_puts(out, "]");
}

void tn_jv_json(tn_jinja_run *r, tn_buf *out, tn_jv v, const tn_jinja_json *o, uint32_t depth) {
  if (!may_write(r, out, depth)) return;
  switch (v.kind) {
  case TN_JV_NONE: tn_buf_puts(out, "null"); break;
  case TN_JV_BOOL: tn_buf_puts(out, v.u.b ? "true" : "false"); break;
  case TN_JV_INT: tn_buf_printf(out, "%lld", (long long)v.u.i); break;
  case TN_JV_REAL:
    if (isnan(v.u.r) || isinf(v.u.r))
      tn_buf_puts(out, isnan(v.u.r) ? "NaN" : v.u.r < 0 ? "-Infinity" : "Infinity");
    else
      tn_jv_put_real(out, v.u.r);
    break;
  case TN_JV_STR: put_json_str(out, v.u.s, o->ascii); break;
  case TN_JV_LIST:
  case TN_JV_TUPLE: put_json_list(r, out, v.u.list, o, depth); break;
  case TN_JV_DICT: put_json_dict(r, out, v.u.dict, o, depth); break;
  default:
    tn_jinja_fail(r, "%s has no form in JSON",
                  v.kind == TN_JV_UNDEFINED && v.u.s.ptr ? v.u.s.ptr : tn_jv_type(v));
    break;
  }
}
