/* test_conv.c - convolutions and pools: strides, dilations, padding, groups, one to three spatial dims,
 * channels that come in chunks, weights packed and plain, epilogues, symbolic sizes. */
#include "tests/kernels/case.h"
#include <check.h>

typedef struct shape {
  const char *op, *x, *w, *attrs, *out;
} shape;

static void conv(const shape *s, const char *type, const char *weight, bool plain) {
  tn_case c = {
      .text = kernel_text("module @m { weight @w : %s[%s]\n func @f(%%x: %s[%s]) -> %s[%s] {\n %%r = %s %%x, "
                          "@w {%s}\n return %%r } }",
                          weight, s->w, type, s->x, type, s->out, s->op, s->attrs),
      .atol = 2e-4,
      .rtol = strcmp(type, "f32") ? 2e-2 : 2e-4,
      .plain_weights = plain,
      .pipeline = "partition, fuse"};
  if (strcmp(type, "f32")) c.atol = 5e-2;
  kernel_check(&c);
}

static const shape shapes[] = {
    {"conv", "1, 3, 9, 11", "5, 3, 3, 3", "", "1, 5, 7, 9"},
    {"conv", "2, 4, 9, 50", "20, 4, 3, 3", "low = [1, 1], high = [1, 1]", "2, 20, 9, 50"},
    {"conv", "1, 16, 7, 7", "33, 16, 1, 1", "", "1, 33, 7, 7"},
    {"conv", "2, 5, 6, 20", "8, 5, 1, 1", "strides = [2, 2]", "2, 8, 3, 10"},
    {"conv", "1, 3, 21, 23", "7, 3, 7, 7", "strides = [2, 2], low = [3, 3], high = [3, 3]", "1, 7, 11, 12"},
    {"conv", "1, 2, 20, 41", "9, 2, 3, 4", "strides = [3, 4], low = [2, 1], high = [0, 3]", "1, 9, 7, 11"},
    {"conv", "1, 2, 20, 24", "9, 2, 3, 3", "dilations = [2, 3], low = [2, 3], high = [2, 3]", "1, 9, 20, 24"},
    {"conv", "1, 2, 20, 24", "4, 2, 3, 3", "strides = [2, 3], dilations = [3, 2], low = [0, 2]",
     "1, 4, 7, 8"},
    {"conv", "2, 6, 8, 9", "6, 1, 3, 3", "groups = 6, low = [1, 1], high = [1, 1]", "2, 6, 8, 9"},
    {"conv", "1, 8, 40, 40", "16, 1, 3, 3", "groups = 8, strides = [2, 2], low = [1, 1]", "1, 16, 20, 20"},
    {"conv", "1, 12, 8, 9", "36, 4, 2, 2", "groups = 3", "1, 36, 7, 8"},
    {"conv", "2, 10, 100", "24, 10, 3", "low = [1], high = [1]", "2, 24, 100"},
    {"conv", "1, 1, 1300", "6, 1, 10", "strides = [5]", "1, 6, 259"},
    {"conv", "1, 2, 1100", "17, 2, 3", "low = [1], high = [1]", "1, 17, 1100"},
    {"conv", "1, 3, 1100", "17, 3, 1", "", "1, 17, 1100"},
    {"conv", "1, 2, 5, 6, 20", "3, 2, 3, 2, 3", "strides = [2, 1, 2], low = [1, 0, 1], high = [1, 1, 0]",
     "1, 3, 3, 6, 10"},
    {"conv", "1, 2, 5, 6, 20", "3, 2, 3, 2, 3", "dilations = [2, 1, 1]", "1, 3, 1, 5, 18"},
    {"conv", "1, 700, 9, 9", "18, 700, 3, 3", "low = [1, 1], high = [1, 1]", "1, 18, 9, 9"},
    {"conv", "1, 600, 10, 10", "18, 600, 1, 1", "", "1, 18, 10, 10"},
    {"conv", "1, 24, 32, 32", "18, 24, 1, 1", "", "1, 18, 32, 32"},
    {"conv", "1, 2, 32, 32", "150, 2, 16, 16", "strides = [16, 16]", "1, 150, 2, 2"},
    {"conv", "0, 2, 8, 8", "4, 2, 3, 3", "", "0, 4, 6, 6"},
    {"conv_transpose", "1, 3, 5, 6", "3, 7, 3, 3", "", "1, 7, 7, 8"},
    {"conv_transpose", "2, 3, 5, 30", "3, 20, 2, 2", "strides = [2, 2]", "2, 20, 10, 60"},
    {"conv_transpose", "1, 4, 5, 6", "4, 3, 4, 4", "strides = [2, 2], low = [1, 1], high = [1, 1]",
     "1, 3, 10, 12"},
    {"conv_transpose", "1, 4, 5, 6", "4, 3, 3, 3", "strides = [3, 2], low = [1, 0], high = [-2, 1]",
     "1, 3, 16, 12"},
    {"conv_transpose", "1, 4, 5, 6", "4, 3, 3, 3", "strides = [2, 3], dilations = [3, 2], low = [-1, 2]",
     "1, 3, 16, 18"},
    {"conv_transpose", "1, 4, 5, 6", "4, 3, 2, 2", "groups = 2, strides = [3, 3]", "1, 6, 14, 17"},
    {"conv_transpose", "1, 5, 40", "5, 18, 16", "strides = [8], low = [4], high = [4]", "1, 18, 320"},
    {"conv_transpose", "1, 2, 3, 4, 5", "2, 3, 2, 3, 2", "strides = [2, 1, 2]", "1, 3, 6, 6, 10"},
    {"conv_transpose", "1, 700, 9, 9", "700, 18, 3, 3", "strides = [2, 2]", "1, 18, 19, 19"},
};

