/* jinja_eval.c - expressions: names, attributes, operators and calls, with Python's rules for values. */
#include "frontend/chat/jinja.h"
#include <math.h>

/* ---- the run --------------------------------------------------------------------------------- */
tn_jv tn_jinja_fail(tn_jinja_run *r, const char *fmt, ...) {
  if (!r->status) {
    va_list ap;
    tn_buf text = {0};
    va_start(ap, fmt);
    tn_buf_vprintf(&text, fmt, ap);
    va_end(ap);
    r->status = TN_INVALID;
    r->words = tn_arena_str(&r->arena, tn_str_of(tn_buf_cstr(&text)));
    r->at = r->now ? r->now->at : 0;
    tn_buf_fini(&text);
  }
  return tn_jv_undefined(NULL);
}

tn_jv tn_jinja_oom(tn_jinja_run *r) {
  if (!r->status) r->status = TN_OOM;
  return tn_jv_undefined(NULL);
}

bool tn_jinja_step(tn_jinja_run *r, uint64_t n) {
  uint64_t before = r->steps;
  if (r->status) return false;
  r->steps += n;
  if (r->steps > r->limits.steps)
    tn_jinja_fail(r, "the template takes more than %llu steps", (unsigned long long)r->limits.steps);
  else if (before >> 12 != r->steps >> 12 && tn_now() > r->deadline)
    tn_jinja_fail(r, "the template takes longer than %g seconds", r->limits.seconds);
  return !r->status;
}

void *tn_jinja_alloc(tn_jinja_run *r, uint64_t bytes) {
  uint64_t need;
  if (r->status) return NULL;
  if (!tn_add_u64(r->arena.used, bytes, &need) || need > r->limits.memory) {
    tn_jinja_fail(r, "the template needs more than %llu MiB for its values",
                  (unsigned long long)(r->limits.memory >> 20));
    return NULL;
  }
  if (!tn_jinja_step(r, bytes / 4096)) return NULL;
  void *p = tn_arena_alloc(&r->arena, bytes ? bytes : 1);
  if (!p) tn_jinja_oom(r);
  return p;
}

void tn_jinja_write(tn_jinja_run *r, tn_str s) {
  r->written += s.len;
  if (r->written > r->limits.output)
    tn_jinja_fail(r, "the template writes more than %llu MiB", (unsigned long long)(r->limits.output >> 20));
  if (!r->status) tn_buf_put(r->out, s.ptr, s.len);
  if (r->out->failed) tn_jinja_oom(r);
}

/* ---- operators ------------------------------------------------------------------------------- */
static tn_jv no_operator(tn_jinja_run *r, const char *what, tn_jv a, tn_jv b) {
  const char *words = a.kind == TN_JV_UNDEFINED && a.u.s.ptr   ? a.u.s.ptr
                      : b.kind == TN_JV_UNDEFINED && b.u.s.ptr ? b.u.s.ptr
                                                               : NULL;
  if (words) return tn_jinja_fail(r, "%s", words);
  return tn_jinja_fail(r, "%s of %s and %s is not possible", what, tn_jv_type(a), tn_jv_type(b));
}

static tn_jv joined(tn_jinja_run *r, tn_str a, tn_str b) {
  char *p = tn_jinja_alloc(r, a.len + b.len + 1);
  if (!p) return tn_jv_undefined(NULL);
  if (a.len) memcpy(p, a.ptr, a.len);
  if (b.len) memcpy(p + a.len, b.ptr, b.len);
  return tn_jv_str((tn_str){p, a.len + b.len});
}

static tn_jv joined_lists(tn_jinja_run *r, tn_jv a, tn_jv b) {
  tn_jv l = tn_jv_list_new(r, a.kind, a.u.list->count + b.u.list->count);
  for (uint32_t i = 0; i < a.u.list->count; i++) tn_jv_push(r, l, a.u.list->items[i]);
  for (uint32_t i = 0; i < b.u.list->count; i++) tn_jv_push(r, l, b.u.list->items[i]);
  return l;
}

