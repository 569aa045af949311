/* eval.h - the evaluator's values and state. Running a page computes everything that the config decides at
 * once and builds ops for the rest. A wrong line gives a BAD value, which is passed on in silence, so that
 * one run finds all independent errors: every missing tensor of a checkpoint, not only the first. */
#ifndef TN_EVAL_H
#define TN_EVAL_H
#include "frontend/describe/page.h"

typedef enum tn_val_kind {
  TN_V_BAD,     /* an error was reported */
  TN_V_MISSING, /* a key that the config lacks: `or` and `default` catch it */
  TN_V_NONE,
  TN_V_BOOL,
  TN_V_INT,
  TN_V_REAL,
  TN_V_TEXT, /* names of tensors with their alternatives; a plain text has one */
  TN_V_DIM,
  TN_V_TENSOR,
  TN_V_LIST,
  TN_V_OBJECT, /* an object of the config: may be counted and asked with a dotted key */
  TN_V_UNSET   /* a parameter that got no argument */
} tn_val_kind;

typedef struct tn_val tn_val;
typedef struct tn_vals {
  tn_val *items;
  uint32_t count;
} tn_vals;
typedef struct tn_via {
  const char *callee;
  tn_vals args;
} tn_via;
typedef struct tn_alt {
  const char *raw;   /* as written, variables put in */
  const char *path;  /* behind the prefix in force; NULL: the page has no name on this side */
  const char *other; /* the same on the other side of "hf" | "gguf" */
  bool root;         /* began with "/": the file's own name, without strip */
  bool other_root;
  bool name;         /* written on the page as the name of a tensor */
  const tn_via *via; /* transformation on load, or NULL */
} tn_alt;
typedef struct tn_text {
  tn_alt *alts;
  uint32_t count;
} tn_text;

struct tn_val {
  tn_val_kind kind;
  union {
    bool b;
    int64_t i;
    double r;
    tn_text text;
    tn_dim dim;
    tn_value tensor;
    tn_vals list;
    const tn_json *object;
    const char *key; /* MISSING */
  } u;
};

typedef struct tn_var {
  const char *name;
  tn_val v;
} tn_var;
typedef struct tn_vars {
  tn_var *items;
  uint32_t count, capacity;
} tn_vars;

/* One running block or graph. */
typedef struct tn_frame tn_frame;
struct tn_frame {
  tn_frame *caller;
  const tn_page *page;
  const tn_block *block; /* NULL: a graph, or the config */
  const tn_graph *graph;
  tn_vars vars;
  const char *prefix; /* of tensor names; NULL: none on this side */
  const char *other;  /* of their names on the other side */
  bool root;          /* the prefix began with "/": no strip */
  bool other_root;
  tn_vars options; /* what `options...` collected */
  tn_val result;
  bool config;   /* names are keys of config.json */
  bool convert;  /* and texts names of tensors */
  bool fallback; /* right of `or` in the config: names of functions are words */
};

typedef struct tn_eval {
  tn_page_run *run;
  const tn_ir *ir;
  tn_module *m;
  const tn_page *page;
  tn_arena arena;
  tn_vars config;
  tn_frame *frame;
  /* the function being built */
  tn_func func;
  tn_dim seq; /* its dim S, 0: none */
  tn_value positions;
  tn_value pads;    /* its input of that name: padding tokens in front of each sequence; 0: none */
  tn_map constants; /* bytes and type -> value */
  tn_map sites;     /* places of caches -> how often this function came by */
  /* the module */
  tn_map weights, states, reported;
  const char *strip; /* prefix of the checkpoint, once one tensor was found */
  int64_t most;      /* the least limit of C so far; 0: none */
  bool own_capacity; /* the function declares a dim P or C of its own */
  /* where we are, in a page that is not the prelude */
  const char *file;
  tn_pos pos;
  uint32_t graph; /* how many were begun before this one */
  uint64_t steps;
  uint32_t depth, errors;
  bool stop, oom;
} tn_eval;

#define TN_STEP_LIMIT 2000000u /* evaluated expressions and statements of one build */
#define TN_ROUND_LIMIT 65536   /* rounds of one loop, items of one list */

