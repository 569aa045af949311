/* cmd_conform.c - tenon conform: does a plugin keep the rules of tenon/plugin.h? */
#include "tools/conform/conform.h"
#include "tools/tool.h"
#include <stdio.h>

static const uint8_t options[] = {OPT_only, OPT_expected, OPT_json, OPT_help};

enum { LINES = 4 }; /* of words; with --json all */

typedef struct report {
  bool json;
  uint32_t shown;
} report;

static void put_json(report *r, const char *name, tn_outcome outcome, const char *words, double seconds) {
  tn_buf text = {0};
  tn_buf_printf(&text, "%s{\"name\": ", r->shown++ ? ",\n  " : "  ");
  tn_buf_json(&text, tn_str_of(name));
  tn_buf_printf(&text, ", \"outcome\": \"%s\", \"seconds\": %.3f, \"words\": ", tn_outcome_names[outcome],
                seconds);
  tn_buf_json(&text, tn_str_of(words));
  printf("%s}", tn_buf_cstr(&text));
  tn_buf_fini(&text);
}

/* A line per test; words of those that passed are of no interest. */
static void put(void *user, const char *name, tn_outcome outcome, const char *words, double seconds) {
  report *r = user;
  if (r->json) {
    put_json(r, name, outcome, words, seconds);
    return;
  }
  printf("%-6s %s\n", tn_outcome_names[outcome], name);
  const char *at = words;
  for (int line = 0; outcome != TN_PASS && *at && line < LINES; line++) {
    int n = (int)strcspn(at, "\n");
    printf("       %.*s\n", n, at);
    at += n + (at[n] != 0);
  }
  fflush(stdout);
}

static int run(const tn_args *a) {
  report r = {.json = a->given[OPT_json]};
  uint32_t counts[6] = {0};
  tn_diags d;
  tn_diags_init(&d);
  tn_conform_options o = {
      .only = a->last[OPT_only], .expected = a->last[OPT_expected], .user = &r, .each = put};
  if (r.json) printf("{\"tests\": [\n");
  tn_status s = tn_conform_run(a->positional[0], &o, counts, &d);
  printf("%s", r.json ? "\n], \"counts\": {" : "");
  for (int i = 0; i <= TN_XPASS; i++)
    printf(r.json ? "%s\"%s\": %u" : "%s%s %u", i ? ", " : "", tn_outcome_names[i], counts[i]);
  printf(r.json ? "}}\n" : "\n");
  int rc = tn_tool_finish(a, &d, s);
  tn_diags_fini(&d);
  return counts[TN_FAIL] || counts[TN_CRASH] || counts[TN_XPASS] ? 1 : rc;
}

const tn_command tn_cmd_conform = {"conform",
                                   "test whether a plugin keeps the rules of tenon/plugin.h",
                                   "PLUGIN.so",
                                   "Loads the plugin in a process per test: symbol and tables, older and "
                                   "newer hosts, failing memory, claims, "
                                   "every op it takes against the reference, damaged images, devices, "
                                   "passes. Fails when a test fails, or one "
                                   "that --expected names does not.",
                                   options,
                                   TN_COUNT(options),
                                   1,
                                   1,
                                   run};
