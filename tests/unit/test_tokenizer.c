/* test_tokenizer.c - ids, offsets and decoded texts against what the `tokenizers` package and transformers
 * gave (tests/tokenizer/make_tokenizers.py), then hostile files, damaged blobs, failing memory, several
 * threads. */
#include "frontend/tokenizer/tokenizer.h"
#include <check.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define DATA TN_SOURCE_DIR "/tests/tokenizer/data/"
#define FNV 0xcbf29ce484222325u
static const tn_str none = {NULL, 0};

/* ---- a tokenizer and its blob ---------------------------------------------------------------- */
typedef struct loaded {
  tn_buf blob;
  tn_tokenizer *t;
  tn_diags diags;
} loaded;

static tn_file mapped(const char *path) {
  tn_file f;
  const char *why = "";
  ck_assert_msg(tn_file_map(&f, path, &why) == TN_OK, "%s: %s", path, why);
  return f;
}

static void opened(loaded *l) {
  tn_buf words = {0};
  const char *why = "";
  tn_diags_text(&l->diags, &words, false);
  ck_assert_msg(l->diags.errors == 0 && l->blob.len, "%s", tn_buf_cstr(&words));
  ck_assert_msg(tn_tokenizer_open((tn_bytes){l->blob.text, l->blob.len}, &l->t, &why) == TN_OK, "%s", why);
  tn_buf_fini(&words);
}

static void load_text(loaded *l, tn_str json) {
  memset(l, 0, sizeof *l);
  tn_diags_init(&l->diags);
  tn_tokenizer_import_json(json, "tokenizer.json", &l->blob, &l->diags);
  opened(l);
}

static void load_file(loaded *l, const char *name) {
  char path[512];
  snprintf(path, sizeof path, DATA "%s.json", name);
  tn_file f = mapped(path);
  load_text(l, (tn_str){(const char *)f.data, f.size});
  tn_file_unmap(&f);
}

static void load_folder(loaded *l, const char *name) {
  char path[512];
  snprintf(path, sizeof path, DATA "folders/%s", name);
  memset(l, 0, sizeof *l);
  tn_diags_init(&l->diags);
  tn_tokenizer_import(path, &l->blob, &l->diags);
  opened(l);
}

static void unload(loaded *l) {
  tn_tokenizer_close(l->t);
  tn_buf_fini(&l->blob);
  tn_diags_fini(&l->diags);
}

/* ---- texts and goldens ----------------------------------------------------------------------- */
static bool next_line(tn_str *rest, tn_str *line) {
  if (!rest->len) return false;
  const char *end = memchr(rest->ptr, '\n', rest->len);
  ck_assert_ptr_nonnull(end);
  *line = (tn_str){rest->ptr, (uint64_t)(end - rest->ptr)};
  rest->len -= line->len + 1;
  rest->ptr = end + 1;
  return true;
}

static tn_str field(tn_str *line) {
  const char *end = memchr(line->ptr, '\t', line->len);
  tn_str f = {line->ptr, end ? (uint64_t)(end - line->ptr) : line->len};
  line->ptr += f.len + (end != NULL);
  line->len -= f.len + (end != NULL);
  return f;
}

static int hex(char c) { return c <= '9' ? c - '0' : c - 'a' + 10; }

/* Undoes the escapes of texts.txt; "\p" ends the text (*rest is what follows it). */
static void unescape(tn_str *rest, tn_buf *out) {
  out->len = 0;
  tn_buf_puts(out, "");
  for (uint64_t i = 0; i < rest->len; i++) {
    char c = rest->ptr[i];
    if (c == '\\') {
      c = rest->ptr[++i];
      if (c == 'p') {
        *rest = (tn_str){rest->ptr + i + 1, rest->len - i - 1};
        return;
      }
      if (c == 'x') {
        c = (char)(hex(rest->ptr[i + 1]) << 4 | hex(rest->ptr[i + 2]));
        i += 2;
      } else {
        c = c == 'n' ? '\n' : c == 't' ? '\t' : c == 'r' ? '\r' : c;
      }
    }
    tn_buf_put(out, &c, 1);
  }
  *rest = none;
}

static uint64_t fnv(uint64_t h, const void *p, size_t n) {
  for (size_t i = 0; i < n; i++) h = (h ^ ((const uint8_t *)p)[i]) * 0x100000001b3u;
  return h;
}

static void check_offsets(tn_str want, const tn_tokens *k, const char *where) {
  uint64_t h = FNV;
  char text[96];
  if (want.len == 1) return; /* "-" */
  for (uint32_t i = 0; i < k->count; i++) {
    const tn_token *x = &k->items[i];
    int n = snprintf(text, sizeof text, "%u:%llu:%llu:%d;", x->type, (unsigned long long)x->start,
                     (unsigned long long)x->end, x->special);
    h = fnv(h, text, (size_t)n);
  }
  snprintf(text, sizeof text, "%016llx", (unsigned long long)h);
  ck_assert_msg(tn_str_is(want, text), "%s: offsets, types or special", where);
}

