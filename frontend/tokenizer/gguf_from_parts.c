/* gguf_from_parts.c - normalizer, pre-tokenizer, post-processor and decoder of a tokenizer.json from a GGUF
 * file: for each kind what its original tokenizers have, with the patterns of pre.def. */
#include "frontend/tokenizer/gguf_from.h"
#include "frontend/tokenizer/part_ids.h"

#define KEY(name) "tokenizer.ggml." name
#define MARK "\xe2\x96\x81"
#define MARK_TO_SPACE "{\"type\": \"Replace\", \"pattern\": {\"String\": \"" MARK "\"}, \"content\": \" \"}"
#define SPACE_TO_MARK "{\"type\": \"Replace\", \"pattern\": {\"String\": \" \"}, \"content\": \"" MARK "\"}"
#define PREPEND "{\"type\": \"Prepend\", \"prepend\": \"" MARK "\"}"

static const char *truth(bool b) { return b ? "true" : "false"; }

/* Items of a Sequence: with a comma between. */
static void put_item(tn_buf *out, uint32_t *n, const char *json) {
  tn_buf_puts(out, (*n)++ ? ", " : "");
  tn_buf_puts(out, json);
}

static void put_regex(tn_buf *out, uint32_t *n, const char *type, const char *pattern, const char *rest) {
  tn_buf_printf(out, "%s{\"type\": \"%s\", \"pattern\": {\"Regex\": ", (*n)++ ? ", " : "", type);
  tn_buf_json(out, tn_str_of(pattern));
  tn_buf_printf(out, "}, %s}", rest);
}

/* ---- byte-level ------------------------------------------------------------------------------ */
static const tn_tk_pre *find_row(const tn_tk_from *c, const char *fallback) {
  uint32_t n;
  const tn_tk_pre *rows = tn_tk_pre_rows(&n);
  tn_str name = tn_tk_from_str(c, KEY("pre"), fallback);
  for (uint32_t i = 0; i < n; i++)
    if (tn_str_is(name, rows[i].name)) return &rows[i];
  return NULL; /* the import would have refused it */
}

static void put_byte_level(tn_buf *out, bool prefix, bool pattern) {
  tn_buf_printf(
      out, "{\"type\": \"ByteLevel\", \"add_prefix_space\": %s, \"trim_offsets\": true, \"use_regex\": %s}",
      truth(prefix), truth(pattern));
}

/* The pattern that ByteLevel has itself is left to it. */
static bool is_own(const tn_tk_pre *row) {
  uint32_t n;
  const tn_tk_pre *gpt2 = tn_tk_pre_rows(&n);
  while (strcmp(gpt2->name, "gpt-2") != 0) gpt2++;
  return !strcmp(row->patterns[0], gpt2->patterns[0]) && !row->patterns[1];
}

static void put_bpe(tn_tk_from *c, tn_buf *out) {
  const tn_tk_pre *row = find_row(c, "default");
  bool prefix = tn_tk_from_bool(c, KEY("add_space_prefix"), false);
  uint32_t n = 0;
  tn_buf_printf(out, "\"normalizer\": %s, ", row->normalizer ? "{\"type\": \"NFC\"}" : "null");
  tn_buf_puts(out, "\"pre_tokenizer\": ");
  if (is_own(row)) {
    put_byte_level(out, prefix, true);
  } else {
    tn_buf_puts(out, "{\"type\": \"Sequence\", \"pretokenizers\": [");
    for (size_t i = 0; i < TN_TK_PATTERNS && row->patterns[i]; i++)
      put_regex(out, &n, "Split", row->patterns[i], "\"behavior\": \"Isolated\", \"invert\": false");
    tn_buf_puts(out, ", ");
    put_byte_level(out, prefix, false);
    tn_buf_puts(out, "]}");
  }
  tn_buf_puts(out, ", \"decoder\": ");
  put_byte_level(out, true, true);
}

