/* test_device.c - programs with kernels on a device, in this process: what goes over, what is replayed, where
 * states lie, two devices, errors. The device is backend_dev.c, whose memory the host cannot follow; what is
 * right is what the CPU says. */
#include "tools/tool.h"
#include <check.h>
#include <math.h>
#include <stdlib.h>

#define LLAMA TN_SOURCE_DIR "/tests/parity/models/llama"
enum { VOCABULARY_MOST = 4096, STEPS = 20 };

typedef struct world {
  tn_opened o;
  tn_diags d;
} world;

/* TENON_TEST_BACKEND names another backend with a device, TENON_TEST_PLUGIN its file: for the case "replay".
 */
static const char *backend_name(void) {
  const char *name = getenv("TENON_TEST_BACKEND");
  return name ? name : "dev";
}

/* claim: what TENON_DEV_CLAIM says; NULL: all on the CPU. */
static void world_open(world *w, const char *path, const char *claim) {
  const char *plugin = getenv("TENON_TEST_PLUGIN");
  const char *const plugins[] = {plugin ? plugin : BACKEND_DEV, TENON_CPU};
  tn_driver_options o = {.backend = claim ? backend_name() : "cpu", .plugins = plugins, .nplugins = 2};
  if (claim) setenv("TENON_DEV_CLAIM", claim, 1);
  tn_diags_init(&w->d);
  tn_status s = tn_opened_open(&w->o, path, &o, &w->d);
  tn_buf text = {0};
  tn_diags_text(&w->d, &text, false);
  ck_assert_msg(s == TN_OK, "%s", tn_buf_cstr(&text));
  tn_buf_fini(&text);
}

static void world_close(world *w) {
  tn_opened_close(&w->o);
  tn_diags_fini(&w->d);
}

static tn_session *session_on(world *w, const char *device) {
  char error[512] = "";
  tn_session_options so = {.size = sizeof so,
                           .threads = 2,
                           .capacity = 64,
                           .device = device,
                           .error = error,
                           .error_size = sizeof error};
  tn_session *s = NULL;
  ck_assert_msg(w->o.api->session_new(w->o.model, &so, &s) == TN_OK, "%s", error);
  return s;
}

/* Feeds n tokens; the scores behind the last one. */
static uint32_t feed(world *w, tn_session *s, const int32_t *ids, int64_t n, float *scores) {
  int entry = tn_opened_entry(&w->o, "next");
  tn_tensor in = {(void *)(uintptr_t)ids, TN_DT_i32, 2, {1, n}}, out = {0};
  ck_assert_int_ge(entry, 0);
  ck_assert_int_eq(w->o.api->shapes(s, (uint32_t)entry, &in, &out), TN_OK);
  uint32_t count = (uint32_t)out.shape[out.rank - 1];
  ck_assert_uint_le(count, VOCABULARY_MOST);
  out.data = scores;
  ck_assert_msg(w->o.api->invoke(s, (uint32_t)entry, &in, &out) == TN_OK, "%s", w->o.api->error(s));
  return count;
}

static void expect_near(const float *a, const float *b, uint32_t n, const char *where) {
  for (uint32_t i = 0; i < n; i++)
    ck_assert_msg(fabsf(a[i] - b[i]) <= 1e-4f + 1e-3f * fabsf(b[i]), "%s: score %u is %g, expected %g", where,
                  i, (double)a[i], (double)b[i]);
}

static const int32_t prompt[5] = {3, 14, 15, 9, 26};

/* The same tokens through both; a reset and a rewind on the way. */
static void same_scores(world *cpu, tn_session *a, world *dev, tn_session *b, const char *where) {
  static float x[VOCABULARY_MOST], y[VOCABULARY_MOST];
  for (int round = 0; round < 2; round++) {
    uint32_t n = feed(cpu, a, prompt, 5, x);
    feed(dev, b, prompt, 5, y);
    expect_near(y, x, n, where);
    for (int32_t t = 0; t < 6; t++) {
      feed(cpu, a, &t, 1, x);
      feed(dev, b, &t, 1, y);
      expect_near(y, x, n, where);
    }
    ck_assert_int_eq(cpu->o.api->rewind(a, 7), TN_OK);
    ck_assert_int_eq(dev->o.api->rewind(b, 7), TN_OK);
    feed(cpu, a, prompt, 1, x);
    feed(dev, b, prompt, 1, y);
    expect_near(y, x, n, where);
    ck_assert_int_eq(cpu->o.api->session_reset(a), TN_OK);
    ck_assert_int_eq(dev->o.api->session_reset(b), TN_OK);
  }
}

