/* inspect_html.c - one self-contained page: the kernels of each function drawn top to bottom with their data
 * flow, the memory plan as bars over time, and the weights. No scripts, no outside files. */
#include "tools/inspect/inspect.h"

static const char style[] =
    ":root{--bg:#fcfcfb;--fg:#1d2129;--dim:#68707c;--line:#d9dce1;--box:#fff;--edge:#9aa5b4;--hot:#e0562b}"
    "@media(prefers-color-scheme:dark){:root{--bg:#15181d;--fg:#e6e8eb;--dim:#98a1ad;--line:#333a44;--box:#"
    "1d2229;--edge:#5b6675;--hot:#f07a45}}"
    "body{background:var(--bg);color:var(--fg);font:15px/1.5 system-ui,sans-serif;margin:2rem "
    "auto;max-width:70rem;padding:0 1rem}"
    "h1{font-size:1.5rem;margin:0 0 .2rem}h2{font-size:1.1rem;margin:2rem 0 .5rem;border-bottom:1px solid "
    "var(--line);padding-bottom:.2rem}"
    "p.s{color:var(--dim);margin:.2rem 0}code,td.m,text{font-family:ui-monospace,Menlo,Consolas,monospace}"
    "table{border-collapse:collapse;font-size:.85rem}td,th{padding:.15rem .8rem .15rem "
    "0;text-align:left;border-bottom:1px solid var(--line)}"
    "details{margin:.5rem 0}summary{cursor:pointer;color:var(--dim)}svg{max-width:100%;height:auto}"
    "svg rect.k{fill:var(--box);stroke:var(--line)}svg text{fill:var(--fg);font-size:12px}svg "
    "text.d{fill:var(--dim);font-size:11px}"
    "svg path{fill:none;stroke:var(--edge);stroke-width:1.3}"
    "svg rect.hot{fill:var(--hot)}svg text.t{fill:var(--fg);font-size:11px;text-anchor:end}"
    "table.p{width:100%}table.p td,table.p th{padding-right:.6rem;white-space:nowrap}table.p "
    "td.w{white-space:normal}"
    "td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}svg.bar{display:inline-block;vertical-"
    "align:middle}"
    "svg.bar rect.b{fill:var(--line)}svg.all{width:100%;height:22px;border-radius:4px}"
    ".gap{fill:var(--edge)}"
    ".matmul{fill:#3b7dd8}.attention{fill:#c2557a}.norm{fill:#3f9b6e}.loop{fill:#c98a2b}.other{fill:#7a6bc4}";

void tn_html_put(tn_buf *out, const char *s) {
  for (; s && *s; s++) {
    if (*s == '<')
      tn_buf_puts(out, "&lt;");
    else if (*s == '>')
      tn_buf_puts(out, "&gt;");
    else if (*s == '&')
      tn_buf_puts(out, "&amp;");
    else if (*s == '"')
      tn_buf_puts(out, "&quot;");
    else
      tn_buf_put(out, s, 1);
  }
}

const char *tn_html_colour(const char *root) {
  if (!strcmp(root, "matmul") || !strcmp(root, "attention") || !strcmp(root, "loop")) return root;
  return strstr(root, "norm") || !strcmp(root, "softmax") || !strncmp(root, "reduce", 6) ? "norm" : "other";
}

/* ---- the graph
 * ---------------------------------------------------------------------------------------------------- */

enum { ROW = 58, BOX = 44, LEFT = 150, WIDTH = 760, LANES = 12 };

/* Which kernel of the list made v (through reshapes); -1: none. */
static int maker_of(tn_module *m, const tn_inspect_kernels *k, tn_value v) {
  tn_value_info info;
  tn_ir_value_get(m, v, &info);
  while (info.kind == TN_VALUE_RESULT && tn_ir_opcode(m, info.op) == TN_OPC_reshape)
    tn_ir_value_get(m, tn_ir_op_operand(m, info.op, 0), &info);
  if (info.kind != TN_VALUE_RESULT) return -1;
  uint32_t lo = 0;
  for (; lo < k->count; lo++)
    if (k->items[lo].op == info.op) return (int)lo;
  return -1;
}

/* The time of a kernel: how hot its box is, a bar as long as its share of the longest, the numbers. */
static void put_time(tn_buf *out, const tn_inspect_time *t, int y) {
  double part = t->most > 0 ? t->share / t->most : 0;
  tn_buf_printf(out,
                "<rect class=\"hot\" x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" rx=\"6\" "
                "fill-opacity=\"%.3f\"/><rect class=\"hot\" x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"3\"/>",
                LEFT, y, WIDTH - LEFT - 8, BOX, 0.35 * part, LEFT + 8, y + BOX - 4,
                part * (WIDTH - LEFT - 24));
  tn_buf_printf(out,
                "<text class=\"t\" x=\"%d\" y=\"%d\">%.1f us &#183; %.1f%% &#183; %.0f%% of limit</text>",
                WIDTH - 16, y + 35, t->median * 1e3, 100 * t->share, 100 * t->of_limit);
}

