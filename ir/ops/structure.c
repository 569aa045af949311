/* structure.c - kernel, yield, return. A kernel's result types are stated; that its yield agrees with them,
 * and a function's return with its signature, is the verifier's to see. */
#include "ops.h"

tn_status tn_infer_kernel(tn_infer *c) {
  TN_TRY(tn_ops_read(c, NULL, 0));
  for (uint32_t i = 0; i < c->nout; i++)
    if (!c->out[i]) return tn_ops_fail(c, "the type of result %i must be stated", (int)i);
  return TN_OK;
}

tn_status tn_infer_yield(tn_infer *c) { return tn_ops_read(c, NULL, 0); }
tn_status tn_infer_return(tn_infer *c) { return tn_ops_read(c, NULL, 0); }
