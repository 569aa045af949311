/* jinja_methods.c - methods of strings, lists, dicts and loops: those that change nothing. */
#include "frontend/chat/jinja.h"
#include <stdlib.h>

#define METHOD(name) static tn_jv name(tn_jinja_run *r, tn_jv self, const tn_jinja_args *a)

/* ---- strings --------------------------------------------------------------------------------- */
static tn_jv strip(tn_jinja_run *r, tn_jv self, const tn_jinja_args *a, const char *name, bool left,
                   bool right) {
  tn_jv chars = tn_jinja_arg(a, 0, "chars");
  if (!tn_jinja_takes(r, a, name, 0, 1)) return self;
  if (tn_jinja_given(chars) && chars.kind != TN_JV_STR && chars.kind != TN_JV_NONE)
    return tn_jinja_fail(r, "'%s' takes a string, not a %s", name, tn_jv_type(chars));
  return tn_jv_str(tn_jinja_strip(self.u.s, chars.kind == TN_JV_STR ? &chars.u.s : NULL, left, right));
}
METHOD(str_strip) { return strip(r, self, a, "strip", true, true); }
METHOD(str_lstrip) { return strip(r, self, a, "lstrip", true, false); }
METHOD(str_rstrip) { return strip(r, self, a, "rstrip", false, true); }

METHOD(str_upper) { return (void)a, tn_jinja_recase(r, self.u.s, TN_CASE_UPPER); }
METHOD(str_lower) { return (void)a, tn_jinja_recase(r, self.u.s, TN_CASE_LOWER); }
METHOD(str_capitalize) { return (void)a, tn_jinja_recase(r, self.u.s, TN_CASE_CAPITAL); }
METHOD(str_title) { return (void)a, tn_jinja_recase(r, self.u.s, TN_CASE_TITLE); }
METHOD(str_swapcase) { return (void)a, tn_jinja_recase(r, self.u.s, TN_CASE_SWAP); }

#define CLASS_METHOD(name, class)                                                                            \
  METHOD(name) {                                                                                             \
    (void)r, (void)a;                                                                                        \
    return tn_jv_bool(tn_jinja_all(self.u.s, class));                                                        \
  }
CLASS_METHOD(str_isalpha, TN_CLASS_ALPHA)
CLASS_METHOD(str_isdigit, TN_CLASS_DIGIT)
CLASS_METHOD(str_isnumeric, TN_CLASS_NUMERIC)
CLASS_METHOD(str_isalnum, TN_CLASS_ALNUM)
CLASS_METHOD(str_isspace, TN_CLASS_SPACE)
CLASS_METHOD(str_isupper, TN_CLASS_UPPER)
CLASS_METHOD(str_islower, TN_CLASS_LOWER)

/* The part that optional start and end arguments name, from argument i on. */
static tn_str part(tn_jinja_run *r, tn_str s, const tn_jinja_args *a, uint32_t i, uint64_t *base) {
  tn_jv start = tn_jinja_arg(a, i, NULL), end = tn_jinja_arg(a, i + 1, NULL);
  int64_t n = tn_jinja_chars(s), from = tn_jv_is_whole(start) ? tn_jv_whole(start) : 0;
  int64_t to = tn_jv_is_whole(end) ? tn_jv_whole(end) : n;
  (void)r;
  if (from < 0) from = from < -n ? 0 : from + n;
  if (to < 0) to = to < -n ? 0 : to + n;
  uint64_t first = tn_jinja_offset(s, from), last = tn_jinja_offset(s, to);
  if (base) *base = first;
  return (tn_str){s.ptr + first, last > first ? last - first : 0};
}

static bool has_end(tn_str s, tn_str what, bool front) {
  return s.len >= what.len && !memcmp(front ? s.ptr : s.ptr + s.len - what.len, what.ptr, what.len);
}

