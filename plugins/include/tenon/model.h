/* tenon/model.h - using a compiled model.
 *
 * Every artefact (`tenon compile -o libfoo.so`) exports tn_model_query and, as foo_query, the same function
 * under the model's name, so that two artefacts can live in one program. The generated foo.h has typed
 * wrappers; this header is for programs that load any model: `tenon run`, bindings.
 *
 * Threads: a tn_model may be shared; a tn_session is used by one thread at a time. Nothing prints, exits or
 * aborts; an error is a status and, through `error`, its words. */
#ifndef TENON_MODEL_H
#define TENON_MODEL_H
#include "tenon/ir.h"
#ifdef __cplusplus
extern "C" {
#endif

typedef struct tn_model tn_model;     /* mapped weights, program, kernels: read-only, shared */
typedef struct tn_session tn_session; /* states (KV cache), arena, threads */

typedef struct tn_tensor {
  void *data;     /* row-major, not owned */
  uint32_t dtype; /* TN_DT_* of tenon/ir.h */
  uint32_t rank;
  int64_t shape[TN_MAX_RANK];
} tn_tensor;

typedef struct tn_arg_info {
  const char *name;
  uint32_t dtype, rank;
  const char *shape; /* as text: "[B, S, 384]" */
} tn_arg_info;
typedef struct tn_entry_info {
  const char *name;
  uint32_t ninputs, noutputs;
} tn_entry_info;

typedef struct tn_session_options {
  uint32_t size;
  uint32_t threads; /* 0: one per core that the process may use */
  int64_t batch;    /* sequences that the states hold; 0: 1 */
  int64_t capacity; /* tokens that the states hold; 0: the model's limit, at most 4096 */
  char *error;      /* gets the words of a failure of session_new; may be NULL */
  uint64_t error_size;
} tn_session_options;

typedef struct tn_sampling {
  uint32_t size;
  uint32_t max_tokens;      /* new tokens; 0: 128 */
  float temperature;        /* 0: greedy */
  float top_p, min_p;       /* 0: off */
  float repetition_penalty; /* 0 or 1: off; over the prompt and what was generated (Keskar et al. 2019) */
  uint32_t top_k;           /* 0: off */
  uint64_t seed;
} tn_sampling;
/* Called per token; text is what the token adds (maybe empty: bytes of an unfinished character are held
 * back). Not TN_OK stops the generation: TN_CANCELLED without error. */
typedef tn_status (*tn_on_token)(void *user, int32_t token, const char *text, uint64_t len);

typedef struct tn_model_api {
  uint32_t size, abi;
  /* `path`: where the artefact or its weight file lies; NULL: where the library was loaded from. */
  tn_status (*open)(const char *path, tn_model **out, char *error, uint64_t error_size);
  void (*close)(tn_model *m);
  const char *(*name)(tn_model *m);
  uint32_t (*entry_count)(tn_model *m);
  tn_status (*entry)(tn_model *m, uint32_t entry, tn_entry_info *out);
  tn_status (*input)(tn_model *m, uint32_t entry, uint32_t i, tn_arg_info *out);
  tn_status (*output)(tn_model *m, uint32_t entry, uint32_t i, tn_arg_info *out);
  uint32_t (*meta_count)(tn_model *m);
  const char *(*meta_key)(tn_model *m, uint32_t i);
  const char *(*meta)(tn_model *m, const char *key);                                    /* NULL: none */
  tn_status (*session_new)(tn_model *m, const tn_session_options *o, tn_session **out); /* o may be NULL */
  void (*session_free)(tn_session *s);
  tn_status (*session_reset)(tn_session *s);            /* forgets the states: position 0 */
  int64_t (*position)(tn_session *s);                   /* tokens in the states */
  tn_status (*rewind)(tn_session *s, int64_t position); /* to an earlier position */
  const char *(*error)(tn_session *s);                  /* words of the last failure; never NULL */
  /* Shapes that the outputs will have for these inputs: fills dtype, rank and shape; data untouched. */
  tn_status (*shapes)(tn_session *s, uint32_t entry, const tn_tensor *in, tn_tensor *out);
  /* Runs. Outputs must have the shapes that `shapes` gives. Input integers may be i32 or i64, whatever is
   * declared. */
  tn_status (*invoke)(tn_session *s, uint32_t entry, const tn_tensor *in, const tn_tensor *out);
  /* Tokenizer. *n: in, room; out, number of ids (also when there was too little room: then TN_INVALID).
   * flags: TN_TOK_NO_SPECIAL leaves out [CLS], <s> and so on. pair and types may be NULL. detokenize: *len
   * likewise, in bytes; a NUL follows where there is room. */
  tn_status (*tokenize)(tn_session *s, const char *text, uint64_t len, const char *pair, uint64_t pair_len,
                        uint32_t flags, int32_t *ids, int32_t *types, uint64_t *n);
  tn_status (*detokenize)(tn_session *s, const int32_t *ids, uint64_t nids, uint32_t flags, char *text,
                          uint64_t *len);
  const char *(*token_text)(tn_session *s, int32_t id, uint64_t *len); /* NULL: no such id */
  tn_status (*token_id)(tn_session *s, const char *token, int32_t *id);
  /* Causal models: appends ids to the states, then decodes until max_tokens, an end token (metadata "eos") or
   * the capacity. The token given last, an end token too, is not in the states: put it before the next call's
   * ids. Scores are changed in this order: repetition_penalty, temperature, top_k, top_p, min_p. The same
   * seed gives the same tokens. */
  tn_status (*generate)(tn_session *s, const int32_t *ids, uint64_t nids, const tn_sampling *o,
                        tn_on_token each, void *user);
} tn_model_api;
enum { TN_TOK_NO_SPECIAL = 1, TN_TOK_SKIP_SPECIAL = 2 /* detokenize: leave special tokens out */ };

/* NULL if the host's major is not the artefact's. */
typedef const tn_model_api *(*tn_model_query_fn)(uint32_t abi);

#ifdef __cplusplus
}
#endif
#endif
