/* inspect_profile.c - a profile on the page: for each part a bar of all its time, cut into kernels, and a
 * table with the same colours; and the times that the graph's boxes show. */
#include "tools/inspect/inspect.h"

static double number(const tn_json *object, const char *key) {
  const tn_json *x = tn_json_peek(object, key);
  if (!x) return 0;
  return x->kind == TN_JSON_INT ? (double)x->u.i : x->kind == TN_JSON_REAL ? x->u.r : 0;
}

/* Checked to be a text; NUL-terminated as all of the parser's are. */
static const char *text(const tn_json *object, const char *key) { return tn_json_peek(object, key)->u.s.ptr; }

/* ---- checking -------------------------------------------------------------------------------------------
 */

static bool is_kind(const tn_json *object, const char *key, tn_json_kind kind) {
  const tn_json *x = tn_json_peek(object, key);
  return x && x->kind == kind;
}

static bool rows_are_good(const tn_json *part, const char *key, const char *name) {
  if (!is_kind(part, key, TN_JSON_LIST)) return false;
  const tn_json *rows = tn_json_peek(part, key);
  for (uint32_t i = 0; i < rows->count; i++) {
    const tn_json *r = &rows->u.items[i];
    if (!is_kind(r, "kernel", TN_JSON_STRING) || !is_kind(r, "root", TN_JSON_STRING) ||
        !is_kind(r, "at", TN_JSON_STRING) || !is_kind(r, "ms", TN_JSON_OBJECT) ||
        (name && !is_kind(r, name, TN_JSON_STRING)))
      return false;
  }
  return true;
}

tn_status tn_inspect_profile_check(const tn_json *profile, const char *path, tn_diags *d) {
  const tn_json *parts = tn_json_peek(profile, "parts");
  bool good = parts && parts->kind == TN_JSON_LIST;
  for (uint32_t i = 0; good && i < parts->count; i++) {
    const tn_json *p = &parts->u.items[i];
    good = is_kind(p, "what", TN_JSON_STRING) && is_kind(p, "ms", TN_JSON_OBJECT) &&
           rows_are_good(p, "kernels", NULL) && rows_are_good(p, "steps", "function");
  }
  return good ? TN_OK
              : tn_fail(d, TN_INVALID, path, NULL,
                        "is not a profile as bench and run write it with --profile=FILE");
}

/* ---- times of kernels -----------------------------------------------------------------------------------
 */

/* Shares of a part's longest step. */
static double most_of(const tn_json *steps) {
  double most = 0;
  for (uint32_t i = 0; i < steps->count; i++)
    if (number(&steps->u.items[i], "share") > most) most = number(&steps->u.items[i], "share");
  return most;
}

bool tn_inspect_time_of(const tn_json *profile, const char *func, uint32_t index, tn_inspect_time *out) {
  const tn_json *parts = profile ? tn_json_peek(profile, "parts") : NULL;
  for (uint32_t i = 0; parts && i < parts->count; i++) {
    const tn_json *steps = tn_json_peek(&parts->u.items[i], "steps");
    for (uint32_t k = 0; k < steps->count; k++) {
      const tn_json *s = &steps->u.items[k];
      if (number(s, "index") != index || strcmp(text(s, "function"), func)) continue;
      *out = (tn_inspect_time){number(tn_json_peek(s, "ms"), "median"), number(s, "share"),
                               number(s, "of_limit"), most_of(steps)};
      return true;
    }
  }
  return false;
}

/* ---- the section ----------------------------------------------------------------------------------------
 */

static void put_slice(tn_buf *out, const char *class, double *at, double share, const char *title) {
  tn_buf_printf(out,
                "<rect class=\"%s\" x=\"%.3f\" y=\"0\" width=\"%.3f\" height=\"22\" stroke=\"var(--bg)\" "
                "stroke-width=\".15\"><title>",
                class, 100 * *at, 100 * share);
  tn_html_put(out, title);
  tn_buf_printf(out, " %.1f%%</title></rect>", 100 * share);
  *at += share;
}

