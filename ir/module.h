/* module.h - the insides of a module, private to ir/: pools of plain rows, numbered from 1 (row 0 of each
 * pool is a zeroed dummy, so an id of 0 or of a deleted thing reads as "none"). Ids are never reused. What
 * the public functions return points into the arena and the string table, which only grow. */
#ifndef TN_MODULE_H
#define TN_MODULE_H
#include "ir/ir.h"

typedef struct tn_use {
  tn_op op;
  uint32_t operand;
} tn_use;

typedef struct tn_value_row {
  uint32_t kind, index; /* TN_VALUE_*, 0: deleted; which result or argument */
  tn_type type;
  uint32_t owner;      /* RESULT: op; ARG: kernel op or function; WEIGHT, STATE: its id */
  bool of_func;        /* ARG: the owner is a function */
  const char *name;    /* hint for printing, or NULL */
  TN_VEC(tn_use) uses; /* in the order in which they were made */
} tn_value_row;

/* An array in the arena: a grown one leaves the old copy behind, so pointers that were handed out stay
 * readable. */
#define TN_LIST(T)                                                                                           \
  struct {                                                                                                   \
    T *items;                                                                                                \
    uint32_t count, capacity;                                                                                \
  }

typedef struct tn_region {
  tn_op first, last;
  TN_LIST(tn_value) args;
} tn_region;

typedef struct tn_op_row {
  uint32_t code; /* TN_OPC_*; 0: deleted */
  tn_loc loc;
  uint32_t noperands, nresults;
  uint32_t operand_room; /* operands may grow up to here */
  tn_value results;      /* the first; the others follow */
  tn_value *operands;
  tn_attr *attrs;           /* one per row of the op's spec */
  tn_op prev, next, parent; /* parent 0: in the body of func */
  tn_func func;             /* valid when parent is 0 */
  tn_region body;           /* of a kernel */
} tn_op_row;

typedef struct tn_func_row {
  const char *name;
  tn_region body;
  TN_LIST(const char *) arg_names;
  uint32_t nresults, nresult_names;
  tn_type *results;          /* types of the return op's operands, when it was made */
  const char **result_names; /* NULL entries: no name */
  TN_LIST(tn_named_attr) attrs;
} tn_func_row;

typedef struct tn_type_row {
  tn_type_info info;
} tn_type_row;
typedef struct tn_loc_row {
  tn_loc_info info;
  uint32_t size; /* parts, counted as a tree */
} tn_loc_row;

/* One term of a dim's normal form: coef times the atoms, which are sorted by content (tn_dim_order). */
typedef struct tn_dim_term {
  int64_t coef;
  uint32_t natoms;
  const tn_dim *atoms;
} tn_dim_term;
typedef struct tn_dim_row {
  uint32_t kind;  /* TN_DIM_* as dim_get shows it */
  uint32_t depth; /* of nested atoms */
  int64_t value;
  const char *symbol;
  tn_dim a, b;
  bool nonneg;     /* never negative, whatever the symbols' values (which are >= 0) */
  uint32_t nterms; /* the sum that the dim is; sorted, without zero terms */
  const tn_dim_term *terms;
} tn_dim_row;
typedef struct tn_dim_pair {
  tn_dim a, b;
} tn_dim_pair;

typedef struct tn_weight_row {
  const char *name;
  tn_value value;
  uint32_t nparts;
  const tn_part *parts;
  const char *form;
} tn_weight_row;
typedef struct tn_state_row {
  const char *name;
  tn_value value;
} tn_state_row;
typedef struct tn_meta_row {
  const char *key, *value;
} tn_meta_row;

struct tn_module {
  tn_diags *diags;
  struct {
    const char *file;
    uint32_t line, col;
  } reading; /* place of messages without one, while text is read */
  tn_arena arena;
  tn_map strings;  /* text -> its entry */
  tn_map interned; /* bytes of a dim, type or location -> id */
  tn_map symbols;  /* names of weights and states: value; of functions, behind a "@": id */
  const char *name;
  TN_VEC(tn_meta_row) meta;
  TN_VEC(tn_dim_row) dims;
  TN_VEC(tn_dim) dim_symbols;
  TN_VEC(tn_dim_pair) constraints;
  TN_VEC(tn_type_row) types;
  TN_VEC(tn_loc_row) locs;
  TN_VEC(tn_value_row) values;
  TN_VEC(tn_op_row) ops;
  TN_VEC(tn_func_row) funcs;
  TN_VEC(tn_weight_row) weights;
  TN_VEC(tn_state_row) states;
};

/* ---- module.c ---- */
/* The module's own copy of s; NULL: no memory (reported). */
const char *tn_module_intern(tn_module *m, tn_str s);
/* The same for text from outside: must be UTF-8 without NUL, else reported. NULL gives NULL and no report. */
const char *tn_module_text(tn_module *m, const char *s, const char *what);
tn_status tn_module_oom(tn_module *m); /* reports; TN_OOM */
bool tn_list_grow_(tn_module *m, void *items, uint32_t count, uint32_t *capacity, size_t item);
#define tn_list_push(m, l, x)                                                                                \
  (tn_list_grow_((m), &(l)->items, (l)->count, &(l)->capacity, sizeof *(l)->items)                           \
       ? ((l)->items[(l)->count++] = (x), true)                                                              \
       : false)
