/* test_tokenizer_gguf.c - tokenizers inside GGUF files: ids and texts as the original tokenizers gave them
 * (tests/tokenizer/make_gguf.py), those of the two real models where they are there, and files that say
 * something wrong. */
#include "frontend/gguf/gguf.h"
#include "frontend/tokenizer/tokenizer.h"
#include <check.h>
#include <stdlib.h>
#include <unistd.h>

#define TOKENIZER TN_SOURCE_DIR "/tests/tokenizer/"
static const tn_str none = {NULL, 0};

/* ---- a tokenizer and its blob ---------------------------------------------------------------- */
typedef struct loaded {
  tn_diags diags;
  tn_buf blob, words;
  tn_tokenizer *t;
  tn_status status;
} loaded;

static void load(loaded *l, const char *path) {
  tn_gguf *g = NULL;
  const char *why = "";
  memset(l, 0, sizeof *l);
  tn_diags_init(&l->diags);
  l->status = tn_gguf_open(path, &l->diags, &g);
  if (!l->status) l->status = tn_tokenizer_from_gguf(g, &l->blob, &l->diags);
  tn_gguf_close(g);
  tn_diags_text(&l->diags, &l->words, false);
  if (!l->status)
    ck_assert_msg(tn_tokenizer_open((tn_bytes){l->blob.text, l->blob.len}, &l->t, &why) == TN_OK, "%s", why);
}

static void unload(loaded *l) {
  tn_tokenizer_close(l->t);
  tn_buf_fini(&l->blob);
  tn_buf_fini(&l->words);
  tn_diags_fini(&l->diags);
}

/* ---- texts.txt and goldens ------------------------------------------------------------------- */
static int hex(char c) { return c <= '9' ? c - '0' : c - 'a' + 10; }

/* Undoes the escapes; false: not one valid text without NUL, which the goldens leave out. */
static bool unescape(tn_str line, tn_buf *out) {
  uint64_t bad;
  out->len = 0;
  tn_buf_puts(out, "");
  for (uint64_t i = 0; i < line.len; i++) {
    char c = line.ptr[i];
    if (c == '\\') {
      c = line.ptr[++i];
      if (c == 'p') return false;
      if (c == 'x')
        c = (char)(hex(line.ptr[i + 1]) << 4 | hex(line.ptr[i + 2])), i += 2;
      else
        c = c == 'n' ? '\n' : c == 't' ? '\t' : c == 'r' ? '\r' : c;
    }
    tn_buf_put(out, &c, 1);
  }
  return out->len && !memchr(out->text, 0, out->len) && tn_utf8_valid((tn_str){out->text, out->len}, &bad);
}

static tn_str next_line(tn_str *rest) {
  const char *end = memchr(rest->ptr, '\n', rest->len);
  tn_str line = {rest->ptr, end ? (uint64_t)(end - rest->ptr) : rest->len};
  rest->ptr += line.len + (end != NULL);
  rest->len -= line.len + (end != NULL);
  return line;
}

static void check_line(const tn_tokenizer *t, tn_str text, tn_str golden, const char *where) {
  tn_tokens k = {0};
  TN_VEC(int32_t) ids = {0};
  tn_buf got = {0}, decoded = {0}, want = {0};
  const char *tab = memchr(golden.ptr, '\t', golden.len);
  ck_assert_ptr_nonnull(tab);
  ck_assert_int_eq(tn_tokenizer_encode(t, text, none, 0, &k), TN_OK);
  for (uint32_t i = 0; i < k.count; i++) {
    ck_assert(tn_vec_push(&ids, k.items[i].id));
    tn_buf_printf(&got, i ? " %d" : "%d", k.items[i].id);
  }
  ck_assert_msg(tn_str_is((tn_str){golden.ptr, (uint64_t)(tab - golden.ptr)}, tn_buf_cstr(&got)),
                "%s: '%.*s' gives %s, should be %.*s", where, (int)text.len, text.ptr, tn_buf_cstr(&got),
                (int)(tab - golden.ptr), golden.ptr);
  unescape((tn_str){tab + 1, golden.len - (uint64_t)(tab + 1 - golden.ptr)}, &want);
  ck_assert_int_eq(tn_tokenizer_decode(t, ids.items, ids.count, 0, &decoded), TN_OK);
  ck_assert_msg(!strcmp(tn_buf_cstr(&decoded), tn_buf_cstr(&want)), "%s: decodes to '%s', should to '%s'",
                where, tn_buf_cstr(&decoded), tn_buf_cstr(&want));
  tn_vec_fini(&k);
  tn_vec_fini(&ids);
  tn_buf_fini(&got);
  tn_buf_fini(&decoded);
  tn_buf_fini(&want);
}

