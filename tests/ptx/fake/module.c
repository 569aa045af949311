/* module.c - modules of PTX, functions, launches, tensor maps. */
#include "tests/ptx/fake/fake.h"
#include <stdlib.h>

/* ---- modules
 * ------------------------------------------------------------------------------------------------------- */
/* The newest PTX that a driver knows: 12.0 has 8.0, 12.8 has 8.7, 13.0 has 9.0 (release notes of the
 * toolkit). */
static uint32_t newest_ptx(int driver) {
  static const struct {
    int driver;
    uint32_t ptx;
  } table[] = {{11000, 70}, {11100, 71}, {11200, 72}, {11300, 73}, {11400, 74}, {11500, 75}, {11600, 76},
               {11700, 77}, {11800, 78}, {12000, 80}, {12010, 81}, {12020, 82}, {12030, 83}, {12040, 84},
               {12050, 85}, {12070, 86}, {12080, 87}, {12090, 88}, {13000, 90}};
  uint32_t best = 65;
  for (size_t i = 0; i < TN_COUNT(table); i++)
    if (driver >= table[i].driver) best = table[i].ptx;
  return best;
}

static void log_to(unsigned n, const CUjit_option *options, void **values, CUjit_option which,
                   CUjit_option size, const char *text) {
  char *buffer = NULL;
  size_t room = 0;
  for (unsigned i = 0; i < n; i++) {
    if (options[i] == which) buffer = values[i];
    if (options[i] == size) room = (size_t)(uintptr_t)values[i];
  }
  if (buffer && room) snprintf(buffer, room, "%s", text);
}

/* sm_90a runs on 9.0 only; others on their own and newer ones. */
static bool target_fits(const char *target) {
  int sm = atoi(target + 3);
  return target[strlen(target) - 1] == 'a' ? sm == fake.sm : sm <= fake.sm;
}

CUresult cuModuleLoadDataEx(CUmodule *module, const void *image, unsigned n, CUjit_option *options,
                            void **values) {
  CUcontext c;
  char error[PTX_ERROR];
  FAKE_ENTER(cuModuleLoadDataEx);
  CUresult r = fake_current(&c);
  if (r) return r;
  const char *text = image;
  if (!text) return CUDA_ERROR_INVALID_VALUE;
  if (!memcmp(text, "\177ELF", 4)) return CUDA_ERROR_NO_BINARY_FOR_GPU; /* machine code is not interpreted */
  CUmodule m = tn_mem_alloc(sizeof *m);
  if (!m) return CUDA_ERROR_OUT_OF_MEMORY;
  m->context = c;
  m->code = ptx_load(fake.device[c->device].memory, text, strlen(text), error);
  r = !m->code                                          ? CUDA_ERROR_INVALID_PTX
      : ptx_version(m->code) > newest_ptx(fake.version) ? CUDA_ERROR_UNSUPPORTED_PTX_VERSION
      : !target_fits(ptx_target(m->code))               ? CUDA_ERROR_NO_BINARY_FOR_GPU
                                                        : CUDA_SUCCESS;
  if (r) {
    snprintf(fake.error, sizeof fake.error, "%s", m->code ? "wrong version or target" : error);
    log_to(n, options, values, CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES, fake.error);
    ptx_unload(m->code);
    tn_mem_free(m);
    return r;
  }
  *module = m;
  return CUDA_SUCCESS;
}

CUresult cuModuleLoadData(CUmodule *module, const void *image) {
  FAKE_ENTER(cuModuleLoadData);
  return cuModuleLoadDataEx(module, image, 0, NULL, NULL);
}

CUresult cuModuleUnload(CUmodule module) {
  FAKE_ENTER(cuModuleUnload);
  if (!module) return CUDA_ERROR_INVALID_HANDLE;
  fake_drain_context(module->context);
  for (uint32_t i = 0; i < module->functions.count; i++) tn_mem_free(module->functions.items[i]);
  tn_vec_fini(&module->functions);
  ptx_unload(module->code);
  tn_mem_free(module);
  return CUDA_SUCCESS;
}

CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name) {
  FAKE_ENTER(cuModuleGetFunction);
  ptx_kernel *k = module ? ptx_find(module->code, name) : NULL;
  if (!k) return module ? CUDA_ERROR_NOT_FOUND : CUDA_ERROR_INVALID_HANDLE;
  for (uint32_t i = 0; i < module->functions.count; i++)
    if (module->functions.items[i]->kernel == k) return *function = module->functions.items[i], CUDA_SUCCESS;
  CUfunction f = tn_mem_alloc(sizeof *f);
  if (!f || !tn_vec_push(&module->functions, f)) return tn_mem_free(f), CUDA_ERROR_OUT_OF_MEMORY;
  *f = (struct CUfunc_st){.module = module, .kernel = k};
  ptx_kernel_get(k, &f->info);
  f->dynamic_limit = 48 * 1024 - (int)f->info.shared_bytes;
  *function = f;
  return CUDA_SUCCESS;
}

