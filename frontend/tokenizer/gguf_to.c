/* gguf_to.c - the tokenizer of a folder as keys of a GGUF file. A kind proposes ways to say it; each is
 * written into keys of its own, read as a file's tokenizer and compared with the folder's, and the first that
 * gives the same ids is taken. */
#include "frontend/tokenizer/gguf_to.h"
#include "frontend/config/folder.h"
#include "frontend/tokenizer/gguf_convert.h"
#include "frontend/tokenizer/part_ids.h"

#define KEY(name) "tokenizer.ggml." name
#define SHOWN(s) (int)((s).len > 80 ? 80 : (s).len), (s).ptr

tn_status tn_tk_to_fail(const tn_tk_to *c, tn_status status, const char *where, const char *fmt, ...) {
  tn_buf text = {0};
  va_list ap;
  va_start(ap, fmt);
  tn_buf_vprintf(&text, fmt, ap);
  va_end(ap);
  tn_fail(c->diags, status, c->folder, where, "%s", tn_buf_cstr(&text));
  tn_buf_fini(&text);
  return status;
}

tn_status tn_tk_to_oom(const tn_tk_to *c) { return tn_tk_to_fail(c, TN_OOM, NULL, "out of memory"); }

/* ---- tokens ---------------------------------------------------------------------------------- */
static int32_t type_of(const tn_tk_to *c, uint32_t id, tn_str text) {
  const tn_tk_header *head = c->t->head;
  const tn_tk_added *added = tn_tk_added_of(c->t, id);
  if (!text.ptr) return TN_TK_TYPE_UNUSED;
  if ((int32_t)id == head->unk) return TN_TK_TYPE_UNKNOWN;
  if (added) return added->flags & TN_TK_ADDED_SPECIAL ? TN_TK_TYPE_CONTROL : TN_TK_TYPE_USER;
  return head->flags & TN_TK_BYTE_FALLBACK && tn_tk_byte_of(text) >= 0 ? TN_TK_TYPE_BYTE : TN_TK_TYPE_NORMAL;
}

/* An id without a token gets an unused one, as the other writers of GGUF files do. */
static tn_status list_tokens(tn_tk_to *c, uint32_t vocab) {
  c->size = tn_tokenizer_size(c->t);
  c->count = vocab ? vocab : c->size;
  if (c->count < c->size)
    return tn_tk_to_fail(c, TN_INVALID, NULL, "the tokenizer has %u tokens, but the model's table %u rows",
                         c->size, vocab);
  c->tokens = tn_arena_alloc(&c->arena, ((size_t)c->count + 1) * sizeof *c->tokens);
  c->types = tn_arena_alloc(&c->arena, ((size_t)c->count + 1) * sizeof *c->types);
  if (!c->tokens || !c->types) return tn_tk_to_oom(c);
  for (uint32_t i = 0; i < c->count; i++) {
    tn_str text = i < c->size ? tn_tokenizer_token(c->t, (int32_t)i) : (tn_str){NULL, 0};
    c->types[i] = type_of(c, i, text);
    c->tokens[i] = text;
    if (text.ptr) continue;
    c->tokens[i] = tn_str_of(tn_arena_printf(&c->arena, "[PAD%u]", i));
    if (!c->tokens[i].ptr) return tn_tk_to_oom(c);
  }
  return TN_OK;
}

/* ---- one way --------------------------------------------------------------------------------- */
typedef struct attempt {
  tn_gguf_writer w;
  tn_gguf *g;
  tn_buf blob;
  tn_tokenizer *t;
  tn_str differs; /* a text that gives other ids; ptr NULL: none */
} attempt;

static void attempt_fini(attempt *a) {
  tn_tokenizer_close(a->t);
  tn_buf_fini(&a->blob);
  tn_gguf_close(a->g);
  tn_gguf_writer_fini(&a->w);
}

