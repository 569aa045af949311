/* test_base.c - ir/base: memory, strings, maps, hashes, files, messages. Expected values are published
 * vectors or counted by hand. */
#include "ir/base/diag.h"
#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

START_TEST(arena_keeps_what_it_gave) {
  tn_arena a;
  tn_arena_init(&a);
  uint32_t *first = tn_arena_alloc(&a, 4);
  *first = 7;
  for (uint32_t i = 1; i < 3000; i++) {
    uint8_t *p = tn_arena_alloc(&a, i);
    ck_assert_ptr_nonnull(p);
    ck_assert_uint_eq((uintptr_t)p % 16, 0);
    for (uint32_t k = 0; k < i; k++) ck_assert_uint_eq(p[k], 0);
    memset(p, 0xff, i);
  }
  ck_assert_uint_eq(*first, 7);
  ck_assert_ptr_nonnull(tn_arena_alloc(&a, 5u << 20));
  ck_assert_str_eq(tn_arena_printf(&a, "%s-%d", "x", 12), "x-12");
  ck_assert_str_eq(tn_arena_str(&a, (tn_str){"abcd", 2}), "ab");
  ck_assert(!a.failed);
  ck_assert_ptr_null(tn_arena_alloc(&a, SIZE_MAX));
  ck_assert(a.failed);
  tn_arena_fini(&a);
}
END_TEST

START_TEST(failing_memory_is_seen) {
  tn_arena a;
  tn_arena_init(&a);
  tn_mem_fail_after(0);
  ck_assert_ptr_null(tn_arena_alloc(&a, 8));
  ck_assert_ptr_null(tn_mem_alloc(1));
  tn_buf b = {0};
  tn_buf_puts(&b, "lost");
  TN_VEC(int) v = {0};
  bool pushed = tn_vec_push(&v, 1);
  tn_mem_fail_after(-1);
  ck_assert(a.failed && b.failed && !pushed && v.count == 0);
  ck_assert_str_eq(tn_buf_cstr(&b), "");
  tn_buf_fini(&b);
  tn_arena_fini(&a);
}
END_TEST

START_TEST(vec_grows_and_refuses_to_wrap) {
  TN_VEC(uint64_t) v = {0};
  for (uint64_t i = 0; i < 1000; i++) ck_assert(tn_vec_push(&v, i * i));
  for (uint64_t i = 0; i < 1000; i++) ck_assert_uint_eq(v.items[i], i * i);
  v.count = UINT32_MAX; /* count + 1 wraps to 0 */
  ck_assert(!tn_vec_push(&v, 1));
  tn_vec_fini(&v);
  ck_assert(v.items == NULL && v.count == 0 && v.capacity == 0);
}
END_TEST

START_TEST(strings) {
  tn_str s = TN_STR("model.safetensors");
  ck_assert(tn_str_starts(s, "model") && !tn_str_starts(s, "odel") && tn_str_starts(s, ""));
  ck_assert(tn_str_ends(s, ".safetensors") && !tn_str_ends(s, "xxmodel.safetensors"));
  ck_assert(tn_str_is(s, "model.safetensors") && !tn_str_is(s, "model"));
  ck_assert(tn_str_eq((tn_str){NULL, 0}, TN_STR("")));
  const char *const names[] = {"matmul", "softmax", "layer_norm", "rms_norm"};
  ck_assert_int_eq(tn_str_nearest("matmull", names, 4), 0);
  ck_assert_int_eq(tn_str_nearest("matmlu", names, 4), 0);
  ck_assert_int_eq(tn_str_nearest("layernorm", names, 4), 2);
  ck_assert_int_eq(tn_str_nearest("convolution", names, 4), -1);
  ck_assert_int_eq(tn_str_nearest("xyz", names, 4), -1);
}
END_TEST

