/* test_int_amx.c - products with 8-bit weights without scales in a row, at precision "fast": panels that byte
 * instructions read where they lie, on `amx` in tile registers (where the machine has none, under the
 * emulator of tests/amx). The reference gets rows that plain C has rounded by the documented rule
 * (backends/cpu/matmul/rows_int.h), in runs as long as the weight's depth lets them be, so nothing but the
 * order of sums may differ. */
#include "tests/kernels/case.h"
#include <math.h>

#define CLOSE 1e-11 /* of the error's energy: rows kept as bf16, or other runs, would be far above it */

static int64_t block;  /* values of a run */
static bool reference; /* the world being filled is the reference's: the first of a case */

/* A run to 8-bit integers times a scale, and back. */
static void round_run(float *x) {
  float amax = 0;
  for (int64_t i = 0; i < block; i++) amax = fmaxf(amax, fabsf(x[i]));
  float d = amax / 127.0f, by = amax > 0x1p-100f ? 127.0f / amax : 0;
  for (int64_t i = 0; i < block; i++) x[i] = d * (fmaf(x[i], by, 12582912.0f) - 12582912.0f);
}
static void fill(const char *name, tn_dtype dt, void *data, int64_t count) {
  float *x = data;
  if (dt != TN_DT_f32 || strcmp(name, "x") != 0) return;
  for (int64_t i = 0; i < count; i += block) {
    if (i / block % 7 == 3) memset(x + i, 0, (size_t)block * sizeof *x); /* a run of zeros */
    if (i / block % 7 == 5) x[i + 9] = 40;                               /* one value far from the others */
    if (reference) round_run(x + i);
  }
  reference = false;
}

static void check(tn_case *c, int64_t run) {
  static const char *const targets[] = {"avx2", "avx512vnni", "amx"};
  block = run;
  c->precision = "fast";
  c->pipeline = "partition, fuse";
  c->fill = fill;
  for (size_t i = 0; i < TN_COUNT(targets); i++) {
    c->target = targets[i];
    reference = true;
    kernel_check(c);
  }
}

typedef struct shape {
  int64_t rows;
  int n, k, run;
} shape;
static void product(shape s) {
  tn_case c = {
      .text = kernel_text("module @m { dims S\n weight @w : s8_row[%d, %d]\n func @f(%%x: f32[S, %d]) -> "
                          "f32[S, %d] {\n %%r = matmul %%x, @w {trans_b}\n return %%r } }",
                          s.n, s.k, s.k, s.n),
      .dims = {{"S", s.rows}},
      .nmse = CLOSE};
  check(&c, s.run);
}

/* Rows around one tile and two, columns around one panel and two; runs of every length, one and several, in
 * one chunk of k and in more. */
START_TEST(edges) {
  static const int64_t rows[] = {9, 15, 16, 17, 31, 32, 33, 49};
  static const int columns[] = {1, 16, 17, 32, 33};
  static const int depths[][2] = {{128, 128}, {256, 256}, {384, 384}, {512, 512},
                                  {640, 128}, {768, 384}, {1280, 256}};
  for (size_t r = 0; r < TN_COUNT(rows); r++)
    for (size_t i = r % 2; i < TN_COUNT(depths); i += 2)
      product((shape){rows[r], columns[(r + i) % TN_COUNT(columns)], depths[i][0], depths[i][1]});
}
END_TEST

/* More rows than a unit has, several chunks of k the last of which is short, several groups of panels. */
START_TEST(units) {
  product((shape){530, 20, 1152, 384});
  product((shape){70, 100, 2560, 512});
}
END_TEST

/* Few rows, which are not rounded in such runs, or not at all. */
START_TEST(few) {
  static const char *const targets[] = {"avx2", "avx512vnni", "amx"};
  for (size_t i = 0; i < TN_COUNT(targets); i++)
    for (int64_t rows = 1; rows <= 8; rows += 7) {
      tn_case c = {
          .text = "module @m { dims S\n weight @w : s8_row[40, 256]\n func @f(%x: f32[S, 256]) -> f32[S, 40] "
                  "{\n %r = matmul %x, @w {trans_b}\n return %r } }",
          .dims = {{"S", rows}},
          .precision = "fast",
          .target = targets[i],
          .pipeline = "partition, fuse",
          .nmse = 1e-4};
      kernel_check(&c);
    }
}
END_TEST

/* What W8A8 models have: batches of rows, a scale of each column, a bias, an activation, in one kernel. */
START_TEST(fused) {
  tn_case c = {
      .text = "module @m { dims B, S\n weight @w : s8_row[40, 256]\n weight @s : f32[40]\n weight @b : "
              "f32[40]\n func @f(%x: f32[B, S, 256]) -> f32[B, S, 40] {\n %0 = matmul %x, @w {trans_b}\n "
              "%1 = mul %0, @s\n %2 = add %1, @b\n %3 = silu %2\n return %3 } }",
      .dims = {{"B", 3}, {"S", 13}},
      .nmse = 1e-9,
      .kernels = 1};
  check(&c, 256);
}
END_TEST

/* Gate and up of one product: columns c and n + c. */
START_TEST(pairs) {
  tn_case c = {
      .text = "module @m { dims S\n weight @w : s8_row[96, 384]\n func @f(%x: f32[S, 384]) -> f32[S, 48] "
              "{\n %0 = matmul %x, @w {trans_b}\n %1, %2 = split %0 {axis = 1, sizes = [48, 48]}\n "
              "%3 = silu %1\n %4 = mul %3, %2\n return %4 } }",
      .dims = {{"S", 37}},
      .nmse = 1e-9};
  check(&c, 384);
}
END_TEST

KERNEL_TESTS("bytes in tiles", edges, units, few, fused, pairs)
