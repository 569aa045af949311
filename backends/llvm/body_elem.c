/* body_elem.c - elementwise ops of a body: one row per op, floats in compute form, integers as they are. */
#include "backends/llvm/body.h"
#include "backends/llvm/convert.h"
#include "backends/llvm/math.h"
#include <math.h>

/* What one element of an op needs: operands in compute form (floats) or register form, the operands' type. */
typedef struct elem {
  tn_ll_body *b;
  tn_ll *e;
  tn_op op;
  tn_dtype dt;
  uint32_t cls;
  ll_val x[3];
} elem;
typedef ll_val (*elem_fn)(elem *c);

static bool is_float(elem *c) { return c->cls == TN_CLASS_FLOAT; }
static bool is_signed(elem *c) { return c->cls == TN_CLASS_INT; }
static ll_val zero(elem *c) { return ll_zero(LLVMTypeOf(c->x[0])); }

static ll_val f_neg(elem *c) { return is_float(c) ? ll_neg(c->e, c->x[0]) : ll_sub(c->e, zero(c), c->x[0]); }
static ll_val f_abs(elem *c) {
  if (is_float(c)) return ll_call1(c->e, "llvm.fabs", c->x[0]);
  if (!is_signed(c)) return c->x[0];
  return ll_select(c->e, ll_icmp(c->e, LLVMIntSLT, c->x[0], zero(c)), ll_sub(c->e, zero(c), c->x[0]),
                   c->x[0]);
}
static ll_val f_sign(elem *c) {
  ll_val x = c->x[0], z = zero(c);
  if (is_float(c)) {
    ll_val r =
        ll_select(c->e, ll_fcmp(c->e, LLVMRealOGT, x, z), ll_f(c->e, x, 1), x); /* zeros and NaN stay */
    return ll_select(c->e, ll_fcmp(c->e, LLVMRealOLT, x, z), ll_f(c->e, x, -1), r);
  }
  ll_val up = ll_select(c->e, ll_icmp(c->e, LLVMIntNE, x, z), ll_i(c->e, x, 1), z);
  return is_signed(c) ? ll_select(c->e, ll_icmp(c->e, LLVMIntSLT, x, z), ll_i(c->e, x, -1), up) : up;
}
static ll_val f_exp(elem *c) { return tn_ll_exp(c->e, c->x[0]); }
static ll_val f_log(elem *c) { return tn_ll_log(c->e, c->x[0]); }
static ll_val f_sqrt(elem *c) { return ll_call1(c->e, "llvm.sqrt", c->x[0]); }
static ll_val f_rsqrt(elem *c) { return ll_fdiv(c->e, ll_f(c->e, c->x[0], 1), f_sqrt(c)); }
static ll_val f_tanh(elem *c) { return tn_ll_tanh(c->e, c->x[0]); }
static ll_val f_sigmoid(elem *c) { return tn_ll_sigmoid(c->e, c->x[0]); }
static ll_val f_erf(elem *c) { return tn_ll_erf(c->e, c->x[0]); }
static ll_val f_sin(elem *c) { return tn_ll_sin(c->e, c->x[0]); }
static ll_val f_cos(elem *c) { return tn_ll_cos(c->e, c->x[0]); }
#define TN_MATH(op)                                                                                          \
  static ll_val f_##op(elem *c) { return tn_ll_##op(c->e, c->x[0]); }
TN_MATH(tan)
TN_MATH(asin)
TN_MATH(acos)
TN_MATH(atan)
TN_MATH(sinh)
TN_MATH(cosh)
TN_MATH(asinh)
TN_MATH(acosh)
TN_MATH(atanh)
TN_MATH(expm1)
TN_MATH(log1p)
#undef TN_MATH
static ll_val f_floor(elem *c) { return ll_call1(c->e, "llvm.floor", c->x[0]); }
static ll_val f_ceil(elem *c) { return ll_call1(c->e, "llvm.ceil", c->x[0]); }
static ll_val f_round(elem *c) { return ll_call1(c->e, "llvm.rint", c->x[0]); }
static ll_val f_silu(elem *c) { return tn_ll_silu(c->e, c->x[0]); }
static ll_val f_relu(elem *c) {
  ll_val x = c->x[0], z = zero(c);
  if (is_float(c)) return ll_select(c->e, ll_fcmp(c->e, LLVMRealOLT, x, z), z, x);
  return is_signed(c) ? ll_imax(c->e, x, z) : x;
}
static ll_val f_not(elem *c) { return ll_not(c->e, c->x[0]); }
static ll_val f_gelu(elem *c) { return tn_ll_gelu(c->e, c->x[0], tn_ll_attr_str(c->b, c->op, "form")); }

