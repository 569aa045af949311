/* describe.h - the reader of model pages (*.model): text -> page -> IR for one checkpoint.
 * The language: frontend/models/README.md. */
#ifndef TN_DESCRIBE_H
#define TN_DESCRIBE_H
#include "frontend/config/config.h"
#include "ir/base/diag.h"
#include "tenon/ir.h"

typedef struct tn_page tn_page;
typedef struct tn_page_set tn_page_set; /* all pages that can be found, by architecture */

/* Embedded pages, then the folders in order (later ones override), then single files. */
tn_status tn_pages_open(tn_page_set **out, const char *const *folders, uint32_t nfolders,
                        const char *const *files, uint32_t nfiles, tn_diags *diags);
void tn_pages_close(tn_page_set *s);
/* The page for an architecture ("BertModel") or a model_type; NULL: none. */
const tn_page *tn_pages_find(const tn_page_set *s, const char *architecture);
/* The page for a general.architecture of GGUF files; NULL: none. */
const tn_page *tn_pages_find_gguf(const tn_page_set *s, const char *architecture);
uint32_t tn_pages_count(const tn_page_set *s);
typedef struct tn_page_info {
  const char *name, *summary, *file;
  const char *const *architectures;
  uint32_t narchitectures;
  const char *tasks;
  const char *const *gguf; /* architectures of GGUF files */
  uint32_t ngguf;
} tn_page_info;
tn_page_info tn_page_info_of(const tn_page *page);
void tn_pages_get(const tn_page_set *s, uint32_t i, tn_page_info *out);
/* Parses one page's text (for fuzzing and `tenon check`). */
tn_status tn_page_parse(tn_str text, const char *name, tn_diags *diags);

/* Where tensors come from: a safetensors folder, later GGUF. */
typedef struct tn_tensor_ref {
  tn_dtype dtype;
  uint32_t rank;
  const int64_t *shape;
  const char *file;
  uint64_t offset, bytes;
  /* Instead of file, offset and bytes: parts from which the form makes the tensor (tn_weight_info). */
  const tn_part *parts;
  uint32_t nparts;
  const char *form;
} tn_tensor_ref;
typedef struct tn_tensor_source {
  void *ctx;
  bool (*find)(void *ctx, const char *name, tn_tensor_ref *out); /* also marks it used */
  bool gguf; /* which side of "hf" | "gguf" names to use */
} tn_tensor_source;

typedef struct tn_adapters tn_adapters; /* frontend/adapter */

typedef struct tn_page_run {
  const tn_page *page;
  const char *architecture;
  tn_json *config; /* merged config.json (canonical names added) */
  tn_tensor_source tensors;
  const tn_ir *ir;
  tn_module *m;
  tn_diags *diags;
  tn_dtype kv;           /* of the caches (tn_page_kv); 0: of what goes into them */
  tn_adapters *adapters; /* NULL: none */
} tn_page_run;
/* The frontend option "kv" (NULL: not given): f32, f16, bf16 or q8_0. TN_INVALID: another, reported. */
tn_status tn_page_kv(const tn_ir *ir, const char *name, tn_diags *diags, tn_dtype *out);
/* Builds every graph of the page whose `when` holds. All problems of the page and the checkpoint are
 * reported, not only the first. */
tn_status tn_page_build(tn_page_run *r);
#endif
