/* jinja_value.c - values: making them, and Python's rules for truth, equality, order and iteration. */
#include "frontend/chat/jinja.h"

/* ---- making ---------------------------------------------------------------------------------- */
tn_jv tn_jv_copy(tn_jinja_run *r, tn_str s) {
  char *p = tn_jinja_alloc(r, s.len + 1);
  if (!p) return tn_jv_undefined(NULL);
  if (s.len) memcpy(p, s.ptr, s.len);
  return tn_jv_str((tn_str){p, s.len});
}

tn_jv tn_jv_take(tn_jinja_run *r, tn_buf *b) {
  tn_jv v = b->failed ? tn_jinja_oom(r) : tn_jv_copy(r, (tn_str){b->text, b->len});
  tn_buf_fini(b);
  return v;
}

tn_jv tn_jv_list_new(tn_jinja_run *r, tn_jv_kind kind, uint32_t room) {
  tn_jv_list *l = tn_jinja_alloc(r, sizeof *l);
  if (l && room) l->items = tn_jinja_alloc(r, (uint64_t)room * sizeof *l->items);
  if (!l || (room && !l->items)) return tn_jv_undefined(NULL);
  l->room = room;
  return (tn_jv){kind, {.list = l}};
}

void tn_jv_push(tn_jinja_run *r, tn_jv list, tn_jv item) {
  if (!tn_jv_is_seq(list)) return; /* failed before */
  tn_jv_list *l = list.u.list;
  if (l->count == l->room) {
    uint32_t room = l->room ? 2 * l->room : 4;
    tn_jv *items = tn_jinja_alloc(r, (uint64_t)room * sizeof *items);
    if (!items) return;
    if (l->count) memcpy(items, l->items, l->count * sizeof *items);
    l->items = items;
    l->room = room;
  }
  l->items[l->count++] = item;
}

tn_jv tn_jv_dict_new(tn_jinja_run *r) {
  tn_jv_dict *d = tn_jinja_alloc(r, sizeof *d);
  return d ? (tn_jv){TN_JV_DICT, {.dict = d}} : tn_jv_undefined(NULL);
}

static bool same_key(tn_jinja_run *r, tn_jv a, tn_jv b) {
  if (a.kind == TN_JV_STR && b.kind == TN_JV_STR) return tn_str_eq(a.u.s, b.u.s);
  return tn_jv_equal(r, a, b);
}

static int64_t place_of(tn_jinja_run *r, const tn_jv_dict *d, tn_jv key) {
  if (!tn_jinja_step(r, d->count / 16 + 1)) return -1;
  for (uint32_t i = 0; i < d->count; i++)
    if (same_key(r, d->keys[i], key)) return i;
  return -1;
}

static bool hashable(tn_jv v) {
  if (v.kind == TN_JV_TUPLE) {
    for (uint32_t i = 0; i < v.u.list->count; i++)
      if (!hashable(v.u.list->items[i])) return false;
  }
  return v.kind != TN_JV_LIST && v.kind != TN_JV_DICT;
}

static void append(tn_jinja_run *r, tn_jv_dict *d, tn_jv key, tn_jv value) {
  if (d->count == d->room) {
    uint32_t room = d->room ? 2 * d->room : 8;
    tn_jv *both = tn_jinja_alloc(r, 2 * (uint64_t)room * sizeof *both);
    if (!both) return;
    if (d->count) {
      memcpy(both, d->keys, d->count * sizeof *both);
      memcpy(both + room, d->values, d->count * sizeof *both);
    }
    d->keys = both;
    d->values = both + room;
    d->room = room;
  }
  d->keys[d->count] = key;
  d->values[d->count++] = value;
}

void tn_jv_put(tn_jinja_run *r, tn_jv dict, tn_jv key, tn_jv value) {
  if (dict.kind != TN_JV_DICT && dict.kind != TN_JV_NAMESPACE) return;
  if (!hashable(key)) {
    tn_jinja_fail(r, "a %s cannot be a key", tn_jv_type(key));
    return;
  }
  int64_t i = place_of(r, dict.u.dict, key);
  if (i >= 0)
    dict.u.dict->values[i] = value;
  else
    append(r, dict.u.dict, key, value);
}

bool tn_jv_get(tn_jinja_run *r, tn_jv dict, tn_jv key, tn_jv *out) {
  int64_t i = place_of(r, dict.u.dict, key);
  if (i >= 0) *out = dict.u.dict->values[i];
  return i >= 0;
}

