/* groups.c - see groups.h. */
#include "backends/llvm/groups.h"
#include <string.h>

bool tn_ll_one_of(const char *name, const char *const *list) {
  for (; *list; list++)
    if (!strcmp(name, *list)) return true;
  return false;
}

bool tn_ll_is_view(const char *name) {
  return TN_LL_ONE_OF(name, "reshape", "transpose", "slice", "split", "broadcast", "constant", "iota");
}

bool tn_ll_is_elementwise(const char *name) {
  return !tn_ll_is_view(name) && !TN_LL_ONE_OF(name, "rope", "gather", "concat", "pad", "alibi",
                                               "causal_mask", "dequant", "random_uniform");
}

bool tn_ll_is_cheap(const char *name) {
  return tn_ll_is_view(name) || TN_LL_ONE_OF(name, "cast", "bitcast", "neg", "abs", "add", "sub", "mul",
                                             "not", "and", "or", "shl", "shr", "compare", "select", "gather");
}

bool tn_ll_made_by(const tn_ir *ir, tn_module *m, tn_value v, tn_op op) {
  for (;;) {
    tn_value_info i;
    if (!v) return false;
    ir->value_get(m, v, &i);
    if (i.kind != TN_VALUE_RESULT) return false;
    if (i.op == op) return true;
    if (strcmp(ir->opcode_name(ir->opcode(m, i.op)), "reshape")) return false;
    v = ir->op_operand(m, i.op, 0);
  }
}

bool tn_ll_same_dims(const tn_type_info *a, const tn_type_info *b) {
  return a->rank == b->rank && (!a->rank || !memcmp(a->dims, b->dims, a->rank * sizeof(tn_dim)));
}
