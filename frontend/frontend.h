/* frontend.h - the built-in frontends, as the tables every plugin offers. */
#ifndef TN_FRONTEND_H
#define TN_FRONTEND_H
#include "tenon/plugin.h"

/* "hf": a Hugging Face folder (config.json, *.safetensors, tokenizer.json).
 * Options: "task" (override), "page" (a *.model file; several: separated by ':'), "page-folders" (':').
 * Metadata that it sets on the module: source (the folder's base name), architecture, model_type, task,
 * tokenizer ("tokenizer.json" when there is one), max_positions, vocab, eos (ids, comma separated), bos, pad,
 * id2label (JSON), pooling, dim.position / dim.capacity (names of those dims), max_seq_length. */
const tn_plugin *tn_plugin_query_hf(uint32_t host_abi, const char **why);
#endif
