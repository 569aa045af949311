/* test_fast.c - precision "fast" on floats: weights rounded to pairs of bf16, rows rounded on their way.
 * Results agree with the reference as far as bf16 allows (a relative error of 2^-9 in each factor), and what
 * is only read, not multiplied, stays exact. Block formats: test_blocks.c. */
#include "tests/kernels/case.h"
#include <stdio.h>

#define BF16_NMSE 2e-5 /* of the error's energy: (2 * 2^-9)^2, and a little more */

static void product(const char *type, int64_t rows, int n, int k, bool trans, bool plain) {
  tn_case c = {.text =
                   kernel_text("module @m { dims S\n weight @w : %s[%d, %d]\n func @f(%%x: f32[S, %d], %%b: "
                               "f32[%d]) -> f32[S, %d] {\n %%0 = matmul %%x, @w %s\n %%1 = add %%0, %%b\n "
                               "return %%1 } }",
                               type, trans ? n : k, trans ? k : n, k, n, n, trans ? "{trans_b}" : ""),
               .dims = {{"S", rows}},
               .plain_weights = plain,
               .precision = "fast",
               .nmse = BF16_NMSE,
               .pipeline = "partition, fuse"};
  kernel_check(&c);
}

START_TEST(weights) {
  static const char *const types[] = {"f32", "f16", "bf16"};
  static const int shapes[][2] = {{17, 5}, {48, 31}, {100, 300}};
  static const int64_t rows[] = {1, 4, 5, 29, 131};
  for (size_t t = 0; t < TN_COUNT(types); t++)
    for (size_t i = 0; i < TN_COUNT(shapes); i++)
      for (size_t r = 0; r < TN_COUNT(rows); r++)
        for (int trans = 0; trans < 2; trans++)
          product(types[t], rows[r], shapes[i][0], shapes[i][1], trans, false);
}
END_TEST
/* Nobody packed them, or k is taken in chunks. */
START_TEST(unpacked) {
  for (int trans = 0; trans < 2; trans++) {
    product("f32", 3, 40, 33, trans, true);
    product("bf16", 70, 40, 33, trans, true);
  }
}
END_TEST
START_TEST(long_k) {
  product("f32", 1, 40, 4865, true, false);
  product("f32", 40, 40, 4865, true, false);
  product("bf16", 40, 40, 4864, false, false);
}
END_TEST

START_TEST(two_inputs) {
  static const char *const shapes[][4] = {{"2, S, 40", "2, 40, 48", "2, S, 48", ""},
                                          {"2, S, 41", "2, 50, 41", "2, S, 50", "{trans_b}"},
                                          {"2, 41, S", "41, 50", "2, S, 50", "{trans_a}"}};
  for (size_t i = 0; i < TN_COUNT(shapes); i++)
    for (int64_t rows = 1; rows < 200; rows = rows * 5 + 2) {
      tn_case c = {.text =
                       kernel_text("module @m { dims S\n func @f(%%x: f32[%s], %%y: f32[%s]) -> f32[%s] {\n "
                                   "%%r = matmul %%x, %%y %s\n return %%r } }",
                                   shapes[i][0], shapes[i][1], shapes[i][2], shapes[i][3]),
                   .dims = {{"S", rows}},
                   .precision = "fast",
                   .nmse = BF16_NMSE,
                   .pipeline = "partition, fuse"};
      kernel_check(&c);
    }
}
END_TEST

START_TEST(experts) {
  static const char *const types[] = {"f32", "bf16"};
  static const int64_t tokens[] = {1, 6, 90};
  for (size_t t = 0; t < TN_COUNT(types); t++)
    for (size_t i = 0; i < TN_COUNT(tokens); i++) {
      tn_case c = {
          .text = kernel_text("module @m { dims T\n weight @w : %s[4, 34, 33]\n func @f(%%x: f32[T, 33], "
                              "%%e: i64[T, 2]) -> f32[T, 2, 34] {\n %%r = expert_matmul %%x, @w, %%e\n "
                              "return %%r } }",
                              types[t]),
          .dims = {{"T", tokens[i]}},
          .int_hi = 4,
          .precision = "fast",
          .nmse = BF16_NMSE,
          .pipeline = "partition, fuse"};
      kernel_check(&c);
    }
}
END_TEST

/* Rows of a table that is also multiplied by keep every bit. */
START_TEST(gathered) {
  static const char *const types[] = {"f32", "f16", "bf16"};
  for (size_t t = 0; t < TN_COUNT(types); t++) {
    tn_case c = {.text =
                     kernel_text("module @m { dims S\n weight @e : %s[37, 25]\n func @f(%%i: i32[2, S], %%x: "
                                 "f32[3, 25]) -> (a: %s[2, S, 25], b: f32[3, 37]) {\n %%0 = gather @e, %%i\n "
                                 "%%1 = matmul %%x, @e {trans_b}\n return %%0, %%1 } }",
                                 types[t], types[t]),
                 .dims = {{"S", 5}},
                 .int_hi = 37,
                 .precision = "fast",
                 .nmse = BF16_NMSE};
    kernel_check(&c);
    c.text = kernel_text(
        "module @m { dims S\n weight @e : %s[37, 25]\n func @f(%%i: i32[2, S], %%x: f32[0, 25]) -> "
        "(a: %s[2, S, 25], b: f32[0, 37]) {\n %%0 = gather @e, %%i\n %%1 = matmul %%x, @e "
        "{trans_b}\n return %%0, %%1 } }",
        types[t], types[t]);
    c.nmse = 1e-30;
    kernel_check(&c);
  }
}
END_TEST

/* The target with bf16 products uses them, but not at strict. */
START_TEST(strict_is_f32) {
  tn_case c = {.text =
                   "module @m { dims S\n weight @w : f32[40, 64]\n func @f(%x: f32[S, 64]) -> f32[S, 40] {\n "
                   "%r = matmul %x, @w {trans_b}\n return %r } }",
               .dims = {{"S", 30}},
               .target = "avx512bf16",
               .nmse = 1e-13};
  kernel_check(&c);
}
END_TEST

KERNEL_TESTS("precision fast", weights, unpacked, long_k, two_inputs, experts, gathered, strict_is_f32)
