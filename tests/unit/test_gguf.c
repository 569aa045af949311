/* test_gguf.c - the GGUF reader on files written here byte by byte from the format's specification: every
 * value type, the places of tensors, splits, allocations that fail. What must be refused is in tests/hostile.
 */
#include "frontend/gguf/gguf.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static tn_diags diags;
static tn_gguf *g;
static tn_buf file;
static char folder[64];

static void setup(void) {
  tn_diags_init(&diags);
  g = NULL;
  file = (tn_buf){0};
  strcpy(folder, "/tmp/tenon-gguf-XXXXXX");
  ck_assert_ptr_nonnull(mkdtemp(folder));
}

static void teardown(void) {
  char command[128];
  tn_gguf_close(g);
  tn_diags_fini(&diags);
  tn_buf_fini(&file);
  snprintf(command, sizeof command, "rm -rf '%s'", folder);
  ck_assert_int_eq(system(command), 0);
}

/* ---- writing
 * ---------------------------------------------------------------------------------------------------- */

static void num(uint64_t v, int bytes) { tn_buf_put(&file, &v, (uint64_t)bytes); }
static void str(const char *s) { num(strlen(s), 8), tn_buf_puts(&file, s); }
static void key(const char *k, uint32_t type) { str(k), num(type, 4); }
static void begin(uint64_t tensors, uint64_t keys) {
  tn_buf_fini(&file);
  tn_buf_puts(&file, "GGUF"), num(3, 4), num(tensors, 8), num(keys, 8);
}
static void tensor(const char *name, int rank, const int64_t *dims, uint32_t type, uint64_t offset) {
  str(name), num((uint64_t)rank, 4);
  for (int i = 0; i < rank; i++) num((uint64_t)dims[i], 8);
  num(type, 4), num(offset, 8);
}
static void pad(uint64_t alignment) {
  while (file.len % alignment) num(0, 1);
}

static char *save(const char *name) {
  static char path[128];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  FILE *f = fopen(path, "wb");
  ck_assert(f && fwrite(file.text, 1, file.len, f) == file.len && !fclose(f));
  return path;
}

/* ---- values
 * ----------------------------------------------------------------------------------------------------- */

/* The value types as the specification numbers them, each with its lowest or an odd value. */
static void all_types(void) {
  begin(0, 17);
  key("u8", 0), num(255, 1);
  key("i8", 1), num(0x80, 1);
  key("u16", 2), num(65535, 2);
  key("i16", 3), num(0x8000, 2);
  key("u32", 4), num(4294967295u, 4);
  key("i32", 5), num(0x80000000u, 4);
  key("f32", 6), num(0x3fc00000, 4); /* 1.5 */
  key("yes", 7), num(1, 1);
  key("no", 7), num(0, 1);
  key("text", 8), str("h\xc3\xa9");
  key("u64", 10), num(UINT64_MAX, 8);
  key("i64", 11), num((uint64_t)INT64_MIN, 8);
  key("f64", 12), num(0xbff8000000000000u, 8); /* -1.5 */
  key("ints", 9), num(3, 4), num(2, 8), num(1, 2), num(0xffff, 2);
  key("reals", 9), num(6, 4), num(2, 8), num(0x3f800000, 4), num(0x40000000, 4);
  key("texts", 9), num(8, 4), num(3, 8), str("a"), str(""), str("\xff");
  key("none", 9), num(4, 4), num(0, 8);
}

static void check_int(const char *k, uint64_t i, int64_t want) {
  int64_t v = 0;
  double r = 0;
  ck_assert_msg(tn_gguf_int(tn_gguf_find(g, k), i, &v), "%s", k);
  ck_assert_int_eq(v, want);
  ck_assert(tn_gguf_real(tn_gguf_find(g, k), i, &r) && r == (double)want);
}

static void check_text(const char *k, uint64_t i, const char *want) {
  tn_str s;
  ck_assert_msg(tn_gguf_string(tn_gguf_find(g, k), i, &s) && tn_str_is(s, want), "%s", k);
}

