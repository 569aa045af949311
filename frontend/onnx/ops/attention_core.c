/* attention_core.c - attention of all kinds of nodes: the IR's attention where it can say it, else products
 * and a softmax written out (scores that are results, sinks, changes to the scores, f64). Also what stands
 * around it: heads, rotation, rows of caches. */
#include "frontend/onnx/ops/transformer.h"
#include <math.h>

static const int64_t turn[] = {0, 2, 1, 3}; /* [b, h, s, d] and [b, s, h, d] */

typedef struct view {
  tn_dim b, h, s, t, d;
  bool aligned; /* the last query stands at the last key */
  bool causal;  /* of the op; the rest of what is hidden is in mask */
  int64_t window;
  tn_value mask;
} view;

/* ---- masks ---- */

static tn_value count_from(tn_ox *x, tn_dim start, tn_dim size) {
  if (!start || !size) return 0;
  return tn_ox_make(
      x, "iota", NULL, 0,
      TN_OX_ATTRS(TN_OX_DIMS("shape", &size, 1), TN_OX_INT("axis", 0), TN_OX_DIM("start", start)));
}

static tn_value both(tn_ox *x, tn_value a, tn_value b) {
  return a && b ? tn_ox_binary(x, "and", a, b) : a ? a : b;
}

/* Where the queries stand among the keys: [s, 1], or [b, 1, s, 1]. */
static tn_value places(tn_ox *x, const tn_ox_attention *a, const view *w) {
  if (!a->offsets) return tn_ox_unsqueeze(x, count_from(x, a->offset ? a->offset : tn_ox_d(x, 0), w->s), 1);
  tn_value at = tn_ox_rank_back(x, tn_ox_cast(x, a->offsets, TN_DT_i64), 4);
  return tn_ox_binary(x, "add", at, tn_ox_unsqueeze(x, count_from(x, tn_ox_d(x, 0), w->s), 1));
}

/* Key j against the query's place plus `by`. */
static tn_value side(tn_ox *x, const char *cmp, tn_value keys, tn_value at, int64_t by) {
  if (by) at = tn_ox_binary(x, "add", at, tn_ox_scalar_int(x, TN_DT_i64, by));
  return tn_ox_compare(x, cmp, keys, at);
}

static tn_value visible(tn_ox *x, const tn_ox_attention *a, const view *w, bool causal, int64_t left,
                        int64_t right) {
  tn_value mask = a->mask;
  if (!causal && left < 0 && right < 0) return mask;
  tn_value keys = count_from(x, tn_ox_d(x, 0), w->t), at = places(x, a, w);
  if (causal) mask = both(x, mask, side(x, "le", keys, at, 0));
  if (left >= 0) mask = both(x, mask, side(x, "ge", keys, at, -left));
  if (right >= 0 && !causal) mask = both(x, mask, side(x, "le", keys, at, right));
  return mask;
}

/* What the op's own attributes say, and the mask for the rest. */
static void hide(tn_ox *x, const tn_ox_attention *a, view *w, bool op) {
  bool causal = a->causal || a->right == 0;
  if (!op || !w->aligned) {
    w->mask = visible(x, a, w, a->causal, a->left, a->right);
    return;
  }
  w->causal = causal;
  if (causal || a->left == a->right) {
    w->window = a->left >= 0 ? a->left + 1 : 0;
    w->mask = a->mask;
    return;
  }
  w->mask = visible(x, a, w, false, a->left, a->right);
}

/* ---- shapes ---- */

/* Whether each size of v is the one wanted, or 1, for all that is known now. */
static bool fits(tn_ox *x, tn_value v, const tn_dim *want) {
  int64_t k;
  for (uint32_t i = 0; i < tn_ox_rank(x, v); i++) {
    tn_dim is = tn_ox_dim(x, v, i);
    if (is != want[i] && !tn_ox_dconst(x, is, &k)) return false;
  }
  return true;
}

