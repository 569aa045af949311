/* limits.c - what a step printed against the limits of the recipe. A path names a value: keys with dots
 * between, numbers for the items of a list, * for every item; each of them must keep the limit. */
#include "tools/recipe/recipe.h"
#include <math.h>

typedef struct judge {
  tn_recipe *r;
  tn_job *j;
  const tn_recipe_limit *limit; /* NULL: only shown */
  uint32_t seen;
} judge;

/* A text in its quotes. */
static void put_value(tn_buf *b, const tn_json *v) {
  if (v->kind == TN_JSON_STRING)
    tn_json_write(b, v);
  else
    tn_recipe_put(b, v);
}

static bool number(const tn_json *v, double *out) {
  if (v->kind == TN_JSON_INT) return *out = (double)v->u.i, true;
  if (v->kind == TN_JSON_REAL) return *out = v->u.r, true;
  return false;
}

/* One line for the table, one object for --json. */
static void report(judge *g, const char *path, const tn_json *value, const char *word, const tn_json *bound) {
  tn_buf *t = &g->j->broken, *j = &g->j->broken_json;
  tn_buf_printf(t, "%s%s is ", t->len ? "\n" : "", path);
  tn_buf_puts(j, j->len ? ", {\"path\": " : "{\"path\": ");
  tn_buf_json(j, tn_str_of(path));
  if (value) {
    put_value(t, value);
    tn_buf_puts(j, ", \"value\": ");
    put_value(j, value);
  } else {
    tn_buf_puts(t, "not in what it printed");
  }
  if (bound) {
    tn_buf_printf(t, "; it must be %s ", word);
    put_value(t, bound);
    tn_buf_printf(j, ", \"limit\": \"%s\", \"bound\": ", word);
    put_value(j, bound);
  }
  tn_buf_puts(j, "}");
}

/* NaN keeps no limit. */
static void check(judge *g, const char *path, const tn_json *v) {
  const tn_recipe_limit *l = g->limit;
  double x = 0, bound = 0;
  bool is = number(v, &x);
  if (l->min && (!number(l->min, &bound) || !is || !(x >= bound))) report(g, path, v, "at least", l->min);
  if (l->max && (!number(l->max, &bound) || !is || !(x <= bound))) report(g, path, v, "at most", l->max);
  if (l->equal && !tn_json_equal(v, l->equal)) report(g, path, v, "equal to", l->equal);
}

static void show(judge *g, const char *path, const tn_json *v) {
  tn_buf *b = &g->j->shown;
  tn_buf_puts(b, b->len ? ", " : "");
  tn_buf_json(b, tn_str_of(path));
  tn_buf_puts(b, ": ");
  put_value(b, v);
}

/* `done`: the path so far, with numbers for every *. */
static tn_status walk(judge *g, const tn_json *v, const char *done, const char *rest) {
  if (!*rest) {
    g->seen++;
    show(g, done, v);
    if (g->limit) check(g, done, v);
    return TN_OK;
  }
  tn_str key = {rest, strcspn(rest, ".")};
  const char *next = rest + key.len + (rest[key.len] == '.');
  bool all = tn_str_is(key, "*");
  for (uint32_t i = 0; (v->kind == TN_JSON_LIST || v->kind == TN_JSON_OBJECT) && i < v->count; i++) {
    char index[16];
    snprintf(index, sizeof index, "%u", i);
    const tn_json *item = &v->u.items[i];
    const char *name = v->kind == TN_JSON_OBJECT ? item->key : index;
    if (!all && !tn_str_is(key, name)) continue;
    const char *path = tn_arena_printf(&g->r->arena, "%s%s%s", done, *done ? "." : "", name);
    if (!path) return TN_OOM;
    TN_TRY(walk(g, item, path, next));
  }
  return TN_OK;
}

static tn_status judge_path(tn_recipe *r, tn_job *j, const char *path, const tn_recipe_limit *limit) {
  judge g = {r, j, limit, 0};
  if (j->result) TN_TRY(walk(&g, j->result, "", path));
  if (!g.seen && limit) report(&g, path, NULL, "", NULL);
  return TN_OK;
}

static bool is_limited(const tn_recipe_step *s, const char *path) {
  for (uint32_t i = 0; i < s->nlimits; i++)
    if (!strcmp(s->limits[i].path, path)) return true;
  return false;
}

/* Limits that were options of the command: verify says of each whether it was kept. */
static void judge_options(tn_recipe *r, tn_job *j) {
  const tn_json *list = j->result ? tn_json_get(j->result, "limits") : NULL;
  for (uint32_t i = 0; list && list->kind == TN_JSON_LIST && i < list->count; i++) {
    const tn_json *x = &list->u.items[i], *ok = tn_json_get(x, "ok"), *name = tn_json_get(x, "option");
    const tn_json *value = tn_json_get(x, "value"), *bound = tn_json_get(x, "limit");
    if (!ok || ok->kind != TN_JSON_BOOL || ok->u.b || !name || name->kind != TN_JSON_STRING) continue;
    judge g = {r, j, NULL, 0};
    report(&g, name->u.s.ptr, value, "within", bound);
  }
}

tn_status tn_job_judge(tn_recipe *r, tn_job *j) {
  const tn_recipe_step *s = j->step;
  tn_status status = TN_OK;
  for (uint32_t i = 0; s->show && i < s->show->count && status == TN_OK; i++) {
    const char *path = s->show->u.items[i].u.s.ptr;
    if (!is_limited(s, path)) status = judge_path(r, j, path, NULL);
  }
  for (uint32_t i = 0; i < s->nlimits && status == TN_OK; i++)
    status = judge_path(r, j, s->limits[i].path, &s->limits[i]);
  judge_options(r, j);
  if (status == TN_OK && (j->broken.failed || j->broken_json.failed || j->shown.failed)) status = TN_OOM;
  if (status != TN_OK) return tn_fail(r->diags, status, r->file, j->name, "out of memory");
  if (j->broken_json.len && j->status != TN_JOB_FAILED) j->status = TN_JOB_BELOW;
  return TN_OK;
}
