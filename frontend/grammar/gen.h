/* gen.h - inside the translation of a JSON Schema. An expression is GBNF text that binds at least as tightly
 * as a sequence: alternatives come in parentheses. What is long or recursive becomes a rule. */
#ifndef TN_SCHEMA_GEN_H
#define TN_SCHEMA_GEN_H
#include "frontend/config/config.h"
#include "frontend/grammar/schema.h"

enum { TN_SCHEMA_MAX_DEPTH = 60, TN_SCHEMA_MAX_RULES = 9000, TN_SCHEMA_MAX_TEXT = 3 << 20 };

typedef struct tn_gen_schema {
  tn_arena arena;
  tn_json *root;
  const char *name;
  tn_diags *diags;
  tn_buf *out; /* rules so far */
  uint32_t nrules;
  tn_map refs;               /* "$ref" -> number of its rule */
  TN_VEC(tn_json *) pending; /* schemas of refs whose rules are still to be written, by order of refs */
  uint64_t commons;          /* of the fixed rules, those that are in use: bit i of tn_schema_common */
  uint32_t depth;
} tn_schema_gen;

/* Refuses, naming the keyword. */
tn_status tn_schema_refuse(tn_schema_gen *g, const char *keyword, const char *why);
/* Puts the name of a fixed rule (string, value, ws ...), which is then written at the end. */
void tn_schema_common(tn_schema_gen *g, tn_buf *e, const char *rule);
/* Puts least to most characters of a string. */
void tn_schema_characters(tn_schema_gen *g, tn_buf *e, uint32_t least, uint32_t most);
/* Writes "rN ::= body" and puts rN. */
tn_status tn_schema_rule(tn_schema_gen *g, tn_buf *body, tn_buf *e);
/* A GBNF literal of these bytes. */
void tn_schema_literal(tn_buf *e, tn_str text);
/* The expression of a schema; e grows. */
tn_status tn_schema_visit(tn_schema_gen *g, tn_json *schema, tn_buf *e);

/* merge.c: one schema that says what both say; b's `skip` is left out. TN_UNSUPPORTED where that cannot be
 * said. */
tn_status tn_schema_merge(tn_schema_gen *g, tn_json *a, tn_json *b, const char *skip, tn_json **out);
/* Whether no document satisfies both, as far as that can be seen. */
bool tn_schema_disjoint(tn_schema_gen *g, tn_json *a, tn_json *b, int depth);
tn_json *tn_schema_resolve(tn_schema_gen *g, tn_json *schema); /* through $ref; NULL: none such */

tn_status tn_schema_object(tn_schema_gen *g, tn_json *s, tn_buf *e);
tn_status tn_schema_array(tn_schema_gen *g, tn_json *s, tn_buf *e);
tn_status tn_schema_string(tn_schema_gen *g, tn_json *s, tn_buf *e);
tn_status tn_schema_number(tn_schema_gen *g, tn_json *s, bool integer, tn_buf *e);
/* regex.c: the inside of a JSON string that the pattern matches, anchored or not; its least and most
 * characters, UINT32_MAX: no limit. */
tn_status tn_schema_pattern(tn_schema_gen *g, tn_str pattern, tn_buf *e, uint32_t *least, uint32_t *most);

/* A count such as maxLength; `fallback` where it is not given. */
tn_status tn_schema_count(tn_schema_gen *g, tn_json *s, const char *keyword, uint32_t fallback,
                          uint32_t *out);
/* "{m,n}", or nothing for exactly one; most UINT32_MAX: no limit. */
void tn_schema_times(tn_buf *e, uint32_t least, uint32_t most);

#endif
