/* gguf_to.h - what the files share that write a folder's tokenizer as keys of a GGUF file. The folder's
 * tokenizer is imported as always; a kind (gguf_to_bpe.c, gguf_to_pieces.c) says which keys would make the
 * same one, in one or more ways; gguf_to.c reads each way again and takes the first that gives equal ids. */
#ifndef TN_TK_GGUF_TO_H
#define TN_TK_GGUF_TO_H
#include "frontend/gguf/write.h"
#include "frontend/tokenizer/engine.h"
#include "frontend/tokenizer/gguf.h"

typedef struct tn_tk_to {
  tn_arena arena;
  tn_diags *diags;
  const char *folder;
  tn_buf blob;
  tn_tokenizer *t;                                             /* the folder's */
  const tn_gguf_writer *w;                                     /* the file: its keys so far */
  const char *pre;                                             /* asked for; NULL: none */
  const tn_json *root, *config, *special, *generation, *model; /* the folder's JSON files; NULL: none */
  tn_str *tokens;                                              /* as the file will have them */
  int32_t *types;                                              /* TN_TK_TYPE_ */
  uint32_t count;                                              /* of both: rows of the model's table */
  uint32_t size;                                               /* of them the tokenizer's own */
  const char *about;                                           /* why a kind has no way, or NULL */
} tn_tk_to;

tn_status tn_tk_to_fail(const tn_tk_to *c, tn_status status, const char *where, const char *fmt, ...)
    TN_PRINTF(4, 5);
tn_status tn_tk_to_oom(const tn_tk_to *c);

/* One way to say a tokenizer: keys that only its kind has. */
typedef struct tn_tk_way {
  uint32_t number;  /* of the kind's ways: what it is, only the kind knows */
  const char *name; /* of the splitter, where it is taken whatever texts say */
  const char *note; /* to be told when it is taken, or NULL */
} tn_tk_way;
typedef TN_VEC(tn_tk_way) tn_tk_ways;
typedef struct tn_tk_to_kind {
  const char *model; /* tokenizer.ggml.model */
  /* In the order of preference; none, without a message: the kind cannot say this tokenizer. */
  tn_status (*ways)(tn_tk_to *c, tn_tk_ways *out);
  tn_status (*put)(tn_tk_to *c, tn_tk_way way, tn_gguf_writer *w);
} tn_tk_to_kind;
extern const tn_tk_to_kind tn_tk_to_bpe, tn_tk_to_raw_bpe, tn_tk_to_spm, tn_tk_to_unigram, tn_tk_to_wordpiece;

/* gguf_to_bpe.c: "left right" of all merges. */
tn_status tn_tk_to_merges(tn_tk_to *c, tn_gguf_writer *w);

/* gguf_to_special.c: bos and eos around the text, the ids of special tokens, and chat templates. */
tn_status tn_tk_to_special(tn_tk_to *c, tn_gguf_writer *w);
bool tn_tk_to_doubled(const tn_tokenizer *t); /* two separators between two texts */
tn_status tn_tk_to_templates(tn_tk_to *c, tn_gguf_writer *w);

/* gguf_probe.c: compares two tokenizers. */
/* The first text that they cut into other tokens; ptr NULL: none. Neither looks for added
 * tokens, nor puts any around. */
tn_status tn_tk_probe_texts(const tn_tokenizer *a, const tn_tokenizer *b, tn_str *differs);
typedef struct tn_probe_added {
  uint32_t count; /* added tokens of `a` that b does not treat alike */
  tn_str first;
} tn_probe_added;
tn_status tn_tk_probe_added(const tn_tokenizer *a, const tn_tokenizer *b, tn_probe_added *found);
/* Whether they put the same tokens around a text, and around two. */
tn_status tn_tk_probe_around(const tn_tokenizer *a, const tn_tokenizer *b, bool *one, bool *two);
/* How many of the texts they cut alike before the model sees them; neither looks for added tokens. */
tn_status tn_tk_probe_splits(const tn_tokenizer *a, const tn_tokenizer *b, uint32_t *alike);
uint32_t tn_tk_probe_count(void);
#endif
