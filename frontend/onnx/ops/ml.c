/* ml.c - ai.onnx.ml: what prepares features, and linear models. All of it becomes ordinary ops; results are
 * f32 as the domain says, whatever the inputs are. Strings and maps are refused. */
#include "frontend/onnx/ops/ml.h"
#include <math.h>
#include <stdio.h>

static const char strings[] = "map the strings to numbers before the model";

double *tn_ox_numbers(tn_ox *x, tn_ox_node *n, const char *name, uint32_t *count) {
  char tensor[64];
  const float *list = tn_ox_floats(n, name, count);
  snprintf(tensor, sizeof tensor, "%s_as_tensor", name);
  tn_value v = list ? 0 : tn_ox_tensor(x, n, tensor);
  int64_t size = 0;
  if (v && (tn_ox_rank(x, v) != 1 || !tn_ox_dconst(x, tn_ox_dim(x, v, 0), &size))) return NULL;
  if (v) *count = (uint32_t)size;
  if (!*count) return NULL;
  double *out = tn_mem_alloc(*count * sizeof *out);
  if (!out || (v && !tn_ox_known_floats(x, v, out, *count, count))) {
    tn_ox_fail(x, n, "attribute '%s' cannot be read", name);
    tn_mem_free(out);
    *count = 0;
    return NULL;
  }
  for (uint32_t i = 0; list && i < *count; i++) out[i] = (double)list[i];
  return out;
}

tn_value tn_ox_table(tn_ox *x, tn_dtype t, const double *values, int64_t rows, int64_t columns) {
  tn_dim dims[2] = {tn_ox_d(x, rows), tn_ox_d(x, columns)};
  if (rows * columns > UINT32_MAX) return 0;
  return tn_ox_reshape(x, tn_ox_floats_1d(x, t, values, (uint32_t)(rows * columns)), dims, 2);
}

tn_value tn_ox_features(tn_ox *x, tn_ox_node *n, uint32_t input) {
  tn_value v = tn_ox_in(x, n, input);
  if (!v) return 0;
  if (tn_ox_dtype(x, v) != TN_DT_f64) v = tn_ox_cast(x, v, TN_DT_f32);
  if (tn_ox_rank(x, v) == 1) v = tn_ox_unsqueeze(x, v, 0);
  if (tn_ox_rank(x, v) != 2) tn_ox_fail(x, n, "input has rank %u, wants 1 or 2", tn_ox_rank(x, v));
  return v;
}

tn_value tn_ox_number_like(tn_ox *x, tn_value v, const char *op, double number) {
  return tn_ox_binary(x, op, v, tn_ox_scalar_like(x, v, number));
}
tn_value tn_ox_two_columns(tn_ox *x, tn_value low, tn_value high) {
  return tn_ox_concat(x, (tn_value[]){low, high}, 2, 1);
}

/* ---- features ----------------------------------------------------------------------------------------- */
tn_status tn_ox_lower_array_feature_extractor(tn_ox *x, tn_ox_node *n) {
  tn_value v = tn_ox_in(x, n, 0), at = tn_ox_in(x, n, 1);
  tn_dim all = tn_ox_d(x, 1);
  if (!v || !at) return tn_ox_out(x, n, 0, 0);
  for (uint32_t i = 0; i < tn_ox_rank(x, at); i++) all = tn_ox_dmul(x, all, tn_ox_dim(x, at, i));
  if (tn_ox_rank(x, v) == 1) v = tn_ox_unsqueeze(x, v, 0);
  if (!tn_ox_rank(x, v)) return tn_ox_fail(x, n, "input has rank 0, wants at least 1");
  at = tn_ox_reshape(x, at, &all, 1);
  return tn_ox_out(x, n, 0, tn_ox_gather(x, v, at, tn_ox_rank(x, v) - 1));
}

tn_status tn_ox_lower_binarizer(tn_ox *x, tn_ox_node *n) {
  tn_value v = tn_ox_in(x, n, 0);
  tn_value more = tn_ox_compare(x, "gt", v, tn_ox_scalar_like(x, v, tn_ox_float(n, "threshold", 0)));
  return tn_ox_out(x, n, 0, tn_ox_cast(x, more, tn_ox_dtype(x, v)));
}

