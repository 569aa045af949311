/* tokenizer.h - text to token ids and back. The importer (json.c) turns a tokenizer.json into one flat blob;
 * the engine works in place on the blob, so an artefact carries it and maps it. The engine needs ir/base,
 * pcre2 and utf8proc only and is linked into every artefact; JSON stays in the importer. */
#ifndef TN_TOKENIZER_H
#define TN_TOKENIZER_H
#include "ir/base/diag.h"

/* ---- importer (static lib tn_tokjson) -------------------------------------------------------- */
/* Reads `folder`/tokenizer.json (and tokenizer_config.json, special_tokens_map.json where they add to it),
 * checks everything, appends the blob. TN_NOT_FOUND without message: the folder has no tokenizer. */
tn_status tn_tokenizer_import(const char *folder, tn_buf *blob, tn_diags *diags);
/* One file's text, for fuzzing. */
tn_status tn_tokenizer_import_json(tn_str json, const char *name, tn_buf *blob, tn_diags *diags);

/* The tokenizer inside a GGUF file (static lib tn_tokgguf; frontend/gguf/gguf.h). TN_NOT_FOUND without
 * message: the file has none. */
struct tn_gguf;
tn_status tn_tokenizer_from_gguf(const struct tn_gguf *g, tn_buf *blob, tn_diags *diags);

/* ---- engine (static lib tn_tokenizer) -------------------------------------------------------- */
typedef struct tn_tokenizer tn_tokenizer;
/* Checks the whole blob; it must outlive the tokenizer and be 8-byte aligned. *why: static text. */
tn_status tn_tokenizer_open(tn_bytes blob, tn_tokenizer **out, const char **why);
void tn_tokenizer_close(tn_tokenizer *t);

/* `start`, `end`: the bytes of the text (of the pair, for its tokens) that the token stands for, widened to
 * whole characters; 0, 0 for a token that the post-processor put in, and only these are `special`. */
typedef struct tn_token {
  int32_t id;
  uint32_t type;
  uint64_t start, end;
  bool special;
} tn_token;
typedef TN_VEC(tn_token) tn_tokens;
enum { TN_TOKENIZE_NO_SPECIAL = 1 };
/* `pair` with ptr NULL: a single text. Appends to out. Invalid UTF-8 is replaced by U+FFFD first. Nothing is
 * truncated or padded, whatever tokenizer.json asks for. One tokenizer may be used by several threads.
 * TN_INVALID: longer than 256 MiB, a word that is not in the vocabulary of a model without unknown token, or
 * a regex that needs too many steps on this text. TN_OOM. */
tn_status tn_tokenizer_encode(const tn_tokenizer *t, tn_str text, tn_str pair, uint32_t flags,
                              tn_tokens *out);
enum { TN_DETOKENIZE_SKIP_SPECIAL = 1 };
tn_status tn_tokenizer_decode(const tn_tokenizer *t, const int32_t *ids, uint64_t n, uint32_t flags,
                              tn_buf *out);
/* Appends the bytes that the token adds in the middle of a text, also where they are part of a character;
 * nothing for a special token and for an id that is not one. */
tn_status tn_tokenizer_bytes(const tn_tokenizer *t, int32_t id, tn_buf *out);
uint32_t tn_tokenizer_size(const tn_tokenizer *t);            /* highest id + 1 */
tn_str tn_tokenizer_token(const tn_tokenizer *t, int32_t id); /* ptr NULL: none */
int32_t tn_tokenizer_id(const tn_tokenizer *t, tn_str token); /* -1: none */
uint32_t tn_tokenizer_max_length(const tn_tokenizer *t); /* tokens that the model was made for; 0: not said */

#endif
