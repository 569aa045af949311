/* forms.h - weights that are computed from other tensors while they stream. tn_weight_info.form says how: a
 * method and its words, "gptq v1 act". Packed checkpoints become blocks of ir/quant/quant.def row by row;
 * nothing is ever unpacked as a whole. README.md lists the methods. */
#ifndef TN_FORMS_H
#define TN_FORMS_H
#include "ir/base/diag.h"
#include "tenon/ir.h"

typedef struct tn_form_spec {
  const char *name, *text; /* of the weight, its form */
  tn_dtype dtype;          /* of the weight */
  uint32_t rank;
  int64_t dims[TN_MAX_RANK];
  const tn_part *parts; /* kept, not copied */
  uint32_t nparts;
  tn_reader in; /* the parts' bytes, one part behind the other */
} tn_form_spec;

typedef struct tn_form tn_form;

/* Checks the form against the type and the parts' sizes. Errors name the weight. */
tn_status tn_form_open(const tn_form_spec *s, tn_diags *diags, tn_form **out);
/* Bytes of the weight's own type; cheapest in order. */
tn_status tn_form_read(tn_form *f, uint64_t off, void *dst, uint64_t len);
void tn_form_close(tn_form *f); /* NULL: nothing */

#endif
