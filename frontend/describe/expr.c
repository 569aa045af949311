/* expr.c - expressions: names, static arithmetic, lists, and the same signs on tensors, where they build ops.
 */
#include "frontend/describe/eval.h"
#include <math.h>
#include <stdio.h>

#define EVAL_DEPTH_MAX 2000 /* C recursion over nested expressions and calls */

/* ---- names ----------------------------------------------------------------------------------- */
tn_var *tn_vars_find(const tn_vars *vars, const char *name) {
  for (uint32_t i = vars->count; i-- > 0;)
    if (!strcmp(vars->items[i].name, name)) return &vars->items[i];
  return NULL;
}

bool tn_vars_set(tn_eval *ev, tn_vars *vars, const char *name, tn_val v) {
  tn_var *old = tn_vars_find(vars, name);
  if (old) {
    old->v = v;
    return true;
  }
  tn_var x = {name, v};
  if (tn_vec_push(vars, x)) return true;
  tn_eval_oom(ev);
  return false;
}

/* P: tokens already in the states; C: tokens they hold. The first use names them in the module. */
static tn_dim state_dim(tn_eval *ev, const char *name) {
  const char *key = !strcmp(name, "P") ? "dim.position" : "dim.capacity";
  if (ev->ir->meta_set(ev->m, key, name) != TN_OK) return tn_eval_oom(ev), (tn_dim)0;
  return ev->ir->dim_sym(ev->m, name);
}

/* max(P + i - pads[b], 0) as [B, S]: places of the tokens that are none. */
static tn_val padded_positions(tn_eval *ev, tn_val places) {
  tn_val pads = tn_val_tensor(ev->pads), zero = tn_make_scalar(ev, TN_DT_i32, tn_val_int(0));
  tn_type_info t = tn_val_type(ev, pads);
  tn_dim column[2] = {t.dims[0], ev->ir->dim_const(ev->m, 1)};
  pads = tn_make_reshape(ev, pads, column, 2);
  if (zero.kind != TN_V_TENSOR || pads.kind != TN_V_TENSOR) return tn_val_bad();
  tn_value in[2] = {places.u.tensor, pads.u.tensor};
  tn_val moved = tn_make_op(ev, "sub", in, 2, NULL, 0);
  if (moved.kind != TN_V_TENSOR) return moved;
  in[0] = moved.u.tensor, in[1] = zero.u.tensor;
  return tn_make_op(ev, "max", in, 2, NULL, 0);
}

static tn_val positions(tn_eval *ev) {
  if (!ev->seq) return tn_eval_fail(ev, "'positions' needs a graph with an input that has the dim S");
  if (!ev->positions) {
    tn_named_attr a[3] = {{"shape", {.kind = TN_ATTR_DIMS, .count = 1, .u.dims = &ev->seq}},
                          {"start", {.kind = TN_ATTR_DIM, .u.dim = state_dim(ev, "P")}},
                          {"dtype", {.kind = TN_ATTR_DTYPE, .u.i = TN_DT_i32}}};
    tn_val v = tn_make_op(ev, "iota", NULL, 0, a, 3);
    if (v.kind == TN_V_TENSOR && ev->pads) v = padded_positions(ev, v);
    if (v.kind != TN_V_TENSOR) return v;
    ev->positions = v.u.tensor;
    ev->ir->value_set_name(ev->m, ev->positions, "positions");
  }
  return tn_val_tensor(ev->positions);
}

static bool config_name(tn_eval *ev, const char *name, tn_val *out) {
  const tn_var *v = tn_vars_find(&ev->config, name);
  if (v) {
    *out = v->v;
    return true;
  }
  const tn_json *j = tn_json_path(ev->run->config, name);
  if (j)
    *out = tn_json_val(ev, name, j);
  else if (ev->frame->fallback && tn_is_function(ev, name))
    *out = tn_val_text(ev, name);
  else
    *out = (tn_val){.kind = TN_V_MISSING, .u.key = name};
  return true;
}

bool tn_eval_name(tn_eval *ev, const char *name, tn_val *out) {
  const tn_frame *f = ev->frame;
  const tn_var *v = tn_vars_find(&f->vars, name);
  bool page = f->page->prelude != NULL;
  if (v)
    *out = v->v;
  else if (f->config)
    return config_name(ev, name, out);
  else if (page && (v = tn_vars_find(&ev->config, name)))
    *out = v->v;
  else if (ev->func && !strcmp(name, "positions"))
    *out = positions(ev);
  else if (ev->func && !strcmp(name, "pads"))
    *out = ev->pads ? tn_val_tensor(ev->pads) : tn_val_none();
  else if (ev->func && !ev->own_capacity && (!strcmp(name, "P") || !strcmp(name, "C")))
    *out = tn_val_dim(ev, state_dim(ev, name));
  else if (ev->ir->dtype_by_name(name) || tn_is_function(ev, name))
    *out = tn_val_text(ev, name);
  else
    return false;
  return true;
}

