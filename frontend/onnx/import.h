/* import.h - one import of an ONNX model, as the files of this room share it; lowerings see lower.h only.
 *
 * Names are looked up in scopes: one for the graph, one for each body of If, Loop and Scan (which sees the
 * scopes around it) and one for each call of a function (which sees nothing else). A name stands for an item.
 * A node that fails leaves poisoned items behind, and nodes that read those are skipped without a word. */
#ifndef TN_ONNX_IMPORT_H
#define TN_ONNX_IMPORT_H
#include "frontend/onnx/lower.h"
#include "frontend/onnx/model.h"

enum { TN_OX_TENSOR = 1, TN_OX_LIST, TN_OX_NONE, TN_OX_INIT, TN_OX_ABSENT, TN_OX_POISON, TN_OX_TEXT };

struct tn_ox_item {
  uint32_t kind, count;
  tn_value value;              /* TENSOR */
  tn_value *values;            /* LIST */
  const tn_ox_tensor_proto *t; /* INIT: not used so far */
  const Onnx__SparseTensorProto *sparse;
  uint32_t body; /* TENSOR: where it is visible (tn_ox.body); 0: everywhere */
};

/* What a call of a function gives for its attributes. */
typedef struct tn_ox_env {
  Onnx__AttributeProto **attrs;
  uint32_t count;
} tn_ox_env;

typedef struct tn_ox_scope {
  struct tn_ox_scope *outer; /* NULL: none is visible */
  tn_map names;              /* -> tn_ox_item * */
  const tn_ox_env *env;
  Onnx__OperatorSetIdProto **opsets;
  size_t nopsets;
  uint32_t depth;     /* of bodies and calls */
  const char *prefix; /* of node names: "call.inner." */
} tn_ox_scope;

/* One row of onnx.def. */
typedef struct tn_ox_row {
  const char *domain, *op;
  int64_t first, last;
  tn_ox_lower_fn lower;
  const char *attrs;
} tn_ox_row;

struct tn_ox_node {
  tn_ox *x;
  const Onnx__NodeProto *p;
  uint32_t number;
  int64_t version;
  const char *domain; /* as in onnx.def */
  const tn_ox_row *row;
  tn_ox_scope *scope;
  Onnx__AttributeProto **attrs; /* with references resolved */
  uint32_t nattrs;
  tn_ox_item **outs;
  uint64_t read; /* bits of the inputs, up to 64, that the lowering asked for */
  tn_loc loc;
};

/* What is known of an element at import. */
enum { TN_OX_UNKNOWN, TN_OX_DIM, TN_OX_REAL };
typedef struct tn_ox_elem {
  uint32_t kind;
  tn_dim dim;
  double real;
} tn_ox_elem;
typedef struct tn_ox_elems {
  uint32_t count;
  tn_ox_elem at[];
} tn_ox_elems;

/* Where the bytes of a value lie in a file of the model's folder, and what is known of a packed matrix
 * (packed.c). */
typedef struct tn_ox_held {
  tn_value v;
  tn_part part;
} tn_ox_held;
struct tn_ox_noted;

struct tn_ox {
  const tn_host *host;
  const tn_ir *ir;
  tn_module *m;
  const tn_options *options;
  tn_arena arena;
  tn_diags diags;
  tn_ox_model model;
  tn_loc file;                 /* the model */
  tn_func func;                /* whose body is being built */
  uint32_t body, bodies;       /* its number, never used again; how many there were */
  tn_ox_node *node;            /* that is being lowered */
  bool failed;                 /* it has */
  bool invalid;                /* some node was wrong, not only unsupported */
  tn_status broken;            /* not TN_OK: the import cannot go on */
  uint32_t fresh;              /* names of symbols and functions */
  uint64_t steps;              /* nodes lowered, also in calls and unrolled loops */
  TN_VEC(tn_ox_elems *) known; /* by value */
  TN_VEC(tn_dim) same;         /* pairs that are equal */
  tn_map weights;              /* by address of the data */
  TN_VEC(tn_ox_scope *) scopes;
  TN_VEC(tn_ox_held) held;            /* constants */
  TN_VEC(struct tn_ox_noted *) noted; /* packed.c; in the arena */
};

struct tn_hf;

/* ---- graph.c
 * -------------------------------------------------------------------------------------------------- */
tn_ox_scope *tn_ox_scope_new(tn_ox *x, tn_ox_scope *outer);
/* States a name; a second time is an error of the node or graph. */
tn_status tn_ox_define(tn_ox *x, tn_ox_scope *s, const char *name, tn_ox_item *item);
/* The item of a name, also of outer scopes; NULL: there is none. */
tn_ox_item *tn_ox_find(tn_ox *x, tn_ox_scope *s, const char *name);
tn_ox_item *tn_ox_item_of(tn_ox *x, tn_value v);
tn_ox_item *tn_ox_poison(tn_ox *x);
/* What input i of a node names, which counts as read; NULL: absent. */
tn_ox_item *tn_ox_operand(tn_ox *x, tn_ox_node *n, uint32_t i);
/* An item's tensor in the body that is being built; 0: none. */
tn_value tn_ox_item_value(tn_ox *x, tn_ox_item *item);
/* Lowers the nodes of a graph, in an order in which they can run. */
tn_status tn_ox_run_nodes(tn_ox *x, tn_ox_scope *s, Onnx__NodeProto **nodes, size_t n);
/* Adds a graph's initialisers and lowers its nodes in scope s. */
tn_status tn_ox_run_graph(tn_ox *x, tn_ox_scope *s, const tn_ox_graph *g);
/* The names that a graph reads from outside, each once, in order of first use. */
typedef TN_VEC(const char *) tn_ox_names;
tn_status tn_ox_captures(tn_ox *x, const tn_ox_graph *g, tn_ox_names *out);

