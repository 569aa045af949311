/* write_graph.h - the ONNX graph while it is being made: values with full types, nodes, initialisers, and the
 * builders that decompositions are written with.
 *
 * A row of export.def names the function that writes an op, `tn_ow_op_NAME(w, op)`: it reads operands and
 * attributes, builds nodes and states the op's results:
 *
 *   void tn_ow_op_silu(tn_ow *w, tn_op op) {
 *     tn_ov x = tn_ow_in(w, op, 0);
 *     tn_ow_out(w, op, 0, tn_ow_binary(w, "Mul", x, tn_ow_unary(w, "Sigmoid", x)));
 *   }
 *
 * Builders give 0 once anything has failed and take such zeros, so nothing is checked in between. Equal nodes
 * are made once (everything is pure), also across the functions that share a graph; what nothing uses is not
 * written. */
#ifndef TN_ONNX_WRITE_GRAPH_H
#define TN_ONNX_WRITE_GRAPH_H
#include "frontend/onnx/write.h"

typedef struct tn_ow tn_ow;
typedef uint32_t tn_ov; /* a value of the graph; 0: none, an absent input */

typedef struct tn_ow_shape {
  tn_dtype dtype;
  uint32_t rank;
  tn_dim dims[TN_MAX_RANK];
} tn_ow_shape;

enum { TN_OV_NODE, TN_OV_INPUT, TN_OV_INIT, TN_OV_OUTER };
typedef struct tn_ow_value {
  const char *name; /* NULL until names are given */
  const char *hint; /* name of the IR's value */
  tn_ow_shape type;
  uint32_t from; /* TN_OV_* */
  uint32_t node, init;
  uint32_t graph;
  bool live, shown; /* shown: in the graph's list of types already */
} tn_ow_value;

/* Attribute types are the numbers of AttributeProto.AttributeType. */
enum {
  TN_OA_FLOAT = 1,
  TN_OA_INT = 2,
  TN_OA_STRING = 3,
  TN_OA_GRAPH = 5,
  TN_OA_FLOATS = 6,
  TN_OA_INTS = 7,
  TN_OA_STRINGS = 8
};
typedef struct tn_ow_attr {
  const char *name;     /* NULL ends a list */
  uint32_t kind, count; /* count: of ints or floats */
  double f;
  int64_t i;     /* INT; GRAPH: number of the graph */
  const char *s; /* STRINGS: a line each */
  const int64_t *ints;
  const double *floats;
} tn_ow_attr;
#define TN_OW_I(key, v) ((tn_ow_attr){.name = (key), .kind = TN_OA_INT, .i = (v)})
#define TN_OW_F(key, v) ((tn_ow_attr){.name = (key), .kind = TN_OA_FLOAT, .f = (v)})
#define TN_OW_S(key, v) ((tn_ow_attr){.name = (key), .kind = TN_OA_STRING, .s = (v)})
#define TN_OW_IS(key, p, n) ((tn_ow_attr){.name = (key), .kind = TN_OA_INTS, .count = (n), .ints = (p)})
#define TN_OW_G(key, g) ((tn_ow_attr){.name = (key), .kind = TN_OA_GRAPH, .i = (g)})
#define TN_OW_ATTRS(...) ((const tn_ow_attr[]){__VA_ARGS__, {0}})

typedef struct tn_ow_node {
  const char *op, *domain; /* domain NULL: ai.onnx */
  const tn_ov *in;
  tn_ov *out;
  const tn_ow_attr *attrs;
  uint32_t nin, nout, nattrs, graph;
  bool live;
} tn_ow_node;

/* What a streamed initialiser takes from its weight (write_quant.c). */
enum {
  TN_OI_BYTES,  /* not a weight: `data` */
  TN_OI_PLAIN,  /* as stored */
  TN_OI_VALUES, /* of a block format: f32 values */
  TN_OI_CODES,  /* its codes, u4 or u8 */
  TN_OI_LEVELS, /* what the codes stand for, i8, or u8 above 128 */
  TN_OI_SCALES, /* f32, one per run */
  TN_OI_ZEROS,  /* one per run, in the codes' type */
  TN_OI_INT8    /* codes of a row of options.int8 */
};
typedef struct tn_ow_init {
  tn_ov value;
  uint32_t what;    /* TN_OI_*; BYTES: `data` */
  const void *data; /* in the arena */
  uint64_t bytes;   /* that will be written */
  tn_weight weight;
  uint32_t row;    /* of options.int8 */
  uint64_t offset; /* in the data file */
  bool external;
} tn_ow_init;

