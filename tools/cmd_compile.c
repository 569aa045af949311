/* cmd_compile.c - tenon compile: a model becomes libfoo.so and foo.h, or is shown at a stage on the way. */
#include "tools/driver/tuning.h"
#include "tools/report/report.h"
#include "tools/reports.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

static const uint8_t compile_options[] = {
    OPT_output,         OPT_O0,      OPT_O1,          OPT_O2,           OPT_O3,
    OPT_passes,         OPT_backend, OPT_isa,         OPT_target,       OPT_require_target,
    OPT_ptxas,          OPT_weights, OPT_emit,        TN_MODEL_OPTIONS, OPT_tune,
    OPT_tuning,         OPT_plugin,  OPT_verify_each, OPT_time_passes,  OPT_fusion_report,
    OPT_require_fusion, OPT_no_locs, OPT_report,      OPT_attention,    OPT_layers,
    OPT_json,           OPT_verbose, OPT_help};

static int weights_mode(const char *text) {
  static const char *const names[] = {"embed", "external", "inplace"};
  for (int i = 0; i < 3; i++)
    if (!text || !strcmp(text, names[i])) return i;
  return -1;
}

enum { EMIT_LIB, EMIT_IR, EMIT_KERNELS, EMIT_PROGRAM, EMIT_PTX, EMIT_CUBIN };
static int emit_kind(const char *text) {
  static const char *const names[] = {"lib", "ir", "kernels", "program", "ptx", "cubin"};
  for (int i = 0; i < 6; i++)
    if (!text || !strcmp(text, names[i])) return i;
  return -1;
}

static tn_status emit_module(const tn_args *a, tn_module *m) {
  tn_buf text = {0};
  tn_status s = tn_module_print_flags(m, &text, a->given[OPT_no_locs] ? TN_PRINT_NO_LOCS : 0);
  if (s == TN_OK) fputs(tn_buf_cstr(&text), stdout);
  tn_buf_fini(&text);
  return s;
}

static void report_result(const tn_args *a, const char *path, const tn_aot_result *r, double seconds,
                          tn_buf *steps) {
  struct rusage u;
  getrusage(RUSAGE_SELF, &u);
  struct rusage children;
  getrusage(RUSAGE_CHILDREN, &children);
  long peak = u.ru_maxrss > children.ru_maxrss ? u.ru_maxrss : children.ru_maxrss;
  if (a->given[OPT_json]) {
    tn_buf out = {0};
    tn_buf_puts(&out, "{\"library\": ");
    tn_buf_json(&out, tn_str_of(path));
    tn_buf_puts(&out, ", \"header\": ");
    tn_buf_json(&out, tn_str_of(r->header));
    tn_buf_printf(
        &out,
        ", \"library_bytes\": %llu, \"weights_bytes\": %llu, \"seconds\": %.3f, \"peak_memory_bytes\": %llu, "
        "\"steps\": %s}",
        (unsigned long long)r->library_bytes, (unsigned long long)r->weights_bytes, seconds,
        (unsigned long long)peak * 1024, tn_buf_cstr(steps));
    puts(tn_buf_cstr(&out));
    tn_buf_fini(&out);
    return;
  }
  printf("%s (%.1f MB, of which %.1f MB weights) and %s in %.2f s, peak memory %.0f MB\n", path,
         (double)r->library_bytes / 1e6, (double)r->weights_bytes / 1e6, r->header, seconds,
         (double)peak / 1e3);
  if (a->given[OPT_verbose]) puts(tn_buf_cstr(steps));
}

/* Measures, and keeps what the file says of other models and targets. */
static tn_status tune(const tn_args *a, tn_driver *d, tn_module *m, uint32_t mode) {
  const char *path = a->last[OPT_tune];
  double begin = tn_now();
  tn_tune_result r = {0};
  tn_tuning *t = tn_arena_alloc(&d->arena, sizeof *t);
  if (!t) return TN_OOM;
  tn_tuning_init(t);
  tn_status s = tn_path_exists(path) ? tn_tuning_read(t, path, d->diags) : TN_OK;
  if (s == TN_OK) s = tn_driver_tune(d, m, mode, t, &r);
  if (s == TN_OK) s = tn_tuning_write(t, path, d->diags);
  if (s == TN_OK && !a->given[OPT_json])
    printf("%s: %u of %u kernels got numbers for %s in %.1f s\n", path, r.tuned, r.kernels, r.target,
           tn_now() - begin);
  d->tuning = t; /* freed with the driver */
  return s;
}

