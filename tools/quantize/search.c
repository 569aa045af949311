/* search.c - a mix of types with the least expected damage. Each tensor's error by itself (candidates.c) says
 * what a type costs there; with --eval the classes of tensors are weighed by the divergence that each causes,
 * measured; passes/quantize/mix.c spends the bytes. --max-kld looks for the size at which the measured
 * divergence is what was asked for. */
#include "passes/quantize/mix.h"
#include "tools/quantize/quantize.h"
#include <math.h>
#include <stdlib.h>

enum { MOST_TRIES = 8 };
/* A size is near enough when the divergence is this part of what is allowed. */
static const double near_enough = 0.92;
/* Probes use the type that comes closest to so many bits: enough damage to measure, not so much that it
 * saturates. */
static const double probe_bits = 3.5;

/* How much a relative error in a class of tensors weighs where nothing is measured: the divergence per unit
 * of it, as
 * --eval found it with SmolLM2-135M and a model of 4 layers, about the mean of both, as a part of that of
 * `up`. */
static const double usual_weight[TN_SC_COUNT] = {
    [TN_SC_KEEP] = 1,  [TN_SC_EMBEDDING] = 1, [TN_SC_OUTPUT] = 8,     [TN_SC_QUERY] = 0.4,
    [TN_SC_KEY] = 0.3, [TN_SC_VALUE] = 1.5,   [TN_SC_ATTN_OUT] = 0.5, [TN_SC_GATE] = 1,
    [TN_SC_UP] = 1,    [TN_SC_DOWN] = 1.3,    [TN_SC_MATRIX] = 1};

typedef struct search {
  tn_quantize *q;
  tn_qchoices choices;
  tn_mix_item *items;
  uint32_t *chosen, *best; /* of the items */
  uint64_t fixed;          /* bytes of what is not searched */
  uint64_t least, most;    /* bytes of all tensors, at the smallest and largest candidates */
  double weight[TN_SC_COUNT];
  tn_qprobe *probe; /* NULL: nothing is measured */
  tn_dtype *types;  /* of all tensors, for a probe */
} search;

bool tn_quantize_searches(const tn_args *a) {
  return a->given[OPT_target_bpw] || a->given[OPT_target_size] || a->given[OPT_max_kld];
}

static const tn_qtensor *tensor_of(const search *s, uint32_t item) {
  return &s->q->tensors[s->choices.items.items[item].tensor];
}

static void say(const search *s, const char *format, double a, double b) {
  if (!s->q->args->given[OPT_json]) printf(format, a, b), fflush(stdout);
}

/* ---- setting up ---------------------------------------------------------------------------------------- */

static tn_status make_items(search *s) {
  tn_quantize *q = s->q;
  uint32_t n = s->choices.items.count;
  s->items = tn_arena_alloc(&q->arena, (n + 1) * sizeof *s->items);
  s->chosen = tn_arena_alloc(&q->arena, (n + 1) * sizeof *s->chosen);
  s->best = tn_arena_alloc(&q->arena, (n + 1) * sizeof *s->best);
  s->types = tn_arena_alloc(&q->arena, (q->count + 1) * sizeof *s->types);
  if (!s->items || !s->chosen || !s->best || !s->types) return TN_OOM;
  for (uint32_t i = 0; i < q->count; i++) s->fixed += q->tensors[i].bytes;
  s->least = 0;
  for (uint32_t i = 0; i < n; i++) {
    const tn_qchoice *c = &s->choices.items.items[i];
    tn_mix_option *o = tn_arena_alloc(&q->arena, c->count * sizeof *o);
    uint64_t least = UINT64_MAX, most = 0;
    if (!o) return TN_OOM;
    for (uint32_t k = 0; k < c->count; k++) {
      o[k].bytes = c->candidates[k].bytes;
      if (o[k].bytes < least) least = o[k].bytes;
      if (o[k].bytes > most) most = o[k].bytes;
    }
    s->items[i] = (tn_mix_item){o, c->count};
    s->fixed -= q->tensors[c->tensor].bytes;
    s->least += least;
    s->most += most;
  }
  s->least += s->fixed;
  s->most += s->fixed;
  return TN_OK;
}

static void set_costs(search *s) {
  for (uint32_t i = 0; i < s->choices.items.count; i++) {
    const tn_qchoice *c = &s->choices.items.items[i];
    tn_mix_option *o = (tn_mix_option *)s->items[i].options;
    for (uint32_t k = 0; k < c->count; k++)
      o[k].cost = c->candidates[k].error * s->weight[tensor_of(s, i)->cls];
  }
}

