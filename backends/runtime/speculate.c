/* speculate.c - guessing ahead. The token that is certain and the guesses behind it go through the model in
 * one call; the sampler then draws from each position's scores as it would have done without, and as long as
 * what it draws is the guess, the next position's scores are there already. So the output is that of plain
 * generation with the same seed, whatever the guesses are, and only the time depends on them (Leviathan et
 * al. 2023, with a draft that is certain of its guess). */
#include "backends/runtime/generate.h"

static tn_status check_states(tn_session *s) {
  const tn_view *v = &s->model->view;
  for (uint32_t i = 0; i < v->nstates; i++)
    if (!s->rewinds[i])
      return tn_rt_fail(s, TN_UNSUPPORTED,
                        "speculation: state '%s' sums up all tokens and cannot go back when a guess is wrong",
                        tn_view_str(v, v->states[i].arg.name));
  return TN_OK;
}

static tn_status check_draft(tn_gen *g, tn_session *d) {
  const tn_tokenizer *a = g->s->model->tokenizer, *b = d->model->tokenizer;
  if (d == g->s) return tn_rt_fail(g->s, TN_INVALID, "speculation: a session cannot draft for itself");
  if (d->batch != 1 || d->position != g->s->position)
    return tn_rt_fail(
        g->s, TN_INVALID,
        "speculation: the draft's states hold %lld tokens of a batch of %lld, expected %lld of 1",
        (long long)d->position, (long long)d->batch, (long long)g->s->position);
  if (a && b && tn_tokenizer_size(a) != tn_tokenizer_size(b))
    return tn_rt_fail(g->s, TN_INVALID, "speculation: the draft has %u tokens, the model %u",
                      tn_tokenizer_size(b), tn_tokenizer_size(a));
  for (uint32_t i = 0; a && b && i < tn_tokenizer_size(a); i++)
    if (!tn_str_eq(tn_tokenizer_token(a, (int32_t)i), tn_tokenizer_token(b, (int32_t)i)))
      return tn_rt_fail(g->s, TN_INVALID, "speculation: token %u is '%s' for the draft, '%s' for the model",
                        i, tn_tokenizer_token(b, (int32_t)i).ptr, tn_tokenizer_token(a, (int32_t)i).ptr);
  return TN_OK;
}

tn_status tn_spec_open(tn_spec *sp, tn_gen *g) {
  tn_session *d = g->o.draft;
  if (!g->scorer.stateful || !g->scorer.entries[TN_SCORER_LOGITS])
    return tn_rt_fail(g->s, TN_UNSUPPORTED,
                      "speculation needs a model with states and the entry 'logits'; this one has %s",
                      g->scorer.stateful ? "no such entry" : "no states");
  TN_TRY(check_states(g->s));
  if (d) {
    TN_TRY(check_draft(g, d));
    tn_status s = tn_scorer_open(&sp->draft, d);
    if (!s && !sp->draft.stateful) s = tn_rt_fail(d, TN_UNSUPPORTED, "a draft needs states");
    if (!s) s = check_states(d);
    if (s) return tn_rt_fail(g->s, s, "draft: %s", d->error);
  }
  sp->on = true;
  return TN_OK;
}

void tn_spec_close(tn_spec *sp) { tn_scorer_close(&sp->draft); }

int64_t tn_spec_position(const tn_spec *sp, const tn_gen *g) {
  return sp->rows ? sp->base + 1 + sp->at : g->s->position;
}

tn_status tn_spec_settle(tn_spec *sp, tn_gen *g) {
  tn_session *d = sp->draft.s;
  int64_t position = tn_spec_position(sp, g);
  if (position < g->s->position) TN_TRY(tn_rt_rewind(g->s, position));
  if (d && d->position > position) {
    tn_status s = tn_rt_rewind(d, position);
    if (s) return tn_rt_fail(g->s, s, "draft: %s", d->error);
  }
  sp->rows = NULL;
  sp->n = sp->at = 0;
  return TN_OK;
}

