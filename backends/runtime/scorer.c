/* scorer.c - the model as something that gives each token's scores. Entries: "next" (the last position),
 * "logits" (all), "batch" (several sequences, padded on the left). With states a token is fed once; without,
 * every step runs over all tokens again. */
#include "backends/runtime/generate.h"

enum {
  CHUNK_NEXT = 512,  /* tokens per call while the prompt is read */
  CHUNK_LOGITS = 64, /* the same where every token costs a row of scores */
  MAX_INPUTS = 2
};

static const struct {
  const char *name, *extra; /* the input besides "ids" that is filled in */
  uint32_t rank;            /* of the scores */
  int64_t chunk;
} faces[TN_SCORER_ENTRIES] = {
    {"next", "mask", 2, CHUNK_NEXT}, {"logits", "mask", 3, CHUNK_LOGITS}, {"batch", "pads", 2, CHUNK_NEXT}};

static const tn_view *view_of(const tn_scorer *sc) { return &sc->s->model->view; }

static void find(tn_scorer *sc, uint32_t which) {
  const tn_view *v = view_of(sc);
  for (uint32_t i = 0; i < v->head->npublic && !sc->entries[which]; i++)
    if (!strcmp(tn_view_str(v, v->entries[i].name), faces[which].name))
      sc->entries[which] = &v->entries[i], sc->index[which] = i;
}

/* "ids" [B, S] and at most one more input; S limits a call. */
static tn_status check_inputs(tn_scorer *sc, uint32_t which) {
  const tn_view *v = view_of(sc);
  const tn_prog_entry *e = sc->entries[which];
  bool ids = false;
  for (uint32_t i = 0; i < e->ninputs; i++) {
    const tn_prog_arg *a = &v->args[e->first_input + i];
    const char *name = tn_view_str(v, a->name);
    bool is_ids = !strcmp(name, "ids");
    if ((!is_ids && strcmp(name, faces[which].extra)) || (a->dtype != TN_DT_i32 && a->dtype != TN_DT_i64) ||
        a->rank != (which == TN_SCORER_BATCH && !is_ids ? 1 : 2) || e->ninputs > MAX_INPUTS)
      return tn_rt_fail(sc->s, TN_UNSUPPORTED,
                        "input '%s' of entry '%s': generation gives 'ids' and '%s' only", name,
                        faces[which].name, faces[which].extra);
    if (!is_ids) continue;
    ids = true;
    const tn_prog_expr *d = &v->exprs[v->scalars[a->shape + 1]];
    if (d->kind == TN_DIM_SYM && sc->s->model->limits[d->a] < sc->limit[which])
      sc->limit[which] = sc->s->model->limits[d->a];
  }
  return ids ? TN_OK : tn_rt_fail(sc->s, TN_UNSUPPORTED, "entry '%s' has no input 'ids'", faces[which].name);
}

static tn_status check_entry(tn_scorer *sc, uint32_t which) {
  const tn_prog_entry *e = sc->entries[which];
  const tn_prog_arg *out = &view_of(sc)->args[e->first_output];
  if (e->noutputs != 1 || out->dtype != TN_DT_f32 || out->rank != faces[which].rank)
    return tn_rt_fail(sc->s, TN_UNSUPPORTED, "entry '%s' does not give f32 scores of one position or of all",
                      faces[which].name);
  sc->limit[which] = sc->stateful ? faces[which].chunk : INT64_MAX;
  return check_inputs(sc, which);
}

tn_status tn_scorer_open(tn_scorer *sc, tn_session *s) {
  *sc = (tn_scorer){.s = s};
  for (uint32_t i = 0; i < TN_SCORER_ENTRIES; i++) find(sc, i);
  sc->main = sc->entries[TN_SCORER_NEXT] ? TN_SCORER_NEXT : TN_SCORER_LOGITS;
  if (!sc->entries[sc->main])
    return tn_rt_fail(s, TN_UNSUPPORTED, "the model has no entry 'next' or 'logits': it does not generate");
  sc->stateful = s->model->stateful[sc->index[sc->main]];
  for (uint32_t i = 0; i < TN_SCORER_ENTRIES; i++)
    if (sc->entries[i] && (i == sc->main || s->model->stateful[sc->index[i]]))
      TN_TRY(check_entry(sc, i));
    else
      sc->entries[i] = NULL;
  return TN_OK;
}

