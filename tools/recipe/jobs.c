/* jobs.c - jobs from a recipe: every step of every model as a command line. A text may have {NAME} in it: a
 * variable of the variant, the model or the recipe, {model} and {name}, {out} (the folder of the results), or
 * the name of an earlier step: what that made. A job needs the jobs whose results it names. What has nothing
 * of the variant in it is one job for all variants of a model. */
#include "tools/recipe/recipe.h"
#include <ctype.h>

typedef struct maker {
  tn_recipe *r;
  tn_jobs *jobs;
  tn_job *job;
  const char *folder; /* of the model's results */
  uint32_t *job_of;   /* of the model in this variant, by step; UINT32_MAX: not yet */
  uint32_t nsteps;
} maker;

static tn_status oom(const maker *m) {
  return tn_fail(m->r->diags, TN_OOM, m->r->file, NULL, "out of memory");
}

static tn_status push_need(maker *m, uint32_t job) {
  m->job->varies |= m->jobs->items[job].varies;
  for (uint32_t i = 0; i < m->job->needs.count; i++)
    if (m->job->needs.items[i] == job) return TN_OK;
  return tn_vec_push(&m->job->needs, job) ? TN_OK : oom(m);
}

/* ---- {NAME} ---------------------------------------------------------------------------------- */
static const tn_json *find_var(maker *m, const char *name) {
  const tn_json *from[] = {m->job->model->variant, m->job->model->vars, tn_json_get(m->r->root, "vars")};
  for (size_t i = 0; i < TN_COUNT(from); i++) {
    const tn_json *v = from[i] ? tn_json_get(from[i], name) : NULL;
    m->job->varies |= v && !i;
    if (v) return v;
  }
  return NULL;
}

/* The model's job of a step; UINT32_MAX: none before this one. */
static uint32_t find_job(const maker *m, const char *name) {
  for (uint32_t i = 0; i < m->nsteps; i++)
    if (!strcmp(m->r->steps.items[i].name, name)) return m->job_of[i];
  return UINT32_MAX;
}

static tn_status put_name(maker *m, const char *where, const char *name, tn_buf *out) {
  const tn_json *v = find_var(m, name);
  uint32_t job = find_job(m, name);
  if (v) return tn_recipe_put(out, v), TN_OK;
  if (!strcmp(name, "model")) return tn_buf_puts(out, m->job->model->path), TN_OK;
  if (!strcmp(name, "name")) return tn_buf_puts(out, m->job->model->base), TN_OK;
  if (!strcmp(name, "out")) return tn_buf_puts(out, m->folder), TN_OK;
  if (job == UINT32_MAX)
    return tn_recipe_bad(m->r, where, "{%s} is neither a variable nor an earlier step", name);
  if (!m->jobs->items[job].out) return tn_recipe_bad(m->r, where, "{%s}: that step makes nothing", name);
  tn_buf_puts(out, m->jobs->items[job].out);
  return push_need(m, job);
}

/* {{ and }} are braces. */
static tn_status put_text(maker *m, const char *where, tn_str text, tn_buf *out) {
  for (uint64_t i = 0; i < text.len; i++) {
    char c = text.ptr[i];
    bool twice = i + 1 < text.len && text.ptr[i + 1] == c;
    if ((c == '{' || c == '}') && twice) i++;
    if (c != '{' || twice) {
      tn_buf_put(out, &c, 1);
      continue;
    }
    const char *end = memchr(text.ptr + i, '}', text.len - i);
    if (!end) return tn_recipe_bad(m->r, where, "'{' without '}'");
    char *name = tn_arena_str(&m->r->arena, (tn_str){text.ptr + i + 1, (uint64_t)(end - text.ptr) - i - 1});
    if (!name) return oom(m);
    TN_TRY(put_name(m, where, name, out));
    i = (uint64_t)(end - text.ptr);
  }
  return TN_OK;
}

static tn_status expand(maker *m, const char *where, tn_str text, const char *prefix, const char **out) {
  tn_buf b = {0};
  tn_buf_puts(&b, prefix);
  tn_status s = put_text(m, where, text, &b);
  *out = s == TN_OK && !b.failed ? tn_arena_str(&m->r->arena, (tn_str){b.text, b.len}) : NULL;
  tn_buf_fini(&b);
  return s != TN_OK ? s : *out ? TN_OK : oom(m);
}