typedef struct tn_ow_graph {
  const char *name;
  uint32_t parent; /* number of the graph around it; 0 is none, the model's graph is 1 */
  TN_VEC(uint32_t) nodes;
  TN_VEC(tn_ov) inputs;
  TN_VEC(tn_ov) outputs;
  tn_map made; /* key of a node -> its number */
} tn_ow_graph;

/* A dim of the module that can be read from a value at run time. */
typedef struct tn_ow_size {
  tn_dim dim;
  tn_ov value;
  int32_t axis; /* of value; -1: value is the number itself, i64 [] */
  uint32_t graph;
} tn_ow_size;

/* A result as long as a count, and the same filled up to full size, as the IR has it. */
typedef struct tn_ow_filled {
  tn_ov full, exact;
  tn_dim count;
} tn_ow_filled;

struct tn_ow {
  const tn_ir *ir;
  tn_module *m;
  tn_ow_options o;
  tn_diags *diags;
  tn_arena arena;
  tn_status status;
  tn_func func; /* being written */
  tn_op op;     /* being written, for messages */
  uint32_t graph;
  TN_VEC(tn_ow_value) values;
  TN_VEC(tn_ow_node) nodes;
  TN_VEC(tn_ow_init) inits;
  TN_VEC(tn_ow_graph *) graphs;
  TN_VEC(tn_ow_size) sizes;
  TN_VEC(tn_ow_filled) filled;
  tn_map constants; /* contents -> value */
  tn_map names;     /* taken */
  tn_ov *of;        /* IR value -> value of the graph; one frame per function */
  uint32_t nof;
  tn_ov *states;     /* by state: what stands for it now */
  tn_ov *weights[3]; /* by weight: as stored; as f32 values; those for single rows */
  tn_dim position;   /* of decoders: tokens in the cache; 0: none */
  tn_dim capacity;
  bool task;            /* names are those of a task, not the module's own */
  bool past;            /* false: position is 0 */
  tn_ov attention_mask; /* i64 [B, keys]; 0: none */
  tn_ov position_ids;   /* i64 [B, S]; 0: none */
  tn_map noted;         /* formats that were spoken about */
  bool microsoft;       /* a node of that domain is used */
};

/* ---- errors ---- */
void tn_ow_fail(tn_ow *w, tn_status s, const char *fmt, ...) TN_PRINTF(3, 4);
static inline bool tn_ow_failed(const tn_ow *w) { return w->status != TN_OK; }

/* ---- the op being written ---- */
tn_ov tn_ow_in(tn_ow *w, tn_op op, uint32_t i); /* 0: absent */
void tn_ow_out(tn_ow *w, tn_op op, uint32_t i, tn_ov v);
void tn_ow_bind(tn_ow *w, tn_value v, tn_ov to); /* an IR value stands for `to` from now on */
void tn_ow_result_type(tn_ow *w, tn_op op, uint32_t i, tn_ow_shape *out);
int64_t tn_ow_int(tn_ow *w, tn_op op, const char *name);
double tn_ow_float(tn_ow *w, tn_op op, const char *name);
const char *tn_ow_str(tn_ow *w, tn_op op, const char *name);
tn_dim tn_ow_dim(tn_ow *w, tn_op op, const char *name);
const int64_t *tn_ow_ints(tn_ow *w, tn_op op, const char *name, uint32_t *count);
uint32_t tn_ow_dims(tn_ow *w, tn_op op, const char *name, tn_dim out[TN_MAX_RANK]);
uint32_t tn_ow_axis(tn_ow *w, tn_op op, tn_ov of); /* attribute `axis`, counted from the front */

