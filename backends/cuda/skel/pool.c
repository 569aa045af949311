/* pool.c - pool and argpool: a thread makes one result, tap after tap of its window; neighbouring threads
 * make neighbours of the last spatial dim. */
#include "backends/cuda/skel/team.h"
#include "backends/cuda/warp.h"
#include "backends/llvm/convert.h"

enum { THREADS = 256, UNROLL = 32, AXES = 3 }; /* UNROLL: taps up to which they are written one by one */

typedef struct window {
  tn_cuda_kernel *k;
  tn_value x, out;
  tn_type_info tx, to;
  uint32_t spatial;
  bool arg, max, mean, count_pad;
  tn_dtype acc_type;
  int64_t size[AXES], stride[AXES], dilation[AXES], taps;
  ll_val in[AXES], low[AXES], high[AXES];
  tn_ll_index at; /* the result */
  ll_val value;
} window;

static bool is_float(const window *p) { return tn_ll_dtype_of(p->acc_type).cls == TN_CLASS_FLOAT; }

static ll_val lowest(window *p, ll_type t) {
  tn_ll *e = p->k->e;
  tn_ll_dtype d = tn_ll_dtype_of(p->acc_type);
  if (is_float(p)) return ll_real(e, t, -__builtin_inf());
  if (d.cls != TN_CLASS_INT) return ll_int(e, t, 0);
  return ll_int(e, t, INT64_MIN >> (64 - 8 * d.bytes));
}
/* Is x before y: larger, or the first NaN? */
static ll_val better(window *p, ll_val x, ll_val y) {
  tn_ll *e = p->k->e;
  if (is_float(p)) return ll_and(e, ll_fcmp(e, LLVMRealUGT, x, y), ll_fcmp(e, LLVMRealORD, y, y));
  bool sign = tn_ll_dtype_of(p->acc_type).cls == TN_CLASS_INT;
  return ll_icmp(e, sign ? LLVMIntSGT : LLVMIntUGT, x, y);
}

/* The coordinate of spatial axis i that tap t reads. */
static ll_val source(window *p, uint32_t i, ll_val t) {
  tn_ll *e = p->k->e;
  ll_val at = ll_imul(e, p->at.at[2 + i].v, ll_k(e, p->stride[i]));
  return ll_sub(e, ll_iadd(e, at, ll_imul(e, t, ll_k(e, p->dilation[i]))), p->low[i]);
}
static ll_val within(tn_ll *e, ll_val at, ll_val lo, ll_val hi) {
  return ll_and(e, ll_icmp(e, LLVMIntSGE, at, lo), ll_icmp(e, LLVMIntSLT, at, hi));
}

/* ---- one tap ------------------------------------------------------------------------------------------- */

/* acc[0]: the value so far; acc[1]: argpool its position, mean how many taps count. */
static void take(window *p, ll_val x, ll_val inside, ll_val flat, ll_val *acc) {
  tn_ll *e = p->k->e;
  if (!p->max) {
    acc[0] = ll_fadd(e, acc[0], ll_select(e, inside, x, ll_zero(LLVMTypeOf(x))));
    return;
  }
  ll_val first = better(p, x, acc[0]);
  if (p->arg) first = ll_or(e, first, ll_icmp(e, LLVMIntSLT, acc[1], ll_k(e, 0)));
  first = ll_and(e, first, inside);
  acc[0] = ll_select(e, first, x, acc[0]);
  if (p->arg) acc[1] = ll_select(e, first, flat, acc[1]);
}

static void tap(window *p, const ll_val *t, ll_val *acc) {
  tn_ll *e = p->k->e;
  tn_ll_index ix = {.rank = p->tx.rank, .at = {p->at.at[0], p->at.at[1]}};
  ll_val inside = LLVMConstInt(e->i1, 1, 0), counts = inside, flat = ll_k(e, 0);
  for (uint32_t i = 0; i < p->spatial; i++) {
    ll_val at = source(p, i, t[i]), n = p->in[i], zero = ll_k(e, 0);
    inside = ll_and(e, inside, within(e, at, zero, n));
    counts = ll_and(e, counts, within(e, at, ll_sub(e, zero, p->low[i]), ll_iadd(e, n, p->high[i])));
    flat = ll_iadd(e, ll_imul(e, flat, n), at);
    ix.at[2 + i] = tn_ll_ix_scalar(ll_imax(e, ll_imin(e, at, ll_sub(e, n, ll_k(e, 1))), zero));
  }
  ix.pred = inside;
  tn_ll_body_forget(&p->k->body);
  ll_val x = tn_ll_convert(e, p->tx.dtype, p->acc_type, tn_ll_eval(&p->k->body, p->x, &ix));
  take(p, x, inside, flat, acc);
  if (!p->mean) return;
  ll_val one = ll_k(e, 1), count = p->count_pad ? counts : inside;
  acc[1] = ll_add(e, acc[1], ll_select(e, count, one, ll_k(e, 0)));
}

/* ---- all taps ------------------------------------------------------------------------------------------ */

