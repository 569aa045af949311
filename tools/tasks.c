/* tasks.c - the readable tasks of tenon run: text in, an answer in words or JSON out. They use only the
 * public model interface, so they work the same on an artefact and on a model compiled in this process. */
#include "frontend/config/config.h"
#include "tools/profile/profile.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

typedef struct task {
  const tn_args *a;
  tn_opened *o;
  tn_session *s;
  tn_diags *d;
  tn_arena arena;
  tn_json *labels; /* id2label, or NULL */
  tn_sampling_args sampling;
  uint32_t done; /* answers so far */
  bool json, bad;
} task;

enum { MAX_OUTPUTS = 4 };

typedef struct encoded {
  int32_t *ids, *types, *mask;
  uint64_t n;
} encoded;

static tn_status failed(task *t, tn_status s) {
  return tn_fail(t->d, s, NULL, NULL, "%s", t->o->api->error(t->s));
}
static const char *meta(task *t, const char *key) { return t->o->api->meta(t->o->model, key); }

static int64_t meta_int(task *t, const char *key, int64_t fallback) {
  const char *v = meta(t, key);
  return v ? strtoll(v, NULL, 10) : fallback;
}

/* ---- text to ids
 * ------------------------------------------------------------------------------------------------- */

/* Longer texts lose their middle end: the last token (a separator) stays. */
static void truncate_ids(task *t, encoded *e) {
  int64_t limit = meta_int(t, "max_seq_length", meta_int(t, "max_positions", INT32_MAX));
  if (limit < 2 || e->n <= (uint64_t)limit) return;
  tn_diags_add(t->d, TN_WARNING, NULL, 0, 0, NULL, "a text of %llu tokens was cut to %lld",
               (unsigned long long)e->n, (long long)limit);
  e->ids[limit - 1] = e->ids[e->n - 1];
  e->types[limit - 1] = e->types[e->n - 1];
  e->n = (uint64_t)limit;
}

static tn_status encode(task *t, const char *text, const char *pair, uint32_t flags, encoded *e) {
  uint64_t room = strlen(text) + (pair ? strlen(pair) : 0) + 16;
  e->ids = tn_arena_alloc(&t->arena, room * sizeof *e->ids);
  e->types = tn_arena_alloc(&t->arena, room * sizeof *e->types);
  e->mask = tn_arena_alloc(&t->arena, room * sizeof *e->mask);
  e->n = room;
  if (!e->ids || !e->types || !e->mask) return TN_OOM;
  tn_status s = t->o->api->tokenize(t->s, text, strlen(text), pair, pair ? strlen(pair) : 0, flags, e->ids,
                                    e->types, &e->n);
  if (s == TN_INVALID && e->n > room) { /* a tokenizer may give more tokens than bytes */
    room = e->n;
    e->ids = tn_arena_alloc(&t->arena, room * sizeof *e->ids);
    e->types = tn_arena_alloc(&t->arena, room * sizeof *e->types);
    e->mask = tn_arena_alloc(&t->arena, room * sizeof *e->mask);
    if (!e->ids || !e->types || !e->mask) return TN_OOM;
    s = t->o->api->tokenize(t->s, text, strlen(text), pair, pair ? strlen(pair) : 0, flags, e->ids, e->types,
                            &e->n);
  }
  if (s != TN_OK) return failed(t, s);
  for (uint64_t i = 0; i < e->n; i++) e->mask[i] = 1;
  return TN_OK;
}

/* By the names of model pages, and those of exporters. */
static int32_t *tokens_of(const encoded *e, const char *input) {
  if (!strcmp(input, "ids") || !strcmp(input, "input_ids")) return e->ids;
  if (!strcmp(input, "mask") || !strcmp(input, "attention_mask")) return e->mask;
  return !strcmp(input, "types") || !strcmp(input, "token_type_ids") ? e->types : NULL;
}

static int64_t *widened(task *t, const int32_t *ids, uint64_t n) {
  int64_t *wide = tn_arena_alloc(&t->arena, (n + 1) * sizeof *wide);
  for (uint64_t i = 0; wide && i < n; i++) wide[i] = ids[i];
  return wide;
}

