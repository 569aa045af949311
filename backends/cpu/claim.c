/* claim.c - what this backend takes: single ops, and which ops may share a kernel. It says yes only to what
 * the skeletons can write, so that a claimed kernel always compiles. */
#include "backends/cpu/attention/attention.h"
#include "backends/cpu/conv/conv.h"
#include "backends/cpu/plugin.h"
#include "backends/lib/lib.h"
#include "backends/llvm/body.h"
#include "backends/llvm/convert.h"
#include "backends/llvm/groups.h"
#include "ir/quant/quant.h"

static const char *name_of(tn_cpu *c, tn_module *m, tn_op op) {
  return c->ir.opcode_name(c->ir.opcode(m, op));
}
static tn_type_info type_of(tn_cpu *c, tn_module *m, tn_value v) {
  tn_value_info i;
  tn_type_info t = {0};
  if (!v) return t;
  c->ir.value_get(m, v, &i);
  c->ir.type_get(m, i.type, &t);
  return t;
}

/* ---- claim ---- */
static bool sizes_known(tn_cpu *c, tn_module *m, tn_value v) {
  tn_type_info t = type_of(c, m, v);
  for (uint32_t i = 0; i < t.rank; i++) {
    tn_dim_info d;
    c->ir.dim_get(m, t.dims[i], &d);
    if (d.kind == TN_DIM_UNKNOWN) return false;
  }
  return true;
}

enum { NARROW = 1, PLAIN = 2 }; /* every operand: no f64; a type of whole bytes whose elements can be read */
static const struct root_row {
  const char *name;
  uint32_t wants;
} roots[] = {{"softmax", PLAIN},
             {"layer_norm", PLAIN},
             {"rms_norm", PLAIN},
             {"matmul", PLAIN},
             {"expert_matmul", NARROW | PLAIN},
             {"conv", NARROW | PLAIN},
             {"conv_transpose", NARROW | PLAIN},
             {"pool", PLAIN},
             {"argpool", PLAIN},
             {"attention", NARROW | PLAIN},
             {"kv_update", PLAIN},
             {"reduce_sum", PLAIN},
             {"reduce_mean", PLAIN},
             {"reduce_max", PLAIN},
             {"reduce_min", PLAIN},
             {"reduce_prod", PLAIN},
             {"argmax", PLAIN},
             {"argmin", PLAIN},
             {"cumsum", PLAIN},
             {"cumprod", PLAIN},
             {"ssm_scan", NARROW | PLAIN},
             {"sort", PLAIN}};

static const struct root_row library = {"", PLAIN}; /* the ops of backends/lib */

static const struct root_row *root_of(const char *name) {
  for (size_t i = 0; i < TN_COUNT(roots); i++)
    if (!strcmp(roots[i].name, name)) return &roots[i];
  return tn_lib_find(name) ? &library : NULL;
}

/* The C kernels know floats of 16 bits and more; recurrences compute in f32. */
static bool library_takes(const char *name, tn_dtype t, uint32_t bits, uint32_t cls) {
  bool wide = t == TN_DT_f64 && (!strcmp(name, "lstm") || !strcmp(name, "gru") || !strcmp(name, "rnn") ||
                                 !strcmp(name, "delta_scan"));
  return !tn_lib_find(name) || ((cls != TN_CLASS_FLOAT || bits >= 16) && !wide);
}

/* Caches may be q8_0, which attention takes apart and kv_update writes: whole tensors, not views of them. */
static bool is_cache(tn_cpu *c, tn_module *m, tn_op op, uint32_t operand) {
  const char *name = name_of(c, m, op);
  bool state = !strcmp(name, "kv_update") && operand == 0;
  if (!state && (strcmp(name, "attention") || (operand != 1 && operand != 2))) return false;
  tn_type_info t = type_of(c, m, c->ir.op_operand(m, op, operand));
  return t.dtype == c->ir.dtype_by_name("q8_0") && !t.layout;
}

/* Weights of products may be in any block format. */
static bool is_weight(tn_cpu *c, tn_module *m, tn_op op, uint32_t operand) {
  const char *name = name_of(c, m, op);
  return operand == 1 && (!strcmp(name, "matmul") || !strcmp(name, "expert_matmul")) &&
         tn_quant_of(type_of(c, m, c->ir.op_operand(m, op, operand)).dtype);
}

