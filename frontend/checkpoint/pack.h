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

/* One layout of published checkpoints: compressed-tensors (pack-quantized, int-quantized, float-quantized),
 * gptq, awq, bitsandbytes nf4, mxfp4. */
typedef struct tn_ck_pack {
  const char *name;
  /* Tensors that a matrix [rows, columns] of the type becomes; 0: this layout has no place for it. */
  uint32_t (*parts)(tn_dtype t, uint64_t rows, uint64_t columns, tn_ck_part_out out[TN_CK_PACK_PARTS]);
  /* The bytes of part `part` out of all rows' blocks. */
  tn_status (*split)(tn_dtype t, uint64_t rows, uint64_t columns, const uint8_t *blocks, uint32_t part,
                     void *out);
  /* quantization_config as JSON. `types`: of all tensors; `ignored`: names of products that stayed plain. */
  tn_status (*config)(tn_dtype t, const char *const *ignored, uint32_t nignored, tn_buf *out);
} tn_ck_pack;

extern const tn_ck_pack tn_ck_packs[];
extern const uint32_t tn_ck_pack_count;
#endif
