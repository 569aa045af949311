/* batch.c - several sequences at once. Shorter prompts are padded on the left, so that all share one
 * position; a sequence that has ended goes on being fed, unheard, until the last one has. */
#include "backends/runtime/generate.h"

typedef struct batch {
  tn_gen g;
  tn_sequence *q;
  uint32_t n;
  int64_t rows; /* of a call: the batch of the session */
  uint64_t longest;
  bool ragged;
  int32_t *pads; /* per row */
  int32_t *ids;  /* [rows, width] */
} batch;

static tn_status check(batch *b, const tn_prompt *prompts) {
  tn_session *s = b->g.s;
  if (!b->n || b->n > s->batch)
    return tn_rt_fail(s, TN_INVALID, "%u prompts in a session for a batch of %lld", b->n,
                      (long long)s->batch);
  if (!b->g.scorer.stateful)
    return tn_rt_fail(s, TN_UNSUPPORTED, "generation of a batch needs a model with states");
  if (s->position)
    return tn_rt_fail(s, TN_PRECONDITION, "generation of a batch needs empty states, they hold %lld tokens",
                      (long long)s->position);
  if (b->g.o.draft_tokens)
    return tn_rt_fail(s, TN_UNSUPPORTED, "speculation is for one sequence, not for a batch");
  for (uint32_t i = 0; i < b->n; i++) {
    if (prompts[i].nids > b->longest) b->longest = prompts[i].nids;
    b->ragged |= prompts[i].nids != prompts[0].nids;
  }
  if (b->longest > (uint64_t)s->capacity)
    return tn_rt_fail(s, TN_INVALID, "%llu tokens do not fit: there is room for %lld",
                      (unsigned long long)b->longest, (long long)s->capacity);
  if (b->ragged && !b->g.scorer.entries[TN_SCORER_BATCH])
    return tn_rt_fail(s, TN_UNSUPPORTED,
                      "prompts of different lengths need the entry 'batch', which the model has not");
  if (!b->ragged && !b->g.scorer.entries[TN_SCORER_NEXT])
    return tn_rt_fail(s, TN_UNSUPPORTED, "generation of a batch needs the entry 'next'");
  return TN_OK;
}

static tn_status allocate(batch *b, const tn_prompt *prompts) {
  uint64_t width = b->longest, bytes;
  b->rows = b->g.s->batch;
  b->pads = tn_mem_alloc((uint64_t)b->rows * sizeof *b->pads);
  b->q = tn_mem_alloc(b->n * sizeof *b->q);
  b->ids = tn_mul_u64((uint64_t)b->rows * sizeof *b->ids, width, &bytes) ? tn_mem_alloc(bytes) : NULL;
  if (!b->pads || !b->q || !b->ids) return tn_rt_fail(b->g.s, TN_OOM, "no memory for generation");
  for (uint32_t i = 0; i < b->n; i++) {
    b->pads[i] = (int32_t)(b->longest - prompts[i].nids);
    TN_TRY(tn_sequence_open(&b->g, &b->q[i], i, prompts[i].ids, prompts[i].nids));
  }
  return TN_OK;
}

/* Columns from .. from + width of the padded prompts; rows without a prompt repeat the first. */
static void put_columns(batch *b, uint64_t from, uint64_t width) {
  for (int64_t r = 0; r < b->rows; r++) {
    const tn_sequence *q = &b->q[r < b->n ? r : 0];
    uint64_t pad = b->longest - q->nprompt;
    for (uint64_t k = 0; k < width; k++)
      b->ids[(uint64_t)r * width + k] = from + k < pad ? 0 : q->tokens.items[from + k - pad];
    b->pads[r] = (int32_t)pad;
  }
}

static tn_status feed(batch *b, uint64_t width, const float **rows) {
  return tn_scorer_batch(&b->g.scorer, b->ids, b->ragged ? b->pads : NULL, b->rows, (int64_t)width, rows);
}

static tn_status prefill(batch *b, const float **rows) {
  uint64_t chunk = (uint64_t)b->g.scorer.limit[b->ragged ? TN_SCORER_BATCH : TN_SCORER_NEXT];
  for (uint64_t at = 0, k; at < b->longest; at += k) {
    k = b->longest - at < chunk ? b->longest - at : chunk;
    put_columns(b, at, k);
    TN_TRY(feed(b, k, rows));
  }
  return TN_OK;
}

static tn_status loop(batch *b, const float *rows) {
  for (;;) {
    uint32_t going = 0;
    bool room = tn_scorer_room(&b->g.scorer, 0) > 0;
    for (uint32_t i = 0; i < b->n; i++) {
      tn_sequence *q = &b->q[i];
      if (q->result.finish == TN_FINISH_NONE)
        TN_TRY(tn_sequence_step(&b->g, q, rows + i * b->g.scorer.vocab, room));
      going += q->result.finish == TN_FINISH_NONE;
    }
    if (!going) return TN_OK;
    for (int64_t r = 0; r < b->rows; r++) {
      const tn_sequence *q = &b->q[r < b->n ? r : 0];
      b->ids[r] = q->tokens.items[q->tokens.count - 1];
    }
    TN_TRY(feed(b, 1, &rows));
  }
}

tn_status tn_rt_generate_batch(tn_session *s, const tn_prompt *prompts, uint32_t n, const tn_sampling *o,
                               tn_on_new_token each, void *user) {
  batch b = {.n = n};
  const float *rows = NULL;
  tn_status status = tn_gen_open(&b.g, s, o);
  b.g.on_token = each;
  b.g.user = user;
  if (!status) status = check(&b, prompts);
  if (!status) status = allocate(&b, prompts);
  if (!status) status = prefill(&b, &rows);
  if (!status) status = loop(&b, rows);
  for (uint32_t i = 0; b.q && i < n; i++) {
    tn_sequence_report(&b.g, &b.q[i]);
    tn_sequence_close(&b.g, &b.q[i]);
  }
  tn_mem_free(b.q);
  tn_mem_free(b.pads);
  tn_mem_free(b.ids);
  tn_gen_close(&b.g);
  return status;
}
