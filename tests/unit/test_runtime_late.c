/* test_runtime_late.c - programs with host steps: what they give, what they refuse, memory that does not
 * come, and damaged ones, which are refused or run without a step outside. */
#include "backends/runtime/rt.h"
#include "tests/unit/toy_late.h"
#include <check.h>
#include <stdlib.h>

static const tn_rt_kernel kernels[LATE_KERNELS] = {{late_copy, NULL}, {late_grow, NULL}};
static const tn_rt_kernel idle[LATE_KERNELS] = {{late_nothing, NULL}, {late_nothing, NULL}};
static char why[256];

typedef struct late {
  tn_buf program;
  tn_model *m;
  tn_session *s;
} late;

static void open_late(late *t, uint32_t threads) {
  t->program = late_program();
  tn_rt_source s = {.program = {t->program.text, t->program.len}, .kernels = kernels};
  ck_assert_msg(tn_rt_open(&s, &t->m, why, sizeof why) == TN_OK, "%s", why);
  tn_session_options o = {.size = sizeof o, .threads = threads};
  ck_assert_int_eq(tn_rt_api.session_new(t->m, &o, &t->s), TN_OK);
}

static void close_late(late *t) {
  tn_rt_api.session_free(t->s);
  tn_rt_api.close(t->m);
  tn_buf_fini(&t->program);
}

static float x[8] = {10, 20, 30, 40, 50, 60, 70, 80};
static int64_t n;
static uint8_t c;

static void inputs(tn_tensor *in, int64_t b) {
  in[0] = (tn_tensor){x, TN_DT_f32, 1, {b}};
  in[1] = (tn_tensor){&n, TN_DT_i64, 0, {0}};
  in[2] = (tn_tensor){&c, TN_DT_bool, 0, {0}};
}

static void check_call(late *t, int64_t b, int64_t count, bool all) {
  tn_tensor in[3], out[3] = {0}, r;
  n = count, c = all;
  inputs(in, b);
  ck_assert_msg(tn_rt_api.invoke(t->s, 0, in, out) == TN_OK, "%s", tn_rt_api.error(t->s));
  ck_assert_int_eq(tn_rt_api.result(t->s, 0, &r), TN_OK);
  ck_assert(r.dtype == TN_DT_f32 && r.rank == 1 && r.shape[0] == count);
  ck_assert(!count || !memcmp(r.data, x, (size_t)count * sizeof *x));
  ck_assert_int_eq(tn_rt_api.result(t->s, 1, &r), TN_OK);
  ck_assert_int_eq(r.shape[0], all ? b : 1);
  ck_assert(!memcmp(r.data, x, (size_t)r.shape[0] * sizeof *x));
  ck_assert_int_eq(tn_rt_api.result(t->s, 2, &r), TN_OK);
  ck_assert_int_eq(r.shape[0], b + count);
  for (int64_t i = 0; i < b + count; i++) {
    float was = i < b ? x[i] + (float)count : (float)(i - b) + (float)(count - 1 - (i - b));
    ck_assert_float_eq(((float *)r.data)[i], was);
  }
  ck_assert_int_eq(tn_rt_api.result(t->s, 3, &r), TN_NOT_FOUND);
}

START_TEST(test_values) {
  late t = {0};
  open_late(&t, 1 + (uint32_t)_i);
  ck_assert_uint_eq(tn_rt_api.entry_count(t.m), 1);
  check_call(&t, 3, 2, true);
  check_call(&t, 3, 2, true); /* nothing is planned anew */
  check_call(&t, 8, 7, false);
  check_call(&t, 1, 0, false);
  check_call(&t, 8, 8, true);
  close_late(&t);
}
END_TEST

