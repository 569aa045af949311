/* test_runtime_threads.c - the pool keeps all threads in step, sleeps and wakes, ends; processor features
 * agree with what the system lists. Worth running under the thread sanitizer. */
#include "backends/runtime/cores.h"
#include "backends/runtime/cpu.h"
#include "backends/runtime/pool.h"
#include "tests/unit/toy_open.h"
#include <sched.h>
#include <stdio.h>
#include <sys/stat.h>
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
    tn_pool_pass(r->pool, thread, i + 1);
    for (uint32_t k = 0; k < n; k++) tn_pool_await(r->pool, thread, k, i + 1);
  }
}

START_TEST(test_in_step) {
  for (uint32_t n = 1; n <= MAX; n++) {
    relay r = {0};
    ck_assert_int_eq(tn_pool_new(n, NULL, 0, &r.pool), TN_OK);
    for (uint32_t job = 0; job < 5; job++) {
      for (uint32_t i = 0; i < n; i++) r.cells[0][i] = i;
      if (job == 3) usleep(30000); /* long enough for the others to have gone to sleep */
      tn_pool_run(r.pool, n, relay_job, &r, STEPS);
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

/* Some of the threads, other ones from run to run; marks go on counting. */
START_TEST(test_widths) {
  relay r = {0};
  uint32_t runs[MAX] = {0};
  ck_assert_int_eq(tn_pool_new(MAX, NULL, 0, &r.pool), TN_OK);
  for (uint32_t run = 0; run < 200; run++) {
    uint32_t n = 1 + run * 5 % MAX;
    for (uint32_t i = 0; i < n; i++) r.cells[0][i] = i, runs[i]++;
    tn_pool_spin(r.pool, run % 2);
    tn_pool_run(r.pool, n, relay_job, &r, STEPS + run % 3);
    for (uint32_t i = 0; i < MAX; i++) {
      ck_assert_uint_eq(r.seen[i], runs[i]);
      ck_assert_uint_eq(r.wrong[i], 0);
    }
  }
  tn_pool_free(r.pool);
}
END_TEST

/* ---- processors ---------------------------------------------------------------------------------------- */

typedef struct whereabouts {
  int at[MAX];
} whereabouts;
static void where_job(void *arg, uint32_t thread, uint32_t n) {
  (void)n;
  ((whereabouts *)arg)->at[thread] = sched_getcpu();
}

START_TEST(test_affinity) {
  tn_pool *p;
  cpu_set_t before, after;
  ck_assert_int_eq(sched_getaffinity(0, sizeof before, &before), 0);
  uint32_t cores[2], n = 0;
  for (uint32_t c = 0; c < CPU_SETSIZE && n < 2; c++)
    if (CPU_ISSET(c, &before)) cores[n++] = c;
  for (int round = 0; round < 20; round++) {
    whereabouts w;
    ck_assert_int_eq(tn_pool_new(4, cores, n, &p), TN_OK);
    tn_pool_run(p, 4, where_job, &w, 0);
    for (uint32_t i = 0; i < 4; i++) ck_assert_int_eq(w.at[i], (int)cores[i % n]);
    tn_pool_free(p);
    ck_assert_int_eq(sched_getaffinity(0, sizeof after, &after), 0);
    ck_assert(CPU_EQUAL(&before, &after));
  }
  uint32_t none[] = {cores[0], 8191}, beyond[] = {1u << 30};
  ck_assert_int_eq(tn_pool_new(2, none, 2, &p), TN_INVALID);
  ck_assert_int_eq(tn_pool_new(1, beyond, 1, &p), TN_INVALID);
  ck_assert_int_eq(sched_getaffinity(0, sizeof after, &after), 0);
  ck_assert(CPU_EQUAL(&before, &after));
}
END_TEST

static void put_file(const char *root, const char *path, const char *text) {
  char full[512];
  snprintf(full, sizeof full, "%s/%s", root, path);
  for (char *p = full + strlen(root) + 1; (p = strchr(p, '/')); *p++ = '/') {
    *p = 0;
    mkdir(full, 0700);
  }
  FILE *f = fopen(full, "w");
  ck_assert_ptr_nonnull(f);
  fputs(text, f);
  fclose(f);
}

static uint32_t quota_of(const char *root, const char *self) {
  char path[512];
  put_file(root, "self", self);
  snprintf(path, sizeof path, "%s/self", root);
  return tn_cores_quota(path, root);
}

/* Version 2 and version 1 of control groups, as the system lays them out. */
START_TEST(test_quota) {
  char root[] = "/tmp/tenon-quota-XXXXXX", command[64];
  ck_assert_ptr_nonnull(mkdtemp(root));
  put_file(root, "a/cpu.max", "150000 100000\n");
  put_file(root, "a/b/cpu.max", "max 100000\n");
  put_file(root, "a/c/cpu.max", "50000 100000\n");
  put_file(root, "cpu/pod/cpu.cfs_quota_us", "400000\n");
  put_file(root, "cpu/pod/cpu.cfs_period_us", "100000\n");
  put_file(root, "cpu/free/cpu.cfs_quota_us", "-1\n");
  put_file(root, "cpu/free/cpu.cfs_period_us", "100000\n");
  ck_assert_uint_eq(quota_of(root, "0::/a\n"), 2);
  ck_assert_uint_eq(quota_of(root, "0::/a/b\n"), 2); /* what is around it counts */
  ck_assert_uint_eq(quota_of(root, "0::/a/c\n"), 1);
  ck_assert_uint_eq(quota_of(root, "0::/elsewhere\n"), 0);
  ck_assert_uint_eq(quota_of(root, "0::/\n"), 0);
  ck_assert_uint_eq(quota_of(root, "5:memory:/a\n4:cpu,cpuacct:/pod\n0::/\n"), 4);
  ck_assert_uint_eq(quota_of(root, "4:cpuacct,cpu:/pod\n"), 4);
  ck_assert_uint_eq(quota_of(root, "4:cpuacct:/pod\n3:cpuset:/pod\n"), 0);
  ck_assert_uint_eq(quota_of(root, "1:cpu:/free\n"), 0);
  ck_assert_uint_eq(quota_of(root, "nonsense\n::\n"), 0);
  put_file(root, "cpu.max", "900 100000\n"); /* a container's own group is the root */
  ck_assert_uint_eq(quota_of(root, "0::/\n"), 1);
  ck_assert_uint_eq(tn_cores_quota("/nowhere", root), 0);
  snprintf(command, sizeof command, "rm -r %s", root);
  ck_assert_int_eq(system(command), 0);
}
END_TEST

START_TEST(test_limits) {
  tn_pool *p = NULL;
  ck_assert_int_eq(tn_pool_new(0, NULL, 0, &p), TN_INVALID);
  ck_assert_int_eq(tn_pool_new(TN_POOL_MAX_THREADS + 1, NULL, 0, &p), TN_INVALID);
  ck_assert_uint_ge(tn_pool_cores(), 1);
  ck_assert_uint_le((unsigned long)tn_pool_cores(), (unsigned long)sysconf(_SC_NPROCESSORS_CONF));
  tn_pool_free(NULL);
  /* Never used, then ended: the threads must not hang. */
  ck_assert_int_eq(tn_pool_new(4, NULL, 0, &p), TN_OK);
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

/* ---- several callers ----------------------------------------------------------------------------------- */

typedef struct caller {
  toy *shared;
  uint32_t threads, wrong;
  pthread_t handle;
} caller;

static const int32_t shared_ids[] = {3, 1, 4, 1, 5, 9, 2, 6}, shared_mask[] = {1, 1, 1, 0, 1, 1, 0, 1};

/* A session of its own on the model that all share. */
static void *call_model(void *arg) {
  caller *c = arg;
  toy mine = *c->shared;
  for (int round = 0; round < 5; round++) {
    tn_session_options o = {.size = sizeof o, .threads = c->threads};
    float hidden[32], logits[10];
    if (mine.api->session_new(mine.m, &o, &mine.s)) return c->wrong++, NULL;
    for (int call = 0; call < 8; call++) {
      c->wrong += toy_encode(&mine, 1, 8, shared_ids, shared_mask, hidden) != TN_OK;
      c->wrong += toy_step_next(&mine, 1, 1, shared_ids + call, logits) != TN_OK;
      for (int i = 0, sum = 0; i < 32; i++) { /* table[id][k] = id + k / 4, bias[k] = 1000 k: toy.h */
        float x = (float)shared_ids[i / 4] + (float)(i % 4) / 4;
        c->wrong += hidden[i] != x * (float)shared_mask[i / 4] + (float)(i % 4) * 1000;
        for (int k = sum = 0; k <= call; k++) sum += shared_ids[k];
        c->wrong += i < 10 && logits[i] != -(float)((i - sum % 10) * (i - sum % 10)) / 8;
      }
    }
    mine.api->session_free(mine.s);
  }
  return NULL;
}

START_TEST(test_shared_model) {
  toy t;
  caller callers[6] = {0};
  toy_open(&t, 1);
  for (uint32_t i = 0; i < TN_COUNT(callers); i++) {
    callers[i] = (caller){.shared = &t, .threads = 1 + i % 3};
    ck_assert_int_eq(pthread_create(&callers[i].handle, NULL, call_model, &callers[i]), 0);
  }
  for (uint32_t i = 0; i < TN_COUNT(callers); i++) {
    pthread_join(callers[i].handle, NULL);
    ck_assert_uint_eq(callers[i].wrong, 0);
  }
  toy_close(&t);
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
               {"avx512bf16", "avx512_bf16"},
               {"amxtile", "amx_tile"},
               {"amxbf16", "amx_bf16"},
               {"amxint8", "amx_int8"}};
  tn_str missing;
  for (size_t i = 0; i < TN_COUNT(names); i++)
    ck_assert_msg(tn_cpu_has(names[i].ours, &missing) == listed(names[i].theirs), "%s", names[i].ours);
  ck_assert(tn_cpu_has("", &missing));
  ck_assert(tn_cpu_has("sse2,+sse2, sse2", &missing));
  ck_assert(!tn_cpu_has("sse2,warp9,avx", &missing));
  ck_assert(tn_str_is(missing, "warp9"));
  setenv("TENON_CPU_ASSUME", "warp8,warp9", 1);
  ck_assert(tn_cpu_has("warp9,sse2,warp8", &missing));
  ck_assert(!tn_cpu_has("warp", &missing));
  unsetenv("TENON_CPU_ASSUME");
}
END_TEST

int main(void) {
  Suite *s = suite_create("threads");
  TCase *c = tcase_create("threads");
  tcase_set_timeout(c, 120);
  tcase_add_test(c, test_in_step);
  tcase_add_test(c, test_widths);
  tcase_add_test(c, test_affinity);
  tcase_add_test(c, test_quota);
  tcase_add_test(c, test_limits);
  tcase_add_test(c, test_deterministic);
  tcase_add_test(c, test_shared_model);
  tcase_add_test(c, test_features);
  suite_add_tcase(s, c);
  return toy_main(s);
}
