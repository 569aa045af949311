/* jinja_filters.c - filters of texts and single values; jinja_lists.c has those of lists. */
#include "frontend/chat/jinja.h"
#include <math.h>
#include <stdlib.h>

#define FILTER(name) tn_jv tn_jinja_filter_##name(tn_jinja_run *r, tn_jv v, const tn_jinja_args *a)
#define TN_JINJA_FILTER(name, id) tn_jinja_function tn_jinja_filter_##id;
#include "frontend/chat/filters.def"

/* ---- texts ----------------------------------------------------------------------------------- */
static tn_str text_of(tn_jinja_run *r, tn_jv v) {
  v = tn_jv_text(r, v);
  return v.kind == TN_JV_STR ? v.u.s : TN_STR("");
}

FILTER(trim) {
  tn_jv chars = tn_jinja_arg(a, 0, "chars");
  return tn_jv_str(tn_jinja_strip(text_of(r, v), chars.kind == TN_JV_STR ? &chars.u.s : NULL, true, true));
}
FILTER(upper) { return (void)a, tn_jinja_recase(r, text_of(r, v), TN_CASE_UPPER); }
FILTER(lower) { return (void)a, tn_jinja_recase(r, text_of(r, v), TN_CASE_LOWER); }
FILTER(capitalize) { return (void)a, tn_jinja_recase(r, text_of(r, v), TN_CASE_CAPITAL); }
FILTER(string) { return (void)a, tn_jv_text(r, v); }
FILTER(safe) { return (void)a, tn_jv_text(r, v); }

/* A word begins behind white space or one of -([{< . */
FILTER(title) {
  tn_str s = text_of(r, v);
  tn_buf out = {0};
  bool first = true;
  (void)a;
  for (uint64_t i = 0, start; i < s.len && !r->status;) {
    start = i;
    uint32_t c = tn_jinja_char(s, &i);
    tn_jv x = tn_jinja_recase(r, (tn_str){s.ptr + start, i - start}, first ? TN_CASE_UPPER : TN_CASE_LOWER);
    if (x.kind == TN_JV_STR) tn_buf_put(&out, x.u.s.ptr, x.u.s.len);
    first = tn_jinja_space(c) || (c && c < 0x80 && strchr("-([{<", (int)c));
  }
  return tn_jv_take(r, &out);
}

FILTER(replace) {
  if (!tn_jinja_takes(r, a, "replace", 2, 3)) return v;
  tn_str what = text_of(r, tn_jinja_arg(a, 0, "old")), by = text_of(r, tn_jinja_arg(a, 1, "new"));
  tn_jv count = tn_jinja_arg(a, 2, "count");
  return tn_jinja_replace(r, text_of(r, v), what, by, tn_jv_is_whole(count) ? tn_jv_whole(count) : -1);
}

FILTER(escape) {
  static const struct {
    char c;
    const char *by;
  } marks[] = {{'&', "&amp;"}, {'<', "&lt;"}, {'>', "&gt;"}, {'"', "&#34;"}, {'\'', "&#39;"}};
  tn_str s = text_of(r, v);
  tn_buf out = {0};
  (void)a;
  for (uint64_t i = 0; i < s.len; i++) {
    size_t k = 0;
    while (k < TN_COUNT(marks) && marks[k].c != s.ptr[i]) k++;
    if (k < TN_COUNT(marks))
      tn_buf_puts(&out, marks[k].by);
    else
      tn_buf_put(&out, s.ptr + i, 1);
  }
  return tn_jv_take(r, &out);
}

FILTER(urlencode) {
  tn_str s = text_of(r, v);
  tn_buf out = {0};
  (void)a;
  for (uint64_t i = 0; i < s.len; i++) {
    char c = s.ptr[i], l = (char)(c | 32);
    bool plain = (l >= 'a' && l <= 'z') || (c >= '0' && c <= '9') || (c && strchr("_.-~/", c));
    tn_buf_printf(&out, plain ? "%c" : "%%%02X", plain ? c : (uint8_t)c);
  }
  return tn_jv_take(r, &out);
}