/* A list of one or of as many numbers as there are features. */
static tn_value per_feature(tn_ox *x, tn_ox_node *n, const char *name, double otherwise) {
  uint32_t count;
  double *list = tn_ox_numbers(x, n, name, &count);
  tn_value v = list ? tn_ox_floats_1d(x, TN_DT_f32, list, count) : tn_ox_scalar(x, TN_DT_f32, otherwise);
  tn_mem_free(list);
  return v;
}
tn_status tn_ox_lower_scaler(tn_ox *x, tn_ox_node *n) {
  tn_value v = tn_ox_cast(x, tn_ox_in(x, n, 0), TN_DT_f32);
  v = tn_ox_binary(x, "sub", v, per_feature(x, n, "offset", 0));
  return tn_ox_out(x, n, 0, tn_ox_binary(x, "mul", v, per_feature(x, n, "scale", 1)));
}

/* A row of zeros stays one. */
tn_status tn_ox_lower_normalizer(tn_ox *x, tn_ox_node *n) {
  const char *norm = tn_ox_str(n, "norm", "MAX");
  tn_value v = tn_ox_cast(x, tn_ox_in(x, n, 0), TN_DT_f32), by;
  const int64_t last[] = {-1};
  if (!strcmp(norm, "MAX"))
    by = tn_ox_reduce(x, "reduce_max", v, last, 1, true);
  else if (!strcmp(norm, "L1"))
    by = tn_ox_reduce(x, "reduce_sum", tn_ox_unary(x, "abs", v), last, 1, true);
  else if (!strcmp(norm, "L2"))
    by = tn_ox_unary(x, "sqrt", tn_ox_reduce(x, "reduce_sum", tn_ox_binary(x, "mul", v, v), last, 1, true));
  else
    return tn_ox_fail(x, n, "norm is '%s', wants MAX, L1 or L2", norm);
  tn_value some = tn_ox_compare(x, "ne", by, tn_ox_scalar_like(x, by, 0));
  by = tn_ox_select(x, some, by, tn_ox_scalar_like(x, by, 1));
  return tn_ox_out(x, n, 0, tn_ox_binary(x, "div", v, by));
}

tn_status tn_ox_lower_imputer(tn_ox *x, tn_ox_node *n) {
  tn_value v = tn_ox_in(x, n, 0), with, missing;
  uint32_t count;
  const int64_t *ints = tn_ox_ints(n, "imputed_value_int64s", &count);
  if (ints) {
    with = tn_ox_ints_1d(x, ints, count);
    int64_t replaced = tn_ox_int(n, "replaced_value_int64", 0);
    missing = tn_ox_compare(x, "eq", v, tn_ox_scalar_int(x, TN_DT_i64, replaced));
  } else {
    double replaced = tn_ox_float(n, "replaced_value_float", 0);
    with = tn_ox_cast(x, per_feature(x, n, "imputed_value_floats", 0), tn_ox_dtype(x, v));
    missing = isnan(replaced) ? tn_ox_compare(x, "ne", v, v)
                              : tn_ox_compare(x, "eq", v, tn_ox_scalar_like(x, v, replaced));
  }
  return tn_ox_out(x, n, 0, tn_ox_select(x, missing, with, v));
}

/* The first `inputdimensions` columns of each input, side by side. */
tn_status tn_ox_lower_feature_vectorizer(tn_ox *x, tn_ox_node *n) {
  tn_value parts[64];
  uint32_t count, inputs = tn_ox_nin(n);
  const int64_t *widths = tn_ox_ints(n, "inputdimensions", &count);
  if (inputs > TN_COUNT(parts))
    return tn_ox_refuse(x, n, NULL, "%u inputs; the most is %zu", inputs, TN_COUNT(parts));
  for (uint32_t i = 0; i < inputs; i++) {
    tn_value v = tn_ox_cast(x, tn_ox_in(x, n, i), TN_DT_f32);
    if (tn_ox_rank(x, v) == 1) v = tn_ox_unsqueeze(x, v, 1);
    if (i < count) v = tn_ox_slice(x, v, 1, tn_ox_d(x, 0), tn_ox_d(x, widths[i]), 1);
    parts[i] = v;
  }
  return tn_ox_out(x, n, 0, tn_ox_concat(x, parts, inputs, 1));
}

