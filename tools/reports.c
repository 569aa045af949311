/* reports.c - text about a pipeline run and a step program. */
#include "tools/reports.h"
#include <stdlib.h>

void tn_report_request(const tn_args *a, tn_pipeline_run *run) {
  run->verify_each = a->given[OPT_verify_each];
  run->print_after = a->last[OPT_print_after];
  run->require_fusion = a->last[OPT_require_fusion];
}

void tn_report_loc(tn_module *m, tn_loc loc, tn_buf *out) {
  tn_loc_info l = {0};
  for (int depth = 0; loc && depth < 16; depth++) { /* a fused place is named by its first part */
    tn_ir_loc_get(m, loc, &l);
    if (l.kind != TN_LOC_FUSED && l.kind != TN_LOC_DERIVED) break;
    loc = l.a;
  }
  tn_buf_puts(out, l.name ? l.name : "?");
  if (l.line) tn_buf_printf(out, ":%u", l.line);
}

/* How often each pattern matched, in order of first mention. */
static void count_fusions(tn_pipeline_run *run, tn_map *seen) {
  tn_map_init(seen);
  for (uint32_t i = 0; i < run->fusions.count; i++) {
    const tn_fusion *f = &run->fusions.items[i];
    uint64_t n = 0;
    tn_map_get(seen, tn_str_of(f->pattern), &n);
    tn_map_put(seen, tn_str_of(f->pattern), n + f->matched, NULL);
  }
}

static void report_fusions(tn_module *m, tn_pipeline_run *run, FILE *to) {
  tn_map seen;
  count_fusions(run, &seen);
  for (uint32_t i = 0; i < seen.count; i++)
    fprintf(to, "fusion %-24s %llu\n", seen.entries[i].key, (unsigned long long)seen.entries[i].value);
  for (uint32_t i = 0; i < run->fusions.count; i++) {
    const tn_fusion *f = &run->fusions.items[i];
    if (f->matched) continue;
    tn_buf where = {0};
    tn_report_loc(m, f->loc, &where);
    if (f->blocker) {
      tn_buf_puts(&where, ", blocked by ");
      tn_report_loc(m, f->blocker, &where);
    }
    fprintf(to, "near miss %s at %s: %s\n", f->pattern, tn_buf_cstr(&where),
            f->blocked_by ? f->blocked_by : "unknown");
    tn_buf_fini(&where);
  }
  tn_map_fini(&seen);
}

static void put_place(tn_module *m, const char *key, tn_loc loc, tn_buf *out) {
  tn_buf where = {0};
  tn_report_loc(m, loc, &where);
  tn_buf_printf(out, "\"%s\": ", key);
  tn_buf_json(out, tn_str_of(tn_buf_cstr(&where)));
  tn_buf_fini(&where);
}

static void put_near_miss(tn_module *m, const tn_fusion *f, tn_buf *out) {
  tn_buf_puts(out, "{");
  put_place(m, "at", f->loc, out);
  tn_buf_puts(out, ", ");
  if (f->blocker) {
    put_place(m, "blocked_by", f->blocker, out);
    tn_buf_puts(out, ", ");
  }
  tn_buf_puts(out, "\"why\": ");
  tn_buf_json(out, tn_str_of(f->blocked_by ? f->blocked_by : "unknown"));
  tn_buf_puts(out, "}");
}

static void report_fusions_json(tn_module *m, tn_pipeline_run *run, FILE *to) {
  tn_map seen;
  tn_buf out = {0};
  count_fusions(run, &seen);
  tn_buf_puts(&out, "{\"fusions\": [");
  for (uint32_t i = 0; i < seen.count; i++) {
    const char *comma = "";
    tn_buf_puts(&out, i ? ", {\"pattern\": " : "{\"pattern\": ");
    tn_buf_json(&out, tn_str_of(seen.entries[i].key));
    tn_buf_printf(&out, ", \"matched\": %llu, \"near_misses\": [", (unsigned long long)seen.entries[i].value);
    for (uint32_t k = 0; k < run->fusions.count; k++) {
      const tn_fusion *f = &run->fusions.items[k];
      if (f->matched || strcmp(f->pattern, seen.entries[i].key)) continue;
      tn_buf_puts(&out, comma);
      put_near_miss(m, f, &out);
      comma = ", ";
    }
    tn_buf_puts(&out, "]}");
  }
  tn_buf_puts(&out, "]}\n");
  fputs(tn_buf_cstr(&out), to);
  tn_buf_fini(&out);
  tn_map_fini(&seen);
}

static void report_rules(tn_pipeline_run *run, FILE *to) {
  tn_map hits;
  tn_map_init(&hits);
  for (uint32_t i = 0; i < run->rule_hits.count; i++) {
    uint64_t n = 0;
    tn_map_get(&hits, tn_str_of(run->rule_hits.items[i].pattern), &n);
    tn_map_put(&hits, tn_str_of(run->rule_hits.items[i].pattern), n + 1, NULL);
  }
  for (uint32_t i = 0; i < hits.count; i++)
    fprintf(to, "rule %-26s %llu\n", hits.entries[i].key, (unsigned long long)hits.entries[i].value);
  tn_map_fini(&hits);
}

void tn_report_pipeline(const tn_args *a, tn_module *m, tn_pipeline_run *run, FILE *to) {
  if (a->given[OPT_rule_stats]) report_rules(run, to);
  if (!a->given[OPT_fusion_report]) return;
  if (a->given[OPT_json])
    report_fusions_json(m, run, stdout);
  else
    report_fusions(m, run, to);
}

