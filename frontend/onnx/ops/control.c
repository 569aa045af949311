/* ops/control.c - If, and the choice that it makes: at import where the condition is known, else at run time,
 * as two functions of which the runtime calls one. */
#include "frontend/onnx/body.h"

/* ---- at import
 * ---------------------------------------------------------------------------------------------- */

static tn_status take_branch(tn_ox *x, tn_ox_node *n, const tn_ox_graph *g) {
  tn_ox_scope *s = tn_ox_graph_inline(x, n, g, NULL, 0);
  if (!s) return x->broken ? x->broken : TN_INVALID;
  if (g->n_output != tn_ox_nout(n))
    return tn_ox_fail(x, n, "%u outputs, but the branch has %zu", tn_ox_nout(n), g->n_output);
  for (uint32_t i = 0; i < tn_ox_nout(n); i++) {
    tn_ox_item *item = tn_ox_graph_output(x, n, s, g, i);
    if (!item) return TN_INVALID;
    if (item->kind == TN_OX_INIT) {
      tn_value v = tn_ox_item_value(x, item);
      TN_TRY(tn_ox_out(x, n, i, v));
    } else
      TN_TRY(tn_ox_out_item(x, n, i, item));
  }
  return TN_OK;
}

/* ---- at run time
 * -------------------------------------------------------------------------------------------- */

typedef struct branch {
  const tn_ox_graph *g;
  const char *name;
  tn_ox_values results;
  uint32_t *lengths; /* of each output: elements of the list, or UINT32_MAX */
  tn_dim *inner;     /* what its body calls the symbols */
} branch;

static tn_status build_branch(tn_ox *x, tn_ox_node *n, tn_ox_outside *out, branch *b) {
  tn_ox_body body;
  TN_TRY(tn_ox_outside_renew(x, out));
  b->inner = tn_arena_alloc(&x->arena, (out->inner.count + 1) * sizeof *b->inner);
  if (!b->inner) return TN_OOM;
  for (uint32_t i = 0; i < out->inner.count; i++) b->inner[i] = out->inner.items[i];
  TN_TRY(tn_ox_body_open(x, n, "branch", &body));
  b->name = body.name;
  b->lengths = tn_arena_alloc(&x->arena, (b->g->n_output + 1) * sizeof *b->lengths);
  tn_status s = b->lengths ? tn_ox_body_outside(x, &body, out) : TN_OOM;
  if (s == TN_OK) s = tn_ox_run_graph(x, body.scope, b->g);
  for (size_t i = 0; i < b->g->n_output && s == TN_OK; i++) {
    tn_ox_item *item = tn_ox_graph_output(x, n, body.scope, b->g, i);
    s = tn_ox_flatten(x, n, item, &b->results);
    if (s == TN_OK) b->lengths[i] = item->kind == TN_OX_LIST ? item->count : UINT32_MAX;
  }
  tn_status closed = tn_ox_body_close(x, &body, b->results.items, b->results.count);
  return s == TN_OK ? closed : s;
}

/* A result has a size where both branches agree on one that means something here. */
static tn_type join(tn_ox *x, tn_ox_node *n, const tn_ox_outside *out, const branch both[2], uint32_t i) {
  tn_type a = tn_ox_type_of(x, both[0].results.items[i]), b = tn_ox_type_of(x, both[1].results.items[i]);
  tn_type_info ta, tb;
  tn_dim dims[TN_MAX_RANK];
  x->ir->type_get(x->m, a, &ta);
  x->ir->type_get(x->m, b, &tb);
  if (ta.dtype != tb.dtype || ta.rank != tb.rank) {
    tn_ox_refuse(x, n, "export with a constant condition",
                 "the branches give output %u rank %u and %u, or different types", i, ta.rank, tb.rank);
    return 0;
  }
  for (uint32_t k = 0; k < ta.rank; k++) {
    dims[k] = tn_ox_dim_outward(x, out, both[0].inner, ta.dims[k]);
    if (!dims[k] || tn_ox_dim_outward(x, out, both[1].inner, tb.dims[k]) != dims[k])
      dims[k] = tn_ox_fresh_dim(x, "if");
  }
  return x->ir->type_make(x->m, ta.dtype, ta.rank, dims, NULL);
}

static tn_status publish(tn_ox *x, tn_ox_node *n, const branch *b, tn_op op) {
  uint32_t at = 0;
  for (uint32_t i = 0; i < tn_ox_nout(n); i++) {
    if (b->lengths[i] == UINT32_MAX) {
      TN_TRY(tn_ox_out(x, n, i, tn_ox_result(x, op, at++)));
      continue;
    }
    tn_value *values = tn_arena_alloc(&x->arena, (b->lengths[i] + 1) * sizeof *values);
    for (uint32_t k = 0; values && k < b->lengths[i]; k++) values[k] = tn_ox_result(x, op, at++);
    TN_TRY(tn_ox_out_item(x, n, i, values ? tn_ox_list(x, values, b->lengths[i]) : NULL));
  }
  return TN_OK;
}

