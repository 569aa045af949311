/* cmd_bench.c - tenon bench: latency of an entry point over shapes, or tokens per second of a causal model;
 * medians and spread, peak memory. Inputs are made here - ids spread over the vocabulary, no padding - or
 * stored. What was reached of the machine's limits, and launches, come from runs of their own: looking on
 * takes time. */
#include "tools/profile/profile.h"
#include "tools/verify/stored.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

static const uint8_t bench_options[] = {OPT_batch,
                                        OPT_prompt_len,
                                        OPT_tokens,
                                        OPT_runs,
                                        OPT_threads,
                                        OPT_affinity,
                                        OPT_entry,
                                        OPT_capacity,
                                        OPT_O0,
                                        OPT_O1,
                                        OPT_O2,
                                        OPT_O3,
                                        OPT_passes,
                                        OPT_backend,
                                        OPT_isa,
                                        OPT_target,
                                        OPT_require_target,
                                        OPT_device,
                                        TN_MODEL_OPTIONS,
                                        OPT_plugin,
                                        OPT_tuning,
                                        OPT_limits,
                                        OPT_profile,
                                        OPT_trace,
                                        OPT_json,
                                        OPT_verbose,
                                        OPT_help};

enum { MAX_TENSORS = 256 };
typedef struct bench {
  const tn_args *a;
  tn_opened *o;
  tn_diags *d;
  tn_stored stored; /* inputs; path NULL: made here */
  int64_t vocab, runs;
  uint32_t threads, shown;
  tn_rt_use use;            /* of the row that is shown; of models of this process */
  bool bad, looking, quiet; /* looking: there is a profile; quiet: only that is wanted */
  tn_profile *profile;
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

static void json_row(bench *b, const char *what, int64_t batch, int64_t length, const stats *s,
                     double per_second, const char *unit, long peak) {
  printf("%s{\"what\": \"%s\", \"batch\": %lld, \"tokens\": %lld, \"threads\": %u, \"runs\": %lld, \"ms\": "
         "{\"min\": %.4f, \"p10\": %.4f, \"median\": %.4f, \"p90\": %.4f, \"max\": %.4f}, "
         "\"per_second\": %.3f, \"unit\": \"%s\", \"peak_memory_bytes\": %lld",
         b->shown ? ",\n " : "", what, (long long)batch, (long long)length, b->threads, (long long)b->runs,
         s->min * 1e3, s->p10 * 1e3, s->median * 1e3, s->p90 * 1e3, s->max * 1e3, per_second, unit,
         (long long)peak * 1024);
}

static void text_row(bench *b, const char *what, int64_t batch, int64_t length, const stats *s,
                     double per_second, const char *unit, long peak) {
  if (!b->shown)
    printf("%-12s %5s %7s %10s %10s %10s %10s %12s %9s%s\n", "what", "batch", "tokens", "min ms", "median ms",
           "p90 ms", "max ms", "per second", "peak MB", b->looking ? " of limit launches" : "");
  printf("%-12s %5lld %7lld %10.3f %10.3f %10.3f %10.3f %8.1f %s %6.0f", what, (long long)batch,
         (long long)length, s->min * 1e3, s->median * 1e3, s->p90 * 1e3, s->max * 1e3, per_second, unit,
         (double)peak / 1e3);
}

/* What the last call of a model of this process needed, by what for. */
static void json_memory(const tn_rt_use *u) {
  printf(", \"memory\": {\"weights\": %llu, \"states\": %llu, \"arena\": %llu, \"scratch\": %llu, "
         "\"borders\": %llu, \"device\": %llu}",
         (unsigned long long)u->weights, (unsigned long long)u->states, (unsigned long long)u->arena,
         (unsigned long long)u->scratch, (unsigned long long)u->borders, (unsigned long long)u->device);
}

/* The part of the profile that is about the row, over `calls` calls; NULL: none. */
static void row(bench *b, const char *what, int64_t batch, int64_t length, const stats *s, double per_second,
                const char *unit, const tn_profile_part *part, double calls) {
  struct rusage u;
  if (b->quiet) return;
  getrusage(RUSAGE_SELF, &u);
  bool json = b->a->given[OPT_json];
  (json ? json_row : text_row)(b, what, batch, length, s, per_second, unit, u.ru_maxrss);
  b->shown++;
  if (part && calls > 0) {
    tn_profile_row all = tn_profile_sum(part);
    double launches = (double)all.calls / calls, reached = all.bound / calls / s->median;
    if (json)
      printf(", \"launches\": %.2f, \"bytes\": %.0f, \"weight_bytes\": %.0f, \"operations\": %.0f, "
             "\"of_limit\": %.4f",
             launches, all.bytes / calls, all.weights / calls, all.work / calls, reached);
    else
      printf(" %7.1f%% %8.1f", 100 * reached, launches);
  }
  if (json && b->o->module) json_memory(&b->use);
  if (json && part && b->a->given[OPT_profile]) {
    tn_buf text = {0};
    tn_profile_part_json(b->profile, part, &text);
    printf(",\n \"profile\": %s", tn_buf_cstr(&text));
    tn_buf_fini(&text);
  }
  putchar(json ? '}' : '\n');
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

static tn_status run_once(bench *b, tn_session *s, int entry, const tn_tensor *in, const tn_tensor *out,
                          double *seconds) {
  TN_TRY(b->o->api->session_reset(s));
  double begin = tn_now();
  tn_status st = b->o->api->invoke(s, (uint32_t)entry, in, out);
  *seconds = tn_now() - begin;
  return st == TN_OK ? TN_OK : tn_fail(b->d, st, NULL, NULL, "%s", b->o->api->error(s));
}

static tn_status time_runs(bench *b, tn_session *s, int entry, const tn_tensor *in, const tn_tensor *out,
                           double *times) {
  double unused;
  for (int64_t r = -2; r < b->runs; r++) /* two runs first that do not count */
    TN_TRY(run_once(b, s, entry, in, out, r < 0 ? &unused : &times[r]));
  return TN_OK;
}

/* Without --profile one look is enough: launches and bytes are the same every time. */
static int64_t looks(const bench *b) { return tn_profile_asked(b->a) ? b->runs : 1; }

static tn_status look_on(bench *b, tn_session *s, const char *what, int entry, const tn_tensor *in,
                         const tn_tensor *out, int64_t batch, int64_t length) {
  double wall = 0, one;
  TN_TRY(tn_profile_begin(b->profile, s));
  for (int64_t r = 0; r < looks(b); r++, wall += one) TN_TRY(run_once(b, s, entry, in, out, &one));
  TN_TRY(tn_profile_take(b->profile, s, what, batch, length, wall));
  return tn_profile_finish(b->profile);
}

static tn_status bench_session(bench *b, int64_t batch, tn_session **out) {
  char error[256] = "";
  tn_session_options so = {.size = sizeof so,
                           .error = error,
                           .error_size = sizeof error,
                           .threads = b->threads,
                           .cores = b->o->cores,
                           .ncores = b->o->ncores,
                           .device = b->o->device,
                           .batch = batch,
                           .capacity = tn_args_int(b->a, OPT_capacity, 0, &b->bad)};
  tn_status st = b->o->api->session_new(b->o->model, &so, out);
  return st == TN_OK ? TN_OK : tn_fail(b->d, st, NULL, NULL, "cannot open a session: %s", error);
}

static tn_status bench_entry(bench *b, int entry, int64_t batch, int64_t length) {
  tn_entry_info info;
  b->o->api->entry(b->o->model, (uint32_t)entry, &info);
  tn_tensor in[MAX_TENSORS] = {0}, out[MAX_TENSORS] = {0};
  tn_session *s = NULL;
  double *times = malloc((size_t)(b->runs + 1) * sizeof *times);
  tn_status st = !times                                                      ? TN_OOM
                 : info.ninputs > MAX_TENSORS || info.noutputs > MAX_TENSORS ? TN_UNSUPPORTED
                 : b->stored.path ? read_inputs(b, entry, info.ninputs, in)
                                  : make_inputs(b, entry, info.ninputs, batch, length, in);
  if (st == TN_OK) st = bench_session(b, batch, &s);
  if (st == TN_OK) st = tn_invoke_alloc(b->o, s, entry, in, out, b->d);
  tn_tensor into[MAX_TENSORS];
  memcpy(into, out, sizeof into);
  if (st == TN_OK) leave_late(b, s, entry, in, info.noutputs, into);
  if (st == TN_OK) st = time_runs(b, s, entry, in, into, times);
  if (st == TN_OK && b->looking) st = look_on(b, s, info.name, entry, in, into, batch, length);
  if (st == TN_OK) {
    stats t = stats_of(times, b->runs);
    if (b->o->module) tn_rt_memory_use(s, &b->use);
    row(b, info.name, batch, length, &t, (double)batch / t.median, "seq/s",
        b->looking ? tn_profile_part_of(b->profile, info.name, batch, length) : NULL, (double)looks(b));
  }
  for (uint32_t i = 0; i < info.ninputs && i < MAX_TENSORS; i++) free(in[i].data);
  for (uint32_t i = 0; i < info.noutputs && i < MAX_TENSORS; i++) free(out[i].data);
  if (s) b->o->api->session_free(s);
  free(times);
  return st;
}

/* ---- generation
 * --------------------------------------------------------------------------------------------------- */

/* One run of generation: when tokens came. With a profile, what ran before the first token is taken as
 * prefill, the rest as decode. */
typedef struct generation {
  bench *b;
  tn_session *s;
  int32_t *ids;
  int64_t length;
  uint32_t tokens, n; /* asked for, got */
  bool look;
  double begin, first, decode, last; /* first: token; decode: begins, behind the look at prefill */
  tn_rt_use prefill;
} generation;

static tn_status on_token(void *user, int32_t token, const char *text, uint64_t len) {
  generation *g = user;
  (void)token, (void)text, (void)len;
  double now = tn_now();
  g->n++;
  g->last = now;
  if (g->n > 1) return TN_OK;
  g->first = now;
  if (g->b->o->module) tn_rt_memory_use(g->s, &g->prefill);
  tn_status st =
      g->look ? tn_profile_take(g->b->profile, g->s, "prefill", 1, g->length, now - g->begin) : TN_OK;
  g->decode = tn_now();
  return st;
}

static tn_status generate_once(generation *g) {
  bench *b = g->b;
  tn_sampling o = {.size = sizeof o, .max_tokens = g->tokens};
  g->n = 0;
  tn_status st = b->o->api->session_reset(g->s);
  g->begin = tn_now();
  if (st == TN_OK && (st = b->o->api->generate(g->s, g->ids, (uint64_t)g->length, &o, on_token, g)) != TN_OK)
    tn_fail(b->d, st, NULL, NULL, "%s", b->o->api->error(g->s));
  if (st != TN_OK || g->n > 1) return st;
  return tn_fail(b->d, TN_INVALID, NULL, NULL, "the model ended after %u tokens; there is nothing to time",
                 g->n);
}

static tn_status look_at_generation(generation *g) {
  g->look = true;
  TN_TRY(tn_profile_begin(g->b->profile, g->s));
  for (int64_t r = 0; r < looks(g->b); r++) {
    TN_TRY(generate_once(g));
    TN_TRY(tn_profile_take(g->b->profile, g->s, "decode", 1, g->length, g->last - g->decode));
  }
  return tn_profile_finish(g->b->profile);
}

static tn_status time_generation(generation *g, double *prefill, double *decode) {
  TN_TRY(generate_once(g)); /* does not count */
  for (int64_t r = 0; r < g->b->runs; r++) {
    TN_TRY(generate_once(g));
    prefill[r] = g->first - g->begin;
    decode[r] = (g->last - g->decode) / (g->n - 1);
  }
  return TN_OK;
}

static tn_status bench_generate(bench *b, int64_t length, uint32_t tokens) {
  generation g = {.b = b, .length = length, .tokens = tokens};
  double *prefill = malloc((size_t)(b->runs + 1) * sizeof *prefill),
         *decode = malloc((size_t)(b->runs + 1) * sizeof *decode);
  g.ids = malloc((size_t)(length + 1) * sizeof *g.ids);
  tn_status st = !g.ids || !prefill || !decode ? TN_OOM : bench_session(b, 1, &g.s);
  for (int64_t k = 0; st == TN_OK && k < length; k++)
    g.ids[k] = (int32_t)((uint64_t)k * 2654435761u % (uint64_t)b->vocab);
  if (st == TN_OK) st = time_generation(&g, prefill, decode);
  if (st == TN_OK && b->looking) st = look_at_generation(&g);
  if (st == TN_OK) {
    stats p = stats_of(prefill, b->runs), t = stats_of(decode, b->runs);
    const tn_profile *look = b->looking ? b->profile : NULL;
    b->use = g.prefill;
    row(b, "prefill", 1, length, &p, (double)length / p.median, "tok/s",
        tn_profile_part_of(look, "prefill", 1, length), (double)looks(b));
    if (b->o->module) tn_rt_memory_use(g.s, &b->use);
    row(b, "decode", 1, (int64_t)g.n, &t, 1 / t.median, "tok/s",
        tn_profile_part_of(look, "decode", 1, length), (double)looks(b) * (g.n - 1));
  }
  if (g.s) b->o->api->session_free(g.s);
  free(g.ids), free(prefill), free(decode);
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

/* *entry -1: a causal model, whose generation is timed. */
static tn_status choose_entry(bench *b, int *entry) {
  const char *name = b->a->last[OPT_entry], *vocab = b->o->api->meta(b->o->model, "vocab");
  b->vocab = vocab ? strtoll(vocab, NULL, 10) : 100;
  if (b->vocab < 1) return TN_INVALID;
  *entry = -1;
  if (!name && !b->stored.path && tn_opened_entry(b->o, "next") >= 0) return TN_OK;
  *entry = name ? tn_opened_entry(b->o, name) : default_entry(b->o);
  return *entry >= 0
             ? TN_OK
             : tn_fail(b->d, TN_NOT_FOUND, NULL, NULL, "the model has no entry point '%s'", name ? name : "");
}

static tn_status bench_all(bench *b) {
  int64_t batches[32], lengths[32];
  uint32_t nb = tn_args_list(b->a, OPT_batch, "1", batches, 32),
           nl = tn_args_list(b->a, OPT_prompt_len, "128", lengths, 32);
  uint32_t tokens = (uint32_t)tn_args_int(b->a, OPT_tokens, 64, &b->bad);
  int entry = -1;
  if (!nb || !nl || b->bad || !b->runs) return TN_INVALID;
  TN_TRY(choose_entry(b, &entry));
  if (b->stored.path) return bench_entry(b, entry, 1, 1);
  for (uint32_t l = 0; l < nl; l++) {
    if (entry < 0) TN_TRY(bench_generate(b, lengths[l], tokens));
    for (uint32_t i = 0; entry >= 0 && i < nb; i++) TN_TRY(bench_entry(b, entry, batches[i], lengths[l]));
  }
  return TN_OK;
}

/* As many tokens as the model takes, at most `most`. */
static int64_t tokens_that_fit(const tn_opened *o, int64_t most) {
  const char *limit = o->api->meta(o->model, "max_positions");
  int64_t n = limit ? strtoll(limit, NULL, 10) : most;
  return n > 0 && n < most ? n : most;
}

tn_status tn_bench_profile(const tn_args *a, tn_opened *o, tn_profile *p, tn_diags *d) {
  bench b = {.a = a, .o = o, .d = d, .runs = 5, .looking = true, .quiet = true, .profile = p};
  int entry = -1;
  TN_TRY(choose_entry(&b, &entry));
  if (entry >= 0) return bench_entry(&b, entry, 1, tokens_that_fit(o, 128));
  int64_t room = tokens_that_fit(o, 160);
  return bench_generate(&b, room * 4 / 5, (uint32_t)(room / 5));
}

/* The limits as the first row of a list that goes on, or as text. */
static void show_limits(const tn_args *a, const tn_machine *m, bool alone) {
  tn_buf out = {0};
  if (a->given[OPT_json]) {
    tn_buf_puts(&out, "{\"what\": \"limits\", \"limits\": ");
    tn_machine_json(m, &out);
    tn_buf_puts(&out, "}");
  } else {
    tn_machine_print(m, &out);
  }
  printf("%s%s", tn_buf_cstr(&out), a->given[OPT_json] || alone ? "" : "\n");
  tn_buf_fini(&out);
}

/* A library tells neither its kernels nor their bytes: with --limits only the limits are shown. */
static tn_status open_profile(bench *b) {
  if (!b->a->given[OPT_limits] && !tn_profile_asked(b->a)) return TN_OK;
  tn_machine machine;
  tn_status s = TN_OK;
  b->looking = b->o->module || tn_profile_asked(b->a);
  if (b->looking) {
    s = tn_profile_open(b->profile, b->o, b->threads, b->a->given[OPT_trace], b->d);
    machine = b->profile->machine;
  } else {
    s = tn_machine_measure(b->threads, &machine, b->d);
  }
  if (s == TN_OK && b->a->given[OPT_limits]) {
    show_limits(b->a, &machine, false);
    b->shown += b->a->given[OPT_json];
  }
  return s;
}

static tn_status bench_model(const tn_args *a, tn_opened *o, tn_diags *d) {
  tn_profile profile = {0};
  bench b = {.a = a, .o = o, .d = d, .profile = &profile};
  b.runs = tn_args_int(a, OPT_runs, 10, &b.bad);
  b.threads = (uint32_t)tn_args_int(a, OPT_threads, 0, &b.bad);
  tn_status s = a->npositional > 1 ? tn_stored_open(&b.stored, a->positional[1], a->positional[0], d) : TN_OK;
  if (a->given[OPT_json]) putchar('[');
  if (s == TN_OK && !b.bad) s = open_profile(&b);
  if (s == TN_OK) s = bench_all(&b);
  if (a->given[OPT_json]) puts("]");
  if (s == TN_OK && tn_profile_asked(a)) s = tn_profile_deliver(&profile, a, !a->given[OPT_json]);
  if (b.looking) tn_profile_close(&profile);
  tn_stored_close(&b.stored);
  return s;
}

static tn_status limits_alone(const tn_args *a, tn_driver *driver, tn_module **m) {
  tn_machine machine;
  bool bad = false;
  (void)m;
  uint32_t threads = (uint32_t)tn_args_int(a, OPT_threads, 0, &bad);
  if (bad) return TN_INVALID;
  TN_TRY(tn_machine_measure(threads, &machine, driver->diags));
  if (a->given[OPT_json]) putchar('[');
  show_limits(a, &machine, true);
  if (a->given[OPT_json]) puts("]");
  return TN_OK;
}

static int run_bench(const tn_args *a) {
  if (a->npositional) return tn_tool_with_model(a, bench_model);
  if (a->given[OPT_limits]) return tn_tool_with_driver(a, limits_alone);
  return fputs("tenon: bench needs a model or --limits\n", stderr), 2;
}

const tn_command tn_cmd_bench = {
    "bench",
    "measure latency, tokens per second and peak memory",
    "MODEL|libNAME.so [TENSORS] [-b 1,8] [--prompt-tokens 128] [-n 64] [options]",
    "Causal models: prefill of --prompt-tokens, then decoding of -n tokens. "
    "Others: the model's main entry point over\n"
    "all pairs of -b and --prompt-tokens, or on the inputs in TENSORS: a .safetensors "
    "file, or a folder\nof ONNX test data. --limits alone measures the machine.",
    bench_options,
    TN_COUNT(bench_options),
    0,
    2,
    run_bench};