CUresult cuModuleGetGlobal_v2(CUdeviceptr *address, size_t *bytes, CUmodule module, const char *name) {
  FAKE_ENTER(cuModuleGetGlobal_v2);
  uint64_t a, n;
  if (!module) return CUDA_ERROR_INVALID_HANDLE;
  if (!ptx_global(module->code, name, &a, &n)) return CUDA_ERROR_NOT_FOUND;
  if (address) *address = a;
  if (bytes) *bytes = n;
  return CUDA_SUCCESS;
}

/* ---- functions
 * ----------------------------------------------------------------------------------------------------- */
static int device_value(CUdevice_attribute a) {
  int v = 0;
  fake_attribute(&v, a, 0);
  return v;
}

CUresult cuFuncGetAttribute(int *value, CUfunction_attribute attribute, CUfunction f) {
  FAKE_ENTER(cuFuncGetAttribute);
  if (!f) return CUDA_ERROR_INVALID_HANDLE;
  uint32_t threads = f->info.most[0] ? f->info.most[0] * f->info.most[1] * f->info.most[2] : 1024;
  switch (attribute) {
  case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK: *value = (int)threads; break;
  case CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES: *value = (int)f->info.shared_bytes; break;
  case CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES: *value = 0; break;
  case CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES: *value = (int)f->info.local_bytes; break;
  case CU_FUNC_ATTRIBUTE_NUM_REGS: *value = f->info.registers > 255 ? 255 : (int)f->info.registers; break;
  case CU_FUNC_ATTRIBUTE_PTX_VERSION: *value = (int)ptx_version(f->module->code); break;
  case CU_FUNC_ATTRIBUTE_BINARY_VERSION: *value = fake.sm; break;
  case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES: *value = f->dynamic_limit; break;
  default: return CUDA_ERROR_INVALID_VALUE;
  }
  return CUDA_SUCCESS;
}

CUresult cuFuncSetAttribute(CUfunction f, CUfunction_attribute attribute, int value) {
  FAKE_ENTER(cuFuncSetAttribute);
  if (!f) return CUDA_ERROR_INVALID_HANDLE;
  int most = device_value(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN) - (int)f->info.shared_bytes;
  if (attribute != CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES || value < 0 || value > most)
    return CUDA_ERROR_INVALID_VALUE;
  f->dynamic_limit = value;
  return CUDA_SUCCESS;
}

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, CUfunction f, int threads, size_t shared) {
  FAKE_ENTER(cuOccupancyMaxActiveBlocksPerMultiprocessor);
  if (!f || threads < 1 || threads > 1024) return CUDA_ERROR_INVALID_VALUE;
  size_t each = f->info.shared_bytes + shared + 1024,
         all = (size_t)device_value(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR);
  int by_threads = 2048 / threads, by_shared = (int)(all / each);
  *blocks = by_threads < by_shared ? by_threads : by_shared;
  return CUDA_SUCCESS;
}

/* ---- launches
 * ------------------------------------------------------------------------------------------------------ */
static CUresult launch(CUfunction f, const CUlaunchConfig *l, void **params, void **extra) {
  CUcontext c;
  CUresult r = fake_current(&c);
  if (r) return r;
  if (!f) return CUDA_ERROR_INVALID_HANDLE;
  if (extra || (f->info.nparams && !params)) return CUDA_ERROR_INVALID_VALUE;
  if (l->sharedMemBytes > (unsigned)(f->dynamic_limit < 0 ? 0 : f->dynamic_limit))
    return CUDA_ERROR_INVALID_VALUE;
  fake_op op = {.kind = FAKE_KERNEL, .function = f};
  op.launch = (ptx_launch){.grid = {l->gridDimX, l->gridDimY, l->gridDimZ},
                           .block = {l->blockDimX, l->blockDimY, l->blockDimZ},
                           .dynamic_shared = l->sharedMemBytes,
                           .flags = fake.checks,
                           .seed = fake.seed};
  for (unsigned i = 0; i < l->numAttrs; i++)
    if (l->attrs[i].id == CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION) {
      op.launch.cluster[0] = l->attrs[i].value.clusterDim.x;
      op.launch.cluster[1] = l->attrs[i].value.clusterDim.y;
      op.launch.cluster[2] = l->attrs[i].value.clusterDim.z;
    }
  op.launch.shared_limit = (uint64_t)device_value(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN);
  op.params = tn_mem_alloc(f->info.param_bytes + 1);
  if (!op.params) return CUDA_ERROR_OUT_OF_MEMORY;
  for (uint32_t i = 0; i < f->info.nparams; i++)
    memcpy(op.params + f->info.offset[i], params[i], f->info.size[i]);
  uint64_t threads = (uint64_t)l->blockDimX * l->blockDimY * l->blockDimZ;
  bool bad = !threads || threads > 1024 || !l->gridDimX || !l->gridDimY || !l->gridDimZ ||
             l->gridDimY > 65535 || l->gridDimZ > 65535;
  if (bad) {
    fake_op_free(&op);
    return CUDA_ERROR_INVALID_VALUE;
  }
  return fake_push(l->hStream, c, &op);
}

