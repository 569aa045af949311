/* key.h - the text that makes two kernels the same: identical layers share one function. */
#ifndef TN_LLVM_KEY_H
#define TN_LLVM_KEY_H
#include "ir/base/base.h"
#include "tenon/ir.h"

/* Writes everything of kernel `op` that its code depends on: types, ops, operand wiring, attributes. Values
 * are numbered, so names do not matter. */
void tn_ll_key(const tn_ir *ir, tn_module *m, tn_op op, tn_buf *out);

#endif
