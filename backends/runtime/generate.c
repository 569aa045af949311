/* generate.c - causal generation over the entry "next" (scores of the last position) or "logits" (of all).
 * With states a token is fed once; without, every step runs over all tokens again. Text comes out per token:
 * the tail of the tokens is decoded with and without the new one and the difference is the text, held back
 * while it ends in the middle of a character. */
#include "backends/runtime/rt.h"
#include <stdlib.h>

enum {
  MAX_TOKENS = 128,  /* when the caller names no number */
  CHUNK_NEXT = 512,  /* tokens per call while the prompt is read */
  CHUNK_LOGITS = 64, /* the same where every token costs a row of scores */
  WINDOW = 6,        /* tokens of the prompt before the first new one, so that spaces come out right */
  MAX_INPUTS = 2,
  MAX_EOS = 64
};

typedef struct tn_gen {
  tn_session *s;
  tn_sampling o;
  const tn_prog_entry *e;
  uint32_t entry;
  int64_t limit; /* most tokens per call */
  bool stateful;
  TN_VEC(int32_t) tokens; /* the prompt and what was generated */
  uint64_t nprompt;
  int32_t *ones; /* mask */
  uint64_t nones;
  float *logits; /* of the last call */
  uint64_t nlogits, vocab;
  const float *last;           /* the last position's row in it */
  float *scores;               /* vocab: a copy to work on */
  tn_rt_candidate *candidates; /* vocab */
  uint8_t *seen;               /* vocab */
  int32_t eos[MAX_EOS];
  uint32_t neos;
  uint64_t window, shown; /* tokens: where the decoded tail begins; whose text was given out */
  tn_buf before, after;   /* its text without and with the newest tokens */
} tn_gen;

static tn_status no_memory(tn_gen *g) { return tn_rt_fail(g->s, TN_OOM, "no memory for generation"); }

/* ---- scores -------------------------------------------------------------------------------------------- */

static tn_status find_entry(tn_gen *g) {
  static const char *const names[] = {"next", "logits"};
  const tn_view *v = &g->s->model->view;
  for (size_t k = 0; k < TN_COUNT(names) && !g->e; k++)
    for (uint32_t i = 0; i < v->nentries && !g->e; i++)
      if (!strcmp(tn_view_str(v, v->entries[i].name), names[k])) g->e = &v->entries[i], g->entry = i;
  if (!g->e)
    return tn_rt_fail(g->s, TN_UNSUPPORTED,
                      "the model has no entry 'next' or 'logits': it does not generate");
  const tn_prog_arg *out = &v->args[g->e->first_output];
  bool next = !strcmp(tn_view_str(v, g->e->name), "next");
  if (g->e->noutputs != 1 || out->dtype != TN_DT_f32 || out->rank != (next ? 2 : 3))
    return tn_rt_fail(g->s, TN_UNSUPPORTED, "entry '%s' does not give f32 scores of one position or of all",
                      names[!next]);
  g->stateful = g->s->model->stateful[g->entry];
  g->limit = !g->stateful ? INT64_MAX : next ? CHUNK_NEXT : CHUNK_LOGITS;
  return TN_OK;
}

/* "ids" and "mask", both [B, S]; S limits a call. */
static tn_status check_inputs(tn_gen *g) {
  const tn_view *v = &g->s->model->view;
  bool ids = false;
  for (uint32_t i = 0; i < g->e->ninputs; i++) {
    const tn_prog_arg *a = &v->args[g->e->first_input + i];
    const char *name = tn_view_str(v, a->name);
    bool is_ids = !strcmp(name, "ids");
    if ((!is_ids && strcmp(name, "mask")) || a->rank != 2 ||
        (a->dtype != TN_DT_i32 && a->dtype != TN_DT_i64) || g->e->ninputs > MAX_INPUTS)
      return tn_rt_fail(g->s, TN_UNSUPPORTED,
                        "input '%s' of entry '%s': generation gives 'ids' and 'mask' only", name,
                        tn_view_str(v, g->e->name));
    const tn_prog_expr *d = &v->exprs[v->scalars[a->shape + 1]];
    if (is_ids && d->kind == TN_DIM_SYM && g->s->model->limits[d->a] < g->limit)
      g->limit = g->s->model->limits[d->a];
    ids |= is_ids;
  }
  return ids ? TN_OK
             : tn_rt_fail(g->s, TN_UNSUPPORTED, "entry '%s' has no input 'ids'", tn_view_str(v, g->e->name));
}

