/* ukernel_block.h - levels of a packed block format, 16 rows at a time: what the two writers of
 * ukernel_block.c share with level_block.c. Private to these files. */
#ifndef TN_CPU_UKERNEL_BLOCK_H
#define TN_CPU_UKERNEL_BLOCK_H
#include "backends/cpu/ukernel.h"
#include "backends/llvm/block.h"

#define TN_CPU_STEP 32u /* values that are written out side by side; blocks are whole steps */
#define TN_CPU_BLOCK_VECTORS 8

/* The 16 blocks being read of each panel, and the step in them. */
typedef struct tn_cpu_blocks {
  tn_cpu_kernel *k;
  tn_ll *e;
  const tn_quant *q;
  uint32_t panels, per; /* per: vectors of a panel */
  bool fixed;           /* steps are written one by one, at known places */
  ll_val group[8];      /* per panel */
  ll_val step;          /* i64; known if fixed */
  /* codebooks: what was read last, of 8 values or fewer */
  uint32_t row_of, signs_of, delta_of;
  ll_val row[TN_CPU_BLOCK_VECTORS], signs[TN_CPU_BLOCK_VECTORS], delta[TN_CPU_BLOCK_VECTORS];
} tn_cpu_blocks;

/* Bytes of the 16 blocks of panel p as vector v of its rows. */
typedef struct tn_cpu_lanes {
  tn_cpu_blocks *b;
  uint32_t panel, vec;
} tn_cpu_lanes;
tn_block_reader tn_cpu_lanes_reader(tn_cpu_lanes *l);

/* Can steps be a loop? Otherwise they must be written out. */
bool tn_cpu_block_loops(const tn_quant *q);
/* Levels come as level * 2^shift: the shift of value t of a step. */
uint32_t tn_cpu_level_shift(const tn_quant *q, uint32_t t);
/* What is still to be subtracted from a level. */
uint32_t tn_cpu_level_bias(const tn_quant *q);
/* The level of value t of the step, f32. */
ll_val tn_cpu_level(tn_cpu_lanes *l, uint32_t t);
/* Forgets what was read: at the start of every step. */
void tn_cpu_level_forget(tn_cpu_blocks *b);
/* The values of a step in the order in which their bytes are read. */
void tn_cpu_level_order(const tn_quant *q, uint32_t first, uint32_t count, uint32_t *order);

#endif