static ll_val f_add(elem *c) { return (is_float(c) ? ll_fadd : ll_add)(c->e, c->x[0], c->x[1]); }
static ll_val f_sub(elem *c) { return (is_float(c) ? ll_fsub : ll_sub)(c->e, c->x[0], c->x[1]); }
static ll_val f_mul(elem *c) { return (is_float(c) ? ll_fmul : ll_mul)(c->e, c->x[0], c->x[1]); }

/* Integer quotient or remainder that cannot trap: 0 for a divisor of 0; -1 negates instead of dividing. */
static ll_val int_div(elem *c, bool rem) {
  tn_ll *e = c->e;
  ll_val x = c->x[0], y = c->x[1], none = ll_icmp(e, LLVMIntEQ, y, zero(c));
  if (!is_signed(c)) {
    ll_val d = ll_select(e, none, ll_i(e, y, 1), y);
    return ll_select(e, none, zero(c), rem ? ll_urem(e, x, d) : ll_udiv(e, x, d));
  }
  ll_val minus = ll_icmp(e, LLVMIntEQ, y, ll_i(e, y, -1));
  ll_val d = ll_select(e, ll_or(e, none, minus), ll_i(e, y, 1), y);
  ll_val q = rem ? ll_srem(e, x, d) : ll_sdiv(e, x, d);
  q = ll_select(e, minus, rem ? zero(c) : ll_sub(e, zero(c), x), q);
  return ll_select(e, none, zero(c), q);
}
static ll_val f_div(elem *c) { return is_float(c) ? ll_fdiv(c->e, c->x[0], c->x[1]) : int_div(c, false); }

/* x less the multiple of y next to it towards 0, for x, y >= 0. The rounded quotient may be one too large. */
static ll_val mod_step(tn_ll *e, ll_val x, ll_val y) {
  ll_val r = ll_fma(e, ll_neg(e, ll_call1(e, "llvm.trunc", ll_fdiv(e, x, y))), y, x);
  r = ll_select(e, ll_fcmp(e, LLVMRealOLT, r, ll_f(e, r, 0)), ll_fadd(e, r, y), r);
  return ll_select(e, ll_fcmp(e, LLVMRealOGE, r, y), ll_fsub(e, r, y), r);
}
/* C's fmod; frem would be a library call. In f64 a step is exact while the quotient has at most 53 bits; f32
 * has quotients of up to 277 bits, which go in six steps from multiples y 2^240 down. f64 is left with one
 * step. */
