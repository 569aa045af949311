/* rows.c - softmax, layer_norm and rms_norm: a team of threads takes a line, keeps it in registers where its
 * length is known and not too large, and else evaluates it again in every pass. Along an inner axis every
 * thread takes a line of its own, beside its neighbours'. */
#include "backends/cuda/skel/team.h"
#include "backends/llvm/convert.h"
#include "backends/llvm/groups.h"
#include "backends/llvm/math.h"

enum { MOST_KEPT = 32, INNER_THREADS = 128, BLOCK_MOST = 512 };

typedef struct rows {
  tn_cuda_kernel *k;
  tn_cuda_team team;
  tn_value x, out, scale, bias; /* 0: none */
  tn_type_info t;
  bool softmax, centred;
  double eps, offset;
  tn_dtype acc_type;        /* of statistics: f32, or f64 of f64 */
  uint32_t axis, wide, per; /* per: steps that a thread keeps; 0: none are kept */
  uint32_t threads, width;
  int64_t known;               /* steps of a line, if per */
  ll_val line, mine;           /* mine: i1, the line is one; NULL: always */
  ll_val units, size;          /* steps of a line; its length in acc_type */
  ll_val kept[MOST_KEPT], now; /* now: x where the results are being made */
  ll_val mean, factor;         /* softmax: largest element and 1 / sum */
} rows;

/* Step u of the line. */
static tn_ll_index step_index(rows *r, ll_val u) {
  ll_val at = ll_imul(r->k->e, u, ll_k(r->k->e, r->wide));
  tn_ll_ix ix = r->wide > 1 ? tn_ll_ix_lanes(at, true) : tn_ll_ix_scalar(at);
  return tn_cuda_line_index(r->k, &r->t, r->axis, r->line, ix);
}
static ll_val eval_x(rows *r, ll_val u) {
  tn_ll_index ix = step_index(r, u);
  ll_val x = tn_ll_convert(r->k->e, r->t.dtype, r->acc_type, tn_ll_eval(&r->k->body, r->x, &ix));
  return ll_wide(r->k->e, x, r->wide > 1);
}

/* ---- passes -------------------------------------------------------------------------------------------- */

/* `inside` i1: the step is one; NULL: always. *x may be changed: what is kept changes with it. */
typedef void (*pass)(rows *r, ll_val u, ll_val inside, ll_val *x, ll_val *acc);

static ll_val kept_step(rows *r, uint32_t i, ll_val *inside) {
  tn_ll *e = r->k->e;
  ll_val u = ll_iadd(e, r->team.member, ll_k(e, (int64_t)i * r->width));
  bool all = (int64_t)(i + 1) * r->width <= r->known;
  *inside = all ? NULL : ll_icmp(e, LLVMIntSLT, u, r->units);
  return u;
}
/* A place that can be read. */
static ll_val readable(rows *r, ll_val u, ll_val inside) {
  return inside ? ll_imin(r->k->e, u, ll_sub(r->k->e, r->units, ll_k(r->k->e, 1))) : u;
}

static void each(rows *r, pass fn, ll_val *acc, uint32_t n) {
  tn_ll *e = r->k->e;
  if (r->per) {
    for (uint32_t i = 0; i < r->per; i++) {
      ll_val inside, u = kept_step(r, i, &inside);
      fn(r, u, inside, &r->kept[i], acc);
    }
    return;
  }
  ll_loop l;
  ll_loop_begin(e, &l, r->team.member, r->units, ll_k(e, r->width), acc, n);
  tn_ll_body_forget(&r->k->body);
  for (uint32_t i = 0; i < n; i++) acc[i] = l.phi[i];
  ll_val x = eval_x(r, l.iv);
  fn(r, l.iv, NULL, &x, acc);
  ll_loop_end(e, &l, acc);
  tn_ll_body_forget(&r->k->body);
  for (uint32_t i = 0; i < n; i++) acc[i] = l.out[i];
}

