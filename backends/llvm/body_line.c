/* body_line.c - may the index space of a result be walked as one line, without coordinates? */
#include "backends/llvm/body.h"
#include "backends/llvm/groups.h"

static bool one_element(tn_ll_body *b, const tn_type_info *t) {
  int64_t n;
  for (uint32_t i = 0; i < t->rank; i++)
    if (!b->ir->dim_is_const(b->m, t->dims[i], &n) || n != 1) return false;
  return true;
}

static bool looks_at_coordinates(const char *name) {
  return TN_LL_ONE_OF(name, "broadcast", "reshape", "transpose", "slice", "split", "concat", "pad", "gather",
                      "iota", "causal_mask", "alibi", "rope", "dequant");
}

static bool line(tn_ll_body *b, tn_value v, const tn_type_info *space, int depth) {
  tn_type_info t = tn_ll_type(b, v);
  tn_value_info i;
  b->ir->value_get(b->m, v, &i);
  bool single = one_element(b, &t);
  if (t.layout || t.dtype >= TN_DT_BLOCK || depth > 64) return false;
  if (i.kind != TN_VALUE_RESULT) return single || tn_ll_same_dims(&t, space);
  const char *name = b->ir->opcode_name(b->ir->opcode(b->m, i.op));
  if (!strcmp(name, "constant")) return single || tn_ll_same_dims(&t, space);
  if (single) return true; /* evaluated at coordinates 0, whatever it is */
  if (looks_at_coordinates(name)) return false;
  for (uint32_t j = 0; j < b->ir->op_noperands(b->m, i.op); j++)
    if (!line(b, b->ir->op_operand(b->m, i.op, j), space, depth + 1)) return false;
  return tn_ll_same_dims(&t, space);
}

bool tn_ll_is_line(tn_ll_body *b, tn_value v, const tn_type_info *space) { return line(b, v, space, 0); }
