/* test_matmul.c - matrix products: shapes around the micro-kernel's sizes, weights packed and plain, in every
 * type, batches and broadcast, transposed operands, epilogues. */
#include "tests/kernels/case.h"

static const int64_t rows[] = {0, 1, 2, 4, 5, 7, 14, 15, 16, 33, 127, 129};

static void weight(const char *lhs, const char *rhs, int n, int k, bool trans, bool plain) {
  for (size_t i = 0; i < TN_COUNT(rows); i++) {
    tn_case c = {
        .text = kernel_text("module @m { dims B, S\n weight @w : %s[%d, %d]\n func @f(%%x: %s[B, S, %d]) "
                            "-> %s[B, S, %d] {\n %%r = matmul %%x, @w %s\n return %%r } }",
                            rhs, trans ? n : k, trans ? k : n, lhs, k, lhs, n, trans ? "{trans_b}" : ""),
        .dims = {{"B", 1}, {"S", rows[i]}},
        .plain_weights = plain,
        .pipeline = "partition, fuse"};
    if (rows[i] == 33) c.dims[0].value = 2;
    if (k == 300) c.atol = c.rtol = 1e-4;
    kernel_check(&c);
  }
}

START_TEST(packed) {
  static const int shapes[][2] = {{1, 1},  {16, 8},  {17, 5},    {32, 64},
                                  {33, 1}, {48, 31}, {100, 300}, {130, 16}};
  static const char *const types[] = {"f32", "f16", "bf16", "f8e4m3"};
  for (size_t t = 0; t < TN_COUNT(types); t++)
    for (size_t i = 0; i < TN_COUNT(shapes); i++)
      for (int trans = 0; trans < 2; trans++)
        weight("f32", types[t], shapes[i][0], shapes[i][1], trans, false);
}
END_TEST
START_TEST(narrow_lhs) {
  weight("bf16", "bf16", 40, 33, true, false);
  weight("f16", "f16", 40, 33, true, false);
  weight("f16", "f32", 40, 33, false, false);
}
END_TEST
START_TEST(plain) {
  static const int shapes[][2] = {{1, 1}, {16, 8}, {17, 5}, {33, 1}, {70, 40}};
  static const char *const types[] = {"f32", "f16", "bf16"};
  for (size_t t = 0; t < TN_COUNT(types); t++)
    for (size_t i = 0; i < TN_COUNT(shapes); i++)
      for (int trans = 0; trans < 2; trans++)
        weight("f32", types[t], shapes[i][0], shapes[i][1], trans, true);
}
END_TEST

/* k so long that it is taken in chunks, the last one short. */
START_TEST(long_k) {
  static const char *const types[] = {"f32", "bf16", "f8e4m3", "q8_0", "q4_k"};
  static const int64_t few[] = {1, 9, 40};
  for (size_t t = 0; t < TN_COUNT(types); t++)
    for (size_t i = 0; i < TN_COUNT(few); i++) {
      tn_case c = {
          .text = kernel_text("module @m { dims S\n weight @w : %s[40, 4864]\n func @f(%%x: f32[S, 4864], "
                              "%%y: f32[S, 40]) -> f32[S, 40] {\n %%0 = matmul %%x, @w {trans_b}\n %%1 = add "
                              "%%0, %%y\n return %%1 } }",
                              types[t]),
          .dims = {{"S", few[i]}},
          .pipeline = "partition, fuse",
          .nmse = 1e-9};
      kernel_check(&c);
    }
}
END_TEST

/* Rows of lhs a page apart: fewer of them at a time in place, or, for many columns, copied. */
START_TEST(paged) {
  static const int64_t some[][2] = {{6, 40}, {11, 40}, {33, 40}, {129, 40}, {15, 1540}};
  for (size_t i = 0; i < TN_COUNT(some); i++) {
    tn_case c = {
        .text = kernel_text("module @m { dims S\n weight @w : f32[%d, 1024]\n func @f(%%x: f32[2, S, "
                            "1024]) -> f32[2, S, %d] {\n %%r = matmul %%x, @w {trans_b}\n return %%r } }",
                            (int)some[i][1], (int)some[i][1]),
        .dims = {{"S", some[i][0]}},
        .pipeline = "partition, fuse",
        .nmse = 1e-11};
    kernel_check(&c);
  }
}
END_TEST