static tn_file mapped(const char *path) {
  tn_file f;
  const char *why = "";
  ck_assert_msg(tn_file_map(&f, path, &why) == TN_OK, "%s: %s", path, why);
  return f;
}

static void check_goldens(const tn_tokenizer *t, const char *name) {
  char path[512], where[128];
  snprintf(path, sizeof path, TOKENIZER "data/gguf/%s.golden", name);
  tn_file texts = mapped(TOKENIZER "texts.txt"), goldens = mapped(path);
  tn_str rest = {(const char *)texts.data, texts.size}, want = {(const char *)goldens.data, goldens.size};
  tn_buf text = {0};
  uint32_t checked = 0;
  for (uint32_t i = 1; rest.len; i++) {
    if (!unescape(next_line(&rest), &text)) continue;
    snprintf(where, sizeof where, "%s line %u", name, i);
    check_line(t, (tn_str){text.text, text.len}, next_line(&want), where);
    checked++;
  }
  ck_assert_uint_ge(checked, 60);
  ck_assert_uint_eq(want.len, 0);
  tn_buf_fini(&text);
  tn_file_unmap(&texts);
  tn_file_unmap(&goldens);
}

static const char *const names[] = {
    "spm",           "spm_across", "t5",         "bert",       "bpe_gpt_2",       "bpe_smollm",
    "bpe_llama_bpe", "bpe_qwen2",  "bpe_gpt_4o", "bpe_tekken", "bpe_deepseek_v3", "bpe_bloom",
    "bpe_falcon"};
START_TEST(goldens) {
  char path[512];
  loaded l;
  snprintf(path, sizeof path, TOKENIZER "data/gguf/%s.gguf", names[_i]);
  load(&l, path);
  ck_assert_msg(l.status == TN_OK && l.diags.list.count == 0, "%s", tn_buf_cstr(&l.words));
  check_goldens(l.t, names[_i]);
  unload(&l);
}
END_TEST

/* The models that tools/fetch-llm gets, if it did: 262144 and 49152 tokens. The goldens are llama.cpp's. */
static const struct {
  const char *file, *golden;
} models[] = {{"gemma3-270m-q4_k_m.gguf", "real_gemma3"},
              {"SmolLM2-135M-Instruct.Q4_1.gguf", "real_smollm2"}};
START_TEST(real_models) {
  const char *folder = getenv("TENON_LLM");
  char path[1024];
  loaded l;
  snprintf(path, sizeof path, "%s/%s", folder ? folder : TN_SOURCE_DIR "/.cache/llm", models[_i].file);
  if (!tn_path_exists(path)) return;
  double start = tn_now();
  load(&l, path);
  ck_assert_msg(l.status == TN_OK, "%s", tn_buf_cstr(&l.words));
  ck_assert_msg(tn_now() - start < 10, "the import took %g seconds", tn_now() - start);
  check_goldens(l.t, models[_i].golden);
  unload(&l);
}
END_TEST

