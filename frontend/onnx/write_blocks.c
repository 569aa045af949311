/* write_blocks.c - products, norms and experts: ops of later opsets where the chosen one has them,
 * else their steps in the spelling that exporters use, which optimisers (ours too) recognise. */
#include "frontend/onnx/write_graph.h"
#include <math.h>
#include <string.h>

/* ---- products --------------------------------------------------------------------------------------------
 */
static tn_ov swap_last(tn_ow *w, tn_ov x) {
  int64_t perm[TN_MAX_RANK];
  uint32_t rank = tn_ow_rank(w, x);
  for (uint32_t i = 0; i < rank; i++) perm[i] = i + 2 < rank ? i : i + 2 == rank ? rank - 1 : rank - 2;
  return x ? tn_ow_transpose(w, x, perm) : 0;
}

static bool wider(tn_ow *w, tn_dtype a, tn_dtype b) {
  return w->ir->dtype_info(a)->bits > w->ir->dtype_info(b)->bits;
}

/* Both of one type: the wider of the two, so that nothing is lost before the product. */
static void align(tn_ow *w, tn_ov *a, tn_ov *b) {
  if (!*a || !*b) return;
  tn_dtype x = tn_ow_dtype(w, *a), y = tn_ow_dtype(w, *b), to = wider(w, y, x) ? y : x;
  *a = tn_ow_cast(w, *a, to);
  *b = tn_ow_cast(w, *b, to);
}

void tn_ow_op_matmul(tn_ow *w, tn_op op) {
  tn_ov a = tn_ow_in(w, op, 0), b = 0, r;
  bool ta = tn_ow_int(w, op, "trans_a"), tb = tn_ow_int(w, op, "trans_b");
  tn_weight block = tn_ow_block_weight(w, op, 1);
  tn_dtype out = tn_ow_dtype(w, a);
  if (ta) a = swap_last(w, a);
  if ((r = tn_ow_int8_product(w, op, a))) return tn_ow_out(w, op, 0, tn_ow_cast(w, r, out));
  if (block && tb && (r = tn_ow_weight_product(w, a, block))) return tn_ow_out(w, op, 0, r);
  b = block ? tn_ow_weight_values(w, block) : tn_ow_in(w, op, 1);
  align(w, &a, &b);
  if (tb && tn_ow_rank(w, a) == 2 && tn_ow_rank(w, b) == 2) {
    tn_ow_shape t = *tn_ow_type(w, a);
    t.dims[1] = tn_ow_size_of(w, b, 0);
    r = tn_ow_node1(w, "Gemm", TN_OW_IN(a, b), TN_OW_ATTRS(TN_OW_I("transB", 1)), &t);
  } else {
    r = tn_ow_matmul(w, a, tb ? swap_last(w, b) : b);
  }
  tn_ow_out(w, op, 0, tn_ow_cast(w, r, out));
}

/* The experts' numbers come from top_k, so they are in range. */
static bool in_range(tn_ow *w, tn_op op, uint32_t operand) {
  tn_value_info info;
  w->ir->value_get(w->m, w->ir->op_operand(w->m, op, operand), &info);
  return info.kind == TN_VALUE_RESULT && !strcmp(w->ir->opcode_name(w->ir->opcode(w->m, info.op)), "top_k");
}

/* Every token meets every expert in one batched product, from which the chosen rows are taken: [t, e, n] is a
 * small thing beside the weights, which the other way, gathering matrices per token, would copy. */
