/* sequence.c - one text being continued: from a row of scores to a token that the caller has heard of, and
 * the reasons to end. What is dear to make (the vocabulary's trie, a grammar with its masks) stays with the
 * session for the next call. */
#include "backends/runtime/generate.h"
#include <math.h>
#include <stdlib.h>

enum { MAX_TOKENS = 128 /* when the caller names no number */ };

/* ---- kept by the session ------------------------------------------------------------------------------- */

struct tn_rt_kept {
  tn_vocabulary vocabulary;
  bool has_vocabulary;
  tn_grammar *grammar;
  char *text; /* of the grammar */
  uint64_t len;
};

void tn_rt_kept_free(struct tn_rt_kept *k) {
  if (!k) return;
  tn_vocabulary_close(&k->vocabulary);
  tn_grammar_close(k->grammar);
  tn_mem_free(k->text);
  tn_mem_free(k);
}

static tn_status no_memory(tn_gen *g) { return tn_rt_fail(g->s, TN_OOM, "no memory for generation"); }

static tn_status need_vocabulary(tn_gen *g, const char *what) {
  if (!g->s->model->tokenizer)
    return tn_rt_fail(g->s, TN_UNSUPPORTED, "%s: the model has no tokenizer", what);
  struct tn_rt_kept *k = g->s->kept;
  if (!k && !(k = g->s->kept = tn_mem_alloc(sizeof *k))) return no_memory(g);
  if (!k->has_vocabulary && tn_vocabulary_open(&k->vocabulary, g->s->model->tokenizer, g->eos, g->neos))
    return no_memory(g);
  k->has_vocabulary = true;
  g->vocabulary = &k->vocabulary;
  return TN_OK;
}

static tn_status need_grammar(tn_gen *g) {
  TN_TRY(need_vocabulary(g, "a grammar"));
  struct tn_rt_kept *k = g->s->kept;
  tn_str text = {g->o.grammar, g->o.grammar_len ? g->o.grammar_len : strlen(g->o.grammar)};
  if (!k->grammar || k->len != text.len || memcmp(k->text, text.ptr, text.len)) {
    char why[300] = "no memory for the grammar";
    tn_grammar_close(k->grammar);
    tn_mem_free(k->text);
    k->grammar = NULL;
    k->text = tn_mem_alloc(text.len + 1);
    if (!k->text) return no_memory(g);
    memcpy(k->text, text.ptr, text.len);
    k->len = text.len;
    tn_status s = tn_grammar_open(text, &k->grammar, why, sizeof why);
    if (s) return tn_rt_fail(g->s, s, "%s", why);
  }
  g->grammar = k->grammar;
  return TN_OK;
}

/* ---- what all sequences share -------------------------------------------------------------------------- */

static void read_eos(tn_gen *g) {
  const char *p = tn_view_meta(&g->s->model->view, "eos");
  while (p && *p && g->neos < TN_GEN_MAX_EOS) {
    char *end;
    long id = strtol(p, &end, 10);
    if (end == p) return;
    g->eos[g->neos++] = (int32_t)id;
    p = end + strspn(end, ", ");
  }
}

static bool is_eos(const tn_gen *g, int32_t token) {
  for (uint32_t i = 0; i < g->neos; i++)
    if (g->eos[i] == token) return true;
  return false;
}

static const struct {
  const char *name;
  size_t at;
  float least;
} numbers[] = {
#define ROW(name, least) {#name, offsetof(tn_sampling, name), least}
    ROW(temperature, -INFINITY),
    ROW(top_p, -INFINITY),
    ROW(min_p, -INFINITY),
    ROW(typical_p, -INFINITY),
    ROW(repetition_penalty, -INFINITY),
    ROW(frequency_penalty, -INFINITY),
    ROW(presence_penalty, -INFINITY),
    ROW(dry_multiplier, 0),
    ROW(dry_base, 0),
#undef ROW
};

static tn_status check_options(tn_gen *g) {
  for (size_t i = 0; i < TN_COUNT(numbers); i++) {
    float x;
    memcpy(&x, (const char *)&g->o + numbers[i].at, sizeof x);
    if (isnan(x) || x == INFINITY || x < numbers[i].least)
      return tn_rt_fail(g->s, TN_INVALID, "%s is %g", numbers[i].name, (double)x);
  }
  if (g->o.logprobs > TN_GEN_MAX_LOGPROBS)
    return tn_rt_fail(g->s, TN_INVALID, "logprobs is %u, the most is %d", g->o.logprobs, TN_GEN_MAX_LOGPROBS);
  if (g->o.draft_tokens > TN_SPEC_MAX)
    return tn_rt_fail(g->s, TN_INVALID, "draft_tokens is %u, the most is %d", g->o.draft_tokens, TN_SPEC_MAX);
  if (g->o.nstop && !g->s->model->tokenizer)
    return tn_rt_fail(g->s, TN_UNSUPPORTED, "stop strings: the model has no tokenizer");
  return TN_OK;
}