bool tn_jv_get_str(tn_jv dict, tn_str key, tn_jv *out) {
  for (uint32_t i = 0; i < dict.u.dict->count; i++) {
    tn_jv k = dict.u.dict->keys[i];
    if (k.kind == TN_JV_STR && tn_str_eq(k.u.s, key)) return *out = dict.u.dict->values[i], true;
  }
  return false;
}

/* Strings stay where the JSON has them. */
tn_jv tn_jv_from_json(tn_jinja_run *r, const tn_json *j) {
  tn_jv v;
  if (!tn_jinja_step(r, 1)) return tn_jv_undefined(NULL);
  switch (j->kind) {
  case TN_JSON_NULL: return tn_jv_none();
  case TN_JSON_BOOL: return tn_jv_bool(j->u.b);
  case TN_JSON_INT: return tn_jv_int(j->u.i);
  case TN_JSON_REAL: return tn_jv_real(j->u.r);
  case TN_JSON_STRING: return tn_jv_str(j->u.s);
  case TN_JSON_LIST:
    v = tn_jv_list_new(r, TN_JV_LIST, j->count);
    for (uint32_t i = 0; i < j->count && !r->status; i++)
      tn_jv_push(r, v, tn_jv_from_json(r, &j->u.items[i]));
    return v;
  case TN_JSON_OBJECT:
    v = tn_jv_dict_new(r);
    for (uint32_t i = 0; i < j->count && !r->status; i++) /* keys differ, the parser saw to it */
      append(r, v.u.dict, tn_jv_str(tn_str_of(j->u.items[i].key)), tn_jv_from_json(r, &j->u.items[i]));
    return v;
  }
  return tn_jv_none();
}

/* ---- rules ----------------------------------------------------------------------------------- */
const char *tn_jv_type(tn_jv v) {
  static const char *const names[] = {"undefined", "NoneType", "bool",     "int",    "float",
                                      "str",       "list",     "tuple",    "dict",   "namespace",
                                      "macro",     "loop",     "function", "cycler", "joiner"};
  return names[v.kind];
}

bool tn_jv_true(tn_jv v) {
  switch (v.kind) {
  case TN_JV_UNDEFINED:
  case TN_JV_NONE: return false;
  case TN_JV_BOOL: return v.u.b;
  case TN_JV_INT: return v.u.i != 0;
  case TN_JV_REAL: return v.u.r != 0;
  case TN_JV_STR: return v.u.s.len > 0;
  case TN_JV_LIST:
  case TN_JV_TUPLE: return v.u.list->count > 0;
  case TN_JV_DICT: return v.u.dict->count > 0;
  default: return true;
  }
}

static bool equal_lists(tn_jinja_run *r, const tn_jv_list *a, const tn_jv_list *b) {
  if (a->count != b->count) return false;
  for (uint32_t i = 0; i < a->count && !r->status; i++)
    if (!tn_jv_equal(r, a->items[i], b->items[i])) return false;
  return true;
}

static bool equal_dicts(tn_jinja_run *r, tn_jv a, tn_jv b) {
  if (a.u.dict->count != b.u.dict->count) return false;
  for (uint32_t i = 0; i < a.u.dict->count && !r->status; i++) {
    tn_jv other;
    if (!tn_jv_get(r, b, a.u.dict->keys[i], &other) || !tn_jv_equal(r, a.u.dict->values[i], other))
      return false;
  }
  return true;
}

static bool equal_numbers(tn_jv a, tn_jv b) {
  if (a.kind == TN_JV_REAL || b.kind == TN_JV_REAL) return tn_jv_double(a) == tn_jv_double(b);
  return tn_jv_whole(a) == tn_jv_whole(b);
}

static bool equal(tn_jinja_run *r, tn_jv a, tn_jv b) {
  if (tn_jv_is_number(a) && tn_jv_is_number(b)) return equal_numbers(a, b);
  if (a.kind != b.kind) return false;
  switch (a.kind) {
  case TN_JV_UNDEFINED:
  case TN_JV_NONE: return true;
  case TN_JV_STR: return tn_str_eq(a.u.s, b.u.s);
  case TN_JV_LIST:
  case TN_JV_TUPLE: return equal_lists(r, a.u.list, b.u.list);
  case TN_JV_DICT: return equal_dicts(r, a, b);
  default: return a.u.dict == b.u.dict; /* the same object */
  }
}

bool tn_jv_equal(tn_jinja_run *r, tn_jv a, tn_jv b) {
  if (!tn_jinja_step(r, 1)) return false;
  if (r->depth >= TN_JINJA_DEPTH_MAX) return tn_jinja_fail(r, "values are nested too deep"), false;
  r->depth++;
  bool same = equal(r, a, b);
  r->depth--;
  return same;
}