static ll_val c_fmod(elem *c) {
  tn_ll *e = c->e;
  ll_type t = LLVMTypeOf(c->x[0]), d = ll_like(e, c->x[0], e->f64);
  bool narrow = t != d;
  ll_val x = narrow ? LLVMBuildFPExt(e->b, c->x[0], d, "") : c->x[0];
  ll_val y = narrow ? LLVMBuildFPExt(e->b, c->x[1], d, "") : c->x[1];
  ll_val size = ll_call1(e, "llvm.fabs", x), by = ll_call1(e, "llvm.fabs", y), r = size;
  for (int i = narrow ? 5 : 0; i >= 0; i--) r = mod_step(e, r, ll_fmul(e, by, ll_f(e, by, ldexp(1, 48 * i))));
  ll_val inf = ll_f(e, y, __builtin_inf());
  ll_val small = ll_and(e, ll_fcmp(e, LLVMRealOEQ, by, inf), ll_fcmp(e, LLVMRealOLT, size, inf));
  r = ll_call2(e, "llvm.copysign", ll_select(e, small, size, r), x);
  return narrow ? LLVMBuildFPTrunc(e->b, r, t, "") : r;
}
/* Python's: the sign of y, and 0 for y = 0. */
static ll_val float_mod(elem *c) {
  tn_ll *e = c->e;
  ll_val y = c->x[1], z = zero(c), r = c_fmod(c);
  ll_val differ = ll_fcmp(e, LLVMRealOLT, ll_fmul(e, ll_call2(e, "llvm.copysign", ll_f(e, y, 1), y), r), z);
  r = ll_select(e, differ, ll_fadd(e, r, y), r);
  r = ll_select(e, ll_fcmp(e, LLVMRealOEQ, r, z), ll_call2(e, "llvm.copysign", z, y), r);
  ll_val number = ll_fcmp(e, LLVMRealORD, c->x[0], c->x[0]);
  return ll_select(e, ll_and(e, number, ll_fcmp(e, LLVMRealOEQ, y, z)), z, r);
}
static ll_val f_fmod(elem *c) { return is_float(c) ? c_fmod(c) : int_div(c, true); }
static ll_val f_mod(elem *c) {
  if (is_float(c)) return float_mod(c);
  ll_val r = int_div(c, true);
  if (!is_signed(c)) return r;
  tn_ll *e = c->e;
  ll_val differ = ll_icmp(e, LLVMIntSLT, ll_xor(e, r, c->x[1]), zero(c));
  ll_val some = ll_icmp(e, LLVMIntNE, r, zero(c));
  return ll_select(e, ll_and(e, differ, some), ll_add(e, r, c->x[1]), r);
}
/* By squaring, wrapping like products. A negative power is 0 but for the bases 1 and -1. */
static ll_val int_pow(elem *c) {
  tn_ll *e = c->e;
  ll_val a = c->x[0], y = c->x[1], one = ll_i(e, a, 1), r = one, minus = ll_i(e, a, -1);
  uint32_t bits = tn_ll_dtype_of(c->dt).bytes * 8 - is_signed(c);
  for (uint32_t i = 0; i < bits; i++) {
    ll_val bit = LLVMBuildTrunc(e->b, ll_lshr(e, y, ll_i(e, y, i)), ll_like(e, y, e->i1), "");
    r = ll_select(e, bit, ll_mul(e, r, a), r);
    a = ll_mul(e, a, a);
  }
  if (!is_signed(c)) return r;
  ll_val odd = LLVMBuildTrunc(e->b, y, ll_like(e, y, e->i1), "");
  ll_val low = ll_select(e, ll_icmp(e, LLVMIntEQ, c->x[0], minus), ll_select(e, odd, minus, one), zero(c));
  low = ll_select(e, ll_icmp(e, LLVMIntEQ, c->x[0], one), one, low);
  return ll_select(e, ll_icmp(e, LLVMIntSLT, y, zero(c)), low, r);
}
static ll_val f_pow(elem *c) { return is_float(c) ? tn_ll_pow(c->e, c->x[0], c->x[1]) : int_pow(c); }

/* The hardware's shifts take the count modulo the width, LLVM's are undefined beyond it. */
static ll_val shifted(elem *c, ll_val (*shift)(tn_ll *, ll_val, ll_val)) {
  tn_ll *e = c->e;
  tn_ll_dtype d = tn_ll_dtype_of(c->dt);
  ll_val x = c->x[0], width = ll_i(e, x, d.packed ? d.packed : d.bytes * 8);
  if (d.packed) x = ll_and(e, x, ll_i(e, x, (1 << d.packed) - 1));
  ll_val in = ll_icmp(e, LLVMIntULT, c->x[1], width);
  return ll_select(e, in, shift(e, x, ll_select(e, in, c->x[1], zero(c))), zero(c));
}
static ll_val f_shl(elem *c) { return shifted(c, ll_shl); }
static ll_val f_shr(elem *c) { return shifted(c, ll_lshr); }
static ll_val extreme(elem *c, const char *intrinsic, LLVMIntPredicate s, LLVMIntPredicate u) {
  if (is_float(c)) return ll_call2(c->e, intrinsic, c->x[0], c->x[1]);
  return ll_select(c->e, ll_icmp(c->e, is_signed(c) ? s : u, c->x[0], c->x[1]), c->x[0], c->x[1]);
}
static ll_val f_min(elem *c) { return extreme(c, "llvm.minimum", LLVMIntSLT, LLVMIntULT); }
static ll_val f_max(elem *c) { return extreme(c, "llvm.maximum", LLVMIntSGT, LLVMIntUGT); }
static ll_val f_and(elem *c) { return ll_and(c->e, c->x[0], c->x[1]); }
static ll_val f_or(elem *c) { return ll_or(c->e, c->x[0], c->x[1]); }
static ll_val f_xor(elem *c) { return ll_xor(c->e, c->x[0], c->x[1]); }