static void check_decoded(const tn_tokenizer *t, const tn_tokens *k, uint32_t flags, tn_str want,
                          const char *where) {
  TN_VEC(int32_t) ids = {0};
  tn_buf got = {0}, wanted = {0};
  for (uint32_t i = 0; i < k->count; i++) ck_assert(tn_vec_push(&ids, k->items[i].id));
  ck_assert_int_eq(tn_tokenizer_decode(t, ids.items, ids.count, flags, &got), TN_OK);
  unescape(&want, &wanted);
  ck_assert_msg(!strcmp(tn_buf_cstr(&got), tn_buf_cstr(&wanted)) && got.len == wanted.len,
                "%s: decodes to '%s', should to '%s'", where, tn_buf_cstr(&got), tn_buf_cstr(&wanted));
  tn_vec_fini(&ids);
  tn_buf_fini(&got);
  tn_buf_fini(&wanted);
}

static void check_line(const tn_tokenizer *t, tn_str line, tn_str golden, const char *where) {
  tn_buf text = {0}, pair = {0}, ids = {0};
  tn_tokens k = {0};
  unescape(&line, &text);
  bool two = line.ptr;
  if (two) unescape(&line, &pair);
  ck_assert_int_eq(tn_tokenizer_encode(t, (tn_str){text.text, text.len},
                                       two ? (tn_str){pair.text, pair.len} : none, 0, &k),
                   TN_OK);
  for (uint32_t i = 0; i < k.count; i++) tn_buf_printf(&ids, i ? " %d" : "%d", k.items[i].id);
  tn_str want = field(&golden);
  ck_assert_msg(tn_str_is(want, tn_buf_cstr(&ids)), "%s: ids %s, should be %.*s", where, tn_buf_cstr(&ids),
                (int)want.len, want.ptr);
  check_offsets(field(&golden), &k, where);
  check_decoded(t, &k, 0, field(&golden), where);
  check_decoded(t, &k, TN_DETOKENIZE_SKIP_SPECIAL, field(&golden), where);
  tn_vec_fini(&k);
  tn_buf_fini(&text);
  tn_buf_fini(&pair);
  tn_buf_fini(&ids);
}

/* `every`: of texts.txt that line of four, and the last ten but four (what the goldens of folders have). */
static void check_goldens(const tn_tokenizer *t, const char *name, bool folder) {
  char path[512], where[128];
  snprintf(path, sizeof path, DATA "%s%s.golden", folder ? "folders/" : "", name);
  tn_file texts = mapped(TN_SOURCE_DIR "/tests/tokenizer/texts.txt"), goldens = mapped(path);
  TN_VEC(tn_str) lines = {0};
  tn_str rest = {(const char *)texts.data, texts.size}, want = {(const char *)goldens.data, goldens.size},
         line;
  while (next_line(&rest, &line)) ck_assert(tn_vec_push(&lines, line));
  uint32_t n = lines.count, step = folder ? 4 : 1;
  for (uint32_t i = 0; i < n; i += step) {
    snprintf(where, sizeof where, "%s line %u", name, i + 1);
    ck_assert(next_line(&want, &line));
    check_line(t, lines.items[i], line, where);
  }
  for (uint32_t i = n - 10; folder && i < n - 4; i++) {
    snprintf(where, sizeof where, "%s line %u", name, i + 1);
    ck_assert(next_line(&want, &line));
    check_line(t, lines.items[i], line, where);
  }
  ck_assert_uint_eq(want.len, 0);
  tn_vec_fini(&lines);
  tn_file_unmap(&texts);
  tn_file_unmap(&goldens);
}

static const char *const names[] = {"wordpiece", "wordpiece_cased", "gpt2", "roberta",       "llama3",
                                    "llama2",    "mistral",         "t5",   "unigram_bytes", "clip",
                                    "wordlevel", "bpe_affixes",     "ctc"};
START_TEST(goldens) {
  loaded l;
  load_file(&l, names[_i]);
  check_goldens(l.t, names[_i], false);
  unload(&l);
}
END_TEST

static const char *const folders[] = {"bert_cased",  "bert_lower", "gpt2_old", "gpt2_bos",
                                      "roberta_old", "clip_old",   "edges"};
START_TEST(folder_goldens) {
  loaded l;
  load_folder(&l, folders[_i]);
  check_goldens(l.t, folders[_i], true);
  unload(&l);
}
END_TEST

