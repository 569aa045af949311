/* attention.c - the skeleton of attention with an online softmax (Milakov and Gimelshein 2018, Dao 2023):
 * what is taken, operands, which keys a row sees, and how queries, keys and values are read. */
#include "backends/cuda/attention/attention.h"
#include "backends/cuda/matmul/gemv.h"
#include "backends/llvm/convert.h"
#include "backends/llvm/groups.h"
#include "backends/llvm/math.h"

enum { MOST_FEATURES = 1024, FAR = 1 << 30 };

/* ---- sizes --------------------------------------------------------------------------------------------- */

static void open_ring(tn_cuda_att *a) {
  tn_ll *e = a->k->e;
  ll_val one = ll_k(e, 1), zero = ll_k(e, 0);
  a->rows = tn_ll_dim(&a->k->body, a->key.t.dims[1]);
  ll_val newest = ll_imax(e, ll_sub(e, a->t, one), zero), rows = ll_imax(e, a->rows, one);
  a->lap = ll_sub(e, newest, ll_urem(e, newest, rows));
  a->oldest = ll_imax(e, ll_sub(e, a->t, a->rows), zero);
}
void tn_cuda_att_open(tn_cuda_att *a) {
  a->nq = tn_ll_dim(&a->k->body, a->s);
  a->t = tn_ll_dim(&a->k->body, a->keys);
  a->last = ll_sub(a->k->e, a->t, a->nq);
  if (a->ring) open_ring(a);
}

static uint32_t head_bytes(tn_cuda_att *a, const tn_cuda_att_side *s, int64_t features) {
  const tn_dtype_info *info = a->k->u->ir->dtype_info(s->t.dtype);
  return (uint32_t)(features / (info->block_values > 1 ? info->block_values : 1) * info->block_bytes);
}
static void place_side(tn_cuda_att *a, tn_cuda_att_side *s, int64_t features) {
  tn_ll *e = a->k->e;
  if (!s->buffer) return;
  uint32_t bytes = head_bytes(a, s, features);
  s->step = ll_k(e, a->hkv * bytes);
  ll_val rows = ll_imul(e, a->b, tn_ll_dim(&a->k->body, s->t.dims[1]));
  ll_val at = ll_iadd(e, ll_imul(e, rows, s->step), ll_imul(e, a->hk, ll_k(e, bytes)));
  ll_val buffer = s->fresh ? a->k->outs[s->out] : tn_cuda_buffer(a->k, s->v, NULL);
  s->base = ll_at(e, tn_cuda_global(a->k, buffer), at);
}

static void find_least(tn_cuda_att *a) {
  tn_ll *e = a->k->e;
  a->least = a->ring ? a->oldest : NULL;
  if (!a->first) return;
  tn_ll_index ix = {.rank = 1, .at = {tn_ll_ix_scalar(a->b)}};
  tn_dtype t = tn_cuda_type(a->k, a->first).dtype;
  ll_val first = tn_ll_convert(e, t, TN_DT_i64, tn_ll_eval(&a->k->body, a->first, &ix));
  first = ll_imax(e, ll_imin(e, first, a->t), ll_k(e, 0));
  a->least = a->least ? ll_imax(e, first, a->least) : first;
}
void tn_cuda_att_unit(tn_cuda_att *a, ll_val b, ll_val hk) {
  a->b = b;
  a->hk = hk;
  place_side(a, &a->key, a->d);
  place_side(a, &a->value, a->dv);
  find_least(a);
}

/* ---- rows and keys ------------------------------------------------------------------------------------- */

void tn_cuda_att_row(tn_cuda_att *a, ll_val r, ll_val *query, ll_val *head) {
  tn_ll *e = a->k->e;
  ll_val first = ll_imul(e, a->hk, ll_k(e, a->g));
  *query = a->single ? ll_k(e, 0) : ll_idiv(e, r, ll_k(e, a->g));
  *head = ll_iadd(e, first, a->single ? r : ll_imod(e, r, ll_k(e, a->g)));
}

