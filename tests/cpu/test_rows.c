/* test_rows.c - softmax, norms and reductions: row lengths around the vector width, every axis, with and
 * without neighbours in the kernel. */
#include "tests/kernels/case.h"
#include <math.h>

static const int64_t sizes[] = {1, 2, 7, 15, 16, 17, 33, 127, 384};

START_TEST(norms) {
  static const char *const types[] = {"f32", "f16", "bf16"};
  for (size_t t = 0; t < TN_COUNT(types); t++)
    for (size_t i = 0; i < TN_COUNT(sizes); i++) {
      const char *e = types[t];
      long n = (long)sizes[i];
      tn_case c = {.text = kernel_text(
                       "module @m { dims B, S\n func @f(%%x: %s[B, S, %ld], %%s: %s[%ld], %%b: %s[%ld]) "
                       "-> (p: %s[B, S, %ld], q: %s[B, S, %ld], r: %s[B, S, %ld], t: %s[B, S, %ld]) {\n"
                       " %%p = layer_norm %%x, %%s, %%b {eps = 0x1p-20}\n %%q = rms_norm %%x, %%s {eps = "
                       "0x1p-20, offset = 0x1p0}\n"
                       " %%r = layer_norm %%x {eps = 0x1p-10}\n %%t = rms_norm %%x {eps = 0x1p-10}\n "
                       "return %%p, %%q, %%r, %%t } }",
                       e, n, e, n, e, n, e, n, e, n, e, n, e, n),
                   .dims = {{"B", 2}, {"S", (int64_t)i % 4}}};
      kernel_check(&c);
    }
}
END_TEST

START_TEST(fused_norms) {
  for (size_t i = 0; i < TN_COUNT(sizes); i++) {
    long n = (long)sizes[i];
    tn_case c = {
        .text = kernel_text("module @m { dims B, S\n func @f(%%x: f32[B, S, %ld], %%y: f32[B, S, %ld], "
                            "%%v: bf16[%ld], %%s: bf16[%ld], %%b: f32[%ld]) -> f32[B, S, %ld] {\n"
                            " %%c = cast %%v {to = f32}\n %%0 = add %%x, %%y\n %%1 = add %%0, %%c\n %%k = "
                            "cast %%s {to = f32}\n %%2 = layer_norm %%1, %%k, %%b {eps = 0x1p-20}\n %%3 = "
                            "gelu %%2\n %%4 = add %%3, %%x\n return %%4 } }",
                            n, n, n, n, n, n),
        .dims = {{"B", 1}, {"S", 5}}};
    kernel_check(&c);
  }
}
END_TEST

START_TEST(softmaxes) {
  for (int axis = 0; axis < 3; axis++)
    for (size_t i = 0; i < TN_COUNT(sizes); i++) {
      tn_case c = {
          .text = kernel_text(
              "module @m { dims A, N\n func @f(%%x: f32[A, N, 19], %%m: f32[1, N, 19]) -> f32[A, N, 19] {\n "
              "%%0 = mul %%x, %%m\n %%r = softmax %%0 {axis = %d}\n %%1 = mul %%r, %%x\n return %%1 } }",
              axis),
          .dims = {{"A", 3}, {"N", sizes[i]}},
          .lo = -5,
          .hi = 5};
      kernel_check(&c);
      c.text = kernel_text("module @m { dims A, N\n func @f(%%x: f32[A, 2, N]) -> f32[A, 2, N] {\n %%r = "
                           "softmax %%x {axis = %d}\n return %%r } }",
                           axis);
      kernel_check(&c);
    }
}
END_TEST

