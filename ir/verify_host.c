/* verify_host.c - what a module says about let_dim, if and loop that no op sees by itself: each dim gets its
 * value once and is not used before; the functions that are called exist, are private, do not call
 * themselves, and take and give what the call says. */
#include "ir/late.h"
#include "ir/module.h"

/* Calls inside calls: each takes a part of the stack when it runs. */
enum { MAX_DEPTH = 64 };

typedef struct checker {
  tn_module *m;
  uint32_t *depth; /* by function: 1 + calls inside each other below it; IN_PROGRESS while looked at */
  uint32_t errors;
} checker;
#define IN_PROGRESS UINT32_MAX
#define FAULT(c, op, ...)                                                                                    \
  (tn_module_fail((c)->m, TN_INVALID, tn_ir_op_loc((c)->m, op), __VA_ARGS__), (c)->errors++)

static const char *mnemonic(checker *c, tn_op op) { return tn_ir_opcode_name(tn_ir_opcode(c->m, op)); }

static tn_func function_of(tn_module *m, const char *name) {
  for (tn_func f = 1; f < m->funcs.count; f++)
    if (!strcmp(m->funcs.items[f].name, name)) return f;
  return 0;
}

/* ---- calls --------------------------------------------------------------------------------------------- */

static tn_type type_of(checker *c, tn_value v) { return tn_value_row_of(c->m, v)->type; }

/* Types of a call agree if element types, ranks and those dims do that are numbers on both sides; `drop`:
 * leading dims of `a` that `b` has not. */
static bool agree(checker *c, tn_type a, tn_type b, uint32_t drop) {
  tn_type_info x, y;
  tn_ir_type_get(c->m, a, &x);
  tn_ir_type_get(c->m, b, &y);
  if (x.dtype != y.dtype || x.rank != y.rank + drop) return false;
  for (uint32_t i = 0; i < y.rank; i++) {
    int64_t n, k;
    if (tn_ir_dim_is_const(c->m, x.dims[i + drop], &n) && tn_ir_dim_is_const(c->m, y.dims[i], &k) && n != k)
      return false;
  }
  return true;
}

static void check_types(checker *c, tn_op op, const char *callee, const char *what, uint32_t i, tn_type given,
                        tn_type wanted, uint32_t drop) {
  if (agree(c, given, wanted, drop)) return;
  tn_buf a = {0}, b = {0};
  tn_type_print(c->m, given, &a);
  tn_type_print(c->m, wanted, &b);
  FAULT(c, op, "%s: %s %u of function '%s' is %s, but the call has %s", mnemonic(c, op), what, i, callee,
        tn_buf_cstr(&b), tn_buf_cstr(&a));
  tn_buf_fini(&a);
  tn_buf_fini(&b);
}

/* The function that attribute `attr` names; 0 after a fault. */
static tn_func callee_of(checker *c, tn_op op, const char *attr) {
  tn_attr name, is_private;
  if (!tn_ir_op_attr(c->m, op, attr, &name)) return 0;
  tn_func f = function_of(c->m, name.u.s);
  if (!f) return FAULT(c, op, "%s: there is no function '%s'", mnemonic(c, op), name.u.s), 0;
  if (!tn_ir_func_attr(c->m, f, "private", &is_private) || is_private.kind != TN_ATTR_INT || !is_private.u.i)
    return FAULT(c, op, "%s: function '%s' is an entry point; only functions with private = 1 are called",
                 mnemonic(c, op), name.u.s),
           0;
  return f;
}

static bool counts_agree(checker *c, tn_op op, const tn_func_info *f, uint32_t args, uint32_t results) {
  if (f->nargs == args && f->nresults == results) return true;
  FAULT(c, op, "%s: function '%s' has %u arguments and %u results, but the call has %u and %u",
        mnemonic(c, op), f->name, f->nargs, f->nresults, args, results);
  return false;
}

