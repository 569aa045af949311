/* select.c - nonzero, unique and nms: which elements, rows or boxes are taken. Their results are as long as
 * they could ever be, with the number of what is in them beside; what lies behind is zero. */
#include "backends/lib/lib.h"
#include <math.h>

/* ---- nonzero ------------------------------------------------------------------------------------------ */
/* Any type: not all bits zero, but for the sign of floats. */
static bool is_nonzero(const void *data, uint32_t dtype, int64_t i) {
  switch (dtype) {
  case TN_DT_f64: return ((const double *)data)[i] != 0;
  case TN_DT_f32: return ((const float *)data)[i] != 0;
  case TN_DT_f16:
  case TN_DT_bf16: return ((const uint16_t *)data)[i] & 0x7fff;
  case TN_DT_i64:
  case TN_DT_u64: return ((const uint64_t *)data)[i];
  case TN_DT_i32:
  case TN_DT_u32: return ((const uint32_t *)data)[i];
  case TN_DT_i16:
  case TN_DT_u16: return ((const uint16_t *)data)[i];
  default: return ((const uint8_t *)data)[i];
  }
}

static int64_t count_nonzero(const tn_lib_tensor *x, int64_t lo, int64_t hi) {
  int64_t n = 0;
  for (int64_t i = lo; i < hi; i++) n += is_nonzero(x->data, x->dtype, i);
  return n;
}

/* Each thread counts what comes before its part, and then writes its own. */
void tn_lib_nonzero(const tn_lib_call *c) {
  const tn_lib_tensor *x = &c->in[0];
  int64_t n = tn_lib_count(x), lo, hi, *out = c->out[0].data;
  tn_lib_share(c, n, &lo, &hi);
  int64_t at = count_nonzero(x, 0, lo);
  for (int64_t i = lo; out && i < hi; i++)
    if (is_nonzero(x->data, x->dtype, i)) out[at++] = i;
  if (c->thread + 1 < c->nthreads) return;
  if (!out) at += count_nonzero(x, lo, hi);
  if (c->out[1].data) *(int64_t *)c->out[1].data = at;
  for (int64_t i = at; out && i < n; i++) out[i] = 0;
}

/* ---- order -------------------------------------------------------------------------------------------- */
/* What is put in order: rows of a tensor, ascending, or scores, descending. */
typedef struct order {
  const tn_lib_tensor *x;
  int64_t row; /* elements of one */
  const float *scores;
} order;

static int compare_rows(const order *o, int64_t a, int64_t b) {
  for (int64_t i = 0; i < o->row; i++) {
    int64_t x = tn_lib_key(o->x, a * o->row + i), y = tn_lib_key(o->x, b * o->row + i);
    if (x != y) return x < y ? -1 : 1;
  }
  return 0;
}

static bool in_order(const order *o, int64_t a, int64_t b) {
  return o->scores ? o->scores[a] >= o->scores[b] : compare_rows(o, a, b) <= 0;
}

/* Stable merge sort of n indices; the result is in one of both arrays. */
static int64_t *sort(const order *o, int64_t *from, int64_t *to, int64_t n) {
  for (int64_t width = 1; width < n; width *= 2) {
    for (int64_t lo = 0; lo < n; lo += 2 * width) {
      int64_t mid = lo + width < n ? lo + width : n, hi = mid + width < n ? mid + width : n;
      for (int64_t i = lo, j = mid, k = lo; k < hi; k++)
        to[k] = i < mid && (j >= hi || in_order(o, from[i], from[j])) ? from[i++] : from[j++];
    }
    int64_t *t = from;
    from = to;
    to = t;
  }
  return from;
}

/* ---- unique ------------------------------------------------------------------------------------------- */
static void put(const tn_lib_tensor *t, int64_t i, int64_t v) {
  if (t->data) ((int64_t *)t->data)[i] = v;
}

/* Rows in order get the number of their class in `inverse`; gives how many there are. */
static int64_t classes(const order *o, const int64_t *sorted, int64_t n, int64_t *inverse) {
  int64_t k = 0;
  for (int64_t i = 0; i < n; i++) {
    if (i && compare_rows(o, sorted[i - 1], sorted[i])) k++;
    inverse[sorted[i]] = k;
  }
  return n ? k + 1 : 0;
}

/* Classes by their first row instead of by order: `number` maps the old numbers to the new ones. */
static void renumber(int64_t *inverse, int64_t *number, int64_t n, int64_t k) {
  int64_t next = 0;
  for (int64_t i = 0; i < k; i++) number[i] = -1;
  for (int64_t i = 0; i < n; i++) {
    int64_t *to = &number[inverse[i]];
    if (*to < 0) *to = next++;
    inverse[i] = *to;
  }
}

