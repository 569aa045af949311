/* rope.c - rotary parameters from one format to the other. GGUF files have llama3's and longrope's factors as
 * tensors; config.json has the numbers that they are computed from, or lists. */
#include "frontend/checkpoint/ck.h"
#include <math.h>
#include <stdlib.h>

#define PI 3.14159265358979323846

/* The parameters that count for all layers, or for those that see everything. */
static const tn_page_rope *main_rope(const tn_page_facts *f) {
  for (uint32_t i = 0; i < f->ropes.count; i++)
    if (!f->ropes.items[i].kind || strcmp(f->ropes.items[i].kind, "sliding_attention") != 0)
      return &f->ropes.items[i];
  return NULL;
}

static double param(const tn_page_rope *r, const char *key, double none) {
  const tn_json *j = r->params ? tn_json_peek(r->params, key) : NULL;
  if (!j) return none;
  return j->kind == TN_JSON_INT ? (double)j->u.i : j->kind == TN_JSON_REAL ? j->u.r : none;
}

static double config_number(const tn_checkpoint *v, const char *key, double none) {
  const tn_json *j = tn_json_peek(v->behind->hf.config, key);
  return !j ? none : j->kind == TN_JSON_INT ? (double)j->u.i : j->kind == TN_JSON_REAL ? j->u.r : none;
}

static double original_length(const tn_checkpoint *v, const tn_page_rope *r) {
  double own = config_number(v, "original_max_position_embeddings", 0);
  if (own <= 0) own = param(r, "original_max_position_embeddings", 0);
  return own > 0 ? own : config_number(v, "max_position_embeddings", 0);
}

/* ---- to GGUF ---- */

static tn_status add_made(tn_checkpoint *v, const char *name, const double *x, int64_t n, tn_diags *diags) {
  float *numbers = tn_arena_alloc(&v->arena, (size_t)n * sizeof *numbers);
  ck_tensor t = {
      .pub = {.name = name, .source = name, .dtype = TN_DT_f32, .rank = 1, .shape = {n}, .layer = -1},
      .scale = CK_NONE,
      .order = CK_NONE,
      .made = numbers};
  t.pub.bytes = (uint64_t)n * sizeof *numbers;
  if (!numbers) return tn_fail(diags, TN_OOM, v->path, NULL, "out of memory");
  for (int64_t i = 0; i < n; i++) numbers[i] = (float)x[i];
  return ck_add(v, &t);
}

/* What the frequencies of the plain rotation are divided by. */
static tn_status add_factors(tn_checkpoint *v, const char *name, const tn_page_rope *r, const double *freq,
                             tn_diags *diags) {
  double *x = tn_arena_alloc(&v->arena, (size_t)r->count * sizeof *x);
  if (!x) return tn_fail(diags, TN_OOM, v->path, NULL, "out of memory");
  for (int64_t i = 0; i < r->count; i++) x[i] = pow(r->base, -2.0 * (double)i / (double)r->dim) / freq[i];
  return add_made(v, name, x, r->count, diags);
}

tn_status ck_add_rope_tensors(tn_checkpoint *v, tn_diags *diags) {
  const tn_page_rope *r = main_rope(&v->behind->facts);
  if (!r || !r->type) return TN_OK;
  if (!strcmp(r->type, "llama3")) return add_factors(v, "rope_freqs.weight", r, r->freq, diags);
  if (strcmp(r->type, "longrope") != 0 && strcmp(r->type, "su") != 0) return TN_OK;
  TN_TRY(add_factors(v, "rope_factors_long.weight", r, r->far, diags));
  return add_factors(v, "rope_factors_short.weight", r, r->freq, diags);
}

typedef struct key_writer {
  tn_gguf_writer *w;
  const char *prefix;
  tn_arena *arena;
} key_writer;

static void put_f32(const key_writer *k, const char *key, double x) {
  const char *full = tn_arena_printf(k->arena, "%s.rope.%s", k->prefix, key);
  if (full && !tn_gguf_has_key(k->w, full)) tn_gguf_put_f32(k->w, full, (float)x);
}

static void put_u32(const key_writer *k, const char *key, double x) {
  const char *full = tn_arena_printf(k->arena, "%s.rope.%s", k->prefix, key);
  if (full && !tn_gguf_has_key(k->w, full)) tn_gguf_put_u32(k->w, full, (uint32_t)x);
}