/* Time for a long text grows with its length, whatever the text: one word, spaces, bytes. */
START_TEST(long_texts) {
  static const char *const units[] = {"a",  " ", "word and ", "\xe4\xb8\xad", "\xf0\x9f\x98\x80",
                                      "\n", "0", "ab c"};
  enum { LONG = 1 << 20 };
  loaded l;
  load(&l, _i ? TOKENIZER "data/gguf/spm_across.gguf" : TOKENIZER "data/gguf/spm.gguf");
  for (size_t i = 0; i < TN_COUNT(units); i++) {
    tn_buf text = {0};
    tn_tokens k = {0};
    while (text.len < LONG) tn_buf_puts(&text, units[i]);
    double start = tn_now();
    ck_assert_int_eq(tn_tokenizer_encode(l.t, (tn_str){text.text, text.len}, none, 0, &k), TN_OK);
    ck_assert_msg(tn_now() - start < 20, "%u MiB of '%s' took %g seconds", LONG >> 20, units[i],
                  tn_now() - start);
    tn_vec_fini(&k);
    tn_buf_fini(&text);
  }
  unload(&l);
}
END_TEST

/* ---- files that say something wrong ---------------------------------------------------------- */
typedef struct writer {
  tn_buf b;
  uint32_t keys;
} writer;
static void put(writer *w, uint64_t v, int bytes) { tn_buf_put(&w->b, &v, (uint64_t)bytes); }
static void put_str(writer *w, const char *s) {
  put(w, strlen(s), 8);
  tn_buf_puts(&w->b, s);
}
static void key(writer *w, const char *name, tn_gguf_type type) {
  put_str(w, name);
  put(w, type, 4);
  w->keys++;
}
static void key_str(writer *w, const char *name, const char *value) {
  key(w, name, TN_GGUF_STRING);
  put_str(w, value);
}
/* `text`: items with spaces between, numbers unless `item` is STRING; "_" in a string stands for a space. */
static void key_list(writer *w, const char *name, tn_gguf_type item, const char *text) {
  tn_buf copy = {0};
  uint64_t n = *text != 0;
  for (const char *p = text; *p; p++) n += *p == ' ';
  key(w, name, TN_GGUF_ARRAY);
  put(w, item, 4);
  put(w, n, 8);
  tn_buf_puts(&copy, text);
  for (char *p = n ? strtok(copy.text, " ") : NULL; p; p = strtok(NULL, " ")) {
    float real = strtof(p, NULL);
    uint32_t bits;
    memcpy(&bits, &real, 4);
    for (char *c = p; *c; c++) *c = *c == '_' ? ' ' : *c;
    if (item == TN_GGUF_STRING)
      put_str(w, p);
    else
      put(w, item == TN_GGUF_F32 ? bits : (uint32_t)atoi(p), 4);
  }
  tn_buf_fini(&copy);
}

typedef struct wrong {
  const char *kind, *pre, *tokens, *types, *scores, *merges;
  const char *message; /* in what is said */
} wrong;
static const wrong wrongs[] = {
    {"rwkv", NULL, "a b", "1 1", "0 0", NULL, "'rwkv' is not known, these are: llama, gpt2"},
    {"llama", NULL, "", "", "", NULL, "has 0 tokens"},
    {"llama", NULL, "a b", "1 1", NULL, NULL, "tokenizer.ggml.scores: error: is missing"},
    {"llama", NULL, "a b", "1 1", "0", NULL, "has 1 items, there are 2 tokens"},
    {"llama", NULL, "a b", "1", "0 0", NULL, "token_type: error: has 1 items"},
    {"llama", NULL, "a b", "1 1", "0 nan", NULL, "scores[1]: error: is not a number"},
    {"llama", NULL, "a \xff", "1 1", "0 0", NULL, "tokens[1]: error: is not UTF-8"},
    {"gpt2", "gpt-2", "a b", "1 1", NULL, NULL, "merges: error: is missing"},
    {"gpt2", "gpt2", "a b ab", "1 1 1", NULL, "a_b", "'gpt2' is not known; the nearest is gpt-2"},
    {"gpt2", "completely different", "a b ab", "1 1 1", NULL, "a_b", "is not known"},
    {"gpt2", "gpt-2", "a b ab", "1 1 1", NULL, "a_c", "merges[0]: error: 'c' is not in the vocabulary"},
    {"gpt2", "gpt-2", "a b", "1 1", NULL, "a_b", "merges[0]: error: 'ab' is not in the vocabulary"},
    {"gpt2", "gpt-2", "a b ab", "1 1 1", NULL, "ab", "is not two tokens with a space between"},
    {"t5", NULL, "a b", "1 1", NULL, NULL, "scores: error: is missing"},
};
static void write_file(const writer *w, const char *path) {
  tn_buf all = {0};
  uint32_t version = 3;
  uint64_t counts[2] = {0, w->keys};
  tn_buf_puts(&all, "GGUF");
  tn_buf_put(&all, &version, 4);
  tn_buf_put(&all, counts, 16);
  tn_buf_put(&all, w->b.text, w->b.len);
  FILE *f = fopen(path, "wb");
  ck_assert_ptr_nonnull(f);
  fwrite(all.text, 1, all.len, f);
  fclose(f);
  tn_buf_fini(&all);
}

