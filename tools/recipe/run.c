/* run.c - the jobs of a recipe as processes of this program, several at a time. A job begins when what it
 * needs is done, in the order of the recipe; a failure skips only what needs it. The state is written after
 * every job, so that a run that was stopped goes on where it was. */
#include "tools/recipe/recipe.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

typedef struct runner {
  tn_recipe *r;
  tn_jobs *list;
  const tn_recipe_run *how;
  tn_diags *d;
  tn_recipe_state state;
  uint32_t running, finished;
} runner;

static bool good(tn_job_status s) { return s == TN_JOB_DONE || s == TN_JOB_KEPT || s == TN_JOB_BELOW; }

static void tell(runner *u, const tn_job *j, const char *word) {
  if (!u->how->quiet) fprintf(stderr, "[%u/%u] %s %s\n", u->finished, u->list->count, j->name, word);
}

/* ---- folders --------------------------------------------------------------------------------- */
/* With all folders above it. */
static tn_status make_folder(tn_recipe *r, const char *path) {
  char *copy = tn_arena_str(&r->arena, tn_str_of(path));
  if (!copy) return TN_OOM;
  for (char *p = copy + 1; *p; p++) {
    if (*p != '/') continue;
    *p = 0;
    mkdir(copy, 0777);
    *p = '/';
  }
  if (mkdir(copy, 0777) && errno != EEXIST)
    return tn_fail(r->diags, TN_UNAVAILABLE, path, NULL, "cannot be made: %s", strerror(errno));
  return TN_OK;
}

static tn_status make_parent(tn_recipe *r, const char *path) {
  const char *slash = strrchr(path, '/');
  char *parent =
      slash && slash != path ? tn_arena_str(&r->arena, (tn_str){path, (uint64_t)(slash - path)}) : NULL;
  return parent ? make_folder(r, parent) : TN_OK;
}

/* ---- one job --------------------------------------------------------------------------------- */
static tn_status spawn(runner *u, tn_job *j) {
  posix_spawn_file_actions_t actions;
  pid_t child = 0;
  TN_TRY(make_parent(u->r, j->stdout_path));
  if (j->out) TN_TRY(make_parent(u->r, j->out));
  if (posix_spawn_file_actions_init(&actions)) return TN_OOM;
  int flags = O_WRONLY | O_CREAT | O_TRUNC;
  int failed = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  if (!failed) failed = posix_spawn_file_actions_addopen(&actions, 1, j->stdout_path, flags, 0666);
  if (!failed) failed = posix_spawn_file_actions_addopen(&actions, 2, j->stderr_path, flags, 0666);
  if (!failed)
    failed = posix_spawn(&child, "/proc/self/exe", &actions, NULL, (char *const *)(uintptr_t)j->argv.items,
                         environ);
  posix_spawn_file_actions_destroy(&actions);
  if (failed)
    return tn_fail(u->d, TN_UNAVAILABLE, u->r->file, j->name, "cannot be started: %s", strerror(failed));
  j->pid = child;
  j->began = tn_now();
  j->status = TN_JOB_RUNNING;
  u->running++;
  return TN_OK;
}

/* What the command printed, if it is JSON. */
static tn_status read_result(runner *u, tn_job *j) {
  tn_file f;
  tn_diags ignored;
  tn_json *root = NULL;
  if (tn_file_map(&f, j->stdout_path, NULL) != TN_OK) return TN_OK;
  tn_diags_init(&ignored);
  tn_status s = f.size ? tn_json_parse(&u->r->arena, (tn_str){(const char *)f.data, f.size}, j->stdout_path,
                                       &ignored, &root)
                       : TN_OK;
  tn_file_unmap(&f);
  tn_diags_fini(&ignored);
  if (s == TN_OK) j->result = root;
  return s == TN_OOM ? tn_fail(u->d, s, u->r->file, j->name, "out of memory") : TN_OK;
}

