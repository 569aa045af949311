/* plugin.c - tenon-cpu.so: the entry point and its tables. */
#include "backends/cpu/plugin.h"
#include <llvm-c/Target.h>
#include <stdio.h>

#define KERNEL_CALL_MINOR 4 /* of the first interface whose tn_kcall has all that kernels read */

tn_status tn_cpu_fail(tn_cpu *c, tn_module *m, tn_loc loc, tn_status status, const char *fmt, ...) {
  char text[512];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(text, sizeof text, fmt, ap);
  va_end(ap);
  tn_diag d = {.size = sizeof d, .severity = TN_ERROR, .loc = loc, .status = status, .text = tn_str_of(text)};
  if (c->host.diag) c->host.diag(c->host.ctx, m, &d);
  return status;
}

tn_cpu_precision tn_cpu_precision_of(const tn_ir *ir, tn_module *m) {
  const char *level = ir->meta_get(m, "precision");
  return level && !strcmp(level, "fast")   ? TN_CPU_FAST
         : level && !strcmp(level, "high") ? TN_CPU_HIGH
                                           : TN_CPU_STRICT;
}

static tn_status each_target(void *self, void (*each)(void *user, const tn_target *t), void *user) {
  uint32_t n;
  const tn_cpu_isa *isas = tn_cpu_isas(&n);
  (void)self;
  for (uint32_t i = 0; i < n; i++) each(user, &isas[i].target);
  return TN_OK;
}

static const tn_backend backend = {.size = sizeof backend,
                                   .flags = TN_BACKEND_AOT,
                                   .name = "cpu",
                                   .targets = each_target,
                                   .claim = tn_cpu_claim,
                                   .fuse = tn_cpu_fuse,
                                   .layout = tn_cpu_layout,
                                   .pack = tn_cpu_pack,
                                   .compile = tn_cpu_compile,
                                   .runs_here = tn_cpu_runs_here,
                                   .load = tn_cpu_load,
                                   .kernel = tn_cpu_kernel_lookup,
                                   .unload = tn_cpu_unload};

static tn_status init(const tn_host *host, void **self) {
  tn_cpu *c = tn_mem_alloc(sizeof *c);
  if (!c) return TN_OOM;
  tn_take(&c->host, sizeof c->host, host);
  if (!c->host.ir) {
    tn_mem_free(c);
    return TN_PRECONDITION;
  }
  tn_take(&c->ir, sizeof c->ir, c->host.ir);
  LLVMInitializeX86TargetInfo();
  LLVMInitializeX86Target();
  LLVMInitializeX86TargetMC();
  LLVMInitializeX86AsmPrinter();
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
                                 .id = "org.tenon.cpu",
                                 .version = "0.1.0",
                                 .summary = "machine code for x86-64 through LLVM",
                                 .init = init,
                                 .fini = fini,
                                 .table = table};

TN_PLUGIN_ENTRY(cpu) {
  if (host_abi >> 16 != TN_ABI_MAJOR) {
    *why = "the plugin interface has another major version";
    return NULL;
  }
  if ((host_abi & 0xffff) < KERNEL_CALL_MINOR) {
    *why = "kernels are called with tickets, which the host's plugin interface does not have";
    return NULL;
  }
  return &plugin;
}