static tn_jv at_end(tn_jinja_run *r, tn_jv self, const tn_jinja_args *a, const char *name, bool front) {
  if (!tn_jinja_takes(r, a, name, 1, 3)) return self;
  tn_str s = part(r, self.u.s, a, 1, NULL);
  tn_jv what = tn_jinja_arg(a, 0, "prefix");
  const tn_jv_list *l = what.kind == TN_JV_TUPLE ? what.u.list : &(tn_jv_list){&what, 1, 1};
  bool is = false;
  for (uint32_t i = 0; i < l->count; i++) {
    if (l->items[i].kind != TN_JV_STR)
      return tn_jinja_fail(r, "'%s' takes a string, not a %s", name, tn_jv_type(l->items[i]));
    is |= has_end(s, l->items[i].u.s, front);
  }
  return tn_jv_bool(is);
}
METHOD(str_startswith) { return at_end(r, self, a, "startswith", true); }
METHOD(str_endswith) { return at_end(r, self, a, "endswith", false); }

METHOD(str_removeprefix) {
  tn_str what = tn_jinja_str_arg(r, a, 0, "prefix", ""), s = self.u.s;
  return tn_jv_str(has_end(s, what, true) ? (tn_str){s.ptr + what.len, s.len - what.len} : s);
}
METHOD(str_removesuffix) {
  tn_str what = tn_jinja_str_arg(r, a, 0, "suffix", ""), s = self.u.s;
  return tn_jv_str(has_end(s, what, false) ? (tn_str){s.ptr, s.len - what.len} : s);
}

METHOD(str_replace) {
  if (!tn_jinja_takes(r, a, "replace", 2, 3)) return self;
  tn_str what = tn_jinja_str_arg(r, a, 0, "old", ""), by = tn_jinja_str_arg(r, a, 1, "new", "");
  int64_t most = tn_jinja_int_arg(r, a, 2, "count", -1);
  return r->status ? self : tn_jinja_replace(r, self.u.s, what, by, most);
}

static tn_jv find(tn_jinja_run *r, tn_jv self, const tn_jinja_args *a, bool last, const char *must) {
  uint64_t base = 0;
  tn_str what = tn_jinja_str_arg(r, a, 0, "sub", ""), s = part(r, self.u.s, a, 1, &base);
  int64_t at = tn_jinja_find(s, what, last);
  if (at < 0 && must) return tn_jinja_fail(r, "'%s': the text is not there", must);
  return tn_jv_int(at < 0 ? -1 : tn_jinja_chars((tn_str){self.u.s.ptr, base + (uint64_t)at}));
}
METHOD(str_find) { return find(r, self, a, false, NULL); }
METHOD(str_rfind) { return find(r, self, a, true, NULL); }
METHOD(str_index) { return find(r, self, a, false, "index"); }
METHOD(str_rindex) { return find(r, self, a, true, "rindex"); }

METHOD(str_count) {
  tn_str what = tn_jinja_str_arg(r, a, 0, "sub", ""), s = part(r, self.u.s, a, 1, NULL);
  if (!what.len) return tn_jv_int(tn_jinja_chars(s) + 1);
  int64_t n = 0;
  for (int64_t at; (at = tn_jinja_find(s, what, false)) >= 0; n++)
    s = (tn_str){s.ptr + at + what.len, s.len - (uint64_t)at - what.len};
  return tn_jv_int(n);
}

/* At white space: pieces are never empty. */
static void split_space(tn_jinja_run *r, tn_jv out, tn_str s, int64_t most) {
  for (s = tn_jinja_strip(s, NULL, true, false); s.len && !r->status; most--) {
    uint64_t end = 0, next = 0;
    while (next < s.len && (end = next, !tn_jinja_space(tn_jinja_char(s, &next)))) end = next;
    if (!most) end = s.len;
    tn_jv_push(r, out, tn_jv_str((tn_str){s.ptr, end}));
    if (!most) return;
    s = tn_jinja_strip((tn_str){s.ptr + end, s.len - end}, NULL, true, false);
  }
}

static void reverse(tn_jv_list *l) {
  for (uint32_t i = 0; i < l->count / 2; i++) {
    tn_jv x = l->items[i];
    l->items[i] = l->items[l->count - 1 - i];
    l->items[l->count - 1 - i] = x;
  }
}