static tn_status finish(runner *u, tn_job *j, int code) {
  j->seconds = tn_now() - j->began;
  j->exit = WIFEXITED(code) ? WEXITSTATUS(code) : 128 + WTERMSIG(code);
  j->status = j->exit ? TN_JOB_FAILED : TN_JOB_DONE;
  u->running--;
  u->finished++;
  TN_TRY(read_result(u, j));
  if (j->status == TN_JOB_DONE) {
    if (tn_state_add(&u->state, j) != TN_OK)
      return tn_fail(u->d, TN_OOM, u->r->file, j->name, "out of memory");
    TN_TRY(tn_state_write(&u->state, u->d));
  }
  TN_TRY(tn_job_judge(u->r, j));
  tell(u, j, tn_job_word(j->status));
  return TN_OK;
}

/* ---- all jobs -------------------------------------------------------------------------------- */
typedef enum readiness { READY, NOT_YET, NEVER } readiness;

static readiness ready(const runner *u, const tn_job *j) {
  readiness r = READY;
  for (uint32_t i = 0; i < j->needs.count; i++) {
    tn_job_status s = u->list->items[j->needs.items[i]].status;
    if (s == TN_JOB_FAILED || s == TN_JOB_SKIPPED) return NEVER;
    if (!good(s)) r = NOT_YET;
  }
  return r;
}

/* Starts, keeps or skips a job that is ready. */
static tn_status begin(runner *u, tn_job *j) {
  if (tn_state_key(&u->state, j) != TN_OK) return tn_fail(u->d, TN_OOM, u->r->file, j->name, "out of memory");
  if (u->how->force || !tn_state_keeps(&u->state, j)) return spawn(u, j);
  j->status = TN_JOB_KEPT;
  u->finished++;
  TN_TRY(tn_job_judge(u->r, j));
  tell(u, j, tn_job_word(j->status));
  return TN_OK;
}

/* *moved: something changed, so that other jobs may be ready now. */
static tn_status sweep(runner *u, bool *moved) {
  *moved = false;
  for (uint32_t i = 0; i < u->list->count; i++) {
    tn_job *j = &u->list->items[i];
    if (j->status != TN_JOB_WAITING) continue;
    readiness r = ready(u, j);
    if (r == NOT_YET || (r == READY && u->running >= u->how->jobs)) continue;
    *moved = true;
    if (r == READY) {
      TN_TRY(begin(u, j));
      continue;
    }
    j->status = TN_JOB_SKIPPED;
    u->finished++;
    tell(u, j, tn_job_word(j->status));
  }
  return TN_OK;
}

static tn_status wait_one(runner *u) {
  int code;
  pid_t got;
  do got = waitpid(-1, &code, 0);
  while (got < 0 && errno == EINTR);
  if (got < 0) return tn_fail(u->d, TN_INTERNAL, u->r->file, NULL, "lost a process: %s", strerror(errno));
  for (uint32_t i = 0; i < u->list->count; i++) {
    tn_job *j = &u->list->items[i];
    if (j->status == TN_JOB_RUNNING && j->pid == got) return finish(u, j, code);
  }
  return TN_OK;
}

/* After a failure of this program itself: nobody is left running. */
static void stop_all(runner *u) {
  for (uint32_t i = 0; i < u->list->count; i++) {
    tn_job *j = &u->list->items[i];
    if (j->status != TN_JOB_RUNNING) continue;
    kill(j->pid, SIGTERM);
    waitpid(j->pid, NULL, 0);
  }
}

static tn_status loop(runner *u) {
  for (bool moved = true; moved || u->running;) {
    TN_TRY(sweep(u, &moved));
    if (moved || !u->running) continue;
    TN_TRY(wait_one(u));
    moved = true;
  }
  return TN_OK;
}

tn_status tn_recipe_execute(tn_recipe *r, tn_jobs *list, const tn_recipe_run *how, tn_diags *d) {
  runner u = {.r = r, .list = list, .how = how, .d = d};
  TN_TRY(make_folder(r, r->out));
  tn_status s = tn_state_open(&u.state, r, d);
  if (s == TN_OK) s = loop(&u);
  if (s != TN_OK) stop_all(&u);
  if (s == TN_OK) s = tn_state_write(&u.state, d);
  for (uint32_t i = 0; i < list->count; i++) /* results of kept jobs live in the state */
    if (list->items[i].status == TN_JOB_KEPT || list->items[i].status == TN_JOB_BELOW)
      list->items[i].result = NULL;
  tn_state_fini(&u.state);
  return s;
}
