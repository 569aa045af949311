/* test_tiles.c - matrix products of so many tiles that the large ones are taken, or of so few that k is cut
 * into parts, with sizes that cut the last ones: 16-bit operands copied as they lie, both ways round;
 * operands that are staged or converted in the loop; batches; halves of columns; products by fma. What is
 * small is tested by ../cpu/test_matmul.c. */
#include "ir/quant/quant.h"
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

/* Few tiles and a long k: parts of it that are equal or not, the last one cut, on every way of multiplying.
 */
START_TEST(parts) {
  static const product some[] = {
      {"bf16", "bf16", 20, 264, 2048, true, NULL},  {"bf16", "bf16", 200, 264, 1600, true, NULL},
      {"f16", "f16", 300, 136, 1608, false, NULL},  {"f32", "bf16", 70, 71, 1100, false, "fast"},
      {"f32", "q4_k", 130, 72, 2048, true, "fast"}, {"f32", "q4_0", 33, 72, 1056, true, "fast"},
      {"f32", "f32", 24, 71, 1030, true, "fast"},   {"f32", "bf16", 129, 72, 1100, false, "high"}};
  for (size_t i = 0; i < TN_COUNT(some); i++)
    check(&some[i], !some[i].precision ? i == 2 ? 1e-6 : 1e-5 : i == 7 ? 1e-12 : 2e-5);
}
END_TEST

/* Block formats, but for those that differ in their scales' type alone; read in the loop and some staged:
 * rows and columns that do not fill a tile. */
START_TEST(blocks) {
  for (uint32_t i = 0; i < tn_quant_count(); i++) {
    const tn_quant *q = tn_quant_of(TN_DT_BLOCK + i);
    if (strstr(q->name, "_bf16") || strstr(q->name, "_f32")) continue;
    int k = q->values < 128 ? 3 * (int)q->values : (int)q->values;
    product few = {"f32", q->name, 9 + i % 4, 5 + (int)(i % 3), k, true, "fast"}, many = few;
    many.rows = 128 + i % 3;
    check(&few, 1e-4); /* stored zeros make some sums small */
    if (i % 5 == 0) check(&many, 1e-4);
  }
  static const product some[] = {{"bf16", "q4_0", 20, 64, 40, false, "fast"}, /* blocks along the columns */
                                 {"f32", "q5_k", 130, 256, 33, false, "fast"}};
  for (size_t i = 0; i < TN_COUNT(some); i++) check(&some[i], 2e-5);
  tn_case pair = {
      .text = "module @m { dims S\n weight @w : q5_1[3, 72, 96]\n func @f(%x: f32[3, S, 96]) -> f32[3, "
              "S, 72] {\n %0 = matmul %x, @w {trans_b}\n return %0 } }",
      .dims = {{"S", 11}},
      .precision = "fast",
      .pipeline = "partition, fuse",
      .nmse = 2e-5};
  kernel_check(&pair);
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
  tn_case few = {.text = "module @m { dims A, S\n func @f(%x: bf16[A, S, 1032], %y: f32[A, 1032, 40]) -> "
                         "bf16[A, S, 40] {\n %r = matmul %x, %y\n return %r } }",
                 .dims = {{"A", 3}, {"S", 70}},
                 .precision = "fast",
                 .pipeline = "partition, fuse",
                 .nmse = 2e-5};
  kernel_check(&few);
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

static void halved(const char *lhs, const char *rhs, int64_t rows, int half, int k, bool trans,
                   const char *precision) {
  tn_case c = {.text = kernel_text("module @m { dims S\n weight @w : %s[%d, %d]\n func @f(%%x: %s[S, %d]) -> "
                                   "%s[S, %d] {\n %%0 = matmul %%x, @w %s\n %%g, %%u = split %%0 {axis = 1, "
                                   "sizes = [%d, %d]}\n %%1 = silu %%g\n %%2 = mul %%1, %%u\n return %%2 } }",
                                   rhs, trans ? 2 * half : k, trans ? k : 2 * half, lhs, k, lhs, half,
                                   trans ? "{trans_b}" : "", half, half),
               .dims = {{"S", rows}},
               .precision = precision,
               .pipeline = "partition, fuse",
               .nmse = 1e-4,
               .kernels = 1};
  kernel_check(&c);
}
START_TEST(halves) {
  static const char *const types[][2] = {{"bf16", "bf16"}, {"f32", "bf16"}, {"f32", "f32"}};
  halved("bf16", "bf16", 300, 48, 1100, false, NULL);
  halved("f32", "bf16", 30, 48, 1032, true, "fast");
  for (size_t i = 0; i < TN_COUNT(types); i++)
    for (int trans = 0; trans < 2; trans++)
      if (!i || trans == (i == 1)) halved(types[i][0], types[i][1], 4300, 272, 40, trans, i ? "fast" : NULL);
}
END_TEST

KERNEL_TESTS("cuda tiles", copied, staged, parts, blocks, split, by_fma, batches, halves)
