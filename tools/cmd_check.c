/* cmd_check.c - tenon check: everything that would stop a compile, in one go, without compiling. */
#include "tools/tool.h"
#include <stdio.h>

static const uint8_t check_options[] = {OPT_backend, TN_MODEL_OPTIONS, OPT_plugin,
                                        OPT_json,    OPT_verbose,      OPT_help};

static void summary(const tn_args *a, tn_driver *d, tn_module *m) {
  uint64_t ops = 0, bytes = 0;
  uint32_t entries = 0;
  tn_attr private;
  tn_buf notes = {0};
  for (tn_func f = 1; f <= tn_ir_func_count(m); f++) entries += !tn_ir_func_attr(m, f, "private", &private);
  for (tn_func f = 1; f <= tn_ir_func_count(m); f++)
    for (tn_op op = tn_ir_first_op(m, f, 0); op; op = tn_ir_next_op(m, op)) ops++;
  for (tn_weight w = 1; w <= tn_ir_weight_count(m); w++) {
    tn_weight_info info;
    tn_ir_weight_get(m, w, &info);
    bytes += tn_weight_bytes(m, &info);
  }
  const char *arch = tn_ir_meta_get(m, "architecture"), *task = tn_ir_meta_get(m, "task");
  tn_diags_json(d->diags, &notes); /* {"messages": [...]}: joins the object */
  if (a->given[OPT_json])
    printf("{\"ok\": true, \"architecture\": \"%s\", \"task\": \"%s\", \"entries\": %u, \"ops\": %llu, "
           "\"weights\": %u, \"weight_bytes\": %llu, \"warnings\": %u, %s\n",
           arch ? arch : "", task ? task : "", entries, (unsigned long long)ops, tn_ir_weight_count(m),
           (unsigned long long)bytes, d->diags->warnings, tn_buf_cstr(&notes) + 1);
  else
    printf("%s: ok for backend %s: %s, %u entry points, %llu ops, %u weights, %.1f MB\n", a->positional[0],
           d->options.target ? d->options.target : d->options.backend, arch ? arch : "IR text", entries,
           (unsigned long long)ops, tn_ir_weight_count(m), (double)bytes / 1e6);
  tn_buf_fini(&notes);
}

/* --json: the messages are the data. */
static void refusals(tn_diags *d) {
  tn_buf out = {0};
  tn_diags_json(d, &out);
  puts(tn_buf_cstr(&out));
  tn_buf_fini(&out);
}

static tn_status check(const tn_args *a, tn_driver *d, tn_module **m) {
  tn_pipeline_run run = {.pipeline = "partition"};
  d->options.report = true;
  tn_status s = tn_driver_load(d, a->positional[0], m);
  if (s == TN_OK) s = tn_driver_pick(d, true);
  if (s == TN_OK) s = tn_driver_optimize(d, *m, &run);
  tn_pipeline_fini(&run);
  bool good = s == TN_OK && !d->diags->errors;
  if (good) summary(a, d, *m);
  if (!good && a->given[OPT_json]) refusals(d->diags);
  return s;
}

static int run_check(const tn_args *a) { return tn_tool_with_driver(a, check); }

const tn_command tn_cmd_check = {"check",
                                 "say everything that would stop a compile",
                                 "MODEL [options]",
                                 "Reads the configuration, the tensors and the page, builds the graph, and "
                                 "asks the backends about every op.",
                                 check_options,
                                 TN_COUNT(check_options),
                                 1,
                                 1,
                                 run_check};