/* ---- every code point ------------------------------------------------------------------------ */
static uint64_t hash_ids(uint64_t h, const tn_tokens *k) {
  const int32_t end = -1;
  for (uint32_t i = 0; i < k->count; i++) h = fnv(h, &k->items[i].id, 4);
  return fnv(h, &end, 4);
}

static uint64_t hash_point(const tn_tokenizer *t, uint32_t c, uint64_t h, tn_tokens *k) {
  char text[8] = "a";
  int n = 1;
  if (c < 0x80) text[n++] = (char)c;
  if (c >= 0x10000) text[n++] = (char)(0xf0 | c >> 18);
  if (c >= 0x800) text[n++] = (char)(c >= 0x10000 ? 0x80 | (c >> 12 & 0x3f) : 0xe0 | c >> 12);
  if (c >= 0x80) text[n++] = (char)(c >= 0x800 ? 0x80 | (c >> 6 & 0x3f) : 0xc0 | c >> 6);
  if (c >= 0x80) text[n++] = (char)(0x80 | (c & 0x3f));
  text[n++] = 'b';
  k->count = 0;
  ck_assert_int_eq(tn_tokenizer_encode(t, (tn_str){text, (uint64_t)n}, none, 0, k), TN_OK);
  return hash_ids(h, k);
}

static uint64_t hash_points(const tn_tokenizer *t, tn_str rest) {
  tn_str line;
  tn_tokens k = {0};
  uint64_t h = FNV;
  while (next_line(&rest, &line)) {
    unsigned a, b;
    char text[64];
    snprintf(text, sizeof text, "%.*s", (int)line.len, line.ptr);
    ck_assert(sscanf(text, "%x %x", &a, &b) == 2 && a <= b && b <= 0x10ffff);
    for (uint32_t c = a; c <= b; c++) h = hash_point(t, c, h, &k);
  }
  tn_vec_fini(&k);
  return h;
}

/* The code points of Unicode 14: later ones are not the same in every version of pcre2 and utf8proc (points
 * in make_tokenizers.py). */
START_TEST(code_points) {
  loaded l;
  char want[64] = "";
  tn_file points = mapped(DATA "points.txt"), hashes = mapped(DATA "points.golden");
  tn_str rest = {(const char *)hashes.data, hashes.size}, line;
  while (next_line(&rest, &line)) {
    size_t n = strlen(names[_i]);
    if (line.len > n && !memcmp(line.ptr, names[_i], n) && line.ptr[n] == ' ')
      snprintf(want, sizeof want, "%.*s", (int)(line.len - n - 1), line.ptr + n + 1);
  }
  load_file(&l, names[_i]);
  char got[32];
  uint64_t h = hash_points(l.t, (tn_str){(const char *)points.data, points.size});
  snprintf(got, sizeof got, "%016llx", (unsigned long long)h);
  ck_assert_str_eq(got, want);
  unload(&l);
  tn_file_unmap(&points);
  tn_file_unmap(&hashes);
}
END_TEST

/* ---- single parts ---------------------------------------------------------------------------- */
static uint64_t hash_text(const tn_tokenizer *t, tn_str text, uint64_t h, const char *where) {
  tn_tokens k = {0};
  TN_VEC(int32_t) ids = {0};
  tn_buf out = {0};
  ck_assert_msg(tn_tokenizer_encode(t, text, none, 0, &k) == TN_OK, "%s", where);
  for (uint32_t i = 0; i < k.count; i++) ck_assert(tn_vec_push(&ids, k.items[i].id));
  ck_assert_int_eq(tn_tokenizer_decode(t, ids.items, ids.count, 0, &out), TN_OK);
  h = fnv(hash_ids(h, &k), out.text, out.len);
  tn_vec_fini(&k);
  tn_vec_fini(&ids);
  tn_buf_fini(&out);
  return h;
}

static uint64_t hash_texts(const tn_tokenizer *t, const char *where) {
  tn_file texts = mapped(TN_SOURCE_DIR "/tests/tokenizer/texts.txt");
  tn_str rest = {(const char *)texts.data, texts.size}, line;
  tn_buf text = {0};
  uint64_t h = FNV;
  for (uint32_t i = 0; next_line(&rest, &line);) {
    unescape(&line, &text);
    if (line.ptr) continue; /* a pair */
    if (i++ % 2 == 0) h = hash_text(t, (tn_str){text.text, text.len}, h, where);
  }
  tn_buf_fini(&text);
  tn_file_unmap(&texts);
  return hash_text(t, TN_STR("aab abab xyz abAB \xc3\xa9 don't"), h, where);
}

