/* linear.c - matmul, expert_matmul and the norms. Matmul turns lhs into doubles once and rhs panel by panel
 * (a panel: some columns of the result, each with its k values in a row), so that narrow and block formats
 * are converted once per element; what is left is a dot product of two rows of doubles. */
#include "kernels.h"
#include <math.h>

typedef double lanes __attribute__((vector_size(32), aligned(8)));

double tn_ref_dot(const double *a, const double *b, int64_t n) {
  lanes s0 = {0}, s1 = {0};
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    s0 += *(const lanes *)(a + i) * *(const lanes *)(b + i);
    s1 += *(const lanes *)(a + i + 4) * *(const lanes *)(b + i + 4);
  }
  s0 += s1;
  double sum = (s0[0] + s0[2]) + (s0[1] + s0[3]);
  for (; i < n; i++) sum += a[i] * b[i];
  return sum;
}

enum { PANEL = 32 }; /* columns at a time; a multiple of no block is needed, it is only fast if it is one */

typedef struct product {
  int64_t m, n, k;
  bool trans_a, trans_b;
  double *a, *panel, *row;
} product;

/* lhs matrix at element `at` as [m, k]. */
static void load_lhs(const product *p, const tn_ref_tensor *x, int64_t at) {
  if (!p->trans_a) {
    tn_ref_load(x, at, p->m * p->k, p->a);
    return;
  }
  for (int64_t k = 0; k < p->k; k++) {
    tn_ref_load(x, at + k * p->m, p->m, p->row);
    for (int64_t m = 0; m < p->m; m++) p->a[m * p->k + k] = p->row[m];
  }
}

/* Columns n0 .. n0 + count of the rhs matrix at element `at` as [count, k]. */
static void load_panel(const product *p, const tn_ref_tensor *x, int64_t at, int64_t n0, int64_t count) {
  if (p->trans_b) {
    tn_ref_load(x, at + n0 * p->k, count * p->k, p->panel);
    return;
  }
  double columns[PANEL];
  for (int64_t k = 0; k < p->k; k++) {
    tn_ref_load(x, at + k * p->n + n0, count, columns);
    for (int64_t j = 0; j < count; j++) p->panel[j * p->k + k] = columns[j];
  }
}

static void multiply(const product *p, const tn_ref_tensor *rhs, int64_t rhs_at, tn_ref_tensor *out,
                     int64_t out_at) {
  for (int64_t n0 = 0; n0 < p->n; n0 += PANEL) {
    int64_t count = p->n - n0 < PANEL ? p->n - n0 : PANEL;
    load_panel(p, rhs, rhs_at, n0, count);
    for (int64_t m = 0; m < p->m; m++) {
      double sums[PANEL];
      for (int64_t j = 0; j < count; j++) sums[j] = tn_ref_dot(p->a + m * p->k, p->panel + j * p->k, p->k);
      tn_ref_store(out, out_at + m * p->n + n0, count, sums);
    }
  }
}

/* Strides of the leading dims of x, in matrices, read with out's leading dims. */
static void batch_strides(const tn_ref_tensor *x, const tn_ref_tensor *out, int64_t *strides) {
  tn_ref_tensor lead = *x, lead_out = *out;
  lead.rank -= 2;
  lead_out.rank -= 2;
  tn_ref_strides(&lead, &lead_out, strides);
}

tn_status tn_ref_op_matmul(tn_ref_call *c) {
  const tn_ref_tensor *lhs = &c->in[0], *rhs = &c->in[1];
  tn_ref_tensor *out = &c->out[0];
  product p = {.trans_a = tn_ref_attr_int(c, "trans_a"), .trans_b = tn_ref_attr_int(c, "trans_b")};
  uint32_t lead = out->rank - 2;
  p.m = out->dims[lead];
  p.n = out->dims[lead + 1];
  p.k = lhs->dims[lhs->rank - (p.trans_a ? 2 : 1)];
  p.a = tn_ref_scratch(c, p.m * p.k, sizeof *p.a);
  p.panel = tn_ref_scratch(c, PANEL * p.k, sizeof *p.panel);
  p.row = tn_ref_scratch(c, p.m, sizeof *p.row);
  if (!p.a || !p.panel || !p.row) return TN_OOM;
  int64_t index[TN_MAX_RANK] = {0}, ls[TN_MAX_RANK], rs[TN_MAX_RANK], at = 0, loaded = -1;
  batch_strides(lhs, out, ls);
  batch_strides(rhs, out, rs);
  if (!tn_ref_count(out)) return TN_OK;
  do {
    int64_t l = 0, r = 0;
    for (uint32_t d = 0; d < lead; d++) {
      l += index[d] * ls[d];
      r += index[d] * rs[d];
    }
    if (l != loaded) load_lhs(&p, lhs, l * p.m * p.k);
    loaded = l;
    multiply(&p, rhs, r * p.n * p.k, out, at);
    at += p.m * p.n;
  } while (tn_ref_next(index, out->dims, lead));
  return TN_OK;
}

