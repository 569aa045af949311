/* body.c - graphs inside nodes: lowered in place, or as functions for the runtime to call. */
#include "frontend/onnx/body.h"

enum { MAX_NESTED = 24 };

/* ---- in place
 * ----------------------------------------------------------------------------------------------- */

tn_ox_item *tn_ox_graph_output(tn_ox *x, tn_ox_node *n, tn_ox_scope *s, const tn_ox_graph *g, size_t i) {
  tn_ox_item *item = tn_ox_find(x, s, g->output[i]->name);
  if (!item)
    tn_ox_fail(x, n, "output '%.200s' of its graph is computed by no node", g->output[i]->name);
  else if (item->kind == TN_OX_POISON)
    x->failed = true; /* told already */
  return x->failed ? NULL : item;
}

tn_ox_scope *tn_ox_graph_inline(tn_ox *x, tn_ox_node *n, const tn_ox_graph *g, const tn_ox_item *const *in,
                                uint32_t nin) {
  if (x->failed || x->broken) return NULL;
  if (g->n_input != nin) {
    tn_ox_fail(x, n, "its graph has %zu inputs, wants %u", g->n_input, nin);
    return NULL;
  }
  if (n->scope->depth >= MAX_NESTED) {
    tn_ox_refuse(x, n, NULL, "graphs are nested more than %d deep", MAX_NESTED);
    return NULL;
  }
  tn_ox_scope *s = tn_ox_scope_new(x, n->scope);
  for (uint32_t i = 0; s && i < nin; i++) {
    tn_ox_item *copy = in[i] ? tn_arena_copy(&x->arena, in[i], sizeof *in[i]) : NULL;
    if (tn_ox_define(x, s, g->input[i]->name, copy) != TN_OK) return NULL;
  }
  return s && tn_ox_run_graph(x, s, g) == TN_OK ? s : NULL;
}

tn_status tn_ox_inline(tn_ox *x, tn_ox_node *n, const char *graph, const tn_value *in, uint32_t nin,
                       tn_value *out, uint32_t nout) {
  const tn_ox_graph *g = tn_ox_graph_attr(x, n, graph);
  const tn_ox_item **items = tn_arena_alloc(&x->arena, (nin + 1) * sizeof *items);
  if (!items) return TN_OOM;
  for (uint32_t i = 0; i < nin; i++) items[i] = in[i] ? tn_ox_item_of(x, in[i]) : NULL;
  tn_ox_scope *s = g && !x->failed ? tn_ox_graph_inline(x, n, g, items, nin) : NULL;
  if (s && g->n_output < nout)
    tn_ox_fail(x, n, "graph '%s' has %zu outputs, wants %u", graph, g->n_output, nout);
  for (uint32_t i = 0; i < nout; i++) {
    out[i] = s && !x->failed ? tn_ox_item_value(x, tn_ox_graph_output(x, n, s, g, i)) : 0;
    if (!out[i] && !x->failed) tn_ox_fail(x, n, "output %u of graph '%s' is no tensor", i, graph);
  }
  return x->broken ? x->broken : x->failed ? TN_INVALID : TN_OK;
}

/* ---- what is read from outside
 * ------------------------------------------------------------------------------ */

void tn_ox_outside_fini(tn_ox_outside *o) {
  tn_vec_fini(&o->names);
  tn_vec_fini(&o->parts);
  tn_vec_fini(&o->values);
  tn_vec_fini(&o->symbols);
  tn_vec_fini(&o->inner);
}

static tn_status add_symbols(tn_ox *x, tn_type type, tn_ox_outside *out) {
  tn_type_info t;
  x->ir->type_get(x->m, type, &t);
  for (uint32_t i = 0; i < t.rank; i++) {
    tn_dim_info d;
    x->ir->dim_get(x->m, t.dims[i], &d);
    bool there = d.kind != TN_DIM_SYM;
    for (uint32_t k = 0; k < out->symbols.count && !there; k++) there = out->symbols.items[k] == t.dims[i];
    if (!there && (!tn_vec_push(&out->symbols, t.dims[i]) || !tn_vec_push(&out->inner, 0))) return TN_OOM;
  }
  return TN_OK;
}

tn_status tn_ox_outside_renew(tn_ox *x, tn_ox_outside *out) {
  for (uint32_t i = 0; i < out->inner.count; i++) {
    tn_dim_info d;
    x->ir->dim_get(x->m, out->symbols.items[i], &d);
    if (!(out->inner.items[i] = tn_ox_fresh_dim(x, d.symbol))) return TN_OOM;
  }
  return TN_OK;
}

