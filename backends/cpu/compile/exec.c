/* exec.c - the run side: a kernel package is linked into this process by LLVM's JIT linker, which only places
 * the object; no code is generated here. */
#include "backends/cpu/plugin.h"
#include "backends/lib/lib.h"
#include <llvm-c/Core.h>
#include <llvm-c/LLJIT.h>

struct tn_exec {
  LLVMOrcLLJITRef jit;
};

tn_status tn_cpu_runs_here(void *self, const tn_target *t) {
  (void)self;
  return tn_cpu_has(t->features) ? TN_OK : TN_UNAVAILABLE;
}

static tn_status failed(tn_cpu *c, LLVMErrorRef e, tn_status status) {
  char *text = LLVMGetErrorMessage(e);
  tn_cpu_fail(c, NULL, 0, status, "the kernel package cannot be loaded: %s", text);
  LLVMDisposeErrorMessage(text);
  return status;
}

/* What LLVM would otherwise print. */
static void report(void *ctx, LLVMErrorRef e) {
  if (e) failed(ctx, e, TN_DATA_LOSS);
}

/* The object in an image, if it is whole and for this target. */
static tn_status object_of(tn_cpu *c, const tn_target *t, tn_bytes image, tn_bytes *object) {
  tn_cpu_trailer end;
  if (image.len < sizeof end)
    return tn_cpu_fail(c, NULL, 0, TN_DATA_LOSS, "a kernel package has %llu bytes, at least %zu are needed",
                       (unsigned long long)image.len, sizeof end);
  *object = (tn_bytes){image.ptr, image.len - sizeof end};
  memcpy(&end, (const char *)image.ptr + object->len, sizeof end);
  if (memcmp(end.magic, TN_CPU_MAGIC, sizeof end.magic))
    return tn_cpu_fail(c, NULL, 0, TN_DATA_LOSS,
                       "a kernel package is cut off, or not one of the cpu backend");
  if (end.hash != tn_cpu_image_hash(t, object->ptr, object->len))
    return tn_cpu_fail(c, NULL, 0, TN_DATA_LOSS, "a kernel package is damaged, or not for target '%s'",
                       t->name);
  return TN_OK;
}

/* What kernels call of backends/lib is this plugin's own copy. */
static LLVMErrorRef define_library(LLVMOrcLLJITRef jit, LLVMOrcJITDylibRef lib) {
  LLVMOrcCSymbolMapPair pairs[TN_LIB_COUNT];
  const tn_lib_row *rows = tn_lib_rows();
  for (uint32_t i = 0; i < TN_LIB_COUNT; i++)
    pairs[i] =
        (LLVMOrcCSymbolMapPair){LLVMOrcLLJITMangleAndIntern(jit, rows[i].symbol),
                                {(LLVMOrcExecutorAddress)(uintptr_t)rows[i].fn,
                                 {LLVMJITSymbolGenericFlagsExported | LLVMJITSymbolGenericFlagsCallable, 0}}};
  return LLVMOrcJITDylibDefine(lib, LLVMOrcAbsoluteSymbols(pairs, TN_LIB_COUNT));
}

tn_status tn_cpu_load(void *self, const tn_target *t, tn_bytes image, tn_exec **out) {
  tn_cpu *c = self;
  tn_bytes object;
  if (tn_cpu_runs_here(self, t) != TN_OK)
    return tn_cpu_fail(c, NULL, 0, TN_UNAVAILABLE,
                       "this processor lacks one of '%s', which target '%s' needs", t->features, t->name);
  TN_TRY(object_of(c, t, image, &object));
  tn_exec *x = tn_mem_alloc(sizeof *x);
  if (!x) return TN_OOM;
  LLVMErrorRef e = LLVMOrcCreateLLJIT(&x->jit, NULL);
  if (e) {
    tn_mem_free(x);
    return failed(c, e, TN_INTERNAL);
  }
  LLVMOrcExecutionSessionSetErrorReporter(LLVMOrcLLJITGetExecutionSession(x->jit), report, c);
  LLVMOrcJITDylibRef lib = LLVMOrcLLJITGetMainJITDylib(x->jit);
  LLVMOrcDefinitionGeneratorRef process = NULL; /* memcpy and memset */
  e = LLVMOrcCreateDynamicLibrarySearchGeneratorForProcess(&process, LLVMOrcLLJITGetGlobalPrefix(x->jit),
                                                           NULL, NULL);
  if (!e) {
    LLVMOrcJITDylibAddGenerator(lib, process);
    e = define_library(x->jit, lib);
  }
  if (!e) {
    LLVMMemoryBufferRef copy = LLVMCreateMemoryBufferWithMemoryRangeCopy(object.ptr, object.len, "kernels");
    e = LLVMOrcLLJITAddObjectFile(x->jit, lib, copy);
  }
  if (e) {
    tn_cpu_unload(x);
    return failed(c, e, TN_DATA_LOSS);
  }
  *out = x;
  return TN_OK;
}

tn_status tn_cpu_kernel_lookup(tn_exec *x, const char *symbol, tn_kernel_fn *fn, void **ctx) {
  LLVMOrcExecutorAddress at = 0;
  LLVMErrorRef e = LLVMOrcLLJITLookup(x->jit, &at, symbol);
  if (e) {
    LLVMConsumeError(e);
    return TN_NOT_FOUND;
  }
  *fn = (tn_kernel_fn)(uintptr_t)at;
  *ctx = NULL;
  return TN_OK;
}

void tn_cpu_unload(tn_exec *x) {
  if (!x) return;
  if (x->jit) {
    LLVMErrorRef e = LLVMOrcDisposeLLJIT(x->jit);
    if (e) LLVMConsumeError(e);
  }
  tn_mem_free(x);
}
