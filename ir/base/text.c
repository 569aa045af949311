/* text.c - a text as a file that appears whole or not at all. */
#include "tools/driver/driver.h"

tn_status tn_text_write(const char *path, const tn_buf *text, tn_diags *d) {
  tn_outfile o;
  const char *why = "no space or no permission";
  tn_status s = tn_outfile_open(&o, path, &why);
  if (s != TN_OK) return tn_fail(d, s, path, NULL, "cannot write: %s", why);
  s = tn_outfile_write(&o, text->text, text->len);
  if (s == TN_OK) s = tn_outfile_commit(&o, 0644);
  tn_outfile_abort(&o);
  return s == TN_OK ? s : tn_fail(d, s, path, NULL, "cannot write: %s", why);
}
