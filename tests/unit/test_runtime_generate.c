/* test_runtime_generate.c - choosing tokens. What must come out is worked out here from the definitions: a
 * softmax by hand, counts of many draws, the toy model's rule (the next token is the sum of all so far,
 * modulo 10). */
#include "backends/runtime/generate.h"
#include "tests/unit/toy_open.h"
#include <math.h>

enum { N = 5, DRAWS = 20000 };
static const float logits[N] = {1.0f, 3.0f, 2.0f, -1.0f, 2.0f};

static void count(const tn_sampling *o, int *counts) {
  tn_rt_candidate scratch[N];
  memset(counts, 0, N * sizeof *counts);
  for (uint64_t i = 0; i < DRAWS; i++) {
    float scores[N];
    int32_t id;
    memcpy(scores, logits, sizeof scores);
    ck_assert_int_eq(tn_rt_sample(scores, N, o, i, scratch, &id), TN_OK);
    counts[id]++;
  }
}

/* Draws against the probabilities of the tokens that are kept; 5 standard deviations. */
static void expect(const tn_sampling *o, const bool *kept) {
  double p[N], total = 0;
  int counts[N];
  for (int i = 0; i < N; i++) total += p[i] = kept[i] ? exp((double)logits[i] / (double)o->temperature) : 0;
  count(o, counts);
  for (int i = 0; i < N; i++) {
    double want = DRAWS * p[i] / total, deviation = sqrt(want * (1 - p[i] / total));
    ck_assert_msg(fabs(counts[i] - want) <= 5 * deviation, "token %d: %d draws, expected %.0f", i, counts[i],
                  want);
  }
}

START_TEST(test_distribution) {
  const bool all[N] = {1, 1, 1, 1, 1}, best3[N] = {0, 1, 1, 0, 1}, best2[N] = {0, 1, 1, 0, 0},
             best1[N] = {0, 1, 0, 0, 0};
  const bool not_worst[N] = {1, 1, 1, 0, 1};
  expect(&(tn_sampling){.temperature = 1, .seed = 7}, all);
  expect(&(tn_sampling){.temperature = 2.5f, .seed = 8}, all);
  expect(&(tn_sampling){.temperature = 1, .top_k = 3, .seed = 9}, best3);
  expect(&(tn_sampling){.temperature = 1, .top_k = 2, .seed = 9}, best2); /* of equals, the lower id */
  expect(&(tn_sampling){.temperature = 1, .top_k = 99, .seed = 10}, all);
  /* p = 0.529, 0.195, 0.195, 0.072, 0.0097 at temperature 1 */
  expect(&(tn_sampling){.temperature = 1, .top_p = 0.5f, .seed = 11}, best1);
  expect(&(tn_sampling){.temperature = 1, .top_p = 0.7f, .seed = 12}, best2);
  expect(&(tn_sampling){.temperature = 1, .top_p = 0.9f, .seed = 13}, best3);
  expect(&(tn_sampling){.temperature = 1, .top_p = 0.95f, .seed = 13}, not_worst);
  expect(&(tn_sampling){.temperature = 1, .top_p = 1, .seed = 14}, all);
  /* e^-2 = 0.135 of the best, e^-1 = 0.368, e^-4 = 0.018 */
  expect(&(tn_sampling){.temperature = 1, .min_p = 0.3f, .seed = 15}, best3);
  expect(&(tn_sampling){.temperature = 1, .min_p = 0.1f, .seed = 16}, not_worst);
  /* top-k first, so that of best2 the first holds 0.73 of what is left */
  expect(&(tn_sampling){.temperature = 1, .top_k = 2, .top_p = 0.6f, .seed = 17}, best1);
}
END_TEST

START_TEST(test_greedy) {
  tn_rt_candidate scratch[N];
  int32_t id;
  float scores[N] = {1, -INFINITY, 4, 4, 2};
  ck_assert_int_eq(tn_rt_sample(scores, N, &(tn_sampling){0}, 0, scratch, &id), TN_OK);
  ck_assert_int_eq(id, 2);
  /* Forbidden tokens are never drawn. */
  for (uint64_t i = 0; i < 2000; i++) {
    float all_but[N] = {-INFINITY, -INFINITY, 1, -INFINITY, 1};
    ck_assert_int_eq(tn_rt_sample(all_but, N, &(tn_sampling){.temperature = 5, .seed = 3}, i, scratch, &id),
                     TN_OK);
    ck_assert(id == 2 || id == 4);
  }
  float none[2] = {-INFINITY, -INFINITY}, odd[2] = {1, NAN};
  ck_assert_int_eq(tn_rt_sample(none, 2, &(tn_sampling){0}, 0, scratch, &id), TN_INTERNAL);
  ck_assert_int_eq(tn_rt_sample(odd, 2, &(tn_sampling){0}, 0, scratch, &id), TN_INTERNAL);
}
END_TEST