/* parts.jsonl: a model, then lines of a hash and one component. */
START_TEST(parts) {
  tn_file f = mapped(DATA "parts.jsonl");
  tn_str rest = {(const char *)f.data, f.size}, model, line;
  uint32_t count = 0;
  ck_assert(next_line(&rest, &model));
  for (; next_line(&rest, &line); count++) {
    loaded l;
    char want[20], got[20], where[256];
    tn_buf json = {0};
    snprintf(want, sizeof want, "%.16s", line.ptr);
    snprintf(where, sizeof where, "%.*s", (int)(line.len - 17), line.ptr + 17);
    tn_buf_printf(&json, "{%s\"model\": %.*s}", "", (int)model.len, model.ptr);
    json.len--;
    if (line.len > 19)
      tn_buf_printf(&json, ", %.*s", (int)(line.len - 18), line.ptr + 18);
    else
      tn_buf_puts(&json, "}");
    load_text(&l, (tn_str){json.text, json.len});
    snprintf(got, sizeof got, "%016llx", (unsigned long long)hash_texts(l.t, where));
    ck_assert_msg(!strcmp(got, want), "%s: %s, should be %s", where, got, want);
    unload(&l);
    tn_buf_fini(&json);
  }
  ck_assert_uint_gt(count, 100);
  tn_file_unmap(&f);
}
END_TEST

/* ---- the rest of the interface --------------------------------------------------------------- */
START_TEST(interface) {
  loaded l;
  load_file(&l, "wordpiece");
  tn_tokens k = {0};
  tn_buf out = {0};
  ck_assert_uint_eq(tn_tokenizer_max_length(l.t), 128);
  ck_assert_int_eq(tn_tokenizer_id(l.t, TN_STR("[MASK]")), 4);
  ck_assert_int_eq(tn_tokenizer_id(l.t, TN_STR("no such token")), -1);
  ck_assert(tn_str_is(tn_tokenizer_token(l.t, 2), "[CLS]"));
  ck_assert_ptr_null(tn_tokenizer_token(l.t, -1).ptr);
  ck_assert_ptr_null(tn_tokenizer_token(l.t, (int32_t)tn_tokenizer_size(l.t)).ptr);
  ck_assert(tn_tokenizer_token(l.t, (int32_t)tn_tokenizer_size(l.t) - 1).ptr);
  ck_assert_int_eq(tn_tokenizer_encode(l.t, none, none, 0, &k), TN_OK);
  ck_assert_uint_eq(k.count, 2); /* [CLS] [SEP] */
  ck_assert_int_eq(tn_tokenizer_encode(l.t, TN_STR("the"), TN_STR("the"), TN_TOKENIZE_NO_SPECIAL, &k), TN_OK);
  ck_assert_uint_eq(k.count, 4); /* appended */
  ck_assert_int_eq(k.items[2].id, k.items[3].id);
  ck_assert(k.items[2].type == 0 && k.items[3].type == 1 && !k.items[2].special && k.items[0].special);
  ck_assert_int_eq(tn_tokenizer_decode(l.t, (int32_t[]){-5, 1 << 30, 2}, 3, 0, &out), TN_OK);
  ck_assert_str_eq(tn_buf_cstr(&out), "[CLS]");
  tn_vec_fini(&k);
  tn_buf_fini(&out);
  unload(&l);
}
END_TEST

START_TEST(same_bytes) {
  loaded a, b;
  load_file(&a, names[_i]);
  load_file(&b, names[_i]);
  ck_assert(a.blob.len == b.blob.len && !memcmp(a.blob.text, b.blob.text, a.blob.len));
  unload(&a);
  unload(&b);
}
END_TEST

START_TEST(no_tokenizer) {
  tn_diags diags;
  tn_buf blob = {0};
  tn_diags_init(&diags);
  ck_assert_int_eq(tn_tokenizer_import(TN_SOURCE_DIR "/tests/tokenizer", &blob, &diags), TN_NOT_FOUND);
  ck_assert_uint_eq(diags.list.count, 0);
  tn_diags_fini(&diags);
  tn_buf_fini(&blob);
}
END_TEST

/* ---- hostile files --------------------------------------------------------------------------- */
#define MODEL                                                                                                \
  "\"model\": {\"type\": \"WordLevel\", \"vocab\": {\"a\": 0, \"<unk>\": 1}, \"unk_token\": \"<unk>\"}"
#define BPE(vocab, merges)                                                                                   \
  "{\"model\": {\"type\": \"BPE\", \"vocab\": {" vocab "}, \"merges\": [" merges "]}}"
#define WITH(key, value) "{\"" key "\": " value ", " MODEL "}"
#define SPLIT(regex)                                                                                         \
  WITH("pre_tokenizer", "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"" regex "\"}, "                    \
                        "\"behavior\": \"Isolated\", \"invert\": false}")
