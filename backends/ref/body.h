/* body.h - running the body of a kernel op, op by op. Private to backends/ref. */
#ifndef TN_REF_BODY_H
#define TN_REF_BODY_H
#include "kernels.h"

enum { TN_REF_ERROR = 256 }; /* bytes of a message */

/* What is known about one kernel op before it runs: the symbols whose values it needs. */
typedef struct tn_ref_kernel {
  const tn_ir *ir;
  tn_module *m;
  tn_op op;
  TN_VEC(tn_dim) symbols;
} tn_ref_kernel;

tn_status tn_ref_kernel_init(tn_ref_kernel *k, const tn_ir *ir, tn_module *m, tn_op op);
void tn_ref_kernel_fini(tn_ref_kernel *k);
/* bufs: operands, then results. dims: values of k->symbols. On failure *at is the op and `error`
 * (TN_REF_ERROR bytes) has words. */
tn_status tn_ref_kernel_run(const tn_ref_kernel *k, void *const *bufs, const int64_t *dims, tn_op *at,
                            char *error);
/* Shape and type of result i, without data. */
tn_status tn_ref_kernel_result(const tn_ref_kernel *k, uint32_t i, const int64_t *dims, tn_ref_tensor *out);

#endif
