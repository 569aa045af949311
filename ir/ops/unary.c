/* unary.c - elementwise ops of one operand: the result has the operand's shape and, but for the conversions,
 * its element type. */
#include "ops.h"

static tn_status same_as_operand(tn_infer *c) {
  tn_in x;
  TN_TRY(tn_ops_read(c, &x, 1));
  return tn_ops_same(c, &x, x.dtype);
}

#define TN_SAME(op)                                                                                          \
  tn_status tn_infer_##op(tn_infer *c) { return same_as_operand(c); }
TN_SAME(neg)
TN_SAME(abs)
TN_SAME(sign)
TN_SAME(exp)
TN_SAME(log)
TN_SAME(sqrt)
TN_SAME(rsqrt)
TN_SAME(tanh)
TN_SAME(sigmoid)
TN_SAME(erf)
TN_SAME(sin)
TN_SAME(cos)
TN_SAME(tan)
TN_SAME(asin)
TN_SAME(acos)
TN_SAME(atan)
TN_SAME(sinh)
TN_SAME(cosh)
TN_SAME(asinh)
TN_SAME(acosh)
TN_SAME(atanh)
TN_SAME(expm1)
TN_SAME(log1p)
TN_SAME(floor)
TN_SAME(ceil)
TN_SAME(round)
TN_SAME(silu)
TN_SAME(relu)
TN_SAME(not)
#undef TN_SAME

tn_status tn_infer_gelu(tn_infer *c) {
  const char *form = c->attrs[TN_A_gelu_form].u.s;
  if (strcmp(form, "erf") && strcmp(form, "tanh") && strcmp(form, "quick"))
    return tn_ops_fail(c, "form is '%s', wants erf, tanh or quick", form);
  return same_as_operand(c);
}

/* The `to` attribute, which must name a plain type. */
static tn_status plain_target(tn_infer *c, int64_t to, const tn_dtype_info **d) {
  *d = tn_ir_dtype_info((tn_dtype)to);
  if (*d && (*d)->cls != TN_CLASS_BLOCK) return TN_OK;
  return tn_ops_fail(c, "cannot convert to %s", tn_ops_dtype_name((tn_dtype)to));
}

tn_status tn_infer_cast(tn_infer *c) {
  tn_in x;
  const tn_dtype_info *d;
  TN_TRY(tn_ops_read(c, &x, 1));
  TN_TRY(tn_ops_no_blocks(c, &x, 1));
  TN_TRY(plain_target(c, c->attrs[TN_A_cast_to].u.i, &d));
  const char *overflow = c->attrs[TN_A_cast_overflow].u.s, *round = c->attrs[TN_A_cast_round].u.s;
  if (strcmp(overflow, "type") && strcmp(overflow, "largest") && strcmp(overflow, "special"))
    return tn_ops_fail(c, "overflow is '%s', wants type, largest or special", overflow);
  if (strcmp(round, "nearest") && strcmp(round, "up") && strcmp(round, "down"))
    return tn_ops_fail(c, "round is '%s', wants nearest, up or down", round);
  return tn_ops_same(c, &x, (tn_dtype)c->attrs[TN_A_cast_to].u.i);
}

tn_status tn_infer_bitcast(tn_infer *c) {
  tn_in x;
  const tn_dtype_info *d;
  TN_TRY(tn_ops_read(c, &x, 1));
  TN_TRY(tn_ops_no_blocks(c, &x, 1));
  TN_TRY(plain_target(c, c->attrs[TN_A_bitcast_to].u.i, &d));
  const tn_dtype_info *from = tn_ir_dtype_info(x.dtype);
  if (d->bits != from->bits)
    return tn_ops_fail(c, "widths differ: %s has %i bits, %s has %i", from->name, (int)from->bits, d->name,
                       (int)d->bits);
  return tn_ops_same(c, &x, (tn_dtype)c->attrs[TN_A_bitcast_to].u.i);
}

tn_status tn_infer_dequant(tn_infer *c) {
  tn_in x;
  TN_TRY(tn_ops_read(c, &x, 1));
  if (x.cls != TN_CLASS_BLOCK)
    return tn_ops_fail(c, "operand 0 ('x') must have a block format, but is %T", x.type);
  tn_dtype to = (tn_dtype)c->attrs[TN_A_dequant_to].u.i;
  if (to != TN_DT_f32 && to != TN_DT_f16 && to != TN_DT_bf16)
    return tn_ops_fail(c, "cannot dequant to %s, wants f32, f16 or bf16", tn_ops_dtype_name(to));
  return tn_ops_same(c, &x, to);
}