START_TEST(test_penalty) {
  float scores[N] = {1, 3, 2, -1, 2};
  uint32_t counts[N] = {0};
  const int32_t ids[] = {2, 1, 3, 1, -4, 77};
  const tn_sampling once = {.repetition_penalty = 1.5f, .penalty_last_n = 5};
  tn_rt_penalize(scores, N, ids, 6, &once, counts);
  const float want[N] = {1, 2, 2, -1.5f, 2}; /* each once, whatever the count; 2 is too long ago */
  for (int i = 0; i < N; i++) {
    ck_assert_float_eq(scores[i], want[i]);
    ck_assert_uint_eq(counts[i], 0);
  }
  const tn_sampling counted = {.frequency_penalty = 0.25f, .presence_penalty = 1};
  tn_rt_penalize(scores, N, ids, 6, &counted, counts);
  const float less[N] = {1, 0.5f, 0.75f, -2.75f, 2};
  for (int i = 0; i < N; i++) ck_assert_float_eq(scores[i], less[i]);
}
END_TEST

/* 1 2 3 4 . 1 2 3: what would come next is 4, after a repeat of three tokens. */
START_TEST(test_dry) {
  float scores[6] = {0}, next[6] = {0}, limited[6] = {0};
  uint32_t counts[6] = {0};
  tn_rt_breakers none = {0};
  const int32_t ids[] = {1, 2, 3, 4, 5, 1, 2, 3};
  tn_sampling o = {.dry_multiplier = 0.5f};
  ck_assert_int_eq(tn_rt_dry(scores, 6, ids, 8, &o, &none, counts), TN_OK);
  for (int i = 0; i < 6; i++) ck_assert_float_eq_tol(scores[i], i == 4 ? -0.5f * 1.75f : 0, 1e-6f);
  o.dry_base = 2, o.dry_allowed_length = 3;
  ck_assert_int_eq(tn_rt_dry(next, 6, ids, 8, &o, &none, counts), TN_OK);
  for (int i = 0; i < 6; i++) ck_assert_float_eq_tol(next[i], i == 4 ? -0.5f : 0, 1e-6f);
  o.dry_last_n = 4; /* the first time is too long ago */
  ck_assert_int_eq(tn_rt_dry(limited, 6, ids, 8, &o, &none, counts), TN_OK);
  for (int i = 0; i < 6; i++) ck_assert_float_eq(limited[i], 0);
}
END_TEST

/* ---- generation over the toy model --------------------------------------------------------------------- */

typedef struct heard {
  int32_t ids[200];
  uint32_t n, stop_at;
} heard;

static tn_status hear(void *user, int32_t token, const char *text, uint64_t len) {
  heard *h = user;
  ck_assert_ptr_nonnull(text);
  ck_assert_uint_eq(len, 0); /* no tokenizer */
  h->ids[h->n++] = token;
  return h->stop_at && h->n == h->stop_at ? TN_CANCELLED : TN_OK;
}

/* The rule, applied by hand. */
static uint32_t follow(const int32_t *prompt, int n, uint32_t max, int32_t *out) {
  int sum = 0;
  uint32_t k = 0;
  for (int i = 0; i < n; i++) sum += prompt[i];
  while (k < max) {
    out[k] = sum % 10;
    sum += out[k];
    if (!out[k++]) break; /* 0 ends, by the toy's metadata */
  }
  return k;
}