static bool grow(void **p, uint64_t *have, uint64_t need, size_t item) {
  uint64_t bytes;
  if (need <= *have) return true;
  if (!tn_mul_u64(need, item, &bytes)) return false;
  tn_mem_free(*p);
  *p = tn_mem_alloc(bytes);
  *have = *p ? need : 0;
  return *p != NULL;
}

static tn_status set_vocab(tn_gen *g, int64_t vocab) {
  if (g->scores && g->vocab == (uint64_t)vocab) return TN_OK;
  if (vocab < 1 || vocab > INT32_MAX)
    return tn_rt_fail(g->s, TN_INVALID, "%lld scores per token", (long long)vocab);
  g->vocab = (uint64_t)vocab;
  g->scores = tn_mem_alloc(g->vocab * sizeof *g->scores);
  g->candidates = tn_mem_alloc(g->vocab * sizeof *g->candidates);
  g->seen = tn_mem_alloc(g->vocab);
  return g->scores && g->candidates && g->seen ? TN_OK : no_memory(g);
}

/* Runs n tokens; their last position's scores are then in g->last. */
static tn_status run(tn_gen *g, const int32_t *ids, uint64_t n) {
  const tn_view *v = &g->s->model->view;
  tn_tensor in[MAX_INPUTS], out;
  if (g->nones < n) {
    if (!grow((void **)&g->ones, &g->nones, n < CHUNK_NEXT ? CHUNK_NEXT : n + n / 2, sizeof *g->ones))
      return no_memory(g);
    for (uint64_t i = 0; i < g->nones; i++) g->ones[i] = 1;
  }
  for (uint32_t i = 0; i < g->e->ninputs; i++) {
    bool is_ids = !strcmp(tn_view_str(v, v->args[g->e->first_input + i].name), "ids");
    in[i] = (tn_tensor){(void *)(uintptr_t)(is_ids ? ids : g->ones), TN_DT_i32, 2, {1, (int64_t)n}};
  }
  TN_TRY(tn_rt_shapes(g->s, g->entry, in, &out));
  TN_TRY(set_vocab(g, out.shape[out.rank - 1]));
  uint64_t rows = out.rank == 3 ? (uint64_t)out.shape[1] : 1, need;
  if (!rows || !tn_mul_u64(rows, g->vocab, &need) ||
      !grow((void **)&g->logits, &g->nlogits, need, sizeof *g->logits))
    return no_memory(g);
  out.data = g->logits;
  TN_TRY(tn_rt_invoke(g->s, g->entry, in, &out));
  g->last = g->logits + (rows - 1) * g->vocab;
  return TN_OK;
}

/* Brings the model up to the end of g->tokens, of which the last n are new. */
static tn_status feed(tn_gen *g, uint64_t n) {
  if (!g->stateful) return run(g, g->tokens.items, g->tokens.count);
  const int32_t *ids = g->tokens.items + g->tokens.count - n;
  while (n) {
    uint64_t k = n < (uint64_t)g->limit ? n : (uint64_t)g->limit;
    TN_TRY(run(g, ids, k));
    ids += k, n -= k;
  }
  return TN_OK;
}

/* May another token be fed? */
static bool has_room(const tn_gen *g) {
  return g->stateful ? g->s->position < g->s->capacity : (int64_t)g->tokens.count <= g->limit;
}

static tn_status choose(tn_gen *g, uint64_t step, int32_t *token) {
  memcpy(g->scores, g->last, g->vocab * sizeof *g->scores);
  if (g->o.repetition_penalty > 0 && g->o.repetition_penalty != 1)
    tn_rt_penalize(g->scores, g->vocab, g->tokens.items, g->tokens.count, g->o.repetition_penalty, g->seen);
  tn_status status = tn_rt_sample(g->scores, g->vocab, &g->o, step, g->candidates, token);
  if (status)
    return tn_rt_fail(g->s, status, "the scores of token %llu are not finite numbers",
                      (unsigned long long)g->tokens.count);
  if (!tn_vec_push(&g->tokens, *token)) return no_memory(g);
  return TN_OK;
}

/* ---- text ---------------------------------------------------------------------------------------------- */

