/* write_irregular.c - ops whose results depend on data, transforms, determinants, and recurrent layers. Where
 * the IR has a result of full size and a count, ONNX has a result that is as long as the count: it is filled
 * up. */
#include "frontend/onnx/write_graph.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static tn_dim fresh(tn_ow *w, const char *what) {
  char name[48];
  snprintf(name, sizeof name, "%s_%u", what, w->values.count);
  return w->ir->dim_sym(w->m, name);
}

/* v [k, ...] with zeros behind, as [n, ...]. */
static tn_ov filled_up(tn_ow *w, tn_ov v, tn_dim n) {
  tn_ow_shape t = *tn_ow_type(w, v);
  if (!v) return 0;
  tn_ow_sizes_of(w, v);
  t.dims[0] = tn_ow_dsub(w, n, t.dims[0]);
  tn_ov zeros = tn_ow_expand(w, tn_ow_scalar(w, t.dtype, 0), t.dims, t.rank), both[2] = {v, zeros};
  const tn_ow_filled f = {tn_ow_concat(w, both, 2, 0), v, tn_ow_size_of(w, v, 0)};
  if (f.full && !tn_vec_push(&w->filled, f)) tn_ow_fail(w, TN_OOM, "out of memory");
  return f.full;
}

tn_ov tn_ow_unfilled(tn_ow *w, tn_ov full, tn_dim stop) {
  for (uint32_t i = 0; i < w->filled.count; i++) {
    const tn_ow_filled f = w->filled.items[i];
    if (f.full != full || tn_ow_dim_scalar(w, stop) != tn_ow_dim_scalar(w, f.count)) continue;
    w->values.items[f.exact].type.dims[0] = stop; /* a better known name of the same size */
    return f.exact;
  }
  return 0;
}

void tn_ow_op_scatter(tn_ow *w, tn_op op) {
  static const int64_t behind = 1;
  tn_ov data = tn_ow_in(w, op, 0), at = tn_ow_cast(w, tn_ow_in(w, op, 1), TN_DT_i64),
        updates = tn_ow_in(w, op, 2);
  const char *how = tn_ow_str(w, op, "reduce");
  uint32_t since = !strcmp(how, "none") ? 14 : how[0] == 'm' && how[1] != 'u' ? 18 : 16;
  tn_ow_shape t = *tn_ow_type(w, data);
  if (w->o.opset < since)
    return tn_ow_fail(w, TN_UNSUPPORTED,
                      "ScatterND with '%s' needs opset %u, and the model is written for %u", how, since,
                      w->o.opset);
  tn_ow_out(w, op, 0,
            tn_ow_node1(w, "ScatterND", TN_OW_IN(data, tn_ow_unsqueeze(w, at, &behind, 1), updates),
                        since > 14 ? TN_OW_ATTRS(TN_OW_S("reduction", how)) : NULL, &t));
}

void tn_ow_op_nonzero(tn_ow *w, tn_op op) {
  static const int64_t front = 0;
  tn_ov x = tn_ow_in(w, op, 0);
  tn_ow_shape want;
  if (tn_ow_failed(w)) return;
  tn_ow_result_type(w, op, 0, &want);
  tn_dim k = fresh(w, "nonzero"), n = want.dims[0];
  const tn_ow_shape t = {TN_DT_i64, 2, {tn_ow_d(w, 1), k}};
  tn_ov v =
      tn_ow_squeeze(w, tn_ow_node1(w, "NonZero", TN_OW_IN(tn_ow_reshape(w, x, &n, 1)), NULL, &t), &front, 1);
  tn_ow_out(w, op, 0, filled_up(w, v, n));
  tn_ow_out(w, op, 1, tn_ow_dim_scalar(w, k));
}

void tn_ow_op_unique(tn_ow *w, tn_op op) {
  tn_ov x = tn_ow_in(w, op, 0), outs[4];
  tn_dim k = fresh(w, "unique"), n = tn_ow_size_of(w, x, 0);
  tn_ow_shape t[4] = {*tn_ow_type(w, x), {TN_DT_i64, 1, {k}}, {TN_DT_i64, 1, {n}}, {TN_DT_i64, 1, {k}}};
  t[0].dims[0] = k;
  tn_ow_node_typed(w, "Unique", &x, 1,
                   TN_OW_ATTRS(TN_OW_I("axis", 0), TN_OW_I("sorted", tn_ow_int(w, op, "sorted"))), t, 4,
                   outs);
  tn_ow_out(w, op, 0, filled_up(w, outs[1], n));
  tn_ow_out(w, op, 1, outs[2]);
  tn_ow_out(w, op, 2, filled_up(w, outs[3], n));
  tn_ow_out(w, op, 3, tn_ow_dim_scalar(w, k));
}

