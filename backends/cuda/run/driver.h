/* driver.h - the CUDA driver, found when it is first asked for and never linked: entry points, devices by
 * name, and the words for what can be wrong with an installation. Nothing here needs a toolkit. */
#ifndef TN_CUDA_DRIVER_H
#define TN_CUDA_DRIVER_H
#include "backends/cuda/run/driver_api.h"
#include "ir/base/base.h"

enum { TN_CUDA_OLDEST = 12000 /* cuLaunchKernelEx, tensor maps: driver 525 */, TN_CUDA_DEVICES = 64 };

typedef struct tn_cuda_api {
#define TN_CUDA(name, parameters) name##_fn *name;
  TN_CUDA_API(TN_CUDA)
#undef TN_CUDA
} tn_cuda_api;

typedef struct tn_cuda_device {
  CUdevice id;
  int ordinal, major, minor; /* compute capability */
  char name[96];
  char uuid[48]; /* "GPU-8a41..." */
  uint64_t memory;
  int shared_bytes; /* that a block may ask for */
  int processors;
} tn_cuda_device;

typedef struct tn_cuda_driver {
  void *library;
  tn_cuda_api api;
  int version; /* 12040: 12.4 */
  int process; /* that opened it: a child may not go on with it */
  uint32_t ndevices;
  tn_cuda_device devices[TN_CUDA_DEVICES];
} tn_cuda_driver;

/* Opens libcuda.so.1 (or `library`), initialises it and reads what devices there are. TN_UNAVAILABLE with the
 * words in *why: what is missing and what to do about it; *d is then as after close. */
tn_status tn_cuda_open(tn_cuda_driver *d, const char *library, tn_buf *why);
void tn_cuda_close(tn_cuda_driver *d); /* safe after a failed open */

/* "cuda", "cuda:1", "cuda:GPU-8a41..." (any beginning of a UUID that only one has). TN_NOT_FOUND, TN_INVALID.
 */
tn_status tn_cuda_pick(const tn_cuda_driver *d, const char *name, const tn_cuda_device **out, tn_buf *why);

/* What an error of a call means: its name, what it says, and for those that users meet what to do. `doing`
 * names the kernel or step ("kernel tn_matmul_3 of llama.model:42"). Gives the status: TN_OOM,
 * TN_UNSUPPORTED, TN_UNAVAILABLE, TN_INTERNAL. CUDA_SUCCESS is TN_OK without words. */
tn_status tn_cuda_words(const tn_cuda_driver *d, CUresult r, const char *doing, tn_buf *why);
/* Whether the context is dead after this error: every later call gives it again. */
bool tn_cuda_sticky(CUresult r);
#endif
