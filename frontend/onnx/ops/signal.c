/* signal.c - Fourier transforms, windows, mel weights, n-gram counts, determinants. Windows and weights are
 * computed in f64 by ordinary ops, which fold to constants when their sizes are known. */
#include "frontend/onnx/ops/rows.h"

#define PI 3.14159265358979323846

static tn_value scalar(tn_ox *x, tn_value v) {
  return v && tn_ox_rank(x, v) ? tn_ox_reshape(x, v, NULL, 0) : v;
}
static tn_value f64(tn_ox *x, double v) { return tn_ox_scalar(x, TN_DT_f64, v); }
static tn_value add(tn_ox *x, tn_value a, tn_value b) { return tn_ox_binary(x, "add", a, b); }
static tn_value sub(tn_ox *x, tn_value a, tn_value b) { return tn_ox_binary(x, "sub", a, b); }
static tn_value mul(tn_ox *x, tn_value a, tn_value b) { return tn_ox_binary(x, "mul", a, b); }
static tn_value divide(tn_ox *x, tn_value a, tn_value b) { return tn_ox_binary(x, "div", a, b); }

/* An input that is a size. */
static tn_dim size_in(tn_ox *x, tn_ox_node *n, uint32_t i) {
  tn_dim d = 0;
  uint32_t count;
  tn_value v = scalar(x, tn_ox_in(x, n, i));
  return v && tn_ox_now_dims(x, v, &d, 1, &count) ? d : 0;
}

/* ---- transforms --------------------------------------------------------------------------------------- */
static tn_value transform(tn_ox *x, tn_value v, int64_t axis, tn_dim length, bool inverse, bool onesided) {
  tn_dtype t = tn_ox_dtype(x, v);
  if (t != TN_DT_f64) v = tn_ox_cast(x, v, TN_DT_f32);
  if (!v || !length) return 0;
  v = tn_ox_make(x, "dft", &v, 1,
                 TN_OX_ATTRS(TN_OX_INT("axis", axis), TN_OX_DIM("n", length), TN_OX_BOOL("inverse", inverse),
                             TN_OX_BOOL("onesided", onesided)));
  return tn_ox_cast(x, v, t);
}

/* Up to opset 19 the axis is an attribute. */
tn_status tn_ox_lower_dft(tn_ox *x, tn_ox_node *n) {
  tn_value v = tn_ox_in(x, n, 0), where = tn_ox_version(n) < 20 ? 0 : tn_ox_in(x, n, 2);
  bool inverse = tn_ox_int(n, "inverse", 0), onesided = tn_ox_int(n, "onesided", 0);
  int64_t axis = tn_ox_version(n) < 20 ? tn_ox_int(n, "axis", 1) : -2;
  uint32_t count;
  if (where && !tn_ox_known_ints(x, where, &axis, 1, &count))
    return tn_ox_refuse(x, n, "make the axis a constant", "an axis that only the run knows");
  uint32_t at = tn_ox_axis(x, n, axis, tn_ox_rank(x, v));
  if (tn_ox_failed(x)) return tn_ox_out(x, n, 0, 0);
  tn_dim length = tn_ox_dim(x, v, at);
  if (tn_ox_in(x, n, 1))
    length = size_in(x, n, 1);
  else if (inverse && onesided)
    length = tn_ox_dmul(x, tn_ox_d(x, 2), tn_ox_dsub(x, length, tn_ox_d(x, 1)));
  return tn_ox_out(x, n, 0, transform(x, v, at, length, inverse, onesided));
}

/* Frames are gathered by a table of positions, [frames, length]. */
tn_status tn_ox_lower_stft(tn_ox *x, tn_ox_node *n) {
  tn_value v = tn_ox_in(x, n, 0), window = tn_ox_in(x, n, 2);
  tn_dim step = size_in(x, n, 1);
  if (tn_ox_rank(x, v) == 2) v = tn_ox_unsqueeze(x, v, 2);
  if (tn_ox_rank(x, v) != 3) return tn_ox_fail(x, n, "signal has rank %u, wants 3", tn_ox_rank(x, v));
  int64_t k;
  if (tn_ox_dconst(x, step, &k) && k < 1)
    return tn_ox_fail(x, n, "frame_step is %lld, wants at least 1", (long long)k);
  tn_dim all = tn_ox_dim(x, v, 1), one = tn_ox_d(x, 1);
  tn_dim length = tn_ox_in(x, n, 3) ? size_in(x, n, 3) : window ? tn_ox_dim(x, window, 0) : all;
  if (window) length = tn_ox_same(x, n, length, tn_ox_dim(x, window, 0));
  tn_dim frames = tn_ox_dadd(x, tn_ox_ddiv(x, tn_ox_dsub(x, all, length), step), one);
  if (tn_ox_failed(x)) return tn_ox_out(x, n, 0, 0);
  tn_value first = tn_ox_iota(x, TN_DT_i64, (tn_dim[]){frames, one}, 2, 0);
  tn_value at = add(x, mul(x, first, tn_ox_dim_value(x, step)),
                    tn_ox_iota(x, TN_DT_i64, (tn_dim[]){one, length}, 2, 1));
  v = tn_ox_gather(x, v, at, 1);
  if (window) v = mul(x, v, tn_ox_unsqueeze(x, window, 1));
  return tn_ox_out(x, n, 0, transform(x, v, 2, length, false, tn_ox_int(n, "onesided", 1)));
}