/* Rows by id; the dummy row 0 for ids that are out of range or deleted. */
tn_value_row *tn_value_row_of(tn_module *m, tn_value v);
tn_op_row *tn_op_row_of(tn_module *m, tn_op op);
tn_func_row *tn_func_row_of(tn_module *m, tn_func f);
tn_region *tn_region_of(tn_module *m, tn_func f, tn_op parent); /* NULL: neither names one */
tn_value tn_value_new(tn_module *m, uint32_t kind, uint32_t index, tn_type t, uint32_t owner);
/* A weight or state by name; 0: none. */
tn_value tn_module_symbol(tn_module *m, tn_str name);
/* Id of interned bytes under a one-letter table name, or 0; and the entry of a new id. */
uint32_t tn_interned(tn_module *m, char table, const void *key, size_t n);
tn_status tn_interned_put(tn_module *m, char table, const void *key, size_t n, uint32_t id);

/* ---- loc.c ---- */
tn_status tn_module_fail(tn_module *m, tn_status status, tn_loc l, const char *fmt, ...) TN_PRINTF(4, 5);
void tn_module_report_v(tn_module *m, uint32_t severity, tn_loc l, const char *prefix, const char *fmt,
                        va_list ap);

/* ---- dim.c ---- */
const tn_dim_row *tn_dim_row_of(tn_module *m, tn_dim d); /* dummy row (kind 0) when there is none */
int tn_dim_order(tn_module *m, tn_dim a, tn_dim b);      /* by content: the same in every run */

/* ---- dim_poly.c: sums of products, the workspace of the algebra ---- */
#define TN_DIM_MAX_DEGREE 16
#define TN_DIM_MAX_TERMS 256
#define TN_DIM_MAX_DEPTH 32
typedef struct tn_poly_term {
  int64_t coef;
  uint32_t natoms;
  tn_dim atoms[TN_DIM_MAX_DEGREE];
} tn_poly_term;
typedef struct tn_poly {
  tn_module *m;
  TN_VEC(tn_poly_term) terms; /* sorted by tn_poly_order, no zero coefs */
  const char *why;            /* what went wrong first: static text, or NULL */
} tn_poly;
void tn_poly_fini(tn_poly *p);
void tn_poly_add(tn_poly *p, int64_t coef, const tn_dim *atoms, uint32_t natoms);
void tn_poly_add_dim(tn_poly *p, tn_dim d, int64_t scale);
/* p += scale * atoms * d */
void tn_poly_add_scaled(tn_poly *p, tn_dim d, int64_t scale, const tn_dim *atoms, uint32_t natoms);
/* Quotient of a term by another (atoms as multisets) in out; false: does not divide. Coefs are not looked at.
 */
bool tn_poly_divides(const tn_dim *by, uint32_t nby, const tn_dim *atoms, uint32_t natoms, tn_dim *out,
                     uint32_t *nout);
int tn_poly_order(tn_module *m, const tn_dim *a, uint32_t na, const tn_dim *b, uint32_t nb);
/* The dim that p is; 0 after reporting. Frees p. */
tn_dim tn_poly_dim(tn_poly *p);

/* ---- attr.c ---- */
const char *tn_attr_kind_name(uint32_t kind);
/* Checks that `in` is a sound attribute of `kind` and copies it into the module. */
tn_status tn_attr_copy(tn_module *m, tn_loc l, const char *name, uint32_t kind, const tn_attr *in,
                       tn_attr *out);
tn_status tn_attr_default(tn_module *m, const tn_attr_spec *s, tn_attr *out);
bool tn_attr_is_default(tn_module *m, const tn_attr_spec *s, const tn_attr *a);
bool tn_attr_equal(const tn_attr *a, const tn_attr *b);
int tn_attr_find(const tn_op_spec *s, const char *name); /* -1: none */

/* ---- build.c ---- */
/* Runs the op's infer function on operands, attributes and c->out (stated types or 0). */
tn_status tn_op_infer(tn_infer *c);
bool tn_value_is_state(tn_module *m, tn_value v);
tn_status tn_operands_check(tn_module *m, uint32_t code, const tn_value *in, uint32_t n, tn_loc loc);

/* ---- verify_host.c ---- */
tn_status tn_verify_host(tn_module *m); /* let_dim, if, loop; of a module that is sound otherwise */

/* ---- rewrite.c ---- */
void tn_op_link(tn_module *m, tn_op op, tn_func f, tn_op parent, tn_op before);
void tn_op_unlink(tn_module *m, tn_op op);
void tn_use_remove(tn_module *m, tn_value v, tn_op op, uint32_t operand);
tn_status tn_point_check(tn_module *m, tn_point *at, tn_op moving);

/* ---- text.c: pieces that printer, messages and parser share ---- */
bool tn_name_is_plain(const char *s); /* may stand without quotes behind % and @ */
bool tn_name_is_word(const char *s);  /* an identifier */
void tn_text_name(tn_buf *out, const char *sigil, const char *name);
void tn_text_f64(tn_buf *out, double v);                     /* shortest text that reads back as v */
void tn_text_float(char *s, size_t n, double v, int digits); /* n: 40 is enough */
void tn_text_value(tn_module *m, tn_value v, tn_buf *out);   /* for messages: %hint, @weight or %id */

/* ---- text_data.c: the bytes of constants ---- */
#define TN_DATA_LIST_MAX 16 /* more elements than this print as hexadecimal bytes */
/* The elements as a list of numbers, or as "0x..." where that is shorter to read or alone exact. */
void tn_text_data(tn_buf *out, tn_dtype t, bool scalar, tn_bytes data);
/* Reads one element's text (a number, true, false, nan, inf) into its little-endian bytes; false: not one of
 * type t. */
bool tn_text_element(const char *text, tn_dtype t, uint8_t *out);
#endif
