/* memory.c - device and pinned memory, copies and fills. */
#include "tests/ptx/fake/fake.h"
#include <stdlib.h>

int fake_device_of(uint64_t address) {
  for (int d = 0; d < fake.devices; d++) {
    uint64_t base, bytes;
    if (fake.device[d].memory && ptx_range_of(fake.device[d].memory, address, &base, &bytes)) return d;
  }
  return -1;
}

void *fake_bytes(uint64_t address, uint64_t bytes, bool write) {
  int d = fake_device_of(address);
  return d < 0 ? NULL : ptx_host(fake.device[d].memory, address, bytes, write);
}

/* ---- allocating
 * ---------------------------------------------------------------------------------------------------- */
static CUresult allocate(CUcontext c, CUdeviceptr *address, size_t bytes) {
  fake_device *d = &fake.device[c->device];
  if (!address || !bytes) return CUDA_ERROR_INVALID_VALUE;
  if (bytes > fake.memory - d->used) return CUDA_ERROR_OUT_OF_MEMORY;
  *address = ptx_alloc(d->memory, bytes);
  if (!*address) return CUDA_ERROR_OUT_OF_MEMORY;
  d->used += bytes;
  return CUDA_SUCCESS;
}

static CUresult release(CUdeviceptr address) {
  int n = fake_device_of(address);
  uint64_t base, bytes;
  if (n < 0 || !ptx_range_of(fake.device[n].memory, address, &base, &bytes) || base != address)
    return CUDA_ERROR_INVALID_VALUE;
  ptx_release(fake.device[n].memory, address);
  fake.device[n].used -= bytes;
  return CUDA_SUCCESS;
}

CUresult cuMemAlloc_v2(CUdeviceptr *address, size_t bytes) {
  CUcontext c;
  FAKE_ENTER(cuMemAlloc_v2);
  CUresult r = fake_current(&c);
  if (r) return r;
  return fake_any_capture(c) ? CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED : allocate(c, address, bytes);
}

CUresult cuMemFree_v2(CUdeviceptr address) {
  CUcontext c;
  FAKE_ENTER(cuMemFree_v2);
  CUresult r = fake_current(&c);
  if (r) return r;
  if (!address) return CUDA_SUCCESS;
  r = fake_drain_context(c);
  return r ? r : release(address);
}

CUresult cuMemAllocAsync(CUdeviceptr *address, size_t bytes, CUstream stream) {
  CUcontext c;
  FAKE_ENTER(cuMemAllocAsync);
  CUresult r = fake_current(&c);
  if (r) return r;
  if (stream && stream->capturing) return CUDA_ERROR_NOT_SUPPORTED; /* nodes that allocate: not here */
  return allocate(c, address, bytes);
}

CUresult cuMemFreeAsync(CUdeviceptr address, CUstream stream) {
  CUcontext c;
  FAKE_ENTER(cuMemFreeAsync);
  CUresult r = fake_current(&c);
  return r ? r : fake_push(stream, c, &(fake_op){.kind = FAKE_FREE, .to = address});
}

CUresult cuMemGetInfo_v2(size_t *left, size_t *total) {
  CUcontext c;
  FAKE_ENTER(cuMemGetInfo_v2);
  CUresult r = fake_current(&c);
  if (r) return r;
  *left = fake.memory - fake.device[c->device].used;
  *total = fake.memory;
  return CUDA_SUCCESS;
}

