/* test_irregular.c - the ops of backends/lib as the cpu backend calls them: scatter, nonzero, unique, nms,
 * dft, det, lstm, gru, rnn. Sizes around the vectors and panels, symbolic sizes, leaves as operands, results
 * not wanted. */
#include "tests/kernels/case.h"

static void scatter(const char *type, const char *index, const char *reduce, int64_t n, int64_t m,
                    int64_t row) {
  tn_case c = {.text = kernel_text(
                   "module @m { dims N, M\n func @f(%%d: %s[N, %d], %%i: %s[M], %%u: %s[M, %d]) -> (o: "
                   "%s[N, %d]) {\n %%o = scatter %%d, %%i, %%u {reduce = \"%s\"}\n return %%o } }",
                   type, (int)row, index, type, (int)row, type, (int)row, reduce),
               .dims = {{"N", n}, {"M", m}},
               .int_lo = -7,
               .int_hi = 9};
  kernel_check(&c);
}

START_TEST(scatter_types) {
  static const char *const types[] = {"f64", "f32", "f16", "bf16", "i64", "i32", "i16",
                                      "i8",  "u64", "u32", "u16",  "u8",  "bool"};
  static const char *const ways[] = {"none", "add", "mul", "min", "max"};
  for (size_t t = 0; t < TN_COUNT(types); t++)
    for (size_t w = 0; w < TN_COUNT(ways); w++) scatter(types[t], "i64", ways[w], 6, 9, 3);
}
END_TEST
START_TEST(scatter_sizes) {
  static const char *const index[] = {"i64", "i32", "u8"};
  for (size_t i = 0; i < TN_COUNT(index); i++) {
    scatter("f32", index[i], "none", 1, 4, 1);
    scatter("f32", index[i], "add", 5, 33, 17);
    scatter("f32", index[i], "none", 7, 0, 2);
    scatter("f32", index[i], "none", 0, 3, 2);
  }
}
END_TEST
/* A constant and a counter are operands that no buffer holds. */
START_TEST(leaves) {
  tn_case c = {
      .text = "module @m { dims N\n func @f(%u: f32[3]) -> (o: f32[4], p: i64[N]) {\n"
              " %d = constant {value = [1, 2, 3, 4]} : f32[4]\n %i = constant {value = [3, 0, 1]} : i64[3]\n"
              " %o = scatter %d, %i, %u\n %n = iota {shape = [N], dtype = i64}\n"
              " %p, %q = nonzero %n\n return %o, %p } }",
      .dims = {{"N", 21}}};
  kernel_check(&c);
}
END_TEST

START_TEST(nonzero) {
  static const char *const types[] = {"f64", "f32", "f16", "bf16", "i64", "i32", "i16", "i8", "u8"};
  static const int64_t sizes[] = {0, 1, 5, 100};
  for (size_t t = 0; t < TN_COUNT(types); t++)
    for (size_t s = 0; s < TN_COUNT(sizes); s++) {
      tn_case c = {
          .text = kernel_text("module @m { dims N\n func @f(%%x: %s[N, 3]) -> (p: i64[3 * N], c: i64[]) {\n"
                              " %%z = constant {value = 0} : %s[]\n %%k = compare %%x, %%z {cmp = \"gt\"}\n"
                              " %%y = select %%k, %%x, %%z\n %%p, %%c = nonzero %%y\n return %%p, %%c } }",
                              types[t], types[t]),
          .dims = {{"N", sizes[s]}},
          .int_lo = types[t][0] == 'i' ? -2 : 0,
          .int_hi = 2};
      kernel_check(&c);
    }
}
END_TEST

START_TEST(unique) {
  static const int64_t sizes[] = {0, 1, 2, 40};
  for (size_t s = 0; s < TN_COUNT(sizes); s++)
    for (int row = 1; row < 3; row++)
      for (int sorted = 0; sorted < 2; sorted++) {
        tn_case c = {
            .text = kernel_text(
                "module @m { dims N\n func @f(%%x: i32[N, %d]) -> (a: i64[N], b: i64[N], c: i64[N], d: "
                "i64[]) {\n %%a, %%b, %%c, %%d = unique %%x {sorted = %s}\n return %%a, %%b, %%c, %%d } }",
                row, sorted ? "true" : "false"),
            .dims = {{"N", sizes[s]}}};
        kernel_check(&c);
      }
}
END_TEST

