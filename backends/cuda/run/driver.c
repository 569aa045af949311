/* driver.c - opening the driver, listing devices, explaining errors. */
#include "backends/cuda/run/driver.h"
#include <ctype.h>
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- opening
 * ------------------------------------------------------------------------------------------------------- */
/* The toolkit's libcuda.so is a stub for linkers: only the driver's own name is opened. */
static const char *const soname = "libcuda.so.1";

static void *entry(tn_cuda_driver *d, const char *name) {
  void *fn = NULL;
  char plain[64];
  cuGetProcAddress_v2_fn *find = d->api.cuGetProcAddress_v2;
  CUdriverProcAddressQueryResult status;
  snprintf(plain, sizeof plain, "%s", name);
  char *suffix = strstr(plain, "_v2");
  if (suffix && !suffix[3]) *suffix = 0; /* the driver adds the newest that fits the version asked for */
  if (find && find(plain, &fn, TN_CUDA_OLDEST, 0, &status) == CUDA_SUCCESS && fn) return fn;
  return dlsym(d->library, name);
}

static tn_status find_entries(tn_cuda_driver *d, tn_buf *why) {
  static const char *const names[] = {
#define TN_CUDA(name, parameters) #name,
      TN_CUDA_API(TN_CUDA)
#undef TN_CUDA
  };
  void **fns = (void **)&d->api;
  *(void **)&d->api.cuGetProcAddress_v2 = dlsym(d->library, "cuGetProcAddress_v2");
  for (size_t i = 0; i < TN_COUNT(names); i++) {
    void *fn = entry(d, names[i]);
    if (!fn) {
      tn_buf_printf(why, "the NVIDIA driver has no %s: it is older than CUDA %d.%d; update it", names[i],
                    TN_CUDA_OLDEST / 1000, TN_CUDA_OLDEST % 1000 / 10);
      return TN_UNAVAILABLE;
    }
    fns[i] = fn;
  }
  return TN_OK;
}

static tn_status load(tn_cuda_driver *d, const char *library, tn_buf *why) {
  d->library = dlopen(library ? library : soname, RTLD_NOW | RTLD_LOCAL);
  if (d->library) return find_entries(d, why);
  tn_buf_printf(
      why,
      "no NVIDIA driver: %s cannot be opened (%s); install the driver, or run the container with the GPU "
      "(docker run --gpus all)",
      library ? library : soname, dlerror());
  return TN_UNAVAILABLE;
}

static void read_uuid(const CUuuid *u, char out[48]) {
  static const uint8_t dashes[] = {4, 6, 8, 10};
  int n = snprintf(out, 48, "GPU-");
  for (uint32_t i = 0; i < 16; i++) {
    for (size_t k = 0; k < TN_COUNT(dashes); k++)
      if (i == dashes[k]) out[n++] = '-';
    n += snprintf(out + n, (size_t)(48 - n), "%02x", (uint8_t)u->bytes[i]);
  }
}

static CUresult read_device(tn_cuda_driver *d, int ordinal) {
  const tn_cuda_api *a = &d->api;
  tn_cuda_device *x = &d->devices[ordinal];
  CUuuid uuid;
  size_t bytes = 0;
  CUresult r = a->cuDeviceGet(&x->id, ordinal);
  const struct {
    CUdevice_attribute attribute;
    int *to;
  } values[] = {{CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, &x->major},
                {CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, &x->minor},
                {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, &x->shared_bytes},
                {CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, &x->processors}};
  x->ordinal = ordinal;
  for (size_t i = 0; !r && i < TN_COUNT(values); i++)
    r = a->cuDeviceGetAttribute(values[i].to, values[i].attribute, x->id);
  if (!r) r = a->cuDeviceGetName(x->name, sizeof x->name, x->id);
  if (!r) r = a->cuDeviceTotalMem_v2(&bytes, x->id);
  if (!r) r = a->cuDeviceGetUuid_v2(&uuid, x->id);
  if (!r) read_uuid(&uuid, x->uuid);
  x->memory = bytes;
  return r;
}

