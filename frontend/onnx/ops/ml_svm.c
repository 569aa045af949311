/* ml_svm.c - support vector machines: a table of kernels of rows and vectors, [n, vectors], times
 * coefficients. With several classes every pair of them has a column of coefficients, and the pairs vote. */
#include "frontend/onnx/ops/ml.h"

enum { MAX_CLASSES = 128 }; /* every pair of them has its column */

typedef struct svm {
  tn_ox *x;
  tn_ox_node *n;
  tn_value features;
  double *vectors, *coefficients, *rho, params[3]; /* gamma, coef0, degree */
  uint32_t nvectors, ncoefficients, nrho;
} svm;

static void fini(svm *s) {
  tn_mem_free(s->vectors);
  tn_mem_free(s->coefficients);
  tn_mem_free(s->rho);
}

static bool read(svm *s) {
  uint32_t count;
  double *p = tn_ox_numbers(s->x, s->n, "kernel_params", &count);
  for (uint32_t i = 0; i < 3 && i < count; i++) s->params[i] = p[i];
  tn_mem_free(p);
  s->features = tn_ox_cast(s->x, tn_ox_features(s->x, s->n, 0), TN_DT_f32);
  s->vectors = tn_ox_numbers(s->x, s->n, "support_vectors", &s->nvectors);
  s->coefficients = tn_ox_numbers(s->x, s->n, "coefficients", &s->ncoefficients);
  s->rho = tn_ox_numbers(s->x, s->n, "rho", &s->nrho);
  if (s->features && s->ncoefficients && s->nrho && !tn_ox_failed(s->x)) return true;
  tn_ox_fail(s->x, s->n, "%u coefficients and %u rho", s->ncoefficients, s->nrho);
  return false;
}

/* Kernels of every row with every one of `count` vectors of as many numbers. */
static tn_value kernels(svm *s, const char *kind, const double *list, uint32_t numbers, int64_t count) {
  tn_ox *x = s->x;
  if (count < 1 || numbers % count) {
    tn_ox_fail(x, s->n, "%u numbers do not make %lld vectors", numbers, (long long)count);
    return 0;
  }
  tn_value table = tn_ox_table(x, TN_DT_f32, list, count, numbers / count);
  tn_ox_same(x, s->n, tn_ox_dim(x, s->features, 1), tn_ox_d(x, numbers / count));
  if (!strcmp(kind, "RBF")) {
    tn_value apart = tn_ox_binary(x, "sub", tn_ox_unsqueeze(x, s->features, 1), tn_ox_unsqueeze(x, table, 0));
    const int64_t last[] = {-1};
    apart = tn_ox_reduce(x, "reduce_sum", tn_ox_binary(x, "mul", apart, apart), last, 1, false);
    return tn_ox_unary(x, "exp", tn_ox_number_like(x, apart, "mul", -s->params[0]));
  }
  tn_value dot = tn_ox_matmul(x, s->features, table, false, true);
  if (!strcmp(kind, "LINEAR")) return dot;
  dot = tn_ox_number_like(x, tn_ox_number_like(x, dot, "mul", s->params[0]), "add", s->params[1]);
  if (!strcmp(kind, "POLY")) return tn_ox_number_like(x, dot, "pow", s->params[2]);
  if (!strcmp(kind, "SIGMOID")) return tn_ox_unary(x, "tanh", dot);
  tn_ox_fail(x, s->n, "kernel_type is '%s', wants LINEAR, POLY, RBF or SIGMOID", kind);
  return 0;
}

static const char *kind_of(svm *s) { return tn_ox_str(s->n, "kernel_type", "LINEAR"); }

tn_status tn_ox_lower_svm_regressor(tn_ox *x, tn_ox_node *n) {
  svm s = {.x = x, .n = n};
  int64_t count = tn_ox_int(n, "n_supports", 0);
  tn_value y = 0;
  if (strcmp(tn_ox_str(n, "post_transform", "NONE"), "NONE"))
    return tn_ox_refuse(x, n, NULL, "post_transform %s of a regression", tn_ox_str(n, "post_transform", ""));
  if (read(&s)) {
    if (count > 0 && (int64_t)s.ncoefficients == count)
      y = tn_ox_matmul(x, kernels(&s, kind_of(&s), s.vectors, s.nvectors, count),
                       tn_ox_table(x, TN_DT_f32, s.coefficients, count, 1), false, false);
    else
      y = kernels(&s, "LINEAR", s.coefficients, s.ncoefficients, 1);
    y = tn_ox_number_like(x, y, "add", s.rho[0]);
  }
  if (y && tn_ox_int(n, "one_class", 0)) {
    tn_value in = tn_ox_compare(x, "gt", y, tn_ox_scalar_like(x, y, 0));
    y = tn_ox_select(x, in, tn_ox_scalar_like(x, y, 1), tn_ox_scalar_like(x, y, -1));
  }
  fini(&s);
  return tn_ox_out(x, n, 0, y);
}

/* ---- classes ------------------------------------------------------------------------------------------ */
/* Column p of the result decides between classes a < b: coefficients of a's vectors against b, and the other
 * way. */
