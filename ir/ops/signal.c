/* signal.c - dft and det. */
#include "ops.h"

tn_status tn_infer_dft(tn_infer *c) {
  tn_in x;
  uint32_t axis;
  TN_TRY(tn_ops_read(c, &x, 1));
  if (x.dtype != TN_DT_f32 && x.dtype != TN_DT_f64)
    return tn_ops_fail(c, "x is %s, wants f32 or f64", tn_ops_dtype_name(x.dtype));
  if (x.rank < 2) return tn_ops_fail(c, "x has rank %i, wants at least 2: %T", (int)x.rank, x.type);
  TN_TRY(tn_ops_axis(c, c->attrs[TN_A_dft_axis].u.i, x.rank, &axis));
  uint32_t last = x.rank - 1;
  bool real = tn_ops_is(c, x.dims[last], 1), inverse = c->attrs[TN_A_dft_inverse].u.i,
       onesided = c->attrs[TN_A_dft_onesided].u.i;
  if (axis == last) return tn_ops_fail(c, "axis %i is the one of real and imaginary parts", (int)axis);
  if (!real && !tn_ops_is(c, x.dims[last], 2))
    return tn_ops_fail(c, "the last dim of %T is %D, wants 1 or 2", x.type, x.dims[last]);
  if (real && inverse && onesided)
    return tn_ops_fail(c, "half a spectrum wants complex numbers, x is %T", x.type);
  tn_dim n = c->attrs[TN_A_dft_n].u.dim, one = tn_ir_dim_const(c->m, 1), two = tn_ir_dim_const(c->m, 2);
  if (tn_ops_less(c, n, one)) return tn_ops_fail(c, "n is %D, wants at least 1", n);
  tn_shape s = tn_ops_shape(&x);
  s.dims[axis] =
      onesided && !inverse ? tn_dim_add(c->m, tn_ir_dim_make(c->m, TN_DIM_FLOORDIV, n, two), one) : n;
  s.dims[last] = onesided && inverse ? one : two;
  return tn_ops_result(c, 0, x.dtype, &s);
}

tn_status tn_infer_det(tn_infer *c) {
  tn_in x;
  TN_TRY(tn_ops_read(c, &x, 1));
  if (x.rank < 2) return tn_ops_fail(c, "x has rank %i, wants at least 2: %T", (int)x.rank, x.type);
  TN_TRY(tn_ops_equal(c, "rows and columns of a matrix", x.dims[x.rank - 2], x.dims[x.rank - 1]));
  tn_shape s = tn_ops_shape(&x);
  s.rank -= 2;
  return tn_ops_result(c, 0, x.dtype, &s);
}