/* The output that is one vector for the text, where there are others; else the first. */
static uint32_t vector_output(task *t, int entry) {
  tn_entry_info info;
  tn_arg_info arg;
  t->o->api->entry(t->o->model, (uint32_t)entry, &info);
  for (uint32_t i = 0; i < info.noutputs; i++)
    if (t->o->api->output(t->o->model, (uint32_t)entry, i, &arg) == TN_OK &&
        (!strcmp(arg.name, "embedding") || !strcmp(arg.name, "sentence_embedding")))
      return i;
  return 0;
}

/* Runs `entry` on one sequence; which of ids, mask, types it takes is asked. */
static tn_status run_entry(task *t, int entry, const encoded *e, tn_tensor *out, uint32_t *nout) {
  tn_entry_info info;
  tn_tensor in[8] = {0};
  t->o->api->entry(t->o->model, (uint32_t)entry, &info);
  if (info.ninputs > TN_COUNT(in) || info.noutputs > MAX_OUTPUTS)
    return tn_fail(t->d, TN_UNSUPPORTED, NULL, info.name,
                   "%u inputs and %u outputs, a task takes at most %d and %d", info.ninputs, info.noutputs,
                   (int)TN_COUNT(in), MAX_OUTPUTS);
  for (uint32_t i = 0; i < info.ninputs; i++) {
    tn_arg_info arg;
    t->o->api->input(t->o->model, (uint32_t)entry, i, &arg);
    int32_t *data = tokens_of(e, arg.name);
    if (!data || (arg.dtype != TN_DT_i32 && arg.dtype != TN_DT_i64))
      return tn_fail(t->d, TN_UNSUPPORTED, NULL, info.name,
                     "the entry point needs an input '%s' that no text gives; use --entry and --input",
                     arg.name);
    void *given = arg.dtype == TN_DT_i64 ? (void *)widened(t, data, e->n) : data;
    if (!given) return TN_OOM;
    in[i] = (tn_tensor){given, arg.dtype, 2, {1, (int64_t)e->n}};
  }
  *nout = info.noutputs;
  return tn_invoke_alloc(t->o, t->s, entry, in, out, t->d);
}

static void free_outputs(tn_tensor *out, uint32_t n) {
  for (uint32_t i = 0; i < n; i++) free(out[i].data);
}

static tn_status need_entry(task *t, const char *name, const char *what, int *entry) {
  *entry = tn_opened_entry(t->o, name);
  if (*entry < 0)
    return tn_fail(t->d, TN_UNSUPPORTED, NULL, NULL, "the model has no entry point '%s', which %s needs",
                   name, what);
  return TN_OK;
}

/* Text through the entry point of that name; the outputs are freed by free_outputs. */
static tn_status ask(task *t, const char *name, const char *what, const char *text, encoded *e,
                     tn_tensor *out, uint32_t *nout) {
  int entry;
  TN_TRY(need_entry(t, name, what, &entry));
  TN_TRY(encode(t, text, NULL, 0, e));
  truncate_ids(t, e);
  return run_entry(t, entry, e, out, nout);
}

/* ---- answers
 * ------------------------------------------------------------------------------------------------------ */

static void json_pair(const char *key, const char *value) {
  tn_buf b = {0};
  tn_buf_json(&b, tn_str_of(value));
  printf("\"%s\": %s", key, tn_buf_cstr(&b));
  tn_buf_fini(&b);
}

/* Opens the object of one answer. */
static void begin(task *t, const char *text) {
  if (t->json) {
    fputs(t->done ? ",\n {" : "{", stdout);
    json_pair("text", text);
  } else if (t->done || t->a->given[OPT_text] > 1) {
    printf("%s%s\n", t->done ? "\n" : "", text);
  }
  t->done++;
}
static void end(task *t) {
  if (t->json) putchar('}');
}

static const char *label_of(task *t, int64_t i) {
  char key[24];
  snprintf(key, sizeof key, "%lld", (long long)i);
  tn_json *l = t->labels ? tn_json_get(t->labels, key) : NULL;
  if (l && l->kind == TN_JSON_STRING) return tn_arena_str(&t->arena, l->u.s);
  return tn_arena_printf(&t->arena, "LABEL_%s", key);
}

static const char *token_text(task *t, int32_t id) {
  uint64_t n;
  const char *s = t->o->api->token_text(t->s, id, &n);
  return s ? tn_arena_str(&t->arena, (tn_str){s, n}) : "?";
}

