/* report.c - rows of a report, one growing JSON text per section; writing joins them. Numbers that were not
 * measured are null, and infinities the largest double, so that every JSON reader takes the file. */
#include "tools/report/report.h"
#include "tools/reports.h"
#include <float.h>
#include <math.h>
#include <sys/resource.h>

/* ---- pieces of JSON ------------------------------------------------------------------------------------ */

static void put_text(tn_buf *out, const char *key, const char *text) {
  tn_buf_printf(out, ", \"%s\": ", key);
  if (text)
    tn_buf_json(out, tn_str_of(text));
  else
    tn_buf_puts(out, "null");
}

static void put_real(tn_buf *out, const char *key, double x) {
  if (isnan(x))
    tn_buf_printf(out, ", \"%s\": null", key);
  else
    tn_buf_printf(out, ", \"%s\": %.9g", key, isinf(x) ? copysign(DBL_MAX, x) : x);
}

static void put_count(tn_buf *out, const char *key, uint64_t n) {
  tn_buf_printf(out, ", \"%s\": %llu", key, (unsigned long long)n);
}

static void put_flag(tn_buf *out, const char *key, bool x) {
  tn_buf_printf(out, ", \"%s\": %s", key, x ? "true" : "false");
}

/* Begins an object whose first member is a text; the others come with a comma before them. */
static void begin_row(tn_buf *out, const char *key, const char *text) {
  tn_buf_printf(out, "%s\n  {\"%s\": ", out->len ? "," : "", key);
  tn_buf_json(out, tn_str_of(text ? text : ""));
}

static void end_row(tn_buf *out) { tn_buf_puts(out, "}"); }

/* ---- the run ------------------------------------------------------------------------------------------- */

static void put_argument(tn_buf *out, const char *text, bool first) {
  if (!first) tn_buf_puts(out, ", ");
  tn_buf_json(out, tn_str_of(text));
}

static void put_arguments(tn_buf *out, const tn_args *a) {
  tn_buf_puts(out, ", \"arguments\": [");
  for (uint32_t i = 0; i < a->npositional; i++) put_argument(out, a->positional[i], i == 0);
  for (uint32_t i = 0; i < a->nall; i++) {
    tn_buf word = {0};
    const char *name = tn_option_name(a->all[i].option);
    tn_buf_printf(&word, "%s%s", name[0] == 'O' ? "-" : "--", name);
    if (a->all[i].value) tn_buf_printf(&word, "=%s", a->all[i].value);
    put_argument(out, tn_buf_cstr(&word), !a->npositional && i == 0);
    tn_buf_fini(&word);
  }
  tn_buf_puts(out, "]");
}

void tn_report_init(tn_report *r, const char *command, const tn_args *a) {
  memset(r, 0, sizeof *r);
  r->began = tn_now();
  tn_buf_puts(&r->head, "{\"tenon_report\": 1");
  put_text(&r->head, "command", command);
  if (a) put_arguments(&r->head, a);
}

void tn_report_fini(tn_report *r) {
  tn_buf *all[] = {&r->head,    &r->tensors, &r->layers, &r->fusions, &r->phases,   &r->accuracy,
                   &r->outputs, &r->latency, &r->memory, &r->nodes,   &r->messages, &r->attention};
  for (size_t i = 0; i < TN_COUNT(all); i++) tn_buf_fini(all[i]);
}

void tn_report_model(tn_report *r, const char *which, const char *path, const char *format, uint64_t bytes,
                     double bits_per_weight) {
  tn_buf *out = &r->head;
  tn_buf_printf(out, ",\n\"%s\": {\"path\": ", which);
  tn_buf_json(out, tn_str_of(path));
  put_text(out, "format", format);
  put_count(out, "bytes", bytes);
  put_real(out, "bits_per_weight", bits_per_weight);
  end_row(out);
}

/* ---- rows ---------------------------------------------------------------------------------------------- */

