/* cmd_opt.c - tenon opt: passes over IR text, for tests and for the curious; and the check of // error:
 * lines. */
#include "tools/reports.h"
#include "tools/tool.h"
#include <ctype.h>
#include <stdlib.h>

static const uint8_t opt_options[] = {OPT_passes,
                                      OPT_O0,
                                      OPT_O1,
                                      OPT_O2,
                                      OPT_O3,
                                      OPT_backend,
                                      OPT_isa,
                                      OPT_target,
                                      OPT_require_target,
                                      OPT_plugin,
                                      TN_MODEL_OPTIONS,
                                      OPT_print_after,
                                      OPT_verify_each,
                                      OPT_time_passes,
                                      OPT_rule_stats,
                                      OPT_fusion_report,
                                      OPT_require_fusion,
                                      OPT_verify_diagnostics,
                                      OPT_no_locs,
                                      OPT_output,
                                      OPT_json,
                                      OPT_help};

static tn_status put_text(const tn_args *a, const tn_buf *text, tn_diags *d) {
  const char *path = a->last[OPT_output];
  if (path && strcmp(path, "-")) return tn_text_write(path, text, d);
  return fputs(text->text ? text->text : "", stdout) < 0 ? TN_UNAVAILABLE : TN_OK;
}

static tn_status optimize(const tn_args *a, tn_driver *d, tn_module **m) {
  TN_TRY(tn_driver_load(d, a->positional[0], m));
  tn_buf text = {0};
  tn_pipeline_run run = {.print_to = &text};
  tn_report_request(a, &run);
  tn_status s = TN_OK;
  bool passes =
      a->last[OPT_passes] || a->given[OPT_O0] || a->given[OPT_O1] || a->given[OPT_O2] || a->given[OPT_O3];
  if (passes) s = tn_driver_optimize(d, *m, &run);
  tn_report_pipeline(a, *m, &run, stderr);
  if (s == TN_OK) s = tn_module_verify(*m);
  if (s == TN_OK) s = tn_module_print_flags(*m, &text, a->given[OPT_no_locs] ? TN_PRINT_NO_LOCS : 0);
  tn_pipeline_fini(&run);
  bool reports = a->given[OPT_fusion_report] || a->given[OPT_time_passes];
  bool report_only = a->given[OPT_json] && reports && !a->last[OPT_output];
  if (s == TN_OK && !report_only) s = put_text(a, &text, d->diags);
  tn_buf_fini(&text);
  tn_report_phases(a, d);
  return s;
}

/* ---- --verify-diagnostics
 * ----------------------------------------------------------------------------------------- */

typedef struct expected {
  uint32_t line;
  tn_str text;
  bool met;
} expected;
typedef TN_VEC(expected) expectations;

/* "// error: TEXT" stands on the line of the message, "// error@-1: TEXT" one line below it. */
static bool parse_expected(tn_str line, uint32_t number, expected *e) {
  const char *at = memmem(line.ptr, line.len, "// error", 8);
  if (!at) return false;
  const char *end = line.ptr + line.len;
  long shift = 0;
  at += 8;
  if (at < end && *at == '@') shift = strtol(at + 1, (char **)&at, 10);
  if (at >= end || *at != ':') return false;
  for (at++; at < end && *at == ' ';) at++;
  *e = (expected){(uint32_t)((long)number + shift), {at, (uint64_t)(end - at)}, false};
  while (e->text.len && isspace((unsigned char)e->text.ptr[e->text.len - 1])) e->text.len--;
  return true;
}

static bool collect_expected(const tn_file *f, expectations *list) {
  const char *at = (const char *)f->data, *end = at + f->size;
  for (uint32_t line = 1; at < end; line++) {
    const char *nl = memchr(at, '\n', (size_t)(end - at));
    if (!nl) nl = end;
    expected e;
    if (parse_expected((tn_str){at, (uint64_t)(nl - at)}, line, &e) && !tn_vec_push(list, e)) return false;
    at = nl + 1;
  }
  return true;
}

/* Every error message must be expected on its line (its text contains the expected one), every expectation
 * met. */
static int match_diagnostics(const tn_diags *d, expectations *list) {
  int bad = 0;
  for (uint32_t i = 0; i < d->list.count; i++) {
    const tn_message *msg = &d->list.items[i];
    if (msg->severity != TN_ERROR) continue;
    bool found = false;
    for (uint32_t k = 0; k < list->count && !found; k++) {
      expected *e = &list->items[k];
      if (e->met || e->line != msg->line || !memmem(msg->text, strlen(msg->text), e->text.ptr, e->text.len))
        continue;
      e->met = found = true;
    }
    if (!found) fprintf(stderr, "line %u: unexpected error: %s\n", msg->line, msg->text), bad++;
  }
  for (uint32_t k = 0; k < list->count; k++)
    if (!list->items[k].met)
      fprintf(stderr, "line %u: expected error was not given: %.*s\n", list->items[k].line,
              (int)list->items[k].text.len, list->items[k].text.ptr),
          bad++;
  if (!list->count) fputs("no // error: lines in the file\n", stderr), bad++;
  return bad ? 1 : 0;
}

static int verify_diagnostics(const char *path, tn_diags *d) {
  tn_file f;
  const char *why;
  if (tn_file_map(&f, path, &why) != TN_OK) return fprintf(stderr, "%s: %s\n", path, why), 1;
  expectations list = {0};
  int rc = collect_expected(&f, &list) ? match_diagnostics(d, &list) : 1;
  tn_vec_fini(&list);
  tn_file_unmap(&f);
  return rc;
}

static int run_opt(const tn_args *a) {
  tn_diags diags;
  tn_arena arena;
  tn_diags_init(&diags);
  tn_arena_init(&arena);
  tn_driver_options o;
  tn_args_driver(a, &arena, &o);
  bool backends = o.target || (o.backend && strcmp(o.backend, "none"));
  tn_driver d;
  tn_module *m = NULL;
  tn_status s = tn_driver_init(&d, &o, &diags);
  if (s == TN_OK && backends) s = tn_driver_pick(&d, false);
  if (s == TN_OK) s = optimize(a, &d, &m);
  int rc = a->given[OPT_verify_diagnostics] ? verify_diagnostics(a->positional[0], &diags)
                                            : tn_tool_finish(a, &diags, s);
  tn_module_free(m);
  tn_driver_fini(&d);
  tn_arena_fini(&arena);
  tn_diags_fini(&diags);
  return rc;
}

const tn_command tn_cmd_opt = {"opt",
                               "run passes over IR text and print the result",
                               "FILE.tir|MODEL|- [--passes=LIST | -O3] [options]",
                               "Without passes the text is parsed, verified and printed in canonical form. "
                               "Backends are asked only when --backend\n"
                               "names one; otherwise nothing fuses but what `fuse{force=1}` asks for.",
                               opt_options,
                               TN_COUNT(opt_options),
                               1,
                               1,
                               run_opt};
