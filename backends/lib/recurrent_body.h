/* recurrent_body.h - the inner loops of recurrent.c for one width of vectors. Included with
 *   TN_WIDTH   f32 lanes of a vector: 4, 8 or 16
 *   TN_ATTR_   what functions need to be compiled for it
 *   TN_FN(x)   the name of function x for it */
#define TN_PARTS (TN_LIB_PANEL / TN_WIDTH) /* vectors of a panel's row */
typedef float TN_FN(vec) __attribute__((vector_size(TN_WIDTH * 4), aligned(4)));
typedef int32_t TN_FN(ivec) __attribute__((vector_size(TN_WIDTH * 4), aligned(4)));
#define VEC TN_FN(vec)
#define IVEC TN_FN(ivec)

/* Address of row k's vector i, counted over neighbouring panels of depth h. */
#define AT(i) (p + ((i) / TN_PARTS) * panel + (i) % TN_PARTS * TN_WIDTH)
#define LOAD(i) (*(const VEC *)AT(i))

/* out[0 .. 8 vectors) = eight vectors of columns times v. */
TN_ATTR_ static inline void TN_FN(wide)(const float *p, int64_t panel, const float *v, int64_t h,
                                        float *out) {
  VEC a0 = {0}, a1 = a0, a2 = a0, a3 = a0, a4 = a0, a5 = a0, a6 = a0, a7 = a0;
  for (int64_t k = 0; k < h; k++, p += TN_LIB_PANEL) {
    VEC x = v[k] - (VEC){0};
    a0 += x * LOAD(0), a1 += x * LOAD(1), a2 += x * LOAD(2), a3 += x * LOAD(3);
    a4 += x * LOAD(4), a5 += x * LOAD(5), a6 += x * LOAD(6), a7 += x * LOAD(7);
  }
  VEC *to = (VEC *)out;
  to[0] = a0, to[1] = a1, to[2] = a2, to[3] = a3, to[4] = a4, to[5] = a5, to[6] = a6, to[7] = a7;
}

/* The same for one panel at a time. */
TN_ATTR_ static inline void TN_FN(narrow)(const float *p, const float *v, int64_t h, float *out) {
  VEC a[TN_PARTS] = {{0}};
  for (int64_t k = 0; k < h; k++, p += TN_LIB_PANEL)
    for (int i = 0; i < TN_PARTS; i++) a[i] += v[k] * *(const VEC *)(p + i * TN_WIDTH);
  for (int i = 0; i < TN_PARTS; i++) ((VEC *)out)[i] = a[i];
}

/* Two vectors of columns times four rows, `stride` and `to` floats apart. */
TN_ATTR_ static inline void TN_FN(tall)(const float *p, int64_t panel, const float *v, int64_t stride,
                                        int64_t h, float *out, int64_t to) {
  VEC a0 = {0}, a1 = a0, b0 = a0, b1 = a0, c0 = a0, c1 = a0, d0 = a0, d1 = a0;
  for (int64_t k = 0; k < h; k++, p += TN_LIB_PANEL, v++) {
    VEC x = LOAD(0), y = LOAD(1);
    a0 += v[0] * x, a1 += v[0] * y, b0 += v[stride] * x, b1 += v[stride] * y;
    c0 += v[2 * stride] * x, c1 += v[2 * stride] * y, d0 += v[3 * stride] * x, d1 += v[3 * stride] * y;
  }
  ((VEC *)out)[0] = a0, ((VEC *)out)[1] = a1, ((VEC *)(out + to))[0] = b0, ((VEC *)(out + to))[1] = b1;
  ((VEC *)(out + 2 * to))[0] = c0, ((VEC *)(out + 2 * to))[1] = c1;
  ((VEC *)(out + 3 * to))[0] = d0, ((VEC *)(out + 3 * to))[1] = d1;
}