static void some_infinite(const char *name, tn_dtype dt, void *data, int64_t n) {
  float *f = data;
  (void)name;
  for (int64_t i = 0; i < n && dt == TN_DT_f32; i++)
    f[i] = i / 20 == 1 || i % 3 == 0 ? -INFINITY : i / 20 == 4 ? NAN : f[i];
}
START_TEST(masked_softmax) {
  tn_case c = {.text = "module @m { func @f(%x: f32[6, 20]) -> f32[6, 20] { %r = softmax %x\n return %r } }",
               .fill = some_infinite};
  kernel_check(&c);
}
END_TEST

static void reduce(const char *type, const char *op, const char *attrs, const char *shape) {
  for (size_t i = 0; i < 7; i++) {
    tn_case c = {
        .text = kernel_text(
            "module @m { dims A, N\n func @f(%%x: %s[A, N, 21]) -> %s[%s] { %%r = %s %%x %s\n return %%r } }",
            type, op[0] == 'a' ? "i64" : type, shape, op, attrs),
        .dims = {{"A", 3}, {"N", sizes[i]}},
        .int_lo = type[0] == 'u' ? 0 : -3,
        .int_hi = 4};
    if (!strcmp(op, "reduce_prod")) c.lo = 0.8, c.hi = 1.2;
    kernel_check(&c);
  }
}
START_TEST(reductions) {
  static const char *const types[] = {"f32", "bf16", "f64", "i32", "u8"};
  static const char *const ops[] = {"reduce_sum", "reduce_mean", "reduce_max", "reduce_min", "reduce_prod"};
  for (size_t t = 0; t < TN_COUNT(types); t++)
    for (size_t o = 0; o < TN_COUNT(ops); o++) {
      reduce(types[t], ops[o], "{axes = [2]}", "A, N");
      reduce(types[t], ops[o], "{axes = [1], keep}", "A, 1, 21");
      if (t && o) continue;
      reduce(types[t], ops[o], "{axes = [0, 1, 2]}", "");
      reduce(types[t], ops[o], "{axes = [0, 2], keep}", "1, N, 1");
      reduce(types[t], ops[o], "{axes = [0]}", "N, 21");
    }
}
END_TEST
START_TEST(argmaxes) {
  static const char *const types[] = {"f32", "f16", "i32", "u8", "i64"};
  for (size_t t = 0; t < TN_COUNT(types); t++) {
    reduce(types[t], "argmax", "", "A, N");
    reduce(types[t], "argmax", "{axis = 1, keep}", "A, 1, 21");
    reduce(types[t], "argmax", "{axis = 0}", "N, 21");
  }
  tn_case c = {.text = "module @m { func @f(%x: f32[6, 20]) -> i64[6] { %r = argmax %x\n return %r } }",
               .fill = some_infinite};
  kernel_check(&c);
}
END_TEST
START_TEST(fused_reduction) {
  for (size_t i = 0; i < TN_COUNT(sizes); i++) {
    tn_case c = {.text =
                     "module @m { dims B, S\n func @f(%x: f32[B, S, 40], %m: i32[B, S]) -> f32[B, 40] {\n"
                     " %0 = reshape %m {shape = [B, S, 1]}\n %1 = cast %0 {to = f32}\n %2 = mul %x, %1\n %3 "
                     "= reduce_sum %2 {axes = [1]}\n"
                     " %4 = reduce_sum %1 {axes = [1]}\n %5 = constant {value = [0x1p-20]} : f32[1]\n %6 = "
                     "max %4, %5\n %7 = div %3, %6\n"
                     " %8 = mul %7, %7\n %9 = reduce_sum %8 {axes = [-1], keep}\n %10 = sqrt %9\n %11 = div "
                     "%7, %10\n return %11 } }",
                 .dims = {{"B", 2}, {"S", sizes[i]}},
                 .int_hi = 2};
    kernel_check(&c);
  }
}
END_TEST

