/* test_scan.c - ssm_scan and delta_scan: state sizes around the vector, shared and own decay, groups, empty
 * sequences. */
#include "tests/kernels/case.h"

/* The time steps are made positive and the rates negative, so that the state decays as in real models. */
static void scan(int h, int p, int g, int n, bool shared, int64_t s) {
  tn_case c = {
      .text = kernel_text(
          "module @m { dims B, S\n func @f(%%x: f32[B, S, %d, %d], %%t: f32[B, S, %d], %%r: f32[%d, %d], "
          "%%b: f32[B, S, %d, %d], %%c: f32[B, S, %d, %d], %%h: f32[B, %d, %d, %d]) -> (y: f32[B, S, %d, "
          "%d], l: f32[B, %d, %d, %d]) {\n %%dt = abs %%t\n %%q = abs %%r\n %%a = neg %%q\n %%y, %%l = "
          "ssm_scan %%x, %%dt, %%a, %%b, %%c, %%h\n return %%y, %%l } }",
          h, p, h, h, shared ? 1 : n, g, n, g, n, h, p, n, h, p, h, p, n),
      .dims = {{"B", 2}, {"S", s}}};
  kernel_check(&c);
}

static const int64_t lengths[] = {0, 1, 2, 7, 33};
START_TEST(own_decay) {
  for (size_t i = 0; i < TN_COUNT(lengths); i++) {
    scan(12, 1, 1, 16, false, lengths[i]);
    scan(5, 1, 1, 4, false, lengths[i]);
    scan(6, 3, 2, 20, false, lengths[i]);
    scan(3, 2, 3, 1, false, lengths[i]);
  }
}
END_TEST
START_TEST(shared_decay) {
  for (size_t i = 0; i < TN_COUNT(lengths); i++) {
    scan(8, 4, 2, 16, true, lengths[i]);
    scan(2, 5, 1, 128, true, lengths[i]);
    scan(4, 3, 4, 24, true, lengths[i]);
  }
}
END_TEST

/* Linear attention with g heads of keys; gate: size of the decay's last dim, 0: none. */
static void delta(int h, int g, int d, int e, int gate, bool beta, bool state, int64_t s) {
  const char *decay = gate ? "%dec" : "_", *first = state ? "%h" : "_";
  tn_case c = {.text = kernel_text(
                   "module @m { dims B, S\n func @f(%%q: f32[B, S, %d, %d], %%k: f32[B, S, %d, %d], %%v: "
                   "f32[B, S, %d, %d], %%h: f32[B, %d, %d, %d], %%g: f32[B, S, %d, %d], %%b: f32[B, S, %d]) "
                   "-> (y: f32[B, S, %d, %d], l: f32[B, %d, %d, %d]) {\n %%a = abs %%g\n %%dec = neg %%a\n"
                   " %%y, %%l = delta_scan %%q, %%k, %%v, %s, %s, %s {scale = 0.25}\n return %%y, %%l } }",
                   h, d, g, d, g, e, g, d, e, g, gate ? gate : 1, g, h, e, g, d, e, first, decay,
                   beta ? "%b" : "_"),
               .dims = {{"B", 2}, {"S", s}},
               /* keys this short shrink the state; with longer ones it would magnify every rounding */
               .lo = -0.5,
               .hi = 0.5};
  kernel_check(&c);
}

static const int64_t tokens[] = {0, 1, 2, 9};
START_TEST(delta_rule) {
  for (size_t i = 0; i < TN_COUNT(tokens); i++) {
    delta(4, 2, 8, 6, 0, false, true, tokens[i]);
    delta(3, 3, 5, 16, 5, false, false, tokens[i]);
    delta(6, 2, 3, 33, 1, false, true, tokens[i]);
    delta(4, 4, 4, 4, 0, true, false, tokens[i]);
    delta(4, 1, 4, 17, 4, true, true, tokens[i]);
  }
}
END_TEST

KERNEL_TESTS("scan", own_decay, shared_decay, delta_rule)
