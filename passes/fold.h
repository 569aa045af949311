/* fold.h - the parts of the pass fold that have files of their own. Each gives the value that op's result can
 * be replaced by, built in front of op, or 0. */
#ifndef TN_FOLD_H
#define TN_FOLD_H
#include "passes/rw.h"

/* A part of a concat, for gather and slice. */
tn_value tn_fold_piece(tn_module *m, tn_op op);
/* One value, spread. *scalar: the op that computes it from constants. */
tn_value tn_fold_uniform(tn_module *m, tn_op op, tn_op *scalar);
#endif