/* Sequences of the Unicode standard, table 3-7, at and just past its borders. */
START_TEST(utf8_is_strict) {
  static const struct {
    const char *text;
    uint64_t len;
    int bad_at;
  } cases[] = {{"", 0, -1},
               {"a\0b", 3, -1},
               {"\xc2\x80", 2, -1},
               {"\xc1\xbf", 2, 0},
               {"\xdf\xbf", 2, -1},
               {"\xe0\xa0\x80", 3, -1},
               {"\xe0\x9f\xbf", 3, 0},
               {"\xed\x9f\xbf", 3, -1},
               {"\xed\xa0\x80", 3, 0},
               {"\xee\x80\x80", 3, -1},
               {"\xf0\x90\x80\x80", 4, -1},
               {"\xf0\x8f\xbf\xbf", 4, 0},
               {"\xf4\x8f\xbf\xbf", 4, -1},
               {"\xf4\x90\x80\x80", 4, 0},
               {"\xf5\x80\x80\x80", 4, 0},
               {"ab\x80", 3, 2},
               {"ab\xc3", 3, 2},
               {"x\xe2\x82", 3, 1},
               {"\xff", 1, 0}};
  for (size_t i = 0; i < TN_COUNT(cases); i++) {
    uint64_t bad = 99;
    bool ok = tn_utf8_valid((tn_str){cases[i].text, cases[i].len}, &bad);
    ck_assert_msg(ok == (cases[i].bad_at < 0), "case %zu", i);
    if (!ok) ck_assert_uint_eq(bad, (uint64_t)cases[i].bad_at);
  }
}
END_TEST

START_TEST(json_text_is_escaped) {
  tn_buf b = {0};
  tn_buf_json(&b, (tn_str){"a\"\\\n\t\x01\x7f/\xc3\xa9\xff.", 12});
  ck_assert_str_eq(tn_buf_cstr(&b), "\"a\\\"\\\\\\n\\t\\u0001\\u007f/\xc3\xa9\xef\xbf\xbd.\"");
  tn_buf_fini(&b);
  for (int i = 0; i < 300; i++)
    tn_buf_printf(&b, "%03d ", i); /* past the first block and past the stack room */
  tn_buf_printf(&b, "%0500d", 5);
  ck_assert_uint_eq(b.len, 300 * 4 + 500);
  ck_assert_int_eq(memcmp(b.text + 4 * 299, "299 0000", 8), 0);
  tn_buf_fini(&b);
}
END_TEST

START_TEST(map_keeps_order_and_values) {
  tn_map m;
  tn_map_init(&m);
  char key[32];
  uint64_t value;
  bool there;
  ck_assert(!tn_map_get(&m, TN_STR("x"), &value));
  for (uint64_t i = 0; i < 5000; i++) {
    snprintf(key, sizeof key, "key%llu", (unsigned long long)(i * 7919 % 5000));
    ck_assert_int_eq(tn_map_put(&m, tn_str_of(key), i, &there), TN_OK);
    ck_assert(!there);
  }
  ck_assert_uint_eq(m.count, 5000);
  for (uint64_t i = 0; i < 5000; i++) {
    snprintf(key, sizeof key, "key%llu", (unsigned long long)(i * 7919 % 5000));
    ck_assert_str_eq(m.entries[i].key, key);
    ck_assert(tn_map_get(&m, tn_str_of(key), &value) && value == i);
  }
  ck_assert_int_eq(tn_map_put(&m, TN_STR("key0"), 77, &there), TN_OK);
  ck_assert(there && m.count == 5000 && tn_map_get(&m, TN_STR("key0"), &value) && value == 77);
  ck_assert(tn_map_put(&m, (tn_str){"a\0b", 3}, 1, NULL) == TN_OK && !tn_map_get(&m, TN_STR("a"), NULL));
  tn_map_fini(&m);
}
END_TEST

static void sha(const char *text, uint64_t n, uint64_t step, const char *want) {
  tn_sha256 s;
  char hex[65];
  tn_sha256_init(&s);
  for (uint64_t i = 0; i < n; i += step) tn_sha256_add(&s, text + i, n - i < step ? n - i : step);
  tn_sha256_hex(&s, hex);
  ck_assert_str_eq(hex, want);
}