static ll_val or_else(tn_ll *e, ll_val inside, ll_val x, double rest) {
  return inside ? ll_select(e, ll_wide(e, inside, ll_is_vec(x)), x, ll_f(e, x, rest)) : x;
}
static void fold_add(void *ctx, ll_val *acc, const ll_val *other) {
  acc[0] = ll_fadd(((rows *)ctx)->k->e, acc[0], other[0]);
}
static void fold_max(void *ctx, ll_val *acc, const ll_val *other) {
  acc[0] = ll_fmax(((rows *)ctx)->k->e, acc[0], other[0]);
}
static ll_val total(rows *r, pass fn, double init, tn_cuda_fold fold) {
  tn_ll *e = r->k->e;
  ll_type t = tn_ll_register_type(e, r->acc_type);
  ll_val acc = ll_real(e, r->wide > 1 ? ll_vec(e, t) : t, init);
  each(r, fn, &acc, 1);
  tn_cuda_lanes_fold(r->k, &acc, 1, fold, r);
  tn_cuda_team_fold(&r->team, &acc, 1, fold, r);
  return acc;
}

/* ---- norms --------------------------------------------------------------------------------------------- */

static void add_x(rows *r, ll_val u, ll_val inside, ll_val *x, ll_val *acc) {
  (void)u;
  acc[0] = ll_fadd(r->k->e, acc[0], or_else(r->k->e, inside, *x, 0));
}
static void add_square(rows *r, ll_val u, ll_val inside, ll_val *x, ll_val *acc) {
  tn_ll *e = r->k->e;
  (void)u;
  ll_val d = r->mean ? ll_fsub(e, *x, ll_wide(e, r->mean, ll_is_vec(*x))) : *x;
  d = or_else(e, inside, d, 0);
  acc[0] = ll_fma(e, d, d, acc[0]);
}
static void norm_statistics(rows *r) {
  tn_ll *e = r->k->e;
  if (r->centred) r->mean = ll_fdiv(e, total(r, add_x, 0, fold_add), r->size);
  ll_val var = ll_fdiv(e, total(r, add_square, 0, fold_add), r->size);
  r->factor = ll_fdiv(e, ll_f(e, var, 1), ll_call1(e, "llvm.sqrt", ll_fadd(e, var, ll_f(e, var, r->eps))));
}

static ll_val per_feature(rows *r, tn_value v, const tn_ll_index *ix) {
  tn_ll_index at = {.rank = 1, .at = {ix->at[ix->rank - 1]}};
  tn_dtype t = tn_cuda_type(r->k, v).dtype;
  ll_val x = tn_ll_convert(r->k->e, t, r->acc_type, tn_ll_eval(&r->k->body, v, &at));
  return ll_wide(r->k->e, x, r->wide > 1);
}
static ll_val norm_value(rows *r, const tn_ll_index *ix) {
  tn_ll *e = r->k->e;
  ll_val x = r->now;
  if (r->mean) x = ll_fsub(e, x, ll_wide(e, r->mean, ll_is_vec(x)));
  x = ll_fmul(e, x, ll_wide(e, r->factor, ll_is_vec(x)));
  if (r->scale) {
    ll_val s = per_feature(r, r->scale, ix);
    if (r->offset != 0) s = ll_fadd(e, s, ll_f(e, s, r->offset));
    return r->bias ? ll_fma(e, x, s, per_feature(r, r->bias, ix)) : ll_fmul(e, x, s);
  }
  if (r->bias) return ll_fadd(e, x, per_feature(r, r->bias, ix));
  /* no scale: the offset alone, as a scale of 0 would give */
  return r->offset != 0 ? ll_fmul(e, x, ll_f(e, x, r->offset)) : x;
}

/* ---- softmax ------------------------------------------------------------------------------------------- */

static void take_max(rows *r, ll_val u, ll_val inside, ll_val *x, ll_val *acc) {
  (void)u;
  acc[0] = ll_fmax(r->k->e, or_else(r->k->e, inside, *x, -__builtin_inf()), acc[0]);
}
/* What is subtracted from x before exp: of only -inf nothing, so that no difference is NaN. */
static ll_val base_of(tn_ll *e, ll_val top) {
  ll_val none = ll_fcmp(e, LLVMRealOEQ, top, ll_f(e, top, -__builtin_inf()));
  return ll_select(e, none, ll_f(e, top, 0), top);
}
static ll_val exp_from(tn_ll *e, ll_val x, ll_val base) { return tn_ll_exp_neg(e, ll_fsub(e, x, base)); }

