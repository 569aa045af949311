/* test_int.c - products at precision "fast" whose rows become 8-bit integers: every block format and target.
 * The reference gets rows that plain C has rounded by the documented rule (backends/cpu/matmul/rows_int.h),
 * the kernels get them as they are, so nothing but the order of sums may differ. In the environment
 * TENON_TEST_FORMAT picks formats by a part of their name. */
#include "ir/quant/quant.h"
#include "tests/kernels/case.h"
#include <math.h>
#include <stdlib.h>

static const tn_quant *row_at(uint32_t i) {
  const tn_quant *q = tn_quant_of(TN_DT_BLOCK + i);
  const char *only = getenv("TENON_TEST_FORMAT");
  return only && !strstr(q->name, only) ? NULL : q;
}

/* A block of 32 to 8-bit integers times a scale, and back. */
static void round_block(float *x) {
  float amax = 0;
  for (int i = 0; i < 32; i++) amax = fmaxf(amax, fabsf(x[i]));
  float d = amax / 127.0f, by = amax > 0x1p-100f ? 127.0f / amax : 0;
  for (int i = 0; i < 32; i++) x[i] = d * (fmaf(x[i], by, 12582912.0f) - 12582912.0f);
}
static bool reference; /* the world being filled is the reference's: the first of a case */
static void fill(const char *name, tn_dtype dt, void *data, int64_t count) {
  float *x = data;
  if (dt != TN_DT_f32 || strcmp(name, "x") != 0) return;
  for (int64_t i = 0; i < count; i += 32) {
    if (i % 1024 == 96) memset(x + i, 0, 32 * sizeof *x); /* a block of zeros */
    if (i % 1024 == 160) x[i + 5] = 40;                   /* one value far from the others */
    if (reference) round_block(x + i);
  }
  reference = false;
}
/* Levels of 8 bits: multiplied as floats where neither VNNI nor vpsignb is there. */
static bool bytes(const tn_quant *q) {
  return q->plane[0].bits == 8 || (q->level == TN_QL_TABLE && !strncmp(q->name, "iq4", 3));
}
/* Levels that are no integers are multiplied as floats everywhere. */
static bool whole(const tn_quant *q) {
  for (int i = 0; q->level == TN_QL_TABLE && i < 16; i++)
    if (q->table[i] != rintf(q->table[i])) return false;
  return q->level != TN_QL_F8E4M3;
}
static void check(const tn_quant *q, tn_case *c) {
  static const char *const targets[] = {"avx2", "avx512", "avx512vnni"};
  c->precision = "fast";
  c->fill = fill;
  c->pipeline = "partition, fuse";
  for (size_t i = 0; i < TN_COUNT(targets); i++) {
    c->target = targets[i];
    if (i == 1 && bytes(q)) continue;
    reference = true;
    kernel_check(c);
  }
}

static void product(const tn_quant *q, const int *shape) {
  int m = shape[0], n = shape[1];
  uint32_t k = q->values * (uint32_t)shape[2];
  tn_case c = {.text =
                   kernel_text("module @m { dims S\n weight @w : %s[%d, %u]\n func @f(%%x: f32[S, %u]) -> "
                               "f32[S, %d] {\n %%0 = matmul %%x, @w {trans_b}\n return %%0 } }",
                               q->name, n, k, k, n),
               .dims = {{"S", m}},
               .nmse = 1e-10};
  check(q, &c);
}

/* Rows, columns, blocks along k. */
static const int shapes[][3] = {{9, 16, 1}, {15, 33, 2}, {40, 50, 3}};

START_TEST(formats) {
  const tn_quant *q = row_at((uint32_t)_i);
  if (q && whole(q)) product(q, shapes[_i % 3]);
}
END_TEST
START_TEST(sizes) {
  static const char *const names[] = {"q4_0", "q8_0", "q4_k", "q6_k", "iq2_xs", "u8_32"};
  const tn_quant *q = row_at((uint32_t)_i);
  bool sample = false;
  for (size_t i = 0; q && i < TN_COUNT(names); i++) sample |= !strcmp(q->name, names[i]);
  for (size_t i = 0; sample && i < TN_COUNT(shapes); i++) product(q, shapes[i]);
  int deep[] = {23, 40, q ? 1056 / (int)q->values : 0};
  if (sample && q->values == 32) product(q, deep);
}
END_TEST

/* Gate and up of one product, its rows normalised before: the rounding of rows shows in the result. */
START_TEST(fused) {
  static const char *const names[] = {"q8_0", "q4_k", "iq4_nl"};
  const tn_quant *q = row_at((uint32_t)_i);
  bool sample = false;
  for (size_t i = 0; q && i < TN_COUNT(names); i++) sample |= !strcmp(q->name, names[i]);
  if (!sample) return;
  unsigned k = 2 * q->values;
  tn_case c = {.text = kernel_text("module @m { dims S\n weight @w : %s[96, %u]\n weight @s : f32[%u]\n"
                                   " func @f(%%x: f32[1, S, %u]) -> f32[1, S, 48] {\n"
                                   " %%n = rms_norm %%x, @s {eps = 1e-5}\n %%0 = matmul %%n, @w {trans_b}\n"
                                   " %%g, %%u = split %%0 {axis = 2, sizes = [48, 48]}\n"
                                   " %%1 = silu %%g\n %%r = mul %%1, %%u\n return %%r } }",
                                   q->name, k, k, k),
               .dims = {{"S", 19}},
               .precision = "fast",
               .pipeline = "partition, fuse",
               .nmse = 1e-3};
  kernel_check(&c);
}
END_TEST

int main(void) {
  const TTest *const tests[] = {formats, sizes, fused};
  Suite *suite = suite_create("int");
  TCase *all = tcase_create("all");
  tcase_set_timeout(all, 900);
  for (size_t i = 0; i < TN_COUNT(tests); i++) tcase_add_loop_test(all, tests[i], 0, (int)tn_quant_count());
  suite_add_tcase(suite, all);
  SRunner *runner = srunner_create(suite);
  srunner_run_all(runner, CK_NORMAL);
  int failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed != 0;
}
