/* case.h - a function of a module and the sizes and inputs with which it is run, op by op with the reference
 * kernels and fused through a plugin. */
#ifndef TN_CONFORM_CASE_H
#define TN_CONFORM_CASE_H
#include "ir/ir.h"

typedef struct tn_case_dim {
  const char *name;
  int64_t value;
} tn_case_dim;
typedef struct tn_case {
  const char *text; /* a module */
  uint32_t func;    /* its function that is run; 0: the last one */
  tn_case_dim dims[8];
  double lo, hi;          /* float inputs are uniform in [lo, hi); both 0: [-2, 2) */
  int64_t int_lo, int_hi; /* integer inputs in [int_lo, int_hi); both 0: [0, 5) */
  double atol, rtol;      /* 0: by element type */
  double nmse;            /* not 0: floats are compared as a whole instead */
  uint64_t seed;
  const char *pipeline;    /* NULL: "partition, fuse" and "partition, fuse{max=1}" */
  const char *precision;   /* NULL: strict */
  const char *target;      /* of the cpu; NULL: every one that this machine runs and that differs here */
  bool every_target;       /* of the cpu: also those whose code should be another one's */
  uint32_t kernels;        /* not 0: so many there are on a cpu behind "partition, fuse" */
  uint32_t device_kernels; /* the same on a device */
  bool plain_weights;      /* weights keep their row-major layout */
  void (*fill)(const char *name, tn_dtype dt, void *data, int64_t count); /* optional: own input values */
} tn_case;

#endif
