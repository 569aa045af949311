/* grammar_check.c - what must hold before a grammar is run: every rule is defined, and none comes back to
 * itself without having read a byte (left recursion), also not by way of rules that may be empty. */
#include "backends/runtime/grammar.h"
#include <stdio.h>

typedef struct checker {
  tn_gr_rules *r;
  uint32_t *stamps, stamp; /* per state: last visit */
  TN_VEC(uint32_t) todo;   /* states */
  TN_VEC(uint32_t) called; /* rules that a rule may call before it reads anything */
  char *error;
  uint64_t error_size;
} checker;

static tn_status TN_PRINTF(3, 4) fail(checker *c, const tn_gr_rule *rule, const char *fmt, ...) {
  if (!c->error_size) return TN_INVALID;
  int n = rule ? snprintf(c->error, c->error_size, "grammar, line %u: ", rule->line)
               : snprintf(c->error, c->error_size, "grammar: ");
  va_list ap;
  va_start(ap, fmt);
  if (n >= 0 && (uint64_t)n < c->error_size) vsnprintf(c->error + n, c->error_size - (uint64_t)n, fmt, ap);
  va_end(ap);
  return TN_INVALID;
}

/* A state that jumps is replaced by what it jumps to, once for all. */
static uint32_t target(const tn_gr_rules *r, uint32_t s) {
  while (r->states.items[s].kind == TN_GR_JUMP) s = r->states.items[s].a;
  return s;
}

static void shorten(tn_gr_rules *r) {
  for (uint32_t i = r->states.count; i-- > 0;) {
    tn_gr_state *s = &r->states.items[i];
    if (s->kind == TN_GR_BYTE || s->kind == TN_GR_SPLIT || s->kind == TN_GR_JUMP) s->a = target(r, s->a);
    if (s->kind == TN_GR_SPLIT || s->kind == TN_GR_CALL) s->b = target(r, s->b);
  }
  for (uint32_t i = 0; i < r->rules.count; i++) r->rules.items[i].start = target(r, r->rules.items[i].start);
}

/* Walks from the rule's start over everything that reads no byte. *nullable: the end was reached. */
static tn_status scan(checker *c, const tn_gr_rule *rule, bool *nullable) {
  const tn_gr_state *states = c->r->states.items;
  c->stamp++;
  c->called.count = c->todo.count = 0;
  *nullable = false;
  if (!tn_vec_push(&c->todo, rule->start)) return TN_OOM;
  while (c->todo.count) {
    uint32_t i = c->todo.items[--c->todo.count];
    if (c->stamps[i] == c->stamp) continue;
    c->stamps[i] = c->stamp;
    const tn_gr_state *s = &states[i];
    bool ok = true;
    if (s->kind == TN_GR_END) *nullable = true;
    if (s->kind == TN_GR_SPLIT) ok = tn_vec_push(&c->todo, s->b) && tn_vec_push(&c->todo, s->a);
    if (s->kind == TN_GR_JUMP) ok = tn_vec_push(&c->todo, s->a);
    if (s->kind == TN_GR_CALL) ok = tn_vec_push(&c->called, s->a);
    if (ok && s->kind == TN_GR_CALL && c->r->rules.items[s->a].nullable) ok = tn_vec_push(&c->todo, s->b);
    if (!ok) return TN_OOM;
  }
  return TN_OK;
}

static tn_status find_nullable(checker *c) {
  for (bool more = true; more;) {
    more = false;
    for (uint32_t i = c->r->rules.count; i-- > 0;) {
      tn_gr_rule *rule = &c->r->rules.items[i];
      if (rule->nullable) continue;
      TN_TRY(scan(c, rule, &rule->nullable));
      more |= rule->nullable;
    }
  }
  return TN_OK;
}

/* Depth first over "may call before it reads": a rule that is met again while it is open is left recursive.
 */
typedef struct visit {
  uint32_t rule, first, at, count; /* its callees are edges[first .. first + count) */
} visit;

static tn_status find_cycle(checker *c, uint32_t root, uint8_t *open) {
  TN_VEC(visit) path = {0};
  TN_VEC(uint32_t) edges = {0};
  tn_status s = TN_OK;
  for (uint32_t next = root; !s;) {
    tn_gr_rule *rule = next == TN_GR_NONE ? NULL : &c->r->rules.items[next];
    bool nullable;
    if (rule && open[next]) {
      s = fail(c, rule, "the rule '%s' is left recursive: it begins with itself", rule->name);
      break;
    }
    if (rule && !rule->left_checked) {
      rule->left_checked = true;
      open[next] = 1;
      s = scan(c, rule, &nullable);
      visit v = {next, edges.count, 0, c->called.count};
      for (uint32_t i = 0; !s && i < c->called.count; i++)
        if (!tn_vec_push(&edges, c->called.items[i])) s = TN_OOM;
      if (!s && !tn_vec_push(&path, v)) s = TN_OOM;
    }
    if (s || !path.count) break;
    visit *top = &path.items[path.count - 1];
    next = TN_GR_NONE;
    if (top->at < top->count) {
      next = edges.items[top->first + top->at++];
    } else {
      open[top->rule] = 0;
      edges.count = top->first;
      path.count--;
    }
  }
  tn_vec_fini(&path);
  tn_vec_fini(&edges);
  return s;
}

static tn_status check(checker *c) {
  uint64_t root;
  for (uint32_t i = 0; i < c->r->rules.count; i++)
    if (c->r->rules.items[i].start == TN_GR_NONE)
      return fail(c, &c->r->rules.items[i], "the rule '%s' is not defined", c->r->rules.items[i].name);
  if (!tn_map_get(&c->r->names, TN_STR("root"), &root)) return fail(c, NULL, "there is no rule 'root'");
  shorten(c->r);
  c->stamps = tn_mem_alloc(c->r->states.count * sizeof *c->stamps);
  uint8_t *open = tn_mem_alloc(c->r->rules.count);
  tn_status s = c->stamps && open ? find_nullable(c) : TN_OOM;
  for (uint32_t i = 0; !s && i < c->r->rules.count; i++) s = find_cycle(c, i, open);
  tn_mem_free(open);
  return s;
}

tn_status tn_gr_check(tn_gr_rules *r, char *error, uint64_t error_size) {
  checker c = {.r = r, .error = error, .error_size = error_size};
  tn_status s = check(&c);
  tn_mem_free(c.stamps);
  tn_vec_fini(&c.todo);
  tn_vec_fini(&c.called);
  return s;
}