/* Taps from axis i on: written out, or as loops. */
static void taps_from(window *p, uint32_t i, ll_val *t, ll_val *acc) {
  tn_ll *e = p->k->e;
  if (i == p->spatial || i >= AXES) {
    tap(p, t, acc);
    return;
  }
  if (p->taps <= UNROLL) {
    for (int64_t n = 0; n < p->size[i]; n++) {
      t[i] = ll_k(e, n);
      taps_from(p, i + 1, t, acc);
    }
    return;
  }
  ll_loop l;
  ll_loop_begin(e, &l, ll_k(e, 0), ll_k(e, p->size[i]), ll_k(e, 1), acc, 2);
  memcpy(acc, l.phi, 2 * sizeof *acc);
  t[i] = l.iv;
  taps_from(p, i + 1, t, acc);
  ll_loop_end(e, &l, acc);
  memcpy(acc, l.out, 2 * sizeof *acc);
  tn_ll_body_forget(&p->k->body);
}

static ll_val give_value(void *ctx, const tn_ll_index *ix) {
  (void)ix;
  return ((window *)ctx)->value;
}

static void result(window *p, ll_val position) {
  tn_cuda_kernel *k = p->k;
  tn_ll *e = k->e;
  ll_type t = tn_ll_register_type(e, p->acc_type);
  ll_val taps[AXES] = {0}, acc[] = {p->max ? lowest(p, t) : ll_zero(t), ll_k(e, p->arg ? -1 : 0)};
  p->at = tn_cuda_index(k, &p->to, position);
  taps_from(p, 0, taps, acc);
  if (p->mean) acc[0] = ll_fdiv(e, acc[0], LLVMBuildSIToFP(e->b, acc[1], t, ""));
  p->value = p->arg ? acc[1] : tn_ll_convert(e, p->acc_type, p->to.dtype, acc[0]);
  tn_ll_body_forget(&k->body);
  tn_cuda_store_yields(k, &p->at);
  tn_ll_body_forget(&k->body);
}

/* ---- the kernel ---------------------------------------------------------------------------------------- */

static int64_t list_at(window *p, const char *name, uint32_t i) {
  tn_attr a = tn_ll_attr(&p->k->body, p->k->root, name);
  return i < a.count ? a.u.ints[i] : 1;
}
static ll_val pad_at(window *p, const char *name, uint32_t i) {
  tn_attr a = tn_ll_attr(&p->k->body, p->k->root, name);
  return i < a.count ? tn_ll_dim(&p->k->body, a.u.dims[i]) : ll_k(p->k->e, 0);
}
static void read_window(window *p) {
  p->taps = 1;
  for (uint32_t i = 0; i < p->spatial; i++) {
    p->size[i] = list_at(p, "size", i);
    p->stride[i] = list_at(p, "strides", i);
    p->dilation[i] = list_at(p, "dilations", i);
    p->in[i] = tn_ll_dim(&p->k->body, p->tx.dims[2 + i]);
    p->low[i] = pad_at(p, "low", i);
    p->high[i] = pad_at(p, "high", i);
    p->taps *= p->size[i];
  }
}

static void emit(tn_cuda_kernel *k) {
  window p = {.k = k, .x = tn_cuda_operand(k, 0), .out = tn_cuda_result(k, 0)};
  p.tx = tn_cuda_type(k, p.x);
  p.to = tn_cuda_type(k, p.out);
  p.spatial = p.tx.rank - 2;
  p.arg = !strcmp(k->root_name, "argpool");
  const char *kind = p.arg ? "max" : tn_ll_attr_str(&k->body, k->root, "kind");
  p.max = !strcmp(kind, "max");
  p.mean = !strcmp(kind, "mean");
  p.count_pad = p.mean && tn_ll_attr_int(&k->body, k->root, "count_pad");
  p.acc_type = p.tx.dtype;
  if (is_float(&p) && p.acc_type != TN_DT_f64) p.acc_type = TN_DT_f32;
  tn_dim all = tn_cuda_dim_count(k, &p.to, 0, p.to.rank);
  tn_cuda_shape shape = {.threads = THREADS, .grid = {tn_cuda_dim_ceildiv(k, all, THREADS)}};
  tn_cuda_launch_begin(k, &shape);
  read_window(&p);
  tn_ll_body_give(&k->body, p.out, give_value, &p);
  ll_val at = tn_cuda_position(k, THREADS);
  ll_if in;
  ll_if_begin(k->e, &in, ll_icmp(k->e, LLVMIntSLT, at, tn_ll_dim(&k->body, all)));
  result(&p, at);
  ll_if_end(k->e, &in);
  tn_cuda_launch_end(k);
}

static bool claim(const tn_cuda_ask *a, const char **why) {
  tn_attr size = {0};
  int64_t taps = 1;
  if (!tn_cuda_plain(a, why)) return false;
  *why = "the window is too large";
  a->ir->op_attr(a->m, a->op, "size", &size);
  for (uint32_t i = 0; i < size.count; i++)
    if (__builtin_mul_overflow(taps, size.u.ints[i], &taps) || taps > INT32_MAX) return false;
  return size.count <= AXES;
}

static const char *const roots[] = {"pool", "argpool", NULL};
const tn_cuda_skeleton tn_cuda_skeleton_pool = {
    .roots = roots, .claim = claim, .epilogue = tn_cuda_takes_elementwise, .emit = emit};
