/* jinja_globals.c - the functions that every template has, and "%" on strings. */
#include "frontend/chat/jinja.h"
#include <stdlib.h>
#include <time.h>

#define GLOBAL(name) static tn_jv name(tn_jinja_run *r, tn_jv self, const tn_jinja_args *a)

GLOBAL(range) {
  (void)self;
  if (!tn_jinja_takes(r, a, "range", 1, 3)) return tn_jv_none();
  int64_t start = tn_jinja_int_arg(r, a, 0, "start", 0), stop = tn_jinja_int_arg(r, a, 1, "stop", 0);
  int64_t step = tn_jinja_int_arg(r, a, 2, "step", 1), distance;
  if (a->count == 1) stop = start, start = 0;
  if (r->status) return tn_jv_none();
  if (!step) return tn_jinja_fail(r, "the step of a range is zero");
  bool fits = !__builtin_sub_overflow(stop, start, &distance);
  if ((stop > start) != (step > 0) || stop == start) return tn_jv_list_new(r, TN_JV_LIST, 0);
  int64_t n = fits ? distance / step + (distance % step != 0) : INT64_MAX;
  if (n > TN_JINJA_RANGE_MAX)
    return tn_jinja_fail(r, "a range of %lld items, at most %d are allowed", (long long)n,
                         TN_JINJA_RANGE_MAX);
  tn_jv out = tn_jv_list_new(r, TN_JV_LIST, (uint32_t)n);
  for (int64_t i = 0; i < n && tn_jinja_step(r, 1); i++) tn_jv_push(r, out, tn_jv_int(start + i * step));
  return out;
}

static void put_all(tn_jinja_run *r, tn_jv out, const tn_jinja_args *a) {
  if (a->count && a->items[0].kind == TN_JV_DICT) {
    const tn_jv_dict *d = a->items[0].u.dict;
    for (uint32_t i = 0; i < d->count && !r->status; i++) tn_jv_put(r, out, d->keys[i], d->values[i]);
  } else if (a->count) {
    const tn_jv_list *l = tn_jv_items(r, a->items[0]);
    for (uint32_t i = 0; i < l->count && !r->status; i++) {
      const tn_jv_list *pair = tn_jv_items(r, l->items[i]);
      if (!r->status && pair->count != 2) tn_jinja_fail(r, "item %u is no pair of key and value", i);
      if (!r->status) tn_jv_put(r, out, pair->items[0], pair->items[1]);
    }
  }
  for (uint32_t i = 0; i < a->nnamed && !r->status; i++)
    tn_jv_put(r, out, tn_jv_str(a->names[i]), a->named[i]);
}

GLOBAL(make_dict) {
  tn_jv out = tn_jv_dict_new(r);
  (void)self;
  put_all(r, out, a);
  return out;
}

GLOBAL(make_namespace) {
  tn_jv out = make_dict(r, self, a);
  if (r->status) return out;
  out.kind = TN_JV_NAMESPACE;
  for (uint32_t i = 0; i < out.u.dict->count; i++)
    if (out.u.dict->keys[i].kind == TN_JV_STR && tn_str_starts(out.u.dict->keys[i].u.s, "_"))
      return tn_jinja_fail(r, "a namespace keeps no attribute that begins with _");
  return out;
}

static tn_jv make_state(tn_jinja_run *r, tn_jv_kind kind, const tn_jinja_args *a, const char *fallback) {
  tn_jv items = tn_jv_list_new(r, TN_JV_LIST, a->count + 1);
  for (uint32_t i = 0; i < a->count; i++) tn_jv_push(r, items, a->items[i]);
  if (!a->count && fallback) tn_jv_push(r, items, a->nnamed ? a->named[0] : tn_jv_str(tn_str_of(fallback)));
  tn_jv_state *s = tn_jinja_alloc(r, sizeof *s);
  if (!s || r->status) return tn_jv_none();
  if (!items.u.list->count) return tn_jinja_fail(r, "no items to go through in turn");
  s->items = items.u.list;
  return (tn_jv){kind, {.state = s}};
}
GLOBAL(make_cycler) { return (void)self, make_state(r, TN_JV_CYCLER, a, NULL); }
GLOBAL(make_joiner) { return (void)self, make_state(r, TN_JV_JOINER, a, ", "); }

GLOBAL(raise_exception) {
  (void)self;
  tn_jv words = tn_jv_text(r, tn_jinja_arg(a, 0, "message"));
  if (r->status) return words;
  return tn_jinja_fail(r, "the template refuses: %.*s", (int)(words.u.s.len > 500 ? 500 : words.u.s.len),
                       words.u.s.ptr);
}

GLOBAL(strftime_now) {
  (void)self;
  tn_str format = tn_jinja_str_arg(r, a, 0, "format", "");
  char *text = tn_arena_str(&r->arena, format), out[512];
  time_t now = r->limits.now ? (time_t)r->limits.now : time(NULL);
  struct tm when;
  if (!text) return tn_jinja_oom(r);
  if (r->status || !format.len || !localtime_r(&now, &when)) return tn_jv_str(TN_STR(""));
  size_t n = strftime(out, sizeof out, text, &when);
  return n ? tn_jv_copy(r, (tn_str){out, n}) : tn_jinja_fail(r, "strftime_now: '%.60s' gives no text", text);
}

tn_jv tn_jinja_global(tn_jinja_run *r, tn_str name) {
  static const tn_jv_function known[] = {{.name = "range", .call = range},
                                         {.name = "dict", .call = make_dict},
                                         {.name = "namespace", .call = make_namespace},
                                         {.name = "cycler", .call = make_cycler},
                                         {.name = "joiner", .call = make_joiner},
                                         {.name = "raise_exception", .call = raise_exception},
                                         {.name = "strftime_now", .call = strftime_now}};
  (void)r;
  for (size_t i = 0; i < TN_COUNT(known); i++)
    if (tn_str_is(name, known[i].name)) return (tn_jv){TN_JV_FUNCTION, {.function = &known[i]}};
  return tn_jv_undefined(NULL);
}

