/* jinja_lists.c - filters of lists: choosing, mapping, sorting, joining. What jinja2 gives as a generator is
 * a list here. */
#include "frontend/chat/jinja.h"

#define FILTER(name) tn_jv tn_jinja_filter_##name(tn_jinja_run *r, tn_jv v, const tn_jinja_args *a)
#define TN_JINJA_FILTER(name, id) tn_jinja_function tn_jinja_filter_##id;
#include "frontend/chat/filters.def"

static tn_jv new_list(tn_jinja_run *r) { return tn_jv_list_new(r, TN_JV_LIST, 0); }

/* a.b.0 of a value; `name` undefined: the value itself. */
static tn_jv part_of(tn_jinja_run *r, tn_jv v, tn_jv name) {
  if (tn_jv_is_whole(name)) return tn_jinja_item(r, v, name);
  if (name.kind != TN_JV_STR) return v;
  for (uint64_t at = 0; at <= name.u.s.len && !r->status;) {
    const char *dot = memchr(name.u.s.ptr + at, '.', name.u.s.len - at);
    tn_str word = {name.u.s.ptr + at, dot ? (uint64_t)(dot - name.u.s.ptr) - at : name.u.s.len - at};
    int64_t index = 0;
    bool digits = word.len > 0 && word.len < 10;
    for (uint64_t i = 0; i < word.len && digits; i++) {
      digits = word.ptr[i] >= '0' && word.ptr[i] <= '9';
      if (digits) index = index * 10 + word.ptr[i] - '0';
    }
    v = tn_jinja_item(r, v, digits ? tn_jv_int(index) : tn_jv_str(word));
    at += word.len + 1;
  }
  return v;
}

/* ---- choosing and mapping -------------------------------------------------------------------- */
/* The arguments behind the first `skip`. */
static tn_jinja_args rest_of(const tn_jinja_args *a, uint32_t skip) {
  tn_jinja_args rest = *a;
  if (skip > rest.count) skip = rest.count;
  rest.items = rest.items ? rest.items + skip : NULL;
  rest.count -= skip;
  return rest;
}

/* `attr`: the first argument names a part of each item; then comes the test. */
static tn_jv choose(tn_jinja_run *r, tn_jv v, const tn_jinja_args *a, bool attr, bool keep) {
  tn_jv out = new_list(r), name = attr ? tn_jinja_arg(a, 0, NULL) : tn_jv_undefined(NULL);
  if (attr && !tn_jinja_given(name)) return tn_jinja_fail(r, "the name of an attribute is missing");
  tn_jv test = tn_jinja_arg(a, attr, NULL);
  tn_jinja_args rest = rest_of(a, attr + 1u);
  if (tn_jinja_given(test) && test.kind != TN_JV_STR)
    return tn_jinja_fail(r, "the name of a test is no string");
  const tn_jv_list *l = tn_jv_items(r, v);
  for (uint32_t i = 0; i < l->count && tn_jinja_step(r, 1); i++) {
    tn_jv x = part_of(r, l->items[i], name);
    bool is = test.kind == TN_JV_STR ? tn_jinja_test(r, test.u.s, x, &rest) : tn_jv_true(x);
    if (is == keep) tn_jv_push(r, out, l->items[i]);
  }
  return out;
}
FILTER(select) { return choose(r, v, a, false, true); }
FILTER(reject) { return choose(r, v, a, false, false); }
FILTER(selectattr) { return choose(r, v, a, true, true); }
FILTER(rejectattr) { return choose(r, v, a, true, false); }

FILTER(map) {
  tn_jv out = new_list(r), attribute = tn_jinja_arg(a, UINT32_MAX, "attribute");
  tn_jv otherwise = tn_jinja_arg(a, UINT32_MAX, "default"), name = tn_jinja_arg(a, 0, NULL);
  tn_jinja_args rest = rest_of(a, 1);
  bool attr = !a->count && tn_jinja_given(attribute);
  if (!attr && name.kind != TN_JV_STR) return tn_jinja_fail(r, "map needs a filter's name or an attribute");
  const tn_jv_list *l = tn_jv_items(r, v);
  for (uint32_t i = 0; i < l->count && tn_jinja_step(r, 1); i++) {
    tn_jv x = attr ? part_of(r, l->items[i], attribute) : tn_jinja_filter(r, name.u.s, l->items[i], &rest);
    if (attr && x.kind == TN_JV_UNDEFINED && tn_jinja_given(otherwise)) x = otherwise;
    tn_jv_push(r, out, x);
  }
  return out;
}

