/* kernel.h - what the skeletons share: the kernel being written and its launches.
 *
 * A kernel op becomes one or more launches, written one after the other by its skeleton: launch_begin opens a
 * function with the kernel's buffers, scratch and sizes as its parameters and leaves the builder in its entry
 * block; launch_end closes it. Launches of a kernel are made in order, each sees what those before it wrote.
 * How big a grid is, is a dim expression over the module's symbols, evaluated by the run side.
 *
 * Inside a launch, tn_ll_eval and the rest of backends/llvm/body.h work as on a CPU: an index of scalars
 * gives one element for this thread, an index whose last coordinate has e->lanes lanes (set e->lanes before
 * launch_begin; 4 unless changed) gives a vector, which becomes wide loads and stores. */
#ifndef TN_CUDA_KERNEL_H
#define TN_CUDA_KERNEL_H
#include "backends/cuda/package.h"
#include "backends/cuda/target.h"
#include "backends/llvm/body.h"
#include <llvm-c/TargetMachine.h>

typedef struct tn_cuda {
  tn_host host;
  tn_ir ir;
  uint32_t cc; /* of this machine's first device, 90; 0: there is none; TN_CUDA_NONE: nobody has looked */
} tn_cuda;
/* Words for an error, then its number: `return tn_cuda_fail(...)`. */
tn_status tn_cuda_fail(tn_cuda *c, tn_module *m, tn_loc loc, tn_status status, const char *fmt, ...)
    TN_PRINTF(5, 6);

/* Everything that is compiled for one target. Each kernel is written into a module of its own (e.mod). */
typedef struct tn_cuda_unit {
  tn_ll e;
  tn_cuda *c;
  const tn_ir *ir;
  tn_module *m;
  const tn_cuda_target *target;
  tn_cuda_precision precision;
  LLVMTargetMachineRef machine;
} tn_cuda_unit;

/* A tensor map over a buffer or scratch, sizes[0] innermost; see tn_cuda_map_row. */
typedef struct tn_cuda_map {
  uint32_t buffer, type, rank, swizzle, promotion; /* buffer: inputs first, then outputs */
  tn_dim scratch;              /* where tn_cuda_scratch put the tensor; 0: it lies in `buffer` */
  tn_dim sizes[5], strides[5]; /* elements; bytes, [0] unused */
  uint32_t box[5];
} tn_cuda_map;

/* How a launch is shaped. */
typedef struct tn_cuda_shape {
  uint32_t threads;    /* of a block: a multiple of 32, at most 1024 */
  uint32_t min_blocks; /* per multiprocessor that registers must allow; 0: not said */
  uint32_t cluster;    /* blocks of a cluster along x; 0: none */
  uint32_t resident; /* blocks per multiprocessor: no more are launched along x, so they loop; 0: no limit */
  tn_dim grid[3];    /* blocks along x, y, z; 0: one. y and z at most 65535: put what is large into x */
  const tn_cuda_map *maps;
  uint32_t nmaps;
} tn_cuda_shape;

/* A launch as it was written. */
typedef struct tn_cuda_launch {
  char *function;
  tn_cuda_shape shape;
  tn_cuda_map maps[TN_CUDA_MAX_MAPS];
  uint32_t shared; /* bytes of dynamic shared memory */
} tn_cuda_launch;

typedef struct tn_cuda_kernel {
  tn_cuda_unit *u;
  tn_ll *e;
  tn_ll_body body; /* body.args: generic pointers to the inputs */
  tn_op op, root;  /* root 0: a loop kernel */
  const char *root_name, *symbol;
  tn_value yields[TN_LL_MAX_OUT];
  uint32_t nyields;
  tn_dim scratch_bytes; /* asked for so far; 0: none */
  tn_arena *arena;
  tn_cuda_launch launches[TN_CUDA_MAX_LAUNCHES];
  uint32_t nlaunches;
  /* of the launch being written */
  ll_val outs[TN_LL_MAX_OUT];    /* generic pointers to the results' buffers */
  ll_val scratch;                /* generic pointer */
  ll_val maps[TN_CUDA_MAX_MAPS]; /* pointers to the tensor maps, in the parameter space */
  ll_val shared_base;            /* dynamic shared memory, addrspace(3) */
  uint32_t shared_used;
} tn_cuda_kernel;

void tn_cuda_launch_begin(tn_cuda_kernel *k, const tn_cuda_shape *shape);
void tn_cuda_launch_end(tn_cuda_kernel *k); /* adds the return, which every path must reach */

/* `bytes` of this block's shared memory, a pointer of addrspace(3), behind what was taken before. align: a
 * power of 2 up to 1024. Fails the kernel when the target has not as much. Within one launch. */
