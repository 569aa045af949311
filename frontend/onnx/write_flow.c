/* write_flow.c - If and Loop. The function that an op calls becomes a graph inside the node; what it is given
 * stands in the graph around it and is visible there, but under the sizes of the call: where the function has
 * its own symbols for them, the value is named again with its types. */
#include "frontend/onnx/write_graph.h"
#include <string.h>

static tn_func callee(tn_ow *w, tn_op op, const char *attr) {
  const char *name = tn_ow_str(w, op, attr);
  tn_func_info info;
  for (tn_func f = 1; f <= w->ir->func_count(w->m); f++) {
    w->ir->func_get(w->m, f, &info);
    if (!strcmp(info.name, name)) return f;
  }
  return tn_ow_fail(w, TN_INTERNAL, "there is no function '%s'", name), 0;
}

static void formal(tn_ow *w, tn_func f, uint32_t i, tn_ow_shape *out) {
  tn_func_info info;
  tn_value_info v;
  tn_type_info t;
  w->ir->func_get(w->m, f, &info);
  w->ir->value_get(w->m, info.args[i], &v);
  w->ir->type_get(w->m, v.type, &t);
  *out = (tn_ow_shape){.dtype = t.dtype, .rank = t.rank};
  memcpy(out->dims, t.dims, t.rank * sizeof *t.dims);
}

/* An outer value as the function's argument i. */
static tn_ov captured(tn_ow *w, tn_func f, uint32_t i, tn_ov outer) {
  tn_ow_shape t;
  formal(w, f, i, &t);
  if (!outer || !memcmp(t.dims, tn_ow_type(w, outer)->dims, t.rank * sizeof *t.dims)) return outer;
  tn_ov v = tn_ow_node1(w, "Identity", TN_OW_IN(outer), NULL, &t);
  if (v) tn_ow_sizes_of(w, v);
  return v;
}

static const char *unique(tn_ow *w, const char *what, uint32_t i) {
  const char *name = tn_arena_printf(&w->arena, "%s_%u_%u", what, w->graph, i);
  if (!name) tn_ow_fail(w, TN_OOM, "out of memory");
  return name ? name : "";
}

static void add_results(tn_ow *w, tn_func f, const tn_ov *args) {
  tn_func_info info;
  w->ir->func_get(w->m, f, &info);
  tn_ov *results = tn_arena_alloc(&w->arena, (info.nresults + 1) * sizeof *results);
  if (!results) return tn_ow_fail(w, TN_OOM, "out of memory");
  tn_ow_function_body(w, f, args, results);
  for (uint32_t i = 0; i < info.nresults; i++) tn_ow_output(w, unique(w, "out", i), results[i]);
}

static void state_results(tn_ow *w, tn_op op, const char *onnx, const tn_ov *in, uint32_t nin,
                          const tn_ow_attr *attrs) {
  uint32_t n = w->ir->op_nresults(w->m, op);
  tn_ow_shape *types = tn_arena_alloc(&w->arena, (n + 1) * sizeof *types);
  tn_ov *outs = tn_arena_alloc(&w->arena, (n + 1) * sizeof *outs);
  if (!types || !outs) return tn_ow_fail(w, TN_OOM, "out of memory");
  for (uint32_t i = 0; i < n; i++) tn_ow_result_type(w, op, i, &types[i]);
  tn_ow_node_typed(w, onnx, in, nin, attrs, types, n, outs);
  for (uint32_t i = 0; i < n; i++) {
    tn_ow_out(w, op, i, outs[i]);
    if (outs[i]) tn_ow_sizes_of(w, outs[i]);
  }
}

/* [1] is taken for a scalar. */
static tn_ov scalar(tn_ow *w, tn_ov v) {
  static const int64_t front = 0;
  return v && tn_ow_rank(w, v) ? tn_ow_squeeze(w, v, &front, 1) : v;
}

/* ---- if
 * ---------------------------------------------------------------------------------------------------- */
