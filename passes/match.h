/* match.h - rewrite rules as data. A rule is two texts: a pattern and what replaces it.
 *
 *   pattern := ?x | ?x! | ?x=pattern | %c | _ | NUMBER | ~NUMBER
 *            | (MNEMONIC[:c][!][{attr=value, ...}] pattern ...)
 *
 *   replacement := ?x | %c | NUMBER | (MNEMONIC[{attr=value, ...}] replacement ...)
 *
 * ?x any value, the same one wherever it is repeated; ?x! has one use; ?x=(...) names what the pattern
 * matches. %c a constant. _ anything or an absent operand. A number is a constant whose elements all have
 * that value; ~ allows the rounding of its element type. :c tries both orders of the operands, ! wants one
 * use. Attribute values are numbers, words, [lists] of integers, and ?a, which captures the attribute and
 * puts it (or the value of the scalar constant %a) into the replacement. In a replacement
 * @shape and @dtype are the shape and element type of the replaced value.
 *
 * A rule fires only if the new value has exactly the old one's type. New ops get the fused location of all
 * matched. */
#ifndef TN_MATCH_H
#define TN_MATCH_H
#include "passes/rw.h"

typedef struct tn_rule_source {
  const char *name;
  int benefit; /* of the rules that match an op, the highest goes first; of equals the first */
  const char *pattern, *replacement;
  const char *guard; /* one of guards.c, or NULL or "NULL" */
} tn_rule_source;

enum { TN_PAT_VAR = 1, TN_PAT_CONST, TN_PAT_ANY, TN_PAT_NUMBER, TN_PAT_OP };
enum { TN_PATTR_NUMBER = 1, TN_PATTR_WORD, TN_PATTR_LIST, TN_PATTR_NAME, TN_PATTR_SHAPE, TN_PATTR_DTYPE };
typedef struct tn_pat_attr {
  const char *attr; /* as in ops.def */
  uint32_t kind;    /* TN_PATTR_* */
  uint32_t name;    /* NAME: binding */
  double number;
  const char *word;
  int64_t list[TN_MAX_RANK];
  uint32_t count;
} tn_pat_attr;
typedef struct tn_pat {
  uint32_t kind; /* TN_PAT_* */
  uint32_t name; /* VAR, CONST: binding */
  uint32_t opcode;
  bool commutes, one_use, near;
  double number;
  struct tn_pat **operands; /* OP; VAR: the pattern of ?x=(...), or none */
  tn_pat_attr *attrs;
  uint32_t noperands, nattrs;
} tn_pat;

#define TN_RULE_NAMES 16
#define TN_RULE_OPS 32
typedef struct tn_match tn_match;
typedef bool (*tn_guard)(tn_match *x);
typedef struct tn_rule {
  const char *name;
  int benefit;
  tn_pat *pattern, *replacement;
  tn_guard guard; /* NULL: none */
  const char *names[TN_RULE_NAMES];
  uint32_t nnames;
  uint32_t order; /* in which it was added */
} tn_rule;

typedef struct tn_ruleset {
  tn_arena arena;
  TN_VEC(tn_rule) rules;            /* after tn_ruleset_finish sorted by opcode, benefit, order */
  uint32_t first[TN_OPC_COUNT + 1]; /* rules of opcode o: first[o] .. first[o + 1) */
} tn_ruleset;

void tn_ruleset_init(tn_ruleset *s);
void tn_ruleset_fini(tn_ruleset *s);
/* TN_INVALID after a message that names the rule and the place in its text. */
tn_status tn_ruleset_add(tn_ruleset *s, tn_diags *d, const tn_rule_source *rule);
/* All `TN_RULE(name, benefit, "pattern", "replacement", guard)` of a text; C comments and string joining as
 * in C. */
tn_status tn_ruleset_add_text(tn_ruleset *s, tn_diags *d, const char *file, tn_str text);
void tn_ruleset_finish(tn_ruleset *s);

/* ---- a match, as guards see it --------------------------------------------------------------- */
typedef struct tn_binding {
  tn_value value;
  tn_attr attr;
  bool set;
} tn_binding;
struct tn_match {
  tn_module *m;
  const tn_rule *rule;
  tn_op root;
  tn_arena *arena; /* for attributes that a guard computes */
  tn_binding bound[TN_RULE_NAMES];
  tn_op ops[TN_RULE_OPS]; /* all matched ops, the root first */
  uint32_t nops;
};
bool tn_match_rule(tn_match *x, tn_module *m, const tn_rule *r, tn_op root);
tn_value tn_match_value(const tn_match *x, const char *name);      /* 0: not bound to a value */
const tn_attr *tn_match_attr(const tn_match *x, const char *name); /* NULL: not bound */
bool tn_match_set_attr(tn_match *x, const char *name, tn_attr a); /* false: the rule does not use that name */
tn_guard tn_guard_by_name(const char *name);                      /* NULL: none */

/* Builds the replacement before the root. 0: it does not apply, and nothing was left behind. */
tn_value tn_match_build(tn_match *x);

/* Rewrites every function to a fixpoint. `fusions`: also notes each hit in the fusion report, under the
 * mnemonic of the rule's replacement. TN_INVALID if the rules do not settle. */
tn_status tn_rules_run(tn_pass_ctx *c, const tn_ruleset *s, bool fusions);
#endif