typedef struct hostile_case {
  const char *json, *where, *text; /* of the message; where NULL: none */
} hostile_case;
static const hostile_case hostile_cases[] = {
    {"", NULL, "empty"},
    {"{\"model\": ", NULL, "not valid JSON"},
    {"[]", NULL, "should be an object, is a list"},
    {"{}", "model", "should be an object, is missing"},
    {WITH("version", "\"9.9\""), "version", "'9.9' is not known"},
    {"{\"model\": {\"type\": \"Markov\"}}", "model.type", "'Markov' is not known"},
    {"{\"model\": {\"type\": \"BPE\", \"vocab\": [], \"merges\": []}}", "model.vocab",
     "should be an object, is a list"},
    {BPE("\"a\": -1", ""), "model.vocab.a", "-1 is not in 0 .. 65540"},
    {BPE("\"a\": 4294967296", ""), "model.vocab.a", "4294967296 is not in"},
    {BPE("\"a\": 2000000000", ""), "model.vocab.a", "2000000000 is not in"},
    {BPE("\"a\": 1e300", ""), "model.vocab.a", "should be an integer"},
    {BPE("\"a\": 99999999999999999999999", ""), NULL, "not valid JSON"},
    {BPE("\"a\": 0, \"b\": 0", ""), "model.vocab", "'a' and 'b' both have id 0"},
    {BPE("\"a\": 0, \"a\": 1", ""), NULL, "not valid JSON"},
    {BPE("\"a\": 0", "\"a zz\""), "model.merges[0]", "'zz' is not in the vocabulary"},
    {BPE("\"a\": 0", "[\"a\", \"a\"]"), "model.merges[0]", "'aa' is not in the vocabulary"},
    {BPE("\"a\": 0, \"aa\": 1", "\"a a\", \"a a a\""), "model.merges[1]", "'a a a' is not two tokens"},
    {BPE("\"a\": 0", "7"), "model.merges[0]", "is neither a string nor two strings"},
    {"{\"model\": {\"type\": \"BPE\", \"dropout\": 0.1, \"vocab\": {}, \"merges\": []}}", "model.dropout",
     "by chance"},
    {"{\"model\": {\"type\": \"Unigram\", \"unk_id\": 3, \"vocab\": [[\"a\", -1.0]]}}", "model.unk_id",
     "3 is not in 0 .. 0"},
    {"{\"model\": {\"type\": \"Unigram\", \"unk_id\": 0, \"vocab\": [[\"a\", NaN]]}}", "model.vocab[0]",
     "not a number"},
    {"{\"model\": {\"type\": \"Unigram\", \"unk_id\": 0, \"vocab\": [\"a\"]}}", "model.vocab[0]",
     "is not a string and a number"},
    {"{\"model\": {\"type\": \"WordPiece\", \"vocab\": {}, \"unk_token\": \"u\", "
     "\"continuing_subword_prefix\": 3}}",
     "model.continuing_subword_prefix", "should be a string, is an integer"},
    {WITH("added_tokens", "[{\"id\": -2, \"content\": \"x\"}]"), "added_tokens[0].id", "-2 is not in"},
    {WITH("added_tokens", "[{\"id\": 2, \"content\": 5}]"), "added_tokens[0].content", "should be a string"},
    {WITH("added_tokens", "[3]"), "added_tokens[0]", "should be an object"},
    {WITH("normalizer", "{\"type\": \"Rot13\"}"), "normalizer.type", "'Rot13' is not known"},
    {WITH("normalizer",
          "{\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"NFC\"}, {\"type\": \"x\"}]}"),
     "normalizer.normalizers[1].type", "'x' is not known"},
    {WITH("normalizer", "{\"type\": \"Precompiled\", \"precompiled_charsmap\": \"A*AA\"}"),
     "normalizer.precompiled_charsmap", "is not base64: character 1"},
    {WITH("normalizer", "{\"type\": \"Precompiled\", \"precompiled_charsmap\": \"AAA\"}"),
     "normalizer.precompiled_charsmap", "is not base64: 3 characters"},
    {WITH("normalizer", "{\"type\": \"Precompiled\", \"precompiled_charsmap\": \"/////w==\"}"),
     "normalizer.precompiled_charsmap", "4 bytes with a trie of 4294967295 are no map"},
    {WITH("normalizer", "{\"type\": \"Precompiled\", \"precompiled_charsmap\": \"AAAAAP8=\"}"),
     "normalizer.precompiled_charsmap", "byte 0 of its texts is not UTF-8"},
    {WITH("normalizer", "{\"type\": \"Replace\", \"pattern\": {}, \"content\": \"\"}"), "normalizer.pattern",
     "has not one of"},
    {SPLIT("(a"), "pre_tokenizer.pattern.Regex", "( without )"},
    {SPLIT("a)"), "pre_tokenizer.pattern.Regex", ") without ("},
    {SPLIT("[a"), "pre_tokenizer.pattern.Regex", "[ without ]"},
    {SPLIT("\\\\p{Nonsense}"), "pre_tokenizer.pattern.Regex", "unknown property"},
    {SPLIT("(?~a)"), "pre_tokenizer.pattern.Regex", "(?~...)"},
    {SPLIT("a{2000000}"), "pre_tokenizer.pattern.Regex", "number too big"},
    {WITH("pre_tokenizer", "{\"type\": \"Metaspace\", \"replacement\": \"ab\"}"), "pre_tokenizer.replacement",
     "not one character"},
    {WITH("pre_tokenizer", "{\"type\": \"Metaspace\", \"replacement\": \"a\", \"add_prefix_space\": false, "
                           "\"prepend_scheme\": \"first\"}"),
     "pre_tokenizer", "add_prefix_space is false"},
    {WITH("pre_tokenizer", "{\"type\": \"Punctuation\", \"behavior\": \"Odd\"}"), "pre_tokenizer.behavior",
     "'Odd' is not known"},
    {WITH("pre_tokenizer", "{\"type\": \"FixedLength\", \"length\": 0}"), "pre_tokenizer.length", "is 0"},
    {WITH("decoder", "{\"type\": \"Strip\", \"content\": \"a\", \"start\": -1, \"stop\": 0}"),
     "decoder.start", "-1 is not in"},
    {WITH("decoder", "{\"type\": \"BPEDecoder\", \"suffix\": \"\"}"), "decoder.suffix", "is empty"},
    {WITH("post_processor", "{\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": "
                            "\"x\", \"type_id\": 0}}], "
                            "\"pair\": [], \"special_tokens\": {}}"),
     "post_processor.single[0].SpecialToken", "'x' is not one of the special_tokens"},
    {WITH("post_processor",
          "{\"type\": \"TemplateProcessing\", \"single\": [{\"Sequence\": {\"id\": \"B\", \"type_id\": 0}}], "
          "\"pair\": [], \"special_tokens\": {}}"),
     "post_processor.single[0].Sequence", "sequence B in the template for one text"},
    {WITH("post_processor", "{\"type\": \"BertProcessing\", \"sep\": [\"a\", 5], \"cls\": [\"a\", 0]}"),
     "post_processor", "token 5 is not in the vocabulary of 2"},
    {WITH("post_processor", "{\"type\": \"Sequence\", \"processors\": [{\"type\": \"BertProcessing\", "
                            "\"sep\": [\"a\", 0], \"cls\": "
                            "[\"a\", 0]}, {\"type\": \"BertProcessing\"}]}"),
     "post_processor.processors[1]", "a second processor"},
    {WITH("truncation", "{\"max_length\": -1}"), "truncation.max_length", "-1 is not in"},
};

