/* work.c - how much a kernel does, as a dim expression: an estimate in floating-point operations that tells
 * the runtime which steps are too small to share between threads. */
#include "tools/driver/driver.h"

static tn_dim elements_of(tn_module *m, tn_value v) {
  tn_value_info info;
  tn_ir_value_get(m, v, &info);
  return tn_type_elements(m, info.type);
}

static tn_dim times(tn_module *m, tn_dim d, int64_t n) { return tn_dim_mul(m, d, tn_ir_dim_const(m, n)); }

/* 2 m n k: the result's elements times the length of the sums. */
static tn_dim matmul_work(tn_module *m, tn_op op) {
  tn_value_info lhs;
  tn_type_info t;
  tn_attr trans;
  tn_ir_value_get(m, tn_ir_op_operand(m, op, 0), &lhs);
  tn_ir_type_get(m, lhs.type, &t);
  uint32_t k = tn_ir_op_attr(m, op, "trans_a", &trans) && trans.u.i ? t.rank - 2 : t.rank - 1;
  return times(m, tn_dim_mul(m, elements_of(m, tn_ir_op_result(m, op, 0)), t.dims[k]), 2);
}

/* 2 t u n k, as matmul; what the experts are does not matter. */
static tn_dim expert_work(tn_module *m, tn_op op) {
  tn_value_info w;
  tn_type_info t;
  tn_ir_value_get(m, tn_ir_op_operand(m, op, 1), &w);
  tn_ir_type_get(m, w.type, &t);
  return times(m, tn_dim_mul(m, elements_of(m, tn_ir_op_result(m, op, 0)), t.dims[2]), 2);
}

/* 4 b h s t d: scores and their product with the values. */
static tn_dim attention_work(tn_module *m, tn_op op) {
  tn_value_info k;
  tn_type_info t;
  tn_attr keys;
  tn_ir_value_get(m, tn_ir_op_operand(m, op, 1), &k);
  tn_ir_type_get(m, k.type, &t);
  int64_t zero;
  bool all = !tn_ir_op_attr(m, op, "keys", &keys) || (tn_ir_dim_is_const(m, keys.u.dim, &zero) && !zero);
  tn_dim length = all ? t.dims[1] : keys.u.dim;
  return times(m, tn_dim_mul(m, elements_of(m, tn_ir_op_operand(m, op, 0)), length), 4);
}

/* 6 b s h p n: every number of the state moves on and adds to the result, token by token. */
static tn_dim scan_work(tn_module *m, tn_op op) {
  tn_value_info state;
  tn_type_info t;
  tn_ir_value_get(m, tn_ir_op_operand(m, op, 5), &state);
  tn_ir_type_get(m, state.type, &t);
  return times(m, tn_dim_mul(m, elements_of(m, tn_ir_op_operand(m, op, 0)), t.dims[3]), 6);
}

/* Everything else: about a dozen operations per element that comes in or goes out; tables that are looked up
 * and states that are written to do not count. */
static tn_dim loop_work(tn_module *m, tn_op kernel) {
  tn_dim sum = 0;
  for (uint32_t i = 0, nin = tn_ir_op_noperands(m, kernel), n = nin + tn_ir_op_nresults(m, kernel); i < n;
       i++) {
    tn_value v = i < nin ? tn_ir_op_operand(m, kernel, i) : tn_ir_op_result(m, kernel, i - nin);
    tn_value_info info;
    tn_ir_value_get(m, v, &info);
    if (info.kind == TN_VALUE_WEIGHT || info.kind == TN_VALUE_STATE) continue;
    tn_dim one = tn_type_elements(m, info.type);
    sum = sum ? tn_dim_add(m, sum, one) : one;
  }
  return sum ? times(m, sum, 12) : 0;
}

tn_dim tn_kernel_work(tn_module *m, tn_op kernel) {
  for (tn_op op = tn_ir_first_op(m, 0, kernel); op; op = tn_ir_next_op(m, op)) {
    uint32_t code = tn_ir_opcode(m, op);
    if (code == TN_OPC_matmul) return matmul_work(m, op);
    if (code == TN_OPC_expert_matmul) return expert_work(m, op);
    if (code == TN_OPC_attention) return attention_work(m, op);
    if (code == TN_OPC_ssm_scan) return scan_work(m, op);
    if (code == TN_OPC_kv_update) return times(m, elements_of(m, tn_ir_op_operand(m, op, 1)), 4);
  }
  return loop_work(m, kernel);
}
