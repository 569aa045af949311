/* config.h - config.json as a checked tree with places, and the alias table (aliases.def) that gives a value its
 * canonical name whatever the family calls it. The only JSON in tenon besides the tokenizer's and the index's goes
 * through json.h. */
#ifndef TN_CONFIG_H
#define TN_CONFIG_H
#include "ir/base/diag.h"

typedef enum tn_json_kind { TN_JSON_NULL, TN_JSON_BOOL, TN_JSON_INT, TN_JSON_REAL, TN_JSON_STRING, TN_JSON_LIST, TN_JSON_OBJECT } tn_json_kind;
typedef struct tn_json {
  tn_json_kind kind;
  uint32_t count;                     /* LIST, OBJECT */
  bool used;                          /* set when a reader asked for it: unknown keys are those never used */
  const char *key;                    /* in an OBJECT: its key */
  union { bool b; int64_t i; double r; tn_str s; struct tn_json *items; } u;
} tn_json;

/* Parses strictly: one value, valid UTF-8, no duplicate keys, depth <= 64, integers in int64, finite reals.
 * Accepts what Python's json writes beyond the standard: NaN, Infinity (as reals). Nodes live in the arena. */
tn_status tn_json_parse(tn_arena *arena, tn_str text, const char *file, tn_diags *diags, tn_json **out);
tn_json *tn_json_get(const tn_json *object, const char *key); /* NULL: none, or not an object; marks it used */
tn_json *tn_json_path(const tn_json *object, const char *dotted); /* "text_config.hidden_size" */
#endif
