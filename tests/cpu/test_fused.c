/* test_fused.c - what moves into the kernel of a product: a norm of its rows before it, and behind it the two
 * halves of its columns becoming one (gate and up). */
#include "tests/kernels/case.h"

static const int64_t rows[] = {1, 130, 9, 3, 0};

/* Every number of rows, or one row and another number that goes round with `turn`. */
static bool skipped(size_t i, size_t turn) { return turn && i && i != 1 + turn % 3; }

static const char *const weights[] = {"f32", "bf16", "q8_0", "q4_k", "iq2_xxs"};

/* ---- norms ---- */
static const char *const norms[] = {
    "rms_norm %t, @s {eps = 1e-6}",   "rms_norm %t, @s {eps = 1e-6, offset = 1.0}",
    "rms_norm %t {eps = 1e-5}",       "layer_norm %t, @s, @c {eps = 1e-5}",
    "layer_norm %t, @s {eps = 1e-5}", "layer_norm %t {eps = 1e-5}"};

static void norm(const char *op, const char *type, int n, int k, bool plain, const char *precision,
                 size_t turn) {
  for (size_t i = 0; i < TN_COUNT(rows); i++) {
    if (skipped(i, turn)) continue;
    tn_case c = {
        .text = kernel_text("module @m { dims B, S\n weight @w : %s[%d, %d]\n weight @s : f32[%d]\n"
                            " weight @c : f32[%d]\n func @f(%%t: f32[B, S, %d]) -> f32[B, S, %d] {\n"
                            " %%0 = %s : f32[B, S, %d]\n %%1 = matmul %%0, @w {trans_b}\n return %%1 } }",
                            type, n, k, k, k, k, n, op, k),
        .dims = {{"B", 1}, {"S", rows[i]}},
        .plain_weights = plain,
        .precision = precision,
        .pipeline = "partition, fuse",
        .nmse = precision ? 2e-4 : 1e-9};
    if (rows[i] == 9) c.dims[0].value = 2;
    kernel_check(&c);
  }
}
START_TEST(norm_kinds) {
  for (size_t i = 0; i < TN_COUNT(norms); i++) {
    norm(norms[i], "f32", 48, 33, false, NULL, i);
    norm(norms[i], "bf16", 20, 40, false, NULL, i + 1);
    norm(norms[i], "q4_0", 48, 64, false, NULL, i + 2);
  }
}
END_TEST
START_TEST(norm_weights) {
  for (size_t i = 0; i < TN_COUNT(weights); i++)
    for (int fast = 0; fast < 2; fast++)
      norm(norms[i % 2 * 3], weights[i], 40, 256, false, fast ? "fast" : NULL, i + 1);
  norm(norms[0], "f32", 40, 1024, false, NULL, 1);
  norm(norms[3], "q8_0", 40, 1024, false, "fast", 1);
}
END_TEST
START_TEST(norm_plain) {
  for (size_t i = 0; i < 4; i++) norm(norms[i], weights[i % 2], 33, 40, true, NULL, i + 1);
}
END_TEST

/* The norm's operand is of a narrow type, or made on the way; its rows are reshaped; several products read
 * it. */
START_TEST(norm_sources) {
  static const char *const bodies[] = {
      "%0 = add %x, %y\n %1 = rms_norm %0, @s {eps = 1e-5}\n %2 = matmul %1, @w {trans_b}\n"
      " %r = reshape %2 {shape = [6, S, 24]}",
      "%0 = cast %h {to = f32}\n %1 = layer_norm %0, @s, @c {eps = 1e-5}\n %2 = matmul %1, @w {trans_b}\n"
      " %r = reshape %2 {shape = [6, S, 24]}",
      "%1 = rms_norm %x, @s {eps = 1e-5}\n %2 = reshape %1 {shape = [6 * S, 32]}\n"
      " %3 = matmul %2, @w {trans_b}\n %r = reshape %3 {shape = [6, S, 24]}",
      "%1 = rms_norm %x, @s {eps = 1e-5}\n %2 = matmul %1, @w {trans_b}\n %3 = matmul %1, @v {trans_b}\n"
      " %4 = matmul %1, @w {trans_b}\n %5 = add %2, %3\n %6 = mul %5, %4\n %r = reshape %6 {shape = [6, S, "
      "24]}"};
  for (size_t b = 0; b < TN_COUNT(bodies); b++)
    for (size_t i = 0; i < TN_COUNT(rows); i++) {
      tn_case c = {
          .text = kernel_text(
              "module @m { dims S\n weight @w : bf16[24, 32]\n weight @v : q8_0[24, 32]\n"
              " weight @s : f32[32]\n weight @c : f32[32]\n func @f(%%x: f32[2, 3, S, 32], "
              "%%y: f32[2, 3, S, 32], %%h: f16[2, 3, S, 32]) -> f32[6, S, 24] {\n %s\n return %%r } }",
              bodies[b]),
          .dims = {{"S", rows[i]}},
          .nmse = 1e-9};
      kernel_check(&c);
    }
}
END_TEST

