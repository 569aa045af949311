/* gguf_from.c - the tokenizer of a GGUF file as the files of a folder: tokenizer.json, which is read again
 * and must give the same ids, and the smaller ones that name special tokens, end tokens and chat templates.
 */
#include "frontend/tokenizer/gguf_from.h"
#include "frontend/tokenizer/gguf_convert.h"
#include "frontend/tokenizer/gguf_to.h"
#include "frontend/tokenizer/part_ids.h"
#include <errno.h>
#include <sys/stat.h>

#define KEY(name) "tokenizer.ggml." name
#define SHOWN(s) (int)((s).len > 80 ? 80 : (s).len), (s).ptr

/* ---- values ---------------------------------------------------------------------------------- */
static tn_status fail(const tn_tk_from *c, tn_status status, const char *text) {
  return tn_fail(c->diags, status, NULL, "tokenizer", "%s", text);
}

tn_status tn_tk_from_oom(const tn_tk_from *c) { return fail(c, TN_OOM, "out of memory"); }

bool tn_tk_from_bool(const tn_tk_from *c, const char *key, bool fallback) {
  bool v = fallback;
  return tn_gguf_bool(tn_gguf_find(c->g, key), &v) ? v : fallback;
}

tn_str tn_tk_from_str(const tn_tk_from *c, const char *key, const char *fallback) {
  tn_str s;
  return tn_gguf_string(tn_gguf_find(c->g, key), 0, &s) ? s : tn_str_of(fallback);
}

int32_t tn_tk_from_id(const tn_tk_from *c, const char *key) {
  int64_t id;
  if (!tn_gguf_int(tn_gguf_find(c->g, key), 0, &id) || id < 0 || id >= c->count) return -1;
  return (int32_t)id;
}

/* ---- files ----------------------------------------------------------------------------------- */
static tn_status write_file(const tn_tk_from *c, const char *folder, const char *name, tn_str text) {
  tn_arena a;
  tn_arena_init(&a);
  char *path = tn_path_join(&a, folder, name);
  tn_status s = path ? tn_file_write(path, text.ptr, text.len, c->diags) : tn_tk_from_oom(c);
  tn_arena_fini(&a);
  return s == TN_NOT_FOUND ? TN_UNAVAILABLE : s; /* not that there is no tokenizer */
}

static tn_status write_buf(const tn_tk_from *c, const char *folder, const char *name, tn_buf *text) {
  tn_status s =
      text->failed ? tn_tk_from_oom(c) : write_file(c, folder, name, (tn_str){text->text, text->len});
  tn_buf_fini(text);
  return s;
}

/* ---- tokenizer.json -------------------------------------------------------------------------- */
/* The ids must be the same ones, whatever the words for them. */
static tn_status check(const tn_tk_from *c, const tn_buf *json) {
  tn_buf blob = {0};
  tn_tokenizer *t = NULL;
  const char *why = "";
  tn_str differs = {NULL, 0};
  tn_probe_added added = {0};
  tn_status s = tn_tokenizer_import_json((tn_str){json->text, json->len}, "tokenizer.json", &blob, c->diags);
  if (s == TN_OK) s = tn_tokenizer_open((tn_bytes){blob.text, blob.len}, &t, &why);
  if (s == TN_OK) s = tn_tk_probe_texts(c->t, t, &differs);
  if (s == TN_OK && !differs.ptr) s = tn_tk_probe_added(c->t, t, &added);
  if (added.count) differs = added.first;
  if (s == TN_OK && differs.ptr)
    s = tn_fail(c->diags, TN_UNSUPPORTED, NULL, "tokenizer",
                "no tokenizer.json says what this one does with text: '%.*s' gives other ids",
                SHOWN(differs));
  tn_tokenizer_close(t);
  tn_buf_fini(&blob);
  return s;
}

static tn_status write_tokenizer(tn_tk_from *c, const char *folder) {
  tn_buf out = {0};
  tn_buf_puts(&out, "{\"version\": \"1.0\", \"truncation\": null, \"padding\": null, \"added_tokens\": ");
  tn_tk_from_added(c, &out);
  tn_buf_puts(&out, ", ");
  tn_tk_from_parts(c, &out);
  tn_buf_puts(&out, ", \"model\": ");
  tn_status s = tn_tk_from_model(c, &out);
  tn_buf_puts(&out, "}\n");
  if (s == TN_OK && !out.failed) s = check(c, &out);
  if (s == TN_OK) return write_buf(c, folder, "tokenizer.json", &out);
  tn_buf_fini(&out);
  return s;
}

