/* test_attention_half.c - attention over many queries of 16-bit floats, which may go through tensor cores:
 * sizes of heads, groups, masks, windows, caches that are rings; and what precision fast makes of other
 * types. */
#include "tests/kernels/case.h"
#include <stdio.h>

typedef struct shape {
  const char *type, *attrs, *more, *args; /* more, args: of masks, as parameters and as operands */
  int heads, kv, d, dv;
  int64_t s, t;
} shape;

static void attend(const shape *x) {
  tn_case c = {.text = kernel_text("module @m { dims B, S, T\n func @f(%%q: %s[B, S, %d, %d], %%k: %s[B, "
                                   "T, %d, %d], %%v: %s[B, T, %d, "
                                   "%d]%s) -> %s[B, S, %d, %d] {\n %%r = attention %%q, %%k, %%v%s "
                                   "{scale = 0x1p-3%s}\n return %%r } }",
                                   x->type, x->heads, x->d, x->type, x->kv, x->d, x->type, x->kv, x->dv,
                                   x->more, x->type, x->heads, x->dv, x->args, x->attrs),
               .dims = {{"B", 2}, {"S", x->s}, {"T", x->t}},
               .int_hi = 2,
               .nmse = 2e-5,
               .pipeline = "partition, fuse"};
  kernel_check(&c);
}

START_TEST(heads) {
  static const int sizes[][4] = {{2, 1, 64, 64},   {1, 1, 80, 80},   {3, 1, 96, 96},   {8, 2, 128, 128},
                                 {1, 1, 192, 128}, {2, 2, 256, 256}, {2, 1, 20, 36},   {3, 3, 16, 8},
                                 {1, 1, 33, 17},   {2, 1, 112, 144}, {5, 1, 128, 128}, {2, 2, 8, 8}};
  static const char *const types[] = {"bf16", "f16"};
  for (size_t i = 0; i < TN_COUNT(sizes); i++)
    attend(&(shape){types[i % 2], ", causal", "", "", sizes[i][0], sizes[i][1], sizes[i][2], sizes[i][3], 19,
                    70});
}
END_TEST
START_TEST(lengths) {
  static const int64_t each[][2] = {{1, 1},   {3, 2},     {0, 5},   {5, 0},     {17, 33},   {64, 64},
                                    {65, 65}, {128, 128}, {40, 31}, {129, 129}, {130, 257}, {200, 200}};
  for (size_t i = 0; i < TN_COUNT(each); i++) {
    attend(&(shape){"bf16", ", causal", "", "", 2, 2, 64, 64, each[i][0], each[i][1]});
    attend(&(shape){"f16", "", "", "", 3, 1, 32, 32, each[i][0], each[i][1]});
    attend(&(shape){"bf16", ", causal", "", "", 4, 1, 128, 128, each[i][0], each[i][1]});
  }
}
END_TEST
/* Many queries: tiles of 128 queries and 128 keys of one head, and what is left of them. */
START_TEST(tiles) {
  static const int each[][5] = {{65, 1, 1, 1, 64},    {66, 300, 4, 1, 128}, {128, 129, 8, 1, 64},
                                {127, 384, 8, 8, 64}, {257, 129, 4, 4, 64}, {200, 513, 3, 1, 128},
                                {385, 385, 2, 2, 64}, {300, 90, 5, 1, 128}};
  for (size_t i = 0; i < 2 * TN_COUNT(each); i++) {
    const int *x = each[i / 2];
    attend(&(shape){i / 2 % 2 ? "f16" : "bf16", i % 2 ? ", causal" : "", "", "", x[2], x[3], x[4], x[4], x[0],
                    x[1]});
  }
}
END_TEST

