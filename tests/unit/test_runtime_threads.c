/* test_runtime_threads.c - the pool keeps all threads in step, sleeps and wakes, ends; processor features
 * agree with what the system lists. Worth running under the thread sanitizer. */
#include "backends/runtime/cpu.h"
#include "backends/runtime/pool.h"
#include "tests/unit/toy_open.h"
#include <stdio.h>
#include <unistd.h>

enum { STEPS = 200, MAX = 8 };

/* In each step every thread reads what its neighbour wrote in the step before: wrong at once if one runs
 * ahead. */
typedef struct relay {
  tn_pool *pool;
  uint32_t cells[2][MAX], wrong[MAX], seen[MAX];
} relay;

static void relay_job(void *arg, uint32_t thread, uint32_t n) {
  relay *r = arg;
  r->seen[thread]++;
  for (uint32_t i = 0; i < STEPS; i++) {
    uint32_t left = r->cells[i % 2][(thread + 1) % n];
    if (left != i + (thread + 1) % n) r->wrong[thread]++;
    r->cells[(i + 1) % 2][thread] = i + 1 + thread;
    tn_pool_barrier(r->pool);
  }
}

START_TEST(test_in_step) {
  for (uint32_t n = 1; n <= MAX; n++) {
    relay r = {0};
    ck_assert_int_eq(tn_pool_new(n, &r.pool), TN_OK);
    for (uint32_t job = 0; job < 5; job++) {
      for (uint32_t i = 0; i < n; i++) r.cells[0][i] = i;
      if (job == 3) usleep(30000); /* long enough for the others to have gone to sleep */
      tn_pool_run(r.pool, relay_job, &r);
      for (uint32_t i = 0; i < n; i++) {
        ck_assert_uint_eq(r.cells[STEPS % 2][i], STEPS + i);
        ck_assert_uint_eq(r.wrong[i], 0);
        ck_assert_uint_eq(r.seen[i], job + 1);
      }
    }
    tn_pool_free(r.pool);
  }
}
END_TEST

START_TEST(test_limits) {
  tn_pool *p = NULL;
  ck_assert_int_eq(tn_pool_new(0, &p), TN_INVALID);
  ck_assert_int_eq(tn_pool_new(TN_POOL_MAX_THREADS + 1, &p), TN_INVALID);
  ck_assert_uint_ge(tn_pool_cores(), 1);
  ck_assert_uint_le((unsigned long)tn_pool_cores(), (unsigned long)sysconf(_SC_NPROCESSORS_CONF));
  tn_pool_free(NULL);
  /* Never used, then ended: the threads must not hang. */
  ck_assert_int_eq(tn_pool_new(4, &p), TN_OK);
  tn_pool_free(p);
}
END_TEST

/* The same bits for any number of threads. */
START_TEST(test_deterministic) {
  static const int32_t ids[] = {3, 1, 4, 1, 5, 9, 2, 6}, mask[] = {1, 1, 1, 0, 1, 1, 0, 1};
  float first[32], hidden[32], logits[10], first_logits[10];
  for (uint32_t threads = 1; threads <= MAX; threads++) {
    toy t;
    toy_open(&t, threads);
    ck_assert_int_eq(toy_encode(&t, 1, 8, ids, mask, hidden), TN_OK);
    for (int i = 0; i < 8; i++) ck_assert_int_eq(toy_step_next(&t, 1, 1, ids + i, logits), TN_OK);
    if (threads == 1) memcpy(first, hidden, sizeof first), memcpy(first_logits, logits, sizeof logits);
    ck_assert_mem_eq(first, hidden, sizeof first);
    ck_assert_mem_eq(first_logits, logits, sizeof logits);
    toy_close(&t);
  }
}
END_TEST

/* Whether /proc/cpuinfo's flags hold the word. */
static bool listed(const char *flag) {
  char line[8192], word[64];
  FILE *f = fopen("/proc/cpuinfo", "r");
  bool found = false;
  snprintf(word, sizeof word, " %s ", flag);
  while (f && fgets(line, sizeof line, f) && strncmp(line, "flags", 5)) line[0] = 0;
  size_t n = strcspn(line, "\n");
  memcpy(line + n, " ", 2);
  found = strstr(line, word) != NULL;
  if (f) fclose(f);
  return found;
}

START_TEST(test_features) {
  static const struct {
    const char *ours, *theirs;
  } names[] = {{"sse4.2", "sse4_2"},
               {"ssse3", "ssse3"},
               {"popcnt", "popcnt"},
               {"movbe", "movbe"},
               {"avx", "avx"},
               {"avx2", "avx2"},
               {"fma", "fma"},
               {"f16c", "f16c"},
               {"bmi", "bmi1"},
               {"bmi2", "bmi2"},
               {"lzcnt", "abm"},
               {"avxvnni", "avx_vnni"},
               {"avx512f", "avx512f"},
               {"avx512dq", "avx512dq"},
               {"avx512cd", "avx512cd"},
               {"avx512bw", "avx512bw"},
               {"avx512vl", "avx512vl"},
               {"avx512ifma", "avx512ifma"},
               {"avx512vbmi", "avx512vbmi"},
               {"avx512vbmi2", "avx512_vbmi2"},
               {"avx512vnni", "avx512_vnni"},
               {"avx512bitalg", "avx512_bitalg"},
               {"avx512vpopcntdq", "avx512_vpopcntdq"},
               {"avx512fp16", "avx512_fp16"},
               {"avx512bf16", "avx512_bf16"}};
  tn_str missing;
  for (size_t i = 0; i < TN_COUNT(names); i++)
    ck_assert_msg(tn_cpu_has(names[i].ours, &missing) == listed(names[i].theirs), "%s", names[i].ours);
  ck_assert(tn_cpu_has("", &missing));
  ck_assert(tn_cpu_has("sse2,+sse2, sse2", &missing));
  ck_assert(!tn_cpu_has("sse2,warp9,avx", &missing));
  ck_assert(tn_str_is(missing, "warp9"));
}
END_TEST

int main(void) {
  Suite *s = suite_create("threads");
  TCase *c = tcase_create("threads");
  tcase_set_timeout(c, 120);
  tcase_add_test(c, test_in_step);
  tcase_add_test(c, test_limits);
  tcase_add_test(c, test_deterministic);
  tcase_add_test(c, test_features);
  suite_add_tcase(s, c);
  return toy_main(s);
}