static tn_jv repeated(tn_jinja_run *r, tn_jv a, int64_t n) {
  uint64_t bytes;
  if (n < 0) n = 0;
  if (tn_jv_is_seq(a)) {
    if (!tn_mul_u64((uint64_t)n, a.u.list->count, &bytes) || bytes > UINT32_MAX / sizeof a)
      return tn_jinja_fail(r, "a list of %lld times %u items is too long", (long long)n, a.u.list->count);
    tn_jv l = tn_jv_list_new(r, a.kind, (uint32_t)bytes);
    for (int64_t i = 0; bytes && i < n && !r->status; i++)
      for (uint32_t k = 0; k < a.u.list->count; k++) tn_jv_push(r, l, a.u.list->items[k]);
    return l;
  }
  if (!tn_mul_u64((uint64_t)n, a.u.s.len, &bytes))
    return tn_jinja_fail(r, "a text repeated %lld times is too long", (long long)n);
  char *p = tn_jinja_alloc(r, bytes < UINT64_MAX ? bytes + 1 : bytes);
  if (!p) return tn_jv_undefined(NULL);
  for (int64_t i = 0; bytes && i < n; i++) memcpy(p + (uint64_t)i * a.u.s.len, a.u.s.ptr, a.u.s.len);
  return tn_jv_str((tn_str){p, bytes});
}

static bool add_checked(tn_jinja_op op, int64_t a, int64_t b, int64_t *out) {
  if (op == TN_OP_ADD) return !__builtin_add_overflow(a, b, out);
  if (op == TN_OP_SUB) return !__builtin_sub_overflow(a, b, out);
  return !__builtin_mul_overflow(a, b, out);
}

static tn_jv whole_power(tn_jinja_run *r, int64_t base, int64_t n) {
  int64_t result = 1;
  if (n < 0) return base ? tn_jv_real(pow((double)base, (double)n)) : tn_jinja_fail(r, "division by zero");
  for (; n && base != 1 && base != 0; n--) {
    if (base == -1) return tn_jv_int(n % 2 ? -1 : 1);
    if (__builtin_mul_overflow(result, base, &result)) return tn_jinja_fail(r, "a whole number is too large");
  }
  return tn_jv_int(n && !base ? 0 : result);
}

/* Division rounds down, as Python's. */
static tn_jv whole_division(tn_jinja_run *r, tn_jinja_op op, int64_t a, int64_t b) {
  if (!b) return tn_jinja_fail(r, "division by zero");
  if (op == TN_OP_DIV) return tn_jv_real((double)a / (double)b);
  if (b == -1) {
    if (op == TN_OP_MOD) return tn_jv_int(0);
    return a == INT64_MIN ? tn_jinja_fail(r, "a whole number is too large") : tn_jv_int(-a);
  }
  int64_t q = a / b, rest = a % b;
  if (rest && (rest < 0) != (b < 0)) q--, rest += b;
  return tn_jv_int(op == TN_OP_MOD ? rest : q);
}

static tn_jv whole(tn_jinja_run *r, tn_jinja_op op, int64_t a, int64_t b) {
  int64_t result;
  if (op == TN_OP_POW) return whole_power(r, a, b);
  if (op == TN_OP_DIV || op == TN_OP_FLOOR_DIV || op == TN_OP_MOD) return whole_division(r, op, a, b);
  if (!add_checked(op, a, b, &result)) return tn_jinja_fail(r, "a whole number is too large");
  return tn_jv_int(result);
}

