/* test_safetensors.c - one header check per row, and folders with an index. The rows that must be read are
 * files as the safetensors package writes them; those that must be refused break one rule of the format each.
 */
#include "frontend/safetensors/safetensors.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

static tn_diags diags;
static tn_st_files files;

static void setup(void) {
  tn_diags_init(&diags);
  tn_st_init(&files);
}

static void teardown(void) {
  tn_st_fini(&files);
  tn_diags_fini(&diags);
}

/* Reads a file of this header and `bytes` bytes of data. */
static tn_status read_text(const char *header, uint64_t bytes) {
  uint64_t n = strlen(header);
  unsigned char *p = tn_mem_alloc(8 + n + bytes);
  ck_assert_ptr_nonnull(p);
  for (int i = 0; i < 8; i++) p[i] = (unsigned char)(n >> (8 * i));
  memcpy(p + 8, header, n);
  tn_status s = tn_st_read(&files, "x.safetensors", (tn_bytes){p, 8 + n + bytes}, &diags);
  tn_mem_free(p);
  return s;
}

#define T(name, dtype, shape, begin, end)                                                                    \
  "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" begin "," end "]}"

START_TEST(good) {
  ck_assert_int_eq(
      read_text("{\"__metadata__\":{\"format\":\"pt\"}," T("b", "F32", "[2,3]", "8", "32") "," T(
                    "a", "I64", "[]", "0", "8") "," T("empty", "F16", "[0,5]", "32", "32") "}   ",
                24 + 8),
      TN_OK);
  ck_assert_int_eq(diags.list.count, 0);
  ck_assert_int_eq(files.tensors.count, 3);
  ck_assert_str_eq(files.tensors.items[0].name, "a");
  ck_assert_str_eq(files.tensors.items[2].name, "empty");
  const tn_st_tensor *b = tn_st_find(&files, "b");
  ck_assert(b && b->rank == 2 && b->shape[1] == 3 && b->dtype == TN_DT_f32 && b->bytes == 24);
  ck_assert_int_eq(
      b->offset, 8 +
                     strlen("{\"__metadata__\":{\"format\":\"pt\"}," T("b", "F32", "[2,3]", "8", "32") "," T(
                         "a", "I64", "[]", "0", "8") "," T("empty", "F16", "[0,5]", "32", "32") "}   ") +
                     8);
  ck_assert_ptr_null(tn_st_find(&files, "c"));
}
END_TEST

START_TEST(no_tensors) { ck_assert_int_eq(read_text("{}", 0), TN_OK); }
END_TEST

