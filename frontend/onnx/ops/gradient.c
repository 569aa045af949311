/* gradient.c - Gradient of ai.onnx.preview.training: the derivative of one tensor by others, by reverse mode
 * over the IR that the nodes between them became (Griewank and Walther 2008, chapter 3). Each op of the way
 * has a rule that turns the derivative by its result into those by its operands; an op without one is refused
 * by name. */
#include "frontend/onnx/import.h"

typedef struct gradient {
  tn_ox *x;
  tn_ox_node *n;
  TN_VEC(tn_value) of, by; /* d y / d of[i] is by[i] so far */
} gradient;

static tn_value derivative(const gradient *g, tn_value v) {
  for (uint32_t i = 0; i < g->of.count; i++)
    if (g->of.items[i] == v) return g->by.items[i];
  return 0;
}

/* Sums what broadcasting repeated, so that d has the shape of v. */
static tn_value unbroadcast(tn_ox *x, tn_value d, tn_value v) {
  uint32_t from = tn_ox_rank(x, d), to = tn_ox_rank(x, v), n = 0;
  int64_t axes[TN_MAX_RANK];
  tn_dim dims[TN_MAX_RANK];
  tn_ox_dims(x, v, dims);
  for (uint32_t i = 0; i < from; i++)
    if (i < from - to || (dims[i - (from - to)] != tn_ox_dim(x, d, i) && tn_ox_dim(x, d, i) != tn_ox_d(x, 1)))
      axes[n++] = i;
  return n ? tn_ox_reshape(x, tn_ox_reduce(x, "reduce_sum", d, axes, n, true), dims, to) : d;
}

static tn_status contribute(gradient *g, tn_value v, tn_value d) {
  if (!v || tn_ox_failed(g->x)) return TN_OK;
  d = unbroadcast(g->x, d, v);
  for (uint32_t i = 0; i < g->of.count; i++)
    if (g->of.items[i] == v) {
      g->by.items[i] = tn_ox_binary(g->x, "add", g->by.items[i], d);
      return TN_OK;
    }
  return tn_vec_push(&g->of, v) && tn_vec_push(&g->by, d) ? TN_OK : TN_OOM;
}

/* ---- rules: d is the derivative by the result y of an op with operands a and b; which: the operand
 * ------------- */
typedef tn_value (*rule_fn)(tn_ox *x, tn_value d, tn_value y, tn_value a, tn_value b, uint32_t which);

static tn_value rule_add(tn_ox *x, tn_value d, tn_value y, tn_value a, tn_value b, uint32_t which) {
  return (void)x, (void)y, (void)a, (void)b, (void)which, d;
}
static tn_value rule_sub(tn_ox *x, tn_value d, tn_value y, tn_value a, tn_value b, uint32_t which) {
  (void)y, (void)a, (void)b;
  return which ? tn_ox_unary(x, "neg", d) : d;
}
static tn_value rule_mul(tn_ox *x, tn_value d, tn_value y, tn_value a, tn_value b, uint32_t which) {
  (void)y;
  return tn_ox_binary(x, "mul", d, which ? a : b);
}
/* y = a / b: 1 / b and -y / b */
static tn_value rule_div(tn_ox *x, tn_value d, tn_value y, tn_value a, tn_value b, uint32_t which) {
  (void)a;
  tn_value q = tn_ox_binary(x, "div", d, b);
  return which ? tn_ox_unary(x, "neg", tn_ox_binary(x, "mul", q, y)) : q;
}
static tn_value rule_neg(tn_ox *x, tn_value d, tn_value y, tn_value a, tn_value b, uint32_t which) {
  return (void)y, (void)a, (void)b, (void)which, tn_ox_unary(x, "neg", d);
}
static tn_value rule_exp(tn_ox *x, tn_value d, tn_value y, tn_value a, tn_value b, uint32_t which) {
  return (void)a, (void)b, (void)which, tn_ox_binary(x, "mul", d, y);
}
static tn_value rule_log(tn_ox *x, tn_value d, tn_value y, tn_value a, tn_value b, uint32_t which) {
  return (void)y, (void)b, (void)which, tn_ox_binary(x, "div", d, a);
}
static tn_value rule_sqrt(tn_ox *x, tn_value d, tn_value y, tn_value a, tn_value b, uint32_t which) {
  (void)a, (void)b, (void)which;
  return tn_ox_binary(x, "div", d, tn_ox_binary(x, "add", y, y));
}
/* 1 - y^2 */
static tn_value rule_tanh(tn_ox *x, tn_value d, tn_value y, tn_value a, tn_value b, uint32_t which) {
  (void)a, (void)b, (void)which;
  tn_value one = tn_ox_scalar_like(x, y, 1);
  return tn_ox_binary(x, "mul", d, tn_ox_binary(x, "sub", one, tn_ox_binary(x, "mul", y, y)));
}
/* y (1 - y) */
static tn_value rule_sigmoid(tn_ox *x, tn_value d, tn_value y, tn_value a, tn_value b, uint32_t which) {
  (void)a, (void)b, (void)which;
  tn_value one = tn_ox_scalar_like(x, y, 1);
  return tn_ox_binary(x, "mul", d, tn_ox_binary(x, "mul", y, tn_ox_binary(x, "sub", one, y)));
}
static tn_value rule_broadcast(tn_ox *x, tn_value d, tn_value y, tn_value a, tn_value b, uint32_t which) {
  return (void)x, (void)y, (void)a, (void)b, (void)which, d;
}
static tn_value rule_reshape(tn_ox *x, tn_value d, tn_value y, tn_value a, tn_value b, uint32_t which) {
  tn_dim dims[TN_MAX_RANK];
  (void)y, (void)b, (void)which;
  tn_ox_dims(x, a, dims);
  return tn_ox_reshape(x, d, dims, tn_ox_rank(x, a));
}

