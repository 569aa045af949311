/* dft_body.h - the butterflies of dft.c for one vector type. Included with
 *   TN_T, TN_WIDTH  element type, elements of a vector (1: no vectors)
 *   TN_ATTR_        what functions need to be compiled for it
 *   TN_FN(x)        the name of function x for it
 *
 * One step of a mixed-radix Stockham transform: from[q + s (p + m k)] for k below the radix r become
 * to[q + s (r p + j)]; m = length / r of what is still to be transformed, s counts what is done and, times
 * the lines that lie interleaved, is the run that vectors go along. Numbers q in [lo, hi) in whole vectors.
 */
#if TN_WIDTH > 1
typedef TN_T TN_FN(vec) __attribute__((vector_size(TN_WIDTH * sizeof(TN_T)), aligned(sizeof(TN_T))));
#else
typedef TN_T TN_FN(vec);
#endif
#define VEC TN_FN(vec)
#define GET(base, k) (*(const VEC *)((base) + q + s * (p + m * (k))))
#define PUT(base, j, v) (*(VEC *)((base) + q + s * (r * p + (j))) = (v))
/* Result j times the factor w of this p. */
#define PUT_TURNED(j, re, im)                                                                                \
  do {                                                                                                       \
    VEC x_ = (re), y_ = (im);                                                                                \
    TN_T c_ = w[2 * ((j) - 1)], s_ = w[2 * ((j) - 1) + 1];                                                   \
    PUT(to_re, j, x_ * c_ - y_ * s_);                                                                        \
    PUT(to_im, j, x_ * s_ + y_ * c_);                                                                        \
  } while (0)
#define ARGS                                                                                                 \
  const TN_T *re, const TN_T *im, TN_T *to_re, TN_T *to_im, int64_t m, int64_t s, int64_t lo, int64_t hi,    \
      const TN_T *w

TN_ATTR_ static void TN_FN(radix2)(ARGS) {
  const int64_t r = 2;
  for (int64_t p = 0; p < m; p++, w += 2)
    for (int64_t q = lo; q < hi; q += TN_WIDTH) {
      VEC ar = GET(re, 0), ai = GET(im, 0), br = GET(re, 1), bi = GET(im, 1);
      PUT(to_re, 0, ar + br);
      PUT(to_im, 0, ai + bi);
      PUT_TURNED(1, ar - br, ai - bi);
    }
}

TN_ATTR_ static void TN_FN(radix3)(ARGS) {
  const int64_t r = 3;
  const TN_T sine = (TN_T)0.86602540378443864676;
  for (int64_t p = 0; p < m; p++, w += 4)
    for (int64_t q = lo; q < hi; q += TN_WIDTH) {
      VEC ar = GET(re, 0), ai = GET(im, 0);
      VEC tr = GET(re, 1) + GET(re, 2), ti = GET(im, 1) + GET(im, 2);
      VEC dr = (GET(re, 1) - GET(re, 2)) * sine, di = (GET(im, 1) - GET(im, 2)) * sine;
      VEC cr = ar - tr * (TN_T)0.5, ci = ai - ti * (TN_T)0.5;
      PUT(to_re, 0, ar + tr);
      PUT(to_im, 0, ai + ti);
      PUT_TURNED(1, cr + di, ci - dr);
      PUT_TURNED(2, cr - di, ci + dr);
    }
}

TN_ATTR_ static void TN_FN(radix4)(ARGS) {
  const int64_t r = 4;
  for (int64_t p = 0; p < m; p++, w += 6)
    for (int64_t q = lo; q < hi; q += TN_WIDTH) {
      VEC ar = GET(re, 0), ai = GET(im, 0), br = GET(re, 1), bi = GET(im, 1);
      VEC cr = GET(re, 2), ci = GET(im, 2), dr = GET(re, 3), di = GET(im, 3);
      VEC er = ar + cr, ei = ai + ci, fr = ar - cr, fi = ai - ci;
      VEC gr = br + dr, gi = bi + di, hr = br - dr, hi_ = bi - di;
      PUT(to_re, 0, er + gr);
      PUT(to_im, 0, ei + gi);
      PUT_TURNED(1, fr + hi_, fi - hr);
      PUT_TURNED(2, er - gr, ei - gi);
      PUT_TURNED(3, fr - hi_, fi + hr);
    }
}