/* ---- values ---------------------------------------------------------------------------------- */
static inline tn_val tn_val_bad(void) { return (tn_val){.kind = TN_V_BAD}; }
static inline tn_val tn_val_none(void) { return (tn_val){.kind = TN_V_NONE}; }
static inline tn_val tn_val_bool(bool b) { return (tn_val){.kind = TN_V_BOOL, .u.b = b}; }
static inline tn_val tn_val_int(int64_t i) { return (tn_val){.kind = TN_V_INT, .u.i = i}; }
static inline tn_val tn_val_real(double r) { return (tn_val){.kind = TN_V_REAL, .u.r = r}; }
static inline tn_val tn_val_tensor(tn_value t) {
  return (tn_val){.kind = t ? TN_V_TENSOR : TN_V_BAD, .u.tensor = t};
}
static inline bool tn_val_is_number(tn_val v) { return v.kind == TN_V_INT || v.kind == TN_V_REAL; }
tn_val tn_val_dim(tn_eval *ev, tn_dim d); /* an INT where it is constant */
tn_val tn_val_list(tn_eval *ev, const tn_val *items, uint32_t count);
tn_val tn_val_text(tn_eval *ev, const char *text); /* a plain word */
bool tn_val_equal(tn_val a, tn_val b);
bool tn_val_truth(tn_eval *ev, tn_val v, bool *out); /* false: BAD, or reported */
const char *tn_val_show(tn_eval *ev, tn_val v);      /* for messages */
const char *tn_dim_show(tn_eval *ev, tn_dim d);
const char *tn_type_show(tn_eval *ev, tn_type t); /* "f32[B, S, 64]" */
tn_dim tn_val_to_dim(tn_eval *ev, tn_val v);      /* 0: not a dim; not reported */
tn_type_info tn_val_type(tn_eval *ev, tn_val tensor);

/* ---- messages -------------------------------------------------------------------------------- */
/* Reports at the place where the page is; the same message at the same place only once. Gives BAD. */
tn_val tn_eval_fail(tn_eval *ev, const char *fmt, ...) TN_PRINTF(2, 3);
tn_val tn_eval_fail_at(tn_eval *ev, const char *file, tn_pos pos, const char *where, const char *fmt, ...)
    TN_PRINTF(5, 6);
/* ", did you mean 'x'", or "". */
const char *tn_eval_nearest(tn_eval *ev, const char *name, const char *const *names, uint32_t count);
tn_val tn_eval_oom(tn_eval *ev);
/* Counts one step; false when the run must stop. */
bool tn_eval_step(tn_eval *ev);

/* ---- expressions and statements -------------------------------------------------------------- */
tn_val tn_eval_expr(tn_eval *ev, const tn_expr *e);
/* A variable, a dim, a word; false: unknown, nothing reported. */
bool tn_eval_name(tn_eval *ev, const char *name, tn_val *out);
tn_val tn_eval_unknown(tn_eval *ev, const char *name); /* reports the unknown name */
tn_val tn_eval_text(tn_eval *ev, const tn_expr *e);    /* a STRING under the frame's prefix */
void tn_eval_prefix(tn_eval *ev, tn_frame *f,
                    const tn_expr *at); /* what stands behind `at` and `in`, seen from ev->frame */
tn_val tn_eval_binary(tn_eval *ev, tn_binary op, tn_val a, tn_val b);
tn_val tn_eval_index(tn_eval *ev, const tn_expr *e, tn_val base);
tn_var *tn_vars_find(const tn_vars *vars, const char *name);
bool tn_vars_set(tn_eval *ev, tn_vars *vars, const char *name, tn_val v);
typedef enum tn_flow { TN_FLOW_NEXT, TN_FLOW_RETURN, TN_FLOW_STOP } tn_flow;
tn_flow tn_eval_body(tn_eval *ev, const tn_body *body);

/* ---- calls ----------------------------------------------------------------------------------- */
typedef struct tn_arg {
  const char *name;
  bool named, bare, unknown;
  tn_val v;
} tn_arg;
typedef struct tn_args {
  tn_arg *items;
  uint32_t count, capacity;
} tn_args;
typedef struct tn_slot {
  const char *name;
  bool optional;
} tn_slot;
tn_val tn_eval_call(tn_eval *ev, const tn_expr *e);
tn_val tn_call_values(tn_eval *ev, const char *callee, const tn_val *args, uint32_t count); /* by position */
/* Puts arguments into slots (out: count entries, UNSET where nothing came). `rest` takes what fits nowhere
 * (NULL: that is an error). false: reported. */
bool tn_bind(tn_eval *ev, const char *callee, const tn_args *args, const tn_slot *slots, uint32_t count,
             tn_val *out, tn_vars *rest);
