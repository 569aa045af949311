/* rw.h - short forms that the passes share for reading and rewriting the IR. None of them reports; a reader
 * of an absent thing gives 0. */
#ifndef TN_RW_H
#define TN_RW_H
#include "passes/pass.h"

static inline bool tn_rw_is(tn_module *m, tn_op op, uint32_t opcode) {
  return op && tn_ir_opcode(m, op) == opcode;
}
/* Flags of ops.def. */
uint32_t tn_rw_flags(tn_module *m, tn_op op);
/* The op that makes v, and which of its results v is; 0: an argument, weight or state. */
tn_op tn_rw_def(tn_module *m, tn_value v);
uint32_t tn_rw_result_index(tn_module *m, tn_value v);
tn_op tn_rw_def_as(tn_module *m, tn_value v, uint32_t opcode); /* 0 unless it has that opcode */
tn_value tn_rw_source(tn_module *m, tn_value v); /* the value behind reshapes: the same memory */
uint32_t tn_rw_kind(tn_module *m, tn_value v);   /* TN_VALUE_* */
uint32_t tn_rw_nuses(tn_module *m, tn_value v);
tn_type tn_rw_type(tn_module *m, tn_value v);
tn_type_info tn_rw_type_info(tn_module *m, tn_value v);
bool tn_rw_same_dims(tn_module *m, tn_value a, tn_value b);
bool tn_rw_dim_is(tn_module *m, tn_dim d, int64_t value);

int64_t tn_rw_int(tn_module *m, tn_op op, const char *attr); /* BOOL, INT, DTYPE */
double tn_rw_float(tn_module *m, tn_op op, const char *attr);
tn_attr tn_rw_attr(tn_module *m, tn_op op, const char *attr); /* kind NONE: not there */
bool tn_rw_attr_equal(const tn_attr *a, const tn_attr *b);
/* Appends the bytes that identify an attribute's value, for hash keys. */
void tn_rw_attr_key(const tn_attr *a, tn_buf *key);

/* All elements of constant v are one value (read through casts, reshapes and broadcasts). */
bool tn_rw_splat(tn_module *m, tn_value v, double *out);
/* A constant of one element, type [] of dtype. */
tn_value tn_rw_scalar(tn_module *m, tn_point at, tn_dtype dtype, double value, tn_loc loc);

/* by: the pass or rule that fuses. Either may be 0; equal ones give one. */
tn_loc tn_rw_fuse_locs(tn_module *m, const char *by, tn_loc a, tn_loc b);
/* The same op with other operands, at another place, of the same result types. Its body is not copied. */
tn_op tn_rw_copy(tn_module *m, tn_op op, tn_point at, const tn_value *operands, tn_loc loc);
/* One-result op; results are inferred. */
tn_value tn_rw_build(tn_module *m, tn_point at, uint32_t opcode, const tn_value *operands, uint32_t n,
                     const tn_named_attr *attrs, uint32_t nattrs, tn_loc loc);
static inline tn_point tn_rw_before(tn_op op) { return (tn_point){0, 0, op}; }
/* Messages from here on are dropped by tn_rw_unhush: for questions whose answer may be no. */
typedef struct tn_rw_hush {
  uint32_t count, errors, warnings;
} tn_rw_hush;
tn_rw_hush tn_rw_quiet(tn_module *m);
void tn_rw_unhush(tn_module *m, tn_rw_hush h);
/* Creates op like tn_ir_op_create, but a refusal leaves no diagnostic: for rewrites that merely do not apply.
 */
tn_op tn_rw_try_create(tn_module *m, tn_point at, const tn_op_desc *d);

/* The operand of a kernel, a state, that its result i is after an update; -1: the result is no state. */
int64_t tn_rw_updated_operand(tn_module *m, tn_op kernel, uint32_t i);

/* The type of element type and dims. */
tn_type tn_rw_type_of(tn_module *m, tn_dtype dtype, uint32_t rank, const tn_dim *dims);

/* Marks by id, growing as needed. */
typedef struct tn_marks {
  TN_VEC(uint32_t) v;
} tn_marks;
bool tn_marks_set(tn_marks *x, uint32_t id, uint32_t value); /* false: no memory */
static inline uint32_t tn_marks_get(const tn_marks *x, uint32_t id) {
  return id < x->v.count ? x->v.items[id] : 0;
}
static inline void tn_marks_fini(tn_marks *x) { tn_vec_fini(&x->v); }
#endif
