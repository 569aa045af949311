/* elf.h - the two small things the link step does to ELF relocatable objects itself, so that a user needs a
 * linker but neither compiler nor objcopy: giving an object's symbols a prefix, and writing the object with
 * the kernel tables. */
#ifndef TN_ELF_H
#define TN_ELF_H
#include "tools/driver/link.h"

/* Appends a copy of `object` whose defined global symbols are hidden and begin with `prefix`. Only x86-64
 * objects. Checks for every name in `needed` that the object defines it. `name` stands in messages. */
tn_status tn_elf_rename(tn_bytes object, const char *prefix, const char *const *needed, uint32_t nneeded,
                        const char *name, tn_buf *out, tn_diags *diags);

/* The prefix of the symbols that come from one object of a target: "avx2." or "avx2.1.". */
void tn_elf_prefix(const tn_link_target *t, uint32_t object, tn_buf *out);

/* Appends an object that defines tn_kernel_tables (backends/runtime/runtime.h) for nkernels kernels per
 * target, tn_device_packages, and tn_artefact_id. */
tn_status tn_elf_tables(const tn_link_target *targets, uint32_t ntargets, uint32_t nkernels,
                        const tn_link_device *device, uint64_t id, tn_buf *out);

#endif
