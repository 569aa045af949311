/* test_runtime_text.c - text in and out of a model: buffers that are too small, and characters whose bytes
 * come in several tokens. Expected ids and texts are those of the tokenizers package (0.23) for the same
 * tokenizer.json. */
#include "frontend/tokenizer/tokenizer.h"
#include "tests/unit/toy_open.h"

/* A byte-level BPE of ten tokens; 1, 2 are the bytes of e with acute, 6 the first of three bytes. */
/* clang-format off */
static const char json[] =
    "{\"version\": \"1.0\", \"truncation\": null, \"padding\": null, \"added_tokens\": [{\"id\": 0, \"content\": \"<e>\", "
    "\"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": false, \"special\": true}], \"normalizer\": null, "
    "\"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true, \"use_regex\": true}, "
    "\"post_processor\": null, \"decoder\": {\"type\": \"ByteLevel\", \"add_prefix_space\": true, \"trim_offsets\": true, "
    "\"use_regex\": true}, \"model\": {\"type\": \"BPE\", \"dropout\": null, \"unk_token\": null, \"continuing_subword_prefix\": null, "
    "\"end_of_word_suffix\": null, \"fuse_unk\": false, \"byte_fallback\": false, \"vocab\": {\"<e>\": 0, \"\xc3\x83\": 1, "
    "\"\xc2\xa9\": 2, \"c\": 3, \"a\": 4, \"d\": 5, \"\xc3\xa2\": 6, \"f\": 7, \"\xc4\xa0""b\": 8, \"g\": 9}, \"merges\": []}}";
/* clang-format on */

static void open_with_tokenizer(toy *t) {
  tn_buf blob = {0};
  tn_diags diags;
  tn_diags_init(&diags);
  tn_status status = tn_tokenizer_import_json((tn_str){json, sizeof json - 1}, "json", &blob, &diags);
  tn_buf words = {0};
  tn_diags_text(&diags, &words, false);
  ck_assert_msg(status == TN_OK, "%s", tn_buf_cstr(&words));
  toy_open_with(t, 1, 1, 64, false, (tn_bytes){blob.text, blob.len});
  tn_buf_fini(&words);
  tn_buf_fini(&blob);
  tn_diags_fini(&diags);
}

START_TEST(test_tokenizes) {
  toy t;
  open_with_tokenizer(&t);
  int32_t ids[8], types[8];
  uint64_t n = 8;
  ck_assert_int_eq(t.api->tokenize(t.s,
                                   "\xc3\xa9"
                                   "fa",
                                   4, NULL, 0, 0, ids, types, &n),
                   TN_OK);
  ck_assert_uint_eq(n, 4);
  const int32_t want[] = {1, 2, 7, 4};
  ck_assert_mem_eq(ids, want, sizeof want);
  ck_assert_int_eq(types[3], 0);
  n = 3;
  ck_assert_int_eq(t.api->tokenize(t.s,
                                   "\xc3\xa9"
                                   "fa",
                                   4, NULL, 0, 0, ids, NULL, &n),
                   TN_INVALID);
  ck_assert_uint_eq(n, 4);
  ck_assert_str_eq(t.api->error(t.s), "the text has 4 tokens, there is room for 3");
  n = 0;
  ck_assert_int_eq(t.api->tokenize(t.s, "", 0, NULL, 0, 0, ids, NULL, &n), TN_OK);
  ck_assert_uint_eq(n, 0);
  toy_close(&t);
}
END_TEST

