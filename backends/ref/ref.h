/* ref.h - the reference kernels: plain C, one tn_ref_op_OP per op, accumulation in double. The oracle of
 * every test, the constant folder, and (backend.c) the shortest example of a backend. */
#ifndef TN_REF_H
#define TN_REF_H
#include "ir/base/base.h"
#include "tenon/ir.h"

typedef struct tn_ref_tensor {
  tn_dtype dtype;
  uint32_t rank;
  int64_t dims[TN_MAX_RANK];
  void *data; /* row-major; sub-byte and block types packed along the last dim */
} tn_ref_tensor;

typedef struct tn_ref_call {
  const tn_ir *ir;
  tn_module *m;
  tn_op op;                /* attributes are read from here */
  const tn_ref_tensor *in; /* data NULL: absent operand */
  uint32_t nin;
  tn_ref_tensor *out; /* shapes and data set by the caller */
  uint32_t nout;
  int64_t (*dim)(void *ctx, tn_dim d); /* value of a symbolic dim */
  void *ctx;
  tn_arena *scratch;
  char error[160];
} tn_ref_call;
typedef tn_status (*tn_ref_fn)(tn_ref_call *c);
/* By mnemonic; NULL: unknown op. */
tn_ref_fn tn_ref_of(const char *mnemonic);

/* Element i as a double / int64, and back (rounding to the type); any plain dtype. */
double tn_ref_get(const tn_ref_tensor *t, int64_t i);
void tn_ref_set(tn_ref_tensor *t, int64_t i, double v);
int64_t tn_ref_get_int(const tn_ref_tensor *t, int64_t i);
void tn_ref_set_int(tn_ref_tensor *t, int64_t i, int64_t v);
int64_t tn_ref_count(const tn_ref_tensor *t); /* elements */
uint64_t tn_ref_bytes(const tn_ir *ir, const tn_ref_tensor *t);

/* Dequantises n values (a multiple of the block) of a block format. TN_UNSUPPORTED: not a block format. */
tn_status tn_ref_dequant(tn_dtype format, const void *blocks, float *out, int64_t n);

/* Runs one op, all of whose result dims are constant, on `in` (one entry per operand; data NULL: absent).
 * Sets the shapes of out[0 .. results) and allocates their data in `a`. TN_UNSUPPORTED: a structural op;
 * TN_PRECONDITION: a dim is symbolic. */
tn_status tn_ref_eval(const tn_ir *ir, tn_module *m, tn_op op, const tn_ref_tensor *in, uint32_t nin,
                      tn_ref_tensor *out, tn_arena *a);

/* The backend `ref` as a built-in plugin. Its packages work only in the process, and during the life of the
 * module, that they were compiled from. */
const tn_plugin *tn_plugin_query_ref(uint32_t host_abi, const char **why);

#endif