START_TEST(hostile) {
  const hostile_case *c = &hostile_cases[_i];
  tn_diags diags;
  tn_buf blob = {0};
  tn_diags_init(&diags);
  tn_status status = tn_tokenizer_import_json(tn_str_of(c->json), "t.json", &blob, &diags);
  ck_assert_msg(status == TN_INVALID || status == TN_UNSUPPORTED, "%s: status %d", c->json, status);
  ck_assert_uint_eq(diags.errors, 1);
  ck_assert_uint_eq(blob.len, 0);
  const tn_message *m = &diags.list.items[0];
  ck_assert_str_eq(m->file, "t.json");
  ck_assert_msg(!c->where == !m->where && (!c->where || !strcmp(c->where, m->where)),
                "%s: at %s, should be at %s", c->json, m->where, c->where);
  ck_assert_msg(strstr(m->text, c->text), "%s: says '%s', should say '%s'", c->json, m->text, c->text);
  tn_diags_fini(&diags);
  tn_buf_fini(&blob);
}
END_TEST

START_TEST(deep_sequence) {
  tn_buf json = {0};
  tn_buf blob = {0};
  tn_diags diags;
  tn_diags_init(&diags);
  tn_buf_puts(&json, "{" MODEL ", \"normalizer\": ");
  for (int i = 0; i < 5000; i++) tn_buf_puts(&json, "{\"type\": \"Sequence\", \"normalizers\": [");
  for (int i = 0; i < 5000; i++) tn_buf_puts(&json, "]}");
  tn_buf_puts(&json, "}");
  ck_assert_int_eq(tn_tokenizer_import_json((tn_str){json.text, json.len}, "t.json", &blob, &diags),
                   TN_INVALID);
  ck_assert_ptr_nonnull(strstr(diags.list.items[0].text, "deeper than 64"));
  tn_diags_fini(&diags);
  tn_buf_fini(&json);
  tn_buf_fini(&blob);
}
END_TEST