START_TEST(packed) { conv(&shapes[_i], "f32", "f32", false); }
END_TEST
START_TEST(plain) { conv(&shapes[_i], "f32", "f32", true); }
END_TEST
START_TEST(narrow) {
  for (size_t i = 0; i < TN_COUNT(shapes); i += 3) {
    conv(&shapes[i], "f16", "bf16", false);
    conv(&shapes[i], "bf16", "f32", false);
  }
}
END_TEST

/* Products may be rounded. */
START_TEST(fast) {
  for (size_t i = 0; i < TN_COUNT(shapes); i += 2) {
    tn_case c = {.text = kernel_text("module @m { weight @w : f32[%s]\n func @f(%%x: f32[%s]) -> f32[%s] {\n "
                                     "%%r = %s %%x, @w {%s}\n return %%r } }",
                                     shapes[i].w, shapes[i].x, shapes[i].out, shapes[i].op, shapes[i].attrs),
                 .lo = -1,
                 .hi = 1,
                 .nmse = 1e-5,
                 .precision = "fast",
                 .plain_weights = true,
                 .pipeline = "partition, fuse"};
    kernel_check(&c);
  }
}
END_TEST

/* More positions than small tiles are used for. */
START_TEST(large) {
  static const shape some[] = {
      {"conv", "1, 3, 118, 130", "80, 3, 3, 3", "", "1, 80, 116, 128"},
      {"conv", "2, 8, 57, 128", "72, 8, 1, 1", "", "2, 72, 57, 128"},
      {"conv", "1, 8, 115, 130", "66, 8, 2, 1", "low = [1, 0]", "1, 66, 115, 130"},
      {"conv_transpose", "1, 2, 60, 63", "2, 66, 2, 2", "strides = [2, 2]", "1, 66, 120, 126"},
  };
  for (size_t i = 0; i < TN_COUNT(some); i++) {
    conv(&some[i], "f32", "f32", true);
    conv(&some[i], i % 2 ? "bf16" : "f16", i % 2 ? "bf16" : "f16", true);
  }
}
END_TEST

/* Many channels and few positions, or, at run time, more of them. */
START_TEST(deep) {
  static const int64_t sizes[][2] = {{1, 3}, {0, 4}, {6, 60}};
  static const char *const types[] = {"f32", "bf16"};
  for (size_t i = 0; i < 2 * TN_COUNT(sizes); i++) {
    tn_case c = {.text = kernel_text(
                     "module @m { dims N, H\n weight @w : %s[136, 50, 3, 3]\n weight @b : %s[136]\n func "
                     "@f(%%x: %s[N, 100, H, 8]) -> %s[N, 136, H, 8] {\n %%0 = conv %%x, @w, @b {groups "
                     "= 2, low = [1, 1], high = [1, 1]}\n %%1 = relu %%0\n return %%1 } }",
                     types[i % 2], types[i % 2], types[i % 2], types[i % 2]),
                 .dims = {{"N", sizes[i / 2][0]}, {"H", sizes[i / 2][1]}},
                 .lo = -1,
                 .hi = 1,
                 .nmse = i % 2 ? 1e-4 : 1e-10,
                 .plain_weights = true,
                 .pipeline = "partition, fuse"};
    kernel_check(&c);
  }
}
END_TEST

START_TEST(epilogue) {
  static const char *const ops[] = {"conv", "conv_transpose"};
  for (int i = 0; i < 2; i++) {
    tn_case c = {
        .text = kernel_text(
            "module @m { weight @w : f32[20, 20, 3, 3]\n weight @b : f32[20]\n func @f(%%x: f32[2, 20, 9, "
            "17], %%y: f32[2, 20, 9, 17]) -> f32[2, 20, 9, 17] {\n %%0 = %s %%x, @w, @b {low = [1, 1], "
            "high = [1, 1]}\n %%1 = relu %%0\n %%2 = add %%1, %%y\n return %%2 } }",
            ops[i]),
        .atol = 1e-4,
        .rtol = 1e-4};
    kernel_check(&c);
  }
}
END_TEST

