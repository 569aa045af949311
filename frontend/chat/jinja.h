/* jinja.h - what the files of the interpreter share: values, the tree of a template, one run of it.
 * Everything lives in two arenas, the template's and the run's; nothing is freed before the end. A failure
 * is noted once in the run (status, words, place) and every loop stops at it, so functions give values. */
#ifndef TN_JINJA_H
#define TN_JINJA_H
#include "frontend/chat/chat.h"

enum {
  TN_JINJA_TEXT_MAX = 4 << 20, /* bytes of a template */
  TN_JINJA_NEST_MAX = 120,     /* nested expressions and statements of a template */
  TN_JINJA_DEPTH_MAX = 600,    /* nested evaluations */
  TN_JINJA_VALUE_MAX = 100,    /* nested lists and dicts that are printed or compared */
  TN_JINJA_RANGE_MAX = 100000  /* as jinja2's sandbox */
};

/* ---- values ---------------------------------------------------------------------------------- */
typedef enum tn_jv_kind {
  TN_JV_UNDEFINED, /* s: what is undefined, in words */
  TN_JV_NONE,
  TN_JV_BOOL,
  TN_JV_INT,
  TN_JV_REAL,
  TN_JV_STR, /* valid UTF-8 */
  TN_JV_LIST,
  TN_JV_TUPLE,
  TN_JV_DICT,
  TN_JV_NAMESPACE,
  TN_JV_MACRO,
  TN_JV_LOOP,
  TN_JV_FUNCTION, /* a global, or an object's method */
  TN_JV_CYCLER,
  TN_JV_JOINER
} tn_jv_kind;

typedef struct tn_jv tn_jv;
typedef struct tn_jv_list {
  tn_jv *items;
  uint32_t count, room;
} tn_jv_list;
typedef struct tn_jv_dict {
  tn_jv *keys, *values;
  uint32_t count, room;
} tn_jv_dict;
typedef struct tn_jv_macro tn_jv_macro;
typedef struct tn_jv_loop tn_jv_loop;
typedef struct tn_jv_function tn_jv_function;
typedef struct tn_jv_state tn_jv_state; /* of cycler and joiner */
struct tn_jv {
  tn_jv_kind kind;
  union {
    bool b;
    int64_t i;
    double r;
    tn_str s;
    tn_jv_list *list; /* LIST, TUPLE */
    tn_jv_dict *dict; /* DICT, NAMESPACE */
    const tn_jv_macro *macro;
    tn_jv_loop *loop;
    const tn_jv_function *function;
    tn_jv_state *state;
  } u;
};
struct tn_jv_state {
  tn_jv_list *items;
  uint64_t at;
};

/* ---- the tree -------------------------------------------------------------------------------- */
typedef enum tn_jn_kind {
  TN_JN_CONST,
  TN_JN_NAME,
  TN_JN_LIST,   /* kids */
  TN_JN_TUPLE,  /* kids */
  TN_JN_DICT,   /* kids: key, value, key, value ... */
  TN_JN_ATTR,   /* kids[0].name */
  TN_JN_ITEM,   /* kids[0][kids[1]] */
  TN_JN_SLICE,  /* kids: start, stop, step; NULL: not given */
  TN_JN_CALL,   /* kids[0](kids[1] ...), then named ones: the last nnames kids */
  TN_JN_FILTER, /* kids[0]|name(...) likewise; kids[0] NULL: the text of a block */
  TN_JN_TEST,   /* kids[0] is name(...) */
  TN_JN_UNARY,
  TN_JN_BINARY,
  TN_JN_COMPARE, /* kids[0] op kids[1] op kids[2] ...; ops[i]: tn_jinja_op */
  TN_JN_AND,
  TN_JN_OR,
  TN_JN_IF_ELSE, /* kids: value, condition, otherwise (may be NULL) */
  /* statements */
  TN_JN_TEXT,
  TN_JN_PRINT,
  TN_JN_BODY,         /* kids in order */
  TN_JN_IF,           /* kids: condition, body, condition, body ..., [body] */
  TN_JN_FOR,          /* kids: target, iterable, condition or NULL, body, otherwise or NULL */
  TN_JN_SET,          /* kids: target, value */
  TN_JN_CAPTURE,      /* kids: target, body, filter or NULL */
  TN_JN_MACRO,        /* names: arguments, kids[0]: body, kids[1 ...]: defaults of the last ones */
  TN_JN_CALL_BLOCK,   /* kids: call, macro */
  TN_JN_FILTER_BLOCK, /* kids: filter, body */
  TN_JN_WITH,         /* kids: target, value, ..., body */
  TN_JN_SCOPE,        /* kids[0]: a body in a scope of its own */
  TN_JN_BREAK,
  TN_JN_CONTINUE
} tn_jn_kind;

