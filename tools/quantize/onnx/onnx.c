/* onnx.c - `tenon quantize IN OUT.onnx int8-static|int8-dynamic`: a folder, GGUF or ONNX file as ONNX whose
 * products with weights, and whose tables, are in 8 bits. */
#include "tools/quantize/onnx/onnx.h"
#include "tools/quantize/quantize.h"
#include "tools/reports.h"
#include <math.h>
#include <strings.h>
#include <sys/resource.h>

/* ---- options ---- */

static tn_status wrong(tn_int8 *x, const char *option, const char *value, const char *need) {
  return tn_fail(x->d->diags, TN_INVALID, NULL, NULL, "--%s: '%s' is not %s", option, value, need);
}

static tn_status read_choice(tn_int8 *x) {
  const tn_args *a = x->args;
  bool bad = false;
  const char *method = a->last[OPT_calibration_method];
  if (method && !tn_range_method_named(method, &x->choice.method))
    return wrong(x, "calibration-method", method, "minmax, percentile, entropy or mse");
  x->choice.percentile = tn_args_real(a, OPT_percentile, 0, &bad);
  if (bad || (a->given[OPT_percentile] && !(x->choice.percentile > 50 && x->choice.percentile <= 100)))
    return wrong(x, "percentile", a->last[OPT_percentile], "a number above 50, at most 100");
  if (x->choice.percentile > 0 && !method) x->choice.method = TN_RANGE_PERCENTILE;
  x->choice.symmetric = a->given[OPT_symmetric];
  return TN_OK;
}

static tn_status read_what(tn_int8 *x) {
  const tn_args *a = x->args;
  const char *scheme = a->positional[a->npositional - 1], *method = a->last[OPT_method];
  bool is_static = !strcasecmp(scheme, "int8-static");
  x->in = a->positional[0];
  x->out = a->positional[1];
  const char *steps = a->last[OPT_activation_scales] ? a->last[OPT_activation_scales] : "token";
  bool tensor = !strcmp(steps, "tensor");
  if (!tensor && strcmp(steps, "token")) return wrong(x, "activation-scales", steps, "token or tensor");
  x->how = is_static ? TN_OW_INT8_STATIC : tensor ? TN_OW_INT8_DYNAMIC : TN_OW_INT8_TOKEN;
  x->per_tensor = a->given[OPT_per_tensor];
  x->tables = !a->given[OPT_leave_tables];
  x->smooth = method && !strcmp(method, "smoothquant");
  if (method && !x->smooth && strcmp(method, "rtn")) return wrong(x, "method", method, "rtn or smoothquant");
  if (is_static && a->given[OPT_activation_scales])
    return tn_fail(x->d->diags, TN_INVALID, NULL, NULL, "--activation-scales is for int8-dynamic");
  if ((is_static || x->smooth) && !a->given[OPT_calibration])
    return tn_fail(x->d->diags, TN_INVALID, NULL, NULL,
                   "%s needs --calibration: a text, or a folder of stored inputs",
                   is_static ? "int8-static" : "--method smoothquant");
  return read_choice(x);
}

/* ---- what it cost ---- */

static double nmse_of(const tn_int8_weight *w) { return w->squares > 0 ? w->error / w->squares : 0; }

static void report_weights(tn_int8 *x, tn_report *r) {
  for (uint32_t i = 0; i < x->weights.count; i++) {
    const tn_int8_weight *w = &x->weights.items[i];
    const tn_dtype_info *d = tn_ir_dtype_info(w->dtype);
    uint64_t n = w->rows * w->columns, after = n + 4ull * w->nscales;
    int64_t shape[2] = {(int64_t)w->rows, (int64_t)w->columns};
    tn_report_tensor t = {.name = w->name,
                          .from = d->name,
                          .to = "i8",
                          .rank = 2,
                          .shape = shape,
                          .bytes_before =
                              n / d->block_values * (d->block_bytes ? d->block_bytes : d->bits / 8),
                          .bytes_after = after,
                          .bits = (double)after * 8 / (double)n,
                          .rmse = sqrt(w->error / (double)n),
                          .nmse = nmse_of(w),
                          .max_abs = NAN,
                          .sensitivity = NAN};
    tn_report_tensor_add(r, &t);
  }
}

static uint64_t products_of(const tn_int8 *x) {
  uint64_t n = 0;
  for (uint32_t i = 0; i < x->rows.count; i++) n += x->rows.items[i].how != TN_OW_INT8_ROWS;
  return n;
}

