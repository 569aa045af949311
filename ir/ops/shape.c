/* shape.c - ops that move elements. Sizes are dims, so every bound is checked as far as it is known: what
 * cannot be decided here is the runtime's to check against the module's constraints. */
#include "ops.h"

tn_status tn_infer_broadcast(tn_infer *c) {
  tn_in x;
  tn_shape s;
  TN_TRY(tn_ops_read(c, &x, 1));
  TN_TRY(tn_ops_no_blocks(c, &x, 1));
  TN_TRY(tn_ops_shape_attr(c, TN_A_broadcast_shape, &s));
  TN_TRY(tn_ops_repeats_to(c, "operand 0 ('x')", &x, &s));
  return tn_ops_result(c, 0, x.dtype, &s);
}

tn_status tn_infer_reshape(tn_infer *c) {
  tn_in x;
  tn_shape s;
  TN_TRY(tn_ops_read(c, &x, 1));
  TN_TRY(tn_ops_no_blocks(c, &x, 1));
  TN_TRY(tn_ops_shape_attr(c, TN_A_reshape_shape, &s));
  TN_TRY(tn_ops_result(c, 0, x.dtype, &s));
  tn_dim from = tn_type_elements(c->m, x.type), to = tn_type_elements(c->m, c->out[0]);
  if (!tn_ops_eq(c, from, to))
    return tn_ops_fail(c, "numbers of elements differ: %T has %D, %T has %D", x.type, from, c->out[0], to);
  return TN_OK;
}

tn_status tn_infer_transpose(tn_infer *c) {
  tn_in x;
  tn_shape s = {0};
  TN_TRY(tn_ops_read(c, &x, 1));
  const tn_attr *perm = &c->attrs[TN_A_transpose_perm];
  if (perm->count != x.rank)
    return tn_ops_fail(c, "perm has %i entries, %T has rank %i", (int)perm->count, x.type, (int)x.rank);
  uint32_t seen = 0;
  s.rank = x.rank;
  for (uint32_t i = 0; i < x.rank; i++) {
    int64_t p = perm->u.ints[i];
    if (p < 0 || p >= (int64_t)x.rank)
      return tn_ops_fail(c, "perm[%i] is %l, out of range for rank %i", (int)i, p, (int)x.rank);
    if (seen & 1u << p) return tn_ops_fail(c, "perm names axis %l twice", p);
    seen |= 1u << p;
    s.dims[i] = x.dims[p];
  }
  if (x.rank && perm->u.ints[x.rank - 1] != (int64_t)x.rank - 1)
    TN_TRY(tn_ops_whole_blocks(c, &x, x.rank - 1));
  return tn_ops_result(c, 0, x.dtype, &s);
}

/* How many elements start, start + step, ... lie below stop. */
static tn_dim slice_size(tn_infer *c, tn_dim start, tn_dim stop, int64_t step) {
  tn_dim n = tn_dim_sub(c->m, stop, start);
  if (step == 1) return n;
  n = tn_dim_add(c->m, n, tn_ir_dim_const(c->m, step - 1));
  return tn_ir_dim_make(c->m, TN_DIM_FLOORDIV, n, tn_ir_dim_const(c->m, step));
}

tn_status tn_infer_slice(tn_infer *c) {
  tn_in x;
  uint32_t axis;
  TN_TRY(tn_ops_read(c, &x, 1));
  TN_TRY(tn_ops_axis(c, c->attrs[TN_A_slice_axis].u.i, x.rank, &axis));
  TN_TRY(tn_ops_whole_blocks(c, &x, axis));
  tn_dim start = c->attrs[TN_A_slice_start].u.dim, stop = c->attrs[TN_A_slice_stop].u.dim;
  int64_t step = c->attrs[TN_A_slice_step].u.i;
  if (step < 1) return tn_ops_fail(c, "step is %l, wants at least 1", step);
  if (tn_ops_less(c, start, tn_ir_dim_const(c->m, 0))) return tn_ops_fail(c, "start is negative: %D", start);
  if (tn_ops_less(c, stop, start)) return tn_ops_fail(c, "start is behind stop: %D and %D", start, stop);
  if (tn_ops_less(c, x.dims[axis], stop))
    return tn_ops_fail(c, "stop is behind the end of axis %i: %D and %D", (int)axis, stop, x.dims[axis]);
  tn_shape s = tn_ops_shape(&x);
  s.dims[axis] = slice_size(c, start, stop, step);
  return tn_ops_result(c, 0, x.dtype, &s);
}