static void put_box(tn_buf *out, const tn_inspect_kernel *k, uint32_t i, const tn_inspect_time *t) {
  int y = (int)i * ROW;
  tn_buf_printf(out, "<g><title>");
  tn_html_put(out, tn_buf_cstr((tn_buf *)&k->ops));
  tn_buf_printf(out,
                "</title><rect class=\"k\" x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" rx=\"6\"/><rect "
                "class=\"%s\" x=\"%d\" y=\"%d\" width=\"5\" height=\"%d\" rx=\"2\"/>",
                LEFT, y, WIDTH - LEFT - 8, BOX, tn_html_colour(k->root), LEFT, y, BOX);
  if (t) put_time(out, t, y);
  tn_buf_printf(out, "<text x=\"%d\" y=\"%d\">", LEFT + 14, y + 18);
  tn_html_put(out, k->root);
  tn_buf_printf(out, "</text><text class=\"d\" x=\"%d\" y=\"%d\">", LEFT + 110, y + 18);
  tn_buf ops = {0};
  tn_buf_printf(&ops, "%.70s%s", tn_buf_cstr((tn_buf *)&k->ops), k->ops.len > 70 ? " ..." : "");
  tn_html_put(out, tn_buf_cstr(&ops));
  tn_buf_fini(&ops);
  tn_buf_printf(out, "</text><text class=\"d\" x=\"%d\" y=\"%d\">", LEFT + 14, y + 35);
  tn_html_put(out, tn_buf_cstr((tn_buf *)&k->types));
  tn_buf_puts(out, "  ");
  tn_html_put(out, tn_buf_cstr((tn_buf *)&k->loc));
  tn_buf_puts(out, "</text></g>\n");
}

/* Next neighbours are joined by a short line, others by an arc on the left, further out the longer it is. */
static void put_edge(tn_buf *out, int from, int to) {
  int y0 = from * ROW + BOX, y1 = to * ROW;
  if (to == from + 1) {
    tn_buf_printf(out, "<path d=\"M%d %d V%d\"/>", LEFT + 40, y0, y1);
    return;
  }
  int span = to - from < LANES ? to - from : LANES, x = LEFT - 10 - span * 10;
  tn_buf_printf(out, "<path d=\"M%d %d C%d %d %d %d %d %d\"/>\n", LEFT, y0 - BOX / 2, x, y0 - BOX / 2, x,
                y1 + BOX / 2, LEFT, y1 + BOX / 2);
}

static void put_graph(tn_module *m, const tn_inspect_kernels *k, const char *func, const tn_json *profile,
                      tn_buf *out) {
  tn_buf_printf(out, "<svg viewBox=\"0 0 %d %d\" width=\"%d\">\n", WIDTH, (int)k->count * ROW + 4, WIDTH);
  for (uint32_t i = 0; i < k->count; i++)
    for (uint32_t o = 0; o < tn_ir_op_noperands(m, k->items[i].op); o++) {
      int from = maker_of(m, k, tn_ir_op_operand(m, k->items[i].op, o));
      if (from >= 0) put_edge(out, from, (int)i);
    }
  for (uint32_t i = 0; i < k->count; i++) {
    tn_inspect_time t;
    put_box(out, &k->items[i], i, tn_inspect_time_of(profile, func, i, &t) ? &t : NULL);
  }
  tn_buf_puts(out, "</svg>\n");
}

/* ---- memory
 * ------------------------------------------------------------------------------------------------------- */

static uint32_t last_use(tn_module *m, const tn_inspect_kernels *k, tn_value v, uint32_t made) {
  tn_value_info info;
  tn_ir_value_get(m, v, &info);
  uint32_t last = made;
  for (uint32_t i = 0; i < info.nuses; i++) {
    uint32_t operand;
    tn_op user = tn_ir_value_use(m, v, i, &operand);
    if (tn_ir_opcode(m, user) == TN_OPC_reshape) {
      uint32_t l = last_use(m, k, tn_ir_op_result(m, user, 0), made);
      last = l > last ? l : last;
    }
    for (uint32_t j = made; j < k->count; j++)
      if (k->items[j].op == user && j > last) last = j;
  }
  return last;
}

