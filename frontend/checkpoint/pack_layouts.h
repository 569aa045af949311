/* pack_layouts.h - what the files of the packed layouts share: a matrix of integer blocks seen as codes,
 * zeros and scales, and the functions behind the rows of tn_ck_packs. */
#ifndef TN_CK_PACK_LAYOUTS_H
#define TN_CK_PACK_LAYOUTS_H
#include "frontend/checkpoint/pack.h"
#include "ir/quant/quant.h"

/* A matrix [rows, k] of a type that is codes of `bits` bits, scales and, maybe, zeros of groups. */
typedef struct pack_ints {
  const tn_quant *q;
  tn_dtype scale; /* f16, bf16 or f32 */
  uint32_t bits, scale_bytes;
  uint64_t rows, k, group, groups, row_bytes;
  bool per_row, zeros; /* one scale behind the row's blocks; zeros are stored */
  bool is_signed;      /* codes are two's complement */
} pack_ints;
/* false: the type is no such, or rows are not whole blocks. */
bool pack_ints_of(tn_dtype t, uint64_t rows, uint64_t k, pack_ints *m);
/* Codes of a row, 0 .. 2^bits - 1 from the least value up. */
void pack_ints_codes(const pack_ints *m, const uint8_t *row, uint8_t *codes);
/* Zeros and scales of a row. TN_INVALID: a zero that is no code. */
tn_status pack_ints_zeros(const pack_ints *m, const uint8_t *row, uint8_t *zeros);
void pack_ints_scales(const pack_ints *m, const uint8_t *row, uint8_t *scales);

/* Sets one part; gives the number of parts so far. */
uint32_t pack_part(tn_ck_part_out *parts, uint32_t n, const char *suffix, tn_dtype t, uint32_t rank,
                   const int64_t *shape);
uint32_t pack_matrix(tn_ck_part_out *parts, uint32_t n, const char *suffix, tn_dtype t, uint64_t rows,
                     uint64_t columns);

/* "prefix": ["a", "b"] of module names: those of weights without ".weight". */
void pack_names(tn_buf *out, const char *key, const char *const *names, uint32_t count);

tn_status pack_config_done(const tn_buf *out);

#define PACK_LAYOUT(name)                                                                                    \
  uint32_t name##_parts(tn_dtype t, uint64_t rows, uint64_t k, tn_ck_part_out out[TN_CK_PACK_PARTS]);        \
  tn_status name##_split(tn_dtype t, uint64_t rows, uint64_t k, const uint8_t *blocks, uint32_t part,        \
                         void *out);                                                                         \
  tn_status name##_config(tn_dtype t, const char *const *ignored, uint32_t nignored, tn_buf *out);
PACK_LAYOUT(pack_packed)
PACK_LAYOUT(pack_int8)
PACK_LAYOUT(pack_gptq)
PACK_LAYOUT(pack_awq)
PACK_LAYOUT(pack_f8)
PACK_LAYOUT(pack_mxfp4)
PACK_LAYOUT(pack_nvfp4)
PACK_LAYOUT(pack_oss)
PACK_LAYOUT(pack_bnb4)
#undef PACK_LAYOUT
#endif