START_TEST(test_generates) {
  for (uint32_t threads = 1; threads <= 3; threads++) {
    toy t;
    toy_open(&t, threads);
    static const int32_t prompt[] = {1, 2, 3, 4, 1}, ends[] = {4, 6};
    int32_t want[200];
    heard h = {0};
    uint32_t n = follow(prompt, 5, 7, want);
    ck_assert_int_eq(t.api->generate(t.s, prompt, 5,
                                     &(tn_sampling){.size = sizeof(tn_sampling), .max_tokens = 7}, hear, &h),
                     TN_OK);
    ck_assert_uint_eq(h.n, n);
    ck_assert_mem_eq(h.ids, want, n * 4);
    ck_assert_int_eq(t.api->position(t.s), 5 + 6); /* the last one is not in the states */
    /* and goes before the next call's ids */
    int32_t more[20];
    memcpy(more, prompt, sizeof prompt);
    memcpy(more + 5, want, n * 4);
    more[5 + n] = 3;
    heard second = {0};
    ck_assert_int_eq(t.api->generate(t.s, more + 4 + n, 2,
                                     &(tn_sampling){.size = sizeof(tn_sampling), .max_tokens = 4}, hear,
                                     &second),
                     TN_OK);
    n = follow(more, (int)(6 + n), 4, want);
    ck_assert_uint_eq(second.n, n);
    ck_assert_mem_eq(second.ids, want, n * 4);
    /* An end token ends, and is told. */
    heard third = {0};
    t.api->session_reset(t.s);
    ck_assert_int_eq(t.api->generate(t.s, ends, 2, NULL, hear, &third), TN_OK);
    ck_assert_uint_eq(third.n, 1);
    ck_assert_int_eq(third.ids[0], 0);
    toy_close(&t);
  }
}
END_TEST

START_TEST(test_long_prompt) {
  toy t;
  toy_open_with(&t, 1, 1, 40, false, (tn_bytes){0});
  int32_t prompt[41], want[200];
  for (int i = 0; i < 41; i++) prompt[i] = 7;
  heard h = {0};
  /* Longer than S may be: read in pieces. Ends at the capacity. */
  ck_assert_int_eq(t.api->generate(t.s, prompt, 33,
                                   &(tn_sampling){.size = sizeof(tn_sampling), .max_tokens = 100}, hear, &h),
                   TN_OK);
  uint32_t n = follow(prompt, 33, 100, want);
  ck_assert_uint_eq(n, 100);
  ck_assert_uint_eq(h.n, 8); /* 33 + 7 fill it, an eighth can still be named */
  ck_assert_mem_eq(h.ids, want, 8 * 4);
  ck_assert_int_eq(t.api->position(t.s), 40);
  ck_assert_int_eq(t.api->generate(t.s, prompt, 1, NULL, hear, &h), TN_INVALID);
  ck_assert_str_eq(t.api->error(t.s), "1 tokens do not fit: there is room for 0 of 40, 40 are in the states");
  t.api->session_reset(t.s);
  ck_assert_int_eq(t.api->generate(t.s, prompt, 41, NULL, hear, &h), TN_INVALID);
  ck_assert_int_eq(t.api->generate(t.s, prompt, 0, NULL, hear, &h), TN_INVALID);
  ck_assert_str_eq(t.api->error(t.s), "no tokens to begin with");
  toy_close(&t);
}
END_TEST

START_TEST(test_cancels) {
  toy t;
  toy_open(&t, 2);
  static const int32_t prompt[] = {1};
  heard h = {.stop_at = 3};
  ck_assert_int_eq(t.api->generate(t.s, prompt, 1,
                                   &(tn_sampling){.size = sizeof(tn_sampling), .max_tokens = 50}, hear, &h),
                   TN_CANCELLED);
  ck_assert_uint_eq(h.n, 3);
  toy_close(&t);
}
END_TEST

/* The toy gives the scores of one position only. */
START_TEST(test_speculation_needs) {
  static const int32_t prompt[] = {1, 2};
  toy t;
  toy_open(&t, 1);
  tn_sampling o = {.size = sizeof o, .draft_tokens = 4};
  ck_assert_int_eq(t.api->generate(t.s, prompt, 2, &o, NULL, NULL), TN_UNSUPPORTED);
  ck_assert_str_eq(
      t.api->error(t.s),
      "speculation needs a model with states and the entry 'logits'; this one has no such entry");
  toy_close(&t);
}
END_TEST

/* Two prompts of the same length in one session give what each gives alone; of different lengths they need an
 * entry that the toy has not. */
