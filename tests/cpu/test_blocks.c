/* test_blocks.c - every block format of ir/quant/quant.def: products with packed and plain weights, rows
 * gathered from them, values rebuilt, epilogues; against the reference's dequantised product in double. New
 * rows are covered as they come. In the environment TENON_TEST_FORMAT picks formats by a part of their name,
 * TENON_TEST_PART (0 to 3) every fourth one. */
#include "ir/quant/quant.h"
#include "tests/kernels/case.h"
#include <stdlib.h>

static const tn_quant *row_at(uint32_t i) {
  const tn_quant *q = tn_quant_of(TN_DT_BLOCK + i);
  const char *only = getenv("TENON_TEST_FORMAT"), *part = getenv("TENON_TEST_PART");
  if (part && i % 4 != (uint32_t)atoi(part)) return NULL;
  return only && !strstr(q->name, only) ? NULL : q;
}

/* Formats that differ most: they also go through what does not depend on the format. */
static const tn_quant *sample_at(uint32_t i) {
  static const char *const names[] = {"q4_0", "q8_0", "q4_k", "q6_k", "iq2_xs", "u3_32"};
  const tn_quant *q = row_at(i);
  for (size_t k = 0; q && k < TN_COUNT(names); k++)
    if (!strcmp(q->name, names[k])) return q;
  return NULL;
}

static const int rows[] = {1, 2, 3, 5, 17, 64}, columns[] = {16, 33, 64};

/* Three products with 1, 2 and 3 blocks along k; `turn` picks the columns that go with them. */
static tn_case products_of(const tn_quant *q, int m, int turn) {
  uint32_t k = q->values;
  int n[3];
  for (int i = 0; i < 3; i++) n[i] = columns[(i + turn) % 3];
  return (tn_case){
      .text = kernel_text(
          "module @m { dims S\n weight @a : %s[%d, %u]\n weight @b : %s[%d, %u]\n weight @c : "
          "%s[%d, %u]\n func @f(%%x: f32[S, %u], %%y: f32[S, %u], %%z: f32[S, %u]) -> (a: f32[S, "
          "%d], b: f32[S, %d], c: f32[S, %d]) {\n %%0 = matmul %%x, @a {trans_b}\n %%1 = matmul "
          "%%y, @b {trans_b}\n %%2 = matmul %%z, @c {trans_b}\n return %%0, %%1, %%2 } }",
          q->name, n[0], k, q->name, n[1], 2 * k, q->name, n[2], 3 * k, k, 2 * k, 3 * k, n[0], n[1], n[2]),
      .dims = {{"S", m}},
      .pipeline = "partition, fuse",
      .nmse = 1e-9};
}
static void products(const tn_quant *q, int m, int turn, bool plain) {
  tn_case c = products_of(q, m, turn);
  c.plain_weights = plain;
  kernel_check(&c);
}

START_TEST(packed) {
  const tn_quant *q = row_at((uint32_t)_i);
  for (size_t m = 0; q && m < TN_COUNT(rows); m++) products(q, rows[m], _i, false);
}
END_TEST
START_TEST(packed_all) {
  const tn_quant *q = sample_at((uint32_t)_i);
  for (int turn = _i + 1; q && turn < _i + 3; turn++)
    for (size_t m = 0; m < TN_COUNT(rows); m++) products(q, rows[m], turn, false);
}
END_TEST
START_TEST(plain) {
  const tn_quant *q = sample_at((uint32_t)_i);
  if (q) products(q, 5, _i, true);
}
END_TEST

/* Integers from -127 to 127, the largest in every 32: as 8-bit integers with a scale they are what they are.
 */
static void fill_exact(const char *name, tn_dtype dt, void *data, int64_t count) {
  float *x = data;
  (void)name;
  for (int64_t i = 0; dt == TN_DT_f32 && i < count; i++) {
    x[i] = (float)(i % 32 == 5 ? 127 : i * i * 7919 % 255 - 127);
    if (i / 32 % 2) x[i] = -x[i];
    if (i / 32 % 3 == 1) x[i] *= 0.0625f;
  }
}
static const int few_rows[] = {1, 2, 3, 4, 5, 7, 8};
START_TEST(fast_exact) {
  const tn_quant *q = row_at((uint32_t)_i);
  for (size_t m = 0; q && m < TN_COUNT(few_rows); m++) {
    tn_case c = products_of(q, few_rows[m], _i);
    c.precision = "fast";
    c.fill = fill_exact;
    kernel_check(&c);
  }
}
END_TEST
/* What 8 bits of an activation cost; a product with lows may be the small rest of large terms. */
START_TEST(fast_random) {
  const tn_quant *q = row_at((uint32_t)_i);
  for (size_t m = 0; q && m < TN_COUNT(rows); m++) {
    tn_case c = products_of(q, rows[m], _i + 1);
    c.precision = "fast";
    c.nmse = q->m_sign || q->zero_bits ? 1e-2 : 1e-4;
    kernel_check(&c);
  }
}
END_TEST

