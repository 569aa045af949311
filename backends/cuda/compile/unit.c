/* unit.c - one LLVM context per target; each kernel is written into a module of its own, kept as bitcode. */
#include "backends/cuda/compile/unit.h"
#include <llvm-c/Analysis.h>
#include <llvm-c/BitWriter.h>
#include <stdio.h>

#define TRIPLE "nvptx64-nvidia-cuda"

LLVMTargetMachineRef tn_cuda_machine(const tn_cuda_target *t) {
  char *error = NULL, features[16];
  LLVMTargetRef target = NULL;
  if (LLVMGetTargetFromTriple(TRIPLE, &target, &error)) {
    LLVMDisposeMessage(error);
    return NULL;
  }
  snprintf(features, sizeof features, "+ptx%u", t->ptx);
  return LLVMCreateTargetMachine(target, TRIPLE, t->cpu, features, LLVMCodeGenLevelAggressive,
                                 LLVMRelocDefault, LLVMCodeModelDefault);
}

tn_status tn_cuda_unit_init(tn_cuda_unit *u) {
  u->ir = &u->c->ir;
  TN_TRY(tn_ll_init(&u->e, "none", 4));
  u->machine = tn_cuda_machine(u->target);
  return u->machine ? TN_OK : TN_INTERNAL;
}

void tn_cuda_unit_fini(tn_cuda_unit *u) {
  if (u->machine) LLVMDisposeTargetMachine(u->machine);
  tn_ll_fini(&u->e);
}

/* Names of a kernel's own data begin with its symbol: all kernels end up in one text. */
static void name_globals(LLVMModuleRef mod, const char *symbol) {
  char name[256];
  unsigned n = 0;
  for (ll_val g = LLVMGetFirstGlobal(mod); g; g = LLVMGetNextGlobal(g)) {
    if (LLVMIsDeclaration(g)) continue;
    snprintf(name, sizeof name, "%.200s_data_%u", symbol, n++);
    LLVMSetValueName2(g, name, strlen(name));
    LLVMSetLinkage(g, LLVMInternalLinkage);
  }
}

static tn_status check(tn_cuda_unit *u, tn_op op, const char *symbol) {
  tn_loc loc = u->ir->op_loc(u->m, op);
  if (u->e.error[0])
    return tn_cuda_fail(u->c, u->m, loc, TN_UNSUPPORTED, "kernel '%s': %s", symbol, u->e.error);
  char *why = NULL;
  tn_status s = TN_OK;
  if (LLVMVerifyModule(u->e.mod, LLVMReturnStatusAction, &why))
    s = tn_cuda_fail(u->c, u->m, loc, TN_INTERNAL, "kernel '%s': the generated code is not valid: %.300s",
                     symbol, why);
  LLVMDisposeMessage(why);
  return s;
}

static tn_status take(tn_cuda_kernel *k, tn_arena *arena, tn_cuda_written *w) {
  memcpy(w->syms, k->body.syms, sizeof w->syms);
  w->nsyms = k->body.nsyms;
  w->nbufs = k->u->ir->op_noperands(k->u->m, k->op) + k->nyields;
  w->scratch = k->scratch_bytes;
  w->nlaunches = k->nlaunches;
  w->launches = tn_arena_copy(arena, k->launches, k->nlaunches * sizeof *w->launches);
  return w->launches ? TN_OK : TN_OOM;
}

tn_status tn_cuda_unit_write(tn_cuda_unit *u, tn_op op, tn_arena *arena, tn_cuda_written *w) {
  tn_cuda_kernel *k = tn_mem_alloc(sizeof *k);
  if (!k || !w->symbol) {
    tn_mem_free(k);
    return TN_OOM;
  }
  LLVMModuleRef outer = u->e.mod;
  LLVMTargetDataRef layout = LLVMCreateTargetDataLayout(u->machine);
  u->e.mod = LLVMModuleCreateWithNameInContext(w->symbol, u->e.ctx);
  LLVMSetTarget(u->e.mod, TRIPLE);
  LLVMSetModuleDataLayout(u->e.mod, layout);
  LLVMDisposeTargetData(layout);
  k->arena = arena;
  tn_cuda_kernel_emit(k, u, op, w->symbol);
  tn_status s = check(u, op, w->symbol);
  if (s == TN_OK) s = take(k, arena, w);
  if (s == TN_OK) {
    name_globals(u->e.mod, w->symbol);
    w->bitcode = LLVMWriteBitcodeToMemoryBuffer(u->e.mod);
  }
  tn_cuda_kernel_fini(k);
  tn_mem_free(k);
  LLVMDisposeModule(u->e.mod);
  u->e.mod = outer;
  return s;
}
