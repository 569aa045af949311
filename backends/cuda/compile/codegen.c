/* codegen.c - LLVM at work: each module is optimised and printed by itself, on any thread; the texts are then
 * joined under one header in the order of the kernels, so the same module gives the same bytes. */
#include "backends/cuda/compile/unit.h"
#include <llvm-c/BitReader.h>
#include <llvm-c/Transforms/PassBuilder.h>
#include <unistd.h>

typedef struct team {
  tn_cuda_unit *u;
  const tn_cuda_written *list;
  tn_buf *made;
  LLVMTargetMachineRef *machines; /* one per thread, made when first needed */
  tn_cuda_emit emit;
} team;

static tn_status failed(const team *t, const tn_cuda_written *w, const char *why) {
  return tn_cuda_fail(t->u->c, t->u->m, 0, TN_INTERNAL, "kernel '%s': code generation failed: %.300s",
                      w->symbol, why ? why : "LLVM does not say why");
}

static tn_status optimise(const team *t, const tn_cuda_written *w, LLVMModuleRef mod,
                          LLVMTargetMachineRef machine) {
  LLVMPassBuilderOptionsRef o = LLVMCreatePassBuilderOptions();
  LLVMErrorRef e = LLVMRunPasses(mod, "default<O3>", machine, o);
  LLVMDisposePassBuilderOptions(o);
  if (!e) return TN_OK;
  char *text = LLVMGetErrorMessage(e);
  tn_status s = failed(t, w, text);
  LLVMDisposeErrorMessage(text);
  return s;
}

static tn_status print(const team *t, const tn_cuda_written *w, LLVMModuleRef mod,
                       LLVMTargetMachineRef machine, tn_buf *out) {
  if (t->emit == TN_CUDA_EMIT_LLVM) {
    char *text = LLVMPrintModuleToString(mod);
    tn_buf_puts(out, text);
    LLVMDisposeMessage(text);
    return out->failed ? TN_OOM : TN_OK;
  }
  char *error = NULL;
  LLVMMemoryBufferRef made = NULL;
  if (LLVMTargetMachineEmitToMemoryBuffer(machine, mod, LLVMAssemblyFile, &error, &made)) {
    tn_status s = failed(t, w, error);
    LLVMDisposeMessage(error);
    return s;
  }
  tn_buf_put(out, LLVMGetBufferStart(made), LLVMGetBufferSize(made));
  LLVMDisposeMemoryBuffer(made);
  return out->failed ? TN_OOM : TN_OK;
}

static tn_status make_one(void *ctx, uint32_t thread, uint32_t i) {
  team *t = ctx;
  const tn_cuda_written *w = &t->list[i];
  if (!t->machines[thread]) t->machines[thread] = tn_cuda_machine(t->u->target);
  LLVMContextRef context = LLVMContextCreate();
  LLVMModuleRef mod = NULL;
  tn_status s = TN_OK;
  if (LLVMParseBitcodeInContext2(context, w->bitcode, &mod)) {
    LLVMContextDispose(context);
    return failed(t, w, "its bitcode cannot be read");
  }
  s = optimise(t, w, mod, t->machines[thread]);
  if (s == TN_OK) s = print(t, w, mod, t->machines[thread], &t->made[i]);
  LLVMDisposeModule(mod);
  LLVMContextDispose(context);
  return s;
}

/* The text behind the lines that every module begins with. */
static tn_str behind_header(const tn_buf *text) {
  static const char mark[] = ".address_size 64\n";
  const char *at = text->len ? strstr(text->text, mark) : NULL;
  if (!at) return (tn_str){text->text, text->len};
  at += sizeof mark - 1;
  return (tn_str){at, text->len - (uint64_t)(at - text->text)};
}

static tn_status join(const team *t, uint32_t n, tn_buf *out) {
  if (t->emit != TN_CUDA_EMIT_LLVM)
    tn_buf_printf(out, ".version %u.%u\n.target %s\n.address_size 64\n", t->u->target->ptx / 10,
                  t->u->target->ptx % 10, t->u->target->cpu);
  for (uint32_t i = 0; i < n; i++) {
    if (t->emit != TN_CUDA_EMIT_LLVM) tn_buf_cstr(&t->made[i]); /* ends it with NUL */
    tn_str part =
        t->emit == TN_CUDA_EMIT_LLVM ? (tn_str){t->made[i].text, t->made[i].len} : behind_header(&t->made[i]);
    tn_buf_put(out, part.ptr, part.len);
  }
  return out->failed ? TN_OOM : TN_OK;
}

tn_status tn_cuda_codegen(tn_cuda_unit *u, const tn_cuda_written *list, uint32_t n, tn_cuda_emit emit,
                          tn_buf *out) {
  long cores = sysconf(_SC_NPROCESSORS_ONLN);
  uint32_t threads = cores < 1 ? 1 : cores > 64 ? 64 : (uint32_t)cores;
  team t = {.u = u, .list = list, .emit = emit};
  t.made = tn_mem_alloc((n + 1) * sizeof *t.made);
  t.machines = tn_mem_alloc(threads * sizeof *t.machines);
  tn_status s = t.made && t.machines ? tn_parallel(threads, n, make_one, &t) : TN_OOM;
  if (s == TN_OK) s = join(&t, n, out);
  for (uint32_t i = 0; t.made && i < n; i++) tn_buf_fini(&t.made[i]);
  for (uint32_t i = 0; t.machines && i < threads; i++)
    if (t.machines[i]) LLVMDisposeTargetMachine(t.machines[i]);
  tn_mem_free(t.made);
  tn_mem_free(t.machines);
  return s;
}
