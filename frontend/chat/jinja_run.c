/* jinja_run.c - statements. A scope is opened by the template, by each round of a loop, by a macro's call, by
 * with and by captured text; set writes to the innermost one, a name is looked for from there outwards. */
#include "frontend/chat/jinja.h"

/* ---- scopes ---------------------------------------------------------------------------------- */
tn_jinja_scope *tn_jinja_scope_new(tn_jinja_run *r, tn_jinja_scope *outer) {
  tn_jinja_scope *s = tn_jinja_alloc(r, sizeof *s);
  if (s) s->outer = outer;
  return s;
}

void tn_jinja_bind(tn_jinja_run *r, tn_str name, tn_jv value) {
  tn_jinja_scope *s = r->scope;
  if (r->status) return;
  for (uint32_t i = 0; i < s->count; i++) {
    if (!tn_str_eq(s->names[i], name)) continue;
    s->values[i] = value;
    return;
  }
  if (s->count == s->room) {
    uint32_t room = s->room ? 2 * s->room : 4;
    tn_str *names = tn_jinja_alloc(r, room * sizeof *names);
    tn_jv *values = tn_jinja_alloc(r, room * sizeof *values);
    if (!names || !values) return;
    if (s->count) memcpy(names, s->names, s->count * sizeof *names);
    if (s->count) memcpy(values, s->values, s->count * sizeof *values);
    s->names = names;
    s->values = values;
    s->room = room;
  }
  s->names[s->count] = name;
  s->values[s->count++] = value;
}

static void assign_attr(tn_jinja_run *r, const tn_jn *target, tn_jv value) {
  tn_jv of = tn_jinja_eval(r, target->kids[0]);
  r->now = target;
  if (of.kind != TN_JV_NAMESPACE)
    tn_jinja_fail(r, "cannot assign attribute '%.*s': only a namespace has ones that change",
                  (int)(target->name.len > 80 ? 80 : target->name.len), target->name.ptr);
  else if (tn_str_starts(target->name, "_"))
    tn_jinja_fail(r, "a namespace keeps no attribute that begins with _");
  if (!r->status) tn_jv_put(r, of, tn_jv_str(target->name), value);
}

void tn_jinja_assign(tn_jinja_run *r, const tn_jn *target, tn_jv value) {
  if (r->status) return;
  if (target->kind == TN_JN_NAME) {
    tn_jinja_bind(r, target->name, value);
  } else if (target->kind == TN_JN_ATTR) {
    assign_attr(r, target, value);
  } else {
    r->now = target;
    const tn_jv_list *l = tn_jv_items(r, value);
    if (!r->status && l->count != target->nkids)
      tn_jinja_fail(r, "%u values for %u names", l->count, target->nkids);
    for (uint32_t i = 0; i < target->nkids && !r->status; i++)
      tn_jinja_assign(r, target->kids[i], l->items[i]);
  }
}

/* ---- captured text --------------------------------------------------------------------------- */
/* What the body writes, as a string; in a scope of its own. */
static tn_jv capture(tn_jinja_run *r, const tn_jn *body, tn_jinja_scope *scope) {
  tn_jinja_scope *outer = r->scope;
  tn_buf *out = r->out, text = {0};
  if (!scope) return tn_jv_undefined(NULL);
  r->scope = scope;
  r->out = &text;
  tn_jinja_exec(r, body);
  r->scope = outer;
  r->out = out;
  return tn_jv_take(r, &text);
}

/* Chains of filters that begin with the block's text. */
static tn_jv filtered(tn_jinja_run *r, const tn_jn *filter, tn_jv text) {
  if (!filter) return text;
  tn_jv self = filtered(r, filter->kids[0], text);
  tn_jn with = *filter, value = {.kind = TN_JN_CONST, .at = filter->at, .value = self};
  tn_jn **kids = tn_jinja_alloc(r, filter->nkids * sizeof *kids);
  if (!kids) return self;
  memcpy(kids, filter->kids, filter->nkids * sizeof *kids);
  kids[0] = &value;
  with.kids = kids;
  return tn_jinja_eval(r, &with);
}

