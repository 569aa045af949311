/* encode_isa.h - what the parts of the encoders share: the job of encoding a run of blocks, done by one of
 * several builds of the same code for wider vectors, and the blocks that it hands to the packer. All builds
 * give the same bytes: a block is worked on in one lane of a vector, in the same order of operations. */
#ifndef TN_ENCODE_ISA_H
#define TN_ENCODE_ISA_H
#include "ir/quant/quant.h"
#include <stdbool.h>

/* Blocks first .. first + count of x, which is row-major with `columns` numbers in a row. */
typedef struct tn_encode_job {
  const tn_quant *q;
  const float *x;
  const float *weights; /* [columns], mean 1, positive; NULL: all the same */
  uint64_t columns, first, count;
  uint8_t *out; /* of block 0 */
} tn_encode_job;

typedef void (*tn_encode_fn)(const tn_encode_job *job);
void tn_encode_plain(const tn_encode_job *job);
void tn_encode_avx2(const tn_encode_job *job);
void tn_encode_avx512(const tn_encode_job *job);

/* Builds that this machine runs, narrowest first; NULL past the last. */
tn_encode_fn tn_encode_build(uint32_t i, const char **name);

/* How the numbers of a format are searched for. */
typedef enum tn_encode_family {
  TN_EF_ROUND,  /* no scale in the block: codes are rounded numbers */
  TN_EF_SCALE,  /* one scale */
  TN_EF_AFFINE, /* one scale and a minimum */
  TN_EF_ZERO,   /* a scale and a whole zero per run */
  TN_EF_SCALES, /* a scale of scales */
  TN_EF_MINIMA, /* a scale of scales and one of minima */
  TN_EF_GRID    /* rows of a codebook */
} tn_encode_family;
tn_encode_family tn_encode_family_of(const tn_quant *q);

/* A block with its numbers found: codes as tn_quant_code gives them, d, m, inner scales and minima as the
 * reader of the format rebuilds them (scales and d representable), zeros as whole numbers. */
typedef struct tn_encoded {
  uint8_t code[256];
  float d, m, scale[16], minimum[16];
  uint8_t zero[16];
  uint16_t row[64]; /* of grids: rows, signs of 8 values, deltas of rows; scales are the stored numbers */
  uint8_t sign[32], delta[64];
} tn_encoded;
void tn_encode_pack(const tn_quant *q, const tn_encoded *e, uint8_t *block);

/* The nearest number that a TN_QN_* (or the inner scale of nvfp4, f16 and bf16) stores; finite, not NaN. */
float tn_encode_number(uint8_t kind, float x);
float tn_encode_inner(uint8_t inner, float x);

/* Writes the low `bits` bits of v at bit `at` of a block that is zero there. */
void tn_encode_bits(uint8_t *block, uint32_t at, uint32_t bits, uint32_t v);

#endif
