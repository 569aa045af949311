/* test_attention.c - attention and states: heads, groups, masks, windows, key counts around the block of
 * keys. */
#include "tests/cpu/harness.h"
#include "tests/cpu/runner.h"
#include <stdio.h>

static void attend(int heads, int kv, int d, int dv, const char *attrs, const char *mask, const char *bias,
                   int64_t s, int64_t t) {
  char more[200] = "", args[100] = "";
  if (mask) snprintf(more, sizeof more, ", %%m: %s", mask);
  if (bias) snprintf(more + strlen(more), sizeof more - strlen(more), ", %%b: %s", bias);
  if (mask) snprintf(args, sizeof args, ", %%m%s", bias ? ", %b" : "");
  cpu_case c = {.text = cpu_text("module @m { dims B, S, T\n func @f(%%q: f32[B, S, %d, %d], %%k: f32[B, T, "
                                 "%d, %d], %%v: f32[B, T, %d, %d]%s) -> f32[B, S, %d, %d] {\n"
                                 " %%r = attention %%q, %%k, %%v%s {scale = 0x1p-2%s}\n return %%r } }",
                                 heads, d, kv, d, kv, dv, more, heads, dv, args, attrs),
                .dims = {{"B", 2}, {"S", s}, {"T", t}},
                .pipeline = "partition, fuse"};
  c.int_hi = 2;
  cpu_check(&c);
}
static const int64_t lengths[][2] = {{1, 1},   {1, 63}, {1, 65},  {2, 2},     {7, 7},
                                     {17, 33}, {0, 5},  {64, 64}, {129, 129}, {120, 200}};
#define EACH_LENGTH for (size_t i = 0; i < TN_COUNT(lengths); i++)
#define LENGTHS lengths[i][0], lengths[i][1]

START_TEST(plain) {
  EACH_LENGTH {
    attend(2, 2, 32, 32, "", NULL, NULL, LENGTHS);
    attend(3, 1, 20, 20, "", NULL, NULL, LENGTHS);
    attend(6, 2, 16, 40, "", NULL, NULL, LENGTHS);
    attend(1, 1, 1, 1, "", NULL, NULL, LENGTHS);
  }
}
END_TEST
START_TEST(causal) {
  EACH_LENGTH {
    attend(2, 2, 32, 32, ", causal", NULL, NULL, LENGTHS);
    attend(4, 2, 24, 24, ", causal, window = 9", NULL, NULL, LENGTHS);
    attend(4, 2, 24, 24, ", window = 70", NULL, NULL, LENGTHS);
    attend(4, 4, 24, 24, ", causal, softcap = 0x1.8p1", NULL, NULL, LENGTHS);
  }
}
END_TEST
START_TEST(masks) {
  EACH_LENGTH {
    attend(2, 2, 32, 32, "", "bool[B, 1, 1, T]", NULL, LENGTHS);
    attend(2, 1, 32, 32, "", "i32[B, 1, 1, T]", NULL, LENGTHS);
    attend(4, 2, 16, 16, ", causal", "bool[B, 4, S, T]", NULL, LENGTHS);
    attend(4, 2, 16, 16, "", "i64[S, T]", "f32[1, 4, 1, T]", LENGTHS);
    attend(4, 2, 16, 16, "", "bool[B, 1, S, 1]", "f32[4, S, T]", LENGTHS);
  }
}
END_TEST

static void none(const char *name, tn_dtype dt, void *data, int64_t n) {
  (void)name;
  if (dt == TN_DT_bool) memset(data, 0, (size_t)n / 2);
}
START_TEST(all_masked) {
  cpu_case c = {.text = "module @m { dims S, T\n func @f(%q: f32[2, S, 2, 8], %k: f32[2, T, 2, 8], %v: "
                        "f32[2, T, 2, 8], %m: bool[2, 1, 1, T]) -> f32[2, S, 2, 8] {\n"
                        " %r = attention %q, %k, %v, %m {scale = 0x1p-2}\n return %r } }",
                .dims = {{"S", 20}, {"T", 70}},
                .fill = none};
  cpu_check(&c);
}
END_TEST

START_TEST(merged) {
  for (int64_t s = 1; s < 140; s += 46) {
    cpu_case c = {.text =
                      "module @m { dims B, S\n func @f(%x: f32[B, S, 96], %m: i32[B, S], %y: f32[B, S, 2, "
                      "16]) -> f32[B, S, 2, 16] {\n"
                      " %q, %k, %v = split %x {axis = 2, sizes = [32, 32, 32]}\n %q4 = reshape %q {shape = "
                      "[B, S, 2, 16]}\n %k4 = reshape %k {shape = [B, S, 2, 16]}\n"
                      " %v4 = reshape %v {shape = [B, S, 2, 16]}\n %m4 = reshape %m {shape = [B, 1, 1, S]}\n "
                      "%r = attention %q4, %k4, %v4, %m4 {scale = 0x1p-2}\n %z = add %r, %y\n return %z } }",
                  .dims = {{"B", 2}, {"S", s}},
                  .int_hi = 2};
    cpu_check(&c);
  }
}
END_TEST

START_TEST(states) {
  static const char *const types[] = {"f32", "f16", "bf16"};
  static const int64_t steps[][2] = {{1, 0}, {1, 63}, {1, 64}, {5, 0}, {7, 60}, {100, 3}};
  for (size_t t = 0; t < TN_COUNT(types); t++)
    for (size_t i = 0; i < TN_COUNT(steps); i++) {
      const char *e = types[t];
      cpu_case c = {
          .text = cpu_text(
              "module @m { dims B, S, P, C where P + S <= C\n state @k : %s[B, C, 2, 24]\n state @v : %s[B, "
              "C, 2, 24]\n"
              " func @f(%%q: f32[B, S, 4, 24], %%x: %s[B, S, 2, 24], %%y: %s[B, S, 2, 24]) -> f32[B, S, 4, "
              "24] {\n"
              " %%k1 = kv_update @k, %%x {pos = P}\n %%v1 = kv_update @v, %%y {pos = P}\n"
              " %%r = attention %%q, %%k1, %%v1 {scale = 0x1p-2, causal, keys = P + S}\n return %%r } }",
              e, e, e, e),
          .dims = {{"B", 2}, {"S", steps[i][0]}, {"P", steps[i][1]}, {"C", 128}}};
      cpu_check(&c);
    }
}
END_TEST

CPU_TESTS("cpu attention", plain, causal, masks, all_masked, merged, states)
