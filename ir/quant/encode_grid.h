/* encode_grid.h - formats whose values are rows of a codebook. For a scale, the best row of a group is found
 * among all of them: what each half of a row costs is a table of at most 81 sums, and a row costs two
 * look-ups. */
#ifndef TN_ENCODE_GRID_H
#define TN_ENCODE_GRID_H
#include "ir/quant/encode_blocks.h"

enum { TN_BOOK_ROWS = 2048, TN_BOOK_HALF = 81 };

/* A codebook made ready: the two halves of every row as numbers of base `base`. */
typedef struct tn_book {
  const tn_quant_grid *g;
  int rows, base, half; /* half: values of half a row */
  float level[8], top;  /* the largest */
  uint8_t low[TN_BOOK_ROWS], high[TN_BOOK_ROWS];
} tn_book;

static void book_open(tn_book *k, const tn_quant_grid *g) {
  k->g = g;
  k->rows = 1 << (g->low.bits + g->high.bits);
  k->base = g->width == 8 ? 3 : 8;
  k->half = g->width / 2;
  k->top = (float)g->levels[k->base - 1] + (g->delta.bits ? 0.125f : 0);
  for (int i = 0; i < k->base; i++) k->level[i] = g->levels[i];
  for (int r = 0; r < k->rows; r++) {
    int sum[2] = {0, 0}, bits = 16 / g->width;
    for (int i = g->width - 1; i >= 0; i--) {
      int e = g->rows[r] >> i * bits & ((1 << bits) - 1);
      sum[i / k->half] = sum[i / k->half] * k->base + e;
    }
    k->low[r] = (uint8_t)sum[0];
    k->high[r] = (uint8_t)sum[1];
  }
}

/* What the values of half a row cost, for every combination of levels. */
static void half_costs(const tn_book *k, const tn_lanes *v, const tn_lanes *w, float delta, tn_lanes *cost) {
  int n = 1;
  cost[0] = tn_all(0);
  for (int i = 0; i < k->half; i++, n *= k->base)
    for (int e = k->base - 1; e >= 0; e--) {
      tn_lanes miss = v[i] - (k->level[e] + delta), one = w[i] * (miss * miss);
      for (int c = 0; c < n; c++) cost[e * n + c] = cost[c] + one;
    }
}

/* The cheapest row for a group of targets, in units of levels; better than *least, or nothing changes. */
static void best_row(const tn_book *k, const tn_lanes *v, const tn_lanes *w, float delta, tn_lanes *least,
                     tn_lanes *row) {
  tn_lanes low[TN_BOOK_HALF], high[TN_BOOK_HALF], best = *least, at = *row;
  half_costs(k, v, w, delta, low);
  half_costs(k, v + k->half, w + k->half, delta, high);
  for (int r = 0; r < k->rows; r++) {
    tn_lanes c = low[k->low[r]] + high[k->high[r]];
    at = tn_if_less(c, best, tn_all((float)r), at);
    best = tn_least(c, best);
  }
  *least = best;
  *row = at;
}

/* The rows of one run for one scale, and the sums of least squares. */
typedef struct tn_rows {
  tn_lanes row[8], delta[8]; /* of each group */
  tn_lanes xl, ll, cost;
} tn_rows;

/* y: the targets: magnitudes where the format stores signs. */
static void rows_sums(const tn_book *k, const tn_tile *t, const tn_lanes *y, int at, int n, tn_rows *r) {
  int width = k->g->width, bits = 16 / width;
  r->xl = r->ll = tn_all(0);
  for (int i = 0; i < n; i++) {
    tn_lanes level = {0};
    for (int l = 0; l < TN_LANES; l++) {
      uint32_t row = k->g->rows[(int)r->row[i / width][l]];
      level[l] = k->g->levels[row >> i % width * bits & ((1u << bits) - 1)];
    }
    level += r->delta[i / width];
    tn_lanes wl = t->w[at + i] * level;
    r->xl += wl * y[at + i];
    r->ll += wl * level;
  }
}

