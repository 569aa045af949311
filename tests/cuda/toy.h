/* toy.h - packages made by hand, for the tests of the run side: PTX written here, tables put together in C.
 */
#ifndef TOY_H
#define TOY_H
#include "backends/cuda/package.h"

typedef struct toy {
  tn_buf strings, code; /* code: the images, one behind the other at multiples of 16 */
  TN_VEC(tn_cuda_image) images;
  TN_VEC(tn_cuda_kernel_row) kernels;
  TN_VEC(tn_cuda_launch_row) launches;
  TN_VEC(tn_cuda_expr) exprs;
  TN_VEC(tn_cuda_map_row) maps;
} toy;

/* Rows; each gives its position. */
uint32_t toy_const(toy *t, int64_t value);
uint32_t toy_sym(toy *t, uint32_t number);
uint32_t toy_expr(toy *t, uint32_t kind, uint32_t a, uint32_t b);
void toy_kernel(toy *t, const char *symbol, uint32_t nbufs, uint32_t ndims);
/* A launch of the kernel that was begun last; grid x is an expression or TN_CUDA_NONE. */
tn_cuda_launch_row *toy_launch(toy *t, const char *function, uint32_t threads, uint32_t grid);
void toy_ptx(toy *t, uint32_t version, const char *text);
void toy_cubin(toy *t); /* the beginning of an ELF file: no driver takes it */
/* The package; memory for free(). Empties t. */
tn_bytes toy_finish(toy *t, uint32_t cc, bool exact);
/* Puts the sum right after a change. */
void toy_seal(tn_bytes package);

/* A package for sm_<cc> with these kernels, all of u32 vectors of n = number 0:
 *   add    (x, y; n, a)    y[i] += x[i] + a, one launch
 *   twice  (x, y; n, a)    the same, twice
 *   few    (x, y; n, a)    one of two launches: "add" when n <= 64, "set" (y[i] = a) when n > 64
 *   large  (y; n)          y[i] = i + 1, by way of 64 KB of shared memory; n <= 32
 *   pair   (y; n)          cc >= 90: clusters of 2; y[block] = rank of the block in its cluster
 *   map    (x, y; n)       cc >= 90: y = the 128 bytes of a tensor map over x as [n][64] u8
 *   wild   (y; n)          stores to address 64
 *   wide   (y; n)          n blocks along y
 *   stay   (y; n)          n blocks, at most 2 per multiprocessor; y[block] = how many there are
 *   inner  (x, y; n)       as map, the tensor lying 16 n bytes behind the beginning of scratch */
tn_bytes toy_package(uint32_t cc);
#endif
