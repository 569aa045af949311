/* json_import.h - one import from begin to end, for json_folder.c. */
#ifndef TN_TK_JSON_IMPORT_H
#define TN_TK_JSON_IMPORT_H
#include "frontend/tokenizer/json.h"

void tn_tk_reader_init(tn_tk_reader *r, const char *file, tn_diags *diags);
void tn_tk_reader_fini(tn_tk_reader *r);
tn_status tn_tk_read_root(tn_tk_reader *r, const tn_json *root);
tn_status tn_tk_reader_write(tn_tk_reader *r, tn_buf *out); /* appends the blob */
#endif
