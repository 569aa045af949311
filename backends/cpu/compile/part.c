/* part.c - a unit's LLVM modules. A kernel is one, a micro-kernel that kernels share is one: each is finished
 * as bitcode, which is all that the rest of the compile sees, so that parts can be compiled in parallel and
 * found in the cache by their content. */
#include "backends/cpu/compile/codegen.h"
#include <llvm-c/Analysis.h>
#include <llvm-c/BitWriter.h>

tn_status tn_cpu_unit_init(tn_cpu_unit *u) {
  tn_arena_init(&u->names);
  tn_map_init(&u->shared);
  TN_TRY(tn_ll_init(&u->e, "tenon", u->isa->lanes));
  u->e.scalef = u->isa->scalef;
  LLVMTargetMachineRef machine = tn_cpu_machine(u->isa->llvm_features, u->isa);
  if (!machine) return TN_INTERNAL;
  LLVMTargetDataRef layout = LLVMCreateTargetDataLayout(machine);
  char *text = LLVMCopyStringRepOfTargetData(layout);
  u->layout = tn_arena_str(&u->names, tn_str_of(text));
  LLVMDisposeMessage(text);
  LLVMDisposeTargetData(layout);
  LLVMDisposeTargetMachine(machine);
  return u->layout ? TN_OK : TN_OOM;
}

void tn_cpu_unit_fini(tn_cpu_unit *u) {
  for (uint32_t i = 0; i < u->parts.count; i++) LLVMDisposeMemoryBuffer(u->parts.items[i].bitcode);
  tn_vec_fini(&u->parts);
  tn_map_fini(&u->shared);
  tn_arena_fini(&u->names);
  tn_ll_fini(&u->e);
}

LLVMModuleRef tn_cpu_part_begin(tn_cpu_unit *u) {
  LLVMModuleRef outer = u->e.mod;
  u->e.mod = LLVMModuleCreateWithNameInContext("tenon", u->e.ctx);
  LLVMSetDataLayout(u->e.mod, u->layout);
  LLVMSetTarget(u->e.mod, TN_CPU_TRIPLE);
  return outer;
}

static bool is_bf16(ll_val v) { return LLVMGetTypeKind(ll_elem(v)) == LLVMBFloatTypeKind; }

/* What the functions of the part ask for that the target's plainer kin lack. */
static uint32_t narrow_in(LLVMModuleRef mod) {
  uint32_t all = 0;
  for (ll_val fn = LLVMGetFirstFunction(mod); fn; fn = LLVMGetNextFunction(fn)) {
    size_t len = 0;
    const char *name = LLVMGetValueName2(fn, &len);
    if (strstr(name, ".vpdp")) all |= TN_CPU_NARROW_VNNI;
    if (strstr(name, "bf16.")) all |= TN_CPU_NARROW_BF16;
    if (!strncmp(name, "llvm.x86.tile", 13)) all |= TN_CPU_NARROW_AMX;
    for (LLVMBasicBlockRef b = LLVMGetFirstBasicBlock(fn); b; b = LLVMGetNextBasicBlock(b))
      for (ll_val i = LLVMGetFirstInstruction(b); i; i = LLVMGetNextInstruction(i))
        if (is_bf16(i)) all |= TN_CPU_NARROW_BF16;
  }
  return all;
}

static bool push(tn_cpu_unit *u, const char *symbol, ll_type type) {
  char *error = NULL;
  if (!u->e.error[0] && LLVMVerifyModule(u->e.mod, LLVMReturnStatusAction, &error))
    tn_ll_fail(&u->e, "the generated code is not valid: %s", error);
  LLVMDisposeMessage(error);
  if (u->e.error[0]) return true; /* nobody will want it */
  tn_cpu_part part = {tn_arena_str(&u->names, tn_str_of(symbol)), type, NULL, narrow_in(u->e.mod)};
  if (!part.symbol || !tn_vec_reserve(&u->parts, u->parts.count + 1)) return false;
  part.bitcode = LLVMWriteBitcodeToMemoryBuffer(u->e.mod);
  return tn_vec_push(&u->parts, part);
}

void tn_cpu_part_end(tn_cpu_unit *u, LLVMModuleRef outer, const char *symbol, ll_type shared) {
  if (!push(u, symbol, shared)) tn_ll_fail(&u->e, "out of memory");
  LLVMDisposeModule(u->e.mod);
  u->e.mod = outer;
}

static ll_val declare(tn_cpu_unit *u, const char *name, ll_type type) {
  ll_val fn = LLVMGetNamedFunction(u->e.mod, name);
  if (fn) return fn;
  fn = LLVMAddFunction(u->e.mod, name, type);
  LLVMSetVisibility(fn, LLVMHiddenVisibility);
  return fn;
}

ll_val tn_cpu_shared_find(tn_cpu_unit *u, const char *name) {
  uint64_t at;
  if (!tn_map_get(&u->shared, tn_str_of(name), &at)) return NULL;
  return declare(u, name, u->parts.items[at].type);
}

tn_cpu_shared tn_cpu_shared_begin(tn_cpu_unit *u) {
  tn_cpu_shared s = {.here = LLVMGetInsertBlock(u->e.b), .fn = u->e.fn};
  s.outer = tn_cpu_part_begin(u);
  return s;
}

ll_val tn_cpu_shared_end(tn_cpu_unit *u, const tn_cpu_shared *s, ll_val fn) {
  ll_type type = LLVMGlobalGetValueType(fn);
  size_t len = 0;
  const char *written = LLVMGetValueName2(fn, &len);
  char *name = tn_arena_str(&u->names, (tn_str){written, len});
  bool twice = false;
  LLVMSetLinkage(fn, LLVMExternalLinkage);
  LLVMSetVisibility(fn, LLVMHiddenVisibility);
  tn_cpu_part_end(u, s->outer, name ? name : "", type);
  u->e.fn = s->fn;
  LLVMPositionBuilderAtEnd(u->e.b, s->here);
  if (!name || !u->parts.count || tn_map_put(&u->shared, tn_str_of(name), u->parts.count - 1, &twice))
    tn_ll_fail(&u->e, "out of memory");
  else if (twice)
    tn_ll_fail(&u->e, "two micro-kernels have the name '%s'", name);
  return declare(u, name ? name : "", type);
}
