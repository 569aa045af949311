/* schema.h - a JSON Schema as a GBNF grammar of the documents that satisfy it. Keywords that cannot be kept
 * to are refused by name, never passed over; keywords that only describe (title, description) are read. */
#ifndef TN_SCHEMA_H
#define TN_SCHEMA_H
#include "ir/base/diag.h"

/* `name` is for messages. Appends to gbnf. TN_INVALID: not a schema; TN_UNSUPPORTED: a keyword, or a
 * combination, that no grammar is made of. */
tn_status tn_schema_to_gbnf(tn_str json, const char *name, tn_buf *gbnf, tn_diags *diags);

#endif
