/* test_whole.c - products of whole numbers, exact: codes of 8 bits with and without stored zeros, rows whose
 * values span more and less than a byte, sizes around the micro-kernel's, weights packed and plain,
 * epilogues. */
#include "tests/kernels/case.h"

static const char *const formats[] = {"s8_row", "u8_row"};
static int64_t low, high; /* of lhs */

static void product(const char *lhs, const char *rhs, int m, int n, int k, bool plain) {
  tn_case c = {
      .every_target = true,
      .text = kernel_text("module @m { dims B, S\n weight @w : %s[%d, %d]\n func @f(%%x: %s[B, S, %d]) -> "
                          "i32[B, S, %d] { %%r = matmul %%x, @w {trans_b}\n return %%r } }",
                          rhs, n, k, lhs, k, n),
      .dims = {{"B", m == 33 ? 2 : 1}, {"S", m}},
      .int_lo = low,
      .int_hi = high,
      .plain_weights = plain,
      .pipeline = "partition, fuse"};
  kernel_check(&c);
}

START_TEST(rows) {
  static const int sizes[] = {0, 1, 3, 9, 15, 33, 145};
  for (size_t f = 0; f < TN_COUNT(formats); f++)
    for (size_t i = 0; i < TN_COUNT(sizes); i++) {
      low = -255, high = 256; /* rows in which both signs are large need their high bytes */
      product("i16", formats[f], sizes[i], 33, 384, false);
      low = -100, high = 156;
      product("i16", formats[f], sizes[i], 33, 384, false);
    }
}
END_TEST
START_TEST(depths) {
  low = -255, high = 256;
  product("i16", "s8_row", 17, 40, 32, false);
  product("i16", "s8_row", 17, 16, 96, false);
  product("i16", "s8_row", 10, 50, 2080, false);
  product("i16", "u8_row", 17, 40, 128, false);
  product("i16", "u8_row", 10, 50, 1280, false);
}
END_TEST
START_TEST(types) {
  low = -128, high = 128;
  product("i8", "s8_row", 11, 20, 64, false);
  product("i8", "u8_row", 11, 20, 128, true);
  low = 0, high = 256;
  product("u8", "s8_row", 11, 20, 64, true);
  product("u8", "u8_row", 11, 20, 256, false);
  low = INT16_MIN, high = INT16_MAX + 1;
  product("i16", "s8_row", 11, 20, 64, false);
}
END_TEST

/* As a quantised layer has it: codes less their zero, two scales, a bias and an activation. */
START_TEST(layer) {
  tn_case c = {.every_target = true,
               .text =
                   "module @m { dims B, S\n weight @w : s8_row[50, 96]\n weight @b : f32[50]\n"
                   " func @f(%x: u8[B, S, 96], %z: u8[], %s: f32[], %y: f32[B, S, 50]) -> f32[B, S, 50] {\n"
                   " %0 = cast %x {to = i16}\n %1 = cast %z {to = i16}\n %2 = sub %0, %1\n"
                   " %3 = matmul %2, @w {trans_b}\n %4 = cast %3 {to = f32}\n %5 = mul %4, %s\n"
                   " %6 = add %5, @b\n %7 = add %6, %y\n return %7 } }",
               .dims = {{"B", 2}, {"S", 13}},
               .int_lo = 0,
               .int_hi = 256,
               .atol = 1e-2,
               .rtol = 1e-5};
  kernel_check(&c);
}
END_TEST

KERNEL_TESTS("whole", rows, depths, types, layer)
