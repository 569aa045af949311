/* json_folder.c - placeholder */
#include "frontend/config/folder.h"
#include "frontend/tokenizer/json_import.h"

tn_status tn_tokenizer_import(const char *folder, tn_buf *blob, tn_diags *diags) {
  tn_file f;
  if (!tn_folder_has(folder, "tokenizer.json")) return TN_NOT_FOUND;
  TN_TRY(tn_folder_map(folder, "tokenizer.json", diags, &f));
  tn_status s = tn_tokenizer_import_json((tn_str){(const char *)f.data, f.size}, "tokenizer.json", blob, diags);
  tn_file_unmap(&f);
  return s;
}
