/* skel_matmul64.c - matrix products with an operand of f64: rows of the result are shared out, lanes lie
 * along its columns, and k is one loop. Correct for every shape and any float operand beside the f64 one;
 * nobody multiplies in f64 for speed. */
#include "backends/cpu/kernel.h"
#include "backends/llvm/convert.h"

typedef struct wide {
  tn_cpu_kernel *k;
  tn_value lhs, rhs, out;
  tn_type_info tl, tr, to;
  bool trans_a, trans_b;
  tn_cpu_rows rows; /* over all dims of the result but the last */
  ll_val sum;       /* of the columns being made */
} wide;

/* An operand at (row, column) of its matrix, before a transpose; leading dims broadcast from the right. */
static ll_val element(wide *w, tn_value v, const tn_type_info *t, bool trans, tn_ll_ix row, tn_ll_ix column,
                      ll_val mask) {
  tn_ll_body *b = &w->k->body;
  tn_ll_index ix = {.rank = t->rank};
  for (uint32_t i = 0; i + 2 < t->rank; i++) {
    int64_t n;
    bool one = tn_ll_dim_const(b, t->dims[i], &n) && n == 1;
    ix.at[i] = one ? tn_ll_ix_scalar(ll_k(w->k->e, 0)) : w->rows.at[i + w->to.rank - t->rank];
  }
  ix.at[t->rank - 2] = trans ? column : row;
  ix.at[t->rank - 1] = trans ? row : column;
  if (tn_ll_index_vec(&ix)) ix.mask = mask;
  return tn_ll_convert(w->k->e, t->dtype, TN_DT_f64, tn_ll_eval(b, v, &ix));
}

static ll_val give_sum(void *ctx, const tn_ll_index *ix) {
  wide *w = ctx;
  (void)ix;
  return tn_ll_convert(w->k->e, TN_DT_f64, w->to.dtype, w->sum);
}

static void column(tn_cpu_kernel *k, void *ctx, tn_ll_ix j, ll_val mask, ll_val *none) {
  wide *w = ctx;
  tn_ll *e = k->e;
  (void)none;
  ll_val zero = ll_zero(ll_vec(e, e->f64)), depth;
  depth = tn_ll_dim(&k->body, w->tl.dims[w->tl.rank - (w->trans_a ? 2 : 1)]);
  ll_loop l;
  ll_loop_begin(e, &l, ll_k(e, 0), depth, ll_k(e, 1), &zero, 1);
  tn_ll_body_forget(&k->body);
  tn_ll_ix at = tn_ll_ix_scalar(l.iv), row = w->rows.at[w->to.rank - 2];
  ll_val x = element(w, w->lhs, &w->tl, w->trans_a, row, at, NULL);
  ll_val y = element(w, w->rhs, &w->tr, w->trans_b, at, j, mask);
  ll_val next = ll_fma(e, ll_wide(e, x, true), ll_wide(e, y, true), l.phi[0]);
  ll_loop_end(e, &l, &next);
  tn_ll_body_forget(&k->body);
  w->sum = l.out[0];
  tn_ll_index ix = tn_cpu_row_index(&w->rows, &w->to, j, mask);
  tn_cpu_store_yields(k, &ix);
}

void tn_cpu_emit_matmul64(tn_cpu_kernel *k) {
  wide w = {.k = k, .lhs = tn_cpu_operand(k, 0), .rhs = tn_cpu_operand(k, 1), .out = tn_cpu_result(k, 0)};
  w.tl = tn_cpu_type(k, w.lhs);
  w.tr = tn_cpu_type(k, w.rhs);
  w.to = tn_cpu_type(k, w.out);
  w.trans_a = tn_ll_attr_int(&k->body, k->root, "trans_a");
  w.trans_b = tn_ll_attr_int(&k->body, k->root, "trans_b");
  tn_ll_body_give(&k->body, w.out, give_sum, &w);
  ll_val sizes[TN_MAX_RANK], lo, hi;
  uint32_t outer = w.to.rank - 1;
  for (uint32_t i = 0; i < outer; i++) sizes[i] = tn_ll_dim(&k->body, w.to.dims[i]);
  tn_cpu_share(k, tn_ll_dims(&k->body, w.to.dims, 0, outer), &lo, &hi);
  tn_cpu_rows_begin(k, &w.rows, sizes, outer, lo, hi);
  tn_cpu_columns(k, ll_k(k->e, 0), tn_ll_dim(&k->body, w.to.dims[outer]), column, &w, NULL, 0);
  tn_cpu_rows_end(k, &w.rows);
}
