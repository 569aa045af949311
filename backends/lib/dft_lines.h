/* dft_lines.h - dft.c for one element type: plans, the transform of interleaved lines, reading and writing
 * them. Included with TN_T (float or double), TN_LOAD and TN_STORE (the functions of lib.h for it), TN_FN(x)
 * and TN_STEPS, the butterflies by TN_LIB_PLAIN and so on. */

/* ---- the table ---------------------------------------------------------------------------------------- */
static TN_T *TN_FN(put_turn)(TN_T *to, int64_t k, int64_t n) {
  double a = turn(k, n);
  to[0] = (TN_T)cos(a);
  to[1] = (TN_T)-sin(a);
  return to + 2;
}

/* Factors of every step, and behind those of a radix without a butterfly of its own its roots. */
static TN_T *TN_FN(put_turns)(const plan *p, int64_t n, TN_T *to) {
  int64_t left = n;
  for (int64_t i = 0; i < p->count; left /= p->radix[i++]) {
    int64_t r = p->radix[i], m = left / r;
    for (int64_t k = 0; k < m; k++)
      for (int64_t j = 1; j < r; j++) to = TN_FN(put_turn)(to, k * j, left);
    for (int64_t j = 0; r > LARGEST && j < r; j++) to = TN_FN(put_turn)(to, j, r);
  }
  return to;
}

/* All steps; the result is in re[*at], im[*at]. Arrays hold `lanes` lines, interleaved. */
static void TN_FN(transform)(const plan *p, int64_t n, const TN_T *w, uint32_t isa, int64_t lanes,
                             TN_T *re[2], TN_T *im[2], int *at) {
  int64_t left = n, s = lanes, width = TN_STEPS[isa].width;
  for (int64_t i = 0; i < p->count; i++) {
    int64_t r = p->radix[i], m = left / r, whole = s / width * width;
    const TN_T *root = w + 2 * (r - 1) * m;
    int a = *at;
    if (whole) TN_STEPS[isa].step(re[a], im[a], re[!a], im[!a], m, s, 0, whole, w, r, root);
    if (whole < s) TN_FN(step_one)(re[a], im[a], re[!a], im[!a], m, s, whole, s, w, r, root);
    w = root + (r > LARGEST ? 2 * r : 0);
    left = m;
    s *= r;
    *at = !a;
  }
}

/* Bluestein: the chirp e^(-i pi k^2 / n), and the transform of its conjugate, wrapped around, divided by m.
 */
static void TN_FN(put_chirp)(const plan *p, const TN_T *w, TN_T *chirp) {
  int64_t n = p->n, m = p->m;
  TN_T *kernel = chirp + 2 * n, *room = kernel + 2 * m; /* room: the table ends behind it while it is made */
  TN_T *re[2] = {kernel, room}, *im[2] = {kernel + m, room + m};
  int at = 0;
  int64_t square = 0; /* k^2 modulo 2 n */
  for (int64_t k = 0; k < n; square = (square + 2 * k + 1) % (2 * n), k++)
    TN_FN(put_turn)(chirp + 2 * k, square, 2 * n);
  memset(kernel, 0, (size_t)(2 * m) * sizeof *kernel);
  for (int64_t k = 0; k < n; k++) {
    int64_t back = k ? m - k : 0;
    re[0][k] = re[0][back] = chirp[2 * k] / (TN_T)m;
    im[0][k] = im[0][back] = -chirp[2 * k + 1] / (TN_T)m;
  }
  TN_FN(transform)(p, m, w, TN_LIB_PLAIN, 1, re, im, &at);
  if (at) memcpy(kernel, room, (size_t)(2 * m) * sizeof *kernel);
}

static uint64_t TN_FN(table)(int64_t n, void *out) {
  plan p = plan_of(n);
  int64_t numbers = turns_of(&p, p.m ? p.m : n), chirp = p.m ? 2 * n + 4 * p.m : 0;
  if (out) {
    memcpy(out, &p, sizeof p);
    TN_T *w = (TN_T *)((plan *)out + 1), *end = TN_FN(put_turns)(&p, p.m ? p.m : n, w);
    if (p.m) TN_FN(put_chirp)(&p, w, end);
  }
  return sizeof p + (uint64_t)(numbers + chirp) * sizeof(TN_T);
}