/* From the end. */
static void rsplit_space(tn_jinja_run *r, tn_jv out, tn_str s, int64_t most) {
  for (s = tn_jinja_strip(s, NULL, false, true); s.len && !r->status; most--) {
    uint64_t start = s.len;
    for (uint64_t before, at; start; start = before) {
      before = start - 1;
      while (before && (s.ptr[before] & 0xc0) == 0x80) before--;
      if (at = before, tn_jinja_space(tn_jinja_char(s, &at))) break;
    }
    if (!most) start = 0;
    tn_jv_push(r, out, tn_jv_str((tn_str){s.ptr + start, s.len - start}));
    if (!most) break;
    s = tn_jinja_strip((tn_str){s.ptr, start}, NULL, false, true);
  }
  reverse(out.u.list);
}

static void split_at(tn_jinja_run *r, tn_jv out, tn_str s, tn_str by, int64_t most, bool back) {
  for (int64_t at; most && !r->status && (at = tn_jinja_find(s, by, back)) >= 0; most--) {
    uint64_t behind = (uint64_t)at + by.len;
    tn_jv_push(r, out,
               tn_jv_str(back ? (tn_str){s.ptr + behind, s.len - behind} : (tn_str){s.ptr, (uint64_t)at}));
    s = back ? (tn_str){s.ptr, (uint64_t)at} : (tn_str){s.ptr + behind, s.len - behind};
  }
  tn_jv_push(r, out, tn_jv_str(s));
  if (back) reverse(out.u.list);
}

static tn_jv split(tn_jinja_run *r, tn_jv self, const tn_jinja_args *a, bool back) {
  tn_jv by = tn_jinja_arg(a, 0, "sep"), out = tn_jv_list_new(r, TN_JV_LIST, 0);
  int64_t most = tn_jinja_int_arg(r, a, 1, "maxsplit", -1);
  if (r->status) return out;
  if (by.kind == TN_JV_STR && by.u.s.len)
    split_at(r, out, self.u.s, by.u.s, most, back);
  else if (tn_jinja_given(by) && by.kind != TN_JV_NONE)
    return tn_jinja_fail(r, "cannot split at an empty text or a %s", tn_jv_type(by));
  else if (back)
    rsplit_space(r, out, self.u.s, most);
  else
    split_space(r, out, self.u.s, most);
  return out;
}
METHOD(str_split) { return split(r, self, a, false); }
METHOD(str_rsplit) { return split(r, self, a, true); }

METHOD(str_splitlines) {
  bool keep = tn_jinja_bool_arg(a, 0, "keepends", false);
  tn_jv out = tn_jv_list_new(r, TN_JV_LIST, 0);
  tn_str s = self.u.s;
  for (uint64_t start = 0, i = 0, end; i < s.len && !r->status; start = i) {
    bool line = false;
    for (end = i; i < s.len && !line; end = line ? end : i) {
      end = i;
      uint32_t c = tn_jinja_char(s, &i);
      line = (c >= 0xa && c <= 0xd) || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 || c == 0x2029;
      if (c == '\r' && i < s.len && s.ptr[i] == '\n') i++;
    }
    tn_jv_push(r, out, tn_jv_str((tn_str){s.ptr + start, (keep ? i : end) - start}));
  }
  return out;
}

static tn_jv partition(tn_jinja_run *r, tn_jv self, const tn_jinja_args *a, bool last) {
  tn_str by = tn_jinja_str_arg(r, a, 0, "sep", ""), s = self.u.s;
  int64_t at = by.len ? tn_jinja_find(s, by, last) : -1;
  uint64_t cut = at < 0 ? last ? 0 : s.len : (uint64_t)at, n = at < 0 ? 0 : by.len;
  tn_jv out = tn_jv_list_new(r, TN_JV_TUPLE, 3);
  tn_jv_push(r, out, tn_jv_str((tn_str){s.ptr, cut}));
  tn_jv_push(r, out, tn_jv_str((tn_str){s.ptr + cut, n}));
  tn_jv_push(r, out, tn_jv_str((tn_str){s.ptr + cut + n, s.len - cut - n}));
  return out;
}
METHOD(str_partition) { return partition(r, self, a, false); }
METHOD(str_rpartition) { return partition(r, self, a, true); }

