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
  uint32_t threads; /* 0: one per core in `cores`, or that the process may use and its CPU limit pays for */
  int64_t batch;    /* sequences that the states hold; 0: 1 */
  int64_t capacity; /* tokens that the states hold; 0: the model's limit, at most 4096 */
  char *error;      /* gets the words of a failure of session_new; may be NULL */
  uint64_t error_size;
  /* Thread i stays on core cores[i % ncores], the thread that calls session_new too, until session_free.
   * ncores 0: where the system puts them. */
  const uint32_t *cores;
  uint32_t ncores, reserved;
  const char *device; /* for models with kernels on a device: "cuda:1", "cuda:UUID"; NULL: the first one */
  void *stream;       /* the device's own, a CUstream, which must outlive the session; NULL: a new one */
} tn_session_options;

/* ---- generation ---------------------------------------------------------------------------------------- */

/* Why a generation ended. */
typedef enum tn_finish {
  TN_FINISH_NONE,     /* it has not, or a failure ended it */
  TN_FINISH_END,      /* an end token */
  TN_FINISH_STOP,     /* a stop string */
  TN_FINISH_GRAMMAR,  /* the grammar allows nothing more */
  TN_FINISH_LENGTH,   /* max_tokens */
  TN_FINISH_CAPACITY, /* the session's capacity, or the model's limit, is full */
  TN_FINISH_CANCELLED /* a callback said so */
} tn_finish;

typedef struct tn_alternative {
  int32_t id;
  float logprob; /* natural logarithm of its probability */
} tn_alternative;
/* A new token. Probabilities are the model's own, before any change that tn_sampling asks for; 0 where
 * `logprobs` does not ask for them. */
typedef struct tn_new_token {
  uint32_t size;
  uint32_t sequence; /* which prompt of generate_batch */
  int32_t id;
  uint32_t finish;  /* tn_finish; not TN_FINISH_NONE: the last one of its sequence */
  const char *text; /* what the token adds, as for tn_on_token */
  uint64_t len;
  float logprob;
  uint32_t nalternatives;
  const tn_alternative *alternatives; /* the likeliest tokens, best first */
} tn_new_token;
typedef tn_status (*tn_on_new_token)(void *user, const tn_new_token *t);

/* How a generation went. */
typedef struct tn_generation {
  uint32_t size;
  uint32_t finish; /* tn_finish */
  uint64_t prompt_tokens, new_tokens;
  uint64_t drafted, accepted; /* tokens that speculation proposed, and that came out as proposed */
  uint64_t masks;             /* tokens that a grammar constrained */
  double mask_seconds;        /* what that took */
} tn_generation;

typedef struct tn_logit_bias {
  int32_t token;
  float bias; /* added to its score; -INFINITY: never */
} tn_logit_bias;

/* Zero is off, or the default, everywhere: fields behind `seed` are newer than the first callers.
 * Scores pass, in this order: bias, grammar, penalties (repetition, frequency, presence), DRY, top_k,
 * typical_p, top_p, min_p, temperature. The last three penalties and filters are llama.cpp's, in its order;
 * each filter sees the probabilities, at temperature 1, of what the one before it left. */