static void put_type(const key_writer *k, const char *type) {
  const char *full = tn_arena_printf(k->arena, "%s.rope.scaling.type", k->prefix);
  if (full && !tn_gguf_has_key(k->w, full)) tn_gguf_put_string(k->w, full, tn_str_of(type));
}

static double yarn_scale(double factor) { return factor <= 1 ? 1 : 0.1 * log(factor) + 1; }

/* mscale_all_dim becomes a multiplier of the logarithm; what is then left of the factor of sine and cosine is
 * said apart, where it is not the usual one. */
static void put_yarn(const tn_checkpoint *v, const key_writer *k, const tn_page_rope *r, tn_diags *diags) {
  double length = original_length(v, r), all = param(r, "mscale_all_dim", 0);
  double factor =
      param(r, "factor", length > 0 ? config_number(v, "max_position_embeddings", length) / length : 1);
  double usual = all != 0 ? 1 : yarn_scale(factor);
  put_type(k, "yarn");
  put_f32(k, "scaling.factor", factor);
  put_u32(k, "scaling.original_context_length", length);
  if (all != 0) put_f32(k, "scaling.yarn_log_multiplier", 0.1 * all);
  if (fabs(r->factor / usual - 1) > 1e-6) put_f32(k, "scaling.attn_factor", r->factor / usual);
  if (all != 0 && fabs(r->factor - 1) > 1e-6)
    tn_diags_add(diags, TN_WARNING, v->path, 0, 0, "key 'rope_scaling'",
                 "mscale is not mscale_all_dim: llama.cpp takes them to be equal");
  if (param(r, "beta_fast", 0) > 0) put_f32(k, "scaling.yarn_beta_fast", param(r, "beta_fast", 0));
  if (param(r, "beta_slow", 0) > 0) put_f32(k, "scaling.yarn_beta_slow", param(r, "beta_slow", 0));
}

tn_status ck_put_rope(const tn_checkpoint *v, tn_gguf_writer *w, const char *prefix, tn_diags *diags) {
  const tn_page_facts *f = &v->behind->facts;
  const tn_page_rope *r = main_rope(f);
  key_writer k = {w, prefix, &v->behind->arena};
  if (!r) return TN_OK;
  put_u32(&k, "dimension_count", (double)r->dim);
  put_f32(&k, "freq_base", r->base);
  for (uint32_t i = 0; i < f->ropes.count; i++)
    if (f->ropes.items[i].kind && !strcmp(f->ropes.items[i].kind, "sliding_attention"))
      put_f32(&k, "freq_base_swa", f->ropes.items[i].base);
  if (!strcmp(r->type, "linear")) {
    put_type(&k, "linear");
    put_f32(&k, "scaling.factor", param(r, "factor", 1));
  } else if (!strcmp(r->type, "yarn")) {
    put_yarn(v, &k, r, diags);
  } else if (r->far && (!strcmp(r->type, "longrope") || !strcmp(r->type, "su"))) {
    put_type(&k, "longrope");
    put_u32(&k, "scaling.original_context_length", original_length(v, r));
    put_f32(&k, "scaling.attn_factor", r->factor);
  } else if (!strcmp(r->type, "dynamic")) {
    tn_diags_add(diags, TN_WARNING, v->path, 0, 0, "key 'rope_scaling'",
                 "GGUF files have no dynamic rotation: beyond %g tokens the file gives other numbers",
                 r->limit);
  }
  return TN_OK;
}

/* ---- to config.json ---- */

double ck_short(double x) {
  char text[32];
  for (int digits = 1; digits <= 9 && isfinite(x); digits++) {
    snprintf(text, sizeof text, "%.*g", digits, x);
    double y = strtod(text, NULL);
    if ((float)y == (float)x) return y;
  }
  return x;
}

tn_json *ck_json_set(tn_arena *arena, tn_json *object, const char *key, tn_json value) {
  tn_json *node = tn_json_add(arena, object, key);
  if (!node) return NULL;
  value.key = node->key;
  *node = value;
  return node;
}

static tn_json real(double x) { return (tn_json){.kind = TN_JSON_REAL, .u.r = ck_short(x)}; }
static tn_json integer(double x) { return (tn_json){.kind = TN_JSON_INT, .u.i = (int64_t)x}; }
static tn_json text(const char *s) { return (tn_json){.kind = TN_JSON_STRING, .u.s = tn_str_of(s)}; }