ll_val tn_cuda_shared(tn_cuda_kernel *k, uint32_t bytes, uint32_t align);
/* Offset in bytes (a dim, to be given to tn_cuda_scratch_at in any launch) of scratch in device memory:
 * `bytes` (a dim expression) rounded up to 256. One block of scratch serves all launches of the kernel; its
 * contents are undefined at the first. */
tn_dim tn_cuda_scratch(tn_cuda_kernel *k, tn_dim bytes);
ll_val tn_cuda_scratch_at(tn_cuda_kernel *k, tn_dim offset);

/* ---- dims ---- */
tn_dim tn_cuda_dim_k(tn_cuda_kernel *k, int64_t v);
tn_dim tn_cuda_dim_mul(tn_cuda_kernel *k, tn_dim a, tn_dim b);
tn_dim tn_cuda_dim_add(tn_cuda_kernel *k, tn_dim a, tn_dim b);
tn_dim tn_cuda_dim_min(tn_cuda_kernel *k, tn_dim a, tn_dim b);
tn_dim tn_cuda_dim_max(tn_cuda_kernel *k, tn_dim a, tn_dim b);
tn_dim tn_cuda_dim_ceildiv(tn_cuda_kernel *k, tn_dim d, int64_t n); /* d / n, rounded up */
tn_dim tn_cuda_dim_count(tn_cuda_kernel *k, const tn_type_info *t, uint32_t first,
                         uint32_t last); /* product */

/* ---- operands ---- */
static inline tn_value tn_cuda_operand(tn_cuda_kernel *k, uint32_t i) { /* 0: absent */
  return i < k->u->ir->op_noperands(k->u->m, k->root) ? k->u->ir->op_operand(k->u->m, k->root, i) : 0;
}
static inline tn_value tn_cuda_result(tn_cuda_kernel *k, uint32_t i) {
  return k->u->ir->op_result(k->u->m, k->root, i);
}
static inline tn_type_info tn_cuda_type(tn_cuda_kernel *k, tn_value v) { return tn_ll_type(&k->body, v); }
/* The kernel's buffer of a body argument, if v is one (seen through reshapes); NULL otherwise. *number: its
 * position among the kernel's buffers (for tensor maps); may be NULL. */
ll_val tn_cuda_buffer(tn_cuda_kernel *k, tn_value v, uint32_t *number);
/* Evaluates and stores every yield of the kernel at ix (all have the index's shape). */
void tn_cuda_store_yields(tn_cuda_kernel *k, const tn_ll_index *ix);
/* A row-major position (i64) of t as an index of scalars. */
tn_ll_index tn_cuda_index(tn_cuda_kernel *k, const tn_type_info *t, ll_val position);

/* ---- skeletons: one record per family, listed in skeletons.def ---- */
typedef struct tn_cuda_ask { /* what claim and fuse are asked about */
  tn_cuda *c;
  const tn_ir *ir;
  tn_module *m;
  tn_op root, op; /* claim: op alone */
  const char *root_name, *name;
} tn_cuda_ask;
typedef struct tn_cuda_skeleton {
  const char *const *roots; /* mnemonics, ends in NULL */
  /* May the op be a root? Says yes only to what emit can write. *why: static words, when not. NULL: always.
   */
  bool (*claim)(const tn_cuda_ask *a, const char **why);
  /* May a->op join a->root's kernel before (prologue) or behind it (epilogue)? Called only for ops that
   * tn_ll_eval can evaluate, or (prologue) for norms and kv_update. NULL: never. The answer must not depend
   * on the target: one graph serves all. */
  bool (*prologue)(const tn_cuda_ask *a);
  bool (*epilogue)(const tn_cuda_ask *a);
  void (*emit)(tn_cuda_kernel *k);
} tn_cuda_skeleton;
#define TN_CUDA_SKELETON(name) extern const tn_cuda_skeleton tn_cuda_skeleton_##name;
#include "backends/cuda/skeletons.def"
#undef TN_CUDA_SKELETON
/* The skeleton of a root's mnemonic; NULL: none, it is written as a loop or not at all. */
const tn_cuda_skeleton *tn_cuda_skeleton_of(const char *root);

/* For claim and fuse. */
tn_type_info tn_cuda_type_of(const tn_cuda_ask *a, tn_value v); /* zeros for v = 0 */
/* Every operand and result has a type of whole bytes whose elements tn_ll_eval can load: no packed bits, no
 * block format. */
bool tn_cuda_plain(const tn_cuda_ask *a, const char **why);
int64_t tn_cuda_attr_int(const tn_cuda_ask *a, tn_op op, const char *name, int64_t otherwise);
/* Elementwise on results of the root's own shape: what every epilogue takes. */
bool tn_cuda_takes_elementwise(const tn_cuda_ask *a);

/* ---- compile.c, key.c ---- */
void tn_cuda_kernel_emit(tn_cuda_kernel *k, tn_cuda_unit *u, tn_op op, const char *symbol);
void tn_cuda_kernel_fini(tn_cuda_kernel *k);
#endif