static uint32_t branch(tn_ow *w, tn_op op, const char *attr) {
  tn_func f = callee(w, op, attr);
  uint32_t n = w->ir->op_noperands(w->m, op), g = tn_ow_graph_begin(w, attr);
  tn_ov *args = tn_arena_alloc(&w->arena, (n + 1) * sizeof *args);
  if (!args) tn_ow_fail(w, TN_OOM, "out of memory");
  for (uint32_t i = 1; i < n && !tn_ow_failed(w); i++)
    args[i - 1] = captured(w, f, i - 1, tn_ow_in(w, op, i));
  if (!tn_ow_failed(w)) add_results(w, f, args);
  tn_ow_graph_end(w);
  return g;
}

void tn_ow_op_if(tn_ow *w, tn_op op) {
  tn_ov cond = scalar(w, tn_ow_in(w, op, 0));
  uint32_t yes = branch(w, op, "then"), no = branch(w, op, "else");
  state_results(w, op, "If", &cond, 1, TN_OW_ATTRS(TN_OW_G("then_branch", yes), TN_OW_G("else_branch", no)));
}

/* ---- loop
 * -------------------------------------------------------------------------------------------------- */
static tn_ov body_input(tn_ow *w, const char *what, uint32_t i, const tn_ow_shape *t) {
  tn_ov v = tn_ow_input(w, unique(w, what, i), t);
  if (v) tn_ow_sizes_of(w, v);
  return v;
}

/* body(i, carried..., captured...) as a graph (i, cond, carried...). */
static uint32_t loop_body(tn_ow *w, tn_op op, tn_func f, uint32_t carried) {
  const tn_ow_shape flag = {.dtype = TN_DT_bool};
  uint32_t n = w->ir->op_noperands(w->m, op) - 2, g = tn_ow_graph_begin(w, "body");
  tn_ov *args = tn_arena_alloc(&w->arena, (n + 1) * sizeof *args);
  if (!args) tn_ow_fail(w, TN_OOM, "out of memory");
  if (!tn_ow_failed(w)) {
    args[0] = body_input(w, "i", 0, &(tn_ow_shape){.dtype = TN_DT_i64});
    (void)body_input(w, "cond", 0, &flag);
  }
  for (uint32_t i = 0; i < n && !tn_ow_failed(w); i++) {
    tn_ow_shape t;
    formal(w, f, i + 1, &t);
    args[i + 1] =
        i < carried ? body_input(w, "carried", i, &t) : captured(w, f, i + 1, tn_ow_in(w, op, i + 2));
  }
  if (!tn_ow_failed(w)) add_results(w, f, args);
  tn_ow_graph_end(w);
  return g;
}

void tn_ow_op_loop(tn_ow *w, tn_op op) {
  tn_func f = callee(w, op, "body");
  uint32_t carried = (uint32_t)tn_ow_int(w, op, "carried");
  tn_ov *in = tn_arena_alloc(&w->arena, (carried + 2) * sizeof *in);
  if (!in) return tn_ow_fail(w, TN_OOM, "out of memory");
  in[0] = scalar(w, tn_ow_in(w, op, 0));
  in[1] = scalar(w, tn_ow_in(w, op, 1));
  if (in[0]) in[0] = tn_ow_cast(w, in[0], TN_DT_i64);
  for (uint32_t i = 0; i < carried; i++) in[i + 2] = tn_ow_in(w, op, i + 2);
  if (tn_ow_failed(w)) return;
  uint32_t g = loop_body(w, op, f, carried);
  state_results(w, op, "Loop", in, carried + 2, TN_OW_ATTRS(TN_OW_G("body", g)));
}

void tn_ow_op_let_dim(tn_ow *w, tn_op op) {
  tn_ov v = tn_ow_cast(w, scalar(w, tn_ow_in(w, op, 0)), TN_DT_i64);
  tn_ow_size_is(w, tn_ow_dim(w, op, "dim"), v);
}