typedef enum tn_jinja_op {
  TN_OP_ADD,
  TN_OP_SUB,
  TN_OP_MUL,
  TN_OP_DIV,
  TN_OP_FLOOR_DIV,
  TN_OP_MOD,
  TN_OP_POW,
  TN_OP_CONCAT,
  TN_OP_NOT,
  TN_OP_NEG,
  TN_OP_POS,
  TN_OP_EQ,
  TN_OP_NE,
  TN_OP_LT,
  TN_OP_LE,
  TN_OP_GT,
  TN_OP_GE,
  TN_OP_IN,
  TN_OP_NOT_IN
} tn_jinja_op;

typedef struct tn_jn {
  tn_jn_kind kind;
  uint32_t at; /* byte of the template */
  tn_jinja_op op;
  tn_str name;
  tn_jv value; /* CONST, TEXT */
  struct tn_jn **kids;
  uint32_t nkids;
  tn_str *names; /* of named arguments, or a macro's */
  uint32_t nnames;
  tn_jinja_op *ops;
  bool recursive;       /* FOR */
  bool varargs, kwargs; /* MACRO: it names them */
} tn_jn;

struct tn_chat {
  tn_arena arena;
  const char *name;
  tn_str text; /* line ends are \n */
  tn_jn *body;
};

/* ---- lexing (jinja_lex.c) -------------------------------------------------------------------- */
typedef enum tn_jt_kind {
  TN_JT_END,
  TN_JT_TEXT,
  TN_JT_PRINT_BEGIN,
  TN_JT_PRINT_END,
  TN_JT_BLOCK_BEGIN,
  TN_JT_BLOCK_END,
  TN_JT_NAME,
  TN_JT_STRING, /* value: decoded */
  TN_JT_INT,
  TN_JT_REAL,
  TN_JT_OP /* text: the operator */
} tn_jt_kind;
typedef struct tn_jt {
  tn_jt_kind kind;
  uint32_t at;
  tn_str text;
  tn_jv value;
} tn_jt;
typedef TN_VEC(tn_jt) tn_jts;

typedef struct tn_jinja_parser {
  tn_chat *chat;
  tn_diags *diags;
  tn_status status;
  tn_jts tokens;
  uint32_t next;  /* token */
  uint32_t depth; /* of nesting */
  uint32_t loops; /* around the place, within a macro */
} tn_jinja_parser;
void tn_jinja_lex(tn_jinja_parser *p);
/* Notes the first error, about a place of the template. */
void tn_jinja_wrong(tn_jinja_parser *p, tn_status status, uint32_t at, const char *fmt, ...) TN_PRINTF(4, 5);
/* Line and column, 1-based, in characters. */
void tn_jinja_place(const tn_chat *c, uint32_t at, uint32_t *line, uint32_t *col);

