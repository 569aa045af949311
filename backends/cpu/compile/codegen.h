/* codegen.h - from the parts of a unit to one relocatable object: parts are compiled in parallel or found in
 * the cache (codegen.c), then joined (join.c). */
#ifndef TN_CPU_CODEGEN_H
#define TN_CPU_CODEGEN_H
#include "backends/llvm/cache.h"
#include "backends/cpu/kernel.h"
#include "backends/cpu/plugin.h"
#include <llvm-c/TargetMachine.h>

#define TN_CPU_TRIPLE "x86_64-unknown-linux-gnu"
#define TN_CPU_KERNEL_NAME "kernel" /* what a kernel's functions are called in its part, or begin with */

/* NULL: LLVM makes no code for it. */
LLVMTargetMachineRef tn_cpu_machine(const char *features, const tn_cpu_isa *isa);

typedef enum tn_cpu_emit { TN_CPU_EMIT_OBJECT, TN_CPU_EMIT_LLVM, TN_CPU_EMIT_ASM } tn_cpu_emit;

typedef struct tn_cpu_codegen {
  tn_cpu *c;
  tn_module *m; /* for messages */
  const tn_cpu_isa *isa;
  tn_cpu_emit emit;
  const tn_cpu_part *parts;
  uint32_t nparts;
  tn_ll_cache *cache;
  tn_buf *made;   /* one per part: an object or a text; the caller's */
  uint32_t found; /* how many of them the cache had */
} tn_cpu_codegen;
tn_status tn_cpu_codegen_run(tn_cpu_codegen *g);

/* Appends one object with the sections of all: a part's kernel gets its symbol, what parts call of each other
 * is resolved. TN_INTERNAL and words in *why: an object is not what LLVM makes of a part. */
tn_status tn_cpu_join(const tn_cpu_part *parts, const tn_buf *objects, uint32_t n, tn_buf *out,
                      const char **why);

#endif
