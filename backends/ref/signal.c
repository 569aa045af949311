/* signal.c - dft by its definition, and det by elimination, in double. */
#include "kernels.h"
#include <math.h>

/* Number k of line (o, i), which is cut or filled with zeros; of half a spectrum, the other half is implied.
 */
static void number(const tn_ref_tensor *x, const tn_ref_axis *a, int64_t o, int64_t i, int64_t k, int64_t n,
                   bool half, double v[2]) {
  int64_t parts = x->dims[x->rank - 1], from = half && k > n / 2 ? n - k : k;
  v[0] = v[1] = 0;
  if (from >= a->n) return;
  tn_ref_load(x, ((o * a->n + from) * (a->inner / parts) + i) * parts, parts, v);
  if (half && (!from || 2 * from == n)) v[1] = 0;
  if (half && from != k) v[1] = -v[1];
}

tn_status tn_ref_op_dft(tn_ref_call *c) {
  const tn_ref_tensor *x = &c->in[0];
  tn_ref_tensor *y = &c->out[0];
  uint32_t axis = tn_ref_attr_axis(c, "axis");
  tn_ref_axis a = tn_ref_around(x, axis);
  int64_t n = tn_ref_attr_dim(c, "n"), made = y->dims[axis], parts = y->dims[y->rank - 1];
  bool inverse = tn_ref_attr_int(c, "inverse"), half = inverse && tn_ref_attr_int(c, "onesided");
  int64_t inner = a.inner / x->dims[x->rank - 1];
  if (n < 1) return tn_ref_fail(c, TN_INVALID, "a transform of length %lld", (long long)n);
  for (int64_t l = 0; l < a.outer * inner; l++)
    for (int64_t k = 0; k < made; k++) {
      double sum[2] = {0}, v[2];
      for (int64_t t = 0; t < n; t++) {
        double angle = 2 * 3.14159265358979323846 * (double)((__int128)k * t % n) / (double)n;
        double re = cos(angle), im = inverse ? sin(angle) : -sin(angle);
        number(x, &a, l / inner, l % inner, t, n, half, v);
        sum[0] += v[0] * re - v[1] * im;
        sum[1] += v[0] * im + v[1] * re;
      }
      for (int p = 0; p < 2; p++) sum[p] /= inverse ? (double)n : 1;
      tn_ref_store(y, ((l / inner * made + k) * inner + l % inner) * parts, parts, sum);
    }
  return TN_OK;
}

tn_status tn_ref_op_det(tn_ref_call *c) {
  int64_t n = c->in[0].dims[c->in[0].rank - 1];
  double *a = tn_ref_scratch(c, n * n, sizeof *a);
  if (!a) return TN_OOM;
  for (int64_t i = 0; i < tn_ref_count(&c->out[0]); i++) {
    double det = 1;
    tn_ref_load(&c->in[0], i * n * n, n * n, a);
    for (int64_t k = 0; k < n && det != 0; k++) {
      int64_t p = k;
      for (int64_t r = k + 1; r < n; r++)
        if (fabs(a[r * n + k]) > fabs(a[p * n + k])) p = r;
      if (p != k) det = -det;
      for (int64_t j = 0; j < n && p != k; j++) {
        double t = a[k * n + j];
        a[k * n + j] = a[p * n + j];
        a[p * n + j] = t;
      }
      det *= a[k * n + k];
      for (int64_t r = k + 1; r < n && det != 0; r++) {
        double f = a[r * n + k] / a[k * n + k];
        for (int64_t j = k; j < n; j++) a[r * n + j] -= f * a[k * n + j];
      }
    }
    tn_ref_set(&c->out[0], i, det);
  }
  return TN_OK;
}
