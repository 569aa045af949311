/* match.c - matching one rule at one op, and building its replacement. Matching is a list of goals (pattern,
 * value) worked off one by one; a commuting op tries both orders of its operands, each with the rest of the
 * list, so that a repeated ?x far away can still decide which order was meant. */
#include "passes/match.h"
#include <math.h>

/* ---- rule sets ------------------------------------------------------------------------------- */
void tn_ruleset_init(tn_ruleset *s) {
  memset(s, 0, sizeof *s);
  tn_arena_init(&s->arena);
}

void tn_ruleset_fini(tn_ruleset *s) {
  tn_vec_fini(&s->rules);
  tn_arena_fini(&s->arena);
}

static bool goes_before(const tn_rule *a, const tn_rule *b) {
  if (a->pattern->opcode != b->pattern->opcode) return a->pattern->opcode < b->pattern->opcode;
  if (a->benefit != b->benefit) return a->benefit > b->benefit;
  return a->order < b->order;
}

void tn_ruleset_finish(tn_ruleset *s) {
  tn_rule *r = s->rules.items;
  for (uint32_t i = 1; i < s->rules.count; i++) { /* insertion sort: a few hundred rules, nearly sorted */
    tn_rule x = r[i];
    uint32_t j = i;
    for (; j && goes_before(&x, &r[j - 1]); j--) r[j] = r[j - 1];
    r[j] = x;
  }
  uint32_t at = 0;
  for (uint32_t o = 0; o <= TN_OPC_COUNT; o++) {
    while (at < s->rules.count && r[at].pattern->opcode < o) at++;
    s->first[o] = at;
  }
}

/* ---- what a match knows ---------------------------------------------------------------------- */
static int name_index(const tn_match *x, const char *name) {
  for (uint32_t i = 0; i < x->rule->nnames; i++)
    if (!strcmp(x->rule->names[i], name)) return (int)i;
  return -1;
}

tn_value tn_match_value(const tn_match *x, const char *name) {
  int i = name_index(x, name);
  return i >= 0 && x->bound[i].set ? x->bound[i].value : 0;
}

const tn_attr *tn_match_attr(const tn_match *x, const char *name) {
  int i = name_index(x, name);
  return i >= 0 && x->bound[i].set && !x->bound[i].value ? &x->bound[i].attr : NULL;
}

bool tn_match_set_attr(tn_match *x, const char *name, tn_attr a) {
  int i = name_index(x, name);
  if (i < 0) return false;
  x->bound[i] = (tn_binding){0, a, true};
  return true;
}

/* ---- matching -------------------------------------------------------------------------------- */
#define MAX_GOALS 64
typedef struct goal {
  const tn_pat *pat;
  tn_value value;
} goal;

static bool solve(tn_match *x, const goal *goals, uint32_t n);

static bool bind_value(tn_match *x, uint32_t name, tn_value v) {
  tn_binding *b = &x->bound[name];
  if (b->set) return b->value == v;
  *b = (tn_binding){.value = v, .set = true};
  return true;
}

static bool bind_attr(tn_match *x, uint32_t name, const tn_attr *a) {
  tn_binding *b = &x->bound[name];
  if (b->set) return !b->value && tn_rw_attr_equal(&b->attr, a);
  *b = (tn_binding){.attr = *a, .set = true};
  return true;
}

/* How far a constant of the pattern may be off after it was rounded to an element type. */
static double rounding(tn_dtype t) {
  switch (t) {
  case TN_DT_bf16: return 0x1p-7;
  case TN_DT_f16: return 0x1p-10;
  default: return 1e-5;
  }
}

static bool number_matches(tn_module *m, const tn_pat *p, tn_value v) {
  double got;
  if (!tn_rw_splat(m, v, &got)) return false;
  if (p->near) return fabs(got - p->number) <= rounding(tn_rw_type_info(m, v).dtype) * fabs(p->number);
  return got == p->number || (float)p->number == got; /* a pattern's 0.1 is also f32's 0.1 */
}

static bool word_matches(const char *word, const tn_attr *a) {
  if (a->kind == TN_ATTR_STR) return !strcmp(a->u.s, word);
  if (a->kind == TN_ATTR_DTYPE) return tn_ir_dtype_by_name(word) == (tn_dtype)a->u.i;
  if (a->kind == TN_ATTR_BOOL) return a->u.i == !strcmp(word, "true");
  return false;
}

