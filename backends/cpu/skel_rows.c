/* skel_rows.c - softmax, layer_norm and rms_norm along the last axis: each thread takes whole rows. The
 * operand is read straight from memory if it is an f32 buffer; otherwise the prologue is evaluated once per
 * row into scratch. Statistics are f32, of f64 they are f64, in vector lanes that are added up as a tree;
 * layer_norm takes the mean first, then the variance of the differences. */
#include "backends/cpu/kernel.h"
#include "backends/llvm/convert.h"
#include "backends/llvm/math.h"

typedef struct norm {
  tn_cpu_kernel *k;
  tn_value x, out;
  tn_type_info t;
  tn_cpu_rows rows;
  tn_dtype acc_type;       /* of statistics and of the row in scratch: f32, or f64 for f64 */
  ll_type acc, lanes;      /* acc_type as one number and as a vector */
  ll_val stage;            /* room for the row in scratch */
  bool direct, read_stage; /* x is a buffer of acc_type; x is read from scratch */
  ll_val mean, factor;     /* softmax: largest element and 1 / sum */
  tn_value scale, bias;
  double offset;
} norm;

static uint32_t acc_bytes(const norm *n) { return tn_ll_dtype_of(n->acc_type).bytes; }
static ll_val staged(norm *n, const tn_ll_index *ix) {
  tn_ll *e = n->k->e;
  tn_ll_ix j = ix->at[ix->rank - 1];
  ll_val p = ll_at(e, n->stage, ll_imul(e, j.v, ll_k(e, acc_bytes(n))));
  return ll_load_masked(e, n->lanes, p, ix->mask, acc_bytes(n));
}
static ll_val eval_acc(norm *n, tn_value v, const tn_ll_index *ix) {
  return tn_ll_convert(n->k->e, tn_cpu_type(n->k, v).dtype, n->acc_type, tn_ll_eval(&n->k->body, v, ix));
}
/* x as the kernel's ops see it, when it lies in scratch. */
static ll_val give_x(void *ctx, const tn_ll_index *ix) {
  norm *n = ctx;
  return tn_ll_convert(n->k->e, n->acc_type, n->t.dtype, staged(n, ix));
}
static ll_val x_at(norm *n, tn_ll_ix j, ll_val mask) {
  tn_ll_index ix = tn_cpu_row_index(&n->rows, &n->t, j, mask);
  return n->read_stage ? staged(n, &ix) : eval_acc(n, n->x, &ix);
}
static void put_stage(norm *n, tn_ll_ix j, ll_val mask, ll_val x) {
  tn_ll *e = n->k->e;
  ll_store_masked(e, x, ll_at(e, n->stage, ll_imul(e, j.v, ll_k(e, acc_bytes(n)))), mask, acc_bytes(n));
}
/* Lanes outside count as `rest`. */
static ll_val masked(tn_ll *e, ll_val mask, ll_val x, double rest) {
  return mask ? ll_select(e, mask, x, ll_f(e, x, rest)) : x;
}

