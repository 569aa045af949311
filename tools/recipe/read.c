/* read.c - a recipe: a JSON object of models, variants and steps (README.md has the schema). Everything is
 * checked before anything runs: keys, commands and their options, references to earlier steps. Keys that
 * begin with // are comments. */
#include "tools/recipe/recipe.h"
#include <ctype.h>
#include <math.h>
#include <stdlib.h>

static const tn_step_kind kinds[] = {
#define TN_STEP(name, words) {&tn_cmd_##name, words},
#include "tools/recipe/steps.def"
};

tn_status tn_recipe_bad(tn_recipe *r, const char *where, const char *fmt, ...) {
  tn_buf text = {0};
  va_list ap;
  va_start(ap, fmt);
  tn_buf_vprintf(&text, fmt, ap);
  va_end(ap);
  tn_fail(r->diags, TN_INVALID, r->file, where, "%s", tn_buf_cstr(&text));
  tn_buf_fini(&text);
  return TN_INVALID;
}

static void put_real(tn_buf *b, double x) {
  char text[32];
  int digits = 15;
  do snprintf(text, sizeof text, "%.*g", digits, x);
  while (strtod(text, NULL) != x && digits++ < 17);
  tn_buf_puts(b, text);
}

void tn_recipe_put(tn_buf *b, const tn_json *v) {
  if (v->kind == TN_JSON_REAL && isfinite(v->u.r))
    put_real(b, v->u.r);
  else if (v->kind == TN_JSON_STRING)
    tn_buf_put(b, v->u.s.ptr, v->u.s.len);
  else
    tn_json_write(b, v);
}

static tn_status oom(tn_recipe *r) { return tn_fail(r->diags, TN_OOM, r->file, NULL, "out of memory"); }

static const char *at(tn_recipe *r, const char *where, const char *key) {
  const char *p = *where ? tn_arena_printf(&r->arena, "%s.%s", where, key) : key;
  return p ? p : key;
}

static const char *nth(tn_recipe *r, const char *where, uint32_t i) {
  const char *p = tn_arena_printf(&r->arena, "%s[%u]", where, i);
  return p ? p : where;
}

static bool is_comment(const char *key) { return key[0] == '/' && key[1] == '/'; }

/* ---- values ---------------------------------------------------------------------------------- */
static tn_status wrong_kind(tn_recipe *r, const char *where, const tn_json *n, tn_json_kind want) {
  return tn_recipe_bad(r, where, "should be %s, is %s", tn_json_kind_name(want), tn_json_kind_name(n->kind));
}

/* NULL: missing or null. */
static tn_status get(tn_recipe *r, const tn_json *o, const char *where, const char *key, tn_json_kind kind,
                     const tn_json **out) {
  const tn_json *n = tn_json_get(o, key);
  *out = n && n->kind != TN_JSON_NULL ? n : NULL;
  return !*out || n->kind == kind ? TN_OK : wrong_kind(r, at(r, where, key), n, kind);
}

static tn_status get_text(tn_recipe *r, const tn_json *o, const char *where, const char *key,
                          const char **out) {
  const tn_json *n;
  TN_TRY(get(r, o, where, key, TN_JSON_STRING, &n));
  *out = n ? n->u.s.ptr : NULL;
  if (n && (!n->u.s.len || memchr(n->u.s.ptr, 0, n->u.s.len)))
    return tn_recipe_bad(r, at(r, where, key), "is empty, or has a NUL");
  return TN_OK;
}

/* Every key must have been asked for by now, or be a comment. */
static tn_status check_keys(tn_recipe *r, const tn_json *o, const char *where, const char *const *known,
                            uint32_t n) {
  for (uint32_t i = 0; i < o->count; i++) {
    const char *key = o->u.items[i].key;
    bool found = is_comment(key);
    for (uint32_t k = 0; k < n && !found; k++) found = !strcmp(key, known[k]);
    if (found) continue;
    int near = tn_str_nearest(key, known, (int)n);
    return tn_recipe_bad(r, at(r, where, key), "is not known%s%s%s", near < 0 ? "" : "; did you mean '",
                         near < 0 ? "" : known[near], near < 0 ? "" : "'?");
  }
  return TN_OK;
}

