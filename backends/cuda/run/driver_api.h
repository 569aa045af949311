/* driver_api.h - the part of the CUDA driver API that tenon uses, declared by us: the driver is opened by
 * dlopen, and no toolkit is needed to build. Names, values and layouts are those of the CUDA Driver API
 * reference (12.0 and later). */
#ifndef TN_CUDA_DRIVER_API_H
#define TN_CUDA_DRIVER_API_H
#include <stddef.h>
#include <stdint.h>

typedef int CUdevice;
typedef uint64_t CUdeviceptr;
typedef struct CUctx_st *CUcontext;
typedef struct CUmod_st *CUmodule;
typedef struct CUfunc_st *CUfunction;
typedef struct CUstream_st *CUstream;
typedef struct CUevent_st *CUevent;
typedef struct CUgraph_st *CUgraph;
typedef struct CUgraphExec_st *CUgraphExec;
typedef struct CUgraphNode_st *CUgraphNode;
typedef struct CUmemPoolHandle_st *CUmemoryPool;
typedef struct CUuuid {
  char bytes[16];
} CUuuid;
typedef struct CUtensorMap {
  _Alignas(64) uint64_t opaque[16];
} CUtensorMap;
typedef void (*CUhostFn)(void *user);

/* Results: TN_CUDA(id, value, words). */
#define TN_CUDA_RESULTS(TN_CUDA)                                                                             \
  TN_CUDA(SUCCESS, 0, "no error")                                                                            \
  TN_CUDA(ERROR_INVALID_VALUE, 1, "invalid argument")                                                        \
  TN_CUDA(ERROR_OUT_OF_MEMORY, 2, "out of memory")                                                           \
  TN_CUDA(ERROR_NOT_INITIALIZED, 3, "initialization error")                                                  \
  TN_CUDA(ERROR_DEINITIALIZED, 4, "driver shutting down")                                                    \
  TN_CUDA(ERROR_STUB_LIBRARY, 34, "the driver library is a stub of the toolkit")                             \
  TN_CUDA(ERROR_NO_DEVICE, 100, "no CUDA-capable device is detected")                                        \
  TN_CUDA(ERROR_INVALID_DEVICE, 101, "invalid device ordinal")                                               \
  TN_CUDA(ERROR_INVALID_IMAGE, 200, "device kernel image is invalid")                                        \
  TN_CUDA(ERROR_INVALID_CONTEXT, 201, "invalid device context")                                              \
  TN_CUDA(ERROR_NO_BINARY_FOR_GPU, 209, "no kernel image is available for execution on the device")          \
  TN_CUDA(ERROR_PEER_ACCESS_UNSUPPORTED, 217, "peer access is not supported between these two devices")      \
  TN_CUDA(ERROR_INVALID_PTX, 218, "a PTX JIT compilation failed")                                            \
  TN_CUDA(ERROR_JIT_COMPILER_NOT_FOUND, 221, "PTX JIT compiler library not found")                           \
  TN_CUDA(ERROR_UNSUPPORTED_PTX_VERSION, 222, "the provided PTX was compiled with an unsupported toolchain") \
  TN_CUDA(ERROR_INVALID_HANDLE, 400, "invalid resource handle")                                              \
  TN_CUDA(ERROR_ILLEGAL_STATE, 401, "the operation cannot be performed in the present state")                \
  TN_CUDA(ERROR_NOT_FOUND, 500, "named symbol not found")                                                    \
  TN_CUDA(ERROR_NOT_READY, 600, "device not ready")                                                          \
  TN_CUDA(ERROR_ILLEGAL_ADDRESS, 700, "an illegal memory access was encountered")                            \
  TN_CUDA(ERROR_LAUNCH_OUT_OF_RESOURCES, 701, "too many resources requested for launch")                     \
  TN_CUDA(ERROR_LAUNCH_TIMEOUT, 702, "the launch timed out and was terminated")                              \
  TN_CUDA(ERROR_PEER_ACCESS_ALREADY_ENABLED, 704, "peer access is already enabled")                          \
  TN_CUDA(ERROR_ILLEGAL_INSTRUCTION, 715, "an illegal instruction was encountered")                          \
  TN_CUDA(ERROR_MISALIGNED_ADDRESS, 716, "misaligned address")                                               \
  TN_CUDA(ERROR_LAUNCH_FAILED, 719, "unspecified launch failure")                                            \
  TN_CUDA(ERROR_NOT_SUPPORTED, 801, "operation not supported")                                               \
  TN_CUDA(ERROR_SYSTEM_NOT_READY, 802, "system not yet initialized")                                         \
  TN_CUDA(ERROR_SYSTEM_DRIVER_MISMATCH, 803,                                                                 \
          "system has unsupported display driver / cuda driver combination")                                 \
  TN_CUDA(ERROR_STREAM_CAPTURE_UNSUPPORTED, 900, "operation not permitted when stream is capturing")         \
  TN_CUDA(ERROR_STREAM_CAPTURE_INVALIDATED, 901, "operation failed due to a previous error during capture")  \
  TN_CUDA(ERROR_STREAM_CAPTURE_WRONG_THREAD, 908,                                                            \
          "attempt to terminate a thread-local capture sequence from another thread")                        \
  TN_CUDA(ERROR_UNKNOWN, 999, "unknown error")
