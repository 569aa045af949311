/* grammar.c - the automaton: from a set of stacks and a byte to the next set, each worked out once. A call in
 * tail position leaves no return address, so that a list does not grow a stack. */
#include "backends/runtime/grammar_machine.h"
#include <stdlib.h>

/* ---- tables -------------------------------------------------------------------------------------------- */

static bool grow_index(uint32_t **index, uint32_t *mask, uint32_t count) {
  if (*index && (uint64_t)count * 2 < *mask) return false;
  uint32_t n = *index ? (*mask + 1) * 2 : 1024;
  uint32_t *bigger = tn_mem_alloc(n * sizeof *bigger);
  if (!bigger) return false;
  tn_mem_free(*index);
  *index = bigger;
  *mask = n - 1;
  return true;
}

static uint64_t stack_hash(uint32_t state, uint32_t parent) {
  uint64_t k = ((uint64_t)state << 32 | parent) * 0x9e3779b97f4a7c15u;
  return k ^ k >> 29;
}

static void index_stack(tn_grammar *g, uint32_t i) {
  uint64_t h = stack_hash(g->stacks.items[i].state, g->stacks.items[i].parent);
  while (g->stack_index[h & g->stack_mask]) h++;
  g->stack_index[h & g->stack_mask] = i + 1;
}

static uint32_t stack_of(tn_grammar *g, uint32_t state, uint32_t parent) {
  for (uint64_t h = stack_hash(state, parent); g->stack_index[h & g->stack_mask]; h++) {
    uint32_t i = g->stack_index[h & g->stack_mask] - 1;
    if (g->stacks.items[i].state == state && g->stacks.items[i].parent == parent) return i;
  }
  uint32_t i = g->stacks.count;
  tn_gr_stack s = {state, parent, g->stacks.items[parent].depth + 1, 0, TN_GR_NONE};
  if (i >= TN_GR_SOFT_STACKS * TN_GR_HARD || !tn_vec_push(&g->stacks, s)) return TN_GR_NONE;
  if (grow_index(&g->stack_index, &g->stack_mask, g->stacks.count))
    for (uint32_t k = 1; k < i; k++) index_stack(g, k);
  if (g->stacks.count > g->stack_mask) return TN_GR_NONE;
  index_stack(g, i);
  return i;
}

static uint64_t config_hash(const uint32_t *items, uint32_t n, bool accepts) {
  return tn_hash_bytes(items, n * sizeof *items, accepts);
}

static void index_config(tn_grammar *g, uint32_t i) {
  const tn_gr_config *c = &g->configs.items[i];
  uint64_t h = config_hash(g->items.items + c->first, c->count, c->accepts);
  while (g->config_index[h & g->config_mask]) h++;
  g->config_index[h & g->config_mask] = i + 1;
}

static int compare_u32(const void *x, const void *y) {
  uint32_t a = *(const uint32_t *)x, b = *(const uint32_t *)y;
  return (a > b) - (a < b);
}

/* The config of g->found. */
static uint32_t config_of(tn_grammar *g, bool accepts) {
  uint32_t n = g->found.count, *found = g->found.items;
  if (n > 1) qsort(found, n, sizeof *found, compare_u32);
  if (!n && !accepts) return TN_GR_DEAD;
  for (uint64_t h = config_hash(found, n, accepts); g->config_index[h & g->config_mask]; h++) {
    uint32_t i = g->config_index[h & g->config_mask] - 1;
    const tn_gr_config *c = &g->configs.items[i];
    if (c->count == n && c->accepts == accepts &&
        !memcmp(g->items.items + c->first, found, n * sizeof *found))
      return i;
  }
  uint32_t i = g->configs.count;
  tn_gr_config c = {.first = g->items.count, .count = n, .accepts = accepts};
  if (i >= TN_GR_SOFT_CONFIGS * TN_GR_HARD || c.first + (uint64_t)n > TN_GR_SOFT_ITEMS * TN_GR_HARD ||
      !tn_vec_reserve(&g->items, c.first + n) || !tn_vec_push(&g->configs, c))
    return TN_GR_NONE;
  if (n) memcpy(g->items.items + c.first, found, n * sizeof *found);
  g->items.count += n;
  if (grow_index(&g->config_index, &g->config_mask, g->configs.count))
    for (uint32_t k = 1; k < i; k++) index_config(g, k);
  if (g->configs.count > g->config_mask) return TN_GR_NONE;
  index_config(g, i);
  return i;
}

/* ---- steps --------------------------------------------------------------------------------------------- */

static bool push(tn_grammar *g, uint32_t state, uint32_t parent) {
  uint32_t i = stack_of(g, state, parent);
  if (i == TN_GR_NONE) return false;
  if (g->stacks.items[i].stamp == g->stamp) return true;
  g->stacks.items[i].stamp = g->stamp;
  return tn_vec_push(&g->todo, i);
}