static void add_exp(rows *r, ll_val u, ll_val inside, ll_val *x, ll_val *acc) {
  tn_ll *e = r->k->e;
  (void)u;
  *x = exp_from(e, *x, ll_wide(e, r->mean, ll_is_vec(*x)));
  acc[0] = ll_fadd(e, acc[0], or_else(e, inside, *x, 0));
}
/* Largest element and sum at once: the sum moves to the new largest element. */
static void fold_pair(void *ctx, ll_val *acc, const ll_val *other) {
  tn_ll *e = ((rows *)ctx)->k->e;
  ll_val top = ll_fmax(e, acc[0], other[0]), base = base_of(e, top);
  ll_val own = ll_fmul(e, acc[1], exp_from(e, acc[0], base));
  acc[1] = ll_fadd(e, own, ll_fmul(e, other[1], exp_from(e, other[0], base)));
  acc[0] = top;
}
static void take_pair(rows *r, ll_val u, ll_val inside, ll_val *x, ll_val *acc) {
  tn_ll *e = r->k->e;
  (void)u;
  (void)inside;
  ll_val top = ll_fmax(e, *x, acc[0]), base = base_of(e, top);
  acc[1] = ll_fma(e, acc[1], exp_from(e, acc[0], base), exp_from(e, *x, base));
  acc[0] = top;
}

static void softmax_statistics(rows *r) {
  tn_ll *e = r->k->e;
  ll_type t = tn_ll_register_type(e, r->acc_type), v = r->wide > 1 ? ll_vec(e, t) : t;
  ll_val sum, zero = ll_real(e, t, 0);
  if (r->per) {
    r->mean = base_of(e, total(r, take_max, -__builtin_inf(), fold_max));
    sum = total(r, add_exp, 0, fold_add);
  } else {
    ll_val acc[] = {ll_real(e, v, -__builtin_inf()), ll_real(e, v, 0)};
    each(r, take_pair, acc, 2);
    tn_cuda_lanes_fold(r->k, acc, 2, fold_pair, r);
    tn_cuda_team_fold(&r->team, acc, 2, fold_pair, r);
    r->mean = base_of(e, acc[0]);
    sum = acc[1];
  }
  ll_val inverse = ll_fdiv(e, ll_real(e, t, 1), sum);
  r->factor = ll_select(e, ll_fcmp(e, LLVMRealOEQ, sum, zero), zero, inverse);
}
static ll_val softmax_value(rows *r) {
  tn_ll *e = r->k->e;
  bool vec = ll_is_vec(r->now);
  ll_val x = r->per ? r->now : exp_from(e, r->now, ll_wide(e, r->mean, vec));
  return ll_fmul(e, x, ll_wide(e, r->factor, vec));
}

/* ---- results ------------------------------------------------------------------------------------------- */

static ll_val give_out(void *ctx, const tn_ll_index *ix) {
  rows *r = ctx;
  ll_val x = r->softmax ? softmax_value(r) : norm_value(r, ix);
  return tn_ll_convert(r->k->e, r->acc_type, tn_cuda_type(r->k, r->out).dtype, x);
}
/* x as the kernel's other ops see it. */
static ll_val give_x(void *ctx, const tn_ll_index *ix) {
  rows *r = ctx;
  (void)ix;
  return tn_ll_convert(r->k->e, r->acc_type, r->t.dtype, r->now);
}

static void yield_step(rows *r, ll_val u, ll_val inside, ll_val *x, ll_val *acc) {
  tn_ll *e = r->k->e;
  ll_if here;
  (void)acc;
  r->now = *x;
  if (r->mine) inside = inside ? ll_and(e, inside, r->mine) : r->mine;
  if (inside) {
    ll_if_begin(e, &here, inside);
    tn_ll_body_forget(&r->k->body);
  }
  tn_ll_index ix = step_index(r, u);
  tn_cuda_store_yields(r->k, &ix);
  if (inside) {
    ll_if_end(e, &here);
    tn_ll_body_forget(&r->k->body);
  }
}

/* ---- the kernel ---------------------------------------------------------------------------------------- */

static void read_op(rows *r) {
  tn_cuda_kernel *k = r->k;
  bool layer = !strcmp(k->root_name, "layer_norm"), rms = !strcmp(k->root_name, "rms_norm");
  r->softmax = !layer && !rms;
  r->centred = layer;
  r->t = tn_cuda_type(k, r->x);
  r->axis = r->t.rank - 1;
  if (r->softmax) r->axis = tn_ll_axis(tn_ll_attr_int(&k->body, k->root, "axis"), r->t.rank);
  if (!r->softmax) r->scale = tn_cuda_operand(k, 1);
  if (layer) r->bias = tn_cuda_operand(k, 2);
  if (!r->softmax) r->eps = tn_ll_attr_float(&k->body, k->root, "eps");
  if (rms) r->offset = tn_ll_attr_float(&k->body, k->root, "offset");
  r->acc_type = r->t.dtype == TN_DT_f64 ? TN_DT_f64 : TN_DT_f32;
}