static void check_branch(checker *c, tn_op op, const char *attr) {
  tn_func f = callee_of(c, op, attr);
  if (!f) return;
  tn_func_info info;
  tn_ir_func_get(c->m, f, &info);
  uint32_t args = tn_ir_op_noperands(c->m, op) - 1, results = tn_ir_op_nresults(c->m, op);
  if (!counts_agree(c, op, &info, args, results)) return;
  for (uint32_t i = 0; i < args; i++)
    check_types(c, op, info.name, "argument", i, type_of(c, tn_ir_op_operand(c->m, op, i + 1)),
                type_of(c, info.args[i]), 0);
  for (uint32_t i = 0; i < results; i++)
    check_types(c, op, info.name, "result", i, type_of(c, tn_ir_op_result(c->m, op, i)), info.results[i], 0);
}

/* A scalar of element type `dtype`. */
static void check_scalar(checker *c, tn_op op, const char *callee, const char *what, tn_type t,
                         tn_dtype dtype) {
  tn_type_info info;
  tn_ir_type_get(c->m, t, &info);
  if (info.dtype == dtype && !info.rank) return;
  tn_buf text = {0};
  tn_type_print(c->m, t, &text);
  FAULT(c, op, "loop: %s of function '%s' must be %s[], but is %s", what, callee,
        tn_ir_dtype_info(dtype)->name, tn_buf_cstr(&text));
  tn_buf_fini(&text);
}

static void check_loop(checker *c, tn_op op) {
  tn_func f = callee_of(c, op, "body");
  if (!f) return;
  tn_func_info info;
  tn_attr n;
  tn_ir_func_get(c->m, f, &info);
  tn_ir_op_attr(c->m, op, "carried", &n);
  uint32_t values = tn_ir_op_noperands(c->m, op) - 2, results = tn_ir_op_nresults(c->m, op);
  uint32_t carried = (uint32_t)n.u.i;
  if (!counts_agree(c, op, &info, values + 1, results + 1)) return;
  check_scalar(c, op, info.name, "argument 0", type_of(c, info.args[0]), TN_DT_i64);
  check_scalar(c, op, info.name, "result 0", info.results[0], TN_DT_bool);
  for (uint32_t i = 0; i < values; i++)
    check_types(c, op, info.name, "argument", i + 1, type_of(c, tn_ir_op_operand(c->m, op, i + 2)),
                type_of(c, info.args[i + 1]), 0);
  for (uint32_t i = 0; i < results; i++)
    check_types(c, op, info.name, "result", i + 1, type_of(c, tn_ir_op_result(c->m, op, i)),
                info.results[i + 1], i >= carried);
  for (uint32_t i = 0; i < carried; i++)
    if (!agree(c, info.results[i + 1], type_of(c, info.args[i + 1]), 0))
      FAULT(c, op, "loop: what function '%s' returns as result %u cannot be its argument %u again", info.name,
            i + 1, i + 1);
}

/* How deep the calls below f go. */
static uint32_t measure(checker *c, tn_func f);

static void measure_callee(checker *c, tn_op op, const char *attr, uint32_t *deepest) {
  tn_attr name;
  tn_func g = tn_ir_op_attr(c->m, op, attr, &name) ? function_of(c->m, name.u.s) : 0;
  if (!g) return; /* reported */
  if (c->depth[g] == IN_PROGRESS) {
    FAULT(c, op, "%s: function '%s' calls itself", mnemonic(c, op), name.u.s);
    return;
  }
  uint32_t below = measure(c, g);
  if (below > *deepest) *deepest = below;
}

static uint32_t measure(checker *c, tn_func f) {
  if (c->depth[f]) return c->depth[f];
  uint32_t deepest = 0;
  c->depth[f] = IN_PROGRESS;
  for (tn_op op = tn_ir_first_op(c->m, f, 0); op; op = tn_ir_next_op(c->m, op)) {
    uint32_t code = tn_ir_opcode(c->m, op);
    if (code == TN_OPC_if) measure_callee(c, op, "then", &deepest), measure_callee(c, op, "else", &deepest);
    if (code == TN_OPC_loop) measure_callee(c, op, "body", &deepest);
    if (deepest == MAX_DEPTH) {
      FAULT(c, op, "%s: calls inside calls, more than %d", mnemonic(c, op), MAX_DEPTH);
      deepest = 0;
    }
  }
  return c->depth[f] = deepest + 1;
}

/* ---- dims ---------------------------------------------------------------------------------------------- */