static tn_status add(tn_ox *x, const char *name, uint32_t part, tn_value v, tn_ox_outside *out) {
  for (uint32_t i = 0; name && i < out->names.count; i++)
    if (out->names.items[i] && out->parts.items[i] == part && !strcmp(out->names.items[i], name))
      return TN_OK;
  bool ok = tn_vec_push(&out->names, name) && tn_vec_push(&out->parts, part) && tn_vec_push(&out->values, v);
  return ok ? add_symbols(x, tn_ox_type_of(x, v), out) : TN_OOM;
}

tn_status tn_ox_outside_value(tn_ox *x, tn_value v, tn_ox_outside *out) {
  return v ? add(x, NULL, UINT32_MAX, v, out) : TN_OK;
}

/* Constants are made again in the body, weights are visible everywhere. */
static bool is_passed(tn_ox *x, tn_value v) {
  tn_value_info info;
  x->ir->value_get(x->m, v, &info);
  if (info.kind == TN_VALUE_ARG) return true;
  return info.kind == TN_VALUE_RESULT && strcmp(x->ir->opcode_name(x->ir->opcode(x->m, info.op)), "constant");
}

static tn_status add_item(tn_ox *x, tn_ox_node *n, const char *name, tn_ox_outside *out) {
  tn_ox_item *item = tn_ox_find(x, n->scope, name);
  if (!item) return tn_ox_fail(x, n, "its graph reads '%.200s', which is no value here", name);
  if (item->kind == TN_OX_POISON) x->failed = true;
  if (item->kind == TN_OX_LIST)
    for (uint32_t i = 0; i < item->count; i++) TN_TRY(add(x, name, i, item->values[i], out));
  if (item->kind == TN_OX_TENSOR && is_passed(x, item->value))
    return add(x, name, UINT32_MAX, item->value, out);
  return TN_OK;
}

tn_status tn_ox_outside_add(tn_ox *x, tn_ox_node *n, const tn_ox_graph *g, tn_ox_outside *out) {
  tn_ox_names names = {0};
  tn_status s = tn_ox_captures(x, g, &names);
  for (uint32_t i = 0; i < names.count && s == TN_OK; i++) s = add_item(x, n, names.items[i], out);
  tn_vec_fini(&names);
  return s == TN_OK && x->failed ? TN_INVALID : s;
}

/* ---- sizes in and out
 * --------------------------------------------------------------------------------------- */

/* d with symbols from[i] replaced by to[i]; 0: it has others. */
static tn_dim renamed(tn_ox *x, tn_dim d, const tn_dim *from, const tn_dim *to, uint32_t n) {
  tn_dim_info info;
  x->ir->dim_get(x->m, d, &info);
  if (info.kind == TN_DIM_CONST) return d;
  for (uint32_t i = 0; i < n; i++)
    if (from[i] == d) return to[i];
  if (info.kind == TN_DIM_SYM || !info.a || !info.b) return 0;
  tn_dim a = renamed(x, info.a, from, to, n), b = a ? renamed(x, info.b, from, to, n) : 0;
  return b ? tn_ox_dmake(x, info.kind, a, b) : 0;
}

tn_dim tn_ox_dim_outward(tn_ox *x, const tn_ox_outside *out, const tn_dim *inner, tn_dim d) {
  return renamed(x, d, inner, out->symbols.items, out->symbols.count);
}

static tn_dim inward(tn_ox *x, const tn_ox_outside *out, tn_dim d) {
  return renamed(x, d, out->symbols.items, out->inner.items, out->symbols.count);
}

static tn_type map_type(tn_ox *x, const tn_ox_outside *out, tn_type type, tn_dim lead, bool in) {
  tn_type_info t;
  tn_dim dims[TN_MAX_RANK + 1];
  x->ir->type_get(x->m, type, &t);
  uint32_t more = lead != 0;
  if (t.rank + more > TN_MAX_RANK) {
    tn_ox_refuse(x, x->node, NULL, "a stack of tensors of rank %u; the most is %d", t.rank, TN_MAX_RANK - 1);
    return 0;
  }
  dims[0] = lead;
  for (uint32_t i = 0; i < t.rank; i++) {
    tn_dim d = in ? inward(x, out, t.dims[i]) : tn_ox_dim_outward(x, out, out->inner.items, t.dims[i]);
    dims[i + more] = d ? d : tn_ox_fresh_dim(x, in ? "in" : "out");
  }
  return x->ir->type_make(x->m, t.dtype, t.rank + more, dims, NULL);
}

tn_type tn_ox_type_inward(tn_ox *x, const tn_ox_outside *out, tn_type t) {
  return map_type(x, out, t, 0, true);
}
tn_type tn_ox_type_outward(tn_ox *x, const tn_ox_outside *out, tn_type t, tn_dim lead) {
  return map_type(x, out, t, lead, false);
}

/* ---- functions
 * ---------------------------------------------------------------------------------------------- */

