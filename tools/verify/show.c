/* show.c - the rows of a comparison as text, as JSON and as a report. */
#include "tools/report/attention.h"
#include "tools/verify/verify.h"
#include <math.h>
#include <stdio.h>

static const struct {
  const char *text, *word;
  bool ok;
} states[] = {[TN_ROW_OK] = {"ok", "equal", true},       [TN_ROW_DIFFERS] = {"FAIL", "differs", false},
              [TN_ROW_ORDER] = {"ord", "order", true},   [TN_ROW_LOST] = {"lost", "lost", true},
              [TN_ROW_TYPES] = {"FAIL", "types", false}, [TN_ROW_IGNORED] = {"--", "ignored", true}};

/* ---- JSON ---------------------------------------------------------------------------------------------- */

/* JSON has no infinity and no NaN: a number that no double holds, and null. */
static void json_number(tn_buf *out, const char *key, double x) {
  if (isnan(x))
    tn_buf_printf(out, ", \"%s\": null", key);
  else if (isinf(x))
    tn_buf_printf(out, ", \"%s\": %s1e999", key, x < 0 ? "-" : "");
  else
    tn_buf_printf(out, ", \"%s\": %.12g", key, x);
}

static void json_text(tn_buf *out, const char *key, const char *text) {
  if (!text) return;
  tn_buf_printf(out, ", \"%s\": ", key);
  tn_buf_json(out, tn_str_of(text));
}

static void row_json(const tn_row *r, tn_buf *out) {
  const struct {
    const char *key;
    double x;
  } numbers[] = {{"max_abs", r->c.max_abs},
                 {"max_rel", r->c.max_rel},
                 {"max_ulp", r->c.max_ulp},
                 {"cosine", r->c.cosine},
                 {"nmse", r->c.nmse},
                 {"a", r->c.a},
                 {"b", r->c.b}};
  tn_buf_puts(out, "{\"name\": ");
  tn_buf_json(out, tn_str_of(r->name));
  tn_buf_printf(out, ", \"ok\": %s, \"state\": \"%s\"", states[r->state].ok ? "true" : "false",
                states[r->state].word);
  json_text(out, "other", r->other);
  json_text(out, "weight", r->weight);
  json_text(out, "type_a", r->types[0]);
  json_text(out, "type_b", r->types[1]);
  if (r->state != TN_ROW_TYPES) {
    tn_buf_printf(out, ", \"index\": %lld", (long long)r->c.at);
    for (size_t i = 0; i < TN_COUNT(numbers); i++) json_number(out, numbers[i].key, numbers[i].x);
  }
  tn_buf_puts(out, "}");
}

static void accuracy_json(const tn_verify *v, tn_buf *out) {
  if (!isnan(v->cosine)) json_number(out, "cosine", v->cosine);
  if (!isnan(v->kl)) {
    json_number(out, "kl", v->kl);
    json_number(out, "top1", v->top1);
  }
  if (!v->scored) return;
  const tn_scores *x = &v->scores;
  tn_buf_printf(out, ",\n \"text\": {\"tokens\": %lld, \"scored\": %lld", (long long)x->tokens,
                (long long)x->scored);
  const struct {
    const char *key;
    double x;
  } numbers[] = {{"perplexity_a", x->base_perplexity},
                 {"perplexity_b", x->perplexity},
                 {"kl_mean", x->kl_mean},
                 {"kl_median", x->kl_median},
                 {"kl_p99", x->kl_p99},
                 {"kl_max", x->kl_max},
                 {"top1", x->same_top}};
  for (size_t i = 0; i < TN_COUNT(numbers); i++) json_number(out, numbers[i].key, numbers[i].x);
  tn_buf_puts(out, "}");
}

static void show_json(const tn_verify *v, bool ok, tn_buf *out) {
  const char *comma = "";
  tn_buf_puts(out, "{\"values\": [");
  for (uint32_t i = 0; i < v->rows.count; i++) {
    if (v->rows.items[i].node && !v->a->given[OPT_per_node]) continue;
    tn_buf_puts(out, comma);
    row_json(&v->rows.items[i], out);
    comma = ",\n  ";
  }
  tn_buf_printf(out, "], \"ok\": %s", ok ? "true" : "false");
  json_text(out, "first_difference", v->first);
  json_text(out, "first_difference_b", v->first_other);
  json_text(out, "first_difference_weight", v->first_weight);
  accuracy_json(v, out);
  if (v->limits.count) tn_buf_puts(out, ",\n \"limits\": [");
  for (uint32_t i = 0; i < v->limits.count; i++) {
    const tn_limit *l = &v->limits.items[i];
    tn_buf_printf(out, "%s{\"option\": \"%s\", \"ok\": %s", i ? ", " : "", l->option,
                  l->ok ? "true" : "false");
    json_number(out, "limit", l->limit);
    json_number(out, "value", l->value);
    tn_buf_puts(out, "}");
  }
  tn_buf_puts(out, v->limits.count ? "]}\n" : "}\n");
}

/* ---- text ---------------------------------------------------------------------------------------------- */

static void row_text(const tn_row *r) {
  const char *mark = states[r->state].text;
  if (r->state == TN_ROW_TYPES) {
    printf("%-4s %-44s %s against %s\n", mark, r->name, r->types[0], r->types[1]);
    return;
  }
  printf("%-4s %-44s %10.3g %10.3g %10.3g %12.9f", mark, r->name, r->c.max_abs, r->c.max_rel, r->c.max_ulp,
         r->c.cosine);
  if (r->weight) printf("  %s", r->weight);
  printf(r->other ? "  = %s\n" : "\n", r->other);
}

