/* grammar_mask.c - which tokens may come next. What a state allows whatever lies under it is worked out once
 * per state: the tokens that stay within its rule, and the places in the trie where the rule ends and its
 * caller goes on. For a stack only what lies behind those places is walked again. */
#include "backends/runtime/grammar_machine.h"

static void allow(const tn_vocabulary *v, uint32_t node, uint64_t *mask) {
  for (uint32_t t = v->token[node]; t; t = v->next[t - 1]) mask[(t - 1) / 64] |= 1ull << (t - 1) % 64;
}

/* The subtree below `top` from a config; nodes where the config may end go to *exits, if they have children
 * and exits is not NULL. */
static tn_status walk(tn_grammar *g, const tn_vocabulary *v, uint32_t top, uint32_t config, uint64_t *mask,
                      tn_gr_local *exits) {
  uint32_t base = v->depth[top], end = v->end[top], *at = g->walk.items;
  at[base] = config;
  for (uint32_t i = top + 1; i < end;) {
    uint32_t to = tn_gr_follow(g, at[v->depth[i] - 1], v->label[i]);
    if (to == TN_GR_NONE) return TN_OOM;
    if (to == TN_GR_DEAD) {
      i = v->end[i];
      continue;
    }
    at[v->depth[i]] = to;
    allow(v, i, mask);
    if (exits && g->configs.items[to].accepts && v->end[i] > i + 1 && !tn_vec_push(&exits->exits, i))
      return TN_OOM;
    i++;
  }
  return TN_OK;
}

static tn_status make_local(tn_grammar *g, const tn_vocabulary *v, uint32_t state) {
  tn_gr_local *l = &g->locals[state];
  uint64_t bytes = g->mask_words * sizeof *l->mask;
  uint32_t config = tn_gr_config_at(g, state, 0);
  if (config == TN_GR_NONE || !(l->mask = tn_mem_alloc(bytes))) return TN_OOM;
  g->mask_bytes += bytes;
  tn_status s = walk(g, v, 0, config, l->mask, l);
  if (s) tn_mem_free(l->mask), l->mask = NULL, tn_vec_fini(&l->exits);
  return s;
}

static tn_status prepare(tn_grammar *g, const tn_vocabulary *v) {
  uint64_t words = (v->ntokens + 63ull) / 64;
  if (g->scratch && g->mask_words == words) return TN_OK;
  g->mask_words = words;
  g->scratch = tn_mem_alloc((words + 1) * sizeof *g->scratch);
  return g->scratch && tn_vec_reserve(&g->walk, v->max_depth + 1) ? TN_OK : TN_OOM;
}

static tn_status make_mask(tn_grammar *g, const tn_vocabulary *v, uint32_t config) {
  memset(g->scratch, 0, g->mask_words * sizeof *g->scratch);
  for (uint32_t i = 0; i < g->configs.items[config].count; i++) {
    uint32_t stack = g->items.items[g->configs.items[config].first + i];
    uint32_t state = g->stacks.items[stack].state, parent = g->stacks.items[stack].parent;
    if (!g->locals[state].mask) TN_TRY(make_local(g, v, state));
    const tn_gr_local *l = &g->locals[state];
    for (uint64_t w = 0; w < g->mask_words; w++) g->scratch[w] |= l->mask[w];
    if (!parent || !l->exits.count) continue;
    uint32_t after = tn_gr_config_after(g, parent);
    if (after == TN_GR_NONE) return TN_OOM;
    for (uint32_t k = 0; k < l->exits.count; k++)
      TN_TRY(walk(g, v, l->exits.items[k], after, g->scratch, NULL));
  }
  return TN_OK;
}

tn_status tn_grammar_mask(tn_grammar *g, const tn_vocabulary *v, const tn_grammar_state *s,
                          const uint64_t **mask) {
  TN_TRY(prepare(g, v));
  TN_TRY(tn_gr_tidy(g));
  *mask = g->configs.items[s->config].mask;
  if (*mask) return TN_OK;
  if (g->mask_bytes > TN_GR_MASK_BYTES) tn_gr_drop_masks(g);
  TN_TRY(make_mask(g, v, s->config));
  uint64_t bytes = g->mask_words * sizeof **mask, *kept = tn_mem_alloc(bytes);
  if (!kept) return TN_OOM;
  memcpy(kept, g->scratch, bytes);
  g->mask_bytes += bytes;
  *mask = g->configs.items[s->config].mask = kept;
  return TN_OK;
}