static tn_jv real(tn_jinja_run *r, tn_jinja_op op, double a, double b) {
  if (b == 0 && (op == TN_OP_DIV || op == TN_OP_FLOOR_DIV || op == TN_OP_MOD))
    return tn_jinja_fail(r, "division by zero");
  switch (op) {
  case TN_OP_ADD: return tn_jv_real(a + b);
  case TN_OP_SUB: return tn_jv_real(a - b);
  case TN_OP_MUL: return tn_jv_real(a * b);
  case TN_OP_DIV: return tn_jv_real(a / b);
  case TN_OP_FLOOR_DIV: return tn_jv_real(floor(a / b));
  case TN_OP_POW: return tn_jv_real(pow(a, b));
  default: break;
  }
  double rest = fmod(a, b);
  if (rest != 0 && (rest < 0) != (b < 0)) rest += b;
  return tn_jv_real(rest);
}

tn_jv tn_jinja_binary(tn_jinja_run *r, tn_jinja_op op, tn_jv a, tn_jv b) {
  static const char *const words[] = {"the sum",      "the difference", "the product", "the quotient",
                                      "the quotient", "the remainder",  "the power"};
  if (r->status) return tn_jv_undefined(NULL);
  if (op == TN_OP_CONCAT) {
    tn_jv left = tn_jv_text(r, a), right = tn_jv_text(r, b);
    return r->status ? left : joined(r, left.u.s, right.u.s);
  }
  if (tn_jv_is_whole(a) && tn_jv_is_whole(b)) return whole(r, op, tn_jv_whole(a), tn_jv_whole(b));
  if (tn_jv_is_number(a) && tn_jv_is_number(b)) return real(r, op, tn_jv_double(a), tn_jv_double(b));
  if (op == TN_OP_ADD && a.kind == TN_JV_STR && b.kind == TN_JV_STR) return joined(r, a.u.s, b.u.s);
  if (op == TN_OP_ADD && tn_jv_is_seq(a) && a.kind == b.kind) return joined_lists(r, a, b);
  if (op == TN_OP_MUL && (a.kind == TN_JV_STR || tn_jv_is_seq(a)) && tn_jv_is_whole(b))
    return repeated(r, a, tn_jv_whole(b));
  if (op == TN_OP_MUL && (b.kind == TN_JV_STR || tn_jv_is_seq(b)) && tn_jv_is_whole(a))
    return repeated(r, b, tn_jv_whole(a));
  if (op == TN_OP_MOD && a.kind == TN_JV_STR) return tn_jinja_format(r, a.u.s, b);
  return no_operator(r, words[op], a, b);
}

static bool contains(tn_jinja_run *r, tn_jv all, tn_jv one) {
  tn_jv ignored;
  if (all.kind == TN_JV_STR) {
    if (one.kind != TN_JV_STR) return no_operator(r, "membership", one, all), false;
    return tn_jinja_find(all.u.s, one.u.s, false) >= 0;
  }
  if (all.kind == TN_JV_DICT) return tn_jv_get(r, all, one, &ignored);
  const tn_jv_list *l = tn_jv_items(r, all);
  for (uint32_t i = 0; i < l->count && !r->status; i++)
    if (tn_jv_equal(r, l->items[i], one)) return true;
  return false;
}

bool tn_jinja_compare(tn_jinja_run *r, tn_jinja_op op, tn_jv a, tn_jv b) {
  switch (op) {
  case TN_OP_EQ: return tn_jv_equal(r, a, b);
  case TN_OP_NE: return !tn_jv_equal(r, a, b);
  case TN_OP_LT: return tn_jv_order(r, a, b) < 0;
  case TN_OP_LE: return tn_jv_order(r, a, b) <= 0;
  case TN_OP_GT: return tn_jv_order(r, a, b) > 0;
  case TN_OP_GE: return tn_jv_order(r, a, b) >= 0;
  case TN_OP_IN: return contains(r, b, a);
  case TN_OP_NOT_IN: return !contains(r, b, a);
  default: return false;
  }
}

