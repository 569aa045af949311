/* page.h - a model page as a tree: what the parser makes and the evaluator walks. Everything lives in the
 * page's arena; every node knows its place in the text. Only files of this folder include it. */
#ifndef TN_PAGE_H
#define TN_PAGE_H
#include "frontend/describe/describe.h"

typedef struct tn_pos {
  uint32_t line, col;
} tn_pos;

/* ---- tokens ---------------------------------------------------------------------------------- */
typedef enum tn_token_kind {
  TN_TK_END,
  TN_TK_NEWLINE,
  TN_TK_INDENT,
  TN_TK_DEDENT,
  TN_TK_NAME,
  TN_TK_INT,
  TN_TK_REAL,
  TN_TK_STRING,
  TN_TK_PUNCT
} tn_token_kind;
typedef struct tn_page_token {
  tn_token_kind kind;
  tn_pos pos;
  bool spaced;      /* blank in front: "xlm-roberta" is one word, "a - b" is not */
  const char *text; /* NAME, STRING (without quotes), PUNCT: NUL-terminated */
  int64_t i;        /* INT */
  double r;         /* REAL */
} tn_page_token;
typedef struct tn_token_list {
  tn_page_token *items;
  uint32_t count, capacity;
} tn_token_list;
/* Fills `out` (heap, ends with END); errors go to diags as `file:line:col`. */
tn_status tn_page_lex(tn_arena *arena, tn_str text, const char *file, tn_diags *diags, tn_token_list *out);

/* ---- expressions ----------------------------------------------------------------------------- */
typedef struct tn_expr tn_expr;
typedef enum tn_expr_kind {
  TN_EX_INT,
  TN_EX_REAL,
  TN_EX_BOOL,
  TN_EX_NONE,
  TN_EX_NAME,
  TN_EX_STRING,
  TN_EX_LIST,
  TN_EX_CALL,
  TN_EX_INDEX,
  TN_EX_BINARY,
  TN_EX_UNARY,
  TN_EX_IF
} tn_expr_kind;
typedef enum tn_binary {
  TN_BIN_ADD,
  TN_BIN_SUB,
  TN_BIN_MUL,
  TN_BIN_DIV,
  TN_BIN_MOD,
  TN_BIN_JOIN,
  TN_BIN_EQ,
  TN_BIN_NE,
  TN_BIN_LT,
  TN_BIN_GT,
  TN_BIN_LE,
  TN_BIN_GE,
  TN_BIN_HAS,
  TN_BIN_AND,
  TN_BIN_OR,
  TN_BIN_DEFAULT,
  TN_BIN_COUNT
} tn_binary;
typedef struct tn_call_arg {
  const char *name;
  tn_expr *value;
  bool spread;
} tn_call_arg; /* name NULL: by position */
typedef enum tn_index_kind { TN_IX_AT, TN_IX_RANGE, TN_IX_NEW } tn_index_kind;
typedef struct tn_index {
  tn_index_kind kind;
  tn_expr *from, *to;
} tn_index; /* RANGE: NULL ends are the ends */
/* One side of "hf" | "gguf", with its transformation on load. */
typedef struct tn_name_side {
  const char *text;
  tn_expr *via;
} tn_name_side; /* text NULL: not given */

struct tn_expr {
  tn_expr_kind kind;
  tn_pos pos;
  union {
    int64_t i;
    double r;
    bool b;
    const char *name; /* NAME; may be dotted in config */
    struct {
      tn_name_side hf, gguf;
    } s; /* STRING */
    struct {
      tn_expr **items;
      uint32_t count;
    } list;
    struct {
      const char *name;
      tn_call_arg *args;
      uint32_t count;
      tn_expr *at;
    } call;
    struct {
      tn_expr *base;
      tn_index *items;
      uint32_t count;
    } index;
    struct {
      int op;
      tn_expr *a, *b;
    } bin; /* UNARY: '-' or '!' in op, operand a */
    struct {
      tn_expr *when, *yes, *no;
    } choice; /* IF */
  } u;
};

