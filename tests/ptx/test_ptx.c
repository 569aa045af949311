/* test_ptx.c - the interpreter on broken modules: cut off anywhere, with any byte changed, it says one clear
 * line or loads, and nothing leaks. A launch that faults frees what it had. */
#include "tests/ptx/ptx.h"
#include <check.h>
#include <stdlib.h>

static const char good[] =
    ".version 8.0\n.target sm_90a\n.address_size 64\n.global .align 4 .u32 g[2] = {1, 2};\n.extern .shared "
    ".align 16 .b8 s[];\n"
    ".visible .entry k(.param .u64 p0, .param .u32 p1) .maxntid 64, 1, 1\n{\n.reg .pred %p<3>;\n.reg .b32 "
    "%r<9>;\n.reg .b64 %d<4>;\n"
    "mov.u32 %r0, %tid.x;\nld.param.u64 %d0, [p0];\nmad.wide.u32 %d0, %r0, 4, %d0;\nld.global.u32 %r1, "
    "[%d0];\nsetp.lt.u32 %p1, %r0, 7;\n"
    "@%p1 bra L1;\n{ .reg .f32 f; mov.f32 f, 0f3F800000; add.rn.f32 f, f, 1.5; mov.b32 %r1, f; }\nL1:\n"
    "shfl.sync.bfly.b32 %r2|%p2, %r1, 1, 31, -1;\nbar.sync 0;\nst.global.u32 [%d0], %r2;\nret;\n}\n";

static void load(const char *text, uint64_t len, bool must) {
  char error[PTX_ERROR];
  ptx_memory *m = ptx_memory_new(0);
  ptx_module *x = ptx_load(m, text, len, error);
  ck_assert(x ? !error[0] : strncmp(error, "line ", 5) == 0 && strlen(error) > 8 && !strchr(error, '\n'));
  if (must) ck_assert_ptr_nonnull(x);
  ptx_unload(x);
  ptx_memory_free(m);
}

START_TEST(cut_off) {
  load(good, sizeof good - 1, true);
  for (uint64_t n = 0; n + 1 < sizeof good; n++) load(good, n, false);
}
END_TEST

START_TEST(changed) {
  static const char bytes[] = "\0 {}[]();,.@%:+-|<>0x9zZ\"/\x80\xff";
  char copy[sizeof good];
  for (uint64_t at = 0; at + 1 < sizeof good; at += 3)
    for (size_t b = 0; b < sizeof bytes - 1; b++) {
      memcpy(copy, good, sizeof good);
      copy[at] = bytes[b];
      load(copy, sizeof good - 1, false);
    }
}
END_TEST

START_TEST(nested_and_long) {
  tn_buf b = {0};
  tn_buf_puts(&b, ".version 8.0\n.target sm_80\n.address_size 64\n.entry k() {\n");
  for (int i = 0; i < 1000; i++) tn_buf_puts(&b, "{ ");
  load(b.text, b.len, false);
  b.len = 0;
  tn_buf_puts(&b, ".version 8.0\n.target sm_80\n.address_size 64\n.entry k() {\n.reg .b32 %r<100001>;\n}\n");
  load(b.text, b.len, false);
  b.len = 0;
  tn_buf_puts(&b, ".version 8.0\n.target sm_80\n.global .b8 big[9223372036854775807];\n");
  load(b.text, b.len, false);
  tn_buf_fini(&b);
}
END_TEST

/* Runs k on one warp with `bytes` bytes behind its pointer. */
static ptx_fault run(const char *text, uint64_t bytes, char *error) {
  ptx_memory *m = ptx_memory_new(0);
  ptx_module *x = ptx_load(m, text, strlen(text), error);
  ck_assert_msg(x != NULL, "%s", error);
  struct {
    uint64_t p;
    uint32_t n;
  } params = {ptx_alloc(m, bytes), 0};
  memset(ptx_host(m, params.p, bytes, true), 1, bytes);
  ptx_launch l = {.grid = {1, 1, 1},
                  .block = {32, 1, 1},
                  .params = &params,
                  .flags = PTX_CHECK_RACES | PTX_CHECK_UNWRITTEN};
  ptx_fault f = ptx_run(ptx_find(x, "k"), &l, NULL, error);
  ptx_unload(x);
  ptx_memory_free(m);
  return f;
}

START_TEST(faults_free) {
  char error[PTX_ERROR];
  ck_assert_int_eq(run(good, 128, error), PTX_OK);
  ck_assert_int_eq(run(good, 124, error), PTX_BAD_ADDRESS);
  ck_assert_ptr_nonnull(strstr(error, "lane 31"));
  ck_assert_ptr_nonnull(strstr(error, "beyond the allocation of 124 bytes"));
}
END_TEST

START_TEST(memory_fails) {
  char error[PTX_ERROR];
  for (long n = 1; n < 60; n++) { /* the n-th allocation gives NULL */
    ptx_memory *m = ptx_memory_new(0);
    tn_mem_fail_after(n);
    ptx_module *x = ptx_load(m, good, sizeof good - 1, error);
    tn_mem_fail_after(-1);
    ck_assert(x || error[0]);
    ptx_unload(x);
    ptx_memory_free(m);
  }
}
END_TEST

int main(void) {
  Suite *s = suite_create("ptx");
  TCase *t = tcase_create("ptx");
  tcase_set_timeout(t, 120);
  tcase_add_test(t, cut_off);
  tcase_add_test(t, changed);
  tcase_add_test(t, nested_and_long);
  tcase_add_test(t, faults_free);
  tcase_add_test(t, memory_fails);
  suite_add_tcase(s, t);
  SRunner *r = srunner_create(s);
  srunner_run_all(r, CK_NORMAL);
  int failed = srunner_ntests_failed(r);
  srunner_free(r);
  return failed != 0;
}
