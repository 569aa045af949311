/* test_attention_step.c - decoding: attention of few rows, steps that write their keys and values themselves,
 * what kv_update and attention take in before themselves; and products of bf16 at precision fast. */
#include "tests/kernels/case.h"
#include <math.h>
#include <stdio.h>

static const int64_t key_counts[] = {1, 15, 16, 17, 63, 64, 65, 130, 201};
#define EACH_COUNT for (size_t n = 0; n < TN_COUNT(key_counts); n++)

/* `s` queries, a constant. */
static void few(int s, int heads, int kv, int d, int dv, const char *attrs, const char *more,
                const char *args, int64_t t) {
  tn_case c = {
      .text = kernel_text("module @m { dims B, T\n func @f(%%q: f32[B, %d, %d, %d], %%k: f32[B, T, %d, %d], "
                          "%%v: f32[B, T, %d, %d]%s) -> f32[B, %d, %d, %d] {\n"
                          " %%r = attention %%q, %%k, %%v%s {scale = 0x1p-2%s}\n return %%r } }",
                          s, heads, d, kv, d, kv, dv, more, s, heads, dv, args, attrs),
      .dims = {{"B", 2}, {"T", t}},
      .int_hi = t + 2,
      .pipeline = "partition, fuse"};
  kernel_check(&c);
}
START_TEST(one_query) {
  EACH_COUNT {
    few(1, 9, 3, 64, 64, ", causal", "", "", key_counts[n]);
    few(1, 6, 2, 20, 33, "", "", "", key_counts[n]);
    few(1, 2, 2, 1, 1, ", causal", "", "", key_counts[n]);
    few(1, 8, 1, 80, 80, ", causal, window = 20", "", "", key_counts[n]);
    few(1, 4, 4, 16, 40, ", softcap = 0x1.8p1", "", "", key_counts[n]);
    few(1, 3, 1, 24, 24, ", causal", ", %p: i32[B]", ", _, _, %p", key_counts[n]);
  }
}
END_TEST
START_TEST(few_queries) {
  EACH_COUNT {
    few(2, 6, 2, 32, 32, ", causal", "", "", key_counts[n]);
    few(5, 3, 1, 20, 20, ", causal, window = 9", "", "", key_counts[n]);
    few(3, 2, 2, 16, 16, ", window = 70", "", "", key_counts[n]);
    few(4, 4, 1, 16, 72, ", causal", ", %p: i32[B]", ", _, _, %p", key_counts[n]);
  }
}
END_TEST
START_TEST(few_masked) {
  EACH_COUNT {
    few(1, 4, 2, 16, 16, "", ", %m: bool[B, 4, 1, T]", ", %m", key_counts[n]);
    few(3, 4, 2, 16, 16, ", causal", ", %m: i32[B, 1, 3, T], %b: f32[4, 3, T]", ", %m, %b", key_counts[n]);
    few(1, 4, 1, 16, 16, "", ", %b: f32[1, 4, 1, 1]", ", _, %b", key_counts[n]);
  }
}
END_TEST

/* Keys that are pieces of something else, and many of them. */
START_TEST(few_views) {
  EACH_COUNT {
    tn_case c = {
        .text = "module @m { dims B, T\n func @f(%q: f32[B, 1, 4, 24], %x: f32[B, T, 96]) -> f32[B, 1, 4, "
                "24] {\n %k, %v = split %x {axis = 2, sizes = [48, 48]}\n %k4 = reshape %k {shape = [B, T, "
                "2, 24]}\n %v4 = reshape %v {shape = [B, T, 2, 24]}\n"
                " %r = attention %q, %k4, %v4 {scale = 0x1p-2}\n return %r } }",
        .dims = {{"B", 2}, {"T", key_counts[n]}}};
    kernel_check(&c);
  }
}
END_TEST
START_TEST(long_ones) {
  few(1, 4, 2, 8, 8, ", causal", "", "", 5000);
  few(2, 2, 1, 8, 8, ", causal, window = 3000", "", "", 5000);
}
END_TEST

/* ---- steps ---- */
typedef struct step {
  const char *type, *rope, *window, *ring;
  int heads, kv, d;
  bool padded;
  int64_t pos, rows;
} step;

static void frequencies(const char *name, tn_dtype dt, void *data, int64_t count) {
  (void)dt;
  for (int64_t i = 0; !strcmp(name, "w") && i < count; i++)
    ((float *)data)[i] = powf(10000, -(float)i / (float)count);
}

