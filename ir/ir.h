/* ir.h - the host's side of the intermediate representation: the same functions as tenon/ir.h's table, called
 * directly as tn_ir_NAME, and what only the host needs: modules, text, checks, op tables. */
#ifndef TN_IR_H
#define TN_IR_H
#include "ir/base/diag.h"
#include "tenon/ir.h"

/* tn_ir_op_create and so on. */
#define TN_X(ret, name, args) ret tn_ir_##name args;
TN_IR_API(TN_X)
#undef TN_X
extern const tn_ir tn_ir_table;

tn_module *tn_module_new(tn_diags *diags); /* NULL: no memory. diags outlives the module */
void tn_module_free(tn_module *m);
tn_diags *tn_module_diags(tn_module *m);
/* A deep copy of the whole module with the same ids. */
tn_module *tn_module_clone(tn_module *m, tn_diags *diags);

/* ---- opcodes: TN_OPC_matmul and so on, 1..TN_OPC_COUNT
 * ------------------------------------------------------ */
enum {
  TN_OPC_NONE = 0,
#define TN_OP(name, family, flags, nin0, nin1, nout, doc) TN_OPC_##name,
#define TN_IN(op, name, constraint, shape)
#define TN_OUT(op, name, shape)
#define TN_ATTR(op, name, kind, def, doc)
#define TN_OP_END(op)
#include "ir/ops.def"
#undef TN_OP
#undef TN_IN
#undef TN_OUT
#undef TN_ATTR
#undef TN_OP_END
  TN_OPC_COUNT
};

enum {
  TN_F_PURE = 1,
  TN_F_ELEMENTWISE = 2,
  TN_F_VIEW = 4,
  TN_F_COMMUTES = 8,
  TN_F_REDUCES = 16,
  TN_F_EFFECT = 32,
  TN_F_REGION = 64,
  TN_F_TERMINATOR = 128,
  TN_F_HOST = 256
};
enum { TN_C_ANY, TN_C_FLOAT, TN_C_NUMBER, TN_C_INTEGER, TN_C_BOOL, TN_C_STATE };
typedef struct tn_operand_spec {
  const char *name, *shape;
  uint8_t constraint;
  bool optional;
} tn_operand_spec;
typedef struct tn_attr_spec {
  const char *name, *def, *doc;
  uint8_t kind;
  bool required;
} tn_attr_spec;
typedef struct tn_op_spec {
  const char *name, *family, *doc;
  uint32_t flags;           /* TN_F_* */
  int min_in, max_in, nout; /* -1: any number */
  const tn_operand_spec *in, *out;
  const tn_attr_spec *attrs;
  uint32_t n_in, n_out, nattrs;
} tn_op_spec;
/* NULL for 0 and unknown codes. */
const tn_op_spec *tn_op_spec_of(uint32_t opcode);

/* ---- inference: ir/ops/ implements one tn_infer_OP per op
 * ----------------------------------------------------- */
/* Checks operands and attributes and states the result types. Reports through tn_infer_fail. The same
 * function serves the verifier: stated types must equal the inferred ones. */
typedef struct tn_infer {
  tn_module *m;
  uint32_t opcode;
  const tn_value *in;         /* 0: absent optional operand */
  uint32_t nin, nattrs, nout; /* nout: results asked for; an infer function may set it (split) */
  const tn_attr *attrs;       /* in ops.def order, defaults filled in */
  tn_type *out; /* TN_MAX_RESULTS entries; preset to the stated types where there are any, else 0 */
  tn_loc loc;
} tn_infer;
#define TN_MAX_RESULTS 64
tn_status tn_infer_fail(tn_infer *c, const char *fmt, ...)
    TN_PRINTF(2, 3); /* reports at loc, with the op's name; TN_INVALID */
