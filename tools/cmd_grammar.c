/* cmd_grammar.c - tenon grammar: a JSON Schema as GBNF on stdout, to be looked at, changed and kept. */
#include "frontend/grammar/schema.h"
#include "tools/tool.h"
#include <stdio.h>

static const uint8_t grammar_options[] = {OPT_output, OPT_json, OPT_help};

static tn_status read_stdin(tn_buf *out) {
  char piece[4096];
  for (size_t n; (n = fread(piece, 1, sizeof piece, stdin)) > 0;) tn_buf_put(out, piece, n);
  return out->failed ? TN_OOM : TN_OK;
}

static tn_status read_schema(const char *path, tn_buf *out, tn_diags *d) {
  tn_file f;
  const char *why;
  if (!strcmp(path, "-")) return read_stdin(out);
  tn_status s = tn_file_map(&f, path, &why);
  if (s) return tn_fail(d, s, path, NULL, "%s", why);
  tn_buf_put(out, f.data, f.size);
  tn_file_unmap(&f);
  return out->failed ? TN_OOM : TN_OK;
}

static tn_status write_text(const tn_args *a, const tn_buf *text, tn_diags *d) {
  const char *path = a->last[OPT_output];
  if (path) return tn_text_write(path, text, d);
  return fwrite(text->text, 1, text->len, stdout) == text->len ? TN_OK : TN_UNAVAILABLE;
}

static int run_grammar(const tn_args *a) {
  const char *path = a->positional[0];
  tn_buf json = {0}, gbnf = {0};
  tn_diags d;
  tn_diags_init(&d);
  tn_status s = read_schema(path, &json, &d);
  if (!s)
    s = tn_schema_to_gbnf((tn_str){tn_buf_cstr(&json), json.len}, strcmp(path, "-") ? path : "stdin", &gbnf,
                          &d);
  if (!s) s = write_text(a, &gbnf, &d);
  int rc = tn_tool_finish(a, &d, s);
  tn_buf_fini(&json);
  tn_buf_fini(&gbnf);
  tn_diags_fini(&d);
  return rc;
}

const tn_command tn_cmd_grammar = {
    "grammar",
    "turn a JSON Schema into a GBNF grammar",
    "SCHEMA.json|- [-o FILE]",
    "What --json-schema of run does by itself. Keywords that no grammar is made "
    "of are refused by name.",
    grammar_options,
    TN_COUNT(grammar_options),
    1,
    1,
    run_grammar};
