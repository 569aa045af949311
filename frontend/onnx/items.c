/* items.c - what names stand for: tensors, lists, nothing; the operands and results of a node. */
#include "frontend/onnx/import.h"

tn_ox_item *tn_ox_item_of(tn_ox *x, tn_value v) {
  tn_ox_item *item = tn_arena_alloc(&x->arena, sizeof *item);
  if (!item) {
    x->broken = TN_OOM;
    return NULL;
  }
  tn_value_info info;
  x->ir->value_get(x->m, v, &info);
  *item = (tn_ox_item){.kind = TN_OX_TENSOR, .value = v};
  item->body = info.kind == TN_VALUE_RESULT || info.kind == TN_VALUE_ARG ? x->body : 0;
  return item;
}

tn_ox_item *tn_ox_poison(tn_ox *x) {
  tn_ox_item *item = tn_arena_alloc(&x->arena, sizeof *item);
  if (item) item->kind = TN_OX_POISON;
  return item;
}

/* A constant of another body, again in this one; 0: the value is none. */
static tn_value constant_again(tn_ox *x, tn_value v) {
  tn_value_info info;
  tn_type_info type;
  tn_attr data;
  x->ir->value_get(x->m, v, &info);
  if (info.kind != TN_VALUE_RESULT || strcmp(x->ir->opcode_name(x->ir->opcode(x->m, info.op)), "constant"))
    return 0;
  x->ir->type_get(x->m, info.type, &type);
  if (!x->ir->op_attr(x->m, info.op, "value", &data)) return 0;
  tn_op op = tn_ox_make_typed(x, "constant", NULL, 0, TN_OX_ATTRS({"value", data}), &info.type, 1);
  return tn_ox_result(x, op, 0);
}

tn_value tn_ox_item_value(tn_ox *x, tn_ox_item *item) {
  if (!item || (item->kind != TN_OX_TENSOR && item->kind != TN_OX_INIT)) return 0;
  if (item->value && (!item->body || item->body == x->body)) return item->value;
  tn_value v;
  if (item->kind == TN_OX_INIT)
    v = item->sparse ? tn_ox_sparse_value(x, item->sparse, item->sparse->values->name)
                     : tn_ox_tensor_value(x, item->t, item->t->name);
  else
    v = constant_again(x, item->value);
  if (!v || item->kind == TN_OX_TENSOR) return v;
  tn_value_info info;
  x->ir->value_get(x->m, v, &info);
  item->value = v;
  item->body = info.kind == TN_VALUE_WEIGHT ? 0 : x->body;
  return v;
}

/* ---- operands
 * ----------------------------------------------------------------------------------------------- */

tn_ox_item *tn_ox_operand(tn_ox *x, tn_ox_node *n, uint32_t i) {
  if (i < 64) n->read |= UINT64_C(1) << i;
  if (i >= n->p->n_input || !*n->p->input[i]) return NULL;
  tn_ox_item *item = tn_ox_find(x, n->scope, n->p->input[i]); /* that it is there has been seen */
  return item && item->kind == TN_OX_ABSENT ? NULL : item;
}

tn_value tn_ox_in(tn_ox *x, tn_ox_node *n, uint32_t i) {
  tn_ox_item *item = tn_ox_operand(x, n, i);
  if (!item || x->failed) return 0;
  if (item->kind == TN_OX_TEXT) {
    tn_ox_refuse(x, n, NULL, "input %u, '%.200s', is a tensor of strings", i, n->p->input[i]);
    return 0;
  }
  if (item->kind == TN_OX_LIST || item->kind == TN_OX_NONE) {
    tn_ox_fail(x, n, "input %u, '%.200s', is %s, wants a tensor", i, n->p->input[i],
               item->kind == TN_OX_LIST ? "a sequence" : "an empty optional");
    return 0;
  }
  tn_value v = tn_ox_item_value(x, item);
  if (!v && !x->failed)
    tn_ox_refuse(x, n, NULL, "input %u, '%.200s', is not visible here", i, n->p->input[i]);
  return v;
}

const tn_ox_item *tn_ox_in_item(tn_ox *x, tn_ox_node *n, uint32_t i) {
  tn_ox_item *item = tn_ox_operand(x, n, i);
  if (item && item->kind == TN_OX_INIT) {
    tn_value v = tn_ox_in(x, n, i);
    return v ? tn_ox_item_of(x, v) : NULL;
  }
  return item;
}

/* ---- results
 * ------------------------------------------------------------------------------------------------ */

tn_status tn_ox_out_item(tn_ox *x, tn_ox_node *n, uint32_t i, const tn_ox_item *item) {
  if (x->broken) return x->broken;
  if (x->failed) return x->invalid ? TN_INVALID : TN_UNSUPPORTED;
  if (!item) return tn_ox_fail(x, n, "output %u has no value", i);
  if (i >= n->p->n_output || !*n->p->output[i]) return TN_OK;
  tn_ox_item *copy = tn_arena_copy(&x->arena, item, sizeof *item);
  if (!copy) return TN_OOM;
  n->outs[i] = copy;
  return TN_OK;
}

tn_status tn_ox_out(tn_ox *x, tn_ox_node *n, uint32_t i, tn_value v) {
  return tn_ox_out_item(x, n, i, v && !x->failed ? tn_ox_item_of(x, v) : NULL);
}

/* ---- lists
 * -------------------------------------------------------------------------------------------------- */

const tn_ox_item *tn_ox_list(tn_ox *x, const tn_value *items, uint32_t n) {
  tn_ox_item *item = tn_arena_alloc(&x->arena, sizeof *item);
  tn_value *values = tn_arena_alloc(&x->arena, (n + 1) * sizeof *values);
  for (uint32_t i = 0; i < n; i++)
    if (!items[i]) return NULL;
  if (!item || !values) {
    x->broken = TN_OOM;
    return NULL;
  }
  for (uint32_t i = 0; i < n; i++) values[i] = items[i];
  *item = (tn_ox_item){.kind = TN_OX_LIST, .count = n, .values = values, .body = x->body};
  return item;
}

const tn_ox_item *tn_ox_none(tn_ox *x) {
  tn_ox_item *item = tn_arena_alloc(&x->arena, sizeof *item);
  if (item) item->kind = TN_OX_NONE;
  return item;
}

bool tn_ox_is_list(const tn_ox_item *item, uint32_t *count) {
  if (!item || item->kind != TN_OX_LIST) return false;
  *count = item->count;
  return true;
}

tn_value tn_ox_list_at(tn_ox *x, const tn_ox_item *item, uint32_t i) {
  (void)x;
  return item && item->kind == TN_OX_LIST && i < item->count ? item->values[i] : 0;
}
