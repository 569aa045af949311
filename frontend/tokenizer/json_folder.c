/* json_folder.c - the tokenizer of a model folder: tokenizer.json, or, where that is missing, the files of
 * before it: vocab.txt (BERT), vocab.json with merges.txt (GPT-2, RoBERTa, CLIP). What these families do
 * around the vocabulary stands here as the text that a tokenizer.json would have. */
#include "frontend/config/folder.h"
#include "frontend/tokenizer/json.h"

typedef struct family {
  const char *name;          /* what tokenizer_class begins with */
  const char *parts;         /* normalizer, pre_tokenizer, decoder */
  const char *single, *pair; /* template */
  const char *cls, *sep;     /* its tokens' names and ... */
  const char *cls_default, *sep_default;
  const char *defaults[7]; /* ... of bos, eos, unk, sep, pad, cls, mask; NULL: none */
  const char *suffix;      /* end_of_word_suffix */
  bool model_unk, trim;
} family;

#define BYTE_LEVEL                                                                                           \
  "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true, \"use_regex\": true}"
static const family bert = {
    .name = "Bert",
    .parts = "{\"normalizer\": {\"type\": \"BertNormalizer\", \"clean_text\": true,"
             " \"handle_chinese_chars\": true, \"strip_accents\": null, \"lowercase\": true},"
             " \"pre_tokenizer\": {\"type\": \"BertPreTokenizer\"},"
             " \"decoder\": {\"type\": \"WordPiece\", \"prefix\": \"##\", \"cleanup\": true}}",
    .single = "0C0A0S",
    .pair = "0C0A0S1B1S",
    .cls = "cls_token",
    .sep = "sep_token",
    .cls_default = "[CLS]",
    .sep_default = "[SEP]",
    .defaults = {NULL, NULL, "[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]"},
    .model_unk = true};
static const family pairs[] = {
    {.name = "CLIP",
     .parts =
         "{\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": ["
         "{\"type\": \"NFC\"},"
         "{\"type\": \"Replace\", \"pattern\": {\"Regex\": \"\\\\s+\"}, \"content\": \" \"},"
         "{\"type\": \"Lowercase\"}]},"
         "\"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Split\","
         "\"pattern\": {\"Regex\": \"<\\\\|startoftext\\\\|>|<\\\\|endoftext\\\\|>|'s|'t|'re|'ve|'m|'ll|'d|"
         "[\\\\p{L}]+|[\\\\p{N}]|[^\\\\s\\\\p{L}\\\\p{N}]+\"},"
         "\"behavior\": \"Removed\", \"invert\": true}, " BYTE_LEVEL "]},"
         "\"decoder\": {\"type\": \"Sequence\", \"decoders\": [" BYTE_LEVEL ","
         "{\"type\": \"Replace\", \"pattern\": {\"String\": \"</w>\"}, \"content\": \" \"},"
         "{\"type\": \"Strip\", \"content\": \" \", \"start\": 1000000, \"stop\": 1000000}]}}",
     .single = "0C0A0S",
     .pair = "0C0A0S0S0B0S",
     .cls = "bos_token",
     .sep = "eos_token",
     .cls_default = "<|startoftext|>",
     .sep_default = "<|endoftext|>",
     .defaults = {"<|startoftext|>", "<|endoftext|>", "<|endoftext|>", NULL, "<|endoftext|>", NULL, NULL},
     .suffix = "</w>",
     .model_unk = true},
    {.name = "Roberta",
     .parts = "{\"pre_tokenizer\": " BYTE_LEVEL ", \"decoder\": " BYTE_LEVEL "}",
     .single = "0C0A0S",
     .pair = "0C0A0S0S0B0S",
     .cls = "cls_token",
     .sep = "sep_token",
     .cls_default = "<s>",
     .sep_default = "</s>",
     .defaults = {"<s>", "</s>", "<unk>", "</s>", "<pad>", "<s>", "<mask>"},
     .trim = true},
    {.name = "GPT2",
     .parts = "{\"pre_tokenizer\": " BYTE_LEVEL ", \"decoder\": " BYTE_LEVEL "}",
     .single = "0A",
     .pair = "0A1B",
     .defaults = {"<|endoftext|>", "<|endoftext|>", "<|endoftext|>", NULL, NULL, NULL, NULL}}};
static const char *const named[7] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                     "pad_token", "cls_token", "mask_token"};

typedef struct inputs {
  const char *folder;
  tn_json *config, *special; /* or NULL */
} inputs;

static tn_status read_optional(tn_tk_reader *r, const char *folder, const char *name, tn_json **out) {
  *out = NULL;
  if (!tn_folder_has(folder, name)) return TN_OK;
  return tn_folder_json(&r->arena, folder, name, TN_JSON_OBJECT, r->diags, out);
}