/* ---- values ---- */
const tn_ow_shape *tn_ow_type(const tn_ow *w, tn_ov v); /* of 0: a scalar without type */
tn_dtype tn_ow_dtype(const tn_ow *w, tn_ov v);
uint32_t tn_ow_rank(const tn_ow *w, tn_ov v);
tn_dim tn_ow_size_of(const tn_ow *w, tn_ov v, int64_t axis); /* axis may be negative */
bool tn_ow_is_float(const tn_ow *w, tn_dtype t);
tn_ov tn_ow_value_add(tn_ow *w, uint32_t from, const tn_ow_shape *t, const char *hint);
tn_ov tn_ow_input(tn_ow *w, const char *name, const tn_ow_shape *t); /* of the graph being written */
void tn_ow_output(tn_ow *w, const char *name, tn_ov v);
uint32_t tn_ow_graph_begin(tn_ow *w, const char *name); /* makes it the one being written */
void tn_ow_graph_end(tn_ow *w);

/* ---- types (export.def) ---- */
uint32_t tn_ow_elem(tn_ow *w, tn_dtype t); /* TensorProto.DataType; fails where the opset has none */

/* ---- dims as values (write_dims.c) ---- */
tn_dim tn_ow_d(tn_ow *w, int64_t k);
tn_dim tn_ow_dmake(tn_ow *w, uint32_t kind, tn_dim a, tn_dim b);
tn_dim tn_ow_dsub(tn_ow *w, tn_dim a, tn_dim b);
bool tn_ow_dconst(tn_ow *w, tn_dim d, int64_t *k);
bool tn_ow_may_be_negative(tn_ow *w, tn_dim d);
tn_dim tn_ow_settled(tn_ow *w, tn_dim d); /* with what the graph fixes (a position of 0) put in */
void tn_ow_dim_text(tn_ow *w, tn_dim d, tn_buf *out);
void tn_ow_sizes_of(tn_ow *w, tn_ov v); /* the value's dims can be read from it */
void tn_ow_size_is(tn_ow *w, tn_dim d, tn_ov scalar);
tn_ov tn_ow_dim_value(tn_ow *w, tn_dim d);                            /* i64 [1] */
tn_ov tn_ow_dim_scalar(tn_ow *w, tn_dim d);                           /* i64 [] */
tn_ov tn_ow_shape_value(tn_ow *w, const tn_dim *dims, uint32_t rank); /* i64 [rank] */

/* ---- builders (write_build.c) ---- */
tn_ov tn_ow_node_typed(tn_ow *w, const char *op, const tn_ov *in, uint32_t nin, const tn_ow_attr *attrs,
                       const tn_ow_shape *out, uint32_t nout, tn_ov *outs);
#define TN_OW_IN(...)                                                                                        \
  ((const tn_ov[]){__VA_ARGS__}), (uint32_t)(sizeof((const tn_ov[]){__VA_ARGS__}) / sizeof(tn_ov))
/* A node with one output; `op` may be "com.microsoft:MatMulNBits". */
tn_ov tn_ow_node1(tn_ow *w, const char *op, const tn_ov *in, uint32_t nin, const tn_ow_attr *attrs,
                  const tn_ow_shape *out);
