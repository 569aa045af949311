/* test_library.c - the ops that the cpu has C functions for, where the cuda backend has ways of its own to
 * go: states and matrices too large for shared memory or of sizes that only the run knows, types that the cpu
 * leaves, many classes, matrices without a pivot. */
#include "tests/kernels/case.h"

/* ---- recurrences --------------------------------------------------------------------------------------- */

typedef struct net {
  const char *op, *type, *units; /* units: a number or H */
  int64_t h, s, b;
} net;

static void recur(const net *n) {
  int gates = *n->op == 'l' ? 4 : *n->op == 'g' ? 3 : 1;
  bool lstm = gates == 4;
  const char *t = n->type, *h = n->units;
  tn_case c = {.text = kernel_text(
                   "module @m { dims S, B, H where 1 <= H\n func @f(%%x: %s[S, B, 2, %d * %s], %%h: %s[2, B, "
                   "%s], %%c: %s[2, B, %s], "
                   "%%n: i32[B], %%r: %s[2, %d * %s, %s]) -> (y: %s[S, 2, B, %s], l: %s[2, B, %s]) {\n"
                   " %%y, %%l%s = %s %%x, %%r, %%h%s%s, %%n {direction = \"both\"}\n return %%y, %%l } }",
                   t, gates, h, t, h, t, h, t, gates, h, h, t, h, t, h, lstm ? ", %k" : "", n->op,
                   lstm ? ", %c" : "", gates > 1 ? ", _" : ""),
               .dims = {{"S", n->s}, {"B", n->b}, {"H", n->h}},
               .int_hi = n->s + 1,
               .lo = -1,
               .hi = 1};
  kernel_check(&c);
}
static const char *const ops[] = {"lstm", "gru", "rnn"};
START_TEST(recurrent_sizes) {
  for (size_t i = 0; i < TN_COUNT(ops); i++) {
    recur(&(net){ops[i], "f32", "H", 21, 3, 2});
    recur(&(net){ops[i], "f32", "130", 1, 2, 1});
    recur(&(net){ops[i], "bf16", "132", 1, 2, 2});
    recur(&(net){ops[i], "f64", "12", 1, 3, 2});
    recur(&(net){ops[i], "f64", "H", 7, 3, 2});
  }
  recur(&(net){"gru", "f32", "5", 1, 3, 0});
}
END_TEST

/* ---- determinants -------------------------------------------------------------------------------------- */

static void det(const char *type, const char *side, int64_t n) {
  tn_case c = {
      .text = kernel_text("module @m { dims N where 1 <= N\n func @f(%%x: %s[2, %s, %s]) -> (y: %s[2]) {\n"
                          " %%y = det %%x\n return %%y } }",
                          type, side, side, type),
      .dims = {{"N", n}},
      .lo = -1,
      .hi = 1};
  kernel_check(&c);
}
START_TEST(det_sizes) {
  static const char *const types[] = {"f64", "f32", "f16", "bf16"};
  for (size_t t = 0; t < TN_COUNT(types); t++) det(types[t], "N", 9);
  det("f32", "17", 0);
  det("f64", "33", 0);
  det("f32", "74", 0);
}
END_TEST
/* Pivots that come from below, and columns that have none. */
START_TEST(det_pivots) {
  static const char *const values[] = {"[0, 0, 3, 0, 2, 0, 5, 0, 0]", "[0, 1, 2, 0, 3, 4, 0, 5, 6]",
                                       "[1, 2, 3, 2, 4, 6, 1, 1, 1]", "[0, 0, 0, 0, 0, 0, 0, 0, 0]"};
  for (size_t i = 0; i < TN_COUNT(values); i++) {
    tn_case c = {
        .text = kernel_text("module @m { func @f(%%x: f32[3, 3]) -> (y: f32[]) {\n"
                            " %%c = constant {value = %s} : f32[9]\n %%z = constant {value = 0} : f32[]\n"
                            " %%m = reshape %%c {shape = [3, 3]}\n %%a = mul %%x, %%z\n %%b = add %%a, %%m\n"
                            " %%y = det %%b\n return %%y } }",
                            values[i])};
    kernel_check(&c);
  }
}
END_TEST