METHOD(str_join) {
  tn_buf out = {0};
  const tn_jv_list *l =
      tn_jinja_takes(r, a, "join", 1, 1) ? tn_jv_items(r, tn_jinja_arg(a, 0, "iterable")) : NULL;
  for (uint32_t i = 0; l && i < l->count && tn_jinja_step(r, 1); i++) {
    if (i) tn_buf_put(&out, self.u.s.ptr, self.u.s.len);
    if (l->items[i].kind != TN_JV_STR)
      tn_jinja_fail(r, "cannot join: item %u is a %s", i, tn_jv_type(l->items[i]));
    else
      tn_buf_put(&out, l->items[i].u.s.ptr, l->items[i].u.s.len);
    if (out.len > r->limits.memory) tn_jinja_fail(r, "a text is longer than the limit of memory");
  }
  return tn_jv_take(r, &out);
}

/* left and right: how much of the room goes where, in halves. */
static tn_jv pad(tn_jinja_run *r, tn_jv self, const tn_jinja_args *a, int left) {
  int64_t width = tn_jinja_int_arg(r, a, 0, "width", 0), n = tn_jinja_chars(self.u.s), room = width - n;
  tn_str fill = tn_jinja_str_arg(r, a, 1, "fillchar", " ");
  if (room <= 0 || r->status) return self;
  if (width > 1 << 20) return tn_jinja_fail(r, "a width of %lld is too large", (long long)width);
  int64_t before = left == 0 ? 0 : left == 2 ? room : room / 2 + (room & width & 1);
  tn_buf out = {0};
  for (int64_t i = 0; i < before; i++) tn_buf_put(&out, fill.ptr, fill.len);
  tn_buf_put(&out, self.u.s.ptr, self.u.s.len);
  for (int64_t i = before; i < room; i++) tn_buf_put(&out, fill.ptr, fill.len);
  return tn_jv_take(r, &out);
}
METHOD(str_ljust) { return pad(r, self, a, 0); }
METHOD(str_center) { return pad(r, self, a, 1); }
METHOD(str_rjust) { return pad(r, self, a, 2); }

METHOD(str_zfill) {
  tn_str s = self.u.s;
  int64_t room = tn_jinja_int_arg(r, a, 0, "width", 0) - tn_jinja_chars(s);
  uint64_t sign = s.len && (s.ptr[0] == '-' || s.ptr[0] == '+');
  if (room > 1 << 20) return tn_jinja_fail(r, "a width of more than a million is too large");
  tn_buf out = {0};
  tn_buf_put(&out, s.ptr, sign);
  for (int64_t i = 0; i < room; i++) tn_buf_puts(&out, "0");
  tn_buf_put(&out, s.ptr + sign, s.len - sign);
  return tn_jv_take(r, &out);
}

/* "{} {0} {name}" without formats behind a colon. */
METHOD(str_format) {
  tn_str s = self.u.s;
  tn_buf out = {0};
  uint32_t next = 0;
  for (uint64_t i = 0; i < s.len && !r->status;) {
    char c = s.ptr[i];
    if ((c == '{' || c == '}') && i + 1 < s.len && s.ptr[i + 1] == c) {
      tn_buf_put(&out, &c, 1);
      i += 2;
      continue;
    }
    if (c != '{') {
      tn_buf_put(&out, s.ptr + i++, 1);
      continue;
    }
    const char *end = memchr(s.ptr + i, '}', s.len - i);
    tn_str name = {s.ptr + i + 1, end ? (uint64_t)(end - s.ptr) - i - 1 : 0};
    char text[64];
    snprintf(text, sizeof text, "%.*s", (int)(name.len < 63 ? name.len : 63), name.ptr);
    bool place = !name.len || (text[0] >= '0' && text[0] <= '9');
    tn_jv v = tn_jinja_arg(a,
                           !place     ? UINT32_MAX
                           : name.len ? (uint32_t)strtoul(text, NULL, 10)
                                      : next++,
                           place ? NULL : text);
    if (!end || !tn_jinja_given(v)) tn_jinja_fail(r, "format: '{%s}' has no value or is not supported", text);
    tn_jv_print(r, &out, v);
    i += name.len + 2;
  }
  return tn_jv_take(r, &out);
}