START_TEST(test_detokenizes) {
  toy t;
  open_with_tokenizer(&t);
  const int32_t ids[] = {1, 2, 4, 0, 8};
  char text[16];
  uint64_t n = sizeof text, len;
  ck_assert_int_eq(t.api->detokenize(t.s, ids, 5, 0, text, &n), TN_OK);
  ck_assert_str_eq(text, "\xc3\xa9"
                         "a<e> b");
  ck_assert_uint_eq(n, 8);
  n = sizeof text;
  ck_assert_int_eq(t.api->detokenize(t.s, ids, 5, TN_TOK_SKIP_SPECIAL, text, &n), TN_OK);
  ck_assert_str_eq(text, "\xc3\xa9"
                         "a b");
  n = 4;
  ck_assert_int_eq(t.api->detokenize(t.s, ids, 5, TN_TOK_SKIP_SPECIAL, text, &n), TN_INVALID);
  ck_assert_uint_eq(n, 5);
  n = 5; /* exactly: no NUL */
  text[5] = 'x';
  ck_assert_int_eq(t.api->detokenize(t.s, ids, 5, TN_TOK_SKIP_SPECIAL, text, &n), TN_OK);
  ck_assert_mem_eq(text,
                   "\xc3\xa9"
                   "a bx",
                   6);
  const char *token = t.api->token_text(t.s, 4, &len);
  ck_assert(token && len == 1 && token[0] == 'a');
  ck_assert_ptr_null(t.api->token_text(t.s, 10, &len));
  ck_assert_ptr_null(t.api->token_text(t.s, -1, &len));
  int32_t id;
  ck_assert_int_eq(t.api->token_id(t.s, "<e>", &id), TN_OK);
  ck_assert_int_eq(id, 0);
  ck_assert_int_eq(t.api->token_id(t.s, "nothing", &id), TN_NOT_FOUND);
  ck_assert_str_eq(t.api->error(t.s), "no token 'nothing'");
  toy_close(&t);
}
END_TEST

typedef struct heard {
  char pieces[200];
} heard;
static tn_status hear(void *user, int32_t token, const char *text, uint64_t len) {
  heard *h = user;
  size_t n = strlen(h->pieces);
  ck_assert(token >= 0 && n + len + 2 < sizeof h->pieces);
  memcpy(h->pieces + n, text, len);
  memcpy(h->pieces + n + len, "|", 2);
  return TN_OK;
}

/* Tokens 1 2 4 8 6 2 4 8 6: each piece is whole characters; the third byte of 6 2 never comes. */
START_TEST(test_streams) {
  toy t;
  open_with_tokenizer(&t);
  static const int32_t prompts[][2] = {{3, 8}, {1, 0}};
  const char want[] = "|\xc3\xa9|a| b|||\xef\xbf\xbd"
                      "a| b|\xef\xbf\xbd|";
  for (int i = 0; i < 2; i++) { /* the second prompt itself ends in half a character */
    heard h = {{0}};
    ck_assert_int_eq(t.api->session_reset(t.s), TN_OK);
    ck_assert_int_eq(t.api->generate(t.s, prompts[i], i ? 1 : 2,
                                     &(tn_sampling){.size = sizeof(tn_sampling), .max_tokens = 9}, hear, &h),
                     TN_OK);
    ck_assert_str_eq(h.pieces, want);
  }
  toy_close(&t);
}
END_TEST

START_TEST(test_damaged_tokenizer) {
  toy t;
  open_with_tokenizer(&t);
  tn_prog_header *h = (tn_prog_header *)(void *)t.program.text;
  memset(t.program.text + h->tokenizer.offset, 0xff, 8);
  toy_seal(t.program.text, t.program.len);
  tn_rt_source src = {.program = {t.program.text, t.program.len},
                      .kernels = toy_kernels,
                      .weights = t.weights,
                      .weights_bytes = sizeof t.weights};
  tn_model *m = NULL;
  ck_assert_int_ne(tn_rt_open(&src, &m, t.why, sizeof t.why), TN_OK);
  ck_assert_ptr_nonnull(strstr(t.why, "tokenizer: "));
  toy_close(&t);
}
END_TEST

int main(void) {
  Suite *s = suite_create("text");
  TCase *c = tcase_create("text");
  tcase_add_test(c, test_tokenizes);
  tcase_add_test(c, test_detokenizes);
  tcase_add_test(c, test_streams);
  tcase_add_test(c, test_damaged_tokenizer);
  suite_add_tcase(s, c);
  return toy_main(s);
}
