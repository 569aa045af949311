/* rules.c - the passes that are nothing but rules: canonicalize, recover, and `rules` for those of plugins.
 */
#include "passes/match.h"
#include "passes/passes.h"
#include "passes/recover.h"

#define TN_RULE(name, benefit, pattern, replacement, guard) {#name, benefit, pattern, replacement, #guard},
static const tn_rule_source canonical_rules[] = {
#include "passes/rules/canonicalize.def"
};
static const tn_rule_source recover_rules[] = {
#include "passes/rules/recover.def"
};
#undef TN_RULE

static tn_status add_all(tn_ruleset *s, tn_diags *d, const tn_rule_source *rules, size_t n) {
  for (size_t i = 0; i < n; i++) TN_TRY(tn_ruleset_add(s, d, &rules[i]));
  return TN_OK;
}

static tn_status run(tn_pass_ctx *c, tn_ruleset *s, tn_status status, bool fusions) {
  if (status == TN_OK) {
    tn_ruleset_finish(s);
    status = tn_rules_run(c, s, fusions);
  }
  tn_ruleset_fini(s);
  return status;
}

tn_status tn_pass_canonicalize(tn_pass_ctx *c, tn_func f) {
  (void)f;
  tn_ruleset s;
  tn_ruleset_init(&s);
  return run(c, &s, add_all(&s, tn_module_diags(c->m), canonical_rules, TN_COUNT(canonical_rules)), false);
}

tn_status tn_pass_recover(tn_pass_ctx *c, tn_func f) {
  (void)f;
  tn_ruleset s;
  tn_ruleset_init(&s);
  tn_status status = add_all(&s, tn_module_diags(c->m), canonical_rules, TN_COUNT(canonical_rules));
  if (status == TN_OK) status = add_all(&s, tn_module_diags(c->m), recover_rules, TN_COUNT(recover_rules));
  TN_TRY(run(c, &s, status, true));
  tn_recover_misses(c);
  return TN_OK;
}

tn_status tn_pass_rules(tn_pass_ctx *c, tn_func f) {
  (void)f;
  tn_ruleset s;
  tn_status status = TN_OK;
  tn_ruleset_init(&s);
  for (uint32_t i = 0; status == TN_OK && i < c->nrule_texts; i++)
    status = tn_ruleset_add_text(&s, tn_module_diags(c->m), "plugin rules", c->rule_texts[i]);
  return run(c, &s, status, true);
}
