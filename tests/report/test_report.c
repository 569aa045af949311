/* test_report.c - a report with a row in every section, hostile texts and numbers: the JSON that is written
 * says what was put in, to the project's own reader, and the page holds the same JSON. Files go into the
 * folder of the first argument, where browser.py looks at the page too. */
#include "frontend/config/config.h"
#include "tools/report/report.h"
#include <check.h>
#include <math.h>
#include <stdlib.h>

static const char *folder;
static const char hostile[] = "a \"quoted\" </script><script>alert(1)</script> <!-- \xff\n\ttail";

static void add_tensors(tn_report *r) {
  static const char *const types[] = {"q4_k", "q6_k", "q8_0"};
  static const int64_t shape[] = {64, 256}, one[] = {64};
  for (int i = 0; i < 40; i++) {
    char name[64];
    snprintf(name, sizeof name, "blk.%d.attn_q.weight", i);
    tn_report_tensor t = {.name = name,
                          .from = "bf16",
                          .to = types[i % 3],
                          .rank = 2,
                          .shape = shape,
                          .bytes_before = 32768,
                          .bytes_after = 9216,
                          .bits = 4.5,
                          .rmse = 0.001 * (i + 1),
                          .nmse = 1e-4 * (i + 1),
                          .max_abs = 0.01,
                          .sensitivity = NAN,
                          .importance = i % 2};
    tn_report_tensor_add(r, &t);
  }
  tn_report_tensor kept = {.name = hostile,
                           .from = "f32",
                           .to = "f32",
                           .rank = 1,
                           .shape = one,
                           .bytes_before = 256,
                           .bytes_after = 256,
                           .bits = 32,
                           .rmse = NAN,
                           .nmse = NAN,
                           .max_abs = INFINITY,
                           .sensitivity = 0.25,
                           .why = "a vector"};
  tn_report_tensor_add(r, &kept);
}

static void add_attention(tn_report *r) {
  static const char *const tokens[] = {"<s>", " A", " cat", "\xe4\xbd"};
  for (uint32_t head = 0; head < 3; head++) {
    float w[16] = {0};
    for (uint32_t i = 0; i < 4; i++)
      for (uint32_t k = 0; k <= i; k++) w[i * 4 + k] = 1.0f / (float)(i + 1);
    tn_report_attention(r, 2, head, tokens, 4, w);
  }
}

static void fill(tn_report *r) {
  const char *words[] = {"in.gguf", "out.gguf", hostile};
  tn_args a = {.positional = words, .npositional = 3};
  tn_report_init(r, "quantize", &a);
  tn_report_model(r, "before", "in.gguf", "gguf bf16", 2200000000u, 16);
  tn_report_model(r, "after", "out.gguf", "gguf q4_k", 630000000, NAN);
  add_tensors(r);
  tn_report_layer(r, "embeddings", 4096, 1024, 0.002);
  tn_report_layer(r, "0", 4096, 1024, 0.004);
  tn_report_phase(r, "read", 0.5);
  tn_report_phase(r, "encode", 2.5);
  tn_report_accuracy(r, "kl_mean", 0.0123);
  tn_report_accuracy(r, "top1_agreement", 0.97);
  tn_report_output(r, "logits", 0.9999, 0.25, true);
  tn_report_output(r, "cache", -1, INFINITY, false);
  tn_report_node(r, "llama.model:12 matmul #1", 1, 0, 0, true);
  tn_report_node(r, "llama.model:14 matmul #1", 0.5, 3, 0.75, false);
  tn_report_latency(r, "decode", 10, 4);
  tn_report_latency(r, "prefill", NAN, 100);
  tn_report_memory(r, "peak", 2300000000u, 700000000);
  tn_report_message(r, TN_WARNING, hostile);
  add_attention(r);
}

static tn_json *member(const tn_json *object, const char *key) {
  tn_json *x = tn_json_peek(object, key);
  ck_assert_msg(x != NULL, "no '%s'", key);
  return x;
}

static double number(const tn_json *object, const char *key) {
  const tn_json *x = member(object, key);
  ck_assert(x->kind == TN_JSON_INT || x->kind == TN_JSON_REAL);
  return x->kind == TN_JSON_INT ? (double)x->u.i : x->u.r;
}

static void check_values(const tn_json *root) {
  const tn_json *tensors = member(root, "tensors"), *kept = &tensors->u.items[40];
  ck_assert_int_eq(tensors->count, 41);
  ck_assert_double_eq(number(&tensors->u.items[7], "nmse"), 8e-4);
  ck_assert_double_eq(number(member(root, "before"), "bytes"), 2200000000.0);
  ck_assert_int_eq(member(member(root, "after"), "bits_per_weight")->kind, TN_JSON_NULL);
  ck_assert_int_eq(member(kept, "nmse")->kind, TN_JSON_NULL);
  ck_assert_double_eq_tol(number(kept, "max_abs"), 1.797693134862e308, 1e300);
  ck_assert_double_eq(number(member(root, "accuracy"), "top1_agreement"), 0.97);
  ck_assert(strstr(member(kept, "name")->u.s.ptr, "</script>") != NULL);
  ck_assert_int_eq(member(root, "attention")->count, 3);
  ck_assert_int_eq(member(&member(root, "latency")->u.items[1], "before_ms")->kind, TN_JSON_NULL);
  const tn_json *weights = member(&member(root, "attention")->u.items[2], "weights");
  ck_assert_double_eq_tol(weights->u.items[2].u.items[1].u.r, 1 / 3.0, 1e-4);
  ck_assert(!member(&member(root, "nodes")->u.items[1], "ok")->u.b);
  ck_assert(number(root, "peak_memory") > 0);
}

