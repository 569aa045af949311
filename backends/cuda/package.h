/* package.h - what compile hands to the run side: a blob with, for one architecture, the code of all kernels
 * and how to launch them. All tables are named by (offset, count); the reader checks every number before it
 * uses any.
 *
 * A kernel of the program is one or more launches, made in order. A launch's function takes, in this order:
 * the kernel's buffers, the scratch buffer, the kernel's numbers (int64 in device memory, tn_kcall.dims),
 * then the tensor maps of the launch, 128 bytes each by value. Sizes of grids are expressions over the
 * numbers. */
#ifndef TN_CUDA_PACKAGE_H
#define TN_CUDA_PACKAGE_H
#include "ir/base/base.h"

#define TN_CUDA_PACKAGE_MAGIC "tncuda\0\2"
#define TN_CUDA_MAX_LAUNCHES 12 /* of one kernel */
#define TN_CUDA_MAX_MAPS 6      /* of one launch */
#define TN_CUDA_NONE 0xffffffffu

typedef struct tn_cuda_span {
  uint32_t offset, count; /* bytes from the blob's start; rows */
} tn_cuda_span;

typedef struct tn_cuda_package {
  char magic[8];
  uint64_t bytes, hash; /* of the blob; tn_cuda_package_hash */
  uint32_t cc;          /* compute capability: 80, 90 */
  uint32_t exact;       /* 1: of that one only (sm_90a) */
  tn_cuda_span strings; /* bytes; NUL-terminated */
  tn_cuda_span images, kernels, launches, exprs, maps;
} tn_cuda_package;

/* Of everything but itself. The blob has at least a header. */
static inline uint64_t tn_cuda_package_hash(const void *blob, uint64_t bytes) {
  tn_cuda_package h;
  memcpy(&h, blob, sizeof h);
  h.hash = 0;
  return tn_hash_bytes((const uint8_t *)blob + sizeof h, bytes - sizeof h, tn_hash_bytes(&h, sizeof h, 0));
}

enum { TN_CUDA_PTX = 0, TN_CUDA_CUBIN = 1 };
typedef struct tn_cuda_image {
  uint32_t kind, ptx;     /* TN_CUDA_PTX: its version, 70 or 80 */
  uint64_t offset, bytes; /* from the blob's start, a multiple of 16; PTX ends with NUL, which counts */
} tn_cuda_image;          /* cubin first where there is one: PTX is for newer devices then */

typedef struct tn_cuda_kernel_row {
  uint32_t symbol; /* string */
  uint32_t first_launch, nlaunches, nbufs, ndims;
  uint32_t reserved;
} tn_cuda_kernel_row;

typedef struct tn_cuda_launch_row {
  uint32_t function; /* string: .entry */
  uint32_t threads;  /* of a block, along x */
  uint32_t grid[3];  /* rows of exprs; TN_CUDA_NONE: 1. A size of 0: nothing is launched */
  uint32_t cluster;  /* blocks of a cluster along x; 1: none */
  uint32_t shared;   /* bytes of dynamic shared memory */
  uint32_t first_map, nmaps;
  uint32_t resident; /* blocks per multiprocessor: along x there are no more than these; 0: no limit */
} tn_cuda_launch_row;

/* kind TN_DIM_*: CONST value; SYM a = position in the kernel's numbers; else a, b = earlier rows */
typedef struct tn_cuda_expr {
  uint32_t kind, a, b, reserved;
  int64_t value;
} tn_cuda_expr;

/* A tensor map over one of the kernel's buffers or its scratch: CUtensorMap of a row-major tensor, sizes[0]
 * innermost. */
typedef struct tn_cuda_map_row {
  uint32_t buffer;     /* position among the kernel's buffers; as many as there are: its scratch */
  uint32_t offset;     /* row of exprs: bytes from its begin to the tensor; TN_CUDA_NONE: 0 */
  uint32_t type;       /* CUtensorMapDataType */
  uint32_t rank;       /* 1 .. 5 */
  uint32_t swizzle;    /* CUtensorMapSwizzle */
  uint32_t sizes[5];   /* rows of exprs, elements */
  uint32_t strides[5]; /* rows of exprs, bytes; [0] is not used */
  uint32_t box[5];     /* elements */
  uint32_t promotion;  /* CUtensorMapL2promotion */
} tn_cuda_map_row;

#endif
