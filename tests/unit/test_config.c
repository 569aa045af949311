/* test_config.c - JSON as Python writes it, what must be refused, and one name for one value. Expected values
 * are those of Python's json module. */
#include "frontend/config/folder.h"
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static tn_arena arena;
static tn_diags diags;

static void setup(void) {
  tn_arena_init(&arena);
  tn_diags_init(&diags);
}

static void teardown(void) {
  tn_diags_fini(&diags);
  tn_arena_fini(&arena);
}

static tn_status parse(tn_str text, tn_json **out) {
  return tn_json_parse(&arena, text, "config.json", &diags, out);
}

static tn_json *parsed(const char *text) {
  tn_json *root = NULL;
  ck_assert_int_eq(parse(tn_str_of(text), &root), TN_OK);
  ck_assert_ptr_nonnull(root);
  return root;
}

START_TEST(values) {
  tn_json *j =
      parsed("{\"a\": [1, -9223372036854775808, 1.5e3, true, null], \"b\": {\"c\": \"x\\u0000\\u00e9\"}}");
  const tn_json *a = tn_json_get(j, "a");
  ck_assert_int_eq(a->count, 5);
  ck_assert_int_eq(a->u.items[1].u.i, INT64_MIN);
  ck_assert(a->u.items[2].kind == TN_JSON_REAL && a->u.items[2].u.r == 1500.0);
  ck_assert(a->u.items[3].kind == TN_JSON_BOOL && a->u.items[3].u.b);
  ck_assert(a->u.items[4].kind == TN_JSON_NULL);
  const tn_json *c = tn_json_path(j, "b.c");
  ck_assert(tn_str_eq(c->u.s, TN_STR("x\0\xc3\xa9")));
  ck_assert(tn_json_get(j, "b")->used && !tn_json_peek(j, "none"));
}
END_TEST

/* Python: json.loads('[NaN, 1.0, -Infinity, "NaN", 2e0, Infinity, 3]') */
START_TEST(python_literals) {
  const tn_json *j = parsed("[NaN, 1.0, -Infinity, \"NaN\", 2e0, Infinity, 3]");
  const tn_json *i = j->u.items;
  ck_assert(isnan(i[0].u.r) && i[1].u.r == 1.0 && isinf(i[2].u.r) && i[2].u.r < 0);
  ck_assert(tn_str_is(i[3].u.s, "NaN") && i[4].u.r == 2.0 && isinf(i[5].u.r) && i[5].u.r > 0 &&
            i[6].u.i == 3);
  tn_buf out = {0};
  tn_json_write(&out, j);
  ck_assert_str_eq(tn_buf_cstr(&out), "[NaN, 1.0, -Infinity, \"NaN\", 2.0, Infinity, 3]");
  tn_buf_fini(&out);
}
END_TEST

static const struct {
  const char *text;
  unsigned long len;
  unsigned line, col; /* 0: any */
  const char *says;
} bad[] = {
    {"", 0, 0, 0, "empty"},
    {"{\"a\": 1,\n \"a\": 2}", 0, 2, 0, "duplicate"},
    {"{\"a\": 1} x", 0, 1, 0, "end of file"},
    {"{\"a\": 1", 0, 1, 0, "JSON"},
    {"{\"a\": \"\xff\"}", 0, 1, 8, "UTF-8"},
    {"{'a': 1}", 0, 1, 0, "JSON"},
    {"[1Infinity]", 0, 1, 0, "JSON"},
    {"[NaN5]", 0, 1, 0, "JSON"},
    {"[-NaN]", 0, 1, 0, "JSON"},
    {"[nan]", 0, 1, 0, "JSON"},
    {"[1e999]", 0, 1, 0, "overflow"},
    {"[123456789012345678901234567890]", 0, 1, 0, "too big integer"},
    {"[01]", 0, 1, 0, "JSON"},
    {"[1,]", 0, 1, 0, "JSON"},
    {"\xef\xbb\xbf{}", 0, 1, 0, "JSON"},
    {"{\"a\0b\": 1}", 10, 1, 4, "control character"},
    {"[4\0]", 4, 1, 3, "control character"},
    {"{\"a\\u0000b\": 1}", 0, 1, 0, "NUL"},
};

