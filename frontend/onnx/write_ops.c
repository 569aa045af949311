/* write_ops.c - leaves, elementwise ops, shapes and reductions as ONNX nodes. */
#include "frontend/onnx/write_graph.h"
#include <string.h>

/* ---- leaves ----------------------------------------------------------------------------------------------
 */
void tn_ow_op_constant(tn_ow *w, tn_op op) {
  tn_ow_shape t;
  tn_attr a = {0};
  tn_ow_result_type(w, op, 0, &t);
  w->ir->op_attr(w->m, op, "value", &a);
  (void)tn_ow_elem(w, t.dtype);
  tn_ow_out(w, op, 0, tn_ow_const(w, &t, a.u.data.ptr, a.u.data.len));
}

void tn_ow_op_iota(tn_ow *w, tn_op op) {
  tn_ow_shape t;
  tn_ow_result_type(w, op, 0, &t);
  tn_dim start = tn_ow_dim(w, op, "start");
  if (!t.rank) return tn_ow_out(w, op, 0, tn_ow_cast(w, tn_ow_dim_scalar(w, start), t.dtype));
  uint32_t axis = (uint32_t)tn_ow_int(w, op, "axis");
  tn_attr first = {0};
  if (w->position_ids && t.rank == 1 && w->ir->op_attr(w->m, op, "start", &first) &&
      first.u.dim == w->position)
    return tn_ow_out(w, op, 0, tn_ow_cast(w, w->position_ids, t.dtype));
  tn_ov v = tn_ow_cast(w, tn_ow_range(w, start, t.dims[axis]), t.dtype);
  tn_dim column[TN_MAX_RANK];
  for (uint32_t i = 0; i < t.rank; i++) column[i] = i == axis ? t.dims[i] : tn_ow_d(w, 1);
  v = tn_ow_reshape(w, v, column + axis, t.rank - axis);
  tn_ow_out(w, op, 0, tn_ow_expand(w, v, t.dims, t.rank));
}

void tn_ow_op_random_uniform(tn_ow *w, tn_op op) {
  (void)op;
  tn_ow_fail(w, TN_UNSUPPORTED,
             "no ONNX op gives the numbers of this generator; fold it first (tenon optimize, or -O1)");
}

/* ---- one operand -----------------------------------------------------------------------------------------
 */
void tn_ow_op_neg(tn_ow *w, tn_op op) {
  tn_ov x = tn_ow_in(w, op, 0);
  const tn_dtype_info *t = w->ir->dtype_info(tn_ow_dtype(w, x));
  bool is_unsigned = t && t->cls == TN_CLASS_UINT;
  tn_ow_out(w, op, 0,
            is_unsigned ? tn_ow_binary(w, "Sub", tn_ow_scalar_like(w, x, 0), x) : tn_ow_unary(w, "Neg", x));
}

void tn_ow_op_rsqrt(tn_ow *w, tn_op op) {
  tn_ow_out(w, op, 0, tn_ow_unary(w, "Reciprocal", tn_ow_unary(w, "Sqrt", tn_ow_in(w, op, 0))));
}

/* e^x - 1 is 2 t / (1 - t) with t = tanh(x / 2), without loss near 0. */
void tn_ow_op_expm1(tn_ow *w, tn_op op) {
  tn_ov x = tn_ow_in(w, op, 0), one = tn_ow_scalar_like(w, x, 1);
  tn_ov t = tn_ow_unary(w, "Tanh", tn_ow_binary(w, "Mul", x, tn_ow_scalar_like(w, x, 0.5)));
  tn_ov near = tn_ow_binary(w, "Div", tn_ow_binary(w, "Add", t, t), tn_ow_binary(w, "Sub", one, t));
  tn_ov far = tn_ow_binary(w, "Sub", tn_ow_unary(w, "Exp", x), one);
  tn_ow_out(w, op, 0, tn_ow_where(w, tn_ow_compare(w, "Less", tn_ow_unary(w, "Abs", x), one), near, far));
}

/* With u = 1 + x rounded: log(u) x / (u - 1) undoes the rounding; x itself where u is 1. */
void tn_ow_op_log1p(tn_ow *w, tn_op op) {
  tn_ov x = tn_ow_in(w, op, 0), one = tn_ow_scalar_like(w, x, 1);
  tn_ov u = tn_ow_binary(w, "Add", x, one), log = tn_ow_unary(w, "Log", u);
  tn_ov near = tn_ow_binary(w, "Div", tn_ow_binary(w, "Mul", log, x), tn_ow_binary(w, "Sub", u, one));
  near = tn_ow_where(w, tn_ow_compare(w, "Equal", u, one), x, near);
  tn_ow_out(w, op, 0, tn_ow_where(w, tn_ow_compare(w, "Less", tn_ow_unary(w, "Abs", x), one), near, log));
}

