/* index.c - gathering and scattering by index tensors. What has several indices per element is brought down
 * to one: the row-major number of a row, made from the indices and the sizes, which gather and scatter take.
 * An index out of its axis becomes one behind all rows: it gathers zeros and scatters nothing. */
#include "frontend/onnx/lower.h"
#include "frontend/onnx/ops/rows.h"

static tn_value times(tn_ox *x, tn_value v, tn_dim d) {
  int64_t k;
  if (tn_ox_dconst(x, d, &k) && k == 1) return v;
  return tn_ox_binary(x, "mul", v, tn_ox_dim_value(x, d));
}

/* Adds `index` (into an axis of size n, steps of `stride` rows apart) to r; an axis that counts is always
 * inside. */
static void add_index(tn_ox *x, tn_ox_rows *r, tn_value index, tn_dim n, tn_dim stride, bool counts) {
  if (!counts) {
    tn_value zero = tn_ox_scalar_int(x, TN_DT_i64, 0), size = tn_ox_dim_value(x, n);
    index = tn_ox_cast(x, index, TN_DT_i64);
    index = tn_ox_select(x, tn_ox_compare(x, "lt", index, zero), tn_ox_binary(x, "add", index, size), index);
    tn_value inside =
        tn_ox_binary(x, "and", tn_ox_compare(x, "ge", index, zero), tn_ox_compare(x, "lt", index, size));
    r->inside = r->inside ? tn_ox_binary(x, "and", r->inside, inside) : inside;
  }
  index = times(x, index, stride);
  r->flat = r->flat ? tn_ox_binary(x, "add", r->flat, index) : index;
}

void tn_ox_rows_index(tn_ox *x, tn_ox_rows *r, tn_value index, tn_dim n, tn_dim stride) {
  add_index(x, r, index, n, stride, false);
}
void tn_ox_rows_count(tn_ox *x, tn_ox_rows *r, const tn_dim *dims, uint32_t rank, uint32_t axis,
                      tn_dim stride) {
  tn_dim one[TN_MAX_RANK];
  for (uint32_t i = 0; i < rank; i++) one[i] = i == axis ? dims[i] : tn_ox_d(x, 1);
  add_index(x, r, tn_ox_iota(x, TN_DT_i64, one, rank, axis), 0, stride, true);
}
tn_value tn_ox_rows_flat(tn_ox *x, const tn_ox_rows *r, tn_dim all) {
  return r->inside ? tn_ox_select(x, r->inside, r->flat, tn_ox_dim_value(x, all)) : r->flat;
}

/* ---- one index per row -------------------------------------------------------------------------------- */
tn_status tn_ox_lower_gather(tn_ox *x, tn_ox_node *n) {
  tn_value data = tn_ox_in(x, n, 0), indices = tn_ox_in(x, n, 1);
  uint32_t axis = tn_ox_axis(x, n, tn_ox_int(n, "axis", 0), tn_ox_rank(x, data));
  return tn_ox_out(x, n, 0, tn_ox_gather(x, data, indices, axis));
}

/* ---- one index per element ---------------------------------------------------------------------------- */
/* Where each element of `indices` lies in `data`, row-major. */
static tn_value element_index(tn_ox *x, tn_ox_node *n, tn_value data, tn_value indices) {
  tn_dim dims[TN_MAX_RANK], at[TN_MAX_RANK];
  uint32_t rank = tn_ox_rank(x, data), axis = tn_ox_axis(x, n, tn_ox_int(n, "axis", 0), rank);
  tn_ox_rows r = {0};
  if (tn_ox_failed(x)) return 0;
  if (tn_ox_rank(x, indices) != rank) {
    tn_ox_fail(x, n, "indices have rank %u, data has %u", tn_ox_rank(x, indices), rank);
    return 0;
  }
  tn_ox_dims(x, data, dims);
  tn_ox_dims(x, indices, at);
  for (uint32_t i = 0; i < rank; i++) {
    tn_dim stride = tn_ox_dproduct(x, dims, i + 1, rank);
    int64_t one;
    if (i == axis)
      tn_ox_rows_index(x, &r, indices, dims[i], stride);
    else if (!tn_ox_dconst(x, at[i], &one) || one != 1)
      tn_ox_rows_count(x, &r, at, rank, i, stride);
  }
  return tn_ox_rows_flat(x, &r, tn_ox_dproduct(x, dims, 0, rank));
}

tn_status tn_ox_lower_gather_elements(tn_ox *x, tn_ox_node *n) {
  tn_value data = tn_ox_in(x, n, 0), at = element_index(x, n, data, tn_ox_in(x, n, 1));
  return tn_ox_out(x, n, 0, tn_ox_gather(x, tn_ox_flat(x, data), at, 0));
}

