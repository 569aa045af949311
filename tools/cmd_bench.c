/* cmd_bench.c - tenon bench: latency of an entry point over shapes, or tokens per second of a causal model;
 * medians and spread, peak memory. Inputs are made here - ids spread over the vocabulary, no padding - or
 * stored. */
#include "tools/reports.h"
#include "tools/stored.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

static const uint8_t bench_options[] = {OPT_batch,  OPT_prompt_len, OPT_tokens,  OPT_runs, OPT_threads,
                                        OPT_entry,  OPT_capacity,   OPT_O0,      OPT_O1,   OPT_O2,
                                        OPT_O3,     OPT_passes,     OPT_backend, OPT_isa,  TN_MODEL_OPTIONS,
                                        OPT_plugin, OPT_profile,    OPT_json,    OPT_help};

enum { MAX_TENSORS = 256 };
typedef struct bench {
  const tn_args *a;
  tn_opened *o;
  tn_diags *d;
  tn_stored stored; /* inputs; path NULL: made here */
  int64_t vocab, runs;
  uint32_t threads, shown;
  bool bad;
} bench;

typedef struct stats {
  double min, p10, median, p90, max;
} stats;

static int compare_double(const void *x, const void *y) {
  double a = *(const double *)x, b = *(const double *)y;
  return (a > b) - (a < b);
}

static stats stats_of(double *t, int64_t n) {
  qsort(t, (size_t)n, sizeof *t, compare_double);
  return (stats){t[0], t[n / 10], t[n / 2], t[n - 1 - n / 10], t[n - 1]};
}

static void row(bench *b, const char *what, int64_t batch, int64_t length, const stats *s, double per_second,
                const char *unit) {
  struct rusage u;
  getrusage(RUSAGE_SELF, &u);
  if (b->a->given[OPT_json]) {
    printf("%s{\"what\": \"%s\", \"batch\": %lld, \"tokens\": %lld, \"threads\": %u, \"runs\": %lld, \"ms\": "
           "{\"min\": %.4f, \"p10\": %.4f, \"median\": %.4f, \"p90\": %.4f, \"max\": %.4f}, "
           "\"per_second\": %.3f, \"unit\": \"%s\", \"peak_memory_bytes\": %lld}",
           b->shown ? ",\n " : "", what, (long long)batch, (long long)length, b->threads, (long long)b->runs,
           s->min * 1e3, s->p10 * 1e3, s->median * 1e3, s->p90 * 1e3, s->max * 1e3, per_second, unit,
           (long long)u.ru_maxrss * 1024);
  } else {
    if (!b->shown)
      printf("%-12s %5s %7s %10s %10s %10s %10s %12s %9s\n", "what", "batch", "tokens", "min ms", "median ms",
             "p90 ms", "max ms", "per second", "peak MB");
    printf("%-12s %5lld %7lld %10.3f %10.3f %10.3f %10.3f %8.1f %s %6.0f\n", what, (long long)batch,
           (long long)length, s->min * 1e3, s->median * 1e3, s->p90 * 1e3, s->max * 1e3, per_second, unit,
           (double)u.ru_maxrss / 1e3);
  }
  b->shown++;
}

/* Integer inputs: "mask" is ones, "types" and "pads" zeros, ids spread over the vocabulary. */
static tn_status make_inputs(bench *b, int entry, uint32_t n, int64_t batch, int64_t length, tn_tensor *in) {
  for (uint32_t i = 0; i < n; i++) {
    tn_arg_info arg;
    b->o->api->input(b->o->model, (uint32_t)entry, i, &arg);
    bool pads = arg.rank == 1 && !strcmp(arg.name, "pads");
    if ((arg.rank != 2 && !pads) || arg.dtype != TN_DT_i32)
      return tn_fail(b->d, TN_UNSUPPORTED, NULL, arg.name,
                     "bench makes only i32 inputs of rank 2, this one is %s %s",
                     tn_ir_dtype_info(arg.dtype)->name, arg.shape);
    int32_t *data = malloc((size_t)(batch * length + 1) * sizeof *data);
    if (!data) return TN_OOM;
    for (int64_t k = 0; k < batch * length; k++)
      data[k] = !strcmp(arg.name, "mask") ? 1
                : pads || !strcmp(arg.name, "types")
                    ? 0
                    : (int32_t)((uint64_t)k * 2654435761u % (uint64_t)b->vocab);
    in[i] = (tn_tensor){data, TN_DT_i32, arg.rank, {batch, length}};
  }
  return TN_OK;
}

static tn_status read_inputs(bench *b, int entry, uint32_t n, tn_tensor *in) {
  for (uint32_t i = 0; i < n; i++) {
    tn_arg_info arg;
    b->o->api->input(b->o->model, (uint32_t)entry, i, &arg);
    TN_TRY(tn_stored_read(&b->stored, arg.name, &in[i], b->d));
  }
  return TN_OK;
}