/* A pattern that backtracks without end is an error of this text, soon; others still work. */
START_TEST(endless_regex) {
  loaded l;
  char text[64];
  tn_tokens k = {0};
  load_text(&l, tn_str_of(SPLIT("(a|a?)+[^a-z]b")));
  memset(text, 'a', sizeof text);
  text[sizeof text - 1] = 'b';
  double start = tn_now();
  ck_assert_int_eq(tn_tokenizer_encode(l.t, (tn_str){text, sizeof text}, none, 0, &k), TN_INVALID);
  ck_assert(tn_now() - start < 30);
  ck_assert_int_eq(tn_tokenizer_encode(l.t, TN_STR("aa b"), none, 0, &k), TN_OK);
  tn_vec_fini(&k);
  unload(&l);
}
END_TEST

START_TEST(no_unknown_token) {
  loaded l;
  tn_tokens k = {0};
  load_text(&l,
            TN_STR("{\"model\": {\"type\": \"WordLevel\", \"vocab\": {\"a\": 0}, \"unk_token\": \"gone\"}}"));
  ck_assert_int_eq(tn_tokenizer_encode(l.t, TN_STR("a"), none, 0, &k), TN_OK);
  ck_assert_int_eq(tn_tokenizer_encode(l.t, TN_STR("b"), none, 0, &k), TN_INVALID);
  ck_assert_uint_eq(k.count, 1);
  tn_vec_fini(&k);
  unload(&l);
}
END_TEST

/* ---- damaged blobs, memory, threads ---------------------------------------------------------- */
#define SAMPLE                                                                                               \
  TN_STR("The na\xc3\xafve [MASK] newword  <s> 123 \xe4\xb8\xad\xf0\x9f\x91\x8d STRIPL don't\xff")

static tn_status use(const tn_tokenizer *t) {
  tn_tokens k = {0};
  TN_VEC(int32_t) ids = {0};
  tn_buf out = {0};
  tn_status status = tn_tokenizer_encode(t, SAMPLE, TN_STR("pair"), 0, &k);
  for (uint32_t i = 0; !status && i < k.count; i++) {
    if (!tn_vec_push(&ids, k.items[i].id)) status = TN_OOM;
  }
  if (!status) status = tn_tokenizer_decode(t, ids.items, ids.count, 0, &out);
  tn_tokenizer_token(t, 1);
  tn_tokenizer_id(t, TN_STR("the"));
  tn_vec_fini(&k);
  tn_vec_fini(&ids);
  tn_buf_fini(&out);
  return status;
}

static void try_blob(const uint64_t *copy, uint64_t n) {
  tn_tokenizer *t;
  const char *why = NULL;
  tn_status status = tn_tokenizer_open((tn_bytes){copy, n}, &t, &why);
  ck_assert(status == TN_OK || (why && *why && !t));
  if (status == TN_OK) use(t);
  tn_tokenizer_close(t);
}

/* Flips in every byte that is not text of the vocabulary; larger sections are sampled. */
START_TEST(damaged_blob) {
  loaded l;
  load_file(&l, names[_i]);
  uint64_t n = l.blob.len, *copy = malloc(n + 8);
  memcpy(copy, l.blob.text, n);
  uint64_t step = n / 1000 + 1;
  for (uint64_t at = 0; at < n; at += at < 512 ? 1 : step) {
    for (int bit = 0; bit < 8; bit += at < 512 ? 1 : 3) {
      ((uint8_t *)copy)[at] ^= (uint8_t)(1u << bit);
      try_blob(copy, n);
      ((uint8_t *)copy)[at] ^= (uint8_t)(1u << bit);
    }
  }
  free(copy);
  for (uint64_t len = 0; len < n; len += len < 512 ? 1 : step * 7) {
    uint64_t *part = malloc(len ? len : 1); /* so that a read past the end is seen */
    memcpy(part, l.blob.text, len);
    tn_tokenizer *t;
    const char *why;
    ck_assert_int_eq(tn_tokenizer_open((tn_bytes){part, len}, &t, &why), TN_DATA_LOSS);
    free(part);
  }
  unload(&l);
}
END_TEST

START_TEST(truncated_json) {
  char path[512];
  snprintf(path, sizeof path, DATA "%s.json", "ctc");
  tn_file f = mapped(path);
  for (uint64_t n = 0; n + 1 < f.size; n++) {
    tn_diags diags;
    tn_buf blob = {0};
    tn_diags_init(&diags);
    ck_assert_int_ne(tn_tokenizer_import_json((tn_str){(const char *)f.data, n}, "t.json", &blob, &diags),
                     TN_OK);
    ck_assert_uint_eq(diags.errors, 1);
    tn_diags_fini(&diags);
    tn_buf_fini(&blob);
  }
  tn_file_unmap(&f);
}
END_TEST