/* Whether the text ends inside a character: cut short, or with the sign that decoders put for that. */
static bool unfinished(const tn_buf *b) {
  static const char replacement[] = "\xef\xbf\xbd";
  uint64_t bad;
  if (b->len >= 3 && !memcmp(b->text + b->len - 3, replacement, 3)) return true;
  return b->len && !tn_utf8_valid((tn_str){b->text, b->len}, &bad) && b->len - bad < 4;
}

static tn_status decode(tn_gen *g, uint64_t from, uint64_t to, tn_buf *out) {
  out->len = 0;
  tn_status status = tn_tokenizer_decode(g->s->model->tokenizer, g->tokens.items + from, to - from,
                                         TN_DETOKENIZE_SKIP_SPECIAL, out);
  if (status || out->failed)
    return tn_rt_fail(g->s, status ? status : TN_OOM, "token %d has no text", g->tokens.items[to - 1]);
  return TN_OK;
}

/* What the newest token adds; everything that was held back if it is the last. */
static tn_status new_text(tn_gen *g, bool last, tn_str *out) {
  *out = (tn_str){"", 0};
  if (!g->s->model->tokenizer) return TN_OK;
  TN_TRY(decode(g, g->window, g->shown, &g->before));
  TN_TRY(decode(g, g->window, g->tokens.count, &g->after));
  if (g->after.len <= g->before.len || (!last && unfinished(&g->after))) return TN_OK;
  *out = (tn_str){g->after.text + g->before.len, g->after.len - g->before.len};
  g->window = g->shown;
  g->shown = g->tokens.count;
  return TN_OK;
}

/* ---- the loop ------------------------------------------------------------------------------------------ */

static void read_eos(tn_gen *g) {
  const char *p = tn_view_meta(&g->s->model->view, "eos");
  while (p && *p && g->neos < MAX_EOS) {
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

static tn_status begin(tn_gen *g, const int32_t *ids, uint64_t nids) {
  TN_TRY(find_entry(g));
  TN_TRY(check_inputs(g));
  if (!nids) return tn_rt_fail(g->s, TN_INVALID, "no tokens to begin with");
  if (g->s->batch != 1)
    return tn_rt_fail(g->s, TN_INVALID, "generation needs a session for a batch of 1, this one is for %lld",
                      (long long)g->s->batch);
  if (nids > INT32_MAX ||
      !tn_vec_reserve(&g->tokens, (uint32_t)nids + (g->o.max_tokens < 4096 ? g->o.max_tokens : 4096)))
    return no_memory(g);
  memcpy(g->tokens.items, ids, nids * sizeof *ids);
  g->tokens.count = (uint32_t)nids;
  g->nprompt = g->shown = nids;
  g->window = nids > WINDOW ? nids - WINDOW : 0;
  int64_t room = g->stateful ? g->s->capacity - g->s->position : g->limit;
  if ((int64_t)nids > room)
    return tn_rt_fail(g->s, TN_INVALID, "%llu tokens do not fit: there is room for %lld",
                      (unsigned long long)nids, (long long)room);
  read_eos(g);
  return feed(g, nids);
}

static tn_status loop(tn_gen *g, tn_on_token each, void *user) {
  for (uint64_t i = 0; i < g->o.max_tokens; i++) {
    int32_t token;
    tn_str text;
    TN_TRY(choose(g, i, &token));
    bool last = is_eos(g, token) || i + 1 == g->o.max_tokens || !has_room(g);
    TN_TRY(new_text(g, last, &text));
    if (each && each(user, token, text.ptr, text.len)) return TN_CANCELLED;
    if (last) return TN_OK;
    TN_TRY(feed(g, 1));
  }
  return TN_OK;
}

tn_status tn_rt_generate(tn_session *s, const int32_t *ids, uint64_t nids, const tn_sampling *o,
                         tn_on_token each, void *user) {
  tn_gen g = {.s = s};
  if (o) tn_take(&g.o, sizeof g.o, o);
  if (!g.o.max_tokens) g.o.max_tokens = MAX_TOKENS;
  tn_status status = begin(&g, ids, nids);
  if (!status) status = loop(&g, each, user);
  tn_vec_fini(&g.tokens);
  tn_mem_free(g.ones);
  tn_mem_free(g.logits);
  tn_mem_free(g.scores);
  tn_mem_free(g.candidates);
  tn_mem_free(g.seen);
  tn_buf_fini(&g.before);
  tn_buf_fini(&g.after);
  return status;
}