static tn_jv unary(tn_jinja_run *r, tn_jinja_op op, tn_jv v) {
  if (op == TN_OP_NOT) return tn_jv_bool(!tn_jv_true(v));
  if (v.kind == TN_JV_REAL) return tn_jv_real(op == TN_OP_NEG ? -v.u.r : v.u.r);
  if (!tn_jv_is_whole(v)) return no_operator(r, "the sign", v, v);
  int64_t i = tn_jv_whole(v);
  if (op == TN_OP_NEG && i == INT64_MIN) return tn_jinja_fail(r, "a whole number is too large");
  return tn_jv_int(op == TN_OP_NEG ? -i : i);
}

/* ---- looking up ------------------------------------------------------------------------------ */
static tn_jv missing(tn_jinja_run *r, tn_jv of, const char *what, tn_str name) {
  char *words = tn_arena_printf(&r->arena, "the %s has no %s '%.*s'", tn_jv_type(of), what,
                                (int)(name.len > 80 ? 80 : name.len), name.ptr);
  return words ? tn_jv_undefined(words) : tn_jinja_oom(r);
}

/* What a loop knows. */
static tn_jv loop_attr(tn_jinja_run *r, const tn_jv_loop *l, tn_str name) {
  int64_t i = (int64_t)l->index, n = l->items->count;
  const struct {
    const char *name;
    tn_jv value;
  } known[] = {{"index", tn_jv_int(i + 1)},    {"index0", tn_jv_int(i)},
               {"revindex", tn_jv_int(n - i)}, {"revindex0", tn_jv_int(n - i - 1)},
               {"first", tn_jv_bool(i == 0)},  {"last", tn_jv_bool(i + 1 == n)},
               {"length", tn_jv_int(n)},       {"depth", tn_jv_int(l->depth + 1)},
               {"depth0", tn_jv_int(l->depth)}};
  for (size_t k = 0; k < TN_COUNT(known); k++)
    if (tn_str_is(name, known[k].name)) return known[k].value;
  if (tn_str_is(name, "previtem"))
    return i > 0 ? l->items->items[i - 1] : tn_jv_undefined("there is no previous item");
  if (tn_str_is(name, "nextitem"))
    return i + 1 < n ? l->items->items[i + 1] : tn_jv_undefined("there is no next item");
  tn_jv self = {TN_JV_LOOP, {.loop = (tn_jv_loop *)(uintptr_t)l}};
  return tn_jinja_method(r, self, name);
}

static tn_jv by_key(tn_jinja_run *r, tn_jv a, tn_jv key, bool *found) {
  tn_jv v = tn_jv_undefined(NULL);
  *found = true;
  if ((a.kind == TN_JV_DICT) && tn_jv_get(r, a, key, &v)) return v;
  if (tn_jv_is_whole(key) && (tn_jv_is_seq(a) || a.kind == TN_JV_STR)) {
    int64_t n = tn_jv_length(r, a), i = tn_jv_whole(key);
    if (i < 0) i += n;
    if (i >= 0 && i < n && tn_jv_is_seq(a)) return a.u.list->items[i];
    if (i >= 0 && i < n) {
      uint64_t start = tn_jinja_offset(a.u.s, i), end = start;
      tn_jinja_char(a.u.s, &end);
      return tn_jv_str((tn_str){a.u.s.ptr + start, end - start});
    }
  }
  *found = false;
  return v;
}

static tn_jv own_attr(tn_jinja_run *r, tn_jv a, tn_str name, bool *found) {
  tn_jv v = tn_jv_undefined(NULL);
  *found = true;
  if (a.kind == TN_JV_NAMESPACE && tn_jv_get_str(a, name, &v)) return v;
  if (a.kind == TN_JV_MACRO && tn_str_is(name, "name")) return tn_jv_str(a.u.macro->node->name);
  v = a.kind == TN_JV_LOOP ? loop_attr(r, a.u.loop, name) : tn_jinja_method(r, a, name);
  *found = v.kind != TN_JV_UNDEFINED || v.u.s.ptr;
  return v;
}

