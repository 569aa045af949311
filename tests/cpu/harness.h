/* harness.h - runs a case through the cpu plugin: for every target this machine runs, several kernel sizes
 * and numbers of threads, in buffers that end at an inaccessible page. */
#ifndef TN_TESTS_CPU_HARNESS_H
#define TN_TESTS_CPU_HARNESS_H
#include "tests/kernels/case.h"

/* The plugin's table, and the words of its last message. Its options are read from a string "key=value". */
const tn_backend *cpu_plugin(void **self);
const char *cpu_last_words(void);

/* ---- for benchmarks ---- */
typedef struct cpu_built cpu_built;
cpu_built *cpu_build(const tn_case *c, const char *target);
/* Runs all kernels once as thread `thread` of `nthreads`. */
void cpu_run(cpu_built *b, uint32_t thread, uint32_t nthreads);
void cpu_free(cpu_built *b);

#endif