/* Softmax in place, or the logistic function for labels that do not exclude each other. */
static void to_probabilities(double *x, int64_t n, bool sigmoid) {
  double top = x[0], sum = 0;
  for (int64_t i = 1; i < n; i++) top = x[i] > top ? x[i] : top;
  for (int64_t i = 0; i < n; i++) sum += x[i] = sigmoid ? 1 / (1 + exp(-x[i])) : exp(x[i] - top);
  for (int64_t i = 0; i < n && !sigmoid; i++) x[i] /= sum;
}

static double *row_of(task *t, const tn_tensor *x, int64_t first, int64_t n) {
  double *r = tn_arena_alloc(&t->arena, (size_t)(n + 1) * sizeof *r);
  for (int64_t i = 0; r && i < n; i++) r[i] = tn_tensor_at(x, first + i);
  return r;
}

/* Prints the `top` best of p[0..n): label(i) and probability. */
static void print_best(task *t, double *p, int64_t n, const char *(*label)(task *, int64_t)) {
  int64_t top = tn_args_int(t->a, OPT_top, 5, &t->bad);
  if (t->json) fputs(", \"scores\": [", stdout);
  for (int64_t k = 0; k < top && k < n; k++) {
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++)
      if (p[i] > p[best]) best = i;
    if (t->json) {
      fputs(k ? ", {" : "{", stdout);
      json_pair("label", label(t, best));
      printf(", \"id\": %lld, \"score\": %.6f}", (long long)best, p[best]);
    } else {
      printf("  %6.2f %%  %s\n", 100 * p[best], label(t, best));
    }
    p[best] = -1;
  }
  if (t->json) putchar(']');
}

/* ---- the tasks
 * ---------------------------------------------------------------------------------------------------- */

static tn_status features(task *t, const char *text) {
  encoded e;
  tn_tensor out[MAX_OUTPUTS];
  uint32_t n = 0;
  const char *entry = tn_opened_entry(t->o, "embed") >= 0 ? "embed" : "encode";
  TN_TRY(ask(t, entry, "feature extraction", text, &e, out, &n));
  const tn_tensor *v = &out[vector_output(t, tn_opened_entry(t->o, entry))];
  begin(t, text);
  int64_t count = tn_tensor_count(v), shown = t->json ? count : count < 8 ? count : 8;
  if (t->json)
    fputs(", \"shape\": [", stdout);
  else
    fputs("  [", stdout);
  for (uint32_t i = 0; i < v->rank; i++) printf("%s%lld", i ? ", " : "", (long long)v->shape[i]);
  fputs(t->json ? "], \"values\": [" : "] ", stdout);
  for (int64_t i = 0; i < shown; i++)
    printf(t->json ? "%s%.9g" : "%s%.5f", i ? ", " : "", tn_tensor_at(v, i));
  puts(t->json ? "]" : shown < count ? ", ..." : "");
  end(t);
  free_outputs(out, n);
  return TN_OK;
}

static tn_status classify(task *t, const char *text) {
  encoded e;
  tn_tensor out[MAX_OUTPUTS];
  uint32_t n = 0;
  TN_TRY(ask(t, "classify", "text classification", text, &e, out, &n));
  int64_t labels = tn_tensor_count(&out[0]);
  const char *problem = meta(t, "problem_type");
  double *p = row_of(t, &out[0], 0, labels);
  free_outputs(out, n);
  if (!p) return TN_OOM;
  to_probabilities(p, labels, (problem && !strcmp(problem, "multi_label_classification")) || labels == 1);
  begin(t, text);
  print_best(t, p, labels, label_of);
  end(t);
  return TN_OK;
}

static tn_status classify_tokens(task *t, const char *text) {
  encoded e;
  tn_tensor out[MAX_OUTPUTS];
  uint32_t n = 0;
  TN_TRY(ask(t, "classify_tokens", "token classification", text, &e, out, &n));
  int64_t labels = out[0].shape[out[0].rank - 1];
  begin(t, text);
  if (t->json) fputs(", \"tokens\": [", stdout);
  for (uint64_t i = 0; i < e.n; i++) {
    double *p = row_of(t, &out[0], (int64_t)i * labels, labels);
    if (!p) break;
    to_probabilities(p, labels, false);
    int64_t best = 0;
    for (int64_t k = 1; k < labels; k++) best = p[k] > p[best] ? k : best;
    if (t->json) {
      fputs(i ? ", {" : "{", stdout);
      json_pair("token", token_text(t, e.ids[i]));
      fputs(", ", stdout);
      json_pair("label", label_of(t, best));
      printf(", \"score\": %.6f}", p[best]);
    } else {
      printf("  %-20s %-12s %6.2f %%\n", token_text(t, e.ids[i]), label_of(t, best), 100 * p[best]);
    }
  }
  if (t->json) putchar(']');
  end(t);
  free_outputs(out, n);
  return TN_OK;
}

