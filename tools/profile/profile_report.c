/* profile_report.c - a profile as a table and as JSON. */
#include "tools/profile/profile.h"

/* Of one call, at its median time: a few calls that the system interrupted say nothing about the kernel. */
static double per_second(const tn_profile_row *r, double amount) {
  return r->median > 0 && r->calls ? amount / (double)r->calls / r->median : 0;
}

double tn_profile_fraction(const tn_profile_row *r) { return per_second(r, r->bound); }

tn_profile_row tn_profile_sum(const tn_profile_part *part) {
  tn_profile_row s = {0};
  for (uint32_t i = 0; i < part->groups.count; i++) {
    const tn_profile_row *r = &part->groups.items[i];
    s.calls += r->calls, s.total += r->total, s.busy += r->busy, s.bound += r->bound;
    s.work += r->work, s.bytes += r->bytes, s.weights += r->weights;
  }
  return s;
}

static double all_seconds(const tn_profile_part *part) {
  return part->wall > part->inside ? part->wall : part->inside;
}

static double per(double x, double n) { return n > 0 ? x / n : 0; }

/* ---- the table ------------------------------------------------------------------------------------------
 */

static void print_row(const tn_profile *p, const tn_profile_part *part, const tn_profile_row *r,
                      tn_buf *out) {
  double all = all_seconds(part);
  char threads[16], steps[16] = "";
  snprintf(threads, sizeof threads, "%.0f%%", 100 * per(r->busy, r->total * p->machine.threads));
  if (r->steps > 1) snprintf(steps, sizeof steps, " x%u", r->steps);
  tn_buf_printf(out, "%5.1f%% %8llu %10.1f %10.1f %8.1f %7.1f %5.0f%% %-5s %7s  %s%s  %s\n",
                100 * per(r->total, all), (unsigned long long)r->calls, r->median * 1e6, r->least * 1e6,
                per_second(r, r->work) / 1e9, per_second(r, r->bytes) / 1e9, 100 * tn_profile_fraction(r),
                tn_limit_name(r->by), threads, r->symbol, steps, r->loc);
}

static void print_rest(const char *what, double seconds, double all, double walks, tn_buf *out) {
  if (seconds < 0) seconds = 0;
  tn_buf_printf(out, "%5.1f%% %8s %10.1f %10s %8s %7s %6s %-5s %7s  %s\n", 100 * per(seconds, all), "",
                per(seconds, walks) * 1e6, "", "", "", "", "", "", what);
}

static void print_part(const tn_profile *p, const tn_profile_part *part, bool all, tn_buf *out) {
  tn_profile_row s = tn_profile_sum(part);
  double seconds = all_seconds(part), walks = (double)part->walks;
  tn_buf_printf(out, "\n%s", part->what);
  if (part->batch) tn_buf_printf(out, ", %lld x %lld", (long long)part->batch, (long long)part->tokens);
  tn_buf_printf(
      out, ": %llu calls of %.4f ms, %.1f launches and %.1f waits each, %.0f%% of the machine's limits\n",
      (unsigned long long)part->walks, per(seconds, walks) * 1e3, per((double)s.calls, walks),
      per((double)part->waits, walks), 100 * per(s.bound, seconds));
  tn_buf_printf(out, "%6s %8s %10s %10s %8s %7s %6s %-5s %7s  %s\n", "time", "launches", "median us",
                "min us", "GFLOP/s", "GB/s", "of", "limit", "threads", "kernel");
  uint32_t n = all ? part->steps.count : part->groups.count;
  for (uint32_t i = 0; i < n; i++)
    print_row(p, part, all ? &part->steps.items[i] : &part->groups.items[i], out);
  print_rest("between kernels, waiting", part->inside - part->kernels, seconds, walks, out);
  if (part->wall > 0) print_rest("outside: inputs, sampling", part->wall - part->inside, seconds, walks, out);
  if (part->lost)
    tn_buf_printf(out, "%llu launches are not in the table: too many to keep\n",
                  (unsigned long long)part->lost);
}

void tn_profile_print(const tn_profile *p, bool limits, bool all, tn_buf *out) {
  if (limits) tn_machine_print(&p->machine, out);
  for (uint32_t i = 0; i < p->parts.count; i++) print_part(p, &p->parts.items[i], all, out);
}

/* ---- JSON -----------------------------------------------------------------------------------------------
 */

static void put_text(const char *key, const char *text, tn_buf *out) {
  tn_buf_printf(out, "\"%s\": ", key);
  tn_buf_json(out, tn_str_of(text));
}

