/* recipe.h - what the files of `tenon run-recipe` share. A recipe (read.c) is models, variants and steps; every
 * step of every model in every variant is one job (jobs.c), a command line of this very program. Jobs run as
 * processes (run.c), those that were done before with the same inputs are kept (state.c), and what they print
 * is held against the recipe's limits (limits.c). */
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
  const char *name;         /* MODEL/STEP */
  tn_words argv;            /* of this program, NULL behind */
  const char *out;          /* what it makes, or NULL */
  TN_VEC(uint32_t) needs;   /* earlier jobs */
  const char *stdout_path, *stderr_path;
  tn_job_status status;
  int exit;           /* of the command; 128 + signal */
  char key[65];       /* of everything that decides the result; "" until it is ready */
  double seconds, began;
  const tn_json *result; /* what it printed, or NULL: nothing, or no JSON */
  tn_buf broken;      /* limits that are not kept, as words, one a line */
  tn_buf broken_json; /* the same as a list without its brackets */
  tn_buf shown;       /* numbers for the table */
  int32_t pid;
} tn_job;
typedef TN_VEC(tn_job) tn_jobs;

/* read.c: checks the whole recipe before anything runs. `out`: -o, or NULL. */
tn_status tn_recipe_read(tn_recipe *r, const char *path, const char *out, tn_diags *d);
void tn_recipe_fini(tn_recipe *r);
tn_status tn_recipe_bad(tn_recipe *r, const char *where, const char *fmt, ...) TN_PRINTF(3, 4);

/* jobs.c */
tn_status tn_recipe_jobs(tn_recipe *r, tn_jobs *out);
void tn_jobs_fini(tn_jobs *jobs);

/* state.c: OUT/state.json: hashes of files by size and time, keys and results of jobs that were done. */
typedef struct tn_recipe_state {
  tn_arena arena;
  const char *path;
  tn_map files;  /* path -> index in `hashes` */
  struct tn_file_hash *hashes;
  uint32_t nhashes, room;
  tn_map done;   /* job -> index in `records` */
  TN_VEC(struct tn_done) records;
} tn_recipe_state;