START_TEST(scans) {
  static const char *const attrs[] = {"", ", exclusive", ", reverse", ", exclusive, reverse"},
                           *const types[] = {"f32", "i64", "i32", "u8"};
  for (int axis = 0; axis < 3; axis++)
    for (size_t a = 0; a < TN_COUNT(attrs); a++)
      for (size_t t = 0; t < TN_COUNT(types); t++) {
        tn_case c = {.text = kernel_text("module @m { dims N\n func @f(%%x: %s[2, N, 19]) -> %s[2, N, 19] { "
                                         "%%r = cumsum %%x {axis = %d%s}\n return %%r } }",
                                         types[t], types[t], axis, attrs[a]),
                     .dims = {{"N", 17}}};
        kernel_check(&c);
      }
}
END_TEST
START_TEST(orders) {
  static const char *const types[] = {"f32", "i32", "u8", "f16", "u64"};
  for (int axis = 0; axis < 2; axis++)
    for (size_t t = 0; t < TN_COUNT(types); t++)
      for (size_t i = 0; i < TN_COUNT(sizes); i++) {
        const char *e = types[t];
        tn_case c = {.text = kernel_text(
                         "module @m { dims N\n func @f(%%x: %s[N, 33]) -> (a: %s[N, 33], b: i64[N, 33], c: "
                         "%s[N, 33], d: i64[N, 33], e: %s[%s], g: i64[%s]) {\n"
                         " %%a, %%b = sort %%x {axis = %d}\n %%c, %%d = sort %%x {axis = %d, descending}\n "
                         "%%e, %%g = top_k %%x {k = 1, axis = %d}\n return %%a, %%b, %%c, %%d, %%e, %%g } }",
                         e, e, e, e, axis ? "N, 1" : "1, 33", axis ? "N, 1" : "1, 33", axis, axis, axis),
                     .dims = {{"N", sizes[i]}},
                     .int_hi = 20};
        kernel_check(&c);
      }
}
END_TEST

/* Lines that are longer than what a backend takes at once. */
START_TEST(long_lines) {
  static const char text[] =
      "module @m { dims B, N, R\n func @f(%x: f32[B, N], %y: bf16[R, 4096], %s: bf16[4096], %z: f32[R, "
      "20000], "
      "%w: f16[B, 3000], %q: f32[N, 70], %j: i32[B, N]) -> (a: f32[B, N], c: f32[B, N], d: i64[B, N], e: "
      "f32[B, "
      "50], g: i64[B, 50], h: f16[B, 7], i: i64[B, 7], p: bf16[R, 4096], r: f32[R, 20000], l: f32[R, 20000], "
      "s: f32[], t: f32[70], m: i64[B], n: i64[70], v: i64[B * N], u: i64[], ja: i32[B, N], jb: i64[B, N]) "
      "{\n"
      " %a = cumsum %x {axis = 1, exclusive}\n %c, %d = sort %x {axis = 1}\n %e, %g = top_k %x {k = 50}\n "
      "%h, "
      "%i = top_k %w {k = 7}\n %p = rms_norm %y, %s {eps = 0x1p-20}\n %r = softmax %z\n %l = layer_norm %z "
      "{eps = 0x1p-20}\n %0 = reduce_sum %x {axes = [0, 1]}\n %t = reduce_mean %q {axes = [0]}\n %m = argmax "
      "%x\n %n = argmax %q {axis = 0}\n %v, %u = nonzero %j\n %ja, %jb = sort %j {descending}\n"
      " return %a, %c, %d, %e, %g, %h, %i, %p, %r, %l, %0, %t, %m, %n, %v, %u, %ja, %jb } }";
  kernel_check(
      &(tn_case){.text = text, .dims = {{"B", 2}, {"N", 2500}, {"R", 2}}, .int_lo = -9, .int_hi = 9});
  kernel_check(&(tn_case){.text = text, .dims = {{"B", 1}, {"N", 1025}, {"R", 1}}});
}
END_TEST

KERNEL_TESTS("rows", norms, fused_norms, softmaxes, masked_softmax, reductions, argmaxes, fused_reduction,
             scans, orders, long_lines)