/* Readers find tokens by their texts, and some stop at two equal ones. */
static tn_status check_unique(const tn_tk_to *c) {
  tn_map seen;
  tn_status s = TN_OK;
  tn_map_init(&seen);
  for (uint32_t i = 0; i < c->count && s == TN_OK; i++) {
    uint64_t first = 0;
    if (tn_map_get(&seen, c->tokens[i], &first))
      s = tn_tk_to_fail(c, TN_UNSUPPORTED, NULL, "tokens %u and %u are both '%.*s' in a GGUF file",
                        (uint32_t)first, i, SHOWN(c->tokens[i]));
    else if (tn_map_put(&seen, c->tokens[i], i, NULL) != TN_OK)
      s = tn_tk_to_oom(c);
  }
  tn_map_fini(&seen);
  return s;
}

static tn_status put_keys(tn_tk_to *c, const tn_tk_to_kind *kind, tn_tk_way way, tn_gguf_writer *w) {
  tn_gguf_put_string(w, KEY("model"), tn_str_of(kind->model));
  TN_TRY(kind->put(c, way, w));
  TN_TRY(check_unique(c));
  tn_gguf_put_strings(w, KEY("tokens"), c->tokens, c->count);
  tn_gguf_put_array(w, KEY("token_type"), TN_GGUF_I32, c->types, c->count);
  TN_TRY(tn_tk_to_special(c, w));
  return tn_tk_to_templates(c, w);
}

static tn_status attempt_read(tn_tk_to *c, attempt *a) {
  const char *why;
  TN_TRY(tn_gguf_writer_keys(&a->w, c->diags, &a->g));
  TN_TRY(tn_tokenizer_from_gguf(a->g, &a->blob, c->diags));
  tn_status s = tn_tokenizer_open((tn_bytes){a->blob.text, a->blob.len}, &a->t, &why);
  if (s != TN_OK) return tn_tk_to_fail(c, s, NULL, "the keys do not fit together: %s", why);
  return tn_tk_probe_texts(c->t, a->t, &a->differs);
}

/* The model's name, which the file has already: readers go by it in what spaces special tokens take. */
static tn_status put_name(tn_tk_to *c, tn_gguf_writer *w) {
  tn_gguf *g = NULL;
  TN_TRY(tn_gguf_writer_keys(c->w, c->diags, &g));
  const tn_gguf_kv *name = tn_gguf_find(g, "general.name");
  if (name) tn_gguf_put_kv(w, name);
  tn_gguf_close(g);
  return TN_OK;
}

static tn_status attempt_make(tn_tk_to *c, const tn_tk_to_kind *kind, tn_tk_way way, attempt *a) {
  *a = (attempt){0};
  tn_gguf_writer_init(&a->w);
  tn_status s = put_name(c, &a->w);
  if (s == TN_OK) s = put_keys(c, kind, way, &a->w);
  return s == TN_OK ? attempt_read(c, a) : s;
}

/* ---- what GGUF files cannot say ------------------------------------------------------------- */
static void warn(const tn_tk_to *c, const char *text) {
  tn_diags_add(c->diags, TN_WARNING, c->folder, 0, 0, NULL, "%s", text);
}

static void report_prefix(const tn_tk_to *c, const tn_gguf *g) {
  bool prefix = false;
  tn_str kind = {NULL, 0};
  tn_gguf_bool(tn_gguf_find(g, KEY("add_space_prefix")), &prefix);
  if (prefix && tn_gguf_string(tn_gguf_find(g, KEY("model")), 0, &kind) && tn_str_is(kind, "gpt2"))
    warn(c,
         "a space is put in front of a text: the key says so, but llama.cpp does not heed it for this kind "
         "of tokenizer");
}

/* Spaces that an added token takes, words that it may not stand in, and what is put around the text. */
static tn_status report_losses(tn_tk_to *c, const attempt *a) {
  tn_probe_added added;
  tn_buf text = {0};
  bool one, two;
  report_prefix(c, a->g);
  TN_TRY(tn_tk_probe_added(c->t, a->t, &added));
  TN_TRY(tn_tk_probe_around(c->t, a->t, &one, &two));
  if (added.count)
    tn_buf_printf(&text,
                  "%u added tokens ('%.*s') treat text beside them otherwise, which GGUF files cannot say",
                  added.count, SHOWN(added.first));
  if (added.count) warn(c, tn_buf_cstr(&text));
  tn_buf_fini(&text);
  if (!one)
    warn(c, "the tokens around a text are more than a first and a last one: GGUF files cannot say them");
  else if (!two)
    warn(c, "the tokens around two texts cannot be said in GGUF files");
  return TN_OK;
}

