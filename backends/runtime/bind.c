/* bind.c - from the shapes of a call's inputs to a value for every dim and expression. A dim is solved from
 * the first input that has it bare; everything else is then checked against the values, with both sides in
 * the message. */
#include "backends/runtime/rt.h"
#include <stdio.h>

static tn_rt_number number(int64_t v) { return (tn_rt_number){.value = v}; }
static tn_rt_number no_number(uint32_t state) { return (tn_rt_number){.state = state}; }

/* Rounds towards minus infinity, as the compiler's dims do. */
static tn_rt_number divide(int64_t a, int64_t b, bool remainder) {
  if (!b) return no_number(TN_NUMBER_DIVIDES_BY_ZERO);
  if (b == -1) {
    int64_t r;
    if (remainder) return number(0);
    return __builtin_sub_overflow((int64_t)0, a, &r) ? no_number(TN_NUMBER_OVERFLOW) : number(r);
  }
  int64_t q = a / b, r = a % b;
  if (r && (r < 0) != (b < 0)) q--, r += b;
  return number(remainder ? r : q);
}

static tn_rt_number combine(uint32_t kind, tn_rt_number a, tn_rt_number b) {
  if (a.state && (a.state == TN_NUMBER_UNBOUND || !b.state)) return a;
  if (b.state) return b;
  int64_t r;
  switch (kind) {
  case TN_DIM_ADD:
    return __builtin_add_overflow(a.value, b.value, &r) ? no_number(TN_NUMBER_OVERFLOW) : number(r);
  case TN_DIM_MUL:
    return __builtin_mul_overflow(a.value, b.value, &r) ? no_number(TN_NUMBER_OVERFLOW) : number(r);
  case TN_DIM_FLOORDIV: return divide(a.value, b.value, false);
  case TN_DIM_MOD: return divide(a.value, b.value, true);
  case TN_DIM_MIN: return a.value < b.value ? a : b;
  default: return a.value > b.value ? a : b; /* TN_DIM_MAX: check.c lets no other through */
  }
}

static inline tn_rt_number eval(const tn_prog_expr *e, const int64_t *dims, const bool *bound,
                                const tn_rt_number *all) {
  if (e->kind == TN_DIM_CONST) return number(e->value);
  if (e->kind == TN_DIM_SYM) return bound[e->a] ? number(dims[e->a]) : no_number(TN_NUMBER_UNBOUND);
  return combine(e->kind, all[e->a], all[e->b]);
}

void tn_rt_eval(const tn_view *v, const int64_t *dims, const bool *bound, tn_rt_number *out) {
  for (uint32_t i = 0; i < v->nexprs; i++) out[i] = eval(&v->exprs[i], dims, bound, out);
}

const char *tn_rt_number_why(uint32_t state) {
  static const char *const why[] = {"is negative", "depends on a dim that no input gives", "is too large",
                                    "divides by zero"};
  return why[state];
}

bool tn_rt_shape(const tn_rt_number *exprs, const uint32_t *shape, uint32_t rank, int64_t *out) {
  for (uint32_t i = 0; i < rank; i++) {
    const tn_rt_number *n = &exprs[shape[i]];
    if (n->state || n->value < 0) return false;
    out[i] = n->value;
  }
  return true;
}

bool tn_rt_arg_bytes(const tn_rt_number *exprs, const tn_view *v, const tn_prog_arg *a, uint64_t *bytes) {
  int64_t shape[TN_MAX_RANK];
  uint64_t n = 1;
  if (!tn_rt_shape(exprs, v->scalars + a->shape, a->rank, shape)) return false;
  for (uint32_t i = 0; i < a->rank; i++)
    if (!tn_mul_u64(n, (uint64_t)shape[i], &n)) return false;
  return tn_view_bytes(a->dtype, n, bytes);
}

static const char *dim_name(const tn_view *v, uint32_t dim) { return tn_view_str(v, v->dims[dim].name); }
static const char *arg_name(const tn_view *v, const tn_prog_arg *a) { return tn_view_str(v, a->name); }

