/* ml.h - what the lowerings of ai.onnx.ml share: lists of numbers that may be attributes or tensors, and what
 * turns scores into results. */
#ifndef TN_ONNX_ML_H
#define TN_ONNX_ML_H
#include "frontend/onnx/lower.h"

/* `name`, a list of floats, or `name`_as_tensor of any float type: n numbers that the caller frees; NULL:
 * neither is there (*count 0), or no memory (the node has failed). */
double *tn_ox_numbers(tn_ox *x, tn_ox_node *n, const char *name, uint32_t *count);
/* A constant of these dims; its elements are rounded to t. */
tn_value tn_ox_table(tn_ox *x, tn_dtype t, const double *values, int64_t rows, int64_t columns);
/* X as floats, f64 if it is that and else f32, as a matrix [n, features]: a vector is one row. */
tn_value tn_ox_features(tn_ox *x, tn_ox_node *n, uint32_t input);
/* post_transform of scores [n, k], k > 1 or not. */
tn_value tn_ox_post(tn_ox *x, tn_ox_node *n, tn_value scores);
tn_value tn_ox_post_named(tn_ox *x, tn_ox_node *n, tn_value scores, const char *how);
/* Two columns of one: [low, high]. */
tn_value tn_ox_two_columns(tn_ox *x, tn_value low, tn_value high);
/* classlabels, by position: i64 of the shape of `which`. Refuses strings. */
tn_value tn_ox_labels(tn_ox *x, tn_ox_node *n, const char *name, tn_value which);
tn_value tn_ox_number_like(tn_ox *x, tn_value v, const char *op, double number); /* v op number */

#endif