static void put_row(const tn_profile *p, const tn_profile_part *part, const tn_profile_row *r, bool step,
                    tn_buf *out) {
  tn_buf_puts(out, "{");
  put_text("kernel", r->symbol, out), tn_buf_puts(out, ", ");
  put_text("root", *r->root ? r->root : "loop", out), tn_buf_puts(out, ", ");
  put_text("at", r->loc, out);
  if (step) {
    tn_buf_puts(out, ", ");
    put_text("function", r->func, out);
    tn_buf_printf(out, ", \"index\": %u", r->index);
  } else {
    tn_buf_printf(out, ", \"steps\": %u", r->steps);
  }
  tn_buf_printf(
      out,
      ", \"calls\": %llu, \"ms\": {\"total\": %.6f, \"median\": %.6f, \"min\": %.6f}, \"share\": %.6f, "
      "\"threads\": %.4f, \"operations\": %.0f, \"bytes\": %.0f, \"weight_bytes\": %.0f, "
      "\"operations_per_second\": %.6g, "
      "\"bytes_per_second\": %.6g, \"limit\": \"%s\", \"of_limit\": %.6f}",
      (unsigned long long)r->calls, r->total * 1e3, r->median * 1e3, r->least * 1e3,
      per(r->total, all_seconds(part)), per(r->busy, r->total * p->machine.threads), r->work, r->bytes,
      r->weights, per_second(r, r->work), per_second(r, r->bytes), tn_limit_name(r->by),
      tn_profile_fraction(r));
}

void tn_profile_part_json(const tn_profile *p, const tn_profile_part *part, tn_buf *out) {
  tn_profile_row s = tn_profile_sum(part);
  tn_buf_puts(out, "{");
  put_text("what", part->what, out);
  double seconds = all_seconds(part);
  tn_buf_printf(out,
                ", \"batch\": %lld, \"tokens\": %lld, \"calls\": %llu, \"launches\": %llu, \"waits\": %llu, "
                "\"ms\": {\"total\": "
                "%.6f, \"kernels\": %.6f, \"between\": %.6f, \"outside\": %.6f}, \"operations\": %.0f, "
                "\"bytes\": %.0f, \"of_limit\": %.6f, \"lost\": %llu,\n  \"kernels\": [",
                (long long)part->batch, (long long)part->tokens, (unsigned long long)part->walks,
                (unsigned long long)s.calls, (unsigned long long)part->waits, seconds * 1e3,
                part->kernels * 1e3, (part->inside - part->kernels) * 1e3, (seconds - part->inside) * 1e3,
                s.work, s.bytes, per(s.bound, seconds), (unsigned long long)part->lost);
  for (uint32_t i = 0; i < part->groups.count; i++) {
    tn_buf_puts(out, i ? ",\n    " : "\n    ");
    put_row(p, part, &part->groups.items[i], false, out);
  }
  tn_buf_puts(out, "],\n  \"steps\": [");
  for (uint32_t i = 0; i < part->steps.count; i++) {
    tn_buf_puts(out, i ? ",\n    " : "\n    ");
    put_row(p, part, &part->steps.items[i], true, out);
  }
  tn_buf_puts(out, "]}");
}

void tn_profile_json(const tn_profile *p, tn_buf *out) {
  const char *precision = tn_ir_meta_get(p->o->module, "precision");
  const tn_target *target = tn_driver_target(&p->o->driver, 0, 0);
  tn_buf_puts(out, "{");
  put_text("model", p->o->api->name(p->o->model), out), tn_buf_puts(out, ", ");
  put_text("target", target ? target->name : "", out);
  tn_buf_puts(out, ", ");
  put_text("precision", precision ? precision : "strict", out);
  tn_buf_puts(out, ",\n \"limits\": ");
  tn_machine_json(&p->machine, out);
  tn_buf_puts(out, ",\n \"parts\": [");
  for (uint32_t i = 0; i < p->parts.count; i++) {
    tn_buf_puts(out, i ? ",\n " : "\n ");
    tn_profile_part_json(p, &p->parts.items[i], out);
  }
  tn_buf_puts(out, "]}\n");
}

/* ---- where it goes --------------------------------------------------------------------------------------
 */

tn_status tn_profile_deliver(tn_profile *p, const tn_args *a, bool show) {
  tn_buf text = {0}, json = {0};
  tn_status s = TN_OK;
  tn_profile_json(p, &json);
  if (a->given[OPT_json])
    tn_buf_puts(&text, tn_buf_cstr(&json));
  else
    tn_profile_print(p, !a->given[OPT_limits], a->given[OPT_verbose], &text);
  if (a->last[OPT_profile])
    s = tn_text_write(a->last[OPT_profile], &json, p->d);
  else if (a->given[OPT_profile] && show)
    fputs(tn_buf_cstr(&text), stderr);
  if (s == TN_OK && a->last[OPT_trace]) s = tn_trace_write(p, a->last[OPT_trace]);
  if (s == TN_OK && (text.failed || json.failed)) s = TN_OOM;
  tn_buf_fini(&text);
  tn_buf_fini(&json);
  return s;
}
