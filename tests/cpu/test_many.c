/* test_many.c - products of 16-bit floats with many rows: sizes around the tiles that tensor cores work on,
 * both ways in which the right operand can lie, batches, gates, epilogues, more tiles than a device has
 * multiprocessors. */
#include "tests/kernels/case.h"

static void product(const char *type, int m, int n, int k, bool trans, const char *behind) {
  tn_case c = {.text = kernel_text("module @m { dims S\n weight @w : %s[%d, %d]\n weight @b : %s[%d]\n "
                                   "func @f(%%x: %s[S, %d]) -> %s[S, %d] {\n %%0 = matmul %%x, @w %s\n%s "
                                   "return %%r } }",
                                   type, trans ? n : k, trans ? k : n, type, n, type, k, type, n,
                                   trans ? "{trans_b}" : "", behind),
               .dims = {{"S", m}},
               .lo = -1,
               .hi = 1,
               .atol = 4e-2,
               .rtol = 1e-2,
               .plain_weights = true,
               .pipeline = "partition, fuse"};
  kernel_check(&c);
}
static const char plain[] = " %r = neg %0\n";
static const char biased[] = " %1 = add %0, @b\n %r = relu %1\n";

START_TEST(sizes) {
  static const int some[][3] = {{65, 8, 8},     {128, 128, 64},  {129, 40, 72},  {70, 264, 200},
                                {300, 136, 16}, {190, 100, 640}, {256, 256, 128}};
  static const char *const types[] = {"bf16", "f16"};
  for (size_t i = 0; i < TN_COUNT(some); i++)
    for (int trans = 0; trans < 2; trans++)
      product(types[(i + (size_t)trans) % 2], some[i][0], some[i][1], some[i][2], trans,
              i % 2 ? biased : plain);
}
END_TEST

/* Tiles of the larger kind, and more of them than blocks that stay. */
START_TEST(many_tiles) {
  product("bf16", 128 * 133 + 5, 16, 72, true, plain);
  product("f16", 128 * 66 + 1, 264, 320, false, biased);
}
END_TEST

START_TEST(batches) {
  for (int trans = 0; trans < 2; trans++) {
    tn_case c = {.text = kernel_text("module @m { dims B, S\n func @f(%%x: bf16[B, 3, S, 72], %%y: bf16[B, "
                                     "3, %s]) -> bf16[B, 3, S, 136] {\n %%r = matmul %%x, %%y %s\n return "
                                     "%%r } }",
                                     trans ? "136, 72" : "72, 136", trans ? "{trans_b}" : ""),
                 .dims = {{"B", 2}, {"S", 150}},
                 .lo = -1,
                 .hi = 1,
                 .atol = 4e-2,
                 .rtol = 1e-2};
    kernel_check(&c);
  }
}
END_TEST

/* Both halves of the columns are needed for one result. */
START_TEST(gates) {
  for (int trans = 0; trans < 2; trans++) {
    tn_case c = {.text = kernel_text(
                     "module @m { dims S\n weight @w : bf16[%s]\n func @f(%%x: bf16[S, 136]) -> "
                     "bf16[S, 144] {\n %%0 = matmul %%x, @w %s\n %%1, %%2 = split %%0 {axis = 1, sizes "
                     "= [144, 144]}\n %%3 = silu %%1\n %%4 = mul %%3, %%2\n return %%4 } }",
                     trans ? "288, 136" : "136, 288", trans ? "{trans_b}" : ""),
                 .dims = {{"S", 135}},
                 .lo = -0.5,
                 .hi = 0.5,
                 .atol = 4e-2,
                 .rtol = 2e-2,
                 .plain_weights = true,
                 .pipeline = "partition, fuse"};
    kernel_check(&c);
    c.dims[0].value = 128 * 50;
    kernel_check(&c);
  }
}
END_TEST

KERNEL_TESTS("products with many rows", sizes, many_tiles, batches, gates)