/* ---- pieces ---------------------------------------------------------------------------------- */
/* U+2581 to space, bytes, and the space that was put in front. */
static void put_decoders(tn_buf *out, bool prefix) {
  tn_buf_puts(out, "\"decoder\": {\"type\": \"Sequence\", \"decoders\": [" MARK_TO_SPACE
                   ", {\"type\": \"ByteFallback\"}, {\"type\": \"Fuse\"}");
  if (prefix) tn_buf_puts(out, ", {\"type\": \"Strip\", \"content\": \" \", \"start\": 1, \"stop\": 0}");
  tn_buf_puts(out, "]}");
}

static void put_raw_bpe(tn_tk_from *c, tn_buf *out) {
  const tn_tk_pre *row = find_row(c, "gemma4");
  uint32_t n = 0;
  tn_buf_puts(out, "\"normalizer\": " SPACE_TO_MARK
                   ", \"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [");
  for (size_t i = 0; i < TN_TK_PATTERNS && row->patterns[i]; i++)
    put_regex(out, &n, "Split", row->patterns[i], "\"behavior\": \"Isolated\", \"invert\": false");
  tn_buf_puts(out, "]}, ");
  put_decoders(out, false);
}

static void put_spm(tn_tk_from *c, tn_buf *out) {
  bool prefix = tn_tk_from_bool(c, KEY("add_space_prefix"), true);
  uint32_t n = 0;
  tn_buf_puts(out, "\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [");
  if (prefix) put_item(out, &n, PREPEND);
  put_item(out, &n, SPACE_TO_MARK);
  tn_buf_puts(out, "]}, \"pre_tokenizer\": null, ");
  put_decoders(out, prefix);
}

/* ---- Unigram --------------------------------------------------------------------------------- */
static void put_base64(tn_buf *out, const uint8_t *p, uint64_t n) {
  static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (uint64_t i = 0; i < n; i += 3) {
    uint32_t v =
        (uint32_t)p[i] << 16 | (i + 1 < n ? (uint32_t)p[i + 1] << 8 : 0) | (i + 2 < n ? p[i + 2] : 0);
    char four[4] = {digits[v >> 18], digits[v >> 12 & 63], i + 1 < n ? digits[v >> 6 & 63] : '=',
                    i + 2 < n ? digits[v & 63] : '='};
    tn_buf_put(out, four, 4);
  }
}

static void put_charsmap(const tn_tk_from *c, tn_buf *out, uint32_t *n) {
  const tn_gguf_kv *map = tn_gguf_find(c->g, KEY("precompiled_charsmap"));
  if (!map || map->type != TN_GGUF_ARRAY || !map->count) return; /* of bytes: the import has seen to it */
  put_item(out, n, "{\"type\": \"Precompiled\", \"precompiled_charsmap\": \"");
  put_base64(out, map->data, map->count);
  tn_buf_puts(out, "\"}");
}

/* Spaces at the ends go, others become one, then marks; a mark that was in the text counts as a space at its
 * end only. */
static void put_unigram(tn_tk_from *c, tn_buf *out) {
  bool tidy = tn_tk_from_bool(c, KEY("remove_extra_whitespaces"), false);
  bool prefix = tn_tk_from_bool(c, KEY("add_space_prefix"), true);
  uint32_t n = 0;
  tn_buf_puts(out, "\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [");
  put_charsmap(c, out, &n);
  if (tidy) put_regex(out, &n, "Replace", "\\A +| +(?= )", "\"content\": \"\"");
  put_item(out, &n, SPACE_TO_MARK);
  if (tidy) put_regex(out, &n, "Replace", MARK "+\\z", "\"content\": \"\"");
  if (prefix) put_item(out, &n, PREPEND);
  tn_buf_puts(out, "]}, \"pre_tokenizer\": null, ");
  if (c->t->head->flags & TN_TK_BYTE_FALLBACK)
    put_decoders(out, prefix);
  else
    tn_buf_printf(out,
                  "\"decoder\": {\"type\": \"Metaspace\", \"replacement\": \"" MARK
                  "\", \"prepend_scheme\": \"%s\", \"split\": true}",
                  prefix ? "always" : "never");
}

