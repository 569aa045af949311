/* test_types.c - element types beyond those of language models against the reference: f64 in every kind of
 * kernel, floats of 8 and 4 bits, integers of 4 and 2 bits with what shares their bytes; shifts, remainders,
 * index ops. */
#include "tests/kernels/case.h"
#include <math.h>

static const int64_t sizes[] = {0, 1, 2, 7, 15, 16, 17, 33, 129};
static const char *const narrow[] = {"f8e4m3", "f8e5m2", "f8e4m3fnuz", "f8e5m2fnuz", "f8e8m0", "f4e2m1"};
static const char *const packed[] = {"i4", "u4", "i2", "u2", "f4e2m1"};

/* Random bytes: every code of the type. */
static void any_bits(const char *name, tn_dtype dt, void *data, int64_t n) {
  (void)name;
  int64_t bytes = (n * (int64_t)tn_ir_dtype_info(dt)->bits + 7) / 8;
  for (int64_t i = 0; i < bytes; i++) ((uint8_t *)data)[i] = (uint8_t)(i * 151 + 7 + (i >> 8));
}

START_TEST(wide_kernels) {
  static const char *const ops[] = {
      "matmul %x, %x {trans_b} : f64[5, 5]",       "softmax %x : f64[5, 33]",
      "softmax %x {axis = 0} : f64[5, 33]",        "layer_norm %x, %s, %s {eps = 1e-5} : f64[5, 33]",
      "rms_norm %x, %s {eps = 1e-6} : f64[5, 33]", "reduce_sum %x {axes = [1]} : f64[5]",
      "cumprod %x {axis = 1} : f64[5, 33]"};
  for (size_t i = 0; i < TN_COUNT(ops); i++) {
    tn_case c = {
        .text = kernel_text("module @m { func @f(%%x: f64[5, 33], %%s: f64[33]) -> %s { %%r = %s\n return "
                            "%%r } }",
                            strrchr(ops[i], ':') + 1, ops[i])};
    kernel_check(&c);
  }
  tn_case c = {.text =
                   "module @m { dims B, M\n func @f(%x: f64[B, M, 19], %y: f32[1, 19, 23], %z: f64[23]) -> "
                   "f64[B, M, 23] { %p = matmul %x, %y\n %q = add %p, %z\n %r = tanh %q\n return %r } }",
               .dims = {{"B", 2}, {"M", 7}}};
  kernel_check(&c);
}
END_TEST

START_TEST(narrow_floats) {
  for (size_t t = 0; t < TN_COUNT(narrow); t++) {
    tn_case c = {.text = kernel_text(
                     "module @m { func @f(%%x: %s[600]) -> f32[600] { %%r = cast %%x {to = f32}\n return "
                     "%%r } }",
                     narrow[t]),
                 .fill = any_bits};
    kernel_check(&c);
    for (int i = 0; i < 6; i++) {
      static const char *const attrs[] = {"",
                                          ", overflow = \"largest\"",
                                          ", overflow = \"special\"",
                                          ", round = \"up\"",
                                          ", round = \"down\", overflow = \"largest\"",
                                          ", round = \"up\", overflow = \"special\""};
      static const double limits[] = {1e-3, 8, 500, 7e4};
      for (size_t k = 0; k < TN_COUNT(limits); k++) {
        tn_case d = {.text = kernel_text(
                         "module @m { func @f(%%x: f32[999], %%y: f64[999]) -> (a: %s[999], b: %s[999]) { "
                         "%%r = cast %%x {to = %s%s}\n %%s = cast %%y {to = %s%s}\n return %%r, %%s } }",
                         narrow[t], narrow[t], narrow[t], attrs[i], narrow[t], attrs[i]),
                     .lo = -limits[k],
                     .hi = limits[k],
                     .atol = 1e-300};
        kernel_check(&d);
      }
    }
  }
}
END_TEST

START_TEST(shared_bytes) {
  for (size_t t = 0; t < TN_COUNT(packed); t++)
    for (size_t i = 0; i < TN_COUNT(sizes); i++) {
      tn_case c = {.text = kernel_text(
                       "module @m { dims N\n func @f(%%x: %s[3, N], %%y: i32[N, 5]) -> (a: f32[3, N], "
                       "b: %s[N, 3], c: %s[N, 5], d: i8[3, N]) {\n"
                       " %%a = cast %%x {to = f32}\n %%b = transpose %%x {perm = [1, 0]}\n"
                       " %%c = cast %%y {to = %s}\n %%d = cast %%x {to = i8}\n return %%a, %%b, %%c, %%d "
                       "} }",
                       packed[t], packed[t], packed[t], packed[t]),
                   .dims = {{"N", sizes[i]}},
                   .int_lo = -9,
                   .int_hi = 9,
                   .fill = NULL};
      kernel_check(&c);
      tn_case d = {.text = kernel_text(
                       "module @m { dims N\n func @f(%%x: f32[N, 3]) -> %s[N, 3] { %%r = cast %%x {to = "
                       "%s}\n return %%r } }",
                       packed[t], packed[t]),
                   .dims = {{"N", sizes[i]}},
                   .lo = -20,
                   .hi = 20};
      kernel_check(&d);
    }
}
END_TEST

