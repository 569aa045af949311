/* lib.h - irregular ops as plain C: kernels whose work depends on data, or whose loops no skeleton could
 * write better than a compiler. One function per op, `tn_lib_OP`, called with the op's tensors and attributes
 * as they are; generated code of the cpu backend calls them by name, so they are in its plugin and in every
 * artefact.
 *
 * They run on every thread of the pool at once, split their work by thread and nthreads (or leave all to
 * thread 0), never wait for each other, and allocate nothing: scratch comes with the call. Results that
 * nobody wants have no data. */
#ifndef TN_LIB_H
#define TN_LIB_H
#include "ir/base/base.h"
#include "tenon/ir.h"

typedef struct tn_lib_tensor {
  void *data; /* NULL: absent, or not wanted */
  int64_t dims[TN_MAX_RANK];
  uint32_t rank, dtype;
  uint32_t panels; /* packed as panels of 16 rows (backends/cpu/pack.c), not row-major */
  uint32_t reserved;
} tn_lib_tensor;

/* BOOL, INT, DTYPE and DIM as i, FLOAT as f, STR as s, INTS as ints and count. */
typedef struct tn_lib_attr {
  union {
    int64_t i;
    double f;
    const char *s;
    const int64_t *ints;
  } u;
  int64_t count;
} tn_lib_attr;

enum { TN_LIB_PLAIN, TN_LIB_AVX2, TN_LIB_AVX512 }; /* what the processor has: tn_lib_call.isa */

typedef struct tn_lib_call {
  const tn_lib_tensor *in, *out; /* one per operand and result of the op in ops.def */
  const tn_lib_attr *attrs;      /* in the order of ops.def: TN_LIB_A_OP_NAME */
  void *scratch;                 /* this thread's own, 64-byte aligned */
  const void *table;             /* what tn_lib_OP_table wrote; NULL: to be made in scratch */
  uint32_t thread, nthreads, isa, nin;
} tn_lib_call;
typedef void (*tn_lib_fn)(const tn_lib_call *c);

#define TN_LIB_KERNELS(X)                                                                                    \
  X(scatter)                                                                                                 \
  X(nonzero)                                                                                                 \
  X(unique)                                                                                                  \
  X(nms) X(top_k) X(det) X(dft) X(lstm) X(gru) X(rnn) X(delta_scan) X(copy_ranges) X(equal_ranges)           \
      X(split_ranges) X(change_case)

#define TN_X(op) void tn_lib_##op(const tn_lib_call *c);
TN_LIB_KERNELS(TN_X)
#undef TN_X
#define TN_X(op) +1
enum { TN_LIB_COUNT = 0 TN_LIB_KERNELS(TN_X) };
#undef TN_X

typedef struct tn_lib_row {
  const char *op, *symbol;
  tn_lib_fn fn;
} tn_lib_row;
const tn_lib_row *tn_lib_rows(void);           /* TN_LIB_COUNT of them */
const tn_lib_row *tn_lib_find(const char *op); /* NULL: the op has no kernel here */

/* Scratch a thread needs, in bytes. unique: per row of x; nms: per box; top_k: per k; det: per element of a
 * matrix. */
enum { TN_LIB_UNIQUE_ROW = 24, TN_LIB_NMS_BOX = 48, TN_LIB_TOP_K = 16, TN_LIB_DET_ELEMENT = 8 };
/* dft: for a line of n; `table`: also the table. More than n times TN_LIB_DFT_MOST + 4096 is never needed. */
uint64_t tn_lib_dft_scratch(int64_t n, bool wide, bool table);
enum { TN_LIB_DFT_MOST = 1200 };
/* lstm, gru, rnn: sequences that a thread walks at once; rows of a panel of the matrix. */
enum { TN_LIB_RECUR_ROWS = 4, TN_LIB_PANEL = 16 };

/* dft: twiddle factors and the like for one length. Bytes; written to `out` unless it is NULL. */
uint64_t tn_lib_dft_table(int64_t n, bool wide, void *out);

/* Position of an attribute: TN_LIB_A_scatter_reduce. */
#define TN_OP(name, family, flags, nin0, nin1, nout, doc) enum { TN_LIB_A_##name##_BEGIN_ = -1,
#define TN_IN(op, name, constraint, shape)
#define TN_OUT(op, name, shape)
#define TN_ATTR(op, name, kind, def, doc) TN_LIB_A_##op##_##name,
#define TN_OP_END(op)                                                                                        \
  TN_LIB_A_##op##_COUNT                                                                                      \
  }                                                                                                          \
  ;
#include "ir/ops.def"
#undef TN_OP
#undef TN_IN
#undef TN_OUT
#undef TN_ATTR
#undef TN_OP_END

static inline int64_t tn_lib_count(const tn_lib_tensor *t) {
  int64_t n = 1;
  for (uint32_t i = 0; i < t->rank; i++) n *= t->dims[i];
  return n;
}
/* This thread's part [lo, hi) of n units. */
static inline void tn_lib_share(const tn_lib_call *c, int64_t n, int64_t *lo, int64_t *hi) {
  *lo = n * c->thread / c->nthreads;
  *hi = n * (c->thread + 1) / c->nthreads;
}
/* Bytes of an element of a plain type of whole bytes. */
uint32_t tn_lib_bytes(uint32_t dtype);
/* A number that orders like element i: -0 and 0 are equal, NaN is above all. */
int64_t tn_lib_key(const tn_lib_tensor *t, int64_t i);
/* Element i of an integer or bool tensor. */
int64_t tn_lib_int(const tn_lib_tensor *t, int64_t i);
/* Elements of any plain type as doubles, or floats, and back. */
void tn_lib_load(const tn_lib_tensor *t, int64_t first, int64_t n, double *out);
void tn_lib_store(const tn_lib_tensor *t, int64_t first, int64_t n, const double *in);
void tn_lib_load_f32(const tn_lib_tensor *t, int64_t first, int64_t n, float *out);
void tn_lib_store_f32(const tn_lib_tensor *t, int64_t first, int64_t n, const float *in);

#endif
