/* gptq.h - codes that take each other's errors into account (Frantar et al. 2022): columns are rounded one
 * after the other, and what each loses is made up for by those that are still to come, as the inputs' second
 * moments say. Works for every block format whose numbers lie on a line or in a table: scales come from the
 * encoders (ir/quant/encode.h), codes from here.
 *
 *   tn_gptq_moments(h, columns, x, n, threads);           any number of times
 *   tn_gptq_factor(h, columns, &options, order, u);       once per input
 *   tn_gptq_encode(&g, rows, n, out);                     for every matrix that the input meets */
#ifndef TN_GPTQ_H
#define TN_GPTQ_H
#include "ir/quant/quant.h"
#include <stdbool.h>

typedef struct tn_gptq_options {
  double damp;    /* part of the mean moment that is added to each; 0: 0.01 */
  bool act_order; /* the columns with the largest moments first; scales are then those of the weights as given
                   */
  uint32_t threads; /* 0: one per core */
} tn_gptq_options;

/* h[columns, columns] += x^T x for x[n, columns]: the upper triangle. */
tn_status tn_gptq_moments(float *h, uint32_t columns, const float *x, uint64_t n, uint32_t threads);

/* The upper triangular u[columns, columns] with u^T u = (h + damping)^-1, columns in the order that is
 * chosen. order[columns]. */
tn_status tn_gptq_factor(const float *h, uint32_t columns, const tn_gptq_options *o, uint32_t *order,
                         float *u);

typedef struct tn_gptq {
  tn_dtype type;
  uint32_t columns;
  const float *u;          /* tn_gptq_factor's */
  const uint32_t *order;   /* its order; NULL: as they are, each block's scales made when it is its turn */
  const float *importance; /* [columns], for the scales; NULL: none */
} tn_gptq;
/* Whether the type's codes can be chosen one by one. */
bool tn_gptq_can(tn_dtype t);
/* Encodes n rows: out as of tn_encode_rows. Rows are independent: callers spread them over threads. */
tn_status tn_gptq_encode(const tn_gptq *g, const float *rows, uint64_t n, uint8_t *out);
#endif
