/* toy_open.h - the toy model opened in this process, its kernels linked in. */
#ifndef TN_TEST_TOY_OPEN_H
#define TN_TEST_TOY_OPEN_H
#include "backends/runtime/runtime.h"
#include "tests/unit/toy.h"
#include <check.h>
#include <stdlib.h>
#define TOY_LINKAGE static
#include "tests/unit/toy_kernels.h"

static const tn_rt_kernel toy_kernels[TOY_KERNELS] = {
    {toy_gather, NULL}, {toy_scale, NULL}, {toy_one, NULL}, {toy_append, NULL}, {toy_next, NULL}};

typedef struct toy {
  const tn_model_api *api;
  tn_model *m;
  tn_session *s;
  tn_buf program;
  float weights[TOY_WEIGHT_BYTES / 4];
  char why[300];
} toy;

static inline void toy_open_with(toy *t, uint32_t threads, int64_t batch, int64_t capacity, bool keep,
                                 tn_bytes tokenizer) {
  memset(t, 0, sizeof *t);
  t->api = &tn_rt_api;
  t->program = toy_program("toy", NULL, 0, tokenizer);
  toy_weights(t->weights);
  tn_rt_source src = {.program = {t->program.text, t->program.len},
                      .kernels = toy_kernels,
                      .weights = t->weights,
                      .weights_bytes = sizeof t->weights,
                      .keep_values = keep};
  tn_status status = tn_rt_open(&src, &t->m, t->why, sizeof t->why);
  ck_assert_msg(status == TN_OK, "%s", t->why);
  tn_session_options o = {.size = sizeof o,
                          .threads = threads,
                          .batch = batch,
                          .capacity = capacity,
                          .error = t->why,
                          .error_size = sizeof t->why};
  status = t->api->session_new(t->m, &o, &t->s);
  ck_assert_msg(status == TN_OK, "%s", t->why);
}

static inline void toy_open(toy *t, uint32_t threads) {
  toy_open_with(t, threads, 1, 0, false, (tn_bytes){0});
}

static inline void toy_close(toy *t) {
  t->api->session_free(t->s);
  t->api->close(t->m);
  tn_buf_fini(&t->program);
}

static inline tn_tensor toy_tensor(const void *data, uint32_t dtype, uint32_t rank, int64_t a, int64_t b,
                                   int64_t c) {
  return (tn_tensor){(void *)(uintptr_t)data, dtype, rank, {a, b, c}};
}

/* encode with i32 ids and mask. */
static inline tn_status toy_encode(toy *t, int64_t B, int64_t S, const int32_t *ids, const int32_t *mask,
                                   float *hidden) {
  tn_tensor in[] = {toy_tensor(ids, TN_DT_i32, 2, B, S, 0), toy_tensor(mask, TN_DT_i32, 2, B, S, 0)};
  tn_tensor out = toy_tensor(hidden, TN_DT_f32, 3, B, S, 4);
  return t->api->invoke(t->s, 0, in, &out);
}

static inline tn_status toy_step_next(toy *t, int64_t B, int64_t S, const int32_t *ids, float *logits) {
  tn_tensor in = toy_tensor(ids, TN_DT_i32, 2, B, S, 0), out = toy_tensor(logits, TN_DT_f32, 2, B, 10, 0);
  return t->api->invoke(t->s, 1, &in, &out);
}

static inline int toy_main(Suite *s) {
  SRunner *r = srunner_create(s);
  srunner_run_all(r, CK_ENV);
  int failed = srunner_ntests_failed(r);
  srunner_free(r);
  return failed != 0;
}

#endif
