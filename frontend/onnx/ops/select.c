/* select.c - ops that choose elements by their values, so that only the run knows how many: the IR op gives
 * all that there could be and a count, which let_dim makes a size. */
#include "frontend/onnx/ops/rows.h"

/* The first `count` rows of v. */
static tn_value first_rows(tn_ox *x, tn_value v, tn_dim count) {
  return tn_ox_slice(x, v, 0, tn_ox_d(x, 0), count, 1);
}
static tn_value scalar(tn_ox *x, tn_value v) {
  return v && tn_ox_rank(x, v) ? tn_ox_reshape(x, v, NULL, 0) : v;
}

/* Row-major positions of what is not zero in v: [count]. */
static tn_value positions(tn_ox *x, tn_value v, tn_dim *count) {
  tn_op op = v ? tn_ox_make_op(x, "nonzero", &v, 1, NULL) : 0;
  tn_value all = tn_ox_result(x, op, 0);
  if (!all) return 0;
  *count = tn_ox_let_dim(x, tn_ox_result(x, op, 1), tn_ox_dim(x, all, 0), "nonzero");
  return first_rows(x, all, *count);
}

tn_status tn_ox_lower_nonzero(tn_ox *x, tn_ox_node *n) {
  tn_value v = tn_ox_in(x, n, 0), parts[TN_MAX_RANK];
  tn_dim dims[TN_MAX_RANK] = {tn_ox_d(x, 1)}, count;
  uint32_t rank = tn_ox_rank(x, v);
  if (rank) tn_ox_dims(x, v, dims);
  if (!rank) rank = 1; /* a scalar is a vector of one element */
  tn_value at = positions(x, v, &count);
  if (!at) return tn_ox_out(x, n, 0, 0);
  for (uint32_t i = 0; i < rank; i++) {
    tn_dim stride = tn_ox_dproduct(x, dims, i + 1, rank);
    parts[i] = i + 1 < rank ? tn_ox_binary(x, "div", at, tn_ox_dim_value(x, stride)) : at;
    if (i) parts[i] = tn_ox_binary(x, "mod", parts[i], tn_ox_dim_value(x, dims[i]));
    parts[i] = tn_ox_unsqueeze(x, parts[i], 0);
  }
  return tn_ox_out(x, n, 0, tn_ox_concat(x, parts, rank, 0));
}

tn_status tn_ox_lower_compress(tn_ox *x, tn_ox_node *n) {
  tn_value v = tn_ox_in(x, n, 0);
  tn_dim count;
  bool whole = !tn_ox_has_attr(n, "axis");
  if (whole) v = tn_ox_flat(x, v);
  uint32_t axis = whole ? 0 : tn_ox_axis(x, n, tn_ox_int(n, "axis", 0), tn_ox_rank(x, v));
  tn_value at = positions(x, tn_ox_in(x, n, 1), &count);
  return tn_ox_out(x, n, 0, tn_ox_gather(x, v, at, axis));
}

/* Axis `axis` first, the others in their order. */
static tn_value axis_first(tn_ox *x, tn_value v, uint32_t axis) {
  int64_t perm[TN_MAX_RANK] = {axis};
  for (uint32_t i = 0, k = 1; i < tn_ox_rank(x, v); i++)
    if (i != axis) perm[k++] = i;
  return tn_ox_transpose(x, v, perm);
}

