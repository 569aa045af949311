/* test_describe_parse.c - pages as text: the sketches of large architectures and every shipped page are read
 * without a message, shipped pages stay short, and every prefix and every damaged byte of a page gives an
 * answer, not a crash. */
#include "frontend/describe/describe.h"
#include "frontend/describe/embedded.h"
#include <check.h>
#include <stdlib.h>

#define PAGE(name) TN_SOURCE_DIR "/tests/describe/" name
static const char *const sketches[] = {PAGE("unet.model"), PAGE("whisper.model"), PAGE("features.model"),
                                       PAGE("cache.model")};

static tn_status parse(tn_str text, tn_buf *messages) {
  tn_diags d;
  tn_diags_init(&d);
  tn_status s = tn_page_parse(text, "page.model", &d);
  if (messages) tn_diags_text(&d, messages, false);
  ck_assert_int_eq(s != TN_OK, d.errors != 0);
  tn_diags_fini(&d);
  return s;
}

static char *load(const char *path, size_t *size) {
  tn_file f;
  const char *why = "";
  if (tn_file_map(&f, path, &why) != TN_OK) ck_abort_msg("%s: %s", path, why);
  char *copy = malloc(f.size + 1);
  ck_assert_ptr_nonnull(copy);
  memcpy(copy, f.data, f.size);
  *size = f.size;
  tn_file_unmap(&f);
  return copy;
}

START_TEST(sketches_are_read) {
  tn_buf b = {0};
  size_t n;
  char *text = load(sketches[_i], &n);
  ck_assert_msg(parse((tn_str){text, n}, &b) == TN_OK, "%s", tn_buf_cstr(&b));
  tn_buf_fini(&b);
  free(text);
}
END_TEST

/* Pages made of known blocks, with what their conversion needs; those that bring blocks of their own, a
 * recurrence or a router, may be longer. */
static uint32_t longest(const char *page) {
  static const char *const own[] = {"deepseek_v2.model", "mamba.model"};
  for (size_t i = 0; i < sizeof own / sizeof *own; i++)
    if (!strcmp(own[i], page)) return 170;
  return strcmp(page, "prelude.model") ? 110 : UINT32_MAX;
}

START_TEST(shipped_pages_are_read_and_short) {
  uint32_t n = 0;
  for (const tn_embedded_page *e = tn_embedded_pages; e->name; e++, n++) {
    tn_buf b = {0};
    uint32_t lines = 0;
    for (unsigned long i = 0; i < e->size; i++) lines += e->text[i] == '\n';
    ck_assert_msg(parse((tn_str){(const char *)e->text, e->size}, &b) == TN_OK, "%s", tn_buf_cstr(&b));
    ck_assert_msg(lines <= longest(e->name), "%s has %u lines", e->name, lines);
    tn_buf_fini(&b);
  }
  ck_assert_uint_ge(n, 7);
}
END_TEST

START_TEST(architectures_are_found) {
  static const struct {
    const char *architecture, *page;
  } rows[] = {{"BertModel", "bert"},
              {"BertForQuestionAnswering", "bert"},
              {"bert", "bert"},
              {"RobertaForMaskedLM", "roberta"},
              {"XLMRobertaModel", "roberta"},
              {"xlm-roberta", "roberta"},
              {"DistilBertModel", "distilbert"},
              {"GPT2LMHeadModel", "gpt2"},
              {"LlamaForCausalLM", "llama"},
              {"MistralForCausalLM", "mistral"},
              {"MistralModel", "mistral"},
              {"mistral", "mistral"}};
  tn_diags d;
  tn_page_set *s;
  tn_diags_init(&d);
  ck_assert_int_eq(tn_pages_open(&s, NULL, 0, NULL, 0, &d), TN_OK);
  for (size_t i = 0; i < TN_COUNT(rows); i++) {
    const tn_page *p = tn_pages_find(s, rows[i].architecture);
    const char *found = "nothing";
    for (uint32_t k = 0; k < tn_pages_count(s); k++) {
      tn_page_info info;
      tn_pages_get(s, k, &info);
      if (p && p == tn_pages_find(s, info.name)) found = info.name;
    }
    ck_assert_str_eq(found, rows[i].page);
  }
  ck_assert_ptr_null(tn_pages_find(s, "BertForNextSentencePrediction"));
  ck_assert_ptr_null(tn_pages_find(s, "prelude"));
  tn_pages_close(s);
  tn_diags_fini(&d);
}
END_TEST