void tn_ow_op_round(tn_ow *w, tn_op op) {
  tn_ov x = tn_ow_in(w, op, 0);
  tn_dtype t = tn_ow_dtype(w, x);
  if (t == TN_DT_bf16 && w->o.opset < 22) x = tn_ow_cast(w, x, TN_DT_f32);
  tn_ow_out(w, op, 0, tn_ow_cast(w, tn_ow_unary(w, "Round", x), t));
}

void tn_ow_op_relu(tn_ow *w, tn_op op) {
  tn_ov x = tn_ow_in(w, op, 0);
  const tn_dtype_info *t = w->ir->dtype_info(tn_ow_dtype(w, x));
  tn_ow_out(w, op, 0, t && t->cls == TN_CLASS_UINT ? x : tn_ow_unary(w, "Relu", x));
}

void tn_ow_op_silu(tn_ow *w, tn_op op) {
  tn_ov x = tn_ow_in(w, op, 0);
  tn_ow_out(w, op, 0, tn_ow_binary(w, "Mul", x, tn_ow_unary(w, "Sigmoid", x)));
}

static tn_ov gelu_erf(tn_ow *w, tn_ov x) {
  tn_ov e = tn_ow_unary(w, "Erf", tn_ow_binary(w, "Div", x, tn_ow_scalar_like(w, x, 1.4142135623730951)));
  tn_ov p = tn_ow_binary(w, "Add", e, tn_ow_scalar_like(w, x, 1));
  return tn_ow_binary(w, "Mul", tn_ow_binary(w, "Mul", x, p), tn_ow_scalar_like(w, x, 0.5));
}

static tn_ov gelu_tanh(tn_ow *w, tn_ov x) {
  tn_ov cube = tn_ow_binary(w, "Mul", tn_ow_binary(w, "Mul", x, x), x);
  tn_ov in = tn_ow_binary(w, "Add", x, tn_ow_binary(w, "Mul", cube, tn_ow_scalar_like(w, x, 0.044715)));
  tn_ov t = tn_ow_unary(w, "Tanh", tn_ow_binary(w, "Mul", in, tn_ow_scalar_like(w, x, 0.7978845608028654)));
  tn_ov p = tn_ow_binary(w, "Add", t, tn_ow_scalar_like(w, x, 1));
  return tn_ow_binary(w, "Mul", tn_ow_binary(w, "Mul", x, p), tn_ow_scalar_like(w, x, 0.5));
}

void tn_ow_op_gelu(tn_ow *w, tn_op op) {
  tn_ov x = tn_ow_in(w, op, 0);
  const char *form = tn_ow_str(w, op, "form");
  tn_ow_shape t = *tn_ow_type(w, x);
  bool tanh = !strcmp(form, "tanh"), quick = !strcmp(form, "quick");
  if (w->o.contrib && (quick || w->o.opset < 20))
    tn_ow_out(w, op, 0,
              tn_ow_unary(w,
                          quick  ? "com.microsoft:QuickGelu"
                          : tanh ? "com.microsoft:FastGelu"
                                 : "com.microsoft:Gelu",
                          x));
  else if (quick)
    tn_ow_out(
        w, op, 0,
        tn_ow_binary(w, "Mul", x,
                     tn_ow_unary(w, "Sigmoid", tn_ow_binary(w, "Mul", x, tn_ow_scalar_like(w, x, 1.702)))));
  else if (w->o.opset >= 20)
    tn_ow_out(w, op, 0,
              tn_ow_node1(w, "Gelu", &x, 1, TN_OW_ATTRS(TN_OW_S("approximate", tanh ? "tanh" : "none")), &t));
  else
    tn_ow_out(w, op, 0, tanh ? gelu_tanh(w, x) : gelu_erf(w, x));
}

/* What lies beyond the largest number of an 8-bit float becomes that number, or infinity or NaN. */
static bool saturates(tn_ow *w, tn_op op, tn_dtype to) {
  const char *how = tn_ow_str(w, op, "overflow");
  return !strcmp(how, "largest") || (strcmp(how, "special") && to == TN_DT_f8e4m3);
}