static const struct rule {
  const char *op;
  rule_fn of;
} rules[] = {{"add", rule_add},
             {"sub", rule_sub},
             {"mul", rule_mul},
             {"div", rule_div},
             {"neg", rule_neg},
             {"exp", rule_exp},
             {"log", rule_log},
             {"sqrt", rule_sqrt},
             {"tanh", rule_tanh},
             {"sigmoid", rule_sigmoid},
             {"broadcast", rule_broadcast},
             {"reshape", rule_reshape}};

static const struct rule *rule_of(const char *op) {
  for (size_t i = 0; i < TN_COUNT(rules); i++)
    if (!strcmp(rules[i].op, op)) return &rules[i];
  return NULL;
}

/* ---- the walk
 * ------------------------------------------------------------------------------------------------- */
static bool is_leaf(const tn_value *leaves, uint32_t n, tn_value v) {
  for (uint32_t i = 0; i < n; i++)
    if (leaves[i] == v) return true;
  return false;
}

static tn_status step(gradient *g, tn_op op, const tn_value *leaves, uint32_t nleaves) {
  tn_ox *x = g->x;
  tn_value y = x->ir->op_result(x->m, op, 0), d = derivative(g, y), in[2] = {0};
  if (!d || is_leaf(leaves, nleaves, y)) return TN_OK;
  uint32_t n = x->ir->op_noperands(x->m, op);
  const char *name = x->ir->opcode_name(x->ir->opcode(x->m, op));
  const struct rule *rule = rule_of(name);
  if (!n) return TN_OK; /* a constant */
  if (!rule || n > 2) return tn_ox_refuse(x, g->n, NULL, "the derivative of '%s' is not supported", name);
  for (uint32_t i = 0; i < n; i++) in[i] = x->ir->op_operand(x->m, op, i);
  for (uint32_t i = 0; i < n; i++) TN_TRY(contribute(g, in[i], rule->of(x, d, y, in[0], in[1], i)));
  return TN_OK;
}

static tn_status walk(gradient *g, tn_value y, const tn_value *leaves, uint32_t nleaves) {
  tn_ox *x = g->x;
  tn_value_info info;
  tn_dim dims[TN_MAX_RANK];
  tn_ox_dims(x, y, dims);
  TN_TRY(contribute(g, y, tn_ox_full(x, tn_ox_scalar_like(x, y, 1), dims, tn_ox_rank(x, y))));
  x->ir->value_get(x->m, y, &info);
  tn_op op = info.kind == TN_VALUE_RESULT ? info.op : 0;
  for (; op && !tn_ox_failed(x); op = x->ir->prev_op(x->m, op)) TN_TRY(step(g, op, leaves, nleaves));
  return TN_OK;
}

static tn_status outputs(gradient *g, const tn_value *leaves, uint32_t nleaves) {
  tn_ox *x = g->x;
  for (uint32_t i = 0; i < nleaves; i++) {
    tn_dim dims[TN_MAX_RANK];
    tn_value d = derivative(g, leaves[i]);
    tn_ox_dims(x, leaves[i], dims);
    if (!d) d = tn_ox_full(x, tn_ox_scalar_like(x, leaves[i], 0), dims, tn_ox_rank(x, leaves[i]));
    TN_TRY(tn_ox_out(x, g->n, i, d));
  }
  return TN_OK;
}

tn_status tn_ox_lower_gradient(tn_ox *x, tn_ox_node *n) {
  gradient g = {.x = x, .n = n};
  uint32_t nx, nz;
  const char *const *xs = tn_ox_strs(n, "xs", &nx), *y_name = tn_ox_str(n, "y", "");
  tn_ox_strs(n, "zs", &nz);
  tn_ox_item *y = tn_ox_find(x, n->scope, y_name);
  tn_value leaves[64];
  if (!y || y->kind != TN_OX_TENSOR)
    return tn_ox_fail(x, n, "y names '%.200s', which is no tensor before it", y_name);
  if (!nx || nx > TN_COUNT(leaves)) return tn_ox_fail(x, n, "xs has %u names, expected 1 to 64", nx);
  if (nz) return tn_ox_refuse(x, n, NULL, "held values (zs) are not supported");
  for (uint32_t i = 0; i < nx; i++) {
    tn_ox_item *item = tn_ox_find(x, n->scope, xs[i]);
    if (!item || tn_ox_in(x, n, i) != tn_ox_item_value(x, item))
      return tn_ox_refuse(x, n, NULL, "input %u is not the tensor '%.200s' of xs", i, xs[i]);
    leaves[i] = tn_ox_in(x, n, i);
  }
  tn_status s = walk(&g, y->value, leaves, nx);
  if (s == TN_OK) s = outputs(&g, leaves, nx);
  tn_vec_fini(&g.of);
  tn_vec_fini(&g.by);
  return s;
}
