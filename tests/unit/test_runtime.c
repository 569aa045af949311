/* test_runtime.c - opening a program, binding its dims, running its steps, states; what is wrong is said with
 * both values. Expected numbers are worked out from toy.h's description. */
#include "tests/unit/toy_open.h"
#include "backends/runtime/rt.h"
#include <stdio.h>
#include <unistd.h>

#define says(t, words) ck_assert_str_eq((t)->api->error((t)->s), words)

START_TEST(test_describes) {
  toy t;
  toy_open(&t, 1);
  tn_entry_info e;
  tn_arg_info a;
  ck_assert_str_eq(t.api->name(t.m), "toy");
  ck_assert_uint_eq(t.api->entry_count(t.m), 2);
  ck_assert_int_eq(t.api->entry(t.m, 0, &e), TN_OK);
  ck_assert_str_eq(e.name, "encode");
  ck_assert_uint_eq(e.ninputs, 2);
  ck_assert_int_eq(t.api->entry(t.m, 2, &e), TN_NOT_FOUND);
  ck_assert_int_eq(t.api->input(t.m, 0, 1, &a), TN_OK);
  ck_assert_str_eq(a.name, "mask");
  ck_assert_str_eq(a.shape, "[B, S]");
  ck_assert_uint_eq(a.dtype, TN_DT_i32);
  ck_assert_int_eq(t.api->output(t.m, 0, 0, &a), TN_OK);
  ck_assert_str_eq(a.shape, "[B, S, 4]");
  ck_assert_int_eq(t.api->output(t.m, 0, 1, &a), TN_NOT_FOUND);
  ck_assert_uint_eq(t.api->meta_count(t.m), 2);
  ck_assert_str_eq(t.api->meta_key(t.m, 0), "architecture");
  ck_assert_str_eq(t.api->meta(t.m, "architecture"), "Toy");
  ck_assert_ptr_null(t.api->meta(t.m, "nothing"));
  ck_assert_ptr_null(t.api->meta_key(t.m, 2));
  ck_assert_ptr_null(tn_model_query(TN_ABI + (1u << 16)));
  ck_assert_ptr_eq(tn_model_query(TN_ABI), t.api);
  toy_close(&t);
}
END_TEST

/* hidden = id + k/4 (times mask) + 1000 k. */
static void check_hidden(const float *hidden, const int32_t *ids, const int32_t *mask, int64_t n,
                         float extra) {
  for (int64_t i = 0; i < n; i++)
    for (int k = 0; k < 4; k++) {
      float want = ((float)ids[i] + (float)k / 4) * (float)mask[i] + 1000.0f * (float)k + extra;
      ck_assert_float_eq(hidden[4 * i + k], want);
    }
}

START_TEST(test_runs) {
  static const int32_t ids[] = {3, 1, 4, 1, 5, 9, 2, 6}, mask[] = {1, 1, 1, 0, 1, 1, 0, 1};
  float hidden[32];
  for (uint32_t threads = 1; threads <= 8; threads++) {
    toy t;
    toy_open(&t, threads);
    for (int round = 0; round < 20; round++) {
      memset(hidden, 0xff, sizeof hidden);
      ck_assert_int_eq(toy_encode(&t, 2, 4, ids, mask, hidden), TN_OK);
      check_hidden(hidden, ids, mask, 8, 0);
      ck_assert_int_eq(toy_encode(&t, 1, 8, ids, mask, hidden), TN_OK);
      check_hidden(hidden, ids, mask, 8, 0);
    }
    /* One token has its own kernel, which adds a half. */
    ck_assert_int_eq(toy_encode(&t, 3, 1, ids, mask, hidden), TN_OK);
    check_hidden(hidden, ids, mask, 3, 0.5f);
    ck_assert_int_eq(t.api->position(t.s), 0);
    toy_close(&t);
  }
}
END_TEST

