/* parse.h - the parser's state, shared by the files that parse pages, statements and expressions. */
#ifndef TN_PARSE_H
#define TN_PARSE_H
#include "frontend/describe/page.h"

typedef struct tn_parser {
  tn_page *page;
  tn_diags *diags;
  const tn_page_token *tokens;
  uint32_t at, count;
  uint32_t depth; /* of the expression being read */
  bool bad;       /* an error since the last recovery */
  bool failed, oom;
  bool config;   /* in the config section: dotted names, `default`, `|` splits the line */
  bool convert;  /* in the convert section: the same, but texts are names of tensors */
  tn_expr spare; /* what an allocation gives when memory has run out */
} tn_parser;

/* The current token; END once memory has run out. */
const tn_page_token *tn_peek(const tn_parser *p);
bool tn_peek_is(const tn_parser *p, const char *punct);
bool tn_peek_word(const tn_parser *p, const char *name);
bool tn_take_is(tn_parser *p, const char *punct); /* takes it if it is there */
bool tn_take_word(tn_parser *p, const char *name);
bool tn_expect(tn_parser *p, const char *punct); /* or reports */
const char *tn_expect_name(tn_parser *p, const char *what);
void tn_page_syntax(tn_parser *p, tn_pos pos, const char *fmt, ...) TN_PRINTF(3, 4);
void tn_expect_line_end(tn_parser *p);
/* Skips to the next line of this indentation, and forgets the error. */
void tn_recover(tn_parser *p);
/* A copy of a growing array in the arena; frees the array. */
void *tn_settle(tn_parser *p, void *items, uint32_t count, size_t size);

tn_expr *tn_parse_expr(tn_parser *p);
tn_exprs tn_parse_exprs(tn_parser *p); /* a, b, c */
tn_expr *tn_parse_names(tn_parser *p); /* "hf" | "gguf" or "..." */
tn_names tn_parse_name_list(tn_parser *p, const char *what);
tn_body tn_page_body(tn_parser *p); /* NEWLINE INDENT statements DEDENT */
/* The tokens first..now as written. */
const char *tn_token_text(tn_parser *p, uint32_t first);

bool tn_parse_config_line(tn_parser *p);
bool tn_parse_convert_line(tn_parser *p);
bool tn_parse_block(tn_parser *p, bool act);
bool tn_parse_graph(tn_parser *p);
#endif
