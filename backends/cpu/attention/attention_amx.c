/* attention_amx.c - attention's products in tile registers (AMX): 32 rows times two panels of pairs of bf16,
 * over all of the sum. One function each for scores and for the weighted sum, shared by all kernels of the
 * module, goes over all columns of a tile of rows.
 *
 * A step of a sum reads 32 values of each row, whatever the head's size. What is behind it is 0 on both
 * sides, for 0 times a number that nobody wrote may be a NaN: panels of keys end in zeros anyway, and
 * tn_cpu_att_amx_clear makes those of the queries. Keys behind a block's last weigh 0, and their places among
 * the values hold its last key. */
#include "backends/cpu/attention/attention.h"
#include "backends/cpu/ukernel/ukernel_amx.h"

#define GROUP_BYTES (TN_CPU_AMX_PANELS * TN_CPU_PANEL * 4) /* of a row of sums */

enum { ROWS, COLUMNS, STEPS, A, A_STRIDE, B, PANEL_STRIDE, C, C_STRIDE, ALPHA, ARGS };

/* Rows of C times their factors; two panels wide. */
static void scale_rows(tn_ll *e, const ll_val *p, ll_val c) {
  ll_type t = ll_vec(e, e->f32);
  ll_loop l;
  ll_loop_begin(e, &l, ll_k(e, 0), p[ROWS], ll_k(e, 1), NULL, 0);
  ll_val alpha = ll_splat(e, ll_load(e, e->f32, ll_at(e, p[ALPHA], ll_mul(e, l.iv, ll_k(e, 4))), 4));
  ll_val row = ll_at(e, c, ll_mul(e, l.iv, p[C_STRIDE]));
  for (uint32_t at = 0; at < GROUP_BYTES; at += 4 * e->lanes) {
    ll_val x = ll_at(e, row, ll_k(e, at));
    ll_store(e, ll_fmul(e, ll_load(e, t, x, 4), alpha), x, 4);
  }
  ll_loop_end(e, &l, NULL);
}

/* Sums of two panels. */
static void write_group(tn_cpu_kernel *k, const ll_val *p, const tn_cpu_amx_sums *s, ll_val c, bool add) {
  tn_ll *e = k->e;
  ll_loop l;
  if (add)
    tn_cpu_amx_load(k, s->tiles, c, p[C_STRIDE]);
  else
    tn_cpu_amx_zero(k, s->tiles);
  ll_loop_begin(e, &l, ll_k(e, 0), p[STEPS], ll_k(e, 1), NULL, 0);
  tn_cpu_amx_step(k, s, l.iv);
  ll_loop_end(e, &l, NULL);
  tn_cpu_amx_store(k, s->tiles, c, p[C_STRIDE]);
}

static void write_columns(tn_cpu_kernel *k, const ll_val *p, uint32_t tiles, bool add) {
  tn_ll *e = k->e;
  tn_cpu_amx_sums s = {"llvm.x86.tdpbf16ps", tiles, p[A], p[A_STRIDE], {0}};
  ll_loop l;
  ll_loop_begin(e, &l, ll_k(e, 0), p[COLUMNS], ll_k(e, TN_CPU_AMX_PANELS * TN_CPU_PANEL), NULL, 0);
  ll_val panel = ll_lshr(e, l.iv, ll_k(e, 4)), c = ll_at(e, p[C], ll_mul(e, l.iv, ll_k(e, 4)));
  for (uint32_t j = 0; j < TN_CPU_AMX_PANELS; j++)
    s.panel[j] = ll_at(e, p[B], ll_mul(e, ll_add(e, panel, ll_k(e, j)), p[PANEL_STRIDE]));
  if (add) scale_rows(e, p, c);
  write_group(k, p, &s, c, add);
  ll_loop_end(e, &l, NULL);
}

static ll_val write_product(tn_cpu_kernel *k, const char *name, bool add) {
  tn_ll *e = k->e;
  tn_cpu_shared shared = tn_cpu_shared_begin(k->u);
  ll_type types[ARGS] = {e->i64, e->i64, e->i64, e->ptr, e->i64, e->ptr, e->i64, e->ptr, e->i64, e->ptr};
  ll_val fn = ll_func(e, name, e->tvoid, types, ARGS, true, true), p[ARGS];
  ll_func_attr(e, fn, "prefer-vector-width", k->u->isa->vector_width);
  LLVMGetParams(fn, p);
  ll_if one;
  ll_if_begin(e, &one, ll_icmp(e, LLVMIntSLE, p[ROWS], ll_k(e, TN_CPU_AMX_TILE)));
  write_columns(k, p, 1, add);
  ll_if_else(e, &one);
  write_columns(k, p, 2, add);
  ll_if_end(e, &one);
  LLVMBuildRetVoid(e->b);
  return tn_cpu_shared_end(k->u, &shared, fn);
}

void tn_cpu_att_amx_call(tn_cpu_kernel *k, ll_val rows, ll_val columns, const tn_cpu_att_tile *t) {
  tn_ll *e = k->e;
  const char *name = t->alpha ? "attend_amx_add" : "attend_amx";
  ll_val fn = tn_cpu_shared_find(k->u, name);
  if (!fn) fn = write_product(k, name, t->alpha);
  ll_val steps = ll_lshr(e, ll_iadd(e, t->steps, ll_k(e, TN_CPU_AMX_TILE - 1)), ll_k(e, 4));
  ll_val args[ARGS] = {rows, columns,         steps, t->a,        t->a_stride,
                       t->b, t->panel_stride, t->c,  t->c_stride, t->alpha ? t->alpha : t->c};
  LLVMBuildCall2(e->b, LLVMGlobalGetValueType(fn), fn, args, ARGS, "");
}

void tn_cpu_att_amx_clear(tn_cpu_att *a) {
  tn_ll *e = a->k->e;
  ll_loop rows, l;
  int64_t d;
  uint32_t bytes = 2 * e->lanes;
  if (ll_const(a->d, &d) && tn_align_up((uint64_t)d, e->lanes) * 2 % TN_CPU_AMX_LINE == 0) return;
  ll_val written = ll_mul(e, ll_ceildiv(e, a->d, ll_k(e, e->lanes)), ll_k(e, bytes));
  ll_loop_begin(e, &rows, ll_k(e, 0), a->nrows, ll_k(e, 1), NULL, 0);
  ll_val row = ll_at(e, a->qs, ll_mul(e, rows.iv, a->q_stride));
  ll_loop_begin(e, &l, written, a->q_stride, ll_k(e, bytes), NULL, 0);
  ll_store(e, ll_zero(ll_vec(e, e->i16)), ll_at(e, row, l.iv), 2);
  ll_loop_end(e, &l, NULL);
  ll_loop_end(e, &rows, NULL);
  tn_ll_body_forget(&a->k->body);
}