typedef enum CUresult {
#define TN_CUDA(id, value, words) CUDA_##id = value,
  TN_CUDA_RESULTS(TN_CUDA)
#undef TN_CUDA
} CUresult;

typedef enum CUdevice_attribute {
  CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK = 1,
  CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X = 5,
  CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK = 8,
  CU_DEVICE_ATTRIBUTE_WARP_SIZE = 10,
  CU_DEVICE_ATTRIBUTE_CLOCK_RATE = 13,
  CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT = 16,
  CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE = 36,
  CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH = 37,
  CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE = 38,
  CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR = 39,
  CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING = 41,
  CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR = 75,
  CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR = 76,
  CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR = 81,
  CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR = 82,
  CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN = 97,
  CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED = 115,
  CU_DEVICE_ATTRIBUTE_CLUSTER_LAUNCH = 120
} CUdevice_attribute;
typedef enum CUfunction_attribute {
  CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK = 0,
  CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES = 1,
  CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES = 2,
  CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES = 3,
  CU_FUNC_ATTRIBUTE_NUM_REGS = 4,
  CU_FUNC_ATTRIBUTE_PTX_VERSION = 5,
  CU_FUNC_ATTRIBUTE_BINARY_VERSION = 6,
  CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES = 8
} CUfunction_attribute;
typedef enum CUjit_option {
  CU_JIT_MAX_REGISTERS = 0,
  CU_JIT_INFO_LOG_BUFFER = 3,
  CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES = 4,
  CU_JIT_ERROR_LOG_BUFFER = 5,
  CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES = 6,
  CU_JIT_OPTIMIZATION_LEVEL = 7,
  CU_JIT_TARGET = 9
} CUjit_option;
typedef enum CUstreamCaptureMode {
  CU_STREAM_CAPTURE_MODE_GLOBAL,
  CU_STREAM_CAPTURE_MODE_THREAD_LOCAL,
  CU_STREAM_CAPTURE_MODE_RELAXED
} CUstreamCaptureMode;
typedef enum CUstreamCaptureStatus {
  CU_STREAM_CAPTURE_STATUS_NONE,
  CU_STREAM_CAPTURE_STATUS_ACTIVE,
  CU_STREAM_CAPTURE_STATUS_INVALIDATED
} CUstreamCaptureStatus;
typedef enum CUmemPool_attribute { CU_MEMPOOL_ATTR_RELEASE_THRESHOLD = 4 } CUmemPool_attribute;
enum { CU_STREAM_NON_BLOCKING = 1, CU_EVENT_DISABLE_TIMING = 2 };
typedef enum CUdriverProcAddressQueryResult {
  CU_GET_PROC_ADDRESS_SUCCESS,
  CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND,
  CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT
} CUdriverProcAddressQueryResult;