tn_status tn_gen_open(tn_gen *g, tn_session *s, const tn_sampling *o) {
  *g = (tn_gen){.s = s};
  if (o) tn_take(&g->o, sizeof g->o, o);
  if (!g->o.max_tokens) g->o.max_tokens = MAX_TOKENS;
  TN_TRY(check_options(g));
  TN_TRY(tn_scorer_open(&g->scorer, s));
  read_eos(g);
  if (g->o.grammar) TN_TRY(need_grammar(g));
  if (g->o.dry_multiplier > 0) {
    TN_TRY(need_vocabulary(g, "DRY"));
    if (tn_rt_breakers_open(&g->breakers, s->model->tokenizer, g->vocabulary, &g->o)) return no_memory(g);
  }
  return TN_OK;
}

void tn_gen_close(tn_gen *g) {
  tn_scorer_close(&g->scorer);
  tn_rt_breakers_close(&g->breakers);
  tn_mem_free(g->scores);
  tn_mem_free(g->candidates);
  tn_mem_free(g->counts);
}

/* Room for a row, once its length is known. */
static tn_status set_vocab(tn_gen *g) {
  if (g->vocab == g->scorer.vocab) return TN_OK;
  g->vocab = g->scorer.vocab;
  g->scores = tn_mem_alloc(g->vocab * sizeof *g->scores);
  g->candidates = tn_mem_alloc(g->vocab * sizeof *g->candidates);
  g->counts = tn_mem_alloc(g->vocab * sizeof *g->counts);
  return g->scores && g->candidates && g->counts ? TN_OK : no_memory(g);
}

/* ---- one sequence -------------------------------------------------------------------------------------- */

tn_status tn_sequence_open(tn_gen *g, tn_sequence *q, uint32_t index, const int32_t *ids, uint64_t nids) {
  *q = (tn_sequence){.index = index, .nprompt = nids, .result.prompt_tokens = nids};
  uint64_t room = nids + (g->o.max_tokens < 4096 ? g->o.max_tokens : 4096);
  if (!nids) return tn_rt_fail(g->s, TN_INVALID, "no tokens to begin with");
  if (room > INT32_MAX || !tn_vec_reserve(&q->tokens, (uint32_t)room)) return no_memory(g);
  memcpy(q->tokens.items, ids, nids * sizeof *ids);
  q->tokens.count = (uint32_t)nids;
  tn_stream_open(&q->stream, g->s->model->tokenizer, nids);
  if (g->grammar && tn_grammar_enter(g->grammar, &q->state)) return no_memory(g);
  return TN_OK;
}

void tn_sequence_close(tn_gen *g, tn_sequence *q) {
  if (g->grammar) tn_grammar_leave(g->grammar, &q->state);
  tn_stream_close(&q->stream);
  tn_vec_fini(&q->tokens);
}

/* Leaves the scores of tokens that the grammar allows. */
static tn_status apply_grammar(tn_gen *g, tn_sequence *q) {
  const uint64_t *mask;
  double begin = tn_now();
  tn_status s = tn_grammar_mask(g->grammar, g->vocabulary, &q->state, &mask);
  if (s) return tn_rt_fail(g->s, s, "the grammar is too ambiguous, or there is no memory for it");
  float ends[TN_GEN_MAX_EOS];
  bool may_end = tn_grammar_may_end(g->grammar, &q->state), any = may_end && g->neos;
  for (uint32_t i = 0; i < g->neos; i++)
    if (g->eos[i] >= 0 && (uint64_t)g->eos[i] < g->vocab) ends[i] = g->scores[g->eos[i]];
  for (uint64_t i = 0; i < g->vocab; i += 64) {
    uint64_t bits = i < g->vocabulary->ntokens ? mask[i / 64] : 0;
    any |= bits != 0;
    for (uint64_t k = i; k < i + 64 && k < g->vocab && bits != UINT64_MAX; k++)
      if (!(bits >> (k - i) & 1)) g->scores[k] = -INFINITY;
  }
  for (uint32_t i = 0; i < g->neos && may_end; i++)
    if (g->eos[i] >= 0 && (uint64_t)g->eos[i] < g->vocab) g->scores[g->eos[i]] = ends[i];
  q->result.masks++;
  q->result.mask_seconds += tn_now() - begin;
  return any ? TN_OK
             : tn_rt_fail(g->s, TN_INVALID,
                          "no token of the vocabulary can continue what the grammar allows");
}