static tn_status take(tn_tk_to *c, tn_tk_way way, const attempt *a, tn_gguf_writer *w) {
  if (way.note) tn_diags_add(c->diags, TN_NOTE, c->folder, 0, 0, NULL, "%s", way.note);
  if (a->differs.ptr) {
    tn_buf text = {0};
    tn_buf_printf(&text, "'%s' cuts some texts otherwise than the folder's tokenizer: '%.*s'", way.name,
                  SHOWN(a->differs));
    warn(c, tn_buf_cstr(&text));
    tn_buf_fini(&text);
  }
  TN_TRY(report_losses(c, a));
  for (uint32_t i = 0; i < tn_gguf_kv_count(a->g); i++) {
    const tn_gguf_kv *kv = tn_gguf_kv_at(a->g, i);
    if (!tn_str_is(kv->key, "general.name")) tn_gguf_put_kv(w, kv);
  }
  return TN_OK;
}

/* ---- kinds ----------------------------------------------------------------------------------- */
static bool has_part(const tn_tokenizer *t, uint32_t stage, uint32_t kind) {
  for (uint32_t i = t->head->stage[stage]; i < t->head->stage[stage + 1]; i++)
    if (t->parts[i].kind == kind) return true;
  return false;
}

enum { KINDS_MAX = 2 };
static uint32_t find_kinds(const tn_tokenizer *t, const tn_tk_to_kind *out[KINDS_MAX]) {
  const tn_tk_header *head = t->head;
  if (head->model == MODEL_unigram) return out[0] = &tn_tk_to_unigram, 1;
  if (head->model == MODEL_wordpiece) return out[0] = &tn_tk_to_wordpiece, 1;
  if (head->model != MODEL_bpe || (head->prefix.off != TN_TK_NONE && head->prefix.len) ||
      (head->suffix.off != TN_TK_NONE && head->suffix.len))
    return 0;
  if (has_part(t, TN_TK_STAGE_SPLIT, SPLIT_byte_level)) return out[0] = &tn_tk_to_bpe, 1;
  return out[0] = &tn_tk_to_spm, out[1] = &tn_tk_to_raw_bpe, 2;
}

static tn_status no_kind(const tn_tk_to *c) {
  static const char *const models[] = {
#define TN_TK_MODEL(name, type) type,
#include "frontend/tokenizer/parts.def"
  };
  const tn_tk_header *head = c->t->head;
  tn_str suffix = tn_tk_text_of(c->t, head->suffix), prefix = tn_tk_text_of(c->t, head->prefix);
  if (suffix.len || prefix.len)
    return tn_tk_to_fail(c, TN_UNSUPPORTED, "model",
                         "pieces of words that are marked by '%.*s' cannot be said in GGUF files",
                         SHOWN(suffix.len ? suffix : prefix));
  return tn_tk_to_fail(c, TN_UNSUPPORTED, "model", "a model of type %s cannot be said in GGUF files",
                       models[head->model]);
}

/* Appends JSON without its one text that nobody reads: a map of hundreds of kilobytes. */
static void put_readable(tn_buf *out, const tn_json *node) {
  static const char key[] = "\"precompiled_charsmap\": \"";
  tn_buf json = {0};
  tn_json_write(&json, node);
  const char *text = tn_buf_cstr(&json), *map = strstr(text, key);
  const char *end = map ? strchr(map + sizeof key - 1, '"') : NULL;
  tn_buf_put(out, text, end ? (uint64_t)(map - text) + sizeof key - 1 : json.len);
  if (end) tn_buf_printf(out, "...%s", end);
  tn_buf_fini(&json);
}

