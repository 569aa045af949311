/* plugin.c - tenon-cuda.so: the entry point and its tables. The compile side needs neither driver nor
 * toolkit; the run side (run/) opens the driver when it is first asked for a device. */
#include "backends/cuda/claim.h"
#include "backends/cuda/run/device.h"
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

static const tn_backend backend = {.size = sizeof backend,
                                   .flags = TN_BACKEND_EMBED,
                                   .name = "cuda",
                                   .targets = each_target,
                                   .claim = tn_cuda_claim,
                                   .fuse = tn_cuda_fuse,
                                   .compile = tn_cuda_compile,
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