static void first_text(const tn_verify *v) {
  if (v->looked && v->a->given[OPT_per_node])
    printf("%u of %u values of the first side exist in both\n", v->common, v->inside);
  if (!v->first) return;
  printf("first that differs: %s", v->first);
  if (v->first_weight) printf(", which reads %s", v->first_weight);
  if (v->first_other) printf("; on the other side %s", v->first_other);
  printf("\n");
}

static void accuracy_text(const tn_verify *v) {
  if (!isnan(v->kl))
    printf("scores: KL divergence %.6g, same likeliest token %.3f %%\n", v->kl, 100 * v->top1);
  if (!v->scored) return;
  const tn_scores *x = &v->scores;
  printf("text: perplexity %.4f and %.4f (%+.3f %%), KL divergence mean %.6f, median %.6f, 99 %% %.6f, max "
         "%.6f, same "
         "likeliest token %.3f %%\n",
         x->base_perplexity, x->perplexity, 100 * (x->perplexity / x->base_perplexity - 1), x->kl_mean,
         x->kl_median, x->kl_p99, x->kl_max, 100 * x->same_top);
}

static void show_text(const tn_verify *v, bool ok) {
  bool head = false;
  for (uint32_t i = 0; i < v->rows.count; i++) {
    if (v->rows.items[i].node && !v->a->given[OPT_per_node]) continue;
    if (!head)
      printf("%-4s %-44s %10s %10s %10s %12s\n", "", "value", "max abs", "max rel", "max ulp", "cosine");
    row_text(&v->rows.items[i]);
    head = true;
  }
  first_text(v);
  accuracy_text(v);
  for (uint32_t i = 0; i < v->limits.count; i++) {
    const tn_limit *l = &v->limits.items[i];
    printf("%-4s --%s %g: %g\n", l->ok ? "ok" : "FAIL", l->option, l->limit, l->value);
  }
  uint32_t shown = 0, outside = 0;
  for (uint32_t i = 0; i < v->rows.count; i++) {
    const tn_row *r = &v->rows.items[i];
    if (r->node && !v->a->given[OPT_per_node]) continue;
    shown++;
    outside += r->state != TN_ROW_OK && r->state != TN_ROW_ORDER;
  }
  printf("%s: %u values compared, %u outside atol %g rtol %g\n", ok ? "PASSED" : "FAILED", shown, outside,
         v->atol, v->rtol);
}

void tn_verify_show(tn_verify *v, tn_status s) {
  bool ok = s == TN_OK && !v->failures;
  for (uint32_t i = 0; i < v->limits.count; i++) ok &= v->limits.items[i].ok;
  if (v->json) {
    tn_buf out = {0};
    show_json(v, ok, &out);
    fputs(tn_buf_cstr(&out), stdout);
    tn_buf_fini(&out);
  } else if (s == TN_OK) {
    show_text(v, ok);
  }
}

/* ---- the report ---------------------------------------------------------------------------------------- */

static void report_accuracy(const tn_verify *v, tn_report *r) {
  if (!isnan(v->cosine)) tn_report_accuracy(r, "cosine_min", v->cosine);
  const tn_scores *x = &v->scores;
  if (v->scored) {
    tn_report_accuracy(r, "kl_mean", x->kl_mean);
    tn_report_accuracy(r, "kl_p99", x->kl_p99);
    tn_report_accuracy(r, "top1_agreement", x->same_top);
    tn_report_accuracy(r, "perplexity_reference", x->base_perplexity);
    tn_report_accuracy(r, "perplexity", x->perplexity);
    tn_report_accuracy(r, "perplexity_increase", x->perplexity / x->base_perplexity - 1);
  } else if (!isnan(v->kl)) {
    tn_report_accuracy(r, "kl_mean", v->kl);
    tn_report_accuracy(r, "top1_agreement", v->top1);
  }
}

static uint64_t bytes_of(const tn_side *x) {
  uint64_t total = 0;
  for (tn_weight w = 1; x->o.module && w <= tn_ir_weight_count(x->o.module); w++) {
    tn_weight_info info;
    tn_ir_weight_get(x->o.module, w, &info);
    for (uint32_t i = 0; i < info.nparts; i++) total += info.parts[i].bytes;
  }
  return total;
}

tn_status tn_verify_report(tn_verify *v) {
  tn_report r;
  tn_report_init(&r, "verify", v->a);
  for (int i = 0; i < 2; i++) {
    const tn_side *x = &v->sides[i];
    tn_report_model(&r, i ? "after" : "before", x->spec, x->family, bytes_of(x), NAN);
  }
  for (uint32_t i = 0; i < v->rows.count; i++) {
    const tn_row *row = &v->rows.items[i];
    bool ok = states[row->state].ok;
    if (row->node)
      tn_report_node(&r, row->name, row->c.cosine, row->c.max_abs, row->c.nmse, ok);
    else
      tn_report_output(&r, row->name, row->c.cosine, row->c.max_abs, ok);
  }
  report_accuracy(v, &r);
  for (uint32_t i = 0; i < v->times.count; i++)
    tn_report_latency(&r, v->times.items[i].what, v->times.items[i].ms[0], v->times.items[i].ms[1]);
  for (uint32_t i = 0; i < v->uses.count; i++)
    tn_report_memory(&r, v->uses.items[i].what, v->uses.items[i].bytes[0], v->uses.items[i].bytes[1]);
  const tn_side *drawn = v->sides[1].o.module ? &v->sides[1] : &v->sides[0];
  tn_status s = tn_report_attention_asked(&r, v->a, drawn->path, v->d);
  if (s == TN_OK) s = tn_report_write(&r, v->a->last[OPT_report], v->d);
  tn_report_fini(&r);
  return s;
}
