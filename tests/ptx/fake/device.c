/* device.c - set-up, devices, contexts. */
#include "tests/ptx/fake/fake.h"
#include <pthread.h>
#include <stdlib.h>

fake_driver fake;
static _Thread_local CUcontext stack[FAKE_STACK];
static _Thread_local int depth;

const char *fake_cuda_error(void) { return fake.error; }
void fake_cuda_counters(ptx_counters *out, int reset) {
  *out = fake.counters;
  if (reset) fake.counters = (ptx_counters){0};
}

/* ---- set-up
 * -------------------------------------------------------------------------------------------------------- */
static uint64_t size_of(const char *text) {
  char *end;
  uint64_t n = strtoull(text, &end, 0);
  return *end == 'G' ? n << 30 : *end == 'M' ? n << 20 : *end == 'K' ? n << 10 : n;
}

static void set(const char *key, const char *value) {
  if (!strcmp(key, "devices")) fake.devices = atoi(value);
  if (!strcmp(key, "sm")) fake.sm = atoi(value);
  if (!strcmp(key, "driver")) fake.version = atoi(value);
  if (!strcmp(key, "memory")) fake.memory = size_of(value);
  if (!strcmp(key, "seed")) fake.seed = strtoull(value, NULL, 0);
  if (!strcmp(key, "stub")) fake.stub = atoi(value) != 0;
  if (!strcmp(key, "trace")) fake.trace = fopen(value, "w");
  if (!strcmp(key, "check"))
    fake.checks = (strstr(value, "races") ? PTX_CHECK_RACES : 0) |
                  (strstr(value, "unwritten") ? PTX_CHECK_UNWRITTEN : 0) |
                  (strstr(value, "resident") ? PTX_RESIDENT : 0);
  fake_fail *f = &fake.fails[fake.nfails];
  if (!strcmp(key, "fail") && fake.nfails < FAKE_FAILS &&
      sscanf(value, "%47[^:]:%d:%d", f->name, &f->call, &f->code) == 3)
    fake.nfails++;
}

static void read_settings(void) {
  fake.devices = 1, fake.sm = 90, fake.version = 13000, fake.memory = 8ull << 30;
  fake.checks = PTX_CHECK_RACES | PTX_CHECK_UNWRITTEN;
  fake.nfails = 0, fake.seed = 0, fake.stub = false;
  const char *text = getenv("TENON_FAKE_CUDA");
  char copy[1024], *save = NULL;
  snprintf(copy, sizeof copy, "%s", text ? text : "");
  for (char *s = strtok_r(copy, ",", &save); s; s = strtok_r(NULL, ",", &save)) {
    char *eq = strchr(s, '=');
    if (!eq) continue;
    *eq = 0;
    set(s, eq + 1);
  }
  if (fake.devices > FAKE_DEVICES) fake.devices = FAKE_DEVICES;
}

CUresult fake_enter(const char *name) {
  if (fake.trace) fprintf(fake.trace, "%s\n", name), fflush(fake.trace);
  for (uint32_t i = 0; i < fake.nfails; i++)
    if (!strcmp(fake.fails[i].name, name) && --fake.fails[i].call == 0) return (CUresult)fake.fails[i].code;
  return fake.ready ? CUDA_SUCCESS : CUDA_ERROR_NOT_INITIALIZED;
}

CUresult cuInit(unsigned flags) {
  if (flags) return CUDA_ERROR_INVALID_VALUE;
  if (!fake.ready) read_settings();
  if (fake.stub) return CUDA_ERROR_STUB_LIBRARY;
  if (fake.devices < 1) return CUDA_ERROR_NO_DEVICE;
  if (!fake.ready) tn_map_init(&fake.host);
  fake.ready = true;
  FAKE_ENTER(cuInit);
  return CUDA_SUCCESS;
}

CUresult cuDriverGetVersion(int *version) {
  if (!fake.ready) read_settings();
  *version = fake.version;
  return CUDA_SUCCESS;
}

static const struct {
  int code;
  const char *name, *words;
} results[] = {
#define TN_CUDA(id, value, words) {value, "CUDA_" #id, words},
    TN_CUDA_RESULTS(TN_CUDA)
#undef TN_CUDA
};