void tn_ow_op_nms(tn_ow *w, tn_op op) {
  tn_ov in[5];
  for (uint32_t i = 0; i < 5; i++) in[i] = tn_ow_in(w, op, i);
  if (in[2]) in[2] = tn_ow_cast(w, in[2], TN_DT_i64);
  for (uint32_t i = 3; i < 5; i++) in[i] = tn_ow_cast(w, in[i], TN_DT_f32);
  tn_dim k = fresh(w, "selected");
  const tn_ow_shape t = {TN_DT_i64, 2, {k, tn_ow_d(w, 3)}};
  tn_ov v = tn_ow_node1(w, "NonMaxSuppression", in, 5,
                        TN_OW_ATTRS(TN_OW_I("center_point_box", tn_ow_int(w, op, "center"))), &t);
  tn_ow_out(w, op, 0, filled_up(w, v, tn_ow_dim(w, op, "rows")));
  tn_ow_out(w, op, 1, tn_ow_dim_scalar(w, k));
}

/* ---- transforms
 * -------------------------------------------------------------------------------------------- */
void tn_ow_op_dft(tn_ow *w, tn_op op) {
  tn_ov x = tn_ow_in(w, op, 0);
  tn_ow_shape t;
  bool inverse = tn_ow_int(w, op, "inverse"), onesided = tn_ow_int(w, op, "onesided");
  uint32_t axis = tn_ow_axis(w, op, x);
  if (tn_ow_failed(w)) return;
  if (w->o.opset < 17 || (inverse && onesided))
    return tn_ow_fail(w, TN_UNSUPPORTED,
                      inverse && onesided ? "DFT has no inverse to real numbers"
                                          : "DFT needs opset 17, and the model is written for %u",
                      w->o.opset);
  tn_ow_result_type(w, op, 0, &t);
  tn_ov n = tn_ow_dim_scalar(w, tn_ow_dim(w, op, "n"));
  if (w->o.opset < 20)
    x = tn_ow_node1(
        w, "DFT", TN_OW_IN(x, n),
        TN_OW_ATTRS(TN_OW_I("axis", axis), TN_OW_I("inverse", inverse), TN_OW_I("onesided", onesided)), &t);
  else
    x = tn_ow_node1(w, "DFT", TN_OW_IN(x, n, tn_ow_scalar(w, TN_DT_i64, axis)),
                    TN_OW_ATTRS(TN_OW_I("inverse", inverse), TN_OW_I("onesided", onesided)), &t);
  tn_ow_out(w, op, 0, x);
}

void tn_ow_op_det(tn_ow *w, tn_op op) {
  tn_ov x = tn_ow_in(w, op, 0);
  tn_ow_shape t = *tn_ow_type(w, x);
  t.rank -= 2;
  tn_ow_out(w, op, 0, tn_ow_node1(w, "Det", &x, 1, NULL, &t));
}

/* ---- recurrent layers -------------------------------------------------------------------------------------
 */
typedef struct activation {
  const char *ours, *onnx;
  uint32_t numbers;
} activation;
static const activation activations[] = {{"sigmoid", "Sigmoid", 0},
                                         {"tanh", "Tanh", 0},
                                         {"relu", "Relu", 0},
                                         {"elu", "Elu", 1},
                                         {"affine", "Affine", 2},
                                         {"leaky_relu", "LeakyRelu", 1},
                                         {"thresholded_relu", "ThresholdedRelu", 1},
                                         {"scaled_tanh", "ScaledTanh", 2},
                                         {"hard_sigmoid", "HardSigmoid", 2},
                                         {"softsign", "Softsign", 0},
                                         {"softplus", "Softplus", 0}};

/* "sigmoid, elu 0.5" as the attributes activations, activation_alpha, activation_beta; as many as `n`. */
static void activation_attrs(tn_ow *w, tn_op op, uint32_t n, tn_ow_attr out[3]) {
  tn_buf names = {0};
  double *numbers = tn_arena_alloc(&w->arena, 2 * (n + 1) * sizeof *numbers);
  uint32_t counts[2] = {0, 0};
  const char *at = tn_ow_str(w, op, "activations");
  for (uint32_t i = 0; numbers && i < n; i++) {
    size_t len = strspn(at, "abcdefghijklmnopqrstuvwxyz_");
    const activation *a = NULL;
    for (uint32_t k = 0; k < TN_COUNT(activations); k++)
      if (strlen(activations[k].ours) == len && !memcmp(activations[k].ours, at, len)) a = &activations[k];
    if (!a)
      return tn_buf_fini(&names),
             tn_ow_fail(w, TN_UNSUPPORTED, "activation '%.*s' has no form in ONNX", (int)len, at);
    tn_buf_printf(&names, "%s%s", i ? "\n" : "", a->onnx);
    at += len;
    for (uint32_t k = 0; k < a->numbers; k++) {
      char *end;
      numbers[k * (n + 1) + counts[k]++] = strtod(at, &end);
      at = end;
    }
    at += strspn(at, ", ");
  }
  out[0] = (tn_ow_attr){.name = "activations",
                        .kind = TN_OA_STRINGS,
                        .s = tn_arena_str(&w->arena, (tn_str){tn_buf_cstr(&names), names.len}),
                        .count = 0};
  for (uint32_t k = 0; k < 2; k++)
    out[k + 1] = (tn_ow_attr){.name = counts[k] ? (k ? "activation_beta" : "activation_alpha") : NULL,
                              .kind = TN_OA_FLOATS,
                              .count = counts[k],
                              .floats = numbers ? numbers + k * (n + 1) : NULL};
  tn_buf_fini(&names);
}