tn_val tn_eval_unknown(tn_eval *ev, const char *name) {
  const char *names[256];
  uint32_t n = 0;
  const tn_vars *lists[] = {&ev->frame->vars, &ev->config};
  for (uint32_t k = 0; k < 2; k++)
    for (uint32_t i = 0; i < lists[k]->count && n < TN_COUNT(names); i++)
      names[n++] = lists[k]->items[i].name;
  return tn_eval_fail(ev, "'%s' is unknown here%s", name, tn_eval_nearest(ev, name, names, n));
}

/* ---- texts ----------------------------------------------------------------------------------- */
/* Puts {variables} in: they are looked for in this frame, then in its callers, so that a block's `at` can use
 * the loop variable of the line that calls it. */
static bool interpolate_one(tn_eval *ev, tn_str name, tn_buf *out) {
  char text[64];
  if (!name.len || name.len >= sizeof text)
    return tn_eval_fail(ev, "'{%.*s}' is not a variable", (int)(name.len & 63), name.ptr), false;
  memcpy(text, name.ptr, name.len);
  text[name.len] = 0;
  const tn_var *v = NULL;
  for (const tn_frame *f = ev->frame; f && !v; f = f->caller) v = tn_vars_find(&f->vars, text);
  if (!v) v = tn_vars_find(&ev->config, text);
  if (!v) return tn_eval_fail(ev, "'{%s}' is unknown here", text), false;
  if (v->v.kind == TN_V_INT)
    tn_buf_printf(out, "%lld", (long long)v->v.u.i);
  else if (v->v.kind == TN_V_TEXT)
    tn_buf_puts(out, v->v.u.text.alts[0].raw);
  else if (v->v.kind != TN_V_BAD)
    tn_eval_fail(ev, "'{%s}' is %s: only numbers and texts go into a name", text, tn_val_show(ev, v->v));
  return v->v.kind == TN_V_INT || v->v.kind == TN_V_TEXT;
}

static const char *interpolate(tn_eval *ev, const char *text) {
  tn_buf b = {0};
  bool ok = true;
  for (const char *p = text; *p && ok; p++) {
    const char *close = *p == '{' ? strchr(p, '}') : NULL;
    if (!close) {
      tn_buf_put(&b, p, 1);
      continue;
    }
    ok = interpolate_one(ev, (tn_str){p + 1, (uint64_t)(close - p - 1)}, &b);
    p = close;
  }
  const char *s = ok ? tn_arena_str(&ev->arena, tn_str_of(tn_buf_cstr(&b))) : NULL;
  if (ok && (!s || b.failed)) tn_eval_oom(ev);
  tn_buf_fini(&b);
  return s;
}

/* "a.b" and "c": "a.b.c"; "../c": "a.c"; "/c": "c". */
static const char *prefix_join(tn_eval *ev, const char *prefix, const char *name) {
  size_t keep = strlen(prefix);
  if (name[0] == '/') return name + 1;
  for (; !strncmp(name, "../", 3); name += 3) {
    while (keep && prefix[keep - 1] != '.') keep--;
    if (keep) keep--;
  }
  const char *dot = keep && *name ? "." : "";
  const char *s = tn_arena_printf(&ev->arena, "%.*s%s%s", (int)keep, prefix, dot, name);
  if (!s) tn_eval_oom(ev);
  return s;
}

static const tn_via *eval_via(tn_eval *ev, const tn_expr *e) {
  tn_via *v = tn_arena_alloc(&ev->arena, sizeof *v);
  tn_val args[8];
  uint32_t n = 0;
  if (!v) return tn_eval_oom(ev), NULL;
  if (e->u.call.count > TN_COUNT(args)) return tn_eval_fail(ev, "'via' takes at most 8 arguments"), NULL;
  for (; n < e->u.call.count; n++) args[n] = tn_eval_expr(ev, e->u.call.args[n].value);
  v->callee = e->u.call.name;
  v->args = tn_val_list(ev, args, n).u.list;
  return v;
}

