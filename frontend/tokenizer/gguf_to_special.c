/* gguf_to_special.c - the tokens that mean something to a model, and its chat templates. Their ids come from
 * what is put around a text, then from the names in tokenizer_config.json and special_tokens_map.json, then
 * from the ids in generation_config.json and config.json. */
#include "frontend/config/folder.h"
#include "frontend/tokenizer/gguf_to.h"
#include "frontend/tokenizer/part_ids.h"

#define KEY(name) "tokenizer.ggml." name
enum { NONE = -1 };

/* ---- around the text ------------------------------------------------------------------------- */
typedef struct edges {
  int32_t first, last; /* tokens put before and after a text; NONE */
  bool more;           /* than one of either: GGUF files cannot say it */
  bool doubled;        /* a pair has two separators between */
} edges;

bool tn_tk_to_doubled(const tn_tokenizer *t) {
  for (uint32_t i = t->head->single + 1; i < t->npieces; i++)
    if (t->pieces[i].id >= 0 && t->pieces[i].id == t->pieces[i - 1].id) return true;
  return false;
}

static edges find_edges(const tn_tokenizer *t) {
  edges e = {NONE, NONE, false, false};
  bool behind = false;
  for (uint32_t i = 0; i < t->head->single; i++) {
    int32_t id = t->pieces[i].id, *to = behind ? &e.last : &e.first;
    if (id >= 0 && *to >= 0) e.more = true;
    if (id >= 0)
      *to = id;
    else
      behind = true;
  }
  e.doubled = tn_tk_to_doubled(t);
  if (e.more) e.first = e.last = NONE;
  return e;
}

/* ---- ids ------------------------------------------------------------------------------------- */
static int32_t named(const tn_tk_to *c, const char *name) {
  tn_str s = tn_tk_named_token(c->config, name, NULL);
  if (!s.ptr) s = tn_tk_named_token(c->special, name, NULL);
  return s.ptr ? tn_tokenizer_id(c->t, s) : NONE;
}

/* Id i of a key that has one or a list of them; NONE: no such. */
static int32_t listed(const tn_tk_to *c, const tn_json *o, const char *key, uint32_t i) {
  const tn_json *node = o ? tn_json_peek(o, key) : NULL;
  if (node && node->kind == TN_JSON_LIST)
    node = i < node->count ? &node->u.items[i] : NULL;
  else if (i)
    return NONE;
  bool good = node && node->kind == TN_JSON_INT && node->u.i >= 0 && node->u.i < c->count;
  return good ? (int32_t)node->u.i : NONE;
}

static int32_t first_of(const tn_tk_to *c, int32_t id, const char *name, const char *key) {
  if (id < 0 && name) id = named(c, name);
  if (id < 0) id = listed(c, c->generation, key, 0);
  return id < 0 ? listed(c, c->model, key, 0) : id;
}

static void put_id(tn_gguf_writer *w, const char *key, int32_t id) {
  if (id >= 0) tn_gguf_put_u32(w, key, (uint32_t)id);
}

/* Another end of a turn than eos: generation_config.json lists several. */
static int32_t other_end(const tn_tk_to *c, int32_t eos) {
  for (uint32_t i = 0; i < 16; i++) {
    int32_t id = listed(c, c->generation, "eos_token_id", i);
    if (id >= 0 && id != eos) return id;
  }
  return NONE;
}

