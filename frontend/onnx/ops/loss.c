/* loss.c - NegativeLogLikelihoodLoss and SoftmaxCrossEntropyLoss: the classes' axis is summed away under a
 * mask that is true at the target, so that scores of other classes, whatever they are, do not matter. */
#include "frontend/onnx/ops/math.h"

/* v at the target's class: [n, c, d...] to [n, d...]. */
static tn_value picked(tn_ox *x, tn_value hit, tn_value v) {
  static const int64_t classes[] = {1};
  tn_value there = tn_ox_select(x, hit, v, tn_ox_scalar_like(x, v, 0));
  return tn_ox_reduce(x, "reduce_sum", there, classes, 1, false);
}

/* The weight of each target: its class's, 0 for the class that is ignored; 0: all are 1. */
static tn_value weights(tn_ox *x, tn_ox_node *n, tn_value scores, tn_value target, tn_value hit) {
  tn_value w = tn_ox_nin(n) > 2 ? tn_ox_widen(x, tn_ox_in(x, n, 2)) : 0,
           one = tn_ox_scalar_like(x, scores, 1);
  if (w) {
    tn_dim dims[TN_MAX_RANK];
    for (uint32_t i = 0; i < tn_ox_rank(x, scores); i++)
      dims[i] = i == 1 ? tn_ox_dim(x, w, 0) : tn_ox_d(x, 1);
    w = picked(x, hit, tn_ox_reshape(x, w, dims, tn_ox_rank(x, scores)));
  }
  if (!tn_ox_has_attr(n, "ignore_index")) return w;
  tn_value ignored = tn_ox_scalar_int(x, TN_DT_i64, tn_ox_int(n, "ignore_index", 0));
  tn_value keep = tn_ox_compare(x, "ne", target, ignored);
  return tn_ox_select(x, keep, w ? w : one, tn_ox_scalar_like(x, scores, 0));
}

static tn_value loss(tn_ox *x, tn_ox_node *n, tn_value scores, tn_value target) {
  const char *reduction = tn_ox_str(n, "reduction", "mean");
  target = tn_ox_cast(x, target, TN_DT_i64);
  tn_value hit = tn_ox_one_hot(x, scores, tn_ox_unsqueeze(x, target, 1), 1);
  tn_value y = tn_ox_unary(x, "neg", picked(x, hit, scores)), w = weights(x, n, scores, target, hit);
  if (w) { /* not -inf times 0 */
    tn_value zero = tn_ox_scalar_like(x, y, 0);
    y = tn_ox_select(x, tn_ox_compare(x, "eq", w, zero), zero, tn_ox_binary(x, "mul", y, w));
  }
  if (!strcmp(reduction, "none")) return y;
  if (!strcmp(reduction, "sum")) return tn_ox_reduce(x, "reduce_sum", y, NULL, 0, false);
  if (strcmp(reduction, "mean")) {
    tn_ox_fail(x, n, "attribute 'reduction' is '%s', wants none, sum or mean", reduction);
    return 0;
  }
  if (!w) return tn_ox_reduce(x, "reduce_mean", y, NULL, 0, false);
  return tn_ox_binary(x, "div", tn_ox_reduce(x, "reduce_sum", y, NULL, 0, false),
                      tn_ox_reduce(x, "reduce_sum", w, NULL, 0, false));
}

tn_status tn_ox_lower_loss(tn_ox *x, tn_ox_node *n) {
  tn_value scores = tn_ox_required(x, n, 0), target = tn_ox_required(x, n, 1);
  if (!scores || !target) return tn_ox_out(x, n, 0, 0);
  if (tn_ox_rank(x, scores) < 2 || tn_ox_rank(x, target) + 1 != tn_ox_rank(x, scores))
    return tn_ox_fail(x, n, "scores have rank %u, and targets %u; they want n >= 2, and n - 1",
                      tn_ox_rank(x, scores), tn_ox_rank(x, target));
  tn_dtype t = tn_ox_dtype(x, scores);
  tn_value wide = tn_ox_widen(x, scores);
  bool softmax = !strcmp(tn_ox_op(n), "SoftmaxCrossEntropyLoss");
  if (softmax) wide = tn_ox_log_softmax(x, wide, 1);
  tn_value y = loss(x, n, wide, target);
  if (softmax && tn_ox_wants(n, 1)) TN_TRY(tn_ox_out(x, n, 1, tn_ox_cast(x, wide, t)));
  return tn_ox_out(x, n, 0, y ? tn_ox_cast(x, y, t) : 0);
}
