/* quant.h - the block formats of ir/quant/quant.def as data, from which every reader of packed weights is
 * made: the reference dequantiser, the packers and emitters of backends, and the tests.
 *
 * A block of `values` numbers lies in `bytes` bytes. Number i is rebuilt, each step rounded to f32, as
 *     scale * level(code(i))                     without a minimum
 *     scale * level(code(i)) + minimum           m_sign +1
 *     scale * level(code(i)) - minimum           m_sign -1
 * where scale = d, or d * inner scale of its run of `sub` values; minimum = m, or m * inner minimum. */
#ifndef TN_QUANT_H
#define TN_QUANT_H
#include "tenon/ir.h"

/* Some bits of every code. Value i has them in byte at + i / (run * slots) * run + i % run, shifted up by
 * i / run % slots * bits: `run` consecutive values in consecutive bytes, `slots` such runs in the same bytes.
 * A code is the planes' bits, the first plane's lowest. */
typedef struct tn_quant_plane {
  uint16_t at;
  uint8_t bits, run, slots;
} tn_quant_plane;

enum {               /* level(code) */
       TN_QL_INT,    /* code - bias */
       TN_QL_SIGNED, /* the code's bits as two's complement */
       TN_QL_TABLE,  /* table[code] (16 entries) */
       TN_QL_F8E4M3, /* the code's bits as an f8e4m3 number */
       TN_QL_TRITS, /* base 3 fractions, code - bias; a plane is a stretch of run * slots values, the next one
                       follows: value i of it is digit i / run of byte at + i % run: (byte * 3^digit % 256) *
                       3 / 256 */
       TN_QL_GRID   /* codes name rows of a codebook: tn_quant_grid */
};
enum {            /* a stored number */
       TN_QN_ONE, /* 0: not stored: 1 (a scale) */
       TN_QN_F16,
       TN_QN_BF16,
       TN_QN_F32,
       TN_QN_E8M0_HALF, /* u8 e: 2^(e - 128); e 0: 2^-128, e 1: 2^-127 */
       TN_QN_F16_SPLIT  /* f16 in the four high bits of four u16, lowest first */
};
enum { /* inner scales, and minima, of the runs of `sub` values */
       TN_QI_NONE,
       TN_QI_K4,         /* q4_k, q5_k: 12 bytes hold 8 six-bit scales and 8 six-bit minima */
       TN_QI_NIBBLES,    /* q2_k: byte j: low nibble the scale, high nibble the minimum of run j */
       TN_QI_K3,         /* q3_k: 12 bytes hold 16 six-bit scales, less 32 */
       TN_QI_I8,         /* q6_k: one signed byte each */
       TN_QI_IQ4XS,      /* u16 of two high bits each, then low nibbles; less 32 */
       TN_QI_UE4M3_HALF, /* nvfp4: one e4m3 byte each, bit 7 ignored, halved; 0x7f is 0 */
       TN_QI_F16,        /* one f16 each */
       TN_QI_BF16,       /* one bf16 each */
       TN_QI_GRID        /* (2 s + 1) * unit, s by the row's grid */
};

/* Numbers of `bits` bits, little-endian: number j starts at bit at + j / per * stride + j % per * step. */
typedef struct tn_quant_field {
  uint16_t at;
  uint8_t bits, per, step;
  uint16_t stride;
} tn_quant_field;

/* A codebook: value i is (levels[entry i % width of row(i / width)] + delta) * sign. Every row is a u16 of
 * `width` entries, lowest bits first; its number is `low` with `high` above it. */
typedef struct tn_quant_grid {
  const uint16_t *rows;
  const int8_t *levels;
  uint8_t width;            /* 8 entries of 2 bits, or 4 of 4 */
  tn_quant_field low, high; /* per row; bits 0: none */
  tn_quant_field sign;  /* per 8 values: bit i negates value i; bits 7: the eighth makes their number even */
  tn_quant_field scale; /* per `sub` values of the tn_quant */
  tn_quant_field delta; /* per delta_run values: 1: -1/8, 0: +1/8; bits 0: no delta */
  uint8_t delta_run;
  float unit; /* of the inner scale */
} tn_quant_grid;

typedef struct tn_quant {
  const char *name, *doc;
  uint32_t values, bytes;
  tn_quant_plane plane[3]; /* bits 0: unused */
  uint8_t level, bias;
  uint8_t d, m; /* TN_QN_*; m TN_QN_ONE: no minimum unless m_sign says there is an inner one */
  int8_t m_sign;
  uint8_t inner;
  uint16_t d_at, m_at, sub, inner_at;
  const float *table;
  const tn_quant_grid *grid;
  uint16_t
      zero_at; /* stored zeros, subtracted from the code like the bias: number j, of zero_bits bits, starts */
  uint8_t zero_bits; /* at bit 8 * zero_at + j * zero_bits and is of the values of run j of `sub` (0: the
                        block) */
} tn_quant;

/* The row of a block format; NULL: the type is none. */
const tn_quant *tn_quant_of(tn_dtype t);
uint32_t tn_quant_count(void); /* rows are TN_DT_BLOCK .. TN_DT_BLOCK + count - 1 */

/* The code of value i (not for grids); number j of a field; the q->values numbers of a block. */
uint32_t tn_quant_code(const tn_quant *q, const uint8_t *block, uint32_t i);
uint32_t tn_quant_field_get(const tn_quant_field *f, const uint8_t *block, uint32_t j);
void tn_quant_unpack(const tn_quant *q, const uint8_t *block, float *out);

#endif