tn_status tn_tk_to_special(tn_tk_to *c, tn_gguf_writer *w) {
  edges e = find_edges(c->t);
  bool wordpiece = c->t->head->model == MODEL_wordpiece;
  int32_t cls = named(c, "cls_token"), sep = named(c, "sep_token");
  int32_t bos = first_of(c, e.first, "bos_token", "bos_token_id");
  int32_t eos = first_of(c, wordpiece ? NONE : e.last, "eos_token", "eos_token_id");
  if (wordpiece && e.last >= 0) sep = e.last;
  if (wordpiece && bos < 0) bos = cls;
  put_id(w, KEY("bos_token_id"), bos);
  put_id(w, KEY("eos_token_id"), eos < 0 && wordpiece ? sep : eos);
  put_id(w, KEY("eot_token_id"), eos < 0 ? NONE : other_end(c, eos));
  put_id(w, KEY("unknown_token_id"), c->t->head->unk >= 0 ? c->t->head->unk : named(c, "unk_token"));
  put_id(w, KEY("seperator_token_id"), sep); /* so it is spelt */
  put_id(w, KEY("padding_token_id"), first_of(c, NONE, "pad_token", "pad_token_id"));
  put_id(w, KEY("cls_token_id"), cls);
  put_id(w, KEY("mask_token_id"), named(c, "mask_token"));
  tn_gguf_put_bool(w, KEY("add_bos_token"), e.first >= 0);
  tn_gguf_put_bool(w, KEY("add_eos_token"), e.last >= 0);
  if (e.doubled || wordpiece) tn_gguf_put_bool(w, KEY("add_sep_token"), true);
  return TN_OK;
}

/* ---- chat templates -------------------------------------------------------------------------- */
typedef TN_VEC(tn_str) names;

static tn_status put_named(tn_tk_to *c, tn_gguf_writer *w, tn_str name, tn_str text, names *list) {
  if (tn_str_is(name, "default")) {
    if (!tn_gguf_has_key(w, "tokenizer.chat_template"))
      tn_gguf_put_string(w, "tokenizer.chat_template", text);
    return TN_OK;
  }
  char *key = tn_arena_printf(&c->arena, "tokenizer.chat_template.%.*s", (int)name.len, name.ptr);
  if (!key) return tn_tk_to_oom(c);
  if (tn_gguf_has_key(w, key)) return TN_OK;
  tn_gguf_put_string(w, key, text);
  return tn_vec_push(list, name) ? TN_OK : tn_tk_to_oom(c);
}

/* A text, or a list of {"name", "template"}. */
static tn_status put_node(tn_tk_to *c, tn_gguf_writer *w, const tn_json *node, names *list) {
  if (node && node->kind == TN_JSON_STRING) return put_named(c, w, TN_STR("default"), node->u.s, list);
  for (uint32_t i = 0; node && node->kind == TN_JSON_LIST && i < node->count; i++) {
    const tn_json *name = tn_json_peek(&node->u.items[i], "name");
    const tn_json *text = tn_json_peek(&node->u.items[i], "template");
    if (!name || name->kind != TN_JSON_STRING || !text || text->kind != TN_JSON_STRING) continue;
    TN_TRY(put_named(c, w, name->u.s, text->u.s, list));
  }
  return TN_OK;
}

static tn_status put_file(tn_tk_to *c, tn_gguf_writer *w) {
  static const char file[] = "chat_template.jinja";
  tn_file f;
  uint64_t bad;
  if (!tn_folder_has(c->folder, file)) return TN_OK;
  TN_TRY(tn_folder_map(c->folder, file, c->diags, &f));
  tn_str text = {(const char *)f.data, f.size};
  tn_status s = TN_OK;
  if (!tn_utf8_valid(text, &bad))
    s = tn_fail(c->diags, TN_INVALID, file, NULL, "byte %llu is not UTF-8", (unsigned long long)bad);
  else
    tn_gguf_put_string(w, "tokenizer.chat_template", text);
  tn_file_unmap(&f);
  return s;
}

tn_status tn_tk_to_templates(tn_tk_to *c, tn_gguf_writer *w) {
  names list = {0};
  tn_json *file = NULL;
  tn_status s = put_file(c, w);
  if (s == TN_OK && tn_folder_has(c->folder, "chat_template.json"))
    s = tn_folder_json(&c->arena, c->folder, "chat_template.json", TN_JSON_OBJECT, c->diags, &file);
  if (s == TN_OK && file) s = put_node(c, w, tn_json_peek(file, "chat_template"), &list);
  if (s == TN_OK && c->config) s = put_node(c, w, tn_json_peek(c->config, "chat_template"), &list);
  if (s == TN_OK && list.count) tn_gguf_put_strings(w, "tokenizer.chat_templates", list.items, list.count);
  tn_vec_fini(&list);
  return s;
}
