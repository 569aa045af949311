/* cmd_inspect.c - tenon inspect: what is in a model or a library: entry points, configuration, tensors,
 * kernels, memory. */
#include "tools/inspect/inspect.h"
#include "tools/profile/profile.h"
#include "tools/reports.h"
#include "tools/tool.h"
#include <stdio.h>

static const uint8_t inspect_options[] = {OPT_tensors,
                                          OPT_html,
                                          OPT_O0,
                                          OPT_O1,
                                          OPT_O2,
                                          OPT_O3,
                                          OPT_passes,
                                          OPT_backend,
                                          OPT_isa,
                                          OPT_target,
                                          OPT_require_target,
                                          TN_MODEL_OPTIONS,
                                          OPT_plugin,
                                          OPT_tuning,
                                          OPT_profile,
                                          OPT_report,
                                          OPT_attention,
                                          OPT_layers,
                                          OPT_threads,
                                          OPT_json,
                                          OPT_help};

/* ---- collecting
 * --------------------------------------------------------------------------------------------------- */

static void collect_body(tn_module *m, tn_op kernel, tn_buf *ops) {
  for (tn_op op = tn_ir_first_op(m, 0, kernel); op; op = tn_ir_next_op(m, op)) {
    uint32_t code = tn_ir_opcode(m, op);
    if (code != TN_OPC_yield && code != TN_OPC_constant)
      tn_buf_printf(ops, "%s%s", ops->len ? ", " : "", tn_ir_opcode_name(code));
  }
}

tn_status tn_inspect_collect(tn_module *m, tn_func f, tn_inspect_kernels *out) {
  for (tn_op op = tn_ir_first_op(m, f, 0); op; op = tn_ir_next_op(m, op)) {
    if (tn_ir_opcode(m, op) != TN_OPC_kernel) continue;
    tn_attr root;
    tn_inspect_kernel k = {.op = op, .root = tn_ir_op_attr(m, op, "root", &root) ? root.u.s : ""};
    collect_body(m, op, &k.ops);
    for (uint32_t i = 0; i < tn_ir_op_nresults(m, op); i++) {
      tn_value_info v;
      tn_ir_value_get(m, tn_ir_op_result(m, op, i), &v);
      if (i) tn_buf_puts(&k.types, ", ");
      tn_type_print(m, v.type, &k.types);
    }
    tn_report_loc(m, tn_ir_op_loc(m, op), &k.loc);
    if (!tn_vec_push(out, k)) return TN_OOM;
  }
  return TN_OK;
}

void tn_inspect_kernels_fini(tn_inspect_kernels *k) {
  for (uint32_t i = 0; i < k->count; i++) {
    tn_buf_fini(&k->items[i].ops);
    tn_buf_fini(&k->items[i].types);
    tn_buf_fini(&k->items[i].loc);
  }
  tn_vec_fini(k);
}

static void put_meta(const char *key, const char *value, bool json, bool first, tn_buf *out) {
  if (!json) {
    tn_buf_printf(out, "meta  %-16s %.200s\n", key, value);
    return;
  }
  if (!first) tn_buf_puts(out, ", ");
  tn_buf_json(out, tn_str_of(key));
  tn_buf_puts(out, ": ");
  tn_buf_json(out, tn_str_of(value));
}

/* ---- a library
 * ---------------------------------------------------------------------------------------------------- */

static void library_arg(tn_buf *out, bool json, bool first, const tn_arg_info *arg, const char *kind) {
  if (json) {
    tn_buf_printf(out, "%s{\"name\": \"%s\", \"dtype\": \"%s\", \"shape\": \"%s\"}", first ? "" : ", ",
                  arg->name, tn_ir_dtype_info(arg->dtype)->name, arg->shape);
  } else {
    tn_buf_printf(out, "    %-6s %-10s %s%s\n", kind, arg->name, tn_ir_dtype_info(arg->dtype)->name,
                  arg->shape);
  }
}

