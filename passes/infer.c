/* infer.c - checks every type, shape and attribute of the module again. */
#include "passes/passes.h"

tn_status tn_pass_infer(tn_pass_ctx *c, tn_func f) {
  (void)f;
  return tn_module_verify(c->m);
}
