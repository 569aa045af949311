/* program.h - the step program: the compiled model as data, walked by backends/runtime.
 *
 * One flat little-endian blob: a header, then tables of fixed-size rows and a string pool, all named by
 * (offset, count). The same bytes serve JIT and ahead-of-time. The reader (backends/runtime) checks every
 * offset, index and expression before it uses any, so a damaged blob is refused, never followed.
 *
 * An entry point is a list of steps over one arena. Sizes are expressions over the module's dims: rows of
 * `exprs`, each naming only earlier rows, evaluated in order whenever a dim changes.
 *
 * Most steps are kernels. Between them stand host steps, done by one thread: BIND gives a dim its value from
 * a tensor, IF and LOOP run other entries. A called entry starts with the dims of its caller; symbols that
 * have no value there get theirs from the shapes of its inputs. Called entries are private: they stand behind
 * all public ones, and an entry calls only entries behind itself.
 *
 * Kernels of one backend may run on a device with memory of its own. Inputs begin in the host's memory,
 * outputs end there, host steps and called entries use it, weights are where a kernel wants them, and states
 * lie, between calls, on the device if any kernel there uses them. COPY steps do the rest: every kernel finds
 * what it reads on its side. A slot lies at the same offset in both arenas. */
#ifndef TN_PROGRAM_H
#define TN_PROGRAM_H
#include "tenon/plugin.h"

#define TN_PROGRAM_MAGIC "tnprog\0\1"
#define TN_PROGRAM_VERSION 4u
#define TN_PROG_NONE 0xffffffffu

typedef struct tn_prog_span {
  uint32_t offset, count;
} tn_prog_span; /* bytes from the blob's start; rows */

typedef struct tn_prog_header {
  char magic[8];
  uint32_t version;
  uint32_t device;      /* string + 1: the backend whose kernels run on a device; 0: none do */
  uint64_t bytes;       /* of the whole blob */
  uint64_t hash;        /* tn_hash_bytes over everything behind the header, seed 0 */
  tn_prog_span strings; /* bytes; names are offsets into it, NUL-terminated */
  tn_prog_span dims, constraints, exprs, entries, variants, args, slots, steps, operands, scalars;
  tn_prog_span weights, states, kernels, meta, binds, calls;
  tn_prog_span tokenizer; /* bytes of the tokenizer blob (frontend/tokenizer); count 0: none */
  tn_prog_span text;      /* bytes: the lowered IR, for --emit program and profiles; may be empty */
  uint32_t name;          /* string: the model's name */
  uint32_t npublic;       /* entries of callers outside */
} tn_prog_header;

enum {                           /* how a dim gets its value */
       TN_PROG_DIM_INPUT = 0,    /* from the shapes of the inputs of a call */
       TN_PROG_DIM_POSITION = 1, /* tokens already in the session's states; the runtime advances it */
       TN_PROG_DIM_CAPACITY = 2  /* fixed when the session is opened */
};
typedef struct tn_prog_dim {
  uint32_t name, source;
  int64_t max; /* largest legal value; INT64_MAX: no limit */
} tn_prog_dim;
typedef struct tn_prog_constraint {
  uint32_t a, b;
} tn_prog_constraint; /* expr a <= expr b */
typedef struct tn_prog_expr {
  uint32_t kind, a, b, reserved;
  int64_t value;
} tn_prog_expr; /* kind TN_DIM_*; CONST value; SYM a = dim row; else a, b = earlier rows */

typedef struct tn_prog_meta {
  uint32_t key, value;
} tn_prog_meta;

/* A tensor at the border of an entry point, or a state: shape is `rank` rows of `scalars` (expression rows).
 */
typedef struct tn_prog_arg {
  uint32_t name, dtype, rank, shape;
} tn_prog_arg;

typedef struct tn_prog_entry {
  uint32_t name;
  uint32_t first_input, ninputs;     /* rows of args */
  uint32_t first_output, noutputs;   /* rows of args */
  uint32_t first_variant, nvariants; /* tried in order; the last one has no condition */
} tn_prog_entry;
typedef struct tn_prog_variant {
  uint32_t dim; /* row of dims, or TN_PROG_NONE */
  uint32_t first_step, nsteps;
  uint32_t first_slot, nslots; /* rows of slots */
  uint32_t reserved;
  int64_t equals; /* taken when the dim has this value */
} tn_prog_variant;
/* A slot whose size is known from the start lies in the variant's arena, at a multiple of 64 bytes; those
 * that do not live in the same step may share memory. Others are there once step `after` - 1 of the variant,
 * a host step, is done: either their size is known then, and they lie in memory of that step's, or (bytes
 * TN_PROG_NONE) they are what an IF or LOOP gave, in memory of its own. */
