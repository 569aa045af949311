/* test_encode.c - the encoders: their error against other encoders' (encode/errors.txt, make_encode.py), the
 * same bytes from every build, rows alone as among others, numbers at the limits, refusals. */
#include "ir/base/base.h"
#include "ir/quant/encode.h"
#include "ir/quant/encode_isa.h"
#include <check.h>
#include <math.h>
#include <stdlib.h>

enum { ROWS = 8, COLUMNS = 1536, COUNT = ROWS * COLUMNS };

typedef struct samples {
  float x[3][COUNT], importance[3][COLUMNS];
} samples;

static char *data_path(tn_arena *a, const char *name) {
  return tn_arena_printf(a, "%s/tests/quant/encode/%s", TN_SOURCE_DIR, name);
}

static samples *samples_read(void) {
  tn_arena a;
  tn_file f;
  const char *why;
  tn_arena_init(&a);
  samples *s = malloc(sizeof *s);
  ck_assert(s && tn_file_map(&f, data_path(&a, "samples.bin"), &why) == TN_OK);
  ck_assert_uint_eq(f.size, 3 * COUNT * 2 + sizeof s->importance);
  for (uint32_t i = 0; i < 3 * COUNT; i++) {
    uint16_t h;
    memcpy(&h, f.data + 2 * i, 2);
    s->x[i / COUNT][i % COUNT] = tn_f16_to_f32(h);
  }
  memcpy(s->importance, f.data + 3 * COUNT * 2, sizeof s->importance);
  tn_file_unmap(&f);
  tn_arena_fini(&a);
  return s;
}

static tn_dtype type_named(const char *name) {
  for (uint32_t i = 0; i < tn_quant_count(); i++)
    if (!strcmp(tn_quant_of(TN_DT_BLOCK + i)->name, name)) return TN_DT_BLOCK + i;
  ck_abort_msg("there is no %s", name);
  return 0;
}

static void rebuild(const tn_quant *q, const uint8_t *blocks, uint64_t n, float *out) {
  for (uint64_t i = 0; i < n / q->values; i++) tn_quant_unpack(q, blocks + i * q->bytes, out + i * q->values);
}

static uint8_t *encoded(tn_dtype t, const float *x, uint64_t rows, uint64_t columns,
                        const float *importance) {
  uint8_t *out = malloc(rows * tn_encode_row_bytes(t, columns));
  ck_assert(out && tn_encode_rows(t, x, rows, columns, importance, out, NULL) == TN_OK);
  return out;
}

static double root_mean(const float *x, const float *got, const float *weight) {
  double sum = 0;
  for (int i = 0; i < COUNT; i++) {
    double d = (double)x[i] - (double)got[i];
    sum += d * d * (weight ? (double)weight[i % COLUMNS] : 1);
  }
  return sqrt(sum / COUNT);
}

/* No more than 1.02 times the error of the other encoder, plain and weighted. */
static void check_error(const samples *s, const char *name, int matrix, bool with, double rmse,
                        double weighted) {
  tn_dtype t = type_named(name);
  float *got = malloc(COUNT * sizeof *got);
  uint8_t *blocks = encoded(t, s->x[matrix], ROWS, COLUMNS, with ? s->importance[matrix] : NULL);
  ck_assert(got != NULL);
  rebuild(tn_quant_of(t), blocks, COUNT, got);
  double plain = root_mean(s->x[matrix], got, NULL),
         own = root_mean(s->x[matrix], got, s->importance[matrix]);
  ck_assert_msg(plain <= 1.02 * rmse, "%s, matrix %d%s: RMSE is %.6g, another encoder's %.6g", name, matrix,
                with ? " with importance" : "", plain, rmse);
  ck_assert_msg(!with || own <= 1.02 * weighted,
                "%s, matrix %d: weighted error is %.6g, another encoder's %.6g", name, matrix, own, weighted);
  free(blocks);
  free(got);
}

START_TEST(errors_are_small) {
  samples *s = samples_read();
  tn_arena a;
  tn_arena_init(&a);
  FILE *f = fopen(data_path(&a, "errors.txt"), "r");
  char name[32];
  int matrix, with, lines = 0;
  double rmse, weighted;
  ck_assert(f != NULL);
  for (; fscanf(f, "%31s %d %d %lf %lf", name, &matrix, &with, &rmse, &weighted) == 5; lines++) {
    ck_assert(matrix >= 0 && matrix < 3);
    check_error(s, name, matrix, with, rmse, weighted);
  }
  ck_assert_int_ge(lines, 240);
  fclose(f);
  tn_arena_fini(&a);
  free(s);
}
END_TEST

