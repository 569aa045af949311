/* graph.c - scopes of names, and the nodes of one graph in order. */
#include "frontend/onnx/import.h"

tn_ox_scope *tn_ox_scope_new(tn_ox *x, tn_ox_scope *outer) {
  tn_ox_scope *s = tn_arena_alloc(&x->arena, sizeof *s);
  if (!s || !tn_vec_push(&x->scopes, s)) {
    x->broken = TN_OOM;
    return NULL;
  }
  tn_map_init(&s->names);
  s->prefix = "";
  if (!outer) return s;
  s->outer = outer;
  s->env = outer->env;
  s->opsets = outer->opsets;
  s->nopsets = outer->nopsets;
  s->depth = outer->depth + 1;
  s->prefix = outer->prefix;
  return s;
}

tn_status tn_ox_define(tn_ox *x, tn_ox_scope *s, const char *name, tn_ox_item *item) {
  bool was;
  if (!item || tn_map_put(&s->names, tn_str_of(name), (uint64_t)(uintptr_t)item, &was))
    return x->broken = TN_OOM;
  if (!was) return TN_OK;
  if (x->node)
    return tn_ox_fail(x, x->node, "'%.200s' is the output of two nodes, or of a node and an input", name);
  x->invalid = true;
  return tn_fail(&x->diags, TN_INVALID, x->model.name, NULL, "'%.200s' is stated twice", name);
}

tn_ox_item *tn_ox_find(tn_ox *x, tn_ox_scope *s, const char *name) {
  uint64_t item;
  (void)x;
  for (; s; s = s->outer)
    if (tn_map_get(&s->names, tn_str_of(name), &item)) return (tn_ox_item *)(uintptr_t)item;
  return NULL;
}

tn_status tn_ox_run_nodes(tn_ox *x, tn_ox_scope *s, Onnx__NodeProto **nodes, size_t n) {
  uint32_t *order = tn_mem_alloc((n + 1) * sizeof *order);
  tn_status status = order ? tn_ox_order(x, s, nodes, n, order) : TN_OOM;
  for (size_t i = 0; i < n && status == TN_OK; i++) {
    status = tn_ox_lower_node(x, s, nodes[order[i]], order[i]);
    if (x->broken) status = x->broken;
  }
  tn_mem_free(order);
  if (status != TN_OK) x->broken = status;
  return status;
}

static tn_status add_initializer(tn_ox *x, tn_ox_scope *s, const tn_ox_tensor_proto *t,
                                 const Onnx__SparseTensorProto *sparse) {
  tn_ox_item *item = tn_arena_alloc(&x->arena, sizeof *item);
  if (!item) return TN_OOM;
  *item = (tn_ox_item){.kind = TN_OX_INIT, .t = t, .sparse = sparse};
  return tn_ox_define(x, s, t->name, item);
}

tn_status tn_ox_run_graph(tn_ox *x, tn_ox_scope *s, const tn_ox_graph *g) {
  for (size_t i = 0; i < g->n_initializer; i++) TN_TRY(add_initializer(x, s, g->initializer[i], NULL));
  for (size_t i = 0; i < g->n_sparse_initializer; i++)
    TN_TRY(add_initializer(x, s, g->sparse_initializer[i]->values, g->sparse_initializer[i]));
  return tn_ox_run_nodes(x, s, g->node, g->n_node);
}

/* ---- names from outside
 * ------------------------------------------------------------------------------------- */

static tn_status add_all(tn_map *names, char *const *list, size_t n) {
  for (size_t i = 0; i < n; i++) TN_TRY(tn_map_put(names, tn_str_of(list[i]), 1, NULL));
  return TN_OK;
}

static tn_status made_inside(const tn_ox_graph *g, tn_map *names) {
  for (size_t i = 0; i < g->n_input; i++) TN_TRY(tn_map_put(names, tn_str_of(g->input[i]->name), 1, NULL));
  for (size_t i = 0; i < g->n_initializer; i++)
    TN_TRY(tn_map_put(names, tn_str_of(g->initializer[i]->name), 1, NULL));
  for (size_t i = 0; i < g->n_sparse_initializer; i++)
    TN_TRY(tn_map_put(names, tn_str_of(g->sparse_initializer[i]->values->name), 1, NULL));
  for (size_t i = 0; i < g->n_node; i++) TN_TRY(add_all(names, g->node[i]->output, g->node[i]->n_output));
  return TN_OK;
}

static tn_status read(tn_map *known, const char *name, tn_ox_names *out) {
  bool was = true;
  if (!*name) return TN_OK;
  TN_TRY(tn_map_put(known, tn_str_of(name), 1, &was));
  return was || tn_vec_push(out, name) ? TN_OK : TN_OOM;
}

static tn_status node_reads(tn_ox *x, const Onnx__NodeProto *p, tn_map *known, tn_ox_names *out) {
  tn_ox_names inner = {0};
  tn_status s = TN_OK;
  for (size_t i = 0; i < p->n_input && s == TN_OK; i++) s = read(known, p->input[i], out);
  for (size_t i = 0; i < p->n_attribute && s == TN_OK; i++) {
    const Onnx__AttributeProto *a = p->attribute[i];
    if (a->g) s = tn_ox_captures(x, a->g, &inner);
    for (size_t k = 0; k < a->n_graphs && s == TN_OK; k++) s = tn_ox_captures(x, a->graphs[k], &inner);
  }
  for (uint32_t i = 0; i < inner.count && s == TN_OK; i++) s = read(known, inner.items[i], out);
  tn_vec_fini(&inner);
  return s;
}

tn_status tn_ox_captures(tn_ox *x, const tn_ox_graph *g, tn_ox_names *out) {
  tn_map known;
  tn_map_init(&known);
  tn_status s = made_inside(g, &known);
  for (size_t i = 0; i < g->n_node && s == TN_OK; i++) s = node_reads(x, g->node[i], &known, out);
  for (size_t i = 0; i < g->n_output && s == TN_OK; i++) s = read(&known, g->output[i]->name, out);
  tn_map_fini(&known);
  return s;
}
