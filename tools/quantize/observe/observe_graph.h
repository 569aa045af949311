/* observe_graph.h - which values of a function meet which weights, and a function that gives those values:
 * the graph's side of observe.h. */
#ifndef TN_OBSERVE_GRAPH_H
#define TN_OBSERVE_GRAPH_H
#include "ir/ir.h"

/* A product of a value and a weight. */
typedef struct tn_product {
  tn_op op;
  tn_weight weight;
  tn_value input,
      experts; /* left operand [..., columns]; of stacked experts: which ones each token met, else 0 */
  uint32_t columns;
  bool transposed; /* the weight lies as [columns, rows] */
} tn_product;
typedef TN_VEC(tn_product) tn_products;

/* The products of f with weights, in program order. */
tn_status tn_products_find(tn_module *m, tn_func f, tn_products *out);
/* The function that a text is read with: `logits`, or the one with the most products. 0: none has any. */
tn_func tn_products_func(tn_module *m);

/* f gives these values instead of its results, by the names, and does nothing else. Functions behind it are
 * dropped where nothing needs them. */
tn_status tn_observe_results(tn_module *m, tn_func f, const tn_value *values, const char *const *names,
                             uint32_t n);
/* All float values that f computes from its arguments, but for views of others. */
typedef TN_VEC(tn_value) tn_value_list;
tn_status tn_observe_values(tn_module *m, tn_func f, tn_value_list *out);

/* What the ops from `at` on need of what the ops before it compute from weights. */
tn_status tn_observe_live(tn_module *m, tn_func f, tn_op at, tn_value_list *out);
#define TN_CARRIED "carried."
/* f takes these values as further arguments, TN_CARRIED "0" and so on, instead of computing them. */
tn_status tn_observe_carry(tn_module *m, tn_func f, tn_value *values, uint32_t n);
/* Everything reads `file`, f32 numbers at `offset` as the weight has them, instead of the weight. */
tn_status tn_observe_replace(tn_module *m, tn_weight w, const char *file, uint64_t offset);
#endif
