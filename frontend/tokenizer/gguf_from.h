/* gguf_from.h - what the files share that write the tokenizer of a GGUF file into a folder. The file's
 * tokenizer is imported as always, and its parts are said again in the words of tokenizer.json:
 * gguf_from_model.c has vocabulary and merges, gguf_from_parts.c what stands around them, gguf_from.c the
 * files. */
#ifndef TN_TK_GGUF_FROM_H
#define TN_TK_GGUF_FROM_H
#include "frontend/tokenizer/engine.h"
#include "frontend/tokenizer/gguf.h"

typedef struct tn_tk_from {
  tn_arena arena;
  tn_diags *diags;
  const tn_gguf *g;
  tn_buf blob;
  tn_tokenizer *t; /* the file's */
  uint32_t count;  /* of its tokens that mean something: behind them are only unused ones */
} tn_tk_from;

tn_status tn_tk_from_oom(const tn_tk_from *c);
/* A value of the file, or the fallback. */
bool tn_tk_from_bool(const tn_tk_from *c, const char *key, bool fallback);
tn_str tn_tk_from_str(const tn_tk_from *c, const char *key, const char *fallback);
int32_t tn_tk_from_id(const tn_tk_from *c, const char *key); /* -1: none */

/* JSON objects, appended. */
tn_status tn_tk_from_model(tn_tk_from *c, tn_buf *out);
void tn_tk_from_added(tn_tk_from *c, tn_buf *out); /* a list */
/* "normalizer": ..., "pre_tokenizer": ..., "post_processor": ..., "decoder": ...  */
void tn_tk_from_parts(tn_tk_from *c, tn_buf *out);
#endif
