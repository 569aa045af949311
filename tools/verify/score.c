/* score.c - reads a text through one model or two, window by window, and scores every token. */
#include "tools/verify/score.h"
#include <math.h>
#include <stdlib.h>

enum { PIECE = 64 /* tokens per call whose scores are wanted */, READ = 256 /* not wanted */ };

/* A model as it reads one window. */
typedef struct reader {
  tn_opened *o;
  tn_session *s;
  int logits, next; /* entries; next -1: none */
  int64_t vocab;
  float *rows; /* [room, vocab]: of tokens first .. first + count of the window */
  int64_t room, first, count;
} reader;

typedef struct measure {
  const tn_score_options *o;
  tn_diags *d;
  reader model, base; /* base.o NULL: none */
  int32_t *ids, *window;
  int64_t n, context, stride, chunks;
  int32_t bos; /* -1: the tokenizer adds none */
  double nll, nll2, base_nll;
  int64_t scored, agree;
  double kl, dp, dp2;
  float *kls; /* per scored token */
} measure;

/* ---- reading ------------------------------------------------------------------------------------------- */

static tn_status failed(measure *m, reader *r, tn_status s) {
  return tn_fail(m->d, s, NULL, NULL, "%s", r->o->api->error(r->s));
}

static tn_status open_reader(measure *m, tn_opened *o, reader *r) {
  char error[256] = "";
  tn_session_options so = {.size = sizeof so,
                           .threads = m->o->threads,
                           .capacity = m->context,
                           .device = o->jit.device ? o->device : NULL,
                           .error = error,
                           .error_size = sizeof error};
  *r = (reader){.o = o, .logits = tn_opened_entry(o, "logits"), .next = tn_opened_entry(o, "next")};
  if (r->logits < 0)
    return tn_fail(m->d, TN_UNSUPPORTED, NULL, NULL,
                   "the model has no entry 'logits', which scoring a text needs");
  tn_status s = o->api->session_new(o->model, &so, &r->s);
  return s ? tn_fail(m->d, s, NULL, NULL, "cannot open a session: %s", error) : TN_OK;
}

static void close_reader(reader *r) {
  if (r->s) r->o->api->session_free(r->s);
  free(r->rows);
}

/* Runs tokens from .. from + n of the window; their scores, or the last one's, are then in r->rows. */
static tn_status run(measure *m, reader *r, int entry, int64_t from, int64_t n) {
  tn_tensor in = {m->window + from, TN_DT_i32, 2, {1, n}}, out;
  tn_status s = r->o->api->shapes(r->s, (uint32_t)entry, &in, &out);
  if (s) return failed(m, r, s);
  r->vocab = out.shape[out.rank - 1];
  int64_t rows = out.rank == 3 ? out.shape[1] : 1;
  if (rows > r->room) {
    free(r->rows);
    r->rows = malloc((size_t)rows * (size_t)r->vocab * sizeof *r->rows);
    r->room = r->rows ? rows : 0;
    if (!r->rows)
      return tn_fail(m->d, TN_OOM, NULL, NULL, "no memory for %lld rows of scores", (long long)rows);
  }
  out.data = r->rows;
  r->first = from;
  r->count = rows;
  s = r->o->api->invoke(r->s, (uint32_t)entry, &in, &out);
  return s ? failed(m, r, s) : TN_OK;
}

/* Reads the window up to `first` without looking, where the model can go on from there. */
static tn_status skip(measure *m, reader *r, int64_t first) {
  tn_status s = r->o->api->session_reset(r->s);
  if (s) return failed(m, r, s);
  for (int64_t at = 0, n; at < first; at += n) {
    n = first - at < READ ? first - at : READ;
    TN_TRY(run(m, r, r->next >= 0 ? r->next : r->logits, at, n));
    if (!r->o->api->position(r->s)) return TN_OK; /* no states: everything is read at once */
  }
  return TN_OK;
}

/* Makes the scores behind token `at` of a window of n tokens the ones that r->rows has. */
static tn_status reach(measure *m, reader *r, int64_t at, int64_t n) {
  if (r->count > 0 && at >= r->first && at < r->first + r->count) return TN_OK;
  bool states = r->o->api->position(r->s) > 0 || at == 0;
  int64_t end = at + PIECE < n ? at + PIECE : n;
  if (states) {
    TN_TRY(run(m, r, r->logits, at, end - at));
    if (r->o->api->position(r->s)) return TN_OK;
  }
  return run(m, r, r->logits, 0, n);
}

/* ---- scoring ------------------------------------------------------------------------------------------- */

typedef struct softmax {
  const float *row;
  double log_total; /* log of the sum of exp */
  int64_t best;
} softmax;

static softmax softmax_of(const float *row, int64_t n) {
  softmax x = {row, 0, 0};
  double total = 0;
  for (int64_t i = 1; i < n; i++)
    if (row[i] > row[x.best]) x.best = i;
  for (int64_t i = 0; i < n; i++) total += exp((double)row[i] - (double)row[x.best]);
  x.log_total = (double)x.row[x.best] + log(total);
  return x;
}