void tn_cuda_att_range(tn_cuda_att *a, ll_val r0, ll_val n, ll_val *lo, ll_val *hi) {
  tn_ll *e = a->k->e;
  ll_val first, end, head, one = ll_k(e, 1), from = ll_k(e, 0), to = a->t;
  tn_cuda_att_row(a, r0, &first, &head);
  tn_cuda_att_row(a, ll_sub(e, ll_add(e, r0, n), one), &end, &head);
  int64_t behind = a->causal ? 1 : a->window; /* keys up to so many after a query's own position, less one */
  if (behind) to = ll_imin(e, to, ll_add(e, ll_add(e, end, a->last), ll_k(e, behind)));
  if (a->window) {
    ll_val begin = ll_sub(e, ll_add(e, first, a->last), ll_k(e, a->window - 1));
    from = ll_imax(e, begin, from);
  }
  if (a->least) from = ll_imax(e, a->least, from);
  *lo = tn_cuda_to32(a, from);
  *hi = tn_cuda_to32(a, to);
}

/* A ring has its last keys only: others, which nobody sees, get any row. */
ll_val tn_cuda_att_key_row(tn_cuda_att *a, ll_val key) {
  tn_ll *e = a->k->e;
  ll_val wide = LLVMBuildSExt(e->b, key, e->i64, "");
  if (!a->ring) return wide;
  ll_val row = ll_sub(e, ll_imax(e, wide, a->oldest), a->lap);
  return ll_select(e, ll_icmp(e, LLVMIntSLT, row, ll_k(e, 0)), ll_add(e, row, a->rows), row);
}

/* ---- reading ------------------------------------------------------------------------------------------- */

static ll_type of_wide(ll_type t, uint32_t wide) { return wide > 1 ? LLVMVectorType(t, wide) : t; }

/* Codes lie at even addresses. */
static ll_val load_q8(tn_cuda_att *a, ll_val row, ll_val j, uint32_t wide) {
  tn_ll *e = a->k->e;
  ll_val block = ll_mul(e, ll_lshr(e, j, tn_cuda_n32(a, 5)), tn_cuda_n32(a, TN_CUDA_Q8_BYTES));
  ll_val p = ll_at(e, row, tn_cuda_i64(a->k, block));
  ll_val within = ll_add(e, ll_and(e, j, tn_cuda_n32(a, TN_CUDA_Q8_VALUES - 1)), tn_cuda_n32(a, 2));
  ll_val codes = ll_load(e, of_wide(e->i16, wide / 2), ll_at(e, p, tn_cuda_i64(a->k, within)), 2);
  codes = ll_cast_bits(e, codes, of_wide(e->i8, wide));
  ll_val x = LLVMBuildSIToFP(e->b, codes, of_wide(e->f32, wide), "");
  return ll_fmul(e, x, ll_splat(e, tn_ll_to_compute(e, TN_DT_f16, ll_load(e, e->f16, p, 2))));
}

static tn_ll_ix feature(tn_cuda_att *a, ll_val j, uint32_t wide) {
  ll_val at = tn_cuda_i64(a->k, j);
  return wide > 1 ? tn_ll_ix_lanes(at, true) : tn_ll_ix_scalar(at);
}

ll_val tn_cuda_att_load(tn_cuda_att *a, const tn_cuda_att_side *s, ll_val row, ll_val j, uint32_t wide) {
  tn_ll *e = a->k->e;
  if (!s->buffer) {
    tn_ll_index ix = {
        .rank = 4,
        .at = {tn_ll_ix_scalar(a->b), tn_ll_ix_scalar(row), tn_ll_ix_scalar(a->hk), feature(a, j, wide)}};
    return ll_wide(e, tn_ll_eval_f32(&a->k->body, s->v, &ix), wide > 1);
  }
  ll_val at = ll_at(e, s->base, ll_imul(e, row, s->step));
  if (s->t.dtype >= TN_DT_BLOCK) return load_q8(a, at, j, wide);
  uint32_t bytes = tn_ll_dtype_of(s->t.dtype).bytes, whole = bytes * wide;
  ll_val p = ll_at(e, at, tn_cuda_i64(a->k, ll_imul(e, j, tn_cuda_n32(a, bytes))));
  ll_val x = ll_load(e, of_wide(tn_ll_memory_type(e, s->t.dtype), wide), p, whole < 16 ? whole : 16);
  return tn_ll_to_f32(e, s->t.dtype, tn_ll_from_memory(e, s->t.dtype, x));
}

