/* test_cache.c - the object cache by itself: entries come back whole or not at all, the oldest go first, and
 * folders that others may write are left alone. */
#include "backends/llvm/cache.h"
#include <check.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static char folder[64], inner[80];

static void setup(void) {
  snprintf(folder, sizeof folder, "/tmp/tn-cache-XXXXXX");
  ck_assert_ptr_nonnull(mkdtemp(folder));
  snprintf(inner, sizeof inner, "%s/cpu", folder);
}

static uint32_t count(void) {
  uint32_t n = 0;
  DIR *d = opendir(inner);
  for (struct dirent *e; d && (e = readdir(d));) n += e->d_name[0] != '.';
  if (d) closedir(d);
  return n;
}

static void teardown(void) {
  DIR *d = opendir(inner);
  for (struct dirent *e; d && (e = readdir(d));) unlinkat(dirfd(d), e->d_name, 0);
  if (d) closedir(d);
  rmdir(inner);
  rmdir(folder);
}

/* 64 hex digits, different for each i. */
static const char *key_of(unsigned i) {
  static char key[65];
  for (int k = 0; k < 8; k++) snprintf(key + 8 * k, 9, "%08x", i * 2654435761u + (unsigned)k);
  return key;
}

static void put(tn_ll_cache *c, unsigned i, const char *text) {
  tn_ll_cache_put(c, key_of(i), (tn_bytes){text, strlen(text)});
}

static bool has(tn_ll_cache *c, unsigned i, const char *text) {
  tn_buf got = {0};
  bool there = tn_ll_cache_get(c, key_of(i), &got);
  if (there) ck_assert_str_eq(tn_buf_cstr(&got), text);
  tn_buf_fini(&got);
  return there;
}

static char *path_of(unsigned i) {
  static char path[256];
  snprintf(path, sizeof path, "%s/%s", inner, key_of(i));
  return path;
}

START_TEST(what_was_put_comes_back) {
  tn_ll_cache c;
  setup();
  tn_ll_cache_open(&c, folder, "cpu");
  ck_assert(!has(&c, 1, ""));
  put(&c, 1, "an object");
  put(&c, 2, "");
  ck_assert(has(&c, 1, "an object"));
  ck_assert(has(&c, 2, ""));
  put(&c, 1, "another");
  ck_assert(has(&c, 1, "another"));
  ck_assert_uint_eq(count(), 2);
  tn_ll_cache_close(&c, 1 << 20);
  tn_ll_cache_open(&c, folder, "cpu");
  ck_assert(has(&c, 1, "another"));
  tn_ll_cache_close(&c, 0); /* nothing was stored: nothing is thrown out */
  ck_assert_uint_eq(count(), 2);
  teardown();
}
END_TEST

/* Any byte that is another, any end that is missing, and an entry under a wrong name. */
START_TEST(damage_is_seen) {
  tn_ll_cache c;
  setup();
  tn_ll_cache_open(&c, folder, "cpu");
  put(&c, 1, "some bytes of an object");
  struct stat st;
  ck_assert_int_eq(stat(path_of(1), &st), 0);
  for (off_t at = 0; at < st.st_size; at++) {
    char byte;
    int fd = open(path_of(1), O_RDWR);
    ck_assert_int_eq(pread(fd, &byte, 1, at), 1);
    byte ^= 32;
    ck_assert_int_eq(pwrite(fd, &byte, 1, at), 1);
    ck_assert(!has(&c, 1, ""));
    byte ^= 32;
    ck_assert_int_eq(pwrite(fd, &byte, 1, at), 1);
    close(fd);
  }
  ck_assert(has(&c, 1, "some bytes of an object"));
  char from[256];
  snprintf(from, sizeof from, "%s", path_of(1));
  ck_assert_int_eq(link(from, path_of(2)), 0);
  ck_assert(!has(&c, 2, ""));
  for (off_t n = st.st_size; n-- > 0;) {
    ck_assert_int_eq(truncate(path_of(1), n), 0);
    ck_assert(!has(&c, 1, ""));
  }
  put(&c, 1, "new");
  ck_assert(has(&c, 1, "new"));
  tn_ll_cache_close(&c, 1 << 20);
  teardown();
}
END_TEST