/* x [s, b, d, gates * h] is the product with the input's weights already: it goes in as [s, b, d * gates *
 * h], and the weights that ONNX asks for pick each direction's part of it. */
static tn_ov picks(tn_ow *w, tn_ov x, tn_dim *width) {
  const tn_ow_shape *t = tn_ow_type(w, x);
  tn_dim d = t->dims[2], gates = t->dims[3];
  *width = tn_ow_dmake(w, TN_DIM_MUL, d, gates);
  tn_ow_shape square = {t->dtype, 2, {*width, *width}};
  tn_ov zeros = tn_ow_expand(w, tn_ow_scalar(w, t->dtype, 0), square.dims, 2);
  return tn_ow_reshape(w, tn_ow_node1(w, "EyeLike", TN_OW_IN(zeros), NULL, &square),
                       (tn_dim[]){d, gates, *width}, 3);
}

/* Runs the layer: `extra` are the operands behind sequence_lens; results y [s, b, d, h] becomes [s, d, b, h].
 */
static void recurrent(tn_ow *w, tn_op op, const char *onnx, const tn_ov *state, uint32_t nstate, tn_ov bias,
                      tn_ov lengths, uint32_t per, const tn_ow_attr *own) {
  tn_ov x = tn_ow_in(w, op, 0), outs[3];
  tn_ow_shape t[3];
  uint32_t n = w->ir->op_nresults(w->m, op);
  int64_t h = 0, d = 0;
  tn_dim width;
  if (tn_ow_failed(w)) return;
  for (uint32_t i = 0; i < n; i++) tn_ow_result_type(w, op, i, &t[i]);
  if (!tn_ow_dconst(w, t[0].dims[3], &h) || !tn_ow_dconst(w, t[0].dims[1], &d))
    return tn_ow_fail(w, TN_UNSUPPORTED, "the layer's sizes are not known");
  tn_ov weights = picks(w, x, &width);
  const tn_ow_shape *xt = tn_ow_type(w, x);
  x = tn_ow_reshape(w, x, (tn_dim[]){xt->dims[0], xt->dims[1], width}, 3);
  const char *direction = tn_ow_str(w, op, "direction");
  double clip = tn_ow_float(w, op, "clip");
  tn_ow_attr attrs[12] = {TN_OW_I("hidden_size", h),
                          TN_OW_S("direction", strcmp(direction, "both") ? direction : "bidirectional")};
  uint32_t na = 2;
  tn_ow_attr act[3];
  activation_attrs(w, op, per * (uint32_t)d, act);
  for (uint32_t i = 0; i < 3 && !tn_ow_failed(w); i++)
    if (act[i].name) attrs[na++] = act[i];
  if (clip != 0) attrs[na++] = TN_OW_F("clip", clip);
  for (; own && own->name; own++) attrs[na++] = *own;
  tn_ov in[8] = {x, weights, tn_ow_in(w, op, 1), bias, lengths ? tn_ow_cast(w, lengths, TN_DT_i32) : 0};
  for (uint32_t i = 0; i < nstate; i++) in[5 + i] = state[i];
  tn_ow_node_typed(w, onnx, in, 5 + nstate, attrs, t, n, outs);
  for (uint32_t i = 0; i < n; i++) tn_ow_out(w, op, i, outs[i]);
}

void tn_ow_op_lstm(tn_ow *w, tn_op op) {
  tn_ov state[3] = {tn_ow_in(w, op, 2), tn_ow_in(w, op, 3), tn_ow_in(w, op, 4)};
  recurrent(w, op, "LSTM", state, 3, 0, tn_ow_in(w, op, 5), 3,
            tn_ow_int(w, op, "coupled") ? TN_OW_ATTRS(TN_OW_I("input_forget", 1)) : NULL);
}

/* The bias of the candidate is the last sixth of B: [d, 6h]. */
static tn_ov gru_bias(tn_ow *w, tn_ov bias) {
  tn_ow_shape t = *tn_ow_type(w, bias);
  if (!bias) return 0;
  t.dims[1] = tn_ow_dmake(w, TN_DIM_MUL, t.dims[1], tn_ow_d(w, 5));
  tn_ov zeros = tn_ow_expand(w, tn_ow_scalar(w, t.dtype, 0), t.dims, 2);
  return tn_ow_concat(w, (tn_ov[]){zeros, bias}, 2, 1);
}

void tn_ow_op_gru(tn_ow *w, tn_op op) {
  tn_ov state[1] = {tn_ow_in(w, op, 2)};
  recurrent(w, op, "GRU", state, 1, gru_bias(w, tn_ow_in(w, op, 3)), tn_ow_in(w, op, 4), 2,
            TN_OW_ATTRS(TN_OW_I("linear_before_reset", tn_ow_int(w, op, "reset_after"))));
}

void tn_ow_op_rnn(tn_ow *w, tn_op op) {
  tn_ov state[1] = {tn_ow_in(w, op, 2)};
  recurrent(w, op, "RNN", state, 1, 0, tn_ow_in(w, op, 3), 1, NULL);
}