/* The result of min or max, so that it is inside of some bounds already. */
static bool bounded(const tn_ow *w, tn_ov x) {
  const tn_ow_node *n =
      w->values.items[x].from == TN_OV_NODE ? &w->nodes.items[w->values.items[x].node] : NULL;
  return n && (!strcmp(n->op, "Min") || !strcmp(n->op, "Max") || !strcmp(n->op, "Clip"));
}

/* Numbers beyond a narrow integer's range become its ends; Cast leaves that open. Of wider ones the ends are
 * no floats. */
static tn_ov clamped(tn_ow *w, tn_ov x, const tn_dtype_info *to) {
  if (!tn_ow_is_float(w, tn_ow_dtype(w, x)) || to->bits > 16 || bounded(w, x)) return x;
  if (to->cls != TN_CLASS_INT && to->cls != TN_CLASS_UINT) return x;
  int64_t n = (int64_t)1 << (to->cls == TN_CLASS_INT ? to->bits - 1 : to->bits);
  tn_ov low = tn_ow_scalar_like(w, x, to->cls == TN_CLASS_INT ? (double)-n : 0);
  return tn_ow_binary(w, "Min", tn_ow_binary(w, "Max", x, low), tn_ow_scalar_like(w, x, (double)(n - 1)));
}

void tn_ow_op_cast(tn_ow *w, tn_op op) {
  tn_ov x = tn_ow_in(w, op, 0);
  tn_dtype to = (tn_dtype)tn_ow_int(w, op, "to");
  const tn_dtype_info *d = w->ir->dtype_info(to);
  tn_ow_shape t = *tn_ow_type(w, x);
  bool eight = d && d->cls == TN_CLASS_FLOAT && d->bits == 8, same = t.dtype == to;
  if (tn_ow_failed(w) || same || !d) return tn_ow_out(w, op, 0, x);
  if (!eight) return tn_ow_out(w, op, 0, tn_ow_cast(w, clamped(w, x, d), to));
  t.dtype = to;
  int64_t number = tn_ow_elem(w, to);
  const tn_ow_attr *attrs =
      to == TN_DT_f8e8m0 ? TN_OW_ATTRS(TN_OW_I("to", number), TN_OW_I("saturate", saturates(w, op, to)),
                                       TN_OW_S("round_mode", tn_ow_str(w, op, "round")))
                         : TN_OW_ATTRS(TN_OW_I("to", number), TN_OW_I("saturate", saturates(w, op, to)));
  tn_ow_out(w, op, 0, tn_ow_node1(w, "Cast", &x, 1, attrs, &t));
}

void tn_ow_op_bitcast(tn_ow *w, tn_op op) {
  tn_ov x = tn_ow_in(w, op, 0);
  tn_ow_shape t = *tn_ow_type(w, x);
  t.dtype = (tn_dtype)tn_ow_int(w, op, "to");
  if (w->o.opset < 26)
    return tn_ow_fail(w, TN_UNSUPPORTED, "BitCast needs opset 26, and the model is written for %u",
                      w->o.opset);
  tn_ow_out(w, op, 0,
            tn_ow_node1(w, "BitCast", &x, 1, TN_OW_ATTRS(TN_OW_I("to", tn_ow_elem(w, t.dtype))), &t));
}

void tn_ow_op_dequant(tn_ow *w, tn_op op) {
  tn_weight id = tn_ow_block_weight(w, op, 0);
  tn_ov x = id ? tn_ow_weight_values(w, id) : tn_ow_in(w, op, 0);
  tn_ow_out(w, op, 0, tn_ow_cast(w, x, (tn_dtype)tn_ow_int(w, op, "to")));
}

/* ---- two and three operands
 * -------------------------------------------------------------------------------- */
/* a by b where b is not 0, else 0. Runtimes divide with the machine's instruction, which stops the program
 * for a divisor of 0, and for -1 under the least number: neither gets there. */
static tn_ov guarded(tn_ow *w, const char *onnx, tn_ov a, tn_ov b) {
  const tn_dtype_info *t = w->ir->dtype_info(tn_ow_dtype(w, b));
  tn_ov zero = tn_ow_scalar_like(w, b, 0), one = tn_ow_scalar_like(w, b, 1);
  tn_ov none = tn_ow_compare(w, "Equal", b, zero);
  if (!t || t->cls != TN_CLASS_INT)
    return tn_ow_where(w, none, zero, tn_ow_binary(w, onnx, a, tn_ow_where(w, none, one, b)));
  tn_ov minus = tn_ow_compare(w, "Equal", b, tn_ow_scalar_like(w, b, -1)),
        either = tn_ow_compare(w, "Or", none, minus);
  tn_ov r = tn_ow_binary(w, onnx, a, tn_ow_where(w, either, one, b));
  r = tn_ow_where(w, none, zero, r);
  return tn_ow_where(w, minus, strcmp(onnx, "Div") ? zero : tn_ow_binary(w, "Sub", zero, a), r);
}