/* ---- special tokens -------------------------------------------------------------------------- */
static const struct {
  const char *name, *key, *other; /* `other`: read where the key is missing */
} specials[] = {{"bos_token", KEY("bos_token_id"), NULL},     {"eos_token", KEY("eos_token_id"), NULL},
                {"unk_token", KEY("unknown_token_id"), NULL}, {"sep_token", KEY("seperator_token_id"), NULL},
                {"pad_token", KEY("padding_token_id"), NULL}, {"cls_token", KEY("cls_token_id"), NULL},
                {"mask_token", KEY("mask_token_id"), NULL}};

/* BERT's files may leave out all of them: its readers know where they are. */
static int32_t special_id(const tn_tk_from *c, size_t i) {
  static const char *const bert[] = {NULL, NULL, "[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]"};
  int32_t id = tn_tk_from_id(c, specials[i].key);
  bool wordpiece = c->t->head->model == MODEL_wordpiece;
  if (wordpiece && i < 2) return -1; /* bos and eos are cls and sep under other names */
  return id < 0 && wordpiece && bert[i] ? tn_tokenizer_id(c->t, tn_str_of(bert[i])) : id;
}

static void put_specials(const tn_tk_from *c, tn_buf *out, uint32_t *n) {
  for (size_t i = 0; i < TN_COUNT(specials); i++) {
    int32_t id = special_id(c, i);
    tn_str s = id < 0 ? (tn_str){NULL, 0} : tn_tokenizer_token(c->t, id);
    if (!s.ptr) continue;
    tn_buf_printf(out, "%s\n  \"%s\": ", (*n)++ ? "," : "", specials[i].name);
    tn_buf_json(out, s);
  }
}

static tn_status write_special_map(const tn_tk_from *c, const char *folder) {
  tn_buf out = {0};
  uint32_t n = 0;
  tn_buf_puts(&out, "{");
  put_specials(c, &out, &n);
  tn_buf_puts(&out, "\n}\n");
  return write_buf(c, folder, "special_tokens_map.json", &out);
}

/* How many tokens the model was made for; 0: the file does not say. */
static int64_t max_length(tn_tk_from *c) {
  tn_str arch = tn_tk_from_str(c, "general.architecture", "");
  int64_t n = 0;
  char *key = tn_arena_printf(&c->arena, "%.*s.context_length", (int)arch.len, arch.ptr);
  return key && tn_gguf_int(tn_gguf_find(c->g, key), 0, &n) && n > 0 ? n : 0;
}

/* The class that takes tokenizer.json as it is. */
static tn_status write_config(tn_tk_from *c, const char *folder) {
  tn_buf out = {0};
  uint32_t n = 1;
  int64_t length = max_length(c);
  tn_buf_puts(&out, "{\n  \"tokenizer_class\": \"PreTrainedTokenizerFast\"");
  put_specials(c, &out, &n);
  if (length) tn_buf_printf(&out, ",\n  \"model_max_length\": %lld", (long long)length);
  tn_buf_printf(&out,
                ",\n  \"model_input_names\": [\"input_ids\", %s\"attention_mask\"],\n"
                "  \"clean_up_tokenization_spaces\": false\n}\n",
                c->t->head->model == MODEL_wordpiece ? "\"token_type_ids\", " : "");
  return write_buf(c, folder, "tokenizer_config.json", &out);
}

/* ---- end tokens ------------------------------------------------------------------------------ */
enum { ENDS_MAX = 16 };
typedef struct ends {
  int32_t ids[ENDS_MAX];
  uint32_t count;
} ends;

static void add_end(ends *e, int32_t id) {
  for (uint32_t i = 0; i < e->count; i++)
    if (e->ids[i] == id) return;
  if (id >= 0 && e->count < ENDS_MAX) e->ids[e->count++] = id;
}

/* Those that the file names, then control tokens that always are ones. */
static ends find_ends(const tn_tk_from *c) {
  static const char *const keys[] = {KEY("eos_token_id"), KEY("eot_token_id"), KEY("eom_token_id")};
  ends e = {0};
  for (size_t i = 0; i < TN_COUNT(keys); i++) add_end(&e, tn_tk_from_id(c, keys[i]));
  for (uint32_t i = 0; i < c->t->nadded; i++) {
    const tn_tk_added *a = &c->t->added[i];
    if (a->flags & TN_TK_ADDED_SPECIAL && tn_tk_is_end(tn_tk_text_of(c->t, a->text)))
      add_end(&e, (int32_t)a->id);
  }
  return e;
}