/* Kullback-Leibler divergence of the model from the base at one position. */
static double divergence(const softmax *base, const softmax *model, int64_t vocab) {
  double sum = 0;
  for (int64_t i = 0; i < vocab; i++) {
    double lp = (double)base->row[i] - base->log_total, lq = (double)model->row[i] - model->log_total;
    double p = exp(lp);
    if (p > 0) sum += p * (lp - lq);
  }
  return sum;
}

double tn_score_kl(const float *p, const float *q, int64_t n, bool *same_top) {
  softmax base = softmax_of(p, n), model = softmax_of(q, n);
  *same_top = base.best == model.best;
  return divergence(&base, &model, n);
}

static softmax scores_at(const reader *r, int64_t at) {
  return softmax_of(r->rows + (at - r->first) * r->vocab, r->vocab);
}

static tn_status score(measure *m, int64_t at, int32_t target) {
  softmax q = scores_at(&m->model, at);
  if (target < 0 || target >= m->model.vocab)
    return tn_fail(m->d, TN_INVALID, NULL, NULL, "token %d, the model scores %lld", target,
                   (long long)m->model.vocab);
  double nll = q.log_total - (double)q.row[target];
  m->nll += nll;
  m->nll2 += nll * nll;
  if (m->base.o) {
    if (m->base.vocab != m->model.vocab)
      return tn_fail(m->d, TN_INVALID, NULL, NULL, "the base scores %lld tokens, the model %lld",
                     (long long)m->base.vocab, (long long)m->model.vocab);
    softmax p = scores_at(&m->base, at);
    double kl = divergence(&p, &q, m->model.vocab), base = p.log_total - (double)p.row[target];
    double dp = exp(-nll) - exp(-base);
    m->base_nll += base;
    m->kl += kl;
    m->dp += dp;
    m->dp2 += dp * dp;
    m->agree += p.best == q.best;
    m->kls[m->scored] = (float)kl;
  }
  m->scored++;
  return isfinite(nll) ? TN_OK
                       : tn_fail(m->d, TN_INTERNAL, NULL, NULL,
                                 "the scores of token %lld are not finite numbers", (long long)m->scored);
}

/* Reads ids[from .. from + n) and scores those from .. + first + 1 and behind. */
static tn_status read_window(measure *m, int64_t from, int64_t n, int64_t first, bool replace) {
  memcpy(m->window, m->ids + from, (size_t)n * sizeof *m->window);
  if (replace && m->bos >= 0) m->window[0] = m->bos;
  reader *readers[] = {&m->model, &m->base};
  for (int k = 0; k < 2; k++) {
    if (!readers[k]->o) continue;
    TN_TRY(skip(m, readers[k], first));
    readers[k]->count = 0;
  }
  for (int64_t at = first; at + 1 < n; at++) {
    for (int k = 0; k < 2; k++)
      if (readers[k]->o) TN_TRY(reach(m, readers[k], at, n));
    TN_TRY(score(m, at, m->ids[from + at + 1]));
  }
  return TN_OK;
}

static void progress(const measure *m, int64_t i, int64_t n) {
  if (!m->o->progress) return;
  fprintf(stderr, "\r%lld of %lld: %.4f ", (long long)i, (long long)n, exp(m->nll / (double)m->scored));
  if (i == n) fputc('\n', stderr);
}

static tn_status read_chunks(measure *m) {
  int64_t n = m->n / m->context;
  if (m->n < 2 * m->context)
    return tn_fail(m->d, TN_INVALID, NULL, NULL,
                   "the text has %lld tokens, the method needs %lld: two chunks of %lld; use -c, or --stride",
                   (long long)m->n, (long long)(2 * m->context), (long long)m->context);
  if (m->chunks && m->chunks < n) n = m->chunks;
  for (int64_t i = 0; i < n; i++) {
    TN_TRY(read_window(m, i * m->context, m->context, m->context / 2, true));
    progress(m, i + 1, n);
  }
  return TN_OK;
}

static tn_status slide(measure *m) {
  int64_t n = m->n > m->context ? (m->n - m->context + m->stride - 1) / m->stride + 1 : 1, end = 1;
  if (m->stride > m->context)
    return tn_fail(m->d, TN_INVALID, NULL, NULL, "--stride %lld is more than the context of %lld",
                   (long long)m->stride, (long long)m->context);
  if (m->chunks && m->chunks < n) n = m->chunks;
  for (int64_t i = 0; i < n; i++) {
    int64_t from = i * m->stride, len = m->n - from < m->context ? m->n - from : m->context;
    int64_t first = end - from - 1 > 0 ? end - from - 1 : 0;
    TN_TRY(read_window(m, from, len, first, false));
    end = from + len;
    progress(m, i + 1, n);
  }
  return m->scored ? TN_OK
                   : tn_fail(m->d, TN_INVALID, NULL, NULL, "the text has %lld tokens", (long long)m->n);
}