tn_jv tn_jinja_attr(tn_jinja_run *r, tn_jv a, tn_str name) {
  bool found;
  if (r->status) return tn_jv_undefined(NULL);
  if (a.kind == TN_JV_UNDEFINED)
    return tn_jinja_fail(r, "%s", a.u.s.ptr ? a.u.s.ptr : "a value is undefined");
  tn_jv v = own_attr(r, a, name, &found);
  if (!found) v = by_key(r, a, tn_jv_str(name), &found);
  return found || r->status ? v : missing(r, a, "attribute", name);
}

tn_jv tn_jinja_item(tn_jinja_run *r, tn_jv a, tn_jv key) {
  bool found;
  if (r->status) return tn_jv_undefined(NULL);
  if (a.kind == TN_JV_UNDEFINED)
    return tn_jinja_fail(r, "%s", a.u.s.ptr ? a.u.s.ptr : "a value is undefined");
  tn_jv v = by_key(r, a, key, &found);
  if (!found && key.kind == TN_JV_STR) v = own_attr(r, a, key.u.s, &found);
  if (found || r->status) return v;
  return missing(r, a, "element", tn_jv_text(r, key).u.s);
}

/* Python's clamping of one end of a slice. */
static int64_t bound(tn_jinja_run *r, tn_jv v, int64_t n, bool back, int64_t otherwise) {
  if (v.kind == TN_JV_NONE) return otherwise;
  if (!tn_jv_is_whole(v)) return tn_jinja_fail(r, "a slice goes from %s", tn_jv_type(v)), 0;
  int64_t i = tn_jv_whole(v);
  if (i < 0) i = i < -n ? -1 : i + n;
  if (i < 0) return back ? -1 : 0;
  return i >= n ? back ? n - 1 : n : i;
}

tn_jv tn_jinja_slice(tn_jinja_run *r, tn_jv a, tn_jv start, tn_jv stop, tn_jv step) {
  int64_t by = step.kind == TN_JV_NONE ? 1 : tn_jv_is_whole(step) ? tn_jv_whole(step) : 0;
  if (a.kind == TN_JV_UNDEFINED)
    return tn_jinja_fail(r, "%s", a.u.s.ptr ? a.u.s.ptr : "a value is undefined");
  if (!by) return tn_jinja_fail(r, "the step of a slice is zero or no number");
  if (a.kind != TN_JV_STR && !tn_jv_is_seq(a)) return missing(r, a, "element", TN_STR("slice"));
  const tn_jv_list *l = tn_jv_items(r, a);
  int64_t n = l->count, from = bound(r, start, n, by < 0, by < 0 ? n - 1 : 0);
  int64_t to = bound(r, stop, n, by < 0, by < 0 ? -1 : n);
  tn_buf text = {0};
  tn_jv out = a.kind == TN_JV_STR ? tn_jv_none() : tn_jv_list_new(r, a.kind, 0);
  for (int64_t i = from; !r->status && (by > 0 ? i < to : i > to); i += by) {
    if (a.kind == TN_JV_STR)
      tn_buf_put(&text, l->items[i].u.s.ptr, l->items[i].u.s.len);
    else
      tn_jv_push(r, out, l->items[i]);
    if (by > n || by < -n) break;
  }
  return a.kind == TN_JV_STR ? tn_jv_take(r, &text) : out;
}

static tn_jv eval_name(tn_jinja_run *r, const tn_jn *n) {
  for (const tn_jinja_scope *s = r->scope; s; s = s->outer)
    for (uint32_t i = s->count; i-- > 0;)
      if (tn_str_eq(s->names[i], n->name)) return s->values[i];
  tn_jv v = tn_jinja_global(r, n->name);
  if (v.kind != TN_JV_UNDEFINED || r->status) return v;
  char *words = tn_arena_printf(&r->arena, "'%.*s' is undefined", (int)(n->name.len > 80 ? 80 : n->name.len),
                                n->name.ptr);
  return words ? tn_jv_undefined(words) : tn_jinja_oom(r);
}