static bool harmless(tn_ow *w, tn_ov v, uint32_t depth);

/* A size, or what guarded() divides by. */
static bool harmless_node(tn_ow *w, const tn_ow_node *n, uint32_t depth) {
  static const char *const passes[] = {"Squeeze", "Unsqueeze", "Reshape", "Cast", "Identity", "Gather"};
  if (!strcmp(n->op, "Shape")) return true;
  if (!strcmp(n->op, "Where")) {
    const tn_ow_value *c = &w->values.items[n->in[0]];
    const char *test = c->from == TN_OV_NODE ? w->nodes.items[c->node].op : "";
    return (!strcmp(test, "Equal") || !strcmp(test, "Or")) && harmless(w, n->in[1], depth);
  }
  if (!strcmp(n->op, "Mul")) return harmless(w, n->in[0], depth) && harmless(w, n->in[1], depth);
  for (uint32_t i = 0; i < TN_COUNT(passes); i++)
    if (!strcmp(n->op, passes[i])) return harmless(w, n->in[0], depth);
  return false;
}

/* An integer constant without 0 and -1 among its elements, a size, or what was guarded already. */
static bool harmless(tn_ow *w, tn_ov v, uint32_t depth) {
  if (!v || !depth) return false;
  if (w->values.items[v].from == TN_OV_NODE)
    return harmless_node(w, &w->nodes.items[w->values.items[v].node], depth - 1);
  if (w->values.items[v].from != TN_OV_INIT) return false;
  const tn_ow_init *c = &w->inits.items[w->values.items[v].init];
  uint32_t size = w->ir->dtype_info(tn_ow_dtype(w, v))->bits / 8;
  static const uint8_t zero[8], minus[8] = {255, 255, 255, 255, 255, 255, 255, 255};
  if (c->what != TN_OI_BYTES || !size || size > 8) return false;
  for (uint64_t i = 0; i + size <= c->bytes; i += size)
    if (!memcmp((const uint8_t *)c->data + i, zero, size) ||
        !memcmp((const uint8_t *)c->data + i, minus, size))
      return false;
  return true;
}

void tn_ow_op_div(tn_ow *w, tn_op op) {
  tn_ov a = tn_ow_in(w, op, 0), b = tn_ow_in(w, op, 1);
  bool plain = tn_ow_is_float(w, tn_ow_dtype(w, a)) || harmless(w, b, 8);
  tn_ow_out(w, op, 0, plain ? tn_ow_binary(w, "Div", a, b) : guarded(w, "Div", a, b));
}

void tn_ow_op_pow(tn_ow *w, tn_op op) {
  tn_ov a = tn_ow_in(w, op, 0), b = tn_ow_in(w, op, 1);
  tn_dtype t = tn_ow_dtype(w, a);
  bool through = !tn_ow_is_float(w, t) && t != TN_DT_i32 && t != TN_DT_i64; /* not among Pow's types */
  if (through) a = tn_ow_cast(w, a, TN_DT_i64), b = tn_ow_cast(w, b, TN_DT_i64);
  tn_ow_out(w, op, 0, tn_ow_cast(w, tn_ow_binary(w, "Pow", a, b), t));
}

/* fmod has the sign of a: where that is not b's, b is added. */
static tn_ov float_mod(tn_ow *w, tn_ov a, tn_ov b) {
  tn_ow_shape t = *tn_ow_type(w, tn_ow_binary(w, "Add", a, b));
  tn_ov zero = tn_ow_scalar_like(w, b, 0);
  tn_ov r = tn_ow_node1(w, "Mod", TN_OW_IN(a, b), TN_OW_ATTRS(TN_OW_I("fmod", 1)), &t);
  tn_ov other = tn_ow_compare(
      w, "Less", tn_ow_binary(w, "Mul", tn_ow_unary(w, "Sign", r), tn_ow_unary(w, "Sign", b)), zero);
  r = tn_ow_where(w, other, tn_ow_binary(w, "Add", r, b), r);
  return tn_ow_where(w, tn_ow_compare(w, "Equal", b, zero), zero, r);
}