/* A mask or bias that broadcasts to [b, h, s, t]; one with sizes that may turn out to be 1 is repeated. */
static tn_value fit(tn_ox *x, tn_ox_node *n, tn_value v, const view *w) {
  const tn_dim all[4] = {w->b, w->h, w->s, w->t};
  if (!v || tn_ox_failed(x)) return v;
  uint32_t rank = tn_ox_rank(x, v);
  if (rank > 4) {
    tn_ox_fail(x, n, "a mask or bias has rank %u, wants at most 4", rank);
    return 0;
  }
  const tn_dim *want = all + 4 - rank;
  tn_dtype t = tn_ox_dtype(x, v);
  if (!fits(x, v, want)) {
    tn_value none = tn_ox_full(x, tn_ox_scalar(x, t, t == TN_DT_bool), want, rank);
    v = tn_ox_binary(x, t == TN_DT_bool ? "and" : "add", v, none);
  }
  for (uint32_t i = 0; v && i < rank; i++) {
    tn_dim is = tn_ox_dim(x, v, i);
    if (!tn_ox_is_one(x, is)) tn_ox_same(x, n, is, want[i]);
  }
  return v;
}

static bool look(tn_ox *x, tn_ox_node *n, tn_ox_attention *a, view *w) {
  const tn_value all[] = {a->q, a->k, a->v};
  for (int i = 0; i < 3; i++) {
    if (!all[i]) return false;
    if (tn_ox_rank(x, all[i]) == 4) continue;
    tn_ox_fail(x, n, "queries, keys and values want 4 dims, one has %u", tn_ox_rank(x, all[i]));
    return false;
  }
  *w = (view){.b = tn_ox_dim(x, a->q, 0), .h = tn_ox_dim(x, a->q, 1), .s = tn_ox_dim(x, a->q, 2)};
  w->d = tn_ox_same(x, n, tn_ox_dim(x, a->q, 3), tn_ox_dim(x, a->k, 3));
  w->t = tn_ox_same(x, n, tn_ox_dim(x, a->k, 2), tn_ox_dim(x, a->v, 2));
  tn_ox_same(x, n, w->b, tn_ox_dim(x, a->k, 0));
  tn_ox_same(x, n, w->b, tn_ox_dim(x, a->v, 0));
  tn_ox_same(x, n, tn_ox_dim(x, a->k, 1), tn_ox_dim(x, a->v, 1));
  tn_dim offset = a->offset ? a->offset : tn_ox_d(x, 0);
  w->aligned = !a->offsets && tn_ox_dadd(x, offset, w->s) == w->t;
  a->mask = fit(x, n, a->mask, w);
  a->bias = fit(x, n, a->bias, w);
  return !tn_ox_failed(x);
}

/* The factor of the scores. One that depends on a size which is not known goes into the queries. */
static double take_scale(tn_ox *x, tn_ox_attention *a, const view *w) {
  int64_t d;
  if (a->scale != 0) return a->scale;
  if (tn_ox_dconst(x, w->d, &d) && d > 0) return 1 / sqrt((double)d);
  tn_dtype t = tn_ox_dtype(x, a->q), wide = t == TN_DT_f64 ? t : TN_DT_f32;
  tn_value by = tn_ox_unary(x, "rsqrt", tn_ox_cast(x, tn_ox_dim_value(x, w->d), wide));
  a->q = tn_ox_binary(x, "mul", tn_ox_cast(x, a->q, wide), by);
  return 1;
}

/* Whether the heads are so many that the op can share those of the keys. */
static bool heads_known(tn_ox *x, const tn_ox_attention *a) {
  int64_t h;
  tn_dim q = tn_ox_dim(x, a->q, 1), k = tn_ox_dim(x, a->k, 1);
  return q == k || (tn_ox_dconst(x, q, &h) && tn_ox_dconst(x, k, &h));
}

/* ---- written out ---- */

/* Queries in groups that share a head of keys: [b, hkv, g, s, d]. */
static tn_value in_groups(tn_ox *x, tn_ox_node *n, tn_value v, tn_value keys) {
  int64_t h, hkv;
  tn_dim dims[4], heads = tn_ox_dim(x, keys, 1);
  tn_ox_dims(x, v, dims);
  if (tn_ox_dconst(x, dims[1], &h) && tn_ox_dconst(x, heads, &hkv) && (hkv < 1 || h % hkv)) {
    tn_ox_fail(x, n, "%lld heads are no multiple of %lld", (long long)h, (long long)hkv);
    return 0;
  }
  return tn_ox_reshape(x, v, (tn_dim[]){dims[0], heads, tn_ox_ddiv(x, dims[1], heads), dims[2], dims[3]}, 5);
}