const tn_block *tn_find_block(const tn_eval *ev, const char *name);
const tn_graph *tn_find_graph(const tn_eval *ev, const char *name);
bool tn_is_function(const tn_eval *ev, const char *name);
tn_val tn_call_graph(tn_eval *ev, const tn_graph *g, const tn_args *args);

typedef struct tn_builtin {
  const char *name;
  tn_slot slots[4];
  tn_val (*run)(tn_eval *ev, tn_val *args); /* UNSET: not given */
} tn_builtin;
const tn_builtin *tn_find_builtin(const char *name);
/* states.c: each takes its arguments by position. */
tn_val tn_builtin_cached(tn_eval *ev, tn_val *args);
tn_val tn_builtin_state(tn_eval *ev, tn_val *args);
tn_val tn_builtin_keep(tn_eval *ev, tn_val *args);
/* adapters.c */
tn_val tn_builtin_adapted(tn_eval *ev, tn_val *args);
/* When adapters are to be merged: the tensor `name` becomes a form of itself and its adapters. false:
 * reported. */
bool tn_adapters_merge(tn_eval *ev, const char *name, tn_tensor_ref *ref);
/* rope.c */
typedef struct tn_rope_options {
  const char *kind;   /* of layer, where the config has parameters per kind; NULL: one set */
  double base, theta; /* of a kind without parameters, 0: none; rope_theta where the config lacks it */
} tn_rope_options;
tn_val tn_rope_config(tn_eval *ev, int64_t head_dim, const tn_rope_options *o);

/* ---- ops ------------------------------------------------------------------------------------- */
bool tn_op_known(const char *name);
tn_val tn_call_op(tn_eval *ev, const char *name, const tn_args *args);
/* A pure op of tensors and attributes; one result as TENSOR, several as LIST. */
tn_val tn_make_op(tn_eval *ev, const char *name, const tn_value *in, uint32_t nin, const tn_named_attr *attrs,
                  uint32_t nattrs);
tn_val tn_make_reshape(tn_eval *ev, tn_val x, const tn_dim *dims, uint32_t rank);
/* Numbers as a constant of this type: rank 0 (shape NULL) or 1. */
tn_val tn_make_constant(tn_eval *ev, tn_dtype dt, const tn_val *numbers, uint32_t count, bool scalar);
/* A number or dim as a tensor of type dt. */
tn_val tn_make_scalar(tn_eval *ev, tn_dtype dt, tn_val v);
tn_loc tn_eval_loc(tn_eval *ev);

/* ---- tensors of the checkpoint --------------------------------------------------------------- */
tn_val tn_tensor_load(tn_eval *ev, tn_text names,
                      const tn_val *shape); /* shape: list with none for any; NULL: no check */
/* The same of `count` tensors along a new first axis: those that a name with a '*' has in its place, or the
 * one tensor of a name without. shape: of one. */
tn_val tn_tensor_stack(tn_eval *ev, tn_text names, int64_t count, const tn_val *shape);
bool tn_tensor_exists(tn_eval *ev, const tn_alt *a);
/* The first alternative that is there; false: none. */
bool tn_tensor_find(tn_eval *ev, tn_text names, tn_tensor_ref *out);
/* The name, in the checkpoint, of the first alternative that is there; NULL: none. */
const char *tn_tensor_name(tn_eval *ev, tn_text names);
/* The module's weight for a tensor; 0: reported. */
tn_weight tn_tensor_weight(tn_eval *ev, const tn_tensor_ref *ref, const char *name);
void tn_tensor_ignore(tn_eval *ev, tn_text names);

/* ---- facts (facts.c): what a run notes for those who convert the checkpoint -------------------- */
/* A graph reads `name`, which alternative a has found. number: its place in a stack, -1: none; count: it is a
 * stack of so many, 0: none. */
void tn_facts_tensor(tn_eval *ev, const tn_alt *a, const char *name, int64_t number, int64_t count);
void tn_facts_graph(tn_eval *ev, const tn_graph *g);
/* The convert sections, once all graphs are built (facts_convert.c). */
void tn_facts_convert(tn_eval *ev);
void tn_facts_rope(tn_eval *ev, const tn_page_rope *rope);

/* ---- config ---------------------------------------------------------------------------------- */
bool tn_eval_config(tn_eval *ev);
/* The line of the most derived page that sets this name; NULL: none. */
const tn_config_line *tn_config_line_of(const tn_eval *ev, const char *name, const tn_page **page);
tn_val tn_json_val(tn_eval *ev, const char *key, const tn_json *j);
#endif
