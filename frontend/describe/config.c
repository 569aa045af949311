/* config.c - a page's config section over one config.json: values with their sources, requirements, harmless
 * keys. A page that extends another overrides lines by name, in the place where the other has them. */
#include "frontend/describe/eval.h"
#include <math.h>
#include <stdio.h>

static tn_val json_list(tn_eval *ev, const char *key, const tn_json *j) {
  if (j->count > TN_ROUND_LIMIT)
    return tn_eval_fail(ev, "the config's '%s' has %u items: at most %d are read", key, j->count,
                        TN_ROUND_LIMIT);
  tn_val *items = tn_arena_alloc(&ev->arena, j->count * sizeof *items);
  if (!items) return tn_eval_oom(ev);
  for (uint32_t i = 0; i < j->count; i++) items[i] = tn_json_val(ev, key, &j->u.items[i]);
  return tn_val_list(ev, items, j->count);
}

tn_val tn_json_val(tn_eval *ev, const char *key, const tn_json *j) {
  char *text;
  switch (j->kind) {
  case TN_JSON_NULL: return tn_val_none();
  case TN_JSON_BOOL: return tn_val_bool(j->u.b);
  case TN_JSON_INT: return tn_val_int(j->u.i);
  case TN_JSON_REAL:
    return !isnan(j->u.r) ? tn_val_real(j->u.r) : tn_eval_fail(ev, "the config's '%s' is not a number", key);
  case TN_JSON_STRING:
    if (j->u.s.len > 1024 || (j->u.s.len && memchr(j->u.s.ptr, 0, (size_t)j->u.s.len)))
      return tn_eval_fail(ev, "the config's '%s' is not a plain text", key);
    text = tn_arena_str(&ev->arena, j->u.s);
    return text ? tn_val_text(ev, text) : tn_eval_oom(ev);
  case TN_JSON_LIST: return json_list(ev, key, j);
  case TN_JSON_OBJECT: return (tn_val){.kind = TN_V_OBJECT, .u.object = j};
  }
  return tn_val_bad();
}

static tn_val missing_key(tn_eval *ev, const char *key) {
  const tn_json *c = ev->run->config;
  const char *names[512];
  uint32_t n = 0;
  for (uint32_t i = 0; c->kind == TN_JSON_OBJECT && i < c->count && n < TN_COUNT(names); i++)
    names[n++] = c->u.items[i].key;
  return tn_eval_fail(ev, "the config has no key '%s'%s", key, tn_eval_nearest(ev, key, names, n));
}

/* ---- require --------------------------------------------------------------------------------- */
/* true, false, 3, -1.5, word, "text", or several joined by `or`. */
static bool literal_is(tn_eval *ev, const tn_expr *e, tn_val v) {
  if (e->kind == TN_EX_BINARY && e->u.bin.op == TN_BIN_OR)
    return literal_is(ev, e->u.bin.a, v) || literal_is(ev, e->u.bin.b, v);
  if (e->kind == TN_EX_NAME) return v.kind == TN_V_TEXT && !strcmp(v.u.text.alts[0].raw, e->u.name);
  return tn_val_equal(tn_eval_expr(ev, e), v);
}

static void require_key(tn_eval *ev, const tn_config_line *line) {
  const tn_json *j = tn_json_path(ev->run->config, line->name);
  if (!j || j->kind == TN_JSON_NULL) return;
  tn_val v = tn_json_val(ev, line->name, j);
  if (v.kind != TN_V_BAD && !literal_is(ev, line->hf, v))
    tn_eval_fail(ev, "the config's '%s' is %s, and this page is written for %s", line->name,
                 tn_val_show(ev, v), line->text);
}

/* "d = 30, heads = 7": what the names in a condition are. */
static void show_names(tn_eval *ev, const tn_expr *e, tn_buf *b) {
  tn_val v;
  if (!e || b->len > 200) return;
  if (e->kind == TN_EX_BINARY)
    show_names(ev, e->u.bin.a, b), show_names(ev, e->u.bin.b, b);
  else if (e->kind == TN_EX_UNARY)
    show_names(ev, e->u.bin.a, b);
  else if (e->kind == TN_EX_NAME && tn_eval_name(ev, e->u.name, &v))
    tn_buf_printf(b, "%s%s = %s", b->len ? ", " : "", e->u.name, tn_val_show(ev, v));
}

