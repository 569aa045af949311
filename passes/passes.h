/* passes.h - prototypes of the pass functions, from passes.def. */
#ifndef TN_PASSES_H
#define TN_PASSES_H
#include "passes/pass.h"
#define TN_PASS(suffix, name, module_pass, options, summary)                                                 \
  tn_status tn_pass_##suffix(tn_pass_ctx *c, tn_func f);
#include "passes/passes.def"
#undef TN_PASS
#endif
