/* attention.c - attention, rope, kv_update. One head at a time: its keys and values become doubles, then each
 * query has its row of scores. */
#include "kernels.h"
#include <math.h>

typedef struct head {
  int64_t s, t, h, hkv, d, dv, rows; /* t: keys, of which `rows` are there; key j is in row j mod rows */
  int64_t oldest, seen;              /* keys that are there: t - seen to t - 1 */
  double scale, softcap;
  int64_t window;
  bool causal;
  int64_t mask_strides[4], bias_strides[4]; /* over [b, h, s, t] */
  double *q, *k, *v, *scores, *sum;
} head;

/* Keys first..first+n-1, by row, of head h of batch entry b of x [b, rows, heads, d] as [n, d]. */
static void load_head(const tn_ref_tensor *x, int64_t b, int64_t h, int64_t first, int64_t n, double *out) {
  int64_t rows = x->dims[1], heads = x->dims[2], d = x->dims[3];
  for (int64_t i = 0; i < n; i++)
    tn_ref_load(x, ((b * rows + (first + i) % rows) * heads + h) * d, d, out + i * d);
}

static bool present(const tn_ref_call *c, uint32_t i) { return i < c->nin && c->in[i].data; }

static bool visible(const tn_ref_call *c, const head *a, int64_t b, int64_t h, int64_t i, int64_t j) {
  int64_t back = i + a->t - a->s - j;
  if ((a->causal && back < 0) || (a->window && (back >= a->window || -back >= a->window))) return false;
  if (present(c, 5) && j < tn_ref_get_int(&c->in[5], b)) return false;
  const int64_t *st = a->mask_strides;
  return !present(c, 3) || tn_ref_get_int(&c->in[3], b * st[0] + h * st[1] + i * st[2] + j * st[3]);
}

/* Fills a->scores for query i; gives the largest, -infinity if no key is seen. */
static double score_row(const tn_ref_call *c, const head *a, int64_t b, int64_t h, int64_t i) {
  double top = -INFINITY;
  const int64_t *st = a->bias_strides;
  for (int64_t n = 0; n < a->seen; n++) {
    int64_t j = a->oldest + n;
    a->scores[n] = -INFINITY;
    if (!visible(c, a, b, h, i, j)) continue;
    double x = a->scale * tn_ref_dot(a->q + i * a->d, a->k + n * a->d, a->d);
    if (a->softcap > 0) x = a->softcap * tanh(x / a->softcap);
    if (present(c, 4)) x += tn_ref_get(&c->in[4], b * st[0] + h * st[1] + i * st[2] + j * st[3]);
    a->scores[n] = x;
    if (isnan(x) || x > top) top = isnan(top) ? top : x;
  }
  return top;
}

static void attend(tn_ref_call *c, const head *a, int64_t b, int64_t h) {
  for (int64_t i = 0; i < a->s; i++) {
    double top = score_row(c, a, b, h, i), total = 0;
    memset(a->sum, 0, (size_t)a->dv * sizeof *a->sum);
    for (int64_t j = 0; j < a->seen && top != -INFINITY; j++) {
      if (a->scores[j] == -INFINITY) continue;
      double w = exp(a->scores[j] - top);
      total += w;
      for (int64_t k = 0; k < a->dv; k++) a->sum[k] += w * a->v[j * a->dv + k];
    }
    for (int64_t k = 0; k < a->dv; k++) a->sum[k] = total == 0 ? 0 : a->sum[k] / total;
    tn_ref_store(&c->out[0], ((b * a->s + i) * a->h + h) * a->dv, a->dv, a->sum);
  }
}

static tn_status prepare(tn_ref_call *c, head *a) {
  const tn_ref_tensor *q = &c->in[0], *k = &c->in[1], *v = &c->in[2];
  int64_t keys = tn_ref_attr_dim(c, "keys");
  *a = (head){.s = q->dims[1],
              .h = q->dims[2],
              .d = q->dims[3],
              .hkv = k->dims[2],
              .dv = v->dims[3],
              .rows = k->dims[1]};
  a->t = keys ? keys : a->rows;
  bool ring = tn_ref_attr_int(c, "ring");
  a->seen = a->t < a->rows ? a->t : a->rows;
  a->oldest = a->t - a->seen;
  if (a->t < 0 || (a->t > a->rows && !ring) || (a->t && !a->rows) || a->hkv < 1)
    return tn_ref_fail(c, TN_INVALID, "attention over %lld keys of %lld", (long long)a->t,
                       (long long)a->rows);
  a->scale = tn_ref_attr_float(c, "scale");
  a->softcap = tn_ref_attr_float(c, "softcap");
  a->window = tn_ref_attr_int(c, "window");
  a->causal = tn_ref_attr_int(c, "causal");
  tn_ref_tensor scores = {0, 4, {q->dims[0], a->h, a->s, a->t}, NULL};
  if (present(c, 3)) tn_ref_strides(&c->in[3], &scores, a->mask_strides);
  if (present(c, 4)) tn_ref_strides(&c->in[4], &scores, a->bias_strides);
  a->q = tn_ref_scratch(c, a->s * a->d, sizeof *a->q);
  a->k = tn_ref_scratch(c, a->seen * a->d, sizeof *a->k);
  a->v = tn_ref_scratch(c, a->seen * a->dv, sizeof *a->v);
  a->scores = tn_ref_scratch(c, a->seen, sizeof *a->scores);
  a->sum = tn_ref_scratch(c, a->dv, sizeof *a->sum);
  return a->q && a->k && a->v && a->scores && a->sum ? TN_OK : TN_OOM;
}