tn_status tn_ox_lower_one_hot_encoder(tn_ox *x, tn_ox_node *n) {
  uint32_t count;
  const int64_t *categories = tn_ox_ints(n, "cats_int64s", &count);
  if (!categories) return tn_ox_refuse(x, n, strings, "categories that are strings");
  tn_value v = tn_ox_cast(x, tn_ox_in(x, n, 0), TN_DT_i64);
  tn_value hot =
      tn_ox_compare(x, "eq", tn_ox_unsqueeze(x, v, tn_ox_rank(x, v)), tn_ox_ints_1d(x, categories, count));
  return tn_ox_out(x, n, 0, tn_ox_cast(x, hot, TN_DT_f32));
}

/* ---- labels ------------------------------------------------------------------------------------------- */
/* Keys or values: ints, floats or a tensor; 0: none of them. */
static tn_value label_list(tn_ox *x, tn_ox_node *n, const char *what) {
  char ints[40], floats[40], tensor[40];
  uint32_t count;
  snprintf(ints, sizeof ints, "%s_int64s", what);
  snprintf(floats, sizeof floats, "%s_floats", what);
  snprintf(tensor, sizeof tensor, "%s_tensor", what);
  const int64_t *whole = tn_ox_ints(n, ints, &count);
  if (whole) return tn_ox_ints_1d(x, whole, count);
  double *real = tn_ox_numbers(x, n, floats, &count);
  tn_value v = real ? tn_ox_floats_1d(x, TN_DT_f32, real, count) : tn_ox_tensor(x, n, tensor);
  tn_mem_free(real);
  return v;
}

/* Which key each element is; the number of keys where it is none. */
static tn_value label_of(tn_ox *x, tn_ox_node *n) {
  uint32_t count;
  const char *const *words = tn_ox_strs(n, "keys_strings", &count);
  if (!words) words = tn_ox_tensor_strs(x, n, "keys_tensor", &count);
  if (words) return tn_ox_text_lookup(x, n, 0, words, count);
  tn_value v = tn_ox_in(x, n, 0), keys = label_list(x, n, "keys");
  if (!keys) return tn_ox_fail(x, n, "keys are missing"), 0;
  tn_value item = tn_ox_unsqueeze(x, v, tn_ox_rank(x, v)), hit = tn_ox_compare(x, "eq", item, keys);
  if (tn_ox_is_float(x, keys) && tn_ox_version(n) >= 4) { /* NaN is a key, too */
    tn_value both =
        tn_ox_binary(x, "and", tn_ox_compare(x, "ne", item, item), tn_ox_compare(x, "ne", keys, keys));
    hit = tn_ox_binary(x, "or", hit, both);
  }
  const int64_t last[] = {-1};
  hit = tn_ox_cast(x, hit, TN_DT_i32);
  tn_value found = tn_ox_cast(x, tn_ox_reduce(x, "reduce_max", hit, last, 1, false), TN_DT_bool);
  tn_value at = hit ? tn_ox_make(x, "argmax", &hit, 1, TN_OX_ATTRS(TN_OX_INT("axis", -1))) : 0;
  return tn_ox_select(x, found, at, tn_ox_dim_value(x, tn_ox_dim(x, keys, 0)));
}

static tn_status text_labels(tn_ox *x, tn_ox_node *n, const char *const *values, uint32_t count) {
  const char *otherwise = tn_ox_str(n, "default_string", "_Unused");
  return tn_ox_out_text(x, n, 0, tn_ox_text_pick(x, values, count, otherwise, label_of(x, n)));
}

tn_status tn_ox_lower_label_encoder(tn_ox *x, tn_ox_node *n) {
  uint32_t count;
  const char *const *words = tn_ox_strs(n, "values_strings", &count);
  if (!words) words = tn_ox_tensor_strs(x, n, "values_tensor", &count);
  if (words) return text_labels(x, n, words, count);
  if (tn_ox_has_attr(n, "classes_strings")) return tn_ox_refuse(x, n, strings, "classes that are strings");
  tn_value at = label_of(x, n), values = label_list(x, n, "values");
  if (!values) return tn_ox_fail(x, n, "values are missing");
  tn_value given = tn_ox_tensor(x, n, "default_tensor"), otherwise;
  tn_dtype t = tn_ox_dtype(x, values);
  if (given)
    otherwise = tn_ox_reshape(x, given, NULL, 0);
  else if (t == TN_DT_i64)
    otherwise = tn_ox_scalar_int(x, t, tn_ox_int(n, "default_int64", -1));
  else
    otherwise = tn_ox_scalar(x, t, tn_ox_float(n, "default_float", -0.0));
  tn_value found = tn_ox_compare(x, "lt", at, tn_ox_dim_value(x, tn_ox_dim(x, values, 0)));
  return tn_ox_out(x, n, 0, tn_ox_select(x, found, tn_ox_gather(x, values, at, 0), otherwise));
}

