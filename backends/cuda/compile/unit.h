/* unit.h - the steps of a compile: kernels to LLVM modules, modules to PTX, all of it to a package. */
#ifndef TN_CUDA_UNIT_H
#define TN_CUDA_UNIT_H
#include "backends/cuda/kernel.h"

/* A kernel that was written: shared by all kernel ops with the same text. */
typedef struct tn_cuda_written {
  char *symbol;
  tn_dim syms[TN_LL_MAX_SYMS];
  uint32_t nsyms, nbufs, nlaunches;
  tn_dim scratch;
  tn_cuda_launch *launches;
  LLVMMemoryBufferRef bitcode;
} tn_cuda_written;

typedef enum tn_cuda_emit {
  TN_CUDA_EMIT_PACKAGE,
  TN_CUDA_EMIT_LLVM,
  TN_CUDA_EMIT_PTX,
  TN_CUDA_EMIT_CUBIN
} tn_cuda_emit;

/* unit.c: u->c, m and target are set. TN_INTERNAL: LLVM makes no code for the target. */
tn_status tn_cuda_unit_init(tn_cuda_unit *u);
void tn_cuda_unit_fini(tn_cuda_unit *u);
/* Writes kernel op `op` as w->symbol. */
tn_status tn_cuda_unit_write(tn_cuda_unit *u, tn_op op, tn_arena *arena, tn_cuda_written *w);
LLVMTargetMachineRef tn_cuda_machine(const tn_cuda_target *t);

/* codegen.c: the modules, optimised, as one PTX text (or their LLVM IR), on as many threads as there are
 * cores. */
tn_status tn_cuda_codegen(tn_cuda_unit *u, const tn_cuda_written *list, uint32_t n, tn_cuda_emit emit,
                          tn_buf *out);

/* package.c: appends the blob. cubin may be empty. */
tn_status tn_cuda_package_write(tn_cuda_unit *u, const tn_cuda_written *list, uint32_t n, tn_bytes cubin,
                                tn_str ptx, tn_buf *out);
#endif
