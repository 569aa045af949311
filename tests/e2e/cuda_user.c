/* cuda_user.c - a program with two libraries made of one model: `here` with code for the CPU, `gpu` with code
 * for CUDA. cuda_user [DEVICE]: opens both, decodes, compares; "ok" or what went wrong. */
#include <gpu.h>
#include <here.h>
#include <math.h>
#include <stdio.h>

enum { TOKENS = 12 };

static int compare(here_session *a, gpu_session *b) {
  static float x[HERE_NEXT_LOGITS_DIM1], y[GPU_NEXT_LOGITS_DIM1];
  for (int32_t t = 0; t < TOKENS; t++) {
    if (here_next(a, 1, 1, &t, x)) return printf("here: %s\n", here_error(a)), 1;
    if (gpu_next(b, 1, 1, &t, y)) return printf("gpu: %s\n", gpu_error(b)), 1;
    for (int i = 0; i < HERE_NEXT_LOGITS_DIM1; i++)
      if (!(fabsf(x[i] - y[i]) <= 2e-4f + 1e-3f * fabsf(x[i])))
        return printf("token %d: score %d is %g, expected %g\n", (int)t, i, (double)y[i], (double)x[i]), 1;
  }
  return gpu_position(b) != TOKENS;
}

int main(int argc, char **argv) {
  char error[512] = "";
  here_model *m = NULL;
  gpu_model *n = NULL;
  here_session *a = NULL;
  gpu_session *b = NULL;
  gpu_session_options o = {.size = sizeof o, .capacity = 32, .error = error, .error_size = sizeof error};
  here_session_options small = {.size = sizeof small, .capacity = 32};
  if (argc > 1) o.device = argv[1];
  int failed = 1;
  if (here_open(NULL, &m, error, sizeof error) || gpu_open(NULL, &n, error, sizeof error))
    printf("open: %s\n", error);
  else if (here_session_new(m, &small, &a) || gpu_session_new(n, &o, &b))
    printf("session: %s\n", error);
  else
    failed = compare(a, b);
  if (a) here_session_free(a);
  if (b) gpu_session_free(b);
  if (m) here_close(m);
  if (n) gpu_close(n);
  if (!failed) puts("ok");
  return failed;
}
