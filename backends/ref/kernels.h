/* kernels.h - what the files of this folder share: one prototype per op out of ops.def, attribute access,
 * typed loads and stores of rows, strides, and the dim evaluator. Private to backends/ref. */
#ifndef TN_REF_KERNELS_H
#define TN_REF_KERNELS_H
#include "backends/lib/lib.h"
#include "backends/ref/ref.h"

/* One tn_ref_op_OP per op but for the structural ones, which are not computed. */
#define TN_REF_structure(name)
#define TN_REF_leaf(name) TN_REF_ROW(name)
#define TN_REF_unary(name) TN_REF_ROW(name)
#define TN_REF_binary(name) TN_REF_ROW(name)
#define TN_REF_shape(name) TN_REF_ROW(name)
#define TN_REF_reduce(name) TN_REF_ROW(name)
#define TN_REF_scan(name) TN_REF_ROW(name)
#define TN_REF_order(name) TN_REF_ROW(name)
#define TN_REF_linear(name) TN_REF_ROW(name)
#define TN_REF_irregular(name) TN_REF_ROW(name)
#define TN_REF_norm(name) TN_REF_ROW(name)
#define TN_REF_spatial(name) TN_REF_ROW(name)
#define TN_REF_text(name) TN_REF_ROW(name)
#define TN_REF_attention(name) TN_REF_ROW(name)

#define TN_REF_ROW(name) tn_status tn_ref_op_##name(tn_ref_call *c);
#define TN_OP(name, family, flags, nin0, nin1, nout, doc) TN_REF_##family(name)
#define TN_IN(op, name, constraint, shape)
#define TN_OUT(op, name, shape)
#define TN_ATTR(op, name, kind, def, doc)
#define TN_OP_END(op)
#include "ir/ops.def"
#undef TN_OP
#undef TN_IN
#undef TN_OUT
#undef TN_ATTR
#undef TN_OP_END
#undef TN_REF_ROW

/* ---- element types
 * ------------------------------------------------------------------------------------------ */
static inline uint32_t tn_ref_class(tn_dtype t) {
  static const uint8_t cls[] = {0,
#define TN_X(name, bits, c) TN_CLASS_##c,
                                TN_DTYPES(TN_X)
#undef TN_X
  };
  return t < TN_COUNT(cls) ? cls[t] : t >= TN_DT_BLOCK ? TN_CLASS_BLOCK : 0;
}
static inline bool tn_ref_is_float(tn_dtype t) { return tn_ref_class(t) == TN_CLASS_FLOAT; }
/* Bits of one element of a plain type; 0 for block formats. */
uint32_t tn_ref_bits(tn_dtype t);
/* Values and bytes of a block; 1 and the element's size for plain types of whole bytes; false for sub-byte
 * ones. */
bool tn_ref_block(tn_dtype t, uint32_t *values, uint32_t *bytes);

/* n elements from `first` on as doubles (block formats are dequantised), and back for plain types. */
void tn_ref_load(const tn_ref_tensor *t, int64_t first, int64_t n, double *out);
void tn_ref_store(tn_ref_tensor *t, int64_t first, int64_t n, const double *in);
/* The same for integers and bools. u64 comes as its bit pattern. */
void tn_ref_load_int(const tn_ref_tensor *t, int64_t first, int64_t n, int64_t *out);
void tn_ref_store_int(tn_ref_tensor *t, int64_t first, int64_t n, const int64_t *in);
/* Copies n elements bit by bit; both have the same plain type, or a block format and bounds of whole blocks.
 */
void tn_ref_copy(tn_ref_tensor *to, int64_t at, const tn_ref_tensor *from, int64_t first, int64_t n);
void tn_ref_zero(tn_ref_tensor *t, int64_t at, int64_t n);

/* Element i of a float of 8 bits: what is beyond its numbers saturates or becomes infinity or NaN; `up` is
 * how f8e8m0 rounds (base.h). */
void tn_ref_set_narrow(tn_ref_tensor *t, int64_t i, double v, bool saturate, int up);

/* ---- calls
 * -------------------------------------------------------------------------------------------------- */
/* Writes c->error and returns `s`. */
tn_status tn_ref_fail(tn_ref_call *c, tn_status s, const char *fmt, ...) TN_PRINTF(3, 4);
/* Scratch of n items; NULL: no memory (then return TN_OOM). */
void *tn_ref_scratch(tn_ref_call *c, int64_t n, size_t item);

/* The kernel of backends/lib for an op on all operands and results; scratch in bytes. */
tn_status tn_ref_library(tn_ref_call *c, const char *op, const tn_lib_attr *attrs, int64_t scratch);
tn_attr tn_ref_attr(tn_ref_call *c, const char *name);
int64_t tn_ref_attr_int(tn_ref_call *c, const char *name); /* BOOL, INT, DTYPE */
double tn_ref_attr_float(tn_ref_call *c, const char *name);
int64_t tn_ref_attr_dim(tn_ref_call *c, const char *name);
/* An axis attribute as 0..rank-1 of operand 0; legal in a verified module. */
uint32_t tn_ref_attr_axis(tn_ref_call *c, const char *name);

/* Sizes around an axis: element (o, i, k) lies at (o * n + i) * inner + k. */
typedef struct tn_ref_axis {
  int64_t outer, n, inner;
} tn_ref_axis;
tn_ref_axis tn_ref_around(const tn_ref_tensor *t, uint32_t axis);

/* Sum of a[i] * b[i]; the order depends on n alone. */
double tn_ref_dot(const double *a, const double *b, int64_t n);

/* Strides, in elements, with which x is read as if it had out's shape: 0 along broadcast dims. */
void tn_ref_strides(const tn_ref_tensor *x, const tn_ref_tensor *out, int64_t *strides);
/* Steps a row-major index over dims[0..rank-1); false after the last one. */
bool tn_ref_next(int64_t *index, const int64_t *dims, uint32_t rank);

/* Value of a dim expression; `symbol` gives the values of SYM dims. INT64_MIN on overflow or division by 0.
 */
typedef int64_t (*tn_ref_symbol)(void *ctx, tn_dim d);
int64_t tn_ref_dim(const tn_ir *ir, tn_module *m, tn_dim d, tn_ref_symbol symbol, void *ctx);
/* Shape and type of value v, without data. TN_INVALID: a negative or overflowing size. */
tn_status tn_ref_shape(const tn_ir *ir, tn_module *m, tn_value v, tn_ref_symbol symbol, void *ctx,
                       tn_ref_tensor *out);

#endif