/* ---- windows ------------------------------------------------------------------------------------------ */
/* a - b cos(w) + c cos(2 w) of w = 2 pi i / n, or / (n - 1) where the window is not periodic. */
static tn_status window(tn_ox *x, tn_ox_node *n, double a, double b, double c) {
  tn_dim size = size_in(x, n, 0);
  tn_dtype t = tn_ox_dtype_of(x, n, tn_ox_int(n, "output_datatype", 1));
  if (!size || tn_ox_failed(x)) return tn_ox_out(x, n, 0, 0);
  tn_dim span = size;
  if (!tn_ox_int(n, "periodic", 1)) span = tn_ox_dmax(x, tn_ox_dsub(x, size, tn_ox_d(x, 1)), tn_ox_d(x, 1));
  tn_value w = divide(x, mul(x, tn_ox_iota(x, TN_DT_f64, &size, 1, 0), f64(x, 2 * PI)),
                      tn_ox_cast(x, tn_ox_dim_value(x, span), TN_DT_f64));
  tn_value y = sub(x, f64(x, a), mul(x, tn_ox_unary(x, "cos", w), f64(x, b)));
  if (c != 0) y = add(x, y, mul(x, tn_ox_unary(x, "cos", mul(x, w, f64(x, 2))), f64(x, c)));
  return tn_ox_out(x, n, 0, tn_ox_cast(x, y, t));
}
tn_status tn_ox_lower_hann_window(tn_ox *x, tn_ox_node *n) { return window(x, n, 0.5, 0.5, 0); }
tn_status tn_ox_lower_hamming_window(tn_ox *x, tn_ox_node *n) {
  return window(x, n, 25.0 / 46, 21.0 / 46, 0);
}
tn_status tn_ox_lower_blackman_window(tn_ox *x, tn_ox_node *n) { return window(x, n, 0.42, 0.5, 0.08); }

/* ---- mel weights -------------------------------------------------------------------------------------- */
static tn_value mel_of(tn_ox *x, tn_value hertz) {
  tn_value v = add(x, f64(x, 1), divide(x, tn_ox_cast(x, hertz, TN_DT_f64), f64(x, 700)));
  return mul(x, tn_ox_unary(x, "log", v), f64(x, 1127.0104805539118)); /* 2595 / ln 10 */
}
static tn_value hertz_of(tn_ox *x, tn_value mel) {
  tn_value v = tn_ox_unary(x, "exp", divide(x, mel, f64(x, 1127.0104805539118)));
  return mul(x, sub(x, v, f64(x, 1)), f64(x, 700));
}