void tn_ow_op_mod(tn_ow *w, tn_op op) {
  tn_ov a = tn_ow_in(w, op, 0), b = tn_ow_in(w, op, 1);
  if (tn_ow_is_float(w, tn_ow_dtype(w, a))) return tn_ow_out(w, op, 0, float_mod(w, a, b));
  tn_ow_out(w, op, 0, harmless(w, b, 8) ? tn_ow_binary(w, "Mod", a, b) : guarded(w, "Mod", a, b));
}

/* Integers by way of Div: Mod with the sign of a is computed in floats by some runtimes. */
void tn_ow_op_fmod(tn_ow *w, tn_op op) {
  tn_ov a = tn_ow_in(w, op, 0), b = tn_ow_in(w, op, 1);
  if (!tn_ow_is_float(w, tn_ow_dtype(w, a))) {
    tn_ov q = harmless(w, b, 8) ? tn_ow_binary(w, "Div", a, b) : guarded(w, "Div", a, b);
    tn_ov r = tn_ow_binary(w, "Sub", a, tn_ow_binary(w, "Mul", q, b)), zero = tn_ow_scalar_like(w, b, 0);
    return tn_ow_out(w, op, 0,
                     harmless(w, b, 8) ? r : tn_ow_where(w, tn_ow_compare(w, "Equal", b, zero), zero, r));
  }
  tn_ow_shape t = *tn_ow_type(w, tn_ow_binary(w, "Add", a, b));
  tn_ow_out(w, op, 0, tn_ow_node1(w, "Mod", TN_OW_IN(a, b), TN_OW_ATTRS(TN_OW_I("fmod", 1)), &t));
}

static tn_dtype unsigned_of(tn_dtype t) {
  return t == TN_DT_i64   ? TN_DT_u64
         : t == TN_DT_i32 ? TN_DT_u32
         : t == TN_DT_i16 ? TN_DT_u16
         : t == TN_DT_i8  ? TN_DT_u8
                          : t;
}

/* BitShift is of unsigned numbers, by less than their width. */
static void shift(tn_ow *w, tn_op op, const char *direction) {
  tn_ov a = tn_ow_in(w, op, 0), b = tn_ow_in(w, op, 1);
  tn_dtype own = tn_ow_dtype(w, a), t = unsigned_of(own);
  if (tn_ow_failed(w)) return;
  a = tn_ow_cast(w, a, t), b = tn_ow_cast(w, b, t); /* negative counts become large */
  tn_ov width = tn_ow_scalar(w, t, w->ir->dtype_info(t)->bits), zero = tn_ow_scalar(w, t, 0);
  tn_ov fits = tn_ow_compare(w, "Less", b, width);
  tn_ow_shape type = *tn_ow_type(w, tn_ow_binary(w, "Add", a, b));
  tn_ov r = tn_ow_node1(w, "BitShift", TN_OW_IN(a, tn_ow_where(w, fits, b, zero)),
                        TN_OW_ATTRS(TN_OW_S("direction", direction)), &type);
  tn_ow_out(w, op, 0, tn_ow_cast(w, tn_ow_where(w, fits, r, zero), own));
}

void tn_ow_op_shl(tn_ow *w, tn_op op) { shift(w, op, "LEFT"); }
void tn_ow_op_shr(tn_ow *w, tn_op op) { shift(w, op, "RIGHT"); }

/* The op for bools, or the one for integers, which opset 18 brought. */
static const char *logic(tn_ow *w, tn_ov x, const char *of_bools, const char *of_bits) {
  if (tn_ow_dtype(w, x) == TN_DT_bool) return of_bools;
  if (w->o.opset < 18)
    tn_ow_fail(w, TN_UNSUPPORTED, "%s needs opset 18, and the model is written for %u", of_bits, w->o.opset);
  return of_bits;
}

void tn_ow_op_not(tn_ow *w, tn_op op) {
  tn_ov x = tn_ow_in(w, op, 0);
  tn_ow_out(w, op, 0, tn_ow_unary(w, logic(w, x, "Not", "BitwiseNot"), x));
}

static void logic_op(tn_ow *w, tn_op op, const char *of_bools, const char *of_bits) {
  tn_ov a = tn_ow_in(w, op, 0);
  tn_ow_out(w, op, 0, tn_ow_binary(w, logic(w, a, of_bools, of_bits), a, tn_ow_in(w, op, 1)));
}