/* a times b (transposed: b^T), heads of b shared; [b, h, rows, columns]. */
static tn_value shared_product(tn_ox *x, tn_ox_node *n, tn_value a, tn_value b, bool trans) {
  tn_dim dims[4];
  if (!a || !b) return 0;
  tn_ox_dims(x, a, dims);
  dims[3] = tn_ox_dim(x, b, trans ? -2 : -1);
  if (tn_ox_dim(x, a, 1) == tn_ox_dim(x, b, 1)) return tn_ox_product(x, n, a, b, false, trans);
  tn_value y = tn_ox_product(x, n, in_groups(x, n, a, b), tn_ox_unsqueeze(x, b, 2), false, trans);
  return tn_ox_reshape(x, y, dims, 4);
}

/* softmax over the last dim; a row of only -inf gives zeros. */
static tn_value probabilities(tn_ox *x, tn_value v) {
  static const int64_t last[] = {-1};
  if (!v) return 0;
  if (tn_ox_dtype(x, v) != TN_DT_f64) return tn_ox_softmax(x, v, -1);
  tn_value most = tn_ox_reduce(x, "reduce_max", v, last, 1, true), zero = tn_ox_scalar_like(x, v, 0);
  tn_value e = tn_ox_unary(x, "exp", tn_ox_binary(x, "sub", v, most));
  tn_value y = tn_ox_binary(x, "div", e, tn_ox_reduce(x, "reduce_sum", e, last, 1, true));
  return tn_ox_select(x, tn_ox_compare(x, "eq", most, tn_ox_scalar_like(x, v, -INFINITY)), zero, y);
}

static tn_value with_sink(tn_ox *x, const tn_ox_attention *a, const view *w, tn_value v) {
  if (!a->sink) return probabilities(x, v);
  tn_value sink = tn_ox_cast(x, a->sink, tn_ox_dtype(x, v));
  if (tn_ox_rank(x, sink) == 1) sink = tn_ox_rank_back(x, sink, 3);
  sink = tn_ox_broadcast(x, sink, (tn_dim[]){w->b, w->h, w->s, tn_ox_d(x, 1)}, 4);
  tn_value y = probabilities(x, tn_ox_concat(x, (tn_value[]){v, sink}, 2, -1));
  return tn_ox_slice(x, y, -1, tn_ox_d(x, 0), w->t, 1);
}

static void keep(const tn_ox_attention *a, int stage, tn_value v, tn_value *scores) {
  if (a->want_scores == stage) *scores = v;
}

static tn_value modified(tn_ox *x, tn_ox_node *n, const tn_ox_attention *a, const char *which, tn_value v) {
  return a->modify ? a->modify(x, n, which, v) : v;
}

static tn_value capped(tn_ox *x, tn_value v, double softcap) {
  if (!(softcap > 0)) return v;
  tn_value cap = tn_ox_scalar_like(x, v, softcap);
  return tn_ox_binary(x, "mul", tn_ox_unary(x, "tanh", tn_ox_binary(x, "div", v, cap)), cap);
}

/* All of it in f32, or f64; scores and result in `narrow`. */
static tn_value write_out(tn_ox *x, tn_ox_node *n, const tn_ox_attention *a, view *w, double scale,
                          tn_dtype narrow, tn_value *scores) {
  tn_dtype wide = narrow == TN_DT_f64 ? narrow : TN_DT_f32;
  tn_value kept = 0, half = tn_ox_scalar(x, wide, sqrt(scale));
  hide(x, a, w, false);
  w->mask = fit(x, n, w->mask, w);
  tn_value q = tn_ox_binary(x, "mul", tn_ox_cast(x, a->q, wide), half);
  tn_value v = shared_product(x, n, q, tn_ox_binary(x, "mul", tn_ox_cast(x, a->k, wide), half), true);
  keep(a, 0, v, &kept);
  v = capped(x, v, a->softcap);
  keep(a, 1, v, &kept);
  if (a->bias) v = tn_ox_binary(x, "add", v, tn_ox_cast(x, a->bias, wide));
  if (w->mask) v = tn_ox_select(x, w->mask, v, tn_ox_scalar_like(x, v, -INFINITY));
  keep(a, 2, v, &kept);
  v = modified(x, n, a, "score_mod", tn_ox_cast(x, v, a->softmax ? a->softmax : wide));
  v = modified(x, n, a, "prob_mod", with_sink(x, a, w, v));
  keep(a, 3, v, &kept);
  if (scores && a->want_scores >= 0) *scores = tn_ox_cast(x, kept, narrow);
  v = shared_product(x, n, tn_ox_cast(x, v, wide), tn_ox_cast(x, a->v, wide), false);
  return tn_ox_transpose(x, tn_ox_cast(x, v, narrow), turn);
}