/* ---- WordPiece ------------------------------------------------------------------------------- */
static void put_wordpiece(tn_tk_from *c, tn_buf *out) {
  bool lower = tn_tk_from_bool(c, KEY("normalizer.lowercase"), true);
  bool accents = tn_tk_from_bool(c, KEY("normalizer.strip_accents"), lower);
  tn_buf_printf(out,
                "\"normalizer\": {\"type\": \"BertNormalizer\", \"clean_text\": true, "
                "\"handle_chinese_chars\": true, \"strip_accents\": %s, \"lowercase\": %s}, "
                "\"pre_tokenizer\": {\"type\": \"BertPreTokenizer\"}, "
                "\"decoder\": {\"type\": \"WordPiece\", \"prefix\": \"##\", \"cleanup\": true}",
                truth(accents), truth(lower));
}

/* ---- around the text ------------------------------------------------------------------------- */
static void put_pieces(const tn_tk_from *c, tn_buf *out, const char *key, uint32_t first, uint32_t last) {
  tn_buf_printf(out, "\"%s\": [", key);
  for (uint32_t i = first; i < last; i++) {
    tn_tk_piece p = c->t->pieces[i];
    tn_buf_printf(out, "%s{\"%s\": {\"id\": ", i > first ? ", " : "", p.id < 0 ? "Sequence" : "SpecialToken");
    if (p.id < 0)
      tn_buf_puts(out, p.id == TN_TK_PIECE_A ? "\"A\"" : "\"B\"");
    else
      tn_buf_json(out, tn_tokenizer_token(c->t, p.id));
    tn_buf_printf(out, ", \"type_id\": %u}}", p.type);
  }
  tn_buf_puts(out, "]");
}

static void put_specials(const tn_tk_from *c, tn_buf *out) {
  bool first = true;
  tn_buf_puts(out, "\"special_tokens\": {");
  for (uint32_t i = 0; i < c->t->npieces; i++) {
    int32_t id = c->t->pieces[i].id;
    bool again = id < 0;
    for (uint32_t k = 0; k < i && !again; k++) again = c->t->pieces[k].id == id;
    if (again) continue;
    tn_str s = tn_tokenizer_token(c->t, id);
    tn_buf_puts(out, first ? "" : ", ");
    tn_buf_json(out, s);
    tn_buf_puts(out, ": {\"id\": ");
    tn_buf_json(out, s);
    tn_buf_printf(out, ", \"ids\": [%d], \"tokens\": [", id);
    tn_buf_json(out, s);
    tn_buf_puts(out, "]}");
    first = false;
  }
  tn_buf_puts(out, "}");
}

static void put_template(const tn_tk_from *c, tn_buf *out) {
  uint32_t single = c->t->head->single;
  tn_buf_puts(out, ", \"post_processor\": ");
  if (c->t->npieces == 3 && single == 1) { /* A, and A B */
    tn_buf_puts(out, "null");
    return;
  }
  tn_buf_puts(out, "{\"type\": \"TemplateProcessing\", ");
  put_pieces(c, out, "single", 0, single);
  tn_buf_puts(out, ", ");
  put_pieces(c, out, "pair", single, c->t->npieces);
  tn_buf_puts(out, ", ");
  put_specials(c, out);
  tn_buf_puts(out, "}");
}

void tn_tk_from_parts(tn_tk_from *c, tn_buf *out) {
  switch (c->t->head->model) {
  case MODEL_unigram: put_unigram(c, out); break;
  case MODEL_wordpiece: put_wordpiece(c, out); break;
  case MODEL_spm: put_spm(c, out); break;
  default:
    if (tn_str_is(tn_tk_from_str(c, KEY("model"), ""), "gemma4"))
      put_raw_bpe(c, out);
    else
      put_bpe(c, out);
  }
  put_template(c, out);
}
