/* test_scan.c - ssm_scan: state sizes around the vector, shared and own decay, groups, empty sequences. */
#include "tests/cpu/harness.h"
#include "tests/cpu/runner.h"

/* The time steps are made positive and the rates negative, so that the state decays as in real models. */
static void scan(int h, int p, int g, int n, bool shared, int64_t s) {
  cpu_case c = {
      .text = cpu_text(
          "module @m { dims B, S\n func @f(%%x: f32[B, S, %d, %d], %%t: f32[B, S, %d], %%r: f32[%d, %d], "
          "%%b: f32[B, S, %d, %d], %%c: f32[B, S, %d, %d], %%h: f32[B, %d, %d, %d]) -> (y: f32[B, S, %d, "
          "%d], l: f32[B, %d, %d, %d]) {\n %%dt = abs %%t\n %%q = abs %%r\n %%a = neg %%q\n %%y, %%l = "
          "ssm_scan %%x, %%dt, %%a, %%b, %%c, %%h\n return %%y, %%l } }",
          h, p, h, h, shared ? 1 : n, g, n, g, n, h, p, n, h, p, h, p, n),
      .dims = {{"B", 2}, {"S", s}}};
  cpu_check(&c);
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

CPU_TESTS("cpu scan", own_decay, shared_decay)