/* Triangles between neighbouring edges: column i rises from edge i to i + 1 and falls to i + 2. */
tn_status tn_ox_lower_mel_weights(tn_ox *x, tn_ox_node *n) {
  tn_dim bins = size_in(x, n, 0), length = size_in(x, n, 1), one = tn_ox_d(x, 1), two = tn_ox_d(x, 2);
  tn_value rate = scalar(x, tn_ox_in(x, n, 2)), edge[3];
  tn_value low = mel_of(x, scalar(x, tn_ox_in(x, n, 3))), high = mel_of(x, scalar(x, tn_ox_in(x, n, 4)));
  tn_dtype t = tn_ox_dtype_of(x, n, tn_ox_int(n, "output_datatype", 1));
  tn_dim edges = tn_ox_dadd(x, bins, two), rows = tn_ox_dadd(x, tn_ox_ddiv(x, length, two), one);
  if (tn_ox_failed(x)) return tn_ox_out(x, n, 0, 0);
  tn_value step = divide(x, sub(x, high, low), tn_ox_cast(x, tn_ox_dim_value(x, edges), TN_DT_f64));
  tn_value at = hertz_of(x, add(x, mul(x, tn_ox_iota(x, TN_DT_f64, &edges, 1, 0), step), low));
  tn_value more = tn_ox_cast(x, tn_ox_dim_value(x, tn_ox_dadd(x, length, one)), TN_DT_f64);
  at = tn_ox_unary(x, "floor", divide(x, mul(x, more, at), tn_ox_cast(x, rate, TN_DT_f64)));
  for (int i = 0; i < 3; i++)
    edge[i] = tn_ox_slice(x, at, 0, tn_ox_d(x, i), tn_ox_dadd(x, bins, tn_ox_d(x, i)), 1);
  tn_value j = tn_ox_iota(x, TN_DT_f64, (tn_dim[]){rows, one}, 2, 0);
  tn_value rise = divide(x, sub(x, j, edge[0]), sub(x, edge[1], edge[0]));
  tn_value fall = divide(x, sub(x, edge[2], j), sub(x, edge[2], edge[1]));
  tn_value rises =
      tn_ox_binary(x, "and", tn_ox_compare(x, "ge", j, edge[0]), tn_ox_compare(x, "lt", j, edge[1]));
  tn_value falls =
      tn_ox_binary(x, "and", tn_ox_compare(x, "gt", j, edge[1]), tn_ox_compare(x, "lt", j, edge[2]));
  tn_value v = tn_ox_select(x, rises, rise, tn_ox_select(x, falls, fall, f64(x, 0)));
  v = tn_ox_select(x, tn_ox_compare(x, "eq", j, edge[1]), f64(x, 1), v);
  return tn_ox_out(x, n, 0, tn_ox_cast(x, v, t));
}

/* ---- n-grams ------------------------------------------------------------------------------------------ */
typedef struct grams {
  tn_value rows; /* i64 [b, c] */
  const int64_t *pool;
  uint32_t count, size; /* n-grams of this size */
} grams;

/* How often each n-gram stands in each row with its items `skip` apart, i64 [b, count]; 0: it can't. */
static tn_value count_grams(tn_ox *x, const grams *g, int64_t skip) {
  tn_dim reach = tn_ox_d(x, (g->size - 1) * skip), all = tn_ox_dim(x, g->rows, 1), zero = tn_ox_d(x, 0);
  tn_dim starts = tn_ox_dmax(x, tn_ox_dsub(x, all, reach), zero);
  int64_t k, *column = tn_mem_alloc((g->count + 1) * sizeof *column);
  tn_value same = 0;
  bool none = tn_ox_dconst(x, starts, &k) && !k;
  for (uint32_t i = 0; column && !none && i < g->size; i++) {
    for (uint32_t j = 0; j < g->count; j++) column[j] = g->pool[j * g->size + i];
    tn_dim from = tn_ox_d(x, i * skip);
    tn_value item = tn_ox_unsqueeze(x, tn_ox_slice(x, g->rows, 1, from, tn_ox_dadd(x, from, starts), 1), 2);
    tn_value eq = tn_ox_compare(x, "eq", item, tn_ox_ints_1d(x, column, g->count));
    same = same ? tn_ox_binary(x, "and", same, eq) : eq;
  }
  tn_mem_free(column);
  return same ? tn_ox_reduce(x, "reduce_sum", tn_ox_cast(x, same, TN_DT_i64), (const int64_t[]){1}, 1, false)
              : 0;
}

/* Counts of all n-grams of the wanted sizes, f32 [b, all of the pool in order]; sizes not wanted count 0. */
static tn_value count_all(tn_ox *x, tn_ox_node *n, tn_value rows, const int64_t *pool, uint32_t npool,
                          uint32_t *made) {
  uint32_t nsizes, nparts = 0;
  const int64_t *starts = tn_ox_ints(n, "ngram_counts", &nsizes);
  int64_t least = tn_ox_int(n, "min_gram_length", 1), most = tn_ox_int(n, "max_gram_length", 1);
  int64_t skips = tn_ox_int(n, "max_skip_count", 0);
  tn_value parts[64];
  *made = 0;
  for (uint32_t s = 0; s < nsizes && nparts < TN_COUNT(parts); s++) {
    int64_t from = starts[s], to = s + 1 < nsizes ? starts[s + 1] : (int64_t)npool;
    if (from < 0 || to < from || to > (int64_t)npool) return 0;
    grams g = {rows, pool + from, (uint32_t)(to - from) / (s + 1), s + 1};
    if (!g.count) continue;
    tn_value sum = 0;
    for (int64_t k = 1; k <= (s ? skips + 1 : 1) && g.size >= least && g.size <= most; k++) {
      tn_value one = count_grams(x, &g, k);
      sum = sum && one ? add(x, sum, one) : one ? one : sum;
    }
    tn_dim shape[2] = {tn_ox_dim(x, rows, 0), tn_ox_d(x, g.count)};
    parts[nparts++] = sum ? sum : tn_ox_full(x, tn_ox_scalar_int(x, TN_DT_i64, 0), shape, 2);
    *made += g.count;
  }
  return nparts ? tn_ox_cast(x, tn_ox_concat(x, parts, nparts, 1), TN_DT_f32) : 0;
}