/* ---- ends and orders ------------------------------------------------------------------------- */
FILTER(first) {
  const tn_jv_list *l = tn_jv_items(r, v);
  (void)a;
  return l->count ? l->items[0] : tn_jv_undefined("there is no first item: the list is empty");
}
FILTER(last) {
  const tn_jv_list *l = tn_jv_items(r, v);
  (void)a;
  return l->count ? l->items[l->count - 1] : tn_jv_undefined("there is no last item: the list is empty");
}

static tn_jv copied(tn_jinja_run *r, tn_jv v) {
  tn_jv out = new_list(r);
  const tn_jv_list *l = tn_jv_items(r, v);
  for (uint32_t i = 0; i < l->count && !r->status; i++) tn_jv_push(r, out, l->items[i]);
  return out;
}
FILTER(list) { return (void)a, copied(r, v); }

FILTER(reverse) {
  tn_jv out = new_list(r);
  const tn_jv_list *l = tn_jv_items(r, v);
  tn_buf text = {0};
  (void)a;
  for (uint32_t i = l->count; i-- > 0 && !r->status;) {
    if (v.kind == TN_JV_STR)
      tn_buf_put(&text, l->items[i].u.s.ptr, l->items[i].u.s.len);
    else
      tn_jv_push(r, out, l->items[i]);
  }
  return v.kind == TN_JV_STR ? tn_jv_take(r, &text) : out;
}

FILTER(items) {
  tn_jv out = new_list(r);
  (void)a;
  if (v.kind == TN_JV_UNDEFINED) return out;
  if (v.kind != TN_JV_DICT) return tn_jinja_fail(r, "a %s has no items", tn_jv_type(v));
  for (uint32_t i = 0; i < v.u.dict->count && !r->status; i++) {
    tn_jv pair = tn_jv_list_new(r, TN_JV_TUPLE, 2);
    tn_jv_push(r, pair, v.u.dict->keys[i]);
    tn_jv_push(r, pair, v.u.dict->values[i]);
    tn_jv_push(r, out, pair);
  }
  return out;
}

/* What an item is compared by: a part of it ("a,b": several), without case unless that counts. */
static tn_jv key_of(tn_jinja_run *r, tn_jv v, tn_jv name, bool cased) {
  if (name.kind == TN_JV_STR && memchr(name.u.s.ptr, ',', name.u.s.len)) {
    tn_jv all = tn_jv_list_new(r, TN_JV_TUPLE, 0);
    for (uint64_t at = 0; at <= name.u.s.len && !r->status;) {
      const char *comma = memchr(name.u.s.ptr + at, ',', name.u.s.len - at);
      uint64_t n = comma ? (uint64_t)(comma - name.u.s.ptr) - at : name.u.s.len - at;
      tn_jv_push(r, all, key_of(r, v, tn_jv_str((tn_str){name.u.s.ptr + at, n}), cased));
      at += n + 1;
    }
    return all;
  }
  v = part_of(r, v, name);
  return v.kind == TN_JV_STR && !cased ? tn_jinja_recase(r, v.u.s, TN_CASE_LOWER) : v;
}