tn_value tn_ox_labels(tn_ox *x, tn_ox_node *n, const char *name, tn_value which) {
  char key[64];
  uint32_t count;
  snprintf(key, sizeof key, "%s_strings", name);
  if (tn_ox_has_attr(n, key)) {
    tn_ox_refuse(x, n, strings, "classes that are strings");
    return 0;
  }
  snprintf(key, sizeof key, "%s_int64s", name);
  const int64_t *list = tn_ox_ints(n, key, &count);
  snprintf(key, sizeof key, "%s_ints", name);
  if (!list) list = tn_ox_ints(n, key, &count);
  return list ? tn_ox_gather(x, tn_ox_ints_1d(x, list, count), which, 0) : which;
}

/* ---- scores ------------------------------------------------------------------------------------------- */
/* sqrt(2) erfinv(2 p - 1) in Winitzki's approximation, which ONNX Runtime has. */
static tn_value probit(tn_ox *x, tn_value p) {
  tn_value v = tn_ox_number_like(x, tn_ox_number_like(x, p, "mul", 2), "sub", 1);
  tn_value one = tn_ox_scalar_like(x, v, 1);
  tn_value log = tn_ox_unary(
      x, "log", tn_ox_binary(x, "mul", tn_ox_binary(x, "sub", one, v), tn_ox_binary(x, "add", one, v)));
  tn_value a = tn_ox_number_like(x, tn_ox_number_like(x, log, "mul", 0.5), "add",
                                 2 / (3.14159265358979323846 * 0.147));
  tn_value b = tn_ox_number_like(x, log, "mul", 1 / 0.147);
  tn_value root = tn_ox_unary(x, "sqrt", tn_ox_binary(x, "sub", tn_ox_binary(x, "mul", a, a), b));
  tn_value size = tn_ox_unary(x, "sqrt", tn_ox_binary(x, "sub", root, a));
  return tn_ox_number_like(x, tn_ox_binary(x, "mul", tn_ox_unary(x, "sign", v), size), "mul", 1.41421356);
}

/* As softmax, but numbers near 0 become their e^-max part: times, not e to the power of. */
static tn_value softmax_zero(tn_ox *x, tn_value v) {
  const int64_t last[] = {-1};
  tn_value max = tn_ox_reduce(x, "reduce_max", v, last, 1, true);
  tn_value some = tn_ox_compare(x, "gt", tn_ox_unary(x, "abs", v), tn_ox_scalar_like(x, v, 0.0000001));
  tn_value e = tn_ox_unary(x, "exp", tn_ox_binary(x, "sub", v, max));
  tn_value z = tn_ox_binary(x, "mul", v, tn_ox_unary(x, "exp", tn_ox_unary(x, "neg", max)));
  e = tn_ox_select(x, some, e, z);
  tn_value sum = tn_ox_reduce(x, "reduce_sum", e, last, 1, true), zero = tn_ox_scalar_like(x, sum, 0);
  tn_value none = tn_ox_compare(x, "eq", sum, zero);
  sum = tn_ox_select(x, none, tn_ox_scalar_like(x, sum, 1), sum);
  return tn_ox_select(x, none, tn_ox_scalar_like(x, sum, 0.5), tn_ox_binary(x, "div", e, sum));
}

tn_value tn_ox_post_named(tn_ox *x, tn_ox_node *n, tn_value scores, const char *how) {
  if (!strcmp(how, "NONE")) return scores;
  if (!strcmp(how, "SOFTMAX")) return tn_ox_softmax(x, scores, -1);
  if (!strcmp(how, "LOGISTIC")) return tn_ox_unary(x, "sigmoid", scores);
  if (!strcmp(how, "SOFTMAX_ZERO")) return softmax_zero(x, scores);
  if (!strcmp(how, "PROBIT")) return probit(x, scores);
  tn_ox_fail(x, n, "post_transform is '%s', wants NONE, SOFTMAX, LOGISTIC, SOFTMAX_ZERO or PROBIT", how);
  return 0;
}