static bool is_index(uint32_t dtype) { return dtype == TN_DT_i32 || dtype == TN_DT_i64; }

static tn_status check_type(tn_session *s, const tn_prog_arg *a, const tn_tensor *t) {
  const tn_view *v = &s->model->view;
  if (t->dtype != a->dtype && !(is_index(t->dtype) && is_index(a->dtype))) {
    const char *given = tn_view_dtype_name(t->dtype);
    return tn_rt_fail(s, TN_INVALID, "input '%s' has element type %s, expected %s", arg_name(v, a),
                      given ? given : "?", tn_view_dtype_name(a->dtype));
  }
  if (t->rank != a->rank)
    return tn_rt_fail(s, TN_INVALID, "input '%s' has rank %u, expected %u: %s", arg_name(v, a), t->rank,
                      a->rank, s->model->shapes[a - v->args]);
  return TN_OK;
}

tn_status tn_rt_bind_dim(tn_session *s, tn_frame *f, const char *what, const char *name, uint32_t dim,
                         int64_t value, int64_t least) {
  const tn_view *v = &s->model->view;
  if (value < least)
    return tn_rt_fail(s, TN_INVALID, "%s '%s' has %s = %lld, the least is %lld", what, name, dim_name(v, dim),
                      (long long)value, (long long)least);
  if (value > s->model->limits[dim])
    return tn_rt_fail(s, TN_INVALID, "%s '%s' has %s = %lld, the limit is %lld", what, name, dim_name(v, dim),
                      (long long)value, (long long)s->model->limits[dim]);
  f->dims[dim] = value;
  f->bound[dim] = true;
  return TN_OK;
}

static tn_status bind_input(tn_session *s, tn_frame *f, const tn_prog_arg *a, const tn_tensor *t,
                            int64_t least) {
  const tn_view *v = &s->model->view;
  for (uint32_t i = 0; i < a->rank; i++) {
    const tn_prog_expr *e = &v->exprs[v->scalars[a->shape + i]];
    if (e->kind == TN_DIM_SYM && !f->bound[e->a])
      TN_TRY(tn_rt_bind_dim(s, f, "input", arg_name(v, a), e->a, t->shape[i], least));
  }
  return TN_OK;
}

tn_status tn_rt_check_shape(tn_session *s, const tn_frame *f, const char *what, const tn_prog_arg *a,
                            const tn_tensor *t) {
  const tn_view *v = &s->model->view;
  for (uint32_t i = 0; i < a->rank; i++) {
    uint32_t row = v->scalars[a->shape + i];
    const tn_rt_number *want = &f->exprs[row];
    if (!want->state && want->value == t->shape[i]) continue;
    tn_buf text = {0};
    tn_view_expr_text(v, row, &text);
    tn_status status;
    if (want->state)
      status = tn_rt_fail(s, TN_INVALID, "%s '%s': dim %u, %s, %s", what, arg_name(v, a), i,
                          tn_buf_cstr(&text), tn_rt_number_why(want->state));
    else if (v->exprs[row].kind == TN_DIM_CONST)
      status = tn_rt_fail(s, TN_INVALID, "%s '%s' has %lld in dim %u, expected %lld", what, arg_name(v, a),
                          (long long)t->shape[i], i, (long long)want->value);
    else
      status =
          tn_rt_fail(s, TN_INVALID, "%s '%s' has %lld in dim %u, expected %s = %lld", what, arg_name(v, a),
                     (long long)t->shape[i], i, tn_buf_cstr(&text), (long long)want->value);
    tn_buf_fini(&text);
    return status;
  }
  return TN_OK;
}

