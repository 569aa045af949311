/* gguf_convert.h - tokenizers from one kind of file to the other: tokenizer.json and its companions of a
 * folder to the tokenizer.ggml.* keys of a GGUF file, and back. What is written reads back to the same ids;
 * what the other kind cannot say is refused by name. */
#ifndef TN_TK_CONVERT_H
#define TN_TK_CONVERT_H
#include "frontend/gguf/write.h"
#include "ir/base/diag.h"

/* Adds tokenizer.ggml.* and tokenizer.chat_template. `vocab`: rows of the model's table; more than the
 * tokenizer has are filled with unused tokens. TN_NOT_FOUND: the folder has no tokenizer (nothing is added).
 */
tn_status tn_tokenizer_to_gguf(const char *folder, uint32_t vocab, tn_gguf_writer *w, tn_diags *diags);

/* Writes tokenizer.json, tokenizer_config.json, special_tokens_map.json, generation_config.json (end tokens)
 * and chat_template.jinja into the folder, as transformers' AutoTokenizer reads them. TN_NOT_FOUND: the file
 * has none. */
tn_status tn_tokenizer_from_gguf(const tn_gguf *g, const char *folder, tn_diags *diags);
#endif