/* A file's text, kept as long as the reader: tokens point into it. */
static tn_status read_text(tn_tk_reader *r, const char *folder, const char *name, tn_str *out) {
  tn_file f;
  uint64_t bad;
  r->file = name;
  TN_TRY(tn_folder_map(folder, name, r->diags, &f));
  tn_str s = {(const char *)f.data, f.size};
  tn_status status =
      tn_utf8_valid(s, &bad) ? TN_OK : tn_tk_bad(r, NULL, "byte %llu is not UTF-8", (unsigned long long)bad);
  *out = (tn_str){status ? NULL : tn_arena_str(&r->arena, s), s.len};
  if (!status && !out->ptr) status = tn_tk_oom(r);
  tn_file_unmap(&f);
  return status;
}

/* The next line without its end; false: no more. */
static bool next_line(tn_str *rest, tn_str *line) {
  if (!rest->len) return false;
  const char *end = memchr(rest->ptr, '\n', rest->len);
  *line = (tn_str){rest->ptr, end ? (uint64_t)(end - rest->ptr) : rest->len};
  uint64_t used = line->len + (end != NULL);
  rest->ptr += used, rest->len -= used;
  if (line->len && line->ptr[line->len - 1] == '\r') line->len--;
  return true;
}

/* One token a line; of equal ones the last counts. */
static tn_status read_vocab_txt(tn_tk_reader *r, const char *folder) {
  tn_str rest, line;
  TN_TRY(read_text(r, folder, "vocab.txt", &rest));
  for (uint32_t id = 0; next_line(&rest, &line); id++) {
    uint64_t before;
    while (line.len && strchr(" \t\r\v\f", line.ptr[line.len - 1])) line.len--;
    if (tn_map_get(&r->vocabulary, line, &before)) r->build.tokens.items[before] = (tn_str){NULL, 0};
    tn_tk_build_token(&r->build, id, line);
    if (r->build.failed || tn_map_put(&r->vocabulary, line, id, NULL)) return tn_tk_oom(r);
  }
  r->vocabulary_count = r->vocabulary.count;
  return r->vocabulary_count ? TN_OK : tn_tk_bad(r, NULL, "is empty");
}

static tn_status read_merges_txt(tn_tk_reader *r, const char *folder) {
  tn_str rest, line;
  TN_TRY(read_text(r, folder, "merges.txt", &rest));
  for (uint32_t n = 1; next_line(&rest, &line); n++) {
    char where[32];
    snprintf(where, sizeof where, "line %u", n);
    const char *space = memchr(line.ptr, ' ', line.len);
    uint64_t at = space ? (uint64_t)(space - line.ptr) : 0;
    if (tn_str_starts(line, "#version")) continue;
    if (!space || memchr(space + 1, ' ', line.len - at - 1))
      return tn_tk_bad(r, where, "is not two tokens with a space between");
    TN_TRY(tn_tk_add_merge(r, where, (tn_str){line.ptr, at}, (tn_str){space + 1, line.len - at - 1}));
  }
  return TN_OK;
}

static const family *guess_family(const tn_tk_reader *r, const tn_json *config) {
  uint64_t id;
  for (size_t i = 0; i < TN_COUNT(pairs); i++) {
    if (tn_tk_class_is(config, &pairs[i].name, 1)) return &pairs[i];
  }
  for (uint32_t i = 0; i < r->vocabulary.count; i++) {
    const tn_map_entry *e = &r->vocabulary.entries[i];
    if (tn_str_ends((tn_str){e->key, e->len}, "</w>")) return &pairs[0];
  }
  return tn_map_get(&r->vocabulary, TN_STR("<mask>"), &id) ? &pairs[1] : &pairs[2];
}

static tn_status set_parts(tn_tk_reader *r, const family *f, const tn_json *config) {
  tn_json *parts;
  bool prefix = false;
  TN_TRY(tn_json_parse(&r->arena, tn_str_of(f->parts), f->name, r->diags, &parts));
  TN_TRY(tn_tk_read_parts(r, parts));
  TN_TRY(config ? tn_tk_bool(r, config, "", "add_prefix_space", &prefix) : TN_OK);
  if (prefix && f != &bert) r->build.parts[TN_TK_STAGE_SPLIT].items[0].flags |= TN_TK_PREFIX_SPACE;
  if (f->trim && !tn_vec_push(&r->build.trims, prefix)) return tn_tk_oom(r);
  if (!f->suffix) return TN_OK;
  r->build.head.suffix = tn_tk_build_str(&r->build, tn_str_of(f->suffix));
  return TN_OK;
}

static tn_status template_id(tn_tk_reader *r, const tn_json *config, const char *key, const char *fallback,
                             uint32_t *id) {
  tn_str s = tn_tk_named_token(config, key, fallback);
  return tn_tk_find_token(r, s, id) ? TN_OK
                                    : tn_tk_bad(r, key, "'%.*s' is not in the vocabulary", (int)s.len, s.ptr);
}

