/* report.h - what a run did and what it cost, as report.json and one self-contained report.html that draws
 * it. Commands add rows while they work; sections without rows are left out. README.md has the schema. */
#ifndef TN_REPORT_H
#define TN_REPORT_H
#include "passes/pass.h"
#include "tools/tool.h"

typedef struct tn_report {
  tn_buf head, tensors, layers, fusions, phases, accuracy, outputs, latency, memory, attention, nodes,
      messages;
  double began;
} tn_report;

void tn_report_init(tn_report *r, const char *command, const tn_args *a);
void tn_report_fini(tn_report *r);
/* "before" or "after": a model's files. */
void tn_report_model(tn_report *r, const char *which, const char *path, const char *format, uint64_t bytes,
                     double bits_per_weight);

typedef struct tn_report_tensor {
  const char *name, *from, *to; /* types; equal: kept */
  uint32_t rank;
  const int64_t *shape;
  uint64_t bytes_before, bytes_after;
  double bits;                /* per weight, after */
  double rmse, nmse, max_abs; /* NaN: not measured */
  double
      sensitivity; /* KL divergence of the model's output when only this tensor changes; NaN: not measured */
  bool importance; /* an importance matrix was used */
  const char *why; /* of the type, if not the scheme's usual one; NULL */
} tn_report_tensor;
void tn_report_tensor_add(tn_report *r, const tn_report_tensor *t);
/* KL divergence of the model's output when only this layer's tensors change; "embeddings" and "head" are
 * layers too. */
void tn_report_layer(tn_report *r, const char *layer, uint64_t bytes_before, uint64_t bytes_after, double kl);
void tn_report_fusions(tn_report *r, const tn_fusion *rows, uint32_t n, tn_module *m);
void tn_report_phase(tn_report *r, const char *name, double seconds);
/* One number of how right the result is: "kl_mean", "top1_agreement", "perplexity", "perplexity_reference",
 * "cosine_min" */
void tn_report_accuracy(tn_report *r, const char *key, double value);
void tn_report_output(tn_report *r, const char *name, double cosine, double max_abs, bool ok);
void tn_report_latency(tn_report *r, const char *what, double before_ms,
                       double after_ms); /* NaN: not measured */
void tn_report_memory(tn_report *r, const char *what, uint64_t before, uint64_t after);
/* A value inside the model on both sides, in the order of the first. */
void tn_report_node(tn_report *r, const char *name, double cosine, double max_abs, double nmse, bool ok);
/* One head's weights of a prompt: [n, n], row = query. */
void tn_report_attention(tn_report *r, uint32_t layer, uint32_t head, const char *const *tokens, uint32_t n,
                         const float *weights);
void tn_report_message(tn_report *r, uint32_t severity, const char *text); /* TN_NOTE, TN_WARNING, TN_ERROR */
/* The page alone, from the text of a report.json. */
void tn_report_page(const tn_buf *json, tn_buf *out);
/* Writes FOLDER/report.json and FOLDER/report.html, or, where `path` is no folder, PATH.report.json and
 * .html. The messages in d become part of it. */
tn_status tn_report_write(tn_report *r, const char *path, tn_diags *d);

/* run.c: for commands that take a model through a pipeline. NULL without --report; then the others do
 * nothing. The report lives as long as the driver. */
tn_report *tn_report_begin(tn_driver *d, const char *command, const tn_args *a);
void tn_report_passes(tn_report *r, const tn_pipeline_run *run, tn_module *m);
/* Adds the models' sizes, the steps and --attention, and writes it where --report says. */
tn_status tn_report_finish(tn_report *r, tn_driver *d, const tn_args *a, const char *in, const char *out);
void tn_report_drop(tn_report *r); /* safe after finish */
#endif