static bool push_call(tn_grammar *g, const tn_gr_state *s, uint32_t parent) {
  uint32_t start = g->rules.rules.items[s->a].start;
  if (g->rules.states.items[s->b].kind == TN_GR_END) return push(g, start, parent);
  if (g->stacks.items[parent].depth >= TN_GR_MAX_DEPTH) return true;
  uint32_t ret = stack_of(g, s->b, parent);
  return ret != TN_GR_NONE && push(g, start, ret);
}

/* From g->todo to everything that reads a byte. */
static uint32_t closure(tn_grammar *g) {
  bool accepts = false, ok = true;
  g->found.count = 0;
  while (ok && g->todo.count) {
    uint32_t i = g->todo.items[--g->todo.count], parent = g->stacks.items[i].parent;
    tn_gr_state s = g->rules.states.items[g->stacks.items[i].state];
    if (s.kind == TN_GR_BYTE)
      ok = tn_vec_push(&g->found, i);
    else if (s.kind == TN_GR_SPLIT)
      ok = push(g, s.a, parent) && push(g, s.b, parent);
    else if (s.kind == TN_GR_JUMP)
      ok = push(g, s.a, parent);
    else if (s.kind == TN_GR_CALL)
      ok = push_call(g, &s, parent);
    else if (!parent)
      accepts = true;
    else
      ok = push(g, g->stacks.items[parent].state, g->stacks.items[parent].parent);
  }
  return ok ? config_of(g, accepts) : TN_GR_NONE;
}

static void begin(tn_grammar *g) {
  g->stamp++;
  g->todo.count = 0;
}

uint32_t tn_gr_config_at(tn_grammar *g, uint32_t state, uint32_t parent) {
  begin(g);
  return push(g, state, parent) ? closure(g) : TN_GR_NONE;
}

uint32_t tn_gr_config_after(tn_grammar *g, uint32_t stack) {
  tn_gr_stack s = g->stacks.items[stack];
  if (s.config != TN_GR_NONE) return s.config;
  uint32_t config = tn_gr_config_at(g, s.state, s.parent);
  g->stacks.items[stack].config = config;
  return config;
}

uint32_t tn_gr_follow(tn_grammar *g, uint32_t config, uint8_t byte) {
  uint8_t class = g->class_of[byte];
  tn_gr_config c = g->configs.items[config];
  if (c.next && c.next[class]) return c.next[class] - 1;
  if (!c.next) {
    c.next = tn_mem_alloc(g->nclasses * sizeof *c.next);
    if (!(g->configs.items[config].next = c.next)) return TN_GR_NONE;
  }
  begin(g);
  for (uint32_t i = 0; i < c.count; i++) {
    tn_gr_stack k = g->stacks.items[g->items.items[c.first + i]];
    const tn_gr_state *s = &g->rules.states.items[k.state];
    if (byte >= s->lo && byte <= s->hi && !push(g, s->a, k.parent)) return TN_GR_NONE;
  }
  uint32_t to = closure(g);
  if (to != TN_GR_NONE) c.next[class] = to + 1;
  return to;
}

/* ---- memory -------------------------------------------------------------------------------------------- */

void tn_gr_drop_masks(tn_grammar *g) {
  for (uint32_t i = 0; i < g->configs.count; i++)
    tn_mem_free(g->configs.items[i].mask), g->configs.items[i].mask = NULL;
  for (uint32_t i = 0; g->locals && i < g->rules.states.count; i++) {
    tn_mem_free(g->locals[i].mask), g->locals[i].mask = NULL;
    tn_vec_fini(&g->locals[i].exits);
  }
  g->mask_bytes = 0;
}

/* Empties the tables, but for the dead config and the bottom. */
static bool reset(tn_grammar *g) {
  for (uint32_t i = 0; i < g->configs.count; i++) {
    tn_mem_free(g->configs.items[i].next);
    if (g->configs.items[i].mask) g->mask_bytes -= g->mask_words * sizeof(uint64_t);
    tn_mem_free(g->configs.items[i].mask);
  }
  g->configs.count = g->stacks.count = g->items.count = g->stamp = 0;
  if (g->stack_index) memset(g->stack_index, 0, (g->stack_mask + 1ull) * sizeof *g->stack_index);
  if (g->config_index) memset(g->config_index, 0, (g->config_mask + 1ull) * sizeof *g->config_index);
  grow_index(&g->stack_index, &g->stack_mask, 0);
  grow_index(&g->config_index, &g->config_mask, 0);
  return g->stack_index && g->config_index && tn_vec_push(&g->configs, (tn_gr_config){0}) &&
         tn_vec_push(&g->stacks, ((tn_gr_stack){.config = TN_GR_NONE}));
}

/* The stacks of the places in use, as runs of states: top first, then TN_GR_NONE; a place ends with another.
 */
typedef TN_VEC(uint32_t) saved_states;

static bool save(const tn_grammar *g, saved_states *out) {
  for (const tn_grammar_state *s = g->states.next; s; s = s->next) {
    const tn_gr_config *c = &g->configs.items[s->config];
    for (uint32_t i = 0; i < c->count; i++) {
      for (uint32_t k = g->items.items[c->first + i]; k; k = g->stacks.items[k].parent)
        if (!tn_vec_push(out, g->stacks.items[k].state)) return false;
      if (!tn_vec_push(out, TN_GR_NONE)) return false;
    }
    if (!tn_vec_push(out, TN_GR_NONE) || !tn_vec_push(out, c->accepts)) return false;
  }
  return true;
}