START_TEST(test_integers) {
  toy t;
  toy_open(&t, 2);
  static const int32_t ids[] = {3, 1, 4}, mask[] = {1, 0, 1};
  int64_t wide[] = {3, 1, 4};
  float hidden[12];
  tn_tensor in[] = {toy_tensor(wide, TN_DT_i64, 2, 1, 3, 0), toy_tensor(mask, TN_DT_i32, 2, 1, 3, 0)};
  tn_tensor out = toy_tensor(hidden, TN_DT_f32, 3, 1, 3, 4);
  ck_assert_int_eq(t.api->invoke(t.s, 0, in, &out), TN_OK);
  check_hidden(hidden, ids, mask, 3, 0);
  wide[1] = 1ll << 40;
  ck_assert_int_eq(t.api->invoke(t.s, 0, in, &out), TN_INVALID);
  says(&t, "input 'ids' has 1099511627776 at 1, which does not fit into i32");
  in[0].dtype = TN_DT_f32;
  ck_assert_int_eq(t.api->invoke(t.s, 0, in, &out), TN_INVALID);
  says(&t, "input 'ids' has element type f32, expected i32");
  toy_close(&t);
}
END_TEST

START_TEST(test_shapes) {
  toy t;
  toy_open(&t, 1);
  static const int32_t ids[16] = {0};
  float hidden[64];
  tn_tensor in[] = {toy_tensor(NULL, TN_DT_i32, 2, 2, 5, 0), toy_tensor(NULL, TN_DT_i32, 2, 2, 5, 0)}, out;
  ck_assert_int_eq(t.api->shapes(t.s, 0, in, &out), TN_OK);
  ck_assert_uint_eq(out.dtype, TN_DT_f32);
  ck_assert_uint_eq(out.rank, 3);
  ck_assert(out.shape[0] == 2 && out.shape[1] == 5 && out.shape[2] == 4);
  ck_assert_int_eq(t.api->shapes(t.s, 7, in, &out), TN_NOT_FOUND);
  says(&t, "entry 7 of 2");
  in[0].shape[1] = 700;
  ck_assert_int_eq(t.api->shapes(t.s, 0, in, &out), TN_INVALID);
  says(&t, "input 'ids' has S = 700, the limit is 8");
  in[0].shape[1] = 0;
  ck_assert_int_eq(t.api->shapes(t.s, 0, in, &out), TN_INVALID);
  says(&t, "input 'ids' has S = 0, the least is 1");
  in[0].shape[1] = 6;
  ck_assert_int_eq(t.api->shapes(t.s, 0, in, &out), TN_INVALID);
  says(&t, "input 'mask' has 5 in dim 1, expected S = 6");
  in[0].shape[1] = 5, in[1].shape[0] = INT64_MIN;
  ck_assert_int_eq(t.api->shapes(t.s, 0, in, &out), TN_INVALID);
  in[1].rank = 3;
  ck_assert_int_eq(t.api->shapes(t.s, 0, in, &out), TN_INVALID);
  says(&t, "input 'mask' has rank 3, expected 2: [B, S]");
  in[0] = toy_tensor(ids, TN_DT_i32, 2, 2, 5, 0), in[1] = in[0];
  out = toy_tensor(hidden, TN_DT_f32, 3, 2, 5, 3);
  ck_assert_int_eq(t.api->invoke(t.s, 0, in, &out), TN_INVALID);
  says(&t, "output 'hidden' has 3 in dim 2, expected 4: [B, S, 4]");
  out.shape[2] = 4, out.dtype = TN_DT_f16;
  ck_assert_int_eq(t.api->invoke(t.s, 0, in, &out), TN_INVALID);
  says(&t, "output 'hidden' has element type f16, expected f32");
  out.dtype = TN_DT_f32, out.data = (char *)hidden + 2;
  ck_assert_int_eq(t.api->invoke(t.s, 0, in, &out), TN_INVALID);
  says(&t, "output 'hidden' does not lie at a multiple of 4 bytes");
  in[0].dtype = 9999, out.data = hidden;
  ck_assert_int_eq(t.api->invoke(t.s, 0, in, &out), TN_INVALID);
  says(&t, "input 'ids' has element type ?, expected i32");
  /* A huge batch: the product of sizes overflows, or memory does not reach. Either is an error, not a crash.
   */
  in[0] = toy_tensor(ids, TN_DT_i32, 2, INT64_MAX / 4, 2, 0), in[1] = in[0];
  out = toy_tensor(hidden, TN_DT_f32, 3, INT64_MAX / 4, 2, 4);
  ck_assert_int_eq(t.api->invoke(t.s, 0, in, &out), TN_INVALID);
  toy_close(&t);
}
END_TEST

