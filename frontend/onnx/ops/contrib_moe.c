/* contrib_moe.c - com.microsoft: MoE and QMoE, mixtures of experts, by products with the matrices of each
 * token's own experts. */
#include "frontend/onnx/ops/transformer.h"
#include "frontend/onnx/packed.h"

typedef struct moe {
  tn_value v;       /* [tokens, hidden] */
  tn_value experts; /* i64 [tokens, k] */
  tn_value shares;  /* f32 [tokens, k] */
  tn_value w[3], bias[3];
} moe;

/* The k best experts of each token and what each contributes. */
static void route(tn_ox *x, tn_ox_node *n, tn_value scores, tn_value weights, moe *m) {
  int64_t k = tn_ox_int(n, "k", 1);
  bool normalize = tn_ox_int(n, "normalize_routing_weights", 0) != 0;
  if (!scores) return;
  tn_value p = tn_ox_softmax(x, tn_ox_cast(x, scores, TN_DT_f32), -1);
  tn_op top =
      tn_ox_make_op(x, "top_k", &p, 1, TN_OX_ATTRS(TN_OX_DIM("k", tn_ox_d(x, k)), TN_OX_INT("axis", -1)));
  m->shares = tn_ox_result(x, top, 0), m->experts = tn_ox_result(x, top, 1);
  if (weights) {
    tn_ox_refuse(x, n, NULL, "input router_weights is not supported");
    return;
  }
  if (!normalize) return;
  m->shares =
      tn_ox_binary(x, "div", m->shares, tn_ox_reduce(x, "reduce_sum", m->shares, (int64_t[]){-1}, 1, true));
}

/* Row products with matrix i of each token's experts, [tokens, k, n] in f32. */
static tn_value expert(tn_ox *x, const moe *m, int i, tn_value v) {
  const tn_value in[] = {v, m->w[i], m->experts};
  tn_value y = v && m->w[i] && m->experts ? tn_ox_make(x, "expert_matmul", in, 3, NULL) : 0;
  return m->bias[i]
             ? tn_ox_binary(x, "add", y, tn_ox_cast(x, tn_ox_gather(x, m->bias[i], m->experts, 0), TN_DT_f32))
             : y;
}

static tn_value swiglu(tn_ox *x, tn_ox_node *n, tn_value g, tn_value l) {
  tn_value alpha = tn_ox_scalar(x, TN_DT_f32, tn_ox_float(n, "activation_alpha", 1));
  if (tn_ox_has_attr(n, "swiglu_limit")) {
    double limit = tn_ox_float(n, "swiglu_limit", 0);
    tn_value high = tn_ox_scalar(x, TN_DT_f32, limit), low = tn_ox_scalar(x, TN_DT_f32, -limit);
    g = tn_ox_binary(x, "min", g, high);
    l = tn_ox_binary(x, "max", tn_ox_binary(x, "min", l, high), low);
  }
  g = tn_ox_binary(x, "mul", g, tn_ox_unary(x, "sigmoid", tn_ox_binary(x, "mul", alpha, g)));
  return tn_ox_binary(
      x, "mul", g,
      tn_ox_binary(x, "add", l, tn_ox_scalar(x, TN_DT_f32, tn_ox_float(n, "activation_beta", 0))));
}

static tn_value inner(tn_ox *x, tn_ox_node *n, const moe *m) {
  const char *act = tn_ox_str(n, "activation_type", "relu");
  int64_t fusion = tn_ox_int(n, "swiglu_fusion", 0);
  tn_value y = expert(x, m, 0, m->v);
  if (!y) return 0;
  if (!strcmp(act, "swiglu")) {
    tn_dim zero = tn_ox_d(x, 0), one = tn_ox_d(x, 1), size = tn_ox_dim(x, y, -1),
           half = tn_ox_ddiv(x, size, tn_ox_d(x, 2));
    if (fusion == 1)
      return swiglu(x, n, tn_ox_slice(x, y, -1, zero, size, 2), tn_ox_slice(x, y, -1, one, size, 2));
    if (fusion == 2)
      return swiglu(x, n, tn_ox_slice(x, y, -1, zero, half, 1), tn_ox_slice(x, y, -1, half, size, 1));
    return swiglu(x, n, y, expert(x, m, 2, m->v));
  }
  if (!strcmp(act, "silu"))
    y = tn_ox_unary(x, "silu", y);
  else
    y = tn_ox_activation(x, n,
                         !strcmp(act, "relu")       ? "Relu"
                         : !strcmp(act, "gelu")     ? "Gelu"
                         : !strcmp(act, "identity") ? ""
                                                    : act,
                         y, NULL, 0);
  return m->w[2] ? tn_ox_binary(x, "mul", y, expert(x, m, 2, m->v)) : y;
}

static tn_status mix(tn_ox *x, tn_ox_node *n, moe *m, tn_value input) {
  tn_dim dims[TN_MAX_RANK];
  if (!input || !m->v) return tn_ox_out(x, n, 0, 0);
  TN_TRY(tn_ox_want_int(x, n, "use_sparse_mixer", 0, 0));
  tn_value y = expert(x, m, 1, inner(x, n, m));
  y = tn_ox_binary(x, "mul", y, tn_ox_unsqueeze(x, m->shares, 2));
  y = tn_ox_cast(x, tn_ox_reduce(x, "reduce_sum", y, (int64_t[]){1}, 1, false), tn_ox_dtype(x, input));
  tn_ox_dims(x, input, dims);
  return tn_ox_out(x, n, 0, tn_ox_reshape(x, y, dims, tn_ox_rank(x, input)));
}

