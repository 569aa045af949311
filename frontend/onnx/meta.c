/* meta.c - what a program that runs the model wants to know: of an exported folder, from the files beside the
 * model, read as the frontend "hf" reads them. The graph does not depend on them: what is wrong with them is
 * a warning. */
#include "frontend/hf/hf.h"
#include "frontend/import.h"
#include "frontend/onnx/import.h"

/* ---- reading
 * ------------------------------------------------------------------------------------------------ */

static void warn(tn_ox *x, const tn_diags *d) {
  for (uint32_t i = 0; i < d->list.count; i++) {
    const tn_message *m = &d->list.items[i];
    tn_diags_add(&x->diags, TN_WARNING, m->file, m->line, m->col, m->where, "%s", m->text);
  }
}

/* The folder that tokenizers and weights are looked for in: `path` itself, or the file's. */
tn_status tn_ox_about_read(tn_ox *x, const char *path, tn_hf *h) {
  *h = (tn_hf){.host = x->host, .ir = x->ir, .m = x->m, .options = x->options};
  h->folder = tn_path_is_dir(path) ? path : x->model.folder;
  tn_arena_init(&h->arena);
  tn_diags_init(&h->diags);
  if (!tn_folder_has(h->folder, "config.json")) return TN_OK;
  tn_status s = tn_hf_read_config(h);
  warn(x, &h->diags);
  if (s != TN_OK || h->diags.errors) h->config = NULL;
  return s == TN_OOM ? s : TN_OK;
}

void tn_ox_about_close(tn_hf *h) {
  tn_hf_close_packed(h);
  tn_diags_fini(&h->diags);
  tn_arena_fini(&h->arena);
}

/* ---- the module
 * --------------------------------------------------------------------------------------------- */

static tn_status set_source(tn_ox *x, const char *path) {
  char *source = tn_arena_str(&x->arena, tn_str_of(path));
  if (!source) return TN_OOM;
  for (size_t n = strlen(source); n > 1 && source[n - 1] == '/';) source[--n] = 0;
  char *slash = strrchr(source, '/');
  if (slash && slash[1]) source = slash + 1;
  if (tn_str_ends(tn_str_of(source), ".onnx") && strlen(source) > 5) source[strlen(source) - 5] = 0;
  TN_TRY(tn_import_meta(x->ir, x->m, "source", source));
  TN_TRY(tn_import_meta(x->ir, x->m, "least_size", "0"));
  return tn_import_name(x->ir, x->m, source);
}

tn_status tn_ox_set_meta(tn_ox *x, const char *path, tn_hf *h) {
  if (!h->config) return set_source(x, path);
  tn_status s = tn_hf_set_meta(h);
  if (s != TN_OK && s != TN_OOM) { /* its words have not been warned of */
    warn(x, &h->diags);
    return set_source(x, path);
  }
  return s;
}

/* ---- the task
 * ----------------------------------------------------------------------------------------------- */

/* What programs call the entry point that does the task (tools/tasks.c). */
static const char *const entries[][2] = {{"ForSequenceClassification", "classify"},
                                         {"ForTokenClassification", "classify_tokens"},
                                         {"ForMaskedLM", "fill_mask"},
                                         {"ForQuestionAnswering", "answer"},
                                         {"Model", "encode"}};

static bool takes_texts(const tn_ox_graph *g) {
  static const char *const names[] = {"input_ids", "attention_mask", "token_type_ids"};
  for (size_t i = 0; i < g->n_input; i++) {
    bool known = false;
    for (size_t k = 0; k < TN_COUNT(names); k++) known |= !strcmp(names[k], g->input[i]->name);
    if (!known) return false;
  }
  return g->n_input;
}

const char *tn_ox_pooling(const tn_hf *h) {
  const tn_json *p = h && h->config && h->sentence ? tn_json_peek(h->config, "pooling") : NULL;
  return p && p->kind == TN_JSON_STRING ? p->u.s.ptr : NULL;
}

bool tn_ox_normalizes(const tn_hf *h) {
  const tn_json *p = tn_json_peek(h->config, "normalize");
  return p && p->kind == TN_JSON_BOOL && p->u.b;
}

const char *tn_ox_entry_name(tn_ox *x, const tn_ox_graph *g, const tn_hf *h) {
  const char *name = g->name && *g->name ? tn_ox_symbol_name(x, g->name) : "main";
  if (!h || !h->config || !takes_texts(g)) return name;
  if (tn_ox_pooling(h)) return "embed";
  for (size_t i = 0; i < TN_COUNT(entries); i++)
    if (tn_str_ends(tn_str_of(h->architecture), entries[i][0])) return entries[i][1];
  return name;
}
