/* structure.c - kernel, yield, return, and the ops of the runtime: let_dim, if, loop. Result types of kernels
 * and calls are stated; that a kernel's yield, a function's return and the functions that are called agree
 * with them is the verifier's to see, because functions may be written in any order. */
#include "ops.h"

static tn_status results_stated(tn_infer *c) {
  for (uint32_t i = 0; i < c->nout; i++)
    if (!c->out[i]) return tn_ops_fail(c, "the type of result %i must be stated", (int)i);
  return TN_OK;
}

tn_status tn_infer_kernel(tn_infer *c) {
  TN_TRY(tn_ops_read(c, NULL, 0));
  return results_stated(c);
}

/* Operand i, unless absent, holds one element. */
static tn_status one_element(tn_infer *c, uint32_t i, const char *what) {
  tn_in x = tn_ops_operand(c, i);
  if (!x.value || x.rank == 0 || (x.rank == 1 && tn_ops_is(c, x.dims[0], 1))) return TN_OK;
  return tn_ops_fail(c, "%s must have one element, but is %T", what, x.type);
}

tn_status tn_infer_let_dim(tn_infer *c) {
  TN_TRY(tn_ops_read(c, NULL, 0));
  TN_TRY(one_element(c, 0, "value"));
  tn_dim_info d;
  tn_ir_dim_get(c->m, c->attrs[0].u.dim, &d);
  if (d.kind != TN_DIM_SYM) return tn_ops_fail(c, "dim must be a symbol, but is %D", c->attrs[0].u.dim);
  return TN_OK;
}

tn_status tn_infer_if(tn_infer *c) {
  TN_TRY(tn_ops_read(c, NULL, 0));
  TN_TRY(one_element(c, 0, "cond"));
  return results_stated(c);
}

tn_status tn_infer_loop(tn_infer *c) {
  TN_TRY(tn_ops_read(c, NULL, 0));
  TN_TRY(one_element(c, 0, "trip"));
  TN_TRY(one_element(c, 1, "cond"));
  int64_t carried = c->attrs[1].u.i;
  if (carried < 0 || carried > (int64_t)c->nin - 2 || carried > c->nout)
    return tn_ops_fail(c, "carried is %l, but there are %i values and %i results", carried, (int)c->nin - 2,
                       (int)c->nout);
  return results_stated(c);
}

tn_status tn_infer_yield(tn_infer *c) { return tn_ops_read(c, NULL, 0); }
tn_status tn_infer_return(tn_infer *c) { return tn_ops_read(c, NULL, 0); }
