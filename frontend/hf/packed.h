/* packed.h - checkpoints whose matrices are stored as codes, scales and zeros: what the config says of them,
 * and the weights that the tensors stand for. Every packed matrix becomes one entry under the name that a
 * page asks for; beside it there may be "NAME@scale", which multiplies the product, and "NAME@order", the
 * order of its columns. */
#ifndef TN_HF_PACKED_H
#define TN_HF_PACKED_H
#include "frontend/hf/hf.h"

enum { PACKED_PARTS = 4, PACKED_USED = 12 };

typedef struct packed_entry {
  const char *name;
  tn_tensor_ref ref;
  int64_t shape[TN_MAX_RANK];
  tn_part parts[PACKED_PARTS];
  uint32_t used[PACKED_USED], nused; /* tensors of the files */
  uint32_t of;                       /* @scale, @order: index of their matrix + 1 */
  bool asked;
} packed_entry;

struct tn_hf_packed {
  const char *method, *file; /* of the config that says it */
  const tn_json *config;
  uint32_t bits; /* gptq, awq */
  int64_t group; /* -1: whole rows */
  bool v1;       /* gptq: zeros are stored less one */
  TN_VEC(packed_entry *) entries;
  tn_map by_name;   /* -> index */
  const char *open; /* file that `map` is */
  tn_file map;
};

/* config: quantization_config or its fallback, checked against what is supported. */
tn_status tn_packed_read_config(tn_hf *h);

/* matrices.c: entries from one tensor, whose name ends in a marker; `name` is without it. */
typedef tn_status (*packed_maker)(tn_hf *h, const tn_st_tensor *t, const char *name);
typedef struct packed_marker {
  const char *ending;
  packed_maker make;
} packed_marker;
extern const packed_marker tn_packed_markers[];
extern const uint32_t tn_packed_marker_count;

/* What the makers use. */
tn_status tn_packed_fail(tn_hf *h, const tn_st_tensor *t, const char *fmt, ...) TN_PRINTF(3, 4);
/* "NAME" + suffix; NULL: none. */
const tn_st_tensor *tn_packed_tensor(tn_hf *h, const char *name, const char *suffix);
/* The bytes of a small tensor; they live until the next call. */
tn_status tn_packed_data(tn_hf *h, const tn_st_tensor *t, const uint8_t **data);
/* A new entry of a type with dims [..., k]; its parts come from up to PACKED_PARTS tensors, NULL ends. form
 * NULL: the one part as it is. *out may be NULL. */
tn_status tn_packed_add(tn_hf *h, const char *name, tn_dtype dtype, uint32_t rank, const int64_t *dims,
                        const tn_st_tensor *const *tensors, const char *form, packed_entry **out);
/* The block type of that name; 0: none. */
tn_dtype tn_packed_type(const char *name);

#endif
