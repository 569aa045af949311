/* test_math.c - accuracy of the elementary functions over dense sweeps, in units in the last place of f32
 * (half of one is the reference's own rounding). The reference is libm in f64. */
#include "tests/kernels/case.h"
#include <math.h>

#define COUNT 300000
#define ULP 1.1920929e-07 /* largest relative size of one */

/* Every exponent from 2^-140 to 2^127 and both signs; thinner above `limit`. */
static void every_scale(float limit, float *f, int64_t n) {
  for (int64_t i = 0; i < n; i++) {
    double t = (double)i / (double)n, m = 1 + fmod((double)i * 0.6180339887498949, 1);
    double x = ldexp(m, (int)(t * 160) - 140);
    if (i % 2) x = limit * fmod((double)i * 0.7548776662466927, 1); /* half of them evenly */
    if (x > limit) x = limit / m;
    f[i] = (float)(i % 4 < 2 ? x : -x);
  }
}
#define FILL(name, limit)                                                                                    \
  static void name(const char *arg, tn_dtype dt, void *data, int64_t n) {                                    \
    (void)arg, (void)dt;                                                                                     \
    every_scale(limit, data, n);                                                                             \
  }
FILL(to_20, 20)
FILL(to_110, 110)
FILL(to_million, 1e6f)
FILL(to_end, 3.4e38f)
static void positive(const char *arg, tn_dtype dt, void *data, int64_t n) {
  float *f = data;
  to_end(arg, dt, data, n);
  for (int64_t i = 0; i < n; i++) f[i] = fabsf(f[i]);
}

static void sweep(const char *op, const char *attrs, void (*fill)(const char *, tn_dtype, void *, int64_t),
                  double ulps, double atol) {
  tn_case c = {
      .text = kernel_text("module @m { func @f(%%x: f32[%d]) -> f32[%d] { %%r = %s %%x %s\n return %%r } }",
                          COUNT, COUNT, op, attrs),
      .fill = fill,
      .rtol = ulps * ULP,
      .atol = atol,
      .pipeline = "partition, fuse"};
  kernel_check(&c);
}

START_TEST(exponential) {
  sweep("exp", "", to_110, 2, 1.5e-45);
  sweep("sigmoid", "", to_110, 2, 1.5e-45);
  sweep("silu", "", to_110, 3, 1e-36); /* the sigmoid of -88 is denormal */
  sweep("tanh", "", to_20, 2, 1.5e-45);
}
END_TEST
START_TEST(logarithm) {
  sweep("log", "", positive, 2, 0);
  sweep("rsqrt", "", positive, 1, 0);
  sweep("sqrt", "", positive, 0.5, 0);
}
END_TEST
START_TEST(error_function) {
  sweep("erf", "", to_20, 2, 1.5e-45);
  sweep("gelu", "", to_20, 4, 6e-8);
  sweep("gelu", "{form = \"tanh\"}", to_20, 4, 3e-7);
  sweep("gelu", "{form = \"quick\"}", to_20, 8, 1e-9); /* 1.702 x is rounded before its exponential */
}
END_TEST
START_TEST(angles) {
  sweep("sin", "", to_20, 2, 1.5e-45);
  sweep("cos", "", to_20, 2, 1e-9);
  sweep("sin", "", to_million, 2, 1e-9);
  sweep("cos", "", to_million, 2, 1e-9);
}
END_TEST
static void unit(const char *arg, tn_dtype dt, void *data, int64_t n) {
  (void)arg, (void)dt;
  every_scale(1, data, n);
}
static void above_one(const char *arg, tn_dtype dt, void *data, int64_t n) {
  float *f = data;
  to_end(arg, dt, data, n);
  for (int64_t i = 0; i < n; i++) f[i] = fabsf(f[i]) < 1 ? 1 + fabsf(f[i]) : fabsf(f[i]);
}
START_TEST(inverses) {
  static const char *const ops[] = {"asin", "acos", "atanh"};
  for (size_t i = 0; i < TN_COUNT(ops); i++) sweep(ops[i], "", unit, 1, 1.5e-45);
  sweep("atan", "", to_end, 1, 1.5e-45);
  sweep("asinh", "", to_end, 1, 1.5e-45);
  sweep("acosh", "", above_one, 1, 1.5e-45);
  sweep("tan", "", to_20, 1, 1.5e-45);
  sweep("log1p", "", positive, 2, 1.5e-45);
}
END_TEST
START_TEST(hyperbolic) {
  sweep("sinh", "", to_110, 1, 1.5e-45);
  sweep("cosh", "", to_110, 1, 0);
  sweep("expm1", "", to_110, 3, 1.5e-45);
}
END_TEST
START_TEST(powers) {
  static const char *const y[] = {"0x1p1", "0x1.8p0", "-0x1.4p1", "0x1p-1", "0x1.2p3"};
  for (size_t i = 0; i < TN_COUNT(y); i++) {
    tn_case c = {.text = kernel_text(
                     "module @m { func @f(%%x: f32[%d]) -> f32[%d] { %%y = constant {value = [%s]} : f32[]\n"
                     " %%r = pow %%x, %%y\n return %%r } }",
                     COUNT, COUNT, y[i]),
                 .fill = positive,
                 .rtol = ULP,
                 .pipeline = "partition, fuse"};
    kernel_check(&c);
  }
}
END_TEST
START_TEST(doubles) {
  static const char *const ops[] = {"exp", "tanh", "sigmoid", "sin", "cos", "silu"};
  for (size_t i = 0; i < TN_COUNT(ops); i++) {
    tn_case c = {
        .text = kernel_text(
            "module @m { func @f(%%x: f64[9999]) -> f64[9999] { %%r = %s %%x\n return %%r } }", ops[i]),
        .lo = -30,
        .hi = 30,
        .rtol = 1e-14,
        .atol = 1e-16,
        .pipeline = "partition, fuse"};
    kernel_check(&c);
    c.lo = -0.3, c.hi = 0.3;
    kernel_check(&c);
  }
  static const struct {
    const char *op;
    double lo, hi;
  } more[] = {{"tan", -9, 9},         {"asin", -1, 1},        {"acos", -1, 1},       {"atan", -9, 9},
              {"sinh", -50, 50},      {"cosh", -9, 9},        {"asinh", -99, 99},    {"acosh", 1, 99},
              {"atanh", -1, 1},       {"expm1", -3, 3},       {"log1p", -1, 9},      {"erf", -7, 7},
              {"gelu", -2, 7},        {"sinh", -0.1, 0.1},    {"erf", -0.1, 0.1},    {"asinh", -1e-3, 1e-3},
              {"atanh", -1e-3, 1e-3}, {"expm1", -1e-5, 1e-5}, {"log1p", -1e-5, 1e-5}};
  for (size_t i = 0; i < TN_COUNT(more); i++) {
    tn_case c = {
        .text = kernel_text(
            "module @m { func @f(%%x: f64[9999]) -> f64[9999] { %%r = %s %%x\n return %%r } }", more[i].op),
        .lo = more[i].lo,
        .hi = more[i].hi,
        .rtol = 1e-14,
        .atol = 3e-16,
        .pipeline = "partition, fuse"};
    kernel_check(&c);
  }
  tn_case c = {.text = "module @m { func @f(%x: f64[9999]) -> f64[9999] { %r = log %x\n return %r } }",
               .lo = 1e-9,
               .hi = 4,
               .rtol = 1e-14,
               .atol = 1e-16,
               .pipeline = "partition, fuse"};
  kernel_check(&c);
}
END_TEST

KERNEL_TESTS("math", exponential, logarithm, error_function, angles, inverses, hyperbolic, powers, doubles)