static const tn_json *gguf_param(const tn_checkpoint *v, const char *key) {
  return tn_json_path(v->behind->gguf.config, key);
}

static double gguf_number(const tn_checkpoint *v, const char *key, double none) {
  const tn_json *j = gguf_param(v, key);
  return !j ? none : j->kind == TN_JSON_INT ? (double)j->u.i : j->kind == TN_JSON_REAL ? j->u.r : none;
}

static tn_status read_factors(const tn_checkpoint *v, const char *name, int64_t n, float *out,
                              tn_diags *diags) {
  uint32_t i = tn_checkpoint_index(v->behind, name);
  tn_ck_reader *r;
  if (i == CK_NONE || (int64_t)ck_columns_of(tn_checkpoint_at(v->behind, i)) != n)
    return tn_fail(diags, TN_INVALID, v->path, name,
                   "is missing or has another size than the rotary features");
  TN_TRY(tn_ck_reader_open(v->behind, i, diags, &r));
  tn_status s = tn_ck_reader_rows(r, 0, 1, out);
  tn_ck_reader_close(r);
  return s;
}

/* Factors come from 1 / ((1 - s) / factor + s), where s = (length / wave - low) / (high - low), cut to 0
 * .. 1. Only length / high and length / low count, so low is 1. */
typedef struct llama3 {
  double factor, high, length;
} llama3;

/* 1 / wave of feature i. */
static double turns_of(const tn_page_rope *r, int64_t i) {
  return pow(r->base, -2.0 * (double)i / (double)r->dim) / (2 * PI);
}

static bool gives(const tn_page_rope *r, const float *x, const llama3 *p) {
  for (int64_t i = 0; i < r->count; i++) {
    double s = fmin(fmax((p->length * turns_of(r, i) - 1) / (p->high - 1), 0), 1);
    if (fabs(1 / ((1 - s) / p->factor + s) / x[i] - 1) > 1e-4) return false;
  }
  return p->high > 1 && p->length > 0 && p->factor >= 1;
}

/* The features that are stretched in part lie on a line, s over 1 / wave. Published models have 4 and powers
 * of two: these are tried first, then what the line says. */
static bool solve_llama3(const tn_page_rope *r, const float *x, llama3 *out) {
  double sx = 0, sy = 0, sxx = 0, sxy = 0, n = 0;
  *out = (llama3){.factor = 1, .high = 4};
  for (int64_t i = 0; i < r->count; i++) out->factor = fmax(out->factor, (double)x[i]);
  for (int64_t i = 0; i < r->count && out->factor > 1; i++) {
    double s = (1.0 / x[i] - 1.0 / out->factor) / (1 - 1.0 / out->factor), t = turns_of(r, i);
    if (s > 1e-6 && s < 1 - 1e-6) sx += t, sy += s, sxx += t * t, sxy += t * s, n++;
  }
  for (out->length = 1 << 20; out->length >= 16; out->length /= 2)
    if (gives(r, x, out)) return true;
  if (n < 2) return false;
  double a = (n * sxy - sx * sy) / (n * sxx - sx * sx), b = (sy - a * sx) / n; /* s = a / wave + b */
  out->high = 1 - 1 / b;
  out->length = round(a * (out->high - 1));
  return b < 0 && gives(r, x, out);
}

static tn_json *set_llama3(tn_checkpoint *v, tn_json *o, const tn_page_rope *r, tn_diags *diags) {
  float *x = tn_arena_alloc(&v->arena, (size_t)r->count * sizeof *x);
  llama3 p;
  if (!x || read_factors(v, "rope_freqs.weight", r->count, x, diags) != TN_OK) return NULL;
  if (!solve_llama3(r, x, &p)) {
    tn_fail(diags, TN_UNSUPPORTED, v->path, "rope_freqs.weight", "is not what the rotation of Llama 3 gives");
    return NULL;
  }
  ck_json_set(&v->arena, o, "rope_type", text("llama3"));
  ck_json_set(&v->arena, o, "factor", real(p.factor));
  ck_json_set(&v->arena, o, "low_freq_factor", real(1));
  ck_json_set(&v->arena, o, "high_freq_factor", real(p.high));
  return ck_json_set(&v->arena, o, "original_max_position_embeddings", integer(p.length));
}

