/* test_expert.c - expert_matmul: few and many tokens, packed and plain weights, experts without tokens and
 * experts that do not exist, epilogues. */
#include "tests/kernels/case.h"

static const int64_t tokens[] = {0, 1, 2, 5, 7, 33, 130};

typedef struct shape {
  int e, n, k, used;
} shape;

/* ids: [lo, hi) of the experts that are named. */
static void product(const char *lhs, const char *rhs, shape s, bool each, bool plain, int64_t lo,
                    int64_t hi) {
  for (size_t i = 0; i < TN_COUNT(tokens); i++) {
    char own[16] = "";
    if (each) snprintf(own, sizeof own, "%d, ", s.used);
    tn_case c = {.text = kernel_text("module @m { dims T\n weight @w : %s[%d, %d, %d]\n"
                                     " func @f(%%x: %s[T, %s%d], %%e: i64[T, %d]) -> f32[T, %d, %d] {\n"
                                     " %%r = expert_matmul %%x, @w, %%e\n return %%r } }",
                                     rhs, s.e, s.n, s.k, lhs, own, s.k, s.used, s.used, s.n),
                 .dims = {{"T", tokens[i]}},
                 .int_lo = lo,
                 .int_hi = hi,
                 .plain_weights = plain,
                 .pipeline = "partition, fuse"};
    if (s.k > 200) c.atol = c.rtol = 1e-4;
    if (rhs[0] != 'f' && rhs[0] != 'b') c.nmse = 1e-10; /* a block format */
    kernel_check(&c);
  }
}

static const shape shapes[] = {
    {4, 17, 5, 2}, {8, 48, 33, 3}, {3, 130, 64, 1}, {60, 16, 24, 4}, {2, 70, 300, 2}};
static const char *const types[] = {"f32", "bf16", "f16"};

START_TEST(packed) {
  for (size_t t = 0; t < TN_COUNT(types); t++)
    for (size_t i = 0; i < TN_COUNT(shapes); i++)
      for (int each = 0; each < 2; each++) product("f32", types[t], shapes[i], each, false, 0, shapes[i].e);
}
END_TEST
START_TEST(plain) {
  for (size_t t = 0; t < TN_COUNT(types); t++)
    for (size_t i = 0; i < 3; i++) product("f32", types[t], shapes[i], i & 1, true, 0, shapes[i].e);
}
END_TEST
START_TEST(narrow_x) { product("bf16", "bf16", shapes[1], true, false, 0, 8); }
END_TEST
/* All tokens with one expert, and with experts on both sides of those that exist. */
START_TEST(uneven) {
  product("f32", "f32", shapes[1], false, false, 5, 6);
  product("f32", "bf16", shapes[1], true, false, -2, 11);
  product("f32", "bf16", shapes[1], true, true, -2, 11);
  product("f32", "f32", shapes[1], false, false, 8, 9);
}
END_TEST

START_TEST(from_blocks) {
  static const char *const formats[] = {"q4_0", "q8_0", "q5_1", "q4_k", "q6_k", "iq4_nl", "mxfp4"};
  for (size_t i = 0; i < TN_COUNT(formats); i++) {
    shape s = {5, 40, i == 3 || i == 4 ? 512 : 96, 2};
    product("f32", formats[i], s, i & 1, false, -1, 6);
    if (i < 2) product("f32", formats[i], s, false, true, 0, 5);
  }
}
END_TEST

/* Integers up to 127, the largest in every 32: rows of 8-bit integers are what they are. */
static void fill_exact(const char *name, tn_dtype dt, void *data, int64_t count) {
  float *x = data;
  (void)name;
  for (int64_t i = 0; dt == TN_DT_f32 && i < count; i++)
    x[i] = (float)(i % 32 == 7 ? -127 : i * i * 7919 % 255 - 127);
}
START_TEST(fast_blocks) {
  static const char *const formats[] = {"q4_0", "q8_0", "q5_1", "q4_k", "q6_k", "iq4_nl", "iq2_xs", "nf4_64"};
  for (size_t f = 0; f < TN_COUNT(formats); f++)
    for (size_t i = 0; i < TN_COUNT(tokens); i++) {
      shape s = {5, 40, f < 3 || f == 5 ? 96 : 512, 2};
      tn_case c = {.text = kernel_text("module @m { dims T\n weight @w : %s[%d, %d, %d]\n"
                                       " func @f(%%x: f32[T, %d], %%e: i64[T, 2]) -> f32[T, 2, %d] {\n"
                                       " %%r = expert_matmul %%x, @w, %%e\n return %%r } }",
                                       formats[f], s.e, s.n, s.k, s.k, s.n),
                   .dims = {{"T", tokens[i]}},
                   .int_lo = -1,
                   .int_hi = 6,
                   .fill = fill_exact,
                   .precision = "fast",
                   .pipeline = "partition, fuse",
                   .nmse = 5e-6}; /* weights as bf16, in tile registers; one code that is wrong by 1: more */
      kernel_check(&c);
    }
}
END_TEST

START_TEST(epilogue) {
  for (size_t i = 0; i < TN_COUNT(tokens); i++) {
    tn_case c = {.text = "module @m { dims T\n weight @g : bf16[6, 40, 24]\n weight @u : bf16[6, 40, 24]\n"
                         " weight @d : f32[6, 24, 40]\n"
                         " func @f(%x: f32[T, 24], %e: i32[T, 2], %w: f32[T, 2, 1]) -> f32[T, 24] {\n"
                         " %0 = expert_matmul %x, @g, %e\n %1 = silu %0\n %2 = expert_matmul %x, @u, %e\n"
                         " %3 = mul %1, %2\n %4 = expert_matmul %3, @d, %e\n %5 = mul %4, %w\n"
                         " %6 = reduce_sum %5 {axes = [1]}\n return %6 } }",
                 .dims = {{"T", tokens[i]}},
                 .int_lo = -1,
                 .int_hi = 7,
                 .atol = 1e-4,
                 .rtol = 1e-4};
    kernel_check(&c);
  }
}
END_TEST

KERNEL_TESTS("expert_matmul", packed, plain, narrow_x, uneven, from_blocks, fast_blocks, epilogue)