static void require_condition(tn_eval *ev, const tn_config_line *line) {
  bool ok;
  tn_val v = tn_eval_expr(ev, line->hf);
  if (v.kind == TN_V_MISSING)
    missing_key(ev, v.u.key);
  else if (tn_val_truth(ev, v, &ok) && !ok) {
    tn_buf b = {0};
    show_names(ev, line->hf, &b);
    tn_eval_fail(ev, "the config does not fit: required is %s, but %s", line->text,
                 b.len ? tn_buf_cstr(&b) : "it is not so");
    tn_buf_fini(&b);
  }
}

/* ---- lines ----------------------------------------------------------------------------------- */
static void run_value(tn_eval *ev, const tn_config_line *line) {
  bool right = ev->run->tensors.gguf && line->gguf;
  ev->frame->fallback = right; /* `| gelu`: a constant where GGUF files have no key */
  tn_val v = tn_eval_expr(ev, right ? line->gguf : line->hf);
  ev->frame->fallback = false;
  if (v.kind == TN_V_MISSING) v = missing_key(ev, v.u.key);
  tn_vars_set(ev, &ev->config, line->name, v);
}

static void run_line(tn_eval *ev, const tn_page *page, const tn_config_line *line) {
  if (page->prelude) ev->file = page->file, ev->pos = line->pos;
  ev->frame->page = page;
  switch (line->kind) {
  case TN_CF_VALUE: run_value(ev, line); break;
  case TN_CF_REQUIRE_KEY: require_key(ev, line); break;
  case TN_CF_REQUIRE: require_condition(ev, line); break;
  case TN_CF_IGNORE: tn_json_path(ev->run->config, line->name); break;
  }
}

const tn_config_line *tn_config_line_of(const tn_eval *ev, const char *name, const tn_page **page) {
  for (const tn_page *p = ev->page; p; p = p->base)
    for (uint32_t i = 0; i < p->config.count; i++) {
      const tn_config_line *l = &p->config.items[i];
      if (l->kind != TN_CF_VALUE || strcmp(l->name, name) != 0) continue;
      *page = p;
      return l;
    }
  return NULL;
}

/* A page that extends this one says something else about a key that this one requires. */
static bool withdrawn(const tn_eval *ev, const tn_page *page, const tn_config_line *line) {
  if (line->kind != TN_CF_REQUIRE_KEY) return false;
  for (const tn_page *p = ev->page; p && p != page; p = p->base)
    for (uint32_t i = 0; i < p->config.count; i++) {
      const tn_config_line *l = &p->config.items[i];
      bool about = l->kind == TN_CF_REQUIRE_KEY || l->kind == TN_CF_IGNORE;
      if (about && !strcmp(l->name, line->name)) return true;
    }
  return false;
}

static void run_page(tn_eval *ev, const tn_page *page) {
  if (page->base) run_page(ev, page->base);
  for (uint32_t i = 0; i < page->config.count && !ev->stop; i++) {
    const tn_config_line *line = &page->config.items[i];
    const tn_page *from = page;
    if (line->kind == TN_CF_VALUE && tn_vars_find(&ev->config, line->name))
      continue; /* ran in its base's place */
    if (withdrawn(ev, page, line)) continue;
    if (line->kind == TN_CF_VALUE) line = tn_config_line_of(ev, line->name, &from);
    run_line(ev, from, line);
  }
}

bool tn_eval_config(tn_eval *ev) {
  tn_frame f = {.page = ev->page, .config = true};
  uint32_t errors = ev->errors;
  ev->frame = &f;
  if (ev->page->prelude)
    for (uint32_t i = 0; i < ev->page->prelude->config.count; i++)
      run_line(ev, ev->page->prelude, &ev->page->prelude->config.items[i]);
  run_page(ev, ev->page);
  ev->frame = NULL;
  return errors == ev->errors && !ev->stop;
}
