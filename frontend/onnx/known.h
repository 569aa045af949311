/* known.h - elements that are known at import, one at a time. `op` is an IR op by name; an element whose kind
 * is TN_OX_UNKNOWN comes out where the op does not say more. */
#ifndef TN_ONNX_KNOWN_H
#define TN_ONNX_KNOWN_H
#include "frontend/onnx/import.h"

tn_ox_elem tn_ox_elem_int(tn_ox *x, int64_t k);
tn_ox_elem tn_ox_elem_real(double v);
tn_ox_elem tn_ox_elem_dim(tn_dim d);
bool tn_ox_elem_const(tn_ox *x, const tn_ox_elem *e, int64_t *k); /* a constant integer */
tn_ox_elem tn_ox_elem_binary(tn_ox *x, const char *op, const tn_ox_elem *a,
                             const tn_ox_elem *b); /* integers */
tn_ox_elem tn_ox_elem_real_binary(const char *op, double a, double b);
tn_ox_elem tn_ox_elem_unary(tn_ox *x, const char *op, const tn_ox_elem *a, tn_dtype t);
tn_ox_elem tn_ox_elem_real_unary(const char *op, double a);
tn_ox_elem tn_ox_elem_compare(tn_ox *x, const char *cmp, const tn_ox_elem *a, const tn_ox_elem *b);
tn_ox_elem tn_ox_elem_cast(tn_ox *x, const tn_ox_elem *a, tn_dtype to);
#endif