static void library_entry(const tn_opened *o, uint32_t i, bool json, tn_buf *out) {
  tn_entry_info e;
  tn_arg_info arg;
  o->api->entry(o->model, i, &e);
  tn_buf_printf(out, json ? "%s{\"name\": \"%s\", \"inputs\": [" : "%sentry %s\n", json && i ? ", " : "",
                e.name);
  for (uint32_t k = 0; k < e.ninputs; k++)
    if (o->api->input(o->model, i, k, &arg) == TN_OK) library_arg(out, json, k == 0, &arg, "input");
  if (json) tn_buf_puts(out, "], \"outputs\": [");
  for (uint32_t k = 0; k < e.noutputs; k++)
    if (o->api->output(o->model, i, k, &arg) == TN_OK) library_arg(out, json, k == 0, &arg, "output");
  if (json) tn_buf_puts(out, "]}");
}

static tn_status inspect_library(const tn_args *a, tn_opened *o, tn_diags *d) {
  (void)d;
  bool json = a->given[OPT_json];
  tn_buf out = {0};
  tn_buf_puts(&out, json ? "{\"name\": " : "model ");
  if (json)
    tn_buf_json(&out, tn_str_of(o->api->name(o->model)));
  else
    tn_buf_printf(&out, "%s\n", o->api->name(o->model));
  if (json) tn_buf_puts(&out, ", \"entries\": [");
  for (uint32_t i = 0; i < o->api->entry_count(o->model); i++) library_entry(o, i, json, &out);
  if (json) tn_buf_puts(&out, "], \"meta\": {");
  for (uint32_t i = 0; i < o->api->meta_count(o->model); i++) {
    const char *key = o->api->meta_key(o->model, i);
    put_meta(key, o->api->meta(o->model, key), json, i == 0, &out);
  }
  tn_buf_puts(&out, json ? "}}\n" : "");
  fputs(tn_buf_cstr(&out), stdout);
  tn_buf_fini(&out);
  return TN_OK;
}

/* ---- a model
 * ------------------------------------------------------------------------------------------------------ */

uint64_t tn_inspect_weight_bytes(tn_module *m, tn_weight w, tn_weight_info *info) {
  tn_value_info v;
  tn_ir_weight_get(m, w, info);
  tn_ir_value_get(m, info->value, &v);
  return v.nuses ? tn_weight_bytes(m, info) : 0;
}

static void put_tensors(tn_module *m, bool json, tn_buf *out) {
  bool first = true;
  for (tn_weight w = 1; w <= tn_ir_weight_count(m); w++) {
    tn_weight_info info;
    uint64_t bytes = tn_inspect_weight_bytes(m, w, &info);
    if (!bytes) continue;
    if (json) {
      tn_buf_puts(out, !first ? ",\n  {\"name\": " : "\n  {\"name\": ");
      tn_buf_json(out, tn_str_of(info.name));
      tn_buf_puts(out, ", \"type\": \"");
    } else {
      tn_buf_printf(out, "  %-60s ", info.name);
    }
    tn_type_print(m, info.type, out);
    tn_buf_printf(out, json ? "\", \"bytes\": %llu}" : "  %llu bytes\n", (unsigned long long)bytes);
    first = false;
  }
}

/* The arena when the batch is 1, the caches are empty and other sizes are `length`, or as much as they may
 * be.
 */
