/* norm.h - rows along the last axis whose elements need a statistic of the whole row first: rms_norm,
 * layer_norm and softmax as kernels of their own (skel_rows.c), rms_norm and layer_norm in front of a product
 * (matmul_stage.c). Of each row the statistics come first, then any element can be asked for. */
#ifndef TN_CPU_NORM_H
#define TN_CPU_NORM_H
#include "backends/cpu/kernel.h"

typedef struct tn_cpu_norm {
  tn_cpu_kernel *k;
  tn_op op;
  tn_value x, out, scale, bias; /* scale, bias: 0: none */
  tn_type_info t;               /* of x */
  tn_dtype acc_type;            /* of statistics and of the row in scratch: f32, or f64 for f64 */
  ll_type acc, lanes;           /* acc_type as one number and as a vector */
  ll_val stage;                 /* room for the row in scratch; NULL: x is a buffer of acc_type */
  bool read_stage;              /* x is read from scratch */
  bool centred;                 /* layer_norm */
  double eps, offset;
  tn_ll_index row;     /* the row: coordinates but for the last, and flat */
  ll_val mean, factor; /* mean NULL: none; softmax: largest element and 1 / sum */
} tn_cpu_norm;

/* Reads the op's first operand; scratch for a row is asked for if `staged` or x is not a buffer. */
void tn_cpu_norm_init(tn_cpu_norm *n, tn_cpu_kernel *k, tn_op op, bool staged);
/* Columns j .. of the row: x, in acc_type; and the place of the row in scratch. */
ll_val tn_cpu_norm_x(tn_cpu_norm *n, tn_ll_ix j, ll_val mask);
ll_val tn_cpu_norm_staged(tn_cpu_norm *n, const tn_ll_index *ix);
void tn_cpu_norm_put(tn_cpu_norm *n, tn_ll_ix j, ll_val mask, ll_val x);
/* All columns, once; and with a sum (or another fold, from `init`) carried along. */
void tn_cpu_norm_each(tn_cpu_norm *n, tn_cpu_column_fn fn);
ll_val tn_cpu_norm_total(tn_cpu_norm *n, tn_cpu_column_fn fn, double init,
                         ll_val (*op)(tn_ll *, ll_val, ll_val));
tn_ll_index tn_cpu_norm_index(const tn_cpu_norm *n, tn_ll_ix j, ll_val mask);
/* Statistics of rms_norm or layer_norm of the row `row`; first x goes to scratch if it is to be read there.
 */
void tn_cpu_norm_row(tn_cpu_norm *n, const tn_ll_index *row);
/* The normalised values of the row at ix, in the type of the op's result. */
ll_val tn_cpu_norm_value(tn_cpu_norm *n, const tn_ll_index *ix);
/* x of the row at ix from scratch, in its own type. */
ll_val tn_cpu_norm_source(tn_cpu_norm *n, const tn_ll_index *ix);

#endif
