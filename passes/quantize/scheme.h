/* scheme.h - quantization schemes: which type each tensor of a model gets. Pure facts and rules
 * (schemes.def), no files: the command `tenon quantize` and the pass ask here.
 *
 * A scheme has a type for most matrices and rules for the tensors whose error costs most. Those of
 * llama.cpp's names give the types that llama-quantize documents for them. */
#ifndef TN_SCHEME_H
#define TN_SCHEME_H
#include "ir/ir.h"

/* What a tensor is to its model, as far as schemes tell them apart. */
typedef enum tn_scheme_class {
  TN_SC_KEEP, /* norms, biases, routers, tables: stays as it is */
  TN_SC_EMBEDDING,
  TN_SC_OUTPUT, /* gives the logits */
  TN_SC_QUERY,
  TN_SC_KEY,
  TN_SC_VALUE, /* also where values are one part of it */
  TN_SC_ATTN_OUT,
  TN_SC_GATE,
  TN_SC_UP,
  TN_SC_DOWN,
  TN_SC_MATRIX,
  TN_SC_COUNT
} tn_scheme_class;
const char *tn_scheme_class_name(tn_scheme_class c);

/* Of a scheme. LOW: two bits and fewer by codebooks, with rules of their own. GROUP: --group-size and
 * --asymmetric choose among the types of its bits. COPY: every tensor stays. ONNX: for ONNX files,
 * activations are 8 bits too. FOLDER: its type is for packed folders; embedding and output stay. TERNARY: for
 * models whose weights have few values. DYNAMIC: activations become 8 bits at run time. */
enum {
  TN_SCHEME_LOW = 1,
  TN_SCHEME_GROUP = 2,
  TN_SCHEME_COPY = 4,
  TN_SCHEME_ONNX = 8,
  TN_SCHEME_FOLDER = 16,
  TN_SCHEME_TERNARY = 32,
  TN_SCHEME_DYNAMIC = 64
};
typedef struct tn_scheme {
  const char *name;
  tn_dtype type;              /* of most matrices; 0: none (COPY, ONNX) */
  tn_dtype output, embedding; /* 0: as `type` */
  int32_t file_type;          /* general.file_type of GGUF files; -1: none */
  uint32_t flags;
  const char *doc;
} tn_scheme;

/* By name or alias, without regard to case; NULL: none. */
const tn_scheme *tn_scheme_find(const char *name);
uint32_t tn_scheme_count(void);
const tn_scheme *tn_scheme_at(uint32_t i);
/* The group format with the bits of the scheme's type: values per group (0: one scale per row), codes with a
 * stored zero or symmetric ones. 0: there is none such. */
tn_dtype tn_scheme_group_type(const tn_scheme *s, uint32_t group, bool asymmetric);

typedef struct tn_scheme_model {
  uint32_t layers, experts;
  uint32_t heads_per_kv; /* query heads that share a key */
  uint32_t values;       /* tensors of class VALUE: the layers that MORE counts */
  bool falcon, importance;
  bool wide; /* 80 layers whose heads share keys: values are an eighth of the queries */
  bool tied; /* the embedding is the output too */
} tn_scheme_model;
typedef struct tn_scheme_tensor {
  tn_scheme_class cls;
  uint32_t ordinal; /* among those of its class, in order of layers and names */
  int32_t layer;    /* -1: none */
  bool stacked;     /* experts */
} tn_scheme_tensor;
/* The type that the scheme gives this tensor; 0: it stays. */
tn_dtype tn_scheme_type(const tn_scheme *s, const tn_scheme_model *m, const tn_scheme_tensor *t);
/* Whether the type is of little use there without an importance matrix. */
bool tn_scheme_needs_importance(const tn_scheme *s, tn_scheme_class cls, tn_dtype type);
/* The type that is usual in GGUF files instead, for rows of `columns` values that the type's blocks do not
 * divide. `output`: it gives the logits. */
tn_dtype tn_scheme_fallback(bool output, tn_dtype type, uint64_t columns);
#endif