static void rows_of(const tn_book *k, const tn_tile *t, const tn_lanes *y, int at, int n, tn_lanes inv,
                    float delta, tn_rows *r) {
  int width = k->g->width;
  r->cost = tn_all(0);
  for (int c = 0; c < n / width; c++) {
    tn_lanes v[8], least = tn_all(INFINITY);
    for (int i = 0; i < width; i++) v[i] = y[at + c * width + i] * inv;
    r->row[c] = r->delta[c] = tn_all(0);
    best_row(k, v, t->w + at + c * width, delta, &least, &r->row[c]);
    r->delta[c] = tn_all(delta);
    if (k->g->delta.bits && k->g->delta_run == width) { /* each row has its own */
      tn_lanes other = least;
      best_row(k, v, t->w + at + c * width, -delta, &other, &r->row[c]);
      r->delta[c] = tn_if_less(other, least, tn_all(-delta), r->delta[c]);
      least = other;
    }
    r->cost += least;
  }
}

/* The best rows of a run for the scale 1 / inv; where a whole run shares the delta, of both. */
static void rows_best(const tn_book *k, const tn_tile *t, const tn_lanes *y, int at, int n, tn_lanes inv,
                      tn_rows *r) {
  rows_of(k, t, y, at, n, inv, k->g->delta.bits ? 0.125f : 0, r);
  if (k->g->delta.bits && k->g->delta_run != k->g->width) {
    tn_rows other;
    rows_of(k, t, y, at, n, inv, -0.125f, &other);
    for (int c = 0; c < n / k->g->width; c++) {
      r->row[c] = tn_if_less(other.cost, r->cost, other.row[c], r->row[c]);
      r->delta[c] = tn_if_less(other.cost, r->cost, other.delta[c], r->delta[c]);
    }
    r->cost = tn_least(other.cost, r->cost);
  }
  rows_sums(k, t, y, at, n, r);
}

/* Magnitudes, and the signs of every eight values. Where only seven signs are stored, their number is even:
 * the value that loses least gets the wrong one. */
static void take_signs(tn_batch *b, tn_lanes *y) {
  const tn_quant_grid *g = b->q->grid;
  for (int i = 0; i < (int)b->q->values; i++) y[i] = g->sign.bits ? tn_size(b->t.x[i]) : b->t.x[i];
  for (int c = 0; g->sign.bits && c < (int)b->q->values / 8; c++)
    for (int l = 0; l < TN_LANES; l++) {
      uint32_t signs = 0, cheap = 0;
      for (uint32_t i = 0; i < 8; i++) {
        int at = c * 8 + (int)i, least = c * 8 + (int)cheap;
        signs |= (uint32_t)(b->t.x[at][l] < 0) << i;
        if (b->t.w[at][l] * y[at][l] < b->t.w[least][l] * y[least][l]) cheap = i;
      }
      if (g->sign.bits == 7 && __builtin_popcount(signs) % 2) {
        signs ^= 1u << cheap;
        y[c * 8 + (int)cheap][l] = -y[c * 8 + (int)cheap][l];
      }
      b->out[l].sign[c] = (uint8_t)(signs & ((1u << g->sign.bits) - 1));
    }
}

static tn_lanes grid_fit(const tn_book *k, const tn_tile *t, const tn_lanes *y, int at, int n) {
  bool ternary = k->g->delta.bits != 0;
  float first = ternary        ? 1
                : k->base == 3 ? 0.85f
                               : 0.75f,
        step = ternary        ? 0.25f
               : k->base == 3 ? 0.08f
                              : 0.06f;
  int tries = ternary ? 5 : 9;
  tn_lanes most = tn_size(tn_largest(t, at, n)), best = {0}, top = {0}, unit = tn_ratio(tn_all(k->top), most);
  for (int i = 0; i < tries; i++) {
    tn_rows r;
    tn_lanes inv = i < tries - 1 ? unit * (first + step * (float)i) : tn_ratio(tn_all(1), best);
    rows_best(k, t, y, at, n, inv, &r);
    tn_lanes d = tn_ratio(r.xl, r.ll), gain = d * r.xl;
    best = tn_if_less(top, gain, d, best);
    top = tn_most(top, gain);
  }
  return tn_size(best);
}

