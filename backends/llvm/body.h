/* body.h - evaluates the body of a kernel op at an index. A skeleton owns the loops; wherever it needs the
 * value of a tensor element (or of a vector of elements along one axis) it asks tn_ll_eval, which walks the
 * body's ops backwards, maps the index through views, and loads from the arguments. Nothing is stored on the
 * way.
 *
 * An index coordinate is one number (SCALAR), a number for lane 0 that grows by one per lane (LANES), or a
 * vector (VECTOR). If no coordinate has lanes, the value is one scalar, so what is the same for all lanes is
 * computed once. */
#ifndef TN_LLVM_BODY_H
#define TN_LLVM_BODY_H
#include "backends/llvm/emit.h"

enum { TN_IX_SCALAR, TN_IX_LANES, TN_IX_VECTOR };
typedef struct tn_ll_ix {
  ll_val v; /* i64, or a vector of i64 */
  uint32_t kind;
  uint32_t aligned; /* LANES: v is known to be a multiple of the lane count */
} tn_ll_ix;

typedef struct tn_ll_index {
  tn_ll_ix at[TN_MAX_RANK];
  tn_ll_ix line; /* collapsed: the row-major position in a tensor of shape `shape`; at[] is unused */
  ll_val flat;   /* optional: row-major position over all dims of `shape` but the last */
  ll_val pred;   /* i1, the element may be outside when false; NULL: inside */
  ll_val mask;   /* lanes inside; NULL: all */
  const tn_dim *shape;
  uint32_t rank, collapsed;
} tn_ll_index;

typedef struct tn_ll_memo {
  tn_value v;
  tn_ll_index ix;
  ll_val r;
} tn_ll_memo;

/* A value that the skeleton supplies instead of the body's op. */
typedef struct tn_ll_given {
  tn_value v;
  ll_val (*get)(void *ctx, const tn_ll_index *ix);
  void *ctx;
} tn_ll_given;

#define TN_LL_MAX_GIVEN 8
#define TN_LL_MAX_SYMS 16
typedef struct tn_ll_body {
  tn_ll *e;
  const tn_ir *ir;
  tn_module *m;
  tn_op kernel;
  ll_val args[64]; /* buffer of each body argument */
  ll_val sym_values[TN_LL_MAX_SYMS];
  tn_dim syms[TN_LL_MAX_SYMS]; /* TN_DIM_SYM dims that the kernel reads, and their values (i64) */
  uint32_t nsyms, ngiven;
  tn_ll_given given[TN_LL_MAX_GIVEN];
  uint32_t buffer_align; /* every buffer lies at a multiple of so many bytes; 0: of its element's size */
  ll_val zeros;          /* 512 zero bytes: where loads go whose predicate is false */
  TN_VEC(tn_ll_memo) memo;
  TN_VEC(tn_ll_memo) constants; /* value -> global */
} tn_ll_body;

#define TN_LL_MAX_OUT 64
typedef struct tn_ll_outline {
  tn_op root; /* 0: none, a loop over the results */
  const char *root_name;
  tn_value yields[TN_LL_MAX_OUT];
  uint32_t nyields;
} tn_ll_outline;

void tn_ll_body_init(tn_ll_body *b, tn_ll *e, const tn_ir *ir, tn_module *m, tn_op kernel);
void tn_ll_body_fini(tn_ll_body *b);
/* Reads the kernel's outline and notes in b->syms every symbolic size that it may need. */
void tn_ll_body_read(tn_ll_body *b, tn_ll_outline *out);
/* Values computed in an earlier block may not reach this one: call it whenever a block begins. */
void tn_ll_body_forget(tn_ll_body *b);
void tn_ll_body_give(tn_ll_body *b, tn_value v, ll_val (*get)(void *, const tn_ll_index *), void *ctx);

/* The value of a dim as i64. */
ll_val tn_ll_dim(tn_ll_body *b, tn_dim d);
bool tn_ll_dim_const(tn_ll_body *b, tn_dim d, int64_t *v);
tn_type_info tn_ll_type(tn_ll_body *b, tn_value v);
/* Product of dims [first, last). */
ll_val tn_ll_dims(tn_ll_body *b, const tn_dim *d, uint32_t first, uint32_t last);
/* Is dim d a constant multiple of n? */
bool tn_ll_dim_multiple(tn_ll_body *b, tn_dim d, int64_t n);

