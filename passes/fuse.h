/* fuse.h - the two halves of the pass `fuse`: fuse.c and fuse_loop.c decide which op goes into which group,
 * fuse_build.c writes the groups as kernel ops.
 *
 * Every group has a number, and every edge between groups goes from a lower number to a higher one: that
 * keeps the groups free of cycles without ever searching for one, and is the order in which the kernels are
 * written. A group around a root is a chain with a single end, and its number is the position of that end. A
 * loop group has the position of its first op, and another op joins only if all its other operands come from
 * groups with lower numbers. */
#ifndef TN_FUSE_H
#define TN_FUSE_H
#include "passes/rw.h"

enum {
  TN_FK_STRUCTURE = 0, /* return, kernel */
  TN_FK_HOST,          /* let_dim, if, loop: stay between the kernels */
  TN_FK_LEAF,          /* cloned into each kernel that uses it: constant, iota, causal_mask, alibi */
  TN_FK_ALIAS,         /* reshape: the same memory; transparent to grouping */
  TN_FK_LOOP, /* elementwise, views, rope, dequant, random_uniform: element i of the result by itself */
  TN_FK_ROOT  /* anything else has a skeleton of its own */
};

typedef struct tn_fgroup {
  tn_op root; /* the op it is built around; of a loop its first op */
  uint32_t number;
  bool loop, dead;      /* dead: merged into another */
  uint32_t assigned;    /* backend, as in tn_pass_ctx.assigned */
  TN_VEC(tn_op) ops;    /* members */
  TN_VEC(tn_op) clones; /* cheap ops that it computes for itself, operands before users */
} tn_fgroup;

typedef struct tn_fuse {
  tn_pass_ctx *c;
  tn_module *m;
  tn_func f;
  tn_op ret;   /* the function's return */
  int64_t max; /* ops per group */
  bool force;
  TN_VEC(tn_op) ops; /* in program order, without the return */
  tn_marks pos;      /* by op: 1 + index in ops */
  tn_marks segment;  /* by op: host ops before it; no group has members of two segments */
  tn_marks group;    /* by op: 1 + index in groups; 0: not (yet) in one */
  tn_marks needed;   /* by op: a clonable op that somebody could not clone */
  tn_marks hazard;   /* by value: a state that is written more than once, or written and read */
  TN_VEC(tn_fgroup) groups;
} tn_fuse;

uint32_t tn_fuse_kind(tn_module *m, tn_op op);
static inline tn_op tn_fuse_source_op(tn_module *m, tn_value v) { return tn_rw_def(m, tn_rw_source(m, v)); }
/* The group of op, or NULL. */
tn_fgroup *tn_fuse_group_of(tn_fuse *x, tn_op op);
bool tn_fuse_clones(const tn_fgroup *g, tn_op op);
/* Does a user of v, looking through reshapes, lie outside of g (and, unless 0, is not `but`)? */
bool tn_fuse_escapes(tn_fuse *x, const tn_fgroup *g, tn_value v, tn_op but);
bool tn_fuse_any_escapes(tn_fuse *x, const tn_fgroup *g, tn_op op, tn_op but);
/* No host op stands between op and g's members. */
bool tn_fuse_near(const tn_fuse *x, const tn_fgroup *g, tn_op op);
/* May op be in the kernel of root? Asks the backend, and needs the same backend for both. */
bool tn_fuse_allowed(tn_fuse *x, const tn_fgroup *g, tn_op op, uint32_t role);
/* The same for the reshapes between v and its source. */
bool tn_fuse_path_allowed(tn_fuse *x, const tn_fgroup *g, tn_value v, uint32_t role);
/* Must keep its place because of a state that others write. */
bool tn_fuse_ordered(tn_fuse *x, tn_op op);
/* A cheap op on something that is in memory anyway: better computed twice than stored. */
bool tn_fuse_clonable(tn_fuse *x, tn_op op);
/* Clones op (and what it needs) into g if the backend agrees; false: op is needed in memory. */
bool tn_fuse_clone(tn_fuse *x, tn_fgroup *g, tn_op op, uint32_t role);
/* NULL: no memory. */
tn_fgroup *tn_fuse_new_group(tn_fuse *x, tn_op root, bool loop);
bool tn_fuse_join(tn_fuse *x, tn_fgroup *g, tn_op op);

tn_status tn_fuse_loops(tn_fuse *x); /* fuse_loop.c: groups for all LOOP ops that no root took */
tn_status tn_fuse_build(tn_fuse *x); /* fuse_build.c */
#endif
