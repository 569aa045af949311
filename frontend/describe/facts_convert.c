/* facts_convert.c - the convert sections of a page and of those it extends: what happens to tensors on their
 * way into the other format, and the keys that the other format has for the values of the page.
 *
 * Most keys say themselves: `d = hidden_size | embedding_length` makes embedding_length of d in GGUF files,
 * and hidden_size in config.json. */
#include "frontend/describe/eval.h"

static const char *keep(tn_eval *ev, const char *s) {
  const char *copy = tn_arena_str(&ev->run->facts->arena, tn_str_of(s));
  if (!copy) tn_eval_oom(ev);
  return copy;
}

/* ---- rope ------------------------------------------------------------------------------------ */
static const double *keep_numbers(tn_eval *ev, const double *x, int64_t n) {
  const double *copy = x ? tn_arena_copy(&ev->run->facts->arena, x, (size_t)n * sizeof *x) : NULL;
  if (x && !copy) tn_eval_oom(ev);
  return copy;
}

void tn_facts_rope(tn_eval *ev, const tn_page_rope *rope) {
  tn_page_facts *f = ev->run->facts;
  if (!f) return;
  tn_page_rope r = *rope;
  r.kind = r.kind ? keep(ev, r.kind) : NULL;
  r.type = keep(ev, r.type);
  r.freq = keep_numbers(ev, r.freq, r.count);
  r.far = keep_numbers(ev, r.far, r.count);
  if (!tn_vec_push(&f->ropes, r)) tn_eval_oom(ev);
}

/* ---- steps ----------------------------------------------------------------------------------- */
typedef enum arg_kind { ARG_SIZES, ARG_ORDER, ARG_BACK, ARG_NUMBER, ARG_NAME } arg_kind;
static const struct {
  const char *name;
  tn_page_step_kind kind;
  uint32_t nargs;
  arg_kind args[5];
} steps[] = {
    {"rows", TN_STEP_ROWS, 2, {ARG_SIZES, ARG_ORDER}},
    {"shape", TN_STEP_SHAPE, 2, {ARG_SIZES, ARG_BACK}},
    {"turned", TN_STEP_TURN, 0, {0}},
    {"plus", TN_STEP_ADD, 1, {ARG_NUMBER}},
    {"rates", TN_STEP_RATES, 0, {0}},
    {"behind", TN_STEP_BEHIND, 1, {ARG_NUMBER}},
    {"split", TN_STEP_SPLIT, 3, {ARG_NUMBER, ARG_NAME, ARG_NAME}},
    {"heads_apart", TN_STEP_HEADS, 3, {ARG_SIZES, ARG_NAME, ARG_NAME}},
};

static bool take_list(tn_eval *ev, const char *step, tn_val v, int64_t *out, uint32_t *count) {
  bool ok = v.kind == TN_V_LIST && v.u.list.count && v.u.list.count <= TN_MAX_RANK;
  *count = ok ? v.u.list.count : 0;
  for (uint32_t i = 0; ok && i < v.u.list.count; i++) {
    ok = v.u.list.items[i].kind == TN_V_INT && v.u.list.items[i].u.i >= 0;
    out[i] = ok ? v.u.list.items[i].u.i : 0;
  }
  if (!ok && v.kind != TN_V_BAD)
    tn_eval_fail(ev, "%s: %s is no list of 1 to %d sizes", step, tn_val_show(ev, v), TN_MAX_RANK);
  return ok;
}

static bool take_arg(tn_eval *ev, const char *step, arg_kind kind, tn_val v, tn_page_step *s) {
  uint32_t n;
  switch (kind) {
  case ARG_SIZES: return take_list(ev, step, v, s->sizes, &s->count);
  case ARG_ORDER: return take_list(ev, step, v, s->order, &n) && n == s->count;
  case ARG_BACK: return take_list(ev, step, v, s->back, &s->nback);
  case ARG_NUMBER: s->number = v.kind == TN_V_INT ? (double)v.u.i : v.u.r; return tn_val_is_number(v);
  case ARG_NAME:
    if (v.kind != TN_V_TEXT) return false;
    s->names[s->nnames++] = keep(ev, v.u.text.alts[0].raw);
    return true;
  }
  return false;
}

