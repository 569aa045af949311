/* isa.h - what the skeletons know about a processor: one record per target. Skeletons read numbers from it;
 * none of them asks for a name. */
#ifndef TN_CPU_ISA_H
#define TN_CPU_ISA_H
#include "tenon/plugin.h"
#include <stdbool.h>

typedef struct tn_cpu_isa {
  tn_target target;
  const char *llvm_cpu, *llvm_features;
  const char
      *llvm_plain; /* for code without narrow products, so that targets share it; NULL: llvm_features */
  const char *vector_width; /* bits, for the prefer-vector-width attribute */
  uint32_t lanes;           /* f32 lanes of a vector register */
  uint32_t mr;              /* rows of the matmul micro-kernel */
  uint32_t panels;          /* panels of 16 columns it takes at once */
  uint32_t stream_rows;     /* up to so many rows weights only pass through, fetched ahead */
  uint32_t block_rows,
      block_panels; /* rows and panels at once of a weight in a block format passing through */
  bool scalef;      /* AVX-512 scalef */
  bool vnni;        /* AVX512-VNNI: u8 x s8 products, four to a lane */
  bool bf16;        /* AVX512-BF16: bf16 products, two to a lane */
  bool amx;         /* AMX: tiles of bf16 and of 8-bit integers */
} tn_cpu_isa;

/* The module's meta "precision": how products may be computed. */
typedef enum tn_cpu_precision { TN_CPU_STRICT, TN_CPU_HIGH, TN_CPU_FAST } tn_cpu_precision;

/* NULL: no such target. */
const tn_cpu_isa *tn_cpu_isa_by_name(const char *name);
const tn_cpu_isa *tn_cpu_isas(uint32_t *count);
/* Does this machine have every cpuid feature of a comma-separated list? */
bool tn_cpu_has(const char *features);

#define TN_CPU_PANEL 16u /* columns of a weight panel; part of the layout's name */

#endif
