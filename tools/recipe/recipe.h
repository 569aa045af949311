/* recipe.h - what the files of `tenon run-recipe` share. A recipe (read.c) is models, variants and steps;
 * every step of every model in every variant is one job (jobs.c), a command line of this very program. Jobs
 * run as processes (run.c), those that were done before with the same inputs are kept (state.c), and what
 * they print is held against the recipe's limits (limits.c). */
#ifndef TN_RECIPE_H
#define TN_RECIPE_H
#include "frontend/config/config.h"
#include "tools/tool.h"

/* A number that a step prints: "kl.mean", "values.*.cosine". */
typedef struct tn_recipe_limit {
  const char *path;
  const tn_json *min, *max, *equal; /* NULL: none */
} tn_recipe_limit;

typedef struct tn_step_kind {
  const tn_command *command;
  const char *words;
} tn_step_kind;

typedef struct tn_recipe_step {
  const char *name;
  const tn_step_kind *kind;
  const tn_json *node; /* its keys */
  tn_recipe_limit *limits;
  uint32_t nlimits;
  const tn_json *show, *after, *options; /* or NULL */
} tn_recipe_step;

/* A model in one variant. */
typedef struct tn_recipe_model {
  const char *name, *path;
  const char *base;              /* its name without the variant */
  const tn_json *vars, *variant; /* objects, or NULL */
} tn_recipe_model;

typedef struct tn_recipe {
  tn_arena arena;
  tn_diags *diags;
  const char *file, *name, *out; /* out: folder of what the jobs make */
  const tn_json *root;
  TN_VEC(tn_recipe_model) models;
  TN_VEC(tn_recipe_step) steps;
  bool reports;
} tn_recipe;

typedef enum tn_job_status {
  TN_JOB_WAITING,
  TN_JOB_RUNNING,
  TN_JOB_DONE,
  TN_JOB_KEPT,    /* done before, not run again */
  TN_JOB_BELOW,   /* done, but a limit is not kept */
  TN_JOB_FAILED,  /* the command failed */
  TN_JOB_SKIPPED, /* what it needs failed */
  TN_JOB_STATUSES
} tn_job_status;

typedef TN_VEC(const char *) tn_words;
typedef struct tn_job {
  const tn_recipe_model *model;
  const tn_recipe_step *step;
  const char *owner;      /* name of the model, or of the model in its variant */
  bool varies;            /* with the variant: otherwise all variants share it */
  const char *name;       /* OWNER/STEP */
  tn_words argv;          /* of this program, NULL behind */
  const char *out;        /* what it makes, or NULL */
  TN_VEC(uint32_t) needs; /* earlier jobs */
  const char *stdout_path, *stderr_path;
  tn_job_status status;
  int exit;     /* of the command; 128 + signal */
  char key[65]; /* of everything that decides the result; "" until it is ready */
  double seconds, began;
  const tn_json *result; /* what it printed, or NULL: nothing, or no JSON */
  tn_buf broken;         /* limits that are not kept, as words, one a line */
  tn_buf broken_json;    /* the same as a list without its brackets */
  tn_buf shown;          /* numbers for the table */
  int32_t pid;
} tn_job;
typedef TN_VEC(tn_job) tn_jobs;

/* read.c: checks the whole recipe before anything runs. `out`: -o, or NULL. */
tn_status tn_recipe_read(tn_recipe *r, const char *path, const char *out, tn_diags *d);
void tn_recipe_fini(tn_recipe *r);
/* JSON with the shortest digits that read back to the same number; a text without its quotes. */
void tn_recipe_put(tn_buf *b, const tn_json *v);
tn_status tn_recipe_bad(tn_recipe *r, const char *where, const char *fmt, ...) TN_PRINTF(3, 4);

/* jobs.c */
tn_status tn_recipe_jobs(tn_recipe *r, tn_jobs *out);
void tn_jobs_fini(tn_jobs *jobs);

/* state.c: OUT/state.json has hashes of files, found again by size and time, and keys and results of jobs
 * that were done. */
typedef struct tn_file_hash {
  const char *path;
  int64_t size, changed; /* bytes; nanoseconds */
  char hash[65];
} tn_file_hash;
typedef struct tn_done {
  const char *name, *key, *out; /* out: hash of what was made, or NULL */
  double seconds;
  const tn_json *result; /* or NULL */
} tn_done;
typedef struct tn_recipe_state {
  tn_arena arena;
  char *path;
  TN_VEC(tn_file_hash) files;
  TN_VEC(tn_done) done;
  tn_map file_of, done_of;
} tn_recipe_state;
/* A state that cannot be read is as if there were none: a warning says so. */
tn_status tn_state_open(tn_recipe_state *s, const tn_recipe *r, tn_diags *d);
void tn_state_fini(tn_recipe_state *s);
/* The job's key, from its words and the content of the files and folders that they name. */
tn_status tn_state_key(tn_recipe_state *s, tn_job *j);
/* Whether the job was done with this key and what it made is still there; then it has its result. */
bool tn_state_keeps(tn_recipe_state *s, tn_job *j);
tn_status tn_state_add(tn_recipe_state *s, const tn_job *j); /* of a job that is done */
tn_status tn_state_write(tn_recipe_state *s, tn_diags *d);

/* limits.c: fills the job's broken and shown from its result; of a job that is done, DONE or KEPT becomes
 * BELOW. */
tn_status tn_job_judge(tn_recipe *r, tn_job *j);

/* run.c: all jobs, `jobs` at a time, in the order of the recipe. Lines of progress go to stderr. */
typedef struct tn_recipe_run {
  uint32_t jobs;
  bool force, quiet;
} tn_recipe_run;
tn_status tn_recipe_execute(tn_recipe *r, tn_jobs *list, const tn_recipe_run *how, tn_diags *d);

/* table.c */
const char *tn_job_word(tn_job_status s); /* "done" */
void tn_recipe_print(const tn_recipe *r, const tn_jobs *jobs);
void tn_recipe_json(const tn_recipe *r, const tn_jobs *jobs, tn_buf *out);
#endif