START_TEST(refused) {
  tn_json *root;
  tn_str text = {bad[_i].text, bad[_i].len ? bad[_i].len : strlen(bad[_i].text)};
  ck_assert_int_eq(parse(text, &root), TN_INVALID);
  ck_assert_int_eq(diags.errors, 1);
  const tn_message *m = &diags.list.items[0];
  ck_assert_str_eq(m->file, "config.json");
  if (bad[_i].line) ck_assert_int_eq(m->line, bad[_i].line);
  if (bad[_i].col) ck_assert_int_eq(m->col, bad[_i].col);
  ck_assert_msg(strstr(m->text, bad[_i].says), "'%s' says '%s'", bad[_i].text, m->text);
}
END_TEST

START_TEST(depth) {
  char text[200] = {0};
  tn_json *root;
  memset(text, '[', 64), memset(text + 64, ']', 64);
  ck_assert_int_eq(parse(tn_str_of(text), &root), TN_OK);
  memset(text, '[', 65), memset(text + 65, ']', 65);
  ck_assert_int_eq(parse(tn_str_of(text), &root), TN_INVALID);
  ck_assert_int_eq(diags.list.items[0].col, 65);
}
END_TEST

START_TEST(canonical_names) {
  tn_json *j =
      parsed("{\"model_type\": \"gpt2\", \"n_embd\": 48, \"n_layer\": 2, \"layer_norm_epsilon\": 1e-05,"
             " \"n_inner\": null, \"hidden_dim\": 7, \"torch_dtype\": \"float16\", \"mystery\": 1,"
             " \"use_cache\": true, \"n_head\": 3}");
  ck_assert_int_eq(tn_config_canonical(&arena, j, "config.json", &diags), TN_OK);
  ck_assert_int_eq(tn_json_get(j, "hidden_size")->u.i, 48);
  ck_assert_int_eq(tn_json_get(j, "n_layer")->u.i, 2);
  ck_assert(tn_json_get(j, "layer_norm_eps")->u.r == 1e-5);
  ck_assert(tn_json_get(j, "intermediate_size")->kind ==
            TN_JSON_NULL); /* hidden_dim means that in DistilBERT only */
  ck_assert(tn_str_is(tn_json_get(j, "dtype")->u.s, "float16"));
  ck_assert_int_eq(tn_json_get(j, "num_labels")->u.i, 2);
  tn_json_get(j, "hidden_dim");
  tn_config_report_unknown(j, "config.json", &diags);
  ck_assert_int_eq(diags.warnings, 2); /* n_head was not read under any name, mystery is unknown */
  ck_assert_str_eq(diags.list.items[0].where, "key 'mystery'");
  ck_assert_str_eq(diags.list.items[1].where, "key 'n_head'");
}
END_TEST

START_TEST(conflicting_names) {
  tn_json *j = parsed("{\"model_type\": \"distilbert\", \"dim\": 48, \"hidden_size\": 64, \"n_layers\": 2,"
                      " \"num_hidden_layers\": 2.0}");
  ck_assert_int_eq(tn_config_canonical(&arena, j, "config.json", &diags), TN_INVALID);
  ck_assert_int_eq(diags.errors, 1);
  ck_assert_str_eq(diags.list.items[0].where, "key 'dim'");
  ck_assert_str_eq(diags.list.items[0].text, "is 48, but 'hidden_size', the same thing, is 64");
}
END_TEST

START_TEST(unknown_inside) {
  tn_json *j =
      parsed("{\"rope_scaling\": {\"rope_type\": \"yarn\", \"facter\": 2.0}, \"id2label\": {\"0\": \"a\"}}");
  ck_assert_int_eq(tn_config_canonical(&arena, j, "config.json", &diags), TN_OK);
  ck_assert_int_eq(tn_json_get(j, "num_labels")->u.i, 1);
  tn_json_path(j, "rope_scaling.rope_type");
  tn_config_report_unknown(j, "config.json", &diags);
  ck_assert_int_eq(diags.warnings, 1);
  ck_assert_str_eq(diags.list.items[0].where, "key 'rope_scaling.facter'");
}
END_TEST

/* Every allocation that fails gives TN_OOM and leaks nothing (the sanitizers look). */
START_TEST(no_memory) {
  const char *text = "{\"a\": [NaN, 1.0, {\"b\": \"c\"}], \"n_embd\": 3, \"id2label\": {\"0\": \"x\"}}";
  bool failed = true;
  for (long n = 0; failed && n < 200; n++) {
    tn_arena a;
    tn_json *root;
    tn_arena_init(&a);
    tn_mem_fail_after(n);
    tn_status s = tn_json_parse(&a, tn_str_of(text), "x", NULL, &root);
    if (s == TN_OK) s = tn_config_canonical(&a, root, "x", NULL);
    tn_mem_fail_after(-1);
    ck_assert(s == TN_OK || s == TN_OOM);
    failed = s != TN_OK;
    tn_arena_fini(&a);
  }
  ck_assert(!failed);
}
END_TEST

