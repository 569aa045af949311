/* value.c - the evaluator's values, how messages show them, and the messages themselves. */
#include "frontend/describe/eval.h"
#include <math.h>
#include <stdio.h>

/* ---- making ---------------------------------------------------------------------------------- */
tn_val tn_eval_oom(tn_eval *ev) {
  ev->oom = ev->stop = true;
  return tn_val_bad();
}

tn_val tn_val_dim(tn_eval *ev, tn_dim d) {
  int64_t i;
  if (!d) return tn_val_bad();
  if (ev->ir->dim_is_const(ev->m, d, &i)) return tn_val_int(i);
  return (tn_val){.kind = TN_V_DIM, .u.dim = d};
}

tn_val tn_val_list(tn_eval *ev, const tn_val *items, uint32_t count) {
  tn_val v = {.kind = TN_V_LIST};
  if (count > TN_ROUND_LIMIT)
    return tn_eval_fail(ev, "a list of %u items: at most %d", count, TN_ROUND_LIMIT);
  v.u.list.items = tn_arena_copy(&ev->arena, items, count * sizeof *items);
  v.u.list.count = count;
  return v.u.list.items ? v : tn_eval_oom(ev);
}

tn_val tn_val_text(tn_eval *ev, const char *text) {
  tn_val v = {.kind = TN_V_TEXT};
  tn_alt *a = tn_arena_alloc(&ev->arena, sizeof *a);
  if (!a || !(a->raw = tn_arena_str(&ev->arena, tn_str_of(text)))) return tn_eval_oom(ev);
  v.u.text = (tn_text){a, 1};
  return v;
}

/* ---- comparing ------------------------------------------------------------------------------- */
static double number(tn_val v) { return v.kind == TN_V_INT ? (double)v.u.i : v.u.r; }

bool tn_val_equal(tn_val a, tn_val b) {
  if (tn_val_is_number(a) && tn_val_is_number(b)) {
    if (a.kind == TN_V_INT && b.kind == TN_V_INT) return a.u.i == b.u.i;
    return number(a) == number(b);
  }
  if (a.kind != b.kind) return false;
  switch (a.kind) {
  case TN_V_BOOL: return a.u.b == b.u.b;
  case TN_V_NONE: return true;
  case TN_V_TEXT:
    return a.u.text.count == 1 && b.u.text.count == 1 && !strcmp(a.u.text.alts[0].raw, b.u.text.alts[0].raw);
  case TN_V_DIM: return a.u.dim == b.u.dim;
  case TN_V_TENSOR: return a.u.tensor == b.u.tensor;
  case TN_V_LIST:
    if (a.u.list.count != b.u.list.count) return false;
    for (uint32_t i = 0; i < a.u.list.count; i++)
      if (!tn_val_equal(a.u.list.items[i], b.u.list.items[i])) return false;
    return true;
  case TN_V_OBJECT: return a.u.object == b.u.object;
  case TN_V_BAD:
  case TN_V_MISSING:
  case TN_V_UNSET:
  case TN_V_INT:
  case TN_V_REAL: break;
  }
  return false;
}

bool tn_val_truth(tn_eval *ev, tn_val v, bool *out) {
  if (v.kind == TN_V_BAD) return false;
  if (v.kind != TN_V_BOOL && v.kind != TN_V_NONE) {
    tn_eval_fail(ev, "expected true or false, found %s", tn_val_show(ev, v));
    return false;
  }
  *out = v.kind == TN_V_BOOL && v.u.b;
  return true;
}

/* ---- showing --------------------------------------------------------------------------------- */
static void show_dim(tn_eval *ev, tn_buf *b, tn_dim d, int depth) {
  tn_dim_info x;
  static const struct {
    uint32_t kind;
    const char *text;
  } ops[] = {{TN_DIM_ADD, " + "}, {TN_DIM_MUL, " * "},   {TN_DIM_FLOORDIV, " / "},
             {TN_DIM_MOD, " % "}, {TN_DIM_MIN, " min "}, {TN_DIM_MAX, " max "}};
  ev->ir->dim_get(ev->m, d, &x);
  if (x.kind == TN_DIM_CONST) {
    tn_buf_printf(b, "%lld", (long long)x.value);
    return;
  }
  if (x.kind == TN_DIM_SYM) {
    tn_buf_puts(b, x.symbol);
    return;
  }
  for (size_t i = 0; i < TN_COUNT(ops) && depth < 16; i++) {
    if (ops[i].kind != x.kind) continue;
    if (depth) tn_buf_puts(b, "(");
    show_dim(ev, b, x.a, depth + 1);
    tn_buf_puts(b, ops[i].text);
    show_dim(ev, b, x.b, depth + 1);
    if (depth) tn_buf_puts(b, ")");
    return;
  }
  tn_buf_puts(b, "?");
}

static void show_type(tn_eval *ev, tn_buf *b, tn_type t) {
  tn_type_info x;
  ev->ir->type_get(ev->m, t, &x);
  const tn_dtype_info *d = ev->ir->dtype_info(x.dtype);
  tn_buf_printf(b, "%s[", d ? d->name : "?");
  for (uint32_t i = 0; i < x.rank; i++) {
    if (i) tn_buf_puts(b, ", ");
    show_dim(ev, b, x.dims[i], 0);
  }
  tn_buf_puts(b, "]");
}

