/* write_scan.c - recurrences over tokens as Scan: the state goes from step to step, what is the same in all
 * steps is seen from the graph around it. */
#include "frontend/onnx/write_graph.h"
#include <string.h>

/* ---- the state space recurrence
 * ------------------------------------------------------------------------------ */
/* [b, g, n] to [b, h, n]: each group serves h / g heads. */
static tn_ov spread(tn_ow *w, tn_ov v, tn_dim h) {
  static const int64_t behind = 2;
  tn_ow_shape t = *tn_ow_type(w, v);
  int64_t heads = 0, groups = 0;
  if (!v || t.dims[1] == h) return v;
  if (!tn_ow_dconst(w, h, &heads) || !tn_ow_dconst(w, t.dims[1], &groups))
    return tn_ow_fail(w, TN_UNSUPPORTED, "the number of heads is not known"), 0;
  tn_dim each = tn_ow_d(w, heads / groups), one = tn_ow_d(w, 1);
  tn_ow_shape wide = {t.dtype, 4, {t.dims[0], t.dims[1], each, t.dims[2]}};
  tn_ov shape = tn_ow_shape_value(w, (tn_dim[]){one, one, each, one}, 4);
  v = tn_ow_node1(w, "Expand", TN_OW_IN(tn_ow_unsqueeze(w, v, &behind, 1), shape), NULL, &wide);
  return tn_ow_reshape(w, v, (tn_dim[]){t.dims[0], h, t.dims[2]}, 3);
}

static const int64_t at2[] = {2}, at3[] = {3};

/* Inputs of a step's graph: in[i] without the tokens, axis 1. */
static void step_inputs(tn_ow *w, uint32_t id, const tn_ov *in, uint32_t n, tn_ov *v) {
  char name[64];
  for (uint32_t i = 0; i < n; i++) {
    tn_ow_shape t = *tn_ow_type(w, in[i]);
    if (t.rank) memmove(t.dims + 1, t.dims + 2, (--t.rank - 1) * sizeof *t.dims);
    snprintf(name, sizeof name, "step_%u_%u", id, i);
    v[i] = tn_ow_input(w, name, &t);
  }
}

static void step_outputs(tn_ow *w, uint32_t id, tn_ov state, tn_ov y) {
  char name[64];
  snprintf(name, sizeof name, "next_%u", id);
  tn_ow_output(w, name, state);
  snprintf(name, sizeof name, "y_%u", id);
  tn_ow_output(w, name, y);
  tn_ow_graph_end(w);
}

/* The node: state and sequences in, last state and y (tokens again at axis 1) out. */
static void scan_node(tn_ow *w, uint32_t body, tn_ov state, const tn_ov *in, uint32_t n,
                      const tn_ow_shape *last, const tn_ow_shape *y, tn_ov outs[2]) {
  static const int64_t tokens[] = {1, 1, 1, 1, 1, 1};
  tn_ov all[7] = {state};
  for (uint32_t i = 0; i < n; i++) all[i + 1] = in[i];
  const tn_ow_shape results[2] = {*last, *y};
  tn_ow_node_typed(w, "Scan", all, n + 1,
                   TN_OW_ATTRS(TN_OW_G("body", body), TN_OW_I("num_scan_inputs", n),
                               TN_OW_IS("scan_input_axes", tokens, n),
                               TN_OW_IS("scan_output_axes", tokens, 1)),
                   results, 2, outs);
}

/* The graph of one step: (state, x, dt, b, c) to (state, y). */
static uint32_t ssm_step(tn_ow *w, tn_ov a, const tn_ow_shape *state, const tn_ov in[4]) {
  char name[64];
  uint32_t g = tn_ow_graph_begin(w, "step"), id = w->values.count;
  tn_ov v[4];
  snprintf(name, sizeof name, "state_%u", id);
  tn_ov h = tn_ow_input(w, name, state);
  step_inputs(w, id, in, 4, v);
  tn_dim heads = state->dims[1];
  tn_ov dt = tn_ow_unsqueeze(w, v[1], at2, 1);
  tn_ov keep = tn_ow_unsqueeze(w, tn_ow_unary(w, "Exp", tn_ow_binary(w, "Mul", dt, a)), at2, 1);
  tn_ov x = tn_ow_unsqueeze(w, tn_ow_binary(w, "Mul", v[0], dt), at3, 1);
  tn_ov b = tn_ow_unsqueeze(w, spread(w, v[2], heads), at2, 1);
  tn_ov next = tn_ow_binary(w, "Add", tn_ow_binary(w, "Mul", h, keep), tn_ow_binary(w, "Mul", x, b));
  tn_ov c = tn_ow_unsqueeze(w, spread(w, v[3], heads), at3, 1);
  step_outputs(w, id, next, tn_ow_squeeze(w, tn_ow_matmul(w, next, c), at3, 1));
  return g;
}