/* Names become names of folders and words of tables. */
static tn_status check_name(tn_recipe *r, const char *where, const char *name) {
  bool good = *name && *name != '.' && strlen(name) <= 100;
  for (const char *p = name; *p && good; p++) good = isalnum((unsigned char)*p) || strchr("._+-", *p);
  return good ? TN_OK
              : tn_recipe_bad(r, where, "'%.100s' is not a name: letters, digits and . _ + - only", name);
}

/* ---- models and variants --------------------------------------------------------------------- */
/* The last part of a path, without .gguf, .onnx and the like. */
static const char *name_of(tn_recipe *r, const char *path) {
  static const char *const ends[] = {".gguf", ".onnx", ".so", ".tir"};
  tn_str s = tn_str_of(path);
  while (s.len > 1 && s.ptr[s.len - 1] == '/') s.len--;
  for (uint64_t i = s.len; i-- > 0;)
    if (s.ptr[i] == '/') {
      s = (tn_str){s.ptr + i + 1, s.len - i - 1};
      break;
    }
  for (size_t i = 0; i < TN_COUNT(ends); i++)
    if (tn_str_ends(s, ends[i])) s.len -= strlen(ends[i]);
  char *name = tn_arena_str(&r->arena, s);
  for (char *p = name; p && *p; p++)
    if (!isalnum((unsigned char)*p) && !strchr("._+-", *p)) *p = '-';
  return name;
}

static tn_status check_vars(tn_recipe *r, const tn_json *vars, const char *where) {
  for (uint32_t i = 0; vars && i < vars->count; i++) {
    const tn_json *v = &vars->u.items[i];
    bool plain = v->kind == TN_JSON_STRING || v->kind == TN_JSON_INT || v->kind == TN_JSON_REAL ||
                 v->kind == TN_JSON_BOOL;
    if (!is_comment(v->key) && !plain)
      return tn_recipe_bad(r, at(r, where, v->key), "should be a text or a number, is %s",
                           tn_json_kind_name(v->kind));
  }
  return TN_OK;
}

static tn_status read_model(tn_recipe *r, const tn_json *n, const char *where, tn_recipe_model *out) {
  static const char *const keys[] = {"name", "path", "vars"};
  if (n->kind == TN_JSON_STRING) {
    *out = (tn_recipe_model){.name = name_of(r, n->u.s.ptr), .path = n->u.s.ptr};
  } else if (n->kind == TN_JSON_OBJECT) {
    TN_TRY(get_text(r, n, where, "path", &out->path));
    if (!out->path) return tn_recipe_bad(r, where, "has no path");
    TN_TRY(get_text(r, n, where, "name", &out->name));
    if (!out->name) out->name = name_of(r, out->path);
    TN_TRY(get(r, n, where, "vars", TN_JSON_OBJECT, &out->vars));
    TN_TRY(check_vars(r, out->vars, at(r, where, "vars")));
    TN_TRY(check_keys(r, n, where, keys, TN_COUNT(keys)));
  } else {
    return tn_recipe_bad(r, where, "should be a path or an object, is %s", tn_json_kind_name(n->kind));
  }
  return out->name ? check_name(r, where, out->name) : oom(r);
}

/* A name of its own ("name"), or its values with - between. */
static tn_status variant_name(tn_recipe *r, const tn_json *v, const char *where, const char **out) {
  tn_buf name = {0};
  TN_TRY(get_text(r, v, where, "name", out));
  for (uint32_t i = 0; !*out && i < v->count; i++) {
    const tn_json *x = &v->u.items[i];
    if (is_comment(x->key)) continue;
    tn_buf_puts(&name, name.len ? "-" : "");
    tn_recipe_put(&name, x);
  }
  if (!*out) *out = tn_arena_str(&r->arena, (tn_str){name.text, name.len});
  bool failed = name.failed || !*out;
  tn_buf_fini(&name);
  return failed ? oom(r) : check_name(r, where, *out);
}