/* Every way of sharing the ops out gives the same scores. */
START_TEST(test_mixed) {
  static const char *const claims[] = {
      "all", "odd", "even", "not:matmul", "not:attention", "not:kv_update", "not:rms_norm,gather"};
  world cpu, dev;
  world_open(&cpu, LLAMA, NULL);
  for (size_t i = 0; i < TN_COUNT(claims); i++) {
    world_open(&dev, LLAMA, claims[i]);
    tn_session *a = session_on(&cpu, NULL), *b = session_on(&dev, NULL);
    same_scores(&cpu, a, &dev, b, claims[i]);
    cpu.o.api->session_free(a);
    dev.o.api->session_free(b);
    world_close(&dev);
  }
  world_close(&cpu);
}
END_TEST

/* A decode step on the device is one run of launches, the same each time, with the token going over and the
 * scores coming back. */
START_TEST(test_replay) {
  static float scores[VOCABULARY_MOST];
  world w;
  world_open(&w, LLAMA, "all");
  tn_session *s = session_on(&w, NULL);
  tn_rt_device_use before, after;
  tn_rt_use use;
  uint32_t n = 0;
  for (int32_t t = 0; t < 2; t++) feed(&w, s, &t, 1, scores);
  tn_rt_device_used(s, &before);
  for (int32_t t = 0; t < STEPS; t++) n = feed(&w, s, &t, 1, scores);
  tn_rt_device_used(s, &after);
  ck_assert_uint_eq(after.runs - before.runs, STEPS);
  ck_assert_uint_eq(after.replayed - before.replayed, STEPS);
  ck_assert_uint_eq(after.uploads - before.uploads, STEPS);
  ck_assert_uint_eq(after.upload_bytes - before.upload_bytes, 4 * STEPS);
  ck_assert_uint_eq(after.downloads - before.downloads, STEPS);
  ck_assert_uint_eq(after.download_bytes - before.download_bytes, 4ull * n * STEPS);
  tn_rt_memory_use(s, &use);
  ck_assert_uint_ge(use.device, use.weights + use.states);
  w.o.api->session_free(s);
  world_close(&w);
}
END_TEST

/* Both devices of one model, at the same time; two names of one device are one. */
START_TEST(test_devices) {
  world cpu, dev;
  tn_rt_device_use x;
  world_open(&cpu, LLAMA, NULL);
  world_open(&dev, LLAMA, "not:softmax,mul");
  tn_session *a = session_on(&cpu, NULL), *b = session_on(&cpu, NULL);
  tn_session *first = session_on(&dev, "dev"), *second = session_on(&dev, "dev:U-1"),
             *again = session_on(&dev, "dev:1");
  same_scores(&cpu, a, &dev, first, "dev");
  same_scores(&cpu, b, &dev, second, "dev:U-1");
  same_scores(&cpu, b, &dev, again, "dev:1");
  same_scores(&cpu, a, &dev, first, "dev again");
  tn_rt_device_used(first, &x);
  ck_assert_str_eq(x.spec, "dev:0");
  tn_rt_device_used(second, &x);
  ck_assert_str_eq(x.spec, "dev:1");
  tn_session *all[] = {first, second, again};
  for (size_t i = 0; i < TN_COUNT(all); i++) dev.o.api->session_free(all[i]);
  cpu.o.api->session_free(a);
  cpu.o.api->session_free(b);
  world_close(&dev);
  world_close(&cpu);
}
END_TEST

static void expect_refused(world *w, tn_session_options so, tn_status want, const char *words) {
  char error[512] = "";
  tn_session *s = NULL;
  so.size = sizeof so;
  so.error = error;
  so.error_size = sizeof error;
  ck_assert_int_eq(w->o.api->session_new(w->o.model, &so, &s), want);
  ck_assert_msg(strstr(error, words) != NULL, "'%s' does not contain '%s'", error, words);
  ck_assert_ptr_null(s);
}

START_TEST(test_errors) {
  world w;
  int stream;
  world_open(&w, LLAMA, "all");
  expect_refused(&w, (tn_session_options){.device = "dev:7"}, TN_NOT_FOUND, "there is no such device");
  expect_refused(&w, (tn_session_options){.stream = &stream}, TN_INVALID, "has no streams");
  expect_refused(&w, (tn_session_options){.batch = 1 << 20}, TN_OOM, "bytes of state '");
  tn_session *s = session_on(&w, "dev:0"); /* a failure leaves the model as it was */
  static float scores[VOCABULARY_MOST];
  feed(&w, s, prompt, 5, scores);
  w.o.api->session_free(s);
  world_close(&w);
  world_open(&w, LLAMA, NULL);
  expect_refused(&w, (tn_session_options){.device = "dev:0"}, TN_INVALID, "no kernels for a device");
  world_close(&w);
}
END_TEST

/* Every word of a program with copies changed, and the hash made right again: what is still taken opens and
 * is described without a step outside. */