START_TEST(dynamic) {
  static const char *const cases[][4] = {{"A, S, 20", "A, 20, N", "A, S, N", ""},
                                         {"A, S, 20", "A, N, 20", "A, S, N", "{trans_b}"},
                                         {"A, 20, S", "A, 20, N", "A, S, N", "{trans_a}"},
                                         {"A, 20, S", "A, N, 20", "A, S, N", "{trans_a, trans_b}"},
                                         {"2, 1, S, 9", "A, 9, N", "2, A, S, N", ""},
                                         {"S, 9", "A, 9, N", "A, S, N", ""},
                                         {"A, 2, S, 9", "2, 9, N", "A, 2, S, N", ""},
                                         {"A, S, N", "N, 19", "A, S, 19", ""},
                                         {"A, S, N", "19, N", "A, S, 19", "{trans_b}"},
                                         {"A, S, 1", "A, 1, N", "A, S, N", ""}};
  static const int64_t n[] = {0, 1, 7, 16, 33};
  for (size_t i = 0; i < TN_COUNT(cases); i++)
    for (size_t s = 0; s < TN_COUNT(rows); s++) {
      tn_case c = {.text = kernel_text("module @m { dims A, S, N\n func @f(%%x: f32[%s], %%y: f32[%s]) -> "
                                       "f32[%s] { %%r = matmul %%x, %%y %s\n return %%r } }",
                                       cases[i][0], cases[i][1], cases[i][2], cases[i][3]),
                   .dims = {{"A", s % 4 == 3 ? 1 : 3}, {"S", rows[s]}, {"N", n[s % TN_COUNT(n)]}},
                   .pipeline = "partition, fuse"};
      kernel_check(&c);
    }
}
END_TEST

START_TEST(epilogues) {
  static const char *const acts[] = {"gelu", "silu", "relu", "tanh"};
  for (size_t a = 0; a < TN_COUNT(acts); a++)
    for (int n = 48; n < 52; n += 3)
      for (size_t i = 0; i < TN_COUNT(rows); i++) {
        tn_case c = {
            .text = kernel_text(
                "module @m { dims B, S\n weight @w : bf16[%d, 24]\n weight @b : bf16[%d]\n"
                " func @f(%%x: f32[B, S, 24], %%y: f32[B, S, %d], %%z: f32[B, 1, %d]) -> f32[B, S, %d] {\n"
                " %%0 = matmul %%x, @w {trans_b}\n %%1 = cast @b {to = f32}\n %%2 = add %%0, %%1\n %%3 = %s "
                "%%2\n %%4 = mul %%3, %%y\n %%5 = add %%z, %%4\n return %%5 } }",
                n, n, n, n, n, acts[a]),
            .dims = {{"B", 2}, {"S", rows[i]}}};
        kernel_check(&c);
      }
}
END_TEST

START_TEST(tied) {
  tn_case c = {
      .text = "module @m { dims S\n weight @e : bf16[37, 24]\n func @f(%i: i32[2, S]) -> f32[2, S, 37] {\n"
              " %0 = gather @e, %i\n %1 = cast %0 {to = f32}\n %2 = matmul %1, @e {trans_b}\n return %2 } }",
      .dims = {{"S", 5}},
      .int_hi = 37};
  kernel_check(&c);
}
END_TEST

START_TEST(from_blocks) {
  static const char *const formats[] = {"q4_0", "q8_0", "q5_1"};
  for (size_t i = 0; i < TN_COUNT(formats); i++) {
    tn_case c = {
        .text = kernel_text(
            "module @m { dims S\n weight @w : %s[40, 64]\n func @f(%%x: f32[S, 64]) -> f32[S, 40] {\n"
            " %%0 = dequant @w\n %%1 = matmul %%x, %%0 {trans_b}\n return %%1 } }",
            formats[i]),
        .dims = {{"S", 9}},
        .atol = 1e-4,
        .rtol = 1e-4};
    kernel_check(&c);
  }
}
END_TEST

/* A weight cut into matrices per head, one half of each used one way round, the other the other way. */
START_TEST(weight_views) {
  for (size_t i = 0; i < TN_COUNT(rows); i++) {
    tn_case c = {
        .text = "module @m { dims S\n weight @w : bf16[66, 40]\n func @f(%x: f32[2, 3, S, 12]) -> f32[2, 3, "
                "S, 10] {\n"
                " %0 = reshape @w {shape = [3, 22, 40]}\n %1, %2 = split %0 {axis = 1, sizes = [12, 10]}\n"
                " %3 = matmul %x, %1\n %4 = matmul %3, %2 {trans_b}\n return %4 } }",
        .dims = {{"S", rows[i]}},
        .atol = 1e-4,
        .rtol = 1e-4};
    kernel_check(&c);
  }
}
END_TEST

KERNEL_TESTS("matmul", packed, narrow_lhs, plain, long_k, paged, dynamic, epilogues, tied, from_blocks,
             weight_views)