static tn_status write_generation(const tn_tk_from *c, const char *folder) {
  tn_buf out = {0};
  ends e = find_ends(c);
  int32_t bos = tn_tk_from_id(c, KEY("bos_token_id")), pad = tn_tk_from_id(c, KEY("padding_token_id"));
  if (!e.count || c->t->head->model == MODEL_wordpiece) return TN_OK;
  tn_buf_puts(&out, "{\n");
  if (bos >= 0) tn_buf_printf(&out, "  \"bos_token_id\": %d,\n", bos);
  if (pad >= 0) tn_buf_printf(&out, "  \"pad_token_id\": %d,\n", pad);
  tn_buf_puts(&out, "  \"eos_token_id\": ");
  if (e.count == 1) tn_buf_printf(&out, "%d", e.ids[0]);
  for (uint32_t i = 0; e.count > 1 && i < e.count; i++) tn_buf_printf(&out, "%s%d", i ? ", " : "[", e.ids[i]);
  tn_buf_puts(&out, e.count > 1 ? "]\n}\n" : "\n}\n");
  return write_buf(c, folder, "generation_config.json", &out);
}

/* ---- chat templates -------------------------------------------------------------------------- */
/* Names become names of files: only plain ones. */
static bool is_plain(tn_str s) {
  for (uint64_t i = 0; i < s.len; i++) {
    char x = s.ptr[i];
    bool good =
        (x >= 'a' && x <= 'z') || (x >= 'A' && x <= 'Z') || (x >= '0' && x <= '9') || x == '_' || x == '-';
    if (!good) return false;
  }
  return s.len > 0 && s.len < 64;
}

static tn_status write_named(tn_tk_from *c, const char *folder, tn_str name) {
  char *key = tn_arena_printf(&c->arena, "tokenizer.chat_template.%.*s", (int)name.len, name.ptr);
  char *dir = tn_path_join(&c->arena, folder, "additional_chat_templates");
  char *file = tn_arena_printf(&c->arena, "%.*s.jinja", (int)name.len, name.ptr);
  tn_str text;
  if (!key || !dir || !file) return tn_tk_from_oom(c);
  if (!tn_gguf_string(tn_gguf_find(c->g, key), 0, &text)) return TN_OK;
  if (mkdir(dir, 0777) && errno != EEXIST)
    return tn_fail(c->diags, TN_UNAVAILABLE, dir, NULL, "cannot be made: %s", strerror(errno));
  return write_file(c, dir, file, text);
}

static tn_status write_templates(tn_tk_from *c, const char *folder) {
  tn_str text;
  const tn_gguf_kv *names = tn_gguf_find(c->g, "tokenizer.chat_templates");
  if (tn_gguf_string(tn_gguf_find(c->g, "tokenizer.chat_template"), 0, &text))
    TN_TRY(write_file(c, folder, "chat_template.jinja", text));
  for (uint64_t i = 0; tn_gguf_string(names, i, &text); i++)
    if (is_plain(text)) TN_TRY(write_named(c, folder, text));
  return TN_OK;
}

/* ---- the whole ------------------------------------------------------------------------------- */
static tn_status read_file(tn_tk_from *c) {
  const char *why = "";
  const tn_gguf_kv *types = tn_gguf_find(c->g, KEY("token_type"));
  TN_TRY(tn_tokenizer_from_gguf(c->g, &c->blob, c->diags));
  tn_status s = tn_tokenizer_open((tn_bytes){c->blob.text, c->blob.len}, &c->t, &why);
  if (s != TN_OK) return fail(c, s, why);
  int64_t type;
  c->count = tn_tokenizer_size(c->t);
  while (c->count && tn_gguf_int(types, c->count - 1, &type) && type == TN_TK_TYPE_UNUSED) c->count--;
  return TN_OK;
}

static tn_status write_all(tn_tk_from *c, const char *folder) {
  TN_TRY(write_tokenizer(c, folder));
  TN_TRY(write_config(c, folder));
  TN_TRY(write_special_map(c, folder));
  TN_TRY(write_generation(c, folder));
  return write_templates(c, folder);
}

tn_status tn_tokenizer_to_folder(const tn_gguf *g, const char *folder, tn_diags *diags) {
  tn_tk_from c = {.g = g, .diags = diags};
  tn_arena_init(&c.arena);
  tn_status s = read_file(&c);
  if (s == TN_OK) s = write_all(&c, folder);
  tn_tokenizer_close(c.t);
  tn_buf_fini(&c.blob);
  tn_arena_fini(&c.arena);
  return s;
}