/* ---- one block of lines ------------------------------------------------------------------------------- */
/* The transform of n points, whatever n is; the result is in re[*at], im[*at]. */
static void TN_FN(points)(const plan *p, uint32_t isa, int64_t lanes, TN_T *re[2], TN_T *im[2], int *at) {
  const TN_T *w = (const TN_T *)(p + 1);
  if (!p->m) {
    TN_FN(transform)(p, p->n, w, isa, lanes, re, im, at);
    return;
  }
  const TN_T *chirp = w + turns_of(p, p->m), *kr = chirp + 2 * p->n, *ki = kr + p->m;
  for (int pass = 0; pass < 2; pass++) {
    TN_T *x = re[*at], *y = im[*at];
    for (int64_t k = 0; k < p->n; k++)
      for (int64_t l = k * lanes; l < (k + 1) * lanes; l++) {
        TN_T a = x[l], b = y[l], c = chirp[2 * k], s = chirp[2 * k + 1];
        x[l] = a * c - b * s;
        y[l] = a * s + b * c;
      }
    if (pass) return;
    memset(x + p->n * lanes, 0, (size_t)((p->m - p->n) * lanes) * sizeof *x);
    memset(y + p->n * lanes, 0, (size_t)((p->m - p->n) * lanes) * sizeof *y);
    TN_FN(transform)(p, p->m, w, isa, lanes, re, im, at);
    x = re[*at], y = im[*at];
    for (int64_t k = 0; k < p->m; k++)
      for (int64_t l = k * lanes; l < (k + 1) * lanes; l++) {
        TN_T a = x[l], b = y[l];
        x[l] = a * kr[k] - b * ki[k];
        y[l] = a * ki[k] + b * kr[k];
      }
    TN_FN(transform)(p, p->m, w, isa, lanes, im, re, at); /* swapped: the inverse */
  }
}

static TN_T TN_FN(read)(const tn_lib_tensor *t, int64_t i) {
  TN_T v;
  if (t->dtype == TN_DTYPE) return ((const TN_T *)t->data)[i];
  TN_LOAD(t, i, 1, &v);
  return v;
}
static void TN_FN(write)(const tn_lib_tensor *t, int64_t i, TN_T v) {
  if (t->dtype == TN_DTYPE)
    ((TN_T *)t->data)[i] = v;
  else
    TN_STORE(t, i, 1, &v);
}

/* Reads line `at` of j into lane l: a complex line, or a real one as the real or (second) imaginary part. */
static void TN_FN(fetch)(const job *j, int64_t at, int64_t l, int64_t lanes, TN_T *re, TN_T *im,
                         bool second) {
  const tn_lib_tensor *x = &j->c->in[0];
  int64_t base = (at / j->inner * j->len * j->inner + at % j->inner) * j->parts, step = j->inner * j->parts;
  int64_t n = j->len < j->n ? j->len : j->n;
  TN_T *to = second ? im : re;
  for (int64_t i = 0; i < n; i++) {
    to[i * lanes + l] = TN_FN(read)(x, base + i * step);
    if (j->parts == 2) im[i * lanes + l] = TN_FN(read)(x, base + i * step + 1);
  }
  for (int64_t i = n; i < j->n; i++) {
    to[i * lanes + l] = 0;
    if (j->parts == 2) im[i * lanes + l] = 0;
  }
}

/* The half spectra a and b of two real lines as the spectrum of a + ib. */
static void TN_FN(fetch_halves)(const job *j, int64_t a, int64_t b, int64_t l, int64_t lanes, TN_T *re,
                                TN_T *im) {
  const tn_lib_tensor *x = &j->c->in[0];
  int64_t at[] = {a, b}, half = j->n / 2;
  for (int64_t k = 0; k < j->n; k++) re[k * lanes + l] = im[k * lanes + l] = 0;
  for (int h = 0; h < 2; h++) {
    if (at[h] < 0) continue;
    int64_t base = (at[h] / j->inner * j->len * j->inner + at[h] % j->inner) * 2, step = j->inner * 2;
    for (int64_t k = 0; k < j->n; k++) {
      int64_t from = k <= half ? k : j->n - k;
      if (from >= j->len) continue;
      TN_T x0 = TN_FN(read)(x, base + from * step), y0 = TN_FN(read)(x, base + from * step + 1);
      if (!from || 2 * from == j->n) y0 = 0; /* imaginary parts that a real line cannot have */
      if (k > half) y0 = -y0;
      re[k * lanes + l] += h ? -y0 : x0;
      im[k * lanes + l] += h ? x0 : y0;
    }
  }
}

/* Where number k of line `at` goes. */
static int64_t TN_FN(place)(const job *j, int64_t at, int64_t k, int64_t parts) {
  return ((at / j->inner * j->made + k) * j->inner + at % j->inner) * parts;
}

static void TN_FN(store)(const job *j, int64_t at, int64_t l, int64_t lanes, const TN_T *re, const TN_T *im) {
  TN_T scale = j->inverse ? 1 / (TN_T)j->n : 1;
  for (int64_t k = 0; k < j->made; k++) {
    int64_t to = TN_FN(place)(j, at, k, 2);
    TN_FN(write)(&j->c->out[0], to, re[k * lanes + l] * scale);
    TN_FN(write)(&j->c->out[0], to + 1, im[k * lanes + l] * scale);
  }
}

