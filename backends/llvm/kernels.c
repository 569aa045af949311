/* kernels.c - see kernels.h. */
#include "backends/llvm/kernels.h"
#include <stdlib.h>

static int by_id(const void *a, const void *b) {
  tn_op x = *(const tn_op *)a, y = *(const tn_op *)b;
  return x < y ? -1 : x > y;
}

tn_status tn_ll_kernels(const tn_ir *ir, tn_module *m, const char *backend, tn_ll_ops *out) {
  for (tn_func f = 1; f <= ir->func_count(m); f++)
    for (tn_op op = ir->first_op(m, f, 0); op; op = ir->next_op(m, op)) {
      tn_attr mine = {0};
      if (strcmp(ir->opcode_name(ir->opcode(m, op)), "kernel")) continue;
      if (!ir->op_attr(m, op, "backend", &mine) || strcmp(mine.u.s, backend)) continue;
      if (!tn_vec_push(out, op)) return TN_OOM;
    }
  if (out->count) qsort(out->items, out->count, sizeof(tn_op), by_id);
  return TN_OK;
}
