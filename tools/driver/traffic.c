/* traffic.c - the bytes that a kernel has to move at least, as a dim expression: everything that goes in or
 * out once, weights as they are stored. Of a table only the rows that are looked up count, of a cache those
 * that are live, of experts those that are asked for. */
#include "tools/driver/driver.h"

typedef struct traffic {
  tn_module *m;
  const tn_build *b;
  tn_op kernel;
  tn_dim sum, weights; /* weights: the part of the sum that is weights; 0: none */
  bool *counted;       /* per operand: what is read of it has been added */
} traffic;

static tn_type_info type_of(tn_module *m, tn_value v) {
  tn_value_info info;
  tn_type_info t;
  tn_ir_value_get(m, v, &info);
  tn_ir_type_get(m, info.type, &t);
  return t;
}

static tn_dim elements_of(tn_module *m, tn_value v) {
  tn_value_info info;
  tn_ir_value_get(m, v, &info);
  return tn_type_elements(m, info.type);
}

/* Bytes of `elements` elements of a type. */
static tn_dim stored(tn_module *m, tn_dtype dtype, tn_dim elements) {
  const tn_dtype_info *t = tn_ir_dtype_info(dtype);
  int64_t num = t->block_bytes ? t->block_bytes : t->bits, den = t->block_bytes ? t->block_values : 8;
  tn_dim all = tn_dim_mul(m, elements, tn_ir_dim_const(m, num));
  return den == 1 ? all : tn_ir_dim_make(m, TN_DIM_FLOORDIV, all, tn_ir_dim_const(m, den));
}

static tn_dim plus(tn_module *m, tn_dim a, tn_dim b) { return a ? tn_dim_add(m, a, b) : b; }

/* `v`: operand or result of the kernel. */
static void add(traffic *t, tn_value v, tn_dim bytes) {
  tn_value_info info;
  tn_ir_value_get(t->m, v, &info);
  t->sum = plus(t->m, t->sum, bytes);
  if (info.kind == TN_VALUE_WEIGHT) t->weights = plus(t->m, t->weights, bytes);
}

/* Which operand of the kernel v is, also behind a write to it; -1: none. */
static int operand_of(const traffic *t, tn_value v) {
  tn_value_info info;
  tn_ir_value_get(t->m, v, &info);
  if (info.kind == TN_VALUE_RESULT && tn_ir_opcode(t->m, info.op) == TN_OPC_kv_update)
    return operand_of(t, tn_ir_op_operand(t->m, info.op, 0));
  return info.kind == TN_VALUE_ARG && info.op == t->kernel ? (int)info.index : -1;
}

/* Of the value v, which op takes as it is, only `elements` elements are moved. */
static void count_part(traffic *t, tn_value v, tn_dim elements) {
  int i = operand_of(t, v);
  if (i < 0) return;
  t->counted[i] = true;
  add(t, tn_ir_op_operand(t->m, t->kernel, (uint32_t)i), stored(t->m, type_of(t->m, v).dtype, elements));
}

static void count_keys(traffic *t, tn_op op, tn_value v) {
  tn_attr keys;
  int64_t none;
  if (!tn_ir_op_attr(t->m, op, "keys", &keys) || tn_ir_dim_is_const(t->m, keys.u.dim, &none)) return;
  tn_type_info type = type_of(t->m, v);
  tn_dim n = keys.u.dim;
  for (uint32_t i = 0; i < type.rank; i++)
    if (i != 1) n = tn_dim_mul(t->m, n, type.dims[i]);
  count_part(t, v, n);
}

/* Each expert's matrix once, but not more of them than are asked for. */
static void count_experts(traffic *t, tn_op op) {
  tn_value w = tn_ir_op_operand(t->m, op, 1);
  tn_type_info type = type_of(t->m, w);
  tn_dim asked = elements_of(t->m, tn_ir_op_operand(t->m, op, 2));
  tn_dim experts = tn_ir_dim_make(t->m, TN_DIM_MIN, type.dims[0], asked);
  count_part(t, w, tn_dim_mul(t->m, tn_dim_mul(t->m, experts, type.dims[1]), type.dims[2]));
}

static void count_op(traffic *t, tn_op op) {
  switch (tn_ir_opcode(t->m, op)) {
  case TN_OPC_gather:
    count_part(t, tn_ir_op_operand(t->m, op, 0), elements_of(t->m, tn_ir_op_result(t->m, op, 0)));
    break;
  case TN_OPC_attention:
    count_keys(t, op, tn_ir_op_operand(t->m, op, 1));
    count_keys(t, op, tn_ir_op_operand(t->m, op, 2));
    break;
  case TN_OPC_kv_update:
    count_part(t, tn_ir_op_operand(t->m, op, 0), elements_of(t->m, tn_ir_op_operand(t->m, op, 1)));
    break;
  case TN_OPC_expert_matmul: count_experts(t, op); break;
  default: break;
  }
}

/* A result that is a cache after a write to it: the write has been counted. */
static bool is_cache(const traffic *t, uint32_t result) {
  for (tn_op op = tn_ir_first_op(t->m, 0, t->kernel); op; op = tn_ir_next_op(t->m, op))
    if (tn_ir_opcode(t->m, op) == TN_OPC_yield && result < tn_ir_op_noperands(t->m, op))
      return operand_of(t, tn_ir_op_operand(t->m, op, result)) >= 0;
  return false;
}

static void add_whole(traffic *t, tn_value v) {
  tn_value_info info;
  tn_ir_value_get(t->m, v, &info);
  tn_dim bytes = 0;
  for (uint32_t i = 0; info.kind == TN_VALUE_WEIGHT && i < t->b->weights.count; i++)
    if (t->b->weights.items[i] == info.weight)
      bytes = tn_ir_dim_const(t->m, (int64_t)t->b->weight_bytes.items[i]);
  add(t, v, bytes ? bytes : stored(t->m, type_of(t->m, v).dtype, elements_of(t->m, v)));
}

tn_dim tn_kernel_bytes(tn_module *m, const tn_build *b, tn_op kernel, tn_dim *weights) {
  uint32_t nin = tn_ir_op_noperands(m, kernel), nout = tn_ir_op_nresults(m, kernel);
  traffic t = {.m = m, .b = b, .kernel = kernel, .counted = tn_mem_alloc(nin + 1)};
  *weights = 0;
  if (!t.counted) return 0;
  for (tn_op op = tn_ir_first_op(m, 0, kernel); op; op = tn_ir_next_op(m, op)) count_op(&t, op);
  for (uint32_t i = 0; i < nin; i++)
    if (!t.counted[i] && tn_ir_op_operand(m, kernel, i)) add_whole(&t, tn_ir_op_operand(m, kernel, i));
  for (uint32_t i = 0; i < nout; i++)
    if (!is_cache(&t, i)) add_whole(&t, tn_ir_op_result(m, kernel, i));
  tn_mem_free(t.counted);
  *weights = t.weights;
  return t.sum;
}
