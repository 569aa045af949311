/* form.h - what the methods of this folder share. A weight is `items` times `rows` rows of k values (a stack
 * of experts has several items), every item has `nparts` parts of its own, all alike. Rows are made in bands
 * of at most FORM_BAND values, which begin at multiples of 32 rows of an item. */
#ifndef TN_FORM_H
#define TN_FORM_H
#include "frontend/forms/forms.h"
#include "ir/quant/quant.h"

enum { FORM_BAND = 1 << 21 };

typedef struct form_method {
  const char *name;
  tn_status (*check)(tn_form *f); /* sets nparts, checks type and parts */
  tn_status (*make)(tn_form *f, uint64_t item, uint64_t first, uint64_t rows, uint8_t *dst);
} form_method;

struct tn_form {
  tn_form_spec s;
  tn_diags *diags;
  tn_arena arena;
  const form_method *method;
  const tn_quant *q; /* NULL: a plain type */
  uint64_t items, rows, k, row_bytes;
  uint32_t nparts;
  const uint64_t *part_at; /* where each of s.parts begins in s.in */
  /* of the integer methods */
  uint32_t bits, scale_bytes; /* of a code; of a scale, 0: none in the blocks */
  uint64_t group, groups;     /* values that share scale and zero, and how many such groups in a row */
  uint32_t *order;            /* column that comes to each place; NULL: as stored */
  void *state;                /* a method's own, in the arena */
  /* the band in memory */
  uint8_t *band;
  uint64_t band_rows, band_first, band_count; /* at most; in rows over all items */
};

tn_status form_fail(tn_form *f, tn_status s, const char *fmt, ...) TN_PRINTF(3, 4);
bool form_has(const tn_form *f, const char *word);
/* The number of "key=number" in the form; NaN: none. */
double form_number(const tn_form *f, const char *key);

/* Says how many parts an item has, and after it how many bytes each must have. */
tn_status form_parts(tn_form *f, uint32_t nparts);
tn_status form_expect(tn_form *f, uint32_t part, uint64_t rows, uint64_t row_bytes);
/* Reads `rows` rows from row `first` of a part of row_bytes a row: of each, `bytes` bytes from byte `at` on.
 */
tn_status form_strip(tn_form *f, uint64_t item, uint32_t part, uint64_t row_bytes, uint64_t first,
                     uint64_t rows, uint64_t at, uint64_t bytes, void *dst);

/* A band in memory, from which form_band_put makes blocks: codes, zeros and scales of every row. */
typedef struct form_codes {
  uint8_t *codes, *zeros, *scales; /* [rows, k], [rows, groups], [rows, groups, scale_bytes] */
  void *raw;                       /* words as they are in the file */
  uint8_t *line;                   /* k bytes */
} form_codes;
/* raw_bytes: the most that a method reads at once. */
tn_status form_codes_init(tn_form *f, form_codes *b, uint64_t rows, uint64_t raw_bytes);
void form_codes_fini(form_codes *b);
void form_codes_put(const tn_form *f, const form_codes *b, uint64_t rows, uint8_t *dst);
/* Bits, groups and scales of the weight's type. zeros: it has to store some. */
tn_status form_check_type(tn_form *f, bool zeros);

/* blocks.c */
tn_status form_check_blocks(tn_form *f);
tn_status form_blocks(tn_form *f, uint64_t item, uint64_t first, uint64_t rows, uint8_t *dst);
/* ints.c */
tn_status form_check_gptq(tn_form *f), form_check_awq(tn_form *f), form_check_packed(tn_form *f),
    form_check_int8(tn_form *f);
tn_status form_gptq(tn_form *f, uint64_t item, uint64_t first, uint64_t rows, uint8_t *dst);
tn_status form_awq(tn_form *f, uint64_t item, uint64_t first, uint64_t rows, uint8_t *dst);
tn_status form_packed(tn_form *f, uint64_t item, uint64_t first, uint64_t rows, uint8_t *dst);
tn_status form_int8(tn_form *f, uint64_t item, uint64_t first, uint64_t rows, uint8_t *dst);
/* floats.c */
tn_status form_check_fp8(tn_form *f), form_check_mxfp4(tn_form *f), form_check_nvfp4(tn_form *f),
    form_check_bnb4(tn_form *f);
tn_status form_fp8(tn_form *f, uint64_t item, uint64_t first, uint64_t rows, uint8_t *dst);
tn_status form_mxfp4(tn_form *f, uint64_t item, uint64_t first, uint64_t rows, uint8_t *dst);
tn_status form_nvfp4(tn_form *f, uint64_t item, uint64_t first, uint64_t rows, uint8_t *dst);
tn_status form_bnb4(tn_form *f, uint64_t item, uint64_t first, uint64_t rows, uint8_t *dst);
/* vectors.c */
tn_status form_check_vector(tn_form *f), form_check_order(tn_form *f);
tn_status form_reciprocal(tn_form *f, uint64_t item, uint64_t first, uint64_t rows, uint8_t *dst);
tn_status form_over127(tn_form *f, uint64_t item, uint64_t first, uint64_t rows, uint8_t *dst);
tn_status form_order(tn_form *f, uint64_t item, uint64_t first, uint64_t rows, uint8_t *dst);
/* lora.c */
tn_status form_check_lora(tn_form *f);
tn_status form_lora(tn_form *f, uint64_t item, uint64_t first, uint64_t rows, uint8_t *dst);
/* encode.c */
tn_status form_check_encode(tn_form *f);
tn_status form_encode(tn_form *f, uint64_t item, uint64_t first, uint64_t rows, uint8_t *dst);
/* f->order from the groups of the k columns in `part`: stable, each group must have f->group columns. */
tn_status form_read_order(tn_form *f, uint32_t part);

#endif