/* ---- experts
 * -------------------------------------------------------------------------------------------------- */
/* Rows n0 .. n0 + count of expert e, for every slot (a token with one of its experts) that names it. */
static void expert_panel(tn_ref_call *c, const double *x, const int64_t *slots, int64_t nslots, int64_t e,
                         int64_t n0, int64_t count, double *panel) {
  const tn_ref_tensor *w = &c->in[1];
  int64_t n = w->dims[1], k = w->dims[2], per_row = c->in[0].rank == 2 ? c->in[2].dims[1] : 1;
  double sums[PANEL];
  tn_ref_load(w, (e * n + n0) * k, count * k, panel);
  for (int64_t s = 0; s < nslots; s++) {
    if (slots[s] != e) continue;
    for (int64_t j = 0; j < count; j++) sums[j] = tn_ref_dot(x + s / per_row * k, panel + j * k, k);
    tn_ref_store(&c->out[0], s * n + n0, count, sums);
  }
}

tn_status tn_ref_op_expert_matmul(tn_ref_call *c) {
  const tn_ref_tensor *w = &c->in[1];
  int64_t n = w->dims[1], k = w->dims[2], nslots = tn_ref_count(&c->in[2]), nx = tn_ref_count(&c->in[0]);
  double *x = tn_ref_scratch(c, nx, sizeof *x), *panel = tn_ref_scratch(c, PANEL * k, sizeof *panel);
  int64_t *slots = tn_ref_scratch(c, nslots, sizeof *slots);
  bool *named = tn_ref_scratch(c, w->dims[0], sizeof *named);
  if (!x || !panel || !slots || !named) return TN_OOM;
  tn_ref_zero(&c->out[0], 0, tn_ref_count(&c->out[0]));
  tn_ref_load(&c->in[0], 0, nx, x);
  tn_ref_load_int(&c->in[2], 0, nslots, slots);
  for (int64_t e = 0; e < w->dims[0]; e++) named[e] = false;
  for (int64_t s = 0; s < nslots; s++)
    if (slots[s] >= 0 && slots[s] < w->dims[0]) named[slots[s]] = true;
  for (int64_t e = 0; e < w->dims[0]; e++)
    for (int64_t n0 = 0; named[e] && n0 < n; n0 += PANEL)
      expert_panel(c, x, slots, nslots, e, n0, n - n0 < PANEL ? n - n0 : PANEL, panel);
  return TN_OK;
}

/* ---- norms
 * -------------------------------------------------------------------------------------------------- */
static double mean_of(const double *x, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; i++) sum += x[i];
  return sum / (double)n;
}

static double mean_square(const double *x, int64_t n, double around) {
  double sum = 0;
  for (int64_t i = 0; i < n; i++) sum += (x[i] - around) * (x[i] - around);
  return sum / (double)n;
}

/* An optional vector of the last dim. */
static double at(const tn_ref_call *c, uint32_t i, int64_t k, double absent) {
  return i < c->nin && c->in[i].data ? tn_ref_get(&c->in[i], k) : absent;
}

static tn_status norm(tn_ref_call *c, bool centre, double offset) {
  int64_t d = c->in[0].dims[c->in[0].rank - 1], n = tn_ref_count(&c->in[0]);
  double eps = tn_ref_attr_float(c, "eps");
  double *row = tn_ref_scratch(c, d, sizeof *row), *scale = tn_ref_scratch(c, d, sizeof *scale);
  double *bias = tn_ref_scratch(c, d, sizeof *bias);
  if (!row || !scale || !bias) return TN_OOM;
  for (int64_t i = 0; i < d; i++) {
    scale[i] = at(c, 1, i, 1 - offset) + offset;
    bias[i] = centre ? at(c, 2, i, 0) : 0;
  }
  for (int64_t first = 0; first < n; first += d) {
    tn_ref_load(&c->in[0], first, d, row);
    double mean = centre ? mean_of(row, d) : 0;
    double f = 1 / sqrt(mean_square(row, d, mean) + eps);
    for (int64_t i = 0; i < d; i++) row[i] = (row[i] - mean) * f * scale[i] + bias[i];
    tn_ref_store(&c->out[0], first, d, row);
  }
  return TN_OK;
}

tn_status tn_ref_op_layer_norm(tn_ref_call *c) { return norm(c, true, 0); }
tn_status tn_ref_op_rms_norm(tn_ref_call *c) { return norm(c, false, tn_ref_attr_float(c, "offset")); }
