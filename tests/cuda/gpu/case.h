/* case.h - kernels with their operands and the values that they must give, as one file: written where LLVM
 * is, run by `replay` where a GPU is. A file holds packages for several architectures; the device picks one.
 *
 * Layout: case_head, then for each image u64 bytes and the bytes, for each buffer a case_buffer and its bytes
 * (CASE_DATA only) and the wanted bytes (compare only), for each call a case_call. */
#ifndef TN_TESTS_CUDA_CASE_H
#define TN_TESTS_CUDA_CASE_H
#include "tenon/ir.h"

#define CASE_MAGIC "tncase\0\1"
typedef struct case_head {
  char magic[8], name[160];
  uint32_t nimages, nbuffers, ncalls, reserved;
  uint64_t scratch;        /* bytes */
  double atol, rtol, nmse; /* nmse not 0: floats are compared as a whole */
  double flops, bytes;     /* of all calls together, for timing; 0: not said */
} case_head;

enum { CASE_DATA = 0, CASE_RANDOM = 1, CASE_ZERO = 2 };
typedef struct case_buffer {
  uint64_t bytes;
  uint32_t dtype, fill; /* CASE_RANDOM: uniform in [-1, 1) by dtype; integers any bits */
  uint32_t compare, reserved;
} case_buffer;

typedef struct case_call {
  char symbol[96];
  uint32_t nbufs, ndims;
  uint32_t bufs[128]; /* rows of buffers */
  int64_t dims[16];
} case_call;
#endif