static tn_value tokens_of(tn_ox *x, tn_value v) {
  if (!v || tn_ox_rank(x, v) != 3) return v;
  tn_dim tokens = tn_ox_dmul(x, tn_ox_dim(x, v, 0), tn_ox_dim(x, v, 1));
  return tn_ox_reshape(x, v, (tn_dim[]){tokens, tn_ox_dim(x, v, 2)}, 2);
}

tn_status tn_ox_lower_moe(tn_ox *x, tn_ox_node *n) {
  tn_value input = tn_ox_in(x, n, 0);
  moe m = {.v = tokens_of(x, input)};
  for (uint32_t i = 0; i < 3; i++) m.w[i] = tn_ox_in(x, n, 2 + 2 * i), m.bias[i] = tn_ox_in(x, n, 3 + 2 * i);
  route(x, n, tn_ox_in(x, n, 1), 0, &m);
  return mix(x, n, &m, input);
}

/* ---- QMoE ---- */

/* Matrix i, [experts, n, k] from bytes [experts, n, k bits / 8], scales of rows or blocks, and zero points.
 */
static tn_value matrix(tn_ox *x, tn_ox_node *n, uint32_t i) {
  static const char *const own_bits[] = {"fc1_expert_weight_bits", "fc2_expert_weight_bits",
                                         "fc3_expert_weight_bits"};
  tn_value codes = tn_ox_in(x, n, 2 + 3 * i), scales = tn_ox_in(x, n, 3 + 3 * i),
           zeros = tn_ox_in(x, n, 11 + i);
  int64_t e, rows, bytes, bits = tn_ox_int(n, own_bits[i], tn_ox_int(n, "expert_weight_bits", 4)),
                          block = tn_ox_int(n, "block_size", 0);
  if (!codes || !scales) return 0;
  if ((bits != 2 && bits != 4 && bits != 8) || !tn_ox_dconst(x, tn_ox_dim(x, codes, 0), &e) ||
      !tn_ox_dconst(x, tn_ox_dim(x, codes, 1), &rows) || !tn_ox_dconst(x, tn_ox_dim(x, codes, 2), &bytes)) {
    tn_ox_refuse(x, n, NULL, "matrices of %lld bits, or of sizes that are not known", (long long)bits);
    return 0;
  }
  int64_t k = bytes * 8 / bits, group = block > 0 ? block : k, groups = (k + group - 1) / group;
  tn_ox_packing p = {.codes = codes,
                     .scales = scales,
                     .zeros = zeros,
                     .rows = e * rows,
                     .columns = k,
                     .group = group,
                     .bits = (uint32_t)bits,
                     .zero_rows_padded = true,
                     .items = e};
  tn_value w = k % group || (zeros && block <= 0) ? 0 : tn_ox_pack(x, &p);
  if (w) return w;
  tn_dtype t = bits == 2 ? TN_DT_u2 : bits == 4 ? TN_DT_u4 : TN_DT_u8;
  tn_dim dims[] = {tn_ox_d(x, e), tn_ox_d(x, rows), tn_ox_d(x, groups), tn_ox_d(x, group)};
  if (k % group) {
    tn_ox_refuse(x, n, NULL, "rows of %lld are not blocks of %lld", (long long)k, (long long)group);
    return 0;
  }
  w = tn_ox_cast(x, tn_ox_same_bytes(x, n, codes, t, (int64_t[]){e, rows, groups, group}, 4), TN_DT_f32);
  tn_value z = tn_ox_scalar(x, TN_DT_f32, (double)(1 << (bits - 1)));
  if (zeros) {
    int64_t per = 8 / bits, line = block > 0 ? groups : rows, padded = (line + per - 1) / per * per;
    z = block > 0 ? tn_ox_same_bytes(x, n, zeros, t, (int64_t[]){e, rows, padded}, 3)
                  : tn_ox_same_bytes(x, n, zeros, t, (int64_t[]){e, padded}, 2);
    z = tn_ox_slice(x, tn_ox_cast(x, z, TN_DT_f32), -1, tn_ox_d(x, 0), tn_ox_d(x, line), 1);
    z = tn_ox_rank_back(x, z, 4);
  }
  dims[3] = tn_ox_d(x, 1);
  tn_value s = tn_ox_reshape(x, tn_ox_cast(x, scales, TN_DT_f32), dims, 4);
  w = tn_ox_binary(x, "mul", tn_ox_binary(x, "sub", w, z), s);
  dims[2] = tn_ox_d(x, k);
  return tn_ox_reshape(x, w, dims, 3);
}

tn_status tn_ox_lower_qmoe(tn_ox *x, tn_ox_node *n) {
  tn_value input = tn_ox_in(x, n, 0);
  moe m = {.v = tokens_of(x, input)};
  if (strcmp(tn_ox_str(n, "quant_type", "int"), "int"))
    return tn_ox_refuse(x, n, NULL, "quant_type is '%s', only int is supported",
                        tn_ox_str(n, "quant_type", "int"));
  if (tn_ox_int(n, "weights_prepacked", -1) == 1)
    return tn_ox_refuse(x, n, "export with weights_prepacked = 0",
                        "weights are in the layout of one machine");
  for (uint32_t i = 0; i < 3; i++) m.w[i] = matrix(x, n, i), m.bias[i] = tn_ox_in(x, n, 4 + 3 * i);
  route(x, n, tn_ox_in(x, n, 1), tn_ox_in(x, n, 14), &m);
  return mix(x, n, &m, input);
}
