/* test_amx.c - products in tile registers (AMX): sizes that are not whole tiles, chunks of k, pairs of
 * weights, whole numbers, and precision "high", whose error is to be that of f32. On the target `amx` alone;
 * where the machine has none, under the emulator of tests/amx. */
#include "tests/kernels/case.h"
#include <stdio.h>

#define BF16_NMSE 4e-5 /* of the error's energy: (2 * 2^-9)^2, and more where results are few */

typedef struct shape {
  int64_t rows;
  int n, k;
} shape;

static void product(const char *precision, const char *target, const char *type, shape s, bool trans,
                    double nmse) {
  tn_case c = {
      .text = kernel_text("module @m { dims S\n weight @w : %s[%d, %d]\n func @f(%%x: f32[S, %d]) -> "
                          "f32[S, %d] {\n %%r = matmul %%x, @w %s\n return %%r } }",
                          type, trans ? s.n : s.k, trans ? s.k : s.n, s.k, s.n, trans ? "{trans_b}" : ""),
      .dims = {{"S", s.rows}},
      .precision = precision,
      .target = target,
      .nmse = nmse,
      .pipeline = "partition, fuse"};
  kernel_check(&c);
}

/* Rows around one tile and two, columns around one panel and two, k around a step. */
START_TEST(edges) {
  static const int64_t rows[] = {5, 15, 16, 17, 31, 32, 33, 49};
  static const int columns[] = {1, 16, 17, 32, 33};
  static const int depths[] = {1, 2, 31, 32, 33, 63, 96};
  for (size_t r = 0; r < TN_COUNT(rows); r++)
    for (size_t i = 0; i < TN_COUNT(depths); i++) {
      shape s = {rows[r], columns[(r + i) % TN_COUNT(columns)], depths[i]};
      product("fast", "amx", i % 2 ? "f32" : "bf16", s, r % 2, BF16_NMSE);
    }
}
END_TEST

/* More rows than a unit has, more than a chunk of k, several groups of panels. */
START_TEST(chunks) {
  product("fast", "amx", "bf16", (shape){70, 160, 1030}, true, BF16_NMSE);
  product("fast", "amx", "f16", (shape){270, 40, 545}, false, BF16_NMSE);
  product("fast", "amx", "q4_0", (shape){40, 50, 1120}, true, 0.05);
}
END_TEST

/* Gate and up: columns c and n + c of one product. */
START_TEST(pairs) {
  static const char *const types[] = {"f32", "q8_0", "bf16"};
  static const char *const precisions[] = {"fast", "high"};
  for (size_t t = 0; t < TN_COUNT(types); t++)
    for (size_t p = 0; p < TN_COUNT(precisions); p++) {
      tn_case c = {.text = kernel_text(
                       "module @m { dims S\n weight @w : %s[96, 64]\n func @f(%%x: f32[S, 64]) -> f32[S, "
                       "48] {\n %%0 = matmul %%x, @w {trans_b}\n %%1, %%2 = split %%0 {axis = 1, sizes = "
                       "[48, 48]}\n %%3 = silu %%1\n %%4 = mul %%3, %%2\n return %%4 } }",
                       types[t]),
                   .dims = {{"S", 37}},
                   .precision = precisions[p],
                   .target = "amx",
                   .nmse = BF16_NMSE,
                   .pipeline = "partition, fuse"};
      kernel_check(&c);
    }
}
END_TEST

/* Panels that are not bf16 in the file: also read one by one, or of 8 bits. */
START_TEST(other_panels) {
  product("fast", "amx", "f8e4m3", (shape){33, 40, 70}, true, BF16_NMSE);
  tn_case c = {
      .text = "module @m { dims S\n weight @e : f32[37, 75]\n func @f(%i: i32[2], %x: f32[S, 75]) -> (a: "
              "f32[2, 75], b: f32[S, 37]) {\n %0 = gather @e, %i\n %1 = matmul %x, @e {trans_b}\n "
              "return %0, %1 } }",
      .dims = {{"S", 21}},
      .int_hi = 37,
      .precision = "fast",
      .target = "amx",
      .nmse = BF16_NMSE};
  kernel_check(&c);
}
END_TEST

/* The same bound holds for a chain of f32 and for sums of bf16, which so stay within four times of it. */
START_TEST(high) {
  static const char *const types[] = {"f32", "bf16", "f16", "f8e4m3"};
  static const shape shapes[] = {{3, 20, 40}, {6, 17, 1}, {16, 32, 32}, {37, 40, 65}, {33, 16, 1000}};
  for (size_t t = 0; t < TN_COUNT(types); t++)
    for (size_t i = 0; i < TN_COUNT(shapes); i++) {
      double nmse = 4e-16 * (shapes[i].k + 8);
      product("strict", "avx512", types[t], shapes[i], i % 2, nmse);
      product("high", "amx", types[t], shapes[i], i % 2, nmse);
    }
  product("high", "amx", "q4_0", (shape){40, 20, 320}, true, 2e-13);
  product("high", "amx", "q6_k", (shape){40, 20, 512}, true, 2e-13);
}
END_TEST

KERNEL_TESTS("products in tiles", edges, chunks, pairs, other_panels, high)