static void put_rows(tn_batch *b, const tn_rows *r, int j, int groups) {
  for (int c = 0; c < groups; c++)
    for (int l = 0; l < TN_LANES; l++) {
      b->out[l].row[j * groups + c] = (uint16_t)r->row[c][l];
      b->out[l].delta[j * groups + c] = r->delta[c][l] < 0;
    }
}

/* A block of a codebook format: what is being settled. */
typedef struct tn_grid {
  tn_book k;
  tn_lanes y[256], d, scale[TN_RUNS]; /* scales as stored */
  int n, groups;                      /* of a run */
  float last;                         /* the largest stored scale */
} tn_grid;

/* Stored scales for the fitted ones, and the block's scale by least squares for the rows that they choose. */
static void grid_outer(const tn_batch *b, tn_grid *s) {
  const tn_quant *q = b->q;
  tn_lanes xl = {0}, ll = {0}, inv = 0.5f * tn_ratio(tn_all(1), s->d * q->grid->unit);
  for (int j = 0; j < (int)q->values / s->n; j++) {
    s->scale[j] = tn_clamp(tn_nearest(s->scale[j] * inv - 0.5f), 0, s->last);
    tn_lanes inner = q->grid->unit * (2 * s->scale[j] + 1);
    tn_rows r;
    rows_best(&s->k, &b->t, s->y, j * s->n, s->n, tn_ratio(tn_all(1), s->d * inner), &r);
    xl += inner * r.xl;
    ll += inner * inner * r.ll;
  }
  s->d = tn_stored(&b->t, q->d, tn_size(tn_ratio(xl, ll)));
}

/* Run j: the best of three stored scales, and its rows. */
static void grid_run(tn_batch *b, tn_grid *s, int j) {
  tn_lanes least = tn_all(INFINITY), base = s->scale[j];
  tn_rows best = {0}, r;
  for (int step = -1; step < 2; step++) {
    tn_lanes one = tn_clamp(base + (float)step, 0, s->last), whole = s->d * b->q->grid->unit * (2 * one + 1);
    rows_best(&s->k, &b->t, s->y, j * s->n, s->n, tn_ratio(tn_all(1), whole), &r);
    tn_lanes e = r.cost * whole * whole;
    for (int c = 0; c < s->groups; c++) {
      best.row[c] = tn_if_less(e, least, r.row[c], best.row[c]);
      best.delta[c] = tn_if_less(e, least, r.delta[c], best.delta[c]);
    }
    s->scale[j] = tn_if_less(e, least, one, s->scale[j]);
    least = tn_least(e, least);
  }
  put_rows(b, &best, j, s->groups);
  for (int l = 0; l < TN_LANES; l++) b->out[l].scale[j] = s->scale[j][l];
}

static void tn_encode_grid(tn_batch *b) {
  const tn_quant *q = b->q;
  tn_lanes most = {0};
  tn_grid s;
  int runs = (int)q->values / tn_run(q);
  book_open(&s.k, q->grid);
  take_signs(b, s.y);
  s.n = tn_run(q);
  s.groups = s.n / q->grid->width;
  s.last = (float)((1 << q->grid->scale.bits) - 1);
  for (int j = 0; j < runs; j++) most = tn_most(most, s.scale[j] = grid_fit(&s.k, &b->t, s.y, j * s.n, s.n));
  s.d = tn_stored(&b->t, q->d, most / (q->grid->unit * (2 * s.last + 1)));
  grid_outer(b, &s);
  for (int j = 0; j < runs; j++) grid_run(b, &s, j);
  for (int l = 0; l < TN_LANES; l++) b->out[l].d = s.d[l] * b->t.unit[l];
}

#endif
