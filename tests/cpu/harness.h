/* harness.h - runs one function of a module three ways and compares: op by op with the reference kernels, and
 * fused through the cpu plugin, for every target this machine runs, several kernel sizes and numbers of
 * threads. Buffers end at an inaccessible page, so an access behind the end of a tensor is a crash. */
#ifndef TN_TESTS_CPU_HARNESS_H
#define TN_TESTS_CPU_HARNESS_H
#include "ir/ir.h"

typedef struct cpu_dim {
  const char *name;
  int64_t value;
} cpu_dim;
typedef struct cpu_case {
  const char *text; /* a module; its last function is run */
  cpu_dim dims[8];
  double lo, hi;          /* float inputs are uniform in [lo, hi); both 0: [-2, 2) */
  int64_t int_lo, int_hi; /* integer inputs in [int_lo, int_hi); both 0: [0, 5) */
  double atol, rtol;      /* 0: by element type */
  double nmse;            /* not 0: floats are compared as a whole instead */
  uint64_t seed;
  const char *pipeline;  /* NULL: "partition, fuse" and "partition, fuse{max=1}" */
  const char *precision; /* NULL: strict */
  const char *target;    /* NULL: every target that this machine runs and that differs here; else this one */
  bool every_target;     /* also those whose code should be another one's */
  uint32_t kernels;      /* not 0: so many there are behind "partition, fuse" */
  bool plain_weights;    /* weights keep their row-major layout */
  void (*fill)(const char *name, tn_dtype dt, void *data, int64_t count); /* optional: own input values */
} cpu_case;

/* Writes the first difference to stderr and aborts, which Check reports as the running test's failure. */
void cpu_check(const cpu_case *c);
/* printf into a text that lives until the next 8 calls. */
const char *cpu_text(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* The plugin's table, and the words of its last message. Its options are read from a string "key=value". */
const tn_backend *cpu_plugin(void **self);
const char *cpu_last_words(void);

/* ---- for benchmarks ---- */
typedef struct cpu_built cpu_built;
cpu_built *cpu_build(const cpu_case *c, const char *target);
/* Runs all kernels once as thread `thread` of `nthreads`. */
void cpu_run(cpu_built *b, uint32_t thread, uint32_t nthreads);
void cpu_free(cpu_built *b);

#endif