static void show(tn_eval *ev, tn_buf *b, tn_val v, int depth) {
  tn_value_info info;
  if (depth > 8 || b->len > 160) {
    tn_buf_puts(b, "...");
    return;
  }
  switch (v.kind) {
  case TN_V_BAD: tn_buf_puts(b, "an error"); return;
  case TN_V_MISSING: tn_buf_printf(b, "the missing key '%s'", v.u.key); return;
  case TN_V_UNSET:
  case TN_V_NONE: tn_buf_puts(b, "none"); return;
  case TN_V_BOOL: tn_buf_puts(b, v.u.b ? "true" : "false"); return;
  case TN_V_INT: tn_buf_printf(b, "%lld", (long long)v.u.i); return;
  case TN_V_REAL: tn_buf_printf(b, "%.9g", v.u.r); return;
  case TN_V_TEXT: tn_buf_printf(b, "\"%.80s\"", v.u.text.alts[0].raw); return;
  case TN_V_DIM: show_dim(ev, b, v.u.dim, 0); return;
  case TN_V_TENSOR:
    ev->ir->value_get(ev->m, v.u.tensor, &info);
    tn_buf_puts(b, "the tensor ");
    show_type(ev, b, info.type);
    return;
  case TN_V_LIST:
    tn_buf_puts(b, "[");
    for (uint32_t i = 0; i < v.u.list.count && b->len < 160; i++) {
      if (i) tn_buf_puts(b, ", ");
      show(ev, b, v.u.list.items[i], depth + 1);
    }
    tn_buf_puts(b, "]");
    return;
  case TN_V_OBJECT: tn_buf_puts(b, "an object of the config"); return;
  }
}

static const char *keep(tn_eval *ev, tn_buf *b) {
  const char *s = tn_arena_str(&ev->arena, tn_str_of(tn_buf_cstr(b)));
  tn_buf_fini(b);
  return s ? s : "?";
}

const char *tn_val_show(tn_eval *ev, tn_val v) {
  tn_buf b = {0};
  show(ev, &b, v, 0);
  return keep(ev, &b);
}

const char *tn_dim_show(tn_eval *ev, tn_dim d) {
  tn_buf b = {0};
  show_dim(ev, &b, d, 0);
  return keep(ev, &b);
}

const char *tn_type_show(tn_eval *ev, tn_type t) {
  tn_buf b = {0};
  show_type(ev, &b, t);
  return keep(ev, &b);
}

/* ---- dims and types -------------------------------------------------------------------------- */
tn_dim tn_val_to_dim(tn_eval *ev, tn_val v) {
  if (v.kind == TN_V_DIM) return v.u.dim;
  return v.kind == TN_V_INT ? ev->ir->dim_const(ev->m, v.u.i) : 0;
}

tn_type_info tn_val_type(tn_eval *ev, tn_val tensor) {
  tn_value_info v;
  tn_type_info t;
  ev->ir->value_get(ev->m, tensor.u.tensor, &v);
  ev->ir->type_get(ev->m, v.type, &t);
  return t;
}

/* ---- messages -------------------------------------------------------------------------------- */
static tn_val report(tn_eval *ev, const char *file, tn_pos pos, const char *where, const char *text) {
  char key[700];
  bool seen = false;
  int n = snprintf(key, sizeof key, "%s:%u:%u:%s", file, pos.line, pos.col, text);
  uint64_t len = n < 0 ? 0 : (uint64_t)n < sizeof key ? (uint64_t)n : sizeof key - 1;
  if (tn_map_put(&ev->reported, (tn_str){key, len}, 1, &seen) != TN_OK) return tn_eval_oom(ev);
  if (!seen) tn_diags_add(ev->run->diags, TN_ERROR, file, pos.line, pos.col, where, "%s", text);
  if (!seen) ev->errors++;
  return tn_val_bad();
}

tn_val tn_eval_fail(tn_eval *ev, const char *fmt, ...) {
  char text[600];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(text, sizeof text, fmt, ap);
  va_end(ap);
  return report(ev, ev->file, ev->pos, NULL, text);
}

tn_val tn_eval_fail_at(tn_eval *ev, const char *file, tn_pos pos, const char *where, const char *fmt, ...) {
  char text[600];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(text, sizeof text, fmt, ap);
  va_end(ap);
  return report(ev, file, pos, where, text);
}

const char *tn_eval_nearest(tn_eval *ev, const char *name, const char *const *names, uint32_t count) {
  int i = tn_str_nearest(name, names, (int)count);
  bool near = i >= 0 && strlen(names[i]) * 2 >= strlen(name); /* "b" is no suggestion for "frob" */
  const char *s = near ? tn_arena_printf(&ev->arena, ", did you mean '%s'", names[i]) : "";
  return s ? s : "";
}

bool tn_eval_step(tn_eval *ev) {
  if (ev->stop) return false;
  if (ev->steps++ >= TN_STEP_LIMIT) {
    tn_eval_fail(ev, "the page ran for more than %u steps: a count in the config is too large",
                 TN_STEP_LIMIT);
    ev->stop = true;
  } else if (ev->errors >= 100) {
    ev->stop = true;
  }
  return !ev->stop;
}
