/* order.c - argmax, sort, top_k. Every number becomes a 64-bit key that sorts like it, with 0 and -0 equal
 * and NaN above all; equal keys stay in the order of their indices. */
#include "kernels.h"
#include <math.h>
#include <stdlib.h>

typedef struct entry {
  int64_t key, index;
} entry;

static int64_t key_of(const tn_ref_tensor *x, int64_t i) {
  union {
    double f;
    int64_t i;
  } v;
  uint32_t cls = tn_ref_class(x->dtype);
  if (cls == TN_CLASS_UINT) return (int64_t)((uint64_t)tn_ref_get_int(x, i) ^ (uint64_t)1 << 63);
  if (cls != TN_CLASS_FLOAT) return tn_ref_get_int(x, i);
  v.f = tn_ref_get(x, i);
  if (isnan(v.f)) return INT64_MAX;
  if (v.f == 0) return 0;
  return v.i < 0 ? -(v.i & INT64_MAX) : v.i;
}

static int by_index(const entry *x, const entry *y) { return (x->index > y->index) - (x->index < y->index); }
static int ascending(const void *a, const void *b) {
  const entry *x = a, *y = b;
  return x->key != y->key ? (x->key < y->key ? -1 : 1) : by_index(x, y);
}
static int descending(const void *a, const void *b) {
  const entry *x = a, *y = b;
  return x->key != y->key ? (x->key > y->key ? -1 : 1) : by_index(x, y);
}

/* Sorts each line of the axis and writes the first k of it. */
static tn_status sort_lines(tn_ref_call *c, bool down) {
  uint32_t axis = tn_ref_attr_axis(c, "axis");
  tn_ref_axis a = tn_ref_around(&c->in[0], axis);
  int64_t k = c->out[0].dims[axis];
  if (k > a.n) return tn_ref_fail(c, TN_INVALID, "the %lld largest of %lld", (long long)k, (long long)a.n);
  entry *line = tn_ref_scratch(c, a.n, sizeof *line);
  if (!line) return TN_OOM;
  for (int64_t l = 0; l < a.outer * a.inner; l++) {
    int64_t o = l / a.inner, inner = l % a.inner;
    for (int64_t i = 0; i < a.n; i++)
      line[i] = (entry){key_of(&c->in[0], (o * a.n + i) * a.inner + inner), i};
    if (a.n > 1) qsort(line, (size_t)a.n, sizeof *line, down ? descending : ascending);
    for (int64_t i = 0; i < k; i++) {
      int64_t at = (o * k + i) * a.inner + inner;
      tn_ref_copy(&c->out[0], at, &c->in[0], (o * a.n + line[i].index) * a.inner + inner, 1);
      tn_ref_set_int(&c->out[1], at, line[i].index);
    }
  }
  return TN_OK;
}

tn_status tn_ref_op_sort(tn_ref_call *c) { return sort_lines(c, tn_ref_attr_int(c, "descending")); }
tn_status tn_ref_op_top_k(tn_ref_call *c) { return sort_lines(c, true); }

/* `down`: the smallest; keys turn over, but for NaN, which comes before all numbers either way. */
static tn_status index_along(tn_ref_call *c, bool down) {
  bool last = tn_ref_attr_int(c, "last");
  tn_ref_axis a = tn_ref_around(&c->in[0], tn_ref_attr_axis(c, "axis"));
  for (int64_t l = 0; l < a.outer * a.inner; l++) {
    int64_t base = l / a.inner * a.n * a.inner + l % a.inner, best = 0;
    int64_t top = 0;
    for (int64_t i = 0; i < a.n; i++) {
      int64_t key = key_of(&c->in[0], base + i * a.inner);
      if (down && !(key == INT64_MAX && tn_ref_is_float(c->in[0].dtype))) key = ~key;
      if (!i || key > top || (last && key == top)) {
        top = key;
        best = i;
      }
    }
    tn_ref_set_int(&c->out[0], l, best);
  }
  return TN_OK;
}
tn_status tn_ref_op_argmax(tn_ref_call *c) { return index_along(c, false); }
tn_status tn_ref_op_argmin(tn_ref_call *c) { return index_along(c, true); }