/* What followed the last n tokens when they were there before, the longest n and the latest place first. */
static uint32_t guess_ngram(const tn_sequence *q, uint32_t ngram, uint32_t want, int32_t *out) {
  const int32_t *t = q->tokens.items;
  uint32_t count = q->tokens.count;
  for (uint32_t n = ngram < count ? ngram : count - 1; n > 0; n--)
    for (uint32_t at = count - n; at-- > 0;) {
      if (memcmp(t + at, t + count - n, n * sizeof *t)) continue;
      uint32_t k = 0;
      /* A repeat that reaches the end goes on with itself. */
      for (uint32_t from = at + n; k < want; k++, from++) out[k] = from < count ? t[from] : out[from - count];
      return k;
    }
  return 0;
}

static int32_t best_of(const float *row, uint64_t n) {
  uint64_t best = 0;
  for (uint64_t i = 1; i < n; i++)
    if (row[i] > row[best]) best = i;
  return (int32_t)best;
}

/* The draft's own greedy continuation, after it has read what came out since. Its states hold the same tokens
 * as the model's, maybe fewer. */
static tn_status guess_draft(tn_spec *sp, tn_gen *g, const tn_sequence *q, uint32_t want, uint32_t *n) {
  tn_session *d = sp->draft.s;
  /* The newest token is not in the model's states yet. */
  int64_t fresh = g->s->position + 1 - d->position, room = d->capacity - d->position - fresh;
  const float *row;
  *n = 0;
  if (room < 0) return TN_OK;
  tn_status s = tn_scorer_feed(&sp->draft, q->tokens.items, q->tokens.count, (uint64_t)fresh, &row);
  while (!s) {
    if (sp->draft.vocab != g->scorer.vocab)
      return tn_rt_fail(g->s, TN_INVALID, "speculation: the draft scores %llu tokens, the model %llu",
                        (unsigned long long)sp->draft.vocab, (unsigned long long)g->scorer.vocab);
    sp->ids[1 + *n] = best_of(row, sp->draft.vocab);
    if (++*n >= want || room-- <= 0) break;
    s = tn_scorer_feed(&sp->draft, sp->ids + 1, *n, 1, &row);
  }
  return s ? tn_rt_fail(g->s, s, "draft: %s", d->error) : TN_OK;
}

static tn_status guess(tn_spec *sp, tn_gen *g, const tn_sequence *q, uint32_t *n) {
  int64_t want = g->o.draft_tokens, room = g->s->capacity - g->s->position - 1;
  /* Of max_tokens the last is drawn behind the last guess. */
  int64_t left = (int64_t)g->o.max_tokens - (int64_t)q->result.new_tokens - 1;
  int64_t limit = g->scorer.limit[TN_SCORER_LOGITS] - 1;
  if (want > room) want = room;
  if (want > left) want = left;
  if (want > limit) want = limit;
  *n = 0;
  if (want <= 0) return TN_OK;
  if (sp->draft.s) return guess_draft(sp, g, q, (uint32_t)want, n);
  *n = guess_ngram(q, g->o.draft_ngram ? g->o.draft_ngram : TN_SPEC_NGRAM, (uint32_t)want, sp->ids + 1);
  return TN_OK;
}

tn_status tn_spec_row(tn_spec *sp, tn_gen *g, tn_sequence *q, const float **row) {
  int32_t token = q->tokens.items[q->tokens.count - 1];
  if (sp->rows && sp->at < sp->n && sp->ids[1 + sp->at] == token) {
    sp->at++;
    q->result.accepted++;
    *row = sp->rows + sp->at * g->scorer.vocab;
    return TN_OK;
  }
  TN_TRY(tn_spec_settle(sp, g));
  TN_TRY(guess(sp, g, q, &sp->n));
  q->result.drafted += sp->n;
  if (!sp->n) return tn_scorer_feed(&g->scorer, q->tokens.items, q->tokens.count, 1, row);
  sp->base = g->s->position;
  sp->ids[0] = token;
  TN_TRY(tn_scorer_rows(&g->scorer, sp->ids, 1 + (uint64_t)sp->n, &sp->rows));
  *row = sp->rows;
  return TN_OK;
}