START_TEST(values) {
  int64_t v;
  double r;
  bool b;
  tn_str s;
  all_types();
  ck_assert_int_eq(tn_gguf_open(save("m.gguf"), &diags, &g), TN_OK);
  ck_assert_int_eq(tn_gguf_kv_count(g), 17);
  ck_assert(tn_str_is(tn_gguf_kv_at(g, 16)->key, "none"));
  check_int("u8", 0, 255), check_int("i8", 0, -128), check_int("u16", 0, 65535), check_int("i16", 0, -32768);
  check_int("u32", 0, 4294967295), check_int("i32", 0, INT32_MIN), check_int("i64", 0, INT64_MIN);
  check_int("ints", 0, 1), check_int("ints", 1, -1);
  ck_assert(tn_gguf_real(tn_gguf_find(g, "f32"), 0, &r) && r == 1.5);
  ck_assert(tn_gguf_real(tn_gguf_find(g, "f64"), 0, &r) && r == -1.5);
  ck_assert(tn_gguf_real(tn_gguf_find(g, "reals"), 1, &r) && r == 2);
  ck_assert(tn_gguf_bool(tn_gguf_find(g, "yes"), &b) && b);
  ck_assert(tn_gguf_bool(tn_gguf_find(g, "no"), &b) && !b);
  check_text("text", 0, "h\xc3\xa9"), check_text("texts", 0, "a"), check_text("texts", 1, "");
  check_text("texts", 2, "\xff");
  ck_assert_int_eq(tn_gguf_find(g, "none")->count, 0);
  /* other kinds, absent keys, places behind the end */
  ck_assert(!tn_gguf_int(tn_gguf_find(g, "u64"), 0, &v) && !tn_gguf_int(tn_gguf_find(g, "f32"), 0, &v));
  ck_assert(!tn_gguf_int(tn_gguf_find(g, "yes"), 0, &v) && !tn_gguf_int(tn_gguf_find(g, "text"), 0, &v));
  ck_assert(!tn_gguf_int(tn_gguf_find(g, "ints"), 2, &v) && !tn_gguf_int(tn_gguf_find(g, "gone"), 0, &v));
  ck_assert(!tn_gguf_real(tn_gguf_find(g, "text"), 0, &r) && !tn_gguf_real(tn_gguf_find(g, "none"), 0, &r));
  ck_assert(!tn_gguf_bool(tn_gguf_find(g, "u8"), &b) && !tn_gguf_bool(tn_gguf_find(g, "gone"), &b));
  ck_assert(!tn_gguf_string(tn_gguf_find(g, "texts"), 3, &s) &&
            !tn_gguf_string(tn_gguf_find(g, "u8"), 0, &s));
  ck_assert(!tn_gguf_kv_at(g, 17) && !tn_gguf_tensor_at(g, 0) && !tn_gguf_tensor_find(g, "x"));
}
END_TEST

/* ---- tensors
 * ---------------------------------------------------------------------------------------------------- */

START_TEST(tensors) {
  begin(4, 1);
  key("general.alignment", 4), num(64, 4);
  tensor("a", 2, (int64_t[]){3, 2}, 0, 0);            /* f32: 24 bytes */
  tensor("scalar", 0, NULL, 26, 64);                  /* i32 */
  tensor("blocks", 3, (int64_t[]){64, 2, 5}, 8, 128); /* q8_0: 20 blocks of 34 bytes */
  tensor("empty", 2, (int64_t[]){0, 7}, 1, 832);      /* 128 + 680, padded to 64 */
  uint64_t table = file.len, start = (table + 63) / 64 * 64;
  pad(64);
  for (int i = 0; i < 128 + 680; i++) num((uint64_t)i & 255, 1);
  pad(64);
  ck_assert_int_eq(tn_gguf_open(save("m.gguf"), &diags, &g), TN_OK);
  ck_assert_int_eq(tn_gguf_tensor_count(g), 4);
  const tn_gguf_tensor *t = tn_gguf_tensor_find(g, "a");
  ck_assert(t == tn_gguf_tensor_at(g, 0) && t->dtype == TN_DT_f32 && t->rank == 2);
  ck_assert(t->shape[0] == 2 && t->shape[1] == 3 && t->offset == start && t->bytes == 24);
  ck_assert_str_eq(t->file, "m.gguf");
  t = tn_gguf_tensor_find(g, "scalar");
  ck_assert(t->rank == 0 && t->dtype == TN_DT_i32 && t->bytes == 4 && t->offset == start + 64);
  t = tn_gguf_tensor_find(g, "blocks");
  ck_assert(t->rank == 3 && t->shape[0] == 5 && t->shape[2] == 64 && t->dtype >= TN_DT_BLOCK);
  ck_assert(t->bytes == 680 && t->offset == start + 128);
  t = tn_gguf_tensor_find(g, "empty");
  ck_assert(t->bytes == 0 && t->shape[0] == 7 && t->shape[1] == 0);
}
END_TEST