/* Outputs whose shape only the run makes known stay with the session. */
static void leave_late(bench *b, tn_session *s, int entry, const tn_tensor *in, uint32_t n, tn_tensor *out) {
  tn_tensor early[MAX_TENSORS] = {0};
  if (b->o->api->shapes(s, (uint32_t)entry, in, early) != TN_OK) return;
  for (uint32_t i = 0; i < n; i++)
    for (uint32_t k = 0; k < early[i].rank; k++)
      if (early[i].shape[k] < 0) out[i].data = NULL;
}

static tn_status time_runs(bench *b, tn_session *s, int entry, const tn_tensor *in, const tn_tensor *out,
                           double *times) {
  for (int64_t r = -2; r < b->runs; r++) { /* two runs first that do not count */
    TN_TRY(b->o->api->session_reset(s));
    double begin = tn_now();
    tn_status st = b->o->api->invoke(s, (uint32_t)entry, in, out);
    if (st != TN_OK) return tn_fail(b->d, st, NULL, NULL, "%s", b->o->api->error(s));
    if (r >= 0) times[r] = tn_now() - begin;
  }
  return TN_OK;
}

static tn_status bench_entry(bench *b, int entry, int64_t batch, int64_t length) {
  tn_entry_info info;
  b->o->api->entry(b->o->model, (uint32_t)entry, &info);
  tn_tensor in[MAX_TENSORS] = {0}, out[MAX_TENSORS] = {0};
  tn_session *s = NULL;
  char error[256] = "";
  tn_session_options so = {.size = sizeof so,
                           .error = error,
                           .error_size = sizeof error,
                           .threads = b->threads,
                           .batch = batch,
                           .capacity = tn_args_int(b->a, OPT_capacity, 0, &b->bad)};
  double *times = malloc((size_t)(b->runs + 1) * sizeof *times);
  tn_status st = !times                                                      ? TN_OOM
                 : info.ninputs > MAX_TENSORS || info.noutputs > MAX_TENSORS ? TN_UNSUPPORTED
                 : b->stored.path ? read_inputs(b, entry, info.ninputs, in)
                                  : make_inputs(b, entry, info.ninputs, batch, length, in);
  if (st == TN_OK && (st = b->o->api->session_new(b->o->model, &so, &s)) != TN_OK)
    tn_fail(b->d, st, NULL, NULL, "cannot open a session: %s", error);
  if (st == TN_OK) st = tn_invoke_alloc(b->o, s, entry, in, out, b->d);
  bool profile = st == TN_OK && b->a->given[OPT_profile] && b->o->api == &tn_rt_api;
  if (profile) st = tn_rt_profile(s, true);
  tn_tensor into[MAX_TENSORS];
  memcpy(into, out, sizeof into);
  if (st == TN_OK) leave_late(b, s, entry, in, info.noutputs, into);
  if (st == TN_OK) st = time_runs(b, s, entry, in, into, times);
  if (st == TN_OK) {
    stats t = stats_of(times, b->runs);
    row(b, info.name, batch, length, &t, (double)batch / t.median, "seq/s");
  }
  if (profile && st == TN_OK) st = tn_report_profile(s, stderr);
  for (uint32_t i = 0; i < info.ninputs && i < MAX_TENSORS; i++) free(in[i].data);
  for (uint32_t i = 0; i < info.noutputs && i < MAX_TENSORS; i++) free(out[i].data);
  if (s) b->o->api->session_free(s);
  free(times);
  return st;
}

/* ---- generation
 * --------------------------------------------------------------------------------------------------- */

typedef struct clock_ctx {
  double *at;
  uint32_t n, room;
} clock_ctx;
static tn_status on_token(void *user, int32_t token, const char *text, uint64_t len) {
  clock_ctx *c = user;
  (void)token, (void)text, (void)len;
  if (c->n < c->room) c->at[c->n++] = tn_now();
  return TN_OK;
}