START_TEST(not_transposed) {
  const tn_quant *q = sample_at((uint32_t)_i);
  if (!q) return;
  tn_case c = {.text =
                   kernel_text("module @m { dims S\n weight @w : %s[40, %u]\n func @f(%%x: f32[S, 40]) -> "
                               "f32[S, %u] {\n %%0 = matmul %%x, @w\n return %%0 } }",
                               q->name, q->values, q->values),
               .dims = {{"S", 5}},
               .pipeline = "partition, fuse",
               .nmse = 1e-9};
  kernel_check(&c);
}
END_TEST

/* Values are rebuilt to the last bit. */
START_TEST(values) {
  const tn_quant *q = row_at((uint32_t)_i);
  if (!q) return;
  tn_case c = {.text =
                   kernel_text("module @m { weight @w : %s[5, %u]\n func @f(%%x: f32[1]) -> f32[5, %u] {\n "
                               "%%0 = dequant @w\n return %%0 } }",
                               q->name, 2 * q->values, 2 * q->values),
               .atol = 1e-37};
  kernel_check(&c);
}
END_TEST

/* The table of token embeddings, alone and tied with the head. */
START_TEST(gathered) {
  const tn_quant *q = row_at((uint32_t)_i);
  if (!q) return;
  tn_case c = {.text =
                   kernel_text("module @m { dims S\n weight @w : %s[37, %u]\n weight @v : %s[37, %u]\n func "
                               "@f(%%i: i32[2, S]) -> (a: f32[2, S, 37], b: f32[2, S, %u]) {\n %%0 = gather "
                               "@w, %%i\n %%1 = dequant %%0\n %%2 = matmul %%1, @w {trans_b}\n %%3 = gather "
                               "@v, %%i\n %%4 = dequant %%3\n return %%2, %%4 } }",
                               q->name, 2 * q->values, q->name, q->values, q->values),
               .dims = {{"S", 5}},
               .int_lo = -38,
               .int_hi = 39,
               .pipeline = sample_at((uint32_t)_i) ? NULL : "partition, fuse",
               .nmse = 1e-9};
  kernel_check(&c);
}
END_TEST

START_TEST(epilogues) {
  static const int few[] = {0, 3, 9};
  const tn_quant *q = sample_at((uint32_t)_i);
  for (size_t i = 0; q && i < TN_COUNT(few); i++) {
    tn_case c = {.text = kernel_text(
                     "module @m { dims B, S\n weight @w : %s[50, %u]\n weight @b : f32[50]\n"
                     " func @f(%%x: f32[B, S, %u], %%y: f32[B, S, 50], %%z: f32[B, S, 50]) -> f32[B, S, "
                     "50] {\n %%0 = matmul %%x, @w {trans_b}\n %%1 = add %%0, @b\n %%2 = silu %%1\n"
                     " %%3 = mul %%2, %%y\n %%4 = add %%z, %%3\n return %%4 } }",
                     q->name, q->values, q->values),
                 .dims = {{"B", 2}, {"S", few[i]}},
                 .pipeline = "partition, fuse",
                 .nmse = 1e-8};
    kernel_check(&c);
  }
}
END_TEST

/* An activation that is narrow, and one that is not read row by row. */
START_TEST(other_lhs) {
  const tn_quant *q = sample_at((uint32_t)_i);
  for (int m = 2; q && m < 12; m += 9) {
    unsigned k = q->values;
    tn_case c = {.text =
                     kernel_text("module @m { dims S\n weight @w : %s[24, %u]\n func @f(%%x: bf16[%u, S], "
                                 "%%y: f32[%u, S]) -> (a: bf16[S, 24], b: f32[S, 24]) {\n"
                                 " %%0 = matmul %%x, @w {trans_a, trans_b}\n"
                                 " %%1 = matmul %%y, @w {trans_a, trans_b}\n return %%0, %%1 } }",
                                 q->name, k, k, k),
                 .dims = {{"S", m}},
                 .pipeline = "partition, fuse",
                 .nmse = 1e-5};
    kernel_check(&c);
  }
}
END_TEST

static void add_case(Suite *suite, const char *name, const TTest *const *tests, size_t count) {
  TCase *c = tcase_create(name);
  tcase_set_timeout(c, 900);
  for (size_t i = 0; i < count; i++) tcase_add_loop_test(c, tests[i], 0, (int)tn_quant_count());
  suite_add_tcase(suite, c);
}
int main(void) {
  const TTest *const strict[] = {packed, packed_all, plain,     not_transposed,
                                 values, gathered,   epilogues, other_lhs};
  const TTest *const fast[] = {fast_exact, fast_random};
  Suite *suite = suite_create("blocks");
  add_case(suite, "strict", strict, TN_COUNT(strict));
  add_case(suite, "fast", fast, TN_COUNT(fast));
  SRunner *runner = srunner_create(suite);
  srunner_run_all(runner, CK_NORMAL);
  int failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed != 0;
}