/* A convolution's window must fit into scratch, a pool's be of a countable size. */
static bool window_fits(tn_cpu *c, tn_module *m, tn_op op) {
  const char *name = name_of(c, m, op);
  bool transposed = !strcmp(name, "conv_transpose");
  int64_t size[3], ones[] = {1, 1, 1}, taps = 1;
  tn_attr sizes = {0}, strides = {0}, dilations = {0};
  if (strstr(name, "pool") && c->ir.op_attr(m, op, "size", &sizes))
    for (uint32_t i = 0; i < sizes.count; i++)
      if (__builtin_mul_overflow(taps, sizes.u.ints[i], &taps) || taps > INT32_MAX) return false;
  if (!transposed && strcmp(name, "conv")) return true;
  tn_type_info w = type_of(c, m, c->ir.op_operand(m, op, 1));
  for (uint32_t i = 2; i < w.rank; i++)
    if (!c->ir.dim_is_const(m, w.dims[i], &size[i - 2])) return false;
  c->ir.op_attr(m, op, "strides", &strides);
  c->ir.op_attr(m, op, "dilations", &dilations);
  return tn_cpu_conv_fits(w.rank - 2, size, strides.count ? strides.u.ints : ones,
                          dilations.count ? dilations.u.ints : ones, transposed);
}

static uint32_t claim_root(tn_cpu *c, tn_module *m, tn_op op, uint32_t wants, const char **why) {
  for (uint32_t i = 0; i < c->ir.op_noperands(m, op); i++) {
    tn_value v = c->ir.op_operand(m, op, i);
    if (!v || is_cache(c, m, op, i) || is_weight(c, m, op, i)) continue;
    tn_dtype t = type_of(c, m, v).dtype;
    *why = "this operand type is not supported";
    if (wants & PLAIN && (!tn_ll_dtype_of(t).known || tn_ll_dtype_of(t).packed)) return 0;
    if (!library_takes(name_of(c, m, op), t, c->ir.dtype_info(t)->bits, c->ir.dtype_info(t)->cls)) return 0;
    *why = "not available in f64";
    if (wants & NARROW && t == TN_DT_f64) return 0;
  }
  *why = "the window is too large";
  return window_fits(c, m, op);
}

/* A kernel that gives what it gets: blocks go as they are. */
static uint32_t claim_copy(tn_cpu *c, tn_module *m, tn_op kernel, const char **why) {
  tn_dtype t = type_of(c, m, c->ir.op_result(m, kernel, 0)).dtype;
  *why = "this type cannot be copied";
  return t >= TN_DT_BLOCK || tn_ll_dtype_of(t).known;
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
  if (!strcmp(name_of(c, m, op), "kernel")) return claim_copy(c, m, op, why);
  return tn_ll_can_eval(&c->ir, m, op, why);
}

/* ---- fuse ---- */
static int64_t axis_of(tn_cpu *c, tn_module *m, tn_op op) {
  tn_attr a = {0};
  return c->ir.op_attr(m, op, "axis", &a) ? a.u.i : -1;
}

static bool is_const(tn_cpu *c, tn_module *m, tn_dim d, int64_t *v) { return c->ir.dim_is_const(m, d, v); }

/* A product with one matrix: leading dims of lhs are rows. */
static bool rows_by_matrix(tn_cpu *c, tn_module *m, tn_op root) {
  tn_attr trans = {0};
  tn_type_info l = type_of(c, m, c->ir.op_operand(m, root, 0)),
               r = type_of(c, m, c->ir.op_operand(m, root, 1));
  return !strcmp(name_of(c, m, root), "matmul") && r.rank == 2 && l.rank > 1 && l.dtype != TN_DT_f64 &&
         r.dtype != TN_DT_f64 && !(c->ir.op_attr(m, root, "trans_a", &trans) && trans.u.i);
}

/* The halves of a product's columns: whole panels each, which the epilogue takes two by two. */
static bool halves(tn_cpu *c, tn_module *m, tn_op root, tn_op op) {
  tn_type_info a = type_of(c, m, c->ir.op_result(m, root, 0)), in = type_of(c, m, c->ir.op_operand(m, op, 0));
  tn_attr sizes = {0};
  int64_t first, second;
  return rows_by_matrix(c, m, root) && tn_ll_same_dims(&a, &in) &&
         tn_ll_axis(axis_of(c, m, op), in.rank) == in.rank - 1 && c->ir.op_attr(m, op, "sizes", &sizes) &&
         sizes.count == 2 && is_const(c, m, sizes.u.dims[0], &first) &&
         is_const(c, m, sizes.u.dims[1], &second) && first == second && first % TN_CPU_PANEL == 0;
}
static bool half_dims(tn_cpu *c, tn_module *m, const tn_type_info *a, const tn_type_info *b) {
  int64_t whole, half;
  uint32_t last = a->rank - 1;
  return a->rank && a->rank == b->rank && !memcmp(a->dims, b->dims, last * sizeof(tn_dim)) &&
         is_const(c, m, a->dims[last], &whole) && is_const(c, m, b->dims[last], &half) && whole == 2 * half;
}