void tn_scorer_close(tn_scorer *sc) {
  tn_mem_free(sc->ones);
  tn_mem_free(sc->scores);
}

int64_t tn_scorer_room(const tn_scorer *sc, uint64_t ntokens) {
  return sc->stateful ? sc->s->capacity - sc->s->position : sc->limit[sc->main] - (int64_t)ntokens;
}

static tn_status grow(tn_scorer *sc, void **p, uint64_t *have, uint64_t need, size_t item) {
  uint64_t bytes;
  if (need <= *have) return TN_OK;
  tn_mem_free(*p);
  *p = tn_mul_u64(need, item, &bytes) ? tn_mem_alloc(bytes) : NULL;
  *have = *p ? need : 0;
  return *p ? TN_OK : tn_rt_fail(sc->s, TN_OOM, "no memory for generation");
}

static tn_status set_ones(tn_scorer *sc, uint64_t n) {
  if (sc->nones >= n) return TN_OK;
  TN_TRY(grow(sc, (void **)&sc->ones, &sc->nones, n < CHUNK_NEXT ? CHUNK_NEXT : n + n / 2, sizeof *sc->ones));
  for (uint64_t i = 0; i < sc->nones; i++) sc->ones[i] = 1;
  return TN_OK;
}

/* Runs [batch, n] tokens; all rows of scores are then in sc->scores, `rows` of them. */
static tn_status run(tn_scorer *sc, uint32_t which, const int32_t *ids, const int32_t *pads, int64_t batch,
                     int64_t n, uint64_t *rows) {
  const tn_view *v = view_of(sc);
  const tn_prog_entry *e = sc->entries[which];
  tn_tensor in[MAX_INPUTS], out;
  if (!pads) TN_TRY(set_ones(sc, (uint64_t)(batch * n)));
  for (uint32_t i = 0; i < e->ninputs; i++) {
    bool is_ids = !strcmp(tn_view_str(v, v->args[e->first_input + i].name), "ids");
    const int32_t *data = is_ids ? ids : pads ? pads : sc->ones;
    in[i] = (tn_tensor){(void *)(uintptr_t)data, TN_DT_i32, 2, {batch, n}};
    if (!is_ids && pads) in[i].rank = 1;
  }
  TN_TRY(tn_rt_shapes(sc->s, sc->index[which], in, &out));
  int64_t vocab = out.shape[out.rank - 1];
  uint64_t need;
  if (vocab < 1 || vocab > INT32_MAX)
    return tn_rt_fail(sc->s, TN_INVALID, "%lld scores per token", (long long)vocab);
  *rows = (uint64_t)out.shape[0] * (out.rank == 3 ? (uint64_t)out.shape[1] : 1);
  sc->vocab = (uint64_t)vocab;
  if (!*rows || !tn_mul_u64(*rows, sc->vocab, &need)) need = UINT64_MAX;
  TN_TRY(grow(sc, (void **)&sc->scores, &sc->nscores, need, sizeof *sc->scores));
  out.data = sc->scores;
  return tn_rt_invoke(sc->s, sc->index[which], in, &out);
}

tn_status tn_scorer_feed(tn_scorer *sc, const int32_t *tokens, uint64_t n, uint64_t fresh,
                         const float **row) {
  uint64_t rows = 0;
  if (!sc->stateful) fresh = n;
  for (uint64_t k; fresh; fresh -= k) {
    k = fresh < (uint64_t)sc->limit[sc->main] ? fresh : (uint64_t)sc->limit[sc->main];
    TN_TRY(run(sc, sc->main, tokens + n - fresh, NULL, 1, (int64_t)k, &rows));
  }
  *row = sc->scores + (rows - 1) * sc->vocab;
  return TN_OK;
}

tn_status tn_scorer_rows(tn_scorer *sc, const int32_t *tokens, uint64_t n, const float **rows) {
  uint64_t count;
  TN_TRY(run(sc, TN_SCORER_LOGITS, tokens, NULL, 1, (int64_t)n, &count));
  *rows = sc->scores;
  return TN_OK;
}

tn_status tn_scorer_batch(tn_scorer *sc, const int32_t *ids, const int32_t *pads, int64_t batch, int64_t n,
                          const float **rows) {
  uint64_t count;
  TN_TRY(run(sc, pads ? TN_SCORER_BATCH : TN_SCORER_NEXT, ids, pads, batch, n, &count));
  *rows = sc->scores;
  return TN_OK;
}