/* A constraint about dims that this entry does not have says nothing here. */
static tn_status check_constraint(tn_session *s, const tn_frame *f, const tn_prog_constraint *c) {
  const tn_view *v = &s->model->view;
  const tn_rt_number *a = &f->exprs[c->a], *b = &f->exprs[c->b];
  if (a->state == TN_NUMBER_UNBOUND || b->state == TN_NUMBER_UNBOUND) return TN_OK;
  if (!a->state && !b->state && a->value <= b->value) return TN_OK;
  tn_buf left = {0}, right = {0};
  tn_view_expr_text(v, c->a, &left);
  tn_view_expr_text(v, c->b, &right);
  tn_status status;
  if (a->state || b->state)
    status = tn_rt_fail(s, TN_INVALID, "%s <= %s: %s", tn_buf_cstr(&left), tn_buf_cstr(&right),
                        tn_rt_number_why(a->state ? a->state : b->state));
  else
    status = tn_rt_fail(s, TN_INVALID, "%s = %lld is more than %s = %lld%s", tn_buf_cstr(&left),
                        (long long)a->value, tn_buf_cstr(&right), (long long)b->value,
                        v->exprs[c->b].kind == TN_DIM_SYM &&
                                v->dims[v->exprs[c->b].a].source == TN_PROG_DIM_CAPACITY
                            ? ", what the session's states hold"
                            : "");
  tn_buf_fini(&left);
  tn_buf_fini(&right);
  return status;
}

/* States were allocated for one batch and capacity; a call may not change their size. */
static tn_status check_states(tn_session *s) {
  const tn_view *v = &s->model->view;
  for (uint32_t i = 0; i < v->nstates; i++) {
    uint64_t bytes;
    if (!tn_rt_arg_bytes(s->top.exprs, v, &v->states[i].arg, &bytes))
      return tn_rt_fail(s, TN_INVALID, "state '%s': its size cannot be worked out from the inputs",
                        arg_name(v, &v->states[i].arg));
    if (bytes != s->state_bytes[i])
      return tn_rt_fail(s, TN_INVALID,
                        "the inputs need %llu bytes of state '%s', the session has %llu for a batch of %lld",
                        (unsigned long long)bytes, arg_name(v, &v->states[i].arg),
                        (unsigned long long)s->state_bytes[i], (long long)s->batch);
  }
  return TN_OK;
}

/* ---- sizes that the run makes known -------------------------------------------------------------------- */

static bool is_open(const tn_frame *f, const tn_prog_constraint *c) {
  return f->exprs[c->a].state == TN_NUMBER_UNBOUND || f->exprs[c->b].state == TN_NUMBER_UNBOUND;
}

static void open_late(const tn_view *v, const tn_rt_scope *scope, tn_frame *f) {
  f->nopen = f->nlate;
  f->nopen_constraints = 0;
  if (!f->nlate) return;
  memcpy(f->open_rows, f->late_rows, f->nlate * sizeof *f->open_rows);
  for (uint32_t i = 0; i < scope->nconstraints; i++)
    if (is_open(f, &v->constraints[scope->constraints[i]]))
      f->open_constraints[f->nopen_constraints++] = scope->constraints[i];
}

/* What has to wait for the entry's host steps. */
static void note_open(const tn_view *v, const tn_rt_scope *scope, tn_frame *f) {
  f->nlate = 0;
  for (uint32_t i = 0; i < scope->nrows; i++)
    if (f->exprs[scope->rows[i]].state == TN_NUMBER_UNBOUND) f->late_rows[f->nlate++] = scope->rows[i];
  open_late(v, scope, f);
}

tn_status tn_rt_rebind(tn_session *s, tn_frame *f) {
  const tn_view *v = &s->model->view;
  uint32_t rows = 0, constraints = 0;
  for (uint32_t i = 0; i < f->nopen; i++) {
    uint32_t row = f->open_rows[i];
    f->exprs[row] = eval(&v->exprs[row], f->dims, f->bound, f->exprs);
    if (f->exprs[row].state == TN_NUMBER_UNBOUND) f->open_rows[rows++] = row;
  }
  f->nopen = rows;
  for (uint32_t i = 0; i < f->nopen_constraints; i++) {
    uint32_t row = f->open_constraints[i];
    if (is_open(f, &v->constraints[row]))
      f->open_constraints[constraints++] = row;
    else
      TN_TRY(check_constraint(s, f, &v->constraints[row]));
  }
  f->nopen_constraints = constraints;
  return TN_OK;
}