/* ---- statements ------------------------------------------------------------------------------ */
typedef struct tn_stmt tn_stmt;
typedef struct tn_body {
  tn_stmt *items;
  uint32_t count;
} tn_body;
typedef struct tn_exprs {
  tn_expr **items;
  uint32_t count;
} tn_exprs;
typedef enum tn_stmt_kind {
  TN_ST_ASSIGN,
  TN_ST_RETURN,
  TN_ST_FOR,
  TN_ST_IF,
  TN_ST_IN,
  TN_ST_IGNORE,
  TN_ST_LIMIT,
  TN_ST_REQUIRE
} tn_stmt_kind;
typedef struct tn_names {
  const char **items;
  uint32_t count;
} tn_names;
struct tn_stmt {
  tn_stmt_kind kind;
  tn_pos pos;
  tn_names targets;    /* ASSIGN; FOR: one or two loop variables */
  bool plus;           /* ASSIGN: += */
  tn_expr *value;      /* ASSIGN, FOR (over), IF (condition), IN (prefix), REQUIRE, LIMIT (left) */
  tn_expr *limit;      /* LIMIT: right */
  tn_exprs values;     /* RETURN, IGNORE */
  const char *text;    /* REQUIRE: the condition as written */
  tn_body body, other; /* FOR, IF, IN; IF: else */
};

/* ---- the page -------------------------------------------------------------------------------- */
typedef struct tn_param {
  const char *name;
  tn_expr *def;
  tn_pos pos;
} tn_param; /* def NULL: must be given */
typedef struct tn_block {
  const struct tn_page *page;
  tn_pos pos;
  tn_names names; /* several names for one body */
  tn_param *params;
  uint32_t nparams;
  bool options; /* the last parameter collects options ("options...") */
  const char *options_name;
  bool act; /* may be called by a name that comes from the config */
  tn_expr *at;
  tn_body body;
} tn_block;

typedef struct tn_port { /* an input or output of a graph */
  const char *name;
  tn_pos pos;
  tn_dtype dtype;
  tn_exprs dims;
  tn_expr *def; /* value when a calling graph leaves it out */
} tn_port;
typedef struct tn_graph {
  const struct tn_page *page;
  tn_pos pos;
  const char *name;
  tn_port *inputs, *outputs;
  uint32_t ninputs, noutputs;
  tn_expr *when;
  tn_body body;
} tn_graph;

typedef enum tn_config_kind { TN_CF_VALUE, TN_CF_REQUIRE_KEY, TN_CF_REQUIRE, TN_CF_IGNORE } tn_config_kind;
typedef struct tn_config_line {
  tn_config_kind kind;
  tn_pos pos;
  const char *name;   /* VALUE: variable; REQUIRE_KEY, IGNORE: dotted key */
  tn_expr *hf, *gguf; /* VALUE: gguf NULL: the same; REQUIRE: hf is the condition */
  tn_exprs allowed;   /* REQUIRE_KEY: literals */
  const char *text;   /* REQUIRE: as written */
} tn_config_line;

/* What differs between the formats beyond names. */
typedef enum tn_convert_kind {
  TN_CV_HF,         /* hf KEY = EXPR */
  TN_CV_GGUF,       /* gguf KEY = EXPR */
  TN_CV_HF_REQUIRE, /* hf require CONDITION */
  TN_CV_GGUF_REQUIRE,
  TN_CV_TENSOR, /* "name", ... = step, ... */
  TN_CV_NAME    /* "name" as "name" */
} tn_convert_kind;
typedef struct tn_convert_line {
  tn_convert_kind kind;
  tn_pos pos;
  const char *key; /* REQUIRE: the condition as written */
  tn_expr *value;
  tn_names names; /* of the tensors that are meant */
  tn_exprs steps;
  const char *as;
} tn_convert_line;

typedef struct tn_alias {
  const char *from, *to;
  tn_pos pos;
} tn_alias; /* `also from = to` */

struct tn_page {
  tn_arena arena;
  const char *name, *summary, *file, *tasks;
  const char *extends; /* name, NULL: none */
  tn_pos extends_pos;
  const tn_page *base;    /* the page it extends; set when the set is complete */
  const tn_page *prelude; /* set likewise; NULL for the prelude itself */
  tn_names hf, gguf, types, strip;
  TN_VEC(tn_alias) also;
  TN_VEC(const char *) architectures; /* hf with every alias applied, then types and the page's name */
  TN_VEC(tn_config_line) config;
  TN_VEC(tn_convert_line) convert;
  TN_VEC(tn_block) blocks;
  TN_VEC(tn_graph) graphs;
};

/* Parses into a new page; on TN_INVALID the page is freed and *out is NULL. */
tn_status tn_page_read(tn_str text, const char *file, tn_diags *diags, tn_page **out);
void tn_page_free(tn_page *p);

#endif
