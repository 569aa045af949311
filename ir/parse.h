/* parse.h - what the pieces of the text reader share: the lexer (lex.c), types, dims and attributes
 * (parse_value.c), ops (parse_op.c) and the module level (parse.c). Every function that fails has reported,
 * and says so by false or 0; its caller then skips to the next line or item and goes on. Private to ir/. */
#ifndef TN_PARSE_H
#define TN_PARSE_H
#include "ir/module.h"

enum {
  TN_TOK_END,
  TN_TOK_WORD,
  TN_TOK_NUMBER,
  TN_TOK_STRING,
  TN_TOK_VALUE,
  TN_TOK_SYMBOL,
  TN_TOK_PUNCT,
  TN_TOK_BAD
};
typedef struct tn_token {
  uint32_t kind, line, col;
  bool first;        /* on its line */
  char punct;        /* PUNCT: the character; 'L' for <=, '>' for -> */
  const char *start; /* of its text in the file */
  const char *text;  /* WORD, NUMBER, STRING, VALUE, SYMBOL: without sigil and quotes, escapes resolved */
} tn_token;

typedef struct tn_parser {
  tn_module *m;
  const char *file;
  const char *at, *end; /* what is not read yet */
  uint32_t line;
  const char *line_start;
  bool fresh;     /* nothing but space since the line's start */
  tn_token tok;   /* the current token */
  tn_arena arena; /* texts of tokens, lists under way */
  uint32_t errors;
  bool dry; /* out of memory: give up */
} tn_parser;

#define TN_PARSE_DEPTH 64    /* of nested brackets in dims and locations */
#define TN_PARSE_ERRORS 1000 /* then the rest of the file is not looked at */

/* lex.c */
void tn_parse_next(tn_parser *p);
bool tn_parse_error(tn_parser *p, const tn_token *at, const char *fmt, ...) TN_PRINTF(3, 4); /* false */
void tn_parse_place(tn_parser *p, const tn_token *at); /* where the module's own messages are put */
bool tn_parse_oom(tn_parser *p);                       /* false */
bool tn_parse_failed(tn_parser *p);                    /* the module has reported: false */
bool tn_parse_is(const tn_parser *p, char punct);
bool tn_parse_is_word(const tn_parser *p, const char *word);
bool tn_parse_take(tn_parser *p, char punct); /* takes it if it is there */
bool tn_parse_take_word(tn_parser *p, const char *word);
bool tn_parse_expect(tn_parser *p, char punct, const char *where);
const char *tn_parse_token_text(const tn_parser *p); /* for messages */
/* Behind what begins at `from`: to the next line, or behind the bodies that open on this one. */
void tn_parse_skip_line(tn_parser *p, const tn_token *from);
void tn_parse_skip_block(tn_parser *p); /* behind the brace that closes what we are in */

/* parse_value.c */
tn_dim tn_parse_dim(tn_parser *p);
tn_type tn_parse_type(tn_parser *p);
bool tn_parse_u64(tn_parser *p, const char *what, uint64_t *out);
bool tn_parse_int(tn_parser *p, int64_t *out);
bool tn_parse_string(tn_parser *p, const char *what, const char **out);
bool tn_parse_attr(tn_parser *p, uint32_t kind, tn_attr *out); /* any kind but DATA */
bool tn_parse_free_attr(tn_parser *p, tn_attr *out);           /* of a function: the kind is in the syntax */
bool tn_parse_skip_data(tn_parser *p);                         /* steps over a DATA value */
bool tn_parse_data(tn_parser *p, tn_dtype t, tn_bytes *out);
tn_loc tn_parse_loc(tn_parser *p); /* behind the word loc */

/* parse_op.c */
void tn_parse_body(tn_parser *p, tn_point end, const tn_token *open,
                   tn_map *names); /* ops up to and with } */
/* Enters a name; v 0: it stands for something that was in error, so its uses are not. */
bool tn_parse_define(tn_parser *p, tn_map *names, const tn_token *name, tn_value v);
#endif
