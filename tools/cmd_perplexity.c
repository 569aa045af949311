/* cmd_perplexity.c - tenon perplexity: how well a model predicts a text (tools/verify/score.h). */
#include "tools/tool.h"
#include "tools/verify/score.h"
#include <stdio.h>
#include <unistd.h>

static const uint8_t perplexity_options[] = {
    OPT_capacity, OPT_stride,    OPT_chunks, OPT_kl,      OPT_threads,  OPT_O0,     OPT_O1,
    OPT_O2,       OPT_O3,        OPT_passes, OPT_backend, OPT_isa,      OPT_target, OPT_require_target,
    OPT_device,   OPT_precision, OPT_page,   OPT_plugin,  OPT_quantize, OPT_tuning, OPT_json,
    OPT_verbose,  OPT_help};

static void print_kl(const tn_scores *x) {
  printf("of the base      %.4f\n", x->base_perplexity);
  printf("KL divergence    mean %.6f, median %.6f, 90 %% %.6f, 95 %% %.6f, 99 %% %.6f, max %.6f\n",
         x->kl_mean, x->kl_median, x->kl_p90, x->kl_p95, x->kl_p99, x->kl_max);
  printf("same top token   %.3f %%\n", 100 * x->same_top);
  printf("change of p      mean %.4f %%, root mean square %.4f %%\n", 100 * x->mean_dp, 100 * x->rms_dp);
}

static void print_json(const tn_scores *x, int64_t stride) {
  printf("{\"perplexity\": %.6f, \"error\": %.6f, \"tokens\": %lld, \"scored\": %lld, \"context\": %lld, "
         "\"stride\": %lld, \"seconds\": %.3f",
         x->perplexity, x->error, (long long)x->tokens, (long long)x->scored, (long long)x->context,
         (long long)stride, x->seconds);
  if (x->compared)
    printf(", \"base_perplexity\": %.6f, \"kl\": {\"mean\": %.8f, \"median\": %.8f, \"p90\": %.8f, \"p95\": "
           "%.8f, \"p99\": %.8f, \"max\": %.8f}, \"same_top_percent\": %.4f, \"mean_dp_percent\": %.5f, "
           "\"rms_dp_percent\": %.5f",
           x->base_perplexity, x->kl_mean, x->kl_median, x->kl_p90, x->kl_p95, x->kl_p99, x->kl_max,
           100 * x->same_top, 100 * x->mean_dp, 100 * x->rms_dp);
  puts("}");
}

static void print(const tn_scores *x, int64_t stride, bool json) {
  if (json) {
    print_json(x, stride);
    return;
  }
  printf("perplexity       %.4f +- %.4f over %lld of %lld tokens, context %lld\n", x->perplexity, x->error,
         (long long)x->scored, (long long)x->tokens, (long long)x->context);
  if (x->compared) print_kl(x);
}

static tn_status perplexity(const tn_args *a, tn_opened *o, tn_diags *d) {
  bool bad = false;
  tn_score_options so = {.text = a->positional[1],
                         .context = tn_args_int(a, OPT_capacity, TN_SCORE_CONTEXT, &bad),
                         .stride = tn_args_int(a, OPT_stride, 0, &bad),
                         .chunks = tn_args_int(a, OPT_chunks, 0, &bad),
                         .threads = (uint32_t)tn_args_int(a, OPT_threads, 0, &bad),
                         .progress = isatty(STDERR_FILENO) || a->given[OPT_verbose]};
  if (bad) return TN_INVALID;
  tn_opened base;
  tn_driver_options options;
  tn_arena arena;
  tn_scores scores;
  tn_arena_init(&arena);
  tn_args_driver(a, &arena, &options);
  bool two = a->last[OPT_kl];
  tn_status s = two ? tn_opened_open(&base, a->last[OPT_kl], &options, d) : TN_OK;
  if (!s) s = tn_score_text(&so, o, two ? &base : NULL, d, &scores);
  if (!s) print(&scores, so.stride, a->given[OPT_json]);
  if (two) tn_opened_close(&base);
  tn_arena_fini(&arena);
  return s;
}

static int run_perplexity(const tn_args *a) { return tn_tool_with_model(a, perplexity); }

const tn_command tn_cmd_perplexity = {
    "perplexity",
    "measure how well a model predicts a text",
    "MODEL|libNAME.so FILE [-c 512] [--stride N] [--kl BASE] [options]",
    "Chunks of -c tokens, the second half of each is scored, as llama-perplexity does. --stride slides a "
    "window\n"
    "instead. --kl BASE compares with another model of the same vocabulary, such as the one that was "
    "quantised:\n"
    "divergence of the distributions, and how often the likeliest token is the same.",
    perplexity_options,
    TN_COUNT(perplexity_options),
    2,
    2,
    run_perplexity};
