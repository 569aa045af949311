/* import.h - one import of a GGUF file, as the files of this room share it. */
#ifndef TN_GGUF_IMPORT_H
#define TN_GGUF_IMPORT_H
#include "frontend/describe/describe.h"
#include "frontend/gguf/gguf.h"

typedef struct tn_gguf_import {
  const tn_host *host;
  const tn_ir *ir;
  tn_module *m;
  const tn_options *options;
  const char *path, *name; /* name: the file's, without folders */
  tn_arena arena;
  tn_diags diags; /* this import's; forwarded to the host at its end */
  tn_gguf *file;
  const char *type; /* general.architecture */
  tn_json *config;
  bool *tensor_used; /* by index in the file */
} tn_gguf_import;

/* config.c: general.architecture and its keys as a config. "llama.rope.freq_base" becomes freq_base in the
 * object rope. Added: vocab_size, and pooling and normalize for models that embed texts. Adapters, projectors
 * and keys that no graph could be built from are refused. */
tn_status tn_gguf_read_config(tn_gguf_import *g);
/* Warns about keys of the architecture that no page read. */
void tn_gguf_report_unknown(tn_gguf_import *g);
/* meta.c: the module's metadata (frontend/frontend.h). `page`: that the module was built from;
 * `architecture`: the one of it that was built. */
tn_status tn_gguf_set_meta(tn_gguf_import *g, const tn_page_info *page, const char *architecture);

/* An error about a key. */
tn_status tn_gguf_fail_key(tn_gguf_import *g, tn_status status, const char *key, const char *fmt, ...)
    TN_PRINTF(4, 5);
/* The text of a string key, in the arena. NULL: absent, or (reported) not a plain text. */
const char *tn_gguf_text(tn_gguf_import *g, const char *key);
#endif
