/* rope.c - rotary frequencies from the config, in double. Rules: `modeling_rope_utils.py` of transformers 5;
 * papers: Su et al. 2021 (default), Chen et al. 2023 (linear), bloc97 2023 (dynamic), Peng et al. 2023
 * (yarn), Ding et al. 2024 (longrope), the Llama 3.1 model card (llama3). Keys come from rope_parameters
 * (transformers 5), from rope_scaling beside rope_theta (4), or from the metadata of GGUF files.
 *
 * The value is a list; what depends on the length of a call is left to `rope_frequencies` of the prelude:
 *   0  the frequencies; longrope: up to `limit` tokens
 *   1  the factor of sine and cosine
 *   2  the factor of the scores (DeepSeek: mscale^2), for pages whose models scale them
 *   3  the most positions there are, where the config's limit is not the last word (dynamic); else none
 *   4  longrope: the frequencies beyond `limit` tokens; dynamic: the powers that frequencies grow with
 *   5  limit: the length the model was first trained for (dynamic, longrope); else none
 *   6  dynamic: the factor; else none */
#include "frontend/describe/eval.h"
#include <math.h>

#define PI 3.14159265358979323846
#define HEAD_DIM_MAX 65536

typedef struct rope {
  tn_eval *ev;
  const tn_json *params; /* rope_scaling or rope_parameters; NULL: neither */
  bool gguf;
  const char *type;
  double base, factor, score; /* factors of sine and cosine, and of the scores */
  int64_t dim;                /* features that turn */
  double *freq, *far;         /* `count` each; far: NULL, or item 4 of the value */
  int64_t count;              /* dim / 2 */
  double limit, growth;       /* items 5 and 6; 0: none */
  bool ok;
} rope;

/* Where GGUF files have what config.json calls so. */
static const struct {
  const char *key, *gguf;
} gguf_keys[] = {{"rope_theta", "rope.freq_base"},
                 {"rope_type", "rope.scaling.type"},
                 {"factor", "rope.scaling.factor"},
                 {"attention_factor", "rope.scaling.attn_factor"},
                 {"beta_fast", "rope.scaling.yarn_beta_fast"},
                 {"beta_slow", "rope.scaling.yarn_beta_slow"},
                 {"log_multiplier", "rope.scaling.yarn_log_multiplier"},
                 {"features", "rope.dimension_count"},
                 {"original_max_position_embeddings", "rope.scaling.original_context_length"},
                 {"max_position_embeddings", "context_length"}};

static const tn_json *gguf_param(const rope *r, const char *key) {
  for (size_t i = 0; i < TN_COUNT(gguf_keys); i++)
    if (!strcmp(gguf_keys[i].key, key)) return tn_json_path(r->ev->run->config, gguf_keys[i].gguf);
  return NULL;
}

static const tn_json *param(const rope *r, const char *key) {
  const tn_json *j = r->gguf ? gguf_param(r, key) : r->params ? tn_json_get(r->params, key) : NULL;
  return j && j->kind != TN_JSON_NULL ? j : NULL;
}