static double *pair_columns(const svm *s, const int64_t *per_class, uint32_t classes, int64_t vectors) {
  uint64_t pairs = (uint64_t)classes * (classes - 1) / 2, p = 0;
  double *c = tn_mem_alloc((uint64_t)vectors * pairs * sizeof *c);
  if (c) memset(c, 0, (uint64_t)vectors * pairs * sizeof *c);
  int64_t at_a = 0;
  for (uint32_t a = 0; c && a < classes; at_a += per_class[a++]) {
    int64_t at_b = at_a + per_class[a];
    for (uint32_t b = a + 1; b < classes; at_b += per_class[b++], p++) {
      for (int64_t i = at_a; i < at_a + per_class[a]; i++)
        c[(uint64_t)i * pairs + p] = s->coefficients[(int64_t)(b - 1) * vectors + i];
      for (int64_t i = at_b; i < at_b + per_class[b]; i++)
        c[(uint64_t)i * pairs + p] = s->coefficients[(int64_t)a * vectors + i];
    }
  }
  return c;
}

/* Votes of all pairs: [n, classes]; `scores` [n, pairs], positive for the first of a pair. */
static tn_value votes(svm *s, tn_value scores, uint32_t classes) {
  tn_ox *x = s->x;
  int64_t pairs = (int64_t)classes * (classes - 1) / 2, p = 0;
  double *first = tn_mem_alloc((uint64_t)pairs * classes * 2 * sizeof *first),
         *second = first + pairs * classes;
  if (!first) return 0;
  memset(first, 0, (uint64_t)pairs * classes * 2 * sizeof *first);
  for (uint32_t a = 0; a < classes; a++)
    for (uint32_t b = a + 1; b < classes; b++, p++) first[p * classes + a] = second[p * classes + b] = 1;
  tn_value wins = tn_ox_cast(x, tn_ox_compare(x, "gt", scores, tn_ox_scalar_like(x, scores, 0)), TN_DT_f32);
  tn_value loses = tn_ox_binary(x, "sub", tn_ox_scalar_like(x, wins, 1), wins);
  tn_value a = tn_ox_matmul(x, wins, tn_ox_table(x, TN_DT_f32, first, pairs, classes), false, false);
  tn_value b = tn_ox_matmul(x, loses, tn_ox_table(x, TN_DT_f32, second, pairs, classes), false, false);
  tn_mem_free(first);
  return tn_ox_binary(x, "add", a, b);
}

static tn_value best(tn_ox *x, tn_value v) {
  return v ? tn_ox_make(x, "argmax", &v, 1, TN_OX_ATTRS(TN_OX_INT("axis", -1))) : 0;
}

/* Scores of pairs, [n, pairs], and which class has the most votes. */
static tn_value pair_scores(svm *s, uint32_t classes, tn_value *which) {
  uint32_t n;
  const int64_t *per_class = tn_ox_ints(s->n, "vectors_per_class", &n);
  int64_t vectors = 0, pairs = (int64_t)classes * (classes - 1) / 2;
  for (uint32_t i = 0; i < n; i++)
    vectors += per_class[i] < 0 || per_class[i] > INT32_MAX ? INT32_MAX : per_class[i];
  if (n != classes || classes < 2 || s->nrho != pairs ||
      (uint64_t)vectors * (classes - 1) != s->ncoefficients) {
    tn_ox_fail(s->x, s->n, "%u coefficients and %u rho do not fit %u classes with %lld vectors",
               s->ncoefficients, s->nrho, classes, (long long)vectors);
    return 0;
  }
  double *c = pair_columns(s, per_class, classes, vectors);
  tn_value k = kernels(s, kind_of(s), s->vectors, s->nvectors, vectors);
  tn_value made =
      c ? tn_ox_matmul(s->x, k, tn_ox_table(s->x, TN_DT_f32, c, vectors, pairs), false, false) : 0;
  made = tn_ox_binary(s->x, "add", made, tn_ox_floats_1d(s->x, TN_DT_f32, s->rho, s->nrho));
  tn_mem_free(c);
  *which = best(s->x, votes(s, made, classes));
  return made;
}

tn_status tn_ox_lower_svm_classifier(tn_ox *x, tn_ox_node *n) {
  svm s = {.x = x, .n = n};
  uint32_t classes, per_class;
  tn_value which = 0, scores = 0;
  tn_ox_ints(n, "classlabels_ints", &classes);
  tn_ox_ints(n, "vectors_per_class", &per_class);
  if (tn_ox_has_attr(n, "prob_a"))
    return tn_ox_refuse(x, n, "export without probabilities (scikit-learn: SVC(probability=False))",
                        "probabilities of a support vector machine");
  if (per_class && classes > MAX_CLASSES)
    return tn_ox_refuse(x, n, NULL, "%u classes; the most is %d", classes, MAX_CLASSES);
  if (read(&s)) {
    if (per_class)
      scores = pair_scores(&s, classes, &which);
    else
      scores = tn_ox_number_like(x, kernels(&s, "LINEAR", s.coefficients, s.ncoefficients, classes), "add",
                                 s.rho[0]);
    if (!per_class) which = best(x, scores);
  }
  fini(&s);
  if (per_class && classes == 2) scores = tn_ox_two_columns(x, tn_ox_unary(x, "neg", scores), scores);
  TN_TRY(tn_ox_out(x, n, 0, which ? tn_ox_labels(x, n, "classlabels", which) : 0));
  return tn_ox_wants(n, 1) ? tn_ox_out(x, n, 1, tn_ox_post(x, n, scores)) : TN_OK;
}
