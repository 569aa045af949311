/* generate.c - a program that uses a compiled language model: demo.h and libdemo.so are all it needs.
 *
 *   tenon compile tools/demo-model/model -o libdemo.so
 *   cc -I. generate.c -L. -ldemo -Wl,-rpath,'$ORIGIN' -o generate && ./generate "In the beginning" 64 */
#include "demo.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static demo_status print_token(void *user, int32_t token, const char *text, uint64_t len) {
  (void)user, (void)token;
  fwrite(text, 1, (size_t)len, stdout);
  fflush(stdout);
  return DEMO_OK;
}

int main(int argc, char **argv) {
  const char *prompt = argc > 1 ? argv[1] : "In the beginning";
  demo_sampling how = {.size = sizeof how,
                       .max_tokens = argc > 2 ? (uint32_t)atoi(argv[2]) : 64,
                       .temperature = 0.7f,
                       .top_p = 0.9f,
                       .repetition_penalty = 1.1f,
                       .seed = 1};
  int32_t ids[512];
  uint64_t n = sizeof ids / sizeof *ids;
  char error[256] = "";
  demo_model *model = NULL;
  demo_session *session = NULL;
  demo_status status = demo_open(NULL, &model, error, sizeof error);
  if (status == DEMO_OK) status = demo_session_new(model, NULL, &session);
  if (status == DEMO_OK) status = demo_tokenize(session, prompt, strlen(prompt), NULL, 0, 0, ids, NULL, &n);
  fputs(prompt, stdout);
  if (status == DEMO_OK) status = demo_generate(session, ids, n, &how, print_token, NULL);
  puts("");
  if (status != DEMO_OK) fprintf(stderr, "generate: %s\n", session ? demo_error(session) : error);
  demo_session_free(session);
  demo_close(model);
  return status != DEMO_OK;
}