/* ---- the step program
 * ------------------------------------------------------------------------------------------- */

typedef struct program_view {
  const char *base;
  const tn_prog_header *h;
  FILE *to;
} program_view;
#define ROWS(v, T, table) ((const T *)((v)->base + (v)->h->table.offset))
static const char *name_at(const program_view *v, uint32_t at) { return v->base + v->h->strings.offset + at; }

static void print_expr(const program_view *v, uint32_t row) {
  static const char *const signs[] = {[TN_DIM_ADD] = " + ", [TN_DIM_MUL] = " * ",   [TN_DIM_FLOORDIV] = " / ",
                                      [TN_DIM_MOD] = " % ", [TN_DIM_MIN] = " min ", [TN_DIM_MAX] = " max "};
  const tn_prog_expr *e = &ROWS(v, tn_prog_expr, exprs)[row];
  if (e->kind == TN_DIM_CONST)
    fprintf(v->to, "%lld", (long long)e->value);
  else if (e->kind == TN_DIM_SYM)
    fputs(name_at(v, ROWS(v, tn_prog_dim, dims)[e->a].name), v->to);
  else if (e->kind == TN_DIM_UNKNOWN)
    fputc('?', v->to);
  else {
    fputc('(', v->to);
    print_expr(v, e->a);
    fputs(signs[e->kind], v->to);
    print_expr(v, e->b);
    fputc(')', v->to);
  }
}

static void print_operand(const program_view *v, const tn_prog_operand *o) {
  static const char *const kinds[] = {"slot", "in", "out", "weight", "state", "none"};
  if (o->kind == TN_PROG_WEIGHT)
    fprintf(v->to, " @%s", name_at(v, ROWS(v, tn_prog_weight, weights)[o->index].name));
  else if (o->kind == TN_PROG_STATE)
    fprintf(v->to, " @%s", name_at(v, ROWS(v, tn_prog_state, states)[o->index].arg.name));
  else
    fprintf(v->to, " %s%u", kinds[o->kind], o->index);
}

static void print_step(const program_view *v, uint32_t i) {
  static const char *const words[] = {[TN_PROG_BIND] = "bind", [TN_PROG_IF] = "if", [TN_PROG_LOOP] = "loop"};
  const tn_prog_step *s = &ROWS(v, tn_prog_step, steps)[i];
  fprintf(v->to, "    %s",
          s->kind == TN_PROG_KERNEL ? name_at(v, ROWS(v, tn_prog_kernel, kernels)[s->kernel].symbol)
          : s->kind != TN_PROG_COPY ? words[s->kind]
          : s->kernel               ? "download"
                                    : "upload");
  for (uint32_t k = 0; k < s->noperands; k++)
    print_operand(v, &ROWS(v, tn_prog_operand, operands)[s->first_operand + k]);
  fputs(" dims(", v->to);
  for (uint32_t k = 0; k < s->nscalars; k++) {
    if (k) fputs(", ", v->to);
    print_expr(v, ROWS(v, uint32_t, scalars)[s->first_scalar + k]);
  }
  if (s->ahead) fprintf(v->to, ") ahead of %u steps", s->ahead);
  fprintf(v->to, "%s  // %s\n", s->ahead ? "" : ")", name_at(v, s->loc));
}

static void print_slot(const program_view *v, const tn_prog_variant *r, uint32_t k) {
  const tn_prog_slot *s = &ROWS(v, tn_prog_slot, slots)[r->first_slot + k];
  fprintf(v->to, "    slot%u of ", k);
  if (s->bytes == TN_PROG_NONE)
    fputs("what the step gives", v->to);
  else
    print_expr(v, s->bytes), fputs(" bytes", v->to);
  fprintf(v->to, ", steps %u to %u\n", s->from, s->until ? s->until - 1 : r->nsteps - 1);
}

static void print_variant(const program_view *v, const tn_prog_variant *r) {
  if (r->dim != TN_PROG_NONE)
    fprintf(v->to, "  when %s = %lld", name_at(v, ROWS(v, tn_prog_dim, dims)[r->dim].name),
            (long long)r->equals);
  else
    fputs("  always", v->to);
  fprintf(v->to, ": %u steps\n", r->nsteps);
  for (uint32_t k = 0; k < r->nslots; k++) print_slot(v, r, k);
  for (uint32_t k = 0; k < r->nsteps; k++) print_step(v, r->first_step + k);
}

tn_status tn_report_program(tn_driver *d, tn_module *m, FILE *to) {
  tn_build b;
  tn_status s = tn_driver_build(d, m, TN_WEIGHTS_EMBED, &b);
  if (s == TN_OK) {
    program_view v = {b.program.text, (const tn_prog_header *)b.program.text, to};
    for (uint32_t i = 0; i < v.h->entries.count; i++) {
      const tn_prog_entry *e = &ROWS(&v, tn_prog_entry, entries)[i];
      fprintf(to, "entry %s: %u inputs, %u outputs\n", name_at(&v, e->name), e->ninputs, e->noutputs);
      for (uint32_t k = 0; k < e->nvariants; k++)
        print_variant(&v, &ROWS(&v, tn_prog_variant, variants)[e->first_variant + k]);
    }
  }
  tn_build_fini(&b);
  return s;
}