tn_ov tn_ow_unary(tn_ow *w, const char *op, tn_ov x);
tn_ov tn_ow_binary(tn_ow *w, const char *op, tn_ov a, tn_ov b);
tn_ov tn_ow_compare(tn_ow *w, const char *op, tn_ov a, tn_ov b); /* bool */
tn_ov tn_ow_test(tn_ow *w, const char *op, tn_ov x);             /* bool */
tn_ov tn_ow_where(tn_ow *w, tn_ov cond, tn_ov a, tn_ov b);
tn_ov tn_ow_cast(tn_ow *w, tn_ov x, tn_dtype to); /* x itself if it is of that type */
tn_ov tn_ow_const(tn_ow *w, const tn_ow_shape *t, const void *data, uint64_t bytes);
tn_ov tn_ow_scalar(tn_ow *w, tn_dtype t, double v);
tn_ov tn_ow_scalar_like(tn_ow *w, tn_ov like, double v);
tn_ov tn_ow_ints_1d(tn_ow *w, const int64_t *v, uint32_t n);
tn_ov tn_ow_full_1d(tn_ow *w, tn_dtype t, tn_dim n, double v); /* n constant */
tn_ov tn_ow_reshape(tn_ow *w, tn_ov x, const tn_dim *dims, uint32_t rank);
tn_ov tn_ow_transpose(tn_ow *w, tn_ov x, const int64_t *perm);
tn_ov tn_ow_unsqueeze(tn_ow *w, tn_ov x, const int64_t *axes, uint32_t n); /* counted in the result */
tn_ov tn_ow_squeeze(tn_ow *w, tn_ov x, const int64_t *axes, uint32_t n);
tn_ov tn_ow_expand(tn_ow *w, tn_ov x, const tn_dim *dims, uint32_t rank);
tn_ov tn_ow_slice(tn_ow *w, tn_ov x, uint32_t axis, tn_dim start, tn_dim stop, int64_t step);
tn_ov tn_ow_concat(tn_ow *w, const tn_ov *parts, uint32_t n, uint32_t axis);
tn_ov tn_ow_gather(tn_ow *w, tn_ov data, tn_ov indices, uint32_t axis);
tn_ov tn_ow_range(tn_ow *w, tn_dim start, tn_dim count); /* i64 [count] */
tn_ov tn_ow_reduce(tn_ow *w, const char *op, tn_ov x, const int64_t *axes, uint32_t n, bool keep);
tn_ov tn_ow_matmul(tn_ow *w, tn_ov a, tn_ov b);
tn_ov tn_ow_softmax(tn_ow *w, tn_ov x, uint32_t axis);

/* A state whose rows are the tokens so far (write_attention.c). */
bool tn_ow_state_grows(tn_ow *w, const tn_type_info *t);

/* The first `stop` rows of what was filled up, if that is its count (write_irregular.c); 0: it is not. */
tn_ov tn_ow_unfilled(tn_ow *w, tn_ov full, tn_dim stop);

/* ---- weights (write_quant.c) ---- */
tn_ov tn_ow_weight(tn_ow *w, tn_weight id);        /* plain types */
tn_ov tn_ow_weight_values(tn_ow *w, tn_weight id); /* block formats: f32 values by what --quantized says */
tn_ov tn_ow_weight_rows(tn_ow *w, tn_weight id);   /* the same for gather */
/* x [.., k] times a block-format weight [n, k] transposed as one node; 0: it cannot be. */
tn_ov tn_ow_weight_product(tn_ow *w, tn_ov x, tn_weight id);
tn_weight tn_ow_block_weight(tn_ow *w, tn_op op, uint32_t operand); /* 0: that operand is none */
/* write_int8.c: x times a weight, or rows of a weight, as options.int8 say of op; 0: they do not. */
tn_ov tn_ow_int8_product(tn_ow *w, tn_op op, tn_ov x);
tn_ov tn_ow_int8_rows(tn_ow *w, tn_op op, tn_ov indices);
tn_status tn_ow_int8_stream(const tn_ow_source *src, const tn_ow_init *c, const tn_writer *out);
tn_status tn_ow_init_stream(tn_ow *w, const tn_ow_source *src, const tn_ow_init *init, const tn_writer *out);

/* ---- functions (write_func.c, write_flow.c) ---- */
void tn_ow_function_body(tn_ow *w, tn_func f, const tn_ov *args, tn_ov *results);
void tn_ow_model(tn_ow *w);

/* ---- the file (write_wire.c) ---- */
tn_status tn_ow_file(tn_ow *w, const tn_ow_source *src, const char *path, tn_ow_report *report);

/* ---- rows of export.def ---- */
typedef void (*tn_ow_op_fn)(tn_ow *w, tn_op op);
#define TN_OW_SAME(op, onnx, bf16)
#define TN_OW_OP(op, words) void tn_ow_op_##op(tn_ow *w, tn_op op_);
#define TN_OW_TYPE(dtype, number, opset)
#include "frontend/onnx/export.def"
#undef TN_OW_SAME
#undef TN_OW_OP
#undef TN_OW_TYPE
#endif