/* An embedding without an output beside it gives the logits. */
static void set_usual_weights(search *s) {
  bool output = false;
  memcpy(s->weight, usual_weight, sizeof s->weight);
  for (uint32_t i = 0; i < s->q->count; i++) output = output || s->q->tensors[i].cls == TN_SC_OUTPUT;
  if (!output) s->weight[TN_SC_EMBEDDING] = usual_weight[TN_SC_OUTPUT];
}

/* ---- weighing the classes ------------------------------------------------------------------------------ */

static double bits_of(const tn_qtensor *t, uint64_t bytes) {
  return 8 * (double)bytes / ((double)t->rows * (double)t->columns);
}

static const tn_qcandidate *probe_candidate(const search *s, uint32_t item) {
  const tn_qchoice *c = &s->choices.items.items[item];
  const tn_qcandidate *best = &c->candidates[0];
  for (uint32_t k = 1; k < c->count; k++)
    if (fabs(bits_of(tensor_of(s, item), c->candidates[k].bytes) - probe_bits) <
        fabs(bits_of(tensor_of(s, item), best->bytes) - probe_bits))
      best = &c->candidates[k];
  return best;
}

static void keep_all(search *s) {
  for (uint32_t i = 0; i < s->q->count; i++) s->types[i] = s->q->tensors[i].t->dtype;
}

static tn_status weigh(search *s, tn_scheme_class cls) {
  double error = 0, kl;
  keep_all(s);
  for (uint32_t i = 0; i < s->choices.items.count; i++) {
    if (tensor_of(s, i)->cls != cls) continue;
    const tn_qcandidate *c = probe_candidate(s, i);
    s->types[s->choices.items.items[i].tensor] = c->type;
    error += c->error;
  }
  if (!(error > 0)) return TN_OK;
  TN_TRY(tn_qprobe_measure(s->probe, s->types, &kl));
  s->weight[cls] = kl > 0 ? kl / error : 0;
  if (!s->q->args->given[OPT_json])
    printf("  %-16s weighs %8.4f: KL divergence %.6f at an error of %.5f\n", tn_scheme_class_name(cls),
           s->weight[cls], kl, error);
  return TN_OK;
}

/* ---- sizes --------------------------------------------------------------------------------------------- */

/* Chooses within `bytes` of all tensors; *used: what it takes, *cost: the expected divergence. */
static tn_status solve(search *s, uint64_t bytes, uint64_t *used, double *cost) {
  uint32_t n = s->choices.items.count;
  if (bytes < s->least) return TN_NOT_FOUND;
  TN_TRY(tn_mix_solve(s->items, n, bytes - s->fixed, s->chosen));
  *used = s->fixed;
  *cost = 0;
  for (uint32_t i = 0; i < n; i++) {
    *used += s->items[i].options[s->chosen[i]].bytes;
    *cost += s->items[i].options[s->chosen[i]].cost;
  }
  return TN_OK;
}

static void apply(search *s, const uint32_t *chosen) {
  for (uint32_t i = 0; i < s->choices.items.count; i++) {
    const tn_qchoice *c = &s->choices.items.items[i];
    tn_qtensor *t = &s->q->tensors[c->tensor];
    t->to = c->candidates[chosen[i]].type;
    t->bytes = c->candidates[chosen[i]].bytes;
    t->why = "search";
    s->q->types[c->tensor] = t->to;
  }
}

static tn_status too_small(search *s, double asked, double values) {
  return tn_fail(
      s->q->diags, TN_INVALID, NULL, NULL,
      "the smallest types make %.3f bits per weight, %.3f are asked for; --types, --imatrix allow others",
      8 * (double)s->least / values, asked);
}

static tn_status search_size(search *s, uint64_t budget) {
  tn_qtotals x = tn_quantize_totals(s->q);
  uint64_t used;
  double cost, values = (double)x.values;
  tn_status status = solve(s, budget, &used, &cost);
  if (status == TN_NOT_FOUND) return too_small(s, 8 * (double)budget / values, values);
  if (status) return status;
  apply(s, s->chosen);
  say(s, "mix of %.4f bits per weight, expected cost %.6f\n", 8 * (double)used / values, cost);
  return TN_OK;
}

/* The smallest mix whose measured divergence is at most `limit`: the expected cost is in proportion to it,
 * and what was measured says in which. Sizes are searched by halving, from the size that the cost suggests.
 */