/* ---- halves ---- */
typedef struct pair {
  const char *type, *body;
  int n, k;
  bool plain, fast;
} pair;

static const char *const joins[] = {
    " %2 = silu %g\n %r = mul %2, %u", " %2 = gelu %g\n %r = mul %2, %u", " %2 = gelu %u\n %r = mul %g, %2",
    " %2 = relu %g\n %3 = mul %2, %2\n %4 = add %u, %y\n %r = mul %3, %4", " %r = sub %g, %u"};

static void check_pair(const pair *p, bool bias, bool normed, size_t turn) {
  for (size_t i = 0; i < TN_COUNT(rows); i++) {
    if (skipped(i, turn)) continue;
    tn_case c = {
        .text = kernel_text(
            "module @m { dims S\n weight @w : %s[%d, %d]\n weight @b : f32[%d]\n weight @s : f32[%d]\n"
            " func @f(%%x: f32[1, S, %d], %%y: f32[1, S, %d]) -> f32[1, S, %d] {\n%s"
            " %%0 = matmul %s, @w {trans_b}\n%s %%g, %%u = split %s {axis = 2, sizes = [%d, %d]}\n%s\n"
            " return %%r } }",
            p->type, 2 * p->n, p->k, 2 * p->n, p->k, p->k, p->n, p->n,
            normed ? " %n = rms_norm %x, @s {eps = 1e-5}\n" : "", normed ? "%n" : "%x",
            bias ? " %1 = add %0, @b\n" : "", bias ? "%1" : "%0", p->n, p->n, p->body),
        .dims = {{"S", rows[i]}},
        .plain_weights = p->plain,
        .precision = p->fast ? "fast" : NULL,
        .pipeline = "partition, fuse",
        .nmse = p->fast ? 2e-3 : 1e-9};
    kernel_check(&c);
  }
}
START_TEST(pair_joins) {
  for (size_t i = 0; i < TN_COUNT(joins); i++)
    for (int bias = 0; bias < 2; bias++) {
      pair p = {bias ? "bf16" : "f32", joins[i], i % 2 ? 48 : 80, 24};
      check_pair(&p, bias, i & 1, i);
    }
}
END_TEST
START_TEST(pair_weights) {
  for (size_t i = 0; i < TN_COUNT(weights); i++)
    for (int fast = 0; fast < 2; fast++) {
      pair p = {weights[i], joins[i % TN_COUNT(joins)], i % 3 ? 112 : 16, 256, .fast = fast};
      check_pair(&p, i & 1, i & 2, i + 1);
    }
}
END_TEST
START_TEST(pair_long) {
  static const char *const types[] = {"f32", "bf16", "q8_0", "q4_k"};
  for (size_t i = 0; i < TN_COUNT(types); i++)
    for (int fast = 0; fast < 2; fast++) {
      pair p = {types[i], joins[0], 48, 2304, .fast = fast};
      check_pair(&p, false, true, i + 1);
    }
}
END_TEST
START_TEST(pair_plain) {
  static const char *const types[] = {"f32", "bf16", "q8_0"};
  for (size_t i = 0; i < TN_COUNT(types); i++) {
    pair p = {types[i], joins[0], 48, 64, .plain = true};
    check_pair(&p, i == 1, false, i + 1);
  }
}
END_TEST

/* Halves that are no whole panels, or that somebody else reads too. */
START_TEST(not_pairs) {
  static const char *const bodies[] = {
      "%g, %u = split %0 {axis = 1, sizes = [20, 20]}\n %2 = silu %g\n %r = mul %2, %u",
      "%g, %u = split %0 {axis = 1, sizes = [20, 20]}\n %2 = silu %g\n %3 = mul %2, %u\n"
      " %4 = reduce_sum %u {axes = [1], keep}\n %r = add %3, %4"};
  for (size_t b = 0; b < TN_COUNT(bodies); b++) {
    tn_case c = {.text =
                     kernel_text("module @m { dims S\n weight @w : f32[40, 24]\n func @f(%%x: f32[S, 24]) -> "
                                 "f32[S, 20] {\n %%0 = matmul %%x, @w {trans_b}\n %s\n return %%r } }",
                                 bodies[b]),
                 .dims = {{"S", 7}}};
    kernel_check(&c);
  }
}
END_TEST

KERNEL_TESTS("fused", norm_kinds, norm_weights, norm_plain, norm_sources, pair_joins, pair_weights, pair_long,
             pair_plain, not_pairs)