tn_value tn_ox_post(tn_ox *x, tn_ox_node *n, tn_value scores) {
  return tn_ox_post_named(x, n, scores, tn_ox_str(n, "post_transform", "NONE"));
}

/* ---- linear models ------------------------------------------------------------------------------------ */
/* X times coefficients [k, features], plus intercepts: [n, k]. */
static tn_value linear(tn_ox *x, tn_ox_node *n, int64_t k) {
  uint32_t count, intercepts;
  tn_value v = tn_ox_cast(x, tn_ox_features(x, n, 0), TN_DT_f32);
  double *c = tn_ox_numbers(x, n, "coefficients", &count),
         *b = tn_ox_numbers(x, n, "intercepts", &intercepts);
  tn_value made = 0;
  if (!c || k < 1 || count % k || (b && intercepts != k)) {
    tn_ox_fail(x, n, "%u coefficients and %u intercepts do not fit %lld targets", count, intercepts,
               (long long)k);
  } else {
    if (v) tn_ox_same(x, n, tn_ox_dim(x, v, 1), tn_ox_d(x, count / k));
    made = tn_ox_matmul(x, v, tn_ox_table(x, TN_DT_f32, c, k, count / k), false, true);
    if (b) made = tn_ox_binary(x, "add", made, tn_ox_floats_1d(x, TN_DT_f32, b, intercepts));
  }
  tn_mem_free(c);
  tn_mem_free(b);
  return made;
}

tn_status tn_ox_lower_linear_regressor(tn_ox *x, tn_ox_node *n) {
  return tn_ox_out(x, n, 0, tn_ox_post(x, n, linear(x, n, tn_ox_int(n, "targets", 1))));
}

static uint32_t label_count(tn_ox_node *n) {
  uint32_t count;
  tn_ox_ints(n, "classlabels_ints", &count);
  return count;
}

/* One score is that of the second of two classes, which wins when it is positive. */
static tn_value binary_scores(tn_ox *x, tn_ox_node *n, tn_value high) {
  const char *how = tn_ox_str(n, "post_transform", "NONE");
  if (!strcmp(how, "NONE"))
    return tn_ox_two_columns(x, tn_ox_binary(x, "sub", tn_ox_scalar_like(x, high, 1), high), high);
  if (!strcmp(how, "LOGISTIC"))
    return tn_ox_post(x, n, tn_ox_two_columns(x, tn_ox_unary(x, "neg", high), high));
  tn_ox_refuse(x, n, "state two rows of coefficients",
               "post_transform %s of a single score, of which runtimes make different things", how);
  return 0;
}

tn_status tn_ox_lower_linear_classifier(tn_ox *x, tn_ox_node *n) {
  uint32_t intercepts, labels = label_count(n);
  tn_mem_free(tn_ox_numbers(x, n, "intercepts", &intercepts));
  int64_t k = intercepts ? intercepts : labels == 2 ? 1 : labels;
  tn_value scores = linear(x, n, k), which;
  if (k > 1) {
    which = scores ? tn_ox_make(x, "argmax", &scores, 1, TN_OX_ATTRS(TN_OX_INT("axis", -1))) : 0;
    scores = tn_ox_post(x, n, scores);
  } else {
    tn_value positive = tn_ox_compare(x, "gt", scores, tn_ox_scalar_like(x, scores, 0));
    which = tn_ox_squeeze(x, tn_ox_cast(x, positive, TN_DT_i64), 1);
    scores = labels == 2 ? binary_scores(x, n, scores) : tn_ox_post(x, n, scores);
  }
  TN_TRY(tn_ox_out(x, n, 0, labels != 1 ? tn_ox_labels(x, n, "classlabels", which) : which));
  return tn_ox_wants(n, 1) ? tn_ox_out(x, n, 1, scores) : TN_OK;
}

tn_status tn_ox_lower_zip_map(tn_ox *x, tn_ox_node *n) {
  return tn_ox_refuse(x, n, "export without it (skl2onnx: zipmap=False): its input has the scores",
                      "a result that is a map");
}