static const char *vocabulary_label(task *t, int64_t i) { return token_text(t, (int32_t)i); }

static tn_status fill_mask(task *t, const char *text) {
  static const char *const masks[] = {"[MASK]", "<mask>"};
  encoded e;
  tn_tensor out[MAX_OUTPUTS];
  uint32_t n = 0;
  int entry;
  int32_t mask = -1;
  TN_TRY(need_entry(t, "fill_mask", "mask filling", &entry));
  for (size_t i = 0; i < TN_COUNT(masks) && mask < 0; i++)
    if (t->o->api->token_id(t->s, masks[i], &mask) != TN_OK) mask = -1;
  TN_TRY(encode(t, text, NULL, 0, &e));
  truncate_ids(t, &e);
  uint64_t at = 0;
  while (at < e.n && e.ids[at] != mask) at++;
  if (mask < 0 || at == e.n)
    return tn_fail(t->d, TN_INVALID, NULL, NULL,
                   "the text '%s' has no mask; write [MASK] or <mask>, as the model has it", text);
  TN_TRY(run_entry(t, entry, &e, out, &n));
  int64_t vocab = out[0].shape[out[0].rank - 1];
  double *p = row_of(t, &out[0], (int64_t)at * vocab, vocab);
  free_outputs(out, n);
  if (!p) return TN_OOM;
  to_probabilities(p, vocab, false);
  begin(t, text);
  print_best(t, p, vocab, vocabulary_label);
  end(t);
  return TN_OK;
}

/* The likeliest span of at most 30 tokens inside the context (as in the SQuAD evaluation of Devlin et al.
 * 2019). */
static double best_span(const tn_tensor *start, const tn_tensor *stop, int64_t first, int64_t last,
                        int64_t *a, int64_t *b) {
  double best = -INFINITY;
  for (int64_t i = first; i < last; i++)
    for (int64_t k = i; k < last && k < i + 30; k++) {
      double score = tn_tensor_at(start, i) + tn_tensor_at(stop, k);
      if (score > best) best = score, *a = i, *b = k;
    }
  return best;
}

static tn_status answer(task *t, const char *question) {
  encoded e, context_only;
  tn_tensor out[MAX_OUTPUTS];
  uint32_t n = 0;
  int entry;
  const char *context = t->a->last[OPT_context];
  if (!context) return tn_fail(t->d, TN_INVALID, NULL, NULL, "question answering needs --context TEXT");
  TN_TRY(need_entry(t, "answer", "question answering", &entry));
  TN_TRY(encode(t, question, context, 0, &e));
  TN_TRY(encode(t, context, NULL, TN_TOK_NO_SPECIAL, &context_only));
  TN_TRY(run_entry(t, entry, &e, out, &n));
  int64_t last = (int64_t)e.n - 1, first = last - (int64_t)context_only.n, a = 0, b = -1;
  double score = best_span(&out[0], &out[1], first < 0 ? 0 : first, last, &a, &b);
  free_outputs(out, n);
  uint64_t room = 64 * (uint64_t)(b - a + 1) + 1024;
  char *text = tn_arena_alloc(&t->arena, room + 1);
  if (!text) return TN_OOM;
  tn_status s =
      b < a ? TN_OK
            : t->o->api->detokenize(t->s, e.ids + a, (uint64_t)(b - a + 1), TN_TOK_SKIP_SPECIAL, text, &room);
  if (s != TN_OK) return failed(t, s);
  begin(t, question);
  if (t->json)
    fputs(", ", stdout), json_pair("answer", text),
        printf(", \"score\": %.6g, \"first_token\": %lld, \"last_token\": %lld", score, (long long)a,
               (long long)b);
  else
    printf("  %s\n", text);
  end(t);
  return TN_OK;
}

/* ---- generation
 * --------------------------------------------------------------------------------------------------- */

typedef struct stream {
  task *t;
  tn_buf text, probabilities;
  TN_VEC(int32_t) ids;
  double first, begin;
} stream;

