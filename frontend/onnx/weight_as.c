/* weight_as.c - a weight under another shape. A reshape would hide from the backend that a matrix is a
 * weight, which it packs; the same bytes with another type are one. */
#include "frontend/onnx/import.h"
#include "frontend/onnx/ops/rows.h"

static bool same_parts(const tn_weight_info *a, const tn_weight_info *b) {
  bool same = a->nparts == b->nparts && !a->form;
  for (uint32_t i = 0; same && i < a->nparts; i++)
    same = a->parts[i].offset == b->parts[i].offset && a->parts[i].bytes == b->parts[i].bytes &&
           !strcmp(a->parts[i].file, b->parts[i].file);
  return same;
}

/* One of this type with the bytes of `like`. */
static tn_value find(tn_ox *x, const tn_weight_info *like, tn_type type) {
  for (tn_weight w = 1; w <= x->ir->weight_count(x->m); w++) {
    tn_weight_info i;
    x->ir->weight_get(x->m, w, &i);
    if (i.type == type && same_parts(&i, like)) return i.value;
  }
  return 0;
}

tn_value tn_ox_weight_as(tn_ox *x, tn_value v, const tn_dim *dims, uint32_t rank) {
  tn_value_info info = {0};
  tn_weight_info w;
  if (v && !x->failed) x->ir->value_get(x->m, v, &info);
  if (info.kind != TN_VALUE_WEIGHT) return tn_ox_reshape(x, v, dims, rank);
  x->ir->weight_get(x->m, info.weight, &w);
  if (w.form || tn_ox_dtype(x, v) >= TN_DT_BLOCK) return tn_ox_reshape(x, v, dims, rank);
  tn_type type = x->ir->type_make(x->m, tn_ox_dtype(x, v), rank, dims, NULL);
  const char *name = tn_ox_words(&x->model, "%s.matrix", w.name);
  tn_value made = type && name ? find(x, &w, type) : 0;
  tn_weight id = made || !type || !name ? 0 : x->ir->weight_add(x->m, name, type, w.parts, w.nparts);
  if (!id) return made ? made : tn_ox_reshape(x, v, dims, rank);
  x->ir->weight_get(x->m, id, &w);
  return w.value;
}
