/* linker.h - running the system's linker: which one, with which arguments, and its words when it refuses. */
#ifndef TN_LINKER_H
#define TN_LINKER_H
#include "ir/base/diag.h"

/* A folder of temporary files that is removed with everything in it. */
typedef struct tn_tempdir {
  char path[256];
  TN_VEC(char *) files;
} tn_tempdir;
tn_status tn_tempdir_open(tn_tempdir *t, tn_diags *diags);
/* The path of a new file in it, which is written if bytes.ptr is not NULL. NULL: reported. */
const char *tn_tempdir_file(tn_tempdir *t, const char *name, tn_bytes bytes, tn_diags *diags);
void tn_tempdir_close(tn_tempdir *t);

typedef struct tn_link_args {
  const char **items;
  uint32_t count;
} tn_link_args;

/* Runs `linker` (path or name; NULL: the first found of ld.lld-22, ld.lld, ld, cc) with -shared, the C
 * library and `args`, linker options and objects. The result is `output`. */
tn_status tn_linker_run(const char *linker, const tn_link_args *args, const char *output, tn_tempdir *temp,
                        tn_diags *diags);

#endif
