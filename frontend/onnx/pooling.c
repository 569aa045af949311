/* pooling.c - one vector for a sentence, as sentence-transformers makes it from the vectors of its tokens. */
#include "frontend/onnx/import.h"

static const int64_t tokens[1] = {1}, last_axis[1] = {-1};

static tn_value mean(tn_ox *x, tn_value hidden, tn_value mask) {
  tn_value m = tn_ox_unsqueeze(x, tn_ox_cast(x, mask, tn_ox_dtype(x, hidden)), 2);
  tn_value sum = tn_ox_reduce(x, "reduce_sum", tn_ox_binary(x, "mul", hidden, m), tokens, 1, false);
  tn_value count = tn_ox_reduce(x, "reduce_sum", m, tokens, 1, false);
  return tn_ox_binary(x, "div", sum, tn_ox_binary(x, "max", count, tn_ox_scalar_like(x, count, 1e-9)));
}

/* Where `seen` (bool [b, s]), else `otherwise`. */
static tn_value where(tn_ox *x, tn_value seen, tn_value hidden, double otherwise) {
  return tn_ox_select(x, tn_ox_unsqueeze(x, seen, 2), hidden, tn_ox_scalar_like(x, hidden, otherwise));
}

static tn_value last_token(tn_ox *x, tn_value hidden, tn_value seen) {
  tn_dim count = tn_ox_dim(x, seen, 1);
  tn_value place = tn_ox_iota(x, TN_DT_i64, &count, 1, 0), none = tn_ox_scalar_int(x, TN_DT_i64, 0);
  tn_value last = tn_ox_reduce(x, "reduce_max", tn_ox_select(x, seen, place, none), tokens, 1, true);
  return tn_ox_reduce(x, "reduce_sum", where(x, tn_ox_compare(x, "eq", place, last), hidden, 0), tokens, 1,
                      false);
}

static tn_value pool(tn_ox *x, tn_value hidden, tn_value mask, const char *mode) {
  if (!strcmp(mode, "cls"))
    return tn_ox_squeeze(x, tn_ox_slice(x, hidden, 1, tn_ox_d(x, 0), tn_ox_d(x, 1), 1), 1);
  if (!strcmp(mode, "mean")) return mean(x, hidden, mask);
  tn_value seen = tn_ox_compare(x, "ne", mask, tn_ox_scalar_like(x, mask, 0));
  if (!strcmp(mode, "max"))
    return tn_ox_reduce(x, "reduce_max", where(x, seen, hidden, -1e9), tokens, 1, false);
  return last_token(x, hidden, seen);
}

tn_value tn_ox_pool(tn_ox *x, tn_value hidden, tn_value mask, const char *mode, bool normalize) {
  if (!hidden || !mask) return 0;
  tn_ox_same(x, x->node, tn_ox_dim(x, mask, 1), tn_ox_dim(x, hidden, 1));
  tn_value v = pool(x, hidden, mask, mode);
  if (!normalize || !v) return v;
  tn_value sum = tn_ox_reduce(x, "reduce_sum", tn_ox_binary(x, "mul", v, v), last_axis, 1, true);
  tn_value length = tn_ox_unary(x, "sqrt", sum);
  return tn_ox_binary(x, "div", v, tn_ox_binary(x, "max", length, tn_ox_scalar_like(x, length, 1e-12)));
}
