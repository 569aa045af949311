/* sampling.c - the options that steer generation, from the command line to what the runtime takes: numbers by
 * a table, texts by name, a grammar or a JSON Schema from a file, a draft model opened. */
#include "frontend/grammar/schema.h"
#include "tools/tool.h"
#include <math.h>
#include <stdlib.h>

enum { DRAFT_TOKENS = 8 };

/* Where a number goes: a float or a 32-bit integer. */
static const struct {
  uint8_t option;
  bool real;
  size_t at;
} numbers[] = {
    {OPT_tokens, false, offsetof(tn_sampling, max_tokens)},
    {OPT_temperature, true, offsetof(tn_sampling, temperature)},
    {OPT_top_k, false, offsetof(tn_sampling, top_k)},
    {OPT_top_p, true, offsetof(tn_sampling, top_p)},
    {OPT_min_p, true, offsetof(tn_sampling, min_p)},
    {OPT_typical_p, true, offsetof(tn_sampling, typical_p)},
    {OPT_repetition, true, offsetof(tn_sampling, repetition_penalty)},
    {OPT_frequency, true, offsetof(tn_sampling, frequency_penalty)},
    {OPT_presence, true, offsetof(tn_sampling, presence_penalty)},
    {OPT_last_n, false, offsetof(tn_sampling, penalty_last_n)},
    {OPT_dry_multiplier, true, offsetof(tn_sampling, dry_multiplier)},
    {OPT_dry_base, true, offsetof(tn_sampling, dry_base)},
    {OPT_dry_length, false, offsetof(tn_sampling, dry_allowed_length)},
    {OPT_dry_last_n, false, offsetof(tn_sampling, dry_last_n)},
    {OPT_logprobs, false, offsetof(tn_sampling, logprobs)},
    {OPT_draft_tokens, false, offsetof(tn_sampling, draft_tokens)},
    {OPT_draft_ngram, false, offsetof(tn_sampling, draft_ngram)},
};

static tn_status read_numbers(const tn_args *a, tn_sampling *o, tn_diags *d) {
  bool bad = false;
  for (size_t i = 0; i < TN_COUNT(numbers); i++) {
    char *to = (char *)o + numbers[i].at;
    float real = (float)tn_args_real(a, numbers[i].option, 0, &bad);
    int64_t integer = numbers[i].real ? 0 : tn_args_int(a, numbers[i].option, 0, &bad);
    uint32_t bits = (uint32_t)integer;
    if (integer > INT32_MAX)
      return tn_fail(d, TN_INVALID, NULL, NULL, "'%s' is more than %d", a->last[numbers[i].option],
                     INT32_MAX);
    if (numbers[i].real)
      memcpy(to, &real, sizeof real);
    else
      memcpy(to, &bits, sizeof bits);
  }
  o->seed = (uint64_t)tn_args_int(a, OPT_seed, 0, &bad);
  return bad ? TN_INVALID : TN_OK;
}

/* All values of a repeated option; NULL: no memory. */
static const char **texts_of(const tn_args *a, uint32_t option, tn_arena *arena, uint32_t *n) {
  const char **out = tn_arena_alloc(arena, (a->given[option] + 1) * sizeof *out);
  for (*n = 0; out && *n < a->given[option]; ++*n) out[*n] = tn_args_nth(a, option, *n);
  return out;
}

static tn_status read_texts(const tn_args *a, tn_sampling_args *s) {
  if (a->given[OPT_stop] && !(s->o.stop = texts_of(a, OPT_stop, &s->arena, &s->o.nstop))) return TN_OOM;
  if (!a->given[OPT_dry_breaker]) return TN_OK;
  s->o.dry_breakers = texts_of(a, OPT_dry_breaker, &s->arena, &s->o.ndry_breakers);
  if (s->o.ndry_breakers && !strcmp(s->o.dry_breakers[0], "none")) s->o.ndry_breakers = 0;
  return s->o.dry_breakers ? TN_OK : TN_OOM;
}

static tn_status read_bias(const tn_args *a, tn_sampling_args *s, tn_diags *d) {
  uint32_t n = a->given[OPT_logit_bias];
  tn_logit_bias *b = tn_arena_alloc(&s->arena, (n + 1) * sizeof *b);
  if (!b) return TN_OOM;
  for (uint32_t i = 0; i < n; i++) {
    const char *text = tn_args_nth(a, OPT_logit_bias, i);
    char *end;
    long id = strtol(text, &end, 10);
    double x = end > text && *end == '=' ? strtod(end + 1, &end) : NAN;
    if (id < 0 || id > INT32_MAX || isnan(x) || x == (double)INFINITY || *end)
      return tn_fail(d, TN_INVALID, NULL, NULL, "--logit-bias: '%s' is not ID=NUMBER", text);
    b[i] = (tn_logit_bias){(int32_t)id, (float)x};
  }
  s->o.bias = b;
  s->o.nbias = n;
  return TN_OK;
}

