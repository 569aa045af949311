/* codegen.c - LLVM at work on the parts of a unit. What comes out depends on a part's bitcode and the target
 * alone, never on the thread or on the other parts; so these are also the key under which the cache keeps it.
 */
#include "backends/cpu/compile/codegen.h"
#include <dlfcn.h>
#include <llvm-c/BitReader.h>
#include <llvm-c/Transforms/PassBuilder.h>
#include <stdlib.h>
#include <sys/stat.h>

/* What tidies the straightforward code of the skeletons; loops and vectors are final already. */
#define PASSES "function(early-cse,loop-mssa(licm),early-cse)"

LLVMTargetMachineRef tn_cpu_machine(const char *features, const tn_cpu_isa *isa) {
  char *error = NULL;
  LLVMTargetRef target = NULL;
  if (LLVMGetTargetFromTriple(TN_CPU_TRIPLE, &target, &error)) {
    LLVMDisposeMessage(error);
    return NULL;
  }
  return LLVMCreateTargetMachine(target, TN_CPU_TRIPLE, isa->llvm_cpu, features, LLVMCodeGenLevelDefault,
                                 LLVMRelocPIC, LLVMCodeModelDefault);
}

/* What the code generator is told of the processor: as much as a part needs, so that targets share parts. */
static const char *features_of(const tn_cpu_isa *isa, uint32_t narrow, char room[96]) {
  if (!isa->llvm_plain) return isa->llvm_features;
  snprintf(room, 96, "%s%s%s%s", isa->llvm_plain, narrow & TN_CPU_NARROW_VNNI ? ",+avx512vnni" : "",
           narrow & TN_CPU_NARROW_BF16 ? ",+avx512bf16" : "",
           narrow & TN_CPU_NARROW_AMX ? ",+amx-tile,+amx-bf16,+amx-int8" : "");
  return room;
}

/* One per thread. */
typedef struct worker {
  LLVMTargetMachineRef machines[TN_CPU_NARROW_ALL + 1]; /* made when first needed */
} worker;

typedef struct team {
  tn_cpu_codegen *g;
  worker *workers;
  uint32_t *order; /* the longest parts first, so that threads end together */
  char compiler[256];
} team;

/* ---- the key ------------------------------------------------------------------------------------------- */

