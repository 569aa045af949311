/* kernel.h - what the skeletons share: the kernel being written, the split of work over threads, row and
 * column loops.
 *
 * Each kernel becomes two functions: the exported one with the ABI of tn_kcall, which only unpacks it, and an
 * internal one whose buffers are noalias parameters, so that loop-invariant loads may leave loops. */
#ifndef TN_CPU_KERNEL_H
#define TN_CPU_KERNEL_H
#include "backends/cpu/isa.h"
#include "backends/llvm/body.h"

#define TN_CPU_Q8_BYTES 34 /* a block of a q8_0 cache: f16 scale, 32 signed bytes */
#define TN_CPU_MAX_UKR 256
typedef struct tn_cpu_ukr {
  tn_dtype dt;
  uint32_t rows, panels, flags;
  const char *name; /* tn_cpu_shared_find knows it */
} tn_cpu_ukr;

/* What was measured to be best for one kernel (a tuning file); 0: the skeleton's own model decides. */
typedef struct tn_cpu_choice {
  uint32_t rows;   /* matmul, many rows: rows of lhs per unit, at most */
  uint32_t depth;  /* of k at a time */
  uint32_t panels; /* few rows: panels at once */
  uint32_t ahead;  /* few rows: bytes that are fetched ahead in each panel */
} tn_cpu_choice;

enum { TN_CPU_NARROW_VNNI = 1, TN_CPU_NARROW_BF16 = 2, TN_CPU_NARROW_AMX = 4, TN_CPU_NARROW_ALL = 7 };

/* What is compiled, and kept in the cache, by itself: a kernel, or a micro-kernel that kernels share. */
typedef struct tn_cpu_part {
  const char *symbol; /* of the kernel, whatever it is called in the part; of a micro-kernel as it is there */
  ll_type type;       /* of a micro-kernel's function; NULL: a kernel */
  LLVMMemoryBufferRef bitcode;
  uint32_t narrow; /* TN_CPU_NARROW_*: products in it that not every target has */
} tn_cpu_part;

/* Everything compiled for one target, in one LLVM context; e.mod is the part that is being written. */
typedef struct tn_cpu_unit {
  tn_ll e;
  TN_VEC(tn_cpu_part) parts;
  tn_map shared; /* names of micro-kernels -> position in `parts` */
  tn_arena names;
  const char *layout; /* of data, as LLVM writes it */
  const tn_cpu_isa *isa;
  tn_cpu_precision precision;
  tn_cpu_choice choice; /* of the kernel that is written next */
  const tn_ir *ir;
  tn_module *m;
  ll_val zeros;
  tn_cpu_ukr ukr[TN_CPU_MAX_UKR]; /* micro-kernels written so far */
  uint32_t nukr;
} tn_cpu_unit;

/* isa is set. */
tn_status tn_cpu_unit_init(tn_cpu_unit *u);
void tn_cpu_unit_fini(tn_cpu_unit *u);
/* Between these two, what is emitted makes one part; begin gives what end takes. `shared`: the function's
 * type, or NULL for a kernel. */
LLVMModuleRef tn_cpu_part_begin(tn_cpu_unit *u);
void tn_cpu_part_end(tn_cpu_unit *u, LLVMModuleRef outer, const char *symbol, ll_type shared);

/* A function that kernels share: `find` gives it if it is written already; else write it between begin and
 * end. What find and end return can be called in the part being written. The name says all about what is in
 * it. */
typedef struct tn_cpu_shared {
  LLVMModuleRef outer;
  LLVMBasicBlockRef here;
  ll_val fn;
} tn_cpu_shared;
ll_val tn_cpu_shared_find(tn_cpu_unit *u, const char *name);
tn_cpu_shared tn_cpu_shared_begin(tn_cpu_unit *u);
ll_val tn_cpu_shared_end(tn_cpu_unit *u, const tn_cpu_shared *s, ll_val fn);

typedef struct tn_cpu_kernel {
  tn_cpu_unit *u;
  tn_ll *e;
  tn_ll_body body;
  tn_op op, root; /* root 0: a loop kernel */
  tn_cpu_choice choice;
  const char *root_name;
  tn_value yields[TN_LL_MAX_OUT]; /* what the body yields, and the buffers it goes to */
  ll_val outs[TN_LL_MAX_OUT];
  uint32_t nyields;
  ll_val scratch, thread, nthreads; /* ptr, i64, i64 */
  ll_val tickets, launch;           /* ptr, i64: tn_kcall */
  tn_dim scratch_bytes;             /* set by the skeleton; 0: none */
} tn_cpu_kernel;

/* Writes both functions of kernel op `op` under `symbol`. Fills `k` (dims in k->body.syms, scratch). Failures
 * are in u->e.error. The caller ends it with tn_cpu_kernel_fini. */
void tn_cpu_kernel_emit(tn_cpu_kernel *k, tn_cpu_unit *u, tn_op op, const char *symbol);
void tn_cpu_kernel_fini(tn_cpu_kernel *k);

