/* encode.h - plain numbers into the block formats of ir/quant/quant.def: the other way round from
 * tn_quant_unpack.
 *
 * An encoder searches for the codes and scales with the least error: the sum over a row of weight(column) *
 * (x - rebuilt)^2. The weights come from an importance matrix (mean squared activation per input column),
 * none of them below a small part of their mean, so that the plain error stays near its least too; without
 * one all are 1. Codes are tried at many scales, the best scale for given codes is least squares, and the
 * scales of a block's runs are settled together with the scale that they share. q8_0 and s8_* are rounded as
 * every other writer does it. The same input gives the same bytes on every machine and for any number of
 * threads. A call works on up to 16 blocks at a time: a few rows of a small matrix at once are cheaper than
 * one. */
#ifndef TN_ENCODE_H
#define TN_ENCODE_H
#include "ir/quant/quant.h"
#include <stdbool.h>

/* Whether there is an encoder for the type; for plain types f32, f16, bf16, f8e4m3 and f8e5m2 too. */
bool tn_encode_can(tn_dtype t);
/* Whether it is of use only with an importance matrix (the formats of 2 bits and fewer with codebooks). */
bool tn_encode_wants_importance(tn_dtype t);

/* Bytes of a row; 0: columns is no multiple of the block. */
uint64_t tn_encode_row_bytes(tn_dtype t, uint64_t columns);

/* Encodes rows * columns numbers, row-major. NAME_row formats, whose scale is outside: the numbers divided by
 * it. importance: [columns], not negative, the same for every row;
 * NULL: none. out: rows * tn_encode_row_bytes bytes. Rows are independent: callers spread them over threads.
 * Numbers that are not finite are TN_INVALID (*bad: index of the first; may be NULL). TN_UNSUPPORTED: no such
 * encoder, or wrong columns. */
tn_status tn_encode_rows(tn_dtype t, const float *x, uint64_t rows, uint64_t columns, const float *importance,
                         uint8_t *out, uint64_t *bad);

#endif