/* ---- scatter ------------------------------------------------------------------------------------------ */
static tn_value scatter(tn_ox *x, tn_ox_node *n, tn_value data, tn_value at, tn_value updates) {
  static const char *const ways[] = {"none", "add", "mul", "min", "max"};
  const char *how = tn_ox_str(n, "reduction", "none");
  bool known = false;
  for (size_t i = 0; i < TN_COUNT(ways); i++) known |= !strcmp(ways[i], how);
  if (!known) tn_ox_fail(x, n, "reduction is '%s', wants none, add, mul, min or max", how);
  return tn_ox_make(x, "scatter", (tn_value[]){data, at, updates}, 3, TN_OX_ATTRS(TN_OX_STR("reduce", how)));
}

tn_status tn_ox_lower_scatter_elements(tn_ox *x, tn_ox_node *n) {
  tn_dim dims[TN_MAX_RANK], have[TN_MAX_RANK], want[TN_MAX_RANK];
  tn_value data = tn_ox_in(x, n, 0), indices = tn_ox_in(x, n, 1), updates = tn_ox_in(x, n, 2);
  uint32_t rank = tn_ox_rank(x, data);
  if (tn_ox_rank(x, updates) != tn_ox_rank(x, indices))
    return tn_ox_fail(x, n, "indices have rank %u, updates have %u", tn_ox_rank(x, indices),
                      tn_ox_rank(x, updates));
  tn_ox_dims(x, data, dims);
  tn_ox_dims(x, indices, want);
  tn_ox_dims(x, updates, have);
  for (uint32_t i = 0; i < tn_ox_rank(x, indices); i++) tn_ox_same(x, n, want[i], have[i]);
  tn_value at = tn_ox_flat(x, element_index(x, n, data, indices));
  tn_value made = scatter(x, n, tn_ox_flat(x, data), at, tn_ox_flat(x, updates));
  return tn_ox_out(x, n, 0, tn_ox_reshape(x, made, dims, rank));
}

/* ---- several indices per row -------------------------------------------------------------------------- */
/* indices [b..., m..., k] name rows of data [b..., d_1 ... d_k, rest...]: their numbers [b..., m...]. *rows:
 * how many there are. */
static tn_value tuple_index(tn_ox *x, tn_ox_node *n, tn_value data, tn_value indices, uint32_t batch,
                            int64_t k, tn_dim *rows) {
  tn_dim dims[TN_MAX_RANK], at[TN_MAX_RANK];
  uint32_t rank = tn_ox_rank(x, data), last = tn_ox_rank(x, indices) - 1;
  tn_ox_rows r = {0};
  if (tn_ox_failed(x)) return 0;
  tn_ox_dims(x, data, dims);
  tn_ox_dims(x, indices, at);
  if (!tn_ox_rank(x, indices) || batch > last || k < 0 || batch + k > (int64_t)rank) {
    tn_ox_fail(x, n, "indices of rank %u, %lld of them each, with %u batch dims, do not fit data of rank %u",
               last + 1, (long long)k, batch, rank);
    return 0;
  }
  tn_ox_same(x, n, at[last], tn_ox_d(x, k));
  *rows = tn_ox_dproduct(x, dims, 0, batch + (uint32_t)k);
  for (uint32_t i = 0; i < batch; i++) {
    tn_ox_same(x, n, dims[i], at[i]);
    tn_ox_rows_count(x, &r, at, last, i, tn_ox_dproduct(x, dims, i + 1, batch + (uint32_t)k));
  }
  for (uint32_t i = 0; i < k; i++) {
    tn_value one = tn_ox_slice(x, indices, last, tn_ox_d(x, i), tn_ox_d(x, i + 1), 1);
    tn_ox_rows_index(x, &r, tn_ox_squeeze(x, one, last), dims[batch + i],
                     tn_ox_dproduct(x, dims, batch + i + 1, batch + (uint32_t)k));
  }
  if (!k && !batch) return tn_ox_full(x, tn_ox_scalar_int(x, TN_DT_i64, 0), at, last);
  return tn_ox_rows_flat(x, &r, *rows);
}

/* data with its first k dims as one of size `rows`. */
static tn_value as_rows(tn_ox *x, tn_value data, uint32_t k, tn_dim rows, tn_dim *dims, uint32_t *rank) {
  tn_dim have[TN_MAX_RANK];
  uint32_t r = tn_ox_rank(x, data);
  tn_ox_dims(x, data, have);
  dims[0] = rows;
  *rank = r - k + 1;
  memcpy(dims + 1, have + k, (r - k) * sizeof *dims);
  return tn_ox_reshape(x, data, dims, *rank);
}