ll_val tn_cuda_att_load_query(tn_cuda_att *a, ll_val query, ll_val head, ll_val j, uint32_t wide) {
  tn_ll_index ix = {
      .rank = 4,
      .at = {tn_ll_ix_scalar(a->b), tn_ll_ix_scalar(query), tn_ll_ix_scalar(head), feature(a, j, wide)}};
  return ll_wide(a->k->e, tn_ll_eval_f32(&a->k->body, a->q, &ix), wide > 1);
}

/* ---- scores -------------------------------------------------------------------------------------------- */

ll_val tn_cuda_att_sees(tn_cuda_att *a, ll_val in, ll_val at, ll_val key) {
  tn_ll *e = a->k->e;
  ll_val window = tn_cuda_n32(a, a->window < FAR ? a->window : FAR);
  if (a->causal) in = ll_and(e, in, ll_icmp(e, LLVMIntSLE, key, at));
  if (a->window) in = ll_and(e, in, ll_icmp(e, LLVMIntSGT, key, ll_sub(e, at, window)));
  if (a->window && !a->causal) in = ll_and(e, in, ll_icmp(e, LLVMIntSLT, ll_sub(e, key, at), window));
  if (a->least) in = ll_and(e, in, ll_icmp(e, LLVMIntSGE, key, tn_cuda_to32(a, a->least)));
  return in;
}

/* A mask or bias operand, which broadcasts to [b, h, s, t]. */
static ll_val at_key(tn_cuda_att *a, tn_value v, ll_val query, ll_val head, ll_val key) {
  tn_type_info t = tn_cuda_type(a->k, v);
  ll_val full[] = {a->b, head, query, tn_cuda_i64(a->k, key)};
  tn_ll_index ix = {.rank = t.rank};
  for (uint32_t i = 0; i < t.rank; i++) {
    int64_t n;
    bool one = tn_ll_dim_const(&a->k->body, t.dims[i], &n) && n == 1;
    ix.at[i] = tn_ll_ix_scalar(one ? ll_k(a->k->e, 0) : full[i + 4 - t.rank]);
  }
  return tn_ll_eval(&a->k->body, v, &ix);
}

ll_val tn_cuda_att_score(tn_cuda_att *a, ll_val x, ll_val query, ll_val head, ll_val key, ll_val *in) {
  tn_ll *e = a->k->e;
  if (a->softcap > 0) {
    x = tn_ll_tanh(e, ll_fmul(e, x, ll_f(e, x, 1 / a->softcap)));
    x = ll_fmul(e, x, ll_f(e, x, a->softcap));
  }
  if (a->bias) {
    ll_val add = at_key(a, a->bias, query, head, key);
    x = ll_fadd(e, x, tn_ll_to_f32(e, tn_cuda_type(a->k, a->bias).dtype, add));
  }
  if (a->mask) {
    ll_val m = at_key(a, a->mask, query, head, key);
    *in = ll_and(e, *in, tn_ll_convert(e, tn_cuda_type(a->k, a->mask).dtype, TN_DT_bool, m));
  }
  return x;
}

