/* loop.h - kernels without a root. */
#ifndef TN_CUDA_LOOP_H
#define TN_CUDA_LOOP_H
#include "backends/cuda/kernel.h"

void tn_cuda_emit_loop(tn_cuda_kernel *k);
#endif
