/* test_views.c - ops that move elements, and leaves: every map of indices, contiguous, broken over vectors,
 * predicated. */
#include "tests/kernels/case.h"

static const int64_t sizes[] = {0, 1, 2, 7, 16, 17, 33};

/* body of a function of %x: f32[A, B, 48] and %y: f32[A, B, 5] */
static void view(const char *result, const char *body) {
  for (size_t i = 0; i < TN_COUNT(sizes); i++) {
    tn_case c = {.text = kernel_text("module @m { dims A, B\n func @f(%%x: f32[A, B, 48], %%y: f32[A, B, 5]) "
                                     "-> %s {\n%s\n return %%r } }",
                                     result, body),
                 .dims = {{"A", i % 2 ? 3 : 1}, {"B", sizes[i]}}};
    kernel_check(&c);
  }
}

START_TEST(moves) {
  view("f32[A, 48, B]", "%r = transpose %x {perm = [0, 2, 1]}");
  view("f32[B, A, 48]", "%r = transpose %x {perm = [1, 0, 2]}");
  view("f32[A, B, 20]", "%r = slice %x {axis = 2, start = 3, stop = 23}");
  view("f32[A, B, 10]", "%r = slice %x {axis = 2, start = 5, stop = 33, step = 3}");
  view("f32[A, B, 16]", "%r = slice %x {axis = -1, start = 16, stop = 32}");
  view("f32[A, B, 53]", "%r = concat %x, %y {axis = 2}");
  view("f32[A, B, 101]", "%r = concat %y, %x, %x {axis = 2}");
  view("f32[A, B, 96]", "%r = concat %x, %x {axis = 2}");
  view("f32[A, B + B, 48]", "%r = concat %x, %x {axis = 1}");
  view("f32[A + 3, B + 2, 51]", "%r = pad %x {low = [1, 0, 2], high = [2, 2, 1], value = 0x1p-1}");
  view("f32[2, A, B, 48]", "%r = broadcast %x {shape = [2, A, B, 48]}");
}
END_TEST

START_TEST(shapes) {
  view("f32[A, B, 4, 12]", "%0 = neg %x\n%r = reshape %0 {shape = [A, B, 4, 12]}");
  view("f32[A, 3, B, 16]",
       "%0 = neg %x\n%1 = reshape %0 {shape = [A, B, 3, 16]}\n%r = transpose %1 {perm = [0, 2, 1, 3]}");
  view("f32[A, 4, B, 12]",
       "%0 = neg %x\n%1 = reshape %0 {shape = [A, B, 4, 12]}\n%r = transpose %1 {perm = [0, 2, 1, 3]}");
  view("f32[A, B, 48]", "%0 = reshape %x {shape = [A * B, 48]}\n%1 = exp %0\n%2 = reshape %1 {shape = [A, B, "
                        "48]}\n%r = add %2, %x");
  view("f32[A, B * 48]", "%0 = reshape %x {shape = [A, B * 48]}\n%r = exp %0");
  view("f32[A, B, 16]",
       "%0, %1, %2 = split %x {axis = 2, sizes = [16, 16, 16]}\n%3 = mul %0, %1\n%r = add %3, %2");
  view("f32[A, B, 5]",
       "%0, %1, %2 = split %x {axis = 2, sizes = [5, 5, 38]}\n%3 = mul %0, %1\n%r = add %3, %y");
}
END_TEST

START_TEST(gathers) {
  static const char *const data[] = {"f32", "f16", "bf16", "i32"}, *const ids[] = {"i32", "i64", "u8"};
  for (size_t d = 0; d < TN_COUNT(data); d++)
    for (size_t k = 0; k < TN_COUNT(ids); k++)
      for (size_t i = 0; i < TN_COUNT(sizes); i++) {
        tn_case c = {.text =
                         kernel_text("module @m { dims S\n func @f(%%t: %s[9, 40], %%i: %s[2, S], %%u: %s[3, "
                                     "9, 4]) -> (p: %s[2, S, 40], q: %s[3, 2, S, 4], v: %s[9, 2, S]) {\n"
                                     " %%r = gather %%t, %%i {axis = 0}\n %%s = gather %%u, %%i {axis = 1}\n "
                                     "%%v = gather %%t, %%i {axis = 1}\n return %%r, %%s, %%v } }",
                                     data[d], ids[k], data[d], data[d], data[d], data[d]),
                     .dims = {{"S", sizes[i]}},
                     .int_lo = ids[k][0] == 'u' ? 0 : -11,
                     .int_hi = 12};
        kernel_check(&c);
      }
}
END_TEST

