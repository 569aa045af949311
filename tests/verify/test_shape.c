/* test_shape.c - sizes out of the texts of shapes, and texts that are none. */
#include "tools/verify/verify.h"
#include <check.h>
#include <stdlib.h>

static int64_t size_of(void *ctx, tn_str symbol) {
  (void)ctx;
  return tn_str_is(symbol, "B") ? 3 : tn_str_is(symbol, "S") ? 17 : tn_str_is(symbol, "past_length") ? 0 : 5;
}

static const struct {
  const char *text;
  uint32_t rank;
  int64_t sizes[4];
} good[] = {{"[]", 0, {0}},
            {"[B]", 1, {3}},
            {"[B, S, 384]", 3, {3, 17, 384}},
            {"[S + past_length, 2 * S - 1]", 2, {17, 33}},
            {"[(S + 1) / 2, S % 4, 100 - B * S]", 3, {9, 1, 49}},
            {"[max(S, 20), min(B, S) * 2]", 2, {20, 6}},
            {"[max(max(B, 1), min(2, 9)), -B + 10]", 2, {3, 7}},
            {"[unk__12.x_3]", 1, {5}}};

START_TEST(sizes) {
  for (size_t i = 0; i < TN_COUNT(good); i++) {
    int64_t out[4] = {0};
    ck_assert_msg(tn_shape_sizes(good[i].text, size_of, NULL, out, good[i].rank), "%s", good[i].text);
    for (uint32_t k = 0; k < good[i].rank; k++) ck_assert_int_eq(out[k], good[i].sizes[k]);
  }
}
END_TEST

START_TEST(refused) {
  static const char *const bad[] = {"",
                                    "B]",
                                    "[B",
                                    "[B S]",
                                    "[B,]",
                                    "[?]",
                                    "[B / 0]",
                                    "[max(B)]",
                                    "[(B]",
                                    "[B +]",
                                    "[...]",
                                    "[9223372036854775807 * 9]",
                                    "[B % past_length]"};
  int64_t out[8];
  for (size_t i = 0; i < TN_COUNT(bad); i++)
    ck_assert_msg(!tn_shape_sizes(bad[i], size_of, NULL, out, 1), "%s", bad[i]);
  char *deep = malloc(100002);
  memset(deep, '(', 100001), deep[0] = '[', deep[100001] = 0;
  ck_assert(!tn_shape_sizes(deep, size_of, NULL, out, 1));
  free(deep);
}
END_TEST

START_TEST(names) {
  ck_assert(tn_verify_same("ids", "input_ids"));
  ck_assert(tn_verify_same("attention_mask", "mask"));
  ck_assert(tn_verify_same("logits", "logits"));
  ck_assert(!tn_verify_same("token_type_ids", "input_ids"));
}
END_TEST

int main(void) {
  Suite *s = suite_create("verify");
  TCase *c = tcase_create("shape");
  tcase_add_test(c, sizes);
  tcase_add_test(c, refused);
  tcase_add_test(c, names);
  suite_add_tcase(s, c);
  SRunner *run = srunner_create(s);
  srunner_run_all(run, CK_NORMAL);
  int failed = srunner_ntests_failed(run);
  srunner_free(run);
  return failed != 0;
}