/* -top log2(e); where no key was seen yet, 0: then all weights are 0. */
ll_val tn_cuda_att_base(tn_cuda_att *a, ll_val top) {
  tn_ll *e = a->k->e;
  ll_val none = ll_fcmp(e, LLVMRealOEQ, top, ll_f(e, top, -__builtin_inf()));
  return ll_select(e, none, ll_f(e, top, 0), ll_fmul(e, top, ll_f(e, top, -TN_CUDA_LOG2E)));
}
ll_val tn_cuda_att_exp(tn_cuda_att *a, ll_val x, ll_val base) {
  return tn_cuda_ex2(a->k, ll_fma(a->k->e, x, ll_f(a->k->e, x, TN_CUDA_LOG2E), base));
}
ll_val tn_cuda_att_inverse(tn_cuda_att *a, ll_val sum) {
  tn_ll *e = a->k->e;
  ll_val zero = ll_f(e, sum, 0);
  return ll_select(e, ll_fcmp(e, LLVMRealOEQ, sum, zero), zero, ll_fdiv(e, ll_f(e, sum, 1), sum));
}

/* ---- results ------------------------------------------------------------------------------------------- */

static ll_val give_now(void *ctx, const tn_ll_index *ix) {
  tn_cuda_att *a = ctx;
  (void)ix;
  return tn_ll_convert(a->k->e, TN_DT_f32, a->to.dtype, a->now);
}
void tn_cuda_att_put(tn_cuda_att *a, ll_val query, ll_val head, ll_val j, uint32_t wide, ll_val x) {
  tn_ll *e = a->k->e;
  a->now = x;
  ll_val row = ll_iadd(e, ll_imul(e, a->b, a->nq), query);
  tn_ll_index ix = {
      .rank = 4,
      .shape = a->to.dims,
      .flat = ll_iadd(e, ll_imul(e, row, ll_k(e, a->h)), head),
      .at = {tn_ll_ix_scalar(a->b), tn_ll_ix_scalar(query), tn_ll_ix_scalar(head), feature(a, j, wide)}};
  for (uint32_t i = 0; i < a->k->nyields; i++) { /* caches are no values to be made here */
    tn_value v = a->k->yields[i];
    if ((a->key.fresh && v == a->key.v) || (a->value.fresh && v == a->value.v)) continue;
    tn_ll_store_at(&a->k->body, v, a->k->outs[i], &ix, tn_ll_eval(&a->k->body, v, &ix));
  }
}

/* ---- the kernel ---------------------------------------------------------------------------------------- */

static int64_t size_of(tn_cuda_att *a, tn_dim d) {
  int64_t n = 1;
  if (!tn_ll_dim_const(&a->k->body, d, &n)) tn_ll_fail(a->k->e, "attention's heads have no constant size");
  return n;
}
static tn_cuda_att_side read_side(tn_cuda_kernel *k, tn_value v) {
  tn_cuda_att_side s = {.v = v, .t = tn_cuda_type(k, v)};
  uint32_t none = UINT32_MAX, number = none; /* the buffers' addresses are only there within a launch */
  (void)tn_cuda_buffer(k, v, &number);
  s.buffer = number != none;
  return s;
}

static void read_sizes(tn_cuda_att *a) {
  tn_ll_body *b = &a->k->body;
  tn_dim keys = tn_ll_attr(b, a->k->root, "keys").u.dim;
  int64_t n;
  bool all = !keys || (tn_ll_dim_const(b, keys, &n) && !n);
  a->batches = a->tq.dims[0];
  a->s = a->tq.dims[1];
  a->keys = all ? a->key.t.dims[1] : keys;
  a->h = size_of(a, a->tq.dims[2]);
  a->d = size_of(a, a->tq.dims[3]);
  a->hkv = size_of(a, a->key.t.dims[2]);
  a->dv = size_of(a, a->value.t.dims[3]);
  a->g = a->hkv ? a->h / a->hkv : 1;
  a->single = tn_ll_dim_const(b, a->s, &n) && n == 1;
}

