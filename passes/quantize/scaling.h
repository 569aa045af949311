/* scaling.h - factors per column that move difficulty between weights and what they meet: a matrix times s
 * meets a value divided by s, which gives the same product and is rounded to another one. */
#ifndef TN_SCALING_H
#define TN_SCALING_H
#include "ir/quant/quant.h"
#include <stdbool.h>

/* Whether encoded rows of the type can be rebuilt by themselves, which tn_scaling_search wants. */
bool tn_scaling_can(tn_dtype t);

/* Rows of a matrix that meets the value, or a sample of them. */
typedef struct tn_scaling_matrix {
  const float *rows; /* [n, columns] */
  uint64_t n;
  tn_dtype type;
} tn_scaling_matrix;

/* Scales by activations (after AWQ, Lin et al. 2023): s = rms^a, with the a among 0, 1/20 .. 19/20 that
 * leaves the least error in the products of the matrices. moments: upper triangle of the sum of x^T x.
 * *before, *after: that error without and with s. */
tn_status tn_scaling_search(uint32_t columns, const float *moments, const tn_scaling_matrix *matrices,
                            uint32_t n, float *s, double *before, double *after);

/* Divides largest activations and largest weights evenly (SmoothQuant, Xiao et al. 2022):
 * s = activations^alpha / weights^(1 - alpha). */
void tn_scaling_smooth(uint32_t columns, const float *activations, const float *weights, double alpha,
                       float *s);
#endif