#define TN_OP(name, family, flags, nin0, nin1, nout, doc) tn_status tn_infer_##name(tn_infer *c);
#define TN_IN(op, name, constraint, shape)
#define TN_OUT(op, name, shape)
#define TN_ATTR(op, name, kind, def, doc)
#define TN_OP_END(op)
#include "ir/ops.def"
#undef TN_OP
#undef TN_IN
#undef TN_OUT
#undef TN_ATTR
#undef TN_OP_END

/* Position of an attribute in c->attrs, by ops.def: TN_A_matmul_trans_b. */
#define TN_OP(name, family, flags, nin0, nin1, nout, doc) enum { TN_A_##name##_BEGIN_ = -1,
#define TN_IN(op, name, constraint, shape)
#define TN_OUT(op, name, shape)
#define TN_ATTR(op, name, kind, def, doc) TN_A_##op##_##name,
#define TN_OP_END(op)                                                                                        \
  TN_A_##op##_COUNT                                                                                          \
  }                                                                                                          \
  ;
#include "ir/ops.def"
#undef TN_OP
#undef TN_IN
#undef TN_OUT
#undef TN_ATTR
#undef TN_OP_END

/* ---- dims
 * --------------------------------------------------------------------------------------------------- */
static inline tn_dim tn_dim_add(tn_module *m, tn_dim a, tn_dim b) {
  return tn_ir_dim_make(m, TN_DIM_ADD, a, b);
}
static inline tn_dim tn_dim_mul(tn_module *m, tn_dim a, tn_dim b) {
  return tn_ir_dim_make(m, TN_DIM_MUL, a, b);
}
tn_dim tn_dim_sub(tn_module *m, tn_dim a, tn_dim b);
/* 1 if a <= b follows from canonical forms, dims >= 0 and the module's constraints; 0 if not known. */
bool tn_dim_known_le(tn_module *m, tn_dim a, tn_dim b);
/* a <= b, if a constraint says so, in whatever spelling: no search. */
bool tn_dim_stated_le(tn_module *m, tn_dim a, tn_dim b);
/* The same dim, or proved to be of the same size. */
bool tn_dim_known_eq(tn_module *m, tn_dim a, tn_dim b);
/* d with symbol `name` replaced. */
tn_dim tn_dim_substitute(tn_module *m, tn_dim d, const char *name, tn_dim by);
void tn_dim_print(tn_module *m, tn_dim d, tn_buf *out);
/* Symbols in order of declaration, and constraints a <= b in order. */
uint32_t tn_dim_symbols(tn_module *m);
const char *tn_dim_symbol(tn_module *m, uint32_t i);
uint32_t tn_dim_constraints(tn_module *m);
void tn_dim_constraint(tn_module *m, uint32_t i, tn_dim *a, tn_dim *b);
/* Product of a type's dims, as a dim; and its size in bytes for plain or block types (0 if the type is odd:
 * then an error was reported). */
tn_dim tn_type_elements(tn_module *m, tn_type t);
tn_dim tn_type_bytes(tn_module *m, tn_type t);
void tn_type_print(tn_module *m, tn_type t, tn_buf *out);

/* ---- text
 * --------------------------------------------------------------------------------------------------- */
/* Canonical text: printing, parsing and printing again gives the same bytes. */
tn_status tn_module_print(tn_module *m, tn_buf *out);
enum { TN_PRINT_NO_LOCS = 1 };
tn_status tn_module_print_flags(tn_module *m, tn_buf *out, uint32_t flags);
/* Parses `text` (of file `name`) into m; recovers at the next op and reports every error of the file. */
tn_status tn_module_parse(tn_module *m, const char *name, tn_str text);
tn_status tn_module_verify(tn_module *m);

/* ---- rewriting helpers
 * --------------------------------------------------------------------------------------- */
/* Removes f's (or the whole kernel body's) unused pure ops. Returns how many. */
uint32_t tn_func_dce(tn_module *m, tn_func f);
/* A copy of f named `name`, with the symbol `sym` replaced by `value` in every type and attribute (sym NULL:
 * a plain copy). */
tn_func tn_func_clone(tn_module *m, tn_func f, const char *name, const char *sym, tn_dim value);
#endif