/* ---- lists and dicts ------------------------------------------------------------------------- */
METHOD(list_index) {
  if (!tn_jinja_takes(r, a, "index", 1, 1)) return self;
  for (uint32_t i = 0; i < self.u.list->count && !r->status; i++)
    if (tn_jv_equal(r, self.u.list->items[i], a->items[0])) return tn_jv_int(i);
  return tn_jinja_fail(r, "'index': the value is not in the list");
}
METHOD(list_count) {
  int64_t n = 0;
  if (!tn_jinja_takes(r, a, "count", 1, 1)) return self;
  for (uint32_t i = 0; i < self.u.list->count && !r->status; i++)
    n += tn_jv_equal(r, self.u.list->items[i], a->items[0]);
  return tn_jv_int(n);
}
METHOD(same) { return (void)r, (void)a, self; } /* a copy of what never changes */
METHOD(unsafe) {
  (void)a;
  return tn_jinja_fail(r, "a %s cannot be changed by a template", tn_jv_type(self));
}

METHOD(dict_get) {
  tn_jv v;
  if (!tn_jinja_takes(r, a, "get", 1, 2)) return self;
  if (tn_jv_get(r, self, tn_jinja_arg(a, 0, "key"), &v)) return v;
  v = tn_jinja_arg(a, 1, "default");
  return tn_jinja_given(v) ? v : tn_jv_none();
}
METHOD(dict_items) {
  tn_jinja_args none = {0};
  (void)a;
  return tn_jinja_filter(r, TN_STR("items"), self, &none);
}
static tn_jv column(tn_jinja_run *r, const tn_jv *items, uint32_t n) {
  tn_jv out = tn_jv_list_new(r, TN_JV_LIST, n);
  for (uint32_t i = 0; i < n; i++) tn_jv_push(r, out, items[i]);
  return out;
}
METHOD(dict_keys) { return (void)a, column(r, self.u.dict->keys, self.u.dict->count); }
METHOD(dict_values) { return (void)a, column(r, self.u.dict->values, self.u.dict->count); }

/* ---- loops, cycler, joiner ------------------------------------------------------------------- */
METHOD(loop_cycle) {
  if (!a->count) return tn_jinja_fail(r, "no items to go through in turn");
  return a->items[self.u.loop->index % a->count];
}
METHOD(loop_changed) {
  tn_jv_loop *l = self.u.loop;
  tn_jv now = tn_jv_list_new(r, TN_JV_TUPLE, a->count);
  for (uint32_t i = 0; i < a->count; i++) tn_jv_push(r, now, a->items[i]);
  bool changed = !l->asked || !tn_jv_equal(r, l->changed, now);
  l->asked = true;
  l->changed = now;
  return tn_jv_bool(changed);
}
METHOD(cycler_next) {
  tn_jv_state *s = self.u.state;
  (void)r, (void)a;
  return s->items->items[s->at++ % s->items->count];
}
METHOD(cycler_reset) {
  (void)r, (void)a;
  self.u.state->at = 0;
  return tn_jv_none();
}
METHOD(joiner_next) { /* nothing at first, then the text */
  (void)r, (void)a;
  return self.u.state->at++ ? self.u.state->items->items[0] : tn_jv_str(TN_STR(""));
}

