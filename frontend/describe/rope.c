/* rope.c - rotary frequencies from the config, in double. Rules: `modeling_rope_utils.py` of transformers 5;
 * papers: Su et al. 2021 (default), Chen et al. 2023 (linear), Peng et al. 2023 (yarn), the Llama 3.1 model
 * card (llama3). Keys come from rope_parameters (transformers 5), or rope_scaling beside rope_theta (4). */
#include "frontend/describe/eval.h"
#include <math.h>

#define PI 3.14159265358979323846
#define HEAD_DIM_MAX 65536

typedef struct rope {
  tn_eval *ev;
  const tn_json *params; /* rope_scaling or rope_parameters; NULL: neither */
  const char *type;
  double base, factor; /* attention factor: scales sine and cosine */
  int64_t dim;         /* features that turn */
  double *freq;        /* dim / 2, rounded up */
  int64_t count;
  bool ok;
} rope;

static const tn_json *param(const rope *r, const char *key) {
  const tn_json *j = r->params ? tn_json_get(r->params, key) : NULL;
  return j && j->kind != TN_JSON_NULL ? j : NULL;
}

static const tn_json *top(const rope *r, const char *key) {
  const tn_json *j = tn_json_get(r->ev->run->config, key);
  return j && j->kind != TN_JSON_NULL ? j : NULL;
}

static double number(rope *r, const tn_json *j, const char *key, double low) {
  double v = j->kind == TN_JSON_INT ? (double)j->u.i : j->kind == TN_JSON_REAL ? j->u.r : NAN;
  if (isfinite(v) && v > low) return v;
  if (r->ok) tn_eval_fail(r->ev, "the config's '%s' is not a number above %g", key, low);
  r->ok = false;
  return 1;
}

static double needed(rope *r, const char *key, double low) {
  const tn_json *j = param(r, key);
  if (j) return number(r, j, key, low);
  if (r->ok) tn_eval_fail(r->ev, "rope type '%s' needs '%s', which the config lacks", r->type, key);
  r->ok = false;
  return 1;
}

static double optional(rope *r, const char *key, double low, double fallback) {
  const tn_json *j = param(r, key);
  return j ? number(r, j, key, low) : fallback;
}

/* The length the model was first trained for: a key of its own at the top wins, then the parameters, then the
 * limit. */
static double original_length(rope *r) {
  const tn_json *j = top(r, "original_max_position_embeddings");
  if (!j) j = param(r, "original_max_position_embeddings");
  if (!j) j = top(r, "max_position_embeddings");
  if (j) return number(r, j, "original_max_position_embeddings", 0);
  if (r->ok)
    tn_eval_fail(r->ev, "rope type '%s' needs 'original_max_position_embeddings', which the config lacks",
                 r->type);
  r->ok = false;
  return 1;
}

static void rope_default(rope *r) { (void)r; }

static void rope_linear(rope *r) {
  double factor = needed(r, "factor", 0);
  for (int64_t i = 0; i < r->count; i++) r->freq[i] /= factor;
}

static void rope_llama3(rope *r) {
  double factor = needed(r, "factor", 0), low = needed(r, "low_freq_factor", 0),
         high = needed(r, "high_freq_factor", 0);
  double length = original_length(r);
  if (r->ok && high <= low) {
    tn_eval_fail(r->ev, "rope: high_freq_factor %g is not above low_freq_factor %g", high, low);
    r->ok = false;
  }
  for (int64_t i = 0; i < r->count && r->ok; i++) {
    double wave = 2 * PI / r->freq[i];
    if (wave < length / high) continue;
    double smooth = (length / wave - low) / (high - low);
    if (wave > length / low)
      r->freq[i] /= factor;
    else
      r->freq[i] = (1 - smooth) * r->freq[i] / factor + smooth * r->freq[i];
  }
}

static double yarn_scale(double factor, double mscale) {
  return factor <= 1 ? 1 : 0.1 * mscale * log(factor) + 1;
}

/* The feature whose wave turns `rotations` times over the original length. */
static double yarn_dim(const rope *r, double rotations, double length) {
  return (double)r->dim * log(length / (rotations * 2 * PI)) / (2 * log(r->base));
}

static void yarn_attention(rope *r, double factor) {
  double mscale = optional(r, "mscale", -1, 0), all = optional(r, "mscale_all_dim", -1, 0);
  const tn_json *given = param(r, "attention_factor");
  if (given)
    r->factor = number(r, given, "attention_factor", 0);
  else
    r->factor = mscale != 0 && all != 0 ? yarn_scale(factor, mscale) / yarn_scale(factor, all)
                                        : yarn_scale(factor, 1);
}

