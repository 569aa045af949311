/* inspect.h - what inspect shows of a compiled module, as text (cmd_inspect.c) and as a page
 * (inspect_html.c). */
#ifndef TN_INSPECT_H
#define TN_INSPECT_H
#include "frontend/config/config.h"
#include "tools/tool.h"

/* One kernel of a function, in program order. */
typedef struct tn_inspect_kernel {
  tn_op op;
  const char *root;
  tn_buf ops;   /* "matmul, add, gelu": the body's ops */
  tn_buf types; /* result types */
  tn_buf loc;
} tn_inspect_kernel;
typedef TN_VEC(tn_inspect_kernel) tn_inspect_kernels;
tn_status tn_inspect_collect(tn_module *m, tn_func f, tn_inspect_kernels *out);
void tn_inspect_kernels_fini(tn_inspect_kernels *k);

/* Bytes of a weight, 0 if nothing uses it (the parts of a merged weight, for instance). */
uint64_t tn_inspect_weight_bytes(tn_module *m, tn_weight w, tn_weight_info *info);

/* A self-contained page: summary, graph of kernels and memory plan of each function, weights; with a profile
 * (the JSON of tn_profile_json, or NULL) its tables, and boxes coloured by their share of the time. `m`:
 * lowered. */
tn_status tn_inspect_html(tn_module *m, const char *title, const tn_json *profile, tn_buf *out);
void tn_html_put(tn_buf *out, const char *s); /* escaped */
const char *tn_html_colour(const char *root); /* the class of a kernel with this root */

/* inspect_report.c: --report: tensors, fusions, steps, and with --attention TEXT its attention. */
tn_status tn_inspect_report(const tn_args *a, tn_module *m, const tn_pipeline_run *run, tn_driver *d);

/* inspect_profile.c */
void tn_inspect_profile_put(const tn_json *profile, tn_buf *out);
/* What a profile says of a kernel: times in milliseconds, parts of 1. */
typedef struct tn_inspect_time {
  double median, share, of_limit;
  double most; /* the largest share in the same part */
} tn_inspect_time;
/* Kernel `index` of a function; false: it did not run, or there is no profile. */
bool tn_inspect_time_of(const tn_json *profile, const char *func, uint32_t index, tn_inspect_time *out);
/* Checks that it is a profile, and has what is read of it. */
tn_status tn_inspect_profile_check(const tn_json *profile, const char *path, tn_diags *d);
#endif