CUresult cuMemGetAddressRange_v2(CUdeviceptr *base, size_t *bytes, CUdeviceptr address) {
  FAKE_ENTER(cuMemGetAddressRange_v2);
  int d = fake_device_of(address);
  uint64_t b, n;
  if (d < 0 || !ptx_range_of(fake.device[d].memory, address, &b, &n)) return CUDA_ERROR_NOT_FOUND;
  if (base) *base = b;
  if (bytes) *bytes = n;
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetDefaultMemPool(CUmemoryPool *pool, CUdevice device) {
  FAKE_ENTER(cuDeviceGetDefaultMemPool);
  if (device < 0 || device >= fake.devices) return CUDA_ERROR_INVALID_DEVICE;
  *pool = (CUmemoryPool)(void *)&fake.device[device];
  return CUDA_SUCCESS;
}

CUresult cuMemPoolSetAttribute(CUmemoryPool pool, CUmemPool_attribute attribute, void *value) {
  FAKE_ENTER(cuMemPoolSetAttribute);
  return pool && value && attribute == CU_MEMPOOL_ATTR_RELEASE_THRESHOLD ? CUDA_SUCCESS
                                                                         : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuMemPoolTrimTo(CUmemoryPool pool, size_t keep) {
  (void)keep;
  FAKE_ENTER(cuMemPoolTrimTo);
  return pool ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

/* ---- pinned memory
 * ------------------------------------------------------------------------------------------------- */
static void key_of(const void *memory, char out[32]) { snprintf(out, 32, "%p", memory); }

static CUresult pin(const void *memory, uint64_t bytes) {
  char key[32];
  key_of(memory, key);
  return tn_map_put(&fake.host, tn_str_of(key), bytes, NULL) == TN_OK ? CUDA_SUCCESS
                                                                      : CUDA_ERROR_OUT_OF_MEMORY;
}

uint64_t fake_pinned(const void *memory) {
  char key[32];
  uint64_t bytes = 0;
  key_of(memory, key);
  tn_map_get(&fake.host, tn_str_of(key), &bytes);
  return bytes;
}

/* Whether it lies in any pinned block. */
static bool inside_pinned(const void *memory) {
  for (uint32_t i = 0; i < fake.host.count; i++) {
    const char *base = (const char *)(uintptr_t)strtoull(fake.host.entries[i].key, NULL, 16);
    if ((const char *)memory >= base && (const char *)memory < base + fake.host.entries[i].value) return true;
  }
  return false;
}

CUresult cuMemHostAlloc(void **memory, size_t bytes, unsigned flags) {
  (void)flags;
  FAKE_ENTER(cuMemHostAlloc);
  *memory = tn_mem_alloc(bytes);
  return *memory ? pin(*memory, bytes) : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult cuMemFreeHost(void *memory) {
  FAKE_ENTER(cuMemFreeHost);
  if (!fake_pinned(memory)) return CUDA_ERROR_INVALID_VALUE;
  for (int d = 0; d < fake.devices; d++) fake_drain_context(&fake.device[d].primary);
  pin(memory, 0);
  tn_mem_free(memory);
  return CUDA_SUCCESS;
}

CUresult cuMemHostRegister_v2(void *memory, size_t bytes, unsigned flags) {
  (void)flags;
  FAKE_ENTER(cuMemHostRegister_v2);
  return memory && bytes ? pin(memory, bytes) : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuMemHostUnregister(void *memory) {
  FAKE_ENTER(cuMemHostUnregister);
  return fake_pinned(memory) ? pin(memory, 0) : CUDA_ERROR_INVALID_VALUE;
}

/* ---- copies and fills
 * ---------------------------------------------------------------------------------------------- */
/* Queues a copy or fill; `wait`: and waits for it and what is before it. Ranges are checked at the call. */
static CUresult queue(CUstream stream, fake_op *op, bool wait) {
  CUcontext c;
  CUresult r = fake_current(&c);
  if (r) return r;
  uint64_t n = op->bytes;
  if (!n) return CUDA_SUCCESS;
  if ((op->to && !fake_bytes(op->to, n, false)) || (op->from && !fake_bytes(op->from, n, false)))
    return CUDA_ERROR_INVALID_VALUE;
  if (wait && fake_any_capture(c)) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  if (op->host_from && !inside_pinned(op->host_from)) { /* pageable: read now */
    op->staged = tn_mem_alloc(n);
    if (!op->staged) return CUDA_ERROR_OUT_OF_MEMORY;
    memcpy(op->staged, op->host_from, n);
  }
  r = fake_push(stream, c, op);
  if (r || !wait) return r;
  r = fake_drain_context(c); /* the stream NULL waits for the others */
  return r;
}

CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void *from, size_t bytes) {
  FAKE_ENTER(cuMemcpyHtoD_v2);
  return queue(NULL, &(fake_op){.kind = FAKE_COPY, .to = to, .host_from = from, .bytes = bytes}, true);
}
CUresult cuMemcpyDtoH_v2(void *to, CUdeviceptr from, size_t bytes) {
  FAKE_ENTER(cuMemcpyDtoH_v2);
  return queue(NULL, &(fake_op){.kind = FAKE_COPY, .host_to = to, .from = from, .bytes = bytes}, true);
}
CUresult cuMemcpyDtoD_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
  FAKE_ENTER(cuMemcpyDtoD_v2);
  return queue(NULL, &(fake_op){.kind = FAKE_COPY, .to = to, .from = from, .bytes = bytes}, true);
}
CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t bytes, CUstream stream) {
  FAKE_ENTER(cuMemcpyHtoDAsync_v2);
  return queue(stream, &(fake_op){.kind = FAKE_COPY, .to = to, .host_from = from, .bytes = bytes}, false);
}
CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t bytes, CUstream stream) {
  FAKE_ENTER(cuMemcpyDtoHAsync_v2);
  return queue(stream, &(fake_op){.kind = FAKE_COPY, .host_to = to, .from = from, .bytes = bytes}, false);
}
CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
  FAKE_ENTER(cuMemcpyDtoDAsync_v2);
  return queue(stream, &(fake_op){.kind = FAKE_COPY, .to = to, .from = from, .bytes = bytes}, false);
}
CUresult cuMemcpyPeerAsync(CUdeviceptr to, CUcontext tocontext, CUdeviceptr from, CUcontext fromcontext,
                           size_t bytes, CUstream stream) {
  FAKE_ENTER(cuMemcpyPeerAsync);
  if (!tocontext || !fromcontext) return CUDA_ERROR_INVALID_CONTEXT;
  return queue(stream, &(fake_op){.kind = FAKE_COPY, .to = to, .from = from, .bytes = bytes}, false);
}
CUresult cuMemsetD8_v2(CUdeviceptr to, unsigned char value, size_t n) {
  FAKE_ENTER(cuMemsetD8_v2);
  return queue(NULL, &(fake_op){.kind = FAKE_SET, .to = to, .value = value, .unit = 1, .bytes = n}, true);
}
CUresult cuMemsetD32_v2(CUdeviceptr to, unsigned value, size_t n) {
  FAKE_ENTER(cuMemsetD32_v2);
  return queue(NULL, &(fake_op){.kind = FAKE_SET, .to = to, .value = value, .unit = 4, .bytes = n * 4}, true);
}
CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t n, CUstream stream) {
  FAKE_ENTER(cuMemsetD8Async);
  return queue(stream, &(fake_op){.kind = FAKE_SET, .to = to, .value = value, .unit = 1, .bytes = n}, false);
}
CUresult cuMemsetD32Async(CUdeviceptr to, unsigned value, size_t n, CUstream stream) {
  FAKE_ENTER(cuMemsetD32Async);
  return queue(stream, &(fake_op){.kind = FAKE_SET, .to = to, .value = value, .unit = 4, .bytes = n * 4},
               false);
}