static tn_status search_divergence(search *s, double limit) {
  uint64_t low = s->least, high = s->most, bytes = 0, used, best_used = 0;
  double cost, kl, best_kl = 0, scale = 1, values = (double)tn_quantize_totals(s->q).values;
  for (int i = 0; i < MOST_TRIES && low <= high; i++) {
    uint64_t a = low, b = high;
    while (a < b) { /* the least size whose expected divergence is below the limit */
      uint64_t mid = a + (b - a) / 2;
      TN_TRY(solve(s, mid, &used, &cost));
      if (cost * scale <= limit * (1 + near_enough) / 2)
        b = mid;
      else
        a = mid + 1;
    }
    bytes = a;
    TN_TRY(solve(s, bytes, &used, &cost));
    if (used == best_used) break;
    for (uint32_t k = 0; k < s->choices.items.count; k++)
      s->types[s->choices.items.items[k].tensor] = s->choices.items.items[k].candidates[s->chosen[k]].type;
    TN_TRY(tn_qprobe_measure(s->probe, s->types, &kl));
    say(s, "%.4f bits per weight: KL divergence %.6f\n", 8 * (double)used / values, kl);
    if (cost > 0 && kl > 0) scale = kl / cost;
    if (kl <= limit) {
      memcpy(s->best, s->chosen, s->choices.items.count * sizeof *s->best);
      best_used = used, best_kl = kl, high = used ? used - 1 : 0;
      if (kl >= near_enough * limit) break;
    } else {
      low = bytes + 1;
    }
  }
  if (!best_used)
    return tn_fail(s->q->diags, TN_INVALID, NULL, NULL, "no mix of these types has a KL divergence of %g",
                   limit);
  apply(s, s->best);
  tn_report_accuracy(&s->q->report, "kl_mean", best_kl);
  return TN_OK;
}

/* ---- what is asked ------------------------------------------------------------------------------------- */

static tn_status read_size(tn_quantize *q, const char *text, uint64_t *out) {
  char *end;
  double v = strtod(text, &end), unit = *end == 'k' || *end == 'K'   ? 1e3
                                        : *end == 'm' || *end == 'M' ? 1e6
                                        : *end == 'g' || *end == 'G' ? 1e9
                                                                     : 1;
  if (end == text || !(v > 0) || v > 1e6 * 1e9 || (unit > 1 ? end[1] : *end))
    return tn_fail(q->diags, TN_INVALID, NULL, NULL, "--target-size: '%s' is no size, such as 800M or 4.2G",
                   text);
  *out = (uint64_t)(v * unit);
  return TN_OK;
}

static tn_status check(tn_quantize *q) {
  if (q->args->given[OPT_target_bpw] + q->args->given[OPT_target_size] + q->args->given[OPT_max_kld] > 1)
    return tn_fail(q->diags, TN_INVALID, NULL, NULL,
                   "one of --target-bpw, --target-size and --max-kld at a time");
  if (q->format != TN_CK_GGUF)
    return tn_fail(q->diags, TN_UNSUPPORTED, q->out, NULL,
                   "packed folders have one type for all: mixes are for GGUF files (OUT.gguf)");
  for (uint32_t i = 0; i < q->count && !q->args->given[OPT_allow_requantize]; i++)
    if (q->tensors[i].cls != TN_SC_KEEP && tn_ir_dtype_info(q->tensors[i].t->dtype)->cls == TN_CLASS_BLOCK)
      return tn_fail(q->diags, TN_INVALID, NULL, q->tensors[i].t->name,
                     "is in blocks of %s already; --allow-requantize searches all the same",
                     tn_ir_dtype_info(q->tensors[i].t->dtype)->name);
  return TN_OK;
}

static tn_status run(search *s) {
  tn_quantize *q = s->q;
  bool bad = false;
  uint64_t size;
  TN_TRY(tn_quantize_candidates(q, &s->choices));
  TN_TRY(make_items(s));
  set_usual_weights(s);
  if (q->args->given[OPT_eval] || q->args->given[OPT_max_kld]) TN_TRY(tn_qprobe_open(q, &s->probe));
  for (uint32_t i = 0; s->probe && i < TN_SC_COUNT; i++) TN_TRY(weigh(s, i));
  set_costs(s);
  memcpy(s->types, q->types, q->count * sizeof *s->types);
  if (q->args->given[OPT_max_kld]) {
    double limit = tn_args_real(q->args, OPT_max_kld, 0, &bad);
    return bad ? TN_INVALID : search_divergence(s, limit);
  }
  if (q->args->given[OPT_target_size]) {
    TN_TRY(read_size(q, q->args->last[OPT_target_size], &size));
    return search_size(s, size);
  }
  double bits = tn_args_real(q->args, OPT_target_bpw, 0, &bad);
  return bad ? TN_INVALID : search_size(s, (uint64_t)(bits * (double)tn_quantize_totals(q).values / 8));
}

tn_status tn_quantize_search(tn_quantize *q) {
  search s = {.q = q};
  tn_status status = check(q);
  if (!status) status = run(&s);
  tn_qprobe_close(s.probe);
  tn_vec_fini(&s.choices.items);
  return status;
}
