/* reports.h - what compile, opt and inspect say about a pipeline run and a step program. */
#ifndef TN_REPORTS_H
#define TN_REPORTS_H
#include "tools/tool.h"
#include <stdio.h>

/* Sets verify_each, print_after and so on from the command line. */
void tn_report_request(const tn_args *a, tn_pipeline_run *run);
/* report_phases.c: --time-passes. */
void tn_report_phases(const tn_args *a, tn_driver *d);
/* --rule-stats, --fusion-report, --print-after. */
void tn_report_pipeline(const tn_args *a, tn_module *m, tn_pipeline_run *run, FILE *to);
/* The step program as text: entries, variants, steps with operands, slots. Builds it. */
tn_status tn_report_program(tn_driver *d, tn_module *m, FILE *to);
/* emit_code.c: kernels per backend and copies of the built program: "steps: cuda 31, cpu 2, ..."; appends. */
void tn_report_steps(const tn_driver *d, const tn_build *b, bool json, tn_buf *out);
/* The PTX or the cubin of all kernels for a device, to `path`, or stdout. */
tn_status tn_emit_code(tn_driver *d, tn_module *m, bool cubin, const char *path);
/* "bert.model:12" for a location; appends. */
void tn_report_loc(tn_module *m, tn_loc loc, tn_buf *out);
#endif
