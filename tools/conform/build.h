/* build.h - a case on its way through a plugin: the passes, the weights' layout, and the package with the
 * kernels. What runs them differs per plugin and is in its harness. */
#ifndef TN_CONFORM_BUILD_H
#define TN_CONFORM_BUILD_H
#include "tools/conform/world.h"

/* A plugin under test. A harness has one, with `file` set. */
typedef struct tn_trial_plugin {
  const char *file; /* "tenon-cpu.so" */
  /* optional: may the reference run this op, which the plugin does not take? NULL: an op that is not taken is
   * an error. */
  bool (*left)(const char *mnemonic);
  uint32_t taken; /* how many ops it took since the start */
  const tn_backend *backend;
  void *self;
  char words[512]; /* of its last message that was no note */
  uint32_t said;   /* how many those were */
  bool quiet;      /* messages are not printed */
} tn_trial_plugin;
/* The table of a host: words go to p->words, options of calls are one string "key=value". */
void tn_trial_host(tn_trial_plugin *p, tn_host *out);
/* Loads it, once. */
void tn_trial_plugin_load(tn_trial_plugin *p);

typedef struct tn_trial_row {
  tn_op op;
  char symbol[96];
  tn_dim dims[16], scratch;
  uint32_t ndims;
} tn_trial_row;
typedef TN_VEC(tn_trial_row) tn_trial_rows;
/* One compile; the same text under the same passes gives the same ops, so it serves all values of the dims.
 * The dims of its rows are those of the module that was compiled. */
typedef struct tn_trial_package {
  char *text;
  tn_world w;
  const char *pipeline, *target, *precision;
  bool plain;
  tn_buf image;
  tn_trial_rows rows, left; /* left: those of the reference */
  tn_exec *reference;       /* NULL: nothing is left */
  void *user;               /* of the harness; drop frees it */
} tn_trial_package;

/* A case, ready to be run by kernels. */
typedef struct tn_trial {
  tn_world w;
  tn_trial_package *package;
  TN_VEC(tn_wall) packed; /* weights in the plugin's layout */
} tn_trial;
/* c->text behind `pipeline`, its package for `t` (compiled now unless one of the last 16 fits, else drop is
 * called on the one that goes). */
void tn_trial_init(tn_trial *b, tn_trial_plugin *p, const tn_target *t, const tn_case *c,
                   const char *pipeline, void (*drop)(tn_trial_package *k));
void tn_trial_fini(tn_trial *b);
/* The row of a kernel op. *left: it is one of the reference. */
const tn_trial_row *tn_trial_row_of(const tn_trial_package *k, tn_op op, bool *left);
/* The function of a kernel of the reference. */
void tn_trial_left_kernel(const tn_trial_package *k, const tn_trial_row *row, tn_kernel_fn *fn, void **ctx);
int64_t tn_trial_dim(const tn_trial *b, tn_dim d); /* d: of a row */

static inline const char *tn_case_precision(const tn_case *c) {
  return c->precision ? c->precision : "strict";
}
#endif