tn_value tn_ox_attend(tn_ox *x, tn_ox_node *n, const tn_ox_attention *given, tn_value *scores) {
  view w;
  tn_ox_attention a = *given;
  if (!look(x, n, &a, &w)) return 0;
  tn_dtype narrow = tn_ox_dtype(x, a.q);
  double scale = take_scale(x, &a, &w);
  if (a.want_scores >= 0 || a.sink || a.modify || narrow == TN_DT_f64 || !heads_known(x, &a))
    return write_out(x, n, &a, &w, scale, narrow, scores);
  hide(x, &a, &w, true);
  w.mask = fit(x, n, w.mask, &w);
  const tn_value in[] = {tn_ox_transpose(x, a.q, turn), tn_ox_transpose(x, a.k, turn),
                         tn_ox_transpose(x, a.v, turn), w.mask, a.bias};
  if (tn_ox_failed(x)) return 0;
  tn_value y = tn_ox_make(x, "attention", in,
                          a.bias   ? 5
                          : w.mask ? 4
                                   : 3,
                          TN_OX_ATTRS(TN_OX_FLOAT("scale", scale), TN_OX_BOOL("causal", w.causal),
                                      TN_OX_INT("window", w.window), TN_OX_FLOAT("softcap", a.softcap)));
  return tn_ox_cast(x, y, narrow);
}

/* ---- heads ---- */

tn_value tn_ox_heads(tn_ox *x, tn_ox_node *n, tn_value v, int64_t heads) {
  int64_t size;
  if (!v) return 0;
  if (tn_ox_rank(x, v) != 3 || heads < 1) {
    tn_ox_fail(x, n, "%lld heads of a tensor of rank %u, which wants to be 3", (long long)heads,
               tn_ox_rank(x, v));
    return 0;
  }
  tn_dim d = tn_ox_dim(x, v, 2);
  if (tn_ox_dconst(x, d, &size) && size % heads) {
    tn_ox_fail(x, n, "%lld features are not %lld heads", (long long)size, (long long)heads);
    return 0;
  }
  tn_dim dims[] = {tn_ox_dim(x, v, 0), tn_ox_dim(x, v, 1), tn_ox_d(x, heads),
                   tn_ox_ddiv(x, d, tn_ox_d(x, heads))};
  return tn_ox_transpose(x, tn_ox_reshape(x, v, dims, 4), turn);
}

tn_value tn_ox_merge_heads(tn_ox *x, tn_value v) {
  tn_dim d[4];
  if (!v) return 0;
  tn_ox_dims(x, v, d);
  return tn_ox_reshape(x, v, (tn_dim[]){d[0], d[1], tn_ox_dmul(x, d[2], d[3])}, 3);
}

/* ---- rotation ---- */

static tn_value turned(tn_ox *x, const char *op, tn_value a, tn_value p, tn_value b, tn_value q) {
  return tn_ox_binary(x, op, tn_ox_binary(x, "mul", a, p), tn_ox_binary(x, "mul", b, q));
}

tn_value tn_ox_rotate(tn_ox *x, tn_ox_node *n, tn_value v, tn_value cosines, tn_value sines,
                      bool interleaved) {
  if (!v || !cosines || !sines) return 0;
  tn_dim zero = tn_ox_d(x, 0), f = tn_ox_dim(x, cosines, -1), end = tn_ox_dmul(x, f, tn_ox_d(x, 2)),
         d = tn_ox_dim(x, v, -1);
  tn_ox_same(x, n, tn_ox_dim(x, v, 2), tn_ox_dim(x, cosines, -2));
  tn_value c = tn_ox_unsqueeze(x, tn_ox_cast(x, cosines, tn_ox_dtype(x, v)), 1);
  tn_value s = tn_ox_unsqueeze(x, tn_ox_cast(x, sines, tn_ox_dtype(x, v)), 1);
  tn_value a = interleaved ? tn_ox_slice(x, v, -1, zero, end, 2) : tn_ox_slice(x, v, -1, zero, f, 1);
  tn_value b = interleaved ? tn_ox_slice(x, v, -1, tn_ox_d(x, 1), end, 2) : tn_ox_slice(x, v, -1, f, end, 1);
  tn_value part[3] = {turned(x, "sub", a, c, b, s), turned(x, "add", a, s, b, c), 0};
  if (interleaved) {
    tn_dim dims[4];
    tn_ox_dims(x, v, dims);
    dims[3] = end;
    for (int i = 0; i < 2; i++) part[i] = tn_ox_unsqueeze(x, part[i], 4);
    part[0] = tn_ox_reshape(x, tn_ox_concat(x, part, 2, 4), dims, 4);
  } else
    part[0] = tn_ox_concat(x, part, 2, -1);
  if (end == d) return part[0];
  part[1] = tn_ox_slice(x, v, -1, end, d, 1);
  return tn_ox_concat(x, part, 2, -1);
}