START_TEST(test_refused) {
  late t = {0};
  tn_tensor in[3], out[3] = {0}, r;
  open_late(&t, 1);
  inputs(in, 3);
  ck_assert_int_eq(tn_rt_api.shapes(t.s, 0, in, out), TN_OK);
  ck_assert(out[0].shape[0] == -1 && out[1].shape[0] == -1 && out[2].shape[0] == -1);
  out[1].data = x, out[1].shape[0] = 3;
  ck_assert_int_eq(tn_rt_api.invoke(t.s, 0, in, out), TN_INVALID);
  ck_assert_str_eq(tn_rt_api.error(t.s),
                   "output 'some': its shape [M] is known only after the call; give no data");
  memset(out, 0, sizeof out);
  n = 4;
  ck_assert_int_eq(tn_rt_api.invoke(t.s, 0, in, out), TN_INVALID);
  ck_assert_str_eq(tn_rt_api.error(t.s), "N = 4, which the model works out at late.model:3, the limit is 3");
  ck_assert_int_eq(tn_rt_api.result(t.s, 0, &r), TN_NOT_FOUND);
  n = -1;
  ck_assert_int_eq(tn_rt_api.invoke(t.s, 0, in, out), TN_INVALID);
  ck_assert_str_eq(tn_rt_api.error(t.s), "N = -1, which the model works out at late.model:3, the least is 0");
  ck_assert_int_eq(tn_rt_api.invoke(t.s, 1, in, out), TN_NOT_FOUND); /* private */
  check_call(&t, 3, 3, true);                                        /* it goes on working */
  close_late(&t);
}
END_TEST

START_TEST(test_no_memory) {
  late t = {0};
  for (long k = 0; k < 200; k++) {
    tn_tensor in[3], out[3] = {0};
    open_late(&t, 1);
    n = 2, c = 1;
    inputs(in, 4);
    tn_mem_fail_after(k);
    tn_status status = tn_rt_api.invoke(t.s, 0, in, out);
    tn_mem_fail_after(-1);
    ck_assert(status == TN_OK || status == TN_OOM);
    check_call(&t, 4, 3, false);
    close_late(&t);
    if (status == TN_OK) return;
  }
  ck_abort_msg("200 allocations in one call");
}
END_TEST

/* Kernels that do nothing: what the runtime does by itself stays inside its memory. */
static void run_forged(char *blob, uint64_t len) {
  tn_rt_source s = {.program = {blob, len}, .kernels = idle};
  tn_model *m = NULL;
  tn_session *session = NULL;
  if (((const tn_prog_header *)(const void *)blob)->kernels.count != LATE_KERNELS) return;
  if (tn_rt_open(&s, &m, why, sizeof why)) return;
  tn_session_options o = {.size = sizeof o, .threads = 1};
  if (!tn_rt_api.session_new(m, &o, &session)) {
    tn_tensor in[256], out[256] = {0};
    for (uint32_t i = 0; i < 256; i++) in[i] = (tn_tensor){x, TN_DT_f32, 1, {3}};
    n = 2, c = 1;
    inputs(in, 3);
    for (uint32_t e = 0; e < tn_rt_api.entry_count(m); e++) tn_rt_api.invoke(session, e, in, out);
    tn_rt_api.session_free(session);
  }
  tn_rt_api.close(m);
}

START_TEST(test_forged) {
  static const uint32_t values[] = {0, 1, 2, 3, 5, 7, 100, 0x7fffffff, 0x80000000, 0xffffffff};
  tn_buf b = late_program();
  uint32_t accepted = 0, refused = 0;
  ck_assert_msg(tn_prog_check((tn_bytes){b.text, b.len}, why, sizeof why) == TN_OK, "%s", why);
  for (uint64_t i = 0; i + 4 <= b.len; i += 4)
    for (size_t k = 0; k < TN_COUNT(values); k++) {
      tn_prog_header head;
      char *copy = malloc(b.len);
      memcpy(copy, b.text, b.len);
      memcpy(copy + i, &values[k], 4);
      memcpy(&head, copy, sizeof head);
      head.hash = tn_hash_bytes(copy + sizeof head, b.len - sizeof head, 0);
      memcpy(copy, &head, sizeof head);
      if (tn_prog_check((tn_bytes){copy, b.len}, why, sizeof why))
        refused++;
      else
        accepted++, run_forged(copy, b.len);
      free(copy);
    }
  ck_assert_uint_gt(refused, 1000);
  ck_assert_uint_gt(accepted, 100);
  tn_buf_fini(&b);
}
END_TEST

int main(void) {
  Suite *s = suite_create("runtime late");
  TCase *t = tcase_create("all");
  tcase_set_timeout(t, 120);
  tcase_add_loop_test(t, test_values, 0, 3);
  tcase_add_test(t, test_refused);
  tcase_add_test(t, test_no_memory);
  tcase_add_test(t, test_forged);
  suite_add_tcase(s, t);
  SRunner *r = srunner_create(s);
  srunner_run_all(r, CK_NORMAL);
  int failed = srunner_ntests_failed(r);
  srunner_free(r);
  return failed != 0;
}
