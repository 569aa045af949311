/* claim.h - the compile side's functions behind the "tn.backend/1" table. */
#ifndef TN_CUDA_CLAIM_H
#define TN_CUDA_CLAIM_H
#include "backends/cuda/kernel.h"

uint32_t tn_cuda_claim(void *self, const tn_target *t, tn_module *m, tn_op op, const char **why);
uint32_t tn_cuda_fuse(void *self, const tn_target *t, tn_module *m, tn_op root, tn_op op, uint32_t role);

/* compile.c; options: emit = package (default), llvm, ptx or cubin: what the image is; ptxas = auto (look for
 * it) or its path: packages get machine code beside the PTX, else the driver assembles that when it opens
 * them; cache = the folder of the object cache */
tn_status tn_cuda_compile(void *self, const tn_target *t, tn_module *m, const tn_options *o,
                          const tn_package_sink *out);
#endif
