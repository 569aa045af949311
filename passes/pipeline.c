/* pipeline.c - the reader of pipeline text. A stage is NAME, NAME{key=value, ...} or @POINT; names and option
 * keys are checked here, so that a pass finds only options it declared. */
#include "passes/pipeline.h"
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static const struct {
  const char *name, *text;
} levels[] = {
#define TN_PIPELINE(name, text) {name, text},
#include "passes/pipelines.def"
#undef TN_PIPELINE
};

const char *tn_pipeline_text(const char *level) {
  for (size_t i = 0; i < TN_COUNT(levels); i++)
    if (!strcmp(levels[i].name, level)) return levels[i].text;
  return NULL;
}

typedef struct reader {
  const tn_pipeline_run *run;
  tn_arena *arena;
  tn_diags *diags;
  const char *text, *p;
} reader;

static void skip_space(reader *r) {
  while (isspace((unsigned char)*r->p)) r->p++;
}

static tn_status fail(reader *r, const char *fmt, const char *a, const char *b) {
  char words[256];
  snprintf(words, sizeof words, fmt, a, b);
  return tn_fail_at(r->diags, TN_INVALID, "pipeline", 1, (uint32_t)(r->p - r->text) + 1, "%s", words);
}

static bool is_name(char c) { return isalnum((unsigned char)c) || c == '-' || c == '_' || c == '.'; }

static char *read_name(reader *r) {
  const char *from = r->p;
  while (is_name(*r->p)) r->p++;
  return tn_arena_str(r->arena, (tn_str){from, (uint64_t)(r->p - from)});
}

/* A value runs to the next comma or closing brace outside of brackets. */
static char *read_value(reader *r) {
  const char *from = r->p;
  for (int depth = 0; *r->p && (depth || (*r->p != ',' && *r->p != '}')); r->p++)
    depth += (*r->p == '[' || *r->p == '(') - (*r->p == ']' || *r->p == ')');
  const char *to = r->p;
  while (to > from && isspace((unsigned char)to[-1])) to--;
  return tn_arena_str(r->arena, (tn_str){from, (uint64_t)(to - from)});
}

/* ---- checks against the table ---------------------------------------------------------------- */
static const tn_extra_pass *find_extra(const tn_pipeline_run *run, const char *name) {
  for (uint32_t i = 0; i < run->nextra; i++)
    if (run->extra[i].name && !strcmp(run->extra[i].name, name)) return &run->extra[i];
  return NULL;
}

static tn_status unknown_pass(reader *r, const char *name) {
  uint32_t n;
  const tn_pass_info *table = tn_passes(&n);
  const char **names = tn_arena_alloc(r->arena, (n + r->run->nextra) * sizeof *names);
  if (!names) return TN_OOM;
  for (uint32_t i = 0; i < n; i++) names[i] = table[i].name;
  for (uint32_t i = 0; i < r->run->nextra; i++) names[n++] = r->run->extra[i].name;
  int near = tn_str_nearest(name, names, (int)n);
  if (near < 0) return fail(r, "unknown pass '%s'%s", name, "");
  return fail(r, "unknown pass '%s'; did you mean '%s'?", name, names[near]);
}

static tn_status bind_stage(reader *r, tn_stage *s) {
  uint32_t n;
  const tn_pass_info *table = tn_passes(&n);
  for (uint32_t i = 0; i < n && !s->pass; i++)
    if (!strcmp(table[i].name, s->name)) s->pass = &table[i];
  if (!s->pass) s->extra = find_extra(r->run, s->name);
  return s->pass || s->extra ? TN_OK : unknown_pass(r, s->name);
}

/* The declaration of `key` in "limit:int=4, all:bool=0": points behind "key:"; NULL: none. */
static const char *declaration(const char *options, const char *key) {
  size_t len = strlen(key);
  for (const char *p = options; p && *p; p = strchr(p, ',')) {
    while (*p == ',' || *p == ' ') p++;
    if (!strncmp(p, key, len) && p[len] == ':') return p + len + 1;
  }
  return NULL;
}

