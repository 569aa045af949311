/* fake.h - a libcuda.so.1 whose devices are the interpreter. What is put on a stream runs as late as a device
 * may run it: when somebody waits for it. So a missing synchronisation shows as old data.
 *
 * TENON_FAKE_CUDA="key=value,..." sets it up: devices (1), sm (90), driver (13000), memory (bytes per device,
 * 8G), check (races+unwritten, none), seed, fail=NAME:N:CODE (the N-th call of an entry point returns CODE),
 * stub (1: cuInit as the toolkit's stub answers), trace (a file that gets a line per call).
 *
 * What it cannot tell: time and overlap (streams run one after the other), page migration, memory pressure by
 * others. */
#ifndef FAKE_CUDA_H
#define FAKE_CUDA_H
#include "backends/cuda/run/driver_api.h"
#include "tests/ptx/ptx.h"
#include "tests/ptx/tensor_map.h"

#define TN_CUDA(name, parameters) __attribute__((visibility("default"))) CUresult name parameters;
TN_CUDA_API(TN_CUDA)
#undef TN_CUDA

enum { FAKE_DEVICES = 8, FAKE_STACK = 16, FAKE_FAILS = 8 };

typedef enum fake_kind {
  FAKE_KERNEL,
  FAKE_COPY,
  FAKE_SET,
  FAKE_HOST,
  FAKE_RECORD,
  FAKE_WAIT,
  FAKE_FREE
} fake_kind;
typedef struct fake_op {
  fake_kind kind;
  /* KERNEL */
  CUfunction function;
  ptx_launch launch;
  uint8_t *params;
  /* COPY, SET: host pointers or device addresses */
  void *host_to;
  const void *host_from;
  uint8_t *staged; /* pageable memory is read at the call */
  uint64_t to, from, bytes;
  uint32_t value, unit;
  CUhostFn fn;
  void *user;
  CUevent event;
  uint32_t ticket; /* RECORD, WAIT: of the event */
} fake_op;
typedef TN_VEC(fake_op) fake_ops;

struct CUctx_st {
  int device, references;
  uint32_t peers; /* devices whose memory may be used */
  CUresult sticky;
  struct CUstream_st *legacy; /* the stream NULL */
};
struct CUmod_st {
  CUcontext context;
  ptx_module *code;
  TN_VEC(CUfunction) functions;
};
struct CUfunc_st {
  CUmodule module;
  ptx_kernel *kernel;
  ptx_kernel_info info;
  int dynamic_limit;
};
struct CUstream_st {
  CUcontext context;
  unsigned flags;
  fake_ops queue;
  bool capturing, broken;
  fake_ops captured;
  struct CUstream_st *next; /* all streams */
};
struct CUevent_st {
  CUcontext context;
  CUstream stream;            /* where it was recorded last */
  uint32_t recorded, reached; /* tickets */
  double time;
  unsigned flags;
};
struct CUgraph_st {
  CUcontext context;
  fake_ops ops;
};
struct CUgraphExec_st {
  CUcontext context;
  fake_ops ops;
};

typedef struct fake_fail {
  char name[48];
  int call, code;
} fake_fail;
typedef struct fake_device {
  ptx_memory *memory;
  uint64_t used;
  struct CUctx_st primary;
} fake_device;
typedef struct fake_driver {
  bool ready, stub;
  int devices, sm, version;
  uint64_t memory, seed;
  uint32_t checks;
  fake_fail fails[FAKE_FAILS];
  uint32_t nfails;
  FILE *trace;
  fake_device device[FAKE_DEVICES];
  CUstream streams;
  tn_map host;           /* pinned memory: address as text -> bytes */
  char error[PTX_ERROR]; /* of the last kernel that faulted */
  ptx_counters counters;
} fake_driver;
extern fake_driver fake;

/* device.c: every entry point begins with FAKE_ENTER: counts the call, may fail it, asks for cuInit. */
CUresult fake_enter(const char *name);
#define FAKE_ENTER(name)                                                                                     \
  do {                                                                                                       \
    CUresult fake_r_ = fake_enter(#name);                                                                    \
    if (fake_r_) return fake_r_;                                                                             \
  } while (0)
CUresult fake_attribute(int *value, CUdevice_attribute attribute, CUdevice device);
CUcontext fake_context(void); /* the current one; NULL: none */
/* The current context, or the error that stands in the way. */
CUresult fake_current(CUcontext *out);
/* The device whose memory holds the address; -1: none. */
int fake_device_of(uint64_t address);
void *fake_bytes(uint64_t address, uint64_t bytes,
                 bool write); /* NULL: not device memory, or out of bounds */

/* stream.c */
CUresult fake_push(CUstream s, CUcontext c,
                   const fake_op *op); /* owns op->params and op->staged from now on */
CUresult fake_drain(CUstream s);
CUresult fake_drain_context(CUcontext c);
CUresult fake_run(CUstream s, CUcontext c, const fake_op *op); /* module.c has kernels */
CUresult fake_run_kernel(CUcontext c, const fake_op *op);
bool fake_any_capture(CUcontext c);
void fake_op_free(fake_op *op);
bool fake_op_copy(fake_op *to, const fake_op *from);
uint64_t fake_pinned(const void *memory); /* bytes of the pinned block that begins there; 0: none */

/* For tests: what the last fault said, and the counters of all launches. */
__attribute__((visibility("default"))) const char *fake_cuda_error(void);
__attribute__((visibility("default"))) void fake_cuda_counters(ptx_counters *out, int reset);
#endif