void tn_ow_op_expert_matmul(tn_ow *w, tn_op op) {
  static const int64_t tokens_first[] = {1, 0, 2};
  tn_weight block = tn_ow_block_weight(w, op, 1);
  tn_ov x = tn_ow_in(w, op, 0), m = block ? tn_ow_weight_values(w, block) : tn_ow_in(w, op, 1);
  tn_ov experts = tn_ow_cast(w, tn_ow_in(w, op, 2), TN_DT_i64);
  tn_ow_shape t;
  tn_ow_result_type(w, op, 0, &t);
  tn_dim e = tn_ow_size_of(w, m, 0), k = tn_ow_size_of(w, m, 2), one = tn_ow_d(w, 1);
  tn_dim rows = t.dims[0], per = t.dims[1];
  if (tn_ow_rank(w, x) == 3) { /* every choice is a token of its own */
    rows = tn_ow_dmake(w, TN_DIM_MUL, rows, per), per = one;
    x = tn_ow_reshape(w, x, (tn_dim[]){rows, k}, 2);
  }
  x = tn_ow_cast(w, x, TN_DT_f32), m = tn_ow_cast(w, m, TN_DT_f32);
  tn_ov all = tn_ow_transpose(w, tn_ow_matmul(w, x, swap_last(w, m)), tokens_first);
  tn_ov zero = tn_ow_scalar(w, TN_DT_i64, 0), chosen = experts, valid = 0;
  if (!in_range(w, op, 2)) {
    tn_ov last = tn_ow_dim_scalar(w, tn_ow_dsub(w, e, one));
    chosen = tn_ow_binary(w, "Max", tn_ow_binary(w, "Min", experts, last), zero);
    valid = tn_ow_unsqueeze(w, tn_ow_compare(w, "Equal", chosen, experts), (int64_t[]){2}, 1);
  }
  chosen = tn_ow_reshape(w, chosen, (tn_dim[]){rows, per, one}, 3);
  const tn_ow_shape picked = {TN_DT_f32, 3, {rows, per, t.dims[2]}};
  tn_ov r = tn_ow_node1(w, "GatherND", TN_OW_IN(all, chosen), TN_OW_ATTRS(TN_OW_I("batch_dims", 1)), &picked);
  r = tn_ow_reshape(w, r, t.dims, 3);
  tn_ow_out(w, op, 0, valid ? tn_ow_where(w, valid, r, tn_ow_scalar(w, TN_DT_f32, 0)) : r);
}

/* ---- norms -----------------------------------------------------------------------------------------------
 */
/* A constant of -inf alone. */
static bool minus_infinity(tn_ow *w, tn_value v) {
  static const uint8_t f32[] = {0, 0, 0x80, 0xff}, f16[] = {0, 0xfc}, bf16[] = {0x80, 0xff};
  tn_value_info info;
  tn_type_info t;
  tn_attr a;
  w->ir->value_get(w->m, v, &info);
  w->ir->type_get(w->m, info.type, &t);
  const uint8_t *one = t.dtype == TN_DT_f32 ? f32 : t.dtype == TN_DT_f16 ? f16 : bf16;
  uint32_t size = t.dtype == TN_DT_f32 ? 4 : 2;
  if (info.kind != TN_VALUE_RESULT || strcmp(w->ir->opcode_name(w->ir->opcode(w->m, info.op)), "constant") ||
      !w->ir->op_attr(w->m, info.op, "value", &a) || a.u.data.len < size)
    return false;
  for (uint64_t i = 0; i + size <= a.u.data.len; i += size)
    if (memcmp((const uint8_t *)a.u.data.ptr + i, one, size)) return false;
  return true;
}

/* Whether some row may be nothing but -inf: a select wrote it there, perhaps before additions. */
static bool may_be_hidden(tn_ow *w, tn_value v, uint32_t depth) {
  tn_value_info info;
  if (!v || !depth) return false;
  w->ir->value_get(w->m, v, &info);
  if (info.kind != TN_VALUE_RESULT) return false;
  const char *op = w->ir->opcode_name(w->ir->opcode(w->m, info.op));
  tn_value a = w->ir->op_noperands(w->m, info.op) > 1 ? w->ir->op_operand(w->m, info.op, 1) : 0;
  if (!strcmp(op, "select")) {
    tn_value b = w->ir->op_operand(w->m, info.op, 2);
    return minus_infinity(w, a) || minus_infinity(w, b) || may_be_hidden(w, a, depth - 1) ||
           may_be_hidden(w, b, depth - 1);
  }
  if (strcmp(op, "add") && strcmp(op, "broadcast") && strcmp(op, "reshape") && strcmp(op, "cast"))
    return false;
  return may_be_hidden(w, w->ir->op_operand(w->m, info.op, 0), depth - 1) || may_be_hidden(w, a, depth - 1);
}

/* A row of nothing but -inf has no softmax in ONNX, and zeros in the IR. */
void tn_ow_op_softmax(tn_ow *w, tn_op op) {
  tn_ov x = tn_ow_in(w, op, 0), p = tn_ow_softmax(w, x, tn_ow_axis(w, op, x));
  if (may_be_hidden(w, w->ir->op_operand(w->m, op, 0), 6))
    p = tn_ow_where(w, tn_ow_test(w, "IsNaN", p), tn_ow_scalar_like(w, p, 0), p);
  tn_ow_out(w, op, 0, p);
}

/* Statistics are f32 at least. */
static tn_dtype statistics(tn_ow *w, tn_ov x) {
  return wider(w, tn_ow_dtype(w, x), TN_DT_f32) ? TN_DT_f64 : TN_DT_f32;
}

/* d * d, as exporters write it: Pow. Behind a cast from bf16 not: ONNX Runtime would fuse the norm together
 * with the cast, and has no kernel for that. */