static uint32_t fuse_epilogue(tn_cpu *c, tn_module *m, tn_op root, tn_op op, const char *op_name) {
  tn_type_info a = type_of(c, m, c->ir.op_result(m, root, 0)), b = type_of(c, m, c->ir.op_result(m, op, 0));
  bool takes = TN_LL_ONE_OF(name_of(c, m, root), "matmul", "expert_matmul", "conv", "conv_transpose",
                            "softmax", "layer_norm", "rms_norm", "attention");
  if (!strcmp(op_name, "split")) return halves(c, m, root, op);
  bool half = rows_by_matrix(c, m, root) && half_dims(c, m, &a, &b); /* behind such a split */
  return takes && tn_ll_is_elementwise(op_name) && (tn_ll_same_dims(&a, &b) || half);
}

static bool is_norm(const char *name) { return TN_LL_ONE_OF(name, "rms_norm", "layer_norm"); }

/* Rows of lhs are normalised while they are staged. */
static bool norm_of_rows(tn_cpu *c, tn_module *m, tn_op root, tn_op op) {
  tn_type_info l = type_of(c, m, c->ir.op_operand(m, root, 0)), n = type_of(c, m, c->ir.op_result(m, op, 0));
  return rows_by_matrix(c, m, root) && tn_ll_made_by(&c->ir, m, c->ir.op_operand(m, root, 0), op) &&
         !tn_ll_made_by(&c->ir, m, c->ir.op_operand(m, root, 1), op) && n.dtype != TN_DT_f64 &&
         type_of(c, m, c->ir.op_operand(m, op, 0)).dtype != TN_DT_f64 &&
         n.dims[n.rank - 1] == l.dims[l.rank - 1];
}

/* ---- a step of decoding: attention that also writes the key and value it sees last (attention_step.c) ----
 */
static tn_attr attr_of(tn_cpu *c, tn_module *m, tn_op op, const char *name) {
  tn_attr a = {0};
  (void)c->ir.op_attr(m, op, name, &a);
  return a;
}
static bool all_const(tn_cpu *c, tn_module *m, const tn_type_info *t, uint32_t from, int64_t *v) {
  for (uint32_t i = from; i < 4; i++)
    if (!is_const(c, m, t->dims[i], &v[i])) return false;
  return true;
}
/* One query for each of few rows, and nothing that is added to scores or masks them. */
static bool one_query(tn_cpu *c, tn_module *m, tn_op root) {
  int64_t q[4], k[4], v[4];
  tn_type_info tq = type_of(c, m, c->ir.op_operand(m, root, 0)),
               tk = type_of(c, m, c->ir.op_operand(m, root, 1)),
               tv = type_of(c, m, c->ir.op_operand(m, root, 2));
  for (uint32_t i = 3; i < 5 && i < c->ir.op_noperands(m, root); i++)
    if (c->ir.op_operand(m, root, i)) return false;
  return all_const(c, m, &tq, 1, q) && all_const(c, m, &tk, 2, k) && all_const(c, m, &tv, 2, v) &&
         q[1] == 1 && tn_cpu_att_few_fit(1, q[2], k[2], q[3], v[3]);
}
/* Does the update write the last key of this attention, which alone reads it? */
static bool step_update(tn_cpu *c, tn_module *m, tn_op root, tn_op update) {
  tn_value out = c->ir.op_result(m, update, 0), x = c->ir.op_operand(m, update, 1);
  tn_value_info info;
  int64_t rows;
  c->ir.value_get(m, out, &info);
  bool read = c->ir.op_operand(m, root, 1) == out || c->ir.op_operand(m, root, 2) == out;
  if (strcmp(name_of(c, m, root), "attention") || !read || info.nuses != 1 || !one_query(c, m, root))
    return false;
  tn_dim keys = attr_of(c, m, root, "keys").u.dim, pos = attr_of(c, m, update, "pos").u.dim;
  bool last = keys && pos && c->ir.dim_make(m, TN_DIM_ADD, pos, c->ir.dim_const(m, 1)) == keys;
  return last && attr_of(c, m, root, "ring").u.i == attr_of(c, m, update, "ring").u.i &&
         is_const(c, m, type_of(c, m, x).dims[1], &rows) && rows == 1 &&
         type_of(c, m, x).dtype != TN_DT_f64 && type_of(c, m, out).dtype != TN_DT_f64;
}

