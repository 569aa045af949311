/* gguf_convert.h - tokenizers from one kind of file to the other: tokenizer.json and its companions of a
 * folder to the tokenizer.ggml.* keys of a GGUF file, and back. What is written is read again, and both
 * tokenizers must give the same ids for texts of many scripts and for every added token; what the other kind
 * cannot say is refused by name. */
#ifndef TN_TK_CONVERT_H
#define TN_TK_CONVERT_H
#include "frontend/gguf/write.h"
#include "ir/base/diag.h"

/* Adds tokenizer.ggml.* and tokenizer.chat_template. `vocab`: rows of the model's table; more than the
 * tokenizer has are filled with unused tokens (0: as many as there are). `pre`: the name of a splitter that
 * byte-level tokenizers take whatever texts say (pre.def; what differs is only a warning then), NULL: found.
 * TN_NOT_FOUND without message: the folder has no tokenizer (nothing is added). */
tn_status tn_tokenizer_to_gguf(const char *folder, uint32_t vocab, const char *pre, tn_gguf_writer *w,
                               tn_diags *diags);

/* Writes tokenizer.json, tokenizer_config.json, special_tokens_map.json, generation_config.json (end tokens)
 * and chat_template.jinja into the folder, as transformers' AutoTokenizer reads them. TN_NOT_FOUND without
 * message: the file has none. */
tn_status tn_tokenizer_to_folder(const tn_gguf *g, const char *folder, tn_diags *diags);
#endif
