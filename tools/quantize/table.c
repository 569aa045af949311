/* table.c - what becomes of each tensor, for a person, for programs and for the report. */
#include "tools/quantize/quantize.h"
#include <math.h>

static const char *name_of(tn_dtype t) { return tn_ir_dtype_info(t)->name; }

static void shape_text(const tn_ck_tensor *t, char *out, size_t room) {
  size_t n = 0;
  out[0] = 0;
  for (uint32_t i = 0; i < t->rank && n < room; i++)
    n += (size_t)snprintf(out + n, room - n, "%s%lld", i ? " x " : "", (long long)t->shape[i]);
}

static uint64_t values_of(const tn_qtensor *t) { return t->rows * t->columns; }

static double bits_of(uint64_t bytes, uint64_t values) {
  return values ? 8 * (double)bytes / (double)values : 0;
}

tn_qtotals tn_quantize_totals(const tn_quantize *q) {
  tn_qtotals x = {0};
  for (uint32_t i = 0; i < q->count; i++) {
    const tn_qtensor *t = &q->tensors[i];
    x.values += values_of(t);
    x.before += t->t->bytes;
    x.after += t->bytes;
    if (t->cls == TN_SC_KEEP) continue;
    x.matrix_values += values_of(t);
    x.matrix_bytes += t->bytes;
  }
  return x;
}

/* Root mean square of the error, and the mean square over that of the numbers themselves. */
static double rmse_of(const tn_ck_error *e) {
  return e->values ? sqrt(e->sum_squares / (double)e->values) : NAN;
}
static double nmse_of(const tn_ck_error *e) {
  return e->values && e->squares_of_values > 0 ? e->sum_squares / e->squares_of_values : NAN;
}

/* ---- text ---------------------------------------------------------------------------------------------- */

/* Numbers of values and bytes by type, in the order of the types' numbers. */
static void print_types(const tn_quantize *q) {
  tn_dtype most = 0;
  for (uint32_t i = 0; i < q->count; i++)
    if (q->tensors[i].to > most) most = q->tensors[i].to;
  for (tn_dtype t = 1; t <= most; t++) {
    uint64_t values = 0, bytes = 0;
    uint32_t n = 0;
    for (uint32_t i = 0; i < q->count; i++) {
      if (q->tensors[i].to != t) continue;
      values += values_of(&q->tensors[i]);
      bytes += q->tensors[i].bytes;
      n++;
    }
    if (n)
      printf("  %-10s %5u tensors %14llu values %14llu bytes\n", name_of(t), n, (unsigned long long)values,
             (unsigned long long)bytes);
  }
}

static void print_rows(const tn_quantize *q, bool planned) {
  int widest = 6;
  for (uint32_t i = 0; i < q->count; i++) {
    int n = (int)strlen(q->tensors[i].t->name);
    if (n > widest) widest = n;
  }
  printf("%-*s %18s %8s %8s %7s %14s %s\n", widest, "tensor", "shape", "from", "to", "bits", "bytes",
         planned ? "" : "rmse      ");
  for (uint32_t i = 0; i < q->count; i++) {
    const tn_qtensor *t = &q->tensors[i];
    char shape[96], error[32] = "";
    shape_text(t->t, shape, sizeof shape);
    if (!planned && t->error.values && t->error.sum_squares > 0)
      snprintf(error, sizeof error, " %-10.3g", rmse_of(&t->error));
    printf("%-*s %18s %8s %8s %7.3f %14llu%s%s%s\n", widest, t->t->name, shape, name_of(t->t->dtype),
           name_of(t->to), bits_of(t->bytes, values_of(t)), (unsigned long long)t->bytes, error,
           t->why ? "  " : "", t->why ? t->why : "");
  }
}

static void print_text(const tn_quantize *q, bool planned, double seconds) {
  tn_qtotals x = tn_quantize_totals(q);
  if (planned || q->args->given[OPT_verbose]) print_rows(q, planned);
  print_types(q);
  printf("%s%llu -> %llu bytes of tensors (%.1f %%), %.3f -> %.3f bits per weight", planned ? "" : "wrote ",
         (unsigned long long)x.before, (unsigned long long)x.after,
         x.before ? 100 * (double)x.after / (double)x.before : 100, bits_of(x.before, x.values),
         bits_of(x.after, x.values));
  if (planned)
    puts("; nothing was written");
  else
    printf(", %.1f s\n", seconds);
}

/* ---- JSON ---------------------------------------------------------------------------------------------- */