static int order_lists(tn_jinja_run *r, const tn_jv_list *a, const tn_jv_list *b) {
  for (uint32_t i = 0; i < a->count && i < b->count && !r->status; i++)
    if (!tn_jv_equal(r, a->items[i], b->items[i])) return tn_jv_order(r, a->items[i], b->items[i]);
  return (a->count > b->count) - (a->count < b->count);
}

static int order_strings(tn_str a, tn_str b) { /* UTF-8 keeps the order of code points */
  uint64_t n = a.len < b.len ? a.len : b.len;
  int order = n ? memcmp(a.ptr, b.ptr, n) : 0;
  return order ? order : (a.len > b.len) - (a.len < b.len);
}

int tn_jv_order(tn_jinja_run *r, tn_jv a, tn_jv b) {
  if (!tn_jinja_step(r, 1)) return 0;
  if (tn_jv_is_number(a) && tn_jv_is_number(b)) {
    if (a.kind != TN_JV_REAL && b.kind != TN_JV_REAL)
      return (tn_jv_whole(a) > tn_jv_whole(b)) - (tn_jv_whole(a) < tn_jv_whole(b));
    return (tn_jv_double(a) > tn_jv_double(b)) - (tn_jv_double(a) < tn_jv_double(b));
  }
  if (a.kind == TN_JV_STR && b.kind == TN_JV_STR) return order_strings(a.u.s, b.u.s);
  if (a.kind == b.kind && tn_jv_is_seq(a) && r->depth < TN_JINJA_DEPTH_MAX) {
    r->depth++;
    int order = order_lists(r, a.u.list, b.u.list);
    r->depth--;
    return order;
  }
  if (a.kind == TN_JV_UNDEFINED || b.kind == TN_JV_UNDEFINED)
    tn_jinja_fail(r, "%s",
                  a.kind == TN_JV_UNDEFINED && a.u.s.ptr ? a.u.s.ptr
                  : b.u.s.ptr                            ? b.u.s.ptr
                                                         : "undefined");
  else
    tn_jinja_fail(r, "%s and %s have no order", tn_jv_type(a), tn_jv_type(b));
  return 0;
}

/* ---- iteration ------------------------------------------------------------------------------- */
bool tn_jv_iterable(tn_jv v) {
  return v.kind == TN_JV_UNDEFINED || v.kind == TN_JV_STR || tn_jv_is_seq(v) || v.kind == TN_JV_DICT ||
         v.kind == TN_JV_LOOP;
}

static tn_jv_list *characters(tn_jinja_run *r, tn_str s) {
  tn_jv l = tn_jv_list_new(r, TN_JV_LIST, (uint32_t)tn_jinja_chars(s));
  for (uint64_t i = 0, start; i < s.len && tn_jinja_step(r, 1);) {
    start = i;
    tn_jinja_char(s, &i);
    tn_jv_push(r, l, tn_jv_str((tn_str){s.ptr + start, i - start}));
  }
  return tn_jv_is_seq(l) ? l.u.list : NULL;
}

tn_jv_list *tn_jv_items(tn_jinja_run *r, tn_jv v) {
  static tn_jv_list nothing; /* never written */
  tn_jv_list *l = NULL;
  if (v.kind == TN_JV_STR)
    l = characters(r, v.u.s);
  else if (tn_jv_is_seq(v))
    l = v.u.list;
  else if (v.kind == TN_JV_LOOP)
    l = v.u.loop->items;
  else if (v.kind == TN_JV_DICT && (l = tn_jinja_alloc(r, sizeof *l)))
    *l = (tn_jv_list){v.u.dict->keys, v.u.dict->count, v.u.dict->count};
  else if (v.kind != TN_JV_UNDEFINED && v.kind != TN_JV_DICT)
    tn_jinja_fail(r, "a %s is not iterable", tn_jv_type(v));
  return l ? l : &nothing;
}

int64_t tn_jv_length(tn_jinja_run *r, tn_jv v) {
  switch (v.kind) {
  case TN_JV_UNDEFINED: return 0;
  case TN_JV_STR: return tn_jinja_chars(v.u.s);
  case TN_JV_LIST:
  case TN_JV_TUPLE: return v.u.list->count;
  case TN_JV_DICT: return v.u.dict->count;
  case TN_JV_LOOP: return v.u.loop->items->count;
  default: tn_jinja_fail(r, "a %s has no length", tn_jv_type(v)); return 0;
  }
}