/* ---- rows of caches ---- */

/* Axis `axis` as axis 1, and back. */
static tn_value rows_at(tn_ox *x, tn_value v, uint32_t axis, bool back) {
  int64_t perm[TN_MAX_RANK];
  if (!v || axis == 1) return v;
  uint32_t rank = tn_ox_rank(x, v);
  perm[0] = 0;
  for (uint32_t i = 1; i < rank; i++)
    perm[i] = back ? (i == axis ? 1 : i < axis ? i + 1 : i) : (i == 1 ? axis : i <= axis ? i - 1 : i);
  return tn_ox_transpose(x, v, perm);
}

/* For each row of the result: which of update's `rows` rows it gets, and whether it does. */
static tn_value sources(tn_ox *x, tn_value start, tn_dim size, tn_dim rows, tn_dim ring, tn_value *takes) {
  tn_value zero = tn_ox_scalar_int(x, TN_DT_i64, 0), count = tn_ox_dim_value(x, rows);
  tn_value at = tn_ox_binary(x, "sub", count_from(x, tn_ox_d(x, 0), size), start);
  if (ring) at = tn_ox_binary(x, "mod", at, tn_ox_dim_value(x, ring));
  *takes = tn_ox_binary(x, "and", tn_ox_compare(x, "ge", at, zero), tn_ox_compare(x, "lt", at, count));
  return tn_ox_select(x, *takes, at, zero);
}

tn_value tn_ox_place_rows(tn_ox *x, tn_ox_node *n, tn_value cache, tn_value update, tn_value start,
                          int64_t axis, bool circular, tn_dim size) {
  tn_dim dims[TN_MAX_RANK], from[TN_MAX_RANK];
  tn_value takes;
  if (!cache || !update || !start) return 0;
  uint32_t rank = tn_ox_rank(x, cache), at = tn_ox_axis(x, n, axis, rank);
  cache = rows_at(x, cache, at, false), update = rows_at(x, update, at, false);
  if (!cache || !update || tn_ox_failed(x)) return 0;
  tn_ox_dims(x, cache, dims);
  tn_ox_dims(x, update, from);
  for (uint32_t i = 0; i < rank; i++)
    if (i != 1) from[i] = tn_ox_same(x, n, from[i], dims[i]);
  tn_dim kept = dims[1], b = from[0], u = from[1];
  tn_value index = sources(x, tn_ox_unsqueeze(x, tn_ox_cast(x, start, TN_DT_i64), 1), size, u,
                           circular ? kept : 0, &takes);
  tn_value first = tn_ox_binary(x, "mul", count_from(x, tn_ox_d(x, 0), b), tn_ox_dim_value(x, u));
  index = tn_ox_binary(x, "add", index, tn_ox_unsqueeze(x, first, 1));
  from[1] = tn_ox_dmul(x, b, u); /* all rows of all sequences in one dim */
  tn_value rows = tn_ox_gather(x, tn_ox_reshape(x, update, from + 1, rank - 1), index, 0);
  if (kept != size) {
    dims[1] = tn_ox_dsub(x, size, kept);
    tn_value more = tn_ox_full(x, tn_ox_scalar(x, tn_ox_dtype(x, cache), 0), dims, rank);
    cache = tn_ox_concat(x, (tn_value[]){cache, more}, 2, 1);
  }
  return rows_at(x, tn_ox_select(x, tn_ox_rank_back(x, takes, rank), rows, cache), at, true);
}