START_TEST(q8_0_is_as_everywhere) {
  samples *s = samples_read();
  tn_arena a;
  tn_file f;
  const char *why;
  tn_arena_init(&a);
  ck_assert(tn_file_map(&f, data_path(&a, "q8_0.bin"), &why) == TN_OK);
  uint8_t *blocks = encoded(type_named("q8_0"), s->x[0], ROWS, COLUMNS, NULL);
  ck_assert_uint_eq(f.size, ROWS * tn_encode_row_bytes(type_named("q8_0"), COLUMNS));
  ck_assert(!memcmp(blocks, f.data, f.size));
  free(blocks);
  tn_file_unmap(&f);
  tn_arena_fini(&a);
  free(s);
}
END_TEST

/* Every build on every format, on counts of blocks that fill vectors and that do not. */
START_TEST(builds_agree) {
  const tn_quant *q = tn_quant_of(TN_DT_BLOCK + (tn_dtype)_i);
  samples *s = samples_read();
  uint64_t bytes = COUNT / q->values * q->bytes;
  uint8_t *first = calloc(1, bytes), *other = calloc(1, bytes);
  ck_assert(first && other);
  for (int with = 0; with < 2; with++)
    for (uint64_t count = 1; count <= COUNT / q->values; count = count * 5 + 2) {
      tn_encode_job job = {q, s->x[2], with ? s->importance[2] : NULL, COLUMNS, 0, count, first};
      tn_encode_build(0, NULL)(&job);
      const char *name;
      tn_encode_fn fn;
      job.out = other;
      for (uint32_t i = 1; (fn = tn_encode_build(i, &name)); i++) {
        memset(other, 0, bytes);
        fn(&job);
        ck_assert_msg(!memcmp(first, other, count * q->bytes), "%s: %s differs from plain in %llu blocks",
                      q->name, name, (unsigned long long)count);
      }
    }
  free(first);
  free(other);
  free(s);
}
END_TEST

START_TEST(rows_are_independent) {
  tn_dtype t = TN_DT_BLOCK + (tn_dtype)_i;
  samples *s = samples_read();
  uint64_t row = tn_encode_row_bytes(t, COLUMNS);
  uint8_t *all = encoded(t, s->x[1], 3, COLUMNS, s->importance[1]);
  for (uint64_t r = 0; r < 3; r++) {
    uint8_t *one = encoded(t, s->x[1] + r * COLUMNS, 1, COLUMNS, s->importance[1]);
    ck_assert_msg(!memcmp(one, all + r * row, row), "%s: row %llu alone differs", tn_quant_of(t)->name,
                  (unsigned long long)r);
    free(one);
  }
  free(all);
  free(s);
}
END_TEST

/* Zeros stay zeros (as far as the format has one), nothing becomes infinite, and the relative error is what
 * the format has at any size that its scales reach. */
START_TEST(limits) {
  static const float sizes[] = {0, 1e-45f, 1e-30f, 1e-3f, 1, 3e4f, 1e20f, 1e38f};
  tn_dtype t = TN_DT_BLOCK + (tn_dtype)_i;
  const tn_quant *q = tn_quant_of(t);
  float x[512], got[512], weights[512] = {0};
  for (size_t k = 0; k < TN_COUNT(sizes); k++) {
    double error = 0, power = 0;
    for (int i = 0; i < 512; i++) x[i] = sizes[k] * ((float)(i * 37 % 101) / 50 - 1);
    uint8_t *blocks = encoded(t, x, 1, 512, k % 2 ? weights : NULL);
    rebuild(q, blocks, 512, got);
    for (int i = 0; i < 512; i++) {
      ck_assert_msg(isfinite(got[i]), "%s: %a became %a", q->name, (double)x[i], (double)got[i]);
      ck_assert_msg(k || got[i] == 0 || q->d == TN_QN_ONE || q->d == TN_QN_E8M0_HALF, "%s: 0 became %a",
                    q->name, (double)got[i]);
      error += pow((double)x[i] - (double)got[i], 2);
      power += pow((double)x[i], 2);
    }
    bool reached = sizes[k] == 1 && tn_encode_family_of(q) != TN_EF_ROUND;
    ck_assert_msg(!reached || error < 0.4 * power, "%s: error %g of %g", q->name, error, power);
    free(blocks);
  }
}
END_TEST