static tn_status put_plan(tn_module *m, tn_func f, int64_t length, bool json, tn_buf *out) {
  const char *position = tn_ir_meta_get(m, "dim.position"), *capacity = tn_ir_meta_get(m, "dim.capacity");
  uint32_t n = tn_dim_symbols(m);
  double *values = tn_mem_alloc((n + 1) * sizeof *values);
  tn_plan_size size;
  if (!values) return TN_OOM;
  for (uint32_t i = 0; i < n; i++) {
    const char *s = tn_dim_symbol(m, i);
    values[i] = !strcmp(s, "B") ? 1 : position && !strcmp(s, position) ? 0 : (double)length;
    if (capacity && !strcmp(s, capacity)) values[i] = 4096;
  }
  tn_status st = tn_plan_measure(m, f, values, n, &size);
  tn_mem_free(values);
  if (st == TN_OK)
    tn_buf_printf(out,
                  json ? "{\"length\": %lld, \"arena\": %llu, \"least\": %llu}"
                       : "    length %lld: arena %llu bytes, no plan needs less than %llu\n",
                  (long long)length, (unsigned long long)size.plan, (unsigned long long)size.least);
  return st;
}

static void put_function(tn_module *m, tn_func f, bool json, tn_buf *out) {
  static const int64_t lengths[] = {1, 16, 128};
  tn_func_info info;
  tn_ir_func_get(m, f, &info);
  tn_inspect_kernels k = {0};
  tn_inspect_collect(m, f, &k);
  tn_buf_printf(out,
                json ? "%s\n  {\"name\": \"%s\", \"kernels\": %u, \"arena\": \""
                     : "%sentry %s: %u kernels, arena ",
                json && f > 1 ? "," : "", info.name, k.count);
  tn_attr arena;
  if (tn_ir_func_attr(m, f, "arena", &arena)) tn_dim_print(m, arena.u.dim, out);
  tn_buf_puts(out, json ? "\", \"plans\": [" : " bytes\n");
  for (uint32_t i = 0; i < TN_COUNT(lengths); i++) {
    if (json && i) tn_buf_puts(out, ", ");
    if (put_plan(m, f, lengths[i], json, out) != TN_OK) out->failed = true;
  }
  if (json) tn_buf_puts(out, "]}");
  for (uint32_t i = 0; !json && i < info.nargs; i++) {
    tn_value_info v;
    tn_ir_value_get(m, info.args[i], &v);
    tn_buf_printf(out, "    input  %-10s ", info.arg_names[i]);
    tn_type_print(m, v.type, out);
    tn_buf_puts(out, "\n");
  }
  for (uint32_t i = 0; !json && i < info.nresults; i++) {
    tn_buf_printf(out, "    output %-10s ", info.result_names[i]);
    tn_type_print(m, info.results[i], out);
    tn_buf_puts(out, "\n");
  }
  tn_inspect_kernels_fini(&k);
}

static void put_model(const tn_args *a, tn_module *m, tn_buf *out) {
  bool json = a->given[OPT_json];
  uint64_t total = 0;
  uint32_t used = 0;
  for (tn_weight w = 1; w <= tn_ir_weight_count(m); w++) {
    tn_weight_info info;
    uint64_t bytes = tn_inspect_weight_bytes(m, w, &info);
    total += bytes;
    used += bytes > 0;
  }
  tn_buf_printf(out,
                json ? "{\"name\": \"%s\", \"weights\": %u, \"weight_bytes\": %llu, \"meta\": {"
                     : "model %s: %u weights, %llu bytes\n",
                tn_ir_module_name(m), used, (unsigned long long)total);
  for (uint32_t i = 0; i < tn_ir_meta_count(m); i++) {
    const char *key = tn_ir_meta_key(m, i);
    put_meta(key, tn_ir_meta_get(m, key), json, i == 0, out);
  }
  if (json) tn_buf_puts(out, "},\n \"functions\": [");
  for (tn_func f = 1; f <= tn_ir_func_count(m); f++) put_function(m, f, json, out);
  if (json) tn_buf_puts(out, "]");
  if (json && a->given[OPT_tensors]) tn_buf_puts(out, ",\n \"tensors\": [");
  if (a->given[OPT_tensors]) put_tensors(m, json, out);
  if (json && a->given[OPT_tensors]) tn_buf_puts(out, "]");
  if (json) tn_buf_puts(out, "}\n");
}

