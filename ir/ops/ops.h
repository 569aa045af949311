/* ops.h - what the infer functions of this folder share: reading operands with their checks, words for
 * errors, broadcasting and axes. Private to ir/ops. */
#ifndef TN_OPS_H
#define TN_OPS_H
#include "ir/ir.h"

/* An operand as infer functions want it; all zero if it is absent. */
typedef struct tn_in {
  tn_value value;
  tn_type type;
  tn_dtype dtype;
  uint32_t cls; /* TN_CLASS_* */
  uint32_t rank;
  const tn_dim *dims;
} tn_in;

/* A shape under construction. */
typedef struct tn_shape {
  uint32_t rank;
  tn_dim dims[TN_MAX_RANK];
} tn_shape;

/* Reads the first n operands and checks all of them against ops.def: how many, which may be absent, which
 * element types. Block formats pass the constraint ANY only. */
tn_status tn_ops_read(tn_infer *c, tn_in *in, uint32_t n);
tn_in tn_ops_operand(tn_infer *c, uint32_t i);

/* tn_infer_fail with other directives: %D tn_dim, %T tn_type, %s text, %i int, %l int64_t. */
tn_status tn_ops_fail(tn_infer *c, const char *fmt, ...);

/* States result i. */
tn_status tn_ops_result(tn_infer *c, uint32_t i, tn_dtype dtype, const tn_shape *s);
/* Result 0 is exactly of operand x's shape. */
tn_status tn_ops_same(tn_infer *c, const tn_in *x, tn_dtype dtype);

static inline tn_shape tn_ops_shape(const tn_in *x) {
  tn_shape s = {x->rank, {0}};
  if (x->rank) memcpy(s.dims, x->dims, x->rank * sizeof *s.dims);
  return s;
}
/* The shape in a DIMS attribute; refuses negative sizes and too many dims. */
tn_status tn_ops_shape_attr(tn_infer *c, uint32_t attr, tn_shape *s);

/* Broadcasts x's dims into s (NumPy: aligned at the right, equal or 1). Of two dims that are proved equal, s
 * gets the constant. */
tn_status tn_ops_broadcast(tn_infer *c, tn_shape *s, const tn_dim *dims, uint32_t rank);
/* x's dims must broadcast to exactly s; `what` names x in the message. */
tn_status tn_ops_broadcasts_to(tn_infer *c, const char *what, const tn_in *x, const tn_shape *s);
/* The same, also for dims of x of which only the run shows whether they are 1. */
tn_status tn_ops_repeats_to(tn_infer *c, const char *what, const tn_in *x, const tn_shape *s);

/* An axis, counted from the end if negative, as 0..rank-1. */
tn_status tn_ops_axis(tn_infer *c, int64_t axis, uint32_t rank, uint32_t *out);
/* Refuses a and b that are not of the same size: "`what` differ: 64 and 32". */
tn_status tn_ops_equal(tn_infer *c, const char *what, tn_dim a, tn_dim b);
tn_status tn_ops_rank(tn_infer *c, const char *what, const tn_in *x, uint32_t rank);
tn_status tn_ops_no_blocks(tn_infer *c, const tn_in *in, uint32_t n);
/* Both operands must have one element type. */
tn_status tn_ops_same_dtype(tn_infer *c, const tn_in *a, const tn_in *b);
/* Views may cut a block format only between blocks, that is, along another axis than the last. */
tn_status tn_ops_whole_blocks(tn_infer *c, const tn_in *x, uint32_t axis);

const char *tn_ops_dtype_name(tn_dtype t);
/* True if a < b is certain. */
bool tn_ops_less(tn_infer *c, tn_dim a, tn_dim b);
bool tn_ops_is(tn_infer *c, tn_dim d, int64_t value);
/* The same dim, or proved to be of the same size. */
bool tn_ops_eq(tn_infer *c, tn_dim a, tn_dim b);

#endif