/* Behind a cache that has room for more keys; results go on to other ops, and to another type. */
START_TEST(followed) {
  static const int64_t steps[][3] = {{70, 0, 300}, {130, 140, 270}, {128, 128, 512}};
  for (size_t i = 0; i < TN_COUNT(steps); i++)
    for (int d = 64; d <= 128; d *= 2) {
      tn_case c = {.text =
                       kernel_text("module @m { dims B, S, P, R\n state @k : bf16[B, R, 2, %d]\n state @v : "
                                   "bf16[B, R, 2, %d]\n func "
                                   "@f(%%q: bf16[B, S, 4, %d], %%x: bf16[B, S, 2, %d], %%y: bf16[B, S, 2, "
                                   "%d], %%z: f32[B, S, 4, %d]) "
                                   "-> f32[B, S, 4, %d] {\n %%k1 = kv_update @k, %%x {pos = P}\n %%v1 = "
                                   "kv_update @v, %%y {pos = P}\n"
                                   " %%r = attention %%q, %%k1, %%v1 {scale = 0x1p-3, causal, keys = P + S}\n"
                                   " %%c = cast %%r {to = f32}\n %%o = add %%c, %%z\n return %%o } }",
                                   d, d, d, d, d, d, d),
                   .dims = {{"B", 2}, {"S", steps[i][0]}, {"P", steps[i][1]}, {"R", steps[i][2]}},
                   .nmse = 2e-5,
                   .pipeline = "partition, fuse"};
      kernel_check(&c);
    }
}
END_TEST
START_TEST(windows) {
  static const int sizes[] = {1, 32, 33, 100};
  for (size_t i = 0; i < TN_COUNT(sizes); i++) {
    const char *one = kernel_text(", window = %d", sizes[i]),
               *both = kernel_text(", causal, window = %d", sizes[i]);
    attend(&(shape){"bf16", one, "", "", 2, 1, 64, 64, 130, 200});
    attend(&(shape){"f16", both, "", "", 4, 2, 128, 128, 130, 150});
    attend(&(shape){"bf16", both, "", "", 2, 2, 256, 256, 33, 150});
  }
}
END_TEST
START_TEST(masks) {
  static const char *const each[][3] = {
      {"", ", %m: bool[B, 1, 1, T]", ", %m"},
      {", causal", ", %m: i64[S, T]", ", %m"},
      {"", ", %b: f32[4, S, T]", ", _, %b"},
      {", causal", ", %m: bool[B, 4, S, T], %b: bf16[1, 4, 1, T]", ", %m, %b"},
      {", softcap = 0x1.8p1", "", ""},
      {", causal", ", %p: i32[B]", ", _, _, %p"}};
  for (size_t i = 0; i < TN_COUNT(each); i++)
    for (int d = 64; d <= 256; d *= 2)
      attend(&(shape){i % 2 ? "f16" : "bf16", each[i][0], each[i][1], each[i][2], 4, 2, d, d, 37, 90});
}
END_TEST

/* Pieces of one product, turned in halves. */
START_TEST(pieces) {
  static const int sizes[] = {64, 20};
  for (size_t i = 0; i < TN_COUNT(sizes); i++) {
    int d = sizes[i], n = 2 * d;
    tn_case c = {
        .text = kernel_text(
            "module @m { dims B, S\n func @f(%%x: bf16[B, S, %d], %%y: bf16[B, S, 2, %d]) -> bf16[B, S, 2, "
            "%d] "
            "{\n %%q, %%k, %%v = split %%x {axis = 2, sizes = [%d, %d, %d]}\n %%q4 = reshape %%q {shape = "
            "[B, "
            "S, 2, %d]}\n %%k4 = reshape %%k {shape = [B, S, 2, %d]}\n %%v4 = reshape %%v {shape = [B, S, 2, "
            "%d]}\n %%r = attention %%q4, %%k4, %%v4 {scale = 0x1p-3}\n %%z = add %%r, %%y\n return %%z } }",
            3 * n, d, d, n, n, n, d, d, d),
        .dims = {{"B", 2}, {"S", 75}},
        .nmse = 2e-5};
    kernel_check(&c);
  }
}
END_TEST

/* Rings and caches of every type; some are rounded on the way. */
START_TEST(caches) {
  static const char *const types[] = {"f32", "f16", "bf16", "q8_0"};
  static const int64_t steps[][3] = {{20, 0, 100}, {33, 90, 100}, {100, 950, 100}};
  for (size_t t = 0; t < TN_COUNT(types); t++)
    for (size_t i = 0; i < TN_COUNT(steps); i++)
      for (int d = 32; d <= 128; d *= 4) {
        const char *e = types[t];
        tn_case c = {
            .text = kernel_text(
                "module @m { dims B, S, P, R\n state @k : %s[B, R, 2, %d]\n state @v : %s[B, R, 2, %d]\n "
                "func "
                "@f(%%q: bf16[B, S, 4, %d], %%x: bf16[B, S, 2, %d], %%y: bf16[B, S, 2, %d]) -> bf16[B, S, 4, "
                "%d] {\n %%k1 = kv_update @k, %%x {pos = P, ring}\n %%v1 = kv_update @v, %%y {pos = P, "
                "ring}\n"
                " %%r = attention %%q, %%k1, %%v1 {scale = %s, causal, keys = P + S, ring, window = 80}\n "
                "return %%r } }",
                e, d, e, d, d, d, d, d, t == 3 ? "0x1p-9" : "0x1p-3"),
            .dims = {{"B", 2}, {"S", steps[i][0]}, {"P", steps[i][1]}, {"R", steps[i][2]}},
            .nmse = 2e-4,
            .precision = "fast",
            .pipeline = "partition, fuse"};
        kernel_check(&c);
      }
}
END_TEST

KERNEL_TESTS("attention in 16 bits", heads, lengths, tiles, followed, windows, masks, pieces, caches)
