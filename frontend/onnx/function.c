/* function.c - calls of the model's own functions: their nodes are lowered in place, in a scope that sees the
 * inputs only, with the call's attributes where the body refers to them. */
#include "frontend/onnx/import.h"

enum { MAX_CALLS = 32 };

static const char *text(const char *s) { return s ? s : ""; }

static const Onnx__FunctionProto *find(tn_ox *x, const tn_ox_node *n) {
  uint64_t i;
  if (!x->model.functions.count) return NULL;
  const char *key = tn_ox_function_key(&x->model, n->domain, n->p->op_type, n->p->overload);
  return tn_map_get(&x->model.functions, tn_str_of(key), &i) ? x->model.proto->functions[i] : NULL;
}

static bool declared(const Onnx__FunctionProto *f, const char *name) {
  for (size_t i = 0; i < f->n_attribute; i++)
    if (!strcmp(f->attribute[i], name)) return true;
  for (size_t i = 0; i < f->n_attribute_proto; i++)
    if (!strcmp(text(f->attribute_proto[i]->name), name)) return true;
  return false;
}

/* The call's attributes, and the defaults of those it does not give. */
static tn_status attributes(tn_ox *x, tn_ox_node *n, const Onnx__FunctionProto *f, tn_ox_env *env) {
  env->attrs = tn_arena_alloc(&x->arena, (n->nattrs + f->n_attribute_proto + 1) * sizeof *env->attrs);
  if (!env->attrs) return TN_OOM;
  for (uint32_t i = 0; i < n->nattrs; i++) {
    if (!declared(f, n->attrs[i]->name))
      return tn_ox_fail(x, n, "function '%.100s' has no attribute '%.100s'", f->name, n->attrs[i]->name);
    env->attrs[env->count++] = n->attrs[i];
  }
  for (size_t i = 0; i < f->n_attribute_proto; i++)
    if (!tn_ox_attr(n, text(f->attribute_proto[i]->name))) env->attrs[env->count++] = f->attribute_proto[i];
  return TN_OK;
}

static tn_status bind_inputs(tn_ox *x, tn_ox_node *n, const Onnx__FunctionProto *f, tn_ox_scope *s) {
  for (size_t i = 0; i < f->n_input; i++) {
    tn_ox_item *item = i < n->p->n_input && *n->p->input[i] ? tn_ox_find(x, n->scope, n->p->input[i]) : NULL;
    if (!item) {
      item = tn_arena_alloc(&x->arena, sizeof *item);
      if (!item) return TN_OOM;
      item->kind = TN_OX_ABSENT;
    }
    if (*f->input[i]) TN_TRY(tn_ox_define(x, s, f->input[i], item));
  }
  return TN_OK;
}

static tn_status take_outputs(tn_ox *x, tn_ox_node *n, const Onnx__FunctionProto *f, tn_ox_scope *s) {
  for (size_t i = 0; i < n->p->n_output; i++) {
    if (!*n->p->output[i]) continue;
    tn_ox_item *item = tn_ox_find(x, s, f->output[i]);
    if (!item)
      return tn_ox_fail(x, n, "function '%.100s' does not compute its output '%.100s'", f->name,
                        f->output[i]);
    if (item->kind == TN_OX_POISON) x->failed = true;
    n->outs[i] = item;
  }
  return TN_OK;
}

tn_status tn_ox_call(tn_ox *x, tn_ox_node *n, bool *found) {
  const Onnx__FunctionProto *f = find(x, n);
  *found = f != NULL;
  if (!f) return TN_OK;
  if (n->scope->depth >= MAX_CALLS) {
    x->broken = TN_INVALID;
    return tn_ox_fail(x, n, "calls are nested more than %d deep; does the function call itself?", MAX_CALLS);
  }
  if (n->p->n_input > f->n_input || n->p->n_output > f->n_output)
    return tn_ox_fail(x, n, "%zu inputs and %zu outputs, but function '%.100s' has %zu and %zu",
                      n->p->n_input, n->p->n_output, f->name, f->n_input, f->n_output);
  tn_ox_scope *s = tn_ox_scope_new(x, NULL);
  tn_ox_env *env = tn_arena_alloc(&x->arena, sizeof *env);
  if (!s || !env) return TN_OOM;
  TN_TRY(attributes(x, n, f, env));
  s->env = env;
  s->depth = n->scope->depth + 1;
  s->opsets = f->opset_import;
  s->nopsets = f->n_opset_import;
  s->prefix =
      tn_arena_printf(&x->arena, "%.300s%.100s.", n->scope->prefix, *text(n->p->name) ? n->p->name : f->name);
  if (!s->prefix) return TN_OOM;
  TN_TRY(bind_inputs(x, n, f, s));
  TN_TRY(tn_ox_run_nodes(x, s, f->node, f->n_node));
  return take_outputs(x, n, f, s);
}