static bool attr_matches(tn_match *x, tn_op op, const tn_pat_attr *p) {
  tn_attr a = tn_rw_attr(x->m, op, p->attr);
  switch (p->kind) {
  case TN_PATTR_NAME: return bind_attr(x, p->name, &a);
  case TN_PATTR_WORD: return word_matches(p->word, &a);
  case TN_PATTR_LIST:
    return a.kind == TN_ATTR_INTS && a.count == p->count &&
           (!a.count || !memcmp(a.u.ints, p->list, a.count * sizeof *p->list));
  case TN_PATTR_NUMBER:
    if (a.kind == TN_ATTR_FLOAT) return a.u.f == p->number;
    if (a.kind == TN_ATTR_DIM) return tn_rw_dim_is(x->m, a.u.dim, (int64_t)p->number);
    return (a.kind == TN_ATTR_INT || a.kind == TN_ATTR_BOOL) && (double)a.u.i == p->number;
  default: return false;
  }
}

/* Operands given, without absent ones at the end. */
static uint32_t operands_present(tn_module *m, tn_op op) {
  uint32_t n = tn_ir_op_noperands(m, op);
  while (n && !tn_ir_op_operand(m, op, n - 1)) n--;
  return n;
}

static bool op_fits(tn_match *x, const tn_pat *p, tn_op op) {
  if (!tn_rw_is(x->m, op, p->opcode) || x->nops == TN_RULE_OPS) return false;
  uint32_t n = operands_present(x->m, op);
  if (n > p->noperands) return false;
  for (uint32_t i = 0; i < p->nattrs; i++)
    if (!attr_matches(x, op, &p->attrs[i])) return false;
  x->ops[x->nops++] = op;
  return true;
}

static bool solve_op(tn_match *x, const tn_pat *p, tn_op op, const goal *goals, uint32_t n) {
  if (!op_fits(x, p, op) || n + p->noperands > MAX_GOALS) return false;
  goal next[MAX_GOALS];
  if (n) memcpy(next, goals, n * sizeof *goals);
  for (uint32_t i = 0; i < p->noperands; i++) /* the first operand is the next goal */
    next[n + i] = (goal){p->operands[p->noperands - 1 - i], tn_ir_op_operand(x->m, op, p->noperands - 1 - i)};
  uint32_t count = n + p->noperands;
  if (!p->commutes) return solve(x, next, count);
  tn_match saved = *x;
  if (solve(x, next, count)) return true;
  *x = saved;
  tn_value a = next[count - 1].value;
  next[count - 1].value = next[count - 2].value;
  next[count - 2].value = a;
  return solve(x, next, count);
}

/* Replaces the last goal's pattern: ?x=(...) is bound, now its value must match the rest. */
static bool solve_also(tn_match *x, const tn_pat *p, const goal *goals, uint32_t n) {
  goal next[MAX_GOALS];
  memcpy(next, goals, n * sizeof *goals);
  next[n - 1].pat = p;
  return solve(x, next, n);
}

static bool solve(tn_match *x, const goal *goals, uint32_t n) {
  if (!n) return !x->rule->guard || x->rule->guard(x);
  const tn_pat *p = goals[n - 1].pat;
  tn_value v = goals[n - 1].value;
  if (p->kind == TN_PAT_ANY) return solve(x, goals, n - 1);
  if (!v || (p->one_use && tn_rw_nuses(x->m, v) != 1)) return false;
  switch (p->kind) {
  case TN_PAT_VAR:
    if (!bind_value(x, p->name, v)) return false;
    return p->noperands ? solve_also(x, p->operands[0], goals, n) : solve(x, goals, n - 1);
  case TN_PAT_CONST:
    return tn_rw_def_as(x->m, v, TN_OPC_constant) && bind_value(x, p->name, v) && solve(x, goals, n - 1);
  case TN_PAT_NUMBER: return number_matches(x->m, p, v) && solve(x, goals, n - 1);
  default: {
    tn_op op = tn_rw_def(x->m, v);
    return op && tn_ir_op_nresults(x->m, op) == 1 && solve_op(x, p, op, goals, n - 1);
  }
  }
}

bool tn_match_rule(tn_match *x, tn_module *m, const tn_rule *r, tn_op root) {
  tn_arena *arena = x->arena;
  memset(x, 0, sizeof *x);
  *x = (tn_match){.m = m, .rule = r, .root = root, .arena = arena};
  if (tn_ir_op_nresults(m, root) != 1) return false;
  return solve_op(x, r->pattern, root, NULL, 0);
}

/* ---- replacement ----------------------------------------------------------------------------- */
typedef struct builder {
  tn_match *x;
  tn_loc loc;
  tn_type want;            /* of the replaced value */
  tn_op made[TN_RULE_OPS]; /* in order, for undoing */
  uint32_t nmade;
} builder;

static const tn_attr_spec *spec_of(uint32_t opcode, const char *attr) {
  const tn_op_spec *s = tn_op_spec_of(opcode);
  for (uint32_t i = 0; i < s->nattrs; i++)
    if (!strcmp(s->attrs[i].name, attr)) return &s->attrs[i];
  return NULL;
}

