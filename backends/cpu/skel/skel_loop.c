/* skel_loop.c - kernels of elementwise and view ops: walk the index space of the results, one vector of the
 * last axis at a time, and evaluate every result there. Results of one shape share a walk. Where no op looks
 * at single coordinates, the space is walked as one line. */
#include "backends/cpu/kernel.h"
#include "backends/llvm/convert.h"
#include "backends/llvm/groups.h"

/* ---- one walk ---- */
typedef struct walk {
  const tn_type_info *t;
  const bool *mine; /* which yields belong to it */
  const tn_cpu_rows *rows;
  uint32_t axis; /* the axis of the lanes; axes behind it have size 1 */
} walk;

typedef struct packed {
  tn_value v;
  tn_type_info t;
  ll_val out, bytes; /* bytes: of the result */
} packed;

static void store(tn_cpu_kernel *k, const walk *w, const tn_ll_index *ix) {
  for (uint32_t i = 0; i < k->nyields; i++)
    if (w->mine[i])
      tn_ll_store_at(&k->body, k->yields[i], k->outs[i], ix, tn_ll_eval(&k->body, k->yields[i], ix));
}

static void line_column(tn_cpu_kernel *k, void *ctx, tn_ll_ix j, ll_val mask, ll_val *acc) {
  const walk *w = ctx;
  (void)acc;
  tn_ll_index ix = {.rank = w->t->rank, .collapsed = 1, .line = j, .mask = mask, .shape = w->t->dims};
  store(k, w, &ix);
}
static void row_column(tn_cpu_kernel *k, void *ctx, tn_ll_ix j, ll_val mask, ll_val *acc) {
  const walk *w = ctx;
  (void)acc;
  tn_ll_index ix = {.rank = w->t->rank, .mask = mask, .shape = w->t->dims};
  if (w->axis + 1 == w->t->rank) ix.flat = w->rows->flat;
  for (uint32_t i = 0; i < w->t->rank; i++)
    ix.at[i] = i < w->axis ? w->rows->at[i] : tn_ll_ix_scalar(ll_k(k->e, 0));
  ix.at[w->axis] = j;
  store(k, w, &ix);
}

/* Elements of 4 or 2 bits: a vector of them makes whole bytes, so threads meet at bytes only if the space is
 * walked as one line, from which the coordinates are taken apart again. */
static void packed_column(tn_cpu_kernel *k, void *ctx, tn_ll_ix j, ll_val mask, ll_val *acc) {
  const packed *p = ctx;
  tn_ll *e = k->e;
  (void)acc;
  ll_val line = j.v;
  tn_ll_index ix = {.rank = p->t.rank, .mask = mask, .shape = p->t.dims};
  for (uint32_t i = p->t.rank; i-- > 1;)
    j = tn_ll_ix_div(&k->body, j, tn_ll_dim(&k->body, p->t.dims[i]), &ix.at[i]);
  if (p->t.rank) ix.at[0] = j;
  if (!tn_ll_index_vec(&ix)) ix.mask = NULL;
  ll_val v = ll_wide(e, tn_ll_eval(&k->body, p->v, &ix), true);
  uint32_t bits = tn_ll_dtype_of(p->t.dtype).packed, per = 8 / bits, bytes = e->lanes / per;
  if (mask) v = ll_select(e, mask, v, ll_zero(LLVMTypeOf(v)));
  v = LLVMBuildTrunc(e->b, v, ll_vec(e, LLVMIntTypeInContext(e->ctx, bits)), "");
  v = ll_cast_bits(e, v, LLVMVectorType(e->i8, bytes));
  ll_val first = ll_lshr(e, line, ll_k(e, __builtin_ctz(per)));
  for (uint32_t i = 0; i < bytes; i++) {
    ll_val at = ll_iadd(e, first, ll_k(e, i));
    ll_if in;
    if (mask) ll_if_begin(e, &in, ll_icmp(e, LLVMIntSLT, at, p->bytes));
    ll_store(e, ll_lane(e, v, i), ll_at(e, p->out, at), 1);
    if (mask) ll_if_end(e, &in);
  }
}

/* This thread's columns of n, in whole vectors. */
static void share_columns(tn_cpu_kernel *k, ll_val n, ll_val *lo, ll_val *hi) {
  tn_ll *e = k->e;
  ll_val w = ll_k(e, e->lanes);
  tn_cpu_share(k, ll_ceildiv(e, n, w), lo, hi);
  *lo = ll_mul(e, *lo, w);
  *hi = ll_imin(e, ll_mul(e, *hi, w), n);
}