/* ---- "%s" % value ---------------------------------------------------------------------------- */
typedef struct formatter {
  tn_jinja_run *r;
  tn_str s;
  uint64_t at;
  tn_jv values;
  uint32_t next; /* value of a tuple */
  tn_buf out;
} formatter;

static tn_jv next_value(formatter *f) {
  if (f->at < f->s.len && f->s.ptr[f->at] == '(') {
    const char *end = memchr(f->s.ptr + f->at, ')', f->s.len - f->at);
    tn_jv key = tn_jv_str((tn_str){f->s.ptr + f->at + 1, end ? (uint64_t)(end - f->s.ptr) - f->at - 1 : 0}),
          v;
    if (!end || f->values.kind != TN_JV_DICT || !tn_jv_get(f->r, f->values, key, &v))
      return tn_jinja_fail(f->r, "'%%(...)': there is no value of that name");
    f->at = (uint64_t)(end - f->s.ptr) + 1;
    return v;
  }
  bool tuple = f->values.kind == TN_JV_TUPLE;
  if (f->next >= (tuple ? f->values.u.list->count : 1))
    return tn_jinja_fail(f->r, "there are more %% than values");
  return tuple ? f->values.u.list->items[f->next++] : (f->next++, f->values);
}

/* Flags, width and precision, copied for printf: at most a few digits. */
static bool read_spec(formatter *f, char spec[24]) {
  uint32_t n = 0;
  spec[n++] = '%';
  while (f->at < f->s.len && f->s.ptr[f->at] && strchr("-+ #0123456789.", f->s.ptr[f->at]) && n < 12)
    spec[n++] = f->s.ptr[f->at++];
  spec[n] = 0;
  for (const char *p = spec; *p; p++) {
    size_t digits = strspn(p, "0123456789");
    if (digits > 4) return false;
    if (digits) p += digits - 1;
  }
  return true;
}

static void put_number(formatter *f, char spec[24], char kind, tn_jv v) {
  size_t n = strlen(spec);
  bool whole = kind == 'd' || kind == 'i' || kind == 'u' || kind == 'x' || kind == 'X' || kind == 'o';
  if (!tn_jv_is_number(v)) {
    tn_jinja_fail(f->r, "%%%c needs a number, not a %s", kind, tn_jv_type(v));
  } else if (whole) {
    int64_t i = v.kind == TN_JV_REAL ? (int64_t)v.u.r : tn_jv_whole(v);
    snprintf(spec + n, 24 - n, "ll%c", kind == 'u' ? 'd' : kind);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    tn_buf_printf(&f->out, spec, (long long)i);
  } else {
    snprintf(spec + n, 24 - n, "%c", kind);
    tn_buf_printf(&f->out, spec, tn_jv_double(v));
#pragma GCC diagnostic pop
  }
}

static void put_text(formatter *f, const char *spec, tn_jv v, bool repr) {
  tn_buf text = {0};
  if (repr)
    tn_jv_repr(f->r, &text, v, 0);
  else
    tn_jv_print(f->r, &text, v);
  bool left = strchr(spec, '-');
  const char *dot = strchr(spec, '.');
  int64_t width = strtol(spec + strspn(spec, "%-+ #0"), NULL, 10),
          most = dot ? strtol(dot + 1, NULL, 10) : -1;
  tn_str s = {text.text, text.len};
  if (most >= 0) s.len = tn_jinja_offset(s, most);
  int64_t room = width - tn_jinja_chars(s);
  if (!left && room > 0) tn_buf_printf(&f->out, "%*s", (int)room, "");
  tn_buf_put(&f->out, s.ptr, s.len);
  if (left && room > 0) tn_buf_printf(&f->out, "%*s", (int)room, "");
  tn_buf_fini(&text);
}

static void put_directive(formatter *f) {
  char spec[24], kind;
  if (f->at < f->s.len && f->s.ptr[f->at] == '%') {
    tn_buf_puts(&f->out, "%");
    f->at++;
    return;
  }
  tn_jv v = next_value(f);
  if (f->r->status) return;
  if (!read_spec(f, spec) || f->at >= f->s.len) {
    tn_jinja_fail(f->r, "a %% in the text is incomplete");
    return;
  }
  kind = f->s.ptr[f->at++];
  if (kind == 's' || kind == 'r')
    put_text(f, spec, v, kind == 'r');
  else if (kind && strchr("diuxXofFeEgG", kind))
    put_number(f, spec, kind, v);
  else
    tn_jinja_fail(f->r, "'%%%c' is not supported", kind);
}

tn_jv tn_jinja_format(tn_jinja_run *r, tn_str format, tn_jv values) {
  formatter f = {.r = r, .s = format, .values = values};
  while (f.at < f.s.len && tn_jinja_step(r, 1)) {
    const char *mark = memchr(f.s.ptr + f.at, '%', f.s.len - f.at);
    uint64_t end = mark ? (uint64_t)(mark - f.s.ptr) : f.s.len;
    tn_buf_put(&f.out, f.s.ptr + f.at, end - f.at);
    f.at = end + (mark != NULL);
    if (mark) put_directive(&f);
  }
  if (values.kind == TN_JV_TUPLE ? f.next < values.u.list->count
                                 : !f.next && values.kind != TN_JV_DICT && values.kind != TN_JV_LIST)
    tn_jinja_fail(r, "not all values are used by the text");
  return tn_jv_take(r, &f.out);
}
