/* team.h - threads that make one result together: some neighbouring lanes of a warp, or a whole block. */
#ifndef TN_CUDA_TEAM_H
#define TN_CUDA_TEAM_H
#include "backends/cuda/kernel.h"

enum { TN_CUDA_TEAM_VALUES = 2 }; /* what a team folds at once */

typedef struct tn_cuda_team {
  tn_cuda_kernel *k;
  uint32_t threads; /* of a block, a power of 2 */
  uint32_t width;   /* of a team: a power of 2 up to 32, or all of the block */
  ll_val room;      /* shared memory, if the team is a block of several warps */
  ll_val member;    /* i64: the thread's place in its team */
  ll_val number;    /* i64: the team's place in the grid's x */
} tn_cuda_team;

/* In the launch's entry block. */
void tn_cuda_team_begin(tn_cuda_team *t, tn_cuda_kernel *k, uint32_t threads, uint32_t width);
/* acc[0 .. n) and other[0 .. n) to acc; all scalars. Both orders of operands must give the same. */
typedef void (*tn_cuda_fold)(void *ctx, ll_val *acc, const ll_val *other);
/* Over all members in a fixed tree; every member gets the result. All threads of the block come here. */
void tn_cuda_team_fold(tn_cuda_team *t, ll_val *acc, uint32_t n, tn_cuda_fold fold, void *ctx);
/* What the members before this one have, and (if all is not NULL) what all have; teams of whole warps. */
typedef struct tn_cuda_sum {
  ll_val (*join)(void *ctx, ll_val before, ll_val v);
  void *ctx;
  ll_val neutral;
} tn_cuda_sum;
ll_val tn_cuda_team_scan(tn_cuda_team *t, const tn_cuda_sum *s, ll_val v, ll_val *all);
/* Vectors to scalars. */
void tn_cuda_lanes_fold(tn_cuda_kernel *k, ll_val *acc, uint32_t n, tn_cuda_fold fold, void *ctx);

/* Slot i (i64) of shared or device memory that holds any scalar in 8 bytes. */
void tn_cuda_slot_put(tn_cuda_kernel *k, ll_val base, ll_val i, ll_val v);
ll_val tn_cuda_slot_get(tn_cuda_kernel *k, ll_type t, ll_val base, ll_val i);

/* The smallest power of 2 that is not below n. */
uint32_t tn_cuda_power(int64_t n);
/* Elements that a thread takes at once of an axis of this size: e->lanes or 1. */
uint32_t tn_cuda_wide(tn_cuda_kernel *k, tn_dim axis);
/* Threads of a team for `units` steps of work along a line, if that is known (else 0): few lanes for short
 * lines, so that a warp takes several. *threads: of a block. */
uint32_t tn_cuda_team_width(int64_t units, uint32_t *threads);
/* The index of element `at` along `axis` of line `line` (i64, row-major over all other dims) of t. */
tn_ll_index tn_cuda_line_index(tn_cuda_kernel *k, const tn_type_info *t, uint32_t axis, ll_val line,
                               tn_ll_ix at);
/* Number of lines along `axis`. */
tn_dim tn_cuda_lines(tn_cuda_kernel *k, const tn_type_info *t, uint32_t axis);
/* The kernel's only yields are results of its root. */
bool tn_cuda_yields_root(tn_cuda_kernel *k);
/* Stores x at ix of result i of the root, if the kernel yields it. */
void tn_cuda_store_result(tn_cuda_kernel *k, uint32_t i, const tn_ll_index *ix, ll_val x);
#endif