/* ---- transforms ---------------------------------------------------------------------------------------- */

static void dft(const char *type, int n, bool inverse, bool onesided) {
  bool half = inverse && onesided;
  int made = onesided && !inverse ? n / 2 + 1 : n;
  tn_case c = {
      .text = kernel_text("module @m { func @f(%%x: %s[2, %d, 2]) -> (y: %s[2, %d, %d]) {\n"
                          " %%y = dft %%x {axis = 1, n = %d, inverse = %s, onesided = %s}\n return %%y } }",
                          type, half ? n / 2 + 1 : n, type, made, half ? 1 : 2, n, inverse ? "true" : "false",
                          onesided ? "true" : "false"),
      .nmse = *type == 'f' && type[1] == '6' ? 1e-27 : 1e-11};
  kernel_check(&c);
}
START_TEST(dft_lengths) {
  dft("f32", 499, false, false);
  dft("f32", 820, true, true);
  dft("f32", 3200, false, true);
  dft("f64", 1536, true, false);
}
END_TEST

/* ---- rows and boxes ------------------------------------------------------------------------------------ */

static void unique(const char *type, int row, int64_t n, bool sorted) {
  tn_case c = {
      .text = kernel_text(
          "module @m { dims N\n func @f(%%x: %s[N, %d]) -> (a: i64[N], b: i64[N], c: i64[N], d: i64[]) {\n"
          " %%a, %%b, %%c, %%d = unique %%x {sorted = %s}\n return %%a, %%b, %%c, %%d } }",
          type, row, sorted ? "true" : "false"),
      .dims = {{"N", n}},
      .int_lo = *type == 'i' ? -2 : 0,
      .int_hi = 3};
  kernel_check(&c);
}
START_TEST(unique_types) {
  static const char *const types[] = {"f64", "f16", "bf16", "i64", "i8", "u64", "u8"};
  for (size_t t = 0; t < TN_COUNT(types); t++)
    for (int sorted = 0; sorted < 2; sorted++) unique(types[t], 2, 37, sorted);
  unique("i32", 1, 300, true);
  unique("i32", 3, 300, false);
}
END_TEST
/* Square roots of whole numbers around zero: equal ones, both zeros, and what is no number. */
START_TEST(unique_numbers) {
  for (int sorted = 0; sorted < 2; sorted++) {
    tn_case c = {.text = kernel_text(
                     "module @m { func @f(%%x: f32[60]) -> (a: i64[60], b: i64[60], c: i64[60], d: i64[]) {\n"
                     " %%r = round %%x\n %%s = sqrt %%r\n %%a, %%b, %%c, %%d = unique %%s {sorted = %s}\n"
                     " return %%a, %%b, %%c, %%d } }",
                     sorted ? "true" : "false"),
                 .lo = -3,
                 .hi = 3};
    kernel_check(&c);
  }
}
END_TEST

static void nms(int64_t b, int64_t classes, int64_t n, const char *operands) {
  tn_case c = {
      .text = kernel_text(
          "module @m { dims B, C, N\n func @f(%%b: f32[B, N, 4], %%s: f32[B, C, N]) -> (s: i64[B * C * N, "
          "3], "
          "c: i64[]) {\n %%m = constant {value = 400} : i32[]\n %%i = constant {value = 0.5} : f32[]\n"
          " %%t = constant {value = 0.5} : f32[]\n %%r, %%c = nms %%b, %%s, %s {rows = B * C * N}\n"
          " return %%r, %%c } }",
          operands),
      .dims = {{"B", b}, {"C", classes}, {"N", n}}};
  kernel_check(&c);
}
START_TEST(nms_sizes) {
  nms(1, 2, 290, "%m, %i, _");
  nms(1, 280, 3, "%m, %i, %t");
  nms(2, 2, 9, "%m, _, _");
  nms(1, 2, 5, "_, %i, %t");
  nms(2, 3, 0, "%m, %i, %t");
  nms(0, 3, 4, "%m, %i, %t");
}
END_TEST

KERNEL_TESTS("library", recurrent_sizes, det_sizes, det_pivots, dft_lengths, unique_types, unique_numbers,
             nms_sizes)