/* The normalizer and pre-tokenizer, as the folder has them: what a person needs to know why. */
static tn_status no_way(tn_tk_to *c, tn_str differs) {
  static const char *const keys[] = {"normalizer", "pre_tokenizer"};
  tn_buf parts = {0};
  for (size_t i = 0; i < TN_COUNT(keys); i++) {
    const tn_json *node = c->root ? tn_json_peek(c->root, keys[i]) : NULL;
    if (!node || node->kind == TN_JSON_NULL) continue;
    tn_buf_printf(&parts, "%s%s ", parts.len ? ", " : "", keys[i]);
    put_readable(&parts, node);
  }
  bool bytes = has_part(c->t, TN_TK_STAGE_SPLIT, SPLIT_byte_level);
  tn_buf text = {0};
  if (c->about) tn_buf_printf(&text, "; %s", c->about);
  if (differs.ptr) tn_buf_printf(&text, "; '%.*s' gives other ids", SHOWN(differs));
  tn_status s = tn_tk_to_fail(c, TN_UNSUPPORTED, NULL,
                              "no key of GGUF files says what this tokenizer does with text: %.1500s%s%s%s",
                              tn_buf_cstr(&parts), parts.len > 1500 ? "..." : "", tn_buf_cstr(&text),
                              bytes ? "; --pre NAME takes a splitter all the same" : "");
  tn_buf_fini(&parts);
  tn_buf_fini(&text);
  return s;
}

/* *done: a way was taken. `differs` keeps the first text that spoke against one. */
static tn_status try_kind(tn_tk_to *c, const tn_tk_to_kind *kind, tn_gguf_writer *w, tn_str *differs,
                          bool *done) {
  tn_tk_ways ways = {0};
  tn_status s = kind->ways(c, &ways);
  for (uint32_t i = 0; i < ways.count && s == TN_OK && !*done; i++) {
    attempt a;
    s = attempt_make(c, kind, ways.items[i], &a);
    *done = s == TN_OK && (!a.differs.ptr || ways.items[i].name);
    if (*done) s = take(c, ways.items[i], &a, w);
    if (!differs->ptr) *differs = a.differs;
    attempt_fini(&a);
  }
  tn_vec_fini(&ways);
  return s;
}

static tn_status convert(tn_tk_to *c, uint32_t vocab, tn_gguf_writer *w) {
  const tn_tk_to_kind *kinds[KINDS_MAX];
  uint32_t n = find_kinds(c->t, kinds);
  tn_str differs = {NULL, 0};
  bool done = false;
  if (!n) return no_kind(c);
  TN_TRY(list_tokens(c, vocab));
  for (uint32_t i = 0; i < n && !done; i++) TN_TRY(try_kind(c, kinds[i], w, &differs, &done));
  return done ? TN_OK : no_way(c, differs);
}

/* ---- the folder ------------------------------------------------------------------------------ */
static tn_status read_json(tn_tk_to *c, const char *name, const tn_json **out) {
  tn_json *root = NULL;
  if (!tn_folder_has(c->folder, name)) return TN_OK;
  TN_TRY(tn_folder_json(&c->arena, c->folder, name, TN_JSON_OBJECT, c->diags, &root));
  *out = root;
  return TN_OK;
}

static tn_status read_folder(tn_tk_to *c) {
  const char *why;
  TN_TRY(tn_tokenizer_import(c->folder, &c->blob, c->diags));
  tn_status s = tn_tokenizer_open((tn_bytes){c->blob.text, c->blob.len}, &c->t, &why);
  if (s != TN_OK) return tn_tk_to_fail(c, s, NULL, "the tokenizer does not fit together: %s", why);
  TN_TRY(read_json(c, "tokenizer.json", &c->root));
  TN_TRY(read_json(c, "tokenizer_config.json", &c->config));
  TN_TRY(read_json(c, "special_tokens_map.json", &c->special));
  TN_TRY(read_json(c, "generation_config.json", &c->generation));
  return read_json(c, "config.json", &c->model);
}

tn_status tn_tokenizer_to_gguf(const char *folder, uint32_t vocab, const char *pre, tn_gguf_writer *w,
                               tn_diags *diags) {
  tn_tk_to c = {.folder = folder, .diags = diags, .pre = pre, .w = w};
  tn_arena_init(&c.arena);
  tn_status s = read_folder(&c);
  if (s == TN_OK) s = convert(&c, vocab, w);
  tn_tokenizer_close(c.t);
  tn_buf_fini(&c.blob);
  tn_arena_fini(&c.arena);
  return s;
}
