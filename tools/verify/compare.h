/* compare.h - measures of how far two tensors are apart, and the values inside a compiled function by name.
 */
#ifndef TN_COMPARE_H
#define TN_COMPARE_H
#include "tools/tool.h"

typedef struct tn_comparison {
  double max_abs, max_rel, max_ulp, cosine, nmse;
  int64_t at;  /* element of the worst excess over the tolerance */
  double a, b; /* its values */
  bool ok;     /* |a - b| <= atol + rtol |b| everywhere; NaN and infinities in the same places */
} tn_comparison;
/* false: the shapes differ. ULP in float32. */
bool tn_compare(const tn_tensor *a, const tn_tensor *b, double atol, double rtol, tn_comparison *out);

/* The values that a function's kernels left in the arena, or in the outputs `out`, after a run with
 * keep_values. The key names the op that made a value: "bert.model:24 layer_norm #3", the third one of that
 * line. Data belongs to the session, or is that of `out`. */
typedef struct tn_node {
  const char *key, *maker; /* the key without its number */
  const char *weight;      /* the first weight that the kernel reads, or NULL */
  tn_value id;
  bool given; /* an input of the function */
  bool plain; /* a weight in another shape, order or type: a view or cast of nothing else */
  tn_tensor value;
} tn_node;
typedef TN_VEC(tn_node) tn_nodes;
/* A call that was made: the inputs become nodes too; out may be NULL. */
typedef struct tn_call {
  tn_session *s;
  const char *entry;
  const tn_tensor *in, *out;
} tn_call;
tn_status tn_nodes_collect(tn_opened *o, const tn_call *call, tn_arena *arena, tn_nodes *nodes);
/* The function whose code ran for an entry point: a variant where the call met its condition. 0: none. */
tn_func tn_nodes_func(tn_opened *o, tn_session *s, const char *entry);
const tn_node *tn_nodes_find(const tn_nodes *n, const char *key); /* NULL: none */
/* How many values a line's op made: numbers mean the same on two sides only where these agree. */
uint32_t tn_nodes_made_by(const tn_nodes *n, const char *maker);
#endif
