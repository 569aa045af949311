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

/* 4 b h s t d: scores and their product with the values. Of causal ones, half of the last s keys in the mean.
 */
static tn_dim attention_work(tn_module *m, tn_op op) {
  tn_value_info k;
  tn_type_info t;
  tn_attr keys;
  tn_ir_value_get(m, tn_ir_op_operand(m, op, 1), &k);
  tn_ir_type_get(m, k.type, &t);
  int64_t zero;
  bool all = !tn_ir_op_attr(m, op, "keys", &keys) || (tn_ir_dim_is_const(m, keys.u.dim, &zero) && !zero);
  tn_dim length = all ? t.dims[1] : keys.u.dim;
  tn_attr causal;
  if (tn_ir_op_attr(m, op, "causal", &causal) && causal.u.i) {
    tn_value_info q;
    tn_type_info queries;
    tn_ir_value_get(m, tn_ir_op_operand(m, op, 0), &q);
    tn_ir_type_get(m, q.type, &queries);
    tn_dim pairs = tn_dim_add(m, times(m, length, 2), tn_ir_dim_const(m, 1));
    length = tn_ir_dim_make(m, TN_DIM_FLOORDIV, tn_dim_sub(m, pairs, queries.dims[1]), tn_ir_dim_const(m, 2));
  }
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

/* Each token decays, corrects, writes and reads the state of its head. */
static tn_dim delta_work(tn_module *m, tn_op op) {
  tn_value_info v;
  tn_type_info t;
  tn_ir_value_get(m, tn_ir_op_operand(m, op, 2), &v);
  tn_ir_type_get(m, v.type, &t);
  return times(m, tn_dim_mul(m, elements_of(m, tn_ir_op_operand(m, op, 0)), t.dims[3]), 8);
}

/* 2 c k for each element of the result of a convolution, or of x if it is transposed: w's dims but the first.
 */
static tn_dim conv_work(tn_module *m, tn_op op, tn_value each) {
  tn_value_info w;
  tn_type_info t;
  tn_ir_value_get(m, tn_ir_op_operand(m, op, 1), &w);
  tn_ir_type_get(m, w.type, &t);
  tn_dim depth = t.dims[1];
  for (uint32_t i = 2; i < t.rank; i++) depth = tn_dim_mul(m, depth, t.dims[i]);
  return times(m, tn_dim_mul(m, elements_of(m, each), depth), 2);
}

/* A few operations for each element of each window. */
static tn_dim pool_work(tn_module *m, tn_op op) {
  tn_attr size;
  int64_t taps = 4;
  if (tn_ir_op_attr(m, op, "size", &size))
    for (uint32_t i = 0; i < size.count; i++)
      if (__builtin_mul_overflow(taps, size.u.ints[i], &taps)) return 0;
  return times(m, elements_of(m, tn_ir_op_result(m, op, 0)), taps);
}

/* 2 s b d gates h h: every step multiplies a state with the matrix. */
static tn_dim recurrence_work(tn_module *m, tn_op op) {
  tn_value_info r;
  tn_type_info t;
  tn_ir_value_get(m, tn_ir_op_operand(m, op, 1), &r);
  tn_ir_type_get(m, r.type, &t);
  return times(m, tn_dim_mul(m, elements_of(m, tn_ir_op_operand(m, op, 0)), t.dims[2]), 2);
}

/* n^3 / 3 products and sums per matrix. */
static tn_dim det_work(tn_module *m, tn_op op) {
  tn_value_info x;
  tn_type_info t;
  tn_ir_value_get(m, tn_ir_op_operand(m, op, 0), &x);
  tn_ir_type_get(m, x.type, &t);
  return tn_dim_mul(m, elements_of(m, tn_ir_op_operand(m, op, 0)), t.dims[t.rank - 1]);
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

tn_dim tn_kernel_products(tn_module *m, tn_op kernel) {
  tn_dim update = 0; /* counts where there is nothing else: attention may write what it reads */
  for (tn_op op = tn_ir_first_op(m, 0, kernel); op; op = tn_ir_next_op(m, op)) {
    uint32_t code = tn_ir_opcode(m, op);
    if (code == TN_OPC_matmul) return matmul_work(m, op);
    if (code == TN_OPC_expert_matmul) return expert_work(m, op);
    if (code == TN_OPC_conv) return conv_work(m, op, tn_ir_op_result(m, op, 0));
    if (code == TN_OPC_conv_transpose) return conv_work(m, op, tn_ir_op_operand(m, op, 0));
    if (code == TN_OPC_pool || code == TN_OPC_argpool) return pool_work(m, op);
    if (code == TN_OPC_attention) return attention_work(m, op);
    if (code == TN_OPC_ssm_scan) return scan_work(m, op);
    if (code == TN_OPC_delta_scan) return delta_work(m, op);
    if (code == TN_OPC_lstm || code == TN_OPC_gru || code == TN_OPC_rnn) return recurrence_work(m, op);
    if (code == TN_OPC_dft)
      return times(m, elements_of(m, tn_ir_op_result(m, op, 0)), 50); /* 5 log n or so */
    if (code == TN_OPC_det) return det_work(m, op);
    if (code == TN_OPC_kv_update) update = times(m, elements_of(m, tn_ir_op_operand(m, op, 1)), 4);
  }
  return update;
}

tn_dim tn_kernel_work(tn_module *m, tn_op kernel) {
  tn_dim work = tn_kernel_products(m, kernel);
  return work ? work : loop_work(m, kernel);
}
