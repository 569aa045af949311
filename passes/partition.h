/* partition.h - what `fuse` needs of partition: the choice for ops that came since, and names. */
#ifndef TN_PARTITION_H
#define TN_PARTITION_H
#include "passes/pass.h"

/* Chooses for every op of f that has no backend yet. TN_UNSUPPORTED after all unclaimed ops were reported. */
tn_status tn_partition_func(tn_pass_ctx *c, tn_func f);
/* The same for op alone, for which a backend is sought even if it has one. */
tn_status tn_partition_op(tn_pass_ctx *c, tn_op op);
/* The backend behind an entry of c->assigned; "ref" without backends. */
const char *tn_partition_name(const tn_pass_ctx *c, uint32_t assigned);
#endif