static tn_json *set_list(tn_checkpoint *v, tn_json *o, const char *key, const float *x, int64_t n) {
  tn_json *items = tn_arena_alloc(&v->arena, (size_t)n * sizeof *items);
  for (int64_t i = 0; items && i < n; i++) items[i] = real((double)x[i]);
  return items ? ck_json_set(&v->arena, o, key,
                             (tn_json){.kind = TN_JSON_LIST, .count = (uint32_t)n, .u.items = items})
               : NULL;
}

static tn_json *set_longrope(tn_checkpoint *v, tn_json *o, const tn_page_rope *r, tn_diags *diags) {
  float *x = tn_arena_alloc(&v->arena, (size_t)r->count * sizeof *x);
  double length = gguf_number(v, "rope.scaling.original_context_length", 0);
  if (!x) return NULL;
  ck_json_set(&v->arena, o, "rope_type", text("longrope"));
  if (read_factors(v, "rope_factors_long.weight", r->count, x, diags) != TN_OK ||
      !set_list(v, o, "long_factor", x, r->count))
    return NULL;
  if (read_factors(v, "rope_factors_short.weight", r->count, x, diags) != TN_OK ||
      !set_list(v, o, "short_factor", x, r->count))
    return NULL;
  ck_json_set(&v->arena, o, "attention_factor", real(r->factor));
  return ck_json_set(&v->arena, o, "original_max_position_embeddings", integer(length));
}

static tn_json *set_yarn(tn_checkpoint *v, tn_json *o, const tn_page_rope *r) {
  double multiplier = gguf_number(v, "rope.scaling.yarn_log_multiplier", 0);
  static const char *const same[][2] = {{"beta_fast", "rope.scaling.yarn_beta_fast"},
                                        {"beta_slow", "rope.scaling.yarn_beta_slow"}};
  ck_json_set(&v->arena, o, "rope_type", text("yarn"));
  ck_json_set(&v->arena, o, "factor", real(gguf_number(v, "rope.scaling.factor", 1)));
  for (size_t i = 0; i < TN_COUNT(same); i++)
    if (gguf_number(v, same[i][1], 0) > 0)
      ck_json_set(&v->arena, o, same[i][0], real(gguf_number(v, same[i][1], 0)));
  if (multiplier != 0) {
    ck_json_set(&v->arena, o, "mscale", real(10 * multiplier));
    ck_json_set(&v->arena, o, "mscale_all_dim", real(10 * multiplier));
  }
  if (multiplier == 0 || fabs(r->factor - 1) > 1e-6)
    ck_json_set(&v->arena, o, "attention_factor", real(r->factor));
  return ck_json_set(
      &v->arena, o, "original_max_position_embeddings",
      integer(gguf_number(v, "rope.scaling.original_context_length", gguf_number(v, "context_length", 0))));
}

static tn_json *set_scaling(tn_checkpoint *v, tn_json *o, const tn_page_rope *r, tn_diags *diags) {
  if (tn_checkpoint_find(v->behind, "rope_freqs.weight")) return set_llama3(v, o, r, diags);
  if (!strcmp(r->type, "yarn")) return set_yarn(v, o, r);
  if (!strcmp(r->type, "longrope")) return set_longrope(v, o, r, diags);
  ck_json_set(&v->arena, o, "rope_type", text("linear"));
  return ck_json_set(&v->arena, o, "factor", real(gguf_number(v, "rope.scaling.factor", 1)));
}

tn_status ck_rope_config(tn_checkpoint *v, tn_json *config, tn_diags *diags) {
  const tn_page_rope *r = main_rope(&v->behind->facts);
  tn_json *o, object = {.kind = TN_JSON_OBJECT};
  uint32_t before = diags->errors;
  if (!r || r->own) return TN_OK;
  if (!ck_json_set(&v->arena, config, "rope_theta", real(r->base))) return TN_OOM;
  if (r->dim != r->head_dim && !tn_json_peek(config, "qk_rope_head_dim"))
    if (!ck_json_set(&v->arena, config, "partial_rotary_factor", real((double)r->dim / (double)r->head_dim)))
      return TN_OOM;
  if (!strcmp(r->type, "default") && !tn_checkpoint_find(v->behind, "rope_freqs.weight")) return TN_OK;
  o = ck_json_set(&v->arena, config, "rope_scaling", object);
  if (o && set_scaling(v, o, r, diags)) return TN_OK;
  return diags->errors > before ? TN_UNSUPPORTED : tn_fail(diags, TN_OOM, v->path, NULL, "out of memory");
}
