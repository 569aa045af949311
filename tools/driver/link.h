/* link.h - from kernel objects, step program and packed weights to libfoo.so. Needs a linker (ld.lld, ld or
 * cc) but no compiler and no development packages. The file is written whole or not at all, and the same
 * input gives the same bytes. */
#ifndef TN_LINK_H
#define TN_LINK_H
#include "ir/base/diag.h"

/* Where a kernel of the program comes from: a global symbol of one of the target's objects. */
typedef struct tn_link_kernel {
  const char *symbol; /* NULL: it runs on the device */
  uint32_t object;
} tn_link_kernel;

/* The code for one kind of processor. */
typedef struct tn_link_target {
  const char *name, *features; /* as in tn_target */
  uint32_t score, nobjects;
  const tn_bytes *objects;       /* relocatable ELF objects */
  const tn_link_kernel *kernels; /* one per row of the program's kernels, in that order */
} tn_link_target;

/* The code for a device, as data: an image per target, and the table in the runtime that runs it. */
typedef struct tn_link_device {
  const char *api; /* symbol of its tn_device_api; NULL: no kernel runs on a device */
  const tn_bytes *images;
  uint32_t nimages;
} tn_link_device;

enum {
  TN_WEIGHTS_EMBED = 0, /* packed weights behind the program, in the library */
  TN_WEIGHTS_EXTERNAL,  /* packed weights in libfoo.weights beside it */
  TN_WEIGHTS_INPLACE    /* rows of the program that name a file are read there; what was packed is embedded */
};

/* Where packed weights go: `write` may be called on several threads, for stretches that do not overlap; what
 * is left out is zeros. in_order: on one thread only, and forwards. */
typedef struct tn_link_place {
  void *ctx;
  tn_status (*write)(void *ctx, uint64_t at, const void *data, uint64_t len);
  bool in_order;
} tn_link_place;

typedef struct tn_link_job {
  const char *output; /* path of the library */
  const char *name;   /* prefix of the exported functions: a C identifier (tn_link_identifier) */
  const tn_link_target *targets;
  uint32_t ntargets, weights; /* TN_WEIGHTS_* */
  tn_link_device device;
  tn_bytes program; /* ir/base/program.h; its hash filled in */
  /* The packed weight section, of weights_bytes (0: none); the function writes it and gives a hash of it. */
  uint64_t weights_bytes;
  tn_status (*weights_write)(void *ctx, const tn_link_place *out, uint64_t *hash);
  void (*done)(void *ctx, const char *what); /* optional: a step of the work has ended */
  void *ctx;
  const char *runtime; /* tenon-runtime.o; NULL: the one of this installation */
  const char *linker;  /* path or name; NULL: ld.lld-22, ld.lld, ld, cc, the first that is found */
} tn_link_job;
tn_status tn_link_artefact(const tn_link_job *j, tn_diags *diags);

/* "out/libMini-LM.so" -> "Mini_LM": the prefix that the library's functions get. */
void tn_link_identifier(const char *path, tn_buf *out);
/* Beside the running program: lib/tenon/tenon-runtime.o or ../lib/tenon/tenon-runtime.o; NULL: not there. */
char *tn_link_runtime_path(tn_arena *a);

/* Functions of the runtime that a library exports under its own name: X(suffix, symbol in the runtime). */
/* clang-format off */
#define TN_LINK_EXPORTS(X)                                                                     \
  X(query, tn_model_query) X(open, tn_rt_model_open) X(close, tn_rt_model_close)               \
  X(meta, tn_rt_meta) X(session_new, tn_rt_session_new) X(session_free, tn_rt_session_free)    \
  X(session_reset, tn_rt_session_reset) X(position, tn_rt_position) X(rewind, tn_rt_rewind)    \
  X(error, tn_rt_error) X(invoke, tn_rt_invoke) X(tokenize, tn_rt_tokenize)                    \
  X(detokenize, tn_rt_detokenize) X(token_text, tn_rt_token_text) X(token_id, tn_rt_token_id)  \
  X(generate, tn_rt_generate) X(generate_batch, tn_rt_generate_batch) X(adapter, tn_rt_adapter)  \
  X(result, tn_rt_result)
/* clang-format on */

#endif
