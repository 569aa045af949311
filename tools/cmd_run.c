/* cmd_run.c - tenon run: a model, or a library made of one, on texts (tasks.c) or on tensors. */
#include "tools/profile/profile.h"
#include "tools/tool.h"
#include <stdio.h>
#include <stdlib.h>

static const uint8_t run_options[] = {OPT_text,
                                      OPT_context,
                                      OPT_prompt,
                                      OPT_ids,
                                      TN_SAMPLING_OPTIONS,
                                      OPT_top,
                                      OPT_entry,
                                      OPT_input,
                                      OPT_output_dir,
                                      OPT_threads,
                                      OPT_affinity,
                                      OPT_capacity,
                                      OPT_O0,
                                      OPT_O1,
                                      OPT_O2,
                                      OPT_O3,
                                      OPT_passes,
                                      OPT_backend,
                                      OPT_isa,
                                      OPT_target,
                                      OPT_require_target,
                                      OPT_device,
                                      TN_MODEL_OPTIONS,
                                      OPT_plugin,
                                      OPT_tuning,
                                      OPT_profile,
                                      OPT_trace,
                                      OPT_json,
                                      OPT_verbose,
                                      OPT_help};

/* Finds --input NAME=FILE for each input of the entry point and reads it. */
static tn_status read_inputs(const tn_args *a, const tn_opened *o, int entry, tn_tensor *in, uint32_t n,
                             tn_diags *d) {
  for (uint32_t i = 0; i < n; i++) {
    tn_arg_info arg;
    o->api->input(o->model, (uint32_t)entry, i, &arg);
    const char *file = NULL;
    for (uint32_t k = 0; tn_args_nth(a, OPT_input, k); k++) {
      const char *text = tn_args_nth(a, OPT_input, k), *eq = strchr(text, '=');
      if (!eq) return tn_fail(d, TN_INVALID, NULL, NULL, "--input: '%s' is not NAME=FILE", text);
      if (tn_str_is((tn_str){text, (uint64_t)(eq - text)}, arg.name)) file = eq + 1;
    }
    if (!file)
      return tn_fail(d, TN_INVALID, NULL, NULL, "input '%s' (%s %s) is missing: give --input %s=FILE.npy",
                     arg.name, tn_ir_dtype_info(arg.dtype)->name, arg.shape, arg.name);
    TN_TRY(tn_npy_read(file, &in[i], d));
  }
  return TN_OK;
}

static tn_status write_outputs(const tn_args *a, const tn_opened *o, int entry, const tn_tensor *out,
                               uint32_t n, tn_diags *d) {
  const char *dir = a->last[OPT_output_dir];
  tn_arena arena;
  tn_arena_init(&arena);
  tn_status s = TN_OK;
  for (uint32_t i = 0; s == TN_OK && i < n; i++) {
    tn_arg_info arg;
    o->api->output(o->model, (uint32_t)entry, i, &arg);
    printf("%s: %s [", arg.name, tn_ir_dtype_info(out[i].dtype)->name);
    for (uint32_t k = 0; k < out[i].rank; k++) printf("%s%lld", k ? ", " : "", (long long)out[i].shape[k]);
    puts("]");
    if (dir) s = tn_npy_write(tn_arena_printf(&arena, "%s/%s.npy", dir, arg.name), &out[i], d);
  }
  tn_arena_fini(&arena);
  return s;
}

static tn_status run_tensors(const tn_args *a, const tn_opened *o, tn_diags *d) {
  int entry = tn_opened_entry(o, a->last[OPT_entry]);
  if (entry < 0)
    return tn_fail(d, TN_NOT_FOUND, NULL, NULL, "the model has no entry point '%s'", a->last[OPT_entry]);
  tn_entry_info info;
  o->api->entry(o->model, (uint32_t)entry, &info);
  tn_tensor *in = calloc(info.ninputs + 1, sizeof *in), *out = calloc(info.noutputs + 1, sizeof *out);
  tn_session *s = NULL;
  bool bad = false;
  tn_session_options so = {.threads = (uint32_t)tn_args_int(a, OPT_threads, 0, &bad),
                           .capacity = tn_args_int(a, OPT_capacity, 0, &bad)};
  tn_status st = !in || !out ? TN_OOM : bad ? TN_INVALID : read_inputs(a, o, entry, in, info.ninputs, d);
  if (st == TN_OK && info.ninputs && in[0].rank) so.batch = in[0].shape[0];
  if (st == TN_OK) st = tn_opened_session(o, &so, &s, d);
  tn_profile profile = {0};
  if (st == TN_OK) st = tn_profile_start(&profile, a, o, s, so.threads, d);
  if (st == TN_OK) st = tn_invoke_alloc(o, s, entry, in, out, d);
  if (st == TN_OK) st = write_outputs(a, o, entry, out, info.noutputs, d);
  if (st == TN_OK) st = tn_profile_stop(&profile, a, s);
  tn_profile_close(&profile);
  for (uint32_t i = 0; in && i < info.ninputs; i++) free(in[i].data);
  for (uint32_t i = 0; out && i < info.noutputs; i++) free(out[i].data);
  if (s) o->api->session_free(s);
  free(in);
  free(out);
  return st;
}

static tn_status run_model(const tn_args *a, tn_opened *o, tn_diags *d) {
  return a->last[OPT_entry] ? run_tensors(a, o, d) : tn_task_run(a, o, d);
}

static int run_run(const tn_args *a) { return tn_tool_with_model(a, run_model); }

const tn_command tn_cmd_run = {
    "run",
    "run a model or a compiled library",
    "MODEL|libNAME.so [--task NAME] [--text TEXT | -p PROMPT] [options]",
    "Tasks: feature-extraction, text-classification, token-classification, fill-mask, question-answering,\n"
    "text-generation. With --entry the tensors of --input are run instead.",
    run_options,
    TN_COUNT(run_options),
    1,
    1,
    run_run};
