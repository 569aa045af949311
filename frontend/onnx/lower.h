/* lower.h - what a lowering function sees: one ONNX node, the values it reads, and builders of IR ops.
 *
 * onnx.def names for every ONNX op the function that lowers it, `tn_ox_lower_NAME(x, n)`, which reads
 * operands and attributes of the node, builds IR ops and states the node's outputs:
 *
 *   tn_status tn_ox_lower_elu(tn_ox *x, tn_ox_node *n) {
 *     tn_value v = tn_ox_in(x, n, 0), alpha = tn_ox_scalar(x, tn_ox_dtype(x, v), tn_ox_float(n, "alpha", 1));
 *     tn_value below = tn_ox_binary(x, "mul", alpha, tn_ox_expm1(x, v));
 *     return tn_ox_out(x, n, 0, tn_ox_select(x, tn_ox_compare(x, "gt", v, tn_ox_scalar_like(x, v, 0)), v,
 * below));
 *   }
 *
 * Builders return 0 once anything has failed in the node, and take such zeros: a lowering checks nothing in
 * between, tn_ox_out gives the status. What a node cannot say in IR is refused with tn_ox_refuse (the model
 * is legal, tenon lacks something; with a hint) or tn_ox_fail (the model is wrong); the import goes on with
 * the other nodes, so that one run names all of them. */
#ifndef TN_ONNX_LOWER_H
#define TN_ONNX_LOWER_H
#include "ir/base/base.h"
#include "tenon/ir.h"

typedef struct tn_ox tn_ox;           /* the import of one model */
typedef struct tn_ox_node tn_ox_node; /* one node of it */
typedef tn_status (*tn_ox_lower_fn)(tn_ox *x, tn_ox_node *n);

/* ---- the node
 * ---------------------------------------------------------------------------------------------- */
const char *tn_ox_op(const tn_ox_node *n);  /* op_type */
uint32_t tn_ox_number(const tn_ox_node *n); /* of the node in the model */
int64_t tn_ox_version(const tn_ox_node *n); /* of its domain's opset, as the model (or function) states */
uint32_t tn_ox_nin(const tn_ox_node *n);    /* named or empty */
uint32_t tn_ox_nout(const tn_ox_node *n);
bool tn_ox_wants(const tn_ox_node *n, uint32_t i); /* output i is named */
tn_value tn_ox_in(tn_ox *x, tn_ox_node *n,
                  uint32_t i); /* a tensor; 0: absent. A sequence or optional fails */
/* States output i; returns the node's status: the first failure of any builder. */
tn_status tn_ox_out(tn_ox *x, tn_ox_node *n, uint32_t i, tn_value v);

bool tn_ox_has_attr(const tn_ox_node *n, const char *name);
int64_t tn_ox_int(tn_ox_node *n, const char *name, int64_t otherwise);
double tn_ox_float(tn_ox_node *n, const char *name, double otherwise);
const char *tn_ox_str(tn_ox_node *n, const char *name, const char *otherwise);
/* Lists live as long as the import; absent: NULL and *count 0. */
const int64_t *tn_ox_ints(tn_ox_node *n, const char *name, uint32_t *count);
const float *tn_ox_floats(tn_ox_node *n, const char *name, uint32_t *count);
const char *const *tn_ox_strs(tn_ox_node *n, const char *name, uint32_t *count);
/* The elements of a tensor of strings; NULL: absent, or of other elements. */
const char *const *tn_ox_tensor_strs(tn_ox *x, tn_ox_node *n, const char *name, uint32_t *count);
tn_value tn_ox_tensor(tn_ox *x, tn_ox_node *n, const char *name); /* as a constant; 0: absent */
/* The IR's element type for a TensorProto.DataType number; refuses the node if there is none. */
tn_dtype tn_ox_dtype_of(tn_ox *x, tn_ox_node *n, int64_t onnx_type);