tn_val tn_eval_text(tn_eval *ev, const tn_expr *e) {
  const tn_name_side *s = &e->u.s.hf;
  const char *raw = interpolate(ev, s->text), *name = raw;
  if (!raw) return tn_val_bad();
  tn_val v = tn_val_text(ev, raw);
  if (v.kind != TN_V_TEXT) return v;
  bool is_name = !ev->frame->config || ev->frame->convert;
  const char *other = !is_name || !e->u.s.gguf.text ? NULL : interpolate(ev, e->u.s.gguf.text);
  if (is_name && e->u.s.gguf.text && !other) return tn_val_bad();
  if (ev->run->tensors.gguf && is_name) {
    s = &e->u.s.gguf;
    name = other;
    other = raw;
  }
  tn_alt *a = v.u.text.alts;
  a->name = is_name;
  if (name && ev->frame->prefix) a->path = prefix_join(ev, ev->frame->prefix, name);
  if (other && ev->frame->other) a->other = prefix_join(ev, ev->frame->other, other);
  a->root = ev->frame->root || (name && name[0] == '/');
  a->other_root = ev->frame->other_root || (other && other[0] == '/');
  if (s->via && !(a->via = eval_via(ev, s->via))) return tn_val_bad();
  return v;
}

void tn_eval_prefix(tn_eval *ev, tn_frame *f, const tn_expr *at) {
  tn_val v = tn_eval_text(ev, at);
  f->prefix = v.kind == TN_V_TEXT ? v.u.text.alts[0].path : NULL;
  f->other = v.kind == TN_V_TEXT ? v.u.text.alts[0].other : NULL;
  f->root = v.kind == TN_V_TEXT && v.u.text.alts[0].root;
  f->other_root = v.kind == TN_V_TEXT && v.u.text.alts[0].other_root;
}

/* "a" or "b": both sets of names; name + ".weight": every name longer. */
static tn_val text_or(tn_eval *ev, tn_text a, tn_text b) {
  tn_val v = {.kind = TN_V_TEXT, .u.text.count = a.count + b.count};
  if (v.u.text.count > 64) return tn_eval_fail(ev, "more than 64 alternatives");
  v.u.text.alts = tn_arena_alloc(&ev->arena, v.u.text.count * sizeof *a.alts);
  if (!v.u.text.alts) return tn_eval_oom(ev);
  memcpy(v.u.text.alts, a.alts, a.count * sizeof *a.alts);
  memcpy(v.u.text.alts + a.count, b.alts, b.count * sizeof *b.alts);
  return v;
}

static tn_val text_add(tn_eval *ev, tn_text a, tn_text b) {
  tn_val v = {.kind = TN_V_TEXT, .u.text.count = a.count};
  if (b.count != 1) return tn_eval_fail(ev, "only one text can be added to a name");
  v.u.text.alts = tn_arena_copy(&ev->arena, a.alts, a.count * sizeof *a.alts);
  if (!v.u.text.alts) return tn_eval_oom(ev);
  for (uint32_t i = 0; i < a.count; i++) {
    tn_alt *x = &v.u.text.alts[i];
    if (strlen(x->raw) > 2048) return tn_eval_fail(ev, "a name of more than 2048 bytes");
    x->raw = tn_arena_printf(&ev->arena, "%s%s", x->raw, b.alts[0].raw);
    if (x->path) x->path = tn_arena_printf(&ev->arena, "%s%s", x->path, b.alts[0].raw);
    if (x->other) x->other = tn_arena_printf(&ev->arena, "%s%s", x->other, b.alts[0].raw);
    if (!x->raw || ev->arena.failed) return tn_eval_oom(ev);
  }
  return v;
}

/* ---- arithmetic ------------------------------------------------------------------------------ */
static const char *const signs[TN_BIN_COUNT] = {
    "+", "-", "*", "/", "%", "++", "==", "!=", "<", ">", "<=", ">=", "has", "and", "or", "default"};