void tn_lib_unique(const tn_lib_call *c) {
  if (c->thread) return;
  const tn_lib_tensor *x = &c->in[0];
  int64_t n = x->dims[0], *a = c->scratch, *b = a + n, *inverse = b + n;
  order o = {.x = x, .row = 1};
  for (uint32_t i = 1; i < x->rank; i++) o.row *= x->dims[i];
  for (int64_t i = 0; i < n; i++) a[i] = i;
  int64_t *sorted = sort(&o, a, b, n), k = classes(&o, sorted, n, inverse);
  if (!c->attrs[TN_LIB_A_unique_sorted].u.i) renumber(inverse, sorted, n, k);
  for (int64_t i = 0; i < n; i++) {
    put(&c->out[0], i, 0);
    put(&c->out[2], i, 0);
  }
  for (int64_t i = n; i-- > 0;) {
    put(&c->out[0], inverse[i], i); /* the lowest row is written last */
    put(&c->out[1], i, inverse[i]);
    if (c->out[2].data) ((int64_t *)c->out[2].data)[inverse[i]]++;
  }
  put(&c->out[3], 0, k);
}

/* ---- nms ---------------------------------------------------------------------------------------------- */
typedef struct box {
  float y0, x0, y1, x1, area;
} box;

static box box_at(const tn_lib_tensor *boxes, int64_t i, bool center) {
  float v[4];
  tn_lib_load_f32(boxes, i * 4, 4, v);
  box b = {v[0], v[1], v[2], v[3], 0};
  if (center)
    b = (box){v[1] - v[3] / 2, v[0] - v[2] / 2, v[1] + v[3] / 2, v[0] + v[2] / 2, 0};
  else if (b.y0 > b.y1 || b.x0 > b.x1)
    b = (box){fminf(v[0], v[2]), fminf(v[1], v[3]), fmaxf(v[0], v[2]), fmaxf(v[1], v[3]), 0};
  b.area = (b.y1 - b.y0) * (b.x1 - b.x0);
  return b;
}

static bool overlap(const box *a, const box *b, float limit) {
  float h = fminf(a->y1, b->y1) - fmaxf(a->y0, b->y0), w = fminf(a->x1, b->x1) - fmaxf(a->x0, b->x0);
  if (!(h > 0) || !(w > 0)) return false;
  float both = h * w, all = a->area + b->area - both;
  return a->area > 0 && b->area > 0 && all > 0 && both / all > limit;
}

typedef struct nms {
  const tn_lib_call *c;
  int64_t n, limit, rows, count;
  float iou, least;
  bool any_score;
  int64_t *a, *b; /* scratch */
  box *taken;
} nms;

/* The boxes of one class of one picture. */
static void one_class(nms *s, int64_t batch, int64_t class, int64_t classes_of) {
  const tn_lib_tensor *scores = &s->c->in[1];
  const float *line = (const float *)scores->data + (batch * classes_of + class) * s->n;
  bool center = s->c->attrs[TN_LIB_A_nms_center].u.i;
  int64_t n = 0, taken = 0;
  for (int64_t i = 0; i < s->n; i++)
    if (s->any_score ? !isnan(line[i]) : line[i] > s->least) s->a[n++] = i;
  order o = {.scores = line};
  const int64_t *sorted = sort(&o, s->a, s->b, n);
  for (int64_t i = 0; i < n && taken < s->limit && s->count < s->rows; i++) {
    box b = box_at(&s->c->in[0], batch * s->n + sorted[i], center);
    int64_t k = 0;
    while (k < taken && !overlap(&b, &s->taken[k], s->iou)) k++;
    if (k < taken) continue;
    s->taken[taken++] = b;
    if (s->c->out[0].data)
      memcpy((int64_t *)s->c->out[0].data + 3 * s->count, (int64_t[]){batch, class, sorted[i]}, 24);
    s->count++;
  }
}

/* in: boxes, scores, limit, iou, least; the last three are scalars that may be absent. */
void tn_lib_nms(const tn_lib_call *c) {
  if (c->thread) return;
  const tn_lib_tensor *scores = &c->in[1];
  nms s = {.c = c, .n = scores->dims[2], .rows = c->out[0].dims[0], .any_score = !c->in[4].data};
  s.a = c->scratch;
  s.b = s.a + s.n;
  s.taken = (box *)(s.b + s.n);
  if (c->in[2].data) s.limit = tn_lib_int(&c->in[2], 0);
  if (c->in[3].data) tn_lib_load_f32(&c->in[3], 0, 1, &s.iou);
  if (c->in[4].data) tn_lib_load_f32(&c->in[4], 0, 1, &s.least);
  for (int64_t b = 0; b < scores->dims[0]; b++)
    for (int64_t k = 0; k < scores->dims[1]; k++) one_class(&s, b, k, scores->dims[1]);
  for (int64_t i = 3 * s.count; c->out[0].data && i < 3 * s.rows; i++) ((int64_t *)c->out[0].data)[i] = 0;
  put(&c->out[1], 0, s.count);
}