START_TEST(symbolic) {
  static const int64_t sizes[][4] = {
      {1, 3, 7, 9}, {2, 17, 1, 40}, {0, 4, 5, 6}, {1, 1, 30, 600}, {3, 5, 32, 32}};
  for (size_t i = 0; i < TN_COUNT(sizes); i++) {
    tn_case c = {
        .text = "module @m { dims N, C, H, W, P\n func @f(%x: f32[N, C, H, W], %w: f32[2 * C, C, 3, 3], %v: "
                "f32[C, 4, 3, 3]) "
                "-> (r0: f32[N, 2 * C, (H - 1) / 2 + 1, W], r1: f32[N, 4, 2 * H + 1 - P, 3 * W]) {\n %0 = "
                "conv %x, %w {strides = [2, 1], "
                "low = [1, 1], high = [1, 1]}\n %1 = conv_transpose %x, %v {strides = [2, 3], low = [P, 0]}\n"
                " return %0, %1 } }",
        .dims = {{"N", sizes[i][0]}, {"C", sizes[i][1]}, {"H", sizes[i][2]}, {"W", sizes[i][3]}, {"P", 1}},
        .atol = 2e-4,
        .rtol = 2e-4};
    kernel_check(&c);
  }
}
END_TEST

static const struct {
  const char *op, *type, *x, *attrs, *out;
} pools[] = {
    {"pool", "f32", "2, 3, 9, 40", "size = [3, 3], strides = [2, 2], low = [1, 1], high = [1, 1]",
     "2, 3, 5, 20"},
    {"pool", "f32", "1, 2, 9, 40", "size = [2, 2]", "1, 2, 8, 39"},
    {"pool", "i8", "1, 2, 9, 40", "size = [3, 2], strides = [2, 3], low = [1, 0]", "1, 2, 4, 13"},
    {"pool", "u8", "1, 2, 9, 40", "size = [3, 2], dilations = [2, 3], low = [1, 2]", "1, 2, 6, 39"},
    {"pool", "i64", "1, 2, 9, 10", "size = [3, 2], low = [1, 0]", "1, 2, 8, 9"},
    {"pool", "f64", "1, 2, 9, 10", "size = [3, 2], kind = \"mean\"", "1, 2, 7, 9"},
    {"pool", "f16", "1, 2, 9, 10", "size = [3, 2], kind = \"mean\", low = [1, 1], high = [1, 0]",
     "1, 2, 9, 10"},
    {"pool", "f32", "1, 2, 9, 10", "size = [3, 2], kind = \"mean\", low = [1, 1], high = [1, 0], count_pad",
     "1, 2, 9, 10"},
    {"pool", "f32", "1, 2, 9, 10", "size = [3, 3], kind = \"mean\", strides = [2, 4], ceil", "1, 2, 4, 3"},
    {"pool", "f32", "1, 2, 9, 10",
     "size = [3, 3], kind = \"mean\", strides = [2, 4], ceil, low = [1, 1], high = [1, 1], count_pad",
     "1, 2, 5, 3"},
    {"pool", "f32", "1, 2, 9, 10",
     "size = [3, 3], kind = \"sum\", strides = [3, 3], low = [2, 2], high = [2, 2]", "1, 2, 4, 4"},
    {"pool", "f32", "1, 2, 100", "size = [4], kind = \"sum\", strides = [2]", "1, 2, 49"},
    {"pool", "f32", "1, 2, 5, 6, 20", "size = [2, 3, 2], strides = [2, 1, 2], low = [1, 1, 0]",
     "1, 2, 3, 5, 10"},
    {"argpool", "f32", "2, 3, 9, 40", "size = [3, 3], strides = [2, 2], low = [1, 1], high = [1, 1]",
     "2, 3, 5, 20"},
    {"argpool", "i8", "2, 3, 9, 40", "size = [3, 3], strides = [1, 3]", "2, 3, 7, 13"},
    {"argpool", "f32", "1, 2, 5, 6, 20", "size = [2, 3, 2], strides = [2, 1, 2], low = [1, 1, 0]",
     "1, 2, 3, 5, 10"},
};
START_TEST(pool) {
  const char *to = strcmp(pools[_i].op, "pool") ? "i64" : pools[_i].type;
  tn_case c = {
      .text = kernel_text("module @m { func @f(%%x: %s[%s]) -> %s[%s] {\n %%r = %s %%x {%s}\n return %%r } }",
                          pools[_i].type, pools[_i].x, to, pools[_i].out, pools[_i].op, pools[_i].attrs)};
  kernel_check(&c);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("conv");
  TCase *t = tcase_create("all");
  tcase_set_timeout(t, 900);
  tcase_add_loop_test(t, packed, 0, (int)TN_COUNT(shapes));
  tcase_add_loop_test(t, plain, 0, (int)TN_COUNT(shapes));
  tcase_add_test(t, narrow);
  tcase_add_test(t, fast);
  tcase_add_test(t, large);
  tcase_add_test(t, deep);
  tcase_add_test(t, epilogue);
  tcase_add_test(t, symbolic);
  tcase_add_loop_test(t, pool, 0, (int)TN_COUNT(pools));
  suite_add_tcase(suite, t);
  SRunner *runner = srunner_create(suite);
  srunner_run_all(runner, CK_NORMAL);
  int failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed != 0;
}