typedef enum CUlaunchAttributeID {
  CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION = 4,
  CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION = 6
} CUlaunchAttributeID;
typedef struct CUlaunchAttribute {
  CUlaunchAttributeID id;
  char pad[4];
  union {
    char pad[64];
    struct {
      unsigned x, y, z;
    } clusterDim;
    int programmaticStreamSerializationAllowed;
  } value;
} CUlaunchAttribute;
typedef struct CUlaunchConfig {
  unsigned gridDimX, gridDimY, gridDimZ, blockDimX, blockDimY, blockDimZ, sharedMemBytes;
  CUstream hStream;
  CUlaunchAttribute *attrs;
  unsigned numAttrs;
} CUlaunchConfig;

typedef enum CUtensorMapDataType {
  CU_TENSOR_MAP_DATA_TYPE_UINT8,
  CU_TENSOR_MAP_DATA_TYPE_UINT16,
  CU_TENSOR_MAP_DATA_TYPE_UINT32,
  CU_TENSOR_MAP_DATA_TYPE_INT32,
  CU_TENSOR_MAP_DATA_TYPE_UINT64,
  CU_TENSOR_MAP_DATA_TYPE_INT64,
  CU_TENSOR_MAP_DATA_TYPE_FLOAT16,
  CU_TENSOR_MAP_DATA_TYPE_FLOAT32,
  CU_TENSOR_MAP_DATA_TYPE_FLOAT64,
  CU_TENSOR_MAP_DATA_TYPE_BFLOAT16
} CUtensorMapDataType;
typedef enum CUtensorMapSwizzle {
  CU_TENSOR_MAP_SWIZZLE_NONE,
  CU_TENSOR_MAP_SWIZZLE_32B,
  CU_TENSOR_MAP_SWIZZLE_64B,
  CU_TENSOR_MAP_SWIZZLE_128B
} CUtensorMapSwizzle;

