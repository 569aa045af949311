/* compile.c - from the kernel ops of a module to one relocatable object. Kernels with the same text are
 * written once, in the order of their first op, so the same module gives the same bytes. */
#include "backends/cpu/key.h"
#include "backends/cpu/kernel.h"
#include "backends/cpu/plugin.h"
#include <llvm-c/Analysis.h>
#include <llvm-c/TargetMachine.h>
#include <llvm-c/Transforms/PassBuilder.h>
#include <stdio.h>
#include <stdlib.h>

/* What tidies the straightforward code of the skeletons; loops and vectors are final already. */
#define PASSES "function(early-cse,loop-mssa(licm),early-cse)"

/* A function written: shared by all kernel ops with the same key. */
typedef struct written {
  char *symbol;
  tn_dim syms[TN_LL_MAX_SYMS];
  uint32_t nsyms;
  tn_dim scratch;
} written;

typedef struct job {
  tn_cpu *c;
  tn_module *m;
  tn_cpu_unit unit;
  tn_arena arena;
  tn_map keys; /* key text -> position in `functions` */
  TN_VEC(tn_op) ops;
  TN_VEC(written) functions;
  LLVMTargetMachineRef machine;
} job;

static int by_id(const void *a, const void *b) {
  tn_op x = *(const tn_op *)a, y = *(const tn_op *)b;
  return x < y ? -1 : x > y;
}
static tn_status collect(job *j) {
  const tn_ir *ir = &j->c->ir;
  for (tn_func f = 1; f <= ir->func_count(j->m); f++)
    for (tn_op op = ir->first_op(j->m, f, 0); op; op = ir->next_op(j->m, op)) {
      tn_attr backend = {0};
      if (strcmp(ir->opcode_name(ir->opcode(j->m, op)), "kernel")) continue;
      if (!ir->op_attr(j->m, op, "backend", &backend) || strcmp(backend.u.s, "cpu")) continue;
      if (!tn_vec_push(&j->ops, op)) return TN_OOM;
    }
  if (j->ops.count) qsort(j->ops.items, j->ops.count, sizeof(tn_op), by_id);
  return TN_OK;
}

static tn_status write_kernel(job *j, tn_op op, written *w) {
  tn_attr root = {0};
  j->c->ir.op_attr(j->m, op, "root", &root);
  w->symbol = tn_arena_printf(&j->arena, "tn_%s_%s_%u", j->unit.isa->target.name,
                              root.u.s && *root.u.s ? root.u.s : "loop", j->functions.count);
  tn_cpu_kernel *k = tn_mem_alloc(sizeof *k);
  if (!k || !w->symbol) {
    tn_mem_free(k);
    return TN_OOM;
  }
  tn_cpu_kernel_emit(k, &j->unit, op, w->symbol);
  memcpy(w->syms, k->body.syms, sizeof w->syms);
  w->nsyms = k->body.nsyms;
  w->scratch = k->scratch_bytes;
  tn_cpu_kernel_fini(k);
  tn_mem_free(k);
  if (!j->unit.e.error[0]) return TN_OK;
  return tn_cpu_fail(j->c, j->m, j->c->ir.op_loc(j->m, op), TN_UNSUPPORTED, "kernel '%s': %s", w->symbol,
                     j->unit.e.error);
}

/* The function of a kernel op, written now if its text is new. */
static tn_status function_of(job *j, tn_op op, uint64_t *at) {
  tn_buf key = {0};
  tn_cpu_key(&j->c->ir, j->m, op, &key);
  tn_status r = key.failed ? TN_OOM : TN_OK;
  if (r == TN_OK && !tn_map_get(&j->keys, (tn_str){key.text, key.len}, at)) {
    written w = {0};
    *at = j->functions.count;
    r = write_kernel(j, op, &w);
    if (r == TN_OK) r = tn_map_put(&j->keys, (tn_str){key.text, key.len}, *at, NULL);
    if (r == TN_OK && !tn_vec_push(&j->functions, w)) r = TN_OOM;
  }
  tn_buf_fini(&key);
  return r;
}

static tn_status write_all(job *j, const tn_package_sink *out) {
  for (uint32_t i = 0; i < j->ops.count; i++) {
    uint64_t at = 0;
    TN_TRY(function_of(j, j->ops.items[i], &at));
    const written *w = &j->functions.items[at];
    tn_kernel_info info = {.size = sizeof info,
                           .op = j->ops.items[i],
                           .symbol = w->symbol,
                           .dims = w->syms,
                           .ndims = w->nsyms,
                           .scratch = w->scratch};
    TN_TRY(out->kernel(out->ctx, &info));
  }
  return TN_OK;
}

static tn_status make_machine(job *j) {
  char *error = NULL;
  LLVMTargetRef target = NULL;
  const char *triple = "x86_64-unknown-linux-gnu";
  if (LLVMGetTargetFromTriple(triple, &target, &error)) {
    tn_cpu_fail(j->c, j->m, 0, TN_INTERNAL, "LLVM knows no target '%s': %s", triple, error);
    LLVMDisposeMessage(error);
    return TN_INTERNAL;
  }
  const tn_cpu_isa *isa = j->unit.isa;
  j->machine = LLVMCreateTargetMachine(target, triple, isa->llvm_cpu, isa->llvm_features,
                                       LLVMCodeGenLevelDefault, LLVMRelocPIC, LLVMCodeModelDefault);
  if (!j->machine)
    return tn_cpu_fail(j->c, j->m, 0, TN_INTERNAL, "LLVM makes no code for '%s'", isa->llvm_cpu);
  LLVMTargetDataRef layout = LLVMCreateTargetDataLayout(j->machine);
  LLVMSetModuleDataLayout(j->unit.e.mod, layout);
  LLVMDisposeTargetData(layout);
  LLVMSetTarget(j->unit.e.mod, triple);
  return TN_OK;
}