static bool eval_step(tn_eval *ev, const tn_expr *e, tn_page_step *out) {
  const char *name = e->kind == TN_EX_CALL ? e->u.call.name : e->kind == TN_EX_NAME ? e->u.name : "";
  uint32_t n = e->kind == TN_EX_CALL ? e->u.call.count : 0;
  ev->pos = e->pos;
  for (size_t i = 0; i < TN_COUNT(steps); i++) {
    if (strcmp(steps[i].name, name) != 0) continue;
    bool ok = n == steps[i].nargs;
    *out = (tn_page_step){.kind = steps[i].kind};
    for (uint32_t k = 0; ok && k < n; k++)
      ok = take_arg(ev, name, steps[i].args[k], tn_eval_expr(ev, e->u.call.args[k].value), out);
    if (!ok) tn_eval_fail(ev, "'%s' needs %u arguments of its own kinds", name, steps[i].nargs);
    return ok;
  }
  tn_eval_fail(ev, "'%s' is no step of a conversion", name);
  return false;
}

/* "name" = same: what the page that is extended says of it does not hold. */
static bool is_same(const tn_convert_line *line) {
  const tn_expr *e = line->steps.count == 1 ? line->steps.items[0] : NULL;
  return e && e->kind == TN_EX_NAME && !strcmp(e->u.name, "same");
}

static void add_rule(tn_eval *ev, const tn_convert_line *line) {
  tn_page_facts *f = ev->run->facts;
  tn_page_rule r = {.as = line->as ? keep(ev, line->as) : NULL, .nsteps = line->steps.count};
  tn_page_step *all = tn_arena_alloc(&f->arena, (line->steps.count + 1) * sizeof *all);
  if (!all) {
    tn_eval_oom(ev);
    return;
  }
  r.steps = all;
  if (is_same(line)) r.nsteps = 0;
  for (uint32_t i = 0; i < r.nsteps; i++)
    if (!eval_step(ev, line->steps.items[i], &all[i])) return;
  for (uint32_t i = 0; i < line->names.count; i++) {
    r.pattern = keep(ev, line->names.items[i]);
    if (!tn_vec_push(&f->rules, r)) tn_eval_oom(ev);
  }
}

/* ---- keys ------------------------------------------------------------------------------------ */
static bool to_json(tn_eval *ev, tn_val v, tn_json *out) {
  tn_arena *a = &ev->run->facts->arena;
  switch (v.kind) {
  case TN_V_BOOL: *out = (tn_json){.kind = TN_JSON_BOOL, .key = out->key, .u.b = v.u.b}; return true;
  case TN_V_INT: *out = (tn_json){.kind = TN_JSON_INT, .key = out->key, .u.i = v.u.i}; return true;
  case TN_V_REAL: *out = (tn_json){.kind = TN_JSON_REAL, .key = out->key, .u.r = v.u.r}; return true;
  case TN_V_TEXT:
    *out =
        (tn_json){.kind = TN_JSON_STRING, .key = out->key, .u.s = tn_str_of(keep(ev, v.u.text.alts[0].raw))};
    return true;
  case TN_V_LIST: {
    tn_json *items = tn_arena_alloc(a, (v.u.list.count + 1) * sizeof *items);
    if (!items) return tn_eval_oom(ev), false;
    for (uint32_t i = 0; i < v.u.list.count; i++)
      if (!to_json(ev, v.u.list.items[i], &items[i])) return false;
    *out = (tn_json){.kind = TN_JSON_LIST, .key = out->key, .count = v.u.list.count, .u.items = items};
    return true;
  }
  case TN_V_BAD:
  case TN_V_MISSING:
  case TN_V_NONE:
  case TN_V_DIM:
  case TN_V_TENSOR:
  case TN_V_OBJECT:
  case TN_V_UNSET: break;
  }
  return false;
}

/* A key that is there stays as it is. What has no value is left out of the file, or null if `null` says so.
 */
static void set_key(tn_eval *ev, const char *key, tn_val v, bool null) {
  tn_page_facts *f = ev->run->facts;
  if (tn_json_peek(f->keys, key)) return;
  tn_json *node = tn_json_add(&f->arena, f->keys, key), value = {0};
  if (!node) {
    tn_eval_oom(ev);
    return;
  }
  value.key = node->key;
  if (!to_json(ev, v, &value)) value = (tn_json){.kind = TN_JSON_NULL, .key = node->key};
  value.made = value.kind == TN_JSON_NULL && !null;
  *node = value;
}

/* The key that the expression of the page's value i reads first; NULL: it computes something else. Values
 * that are set on earlier lines are no keys. */
static const char *key_of(tn_eval *ev, uint32_t i, const tn_expr *e, bool gguf) {
  while (e && e->kind == TN_EX_BINARY && (e->u.bin.op == TN_BIN_OR || e->u.bin.op == TN_BIN_DEFAULT))
    e = e->u.bin.a;
  if (!e || e->kind != TN_EX_NAME) return NULL;
  tn_vars before = {ev->config.items, i, i};
  if (tn_vars_find(&before, e->u.name) || (gguf && tn_is_function(ev, e->u.name))) return NULL;
  return gguf || !strchr(e->u.name, '.') ? e->u.name : NULL;
}

