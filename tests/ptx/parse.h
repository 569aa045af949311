/* parse.h - one module while it is read: parse.c has declarations, parse_code.c instructions. */
#ifndef PTX_PARSE_H
#define PTX_PARSE_H
#include "tests/ptx/inside.h"

typedef struct ptx_row { /* of ops.def */
  const char *name;
  ptx_handler run;
  uint32_t least, most;
  uint64_t types, mods[(PM_COUNT + 63) / 64];
} ptx_row;

typedef struct ptx_name {
  enum { PN_REGS, PN_SYMBOL, PN_LABEL } kind;
  uint32_t first,
      count; /* REGS: prefix with numbers 0 .. count - 1 (count 0: the name itself); LABEL: instruction */
  uint8_t relative; /* SYMBOL: as in ptx_arg */
  ptx_symbol symbol;
} ptx_name;
typedef struct ptx_scope {
  tn_map names;  /* -> index into parser.names */
  uint32_t open; /* first of parser.jumps that is of this scope */
} ptx_scope;
typedef struct ptx_jump {
  uint32_t instruction, arg, item; /* item + 1 of a list; 0: the arg itself */
  const char *label;
  uint32_t line;
} ptx_jump;

enum { PTX_SCOPES = 16 };
typedef struct ptx_parser {
  ptx_module *m;
  ptx_lexer lexer;
  ptx_token t;
  char *error;
  bool failed;
  ptx_row rows[PO_COUNT];
  tn_map row_of, type_of, mod_of, sreg_of;
  TN_VEC(ptx_name) names;
  ptx_scope scopes[PTX_SCOPES]; /* 0: the module */
  uint32_t depth;
  TN_VEC(ptx_jump) jumps;
  ptx_kernel *kernel;
  TN_VEC(ptx_ins) code;
  uint64_t module_shared; /* static bytes of the module's own variables */
} ptx_parser;

/* Keeps the first failure. Always false. */
bool ptx_fail(ptx_parser *p, const char *fmt, ...) TN_PRINTF(2, 3);
bool ptx_next(ptx_parser *p);
bool ptx_is(const ptx_parser *p, const char *text); /* the token */
bool ptx_take(ptx_parser *p, const char *text);     /* and moves on; false: it is another one */
bool ptx_expect(ptx_parser *p, const char *text);
char *ptx_word(ptx_parser *p); /* the token's text in the arena */
/* A non-negative integer. */
bool ptx_integer(ptx_parser *p, uint64_t *out);
bool ptx_type_word(ptx_parser *p, ptx_type *out); /* ".b32", and moves on */

bool ptx_name_add(ptx_parser *p, const char *name, const ptx_name *n);
const ptx_name *ptx_name_find(const ptx_parser *p, tn_str name);
/* parse_code.c: an instruction, from its guard to the semicolon. */
bool ptx_parse_instruction(ptx_parser *p);
#endif
