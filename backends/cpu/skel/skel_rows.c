/* skel_rows.c - softmax, layer_norm and rms_norm along the last axis: each thread takes whole rows. The
 * operand is read straight from memory if it is an f32 buffer; otherwise the prologue is evaluated once per
 * row into scratch. */
#include "backends/cpu/skel/norm.h"
#include "backends/llvm/convert.h"
#include "backends/llvm/math.h"

typedef struct rows {
  tn_cpu_norm n; /* first: column functions get it as their context */
  tn_cpu_rows at;
  bool direct; /* x is a buffer, not read from scratch */
} rows;

/* ---- softmax ---- */
static ll_val masked(tn_ll *e, ll_val mask, ll_val x, double rest) {
  return mask ? ll_select(e, mask, x, ll_f(e, x, rest)) : x;
}
static void max_column(tn_cpu_kernel *k, void *ctx, tn_ll_ix j, ll_val mask, ll_val *acc) {
  rows *r = ctx;
  ll_val x = ll_wide(k->e, tn_cpu_norm_x(&r->n, j, mask), true);
  if (!r->direct) tn_cpu_norm_put(&r->n, j, mask, x);
  acc[0] = ll_fmax(k->e, masked(k->e, mask, x, -__builtin_inf()), acc[0]);
}
static void exp_column(tn_cpu_kernel *k, void *ctx, tn_ll_ix j, ll_val mask, ll_val *acc) {
  tn_cpu_norm *n = ctx;
  ll_val x = ll_fsub(k->e, tn_cpu_norm_x(n, j, mask), ll_splat(k->e, n->mean));
  x = tn_ll_exp_neg(k->e, x);
  tn_cpu_norm_put(n, j, mask, x);
  acc[0] = ll_fadd(k->e, acc[0], masked(k->e, mask, x, 0));
}
static void softmax_statistics(rows *r) {
  tn_cpu_norm *n = &r->n;
  tn_ll *e = n->k->e;
  ll_val top = tn_cpu_norm_total(n, max_column, -__builtin_inf(), ll_fmax), zero = ll_f(e, top, 0);
  /* a row of only -inf: differences must not become NaN, and the sum of 0 must give zeros */
  n->mean = ll_select(e, ll_fcmp(e, LLVMRealOEQ, top, ll_f(e, top, -__builtin_inf())), zero, top);
  n->read_stage = !r->direct;
  ll_val sum = tn_cpu_norm_total(n, exp_column, 0, ll_fadd);
  ll_val inverse = ll_fdiv(e, ll_f(e, sum, 1), sum);
  n->factor = ll_select(e, ll_fcmp(e, LLVMRealOEQ, sum, zero), zero, inverse);
}
static ll_val give_softmax(void *ctx, const tn_ll_index *ix) {
  tn_cpu_norm *n = ctx;
  tn_ll *e = n->k->e;
  ll_val x = ll_fmul(e, tn_cpu_norm_staged(n, ix), ll_splat(e, n->factor));
  return tn_ll_convert(e, n->acc_type, tn_cpu_type(n->k, n->out).dtype, x);
}

/* ---- norms ---- */
static ll_val give_norm(void *ctx, const tn_ll_index *ix) { return tn_cpu_norm_value(ctx, ix); }
/* x as the kernel's ops see it, when it lies in scratch. */
static ll_val give_x(void *ctx, const tn_ll_index *ix) { return tn_cpu_norm_source(ctx, ix); }

static void yield_column(tn_cpu_kernel *k, void *ctx, tn_ll_ix j, ll_val mask, ll_val *acc) {
  (void)acc;
  tn_ll_index ix = tn_cpu_norm_index(ctx, j, mask);
  tn_cpu_store_yields(k, &ix);
}

static bool softmax_last(tn_cpu_kernel *k) {
  tn_type_info t = tn_cpu_type(k, tn_cpu_operand(k, 0));
  return tn_ll_axis(tn_ll_attr_int(&k->body, k->root, "axis"), t.rank) == t.rank - 1;
}

void tn_cpu_emit_rows(tn_cpu_kernel *k) {
  rows r = {.direct = false};
  tn_cpu_norm *n = &r.n;
  bool softmax = !strcmp(k->root_name, "softmax");
  if (softmax && !softmax_last(k)) {
    tn_cpu_emit_reduce(k);
    return;
  }
  tn_cpu_norm_init(n, k, k->root, softmax);
  r.direct = n->t.dtype == n->acc_type && tn_cpu_arg_buffer(k, n->x);

  ll_val sizes[TN_MAX_RANK], lo, hi;
  for (uint32_t i = 0; i + 1 < n->t.rank; i++) sizes[i] = tn_ll_dim(&k->body, n->t.dims[i]);
  tn_cpu_share(k, tn_ll_dims(&k->body, n->t.dims, 0, n->t.rank - 1), &lo, &hi);
  tn_cpu_rows_begin(k, &r.at, sizes, n->t.rank - 1, lo, hi);
  tn_ll_index row = tn_cpu_row_index(&r.at, &n->t, tn_ll_ix_scalar(ll_k(k->e, 0)), NULL);
  if (softmax) {
    n->row = row;
    softmax_statistics(&r);
    tn_ll_body_give(&k->body, n->out, give_softmax, n);
  } else {
    tn_cpu_norm_row(n, &row);
    if (n->stage) tn_ll_body_give(&k->body, n->x, give_x, n);
    tn_ll_body_give(&k->body, n->out, give_norm, n);
  }
  tn_cpu_norm_each(n, yield_column);
  tn_cpu_rows_end(k, &r.at);
}
