/* weight_names.h - what the weights of an imported model are called in a checkpoint: found by where their
 * bytes lie, since names differ between formats and pages. */
#ifndef TN_WEIGHT_NAMES_H
#define TN_WEIGHT_NAMES_H
#include "frontend/checkpoint/checkpoint.h"
#include "tools/quantize/observe/observe.h"

/* The i-th tensor of ck that has bytes of what was observed; UINT32_MAX: no more. */
uint32_t tn_weight_tensor(const tn_checkpoint *ck, const tn_observed *o, uint32_t i);
#endif
