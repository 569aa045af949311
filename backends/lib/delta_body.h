/* delta_body.h - one token of delta.c for one vector width. Included with
 *   TN_WIDTH  floats of a vector
 *   TN_ATTR_  what functions need to be compiled for it
 *   TN_FN(x)  the name of function x for it
 * Rows of the state, and vectors beside them, are whole vectors of 16 floats. */
typedef float TN_FN(vec) __attribute__((vector_size(TN_WIDTH * 4), aligned(4)));
#define VEC TN_FN(vec)
#define AT(p, i) (*(VEC *)((p) + (i)))

/* S = S gate, then v = beta (v - S^T k): what S holds for k already. gate: d numbers. */
TN_ATTR_ static void TN_FN(correct)(float *s, const float *gate, const float *k, float *v, float beta,
                                    int64_t d, int64_t width, bool delta) {
  for (int64_t m = 0; m < width; m += TN_WIDTH) {
    VEC had = {0};
    for (int64_t i = 0; i < d; i++) {
      VEC x = AT(s, i * width + m) * gate[i];
      AT(s, i * width + m) = x;
      had += x * k[i];
    }
    if (delta) AT(v, m) = (AT(v, m) - had) * beta;
  }
}

/* S += k v^T */
TN_ATTR_ static void TN_FN(write)(float *s, const float *k, const float *v, int64_t d, int64_t width) {
  for (int64_t m = 0; m < width; m += TN_WIDTH) {
    VEC x = AT(v, m);
    for (int64_t i = 0; i < d; i++) AT(s, i * width + m) += x * k[i];
  }
}

/* y = scale S^T q */
TN_ATTR_ static void TN_FN(read)(const float *s, const float *q, float *y, float scale, int64_t d,
                                 int64_t width) {
  for (int64_t m = 0; m < width; m += TN_WIDTH) {
    VEC sum = {0};
    for (int64_t i = 0; i < d; i++) sum += *(const VEC *)(s + i * width + m) * q[i];
    AT(y, m) = sum * scale;
  }
}

#undef VEC
#undef AT
#undef TN_WIDTH
#undef TN_ATTR_
#undef TN_FN