bool tn_ll_index_vec(const tn_ll_index *ix);
static inline tn_ll_ix tn_ll_ix_scalar(ll_val v) { return (tn_ll_ix){v, TN_IX_SCALAR, 0}; }
static inline tn_ll_ix tn_ll_ix_lanes(ll_val v, bool aligned) { return (tn_ll_ix){v, TN_IX_LANES, aligned}; }
ll_val tn_ll_ix_vector(tn_ll_body *b, tn_ll_ix ix);          /* as a vector of i64 */
tn_ll_ix tn_ll_ix_add(tn_ll_body *b, tn_ll_ix ix, ll_val n); /* n: i64 */
/* A position: scalar + lane * step + vector; step and vector may be NULL. */
typedef struct tn_ll_place {
  ll_val scalar, step, vector;
} tn_ll_place;
void tn_ll_place_add(tn_ll_body *b, tn_ll_place *p, tn_ll_ix ix, ll_val stride);
tn_ll_ix tn_ll_place_ix(tn_ll_body *b, const tn_ll_place *p, bool aligned);
tn_ll_ix tn_ll_ix_div(tn_ll_body *b, tn_ll_ix ix, ll_val n,
                      tn_ll_ix *rest); /* quotient, and remainder in *rest */
/* Narrows ix to where cond (i1, scalar or vector) holds. */
void tn_ll_index_where(tn_ll_body *b, tn_ll_index *ix, ll_val cond);
ll_val tn_ll_ix_compare(tn_ll_body *b, LLVMIntPredicate p, tn_ll_ix ix, ll_val n); /* i1, scalar or vector */

/* Does a layout of panels keep pairs of neighbouring k side by side, as bf16 whatever the type says? */
bool tn_ll_layout_pairs(const char *layout);

/* The element(s) of v at ix in register form (convert.h): a vector if any coordinate has lanes, else a
 * scalar. */
ll_val tn_ll_eval(tn_ll_body *b, tn_value v, const tn_ll_index *ix);
/* As eval, converted to f32. */
ll_val tn_ll_eval_f32(tn_ll_body *b, tn_value v, const tn_ll_index *ix);
/* Stores a register-form value at ix of a plain row-major buffer of v's type. A scalar with lanes in ix is
 * spread. */
void tn_ll_store_at(tn_ll_body *b, tn_value v, ll_val buffer, const tn_ll_index *ix, ll_val x);
/* Byte address of the element at ix (lanes: of lane 0) of a plain row-major buffer of v's type. */
ll_val tn_ll_address(tn_ll_body *b, tn_value v, ll_val buffer, const tn_ll_index *ix);
/* Loads `t` elements at base + bytes with ix's predicate and mask. */
ll_val tn_ll_load_guarded(tn_ll_body *b, ll_type t, ll_val p, const tn_ll_index *ix, unsigned align);

/* ---- parts (body_*.c); each gives false when the op is not its own ---- */
bool tn_ll_eval_elementwise(tn_ll_body *b, tn_op op, const char *name, tn_value v, const tn_ll_index *ix,
                            ll_val *r);
bool tn_ll_eval_view(tn_ll_body *b, tn_op op, const char *name, tn_value v, const tn_ll_index *ix, ll_val *r);
bool tn_ll_eval_leaf(tn_ll_body *b, tn_op op, const char *name, tn_value v, const tn_ll_index *ix, ll_val *r);
ll_val tn_ll_load_buffer(tn_ll_body *b, const tn_type_info *t, ll_val buffer, const tn_ll_index *ix);
ll_val tn_ll_load_block(tn_ll_body *b, const tn_type_info *t, ll_val buffer, const tn_ll_index *ix);
/* Can v be evaluated at a collapsed index of shape `space`: does no op look at single coordinates? */
bool tn_ll_is_line(tn_ll_body *b, tn_value v, const tn_type_info *space);
/* The mnemonics tn_ll_eval can evaluate for these operand types; *why gets a static reason when not. */
bool tn_ll_can_eval(const tn_ir *ir, tn_module *m, tn_op op, const char **why);
/* The index of an elementwise operand: dims of size 1 are read at 0. */
void tn_ll_broadcast_index(tn_ll_body *b, const tn_type_info *from, const tn_type_info *to,
                           const tn_ll_index *ix, tn_ll_index *out);
int64_t tn_ll_attr_int(tn_ll_body *b, tn_op op, const char *name);
double tn_ll_attr_float(tn_ll_body *b, tn_op op, const char *name);
const char *tn_ll_attr_str(tn_ll_body *b, tn_op op, const char *name);
tn_attr tn_ll_attr(tn_ll_body *b, tn_op op, const char *name);
uint32_t tn_ll_axis(int64_t axis, uint32_t rank); /* negative axes count from the end */

#endif
