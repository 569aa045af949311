/* meta.c - what a program that runs the model wants to know beyond its graphs: task, tokens, labels, limits.
 */
#include "frontend/hf/hf.h"
#include "frontend/import.h"
#include <stdio.h>

typedef struct task_row {
  const char *ends, *task; /* the class name's end */
} task_row;
static const task_row tasks[] = {
    {"ForCausalLM", "text-generation"},
    {"ForConditionalGeneration", "text-generation"},
    {"LMHeadModel", "text-generation"},
    {"ForMaskedLM", "fill-mask"},
    {"ForSequenceClassification", "text-classification"},
    {"ForTokenClassification", "token-classification"},
    {"ForQuestionAnswering", "question-answering"},
    {"Model", "feature-extraction"},
};

static tn_status set(tn_hf *h, const char *key, const char *value) {
  return tn_import_meta(h->ir, h->m, key, value);
}

static const char *task_of(tn_hf *h) {
  const char *given = h->host->option(h->options, "task");
  if (given) return given;
  for (size_t i = 0; i < TN_COUNT(tasks); i++)
    if (tn_str_ends(tn_str_of(h->architecture), tasks[i].ends)) return tasks[i].task;
  return "feature-extraction";
}

/* A token id or a list of them, as "1,2"; NULL: none. */
static tn_status ids_text(tn_hf *h, const char *file, const tn_json *v, const char *key, const char **out) {
  tn_buf text = {0};
  const tn_json *items = v->kind == TN_JSON_LIST ? v->u.items : v;
  uint32_t n = v->kind == TN_JSON_LIST ? v->count : 1;
  tn_status status = TN_OK;
  for (uint32_t i = 0; i < n && status == TN_OK; i++) {
    if (items[i].kind != TN_JSON_INT || items[i].u.i < -1 || items[i].u.i > INT32_MAX)
      status = tn_hf_fail_key(h, TN_INVALID, file, key, "is not a token id or a list of them");
    else if (items[i].u.i >= 0) /* -1 stands for none in some old files */
      tn_buf_printf(&text, "%s%lld", text.len ? "," : "", (long long)items[i].u.i);
  }
  *out = text.len ? tn_arena_str(&h->arena, tn_str_of(tn_buf_cstr(&text))) : NULL;
  tn_buf_fini(&text);
  return status;
}

/* generation_config.json comes before config.json. */
static tn_status set_token(tn_hf *h, const char *meta, const char *key) {
  const tn_json *v = tn_json_get(h->generation, key);
  const char *file = "generation_config.json", *text = NULL;
  if (!v || v->kind == TN_JSON_NULL) v = tn_json_peek(h->config, key), file = "config.json";
  if (!v || v->kind == TN_JSON_NULL) return TN_OK;
  TN_TRY(ids_text(h, file, v, key, &text));
  return set(h, meta, text);
}

static int64_t int_of(const tn_json *object, const char *key, int64_t otherwise) {
  const tn_json *v = tn_json_peek(object, key);
  return v && v->kind == TN_JSON_INT ? v->u.i : otherwise;
}

static tn_status set_int(tn_hf *h, const char *meta, int64_t value) {
  char text[24];
  snprintf(text, sizeof text, "%lld", (long long)value);
  return value > 0 ? set(h, meta, text) : TN_OK;
}

/* RoBERTa and its kin keep the first positions, up to that of the padding token, for padding. */
static int64_t max_positions(tn_hf *h) {
  static const char *const offset[] = {"roberta", "xlm-roberta", "camembert", "xlm-roberta-xl"};
  int64_t n = int_of(h->config, "max_position_embeddings", 0);
  for (size_t i = 0; i < TN_COUNT(offset); i++)
    if (!strcmp(h->model_type, offset[i])) return n - int_of(h->config, "pad_token_id", 1) - 1;
  return n;
}

static tn_status set_labels(tn_hf *h) {
  const tn_json *labels = tn_json_peek(h->config, "id2label");
  const tn_json *problem = tn_json_peek(h->config, "problem_type");
  if (problem && problem->kind == TN_JSON_STRING) TN_TRY(set(h, "problem_type", problem->u.s.ptr));
  if (!labels || labels->kind != TN_JSON_OBJECT) return TN_OK;
  tn_buf text = {0};
  tn_json_write(&text, labels);
  tn_status s = text.failed ? TN_OOM : set(h, "id2label", tn_buf_cstr(&text));
  tn_buf_fini(&text);
  return s;
}

static tn_status set_names(tn_hf *h) {
  char *folder = tn_arena_str(&h->arena, tn_str_of(h->folder));
  if (!folder) return TN_OOM;
  for (size_t n = strlen(folder); n > 1 && folder[n - 1] == '/';) folder[--n] = 0;
  const char *slash = strrchr(folder, '/'), *source = slash && slash[1] ? slash + 1 : folder;
  TN_TRY(set(h, "source", source));
  TN_TRY(tn_import_name(h->ir, h->m, source));
  TN_TRY(set(h, "architecture", h->architecture));
  if (*h->model_type) TN_TRY(set(h, "model_type", h->model_type));
  return set(h, "task", task_of(h));
}

tn_status tn_hf_set_meta(tn_hf *h) {
  TN_TRY(set_names(h));
  if (tn_folder_has(h->folder, "tokenizer.json")) TN_TRY(set(h, "tokenizer", "tokenizer.json"));
  TN_TRY(set_int(h, "max_positions", max_positions(h)));
  TN_TRY(set_int(h, "vocab", int_of(h->config, "vocab_size", 0)));
  TN_TRY(set_token(h, "eos", "eos_token_id"));
  TN_TRY(set_token(h, "bos", "bos_token_id"));
  TN_TRY(set_token(h, "pad", "pad_token_id"));
  TN_TRY(set_labels(h));
  TN_TRY(tn_hf_set_chat_template(h));
  if (h->ir->state_count(h->m)) {
    TN_TRY(set(h, "dim.position", "P"));
    TN_TRY(set(h, "dim.capacity", "C"));
  }
  if (!h->sentence) return TN_OK;
  TN_TRY(set(h, "pooling", tn_json_peek(h->config, "pooling")->u.s.ptr));
  return set_int(h, "max_seq_length", int_of(h->config, "max_seq_length", 0));
}