CUresult cuLaunchKernel(CUfunction f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                        unsigned bz, unsigned shared, CUstream stream, void **params, void **extra) {
  FAKE_ENTER(cuLaunchKernel);
  CUlaunchConfig l = {gx, gy, gz, bx, by, bz, shared, stream, NULL, 0};
  return launch(f, &l, params, extra);
}

CUresult cuLaunchKernelEx(const CUlaunchConfig *config, CUfunction f, void **params, void **extra) {
  FAKE_ENTER(cuLaunchKernelEx);
  return config ? launch(f, config, params, extra) : CUDA_ERROR_INVALID_VALUE;
}

CUresult fake_run_kernel(CUcontext c, const fake_op *op) {
  static const CUresult codes[] = {[PTX_OK] = CUDA_SUCCESS,
                                   [PTX_BAD_LAUNCH] = CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES,
                                   [PTX_BAD_ADDRESS] = CUDA_ERROR_ILLEGAL_ADDRESS,
                                   [PTX_MISALIGNED] = CUDA_ERROR_MISALIGNED_ADDRESS,
                                   [PTX_DEADLOCK] = CUDA_ERROR_LAUNCH_TIMEOUT,
                                   [PTX_RACE] = CUDA_ERROR_LAUNCH_FAILED,
                                   [PTX_UNWRITTEN] = CUDA_ERROR_LAUNCH_FAILED,
                                   [PTX_TRAP] = CUDA_ERROR_ILLEGAL_INSTRUCTION,
                                   [PTX_ILLEGAL] = CUDA_ERROR_ILLEGAL_INSTRUCTION,
                                   [PTX_LIMIT] = CUDA_ERROR_LAUNCH_TIMEOUT,
                                   [PTX_NO_MEMORY] = CUDA_ERROR_OUT_OF_MEMORY};
  char error[PTX_ERROR];
  ptx_launch l = op->launch;
  l.params = op->params;
  ptx_fault f = ptx_run(op->function->kernel, &l, &fake.counters, error);
  if (f == PTX_OK) return CUDA_SUCCESS;
  snprintf(fake.error, sizeof fake.error, "%s", error);
  if (f != PTX_BAD_LAUNCH && f != PTX_NO_MEMORY) c->sticky = codes[f]; /* the context is dead */
  return codes[f];
}

/* ---- tensor maps
 * --------------------------------------------------------------------------------------------------- */
CUresult cuTensorMapEncodeTiled(CUtensorMap *map, CUtensorMapDataType type, unsigned rank, void *base,
                                const uint64_t *sizes, const uint64_t *strides, const uint32_t *box,
                                const uint32_t *steps, int interleave, CUtensorMapSwizzle swizzle,
                                int promotion, int fill) {
  static const uint8_t bytes[] = {1, 2, 4, 4, 8, 8, 2, 4, 8, 2};
  (void)promotion;
  FAKE_ENTER(cuTensorMapEncodeTiled);
  if (!map || (uintptr_t)map % 64 || (unsigned)type >= sizeof bytes || rank < 1 || rank > 5 || interleave ||
      fill || (uintptr_t)base % 16 || (unsigned)swizzle > 3)
    return CUDA_ERROR_INVALID_VALUE;
  ptx_tensor_map t = {.mark = PTX_TENSOR_MAP,
                      .element = bytes[type],
                      .rank = (uint8_t)rank,
                      .swizzle = (uint8_t)swizzle,
                      .base = (uint64_t)(uintptr_t)base};
  for (unsigned d = 0; d < rank; d++) {
    if (!sizes[d] || sizes[d] > 1ull << 32 || !box[d] || box[d] > 256 || steps[d] != 1)
      return CUDA_ERROR_INVALID_VALUE;
    if (d && (strides[d - 1] % 16 || strides[d - 1] >= 1ull << 40)) return CUDA_ERROR_INVALID_VALUE;
    t.size[d] = sizes[d];
    t.box[d] = (uint16_t)box[d];
    if (d) t.stride[d - 1] = strides[d - 1];
  }
  uint64_t inner = (uint64_t)box[0] * t.element;
  if (inner % 16 || (swizzle && inner > 16u << swizzle)) return CUDA_ERROR_INVALID_VALUE;
  memset(map, 0, sizeof *map);
  memcpy(map, &t, sizeof t);
  return CUDA_SUCCESS;
}
