/* reduce.c - reductions. One result at a time: its elements are walked with the strides of the reduced axes,
 * floats accumulate in double, integers in 64 bits. */
#include "kernels.h"
#include <math.h>

/* The operand's dims and strides in two groups: those that stay and those that go. */
typedef struct plan {
  int64_t keep[TN_MAX_RANK], keep_strides[TN_MAX_RANK], gone[TN_MAX_RANK], gone_strides[TN_MAX_RANK];
  uint32_t nkeep, ngone;
  int64_t count; /* elements of one reduction */
} plan;

static void make_plan(tn_ref_call *c, plan *p) {
  const tn_ref_tensor *x = &c->in[0];
  tn_attr axes = tn_ref_attr(c, "axes");
  uint32_t mask = 0;
  int64_t strides[TN_MAX_RANK], step = 1;
  for (uint32_t i = 0; i < axes.count; i++) {
    int64_t a = axes.u.ints[i];
    mask |= 1u << (a < 0 ? a + x->rank : a);
  }
  for (uint32_t i = x->rank; i-- > 0; step *= x->dims[i]) strides[i] = step;
  *p = (plan){.count = 1};
  for (uint32_t i = 0; i < x->rank; i++) {
    if (mask & 1u << i) {
      p->gone[p->ngone] = x->dims[i];
      p->gone_strides[p->ngone++] = strides[i];
      p->count *= x->dims[i];
    } else {
      p->keep[p->nkeep] = x->dims[i];
      p->keep_strides[p->nkeep++] = strides[i];
    }
  }
}

static int64_t offset(const int64_t *index, const int64_t *strides, uint32_t rank) {
  int64_t at = 0;
  for (uint32_t i = 0; i < rank; i++) at += index[i] * strides[i];
  return at;
}

/* An operation on both kinds of numbers. `u` is set for unsigned types. */
typedef struct reduction {
  double fstart;
  double (*f)(double acc, double x);
  int64_t (*i)(int64_t acc, int64_t x, bool u);
  bool mean;
} reduction;

static double sum_f(double a, double x) { return a + x; }
static double prod_f(double a, double x) { return a * x; }
static double max_f(double a, double x) { return isnan(a) || a > x ? a : x; }
static double min_f(double a, double x) { return isnan(a) || a < x ? a : x; }
static int64_t sum_i(int64_t a, int64_t x, bool u) { return (void)u, (int64_t)((uint64_t)a + (uint64_t)x); }
static int64_t prod_i(int64_t a, int64_t x, bool u) { return (void)u, (int64_t)((uint64_t)a * (uint64_t)x); }
static bool less(int64_t a, int64_t b, bool u) { return u ? (uint64_t)a < (uint64_t)b : a < b; }
static int64_t max_i(int64_t a, int64_t x, bool u) { return less(a, x, u) ? x : a; }
static int64_t min_i(int64_t a, int64_t x, bool u) { return less(x, a, u) ? x : a; }

static void reduce_float(const plan *p, const tn_ref_tensor *x, int64_t base, const reduction *r,
                         tn_ref_tensor *out, int64_t at) {
  int64_t index[TN_MAX_RANK] = {0};
  double acc = r->fstart;
  if (p->count) do
      acc = r->f(acc, tn_ref_get(x, base + offset(index, p->gone_strides, p->ngone)));
    while (tn_ref_next(index, p->gone, p->ngone));
  tn_ref_set(out, at, r->mean ? acc / (double)p->count : acc);
}

/* Starts with the first element; an empty reduction gives the start of the floats, saturated to the type. */
static void reduce_int(const plan *p, const tn_ref_tensor *x, int64_t base, const reduction *r,
                       tn_ref_tensor *out, int64_t at) {
  int64_t index[TN_MAX_RANK] = {0};
  bool u = tn_ref_class(x->dtype) == TN_CLASS_UINT;
  if (!p->count) {
    tn_ref_set(out, at, r->fstart);
    return;
  }
  int64_t acc = tn_ref_get_int(x, base);
  while (tn_ref_next(index, p->gone, p->ngone))
    acc = r->i(acc, tn_ref_get_int(x, base + offset(index, p->gone_strides, p->ngone)), u);
  if (r->mean) acc = u ? (int64_t)((uint64_t)acc / (uint64_t)p->count) : acc / p->count;
  tn_ref_set_int(out, at, acc);
}