static tn_status check_and_tidy(job *j) {
  char *error = NULL;
  if (LLVMVerifyModule(j->unit.e.mod, LLVMReturnStatusAction, &error)) {
    tn_cpu_fail(j->c, j->m, 0, TN_INTERNAL, "the generated code is not valid: %s", error);
    LLVMDisposeMessage(error);
    return TN_INTERNAL;
  }
  LLVMDisposeMessage(error);
  LLVMPassBuilderOptionsRef o = LLVMCreatePassBuilderOptions();
  LLVMErrorRef e = LLVMRunPasses(j->unit.e.mod, PASSES, j->machine, o);
  LLVMDisposePassBuilderOptions(o);
  if (!e) return TN_OK;
  char *text = LLVMGetErrorMessage(e);
  tn_cpu_fail(j->c, j->m, 0, TN_INTERNAL, "the generated code cannot be tidied: %s", text);
  LLVMDisposeErrorMessage(text);
  return TN_INTERNAL;
}

static tn_status put_text(job *j, const tn_package_sink *out) {
  char *text = LLVMPrintModuleToString(j->unit.e.mod);
  tn_status r = out->image(out->ctx, (tn_bytes){text, strlen(text)});
  LLVMDisposeMessage(text);
  return r;
}

/* The object and its trailer, as one stretch of bytes. */
static tn_status put_object(job *j, const void *object, uint64_t n, const tn_package_sink *out) {
  const tn_target *t = &j->unit.isa->target;
  tn_cpu_trailer end = {.hash = tn_cpu_image_hash(t, object, n)};
  memcpy(end.magic, TN_CPU_MAGIC, sizeof end.magic);
  tn_buf image = {0};
  tn_buf_put(&image, object, n);
  tn_buf_put(&image, &end, sizeof end);
  tn_status r = image.failed ? TN_OOM : out->image(out->ctx, (tn_bytes){image.text, image.len});
  tn_buf_fini(&image);
  return r;
}

static tn_status put_image(job *j, const char *emit, const tn_package_sink *out) {
  if (!strcmp(emit, "llvm")) return put_text(j, out);
  char *error = NULL;
  LLVMMemoryBufferRef made = NULL;
  bool text = !strcmp(emit, "asm");
  LLVMCodeGenFileType kind = text ? LLVMAssemblyFile : LLVMObjectFile;
  if (LLVMTargetMachineEmitToMemoryBuffer(j->machine, j->unit.e.mod, kind, &error, &made)) {
    tn_cpu_fail(j->c, j->m, 0, TN_INTERNAL, "code generation failed: %s", error);
    LLVMDisposeMessage(error);
    return TN_INTERNAL;
  }
  tn_bytes bytes = {LLVMGetBufferStart(made), LLVMGetBufferSize(made)};
  tn_status r = text ? out->image(out->ctx, bytes) : put_object(j, bytes.ptr, bytes.len, out);
  LLVMDisposeMemoryBuffer(made);
  return r;
}

static tn_status run(job *j, const tn_target *t, const tn_options *o, const tn_package_sink *out) {
  static const char *const kinds[] = {"object", "llvm", "asm"};
  const char *emit = o && j->c->host.option ? j->c->host.option(o, "emit") : NULL;
  bool known = !emit;
  for (size_t i = 0; i < TN_COUNT(kinds); i++) known |= emit && !strcmp(emit, kinds[i]);
  if (!known)
    return tn_cpu_fail(j->c, j->m, 0, TN_INVALID, "option emit is '%s', wants object, llvm or asm", emit);
  j->unit.isa = tn_cpu_isa_by_name(t->name);
  if (!j->unit.isa) return tn_cpu_fail(j->c, j->m, 0, TN_INVALID, "there is no cpu target '%s'", t->name);
  TN_TRY(tn_ll_init(&j->unit.e, "kernels", j->unit.isa->lanes));
  j->unit.e.scalef = j->unit.isa->scalef;
  j->unit.precision = tn_cpu_precision_of(&j->c->ir, j->m);
  static const char zeros[512] = {0};
  j->unit.zeros = ll_global(&j->unit.e, "zeros", zeros, sizeof zeros);
  TN_TRY(make_machine(j));
  TN_TRY(collect(j));
  TN_TRY(write_all(j, out));
  TN_TRY(check_and_tidy(j));
  return put_image(j, emit ? emit : "object", out);
}

tn_status tn_cpu_compile(void *self, const tn_target *t, tn_module *m, const tn_options *o,
                         const tn_package_sink *out) {
  tn_cpu *c = self;
  job *j = tn_mem_alloc(sizeof *j);
  if (!j) return TN_OOM;
  j->c = c;
  j->m = m;
  j->unit.ir = &c->ir;
  j->unit.m = m;
  tn_arena_init(&j->arena);
  tn_map_init(&j->keys);
  tn_status r = run(j, t, o, out);
  if (r == TN_OOM) tn_cpu_fail(c, m, 0, TN_OOM, "no memory to compile the kernels");
  if (j->machine) LLVMDisposeTargetMachine(j->machine);
  tn_ll_fini(&j->unit.e);
  tn_vec_fini(&j->ops);
  tn_vec_fini(&j->functions);
  tn_map_fini(&j->keys);
  tn_arena_fini(&j->arena);
  tn_mem_free(j);
  return r;
}
