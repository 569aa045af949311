/* runner.h - the main function of a test program: one Check case from a list of tests. */
#ifndef TN_TESTS_CPU_RUNNER_H
#define TN_TESTS_CPU_RUNNER_H
#include <check.h>

#define CPU_TESTS(name, ...)                                                                                 \
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
