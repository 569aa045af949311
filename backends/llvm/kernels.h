/* kernels.h - the kernels of a module that a backend compiles. */
#ifndef TN_LLVM_KERNELS_H
#define TN_LLVM_KERNELS_H
#include "ir/base/base.h"
#include "tenon/ir.h"

typedef TN_VEC(tn_op) tn_ll_ops;
/* Appends all kernel ops whose attribute says `backend`, in the order of their ids. */
tn_status tn_ll_kernels(const tn_ir *ir, tn_module *m, const char *backend, tn_ll_ops *out);
#endif