/* FIPS 180-4 examples, and the million a. */
START_TEST(sha256_vectors) {
  sha("", 0, 1, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  sha("abc", 3, 1, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  const char *two = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
  sha(two, 56, 56, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  char *million = malloc(1000000);
  memset(million, 'a', 1000000);
  for (uint64_t step = 1; step < 1000000; step = step * 13 + 1)
    sha(million, 1000000, step, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  free(million);
}
END_TEST

/* The first is the known answer of the authors' Random123 1.14; the second comes from a Python version that
 * gives all of their known answers. */
START_TEST(philox_vectors) {
  static const uint32_t zero[4] = {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8};
  static const uint32_t other[4] = {0x109bcb9d, 0xec817704, 0x934544b7, 0x2e65527d};
  uint32_t out[4];
  tn_philox(0, 0, out);
  ck_assert_mem_eq(out, zero, sizeof out);
  tn_philox(0x11ffee00ddccbbaa, 0x0123456789abcdef, out);
  ck_assert_mem_eq(out, other, sizeof out);
}
END_TEST

/* No published vectors: it must depend on every bit, the length and the seed, and not on alignment. */
START_TEST(hash_sees_every_bit) {
  uint8_t data[80] = {0}, moved[81];
  for (uint64_t n = 0; n <= 70; n++) {
    uint64_t whole = tn_hash_bytes(data, n, 1);
    ck_assert(whole != tn_hash_bytes(data, n + 1, 1) && whole != tn_hash_bytes(data, n, 2));
    memcpy(moved + 1, data, n);
    ck_assert(whole == tn_hash_bytes(moved + 1, n, 1));
    for (uint64_t bit = 0; bit < n * 8; bit++) {
      data[bit / 8] ^= (uint8_t)(1 << bit % 8);
      uint64_t changed = tn_hash_bytes(data, n, 1);
      ck_assert(changed != whole && __builtin_popcountll(changed ^ whole) > 8);
      data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
  }
}
END_TEST

static char folder[64];
static void make_folder(void) {
  strcpy(folder, "/tmp/test_base.XXXXXX");
  ck_assert_ptr_nonnull(mkdtemp(folder));
}

START_TEST(files_map_and_appear_whole) {
  tn_arena a;
  tn_arena_init(&a);
  make_folder();
  const char *path = tn_path_join(&a, folder, "out.bin"), *why = NULL;
  ck_assert_str_eq(tn_path_join(&a, "d/", "x"), "d/x");
  ck_assert_str_eq(tn_path_join(&a, "", "x"), "x");
  ck_assert_str_eq(tn_path_join(&a, "d", "/x"), "/x");
  tn_file f;
  ck_assert_int_eq(tn_file_map(&f, path, &why), TN_NOT_FOUND);
  ck_assert_str_eq(why, "no such file");
  ck_assert_int_eq(tn_file_map(&f, folder, &why), TN_UNAVAILABLE);
  ck_assert_str_eq(why, "is a directory");

  tn_outfile o;
  ck_assert_int_eq(tn_outfile_open(&o, path, &why), TN_OK);
  ck_assert_int_eq(tn_outfile_write(&o, "hello ", 6), TN_OK);
  ck_assert_int_eq(tn_outfile_write(&o, "file", 4), TN_OK);
  ck_assert(!tn_path_exists(path));
  ck_assert_int_eq(tn_outfile_commit(&o, 0640), TN_OK);
  tn_outfile_abort(&o);
  struct stat st;
  ck_assert(!stat(path, &st) && (st.st_mode & 0777) == 0640);
  ck_assert_int_eq(tn_file_map(&f, path, &why), TN_OK);
  ck_assert(f.size == 10 && !memcmp(f.data, "hello file", 10));
  tn_file_unmap(&f);

  ck_assert_int_eq(tn_outfile_open(&o, path, &why),
                   TN_OK); /* given up: the old file stays, nothing else does */
  ck_assert_int_eq(tn_outfile_write(&o, "x", 1), TN_OK);
  tn_outfile_abort(&o);
  tn_outfile_abort(&o);
  ck_assert_int_eq(tn_outfile_write(&o, "x", 1), TN_PRECONDITION);
  ck_assert(!stat(path, &st) && st.st_size == 10);
  ck_assert_int_eq(unlink(path), 0);
  ck_assert_int_eq(rmdir(folder), 0); /* no temporary file is left */
  tn_arena_fini(&a);
}
END_TEST

START_TEST(outputs_respect_links_and_devices) {
  tn_arena a;
  tn_arena_init(&a);
  make_folder();
  const char *real = tn_path_join(&a, folder, "real"), *link = tn_path_join(&a, folder, "link"), *why;
  close(open(real, O_CREAT | O_WRONLY, 0600));
  ck_assert_int_eq(symlink("real", link), 0);
  tn_outfile o;
  ck_assert_int_eq(tn_outfile_open(&o, link, &why), TN_OK);
  ck_assert_int_eq(tn_outfile_write(&o, "abc", 3), TN_OK);
  ck_assert_int_eq(tn_outfile_commit(&o, 0644), TN_OK);
  struct stat st;
  ck_assert(!lstat(link, &st) && S_ISLNK(st.st_mode));
  ck_assert(!stat(real, &st) && st.st_size == 3);
  ck_assert_int_eq(tn_outfile_open(&o, "/dev/null", &why), TN_OK);
  ck_assert_int_eq(tn_outfile_write(&o, "abc", 3), TN_OK);
  ck_assert_int_eq(tn_outfile_commit(&o, 0644), TN_OK);
  ck_assert(!stat("/dev/null", &st) && S_ISCHR(st.st_mode));
  ck_assert_int_eq(tn_outfile_open(&o, folder, &why), TN_UNAVAILABLE);
  ck_assert_int_eq(tn_outfile_open(&o, tn_path_join(&a, folder, "none/x"), &why), TN_NOT_FOUND);
  const char *empty = tn_path_join(&a, folder, "empty");
  close(open(empty, O_CREAT | O_WRONLY, 0600));
  tn_file f;
  ck_assert(tn_file_map(&f, empty, &why) == TN_OK && f.size == 0 && f.data);
  tn_file_unmap(&f);
  unlink(empty), unlink(real), unlink(link), rmdir(folder);
  tn_arena_fini(&a);
}
END_TEST

START_TEST(messages_print_as_text_and_json) {
  tn_diags d;
  tn_buf b = {0};
  tn_diags_init(&d);
  ck_assert_int_eq(
      tn_fail_at(&d, TN_INVALID, "page.model", 12, 3, "matmul: inner dims differ: %d and %d", 64, 32),
      TN_INVALID);
  ck_assert_int_eq(tn_fail(&d, TN_NOT_FOUND, "m.onnx", "node 217 'MatMul_1'", "gone"), TN_NOT_FOUND);
  tn_diags_add(&d, TN_WARNING, NULL, 0, 0, "tensor 'a\x1b[31m\n'", "unused");
  tn_diags_add(&d, TN_NOTE, "f", 3, 0, NULL, "here");
  ck_assert(d.errors == 2 && d.warnings == 1);
  tn_diags_text(&d, &b, false);
  ck_assert_str_eq(tn_buf_cstr(&b), "page.model:12:3: error: matmul: inner dims differ: 64 and 32\n"
                                    "m.onnx: node 217 'MatMul_1': error: gone\n"
                                    "tensor 'a\\x1b[31m\\x0a': warning: unused\n"
                                    "f:3: note: here\n");
  tn_buf_fini(&b);
  tn_diags_json(&d, &b);
  const char *want = "{\"messages\": [{\"severity\": \"error\", \"file\": \"page.model\", \"line\": 12, "
                     "\"col\": 3, \"where\": null, "
                     "\"text\": \"matmul: inner dims differ: 64 and 32\"}";
  ck_assert_int_eq(strncmp(tn_buf_cstr(&b), want, strlen(want)), 0);
  tn_buf_fini(&b);
  tn_diags_fini(&d);
}
END_TEST

START_TEST(messages_have_a_limit_but_are_counted) {
  tn_diags d;
  tn_buf b = {0};
  tn_diags_init(&d);
  d.limit = 2;
  for (int i = 0; i < 5; i++) tn_fail(&d, TN_INVALID, "f", NULL, "e%d", i);
  ck_assert(d.errors == 5 && d.list.count == 2);
  tn_diags_text(&d, &b, false);
  ck_assert_str_eq(tn_buf_cstr(&b), "f: error: e0\nf: error: e1\n3 more errors\n");
  tn_buf_fini(&b);
  tn_diags_fini(&d);
  for (long n = 0; n < 6; n++) { /* an error counts even when it cannot be kept */
    tn_diags_init(&d);
    tn_mem_fail_after(n);
    tn_fail(&d, TN_OOM, "some file", "some place", "%200d", 1);
    tn_mem_fail_after(-1);
    ck_assert_uint_eq(d.errors, 1);
    tn_diags_fini(&d);
  }
}
END_TEST

int main(void) {
  Suite *s = suite_create("base");
  TCase *t = tcase_create("base");
  tcase_set_timeout(t, 60);
  tcase_add_test(t, arena_keeps_what_it_gave);
  tcase_add_test(t, failing_memory_is_seen);
  tcase_add_test(t, vec_grows_and_refuses_to_wrap);
  tcase_add_test(t, strings);
  tcase_add_test(t, utf8_is_strict);
  tcase_add_test(t, json_text_is_escaped);
  tcase_add_test(t, map_keeps_order_and_values);
  tcase_add_test(t, sha256_vectors);
  tcase_add_test(t, philox_vectors);
  tcase_add_test(t, hash_sees_every_bit);
  tcase_add_test(t, files_map_and_appear_whole);
  tcase_add_test(t, outputs_respect_links_and_devices);
  tcase_add_test(t, messages_print_as_text_and_json);
  tcase_add_test(t, messages_have_a_limit_but_are_counted);
  suite_add_tcase(s, t);
  SRunner *r = srunner_create(s);
  srunner_run_all(r, CK_NORMAL);
  int failed = srunner_ntests_failed(r);
  srunner_free(r);
  return failed != 0;
}