/* Stable merge sort of `n` items by their keys; both lists have room for 2 n. */
static void sort_keyed(tn_jinja_run *r, tn_jv *items, tn_jv *keys, uint32_t n, bool reverse) {
  for (uint32_t width = 1; width < n && !r->status; width *= 2) {
    for (uint32_t at = 0; at < n && !r->status; at += 2 * width) {
      uint32_t i = at, mid = at + width < n ? at + width : n, k = mid,
               end = at + 2 * width < n ? at + 2 * width : n;
      for (uint32_t to = at; to < end && !r->status; to++) {
        int order = i < mid && k < end ? tn_jv_order(r, keys[k], keys[i]) : 0;
        bool right = i >= mid || (k < end && (reverse ? order > 0 : order < 0));
        uint32_t from = right ? k++ : i++;
        items[n + to] = items[from];
        keys[n + to] = keys[from];
      }
    }
    if (r->status) return;
    memcpy(items, items + n, n * sizeof *items);
    memcpy(keys, keys + n, n * sizeof *keys);
  }
}

static tn_jv sorted(tn_jinja_run *r, const tn_jv_list *l, tn_jv name, bool cased, bool reverse) {
  tn_jv out = tn_jv_list_new(r, TN_JV_LIST, 2 * l->count + 1);
  tn_jv *keys = tn_jinja_alloc(r, (2 * (uint64_t)l->count + 1) * sizeof *keys);
  if (!keys || r->status) return out;
  for (uint32_t i = 0; i < l->count && !r->status; i++) {
    tn_jv_push(r, out, l->items[i]);
    keys[i] = key_of(r, l->items[i], name, cased);
  }
  if (!r->status) sort_keyed(r, out.u.list->items, keys, l->count, reverse);
  return out;
}

FILTER(sort) {
  bool reverse = tn_jinja_bool_arg(a, 0, "reverse", false),
       cased = tn_jinja_bool_arg(a, 1, "case_sensitive", false);
  return sorted(r, tn_jv_items(r, v), tn_jinja_arg(a, 2, "attribute"), cased, reverse);
}

FILTER(dictsort) {
  bool cased = tn_jinja_bool_arg(a, 0, "case_sensitive", false),
       reverse = tn_jinja_bool_arg(a, 2, "reverse", false);
  tn_str by = tn_jinja_str_arg(r, a, 1, "by", "key");
  if (!r->status && !tn_str_is(by, "key") && !tn_str_is(by, "value"))
    return tn_jinja_fail(r, "can only sort by key or value");
  tn_jinja_args none = {0};
  tn_jv pairs = tn_jinja_filter_items(r, v, &none);
  if (r->status) return pairs;
  return sorted(r, pairs.u.list, tn_jv_int(tn_str_is(by, "value")), cased, reverse);
}

static tn_jv extreme(tn_jinja_run *r, tn_jv v, const tn_jinja_args *a, int sign) {
  bool cased = tn_jinja_bool_arg(a, 0, "case_sensitive", false);
  tn_jv name = tn_jinja_arg(a, 1, "attribute"), best_key = tn_jv_none();
  const tn_jv_list *l = tn_jv_items(r, v);
  tn_jv best = tn_jv_undefined("there is no item: the list is empty");
  for (uint32_t i = 0; i < l->count && !r->status; i++) {
    tn_jv key = key_of(r, l->items[i], name, cased);
    if (i && tn_jv_order(r, key, best_key) * sign <= 0) continue;
    best = l->items[i];
    best_key = key;
  }
  return best;
}
FILTER(max) { return extreme(r, v, a, 1); }
FILTER(min) { return extreme(r, v, a, -1); }

FILTER(unique) {
  bool cased = tn_jinja_bool_arg(a, 0, "case_sensitive", false);
  tn_jv name = tn_jinja_arg(a, 1, "attribute"), out = new_list(r), keys = new_list(r);
  const tn_jv_list *l = tn_jv_items(r, v);
  for (uint32_t i = 0; i < l->count && !r->status; i++) {
    tn_jv key = key_of(r, l->items[i], name, cased);
    bool known = r->status != TN_OK;
    for (uint32_t k = 0; !known && k < keys.u.list->count; k++)
      known = tn_jv_equal(r, keys.u.list->items[k], key);
    if (known) continue;
    tn_jv_push(r, keys, key);
    tn_jv_push(r, out, l->items[i]);
  }
  return out;
}