START_TEST(nms) {
  for (int center = 0; center < 2; center++) {
    tn_case c = {.text = kernel_text(
                     "module @m { dims B, N\n func @f(%%b: f32[B, N, 4], %%s: f32[B, 3, N]) -> (s: i64[B * "
                     "N * 3, 3], c: "
                     "i64[]) {\n %%m = constant {value = 4} : i64[]\n %%i = constant {value = 0.3} : f32[]\n"
                     " %%t = constant {value = -0.5} : f32[]\n %%r, %%c = nms %%b, %%s, %%m, %%i, %%t {rows "
                     "= B * N * 3, "
                     "center = %s}\n return %%r, %%c } }",
                     center ? "true" : "false"),
                 .dims = {{"B", 2}, {"N", 30}}};
    kernel_check(&c);
  }
}
END_TEST

START_TEST(det) {
  for (int n = 1; n < 7; n++) {
    tn_case c = {.text =
                     kernel_text("module @m { dims B\n func @f(%%x: f32[B, 2, %d, %d]) -> (y: f32[B, 2]) {\n"
                                 " %%y = det %%x\n return %%y } }",
                                 n, n),
                 .dims = {{"B", 3}}};
    kernel_check(&c);
  }
}
END_TEST

/* ---- dft: every radix, primes below and above the generic limit, cut and filled lines ----------------- */
static void dft(const char *type, int parts, int64_t lines, int64_t m, int64_t n, bool inverse, bool onesided,
                bool symbolic) {
  bool half = onesided && inverse;
  const char *length = symbolic ? "N" : kernel_text("%d", (int)n);
  tn_case c = {
      .text = kernel_text(
          "module @m { dims L, M, N where 1 <= N\n func @f(%%x: %s[L, M, 2, %d]) -> (y: %s[L, %s, 2, %d]) {\n"
          " %%y = dft %%x {axis = 1, n = %s, inverse = %s, onesided = %s}\n return %%y } }",
          type, parts, type, onesided && !inverse ? kernel_text("%s / 2 + 1", length) : length, half ? 1 : 2,
          length, inverse ? "true" : "false", onesided ? "true" : "false"),
      .dims = {{"L", lines}, {"M", m}, {"N", n}},
      .nmse = *type == 'f' && type[1] == '6' ? 1e-27 : 1e-12};
  kernel_check(&c);
}
START_TEST(dft_lengths) {
  static const int64_t lengths[] = {1, 2, 3, 4, 5, 7, 8, 12, 16, 31, 37, 60, 64, 74, 100, 121, 128, 400};
  for (size_t i = 0; i < TN_COUNT(lengths); i++)
    for (int symbolic = 0; symbolic < 2; symbolic++) {
      dft("f32", 1, 1, lengths[i], lengths[i], false, true, symbolic);
      dft("f32", 2, 2, lengths[i], lengths[i], true, false, symbolic);
      dft("f64", 2, 1, lengths[i], lengths[i], false, false, symbolic);
    }
}
END_TEST
START_TEST(dft_forms) {
  static const int64_t lines[] = {0, 1, 2, 9, 17};
  for (size_t i = 0; i < TN_COUNT(lines); i++)
    for (int inverse = 0; inverse < 2; inverse++)
      for (int onesided = 0; onesided < 2; onesided++)
        for (int parts = inverse && onesided ? 2 : 1; parts < 3; parts++) {
          dft("f32", parts, lines[i], 12, 15, inverse, onesided, false);
          dft("f32", parts, lines[i], 12, 8, inverse, onesided, true);
          dft("f64", parts, lines[i], 5, 8, inverse, onesided, false);
        }
}
END_TEST

/* ---- recurrences -------------------------------------------------------------------------------------- */
typedef struct net {
  const char *op, *type, *direction, *attrs;
  int h;
  int64_t s, b;
  bool weight, states, lengths, more; /* more: peepholes, or the bias behind reset_after */
} net;

