/* binary.c - elementwise ops of two and three operands: one element type, shapes broadcast as in NumPy. */
#include "ops.h"

/* Broadcast of operands first..first+1 into s. */
static tn_status broadcast_two(tn_infer *c, const tn_in *a, const tn_in *b, tn_shape *s) {
  TN_TRY(tn_ops_same_dtype(c, a, b));
  *s = tn_ops_shape(a);
  return tn_ops_broadcast(c, s, b->dims, b->rank);
}

static tn_status arithmetic(tn_infer *c) {
  tn_in in[2];
  tn_shape s;
  TN_TRY(tn_ops_read(c, in, 2));
  TN_TRY(broadcast_two(c, &in[0], &in[1], &s));
  return tn_ops_result(c, 0, in[0].dtype, &s);
}

#define TN_ARITHMETIC(op)                                                                                    \
  tn_status tn_infer_##op(tn_infer *c) { return arithmetic(c); }
TN_ARITHMETIC(add)
TN_ARITHMETIC(sub)
TN_ARITHMETIC(mul)
TN_ARITHMETIC(div)
TN_ARITHMETIC(pow)
TN_ARITHMETIC(min)
TN_ARITHMETIC(max)
TN_ARITHMETIC(mod)
TN_ARITHMETIC(fmod)
TN_ARITHMETIC(and)
TN_ARITHMETIC(or)
TN_ARITHMETIC(xor)
#undef TN_ARITHMETIC

static tn_status shift(tn_infer *c) {
  TN_TRY(arithmetic(c));
  tn_in a = tn_ops_operand(c, 0);
  if (a.cls == TN_CLASS_BOOL) return tn_ops_fail(c, "bools have no bits to shift: %T", a.type);
  return TN_OK;
}
tn_status tn_infer_shl(tn_infer *c) { return shift(c); }
tn_status tn_infer_shr(tn_infer *c) { return shift(c); }

tn_status tn_infer_compare(tn_infer *c) {
  static const char *const names[] = {"eq", "ne", "lt", "le", "gt", "ge"};
  tn_in in[2];
  tn_shape s;
  TN_TRY(tn_ops_read(c, in, 2));
  TN_TRY(tn_ops_no_blocks(c, in, 2));
  const char *cmp = c->attrs[TN_A_compare_cmp].u.s;
  bool known = false;
  for (size_t i = 0; i < TN_COUNT(names); i++) known |= !strcmp(cmp, names[i]);
  if (!known) return tn_ops_fail(c, "cmp is '%s', wants eq, ne, lt, le, gt or ge", cmp);
  TN_TRY(broadcast_two(c, &in[0], &in[1], &s));
  return tn_ops_result(c, 0, TN_DT_bool, &s);
}

tn_status tn_infer_select(tn_infer *c) {
  tn_in in[3];
  tn_shape s;
  TN_TRY(tn_ops_read(c, in, 3));
  TN_TRY(tn_ops_no_blocks(c, in, 3));
  TN_TRY(broadcast_two(c, &in[1], &in[2], &s));
  TN_TRY(tn_ops_broadcast(c, &s, in[0].dims, in[0].rank));
  return tn_ops_result(c, 0, in[1].dtype, &s);
}
