/* cmd_recipe.c - tenon run-recipe: a run that is described in a file, over one model or many. */
#include "tools/recipe/recipe.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const uint8_t recipe_options[] = {OPT_output, OPT_jobs,    OPT_force, OPT_list,
                                         OPT_json,   OPT_verbose, OPT_help};

/* Paths in a recipe are those seen from its folder. -o is one seen from here. */
static tn_status enter_folder(tn_arena *a, const char **file, const char **out, tn_diags *d) {
  char *real = realpath(*file, NULL), *cwd = *out ? realpath(".", NULL) : NULL;
  const char *path = real ? tn_arena_str(a, tn_str_of(real)) : NULL;
  if (cwd) *out = tn_path_join(a, cwd, *out);
  free(real);
  free(cwd);
  if (!path) return tn_fail(d, TN_NOT_FOUND, *file, NULL, "cannot be read: %s", strerror(errno));
  const char *slash = strrchr(path, '/');
  char *folder = tn_arena_str(a, (tn_str){path, slash == path ? 1 : (uint64_t)(slash - path)});
  if (!folder) return tn_fail(d, TN_OOM, *file, NULL, "out of memory");
  *file = slash + 1;
  if (chdir(folder))
    return tn_fail(d, TN_UNAVAILABLE, folder, NULL, "cannot be entered: %s", strerror(errno));
  return TN_OK;
}

/* A word as a shell wants it. */
static void put_word(tn_buf *b, const char *word) {
  static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-+=./,:@%";
  bool quote = !*word || word[strspn(word, plain)];
  tn_buf_puts(b, quote ? "'" : "");
  for (const char *p = word; *p; p++) tn_buf_put(b, *p == '\'' ? "'\\''" : p, *p == '\'' ? 4 : 1);
  tn_buf_puts(b, quote ? "'" : "");
}

static void print_commands(const tn_jobs *jobs) {
  for (uint32_t i = 0; i < jobs->count; i++) {
    const tn_job *j = &jobs->items[i];
    tn_buf line = {0};
    for (uint32_t k = 0; k + 1 < j->argv.count; k++) {
      tn_buf_puts(&line, k ? " " : "");
      put_word(&line, j->argv.items[k]);
    }
    puts(tn_buf_cstr(&line));
    tn_buf_fini(&line);
  }
}

/* OUT/summary.json says what stdout said. */
static tn_status deliver(const tn_args *a, tn_recipe *r, const tn_jobs *jobs) {
  tn_buf json = {0};
  tn_recipe_json(r, jobs, &json);
  char *path = tn_path_join(&r->arena, r->out, "summary.json");
  tn_status s = path && !json.failed ? tn_text_write(path, &json, r->diags)
                                     : tn_fail(r->diags, TN_OOM, r->file, NULL, "out of memory");
  if (a->given[OPT_json])
    fputs(tn_buf_cstr(&json), stdout);
  else
    tn_recipe_print(r, jobs);
  tn_buf_fini(&json);
  return s;
}

static bool all_good(const tn_jobs *jobs) {
  for (uint32_t i = 0; i < jobs->count; i++)
    if (jobs->items[i].status != TN_JOB_DONE && jobs->items[i].status != TN_JOB_KEPT) return false;
  return true;
}

static tn_status work(const tn_args *a, tn_recipe *r, const char *file, const char *out, tn_diags *d,
                      bool *ok) {
  bool bad = false;
  tn_recipe_run how = {.force = a->given[OPT_force],
                       .quiet = !isatty(STDERR_FILENO) && !a->given[OPT_verbose]};
  tn_jobs jobs = {0};
  int64_t n = tn_args_int(a, OPT_jobs, 1, &bad);
  if (bad) return TN_INVALID;
  if (n < 1 || n > 256)
    return tn_fail(d, TN_INVALID, NULL, "--jobs", "%lld is not from 1 to 256", (long long)n);
  how.jobs = (uint32_t)n;
  TN_TRY(tn_recipe_read(r, file, out, d));
  tn_status s = tn_recipe_jobs(r, &jobs);
  if (s == TN_OK && a->given[OPT_list]) {
    print_commands(&jobs);
    *ok = true;
  } else if (s == TN_OK) {
    s = tn_recipe_execute(r, &jobs, &how, d);
    if (s == TN_OK) s = deliver(a, r, &jobs);
    *ok = all_good(&jobs);
  }
  tn_jobs_fini(&jobs);
  return s;
}

static int run_recipe(const tn_args *a) {
  tn_recipe r = {0};
  tn_diags d;
  tn_arena arena;
  const char *file = a->positional[0], *out = a->last[OPT_output];
  bool ok = false;
  tn_diags_init(&d);
  tn_arena_init(&arena);
  tn_status s = enter_folder(&arena, &file, &out, &d);
  if (s == TN_OK) s = work(a, &r, file, out, &d, &ok);
  int rc = tn_tool_finish(a, &d, s);
  tn_recipe_fini(&r);
  tn_arena_fini(&arena);
  tn_diags_fini(&d);
  return rc ? rc : !ok;
}

const tn_command tn_cmd_run_recipe = {
    "run-recipe",
    "export, quantize, verify ... one model or many, as a file describes it",
    "FILE.json [-o OUT] [-j N]",
    "The file has models, steps and limits (tools/recipe/README.md). Every step of every model is a run of "
    "tenon; "
    "what\n"
    "it prints is kept in OUT/MODEL/logs. Steps that were done before with the same inputs and options are "
    "not run "
    "again.\n"
    "Every limit that is not kept is named, and the exit status is 1.",
    recipe_options,
    TN_COUNT(recipe_options),
    1,
    1,
    run_recipe};
