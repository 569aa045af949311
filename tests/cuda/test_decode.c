/* test_decode.c - steps of decoding where they differ from other backends': keys split among blocks, of which
 * one writes the newest key and value; groups of more rows than a block has; features that are loaded one by
 * one; and few queries whose number is only known at the call. */
#include "tests/kernels/case.h"
#include <math.h>
#include <string.h>

typedef struct step {
  const char *type, *more, *attrs; /* of the caches; operands and attributes of attention */
  int heads, kv, d, dv;
  int64_t pos, rows;
  bool ring;
} step;

static void take(const step *s) {
  const char *ring = s->ring ? ", ring" : "";
  tn_case c = {
      .text = kernel_text(
          "module @m { dims B, P, R\n state @k : %s[B, R, %d, %d]\n state @v : %s[B, R, %d, %d]\n"
          " func @f(%%q: f32[B, 1, %d, %d], %%x: f32[B, 1, %d, %d], %%y: f32[B, 1, %d, %d], %%m: "
          "bool[B, 1, 1, P + 1], %%z: f32[%d, 1, 1]) -> f32[B, 1, %d, %d] {\n"
          " %%k1 = kv_update @k, %%x {pos = P%s}\n %%v1 = kv_update @v, %%y {pos = P%s}\n"
          " %%r = attention %%q, %%k1, %%v1%s {scale = %s, causal, keys = P + 1%s%s}\n return %%r } }",
          s->type, s->kv, s->d, s->type, s->kv, s->dv, s->heads, s->d, s->kv, s->d, s->kv, s->dv, s->heads,
          s->heads, s->dv, ring, ring, s->more, strcmp(s->type, "q8_0") ? "0x1p-3" : "0x1p-9", ring,
          s->attrs),
      .dims = {{"B", 2}, {"P", s->pos}, {"R", s->rows}},
      .atol = 2e-5,
      .rtol = strcmp(s->type, "q8_0") ? 1e-4 : 1e-3,
      .pipeline = "partition, fuse",
      .device_kernels = 1};
  kernel_check(&c);
}

static const char *const types[] = {"f32", "f16", "bf16", "q8_0"};
static const int64_t places[] = {0, 1, 127, 128, 513, 699};
#define EACH_PLACE for (size_t i = 0; i < TN_COUNT(places); i++)

START_TEST(split_keys) {
  for (size_t t = 0; t < TN_COUNT(types); t++) EACH_PLACE {
      take(&(step){types[t], "", "", 2, 1, 32, 64, places[i], 700, false});
      take(&(step){types[t], "", "", 4, 2, 64, 32, places[i], 300, true});
      take(&(step){types[t], "", ", window = 150", 2, 2, 64, 64, places[i], 700, false});
    }
}
END_TEST
START_TEST(many_rows) {
  for (size_t t = 0; t < TN_COUNT(types); t++)
    EACH_PLACE take(&(step){types[t], "", "", 16, 1, 128, 128, places[i], 700, false});
}
END_TEST
START_TEST(odd_features) {
  for (size_t t = 0; t < 3; t++) EACH_PLACE {
      take(&(step){types[t], "", "", 3, 1, 33, 7, places[i], 700, false});
      take(&(step){types[t], "", "", 2, 2, 20, 140, places[i], 700, false});
    }
}
END_TEST
START_TEST(masks) {
  for (size_t t = 0; t < TN_COUNT(types); t++) EACH_PLACE {
      take(&(step){types[t], ", %m", "", 4, 2, 32, 32, places[i], 700, false});
      take(&(step){types[t], ", _, %z", ", softcap = 0x1p2", 4, 2, 32, 32, places[i], 700, false});
    }
}
END_TEST

/* As many queries as the call has; 16-bit floats go by tiles where there are more than 16 rows of a group. */
START_TEST(few_queries) {
  static const int64_t counts[] = {0, 1, 2, 5, 8, 9, 40};
  static const char *const kinds[][2] = {{"f16", "f16"}, {"f32", "f32"}, {"f32", "bf16"}};
  for (size_t t = 0; t < TN_COUNT(kinds); t++)
    for (size_t i = 0; i < TN_COUNT(counts); i++) {
      const char *q = kinds[t][0], *kv = kinds[t][1];
      tn_case c = {.text = kernel_text(
                       "module @m { dims B, S, T\n func @f(%%q: %s[B, S, 4, 64], %%k: %s[B, T, 2, 64], "
                       "%%v: %s[B, T, 2, 64]) -> %s[B, S, 4, 64] {\n"
                       " %%r = attention %%q, %%k, %%v {scale = 0x1p-3, causal}\n return %%r } }",
                       q, kv, kv, q),
                   .dims = {{"B", 2}, {"S", counts[i]}, {"T", 600}},
                   .precision = t == 2 ? "fast" : NULL,
                   .pipeline = "partition, fuse"};
      if (t != 1) c.nmse = 1e-5;
      kernel_check(&c);
    }
}
END_TEST

/* What lies in a cache behind the keys that are in use is nobody's: here NaN. */
static int64_t in_use;
static void poison(const char *name, tn_dtype dt, void *data, int64_t count) {
  for (int64_t i = in_use * 2 * 64; (*name == 'k' || *name == 'v') && i < count; i++) {
    if (dt == TN_DT_f32)
      ((float *)data)[i] = NAN;
    else
      ((uint16_t *)data)[i] = 0x7fff;
  }
}
START_TEST(behind_the_last_key) {
  static const int64_t each[][2] = {{1, 1}, {4, 130}, {70, 70}, {66, 129}, {130, 256}, {200, 383}};
  static const char *const kinds[] = {"f16", "bf16", "f32"};
  for (size_t t = 0; t < 2 * TN_COUNT(kinds); t++)
    for (size_t i = 0; i < TN_COUNT(each); i++) {
      const char *kv = kinds[t / 2];
      tn_case c = {
          .text = kernel_text(
              "module @m { dims S, T, C where T <= C\n func @f(%%q: %s[1, S, 4, 64], %%k: %s[1, C, 2, "
              "64], %%v: %s[1, C, 2, 64]) -> %s[1, S, 4, 64] {\n"
              " %%r = attention %%q, %%k, %%v {scale = 0x1p-3, keys = T%s}\n return %%r } }",
              kv, kv, kv, kv, t % 2 ? ", causal" : ""),
          .dims = {{"S", each[i][0]}, {"T", each[i][1]}, {"C", 400}},
          .pipeline = "partition, fuse",
          .nmse = 1e-5,
          .fill = poison};
      in_use = each[i][1];
      kernel_check(&c);
    }
}
END_TEST

KERNEL_TESTS("decoding", split_keys, many_rows, odd_features, masks, few_queries, behind_the_last_key)
