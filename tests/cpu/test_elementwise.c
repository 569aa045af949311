/* test_elementwise.c - elementwise ops of every type against the reference: shapes around the vector width,
 * broadcast, several results, special values; and copies. */
#include "tests/kernels/case.h"
#include <math.h>
#include <stdlib.h>

static const int64_t sizes[] = {0, 1, 2, 7, 8, 15, 16, 17, 33, 127, 129};

static void unary(const char *op, const char *attrs, const char *type, double lo, double hi) {
  for (size_t i = 0; i < TN_COUNT(sizes); i++) {
    tn_case c = {.text = kernel_text(
                     "module @m { dims N\n func @f(%%x: %s[N]) -> %s[N] { %%r = %s %%x %s\n return %%r } }",
                     type, type, op, attrs),
                 .dims = {{"N", sizes[i]}},
                 .lo = lo,
                 .hi = hi};
    kernel_check(&c);
  }
}
static void binary(const char *op, const char *type) {
  for (size_t i = 0; i < TN_COUNT(sizes); i++) {
    tn_case c = {.text =
                     kernel_text("module @m { dims N\n func @f(%%x: %s[N], %%y: %s[N]) -> %s[N] { %%r = %s "
                                 "%%x, %%y\n return %%r } }",
                                 type, type, type, op),
                 .dims = {{"N", sizes[i]}},
                 .int_lo = type[0] == 'u' ? 0 : -4};
    c.int_hi = 5;
    kernel_check(&c);
  }
}

START_TEST(unary_f32) {
  static const char *const any[] = {"neg", "abs", "sign",  "exp",  "tanh",  "sigmoid", "erf",
                                    "sin", "cos", "floor", "ceil", "round", "silu",    "relu"};
  for (size_t i = 0; i < TN_COUNT(any); i++) unary(any[i], "", "f32", -6, 6);
  static const char *const positive[] = {"log", "sqrt", "rsqrt"};
  for (size_t i = 0; i < TN_COUNT(positive); i++) unary(positive[i], "", "f32", 0.01, 30);
  unary("gelu", "", "f32", -6, 6);
  unary("gelu", "{form = \"tanh\"}", "f32", -6, 6);
  unary("gelu", "{form = \"quick\"}", "f32", -6, 6);
}
END_TEST

START_TEST(unary_types) {
  static const char *const types[] = {"f16", "bf16", "f64"};
  static const char *const ops[] = {"neg", "abs", "exp", "tanh", "sin", "silu", "relu", "floor"};
  for (size_t t = 0; t < TN_COUNT(types); t++)
    for (size_t i = 0; i < TN_COUNT(ops); i++) unary(ops[i], "", types[t], -3, 3);
  static const char *const ints[] = {"i8", "i16", "i32", "i64"};
  for (size_t t = 0; t < TN_COUNT(ints); t++) {
    unary("neg", "", ints[t], 0, 0);
    unary("abs", "", ints[t], 0, 0);
    unary("sign", "", ints[t], 0, 0);
    unary("not", "", ints[t], 0, 0);
  }
  unary("not", "", "bool", 0, 0);
}
END_TEST

START_TEST(binary_types) {
  static const char *const types[] = {"f32", "f16", "bf16", "f64", "i8",  "i16",
                                      "i32", "i64", "u8",   "u16", "u32", "u64"};
  static const char *const ops[] = {"add", "sub", "mul", "div", "min", "max", "mod"};
  for (size_t t = 0; t < TN_COUNT(types); t++)
    for (size_t i = 0; i < TN_COUNT(ops); i++) binary(ops[i], types[t]);
  static const char *const logic[] = {"i32", "u8", "bool"};
  for (size_t t = 0; t < TN_COUNT(logic); t++) {
    binary("and", logic[t]);
    binary("or", logic[t]);
    binary("xor", logic[t]);
  }
}
END_TEST

START_TEST(power) {
  tn_case c = {
      .text = "module @m { func @f(%x: f32[200], %y: f32[200]) -> f32[200] { %r = pow %x, %y\n return %r } }",
      .lo = 0.01,
      .hi = 20};
  kernel_check(&c);
  c.text = "module @m { func @f(%x: f32[200], %y: i32[200]) -> f32[200] { %z = cast %y {to = f32}\n %r = pow "
           "%x, %z\n return %r } }";
  c.lo = -3, c.hi = 3, c.int_lo = -4, c.int_hi = 5;
  kernel_check(&c);
}
END_TEST

START_TEST(compares) {
  static const char *const cmps[] = {"eq", "ne", "lt", "le", "gt", "ge"};
  static const char *const types[] = {"f32", "f16", "i32", "u8", "i64"};
  for (size_t t = 0; t < TN_COUNT(types); t++)
    for (size_t i = 0; i < TN_COUNT(cmps); i++) {
      tn_case c = {
          .text = kernel_text(
              "module @m { func @f(%%x: %s[5, 37], %%y: %s[37], %%z: %s[5, 1]) -> (a: bool[5, 37], b: %s[5, "
              "37]) {\n"
              " %%c = compare %%x, %%y {cmp = \"%s\"}\n %%s = select %%c, %%x, %%z\n return %%c, %%s } }",
              types[t], types[t], types[t], types[t], cmps[i])};
      kernel_check(&c);
    }
}
END_TEST