static const struct {
  const char *name;
  tn_status status;
} names[] = {{"config.json", TN_OK},
             {"sub/inner.json", TN_OK},
             {"../outside.json", TN_INVALID},
             {"/etc/passwd", TN_INVALID},
             {"out.json", TN_INVALID},
             {"loop.json", TN_UNAVAILABLE},
             {"missing.json", TN_NOT_FOUND},
             {"sub", TN_UNAVAILABLE},
             {".", TN_INVALID},
             {"sub//inner.json", TN_INVALID},
             {"sub/..", TN_INVALID},
             {"", TN_INVALID},
             {"sub/", TN_INVALID},
             {"dangling.json", TN_NOT_FOUND}};

START_TEST(folder_stays_inside) {
  char top[] = "/tmp/tn_folder_XXXXXX", path[256], cmd[300];
  ck_assert_ptr_nonnull(mkdtemp(top));
  snprintf(cmd, sizeof cmd,
           "cd %s && echo {} >outside.json && mkdir -p m/sub && cd m && echo {} >config.json && echo [] "
           ">sub/inner.json "
           "&& ln -s ../outside.json out.json && ln -s loop.json loop.json && ln -s nowhere dangling.json",
           top);
  ck_assert_int_eq(system(cmd), 0);
  snprintf(path, sizeof path, "%s/m", top);
  for (size_t i = 0; i < TN_COUNT(names); i++) {
    tn_file f;
    uint32_t before = diags.errors;
    tn_status s = tn_folder_map(path, names[i].name, &diags, &f);
    ck_assert_msg(s == names[i].status, "'%s' gives %d", names[i].name, (int)s);
    ck_assert_int_eq(diags.errors - before, s != TN_OK);
    if (s == TN_OK) tn_file_unmap(&f);
  }
  tn_json *j;
  ck_assert_int_eq(tn_folder_json(&arena, path, "sub/inner.json", TN_JSON_OBJECT, &diags, &j), TN_INVALID);
  snprintf(cmd, sizeof cmd, "rm -r %s", top);
  ck_assert_int_eq(system(cmd), 0);
}
END_TEST

/* The hub's cache: snapshots/REVISION holds links into blobs/ of the same repository, and into no other's. */
START_TEST(folder_of_the_cache) {
  char top[] = "/tmp/tn_cache_XXXXXX", path[256], cmd[300];
  tn_file f;
  ck_assert_ptr_nonnull(mkdtemp(top));
  snprintf(cmd, sizeof cmd,
           "cd %s && mkdir -p r/snapshots/1 r/blobs q/blobs && echo {} >r/blobs/a && echo {} >q/blobs/b && "
           "cd r/snapshots/1 && ln -s ../../blobs/a mine && ln -s ../../../q/blobs/b theirs",
           top);
  ck_assert_int_eq(system(cmd), 0);
  snprintf(path, sizeof path, "%s/r/snapshots/1", top);
  ck_assert_int_eq(tn_folder_map(path, "mine", &diags, &f), TN_OK);
  tn_file_unmap(&f);
  ck_assert_int_eq(tn_folder_map(path, "theirs", &diags, &f), TN_INVALID);
  snprintf(cmd, sizeof cmd, "rm -r %s", top);
  ck_assert_int_eq(system(cmd), 0);
}
END_TEST

int main(void) {
  Suite *s = suite_create("config");
  TCase *t = tcase_create("config");
  tcase_add_checked_fixture(t, setup, teardown);
  tcase_add_test(t, values);
  tcase_add_test(t, python_literals);
  tcase_add_loop_test(t, refused, 0, (int)TN_COUNT(bad));
  tcase_add_test(t, depth);
  tcase_add_test(t, canonical_names);
  tcase_add_test(t, conflicting_names);
  tcase_add_test(t, unknown_inside);
  tcase_add_test(t, no_memory);
  tcase_add_test(t, folder_stays_inside);
  tcase_add_test(t, folder_of_the_cache);
  suite_add_tcase(s, t);
  SRunner *r = srunner_create(s);
  srunner_run_all(r, CK_NORMAL);
  int failed = srunner_ntests_failed(r);
  srunner_free(r);
  return failed != 0;
}
