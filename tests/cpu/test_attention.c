/* test_attention.c - attention and states: heads, groups, masks, windows, key counts around the block of
 * keys. */
#include "tests/kernels/case.h"
#include <math.h>
#include <stdio.h>

static void attend(int heads, int kv, int d, int dv, const char *attrs, const char *mask, const char *bias,
                   int64_t s, int64_t t) {
  char more[200] = "", args[100] = "";
  if (mask) snprintf(more, sizeof more, ", %%m: %s", mask);
  if (bias) snprintf(more + strlen(more), sizeof more - strlen(more), ", %%b: %s", bias);
  if (mask) snprintf(args, sizeof args, ", %%m%s", bias ? ", %b" : "");
  tn_case c = {.text =
                   kernel_text("module @m { dims B, S, T\n func @f(%%q: f32[B, S, %d, %d], %%k: f32[B, T, "
                               "%d, %d], %%v: f32[B, T, %d, %d]%s) -> f32[B, S, %d, %d] {\n"
                               " %%r = attention %%q, %%k, %%v%s {scale = 0x1p-2%s}\n return %%r } }",
                               heads, d, kv, d, kv, dv, more, heads, dv, args, attrs),
               .dims = {{"B", 2}, {"S", s}, {"T", t}},
               .pipeline = "partition, fuse"};
  c.int_hi = 2;
  kernel_check(&c);
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
  tn_case c = {.text = "module @m { dims S, T\n func @f(%q: f32[2, S, 2, 8], %k: f32[2, T, 2, 8], %v: "
                       "f32[2, T, 2, 8], %m: bool[2, 1, 1, T]) -> f32[2, S, 2, 8] {\n"
                       " %r = attention %q, %k, %v, %m {scale = 0x1p-2}\n return %r } }",
               .dims = {{"S", 20}, {"T", 70}},
               .fill = none};
  kernel_check(&c);
}
END_TEST

START_TEST(merged) {
  for (int64_t s = 1; s < 140; s += 46) {
    tn_case c = {.text =
                     "module @m { dims B, S\n func @f(%x: f32[B, S, 96], %m: i32[B, S], %y: f32[B, S, 2, "
                     "16]) -> f32[B, S, 2, 16] {\n"
                     " %q, %k, %v = split %x {axis = 2, sizes = [32, 32, 32]}\n %q4 = reshape %q {shape = "
                     "[B, S, 2, 16]}\n %k4 = reshape %k {shape = [B, S, 2, 16]}\n"
                     " %v4 = reshape %v {shape = [B, S, 2, 16]}\n %m4 = reshape %m {shape = [B, 1, 1, S]}\n "
                     "%r = attention %q4, %k4, %v4, %m4 {scale = 0x1p-2}\n %z = add %r, %y\n return %z } }",
                 .dims = {{"B", 2}, {"S", s}},
                 .int_hi = 2};
    kernel_check(&c);
  }
}
END_TEST

START_TEST(states) {
  static const char *const types[] = {"f32", "f16", "bf16"};
  static const int64_t steps[][2] = {{1, 0}, {1, 63}, {1, 64}, {5, 0}, {7, 60}, {100, 3}};
  for (size_t t = 0; t < TN_COUNT(types); t++)
    for (size_t i = 0; i < TN_COUNT(steps); i++) {
      const char *e = types[t];
      tn_case c = {
          .text = kernel_text(
              "module @m { dims B, S, P, C where P + S <= C\n state @k : %s[B, C, 2, 24]\n state @v : %s[B, "
              "C, 2, 24]\n"
              " func @f(%%q: f32[B, S, 4, 24], %%x: %s[B, S, 2, 24], %%y: %s[B, S, 2, 24]) -> f32[B, S, 4, "
              "24] {\n"
              " %%k1 = kv_update @k, %%x {pos = P}\n %%v1 = kv_update @v, %%y {pos = P}\n"
              " %%r = attention %%q, %%k1, %%v1 {scale = 0x1p-2, causal, keys = P + S}\n return %%r } }",
              e, e, e, e),
          .dims = {{"B", 2}, {"S", steps[i][0]}, {"P", steps[i][1]}, {"C", 128}}};
      kernel_check(&c);
    }
}
END_TEST

