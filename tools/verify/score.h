/* score.h - how surprised a model is by a text, and how far its scores are from another's. The method is
 * llama-perplexity's, so that the numbers can be put side by side: the text's tokens are cut into chunks of
 * the context size; each chunk is read from an empty cache, its first token replaced by the beginning-of-text
 * token where the tokenizer adds one; the second half of it is scored. With a stride a window slides instead,
 * and every token is scored once, by as long a context as the window leaves (the method of the transformers
 * documentation). */
#ifndef TN_SCORE_H
#define TN_SCORE_H
#include "tools/tool.h"

enum { TN_SCORE_CONTEXT = 512 };
typedef struct tn_score_options {
  const char *text; /* a file */
  int64_t context;  /* tokens, at least 2 */
  int64_t stride;   /* 0: chunks, each read alone */
  int64_t chunks;   /* at most; 0: all */
  uint32_t threads; /* 0: one per core */
  bool progress;
} tn_score_options;
typedef struct tn_scores {
  int64_t tokens, scored, context;
  double perplexity, error, seconds;
  bool compared; /* there is a base: the rest is set */
  double base_perplexity;
  double kl_mean, kl_median, kl_p90, kl_p95, kl_p99,
      kl_max;             /* of the model from the base, natural logarithms */
  double same_top;        /* part of the tokens whose likeliest successor is the same */
  double mean_dp, rms_dp; /* change of the probability of the right token */
} tn_scores;
/* base NULL: none. Both stay open. */
tn_status tn_score_text(const tn_score_options *o, tn_opened *model, tn_opened *base, tn_diags *d,
                        tn_scores *out);

/* KL divergence of q from p, two rows of scores, and whether their likeliest entry is the same. */
double tn_score_kl(const float *p, const float *q, int64_t n, bool *same_top);
#endif