static void config_keys(tn_eval *ev) {
  bool gguf = !ev->run->tensors.gguf; /* the format that keys are made for */
  for (uint32_t i = 0; i < ev->config.count; i++) {
    const tn_page *page = NULL;
    const tn_config_line *line = tn_config_line_of(ev, ev->config.items[i].name, &page);
    const tn_expr *e = !line ? NULL : gguf && line->gguf ? line->gguf : line->hf;
    const char *key = key_of(ev, i, e, gguf);
    if (!key || (gguf && !line->gguf && !tn_json_path(ev->run->config, key))) continue;
    bool null = e->kind == TN_EX_BINARY && e->u.bin.op == TN_BIN_DEFAULT; /* a missing key means something */
    set_key(ev, key, ev->config.items[i].v, null);
  }
}

/* `act = hidden_act or gelu | gelu`: where GGUF files have no key, they mean this function. */
static void check_words(tn_eval *ev) {
  for (uint32_t i = 0; i < ev->config.count && !ev->run->tensors.gguf; i++) {
    const tn_page *page = NULL;
    const tn_config_line *line = tn_config_line_of(ev, ev->config.items[i].name, &page);
    const tn_expr *e = line ? line->gguf : NULL;
    tn_val v = ev->config.items[i].v;
    if (!e || e->kind != TN_EX_NAME || !tn_is_function(ev, e->u.name) || tn_vars_find(&ev->config, e->u.name))
      continue;
    if (v.kind != TN_V_TEXT || !strcmp(v.u.text.alts[0].raw, e->u.name)) continue;
    ev->file = page->file, ev->pos = line->pos;
    tn_eval_fail(ev, "GGUF files of this model mean %s = %s, and here it is %s", line->name, e->u.name,
                 v.u.text.alts[0].raw);
  }
}

/* What the other format cannot say. */
static void require(tn_eval *ev, const tn_convert_line *line) {
  bool ok;
  tn_val v = tn_eval_expr(ev, line->value);
  if (v.kind != TN_V_MISSING && tn_val_truth(ev, v, &ok) && !ok)
    tn_eval_fail(ev, "%s cannot say what this model is: required is %s",
                 line->kind == TN_CV_HF_REQUIRE ? "config.json" : "GGUF files", line->key);
}

/* The most derived page speaks first, and what it says stays; what it requires is all that is required. */
static void page_lines(tn_eval *ev, const tn_page *page, tn_frame *f, bool *required) {
  bool back = ev->run->tensors.gguf, said = *required;
  tn_convert_kind mine = back ? TN_CV_HF : TN_CV_GGUF, must = back ? TN_CV_HF_REQUIRE : TN_CV_GGUF_REQUIRE;
  for (uint32_t i = 0; i < page->convert.count && !ev->stop; i++) {
    const tn_convert_line *line = &page->convert.items[i];
    ev->file = page->file, ev->pos = line->pos;
    f->page = page;
    if (line->kind == TN_CV_TENSOR || line->kind == TN_CV_NAME)
      add_rule(ev, line);
    else if (line->kind == must && !said)
      *required = true, require(ev, line);
    else if (line->kind == mine)
      set_key(ev, line->key, tn_eval_expr(ev, line->value), false);
  }
}

void tn_facts_convert(tn_eval *ev) {
  tn_page_facts *facts = ev->run->facts;
  bool required = false;
  tn_frame f = {.config = true, .convert = true, .fallback = true, .prefix = "", .other = ""};
  facts->keys = tn_arena_alloc(&facts->arena, sizeof *facts->keys);
  if (!facts->keys) {
    tn_eval_oom(ev);
    return;
  }
  facts->keys->kind = TN_JSON_OBJECT;
  for (const tn_page *p = ev->page; p; p = p->base) {
    if (!facts->gguf && p->gguf.count) facts->gguf = keep(ev, p->gguf.items[0]);
    if (!facts->type && p->types.count) facts->type = keep(ev, p->types.items[0]);
  }
  ev->frame = &f;
  for (const tn_page *p = ev->page; p && !ev->stop; p = p->base) page_lines(ev, p, &f, &required);
  if (ev->page->prelude && !ev->stop) page_lines(ev, ev->page->prelude, &f, &required);
  f.page = ev->page;
  if (!ev->stop) config_keys(ev);
  if (!ev->stop) check_words(ev);
  ev->frame = NULL;
}