/* order.c: `order[i]` is the node that runs i-th. Fails on cycles. */
tn_status tn_ox_order(tn_ox *x, const tn_ox_scope *scope, Onnx__NodeProto **nodes, size_t n, uint32_t *order);

/* ---- entry.c
 * -------------------------------------------------------------------------------------------------- */
tn_status tn_ox_import_entry(tn_ox *x, const struct tn_hf *about);

/* ---- meta.c
 * --------------------------------------------------------------------------------------------------- */
/* config.json and its companions beside the model; *h->config is NULL where there is none. `path`: what was
 * imported, a file or a folder. Closed by tn_ox_about_close in any case. */
tn_status tn_ox_about_read(tn_ox *x, const char *path, struct tn_hf *h);
void tn_ox_about_close(struct tn_hf *h);
/* The module's metadata (frontend/frontend.h). */
tn_status tn_ox_set_meta(tn_ox *x, const char *path, struct tn_hf *h);
const char *tn_ox_entry_name(tn_ox *x, const tn_ox_graph *g, const struct tn_hf *h);
/* How a model of sentences makes one vector of the first output: cls, mean, max or lasttoken; NULL: it does
 * not. */
const char *tn_ox_pooling(const struct tn_hf *h);
bool tn_ox_normalizes(const struct tn_hf *h);
/* pooling.c: that vector, from the outputs of all tokens and their mask; 0: failed. */
tn_value tn_ox_pool(tn_ox *x, tn_value hidden, tn_value mask, const char *mode, bool normalize);

/* ---- node.c
 * --------------------------------------------------------------------------------------------------- */
const tn_ox_row *tn_ox_row_find(const char *domain, const char *op, int64_t version, bool *known);
const char *tn_ox_domain_name(const char *domain); /* "" -> "ai.onnx" */
tn_status tn_ox_lower_node(tn_ox *x, tn_ox_scope *s, const Onnx__NodeProto *p, uint32_t number);
const Onnx__AttributeProto *tn_ox_attr(const tn_ox_node *n, const char *name);
/* A graph attribute; fails the node when it is missing. */
const tn_ox_graph *tn_ox_graph_attr(tn_ox *x, tn_ox_node *n, const char *name);
/* The place as words: "node 12 'layer.0/MatMul' (MatMul, ai.onnx 17)". */
const char *tn_ox_place(tn_ox *x, const tn_ox_node *n);

/* function.c: a call of one of the model's functions; *found false: it is none. */
tn_status tn_ox_call(tn_ox *x, tn_ox_node *n, bool *found);

/* ---- constants.c
 * ---------------------------------------------------------------------------------------------- */
/* A tensor as a constant or a weight. */
tn_value tn_ox_tensor_value(tn_ox *x, const tn_ox_tensor_proto *t, const char *name);
tn_value tn_ox_sparse_value(tn_ox *x, const Onnx__SparseTensorProto *t, const char *name);
tn_value tn_ox_constant(tn_ox *x, tn_dtype t, const int64_t *dims, uint32_t rank, const void *data,
                        uint64_t bytes);

/* ---- ops/text.c
 * ----------------------------------------------------------------------------------------------- */
/* The three arguments of an input of strings; `positions` is the type of starts and lengths. */
tn_ox_item *tn_ox_text_input(tn_ox *x, const char *name, tn_type positions);
/* An item of kind TEXT as a result: its elements one after the other. */
tn_ox_text tn_ox_text_output(tn_ox *x, const tn_ox_item *item);
/* A tensor of strings as output i. */
tn_status tn_ox_out_strings(tn_ox *x, tn_ox_node *n, uint32_t i, const tn_ox_tensor_proto *t);

/* ---- known.c
 * -------------------------------------------------------------------------------------------------- */
/* Notes what is known of a new op's results. */
void tn_ox_note(tn_ox *x, tn_op op);
const tn_ox_elems *tn_ox_known(tn_ox *x, tn_value v); /* NULL: nothing */
void tn_ox_know(tn_ox *x, tn_value v, const tn_ox_elem *elems, uint32_t count);

/* ---- dims.c
 * --------------------------------------------------------------------------------------------------- */
tn_dim tn_ox_dmake(tn_ox *x, uint32_t kind, tn_dim a, tn_dim b);
bool tn_ox_dnonneg(tn_ox *x, tn_dim d);          /* for certain */
bool tn_ox_dequal(tn_ox *x, tn_dim a, tn_dim b); /* for certain, also by what tn_ox_same was told */
/* a <= b has to hold at run time. */
void tn_ox_require_le(tn_ox *x, tn_dim a, tn_dim b);
/* The size of two that broadcast. */
tn_dim tn_ox_dbroadcast(tn_ox *x, tn_dim a, tn_dim b);
/* A symbol's name from words of the model: letters, digits and _. */
const char *tn_ox_symbol_name(tn_ox *x, const char *words);
tn_type tn_ox_type_of(tn_ox *x, tn_value v);
/* The shape to which two broadcast. */
bool tn_ox_broadcast_dims(tn_ox *x, tn_value a, tn_value b, tn_dim *out, uint32_t *rank);
#endif