tn_status tn_ox_lower_tf_idf(tn_ox *x, tn_ox_node *n) {
  uint32_t npool, nindexes, nweights, made, rank;
  const int64_t *pool = tn_ox_ints(n, "pool_int64s", &npool), *at = tn_ox_ints(n, "ngram_indexes", &nindexes);
  const float *weights = tn_ox_floats(n, "weights", &nweights);
  const char *mode = tn_ox_str(n, "mode", "TF");
  int64_t size = 0;
  if (tn_ox_has_attr(n, "pool_strings"))
    return tn_ox_refuse(x, n, "map the words to numbers before the model", "n-grams of strings");
  if (strcmp(mode, "TF") && strcmp(mode, "IDF") && strcmp(mode, "TFIDF"))
    return tn_ox_fail(x, n, "mode is '%s', wants TF, IDF or TFIDF", mode);
  tn_value v = tn_ox_cast(x, tn_ox_in(x, n, 0), TN_DT_i64);
  rank = tn_ox_rank(x, v);
  if (rank < 2)
    v = tn_ox_reshape(x, v, (tn_dim[]){tn_ox_d(x, 1), rank ? tn_ox_dim(x, v, 0) : tn_ox_d(x, 1)}, 2);
  if (rank > 2) return tn_ox_fail(x, n, "input has rank %u, wants 1 or 2", rank);
  tn_value counts = count_all(x, n, v, pool, npool, &made);
  if (!counts || made != nindexes)
    return tn_ox_fail(x, n, "ngram_indexes has %u entries for %u n-grams", nindexes, made);
  for (uint32_t i = 0; i < nindexes; i++) {
    if (at[i] < 0 || at[i] > 1 << 24)
      return tn_ox_fail(x, n, "ngram_indexes has entry %lld", (long long)at[i]);
    if (at[i] >= size) size = at[i] + 1;
  }
  tn_dim batch = tn_ox_dim(x, v, 0), shape[2] = {tn_ox_d(x, size), batch}, flat = tn_ox_d(x, size);
  tn_value zeros = tn_ox_full(x, tn_ox_scalar(x, TN_DT_f32, 0), shape, 2);
  tn_value in[] = {zeros, tn_ox_ints_1d(x, at, nindexes), tn_ox_swap(x, counts, 0, 1)};
  tn_value y = tn_ox_swap(x, tn_ox_make(x, "scatter", in, 3, TN_OX_ATTRS(TN_OX_STR("reduce", "add"))), 0, 1);
  if (!strcmp(mode, "IDF"))
    y = tn_ox_cast(x, tn_ox_compare(x, "gt", y, tn_ox_scalar(x, TN_DT_f32, 0)), TN_DT_f32);
  if (strcmp(mode, "TF") && nweights) {
    double *w = nweights == (uint64_t)size ? tn_mem_alloc(nweights * sizeof *w) : NULL;
    if (!w) return tn_ox_fail(x, n, "weights has %u entries for %lld columns", nweights, (long long)size);
    for (uint32_t i = 0; i < nweights; i++) w[i] = (double)weights[i];
    y = mul(x, y, tn_ox_floats_1d(x, TN_DT_f32, w, nweights));
    tn_mem_free(w);
  }
  return tn_ox_out(x, n, 0, rank < 2 ? tn_ox_reshape(x, y, &flat, 1) : y);
}

tn_status tn_ox_lower_det(tn_ox *x, tn_ox_node *n) {
  tn_value v = tn_ox_in(x, n, 0);
  return tn_ox_out(x, n, 0, v ? tn_ox_make(x, "det", &v, 1, NULL) : 0);
}
