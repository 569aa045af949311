/* dce.c - removes what nothing uses. Weights, states and functions stay: they are the module's border. */
#include "passes/passes.h"

tn_status tn_pass_dce(tn_pass_ctx *c, tn_func f) {
  (void)tn_func_dce(c->m, f);
  return TN_OK;
}