/* ---- the inputs of a call ------------------------------------------------------------------------------ */

static tn_status check_shapes(tn_session *s, const tn_frame *f, const tn_prog_entry *e, const tn_tensor *in) {
  const tn_prog_arg *args = s->model->view.args + e->first_input;
  for (uint32_t i = 0; i < e->ninputs; i++) TN_TRY(tn_rt_check_shape(s, f, "input", &args[i], &in[i]));
  return TN_OK;
}

tn_status tn_rt_bind(tn_session *s, const tn_prog_entry *e, const tn_tensor *in) {
  const tn_model *m = s->model;
  const tn_view *v = &m->view;
  const tn_prog_arg *args = v->args + e->first_input;
  tn_frame *f = &s->top;
  bool stateful = m->stateful[e - v->entries];
  for (uint32_t i = 0; i < v->ndims; i++) {
    f->bound[i] = v->dims[i].source != TN_PROG_DIM_INPUT;
    f->dims[i] = v->dims[i].source == TN_PROG_DIM_CAPACITY ? s->capacity : stateful ? s->position : 0;
  }
  for (uint32_t i = 0; i < e->ninputs; i++) {
    TN_TRY(check_type(s, &args[i], &in[i]));
    TN_TRY(bind_input(s, f, &args[i], &in[i], s->model->least));
  }
  tn_rt_eval(v, f->dims, f->bound, f->exprs);
  TN_TRY(check_shapes(s, f, e, in));
  for (uint32_t i = 0; i < v->nconstraints; i++) TN_TRY(check_constraint(s, f, &v->constraints[i]));
  if (m->dynamic[e - v->entries]) note_open(v, &m->scopes[e - v->entries], f);
  return stateful ? check_states(s) : TN_OK;
}

/* The dims are those of the last call: only what its host steps found out is forgotten. */
static void forget_late(const tn_view *v, const tn_rt_scope *scope, tn_frame *f) {
  for (uint32_t i = 0; i < f->nlate; i++) f->exprs[f->late_rows[i]] = no_number(TN_NUMBER_UNBOUND);
  open_late(v, scope, f);
}

tn_status tn_rt_bind_call(tn_session *s, const tn_frame *from, tn_frame *f, const tn_prog_entry *e,
                          const tn_tensor *in) {
  const tn_view *v = &s->model->view;
  const tn_rt_scope *scope = &s->model->scopes[e - v->entries];
  memcpy(f->dims, from->dims, v->ndims * sizeof *f->dims);
  memcpy(f->bound, from->bound, v->ndims * sizeof *f->bound);
  for (uint32_t i = 0; i < scope->nlate; i++) f->dims[scope->late[i]] = f->bound[scope->late[i]] = 0;
  for (uint32_t i = 0; i < e->ninputs; i++) TN_TRY(bind_input(s, f, &v->args[e->first_input + i], &in[i], 0));
  if (f->entry && !memcmp(f->dims, f->planned, v->ndims * sizeof *f->dims) &&
      !memcmp(f->bound, f->planned_bound, v->ndims * sizeof *f->bound)) {
    forget_late(v, scope, f);
    return check_shapes(s, f, e, in);
  }
  f->entry = NULL;
  for (uint32_t i = 0; i < scope->nrows; i++)
    f->exprs[scope->rows[i]] = eval(&v->exprs[scope->rows[i]], f->dims, f->bound, f->exprs);
  TN_TRY(check_shapes(s, f, e, in));
  for (uint32_t i = 0; i < scope->nconstraints; i++)
    TN_TRY(check_constraint(s, f, &v->constraints[scope->constraints[i]]));
  note_open(v, scope, f);
  return TN_OK;
}
