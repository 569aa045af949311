/* generate.h - inside generation: the parts that a token passes through. A scorer runs the model, a sampler
 * turns a row of scores into a token, a stream turns tokens into text, a grammar says what may come next, a
 * speculator guesses ahead. generate.c and batch.c drive them for one sequence and for several. */
#ifndef TN_GENERATE_H
#define TN_GENERATE_H
#include "backends/runtime/grammar.h"
#include "backends/runtime/rt.h"

/* ---- scorer.c: tokens to scores ------------------------------------------------------------------------ */
enum { TN_SCORER_NEXT, TN_SCORER_LOGITS, TN_SCORER_BATCH, TN_SCORER_ENTRIES };
typedef struct tn_scorer {
  tn_session *s;
  const tn_prog_entry *entries[TN_SCORER_ENTRIES]; /* NULL: the model has none of that name */
  uint32_t index[TN_SCORER_ENTRIES];
  int64_t limit[TN_SCORER_ENTRIES]; /* most tokens per call */
  uint32_t main;                    /* TN_SCORER_NEXT, or _LOGITS where there is no "next" */
  bool stateful;
  int32_t *ones; /* mask */
  uint64_t nones;
  float *scores; /* of the last call */
  uint64_t nscores, vocab;
} tn_scorer;
tn_status tn_scorer_open(tn_scorer *sc, tn_session *s);
void tn_scorer_close(tn_scorer *sc);
/* Most tokens that a sequence may still take in before the model gives no more scores. */
int64_t tn_scorer_room(const tn_scorer *sc, uint64_t ntokens);
/* Brings the model up to the end of tokens[0 .. n), of which the last `fresh` are new; *row: the scores of
 * the token after. */
tn_status tn_scorer_feed(tn_scorer *sc, const int32_t *tokens, uint64_t n, uint64_t fresh, const float **row);
/* Runs n new tokens in one call with the scores behind each: rows[0 .. n). Needs the entry "logits". */
tn_status tn_scorer_rows(tn_scorer *sc, const int32_t *tokens, uint64_t n, const float **rows);
/* The same tokens for each of `batch` sequences: ids[batch, n]; pads[batch] tokens at the front of each do
 * not count, NULL: all do. *rows: [batch, vocab]. */
tn_status tn_scorer_batch(tn_scorer *sc, const int32_t *ids, const int32_t *pads, int64_t batch, int64_t n,
                          const float **rows);

/* ---- sample.c, penalty.c: scores to a token ------------------------------------------------------------ */
typedef struct tn_rt_candidate {
  float score;
  int32_t id;
} tn_rt_candidate;
/* The next token from scores[n], which are changed. scratch holds n pairs. `step` counts the draws.
 * TN_INTERNAL: a score is not a number, or none is finite. */
tn_status tn_rt_sample(float *scores, uint64_t n, const tn_sampling *o, uint64_t step,
                       tn_rt_candidate *scratch, int32_t *out);
/* The three penalties over ids[nids]; counts: n zeros, which are zeros again after. */
void tn_rt_penalize(float *scores, uint64_t n, const int32_t *ids, uint64_t nids, const tn_sampling *o,
                    uint32_t *counts);
/* Sequences of tokens that a DRY repeat must not reach over: a breaker's text may begin inside a token. */
typedef struct tn_rt_breakers {
  struct tn_rt_breaker *items; /* by head */
  uint32_t count, capacity;
  TN_VEC(int32_t) tokens; /* of all tails, one after the other */
} tn_rt_breakers;
tn_status tn_rt_breakers_open(tn_rt_breakers *b, const tn_tokenizer *t, const tn_vocabulary *v,
                              const tn_sampling *o);
void tn_rt_breakers_close(tn_rt_breakers *b);
/* counts: as for tn_rt_penalize. */
tn_status tn_rt_dry(float *scores, uint64_t n, const int32_t *ids, uint64_t nids, const tn_sampling *o,
                    const tn_rt_breakers *b, uint32_t *counts);
/* Log-probabilities of the model's scores: of `token`, and of the `want` likeliest. */
float tn_rt_logprobs(const float *scores, uint64_t n, int32_t token, uint32_t want, tn_rt_candidate *scratch,
                     tn_alternative *top, uint32_t *ntop);