/* ---- skeletons, one per kind of root ---- */
typedef void (*tn_cpu_skeleton)(tn_cpu_kernel *k);
void tn_cpu_emit_loop(tn_cpu_kernel *k);
void tn_cpu_emit_rows(tn_cpu_kernel *k);   /* softmax, layer_norm, rms_norm along the last axis */
void tn_cpu_emit_reduce(tn_cpu_kernel *k); /* reduce_*, argmax, argmin, softmax along another axis */
void tn_cpu_emit_matmul(tn_cpu_kernel *k);
void tn_cpu_emit_matmul64(tn_cpu_kernel *k); /* with an operand of f64 */
void tn_cpu_emit_expert_matmul(tn_cpu_kernel *k);
void tn_cpu_emit_conv(tn_cpu_kernel *k); /* conv, conv_transpose */
void tn_cpu_emit_pool(tn_cpu_kernel *k); /* pool, argpool */
/* A convolution with one channel and at most two outputs per group, and rows not too short; false: it is not
 * one. */
bool tn_cpu_emit_depthwise(tn_cpu_kernel *k);
void tn_cpu_emit_attention(tn_cpu_kernel *k);
void tn_cpu_emit_kv_update(tn_cpu_kernel *k);
void tn_cpu_emit_running(tn_cpu_kernel *k); /* cumsum, cumprod */
void tn_cpu_emit_ssm_scan(tn_cpu_kernel *k);
void tn_cpu_emit_sort(tn_cpu_kernel *k);
void tn_cpu_emit_library(tn_cpu_kernel *k); /* every op of backends/lib */
/* Writes the rows of a block format that v gathers to a plain buffer. */
void tn_cpu_copy_blocks(tn_cpu_kernel *k, tn_value v, ll_val out);
/* The skeleton for a root's mnemonic; the loop for any other. */
tn_cpu_skeleton tn_cpu_skeleton_of(const char *root);

/* ---- helpers ---- */
static inline tn_value tn_cpu_operand(tn_cpu_kernel *k, uint32_t i) {
  return i < k->u->ir->op_noperands(k->u->m, k->root) ? k->u->ir->op_operand(k->u->m, k->root, i) : 0;
}
static inline tn_value tn_cpu_result(tn_cpu_kernel *k, uint32_t i) {
  return k->u->ir->op_result(k->u->m, k->root, i);
}
static inline tn_type_info tn_cpu_type(tn_cpu_kernel *k, tn_value v) { return tn_ll_type(&k->body, v); }
/* Asks for scratch: `count` elements of `bytes` each, behind what was asked for before, 64-byte aligned. */
ll_val tn_cpu_scratch(tn_cpu_kernel *k, tn_dim count, uint32_t bytes);
tn_dim tn_cpu_dim_k(tn_cpu_kernel *k, int64_t v);
tn_dim tn_cpu_dim_mul(tn_cpu_kernel *k, tn_dim a, tn_dim b);
tn_dim tn_cpu_dim_add(tn_cpu_kernel *k, tn_dim a, tn_dim b);
/* d / n, rounded up */
tn_dim tn_cpu_dim_ceildiv(tn_cpu_kernel *k, tn_dim d, int64_t n);
/* The kernel's buffer of a body argument, if v is one; NULL otherwise. */
ll_val tn_cpu_arg_buffer(tn_cpu_kernel *k, tn_value v);

/* ---- share.c ---- */
/* This thread's part [lo, hi) of n units. */
void tn_cpu_share(tn_cpu_kernel *k, ll_val n, ll_val *lo, ll_val *hi);
/* The same little by little: between begin and end the units [first, end) are this thread's, at most `most`
 * of them, all of one row of `row` units. Who is done with his part takes from the others'; every unit comes
 * once, in no particular order. */
typedef struct tn_cpu_taking {
  LLVMBasicBlockRef next, none;
  ll_val first, end;
} tn_cpu_taking;
void tn_cpu_take_begin(tn_cpu_kernel *k, tn_cpu_taking *t, ll_val n, ll_val row, ll_val most);
void tn_cpu_take_end(tn_cpu_kernel *k, tn_cpu_taking *t);

/* Walks [lo, hi) of the row-major space sizes[0..n), keeping the coordinates. */
typedef struct tn_cpu_rows {
  ll_loop loop;
  ll_val sizes[TN_MAX_RANK];
  tn_ll_ix at[TN_MAX_RANK];
  ll_val flat;
  uint32_t n;
} tn_cpu_rows;
void tn_cpu_rows_begin(tn_cpu_kernel *k, tn_cpu_rows *r, const ll_val *sizes, uint32_t n, ll_val lo,
                       ll_val hi);
void tn_cpu_rows_end(tn_cpu_kernel *k, tn_cpu_rows *r);

/* Calls fn for every vector of columns [lo, hi), lo a multiple of the lanes: full vectors in a loop, then the
 * rest under a mask. acc[0..nacc) are carried from call to call; on return they hold the last values. */
typedef void (*tn_cpu_column_fn)(tn_cpu_kernel *k, void *ctx, tn_ll_ix j, ll_val mask, ll_val *acc);
void tn_cpu_columns(tn_cpu_kernel *k, ll_val lo, ll_val hi, tn_cpu_column_fn fn, void *ctx, ll_val *acc,
                    uint32_t nacc);

/* An index into a tensor of `t`'s shape: the coordinates of a row, then column(s) j. */
tn_ll_index tn_cpu_row_index(const tn_cpu_rows *r, const tn_type_info *t, tn_ll_ix j, ll_val mask);
/* Evaluates and stores every yield of the kernel at ix (all have the index's shape). */
void tn_cpu_store_yields(tn_cpu_kernel *k, const tn_ll_index *ix);

#endif