static void put_name(tn_buf *b, const char *key, const char *value) {
  tn_buf_printf(b, ", \"%s\": ", key);
  if (value)
    tn_buf_json(b, tn_str_of(value));
  else
    tn_buf_puts(b, "null");
}

static void put_tensor(tn_buf *b, const tn_qtensor *t) {
  tn_buf_puts(b, "{\"name\": ");
  tn_buf_json(b, tn_str_of(t->t->name));
  put_name(b, "source", t->t->source);
  tn_buf_puts(b, ", \"shape\": [");
  for (uint32_t i = 0; i < t->t->rank; i++)
    tn_buf_printf(b, "%s%lld", i ? ", " : "", (long long)t->t->shape[i]);
  tn_buf_puts(b, "]");
  put_name(b, "class", tn_scheme_class_name(t->cls));
  put_name(b, "from", name_of(t->t->dtype));
  put_name(b, "to", name_of(t->to));
  tn_buf_printf(b, ", \"bytes_before\": %llu, \"bytes\": %llu, \"bits_per_weight\": %.4f, \"importance\": %s",
                (unsigned long long)t->t->bytes, (unsigned long long)t->bytes,
                bits_of(t->bytes, values_of(t)), t->importance ? "true" : "false");
  put_name(b, "why", t->why);
  if (t->error.values && isfinite(nmse_of(&t->error)))
    tn_buf_printf(b, ", \"rmse\": %.9g, \"nmse\": %.9g, \"max_abs\": %.9g", rmse_of(&t->error),
                  nmse_of(&t->error), t->error.max_abs);
  tn_buf_puts(b, "}");
}

static void print_json(const tn_quantize *q, bool planned, double seconds) {
  tn_qtotals x = tn_quantize_totals(q);
  tn_buf b = {0};
  tn_buf_puts(&b, "{\"input\": ");
  tn_buf_json(&b, tn_str_of(q->in));
  put_name(&b, "output", planned ? NULL : q->out);
  put_name(&b, "format", q->format == TN_CK_GGUF ? "gguf" : "folder");
  put_name(&b, "scheme", q->scheme->name);
  put_name(&b, "pack", q->pack ? q->pack->name : NULL);
  tn_buf_puts(&b, ", \"tensors\": [");
  for (uint32_t i = 0; i < q->count; i++) {
    tn_buf_puts(&b, i ? ",\n  " : "\n  ");
    put_tensor(&b, &q->tensors[i]);
  }
  tn_buf_printf(&b,
                "],\n \"values\": %llu, \"bytes_before\": %llu, \"bytes\": %llu, \"bits_per_weight\": %.4f",
                (unsigned long long)x.values, (unsigned long long)x.before, (unsigned long long)x.after,
                bits_of(x.after, x.values));
  if (!planned) tn_buf_printf(&b, ", \"seconds\": %.3f", seconds);
  printf("%s}\n", tn_buf_cstr(&b));
  tn_buf_fini(&b);
}

void tn_quantize_print(tn_quantize *q, bool planned, double seconds) {
  if (q->args->given[OPT_json])
    print_json(q, planned, seconds);
  else
    print_text(q, planned, seconds);
}

/* ---- report -------------------------------------------------------------------------------------------- */

void tn_quantize_report(tn_quantize *q) {
  tn_qtotals x = tn_quantize_totals(q);
  bool from_folder = tn_checkpoint_format(q->source) == TN_CK_FOLDER;
  tn_report_model(&q->report, "before", q->in, from_folder ? "folder" : "gguf", x.before,
                  bits_of(x.before, x.values));
  tn_report_model(&q->report, "after", q->out, q->format == TN_CK_GGUF ? "gguf" : "folder", x.after,
                  bits_of(x.after, x.values));
  for (uint32_t i = 0; i < q->count; i++) {
    const tn_qtensor *t = &q->tensors[i];
    bool kept = !tn_quantize_encodes(t);
    tn_report_tensor_add(&q->report, &(tn_report_tensor){.name = t->t->name,
                                                         .from = name_of(t->t->dtype),
                                                         .to = name_of(t->to),
                                                         .rank = t->t->rank,
                                                         .shape = t->t->shape,
                                                         .bytes_before = t->t->bytes,
                                                         .bytes_after = t->bytes,
                                                         .bits = bits_of(t->bytes, values_of(t)),
                                                         .rmse = kept ? NAN : rmse_of(&t->error),
                                                         .nmse = kept ? NAN : nmse_of(&t->error),
                                                         .max_abs = kept ? NAN : t->error.max_abs,
                                                         .sensitivity = NAN,
                                                         .importance = t->importance != NULL,
                                                         .why = t->why});
  }
}