static void walk_line(tn_cpu_kernel *k, walk *w) {
  ll_val lo, hi;
  share_columns(k, tn_ll_dims(&k->body, w->t->dims, 0, w->t->rank), &lo, &hi);
  tn_cpu_columns(k, lo, hi, line_column, w, NULL, 0);
}

static void walk_scalar(tn_cpu_kernel *k, walk *w) {
  ll_if first;
  ll_if_begin(k->e, &first, ll_icmp(k->e, LLVMIntEQ, k->thread, ll_k(k->e, 0)));
  tn_ll_index ix = {.rank = w->t->rank, .shape = w->t->dims};
  for (uint32_t i = 0; i < w->t->rank; i++) ix.at[i] = tn_ll_ix_scalar(ll_k(k->e, 0));
  tn_ll_body_forget(&k->body);
  store(k, w, &ix);
  ll_if_end(k->e, &first);
  tn_ll_body_forget(&k->body);
}

static void walk_rows(tn_cpu_kernel *k, walk *w) {
  tn_ll *e = k->e;
  ll_val sizes[TN_MAX_RANK], lo, hi, n = tn_ll_dim(&k->body, w->t->dims[w->axis]);
  int64_t one;
  for (uint32_t i = 0; i < w->axis; i++) sizes[i] = tn_ll_dim(&k->body, w->t->dims[i]);
  ll_val outer = tn_ll_dims(&k->body, w->t->dims, 0, w->axis);
  tn_cpu_rows rows;
  w->rows = &rows;
  bool wide = ll_const(outer, &one) && one == 1;
  if (wide)
    lo = ll_k(e, 0), hi = ll_k(e, 1);
  else
    tn_cpu_share(k, outer, &lo, &hi);
  tn_cpu_rows_begin(k, &rows, sizes, w->axis, lo, hi);
  lo = ll_k(e, 0);
  hi = n;
  if (wide) share_columns(k, n, &lo, &hi);
  tn_cpu_columns(k, lo, hi, row_column, w, NULL, 0);
  tn_cpu_rows_end(k, &rows);
}

static void walk_packed(tn_cpu_kernel *k, tn_value v, ll_val out) {
  tn_ll *e = k->e;
  packed p = {.v = v, .t = tn_cpu_type(k, v), .out = out};
  ll_val n = tn_ll_dims(&k->body, p.t.dims, 0, p.t.rank), lo, hi;
  p.bytes = ll_ceildiv(e, n, ll_k(e, 8 / tn_ll_dtype_of(p.t.dtype).packed));
  share_columns(k, n, &lo, &hi);
  tn_cpu_columns(k, lo, hi, packed_column, &p, NULL, 0);
}

void tn_cpu_emit_loop(tn_cpu_kernel *k) {
  bool done[TN_LL_MAX_OUT] = {false};
  for (uint32_t i = 0; i < k->nyields; i++) {
    if (done[i]) continue;
    tn_type_info t = tn_cpu_type(k, k->yields[i]);
    if (t.dtype >= TN_DT_BLOCK) {
      tn_cpu_copy_blocks(k, k->yields[i], k->outs[i]);
      continue;
    }
    if (tn_ll_dtype_of(t.dtype).packed) {
      walk_packed(k, k->yields[i], k->outs[i]);
      continue;
    }
    bool mine[TN_LL_MAX_OUT] = {false}, line = true;
    for (uint32_t j = i; j < k->nyields; j++) {
      tn_type_info other = tn_cpu_type(k, k->yields[j]);
      bool packs = other.dtype >= TN_DT_BLOCK || tn_ll_dtype_of(other.dtype).packed;
      mine[j] = !packs && tn_ll_same_dims(&t, &other);
      done[j] = done[j] || mine[j];
      if (mine[j]) line = line && tn_ll_is_line(&k->body, k->yields[j], &t);
    }
    walk w = {.t = &t, .mine = mine};
    int64_t n;
    w.axis = t.rank;
    while (w.axis && k->u->ir->dim_is_const(k->u->m, t.dims[w.axis - 1], &n) && n == 1) w.axis--;
    if (!w.axis)
      walk_scalar(k, &w);
    else if (line)
      walk_line(k, &w);
    else
      w.axis--, walk_rows(k, &w);
  }
}
