/* cast.c - Cast, CastLike and BitCast. Floats of 8 bits saturate unless told otherwise. */
#include "frontend/onnx/ops/math.h"

static tn_status convert(tn_ox *x, tn_ox_node *n, tn_value v, tn_dtype to) {
  const char *round = tn_ox_str(n, "round_mode", "up"), *overflow = "type", *how = "nearest";
  bool saturate = tn_ox_int(n, "saturate", 1);
  if (strcmp(round, "up") && strcmp(round, "down") && strcmp(round, "nearest"))
    return tn_ox_fail(x, n, "attribute 'round_mode' is '%s', wants up, down or nearest", round);
  if (!v || !to || tn_ox_dtype(x, v) == to) return tn_ox_out(x, n, 0, to ? v : 0);
  bool few = to == TN_DT_i4 || to == TN_DT_u4 || to == TN_DT_i2 || to == TN_DT_u2;
  if (few && tn_ox_is_float(x, v)) v = tn_ox_cast(x, v, TN_DT_i32); /* the low bits, not the nearest number */
  bool f8 = to == TN_DT_f8e4m3 || to == TN_DT_f8e5m2 || to == TN_DT_f8e4m3fnuz || to == TN_DT_f8e5m2fnuz;
  if (f8 || to == TN_DT_f8e8m0) overflow = saturate ? "largest" : "special";
  if (to == TN_DT_f8e8m0) how = round;
  return tn_ox_out(x, n, 0,
                   tn_ox_make(x, "cast", &v, 1,
                              TN_OX_ATTRS(TN_OX_DTYPE("to", to), TN_OX_STR("overflow", overflow),
                                          TN_OX_STR("round", how))));
}

/* Before opset 6 the type is a word. */
static tn_dtype named(tn_ox *x, tn_ox_node *n) {
  static const char *const names[] = {"UNDEFINED", "FLOAT",  "UINT8",  "INT8",   "UINT16",
                                      "INT16",     "INT32",  "INT64",  "STRING", "BOOL",
                                      "FLOAT16",   "DOUBLE", "UINT32", "UINT64"};
  const char *name = tn_ox_str(n, "to", "");
  for (size_t i = 1; i < TN_COUNT(names); i++)
    if (!strcmp(name, names[i])) return tn_ox_dtype_of(x, n, (int64_t)i);
  tn_ox_fail(x, n, "attribute 'to' is '%s', which is no type", name);
  return 0;
}

tn_status tn_ox_lower_cast(tn_ox *x, tn_ox_node *n) {
  tn_value v = tn_ox_required(x, n, 0);
  return convert(x, n, v, tn_ox_version(n) < 6 ? named(x, n) : tn_ox_dtype_of(x, n, tn_ox_int(n, "to", 0)));
}

tn_status tn_ox_lower_cast_like(tn_ox *x, tn_ox_node *n) {
  tn_value v = tn_ox_required(x, n, 0), like = tn_ox_required(x, n, 1);
  return convert(x, n, v, like ? tn_ox_dtype(x, like) : 0);
}

tn_status tn_ox_lower_bit_cast(tn_ox *x, tn_ox_node *n) {
  tn_value v = tn_ox_required(x, n, 0);
  tn_dtype to = tn_ox_dtype_of(x, n, tn_ox_int(n, "to", 0));
  if (!v || !to) return tn_ox_out(x, n, 0, 0);
  return tn_ox_out(x, n, 0, tn_ox_make(x, "bitcast", &v, 1, TN_OX_ATTRS(TN_OX_DTYPE("to", to))));
}
