/* frontend.h - the built-in frontends, as the tables every plugin offers. */
#ifndef TN_FRONTEND_H
#define TN_FRONTEND_H
#include "tenon/plugin.h"

/* "hf": a Hugging Face folder (config.json, *.safetensors, tokenizer.json).
 * Options: "task" (override), "page" (a *.model file; several: separated by ':'), "page-folders" (':'), "kv"
 * (the element type of key and value caches: f32, f16, bf16 or q8_0). Metadata that it sets on the module:
 * source (the folder's base name), architecture, model_type, task, tokenizer ("tokenizer.json" when there is
 * one), max_positions, vocab, eos (ids, comma separated), bos, pad, id2label (JSON), chat_template with
 * bos_token and eos_token (texts), pooling, dim.position / dim.capacity (names of those dims),
 * max_seq_length, ring.rows / ring.slack (rows of the smallest ring of a sliding window; how far back it can
 * go once it is full). */
const tn_plugin *tn_plugin_query_hf(uint32_t host_abi, const char **why);

/* "gguf": a GGUF file, or the first part of a split. Options as hf. Metadata: source (the file's name without
 * .gguf), architecture (the page's, as config.json would have it), model_type (general.architecture), task,
 * tokenizer ("gguf" when the file has one), chat_template, max_positions, vocab, eos (ids of all tokens that
 * end a turn or a text), bos, pad, pooling, dim.position, dim.capacity. */
const tn_plugin *tn_plugin_query_gguf(uint32_t host_abi, const char **why);

/* "onnx": an .onnx file, or a folder with model.onnx or onnx/model.onnx in it (and no safetensors). Options: "task",
 * "shapes" ("x:1x3x224x224,y:Bx3", frontend/onnx/shapes.h). Metadata: source; where config.json lies beside the
 * file, what hf sets from it. */
const tn_plugin *tn_plugin_query_onnx(uint32_t host_abi, const char **why);
#endif
