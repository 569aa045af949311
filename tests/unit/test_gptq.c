/* test_gptq.c - GPTQ's numerics against the formulas of its paper in plain C and double: second moments, the
 * factor of their inverse, codes column by column with an explicit inverse; scaling against its definition.
 */
#include "passes/quantize/gptq.h"
#include "passes/quantize/scaling.h"
#include "ir/base/base.h"
#include "ir/ir.h"
#include "ir/quant/encode.h"
#include <check.h>
#include <math.h>
#include <stdlib.h>

enum { K = 192, ROWS = 19, TOKENS = 600 };
static float x[TOKENS * K], w[ROWS * K], h[K * K], u[K * K];
static double full[K * K], inverse[K * K];
static uint32_t order[K];

static uint32_t state;
static double uniform(void) { /* in -1 .. 1 */
  state = state * 1664525u + 1013904223u;
  return (double)(state >> 8) / 8388608.0 - 1;
}

/* Values whose columns differ in size and go together. */
static void setup(void) {
  state = 7;
  for (int t = 0; t < TOKENS; t++) {
    double common = uniform();
    for (int k = 0; k < K; k++) x[t * K + k] = (float)((uniform() + 0.7 * common) * exp(1.2 * sin(0.37 * k)));
  }
  for (int i = 0; i < ROWS * K; i++) w[i] = (float)(0.05 * (uniform() + uniform() + uniform()));
  memset(h, 0, sizeof h);
  for (int i = 0; i < K; i++)
    for (int j = 0; j < K; j++) {
      double sum = 0;
      for (int t = 0; t < TOKENS; t++) sum += (double)x[t * K + i] * (double)x[t * K + j];
      full[i * K + j] = sum;
    }
}

static double mean_of_diagonal(void) {
  double sum = 0;
  for (int i = 0; i < K; i++) sum += full[i * K + i];
  return sum / K;
}

START_TEST(moments_of_values) {
  ck_assert_int_eq(tn_gptq_moments(h, K, x, 400, 1), TN_OK);
  ck_assert_int_eq(tn_gptq_moments(h, K, x + 400 * K, TOKENS - 400, 2), TN_OK);
  for (int i = 0; i < K; i++)
    for (int j = i; j < K; j++)
      ck_assert_double_le(fabs((double)h[i * K + j] - full[i * K + j]),
                          1e-5 * sqrt(full[i * K + i] * full[j * K + j]));
}
END_TEST

static void factor(bool act_order) {
  tn_gptq_options o = {.damp = 0.02, .act_order = act_order, .threads = 2};
  ck_assert_int_eq(tn_gptq_moments(h, K, x, TOKENS, 1), TN_OK);
  ck_assert_int_eq(tn_gptq_factor(h, K, &o, order, u), TN_OK);
}

/* u^T u (H + damping) = 1, in the order of the columns. */
START_TEST(factor_of_inverse) {
  static double p[K * K];
  factor(_i);
  double add = 0.02 * mean_of_diagonal();
  for (int i = 0; i < K; i++) {
    for (int j = 0; j < i; j++) ck_assert(u[i * K + j] == 0);
    if (_i && i) ck_assert(full[order[i - 1] * (K + 1)] >= full[order[i] * (K + 1)] * (1 - 1e-6));
    if (!_i) ck_assert_uint_eq(order[i], (uint32_t)i);
  }
  for (int i = 0; i < K; i++)
    for (int j = 0; j < K; j++) {
      p[i * K + j] = 0;
      for (int r = 0; r <= (i < j ? i : j); r++) p[i * K + j] += (double)u[r * K + i] * (double)u[r * K + j];
    }
  for (int i = 0; i < K; i++)
    for (int j = 0; j < K; j++) {
      double sum = 0;
      for (int k = 0; k < K; k++) sum += p[i * K + k] * (full[order[k] * K + order[j]] + (k == j ? add : 0));
      ck_assert_double_le(fabs(sum - (i == j)), 1e-4);
    }
}
END_TEST

/* ---- codes --------------------------------------------------------------------------------------------- */

/* Gauss-Jordan on H + damping. */
static void invert(void) {
  static double a[K * K];
  double add = 0.02 * mean_of_diagonal();
  memcpy(a, full, sizeof a);
  memset(inverse, 0, sizeof inverse);
  for (int i = 0; i < K; i++) a[i * K + i] += add, inverse[i * K + i] = 1;
  for (int c = 0; c < K; c++) {
    double d = a[c * K + c];
    for (int j = 0; j < K; j++) a[c * K + j] /= d, inverse[c * K + j] /= d;
    for (int r = 0; r < K; r++) {
      double f = a[r * K + c];
      if (r == c || f == 0) continue;
      for (int j = 0; j < K; j++)
        a[r * K + j] -= f * a[c * K + j], inverse[r * K + j] -= f * inverse[c * K + j];
    }
  }
}