static bool value_fits(const char *kind, const char *value) {
  if (!strncmp(kind, "bool", 4)) return !strcmp(value, "0") || !strcmp(value, "1");
  if (strncmp(kind, "int", 3)) return true;
  char *end;
  errno = 0;
  (void)strtoll(value, &end, 10);
  return end != value && !*end && !errno;
}

static tn_status check_option(reader *r, const tn_stage *s, const tn_pass_option *o) {
  if (!s->pass) return TN_OK; /* a plugin checks its own */
  const char *kind = declaration(s->pass->options, o->key);
  if (!kind && s->pass->options) {
    char words[160];
    snprintf(words, sizeof words, "'%s'; it takes %s", s->name, s->pass->options);
    return fail(r, "unknown option '%s' of pass %s", o->key, words);
  }
  if (!kind) return fail(r, "unknown option '%s' of pass '%s', which takes none", o->key, s->name);
  if (!value_fits(kind, o->value))
    return fail(r, kind[0] == 'b' ? "option '%s' is 0 or 1, not '%s'" : "option '%s' is a number, not '%s'",
                o->key, o->value);
  return TN_OK;
}

/* ---- reading --------------------------------------------------------------------------------- */
static tn_status read_option(reader *r, const tn_stage *s, tn_pass_option *o) {
  skip_space(r);
  o->key = read_name(r);
  if (!o->key) return TN_OOM;
  if (!*o->key) return fail(r, "expected the name of an option of pass '%s'%s", s->name, "");
  skip_space(r);
  if (*r->p != '=') return fail(r, "expected '=' behind option '%s'%s", o->key, "");
  r->p++;
  skip_space(r);
  o->value = read_value(r);
  return o->value ? check_option(r, s, o) : TN_OOM;
}

static tn_status read_options(reader *r, tn_stage *s) {
  TN_VEC(tn_pass_option) list = {0};
  tn_status status = TN_OK;
  r->p++; /* the opening brace */
  skip_space(r);
  while (status == TN_OK && *r->p != '}') {
    tn_pass_option o = {0};
    status = read_option(r, s, &o);
    if (status == TN_OK && !tn_vec_push(&list, o)) status = TN_OOM;
    if (status == TN_OK && *r->p == ',')
      r->p++;
    else if (status == TN_OK && *r->p != '}')
      status = fail(r, "expected '}' behind the options of pass '%s'%s", s->name, "");
    skip_space(r);
  }
  r->p += status == TN_OK;
  if (status == TN_OK && list.count) {
    s->options = tn_arena_copy(r->arena, list.items, list.count * sizeof *list.items);
    s->noptions = list.count;
    if (!s->options) status = TN_OOM;
  }
  tn_vec_fini(&list);
  return status;
}

static tn_status read_stage(reader *r, tn_stage *s) {
  skip_space(r);
  if (*r->p == '@') {
    const char *from = r->p++;
    while (is_name(*r->p)) r->p++;
    s->name = tn_arena_str(r->arena, (tn_str){from, (uint64_t)(r->p - from)});
    return s->name ? TN_OK : TN_OOM;
  }
  s->name = read_name(r);
  if (!s->name) return TN_OOM;
  if (!*s->name) return fail(r, "expected the name of a pass, found '%.20s'%s", r->p, "");
  TN_TRY(bind_stage(r, s));
  skip_space(r);
  return *r->p == '{' ? read_options(r, s) : TN_OK;
}

tn_status tn_pipeline_parse(const tn_pipeline_run *run, tn_arena *arena, tn_diags *diags, tn_stages *out) {
  const char *level = run->pipeline ? tn_pipeline_text(run->pipeline) : "";
  reader r = {run, arena, diags, level ? level : run->pipeline, level ? level : run->pipeline};
  skip_space(&r);
  while (*r.p) {
    tn_stage s = {0};
    TN_TRY(read_stage(&r, &s));
    if (!tn_vec_push(&out->list, s)) return TN_OOM;
    skip_space(&r);
    if (!*r.p) break;
    if (*r.p != ',') return fail(&r, "expected ',' behind '%s', found '%.20s'", s.name, r.p);
    r.p++;
    skip_space(&r);
  }
  return TN_OK;
}
