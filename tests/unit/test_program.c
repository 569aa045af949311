/* test_program.c - damaged step programs are refused with words and never followed. */
#include "backends/runtime/view.h"
#include "backends/runtime/rt.h"
#include "tests/unit/toy.h"
#include <check.h>
#include <stdlib.h>
#define TOY_LINKAGE static
#include "tests/unit/toy_kernels.h"

static const tn_rt_kernel kernels[TOY_KERNELS] = {
    {toy_gather, NULL}, {toy_scale, NULL}, {toy_one, NULL}, {toy_append, NULL}, {toy_next, NULL}};
static char why[256];

static tn_status check(const tn_buf *b) {
  why[0] = 0;
  return tn_prog_check((tn_bytes){b->text, b->len}, why, sizeof why);
}

/* A copy of exactly n bytes, so that the address sanitizer sees a step behind the end. */
static tn_status check_copy(const char *bytes, uint64_t n) {
  char *copy = malloc(n ? n : 1);
  memcpy(copy, bytes, n);
  tn_status status = tn_prog_check((tn_bytes){copy, n}, why, sizeof why);
  free(copy);
  return status;
}

START_TEST(test_whole) {
  tn_buf b = toy_program("toy", NULL, 0, (tn_bytes){0});
  ck_assert_msg(check(&b) == TN_OK, "%s", why);
  tn_view v;
  ck_assert_int_eq(tn_view_open((tn_bytes){b.text, b.len}, &v, why, sizeof why), TN_OK);
  ck_assert_str_eq(tn_view_str(&v, v.head->name), "toy");
  ck_assert_str_eq(tn_view_meta(&v, "architecture"), "Toy");
  ck_assert_ptr_null(tn_view_meta(&v, "none"));
  ck_assert_int_eq(tn_view_limit(&v, 1), 8);
  bool stateful[2];
  ck_assert_int_eq(v.nentries, 2);
  tn_view_find_stateful(&v, stateful);
  ck_assert(!stateful[0] && stateful[1]);
  tn_buf text = {0};
  tn_view_shape_text(&v, v.args[2].rank, v.args[2].shape, &text);
  ck_assert_str_eq(tn_buf_cstr(&text), "[B, S, 4]");
  tn_buf_fini(&text);
  tn_view_expr_text(&v, v.constraints[0].a, &text);
  ck_assert_str_eq(tn_buf_cstr(&text), "P + S");
  tn_buf_fini(&text);
  tn_buf_fini(&b);
}
END_TEST

START_TEST(test_truncated) {
  tn_buf b = toy_program("toy", NULL, 0, (tn_bytes){0});
  for (uint64_t n = 0; n < b.len; n++) ck_assert_int_ne(check_copy(b.text, n), TN_OK);
  tn_buf_fini(&b);
}
END_TEST

/* Behind the header every flipped bit is seen; in it, at worst another legal header is. */
START_TEST(test_flipped) {
  tn_buf b = toy_program("toy", NULL, 0, (tn_bytes){0});
  for (uint64_t i = 0; i < b.len; i++)
    for (int bit = 0; bit < 8; bit++) {
      b.text[i] ^= (char)(1 << bit);
      tn_status status = check(&b);
      if (i >= sizeof(tn_prog_header)) ck_assert_int_eq(status, TN_DATA_LOSS);
      if (status) ck_assert_str_ne(why, "");
      b.text[i] ^= (char)(1 << bit);
    }
  ck_assert_int_eq(check(&b), TN_OK);
  tn_buf_fini(&b);
}
END_TEST

/* What a forger would do: every word of the blob changed and the hash made right again. Whatever is still
 * accepted can be opened, described and bound without a step outside. */
static void open_forged(const tn_buf *b, const float *weights) {
  tn_rt_source s = {.program = {b->text, b->len},
                    .kernels = kernels,
                    .weights = weights,
                    .weights_bytes = TOY_WEIGHT_BYTES};
  tn_model *m = NULL;
  tn_session *session = NULL;
  if (((const tn_prog_header *)(const void *)b->text)->kernels.count != TOY_KERNELS) return;
  if (tn_rt_open(&s, &m, why, sizeof why)) return;
  tn_session_options o = {.size = sizeof o, .threads = 1, .capacity = 8};
  if (!tn_rt_api.session_new(m, &o, &session)) {
    tn_tensor in[256], out[256];
    for (int i = 0; i < 256; i++) in[i] = (tn_tensor){NULL, TN_DT_i32, 2, {2, 3}};
    for (uint32_t e = 0; e < tn_rt_api.entry_count(m); e++) tn_rt_api.shapes(session, e, in, out);
    tn_rt_api.session_free(session);
  }
  tn_rt_api.close(m);
}

START_TEST(test_forged) {
  static const uint32_t values[] = {0, 1, 2, 7, 100, 0x7fffffff, 0x80000000, 0xffffffff};
  tn_buf b = toy_program("toy", NULL, 0, (tn_bytes){0});
  float weights[TOY_WEIGHT_BYTES / 4];
  toy_weights(weights);
  uint32_t accepted = 0, refused = 0;
  for (uint64_t i = 0; i + 4 <= b.len; i += 4)
    for (size_t k = 0; k < TN_COUNT(values); k++) {
      tn_prog_header head;
      char *copy = malloc(b.len);
      memcpy(copy, b.text, b.len);
      memcpy(copy + i, &values[k], 4);
      memcpy(&head, copy, sizeof head);
      head.hash = tn_hash_bytes(copy + sizeof head, b.len - sizeof head, 0);
      memcpy(copy, &head, sizeof head);
      tn_status status = tn_prog_check((tn_bytes){copy, b.len}, why, sizeof why);
      if (status)
        refused++;
      else
        accepted++, open_forged(&(tn_buf){copy, b.len, b.len, false}, weights);
      free(copy);
    }
  ck_assert_uint_gt(refused, 1000);
  ck_assert_uint_gt(accepted, 100);
  tn_buf_fini(&b);
}
END_TEST

