/* tuning.h - tuning files: which numbers were measured to suit which kernel, per target. A file is an input
 * of a compile: the same file gives the same bytes. The backend says which kernels have numbers, and checks
 * them.
 *
 *   {"tenon_tuning": 1, "targets": {"avx512": {"8c6f...": {"kernel": "matmul f32[B, S, 2048]", "rows":
 * 112}}}} */
#ifndef TN_TUNING_H
#define TN_TUNING_H
#include "tools/driver/driver.h"

typedef struct tn_tuning_row {
  const char *target, *key; /* key: as in tn_kernel_info */
  const char *note;         /* for people: what kernel that is; may be NULL */
  const char *numbers;      /* "rows=112 depth=512"; empty: none suit it better than those it has anyway */
} tn_tuning_row;

typedef struct tn_tuning {
  tn_arena arena;
  TN_VEC(tn_tuning_row) rows; /* sorted by target and key */
} tn_tuning;

void tn_tuning_init(tn_tuning *t);
void tn_tuning_fini(tn_tuning *t);
/* Adds the rows of a file. */
tn_status tn_tuning_read(tn_tuning *t, const char *path, tn_diags *d);
tn_status tn_tuning_write(const tn_tuning *t, const char *path, tn_diags *d);
/* NULL: no such row */
const tn_tuning_row *tn_tuning_get(const tn_tuning *t, const char *target, const char *key);
/* Replaces the row of that target and key. All is copied. */
tn_status tn_tuning_set(tn_tuning *t, const tn_tuning_row *row);
/* What the backend's option "tuning" takes for a target: a line per kernel. */
void tn_tuning_text(const tn_tuning *t, const char *target, tn_buf *out);

/* tune.c: measures the kernels of m that have numbers on this machine, for the best of d's targets that runs
 * here, and puts the winners into `t`. The weights' types get their layouts. */
typedef struct tn_tune_result {
  uint32_t kernels, tuned; /* with numbers to tune; that got some */
  const char *target;
} tn_tune_result;
tn_status tn_driver_tune(tn_driver *d, tn_module *m, uint32_t mode, tn_tuning *t, tn_tune_result *out);
#endif