/* ---- calls ----------------------------------------------------------------------------------- */
static tn_jinja_args eval_args(tn_jinja_run *r, const tn_jn *n) {
  tn_jinja_args a = {.count = n->nkids - 1 - n->nnames, .names = n->names, .nnamed = n->nnames};
  a.items = n->nkids > 1 ? tn_jinja_alloc(r, (n->nkids - 1) * sizeof *a.items) : NULL;
  if (n->nkids > 1 && !a.items) return (tn_jinja_args){0};
  for (uint32_t i = 1; i < n->nkids; i++) a.items[i - 1] = tn_jinja_eval(r, n->kids[i]);
  a.named = a.items ? a.items + a.count : NULL;
  return a;
}

tn_jv tn_jinja_call(tn_jinja_run *r, tn_jv f, const tn_jinja_args *a) {
  if (r->status) return tn_jv_undefined(NULL);
  switch (f.kind) {
  case TN_JV_FUNCTION: return f.u.function->call(r, f.u.function->self, a);
  case TN_JV_MACRO: return tn_jinja_call_macro(r, f.u.macro, a);
  case TN_JV_LOOP:
    if (!tn_jinja_takes(r, a, "loop", 1, 1)) return tn_jv_undefined(NULL);
    return tn_jinja_call_loop(r, f.u.loop, a->items[0]);
  case TN_JV_CYCLER:
  case TN_JV_JOINER: return tn_jinja_call(r, tn_jinja_method(r, f, TN_STR("next")), a);
  case TN_JV_UNDEFINED: return tn_jinja_fail(r, "%s", f.u.s.ptr ? f.u.s.ptr : "a value is undefined");
  default: return tn_jinja_fail(r, "a %s cannot be called", tn_jv_type(f));
  }
}

static tn_jv eval_call(tn_jinja_run *r, const tn_jn *n) {
  tn_jv f = tn_jinja_eval(r, n->kids[0]);
  tn_jinja_args a = eval_args(r, n);
  r->now = n;
  return tn_jinja_call(r, f, &a);
}

static tn_jv eval_filter(tn_jinja_run *r, const tn_jn *n) {
  tn_jv self = tn_jinja_eval(r, n->kids[0]);
  tn_jinja_args a = eval_args(r, n);
  r->now = n;
  return r->status ? tn_jv_undefined(NULL) : tn_jinja_filter(r, n->name, self, &a);
}

static tn_jv eval_test(tn_jinja_run *r, const tn_jn *n) {
  tn_jv self = tn_jinja_eval(r, n->kids[0]);
  tn_jinja_args a = eval_args(r, n);
  r->now = n;
  return tn_jv_bool(!r->status && tn_jinja_test(r, n->name, self, &a));
}

/* ---- the tree -------------------------------------------------------------------------------- */
static tn_jv eval_list(tn_jinja_run *r, const tn_jn *n) {
  tn_jv l = tn_jv_list_new(r, n->kind == TN_JN_LIST ? TN_JV_LIST : TN_JV_TUPLE, n->nkids);
  for (uint32_t i = 0; i < n->nkids && !r->status; i++) tn_jv_push(r, l, tn_jinja_eval(r, n->kids[i]));
  return l;
}

static tn_jv eval_dict(tn_jinja_run *r, const tn_jn *n) {
  tn_jv d = tn_jv_dict_new(r);
  for (uint32_t i = 0; i + 1 < n->nkids && !r->status; i += 2) {
    tn_jv key = tn_jinja_eval(r, n->kids[i]);
    tn_jv_put(r, d, key, tn_jinja_eval(r, n->kids[i + 1]));
  }
  return d;
}