/* Entry points: TN_CUDA(name, parameters). The names are those that dlsym finds. */
#define TN_CUDA_API(TN_CUDA)                                                                                 \
  TN_CUDA(cuInit, (unsigned flags))                                                                          \
  TN_CUDA(cuDriverGetVersion, (int *version))                                                                \
  TN_CUDA(cuGetErrorName, (CUresult error, const char **text))                                               \
  TN_CUDA(cuGetErrorString, (CUresult error, const char **text))                                             \
  TN_CUDA(cuDeviceGetCount, (int *count))                                                                    \
  TN_CUDA(cuDeviceGet, (CUdevice * device, int ordinal))                                                     \
  TN_CUDA(cuDeviceGetName, (char *name, int len, CUdevice device))                                           \
  TN_CUDA(cuDeviceGetUuid_v2, (CUuuid * uuid, CUdevice device))                                              \
  TN_CUDA(cuDeviceTotalMem_v2, (size_t *bytes, CUdevice device))                                             \
  TN_CUDA(cuDeviceGetAttribute, (int *value, CUdevice_attribute attribute, CUdevice device))                 \
  TN_CUDA(cuDeviceCanAccessPeer, (int *can, CUdevice device, CUdevice peer))                                 \
  TN_CUDA(cuDeviceGetDefaultMemPool, (CUmemoryPool * pool, CUdevice device))                                 \
  TN_CUDA(cuDevicePrimaryCtxRetain, (CUcontext * context, CUdevice device))                                  \
  TN_CUDA(cuDevicePrimaryCtxRelease_v2, (CUdevice device))                                                   \
  TN_CUDA(cuCtxGetCurrent, (CUcontext * context))                                                            \
  TN_CUDA(cuCtxSetCurrent, (CUcontext context))                                                              \
  TN_CUDA(cuCtxPushCurrent_v2, (CUcontext context))                                                          \
  TN_CUDA(cuCtxPopCurrent_v2, (CUcontext * context))                                                         \
  TN_CUDA(cuCtxGetDevice, (CUdevice * device))                                                               \
  TN_CUDA(cuCtxSynchronize, (void))                                                                          \
  TN_CUDA(cuCtxEnablePeerAccess, (CUcontext peer, unsigned flags))                                           \
  TN_CUDA(cuMemGetInfo_v2, (size_t *free, size_t *total))                                                    \
  TN_CUDA(cuMemAlloc_v2, (CUdeviceptr * address, size_t bytes))                                              \
  TN_CUDA(cuMemFree_v2, (CUdeviceptr address))                                                               \
  TN_CUDA(cuMemAllocAsync, (CUdeviceptr * address, size_t bytes, CUstream stream))                           \
  TN_CUDA(cuMemFreeAsync, (CUdeviceptr address, CUstream stream))                                            \
  TN_CUDA(cuMemPoolSetAttribute, (CUmemoryPool pool, CUmemPool_attribute attribute, void *value))            \
  TN_CUDA(cuMemPoolTrimTo, (CUmemoryPool pool, size_t keep))                                                 \
  TN_CUDA(cuMemGetAddressRange_v2, (CUdeviceptr * base, size_t *bytes, CUdeviceptr address))                 \
  TN_CUDA(cuMemHostAlloc, (void **memory, size_t bytes, unsigned flags))                                     \
  TN_CUDA(cuMemFreeHost, (void *memory))                                                                     \
  TN_CUDA(cuMemHostRegister_v2, (void *memory, size_t bytes, unsigned flags))                                \
  TN_CUDA(cuMemHostUnregister, (void *memory))                                                               \
  TN_CUDA(cuMemcpyHtoD_v2, (CUdeviceptr to, const void *from, size_t bytes))                                 \
  TN_CUDA(cuMemcpyDtoH_v2, (void *to, CUdeviceptr from, size_t bytes))                                       \
  TN_CUDA(cuMemcpyDtoD_v2, (CUdeviceptr to, CUdeviceptr from, size_t bytes))                                 \
  TN_CUDA(cuMemcpyHtoDAsync_v2, (CUdeviceptr to, const void *from, size_t bytes, CUstream stream))           \
  TN_CUDA(cuMemcpyDtoHAsync_v2, (void *to, CUdeviceptr from, size_t bytes, CUstream stream))                 \
  TN_CUDA(cuMemcpyDtoDAsync_v2, (CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream))           \
  TN_CUDA(cuMemcpyPeerAsync, (CUdeviceptr to, CUcontext tocontext, CUdeviceptr from, CUcontext fromcontext,  \
                              size_t bytes, CUstream stream))                                                \
  TN_CUDA(cuMemsetD8_v2, (CUdeviceptr to, unsigned char value, size_t n))                                    \
  TN_CUDA(cuMemsetD32_v2, (CUdeviceptr to, unsigned value, size_t n))                                        \
  TN_CUDA(cuMemsetD8Async, (CUdeviceptr to, unsigned char value, size_t n, CUstream stream))                 \
  TN_CUDA(cuMemsetD32Async, (CUdeviceptr to, unsigned value, size_t n, CUstream stream))                     \
  TN_CUDA(cuModuleLoadData, (CUmodule * module, const void *image))                                          \
  TN_CUDA(cuModuleLoadDataEx,                                                                                \
          (CUmodule * module, const void *image, unsigned n, CUjit_option *options, void **values))          \
  TN_CUDA(cuModuleUnload, (CUmodule module))                                                                 \
  TN_CUDA(cuModuleGetFunction, (CUfunction * function, CUmodule module, const char *name))                   \
  TN_CUDA(cuModuleGetGlobal_v2, (CUdeviceptr * address, size_t *bytes, CUmodule module, const char *name))   \
  TN_CUDA(cuFuncGetAttribute, (int *value, CUfunction_attribute attribute, CUfunction function))             \
  TN_CUDA(cuFuncSetAttribute, (CUfunction function, CUfunction_attribute attribute, int value))              \
  TN_CUDA(cuOccupancyMaxActiveBlocksPerMultiprocessor,                                                       \
          (int *blocks, CUfunction function, int threads, size_t shared))                                    \
  TN_CUDA(cuLaunchKernel,                                                                                    \
          (CUfunction function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,             \
           unsigned bz, unsigned shared, CUstream stream, void **params, void **extra))                      \
  TN_CUDA(cuLaunchKernelEx,                                                                                  \
          (const CUlaunchConfig *config, CUfunction function, void **params, void **extra))                  \
  TN_CUDA(cuLaunchHostFunc, (CUstream stream, CUhostFn fn, void *user))                                      \
  TN_CUDA(cuStreamCreate, (CUstream * stream, unsigned flags))                                               \
  TN_CUDA(cuStreamCreateWithPriority, (CUstream * stream, unsigned flags, int priority))                     \
  TN_CUDA(cuStreamDestroy_v2, (CUstream stream))                                                             \
  TN_CUDA(cuStreamSynchronize, (CUstream stream))                                                            \
  TN_CUDA(cuStreamQuery, (CUstream stream))                                                                  \
  TN_CUDA(cuStreamWaitEvent, (CUstream stream, CUevent event, unsigned flags))                               \
  TN_CUDA(cuStreamGetCtx, (CUstream stream, CUcontext * context))                                            \
  TN_CUDA(cuStreamBeginCapture_v2, (CUstream stream, CUstreamCaptureMode mode))                              \
  TN_CUDA(cuStreamEndCapture, (CUstream stream, CUgraph * graph))                                            \
  TN_CUDA(cuStreamIsCapturing, (CUstream stream, CUstreamCaptureStatus * status))                            \
  TN_CUDA(cuEventCreate, (CUevent * event, unsigned flags))                                                  \
  TN_CUDA(cuEventDestroy_v2, (CUevent event))                                                                \
  TN_CUDA(cuEventRecord, (CUevent event, CUstream stream))                                                   \
  TN_CUDA(cuEventSynchronize, (CUevent event))                                                               \
  TN_CUDA(cuEventQuery, (CUevent event))                                                                     \
  TN_CUDA(cuEventElapsedTime, (float *ms, CUevent start, CUevent end))                                       \
  TN_CUDA(cuGraphInstantiateWithFlags, (CUgraphExec * exec, CUgraph graph, unsigned long long flags))        \
  TN_CUDA(cuGraphGetNodes, (CUgraph graph, CUgraphNode * nodes, size_t *count))                              \
  TN_CUDA(cuGraphLaunch, (CUgraphExec exec, CUstream stream))                                                \
  TN_CUDA(cuGraphDestroy, (CUgraph graph))                                                                   \
  TN_CUDA(cuGraphExecDestroy, (CUgraphExec exec))                                                            \
  TN_CUDA(cuTensorMapEncodeTiled,                                                                            \
          (CUtensorMap * map, CUtensorMapDataType type, unsigned rank, void *base, const uint64_t *sizes,    \
           const uint64_t *strides, const uint32_t *box, const uint32_t *steps, int interleave,              \
           CUtensorMapSwizzle swizzle, int promotion, int fill))                                             \
  TN_CUDA(cuGetProcAddress_v2, (const char *name, void **fn, int version, uint64_t flags,                    \
                                CUdriverProcAddressQueryResult *status))
#define TN_CUDA(name, parameters) typedef CUresult name##_fn parameters;
TN_CUDA_API(TN_CUDA)
#undef TN_CUDA
#endif