static void rebuild(tn_dtype t, const uint8_t *bytes, float *out) {
  const tn_quant *q = tn_quant_of(t);
  for (int i = 0; i < ROWS * K / (int)q->values; i++)
    tn_quant_unpack(q, bytes + (uint64_t)i * q->bytes, out + (uint64_t)i * q->values);
}

static double product_error(const float *rebuilt) {
  double sum = 0;
  for (int r = 0; r < ROWS; r++)
    for (int i = 0; i < K; i++)
      for (int j = 0; j < K; j++)
        sum += (double)(rebuilt[r * K + i] - w[r * K + i]) * full[i * K + j] *
               (double)(rebuilt[r * K + j] - w[r * K + j]);
  return sum;
}

/* The paper's steps for one row: round, spread the error by the inverse, take the column out of it. Scales
 * are those that the encoder gives the weights as given: where the file's codes may lie is read from it. */
static void plain_row(const tn_quant *q, const uint8_t *row, const float *from, double *out) {
  static double inv[K * K];
  double v[K];
  memcpy(inv, inverse, sizeof inv);
  for (int i = 0; i < K; i++) v[i] = (double)from[i];
  for (int n = 0; n < K; n++) {
    int c = (int)order[n];
    const uint8_t *block = row + (uint64_t)c / q->values * q->bytes;
    double best = INFINITY;
    for (int code = 0; code < 16; code++) {
      uint8_t copy[64];
      float level[64];
      memcpy(copy, block, q->bytes);
      memset(copy + 2, code * 17, q->bytes - 2); /* s4: two bytes of scale, then nibbles */
      tn_quant_unpack(q, copy, level);
      if (fabs((double)level[0] - v[c]) < fabs(best - v[c])) best = (double)level[0];
    }
    double err = (v[c] - best) / inv[c * K + c];
    out[c] = best;
    for (int m = n + 1; m < K; m++) v[order[m]] -= err * inv[c * K + (int)order[m]];
    for (int a = n + 1; a < K; a++)
      for (int b = n + 1; b < K; b++) {
        int i = (int)order[a], j = (int)order[b];
        inv[i * K + j] -= inv[i * K + c] * inv[c * K + j] / inv[c * K + c];
      }
  }
}

START_TEST(codes_of_the_paper) {
  tn_dtype t = tn_ir_dtype_by_name("s4_32");
  const tn_quant *q = tn_quant_of(t);
  static uint8_t rtn[ROWS * K], got[ROWS * K];
  static float rebuilt[ROWS * K], plain[ROWS * K];
  factor(true);
  invert();
  ck_assert_int_eq(tn_encode_rows(t, w, ROWS, K, NULL, rtn, NULL), TN_OK);
  tn_gptq g = {t, K, u, order, NULL};
  ck_assert_int_eq(tn_gptq_encode(&g, w, ROWS, got), TN_OK);
  rebuild(t, got, rebuilt);
  int other = 0;
  for (int r = 0; r < 3; r++) {
    double want[K];
    plain_row(q, rtn + r * (K / 32) * (int)q->bytes, w + r * K, want);
    for (int k = 0; k < K; k++) other += fabs(want[k] - (double)rebuilt[r * K + k]) > 1e-6;
  }
  ck_assert_int_le(other, 3 * K / 50); /* ties that roundings decide, and what follows from them */
  rebuild(t, rtn, plain);
  ck_assert_double_lt(product_error(rebuilt), 0.6 * product_error(plain));
}
END_TEST

static const char *const formats[] = {"s4_32", "u4_32", "u4_64",  "q4_0",   "q4_1",  "q5_0",
                                      "q5_1",  "q8_0",  "iq4_nl", "nf4_64", "mxfp4", "u2_32_f32"};

/* Every format: less error in the products than rounding each number by itself; with scales made when it is a
 * block's turn, and with the order by moments. */