/* Every line but the first (and those without text) moves to the right. */
FILTER(indent) {
  tn_jv width = tn_jinja_arg(a, 0, "width");
  bool first = tn_jinja_bool_arg(a, 1, "first", false), blank = tn_jinja_bool_arg(a, 2, "blank", false);
  tn_str s = text_of(r, v), by = width.kind == TN_JV_STR ? width.u.s : TN_STR("");
  int64_t n = width.kind == TN_JV_STR ? 0 : tn_jinja_int_arg(r, a, 0, "width", 4);
  tn_buf out = {0};
  if (n < 0 || n > 10000) return tn_jinja_fail(r, "cannot indent by %lld", (long long)n);
  for (uint64_t i = 0, end; i <= s.len && tn_jinja_step(r, 1) && out.len <= r->limits.memory; i = end + 1) {
    const char *nl = i < s.len ? memchr(s.ptr + i, '\n', s.len - i) : NULL;
    end = nl ? (uint64_t)(nl - s.ptr) : s.len;
    if (i ? blank || end > i : first) {
      tn_buf_put(&out, by.ptr, by.len);
      tn_buf_printf(&out, "%*s", (int)n, "");
    }
    tn_buf_put(&out, s.ptr + i, end - i);
    if (nl) tn_buf_puts(&out, "\n");
    if (!nl) break;
  }
  return tn_jv_take(r, &out);
}

FILTER(center) {
  tn_str s = text_of(r, v);
  int64_t width = tn_jinja_int_arg(r, a, 0, "width", 80), n = tn_jinja_chars(s), left = (width - n) / 2;
  if (width <= n || r->status) return tn_jv_str(s);
  if (width > 1 << 20) return tn_jinja_fail(r, "a width of %lld is too large", (long long)width);
  left += (width - n) & width & 1; /* as Python rounds */
  tn_buf out = {0};
  tn_buf_printf(&out, "%*s", (int)left, "");
  tn_buf_put(&out, s.ptr, s.len);
  tn_buf_printf(&out, "%*s", (int)(width - n - left), "");
  return tn_jv_take(r, &out);
}

FILTER(truncate) {
  tn_str s = text_of(r, v), end = tn_jinja_str_arg(r, a, 2, "end", "...");
  int64_t length = tn_jinja_int_arg(r, a, 0, "length", 255), leeway = tn_jinja_int_arg(r, a, 3, "leeway", 5);
  bool kill = tn_jinja_bool_arg(a, 1, "killwords", false);
  int64_t room = length - tn_jinja_chars(end);
  if (room < 0 || leeway < 0)
    return tn_jinja_fail(r, "cannot truncate to %lld characters", (long long)length);
  if (tn_jinja_chars(s) <= length + leeway) return tn_jv_str(s);
  tn_str kept = {s.ptr, tn_jinja_offset(s, room)};
  if (!kill) {
    int64_t space = tn_jinja_find(kept, TN_STR(" "), true);
    if (space >= 0) kept.len = (uint64_t)space;
  }
  return tn_jinja_binary(r, TN_OP_ADD, tn_jv_str(kept), tn_jv_str(end));
}

static bool is_word(tn_str c) { return tn_str_is(c, "_") || tn_jinja_all(c, TN_CLASS_ALNUM); }

/* Runs of letters, digits and _, as \w+ finds them. */
FILTER(wordcount) {
  tn_str s = text_of(r, v);
  int64_t n = 0;
  bool word = false;
  (void)a;
  for (uint64_t i = 0, start; i < s.len; word = is_word((tn_str){s.ptr + start, i - start})) {
    start = i;
    tn_jinja_char(s, &i);
    n += !word && is_word((tn_str){s.ptr + start, i - start});
  }
  return tn_jv_int(n);
}

