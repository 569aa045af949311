/* header.h - writes foo.h: the C face of one compiled model, with its entry points, argument names, shapes,
 * types and limits taken from the step program. */
#ifndef TN_HEADER_H
#define TN_HEADER_H
#include "ir/base/diag.h"

/* `name` as in tn_link_job. Appends to out. The header is C99 and C++11 and includes <stddef.h> and
 * <stdint.h>. */
tn_status tn_header_write(tn_bytes program, const char *name, tn_buf *out, tn_diags *diags);

#endif