static tn_status compile_to_library(const tn_args *a, tn_driver *d, tn_module *m, double begin) {
  tn_build b;
  uint32_t mode = (uint32_t)weights_mode(a->last[OPT_weights]);
  const char *path = a->last[OPT_output];
  if (a->last[OPT_tune]) TN_TRY(tune(a, d, m, mode));
  tn_status s = tn_driver_build(d, m, mode, &b);
  tn_aot_result r;
  if (s == TN_OK) s = tn_driver_aot(d, m, &b, mode, path, &r);
  tn_buf steps = {0};
  if (s == TN_OK) tn_report_steps(d, &b, a->given[OPT_json], &steps);
  if (s == TN_OK) report_result(a, path, &r, tn_now() - begin, &steps);
  tn_buf_fini(&steps);
  tn_build_fini(&b);
  return s;
}

static tn_status optimize_module(const tn_args *a, tn_driver *d, tn_module *m, tn_report *report) {
  tn_pipeline_run run = {0};
  tn_report_request(a, &run);
  tn_status s = tn_driver_optimize(d, m, &run);
  tn_report_pipeline(a, m, &run, stderr);
  tn_report_passes(report, &run, m);
  tn_pipeline_fini(&run);
  return s;
}

static tn_status compile_stages(const tn_args *a, tn_driver *d, tn_module **m, tn_report *report) {
  double begin = tn_now();
  int emit = emit_kind(a->last[OPT_emit]);
  bool machine_code = emit == EMIT_LIB || emit == EMIT_CUBIN;
  d->options.ptxas = !machine_code ? NULL : a->last[OPT_ptxas] ? a->last[OPT_ptxas] : "auto";
  TN_TRY(tn_driver_pick(d, true));
  TN_TRY(tn_driver_load(d, a->positional[0], m));
  if (emit == EMIT_IR) return emit_module(a, *m);
  TN_TRY(optimize_module(a, d, *m, report));
  if (emit == EMIT_KERNELS) return emit_module(a, *m);
  if (emit == EMIT_PROGRAM) return tn_report_program(d, *m, stdout);
  if (emit != EMIT_LIB) return tn_emit_code(d, *m, emit == EMIT_CUBIN, a->last[OPT_output]);
  TN_TRY(compile_to_library(a, d, *m, begin));
  return tn_report_finish(report, d, a, a->positional[0], a->last[OPT_output]);
}

static tn_status compile(const tn_args *a, tn_driver *d, tn_module **m) {
  tn_report *report = tn_report_begin(d, "compile", a);
  tn_status s = compile_stages(a, d, m, report);
  tn_report_drop(report);
  tn_report_phases(a, d);
  return s;
}

static int run_compile(const tn_args *a) {
  int emit = emit_kind(a->last[OPT_emit]);
  if (emit < 0)
    return fprintf(stderr, "tenon: --emit: '%s' is not lib, ir, kernels, program, ptx or cubin\n",
                   a->last[OPT_emit]),
           2;
  if (weights_mode(a->last[OPT_weights]) < 0)
    return fprintf(stderr, "tenon: --weights: '%s' is not embed, external or inplace\n",
                   a->last[OPT_weights]),
           2;
  if (emit == EMIT_LIB && !a->last[OPT_output])
    return fputs("tenon: compile needs -o libNAME.so\n", stderr), 2;
  if (a->last[OPT_tune] && (a->last[OPT_tuning] || emit != EMIT_LIB))
    return fputs(emit != EMIT_LIB ? "tenon: --tune needs a library to make; --emit shows no tuned code\n"
                                  : "tenon: --tune and --tuning: give one of them\n",
                 stderr),
           2;
  return tn_tool_with_driver(a, compile);
}

const tn_command tn_cmd_compile = {
    "compile",
    "compile a model to a shared library with a C header",
    "MODEL -o libNAME.so [options]",
    "MODEL is a Hugging Face folder (config.json and *.safetensors), a GGUF file or an IR "
    "file (.tir).\nWrites libNAME.so, which needs libc and libm only, and NAME.h "
    "beside it.",
    compile_options,
    TN_COUNT(compile_options),
    1,
    1,
    run_compile};
