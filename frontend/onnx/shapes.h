/* shapes.h - the option "shapes": "x:1x3x224x224,y:Bx3,list:[3],list:[2]4x5,maybe:none". Names of sizes are
 * symbols. */
#ifndef TN_ONNX_SHAPES_H
#define TN_ONNX_SHAPES_H
#include "ir/base/diag.h"

typedef struct tn_ox_shape {
  const char *name;
  tn_str dims; /* "1x3x224x224" */
  uint32_t rank, length;
  bool has_dims, is_list, none; /* none: an optional that is absent */
  bool used;
} tn_ox_shape;
typedef struct tn_ox_shapes {
  TN_VEC(tn_ox_shape) list;
} tn_ox_shapes;

tn_status tn_ox_shapes_parse(tn_arena *arena, const char *text, tn_diags *diags, tn_ox_shapes *out);
tn_str tn_ox_shape_dim(const tn_ox_shape *s, uint32_t i);
/* NULL: none. "list[2]" finds "list[2]:..." only. */
const tn_ox_shape *tn_ox_shapes_find(tn_ox_shapes *s, const char *name);
/* Fails on names that no input has. */
tn_status tn_ox_shapes_unused(const tn_ox_shapes *s, const char *file, tn_diags *diags);
#endif