static const struct {
  const char *header;
  uint64_t bytes;
  tn_status status;
  const char *where, *says;
} bad[] = {
    {"", 0, TN_INVALID, NULL, "'{'"},
    {" {}", 0, TN_INVALID, NULL, "'{'"},
    {"{", 0, TN_INVALID, NULL, "JSON"},
    {"{}", 1, TN_INVALID, NULL, "1 bytes of data belong to no tensor"},
    {"{\"a\":1}", 0, TN_INVALID, "tensor 'a'", "an integer, not an object"},
    {"{\"__metadata__\":{\"a\":1}}", 0, TN_INVALID, "key '__metadata__'", "not a string"},
    {"{\"__metadata__\":[]}", 0, TN_INVALID, "key '__metadata__'", "not an object"},
    {"{" T("a", "F32", "[1]", "0", "4") "," T("a", "F32", "[1]", "4", "8") "}", 8, TN_INVALID, NULL,
     "duplicate"},
    {"{" T("a", "F33", "[1]", "0", "4") "}", 4, TN_INVALID, "tensor 'a'", "F33"},
    {"{" T("a", "F6_E2M3", "[4]", "0", "3") "}", 3, TN_UNSUPPORTED, "tensor 'a'", "F6_E2M3 is not supported"},
    {"{" T("a", "F4", "[3]", "0", "1") "}", 1, TN_INVALID, "tensor 'a'", "whole bytes"},
    {"{" T("a", "F6_E2M3", "[4]", "0", "3") "}", 3, TN_UNSUPPORTED, "tensor 'a'", "F6_E2M3"},
    {"{" T("a", "F6_E3M2", "[4]", "0", "4") "}", 4, TN_INVALID, "tensor 'a'", "need 3 bytes"},
    {"{" T("a", "C64", "[1]", "0", "8") "}", 8, TN_UNSUPPORTED, "tensor 'a'", "C64"},
    {"{" T("a", "F32", "[1]", "0", "3") "}", 3, TN_INVALID, "tensor 'a'", "need 4 bytes, its offsets give 3"},
    {"{" T("a", "F32", "[-1]", "0", "4") "}", 4, TN_INVALID, "tensor 'a'", "dim 0"},
    {"{" T("a", "F32", "[1.0]", "0", "4") "}", 4, TN_INVALID, "tensor 'a'", "dim 0"},
    {"{" T("a", "F32", "4", "0", "4") "}", 4, TN_INVALID, "tensor 'a'", "not a list"},
    {"{" T("a", "F32", "[1,1,1,1,1,1,1,1,1]", "0", "4") "}", 4, TN_UNSUPPORTED, "tensor 'a'", "9 dims"},
    {"{" T("a", "F32", "[4294967296,4294967296]", "0", "4") "}", 4, TN_INVALID, "tensor 'a'", "64 bits"},
    {"{" T("a", "F32", "[2305843009213693952]", "0", "0") "}", 0, TN_INVALID, "tensor 'a'", "64 bits"},
    {"{" T("a", "F32", "[1]", "4", "0") "}", 4, TN_INVALID, "tensor 'a'", "in order"},
    {"{" T("a", "F32", "[1]", "-4", "0") "}", 4, TN_INVALID, "tensor 'a'", "in order"},
    {"{" T("a", "F32", "[1]", "0", "4,8") "}", 4, TN_INVALID, "tensor 'a'", "in order"},
    {"{" T("a", "F32", "[1]", "0", "4") "}", 3, TN_INVALID, "tensor 'a'",
     "ends at byte 4 of the data, which has 3"},
    {"{" T("a", "F32", "[1]", "4", "8") "}", 8, TN_INVALID, "tensor 'a'", "begins at byte 4"},
    {"{" T("a", "F32", "[1]", "0", "4") "," T("b", "F32", "[1]", "8", "12") "}", 12, TN_INVALID, "tensor 'b'",
     "begins"},
    {"{" T("a", "F32", "[2]", "0", "8") "," T("b", "F32", "[2]", "4", "12") "}", 12, TN_INVALID, "tensor 'b'",
     "overlaps tensor 'a'"},
    {"{" T("a", "F32", "[1]", "0", "4") "}", 5, TN_INVALID, NULL, "belong to no tensor"},
    {"{" T("", "F32", "[1]", "0", "4") "}", 4, TN_INVALID, NULL, "name is empty"},
    {"{" T("a\\n", "F32", "[1]", "0", "4") "}", 4, TN_INVALID, NULL, "control characters"},
    {"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, TN_INVALID, "tensor 'a'", "has no 'shape'"},
    {"{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4, TN_INVALID, "tensor 'a'", "has no 'dtype'"},
    {"{\"a\":{\"shape\":[1],\"dtype\":\"F32\"}}", 4, TN_INVALID, "tensor 'a'", "has no 'data_offsets'"},
    {"{\"a\":{\"shape\":[1],\"dtype\":3,\"data_offsets\":[0,4]}}", 4, TN_INVALID, "tensor 'a'",
     "not a string"},
};

START_TEST(refused) {
  ck_assert_int_eq(read_text(bad[_i].header, bad[_i].bytes), bad[_i].status);
  ck_assert_int_eq(diags.errors, 1);
  const tn_message *m = &diags.list.items[0];
  ck_assert_str_eq(m->file, "x.safetensors");
  ck_assert_pstr_eq(m->where, bad[_i].where);
  ck_assert_msg(strstr(m->text, bad[_i].says), "'%s' says '%s'", bad[_i].header, m->text);
}
END_TEST

static const struct {
  unsigned char bytes[10];
  uint64_t len;
  const char *says;
} cut[] = {
    {{0}, 0, "0 bytes"},
    {{2, 0, 0, 0, 0, 0, 0}, 7, "7 bytes"},
    {{2, 0, 0, 0, 0, 0, 0, 0, '{'}, 9, "header length 2, but 1"},
    {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, '{', '}'}, 10, "limit"},
    {{0x01, 0xe1, 0xf5, 0x05, 0, 0, 0, 0, '{', '}'}, 10, "limit"}, /* 100,000,001 */
    {{0x00, 0xe1, 0xf5, 0x05, 0, 0, 0, 0, '{', '}'}, 10, "cut off"},
};

START_TEST(cut_off) {
  ck_assert_int_eq(tn_st_read(&files, "x", (tn_bytes){cut[_i].bytes, cut[_i].len}, &diags), TN_INVALID);
  ck_assert_int_eq(diags.errors, 1);
  ck_assert_msg(strstr(diags.list.items[0].text, cut[_i].says), "says '%s'", diags.list.items[0].text);
}
END_TEST

START_TEST(all_reported) {
  ck_assert_int_eq(read_text("{" T("a", "F33", "[1]", "0", "4") "," T("b", "F32", "[1]", "4", "9") "," T(
                                 "c", "F32", "[2]", "8", "12") "}",
                             12),
                   TN_INVALID);
  ck_assert_int_eq(diags.errors, 3);
}
END_TEST

START_TEST(no_memory) {
  bool failed = true;
  for (long n = 0; failed && n < 300; n++) {
    tn_st_files f;
    tn_st_init(&f);
    static const char header[] = "{" T("a", "F32", "[1]", "0", "4") "," T("b", "F32", "[1]", "4", "8") "}";
    unsigned char data[8 + sizeof header - 1 + 8] = {sizeof header - 1};
    memcpy(data + 8, header, sizeof header - 1);
    tn_mem_fail_after(n);
    tn_status s = tn_st_read(&f, "x", (tn_bytes){data, sizeof data}, NULL);
    tn_mem_fail_after(-1);
    ck_assert(s == TN_OK || s == TN_OOM);
    failed = s != TN_OK;
    tn_st_fini(&f);
  }
  ck_assert(!failed);
}
END_TEST

/* ---- folders ---- */

static char top[32];

static void put(const char *name, const char *header, uint64_t data) {
  char path[128];
  snprintf(path, sizeof path, "%s/%s", top, name);
  FILE *f = fopen(path, "wb");
  ck_assert_ptr_nonnull(f);
  uint64_t n = strlen(header);
  if (strstr(name, ".safetensors") && !strstr(name, ".json"))
    for (int i = 0; i < 8; i++) fputc((int)(n >> (8 * i) & 255), f);
  fputs(header, f);
  for (uint64_t i = 0; i < data; i++) fputc(0, f);
  fclose(f);
}

static const char one[] = "{" T("a", "F32", "[1]", "0", "4") "," T("b", "F32", "[1]", "4", "8") "}";
static const char two[] = "{" T("c", "BF16", "[2]", "0", "4") "}";

static const struct {
  const char *index; /* NULL: none */
  const char *file, *where, *says;
} folders[] = {
    {"{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"1.safetensors\",\"c\":\"2.safetensors\"}}", NULL, NULL,
     NULL},
    {NULL, "model.safetensors", NULL, "no such file"},
    {"[]", "model.safetensors.index.json", NULL, "a list where an object"},
    {"{}", "model.safetensors.index.json", "key 'weight_map'", "missing"},
    {"{\"weight_map\":3}", "model.safetensors.index.json", "key 'weight_map'", "not an object"},
    {"{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"1.safetensors\",\"d\":\"2.safetensors\",\"c\":\"2."
     "safetensors\"}}",
     "model.safetensors.index.json", "tensor 'd'", "is not in its shard '2.safetensors'"},
    {"{\"weight_map\":{\"a\":\"1.safetensors\",\"c\":\"2.safetensors\"}}", "1.safetensors", "tensor 'b'",
     "is not named"},
    {"{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"2.safetensors\",\"c\":\"2.safetensors\"}}",
     "model.safetensors.index.json", "tensor 'b'", "is not in its shard"},
    {"{\"weight_map\":{\"a\":\"3.safetensors\"}}", "3.safetensors", NULL, "no such file"},
    {"{\"weight_map\":{\"a\":\"../1.safetensors\"}}", "model.safetensors.index.json", "tensor 'a'",
     "../1.safetensors"},
    {"{\"weight_map\":{\"a\":\"model.safetensors.index.json\"}}", "model.safetensors.index.json",
     "tensor 'a'", "plain name"},
    {"{\"weight_map\":{\"a\":7}}", "model.safetensors.index.json", "tensor 'a'", "an integer"},
    {"{\"weight_map\":{\"a\":\"1.safetensors\\u0000\"}}", "model.safetensors.index.json", "tensor 'a'",
     "plain name"},
    {"{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"1.safetensors\",\"x\":\"same.safetensors\"}}",
     "same.safetensors", "tensor 'a'", "is also in '1.safetensors'"},
};

START_TEST(folder) {
  char cmd[64];
  strcpy(top, "/tmp/tn_st_XXXXXX");
  ck_assert_ptr_nonnull(mkdtemp(top));
  put("1.safetensors", one, 8);
  put("2.safetensors", two, 4);
  put("same.safetensors", "{" T("a", "F32", "[1]", "0", "4") "}", 4);
  if (folders[_i].index) put("model.safetensors.index.json", folders[_i].index, 0);
  tn_status s = tn_st_open_folder(&files, top, &diags);
  snprintf(cmd, sizeof cmd, "rm -r %s", top);
  ck_assert_int_eq(system(cmd), 0);
  if (!folders[_i].says) {
    ck_assert_int_eq(s, TN_OK);
    ck_assert_int_eq(files.tensors.count, 3);
    ck_assert_str_eq(tn_st_find(&files, "c")->file, "2.safetensors");
    return;
  }
  ck_assert_int_ne(s, TN_OK);
  ck_assert_int_eq(diags.errors, 1);
  const tn_message *m = &diags.list.items[0];
  ck_assert_str_eq(m->file, folders[_i].file);
  ck_assert_pstr_eq(m->where, folders[_i].where);
  ck_assert_msg(strstr(m->text, folders[_i].says), "says '%s'", m->text);
}
END_TEST

int main(void) {
  Suite *s = suite_create("safetensors");
  TCase *t = tcase_create("safetensors");
  tcase_add_checked_fixture(t, setup, teardown);
  tcase_add_test(t, good);
  tcase_add_test(t, no_tensors);
  tcase_add_loop_test(t, refused, 0, (int)TN_COUNT(bad));
  tcase_add_loop_test(t, cut_off, 0, (int)TN_COUNT(cut));
  tcase_add_test(t, all_reported);
  tcase_add_test(t, no_memory);
  tcase_add_loop_test(t, folder, 0, (int)TN_COUNT(folders));
  suite_add_tcase(s, t);
  SRunner *r = srunner_create(s);
  srunner_run_all(r, CK_NORMAL);
  int failed = srunner_ntests_failed(r);
  srunner_free(r);
  return failed != 0;
}
