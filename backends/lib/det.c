/* det.c - determinants by Gaussian elimination with the largest pivot of each column, in double. */
#include "backends/lib/lib.h"
#include <math.h>

static double determinant(double *a, int64_t n) {
  double det = 1;
  for (int64_t k = 0; k < n; k++) {
    int64_t pivot = k;
    for (int64_t i = k + 1; i < n; i++)
      if (fabs(a[i * n + k]) > fabs(a[pivot * n + k])) pivot = i;
    if (a[pivot * n + k] == 0) return 0;
    if (pivot != k) det = -det;
    for (int64_t j = k; j < n && pivot != k; j++) {
      double t = a[k * n + j];
      a[k * n + j] = a[pivot * n + j];
      a[pivot * n + j] = t;
    }
    det *= a[k * n + k];
    for (int64_t i = k + 1; i < n; i++) {
      double f = a[i * n + k] / a[k * n + k];
      for (int64_t j = k + 1; j < n; j++) a[i * n + j] -= f * a[k * n + j];
    }
  }
  return det;
}

void tn_lib_det(const tn_lib_call *c) {
  const tn_lib_tensor *x = &c->in[0];
  int64_t n = x->dims[x->rank - 1], lo, hi;
  tn_lib_share(c, tn_lib_count(&c->out[0]), &lo, &hi);
  for (int64_t i = lo; i < hi; i++) {
    tn_lib_load(x, i * n * n, n * n, c->scratch);
    double det = determinant(c->scratch, n);
    tn_lib_store(&c->out[0], i, 1, &det);
  }
}