/* Part `no` of three; only the first has keys of its own. */
static char *save_part(int no) {
  char name[40];
  begin(1, no ? 3 : 4);
  key("split.no", 2), num((uint64_t)no, 2);
  key("split.count", 2), num(3, 2);
  key("split.tensors.count", 5), num(3, 4);
  if (!no) key("general.name", 8), str("whole");
  snprintf(name, sizeof name, "t%d", no);
  tensor(name, 1, (int64_t[]){8}, 0, 0);
  pad(32);
  for (int i = 0; i < 8; i++) num(0, 4);
  snprintf(name, sizeof name, "m-%05d-of-00003.gguf", no + 1);
  return save(name);
}

START_TEST(parts) {
  save_part(2), save_part(1);
  ck_assert_int_eq(tn_gguf_open(save_part(0), &diags, &g), TN_OK);
  ck_assert_int_eq(tn_gguf_tensor_count(g), 3);
  ck_assert_int_eq(tn_gguf_kv_count(g), 4);
  check_text("general.name", 0, "whole");
  ck_assert_str_eq(tn_gguf_tensor_find(g, "t2")->file, "m-00003-of-00003.gguf");
  ck_assert_str_eq(tn_gguf_tensor_find(g, "t0")->file, "m-00001-of-00003.gguf");
}
END_TEST

START_TEST(not_there) {
  ck_assert_int_eq(tn_gguf_open("/nonexistent/m.gguf", &diags, &g), TN_NOT_FOUND);
  ck_assert_int_eq(diags.errors, 1);
  ck_assert_ptr_null(g);
  ck_assert_int_eq(tn_gguf_open(folder, &diags, &g), TN_UNAVAILABLE);
}
END_TEST

/* Every allocation fails once: an error or a result, and nothing is left behind (the sanitizer looks). */
START_TEST(no_memory) {
  save_part(2), save_part(1);
  char *path = save_part(0);
  int failures = 0;
  for (long n = 1; n < 400; n++) {
    tn_diags own;
    tn_diags_init(&own);
    tn_mem_fail_after(n);
    tn_status s = tn_gguf_open(path, &own, &g);
    tn_mem_fail_after(-1);
    ck_assert(s == TN_OK ? g != NULL : g == NULL);
    failures += s == TN_OOM;
    tn_gguf_close(g);
    tn_diags_fini(&own);
    g = NULL;
    if (s == TN_OK) break;
  }
  ck_assert_int_gt(failures, 5);
}
END_TEST

int main(void) {
  Suite *s = suite_create("gguf");
  TCase *c = tcase_create("gguf");
  tcase_add_checked_fixture(c, setup, teardown);
  tcase_add_test(c, values);
  tcase_add_test(c, tensors);
  tcase_add_test(c, parts);
  tcase_add_test(c, not_there);
  tcase_add_test(c, no_memory);
  suite_add_tcase(s, c);
  SRunner *r = srunner_create(s);
  srunner_run_all(r, CK_ENV);
  int failed = srunner_ntests_failed(r);
  srunner_free(r);
  return failed != 0;
}
