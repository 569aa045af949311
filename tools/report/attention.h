/* attention.h - the attention weights of a prompt, for a report. */
#ifndef TN_REPORT_ATTENTION_H
#define TN_REPORT_ATTENTION_H
#include "tools/report/report.h"

typedef struct tn_attention_options {
  const char *text;
  const char *layers; /* "0,5,11"; NULL: all, of more than six some */
  uint32_t threads;   /* 0: one per core */
} tn_attention_options;
/* Runs the model over the text and adds every head of the chosen layers. At most 128 tokens. */
tn_status tn_report_attention_of(tn_report *r, const tn_driver_options *driver, const char *model,
                                 const tn_attention_options *o, tn_diags *d);
/* As --attention and --layers say; nothing without --attention. */
tn_status tn_report_attention_asked(tn_report *r, const tn_args *a, const char *model, tn_diags *d);
#endif
