/* model.h - an ONNX file as checked messages. The file stays mapped: large tensors remain where they are, and
 * a message that describes one says at which offset (TensorProto.held_offset, see wire.c). */
#ifndef TN_ONNX_MODEL_H
#define TN_ONNX_MODEL_H
#include "ir/base/diag.h"
#include "tenon/ir.h"
#include <onnx.pb-c.h>

typedef Onnx__GraphProto tn_ox_graph;
typedef Onnx__TensorProto tn_ox_tensor_proto;

enum {
  TN_OX_MAX_DEPTH = 64,    /* messages in messages: 20 subgraphs deep */
  TN_OX_HELD_BYTES = 1024, /* raw_data above this stays in the file */
};

typedef struct tn_ox_model {
  tn_arena arena; /* of all messages */
  tn_file file;
  const char *path, *name; /* name: the file's, without folders */
  char *folder;            /* where external data lies; "." for none */
  const char *prefix;      /* from the folder that weights are named from to that one: "" or "onnx/" */
  tn_diags *diags;
  Onnx__ModelProto *proto;
  tn_map functions; /* tn_ox_function_key -> index */
  tn_map external;  /* name of a data file -> index in externals */
  TN_VEC(struct tn_ox_external *) externals;
} tn_ox_model;

/* Opens, unpacks and checks: that it is protobuf of bounded depth and size, versions, names, the order of
 * nodes. Errors name the file and the place. tn_ox_model_close is safe after a failure. */
tn_status tn_ox_model_open(tn_ox_model *x, const char *path, const char *prefix, tn_diags *diags);
void tn_ox_model_close(tn_ox_model *x);

/* wire.c: the bytes of a model message without the large raw_data, and what is not known; checked. */
tn_status tn_ox_wire_strip(tn_str file, const char *name, tn_diags *diags, tn_buf *out);

/* A tensor's elements: where they are. */
typedef struct tn_ox_data {
  tn_dtype dtype;
  uint32_t rank;
  int64_t dims[TN_MAX_RANK];
  uint64_t count, bytes;
  const void *ptr;  /* the bytes, mapped or unpacked; NULL only when bytes is 0 */
  const char *file; /* not NULL: they also lie at `offset` of this file of the model's folder */
  uint64_t offset;
} tn_ox_data;

/* Checks a tensor (type, sizes, external data) and finds its elements. `why`: the reason in words, in the
 * arena, when it fails: TN_INVALID or TN_UNSUPPORTED. */
tn_status tn_ox_tensor_read(tn_ox_model *x, const tn_ox_tensor_proto *t, tn_ox_data *out, const char **why);
/* "float16", or "type 99". */
const char *tn_ox_type_name(int64_t onnx_type, char buf[24]);
tn_dtype tn_ox_type_dtype(const tn_ir *ir, int64_t onnx_type); /* 0: none */

/* external.c: maps a data file of the model's folder; all the checks on its name. */
tn_status tn_ox_external_map(tn_ox_model *x, const char *location, tn_bytes *out, const char **why);
void tn_ox_external_close(tn_ox_model *x);

/* check.c */
const char *tn_ox_function_key(tn_ox_model *x, const char *domain, const char *name, const char *overload);
tn_status tn_ox_model_check(tn_ox_model *x);

/* Words in the model's arena; never NULL. */
const char *tn_ox_words(tn_ox_model *x, const char *fmt, ...) TN_PRINTF(2, 3);
#endif