START_TEST(leaves) {
  for (size_t i = 0; i < TN_COUNT(sizes); i++) {
    tn_case c = {.text = "module @m { dims S, P\n func @f(%x: f32[S, 20]) -> (a: i32[S, 20], b: f32[S, 20], "
                         "c: bool[S, S + P], d: f32[1, 6, 1, S], e: f32[S, 20], g: f32[S, 20]) {\n"
                         " %a = iota {shape = [S, 20], axis = 0, start = P, dtype = i32}\n %b = iota {shape "
                         "= [S, 20], axis = 1, dtype = f32}\n"
                         " %c = causal_mask {q = S, k = S + P, window = 5}\n %d = alibi {heads = 6, k = S}\n"
                         " %e = random_uniform {shape = [S, 20], seed = 77}\n"
                         " %k = constant {value = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, "
                         "17, 18, 19, 20]} : f32[20]\n"
                         " %g = mul %x, %k\n return %a, %b, %c, %d, %e, %g } }",
                 .dims = {{"S", sizes[i]}, {"P", (int64_t)i}}};
    kernel_check(&c);
  }
}
END_TEST

START_TEST(ropes) {
  static const char *const attrs[] = {"", "{interleaved}", "{factor = 0x1.8p0}"};
  static const int dims[][2] = {{32, 16}, {64, 32}, {24, 12}, {48, 16}, {20, 7}, {2, 1}};
  for (size_t a = 0; a < TN_COUNT(attrs); a++)
    for (size_t d = 0; d < TN_COUNT(dims); d++)
      for (int rank = 1; rank < 3; rank++)
        for (size_t i = 0; i < 4; i++) {
          tn_case c = {.text =
                           kernel_text("module @m { dims S\n func @f(%%x: f32[2, S, 3, %d], %%p: i32[%sS], "
                                       "%%q: f32[%d]) -> f32[2, S, 3, %d] {\n"
                                       " %%r = rope %%x, %%p, %%q %s\n return %%r } }",
                                       dims[d][0], rank == 2 ? "2, " : "", dims[d][1], dims[d][0], attrs[a]),
                       .dims = {{"S", sizes[i]}},
                       .int_hi = 4000,
                       .lo = 0.001,
                       .hi = 1};
          kernel_check(&c);
        }
}
END_TEST

START_TEST(bitcasts) {
  tn_case c = {
      .text = "module @m { func @f(%x: f32[37], %y: i16[37]) -> (a: i32[37], b: f16[37], c: bf16[37]) {\n"
              " %a = bitcast %x {to = i32}\n %b = bitcast %y {to = f16}\n %c = bitcast %y {to = bf16}\n "
              "return %a, %b, %c } }"};
  kernel_check(&c);
}
END_TEST

START_TEST(dequants) {
  static const char *const formats[] = {"q4_0", "q4_1", "q5_0", "q5_1", "q8_0"}, *const to[] = {"f32", "f16",
                                                                                                "bf16"};
  for (size_t f = 0; f < TN_COUNT(formats); f++)
    for (size_t t = 0; t < TN_COUNT(to); t++) {
      tn_case c = {.text = kernel_text(
                       "module @m { func @f(%%x: %s[3, 5, 64]) -> (a: %s[3, 5, 64], b: %s[3, 5, 21]) {\n"
                       " %%a = dequant %%x {to = %s}\n %%b = slice %%a {axis = 2, start = 1, stop = 64, "
                       "step = 3}\n return %%a, %%b } }",
                       formats[f], to[t], to[t], to[t])};
      kernel_check(&c);
    }
}
END_TEST

KERNEL_TESTS("views", moves, shapes, gathers, leaves, ropes, bitcasts, dequants)