/* ---- loops ----------------------------------------------------------------------------------- */
/* The items that the loop's condition lets through. */
static tn_jv_list *chosen(tn_jinja_run *r, const tn_jn *n, tn_jv_list *all, tn_jinja_scope *outer) {
  if (!n->kids[2]) return all;
  tn_jv kept = tn_jv_list_new(r, TN_JV_LIST, 0);
  for (uint32_t i = 0; i < all->count && !r->status; i++) {
    r->scope = tn_jinja_scope_new(r, outer);
    if (!r->scope) break;
    tn_jinja_assign(r, n->kids[0], all->items[i]);
    if (tn_jv_true(tn_jinja_eval(r, n->kids[2]))) tn_jv_push(r, kept, all->items[i]);
  }
  r->scope = outer;
  return r->status ? NULL : kept.u.list;
}

static void run_loop(tn_jinja_run *r, const tn_jn *n, tn_jv items, uint32_t depth) {
  tn_jinja_scope *outer = r->scope;
  tn_jv_list *list = chosen(r, n, tn_jv_items(r, items), outer);
  tn_jv_loop *loop = tn_jinja_alloc(r, sizeof *loop);
  if (!list || !loop || r->status) return;
  *loop = (tn_jv_loop){.items = list, .depth = depth, .node = n, .scope = outer};
  for (uint32_t i = 0; i < list->count && tn_jinja_step(r, 1) && !r->broke; i++) {
    loop->index = i;
    r->scope = tn_jinja_scope_new(r, outer);
    if (!r->scope) break;
    tn_jinja_bind(r, TN_STR("loop"), (tn_jv){TN_JV_LOOP, {.loop = loop}});
    tn_jinja_assign(r, n->kids[0], list->items[i]);
    tn_jinja_exec(r, n->kids[3]);
    r->continued = false;
  }
  r->broke = false;
  r->scope = outer;
  if (list->count || !n->kids[4] || r->status) return;
  r->scope = tn_jinja_scope_new(r, outer);
  if (r->scope) tn_jinja_exec(r, n->kids[4]);
  r->scope = outer;
}

tn_jv tn_jinja_call_loop(tn_jinja_run *r, const tn_jv_loop *l, tn_jv items) {
  tn_jinja_scope *scope = r->scope;
  tn_buf *out = r->out, text = {0};
  if (!l->node->recursive) return tn_jinja_fail(r, "the loop is not marked recursive");
  if (r->depth + 8 >= TN_JINJA_DEPTH_MAX) return tn_jinja_fail(r, "the loop calls itself too often");
  r->depth += 8; /* a round takes several frames */
  r->scope = l->scope;
  r->out = &text;
  run_loop(r, l->node, items, l->depth + 1);
  r->scope = scope;
  r->out = out;
  r->depth -= 8;
  return tn_jv_take(r, &text);
}

/* ---- macros ---------------------------------------------------------------------------------- */
static tn_jv make_macro(tn_jinja_run *r, const tn_jn *n) {
  tn_jv_macro *m = tn_jinja_alloc(r, sizeof *m);
  uint32_t ndefaults = n->nkids - 1;
  tn_jv *defaults = tn_jinja_alloc(r, (ndefaults + 1) * sizeof *defaults);
  if (!m || !defaults) return tn_jv_undefined(NULL);
  *m = (tn_jv_macro){n, r->scope, defaults};
  return (tn_jv){TN_JV_MACRO, {.macro = m}};
}

static int64_t named_argument(const tn_jinja_args *a, tn_str name) {
  for (uint32_t i = 0; i < a->nnamed; i++)
    if (tn_str_eq(a->names[i], name)) return i;
  return -1;
}

/* Argument i of the call, its default, or undefined. Defaults are evaluated at each call, with the arguments
 * before them. */
