/* report_phases.c - --time-passes: where the time went, from the start of the driver to now, step by step in
 * the order they were taken. The steps add up to the total. */
#include "tools/reports.h"

static void put_text(const tn_driver *d, double total, FILE *to) {
  for (uint32_t i = 0; i < d->phases.count; i++) {
    const tn_phase *p = &d->phases.items[i];
    fprintf(to, "%-5s %-16s %-12s %10.3f ms %5.1f %%", p->pass ? "pass" : "phase", p->name,
            p->target ? p->target : "", p->seconds * 1e3, total > 0 ? 100 * p->seconds / total : 0);
    if (p->parts) fprintf(to, "  %u parts, %u of them cached", p->parts, p->kept);
    fputc('\n', to);
  }
  fprintf(to, "%-35s %10.3f ms\n", "total", total * 1e3);
}

static void put_json(const tn_driver *d, double total, FILE *to) {
  tn_buf out = {0};
  tn_buf_puts(&out, "{\"phases\": [");
  for (uint32_t i = 0; i < d->phases.count; i++) {
    const tn_phase *p = &d->phases.items[i];
    tn_buf_puts(&out, i ? ", {\"name\": " : "{\"name\": ");
    tn_buf_json(&out, tn_str_of(p->name));
    tn_buf_printf(&out, ", \"pass\": %s", p->pass ? "true" : "false");
    if (p->target) {
      tn_buf_puts(&out, ", \"target\": ");
      tn_buf_json(&out, tn_str_of(p->target));
    }
    if (p->parts) tn_buf_printf(&out, ", \"parts\": %u, \"cached\": %u", p->parts, p->kept);
    tn_buf_printf(&out, ", \"seconds\": %.6f}", p->seconds);
  }
  tn_buf_printf(&out, "], \"seconds\": %.6f}\n", total);
  fputs(tn_buf_cstr(&out), to);
  tn_buf_fini(&out);
}

void tn_report_phases(const tn_args *a, tn_driver *d) {
  if (!a->given[OPT_time_passes]) return;
  tn_driver_phase(d, "rest");
  double total = d->mark - d->began;
  if (a->given[OPT_json])
    put_json(d, total, stdout);
  else
    put_text(d, total, stderr);
}
