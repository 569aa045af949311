/* grammar_machine.h - inside the automaton: stacks and sets of stacks, each kept once. */
#ifndef TN_GRAMMAR_MACHINE_H
#define TN_GRAMMAR_MACHINE_H
#include "backends/runtime/grammar.h"

enum {
  TN_GR_SOFT_STACKS = 1 << 19, /* when there are more, all that is not in use is forgotten */
  TN_GR_SOFT_ITEMS = 1 << 21,
  TN_GR_SOFT_CONFIGS = 1 << 15,
  TN_GR_HARD = 8,             /* times that many, within one step: the grammar is too ambiguous */
  TN_GR_MASK_BYTES = 64 << 20 /* of masks that are kept */
};

/* A state and where to go when its rule ends: another stack, 0: nowhere. */
typedef struct tn_gr_stack {
  uint32_t state, parent, depth;
  uint32_t stamp;  /* last closure that met it */
  uint32_t config; /* what follows when it is returned to; TN_GR_NONE: not known yet */
} tn_gr_stack;
/* A set of stacks whose states read a byte. */
typedef struct tn_gr_config {
  uint32_t first, count; /* in items */
  uint32_t *next;        /* per class of bytes: config + 1, 0: not known yet; NULL: none known */
  uint64_t *mask;        /* per token, NULL: not known yet */
  bool accepts;          /* what the bottom belongs to may end here */
} tn_gr_config;
/* What may follow a state, whatever its stack: tokens that stay within its rule, and the nodes of the trie at
 * which the rule ends. */
typedef struct tn_gr_local {
  uint64_t *mask; /* NULL: not known yet */
  TN_VEC(uint32_t) exits;
} tn_gr_local;

struct tn_grammar {
  tn_gr_rules rules;
  uint32_t start; /* of the rule "root" */
  uint8_t class_of[256];
  uint32_t nclasses;
  TN_VEC(tn_gr_stack) stacks;
  uint32_t *stack_index, stack_mask;
  TN_VEC(uint32_t) items;
  TN_VEC(tn_gr_config) configs;
  uint32_t *config_index, config_mask;
  uint32_t stamp;
  TN_VEC(uint32_t) todo; /* stacks */
  TN_VEC(uint32_t) found;
  tn_gr_local *locals; /* per state of the rules */
  uint64_t mask_bytes, mask_words;
  uint64_t *scratch;       /* a mask that is being made */
  TN_VEC(uint32_t) walk;   /* per depth of the trie: config */
  tn_grammar_state states; /* head of the list of places */
};

enum { TN_GR_DEAD = 0 }; /* the config of nothing */
/* Where a byte leads; TN_GR_NONE: no memory, or too ambiguous. */
uint32_t tn_gr_follow(tn_grammar *g, uint32_t config, uint8_t byte);
/* The config of one stack, as it is (state reads a byte) or behind a return to it. TN_GR_NONE as above. */
uint32_t tn_gr_config_at(tn_grammar *g, uint32_t state, uint32_t parent);
uint32_t tn_gr_config_after(tn_grammar *g, uint32_t stack);
/* Forgets what is not in use if there is much of it. */
tn_status tn_gr_tidy(tn_grammar *g);
void tn_gr_drop_masks(tn_grammar *g);

#endif