static tn_val int_math(tn_eval *ev, tn_binary op, int64_t a, int64_t b) {
  int64_t r = 0;
  bool over = false;
  switch ((int)op) {
  case TN_BIN_ADD: over = __builtin_add_overflow(a, b, &r); break;
  case TN_BIN_SUB: over = __builtin_sub_overflow(a, b, &r); break;
  case TN_BIN_MUL: over = __builtin_mul_overflow(a, b, &r); break;
  default:
    if (!b) return tn_eval_fail(ev, "%lld %s 0", (long long)a, signs[op]);
    if (b == -1) { /* INT64_MIN / -1 traps */
      if (op == TN_BIN_MOD) return tn_val_int(0);
      over = __builtin_sub_overflow((int64_t)0, a, &r);
    } else if (op == TN_BIN_DIV) {
      if (a % b) return tn_eval_fail(ev, "%lld / %lld is not a whole number", (long long)a, (long long)b);
      r = a / b;
    } else {
      r = a % b;
      if (r && (r < 0) != (b < 0)) r += b; /* the sign of b, as in Python */
    }
  }
  if (over)
    return tn_eval_fail(ev, "%lld %s %lld does not fit 64 bits", (long long)a, signs[op], (long long)b);
  return tn_val_int(r);
}

static tn_val real_math(tn_eval *ev, tn_binary op, double a, double b) {
  double r = op == TN_BIN_ADD   ? a + b
             : op == TN_BIN_SUB ? a - b
             : op == TN_BIN_MUL ? a * b
             : op == TN_BIN_DIV ? a / b
                                : fmod(a, b);
  if (!isfinite(r)) return tn_eval_fail(ev, "%.9g %s %.9g is not finite", a, signs[op], b);
  return tn_val_real(r);
}

static tn_val dim_math(tn_eval *ev, tn_binary op, tn_val a, tn_val b) {
  tn_dim x = tn_val_to_dim(ev, a), y = tn_val_to_dim(ev, b);
  uint32_t kind = op == TN_BIN_MUL   ? TN_DIM_MUL
                  : op == TN_BIN_DIV ? TN_DIM_FLOORDIV
                  : op == TN_BIN_MOD ? TN_DIM_MOD
                                     : TN_DIM_ADD;
  if (!x || !y)
    return tn_eval_fail(ev, "%s %s %s: a dim goes with whole numbers only", tn_val_show(ev, a), signs[op],
                        tn_val_show(ev, b));
  if ((kind == TN_DIM_FLOORDIV || kind == TN_DIM_MOD) && (b.kind == TN_V_DIM || b.u.i <= 0))
    return tn_eval_fail(ev, "%s %s %s: a dim is divided by a positive number", tn_val_show(ev, a), signs[op],
                        tn_val_show(ev, b));
  if (op == TN_BIN_SUB) y = ev->ir->dim_make(ev->m, TN_DIM_MUL, y, ev->ir->dim_const(ev->m, -1));
  return tn_val_dim(ev, ev->ir->dim_make(ev->m, kind, x, y));
}

static bool static_compare(tn_binary op, double a, double b) {
  return op == TN_BIN_LT ? a < b : op == TN_BIN_GT ? a > b : op == TN_BIN_LE ? a <= b : a >= b;
}

/* Signs between tensors, or a tensor and a number, are ops. */
static tn_val tensor_math(tn_eval *ev, tn_binary op, tn_val a, tn_val b) {
  static const char *const names[TN_BIN_COUNT] = {
      "add",     "sub",     "mul",     "div",     "mod", NULL,  "compare", "compare",
      "compare", "compare", "compare", "compare", NULL,  "and", "or",      NULL};
  static const char *const cmps[TN_BIN_COUNT] = {[TN_BIN_EQ] = "eq", [TN_BIN_NE] = "ne", [TN_BIN_LT] = "lt",
                                                 [TN_BIN_GT] = "gt", [TN_BIN_LE] = "le", [TN_BIN_GE] = "ge"};
  if (!names[op]) return tn_eval_fail(ev, "'%s' does not work on tensors", signs[op]);
  tn_dtype dt = tn_val_type(ev, a.kind == TN_V_TENSOR ? a : b).dtype;
  if (a.kind != TN_V_TENSOR) a = tn_make_scalar(ev, dt, a);
  if (b.kind != TN_V_TENSOR) b = tn_make_scalar(ev, dt, b);
  if (a.kind != TN_V_TENSOR || b.kind != TN_V_TENSOR) return tn_val_bad();
  tn_value in[2] = {a.u.tensor, b.u.tensor};
  tn_named_attr cmp = {"cmp", {.kind = TN_ATTR_STR, .u.s = cmps[op]}};
  return tn_make_op(ev, names[op], in, 2, &cmp, cmps[op] ? 1 : 0);
}

