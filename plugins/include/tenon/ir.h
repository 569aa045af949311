/* tenon/ir.h - the intermediate representation, read and changed by number through one table of functions.
 *
 * A module holds symbolic dims, weights, states, functions and metadata. Everything is an id into the
 * module's pools (0 is "none"); strings and arrays that are returned live as long as the module and are not
 * freed. A function's body is a region; a region is one list of ops in program order (SSA: an op's operands
 * come before it) and its arguments. Regions also hold the bodies of `kernel` ops.
 *
 * Built-in frontends and backends use this table like anyone's plugin: `host->ir->op_operand(m, op, 0)`. */
#ifndef TENON_IR_H
#define TENON_IR_H
#include "tenon/plugin.h"
#ifdef __cplusplus
extern "C" {
#endif

/* clang-format off: tables */
/* Element types: X(name, bits, class). Integers are two's complement, floats IEEE 754 unless named otherwise.
 */
#define TN_DTYPES(X)                                                                                         \
  X(f64, 64, FLOAT)                                                                                          \
  X(f32, 32, FLOAT)                                                                                          \
  X(f16, 16, FLOAT) X(bf16, 16, FLOAT) X(f8e4m3, 8, FLOAT) X(f8e5m2, 8, FLOAT) X(i64, 64, INT)               \
      X(i32, 32, INT) X(i16, 16, INT) X(i8, 8, INT) X(u64, 64, UINT) X(u32, 32, UINT) X(u16, 16, UINT)       \
          X(u8, 8, UINT) X(bool, 8, BOOL) X(i4, 4, INT) X(u4, 4, UINT) X(i2, 2, INT) X(u2, 2, UINT)          \
              X(f8e4m3fnuz, 8, FLOAT) X(f8e5m2fnuz, 8, FLOAT) X(f8e8m0, 8, FLOAT) X(f4e2m1, 4, FLOAT)
/* clang-format on */
enum {
  TN_DT_NONE = 0,
#define TN_X(name, bits, cls) TN_DT_##name,
  TN_DTYPES(TN_X)
#undef TN_X
      TN_DT_PLAIN_END,
  TN_DT_BLOCK = 64 /* block formats follow, in the order of ir/quant/quant.def */
};
typedef uint32_t tn_dtype;
enum { TN_CLASS_FLOAT = 1, TN_CLASS_INT, TN_CLASS_UINT, TN_CLASS_BOOL, TN_CLASS_BLOCK };

/* Ranks above this are refused by the importers. */
#define TN_MAX_RANK 8

typedef struct tn_dtype_info {
  const char *name;
  uint32_t bits;         /* per value; for block formats bytes * 8 / values, rounded up */
  uint32_t cls;          /* TN_CLASS_* */
  uint32_t block_values; /* 1 for plain types */
  uint32_t block_bytes;  /* bytes of one block; 0 for sub-byte plain types */
} tn_dtype_info;

typedef struct tn_type_info {
  tn_dtype dtype;
  uint32_t rank;
  const tn_dim *dims;
  const char *layout; /* NULL: plain row-major */
} tn_type_info;

/* Dims are interned in a canonical form: two dims are equal exactly when their ids are equal. */
enum {
  TN_DIM_CONST = 1,
  TN_DIM_SYM,
  TN_DIM_ADD,
  TN_DIM_MUL,
  TN_DIM_FLOORDIV,
  TN_DIM_MOD,
  TN_DIM_MIN,
  TN_DIM_MAX,
  TN_DIM_UNKNOWN
};
typedef struct tn_dim_info {
  uint32_t kind;
  uint32_t reserved;
  int64_t value;      /* TN_DIM_CONST */
  const char *symbol; /* TN_DIM_SYM */
  tn_dim a, b;        /* operands of the others */
} tn_dim_info;

enum { TN_VALUE_RESULT = 1, TN_VALUE_ARG, TN_VALUE_WEIGHT, TN_VALUE_STATE };
typedef struct tn_value_info {
  uint32_t kind;  /* TN_VALUE_* */
  uint32_t index; /* which result or argument */
  tn_type type;
  tn_op op;     /* RESULT: its op. ARG of a kernel body: the kernel op; of a function body: 0 */
  tn_func func; /* ARG of a function body */
  tn_weight weight;
  tn_state state;
  uint32_t nuses;
} tn_value_info;

enum {
  TN_ATTR_NONE = 0,
  TN_ATTR_BOOL,
  TN_ATTR_INT,
  TN_ATTR_FLOAT,
  TN_ATTR_STR,
  TN_ATTR_INTS,
  TN_ATTR_DIM,
  TN_ATTR_DIMS,
  TN_ATTR_DTYPE,
  TN_ATTR_DATA
};
typedef struct tn_attr {
  uint32_t kind;
  uint32_t count; /* INTS, DIMS: number of entries */
  union {
    int64_t i; /* BOOL, INT, DTYPE */
    double f;
    const char *s;
    const int64_t *ints;
    tn_dim dim;
    const tn_dim *dims;
    tn_bytes data; /* DATA: little-endian, row-major, of the op's result type */
  } u;
} tn_attr;
typedef struct tn_named_attr {
  const char *name;
  tn_attr attr;
} tn_named_attr;

enum { TN_LOC_FILE = 1, TN_LOC_NODE, TN_LOC_TENSOR, TN_LOC_PAGE, TN_LOC_FUSED, TN_LOC_DERIVED };
typedef struct tn_loc_info {
  uint32_t kind;
  uint32_t line, col; /* FILE, PAGE: 1-based; NODE: line is the node's number */
  uint32_t reserved;
  const char *name; /* file, node, tensor, page or pass */
  tn_loc a, b;      /* FUSED: both parts; DERIVED: a is the origin; NODE: a is its file, or 0 */
} tn_loc_info;

/* One stretch of a file that holds a part of a weight's bytes; parts follow each other in row-major order. */
typedef struct tn_part {
  const char *file;
  uint64_t offset, bytes;
} tn_part;
typedef struct tn_weight_info {
  const char *name;
  tn_type type;
  uint32_t nparts;
  const tn_part *parts;
  tn_value value; /* the value that stands for the weight, the same in every function */
  uint32_t reserved;
  const char *form; /* NULL: the parts' bytes as they are; else how they become the type's (frontend/forms) */
} tn_weight_info;
typedef struct tn_state_info {
  const char *name;
  tn_type type;
  tn_value value;
} tn_state_info;
typedef struct tn_func_info {
  const char *name;
  uint32_t nargs, nresults;
  const tn_value *args;
  const char *const *arg_names;
  const tn_type *results;
  const char *const *result_names;
} tn_func_info;

/* Where a new op goes: before `before`, or at the end of the body of `parent` (a kernel op) or of `func`. */
typedef struct tn_point {
  tn_func func;
  tn_op parent;
  tn_op before;
} tn_point;

typedef struct tn_op_desc {
  const char *name;         /* mnemonic, as in ops.def */
  const tn_value *operands; /* an absent optional operand is 0 */
  uint32_t noperands, nattrs;
  const tn_named_attr *attrs; /* those not named get their defaults */
  const tn_type *results;     /* needed for ops whose types are not inferred (kernel); else NULL */
  uint32_t nresults;
  tn_loc loc; /* required */
} tn_op_desc;

/* clang-format off: a table */
/* X(return type, name, (arguments)): the table, its host implementation and the host's own prototypes
 * (tn_ir_NAME, in ir/ir.h) all come from this list. New entries are appended.
 * Functions that return an id return 0 after reporting an error as a diagnostic. */
#define TN_IR_API(X)                                                                                         \
  /* types and dims */                                                                                       \
  X(const tn_dtype_info *, dtype_info, (tn_dtype t)) /* NULL: no such type */                                \
  X(tn_dtype, dtype_by_name, (const char *name))     /* 0: none */                                           \
  X(tn_dim, dim_const, (tn_module * m, int64_t v))                                                           \
  X(tn_dim, dim_sym, (tn_module * m, const char *name))                   /* declares it if new */           \
  X(tn_dim, dim_make, (tn_module * m, uint32_t kind, tn_dim a, tn_dim b)) /* ADD .. MAX */                   \
  X(void, dim_get, (tn_module * m, tn_dim d, tn_dim_info * out))                                             \
  X(uint32_t, dim_is_const, (tn_module * m, tn_dim d, int64_t *v)) /* 1 and *v, or 0 */                      \
  X(tn_status, dim_constrain, (tn_module * m, tn_dim a, tn_dim b)) /* a <= b always holds */                 \
  X(tn_type, type_make, (tn_module * m, tn_dtype dt, uint32_t rank, const tn_dim *dims, const char *layout)) \
  X(void, type_get, (tn_module * m, tn_type t, tn_type_info * out))                                          \
  /* module level */                                                                                         \
  X(tn_status, module_set_name, (tn_module * m, const char *name))                                           \
  X(const char *, module_name, (tn_module * m))                                                              \
  X(tn_status, meta_set, (tn_module * m, const char *key, const char *value)) /* NULL value removes */       \
  X(const char *, meta_get, (tn_module * m, const char *key))                 /* NULL: none */               \
  X(uint32_t, meta_count, (tn_module * m))                                                                   \
  X(const char *, meta_key, (tn_module * m, uint32_t i))                                                     \
  X(tn_weight, weight_add,                                                                                   \
    (tn_module * m, const char *name, tn_type t, const tn_part *parts, uint32_t nparts))                     \
  X(uint32_t, weight_count, (tn_module * m)) /* ids are 1..count */                                          \
  X(void, weight_get, (tn_module * m, tn_weight w, tn_weight_info * out))                                    \
  X(tn_status, weight_set_type, (tn_module * m, tn_weight w, tn_type t))                                     \
  X(tn_state, state_add, (tn_module * m, const char *name, tn_type t))                                       \
  X(uint32_t, state_count, (tn_module * m)) /* ids are 1..count */                                           \
  X(void, state_get, (tn_module * m, tn_state s, tn_state_info * out))                                       \
  X(tn_func, func_add, (tn_module * m, const char *name))                                                    \
  X(uint32_t, func_count, (tn_module * m)) /* ids are 1..count */                                            \
  X(void, func_get, (tn_module * m, tn_func f, tn_func_info * out))                                          \
  X(tn_value, func_arg_add, (tn_module * m, tn_func f, const char *name, tn_type t))                         \
  X(tn_status, func_result_names, (tn_module * m, tn_func f, const char *const *names, uint32_t n))          \
  X(tn_status, func_set_attr, (tn_module * m, tn_func f, const char *name, const tn_attr *a))                \
  X(uint32_t, func_attr, (tn_module * m, tn_func f, const char *name, tn_attr *out)) /* 1: there */          \
  /* values */                                                                                               \
  X(void, value_get, (tn_module * m, tn_value v, tn_value_info * out))                                       \
  X(tn_op, value_use, (tn_module * m, tn_value v, uint32_t i, uint32_t *operand)) /* i-th use */             \
  X(tn_status, value_set_name, (tn_module * m, tn_value v, const char *hint))     /* for printing */         \
  X(const char *, value_name, (tn_module * m, tn_value v))                        /* NULL: none */           \
  /* ops */                                                                                                  \
  X(tn_op, first_op, (tn_module * m, tn_func f, tn_op parent)) /* of a func or kernel body */                \
  X(tn_op, last_op, (tn_module * m, tn_func f, tn_op parent))                                                \
  X(tn_op, next_op, (tn_module * m, tn_op op))                                                               \
  X(tn_op, prev_op, (tn_module * m, tn_op op))                                                               \
  X(tn_op, parent_op, (tn_module * m, tn_op op)) /* 0: in a function body */                                 \
  X(tn_func, op_func, (tn_module * m, tn_op op))                                                             \
  X(uint32_t, opcode, (tn_module * m, tn_op op))                                                             \
  X(uint32_t, opcode_by_name, (const char *name)) /* 0: unknown mnemonic */                                  \
  X(const char *, opcode_name, (uint32_t code))                                                              \
  X(uint32_t, op_noperands, (tn_module * m, tn_op op))                                                       \
  X(tn_value, op_operand, (tn_module * m, tn_op op, uint32_t i)) /* 0: absent */                             \
  X(uint32_t, op_nresults, (tn_module * m, tn_op op))                                                        \
  X(tn_value, op_result, (tn_module * m, tn_op op, uint32_t i))                                              \
  X(uint32_t, op_attr,                                                                                       \
    (tn_module * m, tn_op op, const char *name, tn_attr *out)) /* 1: declared; default filled */             \
  X(tn_loc, op_loc, (tn_module * m, tn_op op))                                                               \
  X(uint32_t, body_nargs, (tn_module * m, tn_op kernel))                                                     \
  X(tn_value, body_arg, (tn_module * m, tn_op kernel, uint32_t i))                                           \
  /* building and rewriting */                                                                               \
  X(tn_op, op_create, (tn_module * m, tn_point at, const tn_op_desc *d)) /* infers, verifies */              \
  X(tn_value, body_arg_add, (tn_module * m, tn_op kernel, tn_type t))                                        \
  X(tn_status, op_set_operand, (tn_module * m, tn_op op, uint32_t i, tn_value v))                            \
  X(tn_status, op_set_attr, (tn_module * m, tn_op op, const char *name, const tn_attr *a))                   \
  X(tn_status, op_move, (tn_module * m, tn_op op, tn_point to))                                              \
  X(tn_status, op_erase, (tn_module * m, tn_op op))                        /* results must be unused */      \
  X(tn_status, value_replace, (tn_module * m, tn_value from, tn_value to)) /* in all uses */                 \
  /* locations and messages */                                                                               \
  X(tn_loc, loc_make, (tn_module * m, const tn_loc_info *l))                                                 \
  X(void, loc_get, (tn_module * m, tn_loc l, tn_loc_info * out))                                             \
  X(void, report, (tn_module * m, uint32_t severity, tn_loc l, const char *fmt, ...))                        \
  X(tn_status, weight_set_form, (tn_module * m, tn_weight w, const char *form)) /* see tn_weight_info */     \
  X(tn_status, func_drop,                                                                                    \
    (tn_module * m, tn_func f)) /* with all that were added after it; nothing may refer to them */
/* clang-format on */

typedef struct tn_ir {
  uint32_t size, flags;
#define TN_X(ret, name, args) ret(*name) args;
  TN_IR_API(TN_X)
#undef TN_X
} tn_ir;

#ifdef __cplusplus
}
#endif
#endif
