/* open_any.c - opens any model library by tenon/model.h and says how it went: "ok" and what a call gives for
 * the toy model's encode of [3, 1], or the words of the error.   open_any LIBRARY [PATH-FOR-OPEN]
 * [FOLDER-TO-GO-TO] */
#include "tenon/model.h"
#include <dlfcn.h>
#include <stdio.h>
#include <unistd.h>

int main(int argc, char **argv) {
  char why[400] = "";
  if (argc < 2) return 2;
  void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
  if (!library) return printf("dlopen: %s\n", dlerror()), 1;
  if (argc > 3 && chdir(argv[3])) return 2;
  tn_model_query_fn query;
  *(void **)&query = dlsym(library, "tn_model_query");
  const tn_model_api *api = query ? query(TN_ABI) : NULL;
  if (!api) return printf("no tn_model_query\n"), 1;
  tn_model *m = NULL;
  if (api->open(argc > 2 && argv[2][0] ? argv[2] : NULL, &m, why, sizeof why))
    return printf("open: %s\n", why), 1;
  tn_session *s;
  tn_session_options o = {.size = sizeof o, .threads = 1, .error = why, .error_size = sizeof why};
  if (api->session_new(m, &o, &s)) return printf("session: %s\n", why), 1;
  int32_t ids[] = {3, 1}, mask[] = {1, 1};
  float hidden[8];
  tn_tensor in[] = {{ids, TN_DT_i32, 2, {1, 2}}, {mask, TN_DT_i32, 2, {1, 2}}},
            out = {hidden, TN_DT_f32, 3, {1, 2, 4}};
  if (api->invoke(s, 0, in, &out)) return printf("invoke: %s\n", api->error(s)), 1;
  printf("ok");
  for (int i = 0; i < 8; i++) printf(" %g", (double)hidden[i]);
  printf("\n");
  api->session_free(s);
  api->close(m);
  return dlclose(library) != 0;
}
