/* grammar.h - what the new text may be: a GBNF grammar as a pushdown automaton over bytes. A place in it is a
 * set of stacks of return addresses; sets are kept once each, with a table of where each byte leads, so that
 * most steps are one look-up. A token mask is a walk over the trie of all tokens' bytes: tokens that span
 * symbols, and tokens that hold part of a character, come out right by themselves. */
#ifndef TN_GRAMMAR_H
#define TN_GRAMMAR_H
#include "frontend/tokenizer/tokenizer.h"
#include "ir/base/base.h"

/* ---- vocabulary.c: the bytes of all tokens ------------------------------------------------------------- */
/* Nodes in depth-first order: the children of node i lie in i + 1 .. end[i]. Node 0 is the root. */
typedef struct tn_vocabulary {
  uint32_t ntokens, nnodes, max_depth, max_len;
  tn_buf bytes;
  uint32_t *at; /* token i has bytes[at[i] .. at[i + 1]); none: it is no text (special, or an end token) */
  uint8_t *label;
  uint16_t *depth;
  uint32_t *end, *token, *next; /* per node: first token + 1, 0: none; per token: the next with its bytes */
} tn_vocabulary;
enum { TN_VOCABULARY_TOKEN_MAX = 4096 /* bytes; longer ones are left out */ };
/* Tokens in eos[neos] count as no text. */
tn_status tn_vocabulary_open(tn_vocabulary *v, const tn_tokenizer *t, const int32_t *eos, uint32_t neos);
/* From texts: token i has texts[i]. */
tn_status tn_vocabulary_of(tn_vocabulary *v, const tn_str *texts, uint32_t n);
void tn_vocabulary_close(tn_vocabulary *v);
static inline tn_str tn_vocabulary_bytes(const tn_vocabulary *v, int32_t id) {
  if (id < 0 || (uint32_t)id >= v->ntokens) return (tn_str){NULL, 0};
  return (tn_str){v->bytes.text + v->at[id], v->at[id + 1] - v->at[id]};
}

/* ---- grammar_parse.c, grammar_chars.c, grammar_check.c: text to rules ---------------------------------- */
typedef enum tn_gr_kind {
  TN_GR_BYTE,  /* a byte lo .. hi, then a */
  TN_GR_SPLIT, /* a or b */
  TN_GR_JUMP,  /* a */
  TN_GR_CALL,  /* rule a, then b */
  TN_GR_END    /* of the rule */
} tn_gr_kind;
typedef struct tn_gr_state {
  uint8_t kind, lo, hi, reserved;
  uint32_t a, b;
} tn_gr_state;
typedef struct tn_gr_rule {
  char *name;
  uint32_t start, line; /* start TN_GR_NONE: not defined */
  bool nullable, left_checked;
} tn_gr_rule;
#define TN_GR_NONE UINT32_MAX
enum {
  TN_GR_MAX_TEXT = 4 << 20, /* bytes of GBNF */
  TN_GR_MAX_RULES = 10000,
  TN_GR_MAX_STATES = 1 << 20,
  TN_GR_MAX_NESTING = 200, /* of groups in the text */
  TN_GR_MAX_DEPTH = 1000   /* of rules within rules in the generated text: deeper nesting is not offered */
};
typedef struct tn_gr_rules {
  TN_VEC(tn_gr_state) states;
  TN_VEC(tn_gr_rule) rules;
  tn_map names;
  tn_arena arena;
} tn_gr_rules;
/* TN_INVALID with a line number in the words. */
tn_status tn_gr_parse(tn_str text, tn_gr_rules *out, char *error, uint64_t error_size);
void tn_gr_rules_fini(tn_gr_rules *r);
/* Undefined rules, left recursion. */
tn_status tn_gr_check(tn_gr_rules *r, char *error, uint64_t error_size);
typedef struct tn_gr_range {
  uint32_t lo, hi; /* code points */
} tn_gr_range;
typedef TN_VEC(tn_gr_range) tn_gr_ranges;
/* Appends states that read one character of the ranges (or one that is in none of them) as UTF-8; the last
 * state is a jump for the caller to aim. TN_NOT_FOUND: there is no such character. */
tn_status tn_gr_characters(tn_gr_rules *r, tn_gr_ranges *ranges, bool negated);

/* ---- grammar.c: the automaton -------------------------------------------------------------------------- */
typedef struct tn_grammar tn_grammar;
/* A place in the text so far. Belongs to one grammar from enter to leave, and must not move. */
typedef struct tn_grammar_state {
  uint32_t config;
  struct tn_grammar_state *next, *prev;
} tn_grammar_state;
tn_status tn_grammar_open(tn_str text, tn_grammar **out, char *error, uint64_t error_size);
void tn_grammar_close(tn_grammar *g); /* NULL is allowed */
tn_status tn_grammar_enter(tn_grammar *g, tn_grammar_state *s);
void tn_grammar_leave(tn_grammar *g, tn_grammar_state *s); /* safe when it was never entered */
/* TN_INVALID: the text may not go on with these bytes; the place stays. TN_OOM. */
tn_status tn_grammar_take(tn_grammar *g, tn_grammar_state *s, tn_str bytes);
bool tn_grammar_may_end(const tn_grammar *g, const tn_grammar_state *s);
bool tn_grammar_must_end(const tn_grammar *g, const tn_grammar_state *s);
/* One bit per token: may it come next? Good until the next call; v must be the same in all calls. */
tn_status tn_grammar_mask(tn_grammar *g, const tn_vocabulary *v, const tn_grammar_state *s,
                          const uint64_t **mask);

#endif