/* ---- the command line ------------------------------------------------------------------------ */
static tn_status push_word(maker *m, const char *word) {
  return tn_vec_push(&m->job->argv, word) ? TN_OK : oom(m);
}

static const char *place(maker *m, const char *key) {
  const char *p = tn_arena_printf(&m->r->arena, "%s.%s", m->job->step->name, key);
  return p ? p : key;
}

/* What the step makes lies in the model's folder of results, unless it is an absolute path. */
static tn_status set_out(maker *m) {
  const tn_json *v = tn_json_get(m->job->step->node, "out");
  const char *text;
  if (!v || !strstr(m->job->step->kind->words, "{out}")) return TN_OK;
  TN_TRY(expand(m, place(m, "out"), v->u.s, "", &text));
  m->job->out = tn_path_join(&m->r->arena, m->folder, text);
  return m->job->out ? TN_OK : oom(m);
}

static tn_status push_key(maker *m, tn_str key) {
  const char *word;
  char *name = tn_arena_str(&m->r->arena, key);
  if (!name) return oom(m);
  const tn_json *v = tn_json_get(m->job->step->node, name);
  if (!strcmp(name, "out")) return push_word(m, m->job->out);
  TN_TRY(expand(m, place(m, name), v ? v->u.s : TN_STR("{model}"), "", &word));
  if (*word == '-') return tn_recipe_bad(m->r, place(m, name), "'%s' begins as an option does", word);
  return push_word(m, word);
}

static tn_status push_words(maker *m) {
  for (const char *p = m->job->step->kind->words; *p;) {
    tn_str word = {p, strcspn(p, " ")};
    p += word.len + (p[word.len] == ' ');
    if (*word.ptr == '{') {
      TN_TRY(push_key(m, (tn_str){word.ptr + 1, word.len - 2}));
    } else {
      char *text = tn_arena_str(&m->r->arena, word);
      TN_TRY(text ? push_word(m, text) : oom(m));
    }
  }
  return TN_OK;
}

/* true: --NAME; a text or number: --NAME=VALUE; a list: one for each. */
static tn_status push_option(maker *m, const char *key, const tn_json *v) {
  bool level = key[0] == 'O' && isdigit((unsigned char)key[1]);
  const char *where = place(m, key), *word;
  const char *prefix = tn_arena_printf(&m->r->arena,
                                       level                     ? "-%s"
                                       : v->kind == TN_JSON_BOOL ? "--%s"
                                                                 : "--%s=",
                                       key);
  tn_buf number = {0};
  if (!prefix) return oom(m);
  switch (v->kind) {
  case TN_JSON_BOOL: return v->u.b ? push_word(m, prefix) : TN_OK;
  case TN_JSON_STRING: TN_TRY(expand(m, where, v->u.s, prefix, &word)); return push_word(m, word);
  case TN_JSON_INT:
  case TN_JSON_REAL: break;
  default: return tn_recipe_bad(m->r, where, "is %s, which is no option's value", tn_json_kind_name(v->kind));
  }
  tn_recipe_put(&number, v);
  word = tn_arena_printf(&m->r->arena, "%s%s", prefix, tn_buf_cstr(&number));
  tn_buf_fini(&number);
  return word ? push_word(m, word) : oom(m);
}

static tn_status push_options(maker *m) {
  const tn_json *o = m->job->step->options;
  for (uint32_t i = 0; o && i < o->count; i++) {
    const tn_json *v = &o->u.items[i];
    if (v->key[0] == '/' && v->key[1] == '/') continue;
    if (v->kind != TN_JSON_LIST) TN_TRY(push_option(m, v->key, v));
    for (uint32_t k = 0; v->kind == TN_JSON_LIST && k < v->count; k++)
      TN_TRY(push_option(m, v->key, &v->u.items[k]));
  }
  return TN_OK;
}

static bool takes(const tn_command *c, uint8_t option) {
  for (uint32_t i = 0; i < c->noptions; i++)
    if (c->options[i] == option) return true;
  return false;
}

/* Limits need what the command says to programs. */
static tn_status push_own(maker *m) {
  const tn_recipe_step *s = m->job->step;
  const tn_json *o = s->options;
  if (takes(s->kind->command, OPT_json) && !(o && tn_json_get(o, "json"))) TN_TRY(push_word(m, "--json"));
  if (!m->r->reports || !takes(s->kind->command, OPT_report) || (o && tn_json_get(o, "report"))) return TN_OK;
  const char *word = tn_arena_printf(&m->r->arena, "--report=%s/%s", m->folder, s->name);
  return word ? push_word(m, word) : oom(m);
}