/* ---- parsing (jinja_expr.c, jinja_stmt.c) ---------------------------------------------------- */
const tn_jt *tn_jinja_peek(const tn_jinja_parser *p);
const tn_jt *tn_jinja_take(tn_jinja_parser *p);
bool tn_jinja_is(const tn_jinja_parser *p, const char *text); /* the next token is this name or operator */
bool tn_jinja_skip(tn_jinja_parser *p, const char *text);
void tn_jinja_expect(tn_jinja_parser *p, const char *text);
tn_str tn_jinja_expect_name(tn_jinja_parser *p);
/* Never NULL: without memory a shared empty node, and the status says so. */
tn_jn *tn_jinja_node(tn_jinja_parser *p, tn_jn_kind kind, uint32_t at);
void tn_jinja_kid(tn_jinja_parser *p, tn_jn *n, tn_jn *kid);
void tn_jinja_named(tn_jinja_parser *p, tn_jn *n, tn_str name, tn_jn *kid); /* kid NULL: the name only */
bool tn_jinja_enter(tn_jinja_parser *p); /* one level deeper; false: too deep */
tn_jn *tn_jinja_expression(tn_jinja_parser *p);
/* "a" or "a, b": without conditional expressions where `plain`; ends before the name `stop` (or NULL). */
tn_jn *tn_jinja_tuple(tn_jinja_parser *p, bool plain, const char *stop);
tn_jn *tn_jinja_target(tn_jinja_parser *p, bool attributes);
tn_jn *tn_jinja_filters(tn_jinja_parser *p, tn_jn *of); /* "name(...)|name" without the first | */
void tn_jinja_parse(tn_jinja_parser *p);                /* fills chat->body */

/* ---- running --------------------------------------------------------------------------------- */
typedef struct tn_jinja_scope {
  struct tn_jinja_scope *outer;
  tn_str *names;
  tn_jv *values;
  uint32_t count, room;
} tn_jinja_scope;

typedef struct tn_jinja_run {
  const tn_chat *chat;
  tn_arena arena;
  tn_chat_limits limits;
  double deadline;
  uint64_t steps, written; /* written: all text, captured too */
  uint32_t depth;
  tn_status status;
  char *words;      /* of the failure */
  uint32_t at;      /* its place */
  const tn_jn *now; /* what is being evaluated */
  tn_buf *out;
  tn_jinja_scope *scope;
  bool broke, continued; /* a loop control is on its way up */
} tn_jinja_run;

struct tn_jv_macro {
  const tn_jn *node;
  tn_jinja_scope *scope; /* where it was defined */
  tn_jv *defaults;       /* of the last arguments */
};
struct tn_jv_loop {
  tn_jv_list *items;
  uint64_t index; /* from 0 */
  uint32_t depth;
  const tn_jn *node;
  tn_jinja_scope *scope; /* outside of the loop */
  tn_jv changed;         /* what changed() saw last */
  bool asked;
};

/* Arguments of a call. */
typedef struct tn_jinja_args {
  tn_jv *items;
  uint32_t count;
  const tn_str *names;
  tn_jv *named;
  uint32_t nnamed;
} tn_jinja_args;
typedef tn_jv tn_jinja_function(tn_jinja_run *r, tn_jv self, const tn_jinja_args *a);
struct tn_jv_function {
  const char *name;
  tn_jinja_function *call;
  tn_jv self; /* of a method */
};
typedef struct tn_jinja_row { /* of a table of filters, tests, methods or globals */
  const char *name;
  tn_jinja_function *call;
} tn_jinja_row;

/* Notes the first failure; gives undefined. */
tn_jv tn_jinja_fail(tn_jinja_run *r, const char *fmt, ...) TN_PRINTF(2, 3);
tn_jv tn_jinja_oom(tn_jinja_run *r);
/* Counts work; false: failed now or before. */
bool tn_jinja_step(tn_jinja_run *r, uint64_t n);
void *tn_jinja_alloc(tn_jinja_run *r, uint64_t bytes); /* NULL: failed (also by the limit) */
void tn_jinja_write(tn_jinja_run *r, tn_str s);