static const tn_json *top(const rope *r, const char *key) {
  const tn_json *j = r->gguf ? gguf_param(r, key) : tn_json_get(r->ev->run->config, key);
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

/* DeepSeek's mscale_all_dim also scales the scores (yarn_apply_mscale of its modelling code). GGUF files have
 * 0.1 mscale_all_dim as a multiplier of the logarithm; mscale is the same there, so sine and cosine keep
 * their size. Their attention factor multiplies, it does not replace. */
static void yarn_attention(rope *r, double factor) {
  double mscale = optional(r, "mscale", -1, 0), all = optional(r, "mscale_all_dim", -1, 0);
  const tn_json *given = param(r, "attention_factor");
  if (r->gguf) mscale = all = 10 * optional(r, "log_multiplier", -1, 0);
  if (all != 0) r->score = pow(yarn_scale(factor, all), 2);
  if (r->gguf)
    r->factor = optional(r, "attention_factor", 0, 1) * (all != 0 ? 1 : yarn_scale(factor, 1));
  else if (given)
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

/* Frequencies f(i) t^(-2i / (dim - 2)), where t = factor * length / limit - (factor - 1), from `limit` on. */
static void rope_dynamic(rope *r) {
  const tn_json *limit = top(r, "max_position_embeddings");
  r->growth = needed(r, "factor", 0);
  if (!limit && r->ok) {
    tn_eval_fail(r->ev, "rope type 'dynamic' needs 'max_position_embeddings', which the config lacks");
    r->ok = false;
  }
  r->limit = r->ok ? number(r, limit, "max_position_embeddings", 0) : 1;
  if (r->ok && r->dim < 4) {
    tn_eval_fail(r->ev, "rope type 'dynamic': a head turns %lld features, the least is 4", (long long)r->dim);
    r->ok = false;
  }
  for (int64_t i = 0; r->ok && i < r->count; i++) r->far[i] = -2.0 * (double)i / (double)(r->dim - 2);
}

static bool read_factors(rope *r, const char *key, double *out) {
  const tn_json *j = param(r, key);
  if (!j || j->kind != TN_JSON_LIST || j->count != r->count) {
    tn_eval_fail(r->ev, "rope type 'longrope' needs '%s', a list of %lld numbers", key, (long long)r->count);
    return r->ok = false;
  }
  for (int64_t i = 0; r->ok && i < r->count; i++) out[i] /= number(r, &j->u.items[i], key, 0);
  return r->ok;
}

/* The factors of GGUF files are tensors, which the prelude applies to both sets. */
static void rope_longrope(rope *r) {
  double length = original_length(r), factor = 1;
  const tn_json *given = param(r, "attention_factor"), *limit = top(r, "max_position_embeddings");
  if (r->ok && (param(r, "factor") || limit))
    factor =
        param(r, "factor") ? needed(r, "factor", 0) : number(r, limit, "max_position_embeddings", 0) / length;
  r->limit = length;
  r->factor = given         ? number(r, given, "attention_factor", 0)
              : factor <= 1 ? 1
                            : sqrt(1 + log(factor) / log(length));
  if (r->ok) memcpy(r->far, r->freq, (size_t)r->count * sizeof *r->far);
  if (r->ok && !r->gguf && read_factors(r, "short_factor", r->freq)) read_factors(r, "long_factor", r->far);
}

static const struct {
  const char *name;
  void (*run)(rope *);
} kinds[] = {{"default", rope_default}, {"linear", rope_linear}, {"dynamic", rope_dynamic},
             {"llama3", rope_llama3},   {"yarn", rope_yarn},     {"longrope", rope_longrope},
             {"su", rope_longrope}}; /* its first name */

/* GGUF: "none" is the default, and a factor without a type is linear. */
static const char *rope_type(rope *r) {
  const tn_json *j = param(r, "rope_type"), *old = param(r, "type");
  if (!j) j = old;
  if (!j) return r->gguf && param(r, "factor") ? "linear" : "default";
  if (j->kind == TN_JSON_STRING)
    return r->gguf && tn_str_is(j->u.s, "none") ? "default" : tn_arena_str(&r->ev->arena, j->u.s);
  tn_eval_fail(r->ev, "the config's 'rope_type' is not a text");
  return NULL;
}

/* The parameters of one kind of layer; NULL: the config has one set for all. */
static const tn_json *params_of(rope *r, const char *kind) {
  const tn_json *j = r->params, *first = NULL;
  for (const tn_json *x = j ? j->u.items : NULL; j && j->kind == TN_JSON_OBJECT && x < j->u.items + j->count;
       x++)
    if (x->kind == TN_JSON_OBJECT) {
      if (!first) first = x;
      if (kind && !strcmp(x->key, kind)) return tn_json_get(j, kind);
    }
  if (first && kind)
    tn_eval_fail(r->ev, "the config has no rope parameters for '%s', but for '%s'", kind, first->key);
  else if (first)
    tn_eval_fail(r->ev, "the config has rope parameters per kind of layer ('%s'), this page has one set",
                 first->key);
  r->ok = !first;
  return NULL;
}

/* rope_scaling wins over rope_parameters when it says something, as in transformers. With `base`, a config
 * that has one set for all layers says nothing about this kind but its base. */
static void rope_params(rope *r, const char *kind, bool base) {
  const tn_json *old = top(r, "rope_scaling"), *now = top(r, "rope_parameters");
  r->params = old && old->kind == TN_JSON_OBJECT && old->count ? old : now;
  if (r->params && r->params->kind != TN_JSON_OBJECT) {
    tn_eval_fail(r->ev, "the config's rope parameters are not an object");
    r->ok = false;
    return;
  }
  const tn_json *own = params_of(r, kind);
  if (own)
    r->params = own;
  else if (base)
    r->params = NULL;
}

static void rope_base(rope *r, int64_t head_dim, const tn_rope_options *o, bool own) {
  const tn_json *theta = param(r, "rope_theta"), *part = param(r, "partial_rotary_factor"),
                *features = param(r, "features");
  if (!theta) theta = top(r, "rope_theta");
  if (!part) part = top(r, "partial_rotary_factor");
  r->base = theta ? number(r, theta, "rope_theta", 1) : o->theta;
  if (own) r->base = o->base;
  double share = part ? number(r, part, "partial_rotary_factor", 0) : 1;
  r->dim = features ? (int64_t)fmin(number(r, features, "rope.dimension_count", 0), HEAD_DIM_MAX + 1)
                    : (int64_t)((double)head_dim * fmin(share, 1));
  r->count = (r->dim + 1) / 2;
  if (r->ok && (r->dim < 2 || r->dim > head_dim || share > 1 || r->dim % 2)) {
    tn_eval_fail(r->ev, "rotary features: %lld of a head of %lld", (long long)r->dim, (long long)head_dim);
    r->ok = false;
  }
  if (!r->ok) return;
  r->freq = tn_arena_alloc(&r->ev->arena, (size_t)r->count * sizeof *r->freq);
  r->far = tn_arena_alloc(&r->ev->arena, (size_t)r->count * sizeof *r->far);
  if (!r->freq || !r->far) r->ok = false, tn_eval_oom(r->ev);
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
  tn_eval_fail(r->ev,
               "rope type '%s' is not supported (default, linear, dynamic, llama3, yarn and longrope are)%s",
               r->type, tn_eval_nearest(r->ev, r->type, names, TN_COUNT(names)));
  r->ok = false;
}

static tn_val numbers(rope *r, const double *x) {
  tn_val *items = tn_arena_alloc(&r->ev->arena, (size_t)r->count * sizeof *items);
  if (!items) return tn_eval_oom(r->ev);
  for (int64_t i = 0; i < r->count; i++) items[i] = tn_val_real(x[i]);
  return tn_val_list(r->ev, items, (uint32_t)r->count);
}

static tn_val rope_value(rope *r) {
  tn_val none = tn_val_none(),
         items[7] = {
             numbers(r, r->freq), tn_val_real(r->factor), tn_val_real(r->score), none, none, none, none};
  if (r->growth > 0) items[3] = tn_val_int((int64_t)fmin(r->limit * r->growth, 0x1p31));
  if (r->limit > 0) items[4] = numbers(r, r->far), items[5] = tn_val_int((int64_t)fmin(r->limit, 0x1p31));
  if (r->growth > 0) items[6] = tn_val_real(r->growth);
  if (items[0].kind != TN_V_LIST) return items[0];
  return tn_val_list(r->ev, items, 7);
}

tn_val tn_rope_config(tn_eval *ev, int64_t head_dim, const tn_rope_options *o) {
  rope r = {.ev = ev, .factor = 1, .score = 1, .ok = true, .gguf = ev->run->tensors.gguf};
  if (head_dim < 2 || head_dim > HEAD_DIM_MAX)
    return tn_eval_fail(ev, "rope_config(%lld): a head has 2 to %d features", (long long)head_dim,
                        HEAD_DIM_MAX);
  if (!r.gguf) rope_params(&r, o->kind, o->base > 0);
  bool own = o->base > 0 && !r.params; /* nothing but a base */
  if (r.ok) r.ok = (r.type = own ? "default" : rope_type(&r)) != NULL;
  if (r.ok) rope_base(&r, head_dim, o, own);
  if (r.ok) rope_apply(&r);
  if (r.ok)
    tn_facts_rope(ev, &(tn_page_rope){.kind = o->kind,
                                      .type = r.type,
                                      .own = own,
                                      .base = r.base,
                                      .factor = r.factor,
                                      .score = r.score,
                                      .limit = r.limit,
                                      .growth = r.growth,
                                      .head_dim = head_dim,
                                      .dim = r.dim,
                                      .count = r.count,
                                      .freq = r.freq,
                                      .far = r.far,
                                      .params = r.params});
  return r.ok ? rope_value(&r) : tn_val_bad();
}
