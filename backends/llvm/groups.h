/* groups.h - ops that backends treat alike when they choose what shares a kernel. By mnemonic. */
#ifndef TN_LLVM_GROUPS_H
#define TN_LLVM_GROUPS_H
#include "tenon/ir.h"
#include <stdbool.h>

/* Is name one of a list that ends in NULL? */
bool tn_ll_one_of(const char *name, const char *const *list);
#define TN_LL_ONE_OF(name, ...) tn_ll_one_of(name, (const char *const[]){__VA_ARGS__, NULL})

/* Moves elements without looking at their values. */
bool tn_ll_is_view(const char *name);
/* Element i of the result needs element i of the operands only. */
bool tn_ll_is_elementwise(const char *name);
/* Nothing is lost by computing it again for each element of a larger tensor. */
bool tn_ll_is_cheap(const char *name);
/* Is v, seen through reshapes, made by op (or one of those reshapes op itself)? */
bool tn_ll_made_by(const tn_ir *ir, tn_module *m, tn_value v, tn_op op);
bool tn_ll_same_dims(const tn_type_info *a, const tn_type_info *b);
#endif