static bool number_attr(builder *b, uint32_t kind, double v, tn_attr *out) {
  out->kind = kind;
  switch (kind) {
  case TN_ATTR_FLOAT: out->u.f = v; return true;
  case TN_ATTR_BOOL:
  case TN_ATTR_INT: out->u.i = (int64_t)v; return (double)out->u.i == v;
  case TN_ATTR_DIM: out->u.dim = tn_ir_dim_const(b->x->m, (int64_t)v); return out->u.dim;
  default: return false;
  }
}

static bool word_attr(uint32_t kind, const char *word, tn_attr *out) {
  out->kind = kind;
  switch (kind) {
  case TN_ATTR_STR: out->u.s = word; return true;
  case TN_ATTR_BOOL: out->u.i = !strcmp(word, "true"); return true;
  case TN_ATTR_DTYPE: out->u.i = tn_ir_dtype_by_name(word); return out->u.i != 0;
  default: return false;
  }
}

static bool bound_attr(builder *b, uint32_t kind, uint32_t name, tn_attr *out) {
  const tn_binding *x = &b->x->bound[name];
  double v;
  if (!x->set) return false;
  if (x->value) return tn_rw_splat(b->x->m, x->value, &v) && number_attr(b, kind, v, out);
  *out = x->attr;
  return x->attr.kind == kind;
}

static bool build_attr(builder *b, uint32_t opcode, const tn_pat_attr *p, tn_attr *out) {
  uint32_t kind = spec_of(opcode, p->attr)->kind;
  tn_type_info t;
  tn_ir_type_get(b->x->m, b->want, &t);
  switch (p->kind) {
  case TN_PATTR_NUMBER: return number_attr(b, kind, p->number, out);
  case TN_PATTR_WORD: return word_attr(kind, p->word, out);
  case TN_PATTR_NAME: return bound_attr(b, kind, p->name, out);
  case TN_PATTR_LIST:
    *out = (tn_attr){TN_ATTR_INTS, p->count, {.ints = p->list}};
    return kind == TN_ATTR_INTS;
  case TN_PATTR_SHAPE: *out = (tn_attr){TN_ATTR_DIMS, t.rank, {.dims = t.dims}}; return kind == TN_ATTR_DIMS;
  case TN_PATTR_DTYPE: *out = (tn_attr){TN_ATTR_DTYPE, 0, {.i = t.dtype}}; return kind == TN_ATTR_DTYPE;
  default: return false;
  }
}

static tn_value build(builder *b, const tn_pat *p);

static tn_value build_op(builder *b, const tn_pat *p) {
  tn_value operands[TN_RULE_NAMES];
  tn_named_attr attrs[TN_RULE_NAMES];
  if (p->nattrs > TN_COUNT(attrs) || b->nmade == TN_RULE_OPS) return 0;
  for (uint32_t i = 0; i < p->noperands; i++)
    if (!(operands[i] = build(b, p->operands[i]))) return 0;
  for (uint32_t i = 0; i < p->nattrs; i++) {
    attrs[i].name = p->attrs[i].attr;
    if (!build_attr(b, p->opcode, &p->attrs[i], &attrs[i].attr)) return 0;
  }
  tn_op_desc d = {tn_ir_opcode_name(p->opcode), operands, p->noperands, p->nattrs, attrs, NULL, 0, b->loc};
  tn_op op = tn_rw_try_create(b->x->m, tn_rw_before(b->x->root), &d);
  if (!op) return 0;
  b->made[b->nmade++] = op;
  return tn_ir_op_result(b->x->m, op, 0);
}

static tn_value build(builder *b, const tn_pat *p) {
  if (p->kind == TN_PAT_VAR || p->kind == TN_PAT_CONST) return b->x->bound[p->name].value;
  if (p->kind == TN_PAT_OP) return build_op(b, p);
  tn_type_info t;
  tn_ir_type_get(b->x->m, b->want, &t);
  tn_value v = tn_rw_scalar(b->x->m, tn_rw_before(b->x->root), t.dtype, p->number, b->loc);
  if (v && b->nmade < TN_RULE_OPS) b->made[b->nmade++] = tn_rw_def(b->x->m, v);
  return v;
}

tn_value tn_match_build(tn_match *x) {
  builder b = {.x = x, .want = tn_rw_type(x->m, tn_ir_op_result(x->m, x->root, 0))};
  for (uint32_t i = 0; i < x->nops; i++)
    b.loc = tn_rw_fuse_locs(x->m, x->rule->name, b.loc, tn_ir_op_loc(x->m, x->ops[i]));
  tn_value v = build(&b, x->rule->replacement);
  if (v && v != tn_ir_op_result(x->m, x->root, 0) && tn_rw_type(x->m, v) == b.want) return v;
  while (b.nmade) (void)tn_ir_op_erase(x->m, b.made[--b.nmade]); /* unused and fresh: cannot be refused */
  return 0;
}