START_TEST(wrong_files) {
  const wrong *x = &wrongs[_i];
  char path[] = "/tmp/tn-gguf-XXXXXX";
  writer w = {0};
  loaded l;
  int fd = mkstemp(path);
  ck_assert_int_ge(fd, 0);
  close(fd);
  key_str(&w, "general.architecture", "llama");
  key_str(&w, "tokenizer.ggml.model", x->kind);
  if (x->pre) key_str(&w, "tokenizer.ggml.pre", x->pre);
  key_list(&w, "tokenizer.ggml.tokens", TN_GGUF_STRING, x->tokens);
  key_list(&w, "tokenizer.ggml.token_type", TN_GGUF_I32, x->types);
  if (x->scores) key_list(&w, "tokenizer.ggml.scores", TN_GGUF_F32, x->scores);
  if (x->merges) key_list(&w, "tokenizer.ggml.merges", TN_GGUF_STRING, x->merges);
  write_file(&w, path);
  load(&l, path);
  ck_assert_msg(l.status != TN_OK && l.diags.errors == 1 && l.blob.len == 0, "%s", tn_buf_cstr(&l.words));
  ck_assert_msg(strstr(tn_buf_cstr(&l.words), x->message), "%s, should have '%s'", tn_buf_cstr(&l.words),
                x->message);
  unlink(path);
  unload(&l);
  tn_buf_fini(&w.b);
}
END_TEST

/* Every allocation fails once. */
START_TEST(no_memory) {
  tn_gguf *g;
  tn_diags diags;
  tn_status s = TN_OOM;
  tn_diags_init(&diags);
  ck_assert_int_eq(
      tn_gguf_open(_i ? TOKENIZER "data/gguf/t5.gguf" : TOKENIZER "data/gguf/spm.gguf", &diags, &g), TN_OK);
  for (long n = 0; s != TN_OK && n < 100000; n += 1 + n / 8) {
    tn_buf blob = {0};
    tn_mem_fail_after(n);
    s = tn_tokenizer_from_gguf(g, &blob, &diags);
    tn_mem_fail_after(-1);
    ck_assert(s == TN_OOM || (s == TN_OK && blob.len));
    if (s) ck_assert_uint_eq(blob.len, 0);
    tn_buf_fini(&blob);
  }
  ck_assert_int_eq(s, TN_OK);
  tn_gguf_close(g);
  tn_diags_fini(&diags);
}
END_TEST

int main(void) {
  Suite *s = suite_create("tokenizer_gguf");
  TCase *t = tcase_create("tokenizer_gguf");
  tcase_set_timeout(t, 120);
  tcase_add_loop_test(t, goldens, 0, TN_COUNT(names));
  tcase_add_loop_test(t, real_models, 0, TN_COUNT(models));
  tcase_add_loop_test(t, long_texts, 0, 2);
  tcase_add_loop_test(t, wrong_files, 0, TN_COUNT(wrongs));
  tcase_add_loop_test(t, no_memory, 0, 2);
  suite_add_tcase(s, t);
  SRunner *r = srunner_create(s);
  srunner_run_all(r, CK_ENV);
  int failed = srunner_ntests_failed(r);
  srunner_free(r);
  return failed != 0;
}