START_TEST(folders_and_files_override) {
  static const char *const folder[] = {TN_SOURCE_DIR "/tests/describe"}, *const none[] = {"/no/such/folder"};
  static const char *const file[] = {PAGE("cache.model")}, *const gone[] = {PAGE("no.model")};
  tn_page_info info;
  tn_diags d;
  tn_page_set *s;
  tn_diags_init(&d);
  ck_assert_int_eq(tn_pages_open(&s, NULL, 0, file, 1, &d), TN_OK);
  uint32_t n = tn_pages_count(s);
  tn_pages_close(s);
  ck_assert_int_eq(tn_pages_open(&s, folder, 1, file, 1, &d), TN_OK);
  ck_assert_uint_eq(tn_pages_count(s),
                    n + 5); /* experts, features, features_base, unet, whisper; cache stands for itself */
  for (uint32_t i = 0; i < tn_pages_count(s); i++) {
    tn_pages_get(s, i, &info);
    if (!strcmp(info.name, "whisper")) ck_assert_str_eq(info.tasks, "automatic-speech-recognition");
  }
  tn_pages_close(s);
  ck_assert_uint_eq(d.errors, 0);
  ck_assert_int_eq(tn_pages_open(&s, none, 1, NULL, 0, &d), TN_NOT_FOUND);
  ck_assert_int_eq(tn_pages_open(&s, NULL, 0, gone, 1, &d), TN_NOT_FOUND);
  ck_assert_uint_eq(d.errors, 2);
  tn_diags_fini(&d);
}
END_TEST

START_TEST(damaged_pages_are_refused_or_read) {
  static const char junk[] = "(\"[\n \t|.0=\xff";
  size_t n;
  char *text = load(sketches[_i], &n);
  for (size_t i = 0; i < n; i += 3) parse((tn_str){text, i}, NULL);
  for (size_t i = 0; i < n; i += 5) {
    char old = text[i];
    text[i] = junk[i % (sizeof junk - 1)];
    parse((tn_str){text, n}, NULL);
    text[i] = old;
  }
  free(text);
}
END_TEST

START_TEST(odd_texts_are_refused) {
  static const struct {
    tn_str text;
    const char *message;
  } rows[] = {{TN_STR(""), "page.model:1:1: error: the page is empty: expected 'model'\n"},
              {TN_STR("\n\n# nothing\n"), "page.model:4:1: error: the page is empty: expected 'model'\n"},
              {TN_STR("model a\xc3"), "page.model: error: byte 7 is not UTF-8\n"},
              {TN_STR("model a\0"), "page.model: error: the page holds a zero byte\n"},
              {TN_STR("model a \"b\"\r\nconfig\r\n  c = 1\r\n"), ""}};
  for (size_t i = 0; i < TN_COUNT(rows); i++) {
    tn_buf b = {0};
    parse(rows[i].text, &b);
    ck_assert_str_eq(tn_buf_cstr(&b), rows[i].message);
    tn_buf_fini(&b);
  }
}
END_TEST

START_TEST(long_texts_end) {
  static const char *const units[] = {"a + ", "(", "[", "f(", "x[0]", "-", "not ", "\"a\" or ", "{", "a, "};
  for (size_t i = 0; i < TN_COUNT(units); i++) {
    tn_buf b = {0};
    tn_buf_puts(&b, "model m \"m\"\nblock f(x)\n  y = ");
    while (b.len < 300000) tn_buf_puts(&b, units[i]);
    ck_assert_int_eq(parse((tn_str){b.text, b.len}, NULL), TN_INVALID);
    tn_buf_fini(&b);
  }
}
END_TEST

static Suite *suite(void) {
  Suite *s = suite_create("describe_parse");
  TCase *t = tcase_create("parse");
  tcase_set_timeout(t, 60);
  tcase_add_loop_test(t, sketches_are_read, 0, TN_COUNT(sketches));
  tcase_add_test(t, shipped_pages_are_read_and_short);
  tcase_add_test(t, architectures_are_found);
  tcase_add_test(t, folders_and_files_override);
  tcase_add_loop_test(t, damaged_pages_are_refused_or_read, 0, TN_COUNT(sketches));
  tcase_add_test(t, odd_texts_are_refused);
  tcase_add_test(t, long_texts_end);
  suite_add_tcase(s, t);
  return s;
}

int main(void) {
  SRunner *r = srunner_create(suite());
  srunner_run_all(r, CK_NORMAL);
  int failed = srunner_ntests_failed(r);
  srunner_free(r);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