static void put_whole(const tn_json *part, tn_buf *out) {
  const tn_json *kernels = tn_json_peek(part, "kernels"), *ms = tn_json_peek(part, "ms");
  double at = 0, all = number(ms, "total");
  tn_buf_puts(out, "<svg class=\"all\" viewBox=\"0 0 100 22\" preserveAspectRatio=\"none\">");
  for (uint32_t i = 0; i < kernels->count; i++) {
    const tn_json *k = &kernels->u.items[i];
    put_slice(out, tn_html_colour(text(k, "root")), &at, number(k, "share"), text(k, "kernel"));
  }
  if (all > 0)
    put_slice(out, "gap", &at, (number(ms, "between") + number(ms, "outside")) / all, "not in kernels");
  tn_buf_puts(out, "</svg>\n");
}

/* A bar of 6rem, `part` of it filled. */
static void put_bar(tn_buf *out, const char *class, double part) {
  if (part > 1) part = 1;
  tn_buf_printf(out,
                "<svg class=\"bar\" width=\"70\" height=\"9\"><rect class=\"b\" width=\"70\" height=\"9\" "
                "rx=\"2\"/><rect "
                "class=\"%s\" width=\"%.1f\" height=\"9\" rx=\"2\"/></svg>",
                class, 70 * part);
}

static void put_kernel(const tn_json *k, double most, tn_buf *out) {
  const char *class = tn_html_colour(text(k, "root"));
  const tn_json *ms = tn_json_peek(k, "ms");
  tn_buf_puts(out, "<tr><td>");
  put_bar(out, class, most > 0 ? number(k, "share") / most : 0);
  tn_buf_printf(out,
                "</td><td class=\"n\">%.1f%%</td><td class=\"n\">%.0f</td><td class=\"n\">%.1f</td><td "
                "class=\"n\">%.1f</td>"
                "<td class=\"n\">%.1f</td><td class=\"n\">%.1f</td><td>",
                100 * number(k, "share"), number(k, "calls"), number(ms, "median") * 1e3,
                number(ms, "min") * 1e3, number(k, "operations_per_second") / 1e9,
                number(k, "bytes_per_second") / 1e9);
  put_bar(out, "hot", number(k, "of_limit"));
  const tn_json *limit = tn_json_peek(k, "limit");
  tn_buf_printf(out, "</td><td class=\"n\">%.0f%%</td><td>", 100 * number(k, "of_limit"));
  tn_html_put(out, limit && limit->kind == TN_JSON_STRING ? limit->u.s.ptr : "");
  tn_buf_puts(out, "</td><td class=\"m w\">");
  tn_html_put(out, text(k, "root"));
  if (number(k, "steps") > 1) tn_buf_printf(out, " &#215;%.0f", number(k, "steps"));
  tn_buf_puts(out, " <span style=\"color:var(--dim)\">");
  tn_html_put(out, text(k, "at"));
  tn_buf_puts(out, "</span></td></tr>\n");
}

static void put_part(const tn_json *part, tn_buf *out) {
  const tn_json *kernels = tn_json_peek(part, "kernels"), *ms = tn_json_peek(part, "ms");
  double calls = number(part, "calls"), most = most_of(kernels);
  tn_buf_puts(out, "<h2>time of ");
  tn_html_put(out, text(part, "what"));
  if (number(part, "batch") > 0)
    tn_buf_printf(out, ", %.0f &#215; %.0f", number(part, "batch"), number(part, "tokens"));
  tn_buf_printf(out,
                "</h2><p class=\"s\">%.4g ms a call, %.1f launches, %.0f%% of the machine's limits</p>\n",
                calls > 0 ? number(ms, "total") / calls : 0, calls > 0 ? number(part, "launches") / calls : 0,
                100 * number(part, "of_limit"));
  put_whole(part, out);
  tn_buf_puts(out, "<details open><summary>kernels</summary><table class=\"p\"><tr><th "
                   "colspan=\"2\">time</th><th class=\"n\">calls</th>"
                   "<th class=\"n\">median us</th><th class=\"n\">min us</th><th class=\"n\">GFLOP/s</th><th "
                   "class=\"n\">GB/s</th><th "
                   "colspan=\"3\">of limit</th><th>kernel</th></tr>\n");
  for (uint32_t i = 0; i < kernels->count; i++) put_kernel(&kernels->u.items[i], most, out);
  tn_buf_puts(out, "</table></details>\n");
}

void tn_inspect_profile_put(const tn_json *profile, tn_buf *out) {
  const tn_json *parts = tn_json_peek(profile, "parts");
  for (uint32_t i = 0; i < parts->count; i++) put_part(&parts->u.items[i], out);
}