static void read_operands(tn_cuda_att *a) {
  tn_cuda_kernel *k = a->k;
  tn_ll_body *b = &k->body;
  a->q = tn_cuda_operand(k, 0);
  a->key = read_side(k, tn_cuda_operand(k, 1));
  a->value = read_side(k, tn_cuda_operand(k, 2));
  a->mask = tn_cuda_operand(k, 3);
  a->bias = tn_cuda_operand(k, 4);
  a->first = tn_cuda_operand(k, 5);
  a->out = tn_cuda_result(k, 0);
  a->tq = tn_cuda_type(k, a->q);
  a->to = tn_cuda_type(k, a->out);
  a->scale = tn_ll_attr_float(b, k->root, "scale");
  a->softcap = tn_ll_attr_float(b, k->root, "softcap");
  a->window = tn_ll_attr_int(b, k->root, "window");
  a->causal = tn_ll_attr_int(b, k->root, "causal");
  a->ring = tn_ll_attr_int(b, k->root, "ring");
  read_sizes(a);
}

static void emit(tn_cuda_kernel *k) {
  tn_cuda_att a = {.k = k};
  read_operands(&a);
  bool step = tn_cuda_att_step_read(&a);
  tn_ll_body_give(&k->body, a.out, give_now, &a);
  tn_dim left = tn_cuda_dim_k(k, 1);
  int64_t queries;
  if (step || !tn_cuda_att_flash_takes(&a)) {
    tn_cuda_att_few(&a, left);
    return;
  }
  if (!tn_ll_dim_const(&k->body, a.s, &queries)) { /* few of them are better off with the keys split */
    tn_dim many = tn_cuda_many(k, tn_cuda_dim_mul(k, a.s, tn_cuda_dim_k(k, a.g)), TN_CUDA_ATT_FEW_ROWS);
    tn_cuda_att_few(&a, tn_cuda_dim_add(k, left, tn_cuda_dim_mul(k, many, tn_cuda_dim_k(k, -1))));
    left = many;
  }
  left = tn_cuda_att_wgmma(&a, left);
  if (!tn_cuda_never(k, left)) tn_cuda_att_flash(&a, left);
}

/* ---- claim and fuse ------------------------------------------------------------------------------------ */

static bool is_cache(const tn_cuda_ask *a, uint32_t i, const tn_type_info *t) {
  return (i == 1 || i == 2) && t->dtype == a->ir->dtype_by_name("q8_0") && !t->layout;
}
static bool claim(const tn_cuda_ask *a, const char **why) {
  int64_t n;
  for (uint32_t i = 0; i < a->ir->op_noperands(a->m, a->op); i++) {
    tn_value v = a->ir->op_operand(a->m, a->op, i);
    tn_type_info t = tn_cuda_type_of(a, v);
    if (!v || is_cache(a, i, &t)) continue;
    *why = "this operand type is not supported";
    if (!tn_ll_dtype_of(t.dtype).known || tn_ll_dtype_of(t.dtype).packed) return false;
    *why = "not available in f64";
    if (t.dtype == TN_DT_f64) return false;
    *why = "heads must have a constant number and size, at most 1024 features";
    for (uint32_t d = 2; d < 4 && i < 3; d++)
      if (!a->ir->dim_is_const(a->m, t.dims[d], &n) || n < 1 || (d == 3 && n > MOST_FEATURES)) return false;
  }
  return true;
}

/* Views and conversions are read where they are used. The rotation of a step's query is made again for every
 * split of the keys, which is less than a launch. */
static bool prologue(const tn_cuda_ask *a) {
  tn_type_info t = tn_cuda_type_of(a, a->ir->op_result(a->m, a->op, 0));
  if (!strcmp(a->name, "kv_update")) return tn_cuda_att_step_takes(a);
  if (!strcmp(a->name, "rope")) return tn_cuda_att_step_makes(a);
  return t.dtype < TN_DT_BLOCK && (tn_ll_is_view(a->name) || !strcmp(a->name, "cast"));
}

static const char *const roots[] = {"attention", NULL};
const tn_cuda_skeleton tn_cuda_skeleton_attention = {.roots = roots,
                                                     .claim = claim,
                                                     .prologue = prologue,
                                                     .epilogue = tn_cuda_takes_elementwise,
                                                     .emit = emit};