/* ---- the text ------------------------------------------------------------------------------------------ */

static tn_status tokenize(measure *m, reader *r, tn_str text, int32_t **ids, int64_t *n) {
  uint64_t room = text.len / 2 + 64, count = room;
  tn_status s = TN_OK;
  *ids = NULL;
  for (int i = 0; i < 2; i++) {
    free(*ids);
    *ids = malloc(room * sizeof **ids);
    if (!*ids)
      return tn_fail(m->d, TN_OOM, NULL, NULL, "no memory for %llu tokens", (unsigned long long)room);
    count = room;
    s = r->o->api->tokenize(r->s, text.ptr, text.len, NULL, 0, 0, *ids, NULL, &count);
    if (s == TN_OK || count <= room) break;
    room = count;
  }
  *n = (int64_t)count;
  return s ? failed(m, r, s) : TN_OK;
}

static tn_status read_text(measure *m, const char *path) {
  tn_file f;
  const char *why;
  int32_t *other = NULL;
  int64_t n = 0;
  tn_status s = tn_file_map(&f, path, &why);
  if (s) return tn_fail(m->d, s, path, NULL, "%s", why);
  tn_str text = {(const char *)f.data, f.size};
  s = tokenize(m, &m->model, TN_STR(""), &other, &n);
  if (!s) m->bos = n ? other[0] : -1;
  free(other), other = NULL;
  if (!s) s = tokenize(m, &m->model, text, &m->ids, &m->n);
  if (!s && m->base.o) {
    s = tokenize(m, &m->base, text, &other, &n);
    if (!s && (n != m->n || memcmp(other, m->ids, (size_t)n * sizeof *other)))
      s = tn_fail(m->d, TN_INVALID, path, NULL,
                  "the text has other tokens in the base: the vocabularies differ");
    free(other);
  }
  tn_file_unmap(&f);
  if (s) return s;
  m->window = malloc((size_t)m->context * sizeof *m->window);
  m->kls = calloc((size_t)m->n + 1, sizeof *m->kls);
  return m->window && m->kls ? TN_OK : TN_OOM;
}

/* ---- results ------------------------------------------------------------------------------------------- */

static int compare(const void *x, const void *y) {
  float a = *(const float *)x, b = *(const float *)y;
  return (a > b) - (a < b);
}

static void compare_scores(measure *m, tn_scores *out) {
  double n = (double)m->scored;
  qsort(m->kls, (size_t)m->scored, sizeof *m->kls, compare);
  const struct {
    double at, *to;
  } parts[] = {{0.5, &out->kl_median}, {0.9, &out->kl_p90}, {0.95, &out->kl_p95}, {0.99, &out->kl_p99}};
  for (size_t i = 0; i < TN_COUNT(parts); i++)
    *parts[i].to = (double)m->kls[(int64_t)(parts[i].at * (n - 1) + 0.5)];
  out->compared = true;
  out->base_perplexity = exp(m->base_nll / n);
  out->kl_mean = m->kl / n;
  out->kl_max = (double)m->kls[m->scored - 1];
  out->same_top = (double)m->agree / n;
  out->mean_dp = m->dp / n;
  out->rms_dp = sqrt(m->dp2 / n);
}

static void summarise(measure *m, tn_scores *out) {
  double n = (double)m->scored, mean = m->nll / n;
  out->tokens = m->n;
  out->scored = m->scored;
  out->context = m->context;
  out->perplexity = exp(mean);
  out->error = m->scored > 1 ? out->perplexity * sqrt(fabs(m->nll2 / n - mean * mean) / (n - 1)) : 0;
  if (m->base.o) compare_scores(m, out);
}

static tn_status measure_text(measure *m, tn_opened *o, tn_opened *base) {
  TN_TRY(open_reader(m, o, &m->model));
  if (base) TN_TRY(open_reader(m, base, &m->base));
  TN_TRY(read_text(m, m->o->text));
  return m->stride ? slide(m) : read_chunks(m);
}

tn_status tn_score_text(const tn_score_options *o, tn_opened *model, tn_opened *base, tn_diags *d,
                        tn_scores *out) {
  double begin = tn_now();
  measure m = {.o = o, .d = d, .stride = o->stride, .chunks = o->chunks};
  *out = (tn_scores){0};
  m.context = o->context;
  if (m.context < 2)
    return tn_fail(d, TN_INVALID, NULL, NULL, "a context of %lld, the least is 2", (long long)m.context);
  tn_status s = measure_text(&m, model, base);
  if (s == TN_OK) summarise(&m, out);
  out->seconds = tn_now() - begin;
  close_reader(&m.model);
  if (m.base.o) close_reader(&m.base);
  free(m.ids), free(m.window), free(m.kls);
  return s;
}