static tn_status call_branches(tn_ox *x, tn_ox_node *n, tn_value cond, const tn_ox_outside *out,
                               branch both[2]) {
  uint32_t count = both[0].results.count, nin = out->values.count + 1;
  bool same = both[0].g->n_output == tn_ox_nout(n) && both[1].g->n_output == tn_ox_nout(n) &&
              count == both[1].results.count;
  for (uint32_t i = 0; same && i < tn_ox_nout(n); i++) same = both[0].lengths[i] == both[1].lengths[i];
  if (!same)
    return tn_ox_refuse(x, n, NULL, "the branches give lists of different lengths, or other than %u outputs",
                        tn_ox_nout(n));
  tn_type *types = tn_arena_alloc(&x->arena, (count + 1) * sizeof *types);
  tn_value *in = tn_arena_alloc(&x->arena, (nin + 1) * sizeof *in);
  if (!types || !in) return TN_OOM;
  for (uint32_t i = 0; i < count; i++) {
    types[i] = join(x, n, out, both, i);
    if (!types[i]) return TN_INVALID;
  }
  in[0] = cond;
  for (uint32_t i = 1; i < nin; i++) in[i] = out->values.items[i - 1];
  tn_op op = tn_ox_make_typed(x, "if", in, nin,
                              TN_OX_ATTRS(TN_OX_STR("then", both[0].name), TN_OX_STR("else", both[1].name)),
                              types, count);
  return op ? publish(x, n, &both[0], op) : TN_INVALID;
}

static tn_status choose_later(tn_ox *x, tn_ox_node *n, tn_value cond, branch both[2]) {
  tn_ox_outside out = {0};
  tn_status s = tn_ox_outside_add(x, n, both[0].g, &out);
  if (s == TN_OK) s = tn_ox_outside_add(x, n, both[1].g, &out);
  if (s == TN_OK) s = build_branch(x, n, &out, &both[0]);
  if (s == TN_OK) s = build_branch(x, n, &out, &both[1]);
  if (s == TN_OK) s = call_branches(x, n, cond, &out, both);
  tn_ox_outside_fini(&out);
  tn_vec_fini(&both[0].results);
  tn_vec_fini(&both[1].results);
  return s;
}

/* The two sizes of a condition that says whether they are equal. */
static bool compares_sizes(tn_ox *x, tn_value cond, tn_dim out[2]) {
  tn_value_info v;
  tn_attr cmp;
  uint32_t one;
  for (;;) {
    x->ir->value_get(x->m, cond, &v);
    if (v.kind != TN_VALUE_RESULT) return false;
    const char *op = x->ir->opcode_name(x->ir->opcode(x->m, v.op));
    if (!strcmp(op, "compare")) break;
    if (strcmp(op, "cast") && strcmp(op, "reshape")) return false;
    cond = x->ir->op_operand(x->m, v.op, 0);
  }
  return x->ir->op_attr(x->m, v.op, "cmp", &cmp) && !strcmp(cmp.u.s, "eq") &&
         tn_ox_known_dims(x, x->ir->op_operand(x->m, v.op, 0), &out[0], 1, &one) &&
         tn_ox_known_dims(x, x->ir->op_operand(x->m, v.op, 1), &out[1], 1, &one);
}

static bool has_op(const tn_ox_graph *g, const char *op) {
  for (size_t i = 0; i < g->n_node; i++)
    if (!strcmp(g->node[i]->op_type, op)) return true;
  return false;
}

/* What exporters make of x.squeeze(axis): "if the size is 1, Squeeze, else as it is". The ranks differ, so
 * the size has to be 1; every call checks that. */
static bool is_squeeze(tn_ox *x, tn_ox_node *n, tn_value cond, const branch both[2]) {
  tn_dim sizes[2];
  bool shape = has_op(both[0].g, "Squeeze") && has_op(both[1].g, "Identity") && both[0].g->n_node <= 2 &&
               both[1].g->n_node == 1;
  if (!shape || !compares_sizes(x, cond, sizes)) return false;
  tn_ox_same(x, n, sizes[0], sizes[1]);
  return true;
}

tn_status tn_ox_lower_if(tn_ox *x, tn_ox_node *n) {
  tn_value cond = tn_ox_in(x, n, 0);
  branch both[2] = {{.g = tn_ox_graph_attr(x, n, "then_branch")},
                    {.g = tn_ox_graph_attr(x, n, "else_branch")}};
  int64_t known;
  uint32_t count;
  if (!cond || x->failed) return tn_ox_out(x, n, 0, 0);
  if (tn_ox_known_ints(x, cond, &known, 1, &count)) return take_branch(x, n, both[known ? 0 : 1].g);
  if (is_squeeze(x, n, cond, both)) return take_branch(x, n, both[0].g);
  if (tn_ox_rank(x, cond)) cond = tn_ox_reshape(x, cond, NULL, 0);
  return cond ? choose_later(x, n, cond, both) : TN_INVALID;
}
