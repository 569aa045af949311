/* hf.h - one import of a Hugging Face folder, as the files of this room share it. */
#ifndef TN_HF_H
#define TN_HF_H
#include "frontend/config/folder.h"
#include "frontend/describe/describe.h"
#include "frontend/safetensors/safetensors.h"

typedef struct tn_hf {
  const tn_host *host;
  const tn_ir *ir;
  tn_module *m;
  const tn_options *options;
  const char *folder;
  tn_arena arena;
  tn_diags diags;           /* this import's; forwarded to the host at its end */
  tn_json *config;          /* config.json with canonical names */
  tn_json *generation;      /* generation_config.json, or NULL */
  const char *architecture; /* architectures[0], or model_type */
  const char *model_type;   /* "" when the config does not say */
  bool sentence;            /* a sentence-transformers folder */
  tn_st_files files;
  bool *tensor_used;           /* by index in files */
  struct tn_hf_packed *packed; /* packed.h; NULL: the matrices are plain */
} tn_hf;

/* Reads config.json, its companions and the sentence-transformers modules; refuses what no page could mean.
 */
tn_status tn_hf_read_config(tn_hf *h);
/* modules.json: adds sentence_transformers, pooling, normalize and max_seq_length to the config. */
tn_status tn_hf_read_sentence(tn_hf *h);
/* Opens the tensors; TN_NOT_FOUND comes with advice for what the folder holds instead. */
tn_status tn_hf_open_tensors(tn_hf *h);
tn_tensor_source tn_hf_tensor_source(tn_hf *h);
/* Packed checkpoints: the weights that their tensors stand for, and whether the page used them whole. */
tn_status tn_hf_open_packed(tn_hf *h);
bool tn_hf_find_packed(tn_hf *h, const char *name, tn_tensor_ref *out);
tn_status tn_hf_check_packed(tn_hf *h);
void tn_hf_close_packed(tn_hf *h);
void tn_hf_report_unused(tn_hf *h);
/* Sets the module's metadata (frontend/frontend.h). */
tn_status tn_hf_set_meta(tn_hf *h);
/* "chat_template", where the folder has one, and then "bos_token" and "eos_token". */
tn_status tn_hf_set_chat_template(tn_hf *h);

/* An error about a key of a JSON file. */
tn_status tn_hf_fail_key(tn_hf *h, tn_status status, const char *file, const char *key, const char *fmt, ...)
    TN_PRINTF(5, 6);
/* The string of a key, in the arena; NULL: absent, null or (reported) not a string. */
const char *tn_hf_string(tn_hf *h, const char *file, const tn_json *object, const char *key);
#endif
