/* test_driver.c - the CUDA driver is found, or the words say what is missing: against the fake driver, whose
 * settings make every case. Check runs each test in a process of its own, so each has its own driver. */
#include "backends/cuda/run/driver.h"
#include <check.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static tn_status open_with(tn_cuda_driver *d, const char *settings, const char *library, tn_buf *why) {
  setenv("TENON_FAKE_CUDA", settings, 1);
  return tn_cuda_open(d, library ? library : FAKE_CUDA, why);
}

START_TEST(devices) {
  tn_cuda_driver d;
  tn_buf why = {0};
  ck_assert_int_eq(open_with(&d, "devices=2,sm=89,memory=3G", NULL, &why), TN_OK);
  ck_assert_uint_eq(d.ndevices, 2);
  ck_assert_int_eq(d.devices[1].major * 10 + d.devices[1].minor, 89);
  ck_assert_uint_eq(d.devices[1].memory, 3ull << 30);
  ck_assert_int_eq(d.devices[1].shared_bytes, 99 * 1024);
  ck_assert_int_eq(d.version, 13000);
  tn_cuda_close(&d);
  tn_buf_fini(&why);
}
END_TEST

static const struct {
  const char *settings, *library, *words[3];
} broken[] = {
    {"", "/nonexistent/libcuda.so.1", {"no NVIDIA driver", "/nonexistent/libcuda.so.1", "--gpus all"}},
    {"", "libm.so.6", {"has no cuInit", "update it", ""}},
    {"devices=0", NULL, {"CUDA_ERROR_NO_DEVICE (100)", "CUDA_VISIBLE_DEVICES", ""}},
    {"stub=1", NULL, {"CUDA_ERROR_STUB_LIBRARY (34)", "LD_LIBRARY_PATH", ""}},
    {"driver=11080", NULL, {"for CUDA 11.8", "12.0 (driver 525)", ""}},
    {"fail=cuInit:1:803", NULL, {"CUDA_ERROR_SYSTEM_DRIVER_MISMATCH (803)", "reboot", ""}},
    {"fail=cuInit:1:802", NULL, {"(802)", "fabric", ""}},
    {"fail=cuDeviceGetName:1:999", NULL, {"looking for devices", "CUDA_ERROR_UNKNOWN (999)", ""}},
};
START_TEST(what_is_missing) {
  tn_cuda_driver d;
  tn_buf why = {0};
  ck_assert_int_eq(open_with(&d, broken[_i].settings, broken[_i].library, &why),
                   TN_UNAVAILABLE - (strstr(broken[_i].settings, "999") ? 1 : 0));
  for (int k = 0; k < 3; k++)
    ck_assert_msg(strstr(tn_buf_cstr(&why), broken[_i].words[k]) != NULL, "'%s' is not in: %s",
                  broken[_i].words[k], tn_buf_cstr(&why));
  ck_assert_ptr_null(d.library);
  tn_buf_fini(&why);
}
END_TEST

START_TEST(picking) {
  tn_cuda_driver d;
  const tn_cuda_device *x;
  tn_buf why = {0};
  ck_assert_int_eq(open_with(&d, "devices=2", NULL, &why), TN_OK);
  ck_assert_int_eq(tn_cuda_pick(&d, "cuda", &x, &why), TN_OK);
  ck_assert_int_eq(x->ordinal, 0);
  ck_assert_int_eq(tn_cuda_pick(&d, "cuda:1", &x, &why), TN_OK);
  ck_assert_int_eq(x->ordinal, 1);
  char name[64];
  snprintf(name, sizeof name, "cuda:%.12s", d.devices[1].uuid);
  ck_assert_int_eq(tn_cuda_pick(&d, name, &x, &why), TN_OK);
  ck_assert_int_eq(x->ordinal, 1);
  ck_assert_int_eq(tn_cuda_pick(&d, "cuda:GPU-", &x, &why), TN_NOT_FOUND);
  ck_assert_ptr_nonnull(strstr(tn_buf_cstr(&why), "beginning of several"));
  why.len = 0;
  ck_assert_int_eq(tn_cuda_pick(&d, "cuda:2", &x, &why), TN_NOT_FOUND);
  ck_assert_ptr_nonnull(strstr(tn_buf_cstr(&why), "cuda:1 Fake GPU 1"));
  ck_assert_int_eq(tn_cuda_pick(&d, "cuda:", &x, &why), TN_INVALID);
  ck_assert_int_eq(tn_cuda_pick(&d, "rocm", &x, &why), TN_INVALID);
  why.len = 0;
  pid_t child = fork();
  if (!child) {
    tn_status s = tn_cuda_pick(&d, "cuda", &x, &why);
    _exit(s == TN_PRECONDITION && strstr(tn_buf_cstr(&why), "child of a fork") ? 0 : 1);
  }
  int status = 1;
  waitpid(child, &status, 0);
  ck_assert_int_eq(status, 0);
  tn_buf_fini(&why);
}
END_TEST

START_TEST(words) {
  tn_cuda_driver d;
  tn_buf why = {0};
  ck_assert_int_eq(open_with(&d, "", NULL, &why), TN_OK);
  ck_assert_int_eq(tn_cuda_words(&d, CUDA_SUCCESS, "x", &why), TN_OK);
  ck_assert_uint_eq(why.len, 0);
  ck_assert_int_eq(tn_cuda_words(&d, CUDA_ERROR_OUT_OF_MEMORY, "kernel k", &why), TN_OOM);
  ck_assert_ptr_nonnull(strstr(tn_buf_cstr(&why), "kernel k: CUDA_ERROR_OUT_OF_MEMORY (2): out of memory; "));
  why.len = 0;
  ck_assert_int_eq(tn_cuda_words(&d, (CUresult)12345, "kernel k", &why), TN_INTERNAL);
  ck_assert_ptr_nonnull(strstr(tn_buf_cstr(&why), "unknown CUDA error (12345)"));
  ck_assert(tn_cuda_sticky(CUDA_ERROR_ILLEGAL_ADDRESS) && !tn_cuda_sticky(CUDA_ERROR_OUT_OF_MEMORY));
  tn_buf_fini(&why);
}
END_TEST

int main(void) {
  Suite *s = suite_create("cuda driver");
  TCase *t = tcase_create("driver");
  tcase_add_test(t, devices);
  tcase_add_loop_test(t, what_is_missing, 0, (int)TN_COUNT(broken));
  tcase_add_test(t, picking);
  tcase_add_test(t, words);
  suite_add_tcase(s, t);
  SRunner *r = srunner_create(s);
  srunner_run_all(r, CK_NORMAL);
  int failed = srunner_ntests_failed(r);
  srunner_free(r);
  return failed != 0;
}
