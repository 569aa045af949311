/* case.h - tests of kernels: cases (tools/conform/case.h) that are run by the reference and through a plugin.
 * Each plugin has a harness of its own (tests/cpu/harness.c, tests/cuda/harness.c); the lists of cases are
 * the same. */
#ifndef TN_TESTS_KERNELS_CASE_H
#define TN_TESTS_KERNELS_CASE_H
#include "tools/conform/case.h"
#include <check.h>

/* Writes the first difference to stderr and aborts, which Check reports as the running test's failure. */
void kernel_check(const tn_case *c);
/* printf into a text that lives until the next 8 calls. */
const char *kernel_text(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* The main function of a test program: one Check case from a list of tests. */
#define KERNEL_TESTS(name, ...)                                                                              \
  int main(void) {                                                                                           \
    const TTest *const tests[] = {__VA_ARGS__};                                                              \
    Suite *suite = suite_create(name);                                                                       \
    TCase *all = tcase_create("all");                                                                        \
    tcase_set_timeout(all, 900);                                                                             \
    for (unsigned i = 0; i < sizeof tests / sizeof *tests; i++) tcase_add_test(all, tests[i]);               \
    suite_add_tcase(suite, all);                                                                             \
    SRunner *runner = srunner_create(suite);                                                                 \
    srunner_run_all(runner, CK_NORMAL);                                                                      \
    int failed = srunner_ntests_failed(runner);                                                              \
    srunner_free(runner);                                                                                    \
    return failed != 0;                                                                                      \
  }
#endif