typedef struct tn_prog_slot {
  uint32_t bytes;       /* expression row */
  uint32_t after;       /* 0: known from the start */
  uint32_t from, until; /* the first step of the variant that may use it, and the first that may not; until 0:
                           all from there on may */
} tn_prog_slot;

enum {
  TN_PROG_SLOT = 0,
  TN_PROG_INPUT,
  TN_PROG_OUTPUT,
  TN_PROG_WEIGHT,
  TN_PROG_STATE,
  TN_PROG_ABSENT /* the first two operands of a LOOP only */
};
typedef struct tn_prog_operand {
  uint32_t kind, index;
} tn_prog_operand; /* index within the entry (SLOT: within the variant) */

enum { TN_PROG_KERNEL = 0, TN_PROG_BIND, TN_PROG_IF, TN_PROG_LOOP, TN_PROG_COPY };
enum { TN_PROG_UPLOAD = 0, TN_PROG_DOWNLOAD }; /* of COPY: to the device, to the host */
typedef struct tn_prog_step {
  uint32_t kernel; /* row of kernels, of binds or of calls; COPY: its direction, operand 0 is what */
  uint32_t first_operand, noperands; /* tn_kcall.bufs */
  uint32_t first_scalar, nscalars;   /* rows of scalars: expression rows, tn_kcall.dims */
  uint32_t scratch;                  /* expression row: bytes per thread, or TN_PROG_NONE */
  uint32_t flags;                    /* TN_KERNEL_* */
  uint32_t loc;                      /* string: where in the model it comes from */
  uint32_t work; /* expression row + 1: floating-point operations, roughly; 0: not known */
  uint32_t kind; /* TN_PROG_KERNEL ...; others have no scalars, scratch or flags */
  /* How many of the steps right before it a kernel of the host need not wait for: none of them writes what it
   * reads or writes, reads what it writes, or uses slots whose memory it may take over. 0: it waits for all.
   */
  uint32_t ahead;
} tn_prog_step;

/* BIND: operand 0 has one integer, the dim's value. */
typedef struct tn_prog_bind {
  uint32_t dim;   /* row of dims */
  uint32_t dtype; /* of the operand */
  uint32_t max;   /* expression row, or TN_PROG_NONE */
  uint32_t reserved;
} tn_prog_bind;
/* IF: operands cond, the inputs of both entries, the results. LOOP: operands trip and cond (either may be
 * ABSENT), the inputs of the entry behind its first one, which counts the iterations; the results. The
 * entry's first output says whether to go on. The rows of args tell the tensors as the caller sees them: a
 * bare dim of a result that has no value yet gets it from what the entry gave. */
typedef struct tn_prog_call {
  uint32_t entry;            /* IF: when cond is true */
  uint32_t otherwise;        /* IF: when it is not; LOOP: TN_PROG_NONE */
  uint32_t first_arg, nargs; /* rows of args: the inputs of an IF's entries, of a LOOP's behind the first */
  uint32_t first_result, nresults; /* rows of args */
  uint32_t carried;                /* LOOP: inputs and results that each iteration gets from the one before */
  uint32_t trip;                   /* LOOP: element type of operand 0 */
} tn_prog_call;

typedef struct tn_prog_kernel {
  uint32_t symbol, backend;
} tn_prog_kernel; /* strings */

typedef struct tn_prog_weight {
  uint32_t name, dtype, layout; /* layout: string or TN_PROG_NONE for plain */
  uint32_t rank, shape;         /* first of `rank` rows of scalars */
  uint32_t file;          /* string: original file (inplace), or TN_PROG_NONE: the packed weight section */
  uint64_t offset, bytes; /* in the weight section (64-byte aligned) or file */
} tn_prog_weight;
typedef struct tn_prog_state {
  tn_prog_arg arg;
} tn_prog_state;
#define TN_PROG_SETTING "adapters" /* a state of this name is written by the host, between calls */

#endif
