/* encode_plain.c - the encoders for vectors of 4 floats. */
#define TN_LANES 4
#define TN_ENCODE_NAME tn_encode_plain
#include "ir/quant/encode_main.h"