void tn_ow_op_and(tn_ow *w, tn_op op) { logic_op(w, op, "And", "BitwiseAnd"); }
void tn_ow_op_or(tn_ow *w, tn_op op) { logic_op(w, op, "Or", "BitwiseOr"); }
void tn_ow_op_xor(tn_ow *w, tn_op op) { logic_op(w, op, "Xor", "BitwiseXor"); }

void tn_ow_op_compare(tn_ow *w, tn_op op) {
  static const char *const rows[][2] = {{"eq", "Equal"},       {"ne", "Equal"},   {"lt", "Less"},
                                        {"le", "LessOrEqual"}, {"gt", "Greater"}, {"ge", "GreaterOrEqual"}};
  const char *cmp = tn_ow_str(w, op, "cmp");
  tn_ov a = tn_ow_in(w, op, 0), b = tn_ow_in(w, op, 1);
  if (a == b && !strcmp(cmp, "ne") && tn_ow_is_float(w, tn_ow_dtype(w, a)))
    return tn_ow_out(w, op, 0, tn_ow_test(w, "IsNaN", a));
  if (tn_ow_dtype(w, a) == TN_DT_bool && strcmp(cmp, "eq") && strcmp(cmp, "ne")) /* false < true */
    a = tn_ow_cast(w, a, TN_DT_i32), b = tn_ow_cast(w, b, TN_DT_i32);
  for (uint32_t i = 0; i < TN_COUNT(rows); i++) {
    if (strcmp(cmp, rows[i][0])) continue;
    tn_ov v = tn_ow_compare(w, rows[i][1], a, b);
    return tn_ow_out(w, op, 0, strcmp(cmp, "ne") ? v : tn_ow_unary(w, "Not", v));
  }
}

void tn_ow_op_select(tn_ow *w, tn_op op) {
  tn_ow_out(w, op, 0, tn_ow_where(w, tn_ow_in(w, op, 0), tn_ow_in(w, op, 1), tn_ow_in(w, op, 2)));
}

/* ---- shape
 * ------------------------------------------------------------------------------------------------- */
void tn_ow_op_broadcast(tn_ow *w, tn_op op) {
  tn_dim dims[TN_MAX_RANK];
  uint32_t rank = tn_ow_dims(w, op, "shape", dims);
  tn_ow_out(w, op, 0, tn_ow_expand(w, tn_ow_in(w, op, 0), dims, rank));
}

void tn_ow_op_reshape(tn_ow *w, tn_op op) {
  tn_dim dims[TN_MAX_RANK];
  uint32_t rank = tn_ow_dims(w, op, "shape", dims);
  tn_ow_out(w, op, 0, tn_ow_reshape(w, tn_ow_in(w, op, 0), dims, rank));
}

void tn_ow_op_transpose(tn_ow *w, tn_op op) {
  uint32_t n;
  const int64_t *perm = tn_ow_ints(w, op, "perm", &n);
  tn_ow_out(w, op, 0, tn_ow_transpose(w, tn_ow_in(w, op, 0), perm));
}

void tn_ow_op_slice(tn_ow *w, tn_op op) {
  tn_ov x = tn_ow_in(w, op, 0);
  uint32_t axis = tn_ow_axis(w, op, x);
  tn_dim start = tn_ow_dim(w, op, "start"), stop = tn_ow_dim(w, op, "stop");
  int64_t step = tn_ow_int(w, op, "step"), first = -1;
  bool front = !axis && step == 1 && tn_ow_dconst(w, start, &first) && !first;
  tn_ov exact = front ? tn_ow_unfilled(w, x, stop) : 0;
  tn_ow_out(w, op, 0, exact ? exact : tn_ow_slice(w, x, axis, start, stop, step));
}

void tn_ow_op_split(tn_ow *w, tn_op op) {
  tn_ov x = tn_ow_in(w, op, 0);
  tn_attr a = {0};
  uint32_t axis = tn_ow_axis(w, op, x);
  w->ir->op_attr(w->m, op, "sizes", &a);
  tn_ow_shape *t = tn_arena_alloc(&w->arena, a.count * sizeof *t);
  tn_ov *parts = tn_arena_alloc(&w->arena, a.count * 2 * sizeof *parts), *sizes = parts + a.count;
  if (!t || !parts) return tn_ow_fail(w, TN_OOM, "out of memory");
  for (uint32_t i = 0; i < a.count; i++) {
    t[i] = *tn_ow_type(w, x);
    t[i].dims[axis] = tn_ow_settled(w, a.u.dims[i]);
    sizes[i] = tn_ow_dim_value(w, t[i].dims[axis]);
  }
  bool known = true;
  int64_t *k = tn_arena_alloc(&w->arena, a.count * sizeof *k);
  for (uint32_t i = 0; k && i < a.count; i++) known = tn_ow_dconst(w, t[i].dims[axis], &k[i]) && known;
  if (!k) return tn_ow_fail(w, TN_OOM, "out of memory");
  tn_ov all = known ? tn_ow_ints_1d(w, k, a.count) : tn_ow_concat(w, sizes, a.count, 0);
  tn_ow_node_typed(w, "Split", TN_OW_IN(x, all), TN_OW_ATTRS(TN_OW_I("axis", axis)), t, a.count, parts);
  for (uint32_t i = 0; i < a.count; i++) tn_ow_out(w, op, i, parts[i]);
}