/* The spectra of the two real lines that were transformed as one: A = (Z_k + conj Z_-k) / 2, B = (Z_k - conj
 * Z_-k) / 2i. The inverse of a real line is the conjugate of its transform. */
static void TN_FN(store_pair)(const job *j, int64_t a, int64_t b, int64_t l, int64_t lanes, const TN_T *re,
                              const TN_T *im) {
  TN_T scale = j->inverse ? (TN_T)0.5 / (TN_T)j->n : (TN_T)0.5, sign = j->inverse ? -scale : scale;
  for (int64_t k = 0; k < j->made; k++) {
    int64_t x = k * lanes + l, y = (k ? j->n - k : 0) * lanes + l, to = TN_FN(place)(j, a, k, 2);
    TN_FN(write)(&j->c->out[0], to, (re[x] + re[y]) * scale);
    TN_FN(write)(&j->c->out[0], to + 1, (im[x] - im[y]) * sign);
    if (b < 0) continue;
    to = TN_FN(place)(j, b, k, 2);
    TN_FN(write)(&j->c->out[0], to, (im[x] + im[y]) * scale);
    TN_FN(write)(&j->c->out[0], to + 1, (re[y] - re[x]) * sign);
  }
}

static void TN_FN(store_real)(const job *j, int64_t at, int64_t l, int64_t lanes, const TN_T *v) {
  for (int64_t k = 0; at >= 0 && k < j->n; k++)
    TN_FN(write)(&j->c->out[0], TN_FN(place)(j, at, k, 1), v[k * lanes + l] / (TN_T)j->n);
}

/* Units [first, first + count): lines, or pairs of real lines. */
static void TN_FN(block)(const job *j, const plan *p, int64_t first, int64_t count, int64_t lanes,
                         TN_T *room) {
  int64_t size = (p->m ? p->m : p->n) * lanes;
  TN_T *re[2] = {room, room + size}, *im[2] = {room + 2 * size, room + 3 * size};
  bool swap = j->inverse && (j->halves || j->parts == 2);
  int at = 0;
  if (count < lanes) memset(room, 0, (size_t)(4 * size) * sizeof *room);
  for (int64_t l = 0; l < count; l++) {
    int64_t a = j->pairs ? 2 * (first + l) : first + l, b = j->pairs && a + 1 < j->lines ? a + 1 : -1;
    if (j->halves)
      TN_FN(fetch_halves)(j, a, b, l, lanes, re[0], im[0]);
    else
      TN_FN(fetch)(j, a, l, lanes, re[0], im[0], false);
    if (!j->halves && b >= 0) TN_FN(fetch)(j, b, l, lanes, re[0], im[0], true);
    for (int64_t i = 0; !j->halves && j->parts == 1 && b < 0 && i < j->n; i++) im[0][i * lanes + l] = 0;
  }
  TN_FN(points)(p, j->c->isa, lanes, swap ? im : re, swap ? re : im, &at);
  for (int64_t l = 0; l < count; l++) {
    int64_t a = j->pairs ? 2 * (first + l) : first + l, b = j->pairs && a + 1 < j->lines ? a + 1 : -1;
    if (j->halves) {
      TN_FN(store_real)(j, a, l, lanes, re[at]);
      TN_FN(store_real)(j, b, l, lanes, im[at]);
    } else if (j->pairs)
      TN_FN(store_pair)(j, a, b, l, lanes, re[at], im[at]);
    else
      TN_FN(store)(j, a, l, lanes, re[at], im[at]);
  }
}

/* Lines meet in vectors by their number, whoever transforms them: how a line is rounded depends on its place
 * in a vector. What is left over is one more vector, or, where that would be nearly empty, lines by
 * themselves, whose later steps have vectors, too. */
static void TN_FN(run)(const job *j, const plan *p, TN_T *room) {
  int64_t lo, hi, width = TN_STEPS[j->c->isa].width, all = j->pairs ? (j->lines + 1) / 2 : j->lines;
  int64_t whole = all / width, rest = all % width, single = rest < 3 ? rest : 0;
  tn_lib_share(j->c, whole + (single ? single : rest > 0), &lo, &hi);
  for (; lo < hi; lo++) {
    bool alone = lo >= whole && single;
    int64_t first = alone ? whole * width + (lo - whole) : lo * width;
    int64_t count = alone ? 1 : all - first < width ? all - first : width;
    TN_FN(block)(j, p, first, count, alone ? 1 : width, room);
  }
}
#undef TN_T
#undef TN_DTYPE
#undef TN_LOAD
#undef TN_STORE
#undef TN_FN
#undef TN_STEPS