static tn_ov squared(tn_ow *w, tn_ov d, tn_ov x) {
  const tn_ow_node *n =
      x && w->values.items[x].from == TN_OV_NODE ? &w->nodes.items[w->values.items[x].node] : NULL;
  bool from_bf16 = n && !strcmp(n->op, "Cast") && tn_ow_dtype(w, n->in[0]) == TN_DT_bf16;
  return tn_ow_binary(w, from_bf16 ? "Mul" : "Pow", d, from_bf16 ? d : tn_ow_scalar_like(w, d, 2));
}

static tn_ov layer_norm_steps(tn_ow *w, tn_ov x, tn_ov scale, tn_ov bias, double eps) {
  static const int64_t last = -1;
  tn_dtype in = tn_ow_dtype(w, x), t = statistics(w, x);
  tn_ov y = tn_ow_cast(w, x, t);
  tn_ov d = tn_ow_binary(w, "Sub", y, tn_ow_reduce(w, "ReduceMean", y, &last, 1, true));
  tn_ov v = tn_ow_reduce(w, "ReduceMean", squared(w, d, y), &last, 1, true);
  y = tn_ow_binary(w, "Div", d, tn_ow_unary(w, "Sqrt", tn_ow_binary(w, "Add", v, tn_ow_scalar(w, t, eps))));
  if (scale) y = tn_ow_binary(w, "Mul", y, tn_ow_cast(w, scale, t));
  if (bias) y = tn_ow_binary(w, "Add", y, tn_ow_cast(w, bias, t));
  return tn_ow_cast(w, y, in);
}

void tn_ow_op_layer_norm(tn_ow *w, tn_op op) {
  tn_ov x = tn_ow_in(w, op, 0), scale = tn_ow_in(w, op, 1), bias = tn_ow_in(w, op, 2);
  double eps = tn_ow_float(w, op, "eps");
  tn_ow_shape t = *tn_ow_type(w, x);
  if (tn_ow_failed(w)) return;
  if (w->o.opset < 17) return tn_ow_out(w, op, 0, layer_norm_steps(w, x, scale, bias, eps));
  scale = scale ? tn_ow_cast(w, scale, t.dtype) : tn_ow_full_1d(w, t.dtype, t.dims[t.rank - 1], 1);
  bias = tn_ow_cast(w, bias, t.dtype);
  tn_ow_out(w, op, 0,
            tn_ow_node1(w, "LayerNormalization", TN_OW_IN(x, scale, bias),
                        TN_OW_ATTRS(TN_OW_I("axis", -1), TN_OW_F("epsilon", eps)), &t));
}

static tn_ov rms_norm_steps(tn_ow *w, tn_ov x, tn_ov scale, double eps) {
  static const int64_t last = -1;
  tn_dtype in = tn_ow_dtype(w, x), t = statistics(w, x);
  tn_ov y = tn_ow_cast(w, x, t);
  tn_ov v = tn_ow_reduce(w, "ReduceMean", tn_ow_binary(w, "Pow", y, tn_ow_scalar(w, t, 2)), &last, 1, true);
  v = tn_ow_unary(w, "Sqrt", tn_ow_binary(w, "Add", v, tn_ow_scalar(w, t, eps)));
  y = tn_ow_binary(w, "Mul", y, tn_ow_unary(w, "Reciprocal", v));
  if (scale) y = tn_ow_binary(w, "Mul", y, tn_ow_cast(w, scale, t));
  return tn_ow_cast(w, y, in);
}

void tn_ow_op_rms_norm(tn_ow *w, tn_op op) {
  tn_ov x = tn_ow_in(w, op, 0), scale = tn_ow_in(w, op, 1);
  double eps = tn_ow_float(w, op, "eps"), offset = tn_ow_float(w, op, "offset");
  tn_ow_shape t = *tn_ow_type(w, x);
  if (tn_ow_failed(w)) return;
  if (scale && offset != 0) scale = tn_ow_binary(w, "Add", scale, tn_ow_scalar_like(w, scale, offset));
  if (w->o.opset < 23) return tn_ow_out(w, op, 0, rms_norm_steps(w, x, scale, eps));
  scale = scale ? tn_ow_cast(w, scale, t.dtype) : tn_ow_full_1d(w, t.dtype, t.dims[t.rank - 1], 1);
  tn_ow_out(w, op, 0,
            tn_ow_node1(w, "RMSNormalization", TN_OW_IN(x, scale),
                        TN_OW_ATTRS(TN_OW_I("axis", -1), TN_OW_F("epsilon", eps)), &t));
}
