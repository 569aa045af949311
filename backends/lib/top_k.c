/* top_k.c - the k best of a line, in a heap with the worst on top: of most elements one comparison says that
 * they are worse. Of equal keys the lower index is better, and elements come in order, so only a larger key
 * gets in. */
#include "backends/lib/lib.h"

typedef struct entry {
  int64_t key, index;
} entry;

static bool worse(const entry *a, const entry *b) {
  return a->key != b->key ? a->key < b->key : a->index > b->index;
}

/* Lets e sink from the top of a heap of n. */
static void sink(entry *heap, int64_t n, entry e) {
  int64_t i = 0;
  for (int64_t child; (child = 2 * i + 1) < n; i = child) {
    if (child + 1 < n && worse(&heap[child + 1], &heap[child])) child++;
    if (!worse(&heap[child], &e)) break;
    heap[i] = heap[child];
  }
  heap[i] = e;
}
static void rise(entry *heap, int64_t i, entry e) {
  for (int64_t parent; i && worse(&e, &heap[parent = (i - 1) / 2]); i = parent) heap[i] = heap[parent];
  heap[i] = e;
}

enum { AHEAD = 16 };
typedef float floats __attribute__((vector_size(16), aligned(4)));
typedef int32_t masks __attribute__((vector_size(16)));

/* Is one of the next floats above the worst, or no number? */
static bool promising(const float *x, float worst) {
  const floats *v = (const floats *)x, w = {worst, worst, worst, worst};
  masks out = (v[0] <= w) & (v[1] <= w) & (v[2] <= w) & (v[3] <= w);
  return (out[0] & out[1] & out[2] & out[3]) == 0;
}

/* Elements [i, end) of a line from `base` on, `step` apart, of which a heap of k keeps the best. */
static void offer(const tn_lib_tensor *x, int64_t base, int64_t step, int64_t i, int64_t end, entry *heap,
                  int64_t k) {
  for (; i < end; i++) {
    int64_t key = tn_lib_key(x, base + i * step);
    if (key > heap->key) sink(heap, k, (entry){key, i});
  }
}

static void one_line(const tn_lib_tensor *x, int64_t base, int64_t step, int64_t n, entry *heap, int64_t k) {
  const float *f = x->dtype == TN_DT_f32 && step == 1 ? (const float *)x->data + base : NULL;
  int64_t i = 0;
  for (; i < k; i++) rise(heap, i, (entry){tn_lib_key(x, base + i * step), i});
  for (; f && k && i + AHEAD <= n; i += AHEAD)
    if (promising(f + i, f[heap->index])) offer(x, base, step, i, i + AHEAD, heap, k);
  if (k) offer(x, base, step, i, n, heap, k);
}

void tn_lib_top_k(const tn_lib_call *c) {
  const tn_lib_tensor *x = &c->in[0], *values = &c->out[0], *ids = &c->out[1];
  int64_t axis = c->attrs[TN_LIB_A_top_k_axis].u.i, inner = 1, lo, hi;
  if (axis < 0) axis += x->rank;
  for (uint32_t i = (uint32_t)axis + 1; i < x->rank; i++) inner *= x->dims[i];
  int64_t n = x->dims[axis], k = values->dims[axis] < n ? values->dims[axis] : n;
  uint32_t bytes = tn_lib_bytes(x->dtype);
  entry *heap = c->scratch;
  tn_lib_share(c, n ? tn_lib_count(x) / n : 0, &lo, &hi);
  for (int64_t line = lo; line < hi; line++) {
    int64_t base = line / inner * n * inner + line % inner, to = line / inner * k * inner + line % inner;
    one_line(x, base, inner, n, heap, k);
    for (int64_t i = k; i-- > 0;) { /* the worst that is left goes to the end */
      int64_t from = heap->index, at = to + i * inner;
      if (i) sink(heap, i, heap[i]);
      if (values->data)
        memcpy((char *)values->data + at * bytes, (const char *)x->data + (base + from * inner) * bytes,
               bytes);
      if (ids->data) ((int64_t *)ids->data)[at] = from;
    }
  }
}
