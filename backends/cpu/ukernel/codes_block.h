/* codes_block.h - the codes of a packed block format as bytes, four to a lane: what integer products take.
 *
 * Lane r of vector i of a step (32 values) holds the codes of four values of row r, unsigned bytes. Which
 * four is up to how the format's bytes lie, the same in every step; rows of activations are put into that
 * order once, so that nothing has to be moved where weights pass by. */
#ifndef TN_CPU_CODES_BLOCK_H
#define TN_CPU_CODES_BLOCK_H
#include "backends/cpu/ukernel/ukernel_block.h"

/* level = (code - bias) / unit */
typedef struct tn_cpu_codes {
  uint32_t max; /* the largest code */
  int32_t bias;
  float unit;
  uint8_t order[TN_CPU_STEP]; /* vector i of a step holds the values order[4 i .. 4 i + 4) of it */
} tn_cpu_codes;

/* How the levels of a format are codes of 8 bits; false: they are not. */
bool tn_cpu_codes_of(const tn_quant *q, tn_cpu_codes *c);
/* Vector i (< 8) of the step, i32 lanes. Vectors are cheapest when asked for one after the other. */
ll_val tn_cpu_codes_vector(tn_cpu_lanes *l, const tn_cpu_codes *c, uint32_t i);
/* Puts the bytes of a prepared row (rows_int.h) into the codes' order; nothing is written if it is theirs. */
void tn_cpu_codes_arrange(tn_cpu_kernel *k, const tn_cpu_codes *c, ll_val q, ll_val depth);

#endif