static tn_status push_model(tn_recipe *r, tn_recipe_model m, const char *where) {
  for (uint32_t i = 0; i < r->models.count; i++) {
    const tn_recipe_model *other = &r->models.items[i];
    const char *twice = !strcmp(other->name, m.name) ? m.name : NULL;
    if (other->base != m.base && (!strcmp(other->name, m.base) || !strcmp(other->base, m.base)))
      twice = m.base;
    if (other->base != m.base && !strcmp(other->base, m.name)) twice = m.name;
    if (twice) return tn_recipe_bad(r, where, "is called '%s', as another one is; give it a name", twice);
  }
  return tn_vec_push(&r->models, m) ? TN_OK : oom(r);
}

static tn_status read_variants(tn_recipe *r, tn_recipe_model m, const char *where) {
  const tn_json *list;
  m.base = m.name;
  TN_TRY(get(r, r->root, "", "variants", TN_JSON_LIST, &list));
  if (!list) return push_model(r, m, where);
  if (!list->count) return tn_recipe_bad(r, "variants", "is empty");
  for (uint32_t i = 0; i < list->count; i++) {
    const tn_json *v = &list->u.items[i];
    const char *name, *here = nth(r, "variants", i);
    tn_recipe_model one = m;
    if (v->kind != TN_JSON_OBJECT) return wrong_kind(r, here, v, TN_JSON_OBJECT);
    TN_TRY(check_vars(r, v, here));
    TN_TRY(variant_name(r, v, here, &name));
    one.variant = v;
    one.name = tn_arena_printf(&r->arena, "%s-%s", m.name, name);
    if (!one.name) return oom(r);
    TN_TRY(push_model(r, one, where));
  }
  return TN_OK;
}

static tn_status read_models(tn_recipe *r) {
  const tn_json *one = tn_json_get(r->root, "model"), *list;
  tn_recipe_model m = {0};
  TN_TRY(get(r, r->root, "", "models", TN_JSON_LIST, &list));
  if (!one == !list) return tn_recipe_bad(r, NULL, "has not one of 'model' and 'models'");
  if (one) {
    TN_TRY(read_model(r, one, "model", &m));
    return read_variants(r, m, "model");
  }
  if (!list->count) return tn_recipe_bad(r, "models", "is empty");
  for (uint32_t i = 0; i < list->count; i++) {
    const char *where = nth(r, "models", i);
    m = (tn_recipe_model){0};
    TN_TRY(read_model(r, &list->u.items[i], where, &m));
    TN_TRY(read_variants(r, m, where));
  }
  return TN_OK;
}

/* ---- steps ----------------------------------------------------------------------------------- */
static tn_status find_kind(tn_recipe *r, const char *where, const char *word, const tn_step_kind **out) {
  const char *names[TN_COUNT(kinds)];
  for (size_t i = 0; i < TN_COUNT(kinds); i++) {
    names[i] = kinds[i].command->name;
    if (!strcmp(word, names[i])) return *out = &kinds[i], TN_OK;
  }
  int near = tn_str_nearest(word, names, TN_COUNT(names));
  tn_buf all = {0};
  for (size_t i = 0; i < TN_COUNT(names); i++) tn_buf_printf(&all, "%s%s", i ? ", " : "", names[i]);
  tn_status s = near < 0
                    ? tn_recipe_bad(r, where, "'%s' is not known, these are: %s", word, tn_buf_cstr(&all))
                    : tn_recipe_bad(r, where, "'%s' is not known; did you mean '%s'?", word, names[near]);
  tn_buf_fini(&all);
  return s;
}

