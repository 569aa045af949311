/* norm.c - statistics and values of normalised rows. Statistics are f32, of f64 they are f64, in vector lanes
 * that are added up as a tree; layer_norm takes the mean first, then the variance of the differences. */
#include "backends/cpu/skel/norm.h"
#include "backends/llvm/convert.h"

static uint32_t acc_bytes(const tn_cpu_norm *n) { return tn_ll_dtype_of(n->acc_type).bytes; }

static ll_val eval_acc(tn_cpu_norm *n, tn_value v, const tn_ll_index *ix) {
  return tn_ll_convert(n->k->e, tn_cpu_type(n->k, v).dtype, n->acc_type, tn_ll_eval(&n->k->body, v, ix));
}
static ll_val stage_at(tn_cpu_norm *n, tn_ll_ix j) {
  tn_ll *e = n->k->e;
  return ll_at(e, n->stage, ll_imul(e, j.v, ll_k(e, acc_bytes(n))));
}
ll_val tn_cpu_norm_staged(tn_cpu_norm *n, const tn_ll_index *ix) {
  return ll_load_masked(n->k->e, n->lanes, stage_at(n, ix->at[ix->rank - 1]), ix->mask, acc_bytes(n));
}
void tn_cpu_norm_put(tn_cpu_norm *n, tn_ll_ix j, ll_val mask, ll_val x) {
  ll_store_masked(n->k->e, x, stage_at(n, j), mask, acc_bytes(n));
}

tn_ll_index tn_cpu_norm_index(const tn_cpu_norm *n, tn_ll_ix j, ll_val mask) {
  tn_ll_index ix = n->row;
  ix.rank = n->t.rank;
  ix.shape = n->t.dims;
  ix.mask = mask;
  ix.at[n->t.rank - 1] = j;
  return ix;
}
static ll_val x_at(tn_cpu_norm *n, const tn_ll_index *ix) {
  return n->read_stage ? tn_cpu_norm_staged(n, ix) : eval_acc(n, n->x, ix);
}
ll_val tn_cpu_norm_x(tn_cpu_norm *n, tn_ll_ix j, ll_val mask) {
  tn_ll_index ix = tn_cpu_norm_index(n, j, mask);
  return x_at(n, &ix);
}
ll_val tn_cpu_norm_source(tn_cpu_norm *n, const tn_ll_index *ix) {
  return tn_ll_convert(n->k->e, n->acc_type, n->t.dtype, tn_cpu_norm_staged(n, ix));
}

/* ---- passes over a row ---- */
static ll_val row_end(tn_cpu_norm *n) { return tn_ll_dim(&n->k->body, n->t.dims[n->t.rank - 1]); }

void tn_cpu_norm_each(tn_cpu_norm *n, tn_cpu_column_fn fn) {
  tn_cpu_columns(n->k, ll_k(n->k->e, 0), row_end(n), fn, n, NULL, 0);
}
ll_val tn_cpu_norm_total(tn_cpu_norm *n, tn_cpu_column_fn fn, double init,
                         ll_val (*op)(tn_ll *, ll_val, ll_val)) {
  tn_ll *e = n->k->e;
  ll_val acc = ll_real(e, n->lanes, init);
  tn_cpu_columns(n->k, ll_k(e, 0), row_end(n), fn, n, &acc, 1);
  return ll_reduce_with(e, acc, op);
}

static void stage_column(tn_cpu_kernel *k, void *ctx, tn_ll_ix j, ll_val mask, ll_val *acc) {
  (void)acc;
  tn_cpu_norm_put(ctx, j, mask, ll_wide(k->e, tn_cpu_norm_x(ctx, j, mask), true));
}
/* Lanes outside count as 0. */
static ll_val inside(tn_ll *e, ll_val mask, ll_val x) {
  return mask ? ll_select(e, mask, x, ll_f(e, x, 0)) : x;
}
static void sum_column(tn_cpu_kernel *k, void *ctx, tn_ll_ix j, ll_val mask, ll_val *acc) {
  acc[0] = ll_fadd(k->e, acc[0], inside(k->e, mask, tn_cpu_norm_x(ctx, j, mask)));
}
static void square_column(tn_cpu_kernel *k, void *ctx, tn_ll_ix j, ll_val mask, ll_val *acc) {
  tn_cpu_norm *n = ctx;
  ll_val x = tn_cpu_norm_x(n, j, mask);
  if (n->mean) x = ll_fsub(k->e, x, ll_splat(k->e, n->mean));
  x = inside(k->e, mask, x);
  acc[0] = ll_fma(k->e, x, x, acc[0]);
}

/* ---- the op ---- */
void tn_cpu_norm_init(tn_cpu_norm *n, tn_cpu_kernel *k, tn_op op, bool staged) {
  const tn_ir *ir = k->u->ir;
  tn_module *m = k->u->m;
  const char *name = ir->opcode_name(ir->opcode(m, op));
  bool layer = !strcmp(name, "layer_norm"), rms = !strcmp(name, "rms_norm");
  *n = (tn_cpu_norm){.k = k, .op = op, .x = ir->op_operand(m, op, 0), .out = ir->op_result(m, op, 0)};
  n->t = tn_cpu_type(k, n->x);
  n->centred = layer;
  uint32_t operands = ir->op_noperands(m, op);
  if ((layer || rms) && operands > 1) n->scale = ir->op_operand(m, op, 1);
  if (layer && operands > 2) n->bias = ir->op_operand(m, op, 2);
  if (layer || rms) n->eps = tn_ll_attr_float(&k->body, op, "eps");
  if (rms) n->offset = tn_ll_attr_float(&k->body, op, "offset");
  n->acc_type = n->t.dtype == TN_DT_f64 ? TN_DT_f64 : TN_DT_f32;
  n->acc = tn_ll_register_type(k->e, n->acc_type);
  n->lanes = ll_vec(k->e, n->acc);
  bool direct = n->t.dtype == n->acc_type && tn_cpu_arg_buffer(k, n->x);
  if (staged || !direct) n->stage = tn_cpu_scratch(k, n->t.dims[n->t.rank - 1], acc_bytes(n));
}

void tn_cpu_norm_row(tn_cpu_norm *n, const tn_ll_index *row) {
  tn_ll *e = n->k->e;
  ll_val count = LLVMBuildSIToFP(e->b, row_end(n), n->acc, "");
  n->row = *row;
  n->mean = NULL;
  n->read_stage = false;
  if (n->stage) tn_cpu_norm_each(n, stage_column);
  n->read_stage = n->stage;
  if (n->centred) n->mean = ll_fdiv(e, tn_cpu_norm_total(n, sum_column, 0, ll_fadd), count);
  ll_val var = ll_fdiv(e, tn_cpu_norm_total(n, square_column, 0, ll_fadd), count);
  n->factor = ll_fdiv(e, ll_f(e, var, 1), ll_call1(e, "llvm.sqrt", ll_fadd(e, var, ll_f(e, var, n->eps))));
}

static ll_val per_feature(tn_cpu_norm *n, tn_value v, const tn_ll_index *ix) {
  tn_ll_index at = {.rank = 1, .at = {ix->at[ix->rank - 1]}, .mask = ix->mask};
  return eval_acc(n, v, &at);
}
ll_val tn_cpu_norm_value(tn_cpu_norm *n, const tn_ll_index *ix) {
  tn_ll *e = n->k->e;
  ll_val x = x_at(n, ix);
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