void tn_ow_op_ssm_scan(tn_ow *w, tn_op op) {
  tn_ov in[6], outs[2];
  tn_ow_shape t[2];
  for (uint32_t i = 0; i < 6; i++) in[i] = tn_ow_cast(w, tn_ow_in(w, op, i), TN_DT_f32);
  for (uint32_t i = 0; i < 2; i++) tn_ow_result_type(w, op, i, &t[i]);
  const tn_dtype types[2] = {t[0].dtype, t[1].dtype};
  if (tn_ow_failed(w)) return;
  t[0].dtype = t[1].dtype = TN_DT_f32;
  const tn_ov steps[4] = {in[0], in[1], in[3], in[4]};
  scan_node(w, ssm_step(w, in[2], &t[1], steps), in[5], steps, 4, &t[1], &t[0], outs);
  tn_ow_out(w, op, 0, tn_ow_cast(w, outs[1], types[0]));
  tn_ow_out(w, op, 1, tn_ow_cast(w, outs[0], types[1]));
}

/* ---- linear attention
 * --------------------------------------------------------------------------------------- */
/* (state, q, k, v, decay?, beta?) to (state, y), with decay and beta where `has` says so; each head of k
 * serves h / g heads of q. */
static uint32_t delta_step(tn_ow *w, const tn_ow_shape *state, const tn_ov *in, uint32_t n, bool decay,
                           bool beta, double scale) {
  char name[64];
  uint32_t g = tn_ow_graph_begin(w, "step"), id = w->values.count;
  tn_ov v[5];
  snprintf(name, sizeof name, "state_%u", id);
  tn_ov s = tn_ow_input(w, name, state);
  step_inputs(w, id, in, n, v);
  if (decay) s = tn_ow_binary(w, "Mul", s, tn_ow_unsqueeze(w, tn_ow_unary(w, "Exp", v[3]), at3, 1));
  tn_ov k = tn_ow_unsqueeze(w, v[1], at3, 1), row = tn_ow_unsqueeze(w, v[1], at2, 1),
        u = tn_ow_unsqueeze(w, v[2], at2, 1);
  if (beta) {
    tn_ov b = tn_ow_unsqueeze(w, v[decay ? 4 : 3], (const int64_t[]){2, 3}, 2);
    u = tn_ow_binary(w, "Mul", b, tn_ow_binary(w, "Sub", u, tn_ow_matmul(w, row, s)));
  }
  s = tn_ow_binary(w, "Add", s, tn_ow_binary(w, "Mul", k, u)); /* [b, g, d, e] */
  tn_dim b = state->dims[0], heads = tn_ow_size_of(w, v[0], 1), d = state->dims[2];
  tn_dim each = tn_ow_dmake(w, TN_DIM_FLOORDIV, heads, state->dims[1]);
  tn_ov q = tn_ow_reshape(w, v[0], (const tn_dim[]){b, state->dims[1], each, d}, 4);
  tn_ov y = tn_ow_reshape(w, tn_ow_matmul(w, q, s), (const tn_dim[]){b, heads, state->dims[3]}, 3);
  step_outputs(w, id, s, scale == 1 ? y : tn_ow_binary(w, "Mul", y, tn_ow_scalar(w, TN_DT_f32, scale)));
  return g;
}

void tn_ow_op_delta_scan(tn_ow *w, tn_op op) {
  tn_ov in[6], steps[5], outs[2];
  tn_ow_shape t[2];
  uint32_t n = 0;
  for (uint32_t i = 0; i < 6; i++) in[i] = tn_ow_cast(w, tn_ow_in(w, op, i), TN_DT_f32);
  for (uint32_t i = 0; i < 2; i++) tn_ow_result_type(w, op, i, &t[i]);
  const tn_dtype own = t[0].dtype;
  if (tn_ow_failed(w)) return;
  t[0].dtype = TN_DT_f32;
  for (uint32_t i = 0; i < 6; i++)
    if (i != 3 && in[i]) steps[n++] = in[i];
  tn_ov state = in[3] ? in[3] : tn_ow_expand(w, tn_ow_scalar(w, TN_DT_f32, 0), t[1].dims, t[1].rank);
  uint32_t body = delta_step(w, &t[1], steps, n, in[4] != 0, in[5] != 0, tn_ow_float(w, op, "scale"));
  scan_node(w, body, state, steps, n, &t[1], &t[0], outs);
  tn_ow_out(w, op, 0, tn_ow_cast(w, outs[1], own));
  tn_ow_out(w, op, 1, outs[0]);
}