tn_status tn_ox_lower_gather_nd(tn_ox *x, tn_ox_node *n) {
  tn_dim rows = 0, dims[TN_MAX_RANK + 1];
  uint32_t rank;
  int64_t batch = tn_ox_int(n, "batch_dims", 0), k = -1;
  tn_value data = tn_ox_in(x, n, 0), indices = tn_ox_in(x, n, 1);
  if (indices && tn_ox_rank(x, indices) && !tn_ox_dconst(x, tn_ox_dim(x, indices, -1), &k))
    return tn_ox_refuse(x, n, "make the last size of the indices a constant",
                        "the rank of the result is not known");
  if (batch < 0 || batch > TN_MAX_RANK) return tn_ox_fail(x, n, "batch_dims is %lld", (long long)batch);
  tn_value at = tuple_index(x, n, data, indices, (uint32_t)batch, k, &rows);
  if (!at) return tn_ox_out(x, n, 0, 0);
  if (batch + k == 0 && tn_ox_rank(x, data) == TN_MAX_RANK)
    return tn_ox_refuse(x, n, NULL, "data of rank %d without indices", TN_MAX_RANK);
  return tn_ox_out(x, n, 0,
                   tn_ox_gather(x, as_rows(x, data, (uint32_t)(batch + k), rows, dims, &rank), at, 0));
}

tn_status tn_ox_lower_scatter_nd(tn_ox *x, tn_ox_node *n) {
  tn_dim rows = 0, dims[TN_MAX_RANK + 1], shape[TN_MAX_RANK];
  uint32_t rank;
  tn_value data = tn_ox_in(x, n, 0), indices = tn_ox_in(x, n, 1), updates = tn_ox_in(x, n, 2);
  int64_t k = (int64_t)tn_ox_rank(x, data) + tn_ox_rank(x, indices) - 1 - tn_ox_rank(x, updates);
  tn_value at = tuple_index(x, n, data, indices, 0, k, &rows);
  if (at) at = tn_ox_flat(x, at);
  if (!at) return tn_ox_out(x, n, 0, 0);
  if (!k && tn_ox_rank(x, data) == TN_MAX_RANK)
    return tn_ox_refuse(x, n, NULL, "data of rank %d without indices", TN_MAX_RANK);
  tn_ox_dims(x, data, shape);
  tn_value from = as_rows(x, data, (uint32_t)k, rows, dims, &rank);
  dims[0] = tn_ox_dim(x, at, 0);
  tn_value made = scatter(x, n, from, at, tn_ox_reshape(x, updates, dims, rank));
  return tn_ox_out(x, n, 0, tn_ox_reshape(x, made, shape, tn_ox_rank(x, data)));
}

/* ---- reversed sequences ------------------------------------------------------------------------------- */
tn_status tn_ox_lower_reverse_sequence(tn_ox *x, tn_ox_node *n) {
  tn_value v = tn_ox_in(x, n, 0), lengths = tn_ox_in(x, n, 1);
  int64_t time = tn_ox_int(n, "time_axis", 0), batch = tn_ox_int(n, "batch_axis", 1);
  tn_dim dims[TN_MAX_RANK], one[2] = {tn_ox_d(x, 1), tn_ox_d(x, 1)}, rows[TN_MAX_RANK];
  uint32_t rank = tn_ox_rank(x, v), made;
  if (rank < 2 || time + batch != 1 || time < 0 || time > 1)
    return tn_ox_fail(x, n, "time_axis %lld and batch_axis %lld of rank %u", (long long)time,
                      (long long)batch, rank);
  tn_ox_dims(x, v, dims);
  tn_ox_same(x, n, tn_ox_dim(x, lengths, 0), dims[batch]);
  one[time] = dims[time];
  tn_value t = tn_ox_iota(x, TN_DT_i64, one, 2, time), len = tn_ox_cast(x, lengths, TN_DT_i64);
  if (!batch) len = tn_ox_unsqueeze(x, len, 1);
  tn_value back = tn_ox_binary(x, "sub", tn_ox_binary(x, "sub", len, tn_ox_scalar_int(x, TN_DT_i64, 1)), t);
  tn_value at = tn_ox_select(x, tn_ox_compare(x, "lt", t, len), back, t);
  tn_ox_rows r = {0};
  tn_ox_rows_index(x, &r, at, dims[time], time ? tn_ox_d(x, 1) : dims[1]);
  tn_ox_rows_count(x, &r, dims, 2, (uint32_t)batch, batch ? tn_ox_d(x, 1) : dims[1]);
  tn_dim all = tn_ox_dproduct(x, dims, 0, 2);
  tn_value from = as_rows(x, v, 2, all, rows, &made);
  return tn_ox_out(x, n, 0, tn_ox_gather(x, from, tn_ox_rows_flat(x, &r, all), 0));
}

