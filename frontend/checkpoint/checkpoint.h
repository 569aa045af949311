/* checkpoint.h - a model on disk as named tensors and what is said about them, whatever the format: what
 * export and quantize read. No graph is built; bytes stay in the mapped files until they are asked for.
 *
 *   tn_checkpoint_open("llama/", &ck)                    a folder or a GGUF file
 *   tn_checkpoint_convert(ck, TN_CK_GGUF, &view)         the same model under the names of the other format
 *   tn_checkpoint_save(view, "llama.gguf", &how)         streamed, tensor by tensor
 *
 * What differs between the formats (names, order of rows, 1 + w, stacked experts) comes from the model pages:
 * a view's tensor is a form of the original's (frontend/forms), read piece by piece. */
#ifndef TN_CHECKPOINT_H
#define TN_CHECKPOINT_H
#include "frontend/config/config.h"
#include "frontend/describe/describe.h"
#include "frontend/gguf/write.h"

typedef enum tn_ck_format { TN_CK_FOLDER, TN_CK_GGUF } tn_ck_format;

/* What a tensor is to its model: which types are usual for it. */
typedef enum tn_ck_role {
  TN_CK_OTHER,     /* norms, biases, tables of positions, convolutions: never quantized */
  TN_CK_EMBEDDING, /* the table of tokens */
  TN_CK_OUTPUT,    /* the product that gives the logits, where it has its own tensor */
  TN_CK_QUERY,
  TN_CK_KEY,
  TN_CK_VALUE,
  TN_CK_QKV,
  TN_CK_ATTN_OUT,
  TN_CK_GATE,
  TN_CK_UP,
  TN_CK_DOWN,
  TN_CK_GATE_UP, /* of stacked experts too (rank 3) */
  TN_CK_ROUTER,
  TN_CK_MATRIX /* any other operand of a product */
} tn_ck_role;

typedef struct tn_ck_tensor {
  const char *name;   /* in this format */
  const char *source; /* in the files that were opened; the first of several */
  tn_dtype dtype;     /* plain, or a block format */
  uint32_t rank;
  int64_t shape[TN_MAX_RANK]; /* row-major; the last dim is the one that products sum over */
  uint64_t bytes;
  tn_ck_role role;
  int32_t layer;        /* -1: none */
  const tn_part *parts; /* where its bytes are, of the original's files */
  uint32_t nparts;
  const char *form; /* NULL: as they are */
} tn_ck_tensor;

typedef struct tn_checkpoint tn_checkpoint;

/* A folder (config.json, safetensors; packed ones come as blocks) or a GGUF file. Pages: NULL or as in
 * tn_page_set of the frontends. A model that no page describes still opens; it cannot be converted, and its
 * roles come from the names that GGUF files have. */
typedef struct tn_ck_open {
  const char *page_folders, *pages; /* ':' between; NULL: the embedded ones */
} tn_ck_open;
tn_status tn_checkpoint_open(const char *path, const tn_ck_open *o, tn_diags *diags, tn_checkpoint **out);
void tn_checkpoint_close(tn_checkpoint *ck); /* views first */

tn_ck_format tn_checkpoint_format(const tn_checkpoint *ck);
const char *
tn_checkpoint_architecture(const tn_checkpoint *ck); /* "LlamaForCausalLM"; of GGUF without page "llama" */
uint32_t tn_checkpoint_count(const tn_checkpoint *ck);
const tn_ck_tensor *tn_checkpoint_at(const tn_checkpoint *ck, uint32_t i);
const tn_ck_tensor *tn_checkpoint_find(const tn_checkpoint *ck, const char *name); /* NULL: none */
uint32_t tn_checkpoint_index(const tn_checkpoint *ck, const char *name);           /* UINT32_MAX: none */
uint32_t tn_checkpoint_layers(const tn_checkpoint *ck);
uint32_t tn_checkpoint_experts(const tn_checkpoint *ck); /* 0: none */
/* The config of a folder (as in the file; of a view from GGUF, made), or the file behind a GGUF; NULL: the
 * other one. */