/* {"id": 5, "logprob": -0.1, "top": [{"id": 5, "logprob": -0.1}]} */
static void put_probabilities(stream *s, const tn_new_token *n) {
  tn_buf *b = &s->probabilities;
  tn_buf_printf(b, "%s{\"id\": %d, \"logprob\": %.6f, \"top\": [", b->len ? ", " : "", n->id,
                (double)n->logprob);
  for (uint32_t i = 0; i < n->nalternatives; i++) {
    const tn_alternative *x = &n->alternatives[i];
    tn_buf_printf(b, "%s{\"id\": %d, \"token\": ", i ? ", " : "", x->id);
    tn_buf_json(b, tn_str_of(token_text(s->t, x->id)));
    tn_buf_printf(b, ", \"logprob\": %.6f}", (double)x->logprob);
  }
  tn_buf_puts(b, "]}");
}

static tn_status on_token(void *user, const tn_new_token *n) {
  stream *s = user;
  if (!s->ids.count) s->first = tn_now();
  if (!tn_vec_push(&s->ids, n->id)) return TN_OOM;
  tn_buf_put(&s->text, n->text, n->len);
  if (s->t->json && n->nalternatives) put_probabilities(s, n);
  if (!s->t->json) fwrite(n->text, 1, n->len, stdout), fflush(stdout);
  return s->text.failed || s->probabilities.failed ? TN_OOM : TN_OK;
}

static tn_status parse_ids(task *t, const char *list, encoded *e) {
  e->ids = tn_arena_alloc(&t->arena, (strlen(list) + 1) * sizeof *e->ids);
  e->n = 0;
  if (!e->ids) return TN_OOM;
  for (const char *s = list; *s;) {
    char *stop;
    long id = strtol(s, &stop, 10);
    if (stop == s || id < 0 || id > INT32_MAX || (*stop && *stop != ','))
      return tn_fail(t->d, TN_INVALID, NULL, NULL, "--ids: '%s' is not a list of token ids", list);
    e->ids[e->n++] = (int32_t)id;
    s = *stop ? stop + 1 : stop;
  }
  return TN_OK;
}

static void print_speed(const stream *s, const tn_generation *r, double seconds) {
  double prefill = s->first - s->begin, decode = seconds - prefill;
  fprintf(stderr, "%llu prompt tokens in %.3f s, %u new tokens, %.1f tokens/s, ended by %s\n",
          (unsigned long long)r->prompt_tokens, prefill, s->ids.count,
          s->ids.count > 1 ? (s->ids.count - 1) / decode : 0, tn_finish_name(r->finish));
  if (r->drafted)
    fprintf(stderr, "%llu tokens guessed, %llu of them right\n", (unsigned long long)r->drafted,
            (unsigned long long)r->accepted);
  if (r->masks) fprintf(stderr, "grammar: %.1f us per token\n", 1e6 * r->mask_seconds / (double)r->masks);
}

static void print_generation(task *t, const stream *s, const tn_generation *r, double seconds) {
  if (!t->json) {
    printf("\n");
    if (t->a->given[OPT_verbose] && s->ids.count) print_speed(s, r, seconds);
    return;
  }
  fputs(", \"ids\": [", stdout);
  for (uint32_t i = 0; i < s->ids.count; i++) printf("%s%d", i ? ", " : "", s->ids.items[i]);
  fputs("], ", stdout);
  json_pair("generated", s->text.text ? s->text.text : "");
  fputs(", ", stdout);
  json_pair("finish", tn_finish_name(r->finish));
  if (s->probabilities.len) printf(", \"logprobs\": [%s]", s->probabilities.text);
  if (r->drafted)
    printf(", \"drafted\": %llu, \"accepted\": %llu", (unsigned long long)r->drafted,
           (unsigned long long)r->accepted);
  if (r->masks) printf(", \"mask_us\": %.2f", 1e6 * r->mask_seconds / (double)r->masks);
}

static tn_status generate(task *t, const char *prompt) {
  encoded e;
  if (t->a->last[OPT_ids])
    TN_TRY(parse_ids(t, t->a->last[OPT_ids], &e));
  else
    TN_TRY(encode(t, prompt, NULL, 0, &e));
  if (!e.n) return tn_fail(t->d, TN_INVALID, NULL, NULL, "the prompt is empty");
  TN_TRY(t->o->api->session_reset(t->s));
  if (t->sampling.o.draft) TN_TRY(t->sampling.draft.api->session_reset(t->sampling.o.draft));
  begin(t, prompt);
  if (!t->json) fputs(prompt, stdout), fflush(stdout);
  stream s = {.t = t, .begin = tn_now()};
  t->sampling.o.on_token = on_token;
  tn_status st = t->o->api->generate(t->s, e.ids, e.n, &t->sampling.o, NULL, &s);
  if (st == TN_OK) print_generation(t, &s, &t->sampling.result, tn_now() - s.begin);
  end(t);
  tn_vec_fini(&s.ids);
  tn_buf_fini(&s.text);
  tn_buf_fini(&s.probabilities);
  return st == TN_OK ? TN_OK : failed(t, st);
}