static tn_jv argument(tn_jinja_run *r, const tn_jn *n, const tn_jinja_args *a, uint32_t i) {
  int64_t named = named_argument(a, n->names[i]);
  uint32_t without = n->nnames - (n->nkids - 1);
  if (i < a->count && named >= 0)
    return tn_jinja_fail(r, "argument '%.*s' is given twice", (int)n->names[i].len, n->names[i].ptr);
  if (i < a->count) return a->items[i];
  if (named >= 0) return a->named[named];
  if (i >= without) return tn_jinja_eval(r, n->kids[1 + i - without]);
  char *words = tn_arena_printf(&r->arena, "argument '%.*s' was not given",
                                (int)(n->names[i].len > 80 ? 80 : n->names[i].len), n->names[i].ptr);
  return words ? tn_jv_undefined(words) : tn_jinja_oom(r);
}

/* varargs, kwargs and caller, which a macro has if it names them. */
static void bind_rest(tn_jinja_run *r, const tn_jn *n, const tn_jinja_args *a) {
  tn_jv rest = tn_jv_list_new(r, TN_JV_TUPLE, 0), more = tn_jv_dict_new(r);
  for (uint32_t i = n->nnames; i < a->count; i++) tn_jv_push(r, rest, a->items[i]);
  for (uint32_t i = 0; i < a->nnamed && !r->status; i++) {
    bool known = false;
    for (uint32_t k = 0; k < n->nnames; k++) known |= tn_str_eq(n->names[k], a->names[i]);
    if (known) continue;
    if (tn_str_is(a->names[i], "caller"))
      tn_jinja_bind(r, a->names[i], a->named[i]);
    else if (n->kwargs)
      tn_jv_put(r, more, tn_jv_str(a->names[i]), a->named[i]);
    else
      tn_jinja_fail(r, "macro '%.*s' takes no argument '%.*s'", (int)n->name.len, n->name.ptr,
                    (int)a->names[i].len, a->names[i].ptr);
  }
  if (n->varargs)
    tn_jinja_bind(r, TN_STR("varargs"), rest);
  else if (a->count > n->nnames)
    tn_jinja_fail(r, "macro '%.*s' takes %u arguments, %u are given", (int)n->name.len, n->name.ptr,
                  n->nnames, a->count);
  if (n->kwargs) tn_jinja_bind(r, TN_STR("kwargs"), more);
}

tn_jv tn_jinja_call_macro(tn_jinja_run *r, const tn_jv_macro *m, const tn_jinja_args *a) {
  const tn_jn *n = m->node;
  tn_jinja_scope *outer = r->scope, *own = tn_jinja_scope_new(r, m->scope);
  if (r->depth + 8 >= TN_JINJA_DEPTH_MAX) return tn_jinja_fail(r, "macros call each other too often");
  if (!own) return tn_jv_undefined(NULL);
  r->depth += 8;
  r->scope = own;
  for (uint32_t i = 0; i < n->nnames && !r->status; i++) tn_jinja_bind(r, n->names[i], argument(r, n, a, i));
  if (!r->status) bind_rest(r, n, a);
  tn_jv v = r->status ? tn_jv_undefined(NULL) : capture(r, n->kids[0], own);
  r->scope = outer;
  r->depth -= 8;
  return v;
}

/* The call, with the block as its argument "caller". */
static void exec_call_block(tn_jinja_run *r, const tn_jn *n) {
  const tn_jn *call = n->kids[0];
  tn_jn with = *call, value = {.kind = TN_JN_CONST, .at = n->at, .value = make_macro(r, n->kids[1])};
  tn_jn **kids = tn_jinja_alloc(r, (call->nkids + 1) * sizeof *kids);
  tn_str *names = tn_jinja_alloc(r, (call->nnames + 1) * sizeof *names);
  if (!kids || !names) return;
  memcpy(kids, call->kids, call->nkids * sizeof *kids);
  if (call->nnames) memcpy(names, call->names, call->nnames * sizeof *names);
  kids[with.nkids++] = &value;
  names[with.nnames++] = TN_STR("caller");
  with.kids = kids;
  with.names = names;
  tn_jv v = tn_jv_text(r, tn_jinja_eval(r, &with));
  if (!r->status) tn_jinja_write(r, v.u.s);
}

/* ---- statements ------------------------------------------------------------------------------ */
static void exec_print(tn_jinja_run *r, const tn_jn *n) {
  tn_jv v = tn_jinja_eval(r, n->kids[0]);
  r->now = n;
  v = tn_jv_text(r, v);
  if (!r->status && v.kind == TN_JV_STR) tn_jinja_write(r, v.u.s);
}