void tn_report_tensor_add(tn_report *r, const tn_report_tensor *t) {
  tn_buf *out = &r->tensors;
  begin_row(out, "name", t->name);
  put_text(out, "from", t->from);
  put_text(out, "to", t->to);
  tn_buf_puts(out, ", \"shape\": [");
  for (uint32_t i = 0; i < t->rank; i++) tn_buf_printf(out, "%s%lld", i ? ", " : "", (long long)t->shape[i]);
  tn_buf_puts(out, "]");
  put_count(out, "bytes_before", t->bytes_before);
  put_count(out, "bytes_after", t->bytes_after);
  put_real(out, "bits", t->bits);
  put_real(out, "rmse", t->rmse);
  put_real(out, "nmse", t->nmse);
  put_real(out, "max_abs", t->max_abs);
  put_real(out, "sensitivity", t->sensitivity);
  put_flag(out, "importance", t->importance);
  put_text(out, "why", t->why);
  end_row(out);
}

void tn_report_layer(tn_report *r, const char *layer, uint64_t bytes_before, uint64_t bytes_after,
                     double kl) {
  begin_row(&r->layers, "layer", layer);
  put_count(&r->layers, "bytes_before", bytes_before);
  put_count(&r->layers, "bytes_after", bytes_after);
  put_real(&r->layers, "kl", kl);
  end_row(&r->layers);
}

static void put_place(tn_buf *out, const char *key, tn_module *m, tn_loc loc) {
  tn_buf where = {0};
  tn_report_loc(m, loc, &where);
  put_text(out, key, tn_buf_cstr(&where));
  tn_buf_fini(&where);
}

/* All rows of one pattern: how often it matched, and where it nearly did. */
static void put_pattern(tn_buf *out, const char *pattern, const tn_fusion *rows, uint32_t n, tn_module *m) {
  uint64_t matched = 0;
  for (uint32_t i = 0; i < n; i++) matched += rows[i].matched && !strcmp(rows[i].pattern, pattern);
  begin_row(out, "pattern", pattern);
  put_count(out, "matched", matched);
  tn_buf_puts(out, ", \"near_misses\": [");
  const char *comma = "";
  for (uint32_t i = 0; i < n; i++) {
    const tn_fusion *f = &rows[i];
    if (f->matched || strcmp(f->pattern, pattern)) continue;
    tn_buf_printf(out, "%s{\"why\": ", comma);
    tn_buf_json(out, tn_str_of(f->blocked_by ? f->blocked_by : "unknown"));
    put_place(out, "at", m, f->loc);
    if (f->blocker) put_place(out, "blocked_by", m, f->blocker);
    end_row(out);
    comma = ", ";
  }
  tn_buf_puts(out, "]");
  end_row(out);
}

void tn_report_fusions(tn_report *r, const tn_fusion *rows, uint32_t n, tn_module *m) {
  for (uint32_t i = 0; i < n; i++) {
    bool seen = false;
    for (uint32_t k = 0; k < i && !seen; k++) seen = !strcmp(rows[k].pattern, rows[i].pattern);
    if (!seen) put_pattern(&r->fusions, rows[i].pattern, rows, n, m);
  }
}

void tn_report_phase(tn_report *r, const char *name, double seconds) {
  begin_row(&r->phases, "name", name);
  put_real(&r->phases, "seconds", seconds);
  end_row(&r->phases);
}

void tn_report_accuracy(tn_report *r, const char *key, double value) { put_real(&r->accuracy, key, value); }

void tn_report_output(tn_report *r, const char *name, double cosine, double max_abs, bool ok) {
  begin_row(&r->outputs, "name", name);
  put_real(&r->outputs, "cosine", cosine);
  put_real(&r->outputs, "max_abs", max_abs);
  put_flag(&r->outputs, "ok", ok);
  end_row(&r->outputs);
}

void tn_report_node(tn_report *r, const char *name, double cosine, double max_abs, double nmse, bool ok) {
  begin_row(&r->nodes, "name", name);
  put_real(&r->nodes, "cosine", cosine);
  put_real(&r->nodes, "max_abs", max_abs);
  put_real(&r->nodes, "nmse", nmse);
  put_flag(&r->nodes, "ok", ok);
  end_row(&r->nodes);
}

void tn_report_latency(tn_report *r, const char *what, double before_ms, double after_ms) {
  begin_row(&r->latency, "what", what);
  put_real(&r->latency, "before_ms", before_ms);
  put_real(&r->latency, "after_ms", after_ms);
  end_row(&r->latency);
}

void tn_report_memory(tn_report *r, const char *what, uint64_t before, uint64_t after) {
  begin_row(&r->memory, "what", what);
  put_count(&r->memory, "before", before);
  put_count(&r->memory, "after", after);
  end_row(&r->memory);
}