/* The text between two marks of a file. */
static tn_str cut(tn_str text, const char *from, const char *to) {
  const char *a = memmem(text.ptr, text.len, from, strlen(from));
  ck_assert_ptr_nonnull(a);
  a += strlen(from);
  const char *b = memmem(a, text.len - (uint64_t)(a - text.ptr), to, strlen(to));
  ck_assert_ptr_nonnull(b);
  return (tn_str){a, (uint64_t)(b - a)};
}

static tn_json *parse(tn_arena *arena, tn_str text, tn_diags *d) {
  tn_json *root = NULL;
  ck_assert_int_eq(tn_json_parse(arena, text, "report", d, &root), TN_OK);
  return root;
}

START_TEST(everything) {
  tn_report r;
  tn_diags d;
  tn_arena arena;
  tn_file json, page;
  const char *why;
  tn_diags_init(&d);
  tn_arena_init(&arena);
  fill(&r);
  tn_diags_add(&d, TN_NOTE, "in.gguf", 0, 0, "tensor 'x'", "kept as it is");
  ck_assert_int_eq(tn_report_write(&r, folder, &d), TN_OK);
  ck_assert_int_eq(tn_file_map(&json, tn_path_join(&arena, folder, "report.json"), &why), TN_OK);
  ck_assert_int_eq(tn_file_map(&page, tn_path_join(&arena, folder, "report.html"), &why), TN_OK);
  tn_json *root = parse(&arena, (tn_str){(const char *)json.data, json.size}, &d);
  check_values(root);
  const tn_json *said = &member(root, "messages")->u.items[1];
  ck_assert_str_eq(member(said, "text")->u.s.ptr, "in.gguf: tensor 'x': kept as it is");
  tn_str inside = cut((tn_str){(const char *)page.data, page.size}, "id=\"report\">", "</script>");
  ck_assert(tn_json_equal(root, parse(&arena, inside, &d)));
  tn_file_unmap(&json), tn_file_unmap(&page);
  tn_report_fini(&r);
  tn_arena_fini(&arena);
  tn_diags_fini(&d);
}
END_TEST

/* Sections without rows are left out; beside a file its name comes first. */
START_TEST(empty) {
  tn_report r;
  tn_diags d;
  tn_arena arena;
  tn_file json;
  const char *why;
  tn_diags_init(&d);
  tn_arena_init(&arena);
  tn_report_init(&r, "verify", NULL);
  char *beside = tn_path_join(&arena, folder, "model.gguf");
  ck_assert_int_eq(tn_report_write(&r, beside, &d), TN_OK);
  ck_assert(tn_path_exists(tn_path_join(&arena, folder, "model.gguf.report.html")));
  ck_assert_int_eq(tn_file_map(&json, tn_path_join(&arena, folder, "model.gguf.report.json"), &why), TN_OK);
  tn_json *root = parse(&arena, (tn_str){(const char *)json.data, json.size}, &d);
  ck_assert_str_eq(member(root, "command")->u.s.ptr, "verify");
  ck_assert_ptr_null(tn_json_peek(root, "tensors"));
  ck_assert_ptr_null(tn_json_peek(root, "accuracy"));
  tn_file_unmap(&json);
  tn_report_fini(&r);
  tn_arena_fini(&arena);
  tn_diags_fini(&d);
}
END_TEST

START_TEST(failures) {
  tn_report r;
  tn_diags d;
  tn_diags_init(&d);
  fill(&r);
  ck_assert_int_ne(tn_report_write(&r, "/nowhere/at/all", &d), TN_OK);
  ck_assert_int_eq(d.errors, 1);
  tn_mem_fail_after(3);
  tn_status s = tn_report_write(&r, folder, &d);
  tn_mem_fail_after(-1);
  ck_assert_int_eq(s, TN_OOM);
  tn_report_fini(&r);
  tn_diags_fini(&d);
}
END_TEST

int main(int argc, char **argv) {
  folder = argc > 1 ? argv[1] : ".";
  Suite *s = suite_create("report");
  TCase *c = tcase_create("report");
  tcase_add_test(c, everything);
  tcase_add_test(c, empty);
  tcase_add_test(c, failures);
  suite_add_tcase(s, c);
  SRunner *run = srunner_create(s);
  srunner_run_all(run, CK_NORMAL);
  int failed = srunner_ntests_failed(run);
  srunner_free(run);
  return failed != 0;
}
