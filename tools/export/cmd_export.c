/* cmd_export.c - tenon export: a model in a format that other programs read; and tenon optimize, the same
 * after passes that change the graph. */
#include "frontend/onnx/write.h"
#include "tools/export/export.h"
#include "tools/export/beside.h"
#include "tools/report/report.h"
#include "tools/reports.h"
#include <stdio.h>
#include <sys/resource.h>

#define WRITE_OPTIONS                                                                                        \
  OPT_opset, OPT_external_data, OPT_contrib, OPT_O1, OPT_O2, OPT_O3, OPT_passes, OPT_plugin,                 \
      OPT_time_passes, OPT_fusion_report, OPT_require_fusion, OPT_json, OPT_help
static const uint8_t export_options[] = {TN_MODEL_OPTIONS, OPT_entry, OPT_quantized, OPT_outtype,
                                         OPT_shard,        OPT_pre,   OPT_threads,   WRITE_OPTIONS};
static const uint8_t optimize_options[] = {WRITE_OPTIONS, OPT_report};

/* ---- options ----------------------------------------------------------------------------------------------
 */
static int quantized_of(const char *text) {
  static const char *const names[] = {"float", "dequantize", "matmulnbits"};
  for (int i = 0; i < (int)TN_COUNT(names); i++)
    if (!text || !strcmp(text, names[i])) return i;
  return -1;
}

static bool read_options(const tn_args *a, tn_ow_options *o) {
  bool bad = false;
  int quantized = quantized_of(a->last[OPT_quantized]);
  int64_t opset = tn_args_int(a, OPT_opset, 0, &bad);
  if (quantized < 0)
    return fprintf(stderr, "tenon: --quantized: '%s' is not float, dequantize or matmulnbits\n",
                   a->last[OPT_quantized]),
           false;
  if (!bad && a->last[OPT_opset] && (opset < TN_OW_OPSET_MIN || opset > TN_OW_OPSET_MAX))
    return fprintf(stderr, "tenon: --opset: '%s' is not between %d and %d\n", a->last[OPT_opset],
                   TN_OW_OPSET_MIN, TN_OW_OPSET_MAX),
           false;
  *o = (tn_ow_options){.opset = (uint32_t)opset,
                       .quantized = (uint32_t)quantized,
                       .contrib = a->given[OPT_contrib],
                       .external = a->given[OPT_external_data],
                       .task = a->last[OPT_task],
                       .entry = a->last[OPT_entry]};
  return !bad;
}

/* ---- the commands
 * -------------------------------------------------------------------------------------------- */
static uint32_t count_ops(tn_module *m) {
  uint32_t n = 0;
  for (tn_func f = 1; f <= tn_ir_func_count(m); f++)
    for (tn_op op = tn_ir_first_op(m, f, 0); op; op = tn_ir_next_op(m, op)) n++;
  return n;
}

static void print_result(const tn_args *a, const char *path, const tn_ow_report *r, uint32_t before,
                         uint32_t after, double seconds) {
  struct rusage u;
  getrusage(RUSAGE_SELF, &u);
  if (!a->given[OPT_json]) {
    printf("%s: opset %u, %u nodes, %.1f MB%s", path, r->opset, r->nodes, (double)r->model_bytes / 1e6,
           r->data_bytes ? "" : "\n");
    if (r->data_bytes) printf(" and %.1f MB in %s.data\n", (double)r->data_bytes / 1e6, path);
    return;
  }
  tn_buf out = {0};
  tn_buf_puts(&out, "{\"model\": ");
  tn_buf_json(&out, tn_str_of(path));
  tn_buf_printf(&out,
                ", \"opset\": %u, \"ops_before\": %u, \"ops_after\": %u, \"nodes\": %u, \"initializers\": "
                "%u, \"model_bytes\": %llu, \"data_bytes\": %llu, ",
                r->opset, before, after, r->nodes, r->initializers, (unsigned long long)r->model_bytes,
                (unsigned long long)r->data_bytes);
  tn_buf_printf(&out, "\"seconds\": %.3f, \"peak_memory_bytes\": %llu}", seconds,
                (unsigned long long)u.ru_maxrss * 1024);
  puts(tn_buf_cstr(&out));
  tn_buf_fini(&out);
}