void tn_ow_op_concat(tn_ow *w, tn_op op) {
  uint32_t n = w->ir->op_noperands(w->m, op);
  tn_ov *parts = tn_arena_alloc(&w->arena, n * sizeof *parts);
  if (!parts) return tn_ow_fail(w, TN_OOM, "out of memory");
  for (uint32_t i = 0; i < n; i++) parts[i] = tn_ow_in(w, op, i);
  tn_ow_out(w, op, 0, tn_ow_concat(w, parts, n, tn_ow_axis(w, op, parts[0])));
}

void tn_ow_op_pad(tn_ow *w, tn_op op) {
  tn_ov x = tn_ow_in(w, op, 0);
  tn_ow_shape t;
  uint32_t n;
  int64_t pads[2 * TN_MAX_RANK];
  const int64_t *low = tn_ow_ints(w, op, "low", &n), *high = tn_ow_ints(w, op, "high", &n);
  tn_ow_result_type(w, op, 0, &t);
  for (uint32_t i = 0; i < n; i++) pads[i] = low[i], pads[n + i] = high[i];
  tn_ov value = tn_ow_scalar_like(w, x, tn_ow_float(w, op, "value"));
  tn_ow_out(w, op, 0, tn_ow_node1(w, "Pad", TN_OW_IN(x, tn_ow_ints_1d(w, pads, 2 * n), value), NULL, &t));
}

/* Gather takes indices as they came, not as they were narrowed. */
static tn_ov gather_indices(tn_ow *w, tn_ov i) {
  tn_dtype t = tn_ow_dtype(w, i);
  const tn_ow_node *n =
      i && w->values.items[i].from == TN_OV_NODE ? &w->nodes.items[w->values.items[i].node] : NULL;
  if (n && !strcmp(n->op, "Cast") && t == TN_DT_i32 && tn_ow_dtype(w, n->in[0]) == TN_DT_i64) return n->in[0];
  return t == TN_DT_i32 || t == TN_DT_i64 ? i : tn_ow_cast(w, i, TN_DT_i64);
}

void tn_ow_op_gather(tn_ow *w, tn_op op) {
  tn_weight id = tn_ow_block_weight(w, op, 0);
  tn_ov i = gather_indices(w, tn_ow_in(w, op, 1)), rows = tn_ow_int8_rows(w, op, i);
  if (rows) return tn_ow_out(w, op, 0, rows);
  tn_ov x = id ? tn_ow_weight_rows(w, id) : tn_ow_in(w, op, 0);
  tn_ow_out(w, op, 0, tn_ow_gather(w, x, i, tn_ow_axis(w, op, x)));
}

/* ---- reductions and order
 * ------------------------------------------------------------------------------------- */
static void reduce(tn_ow *w, tn_op op, const char *onnx) {
  uint32_t n;
  const int64_t *axes = tn_ow_ints(w, op, "axes", &n);
  tn_ov x = tn_ow_in(w, op, 0);
  tn_dtype own = tn_ow_dtype(w, x);
  const tn_dtype_info *d = w->ir->dtype_info(own);
  bool keep = tn_ow_int(w, op, "keep"), whole = d && d->cls != TN_CLASS_FLOAT;
  if (whole && d->bits < 32) x = tn_ow_cast(w, x, TN_DT_i32); /* not among the types of most reductions */
  if (!whole || strcmp(onnx, "ReduceMean"))
    return tn_ow_out(w, op, 0, tn_ow_cast(w, tn_ow_reduce(w, onnx, x, axes, n, keep), own));
  tn_dim count = tn_ow_d(w, 1);
  for (uint32_t i = 0; i < n; i++) count = tn_ow_dmake(w, TN_DIM_MUL, count, tn_ow_size_of(w, x, axes[i]));
  tn_ov by = tn_ow_cast(w, tn_ow_dim_scalar(w, count), tn_ow_dtype(w, x)),
        sum = tn_ow_reduce(w, "ReduceSum", x, axes, n, keep);
  tn_ow_out(
      w, op, 0,
      tn_ow_cast(w, harmless(w, by, 8) ? tn_ow_binary(w, "Div", sum, by) : guarded(w, "Div", sum, by), own));
}