TN_ATTR_ static void TN_FN(radix5)(ARGS) {
  const int64_t r = 5;
  const TN_T c1 = (TN_T)0.30901699437494742410, c2 = (TN_T)-0.80901699437494742410;
  const TN_T s1 = (TN_T)0.95105651629515357212, s2 = (TN_T)0.58778525229247312917;
  for (int64_t p = 0; p < m; p++, w += 8)
    for (int64_t q = lo; q < hi; q += TN_WIDTH) {
      VEC ar = GET(re, 0), ai = GET(im, 0);
      VEC t1r = GET(re, 1) + GET(re, 4), t1i = GET(im, 1) + GET(im, 4);
      VEC t2r = GET(re, 2) + GET(re, 3), t2i = GET(im, 2) + GET(im, 3);
      VEC d1r = GET(re, 1) - GET(re, 4), d1i = GET(im, 1) - GET(im, 4);
      VEC d2r = GET(re, 2) - GET(re, 3), d2i = GET(im, 2) - GET(im, 3);
      VEC ur = ar + t1r * c1 + t2r * c2, ui = ai + t1i * c1 + t2i * c2;
      VEC vr = ar + t1r * c2 + t2r * c1, vi = ai + t1i * c2 + t2i * c1;
      VEC xr = d1r * s1 + d2r * s2, xi = d1i * s1 + d2i * s2;
      VEC yr = d1r * s2 - d2r * s1, yi = d1i * s2 - d2i * s1;
      PUT(to_re, 0, ar + t1r + t2r);
      PUT(to_im, 0, ai + t1i + t2i);
      PUT_TURNED(1, ur + xi, ui - xr);
      PUT_TURNED(4, ur - xi, ui + xr);
      PUT_TURNED(2, vr + yi, vi - yr);
      PUT_TURNED(3, vr - yi, vi + yr);
    }
}

/* Any radix; `root` are the r-th roots of unity. */
TN_ATTR_ static void TN_FN(radix_any)(ARGS, int64_t r, const TN_T *root) {
  for (int64_t p = 0; p < m; p++, w += 2 * (r - 1))
    for (int64_t q = lo; q < hi; q += TN_WIDTH)
      for (int64_t j = 0; j < r; j++) {
        VEC x = GET(re, 0), y = GET(im, 0);
        for (int64_t k = 1; k < r; k++) {
          TN_T c = root[2 * (j * k % r)], sine = root[2 * (j * k % r) + 1];
          x += GET(re, k) * c - GET(im, k) * sine;
          y += GET(re, k) * sine + GET(im, k) * c;
        }
        if (j)
          PUT_TURNED(j, x, y);
        else {
          PUT(to_re, 0, x);
          PUT(to_im, 0, y);
        }
      }
}

TN_ATTR_ static void TN_FN(step)(ARGS, int64_t r, const TN_T *root) {
  switch (r) {
  case 2: TN_FN(radix2)(re, im, to_re, to_im, m, s, lo, hi, w); return;
  case 3: TN_FN(radix3)(re, im, to_re, to_im, m, s, lo, hi, w); return;
  case 4: TN_FN(radix4)(re, im, to_re, to_im, m, s, lo, hi, w); return;
  case 5: TN_FN(radix5)(re, im, to_re, to_im, m, s, lo, hi, w); return;
  default: TN_FN(radix_any)(re, im, to_re, to_im, m, s, lo, hi, w, r, root);
  }
}
#undef VEC
#undef GET
#undef PUT
#undef PUT_TURNED
#undef ARGS
#undef TN_WIDTH
#undef TN_ATTR_
#undef TN_FN