START_TEST(bits_and_remainders) {
  static const char *const types[] = {"i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64"};
  static const char *const ops[] = {"shl", "shr", "fmod", "pow"};
  for (size_t t = 0; t < TN_COUNT(types); t++)
    for (size_t i = 0; i < TN_COUNT(ops); i++) {
      bool u = types[t][0] == 'u';
      tn_case c = {.text = kernel_text(
                       "module @m { func @f(%%x: %s[300], %%y: %s[300]) -> %s[300] { %%r = %s %%x, %%y\n "
                       "return %%r } }",
                       types[t], types[t], types[t], ops[i]),
                   .int_lo = u ? 0 : -70,
                   .int_hi = 70};
      kernel_check(&c);
    }
  static const char *const floats[] = {"f32", "f64", "f16"};
  for (size_t t = 0; t < TN_COUNT(floats); t++)
    for (int i = 0; i < 2; i++) {
      tn_case c = {.text = kernel_text(
                       "module @m { func @f(%%x: %s[999], %%y: %s[999]) -> %s[999] { %%r = %s %%x, %%y\n "
                       "return %%r } }",
                       floats[t], floats[t], floats[t], i ? "fmod" : "mod"),
                   .lo = -50,
                   .hi = 50,
                   .atol = 1e-300};
      kernel_check(&c);
    }
}
END_TEST

/* Quotients of every size, and what is no number. */
static void odd_pairs(const char *name, tn_dtype dt, void *data, int64_t n) {
  static const float x[] = {1e30f, -3e38f, 1e-40f, 5, -5, INFINITY, NAN, 0, -0.0f, 7.5f, 3e38f, 1e20f};
  static const float y[] = {3, 7, 1e-39f, INFINITY, -INFINITY, 2, 1, 0, 3, -2, 1e-45f};
  (void)dt;
  for (int64_t i = 0; i < n; i++)
    ((float *)data)[i] = name[0] == 'x' ? x[i % (int64_t)TN_COUNT(x)] : y[i % (int64_t)TN_COUNT(y)];
}
START_TEST(odd_remainders) {
  for (int i = 0; i < 2; i++) {
    tn_case c = {.text = kernel_text(
                     "module @m { func @f(%%x: f32[132], %%y: f32[132]) -> f32[132] { %%r = %s %%x, %%y\n "
                     "return %%r } }",
                     i ? "fmod" : "mod"),
                 .fill = odd_pairs,
                 .rtol = 1e-6};
    kernel_check(&c);
  }
}
END_TEST

START_TEST(indices) {
  static const char *const types[] = {"f32", "f64", "i8", "u32", "f16"};
  static const char *const attrs[] = {"", "last, ", "keep, ", "last, keep, "};
  for (size_t t = 0; t < TN_COUNT(types); t++)
    for (int axis = 0; axis < 3; axis++)
      for (size_t i = 0; i < TN_COUNT(attrs); i++) {
        bool keep = i >= 2;
        const char *shape[] = {keep ? "1, 19, 33" : "19, 33", keep ? "4, 1, 33" : "4, 33",
                               keep ? "4, 19, 1" : "4, 19"};
        tn_case c = {.text = kernel_text(
                         "module @m { func @f(%%x: %s[4, 19, 33]) -> (a: i64[%s], b: i64[%s]) { %%a = argmax "
                         "%%x {%saxis = %d}\n %%b = argmin %%x {%saxis = %d}\n return %%a, %%b } }",
                         types[t], shape[axis], shape[axis], attrs[i], axis, attrs[i], axis)};
        kernel_check(&c);
      }
}
END_TEST

START_TEST(products) {
  static const char *const types[] = {"f32", "i32", "u8"};
  for (size_t t = 0; t < TN_COUNT(types); t++)
    for (int axis = 0; axis < 2; axis++) {
      tn_case c = {.text = kernel_text(
                       "module @m { func @f(%%x: %s[9, 20]) -> (a: %s[9, 20], b: %s[9, 20]) { %%a = cumprod "
                       "%%x {axis = %d}\n %%b = cumprod %%x {axis = %d, exclusive, reverse}\n return %%a, "
                       "%%b } }",
                       types[t], types[t], types[t], axis, axis)};
      kernel_check(&c);
    }
}
END_TEST

/* Sizes of which only the run knows whether they are repeated. */
START_TEST(late_broadcasts) {
  for (int i = 0; i < 4; i++) {
    tn_case c = {
        .text = "module @m { dims A, B where A * max(A, B) + A <= A * A + max(A, B), max(A, B) <= A * max(A, "
                "B), B * "
                "max(A, B) + B <= B * B + max(A, B), max(A, B) <= B * max(A, B)\n"
                " func @f(%x: f32[A, 21], %y: f32[B, 21], %z: f32[3, A], %w: f32[3, B]) -> (a: f32[max(A, "
                "B), 21], b: "
                "f32[3, max(A, B)]) {\n"
                " %a = broadcast %x {shape = [max(A, B), 21]}\n %b = broadcast %y {shape = [max(A, B), 21]}\n"
                " %c = broadcast %z {shape = [3, max(A, B)]}\n %d = broadcast %w {shape = [3, max(A, B)]}\n"
                " %r = add %a, %b\n %s = mul %c, %d\n return %r, %s } }",
        .dims = {{"A", i & 1 ? 37 : 1}, {"B", i & 2 ? 37 : 1}}};
    kernel_check(&c);
  }
  tn_case c = {
      .text = "module @m { dims A, B where A <= B, B <= A\n func @f(%x: f32[A, 7], %y: f32[B, 7]) -> f32[A, "
              "7] { %r = add %x, %y\n return %r } }",
      .dims = {{"A", 5}, {"B", 5}}};
  kernel_check(&c);
}
END_TEST

KERNEL_TESTS("types", wide_kernels, narrow_floats, shared_bytes, bits_and_remainders, odd_remainders, indices,
             products, late_broadcasts)