/* ---- stream.c: tokens to text -------------------------------------------------------------------------- */
typedef struct tn_stream {
  const tn_tokenizer *tokenizer; /* NULL: no text */
  uint64_t window, shown;        /* tokens: where the decoded tail begins; whose text was given out */
  tn_buf before, after;          /* its text without and with the newest tokens */
  tn_buf held;                   /* text that may be the beginning of a stop string */
  uint64_t given;                /* bytes of it that were given out */
} tn_stream;
void tn_stream_open(tn_stream *st, const tn_tokenizer *tokenizer, uint64_t nprompt);
void tn_stream_close(tn_stream *st);
/* The text that the newest of tokens[n] adds: all that was held back if it is the last. *stopped: a stop
 * string came; the text ends before it. */
tn_status tn_stream_next(tn_stream *st, tn_session *s, const int32_t *tokens, uint64_t n, bool last,
                         const tn_sampling *o, tn_str *text, bool *stopped);

/* ---- sequence.c: one text being continued -------------------------------------------------------------- */
enum { TN_GEN_MAX_EOS = 64, TN_GEN_MAX_LOGPROBS = 100 };
/* What all sequences of a call share. */
typedef struct tn_gen {
  tn_session *s;
  tn_sampling o;
  tn_on_token each;         /* generate's */
  tn_on_new_token on_token; /* generate_batch's */
  void *user;
  tn_scorer scorer;
  float *scores;               /* vocab: a copy of a row to work on */
  tn_rt_candidate *candidates; /* vocab */
  uint32_t *counts;            /* vocab */
  uint64_t vocab;
  tn_rt_breakers breakers;
  tn_grammar *grammar;             /* NULL: none. The session's, as is the next */
  const tn_vocabulary *vocabulary; /* NULL: not needed */
  int32_t eos[TN_GEN_MAX_EOS];
  uint32_t neos;
} tn_gen;
typedef struct tn_sequence {
  uint32_t index;
  TN_VEC(int32_t) tokens; /* the prompt and what was generated */
  uint64_t nprompt;
  tn_stream stream;
  tn_grammar_state state;
  tn_generation result; /* finish not TN_FINISH_NONE: it has ended */
} tn_sequence;
tn_status tn_gen_open(tn_gen *g, tn_session *s, const tn_sampling *o);
void tn_gen_close(tn_gen *g);
tn_status tn_sequence_open(tn_gen *g, tn_sequence *q, uint32_t index, const int32_t *ids, uint64_t nids);
void tn_sequence_close(tn_gen *g, tn_sequence *q);
/* Chooses the next token from a row of scores, tells the caller, and ends the sequence where it must end.
 * `room`: whether another token may be fed. */
tn_status tn_sequence_step(tn_gen *g, tn_sequence *q, const float *row, bool room);
/* Copies q->result to the caller's array. */
void tn_sequence_report(const tn_gen *g, const tn_sequence *q);

/* ---- speculate.c --------------------------------------------------------------------------------------- */
enum { TN_SPEC_MAX = 64, TN_SPEC_NGRAM = 3 };
typedef struct tn_spec {
  bool on;
  tn_scorer draft;              /* draft.s NULL: n-grams */
  int32_t ids[1 + TN_SPEC_MAX]; /* the token that was certain, then the guesses */
  uint32_t n, at;               /* guesses; how many of them came true */
  const float *rows;            /* scores behind ids[0 .. n] */
  int64_t base;                 /* position before ids[0] */
} tn_spec;
tn_status tn_spec_open(tn_spec *sp, tn_gen *g);
void tn_spec_close(tn_spec *sp);
/* The row of scores behind the sequence's newest token. */
tn_status tn_spec_row(tn_spec *sp, tn_gen *g, tn_sequence *q, const float **row);
/* Tokens that the states hold for certain. */
int64_t tn_spec_position(const tn_spec *sp, const tn_gen *g);
/* Takes what did not come true out of the states. */
tn_status tn_spec_settle(tn_spec *sp, tn_gen *g);

#endif