static tn_status check_options(tn_recipe *r, const tn_recipe_step *s, const char *where) {
  const char *names[OPT_COUNT];
  const tn_command *c = s->kind->command;
  for (uint32_t i = 0; i < c->noptions; i++) names[i] = tn_option_name(c->options[i]);
  return check_keys(r, s->options, where, names, c->noptions);
}

static bool is_number(const tn_json *n) { return !n || n->kind == TN_JSON_INT || n->kind == TN_JSON_REAL; }

/* {"PATH": {"min": .., "max": .., "equal": ..}}, or {"PATH": value}: equal. */
static tn_status read_limits(tn_recipe *r, const tn_json *o, const char *where, tn_recipe_step *s) {
  static const char *const keys[] = {"min", "max", "equal"};
  s->limits = tn_arena_alloc(&r->arena, ((size_t)o->count + 1) * sizeof *s->limits);
  if (!s->limits) return oom(r);
  for (uint32_t i = 0; i < o->count; i++) {
    const tn_json *n = &o->u.items[i];
    const char *here = at(r, where, n->key);
    tn_recipe_limit l = {.path = n->key, .equal = n};
    if (is_comment(n->key)) continue;
    if (n->kind == TN_JSON_LIST) return tn_recipe_bad(r, here, "is a list, not a limit");
    if (n->kind == TN_JSON_OBJECT) {
      TN_TRY(check_keys(r, n, here, keys, TN_COUNT(keys)));
      l.min = tn_json_get(n, "min"), l.max = tn_json_get(n, "max"), l.equal = tn_json_get(n, "equal");
      if (!is_number(l.min) || !is_number(l.max))
        return tn_recipe_bad(r, here, "has a limit that is no number");
      if (!l.min && !l.max && !l.equal) return tn_recipe_bad(r, here, "has none of min, max and equal");
    }
    s->limits[s->nlimits++] = l;
  }
  return TN_OK;
}

static tn_status check_texts(tn_recipe *r, const tn_json *list, const char *where) {
  for (uint32_t i = 0; list && i < list->count; i++)
    if (list->u.items[i].kind != TN_JSON_STRING)
      return wrong_kind(r, nth(r, where, i), &list->u.items[i], TN_JSON_STRING);
  return TN_OK;
}

/* The keys that the words of the kind want; "model" has a value of its own. */
static tn_status check_words(tn_recipe *r, tn_recipe_step *s, const char *where, const char **known,
                             uint32_t *n) {
  for (const char *p = s->kind->words; (p = strchr(p, '{')); p++) {
    char *key = tn_arena_str(&r->arena, (tn_str){p + 1, strcspn(p + 1, "}")});
    const tn_json *v = key ? tn_json_get(s->node, key) : NULL;
    if (!key) return oom(r);
    known[(*n)++] = key;
    if (!v && strcmp(key, "model") != 0)
      return tn_recipe_bad(r, where, "%s needs '%s'", s->kind->command->name, key);
    if (v && v->kind != TN_JSON_STRING) return wrong_kind(r, at(r, where, key), v, TN_JSON_STRING);
  }
  return TN_OK;
}

