/* test_parallel.c - pieces of work on several threads, and a file that several threads write. */
#include "ir/base/diag.h"
#include <check.h>
#include <stdlib.h>
#include <unistd.h>

enum { PIECES = 1000 };
typedef struct work {
  uint32_t calls[PIECES];          /* how often each piece was done */
  uint32_t threads, first, second; /* pieces that fail; PIECES: none */
  uint32_t wrong;                  /* atomic */
  tn_diags *diags;
} work;

static tn_status one(void *ctx, uint32_t thread, uint32_t i) {
  work *w = ctx;
  __atomic_fetch_add(&w->calls[i], 1, __ATOMIC_RELAXED);
  if (thread >= w->threads) __atomic_fetch_add(&w->wrong, 1, __ATOMIC_RELAXED);
  if (w->diags) tn_diags_add(w->diags, TN_NOTE, NULL, 0, 0, NULL, "piece %u", i);
  return i == w->first ? TN_INVALID : i == w->second ? TN_DATA_LOSS : TN_OK;
}

START_TEST(every_piece_once) {
  static const uint32_t threads[] = {0, 1, 2, 7, 300, 5000};
  for (size_t t = 0; t < TN_COUNT(threads); t++) {
    work w = {.threads = threads[t] ? threads[t] : 1, .first = PIECES, .second = PIECES};
    ck_assert_int_eq(tn_parallel(threads[t], PIECES, one, &w), TN_OK);
    for (int i = 0; i < PIECES; i++) ck_assert_uint_eq(w.calls[i], 1);
    ck_assert_uint_eq(w.wrong, 0);
    ck_assert_int_eq(tn_parallel(threads[t], 0, one, &w), TN_OK);
  }
  ck_assert_uint_ge(tn_processors(), 1);
}
END_TEST

/* Of two that fail the first one's status, whoever comes in first; what lies before it is all done. */
START_TEST(the_first_failure) {
  for (uint32_t threads = 1; threads < 9; threads++)
    for (int again = 0; again < 20; again++) {
      work w = {.threads = threads, .first = 40, .second = 41};
      ck_assert_int_eq(tn_parallel(threads, PIECES, one, &w), TN_INVALID);
      for (int i = 0; i <= 40; i++) ck_assert_uint_eq(w.calls[i], 1);
      ck_assert_uint_eq(w.calls[PIECES - 1], 0);
      w = (work){.threads = threads, .first = 41, .second = 40};
      ck_assert_int_eq(tn_parallel(threads, PIECES, one, &w), TN_DATA_LOSS);
    }
}
END_TEST

START_TEST(messages_of_many_threads) {
  tn_diags d;
  tn_diags_init(&d);
  d.limit = PIECES;
  work w = {.threads = 8, .first = PIECES, .second = PIECES, .diags = &d};
  ck_assert_int_eq(tn_parallel(8, PIECES, one, &w), TN_OK);
  ck_assert_uint_eq(d.list.count, PIECES);
  bool seen[PIECES] = {false};
  for (uint32_t i = 0; i < d.list.count; i++) {
    ck_assert_int_eq(strncmp(d.list.items[i].text, "piece ", 6), 0);
    seen[atoi(d.list.items[i].text + 6)] = true;
  }
  for (int i = 0; i < PIECES; i++) ck_assert(seen[i]);
  tn_diags_fini(&d);
}
END_TEST

typedef struct parts {
  tn_outfile *file;
  uint64_t begin;
} parts;
static tn_status put(void *ctx, uint32_t thread, uint32_t i) {
  parts *p = ctx;
  char text[16];
  (void)thread;
  if (i % 2) return TN_OK; /* a hole */
  snprintf(text, sizeof text, "%07u\n", i);
  return tn_outfile_put(p->file, p->begin + 8 * (uint64_t)i, text, 8);
}

START_TEST(a_file_from_many_threads) {
  char path[] = "/tmp/tn-parallel-XXXXXX";
  int fd = mkstemp(path);
  close(fd);
  tn_outfile o;
  ck_assert_int_eq(tn_outfile_open(&o, path, NULL), TN_OK);
  ck_assert(tn_outfile_seekable(&o));
  ck_assert_int_eq(tn_outfile_reserve(&o, 4 + 8 * PIECES + 3), TN_OK);
  ck_assert_int_eq(tn_outfile_write(&o, "head", 4), TN_OK);
  parts p = {&o, o.size};
  ck_assert_int_eq(tn_outfile_extend(&o, 8 * PIECES), TN_OK);
  ck_assert_int_eq(tn_parallel(5, PIECES, put, &p), TN_OK);
  ck_assert_int_eq(tn_outfile_write(&o, "end", 3), TN_OK);
  ck_assert_int_eq(tn_outfile_commit(&o, 0600), TN_OK);
  tn_file f;
  ck_assert_int_eq(tn_file_map(&f, path, NULL), TN_OK);
  ck_assert_uint_eq(f.size, 4 + 8 * PIECES + 3);
  ck_assert_mem_eq(f.data, "head", 4);
  ck_assert_mem_eq(f.data + f.size - 3, "end", 3);
  for (unsigned i = 0; i < PIECES; i++) {
    char want[16] = {0};
    if (i % 2 == 0) snprintf(want, sizeof want, "%07u\n", i);
    ck_assert_mem_eq(f.data + 4 + 8 * i, want, 8);
  }
  tn_file_unmap(&f);
  unlink(path);
}
END_TEST

START_TEST(what_cannot_be_sought) {
  tn_outfile o;
  ck_assert_int_eq(tn_outfile_open(&o, "/dev/null", NULL), TN_OK);
  ck_assert(!tn_outfile_seekable(&o));
  ck_assert_int_eq(tn_outfile_reserve(&o, 1 << 20), TN_OK);
  ck_assert_int_eq(tn_outfile_extend(&o, 10), TN_PRECONDITION);
  tn_outfile_abort(&o);
}
END_TEST

int main(void) {
  Suite *s = suite_create("parallel");
  TCase *t = tcase_create("all");
  tcase_set_timeout(t, 60);
  tcase_add_test(t, every_piece_once);
  tcase_add_test(t, the_first_failure);
  tcase_add_test(t, messages_of_many_threads);
  tcase_add_test(t, a_file_from_many_threads);
  tcase_add_test(t, what_cannot_be_sought);
  suite_add_tcase(s, t);
  SRunner *r = srunner_create(s);
  srunner_run_all(r, CK_ENV);
  int failed = srunner_ntests_failed(r);
  srunner_free(r);
  return failed != 0;
}