/* argmax of what `next` gives must be the sum of all tokens so far, modulo 10. */
static int best(const float *logits) {
  int at = 0;
  for (int i = 1; i < 10; i++)
    if (logits[i] > logits[at]) at = i;
  return at;
}

START_TEST(test_states) {
  for (uint32_t threads = 1; threads <= 4; threads++) {
    toy t;
    toy_open_with(&t, threads, 2, 12, false, (tn_bytes){0});
    static const int32_t a[] = {1, 2, 3, 5, 5, 5}, b[] = {4, 1};
    float logits[20];
    ck_assert_int_eq(toy_step_next(&t, 2, 3, a, logits), TN_OK);
    ck_assert_int_eq(best(logits), 6);
    ck_assert_int_eq(best(logits + 10), 5);
    ck_assert_int_eq(t.api->position(t.s), 3);
    ck_assert_int_eq(toy_step_next(&t, 2, 1, b, logits), TN_OK);
    ck_assert_int_eq(best(logits), 0);
    ck_assert_int_eq(best(logits + 10), 6);
    ck_assert_int_eq(t.api->position(t.s), 4);
    ck_assert_int_eq(t.api->rewind(t.s, 5), TN_INVALID);
    says(&t, "cannot rewind to position 5: the states hold 4 tokens");
    ck_assert_int_eq(t.api->rewind(t.s, 1), TN_OK);
    ck_assert_int_eq(toy_step_next(&t, 2, 1, b, logits), TN_OK);
    ck_assert_int_eq(best(logits), 5);
    ck_assert_int_eq(t.api->session_reset(t.s), TN_OK);
    ck_assert_int_eq(t.api->position(t.s), 0);
    ck_assert_int_eq(toy_step_next(&t, 2, 1, b, logits), TN_OK);
    ck_assert_int_eq(best(logits), 4);
    toy_close(&t);
  }
}
END_TEST

START_TEST(test_capacity) {
  toy t;
  toy_open_with(&t, 1, 1, 10, false, (tn_bytes){0});
  static const int32_t ids[8] = {1, 1, 1, 1, 1, 1, 1, 1};
  float logits[20];
  ck_assert_int_eq(toy_step_next(&t, 1, 8, ids, logits), TN_OK);
  ck_assert_int_eq(toy_step_next(&t, 1, 3, ids, logits), TN_INVALID);
  says(&t, "P + S = 11 is more than C = 10, what the session's states hold");
  ck_assert_int_eq(t.api->position(t.s), 8);
  ck_assert_int_eq(toy_step_next(&t, 1, 2, ids, logits), TN_OK);
  ck_assert_int_eq(best(logits), 0);
  /* encode uses no state: the position does not count. */
  float hidden[32];
  ck_assert_int_eq(toy_encode(&t, 2, 4, ids, ids, hidden), TN_OK);
  ck_assert_int_eq(t.api->position(t.s), 10);
  ck_assert_int_eq(t.api->session_reset(t.s), TN_OK);
  ck_assert_int_eq(toy_step_next(&t, 2, 3, ids, logits), TN_INVALID);
  says(&t, "the inputs need 80 bytes of state 'tokens', the session has 40 for a batch of 1");
  tn_session *s = NULL;
  tn_session_options o = {.size = sizeof o, .capacity = 65, .error = t.why, .error_size = sizeof t.why};
  ck_assert_int_eq(t.api->session_new(t.m, &o, &s), TN_INVALID);
  ck_assert_str_eq(t.why, "a capacity of 65, the limit is 64");
  ck_assert_ptr_null(s);
  o = (tn_session_options){.size = sizeof o, .batch = -1, .error = t.why, .error_size = sizeof t.why};
  ck_assert_int_eq(t.api->session_new(t.m, &o, &s), TN_INVALID);
  ck_assert_str_eq(t.why, "a batch of -1, the least is 1");
  o = (tn_session_options){
      .size = sizeof o, .batch = INT64_MAX / 2, .error = t.why, .error_size = sizeof t.why};
  ck_assert_int_eq(t.api->session_new(t.m, &o, &s), TN_INVALID);
  o = (tn_session_options){.size = sizeof o, .threads = 5000, .error = t.why, .error_size = sizeof t.why};
  ck_assert_int_eq(t.api->session_new(t.m, &o, &s), TN_INVALID);
  ck_assert_str_eq(t.why, "5000 threads, the limit is 1024");
  /* NULL options: all defaults; an older caller's shorter table works too. */
  ck_assert_int_eq(t.api->session_new(t.m, NULL, &s), TN_OK);
  t.api->session_free(s);
  o = (tn_session_options){
      .size = offsetof(tn_session_options, error), .error = (char *)1, .error_size = 99, .batch = -1};
  ck_assert_int_eq(t.api->session_new(t.m, &o, &s), TN_INVALID);
  toy_close(&t);
}
END_TEST