/* Both return a status to return, and keep the first words. `hint` may be NULL. */
tn_status tn_ox_fail(tn_ox *x, tn_ox_node *n, const char *fmt, ...) TN_PRINTF(3, 4);
tn_status tn_ox_refuse(tn_ox *x, tn_ox_node *n, const char *hint, const char *fmt, ...) TN_PRINTF(4, 5);
bool tn_ox_failed(const tn_ox *x); /* in the node being lowered */

/* ---- values
 * ------------------------------------------------------------------------------------------------- */
tn_dtype tn_ox_dtype(tn_ox *x, tn_value v);
uint32_t tn_ox_rank(tn_ox *x, tn_value v);
tn_dim tn_ox_dim(tn_ox *x, tn_value v, int64_t axis); /* axis may be negative */
void tn_ox_dims(tn_ox *x, tn_value v, tn_dim *out);   /* rank entries */
bool tn_ox_is_float(tn_ox *x, tn_value v);
/* Axis counted from the front; fails the node when out of range. */
uint32_t tn_ox_axis(tn_ox *x, tn_ox_node *n, int64_t axis, uint32_t rank);

/* The elements of an integer tensor of at most `max` elements, as far as they are known at import: constants,
 * and whatever was computed from shapes, as dims. False: some element depends on data. Emits nothing. */
bool tn_ox_known_dims(tn_ox *x, tn_value v, tn_dim *out, uint32_t max, uint32_t *count);
bool tn_ox_known_ints(tn_ox *x, tn_value v, int64_t *out, uint32_t max, uint32_t *count); /* all constant */
bool tn_ox_known_floats(tn_ox *x, tn_value v, double *out, uint32_t max,
                        uint32_t *count); /* any plain type */
/* The same, but elements that depend on data become fresh symbols which a let_dim binds at run time. Fails
 * the node when there are more than `max` elements or their number is not constant. */
bool tn_ox_now_dims(tn_ox *x, tn_value v, tn_dim *out, uint32_t max, uint32_t *count);

/* Dim arithmetic; 0 in, 0 out. */
tn_dim tn_ox_d(tn_ox *x, int64_t k);
tn_dim tn_ox_dadd(tn_ox *x, tn_dim a, tn_dim b);
tn_dim tn_ox_dsub(tn_ox *x, tn_dim a, tn_dim b);
tn_dim tn_ox_dmul(tn_ox *x, tn_dim a, tn_dim b);
tn_dim tn_ox_ddiv(tn_ox *x, tn_dim a, tn_dim b); /* floor */
tn_dim tn_ox_dmin(tn_ox *x, tn_dim a, tn_dim b);
tn_dim tn_ox_dmax(tn_ox *x, tn_dim a, tn_dim b);
/* Product of dims [first, last). */
tn_dim tn_ox_dproduct(tn_ox *x, const tn_dim *dims, uint32_t first, uint32_t last);
bool tn_ox_dconst(tn_ox *x, tn_dim d, int64_t *k);
/* Two sizes that must be equal for the model to make sense: refuses different numbers; symbols get a
 * constraint that the runtime checks, after which all ops take one for the other. Gives the better known of
 * the two. */
tn_dim tn_ox_same(tn_ox *x, tn_ox_node *n, tn_dim a, tn_dim b);
/* A symbol that nothing has yet; `hint` becomes part of its name. */
tn_dim tn_ox_fresh_dim(tn_ox *x, const char *hint);
/* Binds a fresh symbol to an integer scalar (or [1]) at run time, and gives it. 0 <= value <= max unless max
 * 0. */
tn_dim tn_ox_let_dim(tn_ox *x, tn_value scalar, tn_dim max, const char *hint);

/* ---- builders
 * ----------------------------------------------------------------------------------------------- */
/* Any op: attributes as a NULL-named-terminated list, use TN_OX_ATTRS(...) or NULL. Result 0 of the op, or
 * the op. */