static bool restore(tn_grammar *g, const uint32_t *at) {
  for (tn_grammar_state *s = g->states.next; s; s = s->next) {
    g->found.count = 0;
    while (*at != TN_GR_NONE) {
      const uint32_t *end = at;
      uint32_t stack = 0;
      while (*end != TN_GR_NONE) end++;
      for (const uint32_t *k = end; k > at && stack != TN_GR_NONE;) stack = stack_of(g, *--k, stack);
      if (stack == TN_GR_NONE || !tn_vec_push(&g->found, stack)) return false;
      at = end + 1;
    }
    s->config = config_of(g, at[1]);
    if (s->config == TN_GR_NONE) return false;
    at += 2;
  }
  return true;
}

tn_status tn_gr_tidy(tn_grammar *g) {
  if (g->stacks.count < TN_GR_SOFT_STACKS && g->items.count < TN_GR_SOFT_ITEMS &&
      g->configs.count < TN_GR_SOFT_CONFIGS)
    return TN_OK;
  saved_states saved = {0};
  bool ok = save(g, &saved) && reset(g) && restore(g, saved.items);
  tn_vec_fini(&saved);
  return ok ? TN_OK : TN_OOM;
}

/* ---- the face ------------------------------------------------------------------------------------------ */

/* Bytes that no state tells apart are one class. */
static void make_classes(tn_grammar *g) {
  bool border[257] = {false};
  for (uint32_t i = 0; i < g->rules.states.count; i++) {
    const tn_gr_state *s = &g->rules.states.items[i];
    if (s->kind == TN_GR_BYTE) border[s->lo] = border[s->hi + 1] = true;
  }
  for (uint32_t b = 0, class = 0; b < 256; b++) {
    class += b && border[b];
    g->class_of[b] = (uint8_t)class;
    g->nclasses = class + 1;
  }
}

tn_status tn_grammar_open(tn_str text, tn_grammar **out, char *error, uint64_t error_size) {
  tn_grammar *g = tn_mem_alloc(sizeof *g);
  uint64_t root;
  *out = NULL;
  if (!g) return TN_OOM;
  tn_status s = tn_gr_parse(text, &g->rules, error, error_size);
  if (!s && tn_map_get(&g->rules.names, TN_STR("root"), &root)) {
    g->start = g->rules.rules.items[root].start;
    make_classes(g);
    g->locals = tn_mem_alloc(g->rules.states.count * sizeof *g->locals);
    if (!g->locals || !reset(g)) s = TN_OOM;
  }
  if (s) return tn_grammar_close(g), s;
  *out = g;
  return TN_OK;
}

void tn_grammar_close(tn_grammar *g) {
  if (!g) return;
  tn_gr_drop_masks(g);
  for (uint32_t i = 0; i < g->configs.count; i++) tn_mem_free(g->configs.items[i].next);
  tn_gr_rules_fini(&g->rules);
  tn_vec_fini(&g->stacks);
  tn_vec_fini(&g->items);
  tn_vec_fini(&g->configs);
  tn_vec_fini(&g->todo);
  tn_vec_fini(&g->found);
  tn_vec_fini(&g->walk);
  tn_mem_free(g->stack_index);
  tn_mem_free(g->config_index);
  tn_mem_free(g->locals);
  tn_mem_free(g->scratch);
  tn_mem_free(g);
}

tn_status tn_grammar_enter(tn_grammar *g, tn_grammar_state *s) {
  uint32_t config = tn_gr_config_at(g, g->start, 0);
  if (config == TN_GR_NONE) return TN_OOM;
  *s = (tn_grammar_state){config, g->states.next, &g->states};
  if (s->next) s->next->prev = s;
  g->states.next = s;
  return TN_OK;
}

void tn_grammar_leave(tn_grammar *g, tn_grammar_state *s) {
  (void)g;
  if (!s->prev) return;
  s->prev->next = s->next;
  if (s->next) s->next->prev = s->prev;
  s->prev = s->next = NULL;
}

tn_status tn_grammar_take(tn_grammar *g, tn_grammar_state *s, tn_str bytes) {
  TN_TRY(tn_gr_tidy(g));
  uint32_t config = s->config;
  for (uint64_t i = 0; i < bytes.len; i++) {
    config = tn_gr_follow(g, config, (uint8_t)bytes.ptr[i]);
    if (config == TN_GR_NONE) return TN_OOM;
    if (config == TN_GR_DEAD) return TN_INVALID;
  }
  s->config = config;
  return TN_OK;
}

bool tn_grammar_may_end(const tn_grammar *g, const tn_grammar_state *s) {
  return g->configs.items[s->config].accepts;
}

bool tn_grammar_must_end(const tn_grammar *g, const tn_grammar_state *s) {
  return g->configs.items[s->config].accepts && !g->configs.items[s->config].count;
}