/* The queries, keys and values of one token come out of one product; both turn, then all goes on. */
static void take_step(const step *s) {
  int q = s->heads * s->d, k = s->kv * s->d;
  tn_case c = {
      .text = kernel_text(
          "module @m { dims B, P, R\n state @k : %s[B, R, %d, %d]\n state @v : %s[B, R, %d, %d]\n"
          " func @f(%%x: f32[B, 1, %d], %%w: f32[%d], %%p: i32[B]) -> f32[B, 1, %d, %d] {\n"
          " %%q0, %%k0, %%v0 = split %%x {axis = 2, sizes = [%d, %d, %d]}\n"
          " %%q1 = reshape %%q0 {shape = [B, 1, %d, %d]}\n %%k1 = reshape %%k0 {shape = [B, 1, %d, %d]}\n"
          " %%v1 = reshape %%v0 {shape = [B, 1, %d, %d]}\n"
          " %%at = iota {shape = [1], start = P, dtype = i32}\n"
          " %%q2 = rope %%q1, %%at, %%w%s\n %%k2 = rope %%k1, %%at, %%w%s\n"
          " %%k3 = kv_update @k, %%k2 {pos = P%s}\n %%v3 = kv_update @v, %%v1 {pos = P%s}\n"
          " %%r = attention %%q2, %%k3, %%v3%s {scale = %s, causal, keys = P + 1%s%s}\n return %%r } }",
          s->type, s->kv, s->d, s->type, s->kv, s->d, q + 2 * k, s->d / 2, s->heads, s->d, q, k, k, s->heads,
          s->d, s->kv, s->d, s->kv, s->d, s->rope, s->rope, s->ring, s->ring, s->padded ? ", _, _, %p" : "",
          strcmp(s->type, "q8_0") ? "0x1p-3" : "0x1p-9", s->ring, s->window),
      .dims = {{"B", 2}, {"P", s->pos}, {"R", s->rows}},
      .int_hi = 120,
      .atol = 2e-5,
      .rtol = 1e-4,
      .kernels = 1,
      .device_kernels = 1,
      .fill = frequencies};
  if (!strcmp(s->type, "q8_0")) c.rtol = 1e-3;
  kernel_check(&c);
}
static const char *const cache_types[] = {"f32", "f16", "bf16", "q8_0"};

START_TEST(steps) {
  static const int64_t places[] = {0, 1, 15, 64, 65, 127};
  for (size_t t = 0; t < TN_COUNT(cache_types); t++)
    for (size_t i = 0; i < TN_COUNT(places); i++) {
      take_step(&(step){cache_types[t], " {interleaved}", "", "", 9, 3, 64, false, places[i], 128});
      take_step(&(step){cache_types[t], "", ", window = 20", "", 4, 1, 32, true, places[i], 128});
    }
}
END_TEST
START_TEST(ring_steps) {
  static const int64_t places[][2] = {{0, 9},    {8, 9},     {9, 9},     {13, 9}, {70, 100},
                                      {99, 100}, {100, 100}, {777, 100}, {5, 1}};
  for (size_t t = 0; t < TN_COUNT(cache_types); t++)
    for (size_t i = 0; i < TN_COUNT(places); i++) {
      take_step(&(step){cache_types[t], "", "", ", ring", 3, 3, 32, false, places[i][0], places[i][1]});
      take_step(
          &(step){cache_types[t], "", ", window = 7", ", ring", 6, 2, 32, true, places[i][0], places[i][1]});
    }
}
END_TEST

/* Only one of the two updates can go with the attention. */
START_TEST(half_steps) {
  static const int64_t places[] = {0, 1, 63, 64, 127};
  for (size_t i = 0; i < TN_COUNT(places); i++) {
    tn_case c = {
        .text =
            "module @m { dims B, P, C where P + 1 <= C\n state @k : f16[B, C, 2, 20]\n state @v : "
            "f32[B, C, 2, 20]\n func @f(%q: f32[B, 1, 4, 20], %x: f32[B, 1, 2, 20]) -> (r: f32[B, 1, 4, "
            "20], z: f32[B, C, 2, 20]) {\n %k1 = kv_update @k, %x {pos = P}\n %v1 = kv_update @v, %x {pos "
            "= P}\n %r = attention %q, %k1, %v1 {scale = 0x1p-2, causal, keys = P + 1}\n %z = neg %v1\n "
            "return %r, %z } }",
        .dims = {{"B", 2}, {"P", places[i]}, {"C", 128}},
        .kernels = 3,
        .device_kernels = 3};
    kernel_check(&c);
    /* keys that are values too stay apart */
    c.text = "module @m { dims B, P, C where P + 1 <= C\n state @k : f32[B, C, 1, 20]\n func @f(%q: f32[B, "
             "1, 4, 20], "
             "%x: f32[B, 1, 1, 20]) -> f32[B, 1, 4, 20] {\n %k1 = kv_update @k, %x {pos = P}\n"
             " %r = attention %q, %k1, %k1 {scale = 0x1p-2, causal, keys = P + 1}\n return %r } }";
    c.kernels = c.device_kernels = 2;
    kernel_check(&c);
  }
}
END_TEST