void tn_report_attention(tn_report *r, uint32_t layer, uint32_t head, const char *const *tokens, uint32_t n,
                         const float *weights) {
  tn_buf *out = &r->attention;
  tn_buf_printf(out, "%s\n  {\"layer\": %u, \"head\": %u, \"tokens\": [", out->len ? "," : "", layer, head);
  for (uint32_t i = 0; i < n; i++) put_argument(out, tokens[i], i == 0);
  tn_buf_puts(out, "], \"weights\": [");
  for (uint32_t i = 0; i < n; i++) {
    tn_buf_puts(out, i ? ", [" : "[");
    for (uint32_t k = 0; k < n; k++)
      tn_buf_printf(out, "%s%.4g", k ? ", " : "", (double)weights[(uint64_t)i * n + k]);
    tn_buf_puts(out, "]");
  }
  tn_buf_puts(out, "]}");
}

void tn_report_message(tn_report *r, uint32_t severity, const char *text) {
  static const char *const names[] = {[TN_NOTE] = "note", [TN_WARNING] = "warning", [TN_ERROR] = "error"};
  begin_row(&r->messages, "severity", severity < TN_COUNT(names) ? names[severity] : "note");
  put_text(&r->messages, "text", text);
  end_row(&r->messages);
}

/* ---- the files ----------------------------------------------------------------------------------------- */

static void put_diags(tn_report *r, const tn_diags *d) {
  for (uint32_t i = 0; i < d->list.count; i++) {
    const tn_message *m = &d->list.items[i];
    tn_buf text = {0};
    if (m->file) tn_buf_printf(&text, "%s: ", m->file);
    if (m->where) tn_buf_printf(&text, "%s: ", m->where);
    tn_buf_puts(&text, m->text);
    tn_report_message(r, m->severity, tn_buf_cstr(&text));
    tn_buf_fini(&text);
  }
}

static bool put_section(tn_buf *out, const char *key, const tn_buf *rows) {
  if (rows->len) tn_buf_printf(out, ",\n\"%s\": [%s]", key, rows->text);
  return !rows->failed;
}

static bool join(const tn_report *r, tn_buf *out) {
  const struct {
    const char *key;
    const tn_buf *rows;
  } sections[] = {{"outputs", &r->outputs},    {"nodes", &r->nodes},     {"tensors", &r->tensors},
                  {"layers", &r->layers},      {"fusions", &r->fusions}, {"latency", &r->latency},
                  {"memory", &r->memory},      {"phases", &r->phases},   {"messages", &r->messages},
                  {"attention", &r->attention}};
  struct rusage usage;
  bool good = !r->head.failed && !r->accuracy.failed;
  tn_buf_put(out, r->head.text, r->head.len);
  put_real(out, "seconds", tn_now() - r->began);
  if (!getrusage(RUSAGE_SELF, &usage)) put_count(out, "peak_memory", (uint64_t)usage.ru_maxrss * 1024);
  if (r->accuracy.len) tn_buf_printf(out, ",\n\"accuracy\": {%s}", r->accuracy.text + strlen(", "));
  for (size_t i = 0; i < TN_COUNT(sections); i++) good &= put_section(out, sections[i].key, sections[i].rows);
  tn_buf_puts(out, "}\n");
  return good && !out->failed;
}

static tn_status write_beside(const char *path, const char *ending, const tn_buf *text, tn_diags *d) {
  tn_buf name = {0};
  uint64_t n = strlen(path);
  while (n > 1 && path[n - 1] == '/') n--;
  tn_buf_put(&name, path, n);
  tn_buf_printf(&name, "%sreport.%s", tn_path_is_dir(path) ? "/" : ".", ending);
  tn_status s = name.failed ? TN_OOM : tn_text_write(name.text, text, d);
  tn_buf_fini(&name);
  return s;
}

tn_status tn_report_write(tn_report *r, const char *path, tn_diags *d) {
  tn_buf json = {0}, page = {0};
  put_diags(r, d);
  tn_status s = join(r, &json) ? TN_OK : TN_OOM;
  if (s == TN_OK) tn_report_page(&json, &page);
  if (s == TN_OK && page.failed) s = TN_OOM;
  if (s == TN_OK) s = write_beside(path, "json", &json, d);
  if (s == TN_OK) s = write_beside(path, "html", &page, d);
  tn_buf_fini(&json);
  tn_buf_fini(&page);
  return s;
}