static ll_val f_compare(elem *c) {
  static const struct {
    const char *name;
    LLVMRealPredicate f;
    LLVMIntPredicate s, u;
  } rows[] = {{"eq", LLVMRealOEQ, LLVMIntEQ, LLVMIntEQ},   {"ne", LLVMRealUNE, LLVMIntNE, LLVMIntNE},
              {"lt", LLVMRealOLT, LLVMIntSLT, LLVMIntULT}, {"le", LLVMRealOLE, LLVMIntSLE, LLVMIntULE},
              {"gt", LLVMRealOGT, LLVMIntSGT, LLVMIntUGT}, {"ge", LLVMRealOGE, LLVMIntSGE, LLVMIntUGE}};
  const char *cmp = tn_ll_attr_str(c->b, c->op, "cmp");
  for (size_t i = 0; i < TN_COUNT(rows); i++)
    if (!strcmp(cmp, rows[i].name)) {
      if (is_float(c)) return ll_fcmp(c->e, rows[i].f, c->x[0], c->x[1]);
      return ll_icmp(c->e, is_signed(c) ? rows[i].s : rows[i].u, c->x[0], c->x[1]);
    }
  tn_ll_fail(c->e, "compare has no relation '%s'", cmp);
  return LLVMGetPoison(ll_like(c->e, c->x[0], c->e->i1));
}

/* kind: V value in, value out; P register form in and out (bits), B result is bool */
static const struct elem_row {
  const char *name;
  elem_fn fn;
  uint32_t n;
  char kind;
} rows[] = {{"neg", f_neg, 1, 'V'},         {"abs", f_abs, 1, 'V'},     {"sign", f_sign, 1, 'V'},
            {"exp", f_exp, 1, 'V'},         {"log", f_log, 1, 'V'},     {"sqrt", f_sqrt, 1, 'V'},
            {"rsqrt", f_rsqrt, 1, 'V'},     {"tanh", f_tanh, 1, 'V'},   {"erf", f_erf, 1, 'V'},
            {"sigmoid", f_sigmoid, 1, 'V'}, {"sin", f_sin, 1, 'V'},     {"cos", f_cos, 1, 'V'},
            {"tan", f_tan, 1, 'V'},         {"asin", f_asin, 1, 'V'},   {"acos", f_acos, 1, 'V'},
            {"atan", f_atan, 1, 'V'},       {"sinh", f_sinh, 1, 'V'},   {"cosh", f_cosh, 1, 'V'},
            {"asinh", f_asinh, 1, 'V'},     {"acosh", f_acosh, 1, 'V'}, {"atanh", f_atanh, 1, 'V'},
            {"expm1", f_expm1, 1, 'V'},     {"log1p", f_log1p, 1, 'V'}, {"floor", f_floor, 1, 'V'},
            {"ceil", f_ceil, 1, 'V'},       {"round", f_round, 1, 'V'}, {"silu", f_silu, 1, 'V'},
            {"relu", f_relu, 1, 'V'},       {"not", f_not, 1, 'P'},     {"gelu", f_gelu, 1, 'V'},
            {"add", f_add, 2, 'V'},         {"sub", f_sub, 2, 'V'},     {"mul", f_mul, 2, 'V'},
            {"div", f_div, 2, 'V'},         {"pow", f_pow, 2, 'V'},     {"min", f_min, 2, 'V'},
            {"max", f_max, 2, 'V'},         {"mod", f_mod, 2, 'V'},     {"fmod", f_fmod, 2, 'V'},
            {"and", f_and, 2, 'P'},         {"or", f_or, 2, 'P'},       {"xor", f_xor, 2, 'P'},
            {"shl", f_shl, 2, 'P'},         {"shr", f_shr, 2, 'P'},     {"compare", f_compare, 2, 'B'}};

static const struct elem_row *row_of(const char *name) {
  for (size_t i = 0; i < TN_COUNT(rows); i++)
    if (!strcmp(rows[i].name, name)) return &rows[i];
  return NULL;
}

static ll_val operand(tn_ll_body *b, tn_op op, uint32_t i, const tn_type_info *to, const tn_ll_index *ix) {
  tn_value v = b->ir->op_operand(b->m, op, i);
  tn_type_info from = tn_ll_type(b, v);
  tn_ll_index at;
  tn_ll_broadcast_index(b, &from, to, ix, &at);
  return tn_ll_eval(b, v, &at);
}