static tn_val join(tn_eval *ev, tn_val a, tn_val b) {
  tn_vals x = a.kind == TN_V_LIST ? a.u.list : (tn_vals){&a, 1},
          y = b.kind == TN_V_LIST ? b.u.list : (tn_vals){&b, 1};
  tn_val *items = tn_arena_alloc(&ev->arena, ((size_t)x.count + y.count) * sizeof *items);
  if (!items) return tn_eval_oom(ev);
  memcpy(items, x.items, x.count * sizeof *items);
  memcpy(items + x.count, y.items, y.count * sizeof *items);
  return tn_val_list(ev, items, x.count + y.count);
}

static tn_val has(tn_eval *ev, tn_val a, tn_val b) {
  if (a.kind == TN_V_TEXT && b.kind == TN_V_TEXT)
    return tn_val_bool(strstr(a.u.text.alts[0].raw, b.u.text.alts[0].raw) != NULL);
  if (a.kind != TN_V_LIST)
    return tn_eval_fail(ev, "%s has %s: only lists and texts have something", tn_val_show(ev, a),
                        tn_val_show(ev, b));
  for (uint32_t i = 0; i < a.u.list.count; i++)
    if (tn_val_equal(a.u.list.items[i], b)) return tn_val_bool(true);
  return tn_val_bool(false);
}

static tn_val number_math(tn_eval *ev, tn_binary op, tn_val a, tn_val b) {
  bool ints = a.kind == TN_V_INT && b.kind == TN_V_INT;
  double x = a.kind == TN_V_INT ? (double)a.u.i : a.u.r, y = b.kind == TN_V_INT ? (double)b.u.i : b.u.r;
  if (op >= TN_BIN_LT && op <= TN_BIN_GE) {
    if (!ints) return tn_val_bool(static_compare(op, x, y));
    return tn_val_bool(op == TN_BIN_LT   ? a.u.i < b.u.i
                       : op == TN_BIN_GT ? a.u.i > b.u.i
                       : op == TN_BIN_LE ? a.u.i <= b.u.i
                                         : a.u.i >= b.u.i);
  }
  return ints ? int_math(ev, op, a.u.i, b.u.i) : real_math(ev, op, x, y);
}

tn_val tn_eval_binary(tn_eval *ev, tn_binary op, tn_val a, tn_val b) {
  if (a.kind == TN_V_BAD || b.kind == TN_V_BAD) return tn_val_bad();
  if (a.kind == TN_V_MISSING) return a;
  if (b.kind == TN_V_MISSING) return b;
  if (op == TN_BIN_JOIN) return join(ev, a, b);
  if (op == TN_BIN_HAS) return has(ev, a, b);
  bool tensors = a.kind == TN_V_TENSOR || b.kind == TN_V_TENSOR;
  bool simple = tensors && a.kind != TN_V_NONE && b.kind != TN_V_NONE;
  if (simple) return tensor_math(ev, op, a, b);
  if (op == TN_BIN_EQ) return tn_val_bool(tn_val_equal(a, b));
  if (op == TN_BIN_NE) return tn_val_bool(!tn_val_equal(a, b));
  if (op == TN_BIN_ADD && a.kind == TN_V_TEXT && b.kind == TN_V_TEXT) return text_add(ev, a.u.text, b.u.text);
  if (tn_val_is_number(a) && tn_val_is_number(b)) return number_math(ev, op, a, b);
  if ((a.kind == TN_V_DIM || b.kind == TN_V_DIM) && op <= TN_BIN_MOD) return dim_math(ev, op, a, b);
  return tn_eval_fail(ev, "%s %s %s does not work", tn_val_show(ev, a), signs[op], tn_val_show(ev, b));
}

/* and, or, default: the right side is looked at only when it is needed. */
static tn_val eval_choice(tn_eval *ev, const tn_expr *e) {
  tn_binary op = (tn_binary)e->u.bin.op;
  tn_val a = tn_eval_expr(ev, e->u.bin.a), b;
  bool x, right = a.kind == TN_V_MISSING || (op == TN_BIN_OR && a.kind == TN_V_NONE);
  if (a.kind == TN_V_BAD) return a;
  if (right && op != TN_BIN_AND) {
    bool fallback = ev->frame->fallback;
    ev->frame->fallback = true;
    b = tn_eval_expr(ev, e->u.bin.b);
    ev->frame->fallback = fallback;
    return b;
  }
  if (op == TN_BIN_DEFAULT || a.kind == TN_V_MISSING) return a;
  if (a.kind == TN_V_TENSOR) return tn_eval_binary(ev, op, a, tn_eval_expr(ev, e->u.bin.b));
  if (op == TN_BIN_OR && a.kind == TN_V_TEXT && a.u.text.alts[0].name) {
    b = tn_eval_expr(ev, e->u.bin.b);
    return b.kind == TN_V_TEXT ? text_or(ev, a.u.text, b.u.text) : a;
  }
  /* A key that is there and false is an answer: `tie_word_embeddings or true` asks only for its presence. */
  if (op == TN_BIN_OR && (a.kind != TN_V_BOOL || (ev->frame->config && e->u.bin.a->kind == TN_EX_NAME)))
    return a;
  if (!tn_val_truth(ev, a, &x)) return tn_val_bad();
  if (x == (op == TN_BIN_OR)) return tn_val_bool(x);
  b = tn_eval_expr(ev, e->u.bin.b);
  if (b.kind == TN_V_MISSING || !tn_val_truth(ev, b, &x)) return b;
  return tn_val_bool(x);
}