tn_status tn_ox_lower_unique(tn_ox *x, tn_ox_node *n) {
  tn_value v = tn_ox_in(x, n, 0);
  bool whole = !tn_ox_has_attr(n, "axis");
  if (!v || tn_ox_failed(x)) return tn_ox_out(x, n, 0, 0);
  if (whole) v = tn_ox_flat(x, v);
  uint32_t axis = whole ? 0 : tn_ox_axis(x, n, tn_ox_int(n, "axis", 0), tn_ox_rank(x, v));
  if (tn_ox_failed(x)) return tn_ox_out(x, n, 0, 0);
  tn_value rows = axis_first(x, v, axis);
  if (tn_ox_dtype(x, rows) == TN_DT_bool) rows = tn_ox_cast(x, rows, TN_DT_u8);
  tn_op op = rows ? tn_ox_make_op(x, "unique", &rows, 1,
                                  TN_OX_ATTRS(TN_OX_BOOL("sorted", tn_ox_int(n, "sorted", 1))))
                  : 0;
  if (!op) return tn_ox_out(x, n, 0, 0);
  tn_dim count = tn_ox_let_dim(x, tn_ox_result(x, op, 3), tn_ox_dim(x, v, axis), "unique");
  tn_value first = first_rows(x, tn_ox_result(x, op, 0), count);
  tn_value all[] = {tn_ox_gather(x, v, first, axis), first, tn_ox_result(x, op, 1),
                    first_rows(x, tn_ox_result(x, op, 2), count)};
  tn_status status = TN_OK;
  for (uint32_t i = 0; i < TN_COUNT(all) && !status; i++)
    if (tn_ox_wants(n, i)) status = tn_ox_out(x, n, i, all[i]);
  return status;
}

/* The order is the same whether asked for or not. */
tn_status tn_ox_lower_top_k(tn_ox *x, tn_ox_node *n) {
  tn_value v = tn_ox_in(x, n, 0);
  uint32_t axis = tn_ox_axis(x, n, tn_ox_int(n, "axis", -1), tn_ox_rank(x, v)), count;
  tn_dim k = tn_ox_version(n) < 10 ? tn_ox_d(x, tn_ox_int(n, "k", 0)) : 0;
  if (!k && !tn_ox_now_dims(x, tn_ox_in(x, n, 1), &k, 1, &count)) return tn_ox_out(x, n, 0, 0);
  if (tn_ox_failed(x)) return tn_ox_out(x, n, 0, 0);
  tn_op op = tn_ox_int(n, "largest", 1)
                 ? tn_ox_make_op(x, "top_k", &v, 1, TN_OX_ATTRS(TN_OX_DIM("k", k), TN_OX_INT("axis", axis)))
                 : tn_ox_make_op(x, "sort", &v, 1, TN_OX_ATTRS(TN_OX_INT("axis", axis)));
  for (uint32_t i = 0; i < 2; i++) {
    if (i && !tn_ox_wants(n, i)) break;
    tn_value r = tn_ox_result(x, op, i);
    if (r) r = tn_ox_slice(x, r, axis, tn_ox_d(x, 0), k, 1);
    TN_TRY(tn_ox_out(x, n, i, r));
  }
  return TN_OK;
}

tn_status tn_ox_lower_nms(tn_ox *x, tn_ox_node *n) {
  tn_value in[5];
  uint32_t count;
  int64_t limit = INT64_MAX;
  for (uint32_t i = 0; i < 5; i++) in[i] = i < 2 ? tn_ox_in(x, n, i) : scalar(x, tn_ox_in(x, n, i));
  if (!in[2]) limit = 0;
  if (in[2]) tn_ox_known_ints(x, in[2], &limit, 1, &count);
  tn_dim most = tn_ox_dim(x, in[1], 2);
  if (limit < INT32_MAX) most = tn_ox_dmin(x, most, tn_ox_d(x, limit < 0 ? 0 : limit));
  tn_dim rows = tn_ox_dmul(x, tn_ox_dmul(x, tn_ox_dim(x, in[1], 0), tn_ox_dim(x, in[1], 1)), most);
  if (tn_ox_failed(x)) return tn_ox_out(x, n, 0, 0);
  tn_op op = tn_ox_make_op(
      x, "nms", in, 5,
      TN_OX_ATTRS(TN_OX_DIM("rows", rows), TN_OX_BOOL("center", tn_ox_int(n, "center_point_box", 0) != 0)));
  if (!op) return tn_ox_out(x, n, 0, 0);
  tn_dim found = tn_ox_let_dim(x, tn_ox_result(x, op, 1), rows, "selected");
  return tn_ox_out(x, n, 0, first_rows(x, tn_ox_result(x, op, 0), found));
}