static tn_status start(tn_cuda_driver *d, tn_buf *why) {
  int n = 0;
  CUresult r = d->api.cuInit(0);
  if (r) return tn_cuda_words(d, r, "starting the driver", why);
  r = d->api.cuDriverGetVersion(&d->version);
  if (!r && d->version < TN_CUDA_OLDEST) {
    tn_buf_printf(
        why, "the NVIDIA driver is for CUDA %d.%d, at least %d.%d (driver 525) is needed; update it",
        d->version / 1000, d->version % 1000 / 10, TN_CUDA_OLDEST / 1000, TN_CUDA_OLDEST % 1000 / 10);
    return TN_UNAVAILABLE;
  }
  if (!r) r = d->api.cuDeviceGetCount(&n);
  for (int i = 0; !r && i < n && i < TN_CUDA_DEVICES; i++) {
    r = read_device(d, i);
    d->ndevices = (uint32_t)i + 1;
  }
  return r ? tn_cuda_words(d, r, "looking for devices", why) : TN_OK;
}

tn_status tn_cuda_open(tn_cuda_driver *d, const char *library, tn_buf *why) {
  *d = (tn_cuda_driver){.process = (int)getpid()};
  tn_status s = load(d, library, why);
  if (s == TN_OK) s = start(d, why);
  if (s == TN_OK && !d->ndevices) s = tn_cuda_words(d, CUDA_ERROR_NO_DEVICE, "looking for devices", why);
  if (s != TN_OK) tn_cuda_close(d);
  return s;
}

/* The library stays mapped: drivers have threads of their own. */
void tn_cuda_close(tn_cuda_driver *d) { *d = (tn_cuda_driver){0}; }

/* ---- devices
 * ------------------------------------------------------------------------------------------------------- */
static void list_devices(const tn_cuda_driver *d, tn_buf *why) {
  for (uint32_t i = 0; i < d->ndevices; i++)
    tn_buf_printf(why, "%scuda:%u %s (%s, %d.%d)", i ? "; " : "", i, d->devices[i].name, d->devices[i].uuid,
                  d->devices[i].major, d->devices[i].minor);
}

static bool begins(const char *uuid, const char *with) {
  while (*with && tolower((uint8_t)*uuid) == tolower((uint8_t)*with)) uuid++, with++;
  return !*with;
}

tn_status tn_cuda_pick(const tn_cuda_driver *d, const char *name, const tn_cuda_device **out, tn_buf *why) {
  *out = NULL;
  if (strncmp(name, "cuda", 4) || (name[4] && name[4] != ':') || (name[4] && !name[5])) {
    tn_buf_printf(why, "device '%s': cuda, cuda:1 or cuda:GPU-UUID is expected", name);
    return TN_INVALID;
  }
  if (d->process != (int)getpid()) {
    tn_buf_printf(why,
                  "the CUDA driver was started by process %d, and a child of a fork cannot use it; open the "
                  "model in the child",
                  d->process);
    return TN_PRECONDITION;
  }
  const char *which = name[4] ? name + 5 : "0";
  char *end;
  unsigned long ordinal = strtoul(which, &end, 10);
  uint32_t found = 0;
  for (uint32_t i = 0; i < d->ndevices; i++) {
    if (!*end ? ordinal != i : !begins(d->devices[i].uuid, which) && !begins(d->devices[i].uuid + 4, which))
      continue;
    *out = &d->devices[i];
    found++;
  }
  if (found == 1) return TN_OK;
  tn_buf_printf(why, "device '%s' %s; there are: ", name,
                found ? "is the beginning of several" : "is not there");
  list_devices(d, why);
  *out = NULL;
  return TN_NOT_FOUND;
}

/* ---- errors
 * -------------------------------------------------------------------------------------------------------- */
