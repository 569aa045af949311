/* memory.c - memory LIBRARY TOKENS NEW CAPACITY THREADS: what a library needs in a process that does nothing
 * else. Prints the memory of the process before the library is loaded and the most that it had afterwards, in
 * bytes. */
#include "tenon/model.h"
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

/* "VmRSS", "VmHWM" of /proc/self/status. */
static long long status_of(const char *key) {
  char line[256];
  long long kb = -1;
  FILE *f = fopen("/proc/self/status", "r");
  while (f && fgets(line, sizeof line, f))
    if (!strncmp(line, key, strlen(key))) kb = atoll(line + strlen(key) + 1);
  if (f) fclose(f);
  return kb * 1024;
}

static int fail(const char *what, const char *why) { return fprintf(stderr, "%s: %s\n", what, why), 1; }

int main(int argc, char **argv) {
  if (argc != 6) return fail(argv[0], "LIBRARY TOKENS NEW CAPACITY THREADS");
  char error[256] = "";
  long long before = status_of("VmRSS");
  void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
  tn_model_query_fn query = NULL;
  if (library) *(void **)&query = dlsym(library, "tn_model_query");
  const tn_model_api *api = query ? query(TN_ABI) : NULL;
  if (!api) return fail(argv[1], library ? "not a library of tenon" : dlerror());
  tn_model *m = NULL;
  tn_session *s = NULL;
  tn_session_options o = {.size = sizeof o,
                          .threads = (uint32_t)atoi(argv[5]),
                          .capacity = atoll(argv[4]),
                          .error = error,
                          .error_size = sizeof error};
  if (api->open(NULL, &m, error, sizeof error) != TN_OK || api->session_new(m, &o, &s) != TN_OK)
    return fail(argv[1], error);
  uint64_t n = (uint64_t)atoll(argv[2]);
  int32_t *ids = malloc((n + 1) * sizeof *ids);
  for (uint64_t i = 0; ids && i < n; i++) ids[i] = (int32_t)(3 + i * 2654435761u % 30000);
  tn_sampling g = {.size = sizeof g, .max_tokens = (uint32_t)atoi(argv[3])};
  if (!ids || api->generate(s, ids, n, &g, NULL, NULL) != TN_OK) return fail(argv[1], api->error(s));
  printf("%lld %lld\n", before, status_of("VmHWM"));
  free(ids);
  api->session_free(s);
  api->close(m);
  return 0;
}