tn_jv tn_jinja_eval(tn_jinja_run *r, const tn_jn *n);
void tn_jinja_exec(tn_jinja_run *r, const tn_jn *n);
tn_jv tn_jinja_binary(tn_jinja_run *r, tn_jinja_op op, tn_jv a, tn_jv b);
bool tn_jinja_compare(tn_jinja_run *r, tn_jinja_op op, tn_jv a, tn_jv b);
tn_jv tn_jinja_call(tn_jinja_run *r, tn_jv f, const tn_jinja_args *a);
tn_jv tn_jinja_call_macro(tn_jinja_run *r, const tn_jv_macro *m, const tn_jinja_args *a);
tn_jv tn_jinja_call_loop(tn_jinja_run *r, const tn_jv_loop *l, tn_jv items);
tn_jv tn_jinja_filter(tn_jinja_run *r, tn_str name, tn_jv self, const tn_jinja_args *a);
bool tn_jinja_has_filter(tn_str name);
bool tn_jinja_test(tn_jinja_run *r, tn_str name, tn_jv self, const tn_jinja_args *a);
tn_jv tn_jinja_global(tn_jinja_run *r, tn_str name);
/* a.name and a[key], as jinja2 looks them up; undefined with words where there is nothing. */
tn_jv tn_jinja_attr(tn_jinja_run *r, tn_jv a, tn_str name);
tn_jv tn_jinja_item(tn_jinja_run *r, tn_jv a, tn_jv key);
tn_jv tn_jinja_slice(tn_jinja_run *r, tn_jv a, tn_jv start, tn_jv stop, tn_jv step);
tn_jv tn_jinja_method(tn_jinja_run *r, tn_jv a, tn_str name);        /* undefined without words: none */
tn_jv tn_jinja_format(tn_jinja_run *r, tn_str format, tn_jv values); /* "%s: %d" % values */

void tn_jinja_bind(tn_jinja_run *r, tn_str name, tn_jv value);
tn_jinja_scope *tn_jinja_scope_new(tn_jinja_run *r, tn_jinja_scope *outer);
void tn_jinja_assign(tn_jinja_run *r, const tn_jn *target, tn_jv value);

/* ---- values (jinja_value.c, jinja_print.c) ---------------------------------------------------- */
static inline tn_jv tn_jv_undefined(const char *words) {
  return (tn_jv){TN_JV_UNDEFINED, {.s = {words, words ? strlen(words) : 0}}};
}
static inline tn_jv tn_jv_none(void) { return (tn_jv){.kind = TN_JV_NONE}; }
static inline tn_jv tn_jv_bool(bool b) { return (tn_jv){TN_JV_BOOL, {.b = b}}; }
static inline tn_jv tn_jv_int(int64_t i) { return (tn_jv){TN_JV_INT, {.i = i}}; }
static inline tn_jv tn_jv_real(double x) { return (tn_jv){TN_JV_REAL, {.r = x}}; }
static inline tn_jv tn_jv_str(tn_str s) { return (tn_jv){TN_JV_STR, {.s = s}}; }
static inline bool tn_jv_is_number(tn_jv v) { return v.kind >= TN_JV_BOOL && v.kind <= TN_JV_REAL; }
static inline bool tn_jv_is_whole(tn_jv v) { return v.kind == TN_JV_BOOL || v.kind == TN_JV_INT; }
static inline bool tn_jv_is_seq(tn_jv v) { return v.kind == TN_JV_LIST || v.kind == TN_JV_TUPLE; }
static inline int64_t tn_jv_whole(tn_jv v) { return v.kind == TN_JV_BOOL ? v.u.b : v.u.i; }
static inline double tn_jv_double(tn_jv v) { return v.kind == TN_JV_REAL ? v.u.r : (double)tn_jv_whole(v); }
tn_jv tn_jv_copy(tn_jinja_run *r, tn_str s);  /* a string of copied bytes */
tn_jv tn_jv_take(tn_jinja_run *r, tn_buf *b); /* likewise, and frees the buffer */
tn_jv tn_jv_list_new(tn_jinja_run *r, tn_jv_kind kind, uint32_t room);
void tn_jv_push(tn_jinja_run *r, tn_jv list, tn_jv item);
tn_jv tn_jv_dict_new(tn_jinja_run *r);
void tn_jv_put(tn_jinja_run *r, tn_jv dict, tn_jv key, tn_jv value);
bool tn_jv_get(tn_jinja_run *r, tn_jv dict, tn_jv key, tn_jv *out);
bool tn_jv_get_str(tn_jv dict, tn_str key, tn_jv *out);
tn_jv tn_jv_from_json(tn_jinja_run *r, const tn_json *j);

