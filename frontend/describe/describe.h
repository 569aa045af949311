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

/* What a run of a page says about the checkpoint beyond its graphs: how its tensors are called in the other
 * format, for those who convert it. */
typedef struct tn_page_tensor {
  const char *name;  /* in the checkpoint */
  const char *other; /* in the other format; "*" where the number of one of a stack stands; NULL: none; "-":
                        it is said by keys there */
  int64_t number;    /* it is this one of a stack; -1: of none */
  int64_t count;     /* it is a stack of so many; 0: none */
  uint64_t graphs;   /* bit i: graph i reads it; the last bit stands for all from 63 on */
} tn_page_tensor;
/* What a tensor of a folder goes through on its way into a GGUF file; the other way round on the way back. */
typedef enum tn_page_step_kind {
  TN_STEP_ROWS,   /* the first axis, cut into `sizes`, in another order; order[i] comes to place i */
  TN_STEP_SHAPE,  /* the same numbers as `sizes`; in folders as `back` */
  TN_STEP_TURN,   /* the two axes of a matrix swapped */
  TN_STEP_ADD,    /* number added */
  TN_STEP_RATES,  /* -exp(x) */
  TN_STEP_BEHIND, /* the first `number` rows stay away; there is no way back */
  TN_STEP_SPLIT,  /* axis number, in equal parts, becomes tensors of these names */
  TN_STEP_HEADS   /* sizes: heads, rows of each in names[0] and names[1]; the first part is turned */
} tn_page_step_kind;
typedef struct tn_page_step {
  tn_page_step_kind kind;
  uint32_t count, nback, nnames;
  int64_t sizes[TN_MAX_RANK], order[TN_MAX_RANK], back[TN_MAX_RANK];
  double number;
  const char *names[2];
} tn_page_step;
/* A line of a convert section: for tensors whose names, as folders have them, end with the pattern. */
typedef struct tn_page_rule {
  const char *pattern;
  const char *as; /* the other format's names that end so end with this instead; NULL: steps */
  const tn_page_step *steps;
  uint32_t nsteps;
} tn_page_rule;
/* A call of rope_config: what turned out of the config. */
typedef struct tn_page_rope {
  const char *kind, *type; /* of layer, NULL: all; "yarn" ... */
  bool own;                /* nothing but a base, which is another key's value */
  double base, factor, score, limit, growth;
  int64_t head_dim, dim, count;
  const double *freq, *far; /* count each */
  const tn_json *params;    /* of config.json; NULL: none, or a GGUF file */
} tn_page_rope;

typedef struct tn_page_facts {
  tn_arena arena;
  TN_VEC(tn_page_tensor) tensors; /* in the order in which graphs read them first */
  tn_map by_name;
  TN_VEC(const char *) graphs; /* their names */
  TN_VEC(tn_page_rule) rules;  /* the most derived page's first */
  TN_VEC(tn_page_rope) ropes;
  const char *gguf, *type; /* general.architecture, model_type; NULL: the page has none */
  tn_json *keys;           /* an object: keys of the other format, flat, with their values */
} tn_page_facts;
void tn_page_facts_init(tn_page_facts *f);
void tn_page_facts_fini(tn_page_facts *f);

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
  tn_page_facts *facts;  /* filled if not NULL */
} tn_page_run;
/* The frontend option "kv" (NULL: not given): f32, f16, bf16 or q8_0. TN_INVALID: another, reported. */
tn_status tn_page_kv(const tn_ir *ir, const char *name, tn_diags *diags, tn_dtype *out);
/* Builds every graph of the page whose `when` holds. All problems of the page and the checkpoint are
 * reported, not only the first. */
tn_status tn_page_build(tn_page_run *r);
#endif
