/* weight_names.c - weights and tensors are the same where they share bytes of a file. */
#include "tools/quantize/observe/weight_names.h"

uint32_t tn_weight_tensor(const tn_checkpoint *ck, const tn_observed *o, uint32_t i) {
  bool apart = o->experts > 1 && o->nparts == o->experts; /* each expert has its own bytes */
  const tn_part *parts = apart ? o->parts + o->expert : o->parts;
  for (uint32_t t = 0; t < tn_checkpoint_count(ck); t++)
    if (tn_checkpoint_shares(ck, t, parts, apart ? 1 : o->nparts) && !i--) return t;
  return UINT32_MAX;
}