static void recur(const net *n) {
  int d = !strcmp(n->direction, "both") ? 2 : 1, gates = *n->op == 'l' ? 4 : *n->op == 'g' ? 3 : 1;
  bool lstm = gates == 4;
  const char *args = kernel_text(
      "%%x: %s[S, B, %d, %d], %%h: %s[%d, B, %d], %%c: %s[%d, B, %d], %%p: %s[%d, %d], %%n: i32[B]%s",
      n->type, d, gates * n->h, n->type, d, n->h, n->type, d, n->h, n->type, d, lstm ? 3 * n->h : n->h,
      n->weight ? "" : kernel_text(", %%r: %s[%d, %d, %d]", n->type, d, gates * n->h, n->h));
  const char *weight =
      n->weight ? kernel_text("weight @r : %s[%d, %d, %d]", n->type, d, gates * n->h, n->h) : "";
  const char *state = n->states ? lstm ? "%h, %c" : "%h" : lstm ? "_, _" : "_";
  const char *more = gates == 1 ? "" : n->more ? ", %p" : ", _";
  tn_case c = {.text = kernel_text(
                   "module @m { dims S, B\n %s\n func @f(%s) -> (y: %s[S, %d, B, %d], l: %s[%d, B, %d]) {\n"
                   " %%y, %%l%s = %s %%x, %sr, %s%s, %s {direction = \"%s\"%s}\n return %%y, %%l } }",
                   weight, args, n->type, d, n->h, n->type, d, n->h, lstm ? ", %k" : "", n->op,
                   n->weight ? "@" : "%", state, more, n->lengths ? "%n" : "_", n->direction, n->attrs),
               .dims = {{"S", n->s}, {"B", n->b}},
               .int_hi = n->s + 1,
               .lo = -1,
               .hi = 1};
  kernel_check(&c);
}
static const char *const ops[] = {"lstm", "gru", "rnn"};
START_TEST(recurrent_sizes) {
  static const int units[] = {1, 5, 16, 20, 64};
  static const int64_t batches[] = {1, 3, 4, 9};
  for (size_t o = 0; o < TN_COUNT(ops); o++)
    for (size_t u = 0; u < TN_COUNT(units); u++)
      for (size_t b = 0; b < TN_COUNT(batches); b++)
        for (int weight = 0; weight < 2; weight++)
          recur(&(net){ops[o], "f32", "forward", "", units[u], 3, batches[b], weight, true, false, true});
}
END_TEST
START_TEST(recurrent_forms) {
  static const char *const directions[] = {"forward", "reverse", "both"};
  for (size_t o = 0; o < TN_COUNT(ops); o++)
    for (size_t d = 0; d < TN_COUNT(directions); d++)
      for (int bits = 0; bits < 8; bits++) {
        const char *types[] = {"f32", "f16"},
                   *attrs[] = {"", *ops[o] == 'g' ? ", reset_after, clip = 0.5" : ", clip = 0.5"};
        recur(&(net){ops[o], types[bits >> 2], directions[d], attrs[bits & 1], 6, 4, 3, bits & 1, bits & 2,
                     bits & 4, bits & 1});
      }
  recur(&(net){"lstm", "f32", "forward", ", coupled", 6, 4, 3, true, true, true, false});
  recur(&(net){"lstm", "f32", "forward", "", 6, 0, 3, true, true, true, false});
}
END_TEST
START_TEST(activations) {
  static const char *const names[] = {"relu",
                                      "affine 0.5 0.25",
                                      "leaky_relu 0.1",
                                      "thresholded_relu 0.2",
                                      "scaled_tanh 1.5 2e-1",
                                      "hard_sigmoid 0.2 0.5",
                                      "elu -0.7",
                                      "softsign",
                                      "softplus"};
  for (size_t i = 0; i < TN_COUNT(names); i++)
    recur(&(net){"lstm", "f32", "both",
                 kernel_text(", activations = \"sigmoid, tanh, %s, %s, tanh, tanh\"", names[i], names[i]), 5,
                 3, 2, false, true, false, true});
}
END_TEST

KERNEL_TESTS("irregular", scatter_types, scatter_sizes, leaves, nonzero, unique, nms, det, dft_lengths,
             dft_forms, recurrent_sizes, recurrent_forms, activations)
