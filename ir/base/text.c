/* text.c - small files, which appear whole or not at all. */
#include "ir/base/diag.h"

tn_status tn_file_write(const char *path, const void *p, uint64_t n, tn_diags *d) {
  tn_outfile o;
  const char *why = "out of memory";
  tn_status s = tn_outfile_open(&o, path, &why);
  if (s != TN_OK) return tn_fail(d, s, path, NULL, "cannot write: %s", why);
  s = tn_outfile_write(&o, p, n);
  if (s == TN_OK) s = tn_outfile_commit(&o, 0644);
  tn_outfile_abort(&o);
  return s == TN_OK ? s : tn_fail(d, s, path, NULL, "cannot write: is the disk full?");
}

tn_status tn_text_write(const char *path, const tn_buf *text, tn_diags *d) {
  if (text->failed) return tn_fail(d, TN_OOM, path, NULL, "cannot write: out of memory");
  return tn_file_write(path, text->text, text->len, d);
}
