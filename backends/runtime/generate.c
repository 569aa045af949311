/* generate.c - causal generation of one sequence. */
#include "backends/runtime/generate.h"

static tn_status begin(tn_gen *g, tn_sequence *q, const int32_t *ids, uint64_t nids, const float **row) {
  if (g->s->batch != 1)
    return tn_rt_fail(g->s, TN_INVALID, "generation needs a session for a batch of 1, this one is for %lld",
                      (long long)g->s->batch);
  TN_TRY(tn_sequence_open(g, q, 0, ids, nids));
  int64_t room = tn_scorer_room(&g->scorer, 0);
  if ((int64_t)nids > room && g->s->position)
    return tn_rt_fail(
        g->s, TN_INVALID, "%llu tokens do not fit: there is room for %lld of %lld, %lld are in the states",
        (unsigned long long)nids, (long long)room, (long long)g->s->capacity, (long long)g->s->position);
  if ((int64_t)nids > room)
    return tn_rt_fail(g->s, TN_INVALID, "%llu tokens do not fit: there is room for %lld",
                      (unsigned long long)nids, (long long)room);
  return tn_scorer_feed(&g->scorer, q->tokens.items, nids, nids, row);
}

/* May another token be fed? */
static bool has_room(const tn_gen *g, const tn_spec *sp, const tn_sequence *q) {
  if (sp->on) return tn_spec_position(sp, g) < g->s->capacity;
  return tn_scorer_room(&g->scorer, g->scorer.stateful ? 0 : q->tokens.count) > 0;
}

static tn_status loop(tn_gen *g, tn_spec *sp, tn_sequence *q, const float *row) {
  for (;;) {
    TN_TRY(tn_sequence_step(g, q, row, has_room(g, sp, q)));
    if (q->result.finish != TN_FINISH_NONE) return TN_OK;
    if (sp->on)
      TN_TRY(tn_spec_row(sp, g, q, &row));
    else
      TN_TRY(tn_scorer_feed(&g->scorer, q->tokens.items, q->tokens.count, 1, &row));
  }
}

tn_status tn_rt_generate(tn_session *s, const int32_t *ids, uint64_t nids, const tn_sampling *o,
                         tn_on_token each, void *user) {
  tn_gen g;
  tn_spec sp = {0};
  tn_sequence q = {0};
  const float *row = NULL;
  tn_status status = tn_gen_open(&g, s, o);
  g.each = each;
  g.user = user;
  if (!status && g.o.draft_tokens) status = tn_spec_open(&sp, &g);
  if (!status) status = begin(&g, &q, ids, nids, &row);
  if (!status) status = loop(&g, &sp, &q, row);
  if (sp.on) {
    tn_status settled = tn_spec_settle(&sp, &g);
    if (!status) status = settled;
  }
  if (status != TN_OK && status != TN_CANCELLED) q.result.finish = TN_FINISH_NONE;
  tn_sequence_report(&g, &q);
  tn_sequence_close(&g, &q);
  tn_spec_close(&sp);
  tn_gen_close(&g);
  return status;
}