/* Many tokens: turns and pieces are made where they are used. */
START_TEST(prompts) {
  static const int64_t places[][2] = {{1, 0}, {7, 0}, {33, 60}, {100, 3}};
  for (size_t t = 0; t < TN_COUNT(cache_types); t++)
    for (size_t i = 0; i < TN_COUNT(places); i++) {
      const char *e = cache_types[t];
      tn_case c = {
          .text = kernel_text(
              "module @m { dims B, S, P, C where P + S <= C\n state @k : %s[B, C, 2, 32]\n state @v : %s[B, "
              "C, 2, 32]\n"
              " func @f(%%x: f32[B, S, 256], %%w: f32[16]) -> f32[B, S, 4, 32] {\n"
              " %%q0, %%k0, %%v0 = split %%x {axis = 2, sizes = [128, 64, 64]}\n"
              " %%q1 = reshape %%q0 {shape = [B, S, 4, 32]}\n %%k1 = reshape %%k0 {shape = [B, S, 2, 32]}\n"
              " %%v1 = reshape %%v0 {shape = [B, S, 2, 32]}\n %%at = iota {shape = [S], start = P, dtype = "
              "i32}\n"
              " %%q2 = rope %%q1, %%at, %%w\n %%k2 = rope %%k1, %%at, %%w\n %%k3 = kv_update @k, %%k2 {pos = "
              "P}\n"
              " %%v3 = kv_update @v, %%v1 {pos = P}\n"
              " %%r = attention %%q2, %%k3, %%v3 {scale = %s, causal, keys = P + S}\n return %%r } }",
              e, e, t == 3 ? "0x1p-9" : "0x1p-3"),
          .dims = {{"B", 2}, {"S", places[i][0]}, {"P", places[i][1]}, {"C", 128}},
          .atol = 2e-5,
          .rtol = t == 3 ? 1e-3 : 1e-4,
          .kernels = 3,
          .fill = frequencies};
      kernel_check(&c);
    }
}
END_TEST

/* ---- precision fast ---- */
static void fast(const char *type, int heads, int kv, int d, int dv, const char *attrs, const char *more,
                 const char *args, int64_t s, int64_t t) {
  tn_case c = {
      .text = kernel_text("module @m { dims B, S, T\n func @f(%%q: f32[B, S, %d, %d], %%k: %s[B, T, %d, %d], "
                          "%%v: %s[B, T, %d, %d]%s) -> f32[B, S, %d, %d] {\n"
                          " %%r = attention %%q, %%k, %%v%s {scale = 0x1p-2%s}\n return %%r } }",
                          heads, d, type, kv, d, type, kv, dv, more, heads, dv, args, attrs),
      .dims = {{"B", 2}, {"S", s}, {"T", t}},
      .int_hi = 2,
      .lo = -1,
      .hi = 1,
      .nmse = 1e-4,
      .precision = "fast",
      .pipeline = "partition, fuse"};
  kernel_check(&c);
}
START_TEST(narrow) {
  static const int64_t lengths[][2] = {{1, 1},   {2, 2},     {3, 31},   {17, 33},
                                       {64, 64}, {129, 129}, {40, 257}, {5, 600}};
  for (size_t i = 0; i < TN_COUNT(lengths); i++) {
    int64_t s = lengths[i][0], t = lengths[i][1];
    fast("f32", 2, 2, 32, 32, "", "", "", s, t);
    fast("f32", 6, 2, 20, 40, ", causal", "", "", s, t);
    fast("bf16", 4, 1, 64, 64, ", causal, window = 21", "", "", s, t);
    fast("f16", 1, 1, 1, 1, "", "", "", s, t);
    fast("f32", 2, 1, 33, 17, ", softcap = 0x1.8p1", "", "", s, t);
    fast("f32", 4, 2, 128, 128, ", causal", ", %m: bool[B, 1, 1, T]", ", %m", s, t);
  }
}
END_TEST

KERNEL_TESTS("attention steps", one_query, few_queries, few_masked, few_views, long_ones, steps, ring_steps,
             half_steps, prompts, narrow)
