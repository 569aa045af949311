/* plugin.h - the plugin's own state, and the functions behind its "tn.backend/1" table. */
#ifndef TN_CPU_PLUGIN_H
#define TN_CPU_PLUGIN_H
#include "backends/cpu/isa.h"
#include "ir/base/base.h"
#include "tenon/ir.h"

typedef struct tn_cpu {
  tn_host host;
  tn_ir ir;
} tn_cpu;

/* Ends every image, behind the ELF object (which a linker does not mind): damage is found before LLVM reads
 * it. */
typedef struct tn_cpu_trailer {
  char magic[8];
  uint64_t hash; /* of the object's bytes, seeded with that of the target's name */
} tn_cpu_trailer;
#define TN_CPU_MAGIC "tn-cpu\0\1"
static inline uint64_t tn_cpu_image_hash(const tn_target *t, const void *object, uint64_t n) {
  return tn_hash_bytes(object, n, tn_hash_bytes(t->name, strlen(t->name), 0));
}

/* Words for an error, then its number: `return tn_cpu_fail(...)`. */
tn_status tn_cpu_fail(tn_cpu *c, tn_module *m, tn_loc loc, tn_status status, const char *fmt, ...)
    TN_PRINTF(5, 6);

/* plugin.c */
tn_cpu_precision tn_cpu_precision_of(const tn_ir *ir, tn_module *m);

/* claim.c */
uint32_t tn_cpu_claim(void *self, const tn_target *t, tn_module *m, tn_op op, const char **why);
uint32_t tn_cpu_fuse(void *self, const tn_target *t, tn_module *m, tn_op root, tn_op op, uint32_t role);
/* pack.c */
const char *tn_cpu_layout(void *self, tn_module *m, tn_weight w, uint64_t *bytes);
tn_status tn_cpu_pack(void *self, tn_module *m, tn_weight w, const char *layout, const tn_reader *in,
                      const tn_writer *out);
/* pack_window.c: the same for weights of convolutions; NULL: not one. */
const char *tn_cpu_window_layout(tn_cpu *c, tn_module *m, tn_weight weight, uint64_t *bytes);
tn_status tn_cpu_window_pack(tn_cpu *c, tn_module *m, tn_weight weight, const tn_reader *in,
                             const tn_writer *out);
/* compile.c; options: emit = object (default), llvm or asm: what the image is;
 * cache = the folder of the object cache (cache.h), none without it */
tn_status tn_cpu_compile(void *self, const tn_target *t, tn_module *m, const tn_options *o,
                         const tn_package_sink *out);
/* exec.c */
tn_status tn_cpu_runs_here(void *self, const tn_target *t);
tn_status tn_cpu_load(void *self, const tn_target *t, tn_bytes image, tn_exec **out);
tn_status tn_cpu_kernel_lookup(tn_exec *x, const char *symbol, tn_kernel_fn *fn, void **ctx);
void tn_cpu_unload(tn_exec *x);

#endif