tn_value tn_ox_make(tn_ox *x, const char *op, const tn_value *in, uint32_t nin, const tn_named_attr *attrs);
tn_op tn_ox_make_op(tn_ox *x, const char *op, const tn_value *in, uint32_t nin, const tn_named_attr *attrs);
/* An op whose result types have to be stated. */
tn_op tn_ox_make_typed(tn_ox *x, const char *op, const tn_value *in, uint32_t nin, const tn_named_attr *attrs,
                       const tn_type *results, uint32_t nresults);
tn_value tn_ox_result(tn_ox *x, tn_op op, uint32_t i);
#define TN_OX_INT(key, v) ((tn_named_attr){key, {.kind = TN_ATTR_INT, .u.i = (v)}})
#define TN_OX_BOOL(key, v) ((tn_named_attr){key, {.kind = TN_ATTR_BOOL, .u.i = (v)}})
#define TN_OX_FLOAT(key, v) ((tn_named_attr){key, {.kind = TN_ATTR_FLOAT, .u.f = (v)}})
#define TN_OX_STR(key, v) ((tn_named_attr){key, {.kind = TN_ATTR_STR, .u.s = (v)}})
#define TN_OX_DTYPE(key, v) ((tn_named_attr){key, {.kind = TN_ATTR_DTYPE, .u.i = (v)}})
#define TN_OX_DIM(key, v) ((tn_named_attr){key, {.kind = TN_ATTR_DIM, .u.dim = (v)}})
#define TN_OX_INTS(key, p, n) ((tn_named_attr){key, {.kind = TN_ATTR_INTS, .count = (n), .u.ints = (p)}})
#define TN_OX_DIMS(key, p, n) ((tn_named_attr){key, {.kind = TN_ATTR_DIMS, .count = (n), .u.dims = (p)}})
#define TN_OX_ATTRS(...) ((const tn_named_attr[]){__VA_ARGS__, {0}})

tn_value tn_ox_unary(tn_ox *x, const char *op, tn_value a);
/* NumPy broadcasting, also between symbolic sizes; both must have one element type. */
tn_value tn_ox_binary(tn_ox *x, const char *op, tn_value a, tn_value b);
tn_value tn_ox_compare(tn_ox *x, const char *cmp, tn_value a, tn_value b); /* eq ne lt le gt ge */
tn_value tn_ox_select(tn_ox *x, tn_value cond, tn_value a, tn_value b);
tn_value tn_ox_cast(tn_ox *x, tn_value v, tn_dtype to); /* v itself if it is of that type */

tn_value tn_ox_scalar(tn_ox *x, tn_dtype t, double value); /* rank 0 */
tn_value tn_ox_scalar_int(tn_ox *x, tn_dtype t, int64_t value);
tn_value tn_ox_scalar_like(tn_ox *x, tn_value like, double value);
tn_value tn_ox_ints_1d(tn_ox *x, const int64_t *values, uint32_t n); /* i64 [n] */
tn_value tn_ox_floats_1d(tn_ox *x, tn_dtype t, const double *values, uint32_t n);
tn_value tn_ox_dim_value(tn_ox *x, tn_dim d); /* i64 [] */
tn_value tn_ox_full(tn_ox *x, tn_value scalar, const tn_dim *dims, uint32_t rank);
tn_value tn_ox_iota(tn_ox *x, tn_dtype t, const tn_dim *dims, uint32_t rank, int64_t axis);

tn_value tn_ox_reshape(tn_ox *x, tn_value v, const tn_dim *dims,
                       uint32_t rank); /* adds the constraint if need be */
