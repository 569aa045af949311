/* quantize.h - what the files of `tenon quantize` share: the state of one run.
 *
 *   open -> importance -> plan -> (search) -> (calibrate) -> save -> report
 *
 * The plan gives every tensor of `view`, the model under the names of the format that is written, its type.
 */
#ifndef TN_QUANTIZE_H
#define TN_QUANTIZE_H
#include "frontend/checkpoint/checkpoint.h"
#include "frontend/checkpoint/pack.h"
#include "frontend/gguf/imatrix.h"
#include "passes/quantize/scheme.h"
#include "tools/report/report.h"
#include "tools/tool.h"

typedef struct tn_qtensor {
  const tn_ck_tensor *t;
  tn_scheme_class cls;
  uint32_t ordinal;       /* among those of its class */
  uint64_t rows, columns; /* all dims but the last; the last */
  tn_dtype to;
  bool chosen;             /* its type was given by the user: searches leave it */
  const char *why;         /* of the type, if not the scheme's usual one; NULL */
  const char *gguf_name;   /* its name in imatrix files; NULL: not known */
  uint32_t expert;         /* of a stack under that name: which one this tensor is */
  const float *importance; /* [importance_rows, columns]; NULL: none */
  uint64_t importance_rows;
  uint64_t bytes; /* as `to` */
  tn_ck_error error;
} tn_qtensor;

typedef struct tn_quantize {
  const tn_args *args;
  tn_diags *diags;
  tn_arena arena;
  tn_driver_options driver; /* how the model is read where it has to run */
  const char *in, *out;     /* out NULL: --dry-run without one */
  tn_ck_format format;      /* of out */
  const tn_scheme *scheme;
  tn_dtype type; /* of most matrices; 0: every tensor stays */
  tn_checkpoint *source, *view;
  tn_qtensor *tensors; /* as of view */
  tn_dtype *types;     /* of the same tensors, as tn_ck_save takes them */
  uint32_t count;
  tn_imatrix imatrix;
  bool has_imatrix;
  const tn_ck_pack *pack; /* folders of packed tensors; NULL: none */
  uint32_t threads;
  /* What is saved. ctx is the tn_quantize; `encode` and `whole` are free for calibrate.c to set. */
  tn_ck_save save;
  void *calibration; /* of calibrate.c */
  tn_report report;
  uint32_t done; /* tensors that are saved, for the progress */
  double began;
} tn_quantize;

/* importance.c: --imatrix, and which entry is whose. */
tn_status tn_quantize_importance(tn_quantize *q);

/* classes.c: what each tensor of the view is to schemes; fills everything of q->tensors but the types. */
tn_status tn_quantize_classify(tn_quantize *q, tn_scheme_model *m);

/* overrides.c: REGEX=TYPE pairs. */
typedef struct tn_qoverrides tn_qoverrides;
tn_status tn_qoverrides_read(const tn_args *a, tn_diags *d, tn_qoverrides **out);
void tn_qoverrides_free(tn_qoverrides *o);
/* The type of the first pattern that the name matches; 0: none. *pattern: its text. */
tn_dtype tn_qoverrides_find(tn_qoverrides *o, const char *name, const char **pattern);

/* plan.c: a type for each tensor, by scheme and options; everything that stands in the way is reported. */
tn_status tn_quantize_plan(tn_quantize *q);
/* A type by its name, with an encoder: 0 and an error if there is none. `what`: the option, for the message.
 */
tn_dtype tn_quantize_type(tn_diags *d, const char *what, const char *name);
/* Bytes of the tensor as that type, in the format that is written. */
uint64_t tn_quantize_bytes(const tn_quantize *q, const tn_qtensor *t, tn_dtype type);
/* Whether the tensor's numbers are encoded anew. */
bool tn_quantize_encodes(const tn_qtensor *t);

/* search.c: --target-bpw, --target-size and --max-kld choose the types that the plan left open. */
bool tn_quantize_searches(const tn_args *a);
tn_status tn_quantize_search(tn_quantize *q);

/* candidates.c: the types that a search may give each tensor, and the error of each: the squared difference
 * over the squared numbers, weighted by importance, of a sample of rows. */
typedef struct tn_qcandidate {
  tn_dtype type;
  uint64_t bytes;
  double error;
} tn_qcandidate;
typedef struct tn_qchoice {
  uint32_t tensor, count;
  tn_qcandidate *candidates; /* the first is the tensor as it is, where that is a candidate at all */
} tn_qchoice;
typedef struct tn_qchoices {
  TN_VEC(tn_qchoice) items;
} tn_qchoices;
tn_status tn_quantize_candidates(tn_quantize *q, tn_qchoices *out); /* in the arena but the vector */

/* probe.c: the model with other types, run on --eval against the model that is read. */
typedef struct tn_qprobe tn_qprobe;
tn_status tn_qprobe_open(tn_quantize *q, tn_qprobe **out);
tn_status tn_qprobe_measure(tn_qprobe *p, const tn_dtype *types, double *kl);
void tn_qprobe_close(tn_qprobe *p); /* NULL: nothing */
/* --sensitivity: the cost of each layer's planned types by themselves, into the report. */
tn_status tn_quantize_sensitivity(tn_quantize *q);

/* table.c: the plan or the result, as a table or JSON on stdout, and as rows of the report. */
typedef struct tn_qtotals {
  uint64_t values, before, after;       /* bytes */
  uint64_t matrix_values, matrix_bytes; /* of tensors that schemes may change */
} tn_qtotals;
tn_qtotals tn_quantize_totals(const tn_quantize *q);
void tn_quantize_print(tn_quantize *q, bool planned, double seconds);
void tn_quantize_report(tn_quantize *q);

/* onnx.c: schemes int8-static and int8-dynamic, where OUT is an ONNX file. Exit status. */
int tn_quantize_onnx(const tn_args *a);
#define TN_INT8_OPTIONS                                                                                      \
  OPT_exclude, OPT_calibration_method, OPT_percentile, OPT_symmetric, OPT_per_tensor, OPT_activation_scales, \
      OPT_leave_tables, OPT_opset, OPT_external_data, OPT_task, OPT_shapes, OPT_fix, OPT_O1, OPT_O2,         \
      OPT_passes, OPT_calibration, OPT_method

/* calibrate.c: --calibration TEXT with --method: called when the plan is made and nothing is written yet.
 * Observes q->in, sets save.encode and save.whole, and may change q->tensors[i].to with q->types[i]. Does
 * nothing without --calibration. The end frees what it kept, also after a failure. */
tn_status tn_quantize_calibrated(tn_quantize *q);
void tn_quantize_calibrated_end(tn_quantize *q);

#endif
