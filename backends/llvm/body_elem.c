/* body_elem.c - elementwise ops of a body: one row per op, floats in compute form, integers as they are. */
#include "backends/llvm/body.h"
#include "backends/llvm/convert.h"
#include "backends/llvm/math.h"

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
static ll_val f_floor(elem *c) { return ll_call1(c->e, "llvm.floor", c->x[0]); }
static ll_val f_ceil(elem *c) { return ll_call1(c->e, "llvm.ceil", c->x[0]); }
static ll_val f_round(elem *c) { return ll_call1(c->e, "llvm.rint", c->x[0]); }
static ll_val f_silu(elem *c) { return ll_fmul(c->e, c->x[0], tn_ll_sigmoid(c->e, c->x[0])); }
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

/* x - floor(x / y) y loses everything when the quotient is large; frem would be a library call. The quotient
 * is taken in f64 (exact enough for f32), and the result is corrected by one step either way. */
static ll_val float_mod(elem *c) {
  tn_ll *e = c->e;
  ll_type t = LLVMTypeOf(c->x[0]), d = ll_like(e, c->x[0], e->f64);
  bool narrow = t != d;
  ll_val x = narrow ? LLVMBuildFPExt(e->b, c->x[0], d, "") : c->x[0];
  ll_val y = narrow ? LLVMBuildFPExt(e->b, c->x[1], d, "") : c->x[1], z = ll_zero(d);
  ll_val q = ll_call1(e, "llvm.floor", ll_fdiv(e, x, y));
  ll_val r = ll_fma(e, ll_neg(e, q), y, x);
  ll_val up = ll_fcmp(e, LLVMRealOGE, ll_call1(e, "llvm.fabs", r), ll_call1(e, "llvm.fabs", y));
  r = ll_select(e, up, ll_fsub(e, r, y), r);
  ll_val wrong = ll_fcmp(e, LLVMRealOLT, ll_fmul(e, r, y), z);
  r = ll_select(e, wrong, ll_fadd(e, r, y), r);
  r = ll_select(e, ll_fcmp(e, LLVMRealOEQ, y, z), z, r);
  return narrow ? LLVMBuildFPTrunc(e->b, r, t, "") : r;
}
static ll_val f_mod(elem *c) {
  if (is_float(c)) return float_mod(c);
  ll_val r = int_div(c, true);
  if (!is_signed(c)) return r;
  tn_ll *e = c->e;
  ll_val differ = ll_icmp(e, LLVMIntSLT, ll_xor(e, r, c->x[1]), zero(c));
  ll_val some = ll_icmp(e, LLVMIntNE, r, zero(c));
  return ll_select(e, ll_and(e, differ, some), ll_add(e, r, c->x[1]), r);
}
static ll_val f_pow(elem *c) {
  if (is_float(c)) return tn_ll_pow(c->e, c->x[0], c->x[1]);
  ll_val p = tn_ll_pow(c->e, tn_ll_convert(c->e, c->dt, TN_DT_f64, c->x[0]),
                       tn_ll_convert(c->e, c->dt, TN_DT_f64, c->x[1]));
  return tn_ll_convert(c->e, TN_DT_f64, c->dt, ll_call1(c->e, "llvm.rint", p));
}
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
  bool f64;
} rows[] = {{"neg", f_neg, 1, 'V', 1},         {"abs", f_abs, 1, 'V', 1},   {"sign", f_sign, 1, 'V', 1},
            {"exp", f_exp, 1, 'V', 1},         {"log", f_log, 1, 'V', 1},   {"sqrt", f_sqrt, 1, 'V', 1},
            {"rsqrt", f_rsqrt, 1, 'V', 1},     {"tanh", f_tanh, 1, 'V', 1}, {"erf", f_erf, 1, 'V', 0},
            {"sigmoid", f_sigmoid, 1, 'V', 1}, {"sin", f_sin, 1, 'V', 1},   {"cos", f_cos, 1, 'V', 1},
            {"floor", f_floor, 1, 'V', 1},     {"ceil", f_ceil, 1, 'V', 1}, {"round", f_round, 1, 'V', 1},
            {"silu", f_silu, 1, 'V', 1},       {"relu", f_relu, 1, 'V', 1}, {"not", f_not, 1, 'P', 1},
            {"gelu", f_gelu, 1, 'V', 0},       {"add", f_add, 2, 'V', 1},   {"sub", f_sub, 2, 'V', 1},
            {"mul", f_mul, 2, 'V', 1},         {"div", f_div, 2, 'V', 1},   {"pow", f_pow, 2, 'V', 1},
            {"min", f_min, 2, 'V', 1},         {"max", f_max, 2, 'V', 1},   {"mod", f_mod, 2, 'V', 1},
            {"and", f_and, 2, 'P', 1},         {"or", f_or, 2, 'P', 1},     {"xor", f_xor, 2, 'P', 1},
            {"compare", f_compare, 2, 'B', 1}};

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
  return c.cls == TN_CLASS_FLOAT && r->kind == 'V' ? tn_ll_from_compute(b->e, c.dt, v) : v;
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
  return tn_ll_from_memory(b->e, to, x);
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
    *r = name[0] == 'c' ? tn_ll_convert(b->e, from, to.dtype, x) : bitcast(b, from, to.dtype, x);
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
    *why = "not available in f64";
    if (row && !row->f64 && t == TN_DT_f64) return false;
  }
  for (uint32_t i = 0; i < ir->op_nresults(m, op); i++) {
    *why = "this result type is not supported";
    tn_dtype t = type_in(ir, m, ir->op_result(m, op, i)).dtype;
    if (t >= TN_DT_BLOCK ? !blocks : !tn_ll_dtype_of(t).known) return false;
  }
  return true;
}