/* `pipeline` NULL: the graph as it is. */
static tn_status write_stages(const tn_args *a, tn_driver *d, tn_module **m, const char *in, const char *out,
                              const char *pipeline, tn_ow_options *o, tn_report *made) {
  double begin = tn_now();
  const char *file, *folder;
  tn_ow_report report;
  d->options.task = NULL; /* that of the exported graph is no concern of the import */
  TN_TRY(tn_driver_load(d, in, m));
  uint32_t before = count_ops(*m);
  if (pipeline) {
    tn_pipeline_run run = {.pipeline = pipeline};
    tn_report_request(a, &run);
    run.pipeline = pipeline;
    tn_status s = tn_driver_optimize(d, *m, &run);
    tn_report_pipeline(a, *m, &run, stderr);
    tn_report_passes(made, &run, *m);
    tn_pipeline_fini(&run);
    TN_TRY(s);
  }
  TN_TRY(tn_export_place(d, out, &file, &folder));
  tn_export_weights w = {.d = d, .m = *m};
  tn_status s = tn_ow_write(&tn_ir_table, *m, o, &(tn_ow_source){.ctx = &w, .read = tn_export_weights_read},
                            file, d->diags, &report);
  tn_export_weights_close(&w);
  TN_TRY(s);
  if (folder) TN_TRY(tn_export_beside(d, folder));
  print_result(a, file, &report, before, count_ops(*m), tn_now() - begin);
  tn_report_phases(a, d);
  return tn_report_finish(made, d, a, in, file);
}

static tn_status write_model(const tn_args *a, tn_driver *d, tn_module **m, const char *in, const char *out,
                             const char *pipeline, tn_ow_options *o) {
  tn_report *made = tn_report_begin(d, pipeline ? "optimize" : "export", a);
  tn_status s = write_stages(a, d, m, in, out, pipeline, o, made);
  tn_report_drop(made);
  return s;
}

/* The pipeline of a level; `fallback` without one. */
static const char *pipeline_of(const tn_args *a, const char *fallback) {
  if (a->last[OPT_passes]) return a->last[OPT_passes];
  return a->given[OPT_O3]   ? "graph-O3"
         : a->given[OPT_O2] ? "graph-O2"
         : a->given[OPT_O1] ? "graph-O1"
                            : fallback;
}

static tn_status export_work(const tn_args *a, tn_driver *d, tn_module **m) {
  tn_ow_options o;
  (void)read_options(a, &o); /* was checked */
  return write_model(a, d, m, a->positional[1], a->positional[2], pipeline_of(a, NULL), &o);
}

static int run_export(const tn_args *a) {
  tn_ow_options o;
  if (!strcmp(a->positional[0], "gguf") || !strcmp(a->positional[0], "safetensors"))
    return tn_export_checkpoint(a);
  if (strcmp(a->positional[0], "onnx"))
    return fprintf(stderr, "tenon: export: '%s' is not a format; there are: onnx, gguf, safetensors\n",
                   a->positional[0]),
           2;
  return read_options(a, &o) ? tn_tool_with_driver(a, export_work) : 2;
}

static tn_status optimize_work(const tn_args *a, tn_driver *d, tn_module **m) {
  tn_ow_options o;
  (void)read_options(a, &o);
  return write_model(a, d, m, a->positional[0], a->positional[1], pipeline_of(a, "graph-O2"), &o);
}

static int run_optimize(const tn_args *a) {
  tn_ow_options o;
  return read_options(a, &o) ? tn_tool_with_driver(a, optimize_work) : 2;
}

const tn_command tn_cmd_export = {
    "export",
    "write a model as ONNX, GGUF or a Hugging Face folder",
    "onnx|gguf|safetensors MODEL OUT [options]",
    "onnx: MODEL is a Hugging Face folder, a GGUF file, an ONNX file or an IR file (.tir). OUT is a file, or "
    "a "
    "folder,\n"
    "which then also gets the tokenizer and configuration of a Hugging Face folder. Inputs and outputs have "
    "the "
    "names\n"
    "that Optimum gives them; a decoder is exported with past_key_values (--task text-generation: without).\n"
    "gguf, safetensors: MODEL is a folder or a GGUF file, and no graph is built of it: weights go from file "
    "to "
    "file, a few\n"
    "rows at a time, under the names and in the order that the other format has for them, with configuration "
    "and\n"
    "tokenizer. OUT of gguf is a file, or a folder for one; OUT of safetensors is a folder. "
    "tools/export/README.md "
    "says more.",
    export_options,
    TN_COUNT(export_options),
    3,
    3,
    run_export};

const tn_command tn_cmd_optimize = {"optimize",
                                    "make an ONNX file smaller and faster for any runtime",
                                    "IN.onnx OUT.onnx [-O1|-O2|-O3] [options]",
                                    "-O1 folds constants and drops what is computed twice or not used. -O2 "
                                    "(the default) also recovers norms,\n"
                                    "activations, softmax and attention that exporters took apart, and "
                                    "writes them as the ops of the chosen opset.\n"
                                    "-O3 also merges products that share their input.",
                                    optimize_options,
                                    TN_COUNT(optimize_options),
                                    2,
                                    2,
                                    run_optimize};
