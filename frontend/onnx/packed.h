/* packed.h - tensors of the model that stay as they lie in their file: bytes read as another type, and packed
 * matrices as weights of block types, which are made row by row while they stream (frontend/forms). */
#ifndef TN_ONNX_PACKED_H
#define TN_ONNX_PACKED_H
#include "frontend/onnx/lower.h"

/* A constant or weight's bytes as a tensor of another type and shape; refuses the node for other values. */
tn_value tn_ox_same_bytes(tn_ox *x, tn_ox_node *n, tn_value v, tn_dtype t, const int64_t *dims,
                          uint32_t rank);

enum { TN_OX_LINEAR, TN_OX_NF4, TN_OX_BNB_FP4 };
typedef struct tn_ox_packing {
  tn_value codes, scales, zeros; /* zeros 0: see is_signed and zero */
  int64_t rows, columns;         /* of the matrix; products run over columns */
  int64_t group;                 /* columns that share a scale */
  int64_t items;                 /* more than 1: the result is [items, rows / items, columns] */
  uint32_t bits;
  uint32_t levels;       /* TN_OX_* */
  bool is_signed;        /* codes, and zeros, are two's complement */
  bool turned;           /* codes lie as [columns, rows], scales and zeros as [groups, rows] */
  bool zero_rows_padded; /* every row of zeros begins with a byte of its own */
  bool has_zero;         /* all zeros are `zero`; else, without zeros, they are in the middle of the codes */
  int64_t zero;
} tn_ox_packing;
/* The matrix as a weight; 0: no block type fits, or the parts do not lie in files. Never fails the node. */
tn_value tn_ox_pack(tn_ox *x, const tn_ox_packing *p);
/* Columns [from, to) of the codes without their scales: code - zero, where zero is one number. from 0 and to
 * columns unless turned. */
tn_value tn_ox_pack_codes(tn_ox *x, const tn_ox_packing *p, int64_t from, int64_t to);
/* The one number that all elements of a constant of 8 or 4 bits are, as codes without a sign would be in
 * p->bits; 0 of them: the middle. False: they differ, or are not known. */
bool tn_ox_one_zero(tn_ox *x, tn_value zeros, tn_ox_packing *p);

/* A matrix that was rebuilt from constants, so that products can take it packed. Rows, columns and `turned`
 * depend on the product. */
typedef struct tn_ox_rebuilt {
  tn_ox_packing p; /* group 0: one scale for each place of `axis`, or one for all */
  int64_t axis;    /* that scales belong to; -1: one for all */
} tn_ox_rebuilt;
void tn_ox_note_rebuilt(tn_ox *x, tn_value v, const tn_ox_rebuilt *r);
const tn_ox_rebuilt *tn_ox_noted_rebuilt(tn_ox *x, tn_value v); /* NULL: none */

#endif