/* ---- jobs ------------------------------------------------------------------------------------ */
static tn_status set_after(maker *m) {
  const tn_json *list = m->job->step->after;
  for (uint32_t i = 0; list && i < list->count; i++) {
    uint32_t job = find_job(m, list->u.items[i].u.s.ptr);
    if (job == UINT32_MAX)
      return tn_recipe_bad(m->r, place(m, "after"), "'%s' is no earlier step", list->u.items[i].u.s.ptr);
    TN_TRY(push_need(m, job));
  }
  return TN_OK;
}

static tn_status fill_job(maker *m) {
  tn_job *j = m->job;
  tn_arena *a = &m->r->arena;
  j->name = tn_arena_printf(a, "%s/%s", j->owner, j->step->name);
  j->stdout_path = tn_arena_printf(a, "%s/logs/%s.out", m->folder, j->step->name);
  j->stderr_path = tn_arena_printf(a, "%s/logs/%s.err", m->folder, j->step->name);
  if (!j->name || !j->stdout_path || !j->stderr_path) return oom(m);
  TN_TRY(set_out(m));
  TN_TRY(push_word(m, "tenon"));
  TN_TRY(push_word(m, j->step->kind->command->name));
  TN_TRY(push_words(m));
  TN_TRY(push_options(m));
  TN_TRY(push_own(m));
  TN_TRY(push_word(m, NULL));
  return set_after(m);
}

static void job_fini(tn_job *j) {
  tn_vec_fini(&j->argv);
  tn_vec_fini(&j->needs);
  tn_buf_fini(&j->broken);
  tn_buf_fini(&j->broken_json);
  tn_buf_fini(&j->shown);
}

/* A job in the folder of the model, or in that of its variant. */
static tn_status make_job(maker *m, const tn_recipe_model *model, const tn_recipe_step *step, bool varies,
                          tn_job *out) {
  *out = (tn_job){.model = model, .step = step, .owner = varies ? model->name : model->base};
  m->job = out;
  m->folder = tn_path_join(&m->r->arena, m->r->out, out->owner);
  return m->folder ? fill_job(m) : oom(m);
}

/* The job of the same name, which another variant has made already; UINT32_MAX: none. */
static uint32_t find_same(const tn_jobs *jobs, const char *name) {
  for (uint32_t i = 0; i < jobs->count; i++)
    if (!strcmp(jobs->items[i].name, name)) return i;
  return UINT32_MAX;
}

static tn_status add_job(maker *m, const tn_recipe_model *model, uint32_t step) {
  const tn_recipe_step *s = &m->r->steps.items[step];
  tn_job job;
  tn_status status = make_job(m, model, s, false, &job);
  if (status == TN_OK && job.varies) {
    job_fini(&job);
    status = make_job(m, model, s, true, &job);
    job.varies = true;
  }
  uint32_t same = status == TN_OK ? find_same(m->jobs, job.name) : UINT32_MAX;
  m->job_of[step] = same != UINT32_MAX ? same : m->jobs->count;
  if (status == TN_OK && same == UINT32_MAX && !tn_vec_push(m->jobs, job)) status = oom(m);
  if (status != TN_OK || same != UINT32_MAX) job_fini(&job);
  return status;
}

tn_status tn_recipe_jobs(tn_recipe *r, tn_jobs *out) {
  uint32_t n = r->steps.count;
  maker m = {.r = r, .jobs = out, .nsteps = n, .job_of = tn_arena_alloc(&r->arena, n * sizeof *m.job_of)};
  if (!m.job_of) return oom(&m);
  for (uint32_t i = 0; i < r->models.count; i++) {
    memset(m.job_of, 0xff, n * sizeof *m.job_of);
    for (uint32_t k = 0; k < n; k++) TN_TRY(add_job(&m, &r->models.items[i], k));
  }
  return TN_OK;
}

void tn_jobs_fini(tn_jobs *jobs) {
  for (uint32_t i = 0; i < jobs->count; i++) job_fini(&jobs->items[i]);
  tn_vec_fini(jobs);
}