static CUresult fill_or_copy(const fake_op *op) {
  if (op->kind == FAKE_SET) {
    uint8_t *p = fake_bytes(op->to, op->bytes, true);
    if (!p) return CUDA_ERROR_ILLEGAL_ADDRESS;
    for (uint64_t i = 0; i < op->bytes; i += op->unit) memcpy(p + i, &op->value, op->unit);
    return CUDA_SUCCESS;
  }
  const void *from = op->staged      ? op->staged
                     : op->host_from ? op->host_from
                                     : fake_bytes(op->from, op->bytes, false);
  void *to = op->host_to ? op->host_to : fake_bytes(op->to, op->bytes, true);
  if (!from || !to) return CUDA_ERROR_ILLEGAL_ADDRESS; /* freed since */
  memmove(to, from, op->bytes);
  return CUDA_SUCCESS;
}

CUresult fake_run(CUstream s, CUcontext c, const fake_op *op) {
  (void)s;
  switch (op->kind) {
  case FAKE_KERNEL: return fake_run_kernel(c, op);
  case FAKE_COPY:
  case FAKE_SET: return fill_or_copy(op);
  case FAKE_HOST: op->fn(op->user); return CUDA_SUCCESS;
  case FAKE_RECORD:
    op->event->reached = op->ticket;
    op->event->time = tn_now();
    return CUDA_SUCCESS;
  case FAKE_WAIT: /* what is before the event on its stream comes first */
    return op->event->stream && op->event->reached < op->ticket ? fake_drain(op->event->stream)
                                                                : CUDA_SUCCESS;
  default: return release(op->to);
  }
}
