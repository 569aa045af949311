/* reader.h - a package that was checked: every number that is used later has been looked at here. Launches
 * come with the expressions they need, renumbered, so that evaluating them is one pass. */
#ifndef TN_CUDA_READER_H
#define TN_CUDA_READER_H
#include "backends/cuda/package.h"
#include "ir/base/base.h"

enum { TN_CUDA_MAX_PARAMS = 4096 }; /* bytes of a launch's parameters: a limit of the driver's */

/* Rows of one launch's expressions: exprs[first .. first + n) of the view. */
typedef struct tn_cuda_plan {
  const tn_cuda_launch_row *row;
  const tn_cuda_kernel_row *kernel;
  uint32_t first, n;
  uint32_t grid[3];   /* positions among them; TN_CUDA_NONE: 1 */
  uint32_t first_map; /* of the view's maps, whose rows are such positions, too */
} tn_cuda_plan;

typedef struct tn_cuda_view {
  const uint8_t *base;
  const tn_cuda_package *head;
  const char *strings;
  const tn_cuda_image *images;
  const tn_cuda_kernel_row *kernels;
  tn_cuda_plan *plans; /* one per launch */
  TN_VEC(tn_cuda_expr) exprs;
  TN_VEC(tn_cuda_map_row) maps;
  uint32_t most_exprs; /* of one launch */
  tn_map symbols;      /* of kernels -> their rows */
} tn_cuda_view;

/* `blob` is kept. TN_DATA_LOSS with words when anything in it is not as package.h says. */
tn_status tn_cuda_view_open(tn_cuda_view *v, tn_bytes blob, tn_buf *why);
void tn_cuda_view_close(tn_cuda_view *v); /* safe after a failed open */

/* Values of the plan's expressions, n of them. false: one divides by 0 or does not fit 64 bits. */
bool tn_cuda_evaluate(const tn_cuda_view *v, const tn_cuda_plan *p, const int64_t *dims, int64_t *values);
#endif
