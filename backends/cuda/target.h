/* target.h - what the skeletons know about an architecture: one record each. Skeletons read fields; none asks
 * for a name or compares numbers of versions. */
#ifndef TN_CUDA_TARGET_H
#define TN_CUDA_TARGET_H
#include "tenon/plugin.h"
#include <stdbool.h>

typedef struct tn_cuda_target {
  tn_target target; /* "sm_80", "sm_90a" */
  const char *cpu;  /* of LLVM and ptxas */
  uint32_t cc;      /* compute capability: 80 */
  uint32_t ptx; /* version of the PTX that is written: 70. The least that the architecture needs, so that old
                   drivers take it */
  bool exact;   /* its code runs on this compute capability only */
  uint32_t shared; /* bytes of shared memory that a block may have */
  bool tma;        /* mbarriers that count bytes, tensor copies */
  bool wgmma;      /* products of warpgroups */
  bool fp8;        /* mma of f8 */
} tn_cuda_target;  /* all have: mma of f16, bf16, tf32 and s8, ldmatrix, cp.async, redux of integers */

/* NULL: no such target. */
const tn_cuda_target *tn_cuda_target_by_name(const char *name);
const tn_cuda_target *tn_cuda_targets(uint32_t *count);

/* The module's meta "precision". strict: products of f32 by fma in f32; products of two 16-bit floats may go
 * through mma, which is exact but for the order of sums in f32. fast: operands of products may be rounded to
 * the other's 16-bit type, f32 to tf32. */
typedef enum tn_cuda_precision { TN_CUDA_STRICT, TN_CUDA_HIGH, TN_CUDA_FAST } tn_cuda_precision;
#endif