/* Two sessions of one model do not see each other. */
START_TEST(test_two_sessions) {
  toy t;
  toy_open(&t, 2);
  tn_session *other;
  tn_session_options o = {.size = sizeof o, .threads = 3};
  ck_assert_int_eq(t.api->session_new(t.m, &o, &other), TN_OK);
  static const int32_t a[] = {1, 2}, b[] = {7};
  float logits[10];
  ck_assert_int_eq(toy_step_next(&t, 1, 2, a, logits), TN_OK);
  tn_session *first = t.s;
  t.s = other;
  ck_assert_int_eq(toy_step_next(&t, 1, 1, b, logits), TN_OK);
  ck_assert_int_eq(best(logits), 7);
  t.s = first;
  ck_assert_int_eq(toy_step_next(&t, 1, 1, b, logits), TN_OK);
  ck_assert_int_eq(best(logits), 0);
  t.api->session_free(other);
  toy_close(&t);
}
END_TEST

/* Once sizes have been seen, calls allocate nothing: every allocation is made to fail. */
START_TEST(test_no_allocation) {
  toy t;
  toy_open_with(&t, 2, 1, 64, false, (tn_bytes){0});
  static const int32_t ids[8] = {1, 2, 3, 4, 5, 6, 7, 8}, mask[8] = {1, 1, 1, 1, 1, 1, 1, 1};
  float hidden[32], logits[10];
  ck_assert_int_eq(toy_encode(&t, 1, 8, ids, mask, hidden), TN_OK);
  tn_mem_fail_after(0);
  for (int i = 0; i < 8; i++) ck_assert_int_eq(toy_encode(&t, 1, 1 + i, ids, mask, hidden), TN_OK);
  for (int i = 0; i < 30; i++) ck_assert_int_eq(toy_step_next(&t, 1, 1, ids, logits), TN_OK);
  tn_mem_fail_after(-1);
  ck_assert_int_eq(best(logits), 0);
  toy_close(&t);
}
END_TEST

START_TEST(test_memory_runs_out) {
  tn_buf program = toy_program("toy", NULL, 0, (tn_bytes){0});
  float weights[TOY_WEIGHT_BYTES / 4];
  toy_weights(weights);
  tn_rt_source src = {.program = {program.text, program.len},
                      .kernels = toy_kernels,
                      .weights = weights,
                      .weights_bytes = sizeof weights};
  for (long n = 0;; n++) {
    tn_model *m = NULL;
    tn_session *s = NULL;
    tn_session_options o = {.size = sizeof o, .threads = 2};
    tn_mem_fail_after(n);
    tn_status status = tn_rt_open(&src, &m, NULL, 0);
    if (!status) status = tn_rt_api.session_new(m, &o, &s);
    tn_mem_fail_after(-1);
    tn_rt_api.session_free(s);
    tn_rt_api.close(m);
    if (!status) break;
    ck_assert_int_eq(status, TN_OOM);
    ck_assert_int_lt(n, 100);
  }
  tn_buf_fini(&program);
}
END_TEST

