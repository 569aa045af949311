/* test_tiles.c - matrix products of so many tiles that the large ones are taken, with sizes that cut the last
 * ones: 16-bit operands copied as they lie, both ways round; operands that are staged or converted in the
 * loop; batches; halves of columns; products by fma. What is small is tested by ../cpu/test_matmul.c. */
#include "tests/kernels/case.h"

/* One matrix on the right. */
typedef struct product {
  const char *lhs, *rhs;
  int64_t rows;
  int n, k;
  bool trans_b;
  const char *precision;
} product;

static void check(const product *p, double nmse) {
  tn_case c = {.text = kernel_text("module @m { dims S\n weight @w : %s[%d, %d]\n func @f(%%x: %s[S, %d], "
                                   "%%b: f32[%d]) -> f32[S, %d] {\n %%0 = matmul %%x, @w %s\n %%1 = cast %%0 "
                                   "{to = f32}\n %%2 = add %%1, %%b\n return %%2 } }",
                                   p->rhs, p->trans_b ? p->n : p->k, p->trans_b ? p->k : p->n, p->lhs, p->k,
                                   p->n, p->n, p->trans_b ? "{trans_b}" : ""),
               .dims = {{"S", p->rows}},
               .precision = p->precision,
               .pipeline = "partition, fuse",
               .nmse = nmse};
  kernel_check(&c);
}

START_TEST(copied) {
  static const product some[] = {{"bf16", "bf16", 4300, 520, 72, true, NULL},
                                 {"f16", "f16", 4200, 528, 40, false, NULL}};
  for (size_t i = 0; i < TN_COUNT(some); i++) check(&some[i], i ? 1e-6 : 1e-5);
}
END_TEST

/* Other types than the one that is multiplied, rows that begin anywhere: both operands, either one, neither.
 */
START_TEST(staged) {
  static const product some[] = {{"f32", "bf16", 4300, 520, 40, true, "fast"},
                                 {"f32", "f32", 4225, 521, 35, true, "fast"},
                                 {"f16", "bf16", 6451, 265, 41, false, NULL},
                                 {"f32", "q4_k", 200, 72, 256, true, "fast"},
                                 {"f32", "f32", 6451, 265, 41, false, "fast"}};
  for (size_t i = 0; i < TN_COUNT(some); i++) check(&some[i], some[i].precision ? 2e-5 : 1e-6);
}
END_TEST

/* f32 by bf16 as three exact products. */
START_TEST(split) {
  static const product some[] = {{"f32", "bf16", 140, 136, 72, true, "high"},
                                 {"f32", "bf16", 131, 71, 131, false, "high"},
                                 {"f32", "bf16", 128, 520, 64, true, "high"},
                                 {"f32", "bf16", 20, 71, 40, true, "high"}};
  for (size_t i = 0; i < TN_COUNT(some); i++) check(&some[i], 1e-13);
}
END_TEST

START_TEST(by_fma) {
  static const product some[] = {{"f32", "bf16", 1290, 1285, 17, true, NULL},
                                 {"f32", "f32", 1281, 1288, 20, false, NULL}};
  for (size_t i = 0; i < TN_COUNT(some); i++) check(&some[i], 1e-12);
}
END_TEST

START_TEST(batches) {
  static const char *const cases[][4] = {{"A, S, 40", "A, 40, 136", "", "bf16"},
                                         {"A, 40, 136", "A, S, 40", "{trans_a, trans_b}", "f16"},
                                         {"A, 136, S", "136, 136", "{trans_a}", "bf16"}};
  for (size_t i = 0; i < TN_COUNT(cases); i++) {
    tn_case c = {.text =
                     kernel_text("module @m { dims A, S\n func @f(%%x: %s[%s], %%y: %s[%s]) -> %s[A, %s] {\n"
                                 " %%r = matmul %%x, %%y %s\n return %%r } }",
                                 cases[i][3], cases[i][0], cases[i][3], cases[i][1], cases[i][3],
                                 i == 1 ? "136, S" : "S, 136", cases[i][2]),
                 .dims = {{"A", 27}, {"S", 200}},
                 .pipeline = "partition, fuse",
                 .nmse = 1e-5};
    kernel_check(&c);
  }
}
END_TEST

START_TEST(halves) {
  static const char *const types[][2] = {{"bf16", "bf16"}, {"f32", "bf16"}, {"f32", "f32"}};
  for (size_t i = 0; i < TN_COUNT(types); i++)
    for (int trans = 0; trans < 2; trans++) {
      tn_case c = {
          .text = kernel_text("module @m { dims S\n weight @w : %s[%d, %d]\n func @f(%%x: %s[S, 40]) -> "
                              "%s[S, 272] {\n %%0 = matmul %%x, @w %s\n %%g, %%u = split %%0 {axis = 1, "
                              "sizes = [272, 272]}\n %%1 = silu %%g\n %%2 = mul %%1, %%u\n return %%2 } }",
                              types[i][1], trans ? 544 : 40, trans ? 40 : 544, types[i][0], types[i][0],
                              trans ? "{trans_b}" : ""),
          .dims = {{"S", 4300}},
          .precision = i ? "fast" : NULL,
          .pipeline = "partition, fuse",
          .nmse = 1e-4,
          .kernels = 1};
      if (!i || trans == (i == 1)) kernel_check(&c);
    }
}
END_TEST

KERNEL_TESTS("cuda tiles", copied, staged, split, by_fma, batches, halves)