/* The version is not all: a distribution's update may keep it. */
static void name_compiler(team *t) {
  unsigned a, b, c;
  Dl_info info;
  struct stat st = {0};
  LLVMGetVersion(&a, &b, &c);
  if (dladdr((const void *)(uintptr_t)LLVMGetVersion, &info) && info.dli_fname) stat(info.dli_fname, &st);
  snprintf(t->compiler, sizeof t->compiler, "%u.%u.%u %lld %lld.%ld " PASSES " %s", a, b, c,
           (long long)st.st_size, (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec, t->g->isa->llvm_cpu);
}

static void key_of(const team *t, const tn_cpu_part *part, char key[65]) {
  char room[96];
  const char *features = features_of(t->g->isa, part->narrow, room);
  tn_sha256 s;
  tn_sha256_init(&s);
  tn_sha256_add(&s, t->compiler, strlen(t->compiler) + 1);
  tn_sha256_add(&s, features, strlen(features) + 1);
  tn_sha256_add(&s, LLVMGetBufferStart(part->bitcode), LLVMGetBufferSize(part->bitcode));
  tn_sha256_hex(&s, key);
}

/* ---- one part ------------------------------------------------------------------------------------------ */

static tn_status failed(const team *t, const char *what, const char *why) {
  return tn_cpu_fail(t->g->c, t->g->m, 0, TN_INTERNAL, "%s: %s", what, why ? why : "LLVM does not say why");
}

static tn_status tidy(const team *t, LLVMModuleRef mod, LLVMTargetMachineRef machine) {
  LLVMPassBuilderOptionsRef o = LLVMCreatePassBuilderOptions();
  LLVMErrorRef e = LLVMRunPasses(mod, PASSES, machine, o);
  LLVMDisposePassBuilderOptions(o);
  if (!e) return TN_OK;
  char *text = LLVMGetErrorMessage(e);
  tn_status s = failed(t, "the generated code cannot be tidied", text);
  LLVMDisposeErrorMessage(text);
  return s;
}

static tn_status write_text(LLVMModuleRef mod, tn_buf *out) {
  char *text = LLVMPrintModuleToString(mod);
  tn_buf_puts(out, text);
  LLVMDisposeMessage(text);
  return out->failed ? TN_OOM : TN_OK;
}

static tn_status write_code(const team *t, LLVMModuleRef mod, LLVMTargetMachineRef machine, tn_buf *out) {
  char *error = NULL;
  LLVMMemoryBufferRef made = NULL;
  LLVMCodeGenFileType kind = t->g->emit == TN_CPU_EMIT_ASM ? LLVMAssemblyFile : LLVMObjectFile;
  if (t->g->emit == TN_CPU_EMIT_LLVM) return write_text(mod, out);
  if (LLVMTargetMachineEmitToMemoryBuffer(machine, mod, kind, &error, &made)) {
    tn_status s = failed(t, "code generation failed", error);
    LLVMDisposeMessage(error);
    return s;
  }
  tn_buf_put(out, LLVMGetBufferStart(made), LLVMGetBufferSize(made));
  LLVMDisposeMemoryBuffer(made);
  return out->failed ? TN_OOM : TN_OK;
}

static tn_status compile(const team *t, LLVMMemoryBufferRef bitcode, LLVMTargetMachineRef machine,
                         tn_buf *out) {
  LLVMContextRef ctx = LLVMContextCreate();
  LLVMModuleRef mod = NULL;
  if (LLVMParseBitcodeInContext2(ctx, bitcode, &mod)) {
    LLVMContextDispose(ctx);
    return failed(t, "the generated code is not valid", "its bitcode cannot be read");
  }
  tn_status s = tidy(t, mod, machine);
  if (s == TN_OK) s = write_code(t, mod, machine, out);
  LLVMDisposeModule(mod);
  LLVMContextDispose(ctx);
  return s;
}

static LLVMTargetMachineRef machine_of(team *t, uint32_t thread, uint32_t narrow) {
  char room[96];
  LLVMTargetMachineRef *m = &t->workers[thread].machines[narrow];
  if (!*m) *m = tn_cpu_machine(features_of(t->g->isa, narrow, room), t->g->isa);
  return *m;
}

static tn_status make_one(void *ctx, uint32_t thread, uint32_t i) {
  team *t = ctx;
  tn_cpu_codegen *g = t->g;
  const tn_cpu_part *part = &g->parts[t->order[i]];
  tn_buf *made = &g->made[t->order[i]];
  bool kept = g->emit == TN_CPU_EMIT_OBJECT && g->cache && g->cache->folder;
  char key[65];
  if (kept) key_of(t, part, key);
  if (kept && tn_ll_cache_get(g->cache, key, made)) {
    __atomic_fetch_add(&g->found, 1, __ATOMIC_RELAXED);
    return TN_OK;
  }
  LLVMTargetMachineRef machine = machine_of(t, thread, part->narrow);
  if (!machine) return failed(t, "LLVM makes no code", g->isa->llvm_cpu);
  TN_TRY(compile(t, part->bitcode, machine, made));
  if (kept) tn_ll_cache_put(g->cache, key, (tn_bytes){made->text, made->len});
  return TN_OK;
}

/* ---- all of them --------------------------------------------------------------------------------------- */

static int by_length(const void *a, const void *b, void *ctx) {
  const tn_cpu_part *parts = ctx;
  uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b;
  size_t x = LLVMGetBufferSize(parts[i].bitcode), y = LLVMGetBufferSize(parts[j].bitcode);
  return x != y ? (x < y ? 1 : -1) : i < j ? -1 : 1;
}

tn_status tn_cpu_codegen_run(tn_cpu_codegen *g) {
  uint32_t threads = tn_processors();
  team t = {.g = g,
            .workers = tn_mem_alloc(threads * sizeof *t.workers),
            .order = tn_mem_alloc((g->nparts + 1) * sizeof *t.order)};
  tn_status s = TN_OOM;
  if (t.workers && t.order) {
    for (uint32_t i = 0; i < g->nparts; i++) t.order[i] = i;
    qsort_r(t.order, g->nparts, sizeof *t.order, by_length, (void *)(uintptr_t)g->parts);
    name_compiler(&t);
    s = tn_parallel(threads, g->nparts, make_one, &t);
    for (uint32_t i = 0; i < threads; i++)
      for (uint32_t k = 0; k <= TN_CPU_NARROW_ALL; k++)
        if (t.workers[i].machines[k]) LLVMDisposeTargetMachine(t.workers[i].machines[k]);
  }
  tn_mem_free(t.workers);
  tn_mem_free(t.order);
  return s;
}