static void fault_dim(checker *c, tn_op op, tn_dim d, const char *what) {
  tn_buf text = {0};
  tn_dim_print(c->m, d, &text);
  FAULT(c, op, "%s: dim %s %s", mnemonic(c, op), tn_buf_cstr(&text), what);
  tn_buf_fini(&text);
}

static bool is_known(checker *c, tn_late *late, tn_op op, uint32_t place, tn_dim d) {
  if (tn_late_place(late, d) <= place) return true;
  fault_dim(c, op, d, "has no value yet");
  return false;
}

static bool check_attrs(checker *c, tn_late *late, tn_op op, uint32_t place) {
  const tn_op_spec *s = tn_op_spec_of(tn_ir_opcode(c->m, op));
  for (uint32_t i = 0; i < s->nattrs; i++) {
    tn_attr a;
    if (!tn_ir_op_attr(c->m, op, s->attrs[i].name, &a)) continue;
    if (a.kind == TN_ATTR_DIM && !is_known(c, late, op, place, a.u.dim)) return false;
    for (uint32_t k = 0; a.kind == TN_ATTR_DIMS && k < a.count; k++)
      if (!is_known(c, late, op, place, a.u.dims[k])) return false;
  }
  return true;
}

static void check_op_dims(checker *c, tn_late *late, tn_op op, uint32_t place) {
  if (!check_attrs(c, late, op, place)) return;
  for (uint32_t r = 0; r < tn_ir_op_nresults(c->m, op); r++) {
    tn_type_info t;
    tn_ir_type_get(c->m, type_of(c, tn_ir_op_result(c->m, op, r)), &t);
    for (uint32_t k = 0; k < t.rank; k++)
      if (!is_known(c, late, op, place, t.dims[k])) return;
  }
}

static void check_let(checker *c, const tn_late *late, const tn_func_info *f, tn_op op) {
  tn_attr dim;
  tn_ir_op_attr(c->m, op, "dim", &dim);
  if (tn_late_symbol_of(late, dim.u.dim)->op != op) fault_dim(c, op, dim.u.dim, "has a value already");
  for (uint32_t i = 0; i < f->nargs; i++) {
    tn_type_info t;
    tn_ir_type_get(c->m, type_of(c, f->args[i]), &t);
    for (uint32_t k = 0; k < t.rank; k++)
      if (t.dims[k] == dim.u.dim) {
        fault_dim(c, op, dim.u.dim, "is given by an argument");
        return;
      }
  }
}

static bool has_host_ops(tn_module *m, tn_func f) {
  for (tn_op op = tn_ir_first_op(m, f, 0); op; op = tn_ir_next_op(m, op))
    if (tn_op_spec_of(tn_ir_opcode(m, op))->flags & TN_F_HOST) return true;
  return false;
}

static void check_func(checker *c, tn_func f) {
  tn_func_info info;
  tn_late late;
  uint32_t place = 0;
  tn_ir_func_get(c->m, f, &info);
  bool ok = tn_late_find(c->m, f, &late);
  for (tn_op op = tn_ir_first_op(c->m, f, 0); ok && op; op = tn_ir_next_op(c->m, op)) {
    uint32_t code = tn_ir_opcode(c->m, op);
    check_op_dims(c, &late, op, ++place);
    if (code == TN_OPC_let_dim) check_let(c, &late, &info, op);
    if (code == TN_OPC_if) check_branch(c, op, "then"), check_branch(c, op, "else");
    if (code == TN_OPC_loop) check_loop(c, op);
  }
  tn_late_fini(&late);
  if (!ok || late.oom) tn_module_oom(c->m), c->errors++;
}

tn_status tn_verify_host(tn_module *m) {
  checker c = {.m = m};
  bool any = false;
  for (tn_func f = 1; f < m->funcs.count; f++) {
    if (!has_host_ops(m, f)) continue;
    any = true;
    check_func(&c, f);
  }
  if (!any) return TN_OK;
  c.depth = tn_mem_alloc(m->funcs.count * sizeof *c.depth);
  if (!c.depth) return tn_module_oom(m);
  for (tn_func f = 1; f < m->funcs.count; f++) measure(&c, f);
  tn_mem_free(c.depth);
  return c.errors ? TN_INVALID : TN_OK;
}