CUresult cuGetErrorName(CUresult error, const char **text) {
  for (size_t i = 0; i < TN_COUNT(results); i++)
    if (results[i].code == (int)error) return *text = results[i].name, CUDA_SUCCESS;
  return *text = NULL, CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGetErrorString(CUresult error, const char **text) {
  for (size_t i = 0; i < TN_COUNT(results); i++)
    if (results[i].code == (int)error) return *text = results[i].words, CUDA_SUCCESS;
  return *text = NULL, CUDA_ERROR_INVALID_VALUE;
}

/* ---- devices
 * ------------------------------------------------------------------------------------------------------- */
static bool good_device(CUdevice d) { return d >= 0 && d < fake.devices; }

CUresult cuDeviceGetCount(int *count) {
  FAKE_ENTER(cuDeviceGetCount);
  *count = fake.devices;
  return CUDA_SUCCESS;
}

CUresult cuDeviceGet(CUdevice *device, int ordinal) {
  FAKE_ENTER(cuDeviceGet);
  if (!good_device(ordinal)) return CUDA_ERROR_INVALID_DEVICE;
  *device = ordinal;
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetName(char *name, int len, CUdevice device) {
  FAKE_ENTER(cuDeviceGetName);
  if (!good_device(device)) return CUDA_ERROR_INVALID_DEVICE;
  snprintf(name, (size_t)len, "Fake GPU %d (sm_%d)", device, fake.sm);
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetUuid_v2(CUuuid *uuid, CUdevice device) {
  FAKE_ENTER(cuDeviceGetUuid_v2);
  if (!good_device(device)) return CUDA_ERROR_INVALID_DEVICE;
  for (int i = 0; i < 16; i++) uuid->bytes[i] = (char)(0xfa + 16 * device + i);
  return CUDA_SUCCESS;
}

CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device) {
  FAKE_ENTER(cuDeviceTotalMem_v2);
  *bytes = fake.memory;
  return good_device(device) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

/* Shared memory that a block may ask for, by architecture (CUDA programming guide, technical specifications).
 */
static int shared_limit(void) {
  int sm = fake.sm;
  return 1024 * (sm == 80 || sm == 87 ? 163 : sm == 86 || sm == 89 || sm / 10 == 12 ? 99 : 227);
}

CUresult fake_attribute(int *value, CUdevice_attribute attribute, CUdevice device) {
  if (!good_device(device)) return CUDA_ERROR_INVALID_DEVICE;
  switch (attribute) {
  case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK: *value = 1024; break;
  case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X: *value = INT32_MAX; break;
  case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK: *value = 48 * 1024; break;
  case CU_DEVICE_ATTRIBUTE_WARP_SIZE: *value = PTX_LANES; break;
  case CU_DEVICE_ATTRIBUTE_CLOCK_RATE: *value = 1000000; break;
  case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: *value = 4; break;
  case CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE: *value = 1000000; break;
  case CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH: *value = 1024; break;
  case CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE: *value = 4 << 20; break;
  case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR: *value = 2048; break;
  case CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING: *value = 1; break;
  case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: *value = fake.sm / 10; break;
  case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: *value = fake.sm % 10; break;
  case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR: *value = shared_limit() + 1024; break;
  case CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR: *value = 65536; break;
  case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN: *value = shared_limit(); break;
  case CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED: *value = 1; break;
  case CU_DEVICE_ATTRIBUTE_CLUSTER_LAUNCH: *value = fake.sm >= 90; break;
  default: return CUDA_ERROR_INVALID_VALUE;
  }
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device) {
  FAKE_ENTER(cuDeviceGetAttribute);
  return fake_attribute(value, attribute, device);
}

CUresult cuDeviceCanAccessPeer(int *can, CUdevice device, CUdevice peer) {
  FAKE_ENTER(cuDeviceCanAccessPeer);
  if (!good_device(device) || !good_device(peer)) return CUDA_ERROR_INVALID_DEVICE;
  *can = device != peer;
  return CUDA_SUCCESS;
}

/* ---- contexts
 * ------------------------------------------------------------------------------------------------------ */
CUcontext fake_context(void) { return depth ? stack[depth - 1] : NULL; }

CUresult fake_current(CUcontext *out) {
  *out = fake_context();
  if (!*out || !(*out)->references) return CUDA_ERROR_INVALID_CONTEXT;
  return (*out)->sticky;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
  FAKE_ENTER(cuDevicePrimaryCtxRetain);
  if (!good_device(device)) return CUDA_ERROR_INVALID_DEVICE;
  fake_device *d = &fake.device[device];
  if (!d->memory) d->memory = ptx_memory_new((uint32_t)device);
  if (!d->memory) return CUDA_ERROR_OUT_OF_MEMORY;
  if (!d->primary.references++) {
    d->primary.device = device;
    d->primary.sticky = CUDA_SUCCESS;
    if (!d->primary.legacy) d->primary.legacy = tn_mem_alloc(sizeof *d->primary.legacy);
    if (!d->primary.legacy) return CUDA_ERROR_OUT_OF_MEMORY;
    d->primary.legacy->context = &d->primary;
  }
  *context = &d->primary;
  return CUDA_SUCCESS;
}

/* The last one out: memory and modules of the context are gone. */
CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
  FAKE_ENTER(cuDevicePrimaryCtxRelease_v2);
  if (!good_device(device)) return CUDA_ERROR_INVALID_DEVICE;
  fake_device *d = &fake.device[device];
  if (!d->primary.references) return CUDA_ERROR_INVALID_CONTEXT;
  if (--d->primary.references) return CUDA_SUCCESS;
  fake_drain_context(&d->primary);
  ptx_memory_free(d->memory);
  d->memory = NULL;
  d->used = 0;
  d->primary.peers = 0;
  return CUDA_SUCCESS;
}

CUresult cuCtxGetCurrent(CUcontext *context) {
  FAKE_ENTER(cuCtxGetCurrent);
  *context = fake_context();
  return CUDA_SUCCESS;
}

CUresult cuCtxSetCurrent(CUcontext context) {
  FAKE_ENTER(cuCtxSetCurrent);
  if (depth) depth--;
  if (context) stack[depth++] = context;
  return CUDA_SUCCESS;
}

CUresult cuCtxPushCurrent_v2(CUcontext context) {
  FAKE_ENTER(cuCtxPushCurrent_v2);
  if (!context || depth == FAKE_STACK) return CUDA_ERROR_INVALID_CONTEXT;
  stack[depth++] = context;
  return CUDA_SUCCESS;
}

CUresult cuCtxPopCurrent_v2(CUcontext *context) {
  FAKE_ENTER(cuCtxPopCurrent_v2);
  if (!depth) return CUDA_ERROR_INVALID_CONTEXT;
  CUcontext c = stack[--depth];
  if (context) *context = c;
  return CUDA_SUCCESS;
}

CUresult cuCtxGetDevice(CUdevice *device) {
  CUcontext c;
  FAKE_ENTER(cuCtxGetDevice);
  CUresult r = fake_current(&c);
  if (!r) *device = c->device;
  return r;
}

CUresult cuCtxSynchronize(void) {
  CUcontext c;
  FAKE_ENTER(cuCtxSynchronize);
  CUresult r = fake_current(&c);
  if (r) return r;
  if (fake_any_capture(c)) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  return fake_drain_context(c);
}

CUresult cuCtxEnablePeerAccess(CUcontext peer, unsigned flags) {
  CUcontext c;
  FAKE_ENTER(cuCtxEnablePeerAccess);
  CUresult r = fake_current(&c);
  if (r) return r;
  if (!peer || flags || peer == c) return CUDA_ERROR_INVALID_VALUE;
  if (c->peers >> peer->device & 1) return CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED;
  c->peers |= 1u << peer->device;
  return CUDA_SUCCESS;
}

/* ---- finding entry points
 * ------------------------------------------------------------------------------------------ */
static const struct {
  const char *name;
  void *fn;
} entries[] = {
#define TN_CUDA(name, parameters) {#name, (void *)name},
    TN_CUDA_API(TN_CUDA)
#undef TN_CUDA
};

/* Names come without the suffix of their version. */
CUresult cuGetProcAddress_v2(const char *name, void **fn, int version, uint64_t flags,
                             CUdriverProcAddressQueryResult *status) {
  (void)version, (void)flags;
  size_t n = strlen(name);
  for (size_t i = 0; i < TN_COUNT(entries); i++) {
    const char *e = entries[i].name;
    if (strncmp(e, name, n) || (e[n] && strncmp(e + n, "_v", 2))) continue;
    *fn = entries[i].fn;
    if (status) *status = CU_GET_PROC_ADDRESS_SUCCESS;
    return CUDA_SUCCESS;
  }
  *fn = NULL;
  if (status) *status = CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
  return status ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}