const char *tn_jv_type(tn_jv v); /* Python's name of the type */
bool tn_jv_true(tn_jv v);
bool tn_jv_equal(tn_jinja_run *r, tn_jv a, tn_jv b);
int tn_jv_order(tn_jinja_run *r, tn_jv a, tn_jv b); /* < 0, 0, > 0; fails for what has no order */
bool tn_jv_iterable(tn_jv v);
/* The items as a list (of a dict its keys, of a string its characters); fails for what is not iterable. */
tn_jv_list *tn_jv_items(tn_jinja_run *r, tn_jv v);
int64_t tn_jv_length(tn_jinja_run *r, tn_jv v);

void tn_jv_print(tn_jinja_run *r, tn_buf *out, tn_jv v); /* str(v) */
void tn_jv_repr(tn_jinja_run *r, tn_buf *out, tn_jv v, uint32_t depth);
tn_jv tn_jv_text(tn_jinja_run *r, tn_jv v); /* str(v) as a value; a string is itself */
void tn_jv_put_real(tn_buf *out, double x);
/* json.dumps; indent < 0: on one line. */
typedef struct tn_jinja_json {
  int64_t indent;
  tn_str indent_text; /* instead of spaces, if ptr */
  tn_str item, key;   /* separators */
  bool ascii, sorted;
} tn_jinja_json;
void tn_jv_json(tn_jinja_run *r, tn_buf *out, tn_jv v, const tn_jinja_json *o, uint32_t depth);

/* ---- characters (jinja_text.c) --------------------------------------------------------------- */
/* The character at *at of valid text; moves *at behind it. */
uint32_t tn_jinja_char(tn_str s, uint64_t *at);
void tn_jinja_put_char(tn_buf *out, uint32_t c);
int64_t tn_jinja_chars(tn_str s);                                          /* how many */
uint64_t tn_jinja_offset(tn_str s, int64_t chars);                         /* byte of the n-th character */
bool tn_jinja_space(uint32_t c);                                           /* str.isspace */
bool tn_jinja_printable(uint32_t c);                                       /* str.isprintable */
tn_str tn_jinja_strip(tn_str s, const tn_str *set, bool left, bool right); /* set NULL: white space */
typedef enum tn_jinja_case {
  TN_CASE_UPPER,
  TN_CASE_LOWER,
  TN_CASE_CAPITAL,
  TN_CASE_TITLE,
  TN_CASE_SWAP
} tn_jinja_case;
tn_jv tn_jinja_recase(tn_jinja_run *r, tn_str s, tn_jinja_case how);
typedef enum tn_jinja_class {
  TN_CLASS_ALPHA,
  TN_CLASS_DIGIT,
  TN_CLASS_NUMERIC,
  TN_CLASS_ALNUM,
  TN_CLASS_SPACE,
  TN_CLASS_UPPER,
  TN_CLASS_LOWER
} tn_jinja_class;
bool tn_jinja_all(tn_str s, tn_jinja_class class); /* str.isalpha and so on */
/* Byte of the first (last) occurrence in s, or -1. */
int64_t tn_jinja_find(tn_str s, tn_str what, bool last);
tn_jv tn_jinja_replace(tn_jinja_run *r, tn_str s, tn_str what, tn_str by, int64_t most);

/* ---- arguments ------------------------------------------------------------------------------- */
/* Argument i, or the one of that name; undefined without words: not given. */
tn_jv tn_jinja_arg(const tn_jinja_args *a, uint32_t i, const char *name);
bool tn_jinja_given(tn_jv v);
tn_str tn_jinja_str_arg(tn_jinja_run *r, const tn_jinja_args *a, uint32_t i, const char *name,
                        const char *fallback);
int64_t tn_jinja_int_arg(tn_jinja_run *r, const tn_jinja_args *a, uint32_t i, const char *name,
                         int64_t fallback);
bool tn_jinja_bool_arg(const tn_jinja_args *a, uint32_t i, const char *name, bool fallback);
/* Fails where more or other arguments are given than named here. */
bool tn_jinja_takes(tn_jinja_run *r, const tn_jinja_args *a, const char *what, uint32_t least, uint32_t most);
const tn_jinja_row *tn_jinja_row_of(const tn_jinja_row *rows, size_t n, tn_str name);
#endif