static tn_status reduce(tn_ref_call *c, const reduction *r) {
  plan p;
  make_plan(c, &p);
  int64_t index[TN_MAX_RANK] = {0}, at = 0;
  if (!tn_ref_count(&c->out[0])) return TN_OK;
  do {
    int64_t base = offset(index, p.keep_strides, p.nkeep);
    if (tn_ref_is_float(c->in[0].dtype))
      reduce_float(&p, &c->in[0], base, r, &c->out[0], at++);
    else
      reduce_int(&p, &c->in[0], base, r, &c->out[0], at++);
  } while (tn_ref_next(index, p.keep, p.nkeep));
  return TN_OK;
}

#define REDUCTION(op, start, f, i, mean)                                                                     \
  tn_status tn_ref_op_##op(tn_ref_call *c) { return reduce(c, &(reduction){start, f, i, mean}); }
REDUCTION(reduce_sum, 0, sum_f, sum_i, false)
REDUCTION(reduce_mean, 0, sum_f, sum_i, true)
REDUCTION(reduce_max, -INFINITY, max_f, max_i, false)
REDUCTION(reduce_min, INFINITY, min_f, min_i, false)
REDUCTION(reduce_prod, 1, prod_f, prod_i, false)

/* ---- along one axis
 * ------------------------------------------------------------------------------------------ */
static int64_t cumsum_at(const tn_ref_axis *a, int64_t line, int64_t i, bool reverse) {
  int64_t o = line / a->inner, k = line % a->inner;
  return (o * a->n + (reverse ? a->n - 1 - i : i)) * a->inner + k;
}

static tn_status running(tn_ref_call *c, bool product) {
  tn_ref_axis a = tn_ref_around(&c->in[0], tn_ref_attr_axis(c, "axis"));
  bool exclusive = tn_ref_attr_int(c, "exclusive"), reverse = tn_ref_attr_int(c, "reverse");
  bool is_float = tn_ref_is_float(c->in[0].dtype);
  for (int64_t line = 0; line < a.outer * a.inner; line++) {
    double f = product;
    uint64_t u = product;
    for (int64_t i = 0; i < a.n; i++) {
      int64_t at = cumsum_at(&a, line, i, reverse);
      double was_f = f;
      uint64_t was_u = u;
      double x = is_float ? tn_ref_get(&c->in[0], at) : 0;
      uint64_t k = is_float ? 0 : (uint64_t)tn_ref_get_int(&c->in[0], at);
      f = product ? f * x : f + x;
      u = product ? u * k : u + k;
      if (is_float)
        tn_ref_set(&c->out[0], at, exclusive ? was_f : f);
      else
        tn_ref_set_int(&c->out[0], at, (int64_t)(exclusive ? was_u : u));
    }
  }
  return TN_OK;
}

tn_status tn_ref_op_cumsum(tn_ref_call *c) { return running(c, false); }
tn_status tn_ref_op_cumprod(tn_ref_call *c) { return running(c, true); }

tn_status tn_ref_op_softmax(tn_ref_call *c) {
  const tn_ref_tensor *x = &c->in[0];
  tn_ref_axis a = tn_ref_around(x, tn_ref_attr_axis(c, "axis"));
  double *row = tn_ref_scratch(c, a.n, sizeof *row);
  if (!row) return TN_OOM;
  for (int64_t line = 0; line < a.outer * a.inner; line++) {
    int64_t base = line / a.inner * a.n * a.inner + line % a.inner;
    double top = -INFINITY, sum = 0;
    for (int64_t i = 0; i < a.n; i++) top = max_f(top, row[i] = tn_ref_get(x, base + i * a.inner));
    for (int64_t i = 0; i < a.n; i++) sum += row[i] = top == -INFINITY ? 0 : exp(row[i] - top);
    for (int64_t i = 0; i < a.n; i++) tn_ref_set(&c->out[0], base + i * a.inner, sum == 0 ? 0 : row[i] / sum);
  }
  return TN_OK;
}