/* out[row][16 * i ..] = panel i of r times v[row], for panels [first, last). */
TN_ATTR_ static void TN_FN(product)(const float *r, int64_t first, int64_t last, const float *v,
                                    int64_t stride, int64_t h, int64_t rows, float *out, int64_t to) {
  int64_t panel = h * TN_LIB_PANEL, many = 8 / TN_PARTS, i = first;
  if (rows == TN_LIB_RECUR_ROWS && TN_PARTS <= 2) {
    for (; i + 2 / TN_PARTS <= last; i += 2 / TN_PARTS)
      TN_FN(tall)(r + i * panel, panel, v, stride, h, out + i * TN_LIB_PANEL, to);
  } else if (rows == TN_LIB_RECUR_ROWS) {
    for (int64_t half = 2 * first; half < 2 * last; half++)
      TN_FN(tall)(r + half / 2 * panel + half % 2 * 8, panel, v, stride, h, out + half * 8, to);
    return;
  } else
    for (; i + many <= last; i += many)
      for (int64_t row = 0; row < rows; row++)
        TN_FN(wide)(r + i * panel, panel, v + row * stride, h, out + row * to + i * TN_LIB_PANEL);
  for (; i < last; i++)
    for (int64_t row = 0; row < rows; row++)
      TN_FN(narrow)(r + i * panel, v + row * stride, h, out + row * to + i * TN_LIB_PANEL);
}

/* e^x to about 1e-7, as Cephes: x = n ln 2 + r. */
TN_ATTR_ static inline VEC TN_FN(exp)(VEC x) {
  const VEC zero = {0}, lo = zero - 87.33654f, hi = zero + 88.37626f, magic = zero + 12582912.0f;
  x = (VEC)(((IVEC)x & ~(x < lo)) | ((IVEC)lo & (x < lo)));
  x = (VEC)(((IVEC)x & ~(x > hi)) | ((IVEC)hi & (x > hi)));
  IVEC number = x == x;
  VEC nan = x, n = x * 1.44269504f + magic;
  IVEC e = (IVEC)n << 23; /* the low bits of n are the integer */
  n -= magic;
  x = x - n * 0.693359375f - n * -2.12194440e-4f;
  VEC y = x * 1.9875691500e-4f + 1.3981999507e-3f;
  y = y * x + 8.3334519073e-3f;
  y = y * x + 4.1665795894e-2f;
  y = y * x + 1.6666665459e-1f;
  y = y * x + 5.0000001201e-1f;
  y = y * x * x + x + 1;
  return (VEC)((((IVEC)y + e) & number) | ((IVEC)nan & ~number));
}
TN_ATTR_ static inline VEC TN_FN(tanh)(VEC x) {
  IVEC sign = (IVEC)x & INT32_MIN, small = (VEC)((IVEC)x & INT32_MAX) < (VEC){0} + 0.625f;
  VEC a = (VEC)((IVEC)x & INT32_MAX), t = TN_FN(exp)(-2 * a), big = (1 - t) / (1 + t), z = x * x;
  VEC y = z * -5.70498872745e-3f + 2.06390887954e-2f;
  y = y * z + -5.37397155531e-2f;
  y = y * z + 1.33314422036e-1f;
  y = y * z + -3.33332819422e-1f;
  y = y * z * x + x;
  return (VEC)(((IVEC)y & small) | (((IVEC)big | sign) & ~small));
}

/* Applies sigmoid or tanh to n numbers, n rounded up to whole vectors. */
TN_ATTR_ static void TN_FN(curves)(bool sigmoid, float *x, int64_t n) {
  for (int64_t i = 0; i < n; i += TN_WIDTH) {
    VEC v = *(const VEC *)(x + i);
    *(VEC *)(x + i) = sigmoid ? 1 / (1 + TN_FN(exp)(-v)) : TN_FN(tanh)(v);
  }
}
#undef TN_PARTS
#undef VEC
#undef IVEC
#undef AT
#undef LOAD
#undef TN_WIDTH
#undef TN_ATTR_
#undef TN_FN