/* The nth allocation fails, for every n: TN_OOM and no leak. */
START_TEST(failing_memory) {
  loaded l;
  load_file(&l, names[_i]);
  for (long n = 0;; n++) {
    tn_mem_fail_after(n);
    tn_status status = use(l.t);
    tn_mem_fail_after(-1);
    if (status == TN_OK) break;
    ck_assert_int_eq(status, TN_OOM);
  }
  for (long n = 0;; n++) {
    tn_tokenizer *t;
    const char *why;
    tn_mem_fail_after(n);
    tn_status status = tn_tokenizer_open((tn_bytes){l.blob.text, l.blob.len}, &t, &why);
    tn_mem_fail_after(-1);
    tn_tokenizer_close(t);
    if (status == TN_OK) break;
    ck_assert_int_eq(status, TN_OOM);
  }
  unload(&l);
}
END_TEST

START_TEST(failing_import) {
  tn_file f = mapped(DATA "t5.json");
  for (long n = 0;; n = n < 200 ? n + 1 : n + n / 20) {
    tn_diags diags;
    tn_buf blob = {0};
    tn_diags_init(&diags);
    tn_mem_fail_after(n);
    tn_status status =
        tn_tokenizer_import_json((tn_str){(const char *)f.data, f.size}, "t.json", &blob, &diags);
    tn_mem_fail_after(-1);
    ck_assert(status == TN_OK || status == TN_OOM);
    tn_diags_fini(&diags);
    tn_buf_fini(&blob);
    if (status == TN_OK) break;
  }
  tn_file_unmap(&f);
}
END_TEST

static void *work(void *p) {
  for (int i = 0; i < 10; i++) check_goldens(p, "llama3", false);
  return NULL;
}

START_TEST(threads) {
  loaded l;
  pthread_t others[3];
  load_file(&l, "llama3");
  for (int i = 0; i < 3; i++) ck_assert_int_eq(pthread_create(&others[i], NULL, work, l.t), 0);
  for (int i = 0; i < 3; i++) pthread_join(others[i], NULL);
  unload(&l);
}
END_TEST

/* A text of many different and many equal words: the memory of words must not change the result. */
START_TEST(long_text) {
  loaded l;
  tn_buf text = {0};
  tn_tokens whole = {0}, pieces = {0};
  load_file(&l, _i ? "unigram_bytes" : "llama3");
  for (int i = 0; i < 3000; i++) {
    char line[64];
    int n = snprintf(line, sizeof line, " word%d the%c (%d)", i % 700, 'a' + i % 13, i % 17);
    tn_buf_put(&text, line, (uint64_t)n);
    ck_assert_int_eq(
        tn_tokenizer_encode(l.t, (tn_str){line, (uint64_t)n}, none, TN_TOKENIZE_NO_SPECIAL, &pieces), TN_OK);
  }
  ck_assert_int_eq(
      tn_tokenizer_encode(l.t, (tn_str){text.text, text.len}, none, TN_TOKENIZE_NO_SPECIAL, &whole), TN_OK);
  ck_assert_uint_eq(whole.count, pieces.count);
  for (uint32_t i = 0; i < whole.count; i++) ck_assert_int_eq(whole.items[i].id, pieces.items[i].id);
  tn_vec_fini(&whole);
  tn_vec_fini(&pieces);
  tn_buf_fini(&text);
  unload(&l);
}
END_TEST

int main(void) {
  Suite *s = suite_create("tokenizer");
  TCase *c = tcase_create("all");
  int n = (int)TN_COUNT(names);
  tcase_set_timeout(c, 600);
  tcase_add_loop_test(c, goldens, 0, n);
  tcase_add_loop_test(c, folder_goldens, 0, (int)TN_COUNT(folders));
  tcase_add_loop_test(c, code_points, 0, n);
  tcase_add_test(c, parts);
  tcase_add_test(c, interface);
  tcase_add_loop_test(c, same_bytes, 0, n);
  tcase_add_test(c, no_tokenizer);
  tcase_add_loop_test(c, hostile, 0, (int)TN_COUNT(hostile_cases));
  tcase_add_test(c, deep_sequence);
  tcase_add_test(c, endless_regex);
  tcase_add_test(c, no_unknown_token);
  tcase_add_loop_test(c, damaged_blob, 0, n);
  tcase_add_test(c, truncated_json);
  tcase_add_loop_test(c, failing_memory, 0, n);
  tcase_add_test(c, failing_import);
  tcase_add_test(c, threads);
  tcase_add_loop_test(c, long_text, 0, 2);
  suite_add_tcase(s, c);
  SRunner *r = srunner_create(s);
  srunner_run_all(r, CK_NORMAL);
  int failed = srunner_ntests_failed(r);
  srunner_free(r);
  return failed != 0;
}
