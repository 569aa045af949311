/* claim.c - what this backend takes: single ops, and which ops may share a kernel. It says yes only to what the
 * skeletons can write, so that a claimed kernel always compiles. */
#include "backends/cpu/plugin.h"
#include "backends/llvm/body.h"
#include "backends/llvm/convert.h"

static const char *name_of(tn_cpu *c, tn_module *m, tn_op op) { return c->ir.opcode_name(c->ir.opcode(m, op)); }
static tn_type_info type_of(tn_cpu *c, tn_module *m, tn_value v) {
  tn_value_info i;
  tn_type_info t = {0};
  if (!v) return t;
  c->ir.value_get(m, v, &i);
  c->ir.type_get(m, i.type, &t);
  return t;
}
static bool is_float(tn_dtype t) { return tn_ll_dtype_of(t).cls == TN_CLASS_FLOAT; }

static bool same_dims(const tn_type_info *a, const tn_type_info *b) {
  return a->rank == b->rank && (!a->rank || !memcmp(a->dims, b->dims, a->rank * sizeof(tn_dim)));
}

/* ---- claim ------------------------------------------------------------------------------------------------------- */
static bool sizes_known(tn_cpu *c, tn_module *m, tn_value v) {
  tn_type_info t = type_of(c, m, v);
  for (uint32_t i = 0; i < t.rank; i++) {
    tn_dim_info d;
    c->ir.dim_get(m, t.dims[i], &d);
    if (d.kind == TN_DIM_UNKNOWN) return false;
  }
  return true;
}

enum { NARROW = 1, PLAIN = 2 }; /* every operand: no f64; a type whose elements can be read */
static const struct root_row { const char *name; uint32_t wants; } roots[] = {
    {"softmax", NARROW | PLAIN},     {"layer_norm", NARROW | PLAIN}, {"rms_norm", NARROW | PLAIN},
    {"matmul", NARROW | PLAIN},      {"attention", NARROW | PLAIN},  {"kv_update", PLAIN},
    {"reduce_sum", PLAIN},           {"reduce_mean", PLAIN},         {"reduce_max", PLAIN},
    {"reduce_min", PLAIN},           {"reduce_prod", PLAIN},         {"argmax", PLAIN},
    {"cumsum", PLAIN},               {"sort", PLAIN},                {"top_k", PLAIN}};

static const struct root_row *root_of(const char *name) {
  for (size_t i = 0; i < TN_COUNT(roots); i++)
    if (!strcmp(roots[i].name, name)) return &roots[i];
  return NULL;
}

static uint32_t claim_root(tn_cpu *c, tn_module *m, tn_op op, uint32_t wants, const char **why) {
  for (uint32_t i = 0; i < c->ir.op_noperands(m, op); i++) {
    tn_value v = c->ir.op_operand(m, op, i);
    if (!v) continue;
    tn_dtype t = type_of(c, m, v).dtype;
    *why = "this operand type is not supported";
    if (wants & PLAIN && !tn_ll_dtype_of(t).known) return 0;
    *why = "not available in f64";
    if (wants & NARROW && t == TN_DT_f64) return 0;
  }
  return 1;
}

uint32_t tn_cpu_claim(void *self, const tn_target *t, tn_module *m, tn_op op, const char **why) {
  tn_cpu *c = self;
  const char *none;
  if (!why) why = &none;
  (void)t;
  *why = "a size is only known at run time";
  for (uint32_t i = 0; i < c->ir.op_noperands(m, op); i++)
    if (!sizes_known(c, m, c->ir.op_operand(m, op, i))) return 0;
  for (uint32_t i = 0; i < c->ir.op_nresults(m, op); i++)
    if (!sizes_known(c, m, c->ir.op_result(m, op, i))) return 0;
  const struct root_row *row = root_of(name_of(c, m, op));
  if (row) return claim_root(c, m, op, row->wants, why);
  return tn_ll_can_eval(&c->ir, m, op, why);
}

/* ---- fuse -------------------------------------------------------------------------------------------------------- */
/* Ops that are cheap to evaluate again wherever they are needed. */
static bool elementwise(const char *name) {
  static const char *const other[] = {"rope",   "gather",    "concat", "pad",      "reshape", "transpose",
                                      "slice",  "split",     "iota",   "constant", "alibi",   "causal_mask",
                                      "dequant", "random_uniform", "broadcast"};
  for (size_t i = 0; i < TN_COUNT(other); i++)
    if (!strcmp(name, other[i])) return false;
  return true;
}
static bool view(const char *name) {
  static const char *const names[] = {"reshape", "transpose", "slice", "split", "broadcast", "constant", "iota"};
  for (size_t i = 0; i < TN_COUNT(names); i++)
    if (!strcmp(name, names[i])) return true;
  return false;
}

static uint32_t fuse_epilogue(tn_cpu *c, tn_module *m, tn_op root, tn_op op, const char *op_name) {
  static const char *const takers[] = {"matmul", "softmax", "layer_norm", "rms_norm", "attention"};
  tn_type_info a = type_of(c, m, c->ir.op_result(m, root, 0)), b = type_of(c, m, c->ir.op_result(m, op, 0));
  bool takes = false;
  for (size_t i = 0; i < TN_COUNT(takers); i++) takes |= !strcmp(name_of(c, m, root), takers[i]);
  return takes && elementwise(op_name) && same_dims(&a, &b);
}

static bool last_axis(tn_cpu *c, tn_module *m, tn_op op, uint32_t rank) {
  tn_attr a = {0};
  return !c->ir.op_attr(m, op, "axis", &a) || tn_ll_axis(a.u.i, rank) == rank - 1;
}

static uint32_t fuse_prologue(tn_cpu *c, tn_module *m, tn_op root, tn_op op, const char *op_name) {
  const char *name = name_of(c, m, root);
  tn_type_info x = type_of(c, m, c->ir.op_operand(m, root, 0)), y = type_of(c, m, c->ir.op_result(m, op, 0));
  if (!strcmp(name, "attention")) return view(op_name) || !strcmp(op_name, "cast");
  bool norm = !strcmp(name, "layer_norm") || !strcmp(name, "rms_norm");
  bool reduce = !strncmp(name, "reduce_", 7);
  if (!norm && !reduce) {
    if (strcmp(name, "softmax")) return 0;
    return last_axis(c, m, root, x.rank) && elementwise(op_name) && same_dims(&x, &y);
  }
  return (elementwise(op_name) || !strcmp(op_name, "gather")) && same_dims(&x, &y);
}

uint32_t tn_cpu_fuse(void *self, const tn_target *t, tn_module *m, tn_op root, tn_op op, uint32_t role) {
  tn_cpu *c = self;
  const char *name = name_of(c, m, op), *why;
  (void)t;
  if (!is_float(type_of(c, m, c->ir.op_result(m, op, 0)).dtype) && role == TN_FUSE_EPILOGUE) return 0;
  if (root_of(name) || !tn_ll_can_eval(&c->ir, m, op, &why)) return 0;
  if (role == TN_FUSE_EPILOGUE) return fuse_epilogue(c, m, root, op, name);
  if (role == TN_FUSE_PROLOGUE) return fuse_prologue(c, m, root, op, name);
  return !root_of(name_of(c, m, root));
}