FILTER(format) {
  tn_jv values = tn_jv_list_new(r, TN_JV_TUPLE, a->count);
  if (a->nnamed) {
    values = tn_jv_dict_new(r);
    for (uint32_t i = 0; i < a->nnamed; i++) tn_jv_put(r, values, tn_jv_str(a->names[i]), a->named[i]);
  } else {
    for (uint32_t i = 0; i < a->count; i++) tn_jv_push(r, values, a->items[i]);
  }
  return tn_jinja_format(r, text_of(r, v), values);
}

/* ---- numbers --------------------------------------------------------------------------------- */
FILTER(abs) {
  (void)a;
  if (v.kind == TN_JV_REAL) return tn_jv_real(fabs(v.u.r));
  if (!tn_jv_is_whole(v) || tn_jv_whole(v) == INT64_MIN)
    return tn_jinja_fail(r, "a %s has no absolute value", tn_jv_type(v));
  return tn_jv_int(llabs(tn_jv_whole(v)));
}

/* A text that is a number from end to end, as Python's int() and float() read it. */
static bool read_real(tn_str s, double *out) {
  char text[400];
  uint32_t n = 0;
  s = tn_jinja_strip(s, NULL, true, true);
  if (!s.len || s.len >= sizeof text || memchr(s.ptr, 'x', s.len) || memchr(s.ptr, 'X', s.len)) return false;
  for (uint64_t i = 0; i < s.len; i++)
    if (s.ptr[i] != '_') text[n++] = s.ptr[i];
  text[n] = 0;
  char *end;
  *out = strtod(text, &end);
  return end != text && !*end;
}

static bool read_whole(tn_str s, int base, int64_t *out) {
  char text[80];
  uint32_t n = 0;
  s = tn_jinja_strip(s, NULL, true, true);
  if (!s.len || s.len >= sizeof text) return false;
  for (uint64_t i = 0; i < s.len; i++)
    if (s.ptr[i] != '_') text[n++] = s.ptr[i];
  text[n] = 0;
  char *end;
  *out = strtoll(text, &end, base);
  return end != text && !*end && *out != INT64_MAX && *out != INT64_MIN;
}

FILTER(int) {
  tn_jv otherwise = tn_jinja_arg(a, 0, "default");
  int64_t base = tn_jinja_int_arg(r, a, 1, "base", 10), i;
  double x;
  if (!tn_jinja_given(otherwise)) otherwise = tn_jv_int(0);
  if (tn_jv_is_whole(v)) return tn_jv_int(tn_jv_whole(v));
  if (v.kind == TN_JV_UNDEFINED)
    return tn_jinja_fail(r, "%s", v.u.s.ptr ? v.u.s.ptr : "a value is undefined");
  if (v.kind == TN_JV_STR && base >= 2 && base <= 36 && read_whole(v.u.s, (int)base, &i)) return tn_jv_int(i);
  if (v.kind == TN_JV_REAL)
    x = v.u.r;
  else if (v.kind != TN_JV_STR || !read_real(v.u.s, &x))
    return otherwise;
  return fabs(x) < 9.2e18 ? tn_jv_int((int64_t)x) : otherwise;
}

FILTER(float) {
  tn_jv otherwise = tn_jinja_arg(a, 0, "default");
  double x;
  if (!tn_jinja_given(otherwise)) otherwise = tn_jv_real(0);
  if (tn_jv_is_number(v)) return tn_jv_real(tn_jv_double(v));
  if (v.kind == TN_JV_UNDEFINED)
    return tn_jinja_fail(r, "%s", v.u.s.ptr ? v.u.s.ptr : "a value is undefined");
  return v.kind == TN_JV_STR && read_real(v.u.s, &x) ? tn_jv_real(x) : otherwise;
}