typedef struct tn_sampling {
  uint32_t size;
  uint32_t max_tokens;      /* new tokens; 0: 128 */
  float temperature;        /* 0: greedy, the likeliest of what is left */
  float top_p, min_p;       /* 0: off */
  float repetition_penalty; /* 0 or 1: off; each token seen once or more (Keskar et al. 2019) */
  uint32_t top_k;           /* 0: off */
  uint64_t seed;
  float typical_p;                           /* 0 or 1: off (Meister et al. 2022) */
  float frequency_penalty, presence_penalty; /* subtracted per time that a token was seen; once */
  int32_t penalty_last_n; /* the three penalties see the last n tokens, prompt included; 0 or less: all */
  float dry_multiplier; /* 0: off. Subtracts multiplier * base^(n - allowed_length) from a token that would */
  float dry_base;       /* make a repeat of n tokens longer, n >= allowed_length; base 0: 1.75, */
  uint32_t dry_allowed_length;     /* allowed length 0: 2 */
  int32_t dry_last_n;              /* as penalty_last_n */
  const char *const *dry_breakers; /* no repeat reaches over these texts; NULL: newline, ':', '"', '*' */
  uint32_t ndry_breakers;
  uint32_t nbias;
  const tn_logit_bias *bias;
  const char *const *stop; /* generation ends before the first of these texts; none of it is given out */
  uint32_t nstop;
  uint32_t logprobs; /* how many alternatives on_token gets (at most 100), its own logprob too; 0: neither */
  const char
      *grammar; /* GBNF, root rule "root": what the new text may be; end tokens only where it may end */
  uint64_t grammar_len;
  tn_on_new_token on_token; /* more than tn_on_token gets, with the same `user`; either may be NULL */
  tn_generation *result;    /* filled in at the end, also after a failure; NULL: not wanted */
  /* Speculation: draft_tokens tokens (at most 64) are guessed and checked in one call. What comes out is what
   * would have come out, greedy or drawn, up to the rounding of scores. */
  uint32_t draft_tokens; /* 0: off */
  uint32_t
      draft_ngram;   /* without `draft`: guess what followed the last n tokens before; n at most this; 0: 3 */
  tn_session *draft; /* of a smaller model with the same vocabulary, whose states hold the same tokens */
} tn_sampling;
/* Called per token; text is what the token adds (maybe empty: bytes of an unfinished character, and what may
 * become a stop string, are held back). Not TN_OK stops the generation: TN_CANCELLED without error. */
typedef tn_status (*tn_on_token)(void *user, int32_t token, const char *text, uint64_t len);

typedef struct tn_prompt {
  const int32_t *ids;
  uint64_t nids;
} tn_prompt;

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
  tn_status (*session_reset)(tn_session *s); /* forgets the states: position 0 */
  int64_t (*position)(tn_session *s);        /* tokens in the states */
  /* To an earlier position. TN_UNSUPPORTED: a state sums up all tokens, or is the full cache of a sliding
   * window, which goes back 512 tokens. */
  tn_status (*rewind)(tn_session *s, int64_t position);
  const char *(*error)(tn_session *s); /* words of the last failure; never NULL */
  /* Shapes that the outputs will have for these inputs: fills dtype, rank and shape; data untouched. A size
   * that only the run makes known is -1. */
  tn_status (*shapes)(tn_session *s, uint32_t entry, const tn_tensor *in, tn_tensor *out);
  /* Runs. Outputs must have the shapes that `shapes` gives. Input integers may be i32 or i64, whatever is
   * declared. An output without data is kept by the session (`result`); one that has a size of -1 must be. */
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
  /* Causal models: appends ids to the states, then decodes until max_tokens, an end token (metadata "eos"), a
   * stop string, the end of the grammar or the capacity. The token given last, an end token too, is not in
   * the states: put it before the next call's ids. The same seed gives the same tokens. */
  tn_status (*generate)(tn_session *s, const int32_t *ids, uint64_t nids, const tn_sampling *o,
                        tn_on_token each, void *user);
  /* Continues n prompts at once, in a session whose batch is n or more and whose states are empty; they are
   * not of use afterwards: reset. Prompt i gives the tokens that generate gives with seed + i. Prompts of
   * different lengths need a model with the entry "batch". o->result: an array of n. */
  tn_status (*generate_batch)(tn_session *s, const tn_prompt *prompts, uint32_t n, const tn_sampling *o,
                              tn_on_new_token each, void *user);
  /* How much of a LoRA adapter is added from the next call on: 1 as trained, 0 not at all. Names are in the
   * metadata "adapters". TN_UNSUPPORTED: the model has none, or they were merged into its weights. */
  tn_status (*adapter)(tn_session *s, const char *name, float weight);
  /* Shape and data of output i of the last call; what the session keeps is there until its next call. */
  tn_status (*result)(tn_session *s, uint32_t i, tn_tensor *out);
} tn_model_api;
enum { TN_TOK_NO_SPECIAL = 1, TN_TOK_SKIP_SPECIAL = 2 /* detokenize: leave special tokens out */ };

/* NULL if the host's major is not the artefact's. */
typedef const tn_model_api *(*tn_model_query_fn)(uint32_t abi);

#ifdef __cplusplus
}
#endif
#endif
