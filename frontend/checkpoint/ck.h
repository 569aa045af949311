/* ck.h - a checkpoint from the inside, as the files of this folder share it: stored tensors, and views, whose
 * tensors are boxes cut out of the tensors of the checkpoint behind them. */
#ifndef TN_CK_H
#define TN_CK_H
#include "frontend/checkpoint/checkpoint.h"
#include "frontend/gguf/import.h"
#include "frontend/hf/packed.h"
#include "ir/quant/quant.h"

enum { CK_LOOPS = 8, CK_NONE = UINT32_MAX };

/* What happens to every number on its way into a view. */
typedef enum ck_math { CK_AS_IS, CK_ADD, CK_NEG_EXP, CK_LOG_NEG } ck_math;

/* Consecutive rows of a view's tensor: their numbers, in order, are those at + i0 * step[0] + i1 * step[1] +
 * ... of one tensor of the checkpoint behind, i0 < size[0] the slowest. */
typedef struct ck_piece {
  uint32_t tensor;
  uint64_t at, rows;
  uint32_t loops;
  uint64_t size[CK_LOOPS], step[CK_LOOPS];
} ck_piece;

typedef struct ck_tensor {
  tn_ck_tensor pub;
  /* stored: of packed matrices, what multiplies the rows and where the columns belong; CK_NONE: nothing */
  uint32_t scale, order;
  bool hidden; /* a scale or an order: not counted */
  /* of views */
  const ck_piece *pieces;
  uint32_t npieces;
  ck_math math;
  double number;     /* of CK_ADD */
  const float *made; /* neither stored nor cut out: these numbers (rotary factors); NULL: it is */
} ck_tensor;

typedef struct ck_file {
  const char *name;
  tn_file map; /* read with pread: what passes through does not count as this process's memory */
} ck_file;

struct tn_checkpoint {
  tn_arena arena;
  tn_ck_format format;
  tn_checkpoint *behind; /* of a view; NULL: this one is stored */
  const char *path, *folder, *architecture;
  tn_diags *diags;
  TN_VEC(ck_tensor) tensors; /* the hidden ones are last */
  uint32_t shown;
  tn_map by_name;
  TN_VEC(ck_file) files;
  uint32_t layers, experts;
  /* stored */
  tn_hf hf;
  tn_gguf_import gguf;
  bool has_hf, has_gguf;
  tn_page_set *pages;
  const tn_page *page; /* NULL: none describes the model */
  tn_page_facts facts;
  bool known;      /* the page could be run: facts */
  tn_diags first;  /* what was said while it was opened */
  tn_json *config; /* of a view that is a folder: made */
};

/* roles.c: the role of a tensor by the name that it has in GGUF files, or else in folders. */
tn_ck_role ck_role_of(const char *gguf, const char *hf, uint32_t rank);
/* The number of the layer that a name says; -1: none. */
int32_t ck_layer_of(const char *name);

/* names.c: runs the page over the checkpoint; facts say how tensors are called in the other format. */
tn_status ck_run_page(tn_checkpoint *ck, tn_page_facts *facts, tn_diags *diags);
void ck_forward(const tn_diags *from, tn_diags *to);

/* numbers.c: plain numbers of any type, and blocks. */
uint64_t ck_bytes_of(tn_dtype t, uint64_t values); /* 0: not whole blocks */
bool ck_is_block(tn_dtype t);
void ck_to_f32(tn_dtype t, const void *in, uint64_t n, float *out);
tn_status ck_encode(tn_dtype t, const float *in, uint64_t rows, uint64_t columns, const float *importance,
                    uint8_t *out, uint64_t *bad);
uint64_t ck_rows_of(const tn_ck_tensor *t);
uint64_t ck_columns_of(const tn_ck_tensor *t);
/* Adds a tensor; sizes and role must be set. */
tn_status ck_add(tn_checkpoint *ck, const ck_tensor *t);
const ck_file *ck_file_named(const tn_checkpoint *ck, const char *name);

/* Whether a tensor of a view keeps the whole tensor behind it in memory while it is read. */
bool ck_reads_whole(const tn_checkpoint *ck, uint32_t tensor);

/* side.c: what lies beside the tensors of a folder. */
tn_status ck_copy_side(const tn_checkpoint *ck, const char *to, tn_diags *diags);
/* Writes one of its files; the text is freed. */
tn_status ck_write_text(const char *folder, const char *name, tn_buf *text, tn_diags *diags);
/* modules.json and the pooling of a model that embeds texts, as its config says. */
tn_status ck_write_sentence(const tn_checkpoint *ck, const char *to, tn_diags *diags);
void ck_json_pretty(tn_buf *out, const tn_json *node, uint32_t indent);

/* save.c: bytes of tensors in the types that they are to have. */
typedef struct ck_saving {
  tn_checkpoint *ck;
  const tn_ck_save *s;
  tn_diags *diags;
  uint32_t threads;
} ck_saving;
tn_dtype ck_saved_type(const ck_saving *v, uint32_t tensor);
tn_status ck_fill(ck_saving *v, uint32_t tensor, tn_outfile *out, uint64_t at, uint64_t bytes);
/* All blocks of a tensor in memory (heap), for layouts that take them apart. */
tn_status ck_encode_all(ck_saving *v, uint32_t tensor, uint8_t **blocks);
tn_status ck_save_gguf(ck_saving *v, const char *path);
tn_status ck_save_folder(ck_saving *v, const char *path);

/* rope.c: rotary factors: tensors of GGUF files, keys of both formats. */
tn_status ck_add_rope_tensors(tn_checkpoint *view, tn_diags *diags);
tn_status ck_put_rope(const tn_checkpoint *view, tn_gguf_writer *w, const char *prefix, tn_diags *diags);
tn_status ck_rope_config(tn_checkpoint *view, tn_json *config, tn_diags *diags);
/* config.c: the config.json of a view that is a folder. */
tn_status ck_make_config(tn_checkpoint *view, tn_diags *diags);
/* The number of fewest digits that is the same f32: 1e-6, not what is left of it in a GGUF file. */
double ck_short(double x);
/* Sets a key of an object; NULL: no memory. */
tn_json *ck_json_set(tn_arena *arena, tn_json *object, const char *key, tn_json value);

/* keys.c: the keys of a GGUF file that is made of a folder, but for those that are there. */
const char *ck_gguf_architecture(const tn_checkpoint *view); /* NULL: none */
tn_status ck_put_keys(tn_checkpoint *view, const char *pre, tn_gguf_writer *w, tn_diags *diags);

#endif