/* A file's text, or the argument itself if it does not name one. */
static tn_status text_of(const char *arg, tn_buf *out, tn_diags *d) {
  tn_file f;
  const char *why;
  if (!tn_path_exists(arg) || strchr(arg, '\n')) return tn_buf_puts(out, arg), TN_OK;
  tn_status s = tn_file_map(&f, arg, &why);
  if (s) return tn_fail(d, s, arg, NULL, "%s", why);
  tn_buf_put(out, f.data, f.size);
  tn_file_unmap(&f);
  return TN_OK;
}

static tn_status read_grammar(const tn_args *a, tn_sampling_args *s, tn_diags *d) {
  const char *grammar = a->last[OPT_grammar], *schema = a->last[OPT_json_schema];
  tn_status status = TN_OK;
  if (!grammar && !schema) return TN_OK;
  if (grammar && schema)
    return tn_fail(d, TN_INVALID, NULL, NULL, "--grammar and --json-schema exclude each other");
  if (grammar) {
    TN_TRY(text_of(grammar, &s->grammar, d));
  } else {
    tn_buf json = {0};
    status = text_of(schema, &json, d);
    bool file = tn_path_exists(schema);
    if (!status)
      status = tn_schema_to_gbnf((tn_str){tn_buf_cstr(&json), json.len}, file ? schema : "json-schema",
                                 &s->grammar, d);
    tn_buf_fini(&json);
  }
  if (!status && s->grammar.failed) status = TN_OOM;
  s->o.grammar = tn_buf_cstr(&s->grammar);
  s->o.grammar_len = s->grammar.len;
  return status;
}

static tn_status open_draft(const tn_args *a, const tn_session_options *so, tn_sampling_args *s,
                            tn_diags *d) {
  tn_driver_options options;
  tn_session_options mine = *so;
  char error[256] = "";
  if (!s->o.draft_tokens && (a->last[OPT_draft] || a->given[OPT_draft_ngram]))
    s->o.draft_tokens = DRAFT_TOKENS;
  if (!a->last[OPT_draft]) return TN_OK;
  tn_args_driver(a, &s->arena, &options);
  s->has_draft = true;
  TN_TRY(tn_opened_open(&s->draft, a->last[OPT_draft], &options, d));
  mine.error = error;
  mine.error_size = sizeof error;
  mine.device = s->draft.device;
  tn_status status = s->draft.api->session_new(s->draft.model, &mine, &s->o.draft);
  return status ? tn_fail(d, status, a->last[OPT_draft], NULL, "cannot open a session: %s", error) : TN_OK;
}

tn_status tn_sampling_read(const tn_args *a, const tn_session_options *so, tn_sampling_args *out,
                           tn_diags *d) {
  *out = (tn_sampling_args){.o.size = sizeof out->o, .result.size = sizeof out->result};
  tn_arena_init(&out->arena);
  out->o.result = &out->result;
  tn_status s = read_numbers(a, &out->o, d);
  if (!s) s = read_texts(a, out);
  if (!s) s = read_bias(a, out, d);
  if (!s) s = read_grammar(a, out, d);
  if (!s) s = open_draft(a, so, out, d);
  if (s) tn_sampling_free(out);
  return s;
}

void tn_sampling_free(tn_sampling_args *s) {
  if (s->o.draft) s->draft.api->session_free(s->o.draft);
  if (s->has_draft) tn_opened_close(&s->draft);
  tn_buf_fini(&s->grammar);
  tn_arena_fini(&s->arena);
  memset(s, 0, sizeof *s);
}

const char *tn_finish_name(uint32_t finish) {
  static const char *const names[] = {[TN_FINISH_NONE] = "nothing",       [TN_FINISH_END] = "end token",
                                      [TN_FINISH_STOP] = "stop string",   [TN_FINISH_GRAMMAR] = "grammar",
                                      [TN_FINISH_LENGTH] = "max tokens",  [TN_FINISH_CAPACITY] = "capacity",
                                      [TN_FINISH_CANCELLED] = "cancelled"};
  return finish < TN_COUNT(names) ? names[finish] : "?";
}