tn_status tn_ox_body_open(tn_ox *x, tn_ox_node *n, const char *what, tn_ox_body *b) {
  *b = (tn_ox_body){.caller = x->func, .caller_body = x->body};
  if (n->scope->depth >= MAX_NESTED)
    return tn_ox_refuse(x, n, NULL, "graphs are nested more than %d deep", MAX_NESTED);
  b->name = tn_arena_printf(&x->arena, "%s_%u", what, ++x->fresh);
  b->func = b->name ? x->ir->func_add(x->m, b->name) : 0;
  tn_attr private = {.kind = TN_ATTR_INT, .u.i = 1};
  if (!b->func || x->ir->func_set_attr(x->m, b->func, "private", &private) != TN_OK)
    return x->broken = TN_OOM;
  x->func = b->func;
  x->body = ++x->bodies;
  b->scope = tn_ox_scope_new(x, n->scope);
  return b->scope ? TN_OK : TN_OOM;
}

tn_value tn_ox_body_arg(tn_ox *x, tn_ox_body *b, const char *name, tn_type type) {
  char *unique = tn_arena_printf(&x->arena, "%s_%u", name, ++x->fresh);
  tn_value v = unique && type ? x->ir->func_arg_add(x->m, b->func, unique, type) : 0;
  if (!v) x->failed = x->invalid = true;
  return v;
}

/* What is known of an outside value holds inside too, as far as its sizes mean the same. */
static void pass_known(tn_ox *x, const tn_ox_outside *out, tn_value from, tn_value to) {
  const tn_ox_elems *e = tn_ox_known(x, from);
  if (!e || e->count > 64) return;
  tn_ox_elem kept[64];
  for (uint32_t i = 0; i < e->count; i++) {
    kept[i] = e->at[i];
    if (kept[i].kind == TN_OX_DIM && !(kept[i].dim = inward(x, out, kept[i].dim)))
      kept[i].kind = TN_OX_UNKNOWN;
  }
  tn_ox_know(x, to, kept, e->count);
}

tn_status tn_ox_body_outside(tn_ox *x, tn_ox_body *b, const tn_ox_outside *out) {
  b->outside = tn_arena_alloc(&x->arena, (out->values.count + 1) * sizeof *b->outside);
  if (!b->outside) return TN_OOM;
  for (uint32_t i = 0; i < out->values.count; i++) {
    const char *name = out->names.items[i] ? out->names.items[i] : "value";
    b->outside[i] =
        tn_ox_body_arg(x, b, name, tn_ox_type_inward(x, out, tn_ox_type_of(x, out->values.items[i])));
    if (!b->outside[i]) return TN_INVALID;
    pass_known(x, out, out->values.items[i], b->outside[i]);
    if (out->names.items[i] && out->parts.items[i] == UINT32_MAX)
      TN_TRY(tn_ox_define(x, b->scope, name, tn_ox_item_of(x, b->outside[i])));
  }
  for (uint32_t i = 0; i < out->values.count; i++) { /* elements of a list follow each other */
    if (!out->names.items[i] || out->parts.items[i] != 0) continue;
    uint32_t k = 1;
    while (i + k < out->values.count && out->parts.items[i + k] == k) k++;
    const tn_ox_item *list = tn_ox_list(x, b->outside + i, k);
    TN_TRY(tn_ox_define(x, b->scope, out->names.items[i], (tn_ox_item *)(uintptr_t)list));
  }
  return TN_OK;
}

static void go_back(tn_ox *x, tn_ox_body *b) {
  x->func = b->caller;
  x->body = b->caller_body;
}

tn_status tn_ox_body_close(tn_ox *x, tn_ox_body *b, const tn_value *results, uint32_t count) {
  if (!x->failed && !x->broken) tn_ox_make_op(x, "return", results, count, NULL);
  go_back(x, b);
  return x->broken ? x->broken : x->failed ? TN_INVALID : TN_OK;
}

tn_status tn_ox_body_drop(tn_ox *x, tn_ox_body *b) {
  tn_status s = x->ir->func_drop(x->m, b->func);
  go_back(x, b);
  return s;
}

tn_status tn_ox_flatten(tn_ox *x, tn_ox_node *n, tn_ox_item *item, tn_ox_values *out) {
  if (!item) return TN_INVALID;
  if (item->kind == TN_OX_NONE || item->kind == TN_OX_ABSENT)
    return tn_ox_refuse(x, n, NULL, "an optional whose presence depends on data");
  if (item->kind == TN_OX_LIST) {
    for (uint32_t i = 0; i < item->count; i++)
      if (!tn_vec_push(out, item->values[i])) return TN_OOM;
    return TN_OK;
  }
  tn_value v = tn_ox_item_value(x, item);
  if (!v) return TN_INVALID;
  return tn_vec_push(out, v) ? TN_OK : TN_OOM;
}
