/* inspect.h - what inspect shows of a compiled module, as text (cmd_inspect.c) and as a page
 * (inspect_html.c). */
#ifndef TN_INSPECT_H
#define TN_INSPECT_H
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

/* A self-contained page: summary, graph of kernels and memory plan of each function, weights. `m`: lowered.
 */
tn_status tn_inspect_html(tn_module *m, const char *title, tn_buf *out);
#endif