/* Pairs of a key and the items that have it, by key. */
FILTER(groupby) {
  bool cased = tn_jinja_bool_arg(a, 2, "case_sensitive", false);
  tn_jv name = tn_jinja_arg(a, 0, "attribute"), otherwise = tn_jinja_arg(a, 1, "default"), out = new_list(r);
  tn_jv all = sorted(r, tn_jv_items(r, v), name, cased, false), last = tn_jv_none(), group = tn_jv_none();
  for (uint32_t i = 0; !r->status && i < all.u.list->count; i++) {
    tn_jv x = all.u.list->items[i], shown = part_of(r, x, name), key = key_of(r, x, name, cased);
    if (shown.kind == TN_JV_UNDEFINED && tn_jinja_given(otherwise)) shown = otherwise;
    if (!i || !tn_jv_equal(r, key, last)) {
      tn_jv pair = tn_jv_list_new(r, TN_JV_TUPLE, 2);
      group = new_list(r);
      tn_jv_push(r, pair, shown);
      tn_jv_push(r, pair, group);
      tn_jv_push(r, out, pair);
    }
    last = key;
    tn_jv_push(r, group, x);
  }
  return out;
}

/* ---- joining and cutting --------------------------------------------------------------------- */
FILTER(join) {
  tn_jv between = tn_jv_text(r, tn_jinja_arg(a, 0, "d")), name = tn_jinja_arg(a, 1, "attribute");
  const tn_jv_list *l = tn_jv_items(r, v);
  tn_buf out = {0};
  for (uint32_t i = 0; i < l->count && tn_jinja_step(r, 1); i++) {
    if (i && between.kind == TN_JV_STR) tn_buf_put(&out, between.u.s.ptr, between.u.s.len);
    tn_jv_print(r, &out, part_of(r, l->items[i], name));
    if (out.len > r->limits.memory) tn_jinja_fail(r, "a text is longer than the limit of memory");
  }
  return tn_jv_take(r, &out);
}

FILTER(sum) {
  tn_jv name = tn_jinja_arg(a, 0, "attribute"), total = tn_jinja_arg(a, 1, "start");
  const tn_jv_list *l = tn_jv_items(r, v);
  if (!tn_jinja_given(total)) total = tn_jv_int(0);
  for (uint32_t i = 0; i < l->count && tn_jinja_step(r, 1); i++)
    total = tn_jinja_binary(r, TN_OP_ADD, total, part_of(r, l->items[i], name));
  return total;
}

FILTER(batch) {
  int64_t size = tn_jinja_int_arg(r, a, 0, "linecount", 0);
  tn_jv fill = tn_jinja_arg(a, 1, "fill_with"), out = new_list(r), row = tn_jv_none();
  const tn_jv_list *l = tn_jv_items(r, v);
  if (size < 1 && !r->status) return tn_jinja_fail(r, "cannot cut into pieces of %lld", (long long)size);
  for (uint32_t i = 0; i < l->count && !r->status; i++) {
    if (i % size == 0) tn_jv_push(r, out, row = new_list(r));
    tn_jv_push(r, row, l->items[i]);
  }
  bool fills = tn_jinja_given(fill) && fill.kind != TN_JV_NONE && l->count;
  while (fills && !r->status && row.u.list->count < size) tn_jv_push(r, row, fill);
  return out;
}

FILTER(slice) {
  int64_t n = tn_jinja_int_arg(r, a, 0, "slices", 0), at = 0;
  tn_jv fill = tn_jinja_arg(a, 1, "fill_with"), out = new_list(r);
  const tn_jv_list *l = tn_jv_items(r, v);
  if ((n < 1 || n > TN_JINJA_RANGE_MAX) && !r->status)
    return tn_jinja_fail(r, "cannot cut into %lld pieces", (long long)n);
  for (int64_t i = 0; i < n && !r->status; i++) {
    tn_jv row = new_list(r);
    int64_t size = l->count / n + (i < l->count % n);
    for (int64_t k = 0; k < size; k++) tn_jv_push(r, row, l->items[at++]);
    if (tn_jinja_given(fill) && fill.kind != TN_JV_NONE && l->count % n && i >= l->count % n)
      tn_jv_push(r, row, fill);
    tn_jv_push(r, out, row);
  }
  return out;
}