/* ---- passes over a row ---- */
static void stage_column(tn_cpu_kernel *k, void *ctx, tn_ll_ix j, ll_val mask, ll_val *acc) {
  (void)acc;
  put_stage(ctx, j, mask, ll_wide(k->e, x_at(ctx, j, mask), true));
}
static void sum_column(tn_cpu_kernel *k, void *ctx, tn_ll_ix j, ll_val mask, ll_val *acc) {
  acc[0] = ll_fadd(k->e, acc[0], masked(k->e, mask, x_at(ctx, j, mask), 0));
}
static void square_column(tn_cpu_kernel *k, void *ctx, tn_ll_ix j, ll_val mask, ll_val *acc) {
  norm *n = ctx;
  ll_val x = x_at(n, j, mask);
  if (n->mean) x = ll_fsub(k->e, x, ll_splat(k->e, n->mean));
  x = masked(k->e, mask, x, 0);
  acc[0] = ll_fma(k->e, x, x, acc[0]);
}
static void max_column(tn_cpu_kernel *k, void *ctx, tn_ll_ix j, ll_val mask, ll_val *acc) {
  norm *n = ctx;
  ll_val x = ll_wide(k->e, x_at(n, j, mask), true);
  if (!n->direct) put_stage(n, j, mask, x);
  acc[0] = ll_fmax(k->e, masked(k->e, mask, x, -__builtin_inf()), acc[0]);
}
static void exp_column(tn_cpu_kernel *k, void *ctx, tn_ll_ix j, ll_val mask, ll_val *acc) {
  norm *n = ctx;
  ll_val x = ll_fsub(k->e, x_at(n, j, mask), ll_splat(k->e, n->mean));
  x = tn_ll_exp_neg(k->e, x);
  put_stage(n, j, mask, x);
  acc[0] = ll_fadd(k->e, acc[0], masked(k->e, mask, x, 0));
}
static void yield_column(tn_cpu_kernel *k, void *ctx, tn_ll_ix j, ll_val mask, ll_val *acc) {
  norm *n = ctx;
  (void)acc;
  tn_ll_index ix = tn_cpu_row_index(&n->rows, &n->t, j, mask);
  tn_cpu_store_yields(k, &ix);
}

static ll_val total(norm *n, tn_cpu_column_fn fn, double init, ll_val (*op)(tn_ll *, ll_val, ll_val)) {
  tn_ll *e = n->k->e;
  ll_val acc = ll_real(e, n->lanes, init);
  tn_cpu_columns(n->k, ll_k(e, 0), tn_ll_dim(&n->k->body, n->t.dims[n->t.rank - 1]), fn, n, &acc, 1);
  return ll_reduce_with(e, acc, op);
}
static void each(norm *n, tn_cpu_column_fn fn) {
  tn_ll *e = n->k->e;
  tn_cpu_columns(n->k, ll_k(e, 0), tn_ll_dim(&n->k->body, n->t.dims[n->t.rank - 1]), fn, n, NULL, 0);
}

/* ---- the roots ---- */
static ll_val row_length(norm *n) {
  tn_ll *e = n->k->e;
  return LLVMBuildSIToFP(e->b, tn_ll_dim(&n->k->body, n->t.dims[n->t.rank - 1]), n->acc, "");
}
static void norm_statistics(norm *n, bool centred) {
  tn_ll *e = n->k->e;
  ll_val count = row_length(n);
  n->mean = NULL;
  if (centred) n->mean = ll_fdiv(e, total(n, sum_column, 0, ll_fadd), count);
  ll_val var = ll_fdiv(e, total(n, square_column, 0, ll_fadd), count);
  double eps = tn_ll_attr_float(&n->k->body, n->k->root, "eps");
  n->factor = ll_fdiv(e, ll_f(e, var, 1), ll_call1(e, "llvm.sqrt", ll_fadd(e, var, ll_f(e, var, eps))));
}
static void softmax_statistics(norm *n) {
  tn_ll *e = n->k->e;
  ll_val top = total(n, max_column, -__builtin_inf(), ll_fmax), zero = ll_f(e, top, 0);
  /* a row of only -inf: differences must not become NaN, and the sum of 0 must give zeros */
  n->mean = ll_select(e, ll_fcmp(e, LLVMRealOEQ, top, ll_f(e, top, -__builtin_inf())), zero, top);
  n->read_stage = !n->direct;
  ll_val sum = total(n, exp_column, 0, ll_fadd);
  ll_val inverse = ll_fdiv(e, ll_f(e, sum, 1), sum);
  n->factor = ll_select(e, ll_fcmp(e, LLVMRealOEQ, sum, zero), zero, inverse);
}