tn_status tn_infer_split(tn_infer *c) {
  tn_in x;
  uint32_t axis;
  TN_TRY(tn_ops_read(c, &x, 1));
  TN_TRY(tn_ops_axis(c, c->attrs[TN_A_split_axis].u.i, x.rank, &axis));
  TN_TRY(tn_ops_whole_blocks(c, &x, axis));
  const tn_attr *sizes = &c->attrs[TN_A_split_sizes];
  if (!sizes->count || sizes->count > TN_MAX_RESULTS)
    return tn_ops_fail(c, "sizes has %i entries, wants 1 to %i", (int)sizes->count, TN_MAX_RESULTS);
  if (c->nout && c->nout != sizes->count)
    return tn_ops_fail(c, "numbers of parts differ: %i results and %i sizes", (int)c->nout,
                       (int)sizes->count);
  c->nout = sizes->count;
  tn_shape s = tn_ops_shape(&x);
  tn_dim sum = tn_ir_dim_const(c->m, 0);
  for (uint32_t i = 0; i < sizes->count; i++) {
    if (tn_ops_less(c, sizes->u.dims[i], tn_ir_dim_const(c->m, 0)))
      return tn_ops_fail(c, "size %i is negative: %D", (int)i, sizes->u.dims[i]);
    sum = tn_dim_add(c->m, sum, sizes->u.dims[i]);
    s.dims[axis] = sizes->u.dims[i];
    TN_TRY(tn_ops_result(c, i, x.dtype, &s));
  }
  if (!tn_ops_eq(c, sum, x.dims[axis]))
    return tn_ops_fail(c, "sizes sum to %D, axis %i has %D", sum, (int)axis, x.dims[axis]);
  return TN_OK;
}

tn_status tn_infer_concat(tn_infer *c) {
  tn_in x;
  uint32_t axis;
  TN_TRY(tn_ops_read(c, &x, 1));
  TN_TRY(tn_ops_axis(c, c->attrs[TN_A_concat_axis].u.i, x.rank, &axis));
  TN_TRY(tn_ops_whole_blocks(c, &x, axis));
  tn_shape s = tn_ops_shape(&x);
  for (uint32_t i = 1; i < c->nin; i++) {
    tn_in y = tn_ops_operand(c, i);
    TN_TRY(tn_ops_same_dtype(c, &x, &y));
    if (y.rank != x.rank)
      return tn_ops_fail(c, "ranks of operands 0 and %i differ: %i and %i", (int)i, (int)x.rank, (int)y.rank);
    for (uint32_t d = 0; d < x.rank; d++)
      if (d != axis && !tn_ops_eq(c, y.dims[d], x.dims[d]))
        return tn_ops_fail(c, "dim %i of operands 0 and %i differ: %D and %D", (int)d, (int)i, x.dims[d],
                           y.dims[d]);
    s.dims[axis] = tn_dim_add(c->m, s.dims[axis], y.dims[axis]);
  }
  return tn_ops_result(c, 0, x.dtype, &s);
}

tn_status tn_infer_pad(tn_infer *c) {
  tn_in x;
  TN_TRY(tn_ops_read(c, &x, 1));
  TN_TRY(tn_ops_no_blocks(c, &x, 1));
  const tn_attr *low = &c->attrs[TN_A_pad_low], *high = &c->attrs[TN_A_pad_high];
  if (low->count != x.rank || high->count != x.rank)
    return tn_ops_fail(c, "low has %i entries and high has %i, %T has rank %i", (int)low->count,
                       (int)high->count, x.type, (int)x.rank);
  tn_shape s = tn_ops_shape(&x);
  for (uint32_t i = 0; i < x.rank; i++) {
    int64_t a = low->u.ints[i], b = high->u.ints[i], sum;
    if (a < 0 || b < 0) return tn_ops_fail(c, "padding of axis %i is negative: %l and %l", (int)i, a, b);
    if (__builtin_add_overflow(a, b, &sum))
      return tn_ops_fail(c, "padding of axis %i is too large: %l and %l", (int)i, a, b);
    s.dims[i] = tn_dim_add(c->m, s.dims[i], tn_ir_dim_const(c->m, sum));
  }
  return tn_ops_result(c, 0, x.dtype, &s);
}

tn_status tn_infer_gather(tn_infer *c) {
  tn_in in[2];
  uint32_t axis;
  TN_TRY(tn_ops_read(c, in, 2));
  if (in[1].cls == TN_CLASS_BOOL)
    return tn_ops_fail(c, "operand 1 ('indices') must be integers, but is %T", in[1].type);
  TN_TRY(tn_ops_axis(c, c->attrs[TN_A_gather_axis].u.i, in[0].rank, &axis));
  TN_TRY(tn_ops_whole_blocks(c, &in[0], axis));
  uint32_t rank = in[0].rank - 1 + in[1].rank;
  if (rank > TN_MAX_RANK)
    return tn_ops_fail(c, "result has %i dims, at most %i are possible", (int)rank, TN_MAX_RANK);
  tn_shape s = {rank, {0}};
  uint32_t n = 0;
  for (uint32_t i = 0; i < axis; i++) s.dims[n++] = in[0].dims[i];
  for (uint32_t i = 0; i < in[1].rank; i++) s.dims[n++] = in[1].dims[i];
  for (uint32_t i = axis + 1; i < in[0].rank; i++) s.dims[n++] = in[0].dims[i];
  return tn_ops_result(c, 0, in[0].dtype, &s);
}
