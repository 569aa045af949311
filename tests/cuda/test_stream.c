/* test_stream.c - products with few rows where they differ from other backends': warps that share k, k in
 * chunks, a norm done again by every block, halves of the columns, weights whose bytes end anywhere. */
#include "ir/quant/quant.h"
#include "tests/kernels/case.h"

static void product(const char *type, int rows, int n, int k, bool trans) {
  tn_case c = {.text = kernel_text(
                   "module @m { dims S\n weight @w : %s[%d, %d]\n func @f(%%x: f32[S, %d]) -> f32[S, %d] "
                   "{\n %%0 = matmul %%x, @w %s\n return %%0 } }",
                   type, trans ? n : k, trans ? k : n, k, n, trans ? "{trans_b}" : ""),
               .dims = {{"S", rows}},
               .pipeline = "partition, fuse",
               .nmse = 1e-9};
  kernel_check(&c);
}

static const struct {
  const char *type;
  int n, k;
  bool trans;
} deep[] = {{"f32", 20, 1030, true},   {"bf16", 36, 2048, true},  {"f8e4m3", 9, 2080, true},
            {"q4_0", 20, 2048, true},  {"q4_k", 18, 4096, true},  {"q8_0", 17, 1024, true},
            {"u4_64", 12, 2048, true}, {"bf16", 130, 700, false}, {"f32", 33, 515, false},
            {"f8e5m2", 40, 516, false}};
START_TEST(shared_k) {
  for (size_t i = 0; i < TN_COUNT(deep); i++)
    for (int rows = 1; rows < 4; rows += 2) product(deep[i].type, rows, deep[i].n, deep[i].k, deep[i].trans);
}
END_TEST

START_TEST(chunks) {
  product("f16", 1, 5, 8200, true);
  product("q6_k", 1, 3, 8448, true);
  product("f32", 1, 40, 8193, false);
  product("bf16", 3, 4, 2061, true);
  product("u3_32", 3, 4, 2112, true);
  product("f16", 2, 34, 2050, false);
}
END_TEST

/* Formats whose blocks are no whole words: the last one is where the weight ends, or a byte before. */
static const char *const odd[] = {"q4_0",      "q6_k",  "mxfp4", "u2_32",  "u3_64",      "u4_32",
                                  "u4_64_f32", "u8_32", "q3_k",  "u8_row", "f8_128_bf16"};
START_TEST(ends) {
  for (size_t i = 0; i < TN_COUNT(odd); i++)
    for (int n = 1; n < 5; n++) {
      uint32_t f = 0;
      while (f < tn_quant_count() && strcmp(tn_quant_of(TN_DT_BLOCK + f)->name, odd[i])) f++;
      product(odd[i], 1 + n % 2, n, (int)tn_quant_of(TN_DT_BLOCK + f)->values, true);
    }
}
END_TEST

static const char *const norms[] = {"rms_norm %x, @s {eps = 1e-6}",
                                    "rms_norm %x, @s {eps = 1e-6, offset = 1.0}", "rms_norm %x {eps = 1e-5}",
                                    "layer_norm %x, @s, @b {eps = 1e-5}", "layer_norm %x, @s {eps = 1e-5}"};
static void normed(const char *norm, const char *lhs, const char *type, int n, int k) {
  tn_case c = {
      .text = kernel_text("module @m {\n weight @w : %s[%d, %d]\n weight @s : f32[%d]\n weight @b : f32[%d]\n"
                          " func @f(%%x: %s[1, 1, %d]) -> %s[1, 1, %d] {\n %%0 = %s\n"
                          " %%1 = matmul %%0, @w {trans_b}\n return %%1 } }",
                          type, n, k, k, k, lhs, k, lhs, n, norm),
      .pipeline = "partition, fuse",
      .nmse = !strcmp(lhs, "f32") ? 1e-9 : 1e-5};
  kernel_check(&c);
}
START_TEST(norm) {
  for (size_t i = 0; i < TN_COUNT(norms); i++) {
    normed(norms[i], "f32", "bf16", 12, 70);
    normed(norms[i], i % 2 ? "f32" : "bf16", "q4_0", 10, 1120);
  }
  normed(norms[0], "f32", "f16", 6, 8200);
  normed(norms[3], "f16", "f32", 6, 131);
}
END_TEST

START_TEST(halves) {
  static const char *const types[] = {"f32", "bf16", "q4_k", "iq2_xs"};
  for (size_t i = 0; i < TN_COUNT(types); i++)
    for (int rows = 1; rows < 4; rows += 2) {
      tn_case c = {.text = kernel_text(
                       "module @m { dims S\n weight @w : %s[96, 512]\n func @f(%%x: f32[S, 512]) -> "
                       "f32[S, 48] {\n %%0 = matmul %%x, @w {trans_b}\n %%1, %%2 = split %%0 {axis = -1, "
                       "sizes = [48, 48]}\n %%3 = silu %%1\n %%4 = mul %%3, %%2\n return %%4 } }",
                       types[i]),
                   .dims = {{"S", rows}},
                   .pipeline = "partition, fuse",
                   .nmse = 1e-9};
      kernel_check(&c);
    }
}
END_TEST

/* A weight with a batch of its own, one for all of a batch, and rows that are columns in memory. */
START_TEST(batches) {
  static const char *const texts[] = {"weight @w : q4_0[3, 10, 64]\n func @f(%x: f32[3, S, 64]) -> f32[3, S, "
                                      "10] {\n %0 = matmul %x, @w {trans_b}",
                                      "weight @w : q5_k[2, 1, 6, 256]\n func @f(%x: f32[3, S, 256]) -> "
                                      "f32[2, 3, S, 6] {\n %0 = matmul %x, @w {trans_b}",
                                      "weight @w : bf16[3, 40, 33]\n func @f(%x: f32[2, 1, S, 40]) -> f32[2, "
                                      "3, S, 33] {\n %0 = matmul %x, @w",
                                      "weight @w : f16[12, 40]\n func @f(%x: f16[2, 40, S]) -> f16[2, S, 12] "
                                      "{\n %0 = matmul %x, @w {trans_a, trans_b}"};
  for (size_t i = 0; i < TN_COUNT(texts); i++)
    for (int rows = 1; rows < 6; rows += 2) {
      tn_case c = {.text = kernel_text("module @m { dims S\n %s\n return %%0 } }", texts[i]),
                   .dims = {{"S", rows}},
                   .pipeline = "partition, fuse",
                   .nmse = i == 3 ? 1e-6 : 1e-9};
      kernel_check(&c);
    }
}
END_TEST

KERNEL_TESTS("stream", shared_k, chunks, ends, norm, halves, batches)