static tn_status bench_generate(bench *b, int64_t length, uint32_t tokens) {
  tn_session *s = NULL;
  char error[256] = "";
  tn_session_options so = {.size = sizeof so,
                           .error = error,
                           .error_size = sizeof error,
                           .threads = b->threads,
                           .batch = 1,
                           .capacity = tn_args_int(b->a, OPT_capacity, 0, &b->bad)};
  clock_ctx c = {malloc((tokens + 1) * sizeof(double)), 0, tokens};
  int32_t *ids = malloc((size_t)(length + 1) * sizeof *ids);
  double *prefill = malloc((size_t)(b->runs + 1) * sizeof *prefill),
         *decode = malloc((size_t)(b->runs + 1) * sizeof *decode);
  tn_status st = !c.at || !ids || !prefill || !decode ? TN_OOM : b->o->api->session_new(b->o->model, &so, &s);
  for (int64_t k = 0; st == TN_OK && k < length; k++)
    ids[k] = (int32_t)((uint64_t)k * 2654435761u % (uint64_t)b->vocab);
  for (int64_t r = -1; st == TN_OK && r < b->runs; r++) {
    c.n = 0;
    tn_sampling o = {.size = sizeof o, .max_tokens = tokens};
    st = b->o->api->session_reset(s);
    double begin = tn_now();
    if (st == TN_OK && (st = b->o->api->generate(s, ids, (uint64_t)length, &o, on_token, &c)) != TN_OK)
      tn_fail(b->d, st, NULL, NULL, "%s", b->o->api->error(s));
    if (r < 0 || c.n < 2) continue;
    prefill[r] = c.at[0] - begin;
    decode[r] = (c.at[c.n - 1] - c.at[0]) / (c.n - 1);
  }
  if (st == TN_OK && c.n < 2)
    st = tn_fail(b->d, TN_INVALID, NULL, NULL, "the model ended after %u tokens; there is nothing to time",
                 c.n);
  if (st == TN_OK) {
    stats p = stats_of(prefill, b->runs), g = stats_of(decode, b->runs);
    row(b, "prefill", 1, length, &p, (double)length / p.median, "tok/s");
    row(b, "decode", 1, (int64_t)c.n, &g, 1 / g.median, "tok/s");
  }
  if (s) b->o->api->session_free(s);
  free(c.at), free(ids), free(prefill), free(decode);
  return st;
}

/* The entry that bench takes when none is named. */
static int default_entry(const tn_opened *o) {
  static const char *const names[] = {"embed",  "classify",  "classify_tokens",
                                      "answer", "fill_mask", "encode"};
  for (size_t i = 0; i < TN_COUNT(names); i++)
    if (tn_opened_entry(o, names[i]) >= 0) return tn_opened_entry(o, names[i]);
  return o->api->entry_count(o->model) ? 0 : -1;
}

static tn_status bench_all(bench *b) {
  int64_t batches[32], lengths[32];
  uint32_t nb = tn_args_list(b->a, OPT_batch, "1", batches, 32),
           nl = tn_args_list(b->a, OPT_prompt_len, "128", lengths, 32);
  uint32_t tokens = (uint32_t)tn_args_int(b->a, OPT_tokens, 64, &b->bad);
  const char *vocab = b->o->api->meta(b->o->model, "vocab");
  b->vocab = vocab ? strtoll(vocab, NULL, 10) : 100;
  if (!nb || !nl || b->bad || !b->runs || b->vocab < 1) return TN_INVALID;
  bool causal = !b->a->last[OPT_entry] && tn_opened_entry(b->o, "next") >= 0;
  int entry = b->a->last[OPT_entry] ? tn_opened_entry(b->o, b->a->last[OPT_entry]) : default_entry(b->o);
  if (entry < 0)
    return tn_fail(b->d, TN_NOT_FOUND, NULL, NULL, "the model has no entry point '%s'",
                   b->a->last[OPT_entry] ? b->a->last[OPT_entry] : "");
  if (b->stored.path) return bench_entry(b, entry, 1, 1);
  for (uint32_t l = 0; l < nl; l++) {
    if (causal) TN_TRY(bench_generate(b, lengths[l], tokens));
    for (uint32_t i = 0; !causal && i < nb; i++) TN_TRY(bench_entry(b, entry, batches[i], lengths[l]));
  }
  return TN_OK;
}

static tn_status bench_model(const tn_args *a, tn_opened *o, tn_diags *d) {
  bench b = {.a = a, .o = o, .d = d};
  b.runs = tn_args_int(a, OPT_runs, 10, &b.bad);
  b.threads = (uint32_t)tn_args_int(a, OPT_threads, 0, &b.bad);
  tn_status s = a->npositional > 1 ? tn_stored_open(&b.stored, a->positional[1], a->positional[0], d) : TN_OK;
  if (a->given[OPT_json]) putchar('[');
  if (s == TN_OK) s = bench_all(&b);
  if (a->given[OPT_json]) puts("]");
  tn_stored_close(&b.stored);
  return s;
}

static int run_bench(const tn_args *a) { return tn_tool_with_model(a, bench_model); }

const tn_command tn_cmd_bench = {
    "bench",
    "measure latency, tokens per second and peak memory",
    "MODEL|libNAME.so [TENSORS] [-b 1,8] [--prompt-tokens 128] [-n 64] [options]",
    "Causal models: prefill of --prompt-tokens, then decoding of -n tokens. "
    "Others: the model's main entry point over\n"
    "all pairs of -b and --prompt-tokens, or on the inputs in TENSORS: a .safetensors "
    "file, or a folder\nof ONNX test data.",
    bench_options,
    TN_COUNT(bench_options),
    1,
    2,
    run_bench};