static tn_status hear_batch(void *user, const tn_new_token *t) {
  heard *h = (heard *)user + t->sequence;
  h->ids[h->n++] = t->id;
  return TN_OK;
}
START_TEST(test_batch) {
  static const int32_t first[] = {1, 2, 3}, second[] = {4, 4, 9};
  const tn_prompt prompts[] = {{first, 3}, {second, 3}}, ragged[] = {{first, 3}, {second, 2}};
  toy t;
  toy_open_with(&t, 2, 3, 0, false, (tn_bytes){0});
  heard h[2] = {0};
  tn_generation r[2] = {{.size = sizeof *r}};
  tn_sampling o = {.size = sizeof o, .max_tokens = 9, .result = r};
  tn_status status = t.api->generate_batch(t.s, prompts, 2, &o, hear_batch, h);
  ck_assert_msg(status == TN_OK, "%s", t.api->error(t.s));
  for (int i = 0; i < 2; i++) {
    int32_t want[200];
    uint32_t n = follow(prompts[i].ids, 3, 9, want);
    ck_assert_uint_eq(h[i].n, n);
    ck_assert_mem_eq(h[i].ids, want, n * 4);
    ck_assert_uint_eq(r[i].new_tokens, n);
    ck_assert_uint_eq(r[i].finish, want[n - 1] ? TN_FINISH_LENGTH : TN_FINISH_END);
  }
  ck_assert_int_eq(t.api->generate_batch(t.s, prompts, 2, &o, hear_batch, h), TN_PRECONDITION);
  t.api->session_reset(t.s);
  ck_assert_int_eq(t.api->generate_batch(t.s, ragged, 2, &o, hear_batch, h), TN_UNSUPPORTED);
  ck_assert_int_eq(t.api->generate_batch(t.s, prompts, 4, &o, hear_batch, h), TN_INVALID);
  ck_assert_str_eq(t.api->error(t.s), "4 prompts in a session for a batch of 3");
  toy_close(&t);
}
END_TEST

/* Numbers that no caller can mean. */
START_TEST(test_options) {
  static const int32_t prompt[] = {1};
  static const char *const stop[] = {"x"};
  const tn_sampling bad[] = {{.size = sizeof *bad, .temperature = NAN},
                             {.size = sizeof *bad, .top_p = INFINITY},
                             {.size = sizeof *bad, .dry_multiplier = -1},
                             {.size = sizeof *bad, .logprobs = 101},
                             {.size = sizeof *bad, .draft_tokens = 65}};
  toy t;
  toy_open(&t, 1);
  for (size_t i = 0; i < TN_COUNT(bad); i++)
    ck_assert_int_eq(t.api->generate(t.s, prompt, 1, &bad[i], NULL, NULL), TN_INVALID);
  tn_sampling o = {.size = sizeof o, .stop = stop, .nstop = 1};
  ck_assert_int_eq(t.api->generate(t.s, prompt, 1, &o, NULL, NULL), TN_UNSUPPORTED);
  o = (tn_sampling){.size = sizeof o, .grammar = "root ::= \"a\""};
  ck_assert_int_eq(t.api->generate(t.s, prompt, 1, &o, NULL, NULL), TN_UNSUPPORTED);
  ck_assert_str_eq(t.api->error(t.s), "a grammar: the model has no tokenizer");
  toy_close(&t);
}
END_TEST

START_TEST(test_seeds) {
  static const int32_t prompt[] = {1, 2};
  heard first = {0}, again = {0}, other = {0};
  heard *all[] = {&first, &again, &other};
  for (int i = 0; i < 3; i++) {
    toy t;
    toy_open(&t, (uint32_t)i + 1);
    tn_sampling o = {.size = sizeof o, .max_tokens = 40, .temperature = 3, .seed = i < 2 ? 5 : 6};
    ck_assert_int_eq(t.api->generate(t.s, prompt, 2, &o, hear, all[i]), TN_OK);
    toy_close(&t);
  }
  ck_assert_uint_eq(first.n, again.n);
  ck_assert_mem_eq(first.ids, again.ids, sizeof first.ids);
  ck_assert(first.n != other.n || memcmp(first.ids, other.ids, sizeof first.ids));
}
END_TEST

/* ---- a model without states, with the scores of all positions
 * ------------------------------------------------ */

