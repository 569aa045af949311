/* machine.h - what this machine can do at most with the threads of a run: bytes read from memory, products of
 * f32, bf16 and int8. Profiles and benchmarks say what part of it was reached. */
#ifndef TN_MACHINE_H
#define TN_MACHINE_H
#include "ir/base/diag.h"

typedef enum tn_limit_kind {
  TN_LIMIT_READ,
  TN_LIMIT_F32,
  TN_LIMIT_BF16,
  TN_LIMIT_INT8,
  TN_LIMITS
} tn_limit_kind;

typedef struct tn_limit {
  double best, median; /* bytes or operations (two for a product and its sum) per second; 0: not measured */
  const char *with;    /* how: "avx512f"; or, not measured, why */
} tn_limit;

typedef struct tn_machine {
  uint32_t threads, runs;
  uint64_t buffer; /* bytes that were read, all threads together */
  double seconds;  /* that measuring took */
  tn_limit limits[TN_LIMITS];
} tn_machine;

enum { TN_MACHINE_THREADS = 256 }; /* more are not measured */

/* "read", "f32", "bf16", "int8" */
const char *tn_limit_name(tn_limit_kind kind);
/* Measures with `threads` threads (0: one per core), in less than a second. */
tn_status tn_machine_measure(uint32_t threads, tn_machine *out, tn_diags *d);
/* A table, or one JSON object (without a newline at its end). */
void tn_machine_print(const tn_machine *m, tn_buf *out);
void tn_machine_json(const tn_machine *m, tn_buf *out);

/* machine_loops.c: loops that do one thing as fast as it goes. Each does `n` rounds and returns what the
 * compiler must not know; `per_round`: operations of a round. */
typedef struct tn_machine_loop {
  uint64_t (*run)(uint64_t n);
  double per_round;
  const char *with; /* how; run NULL: why there is none */
} tn_machine_loop;
tn_machine_loop tn_machine_loop_of(tn_limit_kind kind); /* not TN_LIMIT_READ */
/* Reads `bytes` bytes (a multiple of TN_MACHINE_READ_UNIT) as 1, 2 or 4 streams side by side. */
enum { TN_MACHINE_STREAMS = 4, TN_MACHINE_READ_UNIT = TN_MACHINE_STREAMS * 4096 };
uint64_t tn_machine_read(const void *p, uint64_t bytes, uint32_t streams);
#endif