void tn_ow_op_reduce_sum(tn_ow *w, tn_op op) { reduce(w, op, "ReduceSum"); }
void tn_ow_op_reduce_mean(tn_ow *w, tn_op op) { reduce(w, op, "ReduceMean"); }
void tn_ow_op_reduce_max(tn_ow *w, tn_op op) { reduce(w, op, "ReduceMax"); }
void tn_ow_op_reduce_min(tn_ow *w, tn_op op) { reduce(w, op, "ReduceMin"); }
void tn_ow_op_reduce_prod(tn_ow *w, tn_op op) { reduce(w, op, "ReduceProd"); }

static void arg(tn_ow *w, tn_op op, const char *onnx) {
  tn_ov x = tn_ow_in(w, op, 0);
  tn_ow_shape t;
  tn_ow_result_type(w, op, 0, &t);
  const tn_ow_attr last = tn_ow_int(w, op, "last") ? TN_OW_I("select_last_index", 1) : (tn_ow_attr){0};
  tn_ow_out(w, op, 0,
            tn_ow_node1(w, onnx, &x, 1,
                        TN_OW_ATTRS(TN_OW_I("axis", tn_ow_axis(w, op, x)),
                                    TN_OW_I("keepdims", tn_ow_int(w, op, "keep")), last),
                        &t));
}

void tn_ow_op_argmax(tn_ow *w, tn_op op) { arg(w, op, "ArgMax"); }
void tn_ow_op_argmin(tn_ow *w, tn_op op) { arg(w, op, "ArgMin"); }

static void running(tn_ow *w, tn_op op, const char *onnx) {
  tn_ov x = tn_ow_in(w, op, 0);
  tn_dtype own = tn_ow_dtype(w, x);
  const tn_dtype_info *d = w->ir->dtype_info(own);
  if (d && d->cls != TN_CLASS_FLOAT && d->bits < 32)
    x = tn_ow_cast(w, x, TN_DT_i32); /* not among the op's types */
  tn_ow_shape t = *tn_ow_type(w, x);
  tn_ov axis = tn_ow_scalar(w, TN_DT_i64, tn_ow_axis(w, op, x));
  x = tn_ow_node1(w, onnx, TN_OW_IN(x, axis),
                  TN_OW_ATTRS(TN_OW_I("exclusive", tn_ow_int(w, op, "exclusive")),
                              TN_OW_I("reverse", tn_ow_int(w, op, "reverse"))),
                  &t);
  tn_ow_out(w, op, 0, tn_ow_cast(w, x, own));
}

void tn_ow_op_cumsum(tn_ow *w, tn_op op) { running(w, op, "CumSum"); }

void tn_ow_op_cumprod(tn_ow *w, tn_op op) {
  if (w->o.opset < 26)
    return tn_ow_fail(w, TN_UNSUPPORTED, "CumProd needs opset 26, and the model is written for %u",
                      w->o.opset);
  running(w, op, "CumProd");
}

static void top(tn_ow *w, tn_op op, tn_dim k, bool largest) {
  tn_ov x = tn_ow_in(w, op, 0), outs[2];
  uint32_t axis = tn_ow_axis(w, op, x);
  if (!k) k = tn_ow_size_of(w, x, axis);
  tn_ow_shape t[2] = {*tn_ow_type(w, x), *tn_ow_type(w, x)};
  t[0].dims[axis] = t[1].dims[axis] = k;
  t[1].dtype = TN_DT_i64;
  tn_ow_node_typed(w, "TopK", TN_OW_IN(x, tn_ow_dim_value(w, k)),
                   TN_OW_ATTRS(TN_OW_I("axis", axis), TN_OW_I("largest", largest)), t, 2, outs);
  tn_ow_out(w, op, 0, outs[0]);
  tn_ow_out(w, op, 1, outs[1]);
}

void tn_ow_op_sort(tn_ow *w, tn_op op) { top(w, op, 0, tn_ow_int(w, op, "descending")); }
void tn_ow_op_top_k(tn_ow *w, tn_op op) { top(w, op, tn_ow_dim(w, op, "k"), true); }