/* logits[s, v]: most likely is the sum of ids[0 .. s], modulo 10; dims S. */
static void prefix_sums(const tn_kcall *c) {
  const int32_t *ids = c->bufs[0];
  float *scores = c->bufs[1];
  int64_t sum = 0;
  for (int64_t s = 0; s < c->dims[0]; s++) {
    sum += ids[s];
    for (int64_t v = c->thread; v < 10; v += c->nthreads) scores[s * 10 + v] = v == sum % 10 ? 1.0f : 0.0f;
  }
}

static tn_buf stateless_program(void) {
  toy_blob t = {0};
  t.name = toy_str(&t, "stateless");
  uint32_t b = toy_str(&t, "B"), s = toy_str(&t, "S"), kernel = toy_str(&t, "prefix_sums");
  TOY_ROW(&t, dims, tn_prog_dim, {b, TN_PROG_DIM_INPUT, INT64_MAX});
  TOY_ROW(&t, dims, tn_prog_dim, {s, TN_PROG_DIM_INPUT, 12});
  uint32_t rows[] = {toy_sym(&t, 0), toy_sym(&t, 1), toy_const(&t, 10)}, shape = toy_scalars(&t, rows, 3);
  toy_arg(&t, "mask", TN_DT_i64, 2, shape);
  toy_arg(&t, "ids", TN_DT_i32, 2, shape);
  toy_arg(&t, "logits", TN_DT_f32, 3, shape);
  TOY_ROW(&t, kernels, tn_prog_kernel, {kernel, kernel});
  toy_step(&t, 0, TOY_OPERANDS({TN_PROG_INPUT, 1}, {TN_PROG_OUTPUT, 0}), shape + 1, 1, TN_PROG_NONE, 0);
  TOY_ROW(&t, variants, tn_prog_variant, {.dim = TN_PROG_NONE, .nsteps = 1});
  uint32_t name = toy_str(&t, "logits");
  TOY_ROW(&t, entries, tn_prog_entry, {name, 0, 2, 2, 1, 0, 1});
  toy_meta(&t, "eos", "0");
  return toy_finish(&t);
}

START_TEST(test_without_states) {
  static const tn_rt_kernel kernel = {prefix_sums, NULL};
  static const int32_t prompt[] = {1, 2, 3, 4, 1};
  toy t = {.api = &tn_rt_api, .program = stateless_program()};
  tn_rt_source src = {.program = {t.program.text, t.program.len}, .kernels = &kernel};
  ck_assert_msg(tn_rt_open(&src, &t.m, t.why, sizeof t.why) == TN_OK, "%s", t.why);
  ck_assert_int_eq(t.api->session_new(t.m, NULL, &t.s), TN_OK);
  heard h = {0};
  int32_t want[200];
  tn_status status = t.api->generate(t.s, prompt, 5,
                                     &(tn_sampling){.size = sizeof(tn_sampling), .max_tokens = 50}, hear, &h);
  ck_assert_msg(status == TN_OK, "%s", t.api->error(t.s));
  follow(prompt, 5, 50, want);
  ck_assert_uint_eq(h.n, 8); /* up to the limit of S, and the one after it */
  ck_assert_mem_eq(h.ids, want, 8 * 4);
  toy_close(&t);
}
END_TEST

START_TEST(test_needs_one) {
  toy t;
  toy_open_with(&t, 1, 2, 0, false, (tn_bytes){0});
  static const int32_t prompt[] = {1};
  heard h = {0};
  ck_assert_int_eq(t.api->generate(t.s, prompt, 1, NULL, hear, &h), TN_INVALID);
  ck_assert_str_eq(t.api->error(t.s), "generation needs a session for a batch of 1, this one is for 2");
  toy_close(&t);
}
END_TEST

int main(void) {
  Suite *s = suite_create("generate");
  TCase *c = tcase_create("generate");
  tcase_set_timeout(c, 120);
  tcase_add_test(c, test_distribution);
  tcase_add_test(c, test_greedy);
  tcase_add_test(c, test_penalty);
  tcase_add_test(c, test_dry);
  tcase_add_test(c, test_speculation_needs);
  tcase_add_test(c, test_batch);
  tcase_add_test(c, test_options);
  tcase_add_test(c, test_generates);
  tcase_add_test(c, test_long_prompt);
  tcase_add_test(c, test_cancels);
  tcase_add_test(c, test_seeds);
  tcase_add_test(c, test_without_states);
  tcase_add_test(c, test_needs_one);
  suite_add_tcase(s, c);
  return toy_main(s);
}