/* What other kinds of numbers become, against the conversions of single numbers. */
START_TEST(casts) {
  float x[64];
  uint8_t out[256];
  for (int i = 0; i < 64; i++) x[i] = ldexpf((float)(i * 29 % 64) - 31.7f, i % 24 - 12);
  ck_assert_int_eq(tn_encode_rows(TN_DT_f32, x, 2, 32, NULL, out, NULL), TN_OK);
  ck_assert(!memcmp(out, x, sizeof x));
  ck_assert_int_eq(tn_encode_rows(TN_DT_f16, x, 2, 32, NULL, out, NULL), TN_OK);
  for (int i = 0; i < 64; i++) ck_assert_uint_eq(out[2 * i] | out[2 * i + 1] << 8, tn_f32_to_f16(x[i]));
  ck_assert_int_eq(tn_encode_rows(TN_DT_bf16, x, 2, 32, NULL, out, NULL), TN_OK);
  for (int i = 0; i < 64; i++) ck_assert_uint_eq(out[2 * i] | out[2 * i + 1] << 8, tn_f32_to_bf16(x[i]));
  ck_assert_int_eq(tn_encode_rows(TN_DT_f8e4m3, x, 2, 32, NULL, out, NULL), TN_OK);
  for (int i = 0; i < 64; i++) ck_assert_uint_eq(out[i], tn_f32_to_f8e4m3(x[i]));
  ck_assert_int_eq(tn_encode_rows(TN_DT_f8e5m2, x, 2, 32, NULL, out, NULL), TN_OK);
  for (int i = 0; i < 64; i++) ck_assert_uint_eq(out[i], tn_f32_to_f8e5m2(x[i]));
}
END_TEST

START_TEST(refusals) {
  float x[512] = {0};
  uint8_t out[2048];
  uint64_t bad = 0;
  tn_dtype q4_k = type_named("q4_k");
  ck_assert(tn_encode_can(q4_k) && tn_encode_can(TN_DT_bf16) && !tn_encode_can(TN_DT_i32));
  ck_assert(!tn_encode_can(TN_DT_BLOCK + tn_quant_count()));
  ck_assert(tn_encode_wants_importance(type_named("iq2_xxs")) && !tn_encode_wants_importance(q4_k));
  ck_assert_uint_eq(tn_encode_row_bytes(q4_k, 512), 288);
  ck_assert_uint_eq(tn_encode_row_bytes(q4_k, 300), 0);
  ck_assert_uint_eq(tn_encode_row_bytes(TN_DT_f32, UINT64_MAX / 2), 0);
  ck_assert_int_eq(tn_encode_rows(q4_k, x, 1, 300, NULL, out, NULL), TN_UNSUPPORTED);
  ck_assert_int_eq(tn_encode_rows(TN_DT_i32, x, 1, 256, NULL, out, NULL), TN_UNSUPPORTED);
  ck_assert_int_eq(tn_encode_rows(q4_k, x, 0, 512, NULL, out, NULL), TN_OK);
  x[301] = NAN;
  ck_assert_int_eq(tn_encode_rows(q4_k, x, 1, 512, NULL, out, &bad), TN_INVALID);
  ck_assert_uint_eq(bad, 301);
  x[7] = -INFINITY;
  ck_assert_int_eq(tn_encode_rows(TN_DT_f16, x, 2, 256, NULL, out, &bad), TN_INVALID);
  ck_assert_uint_eq(bad, 7);
  x[301] = x[7] = 0;
  float importance[256] = {1};
  tn_mem_fail_after(0);
  ck_assert_int_eq(tn_encode_rows(q4_k, x, 2, 256, importance, out, NULL), TN_OOM);
  tn_mem_fail_after(-1);
}
END_TEST

int main(void) {
  Suite *s = suite_create("encode");
  TCase *t = tcase_create("encode");
  tcase_set_timeout(t, 120);
  tcase_add_test(t, errors_are_small);
  tcase_add_test(t, q8_0_is_as_everywhere);
  tcase_add_loop_test(t, builds_agree, 0, (int)tn_quant_count());
  tcase_add_loop_test(t, rows_are_independent, 0, (int)tn_quant_count());
  tcase_add_loop_test(t, limits, 0, (int)tn_quant_count());
  tcase_add_test(t, casts);
  tcase_add_test(t, refusals);
  suite_add_tcase(s, t);
  SRunner *r = srunner_create(s);
  srunner_run_all(r, CK_ENV);
  int failed = srunner_ntests_failed(r);
  srunner_free(r);
  return failed != 0;
}