static void refused(toy_blob *t, const char *words) {
  if (!t->strings.len) t->name = toy_str(t, "x");
  tn_buf b = toy_finish(t);
  ck_assert_int_ne(check(&b), TN_OK);
  ck_assert_msg(strstr(why, words) != NULL, "'%s' does not contain '%s'", why, words);
  tn_buf_fini(&b);
}

START_TEST(test_words) {
  toy_blob t = {0};
  toy_op(&t, TN_DIM_ADD, 0, 1);
  refused(&t, "expression 0 names expression 0 of 0");
  memset(&t, 0, sizeof t);
  toy_op(&t, TN_DIM_UNKNOWN, 0, 0);
  refused(&t, "expression 0 has kind 9");
  memset(&t, 0, sizeof t);
  toy_sym(&t, 3);
  refused(&t, "expression 0 names dim 3 of 0");
  memset(&t, 0, sizeof t);
  t.name = 70;
  toy_str(&t, "x");
  refused(&t, "name at 70 of 2 string bytes");
  memset(&t, 0, sizeof t);
  toy_arg(&t, "a", 63, 0, 0);
  refused(&t, "argument 0 has element type 63");
  memset(&t, 0, sizeof t);
  toy_arg(&t, "a", TN_DT_f32, 9, 0);
  refused(&t, "rank 9, the limit is 8");
  memset(&t, 0, sizeof t);
  uint32_t n = toy_const(&t, 3), name = toy_str(&t, "w");
  TOY_ROW(&t, weights, tn_prog_weight,
          {name, TN_DT_f16, TN_PROG_NONE, 1, TOY_SCALARS(&t, n), TN_PROG_NONE, 0, 12});
  refused(&t, "weight 0 has 12 bytes for 3 values of f16");
  memset(&t, 0, sizeof t);
  name = toy_str(&t, "e");
  TOY_ROW(&t, variants, tn_prog_variant, {.dim = TN_PROG_NONE, .nsteps = 1});
  TOY_ROW(&t, entries, tn_prog_entry, {name, 0, 0, 0, 0, 0, 1});
  refused(&t, "variant 0 names steps 0 to 1 of 0");
  memset(&t, 0, sizeof t);
  name = toy_str(&t, "e");
  TOY_ROW(&t, kernels, tn_prog_kernel, {name, name});
  toy_step(&t, 0, TOY_OPERANDS({TN_PROG_SLOT, 0}), 0, 0, TN_PROG_NONE, 0);
  TOY_ROW(&t, variants, tn_prog_variant, {.dim = TN_PROG_NONE, .nsteps = 1});
  TOY_ROW(&t, entries, tn_prog_entry, {name, 0, 0, 0, 0, 0, 1});
  refused(&t, "step 0 names operand 0 of 0");
}
END_TEST

START_TEST(test_header) {
  tn_buf b = toy_program("toy", NULL, 0, (tn_bytes){0});
  tn_prog_header *h = (tn_prog_header *)(void *)b.text;
  h->version = 99;
  ck_assert_int_eq(check(&b), TN_UNSUPPORTED);
  ck_assert_str_eq(why, "program: version 99, this runtime reads 4");
  h->version = TN_PROGRAM_VERSION;
  h->hash ^= 1;
  ck_assert_int_eq(check(&b), TN_DATA_LOSS);
  ck_assert_ptr_nonnull(strstr(why, "damaged: its hash is"));
  tn_buf_fini(&b);
}
END_TEST

/* A shared sub-expression doubles at every row: the text must stay short. */
START_TEST(test_text_is_bounded) {
  toy_blob t = {0};
  t.name = toy_str(&t, "x");
  uint32_t e = toy_const(&t, 1);
  for (int i = 0; i < 60; i++) e = toy_op(&t, TN_DIM_ADD, e, e);
  tn_buf b = toy_finish(&t), text = {0};
  tn_view v;
  ck_assert_int_eq(tn_view_open((tn_bytes){b.text, b.len}, &v, why, sizeof why), TN_OK);
  tn_view_expr_text(&v, e, &text);
  ck_assert_uint_lt(text.len, 20000);
  tn_buf_fini(&text);
  tn_buf_fini(&b);
}
END_TEST

int main(void) {
  Suite *s = suite_create("program");
  TCase *c = tcase_create("check");
  tcase_set_timeout(c, 120);
  tcase_add_test(c, test_whole);
  tcase_add_test(c, test_truncated);
  tcase_add_test(c, test_flipped);
  tcase_add_test(c, test_forged);
  tcase_add_test(c, test_words);
  tcase_add_test(c, test_header);
  tcase_add_test(c, test_text_is_bounded);
  suite_add_tcase(s, c);
  SRunner *r = srunner_create(s);
  srunner_run_all(r, CK_ENV);
  int failed = srunner_ntests_failed(r);
  srunner_free(r);
  return failed != 0;
}
