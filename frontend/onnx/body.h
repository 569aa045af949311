/* body.h - bodies of If, Loop and Scan that only the run can choose or repeat: functions of their own, which
 * get what they read from outside as arguments. */
#ifndef TN_ONNX_BODY_H
#define TN_ONNX_BODY_H
#include "frontend/onnx/import.h"

/* What a body reads from outside: tensors that are passed, in order. Constants and weights are not among
 * them. */
typedef struct tn_ox_outside {
  TN_VEC(const char *) names; /* of names.items[i] it is element part.items[i], or itself (UINT32_MAX) */
  TN_VEC(uint32_t) parts;
  TN_VEC(tn_value) values; /* of the caller */
  TN_VEC(tn_dim) symbols;  /* sizes of these values */
  TN_VEC(tn_dim)
  inner; /* and what they are called in the body: what has to hold there is checked there only */
} tn_ox_outside;

tn_status tn_ox_outside_add(tn_ox *x, tn_ox_node *n, const tn_ox_graph *g, tn_ox_outside *out);
/* One more value, which has no name in the graph. */
tn_status tn_ox_outside_value(tn_ox *x, tn_value v, tn_ox_outside *out);
/* New names for the symbols, before each body: what holds in one is not asked of another. */
tn_status tn_ox_outside_renew(tn_ox *x, tn_ox_outside *out);
void tn_ox_outside_fini(tn_ox_outside *o);

/* A function that is being built; until it is closed, builders add to it. */
typedef struct tn_ox_body {
  tn_func func, caller;
  uint32_t caller_body;
  const char *name;
  tn_ox_scope *scope;
  tn_value *outside; /* arguments for the outside values, by index */
} tn_ox_body;

tn_status tn_ox_body_open(tn_ox *x, tn_ox_node *n, const char *what, tn_ox_body *b);
tn_value tn_ox_body_arg(tn_ox *x, tn_ox_body *b, const char *name, tn_type type);
/* The arguments for all outside values, under their names. */
tn_status tn_ox_body_outside(tn_ox *x, tn_ox_body *b, const tn_ox_outside *out);
/* Ends the body with a return, and goes back to the caller's. */
tn_status tn_ox_body_close(tn_ox *x, tn_ox_body *b, const tn_value *results, uint32_t count);
/* Goes back as well; the function is gone. */
tn_status tn_ox_body_drop(tn_ox *x, tn_ox_body *b);

/* A type of the caller as the body may see it: sizes it cannot know become symbols of its own. */
tn_type tn_ox_type_inward(tn_ox *x, const tn_ox_outside *out, tn_type t);
/* And back: sizes that mean nothing outside become fresh symbols. `lead` not 0: a first dim. */
tn_type tn_ox_type_outward(tn_ox *x, const tn_ox_outside *out, tn_type t, tn_dim lead);
/* A size of a body that calls the symbols `inner` as the caller's; 0: it means nothing there. */
tn_dim tn_ox_dim_outward(tn_ox *x, const tn_ox_outside *out, const tn_dim *inner, tn_dim d);

/* Items as flat lists of tensors and back. */
typedef TN_VEC(tn_value) tn_ox_values;
tn_status tn_ox_flatten(tn_ox *x, tn_ox_node *n, tn_ox_item *item, tn_ox_values *out);

/* The item of a graph's output i in its scope; poison, or none at all, fails the node. */
tn_ox_item *tn_ox_graph_output(tn_ox *x, tn_ox_node *n, tn_ox_scope *s, const tn_ox_graph *g, size_t i);
/* Lowers a graph in place, in a scope of its own: `in` are items for its inputs. */
tn_ox_scope *tn_ox_graph_inline(tn_ox *x, tn_ox_node *n, const tn_ox_graph *g, const tn_ox_item *const *in,
                                uint32_t nin);
#endif