tn_value tn_ox_flat(tn_ox *x, tn_value v); /* rank 1 */
tn_value tn_ox_transpose(tn_ox *x, tn_value v, const int64_t *perm);
tn_value tn_ox_swap(tn_ox *x, tn_value v, int64_t a, int64_t b); /* two axes */
tn_value tn_ox_unsqueeze(tn_ox *x, tn_value v, int64_t axis);    /* one new axis, counted in the result */
tn_value tn_ox_squeeze(tn_ox *x, tn_value v, int64_t axis);      /* an axis of size 1 */
tn_value tn_ox_broadcast(tn_ox *x, tn_value v, const tn_dim *dims, uint32_t rank);
tn_value tn_ox_slice(tn_ox *x, tn_value v, int64_t axis, tn_dim start, tn_dim stop, int64_t step);
tn_value tn_ox_concat(tn_ox *x, const tn_value *parts, uint32_t n, int64_t axis);
tn_value tn_ox_gather(tn_ox *x, tn_value data, tn_value indices, int64_t axis);
tn_value tn_ox_pad(tn_ox *x, tn_value v, const int64_t *low, const int64_t *high, double value);
/* op: reduce_sum ...; naxes 0: all. */
tn_value tn_ox_reduce(tn_ox *x, const char *op, tn_value v, const int64_t *axes, uint32_t naxes, bool keep);
tn_value tn_ox_matmul(tn_ox *x, tn_value a, tn_value b, bool trans_a, bool trans_b);
tn_value tn_ox_softmax(tn_ox *x, tn_value v, int64_t axis);
tn_value tn_ox_expm1(tn_ox *x, tn_value v);

/* ---- sequences, optionals, graphs
 * ---------------------------------------------------------------------------- Lists of tensors whose length
 * is known at import; optionals whose presence is. They have no IR: a lowering that takes or gives them says
 * so here. */
typedef struct tn_ox_item tn_ox_item; /* a tensor, a list, an optional, or nothing */
const tn_ox_item *tn_ox_in_item(tn_ox *x, tn_ox_node *n, uint32_t i);
tn_status tn_ox_out_item(tn_ox *x, tn_ox_node *n, uint32_t i, const tn_ox_item *item);
const tn_ox_item *tn_ox_list(tn_ox *x, const tn_value *items, uint32_t n);
/* Tensors of strings (ops/text.c): all bytes, u8 [l]; where each element starts and how long it is, i64. */
typedef struct tn_ox_text {
  tn_value bytes, starts, lengths;
} tn_ox_text;
bool tn_ox_is_text(tn_ox *x, tn_ox_node *n, uint32_t i);
tn_ox_text tn_ox_in_text(tn_ox *x, tn_ox_node *n, uint32_t i);
tn_status tn_ox_out_text(tn_ox *x, tn_ox_node *n, uint32_t i, tn_ox_text t);
/* Which elements of two inputs are the same, bool. */
tn_value tn_ox_text_equal(tn_ox *x, tn_ox_node *n, uint32_t a, uint32_t b);
/* Which of `keys` each element of input i is, i64; nkeys where it is none. */
tn_value tn_ox_text_lookup(tn_ox *x, tn_ox_node *n, uint32_t i, const char *const *keys, uint32_t nkeys);
/* strings[index], and `otherwise` where the index is count. */
tn_ox_text tn_ox_text_pick(tn_ox *x, const char *const *strings, uint32_t count, const char *otherwise,
                           tn_value index);

const tn_ox_item *tn_ox_none(tn_ox *x);
bool tn_ox_is_list(const tn_ox_item *item, uint32_t *count);
tn_value tn_ox_list_at(tn_ox *x, const tn_ox_item *item, uint32_t i);
/* Lowers a graph attribute in place, with these values for its inputs; gives its outputs. */
tn_status tn_ox_inline(tn_ox *x, tn_ox_node *n, const char *graph, const tn_value *in, uint32_t nin,
                       tn_value *out, uint32_t nout);

#define TN_ONNX(domain, op, first, last, lowering, attributes)                                               \
  tn_status tn_ox_lower_##lowering(tn_ox *x, tn_ox_node *n);
#include "frontend/onnx/onnx.def"
#undef TN_ONNX

#endif