const tn_json *tn_checkpoint_config(const tn_checkpoint *ck);
const tn_gguf *tn_checkpoint_gguf(const tn_checkpoint *ck);
const char *tn_checkpoint_path(const tn_checkpoint *ck);

/* Whether a tensor, of a view too, is made of bytes in one of these parts of the opened files. */
bool tn_checkpoint_shares(const tn_checkpoint *ck, uint32_t tensor, const tn_part *parts, uint32_t n);

/* Reading, from several threads at once: bytes of the tensor's own type; or rows (all dims but the last,
 * flattened) as f32, whatever the type. */
typedef struct tn_ck_reader tn_ck_reader; /* one per thread */
tn_status tn_ck_reader_open(tn_checkpoint *ck, uint32_t tensor, tn_diags *diags, tn_ck_reader **out);
tn_status tn_ck_reader_bytes(tn_ck_reader *r, uint64_t offset, void *dst, uint64_t len);
tn_status tn_ck_reader_rows(tn_ck_reader *r, uint64_t first, uint64_t rows, float *dst);
void tn_ck_reader_close(tn_ck_reader *r); /* NULL: nothing */

/* The same model in the other format; the same format gives a view that is equal. Everything that stands in
 * the way is reported: a page without names for the format, tensors that no graph read, values that the
 * format has no key for. */
tn_status tn_checkpoint_convert(tn_checkpoint *ck, tn_ck_format to, tn_diags *diags, tn_checkpoint **view);

/* ---- saving
 * -------------------------------------------------------------------------------------------------- */
typedef struct tn_ck_error {
  double sum, sum_squares, squares_of_values, max_abs; /* of the difference; of the numbers before */
  uint64_t values;
} tn_ck_error;

typedef struct tn_ck_save {
  uint32_t threads;     /* 0: one per core */
  uint64_t shard_bytes; /* of folders; 0: 5 GB */
  /* Stored type of each tensor (by index); NULL: as it is. A folder takes plain types only, unless `pack` is
   * set. */
  const tn_dtype *types;
  /* Importance of tensor i, [columns], or [experts, columns] for rank 3; NULL, or gives NULL: none. */
  const float *(*importance)(void *ctx, uint32_t tensor, uint64_t *rows);
  /* Changes rows before they are encoded or copied; NULL, or gives false: does not. numbers NULL: only asks.
   */
  bool (*adjust)(void *ctx, uint32_t tensor, uint64_t first, uint64_t rows, float *numbers);
  /* Encodes rows itself instead of tn_encode_rows; NULL, or *taken false: does not. `whole`: all rows in one
   * call. */
  tn_status (*encode)(void *ctx, uint32_t tensor, uint64_t first, uint64_t rows, const float *in,
                      uint8_t *out, bool *taken);
  bool (*whole)(void *ctx, uint32_t tensor);
  /* Called when a tensor is done: what it became. Squares over all numbers; 0 where nothing was encoded. */
  void (*done)(void *ctx, uint32_t tensor, const tn_ck_error *e);
  /* GGUF: adds or replaces keys (general.file_type, quantize.imatrix.*) before the file is written. */
  void (*keys)(void *ctx, tn_gguf_writer *w);
  /* Folder: how block types are laid out as tensors, and what config.json says of it (pack.h); NULL: refused.
   */
  const struct tn_ck_pack *pack;
  void *ctx;
  bool progress;
  /* GGUF made of a folder: the name of the splitter of its tokenizer, whatever texts say; NULL: found. */
  const char *pre;
  bool no_errors; /* `done` is called with zeros: nothing is measured */
} tn_ck_save;

/* Writes a GGUF file (path), or a folder: tensors, config, tokenizer and what else lies beside the model.
 * Memory stays near the largest band of rows per thread, of tensors that are encoded whole near the tensor.
 */
tn_status tn_checkpoint_save(tn_checkpoint *ck, const char *path, const tn_ck_save *s, tn_diags *diags);
#endif