START_TEST(every_format) {
  tn_dtype t = tn_ir_dtype_by_name(formats[_i]);
  static uint8_t bytes[ROWS * K * 2];
  static float rebuilt[ROWS * K];
  ck_assert(tn_gptq_can(t));
  ck_assert_int_eq(tn_encode_rows(t, w, ROWS, K, NULL, bytes, NULL), TN_OK);
  rebuild(t, bytes, rebuilt);
  double rtn = product_error(rebuilt);
  for (int act_order = 0; act_order < 2; act_order++) {
    memset(h, 0, sizeof h);
    factor(act_order);
    tn_gptq g = {t, K, u, act_order ? order : NULL, NULL};
    ck_assert_int_eq(tn_gptq_encode(&g, w, ROWS, bytes), TN_OK);
    rebuild(t, bytes, rebuilt);
    ck_assert_double_lt(product_error(rebuilt), 0.85 * rtn);
  }
}
END_TEST

START_TEST(what_it_refuses) {
  tn_gptq g = {tn_ir_dtype_by_name("q4_k"), K, u, NULL, NULL}; /* rows are no whole blocks of 256 */
  uint8_t out[1];
  ck_assert_int_eq(tn_gptq_encode(&g, w, 1, out), TN_UNSUPPORTED);
  ck_assert(!tn_gptq_can(tn_ir_dtype_by_name("s8_row")));
  ck_assert(!tn_gptq_can(tn_ir_dtype_by_name("iq2_xxs")));
  ck_assert(!tn_gptq_can(TN_DT_f16));
  /* Columns that meet nothing: damping alone. */
  tn_gptq_options o = {.threads = 1};
  memset(h, 0, sizeof h);
  ck_assert_int_eq(tn_gptq_factor(h, K, &o, order, u), TN_OK);
  h[3 * K + 3] = NAN;
  ck_assert_int_eq(tn_gptq_factor(h, K, &o, order, u), TN_INVALID);
}
END_TEST

/* ---- scaling ------------------------------------------------------------------------------------------- */

START_TEST(scales_by_search) {
  float s[K];
  double before, after;
  ck_assert_int_eq(tn_gptq_moments(h, K, x, TOKENS, 1), TN_OK);
  tn_scaling_matrix m = {w, ROWS, tn_ir_dtype_by_name("s4_64")};
  ck_assert_int_eq(tn_scaling_search(K, h, &m, 1, s, &before, &after), TN_OK);
  ck_assert_double_lt(after, before);
  static float scaled[ROWS * K], rebuilt[ROWS * K], importance[K];
  static uint8_t bytes[ROWS * K];
  for (int i = 0; i < ROWS * K; i++) scaled[i] = w[i] * s[i % K];
  for (int k = 0; k < K; k++) importance[k] = h[k * K + k] / (s[k] * s[k]);
  ck_assert_int_eq(tn_encode_rows(m.type, scaled, ROWS, K, importance, bytes, NULL), TN_OK);
  rebuild(m.type, bytes, rebuilt);
  for (int i = 0; i < ROWS * K; i++) rebuilt[i] /= s[i % K];
  ck_assert_double_le(fabs(product_error(rebuilt) - after), 1e-3 * after);
  m.type = tn_ir_dtype_by_name("s8_row");
  ck_assert_int_eq(tn_scaling_search(K, h, &m, 1, s, &before, &after), TN_UNSUPPORTED);
}
END_TEST

START_TEST(scales_by_extremes) {
  const float a[] = {4, 100, 0, 1}, b[] = {1, 0.25f, 2, 0};
  const double want[] = {2, 20, 1, 1};
  float s[4];
  tn_scaling_smooth(4, a, b, 0.5, s);
  for (int i = 0; i < 4; i++) ck_assert_double_le(fabs((double)s[i] - want[i]), 1e-5);
  tn_scaling_smooth(1, a + 1, b + 1, 0.75, s);
  ck_assert_double_le(fabs((double)s[0] - pow(100, 0.75) / pow(0.25, 0.25)), 1e-3);
}
END_TEST

int main(void) {
  Suite *s = suite_create("gptq");
  TCase *c = tcase_create("numerics");
  tcase_set_timeout(c, 120);
  tcase_add_checked_fixture(c, setup, NULL);
  tcase_add_test(c, moments_of_values);
  tcase_add_loop_test(c, factor_of_inverse, 0, 2);
  tcase_add_test(c, codes_of_the_paper);
  tcase_add_loop_test(c, every_format, 0, (int)TN_COUNT(formats));
  tcase_add_test(c, what_it_refuses);
  tcase_add_test(c, scales_by_search);
  tcase_add_test(c, scales_by_extremes);
  suite_add_tcase(s, c);
  SRunner *r = srunner_create(s);
  srunner_run_all(r, CK_ENV);
  int failed = srunner_ntests_failed(r);
  srunner_free(r);
  return failed != 0;
}