START_TEST(test_refuses_to_open) {
  tn_buf program = toy_program("toy", NULL, 0, (tn_bytes){0});
  float weights[TOY_WEIGHT_BYTES / 4];
  char why[200];
  tn_model *m = NULL;
  tn_rt_source src = {.program = {program.text, program.len},
                      .kernels = toy_kernels,
                      .weights = weights,
                      .weights_bytes = 200};
  ck_assert_int_eq(tn_rt_open(&src, &m, why, sizeof why), TN_DATA_LOSS);
  ck_assert_str_eq(why, "weight 'bias': 16 bytes at 192 do not fit into the 200 bytes of the packed weights");
  tn_rt_kernel missing[TOY_KERNELS];
  memcpy(missing, toy_kernels, sizeof missing);
  missing[2].fn = NULL;
  src.kernels = missing;
  ck_assert_int_eq(tn_rt_open(&src, &m, why, sizeof why), TN_NOT_FOUND);
  ck_assert_str_eq(why, "kernel 'toy_one' is missing");
  ck_assert_int_eq(tn_rt_api.open(NULL, &m, why, sizeof why), TN_UNSUPPORTED);
  ck_assert_str_eq(why, "this program holds no compiled model");
  ck_assert_ptr_null(m);
  tn_buf_fini(&program);
}
END_TEST

/* Weights that stay in a file, found in a folder. */
START_TEST(test_inplace) {
  char folder[] = "/tmp/tenon-test-XXXXXX", path[100], why[200];
  ck_assert_ptr_nonnull(mkdtemp(folder));
  snprintf(path, sizeof path, "%s/w.bin", folder);
  float weights[TOY_WEIGHT_BYTES / 4], hidden[8];
  toy_weights(weights);
  FILE *f = fopen(path, "wb");
  fwrite("12345678", 8, 1, f);
  fwrite(weights, 160, 1, f);
  fclose(f);
  toy t = {.api = &tn_rt_api};
  t.program = toy_program("toy", "w.bin", 0, (tn_bytes){0});
  tn_rt_source src = {.program = {t.program.text, t.program.len},
                      .kernels = toy_kernels,
                      .weights = weights,
                      .weights_bytes = sizeof weights,
                      .folder = folder};
  ck_assert_int_eq(tn_rt_open(&src, &t.m, why, sizeof why), TN_OK);
  ck_assert_int_eq(t.api->session_new(t.m, NULL, &t.s), TN_OK);
  memset(weights, 0xff, 160); /* not read from there */
  static const int32_t ids[] = {9, 4}, mask[] = {1, 1};
  ck_assert_int_eq(toy_encode(&t, 1, 2, ids, mask, hidden), TN_OK);
  check_hidden(hidden, ids, mask, 2, 0);
  t.api->session_free(t.s);
  t.api->close(t.m);
  ck_assert_int_eq(truncate(path, 167), 0);
  ck_assert_int_eq(tn_rt_open(&src, &t.m, why, sizeof why), TN_DATA_LOSS);
  ck_assert_ptr_nonnull(strstr(why, "weight 'table': 160 bytes at 8 do not fit into the 167 bytes of"));
  unlink(path);
  ck_assert_int_eq(tn_rt_open(&src, &t.m, why, sizeof why), TN_NOT_FOUND);
  ck_assert_ptr_nonnull(strstr(why, "w.bin: no such file"));
  rmdir(folder);
  tn_buf_fini(&t.program);
}
END_TEST

START_TEST(test_looks_inside) {
  toy t;
  toy_open_with(&t, 2, 1, 0, true, (tn_bytes){0});
  static const int32_t ids[] = {3, 7}, mask[] = {1, 0};
  float hidden[8];
  uint64_t bytes = 0;
  ck_assert_ptr_null(tn_rt_slot(t.s, 0, &bytes));
  ck_assert_int_eq(tn_rt_profile(t.s, true), TN_OK);
  for (int i = 0; i < 3; i++) ck_assert_int_eq(toy_encode(&t, 1, 2, ids, mask, hidden), TN_OK);
  const float *gathered = tn_rt_slot(t.s, 0, &bytes);
  ck_assert_uint_eq(bytes, 32);
  ck_assert_float_eq(gathered[0], 3);
  ck_assert_float_eq(gathered[7], 7.75f);
  ck_assert_ptr_null(tn_rt_slot(t.s, 1, &bytes));
  tn_rt_step_time rows[4];
  ck_assert_uint_eq(tn_rt_step_times(t.s, rows, 4), 2);
  ck_assert_str_eq(rows[0].symbol, "toy_gather");
  ck_assert_str_eq(rows[1].symbol, "toy_scale");
  ck_assert_str_eq(rows[1].loc, "toy.model:7");
  ck_assert_uint_eq(rows[0].calls, 3);
  ck_assert(rows[0].seconds > 0 && rows[0].seconds < 60);
  ck_assert_uint_eq(tn_rt_step_times(t.s, rows, 1), 2);
  toy_close(&t);
}
END_TEST