/* a if c else b: only the one that is meant is looked at. */
static tn_val eval_if(tn_eval *ev, const tn_expr *e) {
  tn_val c = tn_eval_expr(ev, e->u.choice.when);
  bool yes;
  if (c.kind == TN_V_MISSING) return c;
  if (!tn_val_truth(ev, c, &yes)) return tn_val_bad();
  return tn_eval_expr(ev, yes ? e->u.choice.yes : e->u.choice.no);
}

static tn_val eval_unary(tn_eval *ev, const tn_expr *e) {
  tn_val a = tn_eval_expr(ev, e->u.bin.a);
  bool x;
  if (a.kind == TN_V_BAD || a.kind == TN_V_MISSING) return a;
  if (a.kind == TN_V_TENSOR)
    return tn_make_op(ev, e->u.bin.op == '-' ? "neg" : "not", &a.u.tensor, 1, NULL, 0);
  if (e->u.bin.op == '-')
    return tn_eval_binary(ev, TN_BIN_SUB, a.kind == TN_V_REAL ? tn_val_real(0) : tn_val_int(0), a);
  return tn_val_truth(ev, a, &x) ? tn_val_bool(!x) : tn_val_bad();
}

static tn_val eval_list(tn_eval *ev, const tn_expr *e) {
  tn_val *items = tn_arena_alloc(&ev->arena, e->u.list.count * sizeof *items);
  if (!items) return tn_eval_oom(ev);
  for (uint32_t i = 0; i < e->u.list.count; i++) items[i] = tn_eval_expr(ev, e->u.list.items[i]);
  return tn_val_list(ev, items, e->u.list.count);
}

static tn_val eval_kind(tn_eval *ev, const tn_expr *e) {
  tn_val v;
  switch (e->kind) {
  case TN_EX_INT: return tn_val_int(e->u.i);
  case TN_EX_REAL: return tn_val_real(e->u.r);
  case TN_EX_BOOL: return tn_val_bool(e->u.b);
  case TN_EX_NONE: return tn_val_none();
  case TN_EX_NAME: return tn_eval_name(ev, e->u.name, &v) ? v : tn_eval_unknown(ev, e->u.name);
  case TN_EX_STRING: return tn_eval_text(ev, e);
  case TN_EX_LIST: return eval_list(ev, e);
  case TN_EX_CALL: return tn_eval_call(ev, e);
  case TN_EX_INDEX: return tn_eval_index(ev, e, tn_eval_expr(ev, e->u.index.base));
  case TN_EX_UNARY: return eval_unary(ev, e);
  case TN_EX_IF: return eval_if(ev, e);
  case TN_EX_BINARY:
    if (e->u.bin.op == TN_BIN_AND || e->u.bin.op == TN_BIN_OR || e->u.bin.op == TN_BIN_DEFAULT)
      return eval_choice(ev, e);
    v = tn_eval_expr(ev, e->u.bin.a);
    return tn_eval_binary(ev, (tn_binary)e->u.bin.op, v, tn_eval_expr(ev, e->u.bin.b));
  }
  return tn_val_bad();
}

tn_val tn_eval_expr(tn_eval *ev, const tn_expr *e) {
  if (!tn_eval_step(ev)) return tn_val_bad();
  if (ev->depth >= EVAL_DEPTH_MAX) {
    ev->stop = true;
    return tn_eval_fail(ev, "calls and expressions are nested too deeply");
  }
  tn_pos pos = ev->pos;
  if (ev->frame->page->prelude) ev->pos = e->pos;
  ev->depth++;
  tn_val v = eval_kind(ev, e);
  ev->depth--;
  ev->pos = pos;
  return v;
}
