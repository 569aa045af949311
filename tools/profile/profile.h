/* profile.h - where the time of a run goes: per kernel its calls, times, work, bytes and how near it is to
 * what the machine can do. A profile has parts (prefill and decode, or one per function that ran); the
 * runtime logs events while it runs, tn_profile_take turns them into rows. */
#ifndef TN_PROFILE_H
#define TN_PROFILE_H
#include "tools/profile/machine.h"
#include "tools/tool.h"

/* A step of the program, or all steps that run the same kernel. */
typedef struct tn_profile_row {
  const char *symbol, *root, *loc; /* of the first step */
  const char *func;                /* whose kernel number `index` the step is */
  uint32_t index, kernel;          /* kernel: row of the program's kernels */
  uint32_t steps;                  /* of the function that run this kernel */
  uint64_t calls;
  double total, least, median; /* seconds, from the kernel's begin until all threads are done */
  double busy;                 /* seconds that threads worked, all together */
  double work, bytes, weights; /* of all calls: operations; bytes moved; of them weights */
  double bound;                /* seconds that all calls would take at the machine's limits */
  tn_limit_kind by;            /* the limit that is the bound: TN_LIMIT_READ or the arithmetic */
} tn_profile_row;

typedef struct tn_profile_sample {
  uint32_t row, kernel; /* of the program's steps, kernels */
  double seconds;
} tn_profile_sample;

typedef struct tn_profile_part {
  const char *what;
  int64_t batch, tokens;       /* 0: various */
  uint64_t walks, waits, lost; /* waits: steps that waited for other threads; lost: events too many to keep */
  double inside;               /* seconds from the walks' begins to their ends */
  double kernels;              /* of them in kernels; the rest is between kernels */
  double wall;                 /* seconds of the whole calls; 0: not known */
  TN_VEC(tn_profile_row) steps;  /* in the program's order */
  TN_VEC(tn_profile_row) groups; /* by kernel, the longest first */
  TN_VEC(tn_profile_sample) samples;
  TN_VEC(uint32_t) step_of; /* program row -> steps, plus 1 */
} tn_profile_part;

typedef struct tn_profile {
  const tn_opened *o;
  tn_diags *d;
  tn_arena arena;
  tn_machine machine;
  TN_VEC(tn_profile_part) parts;
  tn_buf trace; /* events of the trace so far, empty: none asked for */
  bool with_trace;
  double epoch;        /* the trace's zero */
  tn_rt_counts before; /* the session's, when what is taken next began */
} tn_profile;

/* Measures the machine with `threads` threads. Only models compiled in this process have profiles: a library
 * is an error. */
tn_status tn_profile_open(tn_profile *p, const tn_opened *o, uint32_t threads, bool trace, tn_diags *d);
void tn_profile_close(tn_profile *p); /* safe after a failed open, and on a zeroed one */
tn_status tn_profile_begin(tn_profile *p, tn_session *s);
/* What ran since begin (or the last take) belongs to part `what` (copied; NULL: to a part per function).
 * `wall`: seconds that it took from outside, or 0. */
tn_status tn_profile_take(tn_profile *p, tn_session *s, const char *what, int64_t batch, int64_t tokens,
                          double wall);
/* The part of that name and size; NULL: none, or p is NULL. */
const tn_profile_part *tn_profile_part_of(const tn_profile *p, const char *what, int64_t batch,
                                          int64_t tokens);
/* Makes the rows of the parts that have none; what is taken later goes to parts of other names. */
tn_status tn_profile_finish(tn_profile *p);

/* For commands that run once: --profile or --trace were given; open and begin if so, with *p zeroed if not;
 * take all, finish and deliver if so. */
bool tn_profile_asked(const tn_args *a);
tn_status tn_profile_start(tn_profile *p, const tn_args *a, const tn_opened *o, tn_session *s,
                           uint32_t threads, tn_diags *d);
tn_status tn_profile_stop(tn_profile *p, const tn_args *a, tn_session *s);

/* profile_report.c: a table, behind the machine's limits; `all`: every step instead of every kernel. */
void tn_profile_print(const tn_profile *p, bool limits, bool all, tn_buf *out);
/* One object: model, target, limits, parts (tools/README.md). */
void tn_profile_json(const tn_profile *p, tn_buf *out);
void tn_profile_part_json(const tn_profile *p, const tn_profile_part *part, tn_buf *out);
/* What of the bound was reached, at the median time: 1 is all, more where data came from a cache. */
double tn_profile_fraction(const tn_profile_row *r);
/* Files as --profile=FILE and --trace FILE say; for --profile without a file the table on stderr, or JSON
 * with
 * --json, if `show`. */
tn_status tn_profile_deliver(tn_profile *p, const tn_args *a, bool show);
/* Sums over all kernels of a part. */
tn_profile_row tn_profile_sum(const tn_profile_part *part);

/* cmd_bench.c: what `tenon bench` runs, with its options in `a`, for the profile only. */
tn_status tn_bench_profile(const tn_args *a, tn_opened *o, tn_profile *p, tn_diags *d);

/* profile_trace.c: events as the Chrome trace event format has them, one track per thread. */
void tn_trace_begin(tn_profile *p, uint32_t threads);
void tn_trace_event(tn_profile *p, uint32_t thread, const char *name, const char *symbol, const char *loc,
                    double begin, double end);
tn_status tn_trace_write(tn_profile *p, const char *path);
#endif
