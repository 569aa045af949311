/* recover.h - the part of the pass recover that has a file of its own. */
#ifndef TN_RECOVER_H
#define TN_RECOVER_H
#include "passes/rw.h"

/* Reports, after the rules have run, what looks like a norm or GELU and matched none. */
void tn_recover_misses(tn_pass_ctx *c);
#endif