static tn_jv eval_item(tn_jinja_run *r, const tn_jn *n) {
  tn_jv a = tn_jinja_eval(r, n->kids[0]);
  const tn_jn *key = n->kids[1];
  if (key->kind != TN_JN_SLICE) {
    tn_jv k = tn_jinja_eval(r, key);
    r->now = n;
    return tn_jinja_item(r, a, k);
  }
  tn_jv ends[3];
  for (uint32_t i = 0; i < 3; i++) ends[i] = key->kids[i] ? tn_jinja_eval(r, key->kids[i]) : tn_jv_none();
  r->now = n;
  return r->status ? tn_jv_undefined(NULL) : tn_jinja_slice(r, a, ends[0], ends[1], ends[2]);
}

static tn_jv eval_compare(tn_jinja_run *r, const tn_jn *n) {
  tn_jv left = tn_jinja_eval(r, n->kids[0]);
  for (uint32_t i = 1; i < n->nkids && !r->status; i++) {
    tn_jv right = tn_jinja_eval(r, n->kids[i]);
    r->now = n;
    if (r->status || !tn_jinja_compare(r, n->ops[i - 1], left, right)) return tn_jv_bool(false);
    left = right;
  }
  return tn_jv_bool(true);
}

static tn_jv eval_logic(tn_jinja_run *r, const tn_jn *n) {
  tn_jv left = tn_jinja_eval(r, n->kids[0]);
  return tn_jv_true(left) == (n->kind == TN_JN_OR) ? left : tn_jinja_eval(r, n->kids[1]);
}

static tn_jv eval_choice(tn_jinja_run *r, const tn_jn *n) {
  if (tn_jv_true(tn_jinja_eval(r, n->kids[1]))) return tn_jinja_eval(r, n->kids[0]);
  return n->kids[2] ? tn_jinja_eval(r, n->kids[2])
                    : tn_jv_undefined("the expression has no value: its condition is false");
}

static tn_jv eval_binary(tn_jinja_run *r, const tn_jn *n) {
  tn_jv a = tn_jinja_eval(r, n->kids[0]), b = tn_jinja_eval(r, n->kids[1]);
  r->now = n;
  return tn_jinja_binary(r, n->op, a, b);
}

static tn_jv eval(tn_jinja_run *r, const tn_jn *n) {
  tn_jv v;
  switch (n->kind) {
  case TN_JN_CONST: return n->value;
  case TN_JN_NAME: return eval_name(r, n);
  case TN_JN_LIST:
  case TN_JN_TUPLE: return eval_list(r, n);
  case TN_JN_DICT: return eval_dict(r, n);
  case TN_JN_ATTR:
    v = tn_jinja_eval(r, n->kids[0]);
    r->now = n;
    return tn_jinja_attr(r, v, n->name);
  case TN_JN_ITEM: return eval_item(r, n);
  case TN_JN_CALL: return eval_call(r, n);
  case TN_JN_FILTER: return eval_filter(r, n);
  case TN_JN_TEST: return eval_test(r, n);
  case TN_JN_UNARY:
    v = tn_jinja_eval(r, n->kids[0]);
    r->now = n;
    return r->status ? v : unary(r, n->op, v);
  case TN_JN_BINARY: return eval_binary(r, n);
  case TN_JN_COMPARE: return eval_compare(r, n);
  case TN_JN_AND:
  case TN_JN_OR: return eval_logic(r, n);
  case TN_JN_IF_ELSE: return eval_choice(r, n);
  default: return tn_jinja_fail(r, "not an expression");
  }
}

tn_jv tn_jinja_eval(tn_jinja_run *r, const tn_jn *n) {
  r->now = n;
  if (!tn_jinja_step(r, 1)) return tn_jv_undefined(NULL);
  if (r->depth >= TN_JINJA_DEPTH_MAX)
    return tn_jinja_fail(r, "evaluation is nested deeper than %d", TN_JINJA_DEPTH_MAX);
  r->depth++;
  tn_jv v = eval(r, n);
  r->depth--;
  return r->status ? tn_jv_undefined(NULL) : v;
}