static void rope_yarn(rope *r) {
  double length = original_length(r), factor;
  const tn_json *limit = top(r, "max_position_embeddings"), *truncate = param(r, "truncate");
  if (!param(r, "factor") && limit)
    factor = number(r, limit, "max_position_embeddings", 0) / length;
  else
    factor = needed(r, "factor", 0);
  yarn_attention(r, factor);
  double fast = optional(r, "beta_fast", -1, 32), slow = optional(r, "beta_slow", -1, 1);
  double low = yarn_dim(r, fast != 0 ? fast : 32, length), high = yarn_dim(r, slow != 0 ? slow : 1, length);
  if (!truncate || truncate->kind != TN_JSON_BOOL || truncate->u.b) low = floor(low), high = ceil(high);
  low = fmax(low, 0);
  high = fmin(high, (double)r->dim - 1);
  if (low == high) high += 0.001;
  for (int64_t i = 0; i < r->count && r->ok; i++) {
    double ramp = fmin(fmax(((double)i - low) / (high - low), 0), 1);
    r->freq[i] = r->freq[i] / factor * ramp + r->freq[i] * (1 - ramp);
  }
}

static const struct {
  const char *name;
  void (*run)(rope *);
} kinds[] = {
    {"default", rope_default}, {"linear", rope_linear}, {"llama3", rope_llama3}, {"yarn", rope_yarn}};

static const char *rope_type(rope *r) {
  const tn_json *j = param(r, "rope_type"), *old = param(r, "type");
  if (!j) j = old;
  if (!j) return "default";
  if (j->kind == TN_JSON_STRING) return tn_arena_str(&r->ev->arena, j->u.s);
  tn_eval_fail(r->ev, "the config's 'rope_type' is not a text");
  return NULL;
}

/* rope_scaling wins over rope_parameters when it says something, as in transformers. */
static void rope_params(rope *r) {
  const tn_json *old = top(r, "rope_scaling"), *now = top(r, "rope_parameters");
  r->params = old && old->kind == TN_JSON_OBJECT && old->count ? old : now;
  for (const tn_json *j = r->params, *x = j ? j->u.items : NULL;
       j && j->kind == TN_JSON_OBJECT && x < j->u.items + j->count; x++)
    if (x->kind == TN_JSON_OBJECT) {
      tn_eval_fail(r->ev, "the config has rope parameters per kind of layer ('%s'), this page has one set",
                   x->key);
      r->ok = false;
    }
  if (r->params && r->params->kind != TN_JSON_OBJECT) {
    tn_eval_fail(r->ev, "the config's rope parameters are not an object");
    r->ok = false;
  }
}

static void rope_base(rope *r, int64_t head_dim) {
  const tn_json *theta = param(r, "rope_theta"), *part = param(r, "partial_rotary_factor");
  if (!theta) theta = top(r, "rope_theta");
  if (!part) part = top(r, "partial_rotary_factor");
  r->base = theta ? number(r, theta, "rope_theta", 1) : 10000;
  double share = part ? number(r, part, "partial_rotary_factor", 0) : 1;
  r->dim = (int64_t)((double)head_dim * fmin(share, 1));
  r->count = (r->dim + 1) / 2;
  if (r->ok && (r->dim < 2 || share > 1 || r->dim % 2)) {
    tn_eval_fail(r->ev, "rotary features: %lld of a head of %lld", (long long)r->dim, (long long)head_dim);
    r->ok = false;
  }
  r->freq = tn_arena_alloc(&r->ev->arena, (size_t)r->count * sizeof *r->freq);
  if (!r->freq) r->ok = false, tn_eval_oom(r->ev);
  for (int64_t i = 0; r->ok && i < r->count; i++)
    r->freq[i] = pow(r->base, -2.0 * (double)i / (double)r->dim);
}

static void rope_apply(rope *r) {
  const char *names[TN_COUNT(kinds)];
  for (size_t i = 0; i < TN_COUNT(kinds); i++) {
    names[i] = kinds[i].name;
    if (strcmp(kinds[i].name, r->type) != 0) continue;
    kinds[i].run(r);
    return;
  }
  tn_eval_fail(r->ev, "rope type '%s' is not supported (default, linear, llama3 and yarn are)%s", r->type,
               tn_eval_nearest(r->ev, r->type, names, TN_COUNT(names)));
  r->ok = false;
}

tn_val tn_rope_config(tn_eval *ev, int64_t head_dim) {
  rope r = {.ev = ev, .factor = 1, .ok = true};
  if (head_dim < 2 || head_dim > HEAD_DIM_MAX)
    return tn_eval_fail(ev, "rope_config(%lld): a head has 2 to %d features", (long long)head_dim,
                        HEAD_DIM_MAX);
  rope_params(&r);
  if (r.ok) r.ok = (r.type = rope_type(&r)) != NULL;
  if (r.ok) rope_base(&r, head_dim);
  if (r.ok) rope_apply(&r);
  if (!r.ok) return tn_val_bad();
  tn_val *items = tn_arena_alloc(&ev->arena, (size_t)r.count * sizeof *items);
  if (!items) return tn_eval_oom(ev);
  for (int64_t i = 0; i < r.count; i++) items[i] = tn_val_real(r.freq[i]);
  tn_val pair[2] = {tn_val_list(ev, items, (uint32_t)r.count), tn_val_real(r.factor)};
  return tn_val_list(ev, pair, 2);
}
