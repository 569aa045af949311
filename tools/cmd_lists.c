/* cmd_lists.c - tenon ops, formats, models and plugins: what there is. */
#include "frontend/describe/describe.h"
#include "ir/quant/quant.h"
#include "tools/tool.h"
#include <stdio.h>

static const uint8_t list_options[] = {OPT_json, OPT_help};
static const uint8_t plugin_options[] = {OPT_plugin, OPT_json, OPT_help};
static const uint8_t model_options[] = {OPT_page, OPT_json, OPT_help};

static void put_pair(tn_buf *out, const char *key, const char *value, const char *end) {
  tn_buf_printf(out, "\"%s\": ", key);
  tn_buf_json(out, tn_str_of(value ? value : ""));
  tn_buf_puts(out, end);
}

static int flush(tn_buf *out) {
  int rc = out->failed || fputs(tn_buf_cstr(out), stdout) < 0;
  tn_buf_fini(out);
  return rc;
}

/* ---- ops
 * ----------------------------------------------------------------------------------------------------------
 */

static void op_text(const tn_op_spec *s, tn_buf *out) {
  tn_buf_printf(out, "%s (%s): %s\n", s->name, s->family, s->doc);
  for (uint32_t k = 0; k < s->n_in; k++)
    tn_buf_printf(out, "    in   %-12s %s%s\n", s->in[k].name, s->in[k].shape,
                  s->in[k].optional ? " (may be absent)" : "");
  for (uint32_t k = 0; k < s->n_out; k++)
    tn_buf_printf(out, "    out  %-12s %s\n", s->out[k].name, s->out[k].shape);
  for (uint32_t k = 0; k < s->nattrs; k++)
    tn_buf_printf(out, "    attr %-12s %s%s%s\n", s->attrs[k].name, s->attrs[k].doc,
                  s->attrs[k].required ? " (required)" : "; default ",
                  s->attrs[k].required ? "" : s->attrs[k].def);
}

static void op_json(const tn_op_spec *s, tn_buf *out) {
  tn_buf_puts(out, "{");
  put_pair(out, "name", s->name, ", ");
  put_pair(out, "family", s->family, ", ");
  put_pair(out, "doc", s->doc, ", \"attrs\": [");
  for (uint32_t k = 0; k < s->nattrs; k++) {
    tn_buf_puts(out, k ? ", {" : "{");
    put_pair(out, "name", s->attrs[k].name, ", ");
    put_pair(out, "default", s->attrs[k].required ? "" : s->attrs[k].def, "}");
  }
  tn_buf_puts(out, "]}");
}

static int run_ops(const tn_args *a) {
  tn_buf out = {0};
  bool json = a->given[OPT_json];
  uint32_t shown = 0;
  if (json) tn_buf_puts(&out, "[");
  for (uint32_t i = 1; i < TN_OPC_COUNT; i++) {
    const tn_op_spec *s = tn_op_spec_of(i);
    if (a->npositional && strcmp(a->positional[0], s->name)) continue;
    if (json)
      tn_buf_puts(&out, shown ? ",\n " : ""), op_json(s, &out);
    else if (a->npositional)
      op_text(s, &out);
    else
      tn_buf_printf(&out, "%-16s %-10s %s\n", s->name, s->family, s->doc);
    shown++;
  }
  if (json) tn_buf_puts(&out, "]\n");
  if (!shown) return tn_buf_fini(&out), fprintf(stderr, "tenon: there is no op '%s'\n", a->positional[0]), 1;
  return flush(&out);
}

const tn_command tn_cmd_ops = {"ops",
                               "list the ops of the IR, or explain one",
                               "[OP]",
                               NULL,
                               list_options,
                               TN_COUNT(list_options),
                               0,
                               1,
                               run_ops};

/* ---- block formats ---- */

static int run_formats(const tn_args *a) {
  tn_buf out = {0};
  bool json = a->given[OPT_json];
  for (uint32_t i = 0; i < tn_quant_count(); i++) {
    const tn_quant *q = tn_quant_of(TN_DT_BLOCK + (tn_dtype)i);
    if (json) {
      tn_buf_puts(&out, i ? ",\n {" : "[{");
      put_pair(&out, "name", q->name, ", ");
      put_pair(&out, "doc", q->doc, ", ");
      tn_buf_printf(&out, "\"values\": %u, \"bytes\": %u}", q->values, q->bytes);
    } else {
      tn_buf_printf(&out, "%-12s %3u values in %3u bytes, %5.2f bits each: %s\n", q->name, q->values,
                    q->bytes, 8.0 * q->bytes / q->values, q->doc);
    }
  }
  if (json) tn_buf_puts(&out, "]\n");
  return flush(&out);
}