static const tn_jinja_row str_methods[] = {{"strip", str_strip},
                                           {"lstrip", str_lstrip},
                                           {"rstrip", str_rstrip},
                                           {"split", str_split},
                                           {"rsplit", str_rsplit},
                                           {"splitlines", str_splitlines},
                                           {"startswith", str_startswith},
                                           {"endswith", str_endswith},
                                           {"replace", str_replace},
                                           {"upper", str_upper},
                                           {"lower", str_lower},
                                           {"casefold", str_lower},
                                           {"title", str_title},
                                           {"capitalize", str_capitalize},
                                           {"swapcase", str_swapcase},
                                           {"find", str_find},
                                           {"rfind", str_rfind},
                                           {"index", str_index},
                                           {"rindex", str_rindex},
                                           {"count", str_count},
                                           {"join", str_join},
                                           {"isalpha", str_isalpha},
                                           {"isdigit", str_isdigit},
                                           {"isdecimal", str_isdigit},
                                           {"isnumeric", str_isnumeric},
                                           {"isalnum", str_isalnum},
                                           {"isspace", str_isspace},
                                           {"isupper", str_isupper},
                                           {"islower", str_islower},
                                           {"removeprefix", str_removeprefix},
                                           {"zfill", str_zfill},
                                           {"ljust", str_ljust},
                                           {"removesuffix", str_removesuffix},
                                           {"rjust", str_rjust},
                                           {"center", str_center},
                                           {"partition", str_partition},
                                           {"format", str_format},
                                           {"rpartition", str_rpartition}};
static const tn_jinja_row list_methods[] = {{"index", list_index}, {"count", list_count}, {"copy", same},
                                            {"append", unsafe},    {"extend", unsafe},    {"insert", unsafe},
                                            {"pop", unsafe},       {"remove", unsafe},    {"clear", unsafe},
                                            {"sort", unsafe},      {"reverse", unsafe}};
static const tn_jinja_row tuple_methods[] = {{"index", list_index}, {"count", list_count}};
static const tn_jinja_row dict_methods[] = {
    {"get", dict_get},       {"items", dict_items}, {"keys", dict_keys}, {"copy", same},
    {"values", dict_values}, {"pop", unsafe},       {"update", unsafe},  {"clear", unsafe},
    {"popitem", unsafe},     {"setdefault", unsafe}};
static const tn_jinja_row loop_methods[] = {{"cycle", loop_cycle}, {"changed", loop_changed}};
static const tn_jinja_row cycler_methods[] = {{"next", cycler_next}, {"reset", cycler_reset}};
static const tn_jinja_row joiner_methods[] = {{"next", joiner_next}};

static const struct {
  tn_jv_kind kind;
  const tn_jinja_row *rows;
  size_t n;
} kinds[] = {{TN_JV_STR, str_methods, TN_COUNT(str_methods)},
             {TN_JV_LIST, list_methods, TN_COUNT(list_methods)},
             {TN_JV_TUPLE, tuple_methods, TN_COUNT(tuple_methods)},
             {TN_JV_DICT, dict_methods, TN_COUNT(dict_methods)},
             {TN_JV_LOOP, loop_methods, TN_COUNT(loop_methods)},
             {TN_JV_CYCLER, cycler_methods, TN_COUNT(cycler_methods)},
             {TN_JV_JOINER, joiner_methods, TN_COUNT(joiner_methods)}};

tn_jv tn_jinja_method(tn_jinja_run *r, tn_jv a, tn_str name) {
  const tn_jinja_row *row = NULL;
  for (size_t i = 0; i < TN_COUNT(kinds) && !row; i++)
    if (kinds[i].kind == a.kind) row = tn_jinja_row_of(kinds[i].rows, kinds[i].n, name);
  tn_jv_function *f = row ? tn_jinja_alloc(r, sizeof *f) : NULL;
  if (!f) {
    if (a.kind == TN_JV_CYCLER && tn_str_is(name, "current"))
      return a.u.state->items->items[a.u.state->at % a.u.state->items->count];
    return tn_jv_undefined(NULL);
  }
  *f = (tn_jv_function){row->name, row->call, a};
  return (tn_jv){TN_JV_FUNCTION, {.function = f}};
}