/* Runs the model as bench does. */
static tn_status measure_profile(const tn_args *a, const tn_driver_options *options, tn_diags *d,
                                 tn_buf *out) {
  tn_opened o;
  tn_profile p = {0};
  tn_status s = tn_opened_open(&o, a->positional[0], options, d);
  if (s == TN_OK) s = tn_profile_open(&p, &o, 0, false, d);
  if (s == TN_OK) s = tn_bench_profile(a, &o, &p, d);
  if (s == TN_OK) tn_profile_json(&p, out);
  if (p.o) tn_profile_close(&p);
  tn_opened_close(&o);
  return s;
}

static tn_status read_profile(const char *path, tn_diags *d, tn_buf *out) {
  tn_file f;
  const char *why;
  tn_status s = tn_file_map(&f, path, &why);
  if (s != TN_OK) return tn_fail(d, s, path, NULL, "cannot read the file: %s", why);
  tn_buf_put(out, f.data, f.size);
  tn_file_unmap(&f);
  return out->failed ? TN_OOM : TN_OK;
}

static tn_status write_page(const tn_args *a, tn_module *m, tn_driver *driver) {
  const char *path = a->last[OPT_profile];
  tn_diags *d = driver->diags;
  tn_buf page = {0}, text = {0};
  tn_json *profile = NULL;
  tn_arena arena;
  tn_status s = TN_OK;
  tn_arena_init(&arena);
  if (a->given[OPT_profile]) {
    s = path ? read_profile(path, d, &text) : measure_profile(a, &driver->options, d, &text);
    tn_str json = {tn_buf_cstr(&text), text.len};
    if (s == TN_OK) s = tn_json_parse(&arena, json, path ? path : "the profile", d, &profile);
    if (s == TN_OK) s = tn_inspect_profile_check(profile, path, d);
  }
  if (s == TN_OK) s = tn_inspect_html(m, a->positional[0], profile, &page);
  if (s == TN_OK) s = tn_text_write(a->last[OPT_html], &page, d);
  tn_buf_fini(&page);
  tn_buf_fini(&text);
  tn_arena_fini(&arena);
  return s;
}

static tn_status inspect_model(const tn_args *a, tn_driver *d, tn_module **m) {
  tn_pipeline_run run = {0};
  TN_TRY(tn_driver_pick(d, false));
  TN_TRY(tn_driver_load(d, a->positional[0], m));
  tn_status s = tn_driver_optimize(d, *m, &run);
  if (s == TN_OK && a->given[OPT_report]) s = tn_inspect_report(a, *m, &run, d);
  tn_pipeline_fini(&run);
  TN_TRY(s);
  if (a->given[OPT_attention] && !a->given[OPT_report])
    return tn_fail(d->diags, TN_INVALID, NULL, NULL, "--attention is drawn in the report of --report PATH");
  tn_buf out = {0};
  put_model(a, *m, &out);
  fputs(tn_buf_cstr(&out), stdout);
  tn_buf_fini(&out);
  if (a->given[OPT_profile] && !a->last[OPT_html])
    return tn_fail(d->diags, TN_INVALID, NULL, NULL, "--profile is shown on the page of --html FILE");
  return a->last[OPT_html] ? write_page(a, *m, d) : TN_OK;
}

static int run_inspect(const tn_args *a) {
  return tn_path_is_artefact(a->positional[0]) ? tn_tool_with_model(a, inspect_library)
                                               : tn_tool_with_driver(a, inspect_model);
}

const tn_command tn_cmd_inspect = {
    "inspect",
    "show what is in a model or a library",
    "MODEL|libNAME.so [--tensors] [--html FILE] [--report PATH [--attention TEXT]] [options]",
    "Entry points with their shapes, metadata, kernels and the size of the "
    "arena as an expression over the dims.",
    inspect_options,
    TN_COUNT(inspect_options),
    1,
    1,
    run_inspect};