static ll_val eval_row(tn_ll_body *b, tn_op op, const struct elem_row *r, const tn_type_info *to,
                       const tn_ll_index *ix) {
  elem c = {.b = b, .e = b->e, .op = op};
  c.dt = tn_ll_type(b, b->ir->op_operand(b->m, op, 0)).dtype;
  c.cls = tn_ll_dtype_of(c.dt).cls;
  bool vec = false;
  for (uint32_t i = 0; i < r->n; i++) {
    c.x[i] = operand(b, op, i, to, ix);
    vec |= ll_is_vec(c.x[i]);
  }
  for (uint32_t i = 0; i < r->n; i++) {
    c.x[i] = ll_wide(b->e, c.x[i], vec);
    if (c.cls == TN_CLASS_FLOAT && r->kind != 'P') c.x[i] = tn_ll_to_compute(b->e, c.dt, c.x[i]);
  }
  ll_val v = r->fn(&c);
  if (c.cls == TN_CLASS_FLOAT) return r->kind == 'V' ? tn_ll_from_compute(b->e, c.dt, v) : v;
  return r->kind == 'B' ? v : tn_ll_wrap(b->e, c.dt, v);
}

static ll_val eval_select(tn_ll_body *b, tn_op op, const tn_type_info *to, const tn_ll_index *ix) {
  ll_val x[3];
  for (uint32_t i = 0; i < 3; i++) x[i] = operand(b, op, i, to, ix);
  bool vec = ll_is_vec(x[1]) || ll_is_vec(x[2]) || ll_is_vec(x[0]);
  return ll_select(b->e, ll_wide(b->e, x[0], ll_is_vec(x[0])), ll_wide(b->e, x[1], vec),
                   ll_wide(b->e, x[2], vec));
}

static ll_val bitcast(tn_ll_body *b, tn_dtype from, tn_dtype to, ll_val x) {
  x = tn_ll_to_memory(b->e, from, x);
  x = ll_cast_bits(b->e, x, ll_like(b->e, x, tn_ll_memory_type(b->e, to)));
  return tn_ll_wrap(b->e, to, tn_ll_from_memory(b->e, to, x));
}

bool tn_ll_eval_elementwise(tn_ll_body *b, tn_op op, const char *name, tn_value v, const tn_ll_index *ix,
                            ll_val *r) {
  tn_type_info to = tn_ll_type(b, v);
  if (!strcmp(name, "select")) {
    *r = eval_select(b, op, &to, ix);
    return true;
  }
  if (!strcmp(name, "cast") || !strcmp(name, "bitcast")) {
    tn_dtype from = tn_ll_type(b, b->ir->op_operand(b->m, op, 0)).dtype;
    ll_val x = operand(b, op, 0, &to, ix);
    *r = name[0] == 'b' ? bitcast(b, from, to.dtype, x)
                        : tn_ll_cast(b->e, from, to.dtype, x, tn_ll_attr_str(b, op, "overflow"),
                                     tn_ll_attr_str(b, op, "round"));
    return true;
  }
  const struct elem_row *row = row_of(name);
  if (!row) return false;
  *r = eval_row(b, op, row, &to, ix);
  return true;
}

/* ---- what can be evaluated ---- */
static const char *const other_ops[] = {"select",    "cast",        "bitcast",       "broadcast", "reshape",
                                        "transpose", "slice",       "split",         "concat",    "pad",
                                        "gather",    "iota",        "constant",      "rope",      "alibi",
                                        "dequant",   "causal_mask", "random_uniform"};

static tn_type_info type_in(const tn_ir *ir, tn_module *m, tn_value v) {
  tn_value_info i;
  tn_type_info t;
  ir->value_get(m, v, &i);
  ir->type_get(m, i.type, &t);
  return t;
}

bool tn_ll_can_eval(const tn_ir *ir, tn_module *m, tn_op op, const char **why) {
  const char *name = ir->opcode_name(ir->opcode(m, op));
  const struct elem_row *row = row_of(name);
  bool found = row != NULL, blocks = !strcmp(name, "dequant") || !strcmp(name, "gather");
  for (size_t i = 0; !found && i < TN_COUNT(other_ops); i++) found = !strcmp(other_ops[i], name);
  *why = "not an op that is evaluated inside a kernel";
  if (!found) return false;
  for (uint32_t i = 0; i < ir->op_noperands(m, op); i++) {
    tn_value v = ir->op_operand(m, op, i);
    if (!v) continue;
    tn_dtype t = type_in(ir, m, v).dtype;
    *why = "this operand type is not supported";
    if (t >= TN_DT_BLOCK ? !blocks : !tn_ll_dtype_of(t).known) return false;
  }
  for (uint32_t i = 0; i < ir->op_nresults(m, op); i++) {
    *why = "this result type is not supported";
    tn_dtype t = type_in(ir, m, ir->op_result(m, op, i)).dtype;
    if (t >= TN_DT_BLOCK ? !blocks : !tn_ll_dtype_of(t).known) return false;
  }
  return true;
}