/* Sizes of heads that families have, and no multiples of a vector. */
START_TEST(head_sizes) {
  static const int sizes[] = {20, 64, 80, 96, 128, 256, 576};
  for (size_t i = 0; i < TN_COUNT(sizes); i++) {
    attend(2, 1, sizes[i], sizes[i], ", causal", NULL, NULL, 1, 70);
    attend(2, 1, sizes[i], sizes[i], ", causal", NULL, NULL, 19, 40);
  }
  attend(4, 1, 192, 128, ", causal", NULL, NULL, 5, 65);
}
END_TEST

/* Windows that end at, before and behind a block of keys, in both directions. */
START_TEST(windows) {
  static const int64_t sizes[] = {1, 16, 64, 65};
  for (size_t w = 0; w < TN_COUNT(sizes); w++) EACH_LENGTH {
      attend(2, 1, 16, 16, kernel_text(", window = %d", (int)sizes[w]), NULL, NULL, LENGTHS);
      attend(2, 1, 16, 16, kernel_text(", causal, window = %d", (int)sizes[w]), NULL, NULL, LENGTHS);
    }
}
END_TEST

/* The sequences of a batch begin at different keys; in one of them all keys may be padding. */
START_TEST(first) {
  EACH_LENGTH for (int64_t most = 1; most < 140; most += 46) {
    tn_case c = {.text = "module @m { dims B, S, T\n func @f(%q: f32[B, S, 4, 20], %k: f32[B, T, 2, 20], %v: "
                         "f32[B, T, 2, 20], %p: i32[B]) -> f32[B, S, 4, 20] {\n"
                         " %r = attention %q, %k, %v, _, _, %p {scale = 0x1p-2, causal}\n return %r } }",
                 .dims = {{"B", 3}, {"S", lengths[i][0]}, {"T", lengths[i][1]}},
                 .int_hi = most};
    kernel_check(&c);
  }
}
END_TEST

/* Rings: before they are full, when they just are, far behind; smaller than a block of keys and larger.
 * Packed states begin as any bits, with values up to 127, so their scores are scaled down. */
START_TEST(rings) {
  static const char *const types[] = {"f32", "bf16", "q8_0"};
  static const int64_t steps[][3] = {{1, 0, 9},     {4, 3, 9},     {1, 9, 9},      {5, 4, 9},
                                     {9, 9, 9},     {3, 1000, 9},  {1, 99, 100},   {1, 100, 100},
                                     {30, 90, 100}, {1, 777, 100}, {100, 950, 100}};
  for (size_t t = 0; t < TN_COUNT(types); t++)
    for (size_t i = 0; i < TN_COUNT(steps); i++)
      for (int w = 0; w < 3; w++) {
        const char *e = types[t], *window[] = {"", ", window = 4", ", window = 70"};
        tn_case c = {
            .text = kernel_text(
                "module @m { dims B, S, P, R\n state @k : %s[B, R, 2, 32]\n state @v : %s[B, R, 2, 32]\n"
                " func @f(%%q: f32[B, S, 4, 32], %%x: f32[B, S, 2, 32], %%y: f32[B, S, 2, 32], %%p: "
                "i32[B]) -> f32[B, S, 4, 32] {\n"
                " %%k1 = kv_update @k, %%x {pos = P, ring}\n %%v1 = kv_update @v, %%y {pos = P, ring}\n"
                " %%r = attention %%q, %%k1, %%v1%s {scale = %s, causal, keys = P + S, ring%s}\n "
                "return %%r } }",
                e, e, w == 1 ? ", _, _, %p" : "", t == 2 ? "0x1p-9" : "0x1p-3", window[w]),
            .dims = {{"B", 2}, {"S", steps[i][0]}, {"P", steps[i][1]}, {"R", steps[i][2]}},
            .int_hi = 120};
        kernel_check(&c);
      }
}
END_TEST