/* Is op the last before rows that the root takes once each: queries, or what an update of its own writes? */
static bool makes_rows(tn_cpu *c, tn_module *m, tn_op root, tn_op op) {
  if (tn_ll_made_by(&c->ir, m, c->ir.op_operand(m, root, 0), op)) return true;
  for (uint32_t i = 1; i < 3; i++) {
    tn_value_info info;
    tn_value v = c->ir.op_operand(m, root, i);
    c->ir.value_get(m, v, &info);
    if (info.kind == TN_VALUE_RESULT && !strcmp(name_of(c, m, info.op), "kv_update") &&
        step_update(c, m, root, info.op) && tn_ll_made_by(&c->ir, m, c->ir.op_operand(m, info.op, 1), op))
      return true;
  }
  return false;
}
static bool fuse_attention(tn_cpu *c, tn_module *m, tn_op root, tn_op op, const char *op_name) {
  if (type_of(c, m, c->ir.op_result(m, op, 0)).dtype >= TN_DT_BLOCK) return false;
  if (tn_ll_is_view(op_name) || !strcmp(op_name, "cast")) return true;
  return !strcmp(op_name, "rope") && makes_rows(c, m, root, op);
}

/* What feeds a product's lhs: a norm of its rows, seen through reshapes, or rows that were stored as bf16. */
static bool fuse_lhs(tn_cpu *c, tn_module *m, tn_op root, tn_op op) {
  tn_value_info i;
  if (!strcmp(name_of(c, m, op), "cast"))
    return rows_by_matrix(c, m, root) && type_of(c, m, c->ir.op_operand(m, op, 0)).dtype == TN_DT_bf16 &&
           type_of(c, m, c->ir.op_result(m, op, 0)).dtype == TN_DT_f32;
  while (!strcmp(name_of(c, m, op), "reshape")) {
    c->ir.value_get(m, c->ir.op_operand(m, op, 0), &i);
    if (i.kind != TN_VALUE_RESULT) return false;
    op = i.op;
  }
  return is_norm(name_of(c, m, op)) && norm_of_rows(c, m, root, op);
}

/* Ops before the root: what feeds its first operand is computed in the root's own loops; what feeds other
 * operands, or the epilogue, is evaluated where it is used and must be cheap. */
static uint32_t fuse_prologue(tn_cpu *c, tn_module *m, tn_op root, tn_op op, const char *op_name) {
  const char *name = name_of(c, m, root);
  bool first = tn_ll_made_by(&c->ir, m, c->ir.op_operand(m, root, 0), op);
  bool second = c->ir.op_noperands(m, root) > 1 && tn_ll_made_by(&c->ir, m, c->ir.op_operand(m, root, 1), op);
  tn_type_info x = type_of(c, m, c->ir.op_operand(m, root, 0)), y = type_of(c, m, c->ir.op_result(m, op, 0));
  if (!strcmp(name, "attention")) return fuse_attention(c, m, root, op, op_name);
  if (!strcmp(name, "kv_update")) /* takes each row once */
    return y.dtype < TN_DT_BLOCK && (TN_LL_ONE_OF(op_name, "cast", "rope") || tn_ll_is_view(op_name)) &&
           (second || tn_ll_is_view(op_name));
  if (!strcmp(name, "matmul") && first) return fuse_lhs(c, m, root, op);
  if (!strcmp(name, "matmul")) return second ? tn_ll_is_view(op_name) : tn_ll_is_cheap(op_name);
  bool last = strcmp(name, "softmax") || tn_ll_axis(axis_of(c, m, root), x.rank) == x.rank - 1;
  bool takes = TN_LL_ONE_OF(name, "layer_norm", "rms_norm") || !strncmp(name, "reduce_", 7) ||
               (!strcmp(name, "softmax") && last);
  return takes && (tn_ll_is_cheap(op_name) || (tn_ll_is_elementwise(op_name) && tn_ll_same_dims(&x, &y)));
}

uint32_t tn_cpu_fuse(void *self, const tn_target *t, tn_module *m, tn_op root, tn_op op, uint32_t role) {
  tn_cpu *c = self;
  const char *name = name_of(c, m, op), *why;
  (void)t;
  if (role == TN_FUSE_PROLOGUE && is_norm(name)) return norm_of_rows(c, m, root, op);
  if (role == TN_FUSE_PROLOGUE && !strcmp(name, "kv_update")) return step_update(c, m, root, op);
  if (root_of(name) || !tn_ll_can_eval(&c->ir, m, op, &why)) return 0;
  /* only the loop packs elements of 4 or 2 bits into bytes */
  if (role == TN_FUSE_EPILOGUE && tn_ll_dtype_of(type_of(c, m, c->ir.op_result(m, op, 0)).dtype).packed)
    return 0;
  if (role == TN_FUSE_EPILOGUE) return fuse_epilogue(c, m, root, op, name);
  if (role == TN_FUSE_PROLOGUE) return fuse_prologue(c, m, root, op, name);
  return !root_of(name_of(c, m, root));
}