static void print_result(tn_int8 *x, const char *path, const tn_ow_report *r, double seconds) {
  struct rusage u;
  uint64_t products = products_of(x), bytes = r->model_bytes + r->data_bytes;
  getrusage(RUSAGE_SELF, &u);
  if (!x->args->given[OPT_json]) {
    printf("%s: opset %u, %u nodes, %.1f MB; in 8 bits: %llu products, %llu tables; plain: %u products\n",
           path, r->opset, r->nodes, (double)bytes / 1e6, (unsigned long long)products,
           (unsigned long long)(x->rows.count - products), x->plain);
    return;
  }
  tn_buf out = {0};
  tn_buf_puts(&out, "{\"model\": ");
  tn_buf_json(&out, tn_str_of(path));
  tn_buf_printf(&out,
                ", \"opset\": %u, \"nodes\": %u, \"model_bytes\": %llu, \"data_bytes\": %llu, \"products\": "
                "%llu, \"tables\": %llu, \"plain_products\": %u, \"calibration_tokens\": %llu, ",
                r->opset, r->nodes, (unsigned long long)r->model_bytes, (unsigned long long)r->data_bytes,
                (unsigned long long)products, (unsigned long long)(x->rows.count - products), x->plain,
                (unsigned long long)x->tokens);
  tn_buf_puts(&out, "\"weights\": [");
  for (uint32_t i = 0; i < x->weights.count; i++) {
    const tn_int8_weight *w = &x->weights.items[i];
    tn_buf_puts(&out, i ? ", {\"name\": " : "{\"name\": ");
    tn_buf_json(&out, tn_str_of(w->name));
    tn_buf_printf(&out, ", \"shape\": [%llu, %llu], \"nmse\": %.6g}", (unsigned long long)w->rows,
                  (unsigned long long)w->columns, nmse_of(w));
  }
  tn_buf_printf(&out, "], \"seconds\": %.3f, \"peak_memory_bytes\": %llu}", seconds,
                (unsigned long long)u.ru_maxrss * 1024);
  puts(tn_buf_cstr(&out));
  tn_buf_fini(&out);
}

/* ---- the run ---- */

static const char *pipeline_of(const tn_args *a) {
  return a->last[OPT_passes] ? a->last[OPT_passes]
         : a->given[OPT_O2]  ? "graph-O2"
         : a->given[OPT_O1]  ? "graph-O1"
                             : NULL;
}

static tn_status load(tn_int8 *x, tn_module **m) {
  const char *pipeline = pipeline_of(x->args);
  x->d->options.task = NULL; /* that of the written graph is no concern of the import */
  TN_TRY(tn_driver_load(x->d, x->in, m));
  x->m = *m;
  if (!pipeline) return TN_OK;
  tn_pipeline_run run = {.pipeline = pipeline};
  tn_status s = tn_driver_optimize(x->d, *m, &run);
  tn_pipeline_fini(&run);
  return s;
}

static tn_status read_plain(void *ctx, tn_weight id, uint64_t offset, void *dst, uint64_t len) {
  return tn_export_weights_read(&((tn_int8 *)ctx)->bytes, id, offset, dst, len);
}

static tn_status write_report(tn_int8 *x) {
  tn_report r;
  tn_report_init(&r, "quantize", x->args);
  report_weights(x, &r);
  tn_status s = tn_report_write(&r, x->out, x->d->diags);
  tn_report_fini(&r);
  return s;
}

static tn_status write_model(tn_int8 *x, double begin) {
  tn_ow_report report;
  const char *file, *folder;
  bool bad = false;
  tn_ow_options o = {.opset = (uint32_t)tn_args_int(x->args, OPT_opset, 0, &bad),
                     .external = x->args->given[OPT_external_data],
                     .task = x->args->last[OPT_task],
                     .int8 = x->rows.items,
                     .nint8 = x->rows.count};
  if (bad) return TN_INVALID;
  TN_TRY(tn_export_place(x->d, x->out, &file, &folder));
  x->bytes = (tn_export_weights){.d = x->d, .m = x->m};
  tn_status s = tn_ow_write(&tn_ir_table, x->m, &o, &(tn_ow_source){x, read_plain, tn_int8_codes}, file,
                            x->d->diags, &report);
  tn_export_weights_close(&x->bytes);
  TN_TRY(s);
  if (folder) TN_TRY(tn_export_beside(x->d, folder));
  print_result(x, file, &report, tn_now() - begin);
  return write_report(x);
}

static tn_status run(tn_int8 *x, tn_module **m) {
  double begin = tn_now();
  TN_TRY(read_what(x));
  TN_TRY(load(x, m));
  TN_TRY(tn_int8_find(x));
  if (x->smooth) {
    TN_TRY(tn_int8_observe(x));
    TN_TRY(tn_int8_smooth(x));
  }
  if (x->how == TN_OW_INT8_STATIC) TN_TRY(tn_int8_observe(x));
  TN_TRY(tn_int8_scale(x));
  return write_model(x, begin);
}

static tn_status work(const tn_args *a, tn_driver *d, tn_module **m) {
  tn_int8 x = {.args = a, .d = d};
  tn_arena_init(&x.arena);
  tn_status s = run(&x, m);
  tn_mem_free(x.codes);
  tn_vec_fini(&x.rows);
  tn_vec_fini(&x.weight_of);
  tn_vec_fini(&x.weights);
  tn_vec_fini(&x.ranges);
  tn_arena_fini(&x.arena);
  return s;
}

int tn_quantize_onnx(const tn_args *a) { return tn_tool_with_driver(a, work); }
