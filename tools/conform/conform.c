/* conform.c - runs the tests, each in a child process, and compares the outcomes with what is expected. */
#include "tools/conform/conform.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SECONDS = 120, WORDS = 2048, SKIPPED = 77 };
const char *const tn_outcome_names[] = {"pass", "fail", "crash", "skip", "xfail", "xpass"};

/* ---- one test ---- */
/* The child: words go to stderr, which is the pipe; what the plugin prints on stdout is lost. */
static _Noreturn void child(const char *plugin, const tn_conform_test *t, int words) {
  struct rlimit none = {0, 0};
  int null = open("/dev/null", O_RDWR);
  dup2(words, 2);
  dup2(null, 1);
  setrlimit(RLIMIT_CORE, &none);
  alarm(SECONDS);
  tn_subject s = {.path = plugin};
  t->run(&s, t->arg);
  fflush(NULL);
  _exit(0);
}

/* The first words; all are read, so that the child can go on. */
static void read_words(int fd, char words[WORDS]) {
  size_t n = 0;
  char rest[512];
  for (ssize_t got; (got = read(fd, rest, sizeof rest)) != 0;) {
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) break;
    size_t room = WORDS - 1 - n, take = (size_t)got < room ? (size_t)got : room;
    memcpy(words + n, rest, take);
    n += take;
  }
  while (n && words[n - 1] == '\n') n--;
  words[n] = 0;
}

static tn_outcome outcome_of(int status, char words[WORDS]) {
  size_t n = strlen(words);
  const char *end = n ? "; " : "";
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return TN_PASS;
  if (WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED) return TN_SKIP;
  if (WIFEXITED(status)) {
    if (WEXITSTATUS(status) != 1)
      snprintf(words + n, WORDS - n, "%sthe process ends with %d", end, WEXITSTATUS(status));
    return WEXITSTATUS(status) == 1 ? TN_FAIL : TN_CRASH;
  }
  if (WTERMSIG(status) == SIGALRM)
    snprintf(words + n, WORDS - n, "%sstill running after %d seconds", end, SECONDS);
  else
    snprintf(words + n, WORDS - n, "%ssignal %d (%s)", end, WTERMSIG(status), strsignal(WTERMSIG(status)));
  return TN_CRASH;
}

static tn_outcome run_one(const char *plugin, const tn_conform_test *t, char words[WORDS]) {
  int ends[2], status = 0;
  words[0] = 0;
  fflush(NULL);
  if (pipe(ends)) return snprintf(words, WORDS, "no pipe: %s", strerror(errno)), TN_CRASH;
  pid_t pid = fork();
  if (!pid) {
    close(ends[0]);
    child(plugin, t, ends[1]);
  }
  close(ends[1]);
  if (pid > 0) read_words(ends[0], words);
  close(ends[0]);
  if (pid < 0) return snprintf(words, WORDS, "no process: %s", strerror(errno)), TN_CRASH;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
  return outcome_of(status, words);
}

/* ---- all of them ---- */
typedef struct expected {
  tn_arena arena;
  tn_map names;
} expected;

static tn_status read_expected(expected *e, const char *path, tn_diags *d) {
  char line[256];
  FILE *f = path ? fopen(path, "r") : NULL;
  tn_status s = TN_OK;
  if (!path) return TN_OK;
  if (!f) return tn_fail(d, TN_NOT_FOUND, path, NULL, "cannot be read: %s", strerror(errno));
  while (s == TN_OK && fgets(line, sizeof line, f)) {
    size_t n = strcspn(line, "#\n");
    while (n && line[n - 1] == ' ') n--;
    char *name = n ? tn_arena_str(&e->arena, (tn_str){line, n}) : NULL;
    if (n) s = name ? tn_map_put(&e->names, tn_str_of(name), 1, NULL) : TN_OOM;
  }
  fclose(f);
  return s;
}

static tn_outcome against(tn_outcome o, bool is_expected) {
  if (!is_expected || o == TN_SKIP) return o;
  return o == TN_PASS ? TN_XPASS : TN_XFAIL;
}

static void run_all(const char *plugin, const tn_conform_tests *tests, const tn_conform_options *o,
                    const expected *e, uint32_t counts[6]) {
  for (uint32_t i = 0; i < tests->count; i++) {
    const tn_conform_test *t = &tests->items[i];
    char name[128], words[WORDS];
    uint64_t found;
    snprintf(name, sizeof name, "%s.%.*s", t->group, (int)strcspn(t->name, "."), t->name); /* of OP.tir */
    if (o->only && !strstr(name, o->only)) continue;
    double begin = tn_now();
    tn_outcome r = run_one(plugin, t, words);
    r = against(r, tn_map_get(&e->names, tn_str_of(name), &found));
    counts[r]++;
    if (o->each) o->each(o->user, name, r, words, tn_now() - begin);
  }
}

tn_status tn_conform_run(const char *plugin, const tn_conform_options *o, uint32_t counts[6], tn_diags *d) {
  static bool (*const groups[])(tn_conform_tests *) = {
      tn_conform_load,   tn_conform_memory, tn_conform_compile, tn_conform_numerics,
      tn_conform_images, tn_conform_device, tn_conform_tables};
  tn_conform_tests tests = {0};
  expected e;
  bool ok = true;
  tn_arena_init(&e.arena);
  tn_map_init(&e.names);
  for (size_t i = 0; i < TN_COUNT(groups); i++) ok &= groups[i](&tests);
  tn_status s = ok ? read_expected(&e, o->expected, d) : TN_OOM;
  if (s == TN_OK) run_all(plugin, &tests, o, &e, counts);
  tn_vec_fini(&tests);
  tn_map_fini(&e.names);
  tn_arena_fini(&e.arena);
  return s;
}