static void set_age(unsigned i, time_t seconds) {
  struct timespec now, t[2];
  clock_gettime(CLOCK_REALTIME, &now);
  t[0] = t[1] = (struct timespec){now.tv_sec - seconds, 0};
  ck_assert_int_eq(utimensat(AT_FDCWD, path_of(i), t, 0), 0);
}

START_TEST(the_oldest_go_first) {
  char text[1001];
  tn_ll_cache c;
  setup();
  memset(text, 'x', sizeof text - 1);
  text[sizeof text - 1] = 0;
  tn_ll_cache_open(&c, folder, "cpu");
  for (unsigned i = 0; i < 10; i++) {
    put(&c, i, text);
    set_age(i, 1000 + 10 * i);
  }
  ck_assert(has(&c, 9, text)); /* the oldest, but used just now */
  tn_ll_cache_close(&c, 20000);
  ck_assert_uint_eq(count(), 10);
  tn_ll_cache_open(&c, folder, "cpu");
  put(&c, 10, text);
  tn_ll_cache_close(&c, 8000); /* down to three quarters of it: five entries of 1016 bytes */
  ck_assert_uint_eq(count(), 5);
  tn_ll_cache_open(&c, folder, "cpu");
  for (unsigned i = 0; i <= 10; i++) ck_assert_int_eq(has(&c, i, text), i <= 2 || i >= 9);
  tn_ll_cache_close(&c, 8000);
  teardown();
}
END_TEST

/* What a writer left that was killed. */
START_TEST(rests_are_removed) {
  tn_ll_cache c;
  setup();
  tn_ll_cache_open(&c, folder, "cpu");
  put(&c, 1, "kept");
  char rest[300], path[256];
  snprintf(path, sizeof path, "%s", path_of(2));
  snprintf(rest, sizeof rest, "%s.AbCdEf", path);
  for (int old = 0; old < 2; old++) {
    close(open(rest, O_CREAT | O_WRONLY, 0600));
    struct timespec t[2] = {{.tv_sec = old ? 1000000000 : time(NULL)},
                            {.tv_sec = old ? 1000000000 : time(NULL)}};
    ck_assert_int_eq(utimensat(AT_FDCWD, rest, t, 0), 0);
    tn_ll_cache_close(&c, 1 << 20);
    ck_assert_int_eq(access(rest, F_OK), old ? -1 : 0);
    tn_ll_cache_open(&c, folder, "cpu");
    put(&c, 3, "stored");
  }
  ck_assert(has(&c, 1, "kept"));
  tn_ll_cache_close(&c, 1 << 20);
  teardown();
}
END_TEST

START_TEST(folders_that_are_not_used) {
  tn_ll_cache c;
  setup();
  tn_ll_cache_open(&c, NULL, "cpu");
  put(&c, 1, "nowhere");
  ck_assert(!has(&c, 1, ""));
  tn_ll_cache_close(&c, 1);
  tn_ll_cache_open(&c, "", "cpu");
  ck_assert_ptr_null(c.folder);
  tn_ll_cache_open(&c, "/proc/there/is/no/such/folder", "cpu");
  ck_assert_ptr_null(c.folder);
  ck_assert_int_eq(mkdir(inner, 0777), 0);
  static const mode_t modes[] = {0777, 0720, 0702};
  for (size_t i = 0; i < TN_COUNT(modes); i++) {
    ck_assert_int_eq(chmod(inner, modes[i]), 0);
    tn_ll_cache_open(&c, folder, "cpu");
    ck_assert_ptr_null(c.folder);
  }
  ck_assert_int_eq(chmod(inner, 0755), 0);
  tn_ll_cache_open(&c, folder, "cpu");
  ck_assert_ptr_nonnull(c.folder);
  tn_ll_cache_close(&c, 1);
  teardown();
}
END_TEST

int main(void) {
  Suite *s = suite_create("object cache");
  TCase *t = tcase_create("all");
  tcase_add_test(t, what_was_put_comes_back);
  tcase_add_test(t, damage_is_seen);
  tcase_add_test(t, the_oldest_go_first);
  tcase_add_test(t, rests_are_removed);
  tcase_add_test(t, folders_that_are_not_used);
  suite_add_tcase(s, t);
  SRunner *r = srunner_create(s);
  srunner_run_all(r, CK_ENV);
  int failed = srunner_ntests_failed(r);
  srunner_free(r);
  return failed != 0;
}
