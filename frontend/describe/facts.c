/* facts.c - what a run of a page notes besides its graphs: which tensors they read and how the page calls
 * them in the other format. */
#include "frontend/describe/eval.h"

void tn_page_facts_init(tn_page_facts *f) {
  *f = (tn_page_facts){0};
  tn_arena_init(&f->arena);
  tn_map_init(&f->by_name);
}

void tn_page_facts_fini(tn_page_facts *f) {
  tn_vec_fini(&f->tensors);
  tn_vec_fini(&f->graphs);
  tn_vec_fini(&f->rules);
  tn_vec_fini(&f->ropes);
  tn_map_fini(&f->by_name);
  tn_arena_fini(&f->arena);
}

void tn_facts_graph(tn_eval *ev, const tn_graph *g) {
  tn_page_facts *f = ev->run->facts;
  if (!f) return;
  const char *name = tn_arena_str(&f->arena, tn_str_of(g->name));
  if (!name || !tn_vec_push(&f->graphs, name)) tn_eval_oom(ev);
}

/* Names of heads in config.json: their checkpoints have the model behind a prefix, bare ones have not. */
static bool has_head(const char *architecture) {
  return architecture && (strstr(architecture, "For") || strstr(architecture, "LM"));
}

/* The name in the other format, with the prefix that its checkpoints have. */
static const char *other_name(tn_eval *ev, const tn_alt *a) {
  const char *prefix = "";
  if (!a->other) return NULL;
  if (!strcmp(a->other, "-")) return "-";
  for (const tn_page *p = ev->page; p && ev->run->tensors.gguf && !a->other_root; p = p->base) {
    if (!p->strip.count) continue;
    if (has_head(ev->run->architecture)) prefix = p->strip.items[0];
    break;
  }
  return tn_arena_printf(&ev->run->facts->arena, "%s%s", prefix, a->other);
}

void tn_facts_tensor(tn_eval *ev, const tn_alt *a, const char *name, int64_t number, int64_t count) {
  tn_page_facts *f = ev->run->facts;
  uint64_t i, bit = (uint64_t)1 << (ev->graph < 63 ? ev->graph : 63);
  if (!f) return;
  if (tn_map_get(&f->by_name, tn_str_of(name), &i)) {
    f->tensors.items[i].graphs |= bit;
    return;
  }
  tn_page_tensor t = {.name = tn_arena_str(&f->arena, tn_str_of(name)),
                      .other = other_name(ev, a),
                      .number = number,
                      .count = count,
                      .graphs = bit};
  if (!t.name || f->arena.failed || !tn_vec_push(&f->tensors, t) ||
      tn_map_put(&f->by_name, tn_str_of(name), f->tensors.count - 1, NULL) != TN_OK)
    tn_eval_oom(ev);
}
