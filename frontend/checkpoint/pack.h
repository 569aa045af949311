/* pack.h - block formats as the tensors of packed safetensors checkpoints: the other way round from
 * frontend/forms. A matrix NAME.weight in blocks becomes NAME.weight_packed, NAME.weight_scale ... and
 * config.json gets the quantization_config that says so. */
#ifndef TN_CK_PACK_H
#define TN_CK_PACK_H
#include "frontend/checkpoint/checkpoint.h"

typedef struct tn_ck_part_out {
  const char *suffix; /* replaces "weight" at the name's end */
  tn_dtype dtype;
  uint32_t rank;
  int64_t shape[TN_MAX_RANK];
} tn_ck_part_out;
enum { TN_CK_PACK_PARTS = 6 };

/* One layout of published checkpoints; tn_ck_packs lists them. `blocks` are rows as tn_ck_pack_encode makes
 * them, each of tn_ck_pack_row_bytes. */
typedef struct tn_ck_pack {
  const char *name, *doc;
  /* Tensors that a matrix [rows, columns] of the type becomes; 0: this layout has no place for it. */
  uint32_t (*parts)(tn_dtype t, uint64_t rows, uint64_t columns, tn_ck_part_out out[TN_CK_PACK_PARTS]);
  /* The bytes of part `part` out of all rows' blocks. */
  tn_status (*split)(tn_dtype t, uint64_t rows, uint64_t columns, const uint8_t *blocks, uint32_t part,
                     void *out);
  /* quantization_config as JSON. `types`: of all tensors; `ignored`: names of products that stayed plain. */
  tn_status (*config)(tn_dtype t, const char *const *ignored, uint32_t nignored, tn_buf *out);
} tn_ck_pack;

/* Rows for packs: as tn_encode_rows makes them, but rows of the NAME_row types, whose blocks have no scale,
 * end with it (f32), and are encoded here with the scale that has the least error. */
uint64_t tn_ck_pack_row_bytes(tn_dtype t, uint64_t columns); /* 0: columns is no multiple of the block */
tn_status tn_ck_pack_encode(tn_dtype t, const float *x, uint64_t rows, uint64_t columns,
                            const float *importance, uint8_t *out, uint64_t *bad);

extern const tn_ck_pack tn_ck_packs[];
extern const uint32_t tn_ck_pack_count;
const tn_ck_pack *tn_ck_pack_named(const char *name); /* NULL: none */
/* The layout that most programs read for matrices of the type; NULL: none has a place for it. */
const tn_ck_pack *tn_ck_pack_for(tn_dtype t);
#endif