static const struct {
  const char *name;
  tn_status (*run)(task *, const char *);
} tasks[] = {{"feature-extraction", features},  {"sentence-similarity", features},
             {"text-classification", classify}, {"token-classification", classify_tokens},
             {"fill-mask", fill_mask},          {"question-answering", answer},
             {"text-generation", generate}};

/* ---- driving
 * ------------------------------------------------------------------------------------------------------ */

static tn_status each_line(task *t, tn_status (*run)(task *, const char *)) {
  char *line = NULL;
  size_t room = 0;
  tn_status s = TN_OK;
  for (ssize_t n; s == TN_OK && (n = getline(&line, &room, stdin)) > 0;) {
    if (line[n - 1] == '\n') line[n - 1] = 0;
    s = run(t, line);
  }
  free(line);
  return s;
}

static tn_status each_text(task *t, tn_status (*run)(task *, const char *)) {
  if (t->a->last[OPT_ids]) return run(t, "");
  uint32_t n = 0;
  for (uint32_t i = 0; i < t->a->nall; i++) {
    uint32_t o = t->a->all[i].option;
    if (o != OPT_text && o != OPT_prompt) continue;
    n++;
    TN_TRY(!strcmp(t->a->all[i].value, "-") ? each_line(t, run) : run(t, t->a->all[i].value));
  }
  if (n) return TN_OK;
  if (isatty(STDIN_FILENO))
    return tn_fail(t->d, TN_INVALID, NULL, NULL,
                   "no text: give --text TEXT (or -p PROMPT), or pipe lines in");
  return each_line(t, run);
}

tn_status tn_task_run(const tn_args *a, tn_opened *o, tn_diags *d) {
  task t = {.a = a, .o = o, .d = d, .json = a->given[OPT_json]};
  const char *name = a->last[OPT_task] ? a->last[OPT_task] : o->api->meta(o->model, "task");
  tn_status (*run)(task *, const char *) = NULL;
  const char *names[TN_COUNT(tasks)];
  for (size_t i = 0; i < TN_COUNT(tasks); i++) {
    names[i] = tasks[i].name;
    if (name && !strcmp(tasks[i].name, name)) run = tasks[i].run;
  }
  int near = name ? tn_str_nearest(name, names, (int)TN_COUNT(tasks)) : -1;
  if (!run)
    return tn_fail(d, TN_INVALID, NULL, NULL, "unknown task '%s'%s%s; use --task, or --entry with --input",
                   name ? name : "", near >= 0 ? "; did you mean " : "", near >= 0 ? names[near] : "");
  tn_session_options so = {.threads = (uint32_t)tn_args_int(a, OPT_threads, 0, &t.bad),
                           .capacity = tn_args_int(a, OPT_capacity, 0, &t.bad)};
  if (t.bad) return TN_INVALID;
  TN_TRY(run == generate ? tn_sampling_read(a, &so, &t.sampling, d) : TN_OK);
  tn_status s = tn_opened_session(o, &so, &t.s, d);
  if (s != TN_OK) return tn_sampling_free(&t.sampling), s;
  tn_arena_init(&t.arena);
  const char *labels = o->api->meta(o->model, "id2label");
  if (labels) s = tn_json_parse(&t.arena, tn_str_of(labels), "id2label", d, &t.labels);
  tn_profile profile = {0};
  if (s == TN_OK) s = tn_profile_start(&profile, a, o, t.s, so.threads, d);
  if (t.json) putchar('[');
  if (s == TN_OK) s = each_text(&t, run);
  if (t.json) puts("]");
  if (s == TN_OK) s = tn_profile_stop(&profile, a, t.s);
  tn_profile_close(&profile);
  tn_sampling_free(&t.sampling);
  o->api->session_free(t.s);
  tn_arena_fini(&t.arena);
  return s;
}