static void exec_if(tn_jinja_run *r, const tn_jn *n) {
  uint32_t i = 0;
  for (; i + 1 < n->nkids && !r->status; i += 2) {
    if (!tn_jv_true(tn_jinja_eval(r, n->kids[i]))) continue;
    if (!r->status) tn_jinja_exec(r, n->kids[i + 1]);
    return;
  }
  if (i < n->nkids && !r->status) tn_jinja_exec(r, n->kids[i]);
}

static void exec_with(tn_jinja_run *r, const tn_jn *n) {
  tn_jinja_scope *outer = r->scope, *own = tn_jinja_scope_new(r, outer);
  for (uint32_t i = 0; own && i + 1 < n->nkids && !r->status; i += 2) {
    tn_jv v = tn_jinja_eval(r, n->kids[i + 1]); /* in the scope outside */
    r->scope = own;
    tn_jinja_assign(r, n->kids[i], v);
    r->scope = outer;
  }
  if (own && !r->status) {
    r->scope = own;
    tn_jinja_exec(r, n->kids[n->nkids - 1]);
  }
  r->scope = outer;
}

static void exec_scope(tn_jinja_run *r, const tn_jn *n) {
  tn_jinja_scope *outer = r->scope;
  r->scope = tn_jinja_scope_new(r, outer);
  if (r->scope) tn_jinja_exec(r, n->kids[0]);
  r->scope = outer;
}

static void exec_capture(tn_jinja_run *r, const tn_jn *n) {
  tn_jv text = capture(r, n->kids[1], tn_jinja_scope_new(r, r->scope));
  if (!r->status) tn_jinja_assign(r, n->kids[0], filtered(r, n->kids[2], text));
}

static void exec_filter(tn_jinja_run *r, const tn_jn *n) {
  tn_jv text = capture(r, n->kids[1], tn_jinja_scope_new(r, r->scope));
  text = r->status ? text : tn_jv_text(r, filtered(r, n->kids[0], text));
  if (!r->status) tn_jinja_write(r, text.u.s);
}

static void exec(tn_jinja_run *r, const tn_jn *n) {
  switch (n->kind) {
  case TN_JN_TEXT: tn_jinja_write(r, n->value.u.s); break;
  case TN_JN_PRINT: exec_print(r, n); break;
  case TN_JN_BODY:
    for (uint32_t i = 0; i < n->nkids && !r->status && !r->broke && !r->continued; i++)
      tn_jinja_exec(r, n->kids[i]);
    break;
  case TN_JN_IF: exec_if(r, n); break;
  case TN_JN_FOR: {
    tn_jv items = tn_jinja_eval(r, n->kids[1]);
    r->now = n;
    if (!r->status) run_loop(r, n, items, 0);
    break;
  }
  case TN_JN_SET: tn_jinja_assign(r, n->kids[0], tn_jinja_eval(r, n->kids[1])); break;
  case TN_JN_CAPTURE: exec_capture(r, n); break;
  case TN_JN_MACRO: tn_jinja_bind(r, n->name, make_macro(r, n)); break;
  case TN_JN_CALL_BLOCK: exec_call_block(r, n); break;
  case TN_JN_FILTER_BLOCK: exec_filter(r, n); break;
  case TN_JN_WITH: exec_with(r, n); break;
  case TN_JN_SCOPE: exec_scope(r, n); break;
  case TN_JN_BREAK: r->broke = true; break;
  case TN_JN_CONTINUE: r->continued = true; break;
  default: tn_jinja_fail(r, "not a statement"); break;
  }
}

void tn_jinja_exec(tn_jinja_run *r, const tn_jn *n) {
  r->now = n;
  if (!tn_jinja_step(r, 1)) return;
  if (r->depth >= TN_JINJA_DEPTH_MAX) {
    tn_jinja_fail(r, "statements are nested deeper than %d", TN_JINJA_DEPTH_MAX);
    return;
  }
  r->depth++;
  exec(r, n);
  r->depth--;
}
