/* config.h - config.json as a checked tree, and the tables that make configs of all families look alike:
 * aliases.def gives a value its canonical name, ignore.def names the keys that never change a graph.
 * json.c is the only code in tenon that touches a JSON library. */
#ifndef TN_CONFIG_H
#define TN_CONFIG_H
#include "ir/base/diag.h"

typedef enum tn_json_kind {
  TN_JSON_NULL,
  TN_JSON_BOOL,
  TN_JSON_INT,
  TN_JSON_REAL,
  TN_JSON_STRING,
  TN_JSON_LIST,
  TN_JSON_OBJECT
} tn_json_kind;
typedef struct tn_json {
  tn_json_kind kind;
  uint32_t count;  /* LIST, OBJECT */
  bool used;       /* set when a reader asked for it: unknown keys are those never used */
  bool made;       /* not in the file: added by tn_json_add */
  const char *key; /* in an OBJECT: its key */
  union {
    bool b;
    int64_t i;
    double r;
    tn_str s;
    struct tn_json *items;
  } u;
} tn_json;

/* Parses strictly: one value, valid UTF-8, no duplicate keys, depth <= 64, integers in int64, finite reals.
 * Accepts what Python's json writes beyond the standard: NaN, Infinity, -Infinity (as reals). Nodes live in
 * the arena; objects keep the order of the file. Errors (TN_INVALID, TN_OOM) have `file`, line and column. */
tn_status tn_json_parse(tn_arena *arena, tn_str text, const char *file, tn_diags *diags, tn_json **out);
tn_json *tn_json_get(const tn_json *object,
                     const char *key); /* NULL: none, or not an object; marks it used */
tn_json *tn_json_path(const tn_json *object, const char *dotted); /* "text_config.hidden_size" */
/* As tn_json_get, but the key stays unused: for readers that do not change the graph. */
tn_json *tn_json_peek(const tn_json *object, const char *key);
bool tn_json_equal(const tn_json *a, const tn_json *b); /* by value; 1 equals 1.0 */
/* Writes a node as compact JSON; NaN and infinities as Python's json does. */
void tn_json_write(tn_buf *out, const tn_json *node);
const char *tn_json_kind_name(tn_json_kind kind); /* "an integer" */

/* Adds key (copied) with a null value and returns its node, to be filled; an existing key is returned as it
 * is. Nodes of the object that were handed out before are stale afterwards. NULL: no memory. */
tn_json *tn_json_add(tn_arena *arena, tn_json *object, const char *key);

/* Adds the canonical name of every aliased key (aliases.def), and num_labels. Two names of one value that
 * differ are TN_INVALID; a null counts as absent. Keys are marked used only when a reader asks for them. */
tn_status tn_config_canonical(tn_arena *arena, tn_json *root, const char *file, tn_diags *diags);
/* Warns about every key that nobody read and that ignore.def does not know: the model may need it. */
void tn_config_report_unknown(const tn_json *root, const char *file, tn_diags *diags);
#endif
