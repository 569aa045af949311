/* quant_grid.h - the codebooks of the iq1, iq2 and iq3 formats and where their blocks keep row numbers, signs
 * and scales. For ir/quant/quant.c. */
#ifndef TN_QUANT_GRID_H
#define TN_QUANT_GRID_H
#include "ir/quant/quant.h"

extern const tn_quant_grid tn_quant_iq2_xxs, tn_quant_iq2_xs, tn_quant_iq2_s, tn_quant_iq3_xxs,
    tn_quant_iq3_s, tn_quant_iq1_s, tn_quant_iq1_m;

#endif
