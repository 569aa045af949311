/* cut.h - how a tensor of a view is cut out of one behind: axes, each a run of loops over the numbers behind.
 */
#ifndef TN_CK_CUT_H
#define TN_CK_CUT_H
#include "frontend/checkpoint/ck.h"

typedef struct ck_cut {
  uint64_t at;
  uint32_t rank, loops;
  uint32_t inner[TN_MAX_RANK]; /* loops of each axis */
  uint64_t size[CK_LOOPS], step[CK_LOOPS];
  ck_math math;
  double number;
} ck_cut;

/* All of a tensor as it is. */
bool ck_cut_all(ck_cut *c, uint32_t rank, const int64_t *shape);
uint64_t ck_cut_extent(const ck_cut *c, uint32_t axis);
/* One of `parts` equal parts of an axis. */
bool ck_cut_part(ck_cut *c, uint32_t axis, uint64_t part, uint64_t parts);
/* Numbers first .. first + count of an axis that is one loop. */
bool ck_cut_range(ck_cut *c, uint32_t axis, uint64_t first, uint64_t count);
/* An axis of size 1 goes away. */
void ck_cut_drop(ck_cut *c, uint32_t axis);
void ck_cut_swap(ck_cut *c, uint32_t a, uint32_t b);
/* The same numbers in another shape; `c` must be a whole tensor in its own order. */
bool ck_cut_reshape(ck_cut *c, uint32_t rank, const int64_t *shape);
/* One step on the way from a folder into a GGUF file, or back. false: it does not fit the shape. */
bool ck_cut_step(ck_cut *c, const tn_page_step *s, bool back);
#endif