static void apply_bias(tn_gen *g) {
  for (uint32_t i = 0; i < g->o.nbias; i++) {
    const tn_logit_bias *b = &g->o.bias[i];
    if (b->token >= 0 && (uint64_t)b->token < g->vocab) g->scores[b->token] += b->bias;
  }
}

static tn_status choose(tn_gen *g, tn_sequence *q, const float *row, int32_t *token) {
  memcpy(g->scores, row, g->vocab * sizeof *g->scores);
  apply_bias(g);
  if (g->grammar) TN_TRY(apply_grammar(g, q));
  tn_rt_penalize(g->scores, g->vocab, q->tokens.items, q->tokens.count, &g->o, g->counts);
  if (g->o.dry_multiplier > 0 &&
      tn_rt_dry(g->scores, g->vocab, q->tokens.items, q->tokens.count, &g->o, &g->breakers, g->counts))
    return no_memory(g);
  tn_sampling o = g->o;
  o.seed += q->index;
  tn_status s = tn_rt_sample(g->scores, g->vocab, &o, q->tokens.count - q->nprompt, g->candidates, token);
  if (s) return tn_rt_fail(g->s, s, "the scores of token %u are not finite numbers", q->tokens.count);
  if (!tn_vec_push(&q->tokens, *token)) return no_memory(g);
  q->result.new_tokens++;
  if (!g->grammar || is_eos(g, *token)) return TN_OK;
  s = tn_grammar_take(g->grammar, &q->state, tn_vocabulary_bytes(g->vocabulary, *token));
  return s ? tn_rt_fail(g->s, s, "no memory for the grammar") : TN_OK;
}

static tn_finish finish_of(const tn_gen *g, const tn_sequence *q, int32_t token, bool room) {
  if (is_eos(g, token)) return TN_FINISH_END;
  if (g->grammar && tn_grammar_must_end(g->grammar, &q->state)) return TN_FINISH_GRAMMAR;
  if (q->result.new_tokens >= g->o.max_tokens) return TN_FINISH_LENGTH;
  return room ? TN_FINISH_NONE : TN_FINISH_CAPACITY;
}

static tn_status tell(tn_gen *g, tn_sequence *q, const float *row, int32_t token, tn_str text) {
  tn_alternative top[TN_GEN_MAX_LOGPROBS];
  tn_new_token t = {sizeof t, q->index, token, q->result.finish, text.ptr, text.len, 0, 0, top};
  if (g->o.logprobs)
    t.logprob = tn_rt_logprobs(row, g->vocab, token, g->o.logprobs, g->candidates, top, &t.nalternatives);
  if (g->each && g->each(g->user, token, text.ptr, text.len)) return TN_CANCELLED;
  if (g->o.on_token && g->o.on_token(g->user, &t)) return TN_CANCELLED;
  if (g->on_token && g->on_token(g->user, &t)) return TN_CANCELLED;
  return TN_OK;
}

tn_status tn_sequence_step(tn_gen *g, tn_sequence *q, const float *row, bool room) {
  int32_t token;
  tn_str text;
  bool stopped;
  TN_TRY(set_vocab(g));
  TN_TRY(choose(g, q, row, &token));
  tn_finish finish = finish_of(g, q, token, room);
  TN_TRY(tn_stream_next(&q->stream, g->s, q->tokens.items, q->tokens.count, finish != TN_FINISH_NONE, &g->o,
                        &text, &stopped));
  q->result.finish = stopped ? TN_FINISH_STOP : finish;
  tn_status s = tell(g, q, row, token, text);
  if (s) q->result.finish = TN_FINISH_CANCELLED;
  return s;
}

void tn_sequence_report(const tn_gen *g, const tn_sequence *q) {
  if (!g->o.result) return;
  uint32_t size = g->o.result->size;
  tn_generation r = q->result;
  r.size = size;
  memcpy((char *)g->o.result + (uint64_t)size * q->index, &r, size < sizeof r ? size : sizeof r);
}