/* Caches of another type than what goes in; keys that are values too. */
START_TEST(caches) {
  static const char *const types[] = {"f16", "bf16", "q8_0"};
  static const int64_t steps[][2] = {{1, 0}, {1, 63}, {1, 64}, {5, 0}, {100, 3}};
  for (size_t t = 0; t < TN_COUNT(types); t++)
    for (size_t i = 0; i < TN_COUNT(steps); i++)
      for (int heads = 1; heads < 3; heads++) {
        tn_case c = {
            .text = kernel_text(
                "module @m { dims B, S, P, C where P + S <= C\n state @k : %s[B, C, %d, 96]\n"
                " func @f(%%q: f32[B, S, 4, 96], %%x: f32[B, S, %d, 96]) -> f32[B, S, 4, 96] {\n"
                " %%k1 = kv_update @k, %%x {pos = P}\n"
                " %%r = attention %%q, %%k1, %%k1 {scale = %s, causal, keys = P + S}\n return %%r } }",
                types[t], heads, heads, t == 2 ? "0x1p-10" : "0x1p-3"),
            .dims = {{"B", 2}, {"S", steps[i][0]}, {"P", steps[i][1]}, {"C", 128}}};
        kernel_check(&c);
      }
}
END_TEST

/* ALiBi is computed where it is added: heads that are powers of two, and others. */
START_TEST(alibi) {
  static const int heads[] = {4, 6, 16};
  for (size_t h = 0; h < TN_COUNT(heads); h++) EACH_LENGTH {
      int n = heads[h];
      tn_case c = {.text = kernel_text(
                       "module @m { dims B, S, T\n func @f(%%q: f32[B, S, %d, 20], %%k: f32[B, T, %d, "
                       "20], %%v: f32[B, T, %d, 20]) -> f32[B, S, %d, 20] {\n"
                       " %%a = alibi {heads = %d, k = T}\n"
                       " %%r = attention %%q, %%k, %%v, _, %%a {scale = 0x1p-2, causal}\n return %%r } }",
                       n, n, n, n, n),
                   .dims = {{"B", 2}, {"S", lengths[i][0]}, {"T", lengths[i][1]}},
                   .atol = 5e-5, /* scores of hundreds */
                   .rtol = 1e-4};
      kernel_check(&c);
    }
}
END_TEST

/* Positions far out; the sines and cosines of the reference are those of double precision. */
static void far_out(const char *name, tn_dtype dt, void *data, int64_t n) {
  static const int32_t positions[] = {0, 4095, 4096, 32767, 131071};
  (void)dt;
  if (!strcmp(name, "p")) memcpy(data, positions, (size_t)n * sizeof *positions);
  for (int64_t i = 0; !strcmp(name, "f") && i < n; i++)
    ((float *)data)[i] = powf(500000, -(float)i / (float)n);
}
START_TEST(rope_far_out) {
  static const char *const attrs[] = {"", " {interleaved}", " {factor = 0x1.4p0}"};
  static const int turned[] = {32, 40, 64}; /* of 80 features */
  for (size_t a = 0; a < TN_COUNT(attrs); a++)
    for (size_t t = 0; t < TN_COUNT(turned); t++) {
      tn_case c = {.text =
                       kernel_text("module @m { dims B\n func @f(%%x: f32[B, 5, 3, 80], %%p: i32[5], %%f: "
                                   "f32[%d]) -> f32[B, 5, 3, 80] {\n"
                                   " %%r = rope %%x, %%p, %%f%s\n return %%r } }",
                                   turned[t] / 2, attrs[a]),
                   .dims = {{"B", 2}},
                   .lo = -1,
                   .hi = 1,
                   .atol = 3e-7,
                   .rtol = 1e-9,
                   .fill = far_out};
      kernel_check(&c);
    }
}
END_TEST

KERNEL_TESTS("attention", plain, causal, masks, all_masked, merged, states, head_sizes, windows, first, rings,
             caches, rope_far_out, alibi)