static tn_status read_step(tn_recipe *r, const tn_json *n, const char *where) {
  const char *known[16] = {"run", "name", "options", "require", "show", "after"}, *word;
  uint32_t nknown = 6;
  const tn_json *limits;
  tn_recipe_step s = {.node = n};
  if (n->kind != TN_JSON_OBJECT) return wrong_kind(r, where, n, TN_JSON_OBJECT);
  TN_TRY(get_text(r, n, where, "run", &word));
  if (!word) return tn_recipe_bad(r, where, "has no 'run'");
  TN_TRY(find_kind(r, at(r, where, "run"), word, &s.kind));
  TN_TRY(get_text(r, n, where, "name", &s.name));
  if (!s.name) s.name = word;
  TN_TRY(check_name(r, at(r, where, "name"), s.name));
  TN_TRY(check_words(r, &s, where, known, &nknown));
  TN_TRY(get(r, n, where, "options", TN_JSON_OBJECT, &s.options));
  if (s.options) TN_TRY(check_options(r, &s, at(r, where, "options")));
  TN_TRY(get(r, n, where, "require", TN_JSON_OBJECT, &limits));
  if (limits) TN_TRY(read_limits(r, limits, at(r, where, "require"), &s));
  TN_TRY(get(r, n, where, "show", TN_JSON_LIST, &s.show));
  TN_TRY(check_texts(r, s.show, at(r, where, "show")));
  TN_TRY(get(r, n, where, "after", TN_JSON_LIST, &s.after));
  TN_TRY(check_texts(r, s.after, at(r, where, "after")));
  TN_TRY(check_keys(r, n, where, known, nknown));
  for (uint32_t i = 0; i < r->steps.count; i++)
    if (!strcmp(r->steps.items[i].name, s.name))
      return tn_recipe_bad(r, where, "is called '%s', as another step is; give it a name", s.name);
  return tn_vec_push(&r->steps, s) ? TN_OK : oom(r);
}

static tn_status read_steps(tn_recipe *r) {
  const tn_json *list;
  TN_TRY(get(r, r->root, "", "steps", TN_JSON_LIST, &list));
  if (!list || !list->count) return tn_recipe_bad(r, "steps", "is missing or empty");
  for (uint32_t i = 0; i < list->count; i++) TN_TRY(read_step(r, &list->u.items[i], nth(r, "steps", i)));
  return TN_OK;
}

/* ---- the whole ------------------------------------------------------------------------------- */
static tn_status parse(tn_recipe *r, const char *path) {
  tn_file f;
  const char *why = "";
  tn_json *root = NULL;
  tn_status s = tn_file_map(&f, path, &why);
  if (s != TN_OK) return tn_fail(r->diags, s, path, NULL, "cannot be read: %s", why);
  s = tn_json_parse(&r->arena, (tn_str){(const char *)f.data, f.size}, path, r->diags, &root);
  tn_file_unmap(&f);
  r->root = root;
  if (s == TN_OK && root->kind != TN_JSON_OBJECT) return wrong_kind(r, NULL, root, TN_JSON_OBJECT);
  return s;
}

tn_status tn_recipe_read(tn_recipe *r, const char *path, const char *out, tn_diags *d) {
  static const char *const keys[] = {"name",     "model", "models", "vars",
                                     "variants", "steps", "out",    "reports"};
  const tn_json *vars, *reports;
  *r = (tn_recipe){.file = path, .diags = d};
  tn_arena_init(&r->arena);
  TN_TRY(parse(r, path));
  TN_TRY(check_keys(r, r->root, "", keys, TN_COUNT(keys)));
  TN_TRY(get_text(r, r->root, "", "name", &r->name));
  if (!r->name) r->name = name_of(r, path);
  if (!r->name) return oom(r);
  if (tn_str_ends(tn_str_of(r->name), ".json"))
    r->name = tn_arena_str(&r->arena, (tn_str){r->name, strlen(r->name) - 5});
  TN_TRY(get_text(r, r->root, "", "out", &r->out));
  if (out) r->out = out;
  if (!r->out) r->out = tn_arena_printf(&r->arena, "%s.out", r->name);
  TN_TRY(get(r, r->root, "", "reports", TN_JSON_BOOL, &reports));
  r->reports = reports && reports->u.b;
  TN_TRY(get(r, r->root, "", "vars", TN_JSON_OBJECT, &vars));
  TN_TRY(check_vars(r, vars, "vars"));
  TN_TRY(read_models(r));
  return read_steps(r);
}

void tn_recipe_fini(tn_recipe *r) {
  tn_vec_fini(&r->models);
  tn_vec_fini(&r->steps);
  tn_arena_fini(&r->arena);
}
