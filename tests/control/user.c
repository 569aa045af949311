/* user.c - a program that knows only the header of a library whose outputs have sizes from data. */
#include <slices.h>
#include <math.h>
#include <stdio.h>

static int wrong(const char *what, slices_session *s) {
  printf("FAILED: %s: %s\n", what, s ? slices_error(s) : "");
  return 1;
}

int main(void) {
  const float x[12] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
  float z[12], sum[SLICES_MAIN_SUM_DIM0];
  char why[200] = "";
  int64_t n;
  int i;
  slices_model *m = NULL;
  slices_session *s = NULL;
  slices_tensor y, half;
  if (slices_open(NULL, &m, why, sizeof why) != SLICES_OK) return puts(why), 1;
  if (slices_session_new(m, NULL, &s) != SLICES_OK) return wrong("session", NULL);
  for (n = 0; n < 3; n++) {
    if (slices_main(s, 3, x, &n, &y, z, sum, &half) != SLICES_OK) return wrong("call", s);
    if (y.rank != 2 || y.shape[0] != n + 1 || y.shape[1] != SLICES_MAIN_Y_DIM1) return wrong("shape of y", s);
    for (i = 0; i < 4 * (n + 1); i++)
      if (fabsf(((float *)y.data)[i] + expf(x[i])) > 1e-5f * expf(x[i])) return wrong("y", s);
    if (half.rank != 1 || half.shape[0] != (n + 1) / 2) return wrong("shape of half", s);
    for (i = 0; i < (n + 1) / 2; i++)
      if (((int64_t *)half.data)[i] != n + 1 + i) return wrong("half", s);
  }
  if (slices_main(s, 3, x, &n, &y, z, sum, &half) != SLICES_INVALID) return wrong("one row too many", s);
  slices_session_free(s);
  slices_close(m);
  return 0;
}
