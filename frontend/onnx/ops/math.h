/* math.h - what the lowerings of elementwise ops, reductions, casts and random numbers share. */
#ifndef TN_ONNX_OPS_MATH_H
#define TN_ONNX_OPS_MATH_H
#include "frontend/onnx/lower.h"

/* Floats narrower than f32 as f32, so that what is made of several ops rounds once; others as they are. */
tn_value tn_ox_widen(tn_ox *x, tn_value v);
/* An operand that must be there: fails the node when it is not. */
tn_value tn_ox_required(tn_ox *x, tn_ox_node *n, uint32_t i);
/* An operand of one element as a scalar; 0: absent. */
tn_value tn_ox_in_scalar(tn_ox *x, tn_ox_node *n, uint32_t i);
/* Uniform numbers in [0, 1), f32; streams of one node are independent (random.c). */
tn_value tn_ox_uniform(tn_ox *x, tn_ox_node *n, const tn_dim *dims, uint32_t rank, uint32_t stream);
/* log(1 + e^v), without overflow. */
tn_value tn_ox_softplus(tn_ox *x, tn_value v);
tn_value tn_ox_log_softmax(tn_ox *x, tn_value v, int64_t axis);
/* true where two i64 tensors of class numbers meet: classes along `axis` of a tensor like `v`, against
 * indices that have size 1 there. */
tn_value tn_ox_one_hot(tn_ox *x, tn_value v, tn_value indices, int64_t axis);
#endif