static ll_val per_feature(norm *n, tn_value v, const tn_ll_index *ix) {
  tn_ll_index at = {.rank = 1, .at = {ix->at[ix->rank - 1]}, .mask = ix->mask};
  return eval_acc(n, v, &at);
}
static ll_val give_norm(void *ctx, const tn_ll_index *ix) {
  norm *n = ctx;
  tn_ll *e = n->k->e;
  ll_val x = eval_acc(n, n->x, ix);
  if (n->mean) x = ll_fsub(e, x, ll_splat(e, n->mean));
  x = ll_fmul(e, x, ll_splat(e, n->factor));
  if (n->scale) {
    ll_val s = per_feature(n, n->scale, ix);
    if (n->offset != 0) s = ll_fadd(e, s, ll_f(e, s, n->offset));
    x = n->bias ? ll_fma(e, x, s, per_feature(n, n->bias, ix)) : ll_fmul(e, x, s);
  } else if (n->bias) {
    x = ll_fadd(e, x, per_feature(n, n->bias, ix));
  } else if (n->offset != 0) {
    x = ll_fmul(e, x, ll_f(e, x, n->offset)); /* no scale: the offset alone, as a scale of 0 would give */
  }
  return tn_ll_convert(e, n->acc_type, tn_cpu_type(n->k, n->out).dtype, x);
}
static ll_val give_softmax(void *ctx, const tn_ll_index *ix) {
  norm *n = ctx;
  tn_ll *e = n->k->e;
  ll_val x = ll_fmul(e, staged(n, ix), ll_splat(e, n->factor));
  return tn_ll_convert(e, n->acc_type, tn_cpu_type(n->k, n->out).dtype, x);
}

static bool softmax_last(tn_cpu_kernel *k, const tn_type_info *t) {
  return tn_ll_axis(tn_ll_attr_int(&k->body, k->root, "axis"), t->rank) == t->rank - 1;
}

void tn_cpu_emit_rows(tn_cpu_kernel *k) {
  norm n = {.k = k, .x = tn_cpu_operand(k, 0), .out = tn_cpu_result(k, 0)};
  n.t = tn_cpu_type(k, n.x);
  bool softmax = !strcmp(k->root_name, "softmax"), layer = !strcmp(k->root_name, "layer_norm");
  if (softmax && !softmax_last(k, &n.t)) {
    tn_cpu_emit_reduce(k);
    return;
  }
  if (!softmax) n.scale = tn_cpu_operand(k, 1);
  if (layer) n.bias = tn_cpu_operand(k, 2);
  if (!softmax && !layer) n.offset = tn_ll_attr_float(&k->body, k->root, "offset");
  n.acc_type = n.t.dtype == TN_DT_f64 ? TN_DT_f64 : TN_DT_f32;
  n.acc = tn_ll_register_type(k->e, n.acc_type);
  n.lanes = ll_vec(k->e, n.acc);
  n.direct = n.t.dtype == n.acc_type && tn_cpu_arg_buffer(k, n.x);
  if (softmax || !n.direct) n.stage = tn_cpu_scratch(k, n.t.dims[n.t.rank - 1], acc_bytes(&n));

  ll_val sizes[TN_MAX_RANK], lo, hi;
  for (uint32_t i = 0; i + 1 < n.t.rank; i++) sizes[i] = tn_ll_dim(&k->body, n.t.dims[i]);
  tn_cpu_share(k, tn_ll_dims(&k->body, n.t.dims, 0, n.t.rank - 1), &lo, &hi);
  tn_cpu_rows_begin(k, &n.rows, sizes, n.t.rank - 1, lo, hi);
  if (softmax) {
    softmax_statistics(&n);
    tn_ll_body_give(&k->body, n.out, give_softmax, &n);
  } else {
    if (!n.direct) {
      each(&n, stage_column);
      n.read_stage = true;
      tn_ll_body_give(&k->body, n.x, give_x, &n);
    }
    norm_statistics(&n, layer);
    tn_ll_body_give(&k->body, n.out, give_norm, &n);
  }
  each(&n, yield_column);
  tn_cpu_rows_end(k, &n.rows);
}
