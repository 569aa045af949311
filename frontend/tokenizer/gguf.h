/* gguf.h - what the files of the GGUF importer share. It fills the reader that json.h describes, from the
 * "tokenizer.ggml." keys instead of from JSON. */
#ifndef TN_TK_GGUF_H
#define TN_TK_GGUF_H
#include "frontend/gguf/gguf.h"
#include "frontend/tokenizer/json.h"

enum { /* tokenizer.ggml.token_type */
       TN_TK_TYPE_NORMAL = 1,
       TN_TK_TYPE_UNKNOWN,
       TN_TK_TYPE_CONTROL,
       TN_TK_TYPE_USER,
       TN_TK_TYPE_UNUSED,
       TN_TK_TYPE_BYTE,
       TN_TK_TYPES
};

typedef struct tn_tk_gguf {
  tn_tk_reader r;
  const tn_gguf *g;
  uint8_t *types; /* per token, in the reader's arena */
  uint32_t count;
  /* What a kind says where the file does not. */
  bool add_bos, add_eos, add_sep;
  int64_t bos, eos, sep, unk; /* -1: none */
  bool no_unknown; /* whatever the file names: a byte that is no token is lost, as in the originals */
} tn_tk_gguf;

/* Rows of pre.def: how byte-level tokenizers cut text, by the names of tokenizer.ggml.pre. */
enum {
  TN_TK_PRE_WHOLE = 1, /* a word that is a token needs no merges */
  TN_TK_PRE_BOS = 2,   /* bos in front where the file does not say */
  TN_TK_PRE_SEP = 4,   /* a pair has RoBERTa's two separators */
  TN_TK_PRE_RAW = 8    /* characters, not bytes as letters: U+2581 for spaces, bytes as a way out */
};
enum { TN_TK_PATTERNS = 6 };
typedef struct tn_tk_pre {
  const char *name;
  uint32_t flags;
  const char *normalizer, *patterns[TN_TK_PATTERNS];
} tn_tk_pre;
const tn_tk_pre *tn_tk_pre_rows(uint32_t *count);

/* Whether a token's text is one of those that end a turn or a text. */
bool tn_tk_is_end(tn_str token);

/* TN_TK_ADDED_ flags of a special token, of a model whose general.name or tokenizer.ggml.pre (in small
 * letters) is `names`. */
uint32_t tn_tk_taken(tn_str names, tn_str token);

/* Values of keys ("tokenizer.ggml.merges"); a wrong kind is reported. Absent: *out stays. */
tn_status tn_tk_gguf_bool(tn_tk_gguf *t, const char *key, bool *out);
tn_status tn_tk_gguf_str(tn_tk_gguf *t, const char *key, tn_str *out);
/* An array of `item`s, or NULL: absent. */
tn_status tn_tk_gguf_list(tn_tk_gguf *t, const char *key, tn_gguf_type item, const tn_gguf_kv **out);

/* Appends a part to a stage (TN_TK_STAGE_); s and t with ptr NULL are not given. */
tn_status tn_tk_gguf_part(tn_tk_gguf *t, uint32_t stage, tn_tk_part p, tn_str s, tn_str more);
/* A cut by a pattern in Oniguruma's syntax, each match a piece. */
tn_status tn_tk_gguf_split(tn_tk_gguf *t, const char *pattern);
/* The decoders of SentencePiece's pieces: U+2581 to space, bytes, and the space that was put in front. */
tn_status tn_tk_gguf_decoders(tn_tk_gguf *t, bool prefix);

/* The kinds (tokenizer.ggml.model): the model and its parts; the vocabulary is there already. */
tn_status tn_tk_gguf_bpe(tn_tk_gguf *t);
tn_status tn_tk_gguf_raw_bpe(tn_tk_gguf *t);
tn_status tn_tk_gguf_spm(tn_tk_gguf *t);
tn_status tn_tk_gguf_unigram(tn_tk_gguf *t);
tn_status tn_tk_gguf_wordpiece(tn_tk_gguf *t);
#endif
