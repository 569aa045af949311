/* embed.c - sentence embeddings, a line of numbers per line of text; needs minilm.h and libminilm.so alone.
 *
 *   tools/fetch-minilm .cache/minilm && tenon compile .cache/minilm -o libminilm.so
 *   cc -I. embed.c -L. -lminilm -Wl,-rpath,'$ORIGIN' -o embed && ./embed < sentences.txt */
#include <minilm.h>
#include <stdio.h>
#include <string.h>

int main(void) {
  char line[4096], error[256] = "";
  minilm_model *model = NULL;
  minilm_session *session = NULL;
  minilm_status status = minilm_open(NULL, &model, error, sizeof error);
  if (status == MINILM_OK) status = minilm_session_new(model, NULL, &session);
  while (status == MINILM_OK && fgets(line, sizeof line, stdin)) {
    int32_t ids[sizeof line + 2], mask[MINILM_MAX_LENGTH], types[MINILM_MAX_LENGTH] = {0};
    float embedding[MINILM_EMBED_EMBEDDING_DIM1];
    uint64_t n = sizeof ids / sizeof *ids;
    status = minilm_tokenize(session, line, strcspn(line, "\n"), NULL, 0, 0, ids, NULL, &n);
    if (status != MINILM_OK) break;
    if (n > MINILM_MAX_LENGTH) ids[MINILM_MAX_LENGTH - 1] = ids[n - 1], n = MINILM_MAX_LENGTH; /* keeps [SEP] */
    for (uint64_t i = 0; i < n; i++) mask[i] = 1;
    status = minilm_embed(session, 1, (int64_t)n, ids, mask, types, embedding);
    for (int i = 0; status == MINILM_OK && i < MINILM_EMBED_EMBEDDING_DIM1; i++)
      printf("%.7g%c", (double)embedding[i], i + 1 < MINILM_EMBED_EMBEDDING_DIM1 ? ' ' : '\n');
  }
  if (status != MINILM_OK) fprintf(stderr, "embed: %s\n", session ? minilm_error(session) : error);
  minilm_session_free(session);
  minilm_close(model);
  return status != MINILM_OK;
}
