/* test_attention_amx.c - attention at precision fast on the target `amx`, whose products are made in tile
 * registers: rows around one tile and two, keys around a step and a block of keys, sizes of heads that are no
 * whole steps, and all that may hide keys. Where the machine has no tiles, under the emulator of tests/amx.
 */
#include "tests/kernels/case.h"
#include <stdio.h>

#define NMSE 1e-4 /* of the error's energy: queries, keys, values and weights each have 2^-9 of it */

typedef struct shape {
  int heads, kv, d, dv;
  int64_t s, t;
  const char *attrs, *more, *args; /* more, args: of masks, as parameters and as operands */
} shape;

static void attend(const shape *x) {
  tn_case c = {.text = kernel_text("module @m { dims B, S, T\n func @f(%%q: f32[B, S, %d, %d], %%k: f32[B, "
                                   "T, %d, %d], %%v: bf16[B, T, %d, %d]%s) -> f32[B, S, %d, %d] {\n %%r = "
                                   "attention %%q, %%k, %%v%s {scale = 0x1p-3%s}\n return %%r } }",
                                   x->heads, x->d, x->kv, x->d, x->kv, x->dv, x->more ? x->more : "",
                                   x->heads, x->dv, x->args ? x->args : "", x->attrs ? x->attrs : ""),
               .dims = {{"B", 2}, {"S", x->s}, {"T", x->t}},
               .int_hi = 2,
               .precision = "fast",
               .target = "amx",
               .nmse = NMSE,
               .pipeline = "partition, fuse"};
  kernel_check(&c);
}

/* What is left of a step of 32 features, of queries and of values. */
START_TEST(heads) {
  static const int sizes[][4] = {{2, 1, 64, 64},  {1, 1, 80, 80},   {3, 1, 96, 96},   {4, 2, 128, 128},
                                 {2, 2, 32, 32},  {1, 1, 192, 128}, {1, 1, 256, 256}, {1, 1, 320, 300},
                                 {2, 1, 20, 36},  {3, 3, 16, 8},    {1, 1, 33, 17},   {2, 1, 112, 144},
                                 {1, 1, 49, 113}, {2, 2, 1, 1}};
  for (size_t i = 0; i < TN_COUNT(sizes); i++) {
    const int *x = sizes[i];
    attend(&(shape){x[0], x[1], x[2], x[3], 19, 70, i % 2 ? ", causal" : NULL, NULL, NULL});
    attend(&(shape){x[0], x[1], x[2], x[3], 45, 41, NULL, NULL, NULL});
  }
}
END_TEST

/* The second of a tile's two tiles of rows is there or not, and full or not; a block has 256 keys, of wide
 * heads fewer; a unit 256 rows, whose last block also hides keys. */
START_TEST(lengths) {
  static const int64_t queries[] = {7, 15, 16, 17, 31, 32, 33, 48, 65},
                       keys[] = {1, 16, 17, 31, 32, 33, 256, 257, 300};
  for (size_t i = 0; i < TN_COUNT(queries); i++)
    for (size_t j = i % 3; j < TN_COUNT(keys); j += 3) {
      attend(&(shape){3, 1, 64, 64, queries[i], keys[j], ", causal", NULL, NULL});
      attend(&(shape){2, 2, 40, 40, queries[i], keys[j], NULL, NULL, NULL});
    }
  attend(&(shape){2, 2, 32, 32, 0, 40, NULL, NULL, NULL});
  attend(&(shape){2, 2, 32, 32, 40, 0, NULL, NULL, NULL});
  attend(&(shape){1, 1, 64, 64, 300, 300, ", causal", NULL, NULL});
  attend(&(shape){4, 2, 32, 32, 140, 290, ", causal", NULL, NULL});
  attend(&(shape){1, 1, 256, 256, 150, 140, NULL, NULL, NULL});
}
END_TEST

START_TEST(windows) {
  static const int sizes[] = {1, 32, 33, 100};
  for (size_t i = 0; i < TN_COUNT(sizes); i++) {
    const char *one = kernel_text(", window = %d", sizes[i]),
               *both = kernel_text(", causal, window = %d", sizes[i]);
    attend(&(shape){2, 1, 64, 64, 70, 300, one, NULL, NULL});
    attend(&(shape){2, 1, 80, 80, 130, 290, both, NULL, NULL});
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
  for (size_t i = 0; i < TN_COUNT(each); i++) {
    attend(&(shape){4, 2, 64, 64, 37, 90, each[i][0], each[i][1], each[i][2]});
    attend(&(shape){4, 2, 20, 50, 33, 270, each[i][0], each[i][1], each[i][2]});
  }
}
END_TEST

/* Rows that see nothing are 0, though others of their tile see keys. */
static void some(const char *name, tn_dtype dt, void *data, int64_t n) {
  (void)name;
  if (dt != TN_DT_bool) return;
  for (int64_t i = 0; i < n; i++) ((bool *)data)[i] = i / 70 % 3 == 1;
}
START_TEST(all_masked) {
  tn_case c = {.text =
                   "module @m { dims S\n func @f(%q: f32[1, S, 1, 48], %k: f32[1, 70, 1, 48], %v: f32[1, 70, "
                   "1, 48], %m: bool[1, 1, S, 70]) -> f32[1, S, 1, 48] {\n %r = attention %q, %k, %v, %m "
                   "{scale = 0x1p-2}\n return %r } }",
               .dims = {{"S", 40}},
               .precision = "fast",
               .target = "amx",
               .nmse = NMSE,
               .fill = some};
  kernel_check(&c);
}
END_TEST

KERNEL_TESTS("attention in tiles", heads, lengths, windows, masks, all_masked)
