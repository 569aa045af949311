/* index.c - x[...]: items of lists, and slices of tensors. Positions that pick one element lose their axis;
 * `new` adds an axis of size 1; all reshaping is gathered into one op at the end. */
#include "frontend/describe/eval.h"

static tn_val list_index(tn_eval *ev, const tn_expr *e, tn_vals list) {
  const tn_index *x = &e->u.index.items[0];
  int64_t n = list.count, from = 0, to = n;
  if (e->u.index.count != 1 || x->kind == TN_IX_NEW)
    return tn_eval_fail(ev, "a list is asked for one item or one range");
  tn_val a = x->from ? tn_eval_expr(ev, x->from) : tn_val_int(0),
         b = x->to ? tn_eval_expr(ev, x->to) : tn_val_int(n);
  if (a.kind == TN_V_BAD || b.kind == TN_V_BAD) return tn_val_bad();
  if (a.kind != TN_V_INT || b.kind != TN_V_INT)
    return tn_eval_fail(ev, "a list is asked with %s: expected a whole number", tn_val_show(ev, a));
  from = a.u.i < 0 ? a.u.i + n : a.u.i;
  to = b.u.i < 0 ? b.u.i + n : b.u.i;
  if (x->kind == TN_IX_AT) to = from;
  if (from < 0 || to > n || from > to || (x->kind == TN_IX_AT && from >= n))
    return tn_eval_fail(ev, "item %lld of a list of %lld", (long long)a.u.i, (long long)n);
  return x->kind == TN_IX_AT ? list.items[from] : tn_val_list(ev, list.items + from, (uint32_t)(to - from));
}

/* An index as a dim of the axis: -1 is the last. */
static tn_dim index_dim(tn_eval *ev, const tn_expr *e, tn_dim size) {
  tn_val v = tn_eval_expr(ev, e);
  if (v.kind == TN_V_BAD) return 0;
  tn_dim d = tn_val_to_dim(ev, v);
  if (!d)
    return tn_eval_fail(ev, "an index is %s: expected a whole number or a dim", tn_val_show(ev, v)),
           (tn_dim)0;
  return v.kind == TN_V_INT && v.u.i < 0 ? ev->ir->dim_make(ev->m, TN_DIM_ADD, size, d) : d;
}

static tn_val slice(tn_eval *ev, tn_val x, uint32_t axis, tn_dim from, tn_dim to) {
  int64_t a, b, n;
  tn_dim size = tn_val_type(ev, x).dims[axis];
  bool known = ev->ir->dim_is_const(ev->m, from, &a) && ev->ir->dim_is_const(ev->m, to, &b);
  if (known && (a < 0 || a > b || (ev->ir->dim_is_const(ev->m, size, &n) && b > n)))
    return tn_eval_fail(ev, "slice %lld .. %lld of axis %u, whose size is %s", (long long)a, (long long)b,
                        axis, tn_dim_show(ev, size));
  if (known && a == 0 && to == size) return x;
  tn_named_attr attrs[3] = {{"axis", {.kind = TN_ATTR_INT, .u.i = axis}},
                            {"start", {.kind = TN_ATTR_DIM, .u.dim = from}},
                            {"stop", {.kind = TN_ATTR_DIM, .u.dim = to}}};
  return tn_make_op(ev, "slice", &x.u.tensor, 1, attrs, 3);
}

static tn_val index_one(tn_eval *ev, tn_val x, uint32_t axis, const tn_index *item) {
  tn_dim size = tn_val_type(ev, x).dims[axis], one = ev->ir->dim_const(ev->m, 1);
  if (item->kind == TN_IX_RANGE && !item->from && !item->to) return x;
  tn_dim from = item->from ? index_dim(ev, item->from, size) : ev->ir->dim_const(ev->m, 0), to = size;
  if (!from) return tn_val_bad();
  if (item->kind == TN_IX_AT)
    to = ev->ir->dim_make(ev->m, TN_DIM_ADD, from, one);
  else if (item->to)
    to = index_dim(ev, item->to, size);
  return to ? slice(ev, x, axis, from, to) : tn_val_bad();
}

static tn_val tensor_index(tn_eval *ev, const tn_expr *e, tn_val x) {
  tn_dim dims[TN_MAX_RANK];
  uint32_t axis = 0, rank = 0;
  bool changed = false;
  for (uint32_t i = 0; i < e->u.index.count; i++) axis += e->u.index.items[i].kind != TN_IX_NEW;
  if (axis > tn_val_type(ev, x).rank) return tn_eval_fail(ev, "%u indices for %s", axis, tn_val_show(ev, x));
  axis = 0;
  for (uint32_t i = 0; i < e->u.index.count; i++) {
    const tn_index *item = &e->u.index.items[i];
    if (rank == TN_MAX_RANK) return tn_eval_fail(ev, "more than %d dims", TN_MAX_RANK);
    if (item->kind == TN_IX_NEW) {
      dims[rank++] = ev->ir->dim_const(ev->m, 1);
      changed = true;
      continue;
    }
    x = index_one(ev, x, axis, item);
    if (x.kind != TN_V_TENSOR) return x;
    if (item->kind == TN_IX_AT)
      changed = true;
    else
      dims[rank++] = tn_val_type(ev, x).dims[axis];
    axis++;
  }
  tn_type_info t = tn_val_type(ev, x);
  for (; axis < t.rank; axis++) {
    if (rank == TN_MAX_RANK) return tn_eval_fail(ev, "more than %d dims", TN_MAX_RANK);
    dims[rank++] = t.dims[axis];
  }
  return changed ? tn_make_reshape(ev, x, dims, rank) : x;
}

tn_val tn_eval_index(tn_eval *ev, const tn_expr *e, tn_val base) {
  if (base.kind == TN_V_LIST) return list_index(ev, e, base.u.list);
  if (base.kind == TN_V_TENSOR) return tensor_index(ev, e, base);
  if (base.kind == TN_V_BAD || base.kind == TN_V_MISSING) return base;
  return tn_eval_fail(ev, "%s has no items", tn_val_show(ev, base));
}