const tn_command tn_cmd_formats = {
    "formats",  "list the formats of packed weights", "", NULL, list_options, TN_COUNT(list_options), 0, 0,
    run_formats};

/* ---- models
 * ------------------------------------------------------------------------------------------------------- */

static void model_row(const tn_page_info *p, bool json, bool first, tn_buf *out) {
  if (json) {
    tn_buf_puts(out, first ? "{" : ",\n {");
    put_pair(out, "name", p->name, ", ");
    put_pair(out, "summary", p->summary, ", ");
    put_pair(out, "file", p->file, ", \"architectures\": [");
    for (uint32_t k = 0; k < p->narchitectures; k++) {
      if (k) tn_buf_puts(out, ", ");
      tn_buf_json(out, tn_str_of(p->architectures[k]));
    }
    tn_buf_puts(out, "], \"gguf\": [");
    for (uint32_t k = 0; k < p->ngguf; k++) {
      if (k) tn_buf_puts(out, ", ");
      tn_buf_json(out, tn_str_of(p->gguf[k]));
    }
    tn_buf_puts(out, "]}");
    return;
  }
  tn_buf_printf(out, "%s: %s\n", p->name, p->summary);
  for (uint32_t k = 0; k < p->narchitectures; k++) tn_buf_printf(out, "    %s\n", p->architectures[k]);
  for (uint32_t k = 0; k < p->ngguf; k++) tn_buf_printf(out, "    GGUF: %s\n", p->gguf[k]);
}

static int run_models(const tn_args *a) {
  tn_diags diags;
  tn_diags_init(&diags);
  tn_page_set *pages = NULL;
  const char *files[64];
  uint32_t nfiles = 0;
  for (const char *f; nfiles < TN_COUNT(files) && (f = tn_args_nth(a, OPT_page, nfiles));)
    files[nfiles++] = f;
  tn_status s = tn_pages_open(&pages, NULL, 0, files, nfiles, &diags);
  tn_buf out = {0};
  bool json = a->given[OPT_json];
  if (s == TN_OK) {
    if (json) tn_buf_puts(&out, "[");
    for (uint32_t i = 0; i < tn_pages_count(pages); i++) {
      tn_page_info p;
      tn_pages_get(pages, i, &p);
      model_row(&p, json, i == 0, &out);
    }
    if (json) tn_buf_puts(&out, "]\n");
  }
  int rc = flush(&out);
  if (pages) tn_pages_close(pages);
  rc |= tn_tool_finish(a, &diags, s);
  tn_diags_fini(&diags);
  return rc;
}

const tn_command tn_cmd_models = {"models",
                                  "list the architectures that have a model page",
                                  "[--model-page FILE]",
                                  NULL,
                                  model_options,
                                  TN_COUNT(model_options),
                                  0,
                                  0,
                                  run_models};

/* ---- plugins
 * ------------------------------------------------------------------------------------------------------ */

static void plugin_row(const tn_plugin_row *r, bool json, bool first, tn_buf *out) {
  if (!json) {
    tn_buf_printf(out, "%s %s: %s\n    provides %s\n    %s\n", r->id, r->version, r->summary, r->provides,
                  r->path ? r->path : "built in");
    return;
  }
  tn_buf_puts(out, first ? "{" : ",\n {");
  put_pair(out, "id", r->id, ", ");
  put_pair(out, "version", r->version, ", ");
  put_pair(out, "summary", r->summary, ", ");
  put_pair(out, "provides", r->provides, ", ");
  put_pair(out, "path", r->path, "}");
}

static tn_status list_plugins(const tn_args *a, tn_driver *d, tn_module **m) {
  (void)m;
  tn_buf out = {0};
  bool json = a->given[OPT_json];
  if (json) tn_buf_puts(&out, "[");
  for (uint32_t i = 0; i < tn_plugins_count(d->plugins); i++) {
    tn_plugin_row r;
    tn_plugins_get(d->plugins, i, &r);
    plugin_row(&r, json, i == 0, &out);
  }
  if (json) tn_buf_puts(&out, "]\n");
  return flush(&out) ? TN_UNAVAILABLE : TN_OK;
}

static int run_plugins(const tn_args *a) { return tn_tool_with_driver(a, list_plugins); }

const tn_command tn_cmd_plugins = {"plugins",
                                   "list the plugins that were found, without running them",
                                   "[--plugin FILE]",
                                   NULL,
                                   plugin_options,
                                   TN_COUNT(plugin_options),
                                   0,
                                   0,
                                   run_plugins};