tn_status tn_ref_op_attention(tn_ref_call *c) {
  head a;
  TN_TRY(prepare(c, &a));
  for (int64_t b = 0; b < c->in[0].dims[0]; b++)
    for (int64_t h = 0; h < a.h; h++) {
      int64_t group = a.h / a.hkv;
      load_head(&c->in[0], b, h, 0, a.s, a.q);
      if (h % group == 0) {
        load_head(&c->in[1], b, h / group, a.oldest, a.seen, a.k);
        load_head(&c->in[2], b, h / group, a.oldest, a.seen, a.v);
      }
      attend(c, &a, b, h);
    }
  return TN_OK;
}

/* ---- rope
 * --------------------------------------------------------------------------------------------------- */
static void turn(double *row, int64_t i, int64_t j, double sine, double cosine) {
  double x = row[i], y = row[j];
  row[i] = x * cosine - y * sine;
  row[j] = y * cosine + x * sine;
}

tn_status tn_ref_op_rope(tn_ref_call *c) {
  const tn_ref_tensor *x = &c->in[0], *positions = &c->in[1], *freq = &c->in[2];
  int64_t s = x->dims[1], heads = x->dims[2], d = x->dims[3], f = freq->dims[0];
  bool interleaved = tn_ref_attr_int(c, "interleaved");
  double factor = tn_ref_attr_float(c, "factor");
  double *row = tn_ref_scratch(c, d, sizeof *row);
  if (!row) return TN_OOM;
  for (int64_t r = 0; r < x->dims[0] * s * heads; r++) {
    int64_t token = r / heads;
    double position = (double)tn_ref_get_int(positions, positions->rank == 2 ? token : token % s);
    tn_ref_load(x, r * d, d, row);
    for (int64_t i = 0; i < f; i++) {
      double angle = position * tn_ref_get(freq, i);
      turn(row, interleaved ? 2 * i : i, interleaved ? 2 * i + 1 : i + f, factor * sin(angle),
           factor * cos(angle));
    }
    tn_ref_store(&c->out[0], r * d, d, row);
  }
  return TN_OK;
}

/* ---- state
 * -------------------------------------------------------------------------------------------------- */
/* One row of a state; blocks of 32 (q8_0) get the scale of their largest value, as in ggml. */
static void store_row(tn_ref_tensor *t, int64_t first, int64_t n, const double *x) {
  if (t->dtype < TN_DT_BLOCK) {
    tn_ref_store(t, first, n, x);
    return;
  }
  uint32_t per, bytes;
  if (!tn_ref_block(t->dtype, &per, &bytes)) return;
  for (int64_t at = 0; at < n; at += per) {
    uint8_t *block = (uint8_t *)t->data + (first + at) / per * bytes;
    float top = 0;
    for (uint32_t i = 0; i < per; i++) top = fmaxf(top, fabsf((float)x[at + i]));
    float scale = top / 127, inverse = scale > 0 ? 1 / scale : 0;
    uint16_t half = tn_f32_to_f16(scale);
    memcpy(block, &half, sizeof half);
    for (uint32_t i = 0; i < per; i++)
      block[sizeof half + i] = (uint8_t)(int8_t)rintf((float)x[at + i] * inverse);
  }
}

tn_status tn_ref_op_kv_update(tn_ref_call *c) {
  const tn_ref_tensor *state = &c->in[0], *x = &c->in[1];
  int64_t capacity = state->dims[1], s = x->dims[1], width = x->dims[2] * x->dims[3],
          pos = tn_ref_attr_dim(c, "pos");
  bool ring = tn_ref_attr_int(c, "ring");
  if (pos < 0 || s > capacity || (!ring && (pos > capacity || s > capacity - pos)))
    return tn_ref_fail(c, TN_INVALID, "writes rows %lld to %lld of a state of %lld", (long long)pos,
                       (long long)(pos + s), (long long)capacity);
  if (c->out[0].data != state->data) tn_ref_copy(&c->out[0], 0, state, 0, tn_ref_count(state));
  double *row = tn_ref_scratch(c, width, sizeof *row);
  if (!row) return TN_OOM;
  for (int64_t b = 0; b < x->dims[0]; b++)
    for (int64_t i = 0; i < s; i++) {
      tn_ref_load(x, (b * s + i) * width, width, row);
      store_row(&c->out[0], (b * capacity + (pos + i) % capacity) * width, width, row);
    }
  return TN_OK;
}