static tn_status finish_family(tn_tk_reader *r, const family *f, const inputs *in) {
  uint32_t cls = 0, sep = 0, id;
  uint64_t unk;
  r->next_id = r->vocabulary_count;
  if (f->model_unk)
    r->build.head.unk =
        tn_map_get(&r->vocabulary, tn_tk_named_token(in->config, "unk_token", f->defaults[2]), &unk)
            ? (int32_t)unk
            : TN_TK_UNK_MISSING;
  TN_TRY(tn_tk_read_config(r, in->config, in->special));
  for (size_t i = 0; i < TN_COUNT(named); i++) {
    tn_str s = tn_tk_named_token(in->config, named[i], f->defaults[i]);
    uint64_t index;
    if (s.ptr && !tn_map_get(&r->added, s, &index)) TN_TRY(tn_tk_add_token(r, s, TN_TK_ADDED_SPECIAL, &id));
  }
  if (!f->cls) return tn_tk_set_edges(r, in->config, f->defaults[0], f->defaults[1]);
  TN_TRY(template_id(r, in->config, f->cls, f->cls_default, &cls));
  TN_TRY(template_id(r, in->config, f->sep, f->sep_default, &sep));
  return tn_tk_put_template(r, f->single, f->pair, cls, sep);
}

enum {
#define TN_TK_MODEL(name, type) MODEL_##name,
#include "frontend/tokenizer/parts.def"
};

static tn_status import_vocab_txt(tn_tk_reader *r, const inputs *in) {
  TN_TRY(read_vocab_txt(r, in->folder));
  TN_TRY(set_parts(r, &bert, in->config));
  r->build.head.model = MODEL_wordpiece;
  r->build.head.max_chars = 100;
  r->build.head.prefix = tn_tk_build_str(&r->build, TN_STR("##"));
  r->build.vocabulary_trie = true;
  return finish_family(r, &bert, in);
}

static tn_status import_merges(tn_tk_reader *r, const inputs *in) {
  tn_json *vocab;
  r->file = "vocab.json";
  TN_TRY(tn_folder_json(&r->arena, in->folder, "vocab.json", TN_JSON_OBJECT, r->diags, &vocab));
  TN_TRY(tn_tk_read_vocabulary(r, vocab, "vocab"));
  TN_TRY(read_merges_txt(r, in->folder));
  const family *f = guess_family(r, in->config);
  r->build.head.model = MODEL_bpe;
  TN_TRY(set_parts(r, f, in->config));
  return finish_family(r, f, in);
}

static tn_status import_tokenizer_json(tn_tk_reader *r, const inputs *in) {
  tn_json *root;
  r->file = "tokenizer.json";
  TN_TRY(tn_folder_json(&r->arena, in->folder, "tokenizer.json", TN_JSON_OBJECT, r->diags, &root));
  TN_TRY(tn_tk_read_root(r, root));
  r->file = "tokenizer_config.json";
  TN_TRY(tn_tk_read_config(r, in->config, in->special));
  r->file = "tokenizer.json";
  return TN_OK;
}

static tn_status import_folder(tn_tk_reader *r, const char *folder) {
  inputs in = {.folder = folder};
  TN_TRY(read_optional(r, folder, "tokenizer_config.json", &in.config));
  TN_TRY(read_optional(r, folder, "special_tokens_map.json", &in.special));
  if (tn_folder_has(folder, "tokenizer.json")) return import_tokenizer_json(r, &in);
  if (tn_folder_has(folder, "vocab.txt")) return import_vocab_txt(r, &in);
  return import_merges(r, &in);
}

/* Files that only other programs read. */
static const char *const foreign[] = {"tokenizer.model", "spiece.model", "sentencepiece.bpe.model",
                                      "tiktoken.model", "tekken.json"};

static tn_status no_tokenizer(const char *folder, tn_diags *diags) {
  for (size_t i = 0; i < TN_COUNT(foreign); i++) {
    if (tn_folder_has(folder, foreign[i]))
      return tn_fail(diags, TN_UNSUPPORTED, foreign[i], NULL,
                     "is not read; saving the tokenizer with transformers makes a tokenizer.json of it");
  }
  return TN_NOT_FOUND;
}

tn_status tn_tokenizer_import(const char *folder, tn_buf *blob, tn_diags *diags) {
  bool merges = tn_folder_has(folder, "vocab.json") && tn_folder_has(folder, "merges.txt");
  if (!merges && !tn_folder_has(folder, "tokenizer.json") && !tn_folder_has(folder, "vocab.txt"))
    return no_tokenizer(folder, diags);
  tn_tk_reader r;
  tn_tk_reader_init(&r, "tokenizer_config.json", diags);
  tn_status status = import_folder(&r, folder);
  if (!status) status = tn_tk_reader_write(&r, blob);
  tn_tk_reader_fini(&r);
  return status;
}
