/* order.c - files may list nodes in any order: an order in which each runs after those whose outputs it
 * reads, bodies included, keeping the file's order where that allows it. */
#include "frontend/onnx/import.h"

typedef struct sorter {
  tn_ox *x;
  Onnx__NodeProto **nodes;
  uint32_t n;
  tn_map made;    /* name -> node that makes it */
  uint8_t *state; /* 0: not seen, 1: its inputs are being placed, 2: placed */
  uint32_t *order, placed;
  TN_VEC(uint32_t) stack; /* nodes being placed */
} sorter;

static tn_status cycle(sorter *s, uint32_t node) {
  tn_buf names = {0};
  uint32_t at = 0, told = 0;
  while (at < s->stack.count && s->stack.items[at] != node) at++;
  for (; at < s->stack.count && told < 8; at++, told++)
    tn_buf_printf(&names, "%u '%.60s' -> ", s->stack.items[at],
                  s->nodes[s->stack.items[at]]->name ? s->nodes[s->stack.items[at]]->name : "");
  tn_status status = tn_fail(&s->x->diags, TN_INVALID, s->x->model.name, NULL, "nodes form a cycle: %s%s%u",
                             tn_buf_cstr(&names), at < s->stack.count ? "... -> " : "", node);
  tn_buf_fini(&names);
  return status;
}

typedef struct frame {
  uint32_t node, next; /* the next of its reads */
  tn_ox_names reads;
} frame;
typedef TN_VEC(frame) frames;

static tn_status reads_of(sorter *s, const Onnx__NodeProto *p, tn_ox_names *out) {
  for (size_t i = 0; i < p->n_input; i++)
    if (*p->input[i] && !tn_vec_push(out, p->input[i])) return TN_OOM;
  for (size_t i = 0; i < p->n_attribute; i++) {
    const Onnx__AttributeProto *a = p->attribute[i];
    if (a->g) TN_TRY(tn_ox_captures(s->x, a->g, out));
    for (size_t k = 0; k < a->n_graphs; k++) TN_TRY(tn_ox_captures(s->x, a->graphs[k], out));
  }
  return TN_OK;
}

static tn_status enter(sorter *s, frames *todo, uint32_t node) {
  if (s->state[node] == 2) return TN_OK;
  if (s->state[node] == 1) return cycle(s, node);
  frame f = {.node = node};
  s->state[node] = 1;
  tn_status status = reads_of(s, s->nodes[node], &f.reads);
  if (status == TN_OK && tn_vec_push(&s->stack, node) && tn_vec_push(todo, f)) return TN_OK;
  tn_vec_fini(&f.reads);
  return status == TN_OK ? TN_OOM : status;
}

/* Places a node after what it reads; with a stack of its own, since chains are as long as the model is deep.
 */
static tn_status place(sorter *s, uint32_t node) {
  frames todo = {0};
  tn_status status = enter(s, &todo, node);
  while (status == TN_OK && todo.count) {
    frame *f = &todo.items[todo.count - 1];
    uint64_t maker;
    if (f->next < f->reads.count) {
      if (tn_map_get(&s->made, tn_str_of(f->reads.items[f->next++]), &maker))
        status = enter(s, &todo, (uint32_t)maker);
      continue;
    }
    s->state[f->node] = 2;
    s->order[s->placed++] = f->node;
    tn_vec_fini(&f->reads);
    todo.count--;
    s->stack.count--;
  }
  for (uint32_t i = 0; i < todo.count; i++) tn_vec_fini(&todo.items[i].reads);
  tn_vec_fini(&todo);
  return status;
}

tn_status tn_ox_order(tn_ox *x, const tn_ox_scope *scope, Onnx__NodeProto **nodes, size_t n,
                      uint32_t *order) {
  sorter s = {.x = x, .nodes = nodes, .n = (uint32_t)n, .order = order};
  tn_status status = TN_OK;
  uint64_t ignored; /* what has the name of an input is told where it is stated */
  tn_map_init(&s.made);
  s.state = tn_mem_alloc(n + 1);
  if (!s.state) status = TN_OOM;
  for (uint32_t i = 0; i < n && status == TN_OK; i++)
    for (size_t k = 0; k < nodes[i]->n_output && status == TN_OK; k++)
      if (*nodes[i]->output[k] && !tn_map_get(&scope->names, tn_str_of(nodes[i]->output[k]), &ignored))
        status = tn_map_put(&s.made, tn_str_of(nodes[i]->output[k]), i, NULL);
  for (uint32_t i = 0; i < n && status == TN_OK; i++)
    if (!s.state[i]) status = place(&s, i);
  tn_mem_free(s.state);
  tn_vec_fini(&s.stack);
  tn_map_fini(&s.made);
  return status;
}
