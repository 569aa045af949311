/* plugin.c - tenon-cuda.so: the entry point and its tables. The compile side needs neither driver nor
 * toolkit; the run side (run/) opens the driver when it is first asked for a device. */
#include "backends/cuda/claim.h"
#include "backends/cuda/run/device.h"
#include "backends/cuda/run/driver.h"
#include <llvm-c/Support.h>
#include <llvm-c/Target.h>
#include <stdio.h>

tn_status tn_cuda_fail(tn_cuda *c, tn_module *m, tn_loc loc, tn_status status, const char *fmt, ...) {
  char text[512];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(text, sizeof text, fmt, ap);
  va_end(ap);
  tn_diag d = {.size = sizeof d, .severity = TN_ERROR, .loc = loc, .status = status, .text = tn_str_of(text)};
  if (c->host.diag) c->host.diag(c->host.ctx, m, &d);
  return status;
}

static tn_status each_target(void *self, void (*each)(void *user, const tn_target *t), void *user) {
  uint32_t n;
  const tn_cuda_target *targets = tn_cuda_targets(&n);
  (void)self;
  for (uint32_t i = 0; i < n; i++) each(user, &targets[i].target);
  return TN_OK;
}

static const tn_device_api *device(void *self) {
  (void)self;
  return &tn_cuda_device_api;
}

/* Compute capability of the first device that the driver shows; 0: none. */
static uint32_t look_for_device(void) {
  tn_cuda_driver driver = {0};
  const tn_cuda_device *first = NULL;
  tn_buf why = {0};
  bool found =
      tn_cuda_open(&driver, NULL, &why) == TN_OK && tn_cuda_pick(&driver, "cuda", &first, &why) == TN_OK;
  uint32_t cc = found ? (uint32_t)(first->major * 10 + first->minor) : 0;
  tn_cuda_close(&driver);
  tn_buf_fini(&why);
  return cc;
}

/* Without a device the oldest target runs: what is missing is said, in full, when the device is opened. */
static tn_status runs_here(void *self, const tn_target *t) {
  tn_cuda *c = self;
  uint32_t n;
  const tn_cuda_target *x = tn_cuda_target_by_name(t->name), *oldest = tn_cuda_targets(&n);
  if (c->cc == TN_CUDA_NONE) c->cc = look_for_device();
  if (!x) return TN_NOT_FOUND;
  bool runs = !c->cc ? x == oldest : x->exact ? x->cc == c->cc : x->cc <= c->cc;
  return runs ? TN_OK : TN_UNSUPPORTED;
}

static const tn_backend backend = {.size = sizeof backend,
                                   .flags = TN_BACKEND_EMBED,
                                   .name = "cuda",
                                   .targets = each_target,
                                   .claim = tn_cuda_claim,
                                   .fuse = tn_cuda_fuse,
                                   .compile = tn_cuda_compile,
                                   .runs_here = runs_here,
                                   .device = device};

static tn_status init(const tn_host *host, void **self) {
  tn_cuda *c = tn_mem_alloc(sizeof *c);
  if (!c) return TN_OOM;
  tn_take(&c->host, sizeof c->host, host);
  if (!c->host.ir) {
    tn_mem_free(c);
    return TN_PRECONDITION;
  }
  tn_take(&c->ir, sizeof c->ir, c->host.ir);
  c->cc = TN_CUDA_NONE;
  LLVMInitializeNVPTXTargetInfo();
  LLVMInitializeNVPTXTarget();
  LLVMInitializeNVPTXTargetMC();
  LLVMInitializeNVPTXAsmPrinter();
  /* pointers of shared memory have 32 bits: registers are saved */
  static const char *const options[] = {"tenon-cuda", "-nvptx-short-ptr"};
  LLVMParseCommandLineOptions(2, options, "");
  *self = c;
  return TN_OK;
}
static void fini(void *self) { tn_mem_free(self); }

static const void *table(void *self, const char *kind, uint32_t index) {
  (void)self;
  return index == 0 && !strcmp(kind, "tn.backend/1") ? &backend : NULL;
}

static const tn_plugin plugin = {.size = sizeof plugin,
                                 .abi = TN_ABI,
                                 .id = "org.tenon.cuda",
                                 .version = "0.1.0",
                                 .summary = "PTX for NVIDIA GPUs through LLVM",
                                 .init = init,
                                 .fini = fini,
                                 .table = table};

TN_PLUGIN_ENTRY(cuda) {
  if (host_abi >> 16 != TN_ABI_MAJOR) {
    *why = "the plugin interface has another major version";
    return NULL;
  }
  return &plugin;
}