/* ---- by comparison with a counter --------------------------------------------------------------------- */
/* What gives a single number: a scalar, or one element of rank 1. */
static tn_value number(tn_ox *x, tn_value v) {
  return v && tn_ox_rank(x, v) ? tn_ox_reshape(x, v, NULL, 0) : v;
}

tn_status tn_ox_lower_one_hot(tn_ox *x, tn_ox_node *n) {
  tn_value at = tn_ox_cast(x, tn_ox_in(x, n, 0), TN_DT_i64), values = tn_ox_in(x, n, 2);
  tn_dim depth, dims[TN_MAX_RANK + 1];
  uint32_t count, rank = tn_ox_rank(x, at), axis = tn_ox_axis(x, n, tn_ox_int(n, "axis", -1), rank + 1);
  tn_value in = tn_ox_in(x, n, 1);
  if (tn_ox_is_float(x, in)) in = tn_ox_cast(x, in, TN_DT_i64);
  if (!tn_ox_now_dims(x, in, &depth, 1, &count) || tn_ox_failed(x)) return tn_ox_out(x, n, 0, 0);
  at = tn_ox_unsqueeze(x, at, axis);
  tn_value size = tn_ox_dim_value(x, depth), zero = tn_ox_scalar_int(x, TN_DT_i64, 0);
  at = tn_ox_select(x, tn_ox_compare(x, "lt", at, zero), tn_ox_binary(x, "add", at, size), at);
  for (uint32_t i = 0; i <= rank; i++) dims[i] = i == axis ? depth : tn_ox_d(x, 1);
  tn_value hot = tn_ox_compare(x, "eq", at, tn_ox_iota(x, TN_DT_i64, dims, rank + 1, axis));
  tn_value off = number(x, tn_ox_slice(x, values, 0, tn_ox_d(x, 0), tn_ox_d(x, 1), 1));
  tn_value on = number(x, tn_ox_slice(x, values, 0, tn_ox_d(x, 1), tn_ox_d(x, 2), 1));
  return tn_ox_out(x, n, 0, tn_ox_select(x, hot, on, off));
}

/* Column number minus row number, of the last two dims. */
static tn_value diagonal(tn_ox *x, const tn_dim *dims, uint32_t rank) {
  tn_dim one = tn_ox_d(x, 1), row[2] = {dims[rank - 2], one}, column[2] = {one, dims[rank - 1]};
  return tn_ox_binary(x, "sub", tn_ox_iota(x, TN_DT_i64, column, 2, 1), tn_ox_iota(x, TN_DT_i64, row, 2, 0));
}

tn_status tn_ox_lower_trilu(tn_ox *x, tn_ox_node *n) {
  tn_value v = tn_ox_in(x, n, 0), k = number(x, tn_ox_in(x, n, 1));
  tn_dim dims[TN_MAX_RANK];
  uint32_t rank = tn_ox_rank(x, v);
  if (rank < 2) return tn_ox_fail(x, n, "input has rank %u, wants at least 2", rank);
  tn_ox_dims(x, v, dims);
  if (!k) k = tn_ox_scalar_int(x, TN_DT_i64, 0);
  const char *cmp = tn_ox_int(n, "upper", 1) ? "ge" : "le";
  tn_value keep = tn_ox_compare(x, cmp, diagonal(x, dims, rank), k);
  return tn_ox_out(x, n, 0, tn_ox_select(x, keep, v, tn_ox_scalar_like(x, v, 0)));
}

tn_status tn_ox_lower_eye_like(tn_ox *x, tn_ox_node *n) {
  tn_value v = tn_ox_in(x, n, 0);
  tn_dim dims[TN_MAX_RANK];
  tn_dtype t = tn_ox_dtype(x, v);
  if (tn_ox_rank(x, v) != 2) return tn_ox_fail(x, n, "input has rank %u, wants 2", tn_ox_rank(x, v));
  tn_ox_dims(x, v, dims);
  if (tn_ox_has_attr(n, "dtype")) t = tn_ox_dtype_of(x, n, tn_ox_int(n, "dtype", 1));
  tn_value k = tn_ox_scalar_int(x, TN_DT_i64, tn_ox_int(n, "k", 0));
  return tn_ox_out(x, n, 0, tn_ox_cast(x, tn_ox_compare(x, "eq", diagonal(x, dims, 2), k), t));
}