START_TEST(casts) {
  static const char *const types[] = {"f64", "f32", "f16", "bf16", "f8e4m3", "f8e5m2", "i64", "i32",
                                      "i16", "i8",  "u64", "u32",  "u16",    "u8",     "bool"};
  for (size_t a = 0; a < TN_COUNT(types); a++)
    for (size_t b = 0; b < TN_COUNT(types); b++) {
      tn_case c = {
          .text = kernel_text(
              "module @m { func @f(%%x: %s[99]) -> %s[99] { %%r = cast %%x {to = %s}\n return %%r } }",
              types[a], types[b], types[b]),
          .lo = -300,
          .hi = 300,
          .int_lo = types[a][0] == 'u' ? 0 : -100,
          .int_hi = 100,
          .pipeline = "partition, fuse"};
      kernel_check(&c);
    }
}
END_TEST

static void odd_values(const char *name, tn_dtype dt, void *data, int64_t n) {
  static const float v[] = {0,      -0.0f,   1,      -1,     INFINITY, -INFINITY, NAN,
                            1e-40f, -1e-40f, 3e38f,  -3e38f, 88.5f,    -87.5f,    -103.5f,
                            0.5f,   2.5f,    1e-20f, 1e9f,   5e4f};
  (void)name;
  for (int64_t i = 0; i < n && dt == TN_DT_f32; i++) ((float *)data)[i] = v[i % (int64_t)TN_COUNT(v)];
}
START_TEST(special_values) {
  static const char *const ops[] = {"neg",  "abs",     "sign", "exp",   "log",  "sqrt",  "rsqrt",
                                    "tanh", "sigmoid", "erf",  "floor", "ceil", "round", "relu"};
  for (size_t i = 0; i < TN_COUNT(ops); i++) {
    tn_case c = {.text = kernel_text(
                     "module @m { func @f(%%x: f32[19]) -> f32[19] { %%r = %s %%x\n return %%r } }", ops[i]),
                 .fill = odd_values,
                 .atol = 1e-45,
                 .rtol = 1e-6};
    kernel_check(&c);
  }
  for (int i = 0; i < 2; i++) {
    tn_case c = {.text =
                     kernel_text("module @m { func @f(%%x: f32[19], %%y: f32[361]) -> f32[19, 361] { %%a = "
                                 "reshape %%x {shape = [19, 1]}\n"
                                 " %%r = %s %%a, %%y\n return %%r } }",
                                 i ? "min" : "max"),
                 .fill = odd_values};
    kernel_check(&c);
  }
}
END_TEST

START_TEST(chain) {
  for (size_t i = 0; i < TN_COUNT(sizes); i++) {
    tn_case c = {.text = "module @m { dims B, N\n func @f(%x: f32[B, N, 24], %b: f32[24], %s: f32[], %y: "
                         "bf16[B, N, 24]) -> (p: f32[B, N, 24], q: f32[B, N, 24]) {\n"
                         " %0 = add %x, %b\n %1 = gelu %0\n %2 = mul %1, %s\n %3 = cast %y {to = f32}\n %4 "
                         "= add %2, %3\n %5 = silu %4\n return %4, %5 } }",
                 .dims = {{"B", 2}, {"N", sizes[i]}}};
    kernel_check(&c);
  }
}
END_TEST

/* What a function gives as it got it, and a state behind an update: kernels that copy, blocks too. */
START_TEST(copies) {
  static const char *const types[] = {"f32",  "bf16", "f8e4m3", "i64",  "u8",
                                      "bool", "q8_0", "q4_k",   "q6_k", "mxfp4"};
  for (size_t t = 0; t < TN_COUNT(types); t++)
    for (int64_t rows = 0; rows < 4; rows += 3) {
      tn_case c = {.text = kernel_text(
                       "module @m { dims N\n weight @w : %s[3, 256]\n func @f(%%x: %s[N, 2, 256]) -> "
                       "(a: %s[N, 2, 256], b: %s[3, 256], c: %s[N, 2, 256]) {\n return %%x, @w, %%x } }",
                       types[t], types[t], types[t], types[t], types[t]),
                   .dims = {{"N", rows}}};
      kernel_check(&c);
    }
  for (int64_t pos = 0; pos < 10; pos += 3) {
    tn_case c = {
        .text = "module @m { dims B, P, C where P + 2 <= C\n state @k : q8_0[B, C, 3, 64]\n func @f(%x: "
                "f32[B, 2, 3, 64]) -> q8_0[B, C, 3, 64] {\n %0 = kv_update @k, %x {pos = P}\n return %0 } }",
        .dims = {{"B", 2}, {"P", pos}, {"C", 12}}};
    kernel_check(&c);
  }
}
END_TEST

KERNEL_TESTS("elementwise", unary_f32, unary_types, binary_types, power, compares, casts, special_values,
             chain, copies)
