/* scope.c - of each entry that calls or is called: the expressions that it needs and the constraints about
 * dims that it gives values. A call looks at these only, not at those of the whole model. */
#include "backends/runtime/rt.h"

typedef struct tn_scoping {
  const tn_view *v;
  uint8_t *need;  /* per expression: the entry needs its value */
  uint8_t *own;   /* per dim: the entry gives it a value */
  uint8_t *about; /* per expression: it is about such a dim */
  uint8_t *check; /* per constraint */
} tn_scoping;

static void need_shape(tn_scoping *x, const tn_prog_arg *a, bool own) {
  for (uint32_t k = 0; k < a->rank; k++) {
    uint32_t row = x->v->scalars[a->shape + k];
    x->need[row] = 1;
    if (own && x->v->exprs[row].kind == TN_DIM_SYM) x->own[x->v->exprs[row].a] = 1;
  }
}

static void need_step(tn_scoping *x, const tn_prog_step *step) {
  const tn_view *v = x->v;
  for (uint32_t k = 0; k < step->nscalars; k++) x->need[v->scalars[step->first_scalar + k]] = 1;
  if (step->scratch != TN_PROG_NONE) x->need[step->scratch] = 1;
  if (step->work) x->need[step->work - 1] = 1;
  if (step->kind == TN_PROG_BIND) {
    const tn_prog_bind *b = &v->binds[step->kernel];
    x->own[b->dim] = 1;
    if (b->max != TN_PROG_NONE) x->need[b->max] = 1;
  } else if (tn_view_is_host(step)) {
    const tn_prog_call *call = &v->calls[step->kernel];
    for (uint32_t k = 0; k < call->nargs; k++) need_shape(x, &v->args[call->first_arg + k], false);
    for (uint32_t k = 0; k < call->nresults; k++) need_shape(x, &v->args[call->first_result + k], true);
  }
}

static void need_entry(tn_scoping *x, const tn_prog_entry *e) {
  const tn_view *v = x->v;
  memset(x->need, 0, v->nexprs);
  memset(x->own, 0, v->ndims);
  for (uint32_t i = 0; i < e->ninputs; i++) need_shape(x, &v->args[e->first_input + i], true);
  for (uint32_t i = 0; i < e->noutputs; i++) need_shape(x, &v->args[e->first_output + i], false);
  for (uint32_t i = 0; i < e->nvariants; i++) {
    const tn_prog_variant *var = &v->variants[e->first_variant + i];
    for (uint32_t k = 0; k < var->nsteps; k++) need_step(x, &v->steps[var->first_step + k]);
    for (uint32_t k = 0; k < var->nslots; k++)
      if (v->slots[var->first_slot + k].bytes != TN_PROG_NONE)
        x->need[v->slots[var->first_slot + k].bytes] = 1;
  }
}

/* Expressions name earlier ones only. */
static void close_over(tn_scoping *x) {
  for (uint32_t i = x->v->nexprs; i-- > 0;) {
    const tn_prog_expr *e = &x->v->exprs[i];
    if (x->need[i] && e->kind != TN_DIM_CONST && e->kind != TN_DIM_SYM) x->need[e->a] = x->need[e->b] = 1;
  }
}

static void find_about(tn_scoping *x) {
  for (uint32_t i = 0; i < x->v->nexprs; i++) {
    const tn_prog_expr *e = &x->v->exprs[i];
    x->about[i] = e->kind == TN_DIM_CONST ? 0
                  : e->kind == TN_DIM_SYM ? x->own[e->a]
                                          : x->about[e->a] | x->about[e->b];
  }
}

static uint32_t *list_of(tn_arena *a, const uint8_t *marks, uint32_t n, uint32_t *count) {
  *count = 0;
  for (uint32_t i = 0; i < n; i++) *count += marks[i];
  uint32_t *list = tn_arena_alloc(a, *count * sizeof *list), at = 0;
  for (uint32_t i = 0; list && i < n; i++)
    if (marks[i]) list[at++] = i;
  return list;
}

static void find_constraints(tn_scoping *x) {
  const tn_view *v = x->v;
  find_about(x);
  for (uint32_t i = 0; i < v->nconstraints; i++) {
    const tn_prog_constraint *c = &v->constraints[i];
    x->check[i] = x->about[c->a] | x->about[c->b];
    if (x->check[i]) x->need[c->a] = x->need[c->b] = 1;
  }
}

/* Dims that BIND steps give values: not those that the caller may have under the same name. */
static uint32_t *bound_by(const tn_view *v, const tn_prog_entry *e, tn_arena *a, uint8_t *marks,
                          uint32_t *count) {
  memset(marks, 0, v->ndims);
  for (uint32_t i = 0; i < e->nvariants; i++) {
    const tn_prog_variant *var = &v->variants[e->first_variant + i];
    for (uint32_t k = 0; k < var->nsteps; k++) {
      const tn_prog_step *step = &v->steps[var->first_step + k];
      if (step->kind == TN_PROG_BIND) marks[v->binds[step->kernel].dim] = 1;
    }
  }
  return list_of(a, marks, v->ndims, count);
}

static bool scope_of(tn_scoping *x, tn_arena *a, const tn_prog_entry *e, tn_rt_scope *s) {
  need_entry(x, e);
  find_constraints(x);
  close_over(x);
  s->constraints = list_of(a, x->check, x->v->nconstraints, &s->nconstraints);
  s->rows = list_of(a, x->need, x->v->nexprs, &s->nrows);
  s->late = bound_by(x->v, e, a, x->own, &s->nlate);
  return s->constraints && s->rows && s->late;
}

bool tn_rt_scopes(tn_model *m) {
  const tn_view *v = &m->view;
  m->scopes = tn_arena_alloc(&m->arena, v->nentries * sizeof *m->scopes);
  if (!m->scopes) return false;
  tn_arena work;
  tn_arena_init(&work);
  tn_scoping x = {v, tn_arena_alloc(&work, v->nexprs), tn_arena_alloc(&work, v->ndims),
                  tn_arena_alloc(&work, v->nexprs), tn_arena_alloc(&work, v->nconstraints)};
  bool ok = !work.failed;
  for (uint32_t i = 0; ok && i < v->nentries; i++)
    if (m->dynamic[i] || i >= v->head->npublic) ok = scope_of(&x, &m->arena, &v->entries[i], &m->scopes[i]);
  tn_arena_fini(&work);
  return ok;
}