/* Three walks of two steps: thread 0 has an event for each and one for the end; a second thread at most one for
 * each, inside of them in time; the dims are those of the calls. */
START_TEST(test_events) {
  toy t;
  toy_open_with(&t, 2, 1, 0, true, (tn_bytes){0});
  static const int32_t ids[8] = {3, 7}, mask[8] = {1};
  float hidden[32];
  const tn_rt_event *e, *other;
  const int64_t *dims;
  uint64_t lost = 7;
  uint32_t ndims;
  ck_assert_uint_eq(tn_rt_events(t.s, 0, &e, &lost), 0);
  ck_assert_int_eq(tn_rt_profile(t.s, true), TN_OK);
  double from = tn_now(); /* either thread may be the first to begin */
  for (int i = 0; i < 3; i++) ck_assert_int_eq(toy_encode(&t, 1, 2 + i, ids, mask, hidden), TN_OK);
  ck_assert_uint_eq(tn_rt_threads(t.s), 2);
  ck_assert_uint_eq(tn_rt_events(t.s, 0, &e, &lost), 9);
  ck_assert_uint_eq(lost, 0);
  for (uint32_t i = 0; i < 9; i++) {
    ck_assert_uint_eq(e[i].walk, 1 + i / 3);
    ck_assert(e[i].end >= e[i].begin && (i == 0 || e[i].begin >= e[i - 1].end));
    ck_assert_int_eq(e[i].row == TN_PROG_NONE, i % 3 == 2);
  }
  uint32_t n = tn_rt_events(t.s, 1, &other, NULL);
  ck_assert_uint_le(n, 6);
  for (uint32_t i = 0; i < n; i++) ck_assert(other[i].begin >= from && other[i].end <= e[8].end);
  ck_assert_uint_eq(tn_rt_walks(t.s, &dims, &ndims), 3);
  ck_assert_uint_eq(ndims, 4);
  for (uint32_t i = 0; i < 3; i++) ck_assert(dims[4 * i] == 1 && dims[4 * i + 1] == 2 + i);
  ck_assert_int_eq(tn_rt_profile(t.s, true), TN_OK);
  ck_assert_uint_eq(tn_rt_events(t.s, 0, &e, NULL), 0);
  ck_assert_uint_eq(tn_rt_walks(t.s, &dims, &ndims), 0);
  toy_close(&t);
}
END_TEST

START_TEST(test_no_tokenizer) {
  toy t;
  toy_open(&t, 1);
  uint64_t n = 3;
  int32_t ids[3];
  char text[8];
  ck_assert_int_eq(t.api->tokenize(t.s, "a", 1, NULL, 0, 0, ids, NULL, &n), TN_NOT_FOUND);
  says(&t, "the model has no tokenizer");
  ck_assert_int_eq(t.api->detokenize(t.s, ids, 0, 0, text, &n), TN_NOT_FOUND);
  ck_assert_ptr_null(t.api->token_text(t.s, 0, &n));
  ck_assert_int_eq(t.api->token_id(t.s, "a", ids), TN_NOT_FOUND);
  toy_close(&t);
}
END_TEST

int main(void) {
  Suite *s = suite_create("runtime");
  TCase *c = tcase_create("runtime");
  tcase_set_timeout(c, 60);
  tcase_add_test(c, test_describes);
  tcase_add_test(c, test_runs);
  tcase_add_test(c, test_integers);
  tcase_add_test(c, test_shapes);
  tcase_add_test(c, test_states);
  tcase_add_test(c, test_capacity);
  tcase_add_test(c, test_two_sessions);
  tcase_add_test(c, test_no_allocation);
  tcase_add_test(c, test_memory_runs_out);
  tcase_add_test(c, test_refuses_to_open);
  tcase_add_test(c, test_inplace);
  tcase_add_test(c, test_looks_inside);
  tcase_add_test(c, test_events);
  tcase_add_test(c, test_no_tokenizer);
  suite_add_tcase(s, c);
  return toy_main(s);
}