/* To the nearest, halves to even, as Python rounds: through the decimal digits. */
FILTER(round) {
  int64_t places = tn_jinja_int_arg(r, a, 0, "precision", 0);
  tn_str how = tn_jinja_str_arg(r, a, 1, "method", "common");
  if (r->status) return v;
  if (!tn_jv_is_number(v) || places < -300 || places > 300)
    return tn_jinja_fail(r, "a %s cannot be rounded to %lld places", tn_jv_type(v), (long long)places);
  double x = tn_jv_double(v), scale = pow(10, (double)places);
  if (tn_str_is(how, "ceil")) return tn_jv_real(ceil(x * scale) / scale);
  if (tn_str_is(how, "floor")) return tn_jv_real(floor(x * scale) / scale);
  if (!tn_str_is(how, "common")) return tn_jinja_fail(r, "method must be common, ceil or floor");
  if (tn_jv_is_whole(v) && places >= 0) return tn_jv_int(tn_jv_whole(v));
  if (places < 0) return tn_jv_real(nearbyint(x * scale) / scale);
  tn_buf text = {0};
  tn_buf_printf(&text, "%.*f", (int)places, x);
  x = strtod(tn_buf_cstr(&text), NULL);
  tn_buf_fini(&text);
  return tn_jv_real(x);
}

/* ---- any value ------------------------------------------------------------------------------- */
FILTER(default) {
  tn_jv by = tn_jinja_arg(a, 0, "default_value");
  bool falsy = tn_jinja_bool_arg(a, 1, "boolean", false);
  (void)r;
  if (v.kind != TN_JV_UNDEFINED && !(falsy && !tn_jv_true(v))) return v;
  return tn_jinja_given(by) ? by : tn_jv_str(TN_STR(""));
}

FILTER(length) { return (void)a, tn_jv_int(tn_jv_length(r, v)); }

FILTER(attr) {
  bool dict = v.kind == TN_JV_DICT;
  tn_str name = tn_jinja_str_arg(r, a, 0, "name", "");
  tn_jv found = dict ? tn_jinja_method(r, v, name) : tn_jinja_attr(r, v, name);
  return tn_jinja_given(found) ? found : tn_jv_undefined("there is no such attribute");
}

FILTER(tojson) {
  tn_jv indent = tn_jinja_arg(a, 1, "indent"), separators = tn_jinja_arg(a, 2, "separators");
  tn_jinja_json o = {.indent = -1, .item = TN_STR(", "), .key = TN_STR(": ")};
  o.ascii = tn_jinja_bool_arg(a, 0, "ensure_ascii", false);
  o.sorted = tn_jinja_bool_arg(a, 3, "sort_keys", false);
  if (tn_jv_is_whole(indent)) o.indent = tn_jv_whole(indent) > 0 ? tn_jv_whole(indent) : 0;
  if (indent.kind == TN_JV_STR) o.indent_text = indent.u.s;
  if (o.indent > 1000) return tn_jinja_fail(r, "cannot indent by %lld", (long long)o.indent);
  if (o.indent >= 0 || o.indent_text.ptr) o.item = TN_STR(",");
  if (tn_jv_is_seq(separators) && separators.u.list->count == 2 &&
      separators.u.list->items[0].kind == TN_JV_STR && separators.u.list->items[1].kind == TN_JV_STR) {
    o.item = separators.u.list->items[0].u.s;
    o.key = separators.u.list->items[1].u.s;
  }
  tn_buf out = {0};
  tn_jv_json(r, &out, v, &o, 0);
  return tn_jv_take(r, &out);
}

/* ---- the table ------------------------------------------------------------------------------- */
static const tn_jinja_row filters[] = {
#define TN_JINJA_FILTER(name, id) {name, tn_jinja_filter_##id},
#include "frontend/chat/filters.def"
};

bool tn_jinja_has_filter(tn_str name) { return tn_jinja_row_of(filters, TN_COUNT(filters), name) != NULL; }

tn_jv tn_jinja_filter(tn_jinja_run *r, tn_str name, tn_jv self, const tn_jinja_args *a) {
  const tn_jinja_row *row = tn_jinja_row_of(filters, TN_COUNT(filters), name);
  if (row) return row->call(r, self, a);
  return tn_jinja_fail(r, "no filter named '%.*s'", (int)(name.len > 40 ? 40 : name.len), name.ptr);
}