/* Threads of a line, and what each keeps. */
static void plan(rows *r) {
  tn_cuda_kernel *k = r->k;
  int64_t n = 0;
  r->wide = r->width = 1;
  r->threads = INNER_THREADS;
  if (r->axis != r->t.rank - 1) return;
  bool known = tn_ll_dim_const(&k->body, r->t.dims[r->axis], &n) && n > 0;
  if (known && tn_ll_dtype_of(r->t.dtype).bytes == 2 && n % 256 == 0) k->e->lanes = 8; /* 16 bytes */
  r->wide = tn_cuda_wide(k, r->t.dims[r->axis]);
  r->known = known ? n / r->wide : 0;
  r->width = tn_cuda_team_width(r->known, &r->threads);
  if (!known) return;
  while (r->width == r->threads && r->threads < BLOCK_MOST &&
         r->known * r->wide > (int64_t)r->threads * MOST_KEPT / 2)
    r->width = r->threads *= 2;
  int64_t per = (r->known + r->width - 1) / r->width;
  if (per * r->wide <= MOST_KEPT) r->per = (uint32_t)per;
}

static void make_line(rows *r) {
  tn_cuda_kernel *k = r->k;
  for (uint32_t i = 0; i < r->per; i++) {
    ll_val inside, u = kept_step(r, i, &inside);
    r->kept[i] = eval_x(r, readable(r, u, inside));
  }
  if (r->softmax)
    softmax_statistics(r);
  else
    norm_statistics(r);
  /* softmax keeps exponentials: what else reads x reads it again */
  if (r->per && !r->softmax) tn_ll_body_give(&k->body, r->x, give_x, r);
  tn_ll_body_give(&k->body, r->out, give_out, r);
  each(r, yield_step, NULL, 0);
}

static void emit(tn_cuda_kernel *k) {
  tn_ll *e = k->e;
  rows r = {.k = k, .x = tn_cuda_operand(k, 0), .out = tn_cuda_result(k, 0)};
  read_op(&r);
  plan(&r);
  tn_dim n = r.t.dims[r.axis], lines = tn_cuda_lines(k, &r.t, r.axis), one = tn_cuda_dim_k(k, 1);
  tn_dim blocks = tn_cuda_dim_ceildiv(k, lines, r.threads / r.width);
  tn_cuda_shape shape = {.threads = r.threads,
                         .grid = {tn_cuda_dim_mul(k, blocks, tn_cuda_dim_min(k, n, one))}};
  tn_cuda_launch_begin(k, &shape);
  tn_cuda_team_begin(&r.team, k, r.threads, r.width);
  r.units = r.known ? ll_k(e, r.known) : tn_ll_dim(&k->body, n);
  r.size = LLVMBuildSIToFP(e->b, tn_ll_dim(&k->body, n), tn_ll_register_type(e, r.acc_type), "");
  r.line = r.team.number;
  if (r.width < r.threads) { /* a team without a line makes the last one again and stores nothing */
    ll_val all = tn_ll_dim(&k->body, lines);
    r.mine = ll_icmp(e, LLVMIntSLT, r.line, all);
    r.line = ll_imin(e, r.line, ll_sub(e, all, ll_k(e, 1)));
  }
  make_line(&r);
  tn_cuda_launch_end(k);
}

static bool prologue(const tn_cuda_ask *a) {
  tn_type_info x = tn_cuda_type_of(a, a->ir->op_operand(a->m, a->root, 0)),
               y = tn_cuda_type_of(a, a->ir->op_result(a->m, a->op, 0));
  return tn_ll_is_cheap(a->name) || (tn_ll_is_elementwise(a->name) && tn_ll_same_dims(&x, &y));
}

static const char *const roots[] = {"softmax", "layer_norm", "rms_norm", NULL};
const tn_cuda_skeleton tn_cuda_skeleton_rows = {.roots = roots,
                                                .claim = tn_cuda_plain,
                                                .prologue = prologue,
                                                .epilogue = tn_cuda_takes_elementwise,
                                                .emit = emit};