static const struct {
  CUresult result;
  tn_status status;
  const char *advice;
} advices[] = {
    {CUDA_ERROR_STUB_LIBRARY, TN_UNAVAILABLE,
     "the library is the toolkit's stub; take its folder out of LD_LIBRARY_PATH and install the driver"},
    {CUDA_ERROR_NO_DEVICE, TN_UNAVAILABLE,
     "no device is visible: look at CUDA_VISIBLE_DEVICES and nvidia-smi; in a container run with --gpus all"},
    {CUDA_ERROR_SYSTEM_NOT_READY, TN_UNAVAILABLE,
     "the fabric manager is not ready: start nvidia-fabricmanager of the driver's version"},
    {CUDA_ERROR_SYSTEM_DRIVER_MISMATCH, TN_UNAVAILABLE,
     "the driver's library and its kernel module have different versions: reboot, or install both anew"},
    {CUDA_ERROR_OUT_OF_MEMORY, TN_OOM,
     "memory of the device is used up: smaller batch, shorter context, or --kv-cache q8_0"},
    {CUDA_ERROR_NO_BINARY_FOR_GPU, TN_UNSUPPORTED,
     "no kernel image fits this device: compile for its architecture, or with PTX for a lower one"},
    {CUDA_ERROR_UNSUPPORTED_PTX_VERSION, TN_UNSUPPORTED,
     "the PTX is newer than the driver: update the driver, or compile machine code with ptxas"},
    {CUDA_ERROR_INVALID_PTX, TN_INTERNAL, "the driver does not take the PTX"},
    {CUDA_ERROR_JIT_COMPILER_NOT_FOUND, TN_UNAVAILABLE,
     "libnvidia-ptxjitcompiler is missing, as in containers without it: compile machine code with ptxas"},
    {CUDA_ERROR_ILLEGAL_ADDRESS, TN_INTERNAL,
     "a kernel touched memory that is not its own; the context is dead. Run compute-sanitizer, or one launch "
     "at a time"},
    {CUDA_ERROR_MISALIGNED_ADDRESS, TN_INTERNAL, "a kernel's address is not aligned; the context is dead"},
    {CUDA_ERROR_ILLEGAL_INSTRUCTION, TN_INTERNAL,
     "a kernel met an instruction that it may not run; the context is dead"},
    {CUDA_ERROR_LAUNCH_FAILED, TN_INTERNAL,
     "a kernel failed; the context is dead. Run compute-sanitizer, or one launch at a time"},
    {CUDA_ERROR_LAUNCH_TIMEOUT, TN_INTERNAL, "a kernel took too long; the context is dead"},
    {CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, TN_INTERNAL,
     "the launch asks for more registers, threads or shared memory than a block may have"},
    {CUDA_ERROR_NOT_INITIALIZED, TN_PRECONDITION,
     "the driver was not started in this process: do not use it behind a fork"},
};

bool tn_cuda_sticky(CUresult r) {
  return r == CUDA_ERROR_ILLEGAL_ADDRESS || r == CUDA_ERROR_MISALIGNED_ADDRESS ||
         r == CUDA_ERROR_ILLEGAL_INSTRUCTION || r == CUDA_ERROR_LAUNCH_FAILED ||
         r == CUDA_ERROR_LAUNCH_TIMEOUT;
}

tn_status tn_cuda_words(const tn_cuda_driver *d, CUresult r, const char *doing, tn_buf *why) {
  const char *name = NULL, *words = NULL;
  if (r == CUDA_SUCCESS) return TN_OK;
  if (d->api.cuGetErrorName) d->api.cuGetErrorName(r, &name);
  if (d->api.cuGetErrorString) d->api.cuGetErrorString(r, &words);
  tn_buf_printf(why, "%s: %s (%d)%s%s", doing, name ? name : "an unknown CUDA error", (int)r,
                words ? ": " : "", words ? words : "");
  for (size_t i = 0; i < TN_COUNT(advices); i++)
    if (advices[i].result == r) {
      tn_buf_printf(why, "; %s", advices[i].advice);
      return advices[i].status;
    }
  return TN_INTERNAL;
}