static void put_memory(tn_module *m, tn_func f, const tn_inspect_kernels *k, tn_buf *out) {
  tn_attr sizes, slots;
  if (!tn_ir_func_attr(m, f, "slots", &sizes) || !sizes.count || !k->count) return;
  double step = (double)(WIDTH - LEFT) / k->count;
  tn_buf_printf(out,
                "<details open><summary>memory plan: %u slots over %u steps</summary><svg viewBox=\"0 0 %d "
                "%u\" width=\"%d\">\n",
                sizes.count, k->count, WIDTH, sizes.count * 22 + 6, WIDTH);
  for (uint32_t s = 0; s < sizes.count; s++) {
    tn_buf_printf(out, "<text class=\"d\" x=\"0\" y=\"%u\">slot %u</text>", s * 22 + 15, s);
    tn_buf text = {0};
    tn_dim_print(m, sizes.u.dims[s], &text);
    tn_buf_printf(out, "<text class=\"d\" x=\"52\" y=\"%u\"><title>", s * 22 + 15);
    tn_html_put(out, tn_buf_cstr(&text));
    tn_buf_puts(out, " bytes</title>");
    tn_html_put(out, text.len > 14 ? "(size)" : tn_buf_cstr(&text));
    tn_buf_puts(out, "</text>");
    tn_buf_fini(&text);
  }
  for (uint32_t i = 0; i < k->count; i++) {
    if (!tn_ir_op_attr(m, k->items[i].op, "slots", &slots)) continue;
    for (uint32_t r = 0; r < slots.count; r++) {
      if (slots.u.ints[r] < 0) continue;
      uint32_t last = last_use(m, k, tn_ir_op_result(m, k->items[i].op, r), i);
      tn_buf_printf(out,
                    "<rect class=\"%s\" x=\"%.2f\" y=\"%lld\" width=\"%.2f\" height=\"16\" "
                    "opacity=\".75\"><title>step %u %s, last used by step %u</title></rect>\n",
                    tn_html_colour(k->items[i].root), LEFT + i * step, (long long)slots.u.ints[r] * 22 + 3,
                    (last - i + 1) * step - 0.5, i, k->items[i].root, last);
    }
  }
  tn_buf_puts(out, "</svg></details>\n");
}

/* ---- the page
 * ----------------------------------------------------------------------------------------------------- */

static tn_status put_function(tn_module *m, tn_func f, const tn_json *profile, tn_buf *out) {
  tn_func_info info;
  tn_ir_func_get(m, f, &info);
  tn_inspect_kernels k = {0};
  tn_status s = tn_inspect_collect(m, f, &k);
  tn_buf_puts(out, "<h2>");
  tn_html_put(out, info.name);
  tn_buf_printf(out, "</h2><p class=\"s\">%u kernels", k.count);
  tn_attr arena;
  if (tn_ir_func_attr(m, f, "arena", &arena)) {
    tn_buf text = {0};
    tn_dim_print(m, arena.u.dim, &text);
    tn_buf_puts(out, "; arena <code>");
    tn_html_put(out, tn_buf_cstr(&text));
    tn_buf_puts(out, "</code> bytes");
    tn_buf_fini(&text);
  }
  tn_buf_puts(out, "</p>\n");
  put_memory(m, f, &k, out);
  tn_inspect_time t;
  bool open = profile ? tn_inspect_time_of(profile, info.name, 0, &t) : f == 1;
  tn_buf_printf(out, "<details%s><summary>graph of kernels</summary>\n", open ? " open" : "");
  put_graph(m, &k, info.name, profile, out);
  tn_buf_puts(out, "</details>\n");
  tn_inspect_kernels_fini(&k);
  return s;
}

static void put_weights(tn_module *m, tn_buf *out) {
  tn_buf_puts(out, "<h2>weights</h2><details><summary>all "
                   "tensors</summary><table><tr><th>name</th><th>type</th><th>bytes</th></tr>\n");
  for (tn_weight w = 1; w <= tn_ir_weight_count(m); w++) {
    tn_weight_info info;
    uint64_t bytes = tn_inspect_weight_bytes(m, w, &info);
    if (!bytes) continue;
    tn_buf type = {0};
    tn_type_print(m, info.type, &type);
    tn_buf_puts(out, "<tr><td class=\"m\">");
    tn_html_put(out, info.name);
    tn_buf_puts(out, "</td><td class=\"m\">");
    tn_html_put(out, tn_buf_cstr(&type));
    tn_buf_printf(out, "</td><td>%llu</td></tr>\n", (unsigned long long)bytes);
    tn_buf_fini(&type);
  }
  tn_buf_puts(out, "</table></details>\n");
}

static void put_meta(tn_module *m, tn_buf *out) {
  tn_buf_puts(out, "<details><summary>metadata</summary><table>\n");
  for (uint32_t i = 0; i < tn_ir_meta_count(m); i++) {
    const char *key = tn_ir_meta_key(m, i);
    tn_buf_puts(out, "<tr><td class=\"m\">");
    tn_html_put(out, key);
    tn_buf_puts(out, "</td><td>");
    tn_html_put(out, tn_ir_meta_get(m, key));
    tn_buf_puts(out, "</td></tr>\n");
  }
  tn_buf_puts(out, "</table></details>\n");
}

tn_status tn_inspect_html(tn_module *m, const char *title, const tn_json *profile, tn_buf *out) {
  tn_buf_puts(out, "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" "
                   "content=\"width=device-width\"><title>");
  tn_html_put(out, title);
  tn_buf_printf(out, "</title><style>%s</style>\n<h1>", style);
  tn_html_put(out, tn_ir_module_name(m));
  tn_buf_printf(out, "</h1><p class=\"s\">%u entry points and variants</p>\n", tn_ir_func_count(m));
  put_meta(m, out);
  if (profile) tn_inspect_profile_put(profile, out);
  tn_status s = TN_OK;
  for (tn_func f = 1; s == TN_OK && f <= tn_ir_func_count(m); f++) s = put_function(m, f, profile, out);
  put_weights(m, out);
  tn_buf_puts(out, "</html>\n");
  return out->failed ? TN_OOM : s;
}