static void open_forged(const world *w, char *blob, uint64_t bytes) {
  tn_rt_source src = {.program = {blob, bytes},
                      .kernels = w->o.jit.kernels,
                      .weights = w->o.jit.weights,
                      .weights_bytes = w->o.jit.weights_bytes,
                      .device = w->o.jit.device,
                      .images = w->o.jit.images,
                      .nimages = w->o.jit.nimages};
  tn_model *m = NULL;
  char error[256];
  const tn_prog_header *was = (const tn_prog_header *)(const void *)w->o.build.program.text;
  if (((const tn_prog_header *)(const void *)blob)->kernels.count > was->kernels.count) return;
  if (tn_rt_open(&src, &m, error, sizeof error)) return;
  tn_session_options so = {.size = sizeof so, .threads = 1, .capacity = 8};
  tn_session *s = NULL;
  if (tn_rt_api.session_new(m, &so, &s) == TN_OK) tn_rt_api.session_free(s);
  tn_rt_api.close(m);
}

START_TEST(test_forged) {
  static const uint32_t values[] = {0, 1, 4, 0x7fffffff, 0xffffffff};
  world w;
  world_open(&w, LLAMA, "odd");
  const tn_buf *b = &w.o.build.program;
  const tn_prog_header *h = (const tn_prog_header *)(const void *)b->text;
  uint64_t from = h->steps.offset, bytes = h->steps.count * sizeof(tn_prog_step), accepted = 0, refused = 0;
  char *copy = malloc(b->len);
  for (uint64_t i = 0; i < 64 + bytes; i += 4) /* the header's first words, and all steps */
    for (size_t k = 0; k < TN_COUNT(values); k++) {
      char error[256] = "";
      memcpy(copy, b->text, b->len);
      memcpy(copy + (i < 64 ? i : from + i - 64), &values[k], 4);
      tn_prog_header *head = (tn_prog_header *)(void *)copy;
      head->hash = tn_hash_bytes(copy + sizeof *head, b->len - sizeof *head, 0);
      bool ok = tn_prog_check((tn_bytes){copy, b->len}, error, sizeof error) == TN_OK;
      accepted += ok;
      refused += !ok;
      ck_assert(ok || *error);
      if (ok && (i + k) % 7 == 0) open_forged(&w, copy, b->len);
    }
  ck_assert_uint_gt(accepted, 100);
  ck_assert_uint_gt(refused, 1000);
  free(copy);
  world_close(&w);
}
END_TEST

/* What is wrong with a copy is said. */
START_TEST(test_words) {
  static const struct {
    uint32_t field, value;
    const char *words;
  } cases[] = {{offsetof(tn_prog_step, kernel), 2, "in direction 2"},
               {offsetof(tn_prog_step, noperands), 0, "copies 0 operands"},
               {offsetof(tn_prog_step, ahead), 1, "is no kernel"},
               {offsetof(tn_prog_step, nscalars), 1, "is no kernel"}};
  world w;
  world_open(&w, LLAMA, "odd");
  tn_buf *b = &w.o.build.program;
  char *copy = malloc(b->len), error[256];
  for (size_t i = 0; i <= TN_COUNT(cases); i++) {
    memcpy(copy, b->text, b->len);
    tn_prog_header *head = (tn_prog_header *)(void *)copy;
    tn_prog_step *step = (tn_prog_step *)(void *)(copy + head->steps.offset);
    while (step->kind != TN_PROG_COPY || step->kernel != TN_PROG_DOWNLOAD) step++;
    if (i < TN_COUNT(cases))
      memcpy((char *)step + cases[i].field, &cases[i].value, 4);
    else
      head->device = 0;
    head->hash = tn_hash_bytes(copy + sizeof *head, b->len - sizeof *head, 0);
    const char *words = i < TN_COUNT(cases) ? cases[i].words : "uses no device";
    ck_assert_int_eq(tn_prog_check((tn_bytes){copy, b->len}, error, sizeof error), TN_DATA_LOSS);
    ck_assert_msg(strstr(error, words) != NULL, "'%s' does not contain '%s'", error, words);
  }
  free(copy);
  world_close(&w);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("device");
  TCase *c = tcase_create("device");
  tcase_set_timeout(c, 300);
  tcase_add_test(c, test_mixed);
  tcase_add_test(c, test_devices);
  tcase_add_test(c, test_errors);
  tcase_add_test(c, test_forged);
  tcase_add_test(c, test_words);
  suite_add_tcase(suite, c);
  TCase *replay = tcase_create("replay");
  tcase_set_timeout(replay, 300);
  tcase_add_test(replay, test_replay);
  suite_add_tcase(suite, replay);
  SRunner *runner = srunner_create(suite);
  srunner_run_all(runner, CK_ENV);
  int failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed != 0;
}
