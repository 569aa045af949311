/* cmd_inspect.c - tenon inspect: what is in a model or a library: entry points, configuration, tensors,
 * kernels, memory. */
#include "tools/inspect.h"
#include "tools/reports.h"
#include "tools/tool.h"
#include <stdio.h>

static const uint8_t inspect_options[] = {OPT_tensors, OPT_html,   OPT_O0,      OPT_O1,  OPT_O2,
                                          OPT_O3,      OPT_passes, OPT_backend, OPT_isa, TN_MODEL_OPTIONS,
                                          OPT_plugin,  OPT_json,   OPT_help};

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

static void put_function(tn_module *m, tn_func f, bool json, tn_buf *out) {
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
  tn_buf_puts(out, json ? "\"}" : " bytes\n");
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

static tn_status write_page(const tn_args *a, tn_module *m, tn_diags *d) {
  tn_buf page = {0};
  tn_status s = tn_inspect_html(m, a->positional[0], &page);
  if (s == TN_OK) s = tn_text_write(a->last[OPT_html], &page, d);
  tn_buf_fini(&page);
  return s;
}

static tn_status inspect_model(const tn_args *a, tn_driver *d, tn_module **m) {
  tn_pipeline_run run = {0};
  TN_TRY(tn_driver_pick(d, false));
  TN_TRY(tn_driver_load(d, a->positional[0], m));
  tn_status s = tn_driver_optimize(d, *m, &run);
  tn_pipeline_fini(&run);
  TN_TRY(s);
  tn_buf out = {0};
  put_model(a, *m, &out);
  fputs(tn_buf_cstr(&out), stdout);
  tn_buf_fini(&out);
  return a->last[OPT_html] ? write_page(a, *m, d->diags) : TN_OK;
}

static int run_inspect(const tn_args *a) {
  return tn_path_is_artefact(a->positional[0]) ? tn_tool_with_model(a, inspect_library)
                                               : tn_tool_with_driver(a, inspect_model);
}

const tn_command tn_cmd_inspect = {"inspect",
                                   "show what is in a model or a library",
                                   "MODEL|libNAME.so [--tensors] [--html FILE] [options]",
                                   "Entry points with their shapes, metadata, kernels and the size of the "
                                   "arena as an expression over the dims.",
                                   inspect_options,
                                   TN_COUNT(inspect_options),
                                   1,
                                   1,
                                   run_inspect};
